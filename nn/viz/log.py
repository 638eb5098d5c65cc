"""What is known of a training, in bounded room: where there would be too much, every second moment is dropped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

ROWS = 512  # steps that are measured
LOOKS = 48  # moments at which weights and feature maps are kept
LOOK_BYTES = 2_500_000  # of all of them together, as they stand in the page
EPOCHS = 512


def stride(total: int, most: int) -> int:
    """The smallest power of two k so that every k-th of `total` are at most `most`.

    >>> from chainrule.nn.viz.log import stride
    >>> stride(512, 512), stride(513, 512), stride(3000, 512)
    (1, 2, 8)
    """
    return 1 << max(0, (total - 1) // most).bit_length()


class Row(NamedTuple):
    """One step, measured: gradients (before clipping), updates and weights hold one norm for each part of the model."""

    step: int
    rate: float
    norm: float | None
    gradients: list[float | None]
    updates: list[float | None]
    weights: list[float]


class Stretch:
    """The losses of a few steps that follow each other."""

    def __init__(self, count: int = 0, mean: float = 0.0, low: float = math.inf, high: float = -math.inf):
        self.count, self.total, self.low, self.high = count, count * mean, low, high

    def add(self, other: Stretch) -> None:
        self.count, self.total = self.count + other.count, self.total + other.total
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def figures(self) -> list[float] | None:
        """[mean, lowest, highest]."""
        return [self.total / self.count, self.low, self.high] if self.count else None


class Log:
    """The loss of every step, measured steps, looks and epochs.

    Steps count from 1. Of each stretch of `every` steps the log keeps the losses' mean and range, and the first step is
    measured; looks stand `look_every` steps apart. Both are powers of two that double when the room is full.

    >>> from chainrule.nn.viz.log import Log
    >>> log = Log(planned=1000)
    >>> for loss in (4.0, 2.0, 1.0):
    ...     log.add(loss)
    >>> log.every, [s.figures() for s in log.losses], log.due
    (2, [[3.0, 2.0, 4.0], [1.0, 1.0, 1.0]], False)
    """

    def __init__(self, planned: int):
        self.every = stride(planned, ROWS)
        self.look_every = max(self.every, stride(planned, LOOKS - 2))  # the first and the last are kept too
        self.done = 0
        self.losses: list[Stretch] = []
        self.rows: list[Row] = []
        self.looks: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []  # each with the step at which it ended

    @property
    def due(self) -> bool:
        """Whether the next step is to be measured."""
        return self.done % self.every == 0

    @property
    def look_due(self) -> bool:
        """Whether weights and maps are to be kept now, after step `done`."""
        return self.done == 0 or (self.done - 1) % self.look_every == 0

    def add(self, loss: float) -> None:
        """Count a step and its loss, unless this stretch holds it already: a resumed training repeats itself."""
        i, offset = divmod(self.done, self.every)
        self.done += 1
        while len(self.losses) <= i:
            self.losses.append(Stretch())
        if offset >= self.losses[i].count:
            self.losses[i].add(Stretch(1, loss, loss, loss))
        if len(self.losses) > ROWS:
            self._thin()

    def keep(self, look: dict[str, Any], size: int) -> None:
        """Keep a look, of so many bytes, as the one of this moment."""
        self.looks = [*(other for other in self.looks if other["step"] < self.done), {"step": self.done, **look}]
        while len(self.looks) > max(3, min(LOOKS, LOOK_BYTES // size)):
            self.look_every *= 2
            stays = lambda step: step in (0, self.done) or (step - 1) % self.look_every == 0
            self.looks = [look for look in self.looks if stays(look["step"])]

    def _thin(self) -> None:
        """Double the stretches."""
        self.every *= 2
        self.look_every = max(self.every, self.look_every)
        for first, second in zip(self.losses[::2], self.losses[1::2]):
            first.add(second)
        self.losses = self.losses[::2]
        self.rows = [row for row in self.rows if (row.step - 1) % self.every == 0]

    def back_to(self, step: int) -> None:
        """Forget what came after this step."""
        self.done = step
        self.rows = [row for row in self.rows if row.step <= step]
        self.looks = [look for look in self.looks if look["step"] <= step]
        self.epochs = [epoch for epoch in self.epochs if epoch["step"] <= step]
        self.losses = self.losses[: -(-step // self.every)]

    def data(self) -> dict[str, Any]:
        """All of it in lists, dicts and numbers; what is not known is None."""
        rows = [[*row[:3], *row.gradients, *row.updates, *row.weights] for row in self.rows]
        kept = self.epochs[:: stride(len(self.epochs), EPOCHS)]
        return {
            "every": self.every,
            "look_every": self.look_every,
            "done": self.done,
            "losses": [None if (f := s.figures()) is None else plain(f) for s in self.losses],
            "rows": [plain(row) for row in rows],
            "looks": self.looks,
            "epochs": kept if not kept or kept[-1] is self.epochs[-1] else [*kept, self.epochs[-1]],
        }

    @classmethod
    def read(cls, data: dict[str, Any]) -> Log:
        """The log that `data`, read from JSON, was made of, but for the rounding of its numbers."""
        log = cls(1)
        log.every, log.look_every, log.done = (int(data[name]) for name in ("every", "look_every", "done"))
        for i, figures in enumerate(data["losses"]):
            count = min(log.every, log.done - i * log.every)
            log.losses.append(Stretch() if figures is None else Stretch(count, *figures))
        for values in data["rows"]:
            step, rate, norm, *each = (float(v) if isinstance(v, str) else v for v in values)
            third = len(each) // 3
            log.rows.append(Row(int(step), rate, norm, each[:third], each[third : 2 * third], each[2 * third :]))
        log.looks, log.epochs = list(data["looks"]), list(data["epochs"])
        return log


def plain(values: Iterable[float | None]) -> list[float | None]:
    """Numbers to six digits."""
    return [float(f"{v:.6g}") if isinstance(v, float) else v for v in values]
