"""A peer of chainrule in a process of its own: `python -m chainrule.bench.peer torch 2`, with two threads.

It serves the kernels of the suite as that library computes them, to `runner.Remote`.
"""

from __future__ import annotations

import signal
import sys

from .runner import Field
from .sides import side
from .suite import OPERATIONS
from .worker import serve


class Peer:
    """Answers what `runner.Remote` asks: one shape at a time, so that nothing else fills memory or caches."""

    def __init__(self, name: str, threads: int):
        self.name, self.side, self.field = name, side(name), None
        self.side.threads(threads)

    def __call__(self, message: dict) -> dict:
        try:
            return getattr(self, message.pop("do"))(**message)
        except Exception as error:
            return {"failed": f"{type(error).__name__}: {error}"}

    def hello(self):
        return {"version": self.side.version}

    def open(self, group, kernel, shape, axes, dtype):
        made = (o.kernel(which, {shape: axes}) for o in OPERATIONS if o.group == group for which in o.passes)
        found = next(k for k in made if k.name == kernel)
        self.field = Field(found, axes, dtype, "cpu", {self.name: found.peers[self.name]})
        return {}

    def prove(self):
        error, complaint = self.field.prove(self.name)
        return {"error": error, "complaint": complaint}

    def sample(self, cold, count):
        return {"seconds": self.field.sample(self.name, cold, count)}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks stops it, with its rows so far
    serve(Peer(sys.argv[1], int(sys.argv[2])))
