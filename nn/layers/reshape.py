"""Layers that only change shapes."""

from __future__ import annotations

from ...autograd import Tensor, flatten, unflatten
from ..module import Module

__all__ = ["Flatten", "Unflatten"]


class Flatten(Module):
    """Join the axes from start_dim to end_dim into one: (N, C, H, W) → (N, C·H·W).

    >>> cr.nn.Flatten()(cr.ones(2, 3, 4)).shape
    (2, 12)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        """Return the same values with fewer axes."""
        return flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Return the axes."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split one axis into several: (N, 12) → (N, 3, 4).

    >>> cr.nn.Unflatten(1, (3, 4))(cr.ones(2, 12)).shape
    (2, 3, 4)
    """

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]):
        super().__init__()
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input: Tensor) -> Tensor:
        """Return the same values with more axes."""
        return unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """Return the axes."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
