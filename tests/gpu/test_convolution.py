"""Convolutions on the GPU against plain loops, in every geometry, cut into pieces, in both layouts."""

import numpy as np
import oracles
import pytest

import chainrule as cr

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


PATHS = pytest.mark.parametrize("channels", [0, 32], ids=["columns", "direct"])


@PATHS
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", GEOMETRIES | MORE)
def test_against_loops(cuda, cupy, rng, few, name, dtype, channels):
    few(channels)
    check(cuda, cupy, rng, name, dtype)


@PATHS
@pytest.mark.parametrize("name", ["whole packs", "groups of packs", "all at once", "nine filters"])
def test_every_order_of_threads(cuda, cupy, rng, order, few, name, channels):
    few(channels)
    check(cuda, cupy, rng, name, "float32")


@pytest.mark.parametrize("name", GEOMETRIES)
def test_channels_last_stay_last(cuda, cupy, rng, name):
    check(cuda, cupy, rng, name, "float32", last=True)


@pytest.mark.parametrize("name", ["whole packs", "one by one", "nine filters"])
@PATHS
def test_addresses_of_no_alignment(cuda, cupy, rng, few, name, channels):
    few(channels)

    def shifted(a):
        room = cupy.empty(a.size + 1, a.dtype)
        room[1:] = cupy.asarray(a.ravel())
        return room[1:].reshape(a.shape)

    x_shape, w_shape, differs = (GEOMETRIES | MORE)[name]
    x, w, b = (rng.normal(size=shape).astype("f4") for shape in (x_shape, w_shape, w_shape[:1]))
    last = shifted(np.ascontiguousarray(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    for given in (shifted(x), last):
        out = cuda.conv2d(given, shifted(w), shifted(b), **PLAIN | differs)
        np.testing.assert_allclose(out.get(), oracles.conv2d(x, w, b, **PLAIN | differs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("piece_bytes", [1, 600, 3000])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_pieces_of_rows_and_of_images_agree(cuda, cupy, rng, few, piece_bytes, dtype):
    few(0, piece_bytes)
    for name in GEOMETRIES:
        check(cuda, cupy, rng, name, dtype)


FAULTS = {  # up to how many channels columns are avoided, the kernel file, its text, what is put there
    "no barrier before the products": (32, "direct", "__syncthreads();\n  for (index_t start", "for (index_t start"),
    "no barrier before the next image": (32, "direct", "__syncthreads();\n  }\n  for", "}\n  for"),
    "a filter too many": (32, "direct", "if (first + f < count)\n            out", "out"),
    "no barrier in the tile": (0, "layout", "__syncthreads();", ""),
    "one element beyond the row": (0, "columns", "at < width)", "at <= width)"),
    "padding not counted": (0, "columns", "y + top - i", "y - i"),
    "sums begun anew": (0, "columns", "if (y < seen)", "if (false)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_seen(cuda, cupy, rng, few, plant, monkeypatch, fault):
    from chainrule.kernels.cuda import direct

    channels, *change = FAULTS[fault]
    plant(*change)
    few(channels, 1)
    monkeypatch.setattr(direct, "_BLOCKS", 1)
    with pytest.raises((AssertionError, RuntimeError)):
        for name in ("asymmetric padding", "nine filters"):
            check(cuda, cupy, rng, name, "float32")


def test_whole_numbers_count_as_float32(cuda, cupy):
    out = cuda.conv2d(cupy.ones((1, 1, 4, 4), np.int64), cupy.ones((1, 1, 3, 3), np.int64), None, **PLAIN)
    assert out.dtype == np.float32 and out.get().tolist() == [[[[9, 9], [9, 9]]]]
    wide = cuda.conv2d(cupy.ones((1, 1, 4, 4), np.float32), cupy.ones((1, 1, 3, 3), np.float64), None, **PLAIN)
    assert wide.dtype == np.float64


@pytest.mark.parametrize(
    "x_shape, w_shape", [((0, 2, 5, 5), (3, 2, 3, 3)), ((2, 0, 5, 5), (3, 0, 3, 3)), ((2, 2, 5, 5), (0, 2, 3, 3))]
)
@PATHS
def test_nothing_in_nothing_out(cuda, cupy, rng, few, x_shape, w_shape, channels):
    few(channels)
    x, w, b = (cupy.asarray(rng.normal(size=shape)) for shape in (x_shape, w_shape, w_shape[:1]))
    out = cuda.conv2d(x, w, b, **PLAIN)
    assert out.shape == (x_shape[0], w_shape[0], 3, 3)
    np.testing.assert_array_equal(out.get(), np.broadcast_to(b.get()[:, None, None], out.shape))
    assert not cuda.conv2d_input(out, w, input_size=(5, 5), **PLAIN).get().any()
    gw = cuda.conv2d_weight(out, x, kernel_size=(3, 3), **PLAIN)
    assert gw.shape == w_shape and not gw.get().any()


@PATHS
@pytest.mark.parametrize("name", ["whole packs", "groups of packs", "one by one", "nine filters"])
def test_bfloat16(cuda, cupy, rng, few, name, channels):
    few(channels, 600)  # several pieces: the weights' gradient is summed in float32
    bfloat16 = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes").bfloat16
    x_shape, w_shape, differs = (GEOMETRIES | MORE)[name]
    x, w, b = (rng.integers(-2, 3, shape).astype(bfloat16) for shape in (x_shape, w_shape, w_shape[:1]))
    wide, geometry = (lambda a: a.astype("f8")), PLAIN | differs
    out = cuda.conv2d(cupy.asarray(x), cupy.asarray(w), cupy.asarray(b), **geometry)
    assert out.dtype == bfloat16
    np.testing.assert_allclose(wide(out.get()), oracles.conv2d(wide(x), wide(w), wide(b), **geometry), rtol=1e-2)
    g = rng.integers(-2, 3, out.shape).astype(bfloat16)
    got = cuda.conv2d_input(cupy.asarray(g), cupy.asarray(w), input_size=x_shape[2:], **geometry)
    expected = oracles.conv2d_input(wide(g), wide(w), input_size=x_shape[2:], **geometry)
    np.testing.assert_allclose(wide(got.get()), expected, rtol=1e-2)
    got = cuda.conv2d_weight(cupy.asarray(g), cupy.asarray(x), kernel_size=w_shape[2:], **geometry)
    expected = oracles.conv2d_weight(wide(g), wide(x), kernel_size=w_shape[2:], **geometry)
    np.testing.assert_allclose(wide(got.get()), expected, rtol=1e-2)


@PATHS
@pytest.mark.parametrize("pool", [cr.nn.AvgPool2d, cr.nn.MaxPool2d])
def test_a_training_step_can_be_captured(rng, few, channels, pool):
    few(channels)
    x, y = cr.tensor(rng.normal(size=(2, 1, 32, 32)), dtype=cr.float32), cr.tensor([1, 3])
    results = []
    for wrap in (lambda step: step, cr.capture):
        cr.manual_seed(0)
        net = cr.nn.models.LeNet5(pool=pool).to("cuda")
        optimizer = cr.optim.SGD(net.parameters(), lr=0.1)

        @wrap
        def step(x, y, net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = cr.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        results.append([step(x.to("cuda"), y.to("cuda")).item() for _ in range(4)])
    assert step.reason == ""
    assert results[0] == results[1]
