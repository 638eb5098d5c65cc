"""Recurrent cells over whole sequences, forward and backward: one loop over time that threads share by units.

Inside, a step is feature-major: row u holds what unit u does in each sequence, so that the step's products have the
batch as their columns. Each thread computes the gates and the state of its own units, then waits for the others'
states, once a step. The weights are packed once, into the order in which the tiles of the product read them. What
backward needs is recorded step by step in the order in which it is read again.
"""

from functools import partial
from pathlib import Path

import numpy as np

from ..cell import CELLS
from . import few_sequences, vector, workers
from .jit import compiles, inline, jit
from .layout import compact, half_by_single, whole_rows
from .matmul import matmul
from .scratch import LINE
from .special import sigmoid
from .steps import at_element, at_line, biases, copy_row, for_cells, meet, peephole_rows, rows_of, together
from .vector import ROWS, address, column, narrow, turn, wide

_WORTH_SHARING = 1 << 18  # multiplications of a thread's step that outlast the meeting after it
_WORTH_WAKING = 12 << 20  # multiplications of a thread's whole call that outlast waking it, 20 to 60 us
_SINGLE = 4  # columns, and fewer, of which each by itself costs less than a vector of them
_FAR = 4 << 20  # bytes of an input's weights that all steps are better multiplied with at once than each by itself
_TILES = 8  # computed from one part of the operand while it is in the nearest cache
_PAGE = 4096  # bytes; rows that far apart share the same few places of a cache
_DEEP = 256  # columns of gradients that are collected before they meet the states in the weights' gradients
_SQUARE, _GRAIN = 32, 100_000  # side of what is transposed at a time, numbers that outlast handing them to a worker


def _first_cache():
    """Bytes of a core's nearest data cache."""
    try:
        return int(Path("/sys/devices/system/cpu/cpu0/cache/index0/size").read_text().removesuffix("K\n")) << 10
    except (OSError, ValueError):  # not Linux, or not told
        return 32 << 10


_NEAR = _first_cache() * 2 // 3  # bytes of that part


# ---- what the engine calls -------------------------------------------------------------------------------------------


@half_by_single
def recurrent_sequence(h0, x, local0, w_ih, w_hh, b_ih, b_hh, peephole, *, kind, batch_sizes, reverse, keep):
    """(out, last h, last local, record) of a cell of `kernels.cell` over packed rows; the record is for backward.

    x (N, I), h0 and local0 (B, H), w_ih (G H, I), w_hh (G H, H), biases (G H,), peephole (3, H) or None → out (N, H),
    last ones (B, H), and the record's N H numbers for each value that the cell records, none without `keep`.
    """
    w_ih, w_hh, how = compact(w_ih), compact(w_hh), dict(kind=kind, batch_sizes=batch_sizes, reverse=reverse)
    if compiles() and few_sequences.serves(batch_sizes):
        return few_sequences.forward(h0, x, local0, w_ih, w_hh, b_ih, b_hh, peephole, keep=keep, **how)
    cell, dtype, (batch, size), (starts, _, last) = CELLS[kind], x.dtype, h0.shape, rows_of(batch_sizes)
    record, out = np.empty(len(x) * size * cell.record if keep else 0, dtype), _padded(size, len(x), dtype)
    local = _columns(local0)
    hidden = at_line(2 * local.size, local).reshape(2, *local.shape)
    hidden[:, :, :batch] = h0.T
    nothing = np.empty((0, 0), dtype)
    if w_ih.nbytes > _FAR:
        inputs, across, x = matmul(w_ih, x.T), False, nothing
    else:
        inputs, (across, x) = nothing, _either_way(x)
    bias, peephole = biases(cell, b_ih, b_hh, size, dtype), peephole_rows(peephole, size, dtype)
    arguments = starts, w_ih, w_hh, inputs, across, x, int(keep), record, out, hidden, local, bias, peephole
    _run(_FORWARD[kind], reverse, w_ih.size + w_hh.size, arguments)
    at_end = reverse or batch_sizes[-1] == batch  # all sequences end with the step that is computed last
    h = hidden[len(batch_sizes) % 2, :, :batch].T if at_end else out.T[last]
    return out[:, : starts[-1]].T, h, local[:, :batch].T, record


@half_by_single
def recurrent_sequence_backward(g, gh, glocal, out, record, h0, x, w_ih, w_hh, peephole, *, kind, batch_sizes, reverse):
    """Gradients of (h0, x, local0, w_ih, w_hh, b_ih, b_hh, peephole) from those of out, of the last h and local."""
    w_ih, w_hh, how = compact(w_ih), compact(w_hh), dict(kind=kind, batch_sizes=batch_sizes, reverse=reverse)
    if compiles() and few_sequences.serves(batch_sizes):
        return few_sequences.backward(g, gh, glocal, out, record, h0, x, w_ih, w_hh, peephole, **how)
    cell, dtype, (batch, size), width = CELLS[kind], x.dtype, h0.shape, x.shape[1]
    starts, first, last = rows_of(batch_sizes)
    if gh.any():
        g = np.array(g, order="K")
        g[first if reverse else last] += gh
    initial = _columns(h0)
    local = np.zeros_like(initial) if glocal is None else _columns(glocal)
    tall, many = -(-size // ROWS) * ROWS, vector.columns(dtype) if compiles() else 1
    across, x = _either_way(x)
    dx = _padded(width, len(g), dtype) if across else np.empty((len(g), width), dtype)
    dw_ih, dw_hh = (np.zeros((cell.gates, tall, -(-n // many) * many), dtype) for n in (width, size))
    sums, dpeephole = np.zeros((cell.gradients, tall)), np.zeros((cell.peepholes, size))  # in double: they are long
    dh0 = np.zeros_like(initial)
    operand = at_line(2 * cell.gradients * local.size, local).reshape(2, cell.gradients * size, local.shape[1])
    arguments = (
        starts, w_ih, w_hh, *_either_way(g), across, x, record, _base(out.T), initial, dx, dw_ih, dw_hh, sums, dh0,
        dpeephole, operand, local, peephole_rows(peephole, size, dtype),
    )  # fmt: skip
    _run(_BACKWARD[kind], reverse, w_ih.size + w_hh.size, arguments)
    sums, ordered = sums[:, :size].astype(dtype), np.argsort(cell.order)
    return (
        dh0[:, :batch].T,
        dx[:, : starts[-1]].T if across else dx,
        local[:, :batch].T,
        dw_ih[:, :size, :width].reshape(w_ih.shape),
        dw_hh[:, :size, :size].reshape(w_hh.shape),
        sums[ordered].reshape(-1),
        sums[-cell.gates :].reshape(-1),
        None if peephole is None else dpeephole.astype(dtype),
    )


# ---- arrays ----------------------------------------------------------------------------------------------------------


def _step_record(record, size, values, start, stop):
    """What was recorded of one step: `values` arrays (H, n)."""
    step = record[start * size * values : stop * size * values]
    return step.reshape(size, values, stop - start).swapaxes(0, 1)


def _padded(rows, n, dtype):
    """(rows, at least n), rows not a multiple of a page apart."""
    return np.empty((rows, n + (LINE // dtype.itemsize if n * dtype.itemsize % _PAGE == 0 else 0)), dtype)


def _either_way(x):
    """Whether x is feature-major, and the array with contiguous rows that holds it so or as it is."""
    if x.flags.c_contiguous and x.flags.aligned:
        return False, compact(x)
    return True, _base(x.T)


def _base(rows):
    """The array with contiguous rows that `rows` is the left part of, copied if there is none."""
    wider = whole_rows(rows)
    if wider is not None:
        return wider
    if not rows.T.flags.c_contiguous:
        return compact(rows)
    x, out = compact(rows.T), _padded(*rows.shape, rows.dtype)
    workers.run(lambda a, b: _transpose(x, out, a, b), len(rows), grain=_GRAIN // max(rows.shape[1], 1) + 1)
    return out


def _transpose_numpy(x, out, first, last):
    out[first:last, : len(x)] = x[:, first:last].T


@jit(_transpose_numpy)
def _transpose(x, out, first, last):
    for j0 in range(0, len(x), _SQUARE):
        for i0 in range(first, last, _SQUARE):
            for i in range(i0, min(i0 + _SQUARE, last)):
                for j in range(j0, min(j0 + _SQUARE, len(x))):
                    out[i, j] = x[j, i]


def _columns(state):
    """A (B, H) state feature-major, with columns of zeros up to whole vectors."""
    batch, size = state.shape
    count = vector.lanes(state.dtype) if compiles() else 1
    columns = np.zeros((size, -(-batch // count) * count), state.dtype)
    columns[:, :batch] = state.T
    return columns


def _run(loop, reverse, weights, arguments):
    """On as many threads as the multiplications of a step, and of all, keep busy."""
    (height, width), dtype, size = arguments[1].shape, arguments[1].dtype, arguments[-1].shape[1]
    blocks, wanted, room = -(-size // ROWS), 1, 0
    if compiles():
        a_step, all_steps = weights * arguments[-3].shape[-1], weights * int(arguments[0][-1])
        wanted = min(a_step // _WORTH_SHARING, all_steps // _WORTH_WAKING, size // ROWS)
        room = blocks * ROWS * (height // max(size, 1)) * (blocks + -(-width // ROWS)) * ROWS
    together(loop, dtype, wanted, room, (bool(reverse), *arguments))


# Of the cell: each kind's loops have its own in their place (`_names`). INPUT, STATE: which gradients belong to the
# gates' input parts, and to their state parts.
GATES = RECORD = GRADIENTS = ORDER = INPUT = STATE = NATURAL = step = None

# ---- the loops -------------------------------------------------------------------------------------------------------


class _NumPy:
    """The functions of `kernels.cell` on arrays."""

    sigmoid, tanh = staticmethod(sigmoid), np.tanh
    relu = staticmethod(lambda x: np.maximum(x, 0))
    positive = staticmethod(lambda x: (x > 0).astype(x.dtype))


def _forward_numpy(cell, one, part, parts, reverse, starts, w_ih, w_hh, inputs, across, x, keep, record, out,
                   hidden, local, bias, peephole, packed, flags, few, many):  # fmt: skip
    size, numbers = len(out), (bias[:, :, None], peephole[:, :, None])
    for s, (start, stop) in enumerate(_order(reverse, starts)):
        n = stop - start
        a = inputs[:, start:stop] if len(inputs) else w_ih @ (x[:, start:stop] if across else x[start:stop].T)
        r = w_hh @ hidden[s % 2, :, :n]
        a, r = (p.reshape(cell.gates, size, n) for p in (a, r))
        kept, local[:, :n], h = cell.forward(_NumPy, a, r, local[:, :n].copy(), *numbers)
        if keep:
            _step_record(record, size, cell.record, start, stop)[...] = kept
        hidden[1 - s % 2, :, :n] = out[:, start:stop] = h


def _backward_numpy(cell, one, part, parts, reverse, starts, w_ih, w_hh, across_g, g, across_x, x, record, out, initial,
                    dx, dw_ih, dw_hh, sums, dh0, dpeephole, operand, local, peephole, packed, flags, few,
                    many):  # fmt: skip
    size, width, back, order = len(local), w_ih.shape[1], None, _order(reverse, starts)
    for s in reversed(range(len(order))):
        start, stop = order[s]
        n, here = stop - start, slice(start, stop)
        d = (g[:, here] if across_g else g[here].T).copy()
        if back is not None:
            d[:, : back.shape[1]] += back[:, :n]
        kept = _step_record(record, size, cell.record, start, stop)
        slopes, local[:, :n], seen = cell.backward(_NumPy, d, local[:, :n].copy(), kept, peephole[:, :, None])
        before, h = order[s - 1] if s else (0, 0), initial[:, :n].copy()
        known = min(n, before[1] - before[0])
        h[:, :known] = out[:, before[0] : before[0] + known]
        slopes = np.stack(slopes)
        of_gates = slopes[np.argsort(cell.order)], slopes[-cell.gates :]
        to_input, to_state = (s.reshape(cell.gates * size, n) for s in of_gates)
        dw_ih[:, :size, :width] += (to_input @ (x[:, here].T if across_x else x[here])).reshape(cell.gates, size, width)
        dw_hh[:, :size, :size] += (to_state @ h.T).reshape(cell.gates, size, size)
        (dx[:, here] if across_x else dx[here].T)[...] = w_ih.T @ to_input
        back = w_hh.T @ to_state
        dh0[:, known:n] = back[:, known:]
        back = back[:, :known]
        sums[:, :size] += slopes.sum(2)
        for row, terms in zip(dpeephole, seen):
            row += terms.sum(1)


def _order(reverse, starts):
    steps = list(zip(starts.tolist(), starts[1:].tolist()))
    return steps[::-1] if reverse else steps


@inline
def panel(one, weights, tiles, k, operand, row, out, n, few, many, each, more=0):
    """`tiles` tiles of the product weights × operand over n columns, in parts of k that stay in the nearest cache.

    With more=1 they are added to what `out` holds.
    """
    chunk = max(_NEAR // (many * each), 1)
    b = 0
    while b < n:
        broad, single = many > few and n - b > few, n - b <= _SINGLE
        for k0 in range(0, k, chunk):
            count, add = min(chunk, k - k0), 1 if k0 > 0 else more
            h = operand + (k0 * row + b) * each
            for i in range(tiles):
                w, c = weights + (i * k + k0) * ROWS * each, out + (i * ROWS * row + b) * each
                if single:
                    column(one, w, h, row, c, row, count, add, each)
                elif broad:
                    wide(one, w, h, row, c, row, count, add)
                else:
                    narrow(one, w, h, row, c, row, count, add)
        b += 1 if single else many if broad else few


@inline
def place(one, across, source, r0, rows, c0, columns, target, at, row, few):
    """target[at + c * row + r] = source[r0 + r, c0 + c], or with `across` the element whose places are exchanged."""
    if across:
        for c in range(columns):
            copy_row(one, rows, at_element(source, c0 + c, r0), address(target) + (at + c * row) * target.itemsize)
    else:
        turn(one, source, r0, rows, c0, columns, target, at, row, few)


@inline
def pack(one, weight, packed, at, first, last, gates, size, few):
    """Rows `gate * size + unit` of the weight as tiles in the order (block, gate), for the blocks first to last."""
    k = weight.shape[1]
    for tile in range(first * gates, last * gates):
        unit, to = tile // gates * ROWS, at + tile * k * ROWS
        rows = min(ROWS, size - unit)
        if rows < ROWS:
            packed[to : to + k * ROWS] = 0
        turn(one, weight, tile % gates * size + unit, rows, 0, k, packed, to, ROWS, few)


@inline
def pack_transposed(one, weight, packed, at, first, last, order, size):
    """Columns of the weight as tiles, for blocks first to last; its rows by gates in the order given."""
    (k, columns), each = weight.shape, weight.itemsize
    for block in range(first, last):
        to = at + block * k * ROWS
        if (block + 1) * ROWS > columns:
            packed[to : to + k * ROWS] = 0
        for gate in order:
            for row in range(gate * size, (gate + 1) * size):
                into = address(packed) + to * each
                copy_row(one, min(ROWS, columns - block * ROWS), at_element(weight, row, block * ROWS), into)
                to += ROWS


def _forward(one, part, parts, reverse, starts, w_ih, w_hh, inputs, across, x, keep, record, out, hidden, local,
             bias, peephole, packed, flags, few, many):  # fmt: skip
    size, held, each, width = out.shape[0], local.shape[1], out.itemsize, w_ih.shape[1]
    blocks, steps = (size + ROWS - 1) // ROWS, len(starts) - 1
    first, last, group = blocks * part // parts, blocks * (part + 1) // parts, (_TILES + GATES - 1) // GATES
    operand, own = at_line(width * held, out), at_line(2 * group * GATES * ROWS * held, out).reshape(2, -1, held)
    record = record if keep else np.empty(RECORD * held, out.dtype)  # else each unit's in the place of the last
    other, ahead = blocks * ROWS * GATES * width, len(inputs) > 0
    if not ahead:
        pack(one, w_ih, packed, 0, first, last, GATES, size, few)
    pack(one, w_hh, packed, other, first, last, GATES, size, few)
    for s in range(steps):
        t = steps - 1 - s if reverse else s
        start, n = starts[t], starts[t + 1] - starts[t]
        read = address(hidden) + (s % 2) * size * held * each
        write = address(hidden) + (1 - s % 2) * size * held * each
        if not ahead:
            place(one, across, x, start, n, 0, width, operand, 0, held, few)
        for head in range(first, last, group):
            tiles = min(group, last - head) * GATES
            if not ahead:
                w, h = address(packed) + head * GATES * ROWS * width * each, address(operand)
                panel(one, w, tiles, width, h, held, address(own), n, few, many, each)
            w = address(packed) + (other + head * GATES * ROWS * size) * each
            panel(one, w, tiles, size, read, held, address(own[1]), n, few, many, each)
            end = min(size, head * ROWS + tiles // GATES * ROWS)
            for unit in range(head * ROWS, end):
                here, row = unit * held * each, ((unit // ROWS - head) * GATES * ROWS + unit % ROWS) * held * each
                from_x, apart_x = address(own) + row, ROWS * held
                if ahead:
                    from_x, apart_x = at_element(inputs, unit, start), size * inputs.shape[1]
                from_h, apart_h = address(own[1]) + row, ROWS * held
                step(
                    one,
                    n,
                    (from_x, from_h, address(local) + here,
                     address(record) + (start * size + unit * n) * keep * RECORD * each,
                     address(local) + here, write + here,
                     address(out) + (unit * out.shape[1] + start) * each,
                     address(bias) + unit * each, address(peephole) + unit * each),
                    (apart_x, apart_h, 0, n, 0, 0, 0, size, size),
                )  # fmt: skip
        if parts > 1 and not meet(address(flags), part, parts, s + 1):
            return


@inline
def input_gradients(one, weights, operand, height, begin, end, n, into, across, target, start, few, many):
    """The gradient of a step's input from those of its gates, for the blocks begin to end of input features."""
    held, each, width = into.shape[1], into.itemsize, target.shape[0] if across else target.shape[1]
    for head in range(begin, end, _TILES):
        tiles, lo = min(_TILES, end - head), head * ROWS
        count = min(tiles * ROWS, width - lo)
        w = weights + head * height * ROWS * each
        panel(one, w, tiles, height, operand, held, address(into), n, few, many, each)
        if across:
            for i in range(count):
                copy_row(one, n, at_element(into, i, 0), at_element(target, lo + i, start))
        else:
            turn(one, into, 0, count, 0, n, target.reshape(-1), start * width + lo, width, few)


@inline
def weight_gradients(one, rows, columns, panels, deep, filled, add, blocks, gradients, order, into, few, many):
    """The products of the gates' gradients collected in `rows` with the other sides collected in `columns`."""
    each, tall, row = into.itemsize, into.shape[1], into.shape[2]
    for p in range(panels):
        h = address(columns) + p * deep * many * each
        for block in range(blocks[0], blocks[1]):
            for gate in range(len(order)):
                tile = (block - blocks[0]) * gradients + order[gate]
                w = address(rows) + tile * deep * ROWS * each
                c = address(into) + ((gate * tall + block * ROWS) * row + p * many) * each
                if many > few:
                    wide(one, w, h, many, c, row, filled, add)
                else:
                    narrow(one, w, h, many, c, row, filled, add)


@inline
def sum_gradients(one, rows, ones, deep, filled, blocks, gradients, part, into, few):
    """The sums of the gates' gradients collected in `rows`, of at most _DEEP in their own precision."""
    each = rows.itemsize
    for block in range(blocks[0], blocks[1]):
        for d in range(gradients):
            tile = (block - blocks[0]) * gradients + d
            for k in range(0, filled, _DEEP):
                w = address(rows) + (tile * deep + k) * ROWS * each
                narrow(one, w, address(ones), few, address(part), few, min(_DEEP, filled - k), 0)
                for r in range(ROWS):
                    into[d, block * ROWS + r] += part[r, 0]


@inline
def collect_states(one, states, initial, size, start, known, n, columns, deep, filled, few, many):
    """The states before a step, panel by panel: the first `known` sequences' from `start`, the others' initial ones."""
    for p in range((size + many - 1) // many):
        lo, at = p * many, (p * deep + filled) * many
        count = min(many, size - lo)
        turn(one, states, lo, count, start, known, columns, at, many, few)
        for b in range(known, n):
            for r in range(count):
                columns[at + b * many + r] = initial[lo + r, b]


@inline
def collect_inputs(one, across, x, width, start, n, columns, deep, filled, few, many):
    """A step's input, panel by panel."""
    for p in range((width + many - 1) // many):
        lo, at = p * many, (p * deep + filled) * many
        place(one, not across, x, lo, min(many, width - lo), start, n, columns, at, many, few)


def _backward(one, part, parts, reverse, starts, w_ih, w_hh, across_g, g, across_x, x, record, out, initial, dx, dw_ih,
              dw_hh, sums, dh0, dpeephole, operand, local, peephole, packed, flags, few, many):  # fmt: skip
    size, held, each, width = local.shape[0], local.shape[1], local.itemsize, w_ih.shape[1]
    height, tall, steps = w_hh.shape[0], dw_hh.shape[1], len(starts) - 1
    blocks, entries = tall // ROWS, (width + ROWS - 1) // ROWS
    first, last = blocks * part // parts, blocks * (part + 1) // parts
    begin, end = entries * part // parts, entries * (part + 1) // parts
    deep, of_h, of_x = max(_DEEP, held), dw_hh.shape[2] // many, dw_ih.shape[2] // many
    own, downs = at_line(_TILES * ROWS * held, local).reshape(-1, held), at_line(_TILES * ROWS * held, local)
    slopes, terms = np.zeros((GRADIENTS * ROWS, held), local.dtype), np.zeros((3, held), local.dtype)
    rows, ones = np.zeros((last - first) * GRADIENTS * deep * ROWS, local.dtype), np.ones(_DEEP * few, local.dtype)
    part_sums = np.empty((ROWS, few), local.dtype)
    before_h, before_x = at_line(of_h * deep * many, local), at_line(of_x * deep * many, local)
    other = blocks * ROWS * height
    pack_transposed(one, w_hh, packed, 0, first, last, NATURAL, size)
    pack_transposed(one, w_ih, packed, other, begin, end, ORDER, size)
    filled, flushed, n_after, known_after, start_after = 0, 0, 0, 0, 0
    for s in range(steps + 1):
        t = s if reverse else steps - 1 - s
        start, n = (starts[t], starts[t + 1] - starts[t]) if s < steps else (0, 0)
        before = t + 1 if reverse else t - 1
        known = min(n, starts[before + 1] - starts[before]) if 0 <= before < steps else 0
        read, write = address(operand[(s + 1) % 2]), address(operand[s % 2])
        if s > 0:
            w = address(packed) + other * each
            input_gradients(one, w, read, height, begin, end, n_after, own, across_x, dx, start_after, few, many)
        if filled + n > deep or s == steps:
            mine = first, last
            weight_gradients(one, rows, before_h, of_h, deep, filled, flushed, mine, GRADIENTS, STATE, dw_hh, few, many)
            weight_gradients(one, rows, before_x, of_x, deep, filled, flushed, mine, GRADIENTS, INPUT, dw_ih, few, many)
            sum_gradients(one, rows, ones, deep, filled, mine, GRADIENTS, part_sums, sums, few)
            filled, flushed = 0, 1
        for head in range(first, last, _TILES):
            tiles, lo = min(_TILES, last - head), head * ROWS
            hi = min(size, (head + tiles) * ROWS)
            if s > 0:
                w, through = address(packed) + head * height * ROWS * each, (GRADIENTS - GATES) * size * held * each
                panel(one, w, tiles, height, read + through, held, address(own), max(n, n_after), few, many, each)
                for unit in range(lo, hi):
                    for b in range(known_after, n_after):
                        dh0[unit, b] = own[unit - lo, b]
                        own[unit - lo, b] = 0
            if s == steps:
                continue
            place(one, across_g, g, start, n, lo, hi - lo, downs, 0, held, few)
            for unit in range(lo, hi):
                here, r = unit * held * each, unit % ROWS
                step(
                    one,
                    n,
                    (address(own) + (unit - lo) * held * each, address(downs) + (unit - lo) * held * each,
                     address(local) + here, address(record) + (start * size + unit * n) * RECORD * each,
                     address(slopes) + r * held * each, write + here,
                     address(local) + here, address(terms), address(peephole) + unit * each),
                    (0, 0, 0, n, ROWS * held, size * held, 0, held, size),
                )  # fmt: skip
                for j in range(len(dpeephole)):
                    for b in range(n):
                        dpeephole[j, unit] += terms[j, b]
                if r == ROWS - 1 or unit == size - 1:
                    for d in range(GRADIENTS):
                        tile = (unit // ROWS - first) * GRADIENTS + d
                        turn(one, slopes, d * ROWS, ROWS, 0, n, rows, (tile * deep + filled) * ROWS, ROWS, few)
        if s < steps:
            from_state = starts[before] if known else 0
            collect_states(one, out, initial, size, from_state, known, n, before_h, deep, filled, few, many)
            collect_inputs(one, across_x, x, width, start, n, before_x, deep, filled, few, many)
            filled += n
        n_after, known_after, start_after = n, known, start
        if parts > 1 and not meet(address(flags), part, parts, s + 1):
            return


def _forward_formula(cell, m, given, numbers):
    x, r, (local,) = given
    record, local, h = cell.forward(m, x, r, local, *numbers)
    return record, (local,), (h,), (h,)


def _backward_formula(cell, m, given, numbers):
    (back,), (g,), (local,), record = given
    grads, local, seen = cell.backward(m, back + g, local, record, *numbers)
    return grads, grads, (local,), seen


def _names(formula, groups):
    """What stands in a kind's loops for the names above, of the cell."""

    def of(cell):
        return dict(
            GATES=cell.gates,
            RECORD=cell.record,
            GRADIENTS=cell.gradients,
            ORDER=cell.order,
            NATURAL=tuple(range(cell.gates)),
            INPUT=tuple(cell.order.index(gate) for gate in range(cell.gates)),
            STATE=tuple(range(cell.gradients - cell.gates, cell.gradients)),
            step=vector.rows(partial(formula, cell), *groups(cell)),
        )

    return of


_FORWARD = for_cells(
    _forward,
    _forward_numpy,
    _names(_forward_formula, lambda c: ((c.gates, c.gates, 1), (c.record, 1, 1, 1), (c.biases, c.peepholes))),
)
_BACKWARD = for_cells(
    _backward,
    _backward_numpy,
    _names(
        _backward_formula, lambda c: ((1, 1, 1, c.record), (c.gradients, c.gradients, 1, c.peepholes), (c.peepholes,))
    ),
)
