"""Vector code for windows of 2 × 2 side by side: the largest of each and its place, and the adjoint of that.

A window's two elements of a line are neighbours. They come apart, and together, by shuffles in the registers: a loop
that reads or writes every second number does so one by one, or by gathers, which some machines do as slowly.
"""

from . import vector
from .jit import inline
from .vector import instruction

FEW = 4  # windows of the shorter vectors


def lanes(dtype):
    """How many windows of planes of `dtype` a vector holds."""
    return max(FEW, vector.lanes(dtype))


def _over_windows(emit, *parts):
    """The instruction `it(one, (width, …))`, emit(writer, j, …) for vectors of windows from j on: of many, FEW or one.

    The last of them begins early enough to be whole.
    """

    def write(o, width, *given):
        builder = o.builder
        b, _, end = o.loop(width, o.count, [])
        last = builder.sub(width, o.whole(o.count))
        emit(o, builder.select(builder.icmp_signed("<", b, last), b, last), *given)
        end()

    of = lambda count: instruction(lambda o, *given: write(o.of(count), *given), emit, *parts)
    return instruction(write, emit, *parts), of(FEW), of(1)


def _line(o, at):
    """The left and the right elements of the windows at `at`."""
    both = o.get(at), o.get(o.at(at, o.whole(o.count)))
    return [o.picked(*both, range(side, 2 * o.count, 2)) for side in (0, 1)]


def _larger(o, a, b):
    """(b where it is larger or NaN, else a; whether it is)"""
    builder = o.builder
    better = builder.or_(builder.fcmp_ordered(">", b, a), builder.fcmp_unordered("uno", b, b))
    return builder.select(better, b, a), better


def _corners(o, j, corner):
    """The places of the first elements of the windows from j on."""
    builder = o.builder
    return builder.add(o.whole(range(0, 2 * o.count, 2)), o.splat(builder.add(corner, builder.add(j, j))))


def _largest(o, j, source, below, corner, into, places):
    builder, at, left = o.builder, o.at(source, j, j), _corners(o, j, corner)
    right = builder.add(left, o.splat(o.whole(1)))
    top, in_top = _larger(o, *_line(o, at))
    low, in_low = _larger(o, *_line(o, o.at(at, below)))
    value, lower = _larger(o, top, low)
    above = builder.select(in_top, right, left)
    under = builder.add(builder.select(in_low, right, left), o.splat(below))
    o.put(value, o.at(into, j))
    o.put(builder.select(lower, under, above), builder.add(places, builder.mul(j, o.whole(8))))


def _spread(o, j, g, places, below, corner, into):
    builder, left, none = o.builder, _corners(o, j, corner), o.ir.Constant(o.vector, None)
    value, place = o.get(o.at(g, j)), o.get(builder.add(places, builder.mul(j, o.whole(8))), left.type)
    place = builder.sub(place, left)
    for line in (o.whole(0), below):
        here = [builder.icmp_signed("==", place, o.splat(builder.add(line, o.whole(side)))) for side in (0, 1)]
        both = o.interleaved(*([builder.select(x, value, none)] for x in here), 1)
        for half, share in enumerate(both):
            o.put(share, o.at(into, j, j, line, o.whole(o.count * half)))


_largest_many, _largest_few, _largest_one = _over_windows(_largest, _corners, _line, _larger)
_spread_many, _spread_few, _spread_one = _over_windows(_spread, _corners)


@inline
def largest(one, many, where):
    """The largest of windows and their places; where: (count, source, below, corner, into, places).

    The windows' lines are `below` numbers apart, `corner` is the place of their first element.
    """
    if where[0] >= many:
        _largest_many(one, where)
    elif where[0] >= FEW:
        _largest_few(one, where)
    else:
        _largest_one(one, where)


@inline
def spread(one, many, where):
    """The adjoint: the numbers at `g` at the places of windows, zeros elsewhere in the two lines at `into`.

    where: (count, g, places, below, corner, into)
    """
    if where[0] >= many:
        _spread_many(one, where)
    elif where[0] >= FEW:
        _spread_few(one, where)
    else:
        _spread_one(one, where)
