"""Attention against its formulas, one item, query and key at a time."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

N, M, L, Q, K, V = 2, 3, 4, 5, 6, 7

ATTENTIONS = {
    "additive": lambda: nn.AdditiveAttention(Q, K, 8),
    "general": lambda: nn.MultiplicativeAttention(Q, K),
    "general, scaled": lambda: nn.MultiplicativeAttention(Q, K, scaled=True),
    "dot": lambda: nn.MultiplicativeAttention(Q, Q, method="dot"),
    "dot, scaled": lambda: nn.MultiplicativeAttention(Q, Q, "dot", scaled=True),
}


@pytest.fixture(params=ATTENTIONS)
def attention(request):
    return ATTENTIONS[request.param]().double()


@pytest.fixture
def inputs(attention, rng):
    """Queries, keys, values and a mask in which the items see 4 and 2 keys."""
    size = Q if isinstance(attention.key, nn.Identity) else K
    draw = lambda *shape: cr.tensor(rng.normal(size=shape))
    return draw(N, M, Q), draw(N, L, size), draw(N, L, V), cr.tensor(np.arange(L) < [[4], [2]])


def score(attention, q, k):
    if isinstance(attention, nn.AdditiveAttention):
        w_q, b, w_k, v = (p.detach().numpy() for p in attention.parameters())
        return float(v[0] @ np.tanh(w_q @ q + b + w_k @ k))
    w = np.eye(Q) if isinstance(attention.key, nn.Identity) else attention.key.weight.detach().numpy()
    return float(q @ w @ k) * attention.scale


def test_context_and_weights_are_the_formulas(attention, inputs):
    queries, keys, values, mask = inputs
    context, weights = attention(queries, keys, values, mask)
    assert context.shape == (N, M, V) and weights.shape == (N, M, L)
    for n, m in np.ndindex(N, M):
        seen = range(L if n == 0 else 2)
        raised = [math.exp(score(attention, queries.numpy()[n, m], keys.numpy()[n, i])) for i in seen]
        expected = np.zeros(L)
        expected[: len(raised)] = np.array(raised) / sum(raised)
        np.testing.assert_allclose(weights.detach().numpy()[n, m], expected, rtol=1e-10)
        np.testing.assert_allclose(context.detach().numpy()[n, m], expected @ values.numpy()[n], rtol=1e-10)
    np.testing.assert_allclose(weights.sum(-1).detach().numpy(), 1.0, rtol=1e-12)
    assert (weights[1, :, 2:] == 0).all()


def test_one_query_is_a_column_of_many_and_keys_are_projected_once(attention, inputs):
    queries, keys, values, mask = inputs
    context, weights = attention(queries, keys, values, mask)
    projected = attention.project(keys)
    for m in range(M):
        one, its = attention.attend(queries[:, m], projected, values, mask)
        np.testing.assert_allclose(one.detach().numpy(), context[:, m].detach().numpy(), rtol=1e-10)
        np.testing.assert_allclose(its.detach().numpy(), weights[:, m].detach().numpy(), rtol=1e-10)


def test_values_are_the_keys_unless_given(attention, inputs):
    queries, keys, _, mask = inputs
    np.testing.assert_array_equal(
        attention(queries, keys, mask=mask)[0].detach().numpy(),
        attention(queries, keys, keys, mask)[0].detach().numpy(),
    )


def test_derivatives_agree_with_differences(attention, inputs):
    queries, keys, values, mask = inputs
    cr.check_grads(lambda q, k, v: attention(q, k, v, mask), [queries, keys, values])


def test_masked_keys_reach_nothing(attention, inputs):
    queries, keys, values, mask = inputs
    keys = keys.clone().requires_grad_()
    attention(queries, keys, values, mask)[0].sum().backward()
    assert (keys.grad[1, 2:] == 0).all() and all(np.isfinite(p.grad.numpy()).all() for p in attention.parameters())


def test_a_mask_is_no_anomaly(attention, inputs):
    query, keys, values, mask = inputs
    with cr.detect_anomaly():
        context, weights = attention(query.requires_grad_(), keys, values, mask)
        context.sum().backward()
    assert (weights.masked_fill(mask.unsqueeze(1), 0) == 0).all()


def test_scaling_divides_by_the_root_of_the_size():
    plain, scaled = (nn.MultiplicativeAttention(16, 16, "dot", scaled=s) for s in (False, True))
    q, k = cr.randn(1, 16), cr.randn(1, 3, 16)
    np.testing.assert_allclose(scaled(q, k)[1].numpy(), plain(q / 4, k)[1].numpy(), rtol=1e-6)


ADD, DOT = nn.AdditiveAttention(2, 3, 4), nn.MultiplicativeAttention(2, 2, "dot")
SHOWN = cr.ones(5, 4, dtype=cr.bool)
HIDDEN = SHOWN.clone()
HIDDEN[3] = False

REFUSED = [
    (lambda: nn.AdditiveAttention(2, 0, 4), r"AdditiveAttention: received key_size=0.*pass key_size >= 1"),
    (lambda: nn.MultiplicativeAttention(2, 3, "dot"), r"query_size=2 and key_size=3.*method='general'"),
    (lambda: nn.MultiplicativeAttention(2, 3, "concat"), r"received method='concat'.*'general', 'dot'"),
    (lambda: ADD(cr.ones(5, 2), cr.ones(6, 4, 3)), r"query of shape \(5, 2\), keys of shape \(6, 4,.*its own keys"),
    (lambda: ADD(cr.ones(5, 2), cr.ones(4, 3)), r"pass \(N, Q\) or \(N, M, Q\), \(N, L, K\)"),
    (lambda: ADD(cr.ones(5, 2), cr.ones(5, 4, 3), cr.ones(5, 3, 3)), r"values of shape \(5, 3, 3\)"),
    (lambda: ADD(cr.ones(5, 2), cr.ones(5, 4, 3), mask=SHOWN.T), r"a mask of shape \(4, 5\)"),
    (lambda: ADD(cr.ones(5, 2), cr.ones(5, 4, 3), mask=HIDDEN), r"item whose keys are all masked.*leave that item out"),
    (lambda: DOT(cr.ones(5, 2), cr.ones(5, 0, 2)), r"keys of shape \(5, 0, 2\) with an item whose keys.*or none"),
    (lambda: ADD(cr.ones(5, 3), cr.ones(5, 4, 3)), r"Linear: received an input of shape \(5, 1, 3\).*in_features=2"),
]


@pytest.mark.parametrize("call, message", REFUSED)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
