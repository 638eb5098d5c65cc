"""Sums into chosen places on the GPU against the CPU's."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.kernels import cpu


@pytest.mark.parametrize("path", ["search", "sort"])
@pytest.mark.parametrize(
    "shape, axis, n", [((5, 3), 0, 9), ((2, 4, 130), 1, 70), ((3,), 0, 1), ((4, 2), 0, 0), ((2, 3), -1, 40)]
)
def test_index_add(cuda, cupy, rng, monkeypatch, path, shape, axis, n):
    if path == "sort":
        monkeypatch.setattr("chainrule.kernels.cuda.indexing._SEARCH", -1)
    index = rng.integers(0, shape[axis], n)
    given = list(shape)
    given[axis] = n
    for dtype, tolerance in (("f8", 1e-13), ("f4", 1e-5), ("f2", 1e-2)):
        src = rng.standard_normal(given).astype(dtype)
        got = cuda.index_add(shape, axis, cupy.asarray(index), cupy.asarray(src))
        expected = cpu.index_add(shape, axis, index, src.astype("f8"))
        assert got.dtype == dtype
        np.testing.assert_allclose(got.get(), expected, rtol=tolerance, atol=tolerance)


def test_the_order_of_the_gpus_threads_does_not_matter(cuda, cupy, rng, order):
    index, src = rng.integers(0, 7, 90), rng.standard_normal((90, 40)).astype("f4")
    got = cuda.index_add((7, 40), 0, cupy.asarray(index), cupy.asarray(src)).get()
    in_order = np.zeros((7, 40), "f4")
    for i, row in zip(index, src, strict=True):
        in_order[i] += row
    np.testing.assert_array_equal(got, in_order)


@pytest.mark.parametrize(
    "shape, given, axis", [((4, 3), (6, 3), 0), ((2, 5, 3), (2, 2, 2), 1), ((3, 4), (2, 4), 1), ((3,), (0,), 0)]
)
def test_scatter_add(cuda, cupy, rng, shape, given, axis):
    index, src = rng.integers(0, shape[axis], given), rng.standard_normal([n + 1 for n in given])
    got = cuda.scatter_add(shape, axis, cupy.asarray(index), cupy.asarray(src))
    np.testing.assert_allclose(got.get(), cpu.scatter_add(shape, axis, index, src), rtol=1e-13)


def test_indices_outside_are_left_out(cuda, cupy):
    index, src = cupy.asarray(np.array([0, 5, -1])), cupy.ones((3, 2))
    assert cuda.index_add((2, 2), 0, index, src).get().tolist() == [[1, 1], [0, 0]]


def test_in_a_graph_the_index_is_not_sorted(cuda, cupy, rng, monkeypatch):
    monkeypatch.setattr("chainrule.kernels.cuda.indexing._SEARCH", -1)
    sorts, argsort = [], cupy.argsort
    monkeypatch.setattr(cupy, "argsort", lambda *given, **how: sorts.append(1) or argsort(*given, **how))

    @cr.capture
    def step(index, src):
        return cr.zeros(5, 3, device="cuda").index_add(0, index, src)

    for call in range(3):  # as ever, captured, replayed
        index, src = rng.integers(0, 5, 20), rng.standard_normal((20, 3))
        got = step(cr.tensor(index, device="cuda"), cr.tensor(src.astype("f4"), device="cuda"))
        np.testing.assert_allclose(got.cpu().numpy(), cpu.index_add((5, 3), 0, index, src), rtol=1e-4, atol=1e-5)
        assert len(sorts) == 1 and step.reason == "", call
