"""Runs of modules that the engine computes as one operation: Linear or Conv2d, an activation, and perhaps a pooling."""

from __future__ import annotations

import math
from typing import Any

from ...autograd import Tensor, is_watched, pool_fits
from ..module import Module
from .activation import ReLU, Sigmoid, Tanh
from .conv import Conv2d
from .linear import Linear
from .pooling import AvgPool2d, MaxPool2d

_FIRST = (Linear, Conv2d)
_MANY = 1 << 18  # results of a product that are worth the larger operation on the CPU
ACTIVATIONS: dict[type, str] = {ReLU: "relu", Tanh: "tanh", Sigmoid: "sigmoid"}


def run_at(modules: list[Module], at: int, input: Any) -> tuple[int, dict[str, Any]]:
    """How many modules from `at` on one call of the first computes, and what its `forward` is told for that.

    A module that has hooks or a `forward` of its own is called by itself, and every one is while anyone watches. So is
    a Linear of few results on the CPU, where two operations are as fast: docs/decisions/0008-fused-layers.md.
    """
    first, behind = modules[at], modules[at + 1 : at + 3]
    if type(first) not in _FIRST or not behind or not isinstance(input, Tensor):
        return 1, {}
    if type(first) is Linear and input.device == "cpu" and _results(first, input) < _MANY:
        return 1, {}
    activation = ACTIVATIONS.get(type(behind[0]))
    if activation is None or not (_plain(first) and _plain(behind[0])) or is_watched():
        return 1, {}
    pool = _pool(behind[-1]) if type(first) is Conv2d and len(behind) == 2 else None
    if pool and _fits(first, input, pool):
        return 3, {"activation": activation, "pool": pool}
    return 2, {"activation": activation}


def _results(linear: Any, input: Tensor) -> int:
    return math.prod(input.shape[:-1]) * linear.out_features


def _plain(module: Module) -> bool:
    return not (module._forward_pre_hooks or module._forward_hooks or "forward" in module.__dict__)


def _pool(module: Any) -> tuple[str, int, int] | None:
    """A pooling over windows side by side, as the engine names it."""
    kind = {MaxPool2d: "max", AvgPool2d: "avg"}.get(type(module))
    if kind is None or not _plain(module) or module.ceil_mode:
        return None
    size, stride, padding = (_pair(value) for value in (module.kernel_size, module.stride, module.padding))
    if kind == "max":
        special = _pair(module.dilation) != (1, 1) or module.return_indices
    else:
        special = module.divisor_override is not None
    if special or size != stride or padding != (0, 0) or size[0] * size[1] > 256:
        return None
    return kind, *size


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, tuple | list) else (value, value)


def _fits(conv: Any, input: Tensor, pool: tuple) -> bool:
    return pool_fits(input.shape[-2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, pool)
