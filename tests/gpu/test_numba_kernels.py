"""The kernels in Python through the functions that launch them, against plain loops and the CPU's."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
from hostsim import on_host

from chainrule.kernels import cpu

PLAIN = dict(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
GEOMETRIES = {  # x, w, what differs from PLAIN
    "plain": ((2, 3, 4, 5), (4, 3, 3, 2), {}),
    "strided, padded, dilated, groups": (
        (2, 4, 5, 6),
        (2, 2, 2, 3),
        dict(stride=(2, 1), padding=((2, 1), (0, 2)), dilation=(2, 2), groups=2),
    ),
    "stride beyond the kernel": ((1, 2, 6, 6), (3, 2, 2, 1), dict(stride=(3, 2))),
}


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" or not on_host(), reason="this is that process")
def test_in_the_simulator():
    command = [sys.executable, "-P", "-m", "pytest", "--hostsim", "-q", "-p", "no:cacheprovider"]
    command += sorted(map(str, Path(__file__).parent.glob("test_numba_*.py")))
    environment, root = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}, Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.fixture(params=[1, 20_000_000], ids=["piece by piece", "at once"])
def piece_bytes(request, monkeypatch):
    from chainrule.kernels.cuda import convolution, direct

    monkeypatch.setattr(convolution, "_PIECE_BYTES", request.param)
    monkeypatch.setattr(direct, "_FEW", 0)
    convolution._plan.cache_clear()
    yield
    convolution._plan.cache_clear()


@pytest.mark.parametrize("dtype, tolerance", [("f8", 1e-12), ("f4", 1e-4)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_columns(cuda, cupy, rng, by_numba, piece_bytes, name, dtype, tolerance):
    x_shape, w_shape, differs = GEOMETRIES[name]
    x, w, geometry = rng.normal(size=x_shape).astype(dtype), rng.normal(size=w_shape).astype(dtype), PLAIN | differs
    out = cuda.conv2d(cupy.asarray(x), cupy.asarray(w), None, **geometry)
    np.testing.assert_allclose(out.get(), oracles.conv2d(x, w, None, **geometry), rtol=tolerance, atol=tolerance)
    g = rng.normal(size=out.shape).astype(dtype)
    got = cuda.conv2d_input(cupy.asarray(g), cupy.asarray(w), input_size=x_shape[2:], **geometry)
    expected = oracles.conv2d_input(g, w, input_size=x_shape[2:], **geometry)
    np.testing.assert_allclose(got.get(), expected, rtol=tolerance, atol=tolerance)
    assert set(by_numba) == {"im2col", "col2im"}


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_max_pool(cuda, cupy, rng, by_numba, dtype):
    x = rng.integers(-3, 4, (2, 2, 5, 6)).astype(dtype)
    x[0, 0, 2, 2] = np.nan
    window = dict(kernel_size=(3, 2), stride=(2, 1), padding=((1, 1), (0, 1)), dilation=(1, 2), ceil_mode=True)
    out, places = cuda.max_pool2d(cupy.asarray(x), **window)
    expected, at = cpu.max_pool2d(x, **window)
    np.testing.assert_array_equal(out.get(), expected)
    np.testing.assert_array_equal(places.get(), at)
    assert by_numba == ["max_of_windows"]


def test_sixteen_bits_stay_with_cuda(cuda, cupy, by_numba):
    window = dict(kernel_size=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)), dilation=(1, 1), ceil_mode=False)
    cuda.max_pool2d(cupy.ones((1, 1, 4, 4), np.float16), **window)
    assert not by_numba


def test_arrays_beyond_int32_are_refused(cupy, monkeypatch):
    from chainrule.kernels.cuda import numba_runtime

    monkeypatch.setattr(numba_runtime, "_MOST", 3)
    with pytest.raises(ValueError, match="im2col received an array of 4 elements, but counts in int32: leave out"):
        numba_runtime.launch("numba_kernels", "im2col", np.float32, 1, 32, (cupy.ones(4),))
