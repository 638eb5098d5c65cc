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

from . import vector, workers
from .jit import has_numba, inline, jit
from .recurrent import address, panel, turn
from .scratch import scratch
from .vector import ROWS

_SIDE = 4  # of a tile of results
_NEAR_BYTES = 2 << 20  # of V and M together
_CHANNELS = 16  # of either side, at least: below, the transforms cost more than they save
_WORTH = 100  # tiles, at least: with fewer the filters' transforms cost too much

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
_NUMBERS = np.array([2, 4, 5, 8, 6, 24, 1 / 576])  # which the loops need in the dtype of the arrays


def suits(plan):
    """Whether a convolution's plan is for this.

    Against columns, two threads, forward / adjoint of the input / of the weight: 2.5, 2.2 and 1.3 times as fast at 16
    images 64 x 56 x 56 with 64 filters; 2.1, 1.7 and 1.3 at 32 images 128 x 16 x 16 with 128; 1.2, 1.2 and 1.8 at 32
    images 256 x 8 x 8 with 256; but 0.7 and 0.8 forward and back at 32 images 512 x 4 x 4 with 512.
    """
    plain = plan.stride == plan.dilation == (1, 1) and plan.groups == 1 and plan.kernel == [3, 3] and plan.itemsize == 4
    fits = min(plan.out_size) >= 4 and max(map(max, plan.padding)) <= 2
    tiles = plan.n * prod(-(-size // _SIDE) for size in plan.out_size)
    return plain and fits and min(plan.c, plan.o) >= _CHANNELS and tiles >= _WORTH and has_numba()


def forward(x, w, b, out, corner):
    """Write x ⋆ w + b to `out`, for w (O, C, 3, 3) and b (O,) or None; `corner`: rows and columns of 0 before x."""
    o, c = w.shape[:2]
    filters, numbers, vectors = _filters(w), _numbers(x), (vector.lanes(x.dtype), vector.columns(x.dtype))
    bias = np.zeros(o, x.dtype) if b is None else b
    tiles = _cut(out.shape, c + o, x.dtype)

    def task(start, stop):
        v, m = _both(c, filters.shape[1] * ROWS, tiles.most, x.dtype)
        for piece in tiles.pieces(start, stop):
            _forward(x, filters, bias, out, v, m, *_rooms(piece, x.dtype), *piece, *corner, *vectors, numbers)

    workers.run(task, tiles.items, turns=4)


def turned(w):
    """The filters of the adjoint: input and output channels exchanged, the taps turned by 180 degrees."""
    return np.ascontiguousarray(w[:, :, ::-1, ::-1].swapaxes(0, 1))


def weight(g, x, corner):
    """The adjoint of the filters: g (N, O, oh, ow), x (N, C, H, W) -> (O, C, 3, 3)."""
    o, c, numbers = g.shape[1], x.shape[1], _numbers(x)
    lanes, many = vector.lanes(x.dtype), vector.columns(x.dtype)
    high, broad = -(-o // ROWS) * ROWS, -(-c // lanes) * lanes
    tiles, sums = _cut(g.shape, c + o, x.dtype), {}

    def task(start, stop):
        total = sums[start] = np.zeros((36, high, broad), x.dtype)
        v, m = _both(c, o, tiles.most, x.dtype)
        columns = scratch("winograd columns", (tiles.most, broad), x.dtype)
        rows = scratch("winograd rows", (high * tiles.most,), x.dtype)
        columns[...] = rows[...] = 0
        for piece in tiles.pieces(start, stop):
            _weight(
                x, g, total, v, m, columns, rows, *_rooms(piece, x.dtype), *piece, *corner, lanes, many, numbers
            )

    workers.run(task, tiles.items, turns=2)
    first, *others = sorted(sums)  # a fixed order, whoever finished first
    for other in others:
        sums[first] += sums[other]
    return np.matmul(sums[first][:, :o, :c].reshape(36, -1).T, _FILTERS.astype(x.dtype)).reshape(o, c, 3, 3)


def _both(c, o, count, dtype):
    """Room for V and M of `count` tiles."""
    return (scratch(f"winograd {name}", (36, rows, count), dtype) for name, rows in (("v", c), ("m", o)))


def _numbers(x):
    return _NUMBERS.astype(x.dtype)


def _filters(w):
    """U = G w Gᵀ in the order of the product's tiles: (36, O / ROWS, C, ROWS), with zeros beyond O."""
    o, c = w.shape[:2]
    out = np.zeros((36, -(-o // ROWS), c, ROWS), w.dtype)
    workers.run(lambda start, stop: _pack(w, out, start, stop, _numbers(w)), out.shape[1], grain=-(-4096 // (ROWS * c)))
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
        self.height, self.width = (-(-size // _SIDE) for size in shape[2:])
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


def _cut(shape, channels, dtype):
    """The tiles of results (N, ., oh, ow), in pieces whose V and M, of so many channels together, stay near."""
    lanes = vector.lanes(dtype)
    wanted = max(lanes, _NEAR_BYTES // (36 * channels * dtype.itemsize))
    return _tiles(shape, wanted, lanes, workers.get_num_threads())


def _rooms(piece, dtype):
    """Room for the rows under a piece, and for its tiles of one channel halfway."""
    field = scratch("winograd field", (4 * piece.rows + 2, 6, piece.across), dtype)
    return field, scratch("winograd room", (36 * piece.count,), dtype)


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


def _pack_numpy(w, out, start, stop, numbers):
    part = w[start * ROWS : stop * ROWS]
    for o, filters in enumerate((part.reshape(*part.shape[:2], 9) @ _FILTERS.T.astype(w.dtype)), start * ROWS):
        out[:, o // ROWS, :, o % ROWS] = filters.T


def _weight_numpy(
    x, g, total, v, m, columns, room_rows, field, room, first, images, top, rows, across, up, left, few, many, numbers
):
    c, o, count = x.shape[1], g.shape[1], rows * across
    matrix = _INPUT.astype(x.dtype)
    seen = _windows(x, first, images, top, rows, across, up, left, 6)
    v = np.einsum("ia,jb,cabt->ijct", matrix, matrix, seen).reshape(36, c, count)
    matrix = _OUTPUT.T.astype(g.dtype)
    seen = _windows(g, first, images, top, rows, across, 0, 0, 4)
    m = np.einsum("ia,jb,cabt->ijct", matrix, matrix, seen).reshape(36, o, count)
    total[:, :o, :c] += np.matmul(m, v.swapaxes(1, 2))


def _forward_numpy(
    x, filters, bias, out, v, m, field, room, first, images, top, rows, across, up, left, few, many, numbers
):
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


@inline
def _of_six(a, b, c, d, e, f, two, four, five):
    """Bᵀ (a … f)."""
    p, q, r, s = e - four * c, d - four * b, e - c, two * (d - b)
    return four * a - five * c + e, p + q, p - q, r + s, r - s, four * b - five * d + f


@inline
def _to_six(a, b, c, d, two, four, eight):
    """A (a … d)."""
    p, q, r, s = a + c, b + d, a + four * c, two * b + eight * d
    return a, p + q, p - q, r + s, r - s, d


@inline
def _to_four(a, b, c, d, e, f, two, four, eight):
    """Aᵀ (a … f)."""
    p, q, r, s = b + c, b - c, d + e, d - e
    return a + p + r, q + two * s, p + four * r, q + eight * s + f


@inline
def _spread(x, field, line, plane, top, rows, planes, first, images, stride, wide, up, left, height, size):
    """field[r, k, i wide + j] = x[i, 4 top + r − up, 4 j + k − left] of one channel, 0 where there is none.

    `line` holds a row of all the images, at first without the borders' zeros, then 4 further on for planes 4 and 5.
    """
    n = np.uint64(images * wide)
    four, apart = np.uint64(4), np.uint64(4 * wide)
    for r in range(rows):
        y = 4 * top + r - up
        at = np.uint64(r * planes * images * wide)
        if y < 0 or y >= height:
            for q in range(np.uint64(planes) * n):
                field[at + q] = 0
            continue
        for further in range(0, planes - 3, 2):  # 0, and for six planes 2, which stands for 4 columns
            skip = left - 2 * further
            low, high = max(0, skip), min(4 * wide, size + skip)
            for i in range(images):
                into = np.uint64(i) * apart
                for q in range(np.uint64(low)):
                    line[into + q] = 0
                source = np.uint64((first + i) * stride + plane + y * size + low - skip)
                for q in range(np.uint64(max(0, high - low))):
                    line[into + np.uint64(low) + q] = x[source + q]
                for q in range(np.uint64(max(low, high)), apart):
                    line[into + q] = 0
            if further == 0:
                for j in range(n):
                    field[at + j] = line[four * j]
                    field[at + n + j] = line[four * j + np.uint64(1)]
                    field[at + n + n + j] = line[four * j + np.uint64(2)]
                    field[at + n + n + n + j] = line[four * j + np.uint64(3)]
            else:
                at += four * n
                for j in range(n):
                    field[at + j] = line[four * j]
                    field[at + n + j] = line[four * j + np.uint64(1)]


@inline
def _six(a, b):
    """The offsets of six arrays, `b` apart."""
    return a, a + b, a + b + b, a + b + b + b, a + b + b + b + b, a + b + b + b + b + b


@inline
def _to_filter(a, b, c, two, four, six, most):
    """24 G (a … c)."""
    p, q, r = four * (a + c), four * b, a + four * c
    return six * a, -p - q, q - p, r + two * b, r - two * b, most * c


@jit(_pack_numpy)
def _pack(w, out, start, stop, numbers):
    two, four, six, most, share = numbers[0], numbers[1], numbers[4], numbers[5], numbers[6]
    channels = w.shape[1]
    room = np.empty((6, 3), w.dtype)
    for o in range(start * ROWS, min(stop * ROWS, len(w))):
        tile, row = o // ROWS, o % ROWS
        for c in range(channels):
            taps = w[o, c]
            for j in range(3):
                t0, t1, t2, t3, t4, t5 = _to_filter(taps[0, j], taps[1, j], taps[2, j], two, four, six, most)
                room[0, j], room[1, j], room[2, j], room[3, j], room[4, j], room[5, j] = t0, t1, t2, t3, t4, t5
            for i in range(6):
                t0, t1, t2, t3, t4, t5 = _to_filter(room[i, 0], room[i, 1], room[i, 2], two, four, six, most)
                out[6 * i, tile, c, row], out[6 * i + 1, tile, c, row] = t0 * share, t1 * share
                out[6 * i + 2, tile, c, row], out[6 * i + 3, tile, c, row] = t2 * share, t3 * share
                out[6 * i + 4, tile, c, row], out[6 * i + 5, tile, c, row] = t4 * share, t5 * share


@inline
def _transform(x, vs, fs, room, first, images, top, rows, across, up, left, numbers, apart):
    """V of the piece's tiles, its rows `apart` numbers apart."""
    channels, height, size = x.shape[1], x.shape[2], x.shape[3]
    two, four, five = numbers[0], numbers[1], numbers[2]
    xs = x.reshape(-1)
    n, line, count = np.uint64(across), np.uint64(6 * across), np.uint64(rows * across)
    for c in range(channels):
        _spread(
            xs, fs, room, c * height * size, top, 4 * rows + 2, 6, first, images, channels * height * size,
            across // images, up, left, height, size,
        )  # fmt: skip
        for r in range(rows):  # down: room[i, k, r, .]
            for k in range(6):
                a0, a1, a2, a3, a4, a5 = _six(np.uint64(4 * r) * line + np.uint64(k) * n, line)
                b0, b1, b2, b3, b4, b5 = _six(np.uint64(k) * count + np.uint64(r) * n, np.uint64(6) * count)
                for q in range(n):
                    t0, t1, t2, t3, t4, t5 = _of_six(
                        fs[a0 + q], fs[a1 + q], fs[a2 + q], fs[a3 + q], fs[a4 + q], fs[a5 + q], two, four, five
                    )
                    room[b0 + q], room[b1 + q], room[b2 + q] = t0, t1, t2
                    room[b3 + q], room[b4 + q], room[b5 + q] = t3, t4, t5
        for i in range(6):  # across
            a0, a1, a2, a3, a4, a5 = _six(np.uint64(6 * i) * count, count)
            b0, b1, b2, b3, b4, b5 = _six(np.uint64((6 * i * channels + c) * apart), np.uint64(channels * apart))
            for q in range(count):
                t0, t1, t2, t3, t4, t5 = _of_six(
                    room[a0 + q], room[a1 + q], room[a2 + q], room[a3 + q], room[a4 + q], room[a5 + q], two, four, five
                )
                vs[b0 + q], vs[b1 + q], vs[b2 + q] = t0, t1, t2
                vs[b3 + q], vs[b4 + q], vs[b5 + q] = t3, t4, t5


@inline
def _transform_gradient(g, ms, fs, room, first, images, top, rows, across, numbers, apart):
    """A g Aᵀ of the piece's tiles, its rows `apart` numbers apart."""
    channels, height, size = g.shape[1], g.shape[2], g.shape[3]
    two, four, eight = numbers[0], numbers[1], numbers[3]
    gs = g.reshape(-1)
    n, line, count = np.uint64(across), np.uint64(4 * across), np.uint64(rows * across)
    for c in range(channels):
        _spread(
            gs, fs, room, c * height * size, top, 4 * rows, 4, first, images, channels * height * size,
            across // images, 0, 0, height, size,
        )  # fmt: skip
        for r in range(rows):  # down: room[i, k, r, .]
            for k in range(4):
                a0, a1, a2, a3, _, _ = _six(np.uint64(4 * r) * line + np.uint64(k) * n, line)
                b0, b1, b2, b3, b4, b5 = _six(np.uint64(k) * count + np.uint64(r) * n, np.uint64(4) * count)
                for q in range(n):
                    t0, t1, t2, t3, t4, t5 = _to_six(
                        fs[a0 + q], fs[a1 + q], fs[a2 + q], fs[a3 + q], two, four, eight
                    )
                    room[b0 + q], room[b1 + q], room[b2 + q] = t0, t1, t2
                    room[b3 + q], room[b4 + q], room[b5 + q] = t3, t4, t5
        for i in range(6):  # across
            a0, a1, a2, a3, _, _ = _six(np.uint64(4 * i) * count, count)
            b0, b1, b2, b3, b4, b5 = _six(np.uint64((6 * i * channels + c) * apart), np.uint64(channels * apart))
            for q in range(count):
                t0, t1, t2, t3, t4, t5 = _to_six(
                    room[a0 + q], room[a1 + q], room[a2 + q], room[a3 + q], two, four, eight
                )
                ms[b0 + q], ms[b1 + q], ms[b2 + q] = t0, t1, t2
                ms[b3 + q], ms[b4 + q], ms[b5 + q] = t3, t4, t5


@inline
def _results(m, out, bias, room, first, images, top, rows, across, numbers, apart, padded):
    """Write Aᵀ m A plus the bias; the rows of m, `padded` for each of the 36 numbers, are `apart` numbers apart."""
    channels, height, size = out.shape[1], out.shape[2], out.shape[3]
    two, four, eight = numbers[0], numbers[1], numbers[3]
    os, count, wide = out.reshape(-1), np.uint64(rows * across), across // images
    for c in range(channels):
        b = bias[c]
        for j in range(6):  # down: room[a, j, .]
            a0, a1, a2, a3, a4, a5 = _six(np.uint64((j * padded + c) * apart), np.uint64(6 * padded * apart))
            b0, b1, b2, b3, _, _ = _six(np.uint64(j) * count, np.uint64(6) * count)
            for q in range(count):
                t0, t1, t2, t3 = _to_four(
                    m[a0 + q], m[a1 + q], m[a2 + q], m[a3 + q], m[a4 + q], m[a5 + q], two, four, eight
                )
                room[b0 + q], room[b1 + q], room[b2 + q], room[b3 + q] = t0, t1, t2, t3
        row = np.uint64(24) * count
        for a in range(4):  # across, and out
            a0, a1, a2, a3, a4, a5 = _six(np.uint64(6 * a) * count, count)
            for q in range(count):
                t0, t1, t2, t3 = _to_four(
                    room[a0 + q], room[a1 + q], room[a2 + q], room[a3 + q], room[a4 + q], room[a5 + q], two, four, eight
                )
                p = row + np.uint64(4) * q
                room[p], room[p + np.uint64(1)] = t0 + b, t1 + b
                room[p + np.uint64(2)], room[p + np.uint64(3)] = t2 + b, t3 + b
            for r in range(rows):
                y = 4 * (top + r) + a
                if y < height:
                    for i in range(images):
                        source = row + np.uint64(4 * (r * across + i * wide))
                        into = np.uint64((((first + i) * channels + c) * height + y) * size)
                        for q in range(np.uint64(size)):
                            os[into + q] = room[source + q]


@jit(_forward_numpy)
def _forward(x, filters, bias, out, v, m, field, room, first, images, top, rows, across, up, left, few, many, numbers):
    one, each, c, tiles = numbers[0], x.itemsize, x.shape[1], filters.shape[1]
    count = rows * across
    apart = -(-count // few) * few
    padded = tiles * ROWS
    _transform(x, v.reshape(-1), field.reshape(-1), room, first, images, top, rows, across, up, left, numbers, apart)
    for i in range(36):
        w = address(filters) + i * padded * c * each
        panel(one, w, tiles, c, address(v) + i * c * apart * each, apart, address(m) + i * padded * apart * each,
              apart, few, many, each)  # fmt: skip
    _results(m.reshape(-1), out, bias, room, first, images, top, rows, across, numbers, apart, padded)


@jit(_weight_numpy)
def _weight(
    x, g, total, v, m, columns, room_rows, field, room, first, images, top, rows, across, up, left, few, many, numbers
):
    one, each, c, o = numbers[0], x.itemsize, x.shape[1], g.shape[1]
    count, apart, high, broad = rows * across, v.shape[2], total.shape[1], total.shape[2]
    _transform(x, v.reshape(-1), field.reshape(-1), room, first, images, top, rows, across, up, left, numbers, apart)
    _transform_gradient(g, m.reshape(-1), field.reshape(-1), room, first, images, top, rows, across, numbers, apart)
    vs, ms, into = v.reshape(-1, apart), m.reshape(-1, apart), columns.reshape(-1)
    for i in range(36):
        turn(one, vs, i * c, c, 0, count, into, 0, broad, few)
        for tile in range(0, high, ROWS):
            turn(one, ms, i * o + tile, min(ROWS, o - tile), 0, count, room_rows, tile * apart, ROWS, few)
            panel(
                one, address(room_rows) + tile * apart * each, 1, count, address(into), broad,
                address(total) + (i * high + tile) * broad * each, broad, few, many, each, 1,
            )  # fmt: skip
