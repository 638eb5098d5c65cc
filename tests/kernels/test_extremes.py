"""The places of extremes along any axis: NumPy's, with NaN, infinities and ties."""

import numpy as np
import pytest

from chainrule.kernels import cpu

SHAPES = [((5,), 0), ((9, 40), -1), ((9, 40), 0), ((3, 50, 300), 1), ((2, 60, 3), 1), ((300, 700), -2), ((4, 5), None)]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "bool"])
@pytest.mark.parametrize("shape, axis", [*SHAPES, ((0, 5, 6), 1), ((1, 7), 0), ((), None)])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_against_numpy(name, shape, axis, dtype, keepdims, rng, path, threads):
    x = np.asarray(rng.normal(size=shape) * 3).astype(dtype)
    if x.size and x.dtype.kind == "f":
        for value in np.nan, np.inf, -np.inf, -0.0, 0.0:
            x[rng.random(shape) < 0.02] = value
    expected = getattr(np, name)(x, axis, keepdims=keepdims)
    for n in 1, 2, 3:
        threads(n)
        for given in x, x.copy(order="F"):
            out = np.asarray(getattr(cpu, name)(given, axis, keepdims))
            assert out.dtype == np.int64 and out.shape == np.shape(expected)
            np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_along_nothing(name):
    with pytest.raises(ValueError, match="empty"):
        getattr(cpu, name)(np.empty((3, 0, 8), np.float32), 1)
