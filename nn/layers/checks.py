"""What the constructors of layers verify, and the words they say it in."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any


def at_least(layer: Any, least: int, **sizes: Any) -> None:
    """Raise unless every size is an integer of at least `least`, or a tuple of such integers.

    >>> from chainrule.nn.layers.checks import at_least
    >>> at_least(cr.nn.Identity(), 1, in_features=-3)
    Traceback (most recent call last):
    ValueError: Identity: received in_features=-3, which must be an integer of at least 1; pass in_features >= 1
    """
    for name, size in sizes.items():
        if not all(_is_integer(n) and n >= least for n in (size if isinstance(size, tuple) else (size,))):
            kind = "integers" if isinstance(size, tuple) else "an integer"
            raise ValueError(
                f"{type(layer).__name__}: received {name}={size!r}, which must be {kind} of at least {least}; "
                f"pass {name} >= {least}"
            )


def per_axis(layer: Any, axes: int, least: int, name: str, size: Any) -> tuple[int, ...]:
    """Return a size as one integer per axis: 3 becomes (3, 3) for two axes.

    >>> from chainrule.nn.layers.checks import per_axis
    >>> per_axis(cr.nn.Identity(), 2, 1, "kernel_size", 3)
    (3, 3)
    """
    sizes = tuple(size) if isinstance(size, tuple | list) else (size,) * axes
    if len(sizes) != axes:
        raise ValueError(
            f"{type(layer).__name__}: received {name}={size!r} with {len(sizes)} numbers for {axes} spatial "
            f"{'axis' if axes == 1 else 'axes'}; pass one integer, or {axes}"
        )
    at_least(layer, least, **{name: sizes})
    return sizes


def probability(layer: Any, p: Any, name: str = "p") -> None:
    """Raise unless 0 <= p <= 1."""
    if isinstance(p, bool) or not isinstance(p, Real) or not 0 <= float(p) <= 1:
        raise ValueError(
            f"{type(layer).__name__}: received {name}={p!r}, which is the probability of dropping a value; "
            f"pass 0 <= {name} <= 1"
        )


def one_of(layer: Any, name: str, value: Any, choices: tuple) -> None:
    """Raise unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(
            f"{type(layer).__name__}: received {name}={value!r}, which is none of its settings; "
            f"pass one of {', '.join(map(repr, choices))}"
        )


def refuse(layer: Any, instead: str, **settings: Any) -> None:
    """Raise NotImplementedError for settings, given as name=(value, default), that differ from their default."""
    for name, (value, default) in settings.items():
        if value != default:
            raise NotImplementedError(
                f"{type(layer).__name__}: received {name}={value!r}, which chainrule does not offer; {instead}"
            )


def given(layer: Any, input: Any) -> None:
    """Raise TypeError unless an input is a tensor or an array.

    >>> from chainrule.nn.layers.checks import given
    >>> given(cr.nn.Identity(), [1.0])
    Traceback (most recent call last):
    TypeError: Identity: received a list as its input, ...
    """
    if not hasattr(input, "shape"):
        raise TypeError(
            f"{type(layer).__name__}: received a {type(input).__name__} as its input, which has no shape; pass a "
            "tensor: cr.tensor(…) of numbers, cr.stack(…) of tensors, nn.utils.rnn.pack_sequence(…) of sequences of "
            "different lengths"
        )


def ndim(layer: Any, shape: tuple, allowed: tuple[int, ...], letters: str) -> None:
    """Raise unless an input of this shape has one of the allowed numbers of axes."""
    if len(shape) not in allowed:
        raise ValueError(
            f"{type(layer).__name__}: received an input of shape {shape} with {len(shape)} axes, but needs "
            f"{letters}; reshape or unsqueeze the input"
        )


def axis_size(layer: Any, shape: tuple, axis: int, expected: int, argument: str) -> None:
    """Raise unless the input's axis has the size that the layer was built for."""
    if not shape or shape[axis] != expected:
        raise ValueError(
            f"{type(layer).__name__}: received an input of shape {shape}, but was built with {argument}={expected}, "
            f"the size of axis {axis}; build it with another {argument} or change the input"
        )


def same_dtype(layer: Any, name: str, value: Any, weight: Any) -> None:
    """Raise unless a value has the dtype of the layer's weights.

    >>> from chainrule.nn.layers.checks import same_dtype
    >>> same_dtype(cr.nn.Identity(), "an input", cr.ones(1, dtype=cr.float64), cr.ones(1))
    Traceback (most recent call last):
    TypeError: Identity: received an input of float64 for weights of float32, ...
    """
    if value.dtype != weight.dtype:
        convert = f", or the layer with .to(cr.{value.dtype})" if value.is_floating_point() else ""
        raise TypeError(
            f"{type(layer).__name__}: received {name} of {value.dtype} for weights of {weight.dtype}, but one "
            f"computation has one dtype; convert it with .to(cr.{weight.dtype}){convert}"
        )


def _is_integer(n: Any) -> bool:
    try:
        operator.index(n)
    except TypeError:
        return False
    return not isinstance(n, bool)
