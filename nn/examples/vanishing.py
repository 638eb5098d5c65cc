"""How far back a gradient reaches: the norm of ∂s_t/∂s_k against t − k for a simple RNN, a GRU and LSTMs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ...autograd import Tensor, cat, chunk, eye, float64, grad, log, manual_seed, no_grad, rand, randn, zeros
from ..layers import GRUCell, LSTMCell, RNNCell
from .plotting import blank, picture_path


def rnn(size: int, steps: int) -> RNNCell:
    """Return a simple RNN with PyTorch's first values, U(−1/√H, 1/√H)."""
    return RNNCell(size, size, dtype=float64)


def steep_rnn(size: int, steps: int) -> RNNCell:
    """Return a simple RNN whose W_hh begins four times as large."""
    cell = rnn(size, steps)
    with no_grad():
        cell.weight_hh *= 4
    return cell


def gru(size: int, steps: int) -> GRUCell:
    """Return a GRU with PyTorch's first values."""
    return GRUCell(size, size, dtype=float64)


def lstm(size: int, steps: int) -> LSTMCell:
    """Return an LSTM with PyTorch's first values: its forget gates begin half open."""
    return LSTMCell(size, size, dtype=float64)


def open_lstm(size: int, steps: int) -> LSTMCell:
    """Return an LSTM whose forget gates have 1 added to their bias (Gers 1999, Jozefowicz 2015)."""
    cell = lstm(size, steps)
    with no_grad():
        cell.bias_ih[size : 2 * size] += 1
    return cell


def patient_lstm(size: int, steps: int) -> LSTMCell:
    """Return an LSTM made to remember 1 … T steps: b_f = log U(1, T − 1), b_i = −b_f (Tallec & Ollivier 2018)."""
    cell = lstm(size, steps)
    open_for = log(1 + (steps - 2) * rand(size, dtype=float64))
    with no_grad():
        cell.bias_ih[: 2 * size] = cat([-open_for, open_for])
        cell.bias_hh[: 2 * size] = 0
    return cell


# Name, what makes the cell, what is special about it, colour.
CURVES: tuple[tuple[str, Callable[[int, int], Any], str, str], ...] = (
    ("steep RNN", steep_rnn, "$W_{hh}$ four times as large", "#a3123a"),
    ("patient LSTM", patient_lstm, "gates open for 1 … T steps", "#0b5e46"),
    ("open LSTM", open_lstm, "forget-gate bias + 1", "#1f8a68"),
    ("GRU", gru, "", "#b97a06"),
    ("LSTM", lstm, "", "#52a98c"),
    ("RNN", rnn, "", "#d9593d"),
)


def jacobian_norms(cell: Any, inputs: Tensor) -> np.ndarray:
    """Return the largest singular value of ∂s_t/∂s_k for k = t, t − 1, …, 0, where t is the last step: (t + 1,).

    inputs (t, I). s is all that a cell hands to its next step: h, and for an LSTM [h; c]. s₀ = 0. One walk backwards
    gives every Jacobian: the sequence runs in as many equal copies as s has numbers, and copy j asks for the gradient
    of the j-th number of s_t with respect to all earlier states.

    >>> from chainrule.nn.examples.vanishing import jacobian_norms
    >>> jacobian_norms(cr.nn.RNNCell(2, 3), cr.zeros(4, 2)).shape
    (5,)
    """
    parts = 2 if isinstance(cell, LSTMCell) else 1
    size = parts * cell.hidden_size
    states = [zeros(size, size, dtype=inputs.dtype).requires_grad_()]
    for x in inputs:
        x, s = x.expand(size, -1), states[-1]
        states.append(cat(cell(x, chunk(s, 2, 1)), 1) if parts == 2 else cell(x, s))
    rows = grad(states[-1], states, eye(size, dtype=inputs.dtype))
    return np.linalg.norm(np.stack([r.numpy() for r in reversed(rows)]), 2, axis=(1, 2))


def measure(steps: int = 100, size: int = 64, seeds: int = 10, verbose: bool = False) -> dict[str, np.ndarray]:
    """Return the norms against t − k = 0 … steps for every curve of the picture and every seed: (seeds, steps + 1).

    Inputs and states have `size` numbers; the inputs are N(0, 1), drawn anew for every seed, as are the weights.
    verbose: say the median of each kind's last norms as soon as it is known.

    >>> from chainrule.nn.examples.vanishing import measure
    >>> norms = measure(steps=10, size=4, seeds=2)
    >>> norms["RNN"].shape
    (2, 11)
    """
    norms = {}
    for name, make, *_ in CURVES:
        rows = []
        for seed in range(seeds):
            manual_seed(seed)
            inputs = randn(steps, size, dtype=float64)
            rows.append(jacobian_norms(make(size, steps), inputs))
        norms[name] = np.array(rows)
        if verbose:
            print(f"{name:12}  after {steps} steps {np.median(norms[name][:, -1]):.0e}")
    return norms


def draw_norms(norms: dict[str, np.ndarray], path: str | os.PathLike) -> None:
    """Write a picture of `measure`'s result: of every curve the median over the seeds, and their range as a band."""
    from matplotlib import rc_context

    figure = blank(9.6, 5.8)
    axes = figure.subplots()
    seeds, points = norms["RNN"].shape
    resolution = np.finfo(np.float32).eps
    for height, dashes in ((1, (0, ())), (resolution, (0, (5, 4)))):
        axes.axhline(height, color="#8a8a8a", linewidth=0.9, linestyle=dashes)
    axes.text(points / 150, resolution / 3, "float32's\nresolution", color="#6a6a6a", va="top", fontsize=9)
    for name, *_, color in CURVES:
        axes.fill_between(range(points), norms[name].min(0), norms[name].max(0), color=color, alpha=0.15, linewidth=0)
        axes.plot(np.median(norms[name], 0), color=color, linewidth=2.2)
    axes.set_yscale("log")
    axes.set_xlim(0, points - 1)
    axes.set_xlabel("steps back in time, $t - k$", fontsize=11)
    axes.set_ylabel(r"$\|\partial s_t\,/\,\partial s_k\|$", fontsize=13)
    axes.grid(alpha=0.22, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title("How far back does a gradient reach?\n", fontsize=15, fontweight="bold", loc="left")
    under = f"largest singular value of the Jacobian before training; median and range of {seeds} random networks"
    axes.text(0, 1.03, under, transform=axes.transAxes, color="#5a5a5a", fontsize=10)
    _name_curves(axes, norms)
    with rc_context({"svg.hashsalt": "chainrule"}):  # equal runs write equal files
        figure.savefig(path, dpi=150, metadata={"Date": None} if Path(path).suffix == ".svg" else None)


def _name_curves(axes: Any, norms: dict[str, np.ndarray]) -> None:
    """Write each curve's name at its right end, moved up where it would cover the one below; few marks on the left."""
    low, high = np.log10(axes.get_ylim())
    if high - low > 20:
        axes.set_yticks(10.0 ** np.arange(10 * np.ceil(low / 10), high, 10))
    above = -np.inf
    for name, _, note, color in sorted(CURVES, key=lambda curve: np.median(norms[curve[0]][:, -1])):
        above = max(above, float(np.log10(np.median(norms[name][:, -1]))))
        at = {"xy": (1, 10**above), "xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        axes.annotate(name, xytext=(8, -4), color=color, fontsize=12, fontweight="bold", **at)
        axes.annotate(note, xytext=(8, -17), color="#5a5a5a", fontsize=9.5, **at)
        above += (high - low) / 20


def plot(out: str | os.PathLike, steps: int = 100, size: int = 64, seeds: int = 10, verbose: bool = True) -> Path:
    """Measure and draw; return the picture's path. Its ending says the format: .pdf, .png or .svg.

    Raises ValueError for another ending, for fewer than 3 steps, and for no unit or no seed; ImportError (naming the
    extra) without Matplotlib.
    """
    out = picture_path(out)  # before the work, not after it
    for name, value, least in (("steps", steps, 3), ("size", size, 1), ("seeds", seeds, 1)):
        if value < least:
            raise ValueError(f"plot received {name}={value}, too few for a curve. Pass {name} >= {least}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_norms(measure(steps, size, seeds, verbose), out)
    return out
