"""PyTorch's own samples (`op_db`), in float64: value, gradient and second gradient, ours beside theirs."""

import warnings

import numpy as np
import pytest
from ops.parity_map import INCOMPARABLE, NAMES, REFUSED, ours

import chainrule as cr

LIMIT = 150  # samples of one entry, evenly chosen: pooling has thousands


@pytest.fixture(scope="module")
def op_db(torch):
    pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest: pip install 'chainrule[compare]'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    entries = {}
    for op in op_db:
        entries.setdefault(op.name, []).append(op)
    return entries


@pytest.mark.parametrize("name", NAMES)
def test_parity(name, op_db, torch, record_property):
    compared = sum(compare(op, torch) for op in op_db[name])
    assert compared, "every sample was refused: the row says nothing"
    record_property("samples of PyTorch compared", compared)


def test_the_map_is_complete(op_db):
    """Every entry whose name is one of ours is compared, or there is a reason why not."""
    found = {name for name in op_db if ours(name)}
    assert found == set(NAMES) | set(INCOMPARABLE)
    assert set(REFUSED) <= set(NAMES)


# ---- one entry -------------------------------------------------------------------------------------------------------


def compare(op, torch) -> int:
    """How many samples of an entry agree with ours; AssertionError at the first that does not."""
    dtype = next((t for t in (torch.float64, torch.int64, torch.bool) if op.supports_dtype(t, "cpu")), None)
    if dtype is None:  # complex numbers, or another device
        return 0
    torch.manual_seed(0)
    differentiable = op.supports_autograd and dtype is torch.float64
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = list(op.sample_inputs("cpu", dtype, requires_grad=differentiable))
    refused = REFUSED.get(op.name, (lambda *_: False, ""))[0]
    samples = [s for s in samples if not refused(s.input, s.args, s.kwargs)]
    samples = samples[:: max(-(-len(samples) // LIMIT), 1)]
    for sample in samples:
        try:
            one(op, sample, torch)
        except Exception as error:
            error.add_note(f"{op.name} {op.variant_test_name}: {sample}")
            raise
    return len(samples)


def one(op, sample, torch):
    given, leaves = [sample.input, list(sample.args), sample.kwargs], []
    first, args, options = translated(given, leaves, torch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = tensors(op.op(sample.input, *sample.args, **sample.kwargs), torch.Tensor)
    with np.errstate(all="ignore"):
        mine = tensors(ours(op.name)(first, *args, **options), cr.Tensor)
        assert len(mine) == len(theirs)
        for got, expected in zip(mine, theirs, strict=True):
            assert str(got.dtype) == str(expected.dtype).removeprefix("torch.")
            close(got, expected, 1e-9, "value")
        live = [y for y in theirs if y.requires_grad]
        assert len(live) == sum(y.requires_grad for y in mine)
        if live:
            gradients(op, live, [y for y in mine if y.requires_grad], variables(given, torch), leaves, torch)


def gradients(op, theirs, mine, their_leaves, leaves, torch):
    """First gradients, by both of our paths, and the gradient of a fixed combination of them."""
    seeds = [torch.randn(y.shape, dtype=y.dtype) for y in theirs]
    my_seeds = [cr.tensor(s.numpy()) for s in seeds]
    first = torch.autograd.grad(theirs, their_leaves, seeds, create_graph=op.supports_gradgrad, allow_unused=True)
    plain = cr.autograd.grad(mine, leaves, my_seeds, retain_graph=True, allow_unused=True)
    composed = cr.autograd.grad(mine, leaves, my_seeds, create_graph=True, allow_unused=True)
    for expected, one, two, leaf in zip(first, plain, composed, leaves, strict=True):
        close(one, expected, 1e-8, "gradient", leaf.shape)
        close(two, expected, 1e-8, "gradient of the composed rules", leaf.shape)
    again = [i for i, g in enumerate(first) if g is not None and g.requires_grad]
    if not again:
        return
    weights = [np.cos(np.arange(leaves[i].numel())).reshape(leaves[i].shape) for i in again]
    total = sum((first[i] * torch.tensor(w)).sum() for i, w in zip(again, weights, strict=True))
    mine = sum((composed[i] * cr.tensor(w)).sum() for i, w in zip(again, weights, strict=True))
    second = torch.autograd.grad(total, their_leaves, allow_unused=True)
    got = cr.autograd.grad(mine, leaves, allow_unused=True) if mine.requires_grad else [None] * len(leaves)
    for expected, g, leaf in zip(second, got, leaves, strict=True):
        close(g, expected, 1e-6, "second gradient", leaf.shape)


def close(got, expected, tolerance, what, shape=None):
    """None is zeros; PyTorch's symbolic zeros hold no numbers until they are added to some."""
    got = np.zeros(shape) if got is None else got.detach().numpy()
    expected = np.zeros(shape) if expected is None else (expected.new_zeros(expected.shape) + expected.detach()).numpy()
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, PyTorch's {expected.shape}"
    scale = (
        1 + np.abs(expected[np.isfinite(expected)], dtype=np.float64).max(initial=0)
        if expected.dtype.kind == "f"
        else 1
    )
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * scale, err_msg=what)


# ---- their arguments as ours -----------------------------------------------------------------------------------------


def translated(value, leaves, torch):
    """The same with our tensors and dtypes; those that require gradients are listed in `leaves`."""
    if isinstance(value, torch.Tensor):
        made = cr.tensor(value.detach().numpy())
        if value.requires_grad:
            leaves.append(made.requires_grad_())
        return made
    if isinstance(value, torch.dtype):
        return np.dtype(str(value).removeprefix("torch."))
    if isinstance(value, (list, tuple)):
        return type(value)([translated(v, leaves, torch) for v in value])
    if isinstance(value, dict):
        return {name: translated(v, leaves, torch) for name, v in value.items()}
    return value


def variables(value, torch) -> list:
    if isinstance(value, torch.Tensor):
        return [value] if value.requires_grad else []
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [x for item in items for x in variables(item, torch)]


def tensors(value, kind) -> list:
    if isinstance(value, (list, tuple)):
        return [x for item in value for x in tensors(item, kind)]
    return [value] if isinstance(value, kind) else []
