"""Sums in a fixed order, float32 added in float64 so that it stays right to its last digits."""

from math import prod

import cupy
import numpy as np

from ..registry import implementation
from . import runtime

_ROW_CHUNK = 8192  # elements that one warp sums: 256 by each lane
_COLUMN_CHUNK = 256  # elements that one thread sums


@implementation("sum", "cuda", dtypes="f2 bf16 f4 f8 i8", floor=lambda x, *axis, **shape: (x.nbytes, x.size))
def sum(x, axis=None, keepdims=False):
    """Sum over axis (an int, a tuple, or None for all): floats keep their dtype, integers and booleans give int64.

    Floor: e N bytes, N FLOPs.
    """
    if x.dtype.kind in "iub":
        return cupy.sum(x, axis, np.int64, keepdims=keepdims)
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    over = sorted(i % x.ndim for i in axes)
    kept = [i for i in range(x.ndim) if i not in over]
    shape = [1 if i in over else n for i, n in enumerate(x.shape)] if keepdims else [x.shape[i] for i in kept]
    if not over:
        return x.copy()
    tail = next(i for i in range(x.ndim, -1, -1) if i - 1 not in over)  # from here on all axes are summed
    if over[0] < tail < x.ndim and x.flags.c_contiguous and x.itemsize > 2:  # in two steps, without a copy
        out = sum(sum(x, tuple(range(tail, x.ndim))), tuple(i for i in over if i < tail))
        return out.reshape(shape) if keepdims else out
    if over == list(range(over[0], over[-1] + 1)) and x.flags.c_contiguous:
        first, last = over[0], over[-1] + 1
    else:
        x, first, last = cupy.ascontiguousarray(x.transpose(kept + over)), len(kept), x.ndim
    outer, length, inner = (prod(part) for part in (x.shape[:first], x.shape[first:last], x.shape[last:]))
    if not length:
        return cupy.zeros(shape, x.dtype)
    form = ("row", (outer,), _ROW_CHUNK) if inner == 1 else ("column", (outer, inner), _COLUMN_CHUNK)
    return _in_chunks(x, length, *form, tuple(shape))


@implementation("variance", "cuda", floor=lambda x, *rest: (x.nbytes, 3 * x.size))
def variance(x, axis, keepdims, correction):
    """The squares of the differences from the mean over axes (a tuple): their sum / (n - correction), or NaN.

    Shifted by the first of them, equal numbers have 0 exactly, however a mean rounds.
    """
    n = prod([x.shape[i] for i in axis])
    x = x - x[tuple([slice(0, 1) if i in axis else slice(None) for i in range(x.ndim)])]
    away = x - sum(x, axis, True) / max(n, 1)
    total = sum(away * away, axis, keepdims)
    return total / (n - correction) if n > correction else total * np.nan


@implementation("norm", "cuda", floor=lambda x, *rest: (x.nbytes, 2 * x.size))
def norm(x, axis=None, keepdims=False):
    """The root of the sum of squares over axis (an int, a tuple, or None for all)."""
    return cupy.sqrt(sum(x * x, axis, keepdims))


@implementation("running_sum", "cuda", floor=lambda x, axis, backwards=False: (2 * x.nbytes, x.size))
def running_sum(x, axis, backwards=False):
    """The sums of x[: i + 1] along axis, or backwards of x[i:]: floats keep their dtype, others give int64.

    Floor: 2 e N bytes, N FLOPs.
    """
    turned = cupy.flip(x, axis) if backwards else x
    if x.dtype.kind in "iub":
        sums = cupy.cumsum(turned, axis, np.int64)
    else:
        sums = cupy.cumsum(turned, axis, np.float64).astype(x.dtype, copy=False)
    return cupy.flip(sums, axis) if backwards else sums


def _in_chunks(x, length, form, others, most, shape):
    """Launch after launch until one chunk is left of each sum."""
    partial, wide = f"{form}s", np.float32 if x.dtype.itemsize == 2 else np.float64
    dtype, count = x.dtype, prod(others)
    while True:
        chunks = -(-length // most)
        done = chunks == 1
        out = cupy.empty(shape if done else count * chunks, dtype if done else wide)
        work = count * chunks * (32 if form == "row" else 1)
        sizes = (others[0], length, *others[1:], most)
        kernel = f"{partial}_to_{'sums' if done else 'parts'}"
        runtime.launch("reduction", kernel, dtype, runtime.blocks(work), 256, (x, out, *sizes))
        if done:
            return out
        x, length, partial = out, chunks, f"{form}_parts"
