"""Pooling over windows of a plane: maximum with the place it was found, and average; both adjoints."""

import math
from functools import lru_cache

import numpy as np

from ..geometry import adaptive_windows, pool_windows
from . import workers
from .halves import lanes, largest, spread
from .jit import inline, variant
from .layout import compact, floats, half_by_single
from .vector import address

_FEW = 64  # elements of a window that may be summed in their own precision
_GRAIN = 10_000  # elements that outlast a slice of compiled code
_ROOM = 4096  # elements of planes, or of lines of one, whose windows are compared at once: they stay in the first cache
_LEAST_LINES = 8  # of windows, though they need more: what lies between two groups is read twice
_LARGEST_PLACE = 1 << 31  # from a window's corner


@half_by_single
def max_pool2d(x, *, kernel_size, stride, padding, dilation, ceil_mode):
    """Largest element of each window and its flat index in the plane: x (N, C, H, W) -> (out, indices).

    Padding counts as -inf, the first of equals wins, NaN wins over numbers.
    """
    windows = pool_windows(
        x.shape[2:], kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation, ceil_mode=ceil_mode
    )
    before = padding[0][0], padding[1][0]
    steps = [s if len(axis.starts) > 1 else 1 for s, axis in zip(stride, windows, strict=True)]
    return _max_windows(x, windows, tuple(zip(kernel_size, steps, before, dilation, strict=True)))


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

    windows: those that chose the indices, if known; a GPU needs them, and the CPU is faster by those of 2 x 2.
    """
    (g,), indices = floats(g), compact(indices, np.int64)
    out, wrong = np.empty((*g.shape[:2], *plane), g.dtype), np.zeros(1, bool)
    if windows and _halved(windows, plane):
        into, size = out.reshape(-1, *plane), g.shape[2:]
        given = into, g.reshape(-1, *size), indices.reshape(-1, *size), lanes(g.dtype)
        _scatter_halves(len(into), *given, grain=_grain(into))
        return out
    flat, values, places = _planes(out), _planes(g), _planes(indices)
    _scatter(len(flat), values, places, flat, wrong, grain=_grain(flat))
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


def _grain(planes):
    """How many of the planes outlast a slice."""
    return -(-_GRAIN // max(1, math.prod(planes.shape[1:])))


@lru_cache
def _bounds(windows):
    """Both axes' windows as (2, count) arrays of starts and stops, for the loops (remembered, never written)."""
    return [np.array((axis.starts, axis.stops), np.int64).reshape(2, -1) for axis in windows]


def _max_windows(x, windows, axes=None):
    """axes: (kernel, stride, padding before, dilation) of each, where all windows are alike."""
    (x,) = floats(x)
    size = len(windows[0].starts), len(windows[1].starts)
    out, indices = np.empty((*x.shape[:2], *size), x.dtype), np.empty((*x.shape[:2], *size), np.int64)
    planes = x.shape[0] * x.shape[1]
    into, places, x = out.reshape(planes, *size), indices.reshape(planes, *size), x.reshape(planes, *x.shape[2:])
    rows, columns = _bounds(windows)
    if all(map(_halves, windows)):
        _max_halves(planes, x, into, places, lanes(x.dtype), grain=_grain(x))
    elif axes and out.size and (x.shape[1] + axes[0][2]) * (x.shape[2] + axes[1][2]) < _LARGEST_PLACE:
        _max_alike(planes, x, rows, columns, *axes, _ROOM, into, places, grain=_grain(x))
    else:
        steps = windows[0].step, windows[1].step
        _max(planes, x, rows, columns, *steps, into, places, grain=_grain(x))
    return out, indices


def _halves(axis):
    """Whether the windows are 0..2, 2..4, 4..6, … and none is clipped."""
    halves = range(0, 2 * len(axis.starts), 2)
    alike = len(set(axis.covered)) == 1  # not where one covers padding beside its two elements
    return alike and axis.step == 1 and axis.starts == tuple(halves) and axis.stops == tuple(i + 2 for i in halves)


def _halved(windows, plane):
    """Whether such windows cover the plane."""
    return all(_halves(axis) and 2 * len(axis.starts) == size for axis, size in zip(windows, plane, strict=True))


def _whole(windows, plane):
    """Whether there is one window, the plane."""
    return all(axis.starts == (0,) and axis.stops == (size,) for axis, size in zip(windows, plane, strict=True))


def _window_sums(x, windows, scale):
    (x,) = floats(x)
    planes, size = x.shape[0] * x.shape[1], scale.shape
    out = np.empty((*x.shape[:2], *size), x.dtype)
    if _whole(windows, x.shape[2:]):
        x = _planes(x)
        _sum_planes(planes, x, scale[0, 0], out.reshape(-1), grain=_grain(x))
        return out
    into, x = out.reshape(planes, *size), x.reshape(planes, *x.shape[2:])
    _sum_windows(x, windows, scale, into)
    return out


def mean_of_tiles(x, kernel_size, out):
    """The means of windows side by side, of planes: x (planes, H, W) -> out (planes, H // kh, W // kw)."""
    windows = _tiles(x.shape[1:], kernel_size)
    _sum_windows(x, windows, _scale(windows, True, None), out)


def _sum_windows(x, windows, scale, out):
    """The windows' sums times `scale`: x (planes, H, W) -> out (planes, oh, ow)."""
    planes, scale = len(x) if out.size else 0, scale.astype(x.dtype)
    if all(map(_halves, windows)):
        _sum_halves(planes, x, scale, out, grain=_grain(x))
        return
    rows, columns = _bounds(windows)
    largest = math.prod(int(np.ptp(bounds, 0).max(initial=0)) for bounds in (rows, columns))
    zero = np.zeros(1, x.dtype if largest <= _FEW else np.float64)
    _sum(planes, x, rows, columns, scale, zero, out, grain=_grain(x))


def _spread(g, input_size, windows, scale):
    """g times `scale` added to zeros over its windows: g (N, C, oh, ow) -> (N, C, *input_size)."""
    (g,) = floats(g)
    out = np.empty((*g.shape[:2], *input_size), g.dtype)
    if _whole(windows, input_size):
        into = _planes(out)
        _fill_planes(g.size, g.reshape(-1), scale[0, 0], into, grain=_grain(into))
        return out
    into, g, scale = out.reshape(-1, *input_size), g.reshape(-1, *g.shape[2:]), scale.astype(g.dtype)
    if _halved(windows, input_size):
        _share_halves(len(into), g, scale, into, grain=_grain(into))
    else:
        _share(len(into), g, *_bounds(windows), scale, into, grain=_grain(into))
    return out


def _tiles(size, kernel_size):
    return pool_windows(size, kernel_size=kernel_size, stride=kernel_size, padding=((0, 0), (0, 0)), ceil_mode=False)


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


def _max_halves_numpy(x, out, indices, many, first, last):
    bounds = [np.array((range(0, 2 * size, 2), range(2, 2 * size + 2, 2)), np.int64) for size in out.shape[1:]]
    _max_numpy(x, *bounds, 1, 1, out, indices, first, last)


def _max_alike_numpy(x, rows, columns, down, across, room, out, indices, first, last):
    _max_numpy(x, rows, columns, down[3], across[3], out, indices, first, last)


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


def _sum_numpy(x, rows, columns, scale, zero, out, first, last):
    x, out = x[first:last], out[first:last]
    by_rows = np.stack([x[:, a:b].sum(1, zero.dtype) for a, b in rows.T], 1)
    for j, (a, b) in enumerate(columns.T):
        out[:, :, j] = by_rows[:, :, a:b].sum(2) * scale[:, j]


def _share_numpy(g, rows, columns, scale, out, first, last):
    scaled, out = g[first:last] * scale, out[first:last]
    out[...] = 0
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


@inline
def _copy(source, into):
    for i in range(len(into)):
        into[i] = source[i]


@inline
def _deal(source, into):
    """into (s, n), source s n: one element to each row of `into` in turn."""
    step, count = np.uint64(len(into)), np.uint64(into.shape[1])
    for p in range(len(into)):
        part, at = into[p], np.uint64(p)
        for i in range(count):
            part[i] = source[at + i * step]


@inline
def _compare(value, place, best, spot):
    for i in range(len(best)):
        better = (value[i] > best[i]) | (value[i] != value[i])
        best[i] = value[i] if better else best[i]
        spot[i] = place if better else spot[i]


@inline
def _compare_lines(value, place, below, best, spot):
    for i in range(len(best)):
        better = (value[i] > best[i]) | (value[i] != value[i])
        best[i] = value[i] if better else best[i]
        spot[i] = place[i] + below if better else spot[i]


@workers.shared(_max_alike_numpy)
def _max_alike(x, rows, columns, down, across, room, out, indices, first, last):
    """Windows all alike, (kernel, stride, padding before, dilation) `down` and `across`, in long loops alone.

    Lines with their padding are dealt out by their place in a stride, columns likewise: then the t-th elements of all
    windows lie in one row, as do their largest, for several planes or as many lines of one as stay in cache. What a row
    holds between two lines stands for no window. Places count from a window's corner.
    """
    (kh, sh, top, dh), (kw, sw, left, dw) = down, across
    (tall, size), (height, width) = x.shape[1:], out.shape[1:]
    pitch, more = width + dw * (kw - 1) // sw, dh * (kh - 1) // sh
    wide, lowest = sw * pitch, x.dtype.type(-np.inf)
    held = min(size, wide - left)
    groups = -(-height // max(_LEAST_LINES, room // (sh * wide) - more))
    group = -(-height // groups)
    lines = group + more
    planes = max(1, min(last - first, room // (sh * wide * lines)))
    windows = planes * lines * pitch
    count = sh * windows
    padded = np.full(sw * count + pitch, lowest, x.dtype)
    dealt = np.zeros((sw, count + pitch), x.dtype) if sw > 1 else padded.reshape((1, count + pitch))
    line, spots = np.zeros(count + more * pitch, x.dtype), np.zeros(count + more * pitch, np.int32)
    best, places = np.empty(windows, x.dtype), np.empty(windows, np.int32)
    for start in range(first, last, planes):
        many = min(planes, last - start)
        for i in range(0, height, group):
            for n in range(many):
                for r in range(sh * lines):
                    y, at = i * sh + r - top, ((r % sh * planes + n) * lines + r // sh) * wide + left
                    if 0 <= y < tall:
                        _copy(x[start + n, y], padded[at : at + held])
                    else:
                        padded[at : at + held] = lowest
            if sw > 1:
                _deal(padded, dealt[:, :count])
            _copy(dealt[0], line[:count])
            spots[:] = 0
            for t in range(dw, dw * kw, dw):
                _compare(dealt[t % sw, t // sw :], np.int32(t), line[:count], spots[:count])
            _copy(line, best)
            _copy(spots, places)
            for t in range(dh, dh * kh, dh):
                at = t % sh * windows + t // sh * pitch
                _compare_lines(line[at:], spots[at:], np.int32(t * size), best, places)
            for n in range(many):
                for r in range(i, min(i + group, height)):
                    into, spot, at = out[start + n, r], indices[start + n, r], (n * lines + r - i) * pitch
                    here, there, corner = best[at : at + width], places[at : at + width], (r * sh - top) * size - left
                    origin = rows[0, r] * size
                    for j in range(width):
                        into[j] = here[j]
                    for j in range(width):
                        known = here[j] != lowest  # or else it is the first that is no padding
                        spot[j] = there[j] + (corner + j * sw) if known else origin + columns[0, j]


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


@workers.shared(_sum_numpy)
def _sum(x, rows, columns, scale, zero, out, first, last):
    """The sum of a window's rows is the long loop, and it vectorises; sums are taken as precisely as `zero` is."""
    height, width = out.shape[1:]
    sums = np.empty(x.shape[2], zero.dtype)
    for n in range(first, last):
        plane = x[n]
        for i in range(height):
            sums[:] = 0
            for y in range(rows[0, i], rows[1, i]):
                line = plane[y]
                for z in range(len(sums)):
                    sums[z] += line[z]
            into, factor = out[n, i], scale[i]
            for j in range(width):
                total = zero[0]
                for z in range(columns[0, j], columns[1, j]):
                    total += sums[z]
                into[j] = total * factor[j]


@workers.shared(_share_numpy)
def _share(g, rows, columns, scale, out, first, last):
    height, width = g.shape[1:]
    shares = np.empty(out.shape[2], out.dtype)  # what one row of windows gives to each of its rows
    for n in range(first, last):
        plane = out[n]
        plane[:] = 0
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


def _sum_halves_numpy(x, scale, out, first, last):
    height, width = out.shape[1:]
    x = x[first:last, : 2 * height, : 2 * width]
    out[first:last] = (x[:, ::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, ::2] + x[:, 1::2, 1::2]) * scale


@workers.shared(_sum_halves_numpy)
def _sum_halves(x, scale, out, first, last):
    """Windows of 2 x 2 side by side: a loop over pairs that vectorises."""
    height, width = out.shape[1:]
    row = x.shape[2]
    source, into = x.reshape(-1), out.reshape(-1)
    below, count, one = np.uint64(row), np.uint64(width), np.uint64(1)
    factor = scale[0, 0]
    for n in range(first, last):
        for i in range(height):
            start, at = np.uint64((n * x.shape[1] + 2 * i) * row), np.uint64((n * height + i) * width)
            for j in range(count):
                p = start + j + j
                into[at + j] = (source[p] + source[p + one] + source[p + below] + source[p + below + one]) * factor


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


def _share_halves_numpy(g, scale, out, first, last):
    out[first:last] = (g[first:last] * scale).repeat(2, 1).repeat(2, 2)


@workers.shared(_share_halves_numpy)
def _share_halves(g, scale, out, first, last):
    """Windows of 2 x 2 that cover the plane: every element is written once."""
    height, width = g.shape[1:]
    row = out.shape[2]
    source, into = g.reshape(-1), out.reshape(-1)
    below, count, one = np.uint64(row), np.uint64(width), np.uint64(1)
    factor = scale[0, 0]
    for n in range(first, last):
        for i in range(height):
            start, at = np.uint64((n * height + i) * 2 * row), np.uint64((n * height + i) * width)
            for j in range(count):
                p = start + j + j
                share = source[at + j] * factor
                into[p] = share
                into[p + one] = share
                into[p + below] = share
                into[p + below + one] = share


def _scatter_halves_numpy(out, g, indices, many, first, last):
    planes = [x[first:last].reshape(last - first, -1) for x in (g, indices, out)]
    _scatter_numpy(*planes, None, 0, last - first)


between = None  # of each loop its own


def _halves_of(planes, numbers, indices, many, first, last):
    """Line by line between planes and their windows of 2 x 2 side by side, in vectors of `many`."""
    (tall, row), (height, width) = planes.shape[1:], numbers.shape[1:]
    one, size = planes.dtype.type(0), planes.itemsize
    elements, values, places = address(planes), address(numbers), address(indices)
    for n in range(first, last):
        for i in range(height):
            at, corner = (n * height + i) * width, 2 * i * row
            lines = elements + (n * tall * row + corner) * size
            between(one, many, (width, lines, row, corner, values + at * size, places + at * 8))


_max_halves = workers.shared(_max_halves_numpy)(variant(_halves_of, "_max_halves", between=largest))
_scatter_halves = workers.shared(_scatter_halves_numpy)(variant(_halves_of, "_scatter_halves", between=spread))


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
