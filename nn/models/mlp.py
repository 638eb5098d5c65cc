"""The multi-layer perceptron."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..layers import Linear, ReLU, Sequential
from ..module import Module


class MLP(Sequential):
    """Affine maps with an activation g between them: a⁽ᵐ⁾ = g(W⁽ᵐ⁾a⁽ᵐ⁻¹⁾ + c⁽ᵐ⁾), the last one without g.

    sizes (I, H₁, …, O): x (…, I) → (…, O). `activation` makes a module, one for each hidden layer.

    >>> cr.nn.models.MLP([2, 3, 1], cr.nn.Tanh)
    MLP(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): Tanh()
      (2): Linear(in_features=3, out_features=1, bias=True)
    )
    """

    def __init__(self, sizes: Sequence[int], activation: Callable[[], Module] = ReLU):
        if len(sizes) < 2:
            raise ValueError(
                f"MLP: received sizes={list(sizes)}, but a map has an input and an output; pass at least two sizes"
            )
        layers: list[Module] = [Linear(sizes[0], sizes[1])]
        for inputs, outputs in zip(sizes[1:], sizes[2:]):
            layers += [activation(), Linear(inputs, outputs)]
        super().__init__(*layers)
