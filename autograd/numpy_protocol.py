"""NumPy's functions on tensors: `np.exp(t)` and `np.concatenate([t, a])` record, as if called by chainrule's names."""

from __future__ import annotations

import numpy as np

from . import creation
from .ops import elementwise, indexing, linalg, reductions, shape
from .tensor import Tensor

#: NumPy's ufuncs are found under the same name among the elementwise primitives; these differ.
_UFUNCS = {
    "absolute": elementwise.absolute,
    "fabs": elementwise.absolute,
    "matmul": linalg.matmul,
    "rint": elementwise.round,
    "invert": elementwise.bitwise_not,
    "float_power": elementwise.power,
}
_REDUCTIONS = {
    "add": reductions.sum,
    "multiply": reductions.prod,
    "maximum": reductions.amax,
    "minimum": reductions.amin,
}
_FUNCTIONS = {
    **{
        getattr(np, name): getattr(reductions, name)
        for name in "sum mean prod cumsum amax amin argmax argmin any all argsort".split()
    },
    np.max: reductions.amax,
    np.min: reductions.amin,
    np.var: lambda x, axis=None, ddof=0, keepdims=False: reductions.var(x, axis, ddof, keepdims),
    np.std: lambda x, axis=None, ddof=0, keepdims=False: reductions.std(x, axis, ddof, keepdims),
    np.sort: lambda x, axis=-1: reductions.sort(x, axis).values,
    **{
        getattr(np, name): getattr(shape, name)
        for name in "squeeze expand_dims swapaxes moveaxis broadcast_to tile".split()
    },
    np.reshape: lambda x, shape: x.reshape(shape),
    np.ravel: shape.flatten,
    np.transpose: shape.transpose,
    np.concatenate: lambda arrays, axis=0: shape.cat(arrays, axis),
    np.stack: lambda arrays, axis=0: shape.stack(arrays, axis),
    np.roll: lambda x, shift, axis=None: shape.roll(x, shift, axis),
    np.flip: lambda x, axis=None: shape.flip(x) if axis is None else shape.flip(x, axis),
    np.repeat: lambda x, repeats, axis=None: shape.repeat_interleave(x, repeats, axis),
    np.split: lambda x, parts, axis=0: shape.split(x, _sizes(x.shape[axis], parts), axis),
    np.where: elementwise.where,
    np.clip: lambda x, a_min=None, a_max=None: elementwise.clamp(x, a_min, a_max),
    np.tril: indexing.tril,
    np.triu: indexing.triu,
    np.diag: indexing.diag,
    np.take_along_axis: lambda x, indices, axis: indexing.take_along_dim(x, creation.as_tensor(indices), axis),
    np.dot: lambda a, b: _dot(*[x if isinstance(x, Tensor) else Tensor(x) for x in (a, b)]),
    np.outer: linalg.outer,
    np.tensordot: lambda a, b, axes=2: linalg.tensordot(a, b, axes),
    np.einsum: linalg.einsum,
    np.trace: linalg.trace,
    np.linalg.norm: lambda x, ord=None, axis=None, keepdims=False: reductions.norm(
        x, 2 if ord is None else ord, axis, keepdims
    ),
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.numel(),
    np.zeros_like: creation.zeros_like,
    np.ones_like: creation.ones_like,
    np.isclose: lambda a, b, *args, **kwargs: Tensor(np.isclose(_plain(a), _plain(b), *args, **kwargs)),
    np.allclose: lambda a, b, *args, **kwargs: np.allclose(_plain(a), _plain(b), *args, **kwargs),
    np.array_equal: lambda a, b: np.array_equal(_plain(a), _plain(b)),
    np.array_repr: repr,
    np.array_str: str,
}


def _sizes(n, parts):
    """The sizes of np.split's parts: so many equal ones, or those between the places given."""
    if isinstance(parts, (int, np.integer)):
        if parts < 1 or n % parts:
            raise ValueError(
                f"np.split: a dimension of size {n} cannot be split into {parts} equal parts; give the places instead"
            )
        return int(n // parts) if n else [0] * parts
    places = [slice(*cut).indices(n) for cut in zip([0, *parts], [*parts, n], strict=True)]
    return [max(stop - start, 0) for start, stop, _ in places]


def _dot(a, b):
    """NumPy's dot: over the last dimension of a and the last but one of b."""
    if not (a.ndim and b.ndim):
        return elementwise.multiply(a, b)
    return linalg.tensordot(a, b, ([-1], [max(b.ndim - 2, 0)])) if b.ndim > 2 else linalg.matmul(a, b)


def _plain(x):
    return x.array if isinstance(x, Tensor) else x


def array_ufunc(self, ufunc, method, *inputs, out=None, **options):
    """`Tensor.__array_ufunc__`: the chainrule operation of the same name."""
    if out is not None:
        raise TypeError(
            f"np.{ufunc.__name__}(…, out=…) with a Tensor: the write could not be recorded; leave out= away and use "
            "the result"
        )
    if method == "reduce" and ufunc.__name__ in _REDUCTIONS:
        return _REDUCTIONS[ufunc.__name__](*inputs, options.get("axis", 0), keepdim=options.get("keepdims", False))
    op = _UFUNCS.get(ufunc.__name__) or getattr(elementwise, ufunc.__name__, None)
    if method != "__call__" or op is None or options:
        called = ufunc.__name__ + ("" if method == "__call__" else f".{method}")
        raise TypeError(
            f"np.{called}{' with ' + ', '.join(options) if options else ''} "
            "is not defined for a Tensor; use chainrule's functions, or t.detach().numpy() to compute without a graph"
        )
    return op(*[x if isinstance(x, (Tensor, int, float, np.ndarray)) else Tensor(x) for x in inputs])


def array_function(self, function, types, args, kwargs):
    """`Tensor.__array_function__`: the chainrule function that does the same."""
    ours = _FUNCTIONS.get(function)
    if ours is None:
        raise TypeError(
            f"np.{function.__name__} is not defined for a Tensor; use chainrule's functions, or t.detach().numpy() to "
            "compute without a graph"
        )
    if kwargs.pop("out", None) is not None:
        raise TypeError(
            f"np.{function.__name__}(…, out=…) with a Tensor: the write could not be recorded; leave out= away"
        )
    return ours(*args, **kwargs)


def attach() -> None:
    """Let NumPy call chainrule where a Tensor is among the arguments."""
    for name, method in {"__array_ufunc__": array_ufunc, "__array_function__": array_function}.items():
        setattr(Tensor, name, method)
