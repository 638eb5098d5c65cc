"""The backward walk: order, accumulation, retention, pruning, seeds, and `cr.autograd.grad`."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule.autograd import REGISTRY

f64 = cr.float64


def leaf(*values):
    return cr.tensor(values if len(values) != 1 else values[0], dtype=f64, requires_grad=True)


@cr.primitive(outputs=2)
def sine_and_cosine(k, x):
    return k.sin(x), k.cos(x)


@sine_and_cosine.vjp("x")
def sine_and_cosine_dx(g, out):
    return g[0] * out[1] - g[1] * out[0]


# ---- order and accumulation ------------------------------------------------------------------------------------------


def test_a_result_used_twice_passes_on_the_sum():
    a = leaf(3.0)
    b = a + a
    c = b + b
    c.backward()
    assert a.grad.item() == 4


def test_a_diamond_and_a_late_use():
    x = leaf(2.0)
    y = x * x
    z = y * 3
    (z + y * z).backward()  # 3x² + 3x⁴
    assert x.grad.item() == 6 * 2 + 12 * 8


@pytest.mark.parametrize("times", [1, 2, 3, 7])
def test_a_leaf_used_often(times):
    x = leaf(1.0, 2.0)
    total = x * 1
    for _ in range(times):
        total = total + x * x
    total.backward(cr.ones(2, dtype=f64))
    assert x.grad.tolist() == [1 + 2 * times, 1 + 4 * times]


def test_gradients_accumulate_over_walks_and_zero_grad_is_none():
    x = leaf(1.0, 2.0)
    for times in (1, 2, 3):
        (x * x).sum().backward()
        assert x.grad.tolist() == [2.0 * times, 4.0 * times]
    x.grad = None
    assert x.grad is None


def test_an_old_gradient_that_someone_holds_is_updated_in_place_as_in_pytorch():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    held = x.grad
    (x * x).sum().backward()
    assert x.grad is held
    assert held.tolist() == [4.0, 8.0]


def test_accumulation_into_a_gradient_that_cannot_be_written():
    x = leaf(1.0, 2.0)
    x.grad = cr.ones(1, dtype=f64).expand(2)
    (x * x).sum().backward()
    assert x.grad.tolist() == [3.0, 5.0]


def test_zero_dimensional_gradients_are_arrays_everywhere():
    x = leaf(2.0)
    seen = []
    y = x * x
    y.register_hook(lambda g: seen.append(type(g.array)))
    x.register_hook(lambda g: seen.append(type(g.array)))
    (y + y + y).backward()
    assert seen == [np.ndarray, np.ndarray]
    assert type(x.grad.array) is np.ndarray
    assert x.grad.item() == 12


def test_unused_and_constant_inputs_receive_nothing():
    x, unused = leaf(1.0), leaf(2.0)
    constant = cr.tensor(5.0, dtype=f64)
    (x * constant).backward()
    assert unused.grad is None and constant.grad is None
    assert x.grad.item() == 5


def test_detach_and_no_grad_cut_the_graph():
    x = leaf(3.0)
    with cr.no_grad():
        stopped = x * x
    (x * x.detach() + stopped * x).backward()
    assert x.grad.item() == 3 + 9


def test_results_of_integers_are_not_recorded():
    x = leaf(3.0, 1.0)
    assert not (x > 2).requires_grad
    assert not x.argmax().requires_grad
    assert not x.long().requires_grad


def test_gradient_of_a_view_reaches_the_base_and_no_further():
    x = leaf(*range(6))
    view = x.reshape(2, 3)[:, 1].flip(0)
    view.backward(cr.tensor([10.0, 20.0], dtype=f64))
    assert x.grad.tolist() == [0, 20, 0, 0, 10, 0]


# ---- retaining and releasing -----------------------------------------------------------------------------------------


def test_a_second_walk_names_the_operation_and_the_fix():
    x = leaf(1.0, 2.0)
    y = cr.exp(x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"sum|exp") as error:
        y.backward()
    assert "already used by a backward pass" in str(error.value)
    assert "retain_graph=True" in str(error.value)
    assert x.grad.tolist() == np.exp([1.0, 2.0]).tolist()


def test_retain_graph_allows_more_walks():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [6.0, 12.0]
    with pytest.raises(RuntimeError, match="retain_graph=True"):
        y.backward()


def test_a_part_shared_by_two_losses_is_released_by_the_first():
    x = leaf(1.0)
    shared = cr.exp(x)
    first, second = shared * 2, shared * 3
    first.backward()
    with pytest.raises(RuntimeError, match="exp: this part of the graph was already used"):
        second.backward()


def test_create_graph_retains_by_default():
    x = leaf(2.0)
    y = x * x * x
    (dy,) = cr.autograd.grad(y, [x], create_graph=True)
    (d2y,) = cr.autograd.grad(dy, [x], create_graph=True)
    (d3y,) = cr.autograd.grad(d2y, [x])
    assert [dy.item(), d2y.item(), d3y.item()] == [12, 12, 6]


def test_any_order_of_derivative():
    x = leaf(0.3)
    y, expected = cr.sin(x), [np.sin(0.3), np.cos(0.3), -np.sin(0.3), -np.cos(0.3)]
    for order in range(7):
        assert y.item() == pytest.approx(expected[order % 4], rel=1e-12)
        (y,) = cr.autograd.grad(y, [x], create_graph=True)


def test_backward_with_create_graph_leaves_differentiable_gradients():
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    assert x.grad.requires_grad
    (second,) = cr.autograd.grad(x.grad, [x])
    assert second.item() == 12


def test_backward_with_create_graph_adds_to_what_is_there():
    x = leaf(2.0)
    (x**2).backward()
    (x**3).backward(create_graph=True)
    assert x.grad.item() == 4 + 12
    (x**2).backward()  # a plain walk keeps the graph of the gradient that is there
    assert x.grad.item() == 20
    (second,) = cr.autograd.grad(x.grad, [x])
    assert second.item() == 12


def test_create_graph_records_inside_no_grad_too():
    x = leaf(2.0)
    y = x**3
    with cr.no_grad():
        (dy,) = cr.autograd.grad(y, [x], create_graph=True)
    assert dy.requires_grad


def test_gradient_penalty():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (slope,) = cr.autograd.grad((w * x * x).sum(), [x], create_graph=True)
    (slope * slope).sum().backward()  # Σ (2wx)²
    assert w.grad.tolist() == [8 * 3 * 1, 8 * 4 * 4]
    assert x.grad.tolist() == [8 * 9 * 1, 8 * 16 * 2]


# ---- grad ------------------------------------------------------------------------------------------------------------


def test_grad_changes_no_grad():
    x, w = leaf(1.0), leaf(2.0)
    (dx,) = cr.autograd.grad(x * w, [x])
    assert dx.item() == 2
    assert x.grad is None and w.grad is None


def test_grad_of_a_single_input_is_still_a_tuple():
    x = leaf(1.0)
    assert isinstance(cr.autograd.grad(x * 2, x), tuple)


def test_grad_with_respect_to_results_between():
    x = leaf(2.0)
    y = x * x
    z = y * y
    dy, dx = cr.autograd.grad(z, [y, x])
    assert (dy.item(), dx.item()) == (8, 32)


def test_grad_of_an_output_with_respect_to_itself():
    x = leaf(2.0)
    y = x * x
    assert [g.item() for g in cr.autograd.grad(y, [y, x])] == [1, 4]
    assert cr.autograd.grad(x, [x])[0].item() == 1


def test_grad_of_several_outputs_with_cotangents():
    x = leaf(1.0, 2.0)
    outputs = [x * x, x * 3, (x * 5).sum()]
    cotangents = [cr.tensor([1.0, 10.0], dtype=f64), cr.ones(2, dtype=f64), None]
    (dx,) = cr.autograd.grad(outputs, [x], cotangents)
    assert dx.tolist() == [2 + 3 + 5, 40 + 3 + 5]


def test_the_same_output_twice_counts_twice():
    x = leaf(2.0)
    y = x * x
    assert cr.autograd.grad([y, y], [x])[0].item() == 8


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_same_input_twice(create_graph):
    x = leaf(2.0)
    first, second = cr.autograd.grad(x * x, [x, x], create_graph=create_graph)
    assert first.item() == second.item() == 4
    assert not np.shares_memory(first.array, second.array)
    assert first.requires_grad is second.requires_grad is create_graph


def test_unused_inputs():
    x, unused = leaf(2.0), leaf(1.0, 2.0)
    with pytest.raises(
        RuntimeError, match=r"no output depends on input 1, a tensor of shape \(2,\).*allow_unused=True"
    ):
        cr.autograd.grad(x * x, [x, unused])
    assert cr.autograd.grad(x * x, [x, unused], allow_unused=True)[1] is None
    zeros = cr.autograd.grad(x * x, [x, unused], materialize_grads=True)[1]
    assert zeros.tolist() == [0, 0] and zeros.dtype == f64


def test_primitives_with_several_outputs():
    x = leaf(0.5, 1.0)
    s, c = sine_and_cosine(x)
    np.testing.assert_allclose(cr.autograd.grad(s.sum(), [x], retain_graph=True)[0].numpy(), np.cos([0.5, 1.0]))
    np.testing.assert_allclose(cr.autograd.grad(c.sum(), [x], retain_graph=True)[0].numpy(), -np.sin([0.5, 1.0]))
    both = cr.autograd.grad([s, c], [s, c, x], [cr.ones(2, dtype=f64) * 2, cr.ones(2, dtype=f64) * 3])
    assert both[0].tolist() == [2, 2] and both[1].tolist() == [3, 3]
    np.testing.assert_allclose(both[2].numpy(), 2 * np.cos([0.5, 1.0]) - 3 * np.sin([0.5, 1.0]))


def test_a_result_beside_the_one_that_is_used_counts_as_unused():
    x = leaf(0.5, 1.0)
    s, c = sine_and_cosine(x)
    with pytest.raises(RuntimeError, match="no output depends on input 1"):
        cr.autograd.grad(s.sum(), [s, c], retain_graph=True)
    got = cr.autograd.grad(s.sum(), [s, c, x], allow_unused=True)
    assert got[0].tolist() == [1, 1] and got[1] is None and got[2] is not None


def test_second_derivatives_through_several_outputs():
    cr.check_grads(lambda x: sine_and_cosine(x), [cr.randn(4, dtype=f64)])
    cr.check_grads(lambda x: cr.sort(x).values * cr.arange(4.0, dtype=f64), [cr.randn(4, dtype=f64)])


def slices(x):
    """Overlapping parts of x, a part of a part, and x itself."""
    return [x[0:2], x[1], x[1:3][0], x[:, 1:], x[..., None, 0], x * 2, x[-1, 0]]


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("create_graph", [False, True])
def test_gradients_of_slices_add_up_where_they_lie(inner, create_graph):
    x = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    expected = np.full((3, 2), 2.0)
    expected[0:2] += 1
    expected[1] += 1 + 1
    expected[:, 1:] += 1
    expected[..., 0] += 1
    expected[-1, 0] += 1
    base = x * 1 if inner else x
    total = sum(part.sum() for part in slices(base))
    (dx,) = cr.autograd.grad(total, [x], retain_graph=True, create_graph=create_graph)
    total.backward(retain_graph=True, create_graph=create_graph)
    total.backward()
    assert dx.tolist() == expected.tolist() and x.grad.tolist() == (2 * expected).tolist()
    (between,) = cr.autograd.grad(sum(part.sum() for part in slices(base)), [base])
    assert between.tolist() == expected.tolist()
    cr.check_grads(lambda x: [part * part for part in slices(x)], [x.detach()])


def test_a_gradient_that_slices_added_to_is_nobody_elses():
    x, seen = leaf(1.0, 2.0, 3.0), []
    y = x * 1
    y.register_hook(lambda g: seen.append(g))
    y.retain_grad()
    seed = cr.ones(3, dtype=f64)
    cr.autograd.backward([y, y[:1], y[:2], y[1:]], [seed, seed[:1], seed[:2], seed[1:]])
    assert x.grad.tolist() == y.grad.tolist() == seen[0].tolist() == [3, 3, 2]
    assert seed.tolist() == [1, 1, 1]
    _assert_apart(_arrays(x.grad, y.grad, seed))


@pytest.mark.parametrize(
    "rows", [lambda x: x, lambda x: x.split(1), lambda x: [x[i] for i in range(len(x))]], ids=["iter", "split", "index"]
)
def test_a_loop_over_rows_makes_one_array_as_large_as_all(rows, monkeypatch):
    spread, made = REGISTRY["spread_at"], []
    forward = spread.forward
    monkeypatch.setattr(spread, "forward", lambda k, g, **params: made.append(g) or forward(k, g, **params))
    x = cr.ones(50, 20, requires_grad=True)
    total = 0
    for row in rows(x):
        total = total + row.sum()
    total.backward()
    assert len(made) <= 1
    assert (x.grad == 1).all()


def test_only_what_leads_to_the_inputs_is_visited():
    x, w = leaf(1.0), leaf(2.0)
    calls = []
    on_the_way, aside = x * 2, w * 2
    on_the_way.register_hook(lambda g: calls.append("on the way"))
    aside.register_hook(lambda g: calls.append("aside"))
    w.register_hook(lambda g: calls.append("w"))
    cr.autograd.grad(on_the_way * aside, [x])
    assert calls == ["on the way"]


def test_rules_for_unwanted_inputs_do_not_run():
    ran = []

    @cr.primitive
    def pair(k, x, y):
        return x + y

    @pair.vjp("x")
    def pair_dx(g):
        ran.append("x")
        return g

    @pair.vjp("y")
    def pair_dy(g):
        ran.append("y")
        return g

    x, y = leaf(1.0), leaf(2.0)
    cr.autograd.grad(pair(x, y), [y])
    assert ran == ["y"]


def test_pruned_parts_stay_walkable():
    x, w = leaf(1.0), leaf(2.0)
    aside = cr.exp(w)
    total = x * x + aside
    cr.autograd.grad(total, [x])
    aside.backward()
    assert w.grad.item() == pytest.approx(np.exp(2.0))


def test_backward_into_chosen_leaves():
    x, w = leaf(2.0), leaf(3.0)
    (x * w).backward(inputs=[x])
    assert x.grad.item() == 3 and w.grad is None
    (x * w).backward(inputs=w)
    assert w.grad.item() == 2


def test_backward_into_a_result_is_refused_before_anything_happens():
    x = leaf(2.0)
    y = cr.exp(x)
    z = y * 2
    with pytest.raises(RuntimeError, match="backward: input 1 is the result of an operation.*cr.autograd.grad"):
        z.backward(inputs=[x, y])
    assert x.grad is None
    z.backward()


# ---- seeds -----------------------------------------------------------------------------------------------------------


def test_non_scalar_backward_needs_a_gradient():
    x = leaf(1.0, 2.0)
    y = x * 2
    with pytest.raises(RuntimeError, match=r"the output has shape \(2,\).*must have one element.*gradient="):
        y.backward()
    y.backward(cr.tensor([1.0, 10.0], dtype=f64))
    assert x.grad.tolist() == [2, 20]


def test_one_element_of_any_shape_counts_as_a_scalar():
    x = leaf([[1.0]])
    (x * x).backward()
    assert x.grad.shape == (1, 1)


def test_seeds_may_be_arrays_numbers_or_of_another_dtype():
    x = leaf(1.0, 2.0)
    for seed in (np.array([1.0, 2.0]), np.array([1, 2]), cr.tensor([1, 2]), cr.tensor([1.0, 2.0], dtype=cr.float32)):
        x.grad = None
        (x * 3).backward(seed)
        assert x.grad.tolist() == [3, 6] and x.grad.dtype == f64
    y = leaf(1.0)
    (y * 3).backward(2.0)
    assert y.grad.item() == 6


def test_a_seed_that_requires_grad_is_differentiated():
    x, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (dx,) = cr.autograd.grad(x * x, [x], v, create_graph=True)
    assert cr.autograd.grad(dx.sum(), [v])[0].tolist() == [2, 4]


def test_wrong_seeds():
    x = leaf(1.0, 2.0)
    with pytest.raises(ValueError, match=r"the gradient has shape \(3,\) but the output has shape \(2,\)"):
        (x * 2).backward(cr.ones(3))
    with pytest.raises(ValueError, match="received 1 outputs and 2 gradients; pass one for each"):
        cr.autograd.grad(x * 2, [x], [cr.ones(2), cr.ones(2)])
    with pytest.raises(TypeError, match="received float as an output; pass a Tensor"):
        cr.autograd.backward(3.0)
    with pytest.raises(RuntimeError, match="does not require grad: nothing was recorded"):
        cr.ones(1).backward()
    with pytest.raises(RuntimeError, match=r"an input of shape \(2,\) does not require grad"):
        cr.autograd.grad((x * 2).sum(), [cr.ones(2)])
    with pytest.raises(RuntimeError, match="an input 3 does not require grad"):
        cr.autograd.grad((x * 2).sum(), [3])
    assert x.grad is None


def test_integers_cannot_require_gradients():
    with pytest.raises(TypeError, match=r"requires_grad on a tensor of dtype int64.*t\.to\(cr\.float32\)"):
        cr.tensor([1, 2], requires_grad=True)
    with pytest.raises(TypeError, match="dtype bool"):
        cr.tensor([True]).requires_grad_()


# ---- memory that is not shared ---------------------------------------------------------------------------------------


def _arrays(*tensors):
    return [t.array for t in tensors]


def _assert_apart(arrays):
    for i, a in enumerate(arrays):
        for b in arrays[:i]:
            assert not np.shares_memory(a, b)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    "f",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: cr.cat([a, b])[:3] + cr.cat([b, a])[3:],
        lambda a, b: a.reshape(3, 1).reshape(3) + b.expand(3),
        lambda a, b: cr.where(a > 0, a, b),
        lambda a, b: a * 1 + b * 1,
        lambda a, b: cr.stack([a, b]).sum(0),
        lambda a, b: a.clone() + b.flip(0),
    ],
)
def test_no_two_gradients_share_memory_nor_with_the_cotangent(f, create_graph):
    a, b = leaf(1.0, 2.0, 3.0), leaf(4.0, 5.0, 6.0)
    v = cr.tensor([1.0, 1.0, 1.0], dtype=f64)
    gradients = cr.autograd.grad(f(a, b), [a, b], v, create_graph=create_graph)
    _assert_apart(_arrays(*gradients, v, a, b))
    f(a, b).backward(v, create_graph=create_graph)
    _assert_apart(_arrays(a.grad, b.grad, v, a, b))
    for g in (*gradients, a.grad, b.grad):
        assert g.array.flags.writeable


def test_gradients_between_and_at_leaves_are_apart():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = a + b
    z = y + 0.0
    v = np.ones(2)
    z.retain_grad()
    y.retain_grad()
    z.backward(v)
    _assert_apart([*_arrays(a.grad, b.grad, y.grad, z.grad), v])
    gradients = cr.autograd.grad(a + b, [a, b], v)
    _assert_apart([*_arrays(*gradients), v])


def test_a_gradient_is_never_a_kept_value():
    w, x = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = w * x  # dy/dw = 1 · x
    y.backward(np.ones(2), retain_graph=True)
    with cr.no_grad():
        w.grad.mul_(100)
    x.grad = w.grad = None
    y.backward(np.ones(2))
    assert w.grad.tolist() == [3, 4] and x.grad.tolist() == [1, 2]


def test_a_gradient_that_a_hook_stored_is_not_changed_later():
    x = leaf(1.0, 2.0)
    stored = []
    x.register_hook(stored.append)
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert [g.tolist() for g in stored] == [[2, 2], [2, 2]]
    assert x.grad.tolist() == [4, 4]


# ---- mistakes leave everything as it was -----------------------------------------------------------------------------


def _failing(stage):
    """A graph whose walk fails at `stage`, and its leaves; the switch turns the failure off."""
    switch = {"on": True}

    @cr.primitive
    def fragile(k, x):
        if switch["on"] and stage == "forward":
            raise ValueError("planted")
        return x * 2

    @fragile.vjp("x")
    def fragile_dx(g):
        if switch["on"] and stage == "rule":
            raise ZeroDivisionError("planted")
        if switch["on"] and stage == "shape":
            return g.reshape(1, -1)
        return g * 2

    return fragile, switch


@pytest.mark.parametrize("stage", ["rule", "shape", "hook", "leaf hook", "interrupt"])
def test_an_exception_in_the_walk_changes_no_gradient(stage):
    fragile, switch = _failing(stage)
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x * w).sum().backward()
    before = x.grad.tolist(), w.grad.tolist()

    def hook(g):
        if switch["on"]:
            raise KeyboardInterrupt if stage == "interrupt" else LookupError("planted")

    middle = fragile(x) * w
    if stage in ("hook", "interrupt"):
        middle.register_hook(hook)
    if stage == "leaf hook":
        x.register_hook(hook)
    y = (middle * middle).sum()
    with pytest.raises((ZeroDivisionError, ValueError, LookupError, KeyboardInterrupt)):
        y.backward(retain_graph=True)
    assert (x.grad.tolist(), w.grad.tolist()) == before
    assert cr.is_grad_enabled()
    switch["on"] = False
    x.grad = w.grad = None
    y.backward()  # with retain_graph the graph is whole: y = Σ (2xw)²
    assert x.grad.tolist() == [8 * 1 * 9, 8 * 2 * 16]


def test_an_exception_in_the_forward_records_nothing():
    fragile, switch = _failing("forward")
    x = leaf(1.0)
    with pytest.raises(ValueError, match=r"fragile: planted \(received shape \(\) of float64\)"):
        fragile(x)
    assert cr.is_grad_enabled()
    switch["on"] = False
    fragile(x).backward()
    assert x.grad.item() == 2


def test_a_wrong_seed_leaves_the_graph_walkable():
    x = leaf(1.0, 2.0)
    y = cr.exp(x)
    for wrong in (cr.ones(3), None):
        with pytest.raises((ValueError, RuntimeError)):
            y.backward(wrong)
    y.backward(cr.ones(2, dtype=f64))


def test_several_outputs_at_once():
    x = leaf(1.0, 2.0)
    cr.autograd.backward([x * x, x.sum()], [np.array([1.0, 10.0]), None])
    assert x.grad.tolist() == [2 + 1, 40 + 1]


# ---- drawn graphs ----------------------------------------------------------------------------------------------------

STEPS = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "square": lambda a, b: a * a,
    "scale": lambda a, b: 0.5 * a + 1,
    "sum": lambda a, b: a.sum() * b,
    "flip": lambda a, b: a[::-1] if isinstance(a, np.ndarray) else a.flip(0),
    "mean of rows": lambda a, b: a * b.mean(),
    "divide": lambda a, b: a / (b * b + 2),
}


@given(st.data())
def test_drawn_graphs_against_complex_steps(data):
    """f′(x)·u = Im f(x + ihu) / h to the last digits, by NumPy alone; values are used any number of times."""
    steps = data.draw(
        st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 99), st.integers(0, 99)), max_size=14)
    )
    x, w, u = np.random.default_rng(data.draw(st.integers(0, 999))).uniform(-1, 1, (3, 3))

    def f(x, w):
        values = [x, w]
        for name, i, j in steps:
            values.append(STEPS[name](values[i % len(values)], values[j % len(values)]))
        return (values[-1] + values[len(values) // 2]).sum()

    a, b = leaf(x), leaf(w)
    loss = f(a, b)
    got = cr.autograd.grad(loss, [a, b], retain_graph=True, materialize_grads=True)
    expected = [np.imag(f(x + 1e-30j * u, w + 0j)) / 1e-30, np.imag(f(x + 0j, w + 1e-30j * u)) / 1e-30]
    for g, value in zip(got, expected, strict=True):
        np.testing.assert_allclose((g.numpy() * u).sum(), value, rtol=1e-9, atol=1e-9)
    loss.backward()
    for g, t in zip(got, (a, b), strict=True):
        assert (t.grad is None and not g.numpy().any()) or np.array_equal(t.grad.numpy(), g.numpy())


@pytest.mark.parametrize("seed", range(10))
def test_both_walks_give_the_same_bits(seed):
    """`backward` orders the nodes by a heap, `grad` by a list of all of them."""
    rng = np.random.default_rng(seed)
    leaves = [cr.tensor(rng.normal(size=(4, 3)), requires_grad=True) for _ in range(3)]
    pool = list(leaves)
    for _ in range(60):
        a, b = (pool[i] for i in rng.integers(max(0, len(pool) - 8), len(pool), 2))
        made = [a * b, a + b.sum(0), a.tanh(), a - 2.0, cr.sort(a, 0)[0], a.T.reshape(4, 3) * 0.5, cr.cat([a, b])[2:6]]
        pool.append(made[rng.integers(len(made))].tanh())
    loss = sum(t.sum() for t in pool[-5:])
    expected = cr.autograd.grad(loss, leaves, retain_graph=True, materialize_grads=True)
    loss.backward()
    for leaf, gradient in zip(leaves, expected, strict=True):
        got = np.zeros((4, 3)) if leaf.grad is None else leaf.grad.numpy()
        assert got.tobytes() == gradient.numpy().tobytes()


CHAIN = {  # what may follow in a chain: with its gradient straight on, with metadata, with several results or inputs
    "number": lambda t: t * 1.5,
    "constant": lambda t: t + cr.ones(3, dtype=f64),
    "both": lambda t: t * t,
    "twice": lambda t: t.tanh() - t,
    "function": lambda t: t.tanh(),
    "softmax": lambda t: cr.softmax(t, 1),
    "outputs": lambda t: sine_and_cosine(t)[1],
    "parts": lambda t: cr.cat([t[2:], t[:2]]),
    "broadcast": lambda t: t.sum(0) * cr.ones(4, 1, dtype=f64),
    "view": lambda t: t.reshape(3, 4).T,
}


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_chains_of_every_kind_of_node(seed, hooked):
    rng = np.random.default_rng(seed)
    x, seen = leaf(rng.normal(size=(4, 3))), []
    y = x
    for name in rng.choice(list(CHAIN), 30):
        y = CHAIN[name](y)
    if hooked:
        y.register_hook(seen.append)
    v = cr.tensor(rng.normal(size=(4, 3)))
    (expected,) = cr.autograd.grad(y, x, v, retain_graph=True)
    for _ in range(2):
        x.grad = None
        y.backward(v, retain_graph=True)
        assert x.grad.numpy().tobytes() == expected.numpy().tobytes()
    assert len(seen) == 3 * hooked


def test_repeated_runs_are_bit_equal(rng):
    data = rng.standard_normal((5, 4))

    def run():
        x = leaf(data)
        (cr.tanh(x @ x.T) @ x).sum().backward()
        return x.grad.numpy()

    assert np.array_equal(run(), run())


def test_gradients_in_a_new_shape_share_memory_with_nothing():
    a, b = cr.zeros(2, 3, requires_grad=True), cr.zeros(3, 2, requires_grad=True)
    seed, factor = cr.ones(6), cr.arange(6.0)
    (a.reshape(6) + b.reshape(6)).backward(seed)  # the seed arrives at both
    c = cr.zeros(2, 3, requires_grad=True)
    (c.reshape(6) * factor).sum().backward()  # a new array, which nobody else has
    arrays = [t.array for t in (a.grad, b.grad, c.grad, seed, factor)]
    assert not any(np.shares_memory(x, y) for i, x in enumerate(arrays) for y in arrays[:i])
    assert c.grad.array.base is not None and c.grad.tolist() == [[0, 1, 2], [3, 4, 5]]  # so it was not copied
