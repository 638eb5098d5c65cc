"""Sums of outer products in registers: the innermost tile of small products, and of convolutions without columns.

A tile of R rows and V vectors has R V sums under way; each step multiplies R numbers by V vectors. Where the numbers
and the vectors of a step lie is what the callers choose, so that neither operand is copied into an order of its own.
"""

from functools import cache

import numpy as np

from . import vector
from .jit import inline
from .scratch import LINE
from .vector import address


def most():
    """Rows of a tile at most: the registers hold more than one vector of each."""
    return 8 if vector.abreast() == 2 else 4


def height(n):
    """Rows of the tiles of n rows, as even as may be."""
    return -(-n // max(1, -(-n // most())))


def vectors(rows):
    """How many vectors side by side keep the registers full: R V sums, V operands, and a number."""
    return min(8, (28 if vector.abreast() == 2 else 14) // (rows + 1))


def widest():
    """Vectors side by side of the highest tiles."""
    return vectors(most())


@cache
def tile(rows, vectors, pairs=True):
    """The instruction `it(one, (used, a, row, step, h, places, k, c, c_row, columns, start, …))`: c = start + a h.

    Number i of row r is a[r row + i step], vector i begins at h[places[i]], for int64 places; start holds a row that is
    added to every one, or one for each, `start_row` apart. Of the tile `used` rows and `columns` columns are written,
    side by side. With (…, start_row, first, line, used, apart) column i is place first + i of lines of `line` places,
    whose first `used` are written, and lines are `apart` numbers apart; no vector may meet three lines.
    pairs: two steps a round, the faster way for rows of a that lie far apart (step 1), by a third the slower for row 1.
    """

    def emit(o, used, a, row, step, h, places, k, c, c_row, columns, start, start_row=None, *lined):
        builder, lines = o.builder, _lines(o, rows, used, a, row)
        step_down = o.whole(0) if start_row is None else start_row
        starts = [o.at(start, builder.mul(step_down, o.whole(r))) for r in range(rows)]
        begin = [o.get(o.at(row, o.whole(v * o.count))) for row in starts for v in range(vectors)]

        def step_of(i, sums):
            place = builder.add(places, builder.mul(i, o.whole(8)))
            row_h = o.at(h, builder.load(o.pointer(place, o.index)))
            return _stepped(o, lines, builder.mul(i, step), row_h, vectors, sums)

        totals = (_in_pairs if pairs else _one_by_one)(o, k, begin, step_of)
        spots = [(v, *spot) for v in range(vectors) for spot in _spots(o, v, columns, *lined)]
        none = o.ir.Constant(spots[0][2].type, None)
        for r in range(rows):
            inside = builder.icmp_signed("<", o.whole(r), used)
            for v, at, mask in spots:
                into = o.at(c, builder.mul(c_row, o.whole(r)), at)
                o.store(totals[r * vectors + v], into, builder.select(inside, mask, none))

    return vector.instruction(emit)


@cache
def block(rows, vectors):
    """The instruction `it(one, (used, a, row, step, h, k, c, c_row, columns, start, start_row, near, apart))`.

    c = start + a h as `tile` has it, for some of the terms: h has its vectors for each of them one after the other, and
    start may be c with the sums so far. The sums begin at 0: one chain of additions through all blocks rounds worse.
    Meanwhile k lines of the cache, `apart` numbers from each other from `near` on, are fetched for a later block.
    """

    def emit(o, used, a, row, step, h, k, c, c_row, columns, start, start_row, near, apart):
        builder, lines = o.builder, _lines(o, rows, used, a, row)

        def step_of(i, sums):
            _fetch(o, o.at(near, builder.mul(i, apart)))
            row_h = o.at(h, builder.mul(i, o.whole(vectors * o.count)))
            return _stepped(o, lines, builder.mul(i, step), row_h, vectors, sums)

        totals = _in_pairs(o, k, [o.ir.Constant(o.vector, [0.0] * o.count)] * (rows * vectors), step_of)
        spots = [(r, o.whole(v * o.count)) for r in range(rows) for v in range(vectors)]
        begins, targets = (
            [o.at(x, builder.mul(x_row, o.whole(r)), at) for r, at in spots]
            for x, x_row in ((start, start_row), (c, c_row))
        )
        all_rows = builder.icmp_signed(">=", used, o.whole(rows))
        all_columns = builder.icmp_signed(">=", columns, o.whole(vectors * o.count))
        with builder.if_else(builder.and_(all_rows, all_columns)) as (whole, part):
            with whole:
                for total, begin, into in zip(totals, begins, targets, strict=True):
                    o.put(builder.fadd(o.get(begin), total), into)
            with part:
                for total, begin, into, (r, at) in zip(totals, begins, targets, spots, strict=True):
                    inside = builder.icmp_signed("<", o.whole(r), used)
                    mask = o.first(builder.select(inside, builder.sub(columns, at), o.whole(0)))
                    o.store(builder.fadd(o.load(begin, mask), total), into, mask)

    return vector.instruction(emit)


def _lines(o, rows, used, a, row):
    """Where the rows of a begin; those that are not used are the last one."""
    builder, last = o.builder, o.builder.sub(used, o.whole(1))
    inside = [builder.icmp_signed("<", o.whole(r), used) for r in range(rows)]
    return [o.at(a, builder.mul(row, builder.select(inside[r], o.whole(r), last))) for r in range(rows)]


def _stepped(o, lines, offset, row_h, vectors, sums):
    """The sums with the products of a number of each line and the vectors of a row."""
    operand = [o.get(o.at(row_h, o.whole(v * o.count))) for v in range(vectors)]
    numbers = [o.splat(o.builder.load(o.pointer(o.at(line, offset), o.scalar))) for line in lines]
    return _multiplied(o, numbers, operand, sums)


def _fetch(o, address):
    """Begin to bring a line into the second nearest cache, if there is memory at the address."""
    from numba.core import cgutils

    word, byte = o.ir.IntType(32), o.ir.IntType(8)
    kind = o.ir.FunctionType(o.ir.VoidType(), [byte.as_pointer(), word, word, word])
    fetch = cgutils.get_or_insert_function(o.builder.module, kind, "llvm.prefetch.p0")
    reading, second, of_data = (o.ir.Constant(word, n) for n in (0, 2, 1))
    o.builder.call(fetch, [o.pointer(address, byte), reading, second, of_data])


def _spots(o, v, columns, first=None, line=None, used=None, apart=None):
    """Where vector v of a tile's row goes, and the mask of its numbers that go there: for each line that it meets."""
    builder, at = o.builder, o.whole(v * o.count)
    left = builder.sub(columns, at)
    if first is None:
        return [(at, o.first(left))]
    least = lambda n: o.first(builder.select(builder.icmp_signed("<", n, left), n, left))
    place, further = builder.add(first, at), builder.sub(apart, line)
    row = builder.sdiv(place, line)
    begin = builder.sub(builder.mul(row, line), place)
    following = builder.add(begin, line)
    at = builder.add(at, builder.mul(row, further))
    second = builder.and_(least(builder.add(following, used)), builder.not_(o.first(following)))
    return [(at, least(builder.add(begin, used))), (builder.add(at, further), second)]


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


def _one_by_one(o, n, sums, step):
    """step(i, sums) for each i from 0 to n > 0."""
    i, sums, end = o.loop(n, 1, sums)
    totals = step(i, sums)
    end(totals)
    return totals


def _in_pairs(o, n, sums, step):
    """step(i, sums) for each i from 0 to n, two a round: the loop's own instructions take the place of sums' ones."""
    builder, odd = o.builder, o.builder.and_(n, o.whole(1))

    def merged(condition, sums, more):
        """more(sums) on the condition, else the sums."""
        before = builder.block
        with builder.if_then(condition):
            after = more(sums)
            last = builder.block
        merged = [builder.phi(o.vector) for _ in sums]
        for phi, old, new in zip(merged, sums, after, strict=True):
            phi.add_incoming(old, before)
            phi.add_incoming(new, last)
        return merged

    def pairs(sums):
        i, sums, end = o.loop(builder.sub(n, odd), 2, sums)
        first = builder.add(i, odd)
        sums = step(builder.add(first, o.whole(1)), step(first, sums))
        end(sums)
        return sums

    sums = merged(builder.icmp_signed(">", odd, o.whole(0)), sums, lambda sums: step(o.whole(0), sums))
    return merged(builder.icmp_signed(">", n, odd), sums, pairs)


def _added(o, totals, into):
    for n, total in enumerate(totals):
        spot = o.at(into, o.whole(n * o.count))
        o.put(o.builder.fadd(o.get(spot), total), spot)


@inline
def at_line(rows, n, like):
    """An uninitialised array of rows of n numbers of the array's type, from where a line of the cache begins."""
    room = np.empty(rows * n + LINE // like.itemsize, like.dtype)
    start = -address(room) % LINE // like.itemsize
    return room[start : start + rows * n].reshape(rows, n)
