"""Optimisers and learning-rate schedules (the room is `nn/optim`)."""

from .nn.optim import *
