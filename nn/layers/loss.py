"""Losses. `reduction` is 'mean', 'sum' or 'none'; PyTorch's deprecated size_average and reduce do not exist here."""

from __future__ import annotations

from typing import Any

from ...autograd import (
    Tensor,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from ..module import Module
from .checks import one_of

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class _Loss(Module):
    """A comparison of outputs with targets, and how the items are brought together."""

    reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, reduction: str, **weights: Tensor | None):
        super().__init__()
        one_of(self, "reduction", reduction, self.reductions)
        self.reduction = reduction
        for name, weight in weights.items():
            self.register_buffer(name, weight)


class MSELoss(_Loss):
    """The squared error (x − y)², x and y of one shape.

    >>> cr.nn.MSELoss()(cr.tensor([1.0, 2.0]), cr.tensor([1.0, 4.0])).item()
    2.0
    """

    def __init__(self, *, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return mse_loss(input, target, reduction=self.reduction)


class L1Loss(_Loss):
    """The absolute error |x − y|, x and y of one shape.

    >>> cr.nn.L1Loss()(cr.tensor([1.0, 2.0]), cr.tensor([1.0, 4.0])).item()
    1.0
    """

    def __init__(self, *, reduction: str = "mean"):
        super().__init__(reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return l1_loss(input, target, reduction=self.reduction)


class SmoothL1Loss(_Loss):
    """½(x − y)²/β where |x − y| < β, else |x − y| − β/2 (Girshick 2015).

    >>> cr.nn.SmoothL1Loss()(cr.tensor([0.0, 3.0]), cr.tensor([1.0, 0.0])).item()
    1.5
    """

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction)
        self.beta = beta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


class HuberLoss(_Loss):
    """½(x − y)² where |x − y| ≤ δ, else δ(|x − y| − δ/2) (Huber 1964).

    >>> cr.nn.HuberLoss()(cr.tensor([0.0, 3.0]), cr.tensor([1.0, 0.0])).item()
    1.5
    """

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return huber_loss(input, target, reduction=self.reduction, delta=self.delta)


class KLDivLoss(_Loss):
    """t (ln t − x) of log-probabilities x and probabilities t, of one shape (Kullback & Leibler 1951).

    reduction "batchmean", the divergence by definition, divides the sum by the number of items.

    >>> loss = cr.nn.KLDivLoss(reduction="batchmean")
    >>> loss(cr.log_softmax(cr.zeros(1, 2), 1), cr.tensor([[1.0, 0.0]])).item()
    0.6931471824645996
    """

    reductions = "mean", "sum", "none", "batchmean"

    def __init__(self, *, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class CrossEntropyLoss(_Loss):
    """−log softmax(x)ₜ of logits x (N, C, …) and class indices t (N, …), or −Σ_c p_c log softmax(x)_c of probabilities.

    weight (C,) multiplies each item by its class's weight (and 'mean' divides by their sum); items whose target is
    `ignore_index` count for nothing; `label_smoothing` ε mixes the target with the uniform distribution.

    >>> round(cr.nn.CrossEntropyLoss()(cr.zeros(2, 10), cr.tensor([3, 4])).item(), 4)
    2.3026
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(reduction, weight=weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return cross_entropy(
            input,
            target,
            weight=self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Loss):
    """−xₜ of log-probabilities x (N, C, …) and classes t (N, …); weight and ignore_index as in `CrossEntropyLoss`.

    >>> cr.nn.NLLLoss()(cr.tensor([[-1.0, -2.0]]), cr.tensor([1])).item()
    2.0
    """

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return nll_loss(input, target, weight=self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCELoss(_Loss):
    """−(y log x + (1 − y) log(1 − x)) of probabilities x and targets y of one shape.

    >>> round(cr.nn.BCELoss()(cr.tensor([0.5]), cr.tensor([1.0])).item(), 4)
    0.6931
    """

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean"):
        super().__init__(reduction, weight=weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss."""
        return binary_cross_entropy(input, target, weight=self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """`BCELoss` of σ(x), computed from the logits x without overflow; pos_weight multiplies the term of y = 1.

    >>> round(cr.nn.BCEWithLogitsLoss()(cr.tensor([0.0]), cr.tensor([1.0])).item(), 4)
    0.6931
    """

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None):
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)

    def forward(self, input: Tensor, target: Tensor) -> Any:
        """Return the loss."""
        return binary_cross_entropy_with_logits(
            input, target, weight=self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )
