"""Convolution layers. As in all deep-learning libraries they compute cross-correlations: the filter is not flipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...autograd import Tensor, conv1d, conv2d, conv_transpose1d, conv_transpose2d, empty
from .. import init
from ..module import Module
from ..parameter import Parameter
from .checks import at_least, one_of, per_axis, refuse

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]

Size = int | tuple[int, ...]


class _Conv(Module):
    """What convolutions share: sizes, filters (O, I/groups, *k), for transposes (I, O/groups, *k), and a bias (O,)."""

    axes: ClassVar[int]
    function: ClassVar[Callable[..., Tensor]]
    transposed: ClassVar[bool] = False
    output_padding: tuple[int, ...] = ()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        at_least(self, 1, in_channels=in_channels, out_channels=out_channels, groups=groups)
        refuse(self, "pad the input with F.pad and pass padding=0", padding_mode=(padding_mode, "zeros"))
        if in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{type(self).__name__}: received in_channels={in_channels}, out_channels={out_channels} and "
                f"groups={groups}, but each group takes an equal share of both; pass groups that divide both"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_axis(self, self.axes, 1, "kernel_size", kernel_size)
        self.stride = per_axis(self, self.axes, 1, "stride", stride)
        self.dilation = per_axis(self, self.axes, 1, "dilation", dilation)
        self.padding = self._padding(padding)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        shape = (first, second // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_channels, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def _padding(self, padding: Size | str) -> tuple[int, ...] | str:
        if not isinstance(padding, str):
            return per_axis(self, self.axes, 0, "padding", padding)
        one_of(self, "padding", padding, ("same", "valid"))
        if padding == "same" and max(self.stride) > 1:
            raise ValueError(
                f"{type(self).__name__}: received padding='same' with stride={self.stride}, but a stride shrinks the "
                "output; pass stride=1, or padding as a number"
            )
        return padding

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.default_(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return w ⋆ x + b."""
        return type(self).function(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Return the sizes, and what differs from the default."""
        shown = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        for name, default in (("padding", 0), ("dilation", 1), ("output_padding", 0)):
            if getattr(self, name) not in ((), (default,) * self.axes):
                shown += f", {name}={getattr(self, name)}"
        shown += f", groups={self.groups}" if self.groups != 1 else ""
        return shown + (", bias=False" if self.bias is None else "")


class Conv1d(_Conv):
    """Slide O filters of width k along sequences: y[n,o,i] = b_o + Σ_{c,m} w[o,c,m] x[n, c, i·stride + m·dilation − p].

    x (N, I, L) or (I, L), w (O, I/groups, k), b (O,), y (N, O, L'), L' = ⌊(L + 2p − dilation·(k − 1) − 1)/stride⌋ + 1.
    `padding="same"` keeps L (stride 1), `"valid"` pads nothing. w and b start as U(−1/√fan, 1/√fan), fan = k·I/groups.

    >>> cr.nn.Conv1d(4, 8, 3, padding=1)(cr.ones(2, 4, 10)).shape
    (2, 8, 10)
    """

    axes = 1
    function = staticmethod(conv1d)


class Conv2d(_Conv):
    """Slide O filters over images: y[n,o,i,j] = b_o + Σ_{c,u,v} w[o,c,u,v] x[n, c, i·s + u·d − p, j·s + v·d − p].

    x (N, I, H, W) or (I, H, W), w (O, I/groups, kh, kw), b (O,), y (N, O, H', W') with
    H' = ⌊(H + 2p − d(kh − 1) − 1)/s⌋ + 1 and W' likewise. Sizes are an integer or one per axis; `padding="same"` keeps
    H and W (stride 1), `"valid"` pads nothing. w and b start as U(−1/√fan, 1/√fan), fan = kh·kw·I/groups.

    >>> layer = cr.nn.Conv2d(3, 10, 5, padding=2)
    >>> layer(cr.ones(1, 3, 32, 32)).shape, sum(p.numel() for p in layer.parameters())
    ((1, 10, 32, 32), 760)
    """

    axes = 2
    function = staticmethod(conv2d)


class _Transpose(_Conv):
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self.output_padding = per_axis(self, self.axes, 0, "output_padding", output_padding)
        if any(out >= max(s, d) for out, s, d in zip(self.output_padding, self.stride, self.dilation)):
            raise ValueError(
                f"{type(self).__name__}: received output_padding={output_padding} with stride={stride} and "
                f"dilation={dilation}; it adds rows that no stride skips, so pass less than the larger of the two"
            )

    def _padding(self, padding: Size | str) -> tuple[int, ...]:
        return per_axis(self, self.axes, 0, "padding", padding)

    def forward(self, input: Tensor) -> Tensor:
        """Return the adjoint of the convolution with the same filters, plus b."""
        return type(self).function(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )


class ConvTranspose1d(_Transpose):
    """The adjoint of `Conv1d`: each input value adds its multiple of the filter to the output.

    x (N, I, L), w (I, O/groups, k), b (O,), y (N, O, L') with
    L' = (L − 1)·stride − 2p + dilation·(k − 1) + output_padding + 1.

    >>> cr.nn.ConvTranspose1d(4, 8, 2, stride=2)(cr.ones(2, 4, 5)).shape
    (2, 8, 10)
    """

    axes = 1
    function = staticmethod(conv_transpose1d)


class ConvTranspose2d(_Transpose):
    """The adjoint of `Conv2d`: each input pixel adds its multiple of the filter to the output (Zeiler 2010).

    x (N, I, H, W), w (I, O/groups, kh, kw), b (O,), y (N, O, H', W') with
    H' = (H − 1)s − 2p + d(kh − 1) + output_padding + 1 and W' likewise.

    >>> cr.nn.ConvTranspose2d(4, 8, 2, stride=2)(cr.ones(2, 4, 5, 5)).shape
    (2, 8, 10, 10)
    """

    axes = 2
    function = staticmethod(conv_transpose2d)
