"""The linear-chain CRF against the sum over all paths, written out."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

T, N, K = 4, 3, 3
LENGTHS = [4, 2, 1]


@pytest.fixture
def crf(rng):
    crf = nn.CRF(K).double()
    for parameter in crf.parameters():
        nn.init.normal_(parameter)
    return crf


@pytest.fixture
def emissions(rng):
    return cr.tensor(rng.normal(size=(T, N, K)))


@pytest.fixture
def tags(rng):
    return cr.tensor(rng.integers(0, K, (T, N)))


def padding(lengths=LENGTHS):
    return cr.tensor(np.arange(T)[:, None] < np.array(lengths))


def scores(crf, x):
    """{path: s(x, path)} of one sequence, x (T, K)."""
    start, end, move = (p.detach().numpy() for p in (crf.start_transitions, crf.end_transitions, crf.transitions))
    return {
        path: start[path[0]]
        + sum(x[t, tag] for t, tag in enumerate(path))
        + sum(move[a, b] for a, b in itertools.pairwise(path))
        + end[path[-1]]
        for path in itertools.product(range(len(start)), repeat=len(x))
    }


def each(emissions, lengths=LENGTHS):
    return [emissions.numpy()[:length, n] for n, length in enumerate(lengths)]


def test_partition_likelihood_best_path_and_marginals_are_those_of_all_paths(crf, emissions, tags):
    mask = padding()
    log_z, likelihood = crf.log_partition(emissions, mask), crf(emissions, tags, mask, "none")
    paths, marginals = crf.decode(emissions, mask), crf.marginals(emissions, mask).numpy()
    assert log_z.shape == likelihood.shape == (N,)
    for n, x in enumerate(each(emissions)):
        every = scores(crf, x)
        total = sum(np.exp(s) for s in every.values())
        right = tuple(tags.numpy()[: len(x), n])
        np.testing.assert_allclose(log_z[n].item(), np.log(total), rtol=1e-12)
        np.testing.assert_allclose(likelihood[n].item(), every[right] - np.log(total), rtol=1e-12)
        assert paths[n] == list(max(every, key=every.get))
        for t, tag in np.ndindex(len(x), K):
            share = sum(np.exp(s) for path, s in every.items() if path[t] == tag) / total
            np.testing.assert_allclose(marginals[t, n, tag], share, rtol=1e-12)
        assert (marginals[len(x) :, n] == 0).all()


def test_gradient_is_what_is_there_minus_what_is_expected(crf, emissions, tags):
    """∂/∂x_{tk} is [y_t = k] − p(y_t = k), ∂/∂W_{jk} the number of moves j → k minus its expectation."""
    x = emissions.clone().requires_grad_()
    crf(x, tags).backward()
    there = np.eye(K)[tags.numpy()]
    np.testing.assert_allclose(x.grad.numpy(), there - crf.marginals(emissions).numpy(), atol=1e-12)
    np.testing.assert_allclose(crf.start_transitions.grad.numpy(), x.grad.numpy()[0].sum(0), atol=1e-12)
    np.testing.assert_allclose(crf.end_transitions.grad.numpy(), x.grad.numpy()[-1].sum(0), atol=1e-12)
    moves = np.zeros((K, K))
    for n, one in enumerate(each(emissions, [T] * N)):
        every = scores(crf, one)
        total = sum(np.exp(s) for s in every.values())
        expected = [(path, -np.exp(s) / total) for path, s in every.items()]
        for path, weight in [(tuple(tags.numpy()[:, n]), 1), *expected]:
            for move in itertools.pairwise(path):
                moves[move] += weight
    np.testing.assert_allclose(crf.transitions.grad.numpy(), moves, atol=1e-12)


@pytest.mark.parametrize("mask", [None, padding()], ids=["whole", "masked"])
def test_first_and_second_derivatives_agree_with_differences(crf, emissions, tags, mask):
    def likelihood(x, *parameters):
        for name, value in zip(names, parameters):
            crf.__dict__[name] = value  # in place of the parameter, so that it is varied
        return crf(x, tags, mask, "none")

    names, parameters = zip(*crf.named_parameters())
    cr.check_grads(likelihood, [emissions, *(p.detach() for p in parameters)])


def test_a_masked_batch_is_each_sequence_alone_whatever_the_padding_holds(crf, emissions, tags):
    mask = padding()
    off = ~mask
    wild, wild_tags = cr.where(off.unsqueeze(-1), np.nan, emissions), cr.where(off, -100, tags)
    together = crf(wild, wild_tags, mask, "none")
    assert crf.decode(wild, mask) == crf.decode(emissions, mask)
    for n, length in enumerate(LENGTHS):
        alone = slice(length), slice(n, n + 1)
        np.testing.assert_allclose(together[n].item(), crf(emissions[alone], tags[alone]).item(), rtol=1e-12)
        assert crf.decode(emissions, mask)[n] == crf.decode(emissions[alone])[0]
    x = wild.clone().requires_grad_()
    crf(x, wild_tags, mask).backward()
    assert (x.grad.numpy()[off.numpy()] == 0).all() and np.isfinite(x.grad.numpy()).all()


def test_batch_first_is_the_transpose(crf, emissions, tags):
    first, mask = nn.CRF(K, batch_first=True).double(), padding()
    first.load_state_dict(crf.state_dict())
    swapped = [t.transpose(0, 1) for t in (emissions, tags, mask)]
    assert first(*swapped).item() == crf(emissions, tags, mask).item()
    assert first.decode(swapped[0], swapped[2]) == crf.decode(emissions, mask)
    np.testing.assert_array_equal(first.marginals(swapped[0]).numpy(), crf.marginals(emissions).transpose(0, 1).numpy())


def test_reductions(crf, emissions, tags):
    mask = padding()
    each = crf(emissions, tags, mask, "none").detach().numpy()
    for reduction, expected in (("sum", each.sum()), ("mean", each.mean()), ("token_mean", each.sum() / sum(LENGTHS))):
        np.testing.assert_allclose(crf(emissions, tags, mask, reduction).item(), expected, rtol=1e-12)


def test_a_forbidden_move_is_never_made(crf, emissions):
    with cr.no_grad():
        crf.transitions[0, 1] = crf.transitions[2, 1] = crf.start_transitions[1] = -np.inf
    assert all(1 not in path for path in crf.decode(emissions))
    np.testing.assert_array_equal(crf.marginals(emissions).numpy()[..., 1], 0.0)
    crf.log_partition(emissions).sum().backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in crf.parameters())


def test_long_sequences_and_large_scores_stay_finite():
    crf = nn.CRF(4)
    emissions = 1e4 * cr.randn(300, 2, 4)
    best = cr.tensor(crf.decode(emissions)).T
    assert crf(emissions, best, reduction="mean").item() > -1.0  # far ahead of every other path
    assert abs(crf.log_partition(cr.zeros(300, 1, 4)).item() - 300 * np.log(4)) < 300 * 0.3


def test_one_step_one_tag_and_no_sequence():
    crf = nn.CRF(1)
    assert crf(cr.randn(3, 2, 1), cr.zeros(3, 2, dtype=cr.int64)).item() == pytest.approx(0.0, abs=1e-5)
    assert nn.CRF(3).decode(cr.tensor([[[0.0, 5.0, 0.0]]])) == [[1]]
    none = cr.zeros(4, 0, 1)
    assert crf.decode(none) == [] and crf(none, cr.zeros(4, 0, dtype=cr.int64)).item() == 0.0


def test_it_learns_which_tags_follow_each_other(rng):
    """Emissions say nothing about every second tag; the moves 0 → 1 → 2 → 0 do."""
    first = rng.integers(0, 3, 20)
    tags = (first + np.arange(8)[:, None]) % 3
    emissions = np.eye(3)[tags] * (np.arange(8) % 2)[:, None, None]
    x, y, crf = cr.tensor(emissions, dtype=cr.float32), cr.tensor(tags), nn.CRF(3)
    optimizer = optim.Adam(crf.parameters(), lr=0.2)
    for _ in range(30):
        optimizer.zero_grad()
        (-crf(x, y, reduction="mean")).backward()
        optimizer.step()
    assert crf.decode(x) == tags.T.tolist()


X, Y, ON = cr.zeros(T, N, K), cr.zeros(T, N, dtype=cr.int64), cr.ones(T, N, dtype=cr.bool)
LATE, HOLED = ON.clone(), ON.clone()
LATE[0, 2] = False
HOLED[2, 1] = False

REFUSED = [
    (lambda crf: nn.CRF(0), ValueError, r"CRF: received num_tags=0.*pass num_tags >= 1"),
    (lambda crf: crf(X[0], Y), ValueError, r"an input of shape \(3, 3\) with 2 axes, but needs \(T, N, K\)"),
    (lambda crf: crf(cr.zeros(T, N, 4), Y), ValueError, r"an input of shape \(4, 3, 4\).*num_tags=3"),
    (lambda crf: crf.decode(X[:0]), ValueError, r"shape \(0, 3, 3\) without a step.*leave empty sequences out"),
    (lambda crf: crf(X, Y.T), ValueError, r"tags of shape \(3, 4\) for emissions of shape \(4, 3, 3\).*shape \(4, 3\)"),
    (lambda crf: crf(X, Y.float()), TypeError, r"tags of dtype float32.*pass tags.long\(\)"),
    (lambda crf: crf(X, Y + 3), ValueError, r"the tag 3, but was built with num_tags=3; pass tags from 0 to 2"),
    (lambda crf: crf(X, Y - 1), ValueError, r"the tag -1"),
    (lambda crf: crf(X, Y, ON[:2]), ValueError, r"mask of shape \(2, 3\) for emissions of shape \(4, 3, 3\)"),
    (lambda crf: crf(X, Y, ON.int()), TypeError, r"a mask of dtype int32, but a mask is bool; pass mask != 0"),
    (lambda crf: crf(X, Y, LATE), ValueError, r"off at the first step in sequence 2.*padding at the end"),
    (lambda crf: crf.decode(X, HOLED), ValueError, r"on again after an end in sequence 1.*padding at the end"),
    (lambda crf: crf(X, Y, None, "avg"), ValueError, r"reduction='avg'.*'none', 'sum', 'mean', 'token_mean'"),
]


@pytest.mark.parametrize("call, error, message", REFUSED)
def test_refuses(call, error, message):
    with pytest.raises(error, match=message):
        call(nn.CRF(K))
