"""Matrix products, large ones shared by the workers."""

from functools import cache

import numpy as np

from . import panels, vector, workers
from .epilogue import ACTIVATIONS, activate, activated_lines, plus
from .jit import compiles, jit, variant
from .layout import compact, floats, half_by_single
from .panels import at_line
from .vector import address, turn

_BLAS_ALONE = 1 << 13  # multiplications up to which OpenBLAS never starts threads, of any kind of product
_FEW = 4  # rows whose product a loop adds in less time than BLAS makes an array of it
_WORTH_SHARING = 1 << 21  # multiplications of a slice that outlast handing it to a worker
_ROWS, _COLUMNS, _TERMS = 8, 16, 4096  # of products by our own tiles: the fewest, and terms of a sum at most
_LEAST, _MOST = 1 << 20, 1 << 28  # multiplications of such products
_NARROW = 0.6  # vectors that the numbers of a step take the time of
_GRAIN = 1 << 18  # multiplications that outlast handing a slice to a worker that waits


@half_by_single
def matmul(a, b):
    """Matrix product by np.matmul's rules for every rank."""
    return _matmul(a, b)


def _matmul(a, b):
    if b.ndim > 1 and b.shape[-2] == 1 and a.ndim > 1 and a.shape[-1] == 1:
        return np.multiply(a, b, order="C")  # a column times a row: 3 times as fast as by BLAS
    work = a.size * (b.shape[-1] if b.ndim > 1 else 1)
    if work <= _BLAS_ALONE:
        fits = a.ndim == b.ndim == 2 and a.shape[1] == len(b)
        return a.dot(b) if fits else np.asarray(np.matmul(a, b))  # a.dot: half the time of np.matmul
    if _by_tiles(a, b, work):
        return _tiled(a, b, None)
    if work < 2 * _WORTH_SHARING or min(a.ndim, b.ndim) < 2:
        with workers.one_blas_thread:
            return np.asarray(np.matmul(a, b))
    return _shared(a, b, work)


# ---- by tiles of our own: OpenBLAS copies both operands, and its threads wait for each other -------------------------


def _by_tiles(a, b, work):
    """Whether a product is one of those for which our tiles are the faster ones."""
    if a.dtype is not b.dtype or a.dtype.kind != "f" or a.itemsize < 4 or a.ndim != 2 or b.ndim != 2:
        return False
    fits = len(a) >= _ROWS and a.shape[1] == len(b) <= _TERMS and b.shape[1] >= _COLUMNS
    return fits and _LEAST <= work <= _MOST and a.dtype.isnative and compiles()


def _tiled(a, b, bias, activation=""):
    """a @ b, plus bias or None, through the activation."""
    (rows, terms), n, lanes = a.shape, b.shape[1], vector.lanes(a.dtype)
    abreast = min(range(1, panels.vectors(panels.most()) + 1), key=lambda v: -(-n // (v * lanes)) * (v + _NARROW))
    across = lanes * abreast
    count, out = -(-n // across), np.empty((rows, n), a.dtype)
    high = -(-rows // max(1, min(rows // 32, 2 * workers.get_num_threads() // count)))  # of an item: a panel's rows
    (a, across_a), (b, turned) = _either_way(a), _either_way(b)
    a_row, a_step = (1, rows) if across_a else (terms, 1)
    begin = np.zeros(count * across, a.dtype)
    if bias is not None:
        begin[:n] = bias
    sizes = lanes, across, high, ACTIVATIONS.index(activation)
    arguments = a, a_row, a_step, b, turned, begin, _places(terms, across), out, *sizes
    _product_by(abreast)(count * -(-rows // high), *arguments, grain=-(-_GRAIN // (terms * across * high)))
    return out


def _either_way(x):
    """A compact array that holds a matrix, and whether it is turned there."""
    return (x.T, True) if x.T.flags.carray and not x.flags.carray else (compact(x), False)


@cache
def _places(terms, across):
    """Where each row of a panel begins."""
    return np.arange(0, terms * across, across)


tile = most = None  # each width of a panel has a loop with tiles of its own (`_product_by`)


def _product(a, a_row, a_step, b, turned, begin, places, out, few, across, high, activation, first, last):
    """Items first … last: panels of `across` columns of the result, each in pieces of `high` rows."""
    (rows, n), terms, zero = out.shape, len(places), np.zeros(1, out.dtype)
    one, size, pieces, packed = zero[0], out.itemsize, -(-rows // high), -1
    panel = at_line(terms, across, zero)
    for item in range(first, last):
        j, top = item // pieces * across, item % pieces * high
        columns, bottom = min(across, n - j), min(top + high, rows)
        if packed != j:
            packed = j
            if columns < across:
                panel[...] = 0  # what lies there by chance may be numbers too small to be fast
            if turned:
                turn(one, b, j, columns, 0, terms, panel.reshape(-1), 0, across, few)
            else:
                source = address(b) + j * size
                plus(one, (terms, columns, source, n, address(panel), across, address(zero)))
        for i in range(top, bottom, most):
            w, c = address(a) + i * a_row * size, address(out) + (i * n + j) * size
            start = address(begin) + j * size
            it = min(most, bottom - i), w, a_row, a_step, address(panel), address(places), terms, c, n, columns, start
            tile(one, it)
        if activation:
            c = address(out) + (top * n + j) * size
            activated_lines(one, bottom - top, columns, c, n, c, n, address(zero), activation)


@cache
def _product_by(abreast):
    """The loop whose panels are so many vectors wide."""
    own = dict(tile=panels.tile(panels.most(), abreast), most=panels.most())
    return workers.shared(None)(variant(_product, f"product_{abreast}", **own))


def _shared(a, b, work):
    """Slices of the batch where there is one, else of the longer side of the result."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, columns = a.shape[-2], b.shape[-1]
    if a.shape[-1] != b.shape[-2]:
        return np.matmul(a, b)  # raises, naming the shapes
    out = np.empty((*batch, rows, columns), np.result_type(a, b))
    if batch and batch[0] > 1:
        a, b = (np.broadcast_to(x, batch[:1] + x.shape[1:]) if x.ndim == out.ndim else x[None] for x in (a, b))
        return _run(work, batch[0], lambda i: np.matmul(_cut(a, i), _cut(b, i), out=out[i]), out)
    return _by_sides(a, b, work, out)


def _by_sides(a, b, work, out, finish=lambda part, columns: None):
    """a @ b into out by slices of its longer side, each handed to finish(slice of the result, its columns)."""

    def of_rows(i):
        finish(np.matmul(a[..., i, :], b, out=out[..., i, :]), slice(None))

    def of_columns(i):
        finish(np.matmul(a, b[..., i], out=out[..., i]), i)

    rows, columns = out.shape[-2:]
    return _run(work, rows, of_rows, out) if rows >= columns else _run(work, columns, of_columns, out)


def _cut(x, part):
    return x if len(x) == 1 else x[part]


def _run(work, n, product, out):
    workers.run(lambda start, stop: product(slice(start, stop)), n, grain=max(1, _WORTH_SHARING * n // work))
    return out


@half_by_single
def affine(x, weight, bias):
    """x weightᵀ + bias, for a matrix x (M, K), weight (N, K) and bias (N,) or None."""
    return _affine(x, weight, bias)


@half_by_single
def affine_act(x, weight, bias, *, activation):
    """`affine`, then "relu", "tanh" or "sigmoid"."""
    return _affine(*floats(x, weight, bias), activation)


def _affine(x, weight, bias, activation=""):
    def finish(part, columns):
        if bias is not None:
            part += bias[columns]
        if activation:
            activate(part, activation)

    work = x.size * len(weight)
    if _by_tiles(x, weight.T, work) and (bias is None or bias.dtype is x.dtype):
        return _tiled(x, weight.T, bias, activation)
    if work >= 2 * _WORTH_SHARING and x.shape[1] == weight.shape[1]:
        return _by_sides(x, weight.T, work, np.empty((len(x), len(weight)), np.result_type(x, weight)), finish)
    out = _matmul(x, weight.T)
    finish(out, slice(None))
    return out


def add_product(into, x, y):
    """into += xᵀ y, for matrices x and y of equally many rows."""
    dtype = into.dtype
    if len(x) <= _FEW and into.flags.c_contiguous and dtype.itemsize > 2:
        _add_product(into, compact(x, dtype), compact(y, dtype))
    else:
        into += matmul(x.T, y)


def _add_product_numpy(into, x, y):
    into += np.matmul(x.T, y)


@jit(_add_product_numpy)
def _add_product(into, x, y):
    for i in range(len(into)):
        row = into[i]
        for k in range(len(x)):
            factor, other = x[k, i], y[k]
            for j in range(len(row)):
                row[j] += factor * other[j]
