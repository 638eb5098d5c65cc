"""Times that say how sure they are: contestants take turns, medians with a spread, until the noise is low enough."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import cycle
from typing import NamedTuple, TypeVar

NOISE = 0.03  # to stop at: half the width of a median's 95% interval, as a share of the median
SECONDS = 2.0  # for one contestant at most
SAMPLE = 2e-3  # seconds: shorter calls are timed several at a time
LEAST, _MOST = 7, 400  # samples

Name = TypeVar("Name", bound=Hashable)
Sample = Callable[[int], float]  # seconds that so many calls took


class Times(NamedTuple):
    """The seconds of one call: median, quartiles, noise (see `noise_of`), samples, whether the noise fell to the bound.

    >>> cr.bench.Times.of([1.0, 1.1, 1.2, 1.1, 1.1], bound=0.03).median
    1.1
    """

    median: float
    low: float
    high: float
    noise: float
    samples: int
    settled: bool

    @classmethod
    def of(cls, seconds: list[float], bound: float) -> Times:
        """The times of these samples; they are settled where the noise is at most `bound`."""
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        noise = noise_of(seconds)
        return cls(middle, low, high, noise, len(seconds), noise <= bound)


def noise_of(seconds: list[float]) -> float:
    """How far the median may be off, as a share of it: 1.57 (q₃ − q₁) / √n over the median.

    Two medians that lie further apart than their noises together differ at about 95% (McGill, Tukey & Larsen, 1978).

    >>> from chainrule.bench.clock import noise_of
    >>> noise_of([1.0, 1.0, 1.0, 1.0])
    0.0
    """
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return 1.57 * (high - low) / len(seconds) ** 0.5 / middle


def stopwatch(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Sample:
    """What times so many calls in a row, after one that is not timed: the caches had been another contestant's.

    >>> from chainrule.bench.clock import stopwatch
    >>> ticks = iter([5.0, 8.0])
    >>> stopwatch(lambda: None, clock=lambda: next(ticks))(3)
    3.0
    """

    def sample(count: int) -> float:
        call()
        start = clock()
        for _ in range(count):
            call()
        return clock() - start

    return sample


def walking(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """What makes the next of these calls each time.

    >>> from chainrule.bench.clock import walking
    >>> call = walking([lambda: "a", lambda: "b"])
    >>> call(), call(), call()
    ('a', 'b', 'a')
    """
    if len(calls) == 1:
        return calls[0]
    ring = cycle(calls)
    return lambda: next(ring)()


def take_turns(
    contestants: Mapping[Name, Sample], *, noise: float = NOISE, seconds: float = SECONDS
) -> dict[Name, Times]:
    """The times of all contestants: each gives a sample in each round, and every other round goes backwards.

    It ends when every noise is at most `noise`, or after `seconds` for each contestant. Two samples warm up, and say
    how many calls make one that the clock can tell.

    >>> times = cr.bench.take_turns({"sum": cr.bench.stopwatch(lambda: sum(range(1000)))}, seconds=0.01)
    >>> times["sum"].samples >= 7
    True
    """
    counts = {}
    for name, sample in contestants.items():
        sample(1)
        counts[name] = max(1, round(SAMPLE / max(sample(1), 1e-9)))
    taken: dict[Name, list[float]] = {name: [] for name in contestants}
    spent, order = 0.0, list(contestants)
    for turn in range(_MOST):
        for name in order:
            took = contestants[name](counts[name])
            taken[name].append(took / counts[name])
            spent += took
        order.reverse()
        if turn + 1 >= LEAST:
            quiet = all(noise_of(seconds) <= noise for seconds in taken.values())
            if quiet or spent > seconds * len(contestants):
                break
    return {name: Times.of(seconds, noise) for name, seconds in taken.items()}
