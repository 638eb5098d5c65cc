"""The tagger of words: its parts, its padding, and a task that needs spelling, context and transitions together."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.nn.models import BiLSTMCRF

WORDS = cr.tensor([[4, 7, 5], [5, 9, 0]])
CHARACTERS = cr.tensor([[[1, 2, 3], [4, 5, 0], [6, 0, 0]], [[7, 0, 0], [8, 9, 0], [0, 0, 0]]])
GAP = cr.tensor([[4, 7, 5], [5, 0, 9]])
TAGS = cr.tensor([[0, 1, 2], [2, 2, 0]])


def tagger(**options):
    return BiLSTMCRF(10, 3, **{"num_characters": 10, "word_dim": 6, "character_dim": 4, "hidden_size": 5} | options)


def test_emissions_are_the_parts_put_together():
    net = tagger().double().eval()
    emissions = net(WORDS, CHARACTERS)
    assert emissions.shape == (2, 3, 3) and (emissions[1, 2] == 0).all()
    for n, length in enumerate((3, 2)):
        spelt = []
        for row in CHARACTERS[n, :length].tolist():
            letters = net.characters(cr.tensor([c for c in row if c]))
            _, (last, _) = net.spelling(letters)
            spelt.append(last.flatten())
        states, _ = net.context(cr.cat([net.words(WORDS[n, :length]), cr.stack(spelt)], -1))
        expected = net.emission(cr.tanh(net.hidden(states)))
        np.testing.assert_allclose(emissions[n, :length].detach().numpy(), expected.detach().numpy(), rtol=1e-10)


def test_loss_and_paths_are_those_of_the_crf_on_each_sentence_alone():
    net = tagger().double().eval()
    losses = []
    for n, length in enumerate((3, 2)):
        alone = slice(n, n + 1), slice(length)
        losses.append(net.loss(WORDS[alone], CHARACTERS[alone], TAGS[alone]).item())
        assert net.decode(WORDS, CHARACTERS)[n] == net.decode(WORDS[alone], CHARACTERS[alone])[0]
    np.testing.assert_allclose(net.loss(WORDS, CHARACTERS, TAGS).item(), np.mean(losses), rtol=1e-12)


def test_every_parameter_learns_and_dropout_acts_in_training_alone():
    net = tagger()
    net.loss(WORDS, CHARACTERS, TAGS).backward()
    assert all((p.grad != 0).any() for p in net.parameters())
    assert not (net(WORDS, CHARACTERS) == net(WORDS, CHARACTERS)).all()
    net.eval()
    assert (net(WORDS, CHARACTERS) == net(WORDS, CHARACTERS)).all()


def test_words_alone():
    net = tagger(num_characters=0)
    assert net(WORDS).shape == (2, 3, 3) and [len(path) for path in net.decode(WORDS)] == [3, 2]
    assert "characters.weight" not in net.state_dict()


def names(rng, count, length=7):
    """Sentences of unknown words: names, B I I …, are runs of capitals, with which each sentence begins anyway."""
    words, characters, tags = (np.zeros((count, length, *more), np.int64) for more in ((), (4,), ()))
    for n in range(count):
        size = rng.integers(3, length + 1)
        names = rng.random(size) < 0.5
        names[0] = names[1]  # a first word is part of a name if the second is
        tags[n, :size] = np.where(names, np.where(np.roll(names, 1) & (np.arange(size) > 0), 2, 1), 0)
        words[n, :size] = 1
        for t in range(size):
            letters = rng.integers(1, 9, rng.integers(2, 5))  # 1–8 are small letters, 9–16 their capitals
            letters[0] += 8 * (names[t] or t == 0)
            characters[n, t, : len(letters)] = letters
    return cr.tensor(words), cr.tensor(characters), cr.tensor(tags)


def test_it_learns_names_from_spelling_and_context(rng):
    words, characters, tags = names(rng, 200)
    net = BiLSTMCRF(2, 3, num_characters=17, word_dim=4, character_dim=8, hidden_size=16, dropout=0.1)
    optimizer = optim.Adam(net.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        net.loss(words, characters, tags).backward()
        optimizer.step()
    words, characters, tags = names(rng, 100)
    found = net.eval().decode(words, characters)
    right = [path == row[: len(path)] for path, row in zip(found, tags.tolist())]
    assert np.mean(right) > 0.95


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: tagger()(WORDS), r"words of shape \(2, 3\) and characters of shape None.*num_characters=10"),
        (lambda: tagger(num_characters=0)(WORDS, CHARACTERS), r"characters of shape \(2, 3, 3\).*num_characters=0"),
        (lambda: tagger()(WORDS, CHARACTERS[:, :2]), r"characters of shape \(2, 2, 3\).*pass words \(N, L\)"),
        (lambda: tagger()(WORDS[0], CHARACTERS[0]), r"words of shape \(3,\)"),
        (lambda: tagger()(WORDS * 0, CHARACTERS), r"lengths=\[0, 0\].*lengths from 1 to 3"),
        (lambda: tagger()(WORDS, CHARACTERS * 0), r"lengths=\[0, 0, 0, 0, 0\].*lengths from 1 to 3"),
        (lambda: tagger()(GAP, CHARACTERS), r"received words \[5, 0, 9\], but 0 is padding.*give every word a number"),
        (lambda: tagger().loss(GAP, CHARACTERS, TAGS), r"received words \[5, 0, 9\]"),
        (lambda: tagger().decode(GAP, CHARACTERS), r"received words \[5, 0, 9\]"),
        (lambda: tagger()(WORDS, CHARACTERS.flip(-1)), r"received characters \[0, 0, 7\].*every character a number"),
        (lambda: tagger().loss(WORDS, CHARACTERS, TAGS + 1), r"CRF: received the tag 3.*num_tags=3"),
        (lambda: tagger(num_characters=-1), r"BiLSTMCRF: received num_characters=-1"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()
