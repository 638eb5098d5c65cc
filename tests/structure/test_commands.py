"""The commands that the pages name exist."""

import re
import subprocess

import pytest
from structure.house import ROOT

TARGETS = {"help", "demo", "test", "lint", "bench", "clean"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_pages_name_only_commands_that_exist(page):
    assert set(re.findall(r"(?:`|^)make ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE)) <= TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_makefile_has(target):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_makefile_refuses_an_old_python(tmp_path):
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (tmp_path / "pyproject.toml").touch()
    python = tmp_path / "old-python"
    python.write_text("#!/bin/sh\nexec python3 -c 'import sys; sys.version_info = (3, 9); exec(sys.argv[2])' \"$@\"\n")
    python.chmod(0o755)
    run = subprocess.run(["make", "demo", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode != 0
    assert "Python 3.9 is too old: chainrule needs 3.11 or newer" in run.stderr
