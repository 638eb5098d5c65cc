"""Rows chosen by index, and sums into chosen places, the adjoint of that; equal indices add up in their order."""

from math import prod

import numpy as np

from . import workers
from .layout import compact, half_by_single
from .tiles import beyond_caches, clear

_GRAIN = 10_000  # elements that outlast handing a slice to a worker
_MANY = 200_000  # elements that NumPy takes longer to copy than several threads
_LOOPED = (np.dtype(np.float32), np.dtype(np.float64))


def take(x, index, axis=None):
    """`numpy.take`; many rows of a matrix are copied by all threads."""
    many = axis == 0 and x.ndim == 2 and index.ndim == 1 and index.size * x.shape[1] >= _MANY
    if many and x.dtype in _LOOPED and index.dtype.kind in "iu":
        out, wrong = np.empty((len(index), x.shape[1]), x.dtype), np.zeros(1, bool)
        _copy_rows(len(index), compact(x), compact(index, np.int64), out, wrong, grain=-(-_GRAIN // x.shape[1]))
        if not wrong[0]:
            return out
    return np.take(x, index, axis)


@half_by_single
def index_add(shape, axis, index, src):
    """zeros(shape) with slice i of src added at index[i] along axis: index (n,), src shaped as shape but n at axis."""
    _check(index, shape, axis)
    axis = axis % len(shape)
    src, index = compact(src), compact(index, np.int64)
    before, size, after = prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])
    out = np.empty(shape, src.dtype)
    rows, into = src.reshape(before, len(index), after), out.reshape(before, size, after)

    through, grain = beyond_caches(out), -(-_GRAIN * size // max(1, src.size + out.size))
    _add_rows(size, rows, index, into, through, grain=grain)
    return out


@half_by_single
def scatter_add(shape, axis, index, src):
    """zeros(shape) with out[…, index[…, i, …], …] += src[…, i, …]; index and src of one rank, index not the larger."""
    _check(index, shape, axis)
    axis = axis % len(shape)
    src = compact(src[tuple(map(slice, index.shape))])
    out = np.empty(shape, src.dtype)
    places = np.array(0)
    for at, size in enumerate(shape):
        along = np.arange(index.shape[at]).reshape(-1, *(1,) * (len(shape) - at - 1))
        places = places * size + (index if at == axis else along)
    places = compact(np.broadcast_to(places, index.shape), np.int64).reshape(-1)
    into, through = out.reshape(1, -1, 1), beyond_caches(out)
    _add_rows(out.size, src.reshape(1, -1, 1), places, into, through, grain=out.size)
    return out


def add_at(out, index, src):
    """out[index] += src for any index; what is added to one place adds up."""
    np.add.at(out, index, src)


def _check(index, shape, axis):
    size = shape[axis]
    if index.size and (index.min() < 0 or index.max() >= size):
        wrong = index[(index < 0) | (index >= size)].flat[0]
        raise IndexError(f"index {wrong} is outside axis {axis} of shape {tuple(shape)}: it must lie in 0..{size - 1}")


def _copy_rows_numpy(x, index, out, wrong, first, last):
    part = index[first:last]
    if ((part < 0) | (part >= len(x))).any():
        wrong[0] = True
    else:
        np.take(x, part, 0, out=out[first:last], mode="clip")


@workers.shared(_copy_rows_numpy)
def _copy_rows(x, index, out, wrong, first, last):
    for i in range(first, last):
        if not 0 <= index[i] < len(x):
            wrong[0] = True
            return
        row, into = x[index[i]], out[i]
        for j in range(len(row)):
            into[j] = row[j]


def _add_rows_numpy(src, index, out, through, first, last):
    out[:, first:last], here = 0, (first <= index) & (index < last)
    np.add.at(out.swapaxes(0, 1), index[here], src[:, here].swapaxes(0, 1))


@workers.shared(_add_rows_numpy)
def _add_rows(src, index, out, through, first, last):
    """Each thread has some places: it clears them, and finds what is added to them in the index."""
    mine, count = np.empty_like(index), 0
    for i in range(len(index)):
        if first <= index[i] < last:
            mine[count] = i
            count += 1
    for a in range(len(src)):
        clear(out[a, first:last].reshape(-1), through)
        for i in mine[:count]:
            row, into = src[a, i], out[a, index[i]]
            for j in range(len(row)):
                into[j] += row[j]
