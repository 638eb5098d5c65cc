"""A peer of chainrule in a process of its own: `python -m chainrule.bench.peer torch 2`, with two threads.

It computes the kernels of the suite as that library does, for `remote.Remote`, which hands over the arrays and proves
the results. For interpreters without chainrule it imports the standard library, NumPy and modules that do the same.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .clock import stopwatch, walking
from .files import GIVEN, GOT, load, save
from .sides import side
from .worker import serve

LIMIT = 120  # seconds until the first results, compilation included


class Peer:
    """Answers what `remote.Remote` asks: one shape at a time, so that nothing else fills memory or caches."""

    def __init__(self, name: str, threads: int, folder: str):
        self.name, self.threads, self.folder = name, threads, Path(folder)

    def __call__(self, message: dict) -> dict:
        try:
            return getattr(self, message.pop("do"))(**message)
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"}

    def hello(self):
        self.side = side(self.name)
        self.side.threads(self.threads)
        return {"version": self.side.version}

    def open(self, operation, backward, axes, sets):
        self.samples, self.sets, arrays, work = {}, sets, load(self.folder / GIVEN), self.side.work(operation)
        self.ready = lambda: self.side.ready(work, [array.copy() for array in arrays], axes, backward)
        return {}

    def prove(self):
        with _limited():
            ready = self.ready()
            save(self.folder / GOT, ready.read(ready.call()))
        return {}

    def sample(self, cold, count):
        if cold not in self.samples:
            calls = [self.ready().call for _ in range(self.sets if cold else 1)]
            self.samples[cold] = stopwatch(walking(calls))
        return {"seconds": self.samples[cold](count)}


@contextmanager
def _limited() -> Iterator[None]:
    """TimeoutError after LIMIT, where the system has alarms."""

    def late(*_):
        raise TimeoutError(f"no results within {LIMIT} seconds, compilation included")

    alarm = getattr(signal, "alarm", None)
    if alarm:
        signal.signal(signal.SIGALRM, late)
        alarm(LIMIT)
    try:
        yield
    finally:
        if alarm:
            alarm(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks stops it, with its rows so far
    serve(Peer(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
