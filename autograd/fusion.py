"""Whether layers in a row may be computed as the one operation of `ops.fused`."""

from __future__ import annotations

from ..kernels import geometry
from .state import state


def is_watched() -> bool:
    """Whether someone is told of every operation, and so must see each layer's own (see `watching`).

    >>> cr.autograd.is_watched()
    False
    """
    return bool(state.get().watch)


def pool_fits(size, kernel_size, stride, padding, dilation, pool) -> bool:
    """Whether a convolution over planes of `size` = (H, W) leaves room for a window of pool = ("max" | "avg", kh, kw).

    >>> cr.autograd.pool_fits((6, 6), (5, 5), (1, 1), "valid", (1, 1), ("max", 2, 2))
    True
    """
    try:
        padding = geometry.padding_pairs(padding, kernel_size=kernel_size, stride=stride, dilation=dilation)
        plane = geometry.conv_output_size(
            size, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
        )
    except ValueError:  # the layer says so itself
        return False
    return plane[0] >= pool[1] and plane[1] >= pool[2]
