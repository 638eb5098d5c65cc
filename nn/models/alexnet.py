"""AlexNet."""

from __future__ import annotations

from typing import Any

from ..layers import AdaptiveAvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential
from ..module import Module

# out_channels, kernel_size, stride, padding of each convolution, each followed by ReLU; "M" halves the map
LAYERS: list[Any] = [(64, 11, 4, 2), "M", (192, 5, 1, 2), "M", (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1), "M"]


class AlexNet(Sequential):
    """The winner of ImageNet 2012 (Krizhevsky, Sutskever & Hinton 2012) in its one-column form (Krizhevsky 2014).

    x (N, 3, 224, 224), from 63 × 63 up → logits (N, num_classes); 61,100,840 parameters, under torchvision's names.

    >>> cr.nn.models.AlexNet(num_classes=2).features[0]
    Conv2d(3, 64, kernel_size=(11, 11), stride=(4, 4), padding=(2, 2))
    """

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.5):
        features: list[Module] = []
        channels = in_channels
        for layer in LAYERS:
            if layer == "M":
                features.append(MaxPool2d(3, stride=2))
            else:
                features += [Conv2d(channels, *layer), ReLU()]
                channels = layer[0]
        super().__init__(
            {
                "features": Sequential(*features),
                "avgpool": AdaptiveAvgPool2d((6, 6)),
                "flatten": Flatten(),
                "classifier": Sequential(
                    Dropout(dropout),
                    Linear(channels * 6 * 6, 4096),
                    ReLU(),
                    Dropout(dropout),
                    Linear(4096, 4096),
                    ReLU(),
                    Linear(4096, num_classes),
                ),
            }
        )
