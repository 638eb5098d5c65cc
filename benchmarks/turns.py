"""One side in a process of its own, waiting for turns: `python benchmarks/turns.py SIDE --threads 2`.

Run by `run.py`, by an interpreter that has what the side needs, and that need not have chainrule.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import time
from functools import partial
from pathlib import Path
from runpy import run_path

from cases import SIDES, Side
from proof import proof

ROOT = Path(__file__).resolve().parents[1]
serve = run_path(str(ROOT / "chainrule" / "bench" / "worker.py"))["serve"]


class Turns:
    """Answers turns: does the first thing that the message names, and reports."""

    def __init__(self, side: str, threads: int, quick: bool):
        self.side, self.quick, self.made = Side(side), quick, {}
        self.side.api.threads(threads)

    def __call__(self, message: dict) -> dict:
        do, subject = next(iter(message.items()))
        return getattr(self, do)(subject, **{name: value for name, value in message.items() if name != do})

    def hello(self, _):
        return {"version": self.side.api.version}

    def prove(self, name):
        """What the case gives, to be held against another side's."""
        return {"proof": proof(self.side.api, self.side.make(name, self.quick, sure=True))}

    def case(self, name, seconds, least):
        """Milliseconds of each repetition."""
        if name not in self.made:
            self.made = {name: self.side.make(name, self.quick)}  # one at a time: nothing else fills memory or caches
            timed(self.made[name], 0, 1)  # what is compiled or captured
        return {"times": timed(self.made[name], seconds, least)}

    def peak(self, name):
        """Bytes that the work needs at most, over what the process held once it had run small."""
        return {"bytes": peak(*(lambda small=small: self.side.make(name, small) for small in (True, self.quick)))}

    def first(self, name):
        """Seconds of the first step of this process, and of the second."""
        work = self.side.make(name, self.quick)
        return {"seconds": [timed_once(work), timed_once(work)]}

    def nodes(self, length, collector=True):
        """Microseconds per node, forward and backward: the median of chains of 3 million nodes in all, of any length.

        So what else the machine does while they run disturbs short chains as much as long ones.
        """
        if not collector:
            gc.disable()
        chain = partial(self.side.makers.chain, self.side.api)
        chain(1000)()
        work = chain(length)
        times = [timed_once(work) for _ in range((30_000 if self.quick else 3_000_000) // length)]
        return {"microseconds": 1e6 * statistics.median(times) / length}


def timed_once(work) -> float:
    """Seconds of one repetition."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timed(work, seconds: float, least: int) -> list[float]:
    """Milliseconds of each repetition, after a warm-up of one."""
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        times.append(1e3 * timed_once(work))
    return times


def peak(small, full) -> int:
    """Bytes that three repetitions of full() need at most, over what the process held once small() had run."""
    small()()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew (Linux)
    before = _memory("VmRSS")
    work = full()
    for _ in range(3):
        work()
    return _memory("VmHWM") - before


def _memory(line: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{line}:")[1].split()[0])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--quick", action="store_true", help="tiny work")
    parser.add_argument("--cache", help="the folder of compiled loops")
    options = parser.parse_args()
    if options.cache:
        os.environ["NUMBA_CACHE_DIR"] = options.cache  # before Numba is imported, at the first compiled loop
    serve(Turns(options.side, options.threads, options.quick))


if __name__ == "__main__":
    main()
