"""3×3 convolutions of stride 1 by Winograd's minimal filtering F(4×4, 3×3) (Lavin & Gray 2015).

A tile of 4×4 results needs 6×6 numbers of each channel. Tiles and filters are transformed (Bᵀ d B, G g Gᵀ), multiplied
number by number, which sums over the channels and so is a matrix product for each of the 36 numbers, and transformed
back (Aᵀ m A): 36 multiplications where the sum over the 9 taps has 144. The adjoint of the input is a convolution
with turned filters; that of the weight multiplies the transformed tiles of x and of the gradient (A g Aᵀ).

In float32 the results differ from exact ones by up to about 2e-5 of the largest (the sum over taps: 1e-6), as the
transforms subtract numbers of like size; float64 keeps to the sum over taps (see docs/decisions).

Layout: the T tiles of a piece stand side by side, V (36, C, T), U (36, O, C), M = U V (36, O, T); a piece is so small
that V and M stay in the cache of its core.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from . import tiles as emitted, vector, workers
from .jit import has_numba, inline, jit
from .pointwise import outer
from .recurrent import panel
from .scratch import scratch
from .tiles import SIDE, past, put
from .vector import ROWS, address

_NEAR_BYTES = 2 << 20  # of V and M together
_LINES = 13  # of zeros; six of a tile's columns 0 to 3 and six of those from 4 on
_CHANNELS = 16  # of either side, at least: below, the transforms cost more than they save
_WORTH = 60  # tiles full of results, at least: with fewer the filters' transforms cost too much

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

    docs/decisions/0010-winograd.md has the figures against columns; at 32 images 512 × 4 × 4 with 512 filters `pixels`
    is the faster one.
    """
    plain = plan.stride == plan.dilation == (1, 1) and plan.groups == 1 and plan.kernel == [3, 3] and plan.itemsize == 4
    fits = min(plan.out_size) >= 4 and max(map(max, plan.padding)) <= 2
    tiles = plan.n * prod(plan.out_size) / SIDE**2
    return plain and fits and min(plan.c, plan.o) >= _CHANNELS and tiles >= _WORTH and has_numba()


def forward(x, w, b, out, corner):
    """Write x ⋆ w + b to `out`, for w (O, C, 3, 3) and b (O,) or None; `corner`: rows and columns of 0 before x."""
    o, c = w.shape[:2]
    filters, one = _filters(w), x.dtype.type(1)
    bias, vectors = np.zeros(o, x.dtype) if b is None else b, (vector.lanes(x.dtype), vector.columns(x.dtype))
    tiles = _cut(out.shape, c, o, x.dtype)

    def task(start, stop):
        v, m, room = _rooms(c, filters.shape[1] * ROWS, tiles, x.dtype)
        for piece in tiles.pieces(start, stop):
            _forward(x, filters, bias, out, v, m, room, *piece, *corner, *vectors, one)

    workers.run(task, tiles.items, turns=tiles.items)


def turned(w):
    """The filters of the adjoint: input and output channels exchanged, the taps turned by 180 degrees."""
    return w[:, :, ::-1, ::-1].swapaxes(0, 1)


def weight(g, x, corner):
    """The adjoint of the filters: g (N, O, oh, ow), x (N, C, H, W) -> (O, C, 3, 3)."""
    o, c, one = g.shape[1], x.shape[1], x.dtype.type(1)
    lanes, many = vector.lanes(x.dtype), vector.columns(x.dtype)
    high, broad = -(-o // ROWS) * ROWS, -(-c // lanes) * lanes
    tiles, sums = _cut(g.shape, c, o, x.dtype), {}

    def task(start, stop):
        total = sums[start] = np.zeros((36, high, broad), x.dtype)
        v, m, room = _rooms(c, o, tiles, x.dtype)
        columns = scratch("winograd columns", (tiles.most, broad), x.dtype)
        rows = scratch("winograd rows", (high * tiles.most,), x.dtype)
        for piece in tiles.pieces(start, stop):
            _weight(x, g, total, v, m, columns, rows, room, *piece, *corner, lanes, many, one)

    workers.run(task, tiles.items)
    parts, out = [sums[start][:, :o, :c] for start in sorted(sums)], np.empty((o, c, 9), x.dtype)

    def finish(start, stop):
        total = parts[0][:, start:stop]
        for part in parts[1:]:  # in a fixed order, whoever finished first
            total += part[:, start:stop]
        np.matmul(total.transpose(1, 2, 0), _FILTERS.astype(x.dtype), out=out[start:stop])

    workers.run(finish, o, grain=-(-4096 // c))
    return out.reshape(o, c, 3, 3)


def _rooms(c, o, tiles, dtype):
    """Room for V and M of a piece's tiles, and for the lines of one channel halfway."""
    lanes = vector.lanes(dtype)
    v = scratch("winograd v", (36, _plane(c, tiles.most, lanes)), dtype)
    m = scratch("winograd m", (36, _plane(o, tiles.most, lanes)), dtype)
    return v, m, scratch("winograd lines", (_LINES * _line(tiles.most, lanes),), dtype)


@inline
def _line(count, lanes):
    """Numbers of a line: four for each tile, and a rest for those who write and read whole vectors."""
    return 4 * count + 4 * lanes


@inline
def _plane(rows, count, lanes):
    """Numbers of one of the 36 matrices of V or M: as a multiple of 4 KiB, all would share few places of the cache."""
    return rows * count + lanes


def _filters(w):
    """U = G w Gᵀ in the order of the product's tiles: (36, O / ROWS, C, ROWS), with zeros beyond O."""
    o, c = w.shape[:2]
    out = np.empty((36, -(-o // ROWS), c, ROWS), w.dtype)

    def task(start, stop):
        _pack(w, out, scratch("winograd taps", (c, 9, ROWS), w.dtype), start, stop, w.dtype.type(1))

    workers.run(task, out.shape[1], grain=-(-20_000 // (ROWS * c)))
    return out


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
    part = w[start * ROWS : stop * ROWS]
    out[:, start:stop] = 0
    for o, filters in enumerate((part.reshape(*part.shape[:2], 9) @ _FILTERS.T.astype(w.dtype)), start * ROWS):
        out[:, o // ROWS, :, o % ROWS] = filters.T


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


def _forward_numpy(x, filters, bias, out, v, m, room, first, images, top, rows, across, up, left, few, many, one):
    c, o, count = x.shape[1], out.shape[1], rows * across
    matrix = _INPUT.astype(x.dtype)
    seen = _windows(x, first, images, top, rows, across, up, left, 6)
    tiles = np.einsum("ia,jb,cabt->ijct", matrix, matrix, seen).reshape(36, c, count)
    sums = np.matmul(filters.swapaxes(2, 3).reshape(36, -1, c)[:, :o], tiles).reshape(6, 6, o, count)
    matrix = _OUTPUT.astype(out.dtype)
    done = np.einsum("ai,bj,ijot->oabt", matrix, matrix, sums) + bias[:, None, None, None]
    done = done.reshape(o, 4, 4, rows, images, -1).transpose(4, 0, 3, 1, 5, 2).reshape(images, o, 4 * rows, -1)
    into = out[first : first + images, :, 4 * top : 4 * (top + rows)]
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
    channels, each = w.shape[1], w.itemsize
    apart = out.shape[1] * channels * ROWS
    for tile in range(start, stop):
        filled = min(ROWS, len(w) - tile * ROWS)
        for r in range(ROWS):
            for c in range(channels):
                for i in range(3):
                    for j in range(3):
                        taps[c, 3 * i + j, r] = w[tile * ROWS + r, c, i, j] if r < filled else 0
        _of_filters(one, (channels, address(taps), address(out) + tile * channels * ROWS * each, apart))


@inline
def _transform(x, v, room, first, images, top, rows, across, up, left, apart, few, one):
    """V of the piece's tiles, its rows `apart` numbers apart."""
    channels, height, size, each = x.shape[1], x.shape[2], x.shape[3], x.itemsize
    wide, count, line, plane = across // images, rows * across, _line(rows * across, few), _plane(channels, apart, few)
    room[:line] = 0
    none, lines, further = address(room), address(room) + line * each, 6 * line * each
    for c in range(channels):
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
            _across(one, (count, at, at + further, address(v) + (6 * i * plane + c * apart) * each, plane))


@inline
def _transform_gradient(g, m, room, first, images, top, rows, across, apart, few, one):
    """A g Aᵀ of the piece's tiles, its rows `apart` numbers apart."""
    channels, height, size, each = g.shape[1], g.shape[2], g.shape[3], g.itemsize
    wide, count, line, plane = across // images, rows * across, _line(rows * across, few), _plane(channels, apart, few)
    room[:line] = 0
    none, lines = address(room), address(room) + line * each
    for c in range(channels):
        for r in range(rows):
            y = 4 * (top + r)
            for i in range(images):
                image = address(g) + (((first + i) * channels + c) * height + y) * size * each
                _gradient_down(one, (4 * wide, image, size, 0, height - y, 0, size, none,
                                     lines + 4 * (r * across + i * wide) * each, line))  # fmt: skip
        for i in range(6):
            at = lines + i * line * each
            _gradient_across(one, (count, at, at, address(m) + (6 * i * plane + c * apart) * each, plane))


@inline
def _results(m, out, bias, room, first, images, top, rows, across, apart, padded, few, one):
    """Write Aᵀ m A plus the bias; the rows of m, `padded` for each of the 36 numbers, are `apart` numbers apart."""
    channels, height, size, each = out.shape[1], out.shape[2], out.shape[3], out.itemsize
    wide, count, line, plane = across // images, rows * across, _line(rows * across, few), _plane(padded, apart, few)
    through = past(out, size)
    for c in range(channels):
        _back(one, (count, address(m) + c * apart * each, 6 * plane, plane, address(room), line))
        for i in range(images):
            into = address(out) + (((first + i) * channels + c) * height + 4 * top) * size * each
            for y in range(min(4 * rows, height - 4 * top)):
                source = address(room) + (y % 4 * line + 4 * (y // 4 * across + i * wide)) * each
                put(one, size, source, address(bias) + c * each, into + y * size * each, through)


@jit(_forward_numpy)
def _forward(x, filters, bias, out, v, m, room, first, images, top, rows, across, up, left, few, many, one):
    each, c, tiles = x.itemsize, x.shape[1], filters.shape[1]
    apart = -(-(rows * across) // few) * few
    padded = tiles * ROWS
    _transform(x, v, room, first, images, top, rows, across, up, left, apart, few, one)
    for i in range(36):
        w = address(filters) + i * padded * c * each
        panel(one, w, tiles, c, address(v) + i * _plane(c, apart, few) * each, apart,
              address(m) + i * _plane(padded, apart, few) * each, apart, few, many, each)  # fmt: skip
    _results(m, out, bias, room, first, images, top, rows, across, apart, padded, few, one)


@jit(_weight_numpy)
def _weight(x, g, total, v, m, columns, room_rows, room, first, images, top, rows, across, up, left, few, many, one):
    c, o, count = x.shape[1], g.shape[1], rows * across
    apart = -(-count // few) * few
    _transform(x, v, room, first, images, top, rows, across, up, left, apart, few, one)
    _transform_gradient(g, m, room, first, images, top, rows, across, apart, few, one)
    vs, ms = v.reshape(-1), m.reshape(-1)
    for i in range(36):
        at, start = i * _plane(c, apart, few), i * _plane(o, apart, few)
        left, right = ms[start : start + o * apart].reshape(o, apart), vs[at : at + c * apart].reshape(c, apart)
        outer(one, left, right, total[i], columns.reshape(-1), room_rows, 0, count, few, many)
