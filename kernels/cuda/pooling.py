"""Pooling over windows of a plane: maximum with the place it was found, and average; both adjoints gather."""

from bisect import bisect_left, bisect_right
from functools import lru_cache, partial
from math import prod

import cupy
import numpy as np

from ..geometry import adaptive_windows, pool_windows
from ..registry import chosen, implementation
from . import numba_runtime, runtime
from .indexing import scatter_add

# What each kernel cannot do without, (bytes, FLOPs): its arrays moved once.


def _gather_floor(x, indices):
    return indices.size * (2 * x.itemsize + 8), 0


def _scatter_floor(g, indices, *, plane, windows=None):
    return g.size * (g.itemsize + 8) + len(g) * g.shape[1] * prod(plane) * g.itemsize, 0


def _max_floor(x, windows):
    return x.nbytes + _count(x, windows) * (x.itemsize + 8), 0


def _mean_floor(x, windows, *_):
    return x.nbytes + _count(x, windows) * x.itemsize, x.size


def _spread_floor(g, windows, input_size, *_):
    return g.nbytes + len(g) * g.shape[1] * prod(input_size) * g.itemsize, g.size


def _count(x, windows):
    return len(x) * x.shape[1] * len(windows[0].starts) * len(windows[1].starts)


# ---- what the engine calls -------------------------------------------------------------------------------------------


def max_pool2d(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    """Largest element of each window and its flat index in the plane: x (N, C, H, W) -> (out, indices).

    Padding counts as -inf, the first of equals wins, NaN wins over numbers. Floor: e (|x| + |out|) + 8 |out| bytes.
    """
    return _max(
        x,
        pool_windows(
            x.shape[2:], kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
        ),
    )


def adaptive_max_pool2d(x, *, output_size):
    """`max_pool2d` over the windows that divide the plane into output_size: (out, indices)."""
    return _max(x, adaptive_windows(x.shape[2:], output_size=output_size))


def avg_pool2d(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """Mean of each window: x (N, C, H, W) -> (N, C, oh, ow); divisors as on the CPU. Floor: e (|x| + |out|) bytes."""
    windows = pool_windows(x.shape[2:], kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
    return _mean(x, windows, count_include_pad, divisor_override)


def avg_pool2d_backward(g, *, input_size, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """The adjoint of `avg_pool2d`: g (N, C, oh, ow) -> (N, C, H, W) with (H, W) = input_size."""
    windows = pool_windows(input_size, kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
    return _mean_backward(g, windows, input_size, count_include_pad, divisor_override)


def adaptive_avg_pool2d(x, *, output_size):
    """Mean of each of the windows that divide the plane into output_size."""
    return _mean(x, adaptive_windows(x.shape[2:], output_size=output_size), False, None)


def adaptive_avg_pool2d_backward(g, *, input_size):
    """The adjoint of `adaptive_avg_pool2d`: g (N, C, oh, ow) -> (N, C, H, W) with (H, W) = input_size."""
    return _mean_backward(g, adaptive_windows(input_size, output_size=g.shape[2:]), input_size, False, None)


@implementation("scatter_planes", "cuda", layout="NCHW", floor=_scatter_floor)
def scatter_planes(g, indices, *, plane, windows=None):
    """g (N, C, oh, ow) summed into zeros (N, C, *plane) at the flat indices of each plane.

    windows: those that chose the indices; then an element looks at its own windows alone, else at all.
    Floor: e (|g| + |out|) + 8 |g| bytes.
    """
    shape = (*g.shape[:2], *plane)
    if windows is None:
        flat = (*g.shape[:2], g.shape[2] * g.shape[3])
        return scatter_add((*shape[:2], plane[0] * plane[1]), 2, indices.reshape(flat), g.reshape(flat)).reshape(shape)
    g, indices = cupy.ascontiguousarray(g), cupy.ascontiguousarray(indices, np.int64)
    out = cupy.empty(shape, g.dtype)
    reach = [_reach(axis, size) for axis, size in zip(windows, plane, strict=True)]
    _launch("scatter_windows", out, (g, indices, out, *reach), *_sizes(out, g.shape[2:]))
    return out


@implementation("gather_planes", "cuda", layout="NCHW", floor=_gather_floor)
def gather_planes(x, indices):
    """The elements of x (N, C, H, W) at the flat indices (N, C, oh, ow) of each plane."""
    x, indices = cupy.ascontiguousarray(x), cupy.ascontiguousarray(indices, np.int64)
    out = cupy.empty(indices.shape, x.dtype)
    sizes = out.size, out.shape[2] * out.shape[3], x.shape[2] * x.shape[3]
    runtime.launch("pooling", "gather_planes", x.dtype, runtime.blocks(out.size), 256, (x, indices, out, *sizes))
    return out


def _max(x, windows):
    return chosen("max_of_windows", x.dtype)(cupy.ascontiguousarray(x), windows)


def _max_of_windows(launch, x, windows):
    """`max_pool2d` over any windows, (rows, columns)."""
    size = tuple(len(axis.starts) for axis in windows)
    out, places = cupy.empty((*x.shape[:2], *size), x.dtype), cupy.empty((*x.shape[:2], *size), np.int64)
    arrays = x, out, places, *map(_bounds, windows)
    launch("max_of_windows", out, arrays, *_sizes(x, size), *(np.int32(axis.step) for axis in windows))
    return out, places


@implementation("mean_of_windows", "cuda", layout="NCHW", floor=_mean_floor)
def _mean(x, windows, count_include_pad, divisor):
    x = cupy.ascontiguousarray(x)
    size = tuple(len(axis.starts) for axis in windows)
    out = cupy.empty((*x.shape[:2], *size), x.dtype)
    arrays = [_bounds(axis) for axis in windows] + [_counts(axis, count_include_pad) for axis in windows]
    _launch("mean_of_windows", out, (x, out, *arrays), *_sizes(x, size), float(divisor or 0))
    return out


@implementation("mean_of_windows_backward", "cuda", layout="NCHW", floor=_spread_floor)
def _mean_backward(g, windows, input_size, count_include_pad, divisor):
    g = cupy.ascontiguousarray(g)
    out = cupy.empty((*g.shape[:2], *input_size), g.dtype)
    arrays = [_reach(axis, size) for axis, size in zip(windows, input_size, strict=True)]
    arrays += [_counts(axis, count_include_pad) for axis in windows]
    _launch("mean_of_windows_backward", out, (g, out, *arrays), *_sizes(out, g.shape[2:]), float(divisor or 0))
    return out


def _sizes(x, windows):
    """planes, H, W, oh, ow for a kernel."""
    return x.shape[0] * x.shape[1], *map(np.int32, (*x.shape[2:], *windows))


def _launch(name, out, arrays, *numbers):
    grid, block = lines(out)
    runtime.launch("pooling", name, out.dtype, grid, block, (*arrays, *numbers))


def _launch_numba(name, out, arrays, *numbers):
    grid, block = lines(out)
    numba_runtime.launch("numba_kernels", name, out.dtype, grid, block, (*arrays, *numbers))


def lines(out):
    """(grid, block): 256 threads, as many across as a line is long, up to a power of two, the others down the lines."""
    planes, channels, height, width = out.shape
    across = min(256, 1 << max(0, width - 1).bit_length())
    return runtime.blocks(planes * channels * height * (width > 0), 256 // across), (across, 256 // across)


for _name, _launcher, _dtypes in ("cuda", _launch, "f2 bf16 f4 f8"), ("numba", _launch_numba, "f4 f8"):
    implementation("max_of_windows", _name, dtypes=_dtypes, layout="NCHW", floor=_max_floor)(
        partial(_max_of_windows, _launcher)
    )


# What the kernels know of an axis is copied to the GPU once and remembered: windows are few and the same in every step.


@lru_cache(256)
def _bounds(axis):
    return cupy.asarray(np.array((axis.starts, axis.stops), np.int32))


@lru_cache(256)
def _counts(axis, with_padding):
    counts = axis.covered if with_padding else np.subtract(axis.stops, axis.starts)
    return cupy.asarray(np.array(counts, np.int32))


@lru_cache(256)
def _reach(axis, size):
    """Of each place on the axis, the first window that stops behind it and the first that starts behind it."""
    first = [bisect_right(axis.stops, i) for i in range(size)]
    end = [bisect_left(axis.starts, i + 1) for i in range(size)]
    return cupy.asarray(np.array((first, end), np.int32))
