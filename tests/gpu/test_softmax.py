"""Softmax and cross entropy on the GPU against the CPU's in float64."""

import numpy as np
import pytest

from chainrule.kernels import cpu

TOLERANCE = {"f8": 1e-13, "f4": 2e-6, "f2": 4e-3}
SHAPES = [
    ((3, 5), 1),
    ((1, 1), 1),
    ((2, 33), -1),
    ((4, 3, 7), 1),
    ((5, 2), 0),
    ((2, 2500), 1),
    ((0, 3), 1),
    ((3, 257), 1),
]


# (rows, n, inner): of every way in which rows.py shares rows out, whatever the dtype
WAYS = [
    (9000, 3, 1),
    (3, 7, 5),
    (3, 31, 1),
    (3, 64, 1),
    (2, 511, 1),
    (2, 3000, 1),
    (2, 3001, 1),
    (2, 8192, 1),
    (2, 9001, 1),
]


def close(got, expected, dtype):
    assert got.dtype == dtype and got.shape == expected.shape
    np.testing.assert_allclose(got.get(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("shape, axis", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_along_an_axis(cuda, cupy, rng, shape, axis, dtype):
    x, g = (rng.standard_normal(shape).astype(dtype) * 3 for _ in range(2))
    for name in ("softmax", "log_softmax", "logsumexp"):
        close(getattr(cuda, name)(cupy.asarray(x), axis), getattr(cpu, name)(x.astype("f8"), axis), dtype)
    p = cpu.softmax(x.astype("f8"), axis).astype(dtype)
    for name in ("softmax_backward", "log_softmax_backward"):
        expected = getattr(cpu, name)(g.astype("f8"), p.astype("f8"), axis)
        got = getattr(cuda, name)(cupy.asarray(g), cupy.asarray(p), axis)
        np.testing.assert_allclose(
            got.get(), expected, rtol=1e-1 if dtype == "f2" else 1e-4, atol=TOLERANCE[dtype] * 300
        )


def test_schedule_orders(cuda, cupy, rng, order):
    for shape in ((3, 70), (2, 3000)):
        x = rng.standard_normal(shape).astype("f4")
        close(cuda.softmax(cupy.asarray(x), 1), cpu.softmax(x.astype("f8"), 1), "f4")


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_way_of_sharing_rows(cuda, cupy, rng, way, dtype):
    outer, n, inner = way
    x, target = rng.standard_normal((outer, n, inner)).astype(dtype), rng.integers(0, n, (outer, inner))
    close(cuda.softmax(cupy.asarray(x), 1), cpu.softmax(x.astype("f8"), 1), dtype)
    loss, p = cuda.cross_entropy(cupy.asarray(x), cupy.asarray(target), None, -100, 0.1)
    expected, log_p = cpu.cross_entropy(x.astype("f8"), target, None, -100, 0.1)
    np.testing.assert_allclose(loss.get(), expected, rtol=TOLERANCE[dtype] * 4)
    got = cuda.cross_entropy_backward(cupy.ones((outer, inner), dtype), p, cupy.asarray(target), None, -100, 0.1)
    expected = cpu.cross_entropy_backward(np.ones((outer, inner)), log_p, target, None, -100, 0.1)
    np.testing.assert_allclose(got.get(), expected, rtol=2e-2, atol=TOLERANCE[dtype])


def test_rows_that_are_not_aligned(cuda, cupy, rng):
    x = rng.standard_normal(1 + 3 * 64).astype("f4")
    on = cupy.asarray(x)[1:].reshape(3, 64)
    close(cuda.softmax(on, 1), cpu.softmax(x[1:].reshape(3, 64).astype("f8"), 1), "f4")


def test_extremes(cuda, cupy):
    inf, nan = np.inf, np.nan
    rows = np.array([[1e4, 0, -1e4], [-inf, 0, 1], [-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1], [0, 0, 0]])
    for wide in (rows, np.repeat(rows, 40, 1)):
        with np.errstate(all="ignore"):
            for name in ("softmax", "log_softmax", "logsumexp"):
                np.testing.assert_allclose(
                    getattr(cuda, name)(cupy.asarray(wide), 1).get(), getattr(cpu, name)(wide, 1)
                )


def test_logsumexp_over_several_axes(cuda, cupy, rng):
    x = rng.standard_normal((2, 3, 4))
    for axis in (0, (0, 2), (1, 2), (0, 1, 2), ()):
        for keepdims in (False, True):
            got = cuda.logsumexp(cupy.asarray(x), axis, keepdims)
            np.testing.assert_allclose(got.get(), cpu.logsumexp(x, axis, keepdims), rtol=1e-13)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(4, 3), (2, 40), (3, 5, 2), (2, 3000)], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy(cuda, cupy, rng, dtype, shape, weighted, smoothing):
    x = rng.standard_normal(shape).astype(dtype)
    target = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    target.flat[0] = -100
    weight = rng.uniform(0.5, 2, shape[1]).astype(dtype) if weighted else None
    g = rng.standard_normal(target.shape).astype(dtype)
    on = lambda a: None if a is None else cupy.asarray(a)
    wide = lambda a: None if a is None else a.astype("f8")
    loss, p = cuda.cross_entropy(on(x), on(target), on(weight), -100, smoothing)
    expected, log_p = cpu.cross_entropy(wide(x), target, wide(weight), -100, smoothing)
    close(p, log_p, dtype)
    np.testing.assert_allclose(loss.get(), expected, rtol=TOLERANCE[dtype] * 4, atol=TOLERANCE[dtype] * 4)
    got = cuda.cross_entropy_backward(on(g), p, on(target), on(weight), -100, smoothing)
    expected = cpu.cross_entropy_backward(wide(g), log_p, target, wide(weight), -100, smoothing)
    np.testing.assert_allclose(got.get(), expected, rtol=1e-2, atol=TOLERANCE[dtype] * 4)


def test_a_target_that_is_no_class_gives_nan(cuda, cupy):
    loss, _ = cuda.cross_entropy(cupy.zeros((3, 2)), cupy.asarray(np.array([0, 2, -1])), None, -100, 0.0)
    assert np.isnan(loss.get()).tolist() == [False, True, True]
