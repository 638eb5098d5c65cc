"""Convolutions of small images with the batch along the vectors: for each result pixel, filters times source pixels.

Columns of patches (im2col) of small images hold every number up to kh kw times, and zeros for the padding; here neither
is written or multiplied. x (N, C, H, W) becomes (P, C, N) for P = H W pixels, so that the numbers of one pixel are a
matrix of whole vectors. A result pixel is the sum, over the taps that meet a source pixel, of (O, C) (C, N); the
adjoint of the weight at a tap is the sum of (O, N) (N, C) over the pixels that meet there. Stride, padding and dilation
are in the lists of who meets whom.
"""

from math import prod

import numpy as np

from . import vector, workers
from .jit import has_numba, jit
from .recurrent import panel
from .scratch import scratch
from .vector import ROWS, address, narrow, wide

_SMALL = 64  # pixels of an image of results, up to which it is worth turning the arrays
_NEAR_BYTES = 16 << 10  # of a pixel's channels, which meet several taps and filters at a time
_TURNS = 8  # of each thread: cores are not equally fast at all times
_TILES = 4  # of filters put in order at a time
_GRAIN = 100_000  # multiplications that outlast handing a slice to a worker


def suits(plan):
    """Whether a convolution is for this: small images that fill vectors, and filters of more than a pixel.

    Against the batch's columns: 1.5, 1.2 and 1.5 times as fast (forward, adjoints of the input and of the weight) at 32
    images 512 × 4 × 4 with 512 filters of 3×3, 1.3, 1.1 and 1.5 with 16 images; 1.1, 1 and 1.2 at stride 2 from 8 × 8.
    """
    lanes = vector.lanes(np.dtype(f"f{plan.itemsize}"))
    small = prod(plan.out_size) <= _SMALL and prod(plan.size) <= 2 * _SMALL
    fills = plan.n >= lanes and min(plan.c, plan.o) >= 2 * lanes
    return has_numba() and plan.groups == 1 and small and fills and prod(plan.kernel) > 1


def forward(plan, x, w, b, results):
    """Cross-correlation of x with w, plus b (O,) or None, into the room that `results` gives and finishes."""
    done = _correlated(x, w, False, _meets(plan), prod(plan.out_size))
    room = results.room(slice(0, plan.n))

    def finish(images):
        if b is not None:
            room[images] += b[:, None, None]
        results.finish(images, room[images])

    _by_image(done, room, finish)


def input(plan, g, w):
    """The adjoint with respect to x."""
    out = np.empty(plan.x_shape, g.dtype)
    _by_image(_correlated(g, w, True, _meets(plan)[:, [2, 1, 0]], prod(plan.size)), out, lambda images: None)
    return out


def weight(plan, g, x):
    """The adjoint with respect to w."""
    o, c, taps, dtype = plan.o, plan.c, prod(plan.kernel), x.dtype
    few, many = vector.lanes(dtype), vector.columns(dtype)
    rows, columns = _in_blocks(g, ROWS), _in_blocks(x, many)
    out, runs = np.empty((o, c, taps), dtype), _runs(_meets(plan)[:, [1, 0, 2]])

    def task(start, stop):
        total = scratch("pixels sums", (_TILES * ROWS, taps, columns.shape[0] * many), dtype)
        for tile in range(start, stop, _TILES):
            _sum(rows, columns, total, out, runs, tile, min(_TILES, stop - tile), few, many, dtype.type(1))

    workers.run(task, len(rows), grain=-(-_GRAIN // (ROWS * c * plan.n)), turns=_TURNS)
    return out.reshape(plan.w_shape)


def _meets(plan):
    """(result pixel, tap, source pixel) of all that meet: an array (M, 3)."""
    axes = []
    for size, count, kernel, stride, (before, _), dilation in zip(
        plan.size, plan.out_size, plan.kernel, plan.stride, plan.padding, plan.dilation, strict=True
    ):
        place, tap = np.mgrid[:count, :kernel].reshape(2, -1)
        source = place * stride - before + tap * dilation
        axes.append(np.stack([place, tap, source], 1)[(source >= 0) & (source < size)])
    down, across = np.repeat(axes[0], len(axes[1]), 0), np.tile(axes[1], (len(axes[0]), 1))
    return down * [plan.out_size[1], plan.kernel[1], plan.size[1]] + across


def _runs(meets):
    """(a, b, c, how many) for meetings (a, b, c), (a, b + 1, c + 1), …, by b and a."""
    meets = meets[np.lexsort((meets[:, 1], meets[:, 0]))]
    starts = np.flatnonzero((np.diff(meets, axis=0, prepend=-2) != [0, 1, 1]).any(1))
    runs = np.column_stack([meets[starts], np.diff(starts, append=len(meets))])
    return np.ascontiguousarray(runs[np.lexsort((runs[:, 0], runs[:, 1]))])


def _correlated(x, w, turned, meets, pixels):
    """The sums w[:, :, tap] x[source] at each of so many result pixels: (pixels, O and more, N and more).

    turned: with the two channels of w (O, C, kh, kw) exchanged.
    """
    few, many = vector.lanes(x.dtype), vector.columns(x.dtype)
    (c, o), taps = w.shape[:2] if turned else w.shape[1::-1], prod(w.shape[2:])
    apart = (taps, o * taps) if turned else (c * taps, taps)  # numbers of w from one filter, one channel to the next
    meets = np.ascontiguousarray(meets[np.lexsort((meets[:, 1], meets[:, 2]))])  # by source pixel
    xs, tiles = _by_pixel(x, few), -(-o // ROWS)
    out = np.empty((pixels, tiles * ROWS, xs.shape[2]), x.dtype)

    def task(start, stop):
        packed = scratch("pixels filters", (_TILES, taps, c, ROWS), x.dtype)
        for tile in range(start, stop, _TILES):
            count = min(_TILES, stop - tile)
            _pack(w, packed, tile, count, o, *apart)
            _multiply(packed, xs, out, meets, tile, count, few, many, x.dtype.type(1))

    workers.run(task, tiles, grain=-(-_GRAIN // (ROWS * c * x.shape[0])), turns=_TURNS)
    return out


def _by_pixel(x, lanes):
    """x (N, C, H, W) as (P, C, N), the batch rounded up to whole vectors with zeros."""
    n, c, *size = x.shape
    out, x = np.empty((prod(size), c, -(-n // lanes) * lanes), x.dtype), x.reshape(n, c, -1)

    def task(start, stop):
        out[:, start:stop, :n] = x[:, start:stop].transpose(2, 1, 0)
        out[:, start:stop, n:] = 0

    workers.run(task, c, grain=-(-c * _GRAIN // out.size))
    return out


def _by_image(done, out, finish):
    """`done` (P, C and more, N and more) to `out` (N, C, H, W); each slice of images goes to finish(images)."""
    n, c, *_ = out.shape

    def task(start, stop):
        out[start:stop].reshape(stop - start, c, -1)[...] = done[:, :c, start:stop].transpose(2, 1, 0)
        finish(slice(start, stop))

    workers.run(task, n, grain=-(-n * _GRAIN // done.size))


def _in_blocks(x, size):
    """x (N, C, H, W) as (C / size, P, N, size), the channels rounded up with zeros."""
    n, c, *_ = x.shape
    x = x.reshape(n, c, -1)
    out = np.empty((-(-c // size), x.shape[2], n, size), x.dtype)

    def task(start, stop):
        for block in range(start, stop):
            part = x[:, block * size : (block + 1) * size].transpose(2, 0, 1)
            out[block, ..., : part.shape[2]] = part
            out[block, ..., part.shape[2] :] = 0

    workers.run(task, len(out), grain=-(-len(out) * _GRAIN // out.size))
    return out


# ---- loops -----------------------------------------------------------------------------------------------------------


def _pack_numpy(w, packed, tile, count, filters, row, column):
    shape, steps = (filters, packed.shape[2], packed.shape[1]), [step * w.itemsize for step in (row, column, 1)]
    packed[:count] = 0
    for r, part in enumerate(np.ndarray(shape, w.dtype, w, 0, steps)[tile * ROWS : (tile + count) * ROWS]):
        packed[r // ROWS, ..., r % ROWS] = part.T


def _multiply_numpy(packed, xs, out, meets, tile, count, few, many, one):
    filters = packed[:count].transpose(0, 3, 1, 2).reshape(count * ROWS, *packed.shape[1:3])
    part = out[:, tile * ROWS : (tile + count) * ROWS]
    part[...] = 0
    for pixel, tap, source in meets:
        part[pixel] += filters[:, tap] @ xs[source]


def _sum_numpy(rows, columns, total, out, runs, tile, count, few, many, one):
    total[...] = 0
    for tap, pixel, source, length in runs:
        left, right = rows[tile : tile + count, pixel : pixel + length], columns[:, source : source + length]
        total[: count * ROWS, tap] += np.einsum("ipnr,bpnc->irbc", left, right).reshape(count * ROWS, -1)
    part = out[tile * ROWS : (tile + count) * ROWS]
    part[...] = total[: len(part), :, : out.shape[1]].swapaxes(1, 2)


@jit(_pack_numpy)
def _pack(w, packed, tile, count, filters, row, column):
    taps, channels, ws, into = packed.shape[1], packed.shape[2], w.reshape(-1), packed.reshape(-1)
    for c in range(channels):  # filters inside: with the channels exchanged they lie next to each other
        for i in range(count):
            first = (tile + i) * ROWS
            used = np.uint64(min(ROWS, filters - first))
            for t in range(taps):
                at, to = np.uint64(first * row + c * column + t), np.uint64(((i * taps + t) * channels + c) * ROWS)
                for r in range(used):
                    into[to + r] = ws[at + r * np.uint64(row)]
                for r in range(used, np.uint64(ROWS)):
                    into[to + r] = 0


@jit(_multiply_numpy)
def _multiply(packed, xs, out, meets, tile, count, few, many, one):
    taps, channels, wide, each = packed.shape[1], packed.shape[2], xs.shape[2], xs.itemsize
    some = max(1, _NEAR_BYTES // (many * each))
    out[:, tile * ROWS : (tile + count) * ROWS] = 0
    for start in range(0, channels, some):
        length = min(some, channels - start)
        for k in range(len(meets)):
            pixel, tap, source = meets[k]
            for i in range(count):
                panel(one, address(packed) + ((i * taps + tap) * channels + start) * ROWS * each, 1, length,
                      address(xs) + (source * channels + start) * wide * each, wide,
                      address(out) + (pixel * out.shape[1] + (tile + i) * ROWS) * wide * each, wide,
                      few, many, each, 1)  # fmt: skip


@jit(_sum_numpy)
def _sum(rows, columns, total, out, runs, tile, count, few, many, one):
    pixels, n, each, apart = rows.shape[1], rows.shape[2], rows.itemsize, total.shape[1] * total.shape[2]
    total[...] = 0
    for block in range(len(columns)):
        for i in range(count):
            for run in range(len(runs)):
                tap, pixel, source, length = runs[run]
                weights = address(rows) + ((tile + i) * pixels + pixel) * n * ROWS * each
                operand = address(columns) + (block * columns.shape[1] + source) * n * many * each
                into = address(total) + (i * ROWS * apart + tap * total.shape[2] + block * many) * each
                if many > few:
                    wide(one, weights, operand, many, into, apart, length * n, 1)
                else:
                    narrow(one, weights, operand, many, into, apart, length * n, 1)
    for o in range(min(count * ROWS, len(out) - tile * ROWS)):
        for c in range(out.shape[1]):
            for t in range(out.shape[2]):
                out[tile * ROWS + o, c, t] = total[o, t, c]
