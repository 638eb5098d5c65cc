"""Recurrent networks: cells, which make one step, and layers, which scan whole sequences (Elman's, LSTM, GRU)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...autograd import (
    Tensor,
    cat,
    dropout,
    empty,
    gru_sequence,
    index_add,
    index_select,
    linear,
    lstm_sequence,
    rnn_sequence,
    stack,
    unbind,
    zeros,
)
from .. import init
from ..module import Module
from ..parameter import Parameter
from ..utils.rnn import PackedSequence, reversal
from .checks import at_least, axis_size, given, ndim, one_of, probability

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class _Kind(NamedTuple):
    """What tells recurrent networks apart: the gates in a weight, the tensors of a state, the engine's scan."""

    gates: int
    states: tuple[str, ...]
    scan: Callable[..., tuple[Tensor, ...]]


ELMAN = _Kind(1, ("h_0",), rnn_sequence)
LONG_SHORT = _Kind(4, ("h_0", "c_0"), lstm_sequence)
GATED = _Kind(3, ("h_0",), gru_sequence)

WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch", "weight_hr")


class _Recurrent(Module):
    """What cells and layers share: the weights of a step, their first values, the engine's scan, checks of states."""

    kind: ClassVar[_Kind]
    shown: ClassVar[dict[str, Any]] = {"bias": True}  # settings in the repr, with the default that is left out

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        peephole: bool | str = False,
        proj_size: int = 0,
        **options: Any,
    ):
        super().__init__()
        at_least(self, 1, input_size=input_size, hidden_size=hidden_size)
        at_least(self, 0, proj_size=proj_size)
        one_of(self, "bias", bias, (True, False))
        one_of(self, "peephole", peephole, (False, True, "current", "previous"))
        if proj_size >= hidden_size:
            raise ValueError(
                f"{type(self).__name__}: received proj_size={proj_size} for hidden_size={hidden_size}, but a "
                f"projection makes the output smaller; pass proj_size < {hidden_size}, or 0 for none"
            )
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.peephole, self.proj_size = peephole, proj_size
        self._options = options  # of the engine's scan

    def _add_weights(self, suffix: str, inputs: int, device: Any, dtype: Any) -> None:
        """Register the weights of one step; those that the settings leave out are None."""
        rows, hidden, out = self.kind.gates * self.hidden_size, self.hidden_size, self.proj_size
        shapes: list[tuple[int, ...] | None] = [(rows, inputs), (rows, out or hidden)]
        shapes += [(rows,) if self.bias else None] * 2
        shapes += [(3, hidden) if self.peephole else None, (out, hidden) if out else None]
        for name, shape in zip(WEIGHTS, shapes):
            weight = None if shape is None else Parameter(empty(shape, device=device, dtype=dtype))
            self.register_parameter(name + suffix, weight)

    def reset_parameters(self) -> None:
        """Draw the parameters anew, from U(−1/√H, 1/√H)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters(recurse=False):
            init.uniform_(parameter, -bound, bound)

    def _scan(self, suffix: str, x: Tensor, states: Sequence[Tensor], sizes: tuple[int, ...], reverse: bool) -> tuple:
        """Return the packed outputs, and the last states."""
        *weights, peephole, projection = [getattr(self, name + suffix) for name in WEIGHTS]
        if peephole is not None:
            weights.append(peephole)
        scan = partial(self.kind.scan, batch_sizes=sizes, reverse=reverse, **self._options)
        h, *rest = states
        if projection is None:
            return scan(h, x, *rest, *weights)
        return _projected(scan, projection, h, x, *rest, *weights)

    def _states(self, hx: Any, like: Tensor, shapes: list[tuple[int, ...]]) -> list[Tensor]:
        """Return the tensors of a state, which have these shapes, or zeros."""
        names = self.kind.states
        if hx is None:
            return [zeros(shape, dtype=like.dtype, device=like.device) for shape in shapes]
        given = list(hx) if isinstance(hx, tuple | list) else [hx]
        alone, tensors = len(names) == 1, all(isinstance(state, Tensor) for state in given)
        if isinstance(hx, Tensor) != alone or len(given) != len(names) or not tensors:
            received = "one tensor" if isinstance(hx, Tensor) else f"({', '.join(type(s).__name__ for s in given)})"
            raise ValueError(
                f"{type(self).__name__}: received {received} as its state, which is "
                f"{'one tensor; pass hx=h_0' if alone else 'a pair of tensors; pass hx=(h_0, c_0)'}, or None for zeros"
            )
        for name, state, shape in zip(names, given, shapes):
            if state.shape != shape:
                raise ValueError(
                    f"{type(self).__name__}: received {name} of shape {state.shape}, but the input and the layer's "
                    f"sizes ask for {shape}; pass a state of that shape, or None for zeros"
                )
            self._same_dtype(name, state, like)
        return given

    def _same_dtype(self, name: str, value: Tensor, weight: Tensor) -> None:
        if value.dtype != weight.dtype:
            raise TypeError(
                f"{type(self).__name__}: received {name} of {value.dtype} with weights of {weight.dtype}, but the "
                f"steps of a scan mix no dtypes; convert {name} with .to(cr.{weight.dtype}), or the layer"
            )

    def extra_repr(self) -> str:
        """Return the sizes, and what differs from the default."""
        settings = {name: getattr(self, name) for name, default in self.shown.items() if getattr(self, name) != default}
        return ", ".join([f"{self.input_size}, {self.hidden_size}", *(f"{n}={v}" for n, v in settings.items())])


def _projected(scan: Any, w_hr: Tensor, h: Tensor, x: Tensor, c: Tensor, w_ih: Tensor, w_hh: Tensor, *others: Any):
    """Scan an LSTM whose W_hh reads W_hr s, of the unprojected s = o ⊙ tanh(c): one with the weights W_hh W_hr over s.

    The first h is projected already, so it joins the input of each sequence's first step.
    """
    sizes, (count, width) = scan.keywords["batch_sizes"], h.shape
    first = reversal(sizes)[:count] if scan.keywords["reverse"] else np.arange(count)
    x = cat([x, index_add(zeros(len(x), width, dtype=h.dtype, device=h.device), 0, first, h)], 1)
    start = zeros(c.shape, dtype=c.dtype, device=c.device)
    out, last, c = scan(start, x, c, cat([w_ih, w_hh], 1), w_hh @ w_hr, *others)
    return linear(out, w_hr), linear(last, w_hr), c


def _joined(states: list[Tensor]) -> Any:
    return states[0] if len(states) == 1 else tuple(states)


# ---- cells -----------------------------------------------------------------------------------------------------------


class Cell(_Recurrent):
    """The base of cells: one step of rows (B, I) and a state."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool, device: Any, dtype: Any, **settings: Any):
        super().__init__(input_size, hidden_size, bias, **settings)
        self._add_weights("", input_size, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Return the next state; hx None stands for zeros."""
        given(self, input)
        ndim(self, input.shape, (1, 2), "(B, I) or (I,)")
        axis_size(self, input.shape, -1, self.input_size, "input_size")
        if not len(input):
            raise ValueError(
                f"{type(self).__name__}: received an input of shape {input.shape} without a row, so nothing makes a "
                "step; pass one row or more"
            )
        self._same_dtype("input", input, self.weight_ih)
        shape = (*input.shape[:-1], self.hidden_size)
        states = self._states(hx, self.weight_ih, [shape] * len(self.kind.states))
        if input.ndim == 1:
            input, states = input.unsqueeze(0), [state.unsqueeze(0) for state in states]
        states = self._step(input, *states)
        if len(shape) == 1:
            states = [state.squeeze(0) for state in states]
        return _joined(states)

    def _step(self, x: Tensor, *states: Tensor) -> list[Tensor]:
        """Return the next states."""
        return list(self._scan("", x, states, (len(x),), False)[1:])


class RNNCell(Cell):
    """One step of Elman's network (1990): h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    x (B, I) or (I,), h and h' (B, H) or (H,), W_ih (H, I), W_hh (H, H), biases (H,); hx=None stands for h = 0. All
    parameters start as U(−1/√H, 1/√H). nonlinearity: "tanh" or "relu".

    Errors: ValueError for sizes or states that do not fit, TypeError for an input or state of another dtype than the
    weights.

    >>> cell = cr.nn.RNNCell(3, 4)
    >>> h = cell(cr.ones(2, 3))
    >>> cell(cr.ones(2, 3), h).shape
    (2, 4)
    """

    kind = ELMAN
    shown = {"bias": True, "nonlinearity": "tanh"}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(input_size, hidden_size, bias, device, dtype, nonlinearity=nonlinearity)
        one_of(self, "nonlinearity", nonlinearity, ("tanh", "relu"))
        self.nonlinearity = nonlinearity


class LSTMCell(Cell):
    """One step of an LSTM (Hochreiter & Schmidhuber 1997, with the forget gates of Gers 1999).

    i, f, o = σ(W_ih x + b_ih + W_hh h + b_hh), g = tanh(likewise); c' = f ⊙ c + i ⊙ g, h' = o ⊙ tanh(c').
    x (B, I) or (I,), h, c, h' and c' (B, H) or (H,), W_ih (4H, I), W_hh (4H, H), biases (4H,), rows in the order
    i, f, g, o. Takes hx=(h, c), or None for zeros, and returns (h', c'). peephole and errors: see `LSTM`, `RNNCell`.

    >>> cell = cr.nn.LSTMCell(3, 4)
    >>> h, c = cell(cr.ones(2, 3))
    >>> cell(cr.ones(2, 3), (h, c))[0].shape
    (2, 4)
    """

    kind = LONG_SHORT
    shown = {"bias": True, "peephole": False}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool | str = False,
    ):
        previous = peephole == "previous"
        super().__init__(input_size, hidden_size, bias, device, dtype, peephole=peephole, previous=previous)


class GRUCell(Cell):
    """One step of a gated recurrent unit (Cho 2014).

    r, z = σ(W_ih x + b_ih + W_hh h + b_hh), n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn)), h' = (1 − z) ⊙ n + z ⊙ h.
    x (B, I) or (I,), h and h' (B, H) or (H,), W_ih (3H, I), W_hh (3H, H), biases (3H,), rows in the order r, z, n;
    hx=None stands for h = 0. The meaning of z and reset_after: see `GRU`; errors: see `RNNCell`.

    >>> cr.nn.GRUCell(3, 4)(cr.ones(2, 3)).shape
    (2, 4)
    """

    kind = GATED
    shown = {"bias": True, "reset_after": True}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
    ):
        super().__init__(input_size, hidden_size, bias, device, dtype, reset_after=reset_after)
        one_of(self, "reset_after", reset_after, (True, False))
        self.reset_after = reset_after


# ---- layers ----------------------------------------------------------------------------------------------------------


class _Layer(_Recurrent):
    """Cells over time, in layers and directions; those of one layer and direction share a suffix of their names."""

    shown = {
        "proj_size": 0,
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        device: Any,
        dtype: Any,
        **settings: Any,
    ):
        super().__init__(input_size, hidden_size, bias, **settings)
        at_least(self, 1, num_layers=num_layers)
        probability(self, dropout, "dropout")
        for name, value in (("batch_first", batch_first), ("bidirectional", bidirectional)):
            one_of(self, name, value, (True, False))
        if dropout and num_layers == 1:
            warnings.warn(
                f"{type(self).__name__}: received dropout={dropout} with num_layers=1, but dropout acts between "
                "layers, so nothing is dropped; pass num_layers >= 2, or use nn.Dropout on the output",
                stacklevel=3,
            )
        self.num_layers, self.batch_first = num_layers, batch_first
        self.dropout, self.bidirectional = float(dropout), bidirectional
        directions = ("", "_reverse") if bidirectional else ("",)
        self._suffixes = [[f"_l{layer}{direction}" for direction in directions] for layer in range(num_layers)]
        for layer, suffixes in enumerate(self._suffixes):
            for suffix in suffixes:
                inputs = len(directions) * (self.proj_size or hidden_size) if layer else input_size
                self._add_weights(suffix, inputs, device, dtype)
        self.reset_parameters()

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """Return the last layer's outputs, and the last states of every layer and direction."""
        if isinstance(input, PackedSequence):
            return self._packed(input, hx)
        given(self, input)
        ndim(self, input.shape, (2, 3), "(T, B, I), (B, T, I) with batch_first=True, or (T, I)")
        if input.ndim == 2:
            rows, states = self._run(input, (1,) * len(input), hx, ())
            return rows, _joined([state.squeeze(1) for state in states])
        x = input.transpose(0, 1) if self.batch_first else input
        steps, batch, inputs = x.shape
        rows, states = self._run(x.reshape(steps * batch, inputs), (batch,) * steps, hx, (batch,))
        output = rows.reshape(steps, batch, -1)
        return output.transpose(0, 1) if self.batch_first else output, _joined(states)

    def _packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        sizes = tuple(input.batch_sizes.tolist())
        rows, states = self._run(input.data, sizes, hx, sizes[:1], input.sorted_indices)
        if input.unsorted_indices is not None:
            states = [index_select(state, 1, input.unsorted_indices) for state in states]
        return input._replace(data=rows), _joined(states)

    def _run(self, x: Tensor, sizes: tuple[int, ...], hx: Any, batch: tuple[int, ...], order: Any = None) -> tuple:
        """Scan packed rows (N, I) layer after layer; batch () means that hx has no batch axis."""
        self._check_rows(x)
        first, last = self._first(hx, sizes, batch, order), []  # of each layer and direction, the tensors of its state
        for layer, suffixes in enumerate(self._suffixes):
            if layer and self.dropout:
                x = dropout(x, self.dropout, self.training)
            outputs = []
            for suffix in suffixes:
                output, *ended = self._scan(suffix, x, next(first), sizes, suffix.endswith("_reverse"))
                outputs.append(output)
                last.append(ended)
            x = outputs[0] if len(outputs) == 1 else cat(outputs, 1)
        return x, [stack(part) for part in zip(*last)]

    def _first(self, hx: Any, sizes: tuple[int, ...], batch: tuple[int, ...], order: Any) -> Iterator[Any]:
        """Of each layer and direction, the tensors (B, width) of its first state."""
        widths = (self.proj_size or self.hidden_size, self.hidden_size)[: len(self.kind.states)]
        if hx is None:
            return repeat(self._states(None, self.weight_ih_l0, [(sizes[0], width) for width in widths]))
        count = sum(map(len, self._suffixes))
        states = self._states(hx, self.weight_ih_l0, [(count, *batch, width) for width in widths])
        if not batch:
            states = [state.unsqueeze(1) for state in states]
        if order is not None:
            states = [index_select(state, 1, order) for state in states]
        return zip(*map(unbind, states))

    def _check_rows(self, x: Tensor) -> None:
        if not len(x):
            raise ValueError(
                f"{type(self).__name__}: received an empty sequence, but its state is that after the last step; "
                "pass one step and one sequence, or more"
            )
        if x.ndim != 2 or x.shape[1] != self.input_size:
            raise ValueError(
                f"{type(self).__name__}: received an input whose steps have shape {x.shape[1:]}, but was built with "
                f"input_size={self.input_size}; build it with another input_size or change the input's last axis"
            )
        self._same_dtype("input", x, self.weight_ih_l0)


class RNN(_Layer):
    """Elman's network (1990) over sequences: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh), or relu.

    x (T, B, I), with batch_first (B, T, I), unbatched (T, I), or a `PackedSequence` of sequences of different lengths;
    returns every h_t of the last layer, (T, B, D·H) or as x came, and the last h of each layer and direction,
    (num_layers·D, B, H). D = 2 with bidirectional, whose second half scans from the last step to the first, else 1.
    hx: the first h, shaped as the last; None stands for zeros.

    Layer k > 0 reads the outputs of the layer below, of which dropout drops a part in training. Parameters are named
    weight_ih_l0 (H, I), weight_hh_l0 (H, H), bias_ih_l0 and bias_hh_l0 (H,), then those of _l0_reverse, of _l1, …; all
    start as U(−1/√H, 1/√H).

    Errors: ValueError for sizes, states or inputs that do not fit, or an empty sequence; TypeError for an input or
    state of another dtype than the weights. Warns where dropout has no second layer.

    >>> net = cr.nn.RNN(3, 4, num_layers=2)
    >>> output, h = net(cr.ones(7, 5, 3))
    >>> output.shape, h.shape
    ((7, 5, 4), (2, 5, 4))
    """

    kind = ELMAN
    shown = _Layer.shown | {"nonlinearity": "tanh"}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            nonlinearity=nonlinearity,
        )
        one_of(self, "nonlinearity", nonlinearity, ("tanh", "relu"))
        self.nonlinearity = nonlinearity


class LSTM(_Layer):
    """An LSTM over sequences (Hochreiter & Schmidhuber 1997, with the forget gates of Gers 1999).

    i, f, o = σ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh), g = tanh(likewise); c_t = f ⊙ c_{t−1} + i ⊙ g,
    h_t = o ⊙ tanh(c_t). Inputs, outputs, layers, directions and errors are those of `RNN`; the state is a pair (h, c),
    and weights have 4H rows, in the order i, f, g, o.

    proj_size P > 0 (Sak 2014): h_t = W_hr (o ⊙ tanh(c_t)), so that outputs, h and what W_hh reads have P values;
    weight_hr_l0 (P, H).

    peephole: the gates also see the cell, through weight_ch_l0 (3, H), rows i, f, o: i and f gain w ⊙ c_{t−1}, and o
    gains w ⊙ c_t (True or "current": Gers & Schmidhuber 2000, Graves 2006) or w ⊙ c_{t−1} ("previous": every gate
    looks at the same cell).

    >>> net = cr.nn.LSTM(3, 4, bidirectional=True)
    >>> output, (h, c) = net(cr.ones(7, 5, 3))
    >>> output.shape, h.shape, c.shape
    ((7, 5, 8), (2, 5, 4), (2, 5, 4))
    """

    kind = LONG_SHORT
    shown = _Layer.shown | {"peephole": False}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool | str = False,
    ):
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            peephole=peephole,
            proj_size=proj_size,
            previous=peephole == "previous",
        )


class GRU(_Layer):
    """Gated recurrent units over sequences (Cho 2014).

    r, z = σ(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh), n = tanh(W_in x_t + b_in + r ⊙ (W_hn h_{t−1} + b_hn)),
    h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}. Inputs, outputs, layers, directions and errors are those of `RNN`; weights have 3H
    rows, in the order r, z, n.

    Conventions differ between libraries and lectures. Here, as in PyTorch, cuDNN and Cho 2014, z near 1 keeps the old
    state; where h_t = (1 − z) ⊙ h_{t−1} + z ⊙ n is written instead (Chung 2014, most lectures), z is our 1 − z: weights
    come over with the sign of the rows of z changed. reset_after=True applies r to the product W_hn h + b_hn (PyTorch,
    cuDNN); False applies it to h before the product, n = tanh(W_in x + b_in + W_hn (r ⊙ h) + b_hn) (Cho 2014, most
    lectures); these are different functions.

    >>> net = cr.nn.GRU(3, 4, batch_first=True)
    >>> output, h = net(cr.ones(5, 7, 3))
    >>> output.shape, h.shape
    ((5, 7, 4), (1, 5, 4))
    """

    kind = GATED
    shown = _Layer.shown | {"reset_after": True}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        reset_after: bool = True,
    ):
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            reset_after=reset_after,
        )
        one_of(self, "reset_after", reset_after, (True, False))
        self.reset_after = reset_after
