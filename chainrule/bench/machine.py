"""The machine that is measured: its names and versions, and its threads held on stated cores."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..kernels import for_device
from ..kernels.cpu import workers


def cpu_model() -> str:
    """The processor's name, as the system tells it.

    >>> from chainrule.bench.machine import cpu_model
    >>> len(cpu_model()) > 0
    True
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def release(package: str) -> str:
    """The version of an installed package, "" where it is missing.

    >>> from chainrule.bench.machine import release
    >>> release("numpy") == np.__version__, release("no such package")
    (True, '')
    """
    with suppress(PackageNotFoundError):
        return version(package)
    return ""


def facts(device: str, threads: int) -> dict:
    """When, where and with what is measured.

    >>> from chainrule.bench.machine import facts
    >>> facts("cpu", 1)["threads"]
    1
    """
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {
        "date": datetime.now().isoformat(timespec="minutes"),
        "device": device,
        "machine": cpu_model() if device == "cpu" else for_device("cuda").describe(),
        "threads": threads,
        "load before": load,
        "versions": {"python": platform.python_version()}
        | {name: release(name) for name in ("chainrule", "numpy", "numba")},
    }


def caches() -> int:
    """Bytes of the largest cache that a core can use, 32 MiB where the system does not tell; at most 64 MiB.

    >>> from chainrule.bench.machine import caches
    >>> caches() > 1 << 18
    True
    """
    sizes = [1 << 25]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with suppress(OSError, ValueError):
            sizes.append(int(file.read_text().strip().removesuffix("K")) << 10)
    return min(max(sizes), 1 << 26)


@contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Hold every thread of this process on `threads` of its cores, and the workers and BLAS to as many; the cores.

    Where the system cannot hold threads, the list is empty. Raises ValueError for more threads than cores.

    >>> from chainrule.bench.machine import pinned
    >>> with pinned(1) as cores:
    ...     cr.get_num_threads(), len(cores) <= 1
    (1, True)
    """
    holds = hasattr(os, "sched_setaffinity")
    before = sorted(os.sched_getaffinity(0)) if holds else list(range(os.cpu_count() or 1))
    if not 1 <= threads <= len(before):
        raise ValueError(
            f"{threads} threads were asked for, but this process may use {len(before)} cores: two threads on one core "
            f"measure each other; pass 1 to {len(before)}"
        )
    workers_before, blas_before = workers.get_num_threads(), workers.one_blas_thread.get()
    cores = before[:threads] if holds else []
    try:
        _hold(cores)
        workers.set_num_threads(threads)
        workers.one_blas_thread.set(threads)
        yield cores
    finally:
        _hold(before if holds else [])
        workers.set_num_threads(workers_before)
        workers.one_blas_thread.set(blas_before)


def _hold(cores: list[int]) -> None:
    """Threads that end meanwhile are left out."""
    tasks = Path("/proc/self/task")
    for thread in [int(task.name) for task in tasks.iterdir()] if cores and tasks.is_dir() else []:
        with suppress(OSError):
            os.sched_setaffinity(thread, cores)
