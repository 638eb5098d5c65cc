"""The kernels of the GPU on their stand-in, in a process of its own: so CI runs what needs a GPU elsewhere."""

import subprocess
import sys
from pathlib import Path

import pytest

from hostsim import on_host, raw

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(on_host(), reason="this is that process")
@pytest.mark.skipif(bool(raw.missing()), reason=raw.missing())
@pytest.mark.parametrize("tests", ["tests/gpu", "tests/ops/test_table.py"])
def test_on_the_stand_in(tests, request):
    command = [sys.executable, "-P", "-m", "pytest", "--hostsim", "-q", "--no-header", "-p", "no:cacheprovider"]
    command += ["--seed", str(request.config.option.seed), tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
