"""Elementwise functions by their formulas: one text, from which the vectors' loop and its NumPy twin both come.

    @formula()
    def leaky_relu(m, x, *, slope):
        \"""x where x > 0, else slope x.\"""
        return m.where(x, ">", 0.0, x, x * slope)

makes the function leaky_relu(x, *, slope). The formula computes with what has arithmetic, vectors or arrays, and with
the words of their mathematics m, `vector.Mathematics` or `Arrays`. Its parameters are arrays, which broadcast; those by
keyword alone are numbers. What one operand is, an array, one number for all elements or bools, is a loop of its own,
compiled on its first use. Of operands that broadcast or lie in rows the loop takes the rows where they are.
"""

import inspect
import math
import operator
from functools import cache, lru_cache, partial
from itertools import chain
from math import prod
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from . import vector, workers
from .jit import compiles, variant
from .layout import half_by_single

_BLOCK = 512  # elements that go to a thread together
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_ZERO = {dtype: dtype.type(0) for dtype in (_SINGLE, _DOUBLE)}
_COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class Arrays:
    """The words of formulas on arrays."""

    relu = partial(np.maximum, 0)
    exp, expm1, log1p, sqrt, absolute, chosen = np.exp, np.expm1, np.log1p, np.sqrt, np.absolute, np.where

    @staticmethod
    def where(x, comparison, bound, yes, no):
        """`yes` where x compares so with `bound` (never, for NaN), else `no`."""
        return np.where(_COMPARISONS[comparison](x, bound), yes, no)

    @staticmethod
    def sigmoid(x):
        """1 / (1 + exp(-x)), where exp(-x) would overflow exp(x) / (1 + exp(x))."""
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, x.dtype.type(1), e) / (1 + e)

    @staticmethod
    def normal(x):
        """exp(-x² / 2), and the normal distribution function."""
        wide = np.asarray(x, np.float64)
        curve, below = np.exp(wide * wide * -0.5), 0.5 * _erfc(wide * -math.sqrt(0.5))
        return np.asarray(curve, x.dtype), np.asarray(below, x.dtype)


_erfc = np.frompyfunc(math.erfc, 1, 1)


def formula(*, small=2048, grain=16_384, mask=False):
    """Make an elementwise function of its formula.

    small: elements below which NumPy's temporaries cost less than a call of the loop. grain: elements that outlast
    handing them to a worker. mask: the first array is one of bools.
    """

    def made(text):
        parameters = list(inspect.signature(text).parameters.values())[1:]
        numbers = tuple([p.name for p in parameters if p.kind is p.KEYWORD_ONLY])
        blocks, arrays = max(1, grain // _BLOCK), len(parameters) - len(numbers)
        written = partial(_of_values, text, arrays, numbers) if numbers else text

        def function(*given, **named):
            values = [named[name] for name in numbers] if numbers else ()
            last = given[-1]
            dtype = getattr(last, "dtype", None)
            if dtype is not _SINGLE and dtype is not _DOUBLE:
                return general(given, values)
            shape, bools = last.shape, given[0] if mask else None
            for x in given:
                if type(x) is not ndarray or x.shape != shape or (x.dtype is not dtype and x is not bools):
                    return general(given, values)
            return computed(given, values, last.size, shape, dtype)

        def computed(given, values, size, shape, dtype):
            if size < small or not compiles():
                return _as_array(written(Arrays, *given, *values), shape, dtype)
            given = [*given, *[np.array(value, dtype) for value in values]] if values else given
            return looped(written, given, np.empty(shape, dtype), mask, blocks)

        def general(given, values):
            return on_floats(*given, values=values)

        @half_by_single
        def on_floats(*given, values):
            given, shape, dtype = _alike(given, mask)
            if 0 in shape:
                return np.empty(shape, dtype)
            return computed(given, values, prod(shape), shape, dtype)

        function.__name__, function.__qualname__ = text.__name__, text.__qualname__
        function.__module__, function.__doc__ = text.__module__, text.__doc__
        function.__signature__ = inspect.Signature(parameters)
        return function

    return made


def _of_values(text, arrays, names, m, *values):
    """The formula of so many arrays and then its numbers, in the order of their names."""
    return text(m, *values[:arrays], **dict(zip(names, values[arrays:], strict=True)))


def _as_array(made, shape, dtype):
    """What a formula gives as an array of its own; scalars may have lost their dimensions."""
    made = np.asarray(made, dtype, order="C")
    return made if made.shape == shape else np.broadcast_to(made, shape).copy()


def _alike(arrays, mask):
    """(arrays, shape, dtype): arrays or numbers that broadcast to that shape, of that dtype but for a mask."""
    shapes = {np.shape(x) for x in arrays} - {()} or {()}
    shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
    dtype = np.result_type(*arrays[mask:])
    dtype = np.dtype(dtype.type) if dtype.kind == "f" else _SINGLE
    return [*arrays[:mask], *[np.asarray(x, dtype) for x in arrays[mask:]]], shape, dtype


# ---- the loops -------------------------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """How a loop goes through operands: rows of so many columns, in groups of `inner` rows."""

    kinds: tuple[str, ...]  # what is taken of each operand's row, as `vector.elementwise` wants it
    shape: tuple[int, int]  # columns, inner
    steps: tuple[int, ...]  # of each array, the result's last: the bytes from a row and from a group to the next
    blocks: int


def looped(written, arrays, out, mask, grain):
    """`out`, with the formula of the arrays in it; `mask`: the first are bools."""
    rows = _rows_at(arrays, out, mask)
    if rows is None:
        spread = [x.size > 1 or (mask and x is arrays[0]) for x in arrays]
        whole = [np.broadcast_to(x, out.shape) if wide else x for x, wide in zip(arrays, spread, strict=True)]
        arrays = [np.array(x, order="C") for x in whole]
        rows = _rows_at(arrays, out, mask)
    run(written, rows, arrays, out, grain)
    return out


def _rows_at(arrays, out, mask):
    for x in arrays:
        if not x.flags.aligned:
            return None
    return rows_of(out.shape, out.itemsize, mask, *[(x.shape, x.strides) for x in arrays])


def run(written, rows, arrays, out, grain):
    """Write the formula of arrays that lie in `rows` into `out`."""
    loop = _loop(written, rows.kinds)
    loop(rows.blocks, rows.shape, (*map(id, arrays), id(out)), rows.steps, _ZERO[out.dtype], out.size, grain=grain)


@lru_cache(1024)
def rows_of(shape, itemsize, mask, *laid):
    """The rows of operands that broadcast to an array of `shape`; laid: their shapes and strides.

    None where an element and the next of a row lie apart, or where three dimensions do not suffice.
    """
    strides = [_broadcast_strides(len(shape), *own) for own in laid]
    strides.append([itemsize * prod(shape[i + 1 :]) for i in range(len(shape))])
    dims = []  # (n, the step of each), of which neighbours that lie in one run are one
    for n, *steps in zip(shape, *strides, strict=True):
        if n > 1 and dims and all([far == n * step for far, step in zip(dims[-1][1], steps, strict=True)]):
            dims[-1] = dims[-1][0] * n, steps
        elif n > 1:
            dims.append((n, steps))
    (_, leaps), (inner, steps), (columns, sides) = [(1, [0] * len(strides))] * (3 - len(dims)) + dims[-3:]
    kinds = []
    for i, side in enumerate(sides[:-1]):
        kind, size = ("mask", 1) if mask and i == 0 else ("every", itemsize)
        if side not in (0, size) or (kind == "mask" and not side and columns > 1):
            return None
        kinds.append(kind if side or kind == "mask" else "one")
    if len(dims) > 3:
        return None
    return Rows(tuple(kinds), (columns, inner), (*chain(*zip(steps, leaps)),), -(-prod(shape) // _BLOCK))


def _broadcast_strides(ndim, shape, strides):
    return [0] * (ndim - len(shape)) + [0 if n == 1 else step for n, step in zip(shape, strides)]


@cache
def _loop(written, kinds):
    """The loop of a formula for arrays of these kinds, shared by the threads."""
    text = written.args[0] if isinstance(written, partial) else written
    name = "_".join((text.__name__, *kinds))
    return workers.shared(None)(variant(_blocks, name, apply=vector.elementwise(written, kinds)))


def _blocks(shape, objects, steps, one, size, first, last):
    numbers = first * _BLOCK, min(last * _BLOCK, size)
    apply(one, numbers + shape + objects + steps)  # noqa: F821 (each variant has its own)
