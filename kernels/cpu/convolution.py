"""Cross-correlation and its two adjoints, by the algorithm that is the fastest for the shape or the one asked for.

x (N, C, H, W), w (O, C/G, kh, kw), out (N, O, oh, ow); G groups.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from .. import floors, registry
from . import columns, depthwise, direct, fourier, packed, pixels, pointwise, winograd
from .columns import at_once
from .epilogue import Epilogue, Plain
from .layout import floats, half_by_single
from .minimal import F23


@half_by_single
def conv2d(x, w, b, *, stride, padding, dilation, groups, algorithm=None):
    """Cross-correlation of x with w, plus b (O,) or None."""
    x, w, b = floats(x, w, b)
    plan, by = _chosen("conv2d", x.shape, w.shape, stride, padding, dilation, groups, x.itemsize, algorithm)
    out = np.empty((plan.n, plan.o, *plan.out_size), x.dtype)
    by.forward(plan, x, w, b, Plain(out))
    return out


@half_by_single
def conv2d_act_pool(x, w, b, *, stride, padding, dilation, groups, activation, pool, algorithm=None):
    """`conv2d`, then "relu", "tanh" or "sigmoid", then pool ("max" | "avg", kh, kw) over windows side by side, or None.

    Gives (out, what `act_pool_backward` needs beside it).
    """
    x, w, b = floats(x, w, b)
    plan, by = _chosen("conv2d", x.shape, w.shape, stride, padding, dilation, groups, x.itemsize, algorithm)
    results = Epilogue((plan.n, plan.o, *plan.out_size), x.dtype, activation, pool)
    by.forward(plan, x, w, b, results)
    return results.out, results.saved


@half_by_single
def conv2d_input(g, w, *, input_size, stride, padding, dilation, groups, algorithm=None):
    """The adjoint of `conv2d` with respect to x: g (N, O, oh, ow) -> (N, C, H, W) with (H, W) = input_size."""
    g, w = floats(g, w)
    shape = (g.shape[0], w.shape[1] * groups, *input_size)
    plan, by = _chosen("conv2d_input", shape, w.shape, stride, padding, dilation, groups, g.itemsize, algorithm)
    return by.input(plan, g, w)


@half_by_single
def conv2d_weight(g, x, *, kernel_size, stride, padding, dilation, groups, algorithm=None):
    """The adjoint of `conv2d` with respect to w: g (N, O, oh, ow), x (N, C, H, W) -> (O, C/groups, kh, kw)."""
    g, x = floats(g, x)
    shape = (g.shape[1], x.shape[1] // groups, *kernel_size)
    plan, by = _chosen("conv2d_weight", x.shape, shape, stride, padding, dilation, groups, x.itemsize, algorithm)
    return by.weight(plan, g, x)


# ---- algorithms ------------------------------------------------------------------------------------------------------


class Algorithm(NamedTuple):
    """One way to compute a convolution and both adjoints.

    lacks(plan): what about a convolution it cannot do, "" where it can. forward(plan, x, w, b, results) writes into the
    room that `results` gives, and finishes it (`epilogue.Epilogue`); input(plan, g, w) and weight(plan, g, x) give the
    adjoints.
    """

    lacks: Callable
    forward: Callable
    input: Callable
    weight: Callable


def _minimal(lacks, form_of):
    """Winograd's algorithm in the form that form_of(plan) gives."""

    def forward(plan, x, w, b, results):
        at_once(plan, results, lambda room: winograd.forward(form_of(plan), x, w, b, room, plan.corner))

    def weight(plan, g, x):
        return winograd.weight(form_of(plan), g, x, plan.corner)

    return Algorithm(lacks, forward, partial(_by_turned, forward), weight)


def _spectral(plan, x, w, b, results):
    at_once(plan, results, lambda room: fourier.forward(plan, x, w, b, room))


def _by_turned(forward, plan, g, w):
    """The adjoint of x as a convolution of g with turned filters."""
    out = np.empty(plan.x_shape, g.dtype)
    forward(plan.turned, g, winograd.turned(w), None, Plain(out))
    return out


_EMPTY = "an empty array: it has nothing to compute"


def _not_pointwise(plan):
    said = f"filters of {_by(plan.kernel)} at stride {_by(plan.stride)}, which see more than a pixel"
    return _not_whole(plan) or ("" if plan.pointwise else said)


def _not_whole(plan):
    if plan.groups != 1:
        return f"{plan.groups} groups: it computes with one"
    return "" if plan.n * plan.o * plan.k else _EMPTY


def _not_near(plan):
    """What pads by more than its filters reach."""
    if not plan.n * plan.o * plan.k:
        return _EMPTY
    if not plan.near:
        return f"a padding of {plan.padding}, which is wider than its filters of {_by(plan.kernel)}"
    return ""


def _not_depthwise(plan):
    return _not_near(plan) or depthwise.lacks(plan)


def _not_dense(plan):
    """What is no convolution at every place of an image whose adjoint is another."""
    if tuple(plan.stride) != (1, 1):
        return f"a stride of {_by(plan.stride)}: it computes the results at every place"
    return _not_whole(plan) or _not_near(plan)


def _not_of(*sides):
    """What has other filters than undilated ones of these sizes."""

    def lacks(plan):
        able = plan.kernel in [[side, side] for side in sides] and tuple(plan.dilation) == (1, 1)
        those = " and ".join(f"{side}×{side}" for side in sides)
        said = f"filters of {_by(plan.kernel)}, dilation {_by(plan.dilation)}: it transforms those of {those}"
        return _not_dense(plan) or ("" if able else f"{said}, undilated")

    return lacks


def _by(pair):
    return "×".join(map(str, pair))


ALGORITHMS = {
    "columns": Algorithm(lambda plan: "", columns.forward, columns.input, columns.weight),
    "batch": Algorithm(lambda plan: "", packed.forward, packed.input, columns.batch_weight),
    "pointwise": Algorithm(_not_pointwise, pointwise.forward, pointwise.input, pointwise.weight),
    "pixels": Algorithm(_not_whole, pixels.forward, pixels.input, pixels.weight),
    "depthwise": Algorithm(_not_depthwise, depthwise.forward, depthwise.input, depthwise.weight),
    "direct": Algorithm(_not_near, direct.forward, direct.input, direct.weight),
    "winograd": _minimal(_not_of(3, 5), winograd.form_of),
    "winograd2": _minimal(_not_of(3), lambda plan: F23),
    "fft": Algorithm(_not_dense, _spectral, partial(_by_turned, _spectral), fourier.weight),
}

_FORWARD, _INPUT, _WEIGHT = "conv2d", "conv2d_input", "conv2d_weight"
_ALL = (_FORWARD, _INPUT, _WEIGHT)
#: (algorithm, the operations for which it is the fastest, if so for the plan): the first that holds is taken
#: (docs/decisions/0015 and 0019 have the figures)
_RULES: tuple[tuple[str, tuple[str, ...], Callable], ...] = (
    ("batch", _ALL, lambda plan: plan.whole),
    ("depthwise", (_FORWARD, _INPUT), depthwise.suits),
    ("depthwise", (_WEIGHT,), depthwise.suits_weight),
    ("winograd", (_FORWARD, _INPUT), winograd.suits),
    ("winograd", (_WEIGHT,), winograd.suits_weight),
    ("fft", _ALL, fourier.suits),
    ("batch", (_FORWARD,), packed.suits),
    ("batch", (_INPUT,), packed.suits_back),
    ("direct", (_FORWARD, _WEIGHT), direct.suits),
    ("direct", (_INPUT,), direct.suits_back),
    ("pixels", _ALL, pixels.suits),
    ("batch", _ALL, columns.few),
    ("pointwise", (_FORWARD, _INPUT), pointwise.suits_large),
    ("pointwise", (_WEIGHT,), pointwise.suits),
    ("columns", _ALL, lambda plan: True),
)


def _chosen(op, *arguments):
    return _chosen_for(op, *arguments, registry.preferred)


@lru_cache(1024)
def _chosen_for(op, x_shape, w_shape, stride, padding, dilation, groups, itemsize, algorithm, preferred):
    """(the plan, the algorithm): the one named in the call, else the one that CHAINRULE_KERNELS asks for, else ours."""
    plan = columns.plan_of(x_shape, w_shape, stride, padding, dilation, groups, itemsize)
    name, alone = (algorithm, True) if algorithm else registry.asked(preferred, op, "conv2d")
    if name in ALGORITHMS:
        lack = ALGORITHMS[name].lacks(plan)
        if not lack:
            return plan, ALGORITHMS[name]
        if alone:
            raise ValueError(f"the algorithm {name!r} received {lack}; {_advice(plan)}")
    elif algorithm:
        raise ValueError(f"there is no algorithm {algorithm!r}; {_advice(plan)}")
    return plan, ALGORITHMS[fastest(op, plan)]


def fastest(op, plan) -> str:
    """The name of the algorithm that the rules take for a plan."""
    return next(n for n, ops, holds in _RULES if op in ops and not ALGORITHMS[n].lacks(plan) and holds(plan))


def _advice(plan):
    able = ", ".join(name for name, algorithm in ALGORITHMS.items() if not algorithm.lacks(plan))
    return f"take {able}, or name none for the fastest"


for _name in ALGORITHMS:
    for _function in (conv2d, conv2d_input, conv2d_weight):
        _op = _function.__name__
        registry.implementation(_op, _name, device="cpu", floor=getattr(floors, _op))(
            partial(_function, algorithm=_name)
        )
