"""Matrix products of every rank, on cuBLAS."""

from math import prod

import cupy

from ..registry import implementation
from . import blas
from .epilogue import act_backward, activate
from .reduction import sum as sum_over


def _floor(a, b):
    columns = b.shape[-1] if b.ndim > 1 else 1
    size = prod(cupy.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * prod(a.shape[-2:-1]) * columns
    return a.nbytes + b.nbytes + size * a.itemsize, 2 * size * a.shape[-1]


@implementation("matmul", "cuda", floor=_floor)
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
    """x as one matrix, or one stack of them."""
    return cupy.broadcast_to(x, batch + x.shape[-2:]).reshape(prod(batch), *x.shape[-2:]) if batch else x


def _alike(*arrays):
    """Whether cuBLAS multiplies and adds them as they are."""
    dtypes = {a.dtype for a in arrays if a is not None}
    return len(dtypes) == 1 and dtypes.pop().name in blas.KINDS


def _affine_floor(x, weight, bias):
    return _floor(x, weight.T)


@implementation("affine", "cuda", floor=_affine_floor)
def affine(x, weight, bias):
    """x weightᵀ + bias, for a matrix x (M, K), weight (N, K) and bias (N,) or None."""
    if bias is not None and _alike(x, weight, bias) and x.size and weight.size:
        return blas.affine(x, weight, bias, cupy.empty((len(x), len(weight)), x.dtype))
    out = matmul(x, weight.T)
    if bias is not None:
        out += bias
    return out


@implementation("affine_act", "cuda", floor=lambda x, weight, bias, *, activation: _affine_floor(x, weight, bias))
def affine_act(x, weight, bias, *, activation):
    """`affine`, then "relu", by the product's own kernel, "tanh" or "sigmoid", in place."""
    if _alike(x, weight, bias) and x.size and weight.size:
        out, relu = cupy.empty((len(x), len(weight)), x.dtype), activation == "relu"
        return activate(blas.affine(x, weight, bias, out, relu=relu), "" if relu else activation)
    return activate(affine(x, weight, bias), activation)


def _adjoint_floor(g, x, weight, *out, live, **_):
    """Each product that is asked for reads and writes its own."""
    size = 2 * g.shape[0] * g.shape[1] * x.shape[1]
    return g.nbytes + live[0] * (weight.nbytes + x.nbytes) + live[1] * (x.nbytes + weight.nbytes), size * sum(live[:2])


@implementation("affine_backward", "cuda", floor=_adjoint_floor)
def affine_backward(g, x, weight, *, live):
    """The adjoint of `affine`: (g weight, gᵀ x, Σ g) for matrices g (M, N) and x (M, K); None where `live` says so."""
    of_x, of_weight, of_bias = live
    return (
        matmul(g, weight) if of_x else None,
        matmul(g.T, x) if of_weight else None,
        (g[0] if len(g) == 1 else sum_over(g, 0)) if of_bias else None,
    )


@implementation("affine_act_backward", "cuda", floor=_adjoint_floor)
def affine_act_backward(g, x, weight, out, *, activation, live):
    """The adjoint of `affine_act` from its result `out`, else as `affine_backward`."""
    before, dbias = act_backward(g, out, activation=activation, bias=live[2])
    return *affine_backward(before, x, weight, live=(*live[:2], False))[:2], dbias


@implementation(
    "add_product", "cuda", floor=lambda into, x, y: (x.nbytes + y.nbytes + 2 * into.nbytes, 2 * len(x) * into.size)
)
def add_product(into, x, y):
    """into += xᵀ y, for matrices x and y of equally many rows."""
    if into.flags.c_contiguous and into.dtype == x.dtype == y.dtype and into.dtype.name in blas.KINDS:
        blas.gemm(x.T, y, into, beta=1.0)
    else:
        into += matmul(x.T, y)
