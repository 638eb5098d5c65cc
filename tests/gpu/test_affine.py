"""x Wᵀ + b on the GPU, the bias added by the product's own kernel, against the CPU's."""

import numpy as np
import pytest

from chainrule.kernels import cpu


@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (5, 3, 7), (64, 10, 33), (0, 3, 2), (3, 0, 2), (3, 2, 0)])
@pytest.mark.parametrize("dtype, tolerance", [("f8", 1e-13), ("f4", 1e-5), ("f2", 2e-2)])
@pytest.mark.parametrize("biased", [False, True])
def test_against_the_cpu(cuda, cupy, rng, m, n, k, dtype, tolerance, biased):
    x, weight, bias = (rng.standard_normal(s).astype(dtype) for s in ((m, k), (n, k), (n,)))
    got = cuda.affine(cupy.asarray(x), cupy.asarray(weight), cupy.asarray(bias) if biased else None)
    wide = [a.astype("f8") for a in (x, weight, bias)]
    expected = cpu.affine(*wide[:2], wide[2] if biased else None)
    assert got.dtype == dtype
    np.testing.assert_allclose(got.get(), expected, rtol=tolerance, atol=tolerance)


def test_any_layout_and_dtype(cuda, cupy, rng):
    x, weight, bias = (rng.standard_normal(s).astype("f4") for s in ((7, 6), (7, 5), (6,)))
    on = [cupy.asarray(a) for a in (x, weight, bias)]
    got = cuda.affine(on[0].T, on[1].T, on[2][1:])
    np.testing.assert_allclose(got.get(), x.T @ weight + bias[1:], rtol=1e-5, atol=1e-5)
    got = cuda.affine(on[0], on[0].astype("f8"), None)
    np.testing.assert_allclose(got.get(), x @ x.T, rtol=1e-5, atol=1e-5)
