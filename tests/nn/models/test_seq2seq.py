"""Encoder, attention and decoder against plain loops; greedy and beam search against all answers."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn.models import Decoder, Seq2Seq

SOURCE, LENGTHS = [[4, 5, 6, 7], [7, 8, 0, 0], [3, 0, 0, 0]], [4, 2, 1]
TARGET = [[3, 4, 5, 2], [6, 2, 0, 0], [7, 5, 2, 0]]
KINDS = [("lstm", "additive"), ("gru", "general"), ("gru", "additive"), ("lstm", None)]


def network(cell="lstm", attention="additive", vocab=9):
    net = Seq2Seq(10, vocab, embedding_dim=5, hidden_size=6, cell=cell, attention=attention).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.7)  # opinions strong enough to matter
    return net


def data(array):
    return cr.tensor(np.array(array))


# ---- plain loops -----------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    raised = np.exp(x - x.max())
    return raised / raised.sum()


def cell_step(weights, x, state):
    w, u, b, d = weights
    if len(state) == 2:
        h, c = state
        i, f, g, o = np.split(w @ x + b + u @ h + d, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    (h,) = state
    (r, z, n), (hr, hz, hn) = np.split(w @ x + b, 3), np.split(u @ h + d, 3)
    r, z = sigmoid(r + hr), sigmoid(z + hz)
    return ((1 - z) * np.tanh(n + r * hn) + z * h,)


def translate_by_hand(net, source, target):
    """The logits of one sentence, from the formulas in the docstrings."""
    p = {name: value.detach().numpy() for name, value in net.named_parameters()}
    names = [f"{kind}_{side}" for kind in ("weight", "bias") for side in ("ih", "hh")]
    size, states = net.bridge.out_features // net.states, net.states

    def scan(words, suffix):
        state, seen = (np.zeros(size),) * states, []
        for word in words:
            state = cell_step([p[f"encoder.{n}_l0{suffix}"] for n in names], p["embedding.weight"][word], state)
            seen.append(state[0])
        return seen

    forward, backward = scan(source, ""), scan(source[::-1], "_reverse")[::-1]
    memory = np.array([np.concatenate(pair) for pair in zip(forward, backward)])
    first = np.tanh(p["bridge.weight"] @ np.concatenate([forward[-1], backward[0]]) + p["bridge.bias"])
    state, feed, logits = tuple(np.split(first, states)), np.zeros(size), []
    d = {name.removeprefix("decoder."): value for name, value in p.items() if name.startswith("decoder.")}
    for word in [1, *target[:-1]]:
        x = np.concatenate([d["embedding.weight"][word], feed])
        state = cell_step([d[f"cell.{n}"] for n in names], x, state)
        feed = h = state[0]
        if "attention.energy.weight" in d:
            query = d["attention.query.weight"] @ h + d["attention.query.bias"]
            scores = np.tanh(query + memory @ d["attention.key.weight"].T) @ d["attention.energy.weight"][0]
        elif net.decoder.attention is not None:
            scores = memory @ d["attention.key.weight"].T @ h
        if net.decoder.attention is not None:
            feed = np.tanh(d["combine.weight"] @ np.concatenate([softmax(scores) @ memory, h]))
        logits.append(d["output.weight"] @ feed + d["output.bias"])
    return np.array(logits)


@pytest.mark.parametrize("cell, attention", KINDS)
def test_logits_of_a_padded_batch_are_those_of_each_sentence_by_hand(cell, attention):
    net = network(cell, attention)
    logits = net(data(SOURCE), data(LENGTHS), data(TARGET)).detach().numpy()
    for n, target in enumerate(TARGET):
        target = target[: target.index(2) + 1]
        expected = translate_by_hand(net, SOURCE[n][: LENGTHS[n]], target)
        np.testing.assert_allclose(logits[n, : len(target)], expected, rtol=1e-9)


def loss(net, source, lengths, target):
    logits = net(data(source), data(lengths), data(target))
    return cr.cross_entropy(logits.flatten(0, 1), data(target).flatten(), ignore_index=0, reduction="sum")


def gradients(net, *batch):
    net.zero_grad()
    loss(net, *batch).backward()
    return {name: p.grad.numpy().copy() for name, p in net.named_parameters()}


@pytest.mark.parametrize("cell, attention", KINDS)
def test_gradients_of_a_padded_batch_are_the_sum_of_each_sentences(cell, attention):
    net = network(cell, attention)
    together = gradients(net, SOURCE, LENGTHS, TARGET)
    alone = [gradients(net, [s[:n]], [n], [t]) for s, n, t in zip(SOURCE, LENGTHS, TARGET)]
    for name, gradient in together.items():
        np.testing.assert_allclose(gradient, sum(one[name] for one in alone), rtol=1e-9, atol=1e-12, err_msg=name)


def test_gradients_agree_with_differences():
    net = network()
    weight = net.embedding.weight.detach()

    def of(table):
        net.embedding.__dict__["weight"] = table
        return loss(net, SOURCE, LENGTHS, TARGET)

    cr.check_grads(of, [weight], order=1)


def test_dot_attention_where_the_sizes_agree(rng):
    decoder = Decoder(9, memory_size=6, hidden_size=6, cell="gru", attention="dot").double()
    hidden, memory = (data(rng.normal(size=(2, 6))),), data(rng.normal(size=(2, 4, 6)))
    answer = decoder.greedy(hidden, memory, None, max_length=1)
    x = cr.cat([decoder.embedding(data([1, 1])), cr.zeros(2, 6, dtype=cr.float64)], -1)
    h = decoder.cell(x, hidden[0]).detach().numpy()
    for n in range(2):
        np.testing.assert_allclose(answer.weights[n, 0].numpy(), softmax(memory.numpy()[n] @ h[n]), rtol=1e-10)


# ---- what the decoder is told ----------------------------------------------------------------------------------------


def test_without_teacher_forcing_it_is_told_its_own_answers():
    net, batch = network(), (data(SOURCE), data(LENGTHS))
    free = net(*batch, data(TARGET), teacher_forcing_ratio=0.0)
    own = (free + net.decoder.never).argmax(-1)
    assert not (own == data(TARGET)).all()
    np.testing.assert_allclose(net(*batch, own).detach().numpy(), free.detach().numpy(), rtol=1e-12)


def test_some_teacher_forcing_tells_some_of_both():
    net, told = network(), []
    net.decoder.embedding.register_forward_hook(lambda module, args, output: told.append(args[0].numpy()))
    many, wanted = [SOURCE[0]] * 200, [[1] * 20] * 200  # START, which it never answers itself
    cr.manual_seed(3)
    first = net(data(many), data([4] * 200), data(wanted), 0.7)
    inputs, own = np.stack(told[1:], 1), (first + net.decoder.never).argmax(-1)[:, :-1].numpy()
    assert 0.67 < (inputs == 1).mean() < 0.73 and (inputs == own)[inputs != 1].all()
    cr.manual_seed(3)
    assert (net(data(many), data([4] * 200), data(wanted), 0.7) == first).all()


# ---- search ----------------------------------------------------------------------------------------------------------


def log_probability(net, source, length, answer):
    """log p of an answer among the words that may come, from the logits that training sees."""
    logits = net(data([source[:length]]), data([length]), data([answer])) + net.decoder.never
    return cr.gather(cr.log_softmax(logits, -1), 2, data([answer]).unsqueeze(-1)).sum().item()


def answers_of(decoded):
    """The answers without the padding after END."""
    rows = decoded.tokens.tolist()
    for row in rows:
        ended = (*row, 2).index(2)
        assert all(token == 0 for token in row[ended + 1 :]) and 0 not in row[:ended] and 1 not in row
    return [row[: (*row, 2).index(2) + 1] for row in rows]


@pytest.mark.parametrize("cell, attention", KINDS)
def test_greedy_takes_the_most_probable_word_each_time_and_a_beam_of_one_is_greedy(cell, attention):
    for _ in range(5):
        net, batch = network(cell, attention, vocab=6), (data(SOURCE), data(LENGTHS))
        greedy, beam = net.greedy(*batch, max_length=7), net.beam(*batch, width=1, max_length=7)
        for n, answer in enumerate(answers_of(greedy)):
            logits = net(data(SOURCE)[n : n + 1], [LENGTHS[n]], data([answer])) + net.decoder.never
            assert logits.argmax(-1)[0].tolist() == answer
            np.testing.assert_allclose(
                greedy.scores[n].item(), log_probability(net, SOURCE[n], LENGTHS[n], answer), rtol=1e-9
            )
        assert (greedy.tokens == beam.tokens).all()
        np.testing.assert_allclose(greedy.scores.numpy(), beam.scores.numpy(), rtol=1e-12)
        np.testing.assert_allclose(greedy.weights.numpy(), beam.weights.numpy(), rtol=1e-12)


def every_answer(words, length):
    """All answers up to a length: words that END follows, and words that go on to the limit."""
    for n in range(length):
        yield from ([*row, 2] for row in itertools.product(words, repeat=n))
    yield from map(list, itertools.product(words, repeat=length))


@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0, 2.0])
def test_a_beam_as_wide_as_everything_finds_the_best_answer_there_is(penalty):
    for cell, attention in KINDS:
        net = network(cell, attention, vocab=5)
        decoded = net.beam(data(SOURCE), data(LENGTHS), width=27, max_length=3, length_penalty=penalty)
        for n, answer in enumerate(answers_of(decoded)):
            ranks = {
                tuple(a): log_probability(net, SOURCE[n], LENGTHS[n], a) / len(a) ** penalty
                for a in every_answer([3, 4], 3)
            }
            assert tuple(answer) == max(ranks, key=ranks.get)
            np.testing.assert_allclose(
                decoded.scores[n].item() / len(answer) ** penalty, max(ranks.values()), rtol=1e-9
            )


def test_a_beam_sees_what_greedy_misses():
    """p(3) = 0.4 leads to even odds, p(4) = 0.35 to certainty: greedy begins with 3, a beam of two with 4."""
    net = network("gru", None, vocab=6)
    odds = [[0, 0, 0, 0.4, 0.35, 0.25], [0, 0, 1 / 3, 1 / 3, 0, 1 / 3], [0, 0, 1, 0, 0, 0]]
    table = cr.log(data(odds) + 1e-300)
    net.decoder._gains = lambda state: table[cr.where(state[0] == 3, 1, cr.where(state[0] == 4, 2, 0))]
    net.decoder._step = lambda token, state, memories: ((token,), cr.zeros(len(token), 0))
    batch = data(SOURCE[:1]), data(LENGTHS[:1])
    assert net.greedy(*batch, max_length=2).tokens[0, 0].item() == 3
    assert net.beam(*batch, width=2, max_length=2).tokens.tolist() == [[4, 2]]


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_search_in_a_batch_is_search_alone(search):
    net = network()
    find = getattr(net, search)
    together = find(data(SOURCE), data(LENGTHS), max_length=6)
    assert together.weights.shape == (*together.tokens.shape, 4)
    for n, length in enumerate(LENGTHS):
        alone = find(data([SOURCE[n][:length]]), [length], max_length=6)
        answer = answers_of(alone)[0]
        assert answers_of(together)[n] == answer
        weights = together.weights[n, : len(answer)].numpy()
        np.testing.assert_allclose(weights[:, :length], alone.weights[0, : len(answer)].numpy(), rtol=1e-9)
        np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_search_ends_when_every_answer_has(search):
    net = network()
    with cr.no_grad():
        net.decoder.output.bias[2] = 1e4
    decoded = getattr(net, search)(data(SOURCE), data(LENGTHS))
    assert decoded.tokens.tolist() == [[2]] * 3 and not decoded.scores.requires_grad


def test_it_learns_to_reverse_and_looks_where_it_should(rng):
    words, lengths = rng.integers(3, 9, (64, 6)), rng.integers(2, 7, 64)
    words[np.arange(6) >= lengths[:, None]] = 0
    target = np.array([[*row[:n][::-1], 2, *row[n:]] for row, n in zip(words, lengths)])
    net = Seq2Seq(9, 9, embedding_dim=16, hidden_size=32, cell="gru", attention="general")
    source, lengths, target = data(words), data(lengths), data(target)
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        cr.cross_entropy(net(source, lengths, target).flatten(0, 1), target.flatten(), ignore_index=0).backward()
        optimizer.step()
    decoded, beam = net.greedy(source, lengths, max_length=7), net.beam(source, lengths, 3, max_length=7)
    assert (decoded.tokens == target).all() and (beam.tokens == target).all()
    looked = [
        weights[:n].argmax(-1)[::-1] - np.arange(n) for weights, n in zip(decoded.weights.numpy(), lengths.tolist())
    ]
    assert (np.abs(np.concatenate(looked)) <= 1).mean() > 0.9


REFUSED = [
    (lambda net: Seq2Seq(9, 9, cell="rnn"), r"received cell='rnn'.*'lstm', 'gru'"),
    (lambda net: Seq2Seq(9, 9, attention="concat"), r"received attention='concat'.*'additive', 'general', 'dot', None"),
    (lambda net: Seq2Seq(9, 9, end=1), r"padding=0, start=1 and end=1 for a vocabulary of 9.*three different numbers"),
    (lambda net: Seq2Seq(9, 2), r"for a vocabulary of 2; .*from 0 to 1"),
    (lambda net: Seq2Seq(9, 9, attention="dot"), r"query_size=128 and key_size=256 with method='dot'"),
    (lambda net: net(data(SOURCE), data(LENGTHS), data(TARGET[:2])), r"target of shape \(2, 4\) for a batch of 3"),
    (lambda net: net(data(SOURCE), data(LENGTHS), data(TARGET)[:, :0]), r"has an answer of at least END"),
    (
        lambda net: net(data(SOURCE), data(LENGTHS), data(TARGET), 1.5),
        r"ratio=1.5, which is the probability.*pass 0 <=",
    ),
    (lambda net: net(data(SOURCE), data([5, 2, 1]), data(TARGET)), r"length"),
    (lambda net: net.greedy(data(SOURCE), data([4, 2, 0])), r"length"),
    (lambda net: net.greedy(data(SOURCE), data(LENGTHS), max_length=0), r"received max_length=0.*at least 1"),
    (lambda net: net.beam(data(SOURCE), data(LENGTHS), width=0), r"Decoder: received width=0.*pass width >= 1"),
    (
        lambda net: net.beam(data(SOURCE), data(LENGTHS), length_penalty=float("nan")),
        r"received length_penalty=nan, the power of the length.*pass a finite number",
    ),
]


@pytest.mark.parametrize("call, message", REFUSED)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call(network())
