"""Winograd's convolution against the sum over taps in float64, with the error that its transforms are said to make."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from chainrule.kernels.cpu import columns, convolution, vector, winograd
from chainrule.kernels.cpu.jit import Loop, has_numba
from chainrule.kernels.cpu.minimal import F23, F25, F43

#: of the largest result, in float32 (docs/decisions/0010)
BOUNDS = {F23: 2e-6, F43: 2e-5, F25: 4e-5}
chosen = pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: no rule takes winograd")
forms = pytest.mark.parametrize("form", BOUNDS, ids=["F(2,3)", "F(4,3)", "F(2,5)"])


def taps(x, w, g, padding):
    """The convolution and both adjoints for the cotangent g, tap by tap, in float64."""
    (top, bottom), (left, right) = padding
    x, w, g = (a.astype("f8") for a in (x, w, g))
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    height, width = g.shape[2:]
    out, gx, gw = np.zeros((len(x), len(w), height, width)), np.zeros_like(x), np.zeros_like(w)
    for i, j in np.ndindex(w.shape[2:]):
        at = (..., slice(i, i + height), slice(j, j + width))
        out += np.einsum("nchw,oc->nohw", x[at], w[:, :, i, j])
        gx[at] += np.einsum("nohw,oc->nchw", g, w[:, :, i, j])
        gw[:, :, i, j] = np.einsum("nohw,nchw->oc", g, x[at])
    return out, gx[:, :, top : gx.shape[2] - bottom, left : gx.shape[3] - right], gw


def check(form, rng, n, c, o, size, padding):
    r, reach = form.taps, form.taps - 1
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (o, c, r, r), (o,)))
    g = rng.normal(size=(n, o, *(k + sum(pads) - reach for k, pads in zip(size, padding, strict=True)))).astype("f4")

    def close(got, exact):
        assert got.dtype == np.float32 and np.abs(got - exact).max() <= BOUNDS[form] * np.abs(exact).max()

    expected, gx, gw = taps(x, w, g, padding)
    corner = tuple(before for before, _ in padding)

    out = np.full((n + 2, *g.shape[1:]), np.nan, "f4")  # an image before and one behind, to be left alone
    winograd.forward(form, x, w, b, out[1:-1], corner)
    close(out[1:-1], expected + b[:, None, None])
    assert np.isnan(out[0]).all() and np.isnan(out[-1]).all()

    back = np.full(x.shape, np.nan, "f4")
    winograd.forward(form, g, winograd.turned(w), None, back, tuple(reach - before for before in corner))
    close(back, gx)
    close(winograd.weight(form, g, x, corner), gw)


@forms
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
def test_against_loops(form, n, c, o, size, padding, rng, path, threads):
    for count in (1, 3):
        threads(count)
        check(form, rng, n, c, o, size, padding)


@forms
@pytest.mark.parametrize("bytes_", [1, 200_000])
@pytest.mark.parametrize("n, c, o, size", [(2, 24, 41, (5, 7)), (1, 33, 70, (9, 4)), (5, 80, 80, (6, 6))])
def test_filters_a_few_at_a_time(form, n, c, o, size, bytes_, path, rng, threads, monkeypatch):
    """Where they outweigh the tiles; forward the bits are those of all filters at once."""
    for count in (1, 2, 3):
        threads(count)
        x, w = rng.normal(size=(n, c, *size)).astype("f4"), rng.normal(size=(o, c, *[form.taps] * 2)).astype("f4")
        whole, parts = (np.empty((n, o, *size), "f4") for _ in range(2))
        corner, padding = (form.taps // 2,) * 2, ((form.taps // 2,) * 2,) * 2
        winograd.forward(form, x, w, None, whole, corner)
        with monkeypatch.context() as patch:
            patch.setattr(winograd, "_few", lambda *given: True)
            patch.setattr(winograd, "_FILTER_BYTES", bytes_)
            check(form, rng, n, c, o, size, padding)
            winograd.forward(form, x, w, None, parts, corner)
        bound = 0 if path == "numba" else BOUNDS[form] * np.abs(whole).max()
        np.testing.assert_allclose(parts, whole, rtol=0, atol=bound)


@forms
@settings(max_examples=40)
@given(data=st.data())
def test_drawn_shapes(form, data):
    draw = lambda least, most: data.draw(st.integers(least, most))
    most = form.taps - 1
    padding = tuple((draw(0, most), draw(0, most)) for _ in range(2))
    size = tuple(max(draw(1, 13), form.taps - sum(pads)) for pads in padding)
    check(form, np.random.default_rng(draw(0, 2**32)), draw(1, 5), draw(1, 20), draw(1, 20), size, padding)


@forms
@settings(max_examples=20)
@given(data=st.data())
def test_both_paths_agree_on_drawn_shapes(form, data):
    """The loops and their NumPy twins, to the same error: in float64, which both compute in the same way."""
    if not has_numba():
        pytest.skip("Numba is absent or CHAINRULE_NUMBA=0: its loops cannot run")
    draw = lambda least, most: data.draw(st.integers(least, most))
    n, c, o, size, r = draw(1, 4), draw(1, 20), draw(1, 20), (draw(1, 12), draw(1, 12)), form.taps
    rng = np.random.default_rng(draw(0, 2**32))
    x, w, g = (rng.normal(size=s) for s in ((n, c, *size), (o, c, r, r), (n, o, *size)))
    found = []
    for use in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Loop, "use_numba", use)
            out = np.empty(g.shape)
            winograd.forward(form, x, w, None, out, (r // 2, r // 2))
            found.append((out, winograd.weight(form, g, x, (r // 2, r // 2))))
    for got, expected in zip(*found, strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@forms
def test_what_is_not_finite_stays_in_the_tiles_that_see_it(form, rng, path):
    side, r = form.side, form.taps
    x, w = rng.normal(size=(2, 16, 20, 20)).astype("f4"), rng.normal(size=(16, 16, r, r)).astype("f4")
    out, expected = np.empty((2, 2, 16, 20, 20), "f4")
    winograd.forward(form, x, w, None, expected, (r // 2, r // 2))
    for value in (np.nan, np.inf):
        spoilt = x.copy()
        spoilt[1, 3, 9, 11] = value
        winograd.forward(form, spoilt, w, None, out, (r // 2, r // 2))
        seen = np.zeros(out.shape, bool)
        first, last = ([(at + sign * (r // 2)) // side * side for at in (9, 11)] for sign in (-1, 1))
        seen[1, :, first[0] : last[0] + side, first[1] : last[1] + side] = True
        assert np.array_equal(out[~seen], expected[~seen])
        assert not np.isfinite(out[1, :, 9 - r // 2 : 10 + r // 2, 11 - r // 2 : 12 + r // 2]).any()


@forms
@pytest.mark.parametrize("near", [1, 50_000, 10_000_000])
def test_pieces_of_every_size_agree(form, near, rng, threads, monkeypatch):
    monkeypatch.setattr(winograd, "_NEAR_BYTES", near)
    threads(2)
    check(form, rng, 9, 12, 13, (17, 10), ((1, 1), (1, 1)))


@pytest.mark.parametrize("shape", [(1, 8, 4, 4), (16, 64, 56, 56), (3, 5, 13, 9), (32, 8, 8, 8), (2, 3, 5, 200)])
@pytest.mark.parametrize("wanted", [1, 16, 100, 10_000])
@pytest.mark.parametrize("side", [2, 4])
def test_every_tile_is_in_one_piece(side, shape, wanted):
    tiles = winograd._Tiles(side, shape, wanted, 16, 2)
    n, height, width = shape[0], -(-shape[2] // side), -(-shape[3] // side)
    seen = np.zeros((n, height), int)
    for piece in tiles.pieces(0, tiles.items):
        seen[piece.first : piece.first + piece.images, piece.top : piece.top + piece.rows] += 1
        assert piece.count == piece.rows * piece.images * width <= tiles.most
    assert (seen == 1).all()


@forms
def test_bits_do_not_depend_on_the_number_of_threads_forward_and_repeat_backward(form, rng, threads):
    x, w = rng.normal(size=(6, 16, 20, 20)).astype("f4"), rng.normal(size=(16, 16, *[form.taps] * 2)).astype("f4")
    corner = (form.taps // 2,) * 2
    results, weights = set(), set()
    for count in (1, 2, 3):
        threads(count)
        out = np.empty((6, 16, 20, 20), "f4")
        winograd.forward(form, x, w, None, out, corner)
        results.add(out.tobytes())
        weights.update((count, winograd.weight(form, out, x, corner).tobytes()) for _ in range(5))
    assert len(results) == 1 and len(weights) == 3


@pytest.mark.parametrize("form", [F23, F43])
def test_the_transforms_are_exact_for_small_whole_numbers(form, rng):
    """Of integers every product and sum is exact but for the filters' division by 576."""
    x = rng.integers(-3, 4, (2, 12, 8, 8)).astype("f4")
    w = 576 * rng.integers(-1, 2, (12, 12, 3, 3)).astype("f4")
    out = np.empty((2, 12, 8, 8), "f4")
    winograd.forward(form, x, w, None, out, (1, 1))
    np.testing.assert_array_equal(out, taps(x, w, out, ((1, 1), (1, 1)))[0])


@forms
def test_the_error_of_the_weight_does_not_grow_with_the_batch(form, rng, threads):
    threads(1)
    x, g = rng.normal(size=(2, 128, 16, 28, 28)).astype("f4")
    exact = taps(x, np.zeros((16, 16, *[form.taps] * 2)), g, ((form.taps // 2,) * 2,) * 2)[2]
    error = winograd.weight(form, g, x, (form.taps // 2,) * 2) - exact
    assert np.abs(error).max() <= BOUNDS[form] * np.abs(exact).max()


def test_vectors_are_as_wide_as_the_tiles_say():
    assert vector.columns(np.dtype("f4")) % vector.lanes(np.dtype("f4")) == 0


@chosen
@pytest.mark.parametrize(
    "x, w, padding, taken",
    [
        ((16, 64, 56, 56), (64, 64, 3, 3), 1, True),
        ((32, 512, 4, 4), (512, 512, 3, 3), 1, True),  # few tiles, and many filters
        ((4, 512, 7, 7), (512, 512, 3, 3), 1, True),
        ((32, 48, 4, 4), (48, 48, 3, 3), 1, False),
        ((8, 512, 4, 4), (512, 512, 3, 3), 1, False),
        ((16, 64, 56, 56), (64, 64, 7, 7), 1, False),
        ((8, 64, 27, 27), (192, 64, 5, 5), 2, True),
        ((8, 24, 28, 28), (64, 24, 5, 5), 2, True),
        ((8, 16, 28, 28), (32, 16, 5, 5), 2, True),
        ((8, 12, 28, 28), (32, 12, 5, 5), 2, False),
        ((1, 32, 14, 14), (64, 32, 5, 5), 2, False),
        ((1, 256, 14, 14), (256, 256, 5, 5), 2, True),
        ((16, 8, 56, 56), (64, 8, 3, 3), 1, False),
        ((16, 64, 3, 3), (64, 64, 3, 3), 1, False),
        ((16, 64, 56, 56), (64, 64, 3, 3), 3, False),
    ],
)
def test_which_convolutions_it_takes(x, w, padding, taken):
    plan = columns.plan_of(x, w, (1, 1), ((padding,) * 2,) * 2, (1, 1), 1, 4)
    assert (convolution.fastest("conv2d", plan) == "winograd") == taken


@chosen
@pytest.mark.parametrize(
    "x, filters, taken",
    [
        ((8, 64, 27, 27), 192, True),
        ((8, 24, 28, 28), 64, False),  # though forward it is
        ((2, 64, 16, 16), 64, False),
        ((1, 256, 14, 14), 256, True),  # few tiles, and many filters
    ],
)
def test_which_gradients_of_five_by_five_filters_it_takes(x, filters, taken):
    plan = columns.plan_of(x, (filters, x[1], 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1, 4)
    assert convolution.fastest("conv2d", plan) == "winograd"
    assert (convolution.fastest("conv2d_weight", plan) == "winograd") == taken


@pytest.mark.parametrize("differs", [dict(stride=(2, 1)), dict(dilation=(1, 2)), dict(groups=2), dict(itemsize=8)])
def test_which_it_leaves(differs):
    geometry = dict(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1, itemsize=4) | differs
    plan = columns.plan_of((16, 64, 56, 56), (64, 64 // geometry["groups"], 3, 3), **geometry)
    assert convolution.fastest("conv2d", plan) != "winograd"
