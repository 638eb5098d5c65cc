"""Convolution without columns: every tap of a filter is a shift of the flattened image.

A padded plane of rows of length W, read from p = r W + q, holds under tap (i, j) the element p + i dh W + j dw. So one
run over p = 0 .. (oh - 1) W + ow is a product of the filters with shifted rows, in tiles that stay in registers
(`panels`); the W - ow places between the rows are computed for nothing. With strides, the rows and columns are parted
by them first (`field`), and the taps are shifts of parts. Some rows of an image and some terms of the sums at a time
stay in near caches, and what follows, a bias, an activation, a pooling, takes the sums of a filter from there.
"""

import math
from functools import cache, lru_cache

import numpy as np

from . import panels, vector, workers
from .epilogue import Plain, finish_plane, plus
from .field import filler, joined
from .jit import compiles, has_numba, inline, variant
from .panels import at_line
from .vector import address, turn

_MOST, _MOST_PLAIN = 4800, 160  # weights of a filter up to which columns are slower, and so without Numba
_FILTERS = 256  # at most
_RESULTS, _RESULTS_MANY = 64, 196  # of an image at least, and for more than so many weights
_MANY = 1 << 18
_GRAIN = 20_000  # FLOPs that outlast handing a slice to a worker that waits
_NEAR_BYTES = 256 << 10  # of the sums of a tile's filters
_DEEP = 256  # terms of a tile's sums at a time: its filters and what they meet stay in the nearest cache
_PARTS = 16  # in which the images' shares of the filters' gradient are added, whatever the number of threads
_TAPS = 9  # rows of a tile of the filters' gradient
_PIXELS = 256  # turned at a time: they stay in the nearest cache
_PIXELS_FEW = 4096  # after which sums in single precision begin anew


def suits(plan):
    """Whether these loops are the faster ones; docs/decisions/0015 and 0019 have the figures."""
    (oh, ow), stride = plan.out_size, tuple(plan.stride)
    plain = stride == (1, 1)
    few = 4 <= plan.k <= (_MOST if has_numba() else _MOST_PLAIN) and plan.o <= _FILTERS
    enough = oh * ow >= (_RESULTS if plan.k * plan.o <= _MANY else _RESULTS_MANY)
    dense = 2 * (plan.size[1] + sum(plan.padding[1])) <= 3 * ow * stride[1]
    return few and enough and dense and plan.groups == 1 and (plan.kernel != [1, 1] if plain else has_numba())


def suits_back(plan):
    """The same for the adjoint of x."""
    return suits(plan.turned if tuple(plan.stride) == (1, 1) else plan)


def forward(plan, x, w, b, results):
    """Cross-correlation of x with w, plus b or None, into the room that `results` gives and finishes."""
    if not compiles():
        every = slice(0, plan.n)
        room = results.room(every)
        _forward_numpy(plan, x, w, b, room)
        results.finish(every, room)
        return
    targets, stride = results.targets, tuple(plan.stride)
    strip = _strip(plan, x.itemsize, targets[-2])
    places, sizes = _layout(plan, strip)
    filters, bias = _in_blocks(w.reshape(plan.o, plan.k)), np.zeros(plan.o, x.dtype) if b is None else b
    items = plan.n * -(-plan.out_size[0] // strip)
    loop = _forward_by(filters.shape[2], stride, x.dtype)
    loop(items, x, filters, bias, places, sizes, *targets, grain=_grain(plan, items))


def input(plan, g, w):
    """The adjoint with respect to x."""
    if tuple(plan.stride) == (1, 1):
        out = np.empty(plan.x_shape, g.dtype)
        forward(plan.turned, g, w[:, :, ::-1, ::-1].swapaxes(0, 1), None, Plain(out))
        return out
    if not compiles():
        return _input_numpy(plan, g, w)
    order, places, ends, sizes = _phases(plan.o, *_geometry(plan), g.itemsize)
    out, taps = np.empty(plan.x_shape, g.dtype), np.ascontiguousarray(w.swapaxes(0, 1)).reshape(plan.c, -1)
    filters, items = _in_blocks(taps[:, order]), plan.n * sizes[-1]
    loop = _input_by(filters.shape[2], plan.stride[1], g.dtype)
    loop(items, g, filters, places, ends, sizes, out, grain=_grain(plan, items))
    return out


def _in_blocks(w):
    """w (O, K) as (blocks, K, rows of a tile), with zeros beyond O."""
    rows = panels.height(len(w))
    filters = np.zeros((-(-len(w) // rows), rows, w.shape[1]), w.dtype)
    filters.reshape(-1, w.shape[1])[: len(w)] = w
    return np.ascontiguousarray(filters.swapaxes(1, 2))


def weight(plan, g, x):
    """The adjoint with respect to w."""
    if not compiles():
        return _weight_numpy(plan, g, x)
    lanes, parts = vector.lanes(x.dtype), min(_PARTS, plan.n)
    given = x, g.reshape(plan.n, plan.o, math.prod(plan.out_size)), *_layout(plan, plan.out_size[0])
    grain = _grain(plan, parts)
    if panels.height(plan.o) == plan.o:
        loop, taps = _weight_few_by(plan.o, tuple(plan.stride))
        totals = np.zeros((parts, -(-plan.k // taps), plan.o, taps, lanes), x.dtype)
        loop(parts, *given, totals, grain=grain)
        total = np.add.reduce(np.add.reduce(totals), -1).swapaxes(0, 1).reshape(plan.o, -1)[:, : plan.k]
        return np.ascontiguousarray(total).reshape(plan.w_shape)
    abreast = min(vector.abreast(), -(-plan.o // lanes))
    across = lanes * abreast
    totals = np.zeros((parts, -(-plan.o // across), -(-plan.k // _TAPS) * _TAPS, across), x.dtype)
    _weight_by(abreast, tuple(plan.stride))(parts, *given, totals, lanes, grain=grain)
    total = np.add.reduce(totals)[:, : plan.k].swapaxes(1, 2).reshape(-1, plan.k)
    return np.ascontiguousarray(total[: plan.o]).reshape(plan.w_shape)


def _grain(plan, items):
    """How many of so many equal shares of the work outlast handing them to a worker."""
    return _GRAIN * items / (2 * plan.n * plan.o * plan.k * math.prod(plan.out_size))


def _strip(plan, itemsize, kh):
    """Rows of results at a time, whole windows of a pooling: the sums of a tile's filters stay near."""
    windows, most = -(-plan.out_size[0] // kh), _NEAR_BYTES // (itemsize * panels.most() * plan.out_size[1] * kh)
    return kh * -(-windows // -(-windows // max(1, most)))


def _layout(plan, rows):
    return _places(plan.c, rows, *_geometry(plan), tuple(plan.out_size))


def _geometry(plan):
    return tuple(plan.kernel), tuple(plan.size), plan.padding, tuple(plan.stride), plan.dilation


@lru_cache
def _places(channels, rows, kernel, size, padding, stride, dilation, out_size):
    """Each tap's shift, and zeros to fill a tile; the sizes of a field for so many rows of results, and (oh, ow, rows).

    Those of a field: height and width of a part, rows and columns of zeros before the image, the strides.
    """
    ((top, _), (left, right)), (down, across) = padding, stride
    height = rows + (kernel[0] - 1) * dilation[0] // down
    width = max(-(-(size[1] + left + right) // across), out_size[1] + (kernel[1] - 1) * dilation[1] // across)
    channel, row, column = np.meshgrid(*map(np.arange, (channels, *kernel)), indexing="ij")
    (y, a), (x, b) = np.divmod(row * dilation[0], down), np.divmod(column * dilation[1], across)
    shifts = ((((channel * down + a) * across + b) * height + y) * width + x).reshape(-1)
    return _filled(shifts), np.array([height, width, top, left, down, across, *out_size, rows], np.int64)


@lru_cache
def _phases(filters, kernel, size, padding, stride, dilation, itemsize):
    """For the adjoint of x at strides s: the taps in the order of their phases, their shifts, a phase's end, sizes.

    x at the place s u + a of the padded image meets the taps i with i d = s q + a, in the results u - q; a: the phase.
    """
    low = [before // s for (before, _), s in zip(padding, stride, strict=True)]
    count = [(p[0] + n - 1) // s + 1 - least for n, p, s, least in zip(size, padding, stride, low, strict=True)]
    reach = [(k - 1) * d // s for k, d, s in zip(kernel, dilation, stride, strict=True)]
    rows = min(count[0], max(1, _NEAR_BYTES // (itemsize * panels.most() * (count[1] + reach[1]))))
    height, width = rows + reach[0], count[1] + reach[1]
    channel, row, column = np.meshgrid(*map(np.arange, (filters, *kernel)), indexing="ij")
    (y, a), (x, b) = np.divmod(row * dilation[0], stride[0]), np.divmod(column * dilation[1], stride[1])
    phase = (a * stride[1] + b).reshape(-1)
    order = np.argsort(phase, kind="stable")
    shifts = ((channel * height + reach[0] - y) * width + reach[1] - x).reshape(-1)[order]
    ends = np.searchsorted(phase[order], np.arange(stride[0] * stride[1]), "right")
    before = [r - least for r, least in zip(reach, low, strict=True)]
    field, first = (height, width, *before, 1, 1), (padding[0][0], padding[1][0])
    sizes = (*field, *low, *count, *stride, *first, rows, -(-count[0] // rows))
    return order, _filled(shifts), ends, np.array(sizes, np.int64)


def _filled(shifts):
    places = np.zeros(len(shifts) + max(_TAPS, 28), np.int64)
    places[: len(shifts)] = shifts
    return places


def _padded(plan, x):
    return np.pad(x, ((0, 0), (0, 0), *plan.padding))


def _shifted(plan, field):
    """Of padded images (N, C, H, W), those numbers that are under each tap: (tap, numbers (N, oh, ow))."""
    (oh, ow), (sh, sw), (dh, dw), (kh, kw) = plan.out_size, plan.stride, plan.dilation, plan.kernel
    for tap, (c, i, j) in enumerate(np.ndindex(plan.c, kh, kw)):
        yield tap, field[:, c, i * dh :, j * dw :][:, : oh * sh : sh, : ow * sw : sw]


def _forward_numpy(plan, x, w, b, out):
    out[...] = 0 if b is None else b[:, None, None]
    filters = w.reshape(plan.o, plan.k)
    for tap, part in _shifted(plan, _padded(plan, x)):
        out += filters[:, tap, None, None] * part[:, None]


def _input_numpy(plan, g, w):
    (top, _), (left, _) = plan.padding
    field = _padded(plan, np.zeros(plan.x_shape, g.dtype))
    filters = w.reshape(plan.o, plan.k)
    for tap, part in _shifted(plan, field):
        part += np.einsum("nohw,o->nhw", g, filters[:, tap])
    return np.ascontiguousarray(field[:, :, top : top + plan.size[0], left : left + plan.size[1]])


def _weight_numpy(plan, g, x):
    total = np.empty((plan.o, plan.k), x.dtype)
    for tap, part in _shifted(plan, _padded(plan, x)):
        total[:, tap] = np.einsum("nohw,nhw->o", g, part)
    return total.reshape(plan.w_shape)


# Each number of rows, and each stride, has loops with instructions of its own (`_forward_by`, `_input_by`, …).
tile = pixels = dots = step = inset = join = products = None


def _products(one, rows, filters, places, taps, field, sums, pitch, length, start):
    """Sums of a tile's filters over the taps, for so many places from the beginning of the field; `start` holds 0."""
    size = start.itemsize
    for k in range(0, taps, _DEEP):
        a, at, count = filters + k * rows * size, places + k * 8, min(_DEEP, taps - k)
        for p in range(0, length, step):
            c = sums + p * size
            before, apart = (address(start), 0) if k == 0 else (c, pitch)
            tile(one, (rows, a, 1, rows, field + p * size, at, count, c, pitch, step, before, apart))


def _forward(x, filters, bias, places, sizes, out, values, largest, activation, pool, kh, kw, first, last):
    height, width, _, _, down, across, oh, ow, strip = sizes
    blocks, taps, rows = filters.shape
    strips, pitch = -(-oh // strip), -(-((strip - 1) * width + ow) // step) * step
    field = np.zeros(x.shape[1] * down * across * height * width + step, x.dtype)
    start = np.zeros(step, x.dtype)
    sums, one = at_line(rows, pitch, start), start[0]
    for item in range(first, last):
        n, y = item // strips, item % strips * strip
        some = min(strip, oh - y)
        inset(one, x[n], field, sizes, y)
        for block in range(blocks):
            products(one, rows, address(filters[block]), address(places), taps, address(field), address(sums), pitch,
                     (some - 1) * width + ow, start)  # fmt: skip
            for o in range(block * rows, min((block + 1) * rows, len(bias))):
                finish_plane(sums[o - block * rows], width, some, ow, bias, out, values, largest, n, o, y,
                             activation, pool, kh, kw)  # fmt: skip


def _input(g, filters, places, ends, sizes, out, first, last):
    """See `_phases`; the phases of a row, side by side in the sums, are joined to it."""
    height, width, _, _, _, _, low_y, low_x, count_y, count_x, down, across, top, left, strip, strips = sizes
    blocks, _, rows = filters.shape
    pitch = -(-((strip - 1) * width + count_x) // step) * step
    field = np.zeros(g.shape[1] * height * width + step, g.dtype)
    start = np.zeros(step, g.dtype)
    sums = at_line(across * rows, pitch, start)
    one, size, spots = start[0], start.itemsize, np.empty(across, np.int64)
    for b in range(across):
        v, phase = divmod(b + left, across)
        spots[b] = phase * rows * pitch + v - low_x
    for item in range(first, last):
        n, u = item // strips, item % strips * strip
        some = min(strip, count_y - u)
        inset(one, g[n], field, sizes, u)
        for block in range(blocks):
            for a in range(down):
                for b in range(across):
                    phase = a * across + b
                    begin, end = ends[phase - 1] if phase else 0, ends[phase]
                    if begin == end:
                        sums[b * rows : (b + 1) * rows] = 0
                    products(one, rows, address(filters[block]) + begin * rows * size, address(places) + begin * 8,
                             end - begin, address(field), address(sums[b * rows]), pitch,
                             (some - 1) * width + count_x, start)  # fmt: skip
                for c in range(block * rows, min((block + 1) * rows, out.shape[1])):
                    for r in range(some):
                        y, line = (low_y + u + r) * down + a - top, (c - block * rows) * pitch + r * width
                        if 0 <= y < out.shape[2]:
                            source, into = address(sums) + line * size, address(out[n, c, y])
                            join(one, (out.shape[3], source, address(spots), into))


def _weight(x, g, places, sizes, totals, few, first, last):
    """totals (parts, blocks of filters, taps, filters of a block)."""
    height, width, _, _, down, across, oh, ow, _ = sizes
    parts, blocks, taps, lanes = totals.shape
    lines = max(1, _PIXELS // ow)
    field = np.zeros(x.shape[1] * down * across * height * width, x.dtype)
    turned = at_line(lines * ow, lanes, field)
    turned[...] = 0
    one, size = field[0], field.itemsize
    for part in range(first, last):
        for n in range(len(x) * part // parts, len(x) * (part + 1) // parts):
            inset(one, x[n], field, sizes, 0)
            for block in range(blocks):
                for y in range(0, oh, lines):
                    some = min(lines, oh - y)
                    filters = min(lanes, g.shape[1] - block * lanes)
                    turn(one, g[n], block * lanes, filters, y * ow, some * ow, turned.reshape(-1), 0, lanes, few)
                    for t in range(0, taps, _TAPS):
                        a, c = address(field) + y * width * size, address(totals[part, block, t])
                        pixels(one, (a, address(places[t:]), some, width, ow, address(turned), c))


def _weight_few(x, g, places, sizes, totals, first, last):
    """totals (parts, blocks of taps, filters, taps of a block, lanes)."""
    height, width, _, _, down, across, oh, ow, _ = sizes
    parts, blocks, filters, taps, lanes = totals.shape
    length = (oh - 1) * width + ow
    pitch = -(-length // lanes) * lanes
    field = np.zeros(x.shape[1] * down * across * height * width + lanes, x.dtype)
    spread = np.zeros((filters, pitch), x.dtype)
    one, zero = field[0], np.zeros(1, x.dtype)
    for part in range(first, last):
        for n in range(len(x) * part // parts, len(x) * (part + 1) // parts):
            inset(one, x[n], field, sizes, 0)
            for o in range(filters):
                plus(one, (oh, ow, address(g[n, o]), ow, address(spread[o]), width, address(zero)))
            for p in range(0, length, _PIXELS_FEW):
                h, a = address(spread) + p * zero.itemsize, address(field) + p * zero.itemsize
                for block in range(blocks):
                    c = address(totals[part, block])
                    dots(one, (h, pitch, min(_PIXELS_FEW, pitch - p), a, address(places[block * taps :]), c))


@cache
def _forward_by(rows, stride, dtype):
    """The loop whose tiles have so many rows."""
    own = _products_by(rows, dtype) | dict(inset=filler(stride))
    return workers.shared(None)(variant(_forward, f"forward_{rows}_{_name(stride)}{dtype.name}", **own))


@cache
def _input_by(rows, across, dtype):
    """The same for the adjoint of x at a stride."""
    own = _products_by(rows, dtype) | dict(inset=filler((1, 1)), join=joined(across))
    return workers.shared(None)(variant(_input, f"input_{rows}_{across}_{dtype.name}", **own))


@cache
def _products_by(rows, dtype):
    abreast = panels.vectors(rows)
    own = dict(tile=panels.tile(rows, abreast, pairs=False), step=vector.lanes(dtype) * abreast)
    return own | dict(products=inline(variant(_products, f"products_{rows}_{dtype.name}", **own)))


@cache
def _weight_by(abreast, stride):
    """The loop whose tiles are so many vectors wide."""
    own = dict(pixels=panels.pixels(_TAPS, abreast), inset=filler(stride))
    return workers.shared(None)(variant(_weight, f"weight_{_name(stride)}{abreast}", **own))


@cache
def _weight_few_by(filters, stride):
    """The loop for so many filters, and the taps of its tiles."""
    taps = panels.vectors(filters)
    own = dict(dots=panels.dots(filters, taps), inset=filler(stride))
    return workers.shared(None)(variant(_weight_few, f"weight_few_{_name(stride)}{filters}", **own)), taps


def _name(stride):
    """What a loop's name says of a stride."""
    return "" if stride == (1, 1) else f"by_{stride[1]}_"
