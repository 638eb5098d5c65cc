"""Primitives that move elements without computing: views, joins, splits, flips and padding."""

from __future__ import annotations

import math
from functools import lru_cache
from operator import methodcaller

import numpy as np

from ...kernels import for_device, is_array, to_device
from ..primitive import primitive
from ..tensor import Tensor, is_number
from .axes import all_dims, numpy_names, one_dim, sizes, spread_names

# ---- broadcasting and its adjoint ------------------------------------------------------------------------------------


@primitive(formula=r"\textstyle\sum_{\text{broadcast}} x")
def sum_to(k, x, *, shape):
    """The adjoint of broadcasting: x summed over the axes along which `shape` was broadcast.

    >>> cr.autograd.sum_to(cr.ones(4, 3), shape=(3,))
    tensor([4., 4., 4.])
    """
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and x.shape[i + lead] != 1)
    return k.sum(x, axes, True).reshape(shape)


@sum_to.vjp("x", formula=r"\operatorname{broadcast}(\bar o)")
def sum_to_dx(g, x_shape, *, shape):
    return broadcast_to(g, shape=x_shape)


@primitive(name="expand", view=True, formula=r"\operatorname{broadcast}(x)", flops=0)
def broadcast_view(k, x, *, shape):
    try:
        return k.broadcast_to(x, shape)
    except ValueError:
        raise ValueError(
            f"broadcast: shape {x.shape} does not broadcast to {shape}; aligned at the right, each size must be "
            "equal or 1"
        ) from None


@broadcast_view.vjp("x", formula=r"\sum \bar o")
def broadcast_view_dx(g, x_shape, *, shape):
    return sum_to(g, shape=x_shape)


def broadcast_to(x, shape):
    """x repeated along new and size-1 dimensions up to `shape`, without a copy.

    >>> cr.broadcast_to(cr.tensor([1.0, 2.0]), (2, 2))
    tensor([[1., 2.],
            [1., 2.]])
    """
    return broadcast_view(x, shape=tuple(shape))


def expand(x, *shape):
    """`broadcast_to` with PyTorch's −1 for a size that stays.

    >>> cr.ones(2, 1).expand(-1, 3).shape
    (2, 3)
    """
    shape = sizes("expand", shape)
    if len(shape) < x.ndim:
        raise ValueError(
            f"expand: received {len(shape)} sizes {shape} for shape {x.shape}; give a size for each dimension"
        )
    old = (1,) * (len(shape) - x.ndim) + x.shape
    return broadcast_to(x, tuple(o if n == -1 else n for n, o in zip(shape, old, strict=True)))


def expand_as(x, other):
    """x broadcast to the shape of `other`.

    >>> cr.ones(1).expand_as(cr.zeros(3)).shape
    (3,)
    """
    return broadcast_to(x, other.shape)


def broadcast_tensors(*tensors):
    """All tensors broadcast to their common shape.

    >>> [t.shape for t in cr.broadcast_tensors(cr.ones(2, 1), cr.ones(3))]
    [(2, 3), (2, 3)]
    """
    shape = np.broadcast_shapes(*[t.shape for t in tensors])
    return tuple(broadcast_to(t, shape) for t in tensors)


# ---- reshape and transpose -------------------------------------------------------------------------------------------


@primitive(name="reshape", view=True, formula=r"\operatorname{reshape}(x)", flops=0)
def reshape_view(k, x, *, shape):
    try:
        if min(shape, default=0) >= -1:  # NumPy takes any negative size for -1
            return x.reshape(shape)
    except ValueError:
        pass
    if shape.count(-1) > 1 or min(shape, default=0) < -1:
        raise ValueError(f"reshape: received the shape {shape}; sizes are at least 0, and at most one may be -1")
    raise ValueError(
        f"reshape: shape {x.shape} has {x.size} elements and cannot become {shape}; the products of the sizes must be "
        "equal"
    )


@reshape_view.vjp("x", formula=r"\operatorname{reshape}(\bar o)")
def reshape_view_dx(g, x_shape, *, shape):
    return g.reshape(x_shape)


@lru_cache(4096)
def _reshaping(shape):
    """What the short path takes: a method of arrays does it, but NumPy takes any negative size for −1."""
    return methodcaller("reshape", shape) if min(shape, default=0) >= -1 else None, dict(shape=shape), 2


def reshape(x, *shape):
    """The same elements in C order under another shape; one size may be −1. A view where the memory allows.

    >>> cr.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    return reshape_view.short(x, _reshaping(sizes("reshape", shape)))


def flatten(x, start_dim: int = 0, end_dim: int = -1):
    """The dimensions from start_dim to end_dim merged into one.

    >>> cr.ones(2, 3, 4).flatten(1).shape
    (2, 12)
    """
    first, last = one_dim("flatten", start_dim, x.ndim), one_dim("flatten", end_dim, x.ndim)
    if first > last:
        raise ValueError(f"flatten: start_dim={start_dim} comes after end_dim={end_dim}; swap them")
    return reshape(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


def unflatten(x, dim: int, sizes):
    """One dimension split into several.

    >>> cr.ones(2, 12).unflatten(1, (3, 4)).shape
    (2, 3, 4)
    """
    dim = one_dim("unflatten", dim, x.ndim)
    return reshape(x, (*x.shape[:dim], *sizes, *x.shape[dim + 1 :]))


@primitive(name="permute", view=True, formula=r"x^{\mathsf T}", flops=0)
def permute_view(k, x, *, dims):
    return x.transpose(dims)


@permute_view.vjp("x", formula=r"\bar o^{\mathsf T}")
def permute_view_dx(g, *, dims):
    return g.transpose(dims if len(dims) == 2 else tuple(sorted(range(len(dims)), key=dims.__getitem__)))


@lru_cache(4096)
def _permuting(dims):
    """What the short path takes: a method of arrays does it."""
    return methodcaller("transpose", dims), dict(dims=dims), 2


_BACKWARDS = tuple([tuple(range(n))[::-1] for n in range(65)])  # NumPy has no array of more dimensions


@spread_names("dims")
def permute(x, *dims):
    """The dimensions in another order, as a view.

    >>> cr.ones(2, 3, 4).permute(2, 0, 1).shape
    (4, 2, 3)
    """
    given = sizes("permute", dims)
    order = tuple(one_dim("permute", d, x.ndim) for d in given)
    if sorted(order) != list(range(x.ndim)):
        raise ValueError(f"permute: received {given} for shape {x.shape}; name each of the {x.ndim} dimensions once")
    return permute_view.short(x, _permuting(order))


def transpose(x, dim0=None, dim1=None):
    """Two dimensions swapped (PyTorch); without arguments all reversed, with a tuple any order (NumPy).

    >>> cr.ones(2, 3, 4).transpose(0, 2).shape
    (4, 3, 2)
    """
    ndim = x.ndim
    if dim0 is None:
        order = _BACKWARDS[ndim]
    elif isinstance(dim0, (tuple, list)):
        return permute(x, dim0)
    elif dim1 is None:
        raise TypeError("transpose: received one dim; pass the two dims to swap, or none to reverse them all")
    else:
        order = _swapped(one_dim("transpose", dim0, ndim), one_dim("transpose", dim1, ndim), ndim)
    return permute_view.short(x, _permuting(order))


def _swapped(dim0, dim1, ndim):
    order = list(range(ndim))
    if order:
        order[dim0], order[dim1] = order[dim1], order[dim0]
    return tuple(order)


swapaxes = transpose


def movedim(x, source, destination):
    """Dimensions moved to other places; the rest keep their order (NumPy's moveaxis).

    >>> cr.ones(2, 3, 4).movedim(0, -1).shape
    (3, 4, 2)
    """
    source = source if isinstance(source, (tuple, list)) else (source,)
    destination = destination if isinstance(destination, (tuple, list)) else (destination,)
    source = [one_dim("movedim", d, x.ndim) for d in source]
    destination = [one_dim("movedim", d, x.ndim) for d in destination]
    if len(set(source)) != len(source) or len(set(destination)) != len(source):
        raise ValueError(
            f"movedim: received {source} to {destination}; name as many destinations as sources, each once"
        )
    order = [d for d in range(x.ndim) if d not in source]
    for to, which in sorted(zip(destination, source, strict=True)):
        order.insert(to, which)
    return permute_view(x, dims=tuple(order))


moveaxis = movedim


def t(x):
    """The transpose of a matrix; vectors stay.

    >>> cr.ones(2, 3).t().shape
    (3, 2)
    """
    if x.ndim > 2:
        raise ValueError(f"t: received {x.ndim} dimensions {x.shape}; t is for matrices; use transpose(dim0, dim1)")
    return transpose(x)


def mT(x):
    """The transpose of the last two dimensions.

    >>> cr.ones(5, 2, 3).mT.shape
    (5, 3, 2)
    """
    return transpose(x, -2, -1)


@numpy_names
def squeeze(x, dim=None):
    """Without the dimensions of size 1 (all of them, or those named).

    >>> cr.ones(1, 2, 1).squeeze().shape
    (2,)
    """
    dims = () if dim == () else all_dims("squeeze", dim, x.ndim)
    return reshape(x, tuple([n for i, n in enumerate(x.shape) if n != 1 or i not in dims]))


@numpy_names
def unsqueeze(x, dim):
    """With a new dimension of size 1 at `dim`.

    >>> cr.ones(3).unsqueeze(0).shape
    (1, 3)
    """
    shape = x.shape
    dim = one_dim("unsqueeze", dim, len(shape) + 1)
    return reshape_view.short(x, _reshaping((*shape[:dim], 1, *shape[dim:])))


expand_dims = unsqueeze


# ---- joining and splitting -------------------------------------------------------------------------------------------


@primitive(name="cat", formula=r"[x_1; x_2; \dots]", flops=0)
def concatenate(k, *xs, dim):
    try:
        return k.concatenate(xs, axis=dim)
    except ValueError:
        raise ValueError(
            f"cat: received tensors of shapes {', '.join(str(x.shape) for x in xs)}; they must be equal except along "
            f"dimension {dim}; reshape them, or stack them along a new dimension"
        ) from None


@concatenate.vjp("xs", formula=r"\bar o \text{ cut at the seams}")
def concatenate_dx(g, xs_shape, *, dim):
    return split_view(g, sections=tuple([shape[dim] for shape in xs_shape]), dim=dim)


@primitive(name="split", outputs=None, view=True, formula=r"x \text{ cut}", flops=0)
def split_view(k, x, *, sections, dim):
    lead, pieces, start = (slice(None),) * dim, [], 0
    for n in sections:
        pieces.append(x[(*lead, slice(start, start + n))])
        start += n
    return tuple(pieces)


@split_view.vjp("x", formula=r"[\bar o_1; \bar o_2; \dots]")
def split_view_dx(g, *, sections, dim):
    return concatenate(*g, dim=dim)


@primitive(name="stack", formula=r"[x_1, x_2, \dots]", flops=0)
def stack_along(k, *xs, dim):
    try:
        return k.stack(xs, axis=dim)
    except ValueError:
        raise ValueError(
            f"stack: received tensors of shapes {', '.join(map(str, sorted({x.shape for x in xs})))}; they must be "
            "equal; cat joins others"
        ) from None


@stack_along.vjp("xs", formula=r"\bar o \text{ slice by slice}")
def stack_along_dx(g, *, dim):
    return unbind_view(g, dim=dim)


@primitive(name="unbind", outputs=None, view=True, formula=r"x \text{ slice by slice}", flops=0)
def unbind_view(k, x, *, dim):
    lead = (slice(None),) * dim
    return tuple([x[(*lead, i, ...)] for i in range(x.shape[dim])])


@unbind_view.vjp("x", formula=r"[\bar o_1, \bar o_2, \dots]")
def unbind_view_dx(g, *, dim):
    return stack_along(*g, dim=dim)


@numpy_names
def cat(tensors, dim: int = 0):
    """Tensors joined along an existing dimension (NumPy's concatenate).

    >>> cr.cat([cr.ones(2), cr.zeros(1)])
    tensor([1., 1., 0.])
    """
    tensors = _several("cat", tensors)
    return concatenate(*tensors, dim=one_dim("cat", dim, tensors[0].ndim))


@numpy_names
def stack(tensors, dim: int = 0):
    """Tensors of one shape joined along a new dimension.

    >>> cr.stack([cr.ones(2), cr.zeros(2)]).shape
    (2, 2)
    """
    tensors = _several("stack", tensors)
    return stack_along(*tensors, dim=one_dim("stack", dim, tensors[0].ndim + 1))


def _several(who, tensors) -> list:
    try:
        each = iter(tensors)
    except TypeError:
        raise TypeError(f"{who}: received one {type(tensors).__name__}; pass a list of tensors") from None
    tensors = [x if isinstance(x, Tensor) or is_array(x) else Tensor(x) for x in each]
    if not tensors:
        raise ValueError(f"{who}: received an empty list; there is nothing to join; pass at least one tensor")
    return tensors


def _along(dim, start, stop):
    return (slice(None),) * dim + (slice(start, stop),)


@numpy_names
def narrow(x, dim: int, start: int, length: int):
    """`length` slices from `start` along `dim`, as a view.

    >>> cr.arange(5).narrow(0, 1, 3)
    tensor([1, 2, 3])
    """
    dim = one_dim("narrow", dim, x.ndim)
    start = start + x.shape[dim] if start < 0 else start
    if not (start >= 0 and length >= 0 and start + length <= x.shape[dim]):
        raise IndexError(
            f"narrow: start={start}, length={length} leave dimension {dim} of shape {x.shape}; stay inside it"
        )
    return x[_along(dim, start, start + length)]


@numpy_names
def split(x, split_size_or_sections, dim: int = 0):
    """Pieces of one size (the last may be smaller), or of the sizes listed, along `dim`, as views.

    >>> [p.tolist() for p in cr.arange(5).split(2)]
    [[0, 1], [2, 3], [4]]
    """
    dim = one_dim("split", dim, x.ndim)
    n = x.shape[dim]
    if isinstance(split_size_or_sections, (tuple, list)):
        parts = list(split_size_or_sections)
        if sum(parts) != n or any(p < 0 for p in parts):
            raise ValueError(
                f"split: the sections {parts} do not add up to the {n} of dimension {dim}; make them do so"
            )
    else:
        if split_size_or_sections <= 0:
            raise ValueError(f"split: received a piece size of {split_size_or_sections}; it must be at least 1")
        parts = [min(split_size_or_sections, n - i) for i in range(0, n, split_size_or_sections)] or [0]
    return split_view(x, sections=tuple(parts), dim=dim)


@numpy_names
def chunk(x, chunks: int, dim: int = 0):
    """At most `chunks` pieces of equal size (the last may be smaller) along `dim`, as views.

    >>> [p.tolist() for p in cr.arange(5).chunk(2)]
    [[0, 1, 2], [3, 4]]
    """
    if chunks <= 0:
        raise ValueError(f"chunk: received chunks={chunks}; it must be at least 1")
    n = x.shape[one_dim("chunk", dim, x.ndim)]
    return split(x, max(-(-n // chunks), 1), dim)


@numpy_names
def unbind(x, dim: int = 0):
    """The slices along `dim`, without that dimension.

    >>> [r.tolist() for r in cr.arange(4).reshape(2, 2).unbind()]
    [[0, 1], [2, 3]]
    """
    return unbind_view(x, dim=one_dim("unbind", dim, x.ndim))


# ---- order -----------------------------------------------------------------------------------------------------------


@primitive(name="flip", view=True, formula=r"\operatorname{flip}(x)", flops=0)
def flip_view(k, x, *, dims):
    return k.flip(x, dims)


@flip_view.vjp("x", formula=r"\operatorname{flip}(\bar o)")
def flip_view_dx(g, *, dims):
    return flip_view(g, dims=dims)


@spread_names("dims")
def flip(x, *dims):
    """The order along the dims named reversed.

    >>> cr.arange(3).flip(0)
    tensor([2, 1, 0])
    """
    given = sizes("flip", dims) if dims else tuple(range(x.ndim))
    return flip_view(x, dims=all_dims("flip", given, x.ndim) if given else ())


def roll(x, shifts, dims=None):
    """The elements moved by `shifts` along `dims`, those that leave coming back at the other end.

    >>> cr.arange(4).roll(1)
    tensor([3, 0, 1, 2])
    """
    if dims is None:
        return reshape(roll(flatten(x), shifts, 0), x.shape)
    shifts = shifts if isinstance(shifts, (tuple, list)) else (shifts,)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    for shift, dim in zip(shifts, dims, strict=True):
        dim = one_dim("roll", dim, x.ndim)
        cut = (-shift) % max(x.shape[dim], 1)
        x = cat([x[_along(dim, cut, None)], x[_along(dim, None, cut)]], dim)
    return x


def repeat(x, *repeats):
    """x tiled `repeats` times along each dimension, as `torch.Tensor.repeat` (NumPy's tile).

    >>> cr.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    repeats = sizes("repeat", repeats)
    if len(repeats) < x.ndim or any(n < 0 for n in repeats):
        raise ValueError(
            f"repeat: received {repeats} for shape {x.shape}; pass a count of at least 0 for each dimension"
        )
    shape = (1,) * (len(repeats) - x.ndim) + x.shape
    doubled = tuple(n for size in shape for n in (1, size))
    wide = tuple(n for pair in zip(repeats, shape, strict=True) for n in pair)
    return reshape(broadcast_to(reshape(x, doubled), wide), tuple(r * n for r, n in zip(repeats, shape, strict=True)))


@spread_names("dims")
def tile(x, *dims):
    """x tiled along each dimension, missing counts being 1.

    >>> cr.tensor([1, 2]).tile(2)
    tensor([1, 2, 1, 2])
    """
    dims = sizes("tile", dims)
    return repeat(x, (1,) * (x.ndim - len(dims)) + dims)


@numpy_names
def repeat_interleave(x, repeats, dim=None):
    """Each element (or slice along `dim`) repeated next to itself, by one number or one for each (NumPy's repeat).

    >>> cr.tensor([1, 2]).repeat_interleave(2)
    tensor([1, 1, 2, 2])
    """
    if dim is None:
        return repeat_interleave(flatten(x), repeats, 0)
    dim = one_dim("repeat_interleave", dim, x.ndim)
    if not is_number(repeats):
        counts = to_device(repeats.array, "cpu") if isinstance(repeats, Tensor) else np.asarray(repeats)
        return x[(slice(None),) * dim + (np.repeat(np.arange(x.shape[dim]), counts),)]
    wide = broadcast_to(unsqueeze(x, dim + 1), (*x.shape[: dim + 1], repeats, *x.shape[dim + 1 :]))
    return flatten(wide, dim, dim + 1)


# ---- padding ---------------------------------------------------------------------------------------------------------


@primitive(name="pad", formula=r"\operatorname{pad}(x)", flops=0)
def pad_constant(k, x, *, widths, value):
    return k.pad(x, widths or 0, constant_values=value)


@pad_constant.vjp("x", formula=r"\bar o \text{ without its border}")
def pad_constant_dx(g, x_shape, *, widths, value):
    return g[tuple(slice(before, before + n) for (before, _), n in zip(widths, x_shape, strict=True))]


def pad(x, pad, mode: str = "constant", value: float = 0.0):
    """A border around x, given from the last dimension backwards as (before, after, before, after, …); PyTorch's F.pad.

    mode: "constant", "reflect", "replicate" or "circular". Negative widths cut (constant only).

    >>> cr.pad(cr.tensor([1.0, 2.0]), (1, 2), value=9)
    tensor([9., 1., 2., 9., 9.])
    """
    widths = sizes("pad", (tuple(pad),))
    pairs = _borders(x.shape, widths)
    if mode == "constant":
        if min(widths, default=0) < 0:
            x, pairs = _cut(x, widths, pairs)
        return pad_constant(x, widths=pairs, value=value)
    for dim, (before, after) in enumerate(pairs):
        if before or after:
            x = x[(slice(None),) * dim + (_border(mode, x.shape[dim], before, after),)]
    return x


@lru_cache(1024)
def _borders(shape, widths):
    """(before, after) for each dimension of a shape."""
    if len(widths) % 2 or len(widths) > 2 * len(shape):
        raise ValueError(
            f"pad: received {widths} for shape {shape}; pass a pair (before, after) for each padded "
            "dimension, last first"
        )
    return ((0, 0),) * (len(shape) - len(widths) // 2) + tuple(zip(widths[-2::-2], widths[::-2], strict=True))


def _cut(x, widths, pairs):
    """x without what negative widths cut off, and the others."""
    if any(max(-b, 0) + max(-a, 0) > n for (b, a), n in zip(pairs, x.shape, strict=True)):
        raise ValueError(f"pad: {widths} cuts more than shape {x.shape} has; cut less")
    cut = tuple(slice(max(-b, 0), n - max(-a, 0)) for (b, a), n in zip(pairs, x.shape, strict=True))
    return x[cut], tuple((max(b, 0), max(a, 0)) for b, a in pairs)


def _border(mode, n, before, after) -> np.ndarray:
    places = for_device("cpu").arange(-before, n + after)
    limit = {"reflect": n - 1, "replicate": math.inf if n else 0, "circular": n}.get(mode)
    if limit is None:
        raise ValueError(f"pad: received mode={mode!r}; it can be 'constant', 'reflect', 'replicate' or 'circular'")
    if min(before, after) < 0:
        raise ValueError(
            f"pad: {mode} by ({before}, {after}): only 'constant' takes negative widths; cut with x[...] first"
        )
    if before > limit or after > limit:
        raise ValueError(
            f"pad: {mode} by ({before}, {after}) needs a dimension larger than {n}; pad less, or use 'constant'"
        )
    if mode == "replicate":
        return places.clip(0, n - 1)
    if mode == "circular":
        return places % n
    return (n - 1) - np.abs((n - 1) - np.abs(places))
