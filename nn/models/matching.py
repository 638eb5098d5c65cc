"""Networks that say how two sentences go together."""

from __future__ import annotations

from typing import Any

from ...autograd import Tensor, broadcast_to, cat, tanh
from ..layers import AdaptiveMaxPool2d, Embedding, Linear, LSTM2d
from ..layers.checks import at_least
from ..module import Module


class CoupledLSTM(Module):
    """A classifier of pairs of sentences by an LSTM over all pairs of their words (Liu et al. 2016, tightly coupled).

    Cell (i, j) of the grid reads [x_i; y_j] and the states of (i − 1, j) and (i, j − 1), so that it sums up how the
    first i words of one sentence go with the first j of the other; the largest value of each unit over pool × pool
    regions goes through a hidden layer. first (N, L) and second (N, L′) word numbers → logits (N, num_classes); word 0
    is padding. With directions=4, cells also read from the other corners.

    >>> net = cr.nn.models.CoupledLSTM(100, 2, embedding_dim=8, hidden_size=8)
    >>> net(cr.zeros(3, 5, dtype=cr.int64), cr.zeros(3, 7, dtype=cr.int64)).shape
    (3, 2)
    """

    def __init__(
        self,
        num_embeddings: int,
        num_classes: int,
        embedding_dim: int = 50,
        hidden_size: int = 50,
        directions: int = 1,
        pool: int = 1,
    ):
        super().__init__()
        at_least(self, 1, num_classes=num_classes, pool=pool)
        self.table = Embedding(num_embeddings, embedding_dim, padding_idx=0)
        self.lstm = LSTM2d(2 * embedding_dim, hidden_size, directions=directions)
        self.pool = AdaptiveMaxPool2d(pool)
        self.hidden = Linear(directions * hidden_size * pool * pool, hidden_size)
        self.fc = Linear(hidden_size, num_classes)

    def forward(self, first: Tensor, second: Tensor) -> Any:
        """Return the logits."""
        x, y = self.table(first).transpose(1, 2).unsqueeze(3), self.table(second).transpose(1, 2).unsqueeze(2)
        shape = (*x.shape[:3], y.shape[3])
        grid = self.lstm(cat([broadcast_to(x, shape), broadcast_to(y, shape)], 1))
        return self.fc(tanh(self.hidden(self.pool(grid).flatten(1))))
