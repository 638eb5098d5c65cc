"""Keeping freed memory: what is asked of the C library, and when not."""

import ctypes
import subprocess
import sys

import pytest

from chainrule.kernels.cpu import memory


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch):
    monkeypatch.delenv("CHAINRULE_MALLOC", raising=False)


@pytest.mark.parametrize("name", ["CHAINRULE_MALLOC", "MALLOC_ARENA_MAX"])
def test_wishes_of_the_user_come_first(monkeypatch, name):
    monkeypatch.setenv(name, "0")
    assert memory.keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert memory.keep_freed_memory() is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_a_freed_array_gives_its_pages_to_the_next():
    script = """
import resource, numpy as np, chainrule.kernels.cpu.memory as memory
assert memory.keep_freed_memory()
a = np.ones(1 << 20); del a
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    a = np.ones(1 << 20); del a
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert int(faults) < 20 * 2048 / 4  # a fresh 8 MiB array takes 2048 faults of 4 KiB each time
