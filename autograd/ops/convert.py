"""Copies and conversions."""

from __future__ import annotations

from ...kernels import is_array, to_device
from ..primitive import primitive
from ..state import state
from ..tensor import Tensor, as_device, as_dtype, is_floating, outside


def operand(x):
    """x as a tensor; an array is copied while recording: a rule may keep it, and its owner may fill it anew."""
    if isinstance(x, Tensor):
        return x
    return Tensor(x.copy() if is_array(x) and state.get().record else x)


@primitive(formula=r"x")
def clone(k, x):
    """A copy of x with its own memory; the gradient passes through unchanged.

    >>> x = cr.ones(2); y = cr.clone(x); y.add_(1); x
    tensor([2., 2.])
    tensor([1., 1.])
    """
    return k.array(x, copy=True, order="C")


@clone.vjp("x", formula=r"\bar o")
def clone_dx(g):
    return g


@primitive(formula=r"\operatorname{cast}(x)", promote=False)
def cast(k, x, *, dtype, source):
    return x.astype(dtype)


@cast.vjp("x", formula=r"\operatorname{cast}(\bar o)")
def cast_dx(g, *, dtype, source):
    return to(g, source) if isinstance(g, Tensor) else g.astype(source)


@primitive(name="to", formula=r"x", flops=0, promote=False)
def transfer(k, x, *, device, source):
    return k.array(x, copy=True) if device == source else to_device(x, device)


@transfer.vjp("x", formula=r"\bar o")
def transfer_dx(g, *, device, source):
    return transfer(g, device=source, source=device)


def to(x, *args, dtype=None, device=None, copy=False):
    """x in another dtype or on another device, as `torch.Tensor.to`; x itself if nothing changes.

    >>> cr.ones(2).to(cr.float64).dtype
    dtype('float64')
    """
    for argument in args:
        if isinstance(argument, Tensor):
            dtype, device = argument.dtype, argument.device
        elif isinstance(argument, str) and argument.split(":")[0] in ("cpu", "cuda", "mps"):
            device = argument
        else:
            dtype = argument
    if device is not None and as_device(device) != x.device:
        x, copy = transfer(x, device=as_device(device), source=x.device), False
    dtype = x.dtype if dtype is None else as_dtype(dtype)
    if dtype == x.dtype:
        return clone(x) if copy else x
    if not is_floating(dtype) or not is_floating(x.dtype):
        return outside(x, f"to({dtype})", x.array.astype(dtype))
    return cast(x, dtype=dtype, source=x.dtype)


def contiguous(x):
    """x with its elements in C order, copied only if they are not.

    >>> cr.ones(2, 3).T.contiguous().is_contiguous()
    True
    """
    return x if x.array.flags.c_contiguous else clone(x)


def cpu(x):
    """x on the CPU: a copy if it is on a GPU (which waits for the GPU), x itself if it is not.

    >>> cr.ones(2).cpu().device
    'cpu'
    """
    return to(x, device="cpu")


def cuda(x):
    """x on the GPU: a copy if it is on the CPU, x itself if it is not; RuntimeError where there is no GPU."""
    return to(x, device="cuda")


def type_as(x, other):
    """x in the dtype of `other`.

    >>> cr.ones(2).type_as(cr.ones(1, dtype=cr.float64)).dtype
    dtype('float64')
    """
    return to(x, other.dtype)


def _shortcut(dtype):
    def convert(x):
        return to(x, dtype)

    convert.__doc__ = f"x as {dtype}."
    return convert


SHORTCUTS = {
    name: _shortcut(dtype)
    for name, dtype in [("half", "float16"), ("bfloat16", "bfloat16"), ("float", "float32"), ("double", "float64")]
    + [("int", "int32"), ("long", "int64"), ("bool", "bool")]
}
