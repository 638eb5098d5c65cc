"""Softmax and its logarithm, and the cross entropy built on them: shifted by the maximum, so nothing overflows.

The loops see rows (m, C), or planes whose lines run down them (see `planes`); axes of the cross entropy, and those of
few lines, are moved out of the way first.
"""

import math
from functools import cache
from math import prod

import numpy as np

from . import downwards, sidewards, workers
from .jit import compiles, inline, jit
from .layout import compact, floats, half_by_single
from .planes import abreast, lines, planes, tile
from .sidewards import scaled_powers, total_of_powers
from .vector import address

_GRAIN = 2_000  # elements that outlast handing a slice to a worker
_AT_ONCE = 2 * _GRAIN  # elements of a loss that one thread computes in one call
_ONE = np.ones(1)


@half_by_single
def logsumexp(x, axis, keepdims=False):
    """log sum exp(x) over axis (an int or a tuple)."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    if len(axes) == 1 and x.size and x.ndim and x.dtype in (np.float32, np.float64):
        out = _logsumexp_of_lines(planes(x, axes[0]))
        if not np.isnan(out).any():
            axis = axes[0] % x.ndim
            return out.reshape(x.shape[:axis] + (1,) * keepdims + x.shape[axis + 1 :])
    top = np.max(x, axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, top.dtype.type(0))
    with np.errstate(divide="ignore", over="ignore"):
        out = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return np.asarray(out if keepdims else np.squeeze(out, axis))


@half_by_single
def logsumexp_backward(g, x, out, axis):
    """The adjoint of `logsumexp` at its result: g exp(x) / sum exp(x) over axis, and 0 along nothing but -inf."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    shape = [1 if i in axes else n for i, n in enumerate(x.shape)]
    if len(axes) == 1 and np.isfinite(out).all():
        return _along(axes[0], _logsumexp_backward, _logsumexp_backward_down, x, g.reshape(shape))
    top = np.max(x, axis, keepdims=True, initial=-np.inf)
    limits = np.finfo(x.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        weights = np.asarray(np.exp(x - np.clip(top, limits.min, limits.max)))
        total = weights.sum(axis, keepdims=True)
        weights *= g.reshape(shape) / np.where(total == 0, total.dtype.type(1), total)
    return weights


def _logsumexp_of_lines(x):
    """(l, n) of planes (l, m, n); NaN where the largest number of a line is infinite or there is a NaN."""
    out = np.empty((len(x), x.shape[2]), x.dtype)
    if x.shape[2] == 1:
        x, out = x.reshape(x.shape[:2]), out.reshape(len(x))
    loop = _logsumexp if x.ndim == 2 else _logsumexp_down
    loop(out.size, x, out, grain=-(-_GRAIN // max(1, x.shape[1])))
    return out


@half_by_single
def softmax(x, axis):
    """exp(x) / sum exp(x) along axis."""
    return _along(axis, _softmax, _softmax_down, x)


@half_by_single
def softmax_backward(g, out, axis):
    """The adjoint of `softmax` at its result: out (g - sum g out) along axis."""
    return _along(axis, _softmax_backward, _softmax_backward_down, g, out)


@half_by_single
def log_softmax(x, axis):
    """x - log sum exp(x) along axis."""
    return _along(axis, _log_softmax, _log_softmax_down, x)


@half_by_single
def log_softmax_backward(g, out, axis):
    """The adjoint of `log_softmax` at its result: g - exp(out) sum g along axis."""
    return _along(axis, _log_softmax_backward, _log_softmax_backward_down, g, out)


@half_by_single
def cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction="none", with_gradient=False):
    """-log softmax(logits)[target] of each item, weighted and smoothed: (loss, its gradient if asked for, else None).

    logits (N, C, *d), target (N, *d) integers, weight (C,) or None. With p = log_softmax(logits), w the weight of a
    class and e the smoothing: loss = -(1 - e) w[t] p[t] - e / C sum_c w[c] p[c], and 0 at ignored items; reduction
    "sum" adds the items', "mean" divides by the sum of w[t] over those that count. The gradient is that of the sum of
    `loss` with respect to logits, written while a row is at hand.
    """
    logits = compact(logits, None if logits.dtype.kind == "f" else np.float32)
    if logits.size <= _AT_ONCE and reduction != "none" and compiles():
        given = logits, *_as_wanted(logits, target, weight), ignore_index, label_smoothing
        return _cross_entropy_at_once(*given, reduction == "mean", with_gradient)
    share, *given = _counted(logits, target, weight, ignore_index, reduction)
    losses = np.empty(target.shape, logits.dtype)
    gradient = _over_rows(logits, *given, _ONE, share, losses, ignore_index, label_smoothing, with_gradient)
    if reduction == "none":
        return losses, gradient
    return np.asarray(float(np.add.reduce(losses, None, np.float64)) * share, logits.dtype), gradient


@half_by_single
def cross_entropy_backward(g, logits, target, weight, ignore_index, label_smoothing, reduction="none"):
    """The adjoint of `cross_entropy` with respect to logits: g (N, *d), or () if reduced -> (N, C, *d)."""
    logits = compact(logits, None if logits.dtype.kind == "f" else np.float32)
    share, *given = _counted(logits, target, weight, ignore_index, reduction)
    g, losses = compact(g, np.float64).reshape(-1), np.empty(0, logits.dtype)
    return _over_rows(logits, *given, g, share, losses, ignore_index, label_smoothing, True)


def multiply_(x, factor):
    """x times a number, a 0-d array, in place; left alone where the number is 1."""
    if factor.item() != 1:
        np.multiply(x, factor, out=x)
    return x


def _counted(logits, target, weight, ignore_index, reduction):
    """(the share of a row's loss in the result; the target and the weight as the loops want them)"""
    target, weight = _as_wanted(logits, target, weight)
    wrong, share = _count(target.reshape(-1), weight, ignore_index)
    _check_class(wrong, target, logits.shape[1], ignore_index)
    return share if reduction == "mean" else 1.0, target, weight


def _as_wanted(logits, target, weight):
    classes = logits.shape[1]
    weight = _ones(classes, logits.dtype) if weight is None else compact(weight, logits.dtype)
    return compact(target, np.int64), weight


def _check_class(wrong, target, classes, ignore_index):
    if wrong >= 0:
        raise IndexError(
            f"target {target.flat[wrong]} is not a class of logits with {classes} classes: targets must lie in "
            f"0..{classes - 1} or equal ignore_index={ignore_index}"
        )


def _cross_entropy_at_once(logits, target, weight, ignore_index, label_smoothing, mean, with_gradient):
    """Of so few numbers that the calls would take longer than the work: all of it in one."""
    rows = _rows(logits, 1)
    gradient = np.empty(rows.shape if with_gradient else (0, 0), rows.dtype)
    arrays = rows, target.reshape(-1), weight, _ONE, gradient
    wrong, loss = _at_once(*arrays, ignore_index, float(label_smoothing), mean)
    _check_class(wrong, target, logits.shape[1], ignore_index)
    return np.asarray(loss, rows.dtype), _unrows(gradient, logits.shape, 1) if with_gradient else None


@cache
def _ones(classes, dtype):
    return np.ones(classes, dtype)


def _over_rows(logits, target, weight, slopes, share, losses, ignore_index, label_smoothing, with_gradient):
    """The gradient, if it is wanted; the losses are filled, unless there are none."""
    rows = _rows(logits, 1)
    gradient = np.empty(rows.shape if with_gradient else (0, 0), rows.dtype)
    arrays = rows, target.reshape(-1), weight, slopes, losses.reshape(-1), gradient
    _cross_entropy(len(rows), *arrays, share, ignore_index, float(label_smoothing), grain=_grain(rows))
    return _unrows(gradient, logits.shape, 1) if with_gradient else None


def _along(axis, loop, down, *arrays):
    """loop(*rows, out rows) over the rows of the arrays along axis, or down(*planes, out planes) where they lie."""
    arrays = floats(*arrays)
    shape = arrays[0].shape
    if shape and axis not in (-1, len(shape) - 1):
        lying = [planes(x, axis) for x in arrays]
        if arrays[0].size and abreast(lying[0]):
            out = np.empty_like(lying[0])
            down(lines(out), *lying, out, grain=-(-_GRAIN // max(1, out.shape[1])))
            return out.reshape(shape)
    rows = [_rows(x, axis) for x in arrays]
    out = np.empty_like(rows[0])
    loop(len(out), *rows, out, grain=_grain(out))
    return _unrows(out, shape, axis)


def _grain(rows):
    """How many rows a thread takes at least."""
    return -(-_GRAIN * len(rows) // max(1, rows.size))


def _rows(x, axis):
    """x as a compact (m, n) with its axis last; a 0-d array is one row of one."""
    if x.ndim == 0:
        return x.reshape(1, 1)
    if axis not in (-1, x.ndim - 1):
        x = compact(np.moveaxis(x, axis, -1))
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _unrows(rows, shape, axis):
    """`_rows` undone."""
    if axis in (-1, len(shape) - 1) or not shape:
        return rows if rows.shape == shape else rows.reshape(shape)
    rest = [size for i, size in enumerate(shape) if i != axis % len(shape)]
    return np.ascontiguousarray(np.moveaxis(rows.reshape(*rest, shape[axis]), -1, axis))


def _tops(x):
    return x.max(1, initial=-np.inf, keepdims=True)


def _softmax_numpy(x, out, first, last):
    x, out = x[first:last], out[first:last]
    with np.errstate(invalid="ignore", over="ignore"):
        out[...] = x - _tops(x)
        np.exp(out, out=out)
        out /= out.sum(1, keepdims=True)


def _logsumexp_backward_numpy(x, g, out, first, last):
    _softmax_numpy(x, out, first, last)
    out[first:last] *= g[first:last]


def _softmax_backward_numpy(g, p, out, first, last):
    g, p, out = g[first:last], p[first:last], out[first:last]
    np.multiply(g, p, out=out)
    out -= p * out.sum(1, keepdims=True)


def _log_softmax_numpy(x, out, first, last):
    x, out = x[first:last], out[first:last]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        out[...] = x - _tops(x)
        out -= np.log(np.exp(out).sum(1, keepdims=True))


def _log_softmax_backward_numpy(g, p, out, first, last):
    g, p, out = g[first:last], p[first:last], out[first:last]
    np.exp(p, out=out)
    out *= -g.sum(1, keepdims=True)
    out += g


def _logsumexp_numpy(x, out, first, last):
    x = x[first:last]
    with np.errstate(invalid="ignore", divide="ignore"):
        top = _tops(x)
        out[first:last] = np.log(np.exp(x - top).sum(1)) + top[:, 0]


def _logsumexp_down_numpy(x, out, first, last):
    while first < last:
        k, a, b = tile(first, last, x)
        _logsumexp_numpy(x[k, :, a:b].T, out[k, a:b], 0, b - a)
        first += b - a


def _count_numpy(target, weight, ignore_index):
    counted = target != ignore_index
    wrong = np.flatnonzero(counted & ((target < 0) | (target >= len(weight))))
    if len(wrong):
        return wrong[0], 0.0
    total = float(weight[target[counted]].sum(dtype=np.float64))
    return -1, 1 / total if total else np.inf


def _cross_entropy_numpy(x, target, weight, slopes, losses, gradient, share, ignore_index, smoothing, first, last):
    part, item = slice(first, last), np.arange(last - first)
    kept = target[part] != ignore_index
    safe = np.where(kept, target[part], 0)
    p = np.empty_like(x[part])
    _log_softmax_numpy(x[part], p, 0, last - first)
    wanted = smoothing / max(len(weight), 1) * np.broadcast_to(weight, p.shape)
    with np.errstate(invalid="ignore"):
        loss = -(wanted * p).sum(1) if smoothing > 0 else 0.0  # lest 0 meet infinity
        if len(weight):
            own = (1 - smoothing) * weight[safe]
            wanted[item, safe] += own
            loss = loss - own * p[item, safe]
        if len(losses):
            losses[part] = np.where(kept, loss, 0)
        if len(gradient):
            slope = share * (slopes[part] if len(slopes) > 1 else slopes)
            gradient[part] = (np.exp(p) * wanted.sum(1, keepdims=True) - wanted) * slope[:, None]
            gradient[part][~kept] = 0


_softmax = workers.shared(_softmax_numpy)(sidewards.softmax)
_softmax_backward = workers.shared(_softmax_backward_numpy)(sidewards.softmax_backward)
_log_softmax = workers.shared(_log_softmax_numpy)(sidewards.log_softmax)
_log_softmax_backward = workers.shared(_log_softmax_backward_numpy)(sidewards.log_softmax_backward)
_logsumexp = workers.shared(_logsumexp_numpy)(sidewards.logsumexp)
_logsumexp_backward = workers.shared(_logsumexp_backward_numpy)(sidewards.logsumexp_backward)


def _by_lines(twin):
    """The twin of a loop over tiles by that of the loop over rows."""

    def numpys(*arrays):
        *arrays, first, last = arrays
        while first < last:
            k, a, b = tile(first, last, arrays[0])
            twin(*[x[k, :, a:b].T for x in arrays], 0, b - a)
            first += b - a

    return numpys


_softmax_down = workers.shared(_by_lines(_softmax_numpy))(downwards.softmax)
_softmax_backward_down = workers.shared(_by_lines(_softmax_backward_numpy))(downwards.softmax_backward)
_log_softmax_down = workers.shared(_by_lines(_log_softmax_numpy))(downwards.log_softmax)
_log_softmax_backward_down = workers.shared(_by_lines(_log_softmax_backward_numpy))(downwards.log_softmax_backward)
_logsumexp_down = workers.shared(_logsumexp_down_numpy)(downwards.logsumexp)
_logsumexp_backward_down = workers.shared(_by_lines(_logsumexp_backward_numpy))(downwards.logsumexp_backward)


@inline
def _counted_weight(target, weight, ignore_index):
    """(the place of the first target that is no class, or -1; 1 / the weight of those that count)"""
    total = 0.0
    for i in range(len(target)):
        t = target[i]
        if t != ignore_index:
            if t < 0 or t >= len(weight):
                return i, 0.0
            total += weight[t]
    return -1, 1 / total


_count = jit(_count_numpy)(_counted_weight)


@inline
def _rows_of_loss(x, target, weight, slopes, losses, gradient, share, ignore_index, smoothing, first, last):
    single, told, every, whole = x.dtype.type, np.empty(2), smoothing / max(len(weight), 1), 0.0
    one, results = single(0), (address(told), address(told) + told.itemsize)
    for j in range(len(weight)):
        whole += every * weight[j]
    for i in range(first, last):
        row, t, everywhere = x[i], target[i], 0.0
        if t == ignore_index:
            if len(losses):
                losses[i] = 0
            if len(gradient):
                gradient[i, :] = 0
            continue
        slope = share * slopes[i if len(slopes) > 1 else 0]
        on_target = slope * (1 - smoothing) * weight[t]
        if len(gradient):
            into = gradient[i]
            scaled_powers(one, (len(row), address(row), slope * whole + on_target, address(into)) + results)
            if smoothing > 0:
                less = single(slope * every)
                for j in range(len(row)):
                    into[j] -= less * weight[j]
            into[t] -= on_target
        else:
            total_of_powers(one, (len(row), address(row)) + results)
        if len(losses):
            top, log_total = told[0], math.log(told[1])
            if smoothing > 0:
                for j in range(len(row)):
                    everywhere += weight[j] * ((np.float64(row[j]) - top) - log_total)
            own = (np.float64(row[t]) - top) - log_total
            losses[i] = -(1 - smoothing) * weight[t] * own - every * everywhere


_cross_entropy = workers.shared(_cross_entropy_numpy, reassociate=True)(_rows_of_loss)


@jit(None)
def _at_once(x, target, weight, slopes, gradient, ignore_index, smoothing, mean):
    """(the place of the first target that is no class, or -1; the loss of all rows)"""
    wrong, share = _counted_weight(target, weight, ignore_index)
    if wrong >= 0:
        return wrong, 0.0
    share, losses, total = share if mean else 1.0, np.empty(len(x), x.dtype), 0.0
    _rows_of_loss(x, target, weight, slopes, losses, gradient, share, ignore_index, smoothing, 0, len(x))
    for i in range(len(losses)):
        total += losses[i]
    return -1, total * share
