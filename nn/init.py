"""Filling parameters with their first values, in place.

Every function returns the tensor that it filled and takes `generator=None`, which means the default generator
(`cr.manual_seed`). Names, arguments and formulas are PyTorch's; the random streams are NumPy's.
"""

from __future__ import annotations

import math

import numpy as np

from ..autograd import Generator, Tensor, default_generator, no_grad, tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "default_",
    "dirac_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def uniform_(t: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with draws from the uniform distribution U(a, b).

    >>> bool((cr.nn.init.uniform_(cr.empty(100), -1, 1).abs() <= 1).all())
    True
    """
    if a > b:
        raise ValueError(f"uniform_: received a={a}, b={b}, but a range runs upwards; pass a <= b")
    return _fill(t, _rng(generator).random(t.shape, _drawn(t)) * (b - a) + a)


def normal_(t: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with draws from the normal distribution N(mean, std²).

    >>> abs(cr.nn.init.normal_(cr.empty(10_000), mean=3.0).mean().item() - 3.0) < 0.1
    True
    """
    _not_negative("normal_", std=std)
    return _fill(t, _rng(generator).standard_normal(t.shape, _drawn(t)) * std + mean)


def trunc_normal_(
    t: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with draws from N(mean, std²) kept inside [a, b]: what falls outside is drawn again.

    >>> bool((cr.nn.init.trunc_normal_(cr.empty(1000), a=-1, b=1).abs() <= 1).all())
    True
    """
    _not_negative("trunc_normal_", std=std)
    if not (a < b and mean - 8 * std <= b and mean + 8 * std >= a):
        raise ValueError(
            f"trunc_normal_: received mean={mean}, std={std} and the interval [{a}, {b}], in which draws are "
            "practically never found; pass a < b within 8 std of the mean"
        )
    rng = _rng(generator)
    values = np.asarray(rng.standard_normal(t.shape, _drawn(t)) * std + mean)
    while (outside := (values < a) | (values > b)).any():
        values[outside] = rng.standard_normal(int(outside.sum()), _drawn(t)) * std + mean
    return _fill(t, values)


def constant_(t: Tensor, val: float) -> Tensor:
    """Fill with one value.

    >>> cr.nn.init.constant_(cr.empty(2), 0.5).tolist()
    [0.5, 0.5]
    """
    return _fill(t, np.full(t.shape, val))


def ones_(t: Tensor) -> Tensor:
    """Fill with 1.

    >>> cr.nn.init.ones_(cr.empty(2)).tolist()
    [1.0, 1.0]
    """
    return constant_(t, 1.0)


def zeros_(t: Tensor) -> Tensor:
    """Fill with 0.

    >>> cr.nn.init.zeros_(cr.empty(2)).tolist()
    [0.0, 0.0]
    """
    return constant_(t, 0.0)


def eye_(t: Tensor) -> Tensor:
    """Fill a matrix with the identity, 1 on the diagonal and 0 elsewhere, so that a linear layer keeps its inputs.

    >>> cr.nn.init.eye_(cr.empty(2, 3)).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    _axes("eye_", t, 2, 2)
    return _fill(t, np.eye(t.shape[0], t.shape[1]))


def dirac_(t: Tensor, groups: int = 1) -> Tensor:
    """Fill convolution weights (O, I, *k) with the unit impulse, so that each group keeps as many channels as it can.

    >>> cr.nn.init.dirac_(cr.empty(1, 1, 3)).tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    _axes("dirac_", t, 3, 5)
    if t.shape[0] % groups:
        raise ValueError(
            f"dirac_: received weights of shape {t.shape} and groups={groups}, but the {t.shape[0]} filters must split "
            "evenly; pass groups that divide the first axis"
        )
    values = np.zeros(t.shape)
    filters, centre = t.shape[0] // groups, tuple(k // 2 for k in t.shape[2:])
    for group in range(groups):
        for channel in range(min(filters, t.shape[1])):
            values[(group * filters + channel, channel, *centre)] = 1.0
    return _fill(t, values)


def xavier_uniform_(t: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with U(−a, a), a = gain √(6 / (fan_in + fan_out)) (Glorot & Bengio 2010).

    >>> bool((cr.nn.init.xavier_uniform_(cr.empty(2, 4)).abs() <= 1).all())
    True
    """
    bound = gain * math.sqrt(6.0 / sum(_fans("xavier_uniform_", t)))
    return uniform_(t, -bound, bound, generator)


def xavier_normal_(t: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with N(0, s²), s = gain √(2 / (fan_in + fan_out)) (Glorot & Bengio 2010).

    >>> 0.09 < cr.nn.init.xavier_normal_(cr.empty(100, 100)).std().item() < 0.11
    True
    """
    return normal_(t, 0.0, gain * math.sqrt(2.0 / sum(_fans("xavier_normal_", t))), generator)


def kaiming_uniform_(
    t: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with U(−b, b), b = gain √(3 / fan) (He 2015); `a` is the slope of the leaky ReLU that follows.

    >>> bool((cr.nn.init.kaiming_uniform_(cr.empty(5, 6)).abs() <= 1).all())
    True
    """
    bound = math.sqrt(3.0) * _kaiming_std("kaiming_uniform_", t, a, mode, nonlinearity)
    return uniform_(t, -bound, bound, generator)


def kaiming_normal_(
    t: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with N(0, s²), s = gain / √fan (He 2015); `a` is the slope of the leaky ReLU that follows.

    >>> 0.13 < cr.nn.init.kaiming_normal_(cr.empty(100, 100)).std().item() < 0.15
    True
    """
    return normal_(t, 0.0, _kaiming_std("kaiming_normal_", t, a, mode, nonlinearity), generator)


def orthogonal_(t: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill (n, *rest), seen as a matrix, with gain times orthonormal rows or columns, whichever are fewer (Saxe 2013).

    >>> w = cr.nn.init.orthogonal_(cr.empty(3, 5))
    >>> bool(np.allclose((w @ w.T).numpy(), np.eye(3), atol=1e-6))
    True
    """
    _axes("orthogonal_", t, 2, math.inf)
    if t.numel() == 0:
        return t
    rows, columns = t.shape[0], t.numel() // t.shape[0]
    flat = _rng(generator).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(flat)
    q *= np.sign(np.diag(r))  # without it QR prefers some rotations, with it the draw is uniform
    return _fill(t, gain * (q if rows >= columns else q.T).reshape(t.shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor by which weights grow to keep the variance through a nonlinearity.

    `linear`, `conv*` and `sigmoid` 1, `tanh` 5/3, `relu` √2, `leaky_relu` √(2 / (1 + slope²)) with the slope in `param`
    (0.01 if None), `selu` 3/4.

    >>> cr.nn.init.calculate_gain("leaky_relu", 1.0)
    1.0
    """
    slope = 0.01 if param is None else param
    gains = {
        **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "sigmoid"), 1.0),
        **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 1.0),
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + slope**2)),
        "selu": 0.75,
    }
    if nonlinearity not in gains:
        raise ValueError(
            f"calculate_gain: received nonlinearity={nonlinearity!r}, for which no gain is known; "
            f"pass one of {', '.join(gains)}"
        )
    return gains[nonlinearity]


def default_(weight: Tensor, bias: Tensor | None) -> None:
    """Fill weights (O, I, *k) and a bias with U(−1/√fan_in, 1/√fan_in), as PyTorch's linear and conv layers start.

    For the weights this is He's formula with a = √5.

    >>> weight, bias = cr.empty(3, 4), cr.empty(3)
    >>> cr.nn.init.default_(weight, bias)
    >>> bool((weight.abs() <= 0.5).all() and (bias.abs() <= 0.5).all())
    True
    """
    if weight.numel():
        kaiming_uniform_(weight, a=math.sqrt(5.0))
    if bias is not None:
        fan_in = math.prod(weight.shape[1:])
        bound = 1.0 / math.sqrt(fan_in) if fan_in else 0.0
        uniform_(bias, -bound, bound)


def _rng(generator: Generator | None) -> np.random.Generator:
    return (default_generator if generator is None else generator).rng


def _drawn(t: Tensor) -> type:
    """Return the dtype to draw in: float32 directly where that is enough, which halves the memory of large layers."""
    return np.float64 if t.dtype == np.float64 else np.float32


def _fill(t: Tensor, values: np.ndarray) -> Tensor:
    with no_grad():
        return t.copy_(tensor(np.asarray(values, dtype=t.dtype), device=t.device))


def _axes(function: str, t: Tensor, least: int, most: float) -> None:
    if not least <= t.ndim <= most:
        wanted = {least: f"{least}", math.inf: f"{least} or more"}.get(most, f"{least} to {most}")
        raise ValueError(
            f"{function}: received a tensor of shape {t.shape} with {t.ndim} axes, but needs {wanted}; "
            "fill biases with zeros_ or uniform_"
        )


def _not_negative(function: str, **values: float) -> None:
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{function}: received {name}={value}, which measures a spread; pass {name} >= 0")


def _fans(function: str, t: Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of weights (O, I, *k): I ∏k and O ∏k."""
    _axes(function, t, 2, math.inf)
    field = math.prod(t.shape[2:])
    fans = t.shape[1] * field, t.shape[0] * field
    if sum(fans) == 0:
        raise ValueError(
            f"{function}: received a tensor of shape {t.shape}, which joins no inputs to no outputs; "
            "fill empty tensors with zeros_"
        )
    return fans


def _kaiming_std(function: str, t: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(function, t)))
    if mode not in fans:
        raise ValueError(f"{function}: received mode={mode!r}, which is no fan; pass 'fan_in' or 'fan_out'")
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fans[mode], 1))
