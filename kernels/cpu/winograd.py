"""3×3 and 5×5 convolutions of stride 1 by Winograd's minimal filtering (Lavin & Gray 2015), in the forms of `minimal`.

In F(4×4, 3×3) a tile of 4×4 results needs 6×6 numbers of each channel. Tiles and filters are transformed (Bᵀ d B,
G g Gᵀ), multiplied number by number, which sums over the channels and so is a matrix product for each number of a tile,
and transformed back (Aᵀ m A): P = 36 multiplications where the sum over the 9 taps has 144. F(2×2, 5×5) has 36 for 100,
F(2×2, 3×3) 16 for 36. The adjoint of the input is a convolution with turned filters; that of the weight multiplies the
transformed tiles of x and of the gradient (A g Aᵀ).

In float32 the results differ from exact ones by up to about 2e-5 of the largest, in F(2×2, 3×3) 2e-6 (the sum over
taps: 1e-6), as the transforms subtract numbers of like size; float64 keeps to the sum over taps (see docs/decisions).

Layout: the T tiles of a piece stand side by side, V (P, C, T), U (P, O, C), M = U V (P, O, T); a piece is so small that
V and M stay in the cache of its core. Where U is much larger than all of V, the batch is one piece, and U is made and
used for some filters at a time.
"""

from collections.abc import Callable
from functools import cache, lru_cache, partial
from math import prod
from typing import NamedTuple

import numpy as np

from . import tiles as emitted, vector, workers
from .jit import has_numba, inline, jit, variant
from .minimal import F25, F43, matrix
from .panels import at_line
from .pointwise import outer
from .recurrent import panel
from .scratch import scratch
from .tiles import past, put
from .vector import ROWS, address, turn

_NEAR_BYTES = 2 << 20  # of V and M together
_FILTER_BYTES = 4_000_000  # of transformed filters at a time, where all tiles meet them
_MANY = 1 << 21  # numbers of all transformed filters from which on these are fetched from far
_GRAIN = 2_000  # tiles whose transform outlasts handing it to a worker
#: channels of either side, tiles full of results, and these where the filters are many, at least: below, the transforms
#: cost more than they save; forward and for the input, and for the weight
_WORTH = {F43: (16, 60, 12), F25: (16, 60, 16)}
_WORTH_WEIGHT = {F43: (16, 60, 12), F25: (32, 150, 16)}


def form_of(plan):
    """The form for a convolution's filters, with tiles of 6×6 numbers, or None."""
    return {(3, 3): F43, (5, 5): F25}.get(tuple(plan.kernel))


def suits(plan):
    """Whether a convolution's plan is for this, forward and back to the input.

    docs/decisions/0010 and 0019 have the figures, against the others and, with few tiles, against `pixels`.
    """
    return _pays(plan, _WORTH)


def suits_weight(plan):
    """The same for the adjoint of the weight."""
    return _pays(plan, _WORTH_WEIGHT)


def _pays(plan, worth):
    form = form_of(plan)
    if not (form and _fits(form, plan)):
        return False
    channels, most, fewest = worth[form]
    few = _few(form, (plan.n, plan.o, *plan.out_size), plan.o, plan.c)
    tiles = plan.n * prod(plan.out_size) / form.side**2
    return min(plan.c, plan.o) >= channels and tiles >= (fewest if few else most)


def _fits(form, plan):
    plain = plan.stride == plan.dilation == (1, 1) and plan.groups == 1 and plan.itemsize == 4
    return plain and min(plan.out_size) >= form.side and max(map(max, plan.padding)) < form.taps and has_numba()


def forward(form, x, w, b, out, corner):
    """Write x ⋆ w + b to `out`, for w (O, C, r, r) and b (O,) or None; `corner`: rows and columns of 0 before x."""
    bias, vectors = np.zeros(len(w), x.dtype) if b is None else b, (vector.lanes(x.dtype), vector.columns(x.dtype))
    by = _by_filters if _few(form, out.shape, *w.shape[:2]) else _by_pieces
    by(form, x, w, bias, out, corner, vectors, x.dtype.type(1))


def _by_pieces(form, x, w, bias, out, corner, vectors, one):
    """All transformed filters meet the tiles of a piece, which stay near."""
    o, c = w.shape[:2]
    tiles, loops = _cut(form, out.shape, c, o, x.dtype), loops_of(form)
    filters = np.empty(_filters_shape(form, -(-o // ROWS), c, vectors[0]), w.dtype)
    workers.run(lambda start, stop: _transform_filters(form, w, filters, start, stop), -(-o // ROWS), grain=_grain(c))

    def task(start, stop):
        v, m, room = _rooms(form, c, -(-o // ROWS) * ROWS, tiles.most, x.dtype)
        for piece in tiles.pieces(start, stop):
            loops.spread(x, v, room, 0, c, *piece, *corner, vectors[0], one)
            loops.forward(filters, v, c, bias, out, m, room, 0, o, *piece, *vectors, one)

    workers.run(task, tiles.items, turns=tiles.items)


def _by_filters(form, x, w, bias, out, corner, vectors, one):
    """All tiles meet some filters, which are transformed for them and stay near."""
    (o, c), loops = w.shape[:2], loops_of(form)
    piece = _whole_batch(form, out.shape)
    most = -(-piece.count // vectors[0]) * vectors[0]
    v = at_line(form.products, _plane(c, most, vectors[0]), x)
    v[:, : c * most].reshape(-1, c, most)[..., piece.count :] = 0  # numbers by chance may be too small to be fast

    def spread(start, stop):
        loops.spread(x, v, _lines_room(form, most, x.dtype), start, stop, *piece, *corner, vectors[0], one)

    def task(start, stop):  # tiles of filters
        filters = scratch("winograd filters", _filters_shape(form, stop - start, c, vectors[0]), w.dtype)
        m = scratch("winograd m", (form.products, _plane((stop - start) * ROWS, most, vectors[0])), x.dtype)
        first, last, room = start * ROWS, min(o, stop * ROWS), _lines_room(form, most, x.dtype)
        _transform_filters(form, w[first:last], filters, 0, stop - start)
        loops.forward(filters, v, c, bias, out, m, room, first, last, *piece, *vectors, one)

    workers.run(spread, c, grain=-(-_GRAIN // piece.count))
    tiles = -(-o // ROWS)
    some = max(1, _FILTER_BYTES // (form.products * ROWS * c * x.itemsize))
    workers.run(task, tiles, turns=-(-tiles // (some * workers.get_num_threads())))


def turned(w):
    """The filters of the adjoint: input and output channels exchanged, the taps turned by 180 degrees."""
    return w[:, :, ::-1, ::-1].swapaxes(0, 1)


def weight(form, g, x, corner):
    """The adjoint of the filters: g (N, O, oh, ow), x (N, C, H, W) -> (O, C, r, r)."""
    by = _weight_by_filters if _few(form, g.shape, g.shape[1], x.shape[1]) else _weight_by_pieces
    out = np.empty((g.shape[1], x.shape[1], form.taps**2), x.dtype)
    by(form, g, x, corner, out, vector.lanes(x.dtype), vector.columns(x.dtype), x.dtype.type(1))
    return out.reshape(*out.shape[:2], form.taps, form.taps)


def _weight_by_pieces(form, g, x, corner, out, lanes, many, one):
    o, c = out.shape[:2]
    high, broad = -(-o // ROWS) * ROWS, -(-c // lanes) * lanes
    tiles, sums, loops = _cut(form, g.shape, c, o, x.dtype), {}, loops_of(form)

    def task(start, stop):
        total = sums[start] = np.zeros((form.products, high, broad), x.dtype)
        v, m, room = _rooms(form, c, o, tiles.most, x.dtype)
        columns = scratch("winograd columns", (tiles.most, broad), x.dtype)
        rows = scratch("winograd rows", (high * tiles.most,), x.dtype)
        for piece in tiles.pieces(start, stop):
            loops.weight(x, g, total, v, m, columns, rows, room, *piece, *corner, lanes, many, one)

    workers.run(task, tiles.items)
    parts = [sums[start][:, :o, :c] for start in sorted(sums)]

    def finish(start, stop):
        total = parts[0][:, start:stop]
        for part in parts[1:]:  # in a fixed order, whoever finished first
            total += part[:, start:stop]
        _to_taps(form, total, out[start:stop])

    workers.run(finish, o, grain=-(-4096 // c))


def _weight_by_filters(form, g, x, corner, out, lanes, many, one):
    """All tiles meet some filters, whose sums stay near."""
    (o, c), piece, loops = out.shape[:2], _whole_batch(form, g.shape), loops_of(form)
    broad, most = -(-c // lanes) * lanes, -(-piece.count // lanes) * lanes
    columns = at_line(form.products, _plane(piece.count, broad, lanes), x)
    columns[...] = 0

    def spread(start, stop):
        v = scratch("winograd v", (form.products, _plane(stop - start, most, lanes)), x.dtype)
        room = _lines_room(form, most, x.dtype)
        loops.columns(x, v, columns, room, broad, start, stop, *piece, *corner, lanes, one)

    def task(start, stop):  # tiles of filters
        first, last, high = start * ROWS, min(o, stop * ROWS), (stop - start) * ROWS
        m = scratch("winograd m", (form.products, _plane(high, most, lanes)), x.dtype)
        total = scratch("winograd sums", (form.products, high, broad), x.dtype)
        lines, room = scratch("winograd rows", (high * most,), x.dtype), _lines_room(form, most, x.dtype)
        loops.sums(g, m, columns, lines, total, room, first, last, *piece, lanes, many, one)
        _to_taps(form, total[:, : last - first, :c], out[first:last])

    threads, tiles = workers.get_num_threads(), -(-o // ROWS)
    workers.run(spread, c, grain=-(-_GRAIN // piece.count), turns=4)
    some = max(1, _FILTER_BYTES // (form.products * ROWS * broad * x.itemsize))
    workers.run(task, tiles, turns=-(-tiles // (some * threads)))


def _to_taps(form, total, out):
    """Gᵀ total G of sums (products, O, C), to out (O, C, taps²)."""
    np.matmul(total.transpose(1, 2, 0), _of_taps(form, out.dtype), out=out)


@cache
def _of_taps(form, dtype):
    """G ⊗ G: (products, taps²)."""
    one_way = matrix(form.of_taps, form.taps, np.dtype("f8"))
    return np.kron(one_way, one_way).astype(dtype)


def _rooms(form, c, o, most, dtype):
    """Room for V and M of `most` tiles, and for the lines of one channel halfway."""
    lanes = vector.lanes(dtype)
    v = scratch("winograd v", (form.products, _plane(c, most, lanes)), dtype)
    m = scratch("winograd m", (form.products, _plane(o, most, lanes)), dtype)
    return v, m, _lines_room(form, most, dtype)


def _lines_room(form, most, dtype):
    """A line of zeros, and one for each row of the tiles in each group of their columns."""
    lines = 1 + form.groups * form.reach
    return scratch("winograd lines", (lines * _line(form.side, most, vector.lanes(dtype)),), dtype)


@inline
def _line(side, count, lanes):
    """Numbers of a line: `side` for each tile, and a rest for those who write and read whole vectors."""
    return side * (count + lanes)


@inline
def _plane(rows, count, lanes):
    """Numbers of one of the matrices of V or M: as a multiple of 4 KiB, all would share few places of the cache."""
    return rows * count + lanes


def _filters_shape(form, tiles, c, lanes):
    return form.products, tiles * c * ROWS + lanes  # see _plane


def _transform_filters(form, w, out, start, stop):
    """Some tiles of U = G w Gᵀ in the product's order: (O / ROWS, C, ROWS) of each number, with zeros beyond O."""
    taps = scratch("winograd taps", (w.shape[1], form.taps**2, ROWS), w.dtype)
    loops_of(form).pack(w, out, taps, start, stop, w.dtype.type(1))


def _grain(c):
    """Tiles of filters whose transform outlasts handing it to a worker."""
    return -(-20_000 // (ROWS * c))


def _few(form, shape, o, c):
    """Whether the transformed filters outweigh the tiles, and the caches, by so much that these should stay near."""
    n, _, *size = shape
    tiles = n * prod(-(-s // form.side) for s in size)
    return form.products * o * c >= _MANY and tiles * (o + c) <= o * c


class _Piece(NamedTuple):
    """`images` images from `first` on, `rows` rows of tiles from `top` on, each of `across` tiles side by side."""

    first: int
    images: int
    top: int
    rows: int
    across: int

    @property
    def count(self):
        """How many tiles it has."""
        return self.rows * self.across


class _Tiles:
    """How the tiles of a batch are cut into pieces: the same rows of some images that lie next to each other.

    A piece has at most about `wanted` tiles, and little less than a multiple of `lanes`; the threads share the images.
    """

    def __init__(self, side, shape, wanted, lanes, threads):
        self.side, self.n = side, shape[0]
        self.height, self.width = (-(-size // side) for size in shape[2:])
        share = max(1, self.n // threads)
        sizes = [
            (images, rows)
            for images in range(1, min(share, max(1, wanted // self.width)) + 1)
            for rows in range(1, min(self.height, max(1, wanted // (images * self.width))) + 1)
        ]
        self.together, self.rows = max(sizes, key=lambda size: self._worth(*size, wanted, lanes))
        self.most = -(-self.rows * self.together * self.width // lanes) * lanes
        self.blocks = -(-self.height // self.rows)
        self.items = -(-self.n // self.together) * self.blocks

    def _worth(self, images, rows, wanted, lanes):
        """How good pieces of this size are: full vectors, equal pieces, long loops, few rows read twice."""
        across = images * self.width
        count = across * rows
        used, high = count / (-(-count // lanes) * lanes), self.side * rows
        even = self.height / (rows * -(-self.height // rows)) * self.n / (images * -(-self.n // images))
        return used * even * min(1, 0.6 + across / 100) * min(1, 0.6 + count / wanted) * high / (high + 1)

    def pieces(self, start, stop):
        """The items start..stop as pieces."""
        for item in range(start, stop):
            group, block = divmod(item, self.blocks)
            first, top = group * self.together, block * self.rows
            images = min(self.together, self.n - first)
            yield _Piece(first, images, top, min(self.rows, self.height - top), images * self.width)


_tiles = lru_cache(_Tiles)  # a training step meets the same few convolutions again and again


def _whole_batch(form, shape):
    n, _, height, width = shape
    return _Piece(0, n, 0, -(-height // form.side), n * -(-width // form.side))


def _cut(form, shape, c, o, dtype):
    """The tiles of results (N, ., oh, ow), in pieces whose V and M stay near, or outweigh the filters read for each."""
    lanes = vector.lanes(dtype)
    wanted = max(lanes, _NEAR_BYTES // (form.products * (c + o) * dtype.itemsize), c * o // (c + o))
    return _tiles(form.side, shape, wanted, lanes, workers.get_num_threads())


# ---- loops -----------------------------------------------------------------------------------------------------------


def _windows(x, first, images, top, rows, across, up, left, side, size):
    """The tiles of size × size at distance `side`, from an image with zeros around it: (C, size, size, T)."""
    part, wide = x[first : first + images], across // images
    n, c, height, width = part.shape
    least = side * (top + rows - 1) + size, side * (wide - 1) + size
    field = np.zeros((n, c, max(least[0], height + up), max(least[1], width + left)), x.dtype)
    field[:, :, up : up + height, left : left + width] = part
    seen = np.lib.stride_tricks.sliding_window_view(field, (size, size), (2, 3))
    seen = seen[:, :, side * top :: side, ::side][:, :, :rows, :wide]
    return seen.transpose(1, 4, 5, 2, 0, 3).reshape(c, size, size, -1)


def _both_ways(formula, tiles):
    """The formula on tiles (C, size, size, T) both ways: (products, C, T)."""
    way = matrix(formula, tiles.shape[1], tiles.dtype)
    return np.einsum("ia,jb,cabt->ijct", way, way, tiles).reshape(-1, len(tiles), tiles.shape[-1])


def _numbers(form, x, *where):
    return _both_ways(form.of_numbers, _windows(x, *where, form.side, form.reach))


def _gradients(form, g, first, images, top, rows, across):
    return _both_ways(form.of_results, _windows(g, first, images, top, rows, across, 0, 0, form.side, form.side))


def _pack_numpy(form, w, out, taps, start, stop, one):
    c, part = w.shape[1], w[start * ROWS : stop * ROWS]
    into = out[:, start * c * ROWS : stop * c * ROWS].reshape(-1, stop - start, c, ROWS)
    into[...] = 0
    for o, filters in enumerate(part.reshape(*part.shape[:2], -1) @ _of_taps(form, np.dtype("f8")).T):
        into[:, o // ROWS, :, o % ROWS] = filters.T


def _weight_numpy(
    form, x, g, total, v, m, columns, room_rows, room, first, images, top, rows, across, up, left, few, many, one
):
    piece = first, images, top, rows, across
    v, m = _numbers(form, x, *piece, up, left), _gradients(form, g, *piece)
    total[:, : m.shape[1], : v.shape[1]] += np.matmul(m, v.swapaxes(1, 2))


def _spread_numpy(form, x, v, room, c0, c1, first, images, top, rows, across, up, left, few, one):
    count = rows * across
    apart = -(-count // few) * few
    part = v[:, c0 * apart : c1 * apart].reshape(-1, c1 - c0, apart)
    part[..., :count] = _numbers(form, x[:, c0:c1], first, images, top, rows, across, up, left)


def _columns_numpy(form, x, v, columns, room, broad, c0, c1, first, images, top, rows, across, up, left, few, one):
    part = columns[:, : rows * across * broad].reshape(-1, rows * across, broad)
    part[..., c0:c1] = _numbers(form, x[:, c0:c1], first, images, top, rows, across, up, left).swapaxes(1, 2)


def _sums_numpy(form, g, m, columns, lines, total, room, o0, o1, first, images, top, rows, across, few, many, one):
    count, broad = rows * across, total.shape[2]
    m = _gradients(form, g[:, o0:o1], first, images, top, rows, across)
    total[:, : o1 - o0] = m @ columns[:, : count * broad].reshape(-1, count, broad)


def _forward_numpy(form, filters, v, c, bias, out, m, room, o0, o1, first, images, top, rows, across, few, many, one):
    count, tiles, side = rows * across, -(-(o1 - o0) // ROWS), form.side
    apart = -(-count // few) * few
    left = filters[:, : tiles * c * ROWS].reshape(-1, tiles, c, ROWS).swapaxes(2, 3).reshape(form.products, -1, c)
    sums = np.matmul(left[:, : o1 - o0], v[:, : c * apart].reshape(-1, c, apart)[..., :count])
    sums, way = sums.reshape(form.reach, form.reach, o1 - o0, count), matrix(form.to_results, form.reach, out.dtype)
    done = np.einsum("ai,bj,ijot->oabt", way, way, sums) + bias[o0:o1, None, None, None]
    done = done.reshape(o1 - o0, side, side, rows, images, -1).transpose(4, 0, 3, 1, 5, 2)
    done = done.reshape(images, o1 - o0, side * rows, -1)
    into = out[first : first + images, o0:o1, side * top : side * (top + rows)]
    into[...] = done[:, :, : into.shape[2], : into.shape[3]]


# Each form has loops with numbers and instructions of its own (`loops_of`).
side = kernel = reach = groups = down = to_columns = gradient_down = gradient_columns = back = of_filters = None
transform = transform_gradient = results = None


def _pack(w, out, taps, start, stop, one):
    channels, each, apart = w.shape[1], w.itemsize, out.shape[1]
    for tile in range(start, stop):
        filled = min(ROWS, len(w) - tile * ROWS)
        for r in range(ROWS):
            for c in range(channels):
                for i in range(kernel):
                    for j in range(kernel):
                        taps[c, kernel * i + j, r] = w[tile * ROWS + r, c, i, j] if r < filled else 0
        of_filters(one, (channels, address(taps), address(out) + tile * channels * ROWS * each, apart))


def _transform(x, c0, c1, v, plane, room, first, images, top, rows, across, up, left, apart, few, one):
    """V of the piece's tiles for the channels c0 to c1: matrices from the address v on, `plane` numbers apart.

    Their rows are `apart` numbers apart.
    """
    channels, height, size, each = x.shape[1], x.shape[2], x.shape[3], x.itemsize
    wide, count, line = across // images, rows * across, _line(side, rows * across, few)
    room[:line] = 0
    none, lines = address(room), address(room) + line * each
    for c in range(c0, c1):
        for r in range(rows):
            y = side * (top + r) - up
            for i in range(images):
                image = address(x) + (((first + i) * channels + c) * height + y) * size * each
                into = lines + side * (r * across + i * wide) * each
                for group in range(groups):  # the tiles' columns from 0, side, … on
                    skip = left - side * group
                    down(one, (side * wide, image - skip * each, size, -y, height - y, skip, size + skip, none,
                               into + group * reach * line * each, line))  # fmt: skip
        for i in range(reach):
            into = v + (reach * i * plane + (c - c0) * apart) * each
            to_columns(one, (count, lines + i * line * each, reach * line, into, plane))


def _transform_gradient(g, o0, o1, m, plane, room, first, images, top, rows, across, apart, few, one):
    """A g Aᵀ of the piece's tiles, as `_transform` gives V."""
    channels, height, size, each = g.shape[1], g.shape[2], g.shape[3], g.itemsize
    wide, count, line = across // images, rows * across, _line(side, rows * across, few)
    room[:line] = 0
    none, lines = address(room), address(room) + line * each
    for c in range(o0, o1):
        for r in range(rows):
            y = side * (top + r)
            for i in range(images):
                image = address(g) + (((first + i) * channels + c) * height + y) * size * each
                gradient_down(one, (side * wide, image, size, 0, height - y, 0, size, none,
                                    lines + side * (r * across + i * wide) * each, line))  # fmt: skip
        for i in range(reach):
            into = m + (reach * i * plane + (c - o0) * apart) * each
            gradient_columns(one, (count, lines + i * line * each, 0, into, plane))


def _results(m, out, o0, o1, bias, room, first, images, top, rows, across, apart, padded, few, one):
    """Write Aᵀ m A plus the bias for the filters o0 to o1.

    The rows of m, `padded` for each of the products, are `apart` numbers apart.
    """
    channels, height, size, each = out.shape[1], out.shape[2], out.shape[3], out.itemsize
    wide, count, plane = across // images, rows * across, _plane(padded, apart, few)
    line, through = _line(side, count, few), past(out, size)
    for c in range(o0, o1):
        back(one, (count, address(m) + (c - o0) * apart * each, reach * plane, plane, address(room), line))
        for i in range(images):
            into = address(out) + (((first + i) * channels + c) * height + side * top) * size * each
            for y in range(min(side * rows, height - side * top)):
                source = address(room) + (y % side * line + side * (y // side * across + i * wide)) * each
                put(one, size, source, address(bias) + c * each, into + y * size * each, through)


def _spread(x, v, room, c0, c1, first, images, top, rows, across, up, left, few, one):
    """V of the piece's tiles for some channels, in the whole V."""
    apart = -(-(rows * across) // few) * few
    into, plane = address(v) + c0 * apart * x.itemsize, _plane(x.shape[1], apart, few)
    transform(x, c0, c1, into, plane, room, first, images, top, rows, across, up, left, apart, few, one)


def _forward(filters, v, c, bias, out, m, room, o0, o1, first, images, top, rows, across, few, many, one):
    """The piece's results of some filters, from the whole V."""
    each, tiles = v.itemsize, -(-(o1 - o0) // ROWS)
    apart = -(-(rows * across) // few) * few
    padded = tiles * ROWS
    for i in range(reach**2):
        w = address(filters[i])
        panel(one, w, tiles, c, address(v) + i * _plane(c, apart, few) * each, apart,
              address(m) + i * _plane(padded, apart, few) * each, apart, few, many, each)  # fmt: skip
    results(m, out, o0, o1, bias, room, first, images, top, rows, across, apart, padded, few, one)


def _weight(x, g, total, v, m, columns, room_rows, room, first, images, top, rows, across, up, left, few, many, one):
    """Add a piece's sums to `total`."""
    c, o, count = x.shape[1], g.shape[1], rows * across
    apart = -(-count // few) * few
    into, plane = address(v), _plane(c, apart, few)
    transform(x, 0, c, into, plane, room, first, images, top, rows, across, up, left, apart, few, one)
    into, plane = address(m), _plane(o, apart, few)
    transform_gradient(g, 0, o, into, plane, room, first, images, top, rows, across, apart, few, one)
    vs, ms = v.reshape(-1), m.reshape(-1)
    for i in range(reach**2):
        at, start = i * _plane(c, apart, few), i * _plane(o, apart, few)
        left, right = ms[start : start + o * apart].reshape(o, apart), vs[at : at + c * apart].reshape(c, apart)
        outer(one, left, right, total[i], columns.reshape(-1), room_rows, 0, count, few, many)


def _columns(x, v, columns, room, broad, c0, c1, first, images, top, rows, across, up, left, few, one):
    """V of the piece's tiles for some channels, turned: (T, broad) for each product."""
    count = rows * across
    apart = -(-count // few) * few
    plane = _plane(c1 - c0, apart, few)
    transform(x, c0, c1, address(v), plane, room, first, images, top, rows, across, up, left, apart, few, one)
    vs, into = v.reshape(-1), columns.reshape(-1)
    for i in range(reach**2):
        part = vs[i * plane : i * plane + (c1 - c0) * apart].reshape(c1 - c0, apart)
        turn(one, part, 0, c1 - c0, 0, count, into, i * columns.shape[1] + c0, broad, few)


def _sums(g, m, columns, lines, total, room, o0, o1, first, images, top, rows, across, few, many, one):
    """The sums of some filters over all tiles: total (products, O and more, broad)."""
    count, each, broad, tiles = rows * across, g.itemsize, total.shape[2], -(-(o1 - o0) // ROWS)
    apart = -(-count // few) * few
    plane = _plane(o1 - o0, apart, few)
    transform_gradient(g, o0, o1, address(m), plane, room, first, images, top, rows, across, apart, few, one)
    ms = m.reshape(-1)
    for i in range(reach**2):
        part = ms[i * plane : i * plane + (o1 - o0) * apart].reshape(o1 - o0, apart)
        for r in range(0, o1 - o0, ROWS):
            turn(one, part, r, min(ROWS, o1 - o0 - r), 0, count, lines, r * count, ROWS, few)
        panel(one, address(lines), tiles, count, address(columns[i]), broad, address(total[i]), broad, few, many, each)


class _Loops(NamedTuple):
    pack: Callable
    spread: Callable
    forward: Callable
    weight: Callable
    columns: Callable
    sums: Callable


@cache
def loops_of(form):
    """The loops for a form."""
    name = f"{form.side}_{form.taps}"
    own = dict(
        side=form.side, kernel=form.taps, reach=form.reach, groups=form.groups,
        down=emitted.down(form.of_numbers, form.reach),
        to_columns=emitted.across(form.of_numbers, form.reach, form.side),
        gradient_down=emitted.down(form.of_results, form.side),
        gradient_columns=emitted.across(form.of_results, form.side, form.side),
        back=emitted.back(form.to_results, form.reach, form.side),
        of_filters=emitted.filters(form.of_taps, form.taps),
    )  # fmt: skip
    parts = dict(transform=_transform, transform_gradient=_transform_gradient, results=_results)
    own |= {part: inline(variant(function, f"{part}_{name}", **own)) for part, function in parts.items()}

    def made(function, twin):
        return jit(partial(twin, form))(variant(function, f"{function.__name__[1:]}_{name}", **own))

    return _Loops(
        made(_pack, _pack_numpy), made(_spread, _spread_numpy), made(_forward, _forward_numpy),
        made(_weight, _weight_numpy), made(_columns, _columns_numpy), made(_sums, _sums_numpy),
    )  # fmt: skip
