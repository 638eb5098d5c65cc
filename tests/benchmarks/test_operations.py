"""The look around at everyday operations: proven before timed, with everything that it names."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def operations(torch):
    spec = importlib.util.spec_from_file_location("operations", BENCHMARKS / "operations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    threads, theirs = module.cr.get_num_threads(), torch.get_num_threads()
    yield module
    module.cr.set_num_threads(threads)
    torch.set_num_threads(theirs)


def test_every_operation_gives_what_pytorch_gives(operations, torch):
    for name, (arrays, formula) in operations.operations().items():
        ours, theirs = (operations.Side(lib, formula, arrays).results() for lib in (operations.cr, torch))
        assert operations.apart(ours, theirs) < operations.LOOSE, name
        assert len(ours) == 1 + sum(array.dtype.kind == "f" for array in arrays)


def test_rows_are_printed_and_kept(operations, tmp_path, capsys):
    kept = tmp_path / "rows.json"
    assert operations.main(["softplus", "leaky", "--seconds", "0", "--threads", "1", "--json", str(kept)]) == 0
    rows = json.loads(kept.read_text())
    assert list(rows) == ["leaky_relu", "softplus"]
    assert all(value > 0 for row in rows.values() for value in row.values())
    out = capsys.readouterr().out
    assert "1 threads of the CPU; about 2 s" in out and "ratio" in out and "leaky_relu" in out


def test_what_is_wrong_is_said_and_not_timed(operations, monkeypatch, capsys):
    off = lambda lib, x: x + (lib.__name__ == "torch")
    monkeypatch.setattr(operations, "operations", lambda: {"off by one": ([np.zeros(3, np.float32)], off)})
    assert operations.main(["--seconds", "0"]) == 1
    assert "WRONG: apart by 1.0e+00 of the largest" in capsys.readouterr().out


def test_unknown_names_are_refused(operations, capsys):
    with pytest.raises(SystemExit):
        operations.main(["no such"])
    assert "no operation has no such in its name; there is relu, gelu" in capsys.readouterr().err
