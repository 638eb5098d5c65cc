"""Matrix products, large ones shared by the workers."""

import numpy as np

from . import workers
from .epilogue import activate
from .jit import jit
from .layout import compact, floats, half_by_single

_BLAS_ALONE = 1 << 13  # multiplications up to which OpenBLAS never starts threads, of any kind of product
_FEW = 4  # rows whose product a loop adds in less time than BLAS makes an array of it
_WORTH_SHARING = 1 << 21  # multiplications of a slice that outlast handing it to a worker


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
    if work < 2 * _WORTH_SHARING or min(a.ndim, b.ndim) < 2:
        with workers.one_blas_thread:
            return np.asarray(np.matmul(a, b))
    return _shared(a, b, work)


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


def affine(x, weight, bias):
    """x weightᵀ + bias, for a matrix x (M, K), weight (N, K) and bias (N,) or None."""
    if x.size * len(weight) <= _BLAS_ALONE and x.dtype is weight.dtype and x.itemsize > 2:
        out = x.dot(weight.T)
        return out if bias is None else np.add(out, bias, out)
    return _affine_of_any(x, weight, bias)


@half_by_single
def _affine_of_any(x, weight, bias):
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
