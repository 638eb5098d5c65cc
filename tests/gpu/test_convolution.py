"""Convolutions on the GPU against plain loops, in every geometry, cut into pieces, in both layouts."""

import numpy as np
import oracles
import pytest

PLAIN = dict(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
GEOMETRIES = {  # x, w, what differs from PLAIN
    "plain": ((2, 3, 5, 6), (4, 3, 3, 2), {}),
    "whole packs": ((2, 8, 5, 6), (3, 8, 3, 2), dict(padding=((1, 1), (1, 0)))),
    "one by one": ((3, 4, 5, 3), (5, 4, 1, 1), {}),
    "one by one, groups": ((3, 4, 5, 3), (6, 2, 1, 1), dict(groups=2)),
    "one by one, stride 2": ((2, 4, 5, 3), (5, 4, 1, 1), dict(stride=(2, 2))),
    "one by one, padded": ((2, 2, 3, 3), (2, 2, 1, 1), dict(padding=((1, 0), (0, 2)))),
    "stride leaves a rest": ((2, 2, 8, 7), (3, 2, 3, 3), dict(stride=(3, 2))),
    "stride beyond the kernel": ((2, 2, 9, 9), (3, 2, 2, 2), dict(stride=(4, 3))),
    "asymmetric padding": ((2, 2, 4, 5), (3, 2, 3, 4), dict(padding=((2, 0), (1, 3)))),
    "dilated": ((1, 2, 9, 8), (2, 2, 3, 3), dict(dilation=(2, 3), padding=((1, 1), (2, 2)))),
    "groups": ((2, 6, 4, 4), (9, 2, 3, 3), dict(groups=3, padding=((1, 1), (1, 1)))),
    "groups of packs": ((2, 16, 4, 4), (4, 8, 3, 3), dict(groups=2, padding=((1, 1), (1, 1)))),
    "depthwise": ((2, 4, 5, 5), (4, 1, 3, 3), dict(groups=4, stride=(2, 2), padding=((1, 1), (1, 1)))),
    "all at once": (
        (2, 4, 9, 7),
        (6, 2, 3, 2),
        dict(stride=(2, 1), padding=((3, 1), (0, 2)), dilation=(2, 2), groups=2),
    ),
    "one row": ((2, 3, 1, 12), (4, 3, 1, 5), dict(padding=((0, 0), (2, 2)), stride=(1, 2))),
    "kernel as large as the input": ((2, 2, 4, 3), (3, 2, 4, 3), {}),
    "padding beyond the kernel": ((1, 1, 2, 2), (1, 1, 2, 2), dict(padding=((4, 3), (2, 4)), stride=(3, 3))),
}
MORE = {  # for the kernels of few channels: more filters and places than a thread or a block takes
    "nine filters": ((3, 2, 7, 6), (9, 2, 3, 3), dict(padding=((1, 1), (1, 1)))),
    "many places": ((1, 1, 20, 31), (6, 1, 5, 5), dict(padding=((2, 2), (2, 2)))),
    "many images": ((270, 1, 3, 3), (1, 1, 2, 2), {}),
}
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 2e-2}


def check(cuda, cupy, rng, name, dtype, last=False):
    """The three kernels against their loops; with `last`, images that have the channels last in memory."""
    x_shape, w_shape, differs = (GEOMETRIES | MORE)[name]
    geometry, tolerance = PLAIN | differs, dict(rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 30)
    x, w, b = (rng.normal(size=shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))

    def given(a):
        if last and a.ndim == 4:
            return cupy.asarray(np.ascontiguousarray(a.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
        return cupy.asarray(a)

    def compare(got, expected):
        assert got.dtype == x.dtype and got.shape == expected.shape and got.base is None
        np.testing.assert_allclose(got.get(), expected, **tolerance)
        return got

    expected = oracles.conv2d(x, w, b, **geometry)
    out = compare(cuda.conv2d(given(x), given(w), given(b), **geometry), expected)
    assert out.flags.c_contiguous or last and out.transpose(0, 2, 3, 1).flags.c_contiguous
    g = rng.normal(size=out.shape).astype(dtype)
    size = dict(input_size=x_shape[2:], **geometry)
    compare(cuda.conv2d_input(given(g), given(w), **size), oracles.conv2d_input(g, w, **size))
    size = dict(kernel_size=w_shape[2:], **geometry)
    compare(cuda.conv2d_weight(given(g), given(x), **size), oracles.conv2d_weight(g, x, **size))


@pytest.fixture
def few(monkeypatch):
    """Sets up to how many channels columns are avoided, and how large a piece of columns is."""
    from chainrule.kernels.cuda import convolution, direct

    def set_limits(channels, piece_bytes=convolution._PIECE_BYTES):
        monkeypatch.setattr(direct, "_FEW", channels)
        monkeypatch.setattr(convolution, "_PIECE_BYTES", piece_bytes)
        convolution._plan.cache_clear()

    yield set_limits
    convolution._plan.cache_clear()


@pytest.mark.parametrize("channels", [0, 32], ids=["columns", "direct"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_against_loops(cuda, cupy, rng, order, few, name, dtype, channels):
    few(channels)
    check(cuda, cupy, rng, name, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", MORE)
def test_few_channels(cuda, cupy, rng, order, name, dtype):
    check(cuda, cupy, rng, name, dtype)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_channels_last_stay_last(cuda, cupy, rng, name):
    check(cuda, cupy, rng, name, "float32", last=True)


@pytest.mark.parametrize("piece_bytes", [1, 600, 3000])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_pieces_of_rows_and_of_images_agree(cuda, cupy, rng, few, piece_bytes, dtype):
    few(0, piece_bytes)
    for name in GEOMETRIES:
        check(cuda, cupy, rng, name, dtype)
