"""What is asked of every device, and simple on the CPU unless a step is recorded, as `recording` does."""

import numpy as np

from . import workers


def describe():
    """The device in words.

    >>> cr.kernels.cpu.describe()[:8]
    'cpu with'
    """
    return f"cpu with {workers.get_num_threads()} threads"


def live(read):
    """The number `read()`; while a step is captured, the place where its replays will find it."""
    return read()


def each_time(action):
    """Do `action`; while a step is captured, before or within each replay."""
    action()


def hold(read):
    """While a step is captured: have it recorded anew when `read()` is a list of other objects."""


def aside(read):
    """The number `read()`, by which Python decides as it will at every replay."""
    return read()


def taken_in(data):
    """NumPy's data as an array."""
    return np.asarray(data)
