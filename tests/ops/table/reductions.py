"""Rows of reductions, scans and orders. The oracle gathers the numbers of each result in a Python list."""

import math

import numpy as np

from .row import Sample, of_primitive, product, public, samples, uniform


def dims_of(x, dim):
    if dim is None or dim == ():
        return tuple(range(x.ndim))
    return tuple(d % max(x.ndim, 1) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))) if x.ndim else ()


def over(x, dim, keepdim, f, result=float):
    """f of the list of numbers that each result reduces."""
    dims = dims_of(x, dim)
    rest = [n for d, n in enumerate(x.shape) if d not in dims]
    out = np.empty(rest, result)
    for place in np.ndindex(*rest):
        index = iter(place)
        out[place] = f(
            [v.item() for v in x[tuple(slice(None) if d in dims else next(index) for d in range(x.ndim))].flat]
        )
    return out.reshape([1 if d in dims else n for d, n in enumerate(x.shape)]) if keepdim else out


def along(x, dim, f, result=float):
    """f of each line along `dim`, a list to a list."""
    out = np.empty(x.shape, result)
    lines, made = np.moveaxis(x, dim, -1), np.moveaxis(out, dim, -1)
    for place in np.ndindex(*lines.shape[:-1]):
        made[place] = f(lines[place].tolist())
    return out


def reducing(f, result=float):
    return lambda x, dim=None, keepdim=False, **given: over(x, dim, keepdim, lambda values: f(values, **given), result)


def variance(values, correction=1, unbiased=None):
    correction = correction if unbiased is None else int(unbiased)
    if len(values) <= correction:
        return math.nan
    middle = math.fsum(values) / len(values)
    return math.fsum((v - middle) ** 2 for v in values) / (len(values) - correction)


def deviation(values, **given):
    return math.sqrt(variance(values, **given))


def logsumexp(values):
    return math.log(math.fsum(math.exp(v) for v in values)) if values else -math.inf


def softmax(values):
    total = math.fsum(math.exp(v) for v in values)
    return [math.exp(v) / total for v in values]


def log_softmax(values):
    return [v - logsumexp(values) for v in values]


def pnorm(values, p="fro"):
    sizes = [abs(v) for v in values]
    if p in (math.inf, -math.inf):
        return max(sizes) if p > 0 else min(sizes)
    if p == 0:
        return float(sum(v != 0 for v in values))
    return math.fsum(s ** (2 if p == "fro" else p) for s in sizes) ** (1 / (2 if p == "fro" else p))


def mean(values):
    return math.fsum(values) / len(values) if values else math.nan


DIMS = [None, 0, -1, (0, 2), (1,), [0, 1, 2]]
FULL, VECTOR, EMPTY, NONE_LEFT = (2, 3, 2), (4,), (2, 0, 3), (0,)


def public_samples(*extra, empty=True, **choices):
    """Every `dim` and keepdim for 3-d inputs, vectors, 0-d and empty ones."""
    given = [{k: v for k, v in p.items() if v is not None} for p in product(dim=DIMS, keepdim=[False, True], **choices)]
    few = product(**choices)
    return samples(
        *[((FULL,), p) for p in given],
        *[((VECTOR,), p) for p in few],
        *[(((),), p) for p in few],
        *[((EMPTY,), {"dim": 2, **p}) for p in few],
        *([((EMPTY,), {"dim": 1, **p}) for p in few] if empty else []),
        *extra,
    )


def over_samples(empty=True, point=True, **choices):
    """The same for the primitives, which take a tuple of dimensions."""
    few = product(keepdim=[False, True], **choices)
    return samples(
        *[((FULL,), p) for p in product(dim=[(0, 1, 2), (1,), (0, 2), (2,)], keepdim=[False, True], **choices)],
        *([(((),), {"dim": (), **p}) for p in few] if point else []),
        *[((EMPTY,), {"dim": (2,), **p}) for p in few],
        *([((EMPTY,), {"dim": (1,), **p}) for p in few] if empty else []),
    )


def line_samples(*params):
    """One line for `dim` of a 3-d input, of a vector, and of lines without elements."""
    made = []
    for given in params or ({},):
        made += [((FULL,), {"dim": d, **given}) for d in (0, 1, -1)]
        made += [((VECTOR,), {"dim": 0, **given}), (((0, 3),), {"dim": 1, **given}), (((2, 1),), {"dim": 1, **given})]
    return samples(*made)


def ordered(descending=False):
    def order(values):
        return sorted(range(len(values)), key=lambda i: -values[i] if descending else values[i])

    return order


def sort(x, dim=-1, descending=False):
    order = ordered(descending)
    if not x.ndim:
        return x, np.zeros((), int)
    return along(x, dim, lambda v: [v[i] for i in order(v)]), along(x, dim, order, int)


def topk(x, k, dim=-1, largest=True):
    return tuple(np.take(a, range(k), axis=dim) for a in sort(x, dim, descending=largest))


def extreme(first):
    """max or min along a dimension: (values, indices)."""

    def oracle(x, dim, keepdim=False):
        if not x.ndim:
            return x, np.zeros((), int)
        return over(x, dim, keepdim, first), over(x, dim, keepdim, lambda v: v.index(first(v)), int)

    return oracle


def index_of(first):
    return lambda x, dim=None, keepdim=False: over(x, dim, keepdim, lambda v: v.index(first(v)), int)


def extremes(*extra):
    """Extremes need one element at least."""
    return public_samples(*extra, empty=False)


def one_dim(*extra):
    return samples(
        *[((FULL,), p) for p in product(dim=[0, 1, -1], keepdim=[False, True])],
        ((VECTOR,), {"dim": 0}),
        (((),), {"dim": 0}),
        ((EMPTY,), {"dim": 2}),
        *extra,
    )


def zeros_in(*places):
    """Vectors with zeros at some places: the derivative of a product must not divide by them."""

    def make(rng):
        for place in places:
            x = uniform(rng, (2, 4), 0.5, 1.5)
            x[(0, *[[p] for p in [place]])] = 0
            yield Sample((x,))

    return make


def both(*makers):
    def make(rng):
        for maker in makers:
            yield from maker(rng)

    return make


def positive(maker, low=0.3):
    """The sizes of another maker's samples, positive and distinct: no zero under a root or an absolute value."""

    def make(rng):
        for sample in maker(rng):
            yield Sample(tuple(np.abs(x) + low for x in sample.inputs), sample.params, sample.fixed)

    return make


P_NORMS = ["fro", 1, 2, 3, 1.5, 0.5, math.inf, -math.inf]
ALL_TRUE = lambda x, dim=None, keepdim=False: over(x, dim, keepdim, all, bool)  # noqa: E731
ANY_TRUE = lambda x, dim=None, keepdim=False: over(x, dim, keepdim, any, bool)  # noqa: E731


def truths(rng):
    for shape, params in [
        ((2, 3), {}),
        ((2, 3), {"dim": 1}),
        ((2, 3), {"dim": (0, 1), "keepdim": True}),
        ((), {}),
        ((0, 2), {"dim": 0}),
    ]:
        yield Sample((np.asarray(rng.random(shape) < 0.6),), params)
        yield Sample((np.asarray(rng.integers(0, 2, shape) * 1.5),), params)


ROWS = [
    of_primitive("sum_over", reducing(math.fsum), over_samples()),
    of_primitive("mean_over", reducing(mean), over_samples()),
    of_primitive("var_over", reducing(variance), over_samples(correction=[0, 1, 0.5])),
    of_primitive("std_over", reducing(deviation), over_samples(correction=[0, 1], point=False), tolerance=1e-11),
    of_primitive("amax_over", reducing(max), over_samples(empty=False)),
    of_primitive("amin_over", reducing(min), over_samples(empty=False)),
    of_primitive("logsumexp_over", reducing(logsumexp), over_samples()),
    of_primitive("norm2_over", reducing(pnorm), over_samples(empty=False)),
    of_primitive(
        "prod_last",
        lambda x: over(x, -1, False, math.prod),
        both(
            samples((((2, 3),), {}), ((VECTOR,), {}), (((2, 0),), {}), (((0, 2),), {})),
            zeros_in(1),
            zeros_in([1, 2]),
            zeros_in([0, 1, 3]),
        ),
    ),
    of_primitive("cumsum_along", lambda x, dim: along(x, dim, lambda v: np.cumsum(v)), line_samples()),
    of_primitive(
        "softmax_along",
        lambda x, dim: along(x, dim, softmax),
        samples(
            *[((FULL,), {"dim": d}) for d in range(3)],
            (((0, 3),), {"dim": 1}),
            (((2, 0),), {"dim": 1}),
            ((VECTOR,), {"dim": 0}),
        ),
    ),
    of_primitive(
        "log_softmax_along",
        lambda x, dim: along(x, dim, log_softmax),
        samples(
            *[((FULL,), {"dim": d}) for d in range(3)],
            (((0, 3),), {"dim": 1}),
            (((2, 0),), {"dim": 1}),
            ((VECTOR,), {"dim": 0}),
        ),
    ),
    public("sum", reducing(math.fsum), public_samples()),
    public(
        "sum",
        lambda x, axis, keepdims: over(x, axis, keepdims, math.fsum),
        samples(((FULL,), {"axis": (0, 1), "keepdims": True})),
        label="NumPy's names",
    ),
    public(
        "sum",
        lambda x: np.asarray(sum(x.ravel().tolist())),
        lambda rng: [Sample((rng.integers(-9, 9, (3, 2)).astype(d),)) for d in ("int32", "int64", "bool", "uint8")],
        label="integers",
    ),
    public("mean", reducing(mean), public_samples()),
    public("var", reducing(variance), public_samples(correction=[0, 1, 2])),
    public("var", reducing(variance), public_samples(unbiased=[True, False]), label="unbiased"),
    public(
        "std",
        reducing(deviation),
        samples(
            *[((FULL,), p) for p in product(dim=[0, (1, 2), [0, 1, 2]], keepdim=[False, True], correction=[0, 1])],
            ((VECTOR,), {"unbiased": False}),
            ((EMPTY,), {"dim": 2}),
        ),
        tolerance=1e-11,
    ),
    public("prod", reducing(math.prod), public_samples()),
    public(
        "prod",
        lambda x: np.asarray(math.prod(x.ravel().tolist())),
        lambda rng: [Sample((rng.integers(-9, 9, (3, 2)),))],
        label="integers",
    ),
    public(
        "cumsum",
        lambda x, dim: along(x, dim, lambda v: np.cumsum(v)) if x.ndim else x,
        both(line_samples(), samples((((),), {"dim": 0}))),
    ),
    public("amax", reducing(max), extremes()),
    public("amin", reducing(min), extremes()),
    public("max", reducing(max), samples(((FULL,), {}), (((),), {})), label="of all"),
    public("min", reducing(min), samples(((FULL,), {}), (((),), {})), label="of all"),
    public("max", extreme(max), one_dim(), label="along a dimension"),
    public("min", extreme(min), one_dim(), label="along a dimension"),
    public("max", np.maximum, samples((((2, 3), (3,)), {})), label="of two"),
    public("min", np.minimum, samples((((2, 3), (3,)), {})), label="of two"),
    public("argmax", index_of(max), one_dim(((FULL,), {}))),
    public("argmin", index_of(min), one_dim(((FULL,), {}))),
    public("all", ALL_TRUE, truths),
    public("any", ANY_TRUE, truths),
    public("logsumexp", reducing(logsumexp), public_samples()),
    public(
        "softmax",
        lambda x, dim: along(x, dim, softmax) if x.ndim else np.ones(()),
        both(line_samples(), samples((((),), {"dim": 0}))),
    ),
    public(
        "log_softmax",
        lambda x, dim: along(x, dim, log_softmax) if x.ndim else np.zeros(()),
        both(line_samples(), samples((((),), {"dim": 0}))),
    ),
    *[public("norm", reducing(pnorm), public_samples(empty=False, p=[p]), label=f"p = {p}") for p in P_NORMS],
    public(
        "norm",
        reducing(pnorm),
        public_samples(empty=False, p=[0]),
        label="p = 0",
        without={"derivative": "a count: flat wherever it has a derivative"},
    ),
    public(
        "argsort",
        lambda x, dim=-1, descending=False: along(x, dim, ordered(descending), int),
        line_samples({}, {"descending": True}),
    ),
    public("sort", sort, both(line_samples({}, {"descending": True}), samples((((),), {})))),
    public(
        "topk",
        topk,
        samples(
            *[((FULL,), p) for p in product(k=[0, 1, 2], dim=[0, 1], largest=[True, False])],
            ((VECTOR,), {"k": 4}),
            (((0, 3),), {"k": 2}),
        ),
    ),
]
