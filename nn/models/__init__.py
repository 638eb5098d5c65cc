"""The networks of the lectures."""

from .alexnet import AlexNet
from .captioning import Captioner
from .dynamic_filter import DynamicFilter
from .embeddings import CBOW, SkipGram, analogy, negative_sampling, noise_words
from .googlenet import GoogLeNet
from .language import NPLM, CharLM, ElmanLM, generate
from .lenet import LeNet5
from .matching import CoupledLSTM
from .mlp import MLP
from .resnet import ResNet
from .seq2seq import Decoded, Decoder, Seq2Seq
from .tagger import BiLSTMCRF
from .text import DCNN, CharacterCNN, SentenceCNN, SentenceLSTM, WindowNetwork
from .vgg import VGG

__all__ = [
    "AlexNet",
    "BiLSTMCRF",
    "CBOW",
    "Captioner",
    "CharLM",
    "CharacterCNN",
    "CoupledLSTM",
    "DCNN",
    "Decoded",
    "Decoder",
    "DynamicFilter",
    "ElmanLM",
    "GoogLeNet",
    "LeNet5",
    "MLP",
    "NPLM",
    "ResNet",
    "SentenceCNN",
    "SentenceLSTM",
    "Seq2Seq",
    "SkipGram",
    "VGG",
    "WindowNetwork",
    "analogy",
    "generate",
    "negative_sampling",
    "noise_words",
]
