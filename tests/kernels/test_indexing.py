"""index_add and scatter_add: repeated indices, every axis, and indices that are not there."""

import numpy as np
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.cpu import indexing, tiles


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "bool"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_index_add(axis, dtype, rng, path):
    shape, index = (4, 5, 3), rng.integers(0, 3, 7)
    src_shape = [7 if i == axis % 3 else size for i, size in enumerate(shape)]
    src = rng.integers(-5, 5, src_shape).astype(dtype)
    expected = np.zeros(shape, dtype)
    for i, place in enumerate(index):
        np.moveaxis(expected, axis, 0)[place] += np.moveaxis(src, axis, 0)[i]
    out = cpu.index_add(shape, axis, index, src)
    np.testing.assert_array_equal(out, expected)
    assert out.dtype == dtype


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "bool", ">f4"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_add(axis, dtype, rng, path):
    shape, index = (4, 5, 4), rng.integers(0, 4, (3, 5, 2))
    src = rng.integers(-5, 5, (4, 6, 3)).astype(dtype)
    expected = np.zeros(shape, dtype)
    for at in np.ndindex(index.shape):
        to = list(at)
        to[axis] = index[at]
        expected[tuple(to)] += src[at]
    np.testing.assert_array_equal(cpu.scatter_add(shape, axis, index, src), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", ">f4"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_take_along_axis(axis, dtype, rng, path, threads, monkeypatch):
    for name in "_FOUND", "_SOME":
        monkeypatch.setattr(indexing, name, 1)
    threads(2)
    for shape in (4, 5, 6), (3, 7, 1), (1, 300, 2), (2, 3, 300), (0, 3, 2):
        x = rng.integers(-9, 9, shape).astype(dtype)
        chosen = [5 if d == axis % 3 and n else n for d, n in enumerate(shape)]
        if x.size:
            for low in 0, -shape[axis]:
                for kind in "int64", "int32", "uint8" if low == 0 else "int16":
                    index = rng.integers(low, shape[axis], chosen).astype(kind)
                    for given in x, x[::-1].copy()[::-1], np.asfortranarray(x):
                        expected = np.take_along_axis(x, index, axis)
                        found = cpu.take_along_axis(given, index, axis)
                        np.testing.assert_array_equal(found, expected)
                        assert found.dtype == expected.dtype
        else:
            assert cpu.take_along_axis(x, np.zeros(chosen, int), axis).shape == tuple(chosen)
    with pytest.raises(IndexError, match="index 9 is out of bounds for axis 0 with size 3"):
        cpu.take_along_axis(np.ones(3, dtype), np.array([0, 9]), 0)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_places_along_many_lines(axis, count, rng, path, threads, monkeypatch):
    monkeypatch.setattr(indexing, "_GRAIN", 1)
    threads(count)
    for shape in (2, 3, 300), (40, 5, 1), (3, 200, 7):
        narrow = tuple(4 if d == axis else n - (n > 2) * (rng.random() < 0.5) for d, n in enumerate(shape))
        index, src = rng.integers(0, shape[axis], narrow), rng.normal(size=narrow).astype(np.float32)
        expected = np.zeros(shape, np.float32)
        for at in np.ndindex(narrow):
            to = list(at)
            to[axis] = index[at]
            expected[tuple(to)] += src[at]
        np.testing.assert_array_equal(cpu.scatter_add(shape, axis, index, src), expected)


def test_a_million_equal_indices(path):
    index, src = np.zeros(1_000_000, np.int64), np.ones((1_000_000, 1), np.float32)
    assert cpu.index_add((2, 1), 0, index, src).tolist() == [[1_000_000], [0]]


@pytest.mark.parametrize("wrong", [-1, 3])
@pytest.mark.parametrize("name", ["index_add", "scatter_add"])
def test_index_outside(name, wrong, path):
    message = rf"index {wrong} is outside axis 0 of shape \(3,\): it must lie in 0\.\.2"
    with pytest.raises(IndexError, match=message):
        getattr(cpu, name)((3,), 0, np.array([0, wrong]), np.ones(2))


def test_nothing_and_views(path, rng):
    assert not cpu.index_add((3, 2), 0, np.zeros(0, np.int64), np.zeros((0, 2))).any()
    assert not cpu.scatter_add((3, 2), 1, np.zeros((3, 0), np.int64), np.zeros((3, 0))).any()
    assert cpu.index_add((3, 0), 0, np.array([1]), np.zeros((1, 0))).shape == (3, 0)
    src, index = rng.normal(size=(4, 6)).T[::-1], np.arange(12)[::2] % 3
    expected = np.zeros((3, 4))
    for i, place in enumerate(index):
        expected[place] += src[i]
    np.testing.assert_allclose(cpu.index_add((3, 4), 0, index, src), expected)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equal_indices_add_in_their_order_on_any_number_of_threads(count, rng, threads, monkeypatch):
    monkeypatch.setattr(indexing, "_GRAIN", 1)
    threads(count)
    src, index = rng.normal(size=(2, 400, 5)).astype("float32"), rng.integers(0, 9, 400)
    expected = np.zeros((2, 10, 5), "float32")
    for i, place in enumerate(index):
        expected[:, place] += src[:, i]
    np.testing.assert_array_equal(cpu.index_add((2, 10, 5), 1, index, src), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int8", "bool"])
@pytest.mark.parametrize("size", [1, 3, 17, 40])
def test_what_is_cleared_past_the_caches(size, dtype, rng, path, monkeypatch):
    monkeypatch.setattr(tiles, "_LARGE", 0)
    monkeypatch.setattr(indexing, "_GRAIN", 1)
    for after in (1, 3, 5, 16, 33, 100):
        src, index = rng.integers(-5, 5, (2, 7, after)).astype(dtype), rng.integers(0, size, 7)
        expected = np.zeros((2, size, after), dtype)
        for i, place in enumerate(index):
            expected[:, place] += src[:, i]
        np.testing.assert_array_equal(cpu.index_add((2, size, after), 1, index, src), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", ">f4"])
def test_rows_taken_by_all_threads(dtype, rng, path, threads, monkeypatch):
    monkeypatch.setattr(indexing, "_GRAIN", 1)
    monkeypatch.setattr(indexing, "_MANY", 1)
    threads(2)
    x = rng.integers(-9, 9, (11, 6)).astype(dtype)
    for table in (x, x[::-1], x.T.copy().T):
        for index in (rng.integers(-11, 11, 50), rng.integers(0, 11, 50), rng.integers(0, 11, 50).astype("int32")):
            np.testing.assert_array_equal(cpu.take(table, index, axis=0), table[index])
    np.testing.assert_array_equal(cpu.take(x, np.array([[0, 3]]), axis=1), x[:, [[0, 3]]])
    with pytest.raises(IndexError, match="index 11 is out of bounds for axis 0 with size 11"):
        cpu.take(x, np.array([0, 11]), axis=0)
    with pytest.raises(TypeError, match="Cannot cast array data from dtype.'float64'. to dtype.'int64'"):
        cpu.take(x, np.array([0.5, 1.0]), axis=0)
