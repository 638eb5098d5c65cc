"""Compiling the `.cu` files beside this one, once per dtype, and launching their kernels on CuPy's current stream."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import cupy
import numpy as np

_TYPES = {"float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double"}
_FOLDER = Path(__file__).parent
_MOST_BLOCKS = 1 << 16  # of a grid-stride loop: enough for every GPU, few enough to start quickly
_WIDE = (1 << 31) - (_MOST_BLOCKS << 10)  # elements from which index_t has 64 bits: i + one stride must fit in it
_SHARED = 48 << 10  # bytes of dynamic shared memory that a kernel has without asking


def launch(file, name, dtype, grid, block, args, *, shared=0, cooperative=False, **defines):
    """Launch kernel `name` of `file`.cu compiled for `dtype`, with `defines` as further macros.

    grid, block: an int or a tuple; a grid without blocks launches nothing. args: arrays (dense where the kernel takes
    them so), None for a null pointer, ints (index_t), floats (A), NumPy scalars as they are. shared: bytes of dynamic
    shared memory.
    """
    grid, block = _triple(grid), _triple(block)
    if 0 in grid:
        return
    wide = False
    for a in args:
        if type(a) is cupy.ndarray and a.size >= _WIDE:
            wide = True
    kernel, whole, single = _kernel(file, name, dtype, wide, cooperative, tuple(defines.items()))
    if shared > _SHARED:
        kernel.max_dynamic_shared_size_bytes = shared
    kernel(grid, block, tuple([_argument(a, whole, single) for a in args]), shared_mem=shared)


def blocks(n, block=256, per_thread=1) -> int:
    """How many blocks a grid-stride loop over n elements takes."""
    return min(-(-n // (block * per_thread)), _MOST_BLOCKS)


def number(value):
    """A number that a kernel takes as (double, const double*): what it is, or where on the GPU it will be found."""
    if isinstance(value, cupy.ndarray):
        return np.float64(0), value.astype(np.float64, copy=False)
    return np.float64(value), None


def _triple(size):
    return (size, 1, 1) if isinstance(size, int) else (*size, 1, 1)[:3]


def _argument(a, whole, single):
    kind = type(a)
    if kind is int or kind is bool:
        try:
            return whole(a)
        except OverflowError:
            raise ValueError(
                f"a kernel received the whole number {a}, but counts in {whole.__name__}, because none of its arrays "
                f"has {_WIDE} elements; split the work"
            ) from None
    if kind is float:
        return single(a)
    return np.intp(0) if a is None else a


@cache
def source(file) -> str:
    """The text of a kernel file with the files of this folder that it includes put in, each once."""
    seen = set()

    def put_in(match):
        name = match.group(1)
        if name in seen:
            return ""
        seen.add(name)
        return re.sub(r'^#include "(.+)"$', put_in, (_FOLDER / name).read_text(), flags=re.MULTILINE)

    return put_in(re.match("(.*)", f"{file}.cu"))


def program(file, dtype, wide=False, defines=()) -> tuple[str, tuple[str, ...]]:
    """(the CUDA C++ of a file for a dtype by name, the compiler's options).

    T, A and index_t are types in the text: macros of such names would break NVRTC's own headers.
    """
    kind = _TYPES.get(dtype)
    if kind is None:
        raise TypeError(f"received an array of {dtype}: the CUDA kernels compute in {', '.join(_TYPES)}; convert it")
    half = dtype in ("float16", "bfloat16")
    lines = ["#include <cuda_bf16.h>", "#include <cuda_fp16.h>"] if half else []
    lines.append(f"typedef {kind} T;")
    lines.append(f"typedef {'double' if kind == 'double' else 'float'} A;")
    lines.append(f"typedef {'long long' if wide else 'int'} index_t;")
    lines += [f"#define {name} {value}" for name, value in defines]
    return "\n".join([*lines, source(file)]), ("-std=c++17", *["-DHALF_HEADERS"] * half)


@cache
def _module(file, dtype, wide, cooperative, defines):
    code, options = program(file, dtype, wide, defines)
    return cupy.RawModule(code=code, options=options, enable_cooperative_groups=cooperative)


@cache
def _kernel(file, name, dtype, wide, cooperative, defines):
    """(the kernel, the type of whole numbers among its arguments, that of floating ones)"""
    dtype = np.dtype(dtype).name
    function = _module(file, dtype, wide, cooperative, defines).get_function(name)
    return function, np.int64 if wide else np.int32, np.float64 if dtype == "float64" else np.float32
