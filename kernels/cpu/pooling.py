"""Pooling over windows of a plane: maximum with the place it was found, and average; both adjoints."""

import math
from functools import lru_cache

import numpy as np

from ..geometry import adaptive_windows, pool_windows
from . import workers
from .jit import jit
from .layout import compact, floats, half_by_single

_FEW = 64  # elements of a window that may be summed in their own precision
_GRAIN = 100_000  # elements that outlast handing a slice to a worker
_FEW_PLANES = 8  # that outlast a slice of compiled code


@half_by_single
def max_pool2d(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    """Largest element of each window and its flat index in the plane: x (N, C, H, W) -> (out, indices).

    Padding counts as -inf, the first of equals wins, NaN wins over numbers.
    """
    windows = pool_windows(
        x.shape[2:], kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    return _max_windows(x, windows)


@half_by_single
def adaptive_max_pool2d(x, *, output_size):
    """`max_pool2d` over the windows that divide the plane into output_size: (out, indices)."""
    return _max_windows(x, adaptive_windows(x.shape[2:], output_size=output_size))


@half_by_single
def avg_pool2d(x, *, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """Mean of each window: x (N, C, H, W) -> (N, C, oh, ow).

    The divisor counts the window's elements, those of the padding only with `count_include_pad`; `divisor_override`
    replaces it.
    """
    windows = pool_windows(x.shape[2:], kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
    return _window_sums(x, windows, _scale(windows, count_include_pad, divisor_override))


@half_by_single
def avg_pool2d_backward(g, *, input_size, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
    """The adjoint of `avg_pool2d`: g (N, C, oh, ow) -> (N, C, H, W) with (H, W) = input_size."""
    windows = pool_windows(input_size, kernel_size=kernel_size, stride=stride, padding=padding, ceil_mode=ceil_mode)
    return _spread(g, input_size, windows, _scale(windows, count_include_pad, divisor_override))


@half_by_single
def adaptive_avg_pool2d(x, *, output_size):
    """Mean of each of the windows that divide the plane into output_size."""
    windows = adaptive_windows(x.shape[2:], output_size=output_size)
    return _window_sums(x, windows, _scale(windows, False, None))


@half_by_single
def adaptive_avg_pool2d_backward(g, *, input_size):
    """The adjoint of `adaptive_avg_pool2d`: g (N, C, oh, ow) -> (N, C, H, W) with (H, W) = input_size."""
    windows = adaptive_windows(input_size, output_size=g.shape[2:])
    return _spread(g, input_size, windows, _scale(windows, False, None))


@half_by_single
def scatter_planes(g, indices, *, plane, windows=None):
    """g (N, C, oh, ow) summed into zeros (N, C, *plane) at the flat indices of each plane.

    windows: those that chose the indices, if known; a GPU needs them, the CPU does not.
    """
    (g,), indices = floats(g), compact(indices, np.int64)
    out, wrong = np.empty((*g.shape[:2], *plane), g.dtype), np.zeros(1, bool)
    flat, values, places = _planes(out), _planes(g), _planes(indices)
    _scatter(len(flat), values, places, flat, wrong, grain=_FEW_PLANES)
    if wrong[0]:
        _check_places(places, plane)
    return out


@half_by_single
def gather_planes(x, indices):
    """The elements of x (N, C, H, W) at the flat indices (N, C, oh, ow) of each plane."""
    flat = x.reshape(*x.shape[:2], x.shape[2] * x.shape[3])
    places = indices.reshape(*indices.shape[:2], indices.shape[2] * indices.shape[3])
    _check_places(places, x.shape[2:])
    return np.take_along_axis(flat, places, 2).reshape(indices.shape)


def _check_places(places, plane):
    if places.size and (places.min() < 0 or places.max() >= plane[0] * plane[1]):
        raise IndexError(
            f"indices from {places.min()} to {places.max()} leave the plane of size {tuple(plane)}: each must be "
            f"row * {plane[1]} + column of an element"
        )


def _planes(x):
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2] * x.shape[3])


def _by_planes(size, planes, task):
    """Run task over the planes of an array of `size` elements."""
    workers.run(task, planes, grain=-(-_GRAIN * planes // max(size, 1)))


@lru_cache
def _bounds(windows):
    """Both axes' windows as (2, count) arrays of starts and stops, for the loops (remembered, never written)."""
    return [np.array((axis.starts, axis.stops), np.int64).reshape(2, -1) for axis in windows]


def _max_windows(x, windows):
    (x,) = floats(x)
    size = len(windows[0].starts), len(windows[1].starts)
    out, indices = np.empty((*x.shape[:2], *size), x.dtype), np.empty((*x.shape[:2], *size), np.int64)
    planes = x.shape[0] * x.shape[1]
    into, places, x = out.reshape(planes, *size), indices.reshape(planes, *size), x.reshape(planes, *x.shape[2:])
    rows, columns = _bounds(windows)
    steps = windows[0].step, windows[1].step

    def general(a, b):
        _max(b - a, x[a:b], rows, columns, *steps, into[a:b], places[a:b], grain=_FEW_PLANES)

    def task(a, b):
        if np.isnan(x[a:b].max(initial=-np.inf)):
            general(a, b)
        else:
            _max_halves(x[a:b], into[a:b], places[a:b])

    if all(map(_halves, windows)):
        _by_planes(x.size, planes, task)
    else:
        general(0, planes)
    return out, indices


def _halves(axis):
    """Whether the windows are 0..2, 2..4, 4..6, … and none is clipped."""
    halves = range(0, 2 * len(axis.starts), 2)
    alike = len(set(axis.covered)) <= 1  # not where one covers padding beside its two elements
    return alike and axis.step == 1 and axis.starts == tuple(halves) and axis.stops == tuple(i + 2 for i in halves)


def _whole(windows, plane):
    """Whether there is one window, the plane."""
    return all(axis.starts == (0,) and axis.stops == (size,) for axis, size in zip(windows, plane, strict=True))


def _window_sums(x, windows, scale):
    (x,) = floats(x)
    planes, size = x.shape[0] * x.shape[1], scale.shape
    out = np.empty((*x.shape[:2], *size), x.dtype)
    if _whole(windows, x.shape[2:]):
        _sum_planes(planes, _planes(x), scale[0, 0], out.reshape(-1), grain=_FEW_PLANES)
        return out
    into, x = out.reshape(planes, *size), x.reshape(planes, *x.shape[2:])
    _by_planes(x.size, planes, lambda a, b: _sum_windows(x[a:b], windows, scale, into[a:b]))
    return out


def mean_of_tiles(x, kernel_size, out):
    """The means of windows side by side, of planes: x (planes, H, W) -> out (planes, H // kh, W // kw)."""
    windows = _tiles(x.shape[1:], kernel_size)
    _sum_windows(x, windows, _scale(windows, True, None), out)


def _sum_windows(x, windows, scale, out):
    """The windows' sums times `scale`: x (planes, H, W) -> out (planes, oh, ow)."""
    scale = scale.astype(x.dtype)
    if all(map(_halves, windows)):
        _sum_halves(x, scale, out)
        return
    rows, columns = _bounds(windows)
    largest = math.prod(int(np.ptp(bounds, 0).max(initial=0)) for bounds in (rows, columns))
    exact = x.dtype if largest <= _FEW else np.float64
    _sum(x, rows, columns, scale, np.empty(x.shape[2], exact), out)


def _spread(g, input_size, windows, scale):
    (g,) = floats(g)
    out = np.empty((*g.shape[:2], *input_size), g.dtype)
    if _whole(windows, input_size):
        _fill_planes(g.size, g.reshape(-1), scale[0, 0], _planes(out), grain=_FEW_PLANES)
        return out
    into, g = out.reshape(-1, *input_size), g.reshape(-1, *g.shape[2:])
    _by_planes(out.size, len(into), lambda a, b: _share_windows(g[a:b], windows, scale, into[a:b]))
    return out


def _tiles(size, kernel_size):
    return pool_windows(size, kernel_size=kernel_size, stride=kernel_size, padding=((0, 0), (0, 0)), ceil_mode=False)


def _share_windows(g, windows, scale, out):
    """g times `scale` added to zeros over its windows: g (planes, oh, ow) -> out (planes, H, W)."""
    scale = scale.astype(g.dtype)
    if all(map(_halves, windows)) and all(2 * n == size for n, size in zip(g.shape[1:], out.shape[1:], strict=True)):
        _share_halves(g, scale, out)
        return
    out[...] = 0
    _share(g, *_bounds(windows), scale, out)


@lru_cache
def _scale(windows, count_include_pad, divisor_override):
    """1 / divisor of every window (oh, ow) (remembered, never written)."""
    if divisor_override is not None:
        return np.full([len(axis.starts) for axis in windows], 1 / divisor_override)
    counts = [
        np.array(axis.covered if count_include_pad else np.subtract(axis.stops, axis.starts), np.float64)
        for axis in windows
    ]
    return 1 / np.multiply.outer(*counts)


def _max_halves_numpy(x, out, indices):
    bounds = [np.array((range(0, 2 * size, 2), range(2, 2 * size + 2, 2)), np.int64) for size in out.shape[1:]]
    _max_numpy(x, *bounds, 1, 1, out, indices, 0, len(x))


def _max_numpy(x, rows, columns, row_step, column_step, out, indices, first, last):
    x, out, indices, width = x[first:last], out[first:last], indices[first:last], x.shape[2]
    out[...], indices[...] = -np.inf, rows[0][:, None] * width + columns[0]
    for i in range(0, int((rows[1] - rows[0]).max(initial=0)), row_step):
        for j in range(0, int((columns[1] - columns[0]).max(initial=0)), column_step):
            y, z = np.minimum(rows[0] + i, rows[1] - 1), np.minimum(columns[0] + j, columns[1] - 1)
            inside = (rows[0] + i < rows[1])[:, None] & (columns[0] + j < columns[1])
            value = x[:, y[:, None], z]
            better = inside & ((value > out) | np.isnan(value))
            np.copyto(out, value, where=better)
            np.copyto(indices, y[:, None] * width + z, where=better)


def _sum_numpy(x, rows, columns, scale, sums, out):
    by_rows = np.stack([x[:, a:b].sum(1) for a, b in rows.T], 1) if rows.size else x[:, :0]
    for j, (a, b) in enumerate(columns.T):
        out[:, :, j] = by_rows[:, :, a:b].sum(2) * scale[:, j]


def _share_numpy(g, rows, columns, scale, out):
    scaled = g * scale
    for i, (a, b) in enumerate(rows.T):
        for j, (c, d) in enumerate(columns.T):
            out[:, a:b, c:d] += scaled[:, i, j, None, None]


def _scatter_numpy(g, indices, out, wrong, first, last):
    out, indices = out[first:last], indices[first:last]
    out[...] = 0
    if ((indices < 0) | (indices >= out.shape[1])).any():
        wrong[0] = True
    else:
        np.add.at(out, (np.arange(len(out))[:, None], indices), g[first:last])


@jit(_max_halves_numpy)
def _max_halves(x, out, indices):
    planes, height, width = out.shape
    row = x.shape[2]
    source, into, places = x.reshape(-1), out.reshape(-1), indices.reshape(-1)
    below, count, at = np.uint64(row), np.uint64(width), np.uint64(0)  # unsigned and one comparison each: vectorised
    for n in range(planes):
        for i in range(height):
            start, corner = np.uint64((n * x.shape[1] + 2 * i) * row), 2 * i * row
            for j in range(count):
                p = start + j + j
                a, b, c, d = source[p], source[p + np.uint64(1)], source[p + below], source[p + below + np.uint64(1)]
                top, right = (b, np.int64(1)) if b > a else (a, np.int64(0))
                low, low_right = (d, np.int64(row + 1)) if d > c else (c, np.int64(row))
                into[at + j] = low if low > top else top
                places[at + j] = corner + 2 * np.int64(j) + (low_right if low > top else right)
            at += count


@workers.shared(_max_numpy)
def _max(x, rows, columns, row_step, column_step, out, indices, first, last):
    """First along the lines, once for all windows that share them, then across: equal numbers keep their order."""
    height, width = out.shape[1:]
    tall, size = x.shape[1:]
    lines, places = np.empty((tall, width), x.dtype), np.empty((tall, width), np.int64)
    for n in range(first, last):
        for y in range(tall):
            line, into, spots = x[n, y], lines[y], places[y]
            for j in range(width):
                best, at = x.dtype.type(-np.inf), columns[0, j]
                for z in range(columns[0, j], columns[1, j], column_step):
                    value = line[z]
                    better = (value > best) | (value != value)
                    best, at = value if better else best, z if better else at
                into[j], spots[j] = best, y * size + at
        for i in range(height):
            into, spots, start = out[n, i], indices[n, i], rows[0, i] * size
            for j in range(width):
                into[j], spots[j] = -np.inf, start + columns[0, j]
            for y in range(rows[0, i], rows[1, i], row_step):
                line, spot = lines[y], places[y]
                for j in range(width):
                    better = (line[j] > into[j]) | (line[j] != line[j])
                    into[j] = line[j] if better else into[j]
                    spots[j] = spot[j] if better else spots[j]


@jit(_sum_numpy)
def _sum(x, rows, columns, scale, sums, out):
    """`sums` is room for the sum of a window's rows: the long loop, and it vectorises."""
    planes, height, width = out.shape
    zero = sums.dtype.type(0)
    for n in range(planes):
        plane = x[n]
        for i in range(height):
            sums[:] = 0
            for y in range(rows[0, i], rows[1, i]):
                line = plane[y]
                for z in range(len(sums)):
                    sums[z] += line[z]
            into, factor = out[n, i], scale[i]
            for j in range(width):
                total = zero
                for z in range(columns[0, j], columns[1, j]):
                    total += sums[z]
                into[j] = total * factor[j]


@jit(_share_numpy)
def _share(g, rows, columns, scale, out):
    planes, height, width = g.shape
    shares = np.empty(out.shape[2], out.dtype)  # what one row of windows gives to each of its rows
    for n in range(planes):
        plane = out[n]
        for i in range(height):
            shares[:] = 0
            source, factor = g[n, i], scale[i]
            for j in range(width):
                share = source[j] * factor[j]
                for z in range(columns[0, j], columns[1, j]):
                    shares[z] += share
            for y in range(rows[0, i], rows[1, i]):
                line = plane[y]
                for z in range(len(shares)):
                    line[z] += shares[z]


def _sum_halves_numpy(x, scale, out):
    height, width = out.shape[1:]
    x = x[:, : 2 * height, : 2 * width]
    out[...] = (x[:, ::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, ::2] + x[:, 1::2, 1::2]) * scale


@jit(_sum_halves_numpy)
def _sum_halves(x, scale, out):
    """Windows of 2 x 2 side by side: a loop over pairs that vectorises."""
    planes, height, width = out.shape
    row = x.shape[2]
    source, into = x.reshape(-1), out.reshape(-1)
    below, count, at, one = np.uint64(row), np.uint64(width), np.uint64(0), np.uint64(1)
    factor = scale.reshape(-1)[0] if scale.size else scale.dtype.type(0)
    for n in range(planes):
        for i in range(height):
            start = np.uint64((n * x.shape[1] + 2 * i) * row)
            for j in range(count):
                p = start + j + j
                into[at + j] = (source[p] + source[p + one] + source[p + below] + source[p + below + one]) * factor
            at += count


def _sum_planes_numpy(x, scale, out, first, last):
    out[first:last] = x[first:last].sum(1, np.float64) * scale


@workers.shared(_sum_planes_numpy, reassociate=True)
def _sum_planes(x, scale, out, first, last):
    """One window, the plane: x (planes, H W)."""
    for n in range(first, last):
        row, total = x[n], 0.0
        for j in range(len(row)):
            total += np.float64(row[j])
        out[n] = total * scale


def _fill_planes_numpy(g, scale, out, first, last):
    out[first:last] = (g[first:last] * scale)[:, None]


@workers.shared(_fill_planes_numpy)
def _fill_planes(g, scale, out, first, last):
    """Its adjoint."""
    for n in range(first, last):
        row, share = out[n], out.dtype.type(g[n] * scale)
        for j in range(len(row)):
            row[j] = share


def _share_halves_numpy(g, scale, out):
    out[...] = (g * scale).repeat(2, 1).repeat(2, 2)


@jit(_share_halves_numpy)
def _share_halves(g, scale, out):
    """Windows of 2 x 2 that cover the plane: every element is written once."""
    planes, height, width = g.shape
    row = out.shape[2]
    source, into = g.reshape(-1), out.reshape(-1)
    below, count, at, one = np.uint64(row), np.uint64(width), np.uint64(0), np.uint64(1)
    factor = scale.reshape(-1)[0] if scale.size else scale.dtype.type(0)
    for n in range(planes):
        for i in range(height):
            start = np.uint64((n * out.shape[1] + 2 * i) * row)
            for j in range(count):
                p = start + j + j
                share = source[at + j] * factor
                into[p] = share
                into[p + one] = share
                into[p + below] = share
                into[p + below + one] = share
            at += count


@workers.shared(_scatter_numpy)
def _scatter(g, indices, out, wrong, first, last):
    for n in range(first, last):
        values, places, into = g[n], indices[n], out[n]
        for j in range(len(into)):
            into[j] = 0
        for q in range(len(values)):
            place = places[q]
            if 0 <= place < len(into):
                into[place] += values[q]
            else:
                wrong[0] = True
