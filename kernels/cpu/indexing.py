"""Rows chosen by index, and sums into chosen places, the adjoint of that; equal indices add up in their order."""

from math import prod

import numpy as np

from . import workers
from .layout import compact, half_by_single
from .planes import lines, planes, tile
from .tiles import beyond_caches, clear

_GRAIN = 10_000  # elements that outlast handing a slice to a worker
_FOUND = 2_000  # the same of elements that are looked up one by one
_SOME = 1_000  # elements that NumPy takes longer to find than a loop to be called
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


def take_along_axis(x, index, axis):
    """`numpy.take_along_axis`; threads share the lines."""
    if index.size < _SOME or not (x.size and x.flags.carray) or x.dtype not in _LOOPED or index.dtype.kind not in "iu":
        return np.take_along_axis(x, index, axis)
    axis, wrong = axis % x.ndim, np.zeros(1, bool)
    if x.shape[:axis] + x.shape[axis + 1 :] != index.shape[:axis] + index.shape[axis + 1 :]:
        return np.take_along_axis(x, index, axis)
    index = planes(compact(index, np.int64), axis)
    out, grain = np.empty(index.shape, x.dtype), -(-_FOUND // max(1, index.shape[1]))
    loop, *given = _by_rows(_take_rows, _take_lines, planes(x, axis), index, out)
    loop(lines(index), *given, wrong, grain=grain)
    shape = x.shape[:axis] + index.shape[1:2] + x.shape[axis + 1 :]
    return np.take_along_axis(x, index.reshape(shape), axis) if wrong[0] else out.reshape(shape)


@half_by_single
def scatter_add(shape, axis, index, src):
    """zeros(shape) with out[…, index[…, i, …], …] += src[…, i, …]; index and src of one rank, index not the larger."""
    axis = axis % len(shape)
    reached = index.shape[:axis] + shape[axis : axis + 1] + index.shape[axis + 1 :]
    src, places = planes(src[tuple(map(slice, index.shape))], axis), planes(compact(index, np.int64), axis)
    made, wrong = np.empty(reached, src.dtype), np.zeros(1, bool)
    into, grain = planes(made, axis), -(-_GRAIN * len(src) * src.shape[2] // max(1, src.size + made.size))
    loop, *given = _by_rows(_add_rows_at, _add_lines, into, places, src)
    loop(lines(into), *given, beyond_caches(made), wrong, grain=grain)
    if wrong[0]:
        _check(index, shape, axis)
    if reached == shape:
        return made
    out = np.zeros(shape, made.dtype)
    out[tuple(map(slice, reached))] = made
    return out


def _by_rows(loop, of_lines, *planes):
    """The loop for planes of one line each, and them as rows of a matrix, else the one of lines, and them."""
    return (loop, *[x[:, :, 0] for x in planes]) if planes[0].shape[2] == 1 else (of_lines, *planes)


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


def _take_lines_numpy(x, index, out, wrong, first, last):
    while first < last:
        k, a, b = tile(first, last, index)
        part = index[k, :, a:b]
        if ((part < 0) | (part >= x.shape[1])).any():
            wrong[0] = True
            return
        out[k, :, a:b] = np.take_along_axis(x[k, :, a:b], part, 0)
        first += b - a


@workers.shared(_take_lines_numpy)
def _take_lines(x, index, out, wrong, first, last):
    while first < last:
        k, a, b = tile(first, last, index)
        plane, places, into = x[k], index[k], out[k]
        for i in range(len(places)):
            for j in range(a, b):
                if not 0 <= places[i, j] < len(plane):
                    wrong[0] = True
                    return
                into[i, j] = plane[places[i, j], j]
        first += b - a


def _of_rows(lines):
    """What a loop does along lines, along the rows of matrices."""
    return lambda x, y, z, *rest: lines(x[..., None], y[..., None], z[..., None], *rest)


@workers.shared(_of_rows(_take_lines_numpy))
def _take_rows(x, index, out, wrong, first, last):
    for k in range(first, last):
        row, places, into, outside = x[k], index[k], out[k], False
        for i in range(len(places)):
            place = np.uint64(places[i])  # one comparison, and none for places from the end
            beyond = place >= np.uint64(len(row))
            into[i] = row[np.uint64(0) if beyond else place]
            outside |= beyond
        if outside:
            wrong[0] = True
            return


def _add_lines_numpy(out, index, src, through, wrong, first, last):
    while first < last:
        k, a, b = tile(first, last, out)
        part = index[k, :, a:b]
        if ((part < 0) | (part >= out.shape[1])).any():
            wrong[0] = True
            return
        out[k, :, a:b] = 0
        np.add.at(out[k, :, a:b], (part, np.arange(b - a)), src[k, :, a:b])
        first += b - a


@workers.shared(_add_lines_numpy)
def _add_lines(out, index, src, through, wrong, first, last):
    while first < last:
        k, a, b = tile(first, last, out)
        into, places, numbers = out[k], index[k], src[k]
        for i in range(len(into)):
            into[i, a:b] = 0
        for i in range(len(places)):
            for j in range(a, b):
                if not 0 <= places[i, j] < len(into):
                    wrong[0] = True
                    return
                into[places[i, j], j] += numbers[i, j]
        first += b - a


@workers.shared(_of_rows(_add_lines_numpy))
def _add_rows_at(out, index, src, through, wrong, first, last):
    clear(out[first:last].reshape(-1), through)
    for k in range(first, last):
        row, places, numbers = out[k], index[k], src[k]
        for i in range(len(places)):
            if not 0 <= places[i] < len(row):
                wrong[0] = True
                return
            row[places[i]] += numbers[i]
