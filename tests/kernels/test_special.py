"""Elementwise functions against SciPy, at numbers that would overflow, and their derivatives by differences."""

import numpy as np
import oracles
import pytest
from scipy import special, stats

from chainrule.kernels import cpu

ORACLES = {
    "erf": special.erf,
    "sigmoid": special.expit,
    "logsigmoid": special.log_expit,
    "silu": lambda x: x * special.expit(x),
    "gelu": lambda x: x * stats.norm.cdf(x),
}


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-14), ("float32", 1e-6), ("float16", 1e-3)])
@pytest.mark.parametrize("name", ORACLES)
def test_against_scipy(name, dtype, tolerance, rng, path):
    x = np.concatenate([rng.normal(size=200) * 4, [0, -0.0, 1e-8, 30, -30]]).astype(dtype)
    out = getattr(cpu, name)(x)
    np.testing.assert_allclose(out, ORACLES[name](x.astype(np.float64)), rtol=4 * tolerance, atol=tolerance)
    assert out.dtype == x.dtype


@pytest.mark.parametrize("name", ORACLES)
def test_extremes_without_a_warning(name, path):
    x = np.array([-np.inf, -1e30, -1e4, 1e4, 1e30, np.inf, np.nan])
    low = {"erf": -1, "logsigmoid": x[:3]}.get(name, 0)
    high = {"erf": 1, "sigmoid": 1, "logsigmoid": 0}.get(name, x[3:6])
    out = getattr(cpu, name)(x[1:])
    np.testing.assert_array_equal(out[:2], np.broadcast_to(low, 3)[1:])
    np.testing.assert_array_equal(out[2:5], np.broadcast_to(high, 3))
    assert np.isnan(out[5])


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_shapes_and_types(name, shape, path):
    for x in np.ones(shape, np.float32), np.ones(shape, np.int64), np.ones(shape, ">f4"):
        out = getattr(cpu, name)(x)
        assert type(out) is np.ndarray and out.shape == shape and out.dtype == np.float32


def test_strange_strides(rng, path):
    x = rng.normal(size=(4, 6)).astype("float32")[::-1, ::2].T
    x.setflags(write=False)
    np.testing.assert_allclose(cpu.erf(x), special.erf(x), rtol=1e-6)


def test_softplus_beta_and_threshold(rng):
    x = rng.normal(size=50) * 10
    expected = np.where(2 * x > 8, x, np.log1p(np.exp(2 * x)) / 2)
    np.testing.assert_allclose(cpu.softplus(x, beta=2.0, threshold=8.0), expected, rtol=1e-12)


def test_gelu_backward(rng, path):
    x, g = rng.normal(size=(2, 40)) * 2
    np.testing.assert_allclose(cpu.gelu_backward(g, x), oracles.derivative(ORACLES["gelu"], x, g), rtol=1e-6, atol=1e-9)
