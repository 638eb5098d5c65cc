"""Arguments that name dimensions: PyTorch's `dim`/`keepdim`, with NumPy's `axis`/`keepdims` accepted everywhere."""

from __future__ import annotations

import functools
from operator import index

_ALIASES = {"axis": "dim", "keepdims": "keepdim"}


def numpy_names(function):
    """Let `function` also be called with axis= for dim= and keepdims= for keepdim=."""

    @functools.wraps(function)
    def renamed(*args, **kwargs):
        return function(*args, **_renamed(function.__name__, kwargs)) if kwargs else function(*args)

    return renamed


def _renamed(who, kwargs):
    for theirs in _ALIASES.keys() & kwargs.keys():
        ours = _ALIASES[theirs]
        if ours in kwargs:
            raise TypeError(f"{who}: received both {ours}= and {theirs}=, which mean the same; pass one")
        kwargs[ours] = kwargs.pop(theirs)
    return kwargs


def spread_names(name):
    """Let `function(x, *sizes)` also be called as `function(x, name=sizes)`, as in PyTorch."""

    def decorate(function):
        @functools.wraps(function)
        def named(x, *sizes, **kwargs):
            return (
                function(x, kwargs.pop(name), **kwargs)
                if name in kwargs and not sizes
                else function(x, *sizes, **kwargs)
            )

        return named

    return decorate


def one_dim(who: str, dim, ndim: int) -> int:
    """`dim` as a number in [0, ndim)."""
    if type(dim) is not int:
        dim = _index(who, dim)
    n = ndim or 1
    if not -n <= dim < n:
        raise IndexError(
            f"{who}: received dim={dim} for a tensor of {ndim} dimension{'s' * (ndim != 1)}; pass a dim from {-n} to "
            f"{n - 1}"
        )
    return dim % n


def _index(who, dim) -> int:
    """The int that `dim` stands for."""
    shape = getattr(dim, "shape", ())
    if shape:
        raise TypeError(
            f"{who}: received a {type(dim).__name__} of shape {shape} as dim; a dimension is named by an integer; "
            "check the order of the arguments"
        )
    try:
        if not isinstance(dim, bool):
            return index(dim)
    except TypeError:
        pass
    raise TypeError(f"{who}: received dim={dim!r}; a dimension is named by an integer")


_ALL = tuple([tuple(range(n)) for n in range(65)])  # NumPy has no array of more dimensions


def all_dims(who: str, dim, ndim: int) -> tuple[int, ...]:
    """`dim` (None: all; a number; or several) as sorted numbers in [0, ndim)."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return _ALL[ndim]
    if type(dim) is int:
        dim = one_dim(who, dim, ndim)
        return (dim,) if ndim else ()
    dims = [one_dim(who, d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if len(set(dims)) != len(dims):
        raise ValueError(f"{who}: received dim={dim}, which names a dimension twice; name each once")
    return tuple(sorted(dims)) if ndim else ()


def kept_shape(shape, dims) -> tuple[int, ...]:
    """`shape` with the sizes of `dims` replaced by 1."""
    return tuple([1 if i in dims else n for i, n in enumerate(shape)])


def sizes(who: str, given) -> tuple[int, ...]:
    """The sizes of `f(x, 2, 3)` or `f(x, (2, 3))` as one tuple of ints."""
    if len(given) == 1 and type(given[0]) is not int and isinstance(given[0], (tuple, list)):
        given = given[0]
    try:
        return tuple(map(index, given))
    except TypeError:
        raise TypeError(f"{who}: received sizes {tuple(given)}; sizes are integers") from None
