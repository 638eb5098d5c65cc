"""The dynamic filter network."""

from __future__ import annotations

from ...autograd import Tensor, conv2d
from ..layers.checks import at_least
from ..module import Module


class DynamicFilter(Module):
    """A convolution whose filters another network makes, anew for every item (De Brabandere 2016): y_n = w(z_n) ⋆ x_n.

    x (N, I, H, W), z whatever `generator` takes, its output (N, O·I·k·k), y (N, O, H, W) for an odd k. Gradients reach
    the generator through the filters.

    >>> layer = cr.nn.models.DynamicFilter(1, 2, 3, generator=cr.nn.Linear(5, 2 * 1 * 3 * 3))
    >>> layer(cr.ones(4, 1, 8, 8), cr.ones(4, 5)).shape
    (4, 2, 8, 8)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, generator: Module):
        super().__init__()
        at_least(self, 1, in_channels=in_channels, out_channels=out_channels, kernel_size=kernel_size)
        self.shape = (out_channels, in_channels, kernel_size, kernel_size)
        self.generator = generator

    def forward(self, input: Tensor, condition: Tensor) -> Tensor:
        """Return each item filtered by its own filters: one convolution with a group for each item."""
        items, (out_channels, in_channels, size, _) = input.shape[0], self.shape
        filters = self.generator(condition).reshape(items * out_channels, in_channels, size, size)
        planes = input.reshape(1, items * in_channels, *input.shape[2:])
        output = conv2d(planes, filters, padding="same", groups=items)
        return output.reshape(items, out_channels, *output.shape[2:])
