"""Mixed precision: `autocast` (the engine's) and `GradScaler` (of `nn/optim`)."""

from .autograd import autocast
from .nn.optim import GradScaler

__all__ = ["GradScaler", "autocast"]
