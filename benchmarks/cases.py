"""The work that is timed: each case makes, for either side, a function that does it once. The two sides do the same."""

from __future__ import annotations

import numpy as np

from chainrule.bench import suite
from chainrule.bench.sides import Ours, Torch

RNG_SEED = 0


def _numbers(*shape):
    return np.random.default_rng(RNG_SEED).standard_normal(shape).astype(np.float32)


SIDES = {"chainrule": Ours, "pytorch": Torch}


# ---- the engine ------------------------------------------------------------------------------------------------------


def chain(side, length=1000, backward=True):
    """`length` multiplications (by numbers near 1: nothing overflows) and additions, alternating, on 10 numbers."""
    x = side.tensor(_numbers(10)).requires_grad_()
    a, b, seed = side.tensor(1 + 0.01 * _numbers(10)), side.tensor(_numbers(10)), side.api.ones(10)

    def run():
        x.grad = None
        y = suite.chain(side, x, a, b, length=length)
        if backward:
            y.backward(seed)

    return run


# ---- training steps --------------------------------------------------------------------------------------------------


def _step(side, model, x, y, optimizer):
    def run():
        optimizer.zero_grad()
        side.F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return run


def _classes(side, n, classes):
    return side.tensor(np.random.default_rng(1).integers(0, classes, n))


def lenet(side, activation="Tanh", pool="AvgPool2d", batch=64):
    """LeNet-5 on 1×32×32: forward, backward and an SGD step with momentum."""
    side.api.manual_seed(0)
    model = suite.lenet(side, activation, pool)
    optimizer = side.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    return _step(side, model, side.tensor(_numbers(batch, 1, 32, 32)), _classes(side, batch, 10), optimizer)


def mlp(side, batch=128):
    """An MLP 784-256-10: forward, backward and an SGD step."""
    side.api.manual_seed(0)
    model = suite.mlp(side)
    optimizer = side.optim.SGD(model.parameters(), lr=0.01)
    return _step(side, model, side.tensor(_numbers(batch, 784)), _classes(side, batch, 10), optimizer)


# ---- recurrent networks ----------------------------------------------------------------------------------------------


def characters(side, kind="LSTM", hidden=256, layers=1, embed=64, backward=True, vocabulary=64, steps=64, batch=32):
    """A character model (embedding, recurrent, linear layers): an Adam step, or the recurrent layers forward alone."""
    nn, draw = side.nn, np.random.default_rng(1)
    side.api.manual_seed(0)
    table, cell = nn.Embedding(vocabulary, embed), getattr(nn, kind)(embed, hidden, layers)
    out = nn.Linear(hidden, vocabulary)
    x, y = (side.tensor(draw.integers(0, vocabulary, shape)) for shape in ((steps, batch), steps * batch))
    parameters = [p for part in (table, cell, out) for p in part.parameters()]
    optimizer = side.optim.Adam(parameters, lr=1e-3)

    def step():
        optimizer.zero_grad()
        scores = out(cell(table(x))[0]).reshape(steps * batch, vocabulary)
        side.F.cross_entropy(scores, y).backward()
        optimizer.step()

    def forward():
        with side.api.no_grad():
            cell(table(x))

    return step if backward else forward


def pairs(rng, leaves):
    """A random binary tree: the pairs of children of its inner nodes, leaves numbered first."""
    roots, made = list(range(leaves)), []
    while len(roots) > 1:
        at = int(rng.integers(len(roots) - 1))
        made.append((roots[at], roots.pop(at + 1)))
        roots[at] = leaves + len(made) - 1
    return made


def recursive(side, trees=1, leaves=64, width=64):
    """A recursive network, p = tanh(W [a; b] + c) at each node: its layer against PyTorch's loop over the nodes."""
    rng, nn = np.random.default_rng(2), side.nn
    forest = [pairs(rng, leaves) for _ in range(trees)]  # of children; PyTorch's side has a Python loop over them
    x = side.tensor(_numbers(trees * leaves, width)).requires_grad_()
    side.api.manual_seed(0)
    if isinstance(side, Torch):
        combine = nn.Linear(2 * width, width)

        def states():
            total = 0
            for i, tree in enumerate(forest):
                nodes = list(x[i * leaves : (i + 1) * leaves].unbind())
                for a, b in tree:
                    nodes.append(side.api.tanh(combine(side.api.cat([nodes[a], nodes[b]]))))
                total = total + nodes[-1].sum()
            return total
    else:
        net = nn.RecursiveNet(width)
        layout = nn.Forest([nn.Tree([()] * leaves + tree) for tree in forest])
        states = lambda: net(x, layout)[1].sum()

    def run():
        x.grad = None
        states().backward()

    return run


def sentences(side, batch=50, words=50, vocabulary=5000, embed=300, filters=100):
    """Kim's sentence CNN, filters of 3, 4 and 5 words: forward, backward and an Adadelta step."""
    nn, F, api = side.nn, side.F, side.api
    api.manual_seed(0)
    if isinstance(side, Ours):
        model = nn.models.SentenceCNN(vocabulary, 2, embedding_dim=embed, filters=filters)
        parameters = list(model.parameters())
    else:
        table, out, drop = nn.Embedding(vocabulary, embed), nn.Linear(3 * filters, 2), nn.Dropout(0.5)
        convolutions = [nn.Conv1d(embed, filters, size) for size in (3, 4, 5)]
        parameters = [p for part in (table, *convolutions, out) for p in part.parameters()]

        def model(x):
            embedded = table(x).permute(0, 2, 1)
            return out(drop(api.cat([F.relu(conv(embedded)).amax(2) for conv in convolutions], 1)))

    x = side.tensor(np.random.default_rng(1).integers(0, vocabulary, (batch, words)))
    return _step(side, model, x, _classes(side, batch, 2), side.optim.Adadelta(parameters, lr=1.0))


# ---- convolutions ----------------------------------------------------------------------------------------------------


def conv(side, x, filters, kernel, stride=1, padding=0, backward=True):
    """One convolution with bias, forward and (both gradients) backward."""
    image = side.tensor(_numbers(*x)).requires_grad_(backward)
    weight = side.tensor(_numbers(filters, x[1], kernel, kernel)).requires_grad_(backward)
    bias = side.tensor(_numbers(filters)).requires_grad_(backward)
    seed = None

    def run():
        nonlocal seed
        image.grad = weight.grad = bias.grad = None
        out = side.F.conv2d(image, weight, bias, stride=stride, padding=padding)
        if backward:
            if seed is None:
                seed = side.tensor(_numbers(*out.shape))
            out.backward(seed)

    return run


#: case name -> (group, maker, options)
CASES = {
    "chain of 1000 operations on 10 numbers, forward + backward": ("engine", chain, {}),
    "chain of 1000 operations on 10 numbers, forward": ("engine", chain, {"backward": False}),
    "LeNet-5 step, batch 64 (tanh, average pooling)": ("steps", lenet, {}),
    "LeNet-5 step, batch 64 (ReLU, max pooling)": ("steps", lenet, dict(activation="ReLU", pool="MaxPool2d")),
    "MLP 784-256-10 step, batch 128": ("steps", mlp, {}),
    "character LSTM step, hidden 256, T 64, batch 32, Adam": ("recurrent", characters, {}),
    "character LSTM step, 2 layers, hidden 512": ("recurrent", characters, dict(hidden=512, layers=2, embed=128)),
    "character GRU step, hidden 256": ("recurrent", characters, dict(kind="GRU")),
    "LSTM 256 forward, no_grad": ("recurrent", characters, dict(backward=False)),
    "GRU 256 forward, no_grad": ("recurrent", characters, dict(kind="GRU", backward=False)),
    "recursive net, one tree of 64 leaves, width 64": ("recurrent", recursive, {}),
    "recursive net, 32 trees of 64 leaves (PyTorch: a loop)": ("recurrent", recursive, dict(trees=32)),
    "sentence CNN step (Kim), 50 sentences of 50 words": ("recurrent", sentences, {}),
    "conv 16×64×56×56, 64 filters 3×3 pad 1": ("conv", conv, dict(x=(16, 64, 56, 56), filters=64, kernel=3, padding=1)),
    "conv 16×3×64×64, 32 filters 3×3 pad 1": ("conv", conv, dict(x=(16, 3, 64, 64), filters=32, kernel=3, padding=1)),
    "conv 16×128×28×28, 128 filters 3×3 pad 1": (
        "conv",
        conv,
        dict(x=(16, 128, 28, 28), filters=128, kernel=3, padding=1),
    ),
    "conv 8×3×224×224, 64 filters 11×11 stride 4 pad 2": (
        "conv",
        conv,
        dict(x=(8, 3, 224, 224), filters=64, kernel=11, stride=4, padding=2),
    ),
    "conv 16×64×56×56, 128 filters 1×1": ("conv", conv, dict(x=(16, 64, 56, 56), filters=128, kernel=1)),
}

#: case name -> (maker, options, options that make it small)
PEAKS = {
    "peak memory of the character LSTM step, 2 layers, hidden 512": (
        characters,
        dict(hidden=512, layers=2, embed=128),
        dict(hidden=16, embed=8, steps=3, batch=2, vocabulary=8),
    ),
}
