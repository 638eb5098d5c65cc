"""Batch and layer normalisation with statistics by two passes in float64, and their adjoints."""

from math import prod

import numpy as np

from . import workers
from .jit import jit
from .layout import floats, half_by_single

_GRAIN = 50_000  # elements that outlast handing a slice to a worker


@half_by_single
def batch_norm(x, weight, bias, *, eps):
    """(x - mean) rstd weight + bias per channel, with statistics over all axes but 1: (out, mean, var, rstd).

    x (N, C, *d); weight, bias (C,) or None; mean, var (biased) and rstd = 1 / sqrt(var + eps) are (C,).
    """
    x, weight, bias = floats(x, weight, bias)
    planes, out = _planes(x), np.empty_like(x)
    mean, var, rstd = (np.empty(x.shape[1], x.dtype) for _ in range(3))
    scale, shift = _or_full(weight, mean.shape, 1, x.dtype), _or_full(bias, mean.shape, 0, x.dtype)
    arrays = planes, scale, shift, eps, _planes(out), mean, var, rstd
    _share(x.size, x.shape[1], lambda a, b: _batch_norm(*arrays, a, b))
    return out, mean, var, rstd


@half_by_single
def batch_norm_backward(g, x, weight, mean, rstd):
    """The adjoint of `batch_norm`: (gx, gweight, gbias)."""
    g, x, weight, mean, rstd = floats(g, x, weight, mean, rstd)
    gx, gweight, gbias = np.empty_like(x), np.empty_like(mean), np.empty_like(mean)
    scale = _or_full(weight, mean.shape, 1, x.dtype)
    arrays = _planes(g), _planes(x), scale, mean, rstd, _planes(gx), gweight, gbias
    _share(x.size, x.shape[1], lambda a, b: _batch_norm_backward(*arrays, a, b))
    return gx, gweight, gbias


@half_by_single
def layer_norm(x, weight, bias, *, axes, eps):
    """(x - mean) rstd weight + bias with statistics over the last `axes` axes: (out, mean, rstd).

    rstd = 1 / sqrt(biased variance + eps); mean and rstd keep the reduced axes with size 1.
    """
    x, weight, bias = floats(x, weight, bias)
    kept, over = x.shape[:-axes], x.shape[-axes:]
    rows, out = x.reshape(prod(kept), prod(over)), np.empty_like(x)
    mean, rstd = (np.empty((*kept, *(1,) * axes), x.dtype) for _ in range(2))
    scale, shift = _or_full(weight, over, 1, x.dtype).reshape(-1), _or_full(bias, over, 0, x.dtype).reshape(-1)
    arrays = rows, scale, shift, eps, out.reshape(rows.shape), mean.reshape(-1), rstd.reshape(-1)
    _share(x.size, len(rows), lambda a, b: _layer_norm(*arrays, a, b))
    return out, mean, rstd


@half_by_single
def layer_norm_backward(g, x, weight, mean, rstd, *, axes):
    """The adjoint of `layer_norm`: (gx, gweight, gbias)."""
    g, x, weight, mean, rstd = floats(g, x, weight, mean, rstd)
    kept, over = x.shape[:-axes], x.shape[-axes:]
    shape, gx, sums = (prod(kept), prod(over)), np.empty_like(x), {}
    scale = _or_full(weight, over, 1, x.dtype).reshape(-1)
    arrays = g.reshape(shape), x.reshape(shape), scale, mean.reshape(-1), rstd.reshape(-1), gx.reshape(shape)

    def task(a, b):
        sums[a] = np.zeros((2, shape[1]))
        _layer_norm_backward(*arrays, *sums[a], a, b)

    _share(x.size, shape[0], task)
    total = np.zeros((2, *over))
    for start in sorted(sums):  # a fixed order, whoever finished first
        total += sums[start].reshape(total.shape)
    gweight, gbias = total.astype(x.dtype)
    return gx, gweight.copy(), gbias.copy()


def _planes(x):
    return x.reshape(*x.shape[:2], prod(x.shape[2:]))


def _or_full(x, shape, value, dtype):
    return np.full(shape, value, dtype) if x is None else x


def _share(size, n, task):
    workers.run(task, n, grain=-(-_GRAIN * n // max(size, 1)))


def _batch_norm_numpy(x, weight, bias, eps, out, mean, var, rstd, first, last):
    part = slice(first, last)
    average = x[:, part].mean((0, 2), np.float64, keepdims=True)
    centred = x[:, part] - average
    square = (centred * centred).mean((0, 2), keepdims=True)
    mean[part], var[part] = average.reshape(-1), square.reshape(-1)
    rstd[part] = 1 / np.sqrt(square + eps).reshape(-1)
    scale = weight[part, None] / np.sqrt(square + eps)
    out[:, part] = centred * scale + bias[part, None]


def _batch_norm_backward_numpy(g, x, weight, mean, rstd, gx, gweight, gbias, first, last):
    part, axes = slice(first, last), (0, 2)
    normal = (x[:, part].astype(np.float64) - mean[part, None]) * rstd[part, None]
    g = g[:, part]
    along, total = (g * normal).sum(axes), g.sum(axes, np.float64)
    gweight[part], gbias[part] = along, total
    count = max(1, g.shape[0] * g.shape[2])
    gx[:, part] = (g - (total[:, None] + normal * along[:, None]) / count) * (weight * rstd)[part, None]


def _layer_norm_numpy(x, weight, bias, eps, out, mean, rstd, first, last):
    part = slice(first, last)
    average = x[part].mean(1, np.float64, keepdims=True)
    centred = x[part] - average
    scale = 1 / np.sqrt((centred * centred).mean(1, keepdims=True) + eps)
    mean[part], rstd[part] = average[:, 0], scale[:, 0]
    out[part] = centred * scale * weight + bias


def _layer_norm_backward_numpy(g, x, weight, mean, rstd, gx, gweight, gbias, first, last):
    part = slice(first, last)
    normal = (x[part].astype(np.float64) - mean[part, None]) * rstd[part, None]
    gweight += (g[part] * normal).sum(0)
    gbias += g[part].sum(0, np.float64)
    scaled = g[part] * weight
    shift, tilt = scaled.mean(1, np.float64, keepdims=True), (scaled * normal).mean(1, keepdims=True)
    gx[part] = (scaled - shift - normal * tilt) * rstd[part, None]


@jit(_batch_norm_numpy, reassociate=True)
def _batch_norm(x, weight, bias, eps, out, mean, var, rstd, first, last):
    count = x.shape[0] * x.shape[2]
    for c in range(first, last):
        total = 0.0
        for n in range(len(x)):
            row = x[n, c]
            for j in range(len(row)):
                total += np.float64(row[j])
        average, total = total / count, 0.0
        for n in range(len(x)):
            row = x[n, c]
            for j in range(len(row)):
                away = np.float64(row[j]) - average
                total += away * away
        mean[c], var[c] = average, total / count
        rstd[c] = 1 / np.sqrt(total / count + eps)
        scale = weight[c] / np.sqrt(total / count + eps)
        for n in range(len(x)):
            row, into = x[n, c], out[n, c]
            for j in range(len(row)):
                into[j] = (row[j] - average) * scale + bias[c]


@jit(_batch_norm_backward_numpy, reassociate=True)
def _batch_norm_backward(g, x, weight, mean, rstd, gx, gweight, gbias, first, last):
    count = g.shape[0] * g.shape[2]
    for c in range(first, last):
        centre, scale, along, total = np.float64(mean[c]), np.float64(rstd[c]), 0.0, 0.0
        for n in range(len(x)):
            row, slope = x[n, c], g[n, c]
            for j in range(len(row)):
                total += np.float64(slope[j])
                along += slope[j] * (row[j] - centre)
        along *= scale
        gweight[c], gbias[c] = along, total
        shift, tilt, factor = total / count, along * scale / count, weight[c] * scale
        for n in range(len(x)):
            row, slope, into = x[n, c], g[n, c], gx[n, c]
            for j in range(len(row)):
                into[j] = (slope[j] - shift - (row[j] - centre) * tilt) * factor


@jit(_layer_norm_numpy, reassociate=True)
def _layer_norm(x, weight, bias, eps, out, mean, rstd, first, last):
    for i in range(first, last):
        row, into, total = x[i], out[i], 0.0
        for j in range(len(row)):
            total += np.float64(row[j])
        average, total = total / len(row), 0.0
        for j in range(len(row)):
            away = np.float64(row[j]) - average
            total += away * away
        scale = 1 / np.sqrt(total / len(row) + eps)
        mean[i], rstd[i] = average, scale
        for j in range(len(row)):
            into[j] = (row[j] - average) * scale * weight[j] + bias[j]


@jit(_layer_norm_backward_numpy, reassociate=True)
def _layer_norm_backward(g, x, weight, mean, rstd, gx, gweight, gbias, first, last):
    for i in range(first, last):
        row, slope, into = x[i], g[i], gx[i]
        centre, scale, along, total = np.float64(mean[i]), np.float64(rstd[i]), 0.0, 0.0
        for j in range(len(row)):
            normal = (row[j] - centre) * scale
            gweight[j] += slope[j] * normal
            gbias[j] += slope[j]
            scaled = slope[j] * np.float64(weight[j])
            total += scaled
            along += scaled * normal
        shift, tilt = total / len(row), along / len(row)
        for j in range(len(row)):
            normal = (row[j] - centre) * scale
            into[j] = (slope[j] * weight[j] - shift - normal * tilt) * scale
