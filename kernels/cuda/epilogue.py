"""What follows a product in one pass: an activation and windows side by side; and their adjoint."""

from math import prod

import cupy
import numpy as np

from ..registry import implementation
from . import pointwise, runtime
from .pooling import lines
from .reduction import sum

_NUMBERS = {"": 0, "relu": 1, "tanh": 2, "sigmoid": 3}
_BACKWARD = {
    "relu": pointwise.relu_backward,
    "tanh": pointwise.tanh_backward,
    "sigmoid": pointwise.sigmoid_backward,
}
_ACROSS, _DOWN = 8, 64  # of a block of `rows`
_FEW_ROWS = 1024  # up to which a block's walk down them costs less than a second launch


def number(activation):
    """By which a kernel knows an activation; "" is none."""
    return np.int32(_NUMBERS[activation])


def activate(x, activation):
    """x, dense in any order of its axes, through an activation ("" for none) in place; gives x."""
    if activation:
        grid = runtime.blocks(x.size, per_thread=16 // x.itemsize)
        runtime.launch("epilogue", "activate", x.dtype, grid, 256, (x, x.size, number(activation)))
    return x


def pooled(x, activation, pool):
    """x (N, O, H, W), which may be written to, through an activation and a pooling or None: (out, saved)."""
    if pool is None:
        return activate(x, activation), None
    kind, kh, kw = pool
    x = cupy.ascontiguousarray(x)
    out, saved = rooms(x.shape, x.dtype, pool, x)
    arrays = (x, out, saved) if kind == "max" else (x, out)
    name = "largest" if kind == "max" else "mean"
    runtime.launch("epilogue", name, x.dtype, *lines(out), (*arrays, *_sizes(x, out, kh, kw), number(activation)))
    return out, saved


def rooms(shape, dtype, pool, whole=None):
    """Room for what a pooling of (N, O, H, W) gives and for what it saves: places (uint8), or what is averaged."""
    kind, kh, kw = pool
    out = cupy.empty((*shape[:2], shape[2] // kh, shape[3] // kw), dtype)
    if kind == "max":
        return out, cupy.empty(out.shape, np.uint8)
    return out, cupy.empty(shape, dtype) if whole is None else whole


def _rows_floor(g, out, *, activation, bias):
    return 3 * g.nbytes + bias * g.shape[1] * g.itemsize, 3 * g.size


@implementation("act_backward", "cuda", floor=_rows_floor)
def act_backward(g, out, *, activation, bias):
    """The adjoint of an activation from its result, of matrices (M, N), and with `bias` its sums over the rows (N).

    Floor: 3 e M N bytes.
    """
    if not bias or not 0 < len(g) <= _FEW_ROWS:
        before = _BACKWARD[activation](g, out)
        return before, sum(before, 0) if bias else None
    g, out = cupy.ascontiguousarray(g), cupy.ascontiguousarray(out)
    (m, n), into = g.shape, cupy.empty(g.shape, g.dtype)
    sums = cupy.empty(n, g.dtype)
    arguments = g, out, into, sums, m, n, number(activation)
    runtime.launch("epilogue", "rows", g.dtype, -(-n // _ACROSS), (_ACROSS, _DOWN), arguments)
    return into, sums


def _planes_floor(g, out, saved, *, activation, pool, size):
    read = g.nbytes + (saved.nbytes if pool else 0) + (0 if pool and pool[0] == "avg" else out.nbytes)
    return read + prod(g.shape[:2]) * prod(size) * g.itemsize, prod(g.shape[:2]) * prod(size)


@implementation("act_pool_backward", "cuda", layout="NCHW", floor=_planes_floor)
def act_pool_backward(g, out, saved, *, activation, pool, size):
    """The adjoint of an activation and a pooling, from their result `out` and what was saved.

    g and out (N, O, ph, pw), -> (N, O, *size). Floor: e (|g| + |result|) bytes, and what was saved.
    """
    if pool is None:
        return _BACKWARD[activation](g, out)
    kind, kh, kw = pool
    g, saved = cupy.ascontiguousarray(g), cupy.ascontiguousarray(saved)
    into = cupy.empty((*g.shape[:2], *size), g.dtype)
    arrays = (g, cupy.ascontiguousarray(out), saved, into) if kind == "max" else (g, saved, into)
    name = "to_largest" if kind == "max" else "to_all"
    runtime.launch("epilogue", name, g.dtype, *lines(into), (*arrays, *_sizes(into, g, kh, kw), number(activation)))
    return into


def _sizes(whole, tiled, kh, kw):
    """planes, H, W, oh, ow, kh, kw for a kernel."""
    return whole.shape[0] * whole.shape[1], *map(np.int32, (*whole.shape[2:], *tiled.shape[2:], kh, kw))
