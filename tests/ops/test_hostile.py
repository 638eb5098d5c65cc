"""Faults that a hostile user found, each with the input that showed it."""

import numpy as np
import pytest

import chainrule as cr

INF = float("inf")


@pytest.mark.parametrize("bad", [INF, float("nan")])
def test_einsum_over_a_diagonal_does_not_see_the_rest(bad):
    x = cr.tensor([[1.0, bad], [2.0, 3.0]], requires_grad=True)
    assert cr.einsum("ii->i", x).tolist() == [1, 3] and cr.einsum("ii->", x).item() == 4
    assert cr.einsum("ii,i->i", x, cr.tensor([2.0, 5.0])).tolist() == [2, 15]
    assert cr.einsum("ii->", x).item() == 4
    cr.einsum("ii->i", x).sum().backward()
    assert x.grad.tolist() == [[1, 0], [0, 1]]
    cube = cr.arange(27.0).reshape(3, 3, 3)
    assert cr.einsum("iii->i", cube).tolist() == [0, 13, 26]
    np.testing.assert_array_equal(cr.einsum("iij->ij", cube).numpy(), np.einsum("iij->ij", cube.numpy()))


@pytest.mark.parametrize("make", [cr.tensor, np.array])
def test_an_index_may_change_after_its_use(make):
    x = cr.zeros(3, requires_grad=True)
    index, mask = make([0, 1]), make([True, False, False])
    y, z = x[index], x[mask]
    w = cr.zeros(3) + 0
    w[index] = x[:2]
    index += 1
    mask[...] = True
    (y.sum() + z.sum() + (w * cr.tensor([1.0, 10.0, 100.0])).sum()).backward()
    assert x.grad.tolist() == [3, 11, 0]


def test_a_long_running_sum_keeps_its_digits():
    assert abs(cr.full((5_000_000,), 0.1).cumsum(0)[-1].item() / 500_000 - 1) < 1e-6


def test_float16_gradients_are_clipped_not_zeroed():
    w = cr.zeros(3, dtype=cr.float16, requires_grad=True)
    w.grad = cr.tensor([200.0, 400.0, 600.0], dtype=cr.float16)
    assert abs(cr.nn.utils.clip_grad_norm_([w], 1.0).item() - 748.33) < 1
    np.testing.assert_allclose(w.grad.numpy().astype(float), [0.267, 0.535, 0.802], atol=2e-3)


def test_gradients_that_the_optimiser_does_not_own_are_not_clipped_for_ever():
    model = cr.nn.Sequential(cr.nn.Linear(2, 2), cr.nn.Linear(2, 1))
    optimizer = cr.optim.SGD(model[1].parameters(), lr=0.0)
    loader = cr.data.DataLoader(cr.data.TensorDataset(cr.ones(8, 2), cr.ones(8, 1)), batch_size=2)
    cr.nn.Trainer(model, cr.nn.MSELoss(), optimizer, clip_norm=1e9, verbose=False).fit(loader, epochs=3)
    last = model[0].weight.grad.clone()
    model.zero_grad()
    cr.nn.MSELoss()(model(cr.ones(2, 2)), cr.ones(2, 1)).backward()
    np.testing.assert_allclose(last.numpy(), model[0].weight.grad.numpy(), rtol=1e-5)


@pytest.mark.parametrize("dtype", [cr.float32, cr.float64])
def test_equal_numbers_have_no_spread_and_no_slope(dtype, rng):
    x = cr.tensor(np.tile(rng.standard_normal(200), (9, 1)), dtype=dtype, requires_grad=True)
    deviation = x.std(0)
    assert not deviation.array.any() and not x.var(0).array.any()
    (slope,) = cr.autograd.grad(deviation.sum(), [x], create_graph=True)
    assert not slope.array.any()
    assert np.isfinite(cr.autograd.grad(slope.sum(), [x], materialize_grads=True)[0].array).all()
