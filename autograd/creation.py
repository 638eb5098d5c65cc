"""Tensors from data and from nothing."""

from __future__ import annotations

import numpy as np

from ..kernels import device_of, for_array, for_device, is_array
from .ops.axes import sizes
from .ops.convert import clone, to
from .ops.shape import broadcast_to
from .tensor import Tensor, as_array, as_device, as_dtype, get_default_dtype, leaf, outside, result


def tensor(data, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """A tensor holding a copy of `data`: numbers, nested lists, a NumPy or CuPy array.

    Python floats become float32 (see `set_default_dtype`), Python ints int64; NumPy arrays keep their dtype.

    >>> cr.tensor([[1, 2], [3, 4]], dtype=cr.float32)
    tensor([[1., 2.],
            [3., 4.]])
    """
    array = as_array(data, dtype, _place(data, device))
    copy = for_array(array).array(array, copy=True, order="C")
    made = outside(data, "cr.tensor", copy) if isinstance(data, Tensor) else leaf(copy)
    return made.requires_grad_() if requires_grad else made


def as_tensor(data, dtype=None, device=None) -> Tensor:
    """`data` as a tensor, sharing memory with an array or tensor on the same device where possible.

    The engine cannot see what you write to the shared array: do not change it while a graph needs its values.

    >>> a = np.zeros(2); t = cr.as_tensor(a); a[0] = 1; t.tolist()
    [1.0, 0.0]
    """
    if isinstance(data, Tensor):
        return to(data, dtype=dtype, device=device)
    return leaf(as_array(data, dtype, _place(data, device)))


def _place(data, device):
    """The device named; else that of the data, or the default for what is on the CPU only because NumPy is."""
    on_gpu = is_array(data) and device_of(data) != "cpu"
    return None if device is None and (on_gpu or isinstance(data, Tensor)) else as_device(device)


def send(x, device):
    """(x on a device, a function to call before it is used): the copy to a GPU runs beside the GPU's work.

    >>> x, arrived = cr.autograd.send(cr.ones(2), "cpu")
    >>> arrived(); x.tolist()
    [1.0, 1.0]
    """
    device = as_device(device)
    if device == x.device or device == "cpu":
        return to(x, device=device), lambda: None
    array, arrived = for_device(device).send(x.array)
    return result(array), arrived


def from_numpy(array) -> Tensor:
    """A tensor that shares the memory of a NumPy array (see `as_tensor`).

    >>> cr.from_numpy(np.ones(2)).dtype
    dtype('float64')
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"from_numpy: received {type(array).__name__}; pass a NumPy array; cr.tensor takes lists and numbers"
        )
    return as_tensor(array)


def from_dlpack(source) -> Tensor:
    """A tensor that shares the memory of any object with `__dlpack__` (PyTorch, JAX, CuPy …).

    >>> cr.from_dlpack(np.arange(3)).tolist()
    [0, 1, 2]
    """
    on = "cpu" if source.__dlpack_device__()[0] in (1, 3) else "cuda"  # kDLCPU, kDLCUDAHost of dlpack.h
    return leaf(as_array(for_device(on).from_dlpack(source)))


def _filled(who, shape, fill, dtype, device, requires_grad):
    kernels = for_device(as_device(device))
    shape = sizes(who, shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"{who}: received the shape {shape}; sizes are at least 0")
    made = leaf(fill(kernels, shape, get_default_dtype() if dtype is None else as_dtype(dtype)))
    return made.requires_grad_() if requires_grad else made


def zeros(*shape, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Zeros of the shape given.

    >>> cr.zeros(2)
    tensor([0., 0.])
    """
    return _filled("zeros", shape, lambda k, s, d: k.zeros(s, d), dtype, device, requires_grad)


def ones(*shape, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Ones of the shape given.

    >>> cr.ones((1, 2))
    tensor([[1., 1.]])
    """
    return _filled("ones", shape, lambda k, s, d: k.ones(s, d), dtype, device, requires_grad)


def empty(*shape, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Memory of the shape given, with whatever values it holds.

    >>> cr.empty(2, 3).shape
    (2, 3)
    """
    return _filled("empty", shape, lambda k, s, d: k.empty(s, d), dtype, device, requires_grad)


def full(size, fill_value, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """One value everywhere; the dtype is that of the value unless given.

    >>> cr.full((2,), 7)
    tensor([7, 7])
    """
    dtype = as_array(fill_value).dtype if dtype is None else dtype
    size = size if isinstance(size, (tuple, list)) else (size,)
    return _filled("full", (tuple(size),), lambda k, s, d: k.full(s, fill_value, d), dtype, device, requires_grad)


def arange(start, end=None, step=1, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """The numbers start, start + step, … below end; integers give int64, floats the default dtype.

    >>> cr.arange(0, 1, 0.25)
    tensor([0.  , 0.25, 0.5 , 0.75])
    """
    start, end = (0, start) if end is None else (start, end)
    if step == 0 or (end - start) / step < 0:
        raise ValueError(
            f"arange: received start={start}, end={end}, step={step}; the step must lead from start to end"
        )
    whole = all(isinstance(v, (int, np.integer)) for v in (start, end, step))
    dtype = (np.int64 if whole else get_default_dtype()) if dtype is None else dtype
    fill = lambda k, _, d: k.arange(start, end, step).astype(d)  # noqa: E731
    return _filled("arange", (0,), fill, dtype, device, requires_grad)


def linspace(start, end, steps: int, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """`steps` numbers evenly spaced from start to end, both included.

    >>> cr.linspace(0, 1, 3)
    tensor([0. , 0.5, 1. ])
    """
    if steps < 0:
        raise ValueError(f"linspace: received steps={steps}; it must be at least 0")
    fill = lambda k, _, d: k.linspace(start, end, steps, dtype=d)  # noqa: E731
    return _filled("linspace", (0,), fill, dtype, device, requires_grad)


def eye(n: int, m: int | None = None, *, dtype=None, device=None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an n × m matrix, zeros elsewhere.

    >>> cr.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    shape = (n, n if m is None else m)
    return _filled("eye", (shape,), lambda k, s, d: k.eye(*s, dtype=d), dtype, device, requires_grad)


def _like(x) -> dict:
    return {"dtype": x.dtype, "device": x.device if isinstance(x, Tensor) else None}


def zeros_like(x, **options) -> Tensor:
    """Zeros of the shape and dtype of x.

    >>> cr.zeros_like(cr.ones(2))
    tensor([0., 0.])
    """
    return zeros(x.shape, **{**_like(x), **options})


def ones_like(x, **options) -> Tensor:
    """Ones of the shape and dtype of x.

    >>> cr.ones_like(cr.zeros(2))
    tensor([1., 1.])
    """
    return ones(x.shape, **{**_like(x), **options})


def empty_like(x, **options) -> Tensor:
    """`empty` of the shape and dtype of x.

    >>> cr.empty_like(cr.zeros(2)).shape
    (2,)
    """
    return empty(x.shape, **{**_like(x), **options})


def full_like(x, fill_value, **options) -> Tensor:
    """One value in the shape and dtype of x.

    >>> cr.full_like(cr.zeros(2), 3)
    tensor([3., 3.])
    """
    return full(x.shape, fill_value, **{**_like(x), **options})


def meshgrid(*tensors, indexing: str = "ij"):
    """The coordinates of a grid, one tensor for each axis.

    >>> [g.tolist() for g in cr.meshgrid(cr.arange(2), cr.arange(2))]
    [[[0, 0], [1, 1]], [[0, 1], [0, 1]]]
    """
    if indexing not in ("ij", "xy"):
        raise ValueError(
            f"meshgrid: received indexing={indexing!r}; pass 'ij' (matrix order) or 'xy' (the first two swapped)"
        )
    axes = [t if isinstance(t, Tensor) else Tensor(t) for t in tensors]
    order = [1, 0, *range(2, len(axes))] if indexing == "xy" and len(axes) > 1 else [*range(len(axes))]
    shape = tuple(axes[i].numel() for i in order)
    grids = [t.reshape([n if order[d] == i else 1 for d, n in enumerate(shape)]) for i, t in enumerate(axes)]
    return tuple(clone(broadcast_to(g, shape)) for g in grids)
