"""grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp: against closed forms and torch.func, nested, and refusing."""

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


def t(*values):
    return cr.tensor(values if len(values) != 1 else values[0], dtype=f64)


def close(a, b):
    np.testing.assert_allclose(a.numpy() if isinstance(a, cr.Tensor) else a, b, rtol=1e-10, atol=1e-12)


A = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0], [2.0, 2.0, 1.0]])


def quadratic(x):
    return x @ t(A) @ x


# ---- closed forms ----------------------------------------------------------------------------------------------------


def test_a_quadratic_form(rng):
    x, v = rng.standard_normal(3), rng.standard_normal(3)
    close(cr.grad(quadratic)(t(x)), (A + A.T) @ x)
    close(cr.hessian(quadratic)(t(x)), A + A.T)
    value, product = cr.hvp(quadratic, t(x), t(v))
    close(value, x @ A @ x)
    close(product, (A + A.T) @ v)
    value, slope = cr.value_and_grad(quadratic)(t(x))
    close(value, x @ A @ x)
    close(slope, (A + A.T) @ x)


def test_a_map_between_spaces(rng):
    x, v, u = rng.standard_normal(3), rng.standard_normal(3), rng.standard_normal(2)
    W = rng.standard_normal((2, 3))
    f = lambda x: cr.tanh(t(W) @ x)
    J = (1 - np.tanh(W @ x) ** 2)[:, None] * W
    close(cr.jacobian(f)(t(x)), J)
    y, pull = cr.vjp(f, t(x))
    close(y, np.tanh(W @ x))
    close(pull(t(u))[0], u @ J)
    close(pull(t(2 * u))[0], 2 * u @ J)  # as often as one likes
    y, pushed = cr.jvp(f, (t(x),), (t(v),))
    close(y, np.tanh(W @ x))
    close(pushed, J @ v)


def test_shapes_of_jacobians():
    f = lambda x: x.reshape(3, 2)[:2] * 2
    assert cr.jacobian(f)(cr.ones(2, 3)).shape == (2, 2, 2, 3)
    assert cr.jacobian(lambda x: x.sum())(cr.ones(2, 3)).shape == (2, 3)
    assert cr.jacobian(lambda x: x * cr.ones(4))(cr.ones(())).shape == (4,)
    assert cr.jacobian(lambda x: x[:0])(cr.ones(3)).shape == (0, 3)
    assert cr.hessian(lambda x: x.sum())(cr.ones(2, 3)).shape == (2, 3, 2, 3)


@pytest.mark.parametrize("order", range(6))
def test_nested_grad(order):
    f = cr.exp
    g = lambda x: cr.exp(x * 2)
    for _ in range(order):
        f, g = cr.grad(f), cr.grad(g)
    close(f(t(0.5)), np.exp(0.5))
    close(g(t(0.5)), 2**order * np.exp(1.0))


def test_every_nesting_of_two_transforms():
    """f = Σ x³ at x, with every pair of forward and reverse transforms."""
    x, v = np.array([0.5, -1.5]), np.array([2.0, 1.0])
    f = lambda x: (x**3).sum()
    slope = cr.grad(f)
    curved = 6 * x * v
    close(cr.jvp(slope, (t(x),), (t(v),))[1], curved)
    close(cr.vjp(slope, t(x))[1](t(v))[0], curved)
    close(cr.jacobian(slope)(t(x)), np.diag(6 * x))
    close(cr.hvp(f, t(x), t(v))[1], curved)
    close(cr.grad(lambda x: (slope(x) * t(v)).sum())(t(x)), curved)
    close(cr.grad(lambda x: cr.jvp(f, (x,), (t(v),))[1])(t(x)), curved)
    close(cr.grad(lambda x: cr.vjp(f, x)[1](t(1.0))[0] @ t(v))(t(x)), curved)
    close(cr.jacobian(cr.jacobian(f))(t(x)), np.diag(6 * x))
    close(cr.grad(lambda x: cr.hvp(f, x, t(v))[1].sum())(t(x)), 6 * v)
    close(cr.jvp(lambda x: cr.hvp(f, x, t(v))[1], (t(x),), (t(v),))[1], 6 * v * v)
    close(cr.grad(lambda v: cr.jvp(f, (t(x),), (v,))[1])(t(v)), 3 * x**2)
    close(cr.grad(lambda x: cr.hessian(f)(x).sum())(t(x)), [6, 6])
    close(cr.jacobian(cr.hessian(f))(t(x))[0, 0, 0], 6)


def test_a_function_that_closes_over_the_variable_of_another_transform():
    inner = lambda w, x: cr.grad(lambda x: (x * x * w).sum())(x)
    close(cr.grad(lambda w: inner(w, t(3.0)))(t(2.0)), 6)
    # perturbation confusion: d/dx (x · d/dy (x + y)) = 1
    close(cr.grad(lambda x: x * cr.grad(lambda y: x + y)(t(1.0)))(t(1.0)), 1)
    close(cr.grad(lambda x: x * cr.jvp(lambda y: x * y, (t(1.0),), (t(1.0),))[1])(t(3.0)), 6)
    close(cr.grad(lambda w: cr.vjp(lambda x: x * x * w, t(3.0))[1]()[0])(t(2.0)), 6)
    close(cr.grad(lambda w: cr.jacobian(lambda x: x * x * w)(t(3.0)))(t(2.0)), 6)
    close(cr.grad(lambda w: cr.hvp(lambda x: x * x * w, t(3.0), t(1.0))[1])(t(5.0)), 2)


def test_results_belong_to_no_graph_unless_the_user_has_one():
    x = t(2.0)
    results = [
        cr.grad(lambda x: x * x)(x),
        *cr.value_and_grad(lambda x: x * x)(x),
        cr.grad(lambda w: cr.grad(lambda x: x * x * w)(x))(t(3.0)),
        *cr.jvp(lambda x: x * x, (x,), (x,)),
        *cr.hvp(lambda x: x * x, x, x),
        cr.jacobian(lambda x: x * x)(x),
        cr.hessian(lambda x: x * x)(x),
        cr.vjp(lambda x: x * x, x)[0],
        *cr.vjp(lambda x: x * x, x)[1](),
    ]
    assert not any(r.requires_grad for r in results)
    w = t(3.0).requires_grad_()
    slope = cr.grad(lambda x: x * x * w)(x)
    slope.backward()
    assert w.grad.item() == 4
    v = t(3.0).requires_grad_()
    cr.grad(lambda x: x**3)(v).backward()
    assert v.grad.item() == 18
    _, pull = cr.vjp(lambda x: x**2, x)
    c = t(1.0).requires_grad_()
    pull(c)[0].backward()
    assert c.grad.item() == 4


def test_nothing_outside_is_changed():
    x = t(2.0).requires_grad_()
    y = x * 1
    with cr.no_grad():
        for value in (x, y):
            slope = cr.grad(lambda x: x * x)(value)
            assert slope.item() == 4 and not slope.requires_grad
    assert x.grad is None
    with cr.inference_mode():
        assert cr.grad(lambda x: x * x)(x).item() == 4


def test_arguments():
    f = lambda a, b, *, scale=1.0: (a * b * scale).sum()
    a, b = t(1.0, 2.0), t(3.0, 4.0)
    close(cr.grad(f)(a, b), [3, 4])
    close(cr.grad(f, 1)(a, b, scale=2.0), [2, 4])
    close(cr.grad(f, -1)(a, b), [1, 2])
    both = cr.grad(f, (0, 1))(a, b)
    assert isinstance(both, tuple)
    close(both[0], [3, 4])
    close(both[1], [1, 2])
    assert isinstance(cr.grad(f, (0,))(a, b), tuple)
    blocks = cr.jacobian(lambda a, b: a * b, (0, 1))(a, b)
    close(blocks[0], np.diag([3, 4]))
    close(blocks[1], np.diag([1, 2]))
    y, pushed = cr.jvp(f, (a, b), (t(1.0, 0.0), t(0.0, 1.0)))
    close(pushed, 3 + 2)
    value, (ha, hb) = cr.hvp(lambda a, b: (a * a * b).sum(), (a, b), (t(1.0, 0.0), t(0.0, 1.0)))
    close(ha, [2 * 3, 2 * 2])
    close(hb, [2 * 1, 0])
    assert cr.grad(f)(np.array([1.0, 2.0]), b).dtype == f64  # arrays are taken as they are
    close(cr.grad(lambda x: x * x)(3.0), 6)


def test_names_and_words_survive():
    def loss(x):
        """Words."""
        return x * x

    for made in (cr.grad(loss), cr.value_and_grad(loss), cr.jacobian(loss), cr.hessian(loss)):
        assert made.__name__ == "loss" and made.__doc__ == "Words."


def test_auxiliary_results():
    f = lambda x: ((x * x).sum(), {"twice": x * 2})
    (value, aux), slope = cr.value_and_grad(f, has_aux=True)(t(1.0, 2.0))
    assert value.item() == 5 and aux["twice"].tolist() == [2, 4]
    close(slope, [2, 4])
    slope, aux = cr.grad(lambda x: (x * x, x * 3), has_aux=True)(t(2.0))
    assert slope.item() == 4 and aux.item() == 6 and not aux.requires_grad


def test_functions_that_ignore_their_argument():
    x = t(1.0, 2.0)
    constant = lambda x: t(3.0)
    close(cr.grad(constant)(x), [0, 0])
    close(cr.hessian(constant)(x), np.zeros((2, 2)))
    close(cr.hessian(lambda x: x.sum())(x), np.zeros((2, 2)))
    close(cr.jvp(constant, (x,), (x,))[1], 0)
    close(cr.jvp(cr.floor, (x,), (x,))[1], [0, 0])
    close(cr.hvp(constant, x, x)[1], [0, 0])
    close(cr.hvp(lambda x: x.sum(), x, x)[1], [0, 0])
    close(cr.vjp(constant, x)[1]()[0], [0, 0])
    close(cr.grad(lambda a, b: a * a, 1)(t(1.0), t(2.0)), 0)
    close(cr.jvp(lambda a, b: a * a, (t(3.0), t(2.0)), (t(1.0), t(1.0)))[1], 6)


# ---- torch.func ------------------------------------------------------------------------------------------------------


def _functions(lib):
    return [
        lambda x: (lib.tanh(x) * lib.exp(x)).sum(),
        lambda x: lib.logsumexp(x * x, 0),
        lambda x: (x[:2] @ x[1:]) ** 3,
        lambda x: lib.log_softmax(x, 0)[1] * lib.sin(x[0]),
        lambda x: lib.sqrt(x * x + 1).prod(),
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.func warns of its own parts
@pytest.mark.parametrize("i", range(5))
def test_scalar_functions_against_torch_func(torch, rng, i):
    x, v = rng.standard_normal(3), rng.standard_normal(3)
    f, g, func = _functions(cr)[i], _functions(torch)[i], torch.func
    their_x, their_v = torch.tensor(x), torch.tensor(v)
    close(cr.grad(f)(t(x)), func.grad(g)(their_x))
    close(cr.hessian(f)(t(x)), func.hessian(g)(their_x))
    close(cr.jvp(f, (t(x),), (t(v),))[1], func.jvp(g, (their_x,), (their_v,))[1])
    close(cr.hvp(f, t(x), t(v))[1], func.hessian(g)(their_x) @ their_v)
    third = cr.jacobian(cr.hessian(f))(t(x))
    close(third, func.jacrev(func.hessian(g))(their_x))


def test_vector_functions_against_torch_func(torch, rng):
    x, w = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))
    f = lambda lib: lambda x, w: lib.softmax(x @ w, 1) * lib.exp(w[:2])
    ours = cr.jacobian(f(cr), (0, 1))(t(x), t(w))
    theirs = torch.func.jacrev(f(torch), (0, 1))(torch.tensor(x), torch.tensor(w))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b)
    u = rng.standard_normal((2, 2))
    for a, b in zip(
        cr.vjp(f(cr), t(x), t(w))[1](t(u)),
        torch.func.vjp(f(torch), torch.tensor(x), torch.tensor(w))[1](torch.tensor(u)),
        strict=True,
    ):
        close(a, b)


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "error", "told"),
    [
        (
            lambda: cr.grad(lambda x: x)(t(1.0, 2.0)),
            ValueError,
            r"value_and_grad: the function returned shape \(2,\).*or use jacobian",
        ),
        (lambda: cr.hvp(lambda x: x, t(1.0, 2.0), t(1.0, 2.0)), ValueError, r"hvp: the function returned shape \(2,\)"),
        (
            lambda: cr.grad(lambda x: 3.0)(t(1.0)),
            TypeError,
            "value_and_grad: the function returned float; it must return a Tensor",
        ),
        (lambda: cr.grad(lambda x: (x, x))(t(1.0)), TypeError, "the function returned tuple"),
        (lambda: cr.vjp(lambda x: (x, x), t(1.0)), TypeError, "vjp: the function returned tuple"),
        (lambda: cr.jvp(lambda x: None, t(1.0), t(1.0)), TypeError, "jvp: the function returned NoneType"),
        (lambda: cr.jacobian(lambda x: [x])(t(1.0)), TypeError, "jacobian: the function returned list"),
        (
            lambda: cr.grad(lambda x: x, has_aux=True)(t(1.0)),
            TypeError,
            r"with has_aux=True the function must return \(value, aux\)",
        ),
        (
            lambda: cr.grad(lambda x: x, 1)(t(1.0)),
            IndexError,
            "argnums=1 but the function was called with 1 positional arguments",
        ),
        (
            lambda: cr.grad(lambda x: x)(cr.tensor(1)),
            TypeError,
            r"an argument has dtype int64; only floating.*use x\.float\(\)",
        ),
        (
            lambda: cr.jvp(lambda x: x, (t(1.0),), ()),
            ValueError,
            "jvp: received 1 primals and 0 tangents; pass one tangent for each",
        ),
        (lambda: cr.hvp(lambda x: x, (t(1.0),), ()), ValueError, "hvp: received 1 primals and 0 tangents"),
        (
            lambda: cr.jvp(lambda x: x, (t(1.0, 2.0),), (t(1.0),)),
            ValueError,
            r"jvp: primal 0 has shape \(2,\) and its tangent \(\); they must be equal",
        ),
    ],
)
def test_refusals(attempt, error, told):
    with pytest.raises(error, match=told):
        attempt()


def test_the_two_grads_are_different_functions():
    x = t(3.0).requires_grad_()
    assert cr.autograd.grad(x * x, [x])[0].item() == cr.grad(lambda x: x * x)(x).item() == 6
    assert cr.autograd.grad is not cr.grad
