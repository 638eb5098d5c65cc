"""Sums and products that stay right however many numbers there are and whatever axis they lie on.

NumPy adds float32 one by one along all but the last axis: 17.8 million ones over axis 0 give 16,777,216.
"""

import sys
from math import prod as prod_of

import numpy as np

from .folds import ADDED, MULTIPLIED, SQUARES, Folded
from .jit import jit
from .layout import half_by_single

_SINGLE = np.dtype(np.float32)
_EVERY = tuple([tuple(range(n)) for n in range(65)])  # axes of arrays by their number; NumPy has no more
_TINY = 128  # elements that NumPy adds in one go, eight sums side by side, as the loop for them does


def sum(x, axis=None, keepdims=False):
    """Sum over axis (an int, a tuple, or None for all): floats keep their dtype, integers and booleans give int64.

    float32 is accumulated in float64, so that the result is right to its last digits.
    """
    if x.dtype is not _SINGLE:
        return _sum_of_others(x, axis, keepdims)
    if x.size <= _TINY and not keepdims and (axis is None or axis == _EVERY[x.ndim]) and _loops_serve(x):
        return np.asarray(_sum_of_tiny(x.ravel()), _SINGLE)
    return np.asarray(_added(x, axis, keepdims), _SINGLE)


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
def _sum_of_others(x, axis, keepdims):
    if x.dtype == _SINGLE:
        return np.asarray(_added(x, axis, keepdims), _SINGLE)
    dtype = x.dtype if x.dtype.kind in "fc" else np.int64
    return np.asarray(np.add.reduce(x, axis, dtype, keepdims=keepdims))


@half_by_single
def prod(x, axis=None, keepdims=False):
    """Product over axis (an int, a tuple, or None for all), by NumPy's dtypes; float32 is multiplied in float64."""
    if x.dtype == _SINGLE:
        return np.asarray(_multiplied(x, axis, keepdims), _SINGLE)
    return np.asarray(np.multiply.reduce(x, axis, keepdims=keepdims))


@half_by_single
def norm(x, axis=None, keepdims=False):
    """The root of the sum of squares over axis (an int, a tuple, or None for all); float32 is squared in float64."""
    total = _squared(x, axis, keepdims, 0.0) if x.dtype == _SINGLE else np.add.reduce(x * x, axis, keepdims=keepdims)
    return np.asarray(np.sqrt(total), x.dtype)


@half_by_single
def variance(x, axis, keepdims, correction):
    """The squares of the differences from the mean over axes (a tuple): their sum / (n - correction), or NaN.

    Of equal numbers it is exactly 0: float32's mean is exact then, others are shifted by the first of them.
    """
    n = prod_of([x.shape[i] for i in axis])
    if x.dtype == _SINGLE:
        total = _squared(x, axis, keepdims, _added(x, axis, True) / max(n, 1))
    else:
        x = x - x[tuple([slice(0, 1) if i in axis else slice(None) for i in range(x.ndim)])]
        total = np.add.reduce(np.square(x - np.add.reduce(x, axis, keepdims=True) / max(n, 1)), axis, keepdims=keepdims)
    return np.asarray(total / (n - correction) if n > correction else total * np.nan, x.dtype)


_added, _multiplied, _squared = Folded(ADDED, "sum"), Folded(MULTIPLIED, "product"), Folded(SQUARES, "squares")
