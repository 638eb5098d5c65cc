"""Layers that drop values at random while training."""

from __future__ import annotations

from typing import Any, ClassVar

from ...autograd import Tensor, dropout, feature_dropout
from ..module import Module
from .checks import ndim, probability, refuse

__all__ = ["Dropout", "Dropout1d", "Dropout2d"]


class Dropout(Module):
    """Drop each value with probability p and scale the rest (Srivastava 2014): y = m ⊙ x/(1 − p), m ~ Bernoulli(1 − p).

    In evaluation y = x. The mask comes from the default generator (`cr.manual_seed`).

    >>> cr.nn.Dropout(0.5).eval()(cr.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, p: float = 0.5, inplace: bool = False):
        super().__init__()
        probability(self, p)
        refuse(self, "leave it out: the graph needs the values", inplace=(inplace, False))
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        """Return x with values dropped, in evaluation x."""
        return dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"p={self.p}, inplace={self.inplace}"


class _ChannelDropout(Dropout):
    allowed: ClassVar[tuple[int, ...]]
    letters: ClassVar[str]

    def forward(self, input: Tensor) -> Any:
        """Return x with channels dropped, in evaluation x."""
        ndim(self, input.shape, self.allowed, self.letters)
        return feature_dropout(input, self.p, self.training)


class Dropout1d(_ChannelDropout):
    """`Dropout` of whole channels: x (N, C, L), one draw for each (n, c) (Tompson 2015).

    >>> cr.nn.Dropout1d(0.5).eval()(cr.ones(1, 2, 3)).shape
    (1, 2, 3)
    """

    allowed, letters = (3,), "(N, C, L)"


class Dropout2d(_ChannelDropout):
    """`Dropout` of whole channels: x (N, C, H, W), one draw for each (n, c) (Tompson 2015).

    >>> cr.nn.Dropout2d(0.5).eval()(cr.ones(1, 2, 3, 3)).shape
    (1, 2, 3, 3)
    """

    allowed, letters = (4,), "(N, C, H, W)"
