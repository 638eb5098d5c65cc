"""Copies from the CPU that run beside the work on the GPU."""

from collections import deque

import cupy
import numpy as np

_IN_FLIGHT = 4  # copies whose pinned memory is kept; a further one waits for the first of them

_underway: deque = deque()
_stream = None


def send(array):
    """(the array on the GPU, a function that lets the current stream wait until it has arrived).

    The copy leaves pinned memory on a stream of its own, after what the current stream has been given to do so far: the
    memory it goes to may have been in use there.
    """
    global _stream
    _stream = _stream or cupy.cuda.Stream(non_blocking=True)
    if len(_underway) == _IN_FLIGHT:
        _underway.popleft()[1].synchronize()
    pinned = cupy.cuda.alloc_pinned_memory(max(1, array.nbytes))
    source = np.frombuffer(pinned, array.dtype, array.size).reshape(array.shape)
    source[...] = array
    out = cupy.empty(array.shape, array.dtype)
    _stream.wait_event(cupy.cuda.get_current_stream().record())
    out.set(source, stream=_stream)
    arrived = _stream.record()
    _underway.append((pinned, arrived))
    return out, lambda: cupy.cuda.get_current_stream().wait_event(arrived)
