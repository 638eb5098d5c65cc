"""Writes in place: recorded, refused, or noticed in time, with both lines named."""

import gc
import inspect

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


def leaf(*values):
    return cr.tensor(values, dtype=f64, requires_grad=True)


def here():
    """'file:line' of the caller."""
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def refused(call, *parts):
    with pytest.raises(RuntimeError) as error:
        call()
    for part in parts:
        assert part in str(error.value)
    return str(error.value)


# ---- a kept value that changed ---------------------------------------------------------------------------------------


def _by_add(t):
    t.add_(1)


def _by_setitem(t):
    t[0] = 5.0


def _by_data(t):
    t.data.mul_(2)


def _by_augmented_data(t):
    t.data += 1


def _by_detach(t):
    t.detach().zero_()


def _by_view_of_detach(t):
    t.detach()[1:].fill_(3.0)


def _by_reshaped_view(t):
    t.detach().reshape(2, 1).T.neg_()


def _by_raw_write(t):
    t.array[0] = 7
    cr.autograd.note_write(t)


WAYS = [
    _by_add,
    _by_setitem,
    _by_data,
    _by_augmented_data,
    _by_detach,
    _by_view_of_detach,
    _by_reshaped_view,
    _by_raw_write,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", ["leaf", "result"])
def test_a_changed_kept_value_is_refused_naming_both_lines(way, which):
    w, x = leaf(1.0, 2.0), leaf(3.0, 4.0)
    kept = x if which == "leaf" else x * 1
    y, recorded = kept * w, here()
    with cr.no_grad():
        way(kept)
    told = refused(
        y.sum().backward,
        "multiply: a value that its derivative needs was changed in place after it was recorded",
        f"Recorded at: {recorded}, in test_a_changed_kept_value",
        "or change a clone()",
    )
    source, start = inspect.getsourcelines(way)
    assert any(f"Changed at: {__file__}:{start + i}, in {way.__name__}" in told for i in range(len(source)))
    assert x.grad is None and w.grad is None


def test_the_line_is_the_users_also_for_operations_inside_the_package():
    x = leaf(1.0, 2.0)
    y, recorded = cr.nn.functional.gelu(x), here()
    z, where = cr.log_softmax(x, 0), here()
    assert y.grad_fn.line == f"{recorded}, in test_the_line_is_the_users_also_for_operations_inside_the_package"
    assert z.grad_fn.line.startswith(where)


def test_the_line_of_a_derivatives_own_nodes_is_that_of_the_call():
    x = leaf(1.0)
    (dx,), where = cr.autograd.grad((x**3).sum(), [x], create_graph=True), here()
    assert dx.grad_fn.line.startswith(where)


def test_lines_of_code_without_a_file():
    x = leaf(1.0)
    scope = {"x": x}
    exec("def f():\n    return x * 2\ny = f()", scope)
    assert scope["y"].grad_fn.line == "<string>:2, in f"


def test_several_lines_of_one_statement():
    x = leaf(1.0)
    y = (
        x
        * 2
    )  # fmt: skip
    first = inspect.getsourcelines(test_several_lines_of_one_statement)[1]
    assert y.grad_fn.line.startswith(f"{__file__}:{first + 3}, in ")


def test_values_that_no_rule_needs_may_change():
    x = leaf(1.0, 2.0)
    y = x * 3
    z = y + 1
    with cr.no_grad():
        y.add_(100)
        x.zero_()
    z.sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_only_needed_values_are_kept_so_that_the_others_may_change():
    w, c = leaf(1.0, 2.0), cr.tensor([3.0, 4.0], dtype=f64)
    y = w * c
    with cr.no_grad():
        w.mul_(100)  # dw needs c alone
    y.sum().backward()
    assert w.grad.tolist() == [3, 4]


def test_a_result_kept_by_its_own_operation():
    x = leaf(1.0, 2.0)
    y = cr.exp(x)
    y.data.add_(1)
    refused(y.sum().backward, "exp: a value that its derivative needs was changed")


def test_under_create_graph_and_grad_and_anomaly_too():
    for walk in (
        lambda y, x: cr.autograd.grad(y, [x]),
        lambda y, x: cr.autograd.grad(y, [x], create_graph=True),
        lambda y, x: y.backward(create_graph=True),
    ):
        for mode in (cr.enable_grad(), cr.detect_anomaly()):
            x = leaf(1.0, 2.0)
            y = (x * x).sum()
            with cr.no_grad():
                x.add_(1)
            with mode:
                refused(lambda walk=walk, y=y, x=x: walk(y, x), "multiply", "Changed at")


def test_in_variadic_primitives_and_those_with_several_results():
    x = leaf(1.0, 2.0)
    with_two = cr.einsum("i,i->", x, x)
    with cr.no_grad():
        x.add_(1)
    refused(with_two.backward, "changed in place")


def test_a_value_written_before_it_was_recorded_is_fine():
    x = leaf(1.0, 2.0)
    with cr.no_grad():
        x.add_(1)
    y = (x * x).sum()
    with cr.no_grad():
        leaf(5.0).add_(1)  # another memory
    y.backward()
    assert x.grad.tolist() == [4, 6]


def test_optimiser_style_updates_between_steps():
    x = leaf(1.0, 2.0)
    for step in range(3):
        x.grad = None
        (x * x).sum().backward()
        with cr.no_grad():
            x -= 0.25 * x.grad  # x ← x / 2
        assert x.tolist() == [0.5 ** (step + 1), 2 * 0.5 ** (step + 1)]
        assert x.is_leaf and x.requires_grad


def test_an_update_between_forward_and_backward_is_noticed():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    with cr.no_grad():
        x.sub_(x.grad)
    refused(y.backward, "multiply", "Changed at")


# ---- recorded writes -------------------------------------------------------------------------------------------------


def test_augmented_assignment_of_results_is_recorded():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * 1
    same = y
    y += x
    y *= w
    y -= 1
    y /= 2
    y **= 2
    assert y is same
    y.sum().backward()  # ((2xw − 1) / 2)²
    inner = (2 * np.array([1.0, 2]) * [3, 4] - 1) / 2
    np.testing.assert_allclose(x.grad.numpy(), 2 * inner * [3, 4])
    np.testing.assert_allclose(w.grad.numpy(), 2 * inner * [1, 2])


def test_a_result_times_itself_in_place():
    x = leaf(2.0, 3.0)
    y = x * 1
    y *= y
    y.mul_(y)
    y.sum().backward()
    assert x.grad.tolist() == [4 * 8.0, 4 * 27.0]


@pytest.mark.parametrize(
    "name",
    [
        "exp_",
        "sqrt_",
        "neg_",
        "abs_",
        "relu_",
        "sigmoid_",
        "tanh_",
        "clamp_",
        "masked_fill_",
        "index_add_",
        "scatter_add_",
        "scatter_",
    ],
)
def test_named_writes_compute_what_their_plain_twin_does(name):
    extra = {
        "clamp_": (0.5, 1.5),
        "masked_fill_": (cr.tensor([True, False, True]), 7.0),
        "index_add_": (0, cr.tensor([0, 0]), cr.ones(2, dtype=f64)),
        "scatter_add_": (0, cr.tensor([1, 1]), cr.ones(2, dtype=f64)),
        "scatter_": (0, cr.tensor([1]), 5.0),
    }.get(name, ())
    x = leaf(0.3, 1.0, 2.0)
    plain = getattr(x * 1, name[:-1])(*extra)
    written = x * 1
    assert getattr(written, name)(*extra) is written
    assert written.tolist() == plain.tolist()
    (a,), (b,) = cr.autograd.grad(plain.sum(), [x]), cr.autograd.grad(written.sum(), [x])
    assert a.tolist() == b.tolist()
    with cr.no_grad():
        quiet = cr.tensor([0.3, 1.0, 2.0], dtype=f64)
        getattr(quiet, name)(*extra)
    assert quiet.tolist() == plain.tolist() and not quiet.requires_grad


def test_alpha():
    t = cr.ones(2)
    assert t.add_(cr.ones(2), alpha=3).sub_(cr.ones(2), alpha=0.5).tolist() == [3.5, 3.5]
    x = leaf(1.0, 1.0)
    y = cr.zeros(2, dtype=f64)
    y.add_(x, alpha=3)
    y.sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_a_constant_becomes_a_result():
    x = leaf(1.0, 2.0)
    total = cr.zeros(2, dtype=f64)
    for _ in range(3):
        total += x
    total[0] = x[1] * 10
    total.sum().backward()
    assert x.grad.tolist() == [0, 13]


@pytest.mark.parametrize(
    ("index", "value"),
    [
        (0, 5.0),
        (slice(1, None), [7.0, 8.0]),
        (..., 1),
        (np.array([0, 2]), np.array([4.0, 5.0])),
        ([True, False, True], 9.0),
        (cr.tensor([2, 0]), 3.0),
    ],
)
def test_setitem_of_constants_cuts_the_gradient_there(index, value):
    x = leaf(1.0, 2.0, 3.0)
    y = x * 2
    y[index] = value
    expected = np.array([2.0, 4, 6])
    plain = index.numpy() if isinstance(index, cr.Tensor) else index
    expected[plain] = value
    assert y.tolist() == expected.tolist()
    y.sum().backward()
    free = np.full(3, 2.0)
    free[plain] = 0
    assert x.grad.tolist() == free.tolist()


def test_setitem_of_results():
    x, v = leaf(1.0, 2.0, 3.0), leaf(10.0, 20.0)
    y = x * 2
    y[:2] = v * v
    y[2] = v[0]
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 0] and v.grad.tolist() == [21, 40]


def test_setitem_broadcasts_and_sums_back():
    v = leaf(1.0)
    y = cr.zeros(2, 3, dtype=f64)
    y[:, 1:] = v
    y.sum().backward()
    assert v.grad.tolist() == [4]


def test_setitem_keeps_the_digits_of_python_numbers():
    t = cr.zeros(4, dtype=f64)
    t[0] = 0.1
    t[1:3] = [0.1, 0.2]
    t[3:].fill_(0.1)
    assert t.tolist() == [0.1, 0.1, 0.2, 0.1]
    assert cr.tensor([0.1], dtype=f64).item() == 0.1
    assert cr.scatter(cr.zeros(1, dtype=f64), 0, cr.tensor([0]), 0.1).item() == 0.1


def test_overwriting_everything_with_constants_leaves_the_graph():
    for write in (lambda t: t.fill_(3), lambda t: t.zero_(), lambda t: t.copy_([5.0, 6.0])):
        x = leaf(1.0, 2.0)
        y = x * 2
        write(y)
        assert not y.requires_grad and y.grad_fn is None
        (y * x).sum().backward()
        assert x.grad.tolist() == y.tolist()


def test_fill_and_copy_with_results_are_recorded():
    v, x = leaf(3.0), leaf(1.0, 2.0)
    t = cr.zeros(2, dtype=f64)
    t.fill_(v)
    u = cr.zeros(3, 2)
    u.copy_(x)
    assert u.dtype == cr.float32
    (t.sum() + u.sum().to(f64)).backward()
    assert v.grad.tolist() == [2] and x.grad.tolist() == [3, 3] and x.grad.dtype == f64


def test_recorded_writes_keep_the_dtype():
    x = leaf(1.0, 2.0)
    t = cr.ones(2)
    t *= x
    assert t.dtype == cr.float32
    t.sum().backward()
    assert x.grad.dtype == f64 and x.grad.tolist() == [1, 1]


def test_a_view_made_before_a_recorded_write_is_stale_and_says_so():
    x = leaf(1.0, 2.0)
    y = x * 1
    view = y[:1]
    y *= 2
    refused(view.sum().backward, "getitem: a value that its derivative needs was changed in place", "Changed at")
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]


PIECES = {
    "split": lambda t: t.split([1, 2]),
    "chunk": lambda t: t.chunk(2),
    "unbind": lambda t: t.unbind(),
    "iteration": lambda t: tuple(t),
}


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_pieces_are_views_that_a_recorded_write_makes_stale(pieces):
    x = leaf(1.0, 2.0, 3.0)
    y = x * 1
    made = pieces(y)
    assert all(np.shares_memory(piece.array, y.array) for piece in made)
    for piece in made:
        refused(lambda piece=piece: piece.add_(1), "on a view", "inside a graph", "use t.clone() first")
    gc.collect()  # the errors refer to their frames, and so to the pieces
    y *= 2
    for piece in made:
        refused(piece.sum().backward, "a value that its derivative needs was changed in place", "Changed at")
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize("pieces", PIECES.values(), ids=PIECES)
def test_pieces_of_constants_follow_unrecorded_writes_and_refuse_recorded_ones(pieces):
    base = cr.zeros(3, dtype=f64)
    made = pieces(base)
    made[0].add_(1)
    base[2] = 5
    assert base[0] == 1 and np.ravel(made[-1].numpy())[-1] == 5
    assert all(piece._version == base._version for piece in made)
    refused(lambda: base.add_(leaf(1.0, 1.0, 1.0)), "a recorded write into a constant", "cr.stack")
    refused(lambda: made[0].add_(leaf(1.0).sum()), "a recorded write into a view")


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "write",
    [
        lambda t: t.add_(1),
        lambda t: t.__setitem__(0, 1.0),
        lambda t: t.__imul__(2),
        lambda t: t.zero_(),
        lambda t: t.copy_(cr.zeros(2)),
    ],
)
def test_leaves_and_views_inside_graphs_are_not_written(write):
    x = leaf(1.0, 2.0)
    refused(lambda: write(x), "on a leaf of shape (2,) that requires grad", "with cr.no_grad():")
    view = (x * 1)[:]
    refused(lambda: write(view), "on a view (shape (2,)) inside a graph", "use t.clone() first")
    assert x.tolist() == view.tolist() == [1, 2]
    with cr.no_grad():
        write(x)


def test_a_recorded_write_into_a_view_of_a_constant_is_refused():
    x = leaf(1.0, 2.0)
    base = cr.zeros(2, 2, dtype=f64)
    refused(lambda: base[0].add_(x), "a recorded write into a view (shape (2,))", "base[index] = value")
    assert base.tolist() == [[0, 0], [0, 0]]
    gc.collect()  # the error above refers to its frames, and so to the view
    base[0] = x
    only = cr.zeros(4, dtype=f64).reshape(2, 2)  # nobody else holds its memory
    only[1] = x
    (base.sum() + only.sum()).backward()
    assert x.grad.tolist() == [2, 2]


def test_shapes_and_dtypes_that_do_not_fit():
    t = cr.zeros(2)
    with pytest.raises(
        ValueError, match=r"a result of shape \(3, 2\) cannot be written in place into a tensor of shape \(2,\)"
    ):
        t.add_(cr.ones(3, 2))
    with pytest.raises(
        TypeError, match="a result of dtype float32 cannot be written in place into a tensor of dtype int64"
    ):
        cr.zeros(2, dtype=cr.int64).mul_(0.5)
    with pytest.raises(ValueError, match=r"setitem: a value of shape \(3,\) does not fit the place of shape \(2,\)"):
        t[:] = [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match=r"setitem: a value of shape \(3,\) does not fit the place of shape \(2,\)"):
        t[:] = leaf(1.0, 2.0, 3.0)
    with pytest.raises(ValueError, match=r"fill_: received a value of shape \(2,\); pass one number, or use copy_"):
        t.fill_([1.0, 2.0])
    with pytest.raises(IndexError, match="stay inside each dimension"):
        t[5] = 1
    with pytest.raises(TypeError, match="its items are not numbers"):
        t[0] = None
    assert t.tolist() == [0, 0]


def test_read_only_memory():
    t = cr.zeros(1).expand(3)
    for write in (lambda: t.add_(1), lambda: t.__setitem__(0, 1.0)):
        refused(write, "a write in place to read-only memory (an expanded or imported array); use t.clone() first")
    t.clone().add_(1)


def test_data():
    x = leaf(1.0, 2.0)
    x.data = cr.tensor([5.0, 6.0, 7.0], dtype=f64)
    assert x.shape == (3,) and x.requires_grad and not x.data.requires_grad
    source = np.array([1.0, 2.0])
    x.data = source
    source[0] = 100
    assert x.tolist() == [1, 2]
    refused(
        lambda: setattr(x * 1, "data", cr.zeros(2)),
        "data was assigned to a tensor of shape (2,) that an operation computed",
    )
    with pytest.raises(TypeError, match="data of dtype int64 was assigned to a tensor that requires grad"):
        x.data = cr.tensor([1, 2])
    y = x * 1
    y.data += 1
    assert y.tolist() == [2, 3]


def test_versions():
    t = cr.zeros(4)
    view, version = t[1:], t._version
    view.add_(1)
    assert t._version > version and t._version == view._version
    assert cr.zeros(1)._version == 0


# ---- memory that others look at --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "look", [lambda b: b[:2], lambda b: b.reshape(3, 1), lambda b: b.detach(), lambda b: b.numpy()]
)
def test_a_recorded_write_into_a_constant_that_others_look_at_is_refused(look):
    x, base = leaf(3.0), cr.zeros(3, dtype=f64)
    other = look(base)
    for write in (lambda: base.__setitem__(0, x[0]), lambda: base.add_(x)):
        refused(write, "a recorded write into a constant (shape (3,))", "cr.stack")
    assert base.tolist() == [0, 0, 0] and not base.requires_grad
    del other
    gc.collect()  # the errors above refer to their frames, and so to the memory
    base[0] = x[0]
    assert base.requires_grad


def test_a_view_of_a_result_that_a_constant_overwrote_is_stale():
    for overwrite in (lambda t: t.zero_(), lambda t: t.fill_(2.0), lambda t: t.copy_(cr.zeros(2, dtype=f64))):
        x = leaf(1.0, 2.0)
        base = x * 2
        view = base[:1]
        overwrite(base)
        refused(view.sum().backward, "getitem: a value that its derivative needs was changed in place", "Changed at")


def test_an_array_operand_may_be_filled_anew():
    x, batch = leaf(1.0, 2.0), np.array([3.0, 4.0])
    y = (x * batch).sum() + (batch * x).sum()
    batch[:] = 7
    y.backward()
    assert x.grad.tolist() == [6, 8]
