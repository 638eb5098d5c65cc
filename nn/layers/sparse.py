"""Look-up tables."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor, embedding, empty, no_grad
from .. import init
from ..module import Module
from ..parameter import Parameter
from .checks import at_least, refuse

__all__ = ["Embedding"]


class Embedding(Module):
    """A table of V vectors: y[…] = W[x[…]].

    x integers (…) from 0 to V − 1, W (V, D), y (…, D). W starts as N(0, 1). The row `padding_idx` starts as zeros and
    receives no gradient.

    >>> table = cr.nn.Embedding(10, 3, padding_idx=0)
    >>> table(cr.tensor([[1, 0]])).shape, table(cr.tensor([0])).tolist()
    ((1, 2, 3), [[0.0, 0.0, 0.0]])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        at_least(self, 1, num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        refuse(self, "normalise the table under no_grad", max_norm=(max_norm, None), norm_type=(norm_type, 2.0))
        refuse(
            self,
            "leave it out: gradients are dense and unscaled",
            scale_grad_by_freq=(scale_grad_by_freq, False),
            sparse=(sparse, False),
        )
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(
                f"Embedding: received padding_idx={padding_idx} for num_embeddings={num_embeddings}, which is no row "
                f"of the table; pass {-num_embeddings} <= padding_idx < {num_embeddings}"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
        self.reset_parameters()

    @classmethod
    def from_pretrained(cls, embeddings: Tensor, freeze: bool = True, padding_idx: int | None = None) -> Embedding:
        """Return a layer over a given table (V, D), which is trained only with `freeze=False`.

        >>> cr.nn.Embedding.from_pretrained(cr.eye(3))(cr.tensor([2])).tolist()
        [[0.0, 0.0, 1.0]]
        """
        if embeddings.ndim != 2:
            raise ValueError(
                f"Embedding.from_pretrained: received a table of shape {embeddings.shape}, but needs one row for "
                "each word; pass a tensor (V, D)"
            )
        rows, columns = embeddings.shape
        layer = cls(rows, columns, padding_idx, dtype=embeddings.dtype, device=embeddings.device)
        layer.weight = Parameter(embeddings, requires_grad=not freeze)
        return layer

    def reset_parameters(self) -> None:
        """Draw the table anew."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(self, input: Tensor) -> Tensor:
        """Return the rows."""
        return embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        """Return the sizes."""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
