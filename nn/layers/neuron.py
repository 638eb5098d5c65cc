"""The first artificial neurons, which learn without gradients or not at all."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor, no_grad, tensor, where, zeros
from ..module import Module
from ..parameter import Parameter
from .checks import at_least, axis_size

__all__ = ["Perceptron", "ThresholdUnit"]


class ThresholdUnit(Module):
    """A neuron with fixed weights (McCulloch & Pitts 1943): out = 1 if Σᵢ wᵢ oᵢ ≥ T, else 0.

    o (…, I), w (I,), out (…).

    >>> both = cr.nn.ThresholdUnit([1.0, 1.0], threshold=2.0)
    >>> both(cr.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])).tolist()
    [0.0, 0.0, 0.0, 1.0]
    """

    def __init__(self, weights: Any, threshold: float, device: Any = None, dtype: Any = None):
        super().__init__()
        self.register_buffer("weight", tensor(weights, device=device, dtype=dtype))
        self.register_buffer("threshold", tensor(threshold, device=device, dtype=dtype))

    def forward(self, input: Tensor) -> Tensor:
        """Return 1 where the threshold is reached, else 0."""
        axis_size(self, input.shape, -1, self.weight.numel(), "weights")
        return (input @ self.weight >= self.threshold).to(input.dtype)


class Perceptron(Module):
    """A neuron that learns from its mistakes (Rosenblatt 1958): ŷ = sign(w·x + b), +1 or −1, with sign(0) = 1.

    x (…, I), w (I,), ŷ (…). w and b start at 0 and require no gradient: `learn` changes them.

    >>> x = cr.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> unit, either = cr.nn.Perceptron(2), cr.tensor([-1.0, 1.0, 1.0, 1.0])
    >>> while unit.learn(x, either):
    ...     pass
    >>> unit(x).tolist()
    [-1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, in_features: int, device: Any = None, dtype: Any = None):
        super().__init__()
        at_least(self, 1, in_features=in_features)
        self.in_features = in_features
        self.weight = Parameter(zeros(in_features, device=device, dtype=dtype), requires_grad=False)
        self.bias = Parameter(zeros((), device=device, dtype=dtype), requires_grad=False)

    def forward(self, input: Tensor) -> Tensor:
        """Return +1 on one side of the plane w·x + b = 0 and on it, −1 on the other."""
        axis_size(self, input.shape, -1, self.in_features, "in_features")
        return where(input @ self.weight + self.bias >= 0, 1.0, -1.0).to(input.dtype)

    def learn(self, x: Tensor, y: Tensor, rate: float = 1.0) -> int:
        """Go once through the rows of x (N, I), w ← w + η(y − ŷ)x and b ← b + η(y − ŷ), and return the mistakes met.

        y (N,) holds +1 and −1. If a plane separates the two kinds, repeated passes end with no mistake (Novikoff 1962).
        """
        if x.ndim != 2 or y.shape != x.shape[:1] or not ((y == 1) | (y == -1)).all():
            raise ValueError(
                f"Perceptron.learn: received x of shape {x.shape} and y of shape {y.shape}; each row of x needs one "
                "answer, +1 or -1; pass x (N, I) and y (N,) of such numbers"
            )
        mistakes = 0
        with no_grad():
            for row, answer in zip(x, y):
                error = answer - self(row)
                self.weight.add_(rate * error * row)
                self.bias.add_(rate * error)
                mistakes += bool(error != 0)
        return mistakes

    def extra_repr(self) -> str:
        """Return the number of inputs."""
        return f"in_features={self.in_features}"
