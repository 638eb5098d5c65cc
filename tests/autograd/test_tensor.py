"""Tensor: operators, conversions, text, copies, subclasses."""

import copy
import operator
import pickle

import numpy as np
import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule.autograd import REGISTRY
from chainrule.autograd.primitive import Unary
from chainrule.autograd.tensor import form_of

f64 = cr.float64


def leaf(*values):
    return cr.tensor(values, dtype=f64, requires_grad=True)


# ---- operators -------------------------------------------------------------------------------------------------------

OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.floordiv,
    operator.mod,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]


@pytest.mark.parametrize("op", OPERATORS)
def test_operators_on_both_sides(op, rng):
    a, b = rng.uniform(0.5, 2, (2, 3)), rng.uniform(0.5, 2, 3)
    x, y = cr.tensor(a), cr.tensor(b)
    for ours, theirs in [
        (op(x, y), op(a, b)),
        (op(x, 2), op(a, 2)),
        (op(2, x), op(2, a)),
        (op(x, 1.5), op(a, 1.5)),
        (op(1.5, y), op(1.5, b)),
    ]:
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-14)
    np.testing.assert_allclose(
        op(x, list(b.astype(np.float32).astype(float))).numpy(), op(a, b.astype(np.float32)), rtol=1e-6
    )


@pytest.mark.parametrize("op", [operator.and_, operator.or_, operator.xor])
def test_bitwise_operators(op):
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert op(cr.tensor(a), cr.tensor(b)).tolist() == op(a, b).tolist()
    assert op(cr.tensor([6, 3]), 2).tolist() == op(np.array([6, 3]), 2).tolist()
    assert op(2, cr.tensor([6, 3])).tolist() == op(2, np.array([6, 3])).tolist()
    assert (~cr.tensor(a)).tolist() == (~a).tolist()


def test_unary_operators():
    x = cr.tensor([1.0, -2.0])
    assert (-x).tolist() == [-1, 2] and abs(x).tolist() == [1, 2] and +x is x
    assert (x @ x).item() == 5


@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_python_numbers_do_not_change_the_dtype(op, dtype):
    x = cr.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    for made in (op(x, 2), op(x, 0.5), op(2, x), op(0.5, x), op(x, True)):
        assert made.dtype == np.dtype(dtype)
    (g,) = cr.autograd.grad(op(x, 0.5).sum(), [x])
    assert g.dtype == np.dtype(dtype)


def test_comparisons_with_what_is_no_number():
    t = cr.tensor([1.0, 2.0])
    assert (t == None) is False and (t != None) is True  # noqa: E711
    assert (t == "text") is False and (t != "text") is True
    for compare in (operator.lt, operator.ge):
        with pytest.raises(TypeError, match="not supported between instances"):
            compare(t, None)
        with pytest.raises(TypeError, match="not supported between instances"):
            compare(t, "text")
    with pytest.raises(TypeError, match="equal: received object"):
        t == object()  # noqa: B015


@pytest.mark.parametrize("op", [operator.add, operator.mul, operator.truediv, operator.pow, operator.matmul])
@pytest.mark.parametrize("other", [None, "text", object(), {}])
def test_arithmetic_with_what_is_no_number(op, other):
    t = cr.tensor([1.0, 2.0])
    with pytest.raises(TypeError):
        op(t, other)
    with pytest.raises(TypeError):
        op(other, t)


def test_shapes_that_do_not_broadcast():
    with pytest.raises(
        ValueError,
        match=r"add: shape \(2,\) of float32, shape \(3,\) of float32 do not broadcast; aligned at the right",
    ):
        cr.ones(2) + cr.ones(3)
    with pytest.raises(
        ValueError, match=r"multiply: shape \(2,\) of float64, shape \(3,\) of float64 do not broadcast"
    ):
        cr.ones(2) * np.ones(3)


def test_power_edge_cases():
    x = leaf(0.0, 2.0)
    (x**2).sum().backward()
    assert x.grad.tolist() == [0, 4]
    assert cr.autograd.grad((x**0).sum(), [x])[0].tolist() == [0, 0]
    assert (cr.tensor([2, 3]) ** 2).dtype == cr.int64


# ---- as a container --------------------------------------------------------------------------------------------------


def test_membership():
    t = cr.tensor([1.0, 2.0])
    assert 1.0 in t and 2 in t and 3.0 not in t and cr.tensor(1.0) in t
    with pytest.raises(TypeError, match="its items are not numbers"):
        None in t  # noqa: B015


def test_length_and_iteration():
    x = leaf(1.0, 2.0)
    assert len(x) == 2 and len(cr.zeros(0, 3)) == 0
    a, b = x
    (a * b).backward()
    assert x.grad.tolist() == [2, 1]
    assert [row.tolist() for row in cr.arange(4).reshape(2, 2)] == [[0, 1], [2, 3]]
    with pytest.raises(TypeError, match=r"len\(\) of a 0-d tensor: it has no dimension to count; use t\.numel\(\)"):
        len(cr.tensor(1.0))
    with pytest.raises(TypeError, match=r"iteration over a 0-d tensor: .*use t\.item\(\)"):
        iter(cr.tensor(1.0))


def test_as_a_number():
    assert float(cr.tensor([[2.5]])) == 2.5 and int(cr.tensor(2.7)) == 2
    assert cr.tensor([3], dtype=cr.int32).item() == 3 and type(cr.tensor(3).item()) is int
    assert type(cr.tensor(True).item()) is bool
    assert [10, 20, 30][cr.tensor(1)] == 20 and list(range(cr.tensor([3]))) == [0, 1, 2]
    assert "abc"[cr.tensor(True)] == "b"
    with pytest.raises(
        TypeError, match=r"a tensor of dtype float32 was used as an index; only integers can be; use int\(t\)"
    ):
        [1][cr.tensor(0.0)]
    for f, name in [(float, r"float\(\)"), (int, r"int\(\)"), (bool, r"bool\(\)"), (lambda t: t.item(), r"item\(\)")]:
        for shape in [(2,), (0,), (2, 2)]:
            with pytest.raises(
                ValueError, match=rf"{name} of a tensor of shape .*: only one element has one value; use \.all\(\)"
            ):
                f(cr.zeros(*shape))
    with pytest.raises(ValueError, match="an index of a tensor of shape"):
        range(cr.arange(2))
    assert bool(cr.tensor([0.0])) is False and bool(cr.tensor(3)) is True
    assert cr.tensor([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]] and cr.tensor(1.5).tolist() == 1.5


def test_what_it_says_of_itself():
    t = cr.zeros(2, 3, dtype=cr.float16)
    assert t.shape == (2, 3) and t.ndim == t.dim() == 2 and t.numel() == 6
    assert t.size() == (2, 3) and t.size(1) == 3 and t.size(-1) == 3
    assert t.nbytes == 12 and t.itemsize == t.element_size() == 2 and t.device == "cpu"
    assert t.is_floating_point() and not cr.arange(2).is_floating_point()
    assert t.is_contiguous() and not t.T.is_contiguous() and t.T.shape == (3, 2)
    assert t.is_leaf and cr.ones(1, requires_grad=True).is_leaf and not leaf(1.0).sum().is_leaf
    assert len({t, t, cr.zeros(1)}) == 2  # hashed by identity


def test_leaves_and_results():
    x = leaf(1.0)
    y = x * 2
    assert x.grad_fn is None and y.grad_fn.name == "multiply" and repr(y.grad_fn) == f"<multiply #{y.grad_fn.seq}>"
    assert y.grad_fn.next_functions == (x, None) and y.grad_fn.shape == (1,)
    with pytest.raises(RuntimeError, match=r"requires_grad = False on a result of an operation; use t\.detach\(\)"):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2).requires_grad
    assert x.requires_grad_() is x and x.requires_grad_(False).requires_grad is False
    assert not y.detach().requires_grad and np.shares_memory(y.detach().array, y.array)


# ---- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: cr.tensor([1.0, 2.5]), "tensor([1. , 2.5])"),
        (lambda: cr.tensor(3.0), "tensor(3.)"),
        (lambda: cr.tensor(3), "tensor(3)"),
        (lambda: cr.tensor([True]), "tensor([ True])"),
        (lambda: cr.tensor([1.0], dtype=f64), "tensor([1.], dtype=float64)"),
        (lambda: cr.tensor([1], dtype=cr.int8), "tensor([1], dtype=int8)"),
        (lambda: cr.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
        (lambda: cr.zeros(0), "tensor([])"),
        (lambda: cr.zeros(2, 0), "tensor([], size=(2, 0))"),
        (lambda: cr.tensor([[1, 2], [3, 4]]), "tensor([[1, 2],\n        [3, 4]])"),
        (lambda: cr.tensor([float("nan"), float("inf")]), "tensor([nan, inf])"),
    ],
)
def test_repr(make, text):
    assert repr(make()) == str(make()) == text


def test_repr_of_results_and_long_tensors():
    y = leaf(1.0) * 2
    assert repr(y) == f"tensor([2.], dtype=float64, grad_fn=<multiply #{y.grad_fn.seq}>)"
    text = repr(cr.arange(100_000))
    assert "..." in text and len(text) < 200
    assert len(repr(cr.zeros(50, 50, 50))) < 3000


def test_format():
    t = cr.tensor(3.14159)
    assert f"{t:.2f}" == "3.14" and f"{cr.tensor([7]):04d}" == "0007" and f"{t}" == str(t.item())
    assert f"{cr.ones(2)}" == "tensor([1., 1.])" and f"{cr.ones(2):>20}" == "    tensor([1., 1.])"
    with pytest.raises(ValueError, match=r"the format '.2f' of a tensor of shape \(2,\): only one element"):
        f"{cr.ones(2):.2f}"


# ---- dtypes and devices ----------------------------------------------------------------------------------------------


def test_conversions():
    t = cr.tensor([1.7, -2.2])
    assert t.to(cr.float32) is t and t.to(f64).dtype == f64 and t.to("float16").dtype == cr.float16
    assert t.long().tolist() == [1, -2] and t.double().dtype == f64 and t.half().dtype == cr.float16
    assert t.to("cpu") is t and t.to(device="cpu", dtype=cr.int32).dtype == cr.int32
    assert t.to(cr.zeros(1, dtype=f64)).dtype == f64 and t.type_as(cr.zeros(1, dtype=f64)).dtype == f64
    assert t.to(cr.float32, copy=True) is not t
    x = cr.tensor([1.0], requires_grad=True)
    x.to(f64).sum().backward()
    assert x.grad.dtype == cr.float32
    with pytest.raises(ValueError, match=r"received device='cuda:3'; .*; CUDA_VISIBLE_DEVICES chooses the GPU"):
        t.to("cuda:3")
    with pytest.raises(TypeError, match="received the dtype complex128; tensors hold"):
        t.to("complex128")
    with pytest.raises(TypeError, match="which NumPy does not know"):
        t.to("float31")


def test_default_dtype():
    try:
        cr.set_default_dtype("float64")
        assert cr.get_default_dtype() == f64
        assert cr.tensor(0.5).dtype == cr.zeros(1).dtype == cr.randn(1).dtype == (cr.tensor([1]) / 2).dtype == f64
        assert cr.tensor([1], dtype=float).dtype == f64
        assert "dtype" not in repr(cr.tensor([0.5]))
    finally:
        cr.set_default_dtype(cr.float32)
    assert cr.tensor([1], dtype=float).dtype == cr.float32 and cr.tensor([1.0], dtype=int).dtype == cr.int64
    with pytest.raises(TypeError, match="set_default_dtype: received int64; only a floating dtype can be the default"):
        cr.set_default_dtype(cr.int64)


def test_promotion_is_pytorchs(torch):
    names = "bool uint8 int8 int16 int32 int64 float16 float32 float64".split()
    for a in names:
        for b in names:
            for shapes in [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())]:
                ours = cr.result_type(*[cr.ones(s, dtype=n) for s, n in zip(shapes, (a, b), strict=True)])
                theirs = torch.result_type(
                    *[torch.ones(s, dtype=getattr(torch, n)) for s, n in zip(shapes, (a, b), strict=True)]
                )
                assert str(theirs) == f"torch.{ours}", (a, b, shapes)
        for number in (True, 2, 2.5):
            for shape in ((2,), ()):
                ours = cr.result_type(cr.ones(shape, dtype=a), number)
                theirs = torch.result_type(torch.ones(shape, dtype=getattr(torch, a)), number)
                assert str(theirs) == f"torch.{ours}", (a, number, shape)


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_of_leaves_are_unshared(copied):
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    y = copied(x)
    assert y.tolist() == [1, 2] and y.requires_grad and y.is_leaf and type(y) is cr.Tensor
    assert not np.shares_memory(x.array, y.array)
    with cr.no_grad():
        y.add_(1)
    assert x.tolist() == [1, 2]
    constant = copied(cr.arange(3))
    assert constant.tolist() == [0, 1, 2] and not constant.requires_grad


def test_deepcopy_copies_gradients_and_shares_within_one_copy():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    first, second = copy.deepcopy([x, x])
    assert first is second and first.grad.tolist() == [2, 4]
    assert not np.shares_memory(first.grad.array, x.grad.array)


def test_results_cannot_be_copied_but_their_values_can():
    y = leaf(1.0) * 2
    with pytest.raises(
        RuntimeError, match=r"deepcopy of a tensor of shape \(1,\) that an operation computed.*t\.detach\(\)\.clone\(\)"
    ):
        copy.deepcopy(y)
    with pytest.raises(TypeError, match=r"pickle of a tensor that an operation computed.*use t\.detach\(\)"):
        pickle.dumps({"y": y})
    assert copy.deepcopy(y.detach()).tolist() == [2]


def test_clone_has_its_own_memory_and_passes_gradients():
    x = leaf(1.0, 2.0)
    y = x.clone()
    assert not np.shares_memory(x.array, y.array)
    (y * 3).sum().backward()
    assert x.grad.tolist() == [3, 3]


# ---- subclasses ------------------------------------------------------------------------------------------------------


def test_parameters_behave_as_tensors():
    p = cr.nn.Parameter(cr.ones(2))
    assert p.requires_grad and p.is_leaf and isinstance(p, cr.Tensor)
    y = p * 2 + np.ones(2, np.float32)
    assert type(y) is cr.Tensor
    y.sum().backward()
    assert type(p.grad) is cr.Tensor and p.grad.tolist() == [2, 2]
    with cr.no_grad():
        p -= 0.5 * p.grad
    assert type(p) is cr.nn.Parameter and p.tolist() == [0, 0]
    p.data = cr.ones(3)
    assert type(p) is cr.nn.Parameter and p.shape == (3,)
    assert type(p.detach()) is cr.Tensor


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_copies_of_parameters_are_parameters(copied):
    p = cr.nn.Parameter(cr.ones(2))
    q = copied(p)
    assert type(q) is cr.nn.Parameter and q.requires_grad and q.tolist() == [1, 1]
    assert not np.shares_memory(p.array, q.array)


class Tagged(cr.Tensor):
    def __init__(self, data, tag):
        super().__init__(data)
        self.tag = tag


def test_attributes_of_subclasses_survive_copies():
    tagged = Tagged([1.0], "words")
    assert copy.deepcopy(tagged).tag == "words"
    assert pickle.loads(pickle.dumps(tagged)).tag == "words"


def test_tensors_take_no_new_attributes():
    with pytest.raises(AttributeError):
        cr.ones(1).gradient = 3


# ---- drawn arithmetic ------------------------------------------------------------------------------------------------


@given(st.data())
def test_broadcasting_is_numpys_and_gradients_are_summed_back(data):
    full = data.draw(st.lists(st.integers(0, 3), max_size=4))
    shapes = []
    for _ in range(2):
        start = data.draw(st.integers(0, len(full)))
        shapes.append(tuple(1 if data.draw(st.booleans()) else n for n in full[start:]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    a, b = rng.standard_normal(shapes[0]), rng.standard_normal(shapes[1])
    x, y = cr.tensor(a, requires_grad=True), cr.tensor(b, requires_grad=True)
    z = x * y
    assert z.shape == (a * b).shape
    v = rng.standard_normal(z.shape)
    gx, gy = cr.autograd.grad(z, [x, y], cr.tensor(v))
    for g, value, other in ((gx, a, b), (gy, b, a)):
        expected = v * other
        while expected.ndim > value.ndim:
            expected = expected.sum(0)
        for axis, n in enumerate(value.shape):
            if n == 1:
                expected = expected.sum(axis, keepdims=True)
        np.testing.assert_allclose(g.numpy(), expected.reshape(value.shape), rtol=1e-12, atol=1e-12)


# ---- what tensors know of their arrays -------------------------------------------------------------------------------


@np.errstate(all="ignore")
@pytest.mark.parametrize("dtype", [cr.float16, cr.float32, cr.float64, cr.int64, cr.uint8, cr.bool])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_a_form_is_that_of_the_array(dtype, shape):
    """With an operand that is alike, one that broadcasts, a number, and one of another dtype."""
    floats = dtype.kind == "f"
    x = cr.ones(shape, dtype=dtype, requires_grad=floats)
    others = [cr.ones(shape, dtype=dtype), x * 1, cr.ones((2, 3), dtype=dtype), 2, 0.5, cr.ones(shape)]
    for primitive in REGISTRY.values():
        for args in [[x]] if isinstance(primitive, Unary) else [[x, y] for y in others]:
            try:
                made = [primitive(*args), primitive(*args)]
            except (TypeError, ValueError, IndexError, RuntimeError, NotImplementedError):
                continue
            for y in [one for one in made if isinstance(one, cr.Tensor)]:
                assert y._form is None or y._form is form_of(y.array), primitive
                assert not y._live or y.grad_fn.shape == y.shape, primitive


def test_a_form_follows_new_data():
    x = cr.ones(3, requires_grad=True)
    same, factor = cr.ones(3), cr.ones(3)
    x.data = cr.ones(2, 3, dtype=cr.float64)
    y = x * factor
    assert (y.shape, y.dtype, y.grad_fn.shape) == ((2, 3), cr.float64, (2, 3))
    y.sum().backward()
    assert x.grad.shape == (2, 3)
    for again in (copy.deepcopy(same), pickle.loads(pickle.dumps(same))):
        assert again._form is same._form is form_of(again.array)


DTYPE_SOURCES = {
    "tensor": lambda: cr.tensor([1.0, 2.0]),
    "dtype named": lambda: cr.tensor([1, 2], dtype="float32"),
    "another width": lambda: cr.as_tensor(np.ones(2), dtype=cr.float32),
    "bytes swapped": lambda: cr.tensor(np.ones(2, ">f4")),
    "drawn": lambda: cr.randn(2),
    "converted": lambda: cr.ones(2, dtype=cr.float64).float(),
    "unpickled array": lambda: cr.as_tensor(pickle.loads(pickle.dumps(np.ones(2, np.float32)))),
    "unpickled tensor": lambda: pickle.loads(pickle.dumps(cr.ones(2))),
    "an operation on a strided view": lambda: cr.relu(cr.ones(2, 3).T) + 1,
}


@pytest.mark.parametrize("source", DTYPE_SOURCES)
def test_equal_dtypes_are_one_object_so_that_operations_take_the_short_path(source):
    assert DTYPE_SOURCES[source]().dtype is np.dtype(np.float32)


def test_integers_of_equal_width_have_one_dtype():
    assert cr.as_tensor(np.arange(3, dtype=np.longlong)).dtype is cr.int64
    assert cr.as_tensor(np.arange(3, dtype=np.int_)).dtype is cr.int64
