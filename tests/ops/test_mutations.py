"""Tests of the tests: faults planted in the engine must be caught by the generic checks."""

import contextlib
import functools
import importlib
import sys

import numpy as np
import pytest
from ops import generic
from ops.table import TABLE

import chainrule as cr
from chainrule.autograd import REGISTRY

ROWS = {row.name: row for row in TABLE}
CAUGHT = (AssertionError, ValueError, RuntimeError, TypeError)
engine = importlib.import_module("chainrule.autograd.backward")
declaring = sys.modules["chainrule.autograd.primitive"]

DIFFERENTIABLE = [name for name, row in ROWS.items() if row.primitive and row.function.differentiable]
FLAT = {"sign", "floor", "ceil", "round", "trunc"}  # derivative 0: no factor changes it, no sign either
STEEP = [name for name in DIFFERENTIABLE if name not in FLAT]


@contextlib.contextmanager
def replaced(name, rules=None, fused=None, adding=None, forward=None):
    """A primitive with other rules, twins or forward, and no plan that remembers the old ones."""
    p, kept = REGISTRY[name], ("rules", "fused", "adding", "forward", "short", "_direct")
    before = {key: getattr(p, key) for key in kept if hasattr(p, key)}
    p.rules = p.rules if rules is None else rules
    p.fused = p.fused if fused is None else fused
    p.adding = p.adding if adding is None else adding
    p.forward = p.forward if forward is None else forward
    fresh(p, direct=forward is None and before.get("_direct", False))
    try:
        yield
    finally:
        for key, value in before.items():
            setattr(p, key, value)
        p.forget_plans()
        getattr(p, "_implementations", {}).clear()


def fresh(p, direct):
    p.forget_plans()
    if hasattr(p, "short"):
        p._direct = direct
        p._implementations.clear()
        p.short = (declaring._short_one if isinstance(p, declaring.Unary) else declaring._short_two)(p)


def changed(rule, change):
    """A rule whose every gradient is changed."""

    @functools.wraps(rule.function)  # its signature says what it is told
    def wrong(*args, **params):
        got = rule.function(*args, **params)
        if isinstance(got, (tuple, list)):
            return type(got)([None if g is None else change(g) for g in got])
        return change(got)

    return rule._replace(function=wrong, kernel=None)


@contextlib.contextmanager
def planted(name, change):
    """`change` applied to every gradient that the primitive's composed rules return."""
    p = REGISTRY[name]
    wrong = [changed(rule, change) for rule in p.rules]
    with replaced(name, rules=wrong, fused=p.fused and changed(p.fused, change)):
        yield


def caught(check, name, rng):
    with pytest.raises(CAUGHT):
        check(ROWS[name], rng)


# ---- in every rule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEEP)
def test_a_wrong_sign_is_caught(name, rng):
    with planted(name, lambda g: -g):
        caught(generic.derivative, name, rng)


@pytest.mark.parametrize("name", STEEP)
def test_a_dropped_factor_is_caught(name, rng):
    with planted(name, lambda g: g * 0.999):
        caught(generic.derivative, name, rng)


@pytest.mark.parametrize("name", STEEP)
def test_a_rule_that_cannot_be_differentiated_is_caught(name, rng):
    with planted(name, lambda g: g.detach() if isinstance(g, cr.Tensor) else g):
        caught(generic.derivative, name, rng)


@pytest.mark.parametrize("name", [name for name in STEEP if "float32" not in ROWS[name].without])
def test_a_gradient_of_another_dtype_is_caught(name, rng):
    with planted(name, lambda g: g.astype(np.float64) if isinstance(g, np.ndarray) else g):
        caught(generic.float32, name, rng)


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if REGISTRY[name].fused])
def test_a_wrong_twin_is_caught(name, rng):
    p = REGISTRY[name]
    with replaced(name, fused=changed(p.fused, lambda g: g * 1.001)):
        caught(generic.fused, name, rng)
    with replaced(name, rules=[changed(rule, lambda g: g * 1.001) for rule in p.rules]):
        caught(generic.fused, name, rng)


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if any(r.kernel for r in REGISTRY[name].rules)])
def test_a_wrong_kernel_is_caught(name, rng):
    for one in [rule for rule in REGISTRY[name].rules if rule.kernel]:
        wrong = one._replace(kernel=lambda *given, right=one.kernel: right(*given) * 1.001)
        with replaced(name, rules=[wrong if rule is one else rule for rule in REGISTRY[name].rules]):
            caught(generic.derivative, name, rng)


@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if REGISTRY[name].adding])
def test_a_wrong_twin_that_adds_is_caught(name, rng):
    for rule in REGISTRY[name].adding:
        right = rule.function
        for wrong in (
            lambda k, g, *given, right=right, **params: right(k, g * 1.001, *given, **params),
            lambda k, g, into, *given, right=right, **params: right(k, g, into.copy(), *given, **params),
        ):
            with replaced(name, adding=[rule._replace(function=wrong)]):
                caught(generic.fused, name, rng)


# ---- classical faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "where", "power"])
def test_a_missing_sum_over_a_broadcast_axis_is_caught(name, rng, monkeypatch):
    def first_only(g, shape):
        lead = g.ndim - len(shape)
        g = g[(0,) * lead] if all(g.shape[:lead]) else np.zeros(g.shape[lead:])
        return g[tuple(slice(0, n) for n in shape)]

    monkeypatch.setattr(engine, "sum_to", first_only)
    caught(generic.broadcasting, name, rng)


def test_a_sum_along_size_1_axes_alone_is_caught(rng, monkeypatch):
    """Leading axes summed, axes of size 1 forgotten."""
    real = engine.sum_to

    def lead_only(g, shape):
        lead = g.ndim - len(shape)
        g = g.sum(axis=tuple(range(lead)))
        return g if g.shape == shape else real(g[tuple(slice(0, n) for n in shape)], shape=shape)

    monkeypatch.setattr(engine, "sum_to", lead_only)
    caught(generic.broadcasting, "multiply", rng)


def test_a_transposed_weight_is_caught(rng):
    rules = REGISTRY["matmul_batched"].rules
    wrong = rules[0]._replace(function=lambda g, y, x_shape: REGISTRY["matmul_batched"](g, y))
    with replaced("matmul_batched", rules=[wrong, rules[1]]):
        square = ROWS["matmul_batched"]
        only = [s for s in square.make(rng) if s.inputs[0].shape == (3, 3)]
        with pytest.raises(AssertionError):
            cr.check_grads(square.function, square.leaves(only[0]))


def test_a_convolution_that_flips_its_filter_is_caught(rng):
    def flipped(k, x, w, b=None, **geometry):
        return k.conv2d(x, w[:, :, ::-1, ::-1], b, **geometry)

    with replaced("conv2d_pairs", forward=flipped):
        caught(generic.forward, "conv2d_pairs", rng)


def test_padding_that_counts_as_0_in_a_maximum_is_caught(rng):
    def zeros(k, x, *, padding, **window):
        x = np.pad(x, ((0, 0), (0, 0), *padding))
        return k.max_pool2d(x, padding=((0, 0), (0, 0)), **window)

    with replaced("max_pool_windows", forward=zeros):
        caught(generic.forward, "max_pool_windows", rng)


def test_duplicate_indices_that_do_not_add_up_are_caught(rng):
    def last_wins(k, g, *, index, shape):
        out = np.zeros(shape, g.dtype)
        out[index] = g
        return out

    with replaced("spread_at", forward=last_wins):
        caught(generic.forward, "spread_at", rng)


def test_a_variance_without_its_correction_is_caught(rng):
    with replaced("var_over", forward=lambda k, x, *, dim, keepdim, correction: np.var(x, dim, keepdims=keepdim)):
        caught(generic.forward, "var_over", rng)


def test_a_softmax_gradient_without_its_sum_is_caught(rng):
    rule = REGISTRY["softmax_along"].rules[0]
    p = REGISTRY["softmax_along"]
    wrong = rule._replace(function=lambda g, out, *, dim: g * out)
    with replaced("softmax_along", rules=[wrong], fused=p.fused._replace(function=lambda k, g, out, *, dim: g * out)):
        caught(generic.derivative, "softmax_along", rng)


# ---- in sequences ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "flag"),
    [("rnn_rows", "reverse"), ("lstm_rows", "reverse"), ("gru_rows", "reverse"), ("lstm_rows", "previous")],
)
def test_a_flag_that_is_not_heeded_is_caught(name, flag, rng):
    right = REGISTRY[name].forward
    with replaced(name, forward=lambda k, *inputs, **params: right(k, *inputs, **params | {flag: False})):
        caught(generic.forward, name, rng)


@pytest.mark.parametrize("name", ["rnn_rows", "lstm_rows", "gru_rows"])
def test_last_states_of_the_longest_sequences_alone_are_caught(name, rng):
    right = REGISTRY[name].forward

    def wrong(k, *inputs, batch_sizes, **params):
        (out, h, *others), record = right(k, *inputs, batch_sizes=batch_sizes, **params)
        h = h * (np.arange(len(h)) < batch_sizes[-1])[:, None]
        return (out, h, *others), record

    with replaced(name, forward=wrong):
        caught(generic.forward, name, rng)


@pytest.mark.parametrize("name", ["rnn_rows", "lstm_rows", "gru_rows"])
def test_gradients_of_initial_states_lost_with_the_shorter_sequences_are_caught(name, rng):
    fused = REGISTRY[name].fused

    def wrong(*given, batch_sizes, **params):
        dh0, *others = fused.function(*given, batch_sizes=batch_sizes, **params)
        return dh0 * (np.arange(len(dh0)) < batch_sizes[-1])[:, None], *others

    with replaced(name, fused=fused._replace(function=wrong)):
        caught(generic.fused, name, rng)


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_a_stale_buffer_is_caught(rng):
    """A rule that writes every gradient into one buffer of its own."""
    buffers = {}

    def stale(g):
        if not isinstance(g, np.ndarray):
            return g
        buffer = buffers.setdefault(g.shape, np.empty(g.shape))
        buffer[...] = g
        return buffer

    with planted("multiply", stale):
        caught(generic.fused, "multiply", rng)


def test_a_gradient_that_is_the_users_cotangent_is_caught(rng, monkeypatch):
    monkeypatch.setattr(engine, "_released", lambda table, edge: np.asarray(table.pop(edge)))
    caught(generic.unshared, "add", rng)


def test_a_forward_that_writes_to_its_input_is_caught(rng):
    with replaced("relu", forward=lambda k, x: k.maximum(x, 0, out=x)):
        caught(generic.unshared, "relu", rng)


def test_a_backward_that_writes_to_its_gradient_is_caught(rng):
    def in_place(g):
        if isinstance(g, np.ndarray) and g.flags.writeable:
            g *= 1.0000001
        return g

    with planted("add", in_place):
        caught(generic.unshared, "add", rng)


def test_a_kernel_that_assumes_c_order_is_caught(rng):
    with replaced("exp", forward=lambda k, x: np.exp(np.ravel(x, order="K")).reshape(x.shape)):
        caught(generic.layouts, "exp", rng)


def test_a_rule_without_formula_is_caught(rng):
    with replaced("exp", rules=[REGISTRY["exp"].rules[0]._replace(formula="")]):
        caught(generic.described, "exp", rng)


@pytest.mark.parametrize("name", STEEP)
def test_without_a_fault_the_same_checks_pass(name, rng):
    """The machinery of this file, planting nothing."""
    with planted(name, lambda g: g):
        for check in (generic.derivative, generic.fused, generic.float32, generic.unshared):
            if check.__name__ not in ROWS[name].without:
                check(ROWS[name], rng)
