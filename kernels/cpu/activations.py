"""Gradients of activations in one pass over memory, where NumPy would make temporaries."""

import numpy as np

from . import workers
from .jit import jit
from .layout import floats, half_by_single

_GRAIN = 100_000  # elements that outlast handing a slice to a worker
_SMALL = 2048  # elements below which NumPy's temporaries cost less than a call of a compiled loop


def relu_backward(g, out):
    """The adjoint of max(x, 0) from its result: g where out > 0, else 0."""
    return _in_one_pass(_relu, g, out)


def tanh_backward(g, out):
    """The adjoint of tanh from its result: g (1 - out^2)."""
    return _in_one_pass(_tanh, g, out)


def sigmoid_backward(g, out):
    """The adjoint of the logistic function from its result: g out (1 - out)."""
    return _in_one_pass(_sigmoid, g, out)


@half_by_single
def _in_one_pass(loop, g, out):
    if out.size < _SMALL:
        result = np.empty(out.shape, out.dtype)
        loop.twin(g, out, result)
        return result
    g, out = floats(g, out)
    result = np.empty_like(out)
    share(loop, g, out, result, grain=_GRAIN)
    return result


def share(loop, *arrays, grain):
    """loop(*slices of the compact arrays as vectors), by one thread for each `grain` of elements."""
    vectors = [x.reshape(-1) for x in arrays]
    n = len(vectors[0])
    if n < 2 * grain:
        loop(*vectors)
    else:
        workers.run(lambda a, b: loop(*[x[a:b] for x in vectors]), n, grain=grain)


def _relu_numpy(g, out, into):
    into[...] = 0
    np.copyto(into, g, where=out > 0)


@jit(_relu_numpy)
def _relu(g, out, into):
    for i in range(len(out)):
        into[i] = g[i] if out[i] > 0 else 0


def _tanh_numpy(g, out, into):
    np.multiply(g, 1 - out * out, out=into)


@jit(_tanh_numpy)
def _tanh(g, out, into):
    for i in range(len(out)):
        into[i] = g[i] * (1 - out[i] * out[i])


def _sigmoid_numpy(g, out, into):
    np.multiply(g, out * (1 - out), out=into)


@jit(_sigmoid_numpy)
def _sigmoid(g, out, into):
    for i in range(len(out)):
        into[i] = g[i] * (out[i] * (1 - out[i]))
