"""Convolution of few channels at stride 1 without columns: every tap of a filter is a shift of the flattened image.

A padded plane of rows of length W, read from p = r W + q, holds under tap (i, j) the element p + i dh W + j dw. So one
pass over p = 0 .. (oh - 1) W + ow adds a tap to all outputs at once, in one long loop that vectorises; the W - ow
places between the rows are computed for nothing. Five taps and two filters at a time keep the loads below the products.
"""

import math
from functools import lru_cache

import numpy as np

from . import workers
from .jit import jit
from .scratch import scratch

_CHUNK = 1024  # places at a time: two sums and what they read stay in the first cache
_PIECE_BYTES = 1 << 20  # of padded images
_ROOM_BYTES = 1 << 20  # of results, which are finished while they are in cache; with a quarter of it the calls show
_GRAIN = 400_000  # FLOPs that outlast handing a slice to a worker


def suits(plan):
    """Whether these loops are the faster ones.

    Against columns, two threads: 0.29 ms to 0.58 at 64 images 1 x 32 x 32 with six 5 x 5 filters, 0.48 to 0.54 at
    LeNet's second layer, 1.34 to 1.68 at 16 images 8 x 56 x 56 with sixteen 3 x 3; with 64 filters columns win.
    """
    oh, ow = plan.out_size
    few = 4 <= plan.k <= 160 and plan.o <= 32
    dense = oh * ow >= 64 and 2 * (plan.size[1] + sum(plan.padding[1])) <= 3 * ow
    return few and dense and plan.groups == 1 and tuple(plan.stride) == (1, 1) and plan.kernel != [1, 1]


def forward(plan, x, w, b, results):
    """Cross-correlation of x with w, plus b or None, into the room that `results` gives and finishes."""
    filters, (shifts, width, length) = _filters(plan, w), _shifts(plan)
    bias = np.zeros(len(filters), x.dtype)
    if b is not None:
        bias[: plan.o] = b
    step = max(1, _ROOM_BYTES // (plan.o * math.prod(plan.out_size) * x.itemsize))

    def task(start, stop):
        sums = scratch("sums", (2, length), x.dtype)
        for images, planes in _planes(plan, x, start, stop):
            for first in range(0, len(planes), step):
                some = planes[first : first + step]
                part = slice(images.start + first, images.start + first + len(some))
                room = results.room(part)
                _forward(some, filters, shifts, bias, sums, room.reshape(*room.shape[:2], -1), plan.out_size[1], width)
                results.finish(part, room)

    workers.run(task, plan.n, grain=_grain(plan))


def weight(plan, g, x):
    """The adjoint with respect to w."""
    shifts, width, length = _shifts(plan)
    flat, sums = g.reshape(plan.n, plan.o, -1), {}

    def task(start, stop):
        total = sums[start] = np.zeros((plan.o + plan.o % 2, plan.k), x.dtype)
        rows = scratch("sums", (2, length), x.dtype)
        for images, planes in _planes(plan, x, start, stop):
            _weight(planes, flat[images], shifts, rows, total, plan.out_size[1], width)

    workers.run(task, plan.n, grain=_grain(plan))
    total = np.zeros((plan.o, plan.k), x.dtype)
    for start in sorted(sums):  # a fixed order, whoever finished first
        total += sums[start][: plan.o]
    return total.reshape(plan.o, plan.c, *plan.kernel)


def _grain(plan):
    return max(1, _GRAIN // max(1, 2 * plan.o * plan.k * plan.out_size[0] * plan.out_size[1]))


def _filters(plan, w):
    """The filters as rows, an even number of them: zeros follow an odd last one."""
    filters = np.zeros((plan.o + plan.o % 2, plan.k), w.dtype)
    filters[: plan.o] = w.reshape(plan.o, plan.k)
    return filters


def _shifts(plan):
    """Each tap's shift, the row length, and the length of a pass."""
    return _taps(plan.c, tuple(plan.kernel), tuple(plan.size), plan.padding, plan.dilation, tuple(plan.out_size))


@lru_cache
def _taps(channels, kernel, size, padding, dilation, out_size):
    (top, bottom), (left, right) = padding
    height, width = size[0] + top + bottom, size[1] + left + right
    channel, row, column = np.meshgrid(*map(np.arange, (channels, *kernel)), indexing="ij")
    shifts = (channel * height + row * dilation[0]) * width + column * dilation[1]
    return shifts.reshape(-1), width, (out_size[0] - 1) * width + out_size[1]


def _planes(plan, x, start, stop):
    """The images of start..stop, padded, each as one row of numbers, in pieces that stay in cache: (slice, rows)."""
    if not plan.padded:
        yield slice(start, stop), x[start:stop].reshape(stop - start, -1)
        return
    (top, bottom), (left, right) = plan.padding
    height, width = plan.size
    shape = (plan.c, height + top + bottom, width + left + right)
    step = max(1, _PIECE_BYTES // (math.prod(shape) * x.itemsize))
    for first in range(start, stop, step):
        images = slice(first, min(first + step, stop))
        field = scratch("field", (images.stop - first, *shape), x.dtype)
        field[...] = 0
        field[:, :, top : top + height, left : left + width] = x[images]
        yield images, field.reshape(len(field), -1)


def _forward_numpy(x, filters, shifts, bias, sums, out, ow, width):
    length, rows = sums.shape[1], out.shape[2] // ow
    for o in range(out.shape[1]):
        total = np.full((len(x), rows * width), bias[o], x.dtype)
        for tap, shift in zip(filters[o], shifts, strict=True):
            total[:, :length] += tap * x[:, shift : shift + length]
        out[:, o] = total.reshape(-1, rows, width)[..., :ow].reshape(len(x), -1)


@jit(_forward_numpy)
def _forward(images, filters, shifts, bias, sums, outs, ow, width):
    count, taps, length = outs.shape[1], filters.shape[1], sums.shape[1]
    a, b = sums[0], sums[1]
    pairs = (count + 1) // 2
    for work in range(len(images) * pairs):
        x, out, o = images[work // pairs], outs[work // pairs], work % pairs * 2
        u, v = filters[o], filters[o + 1]
        for start in range(0, length, _CHUNK):
            n = min(_CHUNK, length - start)
            p, q = a[start : start + n], b[start : start + n]
            p[:] = bias[o]
            q[:] = bias[o + 1]
            t = 0
            while t + 5 <= taps:
                u0, u1, u2, u3, u4 = u[t], u[t + 1], u[t + 2], u[t + 3], u[t + 4]
                v0, v1, v2, v3, v4 = v[t], v[t + 1], v[t + 2], v[t + 3], v[t + 4]
                at = start + shifts[t]
                x0 = x[at : at + n]
                at = start + shifts[t + 1]
                x1 = x[at : at + n]
                at = start + shifts[t + 2]
                x2 = x[at : at + n]
                at = start + shifts[t + 3]
                x3 = x[at : at + n]
                at = start + shifts[t + 4]
                x4 = x[at : at + n]
                for i in range(n):
                    y0, y1, y2, y3, y4 = x0[i], x1[i], x2[i], x3[i], x4[i]
                    p[i] += u0 * y0 + u1 * y1 + u2 * y2 + u3 * y3 + u4 * y4
                    q[i] += v0 * y0 + v1 * y1 + v2 * y2 + v3 * y3 + v4 * y4
                t += 5
            while t < taps:
                at = start + shifts[t]
                x0 = x[at : at + n]
                for i in range(n):
                    p[i] += u[t] * x0[i]
                    q[i] += v[t] * x0[i]
                t += 1
        for z in range(min(2, count - o)):
            into, source = out[o + z], sums[z]
            for r in range(into.shape[0] // ow):
                for j in range(ow):
                    into[r * ow + j] = source[r * width + j]


def _weight_numpy(x, g, shifts, rows, total, ow, width):
    length, height = rows.shape[1], g.shape[2] // ow
    for o in range(g.shape[1]):
        spread = np.zeros((len(x), height, width), x.dtype)
        spread[..., :ow] = g[:, o].reshape(-1, height, ow)
        for t, shift in enumerate(shifts):
            total[o, t] += np.vdot(spread.reshape(len(x), -1)[:, :length], x[:, shift : shift + length])


@jit(_weight_numpy, reassociate=True)
def _weight(images, gs, shifts, rows, total, ow, width):
    count, taps, length = gs.shape[1], total.shape[1], rows.shape[1]
    zero = total.dtype.type(0)
    a, b = rows[0], rows[1]
    pairs = (count + 1) // 2
    for work in range(len(images) * pairs):
        x, g, o = images[work // pairs], gs[work // pairs], work % pairs * 2
        rows[:] = zero
        for z in range(min(2, count - o)):
            into, source = rows[z], g[o + z]
            for r in range(source.shape[0] // ow):
                for j in range(ow):
                    into[r * width + j] = source[r * ow + j]
        d, e = total[o], total[o + 1]
        for start in range(0, length, _CHUNK):
            n = min(_CHUNK, length - start)
            p, q = a[start : start + n], b[start : start + n]
            t = 0
            while t + 5 <= taps:
                at = start + shifts[t]
                x0 = x[at : at + n]
                at = start + shifts[t + 1]
                x1 = x[at : at + n]
                at = start + shifts[t + 2]
                x2 = x[at : at + n]
                at = start + shifts[t + 3]
                x3 = x[at : at + n]
                at = start + shifts[t + 4]
                x4 = x[at : at + n]
                s0, s1, s2, s3, s4 = zero, zero, zero, zero, zero
                r0, r1, r2, r3, r4 = zero, zero, zero, zero, zero
                for i in range(n):
                    g0, g1 = p[i], q[i]
                    s0 += g0 * x0[i]
                    s1 += g0 * x1[i]
                    s2 += g0 * x2[i]
                    s3 += g0 * x3[i]
                    s4 += g0 * x4[i]
                    r0 += g1 * x0[i]
                    r1 += g1 * x1[i]
                    r2 += g1 * x2[i]
                    r3 += g1 * x3[i]
                    r4 += g1 * x4[i]
                d[t] += s0
                d[t + 1] += s1
                d[t + 2] += s2
                d[t + 3] += s3
                d[t + 4] += s4
                e[t] += r0
                e[t + 1] += r1
                e[t + 2] += r2
                e[t + 3] += r3
                e[t + 4] += r4
                t += 5
            while t < taps:
                at = start + shifts[t]
                x0 = x[at : at + n]
                s0, r0 = zero, zero
                for i in range(n):
                    s0 += p[i] * x0[i]
                    r0 += q[i] * x0[i]
                d[t] += s0
                e[t] += r0
                t += 1
