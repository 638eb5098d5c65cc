"""Elementwise functions that NumPy lacks and that are no formulas: the error function, and what is done in place."""

import math

import numpy as np

from .activations import sigmoid
from .layout import floats, half_by_single
from .workers import shared

_GRAIN = 1_000  # elements that outlast handing them to a worker


@half_by_single
def erf(x):
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    (x,) = floats(x)
    out = np.empty_like(x)
    _erf(x.size, x.reshape(-1), out.reshape(-1), grain=_GRAIN)
    return out


def _erf_numpy(x, out, first, last):
    out[first:last] = np.frompyfunc(math.erf, 1, 1)(x[first:last])


@shared(_erf_numpy)
def _erf(x, out, first, last):
    for i in range(first, last):
        out[i] = math.erf(x[i])


def sigmoid_(x):
    """`sigmoid` of a floating x, in place."""
    x[...] = sigmoid(x)
