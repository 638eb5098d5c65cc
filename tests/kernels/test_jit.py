"""The one place that deals with Numba: lazy, optional, cached where a folder can be written; and the arrays it gets."""

import os
import subprocess
import sys
from pickle import UnpicklingError

import numpy as np
import pytest

from chainrule.kernels import cpu, for_array
from chainrule.kernels.cpu import layout, recurrent
from chainrule.kernels.cpu.jit import Loop, _sources, _text, has_numba, jit, variant

CONVOLVE = """
import sys, numpy as np
from chainrule.kernels import cpu
assert "numba" not in sys.modules
out = cpu.conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), None,
                 stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)
assert (out == 9).all()
print("numba" in sys.modules)
"""


def run(script, **environment):
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: there is no import to watch")
def test_numba_is_imported_by_the_first_loop():
    assert run(CONVOLVE) == "True"


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: nothing is compiled")
def test_scipy_is_imported_by_those_who_need_its_blas():
    pytest.importorskip("scipy")
    product = """
import numba
from threading import Thread
from chainrule.kernels.cpu import jit
threads = [Thread(target=jit.numba) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
assert (numba.njit(lambda a, b: a @ b)(np.eye(2), np.eye(2)) == np.eye(2)).all()
print("scipy.linalg" in sys.modules)
"""
    assert run(CONVOLVE + 'print("scipy.linalg" in sys.modules)' + product).split() == ["True", "False", "True"]


def test_without_numba():
    assert run(CONVOLVE, CHAINRULE_NUMBA="0") == "False"
    hidden = (
        "import importlib.util as u\nfind = u.find_spec\nu.find_spec = lambda n: None if n == 'numba' else find(n)\n"
    )
    assert run(hidden + CONVOLVE) == "False"


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: nothing is compiled")
def test_without_a_folder_for_the_cache(monkeypatch):
    import numba

    compile_loop, tried = numba.njit, []

    def njit(*arguments, cache=False, **options):
        if "nogil" in options:  # ours; Numba's own library is compiled by the same function
            tried.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_loop(*arguments, **options)

    monkeypatch.setattr(numba, "njit", njit)
    loop = Loop(lambda x: x + 1, None, set())
    assert loop.compiled(1) == 2 and tried == [True, False]


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: nothing is compiled")
@pytest.mark.parametrize("error", [OSError("no space left on device"), EOFError(), UnpicklingError()])
def test_a_cache_that_cannot_be_read_or_written(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(Loop, "use_numba", True)
    loop = Loop(lambda x: x + 1, None, set())
    loop.compiled = fail
    assert loop(1) == 2 and loop(2) == 3


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: there is no cache")
def test_a_damaged_cache_is_passed_over(tmp_path):
    assert run(CONVOLVE, NUMBA_CACHE_DIR=str(tmp_path)) == "True"
    damaged = list(tmp_path.rglob("*.nbi"))
    assert damaged
    for file in damaged:
        file.write_bytes(file.read_bytes()[:20])
    assert run(CONVOLVE, NUMBA_CACHE_DIR=str(tmp_path)) == "True"


FORMULAS = {  # a formula, one that it calls, and instructions written out in yet another file
    "formulas.py": "from chainrule.kernels.cpu.jit import inline\nfrom inner import add\n\n"
    "@inline\ndef formula(x):\n    return 10 * add(x)\n",
    "inner.py": "from chainrule.kernels.cpu.jit import inline\n\n@inline\ndef add(x):\n    return x + 1\n",
    "loops.py": "from chainrule.kernels.cpu.jit import jit\nfrom formulas import formula\n\n"
    "@jit(None)\ndef loop(x):\n    return formula(x)\n\nprint(loop(1), sum(loop.compiled.stats.cache_hits.values()))\n",
}


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: there is no cache")
def test_the_cache_sees_formulas_change_in_other_files(tmp_path):
    for name, text in FORMULAS.items():
        (tmp_path / name).write_text(text)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.dont_write_bytecode = True; import loops"
    say = lambda: run(script, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert [say(), say()] == ["20 0", "20 1"]
    (tmp_path / "inner.py").write_text(FORMULAS["inner.py"].replace("+ 1", "+ 2"))
    assert [say(), say()] == ["30 0", "30 1"]
    (tmp_path / "formulas.py").write_text(FORMULAS["formulas.py"].replace("10", "11"))
    assert say() == "33 0"


STEP = """
import numpy as np
from chainrule.kernels import cpu
param, grad = np.random.default_rng(0).standard_normal((2, 1000), np.float32)
cpu.sgd_(param, grad, None, lr=0.1, momentum=0, dampening=0, weight_decay=0.1, nesterov=False, maximize=False, first=0)
print(param.tobytes().hex())
"""


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: nothing is compiled")
def test_the_run_that_compiles_rounds_as_the_next(tmp_path):
    """LLVM leaves this update a function of its own; the formula that it was made of is optimised apart."""
    compiled, cached = (run(STEP, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2))
    assert compiled == cached


def test_what_a_loop_is_made_of():
    """A recurrent loop holds the cell's formulas and the vector code, by instructions that Python writes."""
    for loop in (recurrent._FORWARD["gru"], recurrent._BACKWARD["lstm"]):
        names = {os.path.basename(file) for file in _sources(loop.function)}
        assert names == {"recurrent.py", "steps.py", "vector.py", "cell.py"}
    gone = variant(lambda x: x, "gone")
    gone.__code__ = gone.__code__.replace(co_filename="/no/such/file.py")
    assert _text(*_sources(gone)) == b""


def test_a_loop_keeps_its_name_and_both_its_sides(monkeypatch):
    @jit(lambda x: "twin")
    def loop(x):
        return x

    assert loop.__name__ == "loop"
    monkeypatch.setattr(Loop, "use_numba", False)
    assert loop(1) == "twin"


def test_compact_copies_only_where_needed():
    x = np.arange(6.0).reshape(2, 3)
    assert layout.compact(x) is x
    frozen = x.copy()
    frozen.setflags(write=False)
    for other in x.T, x[::-1], x[:, ::2], frozen, x.astype(">f8"), np.broadcast_to(x, (2, 2, 3)):
        out = layout.compact(other)
        assert out.flags.c_contiguous and out.flags.writeable and out.dtype.isnative
        np.testing.assert_array_equal(out, other)
    assert layout.compact(x, np.dtype("float32")).dtype == np.float32


def test_for_array():
    assert for_array(np.ones(2)) is cpu
    for x, name in ([1.0], "builtins.list"), (np.float64(1), "numpy.float64"), (np.ma.ones(2), "MaskedArray"):
        with pytest.raises(
            TypeError, match=f"no kernels for an array of type .*{name.split('.')[-1]}.*np.asarray first"
        ):
            for_array(x)


def test_numpy_under_numpys_names():
    assert cpu.exp is np.exp and cpu.repeat is np.repeat and cpu.sum is not np.sum
    with pytest.raises(AttributeError, match="no_such_function"):
        cpu.no_such_function  # noqa: B018
    with pytest.raises(AttributeError, match="_private"):
        cpu._private  # noqa: B018
