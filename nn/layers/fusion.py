"""Runs of modules that the engine computes as one operation: Linear or Conv2d, an activation, and perhaps a pooling."""

from __future__ import annotations

import math
from typing import Any

from ...autograd import Tensor, conv2d_act_pool, is_watched, linear_act, pool_fits
from ..module import Module, in_place_of
from .activation import ReLU, Sigmoid, Tanh
from .checks import axis_size
from .conv import Conv2d
from .linear import Linear
from .pooling import AvgPool2d, MaxPool2d

_MANY = 1 << 12  # results of a product that are worth the larger operation on the CPU
ACTIVATIONS: dict[type, str] = {ReLU: "relu", Tanh: "tanh", Sigmoid: "sigmoid"}


def run_at(modules: list[Module], at: int, input: Any) -> tuple[Any, int]:
    """The result of the run of modules that begins at `at`, and how many they are: more than one only if fused.

    A module that has hooks or a `forward` of its own is called by itself, and every one is while anyone watches. So is
    a Linear of few results on the CPU, where two operations are as fast: docs/decisions/0008-fused-layers.md.
    """
    first, behind = modules[at], modules[at + 1 : at + 3]
    if type(first) not in (Linear, Conv2d) or not behind or not isinstance(input, Tensor):
        return first(input), 1
    activation = ACTIVATIONS.get(type(behind[0]))
    if activation is None or not (_plain(first) and _plain(behind[0])) or is_watched():
        return first(input), 1
    if type(first) is Linear:
        if input.device == "cpu" and _results(first, input) < _MANY:
            return first(input), 1
        return in_place_of(first, _linear, input, activation), 2
    pool = _pool(behind[1]) if len(behind) == 2 else None
    if pool and not _fits(first, input, pool):
        pool = None
    return in_place_of(first, _conv2d, input, activation, pool), 3 if pool else 2


def _linear(module: Any, input: Tensor, activation: str) -> Tensor:
    axis_size(module, input.shape, -1, module.in_features, "in_features")
    return linear_act(input, module.weight, module.bias, activation)


def _conv2d(module: Any, input: Tensor, activation: str, pool: tuple | None) -> Tensor:
    sizes = module.stride, module.padding, module.dilation, module.groups
    return conv2d_act_pool(input, module.weight, module.bias, *sizes, activation, pool)


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
