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
from .recurrent import address, panel
from .scratch import scratch
from .vector import ROWS, narrow, wide

_SMALL = 64  # pixels of an image of results, up to which it is worth turning the arrays
_NEAR_BYTES = 44 << 10  # of the filters and the pixel that meet, of as many channels as that allows
_TURNS = 8  # of each thread: cores are not equally fast at all times
_TILES = 4  # of filters put in order at a time
_GRAIN = 100_000  # multiplications that outlast handing a slice to a worker


def suits(plan):
    """Whether a convolution is for this: small images that fill vectors, and taps that meet the same pixels again.

    Against the batch's columns: 1.5 times as fast, forward and both adjoints, at 32 images 512 × 4 × 4 with 512 filters
    of 3×3, 1.1 to 1.3 with 16 images; but 0.8 to 0.9 at stride 2, where a pixel is met by fewer taps.
    """
    lanes = vector.lanes(np.dtype(f"f{plan.itemsize}"))
    small = prod(plan.out_size) <= _SMALL and prod(plan.size) <= 4 * _SMALL
    fills = plan.n >= lanes and min(plan.c, plan.o) >= 2 * lanes
    again = tuple(plan.stride) == (1, 1) and prod(plan.kernel) > 1
    return has_numba() and plan.groups == 1 and small and fills and again


def forward(plan, x, w, b, results):
    """Cross-correlation of x with w, plus b (O,) or None, into the room that `results` gives and finishes."""
    done = _correlated(x, w, False, _meets(plan), prod(plan.out_size))
    room = results.room(slice(0, plan.n))

    def task(start, stop):
        part = room[start:stop].reshape(stop - start, plan.o, -1)
        part[...] = done[:, : plan.o, start:stop].transpose(2, 1, 0)
        if b is not None:
            part += b[:, None]
        results.finish(slice(start, stop), room[start:stop])

    workers.run(task, plan.n, grain=-(-plan.n * _GRAIN // max(1, done.size)))


def input(plan, g, w):
    """The adjoint with respect to x."""
    done = _correlated(g, w, True, _meets(plan)[:, [2, 1, 0]], prod(plan.size))
    out = np.empty(plan.x_shape, g.dtype)
    out.reshape(plan.n, plan.c, -1)[...] = done[:, : plan.c, : plan.n].transpose(2, 1, 0)
    return out


def weight(plan, g, x):
    """The adjoint with respect to w."""
    o, c, taps, dtype = plan.o, plan.c, prod(plan.kernel), x.dtype
    few, many = vector.lanes(dtype), vector.columns(dtype)
    rows, columns = _in_blocks(g, ROWS), _in_blocks(x, many)
    out, runs = np.empty((o, c, taps), dtype), _runs(_meets(plan)[:, [1, 0, 2]])

    def task(start, stop):
        total = scratch("pixels sums", (ROWS, taps, columns.shape[0] * many), dtype)
        for tile in range(start, stop):
            _sum(rows, columns, total, out, runs, tile, few, many, dtype.type(1))

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
        axes.append(np.stack([place, tap, source], 1)[(0 <= source) & (source < size)])
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


def _sum_numpy(rows, columns, total, out, runs, tile, few, many, one):
    total[...] = 0
    for tap, pixel, source, count in runs:
        some = slice(pixel, pixel + count), slice(source, source + count)
        total[:, tap] += np.einsum("pnr,bpnc->rbc", rows[tile, some[0]], columns[:, some[1]]).reshape(ROWS, -1)
    part = out[tile * ROWS : tile * ROWS + ROWS]
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
    some = max(1, _NEAR_BYTES // ((taps * ROWS + many) * each))  # channels whose filters and pixel stay near
    out[:, tile * ROWS : (tile + count) * ROWS] = 0
    for i in range(count):
        for start in range(0, channels, some):
            length = min(some, channels - start)
            for k in range(len(meets)):
                pixel, tap, source = meets[k]
                panel(one, address(packed) + ((i * taps + tap) * channels + start) * ROWS * each, 1, length,
                      address(xs) + (source * channels + start) * wide * each, wide,
                      address(out) + (pixel * out.shape[1] + (tile + i) * ROWS) * wide * each, wide,
                      few, many, each, 1)  # fmt: skip


@jit(_sum_numpy)
def _sum(rows, columns, total, out, runs, tile, few, many, one):
    total[...] = 0
    pixels, n, each, apart = rows.shape[1], rows.shape[2], rows.itemsize, total.shape[1] * total.shape[2]
    for block in range(len(columns)):
        for run in range(len(runs)):
            tap, pixel, source, count = runs[run]
            weights = address(rows) + (tile * pixels + pixel) * n * ROWS * each
            operand = address(columns) + (block * columns.shape[1] + source) * n * many * each
            into = address(total) + (tap * total.shape[2] + block * many) * each
            if many > few:
                wide(one, weights, operand, many, into, apart, count * n, 1)
            else:
                narrow(one, weights, operand, many, into, apart, count * n, 1)
    for r in range(min(ROWS, len(out) - tile * ROWS)):
        for c in range(out.shape[1]):
            for t in range(out.shape[2]):
                out[tile * ROWS + r, c, t] = total[r, t, c]
