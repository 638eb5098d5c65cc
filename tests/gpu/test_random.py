"""Philox's known answers, and dropout that can be computed again."""

import numpy as np
import pytest
from oracles import philox

from chainrule.kernels import cpu

KNOWN = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_known_answer(cuda, cupy):
    assert philox(4, 0).tolist() == KNOWN
    for i, word in enumerate(KNOWN):
        kept = [float(cuda.dropout(cupy.ones(4), p, draw=0)[i]) > 0 for p in (word / 2**32, (word + 1) / 2**32)]
        assert kept == [True, False]


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 31, 257, 4099])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_word_decides_one_element(cuda, cupy, rng, order, n, dtype):
    draw, p = (7 << 40) + 5, 0.3
    kept = philox(n, draw) >= round(p * 2**32)
    x = rng.standard_normal(n).astype(dtype)
    got = cuda.dropout(cupy.asarray(x), p, draw=draw)
    twin = cpu.dropout(x, p, draw=draw)
    assert got.dtype == twin.dtype == dtype
    np.testing.assert_array_equal(got.get() != 0, twin != 0)
    np.testing.assert_allclose(got.get(), np.where(kept, x / (1 - p), 0), rtol=1e-3 if dtype == "f2" else 1e-6)


def test_alignment_and_layout_do_not_matter(cuda, cupy):
    x = cupy.ones((6, 7))
    drop = lambda a: (cuda.dropout(a, 0.5, draw=1) != 0).get().reshape(-1).tolist()
    whole = drop(x)
    assert drop(x.reshape(-1)[1:]) == whole[:-1]
    assert drop(x.T) == whole
    assert 0 < np.mean(whole) < 1


def test_draw_on_the_gpu(cuda, cupy):
    x = cupy.ones(100, "f4")
    by_host = cuda.dropout(x, 0.5, draw=9).get()
    np.testing.assert_array_equal(cuda.dropout(x, 0.5, draw=cupy.full((), 9.0)).get(), by_host)
    assert (cuda.dropout(x, 0.5, draw=10).get() != by_host).any()


def test_share_of_zeros(cuda, cupy):
    for p in (0.0, 0.1, 0.9):
        out = cuda.dropout(cupy.ones(20000, "f4"), p, draw=2).get()
        assert (out == 0).mean() == pytest.approx(p, abs=0.02)
        assert out.mean() == pytest.approx(1, abs=0.05)
