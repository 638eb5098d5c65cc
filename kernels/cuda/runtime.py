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


def launch(file, name, dtype, grid, block, args, *, shared=0, cooperative=False, **defines):
    """Launch kernel `name` of `file`.cu compiled for `dtype`, with `defines` as further macros.

    grid, block: an int or a tuple; a grid without blocks launches nothing. args: arrays (dense where the kernel takes
    them so), None for a null pointer, ints (index_t), floats (A), NumPy scalars as they are. shared: bytes of dynamic
    shared memory.
    """
    grid, block = _triple(grid), _triple(block)
    if 0 in grid:
        return
    wide = any([type(a) is cupy.ndarray and a.size >= 1 << 31 for a in args])
    function = _function(file, name, np.dtype(dtype).name, wide, cooperative, tuple(defines.items()))
    single = np.float64 if np.dtype(dtype) == np.float64 else np.float32
    whole = np.int64 if wide else np.int32
    function(grid, block, tuple([_argument(a, single, whole) for a in args]), shared_mem=shared)


def blocks(n, block=256, per_thread=1) -> int:
    """How many blocks a grid-stride loop over n elements takes."""
    return min(-(-n // (block * per_thread)), _MOST_BLOCKS)


def _triple(size):
    return (size, 1, 1) if isinstance(size, int) else (*size, 1, 1)[:3]


def _argument(a, single, whole):
    if isinstance(a, (bool, int)):
        return whole(a)  # OverflowError where it does not fit
    if isinstance(a, float):
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


def options(dtype, wide=False, defines=()) -> tuple[str, ...]:
    """The compiler's options for a dtype by name."""
    kind = _TYPES.get(dtype)
    if kind is None:
        raise TypeError(f"received an array of {dtype}: the CUDA kernels compute in {', '.join(_TYPES)}; convert it")
    made = [f"-DT={kind}", f"-DA={'double' if kind == 'double' else 'float'}"]
    made.append(f"-Dindex_t={'long long' if wide else 'int'}")
    if dtype in ("float16", "bfloat16"):
        made.append("-DHALF_HEADERS")
    return (*made, "-std=c++17", *[f"-D{name}={value}" for name, value in defines])


@cache
def _module(file, dtype, wide, cooperative, defines):
    return cupy.RawModule(
        code=source(file), options=options(dtype, wide, defines), enable_cooperative_groups=cooperative
    )


@cache
def _function(file, name, dtype, wide, cooperative, defines):
    return _module(file, dtype, wide, cooperative, defines).get_function(name)
