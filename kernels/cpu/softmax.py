"""Softmax and its logarithm, and the cross entropy built on them: shifted by the maximum, so nothing overflows."""

import numpy as np

from .layout import half_by_single


@half_by_single
def logsumexp(x, axis, keepdims=False):
    """log sum exp(x) over axis (an int or a tuple)."""
    top = _top(x, axis)
    with np.errstate(divide="ignore"):
        out = np.log(np.exp(x - top).sum(axis, keepdims=True)) + top
    return out if keepdims else np.asarray(np.squeeze(out, axis))


@half_by_single
def softmax(x, axis):
    """exp(x) / sum exp(x) along axis."""
    out = x - _top(x, axis)
    np.exp(out, out=out)
    out /= out.sum(axis, keepdims=True)
    return out


@half_by_single
def softmax_backward(g, out, axis):
    """The adjoint of `softmax` at its result: out (g - sum g out)."""
    gx = g * out
    gx -= out * gx.sum(axis, keepdims=True)
    return gx


@half_by_single
def log_softmax(x, axis):
    """x - log sum exp(x) along axis."""
    out = x - _top(x, axis)
    out -= np.log(np.exp(out).sum(axis, keepdims=True))
    return out


@half_by_single
def log_softmax_backward(g, out, axis):
    """The adjoint of `log_softmax` at its result: g - exp(out) sum g."""
    gx = np.exp(out)
    gx *= -g.sum(axis, keepdims=True)
    gx += g
    return gx


@half_by_single
def cross_entropy(logits, target, weight, ignore_index, label_smoothing):
    """-log softmax(logits)[target] of each item, weighted and smoothed: (loss_per_item, log_probabilities).

    logits (N, C, *d), target (N, *d) integers, weight (C,) or None.  With w the weight of a class and e the smoothing:
    loss = (1 - e) w[t] (-p[t]) + e / C sum_c w[c] (-p[c]), where p = log_softmax(logits); 0 at ignored items.
    """
    classes = logits.shape[1]
    kept, safe = _targets(target, ignore_index, classes)
    log_probabilities = log_softmax(logits, 1)
    loss = -np.take_along_axis(log_probabilities, safe[:, None], 1)[:, 0]
    if weight is not None:
        loss *= weight[safe]
    if label_smoothing:
        everywhere = log_probabilities if weight is None else log_probabilities * _along_classes(weight, logits.ndim)
        loss = (1 - label_smoothing) * loss - label_smoothing / classes * everywhere.sum(1)
    return np.where(kept, loss, loss.dtype.type(0)), log_probabilities


@half_by_single
def cross_entropy_backward(g, log_probabilities, target, weight, ignore_index, label_smoothing):
    """The adjoint of `cross_entropy` with respect to logits: g (N, *d) -> (N, C, *d)."""
    classes = log_probabilities.shape[1]
    kept, safe = _targets(target, ignore_index, classes)
    g = np.where(kept, g, g.dtype.type(0))
    on_target = g if weight is None else g * weight[safe]
    each = label_smoothing / classes
    total = (1 - label_smoothing) * on_target
    if label_smoothing:
        total = total + each * g * (classes if weight is None else weight.sum())
    out = np.exp(log_probabilities)
    out *= total[:, None]
    if label_smoothing:
        out -= each * g[:, None] * (1 if weight is None else _along_classes(weight, out.ndim))
    at = safe[:, None]
    picked = np.take_along_axis(out, at, 1) - (1 - label_smoothing) * on_target[:, None]
    np.put_along_axis(out, at, picked, 1)
    return out


def _top(x, axis):
    """The maximum to subtract, 0 where it is infinite."""
    top = np.max(x, axis, keepdims=True, initial=-np.inf)
    return np.where(np.isfinite(top), top, top.dtype.type(0))


def _along_classes(weight, ndim):
    return weight.reshape(1, -1, *(1,) * (ndim - 2))


def _targets(target, ignore_index, classes):
    """Which targets count, and the targets with 0 in place of those that do not."""
    kept = target != ignore_index
    safe = np.where(kept, target, 0)
    if safe.size and (safe.min() < 0 or safe.max() >= classes):
        wrong = safe[(safe < 0) | (safe >= classes)].flat[0]
        raise IndexError(
            f"target {wrong} is not a class of logits with {classes} classes: targets must lie in 0..{classes - 1} "
            f"or equal ignore_index={ignore_index}"
        )
    return kept, safe
