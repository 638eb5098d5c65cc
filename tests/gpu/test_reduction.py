"""Sums on the GPU against NumPy's in float64."""

import numpy as np
import pytest

SHAPES = [((5,), 0), ((3, 33), 1), ((3, 33), 0), ((2, 3, 4), 1), ((2, 3, 4), (0, 2)), ((1, 1), None), ((0, 3), 0)]
SHAPES += [((20000,), None), ((600, 3), 0), ((2, 70000), 1), ((3, 0), 1), ((4, 2, 3), ())]


@pytest.mark.parametrize("shape, axis", SHAPES, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [("f8", 1e-13), ("f4", 1e-6), ("f2", 2e-3)])
def test_sum(cuda, cupy, rng, shape, axis, dtype, tolerance):
    x = rng.standard_normal(shape).astype(dtype)
    for keepdims in (False, True):
        got = cuda.sum(cupy.asarray(x), axis, keepdims=keepdims)
        expected = x.astype("f8").sum(axis, keepdims=keepdims)
        assert got.dtype == x.dtype and got.shape == expected.shape
        scale = np.abs(x.astype("f8")).sum(axis, keepdims=keepdims) + 1
        assert (np.abs(got.get() - expected) <= tolerance * scale).all()


def test_orders_and_layouts_give_the_same_sum(cuda, cupy, rng, order):
    x = rng.standard_normal((40, 300)).astype("f4")
    first = cuda.sum(cupy.asarray(x), 1).get()
    assert cuda.sum(cupy.asarray(x), 1).get().tolist() == first.tolist()
    turned = cupy.asarray(np.asfortranarray(x))
    np.testing.assert_allclose(cuda.sum(turned, 1).get(), first, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(cuda.sum(turned[::2, ::3], 0).get(), x[::2, ::3].sum(0), rtol=1e-4, atol=1e-5)


def test_ones_are_counted_exactly(cuda, cupy):
    assert float(cuda.sum(cupy.full(1 << 18, 0.1, "f4"))) == pytest.approx(0.1 * (1 << 18), rel=1e-6)
    assert cuda.sum(cupy.ones((3, 2), bool), 0).get().tolist() == [3, 3]
    assert cuda.sum(cupy.arange(4, dtype="i4")).dtype == np.int64
