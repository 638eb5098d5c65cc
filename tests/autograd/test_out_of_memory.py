"""An operation that finds no memory says which it was, what it received, what is held, and what helps."""

import pytest

import chainrule as cr
from chainrule.autograd import primitive
from chainrule.autograd.primitive import REGISTRY
from chainrule.kernels import cpu
from chainrule.kernels.cpu import memory

HELD = r"this process holds [\d,]+ bytes; [\d,]+ of [\d,]+ bytes of memory are free"
FIX = r"Take a smaller batch, run what needs no gradient under cr.no_grad\(\), or keep less for backward by"


def hungry(*args, **kwargs):
    raise MemoryError


@primitive
def greedy(k, x):
    return hungry()


@greedy.vjp("x")
def greedy_dx(g):
    return g


@primitive(differentiable=False)
def telling(k, x):
    return greedy(x)


for name in ("greedy", "telling"):  # other tests call whatever is registered
    del REGISTRY[name]


@pytest.mark.skipif(not memory.Path("/proc/meminfo").exists(), reason="only Linux says what is free")
def test_of_two_inputs():
    x, y = cr.zeros(1).expand(1 << 24, 1), cr.zeros(1).expand(1 << 24)
    message = rf"multiply: received shape \(16777216, 1\) of float32, .*; out of memory: Unable to .*; {HELD}. {FIX}"
    with pytest.raises(MemoryError, match=message) as caught:
        x * y
    assert type(caught.value) is MemoryError and caught.value.__cause__ is not None


@pytest.mark.parametrize("requires_grad", [False, True])
def test_of_one_input_and_of_the_general_path(monkeypatch, requires_grad):
    x = cr.ones(2, 3, requires_grad=requires_grad)
    with pytest.raises(MemoryError, match=r"^greedy: received shape \(2, 3\) of float32; out of memory: no more"):
        greedy(x)
    monkeypatch.setattr(cpu, "matmul", hungry)
    with pytest.raises(
        MemoryError, match=r"^matmul: received shape \(2, 3\) of float32, shape \(3, 1\) of float32; out"
    ):
        x @ cr.ones(3, 1)


def test_in_backward(monkeypatch):
    x = cr.ones(2, 3, requires_grad=True)
    y = cr.softmax(x, 1).sum()
    monkeypatch.setattr(cpu, "softmax_backward", hungry)
    with pytest.raises(MemoryError, match=r"^softmax\w*: received shape \(2, 3\) of float32, .*; out of memory: "):
        y.backward()


def test_is_told_once():
    with pytest.raises(MemoryError, match="^greedy: received"):
        telling(cr.ones(3))


def test_where_the_system_does_not_say(monkeypatch):
    def absent(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(memory.Path, "read_text", absent)
    assert cpu.memory_held() == "the system does not say how much is free"
