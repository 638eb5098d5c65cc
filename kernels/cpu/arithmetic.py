"""NumPy's arithmetic, with the same bits, by a loop that the threads share where arrays are large.

Each function has NumPy's own as `ufunc`, for those who know that their arrays are small, and for recordings; its
methods, and what is done by keyword, are NumPy's. Of other arrays than NumPy's it is the operator.
"""

import operator
from functools import lru_cache
from math import prod

import numpy as np
from numpy import ndarray

from .formulas import rows_of, run
from .jit import compiles

LARGE = 1 << 17  # elements from which the threads gain more than a call of the loop costs
_BLOCKS = 32  # of 512 elements that outlast handing them to a worker
_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


def _one(ufunc, plainly, formula):
    def function(x, **options):
        if options:
            return ufunc(x, **options)
        if x.size >= LARGE and type(x) is ndarray and (out := _looped(formula, x.dtype, x)) is not None:
            return out
        return plainly(x)

    return _named(function, ufunc)


def _two(ufunc, plainly, formula):
    def function(x, y, **options):
        if options:
            return ufunc(x, y, **options)
        if type(x) is type(y) is ndarray:
            if x.size * y.size < LARGE:
                return ufunc(x, y)
            if x.dtype is y.dtype and (out := _looped(formula, x.dtype, x, y)) is not None:
                return out
        elif (
            type(y) is float
            and type(x) is ndarray
            and x.size >= LARGE
            and (out := _looped(formula, x.dtype, x, np.array(y, x.dtype))) is not None
        ):
            return out
        return plainly(x, y)

    return _named(function, ufunc)


def _named(function, ufunc):
    function.__name__ = function.__qualname__ = ufunc.__name__
    function.__doc__, function.ufunc = f"NumPy's {ufunc.__name__}.", ufunc
    for method in ("at", "accumulate", "outer", "reduce", "reduceat"):
        setattr(function, method, getattr(ufunc, method))
    return function


def _looped(formula, dtype, *arrays):
    """The formula of arrays of that dtype by the loop, or None where NumPy serves as well or alone."""
    if not (dtype is _SINGLE or dtype is _DOUBLE) or not compiles():
        return None
    shape, rows = _laid(dtype.itemsize, *[(x.shape, x.strides) for x in arrays])
    if rows is None or not all([x.flags.aligned for x in arrays]):
        return None
    out = np.empty(shape, dtype)
    run(formula, rows, arrays, out, _BLOCKS)
    return out


@lru_cache(1024)
def _laid(itemsize, *laid):
    """The shape of the result of arrays of these shapes and strides, and the rows of a loop that is worth its call."""
    try:
        shape = np.broadcast_shapes(*[own for own, _ in laid])
    except ValueError:  # NumPy's function says what cannot be
        return (), None
    return shape, rows_of(shape, itemsize, False, *laid) if prod(shape) >= LARGE else None


def _add(m, x, y):
    return x + y


def _subtract(m, x, y):
    return x - y


def _multiply(m, x, y):
    return x * y


def _divide(m, x, y):
    return x / y


def _negative(m, x):
    return -x


def _absolute(m, x):
    return m.absolute(x)


def _square(m, x):
    return x * x


def _sqrt(m, x):
    return m.sqrt(x)


def _reciprocal(m, x):
    return 1.0 / x


add, subtract = _two(np.add, operator.add, _add), _two(np.subtract, operator.sub, _subtract)
multiply, divide = _two(np.multiply, operator.mul, _multiply), _two(np.divide, operator.truediv, _divide)
negative, absolute = _one(np.negative, operator.neg, _negative), _one(np.absolute, abs, _absolute)
square, sqrt, reciprocal = [
    _one(ufunc, ufunc, formula)
    for ufunc, formula in ((np.square, _square), (np.sqrt, _sqrt), (np.reciprocal, _reciprocal))
]
