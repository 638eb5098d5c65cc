"""The picture of vanishing gradients: its numbers against Jacobians written out, its file, its errors."""

import re
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.nn.examples import vanishing

f64 = cr.float64


def test_the_norms_of_an_rnn_are_those_of_the_products_of_its_jacobians(rng):
    """∂s_t/∂s_k = Π diag(1 − s_j²) W."""
    cell, x = nn.RNNCell(3, 4, dtype=f64), rng.standard_normal((6, 3))
    U, W, b, c = (p.detach().numpy() for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh))
    s, steps = np.zeros(4), []
    for x_t in x:
        s = np.tanh(U @ x_t + W @ s + b + c)
        steps.append(np.diag(1 - s**2) @ W)
    product, expected = np.eye(4), [1.0]
    for step in reversed(steps):
        product = product @ step
        expected.append(np.linalg.svd(product, compute_uv=False)[0])
    np.testing.assert_allclose(vanishing.jacobian_norms(cell, cr.tensor(x)), expected, rtol=1e-12)


def test_the_state_of_an_lstm_is_both_its_tensors(rng):
    cell, x = nn.LSTMCell(2, 3, dtype=f64), cr.tensor(rng.standard_normal((1, 2)))
    step = lambda s: cr.cat(cell(x, cr.chunk(s[None], 2, 1)), 1)[0]
    expected = np.linalg.norm(cr.jacobian(step)(cr.zeros(6, dtype=f64)).detach().numpy(), 2)
    np.testing.assert_allclose(vanishing.jacobian_norms(cell, x), [1.0, expected], rtol=1e-12)


def test_the_picture_shows_what_the_lectures_say():
    norms = vanishing.measure(steps=40, size=32, seeds=3)
    last = {name: np.median(rows[:, -1]) for name, rows in norms.items()}
    assert all(rows.shape == (3, 41) and (rows[:, 0] == 1).all() for rows in norms.values())
    assert last["RNN"] < 1e-3 * last["LSTM"] and last["LSTM"] < 1e-3 * last["open LSTM"]
    assert last["patient LSTM"] > 0.1 and last["steep RNN"] > 30


def test_first_values_of_the_lstms():
    """σ(b_f) is how much of a cell a step keeps: 1 − 1/T' of it, where T' is drawn from 2 to T."""
    plain, opened, patient = (make(200, 100) for make in (vanishing.lstm, vanishing.open_lstm, vanishing.patient_lstm))
    part = slice(200, 400)
    assert abs(opened.bias_ih[part].mean().item() - plain.bias_ih[part].mean().item() - 1) < 0.02
    b = patient.bias_ih.detach().numpy()
    np.testing.assert_allclose(b[:200], -b[200:400])
    assert (patient.bias_hh[:400] == 0).all() and (patient.bias_hh[400:] != 0).all()
    assert 0 < b[part].min() < 1 and np.log(90) < b[part].max() < np.log(99)


@pytest.mark.parametrize(("ending", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG\r\n"), ("pdf", b"%PDF")])
def test_files(ending, start, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    path = vanishing.plot(tmp_path / "new" / f"a.{ending}", steps=5, size=2, seeds=2)
    assert path == tmp_path / "new" / f"a.{ending}" and path.read_bytes().startswith(start)
    said = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in said] == [name for name, *_ in vanishing.CURVES]
    assert re.fullmatch(r"RNN           after 5 steps \de-0\d", said[-1])
    if ending == "svg":
        vanishing.plot(tmp_path / "b.svg", steps=5, size=2, seeds=2, verbose=False)
        assert path.read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "a.gif"}, r"received out='a\.gif', whose ending is no format that it writes\. End it in \.pdf, "),
        ({"steps": 2}, r"received steps=2, too few for a curve\. Pass steps >= 3"),
        ({"size": 0}, r"received size=0, too few for a curve\. Pass size >= 1"),
        ({"seeds": 0}, r"received seeds=0, too few for a curve\. Pass seeds >= 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(options, message, tmp_path):
    pytest.importorskip("matplotlib", reason="Matplotlib is absent: pip install 'chainrule[examples]'")
    with pytest.raises(ValueError, match=message):
        vanishing.plot(**{"out": tmp_path / "x" / "a.png", **options})
    assert not (tmp_path / "x").exists()


def test_without_matplotlib_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Matplotlib, which is not installed.*pip install 'chainrule\[examples\]'"):
        vanishing.plot(tmp_path / "a.png")
