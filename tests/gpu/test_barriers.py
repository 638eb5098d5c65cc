"""Each barrier of our kernels, taken away, leaves a race that the stand-in sees: none is idle, none unwatched."""

import shutil

import numpy as np
import pytest
from hostsim import on_host

if not on_host():
    pytest.skip("tests of the stand-in: pytest --hostsim", allow_module_level=True)

from chainrule.kernels.cuda import convolution, direct, runtime

BARRIER = "__syncthreads();"
FILES = sorted(path for kind in ("*.cu", "*.cuh") for path in runtime._FOLDER.glob(kind))
ALL = [(path.name, number) for path in FILES for number in range(path.read_text().count(BARRIER))]
PLAIN = dict(stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)


def convolve(cuda, array):
    for channels in (2, 40):  # the direct kernels, and those by columns
        x, w = array(3, channels, 9, 9), array(5, channels, 3, 3)
        out = cuda.conv2d(x, w, None, **PLAIN)
        cuda.conv2d_weight(out, x, kernel_size=(3, 3), **PLAIN)
        cuda.conv2d_act_pool(x, w, None, **PLAIN, activation="relu", pool=("max", 2, 2))


def normalise(cuda, array):
    x, weight = array(2, 5, 7, 7), array(5)
    out, mean, _, rstd = cuda.batch_norm(x, weight, weight, eps=1e-5)
    cuda.batch_norm_backward(out, x, weight, mean, rstd)


def reduce_rows(cuda, array):
    cuda.softmax(array(2, 1 << 17), 1)


def step(cuda, array):
    param, grad, m, v = (array(700) for _ in range(4))
    settings = dict(lr=0.1, beta1=0.9, beta2=0.9, eps=1e-8, weight_decay=0.0, decoupled=False, maximize=False, step=1)
    cuda.adam_(param, grad, m, v * v, None, **settings)
    cuda.gradient_norm([grad, param])


def find_peaks(cuda, array):
    cuda.conv1d_max(array(2, 9, 3), array(4, 3, 3), array(4))


def activate_backward(cuda, array):
    cuda.act_backward(array(200, 9), array(200, 9), activation="tanh", bias=True)


USES = {
    "common.cuh": reduce_rows,
    "direct.cu": convolve,
    "epilogue.cu": activate_backward,
    "layout.cu": convolve,
    "normalization.cu": normalise,
    "optim.cu": step,
    "peaks.cu": find_peaks,
}


@pytest.mark.parametrize("file, number", ALL)
def test_a_barrier_less_is_a_race(cuda, cupy, rng, monkeypatch, tmp_path, file, number):
    for path in FILES:
        shutil.copy(path, tmp_path)
    before, *after = (tmp_path / file).read_text().split(BARRIER)
    text = BARRIER.join([before, *after[:number]]) + BARRIER.join(after[number:])
    (tmp_path / file).write_text(text)
    monkeypatch.setattr(runtime, "_FOLDER", tmp_path)
    monkeypatch.setattr(direct, "_BLOCKS", 1)  # so that a block takes several images
    caches = convolution._plan, runtime.source, runtime._module, runtime._kernel
    try:
        [cache.cache_clear() for cache in caches]
        with pytest.raises(RuntimeError, match="and no barrier lies between: a race"):
            USES[file](cuda, lambda *shape: cupy.asarray(rng.standard_normal(shape), np.float32))
    finally:
        [cache.cache_clear() for cache in caches]
