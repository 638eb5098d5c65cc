"""Reductions and scans. `dim` may be None (all), a number or a tuple; `axis`/`keepdims` mean `dim`/`keepdim`."""

from __future__ import annotations

import builtins
import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...kernels import device_of, for_array, for_device
from ..primitive import as_ndarray, primitive
from ..tensor import Tensor, array_of, get_default_dtype, is_floating, is_number, outside, result
from .axes import all_dims, kept_shape, numpy_names, one_dim
from .convert import operand, to
from .elementwise import absolute, exp, maximum, minimum, where
from .indexing import gather
from .shape import broadcast_to, flatten, flip, movedim, reshape, unsqueeze

_FEW = 4096  # elements that are written in less time than NumPy makes a view of them


def _spread(g, shape, dim):
    """A reduction's gradient, broadcast back over the dimensions that it lost."""
    g = g.reshape(kept_shape(shape, dim)) if g.ndim else g
    if isinstance(g, Tensor) or math.prod(shape) > _FEW or not (isinstance(g, np.generic) or device_of(g) == "cpu"):
        return broadcast_to(g, shape=shape)
    out = for_device("cpu").empty(shape, g.dtype)
    out[...] = g
    return out


def _count(shape, dim) -> int:
    return math.prod([shape[d] for d in dim])


def _floating(who, x):
    x = x if isinstance(x, Tensor) else Tensor(x)
    if not is_floating(x.dtype):
        raise TypeError(
            f"{who}: received a tensor of dtype {x.dtype}; it is defined for floating tensors; use x.float() first"
        )
    return x


def _made_ready(reduction):
    """What the short path of a reduction takes, as a function of its metadata: `numpy_names` is the second caller."""
    forward, cpu = reduction.forward, for_device("cpu")

    @lru_cache(1024)
    def ready(dim, keepdim):
        return lambda x: forward(cpu, x, dim=dim, keepdim=keepdim), dict(dim=dim, keepdim=keepdim), 3

    return ready


# ---- sums ------------------------------------------------------------------------------------------------------------


@primitive(name="sum", formula=r"\textstyle\sum x", flops=lambda x, out, **_: math.prod(x))
def sum_over(k, x, *, dim, keepdim):
    return k.sum(x, dim, keepdim)


@sum_over.vjp("x", formula=r"\bar o \text{ spread}")
def sum_over_dx(g, x_shape, *, dim, keepdim):
    return _spread(g, x_shape, dim)


_summing = _made_ready(sum_over)


@numpy_names
def sum(x, dim=None, keepdim: bool = False, dtype=None):
    """The sum over `dim`: y = Σ x. Integers and bools are summed as int64.

    float32 is summed pairwise or in float64, so that 10⁷ terms keep 6 digits.

    >>> cr.tensor([[1.0, 2.0], [3.0, 4.0]]).sum(dim=0)
    tensor([4., 6.])
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    if dtype is not None:
        x = to(x, dtype)
    return sum_over.short(x, _summing(all_dims("sum", dim, x.array.ndim), keepdim))


@primitive(name="mean", formula=r"\tfrac1n \textstyle\sum x", flops=lambda x, out, **_: math.prod(x))
def mean_over(k, x, *, dim, keepdim):
    total = k.sum(_wide(x), dim, keepdim)
    total /= x.size // (total.size or 1) or math.nan
    return total if total.dtype is x.dtype else total.astype(x.dtype)


def _wide(x):
    """16-bit floats as float32, so that a sum may exceed what its mean fits into."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and is_floating(x.dtype) else x


@mean_over.vjp("x", formula=r"\tfrac1n \bar o \text{ spread}")
def mean_over_dx(g, x_shape, *, dim, keepdim):
    return _spread(g / builtins.max(_count(x_shape, dim), 1), x_shape, dim)


_averaging = _made_ready(mean_over)


@numpy_names
def mean(x, dim=None, keepdim: bool = False, dtype=None):
    """The mean over `dim`: y = (1/n) Σ x; NaN of nothing.

    >>> cr.tensor([1.0, 2.0, 6.0]).mean().item()
    3.0
    """
    x = _floating("mean", x if dtype is None else to(x, dtype))
    return mean_over.short(x, _averaging(all_dims("mean", dim, x.array.ndim), keepdim))


@primitive(
    name="var",
    formula=r"\tfrac{1}{n - c} \textstyle\sum (x - \bar x)^2",
    flops=lambda x, out, **_: 4 * math.prod(x),
)
def var_over(k, x, *, dim, keepdim, correction):
    return k.variance(_wide(x), dim, keepdim, correction).astype(x.dtype, copy=False)


def _first(x, dim):
    """The first values along `dim`, a constant: shifted by them, equal values are exactly 0, however a mean rounds."""
    array = x.array if isinstance(x, Tensor) else x
    return array[tuple(slice(0, 1) if d in dim else slice(None) for d in range(array.ndim))]


def _centred(x, dim):
    """x − mean(x)."""
    x = x - _first(x, dim)
    return x - mean_over(x, dim=dim, keepdim=True)


@var_over.vjp("x", formula=r"\tfrac{2}{n - c} \bar o\,(x - \bar x)")
def var_over_dx(g, x, *, dim, keepdim, correction):
    scale = 2 / builtins.max(_count(x.shape, dim) - correction, 0) if _count(x.shape, dim) > correction else math.nan
    return _spread(g * scale, x.shape, dim) * _centred(x, dim)


@numpy_names
def var(x, dim=None, correction: float = 1, keepdim: bool = False, unbiased: bool | None = None):
    """The variance over `dim`: Σ (x − mean)² / (n − correction), in two passes.

    correction=1 (PyTorch's default) is the unbiased estimate; NumPy's default is 0.

    >>> cr.tensor([1.0, 2.0, 3.0]).var().item()
    1.0
    """
    x = _floating("var", x)
    correction = int(unbiased) if unbiased is not None else 1 if correction is None else correction
    return var_over(x, dim=all_dims("var", dim, x.ndim), keepdim=keepdim, correction=correction)


@primitive(name="std", formula=r"\sqrt{\operatorname{var} x}", flops=lambda x, out, **_: 4 * math.prod(x))
def std_over(k, x, *, dim, keepdim, correction):
    return k.sqrt(k.variance(_wide(x), dim, keepdim, correction)).astype(x.dtype, copy=False)


@std_over.vjp("x", formula=r"\bar o\,(x - \bar x) / ((n - c)\,\operatorname{std} x)")
def std_over_dx(g, x, out, *, dim, keepdim, correction):
    scale = g / (where(out == 0, 1, out) * builtins.max(_count(x.shape, dim) - correction, 1e-300))
    return _spread(where(out == 0, 0, scale), x.shape, dim) * _centred(x, dim)


@numpy_names
def std(x, dim=None, correction: float = 1, keepdim: bool = False, unbiased: bool | None = None):
    """The standard deviation over `dim`, the root of `var`; its derivative is 0 where all values are equal.

    >>> cr.tensor([1.0, 2.0, 3.0]).std().item()
    1.0
    """
    x = _floating("std", x)
    correction = int(unbiased) if unbiased is not None else 1 if correction is None else correction
    return std_over(x, dim=all_dims("std", dim, x.ndim), keepdim=keepdim, correction=correction)


# ---- products --------------------------------------------------------------------------------------------------------


@primitive(name="prod", formula=r"\textstyle\prod x", flops=lambda x, out, **_: math.prod(x))
def prod_last(k, x):
    return k.prod(x, axis=-1)


@prod_last.vjp("x", formula=r"\bar o \textstyle\prod_{j \ne i} x_j")
def prod_last_dx(g, x, out):
    """out / x where no factor is 0; else the product of the others, written out."""
    values = array_of(x)
    if values.all():
        return unsqueeze(g * out, -1) / x
    n = x.shape[-1]
    others = where(for_array(values).eye(n, dtype=bool), 1, unsqueeze(x, -2))
    return unsqueeze(g, -1) * prod_last(others)


@numpy_names
def prod(x, dim=None, keepdim: bool = False, dtype=None):
    """The product over `dim`: y = Π x; the derivative is right at zeros too.

    >>> cr.tensor([2.0, 3.0, 4.0]).prod().item()
    24.0
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    x = to(x, dtype) if dtype is not None else x if is_floating(x.dtype) else to(x, "int64")
    dims = all_dims("prod", dim, x.ndim)
    if not dims:
        return x
    last = movedim(x, dims, tuple(range(-len(dims), 0)))
    out = prod_last(flatten(last, -len(dims)))
    return reshape(out, kept_shape(x.shape, dims)) if keepdim else out


@primitive(name="cumsum", formula=r"\textstyle\sum_{j \le i} x_j", flops=1)
def cumsum_along(k, x, *, dim):
    return k.running_sum(x, dim)  # in float64: a million float32 terms drift by 5 %


@cumsum_along.vjp("x", formula=r"\textstyle\sum_{j \ge i} \bar o_j")
def cumsum_along_dx(g, *, dim):
    return flip(cumsum_along(flip(g, dim), dim=dim), dim)


@cumsum_along.fused_vjp("x")
def cumsum_along_fused(k, g, *, dim):
    return k.running_sum(g, dim, True)


@numpy_names
def cumsum(x, dim: int, dtype=None):
    """The running sum along `dim`: yᵢ = Σ_{j ≤ i} xⱼ.

    >>> cr.tensor([1.0, 2.0, 3.0]).cumsum(0)
    tensor([1., 3., 6.])
    """
    x = x if dtype is None else to(x, dtype)
    dim = one_dim("cumsum", dim, x.ndim)
    return cumsum_along(x, dim=dim) if x.ndim else x + 0


# ---- extremes --------------------------------------------------------------------------------------------------------


class Extreme(NamedTuple):
    """Values and the indices where they stood."""

    values: Tensor
    indices: Tensor


def _extreme_over(name, word, formula):
    def forward(k, x, *, dim, keepdim):
        return getattr(k, name)(x, axis=dim, keepdims=keepdim)

    forward.__name__ = name + "_over"
    made = primitive(name=name, formula=formula, flops=lambda x, out, **_: math.prod(x))(forward)

    def rule(g, x, out, *, dim, keepdim):
        kept = kept_shape(x.shape, dim)
        hit = x == reshape(out, kept)
        hits = as_ndarray(array_of(hit))
        ties = for_array(hits).sum(hits.astype(values_dtype(x)), dim, True)
        return where(hit, reshape(g, kept) / np.maximum(ties, 1), 0)

    rule.__name__ = name + "_over_dx"
    made.vjp("x", formula=r"\bar o\,[x = y] / \#\text{ties}")(rule)
    ready = _made_ready(made)

    def function(x, dim=None, keepdim: bool = False):
        array = array_of(x)
        dims = all_dims(name, dim, array.ndim)
        _something(name, array, dims)
        return made.short(x, ready(dims, keepdim))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"The {word} over `dim` (a number or several); ties share the gradient equally.\n\n"
        f"    >>> cr.{name}(cr.tensor([[1.0, 5.0], [3.0, 2.0]]), 1)\n"
        f"    tensor({'[5., 3.]' if name == 'amax' else '[1., 2.]'})\n    "
    )
    return made, function


def values_dtype(x):
    return x.dtype if is_floating(x.dtype) else get_default_dtype()


def _something(who, x, dims):
    shape = x.shape
    if 0 in shape and builtins.any(shape[d] == 0 for d in dims):
        raise ValueError(
            f"{who}: received shape {shape}, which has nothing along dimension {dims}; an extreme needs one element"
        )


amax_over, _largest = _extreme_over("amax", "largest value", r"\max x")
amin_over, _smallest = _extreme_over("amin", "smallest value", r"\min x")
amax, amin = numpy_names(_largest), numpy_names(_smallest)


def _arg(name, word):
    @numpy_names
    def function(x, dim=None, keepdim: bool = False):
        x = operand(x)
        array = x.array
        find = getattr(for_array(array), name)
        if dim is None:
            _something(name, array, tuple(range(array.ndim)))
            found = find(array)
            return outside(x, name, as_ndarray(found).reshape((1,) * array.ndim if keepdim else ()))
        dim = one_dim(name, dim, array.ndim)
        if not array.ndim:
            return result(for_array(array).zeros((), np.int64))
        _something(name, array, (dim,))
        return outside(x, name, as_ndarray(find(array, axis=dim, keepdims=keepdim)))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"The index of the {word} along `dim` (of the flattened tensor for None), the first of equals; int64.\n\n"
        f"    >>> cr.{name}(cr.tensor([3.0, 7.0, 1.0])).item()\n    {1 if name == 'argmax' else 2}\n    "
    )
    return function


argmax, argmin = _arg("argmax", "largest value"), _arg("argmin", "smallest value")


def _extreme(name, over_all, where_first, pairwise):
    @numpy_names
    def function(x, dim=None, keepdim: bool = False):
        if dim is None:
            return over_all(x)
        if isinstance(dim, Tensor):
            return pairwise(x, dim)
        at = where_first(x, dim, keepdim=True)
        dim = one_dim(name, dim, x.ndim)
        values = gather(x, dim, at) if x.ndim else x
        if keepdim or not x.ndim:
            return Extreme(values, at)
        shape = x.shape[:dim] + x.shape[dim + 1 :]
        return Extreme(reshape(values, shape), reshape(at, shape))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"The {name}imum of all (ties share the gradient), or (values, indices) along `dim` (the first of "
        "equals gets it);\n"
        f"    with a second tensor, the elementwise `{name}imum`.\n\n"
        f"    >>> cr.{name}(cr.tensor([[1.0, 5.0], [3.0, 2.0]]), 1).indices\n"
        f"    tensor({'[1, 0]' if name == 'max' else '[0, 1]'})\n    "
    )
    return function


max = _extreme("max", _largest, argmax, maximum)
min = _extreme("min", _smallest, argmin, minimum)


def _truth(name, word):
    @numpy_names
    def function(x, dim=None, keepdim: bool = False):
        axis = None if dim is None else all_dims(name, dim, x.ndim)
        return result(as_ndarray(getattr(np, name)(x.array, axis=axis, keepdims=keepdim)))

    function.__name__ = function.__qualname__ = name
    example = f">>> cr.tensor([0, 1]).{name}().item()\n    {name == 'any'}"
    function.__doc__ = f"Whether {word} along `dim` is nonzero.\n\n    {example}\n    "
    return function


all, any = _truth("all", "every element"), _truth("any", "some element")


# ---- exponentials ----------------------------------------------------------------------------------------------------


@primitive(
    name="logsumexp",
    floating=True,
    formula=r"\ln \textstyle\sum e^{x}",
    flops=lambda x, out, **_: 10 * math.prod(x),
)
def logsumexp_over(k, x, *, dim, keepdim):
    return k.logsumexp(x, dim, keepdim)


@logsumexp_over.vjp("x", formula=r"\bar o\,e^{x_i} / \textstyle\sum_j e^{x_j}")
def logsumexp_over_dx(g, x, *, dim, keepdim):
    """The softmax of x (0 for nothing but −inf). It is e^{x − y} too, but a large y has lost the digits of ln Σ."""
    if 0 in x.shape:
        return x
    top = array_of(x).max(axis=dim, keepdims=True)
    weights = exp(x - where(absolute(top) == math.inf, 0, top))
    total = sum_over(weights, dim=dim, keepdim=True)
    return _spread(g, x.shape, dim) * (weights / where(total == 0, 1, total))


@logsumexp_over.fused_vjp("x")
def logsumexp_over_fused(k, g, x, out, *, dim, keepdim):
    return k.logsumexp_backward(g, x, out, dim)


@numpy_names
def logsumexp(x, dim=None, keepdim: bool = False):
    """ln Σ eˣ over `dim`, without overflow.

    >>> round(cr.logsumexp(cr.tensor([1000.0, 1000.0]), 0).item(), 3)
    1000.693
    """
    dims = all_dims("logsumexp", dim, x.ndim)
    return logsumexp_over(x, dim=dims, keepdim=keepdim)


@primitive(name="softmax", floating=True, formula=r"e^{x_i} / \textstyle\sum_j e^{x_j}", flops=12)
def softmax_along(k, x, *, dim):
    return k.softmax(x, dim)


@softmax_along.vjp("x", formula=r"y\,(\bar o - \textstyle\sum_j \bar o_j y_j)")
def softmax_along_dx(g, out, *, dim):
    weighted = g * out
    return weighted - out * sum_over(weighted, dim=(dim,), keepdim=True)


@softmax_along.fused_vjp("x")
def softmax_along_fused(k, g, out, *, dim):
    return k.softmax_backward(g, out, dim)


@primitive(name="log_softmax", floating=True, formula=r"x_i - \ln \textstyle\sum_j e^{x_j}", flops=12)
def log_softmax_along(k, x, *, dim):
    return k.log_softmax(x, dim)


@log_softmax_along.vjp("x", formula=r"\bar o - e^{y} \textstyle\sum_j \bar o_j")
def log_softmax_along_dx(g, out, *, dim):
    return g - exp(out) * sum_over(g, dim=(dim,), keepdim=True)


@log_softmax_along.fused_vjp("x")
def log_softmax_along_fused(k, g, out, *, dim):
    return k.log_softmax_backward(g, out, dim)


@numpy_names
def softmax(x, dim: int, dtype=None):
    """e^{xᵢ} / Σⱼ e^{xⱼ} along `dim`, without overflow.

    >>> cr.softmax(cr.tensor([0.0, 0.0]), 0)
    tensor([0.5, 0.5])
    """
    x = x if dtype is None else to(x, dtype)
    dim = one_dim("softmax", dim, x.ndim)
    if not x.ndim:
        return reshape(softmax(reshape(x, 1), 0), ())
    return softmax_along.short(x, (None, {"dim": dim}, 3))


@numpy_names
def log_softmax(x, dim: int, dtype=None):
    """xᵢ − ln Σⱼ e^{xⱼ} along `dim`, without overflow.

    >>> cr.log_softmax(cr.tensor([0.0, 0.0]), 0)
    tensor([-0.6931, -0.6931])
    """
    x = x if dtype is None else to(x, dtype)
    dim = one_dim("log_softmax", dim, x.ndim)
    if not x.ndim:
        return reshape(log_softmax(reshape(x, 1), 0), ())
    return log_softmax_along.short(x, (None, {"dim": dim}, 3))


# ---- norms -----------------------------------------------------------------------------------------------------------


@primitive(name="norm", floating=True, formula=r"\sqrt{\textstyle\sum x^2}", flops=lambda x, out, **_: 2 * math.prod(x))
def norm2_over(k, x, *, dim, keepdim):
    return k.norm(x, dim, keepdim)


@norm2_over.vjp("x", formula=r"\bar o\,x / \lVert x \rVert")
def norm2_over_dx(g, x, out, *, dim, keepdim):
    share = where(out == 0, 0, g / where(out == 0, 1, out))
    return _spread(share, x.shape, dim) * x


@numpy_names
def norm(x, p="fro", dim=None, keepdim: bool = False):
    """The p-norm (Σ|x|ᵖ)^{1/p} over `dim`; p may be "fro" (2), ±inf or 0 (a count). The 2-norm's derivative is 0 at 0.

    >>> cr.tensor([3.0, 4.0]).norm().item()
    5.0
    """
    x = _floating("norm", x)
    dims = all_dims("norm", dim, x.ndim)
    if p in ("fro", 2):
        return norm2_over(x, dim=dims, keepdim=keepdim)
    if not is_number(p):
        raise ValueError(f"norm: received p={p!r}; it can be 'fro' or a number, inf included")
    size = absolute(x)
    if p == math.inf:
        return amax(size, dims, keepdim=keepdim)
    if p == -math.inf:
        return amin(size, dims, keepdim=keepdim)
    if p == 0:
        return sum(to(x != 0, x.dtype), dims, keepdim=keepdim)
    if p == 1:
        return sum(size, dims, keepdim=keepdim)
    powers = size**p if p >= 1 else where(size == 0, 0, where(size == 0, 1, size) ** p)
    total = sum(powers, dims, keepdim=keepdim)
    return where(total == 0, 0, where(total == 0, 1, total) ** (1 / p))


# ---- order -----------------------------------------------------------------------------------------------------------


@numpy_names
def argsort(x, dim: int = -1, descending: bool = False, stable: bool = True):
    """The indices that sort x along `dim`; equal elements keep their order.

    >>> cr.argsort(cr.tensor([3.0, 1.0, 2.0]))
    tensor([1, 2, 0])
    """
    dim = one_dim("argsort", dim, x.ndim)
    if not x.ndim:
        return result(for_array(x.array).zeros((), np.int64))
    array = x.array
    if descending:
        order = array.shape[dim] - 1 - np.flip(np.argsort(np.flip(array, dim), axis=dim, kind="stable"), dim)
    else:
        order = np.argsort(array, axis=dim, kind="stable")
    return outside(x, "argsort", order)


@numpy_names
def sort(x, dim: int = -1, descending: bool = False, stable: bool = True):
    """(values, indices) in ascending (or descending) order along `dim`; the gradient returns to where a value stood.

    >>> cr.sort(cr.tensor([3.0, 1.0, 2.0])).values
    tensor([1., 2., 3.])
    """
    order = argsort(x, dim, descending)
    return Extreme(gather(x, one_dim("sort", dim, x.ndim), order) if x.ndim else x, order)


@numpy_names
def topk(x, k: int, dim: int = -1, largest: bool = True, sorted: bool = True):
    """(values, indices) of the k largest (or smallest) elements along `dim`, always in order.

    >>> cr.topk(cr.tensor([3.0, 1.0, 2.0]), 2).values
    tensor([3., 2.])
    """
    dim = one_dim("topk", dim, x.ndim)
    if not x.ndim:
        raise ValueError("topk: received a 0-d tensor, which has no dimension to choose along; use x.reshape(1)")
    if not 0 <= k <= x.shape[dim]:
        raise ValueError(
            f"topk: received k={k} for {x.shape[dim]} elements along dimension {dim}; pass 0 to {x.shape[dim]}"
        )
    at = argsort(x, dim, descending=largest)[(slice(None),) * dim + (slice(0, k),)]
    return Extreme(gather(x, dim, at), at)
