"""Optimisers and learning-rate schedules (the room is `nn/optim`)."""

import sys

from .nn.optim import *
from .nn.optim import lr_scheduler

# `from chainrule.optim.lr_scheduler import StepLR`, as PyTorch users write it, finds that same module.
__path__: list[str] = []
sys.modules[f"{__name__}.lr_scheduler"] = lr_scheduler
