"""Datasets, loaders and samplers (the room is `nn/data`)."""

from .nn.data import *
