"""Recurrent networks over grids: every cell has two predecessors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...autograd import Tensor, cat, empty, index_select, linear, lstm_graph, permute, reshape
from .. import init
from ..module import Module
from ..parameter import Parameter
from .checks import at_least, axis_size, ndim, one_of, same_dtype

__all__ = ["LSTM2d"]

ORDERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))  # from the top left, top right, bottom left and bottom right corner


class LSTM2d(Module):
    """An LSTM over grids such as images (Graves, Fernández & Schmidhuber 2007): each cell goes on from two neighbours.

    With h¹, c¹ the states of the cell above and h², c² of the cell to the left, 0 outside the grid:

    i = σ(Wⁱ x + U₁ⁱ h¹ + U₂ⁱ h² + bⁱ),  o = σ(Wᵒ x + U₁ᵒ h¹ + U₂ᵒ h² + bᵒ),  u = tanh(Wᵘ x + U₁ᵘ h¹ + U₂ᵘ h² + bᵘ),
    fₖ = σ(Wᶠᵏ x + U₁ᶠᵏ h¹ + U₂ᶠᵏ h² + bᶠᵏ) for k = 1, 2,  c = i ⊙ u + f₁ ⊙ c¹ + f₂ ⊙ c²,  h = o ⊙ tanh(c)

    x (N, I, R, C) or (I, R, C), as for `Conv2d`; the states h (N, D·H, R, C) or (D·H, R, C) with D = directions: 1 is
    from the top left corner to the bottom right one; 4 adds, each with weights of its own, those from the top right,
    the bottom left and the bottom right, so that every cell sees the whole grid. weight_ih W (D, 5H, I), weight_hh
    U (D, 5H, 2H), bias b (D, 5H), rows i, o, u, f₁, f₂, columns of U h¹, h²; all U(−1/√H, 1/√H) at first. The cells of
    an anti-diagonal, of the whole batch, are computed together. No peepholes (the paper has them).

    Errors: ValueError for an input of other axes or channels, or without cells; TypeError for an input of another dtype
    than the weights.

    >>> cr.nn.LSTM2d(3, 8, directions=4)(cr.randn(2, 3, 5, 6)).shape
    (2, 32, 5, 6)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        directions: int = 1,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        at_least(self, 1, input_size=input_size, hidden_size=hidden_size)
        one_of(self, "directions", directions, (1, 4))
        self.input_size, self.hidden_size, self.directions = input_size, hidden_size, directions
        made = lambda *shape: Parameter(empty(directions, 5 * hidden_size, *shape, device=device, dtype=dtype))
        self.weight_ih, self.weight_hh = made(input_size), made(2 * hidden_size)
        self.register_parameter("bias", made() if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew, from U(−1/√H, 1/√H)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """Return h of all cells."""
        ndim(self, input.shape, (3, 4), "(N, I, R, C) or (I, R, C)")
        axis_size(self, input.shape, -3, self.input_size, "input_size")
        same_dtype(self, "an input", input, self.weight_ih)
        if not all(input.shape[-2:]):
            raise ValueError(
                f"LSTM2d: received an input of shape {input.shape}, whose grid has no cells; pass at least one row and "
                "one column"
            )
        batched = input if input.ndim == 4 else input.unsqueeze(0)
        output = cat([self._scan(batched, n) for n in range(self.directions)], 1)
        return output if input.ndim == 4 else output.squeeze(0)

    def _scan(self, input: Tensor, direction: int) -> Tensor:
        batch, channels, rows, columns = input.shape
        order, sources, slots, levels = _diagonals(rows, columns, batch, ORDERS[direction])
        cells = index_select(reshape(permute(input, 2, 3, 0, 1), (rows * columns, batch, channels)), 0, order)
        bias = None if self.bias is None else self.bias[direction]
        gates = linear(reshape(cells, (-1, channels)), self.weight_ih[direction], bias)
        h, _ = lstm_graph(gates, self.weight_hh[direction], sources, slots, levels=levels)
        grid = index_select(reshape(h, (rows * columns, batch, self.hidden_size)), 0, np.argsort(order))
        return permute(reshape(grid, (rows, columns, batch, self.hidden_size)), 2, 3, 0, 1)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias is not None}, directions={self.directions}"


def _diagonals(rows: int, columns: int, batch: int, step: tuple[int, int]) -> tuple:
    """Return the grid's cells in the order of their anti-diagonals, then the engine's sources, slots and levels.

    The cells of a batch at one place follow one another.
    """
    cells = np.arange(rows * columns).reshape(rows, columns)
    diagonal = np.add.outer(np.arange(rows), np.arange(columns)).ravel()
    order = np.argsort(diagonal, kind="stable")
    rank = np.argsort(order).reshape(rows, columns)
    above = np.stack([rank[:-1].ravel(), rank[1:].ravel(), np.full(rank[1:].size, 0)])  # source, target, place
    left = np.stack([rank[:, :-1].ravel(), rank[:, 1:].ravel(), np.full(rank[:, 1:].size, 1)])
    edges = np.concatenate([above, left], 1)
    edges = edges[:, np.argsort(edges[1], kind="stable")]
    counts = np.bincount(diagonal), np.bincount(diagonal[order[edges[1]]], minlength=diagonal[-1] + 1)
    source, target = (edges[:2, :, None] * batch + np.arange(batch)).reshape(2, -1)
    slots = target * 2 + np.repeat(edges[2], batch)
    levels = tuple(zip(*[(count * batch).tolist() for count in counts]))
    return cells[:: step[0], :: step[1]].ravel()[order], source, slots, levels
