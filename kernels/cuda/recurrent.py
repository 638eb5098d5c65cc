"""Recurrent cells over whole sequences, forward and backward: of each step one product and one kernel of all gates.

The inputs' product with their weights is one for all steps, and so is each gradient of a weight. The states' product of
a step is added to its gates where they lie; a cell whose reset gate scales that product alone has it apart.
"""

from functools import cache, lru_cache, partial
from itertools import accumulate

import cupy
import numpy as np

from ..cell import CELLS
from ..registry import chosen, implementation
from ..scalar import CUDA, Formula
from . import blas, numba_runtime, runtime
from .matmul import matmul
from .reduction import sum as total

_BLOCK = 128
_MOST_BLOCKS = 65535  # of a grid's second dimension


# ---- what the engine calls -------------------------------------------------------------------------------------------


def _forward_floor(h0, x, local0, w_ih, w_hh, *others, kind, **how):
    states, weights = len(x) * h0.shape[1], w_ih.size + w_hh.size
    return (x.size + weights + states) * x.itemsize, 2 * len(x) * weights


def _backward_floor(g, gh, glocal, out, record, h0, x, w_ih, w_hh, *others, **how):
    weights = w_ih.size + w_hh.size
    return (g.size + out.size + record.size + 2 * x.size + 2 * weights) * x.itemsize, 4 * len(x) * weights


@implementation("recurrent_sequence", "cuda", floor=_forward_floor)
def recurrent_sequence(h0, x, local0, w_ih, w_hh, b_ih, b_hh, peephole, *, kind, batch_sizes, reverse, keep):
    """(out, last h, last local, record) of a cell of `kernels.cell` over packed rows; the record is for backward.

    x (N, I), h0 and local0 (B, H), w_ih (G H, I), w_hh (G H, H), biases (G H,), peephole (3, H) or None → out (N, H),
    last ones (B, H), and the record (N, R, H) of the R values that the cell records, of no use without `keep`.
    """
    cell, dtype, (batch, size), count = CELLS[kind], x.dtype, h0.shape, len(x)
    step, apart, carries = chosen(f"{kind}_cell", dtype), _apart(cell), _carries(kind)
    record = cupy.empty((count, cell.record if keep else cell.gates, size), dtype)
    out, states = cupy.empty((count, size), dtype), _dense(h0)
    local = cupy.array(local0, _wide(dtype), order="C") if carries else None
    gates = record.reshape(count, -1)[:, : len(w_ih)]
    pulled = cupy.empty((batch, len(w_hh)), dtype) if apart else None
    b_ih, b_hh, peephole = map(_dense, (b_ih, b_hh, peephole))
    blas.gemm(blas.readable(x), blas.readable(w_ih).T, gates)
    turned = blas.readable(w_hh).T
    for start, n in _steps(batch_sizes, reverse):
        states = _with_new_sequences(states, h0, n)
        if apart:
            blas.gemm(states, turned, pulled[:n])
        else:
            blas.gemm(states, turned, gates[start : start + n], beta=1.0)
        step(record, pulled, b_ih, b_hh, peephole, local, out, start, n, keep)
        states = out[start : start + n]
    h = _last_states(out, batch_sizes, reverse)
    return out, h, local.astype(dtype, copy=False) if carries else local0, record


@implementation("recurrent_sequence_backward", "cuda", floor=_backward_floor)
def recurrent_sequence_backward(g, gh, glocal, out, record, h0, x, w_ih, w_hh, peephole, *, kind, batch_sizes, reverse):
    """Gradients of (h0, x, local0, w_ih, w_hh, b_ih, b_hh, peephole) from those of out, of the last h and local."""
    cell, dtype, (batch, size), count = CELLS[kind], x.dtype, h0.shape, len(x)
    step, height = chosen(f"{kind}_cell_backward", dtype), len(w_hh)
    grads, dh = cupy.empty((count, _stored(cell), size), dtype), cupy.array(gh, order="C")
    wide = _wide(dtype)
    dlocal = cupy.zeros((batch, size), wide) if glocal is None else cupy.array(glocal, wide, order="C")
    g, peephole, w_hh = _dense(g), _dense(peephole), blas.readable(w_hh)
    flat = grads.reshape(count, -1)
    to_input, to_state = flat[:, :height], flat[:, height : 2 * height] if _apart(cell) else flat[:, :height]
    for start, n in _steps(batch_sizes, not reverse):
        step(g, dh, dlocal, record, peephole, grads, start, n)
        blas.gemm(to_state[start : start + n], w_hh, dh[:n])
    sums = total(flat, 0)
    db_hh = sums[height : 2 * height] if _apart(cell) else sums[:height].copy()
    dpeephole = None if peephole is None else sums[-cell.peepholes * size :].reshape(peephole.shape)
    dw_hh = matmul(to_state.T, _states_before(out, h0, batch_sizes, reverse))
    dx, dw_ih, dlocal = matmul(to_input, w_ih), matmul(to_input.T, x), dlocal.astype(dtype, copy=False)
    return dh, dx, dlocal, dw_ih, dw_hh, sums[:height], db_hh, dpeephole


# ---- one step --------------------------------------------------------------------------------------------------------


def _cell(kind, record, pulled, b_ih, b_hh, peephole, local, out, first, n, keep):
    """The step whose n rows begin at `first`: see recurrent.cu."""
    _, values, size = record.shape
    arrays = (record, pulled, b_ih, b_hh, peephole, local, out)
    _launch("forward", kind, arrays, n, size, (first, n, size, values, keep))


def _cell_backward(kind, g, dh, dlocal, record, peephole, grads, first, n):
    """The gradients of the step whose n rows begin at `first`: see recurrent.cu."""
    size = g.shape[1]
    _launch("backward", kind, (g, dh, dlocal, record, peephole, grads), n, size, (first, n, size))


def _cell_floor(kind, record, pulled, b_ih, b_hh, peephole, local, out, first, n, keep):
    cell, units = CELLS[kind], n * out.shape[1]
    read, written = cell.gates * (2 if _apart(cell) else 1), (cell.record if keep else 0) + 1
    return units * ((read + written) * out.itemsize + _carried(kind, out)), 30 * units


def _cell_backward_floor(kind, g, dh, dlocal, record, peephole, grads, first, n):
    cell, units = CELLS[kind], n * g.shape[1]
    return units * ((2 + cell.record + _stored(cell)) * g.itemsize + _carried(kind, g)), 40 * units


def _carried(kind, x):
    """Bytes read and written of what a unit remembers."""
    return 2 * _wide(x.dtype).itemsize if _carries(kind) else 0


for _kind in CELLS:
    for _op, _function, _floor in (
        ("cell", _cell, _cell_floor),
        ("cell_backward", _cell_backward, _cell_backward_floor),
    ):
        implementation(f"{_kind}_{_op}", "cuda", floor=partial(_floor, _kind))(partial(_function, _kind))


@implementation("lstm_cell", "numba", dtypes="f4 f8", floor=partial(_cell_floor, "lstm"))
def _lstm_by_numba(record, pulled, b_ih, b_hh, peephole, local, out, first, n, keep):
    _, values, size = record.shape
    biases = [cupy.zeros(4 * size, out.dtype) if b is None else b for b in (b_ih, b_hh)]
    _launch_numba("lstm_cell", (record, *biases, local, out), n, size, (first, n, size, values, keep))


@implementation("lstm_cell_backward", "numba", dtypes="f4 f8", floor=partial(_cell_backward_floor, "lstm"))
def _lstm_backward_by_numba(g, dh, dlocal, record, peephole, grads, first, n):
    size = g.shape[1]
    _launch_numba("lstm_cell_backward", (g, dh, dlocal, record, grads), n, size, (first, n, size))


def _launch_numba(name, arrays, n, size, numbers):
    grid = -(-size // _BLOCK), min(n, _MOST_BLOCKS)
    numba_runtime.launch("numba_cells", name, arrays[0].dtype, grid, _BLOCK, (*arrays, *map(int, numbers)))


def _launch(name, kind, arrays, n, size, numbers):
    dtype = arrays[0].dtype
    units = 16 // _wide(dtype).itemsize
    if size % units or any(a is not None and a.data.ptr % 16 for a in arrays):
        units = 1
    grid = runtime.blocks(n * size // units, _BLOCK)
    runtime.launch("recurrent", name, dtype, grid, _BLOCK, (*arrays, *numbers), **defines(kind, units))


@cache
def defines(kind, units):
    """The macros that make recurrent.cu the kernels of a kind of cell."""
    cell = CELLS[kind]
    return {
        "GATES": cell.gates,
        "PEEPHOLES": cell.peepholes,
        "RECORD": cell.record,
        "GRADIENTS": _stored(cell),
        "PULLED": int(_apart(cell)),
        "CARRIES": int(_carries(kind)),
        "UNITS": units,
        "FORWARD": _forward(cell),
        "BACKWARD": _backward(cell),
    }


def _forward(cell):
    m = Formula()
    x, r, p = (_inputs(m, name, n) for name, n in (("x", cell.gates), ("r", cell.gates), ("p", cell.peepholes)))
    record, after, h = cell.forward(m, x, r if _apart(cell) else [0] * cell.gates, m.input("c"), [0] * cell.biases, p)
    return _block(m, {**_named("saved", record), "after": after, "h": h})


def _backward(cell):
    m = Formula()
    record, p = _inputs(m, "saved", cell.record), _inputs(m, "p", cell.peepholes)
    slopes, before, terms = cell.backward(m, m.input("d"), m.input("dc"), record, p)
    to_input = dict(zip(cell.order, slopes))
    to_state = slopes[-cell.gates :] if _apart(cell) else ()
    stored = [*(to_input[gate] for gate in range(cell.gates)), *to_state, *terms]
    return _block(m, {**_named("slope", stored), "before": before})


def _inputs(m, name, n):
    return [m.input(f"{name}[{i}]") for i in range(n)]


def _named(name, values):
    return {f"{name}[{i}]": value for i, value in enumerate(values)}


def _block(m, results):
    """The statements as the body of a macro."""
    return " ".join(["{", *m.written(results, CUDA), "}"])


def _apart(cell):
    """Whether the gates need the state's part by itself."""
    return cell.gradients > cell.gates


@cache
def _carries(kind):
    """Whether a unit remembers something besides h."""
    m = Formula()
    cell = CELLS[kind]
    local = m.input("c")
    return cell.forward(m, *(_inputs(m, name, 4) for name in "xr"), local, [0] * 4, _inputs(m, "p", 3))[1] is not local


def _stored(cell):
    """Gradients that a unit stores: of the gates' input parts, of their state parts, the terms of the peepholes'."""
    return cell.gates * (2 if _apart(cell) else 1) + cell.peepholes


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _wide(dtype):
    """The dtype of what is carried from step to step."""
    return np.dtype(np.float32) if dtype.itemsize == 2 else dtype


def _dense(x):
    return None if x is None else cupy.ascontiguousarray(x)


def _steps(batch_sizes, reverse):
    """(first row, rows) of each step in the order of computation."""
    steps = list(zip(accumulate(batch_sizes, initial=0), batch_sizes))
    return steps[::-1] if reverse else steps


@lru_cache(16)
def _moves(batch_sizes, reverse):
    """The states before each row, as [whether from the first states, first row there, first row here, rows]."""
    starts, moves = [*accumulate(batch_sizes, initial=0)], []
    for t, n in enumerate(batch_sizes):
        before = t + 1 if reverse else t - 1
        known = min(n, batch_sizes[before]) if 0 <= before < len(batch_sizes) else 0
        _extend(moves, False, starts[before], starts[t], known)
        _extend(moves, True, known, starts[t] + known, n - known)
    return moves


def _extend(moves, first, there, here, rows):
    """Add a move, to the last one where it goes on from there."""
    if moves and rows:
        *last, count = moves[-1]
        if last == [first, there - count, here - count]:
            moves[-1][3] += rows
            return
    if rows:
        moves.append([first, there, here, rows])


def _with_new_sequences(states, h0, n):
    """The first n states; sequences beyond those that have begun have their first ones."""
    if n <= len(states):
        return states[:n]
    joined = cupy.empty((n, h0.shape[1]), h0.dtype)
    joined[: len(states)], joined[len(states) :] = states, h0[len(states) : n]
    return joined


def _last_states(out, batch_sizes, reverse):
    """The state of each sequence after its last step, (B, H)."""
    last, known = cupy.empty((batch_sizes[0], out.shape[1]), out.dtype), 0
    for start, n in _steps(batch_sizes, not reverse):
        if n > known:
            last[known:n], known = out[start + known : start + n], n
    return last


def _states_before(out, h0, batch_sizes, reverse):
    """The state that each row of `out` was computed from, (N, H)."""
    states = cupy.empty_like(out)
    for first, there, here, rows in _moves(batch_sizes, reverse):
        states[here : here + rows] = (h0 if first else out)[there : there + rows]
    return states
