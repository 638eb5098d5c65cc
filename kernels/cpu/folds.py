"""Reductions of float32 written out in vectors: sums, products and extremes.

The axes that lie side by side are seen as the m rows of planes (l, m, n). The accumulators stay in registers: along a
row a few vectors of them, none of which waits for another; down columns a vector for each of as many as there is room
for. Sums and products are taken in float64, for which the compiler by itself would take vectors of half the machine's
width. What is joined to what depends on the shape alone.
"""

from collections.abc import Callable
from functools import lru_cache, partial, reduce
from math import prod
from typing import NamedTuple

import numpy as np

from . import vector, workers
from .jit import inline, variant
from .layout import compact
from .vector import Writer, address, instruction

_SINGLE = np.dtype(np.float32)
_FEW = 4096  # elements that NumPy has joined before a loop would have been called
_GRAIN = 10_000  # elements that outlast handing a slice to a worker
_CHAINS = 4  # vectors of accumulators along a row
_MANY = 64  # columns from which on threads need not share their rows
_PART, _PART_OF_MANY = 1 << 13, 1 << 18  # elements whose rows are joined by themselves


class Fold(NamedTuple):
    """A reduction: NumPy's function for it, what it begins with, and its step for two vectors of a Writer."""

    numpy: np.ufunc
    start: float
    step: Callable
    dtype: type  # of its accumulators


def _add(o, a, b):
    return o.builder.fadd(a, b)


def _multiply(o, a, b):
    return o.builder.fmul(a, b)


def _further(comparison, o, a, b):
    """b where it lies further out than a or is NaN."""
    builder = o.builder
    number = builder.select(builder.fcmp_ordered(comparison, b, a), b, a)  # one instruction; a NaN in a stays
    return builder.select(builder.fcmp_unordered("uno", b, b), b, number)


ADDED, MULTIPLIED = Fold(np.add, 0.0, _add, np.float64), Fold(np.multiply, 1.0, _multiply, np.float64)
LARGEST = Fold(np.maximum, -np.inf, partial(_further, ">"), np.float32)
SMALLEST = Fold(np.minimum, np.inf, partial(_further, "<"), np.float32)


def folded(fold, name):
    """The function (x, axis, keepdims) that gives the fold of a float32 array over some of its axes."""
    along = variant(_along, f"_{name}_along", fold_row=instruction(partial(_fold_row, fold), _Accumulators))
    down = variant(_down, f"_{name}_down", fold_columns=instruction(partial(_fold_columns, fold), _Accumulators))
    along, down = [workers.shared(partial(_by_numpy, fold.numpy))(loop) for loop in (along, down)]

    def over(x, axis, keepdims):
        if x.size <= _FEW:
            return np.asarray(fold.numpy.reduce(x, axis, fold.dtype, None, keepdims), _SINGLE)
        turned = x.flags.fnc
        planes, left, rest, shape = _plan(x.shape, axis, keepdims, turned)
        if not planes:
            return x.copy()
        made = down_rows(compact(x.T if turned else x).reshape(planes))
        if rest:
            made = fold.numpy.reduce(made.reshape(left), rest)
        made = made.astype(_SINGLE, copy=False).reshape(shape)
        return made.T if turned else made

    def down_rows(x):
        l, m, n = x.shape
        parts = min(m, m * n // (_PART if n < _MANY else _PART_OF_MANY)) or 1
        out = np.empty((l, parts, n), fold.dtype)
        loop = along if n == 1 else down
        loop(out.size, x, out, grain=-(-_GRAIN * parts // m))
        return fold.numpy.reduce(out, 1) if parts > 1 else out

    return over


@lru_cache(1024)
def _plan(shape, axis, keepdims, turned):
    """How to fold an array, or its transpose, over axes: its planes for the last run of adjacent ones, () for no axes.

    Then the shape that their folds have, those of its axes that are left to be folded, and the shape of the result.
    """
    axes = range(len(shape)) if axis is None else axis
    over = set(np.lib.array_utils.normalize_axis_tuple(axes, len(shape)))
    if turned:
        shape, over = shape[::-1], {len(shape) - 1 - i for i in over}
    out = tuple([1 if i in over else size for i, size in enumerate(shape) if keepdims or i not in over])
    if not over:
        return (), (), (), out
    last = max(over)
    first = next(i for i in range(last, -1, -1) if i - 1 not in over)
    before, after = shape[:first], shape[last + 1 :]
    planes = prod(before), prod(shape[first : last + 1]), prod(after)
    return planes, before + after, tuple(sorted(over - set(range(first, last + 1)))), out


@inline
def _rows(k, x, out):
    """Where the rows of the k-th part begin and end."""
    m, parts = x.shape[1], out.shape[1]
    if parts == 1:
        return k * m, (k + 1) * m
    row, part = k // parts * m, k % parts
    return row + m * part // parts, row + m * (part + 1) // parts


@inline
def _columns(first, last, out):
    """Of the places of `out` from first to last those of the next part: its number, and the columns a … b."""
    n = out.shape[2]
    k = first // n
    a = first - k * n
    return k, a, min(n, a + last - first)


def _by_numpy(ufunc, x, out, first, last):
    rows, lines = x.reshape(-1, x.shape[2]), out.reshape(-1, out.shape[2])
    while first < last:
        k, a, b = _columns(first, last, out)
        p, q = _rows(k, x, out)
        ufunc.reduce(rows[p:q, a:b], 0, out.dtype, lines[k, a:b])
        first += b - a


fold_row = fold_columns = None  # of each loop its own


def _along(x, out, first, last):
    one = x.dtype.type(0)
    for i in range(first, last):
        p, q = _rows(i, x, out)
        fold_row(one, (address(x) + p * x.itemsize, q - p, address(out) + i * out.itemsize))


def _down(x, out, first, last):
    one, n = x.dtype.type(0), x.shape[2]
    while first < last:
        k, a, b = _columns(first, last, out)
        p, q = _rows(k, x, out)
        source, into = address(x) + (p * n + a) * x.itemsize, address(out) + first * out.itemsize
        fold_columns(one, (source, n, q - p, b - a, into))
        first += b - a


class _Accumulators:
    """What the two instructions write of a fold: vectors of numbers that are read, and of those that are kept."""

    def __init__(self, fold, o, count=None):
        from numba import types

        kept = types.float64 if fold.dtype is np.float64 else types.float32
        self.o = o.of(count or vector.width() * 8 // kept.bitwidth)
        self.kept = Writer(*o.made[:2], kept, self.o.count)
        self.start, self.step = o.ir.Constant(self.kept.vector, [fold.start] * self.o.count), partial(fold.step, o)

    def joined(self, total, at, mask=None):
        """The accumulators after the vector at `at`, of which a mask may leave places out."""
        o = self.o
        numbers = o.get(at) if mask is None else o.load(at, mask)
        if self.kept.bits > o.bits:
            numbers = o.builder.fpext(numbers, self.kept.vector)
        found = self.step(total, numbers)
        return found if mask is None else o.builder.select(mask, found, total)

    def along(self, x, n):
        """The fold of the n numbers at x."""
        from numba.core import cgutils

        o, builder, step = self.o, self.o.builder, _CHAINS * self.o.count
        places = [cgutils.alloca_once_value(builder, self.start) for _ in range(_CHAINS)]
        whole = _cut(o, n, step)
        with builder.if_then(builder.icmp_signed(">", whole, o.whole(0))):
            i, totals, end = o.loop(whole, step, [self.start] * _CHAINS)
            totals = [self.joined(total, o.at(x, i, o.whole(c * o.count))) for c, total in enumerate(totals)]
            end(totals)
            for total, place in zip(totals, places):
                builder.store(total, place)
        with builder.if_then(builder.icmp_signed("<", whole, n)):
            rest = builder.sub(n, whole)
            i, (total,), end = o.loop(rest, o.count, [builder.load(places[0])])
            mask = o.first(builder.sub(rest, i)) if o.count > 1 else None
            total = self.joined(total, o.at(x, whole, i), mask)
            end([total])
            builder.store(total, places[0])
        return self._one(reduce(self.step, map(builder.load, places)))

    def _one(self, total):
        """All places of a vector in one number."""
        count = self.o.count
        while count > 1:
            count //= 2
            total = self.step(*[self.kept.picked(total, total, range(i, i + count)) for i in (0, count)])
        return self.o.builder.extract_element(total, self.o.ir.Constant(self.o.ir.IntType(32), 0))


def _cut(o, n, step):
    """The largest multiple of `step`, a power of two, up to n."""
    return o.builder.and_(n, o.whole(-step))


def _fold_row(fold, o, x, n, into):
    """The fold of the n numbers at x, one by one where they do not fill a vector."""
    builder, made, single = o.builder, _Accumulators(fold, o), _Accumulators(fold, o, 1)
    with builder.if_else(builder.icmp_signed("<", n, o.whole(made.o.count))) as (few, many):
        for branch, way in (few, single), (many, made):
            with branch:
                builder.store(way.along(x, n), o.pointer(into, way.kept.scalar))


def _fold_columns(fold, o, x, apart, m, n, into):
    """The folds of the n columns of the m rows at x, each of them `apart` numbers after the one before."""
    made = _Accumulators(fold, o)
    o, builder, done = made.o, o.builder, o.whole(0)

    def over_rows(first, vectors, mask=None):
        i, totals, end = o.loop(m, 1, [made.start] * vectors)
        line = o.at(x, first, builder.mul(i, apart))
        totals = [made.joined(total, o.at(line, o.whole(v * o.count)), mask) for v, total in enumerate(totals)]
        end(totals)
        return [(total, made.kept.at(into, first, o.whole(v * o.count))) for v, total in enumerate(totals)]

    for vectors in (8 * vector.abreast(), 4, 1):
        span = _cut(o, builder.sub(n, done), vectors * o.count)
        with builder.if_then(builder.icmp_signed(">", span, o.whole(0))):
            first, _, end = o.loop(span, vectors * o.count, [])
            for total, place in over_rows(builder.add(done, first), vectors):
                made.kept.put(total, place)
            end()
        done = builder.add(done, span)
    with builder.if_then(builder.icmp_signed("<", done, n)):
        mask = o.first(builder.sub(n, done))
        ((total, place),) = over_rows(done, 1, mask)
        made.kept.store(total, place, mask)
