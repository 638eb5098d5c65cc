"""Running sums, in float64 and in order: rows side by side, so that one need not wait for another's last addition."""

import numpy as np

from . import workers
from .jit import inline
from .layout import half_by_single
from .planes import ABREAST, lines, planes, tile

_GRAIN = 5_000  # elements that outlast handing a slice to a worker


@half_by_single
def running_sum(x, axis, backwards=False):
    """The sums of x[: i + 1] along axis, or backwards of x[i:]: floats keep their dtype, others give int64."""
    if x.dtype.kind != "f":
        turned = np.flip(x, axis) if backwards else x
        sums = np.cumsum(turned, axis, np.int64)
        return np.flip(sums, axis) if backwards else sums
    lying = planes(x, axis)
    out = np.empty_like(lying)
    if lying.shape[2] == 1:
        lying, into = lying.reshape(lying.shape[:2]), out.reshape(lying.shape[:2])
        _along(len(into), lying, into, backwards, grain=-(-_GRAIN * len(into) // max(1, out.size)))
    else:
        _down(lines(out), lying, out, backwards, grain=-(-_GRAIN // max(1, out.shape[1])))
    return out.reshape(x.shape)


def _along_numpy(x, out, backwards, first, last):
    step = -1 if backwards else 1
    out[first:last, ::step] = np.cumsum(x[first:last, ::step], 1, np.float64)


def _down_numpy(x, out, backwards, first, last):
    while first < last:
        k, a, b = tile(first, last, x)
        _along_numpy(x[k, :, a:b].T, out[k, :, a:b].T, backwards, 0, b - a)
        first += b - a


@inline
def _one(row, into, start, stop, step):
    total = 0.0
    for j in range(start, stop, step):
        total += np.float64(row[j])
        into[j] = total


@inline
def _four(x, out, start, stop, step):
    p, q, r, s = x[0], x[1], x[2], x[3]
    into_p, into_q, into_r, into_s = out[0], out[1], out[2], out[3]
    a = b = c = d = 0.0
    for j in range(start, stop, step):
        a, b, c, d = a + np.float64(p[j]), b + np.float64(q[j]), c + np.float64(r[j]), d + np.float64(s[j])
        into_p[j], into_q[j], into_r[j], into_s[j] = a, b, c, d


@workers.shared(_along_numpy)
def _along(x, out, backwards, first, last):
    n = x.shape[1]
    start, stop, step = (n - 1, -1, -1) if backwards else (0, n, 1)
    fours = first + (last - first) // 4 * 4
    for i in range(first, fours, 4):
        _four(x[i : i + 4], out[i : i + 4], start, stop, step)
    for i in range(fours, last):
        _one(x[i], out[i], start, stop, step)


@workers.shared(_down_numpy)
def _down(x, out, backwards, first, last):
    totals = np.empty(ABREAST)
    while first < last:
        k, a, b = tile(first, last, x)
        plane, made, total = x[k], out[k], totals[: b - a]
        total[:] = 0
        for i in range(len(plane)):
            at = len(plane) - 1 - i if backwards else i
            row, into = plane[at, a:b], made[at, a:b]
            for j in range(len(row)):
                total[j] += np.float64(row[j])
                into[j] = total[j]
        first += b - a
