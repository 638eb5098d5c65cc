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


@pytest.mark.parametrize(("left", "right"), [((0,), (1,)), ((1,), (0,)), ((0, 3), (1, 3)), ((1, 3), (0, 3))])
def test_einsum_spreads_one_over_none(left, right):
    x, y = cr.ones(*left, requires_grad=True), cr.ones(*right, requires_grad=True)
    out = cr.einsum("i...,i...->...", x, y)
    assert out.shape == left[1:] and not out.any().item()
    out.sum().backward()
    assert x.grad.shape == left and y.grad.shape == right and not x.grad.any().item() and not y.grad.any().item()


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


def test_an_array_of_numpy_may_change_after_its_use_along_a_dimension():
    x = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
    zeros = cr.zeros(3)
    uses = {
        "gather": (lambda i: cr.gather(x, 0, i), [1, 1, 0]),
        "take_along_dim": (lambda i: cr.take_along_dim(x, i, 0), [1, 1, 0]),
        "index_select": (lambda i: cr.index_select(x, 0, i), [1, 1, 0]),
        "embedding": (lambda i: cr.embedding(i, x.reshape(3, 1)), [1, 1, 0]),
        "index_add": (lambda i: cr.index_add(zeros, 0, i, x[:2]) * cr.tensor([1.0, 10.0, 100.0]), [1, 10, 0]),
        "scatter_add": (lambda i: cr.scatter_add(zeros, 0, i, x[:2]) * cr.tensor([1.0, 10.0, 100.0]), [1, 10, 0]),
        "scatter": (lambda i: cr.scatter(zeros, 0, i, x[:2]) * cr.tensor([1.0, 10.0, 100.0]), [1, 10, 0]),
    }
    for name, (use, expected) in uses.items():
        index = np.array([0, 1])
        y = use(index)
        index += 1
        assert cr.autograd.grad(y.sum(), [x])[0].tolist() == expected, name


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8"])
def test_an_index_from_the_end_of_any_dtype(dtype):
    x = cr.arange(300)
    given, expected = ([0, -1, 100, -2], [0, 299, 100, 298]) if dtype[0] == "i" else ([0, 255], [0, 255])
    assert cr.index_select(x, 0, np.array(given, dtype)).tolist() == expected
    with pytest.raises(IndexError, match="index_select: index 127 is outside dimension 0 of size 7"):
        cr.index_select(x[:7], 0, np.array([3, 127], dtype))
    with pytest.raises(IndexError, match="index_select: index 0 is outside dimension 0 of size 0"):
        cr.index_select(x[:0], 0, np.array([0], dtype))
    assert cr.index_select(x[:0], 0, np.array([], dtype)).shape == (0,)


def test_an_index_in_the_other_byte_order():
    x, index = cr.zeros(300, requires_grad=True), np.array([256, -256, 1], np.dtype(np.int16).newbyteorder())
    assert cr.index_add(x, 0, index, cr.ones(3)).detach().numpy().nonzero()[0].tolist() == [1, 44, 256]
    cr.index_select(x, 0, index).sum().backward()
    assert x.grad.numpy().nonzero()[0].tolist() == [1, 44, 256]
    with pytest.raises(IndexError, match="index_select: index 256 is outside dimension 0 of size 10"):
        cr.index_select(x[:10], 0, index)


def test_an_array_of_numpy_may_change_after_its_use_as_an_operand():
    x = cr.tensor([0.2, 0.3, 0.5], requires_grad=True)
    F = cr.nn.functional
    uses = {
        "einsum": (lambda a: cr.einsum("i,i->i", x, a), [1.0, 0.0, 0.0], [1, 0, 0]),
        "masked_fill": (lambda a: cr.masked_fill(x, a, 0), [True, False, False], [0, 1, 1]),
        "mse_loss": (lambda a: F.mse_loss(x, a, reduction="sum"), [1.0, 0.0, 0.0], [-1.6, 0.6, 1]),
        "nll_loss": (lambda a: F.nll_loss(x[None], a), [0], [-1, 0, 0]),
        "weighted": (lambda a: F.nll_loss(x[None], cr.tensor([0]), a, reduction="sum"), [2.0, 1.0, 1.0], [-2, 0, 0]),
    }
    for name, (use, given, expected) in uses.items():
        array = np.array(given, None if isinstance(given[0], (bool, int)) else np.float32)
        y = use(array)
        array[...] = 1
        np.testing.assert_allclose(cr.autograd.grad(y.sum(), [x])[0].numpy(), expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("index", "shape"),
    [
        (([1, -2, 0],), (3,)),
        (([1, -2, 0],), (3, 2)),
        (([1, 1, 0],), ()),
        (([1, 1, 0], slice(None)), (1, 2)),
        ((slice(None), [1, 1]), (3, 2)),
        (([[0], [0]], [[1, 1, 0]]), (2, 3)),
        (([2, 2], None, [1, 1]), (2, 1)),
        ((1, [0, 0]), (2,)),
        (([False, True, True], [0, 0]), (2,)),
        (([],), (0, 2)),
    ],
)
def test_an_overwritten_value_has_no_gradient(index, shape, rng):
    plain = tuple(np.array(i, int if not i else None) if isinstance(i, list) else i for i in index)
    base = (3,) if shape == (3,) else (3, 2)
    x, weight = rng.standard_normal(base), rng.standard_normal(base)
    value = rng.standard_normal(shape)

    def written(v):
        out = x.copy()
        out[plain] = v
        return (out**2 * weight).sum()

    v = cr.tensor(value, requires_grad=True)
    out = cr.with_item(cr.tensor(x), plain, v)
    (slope,) = cr.autograd.grad((out**2 * cr.tensor(weight)).sum(), [v], create_graph=True)
    expected = np.zeros(shape)
    for place in np.ndindex(shape):
        step = np.zeros(shape)
        step[place] = 0.5
        expected[place] = written(value + step) - written(value - step)
    np.testing.assert_allclose(slope.detach().numpy(), expected, atol=1e-12)


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
