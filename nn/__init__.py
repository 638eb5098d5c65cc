"""Parameters, layers, losses, optimisers, data, training, and the models of the lectures."""

from . import functional, init, models, utils
from .layers import *
from .module import Module, RemovableHandle
from .parameter import Parameter
from .serialization import load, save
from .summary import Summary, summary
from .trainer import StatefulTrainer, Trainer
