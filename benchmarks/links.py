"""The same work in Chainer's links and functions, run by an interpreter of its own: Chainer needs a NumPy below 1.24.

Each maker has the name, the options and the results of one in `tensors.py`. It is written as users of Chainer would for
speed: types are not checked, and recurrent layers multiply their inputs once for all steps and then loop over them (so
does `L.NStepLSTM` on a CPU, which puts its weights together anew in every step).
"""

from functools import partial

import chainer
import numpy as np
from chainer import Parameter, Sequential, functions as F, links as L, optimizers
from given import beginning, forest, numbers, whole


class Chainer:
    """Chainer."""

    version = chainer.__version__

    def __init__(self):
        chainer.config.type_check = False

    def threads(self, n):
        """NumPy has those that its process was started with."""

    def numpy(self, result):
        return getattr(result, "array", result)


def begun(link):
    """The link with the numbers that all sides begin with; factors of norms stay ones."""
    draw = beginning()
    for part in _parts(link):
        for name in ("W", "U", "b", "c", "beta"):
            parameter = getattr(part, name, None)
            if parameter is not None:
                parameter.array = draw(*parameter.shape)
    return link


def _parts(link):
    """The links that have no links, in the order of their use, which `Sequential.links()` has not."""
    inner = link if isinstance(link, Sequential) else link.children()
    return [part for each in inner if isinstance(each, chainer.Link) for part in _parts(each)] or [link]


def _differentiated(value, leaves, seed=None):
    """Work that computes a value and gives the gradients of the leaves."""

    def run():
        for leaf in leaves:
            leaf.cleargrad()
        out = value()
        out.grad = seed
        out.backward()
        return [leaf.grad for leaf in leaves]

    return run


def _learnt(model, optimizer, scores, y):
    """Work that takes a step down the cross entropy of the scores."""
    optimizer.setup(model)

    def run():
        model.cleargrads()
        loss = F.softmax_cross_entropy(scores(), y)
        loss.backward()
        optimizer.update()
        return loss

    return run


# ---- the engine, single operations -----------------------------------------------------------------------------------


def chain(_, length=1000, backward=True):
    x = Parameter(numbers(10))
    a, b = (chainer.Variable(array, requires_grad=False) for array in (1 + 0.01 * numbers(10), numbers(10)))

    def value():
        y = x
        for _ in range(length // 2):
            y = y * a
            y = y + b
        return y

    return _differentiated(value, [x], np.ones(10, np.float32)) if backward else value


def _pool(function, k, stride=None, pad=0):
    return Sequential(partial(function, ksize=k, stride=stride, pad=pad))


#: kinds of layers
LAYERS = {
    "MaxPool2d": partial(_pool, partial(F.max_pooling_2d, cover_all=False)),
    "AvgPool2d": partial(_pool, F.average_pooling_2d),
    "AdaptiveAvgPool2d": lambda size: Sequential(partial(F.mean, axis=(2, 3), keepdims=True)),
    "BatchNorm2d": partial(L.BatchNormalization, eps=1e-5),
    "LayerNorm": partial(L.LayerNormalization, eps=1e-5),
    "Embedding": L.EmbedID,
}


def layer(_, kind, x, sizes=(), classes=None, batch=None):
    x = batch or x[0], *x[1:]
    return _layer(LAYERS[kind](*sizes), whole(classes, *x) if classes else Parameter(numbers(*x)))


def conv(_, x, filters, kernel, stride=1, padding=0):
    return _layer(L.Convolution2D(x[1], filters, kernel, stride, padding), Parameter(numbers(*x)))


def _layer(link, x):
    begun(link)
    leaves = [x] if isinstance(x, Parameter) else []
    leaves += [getattr(link, name) for name in ("W", "gamma", "b", "beta") if hasattr(link, name)]
    return _differentiated(lambda: link(x), leaves, numbers(*link(x).shape, stream=1))


def entropy(_, rows, classes):
    x, y = Parameter(numbers(rows, classes)), whole(classes, rows)
    return _differentiated(lambda: F.softmax_cross_entropy(x, y), [x])


def adam(_, size, count=1):
    parameters, optimizer = [Parameter(numbers(size)) for _ in range(count)], optimizers.Adam(alpha=1e-3)
    link = chainer.Link()
    with link.init_scope():
        for i, parameter in enumerate(parameters):
            setattr(link, f"p{i}", parameter)
    optimizer.setup(link)
    for parameter in parameters:
        parameter.grad = numbers(size, stream=1)

    def run():
        optimizer.update()
        return parameters

    return run


# ---- networks of images ----------------------------------------------------------------------------------------------


def _images(model, batch, *size, momentum=0.9):
    """A step of SGD."""
    optimizer = optimizers.MomentumSGD(lr=0.01, momentum=momentum) if momentum else optimizers.SGD(lr=0.01)
    x, y = numbers(batch, *size), whole(10, batch)
    return _learnt(begun(model), optimizer, lambda: model(x), y)


def mlp(_, batch=128):
    return _images(Sequential(L.Linear(784, 256), F.relu, L.Linear(256, 10)), batch, 784, momentum=0)


def lenet(_, activation="Tanh", pool="AvgPool2d", batch=64):
    act, pool = {"Tanh": F.tanh, "ReLU": F.relu}[activation], LAYERS[pool](2)
    model = Sequential(
        L.Convolution2D(1, 6, 5), act, pool, L.Convolution2D(6, 16, 5), act, pool,
        L.Linear(400, 120), act, L.Linear(120, 84), act, L.Linear(84, 10),
    )  # fmt: skip
    return _images(model, batch, 1, 32, 32)


def _normed(channels, filters, kernel, stride=1):
    convolution = L.Convolution2D(channels, filters, kernel, stride, kernel // 2, nobias=True)
    return Sequential(convolution, L.BatchNormalization(filters, eps=1e-5))


class Block(chainer.Chain):
    """Two convolutions, and a way past them; a chain has its links in the order of their names."""

    def __init__(self, channels, filters, stride):
        super().__init__()
        with self.init_scope():
            self.first, self.second = _normed(channels, filters, 3, stride), _normed(filters, filters, 3)
            self.shortcut = _normed(channels, filters, 1, stride) if stride > 1 else None

    def forward(self, x):
        past = self.shortcut(x) if self.shortcut else x
        return F.relu(self.second(F.relu(self.first(x))) + past)


def resnet18(_, batch=32, size=32, widths=(64, 128, 256, 512)):
    parts, channels = [_normed(3, widths[0], 3), F.relu], widths[0]
    for filters in widths:
        parts += [Block(channels, filters, 1 if filters == channels else 2), Block(filters, filters, 1)]
        channels = filters
    return _images(Sequential(*parts, partial(F.mean, axis=(2, 3)), L.Linear(channels, 10)), batch, 3, size, size)


def vgg11(_, batch=32, size=32, widths=(64, 128, (256, 256), (512, 512), (512, 512))):
    parts, channels = [], 3
    for stage in widths:
        for filters in stage if isinstance(stage, tuple) else (stage,):
            parts += [L.Convolution2D(channels, filters, 3, pad=1), F.relu]
            channels = filters
        parts.append(LAYERS["MaxPool2d"](2))
    return _images(Sequential(*parts, L.Linear(channels, 10)), batch, 3, size, size)


# ---- text ------------------------------------------------------------------------------------------------------------


class Recurrent(chainer.Link):
    """Hidden states (T, N, H) of x (T, N, I): parameters as PyTorch's, and a step(x W + b, h U + c, *state)."""

    def __init__(self, inputs, hidden):
        super().__init__()
        with self.init_scope():
            self.W, self.U = (Parameter(shape=(self.gates * hidden, size)) for size in (inputs, hidden))
            self.b, self.c = (Parameter(shape=(self.gates * hidden,)) for _ in range(2))

    def forward(self, x):
        state, states = [np.zeros((x.shape[1], self.U.shape[1]), np.float32)] * self.kept, []
        for part in F.separate(F.linear(x, self.W, self.b, n_batch_axes=2)):
            state = self.step(part, F.linear(state[0], self.U, self.c), *state)
            states.append(state[0])
        return F.stack(states)


class LSTM(Recurrent):
    """`F.lstm` takes the gates g, i, f, o of one unit beside each other."""

    gates, kept = 4, 2

    def step(self, x, u, h, cell):
        return F.lstm(cell, x + u)[::-1]

    def settle(self):
        """Bring numbers in PyTorch's order of gates, i, f, g, o, to that of `F.lstm`."""
        for p in self.params():
            p.array = p.array.reshape(4, -1, *p.shape[1:])[[2, 0, 1, 3]].swapaxes(0, 1).reshape(p.shape)


class GRU(Recurrent):
    gates, kept = 3, 1

    def step(self, x, u, h):
        (x, x_new), (u, u_new) = (F.split_axis(part, [2 * h.shape[1]], 1) for part in (x, u))
        r, z = F.split_axis(F.sigmoid(x + u), 2, 1)
        return (F.linear_interpolate(z, h, F.tanh(x_new + r * u_new)),)

    def settle(self):
        """They are in PyTorch's order."""


def characters(_, kind="LSTM", hidden=256, layers=1, embed=64, backward=True, vocabulary=64, steps=64, batch=32):
    cell = {"LSTM": LSTM, "GRU": GRU}[kind]
    cells = [cell(embed if i == 0 else hidden, hidden) for i in range(layers)]
    states = Sequential(L.EmbedID(vocabulary, embed), *cells)
    out = L.Linear(hidden, vocabulary)
    model = begun(chainer.ChainList(states, out))
    for each in cells:
        each.settle()
    x, y = whole(vocabulary, steps, batch), whole(vocabulary, steps * batch)
    if backward:
        return _learnt(model, optimizers.Adam(alpha=1e-3), lambda: out(F.reshape(states(x), (len(y), -1))), y)

    def forward():
        with chainer.no_backprop_mode():
            return states(x)

    return forward


def sentences(_, batch=50, words=50, vocabulary=5000, embed=300, filters=100, dropout=0.5):
    table, out = L.EmbedID(vocabulary, embed), L.Linear(3 * filters, 2)
    convolutions = [L.Convolution1D(embed, filters, size) for size in (3, 4, 5)]
    x = whole(vocabulary, batch, words)

    def scores():
        embedded = F.swapaxes(table(x), 1, 2)
        peaks = [F.max(F.relu(convolution(embedded)), axis=2) for convolution in convolutions]
        return out(F.dropout(F.concat(peaks), dropout))

    model = begun(chainer.ChainList(table, *convolutions, out))
    return _learnt(model, optimizers.AdaDelta(rho=0.9, eps=1e-6), scores, whole(2, batch))


def recursive(_, trees=1, leaves=64, width=64):
    x, net = Parameter(numbers(trees * leaves, width)), begun(L.Linear(2 * width, width))
    grown = forest(trees, leaves)

    def total():
        words, roots = F.split_axis(x, trees * leaves, 0), []
        for i, tree in enumerate(grown):
            nodes = list(words[i * leaves : (i + 1) * leaves])
            for a, b in tree:
                nodes.append(F.tanh(net(F.concat([nodes[a], nodes[b]]))))
            roots.append(nodes[-1])
        return F.sum(F.concat(roots))

    return _differentiated(total, [x, net.W, net.b])
