"""What a captured step needs to know of the CPU: nothing is captured, so everything happens at once."""


def live(read):
    """The number `read()`; a GPU, while it captures a graph, gives the place where the graph will find it."""
    return read()


def each_time(action):
    """Do `action`; a GPU, while it captures a graph, does it before each replay."""
    action()
