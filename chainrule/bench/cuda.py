"""Time on a GPU: between events, of a captured launch where a graph can hold the work, the launch's own cost apart."""

from __future__ import annotations

import time
from collections.abc import Callable

from .clock import Sample

Call = Callable[[], object]


def on_events(call: Call) -> Sample:
    """What times so many calls between two events of the current stream, after one that is not timed."""
    import cupy

    def sample(count: int) -> float:
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        call()
        begin.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return cupy.cuda.get_elapsed_time(begin, end) / 1e3

    return sample


def captured(call: Call) -> Call:
    """The replay of the call as one launch; the call itself where a graph cannot hold it."""
    from ..kernels.cuda.graph import Graph

    call(), call()
    graph = Graph()
    try:
        graph.capture(call)
    except Exception:
        return call
    return graph.replay


def launch_seconds(call: Call, count: int = 50) -> float:
    """Seconds that the host needs for one call, nothing waited for."""
    import cupy

    wait = cupy.cuda.get_current_stream().synchronize
    call(), wait()
    start = time.perf_counter()
    for _ in range(count):
        call()
    took = time.perf_counter() - start
    wait()
    return took / count
