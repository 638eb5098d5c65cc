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


# ---- by tiles of our own ---------------------------------------------------------------------------------------------

needs_numba = pytest.mark.skipif(not matmul.compiles(), reason="tiles are compiled")


def laid_out(x, layout):
    """The same numbers in rows, turned, with gaps between them, or at the left of longer rows of NaN."""
    longer = lambda rows: np.pad(rows, ((0, 0), (0, 5)), constant_values=np.nan)[:, :-5]
    kinds = {
        "C": lambda: x,
        "F": lambda: np.asfortranarray(x),
        "gaps": lambda: x.repeat(2, 1)[:, ::2],
        "longer": lambda: longer(x),
        "longer, turned": lambda: longer(x.T).T,
    }
    return kinds[layout]()


@needs_numba
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("layouts", [
    "CC", "CF", "FC", "FF", ("gaps", "gaps"), ("longer", "longer, turned"), ("longer, turned", "longer"),
])  # fmt: skip
def test_tiles_against_einsum(layouts, dtype, bound, rng, monkeypatch, threads):
    """Random shapes, among them ones that fill no tile; the error in terms of sum |a| |b|."""
    monkeypatch.setattr(matmul, "_LEAST", 0)
    for count in (1, 3):
        threads(count)
        for _ in range(8):
            m, k, n = (int(rng.integers(low, 200)) for low in (8, 1, 16))
            a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
            assert matmul._by_tiles(a, b, m * k * n)
            got = cpu.matmul(laid_out(a, layouts[0]), laid_out(b, layouts[1]))
            assert got.dtype == dtype and got.flags.c_contiguous
            wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
            size = np.einsum("ij,jk->ik", abs(wide_a), abs(wide_b))
            assert (abs(got - np.einsum("ij,jk->ik", wide_a, wide_b)) / size).max() < bound


@needs_numba
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("layouts", ["CC", "CF", "FC", "FF", ("longer", "longer, turned")])
def test_blocks_of_terms_and_columns(layouts, dtype, bound, rng, monkeypatch, threads):
    """Several blocks both ways, of whole panels and of parts of one; the error in terms of sum |a| |b|."""
    for name, value in (("_LEAST", 0), ("_DEEP", 7), ("_ROOM", 1)):
        monkeypatch.setattr(matmul, name, value)
    matmul._tiling.cache_clear()
    for count in (1, 3):
        threads(count)
        for n in (16, 17, 64, 100, 200):
            m, k = (int(rng.integers(low, 150)) for low in (8, 1))
            a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
            bias = rng.normal(size=n).astype(dtype)
            wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
            exact, size = (np.einsum("ij,jk->ik", f(wide_a), f(wide_b)) for f in (lambda x: x, abs))
            x, y = laid_out(a, layouts[0]), laid_out(b, layouts[1])
            assert (abs(cpu.matmul(x, y) - exact) / size).max() < bound
            got = matmul._tiled(x, y, bias, "relu")
            assert (abs(got - np.maximum(exact + bias, 0)) / (size + abs(bias))).max() < bound
    matmul._tiling.cache_clear()


@needs_numba
@pytest.mark.parametrize("m, k, n", [(35, 2048, 700), (300, 1100, 16), (32, 5000, 130), (600, 513, 400)])
def test_long_sums_round_no_worse_than_their_blocks(m, k, n, rng):
    """In single precision the error stays far below that of one chain of additions, k times the rounding."""
    a, b = rng.random((m, k), np.float32), rng.random((k, n), np.float32)
    assert matmul._by_tiles(a, b, m * k * n)
    exact = a.astype(np.float64) @ b
    assert (abs(cpu.matmul(a, b) - exact) / exact).max() < (matmul._DEEP + k / matmul._DEEP) * 2.0**-24


def batch_laid_out(x, layout):
    """The same matrices turned, with gaps, at the left of longer rows of NaN, as heads are, read-only, or backwards."""
    kinds = {
        "C": lambda: x,
        "F": lambda: np.ascontiguousarray(x.mT).mT,
        "gaps": lambda: x.repeat(2, -1)[..., ::2],
        "longer": lambda: np.concatenate([x, x * np.nan], -1)[..., : x.shape[-1]],
        "heads": lambda: np.moveaxis(np.moveaxis(x, -2, 0).copy(), 0, -2),
        "heads, turned": lambda: np.moveaxis(np.moveaxis(x.mT, -2, 0).copy(), 0, -2).mT,
        "read-only": lambda: np.broadcast_to(x, x.shape),
        "backwards": lambda: x[::-1].copy()[::-1],
    }
    return kinds[layout]()


@needs_numba
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("batches", [
    ((5,), (5,)), ((1,), (1,)), ((3, 1), (4,)), ((4,), ()), ((), (2, 3)), ((2, 3), (2, 3)),
])  # fmt: skip
def test_batches_by_tiles(batches, dtype, bound, count, rng, monkeypatch, threads):
    """Each layout of both operands, on shapes that fill no tile; the error in terms of sum |a| |b|."""
    for name in "_LEAST_BATCH", "_BLAS_ALONE":
        monkeypatch.setattr(matmul, name, 0)
    monkeypatch.setattr(matmul, "_GRAIN", 1)
    matmul._batch_tiling.cache_clear()
    threads(count)
    layouts = "C", "F", "gaps", "longer", "heads", "heads, turned", "read-only", "backwards"
    for n, layout in enumerate(layouts):
        for other in (layout, layouts[n - 1], "C", "F"):
            m, k, columns = (int(rng.integers(low, 70)) for low in (8, 2, 17))
            shapes = (*batches[0], m, k), (*batches[1], k, columns)
            a, b = (rng.normal(size=shape).astype(dtype) for shape in shapes)
            assert matmul._by_batches(a, b)
            got = cpu.matmul(batch_laid_out(a, layout), batch_laid_out(b, other))
            assert got.dtype == dtype and got.flags.c_contiguous
            exact, size = (np.einsum("...ij,...jk->...ik", f(a.astype(np.float64)), f(b)) for f in (lambda x: x, abs))
            assert got.shape == exact.shape and (abs(got - exact) / size).max() < bound
    matmul._batch_tiling.cache_clear()


@needs_numba
def test_batches_give_the_same_bits_whatever_the_number_of_threads(rng, threads):
    a, b = (rng.normal(size=size).astype(np.float32) for size in ((20, 70, 60), (20, 60, 50)))
    assert matmul._by_batches(a, b)
    results = []
    for count in (1, 2, 3):
        threads(count)
        results.append(cpu.matmul(a, b).tobytes())
    assert len(set(results)) == 1


@needs_numba
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-13), ("float32", 2e-6)])
def test_bias_and_activation_of_tiles(activation, dtype, bound, rng, monkeypatch):
    monkeypatch.setattr(matmul, "_LEAST", 0)
    phi = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "sigmoid": lambda z: 1 / (1 + np.exp(-z))}[activation]
    for m, k, n in ((9, 5, 17), (33, 70, 100), (64, 120, 84)):
        x, w, b = (rng.normal(size=size).astype(dtype) for size in ((m, k), (n, k), (n,)))
        x /= np.sqrt(k).astype(dtype)
        z = np.einsum("mk,nk->mn", x.astype(np.float64), w) + b
        np.testing.assert_allclose(cpu.affine(x, w, b), z, rtol=bound, atol=10 * bound)
        np.testing.assert_allclose(cpu.affine_act(x, w, b, activation=activation), phi(z), rtol=bound, atol=10 * bound)
        np.testing.assert_allclose(cpu.affine(x, w, None), z - b, rtol=bound, atol=10 * bound)


@needs_numba
def test_tiles_give_the_same_bits_whatever_the_number_of_threads(rng, threads, monkeypatch):
    monkeypatch.setattr(matmul, "_LEAST", 0)
    a, b = (rng.normal(size=size).astype(np.float32) for size in ((150, 300), (300, 170)))
    threads(1)
    first = cpu.matmul(a, b)
    for count in (1, 2, 3):
        threads(count)
        for _ in range(50):
            np.testing.assert_array_equal(cpu.matmul(a, b), first)


@needs_numba
def test_infinities_and_nan_stay_where_they_belong(rng, monkeypatch):
    monkeypatch.setattr(matmul, "_LEAST", 0)
    a, b = rng.normal(size=(40, 30)), rng.normal(size=(30, 50))
    a[3, 4], b[7, 9] = np.nan, np.inf
    got = cpu.matmul(a, b)
    assert np.isnan(got[3]).all() and not np.isfinite(got[:, 9]).any()
    rest = np.delete(np.delete(got, 3, 0), 9, 1)
    assert np.isfinite(rest).all()


# ---- the adjoints of affine maps -------------------------------------------------------------------------------------

SLOPES = {"relu": lambda a: a > 0, "tanh": lambda a: 1 - a * a, "sigmoid": lambda a: a * (1 - a)}


def assert_adjoint(got, g, x, w, live, bound):
    """Against sums in float64, the error in terms of the sums of magnitudes."""
    g, x, w = (value.astype(np.float64) for value in (g, x, w))
    for mine, alive, (a, b) in zip(got, live, [(g, w), (g.T, x), (g.T, np.ones((len(g), 1)))], strict=True):
        assert (mine is None) is not alive
        if alive:
            expected, size = a @ b, abs(a) @ abs(b) + 1e-30
            assert (abs(mine - expected.reshape(mine.shape)) / size.reshape(mine.shape)).max(initial=0) < bound


@pytest.mark.parametrize("dtype, bound", [("float64", 1e-14), ("float32", 1e-6)])
@pytest.mark.parametrize("lay", [lambda x: x, np.asfortranarray, lambda x: x.repeat(2, 1)[:, ::2]])
def test_adjoint_of_affine_maps(path, lay, dtype, bound, rng, threads):
    """Of one row, of few, of shapes that fill no tile, and of those that the threads share."""
    for count in (1, 3):
        threads(count)
        for m, n, k in ((1, 5, 7), (3, 2, 40), (9, 10, 777), (128, 10, 256), (40, 33, 61), (130, 150, 70)):
            g, x, w = (lay(rng.normal(size=size).astype(dtype)) for size in ((m, n), (m, k), (n, k)))
            for live in ((True, True, True), (False, True, True), (True, False, False), (True, True, False)):
                got = cpu.affine_backward(g, x, w, live=live)
                assert all(one is None or one.dtype == dtype for one in got)
                assert_adjoint(got, g, x, w, live, bound)


@pytest.mark.parametrize("activation", SLOPES)
@pytest.mark.parametrize("dtype, bound", [("float64", 1e-14), ("float32", 1e-6)])
def test_adjoint_through_an_activation(path, activation, dtype, bound, rng, threads):
    for count in (1, 3):
        threads(count)
        for m, n, k in ((1, 5, 7), (9, 10, 777), (100, 84, 120), (64, 130, 70), (33, 9, 300)):
            g, x, w, out = (rng.normal(size=size).astype(dtype) for size in ((m, n), (m, k), (n, k), (m, n)))
            before = g * SLOPES[activation](out).astype(dtype)
            for live in ((True, True, True), (False, True, True), (True, False, True), (False, True, False)):
                got = cpu.affine_act_backward(g, x, w, out, activation=activation, live=live)
                assert_adjoint(got, before, x, w, live, 4 * bound)


def test_adjoints_of_half_precision(path, rng):
    g, x, w = (rng.normal(size=size).astype(np.float16) for size in ((20, 30), (20, 200), (30, 200)))
    dx, dw, db = cpu.affine_backward(g, x, w, live=(True, True, True))
    assert dx.dtype == dw.dtype == db.dtype == np.float16
    np.testing.assert_allclose(dw, g.astype(np.float64).T @ x, rtol=2e-3, atol=1e-2)


@needs_numba
def test_adjoints_give_the_same_bits_whatever_the_number_of_threads(rng, threads):
    arrays = [rng.normal(size=size).astype(np.float32) for size in ((128, 64), (128, 256), (64, 256), (128, 64))]
    runs = set()
    for count in (1, 2, 3, 4):
        threads(count)
        for _ in range(20):
            got = cpu.affine_act_backward(*arrays, activation="relu", live=(True, True, True))
            small = cpu.affine_backward(arrays[0][:, :10].copy(), *arrays[1:2], arrays[2][:10], live=(True, True, True))
            runs.add(b"".join(one.tobytes() for one in (*got, *small)))
    assert len(runs) == 1
