"""The largest value of each filter along a sequence, and the products of filters with chosen windows alone.

x (N, C, L), w (O, C, k); windows start at i from 0 to P − 1, P = L − k + 1; places (N, O) says where. With the channels
last, a window of k positions is one row of k·C neighbours, and so is a filter.
"""

import numpy as np

from . import workers
from .jit import jit
from .layout import compact, floats, half_by_single
from .scratch import scratch

_PIECE_BYTES = 1 << 20  # of products, so that they are still in cache when their largest are looked for
_WORTH_SHARING = 2_000_000  # FLOPs that outlast handing a slice to a worker


@half_by_single
def conv1d_max(x, w, b):
    """max_i of b[o] + Σ w[o, c, j] x[n, c, i + j], and the first i where it stands: (N, O) twice; NaN wins."""
    rows, filters, b = floats(_channels_last(x), w.transpose(1, 2, 0), b)
    (n, length, c), (_, k, o) = rows.shape, filters.shape
    filters = filters.reshape(c, k * o)
    out, places = np.empty((n, o), rows.dtype), np.empty((n, o), np.int64)
    images = max(1, _PIECE_BYTES // max(1, length * k * o * rows.itemsize))

    def task(start, stop):
        for first in range(start, stop, images):
            part = slice(first, min(first + images, stop))
            taps = scratch("taps", (part.stop - first, length, k * o), rows.dtype)
            np.matmul(rows[part].reshape(-1, c), filters, out=taps.reshape(-1, k * o))
            _largest(taps.reshape(-1, length, k, o), out[part], places[part])

    workers.run(task, n, grain=_grain(2 * length * c * k * o))
    if b is not None:
        out += b
    return out, places


@half_by_single
def windows_product(x, w, places):
    """Σ w[o, c, j] x[n, c, places[n, o] + j]: (N, O)."""
    rows, filters = floats(_channels_last(x), _channels_last(w))
    places, c = _checked(places, x.shape[2] - w.shape[2]), x.shape[1]
    out = np.empty(places.shape, rows.dtype)
    task = lambda a, b: _products(_flat(rows[a:b]), _flat(filters), places[a:b], c, out[a:b])
    workers.run(task, len(out), grain=_grain(2 * filters.size))
    return out


@half_by_single
def windows_input(g, w, places, *, length):
    """The adjoint of `windows_product` with respect to x: g (N, O) -> (N, C, length)."""
    g, filters = floats(g, _channels_last(w))
    places, c = _checked(places, length - w.shape[2]), w.shape[1]
    out = np.zeros((len(g), length, c), g.dtype)
    task = lambda a, b: _add_filters(g[a:b], _flat(filters), places[a:b], c, _flat(out[a:b]))
    workers.run(task, len(out), grain=_grain(2 * filters.size))
    return out.swapaxes(1, 2)


@half_by_single
def windows_weight(g, x, places, *, width):
    """The adjoint of `windows_product` with respect to w: g (N, O), x (N, C, L) -> (O, C, width)."""
    g, rows = floats(g, _channels_last(x))
    places, c = _checked(places, x.shape[2] - width), x.shape[1]
    out = np.zeros((g.shape[1], width, c), g.dtype)
    task = lambda a, b: _add_windows(compact(g[:, a:b]), _flat(rows), compact(places[:, a:b]), c, _flat(out[a:b]))
    workers.run(task, len(out), grain=_grain(2 * len(g) * width * c))
    return np.ascontiguousarray(out.swapaxes(1, 2))


def _channels_last(x):
    """x (N, C, L) as (N, L, C); sequences that were looked up as such are contiguous so."""
    return x.swapaxes(1, 2)


def _flat(x):
    return x.reshape(len(x), x.shape[1] * x.shape[2])


def _grain(flops):
    return max(1, _WORTH_SHARING // max(1, flops))


def _checked(places, last):
    if places.size and (places.min() < 0 or places.max() > last):
        raise IndexError(
            f"places from {places.min()} to {places.max()} are outside 0..{last}, where a window may start"
        )
    return compact(places, np.int64)


# ---- loops -----------------------------------------------------------------------------------------------------------


def _largest_numpy(taps, out, places):
    length, k = taps.shape[1:3]
    sums = sum(taps[:, j : length - k + 1 + j, j] for j in range(k))
    places[...] = sums.argmax(1)  # NaN is the largest to NumPy too
    out[...] = np.take_along_axis(sums, places[:, None], 1)[:, 0]


@jit(_largest_numpy)
def _largest(taps, out, places):
    images, length, k, filters = taps.shape
    for n in range(images):
        best, where = out[n], places[n]
        for i in range(length - k + 1):
            row = taps[n, i, 0]
            for j in range(1, k):
                more = taps[n, i + j, j]
                for o in range(filters):
                    row[o] += more[o]
            if i == 0:
                for o in range(filters):
                    best[o] = row[o]
                    where[o] = 0
            else:
                for o in range(filters):
                    better = (row[o] > best[o]) | ((row[o] != row[o]) & (best[o] == best[o]))
                    best[o] = row[o] if better else best[o]
                    where[o] = i if better else where[o]


def _picked(places, c, size):
    """The elements of each chosen window in a flat row."""
    return places[..., None] * c + np.arange(size)


def _products_numpy(rows, filters, places, c, out):
    for n, row in enumerate(rows):
        out[n] = (row[_picked(places[n], c, filters.shape[1])] * filters).sum(1)


@jit(_products_numpy, reassociate=True)
def _products(rows, filters, places, c, out):
    for n in range(len(places)):
        for o in range(len(filters)):
            start = places[n, o] * c
            window, taps = rows[n, start : start + filters.shape[1]], filters[o]
            total = window.dtype.type(0)
            for q in range(len(taps)):
                total += window[q] * taps[q]
            out[n, o] = total


def _add_filters_numpy(g, filters, places, c, out):
    for n, row in enumerate(out):
        np.add.at(row, _picked(places[n], c, filters.shape[1]), g[n, :, None] * filters)


@jit(_add_filters_numpy)
def _add_filters(g, filters, places, c, out):
    for n in range(len(places)):
        for o in range(len(filters)):
            if g[n, o] != 0:  # what relu has cut off
                start, scale, taps = places[n, o] * c, g[n, o], filters[o]
                window = out[n, start : start + len(taps)]
                for q in range(len(taps)):
                    window[q] += scale * taps[q]


def _add_windows_numpy(g, rows, places, c, out):
    for n, row in enumerate(rows):
        out += g[n, :, None] * row[_picked(places[n], c, out.shape[1])]


@jit(_add_windows_numpy)
def _add_windows(g, rows, places, c, out):
    for o in range(len(out)):
        taps = out[o]
        for n in range(len(g)):
            if g[n, o] != 0:
                start, scale = places[n, o] * c, g[n, o]
                window = rows[n, start : start + len(taps)]
                for q in range(len(taps)):
                    taps[q] += scale * window[q]
