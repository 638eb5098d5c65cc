"""Randomness that is computed anew instead of stored: a function of a draw and an element's place."""

import cupy
import numpy as np

from ..registry import implementation
from . import runtime


@implementation("dropout", "cuda", floor=lambda x, p, draw: (2 * x.nbytes, 20 * x.size))
def dropout(x, p, *, draw):
    """x / (1 - p), or 0 with probability p: linear in x, so its own adjoint at the same draw.

    draw: an integer below 2^53, each another mask, or a 0-d float64 array of the GPU, which a captured graph reads anew
    at each replay (`live`). Elements 4 k … 4 k + 3 take the four words of Philox4x32-10's counter (k, draw), and stay
    where theirs is at least 2^32 p. Floor: 2 e N bytes.
    """
    x = cupy.ascontiguousarray(x)
    out, least = cupy.empty(x.shape, x.dtype), np.uint32(min(round(p * 2**32), 2**32 - 1))
    arguments = (x, out, x.size, *runtime.number(draw), least, 1 / (1 - p))
    runtime.launch("random", "dropout", x.dtype, runtime.blocks(x.size, per_thread=4), 256, arguments)
    return out
