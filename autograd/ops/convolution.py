"""Convolutions (cross-correlations, as in all deep-learning libraries) in one and two dimensions, and their transposes.

The convolution and its two adjoints are three primitives, each the others' derivative: all orders of derivative exist.
A one-dimensional convolution is a two-dimensional one over a height of 1.
"""

from __future__ import annotations

import math

from ...kernels import geometry
from ..primitive import primitive
from .reductions import sum_over
from .shape import pad, reshape


def _macs(x, w, *_, out, **metadata):
    """FLOPs: two for each product of a filter element and the output element (or gradient) that it meets."""
    return 2 * math.prod(out) * math.prod(w[1:])


@primitive(name="conv2d", formula=r"w * x + b", flops=_macs)
def conv2d_pairs(k, x, w, b=None, *, stride, padding, dilation, groups):
    return k.conv2d(x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups)


@conv2d_pairs.vjp("x", formula=r"w^{\mathsf T} * \bar o")
def conv2d_pairs_dx(g, w, x_shape, **geometry):
    return conv2d_input(g, w, input_size=x_shape[2:], **geometry)


@conv2d_pairs.vjp("w", formula=r"\bar o * x")
def conv2d_pairs_dw(g, x, w_shape, **geometry):
    return conv2d_weight(g, x, kernel_size=w_shape[2:], **geometry)


@conv2d_pairs.vjp("b", formula=r"\textstyle\sum_{n,i,j} \bar o")
def conv2d_pairs_db(g, **geometry):
    return sum_over(g, dim=(0, 2, 3), keepdim=False)


@primitive(formula=r"w^{\mathsf T} * g", flops=lambda g, w, out, **_: 2 * math.prod(g) * math.prod(w[1:]))
def conv2d_input(k, g, w, *, input_size, stride, padding, dilation, groups):
    return k.conv2d_input(g, w, input_size=input_size, stride=stride, padding=padding, dilation=dilation, groups=groups)


@conv2d_input.vjp("g", formula=r"w * \bar o")
def conv2d_input_dg(g, w, *, input_size, **geometry):
    return conv2d_pairs(g, w, **geometry)


@conv2d_input.vjp("w", formula=r"g * \bar o")
def conv2d_input_dw(gbar, g, w_shape, *, input_size, **geometry):
    return conv2d_weight(g, gbar, kernel_size=w_shape[2:], **geometry)


@primitive(formula=r"g * x", flops=lambda g, x, out, **_: 2 * math.prod(g) * math.prod(out[1:]))
def conv2d_weight(k, g, x, *, kernel_size, stride, padding, dilation, groups):
    return k.conv2d_weight(
        g, x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@conv2d_weight.vjp("g", formula=r"\bar o * x")
def conv2d_weight_dg(gbar, x, *, kernel_size, **geometry):
    return conv2d_pairs(x, gbar, **geometry)


@conv2d_weight.vjp("x", formula=r"\bar o^{\mathsf T} * g")
def conv2d_weight_dx(gbar, g, x_shape, *, kernel_size, **geometry):
    return conv2d_input(g, gbar, input_size=x_shape[2:], **geometry)


# ---- the public forms ------------------------------------------------------------------------------------------------


def _check(who, input, weight, bias, channels, spatial, groups):
    """Refuse what cannot be convolved, before any work."""
    letters = "HW"[-spatial:] if spatial == 2 else "L"
    if input.ndim not in (spatial + 1, spatial + 2) or weight.ndim != spatial + 2:
        raise ValueError(
            f"{who}: received an input of shape {input.shape} and a weight of shape {weight.shape}; the input must be "
            f"(N, C, {', '.join(letters)}) or (C, {', '.join(letters)}) and the weight have {spatial + 2} dimensions"
        )
    if groups < 1 or weight.shape[0] % groups or channels % groups:
        raise ValueError(
            f"{who}: groups={groups} must be at least 1 and divide the channels; the input has {channels} and "
            "the weight "
            f"{weight.shape[0]} in its first dimension"
        )


def _pair(value, name, least=1):
    """A 1-d argument (an int or a 1-tuple) as the pair of a height of 1."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise ValueError(f"{name}={value!r} has {len(value)} entries, but there is one axis: pass an int")
        value = value[0]
    return (1 if least else 0, geometry.pair(value, name, least=least)[1])


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups: int = 1):
    """The cross-correlation of images with filters: out[n, o] = b[o] + Σ_c w[o, c] ⋆ x[n, c].

    Shapes: input (N, C, H, W) or (C, H, W), weight (O, C/groups, kh, kw), bias (O,) → (N, O, H', W') with
    H' = ⌊(H + 2p − d(kh − 1) − 1)/s⌋ + 1. padding: an int, a pair, "valid", "same" (stride 1), or ((top, bottom),
    (left, right)). Computed by im2col and a matrix product (Chellapilla et al. 2006).

    Errors: ValueError for channels, groups or sizes that do not fit.

    >>> cr.conv2d(cr.ones(1, 3, 32, 32), cr.ones(10, 3, 5, 5), padding=2).shape
    (1, 10, 32, 32)
    """
    if input.ndim == 3:
        _check("conv2d", input, weight, bias, input.shape[0], 2, groups)
        return reshape_first(conv2d(reshape(input, (1, *input.shape)), weight, bias, stride, padding, dilation, groups))
    return conv2d_pairs(input, weight, bias, **conv2d_geometry(input, weight, bias, stride, padding, dilation, groups))


def conv2d_geometry(input, weight, bias, stride, padding, dilation, groups):
    """The metadata of the primitives for a batch, once all is known to fit."""
    _check("conv2d", input, weight, bias, input.shape[1] if input.ndim > 2 else 0, 2, groups)
    if input.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"conv2d: the input of shape {input.shape} has {input.shape[1]} channels, but the weight of shape "
            f"{weight.shape} "
            f"with groups={groups} expects {weight.shape[1] * groups}; change in_channels or the input"
        )
    _check_bias("conv2d", bias, weight.shape[0])
    stride, dilation = geometry.pair(stride, "stride"), geometry.pair(dilation, "dilation")
    padding = geometry.padding_pairs(padding, kernel_size=weight.shape[2:], stride=stride, dilation=dilation)
    geometry.conv_output_size(
        input.shape[2:], kernel_size=weight.shape[2:], stride=stride, padding=padding, dilation=dilation
    )
    return dict(stride=stride, padding=padding, dilation=dilation, groups=groups)


def _check_bias(who, bias, channels):
    if bias is not None and bias.shape != (channels,):
        raise ValueError(
            f"{who}: the bias has shape {bias.shape}; it must be ({channels},), one number for each output channel"
        )


def reshape_first(x):
    """Without the batch dimension of size 1."""
    return reshape(x, x.shape[1:])


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups: int = 1):
    """The cross-correlation of sequences with filters, as `conv2d` in one dimension.

    Shapes: input (N, C, L) or (C, L), weight (O, C/groups, k), bias (O,) → (N, O, L').

    >>> cr.conv1d(cr.ones(1, 1, 7), cr.ones(1, 1, 3)).shape
    (1, 1, 5)
    """
    _check("conv1d", input, weight, bias, input.shape[-2] if input.ndim > 1 else 0, 1, groups)
    if input.ndim == 2:
        return reshape_first(conv1d(reshape(input, (1, *input.shape)), weight, bias, stride, padding, dilation, groups))
    if input.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"conv1d: the input of shape {input.shape} has {input.shape[1]} channels, but the weight of shape "
            f"{weight.shape} "
            f"with groups={groups} expects {weight.shape[1] * groups}; change in_channels or the input"
        )
    if not isinstance(padding, str):
        padding = (0, _pair(padding, "padding", least=0)[1])
    out = conv2d(
        _tall(input), _tall(weight), bias, _pair(stride, "stride"), padding, _pair(dilation, "dilation"), groups
    )
    return _flat(out)


def _tall(x):
    return reshape(x, (*x.shape[:2], 1, x.shape[2]))


def _flat(x):
    return reshape(x, (*x.shape[:2], x.shape[3]))


def conv_transpose2d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups: int = 1, dilation=1):
    """The adjoint of `conv2d` with respect to its input: it spreads each element by the filter (fractional stride).

    Shapes: input (N, C, H, W) or (C, H, W), weight (C, O/groups, kh, kw), bias (O,) → (N, O, H', W') with
    H' = (H − 1)s − 2p + d(kh − 1) + output_padding + 1.

    >>> cr.conv_transpose2d(cr.ones(1, 3, 4, 4), cr.ones(3, 2, 2, 2), stride=2).shape
    (1, 2, 8, 8)
    """
    _check("conv_transpose2d", input, weight, bias, input.shape[-3] if input.ndim > 2 else 0, 2, groups)
    if input.ndim == 3:
        batched = reshape(input, (1, *input.shape))
        return reshape_first(conv_transpose2d(batched, weight, bias, stride, padding, output_padding, groups, dilation))
    if input.shape[1] != weight.shape[0]:
        raise ValueError(
            f"conv_transpose2d: the input of shape {input.shape} has {input.shape[1]} channels, but the weight "
            "of shape "
            f"{weight.shape} expects {weight.shape[0]}; change in_channels or the input"
        )
    _check_bias("conv_transpose2d", bias, weight.shape[1] * groups)
    stride, dilation = geometry.pair(stride, "stride"), geometry.pair(dilation, "dilation")
    output_padding = geometry.pair(output_padding, "output_padding", least=0)
    if isinstance(padding, str):
        raise ValueError(f"conv_transpose2d: received padding={padding!r}; a transpose takes numbers only")
    padding = geometry.padding_pairs(padding, kernel_size=weight.shape[2:], stride=stride, dilation=dilation)
    size = geometry.conv_transpose_output_size(
        input.shape[2:],
        kernel_size=weight.shape[2:],
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )
    # output_padding cuts less off at the far ends; what lies beyond the reach of the filters there is 0.
    beyond = tuple(max(more - after, 0) for more, (_, after) in zip(output_padding, padding, strict=True))
    padding = tuple(
        (before, max(after - more, 0)) for more, (before, after) in zip(output_padding, padding, strict=True)
    )
    reached = tuple(n - far for n, far in zip(size, beyond, strict=True))
    out = conv2d_input(
        input, weight, input_size=reached, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    out = pad(out, (0, beyond[1], 0, beyond[0])) if any(beyond) else out
    return out if bias is None else out + reshape(bias, (1, -1, 1, 1))


def conv_transpose1d(input, weight, bias=None, stride=1, padding=0, output_padding=0, groups: int = 1, dilation=1):
    """The adjoint of `conv1d` with respect to its input, as `conv_transpose2d` in one dimension.

    Shapes: input (N, C, L) or (C, L), weight (C, O/groups, k), bias (O,) → (N, O, L').

    >>> cr.conv_transpose1d(cr.ones(1, 3, 4), cr.ones(3, 2, 2), stride=2).shape
    (1, 2, 8)
    """
    _check("conv_transpose1d", input, weight, bias, input.shape[-2] if input.ndim > 1 else 0, 1, groups)
    if input.ndim == 2:
        batched = reshape(input, (1, *input.shape))
        return reshape_first(conv_transpose1d(batched, weight, bias, stride, padding, output_padding, groups, dilation))
    padding, output_padding = (0, _pair(padding, "padding", 0)[1]), (0, _pair(output_padding, "output_padding", 0)[1])
    stride, dilation = _pair(stride, "stride"), _pair(dilation, "dilation")
    return _flat(conv_transpose2d(_tall(input), _tall(weight), bias, stride, padding, output_padding, groups, dilation))
