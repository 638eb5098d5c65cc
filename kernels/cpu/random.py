"""Randomness that is computed anew instead of stored: a function of a draw and an element's place."""

import numpy as np

from . import workers
from .jit import inline, jit
from .layout import floats, half_by_single

_GRAIN = 10_000  # groups of four elements that outlast handing a slice to a worker
_NONE, _LOW, _HALF = np.uint64(0), np.uint64(0xFFFFFFFF), np.uint64(32)
_TIMES = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_PLUS = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@half_by_single
def dropout(x, p, *, draw):
    """x / (1 - p), or 0 with probability p: linear in x, so its own adjoint at the same draw.

    draw: an integer below 2^53, each another mask. Elements 4 k … 4 k + 3 take the four words of Philox4x32-10's
    counter (k, draw) under the key 0, and stay where theirs is at least 2^32 p.
    Source: Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    (x,) = floats(x)
    out, least = np.empty_like(x), np.uint64(min(round(p * 2**32), 2**32 - 1))
    flat, into, scale = x.reshape(-1), out.reshape(-1), x.dtype.type(1 / (1 - p))
    words = np.uint64(int(draw) & 0xFFFFFFFF), np.uint64(int(draw) >> 32)

    def task(a, b):
        _dropout(flat[4 * a : 4 * b], into[4 * a : 4 * b], np.uint64(a), least, scale, *words)

    workers.run(task, -(-x.size // 4), grain=_GRAIN)
    return out


@inline
def _round(c0, c1, c2, c3, k0, k1):
    a, b = _TIMES[0] * c0, _TIMES[1] * c2
    return (b >> _HALF) ^ c1 ^ k0, b & _LOW, (a >> _HALF) ^ c3 ^ k1, a & _LOW


def _dropout_numpy(x, out, first, least, scale, c2, c3):
    place = np.arange(-(-len(x) // 4), dtype=np.uint64) + first
    words, k0, k1 = (place & _LOW, place >> _HALF, c2, c3), _NONE, _NONE
    for _ in range(10):
        words = _round(*words, k0, k1)
        k0, k1 = (k0 + _PLUS[0]) & _LOW, (k1 + _PLUS[1]) & _LOW
    kept = np.stack(np.broadcast_arrays(*words), 1).reshape(-1)[: len(x)] >= least
    out[...] = np.where(kept, x * scale, 0)


@jit(_dropout_numpy)
def _dropout(x, out, first, least, scale, c2, c3):
    for group in range((len(x) + 3) // 4):
        place = first + np.uint64(group)
        w0, w1, w2, w3, a, b = place & _LOW, place >> _HALF, c2, c3, _NONE, _NONE
        for _ in range(10):
            w0, w1, w2, w3 = _round(w0, w1, w2, w3, a, b)
            a, b = (a + _PLUS[0]) & _LOW, (b + _PLUS[1]) & _LOW
        i, left = 4 * group, len(x) - 4 * group
        out[i] = x[i] * scale if w0 >= least else 0
        if left > 1:
            out[i + 1] = x[i + 1] * scale if w1 >= least else 0
        if left > 2:
            out[i + 2] = x[i + 2] * scale if w2 >= least else 0
        if left > 3:
            out[i + 3] = x[i + 3] * scale if w3 >= least else 0
