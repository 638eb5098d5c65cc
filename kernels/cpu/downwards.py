"""Softmax's kin along lines that run down the rows of planes (see `planes`): vectors of adjacent lines, written out.

Sums are in float64. The compiler by itself would take only as many numbers at a time as fit a vector of those; here the
formula is computed in whole vectors of the numbers' own precision, and what it gives is widened to be added up.
"""

import math
from functools import partial

import numpy as np

from . import vector
from .jit import inline
from .planes import ABREAST, tile
from .vector import Mathematics, Vector, Writer, address, instruction


def _over_rows(formula, reads, known, adds):
    """The instruction (m, apart, n, *addresses): a formula over n columns of m rows that lie `apart` numbers apart.

    formula(Mathematics, *vectors) gives of the numbers of `reads` matrices, and then of those `known` of the columns,
    what to write, or None, and what to add up if it `adds`. The addresses are those of what it is given, of the matrix
    to write, and of the sums, in float64.
    """
    return instruction(partial(_write, formula, reads, known, adds), formula)


def _write(formula, reads, known, adds, o, m, apart, n, *addresses):
    from numba import types

    builder, done = o.builder, o.whole(0)
    kept = Writer(*o.made[:2], types.float64, o.count)
    matrices, columns, into = addresses[:reads], addresses[reads : reads + known], addresses[reads + known :]

    def strip(first, vectors, mask=None):
        rest = () if mask is None else (mask,)
        get, put = (o.get, o.put) if mask is None else (o.load, o.store)
        away = [builder.add(first, o.whole(v * o.count)) for v in range(vectors)]
        own = [[Vector(builder, get(o.at(x, v), *rest)) for x in columns] for v in away]
        zero = o.ir.Constant(kept.vector, [0.0] * o.count)
        i, totals, end = o.loop(m, 1, [zero] * (vectors if adds else 0))
        line, sums = builder.mul(i, apart), []
        for j, v in enumerate(away):
            given = [Vector(builder, get(o.at(x, line, v), *rest)) for x in matrices]
            written, added = formula(Mathematics, *given, *own[j])
            if written is not None:
                put(written.value, o.at(into[0], line, v), *rest)
            if adds:
                wide = added.value if o.bits == kept.bits else builder.fpext(added.value, kept.vector)
                sums.append(builder.fadd(totals[j], wide))
        end(sums)
        for v, total in zip(away, sums):
            (kept.put if mask is None else kept.store)(total, kept.at(into[-1], v), *rest)

    for vectors in (2 * vector.abreast(), 1):
        span = builder.and_(builder.sub(n, done), o.whole(-vectors * o.count))
        with builder.if_then(builder.icmp_signed(">", span, o.whole(0))):
            i, _, end = o.loop(span, vectors * o.count, [])
            strip(builder.add(done, i), vectors)
            end()
        done = builder.add(done, span)
    with builder.if_then(builder.icmp_signed("<", done, n)):
        strip(done, 1, o.first(builder.sub(n, done)))


def _exponentials(m, x, top):
    e = m.exp(x - top)
    return e, e


def _exponentials_alone(m, x, top):
    return None, m.exp(x - top)


def _products(m, g, p):
    return None, g * p


def _itself(m, g):
    return None, g


def _scaled(m, x, factor):
    return x * factor, None


def _less(m, x, top, log):
    return (x - top) - log, None


def _softmax_slope(m, g, p, high, low):
    return ((g - high) - low) * p, None


def _log_softmax_slope(m, g, p, total):
    return g - m.exp(p) * total, None


_raise, _sum_up = _over_rows(_exponentials, 1, 1, True), _over_rows(_exponentials_alone, 1, 1, True)
_multiply, _add = _over_rows(_products, 2, 0, True), _over_rows(_itself, 1, 0, True)
_scale, _subtract = _over_rows(_scaled, 1, 1, False), _over_rows(_less, 1, 2, False)
_slope, _log_slope = _over_rows(_softmax_slope, 2, 2, False), _over_rows(_log_softmax_slope, 2, 1, False)


@inline
def _at(x, k, a):
    """Where the line a of the plane k begins."""
    return address(x) + (k * x.shape[1] * x.shape[2] + a) * x.itemsize


@inline
def _tops(x, k, a, b, top):
    """The largest number of each line a … b of a plane; a NaN need not be it: it stays in its line."""
    top[:] = -np.inf
    for i in range(x.shape[1]):
        row = x[k, i, a:b]
        for j in range(b - a):
            top[j] = row[j] if row[j] > top[j] else top[j]


@inline
def _raised(x, k, a, b, out, tops, totals):
    """exp(x - top) of the lines a … b, with their tops and their sums."""
    _tops(x, k, a, b, tops)
    into = address(tops), _at(out, k, a), address(totals)
    _raise(x.dtype.type(0), (x.shape[1], x.shape[2], b - a, _at(x, k, a)) + into)


@inline
def _times(out, k, a, b, factors):
    """The lines a … b times a number of each, in place."""
    lines = _at(out, k, a)
    _scale(out.dtype.type(0), (out.shape[1], out.shape[2], b - a, lines, address(factors), lines))


def softmax(x, out, first, last):
    """exp(x) / sum exp(x) of each line."""
    tops, totals = np.empty(ABREAST, x.dtype), np.empty(ABREAST)
    while first < last:
        k, a, b = tile(first, last, x)
        _raised(x, k, a, b, out, tops, totals)
        for j in range(b - a):
            tops[j] = 1 / totals[j]
        _times(out, k, a, b, tops)
        first += b - a


def logsumexp_backward(x, g, out, first, last):
    """The adjoint of the logarithm of the sum of the exponentials: g exp(x) / sum exp(x), for g (l, 1, n)."""
    tops, totals = np.empty(ABREAST, x.dtype), np.empty(ABREAST)
    while first < last:
        k, a, b = tile(first, last, x)
        _raised(x, k, a, b, out, tops, totals)
        for j in range(b - a):
            tops[j] = g[k, 0, a + j] / totals[j]
        _times(out, k, a, b, tops)
        first += b - a


def softmax_backward(g, p, out, first, last):
    """The adjoint of softmax at its result p."""
    one, totals = g.dtype.type(0), np.empty(ABREAST)
    high, low = np.empty(ABREAST, g.dtype), np.empty(ABREAST, g.dtype)
    while first < last:
        k, a, b = tile(first, last, g)
        size, slopes, plane = (g.shape[1], g.shape[2], b - a), _at(g, k, a), _at(p, k, a)
        _multiply(one, size + (slopes, plane, address(totals)))
        for j in range(b - a):  # what the first part has lost is the second
            high[j] = totals[j]
            low[j] = totals[j] - high[j]
        _slope(one, size + (slopes, plane, address(high), address(low), _at(out, k, a)))
        first += b - a


def log_softmax(x, out, first, last):
    """The softmax's logarithm."""
    one, totals = x.dtype.type(0), np.empty(ABREAST)
    tops, logs = np.empty(ABREAST, x.dtype), np.empty(ABREAST, x.dtype)
    while first < last:
        k, a, b = tile(first, last, x)
        size, source = (x.shape[1], x.shape[2], b - a), _at(x, k, a)
        _tops(x, k, a, b, tops)
        _sum_up(one, size + (source, address(tops), address(totals)))
        for j in range(b - a):
            logs[j] = math.log(totals[j])
        _subtract(one, size + (source, address(tops), address(logs), _at(out, k, a)))
        first += b - a


def log_softmax_backward(g, p, out, first, last):
    """The adjoint of softmax's logarithm at its result p."""
    one, totals, rounded = g.dtype.type(0), np.empty(ABREAST), np.empty(ABREAST, g.dtype)
    while first < last:
        k, a, b = tile(first, last, g)
        size, slopes = (g.shape[1], g.shape[2], b - a), _at(g, k, a)
        _add(one, size + (slopes, address(totals)))
        for j in range(b - a):
            rounded[j] = totals[j]
        _log_slope(one, size + (slopes, _at(p, k, a), address(rounded), _at(out, k, a)))
        first += b - a


def logsumexp(x, out, first, last):
    """The logarithm of the sum of the exponentials of each line."""
    one, tops, totals = x.dtype.type(0), np.empty(ABREAST, x.dtype), np.empty(ABREAST)
    while first < last:
        k, a, b = tile(first, last, x)
        _tops(x, k, a, b, tops)
        _sum_up(one, (x.shape[1], x.shape[2], b - a, _at(x, k, a), address(tops), address(totals)))
        for j in range(b - a):
            out[k, a + j] = tops[j] + math.log(totals[j])
        first += b - a
