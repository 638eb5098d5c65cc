"""The numbers that all sides begin with, the same in every process: inputs, parameters, trees."""

import math

import numpy as np

RNG_SEED = 0


def numbers(*shape, stream=0):
    """Normal numbers; those of another stream are independent."""
    return np.random.default_rng([RNG_SEED, stream]).standard_normal(shape).astype(np.float32)


def whole(most, *shape):
    """Whole numbers below `most`."""
    return np.random.default_rng(RNG_SEED + 1).integers(0, most, shape)


def beginning():
    """A function that draws the numbers with which a parameter of some shape begins, of one after the other."""
    rng = np.random.default_rng(RNG_SEED)

    def draw(*shape):
        size = 1 / math.sqrt(math.prod(shape[1:] or shape))
        return rng.uniform(-size, size, shape).astype(np.float32)

    return draw


def forest(trees, leaves):
    """Random binary trees."""
    rng = np.random.default_rng(2)
    return [_pairs(rng, leaves) for _ in range(trees)]


def _pairs(rng, leaves):
    """A random binary tree: the pairs of children of its inner nodes, leaves numbered first."""
    roots, made = list(range(leaves)), []
    while len(roots) > 1:
        at = int(rng.integers(len(roots) - 1))
        made.append((roots[at], roots.pop(at + 1)))
        roots[at] = leaves + len(made) - 1
    return made
