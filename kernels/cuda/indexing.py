"""Sums into chosen places, the adjoints of selecting them; equal indices add up in their order, without atomics.

Indices outside the axis are left out: the GPU is not waited for to say so (`cr.detect_anomaly` is).
"""

from math import prod

import cupy
import numpy as np

from ..registry import implementation
from . import graph, runtime

_SEARCH = 1 << 31  # comparisons up to which looking through the index costs less than sorting it


def _floor(shape, axis, index, src):
    """The index and what is added are read, the result is written."""
    return index.nbytes + src.nbytes + prod(shape) * src.itemsize, src.size


@implementation("index_add", "cuda", floor=_floor)
def index_add(shape, axis, index, src):
    """zeros(shape) with slice i of src added at index[i] along axis: index (n,), src shaped as shape but n at axis.

    Floor: e (|src| + |out|) bytes. More than 2^31 comparisons are saved by sorting the index, but not while a graph is
    captured, which CuPy's sort may wait in: there each place looks through the whole index, however long.
    """
    axis = axis % len(shape)
    src, index = cupy.ascontiguousarray(src), cupy.ascontiguousarray(index, np.int64)
    out = cupy.empty(shape, src.dtype)
    before, n, size, after = prod(shape[:axis]), index.size, shape[axis], prod(shape[axis + 1 :])
    if size * n <= _SEARCH or graph.capturing():
        grid = runtime.blocks(before * size * -(-after // 128) * 32)
        runtime.launch("indexing", "add_by_search", src.dtype, grid, 256, (src, index, out, before, n, size, after))
        return out
    order = cupy.argsort(index, kind="stable")
    starts = cupy.searchsorted(index[order], cupy.arange(size + 1))
    arguments = (src, order, starts, out, before, n, size, after)
    runtime.launch("indexing", "add_segments", src.dtype, runtime.blocks(out.size), 256, arguments)
    return out


@implementation("scatter_add", "cuda", floor=_floor)
def scatter_add(shape, axis, index, src):
    """zeros(shape) with out[…, index[…, i, …], …] += src[…, i, …]; index and src of one rank, index not the larger."""
    axis = axis % len(shape)
    lines = tuple(size if i == axis else n for i, (size, n) in enumerate(zip(shape, index.shape, strict=True)))
    src = cupy.ascontiguousarray(src[tuple(map(slice, index.shape))])
    index, out = cupy.ascontiguousarray(index, np.int64), cupy.empty(lines, src.dtype)
    sizes = prod(lines[:axis]), index.shape[axis], shape[axis], prod(lines[axis + 1 :])
    runtime.launch("indexing", "add_along", src.dtype, runtime.blocks(out.size), 256, (src, index, out, *sizes))
    if lines == tuple(shape):
        return out
    whole = cupy.zeros(shape, src.dtype)
    whole[tuple(map(slice, lines))] = out
    return whole


@implementation("add_at", "cuda", floor=lambda out, index, src: (3 * src.nbytes, src.size))
def add_at(out, index, src):
    """out[index] += src for any index; what is added to one place adds up."""
    places = cupy.arange(out.size).reshape(out.shape)[index]
    src = cupy.broadcast_to(src, places.shape).reshape(-1)
    out += index_add((out.size,), 0, places.reshape(-1), src).reshape(out.shape)
