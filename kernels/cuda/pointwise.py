"""Elementwise functions that CuPy lacks, or has in several launches: one pass over memory each."""

import cupy

from ..registry import implementation
from . import runtime


def _launch(name, *arrays, numbers=(0.0, 0.0)):
    if any(x.shape != arrays[0].shape for x in arrays):
        arrays = cupy.broadcast_arrays(*arrays)
    arrays = [cupy.ascontiguousarray(x) for x in arrays]
    x = arrays[-1]
    out, per_thread = cupy.empty(x.shape, x.dtype), 16 // x.itemsize
    grid = runtime.blocks(x.size, per_thread=per_thread)
    runtime.launch("pointwise", f"{name}_of", x.dtype, grid, 256, (*arrays, out, x.size, *numbers))
    return out


def _one(name, text):
    def function(x):
        return _launch(name, x)

    return _noted(function, name, text, 2)


def _two(name, text):
    def function(g, out):
        return _launch(name, g, out)

    return _noted(function, name, text, 3)


def _noted(function, name, text, passes):
    """`function` under its name; `passes` arrays go through memory once each."""
    function.__name__, function.__doc__ = name, text
    return implementation(name, "cuda", floor=lambda x, *others, **numbers: (passes * x.nbytes, x.size))(function)


erf = _one("erf", "2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.")
sigmoid = _one("sigmoid", "1 / (1 + exp(-x)).")
logsigmoid = _one("logsigmoid", "log(1 / (1 + exp(-x))) = min(x, 0) - log(1 + exp(-|x|)).")
silu = _one("silu", "x sigmoid(x).")
gelu = _one("gelu", "x Phi(x), Phi the normal distribution function.")
relu_backward = _two("relu_backward", "The adjoint of max(x, 0) from its result: g where out > 0, else 0.")
tanh_backward = _two("tanh_backward", "The adjoint of tanh from its result: g (1 - out^2).")
sigmoid_backward = _two("sigmoid_backward", "The adjoint of the logistic function from its result: g out (1 - out).")
relu = _one("relu", "max(x, 0); NaN stays.")
rsqrt = _one("rsqrt", "1 / sqrt(x).")
rsqrt_backward = _two("rsqrt_backward", "The adjoint of 1 / sqrt(x) from its result: -g out^3 / 2.")


def _at(passes):
    """Note the decorated function under its name; see `_noted`."""
    return lambda function: _noted(function, function.__name__, function.__doc__, passes)


@_at(2)
def softplus(x, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    return _launch("softplus", x, numbers=(float(beta), float(threshold)))


@_at(2)
def leaky_relu(x, *, slope):
    """x where x > 0, else slope x."""
    return _launch("leaky_relu", x, numbers=(float(slope), 0.0))


@_at(2)
def elu(x, *, alpha):
    """x where x > 0, else alpha (exp(x) - 1)."""
    return _launch("elu", x, numbers=(float(alpha), 0.0))


@_at(3)
def gelu_backward(g, x):
    """The adjoint of `gelu` at x: g (Phi(x) + x phi(x)), phi the normal density."""
    return _launch("gelu_backward", g, x)


@_at(3)
def absolute_backward(g, x):
    """The adjoint of |x|: g sign(x)."""
    return _launch("absolute_backward", g, x)


@_at(3)
def silu_backward(g, x):
    """The adjoint of `silu`: with s = sigmoid(x), g s (1 + x (1 - s))."""
    return _launch("silu_backward", g, x)


@_at(3)
def logsigmoid_backward(g, x):
    """The adjoint of `logsigmoid`: g / (1 + exp(x))."""
    return _launch("logsigmoid_backward", g, x)


@_at(3)
def softplus_backward(g, x, *, beta, threshold):
    """The adjoint of `softplus`: g / (1 + exp(-beta x)), and g itself where beta x > threshold."""
    return _launch("softplus_backward", g, x, numbers=(float(beta), float(threshold)))


@_at(3)
def leaky_relu_backward(g, x, *, slope):
    """The adjoint of `leaky_relu`: g where x > 0, else slope g."""
    return _launch("leaky_relu_backward", g, x, numbers=(float(slope), 0.0))


@_at(3)
def elu_backward(g, x, *, alpha):
    """The adjoint of `elu`: g where x > 0, else alpha exp(x) g."""
    return _launch("elu_backward", g, x, numbers=(float(alpha), 0.0))


@_at(3)
def clip_backward(g, x, *, min, max):
    """The adjoint of x limited to [min, max]: g where min <= x <= max, else 0."""
    return _launch("clip_backward", g, x, numbers=(float(min), float(max)))


@_at(3)
def squared_error(x, y):
    """(x - y)^2."""
    return _launch("squared_error", x, y)


@_at(4)
def squared_error_backward(g, x, y):
    """The adjoint of `squared_error` with respect to x: 2 g (x - y); with respect to y it is the negative."""
    return _launch("squared_error_backward", g, x, y)


@_at(3)
def smooth_l1(x, y, *, beta):
    """With d = x - y: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    return _launch("smooth_l1", x, y, numbers=(float(beta), 0.0))


@_at(4)
def smooth_l1_backward(g, x, y, *, beta):
    """The adjoint of `smooth_l1` with respect to x; with respect to y it is the negative."""
    return _launch("smooth_l1_backward", g, x, y, numbers=(float(beta), 0.0))


@_at(3)
def binary_cross_entropy(x, t):
    """-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)) = (1 - t) x + log(1 + exp(-x))."""
    return _launch("binary_cross_entropy", x, t)


@_at(4)
def binary_cross_entropy_backward(g, x, t):
    """The adjoint of `binary_cross_entropy` with respect to x: g (sigmoid(x) - t)."""
    return _launch("binary_cross_entropy_backward", g, x, t)
