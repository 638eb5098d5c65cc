"""The network that matches two sentences over the grid of their words."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.nn import models

WORDS, LENGTH = 8, 3


def pairs(rng, n):
    """Pairs of sentences of different words; half of them have one word in common."""
    first = np.array([rng.permutation(np.arange(1, WORDS))[:LENGTH] for _ in range(n)])
    second = np.array([rng.permutation(np.setdiff1d(np.arange(1, WORDS), words))[:LENGTH] for words in first])
    match = rng.integers(0, 2, n)
    for row in np.flatnonzero(match):
        second[row, rng.integers(LENGTH)] = first[row, rng.integers(LENGTH)]
    return cr.tensor(first), cr.tensor(second), cr.tensor(match)


def test_a_coupled_lstm_learns_whether_two_sentences_share_a_word(rng):
    net = models.CoupledLSTM(WORDS, 2, embedding_dim=8, hidden_size=16)
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    for _ in range(250):
        first, second, match = pairs(rng, 32)
        optimizer.zero_grad()
        cr.cross_entropy(net(first, second), match).backward()
        optimizer.step()
    first, second, match = pairs(rng, 300)
    assert (net(first, second).argmax(1) == match).float().mean().item() > 0.85


def test_a_cell_reads_its_two_words(rng):
    net = models.CoupledLSTM(WORDS, 2, embedding_dim=4, hidden_size=3)
    first, second, _ = pairs(rng, 2)
    grids = []
    with net.lstm.register_forward_pre_hook(lambda module, args: grids.append(args[0].detach().numpy())):
        net(first, second[:, :2])
    table = net.table.weight.detach().numpy()
    assert grids[0].shape == (2, 8, LENGTH, 2)
    for n, i, j in np.ndindex(2, LENGTH, 2):
        words = table[first.numpy()[n, i]], table[second.numpy()[n, j]]
        assert np.array_equal(grids[0][n, :, i, j], np.concatenate(words))


@pytest.mark.parametrize("directions, pool", [(1, 1), (4, 2)])
def test_sizes_and_gradients(directions, pool, rng):
    net = models.CoupledLSTM(WORDS, 3, 4, 5, directions, pool)
    first, second, _ = pairs(rng, 2)
    assert net.hidden.weight.shape == (5, directions * 5 * pool * pool)
    out = net(first, second)
    assert out.shape == (2, 3)
    cr.cross_entropy(out, cr.tensor([0, 2])).backward()
    assert all(np.isfinite(p.grad.numpy()).all() for p in net.parameters())


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"CoupledLSTM: received pool=0"):
        models.CoupledLSTM(8, 2, pool=0)
    with pytest.raises(ValueError, match=r"LSTM2d: received directions=3.*pass one of 1, 4"):
        models.CoupledLSTM(8, 2, directions=3)
