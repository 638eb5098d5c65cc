"""einsum by products of matrices: which equations are ones, and the same results as NumPy's."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd.ops import linalg

PRODUCTS = [
    "ij,jk->ik", "ij,jk->ki", "ij,kj->ik", "ji,jk->ik", "bij,bjk->bik", "bij,bjk->kbi", "bij,kj->bik", "ij,bjk->bik",
    "bthd,bshd->bhts", "bhts,bshd->bthd", "abij,abjk->abik", "ijkl,lkm->imj", "ij,jkl->lik", "aib,bja->ij",
    "ij,j->i", "j,ij->i", "bij,bj->bi", "bj,ijb->bi", "i,j->ij", "i,j->ji", "ij,->ij", ",i->i", "bi,bj->bij",
    "ib,bj->jib",
]  # fmt: skip
OTHERS = ["ij,ij->ij", "ij,ij->", "ij,jk->i", "ijm,jk->ik", "ij->ji", "ij,ik->i"]
MANY = [
    "ij,jk,kl->il", "bi,oij,bj->bo", "bi,oij,bj->", "i,i,i->i", "i,j,k->kij", "ab,bc,cd,da->", "ij,jk,k,->ik",
    "ij,i,k->j", ",ij,->ji",
]  # fmt: skip


def operands(equation, draw):
    sizes = {c: int(draw.integers(0 if draw.random() < 0.1 else 1, 6)) for c in "abcdhijklmost"}
    return [tuple(sizes[c] for c in labels) for labels in equation.split("->")[0].split(",")]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
@pytest.mark.parametrize("equation", PRODUCTS + OTHERS + MANY)
def test_einsum_as_numpy_has_it(equation, dtype, rng):
    assert (linalg._as_product(equation) is not None) == (equation in PRODUCTS)
    for _ in range(5):
        arrays = [rng.integers(0, 3, shape).astype(dtype) for shape in operands(equation, rng)]
        out = cr.einsum(equation, *map(cr.tensor, arrays))
        exact = np.einsum(equation, *arrays)
        assert out.dtype == exact.dtype and out.shape == exact.shape
        np.testing.assert_array_equal(out.numpy(), exact)


@pytest.mark.parametrize("equation", PRODUCTS + ["ij,jk,kl->il", "bi,oij,bj->bo", "i,i,i->i", "i,j,k->kij"])
def test_gradients_of_products(equation, rng):
    arrays = [rng.normal(size=shape) for shape in operands(equation, rng)]
    xs = [cr.tensor(array, requires_grad=True) for array in arrays]
    slope = rng.normal(size=np.einsum(equation, *arrays).shape)
    cr.einsum(equation, *xs).backward(cr.tensor(slope))
    labels, out = equation.split("->")[0].split(","), equation.split("->")[1]
    for i, x in enumerate(xs):
        others = ",".join([out, *labels[:i], *labels[i + 1 :]])
        exact = np.einsum(f"{others}->{labels[i]}", slope, *arrays[:i], *arrays[i + 1 :])
        np.testing.assert_allclose(x.grad.numpy(), exact, atol=1e-12)


def test_many_operands_are_taken_in_pairs():
    shapes = (128, 64), (32, 64, 64), (128, 64)
    steps = linalg._steps(("bi", "oij", "bj"), "bo", shapes)
    assert [equation for _, equation in steps] == ["bi,oij->boj", "bj,boj->bo"]
    assert all(linalg._as_product(equation) for _, equation in steps)
