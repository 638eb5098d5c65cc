"""Processes that wait for turns: the thread pools of two libraries disturb each other in one process.

It imports the standard library alone, so that an interpreter without chainrule can load it by its path.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence


class Worker:
    """A process that answers one JSON object with another, a line each.

    >>> import sys
    >>> worker = cr.bench.Worker([sys.executable, "-c", "print(input())"], threads=1)
    >>> worker.ask({"a": 1})
    {'a': 1}
    >>> worker.stop()
    """

    def __init__(self, command: Sequence[str], threads: int):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(threads), bufsize=1
        )

    def ask(self, message: dict) -> dict:
        """Send a message and wait for the answer; RuntimeError where the process has stopped."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError("a benchmark process stopped; its error is above")
        return json.loads(line)

    def stop(self) -> None:
        """Let it end."""
        self.process.communicate()


def environment(threads: int) -> dict[str, str]:
    """The environment in which a process starts with so many threads in each of its pools.

    >>> from chainrule.bench.worker import environment
    >>> environment(2)["OMP_NUM_THREADS"]
    '2'
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUM_CPU_THREADS")  # the last: tinygrad
    return {**os.environ, **dict.fromkeys(names, str(threads))}


def serve(answer: Callable[[dict], dict]) -> None:
    """Answer the lines of standard input until it ends; what is printed meanwhile goes to standard error.

    >>> from chainrule.bench.worker import serve
    >>> serve.__name__
    'serve'
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()
