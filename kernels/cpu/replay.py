"""What is asked of every device, and simple on the CPU: nothing is captured, so everything happens at once."""

from . import workers


def describe():
    """The device in words.

    >>> cr.kernels.cpu.describe()[:8]
    'cpu with'
    """
    return f"cpu with {workers.get_num_threads()} threads"


def live(read):
    """The number `read()`; a GPU, while it captures a graph, gives the place where the graph will find it."""
    return read()


def each_time(action):
    """Do `action`; a GPU, while it captures a graph, does it before each replay."""
    action()
