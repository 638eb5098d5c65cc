"""Recurrent cells over whole sequences: the compiled loops and their NumPy twins, against sequences run one by one."""

import os
from functools import partial

import numpy as np
import oracles
import pytest

import chainrule as cr
from chainrule.autograd.ops.recurrent import gru_composed, lstm_composed, rnn_composed
from chainrule.kernels import cpu
from chainrule.kernels.cell import CELLS
from chainrule.kernels.cpu import few_sequences, recurrent
from chainrule.kernels.cpu.jit import Loop, has_numba, inline, variant

#: (the oracle, the definition in differentiable terms) of (h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole)
FORMS = {
    kind: (
        lambda h0, x, c0, *rest, n=nonlinearity, **how: oracles.rnn_sequence(h0, x, *rest[:4], nonlinearity=n, **how),
        lambda h0, x, c0, *rest, n=nonlinearity, **how: rnn_composed(h0, x, *rest[:4], nonlinearity=n, **how),
    )
    for kind, nonlinearity in (("rnn_tanh", "tanh"), ("rnn_relu", "relu"))
}
FORMS["gru"] = (
    lambda h0, x, c0, *rest, **how: oracles.gru_sequence(h0, x, *rest[:4], **how),
    lambda h0, x, c0, *rest, **how: gru_composed(h0, x, *rest[:4], reset_after=True, **how),
)
for kind, previous in (("lstm", False), ("lstm_current", False), ("lstm_previous", True)):
    FORMS[kind] = partial(oracles.lstm_sequence, previous=previous), partial(lstm_composed, previous=previous)

#: (sequences at each step, input, units): what is no multiple of a tile or a vector, one, few and many of everything
CASES = {
    "one of everything": ((1,), 1, 1),
    "one step": ((5,), 7, 9),
    "one sequence": ((1,) * 7, 5, 19),
    "one step of one": ((1,), 5, 19),
    "few sequences": ((4, 4, 3, 3, 1), 6, 100),
    "one unit": ((2,) * 3, 8, 1),
    "wide input": ((17, 17, 3), 33, 9),
    "many units": ((3, 2), 7, 33),
    "rows that leave a rest": ((33, 20, 20, 1), 1, 17),
    "more columns than are collected": ((300, 257, 2), 5, 9),
    "many steps": ((17,) * 30 + (2,) * 10, 9, 8),
    "a hundred": ((100,) * 3 + (64, 1), 2, 24),
    "no input": ((3, 2), 0, 9),
    "no units": ((3, 2), 2, 0),
}
EVERY_LOOP = recurrent._FORWARD, recurrent._BACKWARD, few_sequences._FORWARD, few_sequences._BACKWARD
TOLERANCE = {"float64": 1e-11, "float32": 1e-4, "float16": 1e-2}


def drawn(kind, sizes, inputs, units, rng):
    """(h0, x, c0, w_ih, w_hh, b_ih, b_hh, peephole), rounded to float32 so that every dtype has the same."""
    gates, batch = CELLS[kind].gates, sizes[0]
    shapes = [(batch, units), (sum(sizes), inputs), (batch, units), (gates * units, inputs), (gates * units, units)]
    shapes += [(gates * units,), (gates * units,), (3, units)]
    arrays = [(rng.standard_normal(shape) / 2).astype("float32").astype("float64") for shape in shapes]
    arrays[4] /= np.float32(max(units, 1) ** 0.5 * 2)
    return [*arrays[:7], arrays[7] if CELLS[kind].peepholes else None]


def cast(arrays, dtype):
    return [a if a is None else a.astype(dtype) for a in arrays]


def forward(kind, arrays, sizes, reverse=False, keep=True):
    h0, x, c0, *weights = arrays
    local = c0 if kind.startswith("lstm") else h0
    return cpu.recurrent_sequence(h0, x, local, *weights, kind=kind, batch_sizes=sizes, reverse=reverse, keep=keep)


def backward(kind, arrays, seeds, out, record, sizes, reverse=False):
    h0, x, _, w_ih, w_hh, _, _, peephole = arrays
    how = {"kind": kind, "batch_sizes": sizes, "reverse": reverse}
    return cpu.recurrent_sequence_backward(*seeds, out, record, h0, x, w_ih, w_hh, peephole, **how)


def both(kind, arrays, seeds, sizes, reverse=False):
    """Results and gradients, as one list."""
    out, h, local, record = forward(kind, arrays, sizes, reverse)
    return [out, h, local, *backward(kind, arrays, seeds, out, record, sizes, reverse)]


def seeded(kind, sizes, units, rng):
    """Gradients of every state, of the last ones, and of the last c where there is one."""
    shapes = (sum(sizes), units), (sizes[0], units), (sizes[0], units)
    g, gh, gc = (rng.standard_normal(shape).astype("float32").astype("float64") for shape in shapes)
    return g, gh, gc if kind.startswith("lstm") else None


def expected(kind, arrays, seeds, sizes, reverse):
    """What `both` must give: the oracle's values, the gradients of the definition."""
    oracle, composed = FORMS[kind]
    states = oracle(*arrays, batch_sizes=sizes, reverse=reverse)
    leaves = [a if a is None else cr.tensor(a, requires_grad=True) for a in arrays]
    chosen = [x for x in leaves if x is not None]
    out = composed(*leaves, batch_sizes=sizes, reverse=reverse)
    given = [cr.tensor(g) for g in seeds if g is not None]
    slopes = iter(cr.autograd.grad(list(out), chosen, given, materialize_grads=True))
    dh0, dx, dc0, *others = [None if x is None else next(slopes).numpy() for x in leaves]
    return [*states, dh0, dx, dc0, *others]


def check(kind, got, want, tolerance):
    """Each array beside the expected one, in proportion to its largest number."""
    got = list(got)
    if not kind.startswith("lstm"):  # what a unit remembers is h
        del got[2]
        dlocal = got[4]
        got[4] = want[4]
        got[2] = got[2] + dlocal if kind == "gru" else got[2]
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        assert (a is None) == (b is None), f"result {i}"
        if b is not None:
            assert a.shape == b.shape, f"result {i}"
            scale = 1 + np.abs(b).max(initial=0, where=np.isfinite(b))
            np.testing.assert_allclose(a / scale, b / scale, rtol=0, atol=tolerance, err_msg=f"result {i}")


# ---- values and gradients --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_input_of_all_steps_at_once(path, kind, reverse, rng, monkeypatch):
    sizes, inputs, units = (9, 9, 8, 2), 5, 19
    arrays, results = cast(drawn(kind, sizes, inputs, units, rng), "float64"), []
    for far in (1 << 40, 0):
        monkeypatch.setattr(recurrent, "_FAR", far)
        results.append(forward(kind, arrays, sizes, reverse))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("case", CASES)
def test_against_sequences_run_alone(kind, case, rng, path):
    sizes, inputs, units = CASES[case]
    arrays, seeds = drawn(kind, sizes, inputs, units, rng), seeded(kind, sizes, units, rng)
    for reverse in (False, True):
        want = expected(kind, arrays, seeds, sizes, reverse)
        for dtype in ("float64", "float32"):
            got = both(kind, cast(arrays, dtype), cast(seeds, dtype), sizes, reverse)
            check(kind, got, want, TOLERANCE[dtype])
            assert all(a is None or a.dtype == dtype for a in got)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("seed", range(6))
def test_few_sequences_as_many_are_computed(kind, seed, monkeypatch):
    """Units side by side, beside sequences side by side, for random shapes."""
    rng = np.random.default_rng(seed)
    sizes = tuple(sorted(rng.integers(1, 5, rng.integers(1, 12)).tolist(), reverse=True))
    inputs, units, reverse = rng.integers(0, 70), rng.integers(0, 300), bool(seed % 2)
    dtype = "f4" if seed < 3 else "f8"
    arrays = cast(drawn(kind, sizes, inputs, units, rng), dtype)
    seeds = cast(seeded(kind, sizes, units, rng), dtype)
    got = both(kind, arrays, seeds, sizes, reverse)
    monkeypatch.setattr(few_sequences, "serves", lambda sizes: False)
    scale = {"f4": 2e-5, "f8": 1e-13}[dtype]
    for i, (a, b) in enumerate(zip(got, both(kind, arrays, seeds, sizes, reverse), strict=True)):
        assert (a is None) == (b is None) and (a is None or a.dtype == b.dtype == arrays[0].dtype)
        if b is not None:
            np.testing.assert_allclose(a, b, rtol=0, atol=scale * (1 + abs(b).max(initial=0)), err_msg=f"result {i}")


@pytest.mark.parametrize("kind", CELLS)
def test_half_precision_is_that_of_single_rounded(kind, rng, path):
    sizes = (5, 5, 2)
    arrays, seeds = drawn(kind, sizes, 7, 9, rng), seeded(kind, sizes, 9, rng)
    arrays, seeds = cast(arrays, "float16"), cast(seeds, "float16")
    got = both(kind, arrays, seeds, sizes)
    assert all(a is None or a.dtype == np.float16 for a in got)
    want = expected(kind, cast(arrays, "float64"), cast(seeds, "float64"), sizes, False)
    check(kind, got, want, TOLERANCE["float16"])


@pytest.mark.parametrize("kind", CELLS)
def test_no_biases_and_no_record(kind, rng, path):
    sizes = (5, 5, 2)
    arrays = drawn(kind, sizes, 7, 9, rng)
    for array in arrays[5:7]:
        array[...] = 0
    zeros = forward(kind, arrays, sizes)
    arrays[5:7] = None, None
    for reverse, keep in ((False, False), (False, True), (True, False)):
        got = forward(kind, arrays, sizes, reverse, keep)
        for a, b in zip(got[:3], zeros if not reverse else forward(kind, arrays, sizes, True), strict=False):
            np.testing.assert_array_equal(a, b)


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "reversed": lambda x: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1],
    "every other": lambda x: np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::2],
    "part of wider rows": lambda x: np.concatenate([x, x, x], 1)[:, x.shape[1] : 2 * x.shape[1]],
    "part of taller columns": lambda x: np.asfortranarray(np.concatenate([x, x, x]))[len(x) : 2 * len(x)],
    "read-only": lambda x: (x := x.copy(), x.setflags(write=False))[0],
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, x.size, 1).reshape(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sizes", [(5, 5, 2), (4,)], ids=["steps", "one step"])
def test_layouts(layout, sizes, rng, path):
    arrays, seeds = drawn("lstm", sizes, 7, 9, rng), seeded("lstm", sizes, 9, rng)
    want = both("lstm", arrays, seeds, sizes)
    lay = lambda arrays: [LAYOUTS[layout](a) if a is not None and a.ndim == 2 else a for a in arrays]
    for given in ((lay(arrays), seeds), (arrays, lay(seeds)), (lay(arrays), lay(seeds))):
        for a, b in zip(both("lstm", *given, sizes), want, strict=True):
            assert a is b is None or np.testing.assert_allclose(a, b, rtol=0, atol=1e-13) is None
    if path == "numba" and has_numba():
        for loops in EVERY_LOOP:
            loop = loops["lstm"]
            assert len(loop.compiled.signatures) <= 2, "compiled for more than float32 and float64"


def test_nothing_given_is_written(rng, path):
    sizes = (4, 3, 3)
    for kind in CELLS:
        arrays, seeds = drawn(kind, sizes, 3, 9, rng), seeded(kind, sizes, 9, rng)
        out, _, _, record = forward(kind, arrays, sizes)
        given = [*arrays, *seeds, out, record]
        before = [a if a is None else a.copy() for a in given]
        for _ in range(2):
            backward(kind, arrays, seeds, out, record, sizes)
            forward(kind, arrays, sizes)
        for a, b in zip(given, before, strict=True):
            assert a is b is None or np.array_equal(a, b)


# ---- numbers that are none -------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # BLAS: infinity times 0, or less infinity
@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_stays_in_its_sequence(kind, bad, rng, path):
    sizes, sick = (11, 10, 10, 4), 3
    arrays, seeds = drawn(kind, sizes, 5, 19, rng), seeded(kind, sizes, 19, rng)
    clean = both(kind, arrays, seeds, sizes)
    rows = [sum(sizes[:t]) + sick for t in range(len(sizes))]
    arrays[1][rows[1], 2] = bad
    got = both(kind, arrays, seeds, sizes)
    states = FORMS[kind][0](*arrays, batch_sizes=sizes, reverse=False)
    for a, b in zip((got[0], got[1]), states, strict=False):
        np.testing.assert_allclose(a, b, atol=1e-12)
    assert np.isfinite(got[0][rows[0]]).all() and (bad == np.inf or np.isnan(got[0][rows[1:]]).all())
    for i in (0, 4):  # out, dx: by row
        healthy = np.setdiff1d(np.arange(sum(sizes)), rows)
        np.testing.assert_array_equal(got[i][healthy], clean[i][healthy])
    for i in (1, 2, 3, 5):  # h, local and their gradients: by sequence
        healthy = np.arange(sizes[0]) != sick
        np.testing.assert_array_equal(got[i][healthy], clean[i][healthy])


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_large_numbers_saturate(kind, size, rng, path):
    sizes = (3, 3)
    arrays = drawn(kind, sizes, 4, 9, rng)
    arrays[1] *= size
    got = forward(kind, cast(arrays, "float32"), sizes)
    for a, b in zip(got[:2], FORMS[kind][0](*arrays, batch_sizes=sizes), strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CELLS)
def test_the_record_is_as_large_as_stated(kind, rng, path):
    sizes, units = (6, 5, 5, 1), 9
    arrays = cast(drawn(kind, sizes, 3, units, rng), "float32")
    record = forward(kind, arrays, sizes)[3]
    assert record.nbytes == (1 if kind.startswith("rnn") else 5) * sum(sizes) * units * 4
    assert forward(kind, arrays, sizes, keep=False)[3].nbytes <= record.nbytes * sizes[0] / sum(sizes)


def fenced(loop):
    """The loop on copies with NaN around them, which must stay, and with NaN in what it packs itself."""
    fence = 64

    def call(*arguments):
        rooms = [np.full(a.size + 2 * fence, -1 if a.dtype.kind == "i" else np.nan, a.dtype) for a in arrays(arguments)]
        inner = [room[fence:-fence].reshape(a.shape) for room, a in zip(rooms, arrays(arguments), strict=True)]
        for own, a in zip(inner, arrays(arguments), strict=True):
            own[...] = a
        inner[-2][...] = np.nan
        given = iter(inner)
        loop(*[next(given) if isinstance(a, np.ndarray) else a for a in arguments])
        for room, own, a in zip(rooms, inner, arrays(arguments), strict=True):
            a[...] = own
            around = np.concatenate([room[:fence], room[-fence:]])
            assert (around == -1).all() if a.dtype.kind == "i" else np.isnan(around).all()

    arrays = lambda arguments: [a for a in arguments if isinstance(a, np.ndarray)]
    return call


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("sizes", [(3, 2, 2), (9,), (300, 2), (0, 0, 0), (0,)], ids=str)
def test_nothing_beyond_the_arrays_is_read_or_written(kind, sizes, rng, monkeypatch, threads, path):
    threads(1)
    for loops in EVERY_LOOP:
        monkeypatch.setitem(loops, kind, fenced(loops[kind]))
    for inputs, units in ((1, 1), (8, 1), (8, 9), (64, 17), (3, 24), (17, 16)):
        arrays, seeds = drawn(kind, sizes, inputs, units, rng), seeded(kind, sizes, units, rng)
        want = expected(kind, arrays, seeds, sizes, True)
        for dtype in ("float64", "float32"):
            check(kind, both(kind, cast(arrays, dtype), cast(seeds, dtype), sizes, True), want, TOLERANCE[dtype])


def test_every_call_has_a_record_of_its_own(rng, path):
    """Two forwards, then their backwards: a buffer kept between calls would hold the second's values."""
    sizes = (4, 3)
    given = [drawn("gru", sizes, 3, 9, rng) for _ in range(2)]
    seeds = seeded("gru", sizes, 9, rng)
    made = [forward("gru", arrays, sizes) for arrays in given]
    for arrays, (out, _, _, record) in zip(given, made, strict=True):
        late, early = backward("gru", arrays, seeds, out, record, sizes), both("gru", arrays, seeds, sizes)[3:]
        assert all(a is b is None or np.array_equal(a, b) for a, b in zip(late, early, strict=True))


def test_long_sums_keep_their_digits(rng, path):
    """Gradients of biases and peepholes over 120,000 rows, in float32."""
    sizes, units = (4000,) * 30, 8
    zeros = lambda *shape: np.zeros(shape, np.float32)
    arrays = [zeros(4000, units), zeros(120_000, 1), np.ones((4000, units), np.float32), zeros(32, 1), zeros(32, units)]
    arrays += [np.repeat(np.float32([3, 3, 0.1, 0.3]), units), zeros(32), np.full((3, units), 0.1, np.float32)]
    seeds = np.full((120_000, units), 0.1, np.float32), zeros(4000, units), zeros(4000, units)
    narrow = both("lstm_current", arrays, seeds, sizes)
    wide = both("lstm_current", cast(arrays, "float64"), cast(seeds, "float64"), sizes)
    for a, b in zip(narrow[8:], wide[8:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


# ---- threads ---------------------------------------------------------------------------------------------------------


def shared_at_any_size(monkeypatch):
    for name in ("_WORTH_SHARING", "_WORTH_WAKING"):
        for module in (recurrent, few_sequences):
            monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(few_sequences, "_GATES_WORTH_SHARING", 1)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("sizes", [(19, 19, 17, 17, 2, 1), (4, 4, 3, 2, 2, 1), (9,)], ids=str)
def test_threads(kind, sizes, rng, threads, monkeypatch, path):
    """One, two and three threads give the same bits, and so do repeated runs."""
    shared_at_any_size(monkeypatch)
    arrays, seeds = drawn(kind, sizes, 20, 83, rng), seeded(kind, sizes, 83, rng)
    arrays, seeds = cast(arrays, "float32"), cast(seeds, "float32")
    bits = set()
    for count in (1, 2, 3):
        threads(count)
        for reverse in (False, True):
            for _ in range(10):
                got = both(kind, arrays, seeds, sizes, reverse)
                bits.add((reverse, *(a if a is None else a.tobytes() for a in got)))
    assert len(bits) == 2, "one result forward, one in reverse"


@pytest.fixture
def unmet(monkeypatch):
    """The RNN's loops without the meeting after each step."""
    if not has_numba():
        pytest.skip("Numba is absent or CHAINRULE_NUMBA=0: there is one thread, and nobody to meet")

    @inline
    def passing(flags, part, parts, step):
        return True

    monkeypatch.setattr(Loop, "use_numba", True)
    for loops in EVERY_LOOP:
        right = loops["rnn_tanh"]
        loop = Loop(variant(right.function, f"{right.__name__}_unmet", meet=passing), right.twin, right.fastmath)
        monkeypatch.setitem(loops, "rnn_tanh", loop)


@pytest.mark.parametrize("batch", [16, 3])
def test_a_missing_barrier_is_caught(unmet, batch, rng, threads, monkeypatch):
    shared_at_any_size(monkeypatch)
    threads(1)
    sizes = (batch,) * 60
    arrays, seeds = drawn("rnn_tanh", sizes, 16, 64, rng), seeded("rnn_tanh", sizes, 64, rng)
    alone = both("rnn_tanh", arrays, seeds, sizes)
    threads(2)
    runs = (both("rnn_tanh", arrays, seeds, sizes) for _ in range(100))
    caught = [i for got in runs for i in (0, 4) if not np.array_equal(got[i], alone[i])]
    assert caught, "threads that never wait gave the right states and gradients a hundred times"


@pytest.mark.parametrize("batch", [9, 3])
def test_threads_give_up_when_one_fails(batch, rng, threads, monkeypatch, path):
    """What a part raises arrives, and nobody waits for that part for ever."""
    shared_at_any_size(monkeypatch)
    threads(2)
    loops = few_sequences._FORWARD if batch == 3 and path == "numba" and has_numba() else recurrent._FORWARD
    right = loops["rnn_tanh"]

    def fails(one, part, *rest):
        if part == 0:
            raise MemoryError("planted")
        right(one, part, *rest)

    monkeypatch.setitem(loops, "rnn_tanh", fails)
    sizes = (batch,) * 5
    with pytest.raises(MemoryError, match="planted"):
        forward("rnn_tanh", drawn("rnn_tanh", sizes, 4, 40, rng), sizes)


# ---- other machines --------------------------------------------------------------------------------------------------


NARROW = """
import numpy as np, test_recurrent as t
kind, dtype = {32: ("lstm_current", "float32"), 16: ("gru", "float64")}[vector.width()]
rng = np.random.default_rng(int(sys.argv[1]))
for case in ("one step", "few sequences", "wide input", "rows that leave a rest", "many steps"):
    sizes, inputs, units = t.CASES[case]
    for reverse in (False, True):
        arrays, seeds = t.drawn(kind, sizes, inputs, units, rng), t.seeded(kind, sizes, units, rng)
        want = t.expected(kind, arrays, seeds, sizes, reverse)
        got = t.both(kind, t.cast(arrays, dtype), t.cast(seeds, dtype), sizes, reverse)
        t.check(kind, got, want, t.TOLERANCE[dtype])
print("right")
"""


def test_machines_with_shorter_vectors(narrow):
    narrow(NARROW, os.path.dirname(__file__), os.path.dirname(oracles.__file__))
