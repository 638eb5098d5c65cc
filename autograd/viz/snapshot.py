"""`Snapshot`: what is kept of an array to be shown later, whole if it is small, else in figures."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ...kernels import is_array, to_device

WHOLE = 16384  # elements up to which the array itself is kept
THUMB = 32  # rows and columns of the reduced picture of a larger one
BINS = 24  # of the histogram


class Figures(NamedTuple):
    """Of the finite elements the share of zeros, range, mean, deviation, norm, histogram (counts, edges); a thumb."""

    size: int
    nans: int
    infs: int
    zeros: float
    min: float
    max: float
    mean: float
    std: float
    norm: float
    histogram: tuple
    thumb: np.ndarray


class Snapshot:
    """An array at one moment: shape, dtype, its `Figures` as attributes, and its values (`array`), if they are few.

    >>> from chainrule.autograd.viz.snapshot import Snapshot
    >>> s = Snapshot(np.array([1.0, -2.0, 0.0, float("nan")]))
    >>> s.min, s.max, s.nans, s.text
    (-2.0, 1.0, 1, '[1, -2, 0, nan]')
    """

    def __init__(self, array):
        array = to_device(array, "cpu") if is_array(array) else np.asarray(array)
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes
        if array.dtype.kind == "V":  # bfloat16, which NumPy's own functions do not know
            array = array.astype(np.float32)
        self.array = array.copy() if array.size <= WHOLE else None
        if self.array is None:
            self.figures = _figures(array)

    @cached_property
    def figures(self) -> Figures:
        """The figures of an array that is kept whole, computed when they are asked for."""
        return _figures(self.array)

    def __getattr__(self, name: str) -> Any:
        if name in Figures._fields:
            return getattr(self.figures, name)
        raise AttributeError(name)

    @property
    def scalar(self) -> float | int | bool | None:
        """The value of an array of one element, else None."""
        return self.array.reshape(()).item() if self.array is not None and self.array.size == 1 else None

    @cached_property
    def text(self) -> str:
        """One short line: the value, the few values, or the range."""
        if self.scalar is not None:
            return number(self.scalar)
        if self.array is not None and self.array.ndim == 1 and 0 < self.array.size <= 4:
            return "[" + ", ".join(number(v) for v in self.array.tolist()) + "]"
        if not self.size:
            return "empty"
        odd = "".join(f", {count} {name}" for name, count in (("NaN", self.nans), ("Inf", self.infs)) if count)
        if self.min == self.max:
            return f"all {number(self.min)}{odd}"
        return f"{number(self.min)} … {number(self.max)}{odd}"


def number(value) -> str:
    """A number in at most four significant digits, as people write it.

    >>> from chainrule.autograd.viz.snapshot import number
    >>> [number(v) for v in (0.1 + 0.2, 12345.678, 1e-7, 3, True, float("inf"))]
    ['0.3', '1.235e4', '1e-7', '3', 'True', 'inf']
    """
    if isinstance(value, (bool, int)) or not np.isfinite(value):
        return str(value)
    text = f"{value:.4g}"
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else "0" if text == "-0" else text


def _figures(array) -> Figures:
    flat = array.ravel()
    finite = (flat[np.isfinite(flat)] if array.dtype.kind == "f" else flat).astype(np.float64)
    nans = int(np.isnan(flat).sum()) if array.dtype.kind == "f" else 0
    counted = flat.size, nans, flat.size - finite.size - nans
    if not finite.size:
        return Figures(*counted, 0.0, *(float("nan"),) * 4, 0.0, ([], []), _thumb(array))
    with np.errstate(all="ignore"):
        moments = float(finite.mean()), float(finite.std()), float(np.sqrt(np.square(finite).sum()))
    low, high = float(finite.min()), float(finite.max())
    return Figures(*counted, float((finite == 0).mean()), low, high, *moments, _histogram(finite), _thumb(array))


def _histogram(finite) -> tuple:
    """(counts, edges) of the finite values."""
    low, high = float(finite.min()), float(finite.max())
    if not np.isfinite(high - low) or high - low <= abs(high) * 1e-12:
        return [finite.size], [low, high]
    counts, edges = np.histogram(finite, bins=BINS)
    return counts.tolist(), edges.tolist()


def _thumb(array) -> np.ndarray:
    """The array as a picture of at most THUMB × THUMB: leading axes one below the other, each cell a mean."""
    flat = array.reshape(-1, array.shape[-1]) if array.ndim > 1 and array.size else array.reshape(1, -1)
    for axis in (0, 1):
        n = flat.shape[axis]
        if n > THUMB:
            starts = np.linspace(0, n, THUMB, endpoint=False).astype(int)
            counts = np.diff(np.append(starts, n))
            with np.errstate(all="ignore"):
                flat = np.add.reduceat(flat.astype(np.float64), starts, axis)
                flat = flat / (counts if axis else counts[:, None])
    return flat
