"""The largest of a convolution and products with chosen windows, against plain loops, and their corner cases."""

import numpy as np
import pytest
from ops import loops

from chainrule.kernels import cpu
from chainrule.kernels.cpu import peaks

#: (input, weight): more images than a piece holds, channels and widths that leave a rest, one window
SIZES = [
    ((5, 3, 9), (4, 3, 2)),
    ((2, 7, 6), (19, 7, 3)),
    ((1, 1, 1), (1, 1, 1)),
    ((3, 2, 5), (2, 2, 5)),
    ((0, 2, 4), (3, 2, 2)),
]


def whole(rng, *shape, dtype="float64"):
    """Small integers: sums are exact, and there are many ties."""
    return rng.integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("room", [1, 1 << 20], ids=["piece by piece", "at once"])
def test_the_largest_and_the_first_place_where_it_stands(sizes, dtype, room, rng, path, monkeypatch):
    monkeypatch.setattr(peaks, "_PIECE_BYTES", room)
    x, w = (whole(rng, *shape, dtype=dtype) for shape in sizes)
    b = whole(rng, len(w), dtype=dtype)
    for bias in (b, None):
        out, places = cpu.conv1d_max(x, w, bias)
        expected, where = loops.conv1d_max(x, w, bias)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(places, where)
        assert out.dtype == dtype and places.dtype == np.int64


def test_sequences_laid_out_word_by_word(rng, path):
    x, w = whole(rng, 4, 8, 3).swapaxes(1, 2), whole(rng, 5, 3, 2)
    np.testing.assert_array_equal(cpu.conv1d_max(x, w, None)[0], loops.conv1d_max(x, w)[0])


def test_nan_wins_and_stays(path):
    x = np.array([[[1.0, np.nan, 5.0, np.nan]], [[-np.inf, -np.inf, -np.inf, -np.inf]]])
    out, places = cpu.conv1d_max(x, np.ones((1, 1, 1)), None)
    np.testing.assert_array_equal(out, [[np.nan], [-np.inf]])
    assert places.tolist() == [[1], [0]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_products_with_chosen_windows_and_their_adjoints(sizes, dtype, rng, path):
    x, w = (whole(rng, *shape, dtype=dtype) for shape in sizes)
    places = rng.integers(0, x.shape[2] - w.shape[2] + 1, (len(x), len(w)))
    g = whole(rng, *places.shape, dtype=dtype)
    for got, expected in (
        (cpu.windows_product(x, w, places), loops.windows_product(x, w, places)),
        (cpu.windows_input(g, w, places, length=x.shape[2]), loops.windows_input(g, w, places, length=x.shape[2])),
        (cpu.windows_weight(g, x, places, width=w.shape[2]), loops.windows_weight(g, x, places, width=w.shape[2])),
    ):
        np.testing.assert_array_equal(got, expected)
        assert got.dtype == dtype


@pytest.mark.parametrize("place", [-1, 4])
def test_places_outside_are_refused(place, path):
    x, w, places, g = np.ones((1, 2, 5)), np.ones((1, 2, 2)), np.array([[place]]), np.ones((1, 1))
    for call in (
        lambda: cpu.windows_product(x, w, places),
        lambda: cpu.windows_input(g, w, places, length=5),
        lambda: cpu.windows_weight(g, x, places, width=2),
    ):
        with pytest.raises(IndexError, match=f"places from {place} to {place} are outside 0..3, where a window may"):
            call()


def test_any_number_of_threads_gives_the_same(rng, threads):
    x, w = rng.standard_normal((40, 16, 30)), rng.standard_normal((32, 16, 4))
    g, results = rng.standard_normal((40, 32)), []
    for count in (1, 2, 3):
        threads(count)
        out, places = cpu.conv1d_max(x, w, None)
        adjoints = cpu.windows_input(g, w, places, length=30), cpu.windows_weight(g, x, places, width=4)
        results.append([out, places, *adjoints])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)
