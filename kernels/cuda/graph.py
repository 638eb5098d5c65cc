"""A step's launches captured as one CUDA graph and replayed: what costs thousands of launches costs one.

While a graph is captured nothing runs: kernels, products and copies are noted with the addresses that they would have
used, which stay the graph's own (a memory pool that lives as long as it does). What changes from one replay to the next
without being data, such as a learning rate, is a number that the kernels read from the GPU's memory: `live`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import contextmanager, suppress

import cupy
import numpy as np

from . import runtime

_NUMBERS = 256  # that one graph may read
_AT_ONCE = 4  # that one launch sets

_capturing: Graph | None = None


def describe() -> str:
    """The device in words."""
    name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"]
    return f"cuda ({name.decode()})"


def live(read: Callable[[], float]):
    """The number `read()`, or while a graph is captured where the graph finds it, read anew before each replay."""
    return read() if _capturing is None else _capturing.number(read)


def each_time(action: Callable[[], None]) -> None:
    """Do `action` now, or while a graph is captured before each of its replays: for what Python keeps count of."""
    if _capturing is None:
        action()
    else:
        _capturing.actions.append(action)


def aside(read: Callable[[], float]) -> float:
    """The number `read()`, by which Python decides as it would at every replay: one that is not the GPU's."""
    return read()


def capturing() -> bool:
    """Whether what is launched now becomes part of a graph."""
    return _capturing is not None


class Graph:
    """Launches captured from a function; `replay()` runs them again on the current stream."""

    def __init__(self):
        self.pool = cupy.cuda.MemoryPool()
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.numbers = cupy.empty(_NUMBERS, np.float64)
        self.reads: list[Callable[[], float]] = []
        self.actions: list[Callable[[], None]] = []
        self.graph = None

    @contextmanager
    def memory(self):
        """Work on the graph's stream in the graph's memory, after what the current stream has been given to do."""
        outside = cupy.cuda.get_current_stream()
        self.stream.wait_event(outside.record())
        with cupy.cuda.using_allocator(self.pool.malloc), self.stream:
            yield
        outside.wait_event(self.stream.record())

    def capture(self, function: Callable):
        """Capture what `function()` launches, and return what it returns: arrays that each replay fills."""
        global _capturing
        collecting = gc.isenabled()
        gc.collect()
        gc.disable()  # a collection could free what a capture must not touch
        with cupy.cuda.using_allocator(self.pool.malloc), self.stream:
            self.stream.begin_capture()
            _capturing = self
            try:
                out = function()
            except BaseException:
                with suppress(Exception):  # what went wrong may have broken off the capture itself
                    self.stream.end_capture()
                raise
            finally:
                _capturing = None
                if collecting:
                    gc.enable()
            self.graph = self.stream.end_capture()
            return out

    def number(self, read):
        if len(self.reads) == _NUMBERS:
            raise RuntimeError(
                f"a captured step reads more than {_NUMBERS} changing numbers; use fewer parameter groups"
            )
        self.reads.append(read)
        return self.numbers[len(self.reads) - 1]

    def replay(self) -> None:
        """Count, set the numbers, and launch the graph."""
        for action in self.actions:
            action()
        values = [float(read()) for read in self.reads]
        for at in range(0, len(values), _AT_ONCE):
            part = values[at : at + _AT_ONCE]
            given = [np.float64(v) for v in (*part, *(0.0,) * (_AT_ONCE - len(part)))]
            arguments = (self.numbers[at : at + len(part)], np.int32(len(part)), *given)
            runtime.launch("graph", "set_numbers", np.float64, 1, 1, arguments)
        self.graph.launch(cupy.cuda.get_current_stream())
