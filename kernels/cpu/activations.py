"""Activations, losses and their adjoints, each an elementwise function of one pass over memory."""

import numpy as np

from .formulas import formula

_SMALL = 2048  # elements below which NumPy chooses as fast as the loop


@formula()
def relu(m, x):
    """max(x, 0); NaN stays."""
    return m.relu(x)


@formula()
def relu_backward(m, g, out):
    """The adjoint of max(x, 0) from its result: g where out > 0, else 0."""
    return m.where(out, ">", 0.0, g, 0.0)


@formula()
def tanh_backward(m, g, out):
    """The adjoint of tanh from its result: g (1 - out^2)."""
    return g * (1.0 - out * out)


@formula()
def sigmoid_backward(m, g, out):
    """The adjoint of the logistic function from its result: g out (1 - out)."""
    return g * (out * (1.0 - out))


@formula()
def leaky_relu(m, x, *, slope):
    """x where x > 0, else slope x."""
    return m.where(x, ">", 0.0, x, x * slope)


@formula()
def leaky_relu_backward(m, g, x, *, slope):
    """The adjoint of `leaky_relu`: g where x > 0, else slope g."""
    return m.where(x, ">", 0.0, g, g * slope)


@formula()
def absolute_backward(m, g, x):
    """The adjoint of |x|: g sign(x)."""
    return g * _sign(m, x)


@formula()
def _clip(m, x, *, min, max):
    above = m.where(x, "<", min, min, x)
    return m.where(above, ">", max, max, above)


def clip(x, min, max):
    """x limited to [min, max], numbers or None; max where they cross, and NaN stays."""
    if x.dtype.kind != "f":
        return np.clip(x, min, max)
    return _clip(x, min=-np.inf if min is None else min, max=np.inf if max is None else max)


@formula()
def clip_backward(m, g, x, *, min, max):
    """The adjoint of x limited to [min, max]: g where min <= x <= max, else 0."""
    return m.where(x, ">=", min, m.where(x, "<=", max, g, 0.0), 0.0)


@formula(small=256, grain=4096)
def elu(m, x, *, alpha):
    """x where x > 0, else alpha (exp(x) - 1)."""
    return m.where(x, "<", 0.0, m.expm1(_below(m, x)) * alpha, x)


@formula(small=256, grain=4096)
def elu_backward(m, g, x, *, alpha):
    """The adjoint of `elu`: g where x > 0, else alpha exp(x) g."""
    return m.where(x, ">", 0.0, g, g * (m.exp(_below(m, x)) * alpha))


@formula(small=256, grain=4096)
def sigmoid(m, x):
    """1 / (1 + exp(-x))."""
    return m.sigmoid(x)


@formula(small=256, grain=4096)
def logsigmoid(m, x):
    """log(1 / (1 + exp(-x))) = min(x, 0) - log(1 + exp(-|x|))."""
    return _below(m, x) - m.log1p(m.exp(-m.absolute(x)))


@formula(small=256, grain=4096)
def logsigmoid_backward(m, g, x):
    """The adjoint of `logsigmoid`: g / (1 + exp(x))."""
    return g * m.sigmoid(-x)


@formula(small=256, grain=4096)
def softplus(m, x, *, beta, threshold):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    scaled = x * beta
    return m.where(scaled, ">", threshold, x, _softplus(m, scaled) / beta)


@formula(small=256, grain=4096)
def softplus_backward(m, g, x, *, beta, threshold):
    """The adjoint of `softplus`: g / (1 + exp(-beta x)), and g itself where beta x > threshold."""
    scaled = x * beta
    return m.where(scaled, ">", threshold, g, g * m.sigmoid(scaled))


@formula(small=256, grain=4096)
def silu(m, x):
    """x sigmoid(x)."""
    return x * m.sigmoid(x)


@formula(small=256, grain=4096)
def silu_backward(m, g, x):
    """The adjoint of `silu`: with s = sigmoid(x), g s (1 + x (1 - s))."""
    s = m.sigmoid(x)
    return g * (s * (1.0 + x * (1.0 - s)))


@formula(small=0, grain=2048)
def gelu(m, x):
    """x Phi(x), Phi the normal distribution function: x erfc(-x / sqrt 2) / 2."""
    _, below = m.normal(x)
    return x * below


@formula(small=0, grain=2048)
def gelu_backward(m, g, x):
    """The adjoint of `gelu`: g (Phi(x) + x phi(x)), phi the normal density."""
    curve, below = m.normal(x)
    return g * (below + x * (curve * 0.3989422804014327))


@formula()
def smooth_l1(m, x, y, *, beta):
    """With d = x - y: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    d = x - y
    size = m.absolute(d)
    return m.where(size, "<", beta, d * d * (0.5 / beta), size - 0.5 * beta)


@formula()
def smooth_l1_backward(m, g, x, y, *, beta):
    """The adjoint of `smooth_l1` with respect to x; with respect to y it is the negative."""
    d = x - y
    return g * m.where(m.absolute(d), "<", beta, d * (1.0 / beta), _sign(m, d))


@formula()
def squared_error(m, x, y):
    """(x - y)^2."""
    d = x - y
    return d * d


@formula()
def squared_error_backward(m, g, x, y):
    """The adjoint of `squared_error` with respect to x: 2 g (x - y); with respect to y it is the negative."""
    return g * ((x - y) * 2.0)


@formula(small=256, grain=4096)
def binary_cross_entropy(m, x, t):
    """-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)) = (1 - t) x + log(1 + exp(-x))."""
    return (1.0 - t) * x + _softplus(m, -x)


@formula(small=256, grain=4096)
def binary_cross_entropy_backward(m, g, x, t):
    """The adjoint of `binary_cross_entropy` with respect to x: g (sigmoid(x) - t)."""
    return g * (m.sigmoid(x) - t)


@formula()
def scale_shift(m, x, scale, shift):
    """x scale + shift."""
    return x * scale + shift


@formula()
def rsqrt(m, x):
    """1 / sqrt(x)."""
    return 1.0 / m.sqrt(x)


@formula()
def rsqrt_backward(m, g, out):
    """The adjoint of 1 / sqrt(x) from its result: -g out^3 / 2."""
    return g * (out * out * (out * -0.5))


@formula(mask=True)
def _chosen(m, condition, x, y):
    return m.chosen(condition, x, y)


def where(condition, *choices):
    """x where the condition holds, else y, as NumPy's but without a branch, whose guess would often be wrong."""
    if len(choices) == 2 and condition.dtype == bool:
        x, y = choices
        sizes = condition.size, getattr(x, "size", 1), getattr(y, "size", 1)
        if max(sizes) >= _SMALL and _is_float(x) and _is_float(y) and x.dtype == y.dtype:
            return _chosen(condition, x, y)
    return np.where(condition, *choices)


def _is_float(x):
    return type(x) is np.ndarray and x.dtype.kind == "f" and x.itemsize > 2


def _below(m, x):
    """min(x, 0); NaN stays."""
    return m.where(x, ">", 0.0, 0.0, x)


def _softplus(m, x):
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))."""
    return m.relu(x) + m.log1p(m.exp(-m.absolute(x)))


def _sign(m, x):
    """The sign of x: 0 at 0, and NaN stays."""
    return m.where(x, ">", 0.0, 1.0, m.where(x, "<", 0.0, -1.0, x))
