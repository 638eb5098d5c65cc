"""What follows a product while its result is in cache: an activation and windows side by side; and their adjoint."""

from functools import cache, partial
from math import prod

import numpy as np

from . import activations, special, vector, workers
from .jit import inline, jit
from .layout import floats, half_by_single
from .pooling import mean_of_tiles, share_over_tiles
from .reduction import sum
from .scratch import scratch
from .team import address

_GRAIN = 100_000  # elements that outlast handing a slice to a worker
_CACHED = 1 << 18  # elements that are in a cache still when they are read again

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


_POOLS = ("", "max", "avg")


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
        return self.out, values, places, 1 + list(_BACKWARD).index(self.activation), _POOLS.index(kind), kh, kw

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
    """The instruction `it(one, (lines, n, source, apart, into, step, bias))`: activation(x + bias) of lines of n numbers.

    From line to line it is `apart` numbers in the source, `step` in the result; bias is the address of a number.
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


_plus, _relu, _tanh, _sigmoid = (
    _by_lines(f) for f in (lambda m, x: x, lambda m, x: m.relu(x), lambda m, x: m.tanh(x), lambda m, x: m.sigmoid(x))
)


@inline
def activated_lines(one, lines, n, source, apart, into, step, bias, activation):
    """Lines through an activation, by its number; see `_by_lines`."""
    numbers = lines, n, source, apart, into, step, bias
    if activation == 0:
        _plus(one, numbers)
    elif activation == 1:
        _relu(one, numbers)
    elif activation == 2:
        _tanh(one, numbers)
    else:
        _sigmoid(one, numbers)


@inline
def finish_plane(sums, width, oh, ow, bias, out, values, places, n, o, activation, pool, kh, kw):
    """Take the sums of plane o of image n, rows `width` apart: bias, activation, pooling as `Epilogue.targets` says."""
    one, plane, b = sums[0], out[n, o], address(bias) + o * bias.itemsize
    if pool == 1:  # the largest first: neither the bias nor an activation changes the order
        if kh == 2 and kw == 2 and not _any_nan(sums[: (oh - 1) * width + ow]):
            _largest_two(sums, width, plane, places[n, o])
        else:
            _largest_plane(sums, width, plane, places[n, o], kh, kw)
        activated_lines(one, 1, plane.size, address(plane), 0, address(plane), 0, b, activation)
        return
    into = plane if pool == 0 else values[n, o]
    activated_lines(one, oh, ow, address(sums), width, address(into), ow, b, activation)
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
    before = _BACKWARD[activation](g, out)
    return before, sum(before, 0) if bias else None


@half_by_single
def act_pool_backward(g, out, saved, *, activation, pool, size):
    """The adjoint of an activation and a pooling, from their result `out` and what was saved.

    g and out (N, O, ph, pw), -> (N, O, *size).
    """
    if pool is None:
        return _BACKWARD[activation](g, out)
    kind, *tile = pool
    if kind == "max":
        g, task = _BACKWARD[activation](g, out), _to_largest
    else:
        g, saved = floats(g, saved)
        task = partial(_shares, list(_BACKWARD).index(activation))
    out = np.empty((*g.shape[:2], *size), g.dtype)
    arrays, planes = [_planes(x) for x in (g, saved, out)], g.shape[0] * g.shape[1]
    at_once = max(1, _CACHED // max(1, prod(size)))

    def piece(start, stop):
        for first in range(start, stop, at_once):
            task(*[x[first : min(first + at_once, stop)] for x in arrays], *tile)

    workers.run(piece, planes, grain=-(-_GRAIN * planes // max(1, out.size)))
    return out


def _shares(slope, g, a, out, kh, kw):
    """g spread evenly over its windows, times the activation's slope at its result a."""
    share_over_tiles(g, (kh, kw), out)
    _times_slope(out.reshape(-1), a.reshape(-1), slope)


def _times_slope_numpy(g, a, kind):
    g *= (a > 0, 1 - a * a, a * (1 - a))[kind]


@jit(_times_slope_numpy)
def _times_slope(g, a, kind):
    """g times the slope of ReLU, tanh or the logistic function at its result a, in place."""
    zero, one = g.dtype.type(0), g.dtype.type(1)
    if kind == 0:
        for i in range(len(g)):
            g[i] = g[i] if a[i] > zero else zero
    elif kind == 1:
        for i in range(len(g)):
            g[i] *= one - a[i] * a[i]
    else:
        for i in range(len(g)):
            g[i] *= a[i] * (one - a[i])


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
    planes, height, width = out.shape
    row = x.shape[2]
    source, into, at = x.reshape(-1), out.reshape(-1), places.reshape(-1)
    below, count, p = np.uint64(row), np.uint64(width), np.uint64(0)  # unsigned and one comparison each: vectorised
    for n in range(planes):
        for i in range(height):
            start = np.uint64((n * x.shape[1] + 2 * i) * row)
            for j in range(count):
                q = start + j + j
                a, b, c, d = source[q], source[q + np.uint64(1)], source[q + below], source[q + below + np.uint64(1)]
                top, right = (b, np.uint8(1)) if b > a else (a, np.uint8(0))
                low, low_right = (d, np.uint8(3)) if d > c else (c, np.uint8(2))
                into[p + j] = low if low > top else top
                at[p + j] = low_right if low > top else right
            p += count


def _to_largest_numpy(g, places, out, kh, kw):
    out[...] = 0
    tile = np.indices(g.shape, sparse=True)
    y, z = np.divmod(places, kw)
    out[tile[0], tile[1] * kh + y, tile[2] * kw + z] = g


@jit(_to_largest_numpy)
def _to_largest(g, places, out, kh, kw):
    """g at the places in its windows, 0 elsewhere."""
    planes, height, width = g.shape
    source, at, into = g.reshape(-1), places.reshape(-1), out.reshape(-1)
    offsets = np.empty(kh * kw, np.uint64)
    for place in range(kh * kw):
        offsets[place] = place // kw * out.shape[2] + place % kw
    into[:] = 0
    count, across, p = np.uint64(width), np.uint64(kw), np.uint64(0)
    for n in range(planes):
        for i in range(height):
            start = np.uint64((n * out.shape[1] + i * kh) * out.shape[2])
            for j in range(count):
                into[start + j * across + offsets[at[p + j]]] = source[p + j]
            p += count
