"""Reductions of float32 written out in vectors: sums, products, extremes, and sums of squares.

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
from .vector import Vector, Writer, address, instruction

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
    around: bool = False  # whether of the squares of the differences from a centre


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
SQUARES = ADDED._replace(around=True)
LARGEST = Fold(np.maximum, -np.inf, partial(_further, ">"), np.float32)
SMALLEST = Fold(np.minimum, np.inf, partial(_further, "<"), np.float32)


class Folded:
    """The function (x, axis, keepdims) that gives the fold of a float32 array over some of its axes.

    It comes in the accumulators' dtype. For one around a centre that follows, in float64: a number, or with kept axes.
    """

    def __init__(self, fold, name):
        self.fold = fold
        loops, twin = (_along_around, _down_around) if fold.around else (_along, _down), partial(_by_numpy, fold.numpy)
        row, columns = [instruction(partial(emit, fold), _Accumulators) for emit in (_fold_row, _fold_columns)]
        self.along, self.down = [
            workers.shared(twin)(variant(loop, f"_{name}{loop.__name__}", fold_row=row, fold_columns=columns))
            for loop in loops
        ]

    def __call__(self, x, axis, keepdims, *centre):
        numpys, dtype = self.fold.numpy.reduce, self.fold.dtype
        if x.size <= _FEW or axis == ():
            return numpys(_squares(x, *centre) if centre else x, axis, dtype, None, keepdims)
        turned = x.flags.fnc
        planes, left, rest, shape = _plan(x.shape, axis, keepdims, turned)
        if centre:
            centre = (_of_lines(*centre, turned, planes, left, rest),)
        made = self._down_rows(compact(x.T if turned else x).reshape(planes), *centre)
        made = (numpys(made.reshape(left), rest) if rest else made).reshape(shape)
        return made.T if turned else made

    def _down_rows(self, x, *centre):
        l, m, n = x.shape
        parts = min(m, m * n // (_PART if n < _MANY else _PART_OF_MANY)) or 1
        out = np.empty((l, parts, n), self.fold.dtype)
        loop = self.along if n == 1 else self.down
        loop(out.size, x, *centre, out, grain=-(-_GRAIN * parts // m))
        return self.fold.numpy.reduce(out, 1) if parts > 1 else out


def _squares(x, centre):
    return np.square(x - np.float64(centre))


def _of_lines(centre, turned, planes, left, rest):
    """The centre of each line (l, n) of the planes."""
    lines = planes[0], planes[2]
    if np.ndim(centre) == 0:
        return np.full(lines, centre)
    centre = centre.T if turned else centre
    if rest:
        centre = np.broadcast_to(centre.reshape([1 if i in rest else n for i, n in enumerate(left)]), left)
    return compact(centre).reshape(lines)


@lru_cache(1024)
def _plan(shape, axis, keepdims, turned):
    """How to fold an array, or its transpose, over axes: its planes for the last run of adjacent ones.

    Then the shape that their folds have, those of its axes that are left to be folded, and the shape of the result.
    """
    axes = range(len(shape)) if axis is None else axis
    over = set(np.lib.array_utils.normalize_axis_tuple(axes, len(shape)))
    if turned:
        shape, over = shape[::-1], {len(shape) - 1 - i for i in over}
    out = tuple([1 if i in over else size for i, size in enumerate(shape) if keepdims or i not in over])
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


def _by_numpy(ufunc, x, *centre_and_out_and_range):
    *centre, out, first, last = centre_and_out_and_range
    rows, lines, parts = x.reshape(-1, x.shape[2]), out.reshape(-1, out.shape[2]), out.shape[1]
    while first < last:
        k, a, b = _columns(first, last, out)
        p, q = _rows(k, x, out)
        numbers = rows[p:q, a:b]
        ufunc.reduce(_squares(numbers, centre[0][k // parts, a:b]) if centre else numbers, 0, out.dtype, lines[k, a:b])
        first += b - a


fold_row = fold_columns = None  # of each loop its own


def _along(x, out, first, last):
    one = x.dtype.type(0)
    for i in range(first, last):
        p, q = _rows(i, x, out)
        fold_row(one, (address(x) + p * x.itemsize, q - p, address(out) + i * out.itemsize))


def _along_around(x, centre, out, first, last):
    one, parts = x.dtype.type(0), out.shape[1]
    for i in range(first, last):
        p, q = _rows(i, x, out)
        around = address(centre) + i // parts * centre.itemsize
        fold_row(one, (address(x) + p * x.itemsize, q - p, address(out) + i * out.itemsize, around))


def _down(x, out, first, last):
    one, n = x.dtype.type(0), x.shape[2]
    while first < last:
        k, a, b = _columns(first, last, out)
        p, q = _rows(k, x, out)
        source, into = address(x) + (p * n + a) * x.itemsize, address(out) + first * out.itemsize
        fold_columns(one, (source, n, q - p, b - a, into))
        first += b - a


def _down_around(x, centre, out, first, last):
    one, n, parts = x.dtype.type(0), x.shape[2], out.shape[1]
    while first < last:
        k, a, b = _columns(first, last, out)
        p, q = _rows(k, x, out)
        source, into = address(x) + (p * n + a) * x.itemsize, address(out) + first * out.itemsize
        fold_columns(one, (source, n, q - p, b - a, into, address(centre) + (k // parts * n + a) * centre.itemsize))
        first += b - a


class _Accumulators:
    """What the two instructions write of a fold: vectors of numbers that are read, and of those that are kept."""

    def __init__(self, fold, o, count=None):
        from numba import types

        kept = types.float64 if fold.dtype is np.float64 else types.float32
        self.o = o.of(count or vector.width() * 8 // kept.bitwidth)
        self.kept = Writer(*o.made[:2], kept, self.o.count)
        self.start, self.step = o.ir.Constant(self.kept.vector, [fold.start] * self.o.count), partial(fold.step, o)

    def joined(self, total, at, mask=None, centre=None):
        """The accumulators after the vector at `at`, of which a mask may leave places out."""
        o = self.o
        numbers = o.get(at) if mask is None else o.load(at, mask)
        if self.kept.bits > o.bits:
            numbers = o.builder.fpext(numbers, self.kept.vector)
        if centre is not None:
            away = Vector(o.builder, numbers) - Vector(o.builder, centre)
            numbers = (away * away).value
        found = self.step(total, numbers)
        return found if mask is None else o.builder.select(mask, found, total)

    def along(self, x, n, *centre):
        """The fold of the n numbers at x."""
        from numba.core import cgutils

        o, builder, chains = self.o, self.o.builder, _CHAINS if self.o.count > 1 else 1
        step = chains * o.count
        centre = [o.splat(builder.load(o.pointer(*centre, self.kept.scalar)))] if centre else []
        joined = lambda total, at, mask=None: self.joined(total, at, mask, *centre)
        places = [cgutils.alloca_once_value(builder, self.start) for _ in range(chains)]
        whole = _cut(o, n, step)
        with builder.if_then(builder.icmp_signed(">", whole, o.whole(0))):
            i, totals, end = o.loop(whole, step, [self.start] * chains)
            totals = [joined(total, o.at(x, i, o.whole(c * o.count))) for c, total in enumerate(totals)]
            end(totals)
            for total, place in zip(totals, places):
                builder.store(total, place)
        with builder.if_then(builder.icmp_signed("<", whole, n)):
            rest = builder.sub(n, whole)
            i, (total,), end = o.loop(rest, o.count, [builder.load(places[0])])
            mask = o.first(builder.sub(rest, i)) if o.count > 1 else None
            total = joined(total, o.at(x, whole, i), mask)
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


def _fold_row(fold, o, x, n, into, *centre):
    """The fold of the n numbers at x, one after another where they do not fill a vector."""
    builder, made, single = o.builder, _Accumulators(fold, o), _Accumulators(fold, o, 1)
    with builder.if_else(builder.icmp_signed("<", n, o.whole(made.o.count))) as (few, many):
        for branch, way in (few, single), (many, made):
            with branch:
                builder.store(way.along(x, n, *centre), o.pointer(into, way.kept.scalar))


def _fold_columns(fold, o, x, apart, m, n, into, *centre):
    """The folds of the n columns of the m rows at x, each of them `apart` numbers after the one before."""
    made = _Accumulators(fold, o)
    o, builder, done = made.o, o.builder, o.whole(0)

    def over_rows(first, vectors, mask=None):
        away = [o.whole(v * o.count) for v in range(vectors)]
        get = made.kept.get if mask is None else lambda at: made.kept.load(at, mask)
        middles = [get(made.kept.at(*centre, first, v)) if centre else None for v in away]
        i, totals, end = o.loop(m, 1, [made.start] * vectors)
        line = o.at(x, first, builder.mul(i, apart))
        totals = [made.joined(total, o.at(line, v), mask, middle) for total, v, middle in zip(totals, away, middles)]
        end(totals)
        return [(total, made.kept.at(into, first, v)) for total, v in zip(totals, away)]

    for vectors in ((4 if centre else 8) * vector.abreast(), 4, 1):
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
