"""Elementwise formulas: the vectors' loops and NumPy's twins, against float64, on every kind of operand."""

import inspect

import numpy as np
import pytest
from scipy import special

from chainrule.kernels import cpu
from chainrule.kernels.cpu import activations, formulas

SIGMOID, PHI = special.expit, special.ndtr
NUMBERS = {"slope": 0.1, "alpha": 1.5, "beta": 0.5, "threshold": 3.0, "min": -1.0, "max": 0.5}
FUNCTIONS = {  # name: (definition, units in the last place in float32 and float64)
    "relu": (lambda x: np.maximum(x, 0), 0),
    "relu_backward": (lambda g, out: np.where(out > 0, g, 0), 0),
    "tanh_backward": (lambda g, out: g * (1 - out * out), None),
    "sigmoid_backward": (lambda g, out: g * (out * (1 - out)), None),
    "leaky_relu": (lambda x, slope: np.where(x > 0, x, x * slope), 1),
    "leaky_relu_backward": (lambda g, x, slope: np.where(x > 0, g, g * slope), 1),
    "absolute_backward": (lambda g, x: g * np.sign(x), 0),
    "clip_backward": (lambda g, x, min, max: np.where((x >= min) & (x <= max), g, 0), 0),
    "elu": (lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))), 4),
    "elu_backward": (lambda g, x, alpha: np.where(x > 0, g, g * (alpha * np.exp(np.minimum(x, 0)))), 4),
    "sigmoid": (SIGMOID, 3),
    "logsigmoid": (special.log_expit, 4),
    "logsigmoid_backward": (lambda g, x: g * SIGMOID(-x), 4),
    "softplus": (lambda x, beta, threshold: np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta), 5),
    "softplus_backward": (
        lambda g, x, beta, threshold: np.where(x * beta > threshold, g, g * SIGMOID(x * beta)),
        5,
    ),
    "silu": (lambda x: x * SIGMOID(x), 4),
    "silu_backward": (lambda g, x: g * (SIGMOID(x) * (1 + x * (1 - SIGMOID(x)))), None),
    "gelu": (lambda x: x * PHI(x), 8),
    "gelu_backward": (lambda g, x: g * (PHI(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)), None),
    "rsqrt_backward": (lambda g, out: g * out**3 * -0.5, 4),
    "scale_shift": (lambda x, s, t: x * s + t, None),
    "squared_error": (lambda x, y: (x - y) ** 2, None),
    "squared_error_backward": (lambda g, x, y: 2 * g * (x - y), None),
    "smooth_l1": (lambda x, y, beta: special.huber(beta, x - y) / beta, None),
    "smooth_l1_backward": (
        lambda g, x, y, beta: g * np.where(abs(x - y) < beta, (x - y) / beta, np.sign(x - y)),
        None,
    ),
    "binary_cross_entropy": (lambda x, t: (1 - t) * x + np.logaddexp(0, -x), None),
    "binary_cross_entropy_backward": (lambda g, x, t: g * (SIGMOID(x) - t), None),
}


def parts(name):
    """How many arrays the function takes, and its numbers by name."""
    parameters = inspect.signature(getattr(cpu, name)).parameters.values()
    numbers = {p.name: NUMBERS[p.name] for p in parameters if p.name in NUMBERS}
    return len(parameters) - len(numbers), numbers


def check(result, expected, scale, dtype, units):
    """Within so many units in the last place of the result, or of the operands and the result (None)."""
    eps = np.finfo(dtype).eps
    bound = (units or 8) * eps * (np.abs(expected) if units is not None else np.abs(expected) + scale)
    assert result.dtype == dtype and result.shape == expected.shape
    assert (np.abs(result - expected) <= bound + 4 * np.finfo(dtype).tiny).all()


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_accuracy(path, name, dtype, rng):
    count, numbers = parts(name)
    n = 20_000 if path == "numba" else 2_000
    spread = [rng.normal(size=n) * 3, rng.uniform(-30, 30, n), 2.0 ** rng.uniform(-20, 0, n) * rng.choice([-1, 1], n)]
    arrays = [rng.permutation(np.concatenate(spread)).astype(dtype) for _ in range(count)]
    function, units = FUNCTIONS[name]
    exact = [a.astype(np.float64) for a in arrays]
    if dtype == "float64" and name == "gelu":
        units = 3000  # SciPy's own, far to the left
    numbers = {k: float(np.dtype(dtype).type(v)) for k, v in numbers.items()}
    scale = np.prod([1 + abs(a) for a in exact], 0) * max([1 + abs(a) for a in exact], key=np.max)
    check(getattr(cpu, name)(*arrays, **numbers), function(*exact, **numbers), scale, np.dtype(dtype), units)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_to_its_last_digits_far_to_the_left(path, dtype, rng):
    mpmath = pytest.importorskip("mpmath")
    if path == "numpy":
        pytest.skip("the C library's erfc of a rounded argument")
    x = rng.uniform(-12.5 if dtype == "float32" else -37, 6, 500).astype(dtype)
    with mpmath.workdps(40):
        exact = np.array([float(v * mpmath.ncdf(v)) for v in map(mpmath.mpf, map(float, x))])
    np.testing.assert_allclose(cpu.gelu(x), exact, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kind_of_operand(path, name, rng):
    count, numbers = parts(name)
    function = getattr(cpu, name)

    def arrays(change=lambda x: x, shape=(70, 90)):
        return [change(x) for x in rng.uniform(-3, 3, (count, *shape)).astype("f4")]

    def agree(given, dtype="f4", tolerance=1e-6):
        result = function(*given, **numbers)
        expected = FUNCTIONS[name][0](*[np.asarray(x, "f8") for x in given], **numbers)
        assert type(result) is np.ndarray and result.dtype == dtype and result.flags.c_contiguous
        assert not any(np.shares_memory(result, x) for x in given)
        np.testing.assert_allclose(result, expected, rtol=20 * tolerance, atol=20 * tolerance)

    def frozen(x):
        x.setflags(write=False)
        return x

    unaligned = lambda x: np.frombuffer(b"." + x.tobytes(), "f4", offset=1).reshape(x.shape) if x.size else x
    for change in (frozen, np.transpose, lambda x: x[::-1, ::3], lambda x: x.astype(">f4"), unaligned):
        agree(arrays(change))
    agree(arrays(lambda x: x.astype("f2")), "f2", 1e-3)
    agree([x.round().astype("i4") for x in arrays()])
    for shape in ((), (1,), (1, 1), (3, 5), (1, 511), (513,), (2, 1024), (0,), (4, 0, 2)):
        agree(arrays(shape=shape))
    if count > 1:
        first, *others = arrays()
        for x in (
            first[:1, :1],
            first[0, 0].reshape(()),
            np.broadcast_to(first[:1, :1], first.shape),
            first[:1],
            first[:, :1],
        ):
            agree([x, *others])
            agree([*others, x])
        agree([first.astype("f8"), *others], "f8")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_nan_stays_and_the_ends_are_as_numpy_has_them(name, path):
    count, numbers = parts(name)
    ends = np.array([np.nan, -np.inf, np.inf, -0.0, 0.0, 1e30, -1e30] * 400, "f4")
    given = [ends] * count if count == 1 else [np.full_like(ends, 0.5), ends, *[np.full_like(ends, 0.5)] * (count - 2)]
    with np.errstate(all="ignore"):
        result = getattr(cpu, name)(*given, **numbers)
        expected = FUNCTIONS[name][0](*[x.astype("f8") for x in given], **numbers).astype("f4")
    if "backward" in name:  # a gradient where a formula has a NaN of its own, or where a step says 0
        assert np.isnan(result[0]) or name in ("relu_backward", "leaky_relu_backward", "clip_backward")
        result, expected = result[3:5], expected[3:5]
    np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["gelu", "silu_backward", "squared_error"])
def test_the_threads_change_nothing(name, threads, rng):
    count, numbers = parts(name)
    arrays = rng.normal(size=(count, 300_001)).astype("f4")
    threads(1)
    alone = getattr(cpu, name)(*arrays, **numbers)
    threads(3)
    np.testing.assert_array_equal(getattr(cpu, name)(*arrays, **numbers), alone)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8"])
@pytest.mark.parametrize("bounds", [(-1, 2), (None, 0.5), (-0.5, None), (2, -1), (-np.inf, np.inf), (-1e300, 1)])
def test_clip(path, dtype, bounds, rng):
    x = (rng.normal(size=5000) * 3).astype(dtype)
    if dtype != "i8":
        x[:4] = np.nan, np.inf, -np.inf, -0.0
    elif not all(isinstance(b, int) for b in bounds):
        pytest.skip("the engine converts integers first")
    with np.errstate(over="ignore"):
        for given in (x, x[:50], x.reshape(50, 100).T):
            result = cpu.clip(given, *bounds)
            np.testing.assert_array_equal(result, np.clip(given, *bounds))
            assert result.dtype == dtype


def test_one_over_the_root(path, rng):
    x = rng.uniform(0, 9, 5000)
    np.testing.assert_allclose(cpu.rsqrt(x), x**-0.5, rtol=4e-16)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "bool"])
def test_where(path, dtype, rng):
    x, y = (rng.normal(size=(60, 70)) * 9).astype(dtype), (rng.normal(size=(60, 70)) * 9).astype(dtype)
    full = rng.random((60, 70)) < 0.5
    one = lambda v: np.asarray(v, dtype)
    for condition in (full, full.T.copy().T, full[:1], full[:, :1], full[0], np.array(True), np.array(False)):
        for a, b in (
            (x, y),
            (x, one(0)),
            (one(1), y),
            (x[:1], y),
            (x.T.copy().T, y[:, ::-1]),
            (np.broadcast_to(x[:1, :1], x.shape), y),
        ):
            result = cpu.where(condition, a, b)
            np.testing.assert_array_equal(result, np.where(condition, a, b))
            assert result.dtype == dtype and not np.shares_memory(result, a)


def test_where_keeps_to_its_choice_and_to_numpys_other_uses(path):
    condition = np.arange(5000) % 3 == 0
    x, y = np.where(condition, 1.0, np.nan), np.where(condition, np.inf, 2.0)
    np.testing.assert_array_equal(cpu.where(condition, x, y), np.where(condition, 1.0, 2.0))
    np.testing.assert_array_equal(cpu.where(condition)[0], np.flatnonzero(condition))
    np.testing.assert_array_equal(cpu.where(np.arange(5000) % 3, x, y), np.where(np.arange(5000) % 3, x, y))
    np.testing.assert_array_equal(cpu.where(condition, 1, 0), condition.astype(int))


def test_the_words_are_the_same_for_vectors_and_arrays():
    from chainrule.kernels.cpu.vector import Mathematics

    words = {name for name in vars(formulas.Arrays) if not name.startswith("_")}
    assert words <= set(vars(Mathematics)) and activations._SMALL <= 4096
