"""Runs of modules in `Sequential` that become one operation: the same numbers, scopes and errors as one by one."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

f32, f64 = cr.float32, cr.float64
RUNS = {  # modules, shape of the input, what stands for them in the graph
    "relu, max": (lambda: [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2)], (2, 1, 9, 9), ["conv2d_act_pool"]),
    "tanh, mean": (lambda: [nn.Conv2d(2, 3, 3), nn.Tanh(), nn.AvgPool2d(2)], (2, 2, 8, 7), ["conv2d_act_pool"]),
    "no pooling": (lambda: [nn.Conv2d(2, 3, 3, padding="same"), nn.Sigmoid()], (2, 2, 5, 5), ["conv2d_act_pool"]),
    "no batch": (
        lambda: [nn.Conv2d(2, 3, 3), nn.Tanh(), nn.MaxPool2d((3, 2))],
        (2, 8, 7),
        ["reshape", "conv2d_act_pool", "reshape"],
    ),
    "groups, strides, no bias": (
        lambda: [nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), nn.ReLU(), nn.AvgPool2d(2)],
        (2, 4, 9, 9),
        ["conv2d_act_pool"],
    ),
    "overlapping windows": (
        lambda: [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2)],
        (1, 1, 9, 9),
        ["max_pool2d", "conv2d_act_pool"],
    ),
    "padded windows": (
        lambda: [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(2, padding=1)],
        (1, 1, 8, 8),
        ["avg_pool2d", "conv2d_act_pool"],
    ),
    "rounded up": (
        lambda: [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)],
        (1, 1, 9, 9),
        ["max_pool2d", "conv2d_act_pool"],
    ),
    "another divisor": (
        lambda: [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AvgPool2d(2, divisor_override=3)],
        (1, 1, 8, 8),
        ["avg_pool2d", "conv2d_act_pool"],
    ),
    "dilated windows": (
        lambda: [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2, dilation=2)],
        (1, 1, 8, 8),
        ["max_pool2d", "conv2d_act_pool"],
    ),
    "another activation": (lambda: [nn.Conv2d(1, 2, 3), nn.ELU(), nn.MaxPool2d(2)], (1, 1, 8, 8), None),
    "a pooling at once": (lambda: [nn.Conv2d(1, 2, 3), nn.MaxPool2d(2)], (1, 1, 8, 8), ["max_pool2d", "conv2d"]),
    "two runs": (
        lambda: [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Tanh(), nn.MaxPool2d(2), nn.ReLU()],
        (1, 1, 9, 9),
        ["relu", "conv2d_act_pool", "conv2d_act_pool"],
    ),
    "small products": (lambda: [nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)], (5, 4), None),
    "a large product": (lambda: [nn.Linear(16, 256), nn.Sigmoid()], (2, 600, 16), ["linear_act"]),
    "a wide product": (lambda: [nn.Linear(32, 2048), nn.ReLU()], (130, 32), ["linear_act"]),
}


def one_by_one(net, x):
    for module in net:
        x = module(x)
    return x


def nodes(tensor):
    """The nodes on the way back along the first inputs."""
    node, found = tensor.grad_fn, []
    while isinstance(node, cr.autograd.Node):
        found.append(node)
        node = node.next_functions[0]
    return found


@pytest.mark.parametrize("dtype, tolerance", [(cr.float16, 1e-2), (f32, 1e-5), (f64, 1e-12)], ids=str)
@pytest.mark.parametrize("name", RUNS)
def test_the_same_numbers(rng, name, dtype, tolerance):
    modules, shape, names = RUNS[name]
    cr.manual_seed(0)
    net = nn.Sequential(*modules()).to(dtype)
    x = cr.tensor(rng.standard_normal(shape), dtype=dtype, requires_grad=True)
    out, expected = net(x), one_by_one(net, x)
    assert out.dtype == dtype
    if names:
        assert [node.name for node in nodes(out)] == names
    leaves, seed = [x, *net.parameters()], cr.tensor(rng.standard_normal(out.shape), dtype=dtype)
    got, want = (cr.autograd.grad(y, leaves, seed) for y in (out, expected))
    for one, two in zip([out, *got], [expected, *want], strict=True):
        scale = abs(two).max().item() + 1
        one, two = (t.detach().numpy() / scale for t in (one, two))
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)
    net.eval()
    with cr.no_grad():
        np.testing.assert_array_equal(net(x).numpy(), out.detach().numpy())
    again = cr.checkpoint(net, x)
    for one, two in zip(cr.autograd.grad(again, leaves, seed), got, strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def lenet(**options):
    cr.manual_seed(0)
    return nn.models.LeNet5(**options), cr.randn(2, 1, 32, 32)


def test_what_a_node_stands_for():
    net, x = lenet(activation=nn.ReLU, pool=nn.MaxPool2d)
    found = [node for node in nodes(net(x)) if node.name == "conv2d_act_pool"]
    assert [node.path for node in found] == ["LeNet5.c5", "LeNet5.c3", "LeNet5.c1"]
    parts = [(node.params["activation"], node.params["pool"]) for node in found]
    assert parts == [("relu", None), ("relu", ("max", 2, 2)), ("relu", ("max", 2, 2))]


def test_what_is_kept_of_a_run():
    net, x = lenet(activation=nn.ReLU, pool=nn.MaxPool2d)
    first = nodes(net(x))[-1]
    own = [a for a in first.kept if isinstance(a, np.ndarray)]
    kept = {(a.dtype.name, a.shape) for a in own} - {(p.dtype.name, p.shape) for p in (x, *net.c1.parameters())}
    assert kept == {("float32", (2, 6, 14, 14)), ("uint8", (2, 6, 14, 14))}


def test_gradients_that_nobody_wants_are_not_computed(monkeypatch):
    net, x = lenet()
    for module in (net.c3, net.c5, net.f6, net.output):
        module.requires_grad_(False)
    from chainrule.kernels import cpu

    calls = []
    for name in ("conv2d_input", "conv2d_weight"):
        kernel = getattr(cpu, name)
        monkeypatch.setattr(cpu, name, lambda *a, name=name, kernel=kernel, **m: calls.append(name) or kernel(*a, **m))
    net(x).sum().backward()
    assert calls == ["conv2d_input", "conv2d_input", "conv2d_weight"]


@pytest.mark.parametrize("at", ["c1", "act1", "s2"])
@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_called(at, hook):
    net, x = lenet()
    expected, seen = net(x), []
    with getattr(net.get_submodule(at), hook)(lambda module, *_: seen.append(module)):
        out = net(x)
    assert seen == [net.get_submodule(at)]
    fused = {"c1": 2, "act1": 2, "s2": 3}[at]  # up to the pooling, the run remains
    assert [node.name for node in nodes(out)].count("conv2d_act_pool") == fused
    np.testing.assert_allclose(out.detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_forward_of_ones_own_is_called():
    net, x = lenet()
    net.act1.forward = lambda input: input * 0
    assert not one_by_one(net[:3], x).detach().numpy().any() and not net[:3](x).detach().numpy().any()

    class Mine(nn.Tanh):
        def forward(self, input):
            return input * 0

    net[1] = Mine()
    assert not net[:3](x).detach().numpy().any()


def test_whoever_watches_sees_each_layer():
    class Names(cr.autograd.Watch):
        def __init__(self):
            self.names = []

        def made(self, primitive, node, arrays, out):
            self.names.append(primitive.name)

    net, x = lenet()
    with cr.autograd.watching(Names()) as names:
        net[:3](x)
    assert names.names == ["conv2d", "tanh", "avg_pool2d"]


def test_under_autocast():
    net, x = lenet()
    with cr.autocast("cpu", dtype=cr.float16):
        out, expected = net(x), one_by_one(net, x)
    assert out.dtype == expected.dtype == cr.float16
    np.testing.assert_allclose(out.detach().float().numpy(), expected.detach().float().numpy(), rtol=1e-2, atol=1e-2)
    out.float().sum().backward()
    assert net.c1.weight.grad.dtype == f32


@pytest.mark.parametrize(
    "shape, message, note",
    [
        ((2, 3, 32, 32), "has 3 channels", "in LeNet5.c1: Conv2d(1, 6"),
        ((2, 1, 4, 4), "convolution kernel", "in LeNet5.c1: Conv2d(1, 6"),
        ((2, 1, 5, 5), "pooling kernel", "in LeNet5.s2: AvgPool2d(kernel_size"),
        ((2, 1, 14, 14), "pooling kernel", "in LeNet5.s4: AvgPool2d(kernel_size"),
    ],
)
def test_errors_name_the_module(shape, message, note):
    net, _ = lenet()
    with pytest.raises(ValueError, match=message) as caught:
        net(cr.zeros(*shape))
    assert caught.value.__notes__[-1].startswith(note)


def test_training_goes_the_same_way(rng):
    losses = []
    for fused in (True, False):
        net, x = lenet(activation=nn.ReLU, pool=nn.MaxPool2d)
        optimizer = cr.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad()
            loss = cr.cross_entropy(net(x) if fused else one_by_one(net, x), cr.tensor([1, 7]))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(losses[:5], losses[5:], rtol=1e-3)
