"""check_grads: what it lets pass, what it catches and how it says so."""

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


def wrong_at(order, x_rule):
    """y = x³ elementwise with the rule given."""

    @cr.primitive
    def cubed(k, x):
        return x * x * x

    cubed.vjp("x")(x_rule)
    return cubed


def test_right_derivatives_pass():
    x, w = cr.randn(3, 4, dtype=f64), cr.randn(4, dtype=f64)
    cr.check_grads(lambda x, w: cr.tanh(x @ w), [x, w])
    cr.check_grads(cr.exp, x, order=4)
    cr.check_grads(lambda x: (x * 2, cr.sin(x), 3), [x])
    cr.check_grads(lambda x, i: x[i], [x, cr.tensor([0, 2, 0])])
    cr.check_grads(lambda x: x * 3, [np.ones(2)])
    cr.check_grads(cr.floor, [x])
    cr.check_grads(lambda x: cr.zeros(0, dtype=f64) * x[:0, 0], [x])


@pytest.mark.parametrize(
    "rule",
    [
        lambda g, x: -g * (3 * x * x),  # wrong sign
        lambda g, x: g * (2 * x * x),
        lambda g, x: g * (3 * x),
        lambda g, x: g.flip(0) * (3 * x * x) if isinstance(g, cr.Tensor) else g[::-1] * (3 * x * x),
    ],
)
def test_wrong_first_derivatives_are_caught(rule):
    cubed = wrong_at(1, rule)
    with pytest.raises(
        cr.GradientError, match=r"check_grads: derivative of order 1, input 0: .*most off is element \(\d,\)"
    ):
        cr.check_grads(cubed, [cr.tensor([0.5, 1.5, -1.0], dtype=f64)])


def test_the_input_and_the_element_are_named():
    @cr.primitive
    def product(k, x, y):
        return x * y

    @product.vjp("x")
    def product_dx(g, y):
        return g * y

    @product.vjp("y")
    def product_dy(g, x):
        if isinstance(g, cr.Tensor):
            return g * x
        wrong = g * x
        wrong[1, 2] += 0.5
        return wrong

    x, y = cr.ones(2, 3, dtype=f64), cr.ones(2, 3, dtype=f64)
    with pytest.raises(
        cr.GradientError, match=r"input 1: .*most off is element \(1, 2\): .* by the rule, .* by differences"
    ):
        cr.check_grads(product, [x, y])


def test_a_wrong_second_derivative_is_caught_at_order_two():
    cubed = wrong_at(2, lambda g, x: g * (3 * x.detach() * x) if isinstance(x, cr.Tensor) else g * (3 * x * x))
    x = cr.tensor([0.5, 1.5], dtype=f64)
    cr.check_grads(cubed, [x], order=1)
    with pytest.raises(cr.GradientError, match="derivative of order 2, input 0"):
        cr.check_grads(cubed, [x])


def test_a_lost_graph_is_caught():
    with pytest.raises(cr.GradientError, match="order 1.*the rule gives 0 "):
        cr.check_grads(lambda x: x.detach() * 2, [cr.ones(2, dtype=f64)])
    with pytest.raises(cr.GradientError, match="order 1, input 0"):
        cr.check_grads(lambda x: x * 2 + x.detach(), [cr.ones(2, dtype=f64)])


def test_a_missing_sum_over_a_broadcast_axis_is_caught():
    @cr.primitive
    def add_row(k, x, row):
        return x + row

    @add_row.vjp("x")
    def add_row_dx(g):
        return g

    @add_row.vjp("row")
    def add_row_drow(g):
        return g[0]

    with pytest.raises(cr.GradientError, match="input 1"):
        cr.check_grads(add_row, [cr.ones(3, 2, dtype=f64), cr.ones(2, dtype=f64)])


def test_a_transposed_weight_is_caught():
    @cr.primitive
    def product(k, x, w):
        return x @ w

    @product.vjp("x")
    def product_dx(g, w):
        return g @ w

    @product.vjp("w")
    def product_dw(g, x):
        return x.T @ g

    with pytest.raises(cr.GradientError, match="input 0"):
        cr.check_grads(product, [cr.randn(3, 3, dtype=f64), cr.randn(3, 3, dtype=f64)])


def test_a_stale_buffer_is_caught():
    buffer = np.zeros(3)

    @cr.primitive
    def scaled(k, x):
        np.multiply(x, 2, out=buffer)
        return buffer

    @scaled.vjp("x")
    def scaled_dx(g):
        return g * 2

    with pytest.raises(cr.GradientError):
        cr.check_grads(lambda x: scaled(x) * scaled(x * 3), [cr.ones(3, dtype=f64)])


def test_nan_is_caught():
    cubed = wrong_at(1, lambda g, x: g * np.nan)
    with pytest.raises(cr.GradientError, match="nan by the rule"):
        cr.check_grads(cubed, [cr.ones(2, dtype=f64)])


def test_what_is_refused():
    with pytest.raises(
        TypeError,
        match="check_grads: input 1 has dtype float32, in which differences have too few digits; pass float64",
    ):
        cr.check_grads(lambda x, y: x * y, [cr.ones(2, dtype=f64), cr.ones(2)])
    with pytest.raises(TypeError, match="check_grads: no input is a floating tensor"):
        cr.check_grads(lambda x: x, [cr.arange(3)])


def test_inputs_are_not_changed_and_directions_are_reproducible():
    x = cr.randn(3, dtype=f64).requires_grad_()
    before = x.tolist()
    cr.check_grads(cr.tanh, [x])
    assert x.tolist() == before and x.grad is None
    cubed = wrong_at(1, lambda g, x: g)
    messages = set()
    for _ in range(2):
        with pytest.raises(cr.GradientError) as error:
            cr.check_grads(cubed, [x], seed=5)
        messages.add(str(error.value))
    assert len(messages) == 1
