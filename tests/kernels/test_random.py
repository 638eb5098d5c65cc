"""Dropout by Philox: known answers, every tail, both loops, and slices that several threads share."""

import numpy as np
import pytest
from oracles import philox

from chainrule.kernels import cpu

KNOWN = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


def test_known_answer(path):
    assert philox(4, 0).tolist() == KNOWN
    for i, word in enumerate(KNOWN):
        drop = [cpu.dropout(np.ones(4), p, draw=0)[i] == 0 for p in (word / 2**32, (word + 1) / 2**32)]
        assert drop == [False, True]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 31, 257])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_every_word_decides_one_element(path, rng, n, dtype):
    draw, x = (1 << 53) - 3, rng.standard_normal(n).astype(dtype)
    expected = np.where(philox(n, draw) >= round(0.3 * 2**32), x / 0.7, 0)
    got = cpu.dropout(x, 0.3, draw=draw)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=2e-3 if dtype == "f2" else 1e-6)


def test_threads_and_layouts_do_not_matter(rng, threads):
    threads(2)
    x = rng.standard_normal((401, 203))
    whole = cpu.dropout(x, 0.5, draw=2)
    pieces = [cpu.dropout(row, 0.5, draw=2) for row in x[:1]]
    np.testing.assert_array_equal(whole[:1], pieces)
    np.testing.assert_array_equal(cpu.dropout(np.asfortranarray(x), 0.5, draw=2), whole)
    assert np.mean(whole == 0) == pytest.approx(0.5, abs=0.01)
