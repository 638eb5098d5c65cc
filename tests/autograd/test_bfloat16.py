"""Tensors of bfloat16: NumPy's kind 'V', floating all the same."""

import subprocess
import sys

import numpy as np
import pytest

import chainrule as cr

pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")


def test_made_and_converted():
    for x in (cr.zeros(2, dtype=cr.bfloat16), cr.randn(2, dtype="bfloat16"), cr.ones(2).bfloat16()):
        assert x.dtype == cr.bfloat16 and x.is_floating_point() and x.float().dtype == cr.float32
    x = cr.tensor([1.5, 2.0]).to(cr.bfloat16)
    assert x.tolist() == [1.5, 2.0] and x[0].item() == 1.5 and "bfloat16" in repr(x)


@pytest.mark.parametrize(
    "other, expected",
    [
        ("float16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
        ("int64", "bfloat16"),
        ("bool", "bfloat16"),
    ],
)
def test_promotion(other, expected):
    x, y = cr.ones(2, dtype=cr.bfloat16), cr.ones(2, dtype=other)
    assert (x * y).dtype == (y * x).dtype == cr.promote_types(x.dtype, y.dtype) == cr.zeros(1, dtype=expected).dtype


def test_numbers_keep_bfloat16():
    x = cr.ones(2, dtype=cr.bfloat16)
    for y in (x * 2.0, 2 * x, x - 0.5, 1 / x, x**2, x**0.5, x + True, x.exp(), x.sum(), x.mean(), cr.maximum(x, 0.0)):
        assert y.dtype == cr.bfloat16


def test_sums_are_accumulated_in_float32():
    assert cr.ones(4096, dtype=cr.bfloat16).sum().item() == 4096
    assert cr.ones(4096, dtype=cr.bfloat16).mean().item() == 1


def test_gradients():
    w = cr.randn(3, 4, dtype=cr.bfloat16, requires_grad=True)
    x = cr.randn(5, 4, dtype=cr.bfloat16)
    (cr.tanh(x @ w.T) * 0.5 + w.sum() * 2.0).sum().backward()
    assert w.grad.dtype == cr.bfloat16
    exact = w.detach().double().requires_grad_()
    (cr.tanh(x.double() @ exact.T) * 0.5 + exact.sum() * 2.0).sum().backward()
    np.testing.assert_allclose(w.grad.double().cpu().numpy(), exact.grad.cpu().numpy(), rtol=0.03, atol=0.05)
    (g,) = cr.autograd.grad((w * w * 3.0).sum(), [w], create_graph=True)
    assert g.dtype == cr.bfloat16


def test_autocast():
    x, w = cr.ones(2, 3), cr.ones(3, 2, requires_grad=True)
    with cr.autocast(cr.get_default_device(), dtype=cr.bfloat16):
        y = x @ w
        assert y.dtype == cr.bfloat16 and y.softmax(0).dtype == cr.float32
    y.float().sum().backward()
    assert w.grad.dtype == cr.float32


@pytest.mark.parametrize("make", [lambda p: cr.optim.SGD(p, lr=0.1, momentum=0.9), lambda p: cr.optim.Adam(p, lr=0.1)])
def test_optimisers(make):
    w = cr.ones(8, dtype=cr.bfloat16, requires_grad=True)
    optimizer = make([w])
    for _ in range(20):
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()
    assert w.dtype == cr.bfloat16 and float(w.detach().abs().max()) < 0.9


def test_import_leaves_ml_dtypes_alone_and_without_it_the_error_names_the_extra():
    code = (
        "import sys, chainrule as cr; assert 'ml_dtypes' not in sys.modules; sys.modules['ml_dtypes'] = None\n"
        "try: cr.bfloat16\nexcept ImportError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'chainrule[bfloat16]'" in told
