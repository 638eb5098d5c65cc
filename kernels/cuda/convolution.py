"""Cross-correlation and its two adjoints: patches as rows (im2col) times a matrix, in pieces that stay in the L2 cache.

x (N, C, H, W), w (O, C/G, kh, kw), out (N, O, oh, ow); G groups, K = kh kw C/G. Inside, the channels are last: then a
piece is one product, of all its images at once, and writes its part of the result where it belongs. An input that has
the channels last in memory is taken as it lies, and the result lies alike; others are turned round, unless the channels
are few: see direct.py.
"""

from functools import lru_cache
from math import prod
from typing import NamedTuple

import cupy

from .. import floors
from ..geometry import conv_output_size
from ..registry import chosen, implementation
from . import blas, direct, epilogue
from .columns import Patches
from .layout import channels_last, floats, restored, room_like
from .reduction import sum

_PIECE_BYTES = 20_000_000  # of columns: less than half of the L2 cache of an A100, H100 or H200


@implementation("conv2d", "cuda", layout="NHWC", floor=floors.conv2d)
def conv2d(x, w, b, *, stride, padding, dilation, groups):
    """Cross-correlation of x with w, plus b (O,) or None. Floor: e (|x| + |w| + |out|) bytes, 2 |out| K FLOPs."""
    x, w, b = floats(x, w, b)
    plan = _plan(x.shape, w.shape, stride, padding, dilation, groups, x.itemsize)
    bias = None if b is None else cupy.ascontiguousarray(b)
    if plan.direct and x.flags.c_contiguous:
        return plan.direct.forward(x, w, bias)
    return _product(plan, x, w, bias)


def _fused_floor(x, w, b, *, activation, pool, **geometry):
    """That of `conv2d`, with its result pooled; what is saved for the adjoint is not counted."""
    moved, flops = floors.conv2d(x, w, b, **geometry)
    whole = prod(_plan(x.shape, w.shape, **geometry, itemsize=x.itemsize).out_shape) * x.itemsize
    return moved - whole + whole // prod(pool[1:] if pool else ()), flops


@implementation("conv2d_act_pool", "cuda", layout="NHWC", floor=_fused_floor)
def conv2d_act_pool(x, w, b, *, stride, padding, dilation, groups, activation, pool):
    """`conv2d`, then "relu", "tanh" or "sigmoid", then pool ("max" | "avg", kh, kw) over windows side by side, or None.

    Gives (out, what `act_pool_backward` needs beside it). Floor: that of `conv2d`, with its result pooled.
    """
    x, w, b = floats(x, w, b)
    plan = _plan(x.shape, w.shape, stride, padding, dilation, groups, x.itemsize)
    bias = None if b is None else cupy.ascontiguousarray(b)
    if plan.direct and x.flags.c_contiguous:
        if pool and plan.direct.pools(pool):
            return plan.direct.pooled(x, w, bias, activation, pool)
        return epilogue.pooled(plan.direct.forward(x, w, bias, activation), "", pool)
    relu = activation == "relu" and plan.affine
    return epilogue.pooled(_product(plan, x, w, bias, relu), "" if relu else activation, pool)


def _product(plan, x, w, bias, relu=False):
    """The convolution by products; `relu` only where each is of the whole depth: see `_Plan.affine`."""
    if plan.whole:
        out = cupy.empty(plan.out_shape, x.dtype)
        matrices = x.reshape(plan.n, plan.k), w.reshape(plan.o, plan.k), bias, out.reshape(plan.n, plan.o)
        blas.affine(*matrices, relu=relu)
        return out
    images, kernels, room = channels_last(x), plan.kernels(w), plan.room(x.dtype)
    out, into = room_like(x, plan.out_shape)
    for piece in plan.pieces():
        columns, part = plan.columns(images, piece, room), plan.part(into, piece)
        if plan.affine:
            blas.affine(columns[0], kernels[0], bias, part, relu=relu)
        else:
            blas.gemm(columns, kernels.swapaxes(1, 2), plan.grouped(part))
            if bias is not None:
                part += bias
    return restored(out, into)


@implementation("conv2d_input", "cuda", layout="NHWC", floor=floors.conv2d_input)
def conv2d_input(g, w, *, input_size, stride, padding, dilation, groups):
    """The adjoint of `conv2d` with respect to x: g (N, O, oh, ow) -> (N, C, H, W) with (H, W) = input_size.

    Floor: that of `conv2d`.
    """
    g, w = floats(g, w)
    shape = (g.shape[0], w.shape[1] * groups, *input_size)
    plan = _plan(shape, w.shape, stride, padding, dilation, groups, g.itemsize)
    if plan.whole:
        out = cupy.empty(shape, g.dtype)
        blas.gemm(g.reshape(plan.n, plan.o), w.reshape(plan.o, plan.k), out.reshape(plan.n, plan.k))
        return out
    if plan.direct and plan.direct.back and g.flags.c_contiguous:
        return plan.direct.backward(g, w)
    images, kernels, room = channels_last(g), plan.kernels(w), plan.room(g.dtype)
    out, into = room_like(g, shape)
    for piece in plan.pieces():
        part = plan.grouped(plan.part(images, piece))
        if plan.pointwise:
            blas.gemm(part, kernels, plan.grouped(plan.part(into, piece)))
        else:
            plan.add_columns(blas.gemm(part, kernels, plan.matrices(room, piece)), into, piece)
    return restored(out, into)


@implementation("conv2d_weight", "cuda", layout="NHWC", floor=floors.conv2d_weight)
def conv2d_weight(g, x, *, kernel_size, stride, padding, dilation, groups):
    """The adjoint of `conv2d` with respect to w: g (N, O, oh, ow), x (N, C, H, W) -> (O, C/groups, kh, kw).

    Floor: that of `conv2d`.
    """
    g, x = floats(g, x)
    shape = (g.shape[1], x.shape[1] // groups, *kernel_size)
    plan = _plan(x.shape, shape, stride, padding, dilation, groups, x.itemsize)
    if plan.whole:
        out = cupy.empty(shape, x.dtype)
        blas.gemm(g.reshape(plan.n, plan.o).T, x.reshape(plan.n, plan.k), out.reshape(plan.o, plan.k))
        return out
    if plan.direct and x.flags.c_contiguous and g.flags.c_contiguous:
        return plan.direct.weight(g, x)
    results, images, room, pieces = channels_last(g), channels_last(x), plan.room(x.dtype), list(plan.pieces())
    apart = len(pieces) if x.itemsize == 2 else 1  # sums in 16 bits would lose what each piece adds
    totals = (cupy.empty if pieces else cupy.zeros)((max(1, apart), groups, plan.o // groups, plan.k), x.dtype)
    for i, piece in enumerate(pieces):
        part = plan.grouped(plan.part(results, piece))
        into, beta = totals[i % len(totals)], float(i >= len(totals))
        blas.gemm(part.swapaxes(1, 2), plan.columns(images, piece, room), into, beta=beta)
    total = sum(totals, 0) if len(totals) > 1 else totals
    return total.reshape(plan.o, *plan.kernel, shape[1]).transpose(0, 3, 1, 2).copy()


class _Piece(NamedTuple):
    """Rows top..bottom of the output of images first..last: several whole images, or some rows of one."""

    first: int
    last: int
    top: int
    bottom: int


class _Plan:
    """The sizes of one convolution and how its work is cut."""

    def __init__(self, x_shape, w_shape, stride, padding, dilation, groups, itemsize):
        self.x_shape, (self.n, self.c, *self.size) = x_shape, x_shape
        self.o, depth, *self.kernel = w_shape
        self.k = depth * self.kernel[0] * self.kernel[1]
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        oh, ow = self.out_size = conv_output_size(
            self.size, kernel_size=self.kernel, stride=stride, padding=padding, dilation=dilation
        )
        self.out_shape = (self.n, self.o, oh, ow)
        padded = any(map(any, padding))
        self.pointwise = self.kernel == [1, 1] == list(stride) and not padded
        self.whole = self.kernel == self.size and self.k > 0 and groups == 1 and not padded  # one window: an affine map
        self.affine = groups == 1 and self.k > 0  # whether its products can add the bias, and more
        row_bytes = max(1, groups * self.k * ow * itemsize)
        self.rows = oh if self.pointwise else min(oh, max(1, _PIECE_BYTES // row_bytes))
        self.images = max(1, self.n if self.pointwise else _PIECE_BYTES // (row_bytes * oh))
        self.direct = direct.suited(self, itemsize)

    def pieces(self):
        for first in range(0, self.n, self.images):
            last = min(first + self.images, self.n)
            for top in range(0, self.out_size[0], self.rows):
                yield _Piece(first, last, top, min(top + self.rows, self.out_size[0]))

    def positions(self, piece):
        return (piece.last - piece.first) * (piece.bottom - piece.top) * self.out_size[1]

    def kernels(self, w):
        """w as matrices (G, O/G, K), the channels last in each patch."""
        return cupy.ascontiguousarray(w.transpose(0, 2, 3, 1)).reshape(self.groups, self.o // self.groups, self.k)

    def grouped(self, matrix):
        """(R, G A) seen as (G, R, A)."""
        rows, channels = matrix.shape
        return matrix.reshape(rows, self.groups, channels // self.groups).swapaxes(0, 1)

    def part(self, array, piece):
        """The rows of a piece in an array (N, oh, ow, A): (R, A)."""
        part = array[piece.first : piece.last, piece.top : piece.bottom]
        return part.reshape(self.positions(piece), array.shape[3])

    def room(self, dtype):
        """Memory for the columns of any piece."""
        images = 0 if self.pointwise else min(self.images, self.n)
        return cupy.empty(images * self.rows * self.out_size[1] * self.groups * self.k, dtype)

    def matrices(self, room, piece):
        """The room as (G, R, K)."""
        shape = self.groups, self.positions(piece), self.k
        return room[: prod(shape)].reshape(shape)

    def columns(self, images, piece, room):
        """The patches under the piece's outputs: (G, R, K)."""
        if self.pointwise:
            return self.grouped(self.part(images, piece))
        x, columns = images[piece.first : piece.last], self.matrices(room, piece)
        return chosen("im2col", columns.dtype)(x, columns, self._patches(piece))

    def add_columns(self, columns, into, piece):
        """Add the columns (G, R, K) of a piece to the elements of `into` (N, H, W, C) that they were taken from.

        A block of rows adds to what the block before it has written, and writes the rest as far as the next one begins.
        """
        (start, seen), (_, stop) = self._lines(piece.top), self._lines(piece.bottom)
        out = into[piece.first : piece.last]
        chosen("col2im", columns.dtype)(columns, out, self._patches(piece), start, stop - start, seen)

    def _patches(self, piece):
        (top, _), (left, _) = self.padding
        rows = self.positions(piece), piece.bottom - piece.top, self.out_size[1], piece.top
        geometry = *self.kernel, *self.stride, top, left, *self.dilation
        return Patches(*rows, *self.size, self.c, self.groups, *geometry)

    def _lines(self, row):
        """(the first input row that outputs from `row` on take, the input rows that outputs before it complete)."""
        height, before = self.size[0], self.padding[0][0]
        start = row * self.stride[0] - before
        reach = (self.kernel[0] - 1) * self.dilation[0] + 1 - self.stride[0]
        if row in (0, self.out_size[0]):
            return (0, 0) if row == 0 else (height, height)
        return min(max(start, 0), height), min(max(start, start + reach, 0), height)


_plan = lru_cache(_Plan)  # a training step meets the same few convolutions again and again
