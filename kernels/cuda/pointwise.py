"""Elementwise functions that CuPy lacks, or has in several launches: one pass over memory each."""

import cupy

from ..registry import implementation
from . import runtime


def _launch(name, *arrays, numbers=()):
    arrays = [cupy.ascontiguousarray(x) for x in arrays]
    x = arrays[-1]
    out, per_thread = cupy.empty(x.shape, x.dtype), 16 // x.itemsize
    grid = runtime.blocks(x.size, per_thread=per_thread)
    runtime.launch("pointwise", f"{name}_of", x.dtype, grid, 256, (*arrays, out, x.size, *numbers))
    return out


def _one(name, text):
    def function(x):
        return _launch(name, x, numbers=(0.0, 0.0))

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


@implementation("gelu_backward", "cuda", floor=lambda g, x: (3 * x.nbytes, x.size))
def gelu_backward(g, x):
    """The adjoint of `gelu` at x: g (Phi(x) + x phi(x)), phi the normal density."""
    return _launch("gelu_backward", g, x)


@implementation("softplus", "cuda", floor=lambda x, *others, **numbers: (2 * x.nbytes, x.size))
def softplus(x, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    return _launch("softplus", x, numbers=(float(beta), float(threshold)))
