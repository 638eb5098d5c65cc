"""Convolution of few channels without columns, in one launch: padded images and filters lie in shared memory."""

from math import prod
from typing import NamedTuple

import cupy
import numpy as np

from . import epilogue, runtime
from .reduction import sum

_FEW = 32  # channels on either side, up to which columns and a product cost more
_TAPS = 512  # elements of a filter: threads that fit an SM with any number of registers
_ROOM = 48 << 10  # bytes of shared memory that every GPU has
_BLOCKS = 264  # for the weights' adjoint: two on each multiprocessor of an H200


class Direct:
    """The launches of one convolution and its adjoints, of few channels: see `suited`."""

    def __init__(self, plan, itemsize):
        (top, _), (left, _) = plan.padding
        before = [d * (k - 1) - b for d, k, b in zip(plan.dilation, plan.kernel, (top, left), strict=True)]
        wide = max(4, itemsize)  # bytes of an element in shared memory
        x, out = (plan.c, *plan.size), (plan.o, *plan.out_size)
        self.across = _Correlation.of(x, out, plan, plan.stride, (top, left), wide)
        self.back = _Correlation.of(out, x, plan, (1, 1), before, wide) if tuple(plan.stride) == (1, 1) else None
        self.tiled = self.across.tiled(prod(n // 2 for n in plan.out_size), wide)
        self.x_shape, self.out_shape, self.w_shape = plan.x_shape, plan.out_shape, (plan.o, plan.c, *plan.kernel)
        self.blocks, self.parts, self.taps = min(plan.n, _BLOCKS), max(1, 256 // plan.k), plan.k
        self.shared = (self.across.filters * prod(plan.out_size) + self.across.padded) * wide

    @property
    def fits(self):
        shared = self.shared, self.across.shared, self.back.shared if self.back else 0
        return max(shared) <= _ROOM

    def forward(self, x, w, b, activation=""):
        """Cross-correlation of x with w, plus b or None, through an activation ("" for none)."""
        return _correlate(x, w, b, self.out_shape, self.across, 0, activation)

    def pools(self, pool):
        """Whether `pooled` takes these windows, and the planes hold one."""
        return pool[1:] == (2, 2) and min(self.out_shape[2:]) > 1 and self.tiled.shared <= _ROOM

    def pooled(self, x, w, b, activation, pool):
        """`forward`, then a pooling over windows 2 x 2 side by side: (out, saved) as `epilogue.pooled` gives them."""
        out, saved = epilogue.rooms(self.out_shape, x.dtype, pool)
        places, whole = (saved, None) if pool[0] == "max" else (None, saved)
        how, w = self.tiled, cupy.ascontiguousarray(w)
        arguments = x, w, b, out, places, whole, *how.geometry, epilogue.number(activation)
        options = dict(shared=how.shared, FILTERS=how.filters)
        runtime.launch("direct", "forward_pooled", x.dtype, len(x) * how.groups, how.block, arguments, **options)
        return out, saved

    def backward(self, g, w):
        """The adjoint with respect to x, for stride 1: the cross-correlation of g with w turned round."""
        return _correlate(g, w, None, self.x_shape, self.back, 1)

    def weight(self, g, x):
        """The adjoint with respect to w."""
        n, many = self.x_shape[0], self.across.filters
        shares = cupy.empty((self.blocks * self.parts, *self.w_shape), np.result_type(x.dtype, np.float32))
        grid, block = self.blocks * self.across.groups, (self.taps, self.parts)
        arguments = x, g, shares, *self.across.geometry, n, self.blocks
        runtime.launch("direct", "weight", x.dtype, grid, block, arguments, shared=self.shared, FILTERS=many)
        return sum(shares, 0).astype(x.dtype, copy=False)


class _Correlation(NamedTuple):
    """How a cross-correlation is launched: `filters` to a block, `groups` blocks to an image."""

    geometry: tuple  # what the kernels call GEOMETRY
    filters: int
    groups: int
    padded: int  # elements of a padded image
    shared: int
    block: int | tuple

    @staticmethod
    def of(x, out, plan, stride, before, wide):
        """That of x (channels, height, width), `before` of which are padding, with out (count, oh, ow)."""
        span = [
            (n - 1) * s + d * (k - 1) + 1
            for n, s, d, k in zip(out[1:], stride, plan.dilation, plan.kernel, strict=True)
        ]
        groups = -(-out[0] // 8)
        filters, padded, taps = -(-out[0] // groups), x[0] * prod(span), x[0] * prod(plan.kernel)
        geometry = *x, *span, out[0], *plan.kernel, *out[1:], *stride, *before, *plan.dilation
        block = min(256, 32 * -(-prod(out[1:]) // 64))
        return _Correlation(geometry, filters, groups, padded, (filters * taps + padded) * wide, block)

    def tiled(self, places, wide):
        """The same where a thread takes a window of each plane, (places) to a plane, and threadIdx.y more filters."""
        channels, _, _, _, _, count, kh, kw, *_ = self.geometry
        across = min(256, 32 * max(1, -(-places // 32)))
        filters = min(count, 4 if across <= 64 else 8)  # small planes: threads by filters instead
        down = min(-(-count // filters), 256 // across)
        groups = -(-count // (filters * down))
        shared = (filters * down * channels * kh * kw + self.padded) * wide
        return self._replace(filters=filters, groups=groups, shared=shared, block=(across, down))


def suited(plan, itemsize):
    """The launches of a convolution of few channels; None for others."""
    if plan.groups > 1 or plan.pointwise or max(plan.o, plan.c) > _FEW or not plan.o or not 0 < plan.k <= _TAPS:
        return None
    launches = Direct(plan, itemsize)
    return launches if launches.fits else None


def _correlate(x, w, b, shape, how, turned, activation=""):
    out, w = cupy.empty(shape, x.dtype), cupy.ascontiguousarray(w)
    arguments = x, w, b, out, *how.geometry, np.int32(turned), epilogue.number(activation)
    grid, options = shape[0] * how.groups, dict(shared=how.shared, FILTERS=how.filters)
    runtime.launch("direct", "forward", x.dtype, grid, how.block, arguments, **options)
    return out
