"""Softmax and its logarithm, and the cross entropy built on them: shifted by the maximum, so nothing overflows."""

from math import prod

import cupy
import numpy as np

from ..registry import implementation
from . import rows


@implementation("softmax", "cuda", floor=lambda x, axis: (2 * x.nbytes, 5 * x.size))
def softmax(x, axis):
    """exp(x) / sum exp(x) along axis. Floor: 2 e N bytes."""
    return _along("softmax", axis, x)


@implementation("softmax_backward", "cuda", floor=lambda g, out, axis: (3 * g.nbytes, 4 * g.size))
def softmax_backward(g, out, axis):
    """The adjoint of `softmax` at its result: out (g - sum g out) along axis. Floor: 3 e N bytes."""
    return _along("softmax_backward", axis, g, out)


@implementation("log_softmax", "cuda", floor=lambda x, axis: (2 * x.nbytes, 5 * x.size))
def log_softmax(x, axis):
    """x - log sum exp(x) along axis. Floor: 2 e N bytes."""
    return _along("log_softmax", axis, x)


@implementation("log_softmax_backward", "cuda", floor=lambda g, out, axis: (3 * g.nbytes, 5 * g.size))
def log_softmax_backward(g, out, axis):
    """The adjoint of `log_softmax` at its result: g - exp(out) sum g along axis. Floor: 3 e N bytes."""
    return _along("log_softmax_backward", axis, g, out)


@implementation("logsumexp", "cuda", floor=lambda x, axis, keepdims=False: (x.nbytes, 4 * x.size))
def logsumexp(x, axis, keepdims=False):
    """log sum exp(x) over axis (an int or a tuple). Floor: e N bytes."""
    axes = sorted(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
    if not axes or axes != list(range(axes[0], axes[-1] + 1)):
        x = x.transpose([i for i in range(x.ndim) if i not in axes] + axes)
        axes = list(range(x.ndim - len(axes), x.ndim))
    x, first = cupy.ascontiguousarray(x), axes[0] if axes else x.ndim
    last = first + len(axes)
    sizes = prod(x.shape[:first]), prod(x.shape[first:last]), prod(x.shape[last:])
    out = cupy.empty(shape, x.dtype)
    rows.launch("softmax", "logsumexp", x.dtype, sizes, (x,), (out,))
    return out


@implementation("cross_entropy", "cuda", floor=lambda logits, *rest: (2 * logits.nbytes, 8 * logits.size))
def cross_entropy(logits, target, weight, ignore_index, label_smoothing):
    """-log softmax(logits)[target] of each item, weighted and smoothed: (loss_per_item, log_probabilities).

    logits (N, C, *d), target (N, *d) integers, weight (C,) or None. With p = log_softmax(logits), w the weight of a
    class and e the smoothing: loss = -(1 - e) w[t] p[t] - e / C sum_c w[c] p[c], 0 at ignored items, and NaN where the
    target is no class: the GPU is not waited for. Floor: 2 e N C bytes.
    """
    logits, target = cupy.ascontiguousarray(logits), cupy.ascontiguousarray(target, np.int64)
    loss, p = cupy.empty(target.shape, logits.dtype), cupy.empty(logits.shape, logits.dtype)
    others, numbers = (target, _like(weight, logits), loss), (np.int64(ignore_index), float(label_smoothing))
    rows.launch("softmax", "cross_entropy", p.dtype, _sizes(p, 1), (logits, p), others, numbers)
    return loss, p


@implementation("cross_entropy_backward", "cuda", floor=lambda g, p, *rest: (2 * p.nbytes, 6 * p.size))
def cross_entropy_backward(g, log_probabilities, target, weight, ignore_index, label_smoothing):
    """The adjoint of `cross_entropy` with respect to logits: g (N, *d) -> (N, C, *d). Floor: 2 e N C bytes."""
    p, target = cupy.ascontiguousarray(log_probabilities), cupy.ascontiguousarray(target, np.int64)
    out, g = cupy.empty(p.shape, p.dtype), cupy.ascontiguousarray(g, p.dtype)
    others, numbers = (g, target, _like(weight, p)), (np.int64(ignore_index), float(label_smoothing))
    rows.launch("softmax", "cross_entropy_backward", p.dtype, _sizes(p, 1), (p, out), others, numbers)
    return out


def _like(weight, x):
    return None if weight is None else cupy.ascontiguousarray(weight, x.dtype)


def _sizes(x, axis):
    """(outer, n, inner) round an axis; a 0-d array is one row of one."""
    axis = axis % x.ndim if x.ndim else 0
    return prod(x.shape[:axis]), x.shape[axis] if x.ndim else 1, prod(x.shape[axis + 1 :])


def _along(name, axis, *arrays):
    arrays = [cupy.ascontiguousarray(x) for x in arrays]
    out = cupy.empty(arrays[0].shape, arrays[0].dtype)
    rows.launch("softmax", name, out.dtype, _sizes(out, axis), (*arrays, out))
    return out
