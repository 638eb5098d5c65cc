"""The worker threads: errors, nesting, many callers, forks, and BLAS kept to one thread while they work."""

import contextvars
import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from chainrule.kernels.cpu import workers


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("n, grain", [(0, 1), (1, 1), (7, 1), (100, 1), (100, 30), (3, 10)])
def test_slices_cover_the_range_once(n, grain, count, threads):
    threads(count)
    slices = []
    workers.run(lambda start, stop: slices.append((start, stop)), n, grain=grain)
    slices.sort()
    assert [i for start, stop in slices for i in range(start, stop)] == list(range(n))
    assert len(slices) == (max(1, min(count, n // grain)) if n else 0)


def test_slices_run_at_the_same_time(threads):
    threads(3)
    together = threading.Barrier(3, timeout=20)
    workers.run(lambda start, stop: together.wait(), 3)


def test_the_first_slice_that_failed_speaks_and_the_others_finish(threads):
    threads(4)
    finished = []

    def task(start, stop):
        if start in (1, 3):
            raise ValueError(f"slice {start}")
        finished.append(start)

    for _ in range(20):
        finished.clear()
        with pytest.raises(ValueError, match="slice 1"):
            workers.run(task, 4)
        assert sorted(finished) == [0, 2]
    workers.run(lambda start, stop: finished.append(start), 4)


def test_nothing_is_kept_alive_after_the_call(threads):
    threads(3)
    gc.disable()
    try:
        for _ in range(50):
            array = np.ones(3)
            kept = weakref.ref(array)
            workers.run(lambda start, stop, array=array: array.sum(), 3)
            del array
            assert kept() is None
    finally:
        gc.enable()


def test_an_error_leaves_no_cycle(threads):
    threads(2)

    class Mark:
        pass

    def fail():
        mark = Mark()
        kept = weakref.ref(mark)

        def task(start, stop):
            raise ValueError(mark)

        try:
            workers.run(task, 2)
        except ValueError:
            return kept

    gc.disable()
    try:
        kept = fail()
        deadline = time.monotonic() + 5  # the worker drops its own reference when it next runs
        while kept() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert kept() is None
    finally:
        gc.enable()


def test_nested_calls_stay_in_their_thread(threads):
    threads(3)
    seen = []

    def outer(start, stop):
        me = threading.get_ident()
        workers.run(lambda a, b: seen.append((a, b, threading.get_ident() == me)), 9)

    workers.run(outer, 3)
    assert seen == [(0, 9, True)] * 3


def test_context_reaches_the_workers(threads):
    threads(3)
    variable = contextvars.ContextVar("variable", default="lost")
    variable.set("kept")
    seen = []
    with np.errstate(divide="raise"):
        workers.run(lambda start, stop: seen.append((variable.get(), np.geterr()["divide"])), 3)
    assert seen == [("kept", "raise")] * 3


def test_many_callers_at_once(threads):
    threads(3)
    wrong = []

    def caller(k):
        for _ in range(100):
            out = np.zeros(64)

            def task(start, stop, out=out):
                out[start:stop] = np.arange(start, stop) * k

            workers.run(task, 64)
            if not np.array_equal(out, np.arange(64) * k):
                wrong.append(k)

    callers = [threading.Thread(target=caller, args=(k,)) for k in range(12)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert not wrong and not any(thread.is_alive() for thread in callers)
    assert workers.one_blas_thread.depth == 0


def test_blas_uses_one_thread_inside_and_its_own_number_after(threads):
    threads(2)
    before, seen = workers.one_blas_thread.get(), []
    workers.run(lambda start, stop: seen.append(workers.one_blas_thread.get()), 2)
    assert seen == [1, 1] and workers.one_blas_thread.get() == before
    with pytest.raises(ZeroDivisionError):
        workers.run(lambda start, stop: 1 / 0, 2)
    assert workers.one_blas_thread.get() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_works(threads):
    threads(3)
    workers.run(lambda start, stop: None, 3)
    child = os.fork()
    if child == 0:
        total = []
        workers.run(lambda start, stop: total.append(stop - start), 30)
        os._exit(0 if sum(total) == 30 and len(total) == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- parts that wait for each other ----------------------------------------------------------------------------------


def patient(flags):
    """Wait as the loops do, in Python, until somebody fails."""
    deadline = time.monotonic() + 20
    while not flags[0]:
        assert time.monotonic() < deadline, "nobody told"
        time.sleep(0.001)


@pytest.mark.parametrize("wanted, parts", [(1, 1), (2, 2), (3, 3), (9, 3), (0, 1)])
def test_all_parts_run_at_once(wanted, parts, threads):
    threads(3)
    together, seen = threading.Barrier(parts, timeout=20), []

    def task(part, count):
        together.wait()
        seen.append((part, count))

    for _ in range(20):
        workers.together(task, wanted, np.zeros(1))
    assert sorted(seen) == sorted((part, parts) for part in range(parts) for _ in range(20))


def test_a_nested_company_is_one_part(threads):
    threads(2)
    seen = []
    nested = lambda *_: workers.together(lambda part, parts: seen.append((part, parts)), 2, np.zeros(1))
    workers.together(nested, 2, np.zeros(1))
    workers.run(nested, 2)
    assert seen == [(0, 1)] * 4


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("fails", [0, 1, 2])
def test_a_part_that_fails_frees_those_that_wait_for_it(fails, error, threads):
    threads(3)
    flags, gave_up = np.zeros(1), []

    def task(part, parts):
        if part == fails:
            raise error("planted")
        patient(flags)
        gave_up.append(part)

    with pytest.raises(error, match="planted"):
        workers.together(task, 3, flags)
    assert sorted(gave_up) == sorted({0, 1, 2} - {fails})
    workers.together(lambda part, parts: gave_up.clear(), 3, np.zeros(1))
    assert not gave_up, "and the next company finds everything in order"


def test_an_interrupt_while_the_caller_waits_frees_the_others(threads, monkeypatch):
    threads(2)
    flags, begun, gave_up = np.zeros(1), threading.Event(), threading.Event()

    def interrupted(job, parts):
        raise KeyboardInterrupt("planted")

    def task(part, parts):
        if part == 0:
            begun.wait(20)
        else:
            begun.set()
            patient(flags)
            gave_up.set()

    monkeypatch.setattr(workers._Job, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt, match="planted"):
        workers.together(task, 2, flags)
    monkeypatch.undo()
    assert gave_up.wait(20)
    workers.together(lambda part, parts: None, 2, np.zeros(1))


def test_companies_of_many_callers_do_not_hold_each_other_up(threads):
    """Each needs every thread; half of one and half of another would wait for ever."""
    threads(3)
    met = []

    def caller():
        for _ in range(30):
            barrier = threading.Barrier(3, timeout=20)
            workers.together(lambda part, parts, barrier=barrier: barrier.wait(), 3, np.zeros(1))
            workers.run(lambda start, stop: None, 9)
        met.append(True)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(60)
    assert met == [True] * 4 and workers.one_blas_thread.depth == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_forked_from_the_midst_of_a_company_has_its_own(threads):
    threads(2)
    children = []

    def task(part, parts):
        if part == 0:
            child = os.fork()
            if child == 0:
                barrier = threading.Barrier(2, timeout=20)
                workers.together(lambda part, parts: barrier.wait(), 2, np.zeros(1))
                os._exit(0)
            children.append(child)

    workers.together(task, 2, np.zeros(1))
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def test_waiting_sees_an_event_and_gives_up_without_one(path):
    events = np.zeros(64, np.int64)
    assert not workers._linger(events, 0, 1000, 10, 32)
    assert workers._linger(events, -1, 1000, 10, 32) == (path == "numba")


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True, None])
def test_refused_numbers_of_threads(n):
    with pytest.raises(ValueError, match=r"set_num_threads got .*: pass an int of 1 or more"):
        workers.set_num_threads(n)


def test_set_num_threads(threads):
    threads(7)
    assert workers.get_num_threads() == 7


@pytest.mark.parametrize("said, expected", [("3", 3), ("2,4", 2), ("none", None), ("0", None), ("", None)])
def test_default_follows_omp_num_threads(said, expected):
    script = "from chainrule.kernels.cpu import workers; print(workers.get_num_threads())"
    found = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"OMP_NUM_THREADS": said},
        capture_output=True,
        text=True,
        check=True,
    )
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert int(found.stdout) == (expected or usable)


def test_blas_is_limited_also_after_an_interrupt_left_the_depth_too_high(monkeypatch):
    threads = [4]
    limit = workers._OneBlasThread()
    limit.get, limit.set = lambda: threads[0], lambda n: threads.__setitem__(0, n)
    limit.depth = 1  # as if an interrupt had come between entering and leaving
    with limit:
        assert threads[0] == 1
