"""The LSTM over grids against a plain loop over the cells."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

f64 = cr.float64
CORNERS = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
GRIDS = [(1, 1), (1, 4), (3, 1), (2, 2), (3, 4)]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def one_direction(x, weight_ih, weight_hh, bias, down, right):
    """h of every cell (N, H, R, C), one cell after the other."""
    batch, _, rows, columns = x.shape
    size = len(weight_hh) // 5
    h, c = {}, {}
    for i in range(rows)[::down]:
        for j in range(columns)[::right]:
            zero = np.zeros((batch, size))
            above, left = (i - down, j), (i, j - right)
            fed = np.concatenate([h.get(above, zero), h.get(left, zero)], 1)
            told = x[:, :, i, j] @ weight_ih.T + fed @ weight_hh.T + bias
            i_, o, u, f1, f2 = np.split(told, 5, 1)
            c[i, j] = sigmoid(i_) * np.tanh(u)
            c[i, j] = c[i, j] + sigmoid(f1) * c.get(above, zero) + sigmoid(f2) * c.get(left, zero)
            h[i, j] = sigmoid(o) * np.tanh(c[i, j])
    return np.array([[h[i, j] for j in range(columns)] for i in range(rows)]).transpose(2, 3, 0, 1)


def expected(layer, x):
    weight_ih, weight_hh = layer.weight_ih.detach().numpy(), layer.weight_hh.detach().numpy()
    bias = np.zeros(weight_ih.shape[:2]) if layer.bias is None else layer.bias.detach().numpy()
    corners = CORNERS[: layer.directions]
    return np.concatenate(
        [one_direction(x, *weights, *corner) for *weights, corner in zip(weight_ih, weight_hh, bias, corners)], 1
    )


@pytest.mark.parametrize("directions", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_grid_is_the_loop_over_its_cells(directions, bias, grid, rng):
    layer, x = nn.LSTM2d(2, 3, bias, directions, dtype=f64), rng.normal(size=(2, 2, *grid))
    got = layer(cr.tensor(x)).detach().numpy()
    np.testing.assert_allclose(got, expected(layer, x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer(cr.tensor(x[1])).detach().numpy(), got[1], rtol=1e-12, atol=1e-12)


def test_a_batch_of_no_grids_gives_none():
    assert nn.LSTM2d(2, 3)(cr.zeros(0, 2, 4, 5)).shape == (0, 3, 4, 5)


def test_a_row_is_the_lstm_over_it(rng):
    """With one row, f₁ and h¹ play no part: what is left is `nn.LSTM` (whose gates are i, f, g, o)."""
    grid, line = nn.LSTM2d(2, 3, dtype=f64), nn.LSTM(2, 3, batch_first=True, dtype=f64)
    i, o, u, _, f = np.arange(15).reshape(5, 3)
    order = np.concatenate([i, f, u, o])
    with cr.no_grad():
        line.weight_ih_l0[...] = grid.weight_ih[0][order]
        line.weight_hh_l0[...] = grid.weight_hh[0][order][:, 3:]
        line.bias_ih_l0[...] = grid.bias[0][order]
        line.bias_hh_l0[...] = 0.0
    x = cr.tensor(rng.normal(size=(4, 7, 2)))
    ours = grid(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
    np.testing.assert_allclose(ours.detach().numpy(), line(x)[0].detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("directions", [1, 4])
def test_every_cell_sees_what_lies_before_it(directions, rng):
    layer, x = nn.LSTM2d(1, 2, directions=directions, dtype=f64), cr.randn(1, 3, 4, dtype=f64, requires_grad=True)
    layer(x)[:, 1, 2].sum().backward()
    seen = x.grad.numpy()[0] != 0
    before = np.zeros((3, 4), bool)
    before[:2, :3] = True
    assert np.array_equal(seen, before if directions == 1 else np.ones((3, 4), bool))


@pytest.mark.parametrize("directions", [1, 4])
def test_first_and_second_derivatives_agree_with_differences(directions, rng):
    layer = nn.LSTM2d(2, 2, directions=directions, dtype=f64)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def output(x, *values):
        layer.__dict__.update(zip(names, values, strict=True))  # in place of the parameters, so that they are varied
        return layer(x)

    cr.check_grads(output, [cr.tensor(rng.normal(size=(2, 2, 3, 2))), *(p.detach() for p in parameters)])


def test_names_shapes_and_first_values():
    layer = nn.LSTM2d(3, 16, directions=4)
    shapes = {"weight_ih": (4, 80, 3), "weight_hh": (4, 80, 32), "bias": (4, 80)}
    assert {name: p.shape for name, p in layer.named_parameters()} == shapes
    assert all(0.2 < abs(p.detach().numpy()).max() <= 0.25 for p in layer.parameters())
    assert repr(layer) == "LSTM2d(3, 16, bias=True, directions=4)"
    assert "bias" not in dict(nn.LSTM2d(3, 2, bias=False).named_parameters())


def test_a_grid_learns_the_parity_of_what_lies_before_a_cell(rng):
    """In each cell, whether an odd number of ones lies above and to the left of it, on grids of 3 × 3."""
    bits = rng.integers(0, 2, (200, 3, 3))
    odd = cr.tensor(np.cumsum(np.cumsum(bits, 1), 2) % 2)
    layer, head = nn.LSTM2d(1, 12), nn.Conv2d(12, 2, 1)
    optimizer = optim.Adam([*layer.parameters(), *head.parameters()], lr=0.02)
    x = cr.tensor(bits[:, None] - 0.5).float()
    for _ in range(250):
        optimizer.zero_grad()
        cr.cross_entropy(head(layer(x)), odd).backward()
        optimizer.step()
    assert (head(layer(x)).argmax(1) == odd).float().mean().item() > 0.95


@pytest.mark.parametrize(
    "act, error, message",
    [
        (lambda: nn.LSTM2d(0, 1), ValueError, r"LSTM2d: received input_size=0"),
        (lambda: nn.LSTM2d(1, 2.5), ValueError, r"LSTM2d: received hidden_size=2.5"),
        (lambda: nn.LSTM2d(1, 1, directions=2), ValueError, r"LSTM2d: received directions=2.*pass one of 1, 4"),
        (lambda: nn.LSTM2d(3, 2)(cr.zeros(1, 2, 4, 4)), ValueError, r"LSTM2d: received.*\(1, 2, 4, 4\).*input_size=3"),
        (lambda: nn.LSTM2d(3, 2)(cr.zeros(4, 4)), ValueError, r"with 2 axes, but needs \(N, I, R, C\) or \(I, R, C\)"),
        (
            lambda: nn.LSTM2d(3, 2)(cr.zeros(1, 3, 0, 4)),
            ValueError,
            r"\(1, 3, 0, 4\), whose grid has no cells; pass at",
        ),
        (lambda: nn.LSTM2d(3, 2)(cr.zeros(3, 4, 4, dtype=f64)), TypeError, r"input of float64 for weights of float32"),
    ],
)
def test_what_is_refused(act, error, message):
    with pytest.raises(error, match=message):
        act()
