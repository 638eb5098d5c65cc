"""Layers that bring values to mean 0 and variance 1."""

from __future__ import annotations

from typing import Any, ClassVar

from ...autograd import Tensor, batch_norm, group_norm, layer_norm, no_grad, ones, tensor, zeros
from .. import init
from ..module import Module
from ..parameter import Parameter
from .checks import at_least, axis_size, ndim

__all__ = ["BatchNorm1d", "BatchNorm2d", "GroupNorm", "LayerNorm"]


class _BatchNorm(Module):
    allowed: ClassVar[tuple[int, ...]]
    letters: ClassVar[str]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        at_least(self, 1, num_features=num_features)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        make = {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(ones(num_features, **make)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_features, **make)) if affine else None)
        tracked = track_running_stats
        self.register_buffer("running_mean", zeros(num_features, **make) if tracked else None)
        self.register_buffer("running_var", ones(num_features, **make) if tracked else None)
        self.register_buffer("num_batches_tracked", tensor(0, device=device) if tracked else None)

    def reset_running_stats(self) -> None:
        """Forget the batches seen: mean 0, variance 1."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Put γ to 1, β to 0, and forget the batches seen."""
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised batch; in training mode, move the running statistics."""
        ndim(self, input.shape, self.allowed, self.letters)
        axis_size(self, input.shape, 1, self.num_features, "num_features")
        learning = self.training and self.track_running_stats
        momentum = self.momentum
        if momentum is None:  # the plain mean over all batches
            momentum = 1.0 / (self.num_batches_tracked.item() + 1) if learning else 0.0
        known = learning or not self.training
        output = batch_norm(
            input,
            self.running_mean if known else None,
            self.running_var if known else None,
            self.weight,
            self.bias,
            training=self.training or not self.track_running_stats,
            momentum=momentum,
            eps=self.eps,
        )
        if learning:
            with no_grad():
                self.num_batches_tracked.add_(1)
        return output

    def extra_repr(self) -> str:
        """Return the settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Normalise each feature over the batch (Ioffe & Szegedy 2015): y = γ (x − μ)/√(σ² + eps) + β.

    x (N, C) or (N, C, L), γ, β, μ, σ² (C,). In training μ and σ² are the batch's, and the running ones move towards
    them (σ² with N − 1 below) by `momentum`, or, with momentum None, are the mean over all batches; in evaluation the
    running ones are used.

    >>> cr.nn.BatchNorm1d(3)(cr.randn(10, 3)).mean(0).abs().max().item() < 1e-6
    True
    """

    allowed, letters = (2, 3), "(N, C) or (N, C, L)"


class BatchNorm2d(_BatchNorm):
    """Normalise each channel over batch and pixels (Ioffe & Szegedy 2015): y = γ (x − μ)/√(σ² + eps) + β.

    x (N, C, H, W), γ, β, μ, σ² (C,); training, evaluation and momentum are those of `BatchNorm1d`.

    >>> cr.nn.BatchNorm2d(3)(cr.ones(2, 3, 4, 4)).shape
    (2, 3, 4, 4)
    """

    allowed, letters = (4,), "(N, C, H, W)"


class LayerNorm(Module):
    """Normalise each item over its last axes (Ba 2016): y = γ (x − μ)/√(σ² + eps) + β.

    x (…, *normalized_shape), γ and β normalized_shape, μ and σ² one for each item.

    >>> cr.nn.LayerNorm(4)(cr.arange(8.0).reshape(2, 4)).mean(-1).abs().max().item() < 1e-6
    True
    """

    def __init__(
        self,
        normalized_shape: int | tuple[int, ...],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        at_least(self, 1, normalized_shape=shape)
        self.normalized_shape, self.eps, self.elementwise_affine = shape, eps, elementwise_affine
        make = {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(ones(shape, **make)) if elementwise_affine else None)
        self.register_parameter("bias", Parameter(zeros(shape, **make)) if elementwise_affine and bias else None)

    def reset_parameters(self) -> None:
        """Put γ to 1 and β to 0."""
        for parameter, fill in ((self.weight, init.ones_), (self.bias, init.zeros_)):
            if parameter is not None:
                fill(parameter)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised items."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return the settings."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class GroupNorm(Module):
    """Normalise groups of an item's channels (Wu & He 2018): y = γ (x − μ)/√(σ² + eps) + β.

    x (N, C, …), γ and β (C,), μ and σ² one for each item and group of C / num_groups channels.

    >>> cr.nn.GroupNorm(2, 4)(cr.arange(16.0).reshape(2, 4, 2)).sum().abs().item() < 1e-5
    True
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ):
        super().__init__()
        at_least(self, 1, num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ValueError(f"GroupNorm: num_groups={num_groups} does not divide num_channels={num_channels}")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        make = {"device": device, "dtype": dtype}
        self.register_parameter("weight", Parameter(ones(num_channels, **make)) if affine else None)
        self.register_parameter("bias", Parameter(zeros(num_channels, **make)) if affine and bias else None)

    def reset_parameters(self) -> None:
        """Put γ to 1 and β to 0."""
        for parameter, fill in ((self.weight, init.ones_), (self.bias, init.zeros_)):
            if parameter is not None:
                fill(parameter)

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised items."""
        ndim(self, input.shape, (2, 3, 4, 5), "(N, C, …)")
        axis_size(self, input.shape, 1, self.num_channels, "num_channels")
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return the settings."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )
