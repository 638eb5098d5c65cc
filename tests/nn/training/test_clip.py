"""Gradient clipping against PyTorch."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.nn.utils import clip_grad_norm_, clip_grad_value_


def both(torch, rng):
    ours, theirs = [], []
    for shape in [(3, 4), (5,), ()]:
        g = rng.standard_normal(shape)
        p, q = cr.zeros(shape, dtype=np.float64, requires_grad=True), torch.zeros(shape, dtype=torch.float64)
        p.grad, q.grad = cr.tensor(g), torch.tensor(g)
        ours.append(p)
        theirs.append(q)
    return [*ours, cr.zeros(1, requires_grad=True)], [*theirs, torch.zeros(1)]


def agree(ours, theirs):
    for p, q in zip(ours[:-1], theirs[:-1]):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf"), 3.0])
@pytest.mark.parametrize("max_norm", [0.5, 1e6, 0.0])
def test_norm(torch, rng, norm_type, max_norm):
    ours, theirs = both(torch, rng)
    total = clip_grad_norm_(ours, max_norm, norm_type)
    reference = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert total.item() == pytest.approx(reference.item(), rel=1e-12)
    agree(ours, theirs)


def test_value(torch, rng):
    ours, theirs = both(torch, rng)
    clip_grad_value_(ours, 0.3)
    torch.nn.utils.clip_grad_value_(theirs, 0.3)
    agree(ours, theirs)


def test_one_tensor_and_none():
    p = cr.zeros(2, requires_grad=True)
    assert clip_grad_norm_(p, 1.0).item() == 0.0
    p.grad = cr.tensor([3.0, 4.0])
    assert clip_grad_norm_(p, 1.0).item() == pytest.approx(5.0)


def test_a_nonfinite_norm():
    p = cr.zeros(2, requires_grad=True)
    p.grad = cr.tensor([1.0, float("nan")])
    with pytest.raises(RuntimeError, match="total norm of nan.*No gradient was changed.*detect_anomaly"):
        clip_grad_norm_(p, 1.0, error_if_nonfinite=True)
    assert p.grad.tolist()[0] == 1.0
    clip_grad_norm_(p, 1.0)
    assert np.isnan(p.grad.numpy()).all()


def test_gradients_of_two_leaves_are_scaled_once_each():
    a, b = cr.zeros(2, requires_grad=True), cr.zeros(2, requires_grad=True)
    ((a + b) * cr.tensor([3.0, 4.0])).sum().backward()
    clip_grad_norm_([a, b], 0.5)
    expected = np.array([3.0, 4.0]) * 0.5 / np.sqrt(50)
    np.testing.assert_allclose(a.grad.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(b.grad.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("clip, name", [(clip_grad_norm_, "max_norm"), (clip_grad_value_, "clip_value")])
def test_negative_limits(clip, name):
    with pytest.raises(ValueError, match=f"{name}=-1.0; a limit cannot be negative. Pass {name}=1.0"):
        clip([], -1.0)
