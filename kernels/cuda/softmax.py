"""Softmax and its logarithm, and the cross entropy built on them: shifted by the maximum, so nothing overflows."""

from math import prod

import cupy
import numpy as np

from ..registry import implementation
from . import rows, runtime

_PARTS = 256  # into which the weight of the targets is cut at most: a block adds them up at once


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


@implementation("logsumexp_backward", "cuda", floor=lambda g, x, out, axis: (2 * x.nbytes, 6 * x.size))
def logsumexp_backward(g, x, out, axis):
    """The adjoint of `logsumexp` at its result: g exp(x) / sum exp(x) over axis, and 0 along nothing but -inf.

    Floor: 2 e N bytes.
    """
    axes = axis if isinstance(axis, tuple) else (axis,)
    if not x.size:
        return cupy.empty(x.shape, x.dtype)
    wide = np.float32 if x.dtype.itemsize == 2 else x.dtype
    top = x.max(axis, keepdims=True).astype(wide)
    weights = cupy.exp(x.astype(wide) - cupy.clip(top, np.finfo(wide).min, np.finfo(wide).max))
    total = weights.sum(axis, keepdims=True)
    slopes = g.reshape([1 if i in axes else n for i, n in enumerate(x.shape)]).astype(wide)
    return (slopes * (weights / cupy.where(total == 0, 1, total))).astype(x.dtype)


def _floor_of_both(logits, target, weight, ignored, smoothing, reduction="none", with_gradient=False):
    """The logits are read, and once more their bytes written if the gradient is wanted; the targets are read."""
    return (1 + with_gradient) * logits.nbytes + target.nbytes, (8 if with_gradient else 5) * logits.size


@implementation("cross_entropy", "cuda", floor=_floor_of_both)
def cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction="none", with_gradient=False):
    """-log softmax(logits)[target] of each item, weighted and smoothed: (loss, its gradient if asked for, else None).

    logits (N, C, *d), target (N, *d) integers, weight (C,) or None. With p = log_softmax(logits), w the weight of a
    class and e the smoothing: loss = -(1 - e) w[t] p[t] - e / C sum_c w[c] p[c], 0 at ignored items, and NaN where the
    target is no class: the GPU is not waited for. Reduction "sum" adds the items', "mean" divides by the sum of w[t]
    over those that count. The gradient is that of the sum of `loss` with respect to logits, written while a row is in
    registers. Floor: 2 e N C bytes with it, e N C without.
    """
    items = _Items(logits, target, weight, ignore_index, label_smoothing, reduction)
    gradient = cupy.empty(items.logits.shape, items.logits.dtype) if with_gradient else None
    if reduction == "none":
        loss = cupy.empty(target.shape, items.logits.dtype)
        items.launch(gradient, losses=loss)
        return loss, gradient
    return items.total(gradient), gradient


@implementation("cross_entropy_backward", "cuda", floor=lambda g, x, *rest: (2 * x.nbytes, 8 * x.size))
def cross_entropy_backward(g, logits, target, weight, ignore_index, label_smoothing, reduction="none"):
    """The adjoint of `cross_entropy` with respect to logits: g (N, *d), or () if reduced -> (N, C, *d).

    Floor: 2 e N C bytes.
    """
    items = _Items(logits, target, weight, ignore_index, label_smoothing, reduction)
    out = cupy.empty(items.logits.shape, items.logits.dtype)
    items.launch(out, slopes=cupy.ascontiguousarray(g, out.dtype))
    return out


@implementation("multiply_", "cuda", floor=lambda x, factor: (factor.nbytes, 1))
def multiply_(x, factor):
    """x times a number (an array of one element), in place; left alone where the number is 1.

    The number is looked at on the GPU. Floor: e bytes where it is 1, else 2 e |x|.
    """
    factor, grid = cupy.ascontiguousarray(factor, x.dtype), runtime.blocks(x.size, 256, 64 // x.itemsize)
    runtime.launch("cross_entropy", "multiply", x.dtype, grid, 256, (x, factor, x.size))
    return x


class _Items:
    """The rows of a cross entropy: dense arrays, and for a mean the weight of those that count, in parts."""

    def __init__(self, logits, target, weight, ignore_index, label_smoothing, reduction):
        self.logits, self.target = cupy.ascontiguousarray(logits), cupy.ascontiguousarray(target, np.int64)
        self.dtype, self.weight = logits.dtype, _like(weight, logits)
        self.ignored, self.smoothing = np.int64(ignore_index), float(label_smoothing)
        self.sizes, self.step = _sizes(logits, 1), int(reduction == "none")
        self.sum_dtype = np.float64 if self.dtype == np.float64 else np.float32
        self.parts, self.count = None, 0
        if reduction == "mean":
            self.count = min(runtime.blocks(target.size), _PARTS)
            self.parts = cupy.empty(self.count or 1, self.sum_dtype)
            arguments = self.target, self.weight, self.parts, target.size, self.sizes[1], self.ignored
            runtime.launch("cross_entropy", "count", self.dtype, self.count, 256, arguments)

    def launch(self, gradient, losses=None, sums=None, slopes=None):
        """The one pass over the logits; what is None is not written, and slopes are then 1."""
        others = self.target, self.weight, losses, sums, slopes, self.parts
        numbers = self.step, self.count, self.ignored, self.smoothing
        rows.launch("softmax", "cross_entropy", self.dtype, self.sizes, (self.logits, gradient), others, numbers)

    def total(self, gradient):
        """The loss of all rows."""
        blocks = rows.blocks(self.dtype, self.sizes, (self.logits, gradient))
        sums, loss = cupy.empty(blocks or 1, self.sum_dtype), cupy.empty((), self.dtype)
        self.launch(gradient, sums=sums)
        runtime.launch("cross_entropy", "total", self.dtype, 1, 512, (sums, self.parts, loss, blocks, self.count))
        return loss


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
