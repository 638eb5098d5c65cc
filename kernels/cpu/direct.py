"""Convolution of few channels at stride 1 without columns: every tap of a filter is a shift of the flattened image.

A padded plane of rows of length W, read from p = r W + q, holds under tap (i, j) the element p + i dh W + j dw. So one
run over p = 0 .. (oh - 1) W + ow is a product of the filters with shifted rows, in tiles that stay in registers
(`panels`); the W - ow places between the rows are computed for nothing. What follows, a bias, an activation, a pooling,
takes the sums of a filter while they are in the nearest cache.
"""

import math
from functools import cache, lru_cache

import numpy as np

from . import panels, vector, workers
from .epilogue import finish_plane, plus
from .jit import compiles, has_numba, inline, variant
from .panels import at_line
from .vector import address, turn

_MOST, _MOST_PLAIN = 2000, 160  # weights of a filter up to which columns are slower, and so without Numba
_FILTERS = 128  # at most
_GRAIN = 20_000  # FLOPs that outlast handing a slice to a worker that waits
_PARTS = 16  # in which the images' shares of the filters' gradient are added, whatever the number of threads
_TAPS = 9  # rows of a tile of the filters' gradient
_PIXELS = 256  # turned at a time: they stay in the nearest cache
_PIXELS_FEW = 4096  # after which sums in single precision begin anew


def suits(plan):
    """Whether these loops are the faster ones; docs/decisions/0015-convolutions-by-name.md has the figures."""
    oh, ow = plan.out_size
    few = 4 <= plan.k <= (_MOST if has_numba() else _MOST_PLAIN) and plan.o <= _FILTERS
    dense = oh * ow >= 64 and 2 * (plan.size[1] + sum(plan.padding[1])) <= 3 * ow
    return few and dense and plan.groups == 1 and tuple(plan.stride) == (1, 1) and plan.kernel != [1, 1]


def forward(plan, x, w, b, results):
    """Cross-correlation of x with w, plus b or None, into the room that `results` gives and finishes."""
    if not compiles():
        every = slice(0, plan.n)
        room = results.room(every)
        _forward_numpy(plan, x, w, b, room)
        results.finish(every, room)
        return
    rows = panels.height(plan.o)
    blocks = -(-plan.o // rows)
    filters = np.zeros((blocks, rows, plan.k), x.dtype)
    filters.reshape(-1, plan.k)[: plan.o] = w.reshape(plan.o, plan.k)
    bias = np.zeros(plan.o, x.dtype) if b is None else b
    filters = np.ascontiguousarray(filters.swapaxes(1, 2))
    given = x, filters, bias, *_layout(plan), *results.targets
    _forward_by(rows, x.dtype)(plan.n, *given, grain=_grain(plan))


def weight(plan, g, x):
    """The adjoint with respect to w."""
    if not compiles():
        return _weight_numpy(plan, g, x)
    lanes, parts = vector.lanes(x.dtype), min(_PARTS, plan.n)
    given = x, g.reshape(plan.n, plan.o, math.prod(plan.out_size)), *_layout(plan)
    grain = -(-_grain(plan) * parts // plan.n)
    if panels.height(plan.o) == plan.o:
        loop, taps = _weight_few_by(plan.o)
        totals = np.zeros((parts, -(-plan.k // taps), plan.o, taps, lanes), x.dtype)
        loop(parts, *given, totals, grain=grain)
        total = np.add.reduce(np.add.reduce(totals), -1).swapaxes(0, 1).reshape(plan.o, -1)[:, : plan.k]
        return np.ascontiguousarray(total).reshape(plan.w_shape)
    abreast = min(vector.abreast(), -(-plan.o // lanes))
    across = lanes * abreast
    totals = np.zeros((parts, -(-plan.o // across), -(-plan.k // _TAPS) * _TAPS, across), x.dtype)
    _weight_by(abreast)(parts, *given, totals, lanes, grain=grain)
    total = np.add.reduce(totals)[:, : plan.k].swapaxes(1, 2).reshape(-1, plan.k)
    return np.ascontiguousarray(total[: plan.o]).reshape(plan.w_shape)


def _grain(plan):
    return max(1, _GRAIN // max(1, 2 * plan.o * plan.k * plan.out_size[0] * plan.out_size[1]))


def _layout(plan):
    return _places(plan.c, tuple(plan.kernel), tuple(plan.size), plan.padding, plan.dilation, tuple(plan.out_size))


@lru_cache
def _places(channels, kernel, size, padding, dilation, out_size):
    """Each tap's shift, and zeros to fill a tile; (padded height, width, top, left, oh, ow)."""
    (top, bottom), (left, right) = padding
    height, width = size[0] + top + bottom, size[1] + left + right
    channel, row, column = np.meshgrid(*map(np.arange, (channels, *kernel)), indexing="ij")
    shifts = ((channel * height + row * dilation[0]) * width + column * dilation[1]).reshape(-1)
    places = np.zeros(len(shifts) + max(_TAPS, 28), np.int64)
    places[: len(shifts)] = shifts
    return places, np.array([height, width, top, left, *out_size], np.int64)


def _shifted(plan, x):
    """The padded images (N, C, H, W), and the part of them under each tap, (tap, part (N, oh, ow))."""
    field = np.pad(x, ((0, 0), (0, 0), *plan.padding))
    (oh, ow), (dh, dw), (kh, kw) = plan.out_size, plan.dilation, plan.kernel
    for tap, (c, i, j) in enumerate(np.ndindex(plan.c, kh, kw)):
        yield tap, field[:, c, i * dh : i * dh + oh, j * dw : j * dw + ow]


def _forward_numpy(plan, x, w, b, out):
    out[...] = 0 if b is None else b[:, None, None]
    filters = w.reshape(plan.o, plan.k)
    for tap, part in _shifted(plan, x):
        out += filters[:, tap, None, None] * part[:, None]


def _weight_numpy(plan, g, x):
    total = np.empty((plan.o, plan.k), x.dtype)
    for tap, part in _shifted(plan, x):
        total[:, tap] = np.einsum("nohw,nhw->o", g, part)
    return total.reshape(plan.w_shape)


@inline
def _inset(one, image, field, height, width, top, left):
    """Copy the planes of an image (C, h, w) into those, padded, of a field."""
    count, h, w = image.shape
    if h == height and w == width:
        field[: image.size] = image.reshape(-1)
        return
    zero = np.zeros(1, field.dtype)
    for c in range(count):
        into = field[(c * height + top) * width + left :]
        plus(one, (h, w, address(image[c]), w, address(into), width, address(zero)))


# Each number of rows has loops with tiles of its own (`_forward_by`, `_weight_by`).
tile = pixels = dots = step = None


def _forward(x, filters, bias, places, sizes, out, values, largest, activation, pool, kh, kw, first, last):
    height, width, top, left, oh, ow = sizes
    blocks, taps, rows = filters.shape
    length = (oh - 1) * width + ow
    pitch = -(-length // step) * step
    field = np.zeros(x.shape[1] * height * width + step, x.dtype)
    start = np.zeros(step, x.dtype)
    sums = at_line(rows, pitch, start)
    one, size = start[0], start.itemsize
    for n in range(first, last):
        _inset(one, x[n], field, height, width, top, left)
        for block in range(blocks):
            a = address(filters[block])
            for p in range(0, length, step):
                h, c = address(field) + p * size, address(sums) + p * size
                tile(one, (rows, a, 1, rows, h, address(places), taps, c, pitch, step, address(start)))
            for o in range(block * rows, min((block + 1) * rows, len(bias))):
                finish_plane(
                    sums[o - block * rows], width, oh, ow, bias, out, values, largest, n, o, activation, pool, kh, kw
                )


def _weight(x, g, places, sizes, totals, few, first, last):
    """totals (parts, blocks of filters, taps, filters of a block)."""
    height, width, top, left, oh, ow = sizes
    parts, blocks, taps, across = totals.shape
    lines = max(1, _PIXELS // ow)
    field = np.zeros(x.shape[1] * height * width, x.dtype)
    turned = at_line(lines * ow, across, field)
    turned[...] = 0
    one, size = field[0], field.itemsize
    for part in range(first, last):
        for n in range(len(x) * part // parts, len(x) * (part + 1) // parts):
            _inset(one, x[n], field, height, width, top, left)
            for block in range(blocks):
                for y in range(0, oh, lines):
                    some = min(lines, oh - y)
                    filters = min(across, g.shape[1] - block * across)
                    turn(one, g[n], block * across, filters, y * ow, some * ow, turned.reshape(-1), 0, across, few)
                    for t in range(0, taps, _TAPS):
                        a, c = address(field) + y * width * size, address(totals[part, block, t])
                        pixels(one, (a, address(places[t:]), some, width, ow, address(turned), c))


def _weight_few(x, g, places, sizes, totals, first, last):
    """totals (parts, blocks of taps, filters, taps of a block, lanes)."""
    height, width, top, left, oh, ow = sizes
    parts, blocks, filters, taps, lanes = totals.shape
    length = (oh - 1) * width + ow
    pitch = -(-length // lanes) * lanes
    field, spread = np.zeros(x.shape[1] * height * width + lanes, x.dtype), np.zeros((filters, pitch), x.dtype)
    one, zero = field[0], np.zeros(1, x.dtype)
    for part in range(first, last):
        for n in range(len(x) * part // parts, len(x) * (part + 1) // parts):
            _inset(one, x[n], field, height, width, top, left)
            for o in range(filters):
                plus(one, (oh, ow, address(g[n, o]), ow, address(spread[o]), width, address(zero)))
            for p in range(0, length, _PIXELS_FEW):
                h, a = address(spread) + p * zero.itemsize, address(field) + p * zero.itemsize
                for block in range(blocks):
                    c = address(totals[part, block])
                    dots(one, (h, pitch, min(_PIXELS_FEW, pitch - p), a, address(places[block * taps :]), c))


@cache
def _forward_by(rows, dtype):
    """The loop whose tiles have so many rows."""
    abreast = panels.vectors(rows)
    own = dict(tile=panels.tile(rows, abreast), step=vector.lanes(dtype) * abreast)
    return workers.shared(None)(variant(_forward, f"forward_{rows}_{dtype.name}", **own))


@cache
def _weight_by(abreast):
    """The loop whose tiles are so many vectors wide."""
    return workers.shared(None)(variant(_weight, f"weight_{abreast}", pixels=panels.pixels(_TAPS, abreast)))


@cache
def _weight_few_by(filters):
    """The loop for so many filters, and the taps of its tiles."""
    taps = panels.vectors(filters)
    return workers.shared(None)(variant(_weight_few, f"weight_few_{filters}", dots=panels.dots(filters, taps))), taps
