"""Pictures of a training, drawn by Matplotlib without touching its global state."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMATS = (".pdf", ".png", ".svg")
_TRAIN, _TEST = "#1f5fa8", "#c8501e"


def require_matplotlib() -> None:
    """Raise ImportError, naming the extra, where Matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The pictures of a training are drawn by Matplotlib, which is not installed. "
            "Install it with: pip install 'chainrule[examples]'"
        ) from error


def picture_path(out: str | os.PathLike) -> Path:
    """Return the path of a picture that can be written there, or raise ValueError or ImportError before the work."""
    require_matplotlib()
    out = Path(out)
    if out.suffix not in FORMATS:
        raise ValueError(
            f"plot received out={str(out)!r}, whose ending is no format that it writes. End it in {', '.join(FORMATS)}."
        )
    return out


def blank(width: float, height: float) -> Any:
    """Return an empty figure of this size, in inches, that belongs to no window and no global state."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_training(
    history: Sequence[dict[str, float]], path: str | os.PathLike, title: str = "", training: str = "training"
) -> None:
    """Write a PNG with loss (logarithmic where it falls far) and accuracy of training and test against the epoch.

    history: rows as `Trainer.fit` returns them, with validation and accuracy; training: the name of the first curve.
    """
    figure = blank(9, 3.6)
    left, right = figure.subplots(1, 2)
    for axes, name, label in ((left, "loss", "loss"), (right, "accuracy", "accuracy, %")):
        percent = name == "accuracy"
        for key, text, color in ((name, training, _TRAIN), (f"val_{name}", "test", _TEST)):
            _curve(axes, history, key, text, color, *((100, ".1f", " %") if percent else (1, ".3g")))
        _finish(axes, label)
    losses = [row[key] for row in history for key in ("loss", "val_loss")]
    if max(losses) > 20 * min(losses):
        left.set_yscale("log")
    right.set_ylim(top=100.3, bottom=max(0.0, min(90.0, 100 * history[min(1, len(history) - 1)]["val_accuracy"] - 2)))
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def draw_bits(
    history: Sequence[dict[str, float]], rivals: Mapping[str, float], path: str | os.PathLike, title: str = ""
) -> None:
    """Write a PNG with the bits per character of training and, where there is one, validation against the epoch.

    history: rows as `Trainer.fit` returns them; rivals: what other means need, drawn as level lines.
    """
    figure = blank(6.5, 4)
    axes = figure.subplots()
    for name, value in rivals.items():
        axes.axhline(value, color="0.6", linestyle="--", linewidth=1)
        place = {"ha": "right", "va": "bottom", "transform": axes.get_yaxis_transform()}
        axes.text(1.0, value, f"{name}: {value:.2f}", color="0.4", **place)
    _curve(axes, history, "loss", "training", _TRAIN, 1, ".3f")
    if "val_loss" in history[0]:
        _curve(axes, history, "val_loss", "validation", _TEST, 1, ".3f")
    _finish(axes, "bits per character")
    axes.set_ylim(bottom=0)
    figure.suptitle(title)
    figure.savefig(path, dpi=130)


def draw_comparison(
    histories: Mapping[str, Sequence[dict[str, float]]], path: str | os.PathLike, title: str = ""
) -> None:
    """Write a PNG with the loss and accuracy of several models against the epoch: validation, and training dashed.

    histories: for each model's name, rows as `Trainer.fit` returns them, with validation and accuracy.
    """
    figure = blank(9, 3.6)
    for axes, name, factor in zip(figure.subplots(1, 2), ("loss", "accuracy"), (1, 100)):
        for (model, history), color in zip(histories.items(), ("0.5", _TEST, _TRAIN)):
            training = [factor * row[name] for row in history]
            axes.plot([row["epoch"] for row in history], training, "--", color=color, linewidth=1)
            form, unit = (".3f", "") if factor == 1 else (".1f", " %")
            _curve(axes, history, f"val_{name}", model, color, factor, form, unit)
        _finish(axes, name if factor == 1 else f"{name}, %")
    figure.suptitle(f"{title}: validation, and training dashed")
    figure.savefig(path, dpi=130)


def _curve(
    axes: Any, history: Sequence[dict[str, float]], key: str, text: str, color: str, factor: int, form: str, unit=""
) -> None:
    epochs, values = [row["epoch"] for row in history], [factor * row[key] for row in history]
    axes.plot(epochs, values, marker=".", color=color, label=f"{text}: {values[-1]:{form}}{unit}")


def _finish(axes: Any, label: str) -> None:
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def draw_mistakes(
    images: np.ndarray, right: np.ndarray, read: np.ndarray, total: int, path: str | os.PathLike, most: int = 100
) -> None:
    """Write a PNG of misread digits, each under "right → read", as in figure 8 of LeCun et al. 1998.

    images: (M, H, W), dark ink is large; right, read: (M,) digits; total: how many digits were read. At most `most`
    are drawn.
    """
    count = len(images)
    shown = min(count, most)
    columns = min(10, max(shown, 1))
    rows = max(1, math.ceil(shown / columns))
    figure = blank(max(5.0, 0.9 * columns), 1.15 * rows + 0.6)  # wide enough for the title
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, answer, guess in zip(grid.flat, images[:shown], right, read):
        axes.imshow(image, cmap="gray_r", interpolation="nearest")
        axes.set_title(f"{answer} → {guess}", fontsize=10)
    limit = f", the first {shown} shown" if shown < count else ""
    figure.suptitle(
        f"{count} of {total:,} digits misread (right → read){limit}" if count else f"None of {total:,} digits misread"
    )
    figure.savefig(path, dpi=130)
