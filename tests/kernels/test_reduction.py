"""Sums: right to the last digits whatever axis, and NumPy's shapes and dtypes."""

from itertools import chain, combinations

import numpy as np
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.cpu import folds, reduction

SHAPES = [(), (5,), (70, 80), (8, 6, 14, 14), (7, 9, 100, 3), (200_001,), (9000, 1), (1, 300_000), (3, 0, 5), (0,)]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_choice_of_axes(shape, keepdims, rng, path):
    x = (rng.random(shape) + 0.1).astype("float32")
    every = chain.from_iterable(combinations(range(len(shape)), r) for r in range(len(shape) + 1))
    for axis in (None, *every, *(range(-len(shape), len(shape)))):
        out = cpu.sum(x, axis, keepdims)
        expected = x.astype(np.float64).sum(axis, keepdims=keepdims)
        assert type(out) is np.ndarray and out.dtype == np.float32 and out.shape == expected.shape
        np.testing.assert_allclose(out, expected, rtol=1e-6)
        assert out.size == 0 or not np.shares_memory(out, x)


@pytest.mark.parametrize("shape, axis", [((17_800_000, 1), 0), ((17_800_000,), None), ((8_900_000, 2), 0)])
def test_millions_of_tenths(shape, axis, path):
    x = np.full(shape, 0.1, np.float32)
    np.testing.assert_allclose(
        cpu.sum(x, axis), np.float64(x.flat[0]) * (x.size // x[:1].size if axis == 0 else x.size), rtol=1e-6
    )


@pytest.mark.parametrize(
    "dtype, expected",
    [("float16", "float16"), ("float64", "float64"), ("bool", "int64"), ("int32", "int64"), ("uint8", "int64")],
)
def test_dtypes(dtype, expected, path):
    out = cpu.sum(np.ones((30, 400), dtype), 0)
    assert out.dtype == expected and (out == 30).all()


def test_half_does_not_stop_at_2048(path):
    assert cpu.sum(np.ones((10_000, 3), np.float16), 0).tolist() == [10_000] * 3


@pytest.mark.parametrize("lay", [lambda x: x.T, lambda x: x[::-1, ::-2], lambda x: np.broadcast_to(x[:1], x.shape)])
def test_layouts(lay, rng, path):
    x = lay(rng.normal(size=(90, 100)).astype("float32"))
    for axis in 0, 1, None:
        np.testing.assert_allclose(cpu.sum(x, axis), x.astype(np.float64).sum(axis), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [10, 10_000])
def test_wrong_axis(size):
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds"):
        cpu.sum(np.ones((size, 1), np.float32), 2)
    with pytest.raises(ValueError, match="duplicate|repeated axis"):
        cpu.sum(np.ones((size, 1), np.float32), (0, 0))


def test_two_hundred_runs_bit_equal(rng, threads, monkeypatch):
    monkeypatch.setattr(folds, "_GRAIN", 1)
    threads(4)
    x = rng.normal(size=(20, 30, 40)).astype("float32")
    assert len({(cpu.sum(x, (0, 2)).tobytes(), cpu.sum(x, 1).tobytes()) for _ in range(200)}) == 1


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 40, 127, 128])
def test_the_loop_for_tiny_arrays_adds_in_numpys_order(n, rng, path):
    for scale in (1, 1e30, 0, np.inf, np.nan):
        x = (rng.normal(size=n) * 10.0 ** rng.uniform(-9, 9, n)).astype("float32")
        x[n // 2 :][:1] *= scale
        expected = np.add.reduce(x, None, np.float64)
        np.testing.assert_array_equal(reduction._sum_of_tiny(x), expected)
        for one in (x, x.reshape(1, n, 1), np.broadcast_to(x, (1, n))):
            out = cpu.sum(one)
            assert out.shape == () and out.dtype == np.float32
            np.testing.assert_array_equal(out, np.float32(expected))
