"""What every test of a CUDA kernel finds: CuPy or its stand-in, the four schedule orders, and a skip that says why."""

import pytest
from hostsim import on_host

import chainrule as cr


def pytest_collection_modifyitems(config, items):
    missing = cr.kernels.missing_for_cuda()
    if missing:
        for item in items:
            if "/tests/gpu/" in str(item.path) and item.path.name != "test_compile.py":
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
