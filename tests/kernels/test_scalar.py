"""Formulas written out: what is written, and that it computes what the formula computes."""

import ctypes
import math
import shutil
import subprocess

import numpy as np
import pytest

from chainrule.kernels.cell import CELLS
from chainrule.kernels.scalar import CUDA, PYTHON, Formula


def test_what_is_written():
    m = Formula()
    x, y, unused = (m.input(name) for name in ("x[0]", "y", "z"))
    m.tanh(unused * 3)
    product = (1 - x) * y
    lines = m.written({"a": m.sigmoid(product) + product, "b": y + 0, "c": 2 * ((1 - x) * y)}, CUDA)
    assert lines == [
        "const A t0 = 1 - x[0];",
        "const A t1 = t0 * y;",
        "const A t2 = 1 / (1 + exp(-t1));",
        "const A t3 = t2 + t1;",
        "const A t4 = t1 * 2;",
        "a = t3;",
        "b = y;",
        "c = t4;",
    ]


def test_python_says_the_type_of_every_number():
    m = Formula()
    assert m.written({"a": 1 - m.positive(m.input("x"))}, PYTHON) == [
        "t0 = float32(1) if x > float32(0) else float32(0)",
        "t1 = float32(1) - t0",
        "a = t1",
    ]


class Numbers:
    """The mathematics of cells on numbers."""

    tanh = staticmethod(math.tanh)
    sigmoid = staticmethod(lambda x: 1 / (1 + math.exp(-x)))
    relu = staticmethod(lambda x: max(x, 0.0))
    positive = staticmethod(lambda x: float(x > 0))


def flat(results):
    return [x for part in results for x in (part if isinstance(part, (tuple, list)) else [part])]


def calls(cell):
    """Each formula of a cell, and how many numbers each of its arguments has (0: a number by itself)."""
    return (cell.forward, (cell.gates, cell.gates, 0, cell.biases, 3)), (cell.backward, (0, 0, cell.record, 3))


def grouped(values, counts):
    values = iter(values)
    return [[next(values) for _ in range(n)] if n else next(values) for n in counts]


def run_python(lines, inputs):
    scope = {"x": inputs, "float32": float, "exp": math.exp, "tanh": math.tanh, "out": {}}
    exec("\n".join(lines), scope)
    return list(scope["out"].values())


def run_cpp(lines, inputs, folder, results):
    if not shutil.which("g++"):
        pytest.skip("needs g++")
    head = '#include <math.h>\ntypedef double A;\nextern "C" void f(const A* x, A* out)'
    text = "\n".join([head, "{", *lines, "}"])
    library = folder / f"{len(inputs)}_{results}.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", library], input=text.encode(), check=True)
    x, out = np.array(inputs), np.empty(results)
    ctypes.CDLL(library).f(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(out.ctypes.data))
    return out


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("language", ["cuda", "python"])
def test_cells_compute_the_same(kind, language, rng, tmp_path):
    for formula, counts in calls(CELLS[kind]):
        inputs = list(rng.uniform(-1, 1, sum(n or 1 for n in counts)))
        expected = flat(formula(Numbers, *grouped(inputs, counts)))
        m = Formula()
        given = grouped((m.input(f"x[{i}]") for i in range(len(inputs))), counts)
        results = {f"out[{i}]": value for i, value in enumerate(flat(formula(m, *given)))}
        if language == "python":
            got = run_python(m.written(results, PYTHON), inputs)
        else:
            got = run_cpp(m.written(results, CUDA), inputs, tmp_path, len(results))
        np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-15)
