"""Module: registration, walking, hooks, modes, conversion, state_dict, copies and pictures in text."""

import copy
import pickle

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.scale = nn.Parameter(cr.ones(3))
        self.register_buffer("seen", cr.tensor(0))
        self.register_buffer("scratch", cr.zeros(2), persistent=False)
        self.note = "plain"

    def forward(self, x):
        return self.fc(x) * self.scale


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.body = nn.Sequential(Block(), nn.ReLU(), Block())
        self.again = self.first

    def forward(self, x):
        return self.again(self.body(self.first(x)))


def test_names_follow_the_order_of_registration():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "first.weight",
        "first.bias",
        "body.0.scale",
        "body.0.fc.weight",
        "body.0.fc.bias",
        "body.2.scale",
        "body.2.fc.weight",
        "body.2.fc.bias",
    ]
    assert [n for n, _ in net.named_buffers()] == ["body.0.seen", "body.0.scratch", "body.2.seen", "body.2.scratch"]
    assert [n for n, _ in net.named_children()] == ["first", "body"]
    assert [n for n, _ in net.named_modules("net")][:4] == ["net", "net.first", "net.body", "net.body.0"]
    assert [n for n, _ in net.named_parameters(recurse=False)] == []
    assert [n for n, _ in net.body[0].named_parameters("p", recurse=False)] == ["p.scale"]
    assert len(list(net.modules())) == 8 and len(list(net.children())) == 2
    assert len(list(net.parameters())) == 8 and len(list(net.buffers())) == 4


def test_assignment_registers_replaces_and_deletes():
    module = nn.Module()
    module.weight = nn.Parameter(cr.ones(2))
    old, module.weight = module.weight, nn.Parameter(cr.zeros(3))
    assert [p.shape for p in module.parameters()] == [(3,)] and old.shape == (2,)
    module.weight = None
    assert list(module.parameters()) == [] and module.weight is None
    module.weight = nn.Parameter(cr.ones(1))
    assert len(list(module.parameters())) == 1
    del module.weight
    assert not hasattr(module, "weight") and list(module.parameters()) == []
    module.weight = nn.Linear(1, 1)
    module.weight = nn.Parameter(cr.ones(1))
    assert list(module.children()) == [] and len(list(module.parameters())) == 1
    module.register_buffer("mean", cr.zeros(2))
    module.mean = cr.ones(2)
    assert module.state_dict()["mean"].tolist() == [1, 1]
    module.register_parameter("bias", None)
    module.bias = nn.Parameter(cr.ones(1))
    assert [n for n, _ in module.named_parameters()] == ["weight", "bias"]
    module.add_module("child", nn.ReLU())
    assert module.get_submodule("child") is module.child and module.get_submodule("") is module


def test_hooks_see_and_replace_and_leave():
    layer, seen = nn.Linear(2, 2), []
    with layer.register_forward_pre_hook(lambda m, args: (args[0] * 2,)):
        doubled = layer(cr.ones(1, 2))
    assert (doubled == layer(cr.full((1, 2), 2.0))).all()
    pre = layer.register_forward_pre_hook(lambda m, args: seen.append((m, args)))
    post = layer.register_forward_hook(lambda m, args, output: seen.append(output))
    y = layer(cr.ones(1, 2))
    assert seen[0][0] is layer and seen[1] is y
    pre.remove()
    post.remove()
    post.remove()
    layer(cr.ones(1, 2))
    assert len(seen) == 2
    with layer.register_forward_hook(lambda m, args, output: output * 0):
        assert (layer(cr.ones(1, 2)) == 0).all()
    with layer.register_forward_pre_hook(lambda m, args: cr.zeros(1, 2)):
        assert (layer(cr.ones(1, 2)) == layer.bias).all()


def test_train_eval_apply_and_requires_grad():
    net, order = Net(), []
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    assert net.apply(lambda m: order.append(type(m).__name__)) is net
    assert order == ["Linear", "Linear", "Block", "ReLU", "Linear", "Block", "Sequential", "Net"]
    net.requires_grad_(False)
    assert not net(cr.ones(1, 3)).requires_grad
    assert net.requires_grad_()(cr.ones(1, 3)).requires_grad


def test_zero_grad():
    net = Net()
    net(cr.ones(1, 3)).sum().backward()
    kept = net.first.weight.grad
    values = kept.tolist()
    net.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in net.parameters())
    assert kept.tolist() == values  # a gradient that someone holds stays
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_to_converts_in_place():
    net = Net()
    weight = net.first.weight
    net(cr.ones(1, 3)).sum().backward()
    assert net.double() is net and net.first.weight is weight
    assert weight.dtype == weight.grad.dtype == cr.float64 and weight.requires_grad and weight.is_leaf
    assert net.body[0].seen.dtype == cr.int64
    assert net(cr.ones(1, 3, dtype=cr.float64)).dtype == cr.float64
    assert net.float().first.bias.dtype == cr.float32
    assert net.to("cpu", cr.float64).first.bias.dtype == cr.float64
    assert net.to(cr.ones(1)).first.bias.dtype == cr.float32
    assert net.to(np.float64).to(device="cpu").first.bias.dtype == cr.float64


def test_state_dict_names_are_those_of_pytorch(torch):
    class Theirs(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(3, 3)
            self.norm = torch.nn.BatchNorm2d(3)
            self.again = self.first
            self.table = torch.nn.Embedding(4, 2)

    class Ours(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.norm = nn.BatchNorm2d(3)
            self.again = self.first
            self.table = nn.Embedding(4, 2)

    theirs, ours = Theirs(), Ours()
    there = theirs.state_dict()
    assert {k: tuple(v.shape) for k, v in there.items()} == {k: v.shape for k, v in ours.state_dict().items()}
    assert list(there) == list(ours.state_dict())
    assert ours.load_state_dict({k: v.numpy() for k, v in there.items()}) == ([], [])
    assert all((ours.state_dict()[k].numpy() == v.numpy()).all() for k, v in there.items())
    theirs.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})


def test_state_dict_shares_memory_and_leaves_transients_out():
    net = Net()
    state = net.state_dict(prefix="net.")
    assert "net.body.0.seen" in state and "net.body.0.scratch" not in state
    assert not any(v.requires_grad for v in state.values())
    with cr.no_grad():
        net.first.bias.fill_(7.0)
    assert (state["net.first.bias"] == 7).all()


def test_load_state_dict_round_trip():
    a, b = Net(), Net()
    assert b.load_state_dict(a.state_dict()) == ([], [])
    x = cr.ones(2, 3)
    assert (a(x) == b(x)).all()
    wide = {k: v.double() if v.is_floating_point() else v for k, v in a.state_dict().items()}
    b.load_state_dict(wide)
    assert b.first.weight.dtype == cr.float32 and (a(x) == b(x)).all()


def test_load_state_dict_not_strict():
    net = nn.Linear(2, 2)
    before = net.bias.tolist()
    keys = net.load_state_dict({"weight": np.ones((2, 2), np.float32), "extra": np.ones(1)}, strict=False)
    assert keys.missing_keys == ["bias"] and keys.unexpected_keys == ["extra"]
    assert (net.weight == 1).all() and net.bias.tolist() == before


@pytest.mark.parametrize(
    "change, message",
    [
        ({"bias": np.zeros(3, np.float32)}, r"Linear\.bias: received \(3,\) float32, expected \(2,\) float32"),
        ({"bias": np.zeros(2, np.complex64)}, "complex64"),
        ({"steps": np.zeros((), np.float32)}, r"Linear\.steps: received \(\) float32, expected \(\) int64"),
        ({"bias": "zeros"}, r"Linear\.bias: received str, expected \(2,\) float32"),
        ({"bias": None}, r"Linear\.bias: received NoneType"),
        ({"bias": ...}, r"Linear\.bias: missing, expected \(2,\) float32"),
        ({"other": np.zeros(2)}, r"Linear\.other: unexpected"),
        ({"bias": np.zeros(3), "other": np.zeros(2)}, r"(?s)Linear\.bias.*Linear\.other.*strict=False"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    net = nn.Linear(2, 2)
    net.register_buffer("steps", cr.tensor(5))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    state = {k: cr.zeros_like(v) for k, v in before.items()} | change
    state = {k: v for k, v in state.items() if v is not ...}
    with pytest.raises((RuntimeError, TypeError), match=message):
        net.load_state_dict(state)
    assert all((net.state_dict()[k] == v).all() for k, v in before.items())


def test_deepcopy_and_pickle_share_nothing():
    net = Net()
    net(cr.ones(1, 3)).sum().backward()
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert twin.again is twin.first and type(twin.first.weight) is nn.Parameter
        assert twin.first.weight.requires_grad
        assert (twin(cr.ones(1, 3)) == net(cr.ones(1, 3))).all()
        with cr.no_grad():
            twin.first.weight.fill_(0.0)
        assert not (net.first.weight == 0).all()
        assert repr(twin) == repr(net)


def test_repr_is_that_of_pytorch(torch):
    def build(nn):
        class Head(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 2, bias=False)
                self.extra = nn.ModuleList([nn.ReLU(), nn.Sequential(nn.Tanh())])

            def extra_repr(self):
                return "classes=2"

        return nn.Sequential(
            nn.Conv2d(1, 2, 3, groups=1, padding=1), nn.Flatten(), Head(), nn.ModuleDict({"a": nn.ReLU()})
        )

    assert repr(build(nn)) == repr(build(torch.nn))
    assert repr(nn.Parameter(cr.ones(1))) == repr(torch.nn.Parameter(torch.ones(1)))


def test_parameter():
    x = cr.ones(2)
    p = nn.Parameter(x)
    assert isinstance(p, cr.Tensor) and p.requires_grad and p.is_leaf
    assert not nn.Parameter(x, requires_grad=False).requires_grad
    assert type(p * 2) is cr.Tensor
    (p * 2).sum().backward()
    assert p.grad.tolist() == [2, 2]


def test_nodes_carry_the_module_path():
    net = Net()
    y = net(cr.ones(1, 3))
    assert y.grad_fn.path == "Net.again"
    assert net.body(cr.ones(1, 3)).grad_fn.path == "body.2"


def test_sequential_of_names_and_numbers():
    net = nn.Sequential({"fc": nn.Linear(2, 2), "act": nn.ReLU()})
    assert net.fc is net[0] and net[-1] is net.act and list(net) == [net.fc, net.act]
    tail = net[1:]
    assert isinstance(tail, nn.Sequential) and list(tail) == [net.act] and net.act in net
    net.append(nn.Tanh())
    assert [n for n, _ in net.named_children()] == ["fc", "act", "2"]
    net[0] = nn.Identity()
    assert isinstance(net.fc, nn.Identity)
    numbers = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid())
    del numbers[1]
    numbers.insert(0, nn.Identity())
    assert [type(m).__name__ for m in numbers] == ["Identity", "ReLU", "Sigmoid"]
    assert [n for n, _ in numbers.named_children()] == ["0", "1", "2"]
    numbers.extend([nn.ELU()])
    assert len(numbers) == 4
    del numbers[1:3]
    assert [type(m).__name__ for m in numbers] == ["Identity", "ELU"]


def test_module_list_and_dict():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    assert len(layers) == 3 and layers[-1] is list(layers)[2] and len(layers[:2]) == 2
    assert isinstance(layers[:2], nn.ModuleList)
    heads = nn.ModuleDict({"a": nn.ReLU()})
    heads["b"] = nn.Tanh()
    heads.update({"a": nn.ELU()})
    assert list(heads) == ["a", "b"] and "a" in heads and isinstance(heads["a"], nn.ELU)
    assert list(heads.items()) == list(zip(heads.keys(), heads.values()))
    popped = heads.pop("a")
    del heads["b"]
    assert isinstance(popped, nn.ELU) and len(heads) == 0


def test_sequential_keeps_a_shared_layer_at_both_places():
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert len(net) == 3 and len(list(net.parameters())) == 2
    x = cr.ones(1, 2)
    assert (net(x) == shared(cr.relu(shared(x)))).all()
