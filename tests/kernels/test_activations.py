"""Gradients of activations in one pass: the compiled loop and its NumPy twin, against the formulas."""

import numpy as np
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.cpu import activations

FORMULAS = {
    "relu_backward": lambda g, out: np.where(out > 0, g, 0),
    "tanh_backward": lambda g, out: g - g * out**2,
    "sigmoid_backward": lambda g, out: g * out - g * out**2,
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("shape", [(), (0,), (3, 4), (activations._SMALL + 5,), (3, 2, activations._SMALL)])
def test_equals_the_formula(path, name, shape, rng):
    g, out = rng.standard_normal(shape), rng.uniform(-1, 1, shape)
    result = getattr(cpu, name)(g, out)
    assert result.shape == shape and result.dtype == g.dtype
    np.testing.assert_allclose(result, FORMULAS[name](g, out), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_strides_and_precisions(path, name, dtype, rng):
    g = rng.standard_normal((80, 90)).astype(dtype).T[::-1]
    out = rng.uniform(-1, 1, (90, 80)).astype(dtype)
    g.flags.writeable = out.flags.writeable = False
    result = getattr(cpu, name)(g, out)
    assert result.dtype == dtype and result.flags.c_contiguous
    expected = FORMULAS[name](g.astype(np.float64), out.astype(np.float64))
    rtol, atol = (2e-3, 2e-3) if dtype == "float16" else (1e-5, 1e-6)
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=atol)


def test_shared_by_the_workers_without_a_seam(rng):
    g, out = rng.standard_normal((2, 3 * activations._GRAIN))
    np.testing.assert_array_equal(cpu.relu_backward(g, out), np.where(out > 0, g, 0))
