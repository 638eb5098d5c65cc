"""Convolution of a batch as one product, whose columns are packed a tile's width of them and some channels at a time.

The result pixels of all images are the columns, side by side whatever the size of an image. The images of some
channels, parted by the strides (`field`), are near when their numbers are packed; a panel of columns is in the nearest
cache when all filters meet it, and is never written elsewhere; the sums go straight to where they are to stay.
x (N, C, H, W), w (O, C, kh, kw), out (N, O, oh, ow).
"""

from functools import cache, lru_cache
from math import prod

import numpy as np

from . import columns, direct, panels, vector, workers
from .columns import at_once
from .field import filler
from .jit import compiles, variant
from .panels import at_line
from .vector import address, turn

_DEEP = 192  # terms at a time, or the taps of a channel: a panel of them stays in the nearest cache
_NEAR_BYTES = 1 << 20  # of sums
_SMALL, _WEIGHTS = 256, 1 << 17  # results of an image at most, or numbers of all filters at least
_FILTERS, _FILTERS_POINTWISE, _TERMS = 32, 128, 128  # at least
_MANY = 16  # panels for each thread, with fewer of which the threads share the filters, as those are dealt more evenly


def suits(plan):
    """Whether these are the faster ones: few results of an image or many weights (docs/decisions/0021)."""
    many = not plan.pointwise and plan.k * plan.o >= _WEIGHTS
    enough = plan.k >= _TERMS and plan.o >= (_FILTERS_POINTWISE if plan.pointwise else _FILTERS)
    return _packs(plan) and enough and (many or prod(plan.out_size) <= _SMALL)


def suits_back(plan):
    """The same for the adjoint of x."""
    return _turns(plan) and suits(plan.turned)


def _turns(plan):
    """Whether the adjoint of x is the convolution with turned filters."""
    return plan.near and tuple(plan.stride) == (1, 1) and not plan.whole


def _packs(plan):
    """Whether the columns are packed, and not made in memory: no vector may hold results of three images."""
    lanes = vector.lanes(np.dtype(f"f{plan.itemsize}"))
    fits = plan.groups == 1 and prod(plan.out_size) >= lanes - 1 and plan.n * plan.o * plan.k > 0
    return compiles() and fits and not plan.whole


def input(plan, g, w):
    """The adjoint with respect to x."""
    if not (_turns(plan) and _packs(plan.turned)):
        return columns.batch_input(plan, g, w)
    out = np.empty(plan.x_shape, g.dtype)
    _correlate(plan.turned, g, np.ascontiguousarray(w[:, :, ::-1, ::-1].swapaxes(0, 1)), None, out)
    return out


def forward(plan, x, w, b, results):
    """Cross-correlation of x with w, plus b (O,) or None, into the room that `results` gives and finishes."""
    if _packs(plan):
        at_once(plan, results, lambda room: _correlate(plan, x, w, b, room))
    else:
        columns.batch_forward(plan, x, w, b, results)


def _correlate(plan, x, w, b, out):
    dtype, high = x.dtype, panels.most()
    step, taps = vector.lanes(dtype) * panels.widest(), prod(plan.kernel)
    starts = np.zeros((-(-plan.o // high) * high, step), dtype)
    if b is not None:
        starts[: plan.o] = b[:, None]
    wide, threads = -(-plan.n * prod(plan.out_size) // step), workers.get_num_threads()
    parts = 1 if wide >= _MANY * threads else min(threads, len(starts) // high)
    share = -(-threads // parts)
    groups = min(wide, share * -(-wide // (share * max(1, _NEAR_BYTES * parts // starts.nbytes))))
    some = min(plan.c, max(1, _DEEP // taps))
    some = -(-plan.c // -(-plan.c // some))
    places, sizes = direct.layout(plan, plan.out_size[0])
    field, few = (some * prod(plan.stride), *map(int, sizes[:2])), vector.lanes(dtype)
    pieces = _pieces(plan.n, tuple(plan.out_size), *field, step, few)
    given = x, w.reshape(plan.o, plan.k), starts, places, sizes, few, *pieces, np.arange(some * taps) * step
    cut, items = (some, wide, groups, parts), groups * parts
    loop, grain = _loop(tuple(plan.stride), dtype), direct.grain_of(plan, items)
    loop(items, *given, out.reshape(plan.n, plan.o, -1), *cut, grain=grain, turns=items)


@lru_cache
def _pieces(n, out_size, parts, height, width, step, lanes):
    """The columns in pieces that lie side by side in the images' fields and fill no more than a vector.

    Gives where each begins there and in its panel, the first one of each panel, and the numbers of an image's field.
    """
    image, y, q = (v.reshape(-1) for v in np.indices((n, *out_size)))
    at = np.arange(len(q))
    begin = np.maximum.accumulate(np.where((q == 0) | (at % step == 0), at, 0))
    piece = np.flatnonzero((at - begin) % lanes == 0)
    source = (image * (parts * height) + y)[piece] * width + q[piece]
    first = np.searchsorted(piece, np.arange(0, len(q) + step, step))
    return source, piece % step, first, parts * height * width


# ---- loops -----------------------------------------------------------------------------------------------------------

tile = step = high = packed = inset = None  # of this machine, a stride and a type (`_loop`)


def _product(
    x, w, starts, places, sizes, few, source, target, pieces, apart, rows, out, some, wide, groups, parts, first, last
):
    (filters, terms), (images, _, pixels), size = w.shape, out.shape, x.itemsize
    channels, pitch = x.shape[1], -(-wide // groups) * step
    taps, most = terms // channels, min(images, (pitch + pixels - 2) // pixels + 1)
    field = np.zeros(most * apart + step, x.dtype)
    panel, one = at_line(some * taps + 1, step, field), field[0]
    blocks = len(starts) // high
    tiles = at_line(-(-blocks // parts) * high, some * taps, field).reshape(-1)
    sums = at_line(-(-blocks // parts) * high, pitch, field)
    panel[...] = 0  # what lies there by chance may be numbers too small to be fast
    for item in range(first, last):
        group, part = divmod(item, parts)
        top, bottom = blocks * part // parts * high, min(filters, blocks * (part + 1) // parts * high)
        left, right = wide * group // groups, wide * (group + 1) // groups
        begin, end = left * step // pixels, min(images, (right * step - 1) // pixels + 1)
        for c in range(0, channels, some):
            k, deep = c * taps, min(some, channels - c) * taps
            for n in range(begin, end):
                inset(one, x[n, c : c + some], field[(n - begin) * apart :], sizes, 0)
            for o in range(top, bottom, high):
                turn(one, w, o, min(high, filters - o), k, deep, tiles, (o - top) * deep, high, few)
            for p in range(left, right):
                near = address(field) - begin * apart * size
                packed(one, (deep, near, address(places), pieces[p + 1] - pieces[p], address(source[pieces[p] :]),
                             address(target[pieces[p] :]), address(panel), step))  # fmt: skip
                for o in range(top, bottom, high):
                    a = address(tiles) + (o - top) * deep * size
                    mine = address(sums) + ((o - top) * pitch + (p - left) * step) * size
                    start, row = (mine, pitch) if k else (address(starts[o]), step)
                    used = min(high, filters - o)
                    if k + deep < terms:
                        tile(one, (used, a, 1, high, address(panel), address(rows), deep, mine, pitch, step,
                                   start, row, 0, step, step, step))  # fmt: skip
                    else:
                        c_out = address(out) + (o * pixels + p * step) * size
                        tile(one, (used, a, 1, high, address(panel), address(rows), deep, c_out, pixels,
                                   images * pixels - p * step, start, row, p * step, pixels, pixels,
                                   filters * pixels))  # fmt: skip


def _emit_packed(o, k, x, shifts, pieces, source, target, into, row):
    builder = o.builder
    i, _, end_terms = o.loop(k, 1, [])
    further = builder.load(o.pointer(builder.add(shifts, builder.mul(i, o.whole(8))), o.index))
    h, line = o.at(x, further), o.at(into, builder.mul(i, row))
    j, _, end_pieces = o.loop(pieces, 1, [])
    begin, at = (
        builder.load(o.pointer(builder.add(table, builder.mul(j, o.whole(8))), o.index)) for table in (source, target)
    )
    o.put(o.get(o.at(h, begin)), o.at(line, at))
    end_pieces()
    end_terms()


#: The instruction `it(one, (k, x, shifts, pieces, source, target, into, row))`: row i of k has, for each of the pieces
#: in turn, a vector of x from source + shifts[i] on at its place; what it has too much the next ones overwrite.
_packed = vector.instruction(_emit_packed)


@cache
def _loop(stride, dtype):
    """The loop for a stride and a type."""
    rows, vectors = panels.most(), panels.widest()
    own = dict(tile=panels.tile(rows, vectors, pairs=False), packed=_packed, inset=filler(stride))
    own |= dict(high=rows, step=vector.lanes(dtype) * vectors)
    return workers.shared(None)(variant(_product, f"product_{stride[0]}_{stride[1]}_{dtype.name}", **own))
