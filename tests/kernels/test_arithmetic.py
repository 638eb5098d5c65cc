"""Arithmetic shared by threads: NumPy's bits, for every way in which operands lie."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.kernels import cpu
from chainrule.kernels.cpu import arithmetic

TWO = ["add", "subtract", "multiply", "divide"]
ONE = ["negative", "absolute", "square", "sqrt", "reciprocal"]
ENDS = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, -1.0]


@pytest.fixture
def called(monkeypatch):
    """The formulas that loops were called for."""
    found, run, loop = [], arithmetic.run, arithmetic._loop
    monkeypatch.setattr(arithmetic, "run", lambda formula, *given: (found.append(formula), run(formula, *given))[1])
    monkeypatch.setattr(arithmetic, "_loop", lambda formula, *given: (found.append(formula), loop(formula, *given))[1])
    return found


@pytest.fixture
def large(monkeypatch, called, threads):
    """Call arrays large from 50 elements on, whoever waits, and note which formulas loops were called for."""
    threads(max(2, cr.get_num_threads()))
    for name in ("LARGE", "_LARGEST"):
        monkeypatch.setattr(arithmetic, name, 50)
    arithmetic._laid.cache_clear()
    yield called
    arithmetic._laid.cache_clear()


def same(name, *given):
    with np.errstate(all="ignore"):
        result, expected = getattr(cpu, name)(*given), getattr(np, name)(*given)
    np.testing.assert_array_equal(result, expected)
    assert type(result) is type(expected) and result.dtype == expected.dtype
    if result.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(result), np.signbit(expected))


def numbers(rng, dtype, *shape):
    x = rng.normal(size=shape) * 9
    if x.size > 9:
        x.reshape(-1)[: len(ENDS)] = ENDS
    with np.errstate(over="ignore"):
        return x.astype(dtype)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize(
    "shapes",
    [
        [(1025,), (1025,)],
        [(60, 70), (70,)],
        [(60, 70), (60, 1)],
        [(60, 1), (1, 70)],
        [(60, 70), (1, 1)],
        [(4, 5, 6, 7), (5, 1, 1)],
        [(4, 5, 6, 7), (4, 1, 6, 7)],
        [(4, 1, 6, 7), (5, 6, 1)],
        [(9, 20, 30), (9, 1, 30)],
        [(3000, 3), (3,)],
        [(1, 100), (100,)],
    ],
)
def test_broadcasting(large, name, dtype, shapes, rng):
    x, y = [numbers(rng, dtype, *shape) for shape in shapes]
    same(name, x, y)
    same(name, y, x)
    four = shapes == [(4, 1, 6, 7), (5, 6, 1)]  # dimensions that do not lie in one run
    assert len(large) == 2 * (arithmetic.compiles() and not four)


@pytest.mark.parametrize("name", TWO)
def test_operands_that_lie_apart_or_are_of_other_kinds(large, name, rng):
    x, y = numbers(rng, "f4", 40, 60), numbers(rng, "f4", 40, 60)
    unaligned = np.frombuffer(b"." + y.tobytes(), "f4", offset=1).reshape(y.shape)
    frozen = y.copy()
    frozen.setflags(write=False)
    for other in (y[::-1], y[:, ::-1], y.T.copy().T, unaligned, frozen, y.astype("f8"), y.astype(">f4")):
        same(name, x, other)
    for part in (np.s_[:, 5:50], np.s_[::3], np.s_[::2, ::2], np.s_[:, :1]):
        same(name, x[part], y[part])
    for other in (2.0, 3, True, np.float32(2), np.float64(2), np.array(2.0), np.array(2.0, "f4")):
        same(name, x, other)
        same(name, other, x)
    for dtype in ("f2", "i4", "c8"):
        same(name, np.ones((9, 9), dtype), np.ones((9, 9), dtype))
    same(name, np.empty((0, 80), "f4"), np.empty((1, 80), "f4"))
    with pytest.raises(ValueError, match="could not be broadcast together"):
        getattr(cpu, name)(np.ones((60, 70), "f4"), np.ones((60, 71), "f4"))


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "i4"])
@pytest.mark.parametrize("name", ONE)
def test_one_operand(large, name, dtype, rng):
    x = numbers(rng, dtype, 41, 61) if dtype[0] == "f" else np.arange(1, 101)
    for given in (x, x.T, x[::2], x[0], x[:0]):
        same(name, given)
    assert bool(large) == (arithmetic.compiles() and dtype in ("f4", "f8"))


def test_what_numpys_own_can_do_besides(large):
    x, out = np.arange(1.0, 101.0), np.empty(100)
    assert cpu.add(x, x, out=out) is out and (out == 2 * x).all()
    assert cpu.sqrt(x, where=x > 99, out=out) is out and out[0] == 2 and out[-1] == 10
    assert cpu.add.reduce(x) == 5050 and cpu.multiply.outer(x, x).shape == (100, 100)
    cpu.add.at(out, [0, 0], 1.0)
    assert out[0] == 4 and not large


@pytest.mark.parametrize("size", [arithmetic.LARGE - 1, arithmetic.LARGE, 400_001])
def test_the_threads_change_nothing(size, threads, rng):
    x, y = rng.normal(size=(2, size)).astype("f4")
    for count in (1, 2, 3):
        threads(count)
        for name in TWO:
            same(name, x, y)
        same("sqrt", abs(x))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_arrays_without_gaps_wherever_they_begin_and_end(large, dtype, rng):
    for _ in range(30):
        size, *begin = rng.integers([50, 0, 0], [2000, 20, 20])
        x, y = [rng.normal(size=2050).astype(dtype)[b : b + size] for b in begin]
        for name in TWO:
            same(name, x, y)
            same(name, x, 2.5)
            same(name, x, y[:1].reshape(()))
        for name in ONE:
            same(name, abs(x))
    same("add", x, x)
    same("add", x, x[::-1])
    assert not arithmetic.compiles() or len(large) > 30 * 17


@pytest.mark.parametrize("name", TWO)
def test_writes_in_place_over_what_is_read(large, name, rng):
    given = rng.normal(size=999).astype("f4") + 9
    for other in (lambda x: x[::-1], lambda x: x, lambda x: x[:1]):
        ours, numpys = given.copy(), given.copy()
        getattr(cpu, name)(ours, other(ours), out=ours)
        getattr(np, name)(numpys, other(numpys), out=numpys)
        np.testing.assert_array_equal(ours, numpys)


BEYOND = [
    ("divide", 1.0, 0.0, "divide by zero"), ("divide", 0.0, 0.0, "invalid"), ("multiply", 1e38, 1e38, "overflow"),
    ("add", 3e38, 3e38, "overflow"), ("subtract", np.inf, np.inf, "invalid"), ("sqrt", -1.0, None, "invalid"),
    ("reciprocal", 0.0, None, "divide by zero"), ("square", 1e38, None, "overflow"),
]  # fmt: skip


@pytest.mark.parametrize("at", [0, 17, 700, 1000])
@pytest.mark.parametrize("name, x, y, says", BEYOND)
def test_warnings_are_numpys(large, name, x, y, says, at):
    given = [np.ones(1001, "f4") for value in (x, y) if value is not None]
    with np.errstate(all="raise"):
        same(name, *given)
    for array, value in zip(given, (x, y)):
        array[at] = value
    with pytest.warns(RuntimeWarning, match=says):
        found = getattr(cpu, name)(*given)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found, getattr(np, name)(*given))
    assert bool(large) == arithmetic.compiles()


def test_numpy_serves_where_nobody_waits_to_share(called, monkeypatch, threads, rng):
    threads(2)
    x = rng.normal(size=arithmetic.LARGE).astype("f4")
    for waits in (False, True):
        monkeypatch.setattr(arithmetic.workers, "attended", lambda grains, waits=waits: waits)
        same("add", x, x)
        assert bool(called) == (waits and arithmetic.compiles())
    called.clear()
    same("add", x[1:], x[1:])
    monkeypatch.setattr(arithmetic, "_LARGEST", len(x))
    monkeypatch.setattr(arithmetic.workers, "attended", lambda grains: False)
    threads(1)
    same("add", x, x)
    assert not called


def test_the_engine_has_large_arrays_computed_by_the_loop(rng, monkeypatch, called, threads):
    threads(2)
    monkeypatch.setattr(arithmetic, "_LARGEST", arithmetic.LARGE)
    given = [rng.normal(size=(400, 500)).astype("f4"), rng.normal(size=500).astype("f4") + 5]

    def gradients(lib_of):
        x, row = [lib_of(a) for a in given]
        y = -(x * row - x / row) * 2.0 + x
        y.backward(cr.ones_like(y))
        return [y.detach().numpy(), x.grad.numpy(), row.grad.numpy()]

    fast = gradients(lambda a: cr.tensor(a, requires_grad=True))
    count = len(called)
    exact = gradients(lambda a: cr.tensor(a.astype("f8"), requires_grad=True))
    for got, expected in zip(fast, exact, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    if arithmetic.compiles():
        assert {f.__name__ for f in called} == {"_multiply", "_divide", "_subtract", "_negative", "_add"} and count > 9
