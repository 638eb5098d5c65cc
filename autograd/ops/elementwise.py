"""Elementwise primitives: a table of functions of one number, the binary ones, and those with parameters."""

from __future__ import annotations

import math

import numpy as np

from ..primitive import Primitive, as_ndarray, primitive
from ..tensor import is_floating, is_number, result

# ---- functions of one number -----------------------------------------------------------------------------------------


def _one(name, title, formula, derivative, rule, at, value, flops=1, floating=True, kernel=""):
    """Declare y = name(x). `rule(g, x | out)` is its derivative; `at` and `value` are the docstring's example.

    kernel: see `Primitive.vjp`.
    """

    def forward(k, x):
        return getattr(k, name)(x)

    forward.__name__ = name
    forward.__module__ = __name__
    example = f"cr.{name}(cr.tensor({at}, dtype=cr.float64)).item()"
    forward.__doc__ = (
        f"{title}: y = {formula}, for each element of x (any shape).\n\n"
        f"    Derivative: {derivative or 'none'}.\n\n"
        f"    >>> {example if isinstance(value, bool) else f'round({example}, 4)'}\n    {value}\n    "
    )
    options = dict(floating=floating, differentiable=rule is not None, formula=formula, flops=flops)
    made = primitive(elementwise=True, direct=True, **options)(forward)
    if rule is not None:
        made.vjp("x", formula=derivative, kernel=kernel)(rule)
    return made


exp = _one("exp", "The exponential", r"e^x", r"\bar o\,e^x", lambda g, out: g * out, 1.0, 2.7183, 8, kernel="multiply")
exp2 = _one(
    "exp2", "Two to the power x", r"2^x", r"\bar o\,2^x \ln 2", lambda g, out: g * out * math.log(2), 3.0, 8.0, 8
)
expm1 = _one(
    "expm1",
    "The exponential minus one, exact near 0",
    r"e^x - 1",
    r"\bar o\,e^x",
    lambda g, out: g * (out + 1),
    1.0,
    1.7183,
    8,
)
log = _one("log", "The natural logarithm", r"\ln x", r"\bar o / x", lambda g, x: g / x, 2.0, 0.6931, 8, kernel="divide")
log1p = _one(
    "log1p",
    "The logarithm of 1 + x, exact near 0",
    r"\ln(1 + x)",
    r"\bar o / (1 + x)",
    lambda g, x: g / (x + 1),
    1.0,
    0.6931,
    8,
)
log2 = _one(
    "log2", "The binary logarithm", r"\log_2 x", r"\bar o / (x \ln 2)", lambda g, x: g / (x * math.log(2)), 8.0, 3.0, 8
)
log10 = _one(
    "log10",
    "The decimal logarithm",
    r"\log_{10} x",
    r"\bar o / (x \ln 10)",
    lambda g, x: g / (x * math.log(10)),
    100.0,
    2.0,
    8,
)
sqrt = _one("sqrt", "The square root", r"\sqrt{x}", r"\bar o / (2\sqrt{x})", lambda g, out: g / (out * 2), 9.0, 3.0)
square = _one("square", "The square", r"x^2", r"2x\,\bar o", lambda g, x: g * (x * 2), 3.0, 9.0, floating=False)
reciprocal = _one("reciprocal", "One over x", r"1/x", r"-\bar o / x^2", lambda g, out: -g * (out * out), 4.0, 0.25)
rsqrt = _one(
    "rsqrt",
    "One over the square root",
    r"1/\sqrt{x}",
    r"-\bar o / (2 x \sqrt{x})",
    lambda g, out: g * (out * out * (out * -0.5)),
    4.0,
    0.5,
)
sin = _one("sin", "The sine (x in radians)", r"\sin x", r"\bar o \cos x", lambda g, x: g * cos(x), 0.5, 0.4794, 10)
cos: Primitive = _one(
    "cos", "The cosine (x in radians)", r"\cos x", r"-\bar o \sin x", lambda g, x: -g * sin(x), 0.5, 0.8776, 10
)
tan = _one(
    "tan",
    "The tangent (x in radians)",
    r"\tan x",
    r"\bar o (1 + \tan^2 x)",
    lambda g, out: g * (out * out + 1),
    0.5,
    0.5463,
    12,
)
arcsin = _one(
    "arcsin",
    "The inverse sine",
    r"\arcsin x",
    r"\bar o / \sqrt{1 - x^2}",
    lambda g, x: g / sqrt(1 - x * x),
    0.5,
    0.5236,
    12,
)
arccos = _one(
    "arccos",
    "The inverse cosine",
    r"\arccos x",
    r"-\bar o / \sqrt{1 - x^2}",
    lambda g, x: -g / sqrt(1 - x * x),
    0.5,
    1.0472,
    12,
)
arctan = _one(
    "arctan", "The inverse tangent", r"\arctan x", r"\bar o / (1 + x^2)", lambda g, x: g / (x * x + 1), 1.0, 0.7854, 12
)
sinh = _one("sinh", "The hyperbolic sine", r"\sinh x", r"\bar o \cosh x", lambda g, x: g * cosh(x), 1.0, 1.1752, 12)
cosh: Primitive = _one(
    "cosh", "The hyperbolic cosine", r"\cosh x", r"\bar o \sinh x", lambda g, x: g * sinh(x), 1.0, 1.5431, 12
)
tanh = _one(
    "tanh",
    "The hyperbolic tangent",
    r"\tanh x",
    r"\bar o (1 - \tanh^2 x)",
    lambda g, out: g * (1 - out * out),
    1.0,
    0.7616,
    12,
)
arcsinh = _one(
    "arcsinh",
    "The inverse hyperbolic sine",
    r"\operatorname{arsinh} x",
    r"\bar o / \sqrt{x^2 + 1}",
    lambda g, x: g / sqrt(x * x + 1),
    1.0,
    0.8814,
    12,
)
arccosh = _one(
    "arccosh",
    "The inverse hyperbolic cosine",
    r"\operatorname{arcosh} x",
    r"\bar o / \sqrt{x^2 - 1}",
    lambda g, x: g / sqrt(x * x - 1),
    2.0,
    1.317,
    12,
)
arctanh = _one(
    "arctanh",
    "The inverse hyperbolic tangent",
    r"\operatorname{artanh} x",
    r"\bar o / (1 - x^2)",
    lambda g, x: g / (1 - x * x),
    0.5,
    0.5493,
    12,
)
erf = _one(
    "erf",
    "The error function",
    r"\operatorname{erf} x",
    r"\bar o\,\tfrac{2}{\sqrt\pi} e^{-x^2}",
    lambda g, x: g * (exp(-(x * x)) * (2 / math.sqrt(math.pi))),
    1.0,
    0.8427,
    20,
)
sigmoid = _one(
    "sigmoid",
    "The logistic function",
    r"\sigma(x) = 1 / (1 + e^{-x})",
    r"\bar o\,\sigma(x)(1 - \sigma(x))",
    lambda g, out: g * (out * (1 - out)),
    1.0,
    0.7311,
    10,
)
logsigmoid = _one(
    "logsigmoid",
    "The logarithm of the logistic function, without overflow",
    r"\ln \sigma(x)",
    r"\bar o\,\sigma(-x)",
    lambda g, x: g * sigmoid(-x),
    1.0,
    -0.3133,
    16,
)
silu = _one(
    "silu",
    "The sigmoid-weighted linear unit (swish)",
    r"x\,\sigma(x)",
    r"\bar o\,\sigma(x)(1 + x(1 - \sigma(x)))",
    lambda g, x: _silu_dx(g, x, sigmoid(x)),
    1.0,
    0.7311,
    11,
)
negative = _one(
    "negative", "The negative", r"-x", r"-\bar o", lambda g: -g, 2.0, -2.0, floating=False, kernel="negative"
)
absolute = _one(
    "abs",
    "The absolute value (derivative 0 at 0)",
    r"|x|",
    r"\bar o\,\operatorname{sign} x",
    lambda g, x: g * sign(x),
    -2.0,
    2.0,
    floating=False,
)
# Steps: flat wherever they have a derivative at all, so it is 0, as in PyTorch.
sign: Primitive = _one(
    "sign", "The sign, 0 at 0", r"\operatorname{sign} x", "0", lambda g: g * 0, -3.0, -1.0, floating=False
)
floor = _one(
    "floor", "The largest integer not above x", r"\lfloor x \rfloor", "0", lambda g: g * 0, 1.7, 1.0, floating=False
)
ceil = _one(
    "ceil", "The smallest integer not below x", r"\lceil x \rceil", "0", lambda g: g * 0, 1.2, 2.0, floating=False
)
round = _one(
    "round",
    "The nearest integer, halves to the even one",
    r"\lfloor x \rceil",
    "0",
    lambda g: g * 0,
    2.5,
    2.0,
    floating=False,
)
trunc = _one(
    "trunc", "x without its fraction", r"\operatorname{trunc} x", "0", lambda g: g * 0, -1.7, -1.0, floating=False
)
isnan = _one("isnan", "Whether x is not a number", r"[x \ne x]", "", None, 1.0, False, floating=False)
isinf = _one("isinf", "Whether x is infinite", r"[|x| = \infty]", "", None, 1.0, False, floating=False)
isfinite = _one(
    "isfinite", "Whether x is neither infinite nor NaN", r"[|x| < \infty]", "", None, 1.0, True, floating=False
)
logical_not = _one("logical_not", "Whether x is 0", r"[x = 0]", "", None, 1.0, False, floating=False)


@tanh.fused_vjp("x")
def tanh_fused(k, g, out):
    return k.tanh_backward(g, out)


@sigmoid.fused_vjp("x")
def sigmoid_fused(k, g, out):
    return k.sigmoid_backward(g, out)


@logsigmoid.fused_vjp("x")
def logsigmoid_fused(k, g, x):
    return k.logsigmoid_backward(g, x)


@silu.fused_vjp("x")
def silu_fused(k, g, x):
    return k.silu_backward(g, x)


@rsqrt.fused_vjp("x")
def rsqrt_fused(k, g, out):
    return k.rsqrt_backward(g, out)


@absolute.fused_vjp("x")
def absolute_fused(k, g, x):
    return k.absolute_backward(g, x)


def _silu_dx(g, x, s):
    return g * (s * (1 + x * (1 - s)))


def bitwise_not(x):
    """The complement of each bit; for bool, logical not.

    >>> cr.bitwise_not(cr.tensor([True, False]))
    tensor([False,  True])
    """
    if is_floating(x.dtype):
        raise TypeError(
            f"bitwise_not: received a tensor of {x.dtype}; bits are those of integers and bools; convert it first"
        )
    return result(as_ndarray(np.invert(x.array)))


# ---- functions of two numbers ----------------------------------------------------------------------------------------


@primitive(elementwise=True, direct=True, formula=r"x + y")
def add(k, x, y):
    """The sum x + y, broadcasting.

    >>> cr.add(cr.tensor([1.0, 2.0]), 10)
    tensor([11., 12.])
    """
    return k.add(x, y)


@add.vjp("x", formula=r"\bar o")
def add_dx(g):
    return g


@add.vjp("y", formula=r"\bar o")
def add_dy(g):
    return g


@primitive(elementwise=True, direct=True, formula=r"x - y")
def subtract(k, x, y):
    """The difference x − y, broadcasting.

    >>> cr.subtract(cr.tensor([1.0, 2.0]), 10)
    tensor([-9., -8.])
    """
    return k.subtract(x, y)


@subtract.vjp("x", formula=r"\bar o")
def subtract_dx(g):
    return g


@subtract.vjp("y", formula=r"-\bar o", kernel="negative")
def subtract_dy(g):
    return -g


@primitive(elementwise=True, direct=True, formula=r"x\,y")
def multiply(k, x, y):
    """The product x·y of each pair of elements, broadcasting.

    >>> cr.multiply(cr.tensor([1.0, 2.0]), cr.tensor([[3.0], [4.0]]))
    tensor([[3., 6.],
            [4., 8.]])
    """
    return k.multiply(x, y)


@multiply.vjp("x", formula=r"\bar o\,y", kernel="multiply")
def multiply_dx(g, y):
    return g * y


@multiply.vjp("y", formula=r"\bar o\,x", kernel="multiply")
def multiply_dy(g, x):
    return g * x


@primitive(elementwise=True, floating=True, direct=True, formula=r"x / y")
def divide(k, x, y):
    """The quotient x / y, broadcasting; integers become floats.

    >>> cr.divide(cr.tensor([1.0, 2.0]), 4)
    tensor([0.25, 0.5 ])
    """
    return k.divide(x, y)


@divide.vjp("x", formula=r"\bar o / y", kernel="divide")
def divide_dx(g, y):
    return g / y


@divide.vjp("y", formula=r"-\bar o\,x / y^2")
def divide_dy(g, y, out):
    return -g * (out / y)


@primitive(elementwise=True, formula=r"x^y", flops=20)
def power(k, x, y):
    """x to the power y, broadcasting.

    At y = 0 the derivative with respect to x is 0, and at x = 0, y ≥ 0 the one with respect to y is 0, as in PyTorch.

    >>> cr.power(cr.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    """
    if is_number(y) and y in (3, 4) and is_floating(x.dtype):  # where x < 0, NumPy's pow takes 70 times as long
        return x * x * x if y == 3 else (x * x) * (x * x)
    return x**y


@power.vjp("x", formula=r"\bar o\,y\,x^{y-1}")
def power_dx(g, x, y):
    if is_number(y):
        return g * (x * 2) if y == 2 else g * 0 if y == 0 else g * (power(x, y - 1) * y)
    return g * where(y == 0, 0, y * x ** where(y == 0, 1, y - 1))


@power.vjp("y", formula=r"\bar o\,x^y \ln x")
def power_dy(g, x, y, out):
    certain = (x == 0) & (y >= 0)
    return g * where(certain, 0, out * log(where(certain, 1, x)))


@primitive(elementwise=True, direct=True, formula=r"\max(x, y)")
def maximum(k, x, y):
    """The larger of x and y, NaN if either is; where they are equal each gets half of the gradient.

    >>> cr.maximum(cr.tensor([1.0, 5.0]), cr.tensor([3.0, 2.0]))
    tensor([3., 5.])
    """
    return k.maximum(x, y)


@maximum.vjp("x", formula=r"\bar o\,([x > y] + \tfrac12 [x = y])")
def maximum_dx(g, x, y):
    return where(x == y, g * 0.5, where(x > y, g, 0))


@maximum.vjp("y", formula=r"\bar o\,([y > x] + \tfrac12 [x = y])")
def maximum_dy(g, x, y):
    return where(x == y, g * 0.5, where(y > x, g, 0))


@primitive(elementwise=True, direct=True, formula=r"\min(x, y)")
def minimum(k, x, y):
    """The smaller of x and y, NaN if either is; where they are equal each gets half of the gradient.

    >>> cr.minimum(cr.tensor([1.0, 5.0]), cr.tensor([3.0, 2.0]))
    tensor([1., 2.])
    """
    return k.minimum(x, y)


@minimum.vjp("x", formula=r"\bar o\,([x < y] + \tfrac12 [x = y])")
def minimum_dx(g, x, y):
    return where(x == y, g * 0.5, where(x < y, g, 0))


@minimum.vjp("y", formula=r"\bar o\,([y < x] + \tfrac12 [x = y])")
def minimum_dy(g, x, y):
    return where(x == y, g * 0.5, where(y < x, g, 0))


@primitive(elementwise=True, floating=True, direct=True, formula=r"\operatorname{atan2}(x, y)", flops=20)
def arctan2(k, x, y):
    """The angle of the point (y, x) in radians, in (−π, π]; its derivative at the origin is 0.

    >>> round(cr.arctan2(cr.tensor(1.0), cr.tensor(1.0)).item(), 4)
    0.7854
    """
    return k.arctan2(x, y)


@arctan2.vjp("x", formula=r"\bar o\,y / (x^2 + y^2)")
def arctan2_dx(g, x, y):
    return g * (y / _squared_radius(x, y))


@arctan2.vjp("y", formula=r"-\bar o\,x / (x^2 + y^2)")
def arctan2_dy(g, x, y):
    return -g * (x / _squared_radius(x, y))


def _squared_radius(x, y):
    """x² + y², but 1 at the origin: no direction is steepest there, and the gradient is 0."""
    r = x * x + y * y
    return where(r == 0, 1, r)


@primitive(elementwise=True, floating=True, direct=True, formula=r"\ln(e^x + e^y)", flops=20)
def logaddexp(k, x, y):
    """The logarithm of the sum of the exponentials, without overflow.

    >>> round(cr.logaddexp(cr.tensor(1000.0), cr.tensor(1000.0)).item(), 3)
    1000.693
    """
    return k.logaddexp(x, y)


@logaddexp.vjp("x", formula=r"\bar o\,\sigma(x - y)")
def logaddexp_dx(g, x, y):
    return g * sigmoid(x - y)


@logaddexp.vjp("y", formula=r"\bar o\,\sigma(y - x)")
def logaddexp_dy(g, x, y):
    return g * sigmoid(y - x)


@primitive(elementwise=True, direct=True, formula=r"x - y \lfloor x / y \rfloor", flops=4)
def remainder(k, x, y):
    """The remainder of x / y with the sign of y, as Python's %.

    >>> cr.remainder(cr.tensor([5.0, -5.0]), 3)
    tensor([2., 1.])
    """
    return k.remainder(x, y)


@remainder.vjp("x", formula=r"\bar o")
def remainder_dx(g):
    return g


@remainder.vjp("y", formula=r"-\bar o \lfloor x / y \rfloor")
def remainder_dy(g, x, y):
    return -g * floor_divide(x, y)


@primitive(elementwise=True, direct=True, differentiable=False, formula=r"\lfloor x / y \rfloor", flops=2)
def floor_divide(k, x, y):
    """The quotient rounded down, as Python's //; not differentiable.

    >>> cr.floor_divide(cr.tensor([7, -7]), 2)
    tensor([ 3, -4])
    """
    return k.floor_divide(x, y)


def _compare(name, title, formula, value):
    def forward(k, x, y):
        return getattr(k, name)(x, y)

    forward.__name__, forward.__module__ = name, __name__
    forward.__doc__ = (
        f"{title}, element by element and broadcasting; a bool tensor.\n\n"
        f"    >>> cr.{name}(cr.tensor([1, 2, 0]), cr.tensor([2, 2, 0]))\n    {value}\n    "
    )
    return primitive(elementwise=True, direct=True, differentiable=False, formula=formula)(forward)


equal = _compare("equal", "Whether x = y", "[x = y]", "tensor([False,  True,  True])")
not_equal = _compare("not_equal", "Whether x ≠ y", r"[x \ne y]", "tensor([ True, False, False])")
less = _compare("less", "Whether x < y", "[x < y]", "tensor([ True, False, False])")
less_equal = _compare("less_equal", "Whether x ≤ y", r"[x \le y]", "tensor([ True,  True,  True])")
greater = _compare("greater", "Whether x > y", "[x > y]", "tensor([False, False, False])")
greater_equal = _compare("greater_equal", "Whether x ≥ y", r"[x \ge y]", "tensor([False,  True,  True])")
logical_and = _compare("logical_and", "Whether both are nonzero", r"x \wedge y", "tensor([ True,  True, False])")
logical_or = _compare("logical_or", "Whether one is nonzero", r"x \vee y", "tensor([ True,  True, False])")
logical_xor = _compare("logical_xor", "Whether exactly one is nonzero", r"x \oplus y", "tensor([False, False, False])")
bitwise_and = _compare("bitwise_and", "The bits set in both", r"x \mathbin{\&} y", "tensor([0, 2, 0])")
bitwise_or = _compare("bitwise_or", "The bits set in one", r"x \mid y", "tensor([3, 2, 0])")
bitwise_xor = _compare("bitwise_xor", "The bits set in exactly one", r"x \oplus y", "tensor([3, 0, 0])")


# ---- choices and bounds ----------------------------------------------------------------------------------------------


@primitive(elementwise=True, constant=("condition",), formula=r"c\;?\;x : y")
def where(k, condition, x, y):
    """x where `condition` holds, else y, broadcasting; a NaN in the branch not taken reaches no value and no gradient.

    >>> cr.where(cr.tensor([True, False]), cr.tensor([1.0, 2.0]), 0)
    tensor([1., 0.])
    """
    return k.where(condition, x, y)


@where.vjp("x", formula=r"c\;?\;\bar o : 0")
def where_dx(g, condition):
    return where(condition, g, 0)


@where.vjp("y", formula=r"c\;?\;0 : \bar o")
def where_dy(g, condition):
    return where(condition, 0, g)


@primitive(name="clamp", elementwise=True, formula=r"\min(\max(x, a), b)", flops=2)
def clamp_numbers(k, x, *, min, max):
    return k.clip(x, min, max)


@clamp_numbers.vjp("x", formula=r"\bar o\,[a \le x \le b]")
def clamp_numbers_dx(g, x, *, min, max):
    inside = (x >= (-math.inf if min is None else min)) & (x <= (math.inf if max is None else max))
    return where(inside, g, 0)


@clamp_numbers.fused_vjp("x")
def clamp_numbers_fused(k, g, x, *, min, max):
    return k.clip_backward(g, x, min=-math.inf if min is None else min, max=math.inf if max is None else max)


def clamp(x, min=None, max=None):
    """x limited to [min, max]; bounds may be numbers or tensors. The gradient passes where min ≤ x ≤ max.

    >>> cr.clamp(cr.tensor([-2.0, 0.5, 3.0]), 0, 1)
    tensor([0. , 0.5, 1. ])
    """
    if min is None and max is None:
        raise ValueError("clamp: received neither min nor max; pass at least one bound")
    bounds = [b for b in (min, max) if b is not None]
    if all(is_number(b) for b in bounds):
        if not is_floating(x.dtype) and any(isinstance(b, float) for b in bounds):
            x = x.float()
        return clamp_numbers(x, min=min, max=max)
    if min is not None:
        x = where(x >= min, x, maximum(x, min))  # a NaN on either side reaches the result
    return x if max is None else where(x <= max, x, minimum(x, max))


# ---- activations  ------------------------------------------------------------------------------------


@primitive(elementwise=True, formula=r"\max(x, 0)")
def relu(k, x):
    """The rectified linear unit max(x, 0); its derivative at 0 is 0 (Nair & Hinton 2010).

    >>> cr.relu(cr.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return k.relu(x) if is_floating(x.dtype) else k.maximum(x, 0)


@relu.vjp("x", formula=r"\bar o\,[x > 0]")
def relu_dx(g, out):
    return g * (out > 0)


@relu.fused_vjp("x")
def relu_fused(k, g, out):
    return k.relu_backward(g, out)


@primitive(name="leaky_relu", elementwise=True, floating=True, formula=r"x > 0\;?\;x : a x", flops=2)
def leaky_relu_by(k, x, *, slope):
    return k.leaky_relu(x, slope=slope)


@leaky_relu_by.vjp("x", formula=r"x > 0\;?\;\bar o : a \bar o")
def leaky_relu_by_dx(g, x, *, slope):
    return where(x > 0, g, g * slope)


@leaky_relu_by.fused_vjp("x")
def leaky_relu_by_fused(k, g, x, *, slope):
    return k.leaky_relu_backward(g, x, slope=slope)


def leaky_relu(x, negative_slope: float = 0.01):
    """The leaky rectifier: x for x > 0, else negative_slope·x (Maas et al. 2013).

    >>> cr.leaky_relu(cr.tensor([-1.0, 2.0]), 0.1)
    tensor([-0.1,  2. ])
    """
    return leaky_relu_by(x, slope=negative_slope)


@primitive(name="elu", elementwise=True, floating=True, formula=r"x > 0\;?\;x : \alpha (e^x - 1)", flops=10)
def elu_by(k, x, *, alpha):
    return k.elu(x, alpha=alpha)


@elu_by.vjp("x", formula=r"x > 0\;?\;\bar o : \alpha e^x \bar o")
def elu_by_dx(g, x, *, alpha):
    return where(x > 0, g, g * (exp(minimum(x, 0)) * alpha))


@elu_by.fused_vjp("x")
def elu_by_fused(k, g, x, *, alpha):
    return k.elu_backward(g, x, alpha=alpha)


def elu(x, alpha: float = 1.0):
    """The exponential linear unit: x for x > 0, else α(eˣ − 1) (Clevert et al. 2016).

    >>> cr.elu(cr.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.    ])
    """
    return elu_by(x, alpha=alpha)


@primitive(name="softplus", elementwise=True, floating=True, formula=r"\tfrac1\beta \ln(1 + e^{\beta x})", flops=16)
def softplus_by(k, x, *, beta, threshold):
    return k.softplus(x, beta=beta, threshold=threshold)


@softplus_by.vjp("x", formula=r"\bar o\,\sigma(\beta x)")
def softplus_by_dx(g, x, *, beta, threshold):
    return where(x * beta > threshold, g, g * sigmoid(x * beta))


@softplus_by.fused_vjp("x")
def softplus_by_fused(k, g, x, *, beta, threshold):
    return k.softplus_backward(g, x, beta=beta, threshold=threshold)


def softplus(x, beta: float = 1.0, threshold: float = 20.0):
    """The smooth rectifier (1/β) ln(1 + e^{βx}); x itself where βx > threshold.

    >>> cr.softplus(cr.tensor(0.0)).item()
    0.6931471824645996
    """
    return softplus_by(x, beta=beta, threshold=threshold)


@primitive(name="gelu", elementwise=True, floating=True, formula=r"x\,\Phi(x)", flops=24)
def gelu_exact(k, x):
    return k.gelu(x)


@gelu_exact.vjp("x", formula=r"\bar o\,(\Phi(x) + x\,\varphi(x))")
def gelu_exact_dx(g, x):
    cdf = (erf(x * math.sqrt(0.5)) + 1) * 0.5
    return g * (cdf + x * exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


@gelu_exact.fused_vjp("x")
def gelu_exact_fused(k, g, x):
    return k.gelu_backward(g, x)


def gelu(x, approximate: str = "none"):
    """The Gaussian error linear unit x·Φ(x) (Hendrycks & Gimpel 2016); `approximate="tanh"` for its tanh form.

    >>> cr.gelu(cr.tensor(1.0)).item()
    0.8413447141647339
    """
    if approximate == "none":
        return gelu_exact(x)
    if approximate != "tanh":
        raise ValueError(f"gelu: received approximate={approximate!r}; it can be 'none' or 'tanh'")
    return x * 0.5 * (tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)) + 1)


def hardtanh(x, min_val: float = -1.0, max_val: float = 1.0):
    """x limited to [min_val, max_val]; unlike `clamp`, its derivative at the bounds is 0, as in PyTorch.

    >>> cr.hardtanh(cr.tensor([-3.0, 0.5]))
    tensor([-1. ,  0.5])
    """
    return where((x > min_val) & (x < max_val), x, clamp(x.detach(), min_val, max_val))


def relu6(x):
    """min(max(x, 0), 6); its derivative at 0 and 6 is 0.

    >>> cr.relu6(cr.tensor([-1.0, 8.0]))
    tensor([0., 6.])
    """
    return hardtanh(x, 0, 6)


def lerp(start, end, weight):
    """The point at `weight` between start and end: start + weight·(end − start).

    >>> cr.lerp(cr.tensor(0.0), cr.tensor(10.0), 0.3).item()
    3.0
    """
    return start + weight * (end - start)
