"""Recurrent layers and cells: against PyTorch's in float64, plain loops in NumPy, differences, and themselves."""

import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn.utils import rnn

T, B, I, H = 5, 3, 3, 4
LENGTHS = {"packed": [5, 3, 2], "unsorted": [2, 5, 3]}
FORMS = ["padded", "batch_first", "unbatched", "packed", "unsorted"]

LAYERS = [
    ("RNN", {}),
    ("RNN", dict(num_layers=2, nonlinearity="relu", bidirectional=True)),
    ("RNN", dict(num_layers=3, bias=False)),
    ("LSTM", {}),
    ("LSTM", dict(bidirectional=True, bias=False)),
    ("LSTM", dict(num_layers=2, bidirectional=True)),
    ("LSTM", dict(proj_size=2)),
    ("LSTM", dict(num_layers=2, bidirectional=True, proj_size=3)),
    ("GRU", {}),
    ("GRU", dict(bidirectional=True, bias=False)),
    ("GRU", dict(num_layers=2, bidirectional=True)),
]
CELLS = [
    ("RNNCell", {}),
    ("RNNCell", dict(nonlinearity="relu", bias=False)),
    ("LSTMCell", {}),
    ("LSTMCell", dict(bias=False)),
    ("GRUCell", {}),
    ("GRUCell", dict(bias=False)),
]


def array(x):
    return x.detach().numpy()


def close(ours, theirs):
    np.testing.assert_allclose(array(ours), array(theirs), rtol=1e-9, atol=1e-11)


def flat(result):
    """The tensors of (output, state), a state, or a PackedSequence."""
    if hasattr(result, "batch_sizes"):
        return [result.data]
    return [t for part in result for t in flat(part)] if isinstance(result, tuple) else [result]


def pair(torch, name, settings, sizes=(I, H)):
    """PyTorch's layer, and ours with its state_dict."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of layers without a bias
        theirs = getattr(torch.nn, name)(*sizes, **settings).double()
    ours = getattr(nn, name)(*sizes, **settings).double()
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    return ours, theirs


def compare(torch, rng, ours, theirs, run, arrays):
    """`run(layer, *tensors)` gives equal results, and equal gradients of all arrays and parameters."""
    xs = [cr.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    ys, us = flat(run(ours, *xs)), flat(run(theirs, *ts))
    assert len(ys) == len(us)
    loss, loss_t = 0, 0
    for y, u in zip(ys, us):
        assert y.shape == tuple(u.shape)
        close(y, u)
        g = rng.normal(size=y.shape)
        loss, loss_t = loss + (y * cr.tensor(g)).sum(), loss_t + (u * torch.tensor(g)).sum()
    loss.backward()
    loss_t.backward()
    for x, t in zip(xs, ts):
        close(x.grad, t.grad)
    gradients = dict(theirs.named_parameters())
    assert list(gradients) == [n for n, _ in ours.named_parameters()]
    for name, parameter in ours.named_parameters():
        close(parameter.grad, gradients[name].grad)


def states_of(layer, rng, form):
    """First states that fit a layer."""
    count = layer.num_layers * (1 + layer.bidirectional)
    widths = [layer.proj_size or H, H][: 2 if isinstance(layer, nn.LSTM) else 1]
    return [rng.normal(size=(count, *([] if form == "unbatched" else [B]), width)) for width in widths]


def runner(torch, form):
    """How a layer is called on an input of some form and its states."""

    def run(layer, x, *states):
        if form in LENGTHS:
            module = rnn if isinstance(layer, nn.Module) else torch.nn.utils.rnn
            x = module.pack_padded_sequence(x, LENGTHS[form], enforce_sorted=form == "packed")
        return layer(x, *[] if not states else [states if len(states) == 2 else states[0]])

    return run


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name, settings", LAYERS)
def test_layer(torch, rng, name, settings, form, started):
    ours, theirs = pair(torch, name, settings | dict(batch_first=form == "batch_first"))
    shape = {"unbatched": (T, I), "batch_first": (B, T, I)}.get(form, (T, B, I))
    states = states_of(ours, rng, form) if started else []
    compare(torch, rng, ours, theirs, runner(torch, form), [rng.normal(size=shape), *states])


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("batch", [(), (B,)])
@pytest.mark.parametrize("name, settings", CELLS)
def test_cell(torch, rng, name, settings, batch, started):
    ours, theirs = pair(torch, name, settings)
    states = [rng.normal(size=(*batch, H)) for _ in range(1 + (name == "LSTMCell"))] if started else []
    compare(torch, rng, ours, theirs, runner(torch, "cell"), [rng.normal(size=(*batch, I)), *states])
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("name, settings", LAYERS)
def test_layers_look_like_pytorchs(torch, name, settings):
    settings = dict(num_layers=2, dropout=0.3, batch_first=True) | settings
    ours, theirs = getattr(nn, name)(I, H, **settings), getattr(torch.nn, name)(I, H, **settings)
    relu = ", nonlinearity=relu" if settings.get("nonlinearity") == "relu" else ""  # which PyTorch does not show
    assert repr(ours) == repr(theirs)[:-1] + relu + ")"
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_dropout_acts_between_layers(torch, rng, name, training):
    ours, theirs = pair(torch, name, dict(num_layers=3, dropout=1.0))  # p = 1 drops everything: no chance involved
    ours.train(training), theirs.train(training)
    compare(torch, rng, ours, theirs, runner(torch, "padded"), [rng.normal(size=(T, B, I))])


def test_dropout_draws_anew_in_training_alone(rng):
    net, x = nn.GRU(I, H, 2, dropout=0.5), cr.randn(T, B, I)
    assert (net(x)[0] != net(x)[0]).any()
    net.eval()
    assert (net(x)[0] == net(x)[0]).all()


def test_dropout_without_a_second_layer_warns():
    with pytest.warns(
        UserWarning, match="LSTM: received dropout=0.5 with num_layers=1.*pass num_layers >= 2"
    ) as caught:
        nn.LSTM(I, H, dropout=0.5)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_first_values(name):
    for parameter in getattr(nn, name)(10, 100, 2).parameters():
        assert parameter.abs().max().item() <= 0.1
        assert abs(parameter.std().item() - 0.1 / np.sqrt(3)) < 0.012


# ---- plain loops -----------------------------------------------------------------------------------------------------


def sigma(x):
    return 1 / (1 + np.exp(-x))


def lstm_loop(x, h, c, w_ih, w_hh, b_ih, b_hh, w_ch, see):
    """An LSTM with peepholes, one unit after the other."""
    outputs = []
    for x_t in x:
        h_new, c_new = np.zeros_like(h), np.zeros_like(c)
        for b in range(len(h)):
            for j in range(H):
                i, f, g, o = (
                    w_ih[k * H + j] @ x_t[b] + b_ih[k * H + j] + w_hh[k * H + j] @ h[b] + b_hh[k * H + j]
                    for k in range(4)
                )
                i, f = sigma(i + w_ch[0, j] * c[b, j]), sigma(f + w_ch[1, j] * c[b, j])
                c_new[b, j] = f * c[b, j] + i * np.tanh(g)
                seen = c[b, j] if see == "previous" else c_new[b, j]
                h_new[b, j] = sigma(o + w_ch[2, j] * seen) * np.tanh(c_new[b, j])
        h, c = h_new, c_new
        outputs.append(h)
    return np.stack(outputs), h, c


def gru_loop(x, h, w_ih, w_hh, b_ih, b_hh):
    """A GRU that resets h before the product, one unit after the other."""
    outputs = []
    for x_t in x:
        h_new = np.zeros_like(h)
        for b in range(len(h)):
            inner = w_ih @ x_t[b] + b_ih
            r = sigma(inner[:H] + w_hh[:H] @ h[b] + b_hh[:H])
            for j in range(H):
                z = sigma(inner[H + j] + w_hh[H + j] @ h[b] + b_hh[H + j])
                n = np.tanh(inner[2 * H + j] + w_hh[2 * H + j] @ (r * h[b]) + b_hh[2 * H + j])
                h_new[b, j] = (1 - z) * n + z * h[b, j]
        h = h_new
        outputs.append(h)
    return np.stack(outputs), h


def weights_of(layer, suffix):
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_ch"]
    weights = [getattr(layer, name + suffix) for name in names]
    return [array(w) for w in weights if w is not None]


@pytest.mark.parametrize("peephole", [True, "current", "previous"])
def test_peepholes(rng, peephole):
    net = nn.LSTM(I, H, bidirectional=True, peephole=peephole).double()
    assert [n for n, _ in net.named_parameters()][4::5] == ["weight_ch_l0", "weight_ch_l0_reverse"]
    x, h, c = rng.normal(size=(T, B, I)), rng.normal(size=(2, B, H)), rng.normal(size=(2, B, H))
    output, (h_n, c_n) = net(cr.tensor(x), (cr.tensor(h), cr.tensor(c)))
    for d, suffix in enumerate(["_l0", "_l0_reverse"]):
        step = -1 if d else 1
        outputs, last_h, last_c = lstm_loop(x[::step], h[d], c[d], *weights_of(net, suffix), see=peephole)
        np.testing.assert_allclose(array(output)[..., d * H : d * H + H], outputs[::step], rtol=1e-9)
        np.testing.assert_allclose(array(h_n)[d], last_h, rtol=1e-9)
        np.testing.assert_allclose(array(c_n)[d], last_c, rtol=1e-9)
    assert repr(net) == f"LSTM(3, 4, bidirectional=True, peephole={peephole})"


@pytest.mark.parametrize("peephole", [True, "previous"])
def test_peepholes_of_a_cell(rng, peephole):
    cell = nn.LSTMCell(I, H, peephole=peephole).double()
    x, h, c = rng.normal(size=(B, I)), rng.normal(size=(B, H)), rng.normal(size=(B, H))
    _, *expected = lstm_loop(x[None], h, c, *weights_of(cell, ""), see=peephole)
    for state, wanted in zip(cell(cr.tensor(x), (cr.tensor(h), cr.tensor(c))), expected):
        np.testing.assert_allclose(array(state), wanted, rtol=1e-9)


def test_peepholes_of_zero_are_none():
    net, plain = nn.LSTM(I, H, 2, peephole=True), nn.LSTM(I, H, 2)
    for parameter in (net.weight_ch_l0, net.weight_ch_l1):
        nn.init.zeros_(parameter)
    plain.load_state_dict({n: v for n, v in net.state_dict().items() if "weight_ch" not in n})
    x = cr.randn(T, B, I)
    np.testing.assert_allclose(array(net(x)[0]), array(plain(x)[0]), rtol=1e-5, atol=1e-7)


def test_reset_before_the_product(rng):
    net, cell = nn.GRU(I, H, reset_after=False).double(), nn.GRUCell(I, H, reset_after=False).double()
    x, h = rng.normal(size=(T, B, I)), rng.normal(size=(B, H))
    output, last = net(cr.tensor(x), cr.tensor(h[None]))
    outputs, expected = gru_loop(x, h, *weights_of(net, "_l0"))
    np.testing.assert_allclose(array(output), outputs, rtol=1e-9)
    np.testing.assert_allclose(array(last)[0], expected, rtol=1e-9)
    _, expected = gru_loop(x[:1], h, *weights_of(cell, ""))
    np.testing.assert_allclose(array(cell(cr.tensor(x[0]), cr.tensor(h))), expected, rtol=1e-9)
    assert repr(net) == "GRU(3, 4, reset_after=False)"


def test_the_other_convention_of_z_is_a_change_of_sign(rng):
    """h_t = (1 − z) h_{t−1} + z n: as the GRU docs say, weights come over with the rows of z negated."""
    cell = nn.GRUCell(I, H, reset_after=False).double()
    w_ih, w_hh, b_ih, b_hh = weights_of(cell, "")
    x, h = rng.normal(size=(B, I)), rng.normal(size=(B, H))
    r, z = (sigma(x @ w_ih[k].T + b_ih[k] + h @ w_hh[k].T + b_hh[k]) for k in (slice(H), slice(H, 2 * H)))
    n = np.tanh(x @ w_ih[2 * H :].T + b_ih[2 * H :] + (r * h) @ w_hh[2 * H :].T + b_hh[2 * H :])
    for parameter in cell.parameters():
        parameter.requires_grad_(False)[H : 2 * H] *= -1
    np.testing.assert_allclose(array(cell(cr.tensor(x), cr.tensor(h))), (1 - z) * h + z * n, rtol=1e-9)


# ---- derivatives -----------------------------------------------------------------------------------------------------

OWN = [
    ("RNN", {}),
    ("LSTM", dict(bidirectional=True)),
    ("LSTM", dict(peephole=True)),
    ("LSTM", dict(peephole="previous")),
    ("LSTM", dict(proj_size=1, peephole=True)),
    ("GRU", {}),
    ("GRU", dict(reset_after=False, bidirectional=True)),
]


@pytest.mark.parametrize("name, settings", OWN)
def test_gradients(rng, name, settings):
    """First and second derivatives, of packed sequences, in inputs, first states and parameters."""
    net = getattr(nn, name)(2, 2, **settings).double()
    names = [n for n, _ in net.named_parameters()]
    widths = [net.proj_size or 2, 2][: 1 + (name == "LSTM")]
    states = [cr.randn(1 + net.bidirectional, 2, width, dtype=cr.float64) for width in widths]

    def f(x, *rest):
        net.__dict__.update(zip(names, rest[len(states) :]))
        packed = rnn.pack_padded_sequence(x, [1, 3], enforce_sorted=False)
        return flat(net(packed, rest[0] if len(states) == 1 else rest[:2]))

    cr.check_grads(f, [cr.randn(3, 2, 2, dtype=cr.float64), *states, *[p.detach() for p in net.parameters()]])


def test_a_projection_equals_its_steps(rng):
    """h_t = W_hr (o ⊙ tanh(c_t)), written out, with peepholes, which PyTorch's LSTM lacks."""
    net = nn.LSTM(I, H, proj_size=2, peephole=True).double()
    w_ih, w_hh, b_ih, b_hh, w_ch = weights_of(net, "_l0")
    x, h, c = rng.normal(size=(T, B, I)), rng.normal(size=(B, 2)), rng.normal(size=(B, H))
    output, _ = net(cr.tensor(x), (cr.tensor(h[None]), cr.tensor(c[None])))
    for t in range(T):
        i, f, g, o = np.split(x[t] @ w_ih.T + b_ih + h @ w_hh.T + b_hh, 4, axis=1)
        c = sigma(f + w_ch[1] * c) * c + sigma(i + w_ch[0] * c) * np.tanh(g)
        h = sigma(o + w_ch[2] * c) * np.tanh(c) @ array(net.weight_hr_l0).T
        np.testing.assert_allclose(array(output)[t], h, rtol=1e-9)


@pytest.mark.parametrize("name, settings", [(n, dict(num_layers=2, bidirectional=True) | s) for n, s in OWN])
def test_packed_sequences_equal_each_alone(rng, name, settings):
    net = getattr(nn, name)(I, H, **settings).double()
    sequences = [cr.tensor(rng.normal(size=(n, I)), requires_grad=True) for n in (2, 5, 1, 5)]
    output, state = net(rnn.pack_sequence(sequences, enforce_sorted=False))
    cotangents = [cr.tensor(rng.normal(size=s.shape)) for s in rnn.unpack_sequence(output)]
    sum((y * g).sum() for y, g in zip(rnn.unpack_sequence(output), cotangents)).backward()
    packed = [s.grad for s in [*sequences, *net.parameters()]]
    net.zero_grad()
    for k, (s, y, g) in enumerate(zip(sequences, rnn.unpack_sequence(output), cotangents)):
        s.grad = None
        alone, last = net(s)
        (alone * g).sum().backward()
        close(y, alone)
        for a, b in zip(flat(state), flat(last)):
            close(a[:, k], b)
    for a, b in zip(packed, [s.grad for s in [*sequences, *net.parameters()]]):
        close(a, b)


# ---- states ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_carried_state_goes_on_and_a_detached_one_stops_gradients(name):
    net = getattr(nn, name)(I, H, 2).double()
    x = cr.randn(6, B, I, dtype=cr.float64, requires_grad=True)
    whole, last = net(x)
    first, state = net(x[:4])
    second, end = net(x[4:], state)
    np.testing.assert_allclose(array(cr.cat([first, second])), array(whole), rtol=1e-12)
    for a, b in zip(flat(end), flat(last)):
        close(a, b)
    cut, _ = net(x[4:], rnn.detach_state(state))
    np.testing.assert_array_equal(array(cut), array(second))
    (gradient,) = cr.autograd.grad([cut.sum()], [x])
    assert (gradient[:4] == 0).all() and (gradient[4:] != 0).any()


def test_learnt_first_states_are_trained():
    net, h = nn.GRU(I, H), nn.Parameter(cr.zeros(1, 1, H))
    net(cr.randn(T, B, I), h.expand(1, B, H))[0].sum().backward()
    assert (h.grad != 0).any()
    assert net(cr.randn(T, I), nn.Parameter(cr.zeros(1, H)))[0].shape == (T, H)


# ---- errors ----------------------------------------------------------------------------------------------------------

MISUSE = [
    (lambda: nn.LSTM(0, 4), ValueError, "LSTM: received input_size=0.*at least 1"),
    (lambda: nn.RNNCell(3, 2.5), ValueError, "RNNCell: received hidden_size=2.5.*an integer"),
    (lambda: nn.GRU(3, -4), ValueError, "GRU: received hidden_size=-4"),
    (lambda: nn.RNN(3, 4, 0), ValueError, "RNN: received num_layers=0"),
    (lambda: nn.RNN(3, 4, nonlinearity="sigmoid"), ValueError, "received nonlinearity='sigmoid'.*'tanh', 'relu'"),
    (lambda: nn.RNNCell(3, 4, nonlinearity="sigmoid"), ValueError, "received nonlinearity='sigmoid'.*'tanh', 'relu'"),
    (lambda: nn.GRU(3, 4, 2, dropout=1.5), ValueError, "GRU: received dropout=1.5.*pass 0 <= dropout <= 1"),
    (lambda: nn.GRU(3, 4, 2, dropout=True), ValueError, "GRU: received dropout=True.*pass 0 <= dropout <= 1"),
    (lambda: nn.GRU(3, 4, 2, 0.5), ValueError, "GRU: received bias=0.5.*True, False"),
    (lambda: nn.LSTM(3, 4, batch_first="yes"), ValueError, "LSTM: received batch_first='yes'"),
    (lambda: nn.LSTM(3, 4, bidirectional=2), ValueError, "LSTM: received bidirectional=2"),
    (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "received proj_size=4 for hidden_size=4.*pass proj_size < 4"),
    (lambda: nn.LSTM(3, 4, proj_size=-1), ValueError, "received proj_size=-1.*at least 0"),
    (lambda: nn.LSTM(3, 4, peephole="next"), ValueError, "received peephole='next'.*'current', 'previous'"),
    (lambda: nn.GRU(3, 4, reset_after="no"), ValueError, "GRU: received reset_after='no'.*True, False"),
    (lambda: nn.GRUCell(3, 4, reset_after=None), ValueError, "GRUCell: received reset_after=None.*True, False"),
    (
        lambda: nn.GRU(3, 4)([cr.ones(3)]),
        TypeError,
        "GRU: received a list as its input.*pass a tensor: .*pack_sequence",
    ),
    (lambda: nn.LSTM(3, 4)(([[1.0]],)), TypeError, "LSTM: received a tuple as its input, which has no shape"),
    (lambda: nn.RNNCell(3, 4)([1.0, 2.0, 3.0]), TypeError, r"RNNCell: received a list as its input.*cr\.tensor\(…\)"),
    (lambda: nn.GRU(3, 4)(cr.ones(3)), ValueError, r"GRU: received an input of shape \(3,\).*\(T, B, I\)"),
    (lambda: nn.GRU(3, 4)(cr.ones(1, 2, 3, 3)), ValueError, "GRU: received an input of shape.*4 axes"),
    (lambda: nn.GRU(3, 4)(cr.ones(5, 2, 7)), ValueError, r"steps have shape \(7,\).*input_size=3"),
    (lambda: nn.GRU(3, 4)(cr.ones(0, 2, 3)), ValueError, "GRU: received an empty sequence.*one step and one sequence"),
    (lambda: nn.GRU(3, 4)(cr.ones(5, 0, 3)), ValueError, "GRU: received an empty sequence"),
    (lambda: nn.GRU(3, 4)(cr.ones(0, 3)), ValueError, "GRU: received an empty sequence"),
    (lambda: nn.GRU(3, 4)(rnn.pack_sequence([cr.ones(5)])), ValueError, r"steps have shape \(\).*input_size=3"),
    (
        lambda: nn.GRU(3, 4)(cr.ones(5, 2, 3).double()),
        TypeError,
        "received input of float64 with weights of float32.*to",
    ),
    (lambda: nn.GRU(3, 4)(cr.ones(5, 2, 3).long()), TypeError, r"received input of int64.*\.to\(cr\.float32\)"),
    (lambda: nn.GRUCell(3, 4)(cr.ones(2, 3).double()), TypeError, "GRUCell: received input of float64 with"),
    (lambda: nn.GRUCell(3, 4)(cr.ones(2, 2, 3)), ValueError, r"GRUCell: received.*\(B, I\) or \(I,\)"),
    (lambda: nn.GRUCell(3, 4)(cr.ones(0, 3)), ValueError, r"GRUCell: received.*\(0, 3\) without a row"),
    (lambda: nn.LayerNormGRUCell(3, 4)(cr.ones(0, 3)), ValueError, "LayerNormGRUCell: received.*pass one row or more"),
    (lambda: nn.GRUCell(3, 4)(cr.ones(2, 3), 7), ValueError, r"GRUCell: received \(int\) as its state"),
    (lambda: nn.GRUCell(3, 4)(cr.ones(2, 4)), ValueError, "GRUCell: received.*input_size=3"),
    (lambda: nn.GRUCell(3, 4)(cr.ones(2, 3), cr.ones(3, 4)), ValueError, r"h_0 of shape \(3, 4\).*ask for \(2, 4\)"),
    (
        lambda: nn.LSTM(3, 4)(cr.ones(5, 2, 3), cr.ones(1, 2, 4)),
        ValueError,
        r"LSTM: received one tensor as its state, which is a pair of tensors; pass hx=\(h_0, c_0\)",
    ),
    (
        lambda: nn.LSTM(3, 4)(cr.ones(5, 2, 3), (cr.ones(1, 2, 4), None)),
        ValueError,
        r"LSTM: received \(Tensor, NoneType\) as its state",
    ),
    (
        lambda: nn.GRU(3, 4)(cr.ones(5, 2, 3), (cr.ones(1, 2, 4), cr.ones(1, 2, 4))),
        ValueError,
        r"GRU: received \(Tensor, Tensor\) as its state, which is one tensor; pass hx=h_0",
    ),
    (
        lambda: nn.LSTM(3, 4, 2)(cr.ones(5, 2, 3), (cr.ones(2, 2, 4), cr.ones(1, 2, 4))),
        ValueError,
        r"LSTM: received c_0 of shape \(1, 2, 4\).*ask for \(2, 2, 4\)",
    ),
    (
        lambda: nn.GRU(3, 4)(cr.ones(5, 3), cr.ones(1, 1, 4)),
        ValueError,
        r"GRU: received h_0 of shape \(1, 1, 4\).*ask for \(1, 4\)",
    ),
    (
        lambda: nn.GRU(3, 4)(cr.ones(5, 2, 3), cr.ones(1, 2, 4).double()),
        TypeError,
        "GRU: received h_0 of float64 with weights of float32",
    ),
]


@pytest.mark.parametrize("call, error, text", MISUSE)
def test_misuse_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()
