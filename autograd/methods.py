"""What a Tensor can do: the operators, the methods named after functions, and the writes in place."""

from __future__ import annotations

import functools
from types import FunctionType

import numpy as np

from ..kernels import for_array
from .ops import convert, elementwise, indexing, linalg, reductions, shape
from .state import state
from .tensor import Tensor, as_array, check_writable, is_writeable, note_write, result, write

# ---- operators -------------------------------------------------------------------------------------------------------

_OPERATORS = {
    "add": elementwise.add,
    "sub": elementwise.subtract,
    "mul": elementwise.multiply,
    "truediv": elementwise.divide,
    "floordiv": elementwise.floor_divide,
    "mod": elementwise.remainder,
    "pow": elementwise.power,
    "matmul": linalg.matmul,
    "and": elementwise.bitwise_and,
    "or": elementwise.bitwise_or,
    "xor": elementwise.bitwise_xor,
}
_COMMUTES = {"add", "mul"}
_COMPARISONS = {
    "eq": elementwise.equal,
    "ne": elementwise.not_equal,
    "lt": elementwise.less,
    "le": elementwise.less_equal,
    "gt": elementwise.greater,
    "ge": elementwise.greater_equal,
}


def _forward(op):
    return getattr(op, "short", op)


def _reflected(op):
    def method(self, other):
        return op(other, self)

    return method


def _comparison(op):
    def method(self, other):
        return NotImplemented if other is None or isinstance(other, str) else op(self, other)

    return method


# ---- writes in place -------------------------------------------------------------------------------------------------


def _in_place(name, op):
    """The method `name` that computes `op` and writes the result into the tensor's own memory."""

    @functools.wraps(op)
    def method(self, *args, **kwargs):
        check_writable(self, name)
        # The rule may keep the operand: it gets a copy, because this memory is about to change.
        operand = self if not state.get().record else _copied(self)
        return write(self, op(operand, *[operand if a is self else a for a in args], **kwargs))

    method.__name__ = method.__qualname__ = name
    method.__doc__ = "The result of the operation without the underscore, written into this tensor; returns self."
    return method


def _copied(tensor):
    return result(tensor.array.copy(), tensor._edge if tensor._live else None, tensor._live)


def _scaled(op):
    def function(self, other, alpha=1):
        return op(self, other if alpha == 1 else other * alpha)

    return function


def _fill(self, value):
    value = value if isinstance(value, Tensor) else Tensor(as_array(value, self.dtype, self.device))
    if value.numel() != 1:
        raise ValueError(f"fill_: received a value of shape {value.shape}; pass one number, or use copy_")
    return _copy(self, value.reshape(()))


def _zero(self):
    return result(for_array(self.array).zeros(self.shape, self.dtype))


def _copy(self, source):
    source = source if isinstance(source, Tensor) else Tensor(as_array(source, self.dtype))
    return shape.broadcast_to(convert.to(source, self.dtype, device=self.device), self.shape)


_IN_PLACE = {
    "add_": _scaled(elementwise.add),
    "sub_": _scaled(elementwise.subtract),
    "mul_": elementwise.multiply,
    "div_": elementwise.divide,
    "pow_": elementwise.power,
    "clamp_": elementwise.clamp,
    "exp_": elementwise.exp,
    "sqrt_": elementwise.sqrt,
    "neg_": elementwise.negative,
    "abs_": elementwise.absolute,
    "relu_": elementwise.relu,
    "sigmoid_": elementwise.sigmoid,
    "tanh_": elementwise.tanh,
    "masked_fill_": indexing.masked_fill,
    "index_add_": indexing.index_add,
    "scatter_add_": indexing.scatter_add,
    "scatter_": indexing.scatter,
    "fill_": _fill,
    "zero_": _zero,
    "copy_": _copy,
}


def _setitem(self, index, value):
    check_writable(self, "setitem")
    value = value if isinstance(value, Tensor) else Tensor(as_array(value, self.dtype))
    value = value if value.device == self.device else convert.to(value, device=self.device)
    if state.get().record and (self._live or value._live):
        write(self, indexing.with_item(_copied(self), index, value))
        return
    plain = indexing._plain("setitem", self, index)
    place = indexing._read(self.array, plain)
    try:
        np.broadcast_to(value.array, np.shape(place))
    except ValueError:
        raise ValueError(
            f"setitem: a value of shape {value.shape} does not fit the place of shape {np.shape(place)} in shape "
            f"{self.shape}; make it broadcastable"
        ) from None
    if not is_writeable(self.array):
        raise RuntimeError("a write in place to read-only memory (an expanded or imported array); use t.clone() first")
    self.array[plain] = value.array
    note_write(self)


# ---- methods named after functions -----------------------------------------------------------------------------------

#: method name -> function whose first argument becomes self
METHODS = {
    **{
        op.key: op
        for op in vars(elementwise).values()
        if hasattr(op, "rules")
        and not op.key.startswith("clamp_")
        and not op.key.endswith("_by")
        and op.key not in ("where", "gelu_exact")
    },
    **{name: getattr(elementwise, name) for name in ("clamp", "rsqrt", "hardtanh", "lerp", "bitwise_not")},
    **{
        name: getattr(reductions, name)
        for name in (
            "sum mean var std prod cumsum amax amin argmax argmin max min all any logsumexp softmax log_softmax norm "
            "argsort sort topk"
        ).split()
    },
    **{
        name: getattr(shape, name)
        for name in (
            "expand expand_as broadcast_to reshape flatten unflatten permute transpose swapaxes movedim moveaxis t "
            "squeeze unsqueeze narrow split chunk unbind flip roll repeat tile repeat_interleave"
        ).split()
    },
    **{
        name: getattr(indexing, name)
        for name in (
            "index_select index_add gather take_along_dim scatter_add scatter masked_fill masked_select tril triu "
            "diagonal diag nonzero"
        ).split()
    },
    **{name: getattr(linalg, name) for name in ("matmul", "mm", "bmm", "mv", "dot", "outer", "trace")},
    **{name: getattr(convert, name) for name in ("clone", "to", "cpu", "cuda", "contiguous", "type_as")},
    **convert.SHORTCUTS,
}

#: PyTorch's and NumPy's other names for the same functions
ALIASES = {
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "true_divide": "divide",
    "pow": "power",
    "neg": "negative",
    "absolute": "abs",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "atan2": "arctan2",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "clip": "clamp",
    "view": "reshape",
    "ravel": "flatten",
    "swapdims": "transpose",
    "astype": "to",
    "copy": "clone",
}


def _method(name, function):
    """`function` as a method: itself, unless it is an object whose look-up would not bind `self`."""
    function = getattr(function, "short", function)
    if isinstance(function, FunctionType):
        return function

    @functools.wraps(function, assigned=("__doc__",), updated=())
    def method(self, *args, **kwargs):
        return function(self, *args, **kwargs)

    method.__name__ = name
    method.__qualname__ = f"Tensor.{name}"
    return method


def _new_like(make):
    def method(self, *shape, **options):
        return make(*shape, **{"dtype": self.dtype, "device": self.device, **options})

    return method


_OTHERS = {
    "__neg__": _method("__neg__", elementwise.negative),
    "__pos__": lambda self: self,
    "__abs__": _method("__abs__", elementwise.absolute),
    "__invert__": _method("__invert__", elementwise.bitwise_not),
    "__getitem__": indexing.getitem,
    "__setitem__": _setitem,
    "where": lambda self, condition, other: elementwise.where(condition, self, other),
    "T": property(shape.transpose, doc="The dimensions in reverse order."),
    "mT": property(shape.mT, doc="The last two dimensions swapped."),
}


def attach() -> None:
    """Give Tensor its operators and methods."""
    from . import creation

    for name, op in _OPERATORS.items():
        setattr(Tensor, f"__{name}__", _forward(op))
        setattr(Tensor, f"__r{name}__", _forward(op) if name in _COMMUTES else _reflected(op))
        setattr(Tensor, f"__i{name}__", _in_place(f"{name}_", op))
    for name, op in _COMPARISONS.items():
        setattr(Tensor, f"__{name}__", _comparison(op))
    for name, function in METHODS.items():
        setattr(Tensor, name, _method(name, function))
    for alias, name in ALIASES.items():
        setattr(Tensor, alias, _method(alias, METHODS[name]))
    for name, member in _OTHERS.items():
        setattr(Tensor, name, member)
    for name, op in _IN_PLACE.items():
        setattr(Tensor, name, _in_place(name, op))
    for name in ("zeros", "ones", "empty", "full"):
        setattr(Tensor, f"new_{name}", _new_like(getattr(creation, name)))
