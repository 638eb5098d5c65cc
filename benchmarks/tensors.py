"""The work that is timed, for sides with PyTorch's names: each maker gives a function that does it once.

That function returns numbers that prove it: the loss of a step (the third one's depends on two updates), what a forward
pass gives, or the gradients. All sides begin with the same numbers.
"""

from __future__ import annotations

from given import beginning, forest, numbers, whole

from chainrule.bench import suite
from chainrule.bench.sides import Ours, Torch


def alike(side, *modules):
    """The parameters of the modules, given the same numbers on every side; those of norms stay ones."""
    draw, parameters = beginning(), [p for module in modules for p in module.parameters()]
    with side.api.no_grad():
        for p in parameters:
            if not bool((p == 1).all()):
                p.copy_(side.tensor(draw(*p.shape)))
    return parameters


# ---- the engine ------------------------------------------------------------------------------------------------------


def chain(side, length=1000, backward=True):
    """`length` multiplications (by numbers near 1: nothing overflows) and additions, alternating, on 10 numbers."""
    x = side.tensor(numbers(10)).requires_grad_()
    a, b, seed = side.tensor(1 + 0.01 * numbers(10)), side.tensor(numbers(10)), side.api.ones(10)

    def run():
        x.grad = None
        y = suite.chain(side, x, a, b, length=length)
        if not backward:
            return y
        y.backward(seed)
        return x.grad

    return run


# ---- training steps --------------------------------------------------------------------------------------------------


def _step(side, model, x, y, optimizer):
    def run():
        optimizer.zero_grad()
        loss = side.F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return run


def _sgd(side, model, x, momentum=0.0):
    optimizer = side.optim.SGD(alike(side, model), lr=0.01, momentum=momentum)
    return _step(side, model, side.tensor(x), side.tensor(whole(10, len(x))), optimizer)


def lenet(side, activation="Tanh", pool="AvgPool2d", batch=64):
    """LeNet-5 on 1×32×32: forward, backward and an SGD step with momentum."""
    return _sgd(side, suite.lenet(side, activation, pool), numbers(batch, 1, 32, 32), momentum=0.9)


def mlp(side, batch=128):
    """An MLP 784-256-10: forward, backward and an SGD step."""
    return _sgd(side, suite.mlp(side), numbers(batch, 784))


def residual(side, widths):
    """ResNet-18 as for CIFAR: torchvision's, but a stem of 3×3 with stride 1 and no pooling, as images are small."""
    nn, relu = side.nn, side.F.relu

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
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def resnet18(side, batch=32, size=32, widths=(64, 128, 256, 512)):
    """`residual`: forward, backward and an SGD step with momentum."""
    return _sgd(side, residual(side, widths), numbers(batch, 3, size, size), momentum=0.9)


VGG11 = 64, 128, (256, 256), (512, 512), (512, 512)


def plain(side, widths):
    """VGG-11 as for CIFAR: torchvision's convolutions, and one linear layer behind them, as one pixel is left."""
    nn, parts, channels = side.nn, [], 3
    for stage in widths:
        for filters in stage if isinstance(stage, tuple) else (stage,):
            parts += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        parts.append(nn.MaxPool2d(2))
    return nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels, 10))


def vgg11(side, batch=32, size=32, widths=VGG11):
    """`plain`: forward, backward and an SGD step with momentum."""
    return _sgd(side, plain(side, widths), numbers(batch, 3, size, size), momentum=0.9)


# ---- recurrent networks ----------------------------------------------------------------------------------------------


def character_model(side, kind, hidden, layers, embed, vocabulary):
    """Embedding, recurrent and linear layers."""
    nn = side.nn
    cell = getattr(nn, kind)(embed, hidden, layers)
    return nn.ModuleList([nn.Embedding(vocabulary, embed), cell, nn.Linear(hidden, vocabulary)])


def characters(side, kind="LSTM", hidden=256, layers=1, embed=64, backward=True, vocabulary=64, steps=64, batch=32):
    """A character model: an Adam step, or the embedding and the recurrent layers forward alone."""
    model = character_model(side, kind, hidden, layers, embed, vocabulary)
    optimizer = side.optim.Adam(alike(side, model), lr=1e-3)
    table, cell, out = model
    x, y = side.tensor(whole(vocabulary, steps, batch)), side.tensor(whole(vocabulary, steps * batch))

    def step():
        optimizer.zero_grad()
        scores = out(cell(table(x))[0]).reshape(steps * batch, vocabulary)
        loss = side.F.cross_entropy(scores, y)
        loss.backward()
        optimizer.step()
        return loss

    def forward():
        with side.api.no_grad():
            return cell(table(x))[0]

    return step if backward else forward


def recursive(side, trees=1, leaves=64, width=64):
    """A recursive network, p = tanh(W [a; b] + c) at each node: its layer against PyTorch's loop over the nodes."""
    nn, grown = side.nn, forest(trees, leaves)
    x = side.tensor(numbers(trees * leaves, width)).requires_grad_()
    if isinstance(side, Torch):
        net = nn.Linear(2 * width, width)

        def states():
            total = 0
            for i, tree in enumerate(grown):
                nodes = list(x[i * leaves : (i + 1) * leaves].unbind())
                for a, b in tree:
                    nodes.append(side.api.tanh(net(side.api.cat([nodes[a], nodes[b]]))))
                total = total + nodes[-1].sum()
            return total
    else:
        net = nn.RecursiveNet(width)
        layout = nn.Forest([nn.Tree([()] * leaves + tree) for tree in grown])
        states = lambda: net(x, layout)[1].sum()
    inputs = [x, *alike(side, net)]

    def run():
        for leaf in inputs:
            leaf.grad = None
        states().backward()
        return [leaf.grad for leaf in inputs]

    return run


def sentences(side, batch=50, words=50, vocabulary=5000, embed=300, filters=100, dropout=0.5):
    """Kim's sentence CNN, filters of 3, 4 and 5 words: forward, backward and an Adadelta step."""
    nn, F, api = side.nn, side.F, side.api
    if isinstance(side, Ours):
        model = nn.models.SentenceCNN(vocabulary, 2, embedding_dim=embed, filters=filters, dropout=dropout)
        parameters = alike(side, model)
    else:
        table, out, drop = nn.Embedding(vocabulary, embed), nn.Linear(3 * filters, 2), nn.Dropout(dropout)
        convolutions = [nn.Conv1d(embed, filters, size) for size in (3, 4, 5)]
        parameters = alike(side, table, *convolutions, out)

        def model(x):
            embedded = table(x).permute(0, 2, 1)
            return out(drop(api.cat([F.relu(conv(embedded)).amax(2) for conv in convolutions], 1)))

    x, y = side.tensor(whole(vocabulary, batch, words)), side.tensor(whole(2, batch))
    return _step(side, model, x, y, side.optim.Adadelta(parameters, lr=1.0))


# ---- single operations -----------------------------------------------------------------------------------------------


def layer(side, kind, x, sizes=(), classes=None, batch=None, **options):
    """A layer on numbers, or on `classes` of them, of shape x (its first size is `batch`, if given): both passes."""
    x, module = (batch or x[0], *x[1:]), getattr(side.nn, kind)(*sizes, **options)
    if classes:
        given, leaves = side.tensor(whole(classes, *x)), alike(side, module)
    else:
        given = side.tensor(numbers(*x)).requires_grad_()
        leaves = [given, *alike(side, module)]
    seed = side.tensor(numbers(*module(given).shape, stream=1))

    def run():
        for leaf in leaves:
            leaf.grad = None
        module(given).backward(seed)
        return [leaf.grad for leaf in leaves]

    return run


def conv(side, x, filters, kernel, stride=1, padding=0):
    """A convolution with bias."""
    return layer(side, "Conv2d", x, (x[1], filters, kernel), stride=stride, padding=padding)


def entropy(side, rows, classes):
    """Softmax and cross entropy."""
    x, y = side.tensor(numbers(rows, classes)).requires_grad_(), side.tensor(whole(classes, rows))

    def run():
        x.grad = None
        side.F.cross_entropy(x, y).backward()
        return x.grad

    return run


def adam(side, size, count=1):
    """An Adam step of `count` parameters of `size` numbers each; of PyTorch's ways the fastest."""
    parameters = [side.tensor(numbers(size)).requires_grad_() for _ in range(count)]
    for parameter in parameters:
        parameter.grad = side.tensor(numbers(size, stream=1))
    optimizer = side.optim.Adam(parameters, lr=1e-3, **({"fused": True} if isinstance(side, Torch) else {}))

    def run():
        optimizer.step()
        return parameters

    return run
