"""Batch, layer and group normalisation, and dropout."""

from __future__ import annotations

import math

import numpy as np

from ...kernels import for_array
from ..primitive import primitive
from ..random import default_generator
from ..tensor import is_number, note_write, result
from .elementwise import rsqrt
from .reductions import mean_over, sum_over, var_over
from .shape import reshape


def _sizes(who, input):
    """The input's shape."""
    try:
        return input.shape
    except AttributeError:
        raise TypeError(
            f"{who}: received a {type(input).__name__} as its input, which has no shape; pass a tensor, such as "
            "cr.tensor(…) of numbers"
        ) from None


def _check_eps(who, eps):
    if not is_number(eps):
        raise TypeError(
            f"{who}: received eps={eps!r}; it is added to a variance, whose root divides: pass a number, such as 1e-5"
        )


@primitive(elementwise=True, floating=True, formula=r"x\,s + t", flops=2)
def scale_shift(k, x, scale, shift):
    """x scale + shift, broadcasting, in one pass over memory."""
    return k.scale_shift(x, scale, shift)


@scale_shift.vjp("x", formula=r"\bar o\,s", kernel="multiply")
def scale_shift_dx(g, scale):
    return g * scale


@scale_shift.vjp("scale", formula=r"\bar o\,x", kernel="multiply")
def scale_shift_dscale(g, x):
    return g * x


@scale_shift.vjp("shift", formula=r"\bar o")
def scale_shift_dshift(g):
    return g


def _affine(out, weight, bias, shape):
    if weight is not None and bias is not None:
        return scale_shift(out, reshape(weight, shape), reshape(bias, shape))
    if weight is not None:
        return out * reshape(weight, shape)
    return out if bias is None else out + reshape(bias, shape)


def _moments(x, dims, eps):
    """(x − mean) and 1/√(var + eps) in differentiable terms."""
    centred = x - mean_over(x, dim=dims, keepdim=True)
    return centred, rsqrt(var_over(x, dim=dims, keepdim=True, correction=0) + eps)


def _normalised_dx(g, centred, rstd, dims):
    """The gradient through (x − mean)·rstd, both of which depend on x, for g already scaled by the weight."""
    y = centred * rstd
    inner = g - mean_over(g, dim=dims, keepdim=True) - y * mean_over(g * y, dim=dims, keepdim=True)
    return inner * rstd


# ---- batch normalisation ---------------------------------------------------------------------------------------------


def _channels(ndim):
    return tuple(d for d in range(ndim) if d != 1)


def _channel_shape(ndim):
    return (1, -1) + (1,) * (ndim - 2)


@primitive(
    name="batch_norm", scratch=True, formula=r"\gamma\,(x - \mu_B) / \sqrt{\sigma_B^2 + \epsilon} + \beta", flops=8
)
def batch_norm_batch(k, x, weight=None, bias=None, *, eps, report):
    out, mean, var, rstd = k.batch_norm(x, weight, bias, eps=eps)
    if report is not None:
        report(mean, var)
    return out, (mean, rstd)


@batch_norm_batch.vjp("x", formula=r"\tfrac{\gamma}{\sigma} (\bar o - \overline{\bar o} - y\,\overline{\bar o y})")
def batch_norm_batch_dx(g, x, weight, *, eps, report):
    dims = _channels(x.ndim)
    g = g if weight is None else g * reshape(weight, _channel_shape(x.ndim))
    return _normalised_dx(g, *_moments(x, dims, eps), dims)


@batch_norm_batch.vjp("weight", formula=r"\textstyle\sum \bar o\,y")
def batch_norm_batch_dweight(g, x, *, eps, report):
    dims = _channels(x.ndim)
    centred, rstd = _moments(x, dims, eps)
    return sum_over(g * (centred * rstd), dim=dims, keepdim=False)


@batch_norm_batch.vjp("bias", formula=r"\textstyle\sum \bar o")
def batch_norm_batch_dbias(g, x_shape, *, eps, report):
    return sum_over(g, dim=_channels(len(x_shape)), keepdim=False)


@batch_norm_batch.fused_vjp("x", "weight", "bias")
def batch_norm_batch_fused(k, g, x, weight, scratch, *, eps, report):
    return k.batch_norm_backward(g, x, weight, *scratch)


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """γ (x − μ)/√(σ² + ε) + β per channel (Ioffe & Szegedy 2015).

    In training, μ and σ² (biased) are the batch's, and running_mean and running_var (unbiased), if given, move towards
    them by `momentum`, in place; otherwise they are the running ones. Shapes: input (N, C, …), all others (C,).

    Errors: ValueError for a training batch of one value per channel, or sizes that differ from C.

    >>> cr.batch_norm(cr.tensor([[1.0], [3.0]]), None, None, training=True).tolist()
    [[-0.9999949932098389], [0.9999949932098389]]
    """
    sizes = _sizes("batch_norm", input)
    if len(sizes) < 2:
        raise ValueError(f"batch_norm: received shape {sizes}; the input must be (N, C, …)")
    _check_eps("batch_norm", eps)
    channels = sizes[1]
    named = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for name, value in named.items():
        if value is not None and value.shape != (channels,):
            raise ValueError(
                f"batch_norm: {name} has shape {value.shape}, but the input of shape {sizes} has "
                f"{channels} channels; "
                f"it must be ({channels},)"
            )
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: with training=False the running mean and variance are needed; pass both")
        shape = _channel_shape(len(sizes))
        scale = rsqrt(running_var + eps)
        scale = scale if weight is None else scale * weight
        shift = -running_mean * scale if bias is None else bias - running_mean * scale
        return _affine(input, scale, shift, shape)
    n = math.prod(sizes) // max(channels, 1)
    if n == 1:
        raise ValueError(
            f"batch_norm: the input of shape {sizes} has one value per channel, whose variance is 0; "
            "train with larger batches, or call eval()"
        )

    def report(mean, var):
        for running, value in ((running_mean, mean), (running_var, var * (n / max(n - 1, 1)))):
            if running is not None:
                running.array[...] = (1 - momentum) * running.array + momentum * value
                note_write(running)

    return batch_norm_batch(input, weight, bias, eps=eps, report=report)


# ---- layer normalisation ---------------------------------------------------------------------------------------------


@primitive(
    name="layer_norm", scratch=True, formula=r"\gamma \odot (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta", flops=8
)
def layer_norm_last(k, x, weight=None, bias=None, *, axes, eps):
    out, mean, rstd = k.layer_norm(x, weight, bias, axes=axes, eps=eps)
    return out, (mean, rstd)


def _last(ndim, axes):
    return tuple(range(ndim - axes, ndim))


@layer_norm_last.vjp(
    "x", formula=r"\tfrac1\sigma (\gamma\bar o - \overline{\gamma\bar o} - y\,\overline{\gamma\bar o y})"
)
def layer_norm_last_dx(g, x, weight, *, axes, eps):
    dims = _last(x.ndim, axes)
    return _normalised_dx(g if weight is None else g * weight, *_moments(x, dims, eps), dims)


@layer_norm_last.vjp("weight", formula=r"\textstyle\sum \bar o\,y")
def layer_norm_last_dweight(g, x, *, axes, eps):
    centred, rstd = _moments(x, _last(x.ndim, axes), eps)
    return _over_rows(g * (centred * rstd), axes)


@layer_norm_last.vjp("bias", formula=r"\textstyle\sum \bar o")
def layer_norm_last_dbias(g, *, axes, eps):
    return _over_rows(g, axes)


def _over_rows(g, axes):
    dims = tuple(range(g.ndim - axes))
    return sum_over(g, dim=dims, keepdim=False) if dims else g * 1


@layer_norm_last.fused_vjp("x", "weight", "bias")
def layer_norm_last_fused(k, g, x, weight, scratch, *, axes, eps):
    return k.layer_norm_backward(g, x, weight, *scratch, axes=axes)


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """γ ⊙ (x − μ)/√(σ² + ε) + β with μ, σ² over the last dimensions, of sizes normalized_shape (Ba et al. 2016).

    Shapes: input (…, *normalized_shape); weight and bias normalized_shape.

    >>> cr.layer_norm(cr.tensor([[1.0, 3.0]]), (2,)).tolist()
    [[-0.9999949932098389, 0.9999949932098389]]
    """
    shape = tuple(normalized_shape) if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
    sizes = _sizes("layer_norm", input)
    if not shape or sizes[-len(shape) :] != shape:
        raise ValueError(
            f"layer_norm: normalized_shape={shape} does not name the last sizes of the input of shape {sizes}; "
            "they must be equal"
        )
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != shape:
            raise ValueError(f"layer_norm: the {name} has shape {value.shape}; it must be normalized_shape, {shape}")
    _check_eps("layer_norm", eps)
    return layer_norm_last(input, weight, bias, axes=len(shape), eps=eps)


# ---- group normalisation ---------------------------------------------------------------------------------------------


@primitive(
    name="group_norm", scratch=True, formula=r"\gamma\,(x - \mu_G) / \sqrt{\sigma_G^2 + \epsilon} + \beta", flops=8
)
def group_norm_groups(k, x, weight=None, bias=None, *, groups, eps):
    out, mean, rstd = k.group_norm(x, weight, bias, groups=groups, eps=eps)
    return out, (mean, rstd)


def _groups(x, groups):
    """Each group as a row, which the statistics are over."""
    return reshape(x, (x.shape[0], groups, math.prod(x.shape[1:]) // groups))


@group_norm_groups.vjp(
    "x", formula=r"\tfrac1\sigma (\gamma\bar o - \overline{\gamma\bar o} - y\,\overline{\gamma\bar o y})"
)
def group_norm_groups_dx(g, x, weight, *, groups, eps):
    g = g if weight is None else g * reshape(weight, _channel_shape(x.ndim))
    return reshape(_normalised_dx(_groups(g, groups), *_moments(_groups(x, groups), (2,), eps), (2,)), x.shape)


@group_norm_groups.vjp("weight", formula=r"\textstyle\sum \bar o\,y")
def group_norm_groups_dweight(g, x, *, groups, eps):
    centred, rstd = _moments(_groups(x, groups), (2,), eps)
    return sum_over(g * reshape(centred * rstd, x.shape), dim=_channels(x.ndim), keepdim=False)


@group_norm_groups.vjp("bias", formula=r"\textstyle\sum \bar o")
def group_norm_groups_dbias(g, *, groups, eps):
    return sum_over(g, dim=_channels(g.ndim), keepdim=False)


@group_norm_groups.fused_vjp("x", "weight", "bias")
def group_norm_groups_fused(k, g, x, weight, scratch, *, groups, eps):
    return k.group_norm_backward(g, x, weight, *scratch, groups=groups)


def group_norm(input, num_groups: int, weight=None, bias=None, eps: float = 1e-5):
    """γ (x − μ)/√(σ² + ε) + β with μ, σ² over each of `num_groups` groups of an item's channels (Wu & He 2018).

    Shapes: input (N, C, …); weight and bias (C,).

    >>> cr.group_norm(cr.tensor([[1.0, 3.0, 5.0, 5.0]]), 2).tolist()
    [[-0.9999949932098389, 0.9999949932098389, 0.0, 0.0]]
    """
    sizes = _sizes("group_norm", input)
    if type(num_groups) is not int and not isinstance(num_groups, np.integer):
        raise TypeError(
            f"group_norm: received num_groups={num_groups!r}; it counts the groups of an item's channels; pass an "
            "integer"
        )
    if len(sizes) < 2 or num_groups < 1 or sizes[1] % num_groups:
        raise ValueError(
            f"group_norm: received shape {sizes} and num_groups={num_groups}; the input must be (N, C, …), and "
            "num_groups divide C"
        )
    _check_eps("group_norm", eps)
    channels = sizes[1]
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None and value.shape != (channels,):
            raise ValueError(f"group_norm: the {name} has shape {value.shape}; it must be ({channels},)")
    return group_norm_groups(input, weight, bias, groups=num_groups, eps=eps)


# ---- dropout ---------------------------------------------------------------------------------------------------------


@primitive(name="dropout", floating=True, formula=r"\tfrac{m}{1 - p} \odot x", flops=20)
def dropped(k, x, *, p, draw):
    return k.dropout(x, p, draw=draw)


@dropped.vjp("x", formula=r"\tfrac{m}{1 - p} \odot \bar o")
def dropped_dx(g, *, p, draw):
    return dropped(g, p=p, draw=draw)


def dropout(input, p: float = 0.5, training: bool = True, *, generator=None):
    """Each element kept with probability 1 − p and scaled by 1/(1 − p), else 0 (Srivastava et al. 2014).

    >>> cr.dropout(cr.ones(4), 0.5, training=False)
    tensor([1., 1., 1., 1.])
    """
    return _dropped(input, p, training, input.shape, generator)


def feature_dropout(input, p: float = 0.5, training: bool = True, *, generator=None):
    """`dropout` of whole channels: (N, C, …), each (n, c) kept or zeroed as one (Tompson et al. 2015).

    >>> cr.feature_dropout(cr.ones(1, 2, 3), 0.5, training=False).shape
    (1, 2, 3)
    """
    return _dropped(input, p, training, input.shape[:2] + (1,) * (input.ndim - 2), generator)


def _dropped(x, p, training, shape, generator):
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: received p={p}; a probability lies in [0, 1]")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    source, k = generator or default_generator, for_array(x.array)
    draw = k.live(lambda: float(source.rng.integers(2**53)))
    if shape == x.shape:
        return dropped(x, p=p, draw=draw)
    return x * result(k.dropout(k.ones(shape, x.dtype), p, draw=draw))
