"""Vector code for windows of 2 × 2 side by side: the largest of each and its place, and the adjoint of that.

A window's two elements of a line are neighbours. They come apart, and together, by shuffles in the registers: a loop
that reads or writes every second number does so one by one, or by gathers, which some machines do as slowly.
"""

from . import vector
from .jit import inline, variant
from .vector import instruction

FEW = 4  # windows of the shorter vectors


def lanes(dtype):
    """How many windows of planes of `dtype` a vector holds."""
    return max(FEW, vector.lanes(dtype))


over_many = over_few = over_one = None  # of each formula its own


def _by_width(one, many, where):
    if where[0] >= many:
        over_many(one, where)
    elif where[0] >= FEW:
        over_few(one, where)
    else:
        over_one(one, where)


def _over_windows(name, emit, *parts):
    """The formula `it(one, lanes, (width, …))`: emit(writer, j, …) for vectors of windows from j on, as long as fit.

    The last of them begins early enough to be whole.
    """

    def write(o, width, *given):
        builder = o.builder
        b, _, end = o.loop(width, o.count, [])
        last = builder.sub(width, o.whole(o.count))
        emit(o, builder.select(builder.icmp_signed("<", b, last), b, last), *given)
        end()

    of = lambda count: instruction(lambda o, *given: write(o.of(count), *given), emit, *parts)
    own = dict(over_many=instruction(write, emit, *parts), over_few=of(FEW), over_one=of(1))
    return inline(variant(_by_width, name, **own))


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
    """The largest numbers and their places, from the lines at `source`."""
    builder, at, left = o.builder, o.at(source, j, j), _corners(o, j, corner)
    right = builder.add(left, o.splat(o.whole(1)))
    top, in_top = _larger(o, *_line(o, at))
    low, in_low = _larger(o, *_line(o, o.at(at, below)))
    value, lower = _larger(o, top, low)
    above = builder.select(in_top, right, left)
    under = builder.add(builder.select(in_low, right, left), o.splat(below))
    o.put(value, o.at(into, j))
    o.put(builder.select(lower, under, above), builder.add(places, builder.mul(j, o.whole(8))))


def _spread(o, j, into, below, corner, g, places):
    """The adjoint: the numbers at `g` at the windows' places, zeros elsewhere in the lines at `into`."""
    builder, left, none = o.builder, _corners(o, j, corner), o.ir.Constant(o.vector, None)
    value, place = o.get(o.at(g, j)), o.get(builder.add(places, builder.mul(j, o.whole(8))), left.type)
    place = builder.sub(place, left)
    for line in (o.whole(0), below):
        here = [builder.icmp_signed("==", place, o.splat(builder.add(line, o.whole(side)))) for side in (0, 1)]
        both = o.interleaved(*([builder.select(x, value, none)] for x in here), 1)
        for half, share in enumerate(both):
            o.put(share, o.at(into, j, j, line, o.whole(o.count * half)))


# Called with (one, `lanes`, (windows, their lines, below, corner, their numbers, their places)): the two lines are
# `below` numbers apart, `corner` is the place of their first element.
largest = _over_windows("largest", _largest, _corners, _line, _larger)
spread = _over_windows("spread", _spread, _corners)
