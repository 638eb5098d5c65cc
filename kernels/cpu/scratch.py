"""Per-thread working memory that is kept between calls: fresh pages cost more than the work done in them."""

import threading
from math import prod

import numpy as np

LINE = 64  # bytes of one of the caches'; a vector across two of them takes twice as long
_KEPT_BYTES = 4 << 20  # per thread and use; a larger request is served by memory of its own


class _Rooms(threading.local):
    def __init__(self):
        self.by_use = {}


_rooms = _Rooms()


def scratch(use, shape, dtype):
    """An array from the start of a cache line on, valid until this thread's next call for the `use`.

    What is kept holds what was left there, zeros at first: products read what lies beside their numbers, and what
    memory holds by chance may be subnormal, with which they take ten times as long.
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if size > _KEPT_BYTES:
        room = _from_line(np.empty(size + LINE, np.uint8))
    else:
        room = _rooms.by_use.get(use)
        if room is None or room.size < size:
            room = _rooms.by_use[use] = _from_line(np.zeros(size + LINE, np.uint8))
    return room[:size].view(dtype).reshape(shape)


def _from_line(room):
    return room[-room.ctypes.data % LINE :]
