"""`Tensor`: an array of a device, where it came from, and its gradient. Operations are attached by `methods.py`."""

from __future__ import annotations

import math
import numbers
import weakref
from functools import cache, lru_cache
from sys import getrefcount
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import device_of, for_device, is_array, to_device
from .display import mimebundle
from .graph import ALONE, Node, leaf_hooks, node_hooks, root, writes
from .state import state

if TYPE_CHECKING:
    from .method_types import TensorMethods
else:
    TensorMethods = object

float16, float32, float64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
int8, int16, int32, int64 = np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64")
uint8, uint16, uint32, uint64 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("uint32"), np.dtype("uint64")
bool_ = np.dtype("bool")

_default_dtype = float32
_LARGE = for_device("cpu").LARGE  # elements from which threads share NumPy's arithmetic
_INFERENCE = object()  # the edge of a tensor made in inference mode


def get_default_dtype() -> np.dtype:
    """The dtype of tensors made from Python floats, float32 unless changed.

    >>> cr.get_default_dtype()
    dtype('float32')
    """
    return _default_dtype


def set_default_dtype(dtype) -> None:
    """Make `dtype` (float16, bfloat16, float32 or float64) the dtype of tensors made from Python floats.

    >>> cr.set_default_dtype(cr.float64); cr.tensor(0.5).dtype
    dtype('float64')
    >>> cr.set_default_dtype(cr.float32)
    """
    global _default_dtype
    dtype = as_dtype(dtype)
    if not is_floating(dtype):
        raise TypeError(
            f"set_default_dtype: received {dtype}; only a floating dtype can be the default; pass cr.float32"
        )
    _default_dtype = dtype


def as_dtype(dtype) -> np.dtype:
    """A supported NumPy dtype from anything NumPy accepts (`"float32"`, `np.float32`, `cr.float32`, `float`).

    As in PyTorch, Python's `float` means the default dtype and `int` means int64.
    """
    if dtype is float:
        return _default_dtype
    if isinstance(dtype, str) and dtype == "bfloat16":
        return _bfloat16()
    try:
        made = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"received the dtype {dtype!r}, which NumPy does not know; pass e.g. cr.float32") from None
    return supported(made)


def is_floating(dtype) -> bool:
    """Whether tensors of `dtype` have derivatives: NumPy's floats, and bfloat16, whose kind NumPy gives as 'V'.

    >>> cr.autograd.is_floating(cr.float16), cr.autograd.is_floating(cr.int64)
    (True, False)
    """
    return dtype.kind in "fV"


def _bfloat16() -> np.dtype:
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            "received the dtype bfloat16, which NumPy lacks and ml_dtypes brings; install it with "
            "pip install 'chainrule[bfloat16]', or use cr.float16"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)


def supported(dtype: np.dtype) -> np.dtype:
    """NumPy's own object for `dtype` in native byte order: `is` compares; TypeError if no tensor can have it."""
    if dtype.kind == "V" and dtype.name == "bfloat16":
        return dtype
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise TypeError(
            f"received the dtype {dtype}; tensors hold float16, bfloat16, float32, float64, signed and unsigned "
            "integers of 8 to 64 bits, or bool; convert the data first, e.g. with .astype('float32')"
        )
    return np.dtype(f"{dtype.kind}{dtype.itemsize}")


_DEVICES = {"cpu": "cpu", "cuda": "cuda", "cuda:0": "cuda"}
_default_device = "cpu"


def get_default_device() -> str:
    """Where tensors are made that name no device, 'cpu' unless changed.

    >>> cr.get_default_device()
    'cpu'
    """
    return _default_device


def set_default_device(device) -> None:
    """Make `device` ('cpu' or 'cuda') the place of tensors made of numbers, lists or NumPy arrays without a device.

    >>> cr.set_default_device("cpu")
    """
    global _default_device
    _default_device = as_device(device)


def as_device(device) -> str:
    """'cpu' or 'cuda' (the default for None); others, and 'cuda' where it cannot work, are refused with a reason.

    >>> cr.autograd.as_device("cpu")
    'cpu'
    """
    name = _default_device if device is None else _DEVICES.get(str(device))
    if name is None:
        one = "; CUDA_VISIBLE_DEVICES chooses the GPU, which is then 'cuda'" if str(device).startswith("cuda") else ""
        raise ValueError(f"received device={device!r}; chainrule computes on 'cpu' and 'cuda'{one}")
    if name == "cuda":
        for_device(name)
    return name


def may_look(array) -> bool:
    """Whether checks may look at the values of `array`: a GPU would have to be waited for, so only under a watch."""
    return type(array) is np.ndarray or bool(state.get().watch)


def as_array(data, dtype=None, device=None) -> np.ndarray:
    """An array of a supported dtype on a device (where the data is, for None), sharing the memory of `data` if it can.

    Python floats become the default dtype, Python ints int64; arrays keep their dtype.
    """
    array = _as_array(data, dtype)
    return array if device is None else to_device(array, as_device(device))


def _as_array(data, dtype):
    if isinstance(data, Tensor):
        array = data.array
    elif is_array(data) and not isinstance(data, np.ndarray):
        array = data
    elif isinstance(data, (np.ndarray, np.generic)):
        array = for_device("cpu").taken_in(data)
    else:
        array = _from_python(data)
        if dtype is None and array.dtype == float64 and not _holds_numpy(data):
            array = array.astype(_default_dtype)
    target = supported(array.dtype) if dtype is None else as_dtype(dtype)
    if array.dtype is target:
        return array
    return array.view(target) if array.dtype == target else array.astype(target)  # an equal one: unpickled, say


def _from_python(data) -> np.ndarray:
    try:
        array = for_device("cpu").array(data)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"could not make an array of {_short(data)}: {error}; nested lists must have equal lengths, and tensors "
            "that require gradients are joined by cr.stack"
        ) from None
    if array.dtype == object:
        raise TypeError(f"could not make a tensor of {_short(data)}: its items are not numbers; pass numbers or arrays")
    return array


def _holds_numpy(data) -> bool:
    while isinstance(data, (list, tuple)) and data:
        data = data[0]
    return isinstance(data, (np.generic, np.ndarray, Tensor))


def _short(value, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class Form:
    """The type, dtype and shape of an array: one object for all arrays that are alike, so that `is` compares them.

    `solid`: NumPy's and not 0-d, so NumPy's kernels make arrays of it, never scalars, and too small for threads.
    """

    __slots__ = ("kind", "dtype", "shape", "solid")

    def __init__(self, kind: type, dtype: np.dtype, shape: tuple[int, ...]):
        self.kind, self.dtype, self.shape = kind, dtype, shape
        self.solid = kind is np.ndarray and shape != () and math.prod(shape) < _LARGE


_form: Any = lru_cache(4096)(Form)  # (kind, dtype, shape) to its form


def form_of(array) -> Form:
    """The form of an array."""
    return _form(type(array), array.dtype, array.shape)


class Tensor(TensorMethods):
    """An n-dimensional array that remembers how it was computed.

    Made by `cr.tensor`, the factories (`cr.zeros` …) and by operations. Arithmetic, indexing and methods follow
    PyTorch's names and NumPy's broadcasting.

    >>> x = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> y = (x ** 2).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 4., 6.])
    """

    __slots__ = ("array", "_form", "_edge", "_live", "_grad", "__weakref__")
    array: np.ndarray
    _form: Form | None  # of `array`, None where nobody has asked for it
    _edge: Any

    def __init__(self, data, requires_grad: bool = False, dtype=None):
        self.array = as_array(data, dtype)
        self._form = form_of(self.array)
        self._edge = _INFERENCE if state.get().inference else None
        self._live = False
        self._grad = None
        if requires_grad:
            self.requires_grad_()

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each dimension."""
        return self.array.shape

    @property
    def dtype(self) -> np.dtype:
        """The NumPy dtype of the elements."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    @property
    def device(self) -> str:
        """Where the data lives."""
        return device_of(self.array)

    @property
    def is_cuda(self) -> bool:
        """Whether the data lives on a GPU."""
        return device_of(self.array) == "cuda"

    @property
    def nbytes(self) -> int:
        """The size of the elements in bytes."""
        return self.array.nbytes

    @property
    def itemsize(self) -> int:
        """The size of one element in bytes."""
        return self.array.itemsize

    def size(self, dim: int | None = None):
        """The shape, or the size of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    def numel(self) -> int:
        """The number of elements."""
        return self.array.size

    def element_size(self) -> int:
        """The size of one element in bytes."""
        return self.array.itemsize

    def is_floating_point(self) -> bool:
        """Whether the dtype is floating, so that the tensor can require a gradient."""
        return is_floating(self.array.dtype)

    def is_contiguous(self) -> bool:
        """Whether the elements lie in C order without gaps."""
        return self.array.flags.c_contiguous

    def __len__(self) -> int:
        if not self.array.ndim:
            raise TypeError("len() of a 0-d tensor: it has no dimension to count; use t.numel()")
        return self.array.shape[0]

    def __iter__(self):
        if not self.array.ndim:
            raise TypeError("iteration over a 0-d tensor: it has no dimension to walk; use t.item()")
        return iter(self.unbind())

    def __bool__(self) -> bool:
        return bool(self._one("bool()"))

    def __float__(self) -> float:
        return float(self._one("float()"))

    def __int__(self) -> int:
        return int(self._one("int()"))

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iub":
            raise TypeError(f"a tensor of dtype {self.dtype} was used as an index; only integers can be; use int(t)")
        return int(self._one("an index"))

    def _one(self, wanted: str):
        for watch in state.get().watch:
            watch.left(self, wanted.removesuffix("()").removeprefix("an "))
        if self.array.size != 1:
            raise ValueError(
                f"{wanted} of a tensor of shape {self.shape}: only one element has one value; use .all(), .any() or "
                ".sum() first"
            )
        return self.array.reshape(())[()]

    __hash__ = object.__hash__

    def __contains__(self, value) -> bool:
        return bool((self.array == as_array(value)).any())

    def __repr__(self) -> str:
        return _describe(self, "tensor")

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return mimebundle(self)

    def __format__(self, spec: str) -> str:
        if self.array.ndim == 0 or (spec and self.array.size == 1):
            return format(self.item(), spec)
        try:
            return format(repr(self), spec)
        except ValueError:
            raise ValueError(
                f"the format {spec!r} of a tensor of shape {self.shape}: only one element is formatted as a number; "
                "use t.item(), or format each of t.tolist()"
            ) from None

    # ---- its data elsewhere ------------------------------------------------------------------------------------------

    def item(self):
        """The value of a tensor with one element, as a Python number."""
        return self._one("item()").item()

    def tolist(self):
        """The values as nested Python lists."""
        for watch in state.get().watch:
            watch.left(self, "tolist")
        return self.array.tolist()

    def numpy(self) -> np.ndarray:
        """A read-only NumPy view of the data, without a copy.

        Read-only, because the graph may have kept these values: `.numpy().copy()` may be changed at will, and
        `with cr.no_grad(): t[...] = v` changes the tensor with the engine's knowledge.

        >>> cr.tensor([1.0, 2.0]).numpy()
        array([1., 2.], dtype=float32)
        """
        if self._live:
            raise RuntimeError(
                f"numpy() of a tensor of shape {self.shape} that requires grad: NumPy would compute without recording; "
                "use t.detach().numpy()"
            )
        if device_of(self.array) != "cpu":
            raise TypeError(
                f"numpy() of a tensor of shape {self.shape} on {self.device}: NumPy reads the CPU's memory only; copy "
                "it there first, by t.cpu().numpy()"
            )
        view = np.asarray(self.array).view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype=None, copy=None):
        view = self.numpy()
        return np.array(view, dtype=dtype) if copy else view if dtype is None else view.astype(dtype, copy=False)

    def __dlpack__(self, **options):
        """The data for another library, without a copy.

        The engine cannot see what the other library writes: do not change it while a graph needs its values.
        """
        if self._live:
            raise RuntimeError(
                f"__dlpack__ of a tensor of shape {self.shape} that requires grad: the other library would compute "
                "without recording; pass t.detach()"
            )
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def detach(self) -> Tensor:
        """The same data (shared, not copied) outside any graph."""
        return outside(self, "detach", self.array)

    @property
    def data(self) -> Tensor:
        """The same data outside any graph; assigning replaces the data of this tensor."""
        return self.detach()

    @data.setter
    def data(self, value):
        array = as_array(value)
        if array is self.array:  # `t.data += x` ends with the assignment of what was changed in place
            return
        if self.grad_fn is not None:
            raise RuntimeError(
                f"data was assigned to a tensor of shape {self.shape} that an operation computed; assign to a leaf, "
                "or make a new tensor"
            )
        if self._live and not is_floating(array.dtype):
            raise TypeError(
                f"data of dtype {array.dtype} was assigned to a tensor that requires grad: only floating tensors have "
                "derivatives; convert it first, e.g. with .float()"
            )
        self.array = array if isinstance(value, Tensor) else array.copy()
        self._form = form_of(self.array)

    # ---- gradients ---------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded and gradients flow to it."""
        return self._live

    @requires_grad.setter
    def requires_grad(self, value: bool):
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set, in place, whether a gradient is wanted; returns self.

        >>> cr.zeros(2).requires_grad_().requires_grad
        True
        """
        if requires_grad and not is_floating(self.array.dtype):
            raise TypeError(
                f"requires_grad on a tensor of dtype {self.dtype}: only floating tensors have derivatives; "
                "convert it first, e.g. t.to(cr.float32)"
            )
        if requires_grad and self._edge is _INFERENCE:
            raise RuntimeError("requires_grad on a tensor made in inference_mode; use t.clone() outside of it first")
        if not requires_grad and self._live and self._edge is not None:
            raise RuntimeError("requires_grad = False on a result of an operation; use t.detach() to leave the graph")
        self._live = bool(requires_grad)
        return self

    @property
    def grad_fn(self) -> Node | None:
        """The node that computed it, None for a leaf."""
        edge = self._edge
        return edge if type(edge) is Node else edge[0] if type(edge) is tuple else None

    @property
    def is_leaf(self) -> bool:
        """Whether it was made by the user rather than computed by a recorded operation."""
        return not self._live or self._edge is None

    def is_inference(self) -> bool:
        """Whether it was made in `inference_mode`."""
        return self._edge is _INFERENCE

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` accumulated here, None before."""
        return self._grad

    @grad.setter
    def grad(self, value):
        if value is None:
            self._grad = None
            return
        if not isinstance(value, Tensor) or _kind(value) != _kind(self):
            got = (
                f"a tensor of shape {value.shape} and dtype {value.dtype} on {value.device}"
                if isinstance(value, Tensor)
                else _short(value)
            )
            raise TypeError(
                f"grad was set to {got}; a gradient is a tensor of shape {self.shape} and dtype {self.dtype} on "
                f"{self.device}"
            )
        self._grad = value

    def backward(
        self, gradient=None, retain_graph: bool | None = None, create_graph: bool = False, inputs=None
    ) -> None:
        """Add the gradient of this tensor to `.grad` of every leaf that it was computed from.

        With y this tensor and `gradient` = ∂L/∂y (1 for a scalar), each leaf x gets x.grad += (∂y/∂x)ᵀ ∂L/∂y.

        Errors: RuntimeError if nothing was recorded, if `gradient` is missing and y is no scalar, on a second walk
        without `retain_graph=True`, and if a kept value was changed in place.

        >>> x = cr.tensor(3.0, requires_grad=True)
        >>> (x * x).backward()
        >>> x.grad.item()
        6.0
        """
        _backward()(self, gradient, retain_graph, create_graph, inputs)

    def retain_grad(self) -> None:
        """Keep the gradient of this result in `.grad` too, as leaves do."""
        if not self._live:
            raise RuntimeError(
                "retain_grad on a tensor that does not require grad; call requires_grad_() before computing it"
            )
        if self._edge is not None and not keeps_grad(self):
            self.register_hook(_Keep(self))

    def register_hook(self, hook) -> Handle:
        """Call `hook(gradient)` when the gradient of this tensor is known; what it returns (if not None) replaces it.

        >>> x = cr.tensor(1.0, requires_grad=True)
        >>> handle = x.register_hook(lambda g: g * 10)
        >>> (x * 2).backward(); x.grad.item()
        20.0
        """
        if not self._live:
            raise RuntimeError("register_hook on a tensor that does not require grad: no gradient will ever reach it")
        edge = self._edge
        if edge is None:
            return Handle(leaf_hooks, self, hook)
        node, index = (edge, 0) if type(edge) is Node else edge
        return Handle(node_hooks, node, (index, hook))

    @property
    def _version(self) -> int:
        """Changes whenever the engine writes to this memory."""
        return writes.version(self.array)

    def __deepcopy__(self, memo):
        if self._edge is not None and self._live:
            raise RuntimeError(
                f"deepcopy of a tensor of shape {self.shape} that an operation computed: a copy of the value cannot "
                "share the graph; use t.detach().clone(), or copy the leaves"
            )
        copy = type(self).__new__(type(self))
        copy.array, copy._form, copy._edge, copy._live = self.array.copy(), self._form, self._edge, self._live
        copy._grad = None if self._grad is None else result(self._grad.array.copy())
        for name, value in getattr(self, "__dict__", {}).items():
            setattr(copy, name, value)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol):
        if self._edge is not None and self._live:
            raise TypeError("pickle of a tensor that an operation computed: its graph cannot be stored; use t.detach()")
        return _unpickle, (type(self), self.array, self._live), getattr(self, "__dict__", None)


def _kind(tensor):
    return tensor.shape, tensor.dtype, tensor.device


def _unpickle(cls, array, live):
    tensor = cls.__new__(cls)
    tensor.array = array = as_array(array)
    tensor._form, tensor._edge, tensor._live, tensor._grad = form_of(array), None, live, None
    return tensor


class _Keep:
    """The hook of `retain_grad`, which does not keep the tensor alive."""

    __slots__ = ("tensor",)

    def __init__(self, tensor):
        self.tensor = weakref.ref(tensor)

    def __call__(self, gradient):
        tensor = self.tensor()
        if tensor is not None:
            tensor._grad = gradient.clone() if tensor._grad is None else tensor._grad + gradient


def keeps_grad(tensor) -> bool:
    """Whether `retain_grad` was called on a result."""
    return any(isinstance(hook, _Keep) and hook.tensor() is tensor for _, hook in node_hooks.get(tensor.grad_fn))


class Handle:
    """Removes the hook that made it: `handle.remove()`, or leave its `with` block."""

    def __init__(self, table, key, entry):
        table.add(key, entry)
        self._table, self._key, self._entry = table, weakref.ref(key), entry

    def remove(self) -> None:
        """Take the hook away; doing so twice does nothing."""
        key = self._key()
        if key is not None:
            self._table.remove(key, self._entry)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


_new = Tensor.__new__
_INSTEAD = (
    "join the parts by cr.stack or cr.cat, or write base[index] = value with a value that is no view of the base, "
    "or use t.clone() first"
)


def result(array, edge=None, live=False) -> Tensor:
    """The tensor around an array that an operation made."""
    tensor = _new(Tensor)
    tensor.array = array
    tensor._form = None
    tensor._edge = edge if edge is not None or not state.get().inference else _INFERENCE
    tensor._live = live
    tensor._grad = None
    return tensor


def leaf(array) -> Tensor:
    """The tensor around an array that no operation made, and that many may use."""
    tensor = result(array)
    tensor._form = form_of(array)
    return tensor


@cache
def _backward():
    """The walk, whose module imports this one: found once, for an import statement takes 2 µs each time."""
    from .backward import backward

    return backward


def outside(tensor: Tensor, how: str, array) -> Tensor:
    """The tensor around an array that was made of `tensor` and has no derivative (see `Watch.left`)."""
    for watch in state.get().watch:
        watch.left(tensor, how, array)
    return result(array)


def note_write(*tensors: Tensor) -> None:
    """Tell the engine that the arrays of `tensors` were written to, so that graphs which kept their values can refuse.

    >>> t = cr.zeros(2); t.array[0] = 1; cr.autograd.note_write(t)
    """
    writes.note(*[tensor.array for tensor in tensors], recorded=False)


def write(tensor: Tensor, new: Tensor) -> Tensor:
    """Write the recorded or unrecorded result `new` into `tensor`'s memory; the tensor continues `new`'s history."""
    if new.shape != tensor.shape:
        raise ValueError(
            f"a result of shape {new.shape} cannot be written in place into a tensor of shape {tensor.shape}; "
            "use the operation that returns a new tensor"
        )
    if not np.can_cast(new.dtype, tensor.dtype, casting="same_kind"):
        raise TypeError(
            f"a result of dtype {new.dtype} cannot be written in place into a tensor of dtype {tensor.dtype}; "
            "convert the tensor first"
        )
    if not is_writeable(tensor.array):
        raise RuntimeError("a write in place to read-only memory (an expanded or imported array); use t.clone() first")
    owner = root(tensor.array)
    # One reference more is the tensor's own. With others, something else looks at the same memory.
    if new._live and (owner is not tensor.array or not tensor._live) and getrefcount(owner) > ALONE + 1:
        view = owner is not tensor.array
        raise RuntimeError(
            f"a recorded write into {'a view' if view else 'a constant'} (shape {tensor.shape}): "
            f"{'the tensor that it looks at' if view else 'a view or array that shares its memory'} could not follow; "
            f"{_INSTEAD}"
        )
    if new._live and new.dtype is not tensor.dtype:
        new = new.to(tensor.dtype)
    tensor.array[...] = new.array
    writes.note(tensor.array, recorded=new._live or (tensor._live and state.get().record))
    if new._live:
        tensor._edge, tensor._live = new._edge, True
    elif tensor._live and state.get().record:
        tensor._edge, tensor._live = None, False  # it holds constants that depend on nothing
    return tensor


def is_writeable(array) -> bool:
    """Whether `array` may be written to: not if it is read-only or shows one element in several places."""
    if type(array) is np.ndarray:
        return array.flags.writeable
    return 0 in array.shape or all(stride or n < 2 for stride, n in zip(array.strides, array.shape, strict=True))


def check_writable(tensor: Tensor, operation: str) -> None:
    """RuntimeError if `operation` may not change `tensor` in place under the present recording state."""
    if not state.get().record:
        return
    if tensor._live and tensor._edge is None:
        raise RuntimeError(
            f"{operation} on a leaf of shape {tensor.shape} that requires grad: the graph would lose the leaf's own "
            "value; wrap it in `with cr.no_grad():`, or compute a new tensor"
        )
    if tensor.array.base is not None and tensor._live and root(tensor.array) is not tensor.array:
        raise RuntimeError(
            f"{operation} on a view (shape {tensor.shape}) inside a graph: the tensor that it looks at could not "
            f"follow; {_INSTEAD}"
        )


def array_of(x):
    """The array of a tensor; what is none, itself."""
    return x.array if isinstance(x, Tensor) else x


def is_number(value) -> bool:
    """Whether `value` is a Python number or a NumPy scalar that acts like one."""
    return isinstance(value, (numbers.Real, np.bool_)) and not isinstance(value, Tensor)


def _describe(tensor: Tensor, word: str) -> str:
    prefix = word + "("
    body = np.array2string(to_device(tensor.array, "cpu"), separator=", ", prefix=prefix, threshold=1000, precision=4)
    extras = []
    if tensor.array.size == 0 and tensor.ndim != 1:
        extras.append(f"size={tensor.shape}")
    if tensor.dtype not in (_default_dtype, int64, bool_):
        extras.append(f"dtype={tensor.dtype}")
    if tensor.device != "cpu":
        extras.append(f"device='{tensor.device}'")
    if tensor.grad_fn is not None and tensor._live:
        extras.append(f"grad_fn={tensor.grad_fn!r}")
    elif tensor._live:
        extras.append("requires_grad=True")
    return prefix + ", ".join([body, *extras]) + ")"
