"""What is computed, in NumPy's words: the truth in float64, and what peers that speak NumPy differentiate.

`xp` has NumPy's names for the arrays of any library, so nothing is written in place. x (N, C, H, W), w (O, C, k, k),
b (O,). It imports the standard library alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial, reduce
from typing import NamedTuple


def conv(xp, x, w, b, *, stride=1, pad=0):
    """Cross-correlation plus b: for each tap a product over the channels."""
    k = w.shape[2]
    rows, columns = (_places(size, k, stride, pad) for size in x.shape[2:])
    x = xp.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), "constant")
    taps = ((i, j) for i in range(k) for j in range(k))
    out = sum(xp.tensordot(w[:, :, i, j], _shifted(x, i, j, rows, columns, stride), ((1,), (1,))) for i, j in taps)
    return xp.swapaxes(out, 0, 1) + xp.reshape(b, (1, -1, 1, 1))


def max_pool(xp, x, *, k, stride, pad=0):
    """The largest of each window; the padding counts as −∞."""
    return reduce(xp.maximum, _windows(xp, x, k, stride, pad, -xp.inf))


def avg_pool(xp, x, *, k, stride, pad=0):
    """The mean of each window; the padding counts as zeros."""
    return sum(_windows(xp, x, k, stride, pad, 0.0)) / k**2


def _windows(xp, x, k, stride, pad, value):
    rows, columns = (_places(size, k, stride, pad) for size in x.shape[2:])
    x = xp.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), "constant", constant_values=value) if pad else x
    return [_shifted(x, i, j, rows, columns, stride) for i in range(k) for j in range(k)]


def _places(size, k, stride, pad):
    return (size + 2 * pad - k) // stride + 1


def _shifted(x, i, j, rows, columns, stride):
    """The element (i, j) of each window."""
    return x[:, :, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]


def matmul(xp, x, w):
    """x (M, K) times w (K, N)."""
    return xp.matmul(x, w)


def softmax(xp, x):
    """exp(x) over its sum, along the last axis."""
    e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    return e / xp.sum(e, axis=-1, keepdims=True)


def cross_entropy(xp, x, y):
    """The mean of −log softmax(x)[y]: x (N, classes), y (N,)."""
    top = xp.max(x, axis=-1, keepdims=True)
    total = xp.log(xp.sum(xp.exp(x - top), axis=-1)) + top[:, 0]
    return xp.mean(total - x[xp.arange(len(y)), y])


def batch_norm(xp, x, w, b, *, eps=1e-5):
    """Each channel by its own mean and variance, times w plus b."""
    mean = xp.mean(x, axis=(0, 2, 3), keepdims=True)
    var = xp.mean((x - mean) ** 2, axis=(0, 2, 3), keepdims=True)
    return (x - mean) / xp.sqrt(var + eps) * xp.reshape(w, (1, -1, 1, 1)) + xp.reshape(b, (1, -1, 1, 1))


def layer_norm(xp, x, w, b, *, eps=1e-5):
    """Each row by its own mean and variance, times w plus b."""
    mean = xp.mean(x, axis=-1, keepdims=True)
    var = xp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) / xp.sqrt(var + eps) * w + b


def _sigmoid(xp, x):
    return 0.5 * (xp.tanh(0.5 * x) + 1)


def lstm_cell(xp, state, x, u, c):
    """((h, cell), h) after a step from (h, cell) with x wᵀ + b and u transposed: gates i, f, g, o (PyTorch's order)."""
    h, cell = state
    i, f, g, o = xp.split(x + h @ u + c, 4, axis=1)
    cell = _sigmoid(xp, f) * cell + _sigmoid(xp, i) * xp.tanh(g)
    h = _sigmoid(xp, o) * xp.tanh(cell)
    return (h, cell), h


def gru_cell(xp, state, x, u, c):
    """((h,), h), u transposed: gates r, z, n, where r scales h u + c (PyTorch's order and convention)."""
    (h,) = state
    (rx, zx, nx), (rh, zh, nh) = (xp.split(part, 3, axis=1) for part in (x, h @ u + c))
    z = _sigmoid(xp, zx + zh)
    h = (1 - z) * xp.tanh(nx + _sigmoid(xp, rx + rh) * nh) + z * h
    return (h,), h


def rnn_cell(xp, state, x, u, c):
    """((h,), h) for h = tanh(x wᵀ + b + h u + c), u transposed."""
    h = xp.tanh(x + state[0] @ u + c)
    return (h,), h


def over_time(xp, cell, count, x, w, u, b, c):
    """Hidden states (T, N, H) of x (T, N, I) by a cell whose state has `count` parts, from zeros."""
    state, states, u = (xp.zeros((x.shape[1], u.shape[1]), x.dtype),) * count, [], u.T
    for step in range(len(x)):
        state, h = cell(xp, state, x[step] @ w.T + b, u, c)
        states.append(h)
    return xp.stack(states)


def lstm(xp, x, w, u, b, c, *, over_time=over_time):
    """Hidden states (T, N, H) of x (T, N, I)."""
    return over_time(xp, lstm_cell, 2, x, w, u, b, c)


def gru(xp, x, w, u, b, c, *, over_time=over_time):
    """Hidden states (T, N, H) of x (T, N, I)."""
    return over_time(xp, gru_cell, 1, x, w, u, b, c)


def rnn(xp, x, w, u, b, c, *, over_time=over_time):
    """Hidden states (T, N, H) of x (T, N, I)."""
    return over_time(xp, rnn_cell, 1, x, w, u, b, c)


def chain(xp, x, a, b, *, length):
    """`length` multiplications by a and additions of b, in turns."""
    for _ in range(length // 2):
        x = x * a
        x = x + b
    return x


def relu(xp, x):
    """x where it is positive, else 0."""
    return xp.maximum(x, 0)


def embedding(xp, e, x):
    """The rows of e that x names."""
    return e[x]


def mlp(xp, w1, b1, w2, b2, x, y, *, relu=relu, cross_entropy=cross_entropy):
    """The loss of a network with one hidden layer of ReLUs."""
    return cross_entropy(xp, relu(xp, x @ w1.T + b1) @ w2.T + b2, y)


def lenet(
    xp, k1, c1, k2, c2, w1, b1, w2, b2, w3, b3, x, y, *, conv=conv, avg_pool=avg_pool, cross_entropy=cross_entropy
):
    """The loss of LeNet-5 with tanh and average pooling."""
    x = avg_pool(xp, xp.tanh(conv(xp, x, k1, c1, stride=1, pad=0)), k=2, stride=2, pad=0)
    x = avg_pool(xp, xp.tanh(conv(xp, x, k2, c2, stride=1, pad=0)), k=2, stride=2, pad=0)
    x = xp.tanh(xp.reshape(x, (len(y), -1)) @ w1.T + b1)
    return cross_entropy(xp, xp.tanh(x @ w2.T + b2) @ w3.T + b3, y)


def characters(
    layer, xp, e, w, u, b, c, v, d, x, y, *, embedding=embedding, over_time=over_time, cross_entropy=cross_entropy
):
    """The loss of a language model: embeddings e of characters x (T, N), a recurrent layer, a linear one, y (T N)."""
    h = layer(xp, embedding(xp, e, x), w, u, b, c, over_time=over_time)
    return cross_entropy(xp, xp.reshape(h, (len(y), -1)) @ v.T + d, y)


ADAM = dict(lr=0.1, betas=(0.9, 0.999), eps=1e-8)
SGD = dict(lr=0.1, momentum=0.9)
PAST = (2.0, -1.0)  # times the gradient, in the steps before the one that counts: with equal ones no mean would show


def adam(xp, p, g):
    """p after the third step of Adam, whose gradients were PAST times g, then g."""
    (beta1, beta2), m, v = ADAM["betas"], 0.0, 0.0
    for step, times in enumerate((*PAST, 1.0), 1):
        m = beta1 * m + (1 - beta1) * times * g
        v = beta2 * v + (1 - beta2) * (times * g) ** 2
        p = p - ADAM["lr"] * (m / (1 - beta1**step)) / (xp.sqrt(v / (1 - beta2**step)) + ADAM["eps"])
    return p


def sgd(xp, p, g):
    """p after the third step of SGD with momentum, whose gradients were PAST times g, then g."""
    velocity = 0.0
    for times in (*PAST, 1.0):
        velocity = SGD["momentum"] * velocity + times * g
        p = p - SGD["lr"] * velocity
    return p


class Formula(NamedTuple):
    """What peers get of an operation of the suite.

    gradients: so many first arrays are differentiated. seeded: whether backward starts from a given gradient of the
    result, the last array, rather than from a loss. options: the axes that the function takes.
    """

    function: Callable
    gradients: int
    seeded: bool = True
    options: tuple[str, ...] = ()

    def value(self, xp, axes, own: Mapping[str, Callable] | None = None):
        """As a function of the arrays, where `own` names what a library has of its own: the whole, or parts of it."""
        own, name = own or {}, getattr(self.function, "__name__", "")
        parts = {part: own[part] for part in inspect.signature(self.function).parameters if part in own}
        function = own[name] if name in own else partial(self.function, **parts)
        return partial(function, xp, **{name: axes[name] for name in self.options})

    def loss(self, xp, axes, own: Mapping[str, Callable] | None = None):
        """The number whose gradients are measured, as a function of the arrays."""
        value = self.value(xp, axes, own)
        return (lambda *arrays: xp.sum(value(*arrays[:-1]) * arrays[-1])) if self.seeded else value


#: operation -> its formula
FORMULAS = {
    "conv": Formula(conv, 3, options=("stride", "pad")),
    "LSTM": Formula(lstm, 5),
    "GRU": Formula(gru, 5),
    "RNN": Formula(rnn, 5),
    "product": Formula(matmul, 2),
    "softmax": Formula(softmax, 1),
    "softmax cross entropy": Formula(cross_entropy, 1, seeded=False),
    "max pool": Formula(max_pool, 1, options=("k", "stride", "pad")),
    "average pool": Formula(avg_pool, 1, options=("k", "stride", "pad")),
    "batch norm": Formula(batch_norm, 3),
    "layer norm": Formula(layer_norm, 3),
    "Adam step": Formula(adam, 0),
    "SGD step": Formula(sgd, 0),
    "chain": Formula(chain, 1, options=("length",)),
    "MLP 784-256-10 step": Formula(mlp, 4, seeded=False),
    "LeNet-5 step": Formula(lenet, 10, seeded=False),
    "character LSTM step": Formula(partial(characters, lstm), 7, seeded=False),
    "character GRU step": Formula(partial(characters, gru), 7, seeded=False),
}
