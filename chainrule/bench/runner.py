"""Proves, then times: every implementation of every kernel at every shape, in turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from tqdm import tqdm

from ..kernels import for_device
from ..kernels.cpu import workers
from . import machine
from .clock import LEAST, NOISE, SAMPLE, SECONDS, Sample, Times, stopwatch, take_turns, walking
from .kernel import Kernel, Maker, as_dtype
from .peaks import Peaks, computed_in, matrix_rate, measure
from .remote import Remote, installed
from .report import Live, Report, Row, duration
from .sides import OURS

_MOST_SETS, _MOST_BYTES = 64, 1 << 29  # of the buffers that a cold measurement walks through
_SLACK = 1.05  # by which a time may be under its floor: peaks have noise too
_AGAIN = 3  # times to measure the peaks anew before a time is refused
# for the estimate: seconds to prepare a contestant, FLOPs a second of proofs and of kernels, samples until all is quiet
_PREPARED, _PROVEN, _COMPUTED, _SAMPLES = 0.1, 1e10, 3e10, 25


class Field:
    """One kernel at one shape, with the implementations that this process runs."""

    def __init__(
        self, kernel: Kernel, axes: Mapping, dtype: str, device: str, makers: Mapping[str, Maker],
        clock: Callable[[], float] = time.perf_counter,
    ):  # fmt: skip
        self.kernel, self.axes, self.dtype, self.device, self.clock = kernel, axes, dtype, device, clock
        self.makers = makers
        self.arrays = kernel.arrays(axes, dtype)
        self.expected = kernel.expected(axes, dtype)
        self.bytes = sum(array.nbytes for array in self.arrays)
        size = max(1, self.bytes)
        self.sets = max(2, min(_MOST_SETS, _MOST_BYTES // size, 1 + 2 * machine.caches() // size))
        self.moved = self.bytes + self.expected.size * as_dtype(dtype).itemsize
        self.samples: dict[tuple[str, bool], Sample] = {}

    def made(self, name: str):
        """An implementation with inputs of its own."""
        return self.makers[name]([array.copy() for array in self.arrays], self.axes, self.device)

    def prove(self, name: str) -> tuple[float, str]:
        """(the error of its first results, "" or what is wrong with them)."""
        ready = self.made(name)
        return self.judge(ready.read(ready.call()))

    def judge(self, results: Sequence[np.ndarray]) -> tuple[float, str]:
        """As `prove`, of results that are there."""
        error, complaint = self.expected.complaint(results)
        return float(error), complaint

    def sample(self, name: str, cold: bool, count: int) -> float:
        """Seconds of so many calls; cold: each on other buffers than the calls before it."""
        if (name, cold) not in self.samples:
            calls = [self.made(name).call for _ in range(self.sets if cold else 1)]
            self.samples[name, cold] = self._timer(calls)
        return self.samples[name, cold](count)

    def _timer(self, calls: Sequence[Callable]) -> Sample:
        if self.device != "cuda":
            return stopwatch(walking(calls), self.clock)
        from .cuda import captured, on_events

        return on_events(walking([captured(call) for call in calls]))

    def launch(self, name: str) -> float | None:
        """Seconds that the host needs to launch it, on a GPU."""
        if self.device != "cuda":
            return None
        from .cuda import launch_seconds

        return launch_seconds(self.made(name).call)


def run(
    kernels: Iterable[Kernel],
    *,
    device: str = "cpu",
    dtype: str = "float32",
    impl: str | Sequence[str] | None = None,
    compare: str | Sequence[str] = (),
    threads: int | None = None,
    seconds: float = SECONDS,
    noise: float = NOISE,
    peaks: Peaks | None = None,
    clock: Callable[[], float] = time.perf_counter,
    progress: bool = True,
    each: Callable[[Report], object] = lambda report: None,
) -> Report:
    """Prove and time kernels, and report each implementation at each shape.

    With `progress`, rows are printed on standard error as they are measured, under an estimate of how long it takes. An
    interrupt (Ctrl-C) ends the run early with the rows so far.

    impl: of those names alone. compare: peers, for kernels of the suite. seconds: for one contestant at most. noise:
    the bound at which a row is settled (`take_turns`). peaks: those measured before; without, they are measured now,
    and the product again at the end. clock: what tells the time. each: called with the report so far after every shape.

    Errors: ValueError for names that nothing has, ImportError for a peer that is not installed, RuntimeError for a GPU
    that is not there.

    >>> peaks = cr.bench.Peaks("float32", 1, {65536: 1e4}, {65536: 1e4}, 1e5, 1e5)
    >>> report = cr.bench.run(
    ...     cr.bench.kernels("matmul", "lenet"), threads=1, seconds=0.01, peaks=peaks, progress=False)
    >>> {row.status for row in report.rows}
    {'timed'}
    """
    for_device(device)
    todo = [(kernel, shape, axes) for kernel in kernels for shape, axes in kernel.rows()]
    peers = installed(compare)
    if peers and device != "cpu":
        raise ValueError(
            f"--compare {','.join(peers)} with --device {device}: peers are timed on the CPU alone; leave one out"
        )
    wanted = _wanted(impl, todo, device, peers)
    threads = threads or workers.get_num_threads()
    with machine.pinned(threads) as cores:
        facts = machine.facts(device, threads) | {"pinned to cores": cores, "noise bound": noise}
        say = partial(tqdm.write, file=sys.stderr) if progress else lambda text: None
        say(_announced(todo, facts, dtype, wanted, peers, seconds, device))
        found = peaks or measure(dtype, threads, device)
        remotes = {name: Remote(name, threads) for name in peers if name in wanted}
        facts["versions"] |= {name: remote.version for name, remote in remotes.items()}
        report, live = Report(facts, found, []), Live([(kernel.name, shape) for kernel, shape, _ in todo], wanted)
        try:
            for kernel, shape, axes in tqdm(todo, disable=None if progress else True, leave=False, unit="row"):
                makers = {name: maker for name, maker in kernel.makers(axes, device).items() if name in wanted}
                field = Field(kernel, axes, dtype, device, makers, clock)
                sides = dict.fromkeys(makers, field) | {name: r for name, r in remotes.items() if name in kernel.peers}
                rows = _Race(report, field, shape, sides, peaks is None).rows(seconds, noise)
                report.rows += rows
                for line in live.lines(report, rows):
                    say(line)
                each(report)
        except KeyboardInterrupt:
            done = len({(row.kernel, row.shape) for row in report.rows})
            facts["stopped"] = f"stopped before the end: {done} of {len(todo)} shapes were measured"
        finally:
            for remote in remotes.values():
                remote.stop()
        if peaks is None and device == "cpu":
            report.peaks.after = matrix_rate(computed_in(dtype))
        for row in report.rows:
            report.floors(row)  # by the best of the peaks
    return report


def _wanted(impl, todo, device, peers) -> set[str]:
    """The names of the implementations to run."""
    known = {name for kernel, _, axes in todo for name in kernel.makers(axes, device)} | set(peers)
    if not impl:
        return known
    asked = set(impl.split(",") if isinstance(impl, str) else impl)
    if asked - known:
        raise ValueError(
            f"--impl {','.join(sorted(asked - known))}: no kernel that was chosen has it; there is "
            f"{', '.join(sorted(known))} (peers are named by --compare)"
        )
    return asked


def _announced(todo, facts, dtype, wanted, peers, seconds, device) -> str:
    quiet = most = 5.0
    for kernel, _, axes in todo:
        contestants = len(wanted & {*peers} & {*kernel.peers}) + len(wanted & {*kernel.makers(axes, device)})
        flops, samples = kernel.given(kernel.flops, axes, dtype), contestants * (1 + kernel.cold)
        proof = (1 + 2 * kernel.gradients) * flops / _PROVEN + samples * _PREPARED
        call = flops / _COMPUTED
        sample = max(SAMPLE, call)
        untimed = 1 + call / sample  # a call before each sample
        quiet += proof + samples * untimed * min(seconds, _SAMPLES * sample)
        most += proof + samples * untimed * max(seconds, LEAST * sample)
    cores = ", ".join(map(str, facts["pinned to cores"]))
    return (
        f"{len(todo)} shapes in {dtype} on {device}: {facts['machine']}, {facts['threads']} threads "
        f"{f'pinned to cores {cores}' if cores else 'not pinned'}; about {_long(quiet)} where nothing else runs, "
        f"at most about {_long(most)}; Ctrl-C keeps what was measured"
    )


def _long(seconds):
    return f"{seconds / 60:.0f} minutes" if seconds > 90 else f"{seconds:.0f} seconds"


class _Race:
    """The contestants of one kernel at one shape, from their proof to their rows."""

    def __init__(self, report: Report, field: Field, shape: str, sides: Mapping[str, Any], measured: bool):
        self.report, self.field, self.shape, self.sides, self.measured = report, field, shape, sides, measured

    def rows(self, seconds: float, noise: float) -> list[Row]:
        """A row for each."""
        rows = {name: self._proven(name) for name in self.sides}
        right = [name for name, row in rows.items() if row.status == "timed"]
        for (name, buffers), times in self._times(right, seconds, noise).items():
            setattr(rows[name], buffers, times)
        for name in right:
            self._judge(rows[name])
            rows[name].launch = self.sides[name].launch(name)
        return list(rows.values())

    def _proven(self, name: str) -> Row:
        field, side = self.field, self.sides[name]
        row = Row(field.kernel.name, field.kernel.group, self.shape, dict(field.axes), name, field.dtype)
        row.takes = field.kernel.takes(field.axes, field.dtype) if name == OURS and field.device == "cpu" else ""
        try:
            if isinstance(side, Remote):
                side.open(field)
            row.error, row.note = side.prove(name)
            row.status = "wrong" if row.note else "timed"
        except Exception as error:
            row.status, row.note = "failed", f"{type(error).__name__}: {error}"
        return row

    def _times(self, names, seconds, noise) -> dict[tuple[str, str], Times]:
        """The times on hot and on cold buffers, in one race: what slows the machine down slows both."""
        sample = lambda name, buffers: lambda count: self.sides[name].sample(name, buffers == "cold", count)
        kinds = ("hot", "cold") if self.field.kernel.cold else ("hot",)
        contestants = {(name, buffers): sample(name, buffers) for name in names for buffers in kinds}
        return take_turns(contestants, seconds=seconds, noise=noise) if names else {}

    def _judge(self, row: Row) -> None:
        """Fill in the work and the floors; a time under its floor is refused."""
        field, report = self.field, self.report
        moved, row.flops, row.least = field.kernel.work(field.axes, field.dtype, field.moved)
        row.bytes, row.size, row.sets = moved, min(moved, field.moved), field.sets
        for left in range(_AGAIN if self.measured else 0, -1, -1):
            report.floors(row)
            pairs = ((row.hot, row.least_floor), (row.cold, row.cold_floor or 0.0))
            under = [(times.median, floor) for times, floor in pairs if times and times.median * _SLACK < floor]
            if not under:
                return
            if left:
                report.peaks = report.peaks.best(measure(field.dtype, report.peaks.threads, field.device))
        row.status = "impossible"
        row.note = (
            f"{duration(under[0][0])}, but this machine cannot move {row.bytes:.3g} bytes and compute {row.least:.3g} "
            f"FLOPs in less than {duration(under[0][1])}: the work declared is not done, or less was needed"
        )
        row.hot = row.cold = None
