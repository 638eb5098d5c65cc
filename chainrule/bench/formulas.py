"""What is computed, in NumPy's words: the truth in float64, and what peers that speak NumPy differentiate.

`xp` is numpy, autograd.numpy or jax.numpy, so nothing is written in place. x (N, C, H, W), w (O, C, k, k), b (O,).
"""

from __future__ import annotations

from functools import partial, reduce


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


def mlp(xp, w1, b1, w2, b2, x, y):
    """The loss of a network with one hidden layer of ReLUs."""
    return cross_entropy(xp, xp.maximum(x @ w1.T + b1, 0) @ w2.T + b2, y)


def lenet(xp, k1, c1, k2, c2, w1, b1, w2, b2, w3, b3, x, y, *, conv=conv, avg_pool=avg_pool):
    """The loss of LeNet-5 with tanh and average pooling."""
    x = avg_pool(xp, xp.tanh(conv(xp, x, k1, c1, stride=1, pad=0)), k=2, stride=2, pad=0)
    x = avg_pool(xp, xp.tanh(conv(xp, x, k2, c2, stride=1, pad=0)), k=2, stride=2, pad=0)
    x = xp.tanh(xp.reshape(x, (len(y), -1)) @ w1.T + b1)
    return cross_entropy(xp, xp.tanh(x @ w2.T + b2) @ w3.T + b3, y)


def characters(layer, xp, e, w, u, b, c, v, d, x, y, **options):
    """The loss of a language model: embeddings e of characters x (T, N), a recurrent layer, a linear one, y (T N)."""
    h = layer(xp, e[x], w, u, b, c, **options)
    return cross_entropy(xp, xp.reshape(h, (len(y), -1)) @ v.T + d, y)


char_lstm, char_gru = partial(characters, lstm), partial(characters, gru)


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
