"""Batch, layer and group normalisation on the GPU against the CPU's in float64."""

import numpy as np
import pytest

from chainrule.kernels import cpu

TOLERANCE = {"f8": 1e-11, "f4": 1e-5, "f2": 2e-2}


def compare(got, expected, dtype):
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == dtype and a.shape == b.shape
        np.testing.assert_allclose(
            a.get(), b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * (1 + np.abs(b).max(initial=0))
        )


def given(cupy, rng, dtype, *shapes):
    arrays = [None if s is None else (rng.standard_normal(s) + 3).astype(dtype) for s in shapes]
    on = [None if a is None else cupy.asarray(a) for a in arrays]
    return on, [None if a is None else a.astype("f8") for a in arrays]


@pytest.mark.parametrize(
    "shape", [(5, 3), (2, 3, 4, 5), (1, 1, 1), (3, 2, 3000), (900, 33), (40, 2, 7, 9), (0, 2)], ids=str
)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_batch_norm(cuda, cupy, rng, shape, plain, dtype):
    channels = (shape[1],)
    on, wide = given(cupy, rng, dtype, shape, None if plain else channels, None if plain else channels, shape)
    if not wide[0].size:
        assert np.isnan(cuda.batch_norm(*on[:3], eps=1e-5)[1].get()).all()
        return
    expected = cpu.batch_norm(*wide[:3], eps=1e-5)
    compare(cuda.batch_norm(*on[:3], eps=1e-5), expected, dtype)
    _, mean, _, rstd = (a.astype(dtype) for a in expected)
    got = cuda.batch_norm_backward(on[3], on[0], on[1], cupy.asarray(mean), cupy.asarray(rstd))
    compare(got, cpu.batch_norm_backward(wide[3], wide[0], wide[1], mean.astype("f8"), rstd.astype("f8")), dtype)


@pytest.mark.parametrize(
    "shape, axes", [((4, 3), 1), ((2, 3, 5), 2), ((130, 40), 1), ((2, 2500), 1), ((3, 1), 1), ((0, 4), 1)], ids=str
)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_layer_norm(cuda, cupy, rng, shape, axes, plain, dtype):
    last = None if plain else shape[-axes:]
    on, wide = given(cupy, rng, dtype, shape, last, last, shape)
    expected = cpu.layer_norm(*wide[:3], axes=axes, eps=1e-5)
    compare(cuda.layer_norm(*on[:3], axes=axes, eps=1e-5), expected, dtype)
    _, mean, rstd = (a.astype(dtype) for a in expected)
    got = cuda.layer_norm_backward(on[3], on[0], on[1], cupy.asarray(mean), cupy.asarray(rstd), axes=axes)
    wanted = cpu.layer_norm_backward(wide[3], wide[0], wide[1], mean.astype("f8"), rstd.astype("f8"), axes=axes)
    compare(got, wanted, dtype)


@pytest.mark.parametrize("shape, groups", [((5, 6), 3), ((2, 4, 5, 8), 2), ((3, 2, 700), 1), ((0, 4, 3), 2)], ids=str)
@pytest.mark.parametrize("which", ["neither", "weight", "bias", "both"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_group_norm(cuda, cupy, rng, shape, groups, which, dtype):
    shapes = [shape[1:2] if which in (name, "both") else None for name in ("weight", "bias")]
    on, wide = given(cupy, rng, dtype, shape, *shapes, shape)
    expected = cpu.group_norm(*wide[:3], groups=groups, eps=1e-5)
    compare(cuda.group_norm(*on[:3], groups=groups, eps=1e-5), expected, dtype)
    _, mean, rstd = (a.astype(dtype) for a in expected)
    got = cuda.group_norm_backward(on[3], on[0], on[1], cupy.asarray(mean), cupy.asarray(rstd), groups=groups)
    wanted = cpu.group_norm_backward(wide[3], wide[0], wide[1], mean.astype("f8"), rstd.astype("f8"), groups=groups)
    compare(got, wanted, dtype)


@pytest.mark.parametrize("n", [31, 64, 511, 3000, 3001, 8192, 9001])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_way_of_sharing_rows(cuda, cupy, rng, n, dtype):
    on, wide = given(cupy, rng, dtype, (3, n), (n,), (n,), (3, n))
    expected = cpu.layer_norm(*wide[:3], axes=1, eps=1e-5)
    compare(cuda.layer_norm(*on[:3], axes=1, eps=1e-5), expected, dtype)
    mean, rstd = (a.astype(dtype) for a in expected[1:])
    got = cuda.layer_norm_backward(on[3], on[0], on[1], cupy.asarray(mean), cupy.asarray(rstd), axes=1)
    compare(
        got, cpu.layer_norm_backward(wide[3], wide[0], wide[1], mean.astype("f8"), rstd.astype("f8"), axes=1), dtype
    )


def test_rows_in_turns(cuda, cupy, rng, order, monkeypatch):
    monkeypatch.setattr("chainrule.kernels.cuda.normalization._TEAMS", 3)
    for n in (40, 600):
        on, wide = given(cupy, rng, "f4", (20, n), (20, n), (n,), (20,), (20,))
        got = cuda.layer_norm_backward(*on, axes=1)
        compare(got, cpu.layer_norm_backward(*wide, axes=1), "f4")


def test_a_large_mean_costs_no_digits(cuda, cupy, rng):
    x = (rng.standard_normal((3, 4000)) + 1e4).astype("f4")
    _, _, var, _ = cuda.batch_norm(cupy.asarray(x.T.reshape(4000, 3)), None, None, eps=1e-5)
    np.testing.assert_allclose(var.get(), x.astype("f8").var(1), rtol=1e-5)
    out, _, rstd = cuda.layer_norm(cupy.asarray(x), None, None, axes=1, eps=0.0)
    np.testing.assert_allclose(rstd.get(), 1 / x.astype("f8").std(1), rtol=1e-5)
    normal = (x - x.astype("f8").mean(1)[:, None]) * rstd.get()[:, None]
    np.testing.assert_allclose(out.get(), normal, rtol=1e-4, atol=1e-4)


def test_schedule_orders(cuda, cupy, rng, order):
    for shape in ((700, 34), (5, 2, 600), (300, 3, 7)):
        (x, g, w, mean, rstd), wide = given(cupy, rng, "f4", shape, shape, shape[1], shape[1], shape[1])
        compare(cuda.batch_norm(x, w, w, eps=1e-5), cpu.batch_norm(wide[0], wide[2], wide[2], eps=1e-5), "f4")
        compare(
            cuda.batch_norm_backward(g, x, w, mean, rstd), cpu.batch_norm_backward(wide[1], wide[0], *wide[2:]), "f4"
        )
    for shape in ((3, 70), (2, 3000)):
        (x,), (wide,) = given(cupy, rng, "f4", shape)
        compare(
            cuda.layer_norm(x, None, None, axes=1, eps=1e-5), cpu.layer_norm(wide, None, None, axes=1, eps=1e-5), "f4"
        )
