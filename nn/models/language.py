"""Language models: networks that give the probability of what comes next."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...autograd import Generator, Tensor, default_generator, no_grad, sigmoid, tanh, tensor
from ..layers import GRU, LSTM, RNN, Dropout, Embedding, Linear, Recurrence
from ..layers.checks import at_least, one_of
from ..module import Module

CELLS = {"lstm": LSTM, "gru": GRU, "rnn": RNN}


class CharLM(Module):
    """A recurrent language model: look-up, LSTM, GRU or Elman layers, a linear map (Graves 2013).

    x ids (T, B), state None or what the call before left → logits (T, B, V) of the next ids, state. `tied` gives the
    output map the table as its weight (Press & Wolf 2017), which needs embedding_dim = hidden_size. dropout acts on
    the output of every layer.

    >>> model = cr.nn.models.CharLM(50, hidden_size=8)
    >>> logits, state = model(cr.zeros(5, 2, dtype=cr.int64))
    >>> logits.shape, model(cr.zeros(1, 2, dtype=cr.int64), state)[0].shape
    ((5, 2, 50), (1, 2, 50))
    """

    def __init__(
        self,
        num_embeddings: int,
        hidden_size: int = 256,
        num_layers: int = 1,
        cell: str = "lstm",
        embedding_dim: int = 64,
        dropout: float = 0.0,
        tied: bool = False,
    ):
        super().__init__()
        one_of(self, "cell", cell, tuple(CELLS))
        at_least(self, 1, num_layers=num_layers)
        if tied and embedding_dim != hidden_size:
            raise ValueError(
                f"CharLM: received tied=True with embedding_dim={embedding_dim} and hidden_size={hidden_size}, but one "
                f"matrix cannot be both table and output map then; pass embedding_dim={hidden_size}"
            )
        self.table = Embedding(num_embeddings, embedding_dim)
        self.rnn = CELLS[cell](embedding_dim, hidden_size, num_layers, dropout=dropout if num_layers > 1 else 0.0)
        self.dropout = Dropout(dropout)
        self.output = Linear(hidden_size, num_embeddings)
        if tied:
            self.table.weight = self.output.weight

    def forward(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the logits and the state."""
        hidden, state = self.rnn(self.table(ids), state)
        return self.output(self.dropout(hidden)), state


class _ElmanStep(Linear):
    """s_t = σ(x_t + W s_{t−1}), where x_t is what the word adds, and s_0 = 0."""

    def forward(self, input: Tensor, state: Tensor | None = None) -> Tensor:
        """Return the next state."""
        return sigmoid(input if state is None else input + super().forward(state))


class ElmanLM(Module):
    """The recurrent network language model (Mikolov 2010): s(t) = σ(U [w(t); s(t − 1)]), y(t) = softmax(V s(t)).

    w(t) has a single 1, so U's left part is a table of which each word takes a row, and no [w(t); s(t − 1)] is built.
    x ids (T, B), state None (zeros) or what the call before left → logits (T, B, V) of the next ids, state (B, H).

    >>> model = cr.nn.models.ElmanLM(50, hidden_size=8)
    >>> model(cr.zeros(5, 2, dtype=cr.int64))[0].shape
    (5, 2, 50)
    """

    def __init__(self, num_embeddings: int, hidden_size: int = 30):
        super().__init__()
        self.table = Embedding(num_embeddings, hidden_size)
        self.scan = Recurrence(_ElmanStep(hidden_size, hidden_size, bias=False))
        self.output = Linear(hidden_size, num_embeddings, bias=False)

    def forward(self, ids: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the logits and the state."""
        states, last = self.scan(self.table(ids), state)
        return self.output(states), last


class NPLM(Module):
    """The neural probabilistic language model (Bengio 2003): logits b + W x + U tanh(d + H x), x = [C(w_{t−1}); …].

    context (N, n − 1), the words before → logits (N, V) of the next. `direct` adds the map W from the table to the
    output, past the hidden layer.

    >>> cr.nn.models.NPLM(50, context=3)(cr.zeros(5, 3, dtype=cr.int64)).shape
    (5, 50)
    """

    def __init__(
        self,
        num_embeddings: int,
        context: int = 4,
        embedding_dim: int = 30,
        hidden_size: int = 50,
        direct: bool = False,
    ):
        super().__init__()
        at_least(self, 1, context=context)
        self.table = Embedding(num_embeddings, embedding_dim)
        self.hidden = Linear(context * embedding_dim, hidden_size)
        self.output = Linear(hidden_size, num_embeddings)
        self.direct = Linear(context * embedding_dim, num_embeddings, bias=False) if direct else None

    def forward(self, context: Tensor) -> Tensor:
        """Return the logits."""
        x = self.table(context).flatten(1)
        logits = self.output(tanh(self.hidden(x)))
        return logits if self.direct is None else logits + self.direct(x)


def generate(
    model: Module, prompt: Tensor, length: int, temperature: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Return the `length` ids with which a model (ids (T, B), state) → (logits (T, B, V), state) continues a prompt.

    prompt (L,), L ≥ 1. Each id is drawn with probabilities softmax(logits/temperature): below 1 the likely ones gain,
    at 0 the likeliest is taken. The model keeps its mode: call `eval()` before, or its dropout goes on.

    >>> model = cr.nn.models.CharLM(50, hidden_size=8).eval()
    >>> cr.nn.models.generate(model, cr.tensor([7, 9]), 5).shape
    (5,)
    """
    check_temperature(temperature)
    if length < 0:
        raise ValueError(f"generate received length={length}, the number of ids to draw. Pass 0 or more.")
    if len(prompt) == 0:
        raise ValueError("generate received an empty prompt, which nothing can follow. Begin with one token or more.")
    rng, made, state, x = (generator or default_generator).rng, [], None, prompt[:, None]
    with no_grad():
        for _ in range(length):
            logits, state = model(x, state)
            made.append(_drawn(logits[-1, 0].cpu().numpy().astype(np.float64), temperature, rng))
            x = tensor([made[-1:]], device=prompt.device)
    return tensor(np.array(made, np.int64), device=prompt.device)


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless 0 <= temperature < ∞."""
    if not 0 <= temperature < math.inf:
        raise ValueError(
            f"The temperature received is {temperature}, by which logits would be divided. Pass a number above 0 (0.8, "
            "say), or 0 to take the likeliest each time."
        )


def _drawn(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    if not logits.max() < math.inf:
        raise ValueError(
            "generate received logits that hold NaN or ∞ from the model, which are no probabilities. Train it anew, "
            "with a smaller step, or load undamaged weights."
        )
    if temperature == 0:
        return int(logits.argmax())
    with np.errstate(over="ignore"):  # −∞ is right for a tiny temperature
        weights = np.exp((logits - logits.max()) / temperature)
    return int(rng.choice(len(weights), p=weights / weights.sum()))
