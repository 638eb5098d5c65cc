"""GoogLeNet."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor, cat
from ..layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from ..module import Module

# The paper's table 1: in, 1×1, (1×1 before 3×3, 3×3), (1×1 before 5×5, 5×5), 1×1 after pooling; None halves the map
INCEPTIONS = {
    "inception3a": (192, 64, (96, 128), (16, 32), 32),
    "inception3b": (256, 128, (128, 192), (32, 96), 64),
    "maxpool3": None,
    "inception4a": (480, 192, (96, 208), (16, 48), 64),
    "inception4b": (512, 160, (112, 224), (24, 64), 64),
    "inception4c": (512, 128, (128, 256), (24, 64), 64),
    "inception4d": (512, 112, (144, 288), (32, 64), 64),
    "inception4e": (528, 256, (160, 320), (32, 128), 128),
    "maxpool4": None,
    "inception5a": (832, 256, (160, 320), (32, 128), 128),
    "inception5b": (832, 384, (192, 384), (48, 128), 128),
}


class ConvBlock(Sequential):
    """Convolution without a bias, batch normalisation, ReLU.

    >>> from chainrule.nn.models.googlenet import ConvBlock
    >>> ConvBlock(3, 8, 3, padding=1)(cr.zeros(2, 3, 5, 5)).shape
    (2, 8, 5, 5)
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, **geometry: Any):
        super().__init__(
            {
                "conv": Conv2d(in_channels, out_channels, kernel_size, bias=False, **geometry),
                "bn": BatchNorm2d(out_channels, eps=0.001),
                "relu": ReLU(),
            }
        )


class Inception(Module):
    """Four views of one map, side by side: 1×1, 3×3, a wider one, and pooled; x (N, C, H, W) → y (N, ΣOᵢ, H, W).

    >>> from chainrule.nn.models.googlenet import Inception
    >>> Inception(192, 64, (96, 128), (16, 32), 32)(cr.zeros(2, 192, 4, 4)).shape
    (2, 256, 4, 4)
    """

    def __init__(self, in_channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int):
        super().__init__()
        self.branch1 = ConvBlock(in_channels, one, 1)
        self.branch2 = Sequential(ConvBlock(in_channels, three[0], 1), ConvBlock(*three, 3, padding=1))
        self.branch3 = Sequential(ConvBlock(in_channels, five[0], 1), ConvBlock(*five, 3, padding=1))
        self.branch4 = Sequential(MaxPool2d(3, stride=1, padding=1), ConvBlock(in_channels, pooled, 1))

    def forward(self, input: Tensor) -> Tensor:
        """Return the channels of all branches."""
        return cat([branch(input) for branch in self.children()], 1)


class GoogLeNet(Sequential):
    """The winner of ImageNet 2014 (Szegedy 2015), without the auxiliary heads and with batch normalisation.

    x (N, 3, 224, 224), from 32 × 32 up → logits (N, num_classes); 6,624,904 parameters, under torchvision's names. As
    there, the branches that the paper gives 5×5 filters have 3×3.

    >>> cr.nn.models.GoogLeNet(num_classes=2).fc
    Linear(in_features=1024, out_features=2, bias=True)
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2):
        super().__init__(
            {
                "conv1": ConvBlock(in_channels, 64, 7, stride=2, padding=3),
                "maxpool1": MaxPool2d(3, stride=2, ceil_mode=True),
                "conv2": ConvBlock(64, 64, 1),
                "conv3": ConvBlock(64, 192, 3, padding=1),
                "maxpool2": MaxPool2d(3, stride=2, ceil_mode=True),
                **{name: Inception(*sizes) if sizes else _half(name) for name, sizes in INCEPTIONS.items()},
                "avgpool": AdaptiveAvgPool2d(1),
                "flatten": Flatten(),
                "dropout": Dropout(dropout),
                "fc": Linear(1024, num_classes),
            }
        )


def _half(name: str) -> MaxPool2d:
    return MaxPool2d(2 if name == "maxpool4" else 3, stride=2, ceil_mode=True)
