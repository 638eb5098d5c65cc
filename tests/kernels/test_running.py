"""Running sums along any axis, in both directions: NumPy's in float64, bit for bit."""

import numpy as np
import pytest

from chainrule.kernels import cpu

SHAPES = [((7,), 0), ((9, 40), -1), ((9, 40), 0), ((3, 50, 300), 1), ((2, 60, 3), 1), ((3, 0, 4), 1), ((0, 5), 1)]


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int32", "bool"])
@pytest.mark.parametrize("shape, axis", [*SHAPES, ((70, 300), 1), ((300, 700), 0)])
def test_against_numpy(shape, axis, dtype, backwards, rng, path, threads):
    x = (rng.normal(size=shape) * 3).astype(dtype)
    if dtype == "float32" and x.size:
        x.reshape(-1)[[len(x) // 2, -1]] = np.inf, np.nan
    turned = np.flip(x, axis) if backwards else x
    kept = np.dtype(np.int64 if x.dtype.kind in "ib" else dtype)
    expected = np.cumsum(turned, axis, np.float64 if kept.kind == "f" else np.int64)
    if dtype == "float16":
        expected = expected.astype(np.float32)
    expected = (np.flip(expected, axis) if backwards else expected).astype(kept)
    for n in 1, 2, 3:
        threads(n)
        for given in x, np.asfortranarray(x), np.repeat(x, 2, -1)[..., ::2]:
            out = cpu.running_sum(given, axis, backwards)
            assert out.dtype == kept and out.shape == shape
            np.testing.assert_array_equal(out, expected)
