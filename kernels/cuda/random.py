"""Randomness that is computed anew instead of stored: a function of a seed, an offset, and an element's place."""

import cupy
import numpy as np

from ..registry import implementation
from . import runtime


@implementation("dropout", "cuda", floor=lambda x, p, **draw: (2 * x.nbytes, 20 * x.size))
def dropout(x, p, *, seed, offset):
    """x / (1 - p), or 0 with probability p: linear in x, so its own adjoint at the same seed and offset.

    seed: an integer below 2^64. offset: another below 2^53, or a 0-d float64 array of the GPU, which a captured graph
    reads anew at each replay (`live`). The bits are Philox4x32-10's.
    """
    x = cupy.ascontiguousarray(x)
    out, least = cupy.empty(x.shape, x.dtype), np.uint32(min(round(p * 2**32), 2**32 - 1))
    arguments = (x, out, x.size, np.uint64(seed), *runtime.number(offset), least, 1 / (1 - p))
    runtime.launch("random", "dropout", x.dtype, runtime.blocks(x.size, per_thread=4), 256, arguments)
    return out
