"""Softmax and its logarithm, and the cross entropy built on them: shifted by the maximum, so nothing overflows.

The loops see rows (m, C); other axes are moved out of the way first.
"""

import math
from math import prod

import numpy as np

from . import workers
from .exponential import exp
from .jit import jit
from .layout import compact, floats, half_by_single

_GRAIN = 20_000  # elements that outlast handing a slice to a worker


@half_by_single
def logsumexp(x, axis, keepdims=False):
    """log sum exp(x) over axis (an int or a tuple)."""
    top = np.max(x, axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, top.dtype.type(0))
    with np.errstate(divide="ignore", over="ignore"):
        out = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return np.asarray(out if keepdims else np.squeeze(out, axis))


@half_by_single
def softmax(x, axis):
    """exp(x) / sum exp(x) along axis."""
    return _along(axis, lambda x, out: _softmax(x, _tops(x), out), x)


@half_by_single
def softmax_backward(g, out, axis):
    """The adjoint of `softmax` at its result: out (g - sum g out) along axis."""
    return _along(axis, _softmax_backward, g, out)


@half_by_single
def log_softmax(x, axis):
    """x - log sum exp(x) along axis."""
    return _along(axis, lambda x, out: _log_softmax(x, _tops(x), out), x)


@half_by_single
def log_softmax_backward(g, out, axis):
    """The adjoint of `log_softmax` at its result: g - exp(out) sum g along axis."""
    return _along(axis, _log_softmax_backward, g, out)


@half_by_single
def cross_entropy(logits, target, weight, ignore_index, label_smoothing):
    """-log softmax(logits)[target] of each item, weighted and smoothed: (loss_per_item, log_probabilities).

    logits (N, C, *d), target (N, *d) integers, weight (C,) or None.  With p = log_softmax(logits), w the weight of a
    class and e the smoothing: loss = -(1 - e) w[t] p[t] - e / C sum_c w[c] p[c], and 0 at ignored items.
    """
    log_probabilities, classes = log_softmax(logits, 1), logits.shape[1]
    rows, dtype = _rows(log_probabilities, 1), log_probabilities.dtype
    target, weight = _checked(target, ignore_index, classes), _or_ones(weight, classes, dtype)
    loss = np.empty(target.shape, dtype)
    arrays = rows, target.reshape(-1), weight, loss.reshape(-1)
    _cross_entropy(*arrays, ignore_index, float(label_smoothing))
    return loss, log_probabilities


@half_by_single
def cross_entropy_backward(g, log_probabilities, target, weight, ignore_index, label_smoothing):
    """The adjoint of `cross_entropy` with respect to logits: g (N, *d) -> (N, C, *d)."""
    g, log_probabilities = floats(g, log_probabilities)
    rows, classes = _rows(log_probabilities, 1), log_probabilities.shape[1]
    target, weight = _checked(target, ignore_index, classes), _or_ones(weight, classes, rows.dtype)
    out, smoothing = np.empty_like(rows), float(label_smoothing)
    arrays = g.reshape(-1), rows, target.reshape(-1), weight, out
    _share(out, lambda a, b: _cross_entropy_backward(*arrays, ignore_index, smoothing, a, b))
    return _unrows(out, log_probabilities.shape, 1)


def _along(axis, loop, *arrays):
    """loop(*rows, out rows) over the rows of the arrays along axis."""
    arrays = floats(*arrays)
    shape = arrays[0].shape
    rows = [_rows(x, axis) for x in arrays]
    out = np.empty_like(rows[0])
    _share(out, lambda a, b: loop(*(x[a:b] for x in rows), out[a:b]))
    return _unrows(out, shape, axis)


def _tops(rows):
    return rows.max(1, initial=-np.inf)


def _share(rows, task):
    workers.run(task, len(rows), grain=-(-_GRAIN * len(rows) // max(rows.size, 1)))


def _rows(x, axis):
    """x as a compact (m, n) with its axis last; a 0-d array is one row of one."""
    if x.ndim == 0:
        return x.reshape(1, 1)
    if axis not in (-1, x.ndim - 1):
        x = compact(np.moveaxis(x, axis, -1))
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _unrows(rows, shape, axis):
    """`_rows` undone."""
    if axis in (-1, len(shape) - 1) or not shape:
        return rows.reshape(shape)
    rest = [size for i, size in enumerate(shape) if i != axis % len(shape)]
    return np.ascontiguousarray(np.moveaxis(rows.reshape(*rest, shape[axis]), -1, axis))


def _or_ones(weight, classes, dtype):
    return np.ones(classes, dtype) if weight is None else compact(weight, dtype)


def _checked(target, ignore_index, classes):
    wrong = ((target < 0) | (target >= classes)) & (target != ignore_index)
    if wrong.any():
        raise IndexError(
            f"target {target[wrong].flat[0]} is not a class of logits with {classes} classes: targets must lie in "
            f"0..{classes - 1} or equal ignore_index={ignore_index}"
        )
    return compact(target, np.int64)


def _softmax_numpy(x, top, out):
    with np.errstate(invalid="ignore", over="ignore"):
        out[...] = x - top[:, None]
        np.exp(out, out=out)
        out /= out.sum(1, keepdims=True)


def _softmax_backward_numpy(g, p, out):
    np.multiply(g, p, out=out)
    out -= p * out.sum(1, keepdims=True)


def _log_softmax_numpy(x, top, out):
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        out[...] = x - top[:, None]
        out -= np.log(np.exp(out).sum(1, keepdims=True))


def _log_softmax_backward_numpy(g, p, out):
    np.exp(p, out=out)
    out *= -g.sum(1, keepdims=True)
    out += g


def _cross_entropy_numpy(p, target, weight, loss, ignore_index, smoothing):
    kept = target != ignore_index
    safe, item = np.where(kept, target, 0), np.arange(len(target))
    if len(weight):
        loss[...] = -(1 - smoothing) * weight[safe] * p[item, safe]
    if smoothing:
        loss -= smoothing / len(weight) * (weight * p).sum(1)
    loss[~kept] = 0


def _cross_entropy_backward_numpy(g, p, target, weight, out, ignore_index, smoothing, first, last):
    part = slice(first, last)
    kept, item = target[part] != ignore_index, np.arange(last - first)
    safe = np.where(kept, target[part], 0)
    wanted = smoothing / len(weight) * np.broadcast_to(weight, p[part].shape)
    wanted[item, safe] += (1 - smoothing) * weight[safe]
    out[part] = np.exp(p[part]) * wanted.sum(1, keepdims=True) - wanted
    out[part] *= np.where(kept, g[part], 0)[:, None]
    out[part][~kept] = 0


@jit(_softmax_numpy, reassociate=True)
def _softmax(x, top, out):
    for i in range(len(x)):
        row, into, shift, total = x[i], out[i], np.float64(top[i]), 0.0
        for j in range(len(row)):
            e = exp(row[j] - shift)
            into[j] = e
            total += e
        scale = 1 / total
        for j in range(len(row)):
            into[j] = into[j] * scale


@jit(_softmax_backward_numpy, reassociate=True)
def _softmax_backward(g, p, out):
    for i in range(len(g)):
        slope, row, into, total = g[i], p[i], out[i], 0.0
        for j in range(len(row)):
            total += np.float64(slope[j]) * row[j]
        for j in range(len(row)):
            into[j] = (slope[j] - total) * row[j]


@jit(_log_softmax_numpy, reassociate=True)
def _log_softmax(x, top, out):
    for i in range(len(x)):
        row, into, shift, total = x[i], out[i], np.float64(top[i]), 0.0
        for j in range(len(row)):
            total += exp(row[j] - shift)
        log_total = math.log(total)
        for j in range(len(row)):
            into[j] = (row[j] - shift) - log_total


@jit(_log_softmax_backward_numpy, reassociate=True)
def _log_softmax_backward(g, p, out):
    for i in range(len(g)):
        slope, row, into, total = g[i], p[i], out[i], 0.0
        for j in range(len(row)):
            total += slope[j]
        for j in range(len(row)):
            into[j] = slope[j] - exp(np.float64(row[j])) * total


@jit(_cross_entropy_numpy, reassociate=True)
def _cross_entropy(p, target, weight, loss, ignore_index, smoothing):
    for i in range(len(p)):
        row, t, everywhere = p[i], target[i], 0.0
        if t == ignore_index:
            loss[i] = 0
            continue
        if smoothing > 0:
            for j in range(len(row)):
                everywhere += np.float64(weight[j]) * row[j]
        loss[i] = -(1 - smoothing) * weight[t] * row[t] - smoothing / len(row) * everywhere


@jit(_cross_entropy_backward_numpy, reassociate=True)
def _cross_entropy_backward(g, p, target, weight, out, ignore_index, smoothing, first, last):
    every, whole = smoothing / p.shape[1], 0.0
    for j in range(len(weight)):
        whole += every * weight[j]
    for i in range(first, last):
        row, into, t, slope = p[i], out[i], target[i], np.float64(g[i])
        if t == ignore_index:
            into[:] = 0
            continue
        on_target = slope * (1 - smoothing) * weight[t]
        total = slope * whole + on_target
        for j in range(len(row)):
            into[j] = exp(np.float64(row[j])) * total - slope * every * weight[j]
        into[t] -= on_target
