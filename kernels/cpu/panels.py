"""Sums of outer products in registers: the innermost tile of small products, and of convolutions without columns.

A tile of R rows and V vectors has R V sums under way; each step multiplies R numbers by V vectors. Where the numbers
and the vectors of a step lie is what the callers choose, so that neither operand is copied into an order of its own.
"""

from functools import cache

import numpy as np

from . import vector
from .jit import inline
from .vector import address

_LINE = 64  # bytes of a cache's; a vector across two of them takes twice as long


def most():
    """Rows of a tile at most: the registers hold more than one vector of each."""
    return 8 if vector.abreast() == 2 else 4


def height(n):
    """Rows of the tiles of n rows, as even as may be."""
    return -(-n // max(1, -(-n // most())))


def vectors(rows):
    """How many vectors side by side keep the registers full: R V sums, V operands, and a number."""
    return min(8, (28 if vector.abreast() == 2 else 14) // (rows + 1))


@cache
def tile(rows, vectors):
    """The instruction `it(one, (used, a, row, step, h, places, k, c, c_row, columns, start))`: c = start + a h.

    Number i of row r is a[r row + i step], vector i begins at h[places[i]], for int64 places; start holds a row that is
    added to every one. Of the tile `used` rows and `columns` columns are written.
    """

    def emit(o, used, a, row, step, h, places, k, c, c_row, columns, start):
        builder, last = o.builder, o.builder.sub(used, o.whole(1))
        lines = []
        for r in range(rows):
            inside = builder.icmp_signed("<", o.whole(r), used)
            lines.append(o.at(a, builder.mul(row, builder.select(inside, o.whole(r), last))))
        begin = [o.get(o.at(start, o.whole(v * o.count))) for v in range(vectors)]
        i, sums, end = o.loop(k, 1, begin * rows)
        place = builder.add(places, builder.mul(i, o.whole(8)))
        row_h = o.at(h, builder.load(o.pointer(place, o.index)))
        operand = [o.get(o.at(row_h, o.whole(v * o.count))) for v in range(vectors)]
        offset = builder.mul(i, step)
        numbers = [o.splat(builder.load(o.pointer(o.at(line, offset), o.scalar))) for line in lines]
        totals = _multiplied(o, numbers, operand, sums)
        end(totals)
        masks = [o.first(builder.sub(columns, o.whole(v * o.count))) for v in range(vectors)]
        none = o.ir.Constant(masks[0].type, None)
        for r in range(rows):
            inside = builder.icmp_signed("<", o.whole(r), used)
            for v in range(vectors):
                at = o.at(c, builder.mul(c_row, o.whole(r)), o.whole(v * o.count))
                o.store(totals[r * vectors + v], at, builder.select(inside, masks[v], none))

    return vector.instruction(emit)


@cache
def pixels(rows, vectors):
    """The instruction `it(one, (a, places, lines, width, count, h, c))`: c += a h, summed over pixels.

    The pixels are `lines` lines of `count`; in row r of a they begin at a[places[r]], `width` from line to line; h has
    `vectors` vectors for each in turn, c as many in each row.
    """

    def emit(o, a, places, lines, width, count, h, c):
        builder, starts = o.builder, []
        for r in range(rows):
            place = builder.add(places, o.whole(8 * r))
            starts.append(o.at(a, builder.load(o.pointer(place, o.index))))
        zero = o.ir.Constant(o.vector, [0.0] * o.count)
        y, sums, end_lines = o.loop(lines, 1, [zero] * rows * vectors)
        line, first = builder.mul(y, width), builder.mul(y, count)
        q, sums, end_line = o.loop(count, 1, sums)
        at = builder.mul(builder.add(first, q), o.whole(vectors * o.count))
        operand = [o.get(o.at(h, at, o.whole(v * o.count))) for v in range(vectors)]
        offset = builder.add(line, q)
        numbers = [o.splat(builder.load(o.pointer(o.at(start, offset), o.scalar))) for start in starts]
        totals = _multiplied(o, numbers, operand, sums)
        end_line(totals)
        end_lines(totals)
        _added(o, totals, c)

    return vector.instruction(emit)


@cache
def dots(rows, columns):
    """The instruction `it(one, (g, apart, n, a, places, c))`: c += g aᵀ, summed over n numbers, lane by lane.

    Row r of g begins at g[r apart], row t of a at a[places[t]]; c holds a vector for each pair of rows. It reads whole
    vectors.
    """

    def emit(o, g, apart, n, a, places, c):
        builder = o.builder
        left = [o.at(g, builder.mul(apart, o.whole(r))) for r in range(rows)]
        right = []
        for t in range(columns):
            place = builder.add(places, o.whole(8 * t))
            right.append(o.at(a, builder.load(o.pointer(place, o.index))))
        zero = o.ir.Constant(o.vector, [0.0] * o.count)
        i, sums, end = o.loop(n, o.count, [zero] * rows * columns)
        totals = _multiplied(o, [o.get(o.at(x, i)) for x in left], [o.get(o.at(x, i)) for x in right], sums)
        end(totals)
        _added(o, totals, c)

    return vector.instruction(emit)


def _multiplied(o, left, right, sums):
    """Each sum with the product of its pair of vectors."""
    fma = o.function("fma", o.vector, [o.vector] * 3)
    pairs = [(x, y) for x in left for y in right]
    return [o.builder.call(fma, [x, y, total]) for (x, y), total in zip(pairs, sums, strict=True)]


def _added(o, totals, into):
    for n, total in enumerate(totals):
        spot = o.at(into, o.whole(n * o.count))
        o.put(o.builder.fadd(o.get(spot), total), spot)


@inline
def at_line(rows, n, like):
    """An uninitialised array of rows of n numbers of the array's type, from where a line of the cache begins."""
    room = np.empty(rows * n + _LINE // like.itemsize, like.dtype)
    start = -address(room) % _LINE // like.itemsize
    return room[start : start + rows * n].reshape(rows, n)
