"""Residual networks."""

from __future__ import annotations

from ...autograd import Tensor, relu
from .. import init
from ..layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential
from ..module import Module

WIDTHS = (64, 128, 256, 512)


class Residual(Module):
    """y = relu(x + F(x)), or relu(D x + F(x)) where the shape changes, with D a 1×1 convolution.

    >>> from chainrule.nn.models.resnet import BasicBlock
    >>> BasicBlock(8, 16, stride=2)(cr.zeros(1, 8, 4, 4)).shape
    (1, 16, 2, 2)
    """

    expansion: int

    def __init__(self, in_channels: int, width: int, stride: int = 1):
        super().__init__()
        out_channels, channels = width * self.expansion, in_channels
        self.depth = 0
        for depth, (kernel, size, step) in enumerate(self.plan(width, stride), start=1):
            conv = Conv2d(channels, size, kernel, stride=step, padding=kernel // 2, bias=False)
            self.add_module(f"conv{depth}", conv)
            self.add_module(f"bn{depth}", BatchNorm2d(size))
            self.depth, channels = depth, size
        self.downsample: Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            project = Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = Sequential(project, BatchNorm2d(out_channels))

    def plan(self, width: int, stride: int) -> list[tuple[int, int, int]]:
        """Return kernel size, channels and stride of each convolution."""
        raise NotImplementedError

    def forward(self, input: Tensor) -> Tensor:
        """Return the rectified sum of the input and what the convolutions add to it."""
        change = input
        for depth in range(1, self.depth + 1):
            change = getattr(self, f"bn{depth}")(getattr(self, f"conv{depth}")(change))
            change = relu(change) if depth < self.depth else change
        return relu(change + (input if self.downsample is None else self.downsample(input)))


class BasicBlock(Residual):
    """Two 3×3 convolutions."""

    expansion = 1

    def plan(self, width: int, stride: int) -> list[tuple[int, int, int]]:
        """Return kernel size, channels and stride of each convolution."""
        return [(3, width, stride), (3, width, 1)]


class Bottleneck(Residual):
    """1×1 to fewer channels, 3×3 (with the stride, as torchvision has it), 1×1 to four times as many."""

    expansion = 4

    def plan(self, width: int, stride: int) -> list[tuple[int, int, int]]:
        """Return kernel size, channels and stride of each convolution."""
        return [(1, width, 1), (3, width, stride), (1, width * 4, 1)]


# depth: the block, and how many of them at each width
DEPTHS: dict[int, tuple[type[Residual], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(Sequential):
    """Layers that learn differences from the identity (He, Zhang, Ren & Sun 2015); depth 18, 34, 50, 101 or 152.

    x (N, 3, 224, 224), from 32 × 32 up → logits (N, num_classes). ResNet-18 has 11,689,512 parameters and ResNet-50
    25,557,032, under torchvision's names.

    >>> net = cr.nn.models.ResNet(18, num_classes=2)
    >>> net.layer2[0].downsample[0]
    Conv2d(64, 128, kernel_size=(1, 1), stride=(2, 2), bias=False)
    """

    def __init__(self, depth: int, num_classes: int = 1000, in_channels: int = 3):
        if depth not in DEPTHS:
            raise ValueError(
                f"ResNet: received depth={depth!r}, which was not published; pass one of {', '.join(map(str, DEPTHS))}"
            )
        block, counts = DEPTHS[depth]
        super().__init__(
            {
                "conv1": Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False),
                "bn1": BatchNorm2d(64),
                "relu": ReLU(),
                "maxpool": MaxPool2d(3, stride=2, padding=1),
            }
        )
        channels = 64
        for stage, (width, count) in enumerate(zip(WIDTHS, counts), start=1):
            blocks = []
            for position in range(count):
                blocks.append(block(channels, width, stride=2 if stage > 1 and position == 0 else 1))
                channels = width * block.expansion
            self.add_module(f"layer{stage}", Sequential(*blocks))
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = Flatten()
        self.fc = Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, Conv2d):
                init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
