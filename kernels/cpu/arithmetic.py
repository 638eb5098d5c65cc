"""NumPy's arithmetic, with the same bits, by loops that the threads share where arrays are large.

Arrays of one shape that lie without gaps have a loop of their own, of few arguments. Where a result is infinite or NaN,
NumPy computes it once more, for the sake of its warnings.

Each function has NumPy's own as `ufunc`, for those who know that their arrays are small, and for recordings; its
methods, and what is done by keyword, are NumPy's. Of other arrays than NumPy's it is the operator.
"""

import operator
import threading
from functools import cache, lru_cache
from math import prod

import numpy as np
from numpy import ndarray

from . import vector, workers
from .formulas import rows_of, run
from .jit import compiles, variant

LARGE = 1 << 17  # elements from which a loop gains; without gaps, where a worker waits to share it
_LARGEST = 1 << 18  # elements of arrays without gaps from which it gains in any case
_BLOCK = 512  # elements that go to a thread together
_BLOCKS = 32  # of them that outlast handing them to a worker
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


def _looped(formula, dtype, x, *others):
    """The formula of arrays of that dtype by a loop, or None where NumPy serves as well or alone, or has to warn."""
    if not (dtype is _SINGLE or dtype is _DOUBLE) or not compiles():
        return None
    if x.flags.carray:
        for y in others:
            if (y.shape != x.shape and y.shape) or not y.flags.carray:
                break
        else:
            return _without_gaps(formula, dtype, x, *others)
    return _in_rows(formula, dtype, x, *others)


def _without_gaps(formula, dtype, x, *others):
    """The formula of x and others like it, or 0-d."""
    size = x.size
    blocks = -(-size // _BLOCK)
    if size < LARGE:
        return None
    if not workers.attended(blocks // _BLOCKS) and (size < _LARGEST or workers.get_num_threads() == 1):
        return None
    out, mark = np.empty(x.shape, dtype), _own.mark
    loop = _loop(formula, dtype, others and ("every" if others[0].shape else "one"))
    loop(blocks, *map(id, (x, *others, out, mark)), size, grain=_BLOCKS)
    if mark.item():
        mark[0] = 0
        return None
    return out


@cache
def _loop(formula, dtype, other):
    """The loop of a formula of one array, or of an array and another one or a number, shared by the threads."""
    kinds, name = ("every", other) if other else ("every",), f"_{dtype.name}_{other or 'alone'}"
    names = dict(apply=vector.elementwise(formula, kinds, watched=True), one=dtype.type(0))
    return workers.shared(None)(variant(_of_two if other else _of_one, formula.__name__ + name, **names))


apply = one = None  # of each loop its own


def _of_one(x, out, mark, size, first, last):
    apply(one, (first * _BLOCK, min(last * _BLOCK, size), size, 1, x, out, 0, 0, 0, 0, mark))


def _of_two(x, y, out, mark, size, first, last):
    apply(one, (first * _BLOCK, min(last * _BLOCK, size), size, 1, x, y, out, 0, 0, 0, 0, 0, 0, mark))


class _Own(threading.local):
    """Of each thread: where its loops note that a result is infinite or NaN."""

    def __init__(self):
        self.mark = np.zeros(1, np.int64)


_own = _Own()


def _in_rows(formula, dtype, *arrays):
    """The formula of arrays that broadcast or lie in rows."""
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
