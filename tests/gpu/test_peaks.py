"""The largest of a convolution and products with chosen windows on the GPU, against plain loops."""

import numpy as np
import pytest
from ops import loops

SIZES = [  # input, weight
    ((5, 3, 9), (4, 3, 2)),
    ((2, 7, 16), (33, 7, 3)),
    ((1, 1, 1), (1, 1, 1)),
    ((3, 2, 5), (2, 2, 5)),
    ((2, 300, 4), (3, 300, 2)),
    ((0, 2, 4), (3, 2, 2)),
]


def whole(rng, *shape, dtype="float64"):
    """Small integers: sums are exact, and there are many ties."""
    return rng.integers(-3, 4, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("room", [1, 20_000_000], ids=["piece by piece", "at once"])
def test_the_largest_and_the_first_place_where_it_stands(cuda, cupy, rng, order, sizes, dtype, room, monkeypatch):
    from chainrule.kernels.cuda import peaks

    monkeypatch.setattr(peaks, "_PIECE_BYTES", room)
    x, w = (whole(rng, *shape, dtype=dtype) for shape in sizes)
    b = whole(rng, len(w), dtype=dtype)
    for bias in (b, None):
        out, places = cuda.conv1d_max(cupy.asarray(x), cupy.asarray(w), None if bias is None else cupy.asarray(bias))
        expected, where = loops.conv1d_max(x, w, bias)
        np.testing.assert_array_equal(out.get(), expected)
        np.testing.assert_array_equal(places.get(), where)
        assert out.dtype == dtype and places.dtype == np.int64


def test_nan_wins_and_stays(cuda, cupy, order):
    x = np.array([[[1.0, np.nan, 5.0, np.nan]], [[-np.inf, -np.inf, -np.inf, -np.inf]]])
    out, places = cuda.conv1d_max(cupy.asarray(x), cupy.asarray(np.ones((1, 1, 1))), None)
    np.testing.assert_array_equal(out.get(), [[np.nan], [-np.inf]])
    assert places.get().tolist() == [[1], [0]]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_products_with_chosen_windows_and_their_adjoints(cuda, cupy, rng, order, sizes, dtype):
    x, w = (whole(rng, *shape, dtype=dtype) for shape in sizes)
    places = rng.integers(0, x.shape[2] - w.shape[2] + 1, (len(x), len(w)))
    g = whole(rng, *places.shape, dtype=dtype)
    length, width = x.shape[2], w.shape[2]
    on_gpu = dict(zip("xwgp", map(cupy.asarray, (x, w, g, places)), strict=True))
    given = lambda letters: [on_gpu[letter] for letter in letters]
    for got, expected in (
        (cuda.windows_product(*given("xwp")), loops.windows_product(x, w, places)),
        (cuda.windows_input(*given("gwp"), length=length), loops.windows_input(g, w, places, length=length)),
        (cuda.windows_weight(*given("gxp"), width=width), loops.windows_weight(g, x, places, width=width)),
    ):
        np.testing.assert_array_equal(got.get(), expected)
        assert got.dtype == dtype


@pytest.mark.parametrize("place", [-1, 4, 1 << 40])
def test_places_outside_give_nan_or_nothing(cuda, cupy, place):
    x, w, g = (cupy.ones(shape) for shape in ((1, 2, 5), (1, 2, 2), (1, 1)))
    places = cupy.asarray(np.array([[place]]))
    assert np.isnan(cuda.windows_product(x, w, places).get()).all()
    assert not cuda.windows_input(g, w, places, length=5).get().any()
    assert not cuda.windows_weight(g, x, places, width=2).get().any()


def test_a_missing_barrier_is_seen(cuda, cupy, rng, plant, order):
    plant("peaks", "__syncthreads();", "")
    with pytest.raises(RuntimeError, match="kernel largest: .* a race"):
        cuda.conv1d_max(cupy.asarray(whole(rng, 2, 3, 20)), cupy.asarray(whole(rng, 4, 3, 2)), None)
