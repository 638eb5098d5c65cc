"""LeNet-5."""

from __future__ import annotations

from collections.abc import Callable

from ..layers import AvgPool2d, Conv2d, Flatten, Linear, Sequential, Tanh
from ..module import Module


class LeNet5(Sequential):
    """The reader of handwritten digits (LeCun, Bottou, Bengio & Haffner 1998), its layers under the paper's names.

    x (N, 1, 32, 32) → C1 (N, 6, 28, 28) → S2 (N, 6, 14, 14) → C3 (N, 16, 10, 10) → S4 (N, 16, 5, 5) → C5 (N, 120, 1, 1)
    → F6 (N, 84) → logits (N, 10); 61,706 parameters. As is usual since, C3 sees all maps of S2 (the paper's table omits
    some), S2 and S4 have no coefficients of their own, and the output is linear, for `CrossEntropyLoss`.

    >>> net = cr.nn.models.LeNet5()
    >>> net(cr.zeros(1, 1, 32, 32)).shape, sum(p.numel() for p in net.c1.parameters())
    ((1, 10), 156)
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 1,
        activation: Callable[[], Module] = Tanh,
        pool: Callable[[int], Module] = AvgPool2d,
    ):
        super().__init__(
            {
                "c1": Conv2d(in_channels, 6, 5),
                "act1": activation(),
                "s2": pool(2),
                "c3": Conv2d(6, 16, 5),
                "act3": activation(),
                "s4": pool(2),
                "c5": Conv2d(16, 120, 5),
                "act5": activation(),
                "flatten": Flatten(),
                "f6": Linear(120, 84),
                "act6": activation(),
                "output": Linear(84, num_classes),
            }
        )
