"""Loops whose range the worker threads share from compiled code: the same as one thread's, whoever calls and when."""

import os
import threading
import time

import numpy as np
import pytest

from chainrule.kernels.cpu import workers
from chainrule.kernels.cpu.jit import has_numba

needs_numba = pytest.mark.skipif(not has_numba(), reason="compiled loops alone are shared this way")


def _count_numpy(into, by, first, last):
    into[first:last] += by


@workers.shared(_count_numpy)
def count(into, by, first, last):
    for i in range(first, last):
        into[i] += by


@workers.shared(None)
def slices(into, first, last):
    into[first] = last


@workers.shared(None)
def slow(into, looks, first, last):
    for i in range(first, last):
        for _ in range(looks):
            into[i, 0] = into[i, 0] * 0.999 + 1


@workers.shared(None)
def greedy(size, into, first, last):
    into[first] = len(np.empty(size, np.float64))


@pytest.mark.parametrize("threads_wanted", [1, 2, 5])
@pytest.mark.parametrize("n, grain, turns", [(0, 1, 1), (1, 1, 1), (7, 1, 1), (1000, 1, 3), (100, 30, 2), (5, 2.5, 1)])
def test_every_element_once(path, threads, threads_wanted, n, grain, turns):
    threads(threads_wanted)
    into = np.zeros(n)
    for _ in range(20):
        count(n, into, 2.0, grain=grain, turns=turns)
    np.testing.assert_array_equal(into, np.full(n, 40.0))


@needs_numba
@pytest.mark.parametrize("n, grain, turns", [(7, 1, 1), (1000, 1, 3), (100, 30, 2), (3, 10, 1), (5, 2.5, 1)])
def test_slices_depend_on_the_number_of_threads_alone(threads, n, grain, turns):
    threads(3)
    parts = max(1, min(3 * turns, int(n // grain)))
    for _ in range(50):
        into = np.zeros(n, np.int64)
        slices(n, into, grain=grain, turns=turns)
        starts = np.flatnonzero(into)
        assert starts.tolist() == [n * i // parts for i in range(parts)]
        assert into[starts].tolist() == [n * (i + 1) // parts for i in range(parts)]


@needs_numba
def test_many_callers_at_once(threads):
    threads(3)
    wrong = []

    def caller(by):
        into = np.zeros(64)
        for _ in range(500):
            count(64, into, by)
        if not np.array_equal(into, np.full(64, 500.0 * by)):
            wrong.append(by)

    callers = [threading.Thread(target=caller, args=(float(k),)) for k in range(1, 9)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in callers)


@needs_numba
def test_inside_of_a_slice_one_thread_does_it_all(threads):
    threads(3)
    into = np.zeros((3, 10))

    def outer(first, last):
        for i in range(first, last):
            count(10, into[i], 1.0)

    workers.run(outer, 3)
    np.testing.assert_array_equal(into, np.ones((3, 10)))


@needs_numba
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core takes turns")
def test_two_threads_work_at_the_same_time(threads):
    """Of many tries at least one takes clearly less than one thread's time, however busy the machine is."""
    into, looks = np.zeros((2, 64)), 200_000

    def least():
        times = []
        for _ in range(60):
            start = time.perf_counter()
            slow(2, into, looks, grain=0.1)
            times.append(time.perf_counter() - start)
            if min(times) < 0.8 * alone:
                break
        return min(times)

    threads(1)
    alone = 0.0
    alone = least()
    threads(2)
    assert least() < 0.8 * alone


@needs_numba
def test_a_loop_without_memory_says_so(threads):
    threads(2)
    with pytest.raises(MemoryError, match="greedy: no memory for its own working arrays; take smaller ones"):
        greedy(2, 1 << 60, np.zeros(2))
    into = np.zeros(2)
    greedy(2, 8, into)
    assert into.tolist() == [8, 8]


@needs_numba
@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_workers_of_its_own(threads):
    threads(2)
    count(64, np.zeros(64), 1.0)
    child = os.fork()
    if child == 0:
        into = np.zeros(64)
        for _ in range(100):
            count(64, into, 1.0)
        os._exit(0 if np.array_equal(into, np.full(64, 100.0)) else 1)
    deadline = time.monotonic() + 60
    done, status = os.waitpid(child, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.01)
        done, status = os.waitpid(child, os.WNOHANG)
    assert done and os.waitstatus_to_exitcode(status) == 0


def test_workers_are_called_for_loops_that_follow_each_other_closely(threads, monkeypatch):
    threads(2)
    woken, now, there = [], [0], [0]
    monkeypatch.setattr(workers, "_wake", woken.append)
    monkeypatch.setattr(workers, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(workers.team, "waiting", lambda board: there[0])
    workers._missed[:] = 0, -workers._LATELY

    def called(grains, after=0):
        now[0] += after
        before = len(woken)
        assert workers.attended(grains) == bool(there[0])
        return len(woken) > before

    assert called(workers._WORTH_WAKING)
    assert [called(6) for _ in range(6)] == [False, False, True] * 2
    assert not any([called(6, after=workers._LATELY + 1) for _ in range(6)])
    there[0] = 1
    assert not any([called(6) for _ in range(6)])


def test_nobody_shares_what_is_of_one_thread(threads, monkeypatch):
    monkeypatch.setattr(workers, "_called", lambda helpers, grains: helpers)
    threads(3)
    assert [workers.attended(grains) for grains in (0, 1, 2, 3, 9)] == [False, False, 1, 2, 2]
    within = []
    workers.run(lambda first, last: within.append(workers.attended(9)), 1)
    workers.run(lambda first, last: within.append(workers.attended(9)), 2)
    assert within == [2, False, False]  # nothing is shared by a single slice
    threads(1)
    assert not workers.attended(9)
