"""Reading and writing by index: x[…], gather and scatter, masks, triangles, embeddings."""

from __future__ import annotations

import math
from operator import itemgetter

import numpy as np

from ...kernels import device_of, for_array, is_array, to_device
from ..primitive import primitive
from ..state import state
from ..tensor import Tensor, array_of, is_floating, is_number, may_look, result
from .axes import kept_shape, numpy_names, one_dim
from .convert import operand
from .elementwise import where

# ---- x[index] --------------------------------------------------------------------------------------------------------


_BASIC = {int, slice, type(None), type(...)}


def _plain(who, x, index):
    """The index with arrays for tensors, checked: every item an int, slice, None, ellipsis, or int or bool array."""
    items = index if isinstance(index, tuple) else (index,)
    made, device = [], device_of(array_of(x))
    for item in items:
        if isinstance(item, Tensor):
            item = item.array
        if isinstance(item, (list, range)):
            item = np.asarray(item) if len(item) else np.zeros(0, np.int64)
        if is_array(item):
            if item.dtype.kind not in "iub":
                raise IndexError(
                    f"{who}: received an index of dtype {item.dtype}; indices are integers or bools; convert it "
                    "with .long()"
                )
            if item.ndim or item.dtype.kind == "b":
                item = to_device(item, device) if device_of(item) != device else item.copy()  # backward needs it as now
            else:
                item = int(item)
        elif not (item is None or item is Ellipsis or isinstance(item, (int, np.integer, slice, bool, np.bool_))):
            raise IndexError(
                f"{who}: received {item!r} as an index of a tensor of shape {x.shape}; pass integers, slices, "
                "None, ..., or "
                "integer or bool tensors"
            )
        made.append(item)
    return tuple(made)


def _is_basic(index) -> bool:
    return not any(is_array(i) or isinstance(i, (bool, np.bool_)) for i in index)


def _read(x, index):
    try:
        return x[index]
    except IndexError as error:
        shown = ", ".join(f"array of shape {i.shape}" if is_array(i) else repr(i) for i in index)
        raise IndexError(
            f"getitem: {error}; received x[{shown}] for shape {x.shape}; stay inside each dimension"
        ) from None


@primitive(name="getitem", view=True, formula=r"x[i]", flops=0)
def getitem_view(k, x, *, index):
    out = _read(x, index)
    return x[(*index, ...)] if isinstance(out, np.generic) else out


@getitem_view.vjp("x", formula=r"\bar o \text{ at } i,\; 0 \text{ elsewhere}")
def getitem_view_dx(g, x_shape, *, index):
    return spread_at(g, index=index, shape=x_shape)


@getitem_view.vjp_into("x")
def getitem_view_into(k, g, into, *, index):
    into[index] += g


@primitive(name="getitem", formula=r"x[i]", flops=0)
def getitem_copy(k, x, *, index):
    return _read(x, index)


@getitem_copy.vjp("x", formula=r"\textstyle\sum \bar o \text{ at } i,\; 0 \text{ elsewhere}")
def getitem_copy_dx(g, x_shape, *, index):
    return spread_at(g, index=index, shape=x_shape)


@primitive(formula=r"\textstyle\sum g \text{ at } i,\; 0 \text{ elsewhere}")
def spread_at(k, g, *, index, shape):
    """The adjoint of indexing: zeros of `shape` with g added at `index`; repeated indices add up.

    >>> cr.autograd.spread_at(cr.ones(2), index=(np.array([0, 0]),), shape=(3,))
    tensor([2., 0., 0.])
    """
    if len(index) == 1 and is_array(index[0]) and index[0].dtype.kind != "b":
        rows = index[0].reshape(-1)
        return k.index_add(shape, 0, k.where(rows < 0, rows + shape[0], rows), g.reshape(rows.size, *shape[1:]))
    out = k.zeros(shape, g.dtype)
    if _is_basic(index) or all(not is_array(i) or i.dtype.kind == "b" for i in index):
        out[index] = g
    else:
        k.add_at(out, index, g)
    return out


@spread_at.vjp("g", formula=r"\bar o[i]")
def spread_at_dg(g, *, index, shape):
    return getitem(g, index)


def getitem(x, index):
    """x[index]: basic indices (integers, slices, None, ...) give a view, integer and bool arrays a copy, as in NumPy.

    Where a slice separates an integer from an index array, the order is NumPy's: x[0, :, i] puts i first, not last.

    >>> cr.arange(6).reshape(2, 3)[:, [0, 2]]
    tensor([[0, 2],
            [3, 5]])
    """
    items = index if isinstance(index, tuple) else (index,)
    if type(index) not in _BASIC and not _BASIC.issuperset(map(type, items)):
        items = _plain("getitem", x, items)
        if not _is_basic(items):
            return getitem_copy(x, index=items)
    whole = len(items) < x.ndim or ... in items  # else NumPy may give a number, which is no view
    return getitem_view.short(x, (itemgetter(items if whole else (*items, ...)), {"index": items}, 2))


@primitive(name="setitem", formula=r"x \text{ with } x[i] = v", flops=0)
def setitem_copy(k, x, value, *, index):
    out = k.array(x, copy=True)
    out[index] = value if device_of(x) == "cpu" else _settled(k, x, value, index)
    return out


def _settled(k, x, value, index):
    """`value` with what the last of equal places gets at each of them: a GPU writes them in any order."""
    winner = _winner(k, x.shape, index)
    if winner is None or not value.ndim:
        return value
    return k.broadcast_to(value, winner.shape).reshape(-1)[winner.reshape(-1)].reshape(winner.shape)


@setitem_copy.vjp("x", formula=r"\bar o \text{ with } 0 \text{ at } i")
def setitem_copy_dx(g, *, index):
    return setitem_copy(g, 0, index=index)


@setitem_copy.vjp("value", formula=r"\bar o[i]")
def setitem_copy_dvalue(g, value_shape, *, index):
    from .shape import sum_to

    got = getitem(g, index)
    k = for_array(array_of(g))
    winner = _winner(k, g.shape, index)
    if winner is not None:
        got = where(winner == k.arange(winner.size).reshape(winner.shape), got, 0)
    return got if got.shape == value_shape else sum_to(got, shape=value_shape)


def _winner(k, shape, index):
    """For each value written at `index`, the number of the last one written to the same place; None if none repeat."""
    if not any(is_array(i) and i.dtype.kind != "b" for i in index):
        return None
    last = k.full(shape, -1, np.int64)
    written = last[index].shape
    k.maximum.at(last, index, k.arange(math.prod(written)).reshape(written))
    return last[index]


def with_item(x, index, value):
    """A copy of x in which x[index] is `value`; differentiable in both (the functional form of x[index] = value).

    Of repeated indices the last wins, and it alone has a gradient.

    >>> cr.with_item(cr.zeros(3), 1, 5.0)
    tensor([0., 5., 0.])
    """
    index = _plain("setitem", x, index)
    value = value if isinstance(value, Tensor) else Tensor(value, dtype=x.dtype)
    if value.dtype is not x.dtype:
        value = value.to(x.dtype)
    k = for_array(x.array)
    place = np.shape(_read(k.broadcast_to(k.empty((), bool), x.shape), index))
    if not _fits(value.shape, place):
        raise ValueError(
            f"setitem: a value of shape {value.shape} does not fit the place of shape {place} in "
            f"shape {x.shape}; "
            "make it broadcastable"
        )
    return setitem_copy(x, value, index=index)


def _fits(shape, place) -> bool:
    """Whether an array of a shape broadcasts to `place`."""
    try:
        return np.broadcast_shapes(shape, place) == place
    except ValueError:
        return False


# ---- along one dimension ---------------------------------------------------------------------------------------------


def _dim(who, dim, x) -> int:
    if not x.ndim:
        raise ValueError(f"{who}: received a 0-d tensor, which has no dimension to index; use x.reshape(1)")
    return one_dim(who, dim, x.ndim)


def _indices(who, index, x, dim) -> np.ndarray:
    n = x.shape[dim]
    array = index.copy() if is_array(index) else np.array(index) if not isinstance(index, Tensor) else index.array
    array = to_device(array, device_of(array_of(x)))  # as in PyTorch, indices of the CPU serve tensors of the GPU
    if array.size == 0 and is_floating(array.dtype):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(
            f"{who}: received an index of dtype {array.dtype}; it must hold integers; convert it with .long()"
        )
    if may_look(array):
        unsigned, beyond = array.dtype.str.replace("i", "u"), 1 << 8 * array.itemsize - 1  # where negative ones lie
        if not array.size or array.view(unsigned).max() < min(n, beyond):
            return array
        least, most = array.min(), array.max()
        if least < -n or most >= n:
            worst = int(most) if most >= n else int(least)
            raise IndexError(
                f"{who}: index {worst} is outside dimension {dim} of size {n}; indices go from {-n} to {n - 1}"
            )
    array = array.astype(np.int64, copy=False)  # n may be beyond the index's own dtype
    return np.where(array < 0, array + n, array)


@primitive(name="index_select", constant=("index",), formula=r"x[i]", flops=0)
def take_slices(k, x, index, *, dim):
    return k.take(x, index, axis=dim)


@take_slices.vjp("x", formula=r"\textstyle\sum \bar o \text{ at } i")
def take_slices_dx(g, x_shape, index, *, dim):
    return add_slices(g, index, dim=dim, size=x_shape[dim])


@primitive(name="index_add", constant=("index",), formula=r"\textstyle\sum g \text{ at } i")
def add_slices(k, g, index, *, dim, size):
    shape = g.shape[:dim] + (size,) + g.shape[dim + 1 :]
    return k.index_add(shape, dim, index, g)


@add_slices.vjp("g", formula=r"\bar o[i]")
def add_slices_dg(g, index, *, dim, size):
    return take_slices(g, index, dim=dim)


@numpy_names
def index_select(x, dim: int, index):
    """The slices of x at `index` (1-d) along `dim`.

    >>> cr.index_select(cr.arange(6).reshape(2, 3), 1, cr.tensor([2, 0]))
    tensor([[2, 0],
            [5, 3]])
    """
    dim = _dim("index_select", dim, x)
    index = _indices("index_select", index, x, dim)
    if index.ndim > 1:
        raise ValueError(f"index_select: received an index of shape {index.shape}; it must be 1-d; gather takes others")
    return take_slices(x, result(index.reshape(-1)), dim=dim)


@numpy_names
def index_add(x, dim: int, index, source, alpha: float = 1):
    """x with alpha·source added to its slices at `index` along `dim`; repeated indices add up.

    >>> cr.index_add(cr.zeros(3), 0, cr.tensor([0, 0]), cr.ones(2))
    tensor([2., 0., 0.])
    """
    dim = _dim("index_add", dim, x)
    index = _indices("index_add", index, x, dim)
    wanted = x.shape[:dim] + (index.size,) + x.shape[dim + 1 :]
    if source.shape != wanted:
        raise ValueError(
            f"index_add: the source has shape {source.shape}; for {index.size} indices along {dim} it must be {wanted}"
        )
    source = source if alpha == 1 else source * alpha
    return x + add_slices(source, result(index.reshape(-1)), dim=dim, size=x.shape[dim])


@primitive(name="gather", constant=("index",), formula=r"x_{i}", flops=0)
def gather_along(k, x, index, *, dim):
    narrowed = x[tuple(slice(None) if d == dim else slice(n) for d, n in enumerate(index.shape))]
    return k.take_along_axis(narrowed, index, axis=dim)


@gather_along.vjp("x", formula=r"\textstyle\sum \bar o \text{ at } i")
def gather_along_dx(g, x_shape, index, *, dim):
    return scatter_along(g, index, dim=dim, shape=x_shape)


@primitive(name="scatter_add", constant=("index",), formula=r"\textstyle\sum g \text{ at } i")
def scatter_along(k, g, index, *, dim, shape):
    return k.scatter_add(shape, dim, index, g)


@scatter_along.vjp("g", formula=r"\bar o_{i}")
def scatter_along_dg(g, index, *, dim, shape):
    return gather_along(g, index, dim=dim)


def _check_index_shape(who, index, shape, dim):
    if index.ndim != len(shape) or any(
        i > n for d, (i, n) in enumerate(zip(index.shape, shape, strict=True)) if d != dim
    ):
        raise ValueError(
            f"{who}: the index has shape {index.shape}, which does not fit shape {shape}: as many dimensions, "
            "and no larger "
            f"except along dim {dim}"
        )


def _source(who, src, index, x):
    """The values of `src` for each place of the index; it must be a tensor of x's dtype that has them all."""
    if not isinstance(src, Tensor):
        if not is_array(src):
            raise TypeError(
                f"{who}: received a {type(src).__name__} as src, which holds no values for the places of the index; "
                "pass a tensor, such as cr.full(index.shape, 1.0)"
            )
        src = operand(src)
    if src.dtype != x.dtype and not (state.get().low and is_floating(src.dtype) and is_floating(x.dtype)):
        raise TypeError(
            f"{who}: received src of dtype {src.dtype} for a tensor of dtype {x.dtype}; they must be equal, lest "
            f"values change unseen; convert one, as in src.to(cr.{x.dtype})"
        )
    if src.shape == index.shape:
        return src
    if src.ndim != index.ndim or any(i > n for i, n in zip(index.shape, src.shape, strict=True)):
        raise ValueError(
            f"{who}: src has shape {src.shape} and the index {index.shape}; src needs as many dimensions, none of them "
            "smaller; spread it with src.expand(index.shape)"
        )
    return src[tuple([slice(n) for n in index.shape])]


@numpy_names
def gather(x, dim: int, index):
    """out[i][j] = x[index[i][j]][j] for dim 0, and alike for others (PyTorch's gather).

    >>> cr.gather(cr.tensor([[1.0, 2.0], [3.0, 4.0]]), 1, cr.tensor([[1], [0]]))
    tensor([[2.],
            [3.]])
    """
    dim = _dim("gather", dim, x)
    index = _indices("gather", index, x, dim)
    _check_index_shape("gather", index, x.shape, dim)
    return gather_along(x, result(index), dim=dim)


def take_along_dim(x, indices, dim=None):
    """`gather` with broadcasting of the other dimensions (NumPy's take_along_axis); without dim, all flattened.

    >>> cr.take_along_dim(cr.tensor([[1.0, 2.0], [3.0, 4.0]]), cr.tensor([[0]]), 1)
    tensor([[1.],
            [3.]])
    """
    from .shape import broadcast_to, flatten

    indices = operand(indices)
    if dim is None:
        return gather(flatten(x), 0, flatten(indices))
    dim = _dim("take_along_dim", dim, x)
    if indices.ndim != x.ndim:
        raise ValueError(
            f"take_along_dim: received shapes {x.shape} and {indices.shape}; they must have equally many dimensions"
        )
    rest = np.broadcast_shapes(kept_shape(x.shape, (dim,)), kept_shape(indices.shape, (dim,)))
    shape, wanted = ((*rest[:dim], n, *rest[dim + 1 :]) for n in (x.shape[dim], indices.shape[dim]))
    return gather(broadcast_to(x, shape), dim, result(np.broadcast_to(indices.array, wanted)))


@numpy_names
def scatter_add(x, dim: int, index, src):
    """x with src added at `index`: x[index[i][j]][j] += src[i][j] for dim 0; repeated indices add up.

    As in PyTorch, src is a tensor of x's dtype, and the index's shape fits in src's: nothing is broadcast or cast
    (under autocast, floating dtypes are).

    >>> cr.scatter_add(cr.zeros(3), 0, cr.tensor([1, 1]), cr.ones(2))
    tensor([0., 2., 0.])
    """
    dim = _dim("scatter_add", dim, x)
    index = _indices("scatter_add", index, x, dim)
    _check_index_shape("scatter_add", index, x.shape, dim)
    src = _source("scatter_add", src, index, x)
    return x + scatter_along(src, result(index), dim=dim, shape=x.shape)


@numpy_names
def scatter(x, dim: int, index, src):
    """x with src (a tensor or number) written at `index` along `dim`; of repeated indices the last wins, alone.

    As in PyTorch, a tensor src is of x's dtype, and the index's shape fits in its shape: nothing is broadcast or cast
    (under autocast, floating dtypes are); a number is written everywhere, as x's dtype holds it.

    >>> cr.scatter(cr.zeros(3), 0, cr.tensor([1]), 5.0)
    tensor([0., 5., 0.])
    """
    dim = _dim("scatter", dim, x)
    index = _indices("scatter", index, x, dim)
    _check_index_shape("scatter", index, x.shape, dim)
    k = for_array(array_of(x))
    place = [k.arange(n).reshape(-1, *(1,) * (index.ndim - 1 - d)) for d, n in enumerate(index.shape)]
    place[dim] = index
    return with_item(x, tuple(place), src if is_number(src) else _source("scatter", src, index, x))


# ---- masks and triangles ---------------------------------------------------------------------------------------------


def masked_fill(x, mask, value):
    """`value` where mask holds, else x.

    >>> cr.masked_fill(cr.ones(2), cr.tensor([True, False]), 0)
    tensor([0., 1.])
    """
    mask = operand(mask)
    if mask.dtype.kind != "b":
        raise TypeError(f"masked_fill: received a mask of dtype {mask.dtype}; a mask is bool; use mask != 0")
    return where(mask, value, x)


def masked_select(x, mask):
    """The elements where mask holds, as a vector; x and mask broadcast.

    >>> cr.masked_select(cr.tensor([1.0, 2.0]), cr.tensor([False, True]))
    tensor([2.])
    """
    from .shape import broadcast_to

    mask = operand(mask)
    if mask.dtype.kind != "b":
        raise TypeError(f"masked_select: received a mask of dtype {mask.dtype}; a mask is bool; use mask != 0")
    shape = np.broadcast_shapes(x.shape, mask.shape)
    return getitem(broadcast_to(x, shape), np.broadcast_to(mask.array, shape))


def _triangle(name, side, condition):
    def forward(k, x, *, diagonal):
        return getattr(k, name)(x, diagonal)

    forward.__name__ = name + "_from"
    made = primitive(name=name, formula=rf"\operatorname{{{name}}}(x)", flops=0)(forward)

    def rule(g, *, diagonal):
        return made(g, diagonal=diagonal)

    rule.__name__ = name + "_from_dx"
    made.vjp("x", formula=rf"\operatorname{{{name}}}(\bar o)")(rule)

    def function(x, diagonal: int = 0):
        if x.ndim < 2:
            raise ValueError(
                f"{name}: received shape {x.shape}; a triangle is that of a matrix (at least 2 dimensions)"
            )
        return made(x, diagonal=diagonal)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = (
        f"The {side} triangle of the last two dimensions (j − i {condition} diagonal), zeros elsewhere.\n\n"
        f"    >>> cr.{name}(cr.ones(2, 2)).tolist()\n"
        f"    {'[[1.0, 0.0], [1.0, 1.0]]' if name == 'tril' else '[[1.0, 1.0], [0.0, 1.0]]'}\n    "
    )
    return made, function


tril_from, tril = _triangle("tril", "lower", "≤")
triu_from, triu = _triangle("triu", "upper", "≥")


def diagonal(x, offset: int = 0, dim1: int = 0, dim2: int = 1):
    """The elements x[i, i + offset] of two dimensions, as the last dimension.

    >>> cr.diagonal(cr.arange(4).reshape(2, 2))
    tensor([0, 3])
    """
    from .shape import movedim

    x = movedim(x, (dim1, dim2), (-2, -1))
    n = max(min(x.shape[-2] + min(offset, 0), x.shape[-1] - max(offset, 0)), 0)
    places = for_array(array_of(x)).arange(n)
    return x[..., places - min(offset, 0), places + max(offset, 0)]


def diag(x, diagonal: int = 0):
    """A matrix with the vector x on its diagonal, or the diagonal of the matrix x.

    >>> cr.diag(cr.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    if x.ndim == 2:
        return globals()["diagonal"](x, diagonal)
    if x.ndim != 1:
        raise ValueError(f"diag: received shape {x.shape}; pass a vector or a matrix")
    n = x.shape[0] + abs(diagonal)
    places = for_array(array_of(x)).arange(x.shape[0])
    return spread_at(x, index=(places - min(diagonal, 0), places + max(diagonal, 0)), shape=(n, n))


# ---- classes and look-ups --------------------------------------------------------------------------------------------


def one_hot(x, num_classes: int = -1):
    """Zeros with a 1 at index x in a new last dimension; int64.

    >>> cr.one_hot(cr.tensor([0, 2]), 3)
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    array = x.array if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype.kind not in "iu":
        raise TypeError(f"one_hot: received dtype {array.dtype}; classes are integers; convert it with .long()")
    if num_classes == -1:
        if not array.size:
            raise ValueError("one_hot: the number of classes of an empty tensor is unknown; pass num_classes")
        num_classes = int(array.max()) + 1
    if may_look(array) and array.size and (array.min() < 0 or array.max() >= num_classes):
        raise ValueError(f"one_hot: classes from {array.min()} to {array.max()} do not fit num_classes={num_classes}")
    return result((array[..., None] == for_array(array).arange(num_classes)).astype(np.int64))


def embedding(input, weight, padding_idx: int | None = None):
    """The rows of `weight` (V, D) at the integers of `input` (shape S): (*S, D). The row padding_idx gets no gradient.

    >>> cr.embedding(cr.tensor([1, 1]), cr.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [3., 4.]])
    """
    if weight.ndim != 2:
        raise ValueError(f"embedding: the weight has shape {weight.shape}; it must be (number of entries, width)")
    array = input.array if isinstance(input, Tensor) else np.asarray(input)
    index = _indices("embedding", input, weight, 0)
    if may_look(array) and array.size and array.min() < 0:
        raise IndexError(f"embedding: index {int(array.min())} is negative; indices go from 0 to {weight.shape[0] - 1}")
    if padding_idx is not None:
        padding_idx = one_dim("embedding", padding_idx, weight.shape[0])
        keep = (for_array(weight.array).arange(weight.shape[0]) != padding_idx)[:, None]
        weight = where(keep, weight, weight.detach())
    rows = take_slices(weight, result(index.reshape(-1)), dim=0)
    return rows.reshape(*index.shape, weight.shape[1])


def nonzero(x, as_tuple: bool = False):
    """The indices of the nonzero elements: (count, ndim), or a tuple of index vectors.

    >>> cr.nonzero(cr.tensor([0, 5, 7]))
    tensor([[1],
            [2]])
    """
    if not as_tuple:
        return result(np.argwhere(x.array))
    return tuple(result(places) for places in np.nonzero(np.atleast_1d(x.array)))
