"""Batch and layer normalisation with statistics from one reading, and their adjoints."""

from math import prod

import cupy
import numpy as np

from . import runtime
from .reduction import sum

_ROWS = 64  # rows whose part of the weight's gradient one thread adds
_CHUNK = 8192  # elements of a channel that one warp adds


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
    _each(channels, "batch_norm_finish", x, (x, parts, mean, var, rstd, channels, plane, chunks, float(count), float(eps)))
    _each(x.size, "batch_norm", x, (x, weight, bias, mean, rstd, out, x.size, channels, plane))
    return out, mean, var, rstd


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


def layer_norm(x, weight, bias, *, axes, eps):
    """(x - mean) rstd weight + bias with statistics over the last `axes` axes: (out, mean, rstd).

    rstd = 1 / sqrt(biased variance + eps); mean and rstd keep the reduced axes with size 1. Floor: 2 e |x| bytes.
    """
    x, weight, bias = _dense(x.dtype, x, weight, bias)
    rows, n, kept = _rows(x, axes)
    out, mean, rstd = (cupy.empty(shape, x.dtype) for shape in (x.shape, kept, kept))
    if n:
        arguments = (x, weight, bias, out, mean, rstd, rows, n, float(eps))
        runtime.launch_rows("normalization", "layer_norm", x.dtype, rows, runtime.team(n), arguments)
    return out, mean, rstd


def layer_norm_backward(g, x, weight, mean, rstd, *, axes):
    """The adjoint of `layer_norm`: (gx, gweight, gbias). Floor: 3 e |x| bytes."""
    g, x, weight, mean, rstd = _dense(x.dtype, g, x, weight, mean, rstd)
    rows, n, _ = _rows(x, axes)
    gx, chunks = cupy.empty(x.shape, x.dtype), -(-rows // _ROWS)
    arguments = (g, x, weight, mean, rstd, gx, rows, n)
    runtime.launch_rows("normalization", "layer_norm_backward", x.dtype, rows, runtime.team(n), arguments)
    parts = cupy.empty((chunks, 2, *x.shape[-axes:]), _wide(x))
    _each(chunks * n, "layer_norm_parts", x, (g, x, mean, rstd, parts, rows, n, _ROWS))
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
    """(rows, their length, the shape of what is one number per row)."""
    return prod(x.shape[:-axes]), prod(x.shape[-axes:]), (*x.shape[:-axes], *(1,) * axes)


def _parts(g, x, mean):
    batch, channels, plane, count = _planes(x)
    chunks = -(-count // _CHUNK)
    parts = cupy.empty((channels, chunks, 2), _wide(x))
    _each(channels * chunks * 32, "batch_norm_parts", x, (g, x, mean, parts, batch, channels, plane, _CHUNK))
    return parts, chunks


def _each(threads, name, x, arguments):
    runtime.launch("normalization", name, x.dtype, runtime.blocks(threads), 256, arguments, TEAM=1)
