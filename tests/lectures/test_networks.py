"""Lectures, section 1: threshold units, the perceptron, backpropagation by hand, multi-task learning, approximation."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

f64 = cr.float64
CORNERS = np.array(list(itertools.product([0.0, 1.0], repeat=2)))
AND, OR, XOR = np.array([0, 0, 0, 1.0]), np.array([0, 1, 1, 1.0]), np.array([0, 1, 1, 0.0])


def t(array):
    return cr.tensor(np.asarray(array, float))


def leaf(array):
    return t(array).requires_grad_()


def close(ours, expected, tolerance=1e-12):
    np.testing.assert_allclose(
        ours.detach().numpy() if isinstance(ours, cr.Tensor) else ours, expected, rtol=tolerance, atol=tolerance
    )


# ---- neurons ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answers", "threshold"), [(AND, 2.0), (OR, 1.0)])
def test_a_threshold_unit_represents_and_and_or(answers, threshold):
    unit = nn.ThresholdUnit([1.0, 1.0], threshold)
    assert unit(t(CORNERS).float()).tolist() == answers.tolist()


def test_no_threshold_unit_represents_xor():
    grid = np.linspace(-2, 2, 9)
    for w1, w2, threshold in itertools.product(grid, grid, grid):
        out = nn.ThresholdUnit([w1, w2], threshold, dtype=f64)(t(CORNERS))
        assert out.tolist() != XOR.tolist()


def test_threshold_units_in_two_layers_represent_xor():
    x = t(CORNERS).float()
    hidden = cr.stack([nn.ThresholdUnit([1.0, 1.0], 1.0)(x), nn.ThresholdUnit([-1.0, -1.0], -1.0)(x)], 1)  # OR, NAND
    assert nn.ThresholdUnit([1.0, 1.0], 2.0)(hidden).tolist() == XOR.tolist()


@pytest.mark.parametrize("answers", [AND, OR, 1 - AND, CORNERS[:, 0]])
def test_the_perceptron_converges_on_what_a_line_separates(answers):
    unit, x, y = nn.Perceptron(2), t(CORNERS).float(), t(2 * answers - 1).float()
    for _ in range(50):
        if not unit.learn(x, y, rate=0.5):
            break
    assert unit(x).tolist() == y.tolist()


def test_the_perceptron_converges_on_separable_clouds(rng):
    x = rng.standard_normal((60, 5))
    side = x @ rng.standard_normal(5)
    x, side = x[abs(side) > 0.3], side[abs(side) > 0.3]
    unit, y = nn.Perceptron(5, dtype=f64), t(np.sign(side))
    for _ in range(300):
        if not unit.learn(t(x), y):
            break
    assert (unit(t(x)) == y).all()


def test_the_perceptron_never_converges_on_xor():
    unit, x, y = nn.Perceptron(2), t(CORNERS).float(), t(2 * XOR - 1).float()
    assert all(unit.learn(x, y) for _ in range(200))


def test_the_perceptrons_rule_by_hand():
    """w ← w + η(y − ŷ)x, b ← b + η(y − ŷ)."""
    unit = nn.Perceptron(2, dtype=f64)
    unit.learn(t([[2.0, -3.0]]), t([-1.0]), rate=0.1)  # w = 0: ŷ = +1, y − ŷ = −2
    close(unit.weight, [-0.4, 0.6])
    close(unit.bias, -0.2)


def test_a_two_two_one_network_represents_xor():
    hidden = cr.relu(t(CORNERS) @ t([[1.0, 1.0], [1.0, 1.0]]) + t([0.0, -1.0]))
    close(hidden @ t([1.0, -2.0]), XOR)


def test_a_small_network_learns_xor():
    cr.manual_seed(0)
    net = nn.models.MLP([2, 4, 1], nn.Tanh)
    optimizer, loss = optim.Adam(net.parameters(), lr=0.05), nn.BCEWithLogitsLoss()
    x, y = t(CORNERS).float(), t(XOR).float()[:, None]
    for _ in range(300):
        optimizer.zero_grad()
        loss(net(x), y).backward()
        optimizer.step()
    assert ((net(x) > 0).float() == y).all() and loss(net(x), y).item() < 0.05


# ---- backpropagation by hand -----------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
    "sigmoid": (cr.sigmoid, sigmoid, lambda net: sigmoid(net) * (1 - sigmoid(net))),
    "tanh": (cr.tanh, np.tanh, lambda net: 1 - np.tanh(net) ** 2),
    "linear": (lambda x: x, lambda x: x, np.ones_like),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_delta_rule(name, rng):
    """E = ½ Σ(y − d)²; δₖ = (dₖ − yₖ) f′(netₖ); δⱼ = f′(netⱼ) Σ δₖ wₖⱼ; Δw = η δ · input = −η ∂E/∂w."""
    f, plain, slope = ACTIVATIONS[name]
    x, d = rng.standard_normal(3), rng.standard_normal(2)
    w_hidden, w_out = rng.standard_normal((4, 3)), rng.standard_normal((2, 4))
    net_j = w_hidden @ x
    net_k = w_out @ plain(net_j)
    delta_k = (d - plain(net_k)) * slope(net_k)
    delta_j = slope(net_j) * (w_out.T @ delta_k)

    v, w = leaf(w_hidden), leaf(w_out)
    error = ((f(w @ f(v @ t(x))) - t(d)) ** 2).sum() / 2
    error.backward()
    close(w.grad, -np.outer(delta_k, plain(net_j)))
    close(v.grad, -np.outer(delta_j, x))

    rate = 0.1
    optim.SGD([v, w], lr=rate).step()
    close(w, w_out + rate * np.outer(delta_k, plain(net_j)))
    close(v, w_hidden + rate * np.outer(delta_j, x))


def test_many_layers_by_hand(rng):
    """z⁽ᵐ⁾ = W⁽ᵐ⁾ a⁽ᵐ⁻¹⁾ + c⁽ᵐ⁾, a⁽ᵐ⁾ = tanh(z⁽ᵐ⁾), for five layers."""
    sizes = [3, 5, 4, 4, 2]
    weights = [rng.standard_normal((o, i)) for i, o in itertools.pairwise(sizes)]
    biases = [rng.standard_normal(o) for o in sizes[1:]]
    x, d = rng.standard_normal(3), rng.standard_normal(2)
    a = [x]
    for w, c in zip(weights, biases, strict=True):
        a.append(np.tanh(w @ a[-1] + c))
    delta, expected = (a[-1] - d) * (1 - a[-1] ** 2), []
    for m in reversed(range(len(weights))):
        expected.insert(0, (np.outer(delta, a[m]), delta))
        delta = (weights[m].T @ delta) * (1 - a[m] ** 2)

    ws, cs = [leaf(w) for w in weights], [leaf(c) for c in biases]
    out = t(x)
    for w, c in zip(ws, cs, strict=True):
        out = cr.tanh(w @ out + c)
    (((out - t(d)) ** 2).sum() / 2).backward()
    for w, c, (dw, dc) in zip(ws, cs, expected, strict=True):
        close(w.grad, dw)
        close(c.grad, dc)


def test_the_two_layer_tanh_network(rng):
    """H = tanh(W_X X), Ŷ = W_Y H, E = ½|Ŷ − Y|²: ∂E/∂W_Y = (Ŷ − Y) Hᵀ, ∂E/∂W_X = [W_Yᵀ (Ŷ − Y) ⊙ (1 − H²)] Xᵀ.

    The lecture writes both with (Y − Ŷ): the direction of descent.
    """
    X, Y = rng.standard_normal((3, 10)), rng.standard_normal((2, 10))
    W_X, W_Y = rng.standard_normal((5, 3)), rng.standard_normal((2, 5))
    H = np.tanh(W_X @ X)
    off = Y - W_Y @ H
    w_x, w_y = leaf(W_X), leaf(W_Y)
    error = ((w_y @ cr.tanh(w_x @ t(X)) - t(Y)) ** 2).sum() / 2
    descent = [-g for g in cr.autograd.grad(error, [w_y, w_x])]
    close(descent[0], off @ H.T)
    close(descent[1], ((W_Y.T @ off) * (1 - H**2)) @ X.T)


def test_the_gradient_of_cross_entropy_is_prediction_minus_answer(rng):
    logits, target = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)
    x = leaf(logits)
    cr.cross_entropy(x, cr.tensor(target), reduction="sum").backward()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    close(x.grad, p - np.eye(4)[target])
    b, d = leaf(logits[:, 0]), rng.integers(0, 2, 6).astype(float)
    y = cr.sigmoid(b)
    loss = -(t(d) * cr.log(y) + (1 - t(d)) * cr.log(1 - y)).sum()
    close(cr.binary_cross_entropy(y, t(d), reduction="sum"), loss.item())
    close(cr.autograd.grad(loss, [b])[0], sigmoid(logits[:, 0]) - d)


def test_many_tasks_share_a_trunk_whose_gradient_is_the_sum_of_the_heads(rng):
    trunk = leaf(rng.standard_normal((4, 3)))
    heads = [leaf(rng.standard_normal((2, 4))) for _ in range(3)]
    x = t(rng.standard_normal(3))
    losses = lambda: [((head @ cr.tanh(trunk @ x)) ** 2).sum() * (i + 1) for i, head in enumerate(heads)]
    together = cr.autograd.grad(sum(losses()), [trunk, *heads])
    alone = [cr.autograd.grad(loss, [trunk, head]) for loss, head in zip(losses(), heads, strict=True)]
    close(together[0], sum(g.numpy() for g, _ in alone))
    for a, (_, b) in zip(together[1:], alone, strict=True):
        close(a, b.numpy())


def test_one_hidden_layer_fits_the_sine():
    """Hornik 1989: here to within 0.02 everywhere on [−π, π], with 20 units."""
    cr.manual_seed(1)
    net = nn.models.MLP([1, 20, 1], nn.Tanh).to(f64)
    x = cr.linspace(-np.pi, np.pi, 200, dtype=f64)[:, None]
    y = cr.sin(x)
    optimizer = optim.Adam(net.parameters(), lr=0.03)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        optimizer.zero_grad()
        ((net(x) - y) ** 2).mean().backward()
        optimizer.step()
        schedule.step()
    assert abs(net(x) - y).max().item() < 0.02


# ---- activations -----------------------------------------------------------------------------------------------------

FORMULAS = {
    "sigmoid": (nn.Sigmoid, sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (nn.Tanh, np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "relu": (nn.ReLU, lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "leaky relu": (nn.LeakyReLU, lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    "elu": (nn.ELU, lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: np.where(x > 0, 1, np.exp(x))),
    "softplus": (nn.Softplus, lambda x: np.log(1 + np.exp(x)), sigmoid),
    "noisy relu, evaluating": (lambda: nn.NoisyReLU().eval(), lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_and_their_derivatives(name):
    make, f, slope = FORMULAS[name]
    points = np.linspace(-4, 4, 40)  # 0 is not among them
    x = leaf(points)
    y = make()(x)
    close(y, f(points))
    close(cr.autograd.grad(y.sum(), [x])[0], slope(points))


def test_noisy_relu_adds_noise_of_the_variance_sigmoid_x():
    cr.manual_seed(0)
    x = cr.full((200_000,), 8.0, dtype=f64)
    y = nn.NoisyReLU()(x)
    assert abs(y.mean().item() - 8) < 0.01 and abs(y.var().item() - sigmoid(8)) < 0.02


def test_softmax_and_its_jacobian(rng):
    x = rng.standard_normal(5)
    p = np.exp(x) / np.exp(x).sum()
    close(cr.softmax(t(x), 0), p)
    close(cr.jacobian(lambda x: cr.softmax(x, 0))(t(x)), np.diag(p) - np.outer(p, p))


def test_maxout_is_the_largest_of_its_maps(rng):
    layer = nn.Maxout(3, 2, 4).to(f64)
    x = rng.standard_normal((7, 3))
    weight, bias = (p.detach().numpy() for p in (layer.linear.weight, layer.linear.bias))
    for unit in range(2):
        pieces = [weight[4 * unit + k] @ x.T + bias[4 * unit + k] for k in range(4)]
        close(layer(t(x))[:, unit], np.max(pieces, 0))
    cr.check_grads(layer, [t(x)], order=1)


# ---- regularisation --------------------------------------------------------------------------------------------------


def test_penalties(rng):
    w0 = rng.standard_normal(6)
    for penalty, slope in [
        (lambda w: 0.1 * (w * w).sum() / 2, 0.1 * w0),
        (lambda w: 0.1 * abs(w).sum(), 0.1 * np.sign(w0)),
    ]:
        w = leaf(w0)
        penalty(w).backward()
        close(w.grad, slope)
    decayed, penalised = leaf(w0), leaf(w0)
    decayed.grad = cr.zeros(6, dtype=f64)
    (0.1 * (penalised * penalised).sum() / 2).backward()
    optim.SGD([decayed], lr=0.5, weight_decay=0.1).step()
    optim.SGD([penalised], lr=0.5).step()
    close(decayed, penalised.detach().numpy())


def test_dropout_keeps_the_expectation():
    cr.manual_seed(0)
    x = cr.ones(100_000, dtype=f64)
    y = nn.Dropout(0.3)(x)
    assert set(np.unique(y.numpy().round(12))) == {0.0, round(1 / 0.7, 12)}
    assert abs(y.mean().item() - 1) < 0.01 and abs((y == 0).double().mean().item() - 0.3) < 0.01
    close(nn.Dropout(0.3).eval()(x), np.ones(100_000))


def test_batch_normalisation(rng):
    x = 5 + 3 * rng.standard_normal((50, 4))
    layer = nn.BatchNorm1d(4).to(f64)
    y = layer(t(x))
    close(y, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), 1e-9)
    close(layer.running_mean, 0.1 * x.mean(0), 1e-9)
    close(layer.running_var, 0.9 + 0.1 * x.var(0, ddof=1), 1e-9)
