"""Numbers moved to other places, rows at a time: arrays joined, borders around them, matrices turned.

What moves is bits, so that one loop serves all dtypes of a size.
"""

from functools import lru_cache
from math import prod

import numpy as np

from . import vector, workers
from .jit import compiles
from .layout import compact
from .vector import address, elements, turn

_LEAST = 32_768  # numbers that NumPy takes longer to turn than threads
_GRAIN = 8_192  # numbers that outlast handing a slice to a worker
_NEAR = 16 << 10  # bytes that stay in the nearest cache
_ABREAST = 64  # columns of a matrix that become rows together
_MOVED = {4: np.dtype(np.float32), 8: np.dtype(np.float64)}  # by bytes
_JOINED = 1 << 17  # numbers that threads join in less time than NumPy
_LONG = 64  # numbers that follow each other, which outweigh finding where they go


def _movable(x):
    return x.size and x.itemsize in _MOVED and x.dtype.isnative


# ---- borders ---------------------------------------------------------------------------------------------------------


def pad(x, widths, constant_values=0):
    """`numpy.pad` by a constant."""
    found = _bordered(x.shape, widths) if widths and _movable(x) else None
    if found is None:
        return np.pad(x, widths, constant_values=constant_values)
    shape, inner, outer, top, left = found
    out, kind, around = np.empty(shape, x.dtype), _MOVED[x.itemsize], np.full(1, constant_values, x.dtype)
    into = out.view(kind).reshape(outer)
    rows, source = len(into) * outer[1], compact(x).view(kind).reshape(inner)
    _pad_rows(rows, source, around.view(kind), into, top, left, grain=-(-_GRAIN // outer[2]))
    return out


@lru_cache(256)
def _bordered(shape, widths):
    """(shape of the result, planes that one is of, those of the other, rows above, numbers at the left), or None.

    A border is that of planes where it is one around one dimension, or around two that are neighbours.
    """
    padded = [d for d, pair in enumerate(widths) if any(pair)]
    if not padded or padded[-1] - padded[0] > 1:
        return None
    outer = [before + n + after for (before, after), n in zip(widths, shape, strict=True)]
    last, row = padded[-1], padded[-1] - (len(padded) > 1)
    planes = lambda sizes: (prod(sizes[:row]), prod(sizes[row:last]), prod(sizes[last:]))
    left = widths[last][0] * prod(shape[last + 1 :])
    return tuple(outer), planes(shape), planes(outer), widths[row][0] if row < last else 0, left


def _pad_rows_numpy(x, around, out, top, left, first, last):
    (_, h, w), (_, high, _) = x.shape, out.shape
    for i in range(first, last):
        k, y = divmod(i, high)
        out[k, y] = around[0]
        if top <= y < top + h:
            out[k, y, left : left + w] = x[k, y - top]


def _emit_moved(o, lines, n, source, apart, into, step):
    builder = o.builder
    y, _, end_line = o.loop(lines, 1, [])
    line, made = o.at(source, builder.mul(y, apart)), o.at(into, builder.mul(y, step))
    b, _, end = o.loop(n, o.count, [])
    left = builder.sub(n, b)
    with builder.if_else(builder.icmp_signed(">=", left, o.whole(o.count))) as (then, otherwise):
        with then:
            o.put(o.get(o.at(line, b)), o.at(made, b))
        with otherwise:
            o.store(o.load(o.at(line, b), o.first(left)), o.at(made, b), o.first(left))
    end()
    end_line()


#: The instruction `it(one, (lines, n, source, apart, into, step))`: lines of n > 0 numbers, which begin `apart` numbers
#: from each other in the source, `step` in the result.
_moved = vector.instruction(_emit_moved)


@workers.shared(_pad_rows_numpy)
def _pad_rows(x, around, out, top, left, first, last):
    """Rows first … last of the planes: some that stay in the nearest cache are filled, then written over."""
    (h, w), (high, width) = x.shape[1:], out.shape[1:]
    one, some = around[0], max(1, _NEAR // (width * x.itemsize))
    while first < last:
        k = first // high
        y = first - k * high
        n = min(some, high - y, last - first)
        rows = out[k, y : y + n].reshape(-1)
        for j in range(len(rows)):
            rows[j] = one
        a, b = max(y, top), min(y + n, top + h)
        if a < b:
            _moved(one, (b - a, w, address(x[k, a - top]), w, address(out[k, a]) + left * x.itemsize, width))
        first += n


# ---- joined ----------------------------------------------------------------------------------------------------------


def concatenate(xs, axis=0):
    """`numpy.concatenate`; threads share a large result."""
    out = _joined(xs, axis, False)
    return np.concatenate(xs, axis) if out is None else out


def stack(xs, axis=0):
    """`numpy.stack`; threads share a large result."""
    out = _joined(xs, axis, True)
    return np.stack(xs, axis) if out is None else out


def _joined(xs, axis, anew):
    """The arrays joined along an axis, one of theirs or a new one; None where NumPy serves as well or alone."""
    if sum([x.size for x in xs]) < _JOINED or not compiles():
        return None
    dtype = xs[0].dtype
    if dtype.kind not in "iuf" or dtype.itemsize not in _MOVED or not dtype.isnative:
        return None
    for x in xs:
        if x.dtype is not dtype or not x.flags.carray:
            return None
    found = _runs(axis, anew, tuple([x.shape for x in xs]))
    if found is None:
        return None
    shape, starts = found
    out = np.empty(shape, dtype)
    _join(out.size, np.array([*map(id, xs), id(out)]), starts, _MOVED[dtype.itemsize].type(0), grain=_GRAIN)
    return out


@lru_cache(256)
def _runs(axis, anew, shapes):
    """(shape of the result, where each array's numbers begin in a row of it, and the last one's end), or None."""
    shape, after = shapes[0], axis + (not anew)
    if not 0 <= axis < len(shape) + anew or any(s[:axis] + s[after:] != shape[:axis] + shape[after:] for s in shapes):
        return None
    starts = np.cumsum([0, *[prod(s[axis:]) for s in shapes]])
    count = len(shapes) if anew else sum(s[axis] for s in shapes)
    return ((*shape[:axis], count, *shape[after:]), starts) if starts[-1] >= _LONG * len(shapes) else None


def _emit_run(o, array, first, n, joined, into):
    _emit_moved(o, o.whole(1), n, o.at(elements(o, array), first), n, o.at(elements(o, joined), into), n)


#: The instruction `it(one, (array, first, n, joined, into))`: n > 0 numbers of one array's object into another's.
_run = vector.instruction(_emit_run, _emit_moved)


@workers.shared(None)
def _join(arrays, starts, one, first, last):
    """Numbers first … last of the result, whose rows are made of one of each array; it is the last of the objects."""
    across, k = starts[-1], 0
    while first < last:
        row = first // across
        column = first - row * across
        while starts[k + 1] <= column:
            k += 1
        n, begin = min(starts[k + 1] - column, last - first), column - starts[k]
        _run(one, (arrays[k], row * (starts[k + 1] - starts[k]) + begin, n, arrays[-1], first))
        first += n
        if column + n == across:
            k = 0


# ---- turned ----------------------------------------------------------------------------------------------------------


def copy(x):
    """The numbers in C order in memory of their own."""
    found = _turned(x.shape, x.strides) if x.size >= _LEAST and _movable(x) and not x.flags.c_contiguous else None
    lying = x.transpose(found[0]) if found else x
    if not (found and lying.flags.carray):
        return x.copy()
    out, kind, (many, rows, columns) = np.empty(x.shape, x.dtype), _MOVED[x.itemsize], found[1]
    source, into = lying.view(kind).reshape(many, columns, rows), out.view(kind).reshape(many, rows, columns)
    _turn_rows(many * rows, source, into, vector.lanes(kind), grain=-(-_GRAIN // columns))
    return out


@lru_cache(256)
def _turned(shape, strides):
    """(dimensions in memory's order, (matrices, rows, columns)) where matrices lie turned, else None."""
    order = tuple(sorted(range(len(shape)), key=lambda d: -strides[d]))
    start = next((d for d, axis in enumerate(order) if d != axis), 0)
    middle = order[start]
    if order != (*range(start), *range(middle, len(shape)), *range(start, middle)):
        return None
    return order, (prod(shape[:start]), prod(shape[start:middle]), prod(shape[middle:]))


def _turn_rows_numpy(source, out, few, first, last):
    for i in range(first, last):
        k, row = divmod(i, out.shape[1])
        out[k, row] = source[k, :, row]


@workers.shared(_turn_rows_numpy)
def _turn_rows(source, out, few, first, last):
    """Rows first … last of the matrices, some of them together from each line of the source."""
    rows, columns = out.shape[1:]
    while first < last:
        k = first // rows
        i = first - k * rows
        n = min(_ABREAST, rows - i, last - first)
        turn(source[0, 0, 0], source[k], 0, columns, i, n, out[k].reshape(-1), i * columns, columns, few)
        first += n
