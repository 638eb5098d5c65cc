"""The work that is timed: each case makes, for a side, a function that does it once. All sides do the same.

A side with PyTorch's names runs the case's maker; one that differentiates functions of arrays (JAX, HIPS autograd) runs
what `FORMULAS` has in its place, if anything.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module

import numpy as np

from chainrule.bench import formulas, suite
from chainrule.bench.sides import Ours, Tensors, Torch, side

RNG_SEED = 0


def _numbers(*shape):
    return np.random.default_rng(RNG_SEED).standard_normal(shape).astype(np.float32)


#: name -> how to make it
SIDES = {"chainrule": Ours, "pytorch": Torch, "jax": partial(side, "jax"), "autograd": partial(side, "autograd")}


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


def _sgd(side, model, batch, size, channels=3):
    x, y = side.tensor(_numbers(batch, channels, size, size)), _classes(side, batch, 10)
    return _step(side, model, x, y, side.optim.SGD(model.parameters(), lr=0.01, momentum=0.9))


def resnet18(side, batch=32, size=32, widths=(64, 128, 256, 512)):
    """ResNet-18 as for CIFAR: torchvision's, but a stem of 3×3 with stride 1 and no pooling, as images are small."""
    nn, relu = side.nn, side.F.relu
    side.api.manual_seed(0)

    def normed(channels, filters, kernel, stride):
        conv = nn.Conv2d(channels, filters, kernel, stride=stride, padding=kernel // 2, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(filters))

    class Block(nn.Module):
        def __init__(self, channels, filters, stride):
            super().__init__()
            self.first, self.second = normed(channels, filters, 3, stride), normed(filters, filters, 3, 1)
            self.past = nn.Identity() if stride == 1 else normed(channels, filters, 1, stride)

        def forward(self, x):
            return relu(self.second(relu(self.first(x))) + self.past(x))

    blocks, channels = [normed(3, widths[0], 3, 1), nn.ReLU()], widths[0]
    for filters in widths:
        blocks += [Block(channels, filters, 1 if filters == channels else 2), Block(filters, filters, 1)]
        channels = filters
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)
    return _sgd(side, nn.Sequential(*blocks, *head), batch, size)


def vgg11(side, batch=32, size=32, widths=(64, 128, (256, 256), (512, 512), (512, 512))):
    """VGG-11 as for CIFAR: torchvision's convolutions, and one linear layer behind them, as one pixel is left."""
    nn, parts, channels = side.nn, [], 3
    side.api.manual_seed(0)
    for stage in widths:
        for filters in stage if isinstance(stage, tuple) else (stage,):
            parts += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        parts.append(nn.MaxPool2d(2))
    return _sgd(side, nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels, 10)), batch, size)


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


# ---- single operations -----------------------------------------------------------------------------------------------


def layer(side, kind, x, sizes=(), classes=None, batch=None, **options):
    """A layer on numbers, or on `classes` of them, of shape x (its first size is `batch`, if given): both passes."""
    side.api.manual_seed(0)
    x, module = (batch or x[0], *x[1:]), getattr(side.nn, kind)(*sizes, **options)
    if classes:
        given, leaves = side.tensor(np.random.default_rng(1).integers(0, classes, x)), list(module.parameters())
    else:
        given = side.tensor(_numbers(*x)).requires_grad_()
        leaves = [given, *module.parameters()]
    seed = side.tensor(_numbers(*module(given).shape))

    def run():
        for leaf in leaves:
            leaf.grad = None
        module(given).backward(seed)

    return run


def conv(side, x, filters, kernel, stride=1, padding=0):
    """A convolution with bias."""
    return layer(side, "Conv2d", x, (x[1], filters, kernel), stride=stride, padding=padding)


def entropy(side, rows, classes):
    """Softmax and cross entropy."""
    x, y = side.tensor(_numbers(rows, classes)).requires_grad_(), _classes(side, rows, classes)

    def run():
        x.grad = None
        side.F.cross_entropy(x, y).backward()

    return run


def adam(side, size, count=1):
    """An Adam step of `count` parameters of `size` numbers each; of PyTorch's ways the fastest."""
    parameters = [side.tensor(_numbers(size)).requires_grad_() for _ in range(count)]
    for parameter in parameters:
        parameter.grad = side.tensor(_numbers(size))
    return side.optim.Adam(parameters, lr=1e-3, **({"fused": True} if isinstance(side, Torch) else {})).step


# ---- the same as functions of arrays ---------------------------------------------------------------------------------


def _compiled(side, function):
    """The function as a whole, called and waited for."""
    function = side.compile(function) if side.compile else function
    return (lambda *arrays: side.wait(function(*arrays))) if side.wait else function


def _value_and_grad(side, loss):
    return import_module(side.name).value_and_grad(loss)


def _differentiated(side, value, leaves, out):
    """A value, and the gradients of its product with given numbers of the shape `out`."""
    seed = side.xp.array(_numbers(*out))
    leaves = [side.xp.array(leaf) for leaf in leaves]
    work = _compiled(side, _value_and_grad(side, lambda leaves, seed: side.xp.sum(value(*leaves) * seed)))
    return lambda: work(leaves, seed)


def chain_formula(side, length=1000):
    """`chain`."""
    a, b = side.xp.array(1 + 0.01 * _numbers(10)), side.xp.array(_numbers(10))
    value = lambda x: formulas.chain(side.xp, x, a, b, length=length)
    return _differentiated(side, value, [_numbers(10)], (10,))


def conv_formula(side, x, filters, kernel, stride=1, padding=0):
    """`conv`."""
    value = partial(side.own[formulas.conv], side.xp, stride=stride, pad=padding)
    rows, columns = ((size + 2 * padding - kernel) // stride + 1 for size in x[2:])
    leaves = _numbers(*x), _numbers(filters, x[1], kernel, kernel), _numbers(filters)
    return _differentiated(side, value, leaves, (x[0], filters, rows, columns))


def _trained(side, loss, model, x, momentum=0.0):
    """A step of SGD of the model's parameters, whose first values are PyTorch's."""
    xp, gradients = side.xp, _value_and_grad(side, loss)
    start = [xp.array(p.detach().numpy()) for p in model.parameters()]
    state = start, [xp.zeros_like(p) for p in start]
    x, y = xp.array(x), xp.array(np.random.default_rng(1).integers(0, 10, len(x)))

    def step(state, x, y):
        parameters, velocities = state
        value, slopes = gradients(parameters, x, y)
        velocities = [momentum * v + g for v, g in zip(velocities, slopes, strict=True)]
        return ([p - 0.01 * v for p, v in zip(parameters, velocities, strict=True)], velocities), value

    step = _compiled(side, step)

    def run():
        nonlocal state
        state, _ = step(state, x, y)

    return run


def mlp_formula(side, batch=128):
    """`mlp`."""
    loss = lambda parameters, x, y: formulas.mlp(side.xp, *parameters, x, y)
    return _trained(side, loss, suite.mlp(Ours()), _numbers(batch, 784))


def lenet_formula(side, activation="Tanh", pool="AvgPool2d", batch=64):
    """`lenet`."""
    xp = side.xp
    act = xp.tanh if activation == "Tanh" else lambda x: xp.maximum(x, 0)
    convolve = partial(side.own[formulas.conv], xp, stride=1, pad=0)
    halve = partial(side.own[formulas.avg_pool if pool == "AvgPool2d" else formulas.max_pool], xp, k=2, stride=2, pad=0)

    def loss(parameters, x, y):
        k1, c1, k2, c2, w1, b1, w2, b2, w3, b3 = parameters
        x = halve(act(convolve(halve(act(convolve(x, k1, c1))), k2, c2)))
        x = act(act(x.reshape(len(y), -1) @ w1.T + b1) @ w2.T + b2)
        return formulas.cross_entropy(xp, x @ w3.T + b3, y)

    return _trained(side, loss, suite.lenet(Ours()), _numbers(batch, 1, 32, 32), momentum=0.9)


#: side -> maker -> the same by functions of arrays
FORMULAS = {
    "jax": {chain: chain_formula, mlp: mlp_formula, lenet: lenet_formula, conv: conv_formula},
    "autograd": {chain: chain_formula, mlp: mlp_formula},
}


# ---- the table -------------------------------------------------------------------------------------------------------

_LAYERS = {
    "max-pool 32×64×32×32, 2×2": ("MaxPool2d", (32, 64, 32, 32), (2,)),
    "max-pool 16×64×56×56, 3×3 stride 2 pad 1": ("MaxPool2d", (16, 64, 56, 56), (3, 2, 1)),
    "average pool 32×64×32×32, 2×2": ("AvgPool2d", (32, 64, 32, 32), (2,)),
    "average pool 16×64×56×56, 3×3 stride 2 pad 1": ("AvgPool2d", (16, 64, 56, 56), (3, 2, 1)),
    "average pool 32×512×7×7 to one number": ("AdaptiveAvgPool2d", (32, 512, 7, 7), (1,)),
    "batch norm 32×64×32×32": ("BatchNorm2d", (32, 64, 32, 32), (64,)),
    "batch norm 32×512×4×4": ("BatchNorm2d", (32, 512, 4, 4), (512,)),
    "layer norm 2048×512": ("LayerNorm", (2048, 512), (512,)),
    "layer norm 1024×64": ("LayerNorm", (1024, 64), (64,)),
    "embedding of 64×32 out of 64, width 64": ("Embedding", (64, 32), (64, 64), 64),
    "embedding of 50×50 out of 5000, width 300": ("Embedding", (50, 50), (5000, 300), 5000),
    "embedding of 64×32 out of 50000, width 128": ("Embedding", (64, 32), (50_000, 128), 50_000),
}

#: case name -> (group, maker, options)
CASES = {
    "chain of 1000 operations on 10 numbers, forward + backward": ("engine", chain, {}),
    "chain of 1000 operations on 10 numbers, forward": ("engine", chain, {"backward": False}),
    "LeNet-5 step, batch 64 (tanh, average pooling)": ("steps", lenet, {}),
    "LeNet-5 step, batch 64 (ReLU, max pooling)": ("steps", lenet, dict(activation="ReLU", pool="MaxPool2d")),
    "MLP 784-256-10 step, batch 128": ("steps", mlp, {}),
    "ResNet-18 step, 32×32, batch 32": ("steps", resnet18, {}),
    "VGG-11 step, 32×32, batch 32": ("steps", vgg11, {}),
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
    **{name: ("ops", layer, dict(zip(("kind", "x", "sizes", "classes"), row))) for name, row in _LAYERS.items()},
    "softmax cross entropy 128×10": ("ops", entropy, dict(rows=128, classes=10)),
    "softmax cross entropy 2048×64": ("ops", entropy, dict(rows=2048, classes=64)),
    "softmax cross entropy 256×1000": ("ops", entropy, dict(rows=256, classes=1000)),
    "softmax cross entropy 512×20000": ("ops", entropy, dict(rows=512, classes=20_000)),
    "Adam on 10 million numbers": ("ops", adam, dict(size=10_000_000)),
    "Adam on 10 million numbers in 50 parameters": ("ops", adam, dict(size=200_000, count=50)),
}

#: maker -> options that make it tiny, for smoke tests and for the memory that was there before the work
SMALL = {
    chain: dict(length=10),
    conv: dict(x=(1, 3, 16, 16), filters=2, kernel=3),
    characters: dict(hidden=16, embed=8, steps=3, batch=2, vocabulary=8),
    recursive: dict(leaves=4, width=3),
    sentences: dict(batch=2, vocabulary=9, embed=4, filters=3),
    lenet: dict(batch=2),
    mlp: dict(batch=2),
    resnet18: dict(batch=2, size=16, widths=(4, 8)),
    vgg11: dict(batch=2, widths=(4, 4, 4, 4, 4)),
    layer: dict(batch=2),
    entropy: dict(rows=4, classes=5),
    adam: dict(size=100),
}

#: of these the highest memory is measured too
PEAKS = ("character LSTM step, 2 layers, hidden 512",)
#: of these the first step after the import is measured
FIRST = (
    "MLP 784-256-10 step, batch 128",
    "LeNet-5 step, batch 64 (tanh, average pooling)",
    "character LSTM step, hidden 256, T 64, batch 32, Adam",
)
#: nodes of chains whose cost per node is measured
NODES = (1_000, 10_000, 100_000, 1_000_000)


def runs(name, case):
    """Whether a side can run a case; functions of arrays have no forward pass that records."""
    _, maker, options = CASES[case]
    return name not in FORMULAS or (maker in FORMULAS[name] and options.get("backward", True))


def make(side, case, small=False):
    """A function that does the work of a case once."""
    _, maker, options = CASES[case]
    options = {**options, **SMALL[maker]} if small else options
    return (maker if isinstance(side, Tensors) else FORMULAS[side.name][maker])(side, **options)
