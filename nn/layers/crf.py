"""Scores of whole sequences of tags."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor, arange, empty, enable_grad, gather, grad, logsumexp, no_grad, ones, stack, where
from .. import init
from ..module import Module
from ..parameter import Parameter
from .checks import at_least, axis_size, ndim, one_of

__all__ = ["CRF"]

REDUCTIONS = ("none", "sum", "mean", "token_mean")


class CRF(Module):
    """A linear-chain conditional random field (Lafferty 2001): the best path of tags, not the best tag at every step.

    p(y | x) = exp s(x, y) / Σ_y′ exp s(x, y′),   s(x, y) = a_{y₁} + Σ_t x_{t, y_t} + Σ_{t>1} W_{y_{t−1}, y_t} + b_{y_T}

    Emissions x (T, N, K), or (N, T, K) with batch_first; tags and mask without the last axis; start_transitions a (K,),
    transitions W (K, K) from the row's tag to the column's, end_transitions b (K,), all U(−0.1, 0.1) at first; a score
    of −∞ forbids a transition. The sum over all Kᵀ paths is the forward algorithm, the best path Viterbi's. The mask is
    on for the steps of a sequence and off for the padding after it. Names as in pytorch-crf.

    Calling it returns log p(tags | emissions), of each sequence (N,) with reduction "none", else the "sum", the "mean"
    over sequences or the "token_mean" over steps. Train on its negative.

    Errors: ValueError for shapes that do not fit, no step at all, a mask that is off at the first step or on again
    after it was off, tags outside 0 … K − 1; TypeError for tags that are no integers or a mask that is not bool.

    >>> crf, emissions = cr.nn.CRF(num_tags=3), cr.randn(5, 2, 3)
    >>> loss = -crf(emissions, cr.zeros(5, 2, dtype=cr.int64), reduction="mean")
    >>> loss.shape, [len(path) for path in crf.decode(emissions)]
    ((), [5, 5])
    """

    def __init__(self, num_tags: int, batch_first: bool = False, device: Any = None, dtype: Any = None):
        super().__init__()
        at_least(self, 1, num_tags=num_tags)
        self.num_tags, self.batch_first = num_tags, batch_first
        for name, shape in (("start_transitions", 1), ("end_transitions", 1), ("transitions", 2)):
            self.register_parameter(name, Parameter(empty((num_tags,) * shape, device=device, dtype=dtype)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        for parameter in self.parameters():
            init.uniform_(parameter, -0.1, 0.1)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None, reduction: str = "sum") -> Tensor:
        """Return the log-likelihood of the tags."""
        one_of(self, "reduction", reduction, REDUCTIONS)
        x, on = self._by_step(emissions, mask)
        likelihood = self._score(x, self._tags(tags, emissions, on), on) - self._log_partition(x, on)
        if reduction == "none":
            return likelihood
        if reduction == "token_mean":
            return likelihood.sum() / on.sum()
        return likelihood.mean() if reduction == "mean" else likelihood.sum()

    def decode(self, emissions: Tensor, mask: Tensor | None = None) -> list[list[int]]:
        """Return the most probable path of every sequence (Viterbi 1967).

        >>> crf = cr.nn.CRF(2)
        >>> with cr.no_grad():
        ...     crf.transitions[0, 1] = -10.0  # 1 hardly ever follows 0
        >>> crf.decode(cr.tensor([[[1.0, 0.0]], [[0.0, 3.0]]]))
        [[1, 1]]
        """
        with no_grad():
            x, on = self._by_step(emissions, mask)
            score, stay, pointers = self.start_transitions + x[0], arange(self.num_tags, device=x.device), []
            for emission, going in zip(x[1:], on[1:].unsqueeze(-1)):
                best, previous = (score.unsqueeze(-1) + self.transitions).max(1)
                score = where(going, best + emission, score)
                pointers.append(where(going, previous, stay))
            path = [(score + self.end_transitions).argmax(-1)]
            for previous in reversed(pointers):
                path.append(gather(previous, 1, path[-1].unsqueeze(-1)).squeeze(-1))
            padded = stack(path[::-1], 1).tolist()
        return [tags[:length] for tags, length in zip(padded, on.sum(0).tolist())]

    def log_partition(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return log Σ_y exp s(x, y) of every sequence (N,), by the forward algorithm.

        >>> crf, emissions = cr.nn.CRF(2), cr.randn(1, 1, 2)
        >>> paths = cr.stack([crf(emissions, cr.tensor([[tag]])) for tag in (0, 1)])
        >>> round(paths.exp().sum().item(), 5)
        1.0
        """
        return self._log_partition(*self._by_step(emissions, mask))

    def marginals(self, emissions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return p(y_t = k | x), of the emissions' shape and outside any graph; 0 where the mask is off.

        It is the gradient of the log-partition in the emissions: back-propagation is the forward–backward algorithm.

        >>> probabilities = cr.nn.CRF(3).marginals(cr.randn(5, 2, 3))
        >>> bool(np.allclose(probabilities.sum(-1).numpy(), 1.0))
        True
        """
        with enable_grad():
            x = emissions.detach().requires_grad_()
            return grad(self.log_partition(x, mask).sum(), x)[0]

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"num_tags={self.num_tags}, batch_first={self.batch_first}"

    def _log_partition(self, x: Tensor, on: Tensor) -> Tensor:
        score = self.start_transitions + x[0]
        for emission, going in zip(x[1:], on[1:].unsqueeze(-1)):
            score = where(going, logsumexp(score.unsqueeze(-1) + self.transitions, 1) + emission, score)
        return logsumexp(score + self.end_transitions, 1)

    def _score(self, x: Tensor, tags: Tensor, on: Tensor) -> Tensor:
        last = gather(tags, 0, on.sum(0, keepdim=True) - 1)[0]
        emitted = where(on, gather(x, 2, tags.unsqueeze(-1)).squeeze(-1), 0)
        moved = where(on[1:], self.transitions[tags[:-1], tags[1:]], 0)
        return self.start_transitions[tags[0]] + emitted.sum(0) + moved.sum(0) + self.end_transitions[last]

    def _by_step(self, emissions: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return emissions (T, N, K) and mask (T, N), if they make sense."""
        ndim(self, emissions.shape, (3,), "(N, T, K)" if self.batch_first else "(T, N, K)")
        axis_size(self, emissions.shape, -1, self.num_tags, "num_tags")
        x = emissions.transpose(0, 1) if self.batch_first else emissions
        if len(x) == 0:
            raise ValueError(
                f"CRF: received emissions of shape {emissions.shape} without a step; a path has at least one tag; "
                "leave empty sequences out"
            )
        if mask is None:
            return x, ones(x.shape[:2], dtype=bool, device=x.device)
        self._same_steps("mask", mask, emissions)
        if mask.dtype.kind != "b":
            raise TypeError(f"CRF: received a mask of dtype {mask.dtype}, but a mask is bool; pass mask != 0")
        on = mask.transpose(0, 1) if self.batch_first else mask
        for wrong, what in ((~on[0], "off at the first step"), ((on[1:] & ~on[:-1]).any(0), "on again after an end")):
            if wrong.any():
                raise ValueError(
                    f"CRF: received a mask that is {what} in sequence {wrong.nonzero()[0, 0].item()}; it is on for the "
                    "steps of a sequence and off for the padding after it; put padding at the end, and leave empty "
                    "sequences out"
                )
        return x, on

    def _tags(self, tags: Tensor, emissions: Tensor, on: Tensor) -> Tensor:
        """Return tags (T, N), 0 in the padding, whatever stands there."""
        self._same_steps("tags", tags, emissions)
        if tags.dtype.kind not in "iu":
            raise TypeError(f"CRF: received tags of dtype {tags.dtype}, but a tag is a number; pass tags.long()")
        tags = where(on, tags.transpose(0, 1) if self.batch_first else tags, 0)
        outside = tags[(tags < 0) | (tags >= self.num_tags)]
        if len(outside):
            raise ValueError(
                f"CRF: received the tag {outside[0].item()}, but was built with num_tags={self.num_tags}; "
                f"pass tags from 0 to {self.num_tags - 1}"
            )
        return tags

    def _same_steps(self, name: str, given: Tensor, emissions: Tensor) -> None:
        if given.shape != emissions.shape[:2]:
            raise ValueError(
                f"CRF: received {name} of shape {given.shape} for emissions of shape {emissions.shape}; each step of "
                f"each sequence has one; pass {name} of shape {emissions.shape[:2]}"
            )
