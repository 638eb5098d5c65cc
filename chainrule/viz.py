"""Pictures of graphs and of training (the rooms are `autograd/viz` and `nn/viz`)."""

from .autograd.viz import *
from .nn.viz import *
