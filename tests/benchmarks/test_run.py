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


def test_both_sides_take_turns_and_the_figures_are_kept(torch, tmp_path):
    command = [sys.executable, BENCHMARKS / "run.py", "engine", "--quick", "--threads", "1"]
    said = subprocess.run([*command, "--json", tmp_path / "r.json"], capture_output=True, text=True, check=True).stdout
    assert "2 cases on" in said and "| PyTorch / chainrule |" in said
    result = json.loads((tmp_path / "r.json").read_text())
    assert set(result["versions"]) == {"chainrule", "pytorch"}
    for times in result["milliseconds"].values():
        assert times["chainrule"] > 0 and times["pytorch"] > 0


def test_every_case_runs_on_our_side(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cases

    small = {
        "chain": dict(length=10),
        "conv": dict(x=(1, 3, 16, 16), filters=2, kernel=3),
        "characters": dict(hidden=8, embed=4, steps=3, batch=2, vocabulary=5),
        "recursive": dict(leaves=4, width=3),
        "sentences": dict(batch=2, vocabulary=9, embed=4, filters=3),
    }
    ours = cases.Ours()
    for _, maker, options in cases.CASES.values():
        maker(ours, **{**options, **small.get(maker.__name__, dict(batch=2))})()


@pytest.mark.skipif(sys.platform != "linux", reason="the highest mark of memory is read from /proc")
def test_the_peak_is_that_of_the_work(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import numpy as np
    import run

    def fill(side, megabytes):
        return lambda: np.ones(megabytes << 20, np.uint8).sum()

    assert 60 < run.peak(None, fill, dict(megabytes=64), dict(megabytes=1)) / 2**20 < 80


def test_a_stopped_side_is_an_error_not_a_hang(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import run

    worker = run.worker("chainrule", 1)
    with pytest.raises(RuntimeError, match="a benchmark process stopped"):
        worker.ask({"case": "no such case", "seconds": 0, "least": 1})
    worker.stop()


def test_the_page_is_made_from_the_newest_results(page):
    assert page.PAGE.read_text() == page.page(), "run: python benchmarks/page.py"
