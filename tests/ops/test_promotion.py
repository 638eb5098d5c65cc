"""Dtypes of results beside PyTorch's: all pairs of dtypes, tensors with dimensions, 0-d tensors and Python numbers."""

import itertools
import operator
import warnings

import numpy as np
import pytest

import chainrule as cr

DTYPES = ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
NUMBERS = [True, 3, 2.5]
OPERATIONS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "floor_divide": operator.floordiv,
    "remainder": operator.mod,
    "power": operator.pow,
    "equal": operator.eq,
    "less": operator.lt,
    "greater_equal": operator.ge,
}


#: where ours differ, and why
DIFFERENCES = {
    ("power", "bool", True): "bool ** True is NumPy's int8; PyTorch keeps bool",
    ("square", "bool"): "True * True is NumPy's int8; PyTorch gives int64",
    ("sign", "bool"): "NumPy has no sign of a bool, and so an error says",
    ("any", "uint8"): "bool, as for all other dtypes; PyTorch keeps uint8",
}


def tensor(m, dtype, shape):
    return m.ones(shape, dtype=getattr(m, dtype))


def described(m, function, *values):
    """The result's dtype and values, or 'refused'."""
    try:
        with warnings.catch_warnings():
            if m is not cr:
                warnings.simplefilter("ignore")
            out = function(*values)
    except (TypeError, RuntimeError, ValueError) as error:
        return "refused", str(error)[:80]
    return str(out.dtype).removeprefix("torch."), out.tolist()


def operands(m):
    made = [((d, kind), tensor(m, d, shape)) for d in DTYPES for kind, shape in (("tensor", (2,)), ("0-d", ()))]
    return dict(made)


@pytest.mark.parametrize("name", OPERATIONS)
def test_tensors(name, torch):
    ours, theirs = operands(cr), operands(torch)
    wrong = []
    for a, b in itertools.product(ours, ours):
        expected = described(torch, OPERATIONS[name], theirs[a], theirs[b])
        got = described(cr, OPERATIONS[name], ours[a], ours[b])
        if got != expected and expected[0] != "refused":
            wrong.append((a, b, got, expected))
    assert not wrong, f"{len(wrong)}: {wrong[:40]}"


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("left", [False, True], ids=["number right", "number left"])
def test_numbers(name, left, torch):
    ours, theirs = operands(cr), operands(torch)
    function = (lambda x, y: OPERATIONS[name](y, x)) if left else OPERATIONS[name]
    wrong = []
    for a, number in itertools.product(ours, NUMBERS):
        expected = described(torch, function, theirs[a], number)
        got = described(cr, function, ours[a], number)
        known = (name, a[0], number) in DIFFERENCES and not left
        if got != expected and expected[0] != "refused" and not known:
            wrong.append((a, number, got, expected))
    assert not wrong, f"{len(wrong)}: {wrong[:40]}"


JOINING = {
    "maximum": lambda m, x, y: m.maximum(x, y),
    "where": lambda m, x, y: m.where(m.ones((2,), dtype=m.bool) if m is not cr else cr.ones(2, dtype=cr.bool), x, y),
    "cat": lambda m, x, y: m.cat([x, y]),
    "stack": lambda m, x, y: m.stack([x, y]),
}


@pytest.mark.parametrize("name", JOINING)
def test_joining(name, torch):
    wrong = []
    for a, b in itertools.product(DTYPES, DTYPES):
        pairs = [
            described(m, lambda x, y, m=m: JOINING[name](m, x, y), tensor(m, a, (2,)), tensor(m, b, (2,)))
            for m in (cr, torch)
        ]
        if pairs[0] != pairs[1] and pairs[1][0] != "refused":
            wrong.append((a, b, *pairs))
    assert not wrong, f"{len(wrong)}: {wrong[:40]}"


ALONE = """
    exp sqrt sin sigmoid square abs negative sign floor round relu isnan logical_not reciprocal sum prod amax argmax
    any cumsum
"""


@pytest.mark.parametrize("name", ALONE.split())
def test_one_tensor(name, torch):
    theirs = {"negative": "neg"}.get(name, name)
    options = {"dim": 0} if name == "cumsum" else {}
    wrong = []
    for dtype in DTYPES:
        expected = described(torch, lambda x: getattr(torch, theirs)(x, **options), tensor(torch, dtype, (3,)))
        got = described(cr, lambda x: getattr(cr, name)(x, **options), tensor(cr, dtype, (3,)))
        if (
            (name, dtype) not in DIFFERENCES
            and expected[0] != "refused"
            and (got[0] != expected[0] or not np.allclose(got[1], expected[1], rtol=1e-2))
        ):
            wrong.append((dtype, got, expected))
    assert not wrong, wrong


@pytest.mark.parametrize("dtype", DTYPES)
def test_conversions(dtype, torch):
    """Every dtype to every other, with values that both hold; gradients come back in the dtype that they left in."""
    for target in DTYPES:
        values = [0.0, 1.0] if "bool" in (dtype, target) else [0.0, 1.0, 7.0]
        x = cr.tensor(values).to(dtype).to(getattr(cr, target))
        expected = torch.tensor(values).to(getattr(torch, dtype)).to(getattr(torch, target))
        assert (str(x.dtype), x.tolist()) == (str(expected.dtype).removeprefix("torch."), expected.tolist())
        if "float" in dtype and "float" in target:
            leaf = cr.tensor(values, dtype=dtype, requires_grad=True)
            (leaf.to(target) * 2).sum().backward()
            assert leaf.grad.dtype == dtype and leaf.grad.tolist() == [2.0] * len(values)


def test_promote_types_is_pytorchs(torch):
    for a, b in itertools.product(DTYPES, DTYPES):
        expected = torch.promote_types(getattr(torch, a), getattr(torch, b))
        assert str(cr.promote_types(np.dtype(a), np.dtype(b))) == str(expected).removeprefix("torch."), (a, b)


@pytest.mark.parametrize("default", ["float32", "float64"])
def test_numbers_take_the_default_dtype(default, torch):
    previous = cr.get_default_dtype()
    cr.set_default_dtype(default)
    torch.set_default_dtype(getattr(torch, default))
    try:
        for make in (
            lambda m: m.tensor(0.5),
            lambda m: m.tensor([1, 2.5]),
            lambda m: m.ones(2),
            lambda m: m.tensor([1]) * 0.5,
        ):
            assert str(make(cr).dtype) == str(make(torch).dtype).removeprefix("torch.")
    finally:
        cr.set_default_dtype(previous)
        torch.set_default_dtype(torch.float32)


def test_gradients_come_in_the_dtype_of_their_input():
    """Mixed operands: each gets its gradient back in its own dtype."""
    for a, b in itertools.product(["float16", "float32", "float64"], repeat=2):
        for f in (operator.add, operator.mul, operator.truediv, operator.pow, cr.maximum, cr.arctan2):
            for one, two in [((2,), (2,)), ((2,), ()), ((), (2,)), ((), ())]:
                x, y = cr.full(one, 2.0, dtype=a, requires_grad=True), cr.full(two, 1.5, dtype=b, requires_grad=True)
                for create_graph in (False, True):
                    dx, dy = cr.autograd.grad(f(x, y).sum(), [x, y], create_graph=create_graph)
                    assert (dx.dtype, dy.dtype) == (x.dtype, y.dtype), (f, a, b, one, two)
                    assert (dx.shape, dy.shape) == (x.shape, y.shape)
