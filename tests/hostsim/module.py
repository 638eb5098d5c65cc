"""The stand-in's module `cupy`: the functions that CuPy 14.2 has, with the arguments that it takes, computed by NumPy.

`cupy_names.json` lists them: {name: "ufunc" | "type" | "value" | [parameters] | null}. A name or an argument that CuPy
lacks is refused here too, and so are NumPy arrays among the operands.
"""

import json
import sys
import time
import types
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from . import memory, raw
from .array import fresh, look, ndarray, own, unwrap

NAMES = json.loads((Path(__file__).parent / "cupy_names.json").read_text())
_HOST_TOO = {"array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray", "from_dlpack", "asnumpy"}
_UFUNC_OPTIONS = {"out", "dtype", "casting"}
_WAITING = {"nonzero", "flatnonzero", "argwhere", "unique", "array_equal", "allclose", "asnumpy", "bincount", "isin"}


def _arrays(values):
    """The stand-in's arrays among arguments, lists and tuples of them included."""
    for v in values:
        if isinstance(v, ndarray):
            yield v
        elif isinstance(v, (list, tuple)):
            yield from _arrays(v)


def _refuse_numpy(name, values):
    for v in values:
        if isinstance(v, np.ndarray) and v.ndim:
            raise TypeError(f"{name}: Unsupported type <class 'numpy.ndarray'>")
        if isinstance(v, (list, tuple)):
            _refuse_numpy(name, v)


def _wrapped(compute, sources):
    """Results as arrays of the GPU, looking at a source's memory where NumPy's do."""
    result = compute()
    if isinstance(result, (tuple, list)):
        return type(result)(_wrapped(lambda i=i: compute()[i], sources) for i in range(len(result)))
    if isinstance(result, np.ndarray):
        for source in sources:
            if result is source.inner:
                return source
            if result.base is not None and np.may_share_memory(result, source.inner):
                return look(source, compute)
    return fresh(compute, result) if isinstance(result, (np.ndarray, np.generic)) else result


def _take(a, indices, axis=None, out=None):
    return np.take(a, indices, axis, out, mode="wrap" if a.size else "raise")


def _take_along_axis(a, indices, axis=-1):
    size = a.size if axis is None else a.shape[axis]
    return np.take_along_axis(a, indices % size if size else indices, axis)


#: what does otherwise than NumPy: indices count modulo the axis
_OTHERWISE = {"take": _take, "take_along_axis": _take_along_axis}


def _function(name, spec):
    inner = _OTHERWISE.get(name) or getattr(np, name)
    host = name in _HOST_TOO

    def function(*args, **kwargs):
        unknown = set(kwargs) - (_UFUNC_OPTIONS if spec == "ufunc" else set(spec or kwargs))
        if unknown and "**" not in (spec or ()):
            raise TypeError(f"{name}() got an unexpected keyword argument {sorted(unknown)} (CuPy's takes {spec})")
        if name in _WAITING or (name == "where" and len(args) == 1):
            memory.refuse_in_capture(name)
        if not host:
            _refuse_numpy(name, [*args, *kwargs.values()])
        sources = list(_arrays([*args, *kwargs.values()]))
        values, named = [unwrap(a) for a in args], {k: unwrap(v) for k, v in kwargs.items()}

        def compute():
            with np.errstate(all="ignore"):
                return inner(*values, **named)

        if isinstance(kwargs.get("out"), ndarray):
            memory.do(compute)
            return kwargs["out"]
        return _wrapped(compute, sources)

    function.__name__ = name
    return function


class Ufunc:
    """A CuPy ufunc: called, reduced along an axis, accumulated, or applied at places."""

    def __init__(self, name):
        self.name, self.inner, self.call = name, getattr(np, name), _function(name, "ufunc")
        self.nin, self.nout = getattr(self.inner, "nin", 1), getattr(self.inner, "nout", 1)

    def __call__(self, *args, **kwargs):
        return self.call(*args, **kwargs)

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        return fresh(lambda: self.inner.reduce(array.inner, axis, dtype, keepdims=keepdims))

    def accumulate(self, array, axis=0, dtype=None, out=None):
        return fresh(lambda: self.inner.accumulate(array.inner, axis, dtype))

    def at(self, array, indices, values=None):
        _refuse_numpy(self.name, [array, indices, values])
        inner, indices, values = array.inner, unwrap(indices), unwrap(values)
        memory.do(lambda: self.inner.at(inner, indices, values))


# ---- functions that are not NumPy's ----------------------------------------------------------------------------------


def empty(shape, dtype=float, order="C"):
    return ndarray(shape, dtype)


def empty_like(prototype, dtype=None, order="K", subok=None, shape=None):
    return own_like(prototype.inner, dtype, shape, order)


def own_like(inner, dtype, shape, order):
    like = np.empty_like(inner, dtype, order, True, shape)
    return ndarray(like.shape, like.dtype, like.strides if like.size and like.ndim else None)


def asnumpy(a, stream=None, order="C", out=None, blocking=True):
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def _taken_in(values, dtype, order, copy):
    if isinstance(values, ndarray):
        inner = np.asarray(values.inner, dtype=dtype, order=order)
        if not copy and inner is values.inner:
            return values
        return fresh(lambda: np.array(values.inner, dtype=dtype, order=order))
    memory.refuse_in_capture("a copy from the CPU")
    sources = list(_arrays([values]))
    return own(np.array(unwrap(values), dtype=dtype, order=order if not sources else "C"))


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, blocking=False):
    made = _taken_in(obj, dtype, order, copy)
    return made.reshape((1,) * (ndmin - made.ndim) + made.shape) if ndmin > made.ndim else made


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    return _taken_in(a, dtype, order or "K", bool(copy))


def ascontiguousarray(a, dtype=None):
    return _taken_in(a, dtype, "C", False)


def from_dlpack(array, device=None, copy=None):
    if not isinstance(array, ndarray):
        raise TypeError("the array to import is not on the GPU")
    return look(array, lambda: array.inner.view())


def scatter_add(a, slices, value):
    inner, slices, value = a.inner, unwrap(slices), unwrap(value)
    memory.do(lambda: np.add.at(inner, slices, value))


# ---- cupy.cuda -------------------------------------------------------------------------------------------------------


class Stream:
    def __init__(self, null=False, non_blocking=False, ptds=False):
        self.ptr = 0 if null else id(self)

    def __enter__(self):
        _streams.append(self)
        return self

    def __exit__(self, *exc):
        _streams.remove(self)

    def synchronize(self):
        memory.refuse_in_capture("synchronize()")

    def record(self, event=None):
        return event or Event()

    def wait_event(self, event):
        pass

    def use(self):
        _streams[:] = [self]
        return self

    def begin_capture(self, mode=None):
        if self.ptr == 0:
            raise RuntimeError("the null stream cannot be captured")
        self.capture = memory.Capture()

    def end_capture(self):
        return self.capture.end()


class Event:
    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.at = 0.0

    def record(self, stream=None):
        self.at = time.perf_counter()
        return self

    def synchronize(self):
        memory.refuse_in_capture("synchronize()")


_streams = [Stream(null=True)]


class MemoryPointer:
    """Memory that is no array: a workspace."""

    def __init__(self, size):
        self.inner = memory.Memory(size)
        self.ptr = self.inner.address


class MemoryPool:
    """A pool of a graph's own; the default one is None."""

    def malloc(self, size):
        return MemoryPointer(size)


@contextmanager
def using_allocator(allocator=None):
    before, memory.in_pool = memory.in_pool, allocator is not None
    try:
        yield
    finally:
        memory.in_pool = before


def alloc_pinned_memory(size):
    return bytearray(size)


def _cuda():
    cuda = types.ModuleType("cupy.cuda")
    cuda.Stream, cuda.Event = Stream, Event
    cuda.get_current_stream = lambda: _streams[-1]
    cuda.alloc = MemoryPointer
    cuda.get_elapsed_time = lambda begin, end: max(1e-6, (end.at - begin.at) * 1e3)
    cuda.alloc_pinned_memory = alloc_pinned_memory
    cuda.MemoryPool, cuda.using_allocator = MemoryPool, using_allocator
    cuda.is_available = lambda: True
    cuda.runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 1,
        CUDARuntimeError=RuntimeError,
        getDeviceProperties=lambda i: {"name": b"stand-in"},
        memGetInfo=lambda: (memory.limit - memory.in_use(), memory.limit),
    )
    cuda.memory = types.SimpleNamespace(OutOfMemoryError=memory.OutOfMemoryError)
    cuda.Device = lambda i=0: types.SimpleNamespace(id=i, synchronize=lambda: None, compute_capability="90")
    return cuda


# ---- putting it in place ---------------------------------------------------------------------------------------------


def _build():
    cupy = types.ModuleType("cupy")
    for name, spec in NAMES.items():
        if spec == "ufunc" and hasattr(np, name):
            setattr(cupy, name, Ufunc(name))
        elif spec in ("type", "value"):
            if hasattr(np, name):
                setattr(cupy, name, getattr(np, name))
        elif hasattr(np, name):
            setattr(cupy, name, _function(name, spec))
    for own_function in (empty, empty_like, asnumpy, array, asarray, ascontiguousarray, from_dlpack):
        setattr(cupy, own_function.__name__, own_function)
    cupy.matmul = _function("matmul", ["x1", "x2", "out"])
    cupy.ndarray, cupy.RawModule, cupy.cuda = ndarray, raw.RawModule, _cuda()
    cupy.is_available = lambda: True
    pool = types.SimpleNamespace(used_bytes=memory.in_use, total_bytes=memory.in_use)
    cupy.get_default_memory_pool = lambda: pool
    cupy.get_array_module = lambda *args: cupy if any(isinstance(a, ndarray) for a in args) else np
    cupy.linalg = types.SimpleNamespace(
        **{n: _linalg(n) for n in ("norm", "det", "inv", "solve", "cholesky", "qr", "svd", "eigh")}
    )
    cupy.__version__ = "14.2.0 (stand-in)"
    return cupy


def _linalg(name):
    inner = getattr(np.linalg, name)

    def function(*args, **kwargs):
        _refuse_numpy(name, args)
        values = [unwrap(a) for a in args]
        return _wrapped(lambda: inner(*values, **kwargs), [])

    return function


CUPY = _build()


def install():
    """Make `import cupy` give the stand-in, and cuBLAS its emulation."""
    cupyx = types.ModuleType("cupyx")
    cupyx.scatter_add = scatter_add
    pathfinder = types.ModuleType("cuda.pathfinder")
    pathfinder.load_nvidia_dynamic_lib = lambda name: types.SimpleNamespace(abs_path=_cublas())
    package = types.ModuleType("cuda")
    package.pathfinder = pathfinder
    sys.modules.update(
        {"cupy": CUPY, "cupy.cuda": CUPY.cuda, "cupyx": cupyx, "cuda": package, "cuda.pathfinder": pathfinder}
    )


@cache
def _cublas():
    text = (Path(__file__).parent / "cublas.cc").read_text()
    library = raw.compiled(text, ())
    library.noted = 0
    memory.libraries.append(library)
    return library._name


@contextmanager
def capturing(in_pool=True):
    """As while a CUDA graph is captured: what would wait for the GPU or take memory from outside its pool raises."""
    memory.capturing, memory.in_pool = True, in_pool
    try:
        yield
    finally:
        memory.capturing = memory.in_pool = False
