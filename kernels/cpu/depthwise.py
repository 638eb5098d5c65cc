"""Convolution of each channel by itself: filters go over planes as they lie, sums in registers.

A filter of one channel has too few products for a matrix, and a plane is read once. So nothing is copied: masks leave
out the columns beyond the borders, and a row of zeros takes the place of the rows. The taps are written out, so that
what some rows of results see is loaded once for all of them; each form of filters has instructions of its own.
"""

from functools import cache

import numpy as np

from . import direct, flat, vector, workers
from .columns import at_once
from .field import gathered
from .jit import compiles, variant
from .vector import address

_SUMS, _MOST_ABREAST = 8, 4  # vectors of results under way, and those side by side
_WIDEST = 8  # columns from one result to the next
_TAPS = 25  # of a filter whose gradient is summed at a time
_ROWS = 4  # of planes that it sees at a time
_MOST = 128  # taps of a filter, which are written out
_KEPT = 12  # of which the registers hold as many
_PARTS = 16  # in which the images' shares of the filters' gradient are added, whatever the number of threads
_FILTERS = 32  # whose sums stay in the nearest cache

windows = slopes = None  # of each loop its own


def lacks(plan):
    """What about a convolution is not for this, "" where nothing is."""
    if plan.groups != plan.c or plan.c == 1:
        return f"{plan.groups} groups for {plan.c} channels: it computes with one for each"
    able = plan.k <= _MOST and plan.stride[1] <= _WIDEST
    said = f"filters of {plan.k} taps at a stride of {plan.stride[1]}: it writes out up to {_MOST}, at up to {_WIDEST}"
    return "" if able else said


def suits(plan):
    """Whether these loops are the faster ones; docs/decisions/0025 has the figures."""
    return compiles() and (plan.k <= _KEPT or flat.suits(plan))


def suits_weight(plan):
    """The same for the adjoint of w."""
    return compiles()


def forward(plan, x, w, b, results):
    """Cross-correlation of x with w, plus b or None, into the room that `results` gives and finishes."""
    if not compiles():
        direct.forward(plan, x, w, b, results)
        return
    if flat.suits(plan):
        at_once(plan, results, lambda room: flat.forward(plan, x, w, b, room))
        return
    numbers = _numbers(plan.size, plan.out_size, plan.out_size, plan.corner)
    bias = np.zeros(plan.o, x.dtype) if b is None else b
    at_once(plan, results, lambda room: _over_planes(plan, _form, numbers, x, w, bias, room))


def input(plan, g, w):
    """The adjoint with respect to x."""
    if plan.o > plan.c or not compiles():
        return direct.input(plan, g, w)
    if flat.suits(plan):
        return flat.input(plan, g, w)
    out, stride, bias = np.empty(plan.x_shape, g.dtype), plan.stride, np.zeros(plan.o, g.dtype)
    low = [-(before // s) for before, s in zip(plan.corner, stride, strict=True)]
    cut = [before % s for before, s in zip(plan.corner, stride, strict=True)]
    steps = [-(-(n + c) // s) for n, c, s in zip(plan.size, cut, stride, strict=True)]
    _over_planes(plan, _turned, _numbers(plan.out_size, steps, plan.size, low, cut), g, w, bias, out)
    return out


def _numbers(source, steps, result, corner, cut=(0, 0)):
    """Rows and columns of a plane, the steps that results are made in, those of the result, and where both begin."""
    return np.array((*source, *steps, *result, *corner, *cut), np.int64)


def _filters(plan):
    return tuple(plan.kernel), tuple(plan.stride), plan.dilation


def _over_planes(plan, form, numbers, x, w, bias, out):
    items, zeros = plan.n * plan.o, np.zeros(x.shape[3], x.dtype)
    most, side = _MOST_ABREAST // (1 if form is _form else plan.stride[1]), 1
    while 2 * side <= most and side * vector.lanes(x.dtype) < numbers[3]:
        side *= 2
    planes = x.reshape(-1, *x.shape[2:]), w.reshape(plan.o, plan.k), bias, numbers, zeros
    loop, grain = _forward_by(side, form, *_filters(plan)), direct.grain_of(plan, items)
    loop(items, *planes, x.shape[1], out.reshape(items, *out.shape[2:]), grain=grain)


def weight(plan, g, x):
    """The adjoint with respect to w."""
    if not compiles():
        return direct.weight(plan, g, x)
    if flat.suits(plan):
        return flat.weight(plan, g, x)
    parts = min(max(1, _PARTS // plan.o), plan.n)
    totals = np.zeros((parts, plan.o, plan.k, vector.lanes(x.dtype)), x.dtype)
    planes = x.reshape(-1, *plan.size), g.reshape(-1, *plan.out_size)
    zeros = np.zeros(plan.size[1], x.dtype)
    numbers = _numbers(plan.size, plan.out_size, plan.out_size, plan.corner)
    loop, items = _weight_by(*_filters(plan)), parts * plan.o
    loop(items, *planes, numbers, zeros, plan.c, totals, grain=direct.grain_of(plan, items))
    return np.add.reduce(np.add.reduce(totals), -1).reshape(plan.w_shape)


# ---- forms of filters ------------------------------------------------------------------------------------------------


def _form(kernel, stride, dilation):
    """(rows, columns of a plane from one result to the next, phases).

    A step makes one result of each phase, side by side; a phase: (row, column, number of the tap) of what it sees.
    """
    taps = [(i * dilation[0], j * dilation[1], i * kernel[1] + j) for i, j in np.ndindex(*kernel)]
    return *stride, ((tuple(taps),),)


def _turned(kernel, stride, dilation):
    """The form of the adjoint: the place s u + a meets the taps i with i d = s q + a, in the results u - q."""
    phases = [[[] for _ in range(stride[1])] for _ in range(stride[0])]
    for tap, (i, j) in enumerate(np.ndindex(*kernel)):
        (y, a), (x, b) = divmod(i * dilation[0], stride[0]), divmod(j * dilation[1], stride[1])
        phases[a][b].append((-y, -x, tap))
    return 1, 1, tuple(tuple(tuple(taps) for taps in row) for row in phases)


# ---- loops -----------------------------------------------------------------------------------------------------------


def _forward(x, w, bias, numbers, zeros, channels, out, first, last):
    height, width, down, across, tall, wide, top, left, cut_top, cut_left = numbers
    one, filters = zeros[0], len(w)
    for item in range(first, last):
        n, o = divmod(item, filters)
        plane = address(x[n * channels + o * channels // filters])
        windows(one, (plane, address(zeros), address(w[o]), address(bias) + o * bias.itemsize, address(out[item]),
                      height, width, down, across, tall, wide, top, left, cut_top, cut_left))  # fmt: skip


def _weight(x, g, numbers, zeros, channels, totals, first, last):
    """totals (parts, O, taps, lanes)."""
    height, width, _, _, tall, wide, top, left, _, _ = numbers
    one, (parts, filters, _, _) = zeros[0], totals.shape
    images, item = len(g) // filters, first
    while item < last:
        part, begin = divmod(item, filters)
        end = min(begin + _FILTERS, filters, begin + last - item)
        item += end - begin
        for n in range(images * part // parts, images * (part + 1) // parts):
            for o in range(begin, end):
                plane, slope = address(x[n * channels + o * channels // filters]), address(g[n * filters + o])
                slopes(one, (plane, address(zeros), slope, address(totals[part, o]),
                             height, width, tall, wide, top, left))  # fmt: skip


@cache
def _forward_by(side, form, *filters):
    """The loop for tiles of so many vectors a row."""
    own = dict(windows=_windows(side, *form(*filters)))
    return workers.shared(None)(variant(_forward, f"{form.__name__}_{side}{_name(filters)}", **own))


@cache
def _weight_by(*filters):
    return workers.shared(None)(variant(_weight, f"weight{_name(filters)}", slopes=_slopes(*filters)))


def _name(filters):
    return "".join(f"_{down}_{across}" for down, across in filters)


# ---- instructions ----------------------------------------------------------------------------------------------------


def _inside(o, at, width):
    """The mask of a vector's places from `at` on that are in a row of so many."""
    return o.builder.and_(o.first(o.builder.sub(width, at)), o.builder.not_(o.first(o.builder.neg(at))))


def _spots(o, begin, columns, across, width):
    """For each column, counted from `begin`: where a vector of every `across`-th number is, with its masks."""
    spots = {}
    for column in columns:
        at = [o.builder.add(begin, o.whole(column + part * o.count)) for part in range(across)]
        spots[column] = [(place, _inside(o, place, width)) for place in at]
    return spots


def _row(o, row, source, zeros, height, width):
    """The address of a row of a plane, or of zeros."""
    there = o.builder.icmp_unsigned("<", row, height)
    return o.builder.select(there, o.at(source, o.builder.mul(row, width)), zeros)


def _read(o, row, spots):
    """The vector that lies at these spots of a row."""
    given = [o.load(o.at(row, at), mask) for at, mask in spots]
    across = len(given)
    return gathered(o, given, [i * across for i in range(o.count)]) if across > 1 else given[0]


def _number(o, filter_, tap):
    return o.splat(o.builder.load(o.pointer(o.at(filter_, o.whole(tap)), o.scalar)))


def _windows(vectors, down, across, phases):
    """The instruction that writes what a filter makes of a plane, in tiles of so many vectors a row."""
    taps = [tap for row in phases for some in row for tap in some]
    columns, wide = sorted({column for _, column, _ in taps}), len(phases[0])
    rows = max(1, _SUMS // (vectors * wide))
    kept = range(len(taps)) if len(taps) <= _KEPT else ()

    def emit(o, source, zeros, filter_, bias, into, height, width, count, long, tall, broad, top, left, *cut):
        builder, fma = o.builder, o.function("fma", o.vector, [o.vector] * 3)
        start, held = o.splat(builder.load(o.pointer(bias, o.scalar))), {tap: _number(o, filter_, tap) for tap in kept}
        x, _, end_columns = o.loop(long, vectors * o.count, [])
        spots, targets = [], []
        for v in range(vectors):
            at = builder.add(x, o.whole(v * o.count))
            begin = builder.sub(builder.mul(at, o.whole(across)), left)
            spots.append(_spots(o, begin, columns, across, width))
            first = builder.sub(builder.mul(at, o.whole(wide)), cut[1])
            at = [builder.add(first, o.whole(b * o.count)) for b in range(wide)]
            targets.append([(place, _inside(o, place, broad)) for place in at])
        y, _, end_rows = o.loop(count, rows, [])
        corner = builder.sub(builder.mul(y, o.whole(down)), top)
        for a, phase in enumerate(phases):
            sums = {(r, v, b): start for r in range(rows) for v in range(vectors) for b in range(wide)}
            meets = {}
            for b, some in enumerate(phase):
                for row, column, tap in some:
                    for r in range(rows):
                        meets.setdefault(row + r * down, {}).setdefault(column, []).append((r, b, tap))
            for row in sorted(meets):
                line = _row(o, builder.add(corner, o.whole(row)), source, zeros, height, width)
                for column, those in meets[row].items():
                    given = [_read(o, line, spot[column]) for spot in spots]
                    for r, b, tap in those:
                        number = held[tap] if tap in held else _number(o, filter_, tap)
                        for v, value in enumerate(given):
                            sums[r, v, b] = builder.call(fma, [number, value, sums[r, v, b]])
            for r in range(rows):
                line = builder.mul(builder.add(y, o.whole(r)), o.whole(len(phases)))
                line = builder.sub(builder.add(line, o.whole(a)), cut[0])
                with builder.if_then(builder.icmp_unsigned("<", line, tall)):
                    _write(o, [[sums[r, v, b] for b in range(wide)] for v in range(vectors)], targets,
                           o.at(into, builder.mul(line, broad)))  # fmt: skip
        end_rows()
        end_columns()

    return vector.instruction(emit)


def _write(o, values, targets, line):
    """Vectors, those of the phases in turns, to a row."""
    for some, spots in zip(values, targets, strict=True):
        wide = len(some)
        for piece, (at, mask) in enumerate(spots):
            places = [divmod(piece * o.count + i, wide) for i in range(o.count)]
            value = gathered(o, some, [b * o.count + i for i, b in places]) if wide > 1 else some[0]
            o.store(value, o.at(line, at), mask)


def _slopes(kernel, stride, dilation):
    """The instruction that adds to a filter's gradient, lane by lane, the products of two planes."""
    at_a_time = max(1, _TAPS // kernel[1])
    columns = [j * dilation[1] for j in range(kernel[1])]

    def emit(o, source, zeros, slope, into, height, width, tall, broad, top, left):
        for first in range(0, kernel[0], at_a_time):
            some(o, range(first, min(first + at_a_time, kernel[0])), source, zeros, slope, into, height, width, tall,
                 broad, top, left)  # fmt: skip

    def some(o, lines, source, zeros, slope, into, height, width, tall, broad, top, left):
        """Those of some lines of taps."""
        builder, fma = o.builder, o.function("fma", o.vector, [o.vector] * 3)
        zero = o.ir.Constant(o.vector, [0.0] * o.count)
        x, _, end_columns = o.loop(broad, o.count, [])
        spots = _spots(o, builder.sub(builder.mul(x, o.whole(stride[1])), left), columns, stride[1], width)
        taps = [(i, j) for i in lines for j in range(kernel[1])]
        y, sums, end_rows = o.loop(tall, _ROWS, [zero] * len(taps))
        sums, meets = dict(zip(taps, sums, strict=True)), {}
        rows = [builder.add(y, o.whole(r)) for r in range(_ROWS)]
        for r in range(_ROWS):
            for i in lines:
                meets.setdefault(r * stride[0] + i * dilation[0], []).append((r, i))
        kept, none = o.first(builder.sub(broad, x)), o.ir.Constant(o.first(x).type, None)
        there = [builder.select(builder.icmp_signed("<", row, tall), kept, none) for row in rows]
        given = [o.load(o.at(slope, builder.mul(row, broad), x), mask) for row, mask in zip(rows, there, strict=True)]
        corner = builder.sub(builder.mul(y, o.whole(stride[0])), top)
        for row, those in sorted(meets.items()):
            line = _row(o, builder.add(corner, o.whole(row)), source, zeros, height, width)
            for j, column in enumerate(columns):
                value = _read(o, line, spots[column])
                for r, i in those:
                    total = builder.call(fma, [given[r], value, sums[i, j]])
                    sums[i, j] = builder.select(there[r], total, sums[i, j])  # 0 times what is not seen may be NaN
        end_rows([sums[tap] for tap in taps])
        for i, j in taps:
            spot = o.at(into, o.whole((i * kernel[1] + j) * o.count))
            o.put(builder.fadd(o.get(spot), sums[i, j]), spot)
        end_columns()

    return vector.instruction(emit)
