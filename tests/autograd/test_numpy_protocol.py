"""NumPy's functions on tensors compute what they compute on arrays, and record."""

import numpy as np
import pytest

import chainrule as cr

f64 = cr.float64


def same(ours, theirs):
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
        return
    assert isinstance(ours, cr.Tensor), type(ours)
    theirs = np.asarray(theirs)
    assert ours.array.dtype != object and ours.shape == theirs.shape
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-12)


UNARY = (
    "exp exp2 expm1 sqrt square reciprocal sin cos tan arctan sinh cosh tanh arcsinh absolute fabs negative sign floor "
    "ceil trunc rint"
).split()
POSITIVE = "log log1p log2 log10".split()
BINARY = (
    "add subtract multiply divide true_divide maximum minimum power float_power remainder floor_divide logaddexp "
    "arctan2"
).split()
COMPARISONS = "equal not_equal less less_equal greater greater_equal logical_and logical_or logical_xor".split()


@pytest.mark.parametrize("name", UNARY + POSITIVE)
def test_unary_ufuncs(name, rng):
    ufunc = getattr(np, name)
    a = rng.uniform(0.5, 2, (3, 4)) * (1 if name in POSITIVE or name == "sqrt" else rng.choice([-1, 1], (3, 4)))
    x = cr.tensor(a, requires_grad=True)
    same(ufunc(x), ufunc(a))
    assert ufunc(x).requires_grad


@pytest.mark.parametrize("name", BINARY)
def test_binary_ufuncs(name, rng):
    ufunc = getattr(np, name)
    a, b = rng.uniform(0.5, 2, (3, 4)), rng.uniform(0.5, 2, (4,))
    x, y = cr.tensor(a, requires_grad=True), cr.tensor(b, requires_grad=True)
    for ours in (ufunc(x, y), ufunc(a, y), ufunc(x, b)):
        same(ours, ufunc(a, b))
        assert ours.requires_grad is (name != "floor_divide")
    same(ufunc(x, 2.0), ufunc(a, 2.0))
    same(ufunc(2.0, y), ufunc(2.0, b))
    same(ufunc(np.float64(2.0), y), ufunc(2.0, b))


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons(name):
    ufunc = getattr(np, name)
    a, b = np.array([0.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0])
    assert ufunc(cr.tensor(a), b).tolist() == ufunc(a, b).tolist()
    assert ufunc(a, cr.tensor(b)).dtype == cr.bool


def test_ufuncs_without_a_gradient():
    a = np.array([1.0, np.nan, np.inf])
    for ufunc in (np.isnan, np.isinf, np.isfinite):
        assert ufunc(cr.tensor(a)).tolist() == ufunc(a).tolist()
    assert np.logical_not(cr.tensor([True, False])).tolist() == [False, True]
    assert np.invert(cr.tensor([True, False])).tolist() == [False, True]
    assert np.bitwise_and(cr.tensor([6, 3]), 2).tolist() == [2, 2]


def test_operators_with_arrays_on_either_side(rng):
    a, b = rng.uniform(1, 2, (2, 3)), rng.uniform(1, 2, 3)
    x = cr.tensor(b, requires_grad=True)
    for op in (
        lambda p, q: p + q,
        lambda p, q: p - q,
        lambda p, q: p * q,
        lambda p, q: p / q,
        lambda p, q: p**q,
        lambda p, q: p // q,
        lambda p, q: p % q,
    ):
        same(op(a, x), op(a, b))
        same(op(x, a), op(b, a))
    same(a @ x, a @ b)
    same(x @ a.T, b @ a.T)
    assert (a > x).tolist() == (a > b).tolist()
    assert isinstance(np.float64(2.0) * x, cr.Tensor) and (np.float64(2.0) * x).requires_grad
    (a * x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), a.sum(0))


def test_matmul_records(rng):
    a = rng.standard_normal((2, 3))
    x = cr.tensor(rng.standard_normal((3, 2)), requires_grad=True)
    np.matmul(a, x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), a.T @ np.ones((2, 2)))


FUNCTIONS = {
    "concatenate": lambda x: np.concatenate([x, x * 2]),
    "concatenate axis": lambda x: np.concatenate([x, x], axis=1),
    "stack": lambda x: np.stack([x, x], axis=1),
    "sum": lambda x: np.sum(x),
    "sum axis": lambda x: np.sum(x, axis=1, keepdims=True),
    "mean": lambda x: np.mean(x, 0),
    "prod": lambda x: np.prod(x, axis=1),
    "var": lambda x: np.var(x, axis=1),
    "var ddof": lambda x: np.var(x, ddof=1),
    "std": lambda x: np.std(x, axis=0, ddof=1, keepdims=True),
    "max": lambda x: np.max(x, axis=1),
    "min": lambda x: np.min(x),
    "amax": lambda x: np.amax(x, axis=(0, 1)),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "argmax": lambda x: np.argmax(x, axis=1),
    "argmin": lambda x: np.argmin(x),
    "argsort": lambda x: np.argsort(x, axis=0),
    "sort": lambda x: np.sort(x),
    "sort axis": lambda x: np.sort(x, axis=0),
    "any": lambda x: np.any(x > 1, axis=0),
    "all": lambda x: np.all(x > -9),
    "reshape": lambda x: np.reshape(x, (4, 3)),
    "reshape -1": lambda x: np.reshape(x, -1),
    "ravel": lambda x: np.ravel(x),
    "transpose": lambda x: np.transpose(x),
    "transpose axes": lambda x: np.transpose(x[None], (2, 0, 1)),
    "squeeze": lambda x: np.squeeze(x[:1]),
    "expand_dims": lambda x: np.expand_dims(x, 1),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x: np.moveaxis(x[None], 0, -1),
    "broadcast_to": lambda x: np.broadcast_to(x, (2, 3, 4)),
    "tile": lambda x: np.tile(x, (2, 1)),
    "roll": lambda x: np.roll(x, 1),
    "roll axis": lambda x: np.roll(x, 1, axis=1),
    "flip": lambda x: np.flip(x),
    "flip axis": lambda x: np.flip(x, 1),
    "repeat": lambda x: np.repeat(x, 2),
    "repeat axis": lambda x: np.repeat(x, 2, axis=0),
    "split": lambda x: np.split(x, 2, axis=1),
    "split at": lambda x: np.split(x, [1, 3], axis=1),
    "split past the end": lambda x: np.split(x, [1, 9]),
    "where": lambda x: np.where(x > 0, x, 0.0),
    "clip": lambda x: np.clip(x, -0.5, 0.5),
    "tril": lambda x: np.tril(x),
    "triu": lambda x: np.triu(x, 1),
    "diag": lambda x: np.diag(x[:, :3]),
    "diag of a vector": lambda x: np.diag(x[0]),
    "take_along_axis": lambda x: np.take_along_axis(x, np.array([[0, 1, 1, 0], [2, 2, 2, 2]]), 0),
    "dot": lambda x: np.dot(x, x.T),
    "dot with a vector": lambda x: np.dot(x, x[0]),
    "dot of many dimensions": lambda x: np.dot(x.reshape(2, 2, 3), x.reshape(2, 3, 2)),
    "dot with a number": lambda x: np.dot(x, 2.0),
    "outer": lambda x: np.outer(x[0], x[1]),
    "tensordot": lambda x: np.tensordot(x, x, axes=([0], [0])),
    "tensordot default": lambda x: np.tensordot(x, x),
    "einsum": lambda x: np.einsum("ij,kj->ik", x, x),
    "trace": lambda x: np.trace(x),
    "norm": lambda x: np.linalg.norm(x),
    "norm axis": lambda x: np.linalg.norm(x, axis=1, keepdims=True),
    "norm 1": lambda x: np.linalg.norm(x[0], 1),
    "zeros_like": lambda x: np.zeros_like(x),
    "ones_like": lambda x: np.ones_like(x),
    "isclose": lambda x: np.isclose(x, x + 1e-9),
    "add.reduce": lambda x: np.add.reduce(x),
    "multiply.reduce": lambda x: np.multiply.reduce(x, axis=1),
    "maximum.reduce": lambda x: np.maximum.reduce(x, axis=None),
    "minimum.reduce": lambda x: np.minimum.reduce(x, axis=1, keepdims=True),
}
NO_GRADIENT = ("argmax", "argmin", "argsort", "any", "all", "zeros_like", "ones_like", "isclose")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, rng):
    a = rng.permutation(np.linspace(-1.3, 1.7, 12)).reshape(3, 4)
    x = cr.tensor(a, requires_grad=True)
    ours, theirs = FUNCTIONS[name](x), FUNCTIONS[name](a)
    same(ours, theirs)
    for one in ours if isinstance(ours, (list, tuple)) else [ours]:
        assert one.requires_grad is (name not in NO_GRADIENT)


def test_functions_that_give_plain_answers():
    x = cr.tensor([[1.0, 2.0]], requires_grad=True)
    assert np.shape(x) == (1, 2) and np.ndim(x) == 2 and np.size(x) == 2
    assert np.allclose(x, [[1, 2]]) is True and np.allclose(x, [[1, 3]]) is False
    assert np.allclose(x, [[1, 2.1]], atol=0.2) is True
    assert np.array_equal(x, x) is True
    assert np.array_repr(x) == repr(x) and np.array_str(x) == str(x)
    assert np.isclose(cr.tensor([np.inf]), np.inf).tolist() == [True]
    assert np.zeros_like(x, dtype=cr.float64).dtype == f64


def test_lists_of_tensors_and_arrays_record():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    joined = np.concatenate([x, np.array([3.0, 4.0], np.float32)])
    assert isinstance(joined, cr.Tensor)
    np.stack([np.zeros(2, np.float32), x]).sum().backward()
    assert x.grad.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        (
            lambda x: np.add(x, 1, out=np.zeros(2)),
            r"np\.add\(…, out=…\) with a Tensor: the write could not be recorded",
        ),
        (lambda x: np.add(np.ones(2), 1, out=(x,)), r"np\.add\(…, out=…\) with a Tensor"),
        (lambda x: np.sum(x, out=np.zeros(())), r"np\.sum\(…, out=…\) with a Tensor"),
        (lambda x: np.add.accumulate(x), r"np\.add\.accumulate is not defined for a Tensor; use chainrule's functions"),
        (lambda x: np.add.outer(x, x), r"np\.add\.outer is not defined"),
        (lambda x: np.subtract.reduce(x), r"np\.subtract\.reduce is not defined"),
        (lambda x: np.add(x, x, where=np.array([True, False])), r"np\.add with where is not defined"),
        (lambda x: np.exp(x, dtype=np.float32), r"np\.exp with dtype is not defined"),
        (lambda x: np.spacing(x), r"np\.spacing is not defined"),
        (
            lambda x: np.fft.fft(x),
            r"np\.fft is not defined for a Tensor; use chainrule's functions, or t\.detach\(\)\.numpy\(\)",
        ),
        (lambda x: np.median(x), r"np\.median is not defined"),
        (lambda x: np.linalg.inv(x), r"np\.inv is not defined"),
    ],
)
def test_what_is_refused(attempt, told):
    x = cr.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=told):
        attempt(x)
    assert x.tolist() == [1, 1]


def test_uneven_splits():
    with pytest.raises(ValueError, match=r"np\.split: a dimension of size 3 cannot be split into 2 equal parts"):
        np.split(cr.ones(3), 2)
    with pytest.raises(ValueError, match=r"into 0 equal parts"):
        np.split(cr.ones(3), 0)


def test_arrays_are_not_changed_by_tensors():
    a = np.ones(2)
    x = cr.ones(2, dtype=f64, requires_grad=True)
    a += x.detach().numpy()
    assert a.tolist() == [2, 2]
    with pytest.raises(TypeError, match="out="):
        a += x
    assert a.tolist() == [2, 2]
