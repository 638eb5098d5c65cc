"""Softmax and cross entropy on the GPU against the CPU's in float64."""

import numpy as np
import pytest

import chainrule as cr
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
    for reduction in ("none", "mean"):
        given = None, -100, 0.1, reduction, True
        loss, gradient = cuda.cross_entropy(cupy.asarray(x), cupy.asarray(target), *given)
        expected, slopes = cpu.cross_entropy(x.astype("f8"), target, *given)
        np.testing.assert_allclose(loss.get(), expected, rtol=TOLERANCE[dtype] * 4)
        np.testing.assert_allclose(gradient.get(), slopes, rtol=2e-2, atol=TOLERANCE[dtype])


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


def test_the_adjoint_of_logsumexp_at_infinities(cuda, cupy):
    x = np.array([[np.inf, 1000, -np.inf], [-np.inf, -np.inf, -np.inf], [0, 1000, np.nan]])
    x, g = cupy.asarray(x), cupy.ones(3)
    got = cuda.logsumexp_backward(g, x, cuda.logsumexp(x, 1), 1).get()
    np.testing.assert_array_equal(got, [[np.nan, 0, 0], [0, 0, 0], [np.nan, np.nan, np.nan]])


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
    given, close = (-100, smoothing), dict(rtol=1e-2, atol=TOLERANCE[dtype] * 4)
    for reduction in ("none", "sum", "mean"):
        loss, gradient = cuda.cross_entropy(on(x), on(target), on(weight), *given, reduction, True)
        expected, slopes = cpu.cross_entropy(wide(x), target, wide(weight), *given, reduction, True)
        assert loss.dtype == gradient.dtype == dtype and loss.shape == expected.shape
        np.testing.assert_allclose(loss.get(), expected, rtol=TOLERANCE[dtype] * 4, atol=TOLERANCE[dtype] * 4)
        np.testing.assert_allclose(gradient.get(), slopes, **close)
        alone, nothing = cuda.cross_entropy(on(x), on(target), on(weight), *given, reduction)
        assert nothing is None and (alone.get() == loss.get()).all()
        slope = g if reduction == "none" else g.flat[0]
        got = cuda.cross_entropy_backward(on(slope), on(x), on(target), on(weight), *given, reduction)
        expected = cpu.cross_entropy_backward(wide(slope), wide(x), target, wide(weight), *given, reduction)
        np.testing.assert_allclose(got.get(), expected, **close)


def test_cross_entropy_in_every_order(cuda, cupy, rng, order):
    for shape in ((300, 10), (3, 3000), (20, 4, 3)):
        x, target = rng.standard_normal(shape).astype("f4"), rng.integers(0, shape[1], (shape[0], *shape[2:]))
        weight = rng.uniform(0.5, 2, shape[1]).astype("f4")
        target.flat[3:] = np.where(np.arange(target.size - 3) % 5 == 0, -1, target.flat[3:])
        got = cuda.cross_entropy(cupy.asarray(x), cupy.asarray(target), cupy.asarray(weight), -1, 0.1, "mean", True)
        expected = cpu.cross_entropy(x.astype("f8"), target, weight.astype("f8"), -1, 0.1, "mean", True)
        for one, wanted in zip(got, expected, strict=True):
            np.testing.assert_allclose(one.get(), wanted, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("reduction, expected", [("mean", np.nan), ("sum", 0.0)])
def test_cross_entropy_of_nothing_that_counts(cuda, cupy, reduction, expected):
    for n in (0, 3):
        target = cupy.full(n, -100)
        loss, gradient = cuda.cross_entropy(cupy.zeros((n, 2)), target, None, -100, 0.0, reduction, True)
        np.testing.assert_array_equal(loss.get(), expected)
        assert gradient.get().tolist() == [[0.0, 0.0]] * n


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_multiply_in_place(cuda, cupy, rng, dtype, size):
    x = rng.standard_normal(size + 1).astype(dtype)
    for first in (0, 1):  # aligned to 16 bytes, and not
        whole = cupy.asarray(x)
        part = whole[first : first + size]
        for factor in (1, 3):
            assert cuda.multiply_(part, cupy.asarray(np.asarray(factor, dtype))) is part
            expected = x.copy()
            expected[first : first + size] *= factor
            np.testing.assert_array_equal(whole.get(), expected)


def test_a_target_that_is_no_class_gives_nan(cuda, cupy):
    loss, _ = cuda.cross_entropy(cupy.zeros((3, 2)), cupy.asarray(np.array([0, 2, -1])), None, -100, 0.0)
    assert np.isnan(loss.get()).tolist() == [False, True, True]


def test_a_captured_step(cuda, cupy, rng):
    w = cr.tensor(rng.standard_normal((5, 3)).astype("f4"), device="cuda", requires_grad=True)

    @cr.capture
    def step(x, target, factor):
        w.grad = None
        loss = cr.cross_entropy(x @ w, target, label_smoothing=0.1)
        (loss * factor).backward(retain_graph=True)
        loss.backward()
        return loss, w.grad

    for factor in (2.0, 1.0, 0.5, 1.0):
        x, target = rng.standard_normal((70, 5)).astype("f4"), rng.integers(0, 3, 70)
        given = [cr.tensor(a, device="cuda") for a in (x, target, np.float32(factor))]
        loss, slope = step(*given)
        expected, slopes = cpu.cross_entropy(x @ w.detach().cpu().numpy(), target, None, -100, 0.1, "mean", True)
        np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)
        np.testing.assert_allclose(slope.cpu().numpy(), x.T @ slopes * (1 + factor), rtol=1e-3, atol=1e-6)
    assert step.reason == ""
