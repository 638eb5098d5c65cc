"""Convolution of each channel by itself where planes are small: a plane is one row of numbers, as memory holds it.

A row of a plane of 7×7 fills less than half of a vector. Where results lie as the numbers that they see, so that each
tap is a shift of the whole plane, vectors go across the ends of rows; a table of bools leaves out what lies beyond.
"""

from functools import cache, lru_cache

import numpy as np

from . import direct, vector, workers
from .jit import compiles, variant
from .panels import at_line
from .vector import address

_PARTS = 16  # in which the images' shares of the filters' gradient are added, whatever the number of threads
_FILTERS = 32  # whose sums stay in the nearest cache

seen = slopes = None  # of each number of taps its own


def suits(plan):
    """Whether planes of a convolution of each channel by itself are such ones, of rows that fill half a vector."""
    dense = tuple(plan.stride) == (1, 1) and list(plan.out_size) == list(plan.size) and plan.o == plan.c
    return dense and compiles() and 2 * plan.size[1] * plan.itemsize <= vector.width()


def forward(plan, x, w, b, out):
    """Cross-correlation of x with w, plus b or None, into `out`."""
    _over_planes(plan, x, w, np.zeros(plan.o, x.dtype) if b is None else b, 1, out)


def input(plan, g, w):
    """The adjoint with respect to x."""
    out = np.empty(plan.x_shape, g.dtype)
    _over_planes(plan, g, w, np.zeros(plan.o, g.dtype), -1, out)
    return out


def _over_planes(plan, x, w, bias, sign, out):
    items = plan.n * plan.c
    planes, w, out = x.reshape(items, -1), w.reshape(plan.c, plan.k), out.reshape(items, -1)
    loop = _forward_by(plan.k)
    loop(items, planes, w, bias, *_sights_of(plan, sign, x.dtype), out, grain=direct.grain_of(plan, items))


def weight(plan, g, x):
    """The adjoint with respect to w."""
    parts = min(max(1, _PARTS // plan.o), plan.n)
    shares = np.empty((parts, plan.o, plan.k), x.dtype)
    loop, items = _weight_by(plan.k), parts * plan.o
    planes, sights = (x.reshape(plan.n, plan.c, -1), g.reshape(plan.n, plan.c, -1)), _sights_of(plan, 1, x.dtype)
    loop(items, *planes, *sights, shares, grain=direct.grain_of(plan, items))
    return np.add.reduce(shares).reshape(plan.w_shape)


def _sights_of(plan, sign, dtype):
    return _sights(*map(tuple, (plan.size, plan.kernel, plan.dilation, plan.corner)), sign, vector.lanes(dtype))


@lru_cache(256)
def _sights(size, kernel, dilation, corner, sign, lanes):
    """(how far from its place each tap of a result sees, which ones of a vector of places see something there).

    The bools are (vectors, taps, lanes); for the adjoint of the input the sign is -1.
    """
    (height, width), dilation, corner = size, np.array(dilation), np.array(corner)
    y, x = np.divmod(np.arange(-(-height * width // lanes) * lanes), width)
    far = [sign * (np.array(tap) * dilation - corner) for tap in np.ndindex(*kernel)]
    inside = [(y < height) & (y + i >= 0) & (y + i < height) & (x + j >= 0) & (x + j < width) for i, j in far]
    masks = np.array(inside).reshape(len(far), -1, lanes).swapaxes(0, 1).copy()
    return np.array([i * width + j for i, j in far]), masks


# ---- loops -----------------------------------------------------------------------------------------------------------


def _forward(x, w, bias, far, masks, out, first, last):
    one, o = bias[0], first % len(w)
    for item in range(first, last):
        seen(one, (x.shape[1], address(x[item]), address(w[o]), address(bias[o:]), address(out[item]),
                   address(far), address(masks)))  # fmt: skip
        o = o + 1 if o + 1 < len(w) else 0


def _weight(x, g, far, masks, shares, first, last):
    """shares (parts, O, taps); images come outside of channels, which lie next to each other."""
    (parts, filters, taps), lanes, zero, item = shares.shape, masks.shape[2], np.zeros(1, x.dtype), first
    sums = at_line(_FILTERS * taps, lanes, zero)
    while item < last:
        part, begin = divmod(item, filters)
        end = min(begin + _FILTERS, filters, begin + last - item)
        item += end - begin
        sums[...] = 0
        for n in range(len(x) * part // parts, len(x) * (part + 1) // parts):
            for o in range(begin, end):
                slopes(zero[0], (x.shape[2], address(x[n, o]), address(g[n, o]), address(sums[(o - begin) * taps]),
                                 address(far), address(masks)))  # fmt: skip
        for o in range(begin, end):
            for tap in range(taps):
                total, row = zero[0], sums[(o - begin) * taps + tap]
                for lane in range(lanes):
                    total += row[lane]
                shares[part, o, tap] = total


@cache
def _forward_by(taps):
    return workers.shared(None)(variant(_forward, f"flat_{taps}", seen=_seen(taps)))


@cache
def _weight_by(taps):
    return workers.shared(None)(variant(_weight, f"flat_weight_{taps}", slopes=_slopes(taps)))


# ---- instructions ----------------------------------------------------------------------------------------------------


def _numbers(o, at, taps, kind):
    """So many numbers of a kind that lie at an address."""
    size = o.bits // 8 if kind is o.scalar else 8
    return [o.builder.load(o.pointer(o.builder.add(at, o.whole(tap * size)), kind)) for tap in range(taps)]


def _sight(o, source, at, far, masks, taps):
    """For each tap the vector that places from `at` on see, and which of them do."""
    for tap in range(taps):
        mask = o.bools(o.builder.add(masks, o.builder.add(o.builder.mul(at, o.whole(taps)), o.whole(tap * o.count))))
        yield o.load(o.at(source, at, far[tap]), mask), mask


def _seen(taps):
    """The instruction that writes what a filter of so many taps makes of a plane of n numbers."""

    def emit(o, n, source, filter_, bias, into, far, masks):
        builder, fma = o.builder, o.function("fma", o.vector, [o.vector] * 3)
        start, far = o.splat(*_numbers(o, bias, 1, o.scalar)), _numbers(o, far, taps, o.index)
        numbers = [o.splat(number) for number in _numbers(o, filter_, taps, o.scalar)]
        at, _, end = o.loop(n, o.count, [])
        total = start
        for number, (value, _) in zip(numbers, _sight(o, source, at, far, masks, taps), strict=True):
            total = builder.call(fma, [number, value, total])
        left = builder.sub(n, at)
        with builder.if_else(builder.icmp_signed(">=", left, o.whole(o.count))) as (then, otherwise):
            with then:
                o.put(total, o.at(into, at))
            with otherwise:
                o.store(total, o.at(into, at), o.first(left))
        end()

    return vector.instruction(emit)


def _slopes(taps):
    """The instruction that adds to a filter's gradient, lane by lane, the products of two planes of n numbers."""

    def emit(o, n, source, slope, into, far, masks):
        builder, fma = o.builder, o.function("fma", o.vector, [o.vector] * 3)
        spots, far = [o.at(into, o.whole(tap * o.count)) for tap in range(taps)], _numbers(o, far, taps, o.index)
        at, sums, end = o.loop(n, o.count, [o.get(spot) for spot in spots])
        given, totals = o.load(o.at(slope, at), o.first(builder.sub(n, at))), []
        for total, (value, mask) in zip(sums, _sight(o, source, at, far, masks, taps), strict=True):
            more = builder.call(fma, [given, value, total])
            totals.append(builder.select(mask, more, total))  # 0 times what is not seen may be NaN
        end(totals)
        for total, spot in zip(totals, spots, strict=True):
            o.put(total, spot)

    return vector.instruction(emit)
