"""Convolution by columns: patches as columns of a matrix (im2col) times the filters, in pieces that stay in cache.

x (N, C, H, W), w (O, C/G, kh, kw), out (N, O, oh, ow); G groups, K = C/G kh kw, P = oh ow.
The workers share the batch, and each piece is one im2col and one product with BLAS on one thread (`forward`, `input`,
`weight`). Or the columns of the whole batch make one matrix (`batch_forward`, …): a product for each small image would
read all weights anew. Filters of 1×1, and those of the size of an image, multiply the images as they lie.
"""

from functools import cached_property, lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from ..geometry import conv_output_size
from . import workers
from .epilogue import Plain
from .jit import jit
from .matmul import affine, matmul
from .scratch import scratch

_PIECE_BYTES = 2 << 20  # of columns; from 1 to 4 MiB the times differ by less than a tenth
_SMALL = 64  # columns of an image up to which those of the batch are put together
_BATCH_BYTES = 32 << 20  # of those columns, at most
_WORTH_SHARING = 2_000_000  # FLOPs that outlast handing a slice to a worker


def few(plan):
    """Whether an image has so few columns that those of the batch should make one matrix."""
    count = prod(plan.out_size)
    return plan.n > 1 and count <= _SMALL and plan.groups * plan.k * plan.n * count * plan.itemsize <= _BATCH_BYTES


def forward(plan, x, w, b, results):
    """Cross-correlation of x with w, plus b (O,) or None, into the room that `results` gives and finishes."""
    product = _product(plan, x, w, b)
    if type(results) is Plain or plan.n < workers.get_num_threads():  # the workers share the rows of an image

        def write(room):
            workers.run(lambda start, stop: product(start, stop, room), plan.items, grain=plan.grain)

        at_once(plan, results, write)
        return

    def task(start, stop):
        for first in range(start, stop, plan.images):
            images = slice(first, min(first + plan.images, stop))
            room = results.room(images)
            product(images.start * plan.blocks, images.stop * plan.blocks, room, first)
            results.finish(images, room)

    workers.run(task, plan.n, grain=-(-plan.grain // plan.blocks))


def at_once(plan, results, write):
    """Let `write` fill the room of all images, and finish it."""
    room = results.room(slice(0, plan.n))
    write(room)
    if type(results) is not Plain:
        workers.run(lambda start, stop: results.finish(slice(start, stop), room[start:stop]), plan.n)


def _product(plan, x, w, b):
    """What writes the items start..stop of the result into images (N, O, oh, ow), of which `first` is the first."""
    kernels, bias = plan.kernels(w), None if b is None else b.reshape(plan.groups, -1, 1)

    def product(start, stop, out, first=0):
        images = plan.grouped(out)
        for piece in plan.pieces(start, stop):
            result = images[piece.first - first : piece.last - first, ..., piece.part[2]]
            np.matmul(kernels, plan.columns(x, piece), out=result)
            if bias is not None:
                result += bias

    return product


def input(plan, g, w):
    """The adjoint with respect to x."""
    out = np.zeros(plan.x_shape, g.dtype)
    kernels, images = np.ascontiguousarray(plan.kernels(w).swapaxes(1, 2)), plan.grouped(g)

    def task(start, stop):  # whole images: blocks of rows overlap in the input
        for piece in plan.pieces(start * plan.blocks, stop * plan.blocks):
            plan.add_columns(kernels, images[piece.part], out, piece)

    workers.run(task, plan.n, grain=-(-plan.grain // plan.blocks))
    return out


def weight(plan, g, x):
    """The adjoint with respect to w."""
    images, sums, size = plan.grouped(g), {}, (plan.groups, plan.k, plan.o // plan.groups)

    def task(start, stop):
        total = sums[start] = np.zeros(size, x.dtype)
        for piece in plan.pieces(start, stop):  # columns first: BLAS is up to 1.8 times faster than with g first
            total += np.matmul(plan.columns(x, piece), images[piece.part].swapaxes(-1, -2)).sum(0)

    workers.run(task, plan.items, grain=plan.grain)
    total = np.zeros(size, x.dtype)
    for start in sorted(sums):  # a fixed order, whoever finished first
        total += sums[start]
    return np.ascontiguousarray(total.swapaxes(1, 2)).reshape(plan.w_shape)


# ---- the whole batch as one matrix: (G, ., N P) ----------------------------------------------------------------------


def batch_forward(plan, x, w, b, results):
    """As `forward`."""
    if plan.whole:
        product = affine(x.reshape(plan.n, plan.k), w.reshape(plan.o, plan.k), b)
        at_once(plan, results, lambda room: np.copyto(room[..., 0, 0], product))
        return
    product = matmul(plan.kernels(w), _batch_columns(plan, x))
    at_once(plan, results, lambda room: _spread(plan, product, b, room))


def batch_input(plan, g, w):
    """As `input`."""
    if plan.whole:
        return matmul(g[..., 0, 0], w.reshape(plan.o, plan.k)).reshape(plan.x_shape)
    out = np.zeros(plan.x_shape, g.dtype)
    columns = matmul(plan.kernels(w).swapaxes(1, 2), _batch_rows(plan, g))
    workers.run(lambda start, stop: _add_batch_columns(plan, columns, out, start, stop), plan.n, grain=plan.grain)
    return out


def batch_weight(plan, g, x):
    """As `weight`."""
    if plan.whole:
        return matmul(g[..., 0, 0].T, x.reshape(plan.n, plan.k)).reshape(plan.w_shape)
    return matmul(_batch_rows(plan, g), _batch_columns(plan, x).swapaxes(1, 2)).reshape(plan.w_shape)


def _batch_columns(plan, x):
    """The columns of all images, (G, K, N P)."""
    count = prod(plan.out_size)
    room = np.empty((plan.groups, plan.k, plan.n, count), x.dtype)

    def task(start, stop):
        for piece in plan.pieces(start, stop):
            room[:, :, piece.first : piece.last, piece.part[2]] = plan.columns(x, piece).transpose(1, 2, 0, 3)

    workers.run(task, plan.items, grain=plan.grain)
    return room.reshape(plan.groups, plan.k, plan.n * count)


def _batch_rows(plan, g):
    """g (N, O, oh, ow) as (G, O/G, N P)."""
    rows = plan.grouped(g).transpose(1, 2, 0, 3)
    return rows.reshape(plan.groups, plan.o // plan.groups, plan.n * prod(plan.out_size))


def _spread(plan, product, b, out):
    """Write a product (G, O/G, N P) plus b (O,), or None, to out (N, O, oh, ow)."""
    product = product.reshape(plan.groups, plan.o // plan.groups, plan.n, prod(plan.out_size))
    if b is not None:
        product += b.reshape(plan.groups, -1, 1, 1)
    plan.grouped(out)[...] = product.transpose(2, 0, 1, 3)


def _add_batch_columns(plan, columns, out, start, stop):
    """Add columns (G, K, N P) to their places in the images start..stop of `out`."""
    columns = columns.reshape(plan.groups, plan.k, plan.n, prod(plan.out_size))
    for piece in plan.pieces(start * plan.blocks, stop * plan.blocks):
        plan.put_columns(columns[:, :, piece.first : piece.last, piece.part[2]].transpose(2, 0, 1, 3), out, piece)


class _Piece(NamedTuple):
    """Images first..last of the batch, rows top..bottom of the output; `part` of an (N, G, ., P) array."""

    first: int
    last: int
    top: int
    bottom: int
    part: tuple


class Plan:
    """The sizes of one convolution and how its work is cut: items are (image, block of output rows)."""

    def __init__(self, x_shape, w_shape, stride, padding, dilation, groups, itemsize):
        self.x_shape, self.w_shape = x_shape, w_shape
        self.n, self.c, *self.size = x_shape
        self.o, _, *self.kernel = w_shape
        self.k = w_shape[1] * w_shape[2] * w_shape[3]
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.itemsize = itemsize
        self.out_size = conv_output_size(
            self.size, kernel_size=self.kernel, stride=stride, padding=padding, dilation=dilation
        )
        self.padded = any(map(any, padding))
        self.pointwise = self.kernel == [1, 1] == list(stride) and not self.padded
        self.whole = groups == 1 and self.kernel == self.size and not self.padded
        oh, ow = self.out_size
        row_bytes = max(1, groups * self.k * ow * itemsize)
        self.rows = oh if self.pointwise else min(oh, max(1, _PIECE_BYTES // row_bytes))
        self.images = max(1, _PIECE_BYTES // (row_bytes * oh))
        self.blocks = -(-oh // self.rows)
        self.items = self.n * self.blocks
        self.corner = tuple(before for before, _ in padding)
        self.reach = [d * (k - 1) for d, k in zip(dilation, self.kernel, strict=True)]
        self.near = all(max(pads) <= most for pads, most in zip(padding, self.reach, strict=True))
        self.grain = max(1, _WORTH_SHARING // max(1, 2 * self.o * self.k * self.rows * ow))

    @cached_property
    def turned(self):
        """The plan of the convolution that is the adjoint of x, of stride 1: with turned filters."""
        padding = tuple((r - before, r - after) for r, (before, after) in zip(self.reach, self.padding, strict=True))
        shapes = (self.n, self.o, *self.out_size), (self.c, self.o // self.groups, *self.kernel)
        return plan_of(*shapes, self.stride, padding, self.dilation, self.groups, self.itemsize)

    def kernels(self, w):
        """w as matrices (G, O/G, K)."""
        return w.reshape(self.groups, self.o // self.groups, self.k)

    def grouped(self, array):
        """(N, G A, h, w) seen as (N, G, A, h w)."""
        n, channels, height, width = array.shape
        return array.reshape(n, self.groups, channels // self.groups, height * width)

    def pieces(self, start, stop):
        """Items start..stop as pieces: several whole images, or one block of rows."""
        ow = self.out_size[1]
        while start < stop:
            first, block = divmod(start, self.blocks)
            last = first + 1 if self.blocks > 1 else min(first + self.images, stop)
            top, bottom = block * self.rows, min((block + 1) * self.rows, self.out_size[0])
            yield _Piece(first, last, top, bottom, (slice(first, last), ..., slice(top * ow, bottom * ow)))
            start += last - first

    def columns(self, x, piece):
        """The patches under the piece's outputs: (images, G, K, P)."""
        if self.pointwise:
            return self.grouped(x)[piece.part]
        columns = self._columns_room(piece, x.dtype)
        _im2col(self._field(x, piece), columns, *self.stride, *self.dilation)
        return self._as_matrices(columns)

    def add_columns(self, kernels, g, out, piece):
        """Add the columns of patches kernels (G, K, O/G) @ g (images, G, O/G, P) to their places in `out`."""
        if self.pointwise:
            np.matmul(kernels, g, out=self.grouped(out)[piece.part])
            return
        columns = self._columns_room(piece, out.dtype)
        np.matmul(kernels, g, out=self._as_matrices(columns))
        self._scatter(columns, out, piece)

    def put_columns(self, given, out, piece):
        """Add the columns `given` (images, G, K, P) to their places in `out`."""
        if self.pointwise:
            self.grouped(out)[piece.part] = given
            return
        columns = self._columns_room(piece, out.dtype)
        self._as_matrices(columns)[...] = given
        self._scatter(columns, out, piece)

    def _scatter(self, columns, out, piece):
        into, inside, shape = self._window(piece)
        field = scratch("field", shape, out.dtype)
        field[...] = 0
        _col2im(columns, field, *self.stride, *self.dilation)
        out[into] += field[inside]

    def _columns_room(self, piece, dtype):
        shape = piece.last - piece.first, self.c, *self.kernel, piece.bottom - piece.top, self.out_size[1]
        return scratch("columns", shape, dtype)

    def _as_matrices(self, columns):
        images, *_, rows, ow = columns.shape
        return columns.reshape(images, self.groups, self.k, rows * ow)

    def _field(self, x, piece):
        """The part of x, padded, that the piece's windows see: (images, C, h, w)."""
        into, inside, shape = self._window(piece)
        if not self.padded and self.blocks == 1:
            return x[piece.first : piece.last]
        field = scratch("field", shape, x.dtype)
        if self.padded:
            field[...] = 0
        field[inside] = x[into]
        return field

    def _window(self, piece):
        """Where the piece's windows meet the input (its slices, theirs), and the shape (images, C, h, w) they span."""
        (top, _), (left, right) = self.padding
        start = piece.top * self.stride[0] - top
        span = (piece.bottom - piece.top - 1) * self.stride[0] + (self.kernel[0] - 1) * self.dilation[0] + 1
        lo, hi = max(0, start), max(0, min(start + span, self.size[0]))
        hi = max(lo, hi)
        images = slice(piece.first, piece.last)
        into = images, slice(None), slice(lo, hi)
        inside = ..., slice(lo - start, hi - start), slice(left, left + self.size[1])
        return into, inside, (piece.last - piece.first, self.c, span, left + self.size[1] + right)


plan_of = lru_cache(1024)(Plan)  # a training step meets the same few convolutions again and again


def _taps(field, columns, sh, sw, dh, dw):
    """The elements of the field under each tap of the kernel, in the shape of the columns."""
    n, c, h, w = field.strides
    return np.lib.stride_tricks.as_strided(field, columns.shape, (n, c, h * dh, w * dw, h * sh, w * sw))


def _im2col_numpy(field, columns, sh, sw, dh, dw):
    columns[...] = _taps(field, columns, sh, sw, dh, dw)


def _col2im_numpy(columns, field, sh, sw, dh, dw):
    taps = _taps(field, columns, sh, sw, dh, dw)
    for i, j in np.ndindex(columns.shape[2:4]):  # within one tap no two elements are the same
        taps[:, :, i, j] += columns[:, :, i, j]


@jit(_im2col_numpy)
def _im2col(field, columns, sh, sw, dh, dw):
    images, channels, kh, kw, rows, ow = columns.shape
    height, width = field.shape[2], field.shape[3]
    source, into = field.reshape(-1), columns.reshape(-1)
    count, at = np.uint64(ow), np.uint64(0)  # unsigned: an index that may be negative stops the vectoriser
    for plane in range(images * channels):
        for i in range(kh):
            for j in range(kw):
                for r in range(rows):
                    start = np.uint64((plane * height + r * sh + i * dh) * width + j * dw)
                    if sw == 1:
                        for q in range(count):
                            into[at + q] = source[start + q]
                    else:
                        step = np.uint64(sw)
                        for q in range(count):
                            into[at + q] = source[start + q * step]
                    at += count


@jit(_col2im_numpy)
def _col2im(columns, field, sh, sw, dh, dw):
    images, channels, kh, kw, rows, ow = columns.shape
    height, width = field.shape[2], field.shape[3]
    source, into = columns.reshape(-1), field.reshape(-1)
    count, at = np.uint64(ow), np.uint64(0)
    for plane in range(images * channels):
        for i in range(kh):
            for j in range(kw):
                for r in range(rows):
                    start = np.uint64((plane * height + r * sh + i * dh) * width + j * dw)
                    if sw == 1:
                        for q in range(count):
                            into[start + q] += source[at + q]
                    else:
                        step = np.uint64(sw)
                        for q in range(count):
                            into[start + q * step] += source[at + q]
                    at += count
