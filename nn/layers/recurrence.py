"""A scan over time of any cell, and cells that normalise their sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ...autograd import Tensor, cat, index_select, linear, sigmoid, split, tanh
from ..module import Module
from ..utils.rnn import PackedSequence, reversal
from .checks import given, one_of
from .normalization import LayerNorm
from .recurrent import ELMAN, GATED, LONG_SHORT, Cell

__all__ = ["LayerNormGRUCell", "LayerNormLSTMCell", "LayerNormRNNCell", "Recurrence"]


class Recurrence(Module):
    """Scan a cell over time: s_t = cell(x_t, s_{t−1}); the output at t is s_t, or the first entry of a tuple s_t.

    cell: a module that takes one step's rows (B, *) and a state, and returns the next state: a tensor (B, *), or a
    tuple of such (or of tuples) whose first entry is the output. At the first step it gets the state that the caller
    passed, None by default, and starts as it likes.

    x (T, B, *), with batch_first (B, T, *), or a `PackedSequence`; returns all outputs in x's form, and the last state.
    reverse scans every sequence from its last step to its first. backward_cell adds a second cell that does so beside
    the first: outputs are joined along the axis after the batch, and states are pairs (forward, backward).

    Errors: ValueError for an empty sequence, or reverse with backward_cell; TypeError for a cell that returns no state.

    >>> class Leaky(cr.nn.Module):
    ...     def __init__(self, inputs, units):
    ...         super().__init__()
    ...         self.map = cr.nn.Linear(inputs, units)
    ...
    ...     def forward(self, x, state=None):
    ...         new = self.map(x).tanh()
    ...         return new if state is None else 0.9 * state + 0.1 * new
    >>> output, state = cr.nn.Recurrence(Leaky(3, 4))(cr.ones(7, 5, 3))
    >>> output.shape, state.shape
    ((7, 5, 4), (5, 4))
    """

    def __init__(
        self, cell: Module, reverse: bool = False, backward_cell: Module | None = None, batch_first: bool = False
    ):
        super().__init__()
        for name, value in (("reverse", reverse), ("batch_first", batch_first)):
            one_of(self, name, value, (True, False))
        if reverse and backward_cell is not None:
            raise ValueError(
                "Recurrence: received reverse=True and a backward_cell, but with two cells the first runs forwards; "
                "leave one of the two out"
            )
        self.reverse, self.batch_first = reverse, batch_first
        self.cell, self.backward_cell = cell, backward_cell

    def forward(self, input: Tensor | PackedSequence, state: Any = None) -> tuple[Any, Any]:
        """Return the outputs, and the last state."""
        if isinstance(input, PackedSequence):
            return self._packed(input, state)
        given(self, input)
        if input.ndim < 2 or not input.numel():
            raise ValueError(
                f"Recurrence: received an input of shape {input.shape}, but scans one step of one sequence or more; "
                "pass (T, B, …), or (B, T, …) with batch_first=True"
            )
        x = input.transpose(0, 1) if self.batch_first else input
        steps, batch = x.shape[:2]
        rows, state = self._run(x.reshape(steps * batch, *x.shape[2:]), [batch] * steps, state)
        output = rows.reshape(steps, batch, *rows.shape[1:])
        return output.transpose(0, 1) if self.batch_first else output, state

    def _packed(self, input: PackedSequence, state: Any) -> tuple[PackedSequence, Any]:
        order, back = input.sorted_indices, input.unsorted_indices
        if order is not None and state is not None:
            state = _map(lambda s: index_select(s, 0, order), state)
        rows, state = self._run(input.data, input.batch_sizes.tolist(), state)
        if back is not None:
            state = _map(lambda s: index_select(s, 0, back), state)
        return input._replace(data=rows), state

    def _run(self, rows: Tensor, sizes: list[int], state: Any) -> tuple[Tensor, Any]:
        """Scan packed rows in the directions asked for."""
        if self.backward_cell is None:
            return _scan(self.cell, rows, sizes, state, self.reverse)
        if state is not None and len(state) != 2:
            raise ValueError(
                f"Recurrence: received a state of length {len(state)} with a backward_cell, but each direction has its "
                "own; pass (forward, backward), or None"
            )
        forward, backward = (None, None) if state is None else state
        output, forward = _scan(self.cell, rows, sizes, forward, False)
        other, backward = _scan(self.backward_cell, rows, sizes, backward, True)
        return cat([output, other], 1), (forward, backward)

    def extra_repr(self) -> str:
        """Return what differs from the default."""
        return ", ".join(f"{name}=True" for name in ("reverse", "batch_first") if getattr(self, name))


def _scan(cell: Module, rows: Tensor, sizes: list[int], state: Any, reverse: bool) -> tuple[Tensor, Any]:
    """Scan packed rows; in reverse, scan the reversed sequences, which all begin at the first step."""
    if reverse:
        order = reversal(sizes)
        output, state = _scan(cell, index_select(rows, 0, order), sizes, state, False)
        return index_select(output, 0, order), state
    outputs: list[Tensor] = []
    ended: list[Any] = []  # the last states of sequences that are over, the shortest first
    for x in split(rows, sizes, 0):
        if outputs and len(x) < len(outputs[-1]):
            ended.append(_part(state, len(x), None))
            state = _part(state, 0, len(x))
        state = cell(x, state)
        outputs.append(_output(cell, state, len(x)))
    if ended:
        state = _map(lambda *parts: cat(parts), state, *reversed(ended))
    return cat(outputs), state


def _map(f: Callable[..., Tensor], state: Any, *others: Any) -> Any:
    """Apply f to the tensors of states: tensors, or nested tuples of tensors."""
    if isinstance(state, Tensor):
        return f(state, *others)
    if not isinstance(state, tuple | list):
        raise TypeError(
            f"Recurrence: received a state that holds a {type(state).__name__}, but sequences of different lengths end "
            "at different steps, where tensors alone can be cut; make states of tensors, or nested tuples of them"
        )
    return tuple(_map(f, *parts) for parts in zip(state, *others))


def _part(state: Any, start: int, stop: int | None) -> Any:
    return _map(lambda s: s[start:stop], state)


def _output(cell: Module, state: Any, batch: int) -> Tensor:
    output = state[0] if isinstance(state, tuple) and state else state
    if not isinstance(output, Tensor) or output.shape[:1] != (batch,):
        received = f"shape {output.shape}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
        raise TypeError(
            f"Recurrence: received an output of {received} from {type(cell).__name__} for {batch} rows, but a cell "
            f"returns its next state; return a tensor ({batch}, …), or a tuple whose first entry is one"
        )
    return output


# ---- cells that normalise their sums ---------------------------------------------------------------------------------


class _LayerNormCell(Cell):
    """A cell without biases, which its normalisations have; `norms` names them, with the gates that each covers."""

    norms: ClassVar[dict[str, int]]
    shown = {"eps": 1e-5}

    def __init__(self, input_size: int, hidden_size: int, eps: float = 1e-5, device: Any = None, dtype: Any = None):
        super().__init__(input_size, hidden_size, False, device, dtype)
        self.eps = eps
        for name, gates in self.norms.items():
            self.add_module(name, LayerNorm(gates * hidden_size, eps, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draw the weights anew, from U(−1/√H, 1/√H); put every γ to 1 and β to 0."""
        super().reset_parameters()
        for norm in self.children():
            norm.reset_parameters()


class LayerNormRNNCell(_LayerNormCell):
    """Elman's cell with its sums normalised (Ba 2016, equation 4): h' = tanh(LN(W_ih x + W_hh h)).

    LN is `LayerNorm` over the H sums, whose γ (gain) and β (bias) are learnt. x (B, I) or (I,), h and h' (B, H) or
    (H,); hx=None stands for h = 0. A layer of such cells is `Recurrence(LayerNormRNNCell(I, H))`. W_ih and W_hh start
    as U(−1/√H, 1/√H); errors: see `RNNCell`.

    >>> output, h = cr.nn.Recurrence(cr.nn.LayerNormRNNCell(3, 4))(cr.ones(7, 2, 3))
    >>> output.shape, h.shape
    ((7, 2, 4), (2, 4))
    """

    kind = ELMAN
    norms = {"norm": 1}

    def _step(self, x: Tensor, *states: Tensor) -> list[Tensor]:
        return [tanh(self.norm(linear(x, self.weight_ih) + linear(states[0], self.weight_hh)))]


class LayerNormLSTMCell(_LayerNormCell):
    """An LSTM cell with its sums and its cell state normalised (Ba 2016, supplement).

    (i, f, g, o) = LN(W_ih x) + LN(W_hh h), each LN over all 4H sums; c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g),
    h' = σ(o) ⊙ tanh(LN(c')). The paper's further bias is left out: the β of the two LN contain it. Takes hx=(h, c) or
    None for zeros and returns (h', c'), of the shapes of `LSTMCell`.

    >>> output, (h, c) = cr.nn.Recurrence(cr.nn.LayerNormLSTMCell(3, 4))(cr.ones(7, 2, 3))
    >>> output.shape, c.shape
    ((7, 2, 4), (2, 4))
    """

    kind = LONG_SHORT
    norms = {"norm_ih": 4, "norm_hh": 4, "norm_c": 1}

    def _step(self, x: Tensor, *states: Tensor) -> list[Tensor]:
        h, c = states
        gates = self.norm_ih(linear(x, self.weight_ih)) + self.norm_hh(linear(h, self.weight_hh))
        i, f, g, o = split(gates, self.hidden_size, 1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return [sigmoid(o) * tanh(self.norm_c(c)), c]


class LayerNormGRUCell(_LayerNormCell):
    """A gated recurrent unit with its sums normalised (Ba 2016, supplement).

    (r, z) = σ(LN(W_ih x) + LN(W_hh h)), each LN over the 2H sums; n = tanh(LN(W_in x) + r ⊙ LN(W_hn h)),
    h' = (1 − z) ⊙ h + z ⊙ n: as in the paper z near 1 takes the new value, the opposite of `GRUCell`. Shapes are those
    of `GRUCell`; weights have the rows of r, z, n.

    >>> cr.nn.LayerNormGRUCell(3, 4)(cr.ones(2, 3)).shape
    (2, 4)
    """

    kind = GATED
    norms = {"norm_ih": 2, "norm_hh": 2, "norm_in": 1, "norm_hn": 1}

    def _step(self, x: Tensor, *states: Tensor) -> list[Tensor]:
        (h,), size = states, self.hidden_size
        inner, outer = split(linear(x, self.weight_ih), [2 * size, size], 1)
        own, pulled = split(linear(h, self.weight_hh), [2 * size, size], 1)
        r, z = split(sigmoid(self.norm_ih(inner) + self.norm_hh(own)), size, 1)
        n = tanh(self.norm_in(outer) + r * self.norm_hn(pulled))
        return [h + z * (n - h)]
