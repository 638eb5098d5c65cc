"""A watch is told of every operation, of what leaves the graph, and of every gradient; others see nothing of it."""

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


class Log(cr.autograd.Watch):
    def __init__(self, composed=False):
        self.composed, self.said = composed, []

    def begins(self, primitive, inputs, arrays, params):
        self.said.append(("begins", primitive.name))

    def made(self, primitive, node, arrays, out):
        self.said.append(("made", primitive.name, node is not None))

    def left(self, tensor, how, out=None):
        self.said.append(("left", how))

    def walks(self, outputs, seeds, create_graph):
        self.said.append(("walks", len(outputs), [seed.array.tolist() for seed in seeds], create_graph))

    def arrived(self, node, gradient):
        self.said.append(("arrived", node.name))

    def gave(self, node, i, gradient, fitted):
        self.said.append(("gave", node.name, i, gradient.shape, fitted.shape))

    def walked(self, gradients):
        self.said.append(("walked", len(gradients)))


def test_operations_and_gradients_are_told_in_order():
    x, b = cr.ones(2, 3, requires_grad=True), cr.ones(3, requires_grad=True)
    with cr.autograd.watching(Log()) as log:
        (x + b).sum().backward()
    assert log.said == [
        ("begins", "add"),
        ("made", "add", True),
        ("begins", "sum"),
        ("made", "sum", True),
        ("walks", 1, [1.0], False),
        ("arrived", "sum"),
        ("gave", "sum", 0, (2, 3), (2, 3)),
        ("arrived", "add"),
        ("gave", "add", 0, (2, 3), (2, 3)),
        ("gave", "add", 1, (2, 3), (3,)),
        ("walked", 2),
    ]
    assert b.grad.tolist() == [2.0, 2.0, 2.0]


def test_operations_outside_a_graph_are_told_too():
    with cr.autograd.watching(Log()) as log, cr.no_grad():
        cr.ones(2, requires_grad=True) * 2
    assert log.said[-1] == ("made", "multiply", False)


@pytest.mark.parametrize(
    "how, leave",
    [
        ("detach", lambda x: x.detach()),
        ("detach", lambda x: x.data),
        ("item", lambda x: x[0].item()),
        ("tolist", lambda x: x.tolist()),
        ("argmax", lambda x: x.argmax()),
        ("argmin", lambda x: cr.argmin(x, dim=0)),
        ("argsort", lambda x: x.argsort()),
        ("to(int64)", lambda x: x.long()),
    ],
)
def test_what_leaves_the_graph_is_told(how, leave):
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    with cr.autograd.watching(Log()) as log:
        leave(x)
    assert ("left", how) in log.said


def test_the_block_ends_also_by_an_error_and_watches_nest():
    with pytest.raises(ValueError), cr.autograd.watching(Log()) as outer:
        with cr.autograd.watching(Log()) as inner:
            cr.ones(2) * 2
        cr.ones(2) + cr.ones(3)
    cr.ones(2) * 2
    assert inner.said == [("begins", "multiply"), ("made", "multiply", False)]
    assert outer.said == [*inner.said, ("begins", "add")]


def test_gradients_are_the_same_under_a_watch():
    """Also where the engine would add a product into what has arrived before, which a watch could not see."""
    gradients = []
    for watched in (False, True):
        cr.manual_seed(0)
        w = cr.randn(4, 4, dtype=f64, requires_grad=True)
        with cr.autograd.watching(Log()) if watched else cr.enable_grad():
            y = cr.randn(3, 4, dtype=f64)
            for _ in range(3):
                y = (y @ w).tanh()
            y.sum().backward()
        gradients.append(w.grad.numpy())
    np.testing.assert_allclose(*gradients, rtol=1e-13)


def recurrent(kind):
    layer, x = getattr(cr.nn, kind)(3, 4, dtype=f64), cr.randn(5, 2, 3, dtype=f64)
    return layer, lambda: layer(x)[0]


def tree(kind):
    sizes = (4,) if kind == "RecursiveNet" else (3, 4)
    layer, nested = getattr(cr.nn, kind)(*sizes, dtype=f64), cr.nn.Tree.from_nested((((0, 1), 2), (3, 4)))
    x = cr.randn(5 if kind == "RecursiveNet" else 9, sizes[0], dtype=f64)
    first = lambda out: out[0] if isinstance(out, tuple) else out
    return layer, lambda: first(first(layer(x, nested)))


def layers(kind):
    pool = {"max": ("max", 2, 2), "avg": ("avg", 2, 2)}.get(kind)
    layer = cr.nn.Linear(3, 4, dtype=f64) if kind == "linear" else cr.nn.Conv2d(3, 4, 2, dtype=f64)
    x = cr.randn(2, 3, 5, 5, dtype=f64)
    if kind == "linear":
        return layer, lambda: cr.autograd.linear_act(x[..., :3], *layer.parameters(), activation="tanh")
    return layer, lambda: cr.autograd.conv2d_act_pool(x, *layer.parameters(), activation="tanh", pool=pool)


@pytest.mark.parametrize(
    "make, kind, fused",
    [
        (layers, "linear", "linear_act"),
        (layers, "none", "conv2d_act_pool"),
        (layers, "max", "conv2d_act_pool"),
        (layers, "avg", "conv2d_act_pool"),
        (recurrent, "RNN", "rnn_sequence"),
        (recurrent, "LSTM", "lstm_sequence"),
        (recurrent, "GRU", "gru_sequence"),
        (tree, "RecursiveNet", "rnn_tree"),
        (tree, "ChildSumTreeLSTM", "lstm_graph"),
        (tree, "NaryTreeLSTM", "lstm_graph"),
    ],
)
def test_composed_shows_the_operations_of_a_kernel_with_the_same_gradients(make, kind, fused):
    cr.manual_seed(0)
    layer, run = make(kind)
    found = []
    for composed in (False, True):
        layer.zero_grad()
        with cr.autograd.watching(Log(composed)) as log:
            run().square().sum().backward()
        names = {said[1] for said in log.said if said[0] == "made"}
        assert (fused in names) == (not composed)
        assert ("tanh" in names) == composed
        found.append([p.grad.numpy() for p in layer.parameters()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
