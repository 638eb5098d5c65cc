"""Batch and layer normalisation with statistics from one reading, and their adjoints."""

from math import prod

import cupy
import numpy as np

from ..registry import implementation
from . import rows, runtime
from .reduction import sum

_TEAMS = 1 << 12  # that share the rows of a backward pass: each has its part of the weight's gradient
_CHUNK = 8192  # elements of a channel that one warp adds


@implementation("batch_norm", "cuda", floor=lambda x, *rest, **settings: (3 * x.nbytes, 8 * x.size))
def batch_norm(x, weight, bias, *, eps):
    """(x - mean) rstd weight + bias per channel, with statistics over all axes but 1: (out, mean, var, rstd).

    x (N, C, *d); weight, bias (C,) or None; mean, var (biased) and rstd = 1 / sqrt(var + eps) are (C,).
    Floor: 3 e N C |d| bytes (2 where x stays in the cache).
    """
    x, weight, bias = _dense(x.dtype, x, weight, bias)
    batch, channels, plane, count = _planes(x)
    out, (mean, var, rstd) = cupy.empty(x.shape, x.dtype), (cupy.empty(channels, x.dtype) for _ in range(3))
    if not count:
        mean[...] = var[...] = rstd[...] = np.nan
        return out, mean, var, rstd
    parts, chunks = _parts(None, x, None)
    _each(
        channels, "batch_norm_finish", x, (x, parts, mean, var, rstd, channels, plane, chunks, float(count), float(eps))
    )
    _each(x.size, "batch_norm", x, (x, weight, bias, mean, rstd, out, x.size, channels, plane))
    return out, mean, var, rstd


@implementation("batch_norm_backward", "cuda", floor=lambda g, *rest: (5 * g.nbytes, 14 * g.size))
def batch_norm_backward(g, x, weight, mean, rstd):
    """The adjoint of `batch_norm`: (gx, gweight, gbias). Floor: 5 e N C |d| bytes."""
    g, x, weight, mean, rstd = _dense(x.dtype, g, x, weight, mean, rstd)
    _, channels, plane, count = _planes(x)
    gx, gweight, gbias = cupy.empty(x.shape, x.dtype), cupy.zeros(channels, x.dtype), cupy.zeros(channels, x.dtype)
    if count:
        parts, chunks = _parts(g, x, mean)
        _each(channels, "batch_norm_gradients", x, (parts, rstd, gweight, gbias, channels, chunks))
        arguments = (g, x, weight, mean, rstd, gweight, gbias, gx, x.size, channels, plane, float(count))
        _each(x.size, "batch_norm_backward", x, arguments)
    return gx, gweight, gbias


@implementation("layer_norm", "cuda", floor=lambda x, *rest, **settings: (2 * x.nbytes, 8 * x.size))
def layer_norm(x, weight, bias, *, axes, eps):
    """(x - mean) rstd weight + bias with statistics over the last `axes` axes: (out, mean, rstd).

    rstd = 1 / sqrt(biased variance + eps); mean and rstd keep the reduced axes with size 1. Floor: 2 e |x| bytes.
    """
    x, weight, bias = _dense(x.dtype, x, weight, bias)
    sizes, kept = _rows(x, axes)
    out, mean, rstd = (cupy.empty(shape, x.dtype) for shape in (x.shape, kept, kept))
    if x.size:
        arrays = x, weight, bias, out
        rows.launch("layer_norm", "layer_norm", x.dtype, sizes, arrays, (mean, rstd), (float(eps),), alone=False)
    return out, mean, rstd


@implementation("layer_norm_backward", "cuda", floor=lambda g, *rest, **settings: (3 * g.nbytes, 14 * g.size))
def layer_norm_backward(g, x, weight, mean, rstd, *, axes):
    """The adjoint of `layer_norm`: (gx, gweight, gbias). Floor: 3 e |x| bytes."""
    g, x, weight, mean, rstd = _dense(x.dtype, g, x, weight, mean, rstd)
    sizes, over = _rows(x, axes)[0], x.shape[x.ndim - axes :]
    gx = cupy.empty(x.shape, x.dtype)
    parts = cupy.zeros((0, 2, *over), np.float64 if x.dtype == np.float64 else np.float32)
    if x.size:
        parts = cupy.empty((min(sizes[0], _TEAMS), 2, *over), parts.dtype)
        arrays, others = (g, x, weight, gx, parts), (mean, rstd)
        rows.launch("layer_norm", "layer_norm_backward", x.dtype, sizes, arrays, others, most_teams=_TEAMS, alone=False)
    gweight, gbias = sum(parts, 0).astype(x.dtype)
    return gx, gweight, gbias


def _dense(dtype, *arrays):
    return [None if a is None else cupy.ascontiguousarray(a, dtype) for a in arrays]


def _wide(x):
    """What the kernels add statistics in."""
    return np.float32 if x.dtype.itemsize == 2 else np.float64


def _planes(x):
    """(batch, channels, plane, elements of a channel)."""
    plane = prod(x.shape[2:])
    return x.shape[0], x.shape[1], plane, x.shape[0] * plane


def _rows(x, axes):
    """((rows, their length, 1), the shape of what is one number per row)."""
    return (prod(x.shape[:-axes]), prod(x.shape[-axes:]), 1), (*x.shape[:-axes], *(1,) * axes)


def _parts(g, x, mean):
    batch, channels, plane, count = _planes(x)
    chunks = -(-count // _CHUNK)
    parts = cupy.empty((channels, chunks, 2), _wide(x))
    _each(channels * chunks * 32, "batch_norm_parts", x, (g, x, mean, parts, batch, channels, plane, _CHUNK))
    return parts, chunks


def _each(threads, name, x, arguments):
    runtime.launch("normalization", name, x.dtype, runtime.blocks(threads), 256, arguments)
