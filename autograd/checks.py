"""Checking derivatives against differences: `check_grads`."""

from __future__ import annotations

import numpy as np

from ..kernels import to_device
from .backward import grad
from .creation import as_tensor, zeros_like
from .tensor import Tensor, is_floating


class GradientError(AssertionError):
    """A derivative that differences do not confirm.

    >>> try:
    ...     cr.check_grads(lambda x: x * x.detach(), [cr.ones(2, dtype=cr.float64)])
    ... except cr.GradientError as error:
    ...     print(str(error).partition(":")[2].partition(":")[0])
     derivative of order 1, input 0
    """


def check_grads(
    f, inputs, order: int = 2, eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-6, seed: int = 0
) -> None:
    """Compare the derivatives of f with central differences, along one random direction, up to `order`.

    f takes tensors and returns a tensor (or several); `inputs` are its arguments, of which the float64 ones are varied.
    For y = f(x), a random cotangent v and direction u: vᵀ(∂f/∂x)u against vᵀ(f(x + εu) − f(x − εu))/2ε. Order 2 checks
    the gradient function in the same way. Where the check fails, each element is examined.

    Errors: GradientError naming the order, the input and the element that is most off.

    >>> cr.check_grads(cr.tanh, [cr.randn(3, dtype=cr.float64)])
    """
    inputs = [
        x if isinstance(x, Tensor) else Tensor(x) for x in (inputs if isinstance(inputs, (list, tuple)) else [inputs])
    ]
    varied = [i for i, x in enumerate(inputs) if is_floating(x.dtype)]
    for i in varied:
        if inputs[i].dtype != np.float64:
            raise TypeError(
                f"check_grads: input {i} has dtype {inputs[i].dtype}, in which differences have too few digits; pass "
                "float64"
            )
    if not varied:
        raise TypeError("check_grads: no input is a floating tensor; there is nothing to vary")
    rng = np.random.default_rng(seed)
    _check(f, inputs, varied, order, eps, rtol, atol, rng, 1)


def _outputs(f, inputs):
    out = f(*inputs)
    out = list(out) if isinstance(out, (tuple, list)) else [out]
    return [y for y in out if isinstance(y, Tensor) and is_floating(y.dtype)]


def _check(f, inputs, varied, order, eps, rtol, atol, rng, level):
    points = [x.detach().clone() for x in inputs]
    leaves = [x.detach().clone().requires_grad_() if i in varied else x for i, x in enumerate(points)]
    out = _outputs(f, leaves)
    cotangents = [as_tensor(rng.standard_normal(y.shape), device=y.device) for y in out]
    slopes = _slopes(out, [leaves[i] for i in varied], cotangents)

    def value(moved):
        return sum(float((v.array * y.array).sum()) for v, y in zip(cotangents, _outputs(f, moved), strict=True))

    for i, slope in zip(varied, slopes, strict=True):
        direction = rng.standard_normal(inputs[i].shape)
        numeric = _difference(value, points, i, direction, eps)
        slope = to_device(slope.array, "cpu")
        analytic = float((slope * direction).sum())
        if not np.isclose(analytic, numeric, rtol=rtol, atol=atol * max(1.0, np.sqrt(direction.size))):
            raise GradientError(_worst(value, points, i, slope, eps, level, analytic, numeric))
    if level < order:
        _check(_gradient_function(f, varied, cotangents), inputs, varied, order, eps, rtol, atol, rng, level + 1)


def _slopes(out, leaves, cotangents, create_graph=False):
    """The gradients of `out`, of which some (or all) may be constant."""
    live = [(y, v) for y, v in zip(out, cotangents, strict=True) if y.requires_grad]
    if not live:
        return [zeros_like(x) for x in leaves]
    outs, cotangents = zip(*live, strict=True)
    return grad(outs, leaves, cotangents, create_graph=create_graph, materialize_grads=True)


def _difference(value, points, i, direction, eps) -> float:
    def at(step):
        moved = [x + as_tensor(step * direction, device=x.device) if j == i else x for j, x in enumerate(points)]
        return value(moved)

    return (at(eps) - at(-eps)) / (2 * eps)


def _gradient_function(f, varied, cotangents):
    """The function whose results are f's gradients for fixed cotangents."""

    def slopes(*inputs):
        leaves = [
            x if i not in varied or x.requires_grad else x.detach().requires_grad_() for i, x in enumerate(inputs)
        ]
        return _slopes(_outputs(f, leaves), [leaves[i] for i in varied], cotangents, create_graph=True)

    return slopes


def _worst(value, points, i, slope, eps, level, analytic, numeric) -> str:
    """Which element is most off, by varying each."""
    numbers = np.zeros(slope.shape)
    for place in np.ndindex(*slope.shape):
        one = np.zeros(slope.shape)
        one[place] = 1
        numbers[place] = _difference(value, points, i, one, eps)
    off = np.abs(numbers - slope)
    place = np.unravel_index(np.argmax(np.where(np.isnan(off), np.inf, off)), off.shape) if slope.size else ()
    where = tuple(int(p) for p in place)
    return (
        f"check_grads: derivative of order {level}, input {i}: along a random direction the rule gives {analytic:.8g} "
        f"and differences give {numeric:.8g}; most off is element {where}: {slope[place]:.8g} by the rule, "
        f"{numbers[place]:.8g} by differences; mend the rule, or move the input away from a kink"
    )
