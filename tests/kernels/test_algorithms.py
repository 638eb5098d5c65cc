"""Every algorithm of a convolution against the columns; how one is asked for by name, and which is taken."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import chainrule as cr
from chainrule.kernels import cpu, registry
from chainrule.kernels.cpu import columns, convolution, direct, flat, fourier, packed, vector
from chainrule.kernels.cpu.jit import has_numba

PLAIN = dict(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
#: of the largest result, or of √terms where that is more, in float32 and float64: of sums over the taps, and others
SUMS = 2e-6, 4e-15
BOUNDS = {"winograd": (4e-5, 1e-13), "winograd2": (2e-6, 1e-14)}


def everything(x, w, b, g, algorithm, **geometry):
    """The forward pass, fused with what follows and not, and both adjoints."""
    geometry |= dict(algorithm=algorithm)
    follows = dict(activation="relu", pool=("max", min(2, g.shape[2]), 1))
    fused, _ = cpu.conv2d_act_pool(x, w, b, **geometry, **follows)
    return (
        cpu.conv2d(x, w, b, **geometry),
        cpu.conv2d_input(g, w, input_size=x.shape[2:], **geometry),
        cpu.conv2d_weight(g, x, kernel_size=w.shape[2:], **geometry),
        fused,
    )


def check(algorithm, x, w, b, **geometry):
    """Against the columns of the same numbers in float64, in both dtypes."""
    arrays = [array.astype("f8") for array in (x, w, b)]
    g = np.random.default_rng(1).normal(size=cpu.conv2d(*arrays, **geometry, algorithm="columns").shape)
    exact = everything(*arrays, g, "columns", **geometry)
    terms = w[0].size, w[:, 0].size, g[:, 0].size, w[0].size
    scales = [max(np.abs(true).max(), size**0.5) for true, size in zip(exact, terms, strict=True)]
    for dtype, bound in zip(("f4", "f8"), BOUNDS.get(algorithm, SUMS), strict=True):
        got = everything(*(array.astype(dtype) for array in (*arrays, g)), algorithm, **geometry)
        for value, true, scale in zip(got, exact, scales, strict=True):
            assert value.dtype == dtype and value.shape == true.shape
            assert np.abs(value - true).max() <= bound * scale


def drawn(data, kernels, *, dilated=True, padded=True):
    """(x, w, b, geometry) of stride 1 with one group, the padding no wider than the filters."""
    draw = lambda least, most: data.draw(st.integers(least, most))
    kernel = data.draw(kernels)
    dilation = (draw(1, 2), draw(1, 3)) if dilated else (1, 1)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple((draw(0, r), draw(0, r)) if padded else (0, 0) for r in reach)
    size = [max(draw(2, 24), r + 2 - sum(pads)) for r, pads in zip(reach, padding, strict=True)]
    rng = np.random.default_rng(draw(0, 2**32))
    n, c, o = draw(1, 4), draw(1, 9), draw(1, 9)
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (o, c, *kernel), (o,)))
    return x, w, b, PLAIN | dict(padding=padding, dilation=dilation)


SIDES = st.tuples(st.integers(1, 9), st.integers(1, 11))


@settings(max_examples=15)
@pytest.mark.parametrize("algorithm", ["columns", "batch", "pixels", "direct", "fft"])
@given(data=st.data())
def test_drawn_shapes(algorithm, data):
    x, w, b, geometry = drawn(data, SIDES)
    check(algorithm, x, w, b, **geometry)


@settings(max_examples=15)
@given(data=st.data())
def test_drawn_shapes_of_three_by_three_and_five_by_five(data):
    x, w, b, geometry = drawn(data, st.sampled_from(((3, 3), (5, 5))), dilated=False)
    check("winograd", x, w, b, **geometry)
    if w.shape[2] == 3:
        check("winograd2", x, w, b, **geometry)


@settings(max_examples=15)
@given(data=st.data())
def test_drawn_shapes_of_one_by_one(data):
    x, w, b, geometry = drawn(data, st.just((1, 1)), dilated=False, padded=False)
    check("pointwise", x, w, b, **geometry)


@settings(max_examples=25)
@given(data=st.data())
def test_drawn_filters_of_the_size_of_an_image(data):
    """Whatever the stride and dilation there is one place: one product of all images and all filters."""
    draw = lambda least, most: data.draw(st.integers(least, most))
    size, stride = (draw(1, 9), draw(1, 9)), (draw(1, 3), draw(1, 3))
    dilation = tuple(draw(1, 3) if side == 1 else 1 for side in size)
    n, c, o, rng = draw(1, 70), draw(1, 20), draw(1, 70), np.random.default_rng(draw(0, 2**32))
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (o, c, *size), (o,)))
    check("batch", x, w, b, **PLAIN | dict(stride=stride, dilation=dilation))


def test_filters_of_the_size_of_an_image_without_numba(path, rng):
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((64, 16, 5, 5), (120, 16, 5, 5), (120,)))
    check("batch", x, w, b, **PLAIN)


def test_filters_of_the_size_of_an_image_at_other_strides_of_memory_and_of_nothing(rng):
    """Views that are not contiguous, in every array; no images, no filters, no channels."""
    turned = [rng.normal(size=s).astype("f4").transpose() for s in ((4, 5, 6, 9), (4, 5, 6, 8), (1, 1, 8, 9))]
    copies = [np.ascontiguousarray(array) for array in turned]
    for of_views, of_copies in zip(
        everything(turned[0], turned[1], None, turned[2], "batch", **PLAIN),
        everything(copies[0], copies[1], None, copies[2], "columns", **PLAIN),
        strict=True,
    ):
        np.testing.assert_allclose(of_views, of_copies, rtol=0, atol=2e-5)
    for n, c, o in ((0, 3, 2), (3, 3, 0), (3, 0, 2)):
        x, w, g, b = (np.ones(s, "f4") for s in ((n, c, 4, 3), (o, c, 4, 3), (n, o, 1, 1), (o,)))
        got, true = (everything(x, w, b, g, name, **PLAIN) for name in ("batch", "columns"))
        for value, other in zip(got, true, strict=True):
            np.testing.assert_array_equal(value, other)


@settings(max_examples=15)
@given(data=st.data())
def test_pixels_of_drawn_batches_and_strides(data):
    """More filters than are put in order at a time, batches of several vectors, pixels that no tap meets."""
    draw = lambda least, most: data.draw(st.integers(least, most))
    kernel, stride = (draw(1, 4), draw(1, 4)), (draw(1, 5), draw(1, 5))
    geometry = PLAIN | dict(stride=stride, padding=((draw(0, 3), draw(0, 3)), (draw(0, 3), draw(0, 3))))
    size = [draw(k, 9) for k in kernel]
    rng = np.random.default_rng(draw(0, 2**32))
    n, c, o = draw(1, 40), draw(1, 70), draw(1, 70)
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (o, c, *kernel), (o,)))
    check("pixels", x, w, b, **geometry)


@settings(max_examples=15)
@given(data=st.data())
def test_packed_columns_of_drawn_batches_and_strides(data):
    """Several panels, terms and filters that fill no tile, padding wider than the filters; few strides, as above."""
    draw = lambda least, most: data.draw(st.integers(least, most))
    kernel, stride, dilation = (draw(1, 4), draw(1, 4)), data.draw(st.sampled_from(((1, 1), (2, 2)))), (draw(1, 2),) * 2
    padding = ((draw(0, 4), draw(0, 4)), (draw(0, 4), draw(0, 4)))
    size = [draw(d * (k - 1) + 1, 20) for d, k in zip(dilation, kernel, strict=True)]
    rng = np.random.default_rng(draw(0, 2**32))
    n, c, o = draw(1, 9), draw(1, 60), draw(1, 40)
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (o, c, *kernel), (o,)))
    check("batch", x, w, b, **PLAIN | dict(stride=stride, padding=padding, dilation=dilation))


def test_packed_columns_of_filters_of_one_row(rng):
    """Turned, they are a view that runs backwards."""
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((2, 16, 3, 30), (3, 16, 1, 16), (3,)))
    check("batch", x, w, b, **PLAIN)
    check("batch", x, w[:1], b[:1], **PLAIN)


@pytest.mark.parametrize("many", [0, 1000])
def test_packed_columns_some_at_a_time(many, rng, threads, monkeypatch):
    """Few sums near and few terms at a time, filters or columns shared: the same bits for each number of threads."""
    for name, value in dict(_NEAR_BYTES=1, _DEEP=20, _MANY=many).items():
        monkeypatch.setattr(packed, name, value)
    geometry = PLAIN | dict(stride=(2, 2), padding=((1, 1), (0, 1)))
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((7, 10, 15, 14), (21, 10, 3, 3), (21,)))
    check("batch", x, w, b, **geometry)
    seen = set()
    for count in (1, 2, 3):
        threads(count)
        seen.add(cpu.conv2d(x, w, b, **geometry, algorithm="batch").tobytes())
    assert len(seen) == 1


def test_packed_columns_keep_a_nan_where_it_is(rng):
    x, w = rng.normal(size=(4, 16, 14, 14)).astype("f4"), rng.normal(size=(32, 16, 3, 3)).astype("f4")
    x[1, 3, 6, 8] = np.nan
    geometry = PLAIN | dict(stride=(2, 2), padding=((1, 1), (1, 1)), algorithm="batch")
    places = np.isnan(cpu.conv2d(x, w, None, **geometry))
    expected = np.zeros_like(places)
    expected[1, :, 3, 4] = True
    np.testing.assert_array_equal(places, expected)
    np.testing.assert_array_equal(cpu.conv2d(x[::2], w, None, **geometry), cpu.conv2d(x, w, None, **geometry)[::2])


@settings(max_examples=15)
@given(data=st.data())
def test_parts_of_drawn_strides(data):
    """Strides above the filters' sides too, and dilated taps that share a part; few counts, as each has its loops."""
    draw = lambda least, most: data.draw(st.integers(least, most))
    pair = lambda least, most: (draw(least, most), draw(least, most))
    kernel, stride, dilation = pair(1, 5), (draw(1, 5), 2), pair(1, 3)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(pair(0, r) for r in reach)
    size = [draw(max(1, r + 1 - sum(pads)), r + 40) for r, pads in zip(reach, padding, strict=True)]
    rng = np.random.default_rng(draw(0, 2**32))
    n, c, o = draw(1, 3), 3, data.draw(st.sampled_from((3, 21)))
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (o, c, *kernel), (o,)))
    check("direct", x, w, b, **PLAIN | dict(stride=stride, padding=padding, dilation=dilation))


def test_parts_of_a_stride_that_no_vector_is_a_multiple_of(rng):
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((2, 3, 25, 61), (3, 3, 4, 5), (3,)))
    check("direct", x, w, b, **PLAIN | dict(stride=(2, 3), padding=((1, 2), (4, 0))))


@pytest.mark.parametrize("near", [1, 256 << 10])
def test_rows_of_parts_a_few_at_a_time(near, path, rng, threads, monkeypatch):
    """With more terms than are added at a time, windows of a pooling, the same bits for each number of threads."""
    monkeypatch.setattr(direct, "_NEAR_BYTES", near)
    direct._phases.cache_clear()
    geometry = PLAIN | dict(stride=(2, 2), padding=((1, 2), (3, 3)))
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((3, 15, 41, 38), (21, 15, 5, 9), (21,)))
    check("direct", x, w, b, **geometry)
    g, seen = rng.normal(size=(3, 21, 20, 18)).astype("f4"), set()
    for count in (1, 2, 3):
        threads(count)
        seen.add(tuple(a.tobytes() for a in everything(x, w, b, g, "direct", **geometry)))
    direct._phases.cache_clear()
    assert len(seen) == 1


@pytest.mark.parametrize("algorithm", sorted({*convolution.ALGORITHMS} - {"columns", "pointwise", "depthwise"}))
def test_fused_with_every_pooling(algorithm, rng, threads):
    threads(2)
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((5, 4, 12, 13), (6, 4, 3, 3), (6,)))
    for pool in (None, ("max", 2, 2), ("avg", 2, 3)):
        for activation in ("relu", "sigmoid"):
            follows = dict(activation=activation, pool=pool)
            got, saved = cpu.conv2d_act_pool(x, w, b, **PLAIN, **follows, algorithm=algorithm)
            true, kept = cpu.conv2d_act_pool(x, w, b, **PLAIN, **follows, algorithm="columns")
            np.testing.assert_allclose(got, true, rtol=0, atol=2e-5 * true.max())
            assert (saved is None) == (kept is None)


# ---- groups ----------------------------------------------------------------------------------------------------------


def drawn_groups(data, c, o):
    """(x, w, b, geometry) of groups of c channels and o filters, with strides and dilation."""
    draw = lambda least, most: data.draw(st.integers(least, most))
    pair = lambda least, most: (draw(least, most), draw(least, most))
    forms = ((3, 3), (1, 1), (1, 1)), ((3, 2), (2, 3), (1, 2))  # few, as each has its loops
    kernel, stride, dilation = data.draw(st.sampled_from(forms))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(pair(0, r) for r in reach)
    size = [draw(max(1, r + 1 - sum(pads)), r + 20) for r, pads in zip(reach, padding, strict=True)]
    n, groups = draw(1, 4), draw(2, 40)
    rng = np.random.default_rng(draw(0, 2**32))
    shapes = (n, groups * c, *size), (groups * o, c, *kernel), (groups * o,)
    x, w, b = (rng.normal(size=s).astype("f4") for s in shapes)
    return x, w, b, dict(stride=stride, padding=padding, dilation=dilation, groups=groups)


@settings(max_examples=20)
@given(data=st.data())
def test_drawn_channels_by_themselves(data):
    x, w, b, geometry = drawn_groups(data, 1, 1)
    check("depthwise", x, w, b, **geometry)


@settings(max_examples=20)
@given(data=st.data())
def test_drawn_small_planes(data):
    """Those whose results lie as the numbers that they see, which are taken as one row."""
    draw = lambda low, high: data.draw(st.integers(low, high))
    kernel, dilation = data.draw(st.sampled_from([(1, 2), (3, 3), (5, 3)])), (draw(1, 2), draw(1, 2))
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    before = [draw(0, r) for r in reach]
    padding = tuple((a, r - a) for a, r in zip(before, reach, strict=True))
    n, c, size, rng = draw(1, 20), draw(2, 40), (draw(1, 9), draw(1, 8)), np.random.default_rng(draw(0, 2**32))
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (c, 1, *kernel), (c,)))
    check("depthwise", x, w, b, stride=(1, 1), padding=padding, dilation=dilation, groups=c)


@settings(max_examples=15)
@given(data=st.data())
def test_drawn_groups(data):
    x, w, b, geometry = drawn_groups(data, 2, 3)
    check("direct", x, w, b, **geometry)


def test_groups_of_more_filters_than_a_tile_has(rng):
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((3, 6, 12, 13), (42, 3, 3, 3), (42,)))
    for stride in ((1, 1), (2, 2)):
        check("direct", x, w, b, **PLAIN | dict(stride=stride, groups=2))


@pytest.mark.parametrize("pool", [None, ("max", 2, 2), ("avg", 2, 3)])
@pytest.mark.parametrize("algorithm", ["depthwise", "direct"])
def test_groups_fused_with_every_pooling(path, algorithm, pool, rng):
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((5, 4, 12, 13), (8, 1, 3, 3), (8,)))
    for activation in ("relu", "sigmoid"):
        follows = PLAIN | dict(groups=4, activation=activation, pool=pool)
        got, _ = cpu.conv2d_act_pool(x, w, b, **follows, algorithm=algorithm)
        true, _ = cpu.conv2d_act_pool(x, w, b, **follows, algorithm="columns")
        np.testing.assert_allclose(got, true, rtol=0, atol=2e-6 * true.max())


def test_groups_without_numba(path, rng):
    for c, o, stride in ((1, 1, 1), (1, 2, 2), (3, 2, 1)):
        x, w, b = (rng.normal(size=s).astype("f4") for s in ((2, 4 * c, 9, 8), (4 * o, c, 3, 3), (4 * o,)))
        geometry = dict(stride=(stride,) * 2, padding=((1, 0), (2, 1)), dilation=(1, 1), groups=4)
        for algorithm in ("direct", "depthwise")[: 1 + (c == 1)]:
            check(algorithm, x, w, b, **geometry)


def test_channels_by_themselves_keep_a_nan_where_it_is(rng):
    """Also out of the taps that do not meet it, and of results that lie below and to the right of it."""
    x, w = rng.normal(size=(1, 2, 7, 19)), rng.normal(size=(2, 1, 3, 3))
    x[0, 1, 6, 18] = np.nan  # no result sees it at this stride but the last, under its last tap
    geometry = PLAIN | dict(stride=(2, 2), groups=2, algorithm="depthwise")
    expected = np.zeros((1, 2, 3, 9), bool)
    expected[0, 1, 2, 8] = True
    np.testing.assert_array_equal(np.isnan(cpu.conv2d(x, w, None, **geometry)), expected)
    slope = cpu.conv2d_weight(np.ones(expected.shape), x, kernel_size=(3, 3), **geometry)
    np.testing.assert_array_equal(np.isnan(slope).nonzero(), [[1], [0], [2], [2]])
    unseen = cpu.conv2d_weight(np.ones((1, 2, 2, 8)), x[:, :, :6, :18], kernel_size=(3, 3), **geometry)
    assert not np.isnan(unseen).any()
    x[0, 1, 5, 17] = np.nan  # where no result reaches
    unseen = cpu.conv2d_weight(np.ones((1, 2, 2, 8)), x[:, :, :6, :18], kernel_size=(3, 3), **geometry)
    assert not np.isnan(unseen).any()


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: nothing is compiled")
def test_which_planes_are_taken_as_one_row():
    half = vector.width() // 8
    plan = lambda filters, width, stride, pad: columns.plan_of(
        (2, 4, 3, width), (filters, 1, 3, 3), (stride, stride), ((pad, pad),) * 2, (1, 1), 4, 4
    )
    assert flat.suits(plan(4, half, 1, 1))
    assert not any(map(flat.suits, [plan(4, half + 1, 1, 1), plan(8, half, 1, 1), plan(4, half, 2, 1)]))
    assert not flat.suits(plan(4, half, 1, 0))
    wide = columns.plan_of((2, 4, 5, half), (4, 1, 5, 5), (1, 1), ((2, 2),) * 2, (1, 1), 4, 4)
    assert convolution.fastest("conv2d", wide) == convolution.fastest("conv2d_input", wide) == "depthwise"


def test_a_small_plane_keeps_a_nan_where_it_is(rng):
    x, g, w = rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(2, 3, 5, 4)), rng.normal(size=(3, 1, 3, 3))
    geometry = PLAIN | dict(padding=((1, 1), (1, 1)), groups=3, algorithm="depthwise")
    x[1, 1, 2, 3] = g[0, 1, 0, 0] = np.nan
    expected = np.zeros(x.shape, bool)
    expected[1, 1, 1:4, 2:] = True
    np.testing.assert_array_equal(np.isnan(cpu.conv2d(x, w, None, **geometry)), expected)
    slope = cpu.conv2d_weight(g, np.ones(x.shape), kernel_size=(3, 3), **geometry)
    np.testing.assert_array_equal(np.isnan(slope[1, 0]), [[False] * 3, [False, True, True], [False, True, True]])
    assert not np.isnan(slope[[0, 2]]).any()


@pytest.mark.parametrize("pads", [0, 1])
def test_groups_have_the_same_bits_whatever_the_number_of_threads(pads, rng, threads):
    size = (7, 7) if pads else (14, 17)
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((20, 5, *size), (5, 1, 3, 3), (5,)))
    g = rng.normal(size=(20, 5, *(n - 2 + 2 * pads for n in size))).astype("f4")
    geometry = PLAIN | dict(groups=5, padding=((pads, pads),) * 2)
    for algorithm in ("depthwise", "direct"):
        seen = set()
        for count in (1, 2, 3):
            threads(count)
            for _ in range(5):
                seen.add(tuple(a.tobytes() for a in everything(x, w, b, g, algorithm, **geometry)))
        assert len(seen) == 1


@pytest.mark.parametrize(
    "x, w, stride, groups, expected",
    [
        ((16, 64, 32, 32), (64, 1, 3, 3), 1, 64, "depthwise"),
        ((16, 512, 7, 7), (512, 1, 3, 3), 2, 512, "depthwise"),
        ((8, 96, 28, 28), (96, 1, 5, 5), 1, 96, "direct direct depthwise"),
        ((8, 128, 28, 28), (128, 4, 3, 3), 1, 32, "direct"),
        ((16, 256, 7, 7), (256, 32, 3, 3), 1, 8, "batch"),
    ],
)
def test_which_is_taken_for_groups(x, w, stride, groups, expected):
    plan = columns.plan_of(x, w, (stride,) * 2, ((w[2] // 2,) * 2,) * 2, (1, 1), groups, 4)
    assert [convolution.fastest(op, plan) for op in ("conv2d", "conv2d_input", "conv2d_weight")] == of_three(expected)


# ---- Fourier's -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "n, c, o, size, kernel",
    [
        (3, 5, 4, (70, 90), (7, 7)),  # many tiles, the last ones cut off
        (9, 3, 2, (11, 11), (11, 11)),  # one result
        (2, 2, 3, (90, 5), (41, 5)),  # larger than all sizes of tiles
        (1, 16, 16, (33, 65), (15, 3)),
    ],
)
@pytest.mark.parametrize("room", [1, 16 << 20])
def test_tiles_of_every_size_and_parts_of_the_batch(n, c, o, size, kernel, room, rng, threads, monkeypatch):
    monkeypatch.setattr(fourier, "_ROOM_BYTES", room)
    fourier._tiles.cache_clear()
    threads(2)
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((n, c, *size), (o, c, *kernel), (o,)))
    check("fft", x, w, b, **PLAIN)
    fourier._tiles.cache_clear()


def test_bits_do_not_depend_on_the_number_of_threads(rng, threads):
    x, w, b = (rng.normal(size=s).astype("f4") for s in ((5, 8, 30, 30), (12, 8, 7, 7), (12,)))
    g = rng.normal(size=(5, 12, 24, 24)).astype("f4")
    seen = set()
    for count in (1, 2, 3):
        threads(count)
        for _ in range(5):
            seen.add(tuple(a.tobytes() for a in everything(x, w, b, g, "fft", **PLAIN)))
    assert len(seen) == 1


def test_an_impulse_gives_the_filter():
    x = np.zeros((1, 1, 40, 40))
    x[0, 0, 20, 17] = 1
    w = np.arange(77.0).reshape(1, 1, 7, 11)
    out = cpu.conv2d(x, w, None, **PLAIN, algorithm="fft")
    np.testing.assert_allclose(out[0, 0, 14:21, 7:18], w[0, 0, ::-1, ::-1], atol=1e-12)
    assert np.abs(out).sum() == pytest.approx(w.sum(), rel=1e-12)


# ---- by name ---------------------------------------------------------------------------------------------------------

IMAGES = (4, 16, 16, 16)


def convolve(kernel=3, o=8, **differs):
    x, w = np.ones(IMAGES, "f4"), np.ones((o, 16 // differs.get("groups", 1), kernel, kernel), "f4")
    return cpu.conv2d(x, w, None, **PLAIN | differs)


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(kernel=7, algorithm="winograd"), "'winograd' received filters of 7×7, .* of 3×3 and 5×5, undilated"),
        (dict(kernel=5, algorithm="winograd2"), "the algorithm 'winograd2' received filters of 5×5, .* those of 3×3"),
        (dict(dilation=(2, 2), algorithm="winograd"), "filters of 3×3, dilation 2×2: it transforms"),
        (dict(stride=(2, 1), algorithm="fft"), "'fft' received a stride of 2×1: it computes the results"),
        (dict(groups=2, algorithm="fft"), "'fft' received 2 groups: .* with one; take columns, batch, direct,? or"),
        (dict(groups=2, algorithm="depthwise"), "'depthwise' received 2 groups for 16 channels: .* with one for each"),
        (
            dict(groups=16, kernel=12, o=16, algorithm="depthwise"),
            "received filters of 144 taps at a stride of 1: it writes out up to 128, at up to 8",
        ),
        (dict(algorithm="pointwise"), "'pointwise' received filters of 3×3 at stride 1×1, which see more than a pixel"),
        (dict(padding=((3, 0), (0, 0)), algorithm="fft"), r"a padding of \(\(3, 0\), .* wider than its filters"),
        (dict(algorithm="cudnn"), "there is no algorithm 'cudnn'; take columns, batch, .*winograd, winograd2, fft,"),
    ],
)  # fmt: skip
def test_what_an_algorithm_cannot_do_is_said(given, message):
    with pytest.raises(ValueError, match=message):
        convolve(**given)


def test_nothing_to_transform_is_said():
    with pytest.raises(ValueError, match="'fft' received an empty array: it has nothing to compute; take columns"):
        cpu.conv2d(np.ones((0, 2, 5, 5)), np.ones((3, 2, 3, 3)), None, **PLAIN, algorithm="fft")


@pytest.fixture
def taken(monkeypatch):
    """The names of the algorithms that computed, in order."""
    names = []

    def spied(name, algorithm):
        note = lambda function: lambda *given: (names.append(name), function(*given))[1]
        return algorithm._replace(**{each: note(getattr(algorithm, each)) for each in ("forward", "input", "weight")})

    for name, algorithm in convolution.ALGORITHMS.items():
        monkeypatch.setitem(convolution.ALGORITHMS, name, spied(name, algorithm))
    convolution._chosen_for.cache_clear()
    yield names
    convolution._chosen_for.cache_clear()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "winograd winograd winograd"),
        ("conv2d=fft", "fft fft fft"),
        ("conv2d=fft,conv2d_weight=columns", "fft fft columns"),
        ("conv2d_input=direct", "winograd direct winograd"),
        ("conv2d=winograd2", "winograd2 winograd2 winograd2"),
        ("batch", "batch batch batch"),
        ("pointwise", "winograd winograd winograd"),  # which cannot: by no means an error where all are asked
        ("numba", "winograd winograd winograd"),
    ],
)
def test_it_is_asked_for_by_name(text, expected, taken):
    x, w = cr.ones(8, 16, 16, 16, requires_grad=True), cr.ones(16, 16, 3, 3, requires_grad=True)
    with cr.kernels.using(text):
        cr.nn.functional.conv2d(x, w).sum().backward()
    assert [taken[0], *sorted(taken[1:])] == [taken[0], *sorted(expected.split()[1:])]
    assert taken[0] == expected.split()[0]
    assert registry.preferred == ()


def test_asked_for_it_alone_what_cannot_be_is_an_error():
    with cr.kernels.using("conv2d=pointwise"), pytest.raises(ValueError, match="which see more than a pixel"):
        convolve()
    assert convolve().shape == (4, 8, 14, 14)


def test_a_name_that_nothing_has():
    message = "received the implementation 'cudnn'; there are cuda, numba, columns"
    with pytest.raises(ValueError, match=message), cr.kernels.using("conv2d=cudnn"):
        pass


def test_the_registry_knows_them_all(rng):
    x, w = rng.normal(size=(2, 3, 9, 9)), rng.normal(size=(4, 3, 3, 3))
    found = {made.name: made for made in registry.implementations("conv2d", device="cpu")}
    assert list(found) == list(convolution.ALGORITHMS)
    expected = cpu.conv2d(x, w, None, **PLAIN)
    for name in ("columns", "batch", "direct", "winograd", "winograd2", "fft"):
        np.testing.assert_allclose(found[name].function(x, w, None, **PLAIN), expected, atol=1e-12)
        assert found[name].floor(x, w, None, **PLAIN) == (8 * (486 + 108 + 392), 2 * 392 * 27)
    for op, *arrays, options in (
        ("conv2d_input", expected, w, dict(input_size=(9, 9))), ("conv2d_weight", expected, x, dict(kernel_size=(3, 3)))
    ):  # fmt: skip
        for made in registry.implementations(op, device="cpu")[:2]:
            assert made.floor(*arrays, **options, **PLAIN) == (8 * (486 + 108 + 392), 2 * 392 * 27)


# ---- the rules -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, w, padding, expected",
    [
        ((16, 64, 56, 56), (64, 64, 3, 3), 1, "winograd"),
        ((8, 64, 28, 28), (64, 64, 11, 11), 5, "fft"),
        ((8, 64, 28, 28), (64, 64, 7, 7), 3, "fft"),
        ((16, 64, 56, 56), (128, 64, 1, 1), 0, "pointwise"),
        ((2, 300, 20, 20), (300, 300, 2, 2), 0, "batch batch columns"),
        ((2, 1300, 20, 20), (20, 1300, 2, 2), 0, "columns"),
        ((8, 64, 27, 27), (192, 64, 5, 5), 2, "winograd"),
        ((8, 24, 28, 28), (64, 24, 5, 5), 2, "winograd winograd direct"),
        ((8, 16, 28, 28), (32, 16, 5, 5), 2, "winograd winograd direct"),
        ((8, 12, 28, 28), (32, 12, 5, 5), 2, "direct"),
        ((8, 832, 7, 7), (384, 832, 1, 1), 0, "batch"),
        ((64, 6, 14, 14), (16, 6, 5, 5), 0, "direct"),
        ((64, 16, 5, 5), (120, 16, 5, 5), 0, "batch"),
        ((1, 512, 7, 7), (4096, 512, 7, 7), 0, "batch"),
        ((64, 32, 3, 3), (32, 32, 3, 3), 0, "batch"),
    ],
)
def test_which_is_taken(x, w, padding, expected):
    assert taken_for(x, w, 1, padding) == of_three(expected)


def taken_for(x, w, stride, padding):
    plan = columns.plan_of(x, w, (stride,) * 2, ((padding,) * 2,) * 2, (1, 1), 1, 4)
    return [convolution.fastest(op, plan) for op in ("conv2d", "conv2d_input", "conv2d_weight")]


def of_three(names):
    return names.split() if " " in names else [names] * 3


@pytest.mark.parametrize(
    "x, w, stride, padding, expected",
    [
        ((4, 3, 224, 224), (64, 3, 7, 7), 2, 3, "direct"),
        ((8, 3, 224, 224), (64, 3, 11, 11), 4, 2, "direct"),
        ((16, 64, 56, 56), (128, 64, 3, 3), 2, 1, "direct"),
        ((32, 64, 32, 32), (128, 64, 1, 1), 2, 0, "direct"),
        ((32, 256, 8, 8), (512, 256, 3, 3), 2, 1, "batch pixels pixels"),
        ((16, 256, 14, 14), (512, 256, 3, 3), 2, 1, "batch"),
        ((16, 128, 28, 28), (256, 128, 3, 3), 2, 1, "batch direct direct"),
        ((8, 64, 4, 4), (64, 64, 3, 3), 2, 1, "batch"),
    ],
)
def test_which_is_taken_at_a_stride(x, w, stride, padding, expected):
    assert taken_for(x, w, stride, padding) == of_three(expected)
