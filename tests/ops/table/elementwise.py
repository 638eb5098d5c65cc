"""Rows of elementwise operations. The oracle is Python's own arithmetic and `math`, one number at a time."""

import math
import operator

import numpy as np

import chainrule as cr

from .row import Row, Sample, elementwise, normal

FAR = 1e-2  # how far from a kink the inputs are drawn


def away(*points):
    return lambda x: np.all([np.abs(x - p) > FAR for p in points], axis=0)


def apart(x, y):
    return np.abs(np.subtract(x, y)) > FAR


def off_integers(x):
    return np.abs(x - np.round(x)) > FAR


# ---- functions of one number -----------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def softplus(x, beta=1.0, threshold=20.0):
    return x if x * beta > threshold else math.log1p(math.exp(beta * x)) / beta


def normal_cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def gelu(x, approximate="none"):
    if approximate == "tanh":
        return x / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * normal_cdf(x)


def sign(x):
    return float((x > 0) - (x < 0))


def leaky_relu(x, negative_slope=0.01):
    return x if x > 0 else negative_slope * x


def elu(x, alpha=1.0):
    return x if x > 0 else alpha * (math.exp(x) - 1)


def clip(x, min=None, max=None):
    x = x if min is None or x >= min else min
    return x if max is None or x <= max else max


ANY, POSITIVE, UNIT, BEYOND = (-2.5, 2.5), (0.1, 3.0), (-0.95, 0.95), (1.1, 3.0)
SPECIAL = [0.0, -0.0, 1.5, -2.0, math.inf, -math.inf, math.nan]
NO_SLOPE = {"derivative": "a predicate: its result is bool"}
NO_HALF = {"float16": "nearly equal inputs change the outcome"}

ONE = [
    elementwise("exp", math.exp, ANY),
    elementwise("exp2", lambda x: 2.0**x, ANY),
    elementwise("expm1", math.expm1, ANY),
    elementwise("log", math.log, POSITIVE),
    elementwise("log1p", math.log1p, (-0.8, 3.0)),
    elementwise("log2", math.log2, POSITIVE),
    elementwise("log10", math.log10, POSITIVE),
    elementwise("sqrt", math.sqrt, POSITIVE),
    elementwise("rsqrt", lambda x: 1 / math.sqrt(x), POSITIVE),
    elementwise("square", lambda x: x * x, ANY),
    elementwise("reciprocal", lambda x: 1 / x, ANY, good=lambda x: np.abs(x) > 0.2),
    elementwise("sin", math.sin, ANY),
    elementwise("cos", math.cos, ANY),
    elementwise("tan", math.tan, (-1.2, 1.2)),
    elementwise("arcsin", math.asin, UNIT),
    elementwise("arccos", math.acos, UNIT),
    elementwise("arctan", math.atan, ANY),
    elementwise("sinh", math.sinh, ANY),
    elementwise("cosh", math.cosh, ANY),
    elementwise("tanh", math.tanh, ANY),
    elementwise("arcsinh", math.asinh, ANY),
    elementwise("arccosh", math.acosh, BEYOND),
    elementwise("arctanh", math.atanh, UNIT),
    elementwise("erf", math.erf, ANY),
    elementwise("sigmoid", sigmoid, ANY),
    elementwise("logsigmoid", lambda x: math.log(sigmoid(x)), ANY),
    elementwise("silu", lambda x: x * sigmoid(x), ANY),
    elementwise("negative", operator.neg, ANY),
    elementwise("abs", abs, ANY, good=away(0)),
    elementwise("sign", sign, ANY, good=away(0)),
    elementwise("floor", lambda x: float(math.floor(x)), ANY, good=off_integers),
    elementwise("ceil", lambda x: float(math.ceil(x)), ANY, good=off_integers),
    elementwise("round", lambda x: float(round(x)), ANY, good=lambda x: off_integers(x + 0.5)),
    elementwise("trunc", lambda x: float(math.trunc(x)), ANY, good=off_integers),
    elementwise("isnan", math.isnan, SPECIAL, result=bool, without=NO_SLOPE),
    elementwise("isinf", math.isinf, SPECIAL, result=bool, without=NO_SLOPE),
    elementwise("isfinite", math.isfinite, SPECIAL, result=bool, without=NO_SLOPE),
    elementwise("logical_not", operator.not_, [0.0, 1.5, -2.0], result=bool, without=NO_SLOPE),
    elementwise("logical_not", operator.not_, [True, False], label="bool", result=bool, function=cr.logical_not),
    elementwise("bitwise_not", operator.invert, [-3, 0, 1, 6], result=int),
    elementwise("bitwise_not", operator.not_, [True, False], label="bool", result=bool, function=cr.bitwise_not),
    elementwise("relu", lambda x: max(x, 0.0), ANY, good=away(0)),
    elementwise("relu6", lambda x: min(max(x, 0.0), 6.0), (-3.0, 9.0), good=away(0, 6)),
    elementwise("leaky_relu_by", lambda x, slope: leaky_relu(x, slope), ANY, good=away(0), params=[{"slope": 0.3}]),
    elementwise("leaky_relu", leaky_relu, ANY, good=away(0), params=[{}, {"negative_slope": -0.5}]),
    elementwise("elu_by", elu, ANY, good=away(0), params=[{"alpha": 1.0}, {"alpha": -0.3}]),
    elementwise("elu", elu, ANY, good=away(0), params=[{}, {"alpha": 0.7}]),
    elementwise("softplus_by", softplus, (-3.0, 3.0), good=away(0.5), params=[{"beta": 2.0, "threshold": 1.0}]),
    elementwise("softplus", softplus, (-3.0, 3.0), params=[{}, {"beta": 2.0}]),
    elementwise("gelu_exact", gelu, ANY),
    elementwise("gelu", gelu, ANY, params=[{}, {"approximate": "tanh"}]),
    elementwise(
        "hardtanh",
        lambda x, min_val=-1.0, max_val=1.0: clip(x, min_val, max_val),
        ANY,
        good=away(-1, 1, 0.5),
        params=[{}, {"min_val": -1, "max_val": 0.5}],
    ),
    elementwise(
        "clamp_numbers", clip, ANY, good=away(-1, 1), params=[{"min": -1, "max": 1}, {"min": None, "max": 1.0}]
    ),
    elementwise(
        "clamp",
        clip,
        ANY,
        good=away(-0.5, 1),
        label="numbers",
        params=[{"min": -0.5, "max": 1.0}, {"min": -0.5}, {"max": 1}, {"min": 1.0, "max": -0.5}],
    ),
]

# ---- functions of two numbers ----------------------------------------------------------------------------------------

TRUTH = [0.0, 1.0, -2.0]
BITS = [0, 1, 2, 3, 6, -5]


def logaddexp(x, y):
    return max(x, y) + math.log1p(math.exp(-abs(x - y)))


TWO = [
    elementwise("add", operator.add, ANY, ANY),
    elementwise("subtract", operator.sub, ANY, ANY),
    elementwise("multiply", operator.mul, ANY, ANY),
    elementwise("divide", operator.truediv, ANY, ANY, good=lambda x, y: np.abs(y) > 0.3),
    elementwise("power", operator.pow, POSITIVE, ANY),
    elementwise("maximum", max, ANY, ANY, good=apart, without=NO_HALF),
    elementwise("minimum", min, ANY, ANY, good=apart, without=NO_HALF),
    elementwise("arctan2", math.atan2, ANY, ANY, good=lambda x, y: np.hypot(x, y) > 0.3),
    elementwise("logaddexp", logaddexp, ANY, ANY),
    elementwise(
        "remainder",
        lambda x, y: x % y,
        (-6.0, 6.0),
        (-2.5, 2.5),
        good=lambda x, y: (np.abs(y) > 0.3) & off_integers(np.divide(x, y)),
        without=NO_HALF,
    ),
    elementwise(
        "floor_divide",
        operator.floordiv,
        (-6.0, 6.0),
        (-2.5, 2.5),
        good=lambda x, y: (np.abs(y) > 0.3) & off_integers(np.divide(x, y)),
        without={"derivative": "a step: flat wherever it has a derivative, and PyTorch defines none", **NO_HALF},
    ),
    *[
        elementwise(name, scalar, TRUTH, TRUTH, result=bool, without=NO_SLOPE)
        for name, scalar in {
            "equal": operator.eq,
            "not_equal": operator.ne,
            "less": operator.lt,
            "less_equal": operator.le,
            "greater": operator.gt,
            "greater_equal": operator.ge,
            "logical_and": lambda x, y: bool(x and y),
            "logical_or": lambda x, y: bool(x or y),
            "logical_xor": lambda x, y: bool(x) != bool(y),
        }.items()
    ],
    elementwise("bitwise_and", operator.and_, BITS, BITS, result=int),
    elementwise("bitwise_or", operator.or_, BITS, BITS, result=int),
    elementwise("bitwise_xor", operator.xor, BITS, BITS, result=int),
    elementwise(
        "floor_divide", operator.floordiv, BITS, [-2, 1, 3], label="integers", result=int, function=cr.floor_divide
    ),
    elementwise("remainder", operator.mod, BITS, [-2, 1, 3], label="integers", result=int, function=cr.remainder),
    elementwise("add", operator.add, BITS, BITS, label="integers", result=int, function=cr.add),
    elementwise("power", operator.pow, BITS, [0, 1, 3], label="integers", result=int, function=cr.power),
]


def number_row(name, symbol, scalar, values, domain=POSITIVE, side="number right"):
    """The operator between a tensor and a Python number on one side."""
    swapped = side == "number left"
    return elementwise(
        name,
        (lambda x, value: scalar(value, x)) if swapped else (lambda x, value: scalar(x, value)),
        domain,
        params=[{"value": value} for value in values],
        label=side,
        function=(lambda x, value: symbol(value, x)) if swapped else (lambda x, value: symbol(x, value)),
    )


NUMBERS = [
    number_row(name, symbol, symbol, values, domain, side)
    for side in ("number right", "number left")
    for name, symbol, values, domain in [
        ("add", operator.add, [3, -1.5], ANY),
        ("subtract", operator.sub, [3, -1.5], ANY),
        ("multiply", operator.mul, [3, -1.5, 0], ANY),
        ("divide", operator.truediv, [3, -1.5], POSITIVE),
        ("power", operator.pow, [2, 0.5, 3] if side == "number left" else [2, 0, 1, 3, -1, 0.5, -2.5], POSITIVE),
    ]
] + [
    number_row("power", operator.pow, operator.pow, [2, 3, -2, 0], (-2.0, -0.3), "negative base"),
    elementwise(
        "maximum",
        lambda x, value: max(x, value),
        ANY,
        good=away(0.5),
        params=[{"value": 0.5}],
        label="number right",
        function=lambda x, value: cr.maximum(x, value),
    ),
    elementwise(
        "minimum",
        lambda x, value: min(x, value),
        ANY,
        good=away(0.5),
        params=[{"value": 0.5}],
        label="number right",
        function=lambda x, value: cr.minimum(x, value),
    ),
]

# ---- functions of three numbers --------------------------------------------------------------------------------------


def truth(rng, shape):
    return np.asarray(rng.random(shape) < 0.5)


def where_samples(rng):
    for c, x, y in [((2, 3), (2, 3), (2, 3)), ((3,), (2, 1), ()), ((), (2,), (2,)), ((0, 2), (2,), (1, 1))]:
        yield Sample((truth(rng, c), normal(rng, *x), normal(rng, *y)))


def where_loop(condition, x, y):
    c, x, y = np.broadcast_arrays(condition, x, y)
    return np.array([b if a else d for a, b, d in zip(c.flat, x.flat, y.flat, strict=True)], float).reshape(c.shape)


def masked_samples(rng):
    yield Sample((normal(rng, 2, 3), truth(rng, (2, 3))), {"value": -1.5})
    yield Sample((normal(rng, 2, 3), truth(rng, (3,))), {"value": 2})
    yield Sample((normal(rng), truth(rng, ())), {"value": 2})
    yield Sample((normal(rng, 0, 3), truth(rng, (3,))), {"value": 2})


THREE = [
    Row(
        "where",
        cr.where,
        where_loop,
        where_samples,
        of="where",
        primitive=True,
        draw=lambda rng, shapes: (truth(rng, shapes[0]), normal(rng, *shapes[1]), normal(rng, *shapes[2])),
        arity=3,
    ),
    Row(
        "masked_fill",
        cr.masked_fill,
        lambda x, mask, value: where_loop(mask, np.asarray(float(value)), x),
        masked_samples,
        of="masked_fill",
    ),
    Row(
        "masked_fill (tensor value)",
        lambda x, value, mask: cr.masked_fill(x, cr.tensor(mask), value),
        lambda x, value, mask: where_loop(np.asarray(mask), value, x),
        lambda rng: [Sample((normal(rng, 2, 3), normal(rng)), {"mask": [True, False, True]})],
        of="masked_fill",
    ),
    elementwise("lerp", lambda a, b, w: a + w * (b - a), ANY, ANY, UNIT),
    elementwise(
        "clamp",
        lambda x, low, high: min(max(x, low), high),
        ANY,
        ANY,
        ANY,
        label="tensors",
        function=lambda x, low, high: cr.clamp(x, low, high),
        good=lambda x, low, high: apart(x, low) & apart(x, high) & apart(low, high),
        without=NO_HALF,
    ),
    elementwise(
        "clamp",
        lambda x, high: min(x, high),
        ANY,
        ANY,
        label="tensor above",
        function=lambda x, high: cr.clamp(x, max=high),
        good=apart,
        without=NO_HALF,
    ),
    elementwise(
        "clamp",
        lambda x, low: min(max(x, low), 1.0),
        ANY,
        ANY,
        label="tensor and number",
        function=lambda x, low: cr.clamp(x, min=low, max=1.0),
        good=lambda x, low: apart(x, low) & away(1.0)(x) & away(1.0)(low),
        without=NO_HALF,
    ),
]


# ---- conversions -----------------------------------------------------------------------------------------------------

CONVERT = [
    Row(
        "clone",
        cr.clone,
        np.array,
        lambda rng: [Sample((normal(rng, *s),)) for s in [(2, 3), (), (0, 2)]],
        of="clone",
        primitive=True,
    ),
    Row(
        "cast",
        cr.autograd.REGISTRY["cast"],
        lambda x, dtype, source: x.astype(dtype),
        lambda rng: [
            Sample((normal(rng, *s),), {"dtype": np.float64, "source": np.float64}) for s in [(2, 3), (), (0, 2)]
        ],
        of="cast",
        primitive=True,
        without={
            "float32": "the dtype of the result is the metadata's; test_promotion.py casts between all dtypes",
            "float16": "the dtype of the result is the metadata's",
            "bfloat16": "the dtype of the result is the metadata's",
        },
    ),
    Row(
        "transfer",
        cr.autograd.REGISTRY["transfer"],
        lambda x, device, source: np.array(x),
        lambda rng: [
            Sample((normal(rng, *s),), dict.fromkeys(["device", "source"], cr.get_default_device()))
            for s in [(2, 3), (), (0, 2)]
        ],
        of="transfer",
        primitive=True,
    ),
    elementwise("contiguous", float, ANY, function=lambda x: x.contiguous()),
]

ROWS = ONE + TWO + NUMBERS + THREE + CONVERT
