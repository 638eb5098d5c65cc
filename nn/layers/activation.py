"""Activations: functions applied to each value, and the softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...autograd import (
    Generator,
    Tensor,
    elu,
    gelu,
    hardtanh,
    leaky_relu,
    log_softmax,
    logsigmoid,
    randn_like,
    relu,
    relu6,
    sigmoid,
    silu,
    softmax,
    softplus,
    sqrt,
    tanh,
)
from ..module import Module
from .checks import refuse

__all__ = [
    "ELU",
    "GELU",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "NoisyReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]


class _Activation(Module):
    """A function of the engine and its settings, which are attributes of the same names."""

    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, inplace: bool = False, **settings: Any):
        super().__init__()
        refuse(self, "leave it out: the graph needs the values", inplace=(inplace, False))
        self._settings = tuple(settings)
        for name, value in settings.items():
            setattr(self, name, value)

    def forward(self, input: Tensor) -> Tensor:
        """Return f(x)."""
        if not self._settings:
            return type(self).function(input)
        return type(self).function(input, **{name: getattr(self, name) for name in self._settings})

    def extra_repr(self) -> str:
        """Return the settings."""
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._settings)


class ReLU(_Activation):
    """max(0, x), with derivative 0 at 0.

    >>> cr.nn.ReLU()(cr.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    function = staticmethod(relu)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace)


class ReLU6(_Activation):
    """min(max(0, x), 6).

    >>> cr.nn.ReLU6()(cr.tensor([-1.0, 9.0])).tolist()
    [0.0, 6.0]
    """

    function = staticmethod(relu6)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace)


class LeakyReLU(_Activation):
    """x where x > 0, else negative_slope · x (Maas 2013).

    >>> cr.nn.LeakyReLU(0.5)(cr.tensor([-1.0, 2.0])).tolist()
    [-0.5, 2.0]
    """

    function = staticmethod(leaky_relu)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        super().__init__(inplace, negative_slope=negative_slope)


class ELU(_Activation):
    """x where x > 0, else α (eˣ − 1) (Clevert 2015).

    >>> cr.nn.ELU()(cr.tensor([0.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    function = staticmethod(elu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False):
        super().__init__(inplace, alpha=alpha)


class GELU(_Activation):
    """x Φ(x), Φ the normal distribution function; `approximate="tanh"` replaces Φ by one in tanh (Hendrycks 2016).

    >>> cr.nn.GELU()(cr.tensor([0.0])).tolist()
    [0.0]
    """

    function = staticmethod(gelu)

    def __init__(self, approximate: str = "none"):
        super().__init__(approximate=approximate)


class SiLU(_Activation):
    """x σ(x), also called swish.

    >>> cr.nn.SiLU()(cr.tensor([0.0])).tolist()
    [0.0]
    """

    function = staticmethod(silu)

    def __init__(self, inplace: bool = False):
        super().__init__(inplace)


class Sigmoid(_Activation):
    """σ(x) = 1/(1 + e⁻ˣ).

    >>> cr.nn.Sigmoid()(cr.tensor([0.0])).tolist()
    [0.5]
    """

    function = staticmethod(sigmoid)

    def __init__(self) -> None:
        super().__init__()


class LogSigmoid(_Activation):
    """log σ(x), without overflow.

    >>> cr.nn.LogSigmoid()(cr.tensor([1000.0])).abs().item()
    0.0
    """

    function = staticmethod(logsigmoid)

    def __init__(self) -> None:
        super().__init__()


class Tanh(_Activation):
    """tanh(x) = (eˣ − e⁻ˣ)/(eˣ + e⁻ˣ).

    >>> cr.nn.Tanh()(cr.tensor([0.0])).tolist()
    [0.0]
    """

    function = staticmethod(tanh)

    def __init__(self) -> None:
        super().__init__()


class Softplus(_Activation):
    """log(1 + e^{βx})/β, and x where βx > threshold.

    >>> cr.nn.Softplus()(cr.tensor([100.0])).tolist()
    [100.0]
    """

    function = staticmethod(softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0):
        super().__init__(beta=beta, threshold=threshold)


class Hardtanh(_Activation):
    """min(max(x, min_val), max_val).

    >>> cr.nn.Hardtanh()(cr.tensor([-3.0, 0.5])).tolist()
    [-1.0, 0.5]
    """

    function = staticmethod(hardtanh)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False):
        super().__init__(inplace, min_val=min_val, max_val=max_val)


class Softmax(_Activation):
    """e^{xᵢ} / Σⱼ e^{xⱼ} along the axis dim, which PyTorch lets one leave out and guesses; here it is needed.

    >>> cr.nn.Softmax(dim=0)(cr.zeros(4)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    function = staticmethod(softmax)

    def __init__(self, dim: int):
        super().__init__(dim=dim)


class LogSoftmax(_Activation):
    """xᵢ − log Σⱼ e^{xⱼ} along the axis dim.

    >>> cr.nn.LogSoftmax(dim=0)(cr.zeros(1)).abs().tolist()
    [0.0]
    """

    function = staticmethod(log_softmax)

    def __init__(self, dim: int):
        super().__init__(dim=dim)


class NoisyReLU(Module):
    """max(0, x + n), n ~ N(0, σ(x)) with σ the logistic function as variance (Nair & Hinton 2010); in evaluation ReLU.

    The noise counts as a constant in the derivative. It comes from `generator`, by default `cr.manual_seed`'s.

    >>> cr.nn.NoisyReLU().eval()(cr.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def __init__(self, generator: Generator | None = None):
        super().__init__()
        self.generator = generator

    def forward(self, input: Tensor) -> Tensor:
        """Return the rectified noisy input."""
        if not self.training:
            return relu(input)
        value = input.detach()
        return relu(input + randn_like(value, generator=self.generator) * sqrt(sigmoid(value)))
