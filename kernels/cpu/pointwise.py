"""Convolutions with filters of 1×1: products of each image as it lies, C rows of P pixels, in blocks of columns.

x (N, C, H, W), w (O, C, 1, 1), out (N, O, H, W), P = H W; stride 1, no padding, one group. Rows lie P numbers apart, on
as many pages of memory: the columns of a block first move to rows next to each other, and the results back.
"""

from math import prod

import numpy as np

from . import vector, workers
from .columns import at_once
from .epilogue import Plain
from .jit import has_numba, inline, jit
from .recurrent import panel
from .scratch import scratch
from .tiles import past, put
from .vector import ROWS, address, turn

_NEAR_BYTES = 1 << 20  # of a block and its results
_LEAST = 16  # channels of either side, and pixels of an image, for which blocks are worth their moves
_MANY, _WIDE = 64, 512  # the same forward and back to the input, where results move too


def suits(plan):
    """Whether an adjoint of the weight of 1×1 is for this rather than for BLAS."""
    return has_numba() and plan.groups == 1 and min(plan.c, plan.o, prod(plan.out_size)) >= _LEAST


def suits_large(plan):
    """The same for the forward pass and the adjoint of the input: where the moves are the smaller part."""
    return suits(plan) and min(plan.c, plan.o) >= _MANY and prod(plan.out_size) >= _WIDE


def forward(plan, x, w, b, results):
    """w x + b, for b (O,) or None, into the room that `results` gives and finishes."""
    tiles, cut = _as_tiles(w.reshape(plan.o, plan.c)), _Cut(plan)
    bias = np.zeros(plan.o, x.dtype) if b is None else b
    if type(results) is Plain or plan.n < workers.get_num_threads():
        at_once(plan, results, lambda room: cut.multiply(x, tiles, bias, room))
        return

    def task(start, stop):
        for image in range(start, stop):
            images = slice(image, image + 1)
            room = results.room(images)
            cut.part(x[images], tiles, bias, room, 0, cut.blocks)
            results.finish(images, room)

    workers.run(task, plan.n, turns=plan.n)


def input(plan, g, w):
    """The adjoint with respect to x: wᵀ g."""
    out, tiles = np.empty(plan.x_shape, g.dtype), _as_tiles(w.reshape(plan.o, plan.c).T)
    _Cut(plan).multiply(g, tiles, np.zeros(plan.c, g.dtype), out)
    return out


def weight(plan, g, x):
    """The adjoint with respect to w: the sum of g xᵀ over the images."""
    cut, sums, dtype = _Cut(plan), {}, x.dtype
    high, broad = -(-plan.o // ROWS) * ROWS, -(-plan.c // cut.few) * cut.few

    def task(start, stop):
        total = sums[start] = np.zeros((high, broad), dtype)
        columns = scratch("pointwise columns", (cut.size, broad), dtype)
        rows = scratch("pointwise rows", (high * cut.size,), dtype)
        for block in cut.items(start, stop):
            _outer(g, x, total, columns, rows, *block, cut.few, cut.many, dtype.type(1))

    workers.run(task, plan.n * cut.blocks)
    first, *others = (sums[start][: plan.o, : plan.c] for start in sorted(sums))  # a fixed order, whoever came first
    for other in others:
        first += other
    return np.ascontiguousarray(first).reshape(plan.w_shape)


class _Cut:
    """How the pixels of each image are cut into blocks of `size`: items are (image, block)."""

    def __init__(self, plan):
        dtype = np.dtype(f"f{plan.itemsize}")
        self.n, self.pixels = plan.n, prod(plan.out_size)
        self.few, self.many = vector.lanes(dtype), vector.columns(dtype)
        wanted = max(self.many, _NEAR_BYTES // ((plan.c + plan.o) * plan.itemsize))
        blocks = max(1, round(self.pixels / wanted))
        self.size = -(-self.pixels // blocks // self.many) * self.many
        self.blocks = -(-self.pixels // self.size)

    def items(self, start, stop):
        """The items start to stop: (image, first pixel, pixels)."""
        for item in range(start, stop):
            image, block = divmod(item, self.blocks)
            yield image, block * self.size, min(self.size, self.pixels - block * self.size)

    def multiply(self, x, tiles, bias, out):
        """Write the product of all images, shared by the workers."""
        items = self.n * self.blocks
        workers.run(lambda start, stop: self.part(x, tiles, bias, out, start, stop), items, turns=items)

    def part(self, x, tiles, bias, out, start, stop):
        """Write the items start to stop."""
        near = scratch("pointwise operand", (tiles.shape[1] * self.size,), x.dtype)
        done = scratch("pointwise results", (len(tiles) * ROWS * self.size,), x.dtype)
        for block in self.items(start, stop):
            _multiply(x, tiles, bias, out, near, done, *block, self.few, self.many, x.dtype.type(1))


def _as_tiles(matrix):
    """(O, C) in the order of the product's tiles: (O / ROWS, C, ROWS), with zeros beyond O."""
    o, c = matrix.shape
    out = np.zeros((-(-o // ROWS) * ROWS, c), matrix.dtype)
    out[:o] = matrix
    return np.ascontiguousarray(out.reshape(-1, ROWS, c).swapaxes(1, 2))


# ---- loops -----------------------------------------------------------------------------------------------------------


def _pixels(x, image, first, count):
    return x[image].reshape(x.shape[1], -1)[:, first : first + count]


def _multiply_numpy(x, tiles, bias, out, near, done, image, first, count, few, many, one):
    matrix = tiles.swapaxes(1, 2).reshape(-1, tiles.shape[1])[: out.shape[1]]
    _pixels(out, image, first, count)[...] = matrix @ _pixels(x, image, first, count) + bias[:, None]


def _outer_numpy(g, x, total, columns, rows, image, first, count, few, many, one):
    total[: g.shape[1], : x.shape[1]] += _pixels(g, image, first, count) @ _pixels(x, image, first, count).T


@jit(_multiply_numpy)
def _multiply(x, tiles, bias, out, near, done, image, first, count, few, many, one):
    channels, filters, pixels, each = x.shape[1], out.shape[1], x.shape[2] * x.shape[3], x.itemsize
    apart, xs = -(-count // few) * few, x.reshape(-1)
    for c in range(channels):
        at, start = np.uint64((image * channels + c) * pixels + first), np.uint64(c * apart)
        for q in range(np.uint64(count)):  # unsigned: an index that may be negative stops the vectoriser
            near[start + q] = xs[at + q]
    panel(one, address(tiles), len(tiles), channels, address(near), apart, address(done), apart, few, many, each)
    through = past(out, pixels)
    for o in range(filters):
        into = address(out) + ((image * filters + o) * pixels + first) * each
        put(one, count, address(done) + o * apart * each, address(bias) + o * each, into, through)


@inline
def outer(one, left, right, total, columns, rows, first, count, few, many):
    """total += left rightᵀ over `count` columns from `first` on, for matrices of contiguous rows.

    total: as many rows as tiles have, whole vectors; what lies beyond those of left and right is not to be used.
    columns, rows: room for the operands as the product takes them.
    """
    each, high, broad = left.itemsize, total.shape[0], total.shape[1]
    turn(one, right, 0, len(right), first, count, columns, 0, broad, few)
    for tile in range(0, high, ROWS):
        turn(one, left, tile, min(ROWS, len(left) - tile), first, count, rows, tile * count, ROWS, few)
        panel(one, address(rows) + tile * count * each, 1, count, address(columns), broad,
              address(total) + tile * broad * each, broad, few, many, each, 1)  # fmt: skip


@jit(_outer_numpy)
def _outer(g, x, total, columns, rows, image, first, count, few, many, one):
    pixels = g.shape[2] * g.shape[3]
    left, right = g[image].reshape(-1, pixels), x[image].reshape(-1, pixels)
    outer(one, left, right, total, columns.reshape(-1), rows, first, count, few, many)
