"""The same work as functions of arrays, which JAX compiles whole and HIPS autograd runs on NumPy.

Each maker has the name, the options and the results of one in `tensors.py`. JAX's side is written as its users would: a
step is one compiled function that overwrites its old state, channels come last, loops over time and nodes are scans.
"""

from __future__ import annotations

from functools import partial, reduce
from importlib import import_module

import numpy as np
import tensors
from given import forest, numbers, whole

from chainrule.bench import formulas, suite
from chainrule.bench.machine import release
from chainrule.bench.sides import Ours


class Arrays:
    """A library that differentiates functions of arrays: `pull` gives a value and what takes gradients back."""

    name: str

    def __init__(self):
        self.version = release(self.name)
        self.library, self.xp = import_module(self.name), import_module(f"{self.name}.numpy")

    def threads(self, n):
        """NumPy has those that its process was started with; JAX takes all of the machine's."""

    def numpy(self, array):
        return np.asarray(array)

    def begin(self, module):
        """The numbers with which a module of ours begins."""
        return [self.filters(p.detach().numpy()) for p in tensors.alike(Ours(), module)]


class Hips(Arrays):
    """HIPS autograd. Images are N×C×H×W."""

    name, spatial = "autograd", (2, 3)
    formulas = (
        formulas.max_pool, formulas.avg_pool, formulas.batch_norm, formulas.cross_entropy, formulas.lstm, formulas.gru
    )  # fmt: skip

    def __init__(self):
        super().__init__()
        for formula in self.formulas:
            setattr(self, formula.__name__, partial(formula, self.xp))

    def images(self, x):
        return x

    def filters(self, w):
        return w

    def conv(self, x, w, b=0.0, *, stride=1, pad=0):
        return formulas.conv(self.xp, x, w, b, stride=stride, pad=pad)

    def compiled(self, function, changed=()):
        return function

    def pull(self, value, inputs):
        back, out = self.library.make_vjp(value)(inputs)
        return out, back

    def forward(self, value, x):
        return self.pull(value, x)[0]  # recorded

    def conv1d(self, x, w, b):
        size, places = w.shape[2], x.shape[1] - w.shape[2] + 1
        return sum(x[:, i : i + places] @ w[:, :, i].T for i in range(size)) + b

    def dropout(self, x, p, step):
        return x * (np.random.random(x.shape) >= p) / np.float32(1 - p)

    def root(self, x, w, b, tree):
        nodes = [x[i] for i in range(len(x))]
        for left, right in tree:
            nodes.append(self.xp.tanh(w @ self.xp.concatenate([nodes[left], nodes[right]]) + b))
        return nodes[-1]

    def roots(self, x, w, b, forest):
        return self.xp.stack([self.root(x[i], w, b, tree) for i, tree in enumerate(forest)])


class Jax(Arrays):
    """JAX. Images are N×H×W×C, filters H×W×C×O."""

    name, spatial = "jax", (1, 2)

    def __init__(self):
        super().__init__()
        self.lax = self.library.lax
        self.lstm, self.gru = (
            partial(layer, self.xp, over_time=self.over_time) for layer in (formulas.lstm, formulas.gru)
        )

    def images(self, x):
        return np.moveaxis(x, 1, -1)

    def filters(self, w):
        return np.moveaxis(w, (0, 1), (-1, -2)) if w.ndim > 2 else w

    def conv(self, x, w, b=0.0, *, stride=1, pad=0):
        layout = ("NHWC", "HWIO", "NHWC")
        return self.lax.conv_general_dilated(x, w, (stride, stride), [(pad, pad)] * 2, dimension_numbers=layout) + b

    def conv1d(self, x, w, b):
        return self.lax.conv_general_dilated(x, w, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")) + b

    def max_pool(self, x, *, k, stride, pad=0):
        """Maxima of slices, along one axis and then the other: ten times as fast as `lax.reduce_window`."""
        x = self.xp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-np.inf) if pad else x
        for axis in self.spatial:
            last = stride * ((x.shape[axis] - k) // stride) + 1
            cut = partial(self.lax.slice_in_dim, x, stride=stride, axis=axis)
            x = reduce(self.xp.maximum, [cut(i, i + last) for i in range(k)])
        return x

    def avg_pool(self, x, *, k, stride, pad=0):
        wide = [(0, 0), (pad, pad), (pad, pad), (0, 0)]
        return self.lax.reduce_window(x, 0.0, self.lax.add, (1, k, k, 1), (1, stride, stride, 1), wide) / k**2

    def batch_norm(self, x, w, b, *, eps=1e-5):
        """As Flax has it: both sums in one pass."""
        mean = x.mean((0, 1, 2))
        return (x - mean) * (self.lax.rsqrt((x * x).mean((0, 1, 2)) - mean * mean + eps) * w) + b

    def over_time(self, xp, cell, count, x, w, u, b, c):
        state, u = (xp.zeros((x.shape[1], u.shape[1]), x.dtype),) * count, u.T
        return self.lax.scan(lambda state, x: cell(xp, state, x, u, c), state, x @ w.T + b, unroll=4)[1]

    def cross_entropy(self, x, y):
        return (self.library.nn.logsumexp(x, -1) - x[self.xp.arange(len(y)), y]).mean()

    def compiled(self, function, changed=()):
        """The function compiled and waited for; it may overwrite the arguments `changed`."""
        function = self.library.jit(function, donate_argnums=changed)
        return lambda *given: self.library.block_until_ready(function(*given))

    def pull(self, value, inputs):
        out, back = self.library.vjp(value, inputs)
        return out, lambda seed: back(seed)[0]

    def forward(self, value, x):
        return value(x)

    def dropout(self, x, p, step):
        random = self.library.random
        return x * random.bernoulli(random.fold_in(random.key(0), step), 1 - p, x.shape) / (1 - p)

    def root(self, x, w, b, tree):
        def combine(nodes, place):
            at, (left, right) = place
            pair = self.xp.concatenate([nodes[left], nodes[right]])
            return nodes.at[at].set(self.xp.tanh(w @ pair + b)), None

        places = self.xp.arange(len(x), 2 * len(x) - 1), tree
        return self.lax.scan(combine, self.xp.concatenate([x, self.xp.zeros_like(x[1:])]), places)[0][-1]

    def roots(self, x, w, b, forest):
        return self.library.vmap(self.root, (0, None, None, 0))(x, w, b, forest)


# ---- forward and backward --------------------------------------------------------------------------------------------


def _differentiated(side, value, inputs, seed, *given):
    """Work that computes a value(inputs, *given) and gives the gradients of its product with the seed."""

    def both(inputs, seed, given):
        out, back = side.pull(lambda inputs: value(inputs, *given), inputs)
        return out, back(seed)

    both, seed = side.compiled(both), side.xp.array(seed)
    inputs, given = ([side.xp.array(array) for array in arrays] for arrays in (inputs, given))
    return lambda: both(inputs, seed, given)[1]


def chain(side, length=1000, backward=True):
    a, b, x = 1 + 0.01 * numbers(10), numbers(10), numbers(10)
    value = lambda x, a, b: formulas.chain(side.xp, x, a, b, length=length)
    if backward:
        return _differentiated(side, lambda x, a, b: value(*x, a, b), [x], np.ones(10, np.float32), a, b)
    work = side.compiled(lambda x, a, b: side.forward(lambda x: value(x, a, b), x))
    return partial(work, *(side.xp.array(array) for array in (x, a, b)))


def conv(side, x, filters, kernel, stride=1, padding=0):
    module = Ours().nn.Conv2d(x[1], filters, kernel)
    rows, columns = ((size + 2 * padding - kernel) // stride + 1 for size in x[2:])
    inputs = [side.images(numbers(*x)), *side.begin(module)]
    seed = side.images(numbers(x[0], filters, rows, columns, stream=1))
    return _differentiated(side, lambda inputs: side.conv(*inputs, stride=stride, pad=padding), inputs, seed)


#: layers with a value of their inputs: side, x, its parameters and sizes
LAYERS = {
    "MaxPool2d": lambda side, x, k, stride=None, pad=0: side.max_pool(x, k=k, stride=stride or k, pad=pad),
    "AvgPool2d": lambda side, x, k, stride=None, pad=0: side.avg_pool(x, k=k, stride=stride or k, pad=pad),
    "AdaptiveAvgPool2d": lambda side, x, size: side.xp.mean(x, side.spatial, keepdims=True),
    "BatchNorm2d": lambda side, x, w, b, channels: side.batch_norm(x, w, b),
    "LayerNorm": lambda side, x, w, b, width: formulas.layer_norm(side.xp, x, w, b),
}


def layer(side, kind, x, sizes=(), classes=None, batch=None):
    ours, shape = Ours(), (batch or x[0], *x[1:])
    module = getattr(ours.nn, kind)(*sizes)
    if classes:
        value, inputs, seed = lambda inputs, at: inputs[0][at], side.begin(module), numbers(*shape, sizes[1], stream=1)
        return _differentiated(side, value, inputs, seed, whole(classes, *shape))
    order = side.images if len(shape) == 4 else lambda x: x
    inputs = [order(numbers(*shape)), *side.begin(module)]
    seed = order(numbers(*module(ours.tensor(numbers(*shape))).shape, stream=1))
    return _differentiated(side, lambda inputs: LAYERS[kind](side, *inputs, *sizes), inputs, seed)


def entropy(side, rows, classes):
    value = lambda inputs, y: side.cross_entropy(*inputs, y)
    return _differentiated(side, value, [numbers(rows, classes)], np.float32(1), whole(classes, rows))


def recursive(side, trees=1, leaves=64, width=64):
    grown = np.array(forest(trees, leaves))
    combine = side.begin(Ours().nn.Linear(2 * width, width))
    value = lambda inputs, forest: side.roots(inputs[0].reshape(trees, leaves, width), *inputs[1:], forest)
    x, seed = numbers(trees * leaves, width), np.ones((trees, width), np.float32)
    return _differentiated(side, value, [x, *combine], seed, grown)


# ---- training steps --------------------------------------------------------------------------------------------------
# An update(xp, step, parameter, gradient, *memory) gives the parameter and its memory anew; `step` counts from 1.


def _sgd(xp, step, p, g, *velocity, lr=0.01, momentum=0.9):
    g = momentum * velocity[0] + g if velocity else g
    return (p - lr * g, g) if velocity else (p - lr * g,)


def _adam(xp, step, p, g, m, v, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    size = xp.sqrt(v / (1 - beta2**step)) + eps
    return p - lr / (1 - beta1**step) * m / size, m, v


def _adadelta(xp, step, p, g, squares, moves, lr=1.0, rho=0.9, eps=1e-6):
    squares = rho * squares + (1 - rho) * g * g
    move = xp.sqrt(moves + eps) / xp.sqrt(squares + eps) * g
    return p - lr * move, squares, rho * moves + (1 - rho) * move * move


def _trained(side, slopes, parameters, update, memories, *given):
    """Work that takes a step of training by slopes(parameters, step, *given), a loss and gradients.

    It gives the loss and the new parameters.
    """
    xp = side.xp

    def step(state, *given):
        count, parameters, memories = state
        loss, gradients = slopes(parameters, count, *given)
        new = [update(xp, count, p, g, *m) for p, g, m in zip(parameters, gradients, memories, strict=True)]
        return (count + 1, [p for p, *_ in new], [memory for _, *memory in new]), loss

    step, given = side.compiled(step, changed=(0,)), [xp.array(array) for array in given]
    zeros = [[xp.zeros(p.shape, p.dtype) for _ in range(memories)] for p in parameters]
    state = xp.array(np.float32(1)), [xp.array(p) for p in parameters], zeros

    def run():
        nonlocal state
        state, loss = step(state, *given)
        return loss, state[1]

    return run


def _learnt(side, loss, parameters, update, memories, x, y):
    """Work that takes a step down a loss(parameters, step, x, y)."""
    work = _trained(side, side.library.value_and_grad(loss), parameters, update, memories, x, y)
    return lambda: work()[0]


def adam(side, size, count=1):
    parameters, gradients = ([numbers(size, stream=stream)] * count for stream in (0, 1))
    work = _trained(side, lambda parameters, step, *slopes: (0.0, slopes), parameters, _adam, 2, *gradients)
    return lambda: work()[1]


def mlp(side, batch=128):
    loss = lambda parameters, step, x, y: formulas.mlp(side.xp, *parameters, x, y)
    update = partial(_sgd, momentum=0.0)
    return _learnt(side, loss, side.begin(suite.mlp(Ours())), update, 0, numbers(batch, 784), whole(10, batch))


def _images(side, scores, model, batch, channels, size):
    """A step of SGD with momentum of a network of images, scores(x, parameters)."""
    loss = lambda parameters, step, x, y: side.cross_entropy(scores(x, iter(parameters)), y)
    x = side.images(numbers(batch, channels, size, size))
    return _learnt(side, loss, side.begin(model), _sgd, 1, x, whole(10, batch))


def lenet(side, activation="Tanh", pool="AvgPool2d", batch=64):
    xp = side.xp
    act = xp.tanh if activation == "Tanh" else lambda x: xp.maximum(x, 0)
    halve = partial(side.avg_pool if pool == "AvgPool2d" else side.max_pool, k=2, stride=2)

    def scores(x, parameters):
        for _ in range(2):
            x = halve(act(side.conv(x, next(parameters), next(parameters))))
        x = xp.reshape(xp.moveaxis(x, side.spatial, (2, 3)), (len(x), -1))  # the order in which the weights come
        for _ in range(2):
            x = act(x @ next(parameters).T + next(parameters))
        return x @ next(parameters).T + next(parameters)

    return _images(side, scores, suite.lenet(Ours(), activation, pool), batch, 1, 32)


def resnet18(side, batch=32, size=32, widths=(64, 128, 256, 512)):
    relu = lambda x: side.xp.maximum(x, 0)

    def normed(x, parameters, kernel, stride=1):
        x = side.conv(x, next(parameters), stride=stride, pad=kernel // 2)
        return side.batch_norm(x, next(parameters), next(parameters))

    def scores(x, parameters):
        x = relu(normed(x, parameters, 3))
        for stage in range(len(widths)):
            for stride in (2 if stage else 1, 1):
                y = normed(relu(normed(x, parameters, 3, stride)), parameters, 3)
                x = relu(y + (x if stride == 1 else normed(x, parameters, 1, stride)))
        return side.xp.mean(x, side.spatial) @ next(parameters).T + next(parameters)

    return _images(side, scores, tensors.residual(Ours(), widths), batch, 3, size)


def vgg11(side, batch=32, size=32, widths=tensors.VGG11):
    def scores(x, parameters):
        for stage in widths:
            for _ in stage if isinstance(stage, tuple) else (stage,):
                x = side.xp.maximum(side.conv(x, next(parameters), next(parameters), pad=1), 0)
            x = side.max_pool(x, k=2, stride=2)
        return side.xp.reshape(x, (len(x), -1)) @ next(parameters).T + next(parameters)  # one pixel is left

    return _images(side, scores, tensors.plain(Ours(), widths), batch, 3, size)


# ---- text ------------------------------------------------------------------------------------------------------------


def characters(side, kind="LSTM", hidden=256, layers=1, embed=64, backward=True, vocabulary=64, steps=64, batch=32):
    recurrent = side.lstm if kind == "LSTM" else side.gru
    parameters = side.begin(tensors.character_model(Ours(), kind, hidden, layers, embed, vocabulary))

    def states(parameters, x):
        table, *weights = parameters
        h = table[x]
        for i in range(layers):
            h = recurrent(h, *weights[4 * i : 4 * i + 4])
        return h

    def loss(parameters, step, x, y):
        *_, w, b = parameters
        return side.cross_entropy(side.xp.reshape(states(parameters, x), (len(y), -1)) @ w.T + b, y)

    x, y = whole(vocabulary, steps, batch), whole(vocabulary, steps * batch)
    if backward:
        return _learnt(side, loss, parameters, _adam, 2, x, y)
    return partial(side.compiled(states), [side.xp.array(p) for p in parameters], side.xp.array(x))


def sentences(side, batch=50, words=50, vocabulary=5000, embed=300, filters=100, dropout=0.5):
    xp = side.xp

    def loss(parameters, step, x, y):
        table, *convolutions, w, b = parameters
        embedded, maps = table[x], zip(convolutions[::2], convolutions[1::2], strict=True)
        peaks = xp.concatenate([xp.max(xp.maximum(side.conv1d(embedded, *wb), 0), 1) for wb in maps], 1)
        return side.cross_entropy((side.dropout(peaks, dropout, step) if dropout else peaks) @ w.T + b, y)

    model = Ours().nn.models.SentenceCNN(vocabulary, 2, embedding_dim=embed, filters=filters)
    x, y = whole(vocabulary, batch, words), whole(2, batch)
    return _learnt(side, loss, side.begin(model), _adadelta, 2, x, y)
