"""Sums into chosen places, the adjoints of selecting them; equal indices add up in their order."""

from math import prod

import numpy as np

from .jit import jit
from .layout import compact, half_by_single


@half_by_single
def index_add(shape, axis, index, src):
    """zeros(shape) with slice i of src added at index[i] along axis: index (n,), src shaped as shape but n at axis."""
    _check(index, shape, axis)
    axis = axis % len(shape)
    src, index = compact(src), compact(index, np.int64)
    out = np.zeros(shape, src.dtype)
    before, after = prod(shape[:axis]), prod(shape[axis + 1 :])
    _add_rows(src.reshape(before, len(index), after), index, out.reshape(before, shape[axis], after))
    return out


@half_by_single
def scatter_add(shape, axis, index, src):
    """zeros(shape) with out[…, index[…, i, …], …] += src[…, i, …]; index and src of one rank, index not the larger."""
    _check(index, shape, axis)
    axis = axis % len(shape)
    src = src[tuple(map(slice, index.shape))]
    out = np.zeros(shape, src.dtype)
    places = np.array(0)
    for at, size in enumerate(shape):
        along = np.arange(index.shape[at]).reshape(-1, *(1,) * (len(shape) - at - 1))
        places = places * size + (index if at == axis else along)
    places = compact(np.broadcast_to(places, index.shape), np.int64).reshape(-1)
    _add_rows(compact(src).reshape(1, -1, 1), places, out.reshape(1, -1, 1))
    return out


def add_at(out, index, src):
    """out[index] += src for any index; what is added to one place adds up."""
    np.add.at(out, index, src)


def _check(index, shape, axis):
    size = shape[axis]
    if index.size and (index.min() < 0 or index.max() >= size):
        wrong = index[(index < 0) | (index >= size)].flat[0]
        raise IndexError(f"index {wrong} is outside axis {axis} of shape {tuple(shape)}: it must lie in 0..{size - 1}")


def _add_rows_numpy(src, index, out):
    np.add.at(out.swapaxes(0, 1), index, src.swapaxes(0, 1))


@jit(_add_rows_numpy)
def _add_rows(src, index, out):
    for a in range(len(src)):
        for i in range(len(index)):
            into, row = out[a, index[i]], src[a, i]
            for j in range(len(row)):
                into[j] += row[j]
