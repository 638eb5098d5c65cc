"""Softmax, its logarithm and cross entropy: against scalar loops, differences, and numbers that would overflow."""

from importlib import import_module

import numpy as np
import oracles
import pytest
from scipy import special

from chainrule.kernels import cpu
from chainrule.kernels.cpu.jit import Loop

softmax = import_module("chainrule.kernels.cpu.softmax")  # the package's attribute is the function

TOLERANCE = {"float64": 1e-12, "float32": 2e-6, "float16": 2e-3}
AXES = [((5, 7), -1), ((5, 7), 0), ((2, 3, 4), 1), ((2, 3, 4), -3), ((), 0), ((0, 3), 1), ((3, 0), 1), ((3, 0), 0)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape, axis", AXES)
def test_forward(shape, axis, dtype, rng, path):
    x = np.asarray(rng.normal(size=shape) * 5, dtype)
    tolerance = dict(rtol=0, atol=10 * TOLERANCE[dtype])
    for ours, theirs in (cpu.softmax, special.softmax), (cpu.log_softmax, special.log_softmax):
        out = ours(x, axis)
        assert out.shape == x.shape and out.dtype == x.dtype and type(out) is np.ndarray and out.flags.c_contiguous
        if x.size:
            np.testing.assert_allclose(out, theirs(x.astype(np.float64), axis if shape else None), **tolerance)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_backward(name, axis, rng, path):
    x, g = rng.normal(size=(2, 2, 3, 4))
    forward, backward = getattr(cpu, name), getattr(cpu, f"{name}_backward")
    expected = oracles.derivative(lambda x: getattr(special, name)(x, axis), x, g)
    np.testing.assert_allclose(backward(g, forward(x, axis), axis), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_extremes(scale, dtype, path):
    x = np.array([[scale, 0, -scale], [-scale, -scale, -scale], [-np.inf, 0, 0], [800, 0, -800]], dtype)
    expected = [[1, 0, 0], [1 / 3] * 3, [0, 0.5, 0.5], [1, 0, 0]]
    np.testing.assert_allclose(cpu.softmax(x, 1), expected, rtol=1e-6)
    np.testing.assert_allclose(cpu.log_softmax(x, 1)[0], [0, -scale, -2 * scale], rtol=1e-6)
    np.testing.assert_allclose(cpu.logsumexp(x, 1)[[0, 2, 3]], [scale, np.log(2), 800], rtol=1e-6)


def test_rows_without_an_answer_are_nan(path):
    x = np.array([[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]])
    for function in cpu.softmax, cpu.log_softmax:
        out = function(x, 1)
        assert np.isnan(out[[0, 2]]).all() and np.isnan(out[1, 0])


@pytest.mark.parametrize("axis", [0, (0, 2), (0, 1, 2), -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp(axis, keepdims, rng):
    x = rng.normal(size=(2, 3, 4))
    out = cpu.logsumexp(x, axis, keepdims)
    np.testing.assert_allclose(out, special.logsumexp(x, axis, keepdims=keepdims), rtol=1e-13)
    assert type(out) is np.ndarray


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("axis", [0, 1, 2, (0, 1), (0, 2)])
@pytest.mark.parametrize("lines", ["finite", "infinite"])
def test_logsumexp_and_its_adjoint_along_any_axis(lines, axis, dtype, rng, path):
    x = (rng.normal(size=(5, 40, 300)) * 3).astype(dtype)
    if lines == "infinite":
        for value in np.nan, np.inf, -np.inf:
            x[rng.random(x.shape) < 0.001] = value
        x[0, 0] = x[:, 1, 1] = x[2, :, 3] = -np.inf
    out, wide = cpu.logsumexp(x, axis), x.astype(np.float64)
    tolerance = dict(rtol={"float64": 1e-12, "float32": 1e-5, "float16": 2e-3}[dtype], atol=1e-6)
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_allclose(out, special.logsumexp(wide, axis), **tolerance)
        g = rng.normal(size=out.shape).astype(dtype)
        top = np.where(np.isinf(wide.max(axis, keepdims=True)), 0, wide.max(axis, keepdims=True))
        total = np.exp(wide - top).sum(axis, keepdims=True)
        expected = np.expand_dims(g, axis) * np.exp(wide - top) / np.where(total == 0, 1, total)
    got = cpu.logsumexp_backward(g, x, out, axis)
    assert got.dtype == out.dtype == x.dtype and got.shape == x.shape
    np.testing.assert_allclose(got, expected, **tolerance)


def test_logsumexp_of_infinities_and_of_nothing():
    assert cpu.logsumexp(np.array([-np.inf, -np.inf]), 0) == -np.inf
    assert cpu.logsumexp(np.array([np.inf, 0]), 0) == np.inf
    assert cpu.logsumexp(np.zeros((2, 0)), 1).tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_only_the_infinity_itself_spoils_the_slope_of_a_logsumexp(dtype):
    x = np.array([[np.inf, 1000, -np.inf], [-np.inf, -np.inf, -np.inf], [0, 1000, np.nan]], dtype)
    got = cpu.logsumexp_backward(np.ones(3, dtype), x, cpu.logsumexp(x, 1), 1)
    np.testing.assert_array_equal(got, [[np.nan, 0, 0], [0, 0, 0], [np.nan, np.nan, np.nan]])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("extra", [(), (3,), (2, 2)])
def test_cross_entropy(extra, weighted, smoothing, dtype, rng, path):
    logits, target = rng.normal(size=(4, 5, *extra)).astype(dtype), rng.integers(0, 5, (4, *extra))
    weight = rng.random(5).astype(dtype) if weighted else None
    target.reshape(-1)[1] = -7
    arguments = target, weight, -7, smoothing
    loss, gradient = cpu.cross_entropy(logits, *arguments)
    tolerance = dict(rtol=1e-4, atol=1e-5) if dtype == "float32" else dict(rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(loss, oracles.cross_entropy(logits, *arguments), **tolerance)
    g = rng.normal(size=loss.shape).astype(dtype)
    slope = lambda g: oracles.derivative(lambda x: oracles.cross_entropy(x, *arguments), logits.astype(np.float64), g)
    out = cpu.cross_entropy_backward(g, logits, *arguments)
    np.testing.assert_allclose(out, slope(g), **tolerance)
    assert loss.dtype == out.dtype == logits.dtype and gradient is None
    counted = sum(1.0 if weight is None else weight[t] for t in target.flat if t != -7)
    for reduction, share in ("sum", 1.0), ("mean", 1 / counted):
        reduced, gradient = cpu.cross_entropy(logits, *arguments, reduction, True)
        np.testing.assert_allclose(reduced, loss.sum() * share, **tolerance)
        expected = slope(np.full(loss.shape, share))
        np.testing.assert_allclose(gradient, expected, **tolerance)
        out = cpu.cross_entropy_backward(np.asarray(3, dtype), logits, *arguments, reduction)
        np.testing.assert_allclose(out, 3 * expected, **tolerance)
        assert reduced.dtype == gradient.dtype == out.dtype == logits.dtype and reduced.shape == ()
        assert cpu.cross_entropy(logits, *arguments, reduction)[1] is None


@pytest.mark.skipif(not softmax.compiles(), reason="NumPy has one path")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("classes", [1, 2, 10, 16, 63, 64])
def test_rows_of_few_classes_against_numpy(classes, dtype, rng, monkeypatch):
    for n in 3, 60, 1300:  # the last is more than are shifted together
        x, target = rng.normal(size=(n, classes)).astype(dtype), rng.integers(-1, classes, n)
        x[rng.random(x.shape) < 0.05] = -np.inf
        x[n // 2, -1] = np.nan
        weight, g = rng.uniform(0.5, 2, classes).astype(dtype), rng.normal(size=n).astype(dtype)
        found = []
        for compiled in True, False:
            monkeypatch.setattr(Loop, "use_numba", compiled)
            loss, gradient = cpu.cross_entropy(x, target, weight, -1, 0.1, "none", True)
            found.append((loss, gradient, cpu.cross_entropy_backward(g, x, target, weight, -1, 0.1)))
        for ours, numpys in zip(*found, strict=True):
            np.testing.assert_allclose(ours, numpys, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(not softmax.compiles(), reason="NumPy has one path")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 130, 1000])
def test_rows_in_registers_and_longer_ones_against_numpy(n, dtype, rng, monkeypatch, threads):
    x, g = (rng.normal(size=(2, 37, n)) * 5).astype(dtype)
    x[rng.random(x.shape) < 0.05] = -np.inf
    x[:, 0], x[3, n // 2], x[4, -1] = 1, np.nan, np.inf
    p = {"softmax": special.softmax(g, 1), "log_softmax": special.log_softmax(g, 1)}

    def results():
        yield from (getattr(cpu, name)(x, 1) for name in p)
        yield from (getattr(cpu, f"{name}_backward")(g, out, 1) for name, out in p.items())
        yield cpu.logsumexp(x[5:], 1)
        yield cpu.logsumexp_backward(g[5:, 0], x[5:], cpu.logsumexp(x[5:], 1), 1)

    found = []
    for compiled, count in (False, 1), (True, 1), (True, 3):
        monkeypatch.setattr(Loop, "use_numba", compiled)
        threads(count)
        found.append(list(results()))
    for numpys, ours, by_three in zip(*found, strict=True):
        tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == "float32" else dict(rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours, numpys, **tolerance)
        assert ours.dtype == dtype and ours.tobytes() == by_three.tobytes()


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_no_number_stays_in_its_row(bad, dtype, rng, path):
    logits = rng.normal(size=(4, 37)).astype(dtype)
    logits[1, 30], logits[2, 3] = bad, -np.inf
    loss, gradient = cpu.cross_entropy(logits, np.array([1, 2, 4, 5]), None, -100, 0.0, "sum", True)
    assert np.isnan(loss) and np.isnan(gradient).any(1).tolist() == [False, True, False, False]
    for out in cpu.softmax(logits, 1), cpu.log_softmax(logits, 1):
        assert np.isnan(out).any(1).tolist() == [False, True, False, False]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(9, 5), (6, 300), (2, 3, 520), (3, 0, 8), (3, 4, 2), (40, 700)])
def test_lines_down_a_plane_against_rows(shape, dtype, rng, path, threads):
    axis = len(shape) - 2
    x, g = (rng.normal(size=(2, *shape)) * 3).astype(dtype)
    x[rng.random(shape) < 0.02] = -np.inf
    if x.size:
        x.reshape(-1)[[0, -1]] = np.nan, np.inf
    rows = lambda x: np.ascontiguousarray(np.moveaxis(x, axis, -1))
    for name in "softmax", "log_softmax":
        forward, backward = getattr(cpu, name), getattr(cpu, f"{name}_backward")
        expected = forward(rows(x), -1)
        slope = np.moveaxis(backward(rows(g), expected, -1), -1, axis)
        tolerance = dict(rtol=1e-5, atol=1e-5) if dtype == "float32" else dict(rtol=1e-12, atol=1e-12)
        found = []
        for n in 1, 2, 3:
            threads(n)
            found.append((forward(x, axis), backward(g, forward(x, axis - len(shape)), axis)))
        for out, gradient in found:
            np.testing.assert_allclose(out, np.moveaxis(expected, -1, axis), **tolerance)
            np.testing.assert_allclose(gradient, slope, **tolerance)
            assert out.tobytes() == found[0][0].tobytes() and gradient.tobytes() == found[0][1].tobytes()
        wide = np.repeat(x, 2, -1)
        np.testing.assert_array_equal(forward(wide[..., ::2], axis), found[0][0])


def test_multiply_in_place():
    x = np.ones((2, 3), np.float32)
    assert cpu.multiply_(x, np.float32(2)) is x and (x == 2).all()
    x.flags.writeable = False
    assert cpu.multiply_(x, np.float32(1)) is x


def test_cross_entropy_agrees_with_pytorch(torch, rng, path):
    logits, target, weight = rng.normal(size=(6, 4)), np.array([0, 3, 1, -100, 2, 2]), rng.random(4)
    theirs = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(target), torch.tensor(weight), label_smoothing=0.2, reduction="none"
    )
    np.testing.assert_allclose(cpu.cross_entropy(logits, target, weight, -100, 0.2)[0], theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_weight_of_zero_meets_infinity_as_in_pytorch(smoothing, torch, path):
    logits, target, weight = np.array([[-np.inf, 0, 1], [0, -np.inf, 2]]), np.array([0, 2]), np.array([0.0, 1, 0])
    theirs = torch.nn.functional.cross_entropy(
        *map(torch.tensor, (logits, target, weight)), label_smoothing=smoothing, reduction="none"
    )
    np.testing.assert_array_equal(cpu.cross_entropy(logits, target, weight, -100, smoothing)[0], theirs.numpy())


@pytest.mark.parametrize("wrong", [-1, 5])
def test_target_outside_the_classes(wrong):
    logits, target = np.zeros((2, 5)), np.array([0, wrong])
    message = (
        rf"target {wrong} is not a class of logits with 5 classes: targets must lie in 0\.\.4 or equal ignore_index"
    )
    with pytest.raises(IndexError, match=message):
        cpu.cross_entropy(logits, target, None, -100, 0.0)
    with pytest.raises(IndexError, match=message):
        cpu.cross_entropy_backward(np.ones(2), logits, target, None, -100, 0.0)


def test_no_items(path):
    logits, arguments = np.zeros((0, 3)), (np.zeros(0, np.int64), None, -100, 0.1)
    loss, _ = cpu.cross_entropy(logits, *arguments)
    assert loss.shape == (0,) and cpu.cross_entropy_backward(loss, logits, *arguments).shape == (0, 3)
    loss, gradient = cpu.cross_entropy(logits, *arguments, "mean", True)
    assert np.isnan(loss) and gradient.shape == (0, 3)
    assert cpu.cross_entropy(logits, *arguments, "sum")[0] == 0


def test_two_hundred_runs_bit_equal(rng, threads, monkeypatch):
    monkeypatch.setattr(softmax, "_GRAIN", 1)
    threads(3)
    x = rng.normal(size=(31, 17)).astype("float32")
    assert len({cpu.softmax_backward(x, cpu.softmax(x, 1), 1).tobytes() for _ in range(200)}) == 1


@pytest.mark.skipif(not softmax.compiles(), reason="NumPy has one path")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_of_few_rows_at_once_is_that_of_many(dtype, reduction, rng, monkeypatch):
    for n, classes, smoothing in ((1, 2, 0.0), (7, 5, 0.1), (128, 10, 0.0), (3, 1000, 0.2)):
        x, target = rng.normal(size=(n, classes)).astype(dtype), rng.integers(0, classes, n)
        target[n // 2 + 1 :: 3] = -1
        weight = rng.uniform(0.5, 2, classes).astype(dtype)
        for given in (None, weight):
            how = dict(ignore_index=-1, label_smoothing=smoothing, reduction=reduction, with_gradient=True)
            assert x.size <= softmax._AT_ONCE
            loss, gradient = cpu.cross_entropy(x, target, given, **how)
            with monkeypatch.context() as patch:
                patch.setattr(softmax, "_AT_ONCE", 0)
                other, slopes = cpu.cross_entropy(x, target, given, **how)
            assert loss.dtype == gradient.dtype == dtype and loss.shape == ()
            np.testing.assert_allclose(loss, other, rtol=1e-6 if dtype == "float32" else 1e-14)
            np.testing.assert_array_equal(gradient, slopes)
    with pytest.raises(IndexError, match=r"target 5 is not a class of logits with 3 classes: .* ignore_index=-1"):
        cpu.cross_entropy(np.zeros((2, 3)), np.array([1, 5]), None, **how)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(40, 5), (7, 129), (2, 3, 700), (1, 64, 8)])
def test_the_adjoint_of_logsumexp_is_a_softmax_times_the_slopes(shape, dtype, rng, path, threads):
    x, axis = (rng.normal(size=shape) * 3 + 1000).astype(dtype), len(shape) - 2
    out = cpu.logsumexp(x, axis)
    g, found = rng.normal(size=out.shape).astype(dtype), set()
    for n in 1, 2, 3:
        threads(n)
        found.add(cpu.logsumexp_backward(g, x, out, axis).tobytes())
    expected = special.softmax(x.astype(np.float64), axis) * np.expand_dims(g, axis)
    got = np.frombuffer(found.pop(), dtype).reshape(shape)
    np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype == "float32" else 1e-11)
    assert not found
