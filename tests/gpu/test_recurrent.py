"""Recurrent cells on the GPU against the CPU's in float64."""

import numpy as np
import pytest
from hostsim import on_host

import chainrule as cr
from chainrule import nn, optim
from chainrule.kernels import cpu
from chainrule.kernels.cell import CELLS

#: (sequences at each step, input, units): multiples of the units of a thread and others, one and many blocks
CASES = {
    "one of everything": ((1,), 1, 1),
    "one step": ((5,), 7, 8),
    "equal lengths": ((3,) * 4, 5, 12),
    "falling sizes": ((7, 7, 4, 4, 1), 3, 9),
    "many rows": ((33, 31, 2), 2, 33),
    "more than a block": ((9, 3), 1, 257),
    "no input": ((3, 2), 0, 4),
    "no units": ((3, 2), 2, 0),
}
TOLERANCE = {"float64": 1e-12, "float32": 2e-5, "float16": 2e-2}
NAMES = "out h local dh0 dx dlocal dw_ih dw_hh db_ih db_hh dpeephole".split()


def drawn(kind, sizes, inputs, units, rng):
    """(h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole) and the gradients of (out, h, c), in float64."""
    gates, batch = CELLS[kind].gates, sizes[0]
    shapes = [(batch, units), (sum(sizes), inputs), (batch, units), (gates * units, inputs), (gates * units, units)]
    shapes += [(gates * units,), (gates * units,), (3, units), (sum(sizes), units), (batch, units), (batch, units)]
    arrays = [(rng.standard_normal(shape) / 2).astype("float16").astype("float64") for shape in shapes]
    arrays[4] /= 4 * 2 ** int(np.log2(max(units, 1)) / 2)
    if not CELLS[kind].peepholes:
        arrays[7] = None
    if not kind.startswith("lstm"):
        arrays[10] = None
    return arrays[:8], arrays[8:]


def both(k, kind, arrays, seeds, sizes, reverse, keep=True):
    """Results and gradients of a namespace, by name."""
    h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole = arrays
    local = c0 if kind.startswith("lstm") else h0
    how = {"kind": kind, "batch_sizes": sizes, "reverse": reverse}
    *states, record = k.recurrent_sequence(h0, x, local, w_ih, w_hh, b_ih, b_hh, peephole, **how, keep=keep)
    if not keep:
        return dict(zip(NAMES, states))
    slopes = k.recurrent_sequence_backward(*seeds, states[0], record, h0, x, w_ih, w_hh, peephole, **how)
    found = dict(zip(NAMES, (*states, *slopes), strict=True))
    if kind.startswith("rnn"):  # they remember nothing but h
        del found["local"], found["dlocal"]
    return found


def compare(got, expected, dtype):
    assert got.keys() == expected.keys()
    for name, want in expected.items():
        if want is None:
            assert got[name] is None
            continue
        assert (got[name].dtype, got[name].shape) == (dtype, want.shape), name
        scale = 1 + np.abs(want).max(initial=0)
        np.testing.assert_allclose(
            got[name].get().astype("f8") / scale, want / scale, rtol=0, atol=TOLERANCE[dtype], err_msg=name
        )


def on(cupy, arrays, dtype):
    return [None if a is None else cupy.asarray(a.astype(dtype)) for a in arrays]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_against_the_cpu(cuda, cupy, rng, kind, case, reverse):
    sizes, inputs, units = CASES[case]
    arrays, seeds = drawn(kind, sizes, inputs, units, rng)
    expected = both(cpu, kind, arrays, seeds, sizes, reverse)
    for dtype in TOLERANCE if kind != "rnn_relu" else ("float64", "float32"):  # rounding carries it past its kink
        got = both(cuda, kind, on(cupy, arrays, dtype), on(cupy, seeds, dtype), sizes, reverse)
        compare(got, expected, dtype)
        states = both(cuda, kind, on(cupy, arrays, dtype), None, sizes, reverse, keep=False)
        for name in ("out", "h"):
            np.testing.assert_array_equal(states[name].get(), got[name].get())


@pytest.mark.parametrize("kind", CELLS)
def test_schedule_orders(cuda, cupy, rng, order, kind):
    sizes = (5, 5, 2)
    arrays, seeds = drawn(kind, sizes, 3, 40, rng)
    expected = both(cpu, kind, arrays, seeds, sizes, False)
    compare(
        both(cuda, kind, on(cupy, arrays, "float32"), on(cupy, seeds, "float32"), sizes, False), expected, "float32"
    )


@pytest.mark.parametrize("kind", CELLS)
def test_views_at_odd_places(cuda, cupy, rng, kind):
    """Parameters as pieces of one array, transposed weights, gradients that repeat one number."""
    sizes, units = (3, 3, 1), 8
    arrays, seeds = drawn(kind, sizes, 4, units, rng)
    seeds[0] = np.broadcast_to(np.float64(0.5), seeds[0].shape)
    expected = both(cpu, kind, arrays, seeds, sizes, False)
    held = [None if a is None else np.concatenate([[np.nan], a.ravel()]).astype("f4") for a in arrays]
    given = [None if a is None else cupy.asarray(h)[1:].reshape(a.shape) for a, h in zip(arrays, held)]
    given[3:5] = [cupy.asarray(a.T.astype("f4")).T for a in arrays[3:5]]
    slopes = on(cupy, seeds, "f4")
    slopes[0] = cupy.broadcast_to(cupy.asarray(np.float32(0.5)), seeds[0].shape)
    compare(both(cuda, kind, given, slopes, sizes, False), expected, "float32")


@pytest.mark.parametrize("kind", CELLS)
def test_absent_biases(cuda, cupy, rng, kind):
    sizes = (3, 2)
    arrays, seeds = drawn(kind, sizes, 4, 8, rng)
    zeros = [*arrays[:5], np.zeros_like(arrays[5]), np.zeros_like(arrays[6]), arrays[7]]
    expected = both(cpu, kind, zeros, seeds, sizes, False)
    arrays[5:7] = None, None
    compare(
        both(cuda, kind, on(cupy, arrays, "float32"), on(cupy, seeds, "float32"), sizes, False), expected, "float32"
    )


@pytest.mark.parametrize("kind", CELLS)
def test_saturated_gates(cuda, cupy, rng, kind):
    """Gates of ±1e4 are 0 or 1, not NaN; NaN stays NaN."""
    sizes = (2, 2)
    arrays, seeds = drawn(kind, sizes, 2, 4, rng)
    arrays[1] = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [np.nan, 0]])
    with np.errstate(all="ignore"):
        expected = both(cpu, kind, arrays, seeds, sizes, False)
    got = both(cuda, kind, on(cupy, arrays, "float32"), on(cupy, seeds, "float32"), sizes, False)
    for name in ("out", "h", "dx"):
        np.testing.assert_array_equal(np.isnan(got[name].get()), np.isnan(expected[name]), err_msg=name)
    np.testing.assert_allclose(got["out"].get(), expected["out"], rtol=1e-5, atol=1e-6)


def test_what_is_carried_keeps_its_digits_in_half(cuda, cupy):
    """c grows by 0.1 a step; added up in float16 it would stop where a tenth is less than half a place."""
    steps, units = 3000, 1
    one = lambda *shape: cupy.zeros(shape, "f2")
    bias = cupy.asarray(np.array([20, 20, 0.1, 20], "f2"))
    how = {"kind": "lstm", "batch_sizes": (1,) * steps, "reverse": False, "keep": False}
    zeros = one(1, units), one(steps, 1), one(1, units), one(4, 1), one(4, 1)
    _, _, c, _ = cuda.recurrent_sequence(*zeros, bias, None, None, **how)
    np.testing.assert_allclose(c.get(), steps * np.tanh(np.float16(0.1)), rtol=2e-3)


@pytest.mark.skipif(not on_host(), reason="the lint is the stand-in's")
@pytest.mark.parametrize("kind", CELLS)
def test_may_be_captured(cuda, cupy, rng, kind):
    from hostsim import module

    sizes = (3, 3, 1)
    arrays, seeds = drawn(kind, sizes, 4, 8, rng)
    given, slopes = on(cupy, arrays, "float32"), on(cupy, seeds, "float32")
    with module.capturing():
        both(cuda, kind, given, slopes, sizes, False)


@pytest.mark.parametrize("wrong, right", [("(first + b) * values", "first * values + b"), ("k % groups", "k")])
def test_a_wrong_index_is_caught(cuda, cupy, rng, monkeypatch, wrong, right):
    from chainrule.kernels.cuda import runtime

    sizes = (3, 3)
    arrays, seeds = drawn("lstm", sizes, 4, 8, rng)
    expected = both(cpu, "lstm", arrays, seeds, sizes, False)
    text = runtime.source("recurrent")
    assert wrong in text
    monkeypatch.setattr(runtime, "source", lambda file: text.replace(wrong, right) if file == "recurrent" else 1 / 0)
    monkeypatch.setattr(runtime, "_kernel", runtime._kernel.__wrapped__)
    monkeypatch.setattr(runtime, "_module", runtime._module.__wrapped__)
    with pytest.raises((AssertionError, RuntimeError)):
        compare(
            both(cuda, "lstm", on(cupy, arrays, "float32"), on(cupy, seeds, "float32"), sizes, False),
            expected,
            "float32",
        )


@pytest.mark.parametrize("kind", ["lstm_current", "gru", "rnn_tanh"])
def test_bfloat16(cuda, cupy, rng, kind):
    """8 bits of each number: as near to the CPU's as steps of 1/256 allow."""
    dtype = pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes").bfloat16
    sizes = (4, 4, 3)
    arrays, seeds = drawn(kind, sizes, 5, 8, rng)
    expected = both(cpu, kind, arrays, seeds, sizes, False)
    got = both(cuda, kind, on(cupy, arrays, dtype), on(cupy, seeds, dtype), sizes, False)
    for name, want in expected.items():
        if want is not None:
            assert got[name].dtype == dtype, name
            scale = 1 + np.abs(want).max()
            np.testing.assert_allclose(got[name].get().astype("f8") / scale, want / scale, atol=0.04, err_msg=name)


def test_floors(cuda, cupy):
    """An LSTM's unit moves 10 e + 2 a bytes forward, 11 e + 2 a backward; without the record 5 e less."""
    from chainrule.kernels.registry import implementations

    rows, size = 6, 4
    for dtype, e, a in (("f4", 4, 4), ("f2", 2, 4), ("f8", 8, 8)):
        record, x, grads = (cupy.empty((rows, n, size), dtype) for n in (5, 1, 4))
        x = x.reshape(rows, size)
        forward, backward = (implementations(f"lstm_cell{way}")[0].floor for way in ("", "_backward"))
        assert forward(record, None, None, None, None, x, x, 0, rows, True)[0] == rows * size * (10 * e + 2 * a)
        assert forward(record, None, None, None, None, x, x, 0, rows, False)[0] == rows * size * (5 * e + 2 * a)
        assert backward(x, x, x, record, None, grads, 0, rows)[0] == rows * size * (11 * e + 2 * a)


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "RNN"])
def test_captured_training_replays_as_eager(cuda, rng, layer):
    data = [cr.tensor(rng.standard_normal((5, 3, 4)).astype("f4"), device="cuda") for _ in range(5)]
    losses = []
    for wrap in (lambda step: step, cr.capture):
        cr.manual_seed(0)
        model = getattr(nn, layer)(4, 6, num_layers=2, bidirectional=True).to("cuda")
        optimizer = optim.SGD(model.parameters(), lr=0.5)

        def train(x, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = (model(x)[0] ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        step = wrap(train)
        losses.append([step(x).item() for x in data])
    assert step.reason == ""
    assert losses[0] == losses[1]
    assert losses[0][-1] < losses[0][0]
