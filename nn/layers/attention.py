"""Attention of a decoder to the steps of a sequence or the places of a map."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...autograd import Tensor, masked_fill, matmul, softmax, tanh
from ..module import Module
from .checks import at_least, one_of
from .linear import Identity, Linear

__all__ = ["AdditiveAttention", "MultiplicativeAttention"]


class _Attention(Module):
    """What attentions share: scores become weights over the keys, and these a mean of the values."""

    def forward(
        self, query: Tensor, keys: Tensor, values: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the context and the weights."""
        return self.attend(query, self.project(keys), keys if values is None else values, mask)

    def project(self, keys: Tensor) -> Tensor:
        """Return what the scores need of the keys: computed once, it serves every query."""
        raise NotImplementedError

    def score(self, queries: Tensor, projected: Tensor) -> Tensor:
        """Return the scores (N, M, L) of queries (N, M, Q) with projected keys (N, L, H)."""
        raise NotImplementedError

    def attend(
        self, query: Tensor, projected: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the context and the weights from keys that `project` has seen."""
        self._fit(query, projected, values, mask)
        several = query.ndim == 3
        scores = self.score(query if several else query.unsqueeze(1), projected)
        if mask is not None:
            # close to the least number, also of bfloat16; not infinite, which `detect_anomaly` would report
            scores = masked_fill(scores, ~mask.unsqueeze(1), -65504.0 if scores.dtype == np.float16 else -3e38)
        weights = softmax(scores, -1)
        context = matmul(weights, values)
        return (context, weights) if several else (context.squeeze(1), weights.squeeze(1))

    def _fit(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> None:
        steps = keys.shape[:2]
        fits = query.ndim in (2, 3) and keys.ndim == 3 and query.shape[0] == keys.shape[0]
        if not fits or values.ndim != 3 or values.shape[:2] != steps or (mask is not None and mask.shape != steps):
            raise ValueError(
                f"{type(self).__name__}: received a query of shape {query.shape}, keys of shape {keys.shape}, values "
                f"of shape {values.shape} and a mask of shape {None if mask is None else mask.shape}; each item of the "
                "batch looks at its own keys; pass (N, Q) or (N, M, Q), (N, L, K), (N, L, V) and (N, L)"
            )
        if steps[1] == 0 or (mask is not None and not mask.any(1).all()):
            raise ValueError(
                f"{type(self).__name__}: received keys of shape {keys.shape} with an item whose keys are all masked or "
                "none, so its weights cannot sum to 1; leave that item out, or let the mask show one key"
            )


class AdditiveAttention(_Attention):
    """A small network scores how well a query matches each key (Bahdanau, Cho & Bengio 2015).

    e_l = v · tanh(W_q q + b + W_k k_l),   α = softmax(e),   context = Σ_l α_l v_l

    Query (N, Q), or several (N, M, Q); keys (N, L, K); values (N, L, V), the keys themselves if None; mask (N, L) bool,
    on where a key may be seen. W_q (H, Q), b (H,), W_k (H, K), v (1, H) start as those of `Linear`. Returns the context
    (N, V) and the weights (N, L), which sum to 1 and are 0 where the mask is off; with several queries (N, M, V) and
    (N, M, L). For many queries in turn, `attend(query, project(keys), values, mask)` maps the keys once.

    Errors: ValueError for shapes that do not fit, and for an item all of whose keys are masked.

    >>> attention, mask = cr.nn.AdditiveAttention(4, 6, hidden_size=8), cr.tensor([[True, True, False]])
    >>> context, weights = attention(cr.randn(1, 4), cr.randn(1, 3, 6), mask=mask)
    >>> context.shape, round(weights.sum().item(), 5), weights[0, 2].item()
    ((1, 6), 1.0, 0.0)
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int, device: Any = None, dtype: Any = None):
        super().__init__()
        at_least(self, 1, query_size=query_size, key_size=key_size, hidden_size=hidden_size)
        self.query = Linear(query_size, hidden_size, device=device, dtype=dtype)
        self.key = Linear(key_size, hidden_size, bias=False, device=device, dtype=dtype)
        self.energy = Linear(hidden_size, 1, bias=False, device=device, dtype=dtype)

    def project(self, keys: Tensor) -> Tensor:
        """Return W_k k."""
        return self.key(keys)

    def score(self, queries: Tensor, projected: Tensor) -> Tensor:
        """Return v · tanh(W_q q + b + W_k k)."""
        return self.energy(tanh(self.query(queries).unsqueeze(2) + projected.unsqueeze(1))).squeeze(-1)


class MultiplicativeAttention(_Attention):
    """The product of query and key is their score (Luong, Pham & Manning 2015).

    method "general": e_l = q · W k_l, W (Q, K); "dot": e_l = q · k_l, for K = Q. `scaled` divides by √Q, so that scores
    do not grow with the size (Vaswani 2017). Shapes, mask and errors as for `AdditiveAttention`.

    >>> attention = cr.nn.MultiplicativeAttention(2, 2, method="dot")
    >>> _, weights = attention(cr.tensor([[9.0, 0.0]]), cr.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    >>> weights[0, 0].item() > 0.99
    True
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        method: str = "general",
        scaled: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        at_least(self, 1, query_size=query_size, key_size=key_size)
        one_of(self, "method", method, ("general", "dot"))
        if method == "dot" and query_size != key_size:
            raise ValueError(
                f"MultiplicativeAttention: received query_size={query_size} and key_size={key_size} with method='dot', "
                "which multiplies them entry by entry; pass equal sizes, or method='general'"
            )
        self.scale = query_size**-0.5 if scaled else 1.0
        general = method == "general"
        self.key = Linear(key_size, query_size, bias=False, device=device, dtype=dtype) if general else Identity()

    def project(self, keys: Tensor) -> Tensor:
        """Return W k, or k."""
        return self.key(keys)

    def score(self, queries: Tensor, projected: Tensor) -> Tensor:
        """Return q · W k."""
        return matmul(queries * self.scale, projected.transpose(1, 2))
