"""Batch, layer and group normalisation with statistics from one reading, and their adjoints."""

from math import prod

import cupy
import numpy as np

from ..registry import implementation
from . import rows, runtime
from .pointwise import scale_shift
from .reduction import sum

_TEAMS = 1 << 12  # that share the rows of a backward pass: each has its part of the weight's gradient
_BLOCK, _BLOCKS = 256, 1 << 10  # threads of a block, and blocks that keep a GPU busy
_PIECES, _CHUNKS = 8, 128  # that a thread takes at least, and into which a channel is cut at most


@implementation("batch_norm", "cuda", floor=lambda x, *rest, **settings: (3 * x.nbytes, 8 * x.size))
def batch_norm(x, weight, bias, *, eps):
    """(x - mean) rstd weight + bias per channel, with statistics over all axes but 1: (out, mean, var, rstd).

    x (N, C, *d); weight, bias (C,) or None; mean, var (biased) and rstd = 1 / sqrt(var + eps) are (C,).
    Floor: 3 e N C |d| bytes (2 where x stays in the cache).
    """
    x, weight, bias = _dense(x.dtype, x, weight, bias)
    out, (mean, var, rstd) = cupy.empty(x.shape, x.dtype), (cupy.full(x.shape[1], np.nan, x.dtype) for _ in range(3))
    if x.size:
        share = _Channels(x, out)
        share.launch("moments", x, share.parts)
        share.launch("batch_norm", x, weight, bias, share.parts, mean, var, rstd, out, numbers=(np.float64(eps),))
    return out, mean, var, rstd


@implementation("batch_norm_backward", "cuda", floor=lambda g, *rest: (5 * g.nbytes, 14 * g.size))
def batch_norm_backward(g, x, weight, mean, rstd):
    """The adjoint of `batch_norm`: (gx, gweight, gbias). Floor: 5 e N C |d| bytes."""
    g, x, weight, mean, rstd = _dense(x.dtype, g, x, weight, mean, rstd)
    gx, gweight, gbias = cupy.empty(x.shape, x.dtype), cupy.zeros(x.shape[1], x.dtype), cupy.zeros(x.shape[1], x.dtype)
    if x.size:
        share = _Channels(x, g, gx)
        share.launch("slopes", g, x, mean, share.parts)
        share.launch("batch_norm_backward", g, x, weight, mean, rstd, share.parts, gweight, gbias, gx)
    return gx, gweight, gbias


class _Channels:
    """How the channels of x (N, C, *d) and arrays of its shape are shared out among blocks."""

    def __init__(self, x, *others):
        channels, plane, width = x.shape[1], prod(x.shape[2:]), 16 // x.itemsize
        wide = not (plane % width or any(a.data.ptr % 16 for a in (x, *others)))
        lanes, plane = 32 if plane == 1 else 1, plane // (width if wide else 1)
        count, groups = x.shape[0] * plane, -(-channels // lanes)
        chunks = max(1, min(_BLOCKS // groups, count * lanes // (_BLOCK * _PIECES), _CHUNKS))
        chunk = -(-count // chunks)
        self.dtype, self.grid, self.sizes = x.dtype, (groups, -(-count // chunk)), (count, channels, plane, chunk)
        self.macros = {"LANES": lanes, "WIDE": int(wide)}
        self.parts = cupy.empty((channels, self.grid[1], 2), np.float32 if x.itemsize == 2 else np.float64)

    def launch(self, name, *arrays, numbers=()):
        arguments = (*arrays, *self.sizes, *numbers)
        runtime.launch("normalization", name, self.dtype, self.grid, _BLOCK, arguments, **self.macros)


@implementation("layer_norm", "cuda", floor=lambda x, *rest, **settings: (2 * x.nbytes, 8 * x.size))
def layer_norm(x, weight, bias, *, axes, eps):
    """(x - mean) rstd weight + bias with statistics over the last `axes` axes: (out, mean, rstd).

    rstd = 1 / sqrt(biased variance + eps); mean and rstd are of (items,). Floor: 2 e |x| bytes.
    """
    x, weight, bias = _dense(x.dtype, x, weight, bias)
    sizes = _rows(x, axes)
    out, mean, rstd = (cupy.empty(shape, x.dtype) for shape in (x.shape, sizes[0], sizes[0]))
    if x.size:
        arrays = x, weight, bias, out
        rows.launch("layer_norm", "layer_norm", x.dtype, sizes, arrays, (mean, rstd), (float(eps),), teams=sizes[0])
    return out, mean, rstd


@implementation("layer_norm_backward", "cuda", floor=lambda g, *rest, **settings: (3 * g.nbytes, 14 * g.size))
def layer_norm_backward(g, x, weight, mean, rstd, *, axes):
    """The adjoint of `layer_norm`: (gx, gweight, gbias). Floor: 3 e |x| bytes."""
    g, x, weight, mean, rstd = _dense(x.dtype, g, x, weight, mean, rstd)
    sizes, over = _rows(x, axes), x.shape[x.ndim - axes :]
    gx, teams = cupy.empty(x.shape, x.dtype), min(sizes[0], _TEAMS)
    parts = cupy.empty((teams, 2, *over), np.float64 if x.dtype == np.float64 else np.float32)
    if x.size:
        arrays, others = (g, x, weight, gx, parts), (mean, rstd)
        rows.launch("layer_norm", "layer_norm_backward", x.dtype, sizes, arrays, others, (teams,), teams=teams)
    gweight, gbias = sum(parts, 0).astype(x.dtype)
    return gx, gweight, gbias


@implementation("group_norm", "cuda", floor=lambda x, *rest, **settings: (2 * x.nbytes, 8 * x.size))
def group_norm(x, weight, bias, *, groups, eps):
    """(x - mean) rstd weight + bias with statistics over each of `groups` groups of an item's channels.

    x (N, C, *d); weight, bias (C,) or None. Gives (out, mean, rstd): rstd = 1 / sqrt(biased variance + eps), and mean,
    of (N groups,). Batch norm's kernel for the groups as channels of one image, then CuPy's. Floor: 2 e |x| bytes.
    """
    normal, mean, _, rstd = batch_norm(_as_channels(x, groups), None, None, eps=eps)
    scale, shift = _of_channels(x, weight), _of_channels(x, bias)
    out = normal.reshape(x.shape)
    if weight is not None and bias is not None:
        out = scale_shift(out, scale, shift)
    elif weight is not None or bias is not None:
        out = out + shift if weight is None else out * scale
    return out, mean, rstd


@implementation("group_norm_backward", "cuda", floor=lambda g, *rest, **settings: (3 * g.nbytes, 14 * g.size))
def group_norm_backward(g, x, weight, mean, rstd, *, groups):
    """The adjoint of `group_norm`: (gx, gweight, gbias). Floor: 3 e |x| bytes."""
    scaled, planes = g if weight is None else g * _of_channels(x, weight), _as_channels(x, groups)
    gx, _, _ = batch_norm_backward(_as_channels(scaled, groups), planes, None, mean, rstd)
    normal = ((planes - mean[:, None]) * rstd[:, None]).reshape(x.shape)
    axes = (0, *range(2, x.ndim))
    return gx.reshape(x.shape), sum(g * normal, axes), sum(g, axes)


def _as_channels(x, groups):
    """The groups of all items as the channels of one image."""
    return x.reshape(1, x.shape[0] * groups, prod(x.shape[1:]) // groups)


def _of_channels(x, values):
    return None if values is None else values.astype(x.dtype, copy=False).reshape(-1, *[1] * (x.ndim - 2))


def _dense(dtype, *arrays):
    return [None if a is None else cupy.ascontiguousarray(a, dtype) for a in arrays]


def _rows(x, axes):
    """(rows, their length, 1)."""
    return prod(x.shape[:-axes]), prod(x.shape[-axes:]), 1
