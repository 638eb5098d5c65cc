"""The gradient that cross entropy writes on the way forward: right for every way back."""

import numpy as np
import pytest

import chainrule as cr


def host(tensor):
    return tensor.detach().cpu().numpy()


@pytest.fixture
def case(rng):
    return rng.standard_normal((6, 4)), rng.integers(0, 4, 6)


def slope(x, target, reduction):
    """softmax(x) - onehot(target), over N for a mean."""
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    return (p - np.eye(x.shape[1])[target]) / (len(x) if reduction == "mean" else 1)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("factor", [1.0, -3.0, 0.0])
def test_each_walk_has_its_own(case, reduction, factor):
    x, target = case
    leaf = cr.tensor(x, requires_grad=True)
    loss = cr.cross_entropy(leaf, cr.tensor(target), reduction=reduction)
    seeds = [cr.tensor(g) for g in (factor, 1.0, 2.0)]
    got = [cr.autograd.grad(loss, [leaf], g, retain_graph=True)[0] for g in seeds]
    loss.backward(seeds[0])
    for g, one in zip((factor, 1.0, 2.0, factor), [*got, leaf.grad], strict=True):
        np.testing.assert_allclose(host(one), g * slope(x, target, reduction), rtol=1e-12)


def test_a_gradient_that_a_hook_kept_is_not_changed_by_a_later_walk(case):
    x, target = case
    leaf, seen = cr.tensor(x, requires_grad=True), []
    scores = leaf * 1
    scores.register_hook(lambda g: seen.append(g))
    loss = cr.cross_entropy(scores, cr.tensor(target))
    loss.backward(retain_graph=True)
    (loss * 5).backward()
    np.testing.assert_allclose(host(seen[0]), slope(x, target, "mean"), rtol=1e-12)
    np.testing.assert_allclose(host(leaf.grad), 6 * slope(x, target, "mean"), rtol=1e-12)


def test_recorded_walks_before_and_after_a_plain_one(case):
    x, target = case
    leaf = cr.tensor(x, requires_grad=True)
    loss = cr.cross_entropy(leaf, cr.tensor(target))
    slopes = [cr.autograd.grad(loss, [leaf], create_graph=True, retain_graph=True)[0] for _ in range(2)]
    (plain,) = cr.autograd.grad(loss, [leaf], retain_graph=True)
    for one in (*slopes, plain):
        np.testing.assert_allclose(host(one), slope(x, target, "mean"), rtol=1e-12)
    (second,) = cr.autograd.grad((slopes[1] ** 2).sum(), [leaf])
    p = slope(x, target, "sum") + np.eye(4)[target]
    g = 2 * slope(x, target, "mean") / len(x)
    np.testing.assert_allclose(host(second), p * (g - (g * p).sum(1, keepdims=True)), rtol=1e-12)


def test_a_loss_scale_saves_float16s_small_gradients():
    """Over N they would vanish before the scale: 3e-4 / 50,000 is a sixth of float16's least number."""
    n, scale = 50_000, 2.0**15
    leaf = cr.tensor(np.tile(np.float16([8, 0]), (n, 1)), requires_grad=True)
    (cr.cross_entropy(leaf, cr.zeros(n, dtype=cr.int64)) * scale).backward()
    np.testing.assert_allclose(host(leaf.grad)[:, 1], scale / n / (1 + np.exp(8)), rtol=2e-3)


@pytest.mark.parametrize("reduction, wanted", [("mean", [True]), ("none", [False])])
def test_written_where_it_is_used(case, monkeypatch, reduction, wanted):
    x, target = cr.tensor(case[0], requires_grad=True), cr.tensor(case[1])
    kernels, asked = cr.kernels.for_device(x.device), []
    inner = kernels.cross_entropy

    def spy(*given, with_gradient, **how):
        asked.append(with_gradient)
        return inner(*given, with_gradient=with_gradient, **how)

    monkeypatch.setattr(kernels, "cross_entropy", spy)
    cr.cross_entropy(x, target, reduction=reduction)
    with cr.no_grad():
        cr.cross_entropy(x, target, reduction=reduction)
    cr.cross_entropy(x.detach(), target, reduction=reduction)
    assert asked == [*wanted, False, False]
