"""Pooling: the largest or the mean value of windows, in one and two dimensions, fixed or adaptive to an output size."""

from __future__ import annotations

import math

from ...kernels import geometry
from ..primitive import primitive
from .convolution import _flat, _pair, _tall, reshape_first
from .shape import reshape

# ---- primitives ------------------------------------------------------------------------------------------------------


def _window_flops(x, out, *, kernel_size, **_):
    return math.prod(out) * math.prod(kernel_size)


@primitive(name="max_pool2d", outputs=2, formula=r"\max_{\text{window}} x", flops=_window_flops)
def max_pool_windows(k, x, *, kernel_size, stride, padding, dilation, ceil_mode):
    return k.max_pool2d(
        x, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )


@max_pool_windows.vjp("x", formula=r"\bar o \text{ at the window's largest}")
def max_pool_windows_dx(g, out, x_shape, **window):
    plane = x_shape[2:]
    return scatter_planes(g[0], out[1], plane=plane, windows=geometry.pool_windows(plane, **window))


@primitive(
    name="adaptive_max_pool2d",
    outputs=2,
    formula=r"\max_{\text{region}} x",
    flops=lambda x, out, **_: math.prod(x),
)
def adaptive_max_regions(k, x, *, output_size):
    return k.adaptive_max_pool2d(x, output_size=output_size)


@adaptive_max_regions.vjp("x", formula=r"\bar o \text{ at the region's largest}")
def adaptive_max_regions_dx(g, out, x_shape, *, output_size):
    plane = x_shape[2:]
    windows = geometry.adaptive_windows(plane, output_size=output_size)
    return scatter_planes(g[0], out[1], plane=plane, windows=windows)


@primitive(constant=("indices",), formula=r"\textstyle\sum g \text{ at } i")
def scatter_planes(k, g, indices, *, plane, windows=None):
    return k.scatter_planes(g, indices, plane=plane, windows=windows)


@scatter_planes.vjp("g", formula=r"\bar o[i]")
def scatter_planes_dg(g, indices, *, plane, windows=None):
    return gather_planes(g, indices)


@primitive(constant=("indices",), formula=r"x[i]", flops=0)
def gather_planes(k, x, indices):
    return k.gather_planes(x, indices)


@gather_planes.vjp("x", formula=r"\textstyle\sum \bar o \text{ at } i")
def gather_planes_dx(g, indices, x_shape):
    return scatter_planes(g, indices, plane=x_shape[2:])


@primitive(name="avg_pool2d", formula=r"\operatorname{mean}_{\text{window}} x", flops=_window_flops)
def avg_pool_windows(k, x, **window):
    return k.avg_pool2d(x, **window)


@avg_pool_windows.vjp("x", formula=r"\bar o / n \text{ over the window}")
def avg_pool_windows_dx(g, x_shape, **window):
    return avg_pool_spread(g, input_size=x_shape[2:], **window)


@primitive(name="avg_pool2d_adjoint", formula=r"g / n \text{ over the window}")
def avg_pool_spread(k, g, *, input_size, **window):
    return k.avg_pool2d_backward(g, input_size=input_size, **window)


@avg_pool_spread.vjp("g", formula=r"\operatorname{mean}_{\text{window}} \bar o")
def avg_pool_spread_dg(g, *, input_size, **window):
    return avg_pool_windows(g, **window)


@primitive(
    name="adaptive_avg_pool2d",
    formula=r"\operatorname{mean}_{\text{region}} x",
    flops=lambda x, out, **_: math.prod(x),
)
def adaptive_avg_regions(k, x, *, output_size):
    return k.adaptive_avg_pool2d(x, output_size=output_size)


@adaptive_avg_regions.vjp("x", formula=r"\bar o / n \text{ over the region}")
def adaptive_avg_regions_dx(g, x_shape, *, output_size):
    return adaptive_avg_spread(g, input_size=x_shape[2:])


@primitive(name="adaptive_avg_pool2d_adjoint", formula=r"g / n \text{ over the region}")
def adaptive_avg_spread(k, g, *, input_size):
    return k.adaptive_avg_pool2d_backward(g, input_size=input_size)


@adaptive_avg_spread.vjp("g", formula=r"\operatorname{mean}_{\text{region}} \bar o")
def adaptive_avg_spread_dg(g, g_shape, *, input_size):
    return adaptive_avg_regions(g, output_size=g_shape[2:])


# ---- the public forms ------------------------------------------------------------------------------------------------


def _batched(who, x, spatial, function):
    """`function` of x with a batch dimension, which an input without one loses again."""
    if x.ndim == spatial + 2:
        return function(x)
    if x.ndim != spatial + 1:
        letters = "H, W" if spatial == 2 else "L"
        raise ValueError(f"{who}: received shape {x.shape}; the input must be (N, C, {letters}) or (C, {letters})")
    out = function(reshape(x, (1, *x.shape)))
    return tuple(reshape_first(o) for o in out) if isinstance(out, tuple) else reshape_first(out)


def _window(kernel_size, stride, padding, pair=geometry.pair):
    """The window as pairs; PyTorch's default stride is the window itself."""
    kernel_size = pair(kernel_size, "kernel_size")
    stride = kernel_size if stride is None else pair(stride, "stride")
    top, left = (
        geometry.pair(padding, "padding", least=0) if pair is geometry.pair else (0, _pair(padding, "padding", 0)[1])
    )
    if top * 2 > kernel_size[0] or left * 2 > kernel_size[1]:
        raise ValueError(
            f"padding={padding!r} is more than half of kernel_size={kernel_size}: some window would hold "
            "nothing but padding; "
            "pad less"
        )
    return kernel_size, stride, ((top, top), (left, left))


def _fits(x, window, dilation=(1, 1), ceil_mode=False):
    kernel_size, stride, padding = window
    geometry.pool_output_size(
        x.shape[2:], kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )


def max_pool2d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode: bool = False, return_indices: bool = False
):
    """The largest value of each window; padding counts as −∞. Of equal values the first gets the gradient.

    Shapes: (N, C, H, W) or (C, H, W) → (N, C, H', W'), H' = ⌊(H + 2p − d(k − 1) − 1)/s⌋ + 1 (⌈…⌉ in ceil_mode). The
    stride is the window's size unless given. return_indices adds the flat positions in each H × W plane (int64).

    >>> cr.max_pool2d(cr.arange(16.0).reshape(1, 1, 4, 4), 2).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """
    window, dilation = _window(kernel_size, stride, padding), geometry.pair(dilation, "dilation")

    def pool(x):
        _fits(x, window, dilation, ceil_mode)
        kernel, step, pads = window
        return max_pool_windows(
            x, kernel_size=kernel, stride=step, padding=pads, dilation=dilation, ceil_mode=bool(ceil_mode)
        )

    values, indices = _batched("max_pool2d", input, 2, pool)
    return (values, indices) if return_indices else values


def max_pool1d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode: bool = False, return_indices: bool = False
):
    """The largest value of each window of a sequence, as `max_pool2d` in one dimension: (N, C, L) → (N, C, L').

    >>> cr.max_pool1d(cr.tensor([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[3.0, 2.0]]]
    """
    window, dilation = _window(kernel_size, stride, padding, _pair), _pair(dilation, "dilation")

    def pool(x):
        x = _tall(x)
        _fits(x, window, dilation, ceil_mode)
        kernel, step, pads = window
        pooled = max_pool_windows(
            x, kernel_size=kernel, stride=step, padding=pads, dilation=dilation, ceil_mode=bool(ceil_mode)
        )
        return tuple(_flat(o) for o in pooled)

    values, indices = _batched("max_pool1d", input, 1, pool)
    return (values, indices) if return_indices else values


def avg_pool2d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override=None,
):
    """The mean of each window; count_include_pad says whether the padding's zeros count as elements.

    Shapes: (N, C, H, W) or (C, H, W) → (N, C, H', W'), H' as in `max_pool2d`.

    >>> cr.avg_pool2d(cr.arange(16.0).reshape(1, 1, 4, 4), 2).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """
    return _average(
        "avg_pool2d", input, 2, _window(kernel_size, stride, padding), ceil_mode, count_include_pad, divisor_override
    )


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode: bool = False, count_include_pad: bool = True):
    """The mean of each window of a sequence, as `avg_pool2d` in one dimension: (N, C, L) → (N, C, L').

    >>> cr.avg_pool1d(cr.tensor([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[2.0, 1.0]]]
    """
    return _average(
        "avg_pool1d", input, 1, _window(kernel_size, stride, padding, _pair), ceil_mode, count_include_pad, None
    )


def _average(who, input, spatial, window, ceil_mode, count_include_pad, divisor_override):
    if divisor_override == 0:
        raise ValueError(
            f"{who}: received divisor_override=0; a sum cannot be divided by it; pass another number or None"
        )

    def pool(x):
        x = _tall(x) if spatial == 1 else x
        _fits(x, window, ceil_mode=ceil_mode)
        kernel, step, pads = window
        out = avg_pool_windows(
            x,
            kernel_size=kernel,
            stride=step,
            padding=pads,
            ceil_mode=bool(ceil_mode),
            count_include_pad=bool(count_include_pad),
            divisor_override=divisor_override,
        )
        return _flat(out) if spatial == 1 else out

    return _batched(who, input, spatial, pool)


def _output_pair(who, output_size, x):
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    return geometry.pair(tuple(n if o is None else o for o, n in zip(wanted, x.shape[2:], strict=True)), "output_size")


def adaptive_avg_pool2d(input, output_size):
    """The mean over regions that divide the plane into output_size (an int, or a pair; None keeps a size) parts.

    Region i covers rows ⌊iH/H'⌋ to ⌈(i + 1)H/H'⌉. Shapes: (N, C, H, W) → (N, C, *output_size).

    >>> cr.adaptive_avg_pool2d(cr.arange(16.0).reshape(1, 1, 4, 4), 1).item()
    7.5
    """
    who = "adaptive_avg_pool2d"
    return _batched(who, input, 2, lambda x: adaptive_avg_regions(x, output_size=_output_pair(who, output_size, x)))


def adaptive_avg_pool1d(input, output_size):
    """`adaptive_avg_pool2d` in one dimension: (N, C, L) → (N, C, output_size).

    >>> cr.adaptive_avg_pool1d(cr.tensor([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[2.0, 1.0]]]
    """
    size = _pair(output_size, "output_size")
    return _batched("adaptive_avg_pool1d", input, 1, lambda x: _flat(adaptive_avg_regions(_tall(x), output_size=size)))


def adaptive_max_pool2d(input, output_size, return_indices: bool = False):
    """The largest value of regions that divide the plane into output_size parts, as `adaptive_avg_pool2d`.

    >>> cr.adaptive_max_pool2d(cr.arange(16.0).reshape(1, 1, 4, 4), 1).item()
    15.0
    """
    who = "adaptive_max_pool2d"
    pooled = _batched(who, input, 2, lambda x: adaptive_max_regions(x, output_size=_output_pair(who, output_size, x)))
    return pooled if return_indices else pooled[0]


def adaptive_max_pool1d(input, output_size, return_indices: bool = False):
    """`adaptive_max_pool2d` in one dimension: (N, C, L) → (N, C, output_size).

    >>> cr.adaptive_max_pool1d(cr.tensor([[[1.0, 3.0, 2.0, 0.0]]]), 2).tolist()
    [[[3.0, 2.0]]]
    """
    size = _pair(output_size, "output_size")

    def pool(x):
        return tuple(_flat(o) for o in adaptive_max_regions(_tall(x), output_size=size))

    pooled = _batched("adaptive_max_pool1d", input, 1, pool)
    return pooled if return_indices else pooled[0]
