"""Products of matrices: matmul by NumPy's rank rules, einsum, linear."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from string import ascii_letters

import numpy as np

from ...kernels import is_array
from ..primitive import primitive
from ..tensor import Tensor
from .convert import operand
from .indexing import diagonal
from .reductions import sum as total, sum_over
from .shape import broadcast_to, permute, reshape, sum_to, unsqueeze


def _matmul_flops(x, y, out, **_):
    return 2 * math.prod(out) * x[-1]


@primitive(name="matmul", formula=r"X Y", flops=_matmul_flops)
def matmul_batched(k, x, y):
    try:
        return k.matmul(x, y)
    except ValueError:
        raise ValueError(
            f"matmul: the leading dimensions of {x.shape} and {y.shape} do not broadcast; each pair must be equal or "
            "hold a 1"
        ) from None


@matmul_batched.vjp("x", formula=r"\bar O\,Y^{\mathsf T}")
def matmul_batched_dx(g, y, x_shape):
    return _to_shape(matmul_batched(g, y.mT), x_shape)


@matmul_batched.vjp("y", formula=r"X^{\mathsf T} \bar O")
def matmul_batched_dy(g, x, y_shape):
    return _to_shape(matmul_batched(x.mT, g), y_shape)


@matmul_batched.vjp_into("y")
def matmul_batched_dy_into(k, g, into, x):
    if x.ndim == g.ndim == 2:
        k.add_product(into, x, g)
    else:
        into += _to_shape(k.matmul(x.mT, g), into.shape)


def _to_shape(gradient, shape):
    return gradient if gradient.shape == shape else sum_to(gradient, shape=shape)


def matmul(x, y):
    """The matrix product by NumPy's rank rules: vectors are rows or columns, leading dimensions broadcast.

    Shapes: (…, N, K) @ (…, K, M) → (…, N, M); a 1-d operand loses its dimension again.

    >>> cr.tensor([[1.0, 2.0], [3.0, 4.0]]) @ cr.tensor([1.0, 1.0])
    tensor([3., 7.])
    """
    x = x if isinstance(x, Tensor) or is_array(x) else Tensor(x)
    y = y if isinstance(y, Tensor) or is_array(y) else Tensor(y)
    left, right = x.shape, y.shape
    if not (left and right):
        raise ValueError(f"matmul: received shapes {left} and {right}; a 0-d operand has no rows; use * to scale")
    terms = right[-2 if len(right) > 1 else 0]
    if left[-1] != terms:
        raise ValueError(
            f"matmul: shapes {left} and {right} do not fit: the last size of the first, {left[-1]}, must equal "
            f"the second's {terms}; transpose one of them"
        )
    if len(left) == len(right) == 2:
        return matmul_batched.short(x, y)
    if x.ndim == 1:
        out = matmul(unsqueeze(x, 0), y)
        return reshape(out, out.shape[:-2] + out.shape[-1:] if y.ndim > 1 else out.shape[:-1])
    if y.ndim == 1:
        out = matmul(x, unsqueeze(y, 1))
        return reshape(out, out.shape[:-1])
    if y.ndim == 2 and x.ndim > 2:
        return (
            reshape(matmul_batched(reshape(x, (-1, x.shape[-1])), y), (*x.shape[:-1], y.shape[-1]))
            if math.prod(x.shape)
            else matmul_batched(x, y)
        )
    return matmul_batched(x, y)


def _of_rank(name, ranks, text):
    def function(x, y):
        if (x.ndim, y.ndim) != ranks:
            raise ValueError(
                f"{name}: received shapes {x.shape} and {y.shape}; it multiplies {text}; matmul takes all ranks"
            )
        return matmul(x, y)

    function.__name__ = function.__qualname__ = name
    shapes = {"mm": ("2, 3", "3, 4"), "bmm": ("5, 2, 3", "5, 3, 4"), "mv": ("2, 3", "3"), "dot": ("3", "3")}[name]
    answer = {"mm": "(2, 4)", "bmm": "(5, 2, 4)", "mv": "(2,)", "dot": "()"}[name]
    example = f">>> cr.{name}(cr.ones({shapes[0]}), cr.ones({shapes[1]})).shape\n    {answer}"
    function.__doc__ = f"The product of {text}.\n\n    {example}\n    "
    return function


mm = _of_rank("mm", (2, 2), "two matrices")
bmm = _of_rank("bmm", (3, 3), "two batches of matrices")
mv = _of_rank("mv", (2, 1), "a matrix and a vector")
dot = _of_rank("dot", (1, 1), "two vectors")


def outer(x, y):
    """The outer product xᵢ yⱼ of two vectors.

    >>> cr.outer(cr.tensor([1.0, 2.0]), cr.tensor([3.0, 4.0]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    return unsqueeze(reshape(x, -1), 1) * reshape(y, -1)


def flat(x):
    """All but the last dimension merged into one."""
    return x if x.ndim == 2 else x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


@primitive(name="linear", formula=r"x W^{\mathsf T} + b", flops=lambda x, w, b, out: 2 * math.prod(out) * w[1])
def linear_rows(k, x, weight, bias=None):
    check_rows(x, weight, bias)
    out = k.affine(flat(x), weight, bias)
    return out if x.ndim == 2 else out.reshape(*x.shape[:-1], weight.shape[0])


def check_rows(x, weight, bias):
    """Refuse what is no affine map."""
    if weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        raise ValueError(
            f"linear: received weight {weight.shape} and bias {getattr(bias, 'shape', None)}; they must be "
            "(out, in) and (out,)"
        )
    if x.shape[-1:] != weight.shape[1:]:
        raise ValueError(
            f"linear: the input has shape {x.shape} and the weight {weight.shape}: the input's last size must be "
            f"{weight.shape[1]}; check in_features or flatten the input"
        )


@linear_rows.vjp("x", formula=r"\bar o\,W")
def linear_rows_dx(g, weight):
    gradient = matmul_batched(flat(g), weight)
    return gradient if g.ndim == 2 else gradient.reshape(*g.shape[:-1], weight.shape[1])


@linear_rows.vjp("weight", formula=r"\bar o^{\mathsf T} x")
def linear_rows_dweight(g, x):
    return matmul_batched(flat(g).T, flat(x))


@linear_rows.vjp("bias", formula=r"\textstyle\sum \bar o")
def linear_rows_dbias(g):
    rows = flat(g)
    return rows[0] if len(rows) == 1 else sum_over(rows, dim=(0,), keepdim=False)


@linear_rows.fused_vjp("x", "weight", "bias")
def linear_rows_fused(k, g, x, weight, *, live):
    dx, dweight, dbias = k.affine_backward(flat(g), flat(x), weight, live=live)
    return dx if dx is None else dx.reshape(x.shape), dweight, dbias


def linear(input, weight, bias=None):
    """y = x Wᵀ + b. Shapes: input (…, I), weight (O, I), bias (O,) → (…, O).

    >>> cr.linear(cr.ones(2, 3), cr.ones(4, 3), cr.zeros(4)).shape
    (2, 4)
    """
    return linear_rows(input, weight, bias)


def bilinear(input1, input2, weight, bias=None):
    """y_o = x₁ᵀ W_o x₂ + b_o. Shapes: input1 (…, I), input2 (…, J), weight (O, I, J), bias (O,) → (…, O).

    >>> cr.bilinear(cr.ones(5, 3), cr.ones(5, 4), cr.ones(2, 3, 4), cr.zeros(2)).shape
    (5, 2)
    """
    left, right, shape = input1.shape, input2.shape, weight.shape
    if len(shape) != 3 or left[-1:] != shape[1:2] or right[-1:] != shape[2:]:
        raise ValueError(
            f"bilinear: received inputs of shapes {left} and {right} for a weight of shape {shape}; they must be "
            "(…, I), (…, J) and (O, I, J); check the order of the arguments"
        )
    if bias is not None and bias.shape != shape[:1]:
        raise ValueError(f"bilinear: the bias has shape {bias.shape}; it must be {shape[:1]}, one for each output")
    out = einsum("...i,oij,...j->...o", input1, weight, input2)
    return out if bias is None else out + bias


# ---- einsum ----------------------------------------------------------------------------------------------------------


def _einsum_flops(*shapes, out, subscripts):
    sizes = {}
    for labels, shape in zip(subscripts.split("->")[0].split(","), shapes, strict=True):
        sizes.update(zip(labels, shape, strict=True))
    return len(shapes) * math.prod(sizes.values())


@primitive(name="einsum", formula=r"\operatorname{einsum}", flops=_einsum_flops)
def einsum_plain(k, *xs, subscripts):
    xs = [x.astype("f4") if x.dtype.kind == "V" else x for x in xs]  # einsum knows no bfloat16
    orders = _as_product(subscripts)
    return k.einsum(subscripts, *xs, optimize=True) if orders is None else _product(k, xs, *orders)


@lru_cache(1024)
def _as_product(subscripts):
    """The arguments of `_product` where two operands are batches of matrices (of vectors, one of them), else None."""
    inputs, out = subscripts.split("->")
    labels = inputs.split(",")
    if len(labels) != 2:
        return None
    swap = next((c for c in out if (c in labels[0]) != (c in labels[1])), labels[0][:1]) in labels[1]
    left, right = labels[::-1] if swap else labels
    batch, summed = [c for c in out if c in left and c in right], [c for c in left if c in right and c not in out]
    rows, columns = [c for c in out if c not in right], [c for c in out if c not in left]
    whole = len(batch + rows + summed) == len(left) and len(batch + summed + columns) == len(right)
    if not (whole and (rows or columns)):
        return None
    order_left, order_right = (
        tuple([own.index(c) for c in order])
        for own, order in ((left, batch + rows + summed), (right, batch + summed + columns))
    )
    made = batch + rows + columns
    return swap, order_left, order_right, len(batch), len(rows), len(summed), tuple([made.index(c) for c in out])


def _product(k, xs, swap, order_left, order_right, batch, rows, summed, order):
    """Two operands' dimensions as (batch…, rows…, summed…) and (batch…, summed…, columns…); the result's in `order`."""
    left, right = xs[::-1] if swap else xs
    left, right = left.transpose(order_left), right.transpose(order_right)
    shape = (*left.shape[: batch + rows], *right.shape[batch + summed :])
    out = k.matmul(_matrices(left, batch, rows), _matrices(right, batch, summed)).reshape(shape)
    return out.transpose(order)


def _matrices(x, batch, rows):
    """x with so many dimensions of a batch, then so many merged into rows, the rest into columns."""
    if x.ndim == batch + 2 and rows == 1:
        return x
    shape = x.shape
    return x.reshape(*shape[:batch], math.prod(shape[batch : batch + rows]), math.prod(shape[batch + rows :]))


@einsum_plain.vjp("xs", formula=r"\operatorname{einsum} \text{ with the result in the place of } x_i")
def einsum_plain_dxs(g, xs, xs_shape, *, subscripts):
    """Each operand's gradient is an einsum of g and the other operands, spread over labels that only it has."""
    gradients = []
    for i, (others, equation, known) in enumerate(_adjoints(subscripts)):
        part = einsum_plain(g, *[xs[j] for j in others], subscripts=equation)
        if not all(known):
            part = reshape(part, tuple([n if there else 1 for there, n in zip(known, xs_shape[i], strict=True)]))
            part = broadcast_to(part, xs_shape[i])
        gradients.append(part)
    return gradients


@lru_cache(1024)
def _adjoints(subscripts):
    """For each operand: the others, the equation of its gradient, and which of its labels that gives."""
    inputs, out = subscripts.split("->")
    labels, adjoints = inputs.split(","), []
    for i, own in enumerate(labels):
        others = tuple([j for j in range(len(labels)) if j != i])
        known = set(out).union(*[labels[j] for j in others])
        reach = "".join(c for c in own if c in known)
        equation = ",".join([out, *[labels[j] for j in others]]) + "->" + reach
        adjoints.append((others, equation, tuple([c in known for c in own])))
    return adjoints


def einsum(equation: str, *operands):
    """Einstein's summation: products of operands, summed over the labels that the result does not name.

    All of NumPy's notation: implicit results, ellipses, repeated labels (diagonals and traces).

    >>> cr.einsum("ij,jk->ik", cr.ones(2, 3), cr.ones(3, 4)).shape
    (2, 4)
    """
    if not isinstance(equation, str):
        raise TypeError(
            f"einsum: received a {type(equation).__name__} as its equation, which is a string and comes first; call "
            "it as einsum('ij,jk->ik', x, y)"
        )
    given = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    xs = [operand(x) for x in given]
    labels, out, sizes, plain = _parsed(equation, tuple([x.shape for x in xs]))
    if not plain:
        taken = [_diagonals(*_without_ones(name, x, sizes)) for name, x in zip(labels, xs, strict=True)]
        labels, xs = [name for name, _ in taken], [x for _, x in taken]
    present = set("".join(labels))
    kept = "".join(c for c in out if c in present)
    for places, subscripts in _steps(tuple(labels), kept, tuple([x.shape for x in xs])):
        rest = [x for i, x in enumerate(xs) if i not in places]
        xs = [*rest, einsum_plain(*[xs[i] for i in places], subscripts=subscripts)]
    result = xs[0]
    return result if kept == out else reshape(result, tuple(sizes[c] if c in present else 1 for c in out))


@lru_cache(1024)
def _steps(labels, out, shapes):
    """(places, equation) of the operands that are taken together, pair by pair: what they give comes last of the next.

    The order is NumPy's greedy one. All at once would take as many products as all labels have values.
    """
    equation = ",".join(labels) + "->" + out
    if len(labels) < 3:
        return [(range(len(labels)), equation)]
    sizes = [np.broadcast_to(0.0, shape) for shape in shapes]
    path, *_ = np.einsum_path(equation, *sizes, optimize=("greedy", sys.maxsize))
    steps = []
    for places in path[1:]:
        taken, labels = [labels[i] for i in places], [name for i, name in enumerate(labels) if i not in places]
        needed = set(out).union(*labels)
        made = "".join(dict.fromkeys(c for c in "".join(taken) if c in needed)) if labels else out
        labels.append(made)
        steps.append((places, ",".join(taken) + "->" + made))
    return steps


@lru_cache(1024)
def _parsed(equation, shapes):
    """Labels per operand and of the result, with ellipses written out; sizes; whether operands are read as they are."""
    labels, out = _labels(equation, shapes)
    sizes: dict[str, int] = {}
    for name, shape in zip(labels, shapes, strict=True):
        for c, n in zip(name, shape, strict=True):
            if sizes.get(c, 1) != 1 and n not in (1, sizes[c]):
                raise ValueError(
                    f"einsum: label '{c}' of {equation!r} has sizes {sizes[c]} and {n}; they must be equal"
                )
            sizes[c] = sizes.get(c, 1) if n == 1 else n
    whole = all(n == sizes[c] for name, shape in zip(labels, shapes, strict=True) for c, n in zip(name, shape))
    return labels, out, sizes, whole and all(len(set(name)) == len(name) for name in labels)


def _labels(equation, shapes):
    text = equation.replace(" ", "")
    left, arrow, out = text.partition("->")
    labels = left.split(",")
    if len(labels) != len(shapes):
        raise ValueError(f"einsum: {equation!r} names {len(labels)} operands and {len(shapes)} were passed")
    free = [c for c in reversed(ascii_letters) if c not in text]
    extra = [len(shape) - len(name.replace("...", "")) for name, shape in zip(labels, shapes, strict=True)]
    widest = max([n for name, n in zip(labels, extra, strict=True) if "..." in name], default=0)
    dots = "".join(reversed(free[: max(widest, 0)]))
    for i, (name, n) in enumerate(zip(labels, extra, strict=True)):
        if n < 0 or (n and "..." not in name):
            raise ValueError(
                f"einsum: '{name}' of {equation!r} names {len(name)} dimensions and operand {i} has shape "
                f"{shapes[i]}; "
                "write one label for each dimension, or ..."
            )
        labels[i] = name.replace("...", dots[len(dots) - n :] if n else "")
    if arrow:
        out = out.replace("...", dots)
    else:
        every = "".join(labels)
        out = dots + "".join(sorted(c for c in set(every) if every.count(c) == 1 and c not in dots))
    unknown = set(out) - set("".join(labels))
    if unknown or len(set(out)) != len(out):
        raise ValueError(f"einsum: the result '{out}' of {equation!r} must name labels of the operands, each once")
    return labels, out


def _without_ones(name, x, sizes):
    """Labels of size 1 that are broadcast against a larger size are dropped from the operand."""
    keep = [i for i, (c, n) in enumerate(zip(name, x.shape, strict=True)) if n == sizes[c]]
    if len(keep) == len(name):
        return name, x
    return "".join(name[i] for i in keep), reshape(x, tuple(x.shape[i] for i in keep))


def _diagonals(name, x):
    """Labels repeated within an operand name its diagonal: each pair becomes one label, the last."""
    for c in sorted(set(name)):
        while name.count(c) > 1:
            first, second = name.index(c), name.index(c, name.index(c) + 1)
            x = diagonal(x, 0, first, second)
            name = "".join(label for i, label in enumerate(name) if i not in (first, second)) + c
    return name, x


def trace(x):
    """The sum of the diagonal of a matrix.

    >>> cr.trace(cr.eye(3)).item()
    3.0
    """
    if x.ndim != 2:
        raise ValueError(f"trace: received shape {x.shape}; the trace is that of a matrix")
    return total(diagonal(x))


def tensordot(x, y, dims=2):
    """The sum of products over the last `dims` dimensions of x and the first of y, or over the two lists of dimensions.

    >>> cr.tensordot(cr.ones(2, 3, 4), cr.ones(3, 4, 5)).shape
    (2, 5)
    """
    if isinstance(dims, int):
        dims = (list(range(x.ndim - dims, x.ndim)), list(range(dims)))
    left, right = ([d % v.ndim for d in ds] for ds, v in zip(dims, (x, y), strict=True))
    if [x.shape[d] for d in left] != [y.shape[d] for d in right]:
        raise ValueError(
            f"tensordot: dimensions {left} of shape {x.shape} and {right} of shape {y.shape} do not have equal "
            "sizes in order; "
            "name pairs of dimensions of equal size"
        )
    rest_x = [d for d in range(x.ndim) if d not in left]
    rest_y = [d for d in range(y.ndim) if d not in right]
    n = math.prod(x.shape[d] for d in left)
    rows = (
        reshape(permute(x, (*rest_x, *left)), (-1, n))
        if n
        else reshape(permute(x, (*rest_x, *left)), (math.prod(x.shape[d] for d in rest_x), 0))
    )
    columns = reshape(permute(y, (*right, *rest_y)), (n, math.prod(y.shape[d] for d in rest_y)))
    return reshape(matmul(rows, columns), tuple(x.shape[d] for d in rest_x) + tuple(y.shape[d] for d in rest_y))
