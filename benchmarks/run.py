"""chainrule beside PyTorch on the CPU: the same work, in alternating turns, as ratios.

    python benchmarks/run.py [engine|steps|recurrent|conv|all] [--threads 2] [--starts 3] [--json FILE] [--quick]

Each side runs in a process of its own, so that the thread pools of one never disturb the other. The two take turns; a
turn times one case over several repetitions after a warm-up. PyTorch keeps whatever speed its memory happened to land
on for a whole process, so each side is started several times and its best start counts. A ratio is PyTorch's median
time over ours: above 1, chainrule is faster.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from datetime import date
from pathlib import Path

from cases import CASES, PEAKS, SIDES

from chainrule.bench import Worker, serve
from chainrule.bench.machine import cpu_model


def worker(side: str, threads: int) -> Worker:
    """One side in a process of its own, waiting for turns."""
    return Worker([sys.executable, __file__, "--worker", side, "--threads", str(threads)], threads)


class Turns:
    """Answers turns: times the case named, and reports each repetition's milliseconds."""

    def __init__(self, side: str, threads: int):
        self.api, self.made = SIDES[side](), {}
        self.api.threads(threads)

    def __call__(self, message: dict) -> dict:
        if "hello" in message:
            return {"version": self.api.version}
        if "peak" in message:
            return {"bytes": peak(self.api, *PEAKS[message["peak"]])}
        name = message["case"]
        if name not in self.made:
            _, maker, options = CASES[name]
            self.made = {name: maker(self.api, **options)}  # one at a time: nothing else fills memory or caches
        return {"times": timed(self.made[name], message["seconds"], message["least"])}


def timed(work, seconds: float, least: int) -> list[float]:
    """Milliseconds of each repetition, after a warm-up of two."""
    work()
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def peak(api, maker, options: dict, small: dict) -> int:
    """Bytes that three repetitions need at most, over what the process held once the same work had run small."""
    maker(api, **options | small)()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew (Linux)
    before = _memory("VmRSS")
    work = maker(api, **options)
    for _ in range(3):
        work()
    return _memory("VmHWM") - before


def _memory(line: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{line}:")[1].split()[0])


def peaks(threads: int) -> dict:
    """Case -> side -> bytes, each in a process of its own."""
    found: dict = {}
    for name in PEAKS:
        for side in SIDES:
            process = worker(side, threads)
            found.setdefault(name, {})[side] = process.ask({"peak": name})["bytes"]
            process.stop()
    return found


def compare(names, threads: int, starts: int, turns: int, seconds: float, least: int) -> dict:
    """Case -> side -> median milliseconds of the side's best start."""
    best: dict = {name: {} for name in names}
    versions = {}
    for start in range(starts):
        workers = {side: worker(side, threads) for side in SIDES}
        versions = {side: process.ask({"hello": True})["version"] for side, process in workers.items()}
        for name in names:
            print(f"\rstart {start + 1} of {starts}: {name:70}", end="", file=sys.stderr, flush=True)
            times: dict = {side: [] for side in SIDES}
            for _ in range(turns):
                for side, process in workers.items():
                    times[side] += process.ask({"case": name, "seconds": seconds, "least": least})["times"]
            for side, values in times.items():
                best[name][side] = min(best[name].get(side, float("inf")), statistics.median(values))
        for process in workers.values():
            process.stop()
    print("\r" + " " * 90 + "\r", end="", file=sys.stderr)
    return {"versions": versions, "milliseconds": best}


def report(result: dict) -> str:
    """The table, and the geometric mean of the convolutions."""
    rows = ["| work | chainrule | PyTorch | PyTorch / chainrule |", "|---|---|---|---|"]
    ratios = []
    for name, times in result["milliseconds"].items():
        ratio = times["pytorch"] / times["chainrule"]
        if CASES[name][0] == "conv":
            ratios.append(ratio)
        rows.append(f"| {name} | {times['chainrule']:.2f} ms | {times['pytorch']:.2f} ms | {ratio:.2f} |")
    for name, sizes in result.get("peaks", {}).items():
        ours, theirs = sizes["chainrule"] / 2**20, sizes["pytorch"] / 2**20
        rows.append(f"| {name} | {ours:.0f} MiB | {theirs:.0f} MiB | {theirs / ours:.2f} |")
    if ratios:
        rows.append(f"| convolutions, geometric mean | | | {statistics.geometric_mean(ratios):.2f} |")
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("group", nargs="?", default="all", choices=["all", "engine", "steps", "recurrent", "conv"])
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--starts", type=int, default=3, help="processes per side, of which the best counts")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="one short turn: shows that it works, measures nothing")
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(Turns(options.worker, options.threads))
        return
    names = [name for name, (group, *_) in CASES.items() if options.group in ("all", group)]
    effort = (
        dict(starts=1, turns=1, seconds=0.0, least=1)
        if options.quick
        else dict(starts=options.starts, turns=4, seconds=0.4, least=5)
    )
    print(f"{len(names)} cases on {cpu_model()}, {options.threads} threads, about {_minutes(len(names), **effort)}")
    result = {
        "date": date.today().isoformat(),
        "cpu": cpu_model(),
        "threads": options.threads,
        "python": platform.python_version(),
        **compare(names, options.threads, **effort),
    }
    if options.group in ("all", "recurrent") and sys.platform == "linux":
        result["peaks"] = peaks(options.threads)
    print(", ".join(f"{side} {version}" for side, version in result["versions"].items()))
    print(report(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def _minutes(cases, starts, turns, seconds, **_) -> str:
    estimate = starts * (8 + cases * turns * 2 * (seconds + 0.3))
    return f"{estimate / 60:.0f} minutes" if estimate > 90 else f"{estimate:.0f} seconds"


if __name__ == "__main__":
    main()
