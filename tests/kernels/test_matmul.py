"""Matrix products: np.matmul's rules at every rank, whoever does the work."""

from importlib import import_module

import numpy as np
import pytest

from chainrule.kernels import cpu

matmul = import_module("chainrule.kernels.cpu.matmul")  # the package's attribute is the function

SHAPES = [
    ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3,)), ((3,), (5, 3, 2)),
    ((5, 2, 3), (5, 3, 4)), ((5, 1, 2, 3), (6, 3, 4)), ((2, 3), (5, 3, 4)), ((5, 2, 3), (3, 4)), ((1, 2, 3), (5, 3, 4)),
    ((7, 2), (2, 3)), ((2, 3), (3, 9)),
    ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((4, 0, 2), (2, 3)), ((2, 7, 3), (2, 1, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("a, b", SHAPES)
def test_shared_or_not(a, b, count, rng, threads, monkeypatch):
    for name in "_BLAS_ALONE", "_WORTH_SHARING":
        monkeypatch.setattr(matmul, name, 0)
    threads(count)
    a, b = rng.normal(size=a), rng.normal(size=b)
    out = cpu.matmul(a, b)
    np.testing.assert_allclose(
        out, np.einsum("...ij,...jk->...ik", *two_d(a, b)).reshape(out.shape), rtol=1e-12, atol=1e-12
    )
    assert type(out) is np.ndarray and out.shape == np.matmul(a, b).shape and out.flags.c_contiguous


def two_d(a, b):
    return a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "bool"])
def test_dtypes(dtype, rng):
    a, b = (rng.integers(0, 2, shape).astype(dtype) for shape in ((40, 30), (30, 50)))
    out = cpu.matmul(a, b)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, (a.astype(np.int64) @ b.astype(np.int64)).astype(dtype))


@pytest.mark.parametrize("m, k, n", [(700, 60, 200), (60, 300, 700), (20, 9000, 30), (130, 130, 130)])
def test_large(m, k, n, rng):
    a, b = rng.normal(size=(k, m)).T, rng.normal(size=(k, n))[::-1]
    np.testing.assert_allclose(cpu.matmul(a, b), np.einsum("ij,jk->ik", a, b), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "a, b", [((2, 3), (4, 5)), ((300, 300), (200, 300)), ((2, 3, 3), (3, 3, 3)), ((9, 300, 300), (8, 300, 300))]
)
def test_shapes_that_do_not_fit(a, b):
    with pytest.raises(ValueError, match="matmul|broadcast"):
        cpu.matmul(np.zeros(a), np.zeros(b))


def test_two_hundred_runs_bit_equal(rng, threads):
    threads(4)
    a, b = rng.normal(size=(2, 300, 300)).astype("float32")
    assert len({cpu.matmul(a, b).tobytes() for _ in range(200)}) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64"])
@pytest.mark.parametrize("a, b", [((300, 1), (1, 200)), ((5, 30, 1), (1, 40)), ((1,), (1, 4)), ((4, 1), (1,))])
def test_columns_times_rows(a, b, dtype, rng):
    a, b = (rng.integers(-9, 9, shape).astype(dtype) for shape in (a, b))
    out = cpu.matmul(a, b)
    assert out.dtype == dtype and out.flags.c_contiguous
    np.testing.assert_array_equal(out, np.matmul(a.astype(int), b.astype(int)).astype(dtype))
    out = cpu.matmul(np.asfortranarray(a), b[..., ::-1])
    np.testing.assert_array_equal(out, np.matmul(a.astype(int), b[..., ::-1].astype(int)).astype(dtype))
    assert out.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("rows", [0, 1, matmul._FEW, matmul._FEW + 1])
def test_adding_a_product(path, rows, dtype, rng):
    x, y, before = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((rows, 7), (rows, 9), (7, 9)))
    for layout in (np.ascontiguousarray, np.asfortranarray, lambda a: np.repeat(a, 2, 1)[:, ::2]):
        for into in (before.copy(), before.copy(order="F"), np.repeat(before, 2, 0)[::2]):
            expected = into + x.astype(np.float64).T @ y
            assert cpu.add_product(into, layout(x), layout(y)) is None
            np.testing.assert_array_equal(into, expected)
