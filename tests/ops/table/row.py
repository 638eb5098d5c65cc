"""A row of the table of ops, its samples, and what makes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import chainrule as cr
from chainrule.autograd import REGISTRY


@dataclass(frozen=True)
class Sample:
    """Arguments of one call: arrays (None for an optional input left out) and metadata."""

    inputs: tuple
    params: dict = field(default_factory=dict)
    fixed: tuple = ()  # positions of floating inputs that have no derivative (class weights, targets)

    @property
    def varied(self) -> list[int]:
        return [i for i, x in enumerate(self.inputs) if x is not None and x.dtype.kind in "fV" and i not in self.fixed]

    def cast(self, dtype) -> Sample:
        inputs = [x if x is None or x.dtype.kind not in "fV" else x.astype(dtype) for x in self.inputs]
        return Sample(tuple(inputs), self.params, self.fixed)

    def __str__(self):
        shapes = ", ".join("None" if x is None else f"{x.dtype}{list(x.shape)}" for x in self.inputs)
        return f"sample ({shapes}; {self.params})"


@dataclass(frozen=True)
class Row:
    """One operation: how to draw its inputs, what it must compute, which generic checks do not apply, and why."""

    name: str
    function: Callable  # of tensors and metadata
    oracle: Callable  # of arrays and the same metadata; independent of the function
    make: Callable  # rng -> samples
    of: str = ""  # the public function that it shows
    primitive: bool = False
    draw: Callable | None = None  # elementwise rows: (rng, shapes) -> arrays
    arity: int = 0  # elementwise rows: how many inputs broadcast
    without: dict = field(default_factory=dict)  # check -> why it does not apply
    tolerance: float = 1e-12  # relative, float64
    loose: float = 2e-4  # relative, float32

    def call(self, sample: Sample):
        """The function of the sample's varied inputs alone, as tensors."""
        at = sample.varied

        def function(*varied):
            given = dict(zip(at, varied, strict=True))
            inputs = [
                given[i] if i in given else None if x is None else cr.tensor(x) for i, x in enumerate(sample.inputs)
            ]
            return self.apply(inputs, sample.params)

        return function

    def apply(self, inputs, params):
        """The function of tensors; a primitive takes the arrays among its metadata on their device."""
        return self.function(*inputs, **(placed(params) if self.primitive else params))

    def leaves(self, sample: Sample) -> list:
        return [cr.tensor(sample.inputs[i], requires_grad=True) for i in sample.varied]

    def expected(self, sample: Sample) -> tuple:
        out = self.oracle(*sample.inputs, **sample.params)
        return tuple(map(np.asarray, out)) if isinstance(out, (tuple, list)) else (np.asarray(out),)


def placed(value):
    """`value` with its arrays on the default device."""
    if isinstance(value, dict):
        return {name: placed(v) for name, v in value.items()}
    if isinstance(value, tuple):
        return type(value)(*map(placed, value)) if hasattr(value, "_fields") else tuple(map(placed, value))
    return cr.tensor(value).array if isinstance(value, np.ndarray) else value


def outputs(out) -> list:
    """The results of a call as a list of tensors."""
    return list(out) if isinstance(out, (tuple, list)) else [out]


# ---- drawing ---------------------------------------------------------------------------------------------------------


def normal(rng, *shape):
    return np.asarray(rng.standard_normal(shape))


def uniform(rng, shape, low=-2.0, high=2.0):
    return np.asarray(rng.uniform(low, high, shape))


def distinct(rng, *shape):
    """Numbers of which no two are nearer than 0.1, nor any to 0: no ties, no kinks."""
    count = int(np.prod(shape))
    return ((rng.permutation(count) - count / 2 + 0.25) * 0.2 + rng.uniform(0, 0.05, count)).reshape(shape)


def redrawn(draw, good):
    """`draw()` again until `good` of it: inputs away from kinks."""
    for _ in range(10_000):
        arrays = draw()
        if good(*arrays):
            return arrays
    raise AssertionError("the domain is hardly ever hit: draw from a narrower one")


def product(**choices) -> list[dict]:
    """All combinations of the metadata listed."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def samples(*made):
    """A sample maker from triples (shapes, params) drawn as distinct numbers; arrays are taken as they are."""

    def make(rng):
        for inputs, params in made:
            yield Sample(tuple(distinct(rng, *x) if isinstance(x, tuple) else x for x in inputs), params)

    return make


# ---- declaring -------------------------------------------------------------------------------------------------------


def of_primitive(name, oracle, make, **options) -> Row:
    """The row of a registered primitive."""
    return Row(name, REGISTRY[name], oracle, make, of=name, primitive=True, **options)


def public(name, oracle, make, *, label="", function=None, **options) -> Row:
    """A row of a public function that composes primitives."""
    function = function or getattr(cr.autograd, name)
    return Row(f"{name} ({label})" if label else name, function, oracle, make, of=name, **options)


SHAPES = {1: [((2, 3),), ((),), ((0, 2),)], 2: [((2, 3), (2, 3)), ((3,), (2, 1)), ((), (2,)), ((2, 0), (1,))]}
SHAPES[3] = [((2, 3), (3,), (2, 1)), ((), (2,), ()), ((0,), (1,), ())]


def elementwise(name, scalar, *domains, good=None, params=({},), label="", result=float, **options) -> Row:
    """A row whose oracle is a plain loop of `scalar` over Python numbers; a domain is (low, high) or a list."""
    arity = len(domains)

    def one(rng, shape, domain):
        if isinstance(domain, list):
            return np.asarray(rng.choice(np.array(domain), shape))
        return uniform(rng, shape, *domain)

    def draw(rng, shapes):
        once = lambda: [one(rng, s, d) for s, d in zip(shapes, domains, strict=True)]
        return tuple(redrawn(once, lambda *xs: good is None or bool(np.all(good(*xs)))))

    def make(rng):
        for given in params:
            for shapes in SHAPES[arity]:
                yield Sample(draw(rng, shapes), given)

    def oracle(*arrays, **given):
        arrays = np.broadcast_arrays(*arrays)
        values = [
            scalar(*(v.item() for v in values), **given)
            for values in zip(*[a.reshape(-1) for a in arrays], strict=True)
        ]
        return np.array(values, dtype=result).reshape(arrays[0].shape)

    function = options.pop("function", None)
    primitive = name in REGISTRY and function is None and not label
    function = function or REGISTRY.get(name) or getattr(cr.autograd, name)
    return Row(f"{name} ({label})" if label else name, function, oracle, make, name, primitive, draw, arity, **options)
