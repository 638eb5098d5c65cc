"""Images with the channels last in memory, as products want them, and first, as everybody has them."""

import cupy
import numpy as np

from . import runtime


def floats(*arrays):
    """The arrays in one common floating dtype, integers as float32; None stays None."""
    dtypes = {x.dtype for x in arrays if x is not None}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.result_type(*dtypes)
    dtype = np.dtype(np.float32) if dtype.kind in "iub" else dtype
    return [x if x is None or x.dtype == dtype else x.astype(dtype) for x in arrays]


def channels_last(x):
    """x (N, C, H, W) as a contiguous (N, H, W, C), copied unless it lies so."""
    last = x.transpose(0, 2, 3, 1)
    if last.flags.c_contiguous:
        return last
    n, c, h, w = x.shape
    return _transposed(cupy.ascontiguousarray(x), n, c, h * w, (n, h, w, c))


def room_like(x, shape):
    """Room for a result (N, C, H, W) that lies in memory as x does: (the result, its view with the channels last).

    The result is None where it has to be turned round: see `restored`.
    """
    n, c, h, w = shape
    if min(c, h * w) <= 1:
        out = cupy.empty(shape, x.dtype)
        return out, out.reshape(n, h, w, c)
    if not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous:
        out = cupy.empty_like(x, shape=shape)
        return out, out.transpose(0, 2, 3, 1)
    return None, cupy.empty((n, h, w, c), x.dtype)


def restored(out, last):
    """The result of `room_like`, now written: itself, or `last` (N, H, W, C) turned into (N, C, H, W)."""
    if out is not None:
        return out
    n, h, w, c = last.shape
    return _transposed(last, n, h * w, c, (n, c, h, w))


def _transposed(x, count, rows, columns, shape):
    """count matrices (rows, columns), each transposed, as an array of that shape."""
    out = cupy.empty(shape, x.dtype)
    across, down = -(-columns // 32), -(-rows // 32)
    sizes = rows, columns, across, down
    runtime.launch("layout", "transposed", x.dtype, count * across * down, (32, 8), (x, out, *sizes))
    return out
