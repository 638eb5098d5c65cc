"""Every test that asks for `path` runs with the Numba loops and with their NumPy twins."""

import os
import subprocess
import sys

import pytest

from chainrule.kernels.cpu import columns, convolution, vector, workers
from chainrule.kernels.cpu.jit import Loop, has_numba


@pytest.fixture(params=["numba", "numpy"])
def path(request, monkeypatch):
    if request.param == "numba" and not has_numba():
        pytest.skip("Numba is absent or CHAINRULE_NUMBA=0: its loops cannot run")
    monkeypatch.setattr(Loop, "use_numba", request.param == "numba")
    return request.param


@pytest.fixture
def threads():
    """Calls of threads(n) are undone after the test."""
    before = workers.get_num_threads()
    yield workers.set_num_threads
    workers.set_num_threads(before)


@pytest.fixture
def plans_anew():
    """Call it where the sizes of pieces have changed: plans of convolutions are kept from call to call."""

    def forget():
        convolution._chosen_for.cache_clear()
        columns.plan_of.cache_clear()

    yield forget
    forget()


NARROW = """
import sys
from chainrule.kernels.cpu import vector
vector.width = lambda: int(sys.argv[1])
sys.path[:0] = sys.argv[2:]
"""


@pytest.fixture(params=[32, 16])
def narrow(request):
    """Call it with a program and folders of its modules: it runs where vectors are that short, and prints "right"."""
    width = request.param
    if not has_numba():
        pytest.skip("Numba is absent or CHAINRULE_NUMBA=0: there are no vectors")
    if width >= vector.width():
        pytest.skip(f"this machine's vectors have {vector.width()} bytes: the other tests are those of {width}")
    cache = request.config.cache.mkdir(f"loops for vectors of {width} bytes")

    def run(program, *folders):
        done = subprocess.run(
            [sys.executable, "-c", NARROW + program, str(width), *folders],
            env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == "right", done.stderr

    return run
