"""Hooks on gradients and `retain_grad`."""

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


def leaf(*values):
    return cr.tensor(values, dtype=f64, requires_grad=True)


def test_a_hook_on_a_leaf_sees_and_replaces_the_whole_gradient():
    x = leaf(1.0, 2.0)
    seen = []

    def hook(g):
        seen.append(g.tolist())
        return g * 10

    x.register_hook(hook)
    (x * x + x).sum().backward()  # one call, although x is used three times
    assert seen == [[3.0, 5.0]]
    assert x.grad.tolist() == [30.0, 50.0]


def test_a_hook_on_a_result_changes_what_flows_on():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.register_hook(lambda g: -g)
    (y * y).sum().backward()
    assert x.grad.tolist() == [-8.0, -16.0]


def test_hooks_run_in_the_order_of_their_registration():
    x = leaf(1.0)
    y = x * 2
    y.register_hook(lambda g: g + 1)
    y.register_hook(lambda g: g * 10)
    y.sum().backward()
    assert x.grad.tolist() == [2 * 20.0]


def test_a_hook_that_returns_nothing_changes_nothing():
    x = leaf(1.0)
    x.register_hook(lambda g: None)
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0]


def test_removal():
    x = leaf(1.0)
    y = x * 2
    handles = [x.register_hook(lambda g: g * 100), y.register_hook(lambda g: g * 100)]
    for handle in (*handles, *handles):  # twice: no error
        handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [2.0]


def test_removing_one_of_two_equal_hooks_leaves_the_other():
    x = leaf(1.0)
    double = lambda g: g * 2
    first = x.register_hook(double)
    x.register_hook(double)
    first.remove()
    (x * 1).sum().backward()
    assert x.grad.tolist() == [2.0]


def test_a_handle_is_a_context_manager():
    x = leaf(1.0)
    with x.register_hook(lambda g: g * 5):
        (x * 1).sum().backward()
    (x * 1).sum().backward()
    assert x.grad.tolist() == [6.0]


def test_removal_after_the_tensor_died():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: g)
    del x
    handle.remove()


def test_hooks_on_one_of_several_results():
    x = leaf(3.0, 1.0, 2.0)
    values, order = cr.sort(x)
    values.register_hook(lambda g: g * 10)
    values.backward(cr.tensor([1.0, 2.0, 3.0], dtype=f64))
    assert x.grad.tolist() == [30.0, 10.0, 20.0]
    assert order.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("answer", "told"),
    [(3.0, "returned 3.0"), ("shape", r"returned a tensor of shape \(1, 2\)"), ("array", "returned array")],
)
@pytest.mark.parametrize("on_leaf", [True, False])
def test_wrong_answers_of_hooks(answer, told, on_leaf):
    x = leaf(1.0, 2.0)
    y = x * 2
    made = {"shape": lambda g: g[None], "array": lambda g: g.numpy()}
    (x if on_leaf else y).register_hook(made.get(answer, lambda g: answer))
    with pytest.raises(ValueError, match=told + r".*must return None or a tensor of shape \(2,\)"):
        y.sum().backward()
    assert x.grad is None


def test_hooks_run_for_grad_and_under_create_graph():
    x = leaf(2.0)
    y = x * x
    y.register_hook(lambda g: g * 3)
    x.register_hook(lambda g: g * g)
    (dx,) = cr.autograd.grad(y.sum(), [x], create_graph=True)  # (3 · 2x)²
    assert dx.item() == 144
    (d2x,) = cr.autograd.grad(dx, [x])
    assert d2x.item() == 144**2  # d(36x²)/dx = 72x, squared by the hook of the leaf


def test_hooks_are_called_with_recording_as_the_walk_has_it():
    x = leaf(2.0)
    recording = []
    x.register_hook(lambda g: recording.append((cr.is_grad_enabled(), g.requires_grad)))
    y = x**3
    y.backward(retain_graph=True)
    with cr.no_grad():
        y.backward(create_graph=True)
    assert recording == [(False, False), (True, True)]


def test_retain_grad_of_a_result():
    x = leaf(1.0, 2.0)
    y = x * x
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.tolist() == [3, 3]
    assert x.grad.tolist() == [6, 12]


def test_retain_grad_twice_counts_once_and_walks_accumulate():
    x = leaf(1.0)
    y = x * x
    y.retain_grad()
    y.retain_grad()
    z = (y * 3).sum()
    z.backward(retain_graph=True)
    assert y.grad.tolist() == [3]
    z.backward()
    assert y.grad.tolist() == [6]


def test_retain_grad_of_a_leaf_does_nothing_and_of_a_constant_is_refused():
    x = leaf(1.0)
    x.retain_grad()
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2]
    with pytest.raises(RuntimeError, match="retain_grad on a tensor that does not require grad"):
        cr.ones(1).retain_grad()
    with pytest.raises(RuntimeError, match="register_hook on a tensor that does not require grad"):
        cr.ones(1).register_hook(print)


def test_retained_gradients_of_several_results():
    x = leaf(3.0, 1.0)
    a, b = cr.split(x * 1, 1)
    a.retain_grad()
    b.retain_grad()
    (a * 2 + b * 5).backward(cr.ones(1, dtype=f64))
    assert (a.grad.item(), b.grad.item()) == (2, 5)


def test_the_grad_attribute_accepts_only_a_gradient():
    x = leaf(1.0, 2.0)
    x.grad = cr.ones(2, dtype=f64)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [3, 3]
    for wrong, told in [
        (cr.ones(3, dtype=f64), r"a tensor of shape \(3,\)"),
        (cr.ones(2), "dtype float32"),
        (np.ones(2), "array"),
        (1.0, "1.0"),
    ]:
        with pytest.raises(TypeError, match=f"grad was set to .*{told}"):
            x.grad = wrong
    x.grad = None
    assert x.grad is None


def test_hooks_agree_with_pytorch(torch):
    def run(lib, x):
        y = x * x
        y.retain_grad()
        y.register_hook(lambda g: g * 3)
        x.register_hook(lambda g: g + 1)
        (y * y + x).sum().backward()
        return x.grad.tolist()

    theirs = run(torch, torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True))
    assert run(cr, leaf(1.0, 2.0)) == theirs
