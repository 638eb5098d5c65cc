"""TF32 is asked for and given; equal inputs give equal bits, and the registry says so of all that is noted."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.kernels import registry


@pytest.fixture
def tf32():
    yield
    cr.set_float32_matmul_precision("highest")


def test_tf32_only_where_asked_for(cuda, tf32):
    from chainrule.kernels.cuda import blas

    assert blas._compute("float32") == 68
    cr.set_float32_matmul_precision("high")
    assert blas._compute("float32") == 77  # CUBLAS_COMPUTE_32F_FAST_TF32
    assert (blas._compute("float64"), blas._compute("float16")) == (70, 68)


def test_all_that_is_noted_is_deterministic(cuda):
    assert [made.op for made in registry.implementations() if not made.deterministic] == []


OPERATIONS = {
    "index_add": lambda zeros, index, values: cr.index_add(zeros, 0, index, values),
    "scatter_add": lambda zeros, index, values: cr.scatter_add(zeros, 0, index, values),
    "with_item": lambda zeros, index, values: cr.with_item(zeros, index, values),
    "cumsum": lambda zeros, index, values: values.cumsum(0),
    "index_select": lambda zeros, index, values: _gradient(zeros, index, values),
}
FOUND = {}


def _gradient(zeros, index, values):
    x = zeros.requires_grad_()
    (cr.index_select(x, 0, index) * values).sum().backward()
    return x.grad


@pytest.fixture
def deterministic():
    cr.use_deterministic_algorithms(True)
    yield
    cr.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", OPERATIONS)
def test_equal_bits_in_every_order(deterministic, order, name):
    rng = np.random.default_rng(0)
    index = cr.tensor(rng.integers(0, 7, 257), device="cuda")
    values = cr.tensor(rng.standard_normal(257).astype("f4"), device="cuda")
    got = OPERATIONS[name](cr.zeros(7, device="cuda"), index, values).cpu().numpy()
    assert np.array_equal(got, FOUND.setdefault(name, got))
