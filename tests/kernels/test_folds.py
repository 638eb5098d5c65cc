"""Sums, products, extremes, norms and variances of float32 in vectors: NumPy's, over any axes of any layout."""

import numpy as np
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.cpu import folds

NUMPYS = {"sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}
LAYOUTS = [
    lambda x: x,
    lambda x: x.T,
    lambda x: x[::-1, ::2],
    lambda x: np.moveaxis(x, 0, -1),
    lambda x: np.broadcast_to(x[:1], x.shape),
]


def _agree(name, x, axis, keepdims=False):
    """Whether the kernel gives what NumPy does in float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        expected = NUMPYS[name].reduce(x, axis, np.float64, keepdims=keepdims)
        out, rounded = getattr(cpu, name)(x, axis=axis, keepdims=keepdims), expected.astype(np.float32)
    assert type(out) is np.ndarray and out.dtype == np.float32 and out.shape == expected.shape
    exact = name in ("amax", "amin")
    np.testing.assert_allclose(out, rounded, rtol=0 if exact else 2e-7, atol=0 if name != "sum" else 1e-6)
    assert not np.shares_memory(out, x)


def _near_one(rng, shape):
    """Factors whose products stay within bounds, of both signs."""
    return (rng.choice([-1, 1], shape) * np.exp(rng.normal(size=shape) / 20)).astype("float32")


@pytest.mark.parametrize("name", NUMPYS)
def test_against_numpy_for_random_shapes(name, rng, path, threads, monkeypatch):
    monkeypatch.setattr(folds, "_FEW", -1)
    for _ in range(60):
        threads(int(rng.integers(1, 4)))
        for constant, most in (("_PART", 60), ("_PART_OF_MANY", 900), ("_MANY", 80), ("_GRAIN", 50)):
            monkeypatch.setattr(folds, constant, int(rng.integers(1, most)))
        x = _near_one(rng, rng.integers(1, (7, 40, 150)))
        x = LAYOUTS[rng.integers(len(LAYOUTS))](x)
        axis = [None, 0, 1, 2, -1, (0, 1), (1, 2), (0, 2), (0, 1, 2), ()][rng.integers(10)]
        _agree(name, x, axis, bool(rng.integers(2)))


@pytest.mark.parametrize("name", NUMPYS)
@pytest.mark.parametrize("n", [1, 3, 7, 8, 9, 16, 31, 32, 33, 64, 65, 100, 129, 500])
def test_every_rest_of_a_vector(name, n, rng, path, monkeypatch):
    monkeypatch.setattr(folds, "_FEW", -1)
    x = _near_one(rng, (n, n + 1))
    for axis in 0, 1, None:
        _agree(name, x, axis)


@pytest.mark.parametrize("name", NUMPYS)
@pytest.mark.parametrize("special", [np.nan, -np.nan, np.inf, -np.inf])
def test_special_numbers(name, special, rng, path, monkeypatch):
    monkeypatch.setattr(folds, "_FEW", -1)
    for shape in (5, 21), (70, 150):
        x = _near_one(rng, shape)
        x[rng.random(shape) < 0.02] = special
        x[0, :2] = np.nan, np.inf
        for axis in 0, 1, None:
            _agree(name, x, axis)
            _agree(name, np.full(shape, special, np.float32), axis)


@pytest.mark.parametrize("few", [-1, 4096])
def test_norm_and_variance_for_random_shapes(few, rng, path, threads, monkeypatch):
    monkeypatch.setattr(folds, "_FEW", few)
    for _ in range(60):
        threads(int(rng.integers(1, 4)))
        for constant, most in (("_PART", 60), ("_PART_OF_MANY", 900), ("_MANY", 80), ("_GRAIN", 50)):
            monkeypatch.setattr(folds, constant, int(rng.integers(1, most)))
        x = (100 + 5 * rng.normal(size=rng.integers(1, (7, 40, 150)))).astype("float32")
        x = LAYOUTS[rng.integers(len(LAYOUTS))](x)
        axis = [(), (0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)][rng.integers(8)]
        for keepdims in False, True:
            exact = x.astype(np.float64)
            out, expected = cpu.norm(x, axis, keepdims), np.sqrt(np.square(exact).sum(axis, keepdims=keepdims))
            assert out.dtype == np.float32 and out.shape == expected.shape
            np.testing.assert_allclose(out, expected, rtol=2e-7)
            out, expected = cpu.variance(x, axis, keepdims, 0), exact.var(axis, keepdims=keepdims)
            assert out.dtype == np.float32 and out.shape == expected.shape
            np.testing.assert_allclose(out, expected, rtol=2e-7, atol=1e-20)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_equal_numbers_do_not_vary(dtype, path):
    x = np.full((70, 90), 0.1, dtype)
    for axis in (0,), (1,), (0, 1), ():
        out = cpu.variance(x, axis, False, 0)
        assert out.dtype == dtype and not out.any()
        assert np.isnan(cpu.variance(x, axis, False, x.size)).all()


def test_squares_may_be_beyond_float32(path):
    np.testing.assert_allclose(cpu.norm(np.full((3, 3000), 1e30, np.float32), 1), 3000**0.5 * 1e30, rtol=1e-6)


def test_norm_and_variance_of_nothing_nan_and_infinities(path):
    assert cpu.norm(np.empty((3, 0), np.float32), 1).tolist() == [0, 0, 0]
    assert np.isnan(cpu.variance(np.empty((3, 0), np.float32), (1,), False, 0)).all()
    x = np.ones((3, 2000), np.float32)
    x[0, 7], x[1, 7] = np.nan, np.inf
    np.testing.assert_array_equal(cpu.norm(x, 1), np.float32([np.nan, np.inf, 2000**0.5]))
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(cpu.variance(x, (1,), False, 1), [np.nan, np.nan, 0])


@pytest.mark.parametrize("name", NUMPYS)
def test_any_number_of_threads_gives_equal_bits(name, rng, threads, monkeypatch):
    monkeypatch.setattr(folds, "_GRAIN", 1)
    x, found = _near_one(rng, (30, 60, 70)), set()
    for n in range(1, 6):
        threads(n)
        found.add(b"".join(getattr(cpu, name)(x, axis=axis).tobytes() for axis in (None, 0, 1, 2, (0, 2))))
    assert len(found) == 1


@pytest.mark.parametrize("name", NUMPYS)
@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_other_dtypes_are_numpys(name, dtype, rng, path):
    x = (1 + rng.integers(0, 2, (3, 50, 60)) * (rng.random((3, 50, 60)) < 0.0005)).astype(dtype)
    for axis in None, 0, (1, 2):
        out = getattr(cpu, name)(x, axis=axis, keepdims=True)
        expected = NUMPYS[name].reduce(x.astype(np.float64), axis, keepdims=True)
        np.testing.assert_array_equal(out, expected.astype(out.dtype))
        assert out.dtype == (np.int64 if dtype == "int32" and name in ("sum", "prod") else dtype)


def test_a_product_may_pass_beyond_float32_on_its_way(path):
    x = np.ones((3, 2000), np.float32)
    x[:, 5::500] = 1e30, 1e30, 1e-30, 1e-30
    np.testing.assert_allclose(cpu.prod(x, 1), x.astype(np.float64).prod(1), rtol=1e-6)


@pytest.mark.parametrize("name", ["amax", "amin"])
def test_extremes_of_nothing(name):
    with pytest.raises(ValueError, match="zero-size array to reduction operation"):
        getattr(cpu, name)(np.empty((3, 0), np.float32), 1)


OF_SHORT_VECTORS = """
import numpy as np
from chainrule.kernels import cpu
rng = np.random.default_rng(0)
for shape in (90, 150), (700, 9), (70, 7, 20), (9000,):
    x = np.exp(rng.normal(size=shape) / 50).astype("float32")
    for axis in 0, -1, None:
        np.testing.assert_allclose(cpu.sum(x, axis), x.astype(float).sum(axis), rtol=1e-6)
        np.testing.assert_allclose(cpu.prod(x, axis), x.astype(float).prod(axis), rtol=1e-6)
        np.testing.assert_array_equal(cpu.amax(x, axis), x.max(axis))
        np.testing.assert_array_equal(cpu.amin(x, axis), x.min(axis))
        np.testing.assert_allclose(cpu.norm(x, axis), np.sqrt((x.astype(float) ** 2).sum(axis)), rtol=1e-6)
print("right")
"""


def test_with_shorter_vectors(narrow):
    narrow(OF_SHORT_VECTORS)
