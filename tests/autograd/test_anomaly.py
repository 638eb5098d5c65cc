"""detect_anomaly names the operation, the module path and the line of the first NaN or infinity."""

import inspect

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


def here():
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def told(call, *parts):
    with pytest.raises(cr.AnomalyError) as error:
        call()
    for part in parts:
        assert part in str(error.value), (part, str(error.value))
    return str(error.value)


def test_in_forward():
    x = cr.tensor([1.0, 0.0, -1.0], dtype=f64, requires_grad=True)
    with cr.detect_anomaly():
        told(
            lambda: cr.log(x),
            "the result of log holds the first Inf, at index (1,)",
            f"recorded at {__file__}:",
            "shape (3,) of float64",
        )


def test_in_forward_without_a_graph():
    with cr.detect_anomaly():
        told(
            lambda: cr.ones(2) / cr.tensor([1.0, 0.0]),
            "the result of divide holds the first Inf, at index (1,)",
            f"recorded at {__file__}:",
        )
        told(lambda: cr.tensor(0.0) / 0, "holds the first NaN, at index ()")
        with cr.no_grad():
            told(lambda: cr.sqrt(cr.tensor([-1.0], requires_grad=True)), "the result of sqrt holds the first NaN")


def test_in_backward():
    x = cr.tensor([4.0, 0.0], dtype=f64, requires_grad=True)
    with cr.autograd.scope("net"), cr.autograd.scope("root"):
        y, where = cr.sqrt(x), here()
    y = (y * 2).sum()
    with cr.detect_anomaly():
        told(
            lambda: y.backward(retain_graph=True),
            "the gradient that flows out of sqrt in module net.root holds the first Inf, at index (1,)",
            f"recorded at {where}, in test_in_backward",
        )
    assert x.grad is None
    with np.errstate(divide="ignore"):
        y.backward()
    assert np.isinf(x.grad.numpy()[1])


def test_in_backward_of_zero_dimensional_values():
    x = cr.tensor(0.0, dtype=f64, requires_grad=True)
    y = cr.sqrt(x)
    with cr.detect_anomaly():
        told(lambda: (y * 1).backward(), "the gradient that flows out of sqrt holds the first Inf, at index ()")


def test_under_create_graph():
    x = cr.tensor([0.0], dtype=f64, requires_grad=True)
    y = cr.sqrt(x).sum()
    with cr.detect_anomaly():
        told(lambda: cr.autograd.grad(y, [x], create_graph=True), "holds the first")


def test_modules_are_named():
    class Net(cr.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = cr.nn.Sequential(cr.nn.Linear(2, 2), cr.nn.ReLU())

        def forward(self, x):
            return cr.log(self.body(x) * 0)

    with cr.detect_anomaly():
        text = told(lambda: Net()(cr.ones(1, 2)), "the result of log in module Net holds the first Inf")
    assert __file__ in text


def test_inherited_nan():
    x = cr.tensor([np.nan], dtype=f64, requires_grad=True)
    with cr.detect_anomaly():
        told(lambda: x * 2, "the result of multiply holds the first NaN", "an input held one already")
        assert "already" not in told(lambda: cr.log(cr.zeros(1)))


def test_several_results_and_integers():
    x = cr.tensor([1.0, np.inf], requires_grad=True)
    with cr.detect_anomaly():
        told(lambda: cr.sort(x, 0), "holds the first Inf")
        cr.arange(3) + 1
        values, order = cr.sort(cr.tensor([2.0, 1.0], requires_grad=True), 0)
        values.sum().backward()


def test_healthy_values_pass_and_equal_those_without():
    def run():
        x = cr.tensor([0.5, 1.0], dtype=f64, requires_grad=True)
        w = cr.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=f64, requires_grad=True)
        y = cr.log_softmax(cr.tanh(w @ x) * x / (x + 1), 0).sum()
        y.backward()
        return y.item(), x.grad.tolist(), w.grad.tolist()

    plain = run()
    with cr.detect_anomaly():
        assert run() == plain


def test_as_a_decorator():
    @cr.detect_anomaly()
    def f(x):
        return cr.log(x)

    told(lambda: f(cr.zeros(1)), "log")
    with np.errstate(divide="ignore"):
        assert np.isinf(cr.log(cr.zeros(1)).item())
