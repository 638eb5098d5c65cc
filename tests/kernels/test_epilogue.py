"""A convolution or a product that goes through an activation and a pooling, and the adjoint, against plain loops."""

import numpy as np
import oracles
import pytest

from chainrule.kernels import cpu
from chainrule.kernels.cpu import columns, workers

PLAIN = dict(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
# x, w, what differs from PLAIN: direct loops; products of whole images, and of rows of them
CASES = [
    ((3, 2, 16, 15), (5, 2, 3, 3), {}),
    ((5, 3, 9, 9), (4, 3, 2, 2), dict(padding=((1, 0), (0, 1)))),
    ((3, 4, 8, 8), (6, 2, 3, 3), dict(groups=2)),
    ((3, 20, 7, 8), (3, 20, 1, 1), {}),
]
POOLS = [None, ("max", 2, 2), ("avg", 2, 2), ("max", 3, 2), ("avg", 2, 3), ("max", 1, 1)]
CURVES = {"relu": lambda z: np.where(z > 0, z, 0), "tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}
SLOPES = {"relu": lambda y: y > 0, "tanh": lambda y: 1 - y * y, "sigmoid": lambda y: y * (1 - y)}


def pooled(y, pool):
    """(the result, its adjoint) of a pooling at y, window by window."""
    if pool is None:
        return y, lambda g: g
    kind, kh, kw = pool
    out = np.empty((*y.shape[:2], y.shape[2] // kh, y.shape[3] // kw))
    tile = lambda n, o, i, j: (n, o, slice(i * kh, i * kh + kh), slice(j * kw, j * kw + kw))
    windows = {at: tile(*at) for at in np.ndindex(out.shape)}
    for at, window in windows.items():
        out[at] = y[window].max() if kind == "max" else y[window].mean()

    def adjoint(g):
        into = np.zeros(y.shape)
        for at, window in windows.items():
            share = y[window] == out[at] if kind == "max" else 1 / (kh * kw)
            into[window] = g[at] * share
        return into

    return out, adjoint


@pytest.mark.parametrize("activation", CURVES)
@pytest.mark.parametrize("pool", POOLS, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_forward_and_adjoint(path, case, pool, activation, rng):
    x, w, differs = case
    x, w, b = (rng.standard_normal(shape) for shape in (x, w, w[:1]))
    result = CURVES[activation](oracles.conv2d(x, w, b, **PLAIN | differs))
    out, saved = cpu.conv2d_act_pool(x, w, b, **PLAIN | differs, activation=activation, pool=pool)
    expected, adjoint = pooled(result, pool)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    g = rng.standard_normal(out.shape)
    got = cpu.act_pool_backward(g, out, saved, activation=activation, pool=pool, size=result.shape[2:])
    np.testing.assert_allclose(got, adjoint(g) * SLOPES[activation](result), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("images", [1, 7])
@pytest.mark.parametrize("pool", [("max", 2, 2), ("avg", 2, 2)], ids=str)
def test_pieces_of_images_and_of_rows_agree(images, pool, rng, monkeypatch, plans_anew):
    x, w = rng.standard_normal((images, 20, 16, 16)), rng.standard_normal((40, 20, 3, 3))
    expected = cpu.conv2d_act_pool(x, w, None, **PLAIN, activation="tanh", pool=pool)
    monkeypatch.setattr(columns, "_PIECE_BYTES", 100_000)  # some rows of an image
    plans_anew()
    monkeypatch.setattr(workers._state, "threads", 4)
    pieces = cpu.conv2d_act_pool(x, w, None, **PLAIN, activation="tanh", pool=pool)
    for got, value in zip(pieces, expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3)])
def test_of_equals_the_first_and_nan_wins(path, shape):
    x = np.zeros((1, 1, 6, 6))
    x[0, 0, 3, 3] = np.nan
    sizes = dict(**PLAIN, activation="relu", pool=("max", *shape))
    out, saved = cpu.conv2d_act_pool(x, np.ones((1, 1, 1, 1)), None, **sizes)
    assert np.isnan(out[0, 0, 1, 3 // shape[1]]) and np.isnan(out).sum() == 1
    assert saved.dtype == np.uint8 and not saved[~np.isnan(out)].any()


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("pool", POOLS[:3], ids=str)
def test_dtypes_stay(dtype, pool, rng):
    x, w = rng.standard_normal((2, 1, 8, 8)).astype(dtype), rng.standard_normal((3, 1, 3, 3)).astype(dtype)
    out, saved = cpu.conv2d_act_pool(x, w, None, **PLAIN, activation="tanh", pool=pool)
    expected = pooled(np.tanh(oracles.conv2d(x.astype("f8"), w.astype("f8"), None, **PLAIN)), pool)[0]
    assert out.dtype == dtype
    np.testing.assert_allclose(out, expected, rtol=1e-2 if dtype is np.float16 else 1e-5, atol=1e-3)
    g = np.ones_like(out)
    assert cpu.act_pool_backward(g, out, saved, activation="tanh", pool=pool, size=(6, 6)).dtype == dtype


@pytest.mark.parametrize("activation", CURVES)
@pytest.mark.parametrize("biased", [True, False])
def test_products(path, activation, biased, rng):
    x, w, b = (rng.standard_normal(shape) for shape in ((5, 4), (3, 4), (3,)))
    result = CURVES[activation](x @ w.T + b * biased)
    out = cpu.affine_act(x, w, b if biased else None, activation=activation)
    np.testing.assert_allclose(out, result, rtol=1e-12)
    g = rng.standard_normal(out.shape)
    before, sums = cpu.act_backward(g, out, activation=activation, bias=biased)
    expected = g * SLOPES[activation](result)
    np.testing.assert_allclose(before, expected, rtol=1e-12)
    assert (sums is None) is not biased
    if biased:
        np.testing.assert_allclose(sums, expected.sum(0), rtol=1e-12)
