"""Every CUDA C++ file compiles for every dtype and GPU generation, without spills and within its registers.

Needs CuPy and NVRTC but no GPU and no driver: pip install 'chainrule[gpu-check]'.
"""

import inspect
import json
import re
import subprocess
from functools import cache
from itertools import product
from pathlib import Path

import hostsim
import pytest
from hostsim import array, on_host

if on_host():
    pytest.skip("NVIDIA's compiler stands beside the real CuPy alone", allow_module_level=True)
cupy = pytest.importorskip("cupy", reason="needs CuPy and NVRTC: pip install 'chainrule[gpu-check]'")

from cupy.cuda import nvrtc  # noqa: E402

from chainrule.kernels.cell import CELLS  # noqa: E402
from chainrule.kernels.cuda import recurrent, rows, runtime  # noqa: E402

HOME = Path(cupy.cuda.get_cuda_path() or "/usr/local/cuda")
DISASSEMBLER = HOME / "bin" / "nvdisasm"
ARCHITECTURES = ("sm_75", "sm_80", "sm_90")
DTYPES = ("float16", "bfloat16", "float32", "float64")
FILES = sorted(path.stem for path in runtime._FOLDER.glob("*.cu"))

# The values of each macro that `launch` defines: a file that names some is compiled with all their combinations.
MACROS = {"LANES": (1, 32), "WIDE": (0, 1), "UNIT": ("T", "Pack"), "FILTERS": (1, 4, 6, 8)}
# Lengths of rows and how far apart their elements lie, for which the files that include rows.cuh are compiled.
ROWS = ((5, 2), (255, 1), (512, 1), (4095, 1), (1 << 17, 1), (8192, 1), (4096, 1))
# Registers of a thread: with 64, an SM of 65,536 holds four blocks of 256; twice as many in float64. More where a
# kernel says why.
REGISTERS = 64
SOFTMAX = "softmax log_softmax cross_entropy softmax_backward log_softmax_backward logsumexp"
BUDGETS = {
    ("recurrent", "forward"): 96,  # holds 16 bytes of each gate and of both of its biases
    ("recurrent", "backward"): 72,  # of each recorded value, and of each gradient
    ("direct", "forward"): 80,  # holds 16 sums
    ("direct", "forward_pooled"): 112,  # holds 32
    **{("softmax", name): 112 for name in SOFTMAX.split()},  # hold 16 elements of two rows
    ("layer_norm", "layer_norm"): 128,  # and of four here: x, weight, bias, the result
    ("layer_norm", "layer_norm_backward"): 168,  # g, x, weight, and 16 sums of each of two gradients
}
# What the machine code of a kernel must hold, in float32 on sm_90.
INSTRUCTIONS = {
    ("softmax", "softmax"): "LDG.E.128",
    ("softmax", "cross_entropy"): "LDG.E.128",
    ("cross_entropy", "multiply"): "LDG.E.128",
    ("normalization", "moments"): "LDG.E.128",
    ("normalization", "batch_norm"): "STG.E.128",
    ("normalization", "slopes"): "LDG.E.128",
    ("normalization", "batch_norm_backward"): "LDG.E.128",
    ("layer_norm", "layer_norm"): "LDG.E.128",
    ("layer_norm", "layer_norm_backward"): "LDG.E.128",
    ("optim", "adam"): "LDG.E.128",
    ("optim", "squares"): "LDG.E.128",
    ("pointwise", "sigmoid_of"): "LDG.E.128",
    ("random", "dropout"): "LDG.E.128",
    ("columns", "im2col"): "LDG.E.128",
    ("columns", "col2im"): "LDG.E.128",
    ("direct", "forward"): "LDS.128",
    ("direct", "forward_pooled"): "LDS.128",
    ("epilogue", "activate"): "LDG.E.128",
    ("recurrent", "forward"): "LDG.E.128",
    ("recurrent", "backward"): "LDG.E.128",
}


def variants(file):
    """The macros of a file with their values, in every combination that is asked for."""
    if file == "recurrent":
        return [tuple(recurrent.defines(kind, units).items()) for kind in CELLS for units in (1, 4)]
    if "TEAM" in runtime.source(file):
        return [(("ROW", row),) for row in ROWS]
    used = [name for name in MACROS if re.search(rf"\b{name}\b", runtime.source(file))]
    return [tuple(zip(used, values)) for values in product(*(MACROS[name] for name in used))]


ALL = [(file, defines) for file in FILES for defines in variants(file)]
NAMES = [" ".join([file, *(f"{k}={v}" for k, v in defines if "{" not in str(v))]) for file, defines in ALL]


@cache
def built(file, defines, dtype, architecture, wide=False):
    """(the cubin, what ptxas says of each kernel) by the options with which CuPy compiles."""
    if defines and defines[0][0] == "ROW":
        itemsize = {"float64": 8, "float32": 4}.get(dtype, 2)
        defines = tuple(rows.plan(100, *defines[0][1], itemsize, ()).items())
    code, options = runtime.program(file, dtype, wide, defines)
    made = nvrtc.createProgram(code, f"{file}.cu", (), ())
    options += (f"-arch={architecture}", "-ftz=true", f"-I{HOME}/include", "--ptxas-options=-v")
    try:
        nvrtc.compileProgram(made, options)
        log = nvrtc.getProgramLog(made)
        return nvrtc.getCUBIN(made) + b"\0", report(log)  # CuPy leaves the last byte out
    except nvrtc.NVRTCError:
        pytest.fail(f"{file}.cu for {dtype}, {architecture}:\n{nvrtc.getProgramLog(made)[:4000]}")
    finally:
        nvrtc.destroyProgram(made)


def report(log):
    """{kernel: (registers, bytes of stack, bytes spilled)} of what ptxas says."""
    found = {}
    for name, text in re.findall(r"Compiling entry function '(\w+)'(.*?)(?=Compiling entry function|\Z)", log, re.S):
        stack, *spilled = map(int, re.search(r"(\d+) bytes stack frame, (\d+) .*?, (\d+) bytes spill", text).groups())
        found[name] = int(re.search(r"Used (\d+) registers", text).group(1)), stack, sum(spilled)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("file, defines", ALL, ids=NAMES)
def test_compiles_without_spills_within_its_registers(file, defines, dtype, architecture):
    _, kernels = built(file, defines, dtype, architecture)
    assert kernels, "no kernel in the file"
    assert {name: spilled for name, (_, _, spilled) in kernels.items() if spilled} == {}
    share = 2 if dtype == "float64" else 1
    assert {n: used for n, (used, _, _) in kernels.items() if used > share * BUDGETS.get((file, n), REGISTERS)} == {}


@pytest.mark.skipif(not DISASSEMBLER.exists(), reason="needs nvdisasm: pip install 'chainrule[gpu-check]'")
@pytest.mark.parametrize("file, kernel", INSTRUCTIONS)
def test_machine_code_holds(file, kernel, tmp_path):
    (tmp_path / "x.cubin").write_bytes(built(file, variants(file)[-1], "float32", "sm_90")[0])
    text = subprocess.check_output([DISASSEMBLER, "-c", tmp_path / "x.cubin"], text=True)
    code = text[text.index(f".text.{kernel}:") :].partition(".section")[0]
    assert INSTRUCTIONS[file, kernel] in code


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_long_indices_compile(file):
    assert built(file, variants(file)[-1], "float32", "sm_90", wide=True)[1]


def test_spills_are_seen():
    log = """ptxas info    : Compiling entry function 'f' for 'sm_90'
ptxas info    : Function properties for f
ptxas         .     16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
ptxas info    : Compiling entry function 'g' for 'sm_90'
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers"""
    assert report(log) == {"f": (255, 16, 12), "g": (8, 0, 0)}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_stand_in_offers_what_cupy_does():
    names = json.loads((Path(hostsim.__file__).parent / "cupy_names.json").read_text())
    assert [name for name in names if not hasattr(cupy, name)] == []
    for name, spec in names.items():
        if isinstance(spec, list) and spec:
            theirs = inspect.signature(getattr(cupy, name)).parameters.values()
            assert spec == ["**" if p.kind is p.VAR_KEYWORD else p.name for p in theirs], name


def test_the_stand_ins_arrays_offer_what_cupys_do():
    extra = {name for name in dir(array.ndarray) if not name.startswith("_")} - set(dir(cupy.ndarray))
    assert extra == {"inner", "memory"}
