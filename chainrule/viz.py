"""Pictures of the graph (the room is `autograd/viz`)."""

from .autograd.viz import *
