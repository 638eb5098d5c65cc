"""Elementwise functions by their formulas: one text, from which the vectors' loop and its NumPy twin both come.

    @formula()
    def leaky_relu(m, x, *, slope):
        \"""x where x > 0, else slope x.\"""
        return m.where(x, ">", 0.0, x, x * slope)

makes the function leaky_relu(x, *, slope). The formula computes with what has arithmetic, vectors or arrays, and with
the words of their mathematics m, `vector.Mathematics` or `Arrays`. Its parameters are arrays, which broadcast; those by
keyword alone are numbers. What one operand is, an array, one number for all elements or bools, is a loop of its own,
compiled on its first use.
"""

import inspect
import math
import operator
from functools import cache, partial
from math import prod

import numpy as np

from . import vector, workers
from .jit import compiles, variant
from .layout import half_by_single
from .vector import address

_BLOCK = 512  # elements that go to a thread together
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
_NUMBERS = (int, float, bool)  # operands that are no arrays
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
            shape = last.shape
            for x in given:
                if type(x) in _NUMBERS or x.shape != shape or (x.dtype is not dtype and not (mask and x is given[0])):
                    return general(given, values)
            return computed(given, values, last.size, shape, dtype)

        def computed(given, values, size, shape, dtype):
            if size < small or not compiles():
                return _as_array(written(Arrays, *given, *values), shape, dtype)
            given = [_in_order(x, shape) for x in given] + [np.array(value, dtype) for value in values]
            return _looped(written, text.__name__, given, np.empty(shape, dtype), mask, blocks)

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


def _in_order(x, shape):
    """The array of that shape with its elements in C order; one number, seen at every place, as a number."""
    if type(x) is np.ndarray and x.shape == shape and x.flags.c_contiguous and x.flags.aligned:
        return x
    if any(x.strides) or x.dtype == bool:
        return np.array(np.broadcast_to(x, shape), order="C")
    return np.array(x[(0,) * x.ndim])


def _looped(written, name, arrays, out, mask, blocks):
    kinds = ["one" if x.size == 1 else "every" for x in arrays]
    if mask:
        kinds[0] = "mask"
    objects = np.array([*map(id, arrays), id(out)], np.intp)
    _loop(written, "_".join((name, *kinds)), tuple(kinds))(
        -(-out.size // _BLOCK), objects, out.dtype.type(0), out.size, grain=blocks
    )
    return out


@cache
def _loop(written, name, kinds):
    """The loop of a formula for arrays of these kinds, shared by the threads."""
    return workers.shared(None)(variant(_blocks, name, apply=vector.elementwise(written, kinds)))


def _blocks(objects, one, size, first, last):
    apply(one, (address(objects), first * _BLOCK, min(last * _BLOCK, size)))  # noqa: F821 (each variant has its own)
