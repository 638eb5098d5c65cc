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


def over_rows(formula, reads, known, adds, wide=False):
    """The instruction (m, apart, n, *addresses): a formula over n columns of m > 0 rows that lie `apart` numbers apart.

    formula(Mathematics, *vectors) gives of the numbers of `reads` matrices, and then of those `known` of the columns,
    what to write, or None, and what to add up in each of `adds` sums. The addresses are those of what it is given, of
    the matrix to write, and of the sums, in float64. wide: it is given float64.
    """
    return instruction(partial(_write, formula, reads, known, adds, wide), formula)


def _write(formula, reads, known, adds, wide, o, m, apart, n, *addresses):
    from numba import types

    builder, done = o.builder, o.whole(0)
    kept = Writer(*o.made[:2], types.float64, o.count)
    matrices, columns, into = addresses[:reads], addresses[reads : reads + known], addresses[reads + known :]
    widened = lambda value: value if value.type == kept.vector else builder.fpext(value, kept.vector)

    def strip(first, vectors, mask=None):
        rest = () if mask is None else (mask,)
        get, put = (o.get, o.put) if mask is None else (o.load, o.store)
        away = [builder.add(first, o.whole(v * o.count)) for v in range(vectors)]
        read = lambda at: Vector(builder, widened(get(at, *rest)) if wide else get(at, *rest))
        own = [[read(o.at(x, v)) for x in columns] for v in away]
        zero = o.ir.Constant(kept.vector, [0.0] * o.count)
        i, totals, end = o.loop(m, 1, [zero] * (vectors * adds))
        line, sums = builder.mul(i, apart), []
        for j, v in enumerate(away):
            written, *added = formula(Mathematics, *[read(o.at(x, line, v)) for x in matrices], *own[j])
            if written is not None:
                put(written.value, o.at(into[0], line, v), *rest)
            for value in added[:adds]:
                sums.append(builder.fadd(totals[len(sums)], widened(value.value)))
        end(sums)
        for i, total in enumerate(sums):
            at = kept.at(into[len(into) - adds + i % adds], away[i // adds])
            (kept.put if mask is None else kept.store)(total, at, *rest)

    for vectors in (2 * vector.abreast(), 1):
        span = builder.and_(builder.sub(n, done), o.whole(-vectors * o.count))
        with builder.if_then(builder.icmp_signed(">", span, o.whole(0))):
            i, _, end = o.loop(span, vectors * o.count, [])
            strip(builder.add(done, i), vectors)
            end()
        done = builder.add(done, span)
    with builder.if_then(builder.icmp_signed("<", done, n)):
        strip(done, 1, o.first(builder.sub(n, done)))


def exponentials(m, x, top):
    """exp(x - top), and it to be added up."""
    e = m.exp(x - top)
    return e, e


def exponentials_alone(m, x, top):
    """To be added up alone."""
    return None, m.exp(x - top)


def products(m, g, p):
    """Products to be added up."""
    return None, g * p


def itself(m, g):
    """Numbers to be added up."""
    return None, g


def scaled(m, x, factor):
    """x times a number of its line."""
    return x * factor, None


def less(m, x, top, log):
    """x less what was subtracted before the exponentials, and the logarithm of their sum."""
    return (x - top) - log, None


def softmax_slope(m, g, p, high, low):
    """The adjoint of softmax, from the sum of the products in two parts."""
    return ((g - high) - low) * p, None


def log_softmax_slope(m, g, p, total):
    """The adjoint of its logarithm, from the sum of g."""
    return g - m.exp(p) * total, None


_raise, _sum_up = over_rows(exponentials, 1, 1, 1), over_rows(exponentials_alone, 1, 1, 1)
_multiply, _add = over_rows(products, 2, 0, 1), over_rows(itself, 1, 0, 1)
_scale, _subtract = over_rows(scaled, 1, 1, 0), over_rows(less, 1, 2, 0)
_slope, _log_slope = over_rows(softmax_slope, 2, 2, 0), over_rows(log_softmax_slope, 2, 1, 0)


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
