"""Elementwise functions that CuPy lacks, or has in several launches: one pass over memory each."""

from inspect import Parameter, Signature

import cupy

from ..registry import implementation
from . import runtime


def _elementwise(name, arrays, text, *numbers):
    """The function of arrays, and of numbers by keyword, by the names given, that the kernel `name` computes."""
    arrays = arrays.split()

    def function(*given, **named):
        return _launch(name, given, [float(named[number]) for number in numbers])

    function.__name__, function.__doc__ = name, text
    kinds = [(one, Parameter.POSITIONAL_OR_KEYWORD) for one in arrays] + [
        (one, Parameter.KEYWORD_ONLY) for one in numbers
    ]
    function.__signature__ = Signature([Parameter(*kind) for kind in kinds])
    floor = lambda x, *others, **named: ((len(arrays) + 1) * x.nbytes, x.size)
    return implementation(name, "cuda", floor=floor)(function)


def _launch(name, arrays, numbers):
    if any(x.shape != arrays[0].shape for x in arrays):
        arrays = cupy.broadcast_arrays(*arrays)
    arrays = [cupy.ascontiguousarray(x) for x in arrays]
    x = arrays[-1]
    out, per_thread = cupy.empty(x.shape, x.dtype), 16 // x.itemsize
    grid = runtime.blocks(x.size, per_thread=per_thread)
    numbers = (*numbers, 0.0, 0.0)[:2]
    runtime.launch("pointwise", f"{name}_of", x.dtype, grid, 256, (*arrays, out, x.size, *numbers))
    return out


erf = _elementwise("erf", "x", "2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.")
relu = _elementwise("relu", "x", "max(x, 0); NaN stays.")
relu_backward = _elementwise(
    "relu_backward", "g out", "The adjoint of max(x, 0) from its result: g where out > 0, else 0."
)
leaky_relu = _elementwise("leaky_relu", "x", "x where x > 0, else slope x.", "slope")
leaky_relu_backward = _elementwise(
    "leaky_relu_backward", "g x", "The adjoint of `leaky_relu`: g where x > 0, else slope g.", "slope"
)
elu = _elementwise("elu", "x", "x where x > 0, else alpha (exp(x) - 1).", "alpha")
elu_backward = _elementwise("elu_backward", "g x", "The adjoint of `elu`: g where x > 0, else alpha exp(x) g.", "alpha")
gelu = _elementwise("gelu", "x", "x Phi(x), Phi the normal distribution function.")
gelu_backward = _elementwise(
    "gelu_backward", "g x", "The adjoint of `gelu` at x: g (Phi(x) + x phi(x)), phi the normal density."
)
silu = _elementwise("silu", "x", "x sigmoid(x).")
silu_backward = _elementwise("silu_backward", "g x", "The adjoint of `silu`: with s = sigmoid(x), g s (1 + x (1 - s)).")
sigmoid = _elementwise("sigmoid", "x", "1 / (1 + exp(-x)).")
sigmoid_backward = _elementwise(
    "sigmoid_backward", "g out", "The adjoint of the logistic function from its result: g out (1 - out)."
)
logsigmoid = _elementwise("logsigmoid", "x", "log(1 / (1 + exp(-x))) = min(x, 0) - log(1 + exp(-|x|)).")
logsigmoid_backward = _elementwise("logsigmoid_backward", "g x", "The adjoint of `logsigmoid`: g / (1 + exp(x)).")
softplus = _elementwise(
    "softplus", "x", "log(1 + exp(beta x)) / beta, and x itself where beta x > threshold.", "beta", "threshold"
)
softplus_backward = _elementwise(
    "softplus_backward",
    "g x",
    "The adjoint of `softplus`: g / (1 + exp(-beta x)), and g itself where beta x > threshold.",
    "beta",
    "threshold",
)
tanh_backward = _elementwise("tanh_backward", "g out", "The adjoint of tanh from its result: g (1 - out^2).")
rsqrt = _elementwise("rsqrt", "x", "1 / sqrt(x).")
rsqrt_backward = _elementwise("rsqrt_backward", "g out", "The adjoint of 1 / sqrt(x) from its result: -g out^3 / 2.")
absolute_backward = _elementwise("absolute_backward", "g x", "The adjoint of |x|: g sign(x).")
clip_backward = _elementwise(
    "clip_backward", "g x", "The adjoint of x limited to [min, max]: g where min <= x <= max, else 0.", "min", "max"
)
squared_error = _elementwise("squared_error", "x y", "(x - y)^2.")
squared_error_backward = _elementwise(
    "squared_error_backward",
    "g x y",
    "The adjoint of `squared_error` with respect to x: 2 g (x - y); with respect to y it is the negative.",
)
smooth_l1 = _elementwise(
    "smooth_l1", "x y", "With d = x - y: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2.", "beta"
)
smooth_l1_backward = _elementwise(
    "smooth_l1_backward",
    "g x y",
    "The adjoint of `smooth_l1` with respect to x; with respect to y it is the negative.",
    "beta",
)
binary_cross_entropy = _elementwise(
    "binary_cross_entropy", "x t", "-t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)) = (1 - t) x + log(1 + exp(-x))."
)
binary_cross_entropy_backward = _elementwise(
    "binary_cross_entropy_backward",
    "g x t",
    "The adjoint of `binary_cross_entropy` with respect to x: g (sigmoid(x) - t).",
)


@implementation("scale_shift", "cuda", floor=lambda x, *others: (2 * x.nbytes, 2 * x.size))
def scale_shift(x, scale, shift):
    """x scale + shift: two launches of CuPy's, which broadcasts without copies."""
    return x * scale + shift
