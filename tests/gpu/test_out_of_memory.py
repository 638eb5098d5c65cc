"""What is said when the GPU's memory is full, in the stand-in, which has as much as a test gives it."""

import gc

import pytest
from hostsim import on_host

import chainrule as cr

MESSAGE = (
    r"{0}: received shape \(256, 256\) of float32.*; out of memory: Out of memory allocating [\d,]+ bytes "
    r"\(allocated so far: [\d,]+ bytes\).*; CuPy's pool holds [\d,]+ bytes, [\d,]+ of them in use; [\d,]+ of the "
    r"GPU's [\d,]+ bytes are free besides. Take a smaller batch"
)


@pytest.fixture
def full(monkeypatch):
    """full(): from now on the stand-in has no memory for another array of a few kilobytes."""
    if not on_host():
        pytest.skip("a GPU shared with others is not to be filled")
    from hostsim import memory

    gc.collect()  # what earlier tests left must not be freed later and make room
    return lambda: monkeypatch.setattr(memory, "limit", memory.in_use() + 1000)


@pytest.mark.parametrize("name", ["exp", "tanh", "softmax", "matmul", "multiply"])
def test_names_the_operation(full, name):
    x = cr.ones(256, 256, device="cuda")
    extra = {"softmax": (1,), "matmul": (x,), "multiply": (x,)}.get(name, ())
    full()
    with pytest.raises(MemoryError, match=MESSAGE.format(name)) as caught:
        getattr(cr, name)(x, *extra)
    assert type(caught.value) is MemoryError


def test_in_backward(full):
    x = cr.ones(256, 256, device="cuda", requires_grad=True)
    y = cr.tanh(x).sum()
    full()
    with pytest.raises(MemoryError, match="out of memory: Out of memory allocating"):
        y.backward()


def test_memory_held(cuda):
    assert cuda.memory_held().startswith("CuPy's pool holds ")
