"""Recurrent cells over few sequences, or over one step of many: a row holds the units of a sequence, side by side.

The cell's formula takes vectors of units. Of the products, each step computes only the one that waits for the step
before, of the states forward and of the gates' gradients backward: its weights are read once for all sequences, from
panels of columns in the order in which the tiles read them. The others are products of whole matrices before and after
the loop.
"""

from functools import partial

import numpy as np

from ..cell import CELLS
from . import panels, vector
from .jit import inline
from .layout import compact
from .matmul import matmul
from .reduction import sum as sum_over
from .steps import at_element, at_line, biases, copy_row, for_cells, meet, peephole_rows, rows_of, together
from .vector import Emitted, address, turn

_MOST = 4  # sequences: the rows of the highest tile
_WORTH_SHARING = 1 << 17  # weights to read, and multiplications, of a thread's step that outlast the meeting after it
_WORTH_WAKING = 1 << 21  # the same of a thread's whole call that outlast waking it
_GATES_WORTH_SHARING = 1 << 16  # of a thread, in a single step


def serves(batch_sizes):
    """Whether the sequences are few, or have one step."""
    return batch_sizes[0] <= _MOST or len(batch_sizes) == 1


def forward(h0, x, local0, w_ih, w_hh, b_ih, b_hh, peephole, *, kind, batch_sizes, reverse, keep):
    """`recurrent_sequence` for C-contiguous weights."""
    cell, dtype, (batch, size), (starts, _, last) = CELLS[kind], x.dtype, h0.shape, rows_of(batch_sizes)
    inputs = matmul(x, w_ih.T)
    states = matmul(h0, w_hh.T) if len(batch_sizes) == 1 else np.empty((0, 0), dtype)
    record, out = np.empty(len(x) * size * cell.record if keep else 0, dtype), np.empty((len(x), size), dtype)
    hidden, local = np.empty((2, batch, size), dtype), np.array(local0, order="C")
    hidden[...] = h0
    numbers = biases(cell, b_ih, b_hh, size, dtype), peephole_rows(peephole, size, dtype)
    arguments = bool(reverse), starts, w_hh, inputs, states, int(keep), record, out, hidden, local, *numbers
    _run(_FORWARD[kind], w_hh, starts, batch, arguments)
    at_end = reverse or batch_sizes[-1] == batch  # all sequences end with the step that is computed last
    return out, hidden[len(batch_sizes) % 2] if at_end else out[last], local, record


def backward(g, gh, glocal, out, record, h0, x, w_ih, w_hh, peephole, *, kind, batch_sizes, reverse):
    """`recurrent_sequence_backward` for C-contiguous weights."""
    cell, dtype, (count, size), (starts, first, last) = CELLS[kind], x.dtype, out.shape, rows_of(batch_sizes)
    if gh.any():
        g = np.array(g, order="C")
        g[first if reverse else last] += gh
    local = np.zeros(h0.shape, dtype) if glocal is None else np.array(glocal, order="C")
    to_state = np.empty((count, cell.gates * size), dtype)
    to_input = to_state if cell.order == tuple(range(cell.gates)) else np.empty_like(to_state)
    seen, before, dh0 = np.empty((count, cell.peepholes * size), dtype), np.empty_like(to_state[:, :size]), h0.copy()
    arguments = (
        bool(reverse), starts, w_hh, compact(g), record, compact(out), compact(h0), dh0, to_input, to_state, seen,
        before, local, peephole_rows(peephole, size, dtype),
    )  # fmt: skip
    _run(_BACKWARD[kind], w_hh, starts, len(h0), arguments)
    bias = sum_over(to_state, 0)
    return (
        matmul(to_state, w_hh) if len(batch_sizes) == 1 else dh0,
        matmul(to_input, w_ih),
        local,
        matmul(to_input.T, x),
        matmul(to_state.T, before),
        bias.copy() if to_input is to_state else sum_over(to_input, 0),
        bias,
        None if peephole is None else sum_over(seen, 0).reshape(peephole.shape),
    )


def _run(loop, w_hh, starts, batch, arguments):
    """On as many threads as what a step reads, and all steps, keep busy."""
    (height, size), dtype, lanes, steps = w_hh.shape, w_hh.dtype, vector.lanes(w_hh.dtype), len(starts) - 1
    blocks = -(-size // lanes)
    if steps == 1:
        wanted, room = min(batch * height // _GATES_WORTH_SHARING, blocks), 0
    else:
        a_step = w_hh.size * (1 + batch)
        wanted = min(a_step // _WORTH_SHARING, a_step * steps // _WORTH_WAKING, blocks)
        rests = max(wanted, 1) * vector.columns(dtype)  # of panels that no thread fills
        room = height * (blocks * lanes + rests)
    together(loop, dtype, wanted, room, arguments)


# ---- the loops -------------------------------------------------------------------------------------------------------


def _tile(rows, share):
    """The product's tile of so many sequences, its panels of 2 / share times the vectors of `vector.columns`."""
    return Emitted(lambda: panels.tile(rows, 2 * vector.abreast() // share).compiled, panels.vectors)


wide_of_one, wide_of_two, wide_of_most = (_tile(rows, 1) for rows in (1, 2, _MOST))
half_of_one, half_of_two, half_of_most = (_tile(rows, 2) for rows in (1, 2, _MOST))
GATES = RECORD = step = None  # of the cell: each kind's loops have its own in their place


@inline
def across(left, many):
    """Columns of the panel that begins where so many are left."""
    return 2 * many if left > many else many


@inline
def product(one, n, source, apart, beside, packed, k, columns, into, row, places, nothing, many):
    """n rows, `row` apart, of so many columns: of rows of k numbers, `apart` apart, by the panels that lie packed."""
    each, at = nothing.itemsize, 0
    while at < columns:
        left, wide = columns - at, across(columns - at, many)
        w, c, lines = packed + at * k * each, into + at * each, address(places[wide // many - 1])
        it = n, source, apart, beside, w, lines, k, c, row, min(wide, left), address(nothing)
        if wide > many:
            if n == 1:
                wide_of_one(one, it)
            elif n == 2:
                wide_of_two(one, it)
            else:
                wide_of_most(one, it)
        elif n == 1:
            half_of_one(one, it)
        elif n == 2:
            half_of_two(one, it)
        else:
            half_of_most(one, it)
        at += wide


@inline
def starts_of_rows(k, many):
    """Where each row begins in panels of the half and of the whole width."""
    places = np.empty((2, k), np.int64)
    for i in range(k):
        places[0, i], places[1, i] = i * many, 2 * i * many
    return places


@inline
def pack(one, weight, packed, at, first, last, gates, few, many):
    """The rows of each gate's blocks first to last of units as columns of panels, gate by gate."""
    k, blocks = weight.shape[1], last - first
    columns = gates * blocks * few
    for i in range(0, columns, few):
        head = i // (2 * many) * 2 * many
        wide, unit = across(columns - head, many), (first + i // few % blocks) * few
        to, rows = at + head * k + i - head, min(few, k - unit)
        rest = few if i + few < columns else head + wide - i  # to the end of the last panel
        clear(packed, to, rows, rest, wide, k)
        turn(one, weight, i // few // blocks * k + unit, rows, 0, k, packed, to, wide, few)


@inline
def clear(packed, at, first, last, row, k):
    """Zeros where no weights lie, for what memory holds by chance may be numbers too small to be fast."""
    for i in range(k if first < last else 0):
        packed[at + i * row + first : at + i * row + last] = 0


@inline
def pack_turned(one, weight, packed, at, first, last, few, many):
    """The columns of blocks first to last of units, panel by panel."""
    (k, size), each, head, columns = weight.shape, weight.itemsize, 0, (last - first) * few
    while head < columns:
        wide, unit, to = across(columns - head, many), first * few + head, at + head * k
        count = min(min(wide, columns - head), size - unit)
        clear(packed, to, count, wide, wide, k)
        for i in range(k):
            copy_row(one, count, at_element(weight, i, unit), address(packed) + (to + i * wide) * each)
        head += wide


def _forward(one, part, parts, reverse, starts, w_hh, inputs, states, keep, record, out, hidden, local, bias, peephole,
             packed, flags, few, many):  # fmt: skip
    size, each, steps, blocks = out.shape[1], out.itemsize, len(starts) - 1, (out.shape[1] + few - 1) // few
    first, last = blocks * part // parts, blocks * (part + 1) // parts
    unit, count, span = first * few, min(size, last * few) - first * few, (last - first) * few
    alone, columns, beside = steps == 1, GATES * span, out.strides[1] // each
    own, places, nothing = at_line(_MOST * columns, out), starts_of_rows(size, many), at_line(2 * many, out)
    spare, at = at_line(RECORD * span, out), (GATES * first * few + part * many) * size
    if not alone:
        pack(one, w_hh, packed, at, first, last, GATES, few, many)
    for s in range(steps):
        t = steps - 1 - s if reverse else s
        start, n = starts[t], starts[t + 1] - starts[t]
        read, after, here = address(hidden[s % 2]), address(hidden[1 - s % 2]), unit * each
        if n > 0 and not alone:
            w = address(packed) + at * each
            product(one, n, read, size, beside, w, size, columns, address(own), columns, places, nothing, many)
        for b in range(n):
            from_h, apart_h, row = address(own) + b * columns * each, span, b * size * each + here
            if alone:
                from_h, apart_h = at_element(states, b, unit), size
            kept, apart = address(spare), span
            if keep:
                kept, apart = address(record) + ((start + b) * RECORD * size + unit) * each, size
            step(
                one,
                count,
                (at_element(inputs, start + b, unit), from_h, address(local) + row, address(bias) + here,
                 address(peephole) + here, kept, address(local) + row, after + row, at_element(out, start + b, unit)),
                (size, apart_h, 0, size, size, apart, 0, 0, 0),
            )  # fmt: skip
        if parts > 1 and not meet(address(flags), part, parts, s + 1):
            return


def _backward(one, part, parts, reverse, starts, w_hh, g, record, out, initial, dh0, to_input, to_state, seen, before,
              local, peephole, packed, flags, few, many):  # fmt: skip
    (height, size), each, steps, blocks = w_hh.shape, local.itemsize, len(starts) - 1, (out.shape[1] + few - 1) // few
    first, last = blocks * part // parts, blocks * (part + 1) // parts
    unit, count, span = first * few, min(size, last * few) - first * few, (last - first) * few
    alone, beside, here = steps == 1, out.strides[1] // each, unit * each
    back, places, nothing = at_line(len(local) * span, out), starts_of_rows(height, many), at_line(2 * many, out)
    at = (first * few + part * many) * height
    if not alone:
        pack_turned(one, w_hh, packed, at, first, last, few, many)
    n_after, known_after, start_after = 0, 0, 0
    for s in range(steps if alone else steps + 1):
        t = s if reverse else steps - 1 - s
        start, n = (starts[t], starts[t + 1] - starts[t]) if s < steps else (0, 0)
        earlier = t + 1 if reverse else t - 1
        known = min(n, starts[earlier + 1] - starts[earlier]) if 0 <= earlier < steps else 0
        if n_after > 0:
            w, source = address(packed) + at * each, at_element(to_state, start_after, 0)
            product(one, n_after, source, height, beside, w, height, span, address(back), span, places, nothing, many)
        for b in range(known_after, n_after):
            copy_row(one, count, address(back) + b * span * each, at_element(dh0, b, unit))
            back[b * span : (b + 1) * span] = 0
        for b in range(n):
            row = start + b
            source = at_element(out, starts[earlier] + b, unit) if b < known else at_element(initial, b, unit)
            copy_row(one, count, source, at_element(before, row, unit))
            step(
                one,
                count,
                (address(back) + b * span * each, at_element(g, row, unit), at_element(local, b, unit),
                 address(record) + (row * RECORD * size + unit) * each, address(peephole) + here,
                 at_element(to_input, row, unit), at_element(to_state, row, unit), at_element(local, b, unit),
                 at_element(seen, row, unit)),
                (0, 0, 0, size, size, size, size, 0, size),
            )  # fmt: skip
        n_after, known_after, start_after = n, known, start
        if parts > 1 and s < steps and not meet(address(flags), part, parts, s + 1):
            return


def _forward_formula(cell, m, given, _):
    x, r, (local,), *numbers = given
    record, local, h = cell.forward(m, x, r, local, *numbers)
    return record, (local,), (h,), (h,)


def _backward_formula(cell, m, given, _):
    (back,), (g,), (local,), record, peephole = given
    slopes, local, seen = cell.backward(m, back + g, local, record, peephole)
    to_input = [slopes[cell.order.index(gate)] for gate in range(cell.gates)]
    return to_input, slopes[-cell.gates :], (local,), seen


def _forward_names(cell):
    groups = (cell.gates, cell.gates, 1, cell.biases, cell.peepholes), (cell.record, 1, 1, 1), ()
    return dict(GATES=cell.gates, RECORD=cell.record, step=vector.rows(partial(_forward_formula, cell), *groups))


def _backward_names(cell):
    groups = (1, 1, 1, cell.record, cell.peepholes), (cell.gates, cell.gates, 1, cell.peepholes), ()
    return dict(RECORD=cell.record, step=vector.rows(partial(_backward_formula, cell), *groups))


_FORWARD, _BACKWARD = for_cells(_forward, None, _forward_names), for_cells(_backward, None, _backward_names)
