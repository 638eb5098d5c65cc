"""Winograd's convolution against the sum over taps in float64, with the error that its transforms are said to make."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from chainrule.kernels.cpu import columns, convolution, vector, winograd

BOUND = 2e-5  # of the largest result, in float32


def taps(x, w, g, padding):
    """The convolution and both adjoints for the cotangent g, tap by tap, in float64."""
    (top, bottom), (left, right) = padding
    x, w, g = (a.astype("f8") for a in (x, w, g))
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height, width = x.shape[2] - 2, x.shape[3] - 2
    out, gx, gw = np.zeros((len(x), len(w), height, width)), np.zeros_like(x), np.zeros_like(w)
    for i, j in np.ndindex(3, 3):
        at = (..., slice(i, i + height), slice(j, j + width))
        out += np.einsum("nchw,oc->nohw", x[at], w[:, :, i, j])
        gx[at] += np.einsum("nohw,oc->nchw", g, w[:, :, i, j])
        gw[:, :, i, j] = np.einsum("nohw,nchw->oc", g, x[at])
    return out, gx[:, :, top : gx.shape[2] - bottom, left : gx.shape[3] - right], gw


def close(got, exact):
    assert got.dtype == np.float32 and np.abs(got - exact).max() <= BOUND * np.abs(exact).max()


def check(rng, n, c, o, size, padding):
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (o, c, 3, 3), (o,)))
    g = rng.normal(size=(n, o, *(k + sum(pads) - 2 for k, pads in zip(size, padding, strict=True)))).astype("f4")
    expected, gx, gw = taps(x, w, g, padding)
    corner = tuple(before for before, _ in padding)

    out = np.full((n + 2, *g.shape[1:]), np.nan, "f4")  # an image before and one behind, to be left alone
    winograd.forward(x, w, b, out[1:-1], corner)
    close(out[1:-1], expected + b[:, None, None])
    assert np.isnan(out[0]).all() and np.isnan(out[-1]).all()

    back = np.full(x.shape, np.nan, "f4")
    winograd.forward(g, winograd.turned(w), None, back, tuple(2 - before for before in corner))
    close(back, gx)
    close(winograd.weight(g, x, corner), gw)


@pytest.mark.parametrize(
    "n, c, o, size, padding",
    [
        (1, 12, 12, (4, 4), ((1, 1), (1, 1))),
        (5, 13, 17, (9, 11), ((1, 1), (1, 1))),  # no multiple of a tile or a vector
        (3, 16, 24, (7, 5), ((0, 2), (2, 0))),
        (2, 17, 16, (8, 8), ((0, 0), (0, 0))),
        (2, 12, 33, (6, 40), ((2, 2), (2, 2))),
        (7, 16, 16, (14, 14), ((1, 1), (1, 1))),  # several images side by side, and a rest
        (1, 20, 12, (61, 6), ((1, 0), (0, 1))),  # several rows, and a rest
    ],
)
def test_against_loops(n, c, o, size, padding, rng, path, threads):
    for count in (1, 3):
        threads(count)
        check(rng, n, c, o, size, padding)


@pytest.mark.parametrize("bytes_", [1, 200_000])
@pytest.mark.parametrize("n, c, o, size", [(2, 24, 41, (5, 7)), (1, 33, 70, (9, 4)), (5, 80, 80, (6, 6))])
def test_filters_a_few_at_a_time(n, c, o, size, bytes_, path, rng, threads, monkeypatch):
    """Where they outweigh the tiles; forward the bits are those of all filters at once."""
    for count in (1, 2, 3):
        threads(count)
        x, w = rng.normal(size=(n, c, *size)).astype("f4"), rng.normal(size=(o, c, 3, 3)).astype("f4")
        whole, parts = (np.empty((n, o, *size), "f4") for _ in range(2))
        assert not winograd._few(whole.shape, o, c)
        winograd.forward(x, w, None, whole, (1, 1))
        with monkeypatch.context() as patch:
            patch.setattr(winograd, "_MANY", 1)
            patch.setattr(winograd, "_FILTER_BYTES", bytes_)
            assert winograd._few(whole.shape, o, c)
            check(rng, n, c, o, size, ((1, 1), (1, 1)))
            winograd.forward(x, w, None, parts, (1, 1))
        np.testing.assert_allclose(parts, whole, rtol=0, atol=0 if path == "numba" else BOUND * np.abs(whole).max())


@settings(max_examples=40)
@given(data=st.data())
def test_drawn_shapes(data):
    draw = lambda least, most: data.draw(st.integers(least, most))
    padding = tuple((draw(0, 2), draw(0, 2)) for _ in range(2))
    size = tuple(max(draw(1, 13), 6 - sum(pads)) for pads in padding)
    check(np.random.default_rng(draw(0, 2**32)), draw(1, 5), draw(1, 20), draw(1, 20), size, padding)


@pytest.mark.parametrize("near", [1, 50_000, 10_000_000])
def test_pieces_of_every_size_agree(near, rng, threads, monkeypatch):
    monkeypatch.setattr(winograd, "_NEAR_BYTES", near)
    threads(2)
    check(rng, 9, 12, 13, (17, 10), ((1, 1), (1, 1)))


@pytest.mark.parametrize("shape", [(1, 8, 4, 4), (16, 64, 56, 56), (3, 5, 13, 9), (32, 8, 8, 8), (2, 3, 5, 200)])
@pytest.mark.parametrize("wanted", [1, 16, 100, 10_000])
def test_every_tile_is_in_one_piece(shape, wanted):
    tiles = winograd._Tiles(shape, wanted, 16, 2)
    n, height, width = shape[0], -(-shape[2] // 4), -(-shape[3] // 4)
    seen = np.zeros((n, height), int)
    for piece in tiles.pieces(0, tiles.items):
        seen[piece.first : piece.first + piece.images, piece.top : piece.top + piece.rows] += 1
        assert piece.count == piece.rows * piece.images * width <= tiles.most
    assert (seen == 1).all()


def test_bits_do_not_depend_on_the_number_of_threads_forward_and_repeat_backward(rng, threads):
    x, w = rng.normal(size=(6, 16, 20, 20)).astype("f4"), rng.normal(size=(16, 16, 3, 3)).astype("f4")
    results, weights = set(), set()
    for count in (1, 2, 3):
        threads(count)
        out = np.empty((6, 16, 20, 20), "f4")
        winograd.forward(x, w, None, out, (1, 1))
        results.add(out.tobytes())
        weights.update((count, winograd.weight(out, x, (1, 1)).tobytes()) for _ in range(5))
    assert len(results) == 1 and len(weights) == 3


def test_the_transforms_are_exact_for_small_whole_numbers(rng):
    """Of integers every product and sum is exact but for the filters' division by 576."""
    x = rng.integers(-3, 4, (2, 12, 8, 8)).astype("f4")
    w = 576 * rng.integers(-1, 2, (12, 12, 3, 3)).astype("f4")
    out = np.empty((2, 12, 8, 8), "f4")
    winograd.forward(x, w, None, out, (1, 1))
    np.testing.assert_array_equal(out, taps(x, w, out, ((1, 1), (1, 1)))[0])


def test_vectors_are_as_wide_as_the_tiles_say():
    assert vector.columns(np.dtype("f4")) % vector.lanes(np.dtype("f4")) == 0


@pytest.mark.parametrize(
    "x, w, padding, taken",
    [
        ((16, 64, 56, 56), (64, 64, 3, 3), 1, True),
        ((32, 512, 4, 4), (512, 512, 3, 3), 1, True),  # few tiles, and many filters
        ((32, 48, 4, 4), (48, 48, 3, 3), 1, False),
        ((8, 512, 4, 4), (512, 512, 3, 3), 1, False),
        ((16, 64, 56, 56), (64, 64, 5, 5), 1, False),
        ((16, 8, 56, 56), (64, 8, 3, 3), 1, False),
        ((16, 64, 3, 3), (64, 64, 3, 3), 1, False),
        ((16, 64, 56, 56), (64, 64, 3, 3), 3, False),
    ],
)
def test_which_convolutions_it_takes(x, w, padding, taken):
    plan = columns.plan_of(x, w, (1, 1), ((padding,) * 2,) * 2, (1, 1), 1, 4)
    assert (convolution.fastest("conv2d", plan) == "winograd") == taken


@pytest.mark.parametrize("differs", [dict(stride=(2, 1)), dict(dilation=(1, 2)), dict(groups=2), dict(itemsize=8)])
def test_which_it_leaves(differs):
    geometry = dict(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1, itemsize=4) | differs
    plan = columns.plan_of((16, 64, 56, 56), (64, 64 // geometry["groups"], 3, 3), **geometry)
    assert convolution.fastest("conv2d", plan) != "winograd"
