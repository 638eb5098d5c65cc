"""Work along any axis of an array as it lies: planes (m, n), whose lines run down m rows, many lines abreast.

A copy with the axis moved to the end takes longer than what is then done along it. Here accumulators of some lines
stay in the nearest cache while the rows pass by, and each of the loops over a row is vectorised.
"""

from math import prod

from .jit import inline
from .layout import compact

ABREAST = 128  # lines whose accumulators are kept at a time
_FEW = 4  # lines of a plane that fill no vector: they are moved into rows


def planes(x, axis):
    """x as a compact (l, m, n) whose middle axis is `axis`, or all of several adjacent axes."""
    first, last = (axis, axis) if isinstance(axis, int) else (axis[0], axis[-1])
    x, first, last = compact(x), first % x.ndim, last % x.ndim + 1
    return x.reshape(prod(x.shape[:first]), prod(x.shape[first:last]), prod(x.shape[last:]))


def abreast(x):
    """Whether lines of the planes x are many enough to be taken side by side."""
    return x.shape[2] > _FEW


def lines(x):
    """How many lines the planes x (l, m, n) have: the range that threads share."""
    return len(x) * x.shape[2]


@inline
def tile(first, last, x):
    """Of the lines from first to last those to be taken next: which plane they are in, its lines a … b."""
    n = x.shape[2]
    k = first // n
    a = first - k * n
    return k, a, min(n, a + ABREAST, a + last - first)
