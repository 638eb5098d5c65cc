"""Tensors on two devices: what moves, what is refused, and what is said where there is no GPU."""

import sys
import types

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


def without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)


def without_gpu(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "cupy", types.SimpleNamespace(is_available=lambda: False, __version__="14.2", ndarray=type(None))
    )


@pytest.mark.parametrize(
    "lack, told",
    [
        (without_cupy, r"CuPy cannot be imported \(.*\); install it with pip install 'chainrule\[cuda13\]' \(or"),
        (without_gpu, "device='cuda': CuPy 14.2 finds no NVIDIA GPU with a working driver; see `nvidia-smi`"),
    ],
)
def test_what_cuda_lacks(lack, told, monkeypatch):
    monkeypatch.setattr(sys.modules["chainrule.autograd.tensor"], "_default_device", "cpu")
    monkeypatch.setattr(cr.kernels, "_namespaces", {np.ndarray: cr.kernels.cpu})
    lack(monkeypatch)
    for ask in (lambda: cr.zeros(2, device="cuda"), lambda: cr.ones(1).to("cuda:0"), cr.ones(1).cuda):
        with pytest.raises(RuntimeError, match=told):
            ask()
    assert cr.ones(2).cpu().device == "cpu" and not cr.ones(2).is_cuda


@pytest.fixture
def cuda(device, monkeypatch):
    if device != "cuda":
        pytest.skip("needs two devices")
    monkeypatch.setattr(sys.modules["chainrule.autograd.tensor"], "_default_device", "cpu")
    return device


def test_where_tensors_are(cuda):
    for make in (cr.zeros, cr.ones, cr.empty, cr.rand, cr.randn, cr.eye, cr.arange, cr.randperm):
        t = make(3, device=cuda)
        assert t.device == "cuda" and t.is_cuda and t.sum().device == "cuda" and t.cpu().device == "cpu"
    assert cr.tensor([1.0], device="cuda:0").device == "cuda" and cr.full((2,), 3, device=cuda).tolist() == [3, 3]
    for make in (cr.zeros_like, cr.ones_like, cr.empty_like, cr.rand_like, cr.randn_like):
        assert make(t).device == "cuda" and make(t, device="cpu").device == "cpu"
    assert t.new_zeros(2).device == "cuda"
    assert repr(cr.zeros(2, device=cuda)) == "tensor([0., 0.], device='cuda')"
    x = cr.zeros(2)
    assert x.cpu() is x and t.cuda() is t and t.to("cuda") is t and x.to(t).device == "cuda"


def test_gradients_cross_over(cuda):
    x = cr.tensor([1.0, 2.0], dtype=f64, requires_grad=True)
    y = (x.to(cuda) ** 2).sum()
    assert y.device == "cuda"
    y.backward()
    assert x.grad.device == "cpu" and x.grad.tolist() == [2, 4]
    (dx,) = cr.autograd.grad((x.to(cuda) ** 3).cpu().sum(), [x], create_graph=True)
    dx.sum().backward()
    assert x.grad.tolist() == [2 + 6, 4 + 12]


def test_0d_tensors_of_the_cpu_follow(cuda):
    x = cr.ones(2, device=cuda, dtype=f64)
    scale = cr.tensor(3.0, dtype=f64, requires_grad=True)
    for y in (x * scale, scale * x):
        assert y.device == "cuda" and y.tolist() == [3, 3]
        y.sum().backward()
    assert scale.grad.device == "cpu" and scale.grad.item() == 4
    assert cr.where(x > 0, 1.0, x).device == "cuda" and (np.ones(2) * x).device == "cuda"


def test_other_mixtures_are_refused(cuda):
    x, y = cr.ones(2, device=cuda), cr.ones(2)
    for mix in (lambda: x + y, lambda: y + x, lambda: cr.cat([x, y]), lambda: cr.where(y > 0, x, x), lambda: x @ y):
        with pytest.raises(RuntimeError, match=r"received tensors on different devices: .*; move them to one, by t.to"):
            mix()
    x.requires_grad_()
    with pytest.raises(ValueError, match="the gradient is on cpu but the output on cuda; move it, by gradient.to"):
        (x * 2).backward(y)
    with pytest.raises(TypeError, match="grad was set to a tensor of .* on cpu; a gradient .* on cuda"):
        x.grad = y
    with pytest.raises(TypeError, match=r"numpy\(\) of a tensor of shape \(2,\) on cuda: NumPy reads the CPU's memory"):
        x.detach().numpy()
    with pytest.raises(TypeError, match=r"by t.cpu\(\).numpy\(\)"):
        np.asarray(x.detach())
    assert x.grad is None and x.tolist() == [1, 1]


def test_writes_in_place(cuda):
    x = cr.zeros(3, device=cuda)
    x[0] = 1
    x[1:] = cr.tensor([2.0, 3.0])
    x += 1
    assert x.tolist() == [2, 3, 4]
    x.copy_(cr.arange(3.0)).mul_(2)
    assert x.tolist() == [0, 2, 4] and x.zero_().tolist() == [0, 0, 0] and x.fill_(7).tolist() == [7, 7, 7]
    with pytest.raises(RuntimeError, match="a write in place to read-only memory"):
        cr.zeros(1, device=cuda).expand(3).add_(1)
    leaf = cr.ones(2, device=cuda, requires_grad=True)
    y = leaf * 2
    z = y * y
    with cr.no_grad():
        y.add_(1)
    with pytest.raises(RuntimeError, match="a value that its derivative needs was changed in place"):
        z.sum().backward()
