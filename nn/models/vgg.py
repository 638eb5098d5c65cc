"""VGG."""

from __future__ import annotations

from .. import init
from ..layers import AdaptiveAvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from ..module import Module

WIDTHS = (64, 128, 256, 512, 512)
# how many convolutions of each width stand before the map is halved
DEPTHS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(Sequential):
    """Stacks of 3 × 3 convolutions (Simonyan & Zisserman 2014), with 11, 13, 16 or 19 layers that have weights.

    x (N, 3, 224, 224), from 32 × 32 up → logits (N, num_classes). VGG-16 has 138,357,544 parameters, named as
    in torchvision.

    >>> cr.nn.models.VGG(11, num_classes=2).features[0]
    Conv2d(3, 64, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """

    def __init__(self, depth: int, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5):
        if depth not in DEPTHS:
            raise ValueError(
                f"VGG: received depth={depth!r}, which was not published; pass one of {', '.join(map(str, DEPTHS))}"
            )
        features: list[Module] = []
        channels = in_channels
        for width, count in zip(WIDTHS, DEPTHS[depth]):
            for _ in range(count):
                features += [Conv2d(channels, width, 3, padding=1), ReLU()]
                channels = width
            features.append(MaxPool2d(2))
        super().__init__(
            {
                "features": Sequential(*features),
                "avgpool": AdaptiveAvgPool2d((7, 7)),
                "flatten": Flatten(),
                "classifier": Sequential(
                    Linear(channels * 7 * 7, 4096),
                    ReLU(),
                    Dropout(dropout),
                    Linear(4096, 4096),
                    ReLU(),
                    Dropout(dropout),
                    Linear(4096, num_classes),
                ),
            }
        )
        for module in self.modules():
            if isinstance(module, Conv2d):  # the default start would fade over so many layers
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                init.zeros_(module.bias)
