"""Layers in a row as one operation: a product or convolution, an activation, a pooling."""

from __future__ import annotations

import math

from ...kernels import geometry
from ..primitive import primitive
from .convolution import conv2d_geometry, conv2d_pairs, conv2d_pairs_db, conv2d_pairs_dw, conv2d_pairs_dx, reshape_first
from .elementwise import relu, sigmoid, tanh
from .linalg import check_rows, flat, linear_rows, linear_rows_dbias, linear_rows_dweight, linear_rows_dx
from .pooling import avg_pool2d, avg_pool_spread, max_pool2d, max_pool_windows, scatter_planes
from .shape import reshape

_ACTIVATIONS = {"relu": relu, "tanh": tanh, "sigmoid": sigmoid}
#: the gradient before an activation, from the one behind it and the activation's result
_BEFORE = {
    "relu": lambda g, out: g * (out > 0),
    "tanh": lambda g, out: g * (1 - out * out),
    "sigmoid": lambda g, out: g * (out * (1 - out)),
}


# ---- product and activation ------------------------------------------------------------------------------------------


@primitive(
    name="linear_act",
    formula=r"\phi(x W^{\mathsf T} + b)",
    flops=lambda x, w, b, out, **_: math.prod(out) * (2 * w[1] + 1),
)
def linear_act_rows(k, x, weight, bias=None, *, activation):
    check_rows(x, weight, bias)
    out = k.affine_act(flat(x), weight, bias, activation=activation)
    return out if x.ndim == 2 else out.reshape(*x.shape[:-1], weight.shape[0])


@linear_act_rows.vjp("x", formula=r"(\bar o \odot \phi')\,W")
def linear_act_rows_dx(g, weight, out, *, activation):
    return linear_rows_dx(_BEFORE[activation](g, out), weight)


@linear_act_rows.vjp("weight", formula=r"(\bar o \odot \phi')^{\mathsf T} x")
def linear_act_rows_dweight(g, x, out, *, activation):
    return linear_rows_dweight(_BEFORE[activation](g, out), x)


@linear_act_rows.vjp("bias", formula=r"\textstyle\sum \bar o \odot \phi'")
def linear_act_rows_dbias(g, out, *, activation):
    return linear_rows_dbias(_BEFORE[activation](g, out))


@linear_act_rows.fused_vjp("x", "weight", "bias")
def linear_act_rows_fused(k, g, x, weight, out, *, live, activation):
    given = flat(g), flat(x), weight, flat(out)
    dx, dweight, dbias = k.affine_act_backward(*given, activation=activation, live=live)
    return dx if dx is None else dx.reshape(x.shape), dweight, dbias


def linear_act_composed(x, weight, bias=None, *, activation):
    """The two operations that it stands for."""
    return _ACTIVATIONS[activation](linear_rows(x, weight, bias))


linear_act_rows.composed = linear_act_composed


def linear_act(input, weight, bias=None, activation: str = "relu"):
    """y = φ(x Wᵀ + b) for φ "relu", "tanh" or "sigmoid", in one operation that keeps nothing but y for φ'.

    Shapes: input (…, I), weight (O, I), bias (O,) → (…, O). Errors: ValueError for another activation.

    >>> cr.autograd.linear_act(cr.ones(2, 3), cr.ones(4, 3), activation="tanh").shape
    (2, 4)
    """
    _check_activation("linear_act", activation)
    return linear_act_rows(input, weight, bias, activation=activation)


def _check_activation(who, activation):
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"{who}: received activation={activation!r}; it can be {', '.join(map(repr, _ACTIVATIONS))}; compose "
            "others of operations of their own"
        )


# ---- convolution, activation and pooling -----------------------------------------------------------------------------


def _planes_flops(x, w, b, out, *, pool, **_):
    """Of the convolution, and one for each activation and each element that is pooled."""
    of_windows = math.prod(out) * (math.prod(pool[1:]) if pool else 1)
    return of_windows * (2 * math.prod(w[1:]) + 1 + bool(pool))


@primitive(name="conv2d_act_pool", scratch=True, formula=r"\operatorname{pool} \phi(w * x + b)", flops=_planes_flops)
def conv2d_act_pool_planes(k, x, w, b=None, *, activation, pool, **sizes):
    return k.conv2d_act_pool(x, w, b, activation=activation, pool=pool, **sizes)


def _plane(x, w, *, groups, **sizes):
    """(H', W') of a convolution."""
    return geometry.conv_output_size(x.shape[2:], kernel_size=w.shape[2:], **sizes)


def _before(g, x, w, b, activation, pool, sizes):
    """The gradient of the convolution's result, computed anew; pool is ("max" | "avg", kh, kw) or None."""
    out = _ACTIVATIONS[activation](conv2d_pairs(x, w, b, **sizes))
    if pool:
        plane, tile = out.shape[2:], pool[1:]
        window = dict(kernel_size=tile, stride=tile, padding=((0, 0), (0, 0)), ceil_mode=False)
        if pool[0] == "max":
            places = max_pool_windows(out, **window, dilation=(1, 1))[1]
            g = scatter_planes(g, places, plane=plane, windows=geometry.pool_windows(plane, **window))
        else:
            g = avg_pool_spread(g, input_size=plane, **window, count_include_pad=True, divisor_override=None)
    return _BEFORE[activation](g, out)


@conv2d_act_pool_planes.vjp("x", formula=r"w^{\mathsf T} * \bar z,\ \bar z = \phi' \odot \operatorname{unpool} \bar o")
def conv2d_act_pool_planes_dx(g, x, w, b, *, activation, pool, **sizes):
    return conv2d_pairs_dx(_before(g, x, w, b, activation, pool, sizes), w, x.shape, **sizes)


@conv2d_act_pool_planes.vjp("w", formula=r"\bar z * x")
def conv2d_act_pool_planes_dw(g, x, w, b, *, activation, pool, **sizes):
    return conv2d_pairs_dw(_before(g, x, w, b, activation, pool, sizes), x, w.shape, **sizes)


@conv2d_act_pool_planes.vjp("b", formula=r"\textstyle\sum_{n,i,j} \bar z")
def conv2d_act_pool_planes_db(g, x, w, b, *, activation, pool, **sizes):
    return conv2d_pairs_db(_before(g, x, w, b, activation, pool, sizes), **sizes)


@conv2d_act_pool_planes.fused_vjp("x", "w", "b")
def conv2d_act_pool_planes_fused(k, g, x, w, out, scratch, *, live, activation, pool, **sizes):
    plane = _plane(x, w, **sizes)
    before = k.act_pool_backward(g, out, scratch, activation=activation, pool=pool, size=plane)
    return (
        conv2d_pairs_dx(before, w, x.shape, **sizes) if live[0] else None,
        conv2d_pairs_dw(before, x, w.shape, **sizes) if live[1] else None,
        conv2d_pairs_db(before, **sizes) if live[2] else None,
    )


def conv2d_act_pool_composed(x, w, b=None, *, activation, pool, **sizes):
    """The two or three operations that it stands for."""
    out = _ACTIVATIONS[activation](conv2d_pairs(x, w, b, **sizes))
    return {"max": max_pool2d, "avg": avg_pool2d}[pool[0]](out, pool[1:]) if pool else out


conv2d_act_pool_planes.composed = conv2d_act_pool_composed


def conv2d_act_pool(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups: int = 1,
    activation: str = "relu",
    pool: tuple | None = None,
):
    """`conv2d`, an activation φ and, if asked, a pooling in one operation, which writes no more than it must.

    activation: "relu", "tanh" or "sigmoid". pool: ("max" | "avg", kh, kw) for windows side by side, or None. For
    backward it keeps, besides the inputs, the result and the places of the maxima (a byte each), or what was averaged.

    Shapes and errors: those of `conv2d`, then of `max_pool2d`; ValueError for another activation or pool.

    >>> images, filters = cr.ones(1, 1, 32, 32), cr.ones(6, 1, 5, 5)
    >>> cr.autograd.conv2d_act_pool(images, filters, activation="tanh", pool=("avg", 2, 2)).shape
    (1, 6, 14, 14)
    """
    _check_activation("conv2d_act_pool", activation)
    if pool is not None and (len(pool) != 3 or pool[0] not in ("max", "avg") or not 0 < pool[1] * pool[2] <= 256):
        raise ValueError(
            f"conv2d_act_pool: received pool={pool!r}; it can be None, or ('max', kh, kw) or ('avg', kh, kw) with at "
            "most 256 elements in a window; pool others by an operation of its own"
        )
    if input.ndim == 3:
        images = reshape(input, (1, *input.shape))
        return reshape_first(
            conv2d_act_pool(images, weight, bias, stride, padding, dilation, groups, activation, pool)
        )
    sizes = conv2d_geometry(input, weight, bias, stride, padding, dilation, groups)
    if pool:
        plane = _plane(input, weight, **sizes)
        geometry.pool_output_size(plane, kernel_size=pool[1:], stride=pool[1:], padding=((0, 0), (0, 0)))
    return conv2d_act_pool_planes(input, weight, bias, activation=activation, pool=pool, **sizes)
