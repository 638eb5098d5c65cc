"""Matrix products of every rank, on cuBLAS."""

from math import prod

import cupy

from . import blas


def matmul(a, b):
    """Matrix product by np.matmul's rules for every rank; integers and booleans are CuPy's affair."""
    if a.dtype != b.dtype or a.dtype.name not in blas.KINDS:
        return cupy.matmul(a, b)
    rows, columns = a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    if min(a.ndim, b.ndim) == 0 or rows.shape[-1] != columns.shape[-2]:
        raise ValueError(f"matmul: shapes {a.shape} and {b.shape}: the last axis of one is not the rows of the other")
    out = _product(rows, columns)
    if a.ndim == 1:
        out = out[..., 0, :]
    return out[..., 0] if b.ndim == 1 else out


def _product(a, b):
    if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous:  # one tall matrix
        return _product(a.reshape(prod(a.shape[:-1]), a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    batch = a.shape[:-2] if a.shape[:-2] == b.shape[:-2] else cupy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    out = cupy.empty((*batch, a.shape[-2], b.shape[-1]), a.dtype)
    stacked = out.reshape(prod(batch), *out.shape[-2:]) if batch else out
    blas.gemm(_stacked(a, batch), _stacked(b, batch), stacked)
    return out


def _stacked(x, batch):
    """x as one matrix or one stack of them, in a layout that cuBLAS reads; copied only if it must be."""
    if batch:
        x = cupy.broadcast_to(x, batch + x.shape[-2:]).reshape(prod(batch), *x.shape[-2:])
    return x if blas.is_matrix(x) else cupy.ascontiguousarray(x)


def add_product(into, x, y):
    """into += xᵀ y, for matrices x and y of equally many rows."""
    if into.flags.c_contiguous and into.dtype == x.dtype == y.dtype and into.dtype.name in blas.KINDS:
        blas.gemm(_stacked(x.T, ()), _stacked(y, ()), into, beta=1.0)
    else:
        into += matmul(x.T, y)
