"""Lectures, section 2: every optimiser equals its formula, written again here in plain numbers, and finds minima."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim

f64 = cr.float64


def sgd(lr, momentum=0.0, nesterov=False):
    v = None

    def step(theta, g, t):
        nonlocal v
        v = g if v is None else momentum * v + g
        return theta - lr * (g + momentum * v if nesterov else v if momentum else g)

    return step


def adagrad(lr, eps=1e-10):
    total = 0.0

    def step(theta, g, t):
        nonlocal total
        total = total + g * g
        return theta - lr * g / (np.sqrt(total) + eps)

    return step


def adadelta(lr, rho, eps=1e-6):
    squares = moves = 0.0

    def step(theta, g, t):
        nonlocal squares, moves
        squares = rho * squares + (1 - rho) * g * g
        move = np.sqrt(moves + eps) / np.sqrt(squares + eps) * g
        moves = rho * moves + (1 - rho) * move * move
        return theta - lr * move

    return step


def rmsprop(lr, alpha, eps=1e-8):
    squares = 0.0

    def step(theta, g, t):
        nonlocal squares
        squares = alpha * squares + (1 - alpha) * g * g
        return theta - lr * g / (np.sqrt(squares) + eps)

    return step


def adam(lr, beta1, beta2, eps=1e-8, decay=0.0):
    m = v = 0.0

    def step(theta, g, t):
        nonlocal m, v
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        shrunk = theta * (1 - lr * decay)
        return shrunk - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)

    return step


CASES = {
    "SGD": (lambda p: optim.SGD(p, lr=0.05), lambda: sgd(0.05)),
    "momentum": (lambda p: optim.SGD(p, lr=0.02, momentum=0.9), lambda: sgd(0.02, 0.9)),
    "Nesterov": (lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True), lambda: sgd(0.02, 0.9, True)),
    "Adagrad": (lambda p: optim.Adagrad(p, lr=0.5), lambda: adagrad(0.5)),
    "Adadelta": (lambda p: optim.Adadelta(p, lr=1.0, rho=0.9), lambda: adadelta(1.0, 0.9)),
    "RMSprop": (lambda p: optim.RMSprop(p, lr=0.05, alpha=0.9), lambda: rmsprop(0.05, 0.9)),
    "Adam": (lambda p: optim.Adam(p, lr=0.1), lambda: adam(0.1, 0.9, 0.999)),
    "AdamW": (lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.1), lambda: adam(0.1, 0.9, 0.999, decay=0.1)),
}


def valley(x):
    """A narrow quadratic valley, whose minimum is 0 at (0, 0)."""
    return x[0] ** 2 / 2 + 5 * x[1] ** 2


def valley_slope(x):
    return np.array([x[0], 10 * x[1]])


@pytest.mark.parametrize("name", CASES)
def test_paths_equal_the_formulas(name):
    make, formula = CASES[name]
    w = cr.tensor([2.0, 1.0], dtype=f64, requires_grad=True)
    optimizer, step, theta = make([w]), formula(), np.array([2.0, 1.0])
    for t in range(1, 31):
        optimizer.zero_grad()
        valley(w).backward()
        np.testing.assert_allclose(w.grad.numpy(), valley_slope(theta), rtol=1e-9, atol=1e-12)
        optimizer.step()
        theta = step(theta, valley_slope(theta), t)
        np.testing.assert_allclose(w.detach().numpy(), theta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("Adadelta", "AdamW")])
def test_the_valley_is_descended(name):
    w = cr.tensor([2.0, 1.0], dtype=f64, requires_grad=True)
    optimizer = CASES[name][0]([w])
    for _ in range(400):
        optimizer.zero_grad()
        loss = valley(w)
        loss.backward()
        optimizer.step()
    assert loss.item() < 5e-3


@pytest.mark.parametrize("name", CASES)
def test_a_saddle_point_is_left(name):
    """x² − y² from just beside the ridge: every optimiser escapes along y."""
    w = cr.tensor([1.0, 1e-3], dtype=f64, requires_grad=True)
    optimizer = CASES[name][0]([w])
    for _ in range(400):
        optimizer.zero_grad()
        (w[0] ** 2 - w[1] ** 2).backward()
        optimizer.step()
    assert abs(w[1].item()) > 0.1


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_online_mini_batch_and_full_batch_descent_fit_a_line(batch, rng):
    x = rng.standard_normal((64, 3))
    y = x @ [1.0, -2.0, 0.5] + 3
    w, b = cr.zeros(3, dtype=f64, requires_grad=True), cr.zeros((), dtype=f64, requires_grad=True)
    optimizer = optim.SGD([w, b], lr=0.05)
    for _ in range(200 if batch == 64 else 30):
        order = rng.permutation(64)
        for start in range(0, 64, batch):
            rows = order[start : start + batch]
            optimizer.zero_grad()
            ((cr.tensor(x[rows]) @ w + b - y[rows]) ** 2).mean().backward()
            optimizer.step()
    np.testing.assert_allclose([*w.tolist(), b.item()], [1, -2, 0.5, 3], atol=1e-3)


def test_momentum_sums_a_geometric_series():
    """Under a constant gradient the step grows to lr / (1 − momentum)."""
    w = cr.zeros(1, dtype=f64, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    before = 0.0
    for _ in range(200):
        before = w.item()
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()
    assert before - w.item() == pytest.approx(0.1 / (1 - 0.9), rel=1e-6)


def test_the_first_step_of_adam_has_the_length_of_the_rate_whatever_the_gradient():
    for scale in (1e-3, 1.0, 1e6):
        w = cr.ones(1, dtype=f64, requires_grad=True)
        optimizer = optim.Adam([w], lr=0.01)
        (scale * w).sum().backward()
        optimizer.step()
        assert 1 - w.item() == pytest.approx(0.01, rel=1e-4)
