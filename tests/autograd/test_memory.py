"""Graphs are freed by reference counting alone, kept values as they are consumed, and nothing recurses."""

import copy
import gc
import pickle
import sys
import weakref

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


@pytest.fixture(autouse=True)
def without_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def nodes_of(*outputs):
    """Every node behind the outputs, found by its own walk."""
    found, stack = {}, [t.grad_fn for t in outputs if t.grad_fn is not None]
    while stack:
        node = stack.pop()
        if id(node) not in found:
            found[id(node)] = node
            stack.extend(n for n in node.next_functions if type(n) is cr.autograd.Node)
    return list(found.values())


def watched(*outputs):
    """Weak references to every node behind the outputs and to every array that they keep."""
    nodes = nodes_of(*outputs)
    arrays = [value for node in nodes for value in node.kept or () if isinstance(value, np.ndarray)]
    return [weakref.ref(x) for x in (*nodes, *arrays)]


def alive(references):
    return [r() for r in references if r() is not None]


def network(x, w):
    h = cr.tanh(x @ w)
    a, order = cr.sort(h, 0)
    parts = cr.split(cr.softmax(a, -1), 2)
    return (cr.cat(parts) * h[0].reshape(1, -1)).sum()


def inputs():
    return cr.randn(4, 3, dtype=f64, requires_grad=True), cr.randn(3, 3, dtype=f64, requires_grad=True)


# ---- small -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [lambda y: y * 1.0, lambda y: y + 0.5, cr.tanh, cr.relu])
def test_a_node_of_a_chain_is_one_object_for_the_collector(step):
    y = step(cr.ones(3, requires_grad=True))
    before = len(gc.get_objects())
    for _ in range(1000):
        y = step(y)
    assert 1000 <= len(gc.get_objects()) - before < 1050


# ---- freed -----------------------------------------------------------------------------------------------------------


def test_a_graph_that_is_never_walked():
    x, w = inputs()
    y = network(x, w)
    references = watched(y)
    assert len(references) > 15
    owned = {id(x.array), id(w.array)}
    del y
    assert all(id(a) in owned for a in alive(references))


def test_after_backward():
    x, w = inputs()
    y = network(x, w)
    references = watched(y)
    y.backward()
    kept = [r for r in references if isinstance(r(), np.ndarray) and r() is not x.array and r() is not w.array]
    assert all(r() is y.array for r in kept)  # values went as they were consumed, though y and its nodes still live
    del y
    assert all(a is x.array or a is w.array for a in alive(references))


def test_kept_values_go_while_the_walk_is_under_way():
    x = cr.ones(1000, requires_grad=True)
    first = cr.exp(x * 1)
    early = weakref.ref(first.array)
    second = cr.exp(first * 1)
    late = weakref.ref(second.array)
    y = (second * 1).sum()
    seen = []
    first.register_hook(lambda g: seen.append((early() is not None, late() is not None)))
    del first, second
    y.backward()
    assert seen == [(True, False)]  # exp's result keeps its own value until it has been visited; the later one is gone


@pytest.mark.parametrize("order", [1, 2, 3])
def test_after_create_graph(order):
    x, w = inputs()
    y = network(x, w)
    references = watched(y)
    for _ in range(order):
        y = sum(g.sum() for g in cr.autograd.grad(y, [x, w], create_graph=True))
        references += watched(y)
    del y
    assert all(a is x.array or a is w.array for a in alive(references))


def test_after_backward_with_create_graph():
    x, w = inputs()
    y = network(x, w)
    y.backward(create_graph=True)
    references = watched(y, x.grad, w.grad)
    del y
    x.grad = w.grad = None
    assert all(a is x.array or a is w.array for a in alive(references))


def test_hooks_and_retained_gradients():
    x, w = inputs()
    h = x @ w
    h.retain_grad()
    h.register_hook(lambda g: g * 2)
    handle = h.register_hook(lambda g: None)
    y = cr.tanh(h).sum()
    references = [*watched(y), weakref.ref(h)]
    y.backward()
    assert h.grad is not None
    gradient = weakref.ref(h.grad.array)
    del y, h
    assert gradient() is None
    assert all(a is x.array or a is w.array for a in alive(references))
    handle.remove()
    assert not cr.autograd.graph.node_hooks


def test_hooks_of_dead_leaves_are_forgotten():
    x = cr.ones(1, requires_grad=True)
    big = np.zeros(10)
    reference = weakref.ref(big)
    x.register_hook(lambda g, big=big: None)
    del big, x
    assert reference() is None
    assert not cr.autograd.graph.leaf_hooks


@pytest.mark.parametrize("where", ["forward", "hook", "rule"])
def test_after_an_exception(where):
    @cr.primitive
    def fragile(k, x):
        if where == "forward":
            raise ValueError("planted")
        return x + 0

    @fragile.vjp("x")
    def fragile_dx(g):
        if where == "rule":
            raise ValueError("planted")
        return g

    def attempt():
        x, w = inputs()
        h = cr.tanh(x @ w)
        references = [*watched(h), weakref.ref(x), weakref.ref(w)]
        try:
            y = fragile(h * h)
            references += watched(y)
            if where == "hook":
                h.register_hook(lambda g: 1 / 0)
            y.sum().backward()
        except (ValueError, ZeroDivisionError):
            pass
        return references

    assert not alive(attempt())


def test_transforms_checkpoint_and_anomaly_leave_nothing():
    def attempt():
        x, w = inputs()
        with cr.detect_anomaly():
            y = network(x, w)
            y.backward(retain_graph=True)
        cr.hessian(lambda w: network(x, w))(w)
        value, pull = cr.vjp(lambda w: network(x, w), w)
        pull()
        z = cr.checkpoint(network, x, w)
        z.backward()
        return [*watched(y), *watched(value), *watched(z), *map(weakref.ref, (x, w, y, value, z))]

    references = attempt()
    assert not alive(references)


def test_writes_in_place_are_forgotten_with_their_memory():
    log = cr.autograd.graph.writes._log
    before = len(log)
    t = cr.zeros(3)
    t.add_(1)
    assert len(log) == before + 1
    del t
    assert len(log) == before


def test_a_training_loop_does_not_grow():
    x, w = inputs()

    def steps(n):
        for _ in range(n):
            w.grad = None
            network(x, w).backward()
            with cr.no_grad():
                w.add_(w.grad, alpha=-0.01)

    steps(3)
    before = len(gc.get_objects())
    steps(20)
    assert abs(len(gc.get_objects()) - before) < 50


def test_results_do_not_keep_frames_alive():
    class Big:
        pass

    def make():
        local = Big()
        y = cr.ones(1, requires_grad=True) * 2
        return y, weakref.ref(local)

    y, local = make()
    assert local() is None
    assert "make" in y.grad_fn.line


# ---- a million nodes -------------------------------------------------------------------------------------------------

N = 1_000_000


@pytest.fixture(scope="module")
def long_chain():
    """x and x · 1 · 1 · …: a million nodes."""
    x = cr.tensor([1.0, 2.0], dtype=f64, requires_grad=True)
    y = x
    for _ in range(N - 1):
        y = y * 1.0
    return {"x": x, "y": y.sum()}


def test_a_long_chain_is_walked_twice(long_chain):
    x, y = long_chain["x"], long_chain["y"]
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [1, 1]


def test_a_long_chain_is_written_as_dot(long_chain, tmp_path):
    pytest.importorskip("graphviz")
    from chainrule import viz

    picture = viz.draw(long_chain["y"])
    path = picture.save(tmp_path / "long.dot")
    assert "× 999,999" in path.read_text()  # the multiplications, drawn once
    counts = {box.of.name: box.count for box in picture.sketch.boxes.values() if box.kind == "operation"}
    assert counts == {"multiply": N - 1, "sum": 1} and len(picture.sketch.program.steps) == N
    assert any(arrow.kind == "loop" for arrow in picture.sketch.arrows)


def test_copies_of_a_long_chain_are_refused_and_of_its_leaf_are_not(long_chain):
    y = long_chain["y"]
    with pytest.raises(
        RuntimeError, match=r"deepcopy of a tensor of shape \(\) that an operation computed.*t\.detach\(\)"
    ):
        copy.deepcopy(y)
    with pytest.raises(TypeError, match="pickle of a tensor that an operation computed: its graph cannot be stored"):
        pickle.dumps(y)
    assert copy.deepcopy(long_chain["x"]).tolist() == [1, 2]
    assert repr(y).startswith("tensor(3., dtype=float64, grad_fn=<sum #")


def test_a_long_chain_is_freed_without_recursion(long_chain):
    limit = sys.getrecursionlimit()
    last = weakref.ref(long_chain["y"].grad_fn)
    first = long_chain["y"].grad_fn
    while type(first.next_functions[0]) is cr.autograd.Node:
        first = first.next_functions[0]
    first = weakref.ref(first)
    sys.setrecursionlimit(200)
    try:
        del long_chain["y"]
    finally:
        sys.setrecursionlimit(limit)
    assert last() is None and first() is None


def test_a_long_chain_under_create_graph():
    x = cr.tensor(1.0, dtype=f64, requires_grad=True)
    y = x * x
    for _ in range(20_000):
        y = y * 1.0
    (dx,) = cr.autograd.grad(y, [x], create_graph=True)
    assert cr.autograd.grad(dx, [x])[0].item() == 2


def test_a_wide_graph_is_walked_and_freed():
    x = cr.tensor(1.0, dtype=f64, requires_grad=True)
    y = cr.stack([x * float(i) for i in range(20_000)]).sum()
    last = weakref.ref(y.grad_fn)
    y.backward()
    assert x.grad.item() == 20_000 * 19_999 / 2
    del y
    assert last() is None
