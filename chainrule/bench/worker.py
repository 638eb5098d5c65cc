"""Processes that wait for turns: the thread pools of two libraries disturb each other in one process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

from .machine import environment


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
