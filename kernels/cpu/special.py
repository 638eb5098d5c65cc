"""Elementwise functions that NumPy lacks, written so that no intermediate overflows."""

import math

import numpy as np

from .activations import share
from .exponential import exp
from .jit import jit
from .layout import floats, half_by_single

_GRAIN = 20_000  # elements that outlast handing a slice to a worker


@half_by_single
def erf(x):
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return _mapped(_erf, x)


@half_by_single
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return _mapped(_sigmoid, x)


def sigmoid_(x):
    """`sigmoid` of a floating x, in place."""
    if x.flags.c_contiguous:
        share(_sigmoid_in_place, x, grain=_GRAIN)
    else:
        x[...] = sigmoid(x)


@half_by_single
def logsigmoid(x):
    """log(1 / (1 + exp(-x))) = min(x, 0) - log(1 + exp(-|x|))."""
    (x,) = floats(x)
    return np.asarray(np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))))


@half_by_single
def softplus(x, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta, and x itself where beta x > threshold."""
    (x,) = floats(x)
    scaled = x * beta
    smooth = (np.maximum(scaled, 0) + np.log1p(np.exp(-np.abs(scaled)))) / beta
    return np.asarray(np.where(scaled > threshold, x, smooth))


@half_by_single
def silu(x):
    """x sigmoid(x)."""
    (x,) = floats(x)
    return np.asarray(x * sigmoid(x))


@half_by_single
def gelu(x):
    """x Phi(x), Phi the normal distribution function: x (1 + erf(x / sqrt 2)) / 2."""
    (x,) = floats(x)
    return np.asarray(x * (0.5 * (1 + erf(x * math.sqrt(0.5)))))


@half_by_single
def gelu_backward(g, x):
    """The adjoint of `gelu`: g (Phi(x) + x phi(x)), phi the normal density."""
    g, x = floats(g, x)
    density = np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))
    return np.asarray(g * (0.5 * (1 + erf(x * math.sqrt(0.5))) + x * density))


def _mapped(loop, x):
    (x,) = floats(x)
    out = np.empty_like(x)
    share(loop, x, out, grain=_GRAIN)
    return out


def _erf_numpy(x, out):
    out[...] = np.frompyfunc(math.erf, 1, 1)(x)


@jit(_erf_numpy)
def _erf(x, out):
    for i in range(len(x)):
        out[i] = math.erf(x[i])


def _sigmoid_numpy(x, out):
    e = np.exp(-np.abs(x))
    np.divide(np.where(x >= 0, x.dtype.type(1), e), 1 + e, out=out)


def _sigmoid_in_place_numpy(x):
    _sigmoid_numpy(x, x)


@jit(_sigmoid_in_place_numpy)
def _sigmoid_in_place(x):  # of one array: a loop that finds two to be the same is not vectorised
    for i in range(len(x)):
        e = exp(-abs(np.float64(x[i])))
        x[i] = (1.0 if x[i] >= 0 else e) / (1.0 + e)


@jit(_sigmoid_numpy)
def _sigmoid(x, out):
    for i in range(len(x)):
        e = exp(-abs(np.float64(x[i])))
        out[i] = (1.0 if x[i] >= 0 else e) / (1.0 + e)
