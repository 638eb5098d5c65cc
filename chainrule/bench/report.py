"""What was measured, as a table, as JSON, and beside another run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .clock import Times
from .peaks import Peaks
from .sides import CAPTURED, OURS, PEERS

_ALIKE = 0.05  # times that differ by no more are the same
_STEADY = 0.1  # by which the peak may drift


@dataclass
class Row:
    """One implementation at one shape. status: "timed", "wrong", "impossible" or "failed", which `note` explains.

    hot: on one set of buffers; cold: walking through `sets` of them; launch: the host's seconds on a GPU. takes: the
    algorithms that chainrule chose by itself. error: see `kernel.Expected`. bytes, flops: moved and computed by one
    call; size: bytes of the buffers that it works on; least: the FLOPs that cannot be avoided. floor: the seconds that
    the roofline allows for bytes and flops; least_floor, cold_floor: for `least`, hot and cold.

    >>> row = cr.bench.Row("axpy", "kernel", "n=4", {"n": 4}, "mine", "float32", flops=8e9)
    >>> row.hot = cr.bench.Times.of([2.0, 2.0, 2.0], bound=0.03)
    >>> row.gflops
    4.0
    """

    kernel: str
    group: str
    shape: str
    axes: dict
    implementation: str
    dtype: str
    status: str = "failed"
    note: str = ""
    error: float = math.nan
    bytes: float = 0.0
    flops: float = 0.0
    least: float = 0.0
    floor: float = 0.0
    least_floor: float = 0.0
    cold_floor: float | None = None
    size: float = 0.0
    sets: int = 1
    hot: Times | None = None
    cold: Times | None = None
    launch: float | None = None
    takes: str = ""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names the row from run to run."""
        return self.kernel, self.shape, self.implementation, self.dtype

    @property
    def gflops(self) -> float:
        """GFLOP/s on warm buffers, by the FLOPs of the definition."""
        return self.flops / self.hot.median / 1e9 if self.hot else math.nan

    @property
    def gbytes(self) -> float:
        """GB/s on warm buffers."""
        return self.bytes / self.hot.median / 1e9 if self.hot else math.nan

    @property
    def roofline(self) -> float:
        """The share of the roofline on warm buffers; above 1 where an algorithm needs fewer FLOPs (Winograd's)."""
        return self.floor / self.hot.median if self.hot else math.nan

    @classmethod
    def from_json(cls, found: dict) -> Row:
        """What `Report.save` wrote."""
        times = {name: Times(*found[name]) if found[name] else None for name in ("hot", "cold")}
        return cls(**{**found, **times})


@dataclass
class Report:
    """All rows of a run, the peaks of the machine, and the facts about it; `print(report)` shows the table.

    >>> report = cr.bench.Report({}, cr.bench.Peaks("float32", 1, {1: 1.0}, {1: 1.0}, 1.0, 1.0), [])
    >>> cr.bench.Report.load(report.save("empty.json")) == report
    True
    """

    facts: dict[str, Any]
    peaks: Peaks
    rows: list[Row]

    def floors(self, row: Row) -> None:
        """Fill in the row's floors from the peaks."""
        row.floor = self.peaks.floor(row.bytes, row.flops, row.size)
        row.least_floor = self.peaks.floor(row.bytes, row.least, row.size)
        row.cold_floor = self.peaks.floor(row.bytes, row.least, row.size * row.sets) if row.cold else None

    def save(self, path: str | Path) -> Path:
        """Write it as JSON."""
        content = {"facts": self.facts, "peaks": self.peaks.to_json(), "rows": [asdict(row) for row in self.rows]}
        part = Path(path).with_name(f"{Path(path).name}.part")  # so that an interrupt leaves the file whole
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return part.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read what `save` wrote; ValueError for another file."""
        try:
            found = json.loads(Path(path).read_text())
            return cls(found["facts"], Peaks.from_json(found["peaks"]), [Row.from_json(row) for row in found["rows"]])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no report of `chainrule bench` ({type(error).__name__}: {error}); write one with --json"
            ) from error

    def plot(self, path: str | Path) -> list[Path]:
        """Draw the roofline and the sweeps, light and dark, into files named after `path` (`charts.plot`)."""
        from .charts import plot

        return plot(self, path)

    def __str__(self) -> str:
        return "\n".join([_heading(self), "", table([_cells(self, row) for row in self.rows]), *_remarks(self)])


def table(rows: Iterable[dict[str, str]]) -> str:
    """Rows of texts under the names of their columns, numbers to the right.

    >>> print(cr.bench.table([{"by": "a", "us": "1.5"}, {"by": "bcd", "us": "12.5"}]))
    by     us
    a     1.5
    bcd  12.5
    """
    rows = list(rows)
    names = [n for n in dict.fromkeys(name for row in rows for name in row) if any(row.get(n) for row in rows)]
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(names))]
    right = [all(_numeric(line[i]) for line in lines[1:]) for i in range(len(names))]
    aligned = lambda line: (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(line, widths, right, strict=True))
    return "\n".join("  ".join(aligned(line)).rstrip() for line in lines)


def _numeric(cell: str) -> bool:
    return not cell or cell[0] in "0123456789~-±" or cell.isupper()


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them.

    >>> cr.bench.duration(0.00123), cr.bench.duration(2.5e-6)
    ('1.23 ms', '2.50 us')
    """
    units = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
    unit, size = next((each for each in units if seconds >= each[1]), units[-1])
    return f"{seconds / size:.{2 if seconds < 10 * size else 1 if seconds < 100 * size else 0}f} {unit}"


class Live:
    """The table as it grows: columns as wide as what is known to come."""

    def __init__(self, names: Sequence[tuple[str, str]], implementations: Iterable[str]):
        widest = lambda texts: max(map(len, texts), default=0)
        self.widths = {
            "kernel": widest([kernel for kernel, _ in names]), "shape": widest([shape for _, shape in names]),
            "by": widest(implementations), "time": 8, "±": 5, "cold": 8, "GFLOP/s": 7, "GB/s": 6, "% of roof": 9,
            "x first": 7, "error": 5,
        }  # fmt: skip
        self.begun = False

    def lines(self, report: Report, rows: Iterable[Row]) -> list[str]:
        """These rows of the report, under the columns' names the first time."""
        shown = [_cells(report, row) for row in rows]
        heads = [] if self.begun else [{name: name for name in (*self.widths, "takes")}]
        self.begun = True
        return [self._line(cells) for cells in heads + shown]

    def _line(self, cells):
        left = ("kernel", "shape", "by")
        texts = (cells.get(n, "").ljust(w) if n in left else cells.get(n, "").rjust(w) for n, w in self.widths.items())
        return "  ".join([*texts, cells.get("takes", "")]).rstrip()


def _time(times: Times | None) -> str:
    return "" if times is None else f"{'' if times.settled else '~'}{duration(times.median)}"


def _cells(report: Report, row: Row) -> dict[str, str]:
    cells = {"kernel": row.kernel, "shape": row.shape, "by": row.implementation}
    if row.hot is None:
        return cells | {"time": row.status.upper()}
    first = next(r.hot.median for r in report.rows if (r.kernel, r.shape) == (row.kernel, row.shape) and r.hot)
    return cells | {
        "time": _time(row.hot),
        "±": f"{100 * row.hot.noise:.0f}%",
        "cold": _time(row.cold),
        "launch": "" if row.launch is None else duration(row.launch),
        "GFLOP/s": f"{row.gflops:.1f}",
        "GB/s": f"{row.gbytes:.1f}",
        "% of roof": f"{100 * row.roofline:.0f}",
        "x first": "" if row.hot.median is first else f"{row.hot.median / first:.2f}",
        "error": f"{row.error:.0e}",
        "takes": row.takes,
    }


def _heading(report: Report) -> str:
    facts, peaks = report.facts, report.peaks
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    cores = facts["pinned to cores"]
    held = f"pinned to cores {', '.join(map(str, cores))}" if cores else "not pinned"
    bandwidths = ", ".join(f"{_size(size)} {max(peaks.copy[size], peaks.read[size]):.0f}" for size in peaks.copy)
    return (
        f"{facts['machine']}, {facts['threads']} threads {held}, load {facts['load before']} before; {facts['date']}\n"
        f"{versions}\n"
        f"peaks in {peaks.dtype}: matrix {peaks.matrix:.0f} GFLOP/s, multiply-add {peaks.fma:.0f} GFLOP/s; "
        f"GB/s by working set: {bandwidths}"
    )


def peaks_table(found: Iterable[Peaks]) -> str:
    """Peaks for several numbers of threads, the best of copying and reading for each size of a working set.

    >>> print(cr.bench.peaks_table([cr.bench.Peaks("float32", 1, {1 << 20: 50.0}, {1 << 20: 40.0}, 80.0, 100.0)]))
    threads  matrix GFLOP/s  multiply-add GFLOP/s  1 MiB GB/s
          1             100                    80          50
    """
    return table(
        {
            "threads": str(peaks.threads),
            "matrix GFLOP/s": f"{peaks.matrix:.0f}",
            "multiply-add GFLOP/s": f"{peaks.fma:.0f}",
            **{f"{_size(size)} GB/s": f"{max(peaks.copy[size], peaks.read[size]):.0f}" for size in peaks.copy},
        }
        for peaks in found
    )


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _remarks(report: Report) -> list[str]:
    facts, peaks = report.facts, report.peaks
    remarks = [facts["stopped"]] if "stopped" in facts else []
    if any(t and not t.settled for row in report.rows for t in (row.hot, row.cold)):
        remarks.append(f"~ undecided: the noise stayed above {100 * facts['noise bound']:.0f}%")
    if abs(peaks.drift) > _STEADY:
        remarks.append(
            f"the machine was not steady (heat, or other work): a matrix product ran at {peaks.matrix:.0f} GFLOP/s "
            f"before and at {peaks.after:.0f} after; measure again"
        )
    for row in report.rows:
        if row.hot is None:
            remarks.append(f"{row.status.upper()}: {row.kernel}, {row.shape}, by {row.implementation}: {row.note}")
    return ["", *remarks] if remarks else []


# ---- a page ----------------------------------------------------------------------------------------------------------


def page(report: Report, source: str) -> str:
    """The report as Markdown: the machine, its peaks, and a table for each kernel, the fastest time of a shape in bold.

    The first implementation comes with its share of the roofline and what it chose, then the others, peers before
    algorithms; a cell has the median on warm buffers, ~ where it is not settled. `source` names the file.

    >>> row = cr.bench.Row("double", "kernel", "n=4", {"n": 4}, "chainrule", "float32", "timed")
    >>> row.hot, row.floor = cr.bench.Times.of([2e-3] * 3, bound=0.03), 1e-3
    >>> facts = {"machine": "a CPU", "threads": 2, "date": "2026-01-01T10:00", "versions": {"numpy": "2"}}
    >>> peaks = cr.bench.Peaks("float32", 1, {1: 1.0}, {1: 1.0}, 1.0, 1.0)
    >>> text = cr.bench.page(cr.bench.Report(facts, peaks, [row]), "today.json")
    >>> print(*text.splitlines()[-3:], sep=chr(10))
    | shape | chainrule | % of roof |
    |---|---:|---:|
    | n=4 | **2.00 ms** | 50 |
    """
    facts, peaks = report.facts, report.peaks
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"Measured on {facts['date'][:10]}, {facts['threads']} threads: {facts['machine']}; {versions}. Peaks in "
        f"{peaks.dtype}: matrix {peaks.matrix:.0f} GFLOP/s, multiply-add {peaks.fma:.0f} GFLOP/s. From `{source}`.",
    ]
    kernels: dict[str, list[Row]] = {}
    for row in report.rows:
        kernels.setdefault(row.kernel, []).append(row)
    for kernel, rows in kernels.items():
        lines += ["", f"## {kernel[0].upper()}{kernel[1:]}", "", *_grid(rows)]
    return "\n".join(lines) + "\n"


def _grid(rows: list[Row]) -> list[str]:
    places = {name: place for place, name in enumerate((OURS, CAPTURED, *PEERS))}
    first, *others = sorted(dict.fromkeys(row.implementation for row in rows), key=lambda n: places.get(n, len(places)))
    chosen = any(row.takes for row in rows)
    head = ["shape", first, "% of roof", *(["chosen"] if chosen else []), *others]
    lines = [f"| {' | '.join(head)} |", "".join("|---" if n in ("shape", "chosen") else "|---:" for n in head) + "|"]
    for shape in dict.fromkeys(row.shape for row in rows):
        found = {row.implementation: row for row in rows if row.shape == shape}
        best = min((row.hot.median for row in found.values() if row.hot), default=0.0)
        own = found.get(first)
        share = f"{100 * own.roofline:.0f}" if own and own.hot else ""
        taken = [own.takes if own else ""] if chosen else []
        cells = [shape, _cell(own, best), share, *taken, *(_cell(found.get(name), best) for name in others)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(row: Row | None, best: float) -> str:
    if row is None:
        return ""
    if row.hot is None:
        return row.status
    return f"**{_time(row.hot)}**" if row.hot.median == best else _time(row.hot)


# ---- two runs --------------------------------------------------------------------------------------------------------


def verdict(before: Times, after: Times) -> str:
    """ "faster", "slower", "same" or "undecided", of the second.

    With d the logarithm of their ratio, known to ± the sum w of both noises: the same where |d| + w is at most 5%, else
    different where |d| is above w, else undecided.

    >>> one = cr.bench.Times.of([1.0, 1.0, 1.0], bound=0.03)
    >>> two = cr.bench.Times.of([2.0, 2.0, 2.0], bound=0.03)
    >>> cr.bench.verdict(one, two), cr.bench.verdict(two, one), cr.bench.verdict(one, one)
    ('slower', 'faster', 'same')
    """
    off, noise = math.log(after.median / before.median), before.noise + after.noise
    if abs(off) + noise <= _ALIKE:
        return "same"
    if abs(off) <= noise:
        return "undecided"
    return "slower" if off > 0 else "faster"


def compare(before: Report, after: Report) -> list[dict]:
    """A row for each that both reports have: its names, both times, their ratio and the verdict (`verdict`).

    What was timed in one and is not in the other is "missing", "wrong", "impossible" or "failed" there.

    >>> report = cr.bench.Report({}, cr.bench.Peaks("float32", 1, {1: 1.0}, {1: 1.0}, 1.0, 1.0), [])
    >>> cr.bench.compare(report, report)
    []
    """
    known, rows = {row.key: row for row in before.rows}, []
    later = {row.key: row for row in after.rows}
    for key in dict.fromkeys([*known, *later]):
        a, b = known.get(key), later.get(key)
        row: dict[str, Any] = dict(zip(("kernel", "shape", "implementation", "dtype"), key, strict=True))
        if a and b and a.hot and b.hot:
            row |= {"before": a.hot.median, "after": b.hot.median, "ratio": b.hot.median / a.hot.median}
            rows.append(row | {"verdict": verdict(a.hot, b.hot)})
        else:
            rows.append(row | {"verdict": f"{_state(a)} before, {_state(b)} after"})
    return rows


def _state(row: Row | None) -> str:
    return "missing" if row is None else row.status


def compared(before: Report, after: Report) -> str:
    """The table of `compare`, how many of each verdict there are, and what makes the two runs differ by itself.

    >>> report = cr.bench.Report({}, cr.bench.Peaks("float32", 1, {1: 1.0}, {1: 1.0}, 1.0, 1.0), [])
    >>> print(cr.bench.compared(report, report))
    nothing to compare
    """
    rows = compare(before, after)
    if not rows:
        return "nothing to compare"
    shown: dict[str, Callable] = {"before": duration, "after": duration, "ratio": "{:.2f}".format}
    cells = [{name: shown.get(name, str)(value) for name, value in row.items()} for row in rows]
    verdicts = [row["verdict"] for row in rows]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    return "\n".join([table(cells), "", counts, *_differences(before, after)])


def _differences(before: Report, after: Report) -> list[str]:
    """Facts that make times differ without any change of a kernel."""
    said = [
        f"other {name}: {before.facts.get(name)} before, {after.facts.get(name)} after"
        for name in ("machine", "device", "threads")
        if before.facts.get(name) != after.facts.get(name)
    ]
    ratio = after.peaks.matrix / before.peaks.matrix
    if abs(ratio - 1) > _STEADY:
        said.append(f"the machine itself ran at {ratio:.2f} of its rate before: read ratios of times with that in mind")
    return said
