"""The largest and the smallest numbers of lines, and where they stand."""

import numpy as np

from . import workers
from .folds import LARGEST, SMALLEST, Folded
from .jit import variant
from .planes import ABREAST, abreast, planes, tile

_GRAIN = 5_000  # elements that outlast handing a slice to a worker


def amax(x, axis=None, keepdims=False):
    """The largest numbers over axis (an int, a tuple, or None for all), NaN where there is one."""
    return _extreme(np.maximum, _largest, x, axis, keepdims)


def amin(x, axis=None, keepdims=False):
    """The smallest numbers over axis (an int, a tuple, or None for all), NaN where there is one."""
    return _extreme(np.minimum, _smallest, x, axis, keepdims)


def _extreme(ufunc, of_singles, x, axis, keepdims):
    if x.dtype == np.float32:
        return np.asarray(of_singles(x, axis, keepdims))
    return np.asarray(ufunc.reduce(x, axis, keepdims=keepdims))


_largest, _smallest = Folded(LARGEST, "largest"), Folded(SMALLEST, "smallest")


def argmax(x, axis=None, keepdims=False):
    """The first place of the largest number along axis (of all for None), or of a NaN."""
    return _place(np.argmax, _down_to_largest, x, axis, keepdims)


def argmin(x, axis=None, keepdims=False):
    """The first place of the smallest number along axis (of all for None), or of a NaN."""
    return _place(np.argmin, _down_to_smallest, x, axis, keepdims)


def _place(numpys, down, x, axis, keepdims):
    """By NumPy, which follows one line at a time, unless lines lie side by side."""
    inner = axis is not None and x.ndim > 1 and axis % x.ndim < x.ndim - 1
    lying = planes(x, axis) if inner and x.size and x.dtype in (np.float32, np.float64) else None
    if lying is None or not abreast(lying):
        return numpys(x, axis, keepdims=keepdims)
    out = np.empty((len(lying), lying.shape[2]), np.int64)
    down(out.size, lying, out, grain=-(-_GRAIN // lying.shape[1]))
    axis %= x.ndim
    return out.reshape(x.shape[:axis] + (1,) * keepdims + x.shape[axis + 1 :])


def _by_numpy(find):
    def numpys(x, out, first, last):
        while first < last:
            k, a, b = tile(first, last, x)
            out[k, a:b] = find(x[k, :, a:b], 0)
            first += b - a

    return numpys


least = False  # which extreme is sought: of each loop its own


def _down(x, out, first, last):
    tops, places = np.empty(ABREAST, x.dtype), np.empty(ABREAST, np.int32)
    while first < last:
        k, a, b = tile(first, last, x)
        plane, top, place = x[k], tops[: b - a], places[: b - a]
        top[:], place[:] = plane[0, a:b], 0
        for i in range(1, len(plane)):
            row = plane[i, a:b]
            for j in range(len(row)):
                behind = row[j] >= top[j] if least else row[j] <= top[j]
                better = (not behind) & (top[j] == top[j])  # a NaN is, and is never bettered
                top[j] = row[j] if better else top[j]
                place[j] = np.int32(i) if better else place[j]
        out[k, a:b] = place
        first += b - a


_down_to_largest = workers.shared(_by_numpy(np.argmax))(variant(_down, "_down_to_largest"))
_down_to_smallest = workers.shared(_by_numpy(np.argmin))(variant(_down, "_down_to_smallest", least=True))
