"""The (bytes, FLOPs) that no implementation of a convolution can do without: its arrays moved once, 2 |out| K."""

from math import prod

from .geometry import conv_output_size


def conv2d(x, w, b, **geometry):
    """Of the forward pass."""
    return _floor(x.shape, w.shape, x.itemsize, **geometry)


def conv2d_input(g, w, *, input_size, **geometry):
    """Of the adjoint with respect to x."""
    return _floor((g.shape[0], w.shape[1] * geometry["groups"], *input_size), w.shape, g.itemsize, **geometry)


def conv2d_weight(g, x, *, kernel_size, **geometry):
    """Of the adjoint with respect to w."""
    return _floor(x.shape, (g.shape[1], x.shape[1] // geometry["groups"], *kernel_size), x.itemsize, **geometry)


def _floor(x_shape, w_shape, itemsize, *, stride, padding, dilation, groups):
    size = conv_output_size(x_shape[2:], kernel_size=w_shape[2:], stride=stride, padding=padding, dilation=dilation)
    results = x_shape[0] * w_shape[0] * prod(size)
    return itemsize * (prod(x_shape) + prod(w_shape) + results), 2 * results * prod(w_shape[1:])
