"""What loops over time share: threads that meet after each step, copied rows, a loop for every kind of cell."""

from functools import lru_cache, partial

import numpy as np

from ..cell import CELLS
from . import vector, workers
from .jit import Loop, compiles, inline, variant
from .layout import compact
from .scratch import LINE, scratch
from .vector import address, give_way, observe, publish

_PATIENCE = 2000  # looks before a waiting thread offers its core to others
_APART = 8  # numbers between two threads' counters: a cache line


@lru_cache(64)
def rows_of(batch_sizes):
    """Where each step's rows start, and end; the first and the last row of each sequence."""
    starts, sequences = np.cumsum([0, *batch_sizes]), np.arange(batch_sizes[0])
    lengths = np.searchsorted(-np.asarray(batch_sizes), -sequences, side="left")
    return starts, sequences, starts[lengths - 1] + sequences


def peephole_rows(peephole, size, dtype):
    """The peepholes, no rows if there are none."""
    return np.zeros((0, size), dtype) if peephole is None else compact(peephole)


def biases(cell, b_ih, b_hh, size, dtype):
    """What the cell adds, a row each; the GRU's reset gate scales the state's part of the third with its bias."""
    if b_ih is None or b_hh is None:
        b_ih, b_hh = (np.zeros(cell.gates * size, dtype) if b is None else b for b in (b_ih, b_hh))
    if cell.biases == cell.gates:
        return (b_ih + b_hh).reshape(cell.gates, size)
    ours, theirs = b_ih.reshape(cell.gates, size), b_hh.reshape(cell.gates, size)
    return np.concatenate([(ours + theirs)[:2], ours[2:], theirs[2:]])


def together(loop, dtype, wanted, room, arguments):
    """Run the loop on at most `wanted` threads, with `room` numbers for what they pack."""
    flags = np.zeros((max(wanted, 1) + 1) * _APART, np.int64)  # whether one was interrupted, and the steps of each
    sizes = (vector.lanes(dtype), vector.columns(dtype)) if compiles() else (1, 1)
    packed, one = scratch("weights of steps", (room,), dtype), dtype.type(1)
    if wanted <= 1:
        loop(one, 0, 1, *arguments, packed, flags, *sizes)
    else:
        workers.together(lambda part, parts: loop(one, part, parts, *arguments, packed, flags, *sizes), wanted, flags)


def for_cells(function, twin, names):
    """The loop for every kind of cell: `function` with the cell's names(cell) in the place of globals."""
    made = {kind: variant(function, f"{function.__name__}_{kind}", **names(cell)) for kind, cell in CELLS.items()}
    return {kind: Loop(own, twin and partial(twin, CELLS[kind]), {"contract"}) for kind, own in made.items()}


@inline
def at_line(n, like):
    """n zeros of the array's type from where a line of the cache begins: what lies in two lines is loaded twice."""
    room = np.zeros(n + LINE // like.itemsize, like.dtype)
    start = -address(room) % LINE // like.itemsize
    return room[start : start + n]


@inline
def meet(flags, part, parts, step):
    """Wait until every thread has done `step` steps: whether all are still there."""
    publish(flags + LINE * (part + 1), step)
    for other in range(parts):
        looks = 0
        while observe(flags + LINE * (other + 1)) < step:
            looks += 1
            if looks > _PATIENCE:
                if observe(flags):
                    return False
                give_way()
    return True


_copied = vector.rows(lambda m, given, numbers: given, (1,), (1,), ())


@inline
def copy_row(one, n, source, target):
    """n numbers from one address to another, which Numba would gather one by one: an index might be negative."""
    _copied(one, n, (source, target), (0, 0))


@inline
def at_element(array, i, j):
    """Where array[i, j] is, of contiguous rows."""
    return address(array) + (i * array.shape[1] + j) * array.itemsize
