"""Batch normalisation of small planes, and its adjoint: an image is a line of all its channels' numbers.

A loop over a plane of a few numbers never gets going. Here each place of the line has sums of its own down the batch,
and a channel's are those of its places. Threads share the channels; where there are many short lines, each of which
they would tear to pieces, the images: these are summed in chunks, the same ones whoever sums them.
"""

import numpy as np

from . import workers
from .downwards import over_rows
from .jit import inline, jit
from .vector import address

_ABREAST = 1024  # numbers of a line whose sums stay in the nearest cache
_LONG, _MANY = 2048, 1 << 18  # numbers of a line that may be torn, of all lines that are too few to pay for chunks
_CHUNK = 1 << 16  # numbers of the images that are summed together
_GRAIN = 4_000  # numbers that outlast handing a slice to a worker


def batch_norm_by_lines(x, weight, bias, eps, out, mean, var, rstd):
    """Fill in `out` (N, C, L) and the others (C,), as `normalization.batch_norm` gives them, for x (N, C, L)."""
    lines, results, images, sums, own = _prepared(x, out)
    known = x.shape[2], len(x) * x.shape[2], weight, bias, eps, mean, var, rstd, own
    if len(sums) == 1:
        _normal_channels(len(mean), lines, sums, *known, results, grain=grain_of(x.size, len(mean)))
    else:
        own[0] = np.repeat(x[0, :, 0], x.shape[2])
        _sums_of_chunks(len(sums), lines, own, images, sums, grain=1)
        _normal_of_chunks(sums, *known)
        _normal_images(len(x), lines, own, results, grain=grain_of(x.size, len(x)))


def batch_norm_backward_by_lines(g, x, weight, mean, rstd, gx, gweight, gbias):
    """Fill in gx (N, C, L), gweight and gbias (C,), as `normalization.batch_norm_backward` gives them."""
    lines, results, images, sums, own = _prepared(x, gx)
    slopes, known = g.reshape(lines.shape), (x.shape[2], len(x) * x.shape[2], weight, rstd, gweight, gbias, own)
    if len(sums) == 1:
        _adjoint_channels(len(mean), slopes, lines, mean, sums, *known, results, grain=grain_of(x.size, len(mean)))
    else:
        own[0] = np.repeat(mean, x.shape[2])
        _products_of_chunks(len(sums), slopes, lines, own, images, sums, grain=1)
        _adjoint_of_chunks(sums, *known)
        _adjoint_images(len(x), slopes, lines, own, results, grain=grain_of(x.size, len(x)))


def _prepared(x, out):
    """Lines of x and of `out`, images in a chunk, room for two sums of each place and chunk, and for what it needs."""
    line = x.shape[1] * x.shape[2]
    images = max(1, len(x) if line >= _LONG or x.size <= _MANY else _CHUNK // line)
    sums, own = np.empty((max(1, -(-len(x) // images)), 2, line)), np.empty((4, line), x.dtype)
    return x.reshape(len(x), line), out.reshape(len(x), line), images, sums, own


def grain_of(size, n):
    """Of n slices of an array, how many a thread takes at least."""
    return -(-_GRAIN * n // max(size, 1))


# ---- of the images n0 … n1, the places a … b -------------------------------------------------------------------------


@inline
def moments(start, total, square, count):
    """Mean and variance of `count` numbers, from the sums of their differences from `start` and of the squares."""
    away = total / count
    spread = square / count - away * away
    if spread < 0:
        spread = 0.0
    return start + away, spread


@inline
def away_from(value, high, low):
    """value - (high + low), without the error of rounding the sum: compiled apart, where sums keep their order."""
    return (value - high) - low


@inline
def repeat(values, apart, first, last, size, own):
    """own[0] at the places of channels: a value for each, `apart` numbers from one to the next."""
    for c in range(first, last):
        own[0, c * size : (c + 1) * size] = values[c * apart]


def differences(m, x, start):
    """To be added up: how far the numbers are from the first, and the squares of that."""
    away = x - start
    return None, away, away * away


def products(m, g, x, centre):
    """To be added up: the slopes, and their products with how far the numbers are from the mean."""
    return None, g, g * (x - centre)


_differences, _products = over_rows(differences, 1, 1, 2, wide=True), over_rows(products, 2, 1, 2)


@inline
def _at(x, n, a):
    """Where the place a of the line n is."""
    return address(x) + (n * x.shape[1] + a) * x.itemsize


@inline
def sum_up(x, own, n0, n1, a, b, sums):
    """The sums of the differences from the channel's first number, own[0], and of their squares."""
    if n0 == n1:
        sums[:, a:b] = 0
    else:
        into = _at(own, 0, a), _at(sums, 0, a), _at(sums, 1, a)
        _differences(x.dtype.type(0), (n1 - n0, x.shape[1], b - a, _at(x, n0, a)) + into)


@inline
def sum_products(g, x, own, n0, n1, a, b, sums):
    """The sums of g and of g (x - mean), the mean in own[0]."""
    if n0 == n1:
        sums[:, a:b] = 0
    else:
        into = _at(own, 0, a), _at(sums, 0, a), _at(sums, 1, a)
        _products(x.dtype.type(0), (n1 - n0, x.shape[1], b - a, _at(g, n0, a), _at(x, n0, a)) + into)


@inline
def of_channel(sums, c, size):
    """Both sums over the places of a channel."""
    first = second = 0.0
    for j in range(c * size, (c + 1) * size):
        first += sums[0, j]
        second += sums[1, j]
    return first, second


@inline
def learn(first, last, sums, size, count, weight, bias, eps, mean, var, rstd, own):
    """What channels' lines need to become normal, place by place: the mean in two parts, scale and shift.

    Their first numbers, own[0], are overwritten.
    """
    for c in range(first, last):
        total, square = of_channel(sums, c, size)
        average, spread = moments(np.float64(own[0, c * size]) if size else 0.0, total, square, count)
        root = 1 / np.sqrt(spread + eps)
        mean[c], var[c], rstd[c] = average, spread, root
        for j in range(c * size, (c + 1) * size):
            own[0, j], own[1, j], own[2, j], own[3, j] = average, average - mean[c], weight[c] * root, bias[c]


@inline
def learn_slopes(first, last, sums, size, count, weight, rstd, gweight, gbias, own):
    """What their adjoint needs beside the mean: shift, tilt and factor."""
    for c in range(first, last):
        total, along = of_channel(sums, c, size)
        gweight[c], gbias[c] = along * rstd[c], total
        for j in range(c * size, (c + 1) * size):
            own[1, j], own[2, j], own[3, j] = total / count, along * rstd[c] * rstd[c] / count, weight[c] * rstd[c]


@inline
def make_normal(x, own, n0, n1, a, b, out):
    """The results from what `learn` knows."""
    high, low, scale, shift = own[0, a:b], own[1, a:b], own[2, a:b], own[3, a:b]
    for n in range(n0, n1):
        row, into = x[n, a:b], out[n, a:b]
        for j in range(len(row)):
            into[j] = away_from(row[j], high[j], low[j]) * scale[j] + shift[j]


@inline
def make_adjoint(g, x, own, n0, n1, a, b, gx):
    """The gradient of x from what `learn_slopes` knows."""
    centre, shift, tilt, factor = own[0, a:b], own[1, a:b], own[2, a:b], own[3, a:b]
    for n in range(n0, n1):
        row, slope, into = x[n, a:b], g[n, a:b], gx[n, a:b]
        for j in range(len(row)):
            into[j] = (slope[j] - shift[j] - (row[j] - centre[j]) * tilt[j]) * factor[j]


# ---- channels shared by the threads ----------------------------------------------------------------------------------


@workers.shared(None)
def _normal_channels(x, sums, size, count, weight, bias, eps, mean, var, rstd, own, out, first, last):
    step = max(1, _ABREAST // max(1, size))
    for begin in range(first, last, step):
        end = min(begin + step, last)
        if len(x) > 0:
            repeat(x[0], size, begin, end, size, own)
        sum_up(x, own, 0, len(x), begin * size, end * size, sums[0])
        learn(begin, end, sums[0], size, count, weight, bias, eps, mean, var, rstd, own)
        make_normal(x, own, 0, len(x), begin * size, end * size, out)


@workers.shared(None)
def _adjoint_channels(g, x, mean, sums, size, count, weight, rstd, gweight, gbias, own, gx, first, last):
    step = max(1, _ABREAST // max(1, size))
    for begin in range(first, last, step):
        end = min(begin + step, last)
        repeat(mean, 1, begin, end, size, own)
        sum_products(g, x, own, 0, len(x), begin * size, end * size, sums[0])
        learn_slopes(begin, end, sums[0], size, count, weight, rstd, gweight, gbias, own)
        make_adjoint(g, x, own, 0, len(x), begin * size, end * size, gx)


# ---- images shared by the threads ------------------------------------------------------------------------------------


@workers.shared(None)
def _sums_of_chunks(x, own, images, sums, first, last):
    for chunk in range(first, last):
        for a in range(0, x.shape[1], _ABREAST):
            b = min(a + _ABREAST, x.shape[1])
            sum_up(x, own, chunk * images, min((chunk + 1) * images, len(x)), a, b, sums[chunk])


@workers.shared(None)
def _products_of_chunks(g, x, own, images, sums, first, last):
    for chunk in range(first, last):
        for a in range(0, x.shape[1], _ABREAST):
            b = min(a + _ABREAST, x.shape[1])
            sum_products(g, x, own, chunk * images, min((chunk + 1) * images, len(x)), a, b, sums[chunk])


@inline
def add_chunks(sums):
    """Both sums of each place over all chunks."""
    for chunk in range(1, len(sums)):
        for i in range(2):
            total, more = sums[0, i], sums[chunk, i]
            for j in range(len(total)):
                total[j] += more[j]
    return sums[0]


@jit(None)
def _normal_of_chunks(sums, size, count, weight, bias, eps, mean, var, rstd, own):
    learn(0, len(mean), add_chunks(sums), size, count, weight, bias, eps, mean, var, rstd, own)


@jit(None)
def _adjoint_of_chunks(sums, size, count, weight, rstd, gweight, gbias, own):
    learn_slopes(0, len(rstd), add_chunks(sums), size, count, weight, rstd, gweight, gbias, own)


@workers.shared(None)
def _normal_images(x, own, out, first, last):
    for a in range(0, x.shape[1], _ABREAST):
        make_normal(x, own, first, last, a, min(a + _ABREAST, x.shape[1]), out)


@workers.shared(None)
def _adjoint_images(g, x, own, gx, first, last):
    for a in range(0, x.shape[1], _ABREAST):
        make_adjoint(g, x, own, first, last, a, min(a + _ABREAST, x.shape[1]), gx)
