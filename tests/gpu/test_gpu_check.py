"""The program that measures on a GPU, at tiny sizes: proves before it times, stops in time, says what is missing."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import gpu_check


@pytest.mark.slow
def test_a_tiny_run_leaves_figures(tmp_path, capsys):
    target = tmp_path / "figures.json"
    found = gpu_check.main(["--tiny", "--seconds", "200", "--json", str(target)])
    assert json.loads(target.read_text()) == found
    assert found["wrong"] == [] and found["table of ops"]["passed"] > 50
    assert {"gelu", "Adam", "max pool 2x2", "LSTM cell"} <= {row["kernel"] for row in found["kernels"]}
    assert all(row["us"] > 0 and row["% of floor"] > 0 for row in found["kernels"])
    ours = {row["step"]: row for row in found["steps"]}
    whole = {name for name, row in ours.items() if {"ours eager", "ours captured"} <= row.keys()}
    assert whole >= {name for name in ours if "bf16" not in name}, found["left out"]
    assert "figures:" in capsys.readouterr().out


def test_without_time_everything_is_left_out(tmp_path):
    found = gpu_check.main(["--tiny", "--seconds", "1", "--json", str(tmp_path / "f.json")])
    assert any("s were left, it needs about" in text for text in found["left out"]) and "kernels" not in found


def test_a_wrong_operation_is_reported(tmp_path, monkeypatch):
    from ops import generic

    monkeypatch.setattr(generic, "forward", lambda row, rng: 1 / 0)
    run = gpu_check.Run(60, True)
    gpu_check.table_of_ops(run)
    assert run.results["wrong"] and "ZeroDivisionError" in run.results["wrong"][0]
