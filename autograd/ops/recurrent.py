"""Recurrent cells over whole sequences: the simple RNN, the LSTM with and without peepholes, the GRU.

The input is packed: the rows of step 0, then those of step 1, …; `batch_sizes` says how many sequences each step has,
and never grows, so sequences are ordered by length. Equal lengths are the case of equal sizes. The functions ending in
`_composed` are the definitions, in differentiable terms; every derivative beyond the first goes through them.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial
from itertools import accumulate, pairwise

import numpy as np

from ..backward import grad
from ..primitive import primitive
from ..state import enable_grad, is_grad_enabled, scope
from ..tensor import Tensor
from .elementwise import relu, sigmoid, tanh
from .linalg import linear
from .shape import cat, split

# ---- definitions -----------------------------------------------------------------------------------------------------


def scanned(step, x, states, batch_sizes, reverse):
    """Apply `step(rows of x, *states) -> states` over the steps; the packed first states and the last ones of each.

    A sequence that has ended keeps its states; in reverse, it begins with its initial ones when its last step comes.
    """
    starts = [0, *accumulate(batch_sizes)]
    outputs = [None] * len(batch_sizes)
    order = range(len(batch_sizes))
    for t in reversed(order) if reverse else order:
        n = batch_sizes[t]
        with scope("step"):
            rows = x if n == len(x) else x[starts[t] : starts[t + 1]]
            new = step(rows, *[s if n == len(s) else s[:n] for s in states])
            outputs[t] = new[0]
            states = [a if n == len(b) else cat([a, b[n:]]) for a, b in zip(new, states, strict=True)]
    return (outputs[0] if len(outputs) == 1 else cat(outputs), *states)


def rnn_composed(h0, x, w_ih, w_hh, b_ih, b_hh, *, batch_sizes, reverse, nonlinearity):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh), or relu."""
    bend = {"tanh": tanh, "relu": relu}[nonlinearity]
    step = lambda gates, h: (bend(gates + linear(h, w_hh, b_hh)),)
    return scanned(step, linear(x, w_ih, b_ih), [h0], batch_sizes, reverse)


def lstm_composed(h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole, *, batch_sizes, reverse, previous):
    """Hochreiter & Schmidhuber's LSTM with forget gates (Gers 1999); the peepholes are those of Gers & Schmidhuber."""

    def step(gates, h, c):
        i, f, g, o = split(gates + linear(h, w_hh, b_hh), [h.shape[1]] * 4, 1)
        if peephole is not None:
            i, f = i + peephole[0] * c, f + peephole[1] * c
        new = sigmoid(f) * c + sigmoid(i) * tanh(g)
        if peephole is not None:
            o = o + peephole[2] * (c if previous else new)
        return sigmoid(o) * tanh(new), new

    return scanned(step, linear(x, w_ih, b_ih), [h0, c0], batch_sizes, reverse)


def gru_composed(h0, x, w_ih, w_hh, b_ih, b_hh, *, batch_sizes, reverse, reset_after):
    """Cho's GRU; with `reset_after` the reset gate scales the product W_hn h (cuDNN, PyTorch), else h itself (Cho)."""

    def step(gates, h):
        size = h.shape[1]
        gate_weight, new_weight = w_hh[: 2 * size], w_hh[2 * size :]
        gate_bias, new_bias = (None, None) if b_hh is None else (b_hh[: 2 * size], b_hh[2 * size :])
        r, z = split(sigmoid(gates[:, : 2 * size] + linear(h, gate_weight, gate_bias)), [size, size], 1)
        pulled = r * linear(h, new_weight, new_bias) if reset_after else linear(r * h, new_weight, new_bias)
        n = tanh(gates[:, 2 * size :] + pulled)
        return (n + z * (h - n),)

    return scanned(step, linear(x, w_ih, b_ih), [h0], batch_sizes, reverse)


# ---- primitives ------------------------------------------------------------------------------------------------------


def pulled(function, g, inputs, params):
    """The vector-Jacobian product of a composed function: on arrays, or on tensors, whose graph it then extends."""
    recorded = any(isinstance(x, Tensor) for x in (*inputs, *g))
    given = [x if x is None or isinstance(x, Tensor) else Tensor(x) for x in inputs]
    with enable_grad():
        own = [x if x is None else x.view(x.shape) if x.requires_grad else x.detach().requires_grad_() for x in given]
        outputs = function(*own, **params)
        seeds = [v if isinstance(v, Tensor) else Tensor(v) for v in g]
        wanted = [x for x in own if x is not None]
        slopes = iter(grad(outputs, wanted, seeds, create_graph=recorded, materialize_grads=True))
    slopes = [None if x is None else next(slopes) for x in own]
    return tuple(slopes if recorded else [None if s is None else s.array for s in slopes])


def _flops(gates):
    """Of the two products; the gates' arithmetic is small beside them."""
    return lambda h0, x, *_, out, **__: 2 * gates * x[0] * h0[1] * (x[1] + h0[1])


@primitive(
    name="rnn_sequence",
    outputs=2,
    scratch=True,
    floating=True,
    formula=r"h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})",
    flops=_flops(1),
)
def rnn_rows(k, h0, x, w_ih, w_hh, b_ih=None, b_hh=None, *, batch_sizes, reverse, nonlinearity):
    kind = f"rnn_{nonlinearity}"
    out, h, _, record = k.recurrent_sequence(
        h0, x, h0, w_ih, w_hh, b_ih, b_hh, None, kind=kind, batch_sizes=batch_sizes, reverse=reverse,
        keep=is_grad_enabled(),
    )  # fmt: skip
    return (out, h), record


@rnn_rows.vjp(
    "h0", "x", "w_ih", "w_hh", "b_ih", "b_hh",
    formula=r"\bar a_t = \phi'(a_t) \odot \bar h_t,\ \bar h_{t-1} \mathrel{+}= W_{hh}^{\mathsf T} \bar a_t",
)  # fmt: skip
def rnn_rows_vjp(g, h0, x, w_ih, w_hh, b_ih, b_hh, **params):
    return pulled(rnn_composed, g, (h0, x, w_ih, w_hh, b_ih, b_hh), params)


@rnn_rows.fused_vjp("h0", "x", "w_ih", "w_hh", "b_ih", "b_hh")
def rnn_rows_fused(k, g, h0, x, w_ih, w_hh, b_ih, b_hh, out, scratch, *, batch_sizes, reverse, nonlinearity):
    kind = f"rnn_{nonlinearity}"
    dh0, dx, _, dw_ih, dw_hh, db_ih, db_hh, _ = k.recurrent_sequence_backward(
        *g, None, out[0], scratch, h0, x, w_ih, w_hh, None, kind=kind, batch_sizes=batch_sizes, reverse=reverse
    )
    return dh0, dx, dw_ih, dw_hh, _if(b_ih, db_ih), _if(b_hh, db_hh)


@primitive(
    name="lstm_sequence",
    outputs=3,
    scratch=True,
    floating=True,
    formula=r"c_t = f_t \odot c_{t-1} + i_t \odot g_t,\ h_t = o_t \odot \tanh c_t",
    flops=_flops(4),
)
def lstm_rows(k, h0, x, c0, w_ih, w_hh, b_ih=None, b_hh=None, peephole=None, *, batch_sizes, reverse, previous):
    kind = _lstm_kind(peephole, previous)
    out, h, c, record = k.recurrent_sequence(
        h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole, kind=kind, batch_sizes=batch_sizes, reverse=reverse,
        keep=is_grad_enabled(),
    )  # fmt: skip
    return (out, h, c), record


@lstm_rows.vjp(
    "h0", "x", "c0", "w_ih", "w_hh", "b_ih", "b_hh", "peephole",
    formula=r"\bar c_t \mathrel{+}= \bar h_t \odot o_t \odot (1 - \tanh^2 c_t),\ \bar c_{t-1} = \bar c_t \odot f_t",
)  # fmt: skip
def lstm_rows_vjp(g, h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole, **params):
    return pulled(lstm_composed, g, (h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole), params)


@lstm_rows.fused_vjp("h0", "x", "c0", "w_ih", "w_hh", "b_ih", "b_hh", "peephole")
def lstm_rows_fused(k, g, h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole, out, scratch, *, batch_sizes, reverse, previous):
    kind = _lstm_kind(peephole, previous)
    dh0, dx, dc0, dw_ih, dw_hh, db_ih, db_hh, dpeephole = k.recurrent_sequence_backward(
        *g, out[0], scratch, h0, x, w_ih, w_hh, peephole, kind=kind, batch_sizes=batch_sizes, reverse=reverse
    )
    return dh0, dx, dc0, dw_ih, dw_hh, _if(b_ih, db_ih), _if(b_hh, db_hh), dpeephole


@primitive(
    name="gru_sequence",
    outputs=2,
    scratch=True,
    floating=True,
    formula=r"h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1}",
    flops=_flops(3),
)
def gru_rows(k, h0, x, w_ih, w_hh, b_ih=None, b_hh=None, *, batch_sizes, reverse):
    out, h, _, record = k.recurrent_sequence(
        h0, x, h0, w_ih, w_hh, b_ih, b_hh, None, kind="gru", batch_sizes=batch_sizes, reverse=reverse,
        keep=is_grad_enabled(),
    )  # fmt: skip
    return (out, h), record


@gru_rows.vjp(
    "h0", "x", "w_ih", "w_hh", "b_ih", "b_hh",
    formula=r"\bar n_t = \bar h_t \odot (1 - z_t),\ \bar z_t = \bar h_t \odot (h_{t-1} - n_t)",
)  # fmt: skip
def gru_rows_vjp(g, h0, x, w_ih, w_hh, b_ih, b_hh, **params):
    return pulled(gru_composed, g, (h0, x, w_ih, w_hh, b_ih, b_hh), {**params, "reset_after": True})


@gru_rows.fused_vjp("h0", "x", "w_ih", "w_hh", "b_ih", "b_hh")
def gru_rows_fused(k, g, h0, x, w_ih, w_hh, b_ih, b_hh, out, scratch, *, batch_sizes, reverse):
    dh0, dx, dlocal, dw_ih, dw_hh, db_ih, db_hh, _ = k.recurrent_sequence_backward(
        *g, None, out[0], scratch, h0, x, w_ih, w_hh, None, kind="gru", batch_sizes=batch_sizes, reverse=reverse
    )
    return dh0 + dlocal, dx, dw_ih, dw_hh, _if(b_ih, db_ih), _if(b_hh, db_hh)


def _lstm_kind(peephole, previous):
    return "lstm" if peephole is None else "lstm_previous" if previous else "lstm_current"


def _if(given, gradient):
    return None if given is None else gradient


rnn_rows.composed, lstm_rows.composed = rnn_composed, lstm_composed
gru_rows.composed = partial(gru_composed, reset_after=True)


# ---- what is called --------------------------------------------------------------------------------------------------


def rnn_sequence(h0, x, w_ih, w_hh, b_ih=None, b_hh=None, *, batch_sizes, reverse=False, nonlinearity="tanh"):
    """The states of an Elman network over packed sequences: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t−1} + b_hh).

    Shapes: h0 (B, H), x (N, I), w_ih (H, I), w_hh (H, H), biases (H,) → every h_t, packed (N, H), and the last h of
    each sequence (B, H); B = batch_sizes[0], N = sum(batch_sizes). nonlinearity: "tanh" or "relu". reverse: from the
    last step of each sequence to its first.

    Errors: ValueError for shapes that do not fit, or sizes that grow or do not sum to N.

    >>> out, h = cr.rnn_sequence(cr.zeros(1, 2), cr.ones(3, 2), cr.eye(2), cr.eye(2), batch_sizes=(1, 1, 1))
    >>> out.shape, h.shape
    ((3, 2), (1, 2))
    """
    batch_sizes = _checked("rnn_sequence", 1, h0, x, w_ih, w_hh, b_ih, b_hh, batch_sizes)
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(f"rnn_sequence: received nonlinearity={nonlinearity!r}; pass 'tanh' or 'relu'")
    return rnn_rows(
        h0, x, w_ih, w_hh, b_ih, b_hh, batch_sizes=batch_sizes, reverse=bool(reverse), nonlinearity=nonlinearity
    )


def lstm_sequence(
    h0, x, c0, w_ih, w_hh, b_ih=None, b_hh=None, peephole=None, *, batch_sizes, reverse=False, previous=False
):
    """The states of an LSTM over packed sequences (Hochreiter & Schmidhuber 1997, with forget gates: Gers 1999).

    i, f, o = σ(…), g = tanh(…) of W_ih x_t + b_ih + W_hh h_{t−1} + b_hh, in the order i f g o;
    c_t = f ⊙ c_{t−1} + i ⊙ g, h_t = o ⊙ tanh c_t. With peepholes (Gers & Schmidhuber 2000, Graves 2006), its rows p_i,
    p_f, p_o: i and f also see p ⊙ c_{t−1}, and o sees p_o ⊙ c_t, or with `previous` p_o ⊙ c_{t−1}.

    Shapes: h0 and c0 (B, H), x (N, I), w_ih (4H, I), w_hh (4H, H), biases (4H,), peephole (3, H) → every h_t, packed
    (N, H), the last h and the last c of each sequence (B, H); B = batch_sizes[0], N = sum(batch_sizes). Backward keeps
    5 N H numbers besides the inputs and the outputs.

    Errors: ValueError for shapes that do not fit, or sizes that grow or do not sum to N.

    >>> state = cr.zeros(1, 2)
    >>> out, h, c = cr.lstm_sequence(state, cr.ones(3, 5), state, cr.ones(8, 5), cr.ones(8, 2), batch_sizes=(1, 1, 1))
    >>> out.shape, c.shape
    ((3, 2), (1, 2))
    """
    batch_sizes = _checked("lstm_sequence", 4, h0, x, w_ih, w_hh, b_ih, b_hh, batch_sizes)
    _fits("lstm_sequence", "c0", c0, h0.shape)
    _fits("lstm_sequence", "peephole", peephole, (3, h0.shape[1]))
    return lstm_rows(
        h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole,
        batch_sizes=batch_sizes, reverse=bool(reverse), previous=bool(previous),
    )  # fmt: skip


def gru_sequence(h0, x, w_ih, w_hh, b_ih=None, b_hh=None, *, batch_sizes, reverse=False, reset_after=True):
    """The states of a GRU over packed sequences (Cho 2014): h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}.

    r, z = σ(…) of W_ih x_t + b_ih + W_hh h_{t−1} + b_hh; n = tanh(W_in x_t + b_in + r ⊙ (W_hn h_{t−1} + b_hn)), or,
    with reset_after=False as in the paper, tanh(W_in x_t + b_in + W_hn (r ⊙ h_{t−1}) + b_hn). The order is r z n.
    Chung 2014 and many lectures write z where this, with Cho and PyTorch, has 1 − z.

    Shapes: h0 (B, H), x (N, I), w_ih (3H, I), w_hh (3H, H), biases (3H,) → every h_t, packed (N, H), and the last h of
    each sequence (B, H); B = batch_sizes[0], N = sum(batch_sizes). Backward keeps 5 N H numbers besides the inputs and
    the outputs.

    Errors: ValueError for shapes that do not fit, or sizes that grow or do not sum to N.

    >>> out, h = cr.gru_sequence(cr.zeros(1, 2), cr.ones(3, 5), cr.ones(6, 5), cr.ones(6, 2), batch_sizes=(1, 1, 1))
    >>> out.shape, h.shape
    ((3, 2), (1, 2))
    """
    batch_sizes = _checked("gru_sequence", 3, h0, x, w_ih, w_hh, b_ih, b_hh, batch_sizes)
    inputs, params = (h0, x, w_ih, w_hh, b_ih, b_hh), {"batch_sizes": batch_sizes, "reverse": bool(reverse)}
    return gru_rows(*inputs, **params) if reset_after else gru_composed(*inputs, **params, reset_after=False)


def _checked(who, gates, h0, x, w_ih, w_hh, b_ih, b_hh, batch_sizes):
    """The batch sizes as a tuple, after everything was found to fit."""
    sizes, count = _in_order(who, tuple(batch_sizes) if isinstance(batch_sizes, Iterable) else (batch_sizes,))
    if x.ndim != 2 or len(x) != count:
        raise ValueError(
            f"{who}: received x of shape {x.shape} for batch_sizes {_few(sizes)}; it needs their sum, {count}, as "
            "its number of rows, one for each step of each sequence"
        )
    if h0.ndim != 2 or len(h0) != sizes[0]:
        raise ValueError(f"{who}: received h0 of shape {h0.shape}; it must be ({sizes[0]}, H), a row for each sequence")
    size, width = h0.shape[1], x.shape[1]
    for name, value, shape in [
        ("w_ih", w_ih, (gates * size, width)),
        ("w_hh", w_hh, (gates * size, size)),
        ("b_ih", b_ih, (gates * size,)),
        ("b_hh", b_hh, (gates * size,)),
    ]:
        _fits(who, name, value, shape)
    return sizes


@lru_cache(256)
def _in_order(who, sizes):
    """The batch sizes as ints, and their sum."""
    whole = all(isinstance(n, (int, np.integer)) for n in sizes)
    if not sizes or not whole or min(sizes) < 1 or any(a < b for a, b in pairwise(sizes)):
        raise ValueError(
            f"{who}: received batch_sizes {_few(sizes)}; they are the numbers of sequences that have a first, second, "
            "… step: positive integers that never grow"
        )
    return tuple(map(int, sizes)), int(sum(sizes))


def _fits(who, name, value, shape):
    if value is not None and value.shape != shape:
        raise ValueError(f"{who}: received {name} of shape {value.shape}; with the other inputs it must be {shape}")


def _few(sizes):
    return str(sizes) if len(sizes) < 9 else f"({', '.join(map(str, sizes[:4]))}, …, {sizes[-1]})"
