"""The figures of a training: means over batches, and how they are written."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from ..autograd import Tensor


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the share of rows of `output` (N, C) whose largest entry stands at `target` (N,).

    >>> from chainrule.nn.figures import accuracy
    >>> accuracy(cr.tensor([[2.0, 1.0], [0.0, 3.0]]), cr.tensor([0, 0])).item()
    0.5
    """
    return (output.argmax(1) == target).float().mean()


class Means:
    """Means over samples of figures that come as means over batches."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, float] = {}

    def add(self, count: int, figures: Mapping[str, float]) -> None:
        """Take in the means over `count` samples."""
        self.count += count
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + count * value

    def result(self) -> dict[str, float]:
        """Return the means so far."""
        if self.count == 0:
            raise ValueError("The loader gave no batches to average over. Look at its dataset's length and drop_last.")
        return {name: total / self.count for name, total in self.sums.items()}

    def text(self) -> dict[str, str]:
        """Return the means so far, as text."""
        return {name: show(name, value) for name, value in self.result().items()}


def show(name: str, value: float) -> str:
    """Write a loss as a number and a metric in per cent."""
    return f"{value:.4f}" if name.endswith("loss") else f"{value:.2%}"


def line(row: Mapping[str, float], epochs: int) -> str:
    """Write the figures of one epoch in a line."""
    figures = [f"{n.replace('_', ' ')} {show(n, v)}" for n, v in row.items() if n not in ("epoch", "lr", "seconds")]
    return f"epoch {row['epoch']:>3}/{epochs}  {'  '.join(figures)}  lr {row['lr']:.2g}  {row['seconds']:.1f} s"


def table(rows: Sequence[Mapping[str, float]]) -> str:
    """Write the figures of all epochs as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def duration(seconds: float) -> str:
    """Write a time as a person would say it."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
