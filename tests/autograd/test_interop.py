"""Memory shared with NumPy and, by DLPack, with other libraries."""

import numpy as np
import pytest

import chainrule as cr


def test_numpy_is_a_read_only_view():
    t = cr.tensor([1.0, 2.0])
    a = t.numpy()
    assert np.shares_memory(a, t.array)
    with pytest.raises(ValueError, match="read-only"):
        a[0] = 5
    b = a.copy()
    b[0] = 5
    assert t.tolist() == [1, 2]
    with cr.no_grad():
        t[0] = 9
    assert a.tolist() == [9, 2]


def test_tensors_that_require_grad_are_not_handed_to_numpy():
    x = cr.ones(2, requires_grad=True)
    for attempt in (lambda: x.numpy(), lambda: np.asarray(x), lambda: np.array(x * 2), lambda: np.array([x, x])):
        with pytest.raises(
            RuntimeError, match=r"numpy\(\) of a tensor of shape \(2,\) that requires grad.*t\.detach\(\)\.numpy\(\)"
        ):
            attempt()
    assert np.asarray(x.detach()).tolist() == [1, 1]


def test_numpy_constructors_make_numbers_never_objects():
    t = cr.tensor([1.0, 2.0])
    for made in (
        np.asarray(t),
        np.array(t),
        np.array([t, t]),
        np.asarray(t, dtype=np.float64),
        np.array([cr.tensor(1.0)]),
    ):
        assert made.dtype.kind == "f"
    copy = np.array(t)
    copy[0] = 5
    assert t.tolist() == [1, 2]
    assert np.asarray(t, dtype=np.int64).tolist() == [1, 2]
    assert float(cr.tensor(2.5)) == 2.5 and int(cr.tensor(2.5)) == 2


def test_as_tensor_and_from_numpy_share_and_tensor_copies():
    a = np.array([1.0, 2.0])
    shared, again, copied = cr.as_tensor(a), cr.from_numpy(a), cr.tensor(a)
    a[0] = 7
    assert shared.tolist() == again.tolist() == [7, 2] and copied.tolist() == [1, 2]
    assert cr.as_tensor(shared) is shared
    assert cr.as_tensor(shared, dtype=cr.float64) is shared
    assert cr.as_tensor(a, dtype=cr.float32).dtype == cr.float32
    assert "The engine cannot see what you write to the shared array" in cr.as_tensor.__doc__
    assert "cannot see what the other library writes" in cr.Tensor.__dlpack__.__doc__


def test_writes_of_the_engine_to_shared_memory_are_seen_through_both():
    a = np.array([1.0, 2.0])
    one, two = cr.as_tensor(a), cr.as_tensor(a).requires_grad_()
    y = two * two
    one.add_(1)
    with pytest.raises(RuntimeError, match="multiply: a value that its derivative needs was changed in place"):
        y.sum().backward()


def test_byte_order_strides_and_subclasses():
    big = np.array([1.0, 2.0], dtype=">f8")
    assert cr.tensor(big).dtype == cr.float64 and cr.tensor(big).array.dtype.isnative
    assert cr.as_tensor(np.arange(6.0).reshape(2, 3).T[::-1]).tolist() == [[2, 5], [1, 4], [0, 3]]

    class Special(np.ndarray):
        pass

    assert type(cr.as_tensor(np.ones(2).view(Special)).array) is np.ndarray
    assert cr.tensor(np.float32(2.0)).dtype == cr.float32
    assert cr.tensor(memoryview(b"ab")).dtype == cr.uint8


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "uint8", "bool"])
def test_dlpack_with_numpy(dtype):
    t = cr.tensor(np.array([0, 1, 1]), dtype=dtype)
    a = np.from_dlpack(t)
    assert a.dtype == t.dtype and np.shares_memory(a, t.array)
    back = cr.from_dlpack(a)
    assert back.dtype == t.dtype and np.shares_memory(back.array, t.array)
    assert t.__dlpack_device__() == (1, 0)


def test_dlpack_with_pytorch(torch):
    t = cr.arange(6.0).reshape(2, 3).T
    theirs = torch.from_dlpack(t)
    assert theirs.tolist() == t.tolist() and theirs.stride() == (1, 3)
    theirs[0, 0] = 50
    assert t[0, 0].item() == 50
    source = torch.arange(4.0)
    ours = cr.from_dlpack(source)
    source[0] = 9
    assert ours.tolist() == [9, 1, 2, 3]
    x = ours.clone().requires_grad_()
    (x * ours).sum().backward()
    assert x.grad.tolist() == [9, 1, 2, 3]


def test_dlpack_of_what_requires_grad():
    x = cr.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"__dlpack__ of a tensor of shape \(2,\) that requires grad.*t\.detach\(\)"):
        np.from_dlpack(x)
    assert np.from_dlpack(x.detach()).tolist() == [1, 1]


@pytest.mark.parametrize(
    "data", [1 + 2j, [1 + 2j], np.array([1j]), "text", ["a"], np.array(["a"]), np.datetime64("2020-01-01")]
)
def test_what_no_tensor_can_hold(data):
    with pytest.raises(TypeError, match="tensors hold float16, bfloat16, float32, float64, signed and"):
        cr.tensor(data)


def test_ragged_and_strange_lists():
    with pytest.raises(ValueError, match="could not make an array of .*nested lists must have equal lengths"):
        cr.tensor([[1.0], [1.0, 2.0]])
    for data in ([None], [object()], {"a": 1}, None, [10**30]):
        with pytest.raises(TypeError, match="could not make a tensor of .*its items are not numbers"):
            cr.tensor(data)
    with pytest.raises(TypeError, match="could not make a tensor of .*…"):
        cr.tensor([None] * 100)
    with pytest.raises(TypeError, match="from_numpy: received list; pass a NumPy array"):
        cr.from_numpy([1.0])
    with pytest.raises(TypeError, match="received the dtype 'what', which NumPy does not know"):
        cr.zeros(2, dtype="what")


def test_lists_of_tensors():
    t = cr.tensor([1.0, 2.0])
    assert cr.tensor([t, t]).tolist() == [[1, 2], [1, 2]]
    assert cr.tensor([cr.tensor(1.0), 2.0]).tolist() == [1, 2]
    with pytest.raises((RuntimeError, ValueError), match=r"cr\.stack|detach"):
        cr.tensor([cr.ones(2, requires_grad=True)])
