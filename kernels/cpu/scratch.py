"""Per-thread working memory that is kept between calls: fresh pages cost more than the work done in them."""

import threading
from math import prod

import numpy as np

_KEPT_BYTES = 4 << 20  # per thread and use; a larger request is served by memory of its own
_LINE = 64  # bytes of the cache's; a vector across two of them takes twice as long


class _Rooms(threading.local):
    def __init__(self):
        self.by_use = {}


_rooms = _Rooms()


def scratch(use, shape, dtype):
    """An array from the start of a cache line on, valid until this thread's next call for the `use`.

    It holds what was left there, zeros at first: products read what lies beside their numbers, and what memory holds by
    chance may be subnormal, with which they take ten times as long.
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if size > _KEPT_BYTES:
        return np.empty(shape, dtype)
    room = _rooms.by_use.get(use)
    if room is None or room.size < size:
        room = np.zeros(size + _LINE, np.uint8)
        room = _rooms.by_use[use] = room[-room.ctypes.data % _LINE :][:size]
    return room[:size].view(dtype).reshape(shape)
