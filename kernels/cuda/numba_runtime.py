"""Compiling kernels in Python, once per types of arguments, and launching them on CuPy's current stream.

Numba compiles to PTX and nvJitLink to machine code; CuPy loads and launches that, since Numba's own launch takes ten
times as long on the host and hides the arrays' stream.
"""

from functools import cache
from importlib import import_module

import cupy
import numpy as np

_MOST = (1 << 31) - 1  # what int32 counts


def launch(file, name, dtype, grid, block, args):
    """Launch kernel `name` of `file`.py. args as of `runtime.launch`: arrays, ints (int32), floats (dtype)."""
    grid, block = ((size, 1, 1) if isinstance(size, int) else (*size, 1, 1)[:3] for size in (grid, block))
    if 0 in grid:
        return
    values = tuple(_argument(name, a, dtype) for a in args)
    kernel(file, name, tuple(_type(v) for v in values), cupy.cuda.Device().id)(grid, block, values)


def _argument(name, a, dtype):
    if isinstance(a, cupy.ndarray):
        if a.size <= _MOST:
            return a
        raise ValueError(
            f"the Numba kernel {name} received an array of {a.size} elements, but counts in int32: leave out "
            "CHAINRULE_KERNELS=numba, the CUDA C++ kernels count further"
        )
    return np.int32(a) if isinstance(a, int) else np.dtype(dtype).type(a) if isinstance(a, float) else a


def _type(value):
    """(its dtype's name, whether it is an array)"""
    return value.dtype.name, isinstance(value, cupy.ndarray)


@cache
def kernel(file, name, types, device):
    """The compiled kernel for arguments of these types, loaded on the present device."""
    function = getattr(import_module(f"{__package__}.{file}"), name)
    code, entry = compiled(function, types, divmod(int(cupy.cuda.Device().compute_capability), 10))
    loaded = cupy.cuda.Module()
    loaded.load(code)
    return loaded.get_function(entry)


def compiled(function, types, capability):
    """(machine code, its entry's name) of a Python function for a GPU of that capability; needs no GPU."""
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda, from_dtype
    from numba.types import CPointer

    signature = tuple(CPointer(from_dtype(np.dtype(t))) if array else from_dtype(np.dtype(t)) for t, array in types)
    text, _ = cuda.compile(function, signature, device=False, abi="numba", cc=capability)
    entry = text.split(".entry", 1)[1].split("(", 1)[0].strip()
    options = LinkerOptions(arch="sm_{}{}".format(*capability))
    return bytes(Linker(ObjectCode.from_ptx(text.encode()), options=options).link("cubin").code), entry
