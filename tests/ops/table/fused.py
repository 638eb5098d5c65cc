"""Rows of layers in a row as one operation, against the loops of each one after the other."""

import numpy as np

from .. import loops
from .linalg import linear
from .row import Sample, normal, of_primitive, public, redrawn
from .windows import conv, geometry

CURVES = {
    "relu": lambda z: np.where(z > 0, z, 0),
    "tanh": lambda z: (np.exp(2 * z) - 1) / (np.exp(2 * z) + 1),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
}


def through(z, activation, pool=None):
    """z through an activation and a pooling."""
    z = CURVES[activation](z)
    if pool is None:
        return z
    window = dict(kernel_size=pool[1:], stride=pool[1:], padding=((0, 0), (0, 0)), ceil_mode=False)
    if pool[0] == "max":
        return loops.max_pool(z, **window, dilation=(1, 1))[0]
    return loops.avg_pool(z, **window, count_include_pad=True, divisor_override=None)


def smooth(z):
    """Whether no value is so near to 0, or to another, that a difference would step over a kink."""
    values = np.sort(z, axis=None)
    return not z.size or (abs(values).min() > 1e-3 and np.diff(values).min(initial=1) > 1e-4)


def linear_act(x, w, b=None, *, activation="relu"):
    return through(linear(x, w, b), activation)


def lines(*leads):
    def make(rng):
        for lead in leads:
            for activation in CURVES:
                draw = lambda lead=lead: (normal(rng, *lead, 3), normal(rng, 2, 3), normal(rng, 2))
                x, w, b = redrawn(draw, lambda *a: smooth(linear(*a)) and smooth(linear(*a[:2])))
                yield Sample((x, w, b), {"activation": activation})
                yield Sample((x, w, None), {"activation": activation})
        yield Sample((normal(rng, 2, 0), normal(rng, 3, 0), normal(rng, 3)), {"activation": "tanh"})

    return make


#: (input, weight, geometry, activation, pool); rests that fill no window, groups, windows of 1, a plane of one window
PLANES = [
    ((2, 1, 6, 6), (3, 1, 3, 3), {}, "relu", ("max", 2, 2)),
    ((1, 2, 6, 7), (2, 2, 2, 2), {}, "tanh", ("avg", 2, 2)),
    ((1, 1, 6, 6), (2, 1, 3, 3), dict(padding=1), "sigmoid", ("avg", 3, 2)),
    ((1, 1, 5, 7), (1, 1, 2, 2), {}, "tanh", ("max", 2, 3)),
    ((2, 2, 4, 4), (2, 1, 2, 2), dict(groups=2, stride=2), "relu", ("avg", 2, 2)),
    ((1, 2, 3, 3), (3, 2, 1, 1), {}, "relu", None),
    ((1, 1, 3, 4), (2, 1, 2, 2), {}, "tanh", None),
    ((1, 1, 4, 4), (1, 1, 3, 3), dict(padding=((1, 0), (0, 1))), "sigmoid", ("max", 1, 1)),
    ((2, 1, 3, 3), (2, 1, 3, 3), {}, "sigmoid", None),
    ((0, 1, 4, 4), (2, 1, 3, 3), {}, "relu", ("max", 2, 2)),
]


def planes(metadata):
    def make(rng):
        for x, w, given, activation, pool in PLANES:
            draw = lambda x=x, w=w: (normal(rng, *x), normal(rng, *w), normal(rng, w[0]))
            good = lambda *a, given=given: smooth(conv(*a, **given)) and smooth(conv(*a[:2], **given))
            inputs = redrawn(draw, good)
            params = {**metadata(**given), "activation": activation, "pool": pool}
            yield Sample(inputs, params)
            yield Sample((*inputs[:2], None), params)

    return make


def planes_oracle(x, w, b, *, activation, pool, **sizes):
    return through(loops.conv(x, w, b, **sizes), activation, pool)


def act_pool(x, w, b=None, *, activation="relu", pool=None, **given):
    z = conv(x, w, b, **given)
    return through(z, activation, pool) if z.ndim == 4 else through(z[None], activation, pool)[0]


def unbatched(rng):
    yield from planes(dict)(rng)
    yield Sample((normal(rng, 1, 5, 5), normal(rng, 2, 1, 2, 2), None), {"activation": "tanh", "pool": ("avg", 2, 2)})


ROWS = [
    of_primitive("linear_act_rows", linear_act, lines((4,), (1,), (2, 3), (), (0,))),
    of_primitive("conv2d_act_pool_planes", planes_oracle, planes(geometry)),
    public("linear_act", linear_act, lines((4,), (2, 3))),
    public("conv2d_act_pool", act_pool, unbatched),
]
