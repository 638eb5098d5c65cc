"""Convolution of few channels without columns, in one launch: padded images and filters lie in shared memory."""

import cupy
import numpy as np

from . import runtime
from .reduction import sum

_FEW = 32  # channels on either side, up to which columns and a product cost more
_ROOM = 48 << 10  # bytes of shared memory that every GPU has
_BLOCKS = 264  # for the weights' adjoint: two on each multiprocessor of an H200


def suits(plan, itemsize):
    """Whether these kernels can take a convolution and its adjoints."""
    o, c, positions = plan.o, plan.c, plan.out_size[0] * plan.out_size[1]
    if plan.groups > 1 or plan.pointwise or not 0 < max(o, c) <= _FEW or not 0 < plan.k <= 1024 or not o:
        return False
    forward, backward = _geometry(plan), _turned(plan)
    elements = max(_filters(o) * plan.k + _padded(forward), _filters(o) * positions + _padded(forward))
    if tuple(plan.stride) == (1, 1):
        elements = max(elements, _filters(c) * o * plan.kernel[0] * plan.kernel[1] + _padded(backward))
    return elements * max(4, itemsize) <= _ROOM


def forward(plan, x, w, b):
    """Cross-correlation of x with w, plus b or None."""
    return _correlate(x, w, b, plan.out_shape, _geometry(plan), 0)


def backward(plan, g, w):
    """The adjoint with respect to x, for stride 1: the cross-correlation of g with w turned round."""
    return _correlate(g, w, None, plan.x_shape, _turned(plan), 1)


def weight(plan, g, x):
    """The adjoint with respect to w."""
    x, g = cupy.ascontiguousarray(x), cupy.ascontiguousarray(g)
    geometry, blocks, parts = _geometry(plan), min(plan.n, _BLOCKS), max(1, 256 // plan.k)
    shares = cupy.empty((blocks * parts, plan.o, plan.c, *plan.kernel), np.result_type(x.dtype, np.float32))
    many = _filters(plan.o)
    shared = (many * plan.out_size[0] * plan.out_size[1] + _padded(geometry)) * shares.itemsize
    arguments = x, g, shares, *geometry, plan.n, blocks
    grid = blocks * -(-plan.o // many)
    runtime.launch("direct", "weight", x.dtype, grid, (plan.k, parts), arguments, shared=shared, FILTERS=many)
    return sum(shares, 0).astype(x.dtype, copy=False)


def _correlate(x, w, b, shape, geometry, turned):
    x, w = cupy.ascontiguousarray(x), cupy.ascontiguousarray(w)
    n, count, height, width = shape
    out, many, taps = cupy.empty(shape, x.dtype), _filters(count), x.shape[1] * w.shape[2] * w.shape[3]
    shared = (many * taps + _padded(geometry)) * max(4, x.itemsize)
    block = min(256, 32 * -(-height * width // 64))
    arguments = x, w, b, out, *geometry, np.int32(turned)
    grid = n * -(-count // many)
    runtime.launch("direct", "forward", x.dtype, grid, block, arguments, shared=shared, FILTERS=many)
    return out


def _filters(count):
    """How many filters a block takes: at most 8, evenly."""
    return -(-count // -(-count // 8))


def _padded(geometry):
    """The elements of a padded image."""
    channels, _, _, ph, pw, *_ = geometry
    return channels * ph * pw


def _geometry(plan):
    """What the kernels call GEOMETRY."""
    (top, _), (left, _) = plan.padding
    return _sizes(plan.c, plan.size, plan.o, plan.out_size, plan, plan.stride, (top, left))


def _turned(plan):
    """The same of the adjoint with respect to x."""
    before = [d * (k - 1) - pads[0] for d, k, pads in zip(plan.dilation, plan.kernel, plan.padding, strict=True)]
    return _sizes(plan.o, plan.out_size, plan.c, plan.size, plan, (1, 1), before)


def _sizes(channels, size, count, out_size, plan, stride, before):
    padded = [
        (n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(out_size, stride, plan.dilation, plan.kernel, strict=True)
    ]
    return channels, *size, *padded, count, *plan.kernel, *out_size, *stride, *before, *plan.dilation
