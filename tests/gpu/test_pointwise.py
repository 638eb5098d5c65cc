"""Elementwise kernels against the CPU's in float64, at sizes with and without a vector part."""

import numpy as np
import pytest

from chainrule.kernels import cpu

ONE = ["erf", "sigmoid", "logsigmoid", "silu", "gelu", "relu"]
TWO = ["relu_backward", "tanh_backward", "sigmoid_backward", "gelu_backward", "silu_backward", "logsigmoid_backward"]
TWO += ["absolute_backward", "rsqrt_backward", "squared_error", "binary_cross_entropy"]
THREE = ["squared_error_backward", "binary_cross_entropy_backward"]
NUMBERS = {  # name: (arrays, numbers)
    "leaky_relu": (1, dict(slope=0.1)),
    "leaky_relu_backward": (2, dict(slope=0.1)),
    "elu": (1, dict(alpha=1.5)),
    "elu_backward": (2, dict(alpha=1.5)),
    "softplus": (1, dict(beta=2.0, threshold=3.0)),
    "softplus_backward": (2, dict(beta=2.0, threshold=3.0)),
    "clip_backward": (2, dict(min=-1.0, max=2.0)),
    "smooth_l1": (2, dict(beta=0.5)),
    "smooth_l1_backward": (3, dict(beta=0.5)),
}
CASES = {name: (count, {}) for count, names in enumerate((ONE, TWO, THREE), 1) for name in names} | NUMBERS
TOLERANCE = {"f8": 1e-14, "f4": 1e-6, "f2": 2e-3}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_against_the_cpu(cuda, cupy, rng, name, dtype):
    for shape in ((), (1,), (3,), (0, 2), (257,), (5, 33)):
        count, numbers = CASES[name]
        arrays = [rng.uniform(-4, 4, shape).astype(dtype) for _ in range(count)]
        got = getattr(cuda, name)(*map(cupy.asarray, arrays), **numbers)
        expected = getattr(cpu, name)(*(a.astype("f8") for a in arrays), **numbers)
        assert got.dtype == dtype and got.shape == shape
        np.testing.assert_allclose(got.get(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", [*ONE, "softplus"])
def test_ends_of_the_range(cuda, cupy, name):
    numbers = CASES[name][1]
    x = np.array([-np.inf, -1000.0, -0.0, 1000.0, np.inf, np.nan])
    with np.errstate(all="ignore"):
        expected = getattr(cpu, name)(x, **numbers)
    np.testing.assert_array_equal(getattr(cuda, name)(cupy.asarray(x), **numbers).get(), expected)


def test_one_over_the_root(cuda, cupy):
    x = np.array([0.0, 0.25, 4.0, np.inf, np.nan])
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(cuda.rsqrt(cupy.asarray(x)).get(), cpu.rsqrt(x))


def test_any_layout_and_alignment(cuda, cupy, rng, order):
    x = cupy.asarray(rng.standard_normal((9, 14)).astype("f4"))
    for view in (x.T, x[::2, 1:], x[1:], x.reshape(-1)[1:], cupy.broadcast_to(x[:1], (4, 14))):
        np.testing.assert_allclose(cuda.sigmoid(view).get(), cpu.sigmoid(view.get()), rtol=1e-6)


def test_shapes_that_broadcast(cuda, cupy, rng):
    g, x, y = rng.normal(size=(4, 1)), rng.normal(size=3), rng.normal(size=())
    got = cuda.smooth_l1_backward(*map(cupy.asarray, (g, x, y)), beta=0.5).get()
    np.testing.assert_allclose(got, cpu.smooth_l1_backward(g, x, y, beta=0.5), rtol=1e-14)
