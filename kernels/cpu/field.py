"""Images on their way into the field of `direct`, padded and parted by a convolution's strides, and back.

At a stride s, the taps i, i + s, i + 2 s, … of a filter see every s-th number of a row from the same one on. Those are
a part of the row, in which neighbouring results see neighbours again: the field holds all parts of a plane, (sh, sw,
rows, columns) for strides (sh, sw).
"""

from functools import cache

import numpy as np

from . import vector
from .epilogue import plus
from .jit import inline, variant
from .vector import address


@cache
def filler(stride):
    """What fills a field, for loops to call: it(one, image, field, sizes, first), see `_dense`."""
    if stride == (1, 1):
        return _dense
    return inline(variant(_parts, f"_parts_by_{stride[1]}", part=_parted(stride[1])))


@inline
def _clear(field, start, stop):
    for i in range(start, stop):
        field[i] = 0


@inline
def _dense(one, image, field, sizes, first):
    """Copy to a field the rows of an image (C, h, w), padded, that the results from row `first` on see."""
    height, width, top, left = sizes[0], sizes[1], sizes[2], sizes[3]
    count, h, w = image.shape
    if h == height and w == width:
        field[: image.size] = image.reshape(-1)
        return
    zero, each, y = np.zeros(1, field.dtype), field.itemsize, first - top
    low, high = max(0, -y), max(0, min(height, h - y))
    for c in range(count):
        plane = c * height * width
        _clear(field, plane, plane + low * width)
        if high > low:
            into = address(field) + (plane + low * width + left) * each
            plus(one, (high - low, w, address(image) + (c * h + y + low) * w * each, w, into, width, address(zero)))
        _clear(field, plane + max(low, high) * width, plane + height * width)


part = None  # each stride across has an instruction of its own (`filler`)


@inline
def _parts(one, image, field, sizes, first):
    """The same, parted by the strides."""
    height, width, top, left, down, across = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    count, h, w = image.shape
    each, spots = field.itemsize, np.empty(across, np.int64)
    for b in range(across):
        v, of = divmod(b + left, across)
        spots[b] = of * height * width + v
    for c in range(count):
        for a in range(down):
            for u in range(height):
                y, at = (first + u) * down + a - top, ((c * down + a) * across * height + u) * width
                if 0 <= y < h:
                    source, into = address(image) + (c * h + y) * w * each, address(field) + at * each
                    part(one, (w, source, into, address(spots)))
                else:
                    for b in range(across):
                        start = at + b * height * width
                        _clear(field, start, start + width)


def _parted(across):
    """The instruction `it(one, (n, source, into, spots))`: into[spots[r] + q] = source[across q + r], for n numbers."""

    def emit(o, n, source, into, spots):
        builder = o.builder
        q, _, end = o.loop(builder.sdiv(builder.add(n, o.whole(across - 1)), o.whole(across)), o.count, [])
        start, given = builder.mul(q, o.whole(across)), []
        for v in range(across):
            at = builder.add(start, o.whole(v * o.count))
            given.append(o.load(o.at(source, at), o.first(builder.sub(n, at))))
        for r in range(across):
            value = gathered(o, given, [i * across + r for i in range(o.count)])
            spot = builder.load(o.pointer(builder.add(spots, o.whole(8 * r)), o.index))
            some = builder.sdiv(builder.add(builder.sub(n, start), o.whole(across - 1 - r)), o.whole(across))
            o.store(value, o.at(into, spot, q), o.first(some))
        end()

    return vector.instruction(emit)


def joined(across):
    """The instruction `it(one, (n, source, spots, into))`: into[across q + r] = source[spots[r] + q], for n numbers.

    It reads whole vectors.
    """

    def emit(o, n, source, spots, into):
        builder = o.builder
        starts = [builder.load(o.pointer(builder.add(spots, o.whole(8 * r)), o.index)) for r in range(across)]
        q, _, end = o.loop(builder.sdiv(builder.add(n, o.whole(across - 1)), o.whole(across)), o.count, [])
        given = [o.get(o.at(source, start, q)) for start in starts]
        for v in range(across):
            places = [divmod(v * o.count + i, across) for i in range(o.count)]
            at = builder.add(builder.mul(q, o.whole(across)), o.whole(v * o.count))
            value = gathered(o, given, [r * o.count + i for i, r in places])
            o.store(value, o.at(into, at), o.first(builder.sub(n, at)))
        end()

    return vector.instruction(emit)


def gathered(o, vectors, places):
    """The vector of the numbers at these places of several vectors, one after the other."""
    value = vectors[0]
    for v, other in enumerate(vectors):
        inside = [o.count + place - v * o.count if place // o.count == v else i for i, place in enumerate(places)]
        value = o.picked(value, other, inside)
    return value
