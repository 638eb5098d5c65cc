"""Layers and optimisers in bfloat16, whose numbers are right to 2^-9 of themselves, against float32."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")

STEPS = 20
OPTIMISERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.05),
    "SGD, momentum": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1),
    "Adadelta": lambda p: optim.Adadelta(p, lr=1.0, rho=0.5, eps=1e-2),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.02, momentum=0.5, centered=True),
    "Adam": lambda p: optim.Adam(p, lr=0.05, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.05, amsgrad=True),
}


def wide(x):
    return x.detach().float().cpu().numpy()


def test_every_optimiser_is_here():
    classes = {name for name in dir(optim) if isinstance(getattr(optim, name), type)}
    made = {c for c in classes if issubclass(getattr(optim, c), optim.Optimizer) and c != "Optimizer"}
    assert made == {name.partition(",")[0] for name in OPTIMISERS}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers(name, rng):
    """Each step rounds parameter and state by 2^-9 of themselves at most: within STEPS 2^-8 of the largest weight."""
    start, target = rng.uniform(0.5, 2, 64), rng.uniform(-2, -0.5, 64)
    ends = []
    for dtype in (cr.float32, cr.bfloat16):
        w, goal = cr.tensor(start, dtype=dtype, requires_grad=True), cr.tensor(target, dtype=dtype)
        optimizer = OPTIMISERS[name]([w])
        for _ in range(STEPS):
            optimizer.zero_grad()
            ((w - goal) ** 2).sum().backward()
            optimizer.step()
        assert w.dtype == dtype and w.grad.dtype == dtype
        ends.append(wide(w))
    moved = np.abs(ends[0] - start).max()
    assert moved > 0.3
    np.testing.assert_allclose(ends[1], ends[0], atol=STEPS * 2.0**-8 * 2)


TREE = nn.Tree.from_nested((((0, 1), 2), (3, 4)))
ROWS = {nn.RecursiveNet: 5, nn.NaryTreeLSTM: 5, nn.ChildSumTreeLSTM: 9}


@pytest.mark.parametrize("make", ROWS)
def test_tree_layers(make, rng):
    net = make(8) if make is nn.RecursiveNet else make(8, 8)
    x = rng.normal(size=(ROWS[make], 8)).astype("f4")
    got = []
    for dtype in (cr.float32, cr.bfloat16):
        low, given = net.to(dtype), cr.tensor(x, dtype=dtype, requires_grad=True)
        low.zero_grad()
        states = low(given, TREE)[0]
        states = states[0] if isinstance(states, tuple) else states
        assert states.dtype == dtype
        (states**2).sum().backward()
        assert given.grad.dtype == dtype and {p.grad.dtype for p in low.parameters()} == {dtype}
        got.append([wide(states), wide(given.grad), *[wide(p.grad) for p in low.parameters()]])
    for one, exact in zip(got[1], got[0], strict=True):
        np.testing.assert_allclose(one, exact, atol=0.05 * max(1, np.abs(exact).max()))


@pytest.mark.parametrize("make", [lambda: nn.AdditiveAttention(5, 6, 8), lambda: nn.MultiplicativeAttention(5, 6)])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_attention(make, dtype, rng):
    attention, got = make(), []
    query, keys = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 4, 6))
    mask = cr.tensor([[True, True, False, True], [True, False, False, False]])
    for kind in ("float32", dtype):
        given = cr.tensor(query, dtype=kind), cr.tensor(keys, dtype=kind)
        context, weights = attention.to(dtype=kind)(*given, mask=mask)
        assert str(context.dtype) == str(weights.dtype) == kind
        assert (wide(weights)[0, :, 2] == 0).all() and (wide(weights)[1] == [1, 0, 0, 0]).all()
        got.append([wide(context), wide(weights)])
    for one, exact in zip(got[1], got[0], strict=True):
        np.testing.assert_allclose(one, exact, atol=0.05)


def test_a_mask_raises_no_alarm_in_any_dtype():
    for dtype in (cr.float16, cr.bfloat16, cr.float32, cr.float64):
        attention = nn.MultiplicativeAttention(5, 6).to(dtype)
        query, keys = cr.ones(1, 5, dtype=dtype), cr.ones(1, 3, 6, dtype=dtype)
        with cr.detect_anomaly():
            weights = attention(query, keys, mask=cr.tensor([[True, False, True]]))[1]
        assert wide(weights).tolist() == [[0.5, 0.0, 0.5]]
