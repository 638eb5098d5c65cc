"""What follows a product while its result is in cache: an activation and windows side by side; and their adjoint."""

from functools import cache

import numpy as np

from . import activations, special, vector, workers
from .jit import inline, jit
from .layout import compact, floats, half_by_single
from .pooling import mean_of_tiles
from .scratch import scratch
from .vector import address

_GRAIN = 5_000  # elements that outlast handing a slice to a worker that waits

_IN_PLACE = {
    "relu": lambda x: np.maximum(x, 0, out=x),
    "tanh": lambda x: np.tanh(x, out=x),
    "sigmoid": special.sigmoid_,
}
_BACKWARD = {
    "relu": activations.relu_backward,
    "tanh": activations.tanh_backward,
    "sigmoid": activations.sigmoid_backward,
}


ACTIVATIONS, _POOLS = ("", *_IN_PLACE), ("", "max", "avg")


@cache
def _nothing(dtype):
    return np.empty((0, 0, 0, 0), dtype), np.empty((0, 0, 0, 0), np.uint8)


def activate(x, activation):
    """A floating x through "relu", "tanh" or "sigmoid", in place."""
    return _IN_PLACE[activation](x)


class Plain:
    """The results of a convolution as they are."""

    def __init__(self, out):
        self.out = out

    @property
    def targets(self):
        """See `Epilogue`."""
        return self.out, *_nothing(self.out.dtype), 0, 0, 1, 1

    def room(self, images):
        """See `Epilogue`."""
        return self.out[images]

    def finish(self, images, room):
        """Nothing is to be done."""


class Epilogue:
    """The results of a convolution (N, O, oh, ow) that go through an activation and a pooling, some images at a time.

    pool: ("max" | "avg", kh, kw) or None. `saved` is what the adjoint needs beside `out`: the place of the largest in
    its window (uint8), the activation before an average, or None.
    """

    def __init__(self, shape, dtype, activation, pool):
        self.shape, self.dtype, self.activation, self.pool, self.saved = shape, dtype, activation, pool, None
        if pool is None:
            self.out = np.empty(shape, dtype)
            return
        kind, kh, kw = pool
        self.out = np.empty((*shape[:2], shape[2] // kh, shape[3] // kw), dtype)
        self.saved = np.empty(self.out.shape, np.uint8) if kind == "max" else np.empty(shape, dtype)

    @property
    def targets(self):
        """What `finish_plane` is told of where to write, and how."""
        kind, kh, kw = self.pool or ("", 1, 1)
        values, places = _nothing(self.dtype)
        if kind:
            values, places = (values, self.saved) if kind == "max" else (self.saved, places)
        return self.out, values, places, ACTIVATIONS.index(self.activation), _POOLS.index(kind), kh, kw

    def room(self, images):
        """Where the convolution of a slice of the images is to be written, (images, O, oh, ow)."""
        if self.pool and self.pool[0] == "max":
            return scratch("result", (images.stop - images.start, *self.shape[1:]), self.dtype)
        return (self.saved if self.pool else self.out)[images]

    def finish(self, images, room):
        """Take what was written there."""
        if self.pool and self.pool[0] == "max":  # the largest first: activations do not change the order
            _, kh, kw = self.pool
            _largest_of_windows(_planes(room), _planes(self.out[images]), _planes(self.saved[images]), kh, kw)
            activate(self.out[images], self.activation)
            return
        activate(room, self.activation)
        if self.pool:
            mean_of_tiles(_planes(room), self.pool[1:], _planes(self.out[images]))


# ---- of one plane, inside of compiled loops --------------------------------------------------------------------------


def _by_lines(activation):
    """The instruction `it(one, (lines, n, source, apart, into, step, bias))`: activation(x + bias) of lines.

    A line has n numbers, the next begins `apart` numbers on in the source and `step` in the result; bias is an address.
    """

    def emit(o, lines, n, source, apart, into, step, bias):
        builder = o.builder
        more = vector.Vector(builder, o.splat(builder.load(o.pointer(bias, o.scalar))))
        b, _, end = o.loop(n, o.count, [])
        mask = o.first(builder.sub(n, b))
        y, _, end_line = o.loop(lines, 1, [])
        x = vector.Vector(builder, o.load(o.at(source, b, builder.mul(y, apart)), mask))
        o.store(activation(vector.Mathematics, x + more).value, o.at(into, b, builder.mul(y, step)), mask)
        end_line()
        end()

    return vector.instruction(emit, activation)


plus, _relu, _tanh, _sigmoid = (
    _by_lines(f) for f in (lambda m, x: x, lambda m, x: m.relu(x), lambda m, x: m.tanh(x), lambda m, x: m.sigmoid(x))
)


@inline
def activated_lines(one, lines, n, source, apart, into, step, bias, activation):
    """Lines through an activation, by its number; see `_by_lines`."""
    numbers = lines, n, source, apart, into, step, bias
    if activation == 0:
        plus(one, numbers)
    elif activation == 1:
        _relu(one, numbers)
    elif activation == 2:
        _tanh(one, numbers)
    else:
        _sigmoid(one, numbers)


@inline
def finish_plane(sums, width, rows, ow, bias, out, values, places, n, o, first, activation, pool, kh, kw):
    """Take the sums of some rows, from `first` on, of plane o of image n; they are `width` apart.

    Bias, activation, pooling as `Epilogue.targets` says; where there is a pooling, a window begins at `first`.
    """
    one, b = sums[0], address(bias) + o * bias.itemsize
    plane = out[n, o, first // kh : (first + rows) // kh]
    if pool == 1:  # the largest first: neither the bias nor an activation changes the order
        at = places[n, o, first // kh : (first + rows) // kh]
        if kh == 2 and kw == 2 and not _any_nan(sums[: (rows - 1) * width + ow]):
            _largest_two(sums, width, plane, at)
        else:
            _largest_plane(sums, width, plane, at, kh, kw)
        activated_lines(one, 1, plane.size, address(plane), 0, address(plane), 0, b, activation)
    else:
        into = plane if pool == 0 else values[n, o, first : first + rows]
        activated_lines(one, rows, ow, address(sums), width, address(into), ow, b, activation)
        if pool == 2:
            _mean_plane(into, plane, kh, kw)


@inline
def _any_nan(x):
    count = 0
    for i in range(len(x)):
        count += x[i] != x[i]
    return count > 0


@inline
def _largest_two(x, width, out, places):
    """The largest of windows of 2 × 2 and which it is, of equals the first, where no number is NaN."""
    height, count = out.shape
    into, at = out.reshape(-1), places.reshape(-1)
    below, across = np.uint64(width), np.uint64(count)  # unsigned and one comparison each: vectorised
    for i in range(height):
        start, p = np.uint64(2 * i * width), np.uint64(i * count)
        for j in range(across):
            q = start + j + j
            a, b, c, d = x[q], x[q + np.uint64(1)], x[q + below], x[q + below + np.uint64(1)]
            top, right = (b, np.uint8(1)) if b > a else (a, np.uint8(0))
            low, low_right = (d, np.uint8(3)) if d > c else (c, np.uint8(2))
            into[p + j] = low if low > top else top
            at[p + j] = low_right if low > top else right


@inline
def _largest_plane(x, width, out, places, kh, kw):
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            best, place = x[i * kh * width + j * kw], 0
            for y in range(kh):
                for z in range(kw):
                    value = x[(i * kh + y) * width + j * kw + z]
                    if value > best or (value != value and best == best):
                        best, place = value, y * kw + z
            out[i, j] = best
            places[i, j] = place


@inline
def _mean_plane(x, out, kh, kw):
    share = x.dtype.type(1 / (kh * kw))
    if kh == 2 and kw == 2:
        source, into, count = x.reshape(-1), out.reshape(-1), np.uint64(out.shape[1])
        below, one = np.uint64(x.shape[1]), np.uint64(1)
        for i in range(out.shape[0]):
            start, p = np.uint64(2 * i * x.shape[1]), np.uint64(i * out.shape[1])
            for j in range(count):
                q = start + j + j
                into[p + j] = (source[q] + source[q + one] + source[q + below] + source[q + below + one]) * share
        return
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            total = 0.0
            for y in range(kh):
                for z in range(kw):
                    total += x[i * kh + y, j * kw + z]
            out[i, j] = total * share


# ---- the adjoint -----------------------------------------------------------------------------------------------------


@half_by_single
def act_backward(g, out, *, activation, bias):
    """The adjoint of an activation from its result, of matrices (M, N), and with `bias` its sums over the rows (N)."""
    if not bias:
        return _BACKWARD[activation](g, out), None
    g, out = floats(g, out)
    before, sums = np.empty_like(out), np.zeros(out.shape[1])
    grain = -(-_GRAIN // max(1, len(out)))
    _slopes_and_sums(out.shape[1], g, out, ACTIVATIONS.index(activation), before, sums, grain=grain)
    return before, sums.astype(out.dtype)


@half_by_single
def act_pool_backward(g, out, saved, *, activation, pool, size):
    """The adjoint of an activation and a pooling, from their result `out` and what was saved.

    g and out (N, O, ph, pw), -> (N, O, *size).
    """
    if pool is None:
        return _BACKWARD[activation](g, out)
    kind, *tile = pool
    g, out = floats(g, out)
    into, nothing = np.empty((*g.shape[:2], *size), g.dtype), _nothing(g.dtype)
    values, places = (nothing[0], saved) if kind == "max" else (compact(saved), nothing[1])
    arrays, planes = [_planes(x) for x in (g, out, values, places, into)], g.shape[0] * g.shape[1]
    grain = -(-_GRAIN * planes // max(1, into.size))
    _unpooled(planes, *arrays, ACTIVATIONS.index(activation), _POOLS.index(kind), *tile, grain=grain)
    return into


def _slope_numpy(activation, a):
    return (1, a > 0, 1 - a * a, a * (1 - a))[activation]


@inline
def _times_slope(g, a, activation, into):
    """into = g times the slope of an activation, by its number, at its result a."""
    zero, one = into.dtype.type(0), into.dtype.type(1)
    if activation == 1:
        for i in range(len(into)):
            into[i] = g[i] if a[i] > zero else zero
    elif activation == 2:
        for i in range(len(into)):
            into[i] = g[i] * (one - a[i] * a[i])
    else:
        for i in range(len(into)):
            into[i] = g[i] * (a[i] * (one - a[i]))


def _slopes_and_sums_numpy(g, out, activation, before, sums, first, last):
    part = (..., slice(first, last))
    before[part] = np.where(g[part] == 0, 0, g[part] * _slope_numpy(activation, out[part]))
    sums[part] = np.add.reduce(before[part], 0, np.float64)


@inline
def slopes_and_sums(g, out, activation, before, sums, first, last):
    """Columns first … last of the gradient before an activation, by its number, and its sums over the rows."""
    total, zero = sums[first:last], before.dtype.type(0)
    for i in range(len(g)):
        row, slope, a = before[i, first:last], g[i, first:last], out[i, first:last]
        if activation == 1:  # the commonest in one loop, whose numbers stay in the registers
            for j in range(len(row)):
                value = slope[j] if a[j] > zero else zero
                row[j] = value
                total[j] += np.float64(value)
            continue
        _times_slope(slope, a, activation, row)
        for j in range(len(row)):
            total[j] += np.float64(row[j])


_slopes_and_sums = workers.shared(_slopes_and_sums_numpy)(slopes_and_sums)


def _unpooled_numpy(g, out, values, places, into, activation, pool, kh, kw, first, last):
    into = into[first:last]
    into[...] = 0
    g, (height, width) = g[first:last], g.shape[1:]
    if pool == 2:
        a = values[first:last, : height * kh, : width * kw]
        spread = (g / (kh * kw)).repeat(kh, 1).repeat(kw, 2)
        into[:, : height * kh, : width * kw] = spread * _slope_numpy(activation, a)
        return
    tile, (y, z) = np.indices(g.shape, sparse=True), np.divmod(places[first:last], kw)
    into[tile[0], tile[1] * kh + y, tile[2] * kw + z] = g * _slope_numpy(activation, out[first:last])


@workers.shared(_unpooled_numpy)
def _unpooled(g, out, values, places, into, activation, pool, kh, kw, first, last):
    height, width = g.shape[1:]
    slopes, share = np.empty(height * width, g.dtype), g.dtype.type(1 / (kh * kw))
    offsets, row = np.empty(kh * kw, np.uint64), into.shape[2]
    for place in range(kh * kw):
        offsets[place] = place // kw * row + place % kw
    count, across, one, below = np.uint64(width), np.uint64(kw), np.uint64(1), np.uint64(row)
    for n in range(first, last):
        plane, source = into[n].reshape(-1), g[n].reshape(-1)
        if pool == 1 or height * kh < into.shape[1] or width * kw < row:
            plane[:] = 0
        if pool == 1:
            at = places[n].reshape(-1)
            _times_slope(source, out[n].reshape(-1), activation, slopes)
            for i in range(height):
                start, p = np.uint64(i * kh * row), np.uint64(i * width)
                for j in range(count):
                    plane[start + j * across + offsets[at[p + j]]] = slopes[p + j]
            continue
        for i in range(height):
            start, p = np.uint64(i * kh * row), np.uint64(i * width)
            if kh == 2 and kw == 2:
                for j in range(count):
                    q, part = start + j + j, source[p + j] * share
                    plane[q] = part
                    plane[q + one] = part
                    plane[q + below] = part
                    plane[q + below + one] = part
            else:
                for j in range(count):
                    part = source[p + j] * share
                    for place in range(kh * kw):
                        plane[start + j * across + offsets[place]] = part
        _times_slope(plane, values[n].reshape(-1), activation, plane)


def _planes(x):
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _tiles(x, kh, kw):
    """x (planes, H, W) as windows (planes, oh, ow, kh kw); a rest that fills no window is left out."""
    oh, ow = x.shape[1] // kh, x.shape[2] // kw
    tiles = x[:, : oh * kh, : ow * kw].reshape(len(x), oh, kh, ow, kw)
    return tiles.swapaxes(2, 3).reshape(len(x), oh, ow, kh * kw)


def _largest_of_windows(x, out, places, kh, kw):
    """The largest element of each window and its number in it: of equals the first; NaN wins."""
    if kh == kw == 2 and not np.isnan(x.max(initial=-np.inf)):
        _largest_halves(x, out, places)
    else:
        _largest(x, out, places, kh, kw)


def _largest_numpy(x, out, places, kh, kw):
    tiles = _tiles(x, kh, kw)
    places[...] = tiles.argmax(3)
    out[...] = tiles.max(3)


@jit(_largest_numpy)
def _largest(x, out, places, kh, kw):
    planes, height, width = out.shape
    for n in range(planes):
        plane = x[n]
        for i in range(height):
            for j in range(width):
                best, place = plane[i * kh, j * kw], 0
                for y in range(kh):
                    for z in range(kw):
                        value = plane[i * kh + y, j * kw + z]
                        if value > best or (value != value and best == best):
                            best, place = value, y * kw + z
                out[n, i, j] = best
                places[n, i, j] = place


def _largest_halves_numpy(x, out, places):
    _largest_numpy(x, out, places, 2, 2)


@jit(_largest_halves_numpy)
def _largest_halves(x, out, places):
    for n in range(len(out)):
        _largest_two(x[n].reshape(-1), x.shape[2], out[n], places[n])
