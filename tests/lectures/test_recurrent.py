"""Lectures, section 4: simple RNN, back-propagation through time, LSTM, peepholes, GRU, and what is built from them."""

import itertools

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.autograd import lstm_sequence, rnn_sequence

f64 = cr.float64
T, B, I, H = 5, 3, 4, 6  # steps, sequences, input and state sizes


def t(array):
    return cr.tensor(np.asarray(array, float))


def leaf(array):
    return t(array).requires_grad_()


def close(ours, expected, tolerance=1e-12):
    ours = ours.detach().numpy() if isinstance(ours, cr.Tensor) else ours
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def weights(layer, suffix="_l0"):
    """The layer's weights as NumPy arrays: input, state, and the two biases as the one of the formulas."""
    w = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    biases = w[f"bias_ih{suffix}"], w[f"bias_hh{suffix}"]
    return w[f"weight_ih{suffix}"], w[f"weight_hh{suffix}"], *biases


# ---- the simple RNN --------------------------------------------------------------------------------------------------


def elman(U, W, b, xs, h):
    """h_t = tanh(U x_t + W h_{t−1} + b) for every step; vectors are columns, as in the lectures."""
    states = []
    for x in xs:
        h = np.tanh(U @ x + W @ h + b)
        states.append(h)
    return np.array(states)


def test_the_simple_rnn_step_by_step(rng):
    """ŷ_t = softmax(V h_t)."""
    rnn, V = nn.RNN(I, H, dtype=f64), rng.standard_normal((2, H))
    U, W, b, c = weights(rnn)
    x, h0 = rng.standard_normal((T, I)), rng.standard_normal(H)
    out, last = rnn(t(x)[:, None], t(h0)[None, None])
    expected = elman(U, W, b + c, x, h0)
    close(out[:, 0], expected)
    close(last[0, 0], expected[-1])
    close(cr.softmax(out[:, 0] @ t(V).T, 1), softmax(expected @ V.T))


def test_the_same_weights_serve_every_step(rng):
    """The gradient is the sum of those that a separate copy of the weights at each step would have."""
    x, h0, W, U = (rng.standard_normal(shape) for shape in ((T, I), H, (H, H), (H, I)))
    copies = [(leaf(U), leaf(W)) for _ in range(T)]
    h = t(h0)
    for x_t, (u, w) in zip(x, copies, strict=True):
        h = cr.tanh(u @ t(x_t) + w @ h)
    (h**2).sum().backward()

    u, w = leaf(U), leaf(W)
    _, last = rnn_sequence(t(h0)[None], t(x), u, w, batch_sizes=(1,) * T)
    (last**2).sum().backward()
    close(u.grad, sum(u.grad.numpy() for u, _ in copies))
    close(w.grad, sum(w.grad.numpy() for _, w in copies))


# ---- back-propagation through time -----------------------------------------------------------------------------------


@pytest.fixture
def unrolled(rng):
    """Four steps s_0 … s_3 of an RNN whose every output ŷ_t is asked for a class: sizes, weights, states, outputs."""
    x, first = rng.standard_normal((4, I)), rng.standard_normal(H)
    U, W, V = (0.5 * rng.standard_normal(shape) for shape in ((H, I), (H, H), (3, H)))
    answers = rng.integers(0, 3, 4)
    s = elman(U, W, 0, x, first)
    return x, first, U, W, V, answers, s, softmax(s @ V.T)


def errors(unrolled):
    """E_t = −log ŷ_t[answer] of every step by the engine, and the leaf W."""
    x, first, U, W, V, answers, *_ = unrolled
    w = leaf(W)
    states, _ = rnn_sequence(t(first)[None], t(x), t(U), w, batch_sizes=(1,) * 4)
    return cr.cross_entropy(states @ t(V).T, cr.tensor(answers), reduction="none"), w


def explicit_terms(unrolled, step):
    """The terms k = 0 … step of ∂E_step/∂W = Σ_k ∂E/∂ŷ ∂ŷ/∂s ∂s/∂s_k ∂s_k/∂W, each a product of whole Jacobians.

    ∂s_k/∂W is the immediate derivative, with s_{k−1} held fixed: (H, H·H).
    """
    _, first, _, W, V, answers, s, y = unrolled
    terms = []
    for k in range(step + 1):
        dE_dy = -np.eye(3)[answers[step]] / y[step]
        dy_ds = (np.diag(y[step]) - np.outer(y[step], y[step])) @ V
        ds_dsk = np.eye(H)
        for j in range(step, k, -1):
            ds_dsk = ds_dsk @ (np.diag(1 - s[j] ** 2) @ W)
        before = s[k - 1] if k else first
        dsk_dW = np.diag(1 - s[k] ** 2) @ np.kron(np.eye(H), before)
        terms.append((dE_dy @ dy_ds @ ds_dsk @ dsk_dW).reshape(H, H))
    return terms


def test_the_gradient_is_the_explicit_sum_over_time(unrolled):
    """∂E₃/∂W = Σ_{k=0..3} ∂E₃/∂ŷ₃ ∂ŷ₃/∂s₃ ∂s₃/∂s_k ∂s_k/∂W."""
    E, w = errors(unrolled)
    E[3].backward()
    terms = explicit_terms(unrolled, 3)
    close(w.grad, sum(terms))
    assert all(abs(term).max() > 1e-3 for term in terms)  # no term could be left out unseen


def test_the_gradient_of_the_whole_error_is_the_sum_over_the_steps(unrolled):
    """∂E/∂W = Σ_t ∂E_t/∂W."""
    E, w = errors(unrolled)
    E.sum().backward()
    close(w.grad, sum(sum(explicit_terms(unrolled, step)) for step in range(4)))


def test_truncation_leaves_the_early_terms_out(unrolled):
    """A state detached after s_1 stops the sum at k = 2."""
    x, first, U, W, V, answers, *_ = unrolled
    w = leaf(W)
    _, carried = rnn_sequence(t(first)[None], t(x[:2]), t(U), w, batch_sizes=(1, 1))
    states, _ = rnn_sequence(carried.detach(), t(x[2:]), t(U), w, batch_sizes=(1, 1))
    cr.cross_entropy(states[-1:] @ t(V).T, cr.tensor(answers[3:])).backward()
    close(w.grad, sum(explicit_terms(unrolled, 3)[2:]))


# ---- vanishing and exploding gradients -------------------------------------------------------------------------------


def jacobian_norms(scale, steps=30, nonlinearity="tanh"):
    """‖∂s_t/∂s_0‖ for t = 1 … steps of an RNN with W = scale · (an orthogonal matrix) that sees zeros."""
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((H, H)))
    run = lambda h: rnn_sequence(
        h, cr.zeros(steps, I, dtype=f64), cr.zeros(H, I, dtype=f64), t(scale * Q), batch_sizes=(1,) * steps,
        nonlinearity=nonlinearity,
    )[0]  # fmt: skip
    J = cr.jacobian(run)(cr.full((1, H), 0.01, dtype=f64))[:, :, 0].numpy()
    return np.linalg.norm(J, 2, axis=(1, 2))


def test_the_jacobian_of_distant_states_vanishes_or_explodes_with_the_weights():
    """‖∂s_t/∂s_0‖ ≤ ‖W‖^t, and for tanh near 0 it is almost that."""
    times = np.arange(1, 31)
    vanishing = jacobian_norms(0.7)
    assert (vanishing <= 0.7**times * (1 + 1e-12)).all() and vanishing[-1] > 0.99 * 0.7**30
    assert jacobian_norms(1.5)[:8].min() > 1.4 and jacobian_norms(1.5)[7] > 1.4**8


def test_the_state_of_an_lstm_carries_the_gradient_that_a_simple_rnn_loses():
    """∂C_t/∂C_{t−1} = f along the straight path; with every gate's weight 0 it is exactly Π σ(b_f)."""
    steps, b_f = 40, 4.0
    zeros = lambda *shape: cr.zeros(*shape, dtype=f64)
    bias = t(np.repeat([0.0, b_f, 0.0, 0.0], H))
    args = zeros(4 * H, I), zeros(4 * H, H), bias
    c = leaf(np.ones((1, H)))
    _, _, last = lstm_sequence(zeros(1, H), zeros(steps, I), c, *args, batch_sizes=(1,) * steps)
    last.sum().backward()
    close(c.grad, np.full((1, H), sigmoid(b_f) ** steps))
    assert c.grad.min().item() > 0.4 > 1e-6 > 0.7**steps


def exploding():
    """A relu RNN whose state grows by three tenths at every step, asked for the mean of 30 numbers."""
    cr.manual_seed(0)
    rnn, head = nn.RNN(1, 16, nonlinearity="relu", dtype=f64), nn.Linear(16, 1, dtype=f64)
    with cr.no_grad():
        rnn.weight_hh_l0[...] = 1.3 * cr.eye(16, dtype=f64)
    x = cr.rand(30, 20, 1, dtype=f64)
    model = nn.ModuleList([rnn, head])
    return model, lambda: cr.mse_loss(head(rnn(x)[0][-1]), x.mean(0))


def test_clipping_tames_an_exploding_network():
    model, loss = exploding()
    loss().backward()
    parameters = list(model.parameters())
    before = np.concatenate([p.grad.numpy().ravel() for p in parameters])
    norm = nn.utils.clip_grad_norm_(parameters, 1.0)
    after = np.concatenate([p.grad.numpy().ravel() for p in parameters])
    assert norm.item() == pytest.approx(np.linalg.norm(before)) and norm.item() > 1e6
    close(after, before / np.linalg.norm(before), 1e-6)  # the direction stays

    def train(clipped):
        model, loss = exploding()
        optimizer, values = optim.SGD(model.parameters(), lr=0.02), []
        with np.errstate(all="ignore"):
            for _ in range(200):
                optimizer.zero_grad()
                values.append(loss())
                values[-1].backward()
                if clipped:
                    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
        return values[0].item(), values[-1].item()

    first, last = train(clipped=True)
    assert last < 1e-6 * first
    _, last = train(clipped=False)
    assert np.isnan(last)


# ---- LSTM ------------------------------------------------------------------------------------------------------------


def lstm(layer, xs, h, c, previous=None):
    """f, i, o = σ(…), C̃ = tanh(…); C_t = f ⊙ C_{t−1} + i ⊙ C̃; H_t = o ⊙ tanh(C_t), one sequence, step by step."""
    U, W, b, b2 = weights(layer)
    peep = layer.weight_ch_l0.detach().numpy() if previous is not None else np.zeros((3, len(h)))
    states, cells = [], []
    for x in xs:
        i, f, g, o = np.split(U @ x + W @ h + b + b2, 4)
        i, f = sigmoid(i + peep[0] * c), sigmoid(f + peep[1] * c)
        new = f * c + i * np.tanh(g)
        o = sigmoid(o + peep[2] * (c if previous else new))
        h, c = o * np.tanh(new), new
        states.append(h), cells.append(c)
    return np.array(states), np.array(cells)


@pytest.mark.parametrize(
    ("peephole", "previous"),
    [(False, None), (True, False), ("current", False), ("previous", True)],
    ids=["none", "Graves", "Graves by name", "lecture"],
)
def test_the_lstm_step_by_step(rng, peephole, previous):
    layer = nn.LSTM(I, H, dtype=f64, peephole=peephole)
    x, h0, c0 = rng.standard_normal((T, B, I)), rng.standard_normal((B, H)), rng.standard_normal((B, H))
    out, (h, c) = layer(t(x), (t(h0)[None], t(c0)[None]))
    for n in range(B):
        states, cells = lstm(layer, x[:, n], h0[n], c0[n], previous)
        close(out[:, n], states)
        close(h[0, n], states[-1])
        close(c[0, n], cells[-1])


def test_the_two_peepholes_differ_in_what_the_output_gate_sees(rng):
    x, c0 = t(rng.standard_normal((1, 1, I))), t(rng.standard_normal((1, 1, H)))
    graves, lecture = (nn.LSTM(I, H, dtype=f64, peephole=p) for p in ("current", "previous"))
    lecture.load_state_dict(graves.state_dict())
    (a, (_, ca)), (b, (_, cb)) = (layer(x, (cr.zeros_like(c0), c0)) for layer in (graves, lecture))
    close(ca, cb.detach().numpy())  # one step: the same cell, another output
    ratio = (a / b).detach().numpy().ravel()
    U, _, b1, b2 = weights(graves)
    o = (U @ x.numpy().ravel() + b1 + b2)[3 * H :]
    p = graves.weight_ch_l0.detach().numpy()[2]
    cell, before = ca.detach().numpy().ravel(), c0.numpy().ravel()
    close(ratio, sigmoid(o + p * cell) / sigmoid(o + p * before))


def test_one_cell_equals_one_step(rng):
    x, h, c = (t(rng.standard_normal((B, n))) for n in (I, H, H))
    for cell, layer, states in (
        (nn.RNNCell(I, H, dtype=f64), nn.RNN(I, H, dtype=f64), h),
        (nn.LSTMCell(I, H, dtype=f64), nn.LSTM(I, H, dtype=f64), (h, c)),
        (nn.GRUCell(I, H, dtype=f64), nn.GRU(I, H, dtype=f64), h),
    ):
        layer.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
        first = cell(x, states)
        batched = tuple(s[None] for s in states) if isinstance(states, tuple) else states[None]
        out, _ = layer(x[None], batched)
        close(first[0] if isinstance(first, tuple) else first, out[0].detach().numpy())


# ---- GRU -------------------------------------------------------------------------------------------------------------


def lecture_gru(Wz, Wr, W, bz, br, b, xs, h):
    """z, r = σ(W [h; x]); H̃ = tanh(W [r ⊙ h; x]); h_t = (1 − z) ⊙ h_{t−1} + z ⊙ H̃."""
    states = []
    for x in xs:
        z, r = (sigmoid(w @ np.concatenate([h, x]) + c) for w, c in ((Wz, bz), (Wr, br)))
        h = (1 - z) * h + z * np.tanh(W @ np.concatenate([r * h, x]) + b)
        states.append(h)
    return np.array(states)


def test_the_lectures_gru_is_ours_with_the_signs_of_z_turned(rng):
    """1 − σ(a) = σ(−a): what the lectures call z is what chainrule and PyTorch call 1 − z."""
    Wz, Wr, W = (rng.standard_normal((H, H + I)) for _ in range(3))
    bz, br, b = rng.standard_normal((3, H))
    layer = nn.GRU(I, H, dtype=f64, reset_after=False)
    layer.load_state_dict(
        {
            "weight_hh_l0": t(np.concatenate([Wr[:, :H], -Wz[:, :H], W[:, :H]])),
            "weight_ih_l0": t(np.concatenate([Wr[:, H:], -Wz[:, H:], W[:, H:]])),
            "bias_ih_l0": t(np.concatenate([br, -bz, b])),
            "bias_hh_l0": cr.zeros(3 * H, dtype=f64),
        }
    )
    x, h0 = rng.standard_normal((T, I)), rng.standard_normal(H)
    out, _ = layer(t(x)[:, None], t(h0)[None, None])
    close(out[:, 0], lecture_gru(Wz, Wr, W, bz, br, b, x, h0))


@pytest.mark.parametrize("reset_after", [True, False])
def test_the_gru_step_by_step(rng, reset_after):
    """h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}; r scales W_hn h + b_hn, or h itself."""
    layer = nn.GRU(I, H, dtype=f64, reset_after=reset_after)
    U, W, b, c = weights(layer)
    x, h = rng.standard_normal((T, I)), rng.standard_normal(H)
    out, _ = layer(t(x)[:, None], t(h)[None, None])
    for step in range(T):
        (ur, uz, un), (wr, wz, wn), (cr_, cz, cn) = np.split(U @ x[step] + b, 3), np.split(W, 3), np.split(c, 3)
        r, z = sigmoid(ur + wr @ h + cr_), sigmoid(uz + wz @ h + cz)
        n = np.tanh(un + (r * (wn @ h + cn) if reset_after else wn @ (r * h) + cn))
        h = (1 - z) * n + z * h
        close(out[step, 0], h)


# ---- both directions, several layers ---------------------------------------------------------------------------------


def test_a_bidirectional_network_reads_from_both_ends(rng):
    layer = nn.RNN(I, H, bidirectional=True, dtype=f64)
    x = rng.standard_normal((T, I))
    out, last = layer(t(x)[:, None])
    zero = np.zeros(H)
    for part, order, suffix in ((slice(None, H), 1, "_l0"), (slice(H, None), -1, "_l0_reverse")):
        U, W, b, c = weights(layer, suffix)
        states = elman(U, W, b + c, x[::order], zero)
        close(out[:, 0, part], states[::order])
        close(last[int(order < 0), 0], states[-1])


def test_each_layer_reads_the_states_of_the_one_below(rng):
    layer = nn.RNN(I, H, num_layers=3, dtype=f64)
    x = rng.standard_normal((T, I))
    out, last = layer(t(x)[:, None])
    below = x
    for number in range(3):
        U, W, b, c = weights(layer, f"_l{number}")
        below = elman(U, W, b + c, below, np.zeros(H))
        close(last[number, 0], below[-1])
    close(out[:, 0], below)


def test_a_sequence_is_the_same_alone_and_in_a_batch_of_other_lengths(rng):
    layer = nn.LSTM(I, H, bidirectional=True, dtype=f64)
    parts = [t(rng.standard_normal((length, I))) for length in (2, 5, 3)]
    packed = nn.utils.rnn.pack_sequence(parts, enforce_sorted=False)
    out, lengths = nn.utils.rnn.pad_packed_sequence(layer(packed)[0])
    assert lengths.tolist() == [2, 5, 3]
    for n, part in enumerate(parts):
        alone, _ = layer(part[:, None])
        close(out[: len(part), n], alone[:, 0].detach().numpy())


# ---- one to many, many to one, many to many, sequence to sequence ----------------------------------------------------


def learn(modules, loss, steps=150, rate=0.02):
    optimizer = optim.Adam(itertools.chain(*(m.parameters() for m in modules)), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        nn.utils.clip_grad_norm_([p for m in modules for p in m.parameters()], 1.0)
        optimizer.step()


def test_many_to_one(rng):
    """Which sign did the first number of the sequence have?"""
    x = t(rng.standard_normal((6, 64, 1))).float()
    y = (x[0, :, 0] > 0).long()
    lstm, head = nn.LSTM(1, 16), nn.Linear(16, 2)
    run = lambda: head(lstm(x)[1][0][0])
    assert run().shape == (64, 2)
    learn((lstm, head), lambda: cr.cross_entropy(run(), y))
    assert (run().argmax(1) == y).float().mean().item() > 0.95


def test_many_to_many(rng):
    """Labelling: at every step, was the input of the step before positive?"""
    x = t(rng.standard_normal((8, 32, 1))).float()
    y = cr.cat([cr.zeros(1, 32, dtype=cr.int64), (x[:-1, :, 0] > 0).long()])
    gru, head = nn.GRU(1, 16), nn.Linear(16, 2)
    run = lambda: head(gru(x)[0])
    assert run().shape == (8, 32, 2)
    learn((gru, head), lambda: cr.cross_entropy(run().flatten(0, 1), y.flatten()))
    assert (run().argmax(2) == y).float().mean().item() > 0.95


def test_one_to_many():
    """From n alone, as the first state: n, n − 1, …, 1, and then 0s, each output fed back as the next input."""
    states, cell, head = nn.Embedding(6, 16), nn.GRUCell(6, 16), nn.Linear(16, 6)
    first, steps = cr.arange(1, 6), 6
    y = cr.clamp(first[None] - cr.arange(steps)[:, None], min=0)

    def run(given=None):
        h, token, logits = states(first), cr.zeros(5, dtype=cr.int64), []
        for step in range(steps):
            h = cell(cr.one_hot(token, 6).float(), h)
            logits.append(head(h))
            token = logits[-1].argmax(1) if given is None else given[step]
        return cr.stack(logits)

    assert run().shape == (steps, 5, 6)
    learn((states, cell, head), lambda: cr.cross_entropy(run(y).flatten(0, 1), y.flatten()), rate=0.05)
    assert run().argmax(2).tolist() == y.tolist()


def test_sequence_to_sequence():
    """All words of three letters from four, written backwards: the encoder's last state begins the decoder."""
    words = np.array(list(itertools.product(range(4), repeat=3))).T
    x, y = cr.one_hot(cr.tensor(words), 4).float(), cr.tensor(words[::-1].copy())
    shifted = cr.cat([cr.zeros(1, 64, 4), cr.one_hot(y[:-1], 4).float()])  # teacher forcing
    encoder, decoder, head = nn.GRU(4, 32), nn.GRU(4, 32), nn.Linear(32, 4)
    run = lambda: head(decoder(shifted, encoder(x)[1])[0])
    assert run().shape == (3, 64, 4)
    learn((encoder, decoder, head), lambda: cr.cross_entropy(run().flatten(0, 1), y.flatten()))
    assert (run().argmax(2) == y).all()
