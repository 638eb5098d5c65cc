"""x[index] and x[index] = v of every kind, against NumPy, with gradients."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import chainrule as cr

f64 = cr.float64


@st.composite
def arrays_and_indices(draw):
    """An array of distinct numbers and a valid index of any kind."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    array = np.arange(float(np.prod(shape))).reshape(shape)
    if draw(st.integers(0, 9)) == 0:
        return array, draw(st.sampled_from([array % 2 == 0, array < 0, array >= 0]))
    items, advanced = [], draw(st.booleans())
    width = draw(st.integers(1, 3))
    for n in shape[: draw(st.integers(0, len(shape)))]:
        kinds = ["int", "slice", "array", "mask"] if advanced else ["int", "slice"]
        kind = draw(st.sampled_from(kinds))
        if kind == "int":
            items.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            bound = st.none() | st.integers(-n - 1, n + 1)
            items.append(slice(draw(bound), draw(bound), draw(st.sampled_from([None, 1, 2, -1, -2]))))
        elif kind == "array":
            numbers = draw(st.lists(st.integers(-n, n - 1), min_size=width, max_size=width))
            items.append(draw(st.sampled_from([np.array, list, lambda v: np.array(v)[:, None]]))(numbers))
        else:
            true = draw(st.permutations([True] * min(width, n) + [False] * (n - min(width, n))))
            items.append(np.array(true))
    if draw(st.booleans()):
        items.insert(draw(st.integers(0, len(items))), None)
    if draw(st.booleans()) and Ellipsis not in [i for i in items if not isinstance(i, (np.ndarray, list))]:
        items.append(Ellipsis)
    index = tuple(items)
    try:
        array[index]
    except IndexError:  # arrays and masks of different lengths
        index = tuple(i for i in items if i is None or i is Ellipsis or isinstance(i, slice))
    return array, index[0] if len(index) == 1 and draw(st.booleans()) else index


def as_tensors(index):
    if isinstance(index, tuple):
        return tuple(as_tensors(i) for i in index)
    return cr.tensor(index) if isinstance(index, np.ndarray) else index


@settings(max_examples=300)
@given(arrays_and_indices(), st.booleans())
def test_reading(case, with_tensors):
    array, index = case
    x = cr.tensor(array, requires_grad=True)
    y = x[as_tensors(index) if with_tensors else index]
    expected = np.asarray(array[index])
    assert y.shape == expected.shape and np.array_equal(y.detach().numpy(), expected)
    v = np.arange(1.0, y.numel() + 1).reshape(y.shape)
    (g,) = cr.autograd.grad(y, [x], cr.tensor(v))
    spread = np.zeros_like(array)
    for place, number in zip(expected.reshape(-1), v.reshape(-1), strict=True):  # the values are their own positions
        spread.reshape(-1)[int(place)] += number
    assert np.array_equal(g.numpy(), spread)


@settings(max_examples=200)
@given(arrays_and_indices(), st.sampled_from(["number", "whole", "row", "tensor"]))
def test_writing(case, kind):
    array, index = case
    place = np.asarray(array[index])
    if np.unique(place).size != place.size:
        return  # of repeated indices NumPy lets the last win: tested below
    value = -1.5
    if kind != "number":
        value = -np.arange(1.0, place.size + 1).reshape(place.shape)
        if kind == "row" and place.ndim:
            value = value[:1]
    expected = array.copy()
    expected[index] = value
    x = cr.tensor(array, requires_grad=True)
    v = cr.tensor(value, dtype=f64, requires_grad=kind == "tensor")
    y = x * 1
    y[index] = v if kind == "tensor" else value
    assert np.array_equal(y.detach().numpy(), expected)
    wanted = [x, v] if kind == "tensor" else [x]
    weights = np.arange(1.0, array.size + 1).reshape(array.shape)
    got = cr.autograd.grad((y * weights).sum(), wanted, materialize_grads=True)
    free = weights.copy()
    free[index] = 0
    assert np.array_equal(got[0].numpy(), free)
    if kind == "tensor":
        assert np.array_equal(got[1].numpy(), weights[index].reshape(place.shape))
    plain = cr.tensor(array)
    plain[index] = value
    assert np.array_equal(plain.numpy(), expected)


@settings(max_examples=60)
@given(arrays_and_indices())
def test_second_derivatives(case):
    array, index = case
    cr.check_grads(lambda x: cr.sin(x[index]) * x[index], [array / 7 + 0.1])


def test_repeated_indices_add_up_in_gradients():
    x = cr.arange(3.0, dtype=f64).requires_grad_()
    x[[0, 0, 2, 0]].sum().backward()
    assert x.grad.tolist() == [3, 0, 1]
    x.grad = None
    x[np.array([[0, 1], [1, 0]]), None].sum().backward()
    assert x.grad.tolist() == [2, 2, 0]
    x.grad = None
    x[[-1, 2]].sum().backward()
    assert x.grad.tolist() == [0, 0, 2]


def test_a_million_equal_indices():
    x = cr.zeros(3, dtype=f64).requires_grad_()
    x[np.ones(1_000_000, np.int64)].sum().backward()
    assert x.grad.tolist() == [0, 1_000_000, 0]


def test_basic_indices_give_views_and_others_copies():
    t = cr.zeros(4)
    t[1:3].fill_(5)
    t[[0]].fill_(7)
    assert t.tolist() == [0, 5, 5, 0]


def test_zero_dimensional_and_empty():
    t = cr.tensor(5.0)
    assert t[()].shape == () and t[...].shape == () and t[None].shape == (1,) and t[..., None].shape == (1,)
    assert t[cr.tensor(True)].shape == (1,) and t[False].shape == (0,)
    e = cr.zeros(0, 3)
    assert e[:, 1].shape == (0,) and e[[]].shape == (0, 3) and cr.ones(3)[[]].shape == (0,)
    assert cr.arange(3)[cr.tensor(1)].item() == 1 and cr.arange(3)[np.int64(2)].item() == 2
    assert cr.arange(5)[range(1, 3)].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("index", "error", "told"),
    [
        (
            3,
            IndexError,
            r"getitem: index 3 is out of bounds .*; received x\[3\] for shape \(3, 2\); stay inside each dimension",
        ),
        ((0, 0, 0), IndexError, "getitem: too many indices"),
        ([0, 5], IndexError, r"received x\[array of shape \(2,\)\] for shape \(3, 2\)"),
        (np.array([True, False]), IndexError, "getitem: boolean index did not match"),
        (([0, 1], [0, 1, 0]), IndexError, "getitem: shape mismatch"),
        (
            1.5,
            IndexError,
            r"getitem: received 1\.5 as an index of a tensor of shape \(3, 2\); pass integers, slices, None",
        ),
        ("text", IndexError, "getitem: received 'text' as an index"),
        (
            cr.tensor([0.0]),
            IndexError,
            r"getitem: received an index of dtype float32; indices are integers or bools; convert it with \.long\(\)",
        ),
        ([0.5], IndexError, "getitem: received an index of dtype float64"),
    ],
)
def test_wrong_indices(index, error, told):
    for x in (cr.zeros(3, 2), cr.zeros(3, 2, requires_grad=True) * 1):
        with pytest.raises(error, match=told):
            x[index]
        with pytest.raises(error):
            x[index] = 1.0
        assert not x.detach().numpy().any()


def test_pieces_of_arrays_and_of_nothing():
    x = np.arange(6.0).reshape(2, 3)
    for made, expected in ((cr.split(x, [1, 2], 1), (x[:, :1], x[:, 1:])), (cr.unbind(x), (x[0], x[1]))):
        assert type(made) is tuple and all(map(np.array_equal, made, expected))
        assert all(type(piece) is np.ndarray and np.shares_memory(piece, x) for piece in made)
    assert cr.zeros(0, 3).unbind() == () == tuple(cr.zeros(0))
    assert [p.shape for p in cr.zeros(0, 3).split(2)] == [(0, 3)]
    assert [p.shape for p in cr.zeros(2).unbind()] == [(), ()]
