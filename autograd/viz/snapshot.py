"""`Snapshot`: what is kept of an array to be shown later, whole if it is small, else in figures."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...kernels import is_array, to_device

WHOLE = 16384  # elements up to which the array itself is kept
THUMB = 32  # rows and columns of the reduced picture of a larger one
BINS = 24  # of the histogram


class Snapshot:
    """An array at one moment: shape, dtype, figures, a histogram, and its values (`array`), if they are few.

    >>> from chainrule.autograd.viz.snapshot import Snapshot
    >>> s = Snapshot(np.array([1.0, -2.0, 0.0, float("nan")]))
    >>> s.min, s.max, s.zeros, s.nans
    (-2.0, 1.0, 0.25, 1)
    """

    def __init__(self, array):
        array = to_device(array, "cpu") if is_array(array) else np.asarray(array)
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes
        if array.dtype.kind == "V":  # bfloat16, which NumPy's own functions do not know
            array = array.astype(np.float32)
        self.array = array.copy() if array.size <= WHOLE else None
        if self.array is None:
            self._figure(array)

    def __getattr__(self, name):
        if name in _FIGURES and self.__dict__.get("array") is not None:
            self._figure(self.array)
            return self.__dict__[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def _figure(self, array) -> None:
        """Fill in the figures: of the finite elements the range, mean, deviation, norm and histogram."""
        flat = array.ravel()
        finite = flat[np.isfinite(flat)].astype(np.float64) if array.dtype.kind in "fc" else flat.astype(np.float64)
        some = finite.size > 0
        self.size = flat.size
        self.nans = int(np.isnan(flat).sum()) if array.dtype.kind == "f" else 0
        self.infs = flat.size - finite.size - self.nans
        self.zeros = float((finite == 0).mean()) if some else 0.0
        self.min, self.max = (float(finite.min()), float(finite.max())) if some else (float("nan"), float("nan"))
        with np.errstate(all="ignore"):
            self.mean, self.std = (float(finite.mean()), float(finite.std())) if some else (float("nan"), float("nan"))
            self.norm = float(np.sqrt(np.square(finite).sum()))
        self.histogram = _histogram(finite)
        self.thumb = _thumb(array)

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
        return f"{number(self.min)} … {number(self.max)}{odd}"


_FIGURES = {"size", "nans", "infs", "zeros", "min", "max", "mean", "std", "norm", "histogram", "thumb"}


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


def _histogram(finite) -> tuple:
    """(counts, edges) of the finite values."""
    if not finite.size:
        return [], []
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
