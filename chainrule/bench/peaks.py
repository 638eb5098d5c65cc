"""What this machine can do at best, measured on the spot: bandwidth by the size of the working set, and FLOP/s.

A floor computed from these is a claim that nothing runs faster; so each peak is the best of several tries, and what is
below a floor makes the peaks be measured again before it is refused.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np

from ..kernels import for_device
from ..kernels.cpu import workers
from ..kernels.cpu.jit import jit
from .machine import pinned

_SIZES = tuple(1 << power for power in (16, 18, 20, 22, 24, 26, 28))  # bytes of a working set
_SIDE = 1024  # of the square matrices
_GPU = 1 << 28, 8192  # bytes of a copy and side of the matrices, on a GPU
_TRIES = 8
_PASSED = 1 << 22  # bytes that one call of a loop passes over, at least


@dataclass
class Peaks:
    """Peaks of one dtype for one number of threads.

    copy, read: bytes of the working set -> GB/s of copies, or of updates in place where they are quicker (both counted
    twice: read and write), and of reading. fma: GFLOP/s of a loop
    of multiply-adds on registers. matrix: GFLOP/s of a matrix product; after: once more, at the end of a run.

    >>> peaks = cr.bench.Peaks("float32", 1, {1000: 50.0}, {1000: 40.0}, fma=80.0, matrix=100.0)
    >>> peaks.floor(moved=50e9, flops=100e9, size=1000)
    1.0
    """

    dtype: str
    threads: int
    copy: dict[int, float]
    read: dict[int, float]
    fma: float
    matrix: float
    after: float | None = None

    @property
    def rate(self) -> float:
        """The most GFLOP/s."""
        return max(self.fma, self.matrix, self.after or 0.0)

    def bandwidth(self, size: float) -> float:
        """The most GB/s on a working set of so many bytes.

        That of the largest set measured that is no larger, or of any larger one: less data never takes longer.
        """
        least = max([s for s in self.copy if s <= size], default=min(self.copy))
        return max(max(self.copy[s], self.read[s]) for s in self.copy if s >= least)

    def floor(self, moved: float, flops: float, size: float) -> float:
        """The seconds below which nothing can move so many bytes and compute so many FLOPs."""
        return max(moved / self.bandwidth(size), flops / self.rate) / 1e9

    def best(self, other: Peaks) -> Peaks:
        """The better of both in everything."""
        join = lambda a, b: {size: max(a[size], b[size]) for size in a}
        return Peaks(
            self.dtype, self.threads, join(self.copy, other.copy), join(self.read, other.read),
            max(self.fma, other.fma), max(self.matrix, other.matrix), self.after,
        )  # fmt: skip

    @property
    def drift(self) -> float:
        """By how much the product was slower (−) or faster at the end, as a share."""
        return 0.0 if self.after is None else self.after / self.matrix - 1

    def to_json(self) -> dict:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict) -> Peaks:
        """What `to_json` gave, also after it was text."""
        sizes = lambda table: {int(size): rate for size, rate in table.items()}
        return cls(**{**found, "copy": sizes(found["copy"]), "read": sizes(found["read"])})


def best_of(work: Callable[[], object], tries: int = _TRIES, least: float = 2e-3) -> float:
    """The seconds of the quickest try; a try repeats the work until it lasts `least` seconds.

    >>> from chainrule.bench.peaks import best_of
    >>> best_of(lambda: None, tries=2, least=1e-5) > 0
    True
    """
    work()
    count, best = 1, float("inf")
    while tries:
        start = time.perf_counter()
        for _ in range(count):
            work()
        took = time.perf_counter() - start
        if took < least:
            count *= 2
        else:
            best, tries = min(best, took / count), tries - 1
    return best


def measure(dtype: str = "float32", threads: int | None = None, device: str = "cpu") -> Peaks:
    """The peaks for arrays of `dtype`; 16-bit numbers are computed with in float32 on the CPU.

    >>> peaks = cr.bench.measure("float32", 1)  # doctest: +SKIP
    """
    if device == "cuda":
        return _on_cuda(dtype)
    threads = threads or workers.get_num_threads()
    kind = computed_in(dtype)
    with pinned(threads):
        copy = {size: max(_speed(way, size, kind) for way in (_copies, _updates)) for size in _SIZES}
        read = {size: max(_speed(way, size, kind) for way in (_products, _sums)) for size in _SIZES}
        return Peaks(dtype, threads, copy, read, _fma_rate(kind, threads), matrix_rate(kind))


def computed_in(dtype: str) -> np.dtype:
    """The dtype in which the CPU computes with numbers of `dtype`.

    >>> from chainrule.bench.peaks import computed_in
    >>> computed_in("float16")
    dtype('float32')
    """
    return np.dtype(dtype if dtype in ("float32", "float64") else "float32")


def by_threads(dtype: str = "float32", most: int | None = None) -> list[Peaks]:
    """The peaks with 1, 2, 4, … threads, and with `most`: those in use, unless it is given.

    >>> from chainrule.bench.peaks import by_threads
    >>> [peaks.threads for peaks in by_threads(most=1)]
    [1]
    """
    most = most or workers.get_num_threads()
    counts = {*(1 << power for power in range(most.bit_length())), most}
    return [measure(dtype, threads) for threads in sorted(counts)]


Way = Callable[[int, np.dtype], tuple[Callable[[], object], int]]  # (size, dtype) -> (work, bytes that it moves)


def _speed(way: Way, size: int, kind: np.dtype) -> float:
    """GB/s on a working set of so many bytes."""
    work, moved = way(size, kind)
    return moved / best_of(work) / 1e9


def _copies(size: int, kind: np.dtype) -> tuple[Callable[[], object], int]:
    """The C library's copy, which large sets like."""
    x, y = (np.ones(size // 2 // kind.itemsize, kind) for _ in range(2))

    def part(start, stop):
        y[start:stop] = x[start:stop]

    return partial(workers.run, part, len(x)), size


def _updates(size: int, kind: np.dtype) -> tuple[Callable[[], object], int]:
    """A loop that reads and writes in place, many times without a call: what a cache can do for small sets."""
    x, rounds = np.zeros(size // kind.itemsize, kind), max(1, _PASSED // size)
    return partial(workers.run, lambda start, stop: _update(x[start:stop], rounds), len(x)), 2 * size * rounds


def _products(size: int, kind: np.dtype) -> tuple[Callable[[], object], int]:
    x = np.ones(size // kind.itemsize, kind)
    return partial(workers.run, lambda start, stop: np.dot(x[start:stop], x[start:stop]), len(x)), size


def _sums(size: int, kind: np.dtype) -> tuple[Callable[[], object], int]:
    x, rounds = np.ones(size // kind.itemsize, kind), max(1, _PASSED // size)
    return partial(workers.run, lambda start, stop: _sum(x[start:stop], rounds), len(x)), size * rounds


def _update_numpy(x, rounds):
    for _ in range(rounds):
        np.negative(x, out=x)


@jit(_update_numpy)
def _update(x, rounds):
    for _ in range(rounds):
        for i in range(len(x)):
            x[i] = -x[i]


def _sum_numpy(x, rounds):
    return sum(x.sum() for _ in range(rounds))


@jit(_sum_numpy, reassociate=True)
def _sum(x, rounds):
    total = x[0]
    for _ in range(rounds):
        for i in range(len(x)):
            total += x[i]
    return total


def matrix_rate(kind: np.dtype, side: int = _SIDE) -> float:
    """GFLOP/s of NumPy's product of two square matrices, with the threads that its BLAS has.

    >>> from chainrule.bench.peaks import matrix_rate
    >>> matrix_rate(np.dtype("float32"), side=64) > 0
    True
    """
    a = np.random.default_rng(0).standard_normal((side, side)).astype(kind)
    out = np.empty_like(a)
    return 2 * side**3 / best_of(lambda: np.matmul(a, a, out=out)) / 1e9


def _fma_rate(kind: np.dtype, threads: int, rounds: int = 2000) -> float:
    """GFLOP/s of multiply-adds on numbers that stay in registers and the nearest cache."""
    rows = np.ones((threads, 2, 256), kind)
    factors = np.array([0.999, 0.001], kind)
    task = lambda start, stop: [_multiply_add(*rows[i], factors, rounds) for i in range(start, stop)]
    return threads * 2 * 16 * 256 * rounds / best_of(partial(workers.run, task, threads)) / 1e9


def _multiply_add_numpy(one, two, factors, rounds):
    for _ in range(8 * rounds):
        for row in (one, two):
            row *= factors[0]
            row += factors[1]


@jit(_multiply_add_numpy)
def _multiply_add(one, two, factors, rounds):
    a, b = factors[0], factors[1]
    for _ in range(rounds):
        for j in range(256):  # vectorised across j; two chains, as one waits for each multiply-add to end
            c, d = one[j], two[j]
            c = c * a + b; d = d * a + b; c = c * a + b; d = d * a + b  # fmt: skip  # noqa: E702
            c = c * a + b; d = d * a + b; c = c * a + b; d = d * a + b  # fmt: skip  # noqa: E702
            c = c * a + b; d = d * a + b; c = c * a + b; d = d * a + b  # fmt: skip  # noqa: E702
            c = c * a + b; d = d * a + b; c = c * a + b; d = d * a + b  # fmt: skip  # noqa: E702
            one[j], two[j] = c, d


def _on_cuda(dtype: str) -> Peaks:
    """Copies and products on the GPU, between events; it has one bandwidth here, that of its memory."""
    import cupy

    from .cuda import on_events

    kernels = for_device("cuda")
    size, side = _GPU
    x, y = cupy.zeros(size, np.uint8), cupy.empty(size, np.uint8)
    a = cupy.ones((side, side), dtype)
    copy = 2 * size / on_events(lambda: cupy.copyto(y, x))(20) * 20 / 1e9
    matrix = 2 * side**3 / on_events(lambda: kernels.matmul(a, a))(5) * 5 / 1e9
    return Peaks(dtype, 1, {2 * size: copy}, {2 * size: copy}, 0.0, matrix)
