"""Every test that asks for `path` runs with the Numba loops and with their NumPy twins."""

import pytest

from chainrule.kernels.cpu import columns, convolution, workers
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
