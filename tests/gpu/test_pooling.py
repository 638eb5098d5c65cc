"""Pooling on the GPU against the CPU's."""

import numpy as np
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.geometry import adaptive_windows, pool_windows

pair = lambda n: (n, n)
pads = lambda n: ((n, n), (n, n))
WINDOWS = [
    dict(kernel_size=pair(2), stride=pair(2), padding=pads(0), ceil_mode=False),
    dict(kernel_size=pair(3), stride=pair(2), padding=pads(1), ceil_mode=True),
    dict(kernel_size=(3, 2), stride=(1, 3), padding=((1, 1), (0, 0)), ceil_mode=False),
]
MEANS = [dict(count_include_pad=a, divisor_override=b) for a, b in ((True, None), (False, None), (True, 5))]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2"])
def test_max(cuda, cupy, rng, order, window, dilation, dtype):
    x = rng.standard_normal((2, 3, 9, 7)).astype(dtype)
    x[0, 0, 4, 4], x[0, 1] = np.nan, 1
    window = {**window, "dilation": pair(dilation)}
    out, places = cuda.max_pool2d(cupy.asarray(x), **window)
    expected, at = cpu.max_pool2d(x, **window)
    np.testing.assert_array_equal(out.get(), expected)
    np.testing.assert_array_equal(places.get(), at)
    g = rng.standard_normal(expected.shape).astype(dtype)
    wanted = cpu.scatter_planes(g, at, plane=(9, 7))
    for windows in (None, pool_windows((9, 7), **window)):
        got = cuda.scatter_planes(cupy.asarray(g), places, plane=(9, 7), windows=windows)
        np.testing.assert_allclose(
            got.get(), wanted, rtol=1e-2 if dtype == "f2" else 1e-5, atol=1e-2 if dtype == "f2" else 1e-5
        )
    np.testing.assert_array_equal(cuda.gather_planes(cupy.asarray(x), places).get(), cpu.gather_planes(x, at))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("dtype, tolerance", [("f8", 1e-13), ("f4", 1e-6), ("f2", 4e-3)])
def test_mean(cuda, cupy, rng, window, mean, dtype, tolerance):
    x = rng.standard_normal((2, 3, 9, 7)).astype(dtype)
    out, expected = cuda.avg_pool2d(cupy.asarray(x), **window, **mean), cpu.avg_pool2d(x.astype("f8"), **window, **mean)
    np.testing.assert_allclose(out.get(), expected, rtol=tolerance, atol=tolerance)
    g = rng.standard_normal(expected.shape).astype(dtype)
    got = cuda.avg_pool2d_backward(cupy.asarray(g), input_size=(9, 7), **window, **mean)
    wanted = cpu.avg_pool2d_backward(g.astype("f8"), input_size=(9, 7), **window, **mean)
    np.testing.assert_allclose(got.get(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [(3, 2), (1, 1), (9, 7), (10, 4)])
def test_adaptive(cuda, cupy, rng, size):
    x = rng.standard_normal((2, 1, 9, 7))
    np.testing.assert_allclose(
        cuda.adaptive_avg_pool2d(cupy.asarray(x), output_size=size).get(), cpu.adaptive_avg_pool2d(x, output_size=size)
    )
    out, places = cuda.adaptive_max_pool2d(cupy.asarray(x), output_size=size)
    expected, at = cpu.adaptive_max_pool2d(x, output_size=size)
    np.testing.assert_array_equal(out.get(), expected)
    np.testing.assert_array_equal(places.get(), at)
    g = rng.standard_normal(expected.shape)
    np.testing.assert_allclose(
        cuda.adaptive_avg_pool2d_backward(cupy.asarray(g), input_size=(9, 7)).get(),
        cpu.adaptive_avg_pool2d_backward(g, input_size=(9, 7)),
    )
    got = cuda.scatter_planes(cupy.asarray(g), places, plane=(9, 7), windows=adaptive_windows((9, 7), output_size=size))
    np.testing.assert_allclose(got.get(), cpu.scatter_planes(g, at, plane=(9, 7)))


def test_nothing_to_pool(cuda, cupy):
    window = dict(WINDOWS[0], dilation=pair(1))
    assert cuda.max_pool2d(cupy.zeros((0, 2, 4, 4)), **window)[0].shape == (0, 2, 2, 2)


@pytest.mark.parametrize(
    "right, wrong",
    [("y < end; y", "y <= end; y"), ("v > top ||", "v >= top ||"), ("r < row_reach[height + y]", "r < row_reach[y]")],
)
def test_planted_faults_are_seen(cuda, cupy, rng, order, plant, right, wrong):
    plant("pooling", right, wrong)
    with pytest.raises((AssertionError, RuntimeError)):
        test_max(cuda, cupy, rng, order, WINDOWS[1], 1, "f4")
