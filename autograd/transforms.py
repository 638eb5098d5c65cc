"""Functions of functions: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp. All compose, to any order.

A transform calls the user's function on fresh leaves that share the arguments' memory, so nothing outside is changed.
"""

from __future__ import annotations

import functools

import numpy as np

from .backward import grad as gradients
from .creation import ones_like, zeros_like
from .ops.shape import reshape, stack
from .state import enable_grad
from .tensor import Tensor


def _positions(argnums) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


def _variable(x, who):
    """A tensor to differentiate with respect to: an alias of x inside any outer graph."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    if x.dtype.kind != "f":
        raise TypeError(f"{who}: an argument has dtype {x.dtype}; only floating arguments have derivatives; use x.float()")
    return x.view(x.shape) if x.requires_grad else x.detach().requires_grad_()


def _call(who, f, args, kwargs, at):
    for i in at:
        if not -len(args) <= i < len(args):
            raise IndexError(f"{who}: argnums={i} but the function was called with {len(args)} positional arguments")
    args = list(args)
    for i in at:
        args[i] = _variable(args[i], who)
    with enable_grad():
        out = f(*args, **kwargs)
    return out, [args[i] for i in at]


def _scalar(who, out):
    if not isinstance(out, Tensor):
        raise TypeError(f"{who}: the function returned {type(out).__name__}; it must return a Tensor (and aux with has_aux=True)")
    if out.numel() != 1:
        raise ValueError(f"{who}: the function returned shape {out.shape}; a gradient is that of one number; reduce it, or use jacobian")
    return out


def _nested(*tensors) -> bool:
    """Whether an outer graph is being recorded through these."""
    return any(isinstance(x, Tensor) and x.requires_grad for x in tensors)


def value_and_grad(f, argnums=0, has_aux: bool = False):
    """The function that returns (f(…), ∂f/∂argument), the gradient being a tuple where `argnums` is one.

    With has_aux, f returns (value, aux) and so does the first result.

    >>> value, slope = cr.value_and_grad(lambda x: (x ** 2).sum())(cr.tensor([1.0, 2.0]))
    >>> value.item(), slope.tolist()
    (5.0, [2.0, 4.0])
    """

    @functools.wraps(f)
    def both(*args, **kwargs):
        out, variables = _call("value_and_grad", f, args, kwargs, _positions(argnums))
        value, aux = out if has_aux else (out, None)
        _scalar("value_and_grad", value)
        slopes = _pull(value, variables, None, create_graph=True)
        if not _nested(*args):
            value, slopes = value.detach(), [s.detach() for s in slopes]
        slopes = slopes[0] if isinstance(argnums, int) else tuple(slopes)
        return ((value, aux) if has_aux else value), slopes

    return both


def grad(f, argnums=0, has_aux: bool = False):
    """The function that returns the gradient of f (which returns one number) with respect to argument `argnums`.

    >>> cr.grad(cr.grad(lambda x: x ** 3))(cr.tensor(2.0)).item()
    12.0
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def slope(*args, **kwargs):
        value, slopes = both(*args, **kwargs)
        return (slopes, value[1]) if has_aux else slopes

    return slope


def _pull(out, variables, cotangent, create_graph):
    """∂out/∂variables, zeros where there is no path."""
    if not out.requires_grad:
        return [zeros_like(v) for v in variables]
    return gradients(out, variables, cotangent, create_graph=create_graph, retain_graph=True, materialize_grads=True)


def vjp(f, *primals):
    """(f(*primals), pull): pull(v) returns vᵀ ∂f/∂primal for each primal, and may be called often.

    >>> y, pull = cr.vjp(lambda x: x * x, cr.tensor([1.0, 2.0]))
    >>> pull(cr.tensor([1.0, 1.0]))[0].tolist()
    [2.0, 4.0]
    """
    out, variables = _call("vjp", f, primals, {}, range(len(primals)))

    def pull(cotangent=None):
        return tuple(_pull(out, variables, cotangent, create_graph=_nested(*primals, cotangent)))

    return (out if _nested(*primals) else out.detach()), pull


def jvp(f, primals, tangents):
    """(f(*primals), ∂f/∂primals · tangents): the derivative along a direction.

    Computed by two reverse passes: vᵀJ is linear in v, and its own pull-back along t is Jt (Townsend 2017).

    >>> cr.jvp(lambda x: x * x, (cr.tensor([1.0, 2.0]),), (cr.tensor([1.0, 0.0]),))[1].tolist()
    [2.0, 0.0]
    """
    primals = primals if isinstance(primals, (tuple, list)) else (primals,)
    tangents = tangents if isinstance(tangents, (tuple, list)) else (tangents,)
    if len(primals) != len(tangents):
        raise ValueError(f"jvp: received {len(primals)} primals and {len(tangents)} tangents; pass one tangent for each")
    out, variables = _call("jvp", f, primals, {}, range(len(primals)))
    if not out.requires_grad:
        return out, zeros_like(out)
    with enable_grad():
        probe = ones_like(out.detach()).requires_grad_()
        rows = [r for r in gradients(out, variables, probe, create_graph=True, allow_unused=True)]
        pairs = [(r, t) for r, t in zip(rows, tangents, strict=True) if r is not None and r.requires_grad]
        if not pairs:
            return out.detach(), zeros_like(out.detach())
        pushed = gradients(
            [r for r, _ in pairs],
            [probe],
            [t for _, t in pairs],
            create_graph=_nested(*primals, *tangents),
            materialize_grads=True,
        )[0]
    return (out if _nested(*primals) else out.detach()), pushed


def jacobian(f, argnums=0):
    """The function that returns ∂f/∂argument, of shape (*output, *argument): one reverse pass per output element.

    >>> cr.jacobian(lambda x: x * x)(cr.tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    @functools.wraps(f)
    def matrix(*args, **kwargs):
        out, variables = _call("jacobian", f, args, kwargs, _positions(argnums))
        nested = _nested(*args)
        rows = []
        for i in range(out.numel()):
            one = np.zeros(out.numel(), out.dtype)
            one[i] = 1
            rows.append(_pull(out, variables, Tensor(one.reshape(out.shape)), create_graph=nested))
        made = []
        for j, v in enumerate(variables):
            full = stack([row[j] for row in rows]) if rows else zeros_like(v)[None][:0]
            made.append(reshape(full, (*out.shape, *v.shape)))
        return made[0] if isinstance(argnums, int) else tuple(made)

    return matrix


def hessian(f, argnums: int = 0):
    """The function that returns the matrix of second derivatives of f (which returns one number), (*argument, *argument).

    >>> cr.hessian(lambda x: (x ** 3).sum())(cr.tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f, primals, tangents):
    """(f, H·v): the product of f's second-derivative matrix with a vector, without forming the matrix (Pearlmutter 1994).

    For several primals, H is that of all of them together.

    >>> cr.hvp(lambda x: (x ** 3).sum(), cr.tensor([1.0, 2.0]), cr.tensor([1.0, 1.0]))[1].tolist()
    [6.0, 12.0]
    """
    single = not isinstance(primals, (tuple, list))
    primals = (primals,) if single else tuple(primals)
    tangents = (tangents,) if single else tuple(tangents)
    out, variables = _call("hvp", f, primals, {}, range(len(primals)))
    _scalar("hvp", out)
    slopes = _pull(out, variables, None, create_graph=True)
    live = [(s, t) for s, t in zip(slopes, tangents, strict=True) if s.requires_grad]
    if live:
        nested = _nested(*primals, *tangents)
        products = gradients(
            [s for s, _ in live], variables, [t for _, t in live], create_graph=nested, materialize_grads=True
        )
    else:
        products = [zeros_like(v) for v in variables]
    value = out if _nested(*primals) else out.detach()
    return value, (products[0] if single else tuple(products))
