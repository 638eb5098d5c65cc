"""Convolution of few channels by shifts of the flattened image, against plain loops and against columns."""

import numpy as np
import pytest
from oracles import conv2d as plain_conv2d

from chainrule.kernels import cpu
from chainrule.kernels.cpu import columns, convolution, direct

# x (N, C, H, W), filters, kernel, padding, dilation: odd counts of filters, taps that are no multiple of five, passes
# longer than a chunk, asymmetric padding, dilation.
SHAPES = [
    ((3, 1, 16, 16), 6, (5, 5), ((0, 0), (0, 0)), (1, 1)),
    ((2, 3, 14, 15), 5, (3, 2), ((1, 1), (1, 0)), (1, 1)),
    ((1, 1, 40, 40), 3, (3, 3), ((0, 0), (0, 0)), (1, 1)),
    ((2, 2, 20, 18), 1, (2, 3), ((2, 0), (0, 1)), (2, 1)),
]


def case(shape, filters, kernel, padding, dilation, rng, dtype=np.float64):
    x = rng.standard_normal(shape).astype(dtype)
    w = rng.standard_normal((filters, shape[1], *kernel)).astype(dtype)
    b = rng.standard_normal(filters).astype(dtype)
    return x, w, b, dict(stride=(1, 1), padding=padding, dilation=dilation, groups=1)


def plan_of(x, w, geometry):
    return columns.Plan(x.shape, w.shape, *geometry.values(), x.itemsize)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_weight_equal_plain_loops(path, shape, rng):
    x, w, b, geometry = case(*shape, rng)
    plan = plan_of(x, w, geometry)
    assert convolution.fastest("conv2d", plan) == "direct", "the sizes of this test are meant for the direct loops"
    out = cpu.conv2d(x, w, b, **geometry)
    np.testing.assert_allclose(out, plain_conv2d(x, w, b, **geometry), rtol=1e-10, atol=1e-10)
    g = rng.standard_normal(out.shape)
    got = direct.weight(plan, g, x)
    # <conv(x, v), g> = <v, weight(g, x)> for every v
    v = rng.standard_normal(w.shape)
    np.testing.assert_allclose((plain_conv2d(x, v, None, **geometry) * g).sum(), (v * got).sum(), rtol=1e-10)


def test_the_same_bits_each_time_and_close_to_columns(rng):
    x, w, b, geometry = case((32, 3, 32, 32), 8, (5, 5), ((2, 2), (2, 2)), (1, 1), rng, np.float32)
    first = cpu.conv2d(x, w, b, **geometry)
    g = rng.standard_normal(first.shape).astype(np.float32)
    weight = cpu.conv2d_weight(g, x, kernel_size=(5, 5), **geometry)
    for _ in range(50):
        np.testing.assert_array_equal(cpu.conv2d(x, w, b, **geometry), first)
        np.testing.assert_array_equal(cpu.conv2d_weight(g, x, kernel_size=(5, 5), **geometry), weight)
    geometry["algorithm"] = "columns"
    np.testing.assert_allclose(cpu.conv2d(x, w, b, **geometry), first, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(cpu.conv2d_weight(g, x, kernel_size=(5, 5), **geometry), weight, rtol=1e-3, atol=1e-2)
