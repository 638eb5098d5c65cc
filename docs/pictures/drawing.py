"""Makes the pictures of docs/drawing.md again: `python docs/pictures drawing`.

Those of micrograd and torchviz too, where these packages (and PyTorch) are installed.
"""

from pathlib import Path

import chainrule as cr
from chainrule import nn, viz
from chainrule.autograd.viz.picture import render

HERE = Path(__file__).parent


def expression():
    """The first picture: an expression of numbers, and its gradients."""
    a, b, c = (cr.tensor(v, requires_grad=True) for v in (2.0, -3.0, 10.0))
    e = a * b
    d = e + c
    loss = d.tanh() * 3
    yield "draw-expression", viz.draw(loss, names={"a": a, "b": b, "c": c, "e": e, "d": d, "loss": loss})
    yield "draw-both", viz.draw(loss, mode="both", names={"a": a, "b": b, "c": c, "e": e, "d": d, "loss": loss})


def mlp():
    """A two-layer perceptron's loss, and its backward pass."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, target = cr.randn(5, 3), cr.tensor([1, 0, 1, 1, 0])
    loss = cr.cross_entropy(net(x), target)
    names = {"net": net, "x": x, "target": target, "loss": loss}
    yield "draw-mlp", viz.draw(loss, names=names)
    yield "draw-mlp-backward", viz.draw(loss, mode="backward", names=names)


def convolutions():
    """LeNet-5, with what it keeps and costs, and ResNet-18."""
    net, x, target = nn.models.LeNet5(), cr.randn(2, 1, 32, 32), cr.tensor([1, 2])
    loss = cr.cross_entropy(net(x), target)
    names = {"net": net, "x": x, "target": target, "loss": loss}
    yield "draw-lenet", viz.draw(loss, names=names)
    yield "draw-lenet-cost", viz.draw(loss, show=("saved", "cost"), names=names)
    yield "draw-module", viz.draw(net)
    net, x = nn.models.ResNet(18), cr.randn(1, 3, 64, 64)
    loss = cr.cross_entropy(net(x), cr.tensor([7]))
    names = {"net": net, "x": x, "loss": loss}
    yield "draw-resnet", viz.draw(loss, names=names)
    opened = viz.draw(loss, depth=2, expand=lambda block: block.path == "ResNet.layer2.0" or None, names=names)
    yield "draw-resnet-open", opened


def recurrence():
    """An LSTM of five steps, unrolled and rolled."""
    cell, x = nn.LSTMCell(3, 4), cr.randn(5, 2, 3)
    h, c = cr.zeros(2, 4), cr.zeros(2, 4)
    for t in range(5):
        h, c = cell(x[t], (h, c))
    loss = h.square().mean()
    names = {"cell": cell, "loss": loss}
    yield "draw-lstm", viz.draw(loss, names=names)
    yield "draw-lstm-rolled", viz.draw(loss, fold=True, depth=0, names=names)


def loop():
    """Ten thousand operations in a loop."""
    w = cr.tensor([0.5, -0.5], requires_grad=True)
    y = w
    for _ in range(5000):
        y = y * 1.0001
        y = y.tanh()
    loss = y.sum()
    yield "draw-loop", viz.draw(loss, names={"w": w, "loss": loss})


def others():
    """The examples of micrograd, torchviz and torchvista, drawn by chainrule."""
    weights, bias = [cr.tensor(v, requires_grad=True) for v in (0.6, -0.9)], cr.tensor(0.0, requires_grad=True)
    inputs = [cr.tensor(1.0, requires_grad=True), cr.tensor(-2.0, requires_grad=True)]
    with viz.record():
        y = (weights[0] * inputs[0] + weights[1] * inputs[1] + bias).relu()
        y.backward()
    names = {"w0": weights[0], "w1": weights[1], "x0": inputs[0], "x1": inputs[1], "bias": bias, "y": y}
    yield "beside-micrograd-chainrule", viz.draw(y, names=names)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    x = cr.randn(1, 8)
    y = model(x)
    yield "beside-torchviz-chainrule", viz.draw(y.mean(), names={"model": model, "x": x, "y": y})
    linear, x = nn.Linear(10, 5), cr.randn(2, 10)
    y = linear(x)
    yield "beside-torchvista-chainrule", viz.draw(y, names={"linear": linear, "x": x, "y": y})


def by_micrograd(folder):
    """The neuron of micrograd's trace_graph.ipynb, with the boxes and circles that this notebook draws."""
    import graphviz
    from micrograd.nn import Neuron, Value

    neuron = Neuron(2)
    for value, weight in zip((0.6, -0.9), neuron.w, strict=True):
        weight.data = value
    y = neuron([Value(1.0), Value(-2.0)])
    y.backward()
    graph, waiting, seen = graphviz.Digraph(graph_attr={"rankdir": "LR"}), [y], set()
    while waiting:
        value = waiting.pop()
        if value not in seen:
            seen.add(value)
            key = str(id(value))
            label = f"{{ data {value.data:.4f} | grad {value.grad:.4f} }}"
            graph.node(key, label=label, shape="record")
            if value._op:
                graph.node(key + value._op, label=value._op)
                graph.edge(key + value._op, key)
            for child in value._prev:
                graph.edge(str(id(child)), key + value._op)
                waiting.append(child)
    (folder / "beside-micrograd.svg").write_bytes(render(graph.source, "svg"))


def by_torchviz(folder):
    """The example of torchviz's README, drawn by torchviz."""
    import torch
    from torchviz import make_dot

    model = torch.nn.Sequential()
    model.add_module("W0", torch.nn.Linear(8, 16))
    model.add_module("tanh", torch.nn.Tanh())
    model.add_module("W1", torch.nn.Linear(16, 1))
    y = model(torch.randn(1, 8))
    source = make_dot(y.mean(), params=dict(model.named_parameters())).source
    (folder / "beside-torchviz.svg").write_bytes(render(source, "svg"))


def main(folder=HERE):
    """Write the pictures into a folder."""
    cr.manual_seed(0)
    for part in (expression, mlp, convolutions, recurrence, loop, others):
        for name, picture in part():
            picture.save(folder / f"{name}.svg")
    for part in (by_micrograd, by_torchviz):
        try:
            part(folder)
        except ImportError as missing:
            print(f"{part.__name__}: left as it is, {missing}")


if __name__ == "__main__":
    main()
