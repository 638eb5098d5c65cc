"""Sequence to sequence: an encoder, a decoder that attends to it, and the search for the best answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...autograd import (
    Tensor,
    arange,
    cat,
    full,
    gather,
    log_softmax,
    no_grad,
    rand,
    repeat_interleave,
    stack,
    tanh,
    tensor,
    topk,
    where,
    zeros,
    zeros_like,
)
from ..layers import (
    GRU,
    LSTM,
    AdditiveAttention,
    Dropout,
    Embedding,
    GRUCell,
    Linear,
    LSTMCell,
    MultiplicativeAttention,
)
from ..layers.checks import at_least, one_of
from ..module import Module
from ..utils.rnn import pack_padded_sequence, pad_packed_sequence

Tensors = tuple[Tensor, ...]
CELLS: dict[str, Any] = {"lstm": (LSTM, LSTMCell, 2), "gru": (GRU, GRUCell, 1)}  # layer, cell, tensors of a state


class Decoded(NamedTuple):
    """Answers: tokens (N, T), of each END and then padding; log p of each (N,); attention weights (N, T, L)."""

    tokens: Tensor
    scores: Tensor
    weights: Tensor


class Decoder(Module):
    """Words one after the other, from a first state and with attention to a memory (Luong, Pham & Manning 2015).

    h_t = cell([E y_{t−1}; a_{t−1}], h_{t−1}),   c_t = attention(h_t, memory),   a_t = tanh(W [c_t; h_t]),
    p(y_t | y_{<t}) = softmax(V a_t + b);   y_0 = START, a_0 = 0: the input feeds the last attention back.

    hidden: the first state (N, H), as a tuple of h, for cell "lstm" of h and c; memory (N, L, K), mask (N, L) on where
    it may be seen. attention: "additive", "general", "dot" (K = H), or None, which leaves a_t = h_t. padding, start and
    end are the numbers of those tokens.

    >>> decoder = cr.nn.models.Decoder(9, memory_size=6, hidden_size=8, cell="gru")
    >>> hidden, memory = (cr.zeros(2, 8),), cr.randn(2, 5, 6)
    >>> decoder(hidden, memory, None, cr.tensor([[3, 4, 2], [5, 2, 0]])).shape
    (2, 3, 9)
    >>> decoder.beam(hidden, memory, None, width=3, max_length=4).tokens.shape[0]
    2
    """

    def __init__(
        self,
        vocab: int,
        memory_size: int,
        embedding_dim: int = 64,
        hidden_size: int = 128,
        cell: str = "lstm",
        attention: str | None = "additive",
        dropout: float = 0.0,
        padding: int = 0,
        start: int = 1,
        end: int = 2,
    ):
        super().__init__()
        one_of(self, "cell", cell, tuple(CELLS))
        one_of(self, "attention", attention, ("additive", "general", "dot", None))
        special = padding, start, end
        if len({*special}) < 3 or not all(0 <= token < vocab for token in special):
            raise ValueError(
                f"{type(self).__name__}: received padding={padding}, start={start} and end={end} for a vocabulary of "
                f"{vocab}; each is a token of its own; pass three different numbers from 0 to {vocab - 1}"
            )
        self.vocab, self.padding, self.start, self.end = vocab, *special
        self.embedding = Embedding(vocab, embedding_dim, padding_idx=padding)
        self.cell = CELLS[cell][1](embedding_dim + hidden_size, hidden_size)
        self.attention: Any = None
        if attention == "additive":
            self.attention = AdditiveAttention(hidden_size, memory_size, hidden_size)
        elif attention is not None:
            self.attention = MultiplicativeAttention(hidden_size, memory_size, attention)
        if attention is not None:
            self.combine = Linear(memory_size + hidden_size, hidden_size, bias=False)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden_size, vocab)
        never = [-float("inf") if token in (padding, start) else 0.0 for token in range(vocab)]
        self.register_buffer("never", tensor(never), persistent=False)

    def forward(
        self, hidden: Tensors, memory: Tensor, mask: Tensor | None, target: Tensor, teacher_forcing_ratio: float = 1.0
    ) -> Tensor:
        """Return the logits (N, T, V) of the target (N, T), whose words before t are told when t is asked.

        A word is told as it should be with probability `teacher_forcing_ratio`, else as it was answered (Bengio 2015).
        """
        if target.ndim != 2 or len(target) != len(hidden[0]) or not target.shape[1]:
            raise ValueError(
                f"Decoder: received a target of shape {target.shape} for a batch of {len(hidden[0])}; each item has an "
                "answer of at least END; pass (N, T)"
            )
        if not 0 <= teacher_forcing_ratio <= 1:
            raise ValueError(
                f"Decoder: received teacher_forcing_ratio={teacher_forcing_ratio!r}, which is the probability of being "
                "told the right word; pass 0 <= teacher_forcing_ratio <= 1"
            )
        token, state, memories = self._begin(hidden, memory, mask)
        outputs = []
        for right in target.unbind(1):
            state, _ = self._step(token, state, memories)
            outputs.append(state[0])
            token = right
            if teacher_forcing_ratio < 1:
                with no_grad():
                    told = rand(len(right), device=right.device) < teacher_forcing_ratio
                    token = where(told, right, self._gains(state).argmax(-1))
        return self.output(stack(outputs, 1))

    def greedy(self, hidden: Tensors, memory: Tensor, mask: Tensor | None, max_length: int = 50) -> Decoded:
        """Return the answers that take the most probable word at every step, up to END."""
        at_least(self, 1, max_length=max_length)
        with no_grad():
            token, state, memories = self._begin(hidden, memory, mask)
            score, done = zeros_like(hidden[0][:, 0]), token == self.end
            steps: list[Tensors] = []
            while len(steps) < max_length and not (steps and done.all()):
                state, weights = self._step(token, state, memories)
                best = self._gains(state).max(-1)
                token = where(done, self.padding, best.indices)
                score = score + where(done, 0, best.values)
                done = done | (token == self.end)
                steps.append((token, weights))
        tokens, seen = (stack(column, 1) for column in zip(*steps))
        return Decoded(tokens, score, seen)

    def beam(
        self,
        hidden: Tensors,
        memory: Tensor,
        mask: Tensor | None,
        width: int = 4,
        max_length: int = 50,
        length_penalty: float = 1.0,
    ) -> Decoded:
        """Return the best answers found by keeping the `width` best beginnings at every step.

        Beginnings are ranked by log p / length^length_penalty: 0 prefers short answers, 1 is the mean over the words.
        """
        at_least(self, 1, width=width, max_length=max_length)
        if not math.isfinite(length_penalty):
            raise ValueError(
                f"{type(self).__name__}: received length_penalty={length_penalty}, the power of the length by which "
                "log p is divided; pass a finite number, such as 1"
            )
        with no_grad():
            token, state, memories = self._begin(hidden, memory, mask)
            n, device = len(token), token.device
            first = arange(n, device=device) * width  # where the rows of each item begin
            widen = lambda t: repeat_interleave(t, width, 0)
            token, state, memories = widen(token), tuple(map(widen, state)), tuple(map(widen, memories))
            length = zeros(n, width, dtype=state[0].dtype, device=device)
            score = where(arange(width, device=device) == 0, length, -float("inf"))  # they are equal: one counts
            done = (token == self.end).reshape(n, width)
            idle = where(arange(self.vocab, device=device) == self.padding, 0.0, -float("inf"))
            steps: list[Tensors] = []
            while len(steps) < max_length and not (steps and done.all()):
                state, weights = self._step(token, state, memories)
                gains = where(done.unsqueeze(-1), idle, self._gains(state).reshape(n, width, -1))
                total, length = score.unsqueeze(-1) + gains, length + ~done
                chosen = topk((total / length.unsqueeze(-1) ** length_penalty).flatten(1), width).indices
                parent, token = chosen // self.vocab, (chosen % self.vocab).flatten()
                score, length = gather(total.flatten(1), 1, chosen), gather(length, 1, parent)
                done = gather(done, 1, parent) | (token == self.end).reshape(n, width)
                row = (first.unsqueeze(1) + parent).flatten()
                state = tuple(s[row] for s in state)
                steps.append((token, row, weights))
            tokens, seen = self._trace(steps, first)  # the best stands first
            return Decoded(tokens, score[:, 0], seen)

    def _trace(self, steps: list[Tensors], row: Tensor) -> Tensors:
        """Return the tokens and weights of the beginnings that ended in these rows, from last to first."""
        tokens, seen = [], []
        for token, parent, weights in reversed(steps):
            tokens.append(token[row])
            row = parent[row]
            seen.append(weights[row])
        answers = stack(tokens[::-1], 1)
        longest = int((answers != self.padding).sum(1).max())  # worse beginnings may have gone on
        return answers[:, :longest], stack(seen[::-1], 1)[:, :longest]

    def read(self, x: Tensor) -> Tensors:
        """Return the first state that comes of reading vectors (N, embedding_dim) in place of a word, from zeros."""
        feed = zeros(len(x), self.cell.hidden_size, dtype=x.dtype, device=x.device)
        return _states(self.cell(cat([x, feed], -1)))

    def _begin(self, hidden: Tensors, memory: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensors, Tensors]:
        """Return START, the state (a, h), with c for an LSTM, and what attention looks at."""
        start = full((len(hidden[0]),), self.start, dtype="int64", device=hidden[0].device)
        state = zeros_like(hidden[0]), *hidden
        if self.attention is None:
            return start, state, ()
        return start, state, (self.attention.project(memory), memory, *(() if mask is None else (mask,)))

    def _step(self, token: Tensor, state: Tensors, memories: Tensors) -> tuple[Tensors, Tensor]:
        feed, *last = state
        hidden = _states(self.cell(cat([self.embedding(token), feed], -1), last[0] if len(last) == 1 else tuple(last)))
        feed, weights = hidden[0], hidden[0][:, :0]  # without attention: weights over nothing
        if self.attention is not None:
            context, weights = self.attention.attend(feed, *memories)
            feed = tanh(self.combine(cat([context, feed], -1)))
        return (self.dropout(feed), *hidden), weights

    def _gains(self, state: Tensors) -> Tensor:
        """Return log p of every next word (N, V), among those that may come: never padding or START."""
        return log_softmax(self.output(state[0]) + self.never, -1)


def _states(hidden: Tensor | Tensors) -> Tensors:
    """A state as a tuple: (h,) of a GRU, (h, c) of an LSTM."""
    return (hidden,) if isinstance(hidden, Tensor) else hidden


class Seq2Seq(Module):
    """Translates sequences into sequences: a bidirectional encoder, attention, a decoder (Bahdanau 2015, Luong 2015).

    Source numbers (N, S) with lengths (N,), padded after them; the encoder's states [h→_s; h←_s] are the memory of a
    `Decoder`, whose first state is tanh(W [h→_S; h←_1] + b). Targets (N, T) end with END and padding; logits (N, T, V)
    go with them into a cross-entropy that ignores the padding. cell: "lstm" or "gru". attention: "additive", "general"
    or None (Sutskever 2014). padding, start and end are numbers in the target's vocabulary, and source number 0 is
    padding too.

    Errors: ValueError for shapes that do not fit, or lengths beyond the source or below 1.

    >>> model = cr.nn.models.Seq2Seq(20, 30, hidden_size=16)
    >>> source, lengths = cr.tensor([[4, 5, 6], [7, 8, 0]]), cr.tensor([3, 2])
    >>> model(source, lengths, target=cr.tensor([[3, 4, 5, 2], [6, 2, 0, 0]])).shape
    (2, 4, 30)
    >>> model.greedy(source, lengths, max_length=6).weights.shape[::2]
    (2, 3)
    """

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        embedding_dim: int = 64,
        hidden_size: int = 128,
        cell: str = "lstm",
        attention: str | None = "additive",
        dropout: float = 0.0,
        padding: int = 0,
        start: int = 1,
        end: int = 2,
    ):
        super().__init__()
        self.embedding = Embedding(source_vocab, embedding_dim, padding_idx=0)
        self.dropout = Dropout(dropout)
        self.decoder = Decoder(
            target_vocab, 2 * hidden_size, embedding_dim, hidden_size, cell, attention, dropout, padding, start, end
        )
        layer, _, self.states = CELLS[cell]
        self.encoder = layer(embedding_dim, hidden_size, batch_first=True, bidirectional=True)
        self.bridge = Linear(2 * hidden_size, self.states * hidden_size)

    def forward(
        self,
        source: Tensor,
        source_lengths: Tensor | Sequence[int],
        target: Tensor,
        teacher_forcing_ratio: float = 1.0,
    ) -> Tensor:
        """Return the logits of the target, as `Decoder` does."""
        return self.decoder(*self.encode(source, source_lengths), target, teacher_forcing_ratio)

    def greedy(self, source: Tensor, source_lengths: Tensor | Sequence[int], max_length: int = 50) -> Decoded:
        """Return the answers that take the most probable word at every step, up to END."""
        with no_grad():
            return self.decoder.greedy(*self.encode(source, source_lengths), max_length)

    def beam(
        self,
        source: Tensor,
        source_lengths: Tensor | Sequence[int],
        width: int = 4,
        max_length: int = 50,
        length_penalty: float = 1.0,
    ) -> Decoded:
        """Return the best answers found by keeping the `width` best beginnings at every step, as `Decoder.beam`."""
        with no_grad():
            return self.decoder.beam(*self.encode(source, source_lengths), width, max_length, length_penalty)

    def encode(self, source: Tensor, lengths: Tensor | Sequence[int]) -> tuple[Tensors, Tensor, Tensor]:
        """Return what the decoder begins with: its first state, the memory (N, S, 2H) and the mask (N, S)."""
        packed = pack_padded_sequence(source, lengths, batch_first=True, enforce_sorted=False)
        out, last = self.encoder(packed._replace(data=self.dropout(self.embedding(packed.data))))
        memory, lengths = pad_packed_sequence(out, batch_first=True, total_length=source.shape[1])
        first = tanh(self.bridge(cat(_states(last)[0].unbind(0), -1)))
        mask = arange(source.shape[1], device=source.device) < lengths.to(source.device).unsqueeze(1)
        return tuple(first.chunk(self.states, -1)), memory, mask
