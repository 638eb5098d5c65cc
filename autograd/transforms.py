"""Functions of functions: grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp. All compose, to any order.

A transform calls the user's function on fresh leaves that share the arguments' memory, so nothing outside is changed.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np

from .backward import grad as gradients, reachable
from .creation import ones_like, zeros_like
from .ops.shape import reshape, stack
from .state import enable_grad, is_grad_enabled
from .tensor import Tensor, is_floating


def _positions(argnums) -> tuple[int, ...]:
    return (argnums,) if isinstance(argnums, int) else tuple(argnums)


class _Variable(Tensor):
    """A leaf that a transform made: `done` when the transform has returned, as nobody can ask for its gradient then."""

    __slots__ = ("done",)
    done: bool


def _variable(x, who, nested):
    """A tensor to differentiate with respect to: inside any outer graph, an alias of x that belongs to it."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    if not is_floating(x.dtype):
        raise TypeError(
            f"{who}: an argument has dtype {x.dtype}; only floating arguments have derivatives; use x.float()"
        )
    if nested and x.requires_grad:
        return x.view(x.shape)
    leaf = _Variable(x, requires_grad=True)
    leaf.done = False
    return leaf


def _finish(variables) -> None:
    for v in variables:
        if isinstance(v, _Variable):
            v.done = True


def _call(who, f, args, kwargs, at):
    """f's result, the variables in place of the arguments at `at`, and whether an outer graph runs through the call."""
    for i in at:
        if not -len(args) <= i < len(args):
            raise IndexError(f"{who}: argnums={i} but the function was called with {len(args)} positional arguments")
    args, nested = list(args), is_grad_enabled()
    with enable_grad():
        for i in at:
            args[i] = _variable(args[i], who, nested)
        out = f(*args, **kwargs)
    variables = [args[i] for i in at]
    return out, variables, nested and _leads_outside(out, variables)


def _leads_outside(out, variables) -> bool:
    """Whether `out` depends on leaves besides `variables`: those of a transform around this one, or of the user."""
    outs = out if isinstance(out, (tuple, list)) else (out,)
    roots = [y._edge or y for y in outs if isinstance(y, Tensor) and y.requires_grad]
    own = {id(v) for v in variables}
    edges = itertools.chain(roots, *(node.edges for node in reachable(roots)))
    return any(isinstance(edge, Tensor) and id(edge) not in own and not getattr(edge, "done", False) for edge in edges)


def _one_tensor(who, out):
    if not isinstance(out, Tensor):
        raise TypeError(f"{who}: the function returned {type(out).__name__}; it must return a Tensor")
    return out


def _scalar(who, out):
    if _one_tensor(who, out).numel() != 1:
        raise ValueError(
            f"{who}: the function returned shape {out.shape}; a gradient is that of one number; reduce it, or use "
            "jacobian"
        )
    return out


def _paired(who, primals, tangents):
    """Both as tuples; a tangent that outer code differentiates keeps its graph."""
    primals = tuple(primals) if isinstance(primals, (tuple, list)) else (primals,)
    tangents = tuple(tangents) if isinstance(tangents, (tuple, list)) else (tangents,)
    if len(primals) != len(tangents):
        raise ValueError(
            f"{who}: received {len(primals)} primals and {len(tangents)} tangents; pass one tangent for each"
        )
    for i, (x, t) in enumerate(zip(primals, tangents, strict=True)):
        if np.shape(x) != np.shape(t):
            raise ValueError(
                f"{who}: primal {i} has shape {np.shape(x)} and its tangent {np.shape(t)}; they must be equal"
            )
    return primals, tangents


def _live(*tensors) -> bool:
    return is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in tensors)


def value_and_grad(f, argnums=0, has_aux: bool = False):
    """The function that returns (f(…), ∂f/∂argument), the gradient being a tuple where `argnums` is one.

    With has_aux, f returns (value, aux) and so does the first result.

    >>> value, slope = cr.value_and_grad(lambda x: (x ** 2).sum())(cr.tensor([1.0, 2.0]))
    >>> value.item(), slope.tolist()
    (5.0, [2.0, 4.0])
    """

    @functools.wraps(f)
    def both(*args, **kwargs):
        out, variables, nested = _call("value_and_grad", f, args, kwargs, _positions(argnums))
        if has_aux and not (isinstance(out, tuple) and len(out) == 2):
            raise TypeError(
                "value_and_grad: with has_aux=True the function must return (value, aux); it returned "
                f"{type(out).__name__}"
            )
        value, aux = out if has_aux else (out, None)
        slopes = _pull(_scalar("value_and_grad", value), variables, None, create_graph=nested)
        _finish(variables)
        if not nested:
            value, aux = value.detach(), aux.detach() if isinstance(aux, Tensor) else aux
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
    out, variables, nested = _call("vjp", f, primals, {}, range(len(primals)))
    _one_tensor("vjp", out)
    _finish(variables)

    def pull(cotangent=None):
        return tuple(_pull(out, variables, cotangent, create_graph=nested or _live(cotangent)))

    return (out if nested else out.detach()), pull


def jvp(f, primals, tangents):
    """(f(*primals), ∂f/∂primals · tangents): the derivative along a direction.

    Computed by two reverse passes: vᵀJ is linear in v, and its own pull-back along t is Jt (Townsend 2017).

    >>> cr.jvp(lambda x: x * x, (cr.tensor([1.0, 2.0]),), (cr.tensor([1.0, 0.0]),))[1].tolist()
    [2.0, 0.0]
    """
    primals, tangents = _paired("jvp", primals, tangents)
    out, variables, nested = _call("jvp", f, primals, {}, range(len(primals)))
    _one_tensor("jvp", out)
    _finish(variables)
    value = out if nested else out.detach()
    if not out.requires_grad:
        return value, zeros_like(out)
    with enable_grad():
        probe = ones_like(out.detach()).requires_grad_()
        rows = gradients(out, variables, probe, create_graph=True, materialize_grads=True)
    return value, _combined(rows, [probe], tangents, nested)[0]


def _combined(rows, variables, tangents, nested):
    """∂(Σ rows · tangents)/∂variables, where some rows may depend on nothing."""
    pairs = [(row, t) for row, t in zip(rows, tangents, strict=True) if row.requires_grad]
    if not pairs:
        return [zeros_like(v) for v in variables]
    rows, tangents = zip(*pairs, strict=True)
    return gradients(rows, variables, tangents, create_graph=nested or _live(*tangents), materialize_grads=True)


def jacobian(f, argnums=0):
    """The function that returns ∂f/∂argument, of shape (*output, *argument): one reverse pass per output element.

    >>> cr.jacobian(lambda x: x * x)(cr.tensor([1.0, 2.0])).tolist()
    [[2.0, 0.0], [0.0, 4.0]]
    """

    @functools.wraps(f)
    def matrix(*args, **kwargs):
        out, variables, nested = _call("jacobian", f, args, kwargs, _positions(argnums))
        rows = []
        for i in range(_one_tensor("jacobian", out).numel()):
            one = np.zeros(out.numel(), out.dtype)
            one[i] = 1
            rows.append(_pull(out, variables, Tensor(one.reshape(out.shape)), create_graph=nested))
        _finish(variables)
        made = []
        for j, v in enumerate(variables):
            full = stack([row[j] for row in rows]) if rows else zeros_like(v)[None][:0]
            made.append(reshape(full, (*out.shape, *v.shape)))
        return made[0] if isinstance(argnums, int) else tuple(made)

    return matrix


def hessian(f, argnums: int = 0):
    """The function that returns the second derivatives of f (which returns one number): (*argument, *argument).

    >>> cr.hessian(lambda x: (x ** 3).sum())(cr.tensor([1.0, 2.0])).tolist()
    [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacobian(grad(f, argnums), argnums)


def hvp(f, primals, tangents):
    """(f, H·v): the product of the matrix of second derivatives with a vector, without the matrix (Pearlmutter 1994).

    For several primals, H is that of all of them together.

    >>> cr.hvp(lambda x: (x ** 3).sum(), cr.tensor([1.0, 2.0]), cr.tensor([1.0, 1.0]))[1].tolist()
    [6.0, 12.0]
    """
    single = not isinstance(primals, (tuple, list))
    primals, tangents = _paired("hvp", primals, tangents)
    out, variables, nested = _call("hvp", f, primals, {}, range(len(primals)))
    slopes = _pull(_scalar("hvp", out), variables, None, create_graph=True)
    _finish(variables)
    products = _combined(slopes, variables, tangents, nested)
    return (out if nested else out.detach()), (products[0] if single else tuple(products))
