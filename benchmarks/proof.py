"""Whether two sides did the same work: what it gave, in a few numbers for each array, in whatever order of axes."""

import math

import numpy as np

#: by which share of an array's size its sums may differ, and of its largest element its ends (deep networks: 4e-4)
BOUND = 1e-3


def proof(side, work) -> list:
    """Size, sum, sum of sizes, largest and least element of each array that a third call of the work gives."""
    work()
    work()
    found = [np.asarray(side.numpy(array), np.float64) for array in _flat(work())]
    return [[x.size, float(x.sum()), float(np.abs(x).sum()), float(x.max()), float(x.min())] for x in found]


def apart(ours: list, theirs: list) -> float:
    """How far two proofs are apart, at most: a share to hold against BOUND; infinity where shapes or counts differ.

    >>> apart([[2, 3.0, 3.0, 2.0, 1.0]], [[2, 3.3, 3.3, 2.2, 1.1]])
    0.1
    """
    if len(ours) != len(theirs):
        return math.inf
    shares = [share for a, b in zip(ours, theirs) for share in _shares(a, b)]
    return math.inf if any(map(math.isnan, shares)) else max(shares)


def _shares(ours, theirs):
    size, total, sizes, most, least = (abs(a - b) for a, b in zip(ours, theirs))
    whole, largest = ours[2] or 1.0, max(abs(ours[3]), abs(ours[4])) or 1.0
    return math.inf if size else 0.0, total / whole, sizes / whole, most / largest, least / largest


def _flat(results):
    """The arrays of lists in lists."""
    return [array for r in results for array in _flat(r)] if isinstance(results, (list, tuple)) else [results]
