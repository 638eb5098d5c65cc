"""Pooling against plain loops; the adjoints against the loops' adjoints, element by element."""

from functools import partial

import numpy as np
import oracles
import pytest
from hypothesis import assume, given, settings, strategies as st

from chainrule.kernels import cpu
from chainrule.kernels.cpu import pooling
from chainrule.kernels.geometry import adaptive_windows, pool_windows

PLAIN = dict(kernel_size=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)), ceil_mode=False)
WINDOWS = {
    "halves": {},
    "halves with a rest": {},
    "ceil": dict(ceil_mode=True),
    "overlapping": dict(kernel_size=(3, 2), stride=(1, 1)),
    "padded": dict(kernel_size=(3, 3), padding=((1, 1), (1, 0))),
    "padded, ceil": dict(kernel_size=(3, 4), stride=(2, 3), padding=((1, 1), (2, 2)), ceil_mode=True),
    "gaps": dict(kernel_size=(1, 2), stride=(3, 3)),
}
SHAPES = {"halves with a rest": (2, 3, 7, 5)}
COUNTS = [dict(count_include_pad=c, divisor_override=d) for c, d in ((True, None), (False, None), (True, 3))]


def drawn(rng, name, dtype="float64"):
    return rng.integers(-3, 4, SHAPES.get(name, (2, 3, 8, 6))).astype(dtype), PLAIN | WINDOWS[name]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("name", WINDOWS)
def test_max(name, dilation, dtype, rng, path):
    x, window = drawn(rng, name, dtype)
    out, indices = cpu.max_pool2d(x, **window, dilation=dilation)
    expected, places = oracles.max_pool2d(x, **window, dilation=dilation)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(indices, places)  # many ties: the first in row-major order
    assert out.dtype == x.dtype and indices.dtype == np.int64


@pytest.mark.parametrize("name", ["halves", "padded"])
def test_max_of_nan_and_of_infinities(name, rng, path):
    x, window = drawn(rng, name)
    x[0, 0, 1, :3], x[1, 1, 2:4, 2:4], x[1, 2], x[0, 1, 3, 3] = np.nan, np.nan, -np.inf, np.inf
    out, indices = cpu.max_pool2d(x, **window, dilation=(1, 1))
    expected, places = oracles.max_pool2d(x, **window)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(indices, places)


def test_max_follows_pytorch_on_nan(torch, path, rng):
    x = rng.normal(size=(2, 2, 9, 9))
    x[rng.random(x.shape) < 0.2] = np.nan
    window = dict(kernel_size=(3, 3), stride=(2, 2), padding=((1, 1), (1, 1)), ceil_mode=True)
    out, indices = cpu.max_pool2d(x, **window, dilation=(1, 1))
    theirs, places = torch.nn.functional.max_pool2d(torch.tensor(x), 3, 2, 1, ceil_mode=True, return_indices=True)
    np.testing.assert_array_equal(out, theirs.numpy())
    np.testing.assert_array_equal(indices, places.numpy())


def plain_max(x, window, monkeypatch):
    """By the loop for windows of any kind."""
    with monkeypatch.context() as plain:
        plain.setattr(pooling, "_halves", lambda axis: False)
        return pooling._max_windows(x, pool_windows(x.shape[2:], **window))


def with_ties(rng, shape, dtype):
    x = rng.integers(-3, 4, shape).astype(dtype)
    x[rng.random(shape) < 0.3] = -np.inf
    x[rng.random(shape) < 0.05] = np.nan
    return x


def assert_max_is_plain(x, window, monkeypatch):
    out, indices = cpu.max_pool2d(x, **window)
    expected, places = plain_max(x, window, monkeypatch)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(indices, places)


@pytest.mark.parametrize("room", [1, 300, 4096])  # of a line, of several, of several planes
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_windows_alike_against_the_plain_loop(dtype, room, rng, monkeypatch):
    monkeypatch.setattr(pooling, "_ROOM", room)
    monkeypatch.setattr(pooling, "_LEAST_LINES", 2)
    drawn = lambda low, high: tuple(map(int, rng.integers(low, high + 1, 2)))
    compared = 0
    while compared < 150:
        kernel, stride, dilation, size = drawn(1, 5), drawn(1, 4), drawn(1, 2), drawn(1, 40)
        reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        padding = tuple(tuple(map(int, rng.integers(0, r // 2 + 1, 2))) for r in reach)
        window = dict(kernel_size=kernel, stride=stride, padding=padding, dilation=dilation)
        window["ceil_mode"] = bool(rng.integers(2))
        try:
            pool_windows(size, **window)
        except ValueError:  # no window fits, or one steps over all elements
            continue
        assert_max_is_plain(with_ties(rng, (2, int(rng.integers(1, 6)), *size), dtype), window, monkeypatch)
        compared += 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 15, 16, 17, 31, 32, 33, 50])
def test_halves_of_any_width_against_the_plain_loop(width, dtype, rng, monkeypatch):
    for more in 0, 1:
        x = with_ties(rng, (2, 3, 7, 2 * width + more), dtype)
        assert_max_is_plain(x, PLAIN | dict(dilation=(1, 1)), monkeypatch)


def test_no_halves_at_all(path):
    for size, wanted in (((4, 6), (2, 0)), ((4, 4), (0, 2))):
        out, places = cpu.adaptive_max_pool2d(np.ones((1, 2, *size)), output_size=wanted)
        windows = adaptive_windows(size, output_size=wanted)
        assert out.shape == places.shape == (1, 2, *wanted)
        assert not cpu.scatter_planes(out, places, plane=size, windows=windows).any()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 8, 15, 16, 17, 33])
def test_adjoint_of_the_halves_against_the_scatter(width, dtype, rng, path):
    for tall, more in (4, 0), (6, 0), (4, 1), (5, 0):  # the last two leave a rest, which gets zeros
        window, plane = PLAIN | dict(dilation=(1, 1)), (tall, 2 * width + more)
        _, places = cpu.max_pool2d(with_ties(rng, (2, 3, *plane), dtype), **window)
        g = with_ties(rng, places.shape, dtype)
        out = cpu.scatter_planes(g, places, plane=plane, windows=pool_windows(plane, **window))
        np.testing.assert_array_equal(out, cpu.scatter_planes(g, places, plane=plane))
        assert out.dtype == dtype


@pytest.mark.parametrize("kernel", [2, 3])
def test_max_of_planes_whose_elements_lie_elsewhere(kernel, rng, monkeypatch):
    base = with_ties(rng, (3, 9, 40, 2), "float32")
    window = dict(kernel_size=(kernel,) * 2, stride=(2, 2), padding=((0, 0),) * 2, dilation=(1, 1), ceil_mode=True)
    for x in (base.transpose(0, 3, 1, 2), base.transpose(3, 0, 2, 1)[..., ::-1, 1::2]):  # channels last, steps back
        assert_max_is_plain(x, window, monkeypatch)


def test_places_beyond_32_bits_take_the_plain_loop(rng, monkeypatch):
    monkeypatch.setattr(pooling, "_LARGEST_PLACE", 8 * 6)
    monkeypatch.setattr(pooling, "_max_alike", None)
    x, window = rng.normal(size=(1, 1, 8, 6)), PLAIN | dict(kernel_size=(3, 3))
    np.testing.assert_array_equal(cpu.max_pool2d(x, **window, dilation=(1, 1))[1], oracles.max_pool2d(x, **window)[1])


@pytest.mark.parametrize("count", COUNTS, ids=["with padding", "without padding", "divisor 3"])
@pytest.mark.parametrize("name", WINDOWS)
def test_average_and_its_adjoint(name, count, rng, path):
    x, window = drawn(rng, name)
    forward = partial(oracles.avg_pool2d, **window, **count)
    out = cpu.avg_pool2d(x, **window, **count)
    np.testing.assert_allclose(out, forward(x), rtol=1e-12, atol=1e-12)
    g = rng.normal(size=(1, 1, *out.shape[2:]))
    gx = cpu.avg_pool2d_backward(g, input_size=x.shape[2:], **window, **count)
    np.testing.assert_allclose(gx, oracles.adjoint(forward, (1, 1, *x.shape[2:]), g), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("output_size", [(1, 1), (3, 2), (8, 6), (9, 11)])
def test_adaptive(output_size, rng, path):
    x = rng.normal(size=(2, 2, 8, 6))
    forward = partial(oracles.adaptive_avg_pool2d, output_size=output_size)
    np.testing.assert_allclose(cpu.adaptive_avg_pool2d(x, output_size=output_size), forward(x), rtol=1e-12)
    g = rng.normal(size=(1, 1, *output_size))
    gx = cpu.adaptive_avg_pool2d_backward(g, input_size=(8, 6))
    np.testing.assert_allclose(gx, oracles.adjoint(forward, (1, 1, 8, 6), g), rtol=1e-12, atol=1e-15)
    out, indices = cpu.adaptive_max_pool2d(x, output_size=output_size)
    expected, places = oracles.adaptive_max_pool2d(x, output_size=output_size)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(indices, places)


def test_windows_of_two_elements_of_which_one_covers_padding_too(rng, path):
    x = rng.normal(size=(2, 3, 2, 4))
    window = dict(kernel_size=(2, 3), stride=(1, 3), padding=((0, 0), (1, 0)), ceil_mode=True)
    count = dict(count_include_pad=True, divisor_override=None)
    forward = partial(oracles.avg_pool2d, **window, **count)
    out = cpu.avg_pool2d(x, **window, **count)
    np.testing.assert_allclose(out, forward(x), rtol=1e-12)
    g = rng.normal(size=(1, 1, *out.shape[2:]))
    gx = cpu.avg_pool2d_backward(g, input_size=x.shape[2:], **window, **count)
    np.testing.assert_allclose(gx, oracles.adjoint(forward, (1, 1, *x.shape[2:]), g), rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(data=st.data())
def test_drawn_windows(data):
    draw = lambda least, most: data.draw(st.integers(least, most))
    kernel, stride, size = ((draw(1, 4), draw(1, 4)) for _ in range(3))
    padding = tuple((draw(0, k // 2), draw(0, k // 2)) for k in kernel)
    assume(all(k <= h + sum(pads) for k, h, pads in zip(kernel, size, padding, strict=True)))
    window = dict(kernel_size=kernel, stride=stride, padding=padding, ceil_mode=data.draw(st.booleans()))
    x = np.random.default_rng(draw(0, 2**32)).normal(size=(2, 1, *size))
    out, indices = cpu.max_pool2d(x, **window, dilation=(1, 1))
    expected, places = oracles.max_pool2d(x, **window)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(indices, places)
    count = dict(count_include_pad=data.draw(st.booleans()), divisor_override=None)
    np.testing.assert_allclose(
        cpu.avg_pool2d(x, **window, **count), oracles.avg_pool2d(x, **window, **count), rtol=1e-12, atol=1e-13
    )


def test_scatter_and_gather_are_adjoint(rng, path):
    indices = rng.integers(0, 12, (2, 3, 2, 5))
    g, x = rng.normal(size=indices.shape), rng.normal(size=(2, 3, 3, 4))
    spread, picked = cpu.scatter_planes(g, indices, plane=(3, 4)), cpu.gather_planes(x, indices)
    expected = np.zeros_like(x)
    for n, c, i, j in np.ndindex(indices.shape):
        expected[n, c].reshape(-1)[indices[n, c, i, j]] += g[n, c, i, j]
        assert picked[n, c, i, j] == x[n, c].reshape(-1)[indices[n, c, i, j]]
    np.testing.assert_allclose(spread, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wrong", [-1, 12])
def test_indices_outside_the_plane(wrong, path):
    indices, message = (
        np.full((1, 1, 1, 1), wrong),
        r"leave the plane of size \(3, 4\): each must be row \* 4 \+ column",
    )
    with pytest.raises(IndexError, match=message):
        cpu.scatter_planes(np.ones((1, 1, 1, 1)), indices, plane=(3, 4))
    with pytest.raises(IndexError, match=message):
        cpu.gather_planes(np.ones((1, 1, 3, 4)), indices)


@pytest.mark.parametrize("shape", [(0, 2, 4, 4), (2, 0, 4, 4)])
def test_no_planes(shape, path):
    x, count = np.zeros(shape), COUNTS[0]
    assert cpu.max_pool2d(x, **PLAIN | dict(kernel_size=(3, 3)), dilation=(1, 1))[1].shape == (*shape[:2], 1, 1)
    out, indices = cpu.max_pool2d(x, **PLAIN, dilation=(1, 1))
    assert out.shape == indices.shape == (*shape[:2], 2, 2)
    assert cpu.scatter_planes(out, indices, plane=(4, 4)).shape == shape
    assert cpu.gather_planes(x, indices).shape == out.shape
    assert cpu.avg_pool2d(x, **PLAIN, **count).shape == out.shape
    assert cpu.avg_pool2d_backward(out, input_size=(4, 4), **PLAIN, **count).shape == shape
    assert cpu.adaptive_avg_pool2d(np.zeros((1, 1, 3, 3)), output_size=(0, 2)).shape == (1, 1, 0, 2)


def test_layouts(rng, path):
    base = rng.normal(size=(6, 8, 2, 3))
    for x in (base.transpose(2, 3, 1, 0), base.transpose(2, 3, 1, 0)[..., ::-1, ::-1], base.astype(">f8").T):
        window = PLAIN | dict(padding=((0, 0), (1, 0)))
        np.testing.assert_array_equal(
            cpu.max_pool2d(x, **window, dilation=(1, 1))[0], oracles.max_pool2d(x, **window)[0]
        )


@pytest.mark.parametrize("window", [{}, dict(kernel_size=(3, 3)), dict(kernel_size=(3, 3), padding=((1, 1), (1, 1)))])
def test_pooling_gives_equal_bits_on_any_number_of_threads(window, rng, threads, monkeypatch):
    monkeypatch.setattr(pooling, "_GRAIN", 1)
    x, window = rng.normal(size=(3, 5, 12, 40)).astype("float32"), PLAIN | window
    results = []
    for count in 1, 2, 4:
        threads(count)
        out, indices = cpu.max_pool2d(x, **window, dilation=(1, 1))
        average = cpu.avg_pool2d(x, **window, **COUNTS[0])
        spread = cpu.avg_pool2d_backward(average, input_size=(12, 40), **window, **COUNTS[0])
        arrays = out, indices, cpu.scatter_planes(out, indices, plane=(12, 40)), average, spread
        results.append([array.tobytes() for array in arrays])
    assert results[0] == results[1] == results[2]


def test_two_hundred_runs_bit_equal(rng, threads, monkeypatch):
    monkeypatch.setattr(pooling, "_GRAIN", 1)
    threads(4)
    x = rng.normal(size=(5, 3, 12, 12)).astype("float32")
    window = PLAIN | dict(kernel_size=(3, 3))
    runs = set()
    for _ in range(200):
        out, indices = cpu.max_pool2d(x, **window, dilation=(1, 1))
        average = cpu.avg_pool2d_backward(out, input_size=(12, 12), **window, **COUNTS[0])
        runs.add((out.tobytes(), cpu.scatter_planes(out, indices, plane=(12, 12)).tobytes(), average.tobytes()))
    assert len(runs) == 1


@pytest.mark.parametrize("count", [1, 3])
def test_the_whole_plane_on_any_number_of_threads(count, rng, threads, monkeypatch):
    monkeypatch.setattr(pooling, "_GRAIN", 1)
    threads(count)
    x, g = rng.normal(size=(3, 5, 7, 11)).astype("float32"), rng.normal(size=(3, 5, 1, 1)).astype("float32")
    out = cpu.adaptive_avg_pool2d(x, output_size=(1, 1))
    np.testing.assert_allclose(out[..., 0, 0], x.mean((2, 3), np.float64), rtol=1e-6)
    gx = cpu.adaptive_avg_pool2d_backward(g, input_size=(7, 11))
    np.testing.assert_allclose(gx, np.broadcast_to(g / 77, x.shape), rtol=1e-6)


@pytest.mark.parametrize("stride", [5, 100_000, 1 << 40])
def test_a_stride_past_the_image_costs_nothing(stride):
    """One window is one window; no room is made for the columns that its stride leaps over."""
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    how = dict(kernel_size=(3, 3), padding=((0, 0), (0, 0)), dilation=(1, 1), ceil_mode=False)
    out, places = cpu.max_pool2d(x, stride=(stride, stride), **how)
    assert out.tolist() == [[[[10.0]]]] and places.tolist() == [[[[10]]]]
    out, places = cpu.max_pool2d(x, stride=(1, stride), **how)
    assert out.tolist() == [[[[10.0], [14.0]]]] and places.tolist() == [[[[10], [14]]]]
