"""einsum by products of matrices: which equations are ones, and the same results as NumPy's."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd.ops import linalg

PRODUCTS = [
    "ij,jk->ik", "ij,jk->ki", "ij,kj->ik", "ji,jk->ik", "bij,bjk->bik", "bij,bjk->kbi", "bij,kj->bik", "ij,bjk->bik",
    "bthd,bshd->bhts", "bhts,bshd->bthd", "abij,abjk->abik", "ijkl,lkm->imj", "ij,jkl->lik", "aib,bja->ij",
]  # fmt: skip
OTHERS = ["ij,ij->ij", "ij,ij->", "i,j->ij", "ij,j->i", "ij,jk->i", "ijm,jk->ik", "ij,jk,kl->il", "ij->ji", "ij,ik->i"]


def operands(equation, draw):
    sizes = {c: int(draw.integers(0 if draw.random() < 0.1 else 1, 6)) for c in "abcdhijklmst"}
    return [tuple(sizes[c] for c in labels) for labels in equation.split("->")[0].split(",")]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
@pytest.mark.parametrize("equation", PRODUCTS + OTHERS)
def test_einsum_as_numpy_has_it(equation, dtype, rng):
    assert (linalg._as_product(equation) is not None) == (equation in PRODUCTS)
    for _ in range(5):
        arrays = [rng.integers(0, 3, shape).astype(dtype) for shape in operands(equation, rng)]
        out = cr.einsum(equation, *map(cr.tensor, arrays))
        exact = np.einsum(equation, *arrays)
        assert out.dtype == exact.dtype and out.shape == exact.shape
        np.testing.assert_array_equal(out.numpy(), exact)


@pytest.mark.parametrize("equation", PRODUCTS)
def test_gradients_of_products(equation, rng):
    arrays = [rng.normal(size=shape) for shape in operands(equation, rng)]
    xs = [cr.tensor(array, requires_grad=True) for array in arrays]
    slope = rng.normal(size=np.einsum(equation, *arrays).shape)
    cr.einsum(equation, *xs).backward(cr.tensor(slope))
    (left, right), out = equation.split("->")[0].split(","), equation.split("->")[1]
    np.testing.assert_allclose(xs[0].grad.numpy(), np.einsum(f"{out},{right}->{left}", slope, arrays[1]), atol=1e-12)
    np.testing.assert_allclose(xs[1].grad.numpy(), np.einsum(f"{out},{left}->{right}", slope, arrays[0]), atol=1e-12)
