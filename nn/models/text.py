"""Convolutional networks over words and characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...autograd import Tensor, cat, conv1d_max, pad, relu, tanh
from ..layers import LSTM, Conv1d, Dropout, Embedding, Hardtanh, Linear, ModuleList
from ..layers.checks import at_least, one_of
from ..layers.pooling import k_max
from ..module import Module
from ..utils.rnn import pack_padded_sequence

MODES = {"non-static": (False,), "static": (True,), "multichannel": (True, False)}  # which tables are frozen


class _Peaks(Conv1d):
    """A narrow convolution, of each map the largest value: (N, D, L) → (N, filters)."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the maxima."""
        return conv1d_max(input, self.weight, self.bias)


class _MaxOverTime(Module):
    """Narrow convolutions of several widths, of each map the largest value: (N, L, D) → (N, widths · filters).

    The activation never falls, so that of the largest value is the largest activation.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], filters: int, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        at_least(self, 1, widths=tuple(widths))
        self.widest, self.activation = max(widths), activation
        self.convs = ModuleList(_Peaks(in_channels, filters, width) for width in widths)

    def forward(self, input: Tensor) -> Tensor:
        """Return the maxima; what is shorter than the widest filter is padded with zeros."""
        sequence = input.transpose(1, 2)
        missing = max(self.widest - sequence.shape[-1], 0)
        sequence = pad(sequence, (0, missing)) if missing else sequence
        return self.activation(cat([conv(sequence) for conv in self.convs], -1))


class SentenceCNN(Module):
    """A classifier of sentences (Kim 2014): look-up, filters of several widths, max over time, dropout, a linear map.

    x word numbers (N, L) → logits (N, num_classes). mode: "non-static" trains the table, "static" leaves it as it is,
    "multichannel" has one of each, side by side. `embeddings` (V, D) starts the tables, which are random otherwise.

    >>> cr.nn.models.SentenceCNN(100, 2, embedding_dim=16)(cr.zeros(3, 7, dtype=cr.int64)).shape
    (3, 2)
    """

    def __init__(
        self,
        num_embeddings: int,
        num_classes: int,
        embedding_dim: int = 300,
        widths: Sequence[int] = (3, 4, 5),
        filters: int = 100,
        dropout: float = 0.5,
        mode: str = "non-static",
        embeddings: Tensor | None = None,
    ):
        super().__init__()
        one_of(self, "mode", mode, tuple(MODES))
        start = Embedding(num_embeddings, embedding_dim).weight if embeddings is None else embeddings
        self.tables = ModuleList(Embedding.from_pretrained(start.detach().clone(), frozen) for frozen in MODES[mode])
        channels = len(self.tables) * start.shape[1]
        self.maps = _MaxOverTime(channels, widths, filters, relu)
        self.dropout = Dropout(dropout)
        self.fc = Linear(len(widths) * filters, num_classes)

    def forward(self, words: Tensor) -> Tensor:
        """Return the logits."""
        return self.fc(self.dropout(self.maps(cat([table(words) for table in self.tables], -1))))


class SentenceLSTM(Module):
    """A classifier of sentences: look-up, an LSTM from word to word, its last state, dropout, a linear map.

    x word numbers (N, L), where 0 is the padding at the end, on which no work is done → logits (N, num_classes). With
    bidirectional=True a second LSTM reads from the last word to the first, and the last states of both are joined.
    Raises ValueError for a sentence of padding alone.

    >>> net = cr.nn.models.SentenceLSTM(100, 2, embedding_dim=16, hidden_size=8)
    >>> net(cr.tensor([[5, 7, 9], [3, 0, 0]])).shape
    (2, 2)
    """

    def __init__(
        self,
        num_embeddings: int,
        num_classes: int,
        embedding_dim: int = 300,
        hidden_size: int = 128,
        dropout: float = 0.5,
        bidirectional: bool = False,
    ):
        super().__init__()
        self.table = Embedding(num_embeddings, embedding_dim, padding_idx=0)
        self.lstm = LSTM(embedding_dim, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.dropout = Dropout(dropout)
        self.fc = Linear((1 + bidirectional) * hidden_size, num_classes)

    def forward(self, words: Tensor) -> Tensor:
        """Return the logits."""
        lengths = (words != 0).sum(1)
        packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed._replace(data=self.table(packed.data)))
        return self.fc(self.dropout(last.transpose(0, 1).flatten(1)))


class CharacterCNN(Module):
    """A vector for each word from its characters: look-up, filters of several widths, max over the word (Kim 2016).

    x character numbers (…, L), y (…, widths · filters); character 0 is padding.

    >>> cr.nn.models.CharacterCNN(30)(cr.zeros(2, 5, 9, dtype=cr.int64)).shape
    (2, 5, 75)
    """

    def __init__(
        self, num_characters: int, embedding_dim: int = 15, widths: Sequence[int] = (2, 3, 4), filters: int = 25
    ):
        super().__init__()
        self.table = Embedding(num_characters, embedding_dim, padding_idx=0)
        self.maps = _MaxOverTime(embedding_dim, widths, filters, tanh)

    def forward(self, characters: Tensor) -> Tensor:
        """Return one vector for each word."""
        words = characters.reshape(-1, characters.shape[-1])
        return self.maps(self.table(words)).reshape(*characters.shape[:-1], -1)


class WindowNetwork(Module):
    """The tagger of windows (Collobert 2011): look-up, concatenate the words of a window, a hidden layer, a linear map.

    x word numbers (N, window) → logits or scores (N, num_outputs).

    >>> cr.nn.models.WindowNetwork(100, 5, num_outputs=4)(cr.zeros(3, 5, dtype=cr.int64)).shape
    (3, 4)
    """

    def __init__(self, num_embeddings: int, window: int, num_outputs: int, embedding_dim: int = 50, hidden: int = 300):
        super().__init__()
        at_least(self, 1, window=window)
        self.table = Embedding(num_embeddings, embedding_dim)
        self.hidden = Linear(window * embedding_dim, hidden)
        self.activation = Hardtanh()
        self.output = Linear(hidden, num_outputs)

    def forward(self, words: Tensor) -> Tensor:
        """Return the scores of the window's middle word."""
        return self.output(self.activation(self.hidden(self.table(words).flatten(1))))


class DCNN(Module):
    """The dynamic convolutional network (Kalchbrenner 2014): wide convolutions, folding and dynamic k-max pooling.

    x word numbers (N, L) → logits (N, num_classes). Layer l of n convolves each row of the D × L sentence matrix on its
    own (L + m − 1 positions), adds the rows in pairs, keeps the k = max(top_k, ⌈(n − l) L / n⌉) largest values of each
    row in their order, and applies tanh.

    >>> cr.nn.models.DCNN(100, 2, embedding_dim=8)(cr.zeros(3, 6, dtype=cr.int64)).shape
    (3, 2)
    """

    def __init__(
        self,
        num_embeddings: int,
        num_classes: int,
        embedding_dim: int = 48,
        widths: Sequence[int] = (7, 5),
        maps: Sequence[int] = (6, 14),
        top_k: int = 4,
        dropout: float = 0.5,
    ):
        super().__init__()
        at_least(self, 1, widths=tuple(widths), maps=tuple(maps), top_k=top_k)
        rows, self.top_k = embedding_dim, top_k
        if len(widths) != len(maps) or rows % 2 ** len(widths) or widths[0] < top_k:
            raise ValueError(
                f"DCNN: received widths={tuple(widths)}, maps={tuple(maps)}, embedding_dim={embedding_dim}, "
                f"top_k={top_k}; each layer has one width and one number of maps, halves the rows and must see top_k "
                "positions; pass as many widths as maps, an embedding_dim that halves as often, and top_k <= widths[0]"
            )
        self.table = Embedding(num_embeddings, embedding_dim)
        self.convs = ModuleList()
        channels = 1
        for width, out in zip(widths, maps):
            # One group for each row: its channels stand side by side.
            self.convs.append(Conv1d(rows * channels, rows * out, width, padding=width - 1, groups=rows))
            rows, channels = rows // 2, out
        self.dropout = Dropout(dropout)
        self.fc = Linear(rows * channels * top_k, num_classes)

    def forward(self, words: Tensor) -> Any:
        """Return the logits."""
        length, depth = words.shape[1], len(self.convs)
        x = self.table(words).transpose(1, 2)
        for layer, conv in enumerate(self.convs, start=1):
            x = conv(x)
            folded = x.reshape(x.shape[0], conv.groups // 2, 2, -1, x.shape[-1]).sum(2)
            k = max(self.top_k, -(-(depth - layer) * length // depth))
            x = tanh(k_max(folded.flatten(1, 2), k))
        return self.fc(self.dropout(x.flatten(1)))
