"""chainrule beside PyTorch on the CPU: the same work, in alternating turns, as ratios.

    python benchmarks/run.py [GROUP|nodes|first|all] [--threads 2] [--starts 3] [--json FILE] [--quick]

Each side runs in a process of its own, so that the thread pools of one never disturb the other. They take turns; a
turn times one case over several repetitions after a warm-up. PyTorch keeps whatever speed its memory happened to land
on for a whole process, so each side is started several times and its best start counts. A ratio is a side's median
time over ours: above 1, chainrule is faster. JAX and HIPS autograd, where installed, run what takes little code.

`nodes` measures the cost per node of long chains, `first` the first step after the import with the cache of compiled
loops as it is and with an empty one.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from cases import CASES, FIRST, NODES, PEAKS, SIDES, chain, make, runs

from chainrule.bench import Worker, serve
from chainrule.bench.machine import cpu_model, release

NAMES = {"pytorch": "PyTorch", "jax": "JAX (jit)", "autograd": "HIPS autograd"}
GROUPS = tuple(dict.fromkeys(group for group, *_ in CASES.values()))


def worker(side: str, threads: int, *more: str) -> Worker:
    """One side in a process of its own, waiting for turns."""
    return Worker([sys.executable, __file__, "--worker", side, "--threads", str(threads), *more], threads)


class Turns:
    """Answers turns: does the first thing that the message names, and reports."""

    def __init__(self, side: str, threads: int, quick: bool):
        self.api, self.quick, self.made = SIDES[side](), quick, {}
        self.api.threads(threads)

    def __call__(self, message: dict) -> dict:
        do, subject = next(iter(message.items()))
        return getattr(self, do)(subject, **{name: value for name, value in message.items() if name != do})

    def hello(self, _):
        return {"version": self.api.version}

    def case(self, name, seconds, least):
        """Milliseconds of each repetition."""
        if name not in self.made:
            self.made = {name: make(self.api, name, self.quick)}  # one at a time: nothing else fills memory or caches
        return {"times": timed(self.made[name], seconds, least)}

    def peak(self, name):
        """Bytes that the work needs at most, over what the process held once it had run small."""
        return {"bytes": peak(*(lambda small=small: make(self.api, name, small) for small in (True, self.quick)))}

    def first(self, name):
        """Seconds of the first step of this process, and of the second."""
        work = make(self.api, name, self.quick)
        return {"seconds": [timed_once(work), timed_once(work)]}

    def nodes(self, length):
        """Microseconds per node, forward and backward: the median of three chains or as many as have 200 000 nodes."""
        chain(self.api, 1000)()
        work = chain(self.api, length)
        times = [timed_once(work) for _ in range(max(3, 200_000 // length))]
        return {"microseconds": 1e6 * statistics.median(times) / length}


def timed_once(work) -> float:
    """Seconds of one repetition."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timed(work, seconds: float, least: int) -> list[float]:
    """Milliseconds of each repetition, after a warm-up of two."""
    work()
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


class Benchmark:
    """The measures, by sides that are started as often as is needed."""

    def __init__(self, threads: int, quick: bool, starts: int):
        self.threads, self.more = threads, ["--quick"] if quick else []
        self.starts = 1 if quick else starts
        self.turn = dict(seconds=0.02, least=2) if quick else dict(seconds=0.4, least=5)
        self.turns = 1 if quick else 4
        self.lengths, self.firsts = (NODES[:1], FIRST[:1]) if quick else (NODES, FIRST)
        self.sides = [side for side in SIDES if side in ("chainrule", "pytorch") or release(side)]

    def cases(self, names) -> dict:
        """The sides' versions, and case -> side -> median milliseconds of the side's best start."""
        best: dict = {name: {} for name in names}
        versions = {}
        for start in range(self.starts):
            workers = {side: self.worker(side) for side in self.sides if any(runs(side, name) for name in names)}
            versions = {side: process.ask({"hello": ""})["version"] for side, process in workers.items()}
            for name in names:
                _tell(f"start {start + 1} of {self.starts}: {name}")
                times: dict = {side: [] for side in workers if runs(side, name)}
                for _ in range(self.turns):
                    for side in times:
                        times[side] += workers[side].ask({"case": name, **self.turn})["times"]
                for side, values in times.items():
                    best[name][side] = min(best[name].get(side, float("inf")), statistics.median(values))
            for process in workers.values():
                process.stop()
        _tell("")
        return {"versions": versions, "milliseconds": best}

    def peaks(self) -> dict:
        """Case -> side -> bytes."""
        return {name: {side: self.alone(side, peak=name)["bytes"] for side in self.sides[:2]} for name in PEAKS}

    def nodes(self) -> dict:
        """Nodes of a chain -> side -> microseconds for each."""
        sides = self.sides[:2]
        return {n: {side: self.alone(side, nodes=n)["microseconds"] for side in sides} for n in self.lengths}

    def first(self) -> dict:
        """Case -> state of the cache -> seconds of the first step and of the second."""
        found: dict = {}
        for name in self.firsts:
            with tempfile.TemporaryDirectory() as folder:
                for state in ("empty", "cached"):  # the second process finds what the first has compiled
                    answer = self.alone("chainrule", "--cache", folder, first=name)
                    found.setdefault(name, {})[state] = answer["seconds"]
        return found

    def alone(self, side, *more, **message) -> dict:
        """The answer of a fresh process."""
        _tell(f"{side}: {next(iter(message.values()))}")
        process = self.worker(side, *more)
        answer = process.ask(message)
        process.stop()
        _tell("")
        return answer

    def worker(self, side, *more) -> Worker:
        return worker(side, self.threads, *self.more, *more)


def _tell(text: str) -> None:
    print(f"\r{text:90}\r{text}", end="", file=sys.stderr, flush=True)


def report(result: dict) -> str:
    """The tables of what was measured."""
    return "\n\n".join(table for table in (_cases(result), _nodes(result), _first(result)) if table)


def _cases(result) -> str:
    """The cases, the peaks of memory, and the geometric mean of the convolutions."""
    rows, ratios = [], []
    others = [side for side in result["versions"] if side not in ("chainrule", "pytorch")]
    head = ["work", "chainrule", "PyTorch", "PyTorch / chainrule", *(f"{NAMES[side]}, / chainrule" for side in others)]
    for name, times in result["milliseconds"].items():
        ours, ratio = times["chainrule"], times["pytorch"] / times["chainrule"]
        if CASES[name][0] == "conv":
            ratios.append(ratio)
        more = [f"{times[side]:.2f} ms, {times[side] / ours:.2f}" if side in times else "" for side in others]
        rows.append([name, f"{ours:.2f} ms", f"{times['pytorch']:.2f} ms", f"{ratio:.2f}", *more])
    blank = [""] * len(others)
    for name, sizes in result.get("peaks", {}).items():
        ours, theirs = sizes["chainrule"] / 2**20, sizes["pytorch"] / 2**20
        sizes = f"{ours:.0f} MiB", f"{theirs:.0f} MiB", f"{theirs / max(ours, 1e-9):.2f}"
        rows.append([f"peak memory of the {name}", *sizes, *blank])
    if ratios:
        rows.append(["convolutions, geometric mean", "", "", f"{statistics.geometric_mean(ratios):.2f}", *blank])
    return _table(head, rows)


def _nodes(result) -> str:
    costs = result.get("nodes", {})
    rows = [[f"{int(n):,}", f"{c['chainrule']:.2f} µs", f"{c['pytorch']:.2f} µs"] for n, c in costs.items()]
    return _table(["nodes of a chain, forward + backward", "chainrule, each", "PyTorch, each"], rows)


def _first(result) -> str:
    steps = result.get("first", {})
    times = {name: (s["cached"][0], s["empty"][0], s["cached"][1]) for name, s in steps.items()}
    rows = [[name, *(f"{seconds:.3f} s" for seconds in row)] for name, row in times.items()]
    return _table(["first step after the import", "its loops compiled before", "compiled now", "second step"], rows)


def _table(head, rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("".join(f"| {cell} " if cell else "| " for cell in line) + "|" for line in lines) if rows else ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", nargs="?", default="all", choices=["all", *GROUPS, "nodes", "first"])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--starts", type=int, default=3, help="processes per side, of which the best counts")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="tiny and short: shows that it works, measures nothing")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        if options.cache:
            os.environ["NUMBA_CACHE_DIR"] = options.cache  # before Numba is imported, at the first compiled loop
        serve(Turns(options.worker, options.threads, options.quick))
        return
    names = [name for name, (group, *_) in CASES.items() if options.group in ("all", group)]
    benchmark = Benchmark(options.threads, options.quick, options.starts)
    print(f"{len(names)} cases on {cpu_model()}, {options.threads} threads, about {_minutes(names, benchmark)}")
    result = {
        "date": date.today().isoformat(),
        "cpu": cpu_model(),
        "threads": options.threads,
        "python": platform.python_version(),
        **benchmark.cases(names),
    }
    if options.group in ("all", "recurrent") and sys.platform == "linux":
        result["peaks"] = benchmark.peaks()
    for extra in ("nodes", "first"):
        if options.group in ("all", extra):
            result[extra] = getattr(benchmark, extra)()
    print(", ".join(f"{side} {version}" for side, version in result["versions"].items()))
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _minutes(names, benchmark) -> str:
    turns = sum(runs(side, name) for name in names for side in benchmark.sides)
    estimate = benchmark.starts * (8 + turns * benchmark.turns * (benchmark.turn["seconds"] + 0.3))
    return f"{estimate / 60:.0f} minutes" if estimate > 90 else f"{estimate:.0f} seconds"


if __name__ == "__main__":
    main()
