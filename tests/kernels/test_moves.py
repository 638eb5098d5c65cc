"""Borders, turned copies and joined arrays: NumPy's bits, for every dtype and layout."""

import numpy as np
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.cpu import moves

DTYPES = ["float32", "float64", "int32", "int64", "float16", "bool", ">f4"]


@pytest.fixture(autouse=True, params=[1, 3])
def _small_slices(request, threads, monkeypatch):
    for name in "_LEAST", "_GRAIN", "_JOINED":
        monkeypatch.setattr(moves, name, 1)
    threads(request.param)


def drawn(rng, shape, dtype):
    """Numbers of which some are NaN, infinite and -0.0, where the dtype has them."""
    x = rng.integers(-9, 9, shape).astype(dtype)
    if x.dtype.kind == "f" and x.size:
        some = x.reshape(-1)[:: max(1, x.size // 5)]
        some[:] = np.resize([np.nan, np.inf, -np.inf, -0.0], len(some))
    return x


def same(found, expected):
    assert type(found) is np.ndarray and found.dtype == expected.dtype and found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_borders(dtype, rng, path):
    for shape, widths in [
        ((3, 5, 7), ((0, 0), (1, 2), (3, 1))), ((3, 5, 17), ((1, 0), (0, 2), (0, 0))), ((40,), ((2, 3),)),
        ((2, 3, 4, 5), ((0, 0), (2, 1), (0, 0), (0, 0))), ((2, 3, 4, 33), ((0, 0), (0, 0), (0, 4), (16, 0))),
        ((3, 5, 7), ((1, 1), (0, 0), (1, 1))), ((3, 5, 7), ((1, 1), (1, 1), (1, 1))), ((3, 4), ((0, 0), (0, 0))),
        ((0, 4), ((1, 0), (2, 2))), ((3, 0), ((0, 1), (2, 2))), ((2, 90, 110), ((0, 0), (1, 1), (1, 1))),
    ]:  # fmt: skip
        x = drawn(rng, shape, dtype)
        for value in (0, 1, -2.5 if x.dtype.kind == "f" else 3):
            for given in x, np.asfortranarray(x), x[::-1], np.broadcast_to(x, shape):
                same(cpu.pad(given, widths, constant_values=value), np.pad(given, widths, constant_values=value))
    same(cpu.pad(x[0, 0, 0], 0, constant_values=1), np.asarray(x[0, 0, 0]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_turned(dtype, rng, path):
    for shape in (3, 5, 7, 2), (16, 16, 1, 33), (1, 70, 1, 90), (0, 2, 3, 4):
        x = drawn(rng, shape, dtype)
        for order in np.array(np.meshgrid(*[range(4)] * 4)).reshape(4, -1).T:
            if len(set(order)) == 4:
                same(cpu.copy(x.transpose(order)), x.transpose(order))
        same(cpu.copy(x[0].T) if len(x) else x, x[0].T if len(x) else x)
        same(cpu.copy(x[..., ::2]), x[..., ::2])
        same(cpu.copy(np.broadcast_to(x, shape).T), x.T)
    assert not np.shares_memory(x, cpu.copy(x)) and cpu.copy(np.array(2.0)).shape == ()


@pytest.mark.parametrize("dtype", [*DTYPES, "object"])
def test_joined(dtype, rng, path):
    for shape, axis, sizes in [
        ((3, 5, 70), 2, (70, 1, 200)), ((3, 5, 70), 1, (5, 0, 2)), ((7, 5, 30), 0, (7, 1, 3)), ((150,), 0, (150, 3)),
        ((90, 1), 1, (1, 1, 1)), ((2, 0, 70), 1, (0, 0)), ((2, 3, 70), 1, (3,)), ((4, 64), 1, (64, 63)),
        ((4, 64), 1, (64, 64)), ((1, 3000), 0, (1,) * 20),
    ]:  # fmt: skip
        xs = [drawn(rng, (*shape[:axis], n, *shape[axis + 1 :]), dtype) for n in sizes]
        for given in xs, [xs[0], *map(np.asfortranarray, xs[1:])], [x[::-1] for x in xs]:
            same_numbers(cpu.concatenate(given, axis), np.concatenate(given, axis))
            same_numbers(cpu.concatenate(given, axis - len(shape)), np.concatenate(given, axis))
        for dim in range(-1, len(shape) + 1):
            same_numbers(cpu.stack([xs[0]] * 3, dim), np.stack([xs[0]] * 3, dim))


def same_numbers(found, expected):
    if expected.dtype == object:
        assert found.dtype == object and found.shape == expected.shape and (found == expected).all()
    else:
        same(found, expected)


def test_joined_of_two_dtypes_and_of_what_does_not_fit(path):
    wide, whole = np.ones((3, 80)), np.ones((3, 80), np.int64)
    same(cpu.concatenate((wide, whole), 1), np.concatenate((wide, whole), 1))
    for join, xs, axis in (cpu.concatenate, (wide, wide[:2]), 1), (cpu.stack, (wide, wide[:2]), 0):
        with pytest.raises(ValueError, match="must match exactly|must have the same shape"):
            join(xs, axis)
    with pytest.raises(np.exceptions.AxisError, match="axis 2 is out of bounds for array of dimension 2"):
        cpu.concatenate((wide, wide), 2)
