"""Recurrence over any cell, and the cells that normalise: against the layers, plain loops and differences."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn.utils import rnn

T, B, I, H = 5, 3, 3, 4
PAIRS = [("RNN", {}), ("LSTM", {}), ("LSTM", dict(peephole=True)), ("GRU", {}), ("GRU", dict(reset_after=False))]


def array(x):
    return x.detach().numpy()


def close(a, b):
    np.testing.assert_allclose(array(a), array(b), rtol=1e-9, atol=1e-12)


def cell_of(layer, settings, suffix=""):
    """A cell with the weights of one direction of a layer."""
    cell = getattr(nn, f"{type(layer).__name__}Cell")(I, H, **settings).double()
    cell.load_state_dict({name: getattr(layer, f"{name}_l0{suffix}") for name in cell.state_dict()})
    return cell


def tuples(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("form", ["padded", "batch_first", "packed", "unsorted"])
@pytest.mark.parametrize("name, settings", PAIRS)
def test_a_cell_over_time_equals_the_layer(rng, name, settings, form, started):
    first = form == "batch_first"
    layer = getattr(nn, name)(I, H, bidirectional=True, batch_first=first, **settings).double()
    forward, backward = cell_of(layer, settings), cell_of(layer, settings, "_reverse")
    net = nn.Recurrence(forward, backward_cell=backward, batch_first=first)
    x = cr.tensor(rng.normal(size=(B, T, I) if first else (T, B, I)), requires_grad=True)
    state = own = None
    if started:
        parts = [cr.tensor(rng.normal(size=(2, B, H))) for _ in range(1 + (name == "LSTM"))]
        state = tuple(parts) if name == "LSTM" else parts[0]
        own = tuple(tuple(p[d] for p in parts) if name == "LSTM" else parts[0][d] for d in (0, 1))
    given, lengths = x, {"packed": [5, 3, 2], "unsorted": [2, 5, 3]}.get(form)
    if lengths:
        given = rnn.pack_padded_sequence(x, lengths, enforce_sorted=form == "packed")
    (output, last), (expected, wanted) = net(given, own), layer(given, state)
    if lengths:
        output, expected = output.data, expected.data
    close(output, expected)
    for d, ended in enumerate(last):
        for a, b in zip(tuples(ended), tuples(wanted)):
            close(a, b[d])
    (a,), (b,) = (cr.autograd.grad([(y * y).sum()], [x], retain_graph=True) for y in (output, expected))
    close(a, b)
    reverse, _ = nn.Recurrence(backward, reverse=True, batch_first=first)(given, own and own[1])
    close(reverse.data if lengths else reverse, output[..., H:])


class Count(nn.Module):
    """A cell with a nested state, over images: the sum so far, and how many steps it has seen."""

    def forward(self, x, state=None):
        total, (steps, _) = (0, (0, 0)) if state is None else state
        return total + x, (steps + 1 + x[:, 0, 0, 0] * 0, (x,))


def test_any_shape_and_nested_states():
    sequences = [cr.randn(n, 2, 3, 3) for n in (1, 4, 2)]
    output, (total, (steps, (x,))) = nn.Recurrence(Count())(rnn.pack_sequence(sequences, enforce_sorted=False))
    assert steps.tolist() == [1, 4, 2]
    for k, (s, y) in enumerate(zip(sequences, rnn.unpack_sequence(output))):
        np.testing.assert_allclose(y.numpy(), s.numpy().cumsum(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(total[k].numpy(), y[-1].numpy())
        np.testing.assert_array_equal(x[k].numpy(), s[-1].numpy())
    output, (_, (steps, (x,))) = nn.Recurrence(Count(), reverse=True)(rnn.pack_sequence(sequences[::-1], False))
    assert steps.tolist() == [2, 4, 1]
    np.testing.assert_array_equal(x[1].numpy(), sequences[1][0].numpy())


def test_words_may_be_numbers():
    class Tally(nn.Module):
        def forward(self, word, state=None):
            return cr.nn.functional.one_hot(word, 4) + (0 if state is None else state)

    _, state = nn.Recurrence(Tally())(cr.tensor([[0, 1], [0, 3], [2, 3]]))
    assert state.tolist() == [[2, 0, 1, 0], [0, 1, 0, 2]]


def test_parts_are_registered_and_shown():
    net = nn.Recurrence(nn.RNNCell(I, H), backward_cell=nn.RNNCell(I, H), batch_first=True)
    assert [n.rpartition(".")[0] for n, _ in net.named_parameters()] == ["cell"] * 4 + ["backward_cell"] * 4
    assert (
        repr(nn.Recurrence(nn.RNNCell(I, H), reverse=True)) == "Recurrence(\n  reverse=True\n  (cell): RNNCell(3, 4)\n)"
    )


# ---- cells that normalise --------------------------------------------------------------------------------------------


def sigma(x):
    return 1 / (1 + np.exp(-x))


def normal(norm, x):
    return array(norm.weight) * (x - x.mean()) / np.sqrt(x.var() + norm.eps) + array(norm.bias)


def rnn_step(cell, x, h):
    return [np.tanh(normal(cell.norm, array(cell.weight_ih) @ x + array(cell.weight_hh) @ h))]


def lstm_step(cell, x, h, c):
    sums = normal(cell.norm_ih, array(cell.weight_ih) @ x) + normal(cell.norm_hh, array(cell.weight_hh) @ h)
    i, f, g, o = sums.reshape(4, H)
    c = sigma(f) * c + sigma(i) * np.tanh(g)
    return [sigma(o) * np.tanh(normal(cell.norm_c, c)), c]


def gru_step(cell, x, h):
    w_ih, w_hh = array(cell.weight_ih), array(cell.weight_hh)
    r, z = sigma(normal(cell.norm_ih, w_ih[: 2 * H] @ x) + normal(cell.norm_hh, w_hh[: 2 * H] @ h)).reshape(2, H)
    n = np.tanh(normal(cell.norm_in, w_ih[2 * H :] @ x) + r * normal(cell.norm_hn, w_hh[2 * H :] @ h))
    return [(1 - z) * h + z * n]


STEPS = {"LayerNormRNNCell": rnn_step, "LayerNormLSTMCell": lstm_step, "LayerNormGRUCell": gru_step}


def moved(cell, rng):
    """The cell in float64, its gains and biases away from 1 and 0."""
    for name, parameter in cell.double().named_parameters():
        if "norm" in name:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return cell


@pytest.mark.parametrize("name", STEPS)
def test_normalised_cells_are_the_papers(rng, name):
    cell = moved(getattr(nn, name)(I, H), rng)
    x = rng.normal(size=(T, B, I))
    states = [rng.normal(size=(B, H)) for _ in range(1 + ("LSTM" in name))]
    given = tuple(map(cr.tensor, states)) if len(states) == 2 else cr.tensor(states[0])
    output, last = nn.Recurrence(cell)(cr.tensor(x), given)
    for b in range(B):
        state = [s[b] for s in states]
        for t in range(T):
            state = STEPS[name](cell, x[t, b], *state)
            np.testing.assert_allclose(array(output)[t, b], state[0], rtol=1e-9)
        for ours, wanted in zip(tuples(last), state):
            np.testing.assert_allclose(array(ours)[b], wanted, rtol=1e-9)
    alone = tuples(cell(cr.tensor(x[0, 0])))
    for ours, wanted in zip(alone, STEPS[name](cell, x[0, 0], *[np.zeros(H)] * len(states))):
        np.testing.assert_allclose(array(ours), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", STEPS)
def test_gradients_of_normalised_cells(rng, name):
    cell = moved(getattr(nn, name)(2, 3), rng)
    for parameter in cell.parameters(recurse=False):
        parameter.requires_grad_(False).mul_(2)  # sums further apart than eps
    states = [cr.randn(2, 3, dtype=cr.float64) for _ in range(1 + ("LSTM" in name))]

    def f(x, w_ih, w_hh, *states):
        cell.__dict__.update(weight_ih=w_ih, weight_hh=w_hh)
        return cell(x, states if len(states) == 2 else states[0])

    cr.check_grads(f, [cr.randn(2, 2, dtype=cr.float64), cell.weight_ih.detach(), cell.weight_hh.detach(), *states])


@pytest.mark.parametrize("name", STEPS)
def test_normalised_cells_start_anew(name):
    cell = getattr(nn, name)(I, H, eps=0.1)
    before = {n: p.tolist() for n, p in cell.named_parameters()}
    for parameter in cell.parameters():
        nn.init.constant_(parameter, 3.0)
    cell.reset_parameters()
    for n, p in cell.named_parameters():
        assert (p.abs().max().item() <= 0.5) if n.startswith("weight") else (p.tolist() == before[n])
    assert repr(cell).startswith(f"{name}(\n  3, 4, eps=0.1\n  (norm")


# ---- errors ----------------------------------------------------------------------------------------------------------


class Silent(nn.Module):
    def __init__(self, result):
        super().__init__()
        self.result = result

    def forward(self, x, state=None):
        return self.result


SCAN = nn.Recurrence(nn.RNNCell(I, H))
BOTH = nn.Recurrence(nn.RNNCell(I, H), backward_cell=nn.RNNCell(I, H))
MISUSE = [
    (lambda: nn.Recurrence(nn.RNNCell(3, 4), True, nn.RNNCell(3, 4)), ValueError, "reverse=True and a backward_cell"),
    (lambda: nn.Recurrence(nn.RNNCell(3, 4), reverse="yes"), ValueError, "received reverse='yes'"),
    (lambda: SCAN([cr.ones(2, 3)]), TypeError, r"Recurrence: received a list as its input.*cr\.stack\(…\) of tensors"),
    (lambda: SCAN(cr.ones(3)), ValueError, r"Recurrence: received an input of shape \(3,\).*\(T, B, …\)"),
    (lambda: SCAN(cr.ones(0, 2, 3)), ValueError, r"shape \(0, 2, 3\), but scans one step of one sequence or more"),
    (lambda: SCAN(cr.ones(2, 5, 7)), ValueError, "RNNCell: received an input of shape.*input_size=3"),
    (lambda: SCAN(cr.ones(5, 2, 3), cr.ones(3, 4)), ValueError, r"RNNCell: received h_0 of shape \(3, 4\)"),
    (
        lambda: nn.Recurrence(Silent(None))(cr.ones(5, 2, 3)),
        TypeError,
        "output of type NoneType from Silent for 2 rows",
    ),
    (
        lambda: nn.Recurrence(Silent(()))(cr.ones(5, 2, 3)),
        TypeError,
        "output of type tuple from Silent.*return a tensor",
    ),
    (
        lambda: nn.Recurrence(Silent(cr.ones(1, 4)))(cr.ones(5, 2, 3)),
        TypeError,
        r"output of shape \(1, 4\) from Silent",
    ),
    (
        lambda: nn.Recurrence(Silent((cr.ones(2, 4), 3)))(rnn.pack_sequence([cr.ones(2, 3), cr.ones(1, 3)])),
        TypeError,
        "a state that holds a int, .*make states of tensors",
    ),
    (lambda: BOTH(cr.ones(5, 2, 3), cr.ones(1, 2, 4)), ValueError, r"state of length 1 with.*pass \(forward, backward"),
]


@pytest.mark.parametrize("call, error, text", MISUSE)
def test_misuse_is_explained(call, error, text):
    with pytest.raises(error, match=text):
        call()
