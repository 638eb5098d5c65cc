"""Pooling layers: the maximum or the mean of windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...autograd import (
    Tensor,
    adaptive_avg_pool1d,
    adaptive_avg_pool2d,
    adaptive_max_pool1d,
    adaptive_max_pool2d,
    avg_pool1d,
    avg_pool2d,
    cat,
    chunk,
    gather,
    max_pool1d,
    max_pool2d,
    sort,
    topk,
)
from ..module import Module
from .checks import at_least, per_axis

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "KMaxPool",
    "MaxPool1d",
    "MaxPool2d",
]

Size = int | tuple[int, ...]


class _Windowed(Module):
    """Windows of `kernel_size` that start every `stride`, by default side by side."""

    axes: ClassVar[int]
    function: ClassVar[Callable[..., Any]]

    def _set_windows(self, kernel_size: Size, stride: Size | None, padding: Size) -> None:
        self.kernel_size, self.padding = kernel_size, padding
        self.stride = kernel_size if stride is None else stride
        kernels = per_axis(self, self.axes, 1, "kernel_size", kernel_size)
        per_axis(self, self.axes, 1, "stride", self.stride)
        pads = per_axis(self, self.axes, 0, "padding", padding)
        if any(2 * p > k for p, k in zip(pads, kernels)):
            raise ValueError(
                f"{type(self).__name__}: received padding={padding} for kernel_size={kernel_size}, but more than half "
                "a window would hold padding alone; pass at most kernel_size / 2"
            )


class _MaxPool(_Windowed):
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ):
        super().__init__()
        self._set_windows(kernel_size, stride, padding)
        per_axis(self, self.axes, 1, "dilation", dilation)
        self.dilation, self.return_indices, self.ceil_mode = dilation, return_indices, ceil_mode

    def forward(self, input: Tensor) -> Any:
        """Return the maxima, and with return_indices where in each plane they stand."""
        return type(self).function(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )

    def extra_repr(self) -> str:
        """Return the geometry."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest value of each window: x (N, C, L) → y (N, C, L'), L' = ⌊(L + 2p − d(k − 1) − 1)/s⌋ + 1.

    Padding counts as −∞; with `ceil_mode` a window may reach over the end.

    >>> cr.nn.MaxPool1d(2)(cr.tensor([[[1.0, 3.0, 2.0, 0.0]]])).tolist()
    [[[3.0, 2.0]]]
    """

    axes = 1
    function = staticmethod(max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest value of each window: x (N, C, H, W) → y (N, C, H', W'), H' = ⌊(H + 2p − d(k − 1) − 1)/s⌋ + 1.

    Padding counts as −∞; with `ceil_mode` a window may reach over the end.

    >>> cr.nn.MaxPool2d(2)(cr.ones(1, 6, 28, 28)).shape
    (1, 6, 14, 14)
    """

    axes = 2
    function = staticmethod(max_pool2d)


class AvgPool1d(_Windowed):
    """The mean of each window: x (N, C, L) → y (N, C, L'), L' = ⌊(L + 2p − k)/s⌋ + 1.

    Padding counts as zeros, or with `count_include_pad=False` not at all.

    >>> cr.nn.AvgPool1d(2)(cr.tensor([[[1.0, 3.0, 2.0, 0.0]]])).tolist()
    [[[2.0, 1.0]]]
    """

    axes = 1

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ):
        super().__init__()
        self._set_windows(kernel_size, stride, padding)
        windows = {"kernel_size": self.kernel_size, "stride": self.stride, "padding": padding}
        self.kernel_size, self.stride, self.padding = (per_axis(self, 1, 0, *item) for item in windows.items())
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: Tensor) -> Tensor:
        """Return the means."""
        return avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        """Return the geometry."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_Windowed):
    """The mean of each window: x (N, C, H, W) → y (N, C, H', W'), H' = ⌊(H + 2p − k)/s⌋ + 1.

    Padding counts as zeros, or with `count_include_pad=False` not at all; `divisor_override` replaces the number of
    values that the sum is divided by.

    >>> cr.nn.AvgPool2d(2)(cr.ones(1, 6, 28, 28)).shape
    (1, 6, 14, 14)
    """

    axes = 2

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ):
        super().__init__()
        self._set_windows(kernel_size, stride, padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """Return the means."""
        return avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """Return the geometry."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _Adaptive(Module):
    """Windows chosen so that the output has the size asked for: window i of n covers ⌊iL/n⌋ up to ⌈(i + 1)L/n⌉."""

    axes: ClassVar[int]
    function: ClassVar[Callable[..., Any]]

    def __init__(self, output_size: Any):
        super().__init__()
        sizes = tuple(output_size) if isinstance(output_size, tuple | list) else (output_size,) * self.axes
        # None keeps the input's size, which two axes allow
        per_axis(self, self.axes, 1, "output_size", tuple(1 if n is None and self.axes == 2 else n for n in sizes))
        self.output_size = output_size

    def forward(self, input: Tensor) -> Any:
        """Return the pooled values."""
        return type(self).function(input, self.output_size)

    def extra_repr(self) -> str:
        """Return the output size."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_Adaptive):
    """The mean over `output_size` windows: x (N, C, L) → y (N, C, n).

    >>> cr.nn.AdaptiveAvgPool1d(1)(cr.tensor([[[1.0, 2.0, 6.0]]])).tolist()
    [[[3.0]]]
    """

    axes = 1
    function = staticmethod(adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_Adaptive):
    """The mean over `output_size` windows: x (N, C, H, W) → y (N, C, h, w); 1 pools globally, None keeps an axis.

    >>> cr.nn.AdaptiveAvgPool2d((1, None))(cr.ones(2, 3, 7, 5)).shape
    (2, 3, 1, 5)
    """

    axes = 2
    function = staticmethod(adaptive_avg_pool2d)


class _AdaptiveMax(_Adaptive):
    def __init__(self, output_size: Any, return_indices: bool = False):
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        """Return the maxima, and with return_indices where in each plane they stand."""
        return type(self).function(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMax):
    """The largest value of each of `output_size` windows: x (N, C, L) → y (N, C, n).

    >>> cr.nn.AdaptiveMaxPool1d(1)(cr.tensor([[[1.0, 2.0, 6.0]]])).tolist()
    [[[6.0]]]
    """

    axes = 1
    function = staticmethod(adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMax):
    """The largest value of each of `output_size` windows: x (N, C, H, W) → y (N, C, h, w); None keeps an axis.

    >>> cr.nn.AdaptiveMaxPool2d(2)(cr.ones(2, 3, 7, 5)).shape
    (2, 3, 2, 2)
    """

    axes = 2
    function = staticmethod(adaptive_max_pool2d)


class KMaxPool(Module):
    """The k largest values along an axis, in the order in which they stand there (Kalchbrenner 2014).

    x (…, L, …) → y (…, k, …). With `regions` > 1 the axis is cut into that many parts and each gives its k largest.

    >>> cr.nn.KMaxPool(2)(cr.tensor([5.0, 1.0, 3.0, 9.0])).tolist()
    [5.0, 9.0]
    >>> cr.nn.KMaxPool(1, regions=2)(cr.tensor([5.0, 1.0, 3.0, 9.0])).tolist()
    [5.0, 9.0]
    """

    def __init__(self, k: int, dim: int = -1, regions: int = 1):
        super().__init__()
        at_least(self, 1, k=k, regions=regions)
        self.k, self.dim, self.regions = k, dim, regions

    def forward(self, input: Tensor) -> Tensor:
        """Return the k largest of each region."""
        return cat([k_max(part, self.k, self.dim) for part in chunk(input, self.regions, self.dim)], self.dim)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"k={self.k}, dim={self.dim}, regions={self.regions}"


def k_max(x: Tensor, k: int, dim: int = -1) -> Tensor:
    """Return the k largest values along an axis, in the order in which they stand there.

    >>> from chainrule.nn.layers.pooling import k_max
    >>> k_max(cr.tensor([5.0, 1.0, 3.0, 9.0]), 3).tolist()
    [5.0, 3.0, 9.0]
    """
    if not k <= x.shape[dim]:
        raise ValueError(
            f"k_max: received an input of shape {x.shape} with {x.shape[dim]} values along axis {dim}, fewer than "
            f"k={k}; pad the input or pass a smaller k"
        )
    _, places = topk(x.detach(), k, dim)
    return gather(x, dim, sort(places, dim)[0])
