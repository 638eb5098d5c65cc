"""Vector code: the functions' accuracy, the product's tile, and that nothing beyond what was asked for is touched."""

import numpy as np
import pytest

from chainrule.kernels.cpu import vector
from chainrule.kernels.cpu.jit import Loop, has_numba, variant
from chainrule.kernels.cpu.recurrent import address
from chainrule.kernels.cpu.vector import ROWS, gather, narrow, rows, wide

pytestmark = pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: there are no vectors")

DTYPES = ["float32", "float64"]
instruction = None  # of the loops below, which each test has its own in place of


@pytest.fixture(autouse=True)
def _compiled(monkeypatch):
    monkeypatch.setattr(Loop, "use_numba", True)


def loop(function, name, emitted):
    return Loop(variant(function, f"{function.__name__}_{name}", instruction=emitted), None, {"contract"})


# ---- functions -------------------------------------------------------------------------------------------------------


def _apply(one, n, x, y):
    instruction(one, n, (address(x), address(y)), (0, 0))


def applied(function, name):
    """function(Mathematics, vector) on arrays."""
    compiled = loop(_apply, name, rows(lambda m, given, numbers: [[function(m, given[0][0])]], (1,), (1,), ()))

    def call(x):
        y = np.empty_like(x)
        compiled(x.dtype.type(1), len(x), x, y)
        return y

    return call


FUNCTIONS = {  # ours, its definition, the bound in units in the last place (float32, float64)
    "exp": (applied(lambda m, x: vector.exp(x), "exp"), np.exp, (2, 2)),
    "sigmoid": (applied(lambda m, x: m.sigmoid(x), "sigmoid"), lambda x: 1 / (1 + np.exp(-x)), (3, 3)),
    "tanh": (applied(lambda m, x: m.tanh(x), "tanh"), np.tanh, (5, 3)),
}


def spread(rng, dtype):
    """Numbers of every size that matters, and those where a formula gives way to another."""
    tiny = 2.0 ** rng.uniform(-30, 0, 20_000) * rng.choice([-1, 1], 20_000)
    edges = np.concatenate([np.nextafter(e, [-np.inf, np.inf]) for e in (-7.9053111, -0.625, 0.625, 7.9053111)])
    all_of_them = [rng.uniform(-9, 9, 50_000), rng.uniform(-87, 87, 20_000), tiny, edges, [0.0, -0.0, 1.0, -1.0]]
    return np.concatenate(all_of_them).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name, dtype, rng):
    ours, exactly, bounds = FUNCTIONS[name]
    x = spread(rng, dtype)
    exact = exactly(x.astype(np.longdouble))
    off = np.abs(ours(x) - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert off.max() <= bounds[DTYPES.index(dtype)], f"{off.max()} ulp at {x[off.argmax()]!r}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_out_and_no_numbers(dtype):
    x = np.array([np.inf, -np.inf, np.nan, 1e4, -1e4, 1e30, -1e30, np.finfo(dtype).max, np.finfo(dtype).tiny], dtype)
    sigmoid, tanh, exp = (FUNCTIONS[name][0](x) for name in ("sigmoid", "tanh", "exp"))
    np.testing.assert_array_equal(tanh[:-1], [1, -1, np.nan, 1, -1, 1, -1, 1])
    np.testing.assert_allclose(tanh[-1], x[-1], rtol=5 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(sigmoid, [1, 0, np.nan, 1, 0, 1, 0, 1, 0.5])
    least = np.exp(-87.0 if dtype == "float32" else -708.0)
    np.testing.assert_allclose(exp, [np.inf, least, np.nan, np.inf, least, np.inf, least, np.inf, 1], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_and_its_slope(dtype):
    x = np.array([-np.inf, -1.5, -0.0, 0.0, 2.5, np.inf, np.nan], dtype)
    np.testing.assert_array_equal(applied(lambda m, x: m.relu(x), "relu")(x), np.maximum(x, 0))
    np.testing.assert_array_equal(applied(lambda m, x: m.positive(x), "positive")(x), x > 0)


# ---- rows ------------------------------------------------------------------------------------------------------------


def _blend(one, n, x, apart, y, numbers):
    instruction(one, n, (address(x), address(y), address(numbers)), (apart, 64, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_and_numbers_in_groups_and_nothing_beyond(dtype, rng):
    """Two rows to two with two numbers; the columns asked for, and no other, are read and written."""

    def formula(m, given, numbers):
        (a, b), (p, q) = given[0], numbers[0]
        return [[a * p + q, 1.0 - b / (2.0 * p)]]

    blend = loop(_blend, "blend", rows(formula, (2,), (2,), (2,)))
    p, q = numbers = np.array([1.5, -0.25], dtype)
    for n in range(1, 2 * vector.lanes(np.dtype(dtype)) + 2):
        x, y = np.full((2, 40), np.nan, dtype), np.full((2, 64), 7, dtype)
        x[:, :n] = rng.standard_normal((2, n))
        blend(numbers.dtype.type(1), n, x, 40, y, numbers)
        np.testing.assert_allclose(y[:, :n], [x[0, :n] * p + q, 1 - x[1, :n] / (2 * p)], rtol=1e-6, atol=1e-6)
        assert (y[:, n:] == 7).all()


# ---- tiles -----------------------------------------------------------------------------------------------------------


def _product(one, w, h, c, k, add):
    each = c.itemsize
    instruction(one, address(w), address(h) + each, h.shape[1], address(c) + 2 * each, c.shape[1], k, add)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "tile", "vectors"), [("narrow", narrow, 1), ("wide", wide, 2)])
def test_the_tile_of_a_product(name, tile, vectors, dtype, rng):
    """c[:, 2:][:n] (+)= w.T h[:, 1:][:n]: small integers, so that sums are exact."""
    multiply, n = loop(_product, name, tile), vectors * vector.lanes(np.dtype(dtype))
    for k in (1, 2, 7, 100):
        for add in (0, 1):
            w, h = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((k, ROWS), (k, n + 3)))
            c = rng.integers(-3, 4, (ROWS + 1, n + 5)).astype(dtype)
            want = c.copy()
            want[:ROWS, 2 : n + 2] = add * want[:ROWS, 2 : n + 2] + w.T @ h[:, 1 : n + 1]
            multiply(w.dtype.type(1), w, h, c, k, add)
            np.testing.assert_array_equal(c, want)


def _turn(one, source, target, k):
    each = source.itemsize
    instruction(one, address(source) + each, source.shape[1], address(target) + 3 * each, target.shape[1], k)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_turned_into_columns(dtype):
    lanes = vector.lanes(np.dtype(dtype))
    turn, source = loop(_turn, "gather", gather), np.arange(ROWS * 70).reshape(ROWS, 70).astype(dtype)
    for k in (lanes, 3 * lanes):
        target = np.full((k + 1, ROWS + 5), -1, dtype)
        want = target.copy()
        want[:k, 3 : ROWS + 3] = source[:, 1 : k + 1].T
        turn(source.dtype.type(1), source, target, k)
        np.testing.assert_array_equal(target, want)
