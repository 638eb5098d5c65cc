"""What follows a product while its result is in cache: an activation and windows side by side; and their adjoint."""

from functools import partial
from math import prod

import numpy as np

from . import activations, special, workers
from .jit import jit
from .layout import floats, half_by_single
from .pooling import mean_of_tiles, share_over_tiles
from .reduction import sum
from .scratch import scratch

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


def activate(x, activation):
    """A floating x through "relu", "tanh" or "sigmoid", in place."""
    return _IN_PLACE[activation](x)


class Plain:
    """The results of a convolution as they are."""

    def __init__(self, out):
        self.out = out

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
