"""Layers that multiply by a matrix."""

from __future__ import annotations

import math
from typing import Any

from ...autograd import Tensor, bilinear, empty, linear
from .. import init
from ..module import Module
from ..parameter import Parameter
from .checks import at_least, axis_size

__all__ = ["Bilinear", "Identity", "Linear", "Maxout"]


class Identity(Module):
    """Return the input: f(x) = x. Arguments of the constructor are ignored.

    >>> cr.nn.Identity()(cr.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__()

    def forward(self, input: Tensor) -> Tensor:
        """Return x."""
        return input


class Linear(Module):
    """An affine map of the last axis: y = x Wᵀ + b.

    x (…, I), W (O, I), b (O,), y (…, O). W and b start as U(−1/√I, 1/√I).

    >>> cr.nn.Linear(3, 2)(cr.ones(5, 3)).shape
    (5, 2)
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None):
        super().__init__()
        at_least(self, 0, in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(empty(out_features, in_features, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.default_(self.weight, self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Return x Wᵀ + b."""
        axis_size(self, input.shape, -1, self.in_features, "in_features")
        return linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """A form that is linear in each of two inputs: y_o = x₁ᵀ W_o x₂ + b_o.

    x₁ (…, I), x₂ (…, J), W (O, I, J), b (O,), y (…, O). W and b start as U(−1/√I, 1/√I).

    >>> cr.nn.Bilinear(3, 4, 2)(cr.ones(5, 3), cr.ones(5, 4)).shape
    (5, 2)
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        at_least(self, 1, in1_features=in1_features, in2_features=in2_features, out_features=out_features)
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = Parameter(empty(out_features, in1_features, in2_features, device=device, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(out_features, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1.0 / math.sqrt(self.in1_features)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """Return x₁ᵀ W x₂ + b."""
        axis_size(self, input1.shape, -1, self.in1_features, "in1_features")
        axis_size(self, input2.shape, -1, self.in2_features, "in2_features")
        return bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class Maxout(Module):
    """The largest of K affine maps (Goodfellow 2013): y_o = max_k (x Wₖᵀ + bₖ)_o, a piecewise linear convex activation.

    x (…, I), y (…, O); the maps are one linear layer of K·O outputs, those of one unit side by side.

    >>> cr.nn.Maxout(3, 2, pieces=4)(cr.ones(5, 3)).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pieces: int = 2,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        at_least(self, 1, in_features=in_features, out_features=out_features, pieces=pieces)
        self.out_features, self.pieces = out_features, pieces
        self.linear = Linear(in_features, out_features * pieces, bias, device, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Return the largest piece of each unit."""
        return self.linear(input).reshape(*input.shape[:-1], self.out_features, self.pieces).amax(-1)

    def extra_repr(self) -> str:
        """Return the number of pieces."""
        return f"pieces={self.pieces}"
