"""The stand-in's array: what cupy.ndarray offers and refuses, on NumPy underneath."""

import operator
import types
from math import prod

import numpy as np

from .memory import Memory, do, record, refuse_in_capture

_REFUSED = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)


class ndarray:
    """An array on the pretended GPU: `inner` shows its elements, `base` is the array whose memory it looks at."""

    __slots__ = ("inner", "base", "memory", "__weakref__")
    __hash__ = None
    __array_priority__ = 100

    def __new__(cls, shape, dtype=np.float64, strides=None):
        made = object.__new__(cls)
        dtype = np.dtype(dtype)
        shape = (shape,) if np.ndim(shape) == 0 and not isinstance(shape, tuple) else tuple(shape)
        size = dtype.itemsize * int(prod(shape))
        refuse_in_capture_if_new_memory(size)
        made.memory = Memory(size)
        made.inner = made.memory.array(shape, dtype, strides)
        made.base = None
        return made

    shape = property(lambda self: self.inner.shape)
    dtype = property(lambda self: self.inner.dtype)
    ndim = property(lambda self: self.inner.ndim)
    size = property(lambda self: self.inner.size)
    itemsize = property(lambda self: self.inner.itemsize)
    nbytes = property(lambda self: self.inner.nbytes)
    strides = property(lambda self: self.inner.strides)
    T = property(lambda self: look(self, lambda inner=self.inner: inner.T))
    mT = property(lambda self: look(self, lambda inner=self.inner: inner.mT))
    real = property(lambda self: look(self, lambda inner=self.inner: inner.real))
    data = property(lambda self: types.SimpleNamespace(ptr=self.inner.ctypes.data))
    device = property(lambda self: types.SimpleNamespace(id=0))

    @property
    def flags(self):
        own = self.inner.flags
        return types.SimpleNamespace(
            c_contiguous=own.c_contiguous, f_contiguous=own.f_contiguous, owndata=self.base is None
        )

    # ---- what waits for the GPU --------------------------------------------------------------------------------------

    def get(self, stream=None, order="C", out=None, blocking=True):
        refuse_in_capture("get()")
        return np.array(self.inner, order="K")

    def item(self, *args):
        refuse_in_capture("item()")
        return self.inner.item(*args)

    def tolist(self):
        refuse_in_capture("tolist()")
        return self.inner.tolist()

    def nonzero(self):
        refuse_in_capture("nonzero()")
        return tuple(map(own, self.inner.nonzero()))

    def __bool__(self):
        refuse_in_capture("bool()")
        return bool(self.inner)

    def __float__(self):
        refuse_in_capture("float()")
        return float(self.inner)

    def __int__(self):
        refuse_in_capture("int()")
        return int(self.inner)

    def __format__(self, spec):
        return format(self.inner if self.ndim else self.inner[()], spec)

    def __repr__(self):
        return repr(self.inner)

    def __str__(self):
        return str(self.inner)

    def __reduce__(self):
        return _unpickled, (self.get(),)

    def __deepcopy__(self, memo):
        return self.copy()

    # ---- shape and memory --------------------------------------------------------------------------------------------

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index):
        _check_index(index)
        return look(self, lambda inner=self.inner: inner[_index(index, inner.shape)])

    def __setitem__(self, index, value):
        _refuse_numpy(value)
        _check_index(index)
        inner, value = self.inner, unwrap(value)
        do(lambda: operator.setitem(inner, _index(index, inner.shape), value))

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return fresh(lambda inner=self.inner: inner.astype(dtype, order=order))

    def copy(self, order="C"):
        return fresh(lambda inner=self.inner: inner.copy(order))

    def reshape(self, *shape, order="C"):
        return look(self, lambda inner=self.inner: inner.reshape(*shape, order=order))

    def ravel(self, order="C"):
        return look(self, lambda inner=self.inner: inner.ravel(order))

    def flatten(self, order="C"):
        return fresh(lambda inner=self.inner: inner.flatten(order))

    def transpose(self, *axes):
        return look(self, lambda inner=self.inner: inner.transpose(*axes))

    def swapaxes(self, a, b):
        return look(self, lambda inner=self.inner: inner.swapaxes(a, b))

    def squeeze(self, axis=None):
        return look(self, lambda inner=self.inner: inner.squeeze(axis))

    def diagonal(self, offset=0, axis1=0, axis2=1):
        return look(self, lambda inner=self.inner: inner.diagonal(offset, axis1, axis2))

    def view(self, dtype=None, array_class=None):
        return look(self, lambda inner=self.inner: inner.view() if dtype is None else inner.view(dtype))

    def fill(self, value):
        inner, value = self.inner, unwrap(value)
        do(lambda: inner.fill(value))

    def set(self, values, stream=None):
        refuse_in_capture("set()")
        self.inner[...] = values

    # ---- protocols ---------------------------------------------------------------------------------------------------

    def __array__(self, dtype=None, copy=None):
        raise TypeError(_REFUSED)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        from . import module

        if method != "__call__" or not hasattr(module.CUPY, ufunc.__name__):
            return NotImplemented
        return getattr(module.CUPY, ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, function, kinds, args, kwargs):
        from . import module

        if not hasattr(module.CUPY, function.__name__):
            return NotImplemented
        return getattr(module.CUPY, function.__name__)(*args, **kwargs)

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **options):
        return self


def _unpickled(values):
    made = ndarray(values.shape, values.dtype)
    made.inner[...] = values
    return made


def refuse_in_capture_if_new_memory(size):
    """Memory comes from the graph's pool while it is captured: see `module.using_allocator`."""
    from . import memory

    if memory.capturing and size and not memory.in_pool:
        refuse_in_capture("new memory outside the graph's pool")


def fresh(compute, first=None):
    """A new array of what `compute()` gives, computed anew at each replay of a graph that is captured."""
    made = own(compute() if first is None else first)
    record(lambda: made.inner.__setitem__(..., compute()))
    return made


def own(result):
    """A NumPy result as an array of the GPU with memory of its own, laid out alike."""
    result = np.asarray(result)
    dense = result.flags.forc or result.base is None
    made = ndarray(result.shape, result.dtype, result.strides if dense and result.size and result.ndim else None)
    made.inner[...] = result
    return made


def look(parent, compute):
    """A result that may look at its parent's memory, or has its own."""
    result = compute()
    if not (isinstance(result, np.ndarray) and (np.may_share_memory(result, parent.inner) or _empty_view(result))):
        return fresh(compute, result)
    made = object.__new__(ndarray)
    made.inner, made.memory = result, parent.memory
    made.base = parent if parent.base is None else parent.base
    return made


def _empty_view(result):
    return result.size == 0 and result.base is not None


def unwrap(value):
    if isinstance(value, ndarray):
        return value.inner
    if isinstance(value, (tuple, list)):
        return type(value)(map(unwrap, value)) if not hasattr(value, "_fields") else type(value)(*map(unwrap, value))
    return value


def _refuse_numpy(value):
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")


def _check_index(index):
    """As CuPy: slices, integers, None, Ellipsis, arrays of the GPU, lists; NumPy arrays would be copied there."""
    for part in index if isinstance(index, tuple) else (index,):
        if isinstance(part, (np.ndarray, list)):
            refuse_in_capture("an index array of the CPU")
        if isinstance(part, ndarray) and part.dtype == bool:
            refuse_in_capture("a mask as an index")


def _index(index, shape):
    """An index as NumPy's: CuPy takes the elements of index arrays modulo the axis, where NumPy raises IndexError."""
    parts = index if isinstance(index, tuple) else (index,)
    axes = [_axes(part) for part in parts]
    made, axis = [], 0
    for part, used in zip(parts, axes, strict=True):
        inner = unwrap(part)
        if isinstance(inner, np.ndarray) and inner.dtype.kind in "iu" and axis < len(shape) and shape[axis]:
            inner = inner % shape[axis]
        made.append(inner)
        axis += len(shape) - sum(axes) if part is Ellipsis else used
    return tuple(made) if isinstance(index, tuple) else made[0]


def _axes(part):
    """How many axes a part of an index takes."""
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    return part.ndim if isinstance(part, (ndarray, np.ndarray)) and part.dtype == bool else 1


# ---- operators and methods that are functions ------------------------------------------------------------------------


def _call(name, *args, **kwargs):
    from . import module

    return getattr(module.CUPY, name)(*args, **kwargs)


def _operator(name, swapped=False):
    def method(self, other):
        if not isinstance(other, (ndarray, np.ndarray, np.generic, int, float, complex)):
            return NotImplemented
        return _call(name, other, self) if swapped else _call(name, self, other)

    return method


def _in_place(name):
    function = getattr(operator, name)

    def method(self, other):
        _refuse_numpy(other)
        inner, other = self.inner, unwrap(other)
        do(lambda: function(inner, other))
        return self

    return method


BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
    "matmul": "matmul",
}
for _short, _long in BINARY.items():
    setattr(ndarray, f"__{_short}__", _operator(_long))
    setattr(ndarray, f"__r{_short}__", _operator(_long, swapped=True))
    if _short != "matmul":
        setattr(ndarray, f"__i{_short}__", _in_place(f"i{_short}" if _short not in ("and", "or") else f"i{_short}"))
for _short, _long in dict(
    lt="less", le="less_equal", gt="greater", ge="greater_equal", eq="equal", ne="not_equal"
).items():
    setattr(ndarray, f"__{_short}__", _operator(_long))
for _short, _long in dict(neg="negative", abs="absolute", invert="invert").items():
    setattr(ndarray, f"__{_short}__", lambda self, _long=_long: _call(_long, self))
METHODS = "all any argmax argmin argsort clip cumprod cumsum dot max mean min prod repeat round std sum take var"
for _name in METHODS.split():
    setattr(ndarray, _name, lambda self, *args, _name=_name, **kwargs: _call(_name, self, *args, **kwargs))
