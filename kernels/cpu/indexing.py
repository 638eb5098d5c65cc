"""Sums into chosen places, the adjoints of selecting them; equal indices add up in their order."""

from math import prod

import numpy as np

from . import workers
from .layout import compact, half_by_single

_GRAIN = 10_000  # elements that outlast handing a slice to a worker


@half_by_single
def index_add(shape, axis, index, src):
    """zeros(shape) with slice i of src added at index[i] along axis: index (n,), src shaped as shape but n at axis."""
    _check(index, shape, axis)
    axis = axis % len(shape)
    src, index = compact(src), compact(index, np.int64)
    before, size, after = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    out = np.empty(shape, src.dtype)
    rows, into = src.reshape(before, len(index), after), out.reshape(before, size, after)

    _add_rows(size, rows, index, into, grain=-(-_GRAIN * size // max(1, src.size + out.size)))
    return out


@half_by_single
def scatter_add(shape, axis, index, src):
    """zeros(shape) with out[…, index[…, i, …], …] += src[…, i, …]; index and src of one rank, index not the larger."""
    _check(index, shape, axis)
    axis = axis % len(shape)
    src = src[tuple(map(slice, index.shape))]
    out = np.empty(shape, src.dtype)
    places = np.array(0)
    for at, size in enumerate(shape):
        along = np.arange(index.shape[at]).reshape(-1, *(1,) * (len(shape) - at - 1))
        places = places * size + (index if at == axis else along)
    places = compact(np.broadcast_to(places, index.shape), np.int64).reshape(-1)
    _add_rows(out.size, compact(src).reshape(1, -1, 1), places, out.reshape(1, -1, 1), grain=out.size)
    return out


def add_at(out, index, src):
    """out[index] += src for any index; what is added to one place adds up."""
    np.add.at(out, index, src)


def _check(index, shape, axis):
    size = shape[axis]
    if index.size and (index.min() < 0 or index.max() >= size):
        wrong = index[(index < 0) | (index >= size)].flat[0]
        raise IndexError(f"index {wrong} is outside axis {axis} of shape {tuple(shape)}: it must lie in 0..{size - 1}")


def _add_rows_numpy(src, index, out, first, last):
    out[:, first:last], here = 0, (first <= index) & (index < last)
    np.add.at(out.swapaxes(0, 1), index[here], src[:, here].swapaxes(0, 1))


@workers.shared(_add_rows_numpy)
def _add_rows(src, index, out, first, last):
    """Each thread has some places, and writes each of them once: it looks through the index and links equal ones.

    From the last to the first, so that a place's list begins with the first of them.
    """
    heads, links = np.full(last - first, -1), np.empty_like(index)
    for i in range(len(index) - 1, -1, -1):
        place = index[i] - first
        if 0 <= place < len(heads):
            links[i], heads[place] = heads[place], i
    for a in range(len(src)):
        for place in range(len(heads)):
            into, i = out[a, first + place], heads[place]
            if i < 0:
                for j in range(len(into)):
                    into[j] = 0
                continue
            row = src[a, i]
            for j in range(len(row)):
                into[j] = row[j]
            while links[i] >= 0:
                i = links[i]
                row = src[a, i]
                for j in range(len(row)):
                    into[j] += row[j]
