"""A stand-in for CuPy and its GPU, on the CPU: `pytest --hostsim` puts it in the place of `cupy`."""

import sys


def on_host() -> bool:
    """Whether `cupy` is the stand-in."""
    return f"{__name__}.module" in sys.modules
