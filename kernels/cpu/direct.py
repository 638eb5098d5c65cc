"""Convolution without columns: every tap of a filter is a shift of the flattened image.

A padded plane of rows of length W, read from p = r W + q, holds under tap (i, j) the element p + i dh W + j dw. So one
run over p = 0 .. (oh - 1) W + ow is a product of the filters with shifted rows, in tiles that stay in registers
(`panels`); the W - ow places between the rows are computed for nothing. With strides, the rows and columns are parted
by them first (`field`), and the taps are shifts of parts. Some places at a time meet all filters, some terms of their
sums at a time; the results go straight to where they are to stay, without the places between the rows, and an
activation or a pooling takes them while they are near.
"""

import math
from functools import cache, lru_cache

import numpy as np

from . import panels, vector, workers
from .epilogue import Plain, activated_lines, finish_plane, plus
from .field import filler, joined
from .jit import compiles, has_numba, inline, variant
from .panels import at_line
from .vector import address, turn

_MOST, _MOST_PLAIN = 4800, 160  # weights of a filter up to which columns are slower, and so without Numba
_FILTERS = 256  # at most
_RESULTS, _RESULTS_MANY = 64, 196  # of an image at least, and for more than so many weights
_MANY = 1 << 18
_SMALL = 128  # terms up to which matrices of groups do not pay, however few the results
_GRAIN = 20_000  # FLOPs that outlast handing a slice to a worker that waits
_NEAR_BYTES = 2 << 20  # of what the results of a strip see, and of their sums
_DEEP = 256  # terms of the sums at a time: what the filters meet stays in the nearest cache
_PARTS = 16  # in which the images' shares of the filters' gradient are added, whatever the number of threads
_TAPS = 9  # rows of a tile of the filters' gradient
_PIXELS = 256  # turned at a time: they stay in the nearest cache
_PIXELS_FEW = 4096  # after which sums in single precision begin anew


def suits(plan):
    """Whether these loops are the faster ones; docs/decisions/0015 and 0019 have the figures."""
    (oh, ow), stride = plan.out_size, tuple(plan.stride)
    plain = stride == (1, 1)
    filters = plan.o // plan.groups
    few = 4 <= plan.k <= (_MOST if has_numba() else _MOST_PLAIN) and filters <= _FILTERS
    enough = oh * ow >= (_RESULTS if plan.k * filters <= _MANY else _RESULTS_MANY)
    dense = 2 * (plan.size[1] + sum(plan.padding[1])) <= 3 * ow * stride[1]
    small = plan.groups > 1 and plan.k <= _SMALL
    return few and (small or enough and dense) and (plan.kernel != [1, 1] if plain else has_numba())


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
    (*targets, activation, pool, kh, kw), stride = results.targets, tuple(plan.stride)
    strip, count = _strip(plan, x.itemsize, kh), plan.o // plan.groups
    places, sizes = layout(plan, strip)
    filters, items = _in_blocks(plan.kernels(w)), plan.n * plan.groups * -(-plan.out_size[0] // strip)
    loop, starts = _forward_by(filters.shape[3], stride, x.dtype), _starts(filters)
    if b is not None:
        starts[:, :count] = b.reshape(plan.groups, count, 1)
    x, *targets = (_by_group(plan, array) for array in (x, *targets))
    zeros, how = np.zeros(count, x.dtype), (activation, pool, kh, kw)
    loop(items, x, filters, starts, zeros, places, sizes, *targets, *how, grain=grain_of(plan, items))


def input(plan, g, w):
    """The adjoint with respect to x."""
    if tuple(plan.stride) == (1, 1):
        out = np.empty(plan.x_shape, g.dtype)
        forward(plan.turned, g, _exchanged(plan, w[:, :, ::-1, ::-1]), None, Plain(out))
        return out
    if not compiles():
        return _input_numpy(plan, g, w)
    order, places, ends, sizes = _phases(*_of_group(plan), *_geometry(plan), g.itemsize)
    out, taps = np.empty(plan.x_shape, g.dtype), _exchanged(plan, w).reshape(plan.groups, *_of_group(plan)[:1], -1)
    filters, items = _in_blocks(taps[..., order]), plan.n * plan.groups * sizes[-1]
    loop, arrays = _input_by(filters.shape[3], plan.stride[1], g.dtype), (_by_group(plan, g), filters, _starts(filters))
    loop(items, *arrays, places, ends, sizes, _by_group(plan, out), grain=grain_of(plan, items))
    return out


def _of_group(plan):
    """Channels and filters of a group."""
    return plan.c // plan.groups, plan.o // plan.groups


def _by_group(plan, array):
    """(N, G A, h, w) seen as (N G, A, h, w)."""
    return array.reshape(len(array) * plan.groups, array.shape[1] // plan.groups, *array.shape[2:])


def _exchanged(plan, w):
    """w (G A, B, kh, kw) as (G B, A, kh, kw), which sees what that gives."""
    w = w.reshape(plan.groups, -1, *w.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(w).reshape(-1, *w.shape[2:])


def _starts(filters):
    """What the sums of each filter begin with, a tile's columns of it: zeros."""
    groups, blocks, _, rows = filters.shape
    return np.zeros((groups, blocks * rows, vector.lanes(filters.dtype) * panels.vectors(rows)), filters.dtype)


def _in_blocks(w):
    """w (G, O, K) as (G, blocks, K, rows of a tile), with zeros beyond O."""
    groups, count, taps = w.shape
    rows = panels.height(count)
    filters = np.zeros((groups, -(-count // rows), rows, taps), w.dtype)
    filters.reshape(groups, -1, taps)[:, :count] = w
    return np.ascontiguousarray(filters.swapaxes(2, 3))


def weight(plan, g, x):
    """The adjoint with respect to w."""
    if not compiles():
        return _weight_numpy(plan, g, x)
    lanes, groups, count = vector.lanes(x.dtype), plan.groups, plan.o // plan.groups
    parts = min(max(1, _PARTS // groups), plan.n)
    slopes = g.reshape(plan.n * groups, count, math.prod(plan.out_size))
    given = _by_group(plan, x), slopes, *layout(plan, plan.out_size[0])
    grain = grain_of(plan, parts * groups)
    if panels.height(count) == count:
        loop, taps = _weight_few_by(count, plan.k, tuple(plan.stride))
        totals = np.zeros((parts, groups, -(-plan.k // taps), count, taps, lanes), x.dtype)
        loop(parts * groups, *given, totals, grain=grain)
        total = np.add.reduce(np.add.reduce(totals), -1).swapaxes(1, 2)
        return np.ascontiguousarray(total.reshape(plan.o, -1)[:, : plan.k]).reshape(plan.w_shape)
    abreast = min(vector.abreast(), -(-count // lanes))
    across = lanes * abreast
    totals = np.zeros((parts, groups, -(-count // across), -(-plan.k // _TAPS) * _TAPS, across), x.dtype)
    _weight_by(abreast, tuple(plan.stride))(parts * groups, *given, totals, lanes, grain=grain)
    total = np.add.reduce(totals)[:, :, : plan.k].swapaxes(2, 3).reshape(groups, -1, plan.k)[:, :count]
    return np.ascontiguousarray(total).reshape(plan.w_shape)


def grain_of(plan, items):
    """How many of so many equal shares of the work outlast handing them to a worker."""
    return _GRAIN * items / (2 * plan.n * plan.o * plan.k * math.prod(plan.out_size))


def _strip(plan, itemsize, kh):
    """Rows of results at a time, whole windows of a pooling: what they see and their sums stay near."""
    channels, filters = _of_group(plan)
    seen = channels * plan.stride[0] * (plan.size[1] + sum(plan.padding[1]))
    windows, row = -(-plan.out_size[0] // kh), itemsize * kh * (seen + filters * plan.out_size[1])
    return kh * -(-windows // -(-windows // max(1, _NEAR_BYTES // row)))


def layout(plan, rows):
    """Each tap's shift in a field for so many rows of results, and its sizes; see `_places`."""
    return _places(_of_group(plan)[0], rows, *_geometry(plan), tuple(plan.out_size))


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
def _phases(channels, filters, kernel, size, padding, stride, dilation, itemsize):
    """For the adjoint of x at strides s: the taps in the order of their phases, their shifts, a phase's end, sizes.

    x at the place s u + a of the padded image meets the taps i with i d = s q + a, in the results u - q; a: the phase.
    """
    low = [before // s for (before, _), s in zip(padding, stride, strict=True)]
    count = [(p[0] + n - 1) // s + 1 - least for n, p, s, least in zip(size, padding, stride, low, strict=True)]
    reach = [(k - 1) * d // s for k, d, s in zip(kernel, dilation, stride, strict=True)]
    rows = min(count[0], max(1, _NEAR_BYTES // (itemsize * (filters + stride[1] * channels) * (count[1] + reach[1]))))
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
    """Of padded images (N, C, H, W), those numbers that are under each tap: (tap, numbers (N, G, oh, ow))."""
    (oh, ow), (sh, sw), (dh, dw), (kh, kw) = plan.out_size, plan.stride, plan.dilation, plan.kernel
    channels, _ = _of_group(plan)
    for tap, (c, i, j) in enumerate(np.ndindex(channels, kh, kw)):
        yield tap, field[:, c::channels, i * dh :, j * dw :][..., : oh * sh : sh, : ow * sw : sw]


def _in_groups(plan, array):
    """(N, G A, h, w) as (N, G, A, h, w)."""
    return array.reshape(len(array), plan.groups, -1, *array.shape[2:])


def _forward_numpy(plan, x, w, b, out):
    out[...] = 0 if b is None else b[:, None, None]
    filters, sums = plan.kernels(w), _in_groups(plan, out)
    for tap, part in _shifted(plan, _padded(plan, x)):
        sums += filters[..., tap, None, None] * part[:, :, None]


def _input_numpy(plan, g, w):
    (top, _), (left, _) = plan.padding
    field = _padded(plan, np.zeros(plan.x_shape, g.dtype))
    filters, slopes = plan.kernels(w), _in_groups(plan, g)
    for tap, part in _shifted(plan, field):
        part += np.einsum("ngohw,go->nghw", slopes, filters[..., tap])
    return np.ascontiguousarray(field[:, :, top : top + plan.size[0], left : left + plan.size[1]])


def _weight_numpy(plan, g, x):
    total, slopes = np.empty((plan.groups, plan.o // plan.groups, plan.k), x.dtype), _in_groups(plan, g)
    for tap, part in _shifted(plan, _padded(plan, x)):
        total[..., tap] = np.einsum("ngohw,nghw->go", slopes, part)
    return total.reshape(plan.w_shape)


# Each number of rows, and each stride, has loops with instructions of its own (`_forward_by`, `_input_by`, …).
tile = pixels = dots = step = least = inset = join = products = None


def _products(one, filters, count, begin, end, places, field, starts, near, into, pitch, length, line, kept):
    """The sums of `count` filters over the taps begin … end, for so many places from the beginning of the field.

    They go to rows `pitch` apart from the address `into` on, the first `kept` of every `line` places; near: for a tile.
    """
    (blocks, taps, rows), size = filters.shape, starts.itemsize
    deep = -(-(end - begin) // -(-(end - begin) // _DEEP))
    for p in range(0, length, step):
        h = address(field) + p * size
        for k in range(begin, end, deep):
            terms, at, before = min(deep, end - k), address(places) + k * 8, starts if k == begin else near
            for block in range(blocks):
                a, start = address(filters) + (block * taps + k) * rows * size, address(before[block * rows])
                used, c = min(rows, count - block * rows), into + (block * rows * pitch + p) * size
                if k + terms == end:
                    tile(one, (used, a, 1, rows, h, at, terms, c, pitch, length - p, start, step, p, line, kept, kept))
                else:
                    c = address(near[block * rows])
                    tile(one, (used, a, 1, rows, h, at, terms, c, step, step, start, step, 0, step, step, step))


def _forward(x, filters, starts, zeros, places, sizes, out, values, largest, activation, pool, kh, kw, first, last):
    height, width, _, _, down, across, oh, ow, strip = sizes
    groups, taps, count = len(filters), filters.shape[2], len(zeros)
    strips, pitch = -(-oh // strip), (strip - 1) * width + ow
    field = np.zeros(x.shape[1] * down * across * height * width + step, x.dtype)
    straight = pool == 0 and width >= least
    sums, near = at_line(1 if straight else count, pitch, field), at_line(starts.shape[1], step, field)
    one = field[0]
    for item in range(first, last):
        n, y = item // strips, item % strips * strip
        own, first_sums, some = filters[n % groups], starts[n % groups], min(strip, oh - y)
        length = (some - 1) * width + ow
        inset(one, x[n], field, sizes, y)
        if straight:
            products(one, own, count, 0, taps, places, field, first_sums, near, address(out[n, 0, y]), oh * ow,
                     length, width, ow)  # fmt: skip
        else:
            products(one, own, count, 0, taps, places, field, first_sums, near, address(sums), pitch,
                     length, pitch + step, pitch + step)  # fmt: skip
        for o in range(count):
            if not straight:
                finish_plane(sums[o], width, some, ow, zeros, out, values, largest, n, o, y, activation, pool, kh, kw)
            elif activation:
                c = address(out[n, o, y])
                activated_lines(one, 1, some * ow, c, 0, c, 0, address(zeros), activation)


def _input(g, filters, starts, places, ends, sizes, out, first, last):
    """See `_phases`; the phases of a row, side by side in the sums, are joined to it."""
    height, width, _, _, _, _, low_y, low_x, count_y, count_x, down, across, top, left, strip, strips = sizes
    groups, count, pitch = len(filters), out.shape[1], (strip - 1) * width + count_x
    plane = count * pitch
    field = np.zeros(g.shape[1] * height * width + step, g.dtype)
    sums, near = at_line(1, across * plane + step, field).reshape(-1), at_line(starts.shape[1], step, field)
    one, size, spots = field[0], field.itemsize, np.empty(across, np.int64)
    for b in range(across):
        v, phase = divmod(b + left, across)
        spots[b] = phase * plane + v - low_x
    for item in range(first, last):
        n, u = item // strips, item % strips * strip
        own, first_sums, some = filters[n % groups], starts[n % groups], min(strip, count_y - u)
        inset(one, g[n], field, sizes, u)
        for a in range(down):
            for b in range(across):
                phase = a * across + b
                begin, end = ends[phase - 1] if phase else 0, ends[phase]
                if begin == end:
                    sums[b * plane : (b + 1) * plane] = 0
                else:
                    products(one, own, count, begin, end, places, field, first_sums, near,
                             address(sums) + b * plane * size, pitch, (some - 1) * width + count_x,
                             pitch + step, pitch + step)  # fmt: skip
            for c in range(count):
                for r in range(some):
                    y, line = (low_y + u + r) * down + a - top, c * pitch + r * width
                    if 0 <= y < out.shape[2]:
                        join(one, (out.shape[3], address(sums) + line * size, address(spots), address(out[n, c, y])))


def _weight(x, g, places, sizes, totals, few, first, last):
    """totals (parts, G, blocks of filters, taps, filters of a block)."""
    height, width, _, _, down, across, oh, ow, _ = sizes
    parts, groups, blocks, taps, lanes = totals.shape
    images = len(x) // groups
    lines = max(1, _PIXELS // ow)
    field = np.zeros(x.shape[1] * down * across * height * width, x.dtype)
    turned = at_line(lines * ow, lanes, field)
    turned[...] = 0
    one, size = field[0], field.itemsize
    for item in range(first, last):
        part, group = divmod(item, groups)
        for n in range(images * part // parts * groups + group, images * (part + 1) // parts * groups, groups):
            inset(one, x[n], field, sizes, 0)
            for block in range(blocks):
                for y in range(0, oh, lines):
                    some = min(lines, oh - y)
                    filters = min(lanes, g.shape[1] - block * lanes)
                    turn(one, g[n], block * lanes, filters, y * ow, some * ow, turned.reshape(-1), 0, lanes, few)
                    for t in range(0, taps, _TAPS):
                        a, c = address(field) + y * width * size, address(totals[part, group, block, t])
                        pixels(one, (a, address(places[t:]), some, width, ow, address(turned), c))


def _weight_few(x, g, places, sizes, totals, first, last):
    """totals (parts, G, blocks of taps, filters, taps of a block, lanes)."""
    height, width, _, _, down, across, oh, ow, _ = sizes
    parts, groups, blocks, filters, taps, lanes = totals.shape
    images = len(x) // groups
    length = (oh - 1) * width + ow
    pitch = -(-length // lanes) * lanes
    field = np.zeros(x.shape[1] * down * across * height * width + lanes, x.dtype)
    spread = np.zeros((filters, pitch), x.dtype)
    one, zero = field[0], np.zeros(1, x.dtype)
    for item in range(first, last):
        part, group = divmod(item, groups)
        for n in range(images * part // parts * groups + group, images * (part + 1) // parts * groups, groups):
            inset(one, x[n], field, sizes, 0)
            for o in range(filters):
                plus(one, (oh, ow, address(g[n, o]), ow, address(spread[o]), width, address(zero)))
            for p in range(0, length, _PIXELS_FEW):
                h, a = address(spread) + p * zero.itemsize, address(field) + p * zero.itemsize
                for block in range(blocks):
                    c = address(totals[part, group, block])
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
    abreast, lanes = panels.vectors(rows), vector.lanes(dtype)
    own = dict(tile=panels.tile(rows, abreast, pairs=False), step=lanes * abreast, least=lanes - 1)
    return own | dict(products=inline(variant(_products, f"products_{rows}_{dtype.name}", **own)))


@cache
def _weight_by(abreast, stride):
    """The loop whose tiles are so many vectors wide."""
    own = dict(pixels=panels.pixels(_TAPS, abreast), inset=filler(stride))
    return workers.shared(None)(variant(_weight, f"weight_{_name(stride)}{abreast}", **own))


@cache
def _weight_few_by(filters, count, stride):
    """The loop for so many filters, and the taps of its tiles for `count` in all: as even as may be."""
    taps = -(-count // -(-count // panels.vectors(filters)))
    own = dict(dots=panels.dots(filters, taps), inset=filler(stride))
    return workers.shared(None)(variant(_weight_few, f"weight_few_{_name(stride)}{filters}_{taps}", **own)), taps


def _name(stride):
    """What a loop's name says of a stride."""
    return "" if stride == (1, 1) else f"by_{stride[1]}_"
