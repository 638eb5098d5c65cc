"""conv2d and its two adjoints against plain loops, in every layout and geometry."""

import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st

from chainrule.kernels import cpu
from chainrule.kernels.cpu import columns, convolution

PLAIN = dict(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
GEOMETRIES = {  # x, w, what differs from PLAIN
    "plain": ((2, 3, 5, 6), (4, 3, 3, 2), {}),
    "one by one": ((3, 4, 5, 3), (5, 4, 1, 1), {}),
    "one by one, stride 2": ((2, 4, 5, 3), (5, 4, 1, 1), dict(stride=(2, 2))),
    "one by one, padded": ((2, 2, 3, 3), (2, 2, 1, 1), dict(padding=((1, 0), (0, 2)))),
    "stride leaves a rest": ((2, 2, 8, 7), (3, 2, 3, 3), dict(stride=(3, 2))),
    "asymmetric padding": ((2, 2, 4, 5), (3, 2, 3, 4), dict(padding=((2, 0), (1, 3)))),
    "dilated": ((1, 2, 9, 8), (2, 2, 3, 3), dict(dilation=(2, 3), padding=((1, 1), (2, 2)))),
    "groups": ((2, 6, 4, 4), (9, 2, 3, 3), dict(groups=3, padding=((1, 1), (1, 1)))),
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
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 2e-2}


def arrays(rng, x_shape, w_shape, dtype="float64"):
    return (rng.normal(size=shape).astype(dtype) for shape in (x_shape, w_shape, w_shape[:1]))


def check(x, w, b, rng, algorithm=None, **geometry):
    """All three kernels against their loops, with a cotangent drawn here."""
    tolerance = dict(rtol=TOLERANCE[x.dtype.name], atol=TOLERANCE[x.dtype.name] * 30)
    out = cpu.conv2d(x, w, b, **geometry, algorithm=algorithm)
    np.testing.assert_allclose(out, oracles.conv2d(x, w, b, **geometry), **tolerance)
    g = rng.normal(size=out.shape).astype(x.dtype)
    gx = cpu.conv2d_input(g, w, input_size=x.shape[2:], **geometry, algorithm=algorithm)
    np.testing.assert_allclose(gx, oracles.conv2d_input(g, w, input_size=x.shape[2:], **geometry), **tolerance)
    gw = cpu.conv2d_weight(g, x, kernel_size=w.shape[2:], **geometry, algorithm=algorithm)
    np.testing.assert_allclose(gw, oracles.conv2d_weight(g, x, kernel_size=w.shape[2:], **geometry), **tolerance)
    for result in out, gx, gw:
        assert result.dtype == x.dtype and result.flags.c_contiguous and result.flags.writeable


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_against_loops(name, dtype, rng, path):
    x_shape, w_shape, differs = GEOMETRIES[name]
    check(*arrays(rng, x_shape, w_shape, dtype), rng, **PLAIN | differs)


@pytest.mark.parametrize("piece_bytes", [1, 2000, 6000])
def test_pieces_of_rows_and_of_images_agree(piece_bytes, rng, path, threads, monkeypatch, plans_anew):
    monkeypatch.setattr(columns, "_PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(columns, "_WORTH_SHARING", 1)
    plans_anew()
    for count in (1, 3):
        threads(count)
        geometry = PLAIN | dict(stride=(2, 1), padding=((2, 1), (1, 0)), groups=2)
        check(*arrays(rng, (5, 4, 9, 6), (6, 2, 3, 3)), rng, **geometry)


@settings(max_examples=60)
@given(data=st.data())
def test_drawn_geometry(data):
    draw = lambda least, most: data.draw(st.integers(least, most))
    groups, kernel = draw(1, 3), (draw(1, 3), draw(1, 4))
    dilation, stride = (draw(1, 2), draw(1, 3)), (draw(1, 3), draw(1, 4))
    padding = tuple((draw(0, 3), draw(0, 3)) for _ in range(2))
    size = [max(draw(1, 6), d * (k - 1) + 1 - sum(pads)) for k, d, pads in zip(kernel, dilation, padding, strict=True)]
    x_shape = (draw(0, 2), groups * draw(1, 2), *size)
    w_shape = (groups * draw(1, 2), x_shape[1] // groups, *kernel)
    rng = np.random.default_rng(draw(0, 2**32))
    check(*arrays(rng, x_shape, w_shape), rng, stride=stride, padding=padding, dilation=dilation, groups=groups)


LAYOUTS = {
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(2, 3)).swapaxes(2, 3),
    "reversed": lambda x: np.ascontiguousarray(x[:, :, ::-1, ::-1])[:, :, ::-1, ::-1],
    "every other": lambda x: np.repeat(x, 2, 3)[..., ::2],
    "Fortran order": np.asfortranarray,
    "big endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: (x.setflags(write=False), x)[1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, rng, path):
    x, w, _ = arrays(rng, (2, 3, 6, 6), (4, 3, 3, 3), "float32")
    expected = oracles.conv2d(x, w, None)
    lay = LAYOUTS[layout]
    np.testing.assert_allclose(cpu.conv2d(lay(x), lay(w), None, **PLAIN), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "x_shape, w_shape", [((0, 2, 5, 5), (3, 2, 3, 3)), ((2, 0, 5, 5), (3, 0, 3, 3)), ((2, 2, 5, 5), (0, 2, 3, 3))]
)
def test_nothing_in_nothing_out(x_shape, w_shape, rng, path):
    x, w, b = arrays(rng, x_shape, w_shape)
    out = cpu.conv2d(x, w, b, **PLAIN)
    assert out.shape == (x_shape[0], w_shape[0], 3, 3)
    np.testing.assert_array_equal(out, np.broadcast_to(b[:, None, None], out.shape))
    assert not cpu.conv2d_input(np.ones_like(out), w, input_size=(5, 5), **PLAIN).any()
    gw = cpu.conv2d_weight(np.ones_like(out), x, kernel_size=(3, 3), **PLAIN)
    assert gw.shape == w_shape and not gw.any()


def test_mixed_dtypes_meet_in_the_wider(rng):
    x, w, b = arrays(rng, (1, 1, 4, 4), (1, 1, 3, 3), "float32")
    assert cpu.conv2d(x, w.astype("float64"), b, **PLAIN).dtype == np.float64
    assert cpu.conv2d(np.ones((1, 1, 4, 4), np.int64), w, None, **PLAIN).dtype in (np.float32, np.float64)


def test_arguments_are_not_written(rng, path):
    x, w, b = arrays(rng, (2, 2, 5, 5), (3, 2, 3, 3))
    before = [a.copy() for a in (x, w, b)]
    g = cpu.conv2d(x, w, b, **PLAIN)
    cpu.conv2d_input(g, w, input_size=(5, 5), **PLAIN)
    cpu.conv2d_weight(g, x, kernel_size=(3, 3), **PLAIN)
    for array, copy in zip((x, w, b), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_two_hundred_runs_bit_equal(rng, threads, monkeypatch, plans_anew):
    monkeypatch.setattr(columns, "_WORTH_SHARING", 1)
    plans_anew()
    threads(4)
    x, w, b = arrays(rng, (9, 3, 12, 12), (4, 3, 3, 3), "float32")
    g = cpu.conv2d(x, w, b, **PLAIN)
    run = lambda: (
        cpu.conv2d(x, w, b, **PLAIN).tobytes(),
        cpu.conv2d_input(g, w, input_size=(12, 12), **PLAIN).tobytes(),
        cpu.conv2d_weight(g, x, kernel_size=(3, 3), **PLAIN).tobytes(),
    )
    assert len({run() for _ in range(200)}) == 1


def test_the_oracle_sees_planted_faults(rng):
    x, w, b = arrays(rng, (2, 2, 5, 5), (3, 2, 3, 3))
    right = oracles.conv2d(x, w, b)
    for wrong in (w[..., ::-1, ::-1], -w, w[:, ::-1], w.swapaxes(2, 3)):  # convolution, sign, channels, transposed
        assert not np.allclose(cpu.conv2d(x, wrong, b, **PLAIN), right)


# ---- algorithms ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", convolution.ALGORITHMS)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_algorithm_in_each_geometry_that_it_can_do(name, algorithm, rng, threads):
    threads(2)
    (_, *image), w_shape, differs = GEOMETRIES[name]
    geometry = PLAIN | differs
    lack = convolution.ALGORITHMS[algorithm].lacks(columns.plan_of((3, *image), w_shape, *geometry.values(), 8))
    if lack:
        with pytest.raises(ValueError, match=f"the algorithm '{algorithm}' received"):
            cpu.conv2d(*arrays(rng, (3, *image), w_shape), **geometry, algorithm=algorithm)
    else:
        check(*arrays(rng, (3, *image), w_shape), rng, **geometry, algorithm=algorithm)
