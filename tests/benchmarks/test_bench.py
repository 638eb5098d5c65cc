"""`cr.bench`: proves before it times, refuses what cannot be, and says what it does not know."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

import chainrule as cr
from chainrule import cli
from chainrule.bench import charts, clock, machine, peaks, peer, remote, runner, shapes, sides, suite
from chainrule.kernels.cpu import convolution

FAST = cr.bench.Peaks("float32", 1, {1 << 16: 1e6}, {1 << 16: 1e6}, 1e9, 1e9)  # under which nothing is impossible
TINY = {
    "conv": dict(n=2, c=3, h=9, w=8, o=4, k=3, stride=2, pad=1),
    "lstm": dict(t=3, n=2, i=4, h=5),
    "matmul": dict(m=4, n=3, k=5),
    "softmax": dict(n=4, classes=5),
    "pool": dict(n=2, c=3, h=9, w=8, k=3, stride=2, pad=1),
    "norm": dict(n=3, c=4, h=3, w=2),
    "optim": dict(n=7),
    "engine": dict(length=6, n=3),
    "steps": dict(n=2),
}


class Spent:
    """A clock that stands still but for what `work` spends, call by call these seconds again and again."""

    def __init__(self, *seconds, result=lambda x: 2 * x):
        self.now, self.seconds, self.result = 0.0, itertools.cycle(seconds), result

    def __call__(self):
        return self.now

    def work(self, x):
        self.now += next(self.seconds)
        return self.result(x)


NOISY = (4e-3, 4e-3, 20e-3, 4e-3, 36e-3)


def double(**options):
    """Declare a kernel that doubles 50 numbers."""
    declared = dict(
        axes={"n": [50]}, inputs=lambda draw, n: (draw(n),), reference=lambda x: 2 * x, flops=lambda n: n
    )
    return cr.bench.kernel(**declared | options)


def run(kernels, **options):
    options = dict(threads=1, seconds=0.01, peaks=FAST, progress=False) | options
    return cr.bench.run(kernels if isinstance(kernels, list) else [kernels], **options)


# ---- proof -----------------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_called_once_and_never_timed():
    calls = []

    @double()
    def doubled(x):
        return x + x

    @doubled.implementation("wrong")
    def _(x):
        calls.append(1)
        out = x + x
        out[17] *= 1.01
        return out

    right, wrong = run(doubled).rows
    assert (right.status, wrong.status) == ("timed", "wrong")
    assert right.hot and wrong.hot is wrong.cold is None and len(calls) == 1
    assert "is rounding" in wrong.note
    assert "WRONG: doubled, n=50, by wrong: error" in str(cr.bench.Report(FACTS, FAST, [wrong]))


FACTS = {
    "machine": "a machine", "threads": 1, "pinned to cores": [0], "load before": 0.0, "date": "2026-01-01T00:00",
    "versions": {"python": "3"}, "noise bound": 0.03, "device": "cpu",
}  # fmt: skip


@pytest.mark.parametrize(
    "result, note",
    [
        (lambda x: 2 * x[:-1], r"shapes \[\(49,\)\] instead of \[\(50,\)\]"),
        (lambda x: np.where(x > 0, 2 * x, np.nan), "error inf"),
        (lambda x: (2 * x, x), "instead of"),
    ],
)
def test_shapes_and_nan_are_wrong(result, note):
    (row,) = run(double(name="other")(result)).rows
    assert row.status == "wrong" and re.search(note, row.note)


def test_what_raises_has_failed_and_the_others_go_on():
    @double()
    def broken(x):
        raise KeyError("no such key")

    broken.implementation("whole")(lambda x: 2 * x)
    failed, timed = run(broken).rows
    assert (failed.status, failed.note, timed.status) == ("failed", "KeyError: 'no such key'", "timed")


@pytest.mark.parametrize("size", [10, 100_000])
@pytest.mark.parametrize("where, status", [(None, "timed"), (3, "wrong")])
def test_one_wrong_element_of_a_gradient_is_seen(size, where, status):
    @cr.bench.kernel(
        axes={"n": [size]}, inputs=lambda draw, n: (draw(n),), reference=lambda x: (x**3).sum(), gradients=1
    )
    def cubes(x):
        out = 3 * x**2
        if where is not None:
            out[where] += 3
        return out

    (row,) = run(cubes).rows
    assert row.status == status
    assert status == "timed" or "the gradient of input 0 is off by" in row.note


def test_a_gradient_of_another_shape_is_wrong():
    made = cr.bench.kernel(
        name="sums", axes={"n": [4]}, inputs=lambda draw, n: (draw(n),), reference=lambda x: x.sum(), gradients=1
    )(lambda x: np.ones(3))
    assert "gradients of shapes [(3,)] instead of [(4,)]" in run(made).rows[0].note


# ---- time ------------------------------------------------------------------------------------------------------------


def timed(*seconds, peaks=FAST, **declared):
    """The report of a kernel that takes these seconds."""
    spent = Spent(*seconds)
    made = double(name="doubled", **declared)(spent.work)
    return run(made, peaks=peaks, clock=spent, seconds=0.05)


def test_a_time_under_the_floor_is_refused():
    slow = cr.bench.Peaks("float32", 1, {1 << 16: 1.0}, {1 << 16: 2.0}, 1.0, 1.0)  # 2 GB/s, 1 GFLOP/s
    (row,) = timed(0.9e-3, peaks=slow, bytes=2_000_000).rows  # which takes at least 1 ms
    assert row.status == "impossible" and row.hot is None
    assert "900 us, but this machine cannot move 2e+06 bytes and compute 50 FLOPs in less than 1.00 ms" in row.note
    (row,) = timed(1.1e-3, peaks=slow, bytes=2_000_000).rows
    assert row.status == "timed" and row.roofline == pytest.approx(1 / 1.1)
    assert row.gbytes == pytest.approx(2 / 1.1) and row.gflops == pytest.approx(50e-9 / 1.1e-3)


def test_the_peaks_are_measured_anew_before_a_time_is_refused(monkeypatch):
    measured = []

    def measure(*given):
        measured.append(given)
        return cr.bench.Peaks("float32", 1, {1: 1.0}, {1: 1.0}, 1.0, float(len(measured)))

    monkeypatch.setattr(runner, "measure", measure)
    monkeypatch.setattr(runner, "matrix_rate", lambda kind: 1.0)
    (row,) = timed(1e-3, peaks=None, bytes=3_000).rows  # 1 GB/s: 3 us
    assert row.status == "timed" and len(measured) == 1
    monkeypatch.setattr(runner, "measure", lambda *given: measure(*given).best(slow(len(measured))))
    measured.clear()
    (row,) = timed(1e-3, peaks=None, bytes=3_000_000).rows  # possible at the third peak
    assert row.status == "timed" and len(measured) == 3
    measured.clear()
    (row,) = timed(0.5e-3, peaks=None, bytes=3_000_000).rows
    assert row.status == "impossible" and len(measured) == 4


def slow(speed):
    return cr.bench.Peaks("float32", 1, {1: float(speed)}, {1: 1.0}, 1.0, 1.0)


def test_a_peak_of_a_noisy_minute_refuses_nothing_that_a_quiet_one_allows(monkeypatch):
    """205 GFLOP/s were measured, 265 are reached and measured then, 300 are not."""
    rates = iter([205.0, 265.0, 260.0, 262.0, 264.0])
    peak = lambda rate: cr.bench.Peaks("float32", 1, {1: 1e6}, {1: 1e6}, 1.0, rate)
    monkeypatch.setattr(runner, "measure", lambda *given: peak(next(rates)))
    monkeypatch.setattr(runner, "matrix_rate", lambda kind: 200.0)
    gflops = {100: 200.0, 101: 265.0, 102: 300.0}
    spent = Spent(0.0)

    @double(name="doubled", axes={"n": list(gflops)}, flops=1e9)
    def doubled(x):
        spent.now += 1 / gflops[len(x)]
        return 2 * x

    report_ = run(doubled, peaks=None, clock=spent)
    assert [row.status for row in report_.rows] == ["timed", "timed", "impossible"]
    assert (report_.peaks.matrix, report_.peaks.after) == (265.0, 200.0) and next(rates, None) is None
    assert [row.roofline for row in report_.rows[:2]] == pytest.approx([200 / 265, 1.0])  # by the final peak


def test_fewer_flops_than_the_definition_may_beat_the_roofline_but_not_the_least():
    one = cr.bench.Peaks("float32", 1, {1: 1e6}, {1: 1e6}, 1.0, 1.0)
    (row,) = timed(2e-3, peaks=one, flops=4e6, least=1e6).rows
    assert row.status == "timed" and row.roofline == pytest.approx(2)
    assert timed(0.9e-3, peaks=one, flops=4e6, least=1e6).rows[0].status == "impossible"


def test_a_noisy_time_is_said_to_be_undecided_and_a_quiet_one_is_not():
    noisy, quiet = timed(*NOISY), timed(4e-3)
    assert not noisy.rows[0].hot.settled
    assert "~ undecided: the noise stayed above 3%" in str(noisy)
    assert quiet.rows[0].hot.settled and quiet.rows[0].hot.samples == 7
    assert quiet.rows[0].hot.median == pytest.approx(4e-3)
    assert "undecided" not in str(quiet)


@pytest.mark.parametrize(
    "seconds, verdict", [((4.04e-3,), "same"), ((5e-3,), "slower"), ((2e-3,), "faster"), (NOISY, "undecided")]
)
def test_two_runs_are_compared_row_by_row(seconds, verdict):
    before, after = timed(4e-3), timed(*seconds)
    assert [row["verdict"] for row in cr.bench.compare(before, after)] == [verdict]
    assert f"1 {verdict}" in cr.bench.compared(before, after)


def test_a_row_that_one_report_lacks_is_named():
    before = timed(4e-3)
    (row,) = cr.bench.compare(before, cr.bench.Report(before.facts, FAST, []))
    assert row["verdict"] == "timed before, missing after"


def test_what_makes_runs_differ_is_said():
    one = cr.bench.Report(FACTS, FAST, [cr.bench.Row("k", "k", "s", {}, "a", "float32")])
    slow = cr.bench.Peaks("float32", 1, {1: 1.0}, {1: 1.0}, 1.0, 5e8)
    said = cr.bench.compared(one, cr.bench.Report({**FACTS, "threads": 2}, slow, one.rows))
    assert "other threads: 1 before, 2 after" in said and "ran at 0.50 of its rate before" in said


def test_a_machine_that_was_not_steady_is_said():
    drifted = cr.bench.Peaks("float32", 1, {1: 1.0}, {1: 1.0}, 1.0, 100.0, after=80.0)
    assert "ran at 100 GFLOP/s before and at 80 after" in str(cr.bench.Report(FACTS, drifted, []))
    steady = cr.bench.Peaks("float32", 1, {1: 1.0}, {1: 1.0}, 1.0, 100.0, after=95.0)
    assert "not steady" not in str(cr.bench.Report(FACTS, steady, []))


def test_contestants_take_turns_and_every_other_round_goes_backwards():
    taken = []

    def contestant(name):
        def sample(count):
            taken.append(name)
            return 1e-2 * count

        return sample

    clock.take_turns({"a": contestant("a"), "b": contestant("b")}, seconds=10)
    assert "".join(taken) == "aabb" + "abba" * 3 + "ab"


def test_quick_calls_are_timed_several_at_a_time():
    counts = []

    def sample(count):
        counts.append(count)
        return 1e-5 * count

    times = clock.take_turns({"a": sample})
    assert counts[-1] == 200 and times["a"].median == pytest.approx(1e-5)


def test_what_works_in_place_has_the_floor_of_its_buffers_not_of_its_traffic():
    one = cr.bench.Peaks("float32", 1, {100: 4.0, 1000: 1.0}, {100: 4.0, 1000: 1.0}, 1.0, 1.0)
    (row,) = timed(1e-3, peaks=one, bytes=4_000).rows  # 50 numbers in, 50 out: 400 bytes
    assert row.size == 400 and row.floor == pytest.approx(1e-6)


def test_an_interrupted_run_reports_the_rows_that_it_has():
    def interrupted(x):
        if len(x) == 60:
            raise KeyboardInterrupt
        return 2 * x

    report_ = run(double(name="doubled", axes={"n": [50, 60, 70]})(interrupted))
    assert [row.shape for row in report_.rows] == ["n=50"]
    assert "stopped before the end: 1 of 3 shapes were measured" in str(report_)


def test_cold_calls_walk_through_buffers_of_their_own():
    seen = []
    made = double(name="doubled")(lambda x: seen.append(x.ctypes.data) or 2 * x)
    field = runner.Field(made, {"n": 50}, "float32", "cpu", made.implementations)
    field.sample("doubled", True, 2 * field.sets)
    assert len(set(seen)) == field.sets and len(seen) == 1 + 2 * field.sets
    seen.clear()
    field.sample("doubled", False, 5)
    assert len(set(seen)) == 1


def test_hot_and_cold_calls_take_turns_so_that_a_slower_machine_slows_both():
    slowing = (4e-3 * 1.01**call for call in itertools.count())
    (row,) = timed(*itertools.islice(slowing, 400)).rows
    assert row.cold.samples == row.hot.samples and row.cold.median == pytest.approx(row.hot.median, rel=0.02)


# ---- the machine -----------------------------------------------------------------------------------------------------


def test_peaks_are_measured_and_kept(monkeypatch):
    monkeypatch.setattr(peaks, "_SIZES", (1 << 16, 1 << 18))
    monkeypatch.setattr(peaks, "_TRIES", 1)
    found = cr.bench.measure("float32", 1)
    assert found.threads == 1 and set(found.copy) == {1 << 16, 1 << 18}
    assert all(0.1 < speed < 1e5 for table in (found.copy, found.read) for speed in table.values())
    assert 0.1 < found.fma < 1e5 and 0.1 < found.matrix < 1e5
    assert cr.bench.Peaks.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_numpy_twins_do_the_same_work():
    x, y = np.arange(4.0), np.arange(4.0)
    peaks._update(x, 3), peaks._update_numpy(y, 3)
    assert x.tolist() == y.tolist() == [0, -1, -2, -3]
    assert peaks._sum_numpy(x, 2) == -12
    rows = [np.ones((2, 256)) for _ in range(2)]
    peaks._multiply_add(*rows[0], np.array([0.5, 1.0]), 1), peaks._multiply_add_numpy(*rows[1], np.array([0.5, 1.0]), 1)
    np.testing.assert_allclose(rows[0], 2 - 0.5**8)
    np.testing.assert_allclose(rows[1], rows[0])


def test_the_floor_is_that_of_the_memory_or_of_the_arithmetic():
    found = cr.bench.Peaks("float32", 1, {100: 8.0, 1000: 2.0, 5000: 4.0}, {100: 6.0, 1000: 1.0, 5000: 3.0}, 5.0, 10.0)
    assert [found.bandwidth(size) for size in (1, 100, 999, 1000, 10**6)] == [8.0, 8.0, 8.0, 4.0, 4.0]
    assert found.floor(moved=8, flops=0, size=100) == pytest.approx(1e-9)
    assert found.floor(moved=8, flops=30, size=100) == pytest.approx(3e-9)
    better = cr.bench.Peaks("float32", 1, {100: 1.0, 1000: 9.0, 5000: 1.0}, found.read, 7.0, 8.0)
    assert (found.best(better).copy, found.best(better).fma, found.best(better).matrix) == (
        {100: 8.0, 1000: 9.0, 5000: 4.0}, 7.0, 10.0,
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system cannot hold threads")
def test_threads_are_held_and_let_go():
    before, threads = os.sched_getaffinity(0), cr.get_num_threads()
    with machine.pinned(1) as cores:
        assert os.sched_getaffinity(0) == set(cores) and len(cores) == cr.get_num_threads() == 1
    assert (os.sched_getaffinity(0), cr.get_num_threads()) == (before, threads)


def test_more_threads_than_cores_are_refused():
    with pytest.raises(ValueError, match="100000 threads were asked for, but this process may use .* cores"):
        run([], threads=100_000)


# ---- the kernels of the suite ----------------------------------------------------------------------------------------

WORK = [
    pytest.param(operation, which, side, id=f"{operation.name}, {which}, {side}")
    for operation in suite.OPERATIONS
    for which in operation.passes
    for side in (sides.OURS, *(name for name in sides.PEERS if which == "forward" or name != "numpy"))
]


class Here:
    """A worker in this process."""

    def __init__(self, command, threads):
        *_, name, _, folder = command
        self.peer = peer.Peer(name, threads, folder)

    def ask(self, message):
        return json.loads(json.dumps(self.peer(json.loads(json.dumps(message)))))

    def stop(self):
        pass


@pytest.fixture(scope="module")
def opened():
    """Gives the field of a kernel at a shape, and the side of that name that has taken it up, made once."""
    remotes = {}

    def give(side, made, axes, dtype):
        field = runner.Field(made, axes, dtype, "cpu", made.implementations)
        if side == sides.OURS:
            return field, field
        if side not in remotes:
            with pytest.MonkeyPatch.context() as patch:
                if side in ("torch", "jax", "autograd", "numpy"):
                    patch.setattr(remote, "Worker", Here)
                remotes[side] = remote.Remote(side, cr.get_num_threads())
        remotes[side].open(field)
        return field, remotes[side]

    yield give
    for side in remotes.values():
        side.stop()


def skip_without(side):
    try:
        side == sides.OURS or remote.installed(side)
    except ImportError as error:
        pytest.skip(str(error))
    if side == "tinygrad" and not shutil.which("clang"):
        pytest.skip("tinygrad compiles with clang, which is not installed")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("side", ["chainrule", "torch"])
def test_numbers_of_16_bits_are_proven_too(opened, side, dtype):
    skip_without(side)
    for made in cr.bench.kernels("matmul", "lenet"):
        ((_, axes),) = made.rows()
        error, complaint = opened(side, made, axes, dtype)[1].prove(side)
        assert complaint == "" and error > 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation, which, side", WORK)
def test_every_side_computes_what_the_formula_says(opened, operation, which, side, dtype):
    skip_without(side)
    if side == "tinygrad" and operation.name.startswith("character"):
        pytest.skip("tinygrad compiles 64 steps for minutes")
    made = operation.kernel(which, {"tiny": TINY[operation.group]})
    field, asked = opened(side, made, TINY[operation.group], dtype)
    assert asked.prove(side)[1] == ""
    moved, flops, least = made.work(TINY[operation.group], dtype, field.moved)
    assert moved > 0 and flops >= least > 0


def test_what_a_peer_computes_wrongly_is_not_timed(monkeypatch):
    monkeypatch.setattr(remote, "Worker", Here)
    monkeypatch.setitem(sides.side("numpy").own, "matmul", lambda xp, x, w: 1.01 * (x @ w))
    monkeypatch.setattr(sides.side("numpy"), "compiled", {})
    rows = run(list(cr.bench.kernels("matmul", "lenet")), compare="numpy").rows
    assert [row.status for row in rows if row.implementation == "numpy"] == ["wrong"]


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="the system has no alarms")
def test_a_peer_that_never_ends_has_failed(monkeypatch):
    monkeypatch.setattr(remote, "Worker", Here)
    monkeypatch.setattr(peer, "LIMIT", 1)
    monkeypatch.setitem(sides.side("numpy").own, "matmul", lambda xp, x, w: time.sleep(60))
    monkeypatch.setattr(sides.side("numpy"), "compiled", {})
    rows = run(list(cr.bench.kernels("matmul", "lenet")), compare="numpy").rows
    (row,) = (row for row in rows if row.implementation == "numpy")
    assert (row.status, row.note) == (
        "failed", "RuntimeError: TimeoutError: no results within 1 seconds, compilation included",
    )  # fmt: skip


def test_a_peer_runs_in_an_interpreter_that_has_no_chainrule(monkeypatch, tmp_path):
    for name in ("numba", "tqdm", "ml_dtypes"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} here')")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setitem(remote.ELSEWHERE, "numpy", "CHAINRULE_NUMPY_PYTHON")
    monkeypatch.setenv("CHAINRULE_NUMPY_PYTHON", str(python))
    report = run(list(cr.bench.kernels("lstm", "lecture.hello")), compare="numpy")
    rows = [row for row in report.rows if row.implementation == "numpy"]
    assert [row.status for row in rows] == ["timed"] * 3 and all(0 < row.error < 1e-6 for row in rows)
    assert report.facts["versions"]["numpy"] == np.__version__


def test_a_fault_in_a_kernel_is_reported_and_the_kernel_is_not_timed(monkeypatch):
    from chainrule.kernels import cpu

    right = cpu.matmul
    monkeypatch.setattr(cpu, "matmul", lambda a, b: right(a, b) + np.float32(0.01))
    rows = run(list(cr.bench.kernels("matmul", "lenet")), compare="numpy").rows
    found = {(row.kernel, row.implementation): row.status for row in rows}
    assert found == {
        ("product, forward", "chainrule"): "wrong",
        ("product, forward", "numpy"): "timed",
        ("product, forward + backward", "chainrule"): "wrong",
    }


def test_a_compiled_gradient_needs_less_than_both_passes():
    """JAX leaves out the product itself: two of the three products are what cannot be avoided."""
    pytest.importorskip("jax")
    (operation,) = (o for o in suite.OPERATIONS if o.name == "product")
    axes = dict(m=64, n=64, k=64)
    made, jax = operation.kernel("forward + backward", {"square": axes}), sides.side("jax")
    arrays, formula = made.arrays(axes, "float32"), jax.work("product")
    jax.ready(formula, arrays, axes, True)
    compiled = jax.compiled[formula, True, "float32", tuple(axes.items())].lower(*arrays).compile()
    _, flops, least = made.work(axes, "float32", 0)
    assert (flops, least) == (3 * 2 * 64**3, 2 * 2 * 64**3)
    assert least <= compiled.cost_analysis()["flops"] < 0.7 * flops


# ---- captured --------------------------------------------------------------------------------------------------------

CAPTURED = [
    pytest.param(operation, which, id=f"{operation.name}, {which}")
    for operation in suite.OPERATIONS
    for which in operation.passes
    if operation.captured
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("operation, which", CAPTURED)
def test_what_is_captured_computes_the_same_anew_in_each_call(operation, which, dtype):
    axes = TINY[operation.group]
    made = operation.kernel(which, {"tiny": axes})
    field = runner.Field(made, axes, dtype, "cpu", made.makers(axes, "cpu"))
    assert list(field.makers) == ["chainrule", "captured"]
    ready = field.made("captured")
    for result in ready.call():
        result.detach().fill_(np.nan)  # the memory of the next call's results
    assert field.judge(ready.read(ready.call()))[1] == ""


def test_what_cannot_be_captured_has_failed():
    with cr.autograd.detect_anomaly():
        eager, captured = run(list(cr.bench.kernels("engine", "lecture.chain-100"))[0]).rows
    assert (eager.status, captured.status) == ("timed", "failed")
    assert captured.note.startswith("RuntimeError: chain runs as it is: someone watches each operation")


# ---- algorithms by name ----------------------------------------------------------------------------------------------


def test_a_convolution_shows_each_algorithm_that_can_do_the_shape():
    shape = dict(n=2, c=3, h=9, w=8, o=4, k=3, stride=1, pad=1)
    (operation,) = (o for o in suite.OPERATIONS if o.name == "conv")
    names = ["chainrule", *(name for name in convolution.ALGORITHMS if name not in ("pointwise", "depthwise"))]
    for which in operation.passes:
        rows = run(operation.kernel(which, {"tiny": shape})).rows
        assert [(row.implementation, row.status) for row in rows] == [(name, "timed") for name in names]
        assert all(0 < row.error < 1e-5 for row in rows)
        assert len({row.error for row in rows}) > 3  # they do compute differently
        assert not any(row.takes for row in rows[1:])
        assert {*rows[0].takes.split("/")} <= {*names} and rows[0].takes.count("/") in (0, 2)
    strided = operation.kernel("forward", {}).makers(shape | {"stride": 2}, "cpu")
    assert {"chainrule", "columns", "batch", "direct"} <= {*strided} <= {*names} - {"winograd", "fft"}
    large = operation.kernel("forward", {}).makers(dict(n=8, c=32, h=99, w=99, o=4, k=1, stride=1, pad=0), "cpu")
    assert "pointwise" in large and not {"pixels", "fft"} & {*large}  # hopeless


@pytest.mark.parametrize(
    "which, taken, said",
    [
        (0, ("fft", "columns", "batch"), "fft"),
        (1, ("fft", "columns", "batch"), "fft/columns/batch"),
        (1, ("fft", "fft", "fft"), "fft"),
    ],
)
def test_what_is_chosen_is_named(monkeypatch, which, taken, said):
    names = dict(zip(("conv2d", "conv2d_input", "conv2d_weight"), taken, strict=True))
    monkeypatch.setattr(convolution, "fastest", lambda op, plan: names[op])
    made = list(cr.bench.kernels("conv", "lenet.c3"))[which]
    ((_, axes),) = made.rows()
    assert made.takes(axes, "float32") == said


def test_an_algorithm_that_computes_something_else_is_wrong(monkeypatch):
    right = convolution.ALGORITHMS["fft"]
    planted = right._replace(weight=lambda *given: 1.01 * right.weight(*given))
    monkeypatch.setitem(convolution.ALGORITHMS, "fft", planted)
    convolution._chosen_for.cache_clear()
    (operation,) = (o for o in suite.OPERATIONS if o.name == "conv")
    made = operation.kernel("forward + backward", {"tiny": TINY["conv"] | {"stride": 1}})
    status = {row.implementation: row.status for row in run(made, impl="fft,columns").rows}
    convolution._chosen_for.cache_clear()
    assert status == {"columns": "timed", "fft": "wrong"}


# ---- shapes ----------------------------------------------------------------------------------------------------------


def test_the_table_has_the_networks_and_each_group_its_shapes():
    found = shapes.select()
    assert {shape.group for shape in found} == set(shapes.AXES)
    networks = {shape.name.partition(".")[0] for shape in found}
    assert networks == {"lenet", "alexnet", "vgg", "resnet", "inception", "lecture", "deepbench"}
    assert len({(shape.name, shape.group) for shape in found}) == len(found)


@pytest.mark.parametrize(
    "line, message",
    [
        ("mine conv", "'mine conv' is no shape: write a name, a group"),
        ("mine dance n=3", "is no shape: write a name, a group"),
        ("mine matmul m=2 n=3 q=4", "mine.txt, line 2: 'q=4' is no axis of matmul: it has m, n, k"),
        ("mine matmul m=2 n=3 k=0", "'k=0' is no axis of matmul"),
        ("mine matmul m=2 n=3", "mine lacks k: matmul needs m, n, k"),
    ],
)
def test_a_bad_line_is_named(tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text(f"# a comment\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(message)):
        shapes.select("mine.txt")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "--shapes mine.txt: the file names no shape; write lines such as 'mine matmul m=64 n=64 k=64'"),
        (b"# a comment\n\n", "--shapes mine.txt: the file names no shape"),
        (
            b"mine\xff",
            "--shapes mine.txt: the file is no text (invalid start byte at byte 4); write lines such as "
            "'mine matmul m=64 n=64 k=64'",
        ),
    ],
)
def test_a_file_without_shapes_is_named(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        shapes.select("mine.txt")


def test_shapes_come_from_files_and_names_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("mine conv n=1 c=1 h=4 w=4 o=1 k=3  # tiny\n")
    found = shapes.select("mine.txt,lenet.c1")
    assert [shape.name for shape in found] == ["mine", "lenet.c1"]
    assert found[0].axes == dict(n=1, c=1, h=4, w=4, o=1, k=3, stride=1, pad=0)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cause, kind, message",
    [
        (lambda: list(cr.bench.kernels("dance")), ValueError, "'dance' is no group of kernels; there are conv"),
        (lambda: list(cr.bench.kernels("optim", "vgg")), ValueError, "--shapes vgg has no shape for optim; it has"),
        (lambda: list(cr.bench.kernels("conv", "lenett")), ValueError, "no shape of that name; there is lenet"),
        (lambda: run([], compare="numpie"), ValueError, "--compare numpie: that is no peer; compare with torch"),
        (
            lambda: run(list(cr.bench.kernels("matmul", "lenet")), impl="fast"),
            ValueError,
            "--impl fast: no kernel that was chosen has it; there is chainrule",
        ),
        (lambda: double(axes={})(abs), ValueError, "axes={} says no shapes: give each axis its values"),
        (lambda: double(axes={"n": 3})(abs), ValueError, "says no shapes"),
        (lambda: double(axes=[1, 2])(abs), ValueError, "axes=[1, 2] says no shapes: give each axis its values"),
        (
            lambda: run(double(inputs=lambda draw, m: (draw(m),))(abs)),
            TypeError,
            "the inputs of 'abs' cannot be called: missing a required argument: 'm'; it gets draw and those of n, "
            "dtype, itemsize that it has parameters for; name them so",
        ),
        (
            lambda: run(double(inputs=lambda n: (np.ones(n),))(abs)),
            TypeError,
            "the inputs of 'abs' cannot be called: its parameter 'n', of an axis's name, comes first; it gets draw and",
        ),
        (
            lambda: run(double(reference=lambda x, y: x)(abs)),
            TypeError,
            "the reference of 'abs' cannot be called: missing a required argument: 'y'; it gets the 1 arrays and those "
            "of n, dtype, itemsize that it has parameters for",
        ),
        (
            lambda: run(double(flops=lambda m: m)(abs)),
            TypeError,
            "the flops of 'abs' cannot be called: missing a required argument: 'm'; it gets those of n, dtype,",
        ),
        (lambda: run(double(inputs=lambda draw, n: (draw(n), n + None))(abs)), TypeError, "unsupported operand type"),
        (
            lambda: run(double(inputs=lambda draw, n: draw(n))(abs)),
            TypeError,
            "the inputs of 'abs' gave one ndarray, but a kernel takes a tuple of arrays; return one, such as (draw",
        ),
        (
            lambda: run(double(inputs=lambda draw, n: (draw(n), 2.0))(abs)),
            TypeError,
            "the inputs of 'abs' gave ndarray, float, but a kernel takes a tuple of arrays",
        ),
        (
            lambda: double(name="twice")(abs).implementation("twice"),
            ValueError,
            "'twice' has an implementation 'twice' already; give this one another name",
        ),
        (
            lambda: next(cr.bench.kernels("conv"))(),
            TypeError,
            "the kernel 'conv, forward' has no function of its own to call",
        ),
        (
            lambda: cr.bench.Report(FACTS, FAST, []).plot("x.svg"),
            ValueError,
            "no row of the report was timed, so there is nothing to draw",
        ),
    ],
)
def test_errors_say_what_was_received_and_what_to_do(cause, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        cause()


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(remote, "release", lambda name: "")
    monkeypatch.delenv("CHAINRULE_CHAINER_PYTHON", raising=False)
    with pytest.raises(ImportError, match="--compare jax: it is not installed; pip install jax, or leave it out"):
        remote.installed("jax")
    with pytest.raises(ImportError, match="--compare chainer: it is not installed; it needs an older NumPy") as raised:
        remote.installed("chainer")
    assert "CHAINRULE_CHAINER_PYTHON=.venv/chainer/bin/python (`make chainer` makes that one" in str(raised.value)


def test_an_interpreter_that_is_none_or_lacks_the_peer_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("CHAINRULE_CHAINER_PYTHON", str(tmp_path / "python"))
    with pytest.raises(ImportError, match="--compare chainer: CHAINRULE_CHAINER_PYTHON=.*python is no program; name a"):
        remote.installed("chainer")
    if machine.release("chainer"):
        pytest.skip("chainer is installed here")
    monkeypatch.setenv("CHAINRULE_CHAINER_PYTHON", sys.executable)
    with pytest.raises(RuntimeError, match="--compare chainer: .* said ModuleNotFoundError: No module named 'chainer'"):
        run([], compare="chainer")


def test_peers_do_not_compete_on_a_gpu(monkeypatch):
    monkeypatch.setattr(runner, "for_device", lambda device: None)
    with pytest.raises(ValueError, match="--compare numpy with --device cuda: peers are timed on the CPU alone"):
        run([], device="cuda", compare="numpy")


def test_a_file_that_is_no_report_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"facts": {}}')
    with pytest.raises(ValueError, match=r"x.json is no report of `chainrule bench` \(KeyError: 'peaks'\)"):
        cr.bench.Report.load(tmp_path / "x.json")


def test_charts_without_matplotlib_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match="--plot needs matplotlib; pip install matplotlib, or leave it out"):
        charts.plot(cr.bench.Report(FACTS, FAST, []), "x.svg")


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    """Peaks that need no measurement and refuse nothing."""
    monkeypatch.setattr(runner, "measure", lambda *given: FAST)
    monkeypatch.setattr(runner, "matrix_rate", lambda kind: FAST.matrix)


def say(*words):
    return CliRunner().invoke(cli.main, ["bench", *words])


def test_the_command_writes_table_figures_and_charts(quick, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("small matmul m=4 n=5 k=6\nlarge matmul m=8 n=5 k=6\n")
    words = ["matmul", "--shapes", "mine.txt", "--seconds", "0.01", "--threads", "1", "--compare", "numpy"]
    result = say(*words, "--json", "a.json", "--plot", "a.svg")
    assert result.exit_code == 0, result.output
    assert "4 shapes in float32 on cpu" in result.output and "at most about" in result.output
    assert "% of roof" in result.output and "numpy 2" in result.output
    report_ = cr.bench.Report.load("a.json")
    given = "--shapes mine.txt --compare numpy --threads 1 --seconds 0.01"
    assert report_.facts["command"] == f"chainrule bench matmul {given}"
    assert [(row.shape, row.implementation) for row in report_.rows[:3]] == [
        ("small", "chainrule"), ("small", "numpy"), ("large", "chainrule"),
    ]  # fmt: skip
    assert str(report_) in result.output
    for name in ("a-roofline", "a-roofline-dark", "a-sweep", "a-sweep-dark"):
        picture = (tmp_path / f"{name}.svg").read_text()
        assert "numpy" in picture and "product" in picture and f"Wrote {name}.svg." in result.output
        assert ("#12171f" in picture) == name.endswith("dark")
    assert say("compare", "a.json", "a.json").output.count("  1.00  ") == len(report_.rows)


def test_all_groups_in_little_time_with_rows_as_they_finish(quick, tmp_path, monkeypatch):
    """What `bench all` does, at sizes of almost nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "_MOST_SETS", 2)
    (tmp_path / "tiny.txt").write_text("".join(f"tiny {g} {shapes.text(axes)}\n" for g, axes in TINY.items()))
    words = ["all", "--shapes", "tiny.txt", "--seconds", "0.001", "--threads", "1", "--compare", "numpy"]
    result = say(*words, "--json", "all.json")
    assert result.exit_code == 0, result.output
    report_ = cr.bench.Report.load("all.json")
    assert {row.kernel for row in report_.rows} == {
        made.name for o in suite.OPERATIONS for made in (o.kernel(which, {}) for which in o.passes)
    }
    assert {row.group for row in report_.rows} == set(suite.GROUPS)
    assert re.search(r"about \d+ seconds where nothing else runs, at most about \d+ .*; Ctrl-C", result.stderr)
    live = [line for line in result.stderr.splitlines() if " tiny " in line]
    assert len(live) == len(report_.rows) and all(len(line.split("  ")) > 5 for line in live)
    text = cr.bench.page(report_, "all.json")
    assert text.count("\n## ") == len({row.kernel for row in report_.rows}) and text.count("**") >= 2 * 9
    assert re.search(r"\| shape \| chainrule \| % of roof \| chosen \| numpy \| columns \| batch \|", text)


def test_an_interrupt_keeps_the_rows_so_far(tmp_path):
    (tmp_path / "many.txt").write_text("".join(f"s{i} matmul m={8 + i} n=8 k=8\n" for i in range(200)))
    words = "matmul --shapes many.txt --seconds 0.05 --threads 1 --compare numpy --json a.json".split()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "chainrule", "bench", *words], cwd=tmp_path, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as running:  # fmt: skip
        for line in running.stderr:
            if "s2 " in line and "numpy" in line:
                break
        os.killpg(running.pid, signal.SIGINT)  # as a terminal's Ctrl-C does: its peer hears it too
        out, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert re.search(r"stopped before the end: \d+ of 400 shapes were measured", out)
    kept = cr.bench.Report.load(tmp_path / "a.json")
    assert len(kept.rows) >= 6 and {row.implementation for row in kept.rows} == {"chainrule", "numpy"}
    assert "stopped" in kept.facts and not (tmp_path / "a.json.part").exists()


def test_the_command_fails_where_a_row_is_wrong(quick, monkeypatch):
    from chainrule.kernels import cpu

    monkeypatch.setattr(cpu, "matmul", lambda a, b: a[:, :1] * b[:1])
    result = say("matmul", "--shapes", "lenet", "--seconds", "0.01", "--threads", "1")
    assert result.exit_code == 1 and "WRONG: product, forward, lenet.f6, by chainrule: error" in result.output


@pytest.mark.parametrize(
    "words, message",
    [
        (("conv", "--shapes", "lenett"), "Error: --shapes lenett: there is no such file"),
        (("conv", "--compare", "x"), "Error: --compare x: that is no peer"),
        (("compare", "none.json", "none.json"), "No such file or directory: 'none.json'"),
    ],
)
def test_the_command_says_what_is_wrong_in_a_line(quick, words, message):
    result = say(*words)
    assert result.exit_code == 1 and message in result.output


def test_the_command_shows_the_peaks(monkeypatch):
    monkeypatch.setattr(peaks, "_SIZES", (1 << 16,))
    monkeypatch.setattr(peaks, "_TRIES", 1)
    result = say("peaks", "--threads", "1")
    assert result.exit_code == 0, result.output
    head, row = result.output.splitlines()
    assert head.split("  ") == ["threads", "matrix GFLOP/s", "multiply-add GFLOP/s", "64 KiB GB/s"]
    assert row.split()[0] == "1" and all(float(cell) > 0 for cell in row.split())


def test_a_sweep_along_one_axis_is_a_line(tmp_path):
    pytest.importorskip("matplotlib")
    spent = Spent(4e-3)
    report_ = run(double(name="doubled", axes={"n": [10, 20, 30]}, bytes=100)(spent.work), clock=spent)
    paths = report_.plot(tmp_path / "d.png")
    assert [path.read_bytes()[:4] for path in paths] == [b"\x89PNG"] * 4
    figure = charts.sweep(report_, report_.rows, charts.THEMES[0])
    (line, *_) = figure.axes[0].get_lines()
    assert line.get_xdata().tolist() == [10, 20, 30]
    np.testing.assert_allclose(line.get_ydata().astype(float), 100 / 4e-3 / 1e9)


def test_the_roof_is_where_the_peaks_are():
    pytest.importorskip("matplotlib")
    found = cr.bench.Peaks("float32", 1, {100: 40.0, 1000: 10.0}, {100: 30.0, 1000: 5.0}, 60.0, 80.0)
    row = cr.bench.Row("k", "k", "s", {}, "a", "float32", bytes=1e6, flops=4e6, hot=clock.Times.of([1e-3] * 3, 0.03))
    figure = charts.roofline(cr.bench.Report(FACTS, found, [row]), [row], charts.THEMES[0])
    memory, caches, matrix, adds, points = (line.get_xydata().tolist() for line in figure.axes[0].get_lines())
    assert (memory[1], caches[1]) == ([8.0, 80.0], [2.0, 80.0])  # 80 GFLOP/s at 10 and at 40 GB/s
    assert memory[0][1] == pytest.approx(10 * memory[0][0]) and caches[0][1] == pytest.approx(40 * caches[0][0])
    assert (matrix[0], adds[0], points) == ([2.0, 80.0], [1.5, 60.0], [[4.0, pytest.approx(4.0)]])
    assert "s: k" in [text.get_text() for text in figure.axes[0].texts]


def test_every_group_of_the_command_is_one_of_the_suite():
    assert list(cli._BENCHED) == [*suite.GROUPS, "all"]
