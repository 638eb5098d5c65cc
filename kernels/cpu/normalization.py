"""Batch, layer and group normalisation with statistics in float64, and their adjoints.

Mean and variance come from one pass over the differences d from the first number: sum d² - (sum d)² / n,
wrong by n times the rounding of float64 at most, since that number is one of them. The rest is computed in the numbers'
own precision.
"""

from math import prod

import numpy as np

from . import workers
from .jit import compiles, inline
from .layout import floats, half_by_single
from .lines import away_from, batch_norm_backward_by_lines, batch_norm_by_lines, grain_of, moments
from .reduction import sum

_NEAR = 1 << 17  # numbers of some channels that stay in a core's cache from the first pass to the second
_SHORT = 32  # numbers of a plane that are too few for a loop
_ROWS = 64  # whose share in the gradients of weight and bias is summed in its own precision
_ITEMS, _PIECES = 16, 4  # the same for items of groups, at most; pieces that even few items are cut into


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
    if planes.shape[2] < _SHORT and compiles():
        batch_norm_by_lines(*arrays)
    else:
        _batch_norm(x.shape[1], *arrays, grain=grain_of(x.size, x.shape[1]))
    return out, mean, var, rstd


@half_by_single
def batch_norm_backward(g, x, weight, mean, rstd):
    """The adjoint of `batch_norm`: (gx, gweight, gbias)."""
    g, x, weight, mean, rstd = floats(g, x, weight, mean, rstd)
    gx, gweight, gbias = np.empty_like(x), np.empty_like(mean), np.empty_like(mean)
    scale = _or_full(weight, mean.shape, 1, x.dtype)
    planes = _planes(x)
    arrays = _planes(g), planes, scale, mean, rstd, _planes(gx), gweight, gbias
    if planes.shape[2] < _SHORT and compiles():
        batch_norm_backward_by_lines(*arrays)
    else:
        _batch_norm_backward(x.shape[1], *arrays, grain=grain_of(x.size, x.shape[1]))
    return gx, gweight, gbias


@half_by_single
def layer_norm(x, weight, bias, *, axes, eps):
    """(x - mean) rstd weight + bias with statistics over the last `axes` axes: (out, mean, rstd).

    rstd = 1 / sqrt(biased variance + eps); mean and rstd are of (items,).
    """
    x, weight, bias = floats(x, weight, bias)
    rows, out = _rows(x, axes), np.empty_like(x)
    mean, rstd = np.empty(len(rows), x.dtype), np.empty(len(rows), x.dtype)
    scale, shift = _row(weight, rows, 1), _row(bias, rows, 0)
    arrays = rows, scale, shift, eps, _rows(out, axes), mean, rstd
    _layer_norm(len(rows), *arrays, grain=grain_of(x.size, len(rows)))
    return out, mean, rstd


@half_by_single
def layer_norm_backward(g, x, weight, mean, rstd, *, axes):
    """The adjoint of `layer_norm`: (gx, gweight, gbias)."""
    g, x, weight, mean, rstd = floats(g, x, weight, mean, rstd)
    rows, gx = _rows(x, axes), np.empty_like(x)
    sums = np.empty((-(-len(rows) // _ROWS), 2, 1, rows.shape[1]), x.dtype)
    arrays = _rows(g, axes), rows, _row(weight, rows, 1), mean, rstd, _rows(gx, axes), sums, _ROWS
    _layer_norm_backward(len(sums), *arrays, grain=grain_of(x.size, len(sums)))
    total = sums[0] if len(sums) == 1 else sum(sums, 0)
    gweight, gbias = total.reshape(2, *x.shape[x.ndim - axes :])
    return gx, gweight.copy(), gbias.copy()


def _rows(x, axes):
    """Items over the last axes as rows."""
    return x if x.ndim == 2 and axes == 1 else x.reshape(prod(x.shape[:-axes]), prod(x.shape[-axes:]))


def _row(values, rows, default):
    """What each row is scaled by, or shifted: as one row."""
    return _or_full(values, rows.shape[1], default, rows.dtype).reshape(1, -1)


@half_by_single
def group_norm(x, weight, bias, *, groups, eps):
    """(x - mean) rstd weight + bias with statistics over each of `groups` groups of an item's channels.

    x (N, C, *d); weight, bias (C,) or None. Gives (out, mean, rstd): rstd = 1 / sqrt(biased variance + eps), and mean,
    of (N groups,).
    """
    x, weight, bias = floats(x, weight, bias)
    scale, shift = (_or_full(given, x.shape[1:2], value, x.dtype) for given, value in ((weight, 1), (bias, 0)))
    lying, out = _groups(x, groups), np.empty_like(x)
    mean, rstd = (np.empty(len(lying), x.dtype) for _ in range(2))
    results, grain = (out.reshape(lying.shape), mean, rstd), grain_of(x.size, len(lying))
    if lying.ndim == 2:
        _layer_norm(len(lying), lying, *(_lines(v, lying, groups) for v in (scale, shift)), eps, *results, grain=grain)
    else:
        _group_norm(len(lying), lying, scale, shift, eps, *results, grain=grain)
    return out, mean, rstd


@half_by_single
def group_norm_backward(g, x, weight, mean, rstd, *, groups):
    """The adjoint of `group_norm`: (gx, gweight, gbias)."""
    g, x, weight, mean, rstd = floats(g, x, weight, mean, rstd)
    scale, slopes, lying = _or_full(weight, x.shape[1:2], 1, x.dtype), _groups(g, groups), _groups(x, groups)
    gx = np.empty_like(x)
    arrays, into = (slopes, lying), gx.reshape(lying.shape)
    if lying.ndim == 2:
        items = max(1, min(_ITEMS, len(x) // _PIECES))
        sums = np.empty((-(-len(x) // items), 2, groups, lying.shape[1]), x.dtype)
        arrays = *arrays, _lines(scale, lying, groups), mean, rstd, into, sums, items * groups
        _layer_norm_backward(len(sums), *arrays, grain=grain_of(x.size, len(sums)))
        gweight, gbias = sum(sums.reshape(len(sums), 2, len(scale), prod(x.shape[2:])), (0, 3))
    else:
        sums = np.empty((len(lying), 2, lying.shape[1]))
        _group_norm_backward(len(lying), *arrays, scale, mean, rstd, into, sums, grain=grain_of(x.size, len(lying)))
        gweight, gbias = sums.reshape(len(x), groups, *sums.shape[1:]).sum(0).swapaxes(0, 1).reshape(2, -1)
    return gx, gweight.astype(x.dtype), gbias.astype(x.dtype)


def _groups(x, groups):
    """x (N, C, *d) as (N groups, channels of a group, numbers of a plane), or of short planes (N groups, numbers)."""
    channels, plane = x.shape[1] // groups, prod(x.shape[2:])
    return x.reshape(len(x) * groups, *((channels * plane,) if plane < _SHORT else (channels, plane)))


def _lines(values, lying, groups):
    """What is one number per channel for each of the numbers of a group: (groups, numbers)."""
    return np.repeat(values, groups * lying.shape[1] // max(1, len(values))).reshape(groups, lying.shape[1])


def _planes(x):
    return x.reshape(*x.shape[:2], prod(x.shape[2:]))


def _or_full(x, shape, value, dtype):
    return np.full(shape, value, dtype) if x is None else x


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
    out[part] = centred * scale * _of_groups(weight, first, last) + _of_groups(bias, first, last)


def _layer_norm_backward_numpy(g, x, weight, mean, rstd, gx, sums, rows, first, last):
    for piece in range(first, last):
        start, stop = rows * piece, min(rows * (piece + 1), len(x))
        part = slice(start, stop)
        normal = (x[part].astype(np.float64) - mean[part, None]) * rstd[part, None]
        for i, terms in enumerate((g[part] * normal, g[part])):
            sums[piece, i] = terms.reshape(-1, *weight.shape).sum(0)
        scaled = g[part] * _of_groups(weight, start, stop)
        shift, tilt = scaled.mean(1, np.float64, keepdims=True), (scaled * normal).mean(1, keepdims=True)
        gx[part] = (scaled - shift - normal * tilt) * rstd[part, None]


def _of_groups(values, first, last):
    """Of values for each of some groups, or one for all, those of the groups of items first … last."""
    return values[np.arange(first, last) % len(values)]


def _group_norm_numpy(x, weight, bias, eps, out, mean, rstd, first, last):
    part, channels = slice(first, last), (-1, x.shape[1], 1)
    scale, shift = (_of_groups(v.reshape(channels), first, last) for v in (weight, bias))
    average = x[part].mean((1, 2), np.float64, keepdims=True)
    centred = x[part] - average
    root = 1 / np.sqrt((centred * centred).mean((1, 2), keepdims=True) + eps)
    mean[part], rstd[part] = average[:, 0, 0], root[:, 0, 0]
    out[part] = centred * root * scale + shift


def _group_norm_backward_numpy(g, x, weight, mean, rstd, gx, sums, first, last):
    part, axes = slice(first, last), (1, 2)
    normal = (x[part].astype(np.float64) - mean[part, None, None]) * rstd[part, None, None]
    g = g[part]
    sums[part, 0], sums[part, 1] = (g * normal).sum(2), g.sum(2, np.float64)
    g = g * _of_groups(weight.reshape(-1, x.shape[1], 1), first, last)
    tilt = (g * normal).mean(axes, keepdims=True)
    gx[part] = (g - g.mean(axes, np.float64, keepdims=True) - normal * tilt) * rstd[part, None, None]


def _differences(row, start):
    """The sums of a row's differences from `start`, and of their squares."""
    total, square = 0.0, 0.0
    for j in range(len(row)):
        away = np.float64(row[j]) - start
        total += away
        square += away * away
    return total, square


inline(_differences, reassociate=True)


@workers.shared(_batch_norm_numpy, reassociate=True)
def _batch_norm(x, weight, bias, eps, out, mean, var, rstd, first, last):
    single, count = x.dtype.type, x.shape[0] * x.shape[2]
    step = max(1, _NEAR // max(1, count))
    sums, squares = np.empty(step), np.empty(step)
    for begin in range(first, last, step):
        end = min(begin + step, last)
        sums[:], squares[:] = 0, 0
        for n in range(len(x)):
            for c in range(begin, end):
                total, square = _differences(x[n, c], np.float64(x[0, c, 0]))
                sums[c - begin] += total
                squares[c - begin] += square
        for c in range(begin, end):
            start = np.float64(x[0, c, 0]) if count else 0.0
            average, spread = moments(start, sums[c - begin], squares[c - begin], count)
            root = 1 / np.sqrt(spread + eps)
            mean[c], var[c], rstd[c] = average, spread, root
            sums[c - begin], squares[c - begin] = average, root
        for n in range(len(x)):
            for c in range(begin, end):
                row, into, average, shift = x[n, c], out[n, c], sums[c - begin], bias[c]
                high, scale = single(average), single(weight[c] * squares[c - begin])
                low = single(average - high)
                for j in range(len(row)):
                    into[j] = away_from(row[j], high, low) * scale + shift


@workers.shared(_batch_norm_backward_numpy, reassociate=True)
def _batch_norm_backward(g, x, weight, mean, rstd, gx, gweight, gbias, first, last):
    single, count = x.dtype.type, x.shape[0] * x.shape[2]
    step = max(1, _NEAR // 2 // max(1, count))
    sums, products = np.empty(step), np.empty(step)
    for begin in range(first, last, step):
        end = min(begin + step, last)
        sums[:], products[:] = 0, 0
        for n in range(len(x)):
            for c in range(begin, end):
                row, slope, centre, total, along = x[n, c], g[n, c], mean[c], 0.0, 0.0
                for j in range(len(row)):
                    total += np.float64(slope[j])
                    along += np.float64(slope[j] * (row[j] - centre))
                sums[c - begin] += total
                products[c - begin] += along
        for c in range(begin, end):
            along = products[c - begin] * rstd[c]
            gweight[c], gbias[c] = along, sums[c - begin]
            sums[c - begin] /= count
            products[c - begin] = along * rstd[c] / count
        for n in range(len(x)):
            for c in range(begin, end):
                row, slope, into, centre, factor = x[n, c], g[n, c], gx[n, c], mean[c], weight[c] * rstd[c]
                shift, tilt = single(sums[c - begin]), single(products[c - begin])
                for j in range(len(row)):
                    into[j] = (slope[j] - shift - (row[j] - centre) * tilt) * factor


@workers.shared(_layer_norm_numpy, reassociate=True)
def _layer_norm(x, weight, bias, eps, out, mean, rstd, first, last):
    """Weight and bias are (groups, n), for rows in turn."""
    single, count, groups = x.dtype.type, x.shape[1], len(weight)
    for group in range(groups):
        factor, addend = weight[group], bias[group]
        for i in range(first + (group - first) % groups, last, groups):
            row, into, start = x[i], out[i], np.float64(x[i, 0]) if count else 0.0
            total, square = _differences(row, start)
            average, spread = moments(start, total, square, count)
            root = 1 / np.sqrt(spread + eps)
            mean[i], rstd[i] = average, root
            high, scale = single(average), single(root)
            low = single(average - high)
            for j in range(count):
                into[j] = away_from(row[j], high, low) * scale * factor[j] + addend[j]


@workers.shared(_layer_norm_backward_numpy, reassociate=True)
def _layer_norm_backward(g, x, weight, mean, rstd, gx, sums, rows, first, last):
    """`sums` (pieces, 2, groups, n): the share of every so many `rows` in the gradients of weight and bias."""
    single, count, groups = x.dtype.type, x.shape[1], len(weight)
    for place in range(groups * first, groups * last):
        piece, group = place // groups, place % groups
        along_rows, over_rows, factor = sums[piece, 0, group], sums[piece, 1, group], weight[group]
        along_rows[:], over_rows[:] = 0, 0
        for i in range(rows * piece + group, min(rows * (piece + 1), len(x)), groups):
            row, slope, into, centre, scale, along, total = x[i], g[i], gx[i], mean[i], rstd[i], 0.0, 0.0
            for j in range(count):
                normal = (row[j] - centre) * scale
                along_rows[j] += slope[j] * normal
                over_rows[j] += slope[j]
                scaled = slope[j] * factor[j]
                total += np.float64(scaled)
                along += np.float64(scaled * normal)
            shift, tilt = single(total / count), single(along / count)
            for j in range(count):
                normal = (row[j] - centre) * scale
                into[j] = (slope[j] * factor[j] - shift - normal * tilt) * scale


@workers.shared(_group_norm_numpy, reassociate=True)
def _group_norm(x, weight, bias, eps, out, mean, rstd, first, last):
    single, channels, count = x.dtype.type, x.shape[1], x.shape[1] * x.shape[2]
    for i in range(first, last):
        start = np.float64(x[i, 0, 0])
        total, square = _differences(x[i].reshape(-1), start)
        average, spread = moments(start, total, square, count)
        root = 1 / np.sqrt(spread + eps)
        mean[i], rstd[i] = average, root
        high = single(average)
        low, own = single(average - high), i * channels % len(weight)
        for c in range(channels):
            row, into, scale, shift = x[i, c], out[i, c], single(weight[own + c] * root), bias[own + c]
            for j in range(len(row)):
                into[j] = away_from(row[j], high, low) * scale + shift


@workers.shared(_group_norm_backward_numpy, reassociate=True)
def _group_norm_backward(g, x, weight, mean, rstd, gx, sums, first, last):
    """`sums` (groups, 2, channels) has a place for each plane's share in the gradients of weight and bias."""
    single, channels, count = x.dtype.type, x.shape[1], x.shape[1] * x.shape[2]
    for i in range(first, last):
        centre, root, own, shift, tilt = mean[i], rstd[i], i * channels % len(weight), 0.0, 0.0
        for c in range(channels):
            row, slope, total, along = x[i, c], g[i, c], 0.0, 0.0
            for j in range(len(row)):
                total += np.float64(slope[j])
                along += np.float64(slope[j] * (row[j] - centre))
            along *= root
            sums[i, 0, c], sums[i, 1, c] = along, total
            shift += total * weight[own + c]
            tilt += along * weight[own + c]
        less, turn = single(shift / count), single(tilt * root / count)
        for c in range(channels):
            row, slope, into, scale = x[i, c], g[i, c], gx[i, c], weight[own + c]
            for j in range(len(row)):
                into[j] = (slope[j] * scale - less - (row[j] - centre) * turn) * root
