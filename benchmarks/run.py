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
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from cases import CASES, PEAKS, SIDES


class Worker:
    """One side in a process of its own, waiting for turns."""

    def __init__(self, side: str, threads: int):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "--worker", side, "--threads", str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
        )
        self.version = self.ask({"hello": True})["version"]

    def ask(self, message: dict) -> dict:
        self.process.stdin.write(json.dumps(message) + "\n")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a benchmark process stopped; its error is above")
        return json.loads(line)

    def stop(self) -> None:
        self.process.communicate()


def serve(side: str, threads: int) -> None:
    """Answer turns: time the case named, and report each repetition's milliseconds."""
    answers, sys.stdout = sys.stdout, sys.stderr
    api = SIDES[side]()
    api.threads(threads)
    made: dict = {}
    for line in sys.stdin:
        message = json.loads(line)
        if "hello" in message:
            answer = {"version": api.version}
        elif "peak" in message:
            answer = {"bytes": peak(api, *PEAKS[message["peak"]])}
        else:
            name = message["case"]
            if name not in made:
                _, maker, options = CASES[name]
                made = {name: maker(api, **options)}  # one at a time: nothing else fills memory or caches
            answer = {"times": timed(made[name], message["seconds"], message["least"])}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


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
            worker = Worker(side, threads)
            found.setdefault(name, {})[side] = worker.ask({"peak": name})["bytes"]
            worker.stop()
    return found


def compare(names, threads: int, starts: int, turns: int, seconds: float, least: int) -> dict:
    """Case -> side -> median milliseconds of the side's best start."""
    best: dict = {name: {} for name in names}
    versions = {}
    for start in range(starts):
        workers = {side: Worker(side, threads) for side in SIDES}
        versions = {side: worker.version for side, worker in workers.items()}
        for name in names:
            print(f"\rstart {start + 1} of {starts}: {name:70}", end="", file=sys.stderr, flush=True)
            times: dict = {side: [] for side in SIDES}
            for _ in range(turns):
                for side, worker in workers.items():
                    times[side] += worker.ask({"case": name, "seconds": seconds, "least": least})["times"]
            for side, values in times.items():
                best[name][side] = min(best[name].get(side, float("inf")), statistics.median(values))
        for worker in workers.values():
            worker.stop()
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


def cpu_model() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


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
        serve(options.worker, options.threads)
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
