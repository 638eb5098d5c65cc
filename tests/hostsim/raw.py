"""CuPy's RawModule on the CPU: CUDA C++ compiled by g++, its kernels run by fibers in one of four schedule orders."""

import ctypes
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from math import prod
from pathlib import Path

import numpy as np
import pytest

from .array import ndarray
from .memory import do, live

HERE = Path(__file__).parent
# Each access to memory calls a function of watch.h, not of g++'s own library; shared memory is the module's alone.
_WATCHED = ("-fsanitize=thread", "--param=tsan-distinguish-volatile=1", "-nodefaultlibs", "-Wl,-Bsymbolic")
_WATCHED += ("-fno-gnu-unique", "-lstdc++", "-lm", "-lc", "-lgcc_s")
ORDERS = ("forward", "reverse", "shuffled", "hesitant")
#: the order that launches take; tests set it
order = "forward"


def cache_folder() -> Path:
    base = Path(os.environ.get("CHAINRULE_CACHE") or Path.home() / ".cache" / "chainrule")
    (base / "hostsim").mkdir(parents=True, exist_ok=True)
    return base / "hostsim"


@cache
def cuda_headers() -> str | None:
    """Where cuda_fp16.h and what it includes lie, for kernels in 16 bits: in a toolkit, or in what pip installs."""
    homes = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    homes += sorted(map(str, Path("/usr/local").glob("cuda-*")), reverse=True)
    packages = find_spec("nvidia")
    for folder in packages.submodule_search_locations if packages else ():
        homes += sorted(map(str, Path(folder).glob("cu[0-9]*")), reverse=True)
    for include in (Path(home) / "include" for home in homes if home):
        if (include / "cuda_fp16.h").is_file() and (include / "crt" / "host_defines.h").is_file():
            return str(include)
    return None


def missing() -> str:
    """What the stand-in lacks here, '' if nothing."""
    if platform.machine() != "x86_64":
        return f"the CUDA stand-in runs on x86-64 processors, not on {platform.machine()}"
    return "" if shutil.which("g++") else "the CUDA stand-in needs g++; install it, or run without --hostsim"


def _command(options):
    if missing():
        raise RuntimeError(missing())
    command = ["g++", "-x", "c++", "-std=c++17", "-O1", "-fPIC", "-w", "-Werror=return-type", f"-I{HERE}"]
    command += [o for o in options if not o.startswith("-std")]
    return [*command, f"-I{cuda_headers()}"] if cuda_headers() else command


def _made(kind, text, options, make):
    """The path of what `make(command, path)` made of a text, from the cache if it is there."""
    command = _command(options)
    parts = [text, *command, *(path.read_text() for path in sorted(HERE.glob("*.h")))]
    target = cache_folder() / (hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24] + kind)
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / "made"
            done = subprocess.run([*command, *make, "-", "-o", str(made)], input=text, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"g++ refused the kernels:\n{done.stderr[:4000]}")
            made.replace(target)
    return target


def compiled(text: str, options: tuple[str, ...]) -> ctypes.CDLL:
    """The library of a C++ text."""
    return ctypes.CDLL(str(_made(".so", text, options, ["-shared"])))


def kernel_names(code: str, options: tuple[str, ...]) -> list[str]:
    """The names of the kernels in CUDA C++, those that macros make included."""
    kept = "".join(line for line in code.splitlines(keepends=True) if not line.lstrip().startswith("#include"))
    text = _made(".i", kept.replace("#pragma once", ""), options, ["-E", "-P"]).read_text()
    pattern = r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\([^)]*\)\s+)?(\w+)\s*\('
    return re.findall(pattern, text)


class RawModule:
    """As cupy.RawModule(code=, options=): kernels by name, called with (grid, block, args, shared_mem=)."""

    def __init__(self, *, code, options=(), backend="nvrtc", enable_cooperative_groups=False):
        if "-DHALF_HEADERS" in options and cuda_headers() is None:
            pytest.skip("kernels in 16 bits need NVIDIA's cuda_fp16.h: pip install 'chainrule[gpu-check]'")
        names = kernel_names(code, tuple(options))
        entries = "".join(
            f'extern "C" int launch_{n}(const host::Launch* launch, void** arguments)'
            f"{{ return host::launch_kernel({n}, *launch, arguments); }}\n"
            f'extern "C" int widths_{n}(int* out) {{ return host::widths({n}, out); }}\n'
            for n in names
        )
        text = f'#include "cuda_on_cpu.h"\n#line 1 "kernels.cu"\n{code}\n{entries}'
        text += 'extern "C" const char* last_error() { return host::machine.error; }\n'
        self.library, self.names, self.together = (
            compiled(text, (*options, *_WATCHED)),
            names,
            enable_cooperative_groups,
        )
        self.library.last_error.restype = ctypes.c_char_p

    def get_function(self, name):
        if name not in self.names:
            raise AttributeError(f"no kernel {name!r} in this module; it has {', '.join(self.names)}")
        return Function(self, name)


class Function:
    """One kernel."""

    def __init__(self, module, name):
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = 48 << 10
        self.enter = getattr(module.library, f"launch_{name}")
        room = (ctypes.c_int * 128)()
        self.widths = list(room[: getattr(module.library, f"widths_{name}")(room)])

    def __call__(self, grid, block, args, *, shared_mem=0):
        values, given = zip(*map(_passed, args), strict=True) if args else ((), ())
        if len(given) != len(self.widths) or not all(map(_fits, self.widths, given)):
            raise TypeError(
                f"kernel {self.name} takes {self.widths} and received {list(given)} (bytes; negative: a pointer; +100: "
                "floating): a GPU would read garbage"
            )
        grid, block = ((*size, 1, 1)[:3] for size in (grid, block))
        most = min(self.max_dynamic_shared_size_bytes, 227 << 10)
        if not 0 < prod(block) <= 1024 or 0 in grid or max(grid[1:]) > 65535 or shared_mem > most:
            raise RuntimeError(
                f"kernel {self.name}: a GPU refuses the grid {grid}, block {block}, {shared_mem} bytes of dynamic "
                f"shared memory (at most {most} for this kernel)"
            )
        touched = list(_memories(args))
        spans = [_Span(memory.address, memory.size, unit, number) for memory, unit, number in touched]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(v) for v in values))
        spans = (_Span * len(spans))(*spans)
        launch = _Launch((*grid, *block), shared_mem, ORDERS.index(order), self.module.together, len(spans), spans)
        do(lambda: self._run(launch, pointers, (values, spans, touched)))

    def _run(self, launch, pointers, kept):
        """Run the kernel and look at the fences; `kept` holds what the pointers point to."""
        if self.enter(ctypes.byref(launch), pointers):
            raise RuntimeError(f"kernel {self.name}: {self.module.library.last_error().decode()}")
        for memory, _, number in kept[-1]:
            if memory.broken():
                raise RuntimeError(
                    f"kernel {self.name} wrote {memory.broken()} argument {number} of {memory.size} bytes"
                )


def _memories(args):
    """(memory, bytes of an element, number of the argument) of each array passed, by itself or in a structure."""
    for number, a in enumerate(args, 1):
        if isinstance(a, ndarray):
            yield a.memory, a.itemsize, number
        elif isinstance(a, np.ndarray):
            words = np.frombuffer(a.tobytes()[: a.nbytes // 8 * 8], np.uint64)
            for memory in tuple(live):
                if ((memory.address <= words) & (words < memory.address + memory.size)).any():
                    yield memory, 1, number


class _Span(ctypes.Structure):
    """watch.h: an array that may be touched."""

    _fields_ = [
        ("begin", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("unit", ctypes.c_size_t),
        ("argument", ctypes.c_int),
    ]


class _Launch(ctypes.Structure):
    """cuda_on_cpu.h: what a launch is told."""

    _fields_ = [
        ("sizes", ctypes.c_uint * 6),
        ("shared", ctypes.c_size_t),
        ("order", ctypes.c_int),
        ("together", ctypes.c_int),
        ("arrays", ctypes.c_int),
        ("spans", ctypes.POINTER(_Span)),
    ]


def _fits(wanted, given):
    return wanted == given or (wanted == -8 and given == 8)  # a pointer may be passed as a whole number


def _passed(a):
    """An argument as the driver would take it, and its width."""
    if isinstance(a, ndarray):
        return ctypes.c_void_p(a.data.ptr), -8
    if isinstance(a, np.ndarray) and a.size == 1:  # a structure, passed by value
        return (ctypes.c_char * a.nbytes).from_buffer_copy(a.tobytes()), a.nbytes
    if isinstance(a, np.generic):
        width = a.itemsize + (100 if a.dtype.kind == "f" else 0)
        return (ctypes.c_char * a.itemsize).from_buffer_copy(a.tobytes()), width
    if isinstance(a, (bool, int)):
        return ctypes.c_longlong(a), 8
    if isinstance(a, float):
        return ctypes.c_double(a), 108
    raise TypeError(f"a kernel received an argument of type {type(a).__name__}")
