"""3×3 convolutions of stride 1 by Winograd's minimal filtering F(4×4, 3×3) (Lavin & Gray 2015).

A tile of 4×4 results needs 6×6 numbers of each channel. Tiles and filters are transformed (Bᵀ d B, G g Gᵀ), multiplied
number by number, which sums over the channels and so is a matrix product for each of the 36 numbers, and transformed
back (Aᵀ m A): 36 multiplications where the sum over the 9 taps has 144. The adjoint of the input is a convolution
with turned filters; that of the weight multiplies the transformed tiles of x and of the gradient (A g Aᵀ).

In float32 the results differ from exact ones by up to about 2e-5 of the largest (the sum over taps: 1e-6), as the
transforms subtract numbers of like size; float64 keeps to the sum over taps (see docs/decisions).

Layout: the T tiles of a piece stand side by side, V (36, C, T), U (36, O, C), M = U V (36, O, T); a piece is so small
that V and M stay in the cache of its core. Where U is much larger than all of V, the batch is one piece, and U is made
and used for some filters at a time.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from . import tiles as emitted, vector, workers
from .jit import has_numba, inline, jit
from .panels import at_line
from .pointwise import outer
from .recurrent import panel
from .scratch import scratch
from .tiles import SIDE, past, put
from .vector import ROWS, address, turn

_NEAR_BYTES = 2 << 20  # of V and M together
_LINES = 13  # of zeros; six of a tile's columns 0 to 3 and six of those from 4 on
_CHANNELS = 16  # of either side, at least: below, the transforms cost more than they save
_FILTER_BYTES = 4_000_000  # of transformed filters at a time, where all tiles meet them
_MANY = 1 << 21  # numbers of all transformed filters from which on these are fetched from far
_GRAIN = 2_000  # tiles whose transform outlasts handing it to a worker
_WORTH, _WORTH_FEW = 60, 30  # tiles full of results, at least: with fewer the filters' transforms cost too much

_FILTERS = np.kron(
    *[[[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]] * 2
) / 576  # (36, 9): G ⊗ G
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)  # Bᵀ
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])  # Aᵀ


def suits(plan):
    """Whether a convolution's plan is for this.

    docs/decisions/0010 and 0019 have the figures, against columns and, with few tiles, against `pixels`.
    """
    few = _few((plan.n, plan.o, *plan.out_size), plan.o, plan.c)
    return _fits(plan) and _tiles_of(plan) >= (_WORTH_FEW if few else _WORTH)


def _fits(plan):
    plain = plan.stride == plan.dilation == (1, 1) and plan.groups == 1 and plan.kernel == [3, 3] and plan.itemsize == 4
    large = min(plan.out_size) >= SIDE and min(plan.c, plan.o) >= _CHANNELS
    return plain and large and max(map(max, plan.padding)) <= 2 and has_numba()


def _tiles_of(plan):
    return plan.n * prod(plan.out_size) / SIDE**2


def forward(x, w, b, out, corner):
    """Write x ⋆ w + b to `out`, for w (O, C, 3, 3) and b (O,) or None; `corner`: rows and columns of 0 before x."""
    bias, vectors = np.zeros(len(w), x.dtype) if b is None else b, (vector.lanes(x.dtype), vector.columns(x.dtype))
    by = _by_filters if _few(out.shape, *w.shape[:2]) else _by_pieces
    by(x, w, bias, out, corner, vectors, x.dtype.type(1))


def _by_pieces(x, w, bias, out, corner, vectors, one):
    """All transformed filters meet the tiles of a piece, which stay near."""
    o, c = w.shape[:2]
    filters, tiles = np.empty(_filters_shape(-(-o // ROWS), c, vectors[0]), w.dtype), _cut(out.shape, c, o, x.dtype)
    workers.run(lambda start, stop: _transform_filters(w, filters, start, stop), -(-o // ROWS), grain=_grain(c))

    def task(start, stop):
        v, m, room = _rooms(c, -(-o // ROWS) * ROWS, tiles.most, x.dtype)
        for piece in tiles.pieces(start, stop):
            _spread(x, v, room, 0, c, *piece, *corner, vectors[0], one)
            _forward(filters, v, c, bias, out, m, room, 0, o, *piece, *vectors, one)

    workers.run(task, tiles.items, turns=tiles.items)


def _by_filters(x, w, bias, out, corner, vectors, one):
    """All tiles meet some filters, which are transformed for them and stay near."""
    o, c = w.shape[:2]
    piece = _whole_batch(out.shape)
    most = -(-piece.count // vectors[0]) * vectors[0]
    v = at_line(36, _plane(c, most, vectors[0]), x)
    v[:, : c * most].reshape(36, c, most)[..., piece.count :] = 0  # numbers by chance may be too small to be fast

    def spread(start, stop):
        _spread(x, v, _lines_room(most, x.dtype), start, stop, *piece, *corner, vectors[0], one)

    def task(start, stop):  # tiles of filters
        filters = scratch("winograd filters", _filters_shape(stop - start, c, vectors[0]), w.dtype)
        m = scratch("winograd m", (36, _plane((stop - start) * ROWS, most, vectors[0])), x.dtype)
        first, last, room = start * ROWS, min(o, stop * ROWS), _lines_room(most, x.dtype)
        _transform_filters(w[first:last], filters, 0, stop - start)
        _forward(filters, v, c, bias, out, m, room, first, last, *piece, *vectors, one)

    workers.run(spread, c, grain=-(-_GRAIN // piece.count))
    tiles = -(-o // ROWS)
    some = max(1, _FILTER_BYTES // (36 * ROWS * c * x.itemsize))
    workers.run(task, tiles, turns=-(-tiles // (some * workers.get_num_threads())))


def turned(w):
    """The filters of the adjoint: input and output channels exchanged, the taps turned by 180 degrees."""
    return w[:, :, ::-1, ::-1].swapaxes(0, 1)


def weight(g, x, corner):
    """The adjoint of the filters: g (N, O, oh, ow), x (N, C, H, W) -> (O, C, 3, 3)."""
    by = _weight_by_filters if _few(g.shape, g.shape[1], x.shape[1]) else _weight_by_pieces
    out = np.empty((g.shape[1], x.shape[1], 9), x.dtype)
    by(g, x, corner, out, vector.lanes(x.dtype), vector.columns(x.dtype), x.dtype.type(1))
    return out.reshape(*out.shape[:2], 3, 3)


def _weight_by_pieces(g, x, corner, out, lanes, many, one):
    o, c = out.shape[:2]
    high, broad = -(-o // ROWS) * ROWS, -(-c // lanes) * lanes
    tiles, sums = _cut(g.shape, c, o, x.dtype), {}

    def task(start, stop):
        total = sums[start] = np.zeros((36, high, broad), x.dtype)
        v, m, room = _rooms(c, o, tiles.most, x.dtype)
        columns = scratch("winograd columns", (tiles.most, broad), x.dtype)
        rows = scratch("winograd rows", (high * tiles.most,), x.dtype)
        for piece in tiles.pieces(start, stop):
            _weight(x, g, total, v, m, columns, rows, room, *piece, *corner, lanes, many, one)

    workers.run(task, tiles.items)
    parts = [sums[start][:, :o, :c] for start in sorted(sums)]

    def finish(start, stop):
        total = parts[0][:, start:stop]
        for part in parts[1:]:  # in a fixed order, whoever finished first
            total += part[:, start:stop]
        _to_taps(total, out[start:stop])

    workers.run(finish, o, grain=-(-4096 // c))


def _weight_by_filters(g, x, corner, out, lanes, many, one):
    """All tiles meet some filters, whose sums stay near."""
    (o, c), piece = out.shape[:2], _whole_batch(g.shape)
    broad, most = -(-c // lanes) * lanes, -(-piece.count // lanes) * lanes
    columns = at_line(36, _plane(piece.count, broad, lanes), x)
    columns[...] = 0

    def spread(start, stop):
        v = scratch("winograd v", (36, _plane(stop - start, most, lanes)), x.dtype)
        _columns(x, v, columns, _lines_room(most, x.dtype), broad, start, stop, *piece, *corner, lanes, one)

    def task(start, stop):  # tiles of filters
        first, last, high = start * ROWS, min(o, stop * ROWS), (stop - start) * ROWS
        m = scratch("winograd m", (36, _plane(high, most, lanes)), x.dtype)
        total = scratch("winograd sums", (36, high, broad), x.dtype)
        lines, room = scratch("winograd rows", (high * most,), x.dtype), _lines_room(most, x.dtype)
        _sums(g, m, columns, lines, total, room, first, last, *piece, lanes, many, one)
        _to_taps(total[:, : last - first, :c], out[first:last])

    threads, tiles = workers.get_num_threads(), -(-o // ROWS)
    workers.run(spread, c, grain=-(-_GRAIN // piece.count), turns=4)
    some = max(1, _FILTER_BYTES // (36 * ROWS * broad * x.itemsize))
    workers.run(task, tiles, turns=-(-tiles // (some * threads)))


def _to_taps(total, out):
    """Gᵀ total G of sums (36, O, C), to out (O, C, 9)."""
    np.matmul(total.transpose(1, 2, 0), _FILTERS.astype(out.dtype), out=out)




def _rooms(c, o, most, dtype):
    """Room for V and M of `most` tiles, and for the lines of one channel halfway."""
    lanes = vector.lanes(dtype)
    v = scratch("winograd v", (36, _plane(c, most, lanes)), dtype)
    m = scratch("winograd m", (36, _plane(o, most, lanes)), dtype)
    return v, m, _lines_room(most, dtype)


def _lines_room(most, dtype):
    return scratch("winograd lines", (_LINES * _line(most, vector.lanes(dtype)),), dtype)


@inline
def _line(count, lanes):
    """Numbers of a line: four for each tile, and a rest for those who write and read whole vectors."""
    return 4 * count + 4 * lanes


@inline
def _plane(rows, count, lanes):
    """Numbers of one of the 36 matrices of V or M: as a multiple of 4 KiB, all would share few places of the cache."""
    return rows * count + lanes


def _filters_shape(tiles, c, lanes):
    return 36, tiles * c * ROWS + lanes  # see _plane


def _transform_filters(w, out, start, stop):
    """U = G w Gᵀ in the order of the product's tiles, 36 times (O / ROWS, C, ROWS) with zeros beyond O: some tiles."""
    _pack(w, out, scratch("winograd taps", (w.shape[1], 9, ROWS), w.dtype), start, stop, w.dtype.type(1))


def _grain(c):
    """Tiles of filters whose transform outlasts handing it to a worker."""
    return -(-20_000 // (ROWS * c))


def _few(shape, o, c):
    """Whether the transformed filters outweigh the tiles, and the caches, by so much that these should stay near."""
    n, _, *size = shape
    tiles = n * prod(-(-s // SIDE) for s in size)
    return 36 * o * c >= _MANY and tiles * (o + c) <= o * c


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

    def __init__(self, shape, wanted, lanes, threads):
        self.n = shape[0]
        self.height, self.width = (-(-size // SIDE) for size in shape[2:])
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
        used = count / (-(-count // lanes) * lanes)
        even = self.height / (rows * -(-self.height // rows)) * self.n / (images * -(-self.n // images))
        return used * even * min(1, 0.6 + across / 100) * min(1, 0.6 + count / wanted) * (4 * rows / (4 * rows + 1))

    def pieces(self, start, stop):
        """The items start..stop as pieces."""
        for item in range(start, stop):
            group, block = divmod(item, self.blocks)
            first, top = group * self.together, block * self.rows
            images = min(self.together, self.n - first)
            yield _Piece(first, images, top, min(self.rows, self.height - top), images * self.width)


_tiles = lru_cache(_Tiles)  # a training step meets the same few convolutions again and again


def _whole_batch(shape):
    n, _, height, width = shape
    return _Piece(0, n, 0, -(-height // SIDE), n * -(-width // SIDE))


def _cut(shape, c, o, dtype):
    """The tiles of results (N, ., oh, ow), in pieces whose V and M stay near, or outweigh the filters read for each."""
    lanes = vector.lanes(dtype)
    wanted = max(lanes, _NEAR_BYTES // (36 * (c + o) * dtype.itemsize), c * o // (c + o))
    return _tiles(shape, wanted, lanes, workers.get_num_threads())


# ---- loops -----------------------------------------------------------------------------------------------------------


def _windows(x, first, images, top, rows, across, up, left, size):
    """The tiles of size × size at distance 4, from an image with zeros around it: (C, size, size, T)."""
    part = x[first : first + images]
    n, c, height, width = part.shape
    tall, wide = 4 * (top + rows - 1) + size, 4 * (across // images - 1) + size
    field = np.zeros((n, c, max(tall, height + up), max(wide, width + left)), x.dtype)
    field[:, :, up : up + height, left : left + width] = part
    seen = np.lib.stride_tricks.sliding_window_view(field, (size, size), (2, 3))
    seen = seen[:, :, 4 * top : 4 * (top + rows - 1) + 1 : 4, : 4 * (across // images - 1) + 1 : 4]
    return seen.transpose(1, 4, 5, 2, 0, 3).reshape(c, size, size, -1)


def _pack_numpy(w, out, taps, start, stop, one):
    c, part = w.shape[1], w[start * ROWS : stop * ROWS]
    into = out[:, start * c * ROWS : stop * c * ROWS].reshape(36, stop - start, c, ROWS)
    into[...] = 0
    for o, filters in enumerate(part.reshape(*part.shape[:2], 9) @ _FILTERS.T.astype(w.dtype)):
        into[:, o // ROWS, :, o % ROWS] = filters.T


def _weight_numpy(
    x, g, total, v, m, columns, room_rows, room, first, images, top, rows, across, up, left, few, many, one
):
    c, o, count = x.shape[1], g.shape[1], rows * across
    matrix = _INPUT.astype(x.dtype)
    seen = _windows(x, first, images, top, rows, across, up, left, 6)
    v = np.einsum("ia,jb,cabt->ijct", matrix, matrix, seen).reshape(36, c, count)
    matrix = _OUTPUT.T.astype(g.dtype)
    seen = _windows(g, first, images, top, rows, across, 0, 0, 4)
    m = np.einsum("ia,jb,cabt->ijct", matrix, matrix, seen).reshape(36, o, count)
    total[:, :o, :c] += np.matmul(m, v.swapaxes(1, 2))


def _spread_numpy(x, v, room, c0, c1, first, images, top, rows, across, up, left, few, one):
    count, matrix = rows * across, _INPUT.astype(x.dtype)
    apart = -(-count // few) * few
    seen = _windows(x[:, c0:c1], first, images, top, rows, across, up, left, 6)
    part = v[:, c0 * apart : c1 * apart].reshape(36, c1 - c0, apart)
    part[..., :count] = np.einsum("ia,jb,cabt->ijct", matrix, matrix, seen).reshape(36, c1 - c0, count)


def _columns_numpy(x, v, columns, room, broad, c0, c1, first, images, top, rows, across, up, left, few, one):
    count, matrix = rows * across, _INPUT.astype(x.dtype)
    seen = _windows(x[:, c0:c1], first, images, top, rows, across, up, left, 6)
    part = columns[:, : count * broad].reshape(36, count, broad)
    part[..., c0:c1] = np.einsum("ia,jb,cabt->ijtc", matrix, matrix, seen).reshape(36, count, -1)


def _sums_numpy(g, m, columns, lines, total, room, o0, o1, first, images, top, rows, across, few, many, one):
    count, broad, matrix = rows * across, total.shape[2], _OUTPUT.T.astype(g.dtype)
    seen = _windows(g[:, o0:o1], first, images, top, rows, across, 0, 0, 4)
    m = np.einsum("ia,jb,cabt->ijct", matrix, matrix, seen).reshape(36, -1, count)
    total[:, : o1 - o0] = m @ columns[:, : count * broad].reshape(36, count, broad)


def _forward_numpy(filters, v, c, bias, out, m, room, o0, o1, first, images, top, rows, across, few, many, one):
    count, tiles = rows * across, -(-(o1 - o0) // ROWS)
    apart = -(-count // few) * few
    left = filters[:, : tiles * c * ROWS].reshape(36, tiles, c, ROWS).swapaxes(2, 3).reshape(36, -1, c)[:, : o1 - o0]
    sums = np.matmul(left, v[:, : c * apart].reshape(36, c, apart)[..., :count]).reshape(6, 6, o1 - o0, count)
    matrix = _OUTPUT.astype(out.dtype)
    done = np.einsum("ai,bj,ijot->oabt", matrix, matrix, sums) + bias[o0:o1, None, None, None]
    done = done.reshape(o1 - o0, 4, 4, rows, images, -1).transpose(4, 0, 3, 1, 5, 2)
    done = done.reshape(images, o1 - o0, 4 * rows, -1)
    into = out[first : first + images, o0:o1, 4 * top : 4 * (top + rows)]
    into[...] = done[:, :, : into.shape[2], : into.shape[3]]


def _of_six(a, b, c, d, e, f):
    """Bᵀ (a … f)."""
    p, q, r, s = e - 4 * c, d - 4 * b, e - c, 2 * (d - b)
    return 4 * a - 5 * c + e, p + q, p - q, r + s, r - s, 4 * b - 5 * d + f


def _to_six(a, b, c, d):
    """A (a … d)."""
    p, q, r, s = a + c, b + d, a + 4 * c, 2 * b + 8 * d
    return a, p + q, p - q, r + s, r - s, d


def _to_four(a, b, c, d, e, f):
    """Aᵀ (a … f)."""
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, q + 2 * s, p + 4 * r, q + 8 * s + f


def _of_taps(a, b, c):
    """G (a … c)."""
    p, q, r, s = (a + c) * (-1 / 6), b * (1 / 6), a * (1 / 24) + c * (1 / 6), b * (1 / 12)
    return a * (1 / 4), p - q, p + q, r + s, r - s, c * 1.0


_down, _across = emitted.down(_of_six, 6), emitted.across(_of_six, 6)
_gradient_down, _gradient_across = emitted.down(_to_six, 4), emitted.across(_to_six, 4)
_back, _of_filters = emitted.back(_to_four, 6), emitted.filters(_of_taps, 3)


@jit(_pack_numpy)
def _pack(w, out, taps, start, stop, one):
    channels, each, apart = w.shape[1], w.itemsize, out.shape[1]
    for tile in range(start, stop):
        filled = min(ROWS, len(w) - tile * ROWS)
        for r in range(ROWS):
            for c in range(channels):
                for i in range(3):
                    for j in range(3):
                        taps[c, 3 * i + j, r] = w[tile * ROWS + r, c, i, j] if r < filled else 0
        _of_filters(one, (channels, address(taps), address(out) + tile * channels * ROWS * each, apart))


@inline
def _transform(x, c0, c1, v, plane, room, first, images, top, rows, across, up, left, apart, few, one):
    """V of the piece's tiles for the channels c0 to c1: 36 matrices from the address v on, `plane` numbers apart.

    Their rows are `apart` numbers apart.
    """
    channels, height, size, each = x.shape[1], x.shape[2], x.shape[3], x.itemsize
    wide, count, line = across // images, rows * across, _line(rows * across, few)
    room[:line] = 0
    none, lines, further = address(room), address(room) + line * each, 6 * line * each
    for c in range(c0, c1):
        for r in range(rows):
            y = 4 * (top + r) - up
            for i in range(images):
                image = address(x) + (((first + i) * channels + c) * height + y) * size * each
                into = lines + 4 * (r * across + i * wide) * each
                for far in range(2):  # the tiles' columns 0 to 3, and from column 4 on
                    skip = left - 4 * far
                    _down(one, (4 * wide, image - skip * each, size, -y, height - y, skip, size + skip, none,
                                into + far * further, line))  # fmt: skip
        for i in range(6):
            at = lines + i * line * each
            _across(one, (count, at, at + further, v + (6 * i * plane + (c - c0) * apart) * each, plane))


@inline
def _transform_gradient(g, o0, o1, m, plane, room, first, images, top, rows, across, apart, few, one):
    """A g Aᵀ of the piece's tiles, as `_transform` gives V."""
    channels, height, size, each = g.shape[1], g.shape[2], g.shape[3], g.itemsize
    wide, count, line = across // images, rows * across, _line(rows * across, few)
    room[:line] = 0
    none, lines = address(room), address(room) + line * each
    for c in range(o0, o1):
        for r in range(rows):
            y = 4 * (top + r)
            for i in range(images):
                image = address(g) + (((first + i) * channels + c) * height + y) * size * each
                _gradient_down(one, (4 * wide, image, size, 0, height - y, 0, size, none,
                                     lines + 4 * (r * across + i * wide) * each, line))  # fmt: skip
        for i in range(6):
            at = lines + i * line * each
            _gradient_across(one, (count, at, at, m + (6 * i * plane + (c - o0) * apart) * each, plane))


@inline
def _results(m, out, o0, o1, bias, room, first, images, top, rows, across, apart, padded, few, one):
    """Write Aᵀ m A plus the bias for the filters o0 to o1.

    The rows of m, `padded` for each of the 36 numbers, are `apart` numbers apart.
    """
    channels, height, size, each = out.shape[1], out.shape[2], out.shape[3], out.itemsize
    wide, count, line, plane = across // images, rows * across, _line(rows * across, few), _plane(padded, apart, few)
    through = past(out, size)
    for c in range(o0, o1):
        _back(one, (count, address(m) + (c - o0) * apart * each, 6 * plane, plane, address(room), line))
        for i in range(images):
            into = address(out) + (((first + i) * channels + c) * height + 4 * top) * size * each
            for y in range(min(4 * rows, height - 4 * top)):
                source = address(room) + (y % 4 * line + 4 * (y // 4 * across + i * wide)) * each
                put(one, size, source, address(bias) + c * each, into + y * size * each, through)


@jit(_spread_numpy)
def _spread(x, v, room, c0, c1, first, images, top, rows, across, up, left, few, one):
    """V of the piece's tiles for some channels, in the whole V."""
    apart = -(-(rows * across) // few) * few
    into, plane = address(v) + c0 * apart * x.itemsize, _plane(x.shape[1], apart, few)
    _transform(x, c0, c1, into, plane, room, first, images, top, rows, across, up, left, apart, few, one)


@jit(_forward_numpy)
def _forward(filters, v, c, bias, out, m, room, o0, o1, first, images, top, rows, across, few, many, one):
    """The piece's results of some filters, from the whole V."""
    each, tiles = v.itemsize, -(-(o1 - o0) // ROWS)
    apart = -(-(rows * across) // few) * few
    padded = tiles * ROWS
    for i in range(36):
        w = address(filters[i])
        panel(one, w, tiles, c, address(v) + i * _plane(c, apart, few) * each, apart,
              address(m) + i * _plane(padded, apart, few) * each, apart, few, many, each)  # fmt: skip
    _results(m, out, o0, o1, bias, room, first, images, top, rows, across, apart, padded, few, one)


@jit(_weight_numpy)
def _weight(x, g, total, v, m, columns, room_rows, room, first, images, top, rows, across, up, left, few, many, one):
    c, o, count = x.shape[1], g.shape[1], rows * across
    apart = -(-count // few) * few
    into, plane = address(v), _plane(c, apart, few)
    _transform(x, 0, c, into, plane, room, first, images, top, rows, across, up, left, apart, few, one)
    into, plane = address(m), _plane(o, apart, few)
    _transform_gradient(g, 0, o, into, plane, room, first, images, top, rows, across, apart, few, one)
    vs, ms = v.reshape(-1), m.reshape(-1)
    for i in range(36):
        at, start = i * _plane(c, apart, few), i * _plane(o, apart, few)
        left, right = ms[start : start + o * apart].reshape(o, apart), vs[at : at + c * apart].reshape(c, apart)
        outer(one, left, right, total[i], columns.reshape(-1), room_rows, 0, count, few, many)


@jit(_columns_numpy)
def _columns(x, v, columns, room, broad, c0, c1, first, images, top, rows, across, up, left, few, one):
    """V of the piece's tiles for some channels, turned: 36 times (T, broad)."""
    count = rows * across
    apart = -(-count // few) * few
    plane = _plane(c1 - c0, apart, few)
    _transform(x, c0, c1, address(v), plane, room, first, images, top, rows, across, up, left, apart, few, one)
    vs, into = v.reshape(-1), columns.reshape(-1)
    for i in range(36):
        part = vs[i * plane : i * plane + (c1 - c0) * apart].reshape(c1 - c0, apart)
        turn(one, part, 0, c1 - c0, 0, count, into, i * columns.shape[1] + c0, broad, few)


@jit(_sums_numpy)
def _sums(g, m, columns, lines, total, room, o0, o1, first, images, top, rows, across, few, many, one):
    """The 36 sums of some filters over all tiles: total (36, O and more, broad)."""
    count, each, broad, tiles = rows * across, g.itemsize, total.shape[2], -(-(o1 - o0) // ROWS)
    apart = -(-count // few) * few
    plane = _plane(o1 - o0, apart, few)
    _transform_gradient(g, o0, o1, address(m), plane, room, first, images, top, rows, across, apart, few, one)
    ms = m.reshape(-1)
    for i in range(36):
        part = ms[i * plane : i * plane + (o1 - o0) * apart].reshape(o1 - o0, apart)
        for r in range(0, o1 - o0, ROWS):
            turn(one, part, r, min(ROWS, o1 - o0 - r), 0, count, lines, r * count, ROWS, few)
        panel(one, address(lines), tiles, count, address(columns[i]), broad, address(total[i]), broad, few, many, each)
