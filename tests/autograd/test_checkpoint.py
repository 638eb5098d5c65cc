"""checkpoint: the same gradients from less kept memory."""

import gc
import weakref

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


def kept_bytes(y):
    """The bytes of all distinct arrays that the nodes behind y keep."""
    arrays, stack, seen = {}, [y.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        arrays.update((id(v), v.nbytes) for v in node.kept or () if isinstance(v, np.ndarray))
        stack.extend(n for n in node.next_functions if type(n) is cr.autograd.Node)
    return sum(arrays.values())


def block(x, w):
    for _ in range(5):
        x = cr.tanh(x @ w)
    return x


def inputs(n=20):
    return cr.randn(n, n, dtype=f64, requires_grad=True), (cr.randn(n, n, dtype=f64) / n).requires_grad_()


def test_equal_gradients_and_less_memory():
    x, w = inputs()
    plain = block(block(x, w), w).sum()
    saved = cr.checkpoint(block, cr.checkpoint(block, x, w), w).sum()
    assert saved.item() == plain.item()
    assert kept_bytes(plain) >= 11 * x.nbytes
    assert kept_bytes(saved) == 0
    for a, b in zip(cr.autograd.grad(plain, [x, w]), cr.autograd.grad(saved, [x, w]), strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


def test_the_values_of_one_block_at_a_time_are_alive_in_backward():
    x, w = inputs()
    watched, most = [], 0

    def watching(x):
        for _ in range(4):
            x = cr.exp(x * 0.01)
            watched.append(weakref.ref(x.array))
        return x

    y = x
    for _ in range(6):
        y = cr.checkpoint(watching, y)

    def count(g):
        nonlocal most
        most = max(most, sum(r() is not None for r in watched))

    x.register_hook(count)
    (y * 1).register_hook(count)
    assert sum(r() is not None for r in watched) <= 6  # the blocks' results, which are the next ones' arguments
    y.register_hook(count)
    gc.disable()
    try:
        y.sum().backward()
    finally:
        gc.enable()
    assert 0 < most <= 11


def test_nested_checkpoints():
    x, w = inputs()
    runs = []

    def inner(x):
        runs.append("inner")
        return block(x, w)

    def outer(x):
        runs.append("outer")
        return cr.checkpoint(inner, x) * cr.checkpoint(inner, x + 1)

    y = cr.checkpoint(outer, x).sum()
    assert kept_bytes(y) == 0
    y.backward()
    got = x.grad.numpy(), w.grad.numpy()
    assert runs[0] == "outer" and runs.count("outer") == 2
    x.grad = w.grad = None
    (block(x, w) * block(x + 1, w)).sum().backward()
    assert np.array_equal(got[0], x.grad.numpy()) and np.array_equal(got[1], w.grad.numpy())


def test_random_numbers_are_repeated_and_the_stream_goes_on():
    x = cr.ones(1000, dtype=f64, requires_grad=True)
    cr.manual_seed(3)
    y = cr.checkpoint(lambda x: cr.dropout(x * x, 0.5), x)
    after = cr.rand(3)
    mask = y.numpy() if not y.requires_grad else y.detach().numpy()
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), 2 * mask)
    following = cr.rand(3)
    cr.manual_seed(3)
    cr.dropout(x, 0.5)
    assert after.tolist() == cr.rand(3).tolist() and following.tolist() == cr.rand(3).tolist()


def test_parameters_that_the_function_refers_to():
    x, w = inputs(4)
    cr.checkpoint(lambda x: cr.exp(x @ w), x).sum().backward()
    expected = cr.autograd.grad(cr.exp(x @ w).sum(), [x, w])
    assert np.array_equal(x.grad.numpy(), expected[0].numpy()) and np.array_equal(w.grad.numpy(), expected[1].numpy())


def test_arguments_need_not_require_gradients():
    _, w = inputs(4)
    data = cr.ones(4, 4, dtype=f64)
    cr.checkpoint(block, data, w=w).sum().backward()
    (expected,) = cr.autograd.grad(block(data, w).sum(), [w])
    assert np.array_equal(w.grad.numpy(), expected.numpy())
    assert not cr.checkpoint(block, data, data).requires_grad
    assert cr.checkpoint(lambda x: 3, data) == 3


def test_several_results_keywords_and_lists():
    x, w = inputs(4)
    f = lambda xs, *, k: (cr.exp(xs[0] * k), cr.sin(xs[1]), "words")
    a, b, words = cr.checkpoint(f, [x, w], k=2.0)
    assert words == "words"
    got = cr.autograd.grad((a * b).sum(), [x, w])
    a, b, _ = f([x, w], k=2.0)
    for g, e in zip(got, cr.autograd.grad((a * b).sum(), [x, w]), strict=True):
        assert np.array_equal(g.numpy(), e.numpy())


def test_higher_derivatives():
    x = cr.tensor([0.5, 1.0], dtype=f64, requires_grad=True)
    f = lambda x: cr.checkpoint(lambda x: cr.exp(x * x), x).sum()
    (first,) = cr.autograd.grad(f(x), [x], create_graph=True)
    (second,) = cr.autograd.grad(first.sum(), [x])
    e = np.exp([0.25, 1.0])
    np.testing.assert_allclose(first.detach().numpy(), 2 * np.array([0.5, 1]) * e)
    np.testing.assert_allclose(second.numpy(), (2 + 4 * np.array([0.25, 1])) * e)
    cr.check_grads(lambda x: cr.checkpoint(cr.tanh, x * 1), [x.detach()], order=3)


def test_retain_graph():
    x, w = inputs(4)
    y = cr.checkpoint(block, x, w).sum()
    y.backward(retain_graph=True)
    first = x.grad.numpy().copy()
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * first)
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_recording_state_of_the_second_run_is_that_of_the_first():
    states = []

    def f(x):
        states.append(cr.is_grad_enabled())
        return cr.exp(x)

    x, _ = inputs(2)
    y = cr.checkpoint(f, x).sum()
    with cr.no_grad():
        y.backward()
        assert not cr.is_grad_enabled()
    assert states == [True, True] and cr.is_grad_enabled()


def test_a_function_that_does_not_repeat_itself():
    calls = []

    def unstable(x):
        calls.append(1)
        return cr.exp(x) if len(calls) == 1 else cr.exp(cr.sin(x))

    x, _ = inputs(2)
    y = cr.checkpoint(unstable, x).sum()
    with pytest.raises(
        RuntimeError, match="checkpoint: the second run recorded 2 operations where the first recorded 1"
    ):
        y.backward()
    assert x.grad is None and cr.is_grad_enabled()


def test_a_function_whose_shapes_change():
    sizes = iter([2, 1])
    x, _ = inputs(2)
    y = cr.checkpoint(lambda x: cr.exp(x[: next(sizes)]), x).sum()
    with pytest.raises(RuntimeError, match="the function must do the same each time"):
        y.backward()


def test_an_exception_in_the_second_run():
    calls = []

    def fails(x):
        calls.append(1)
        if len(calls) == 2:
            raise LookupError("planted")
        return cr.exp(x)

    x, _ = inputs(2)
    y = cr.checkpoint(fails, x)
    before = cr.rand(1), cr.default_generator.get_state()
    with pytest.raises(LookupError):
        y.sum().backward()
    assert cr.default_generator.get_state() == before[1] and cr.is_grad_enabled() and x.grad is None
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), np.exp(x.detach().numpy()))


@pytest.mark.parametrize("which", ["argument", "parameter"])
def test_what_the_second_run_needs_must_not_change(which):
    x = cr.ones(2, dtype=f64, requires_grad=True)
    w = cr.ones(2, dtype=f64, requires_grad=True)
    y = cr.checkpoint(lambda x: cr.exp(x + w), x).sum()  # neither is kept itself: only exp's result is
    with cr.no_grad():
        (x if which == "argument" else w).add_(1)
    with pytest.raises(RuntimeError) as error:
        y.backward()
    assert "checkpoint: an argument or parameter of shape (2,) was changed in place" in str(error.value)
    assert str(error.value).count(__file__) == 2


def test_under_anomaly_detection_and_scopes():
    x, w = inputs(3)
    with cr.autograd.scope("net"):
        y = cr.checkpoint(block, x, w)
    assert y.grad_fn.path == "net"
    with cr.detect_anomaly():
        cr.checkpoint(block, x, w).sum().backward()
