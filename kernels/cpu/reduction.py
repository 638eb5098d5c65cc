"""Sums that stay right however many numbers there are and whatever axis they lie on.

NumPy adds float32 one by one along all but the last axis: 17.8 million ones over axis 0 give 16,777,216.
"""

import sys
from math import prod

import numpy as np

from . import workers
from .jit import jit
from .layout import compact, half_by_single
from .planes import tile

_SINGLE = np.dtype(np.float32)
_EVERY = tuple([tuple(range(n)) for n in range(65)])  # axes of arrays by their number; NumPy has no more
_TINY = 128  # elements that NumPy adds in one go, eight sums side by side, as the loop for them does
_FEW = 4096  # elements that NumPy converts and adds before a loop would have been called
_GRAIN = 10_000  # elements that outlast handing a slice to a worker that waits
_BLOCK = 1 << 16


def sum(x, axis=None, keepdims=False):
    """Sum over axis (an int, a tuple, or None for all): floats keep their dtype, integers and booleans give int64.

    float32 is accumulated in float64, so that the result is right to its last digits.
    """
    if x.dtype is _SINGLE and x.size <= _FEW:
        if x.size <= _TINY and not keepdims and (axis is None or axis == _EVERY[x.ndim]) and _loops_serve(x):
            return np.asarray(_sum_of_tiny(x.ravel()), _SINGLE)
        return np.asarray(np.add.reduce(x, axis, np.float64, None, keepdims), _SINGLE)
    return _sum_of_any(x, axis, keepdims)


def _loops_serve(x):
    """Whether a loop may take x without waiting for Numba to be imported: NumPy gives the same bits."""
    return x.flags.carray and "numba" in sys.modules


def _sum_of_tiny_numpy(x):
    return np.add.reduce(x, 0, np.float64)


@jit(_sum_of_tiny_numpy)
def _sum_of_tiny(x):
    """The sum in float64, in NumPy's order."""
    n, whole, total = len(x), len(x) // 8 * 8, np.float64(0)
    if whole:
        a, b, c, d = np.float64(x[0]), np.float64(x[1]), np.float64(x[2]), np.float64(x[3])
        e, f, g, h = np.float64(x[4]), np.float64(x[5]), np.float64(x[6]), np.float64(x[7])
        for i in range(8, whole, 8):
            a, b, c, d = a + x[i], b + x[i + 1], c + x[i + 2], d + x[i + 3]
            e, f, g, h = e + x[i + 4], f + x[i + 5], g + x[i + 6], h + x[i + 7]
        total = ((a + b) + (c + d)) + ((e + f) + (g + h))
    for i in range(whole, n):
        total += x[i]
    return total


@half_by_single
def _sum_of_any(x, axis, keepdims):
    if x.dtype != np.float32:
        dtype = x.dtype if x.dtype.kind in "fc" else np.int64
        return np.asarray(np.add.reduce(x, axis, dtype, keepdims=keepdims))
    axes = range(x.ndim) if axis is None else axis
    over = set(np.lib.array_utils.normalize_axis_tuple(axes, x.ndim))
    shape = [1 if i in over else size for i, size in enumerate(x.shape)]
    total = _sum(compact(x), over).astype(np.float32).reshape(shape)
    return total if keepdims else total.reshape([size for i, size in enumerate(shape) if i not in over])


def _sum(x, over):
    """Float64 sums of a compact x: its last run of adjacent axes in `over` by a loop, what is left by NumPy."""
    if not over:
        return x
    last = max(over)
    first = next(i for i in range(last, -1, -1) if i - 1 not in over)
    before, along, after = prod(x.shape[:first]), prod(x.shape[first : last + 1]), prod(x.shape[last + 1 :])
    sums = _along(x.reshape(before, along)) if after == 1 else _down(x.reshape(before, along, after))
    rest = tuple(over - set(range(first, last + 1)))
    return np.add.reduce(sums.reshape(*x.shape[:first], *x.shape[last + 1 :]), rest) if rest else sums


def _along(x):
    """The sums of the rows of x (m, n); long rows in blocks that the workers share."""
    m, n = x.shape
    if n >= 2 * _BLOCK and m == 1:
        whole = n // _BLOCK * _BLOCK
        blocks = _along(x[0, :whole].reshape(-1, _BLOCK))
        return np.add.reduce(blocks) + _along(x[:, whole:].copy()) if whole < n else np.add.reduce(blocks)
    out = np.empty(m)
    _add_along(m, x, out, grain=-(-_GRAIN // max(n, 1)))
    return out


def _down(x):
    """The sums over the middle axis of x (l, m, n)."""
    out = np.empty((x.shape[0], x.shape[2]))
    _add_down(out.size, x, out, grain=-(-_GRAIN // max(1, x.shape[1])))
    return out


def _add_along_numpy(x, out, first, last):
    np.add.reduce(x[first:last], 1, np.float64, out[first:last])


@workers.shared(_add_along_numpy, reassociate=True)
def _add_along(x, out, first, last):
    for i in range(first, last):
        row, total = x[i], 0.0
        for j in range(len(row)):
            total += np.float64(row[j])
        out[i] = total


def _add_down_numpy(x, out, first, last):
    while first < last:
        k, a, b = tile(first, last, x)
        np.add.reduce(x[k, :, a:b], 0, np.float64, out[k, a:b])
        first += b - a


@workers.shared(_add_down_numpy)
def _add_down(x, out, first, last):
    while first < last:
        k, a, b = tile(first, last, x)
        plane, total = x[k], out[k, a:b]
        total[:] = 0
        fours = len(plane) // 4 * 4
        for i in range(0, fours, 4):
            p, q, r, s = plane[i, a:b], plane[i + 1, a:b], plane[i + 2, a:b], plane[i + 3, a:b]
            for j in range(len(total)):
                total[j] += (np.float64(p[j]) + np.float64(q[j])) + (np.float64(r[j]) + np.float64(s[j]))
        for i in range(fours, len(plane)):
            row = plane[i, a:b]
            for j in range(len(row)):
                total[j] += np.float64(row[j])
        first += b - a
