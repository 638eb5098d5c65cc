"""Random numbers: explicit generators, and one default for those who pass none."""

from __future__ import annotations

import numpy as np

from ..kernels import for_device
from .ops.axes import sizes
from .tensor import Tensor, as_array, as_device, as_dtype, get_default_dtype, int64, leaf, may_look, result


class Generator:
    """A stream of random numbers (NumPy's PCG64) that can be seeded, saved and restored.

    >>> g = cr.Generator(0)
    >>> a = cr.rand(2, generator=g); b = cr.rand(2, generator=cr.Generator(0))
    >>> bool((a == b).all())
    True
    """

    def __init__(self, seed: int | None = None):
        self.rng = _rng(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start again from `seed`; returns self."""
        for_device("cpu").each_time(lambda: setattr(self, "rng", _rng(seed)))
        return self

    def get_state(self) -> dict:
        """The state, as nested dicts of numbers and strings."""
        return dict(self.rng.bit_generator.state)

    def set_state(self, state: dict) -> None:
        """Continue from a state that `get_state` gave."""
        self.rng.bit_generator.state = state


def _rng(seed):
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ValueError(f"Generator received seed={seed!r}; pass an integer of at least 0") from None


default_generator = Generator()


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, from which all functions draw that receive none.

    >>> _ = cr.manual_seed(0); a = cr.randn(3); _ = cr.manual_seed(0)
    >>> bool((a == cr.randn(3)).all())
    True
    """
    return default_generator.manual_seed(seed)


def _draw(who, draw, shape, dtype, device, requires_grad, generator):
    shape = sizes(who, shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"{who}: received the shape {shape}; sizes are at least 0")
    dtype = get_default_dtype() if dtype is None else as_dtype(dtype)
    rng = (generator or default_generator).rng
    made = leaf(as_array(np.asarray(draw(rng, shape)), dtype, as_device(device)))
    return made.requires_grad_() if requires_grad else made


def rand(*shape, generator=None, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Uniform numbers in [0, 1).

    >>> cr.rand(2, 3).shape
    (2, 3)
    """
    return _draw("rand", lambda rng, s: rng.random(s), shape, dtype, device, requires_grad, generator)


def randn(*shape, generator=None, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Normal numbers of mean 0 and variance 1.

    >>> cr.randn(2, 3).shape
    (2, 3)
    """
    return _draw("randn", lambda rng, s: rng.standard_normal(s), shape, dtype, device, requires_grad, generator)


def randint(low, high=None, size=None, *, generator=None, dtype=None, device=None) -> Tensor:
    """Integers in [low, high), or [0, low) when only one bound is given.

    >>> bool((cr.randint(0, 3, (100,)) < 3).all())
    True
    """
    if size is None:
        low, high, size = (0, low, high) if high is not None and not isinstance(high, int) else (low, high, ())
    if high is None:
        low, high = 0, low
    if low >= high:
        raise ValueError(f"randint: received low={low}, high={high}; low must be below high")
    dtype = int64 if dtype is None else dtype
    draw = lambda rng, s: rng.integers(low, high, s)  # noqa: E731
    return _draw("randint", draw, (tuple(size),), dtype, device, False, generator)


def randperm(n: int, *, generator=None, dtype=None, device=None) -> Tensor:
    """The integers from 0 to n − 1 in random order.

    >>> sorted(cr.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    draw = lambda rng, s: rng.permutation(n)  # noqa: E731
    return _draw("randperm", draw, (), int64 if dtype is None else dtype, device, False, generator)


def normal(mean=0.0, std=1.0, size=None, *, generator=None, dtype=None, device=None) -> Tensor:
    """Normal numbers of the mean and standard deviation given (numbers, or tensors that broadcast).

    >>> cr.normal(0.0, 2.0, (3,)).shape
    (3,)
    """
    if size is None:
        size = np.broadcast_shapes(np.shape(mean), np.shape(std))
    if device is None:
        device = next((x.device for x in (mean, std) if isinstance(x, Tensor)), None)
    return randn(tuple(size), generator=generator, dtype=dtype, device=device) * std + mean


def bernoulli(p, *, generator=None) -> Tensor:
    """1 with the probability that each element of p names, else 0.

    >>> cr.bernoulli(cr.ones(3))
    tensor([1., 1., 1.])
    """
    if may_look(p.array) and not ((p.array >= 0) & (p.array <= 1)).all():
        raise ValueError(
            "bernoulli: received probabilities outside [0, 1] (or NaN); pass the result of a sigmoid, or clamp them"
        )
    rng = (generator or default_generator).rng
    return result((as_array(rng.random(p.shape), device=p.device) < p.array).astype(p.dtype))


def multinomial(weights, num_samples: int, replacement: bool = False, *, generator=None) -> Tensor:
    """Indices drawn with probabilities proportional to the last dimension of `weights` (1-d or 2-d).

    >>> cr.multinomial(cr.tensor([0.0, 1.0]), 1)
    tensor([1])
    """
    rng = (generator or default_generator).rng
    rows = np.atleast_2d(as_array(weights, np.float64, "cpu"))
    if rows.ndim > 2 or (rows < 0).any() or not np.isfinite(rows).all() or (rows.sum(-1) <= 0).any():
        raise ValueError(
            "multinomial: the weights must be finite and at least 0, one or two dimensions, with a positive sum"
        )
    draws = [rng.choice(len(row), num_samples, replacement, row / row.sum()) for row in rows]
    drawn = np.stack(draws) if weights.ndim == 2 else draws[0]
    return result(as_array(drawn, np.int64, weights.device))


def rand_like(x, **options) -> Tensor:
    """`rand` of the shape and dtype of x.

    >>> cr.rand_like(cr.ones(2)).shape
    (2,)
    """
    return rand(x.shape, **{"dtype": x.dtype, "device": x.device, **options})


def randn_like(x, **options) -> Tensor:
    """`randn` of the shape and dtype of x.

    >>> cr.randn_like(cr.ones(2)).shape
    (2,)
    """
    return randn(x.shape, **{"dtype": x.dtype, "device": x.device, **options})


def randint_like(x, low, high=None, **options) -> Tensor:
    """`randint` of the shape and dtype of x.

    >>> cr.randint_like(cr.ones(2), 5).dtype
    dtype('float32')
    """
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, x.shape, **{"dtype": x.dtype, "device": x.device, **options})
