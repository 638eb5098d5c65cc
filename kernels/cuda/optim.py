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
    numbers = *_number(lr), *_doubles(_sign(maximize), weight_decay, momentum, take), int(nesterov and not plain), int(first)
    _in_place("sgd", (param, None if plain else buf), grad, numbers)


@implementation("adam_", "cuda", floor=_floor(3, 12))
def adam_(param, grad, m, v, vmax, *, lr, beta1, beta2, eps, weight_decay, decoupled, maximize, step):
    """m, v: running means of grad and grad²; param -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    `decoupled` shrinks param by lr weight_decay first (AdamW), otherwise weight_decay param joins grad.  With vmax
    (AMSGrad) the largest v so far divides.  step = t counts from 1.
    """
    numbers = *_number(lr), *_number(step), *_doubles(_sign(maximize), beta1, beta2, eps, weight_decay), int(decoupled)
    _in_place("adam", (param, m, v, vmax), grad, numbers)


@implementation("adagrad_", "cuda", floor=_floor(2, 8))
def adagrad_(param, grad, acc, *, lr, eps, weight_decay, maximize):
    """acc += grad²; param -= lr grad / (sqrt(acc) + eps)."""
    _in_place("adagrad", (param, acc), grad, (*_number(lr), *_doubles(_sign(maximize), weight_decay, eps)))


@implementation("adadelta_", "cuda", floor=_floor(3, 14))
def adadelta_(param, grad, square_avg, acc_delta, *, lr, rho, eps, weight_decay, maximize):
    """delta = sqrt(acc_delta + eps) / sqrt(square_avg + eps) grad; param -= lr delta; both averages decay by rho."""
    numbers = *_number(lr), *_doubles(_sign(maximize), weight_decay, rho, eps)
    _in_place("adadelta", (param, square_avg, acc_delta), grad, numbers)


@implementation("rmsprop_", "cuda", floor=_floor(2, 10))
def rmsprop_(param, grad, square_avg, buf, grad_avg, *, lr, alpha, eps, weight_decay, momentum, maximize):
    """param -= lr grad / (sqrt(square_avg - grad_avg²) + eps), through a momentum buffer where momentum > 0.

    buf is None without momentum, grad_avg is None unless centred.
    """
    numbers = *_number(lr), *_doubles(_sign(maximize), weight_decay, momentum, alpha, eps)
    _in_place("rmsprop", (param, square_avg, buf if momentum else None, grad_avg), grad, numbers)


def _sign(maximize):
    return -1.0 if maximize else 1.0


def _doubles(*numbers):
    return map(np.float64, numbers)


def _number(number):
    """A number as the kernels take it: its value, and where on the GPU a better one lies."""
    if isinstance(number, cupy.ndarray):
        return np.float64(0), number.astype(np.float64, copy=False)
    return np.float64(number), None


def _listed(array):
    return array if isinstance(array, list) else [array]


def _in_place(name, states, grad, numbers):
    """Launch an update of the states of all parameters, whatever their layout and dtype."""
    states, grads = [None if x is None else _listed(x) for x in states], _listed(grad)
    for dtype in dict.fromkeys(p.dtype for p in states[0]):
        mine = [i for i, p in enumerate(states[0]) if p.dtype == dtype and p.size]
        for k in range(0, len(mine), _MANY):
            part = mine[k : k + _MANY]
            pick = lambda x: None if x is None else [x[i] for i in part]  # noqa: B023, E731
            _launch(name, dtype, list(map(pick, states)), pick(grads), numbers)


def _launch(name, dtype, states, grads, numbers):
    lists, count = np.zeros(1, _LISTS), len(grads)
    ready = [None if x is None else [cupy.ascontiguousarray(a, dtype) for a in x] for x in states]
    grads = [cupy.ascontiguousarray(g, dtype) for g in grads]
    for slot, arrays in enumerate(ready):
        lists["states"][0, slot, :count] = 0 if arrays is None else [a.data.ptr for a in arrays]
    lists["grad"][0, :count], lists["size"][0, :count] = zip(*((g.data.ptr, g.size) for g in grads), strict=True)
    ends = np.cumsum(-(-lists["size"][0, :count] * dtype.itemsize // _CHUNK))
    lists["first_block"] = np.iinfo(np.int32).max
    lists["first_block"][0, :count] = [0, *ends[:-1]]
    runtime.launch("optim", name, dtype, int(ends[-1]), _BLOCK, (lists, *numbers))
    for state, worked in zip(filter(None, states), filter(None, ready), strict=True):
        for into, new in zip(state, worked, strict=True):
            if new is not into:
                into[...] = new
