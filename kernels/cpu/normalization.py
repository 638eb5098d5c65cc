"""Batch and layer normalisation with statistics by two passes, and their adjoints."""

import math

import numpy as np

from .layout import floats, half_by_single
from .reduction import sum as accurate_sum


@half_by_single
def batch_norm(x, weight, bias, *, eps):
    """(x - mean) rstd weight + bias per channel (axis 1): (out, mean, var, rstd), var biased, rstd = 1 / sqrt(var + eps).

    x (N, C, *d); weight, bias (C,) or None; mean, var, rstd (C,).
    """
    x, weight, bias = floats(x, weight, bias)
    axes, count = _others(x.ndim), max(1, x.size // max(1, x.shape[1]))
    mean = accurate_sum(x, axes) / count
    out = x - _spread(mean, x.ndim)
    var = accurate_sum(out * out, axes) / count
    rstd = 1 / np.sqrt(var + x.dtype.type(eps))
    out *= _spread(rstd if weight is None else rstd * weight, x.ndim)
    if bias is not None:
        out += _spread(bias, x.ndim)
    return out, mean, var, rstd


@half_by_single
def batch_norm_backward(g, x, weight, mean, rstd):
    """The adjoint of `batch_norm` in training: (gx, gweight, gbias)."""
    g, x, weight, mean, rstd = floats(g, x, weight, mean, rstd)
    axes, count = _others(x.ndim), max(1, x.size // max(1, x.shape[1]))
    normal = (x - _spread(mean, x.ndim)) * _spread(rstd, x.ndim)
    gbias, gweight = accurate_sum(g, axes), accurate_sum(g * normal, axes)
    scale = rstd if weight is None else rstd * weight
    normal *= _spread(gweight / count, x.ndim)
    gx = g - _spread(gbias / count, x.ndim)
    gx -= normal
    gx *= _spread(scale, x.ndim)
    return gx, gweight, gbias


@half_by_single
def layer_norm(x, weight, bias, *, axes, eps):
    """(x - mean) rstd weight + bias over the last `axes` axes: (out, mean, rstd), rstd = 1 / sqrt(var + eps)."""
    x, weight, bias = floats(x, weight, bias)
    over = tuple(range(-axes, 0))
    count = max(1, math.prod(x.shape[-axes:]))
    mean = accurate_sum(x, over, True) / count
    out = x - mean
    rstd = 1 / np.sqrt(accurate_sum(out * out, over, True) / count + x.dtype.type(eps))
    out *= rstd
    if weight is not None:
        out *= weight
    if bias is not None:
        out += bias
    return out, mean, rstd


@half_by_single
def layer_norm_backward(g, x, weight, mean, rstd, *, axes):
    """The adjoint of `layer_norm`: (gx, gweight, gbias)."""
    g, x, weight, mean, rstd = floats(g, x, weight, mean, rstd)
    over, rest = tuple(range(-axes, 0)), tuple(range(x.ndim - axes))
    count = max(1, math.prod(x.shape[-axes:]))
    normal = (x - mean) * rstd
    gweight, gbias = accurate_sum(g * normal, rest), accurate_sum(g, rest)
    gx = g if weight is None else g * weight
    shift, tilt = accurate_sum(gx, over, True) / count, accurate_sum(gx * normal, over, True) / count
    return (gx - shift - normal * tilt) * rstd, gweight, gbias


def _others(ndim):
    return (0, *range(2, ndim))


def _spread(channels, ndim):
    return channels.reshape(1, -1, *(1,) * (ndim - 2))
