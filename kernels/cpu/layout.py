"""Bringing arrays into the one form that the compiled loops are built for."""

from functools import wraps

import numpy as np
from numpy import ndarray


def compact(x, dtype=None):
    """`x` as a C-contiguous, aligned, writeable array of native `dtype` (its own by default), copied if need be."""
    if x.flags.carray and x.dtype.isnative and (dtype is None or x.dtype == dtype):
        return x
    return np.array(x, dtype=_native(x.dtype) if dtype is None else dtype, order="C")


def whole_rows(x):
    """The array of contiguous rows, as long as they lie apart, that begin with those of the matrix `x`, or None.

    Of the last of them only what is in `x` may be read.
    """
    if x.flags.carray:
        return x
    step, rest = divmod(x.strides[0], x.itemsize)
    if rest or len(x) < 2 or x.strides[1] != x.itemsize or step < x.shape[1] or not x.flags.behaved:
        return None
    return np.lib.stride_tricks.as_strided(x, (len(x), step))


def floats(*arrays):
    """The arrays compact and in one common floating dtype, integers as float32; None stays None."""
    dtype = arrays[0].dtype
    for x in arrays:
        if x is not None and x.dtype is not dtype:
            dtype = np.result_type(dtype, x.dtype)
    dtype = np.dtype(np.float32) if dtype.kind != "f" else _native(dtype)
    return [x if x is None or (x.dtype is dtype and x.flags.carray) else compact(x, dtype) for x in arrays]


def _native(dtype):
    return dtype if dtype.isnative else np.dtype(dtype.type)


def half_by_single(function):
    """Decorate a kernel so that float16 and bfloat16 arrays are computed in float32 and the results rounded back."""

    @wraps(function)
    def wrapped(*arrays, **metadata):
        for x in arrays:
            if type(x) is ndarray and x.itemsize == 2 and x.dtype.kind in "fV":
                break
        else:
            return function(*arrays, **metadata)
        result = function(*map(_widen, arrays), **metadata)
        low = x.dtype
        return tuple([_narrow(y, low) for y in result]) if isinstance(result, tuple) else _narrow(result, low)

    return wrapped


def _widen(x):
    return x.astype(np.float32) if type(x) is ndarray and x.dtype.itemsize == 2 and x.dtype.kind in "fV" else x


def _narrow(x, dtype):
    return x.astype(dtype) if type(x) is ndarray and x.dtype == np.float32 else x
