"""Per-thread working memory that is kept between calls: fresh pages cost more than the work done in them."""

import threading
from math import prod

import numpy as np

_KEPT_BYTES = 4 << 20  # per thread and use; a larger request is served by memory of its own


class _Rooms(threading.local):
    def __init__(self):
        self.by_use = {}


_rooms = _Rooms()


def scratch(use, shape, dtype):
    """An uninitialised array, valid until this thread's next call for the same `use`."""
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if size > _KEPT_BYTES:
        return np.empty(shape, dtype)
    room = _rooms.by_use.get(use)
    if room is None or room.size < size:
        room = _rooms.by_use[use] = np.empty(size, np.uint8)
    return room[:size].view(dtype).reshape(shape)
