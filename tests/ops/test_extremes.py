"""Inputs where the textbook formula overflows, cancels or loses its digits. Expected values are exact limits."""

import math

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F

inf = math.inf
HUGE = [1e4, 1e30, inf]
DTYPES = [np.float32, np.float64]


def gradient(f, values, dtype, **kw):
    """(value, gradient) of the sum of f, without any NumPy warning."""
    x = cr.tensor(values, dtype=dtype, requires_grad=True)
    y = f(x)
    y.sum().backward()
    assert y.dtype == dtype and x.grad.dtype == dtype
    return y.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", HUGE)
@pytest.mark.parametrize(
    ("function", "low", "high", "slope_low", "slope_high"),
    [
        (cr.sigmoid, lambda x: 0, lambda x: 1, 0, 0),
        (cr.tanh, lambda x: -1, lambda x: 1, 0, 0),
        (F.softplus, lambda x: 0, lambda x: x, 0, 1),
        (F.logsigmoid, lambda x: -x, lambda x: 0, 1, 0),
        (F.relu, lambda x: 0, lambda x: x, 0, 1),
        (F.elu, lambda x: -1, lambda x: x, 0, 1),
        (cr.erf, lambda x: -1, lambda x: 1, 0, 0),
        (cr.arctan, lambda x: -math.pi / 2, lambda x: math.pi / 2, 0, 0),
    ],
    ids=["sigmoid", "tanh", "softplus", "logsigmoid", "relu", "elu", "erf", "arctan"],
)
def test_saturation(function, low, high, slope_low, slope_high, size, dtype):
    x = float(dtype(size))
    with np.errstate(over="ignore"):  # x² in arctan's derivative may be inf; 1/inf is the limit
        value, slope = gradient(function, [-x, x], dtype)
    np.testing.assert_allclose(value, [low(x), high(x)], rtol=1e-3 if size == 1e4 else 1e-6)
    np.testing.assert_allclose(slope, [slope_low, slope_high], atol=2e-8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e4, 1e30])
@pytest.mark.parametrize("function", [F.gelu, F.silu], ids=["gelu", "silu"])
def test_gated_units_far_out(function, size, dtype):
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        value, slope = gradient(function, [-size, size], dtype)
    np.testing.assert_allclose(value, [0, np.float32(size)], rtol=1e-6)
    assert slope.tolist() == [0, 1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_softmax_and_its_logarithm(size, dtype):
    for values, shares in [
        ([0, size], [0, 1]),
        ([-size, 0], [0, 1]),
        ([size, size], [0.5, 0.5]),
        ([-size, -size], [0.5, 0.5]),
    ]:
        value, slope = gradient(lambda x: cr.softmax(x, 0), values, dtype)
        np.testing.assert_allclose(value, shares, atol=1e-7)
        np.testing.assert_allclose(slope, 0, atol=1e-7)
        value, slope = gradient(lambda x: cr.log_softmax(x, 0)[1], values, dtype)
        np.testing.assert_allclose(value, math.log(shares[1]), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(slope, [-shares[0], 1 - shares[1]], atol=1e-7)
        value, slope = gradient(lambda x: cr.logsumexp(x, 0), values, dtype)
        np.testing.assert_allclose(value, np.float32(max(values)) - math.log(shares[1]), rtol=1e-6)
        np.testing.assert_allclose(slope, shares, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_of_minus_infinity_are_masks(dtype):
    value, slope = gradient(lambda x: cr.softmax(x, 0)[1], [-inf, 1.0, -inf], dtype)
    assert value == 1 and slope.tolist() == [0, 0, 0]
    value, slope = gradient(lambda x: cr.logsumexp(x, 0), [-inf, 1.0, -inf], dtype)
    assert value == 1 and slope.tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_cross_entropy(size, dtype):
    right, wrong = cr.tensor([1]), cr.tensor([0])
    value, slope = gradient(lambda x: F.cross_entropy(x.reshape(1, 2), right), [-size, size], dtype)
    assert value == 0 and slope.tolist() == [0, 0]
    value, slope = gradient(lambda x: F.cross_entropy(x.reshape(1, 2), wrong), [-size, size], dtype)
    np.testing.assert_allclose(value, 2 * np.float32(size), rtol=1e-6)
    assert slope.tolist() == [-1, 1]
    soft = cr.tensor([[0.25, 0.75]], dtype=dtype)
    value, slope = gradient(lambda x: F.cross_entropy(x.reshape(1, 2), soft), [-size, size], dtype)
    np.testing.assert_allclose(value, 0.5 * np.float32(size), rtol=1e-6)
    np.testing.assert_allclose(slope, [-0.25, 0.25])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_binary_cross_entropy_of_logits(size, dtype):
    targets = cr.tensor([0.0, 0.0, 1.0, 1.0], dtype=dtype)
    loss = lambda x: F.binary_cross_entropy_with_logits(x, targets, reduction="none")
    value, slope = gradient(loss, [-size, size, -size, size], dtype)
    np.testing.assert_allclose(value, [0, np.float32(size), np.float32(size), 0], rtol=1e-6)
    assert slope.tolist() == [0, 1, -1, 0]


def test_small_numbers_keep_their_digits():
    """Where 1 + x rounds to 1."""
    for function, exact in [
        (cr.log1p, 1e-20),
        (cr.expm1, 1e-20),
        (cr.arcsinh, 1e-20),
        (cr.tanh, 1e-20),
        (cr.erf, 2e-20 / math.sqrt(math.pi)),
    ]:
        value, slope = gradient(function, [1e-20], np.float64)
        np.testing.assert_allclose(value, exact, rtol=1e-14)
        np.testing.assert_allclose(slope, exact / 1e-20, rtol=1e-14)
    value, _ = gradient(F.softplus, [-50.0], np.float64)
    np.testing.assert_allclose(value, math.exp(-50), rtol=1e-12)
    value, _ = gradient(F.logsigmoid, [50.0], np.float64)
    np.testing.assert_allclose(value, -math.exp(-50), rtol=1e-12)
    value, _ = gradient(lambda x: cr.logaddexp(x, cr.zeros(1, dtype=cr.float64)), [-50.0], np.float64)
    np.testing.assert_allclose(value, math.exp(-50), rtol=1e-12)


# ---- sums and moments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, -1])
def test_the_variance_of_small_noise_on_a_large_number(axis, rng):
    noise = rng.standard_normal((500, 3))
    exact = noise.var(0, ddof=1)
    x = 1e8 + noise
    value = cr.tensor(x if axis == 0 else x.T.copy()).var(axis).numpy()
    np.testing.assert_allclose(value, (x - 1e8).var(0, ddof=1), rtol=1e-9)
    np.testing.assert_allclose(value, exact, rtol=1e-6)
    out = F.batch_norm(cr.tensor(x), None, None, training=True).numpy()
    np.testing.assert_allclose(out.std(0), 1, rtol=1e-4)
    shifted = cr.tensor((2.0**12 + noise).astype(np.float32))
    np.testing.assert_allclose(shifted.var(0).numpy(), (shifted.numpy().astype(float)).var(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(
        F.layer_norm(shifted.T, (500,)).numpy(), normalised(shifted.numpy().astype(float)).T, atol=2e-3
    )


def normalised(x):
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


COUNT = 17_800_000


@pytest.mark.slow
def test_float32_sums_of_many_ones_are_exact():
    """NumPy's sum over a non-contiguous axis stops at 2²⁴ = 16,777,216."""
    for shape, dim in [((COUNT, 1), 0), ((COUNT // 2, 2), 0), ((COUNT,), None)]:
        x = cr.ones(shape)
        total = x.sum(dim).numpy()
        np.testing.assert_allclose(total, COUNT // (2 if shape[-1] == 2 else 1), rtol=1e-7)
        del x


@pytest.mark.slow
def test_the_gradient_of_a_bias_is_exact_at_that_size():
    """Every way by which a gradient is summed over many rows."""
    rows = COUNT // 2
    ones = cr.ones((rows, 2))
    for add in (lambda b: ones + b, lambda b: ones * b, lambda b: cr.broadcast_to(b, (rows, 2))):
        bias = cr.ones(2, requires_grad=True)
        add(bias).backward(ones)
        np.testing.assert_allclose(bias.grad.numpy(), rows, rtol=1e-6)
    bias = cr.ones(2, requires_grad=True)
    F.linear(cr.ones((rows, 1)), cr.ones((2, 1)), bias).backward(ones)
    np.testing.assert_allclose(bias.grad.numpy(), rows, rtol=1e-6)


def test_means_in_float16():
    """The sum of 100,000 ones does not fit float16, their mean does; so does their variance."""
    x = cr.ones((100_000, 2), dtype=cr.float16)
    assert x.mean().item() == 1 and x.mean(0).tolist() == [1, 1] and x.mean().dtype == cr.float16
    assert x.var().item() == 0 and x.std(0).tolist() == [0, 0]
    x = cr.full((4096,), 0.1, dtype=cr.float16)
    assert abs(x.mean().item() - 0.1) < 1e-4
    np.testing.assert_allclose(x.sum().item(), 4096 * float(np.float16(0.1)), rtol=1e-3)


def test_float16_softmax_of_large_numbers():
    x = cr.tensor([30000.0, 30000.0, -30000.0], dtype=cr.float16, requires_grad=True)
    y = cr.softmax(x, 0)
    assert y.tolist() == [0.5, 0.5, 0] and cr.log_softmax(x, 0).dtype == cr.float16


def test_integer_sums_do_not_overflow_their_dtype():
    assert cr.full((1000,), 100, dtype=cr.int8).sum().item() == 100_000
    assert cr.full((1000,), 200, dtype=cr.uint8).sum().item() == 200_000
    assert cr.ones(10, dtype=cr.bool).sum().item() == 10
    assert cr.full((40,), 2, dtype=cr.int32).prod().item() == 2**40
