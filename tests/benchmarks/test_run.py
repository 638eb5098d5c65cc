"""The benchmarks run, say what they measured, and the performance page shows what was measured."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def page(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import page

    return page


def measured(group, tmp_path):
    """What a tiny run prints, and the figures that it keeps."""
    command = [sys.executable, BENCHMARKS / "run.py", group, "--quick", "--threads", "1", "--json", tmp_path / "r.json"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return said, json.loads((tmp_path / "r.json").read_text())


def test_all_sides_take_turns_and_the_figures_are_kept(torch, page, tmp_path):
    import run

    said, result = measured("engine", tmp_path)
    assert "2 cases on" in said and {"chainrule", "pytorch"} <= set(result["versions"])
    for name, times in result["milliseconds"].items():
        assert list(times) == [side for side in result["versions"] if run.runs(side, name)]
        assert all(milliseconds > 0 for milliseconds in times.values()) and f"| {name} |" in said


def test_the_cost_per_node_and_the_first_step(torch, tmp_path):
    said, result = measured("nodes", tmp_path)
    assert all(cost > 0 for costs in result["nodes"].values() for cost in costs.values()) and "| 1,000 |" in said
    said, result = measured("first", tmp_path)
    ((name, steps),) = result["first"].items()
    assert steps["empty"][0] > steps["empty"][1] and f"| {name} | {steps['cached'][0]:.3f} s |" in said


@pytest.fixture(scope="module")
def bench():
    """The table of cases, the proofs, and ours: each tiny case once -> its proof."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import cases
        import proof

        ours, tiny = cases.Side("chainrule"), {}
        for name, (_, maker, _) in cases.CASES.items():
            tiny.setdefault(repr((maker, cases.options(name, small=True))), name)
        makes = {name: ours.make(name, small=True, sure=True) for name in tiny.values()}
        yield cases, proof, {name: proof.proof(ours.api, work) for name, work in makes.items()}


JAX = pytest.param("jax", "jax", marks=pytest.mark.slow)  # it compiles every case
SIDES = [("captured", "chainrule"), ("pytorch", "torch"), JAX, ("autograd", "autograd")]


@pytest.mark.parametrize("side, package", SIDES)
def test_every_side_does_the_work_that_we_do(bench, side, package):
    pytest.importorskip(package, reason=f"{package} is absent: benchmarks compare with it where it is installed")
    cases, proof, ours = bench
    peer = cases.Side(side)
    for name in filter(lambda name: cases.runs(side, name), ours):
        theirs = proof.proof(peer.api, peer.make(name, small=True, sure=True))
        assert proof.apart(ours[name], theirs) < 1e-5, name


def test_chainer_does_it_in_an_interpreter_of_its_own(bench, monkeypatch):
    _, proof, ours = bench
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    if not run.interpreter("chainer"):
        pytest.skip("Chainer is absent: benchmarks compare with it in the environment that `make chainer` makes")
    worker = run.worker("chainer", 1, "--quick")
    assert worker.ask({"hello": ""}) == {"version": "7.8.1"}
    for name in ours:  # those too that are too slow when they are not tiny
        assert proof.apart(ours[name], worker.ask({"prove": name})["proof"]) < 1e-5, name
    assert all(milliseconds > 0 for milliseconds in worker.ask({"case": name, "seconds": 0, "least": 2})["times"])
    worker.stop()


def test_a_side_takes_part_where_its_environment_was_made_to_the_end(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    monkeypatch.setattr(run, "CHAINER", tmp_path)
    assert not run.interpreter("chainer") and run.Benchmark(1, True, 1, ["chainrule", "chainer"]).sides == ["chainrule"]
    (tmp_path / "installed").touch()
    assert run.interpreter("chainer") == str(tmp_path / "bin" / "python")


def test_what_is_too_slow_is_a_case(bench):
    cases, _, _ = bench
    for side, slow in cases.TOO_SLOW.items():
        assert set(slow) < set(cases.CASES) and not any(cases.runs(side, name) for name in slow)


def test_a_proof_tells_other_numbers_from_another_order(bench):
    cases, proof, _ = bench
    ours, x = cases.Side("chainrule").api, np.arange(24.0).reshape(2, 3, 4) - 5
    of = lambda *arrays: proof.proof(ours, lambda: [ours.tensor(array) for array in arrays])
    assert proof.apart(of(x), of(x.transpose(2, 0, 1).copy())) == 0
    assert proof.apart(of(x), of(x * 1.01)) == pytest.approx(0.01)
    assert proof.apart(of(x), of(-x)) > 1 and proof.apart(of(np.zeros(3)), of(np.ones(3))) == 3
    assert proof.apart(of(x), of(x, x)) == proof.apart(of(x), of(x[:1])) == proof.apart(of(x), of(x * np.nan)) == np.inf


def test_the_third_step_shows_whether_parameters_were_updated(bench):
    cases, proof, proofs = bench
    for name in proofs:
        if "step" in name and "Adam on" not in name:
            first = cases.Side("chainrule").make(name, small=True, sure=True)()
            assert abs(first.item() - proofs[name][0][1]) > proof.BOUND * first.item(), name


def test_a_wrong_side_is_said_and_not_timed(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    class Side:
        def __init__(self, total):
            self.answers = {"hello": {"version": "1"}, "prove": {"proof": [[2, total, 3.0, 2.0, 1.0]]}}
            self.answers["case"] = {"times": [1.0]}
            self.asked = set()

        def ask(self, message):
            do = next(iter(message))
            self.asked.add(do)
            return self.answers[do]

        def stop(self):
            pass

    sides = {"chainrule": Side(3.0), "jax": Side(3.1)}
    benchmark, result = run.Benchmark(1, True, 1, ["chainrule", "jax"]), {}
    monkeypatch.setattr(benchmark, "sides", list(sides))
    monkeypatch.setattr(benchmark, "worker", sides.get)
    name = "softmax cross entropy 128×10"
    benchmark.cases([name], result)
    assert "JAX (jit) gives other results, apart by 0.03; it is not timed" in capsys.readouterr().err
    assert "case" in sides["chainrule"].asked and "case" not in sides["jax"].asked
    assert result["milliseconds"] == {name: {"chainrule": 1.0}}
    assert f"| {name} | 1.00 ms | wrong |" in run.report(result)


def test_a_side_that_is_far_behind_has_one_turn(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    class Side:
        def __init__(self, milliseconds):
            self.milliseconds, self.turns = milliseconds, 0

        def ask(self, message):
            self.turns += "case" in message
            return {"version": "1", "proof": [[1, 1.0, 1.0, 1.0, 1.0]], "times": [self.milliseconds]}

        def stop(self):
            pass

    sides = {"chainrule": Side(1.0), "pytorch": Side(2.9), "jax": Side(3.1)}
    benchmark, result = run.Benchmark(1, False, 2, ["chainrule"]), {}
    monkeypatch.setattr(benchmark, "sides", list(sides))
    monkeypatch.setattr(benchmark, "worker", sides.get)
    name = "softmax cross entropy 128×10"
    benchmark.cases([name], result)
    assert {side: made.turns for side, made in sides.items()} == {"chainrule": 8, "pytorch": 8, "jax": 2}
    assert result["milliseconds"] == {name: {"chainrule": 1.0, "pytorch": 2.9, "jax": 3.1}}


def test_ratios_are_bold_where_the_peer_is_ahead(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    name = "MLP 784-256-10 step, batch 128"
    times = {"chainrule": 2.0, "captured": 0.05, "jax": 1.0, "autograd": 3.0}
    said = run.report({"versions": dict.fromkeys(times, "1"), "milliseconds": {name: times}})
    assert f"| {name} | 2.00 ms | 0.050 ms | 1.00 ms, **0.50**, captured 20.00 | 3.00 ms, 1.50 |" in said


@pytest.mark.skipif(sys.platform != "linux", reason="the highest mark of memory is read from /proc")
def test_the_peak_is_that_of_the_work():
    fill = "import numpy as np, turns; fill = lambda size: lambda: np.ones(size << 20, np.uint8).sum()"
    command = f"{fill}; print(turns.peak(lambda: fill(1), lambda: fill(64)) / 2**20)"  # fresh: no memory is used again
    said = subprocess.run([sys.executable, "-c", command], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert 60 < float(said.stdout) < 80


def test_a_stopped_side_is_an_error_not_a_hang(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    worker = run.worker("chainrule", 1)
    with pytest.raises(RuntimeError, match="a benchmark process stopped"):
        worker.ask({"case": "no such case", "seconds": 0, "least": 1})
    worker.stop()


def test_the_page_is_made_from_the_newest_results(page):
    assert page.PAGE.read_text() == page.page(), "run: python benchmarks/page.py"
    assert page.KERNELS.read_text() == page.kernels_page(), "run: python benchmarks/page.py"
