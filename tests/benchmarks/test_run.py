"""The benchmarks run, say what they measured, and the performance page shows what was measured."""

import json
import subprocess
import sys
from pathlib import Path

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


def test_every_case_runs_on_our_side(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cases

    ours = cases.Ours()
    for name in cases.CASES:
        cases.make(ours, name, small=True)()


@pytest.mark.parametrize("side", ["jax", "autograd"])
def test_functions_of_arrays_do_the_same_work(monkeypatch, side):
    """The same loss falls by the same steps; the formulas themselves are proven by `chainrule bench`."""
    pytest.importorskip(side)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cases

    peer = cases.SIDES[side]()
    for name in filter(lambda name: cases.runs(side, name), cases.CASES):
        cases.make(peer, name, small=True)()


@pytest.mark.skipif(sys.platform != "linux", reason="the highest mark of memory is read from /proc")
def test_the_peak_is_that_of_the_work(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import numpy as np
    import run

    def fill(megabytes):
        return lambda: np.ones(megabytes << 20, np.uint8).sum()

    assert 60 < run.peak(lambda: fill(1), lambda: fill(64)) / 2**20 < 80


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
