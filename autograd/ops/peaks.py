"""The largest value of each filter along a sequence (max over time), whose backward visits the winning windows alone.

The product of each filter with a chosen window and its two adjoints are three primitives, each the others' derivative:
all orders of derivative exist.
"""

from __future__ import annotations

import math

from ..primitive import primitive
from .reductions import sum_over


@primitive(
    name="conv1d_max",
    outputs=2,
    formula=r"\max_t\,(w * x + b)_t",
    flops=lambda x, w, *_, **__: 2 * x[0] * (x[2] - w[2] + 1) * math.prod(w),
)
def conv1d_peaks(k, x, w, b=None):
    return k.conv1d_max(x, w, b)


@conv1d_peaks.vjp("x", formula=r"w^{\mathsf T} \bar o \text{ at the largest}")
def conv1d_peaks_dx(g, w, out, x_shape):
    return windows_input(g[0], w, out[1], length=x_shape[2])


@conv1d_peaks.vjp("w", formula=r"\bar o\,x \text{ at the largest}")
def conv1d_peaks_dw(g, x, out, w_shape):
    return windows_weight(g[0], x, out[1], width=w_shape[2])


@conv1d_peaks.vjp("b", formula=r"\textstyle\sum_n \bar o")
def conv1d_peaks_db(g):
    return sum_over(g[0], dim=(0,), keepdim=False)


@primitive(constant=("places",), formula=r"w \cdot x[i]", flops=lambda x, w, places, **_: 2 * x[0] * math.prod(w))
def windows_product(k, x, w, places):
    return k.windows_product(x, w, places)


@windows_product.vjp("x", formula=r"w^{\mathsf T} \bar o \text{ at } i")
def windows_product_dx(g, w, places, x_shape):
    return windows_input(g, w, places, length=x_shape[2])


@windows_product.vjp("w", formula=r"\bar o\,x[i]")
def windows_product_dw(g, x, places, w_shape):
    return windows_weight(g, x, places, width=w_shape[2])


@primitive(
    constant=("places",), formula=r"w^{\mathsf T} g \text{ at } i", flops=lambda g, w, *_, **__: 2 * g[0] * math.prod(w)
)
def windows_input(k, g, w, places, *, length):
    return k.windows_input(g, w, places, length=length)


@windows_input.vjp("g", formula=r"w \cdot \bar o[i]")
def windows_input_dg(gbar, w, places, *, length):
    return windows_product(gbar, w, places)


@windows_input.vjp("w", formula=r"g\,\bar o[i]")
def windows_input_dw(gbar, g, places, w_shape, *, length):
    return windows_weight(g, gbar, places, width=w_shape[2])


@primitive(constant=("places",), formula=r"g\,x[i]", flops=lambda g, x, places, out, **_: 2 * g[0] * math.prod(out))
def windows_weight(k, g, x, places, *, width):
    return k.windows_weight(g, x, places, width=width)


@windows_weight.vjp("g", formula=r"\bar o \cdot x[i]")
def windows_weight_dg(gbar, x, places, *, width):
    return windows_product(x, gbar, places)


@windows_weight.vjp("x", formula=r"\bar o^{\mathsf T} g \text{ at } i")
def windows_weight_dx(gbar, g, places, x_shape, *, width):
    return windows_input(g, gbar, places, length=x_shape[2])


def conv1d_max(input, weight, bias=None):
    """The largest value of each filter along sequences, max over time (Collobert 2011): max_t conv1d(x, w, b)[n, o, t].

    Shapes: input (N, C, L), weight (O, C, k), bias (O,) → (N, O). The first of equals wins, and NaN wins over numbers.
    The same as `conv1d(…).amax(-1)` where nothing is equal, but only the winning windows have a gradient, so backward
    takes a fraction 1/(L − k + 1) of a convolution's work.

    Errors: ValueError for other shapes, or a filter longer than the sequence.

    >>> x = cr.tensor([[[0.0, 3.0, 1.0, 1.0]]], requires_grad=True)
    >>> y = cr.autograd.conv1d_max(x, cr.tensor([[[1.0, 2.0]]]))
    >>> y.backward(cr.ones(1, 1))
    >>> y.item(), x.grad.tolist()
    (6.0, [[[1.0, 2.0, 0.0, 0.0]]])
    """
    if input.ndim != 3 or weight.ndim != 3 or input.shape[1] != weight.shape[1]:
        raise ValueError(
            f"conv1d_max: received an input of shape {input.shape} and a weight of shape {weight.shape}; they must be "
            "(N, C, L) and (O, C, k) with the same channels C"
        )
    if not 1 <= weight.shape[2] <= input.shape[2]:
        raise ValueError(
            f"conv1d_max: a filter of width {weight.shape[2]} has no place in a sequence of length {input.shape[2]}; "
            "pad the input, or take a narrower filter"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"conv1d_max: the bias has shape {bias.shape}; it must be ({weight.shape[0]},), one number for each filter"
        )
    return conv1d_peaks(input, weight, bias)[0]
