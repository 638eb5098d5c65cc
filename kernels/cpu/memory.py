"""Keeping freed memory for the next array: fresh pages cost more than most loops that fill them."""

import ctypes
import os
from pathlib import Path

MMAP_THRESHOLD = 32 << 20  # bytes; glibc's largest: smaller arrays come from the heap, whose pages stay
TRIM_THRESHOLD = 256 << 20  # bytes of freed heap that the process keeps at most
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>


def keep_freed_memory():
    """Ask glibc to reuse freed arrays instead of returning them to the system after each operation.

    Says whether it did: not with another C library, nor where CHAINRULE_MALLOC=0 or one of glibc's own MALLOC_
    variables is set.
    """
    if os.environ.get("CHAINRULE_MALLOC") == "0" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD) and mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD))


def memory_held() -> str:
    """What this process holds and what is left, in words (only Linux says so)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return "the system does not say how much is free"
    kib = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    held, left, there = pages * os.sysconf("SC_PAGE_SIZE"), kib["MemAvailable"] << 10, kib["MemTotal"] << 10
    return f"this process holds {held:,} bytes; {left:,} of {there:,} bytes of memory are free"
