"""Vector code between rows of an image and tiles of numbers of it, 2 or 4 apart, for `winograd`.

A transform is a formula on the rows of a tile, then the same on its columns. The rows of an image are vectors as they
lie; its columns, every second or fourth number, become vectors by shuffles in the registers: a loop that loads every
fourth number takes as long as all the rest. Vectors hold the same number of tiles side by side.
"""

import numpy as np

from . import vector
from .jit import inline
from .scratch import LINE
from .vector import ROWS, Vector, address

_PAST = 16  # bytes that go past the caches at once: as NumPy aligns arrays
_LARGE = 8 << 20  # bytes


def down(formula, reads):
    """The instruction `it(one, (n, source, row, first, last, low, high, none, into, apart))`: the formula on columns.

    It takes n columns of `reads` rows, `row` apart from `source` on; rows before `first` and from `last` on are the
    zeros at `none`, and so is each column outside low..high. What it gives goes to rows `apart` from each other, in
    whole vectors.
    """

    def write(o, n, source, row, first, last, low, high, none, into, apart):
        builder = o.builder
        starts = []
        for k in range(reads):
            there = builder.and_(
                builder.icmp_signed(">=", o.whole(k), first), builder.icmp_signed("<", o.whole(k), last)
            )
            starts.append(builder.select(there, o.at(source, builder.mul(row, o.whole(k))), none))
        b, _, end = o.loop(n, o.count, [])
        mask = builder.and_(o.first(builder.sub(high, b)), builder.not_(o.first(builder.sub(low, b))))
        given = [Vector(builder, o.load(o.at(start, b), mask)) for start in starts]
        for k, value in enumerate(formula(*given)):
            o.put(value.value, o.at(into, builder.mul(apart, o.whole(k)), b))
        end()

    return vector.instruction(write, formula)


def across(formula, reads, side):
    """The instruction `it(one, (n, source, further, into, apart))`: the formula on the columns of n tiles of a row.

    Tile t's columns 0 to side - 1 are source[side t …], the next ones source[further + side t …], and so on; the k-th
    number that the formula gives is into[k apart + t]. It reads whole vectors.
    """

    def write(o, n, source, further, into, apart):
        builder, count = o.builder, o.count
        b, _, end = o.loop(n, count, [])
        mask = o.first(builder.sub(n, b))

        def columns(first):
            """Columns first and first + 1 of the tiles."""
            group, place = divmod(first, side)
            line = o.at(source, builder.mul(further, o.whole(group)), builder.mul(b, o.whole(side)))
            vectors = [o.get(o.at(line, o.whole(v * count))) for v in range(side)]
            every = [[*range(place + k, 2 * count, side)] for k in range(2)]
            if side == 2:
                return [o.picked(*vectors, places) for places in every]
            left, right = (o.picked(*pair, [*every[0], *every[1]]) for pair in (vectors[:2], vectors[2:]))
            low = [*range(count // 2), *range(count, count + count // 2)]
            return o.picked(left, right, low), o.picked(left, right, [place + count // 2 for place in low])

        tile = [column for first in range(0, reads, 2) for column in columns(first)]
        for k, value in enumerate(formula(*(Vector(builder, x) for x in tile))):
            o.store(value.value, o.at(into, builder.mul(apart, o.whole(k)), b), mask)
        end()

    return vector.instruction(write, formula)


def back(formula, reads, side):
    """The instruction `it(one, (n, source, row, step, into, apart))`: the formula both ways, on n tiles.

    The numbers at (i, j) of tile t are source[i row + j step + t]; result (a, q) is into[a apart + side t + q]. It
    reads and writes whole vectors.
    """

    def write(o, n, source, row, step, into, apart):
        builder = o.builder
        b, _, end = o.loop(n, o.count, [])

        def number(i, j):
            return Vector(
                builder, o.get(o.at(source, builder.mul(row, o.whole(i)), builder.mul(step, o.whole(j)), b))
            )

        def woven(columns):
            """The numbers of the columns in turn."""
            if len(columns) == 1:
                return columns
            return o.interleaved(woven(columns[::2]), woven(columns[1::2]), 1)

        lines = zip(*(formula(*(number(i, j) for i in range(reads))) for j in range(reads)), strict=True)
        for a, line in enumerate(lines):
            at = o.at(into, builder.mul(apart, o.whole(a)), builder.mul(b, o.whole(side)))
            for v, value in enumerate(woven([x.value for x in formula(*line)])):
                o.put(value, o.at(at, o.whole(v * o.count)))
        end()

    return vector.instruction(write, formula)


def filters(formula, reads):
    """The instruction `it(one, (n, taps, into, apart))`: the formula both ways, on n times ROWS filters.

    taps (n, reads * reads, ROWS) lie one after the other; number k of the n times ROWS results is at k apart.
    """

    def write(o, n, taps, into, apart):
        o = o.of(ROWS)
        c, _, end = o.loop(n, 1, [])
        at = o.at(taps, o.builder.mul(c, o.whole(reads * reads * ROWS)))
        tap = lambda i, j: Vector(o.builder, o.get(o.at(at, o.whole((i * reads + j) * ROWS))))
        lines = zip(*(formula(*(tap(i, j) for i in range(reads))) for j in range(reads)), strict=True)
        for k, value in enumerate(value for line in lines for value in formula(*line)):
            o.put(value.value, o.at(into, o.builder.mul(apart, o.whole(k)), o.builder.mul(c, o.whole(ROWS))))
        end()

    return vector.instruction(write, formula)


def move(through):
    """The instruction `it(one, (n, source, more, into))`: n numbers of a row, plus the number at `more`.

    With `through`, whole vectors of 16 bytes, where they are to be aligned, go past the caches: what is larger than
    they are would first be read from memory to be overwritten. It reads whole vectors.
    """

    def write(o, n, source, more, into):
        builder = o.builder
        added = o.splat(builder.load(o.pointer(more, o.scalar)))
        b, _, end = o.loop(n, o.count, [])
        value = builder.fadd(o.get(o.at(source, b)), added)
        if through:
            full = builder.icmp_signed("<=", builder.add(b, o.whole(o.count)), n)
            with builder.if_else(full) as (then, otherwise):
                with then:
                    o.past(value, o.at(into, b))
                with otherwise:
                    o.store(value, o.at(into, b), o.first(builder.sub(n, b)))
        else:
            o.store(value, o.at(into, b), o.first(builder.sub(n, b)))
        end()

    return vector.instruction((lambda o, *given: write(o.of(_PAST * 8 // o.bits), *given)) if through else write)


_move, _stream = move(False), move(True)


@inline
def put(one, n, source, more, into, through):
    """The same, past the caches if `through` says so and `into` allows it."""
    if through and into % _PAST == 0:
        _stream(one, (n, source, more, into))
    else:
        _move(one, (n, source, more, into))


@inline
def past(out, n):
    """Whether results of rows of n numbers go past the caches, being larger than what those would keep of them."""
    return out.size * out.itemsize >= _LARGE and n * out.itemsize % _PAST == 0


def beyond_caches(out):
    """Whether an array is larger than what the caches would keep of it."""
    return out.nbytes >= _LARGE


_zeros = vector.instruction(lambda o, n, into: _write_zeros(o.of(LINE * 8 // o.bits), n, into))


def _write_zeros(o, n, into):
    b, _, end = o.loop(n, o.count, [])
    o.past(o.ir.Constant(o.vector, None), o.at(into, b))
    end()


@inline
def clear(row, through):
    """Zeros in a flat array, whole lines of the cache past it if `through` says so."""
    start = min(len(row), -address(row) % LINE // row.itemsize) if through else len(row)
    stop = start + (len(row) - start) * row.itemsize // LINE * LINE // row.itemsize
    for j in range(start):
        row[j] = 0
    if start < stop:
        _zeros(np.uint8(0), ((stop - start) * row.itemsize, address(row) + start * row.itemsize))  # of any dtype
    for j in range(stop, len(row)):
        row[j] = 0
