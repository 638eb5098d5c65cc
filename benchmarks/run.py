"""chainrule beside PyTorch on the CPU: the same work, in alternating turns, as ratios.

    python benchmarks/run.py [GROUP|nodes|first|all] [--only TEXT] [--sides captured,pytorch,jax,autograd,chainer]
                             [--starts 4] [--threads 2] [--json FILE] [--quick]

Each side runs in a process of its own, so that the thread pools of one never disturb the other. It proves, then times:
a side whose results are not those of chainrule is called wrong, and not timed. The others take turns; a turn times one
case over several repetitions after a warm-up, and a side that is thrice as slow as chainrule has one turn alone.
PyTorch keeps whatever speed its memory happened to land on for a whole process, so each side is started several times
and its best start counts. A ratio is a side's median time over ours: above 1, chainrule is faster. JAX and HIPS
autograd take part where they are installed, Chainer where `make chainer` has made an environment for it.

`nodes` measures the cost per node of long chains, `first` the first step after the import with the cache of compiled
loops as it is and with an empty one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from datetime import date
from pathlib import Path

from cases import CASES, FIRST, NODES, PEAKS, SIDES, runs
from proof import BOUND, apart

from chainrule.bench import Worker
from chainrule.bench.machine import cpu_model, release

HERE = Path(__file__).resolve().parent
CHAINER = HERE.parent / ".venv" / "chainer"  # what `make chainer` makes: it needs an older NumPy than chainrule
PACKAGES = {"pytorch": "torch", "captured": "chainrule"}  # where they are not called like the side
NAMES = {
    "captured": "chainrule, captured", "pytorch": "PyTorch", "jax": "JAX (jit)", "autograd": "HIPS autograd",
    "chainer": "Chainer",
}  # fmt: skip
FAR = 3.0  # times as slow as chainrule: one turn tells enough of such a side
GROUPS = tuple(dict.fromkeys(group for group, *_ in CASES.values()))


def interpreter(side: str) -> str:
    """The Python that has what a side needs; "" where there is none."""
    if side == "chainer":
        return str(CHAINER / "bin" / "python") if (CHAINER / "installed").exists() else ""
    return sys.executable if release(PACKAGES.get(side, side)) else ""


def worker(side: str, threads: int, *more: str) -> Worker:
    """One side in a process of its own, waiting for turns."""
    return Worker([interpreter(side), str(HERE / "turns.py"), side, "--threads", str(threads), *more], threads)


class Benchmark:
    """The measures, by sides that are started as often as is needed; `keep` is called after each case."""

    def __init__(self, threads: int, quick: bool, starts: int, sides=tuple(SIDES), keep=lambda: None):
        self.threads, self.more, self.keep = threads, ["--quick"] if quick else [], keep
        self.starts = 1 if quick else starts
        self.turn = dict(seconds=0.02, least=2) if quick else dict(seconds=0.3, least=3)
        self.turns = 1 if quick else 4
        self.lengths, self.firsts = (NODES[:1], FIRST[:1]) if quick else (NODES, FIRST)
        self.sides = [side for side in SIDES if side in sides and interpreter(side)]
        self.engines = [side for side in self.sides if side in ("chainrule", "pytorch")]

    def cases(self, names, result: dict) -> None:
        """Into the result: versions; case -> side -> median milliseconds of its best start; those that are wrong."""
        best: dict = result.setdefault("milliseconds", {})
        wrong = result.setdefault("wrong", {})
        for start in range(self.starts):
            workers = {side: self.worker(side) for side in self.sides if any(runs(side, name) for name in names)}
            result["versions"] = {side: process.ask({"hello": ""})["version"] for side, process in workers.items()}
            for name in names:
                _tell(f"start {start + 1} of {self.starts}: {name}")
                able = {side: process for side, process in workers.items() if runs(side, name)}
                if start == 0:
                    wrong.update(self.proven(name, able))
                times: dict = {side: [] for side in able if side not in wrong.get(name, {})}
                for turn in range(self.turns):
                    for side in times:
                        if turn == 0 or statistics.median(times[side]) < FAR * statistics.median(times["chainrule"]):
                            times[side] += workers[side].ask({"case": name, **self.turn})["times"]
                found = best.setdefault(name, {})
                for side, values in times.items():
                    found[side] = min(found.get(side, float("inf")), statistics.median(values))
                self.keep()
            for process in workers.values():
                process.stop()
        _tell("")

    def proven(self, name, workers) -> dict:
        """The case -> side -> how far its results are from ours, for those where that is too far."""
        proofs = {side: process.ask({"prove": name})["proof"] for side, process in workers.items()}
        ours = proofs.pop("chainrule")
        shares = {side: apart(ours, found) for side, found in proofs.items()}
        wrong = {side: share for side, share in shares.items() if share > BOUND}
        for side, share in wrong.items():
            print(f"{name}: {NAMES[side]} gives other results, apart by {share:.1g}; it is not timed", file=sys.stderr)
        return {name: wrong} if wrong else {}

    def peaks(self) -> dict:
        """Case -> side -> bytes."""
        return {name: {side: self.alone(side, peak=name)["bytes"] for side in self.engines} for name in PEAKS}

    def nodes(self) -> dict:
        """Nodes of a chain -> side -> microseconds for each in its best start; ours without CPython's collector too."""
        ways = {side: dict(side=side) for side in self.engines}
        ways["chainrule without collector"] = dict(side="chainrule", collector=False)
        cost = lambda n, side, **how: self.alone(side, nodes=n, **how)["microseconds"]
        best = {n: dict.fromkeys(ways, float("inf")) for n in self.lengths}
        for _ in range(self.starts):
            for n, found in best.items():
                found.update({way: min(found[way], cost(n, **how)) for way, how in ways.items()})
        return best

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


def versions(result: dict) -> str:
    """Who took part."""
    return ", ".join(f"{NAMES.get(side, side)} {v}" for side, v in result["versions"].items() if side != "captured")


def report(result: dict) -> str:
    """The tables of what was measured."""
    return "\n\n".join(table for table in (_cases(result), _nodes(result), _first(result)) if table)


def _cases(result) -> str:
    """The cases, the peaks of memory, and the geometric means of the convolutions."""
    others = [side for side in result["versions"] if side != "chainrule"]
    rows, ratios = [], {side: [] for side in others}
    for name, times in result["milliseconds"].items():
        wrong = result.get("wrong", {}).get(name, ())
        cells = ["wrong" if side in wrong else _beside(side, times, _time) for side in others]
        rows.append([name, _time(times["chainrule"]), *cells])
        for side in others if CASES[name][0] == "conv" else ():
            ratios[side] += [times[side] / times["chainrule"]] if side in times else []
    for name, sizes in result.get("peaks", {}).items():
        cells = [_beside(side, sizes, _size) for side in others]
        rows.append([f"peak memory of the {name}", _size(sizes["chainrule"]), *cells])
    if any(ratios.values()):
        means = [_ratio(statistics.geometric_mean(shares)) if shares else "" for shares in ratios.values()]
        rows.append(["convolutions, geometric mean", "", *means])
    head = [NAMES[side] if side == "captured" else f"{NAMES[side]}, / chainrule" for side in others]
    return _table(["work", "chainrule", *head], rows)


def _beside(side, figures, written) -> str:
    """A side's figure and its ratio to ours, bold where the peer is ahead; that of JAX, which compiles, to both."""
    if side not in figures:
        return ""
    ratios = _ratio(figures[side] / max(figures["chainrule"], 1e-9)) if side != "captured" else ""
    if side == "jax" and "captured" in figures:
        ratios += ", captured " + _ratio(figures[side] / figures["captured"])
    return f"{written(figures[side])}, {ratios}" if ratios else written(figures[side])


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**"


def _time(milliseconds: float) -> str:
    return f"{milliseconds:.3f} ms" if milliseconds < 0.1 else f"{milliseconds:.2f} ms"


def _size(size: float) -> str:
    return f"{size / 2**20:.0f} MiB"


def _nodes(result) -> str:
    costs = result.get("nodes", {})
    rows = [[f"{int(n):,}", *(f"{cost:.2f} µs" for cost in sides.values())] for n, sides in costs.items()]
    sides = next(iter(costs.values()), ())
    return _table(["nodes of a chain, forward + backward", *(f"{NAMES.get(side, side)}, each" for side in sides)], rows)


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
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases whose names hold this text")
    parser.add_argument("--sides", type=_sides, default=list(SIDES), help=f"the peers: {','.join(NAMES)}, or some")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--starts", type=int, default=4, help="processes per side, of which the best counts")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--quick", action="store_true", help="tiny and short: shows that it works, measures nothing")
    options = parser.parse_args()
    names = [name for name, (group, *_) in CASES.items() if options.group in ("all", group) and options.only in name]
    result = {
        "date": date.today().isoformat(),
        "cpu": cpu_model(),
        "threads": options.threads,
        "python": platform.python_version(),
    }

    def keep():
        if options.json:
            options.json.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")

    benchmark = Benchmark(options.threads, options.quick, options.starts, options.sides, keep)
    print(f"{len(names)} cases on {cpu_model()}, {options.threads} threads, about {_minutes(names, benchmark)}")
    benchmark.cases(names, result)
    if options.group in ("all", "recurrent") and not options.only and sys.platform == "linux":
        result["peaks"] = benchmark.peaks()
    for extra in ("nodes", "first"):
        if options.group == extra or options.group == "all" and not options.only:
            result[extra] = getattr(benchmark, extra)()
            keep()
    print(versions(result))
    print(report(result))
    keep()


def _sides(text: str) -> list[str]:
    """chainrule, and the peers that are named."""
    names = ["chainrule", *filter(None, text.split(","))]
    if strange := [name for name in names if name not in SIDES]:
        raise argparse.ArgumentTypeError(f"{', '.join(strange)}: no such side; there are {', '.join(NAMES)}")
    return names


def _minutes(names, benchmark) -> str:
    turns = sum(runs(side, name) for name in names for side in benchmark.sides)
    estimate = benchmark.starts * (8 + turns * (1 + benchmark.turns * (benchmark.turn["seconds"] + 0.2)))
    return f"{estimate / 60:.0f} minutes" if estimate > 90 else f"{estimate:.0f} seconds"


if __name__ == "__main__":
    main()
