"""The commands that the pages name exist."""

import re
import subprocess

import pytest
from structure.house import ROOT

TARGETS = {"help", "demo", "test", "lint", "bench", "chainer", "clean"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_pages_name_only_commands_that_exist(page):
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE)) <= TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_makefile_has(target):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(
    "target, python, message",
    [
        ("demo", (3, 9), "Python 3.9 is too old: chainrule needs 3.11 or newer"),
        ("chainer", (3, 12), "Python 3.12 is too new: Chainer needs NumPy below 1.24, and that Python 3.11 or older"),
    ],
)
def test_makefile_refuses_another_python(target, python, message, tmp_path):
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (tmp_path / "pyproject.toml").touch()
    stub = tmp_path / "python"
    stub.write_text(f"#!/bin/sh\nexec python3 -c 'import sys; sys.version_info = {python}; exec(sys.argv[2])' \"$@\"\n")
    stub.chmod(0o755)
    run = subprocess.run(["make", target, f"PYTHON={stub}"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0
    assert message in run.stderr
