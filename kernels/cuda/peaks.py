"""The largest value of each filter along a sequence, and the products of filters with chosen windows alone.

x (N, C, L), w (O, C, k); windows start at i from 0 to P - 1, P = L - k + 1; places (N, O) says where. With the channels
last, a window of k positions is one row of k C neighbours, and so is a filter. Places outside give NaN or are left out:
the GPU is not waited for to say so.
"""

import cupy
import numpy as np

from ..registry import implementation
from . import blas, runtime
from .layout import floats

_PIECE_BYTES = 20_000_000  # of products, so that they are still in the L2 cache when their largest are looked for


def _forward_floor(x, w, b=None, *_):
    return (x.size + w.size) * x.itemsize, 2 * x.shape[0] * (x.shape[2] - w.shape[2] + 1) * w.size


def _product_floor(x, w, places):
    return (places.size + w.shape[0]) * w.shape[1] * w.shape[2] * x.itemsize, 2 * len(x) * w.size


def _input_floor(g, w, places, *, length):
    return (w.size + len(g) * w.shape[1] * length) * g.itemsize, 2 * len(g) * w.size


def _weight_floor(g, x, places, *, width):
    return (g.size + g.shape[1]) * x.shape[1] * width * g.itemsize, 2 * g.size * x.shape[1] * width


@implementation("conv1d_max", "cuda", layout="NLC", floor=_forward_floor)
def conv1d_max(x, w, b):
    """max_i of b[o] + sum w[o, c, j] x[n, c, i + j], and the first i where it stands: (N, O) twice; NaN wins."""
    x, w, b = floats(x, w, b)
    rows, (o, c, k) = _channels_last(x), w.shape
    (n, length, _), filters = rows.shape, cupy.ascontiguousarray(w.transpose(1, 2, 0)).reshape(c, k * o)
    out, places = cupy.empty((n, o), x.dtype), cupy.empty((n, o), np.int64)
    bias = None if b is None else cupy.ascontiguousarray(b)
    images = min(n, max(1, _PIECE_BYTES // max(1, length * k * o * x.itemsize)))
    room = cupy.empty((images, length, k * o), x.dtype)
    for first in range(0, n, max(1, images)):
        part = slice(first, min(first + images, n))
        taps = room[: part.stop - first]
        blas.gemm(rows[part].reshape(-1, c), filters, taps.reshape(-1, k * o))
        grid, arguments = len(taps) * -(-o // 32), (taps, bias, out[part], places[part], length, k, o)
        runtime.launch("peaks", "largest", x.dtype, grid, (32, 8), arguments)
    return out, places


@implementation("windows_product", "cuda", layout="NLC", floor=_product_floor)
def windows_product(x, w, places):
    """sum w[o, c, j] x[n, c, places[n, o] + j]: (N, O)."""
    x, w = floats(x, w)
    rows, filters, places = _channels_last(x), _channels_last(w), cupy.ascontiguousarray(places, np.int64)
    out = cupy.empty(places.shape, x.dtype)
    sizes = _sizes(rows.shape, *filters.shape[:2])
    runtime.launch(
        "peaks", "products", x.dtype, runtime.blocks(32 * out.size), 256, (rows, filters, places, out, *sizes)
    )
    return out


@implementation("windows_input", "cuda", layout="NLC", floor=_input_floor)
def windows_input(g, w, places, *, length):
    """The adjoint of `windows_product` with respect to x: g (N, O) -> (N, C, length)."""
    g, w = floats(g, w)
    g, filters, places = cupy.ascontiguousarray(g), _channels_last(w), cupy.ascontiguousarray(places, np.int64)
    out = cupy.empty((len(g), length, w.shape[1]), g.dtype)
    grid, block = len(g) * length, min(256, 32 * -(-max(1, w.shape[1]) // 32))
    sizes = _sizes(out.shape, *filters.shape[:2])[1:]
    runtime.launch("peaks", "add_filters", g.dtype, grid, block, (g, filters, places, out, *sizes))
    return out.swapaxes(1, 2)


@implementation("windows_weight", "cuda", layout="NLC", floor=_weight_floor)
def windows_weight(g, x, places, *, width):
    """The adjoint of `windows_product` with respect to w: g (N, O), x (N, C, L) -> (O, C, width)."""
    g, x = floats(g, x)
    g, rows, places = cupy.ascontiguousarray(g), _channels_last(x), cupy.ascontiguousarray(places, np.int64)
    out = cupy.empty((g.shape[1], width, x.shape[1]), g.dtype)
    sizes = _sizes(rows.shape, g.shape[1], width)
    runtime.launch("peaks", "add_windows", g.dtype, runtime.blocks(out.size), 256, (g, rows, places, out, *sizes))
    return out.swapaxes(1, 2).copy()


def _channels_last(x):
    """x (N, C, L) as a contiguous (N, L, C); sequences that were looked up as such lie so."""
    return cupy.ascontiguousarray(x.swapaxes(1, 2))


def _sizes(rows_shape, count, width):
    """images, length, channels, count, size for a kernel."""
    return *rows_shape, count, width * rows_shape[2]
