"""Pages and pictures of training: networks on points in the plane, optimisers on a surface."""

from .optimizers import Surface, optimizers
from .playground import playground
from .rehearsal import Variant

__all__ = ["Surface", "Variant", "optimizers", "playground"]
