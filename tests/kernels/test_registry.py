"""The registry of implementations: what is noted, and which one is chosen."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.kernels import registry
from chainrule.kernels.registry import chosen, implementation, implementations, preference

SINGLE, DOUBLE, HALF = (np.dtype(d) for d in ("f4", "f8", "f2"))


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_noted", {})
    monkeypatch.setattr(registry, "preferred", preference(""))
    monkeypatch.setattr(registry, "_deterministic", False)
    registry._chosen.cache_clear()
    yield
    registry._chosen.cache_clear()


@pytest.fixture
def double():
    """Two implementations of `double`, and one of `triple`."""

    @implementation("double", "cuda", dtypes="f2 f4 f8", layout="NHWC", floor=lambda x: (2 * x.nbytes, x.size))
    def by_cuda(x):
        return "cuda"

    @implementation("double", "numba", dtypes="f4 f8", floor=lambda x: (2 * x.nbytes, x.size))
    def by_numba(x):
        return "numba"

    @implementation("triple", "cuda", floor=lambda x: (2 * x.nbytes, x.size), capturable=False, deterministic=False)
    def triple(x):
        return "cuda"


def test_what_is_noted(double):
    first, second = implementations("double")
    assert (first.name, first.device, first.layout) == ("cuda", "cuda", "NHWC")
    assert first.dtypes == ("float16", "float32", "float64")
    assert first.capturable and first.deterministic and second.name == "numba"
    assert first.floor(np.zeros(3, "f4")) == (24, 3)
    assert [made.op for made in implementations()] == ["double", "double", "triple"]
    assert not implementations(device="cpu") and not implementations("unknown")
    triple = implementations("triple")[0]
    assert not triple.capturable and not triple.deterministic and "bfloat16" in triple.dtypes


def test_noted_twice_is_kept_once(double):
    again = implementation("double", "cuda", floor=lambda x: (0, 0))(lambda x: "again")
    assert [made.name for made in implementations("double")] == ["numba", "cuda"]
    assert implementations("double")[1].function is again


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "cuda cuda cuda"),
        ("numba", "numba cuda cuda"),
        ("double=numba", "numba cuda cuda"),
        ("triple=numba", "cuda cuda cuda"),
        ("numba, double=cuda", "cuda cuda cuda"),
    ],
)
def test_which_is_chosen(double, monkeypatch, text, expected):
    monkeypatch.setattr(registry, "preferred", preference(text))
    x = [("double", SINGLE), ("double", HALF), ("triple", DOUBLE)]
    assert " ".join(chosen(op, dtype)(None) for op, dtype in x) == expected


def test_errors(double):
    with pytest.raises(
        TypeError, match=r"double received an array of int8; on 'cuda' there is cuda: float16 .*convert"
    ):
        chosen("double", np.dtype("i1"))
    with pytest.raises(TypeError, match="half received an array of float32; on 'cuda' there is nothing"):
        chosen("half", SINGLE)
    with pytest.raises(
        ValueError, match="CHAINRULE_KERNELS: received the implementation 'cudnn'; there are cuda, numba"
    ):
        preference("double=cudnn")


def test_deterministic_algorithms(double):
    @implementation("double", "cuda", dtypes="f4", floor=lambda x: (0, 0), deterministic=False)
    def by_atomics(x):
        return "atomics"

    cr.use_deterministic_algorithms(True)
    assert cr.are_deterministic_algorithms_enabled()
    assert chosen("double", SINGLE)(None) == "numba"
    message = (
        r"(triple|double) has no implementation here that gives equal bits for equal inputs, .* compute it on the CPU"
    )
    for call in (chosen("triple", SINGLE), by_atomics, implementations("triple")[0].function):
        with pytest.raises(RuntimeError, match=message):
            call(None)
    cr.use_deterministic_algorithms(False)
    assert not cr.are_deterministic_algorithms_enabled()
    assert by_atomics(None) == "atomics" and chosen("triple", SINGLE)(None) == "cuda"


def test_a_deterministic_one_is_taken_before_the_one_asked_for(double, monkeypatch):
    implementation("double", "numba", floor=lambda x: (0, 0), deterministic=False)(lambda x: "atomics")
    monkeypatch.setattr(registry, "preferred", preference("numba"))
    assert chosen("double", SINGLE)(None) == "atomics"
    cr.use_deterministic_algorithms(True)
    assert chosen("double", SINGLE)(None) == "cuda"


@pytest.fixture
def precision():
    yield
    cr.set_float32_matmul_precision("highest")


def test_float32_matmul_precision(precision):
    assert cr.get_float32_matmul_precision() == "highest"
    cr.set_float32_matmul_precision("high")
    assert cr.get_float32_matmul_precision() == "high"
    with pytest.raises(ValueError, match=r"received 'medium'; pass 'highest' \(IEEE float32\) or 'high' \(TF32\)"):
        cr.set_float32_matmul_precision("medium")
    assert cr.get_float32_matmul_precision() == "high"
