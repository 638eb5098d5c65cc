"""What every test of a CUDA kernel finds: CuPy or its stand-in, the four schedule orders, and a skip that says why."""

import os
from importlib import import_module

import pytest
from hostsim import on_host

import chainrule as cr


def pytest_collection_modifyitems(config, items):
    missing = cr.kernels.missing_for_cuda()
    if missing:
        for item in items:
            if "/tests/gpu/" in str(item.path) and not item.path.name.startswith("test_compile"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU, or the stand-in: pytest --hostsim"))


@pytest.fixture
def cuda():
    """The kernels of the GPU."""
    return cr.kernels.for_device("cuda")


@pytest.fixture
def cupy():
    import cupy

    return cupy


@pytest.fixture(params=["forward", "reverse", "shuffled", "hesitant"])
def order(request, monkeypatch):
    """Each schedule order of the stand-in; a GPU has its own."""
    if on_host():
        from hostsim import raw

        monkeypatch.setattr(raw, "order", request.param)
    elif request.param != "forward":
        pytest.skip("the GPU chooses the order itself")
    return request.param


@pytest.fixture
def by_numba(monkeypatch):
    """CHAINRULE_KERNELS=numba; without a GPU, in Numba's simulator of one. The names of the kernels that ran."""
    from chainrule.kernels import registry
    from chainrule.kernels.cuda import numba_runtime

    if on_host() and os.environ.get("NUMBA_ENABLE_CUDASIM") != "1":
        pytest.skip("needs a GPU, or NUMBA_ENABLE_CUDASIM=1 before Numba is imported")
    monkeypatch.setattr(registry, "preferred", registry.preference("numba"))
    ran, compiled = [], simulated if on_host() else numba_runtime.kernel

    def kernel(file, name, types, device):
        ran.append(name)
        return compiled(file, name, types, device)

    monkeypatch.setattr(numba_runtime, "kernel", kernel)
    return ran


def simulated(file, name, types, device):
    """A kernel in the simulator: it takes arrays of the stand-in as what they are to a kernel, rows of numbers."""
    from numba import cuda

    kernel = cuda.jit(getattr(import_module(f"chainrule.kernels.cuda.{file}"), name))
    return lambda grid, block, values: kernel[grid, block](
        *(v.inner.reshape(-1) if array else v for v, (_, array) in zip(values, types, strict=True))
    )


@pytest.fixture
def plant(monkeypatch):
    """plant(file, right, wrong): a fault in a kernel file, for the stand-in alone: on a GPU it would spoil the rest."""
    from chainrule.kernels.cuda import runtime

    if not on_host():
        pytest.skip("faults are planted in the stand-in alone")
    source = runtime.source

    def forget():
        runtime._module.cache_clear()
        runtime._kernel.cache_clear()

    def put(file, right, wrong):
        assert right in source(file)
        changed = source(file).replace(right, wrong)
        monkeypatch.setattr(runtime, "source", lambda name: changed if name == file else source(name))
        forget()

    yield put
    forget()
