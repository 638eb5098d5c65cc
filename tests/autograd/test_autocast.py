"""Mixed precision: which operation computes in which dtype, and that gradients come home in their own."""

import sys

import numpy as np
import pytest

import chainrule as cr

f16, f32, f64 = cr.float16, cr.float32, cr.float64


@pytest.fixture
def low(device):
    return cr.autocast(device, dtype=f16)


def test_products_are_16_bits_and_delicate_operations_float32(low, device):
    x, w = cr.randn(3, 4, device=device), cr.randn(5, 4, device=device, requires_grad=True)
    image, filters = cr.randn(1, 2, 6, 6, device=device), cr.randn(3, 2, 3, 3, device=device)
    with low:
        products = [x @ w.T, cr.nn.functional.linear(x, w), cr.conv2d(image, filters), cr.einsum("ij,kj->ik", x, w)]
        assert [y.dtype for y in products] == [f16] * 4
        y = products[0]
        wide = [y.exp(), y.sum(), y.softmax(0), y.norm(), y.abs().log(), (y * y).mean(0), y.relu().pow(2)]
        assert [z.dtype for z in wide] == [f32] * 7
        target = cr.tensor([0, 1, 2], device=device)
        assert cr.cross_entropy(y, target).dtype == f32
        assert [z.dtype for z in (y * 2, y.relu(), y + y, y.tanh())] == [f16] * 4
        assert (y + x[:, :1]).dtype == f32
    assert (x @ w.T).dtype == f32


def test_values_of_16_bits_are_scattered_into_float32(low, device):
    x, index, src = (cr.zeros(3, device=device), cr.tensor([2, 0], device=device), cr.ones(2, dtype=f16, device=device))
    for scatter in (cr.scatter, cr.scatter_add):
        with low:
            out = scatter(x, 0, index, src)
            with pytest.raises(TypeError, match="src of dtype float16 for a tensor of dtype int64; they must be equal"):
                scatter(x.long(), 0, index, src)
        assert out.dtype == f32 and out.tolist() == [1, 0, 1]
        with pytest.raises(TypeError, match="src of dtype float16 for a tensor of dtype float32; they must be equal"):
            scatter(x, 0, index, src)


def test_float64_and_other_devices_are_left_alone(low, device):
    a = cr.randn(2, 2, dtype=f64, device=device)
    with low:
        assert (a @ a).dtype == f64 and a.exp().dtype == f64
        assert (cr.arange(3, device=device) * 2).dtype == cr.int64
    other = "cuda" if device == "cpu" else "cpu"
    x = cr.randn(2, 2, device=device)
    with cr.autocast(other, enabled=False):
        assert (x @ x).dtype == f32


def test_values_and_gradients_are_those_of_casts_by_hand(low, device):
    x, w = cr.randn(3, 4, device=device), cr.randn(4, 2, device=device)
    leaves = [t.clone().requires_grad_() for t in (x, w)]
    with low:
        loss = (leaves[0] @ leaves[1]).tanh().sum()
    loss.backward()
    own = [t.clone().requires_grad_() for t in (x, w)]
    expected = (own[0].half() @ own[1].half()).tanh().float().sum()
    expected.backward()
    assert loss.item() == expected.item()
    for leaf, other in zip(leaves, own, strict=True):
        assert leaf.grad.dtype == f32 and leaf.grad.tolist() == other.grad.tolist()


def test_backward_inside_the_block_computes_as_outside(low, device):
    w = cr.randn(3, 3, device=device, requires_grad=True)
    grads = []
    for inside in (False, True):
        with low:
            loss = (w @ w).sum()
            if inside:
                (g,) = cr.autograd.grad(loss, [w], create_graph=True)
        if not inside:
            (g,) = cr.autograd.grad(loss, [w], create_graph=True)
        grads.append(g)
    assert grads[0].dtype == grads[1].dtype == f32 and grads[0].tolist() == grads[1].tolist()


def test_a_recurrent_layer_runs_in_16_bits(low, device):
    layer = cr.nn.LSTM(3, 4).to(device)
    x = cr.randn(5, 2, 3, device=device)
    with low:
        out, (h, c) = layer(x)
    exact, _ = layer(x)
    assert out.dtype == h.dtype == c.dtype == f16
    assert np.abs(out.float().detach().cpu().numpy() - exact.detach().cpu().numpy()).max() < 5e-3
    out.float().sum().backward()
    assert all(p.grad.dtype == f32 for p in layer.parameters())


def test_blocks_nest_and_decorate(low, device):
    x = cr.randn(2, 2, device=device)
    with low:
        with cr.autocast(device, enabled=False):
            assert (x @ x).dtype == f32
        assert (x @ x).dtype == f16
        with cr.autograd.scope("inner"), cr.no_grad():
            assert (x @ x).dtype == f16
    product = low(lambda a: a @ a)
    assert product(x).dtype == f16 and (x @ x).dtype == f32


def test_under_autocast_anomalies_are_found_too(low, device):
    x = cr.tensor([[300.0, 300.0]], device=device)
    with low, cr.detect_anomaly(), pytest.raises(cr.AnomalyError, match="Inf"):
        x @ (x.T * 1000)


def test_what_it_does_not_know_is_refused():
    for wrong in (f32, f64, cr.int16):
        with pytest.raises(TypeError, match="autocast: received dtype=.*16 bits of floating point; pass cr.float16"):
            cr.autocast("cpu", dtype=wrong)
    with pytest.raises(ValueError, match="received device='tpu'"):
        cr.autocast("tpu")


def test_the_cpu_computes_in_bfloat16_unless_told_otherwise(monkeypatch):
    pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    x, w = cr.ones(2, 3, device="cpu"), cr.ones(3, 2, device="cpu", requires_grad=True)
    with cr.autocast("cpu"):
        y = x @ w
        assert y.dtype == cr.bfloat16 and y.softmax(0).dtype == f32
    y.float().sum().backward()
    assert w.grad.dtype == f32 and w.grad.tolist() == [[2.0, 2.0]] * 3
    assert cr.autocast("cuda", enabled=False).dtype == f16


def test_without_ml_dtypes_the_cpu_needs_a_dtype(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ImportError, match=r"autocast: .*'chainrule\[bfloat16\]', or pass dtype=cr.float16"):
        cr.autocast("cpu")
    x = cr.ones(2, 2, device="cpu")
    with cr.autocast("cpu", enabled=False):
        assert (x @ x).dtype == f32
    with cr.autocast("cpu", dtype=f16):
        assert (x @ x).dtype == f16
