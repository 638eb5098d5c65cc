"""The networks of the lectures."""

from .alexnet import AlexNet
from .dynamic_filter import DynamicFilter
from .googlenet import GoogLeNet
from .lenet import LeNet5
from .mlp import MLP
from .resnet import ResNet
from .text import DCNN, CharacterCNN, SentenceCNN, WindowNetwork
from .vgg import VGG

__all__ = [
    "AlexNet",
    "CharacterCNN",
    "DCNN",
    "DynamicFilter",
    "GoogLeNet",
    "LeNet5",
    "MLP",
    "ResNet",
    "SentenceCNN",
    "VGG",
    "WindowNetwork",
]
