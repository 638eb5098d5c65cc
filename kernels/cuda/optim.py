"""Optimiser updates in place, of one parameter or of a list of them in one launch; torch.optim's formulas.

Every array may be a list of arrays, one per parameter. `lr` and Adam's `step` are numbers, or 0-d float64 arrays of the
GPU, which a captured graph reads anew at each replay.
"""

import cupy
import numpy as np

from ..registry import implementation
from . import runtime

_MANY, _SLOTS, _BLOCK = 64, 4, 256
_CHUNK = 16 * 1024  # bytes of an array that a block updates
_LISTS = np.dtype(
    [("states", "u8", (_SLOTS, _MANY)), ("grad", "u8", _MANY), ("size", "i8", _MANY), ("first_block", "i4", _MANY)]
)


def _floor(states, flops):
    """Each state is read and written, the gradient read: (2 · states + 1) e N bytes."""

    def floor(param, *others, **settings):
        size = sum(p.size for p in _listed(param))
        return (2 * states + 1) * size * _listed(param)[0].itemsize, flops * size

    return floor


@implementation("sgd_", "cuda", floor=_floor(2, 6))
def sgd_(param, grad, buf, *, lr, momentum, dampening, weight_decay, nesterov, maximize, first):
    """d = ±grad + weight_decay param; buf = momentum buf + (1 - dampening) d (d itself at `first`); param -= lr step.

    The step is buf, or d + momentum buf with `nesterov`, or d without momentum, where buf may be None.
    """
    plain = momentum == 0
    take = 1.0 if first or plain else 1.0 - dampening
    numbers = (
        *runtime.number(lr),
        *_doubles(_sign(maximize), weight_decay, momentum, take),
        int(nesterov and not plain),
        int(first),
    )
    _in_place("sgd", (param, None if plain else buf), grad, numbers)


@implementation("adam_", "cuda", floor=_floor(3, 12))
def adam_(param, grad, m, v, vmax, *, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step):
    """m, v: running means of grad and grad²; param -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    `decoupled` shrinks param by lr weight_decay first (AdamW), otherwise weight_decay param joins grad.  With vmax
    (AMSGrad) the largest v so far divides.  step = t counts from 1.
    """
    numbers = (
        *runtime.number(lr),
        *runtime.number(step),
        *_doubles(_sign(maximize), beta1, beta2, eps, weight_decay),
        int(decoupled),
    )
    _in_place("adam", (param, m, v, vmax), grad, numbers)


@implementation("adagrad_", "cuda", floor=_floor(2, 8))
def adagrad_(param, grad, acc, *, lr, eps, weight_decay, maximize):
    """acc += grad²; param -= lr grad / (sqrt(acc) + eps)."""
    _in_place("adagrad", (param, acc), grad, (*runtime.number(lr), *_doubles(_sign(maximize), weight_decay, eps)))


@implementation("adadelta_", "cuda", floor=_floor(3, 14))
def adadelta_(param, grad, square_avg, acc_delta, *, lr, rho, eps, weight_decay, maximize):
    """delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) grad; param -= lr delta; both averages decay by rho."""
    numbers = *runtime.number(lr), *_doubles(_sign(maximize), weight_decay, rho, eps)
    _in_place("adadelta", (param, square_avg, acc_delta), grad, numbers)


@implementation("rmsprop_", "cuda", floor=_floor(2, 10))
def rmsprop_(param, grad, square_avg, buf, grad_avg, *, lr, alpha, eps, weight_decay, momentum, maximize):
    """param -= lr grad / (sqrt(square_avg - grad_avg²) + eps), through a momentum buffer where momentum > 0.

    buf is None without momentum, grad_avg is None unless centred.
    """
    numbers = *runtime.number(lr), *_doubles(_sign(maximize), weight_decay, momentum, alpha, eps)
    _in_place("rmsprop", (param, square_avg, buf if momentum else None, grad_avg), grad, numbers)


@implementation(
    "gradient_norm", "cuda", floor=lambda grads: (sum(g.nbytes for g in grads), sum(2 * g.size for g in grads))
)
def gradient_norm(grads):
    """sqrt(sum of all squares) of a list of arrays, added in float64 and in a fixed order: float32 (or 64), 0-d."""
    tables = []
    for dtype, mine in _groups(grads):
        ready = [cupy.ascontiguousarray(grads[i]) for i in mine]
        tables.append((dtype, *_table(ready), ready))
    parts, done = cupy.empty(sum(blocks for _, _, blocks, _ in tables), np.float64), 0
    for dtype, lists, blocks, _ in tables:
        runtime.launch("optim", "squares", dtype, blocks, _BLOCK, (lists, parts[done:]))
        done += blocks
    out = cupy.empty((), np.float64 if any(g.dtype == np.float64 for g in grads) else np.float32)
    runtime.launch("optim", "root_of_sum", out.dtype, 1, _BLOCK, (parts, out, parts.size))
    return out


@implementation(
    "clip_", "cuda", floor=lambda grads, norm, most: (sum(2 * g.nbytes for g in grads), sum(g.size for g in grads))
)
def clip_(grads, norm, most):
    """grads *= min(1, most / (norm + 1e-6)), in place, norm a 0-d array of the GPU; all NaN where norm is."""
    norm = norm.astype(np.float64, copy=False)
    _in_place("clip", (grads,), grads, (norm, np.float64(most)))


def _sign(maximize):
    return -1.0 if maximize else 1.0


def _doubles(*numbers):
    return map(np.float64, numbers)


def _listed(array):
    return array if isinstance(array, list) else [array]


def _in_place(name, states, grad, numbers):
    """Launch an update of the states of all parameters, whatever their layout and dtype."""
    states, grads = [None if x is None else _listed(x) for x in states], _listed(grad)
    for dtype, mine in _groups(states[0]):
        pick = lambda x: None if x is None else [x[i] for i in mine]  # noqa: B023, E731
        _update(name, dtype, list(map(pick, states)), pick(grads), numbers)


def _update(name, dtype, states, grads, numbers):
    ready = [None if x is None else [cupy.ascontiguousarray(a, dtype) for a in x] for x in states]
    grads = [cupy.ascontiguousarray(g, dtype) for g in grads]
    lists, blocks = _table(grads, ready)
    runtime.launch("optim", name, dtype, blocks, _BLOCK, (lists, *numbers))
    for state, worked in zip(filter(None, states), filter(None, ready), strict=True):
        for into, new in zip(state, worked, strict=True):
            if new is not into:
                into[...] = new


def _groups(arrays):
    """(dtype, the places of at most _MANY arrays of it that have elements), until all have come."""
    for dtype in dict.fromkeys(a.dtype for a in arrays):
        mine = [i for i, a in enumerate(arrays) if a.dtype == dtype and a.size]
        for k in range(0, len(mine), _MANY):
            yield dtype, mine[k : k + _MANY]


def _table(grads, states=()):
    """(what a launch passes by value of its arrays, its blocks)"""
    lists, count, itemsize = np.zeros(1, _LISTS), len(grads), grads[0].itemsize
    for slot, arrays in enumerate(states):
        lists["states"][0, slot, :count] = 0 if arrays is None else [a.data.ptr for a in arrays]
    lists["grad"][0, :count], lists["size"][0, :count] = zip(*((g.data.ptr, g.size) for g in grads), strict=True)
    ends = np.cumsum(-(-lists["size"][0, :count] * itemsize // _CHUNK))
    lists["first_block"] = np.iinfo(np.int32).max
    lists["first_block"][0, :count] = [0, *ends[:-1]]
    return lists, int(ends[-1])
