"""Philox's known answers, and dropout that can be computed again."""

import numpy as np
import pytest


def philox(counters, key):
    """Philox4x32-10 of counters (n, 4) and a key of two words, in NumPy."""
    c, k = counters.astype(np.uint64).T, np.array(key, np.uint64)
    low, high = (lambda v: v & np.uint64(0xFFFFFFFF)), (lambda v: v >> np.uint64(32))
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = np.array([high(b) ^ c[1] ^ k[0], low(b), high(a) ^ c[3] ^ k[1], low(a)])
        k = low(k + np.array([0x9E3779B9, 0xBB67AE85], np.uint64))
    return c.T


KNOWN = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_known_answer(cuda, cupy):
    assert philox(np.zeros((1, 4)), (0, 0)).tolist() == [KNOWN]
    for i, word in enumerate(KNOWN):
        kept = [
            float(cuda.dropout(cupy.ones(4), p, seed=0, offset=0)[i]) > 0 for p in (word / 2**32, (word + 1) / 2**32)
        ]
        assert kept == [True, False]


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 31, 257, 4099])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_word_decides_one_element(cuda, cupy, rng, order, n, dtype):
    seed, offset, p = 0x123456789ABCDEF0, 7 << 40, 0.3
    counters = np.zeros((-(-n // 4), 4))
    counters[:, 0], counters[:, 3] = np.arange(len(counters)), 7 << 8
    kept = philox(counters, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[:n] >= round(p * 2**32)
    x = rng.standard_normal(n).astype(dtype)
    got = cuda.dropout(cupy.asarray(x), p, seed=seed, offset=offset)
    assert got.dtype == dtype
    np.testing.assert_allclose(got.get(), np.where(kept, x / (1 - p), 0), rtol=1e-3 if dtype == "f2" else 1e-6)


def test_alignment_and_layout_do_not_matter(cuda, cupy):
    x = cupy.ones((6, 7))
    drop = lambda a: (cuda.dropout(a, 0.5, seed=3, offset=1) != 0).get().reshape(-1).tolist()
    whole = drop(x)
    assert drop(x.reshape(-1)[1:]) == whole[:-1]
    assert drop(x.T) == whole
    assert 0 < np.mean(whole) < 1


def test_offset_on_the_gpu(cuda, cupy):
    x = cupy.ones(100, "f4")
    by_host = cuda.dropout(x, 0.5, seed=5, offset=9).get()
    np.testing.assert_array_equal(cuda.dropout(x, 0.5, seed=5, offset=cupy.full((), 9.0)).get(), by_host)
    assert (cuda.dropout(x, 0.5, seed=5, offset=10).get() != by_host).any()


def test_share_of_zeros(cuda, cupy):
    for p in (0.0, 0.1, 0.9):
        out = cuda.dropout(cupy.ones(20000, "f4"), p, seed=1, offset=2).get()
        assert (out == 0).mean() == pytest.approx(p, abs=0.02)
        assert out.mean() == pytest.approx(1, abs=0.05)
