"""Batch, layer and group normalisation against sums done number by number; the adjoints against differences."""

import numpy as np
import oracles
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.cpu import lines, normalization
from chainrule.kernels.cpu.jit import has_numba

TOLERANCE = {"float64": dict(rtol=1e-11, atol=1e-11), "float32": dict(rtol=2e-5, atol=2e-6)}
GROUPED = [((5, 6), 3), ((2, 4, 7), 2), ((2, 6, 5, 8), 3), ((3, 2, 33), 2), ((1, 3, 40), 1)]
LOOSE = dict(rtol=1e-4, atol=1e-4)
AFFINE = {"plain": (False, False), "weight": (True, False), "bias": (False, True), "both": (True, True)}


def affine(rng, name, shape, dtype):
    return (rng.normal(size=shape).astype(dtype) if wanted else None for wanted in AFFINE[name])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 7), (3, 2, 4, 5)])
def test_batch_norm(shape, name, dtype, rng, path):
    x = (rng.normal(size=shape) * 3 + 2).astype(dtype)
    weight, bias = affine(rng, name, shape[1], dtype)
    out, *statistics = cpu.batch_norm(x, weight, bias, eps=1e-3)
    for ours, theirs in zip((out, *statistics), oracles.batch_norm(x, weight, bias, eps=1e-3), strict=True):
        np.testing.assert_allclose(ours, theirs, **TOLERANCE[dtype])
        assert ours.dtype == x.dtype
    if dtype == "float64":
        mean, _, rstd = statistics
        g, ones = rng.normal(size=shape), np.ones(shape[1])
        scale, shift = ones if weight is None else weight, np.zeros(shape[1]) if bias is None else bias
        gx, gweight, gbias = cpu.batch_norm_backward(g, x, weight, mean, rstd)
        f = lambda x, w, b: oracles.batch_norm(x, w, b, eps=1e-3)[0]
        np.testing.assert_allclose(gx, oracles.derivative(lambda x: f(x, scale, shift), x, g), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(
            gweight, oracles.derivative(lambda w: f(x, w, shift), scale, g), rtol=1e-6, atol=1e-7
        )
        np.testing.assert_allclose(gbias, oracles.derivative(lambda b: f(x, scale, b), shift, g), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("shape, axes", [((4, 6), 1), ((6,), 1), ((2, 3, 4), 2), ((2, 3, 5), 1), ((3, 2, 2, 2), 3)])
def test_layer_norm(shape, axes, name, dtype, rng, path):
    x = (rng.normal(size=shape) * 3 + 2).astype(dtype)
    weight, bias = affine(rng, name, shape[-axes:], dtype)
    out, mean, rstd = cpu.layer_norm(x, weight, bias, axes=axes, eps=1e-3)
    expected = oracles.layer_norm(x, weight, bias, axes=axes, eps=1e-3)
    for ours, theirs in zip((out, mean, rstd), expected, strict=True):
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, **TOLERANCE[dtype])
        assert ours.dtype == x.dtype
    if dtype == "float64":
        g = rng.normal(size=shape)
        scale = np.ones(shape[-axes:]) if weight is None else weight
        gx, gweight, gbias = cpu.layer_norm_backward(g, x, weight, mean, rstd, axes=axes)
        f = lambda x, w: oracles.layer_norm(x, w, None, axes=axes, eps=1e-3)[0]
        np.testing.assert_allclose(gx, oracles.derivative(lambda x: f(x, scale), x, g), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(gweight, oracles.derivative(lambda w: f(x, w), scale, g), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(gbias, g.reshape(-1, *shape[-axes:]).sum(0), rtol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("shape, groups", GROUPED)
def test_group_norm(shape, groups, name, dtype, rng, path, threads):
    x = (rng.normal(size=shape) * 3 + 2).astype(dtype)
    weight, bias = affine(rng, name, shape[1], dtype)
    form = lambda x, w, b: oracles.group_norm(x, w, b, groups=groups, eps=1e-3)
    out, mean, rstd = cpu.group_norm(x, weight, bias, groups=groups, eps=1e-3)
    for ours, theirs in zip((out, mean, rstd), form(x, weight, bias), strict=True):
        np.testing.assert_allclose(ours, theirs, **TOLERANCE[dtype])
        assert ours.dtype == x.dtype
    g = rng.normal(size=shape).astype(dtype)
    threads(3)
    found = cpu.group_norm_backward(g, x, weight, mean, rstd, groups=groups)
    threads(1)
    for one, other in zip(found, cpu.group_norm_backward(g, x, weight, mean, rstd, groups=groups), strict=True):
        assert one.tobytes() == other.tobytes() and one.dtype == dtype
    x, g, scale = (v.astype(np.float64) for v in (x, g, np.ones(shape[1]) if weight is None else weight))
    expected = (
        oracles.derivative(lambda x: form(x, scale, None)[0], x, g),
        oracles.derivative(lambda w: form(x, w, None)[0], scale, g),
        g.sum((0, *range(2, g.ndim))),
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, **(dict(rtol=1e-6, atol=1e-7) if dtype == "float64" else LOOSE))


@pytest.mark.parametrize("count", [1, 3])
def test_group_norm_of_a_large_mean(count, rng, threads):
    threads(count)
    x = rng.normal(size=(6, 8, 50)).astype("float32") + np.float32(1e4)
    out, mean, _ = cpu.group_norm(x, None, None, groups=2, eps=1e-5)
    exact = x.astype(np.float64).reshape(12, 200)
    np.testing.assert_allclose(mean, exact.mean(1), rtol=1e-7)
    normal = (exact - exact.mean(1, keepdims=True)) / exact.std(1, keepdims=True)
    np.testing.assert_allclose(out.reshape(12, 200), normal, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(64, 2, 50), (800, 2, 4), (3200, 2)])
def test_small_variance_about_a_large_mean(shape, dtype, rng, path, monkeypatch):
    monkeypatch.setattr(lines, "_MANY", 5000)  # so that the last has chunks
    x = (1e8 + rng.normal(size=shape)).astype("float64") if dtype == "float64" else None
    x = rng.normal(size=shape).astype(dtype) + np.asarray(1e4, dtype) if x is None else x
    out, mean, var, _ = cpu.batch_norm(x, None, None, eps=1e-5)
    exact, over = x.astype(np.float64), (0, *range(2, x.ndim))
    np.testing.assert_allclose(mean, exact.mean(over), rtol=1e-7)
    np.testing.assert_allclose(var, exact.var(over), rtol=1e-5)
    assert abs(float(out.std()) - 1) < 1e-3
    if shape[-1] == 50:
        assert cpu.layer_norm(x, None, None, axes=1, eps=1e-5)[0].std() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("shape", [(3, 5, 50_000), (40, 300, 2)])
def test_batch_norm_of_channels_by_blocks(shape, count, rng, threads):
    """Of so many numbers that the blocks of channels are of two, and of all."""
    threads(count)
    x, g = (rng.normal(size=shape).astype("float32") + 3 for _ in range(2))
    out, mean, var, rstd = cpu.batch_norm(x, None, None, eps=0.0)
    exact, slope = x.astype(np.float64), g.astype(np.float64)
    centre, scale = exact.mean((0, 2), keepdims=True), 1 / exact.std((0, 2), keepdims=True)
    normal = (exact - centre) * scale
    np.testing.assert_allclose(out, normal, rtol=1e-5, atol=1e-5)
    gx, gweight, gbias = cpu.batch_norm_backward(g, x, None, mean, rstd)
    np.testing.assert_allclose(gbias, slope.sum((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(gweight, (slope * normal).sum((0, 2)), rtol=1e-3, atol=1e-5 * slope.size**0.5)
    expected = slope - slope.mean((0, 2), keepdims=True) - normal * (slope * normal).mean((0, 2), keepdims=True)
    np.testing.assert_allclose(gx, expected * scale, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not has_numba(), reason="lines are compiled")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("chunk", [100_000, 1000])
def test_batch_norm_of_small_planes_by_lines(chunk, dtype, rng, threads, monkeypatch):
    """As by planes, and with the same bits whatever the number of threads: by channels, and by images in chunks."""
    monkeypatch.setattr(lines, "_MANY", chunk)
    monkeypatch.setattr(lines, "_CHUNK", chunk)
    for shape in ((97, 130, 3), (64, 17), (1, 40, 31), (250, 1, 4), (1000, 5, 1), (7, 1100, 2)):
        x, g = ((rng.normal(size=shape) + 3).astype(dtype) for _ in range(2))
        weight, bias = (rng.normal(size=shape[1]).astype(dtype) for _ in range(2))
        results = []
        for count, short in ((3, 32), (1, 32), (1, 0)):
            threads(count)
            monkeypatch.setattr(normalization, "_SHORT", short)
            out, mean, var, rstd = cpu.batch_norm(x, weight, bias, eps=1e-3)
            results.append((out, mean, var, rstd, *cpu.batch_norm_backward(g, x, weight, mean, rstd)))
        for one, other, by_planes in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)
            np.testing.assert_allclose(one, by_planes, rtol=1e-5, atol=1e-4 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("count", [1, 3])
def test_layer_norm_of_many_rows(count, rng, threads):
    """The last piece of rows, whose shares are summed together, is shorter than the others."""
    threads(count)
    x, g = (rng.normal(size=(2 * normalization._ROWS + 7, 33)).astype("float32") for _ in range(2))
    _, mean, rstd = cpu.layer_norm(x, None, None, axes=1, eps=1e-5)
    gx, gweight, gbias = cpu.layer_norm_backward(g, x, None, mean, rstd, axes=1)
    mean, rstd = mean[:, None], rstd[:, None]
    normal = (x.astype(np.float64) - mean) * rstd
    np.testing.assert_allclose(gweight, (g * normal).sum(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gbias, g.sum(0, np.float64), rtol=1e-4, atol=1e-5)
    inner = g - g.mean(1, np.float64, keepdims=True) - normal * (g * normal).mean(1, keepdims=True)
    np.testing.assert_allclose(gx, inner * rstd, rtol=1e-4, atol=1e-5)


def test_half_and_layouts(rng, path):
    x = rng.normal(size=(4, 6, 3)).astype("float16").T
    out, mean, _, _ = cpu.batch_norm(x, None, None, eps=1e-5)
    assert out.dtype == mean.dtype == np.float16
    np.testing.assert_allclose(out, oracles.batch_norm(x)[0], rtol=2e-3, atol=2e-3)


def test_no_rows(path):
    out, mean, rstd = cpu.layer_norm(np.zeros((0, 4)), None, None, axes=1, eps=1e-5)
    assert out.shape == (0, 4) and mean.shape == rstd.shape == (0,)
    gx, gweight, gbias = cpu.layer_norm_backward(out, out, None, mean, rstd, axes=1)
    assert gx.shape == (0, 4) and not gweight.any() and not gbias.any()


def test_two_hundred_runs_bit_equal(rng, threads, monkeypatch):
    monkeypatch.setattr(lines, "_GRAIN", 1)
    threads(4)
    x, weight = rng.normal(size=(33, 20)).astype("float32"), rng.normal(size=20).astype("float32")
    runs = set()
    for _ in range(200):
        _, mean, rstd = cpu.layer_norm(x, weight, weight, axes=1, eps=1e-5)
        runs.add(b"".join(a.tobytes() for a in cpu.layer_norm_backward(x, x, weight, mean, rstd, axes=1)))
        _, mean, _, rstd = cpu.batch_norm(x, weight, weight, eps=1e-5)
        runs.add(b"".join(a.tobytes() for a in cpu.batch_norm_backward(x, x, weight, mean, rstd)))
    assert len(runs) == 2
