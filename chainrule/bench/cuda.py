"""Time on a GPU: between events, of a captured launch where the work can be captured, the launch's own cost apart."""

from __future__ import annotations

import time
from collections.abc import Callable

import cupy

from ..kernels.cuda.graph import Graph
from .clock import Sample


def on_events(call: Callable[[], object]) -> Sample:
    """What times so many calls between two events of the current stream."""

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


def captured(call: Callable[[], object]) -> Callable[[], object]:
    """The replay of the call as one launch; the call itself where a graph cannot hold it."""
    call(), call()
    graph = Graph()
    try:
        graph.capture(call)
    except Exception:
        return call
    return graph.replay


def launch_seconds(call: Callable[[], object], count: int = 50) -> float:
    """Seconds that the host needs for one call, nothing waited for."""
    wait = cupy.cuda.get_current_stream().synchronize
    call(), wait()
    start = time.perf_counter()
    for _ in range(count):
        call()
    took = time.perf_counter() - start
    wait()
    return took / count
