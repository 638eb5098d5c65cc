"""Lectures, section 4: language models against unigrams, the toy "hello", word vectors and their analogies."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.nn import models
from chainrule.nn.functional import cross_entropy


def fit(model, loss, steps, rate=0.02):
    optimizer = optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


# ---- language models -------------------------------------------------------------------------------------------------

NOUNS, VERBS, PLACES = "cat dog bird king".split(), "saw met fed".split(), "park house".split()


def sentences(count, rng):
    """A language in which each word says much about the next, and the subject about the end."""
    for _ in range(count):
        subject = rng.integers(4)
        yield from ("the", NOUNS[subject], str(rng.choice(VERBS)), "the", str(rng.choice(NOUNS)), "in", "the")
        yield from (PLACES[subject % 2], ".")


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    learnt, kept = list(sentences(200, rng)), list(sentences(60, rng))
    vocabulary = data.Vocabulary.of(learnt)
    return vocabulary, vocabulary.encode(learnt), vocabulary.encode(kept)


def unigram_perplexity(corpus):
    vocabulary, learnt, kept = corpus
    p = np.bincount(learnt.numpy(), minlength=len(vocabulary)) / len(learnt)
    return np.exp(-np.log(p[kept.numpy()]).mean())


# Per sentence: verb and object are free, ln 3 + 2 ln 4 nats with the subject; the rest follows.
ENTROPY = (np.log(3) + 2 * np.log(4)) / 9


def test_bengios_network_beats_the_unigram_model(corpus):
    vocabulary, learnt, kept = corpus
    windows, unseen = (cr.tensor(np.lib.stride_tricks.sliding_window_view(ids.numpy(), 7)) for ids in (learnt, kept))
    cr.manual_seed(0)
    model = models.NPLM(len(vocabulary), context=6, embedding_dim=8, hidden_size=32)
    fit(model, lambda: cross_entropy(model(windows[:, :-1]), windows[:, -1]), 60)
    perplexity = cross_entropy(model(unseen[:, :-1]), unseen[:, -1]).exp().item()
    assert np.exp(ENTROPY) * 0.95 < perplexity < 1.1 * np.exp(ENTROPY) < unigram_perplexity(corpus) / 4


def test_bengios_formula(rng):
    """y = b + W x + U tanh(d + H x), x = [C(w_{t−1}); C(w_{t−2}); …]."""
    model = models.NPLM(7, context=3, embedding_dim=4, hidden_size=5, direct=True).to(cr.float64)
    table, H, d, U, b, W = (
        p.detach().numpy()
        for p in (model.table.weight, *model.hidden.parameters(), *model.output.parameters(), model.direct.weight)
    )
    words = rng.integers(0, 7, (2, 3))
    x = np.concatenate([table[words[:, k]] for k in range(3)], 1)
    expected = b + x @ W.T + np.tanh(d + x @ H.T) @ U.T
    np.testing.assert_allclose(model(cr.tensor(words)).detach().numpy(), expected, rtol=1e-12)


def test_mikolovs_network_beats_the_unigram_model(corpus):
    vocabulary, learnt, kept = corpus
    cr.manual_seed(0)
    model = models.ElmanLM(len(vocabulary), hidden_size=24)
    trainer = nn.StatefulTrainer(
        model,
        lambda logits, y: cross_entropy(logits.flatten(0, 1), y.flatten()),
        optim.Adam(model.parameters(), lr=0.02),
        metrics={},
        verbose=False,
    )
    history = trainer.fit(data.Streams(learnt, 20, 9), data.Streams(kept, 4, 9), epochs=12)
    perplexity = np.exp(history[-1]["val_loss"])
    assert np.exp(ENTROPY) * 0.95 < perplexity < unigram_perplexity(corpus) / 3


def test_mikolovs_formula(rng):
    """s(t) = σ(U [w(t); s(t − 1)]) from one-hot words w(t), y(t) = V s(t)."""
    model = models.ElmanLM(6, hidden_size=3).to(cr.float64)
    words, recurrent, V = (p.detach().numpy() for p in model.parameters())
    U = np.concatenate([words.T, recurrent], 1)  # (H, words + H)
    ids = rng.integers(0, 6, (5, 2))
    logits, last = model(cr.tensor(ids))
    s = np.zeros((2, 3))
    for t in range(5):
        s = 1 / (1 + np.exp(-np.concatenate([np.eye(6)[ids[t]], s], 1) @ U.T))
        np.testing.assert_allclose(logits[t].detach().numpy(), s @ V.T, rtol=1e-12)
    np.testing.assert_allclose(last.detach().numpy(), s, rtol=1e-12)
    first, state = model(cr.tensor(ids[:2]))
    rest, _ = model(cr.tensor(ids[2:]), state)
    np.testing.assert_allclose(cr.cat([first, rest]).detach().numpy(), logits.detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_net_that_read_hello_completes_it(cell):
    """After h, e, l, l come e, l, l, o: two equal letters with different successors, told apart by the state."""
    vocabulary = data.Vocabulary("helo")
    x, y = vocabulary.encode("hell")[:, None], vocabulary.encode("ello")
    cr.manual_seed(0)
    model = models.CharLM(4, hidden_size=8, cell=cell, embedding_dim=4)
    fit(model, lambda: cross_entropy(model(x)[0].flatten(0, 1), y), 60)
    assert vocabulary.decode(model(x)[0].argmax(-1).flatten()) == list("ello")
    assert vocabulary.decode(models.generate(model, vocabulary.encode("h"), 4, temperature=0)) == list("ello")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_state_carries_a_text_on(cell, rng):
    """Two windows with the state carried are one long window; dropout rests in evaluation."""
    model = models.CharLM(9, hidden_size=6, num_layers=2, cell=cell, embedding_dim=5, dropout=0.5).to(cr.float64).eval()
    ids = cr.tensor(rng.integers(0, 9, (7, 3)))
    whole, last = model(ids)
    first, state = model(ids[:4])
    second, end = model(ids[4:], state)
    np.testing.assert_allclose(cr.cat([first, second]).detach().numpy(), whole.detach().numpy(), rtol=1e-12)
    for a, b in zip(*((s,) if isinstance(s, cr.Tensor) else s for s in (last, end))):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
    model.train()
    out = model(ids)[0]
    out.sum().backward()
    assert not (out == whole).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_softmax_of_logits_over_temperature_is_what_is_drawn():
    class Fixed(nn.Module):
        def forward(self, ids, state):
            return cr.tensor([0.0, 1.0, 2.0]).expand(*ids.shape, 3), state

    for temperature in (0.5, 1.0, 3.0):
        drawn = models.generate(Fixed(), cr.tensor([0]), 2000, temperature, cr.Generator(0))
        p = np.exp(np.arange(3) / temperature)
        np.testing.assert_allclose(np.bincount(drawn.numpy(), minlength=3) / 2000, p / p.sum(), atol=0.03)
    for temperature in (0, 1e-300):
        assert models.generate(Fixed(), cr.tensor([0]), 3, temperature).tolist() == [2, 2, 2]
    for temperature in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"temperature received is {temperature}, by which .* Pass a number"):
            models.generate(Fixed(), cr.tensor([0]), 3, temperature)
    with pytest.raises(ValueError, match="received an empty prompt, which nothing can follow"):
        models.generate(Fixed(), cr.tensor([], dtype=cr.int64), 3)
    with pytest.raises(ValueError, match="received length=-1, the number of ids to draw. Pass 0 or more"):
        models.generate(Fixed(), cr.tensor([0]), -1)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_broken_model_writes_nothing(wrong, temperature):
    model = models.CharLM(4, hidden_size=2)
    with cr.no_grad():
        model.output.bias[1] = wrong
    with pytest.raises(ValueError, match="logits that hold NaN or ∞ from the model"):
        models.generate(model, cr.tensor([0]), 3, temperature)


def test_one_matrix_as_table_and_output_map():
    model = models.CharLM(9, hidden_size=6, embedding_dim=6, tied=True)
    assert model.table.weight is model.output.weight
    logits, _ = model(cr.arange(9)[:, None])
    logits.sum().backward()
    assert sum(p.numel() for p in model.parameters()) == 9 * 6 + 9 + 4 * 6 * (6 + 6 + 2)
    with pytest.raises(ValueError, match="tied=True with embedding_dim=64 and hidden_size=6, .* pass embedding_dim=6"):
        models.CharLM(9, hidden_size=6, tied=True)
    with pytest.raises(ValueError, match="cell='elman', .* pass one of 'lstm', 'gru', 'rnn'"):
        models.CharLM(9, cell="elman")


# ---- word vectors ----------------------------------------------------------------------------------------------------

ROWS, COLUMNS = 6, 3


def word(row, column):
    """The word of a table in which rows are countries, say, and columns country, capital, language."""
    return COLUMNS * row + column


@pytest.fixture(scope="module")
def relation():
    """Sentences [mark of the row, word (row, column), mark of the column] in all combinations, and their vocabulary."""
    words = ROWS * COLUMNS
    sentence = [(words + r, word(r, c), words + ROWS + c) for r in range(ROWS) for c in range(COLUMNS)]
    return cr.tensor(sentence), words + ROWS + COLUMNS


def analogies_found(vectors):
    cases = [(r, s, c, d) for r in range(ROWS) for s in range(ROWS) for c in range(COLUMNS) for d in range(COLUMNS)]
    cases = [(r, s, c, d) for r, s, c, d in cases if r != s and c != d]
    found = [models.analogy(vectors, word(r, c), word(r, d), word(s, d)) == word(s, c) for r, s, c, d in cases]
    return np.mean(found)


def test_cbow_finds_the_planted_relation(relation):
    sentence, size = relation
    cr.manual_seed(0)
    model = models.CBOW(size, 16)
    around = [(1, 2), (0, 2), (0, 1)]
    contexts, targets = cr.cat([sentence[:, list(c)] for c in around]), sentence.t().flatten()
    fit(model, lambda: cross_entropy(model(contexts), targets), 150)
    assert analogies_found(model.vectors.weight) == 1.0


def test_skip_gram_with_negative_sampling_finds_the_planted_relation(relation):
    sentence, size = relation
    cr.manual_seed(0)
    model = models.SkipGram(size, 16)
    pairs = [(a, b) for a in range(3) for b in range(3) if a != b]
    words, contexts = (cr.cat([sentence[:, pair[k]] for pair in pairs]) for k in (0, 1))
    counts = cr.tensor(np.bincount(contexts.numpy(), minlength=size))

    def loss():
        noise = models.noise_words(counts, len(words), 5)
        return models.negative_sampling(model.score(words, cr.cat([contexts[:, None], noise], 1)))

    fit(model, loss, 300)
    assert analogies_found(model.vectors.weight) == 1.0


def test_the_formulas_of_word_vectors(rng):
    cbow, skip = models.CBOW(8, 3).to(cr.float64), models.SkipGram(8, 3).to(cr.float64)
    assert (cbow.outputs.weight == 0).all() and (cbow.vectors.weight.abs() <= 0.5 / 3).all()
    for model in (cbow, skip):
        nn.init.normal_(model.outputs.weight)
    context, words = rng.integers(0, 8, (4, 2)), rng.integers(0, 8, 4)
    v, u = (p.detach().numpy() for p in cbow.parameters())
    np.testing.assert_allclose(cbow(cr.tensor(context)).detach().numpy(), v[context].mean(1) @ u.T, rtol=1e-12)
    v, u = (p.detach().numpy() for p in skip.parameters())
    np.testing.assert_allclose(skip(cr.tensor(words)).detach().numpy(), v[words] @ u.T, rtol=1e-12)
    scores = skip.score(cr.tensor(words), cr.tensor(context)).detach().numpy()
    np.testing.assert_allclose(scores, np.einsum("nd,nkd->nk", v[words], u[context]), rtol=1e-12)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))
    expected = -(np.log(sigmoid(scores[:, 0])) + np.log(sigmoid(-scores[:, 1]))).mean()
    assert models.negative_sampling(cr.tensor(scores)).item() == pytest.approx(expected, rel=1e-12)


def test_noise_words_follow_the_power_of_their_counts():
    counts = np.array([1, 16, 81, 0])
    drawn = models.noise_words(cr.tensor(counts), 200, 100, generator=cr.Generator(0))
    assert drawn.shape == (200, 100)
    np.testing.assert_allclose(np.bincount(drawn.numpy().flatten(), minlength=4) / 20_000, counts**0.75 / 36, atol=0.01)
