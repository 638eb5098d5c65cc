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


# Filters that fill no tile, several blocks of them, long filters, images that end a vector early, more than parts.
MORE = [
    ((17, 1, 12, 11), 9, (5, 5)),
    ((3, 20, 9, 10), 33, (3, 3)),
    ((2, 2, 30, 17), 40, (2, 7)),
    ((5, 4, 16, 16), 8, (2, 5)),
]


@pytest.mark.parametrize("dtype, bound", [(np.float64, 1e-14), (np.float32, 1e-6)])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape, filters, kernel", MORE)
def test_all_three_in_both_precisions(path, shape, filters, kernel, count, dtype, bound, rng, threads):
    """Errors in terms of the sums of the sizes of what is added."""
    threads(count)
    x, w, b, geometry = case(shape, filters, kernel, ((1, 0), (2, 1)), (1, 1), rng, dtype)
    out = cpu.conv2d(x, w, b, **geometry, algorithm="direct")
    g = rng.standard_normal(out.shape).astype(dtype)
    wide = [v.astype(np.float64) for v in (x, w, b, g)]
    dx = cpu.conv2d_input(g, w, input_size=shape[2:], **geometry, algorithm="direct")
    dw = cpu.conv2d_weight(g, x, kernel_size=kernel, **geometry, algorithm="direct")
    for got, want, size in zip((out, dx, dw), plainly(*wide), plainly(*map(abs, wide)), strict=True):
        assert got.dtype == dtype and got.shape == want.shape
        assert (abs(got - want) / size).max() < bound


def plainly(x, w, b, g):
    """The convolution with padding ((1, 0), (2, 1)) and its adjoints, tap by tap."""
    field = np.pad(x, ((0, 0), (0, 0), (1, 0), (2, 1)))
    oh, ow = g.shape[2:]
    out, dfield, dw = np.zeros(g.shape) + b[:, None, None], np.zeros_like(field), np.empty_like(w)
    for i, j in np.ndindex(w.shape[2:]):
        part = (..., slice(i, i + oh), slice(j, j + ow))
        out += np.einsum("oc,nchw->nohw", w[:, :, i, j], field[part])
        dfield[part] += np.einsum("oc,nohw->nchw", w[:, :, i, j], g)
        dw[:, :, i, j] = np.einsum("nohw,nchw->oc", g, field[part])
    return out, dfield[:, :, 1:, 2:-1], dw


def test_the_filters_gradient_has_the_same_bits_whatever_the_number_of_threads(rng, threads):
    for filters in (6, 16):
        x, w, _, geometry = case((20, 2, 14, 14), filters, (5, 5), ((0, 0), (0, 0)), (1, 1), rng, np.float32)
        g = rng.standard_normal((20, filters, 10, 10)).astype(np.float32)
        got = []
        for count in (1, 2, 3):
            threads(count)
            got += [cpu.conv2d_weight(g, x, kernel_size=(5, 5), **geometry, algorithm="direct") for _ in range(20)]
        for one in got[1:]:
            np.testing.assert_array_equal(one, got[0])
