"""A line on stderr while loops are compiled: a first step may take seconds, which later programs do not."""

import sys
import threading
import time

_PATIENCE = 1.0  # seconds of compiling, in all, before anything is said
_PACKAGE = __name__.partition(".")[0]


class Compiling:
    """Listens to Numba's compiler, which one thread uses at a time; the caller's own loops are none of its business.

    A terminal shows what is being compiled and is left clean; a file gets one line.
    """

    def __init__(self):
        self.depth, self.loops, self.seconds, self.told = 0, 0, 0.0, False
        self.lock = threading.Lock()

    def notify(self, event) -> None:
        """What Numba calls before and after it compiles a function, those within it included."""
        if event.is_start:
            function = event.data["dispatcher"].py_func
            if self.depth or function.__module__.partition(".")[0] == _PACKAGE:
                self._begin(function.__name__)
        elif self.depth:
            self._end()

    def _begin(self, name) -> None:
        self.depth += 1
        if self.depth == 1:
            self.loops += 1
            self.start = time.perf_counter()
            self.timer = threading.Timer(max(0.0, _PATIENCE - self.seconds), self._tell, (name, self.loops))
            self.timer.daemon = True
            self.timer.start()

    def _end(self) -> None:
        self.depth -= 1
        if not self.depth:
            self.seconds += time.perf_counter() - self.start
            self.timer.cancel()
            with self.lock:
                if self.told and _is_terminal():
                    _write("\r\x1b[K")

    def _tell(self, name, loop) -> None:
        with self.lock:
            if not self.depth or loop != self.loops:
                return
            if _is_terminal():
                _write(f"\rchainrule: compiling {name}, loop {loop} ({self.seconds:.0f} s; once on this machine)\x1b[K")
            elif not self.told:
                _write("chainrule: compiling its loops, once on this machine\n")
            self.told = True


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _write(text) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()
