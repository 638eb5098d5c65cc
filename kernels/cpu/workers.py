"""One set of worker threads; while any of them works, BLAS keeps to one thread, so that the two never fight.

A parallel BLAS spins after each product and steals the cores from whoever works next: alternating with threads of our
own, a 23 ms convolution took 140 ms.
"""

import contextvars
import ctypes
import os
import threading
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from time import monotonic_ns

import numpy as np

from . import team
from .jit import compiles, inline, jit

# Looks before a waiting thread sleeps, 1 ms: waking it takes 0.05 to 0.1, and a LeNet step wakes ten times.
_LINGER = 3_000_000
_SETTLE_START, _SETTLE_END = 100_000, 10_000  # looks, 30 and 3 us: see _linger
_WORTH_WAKING = 16  # grains of shared loops that outlast waking a worker
_LATELY = 200_000  # nanoseconds within which loops follow each other so closely that a woken worker meets the next


def run(task, n, *, grain=1, turns=1):
    """Call task(start, stop) on contiguous slices that cover range(n), one slice per thread, or `turns` of them.

    Several turns keep every thread busy to the end where one of them is slower than the others.

    The caller's thread does the first slice, and any that no worker has begun by then.  No slice is shorter than
    `grain`, so little work stays in the caller.  Nested calls run in their caller.  Every slice is tried; the exception
    of the first that failed propagates.  The slices depend on n, grain and the number of threads alone.
    """
    if n <= 0:
        return
    parts = 1 if _here.busy or _state.threads == 1 else max(1, min(turns * _state.threads, n // grain))
    with one_blas_thread:
        if parts == 1:
            task(0, n)
        else:
            _share(task, [(n * i // parts, n * (i + 1) // parts) for i in range(parts)])


def together(task, parts, flags):
    """Call task(part, parts) for each part at the same time, so that the calls may wait for each other.

    There are at most as many parts as threads; in a nested call there is one. `flags[0]` becomes 1 if a part fails or
    the caller is interrupted: whoever waits must look at it, and give up.
    """

    def attempt(part, _):
        try:
            task(part, parts)
        except BaseException:
            flags[0] = 1
            raise

    parts = 1 if _here.busy else max(1, min(_state.threads, parts))
    with one_blas_thread:
        if parts == 1:
            task(0, 1)
            return
        with _one_company:
            try:
                _share(attempt, [(part, part + 1) for part in range(parts)])
            except BaseException:
                flags[0] = 1
                raise


def _share(task, slices):
    job = _Job(task, slices)
    helpers = min(len(slices), _state.threads) - 1
    _state.grow(helpers)
    for _ in range(helpers):
        _state.jobs.put(job)
    _events[0] += 1
    job.work()
    job.finish(len(slices))


def shared(twin, *, reassociate=False):
    """Decorate a loop whose last arguments are first, last: the threads share range(n) in `loop(n, *arguments)`.

    As `run` does it, in slices that depend on n, grain and the number of threads alone, but from compiled code: a slice
    need only outlast a few microseconds (see `team`). `twin` serves without Numba; the loop must not raise.
    """
    return lambda function: _Shared(function, twin, reassociate)


class _Shared:
    def __init__(self, function, twin, reassociate):
        self.__name__, self.__doc__ = function.__name__, function.__doc__
        name = f"{function.__module__.rpartition('.')[2]}_{function.__name__}"
        self.loop = jit(partial(_by_run, twin))(team.conductor(inline(function, reassociate=reassociate), name))

    def __call__(self, n, *arguments, grain=1, turns=1):
        if n <= 0:
            return
        parts, helpers = 1, 0
        if n >= 2 * grain and _state.threads > 1 and not _here.busy:
            parts = min(turns * _state.threads, int(n // grain))
            helpers = min(parts, _state.threads) - 1
            if n >= _WORTH_WAKING * grain and team.waiting(_board) < helpers:
                _wake(helpers)
        if self.loop(_board, helpers, parts, n, arguments):
            raise MemoryError(f"{self.__name__}: no memory for its own working arrays; take smaller ones")


def _by_run(twin, board, helpers, parts, n, arguments):
    run(lambda first, last: twin(*arguments, first, last), n, grain=max(1, n // parts))


def attended(grains):
    """Whether workers wait to share a loop of so many grains; if not, it is counted, and they may be woken for others.

    For what can also be done in another way, quicker than by the loop in one thread.
    """
    return grains > 1 and _state.threads > 1 and not _here.busy and _called(min(grains, _state.threads) - 1, grains)


def _called(helpers, grains):
    """Whether so many workers wait; else wake them, if what was lately done without them is worth it."""
    if team.waiting(_board) >= helpers:
        return True
    now = monotonic_ns()
    missed = grains if now - _missed[1] > _LATELY else grains + _missed[0]
    if missed >= _WORTH_WAKING:
        missed = 0
        _wake(helpers)
    _missed[:] = missed, now
    return False


class _Wake:
    """A job without slices: whoever takes it has been woken."""

    def __init__(self):
        self.cpu = _current_cpu()

    def work(self):
        """Nothing."""


def _wake(helpers):
    """Call the workers that sleep to the board."""
    _state.grow(helpers)
    if _state.jobs.empty():
        for _ in range(helpers):
            _state.jobs.put(_Wake())


def get_num_threads():
    """How many threads a parallel kernel uses, the caller's included.

    >>> cr.get_num_threads() >= 1
    True
    """
    return _state.threads


def set_num_threads(n):
    """Use `n` threads, the caller's included, for every parallel kernel from here on.

    Without it: OMP_NUM_THREADS, else the cores that the process may use. Raises ValueError for less than one.

    >>> before = cr.get_num_threads()
    >>> cr.set_num_threads(1); cr.get_num_threads()
    1
    >>> cr.set_num_threads(before)
    """
    if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
        raise ValueError(f"set_num_threads got {n!r}, but work needs at least one thread: pass an int of 1 or more")
    _state.threads = int(n)


def _default_threads():
    """OMP_NUM_THREADS where it says a positive number, else the cores that this process may use."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdigit() and int(first) > 0:
        return int(first)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Here(threading.local):
    busy = False  # whether this thread is inside a slice


class _Job:
    """The slices of one call of `run`: threads take them one by one, in order."""

    def __init__(self, task, slices):
        self.task, self.slices, self.errors, self.ended = task, slices[::-1], {}, SimpleQueue()
        self.context, self.cpu = contextvars.copy_context(), _current_cpu()

    def work(self):
        """Do slices until none is left to take."""
        _here.busy = True
        try:
            while self.slices:
                start, stop = self.slices.pop()
                try:
                    self.context.copy().run(self.task, start, stop)
                except BaseException as error:
                    self.errors[start] = error
                self.ended.put(start)
                _events[0] += 1
        except IndexError:  # another thread took the last one
            pass
        finally:
            _here.busy = False

    def finish(self, parts):
        """Wait for every slice, let go of what the task refers to, and raise the first error."""
        seen = _events[0]
        while self.ended.qsize() < parts and _linger(_events, seen, _LINGER, _SETTLE_END, _SPARE):
            seen = _events[0]
        for _ in range(parts):
            self.ended.get()
        self.task = self.context = None  # a worker may still hold the job
        if self.errors:
            try:
                raise self.errors[min(self.errors)]
            finally:
                self.errors.clear()  # an error refers to this frame: leave no cycle


class _State:
    """The threads that exist and the queue they all take jobs from."""

    def __init__(self, threads):
        self.threads, self.started = threads, 0
        self.jobs, self.lock = SimpleQueue(), threading.Lock()

    def grow(self, count):
        if self.started >= count:
            return
        if compiles():
            team.attend.compiled  # noqa: B018 (by a worker Numba would be imported against the caller, for Python's lock)
        with self.lock:
            while self.started < count:
                name = f"chainrule-worker-{self.started}"
                threading.Thread(target=_serve, args=(self.jobs,), name=name, daemon=True).start()
                self.started += 1


def _serve(jobs):
    while True:
        seen = _events[0]
        if jobs.empty():
            team.attend(_board, _events, seen, _LINGER, _SETTLE_START, _SPARE)
        job = jobs.get()
        if _current_cpu() == job.cpu:
            _leave_cpu(job.cpu)
        job.work()


@jit(lambda *_: False)
def _linger(events, seen, looks, settle, spare):
    """Wait without Python's lock until events[0] is no longer `seen`: whether that was so within that many looks.

    Only a hint: what has happened is then read from the queues.  The store, to a place that the compiler does not know,
    makes it load events[0] again each time.  `settle` more looks let the thread that told us go on to where it gives
    Python's lock back (a caller into its slice, a worker back to waiting): whoever asks for the lock too early sleeps,
    and is woken 50 to 100 us later.  A slice of 0.1 ms began 0.1 ms late without, and 0.025 ms late with it.
    """
    for look in range(looks):
        if events[0] != seen:
            for pause in range(settle):
                events[spare] = pause + events[0]
            return True
        events[spare] = look
    return False


def _leave_cpu(cpu):
    """Move this thread to another of the process's CPUs.

    Under a hypervisor Linux takes an idle virtual CPU for a preempted one and wakes the worker on its caller's, where
    the two only take turns: products shared by two threads took as long as by one.
    """
    with suppress(OSError):  # where the system forbids it, they go on taking turns
        if others := os.sched_getaffinity(os.getpid()) - {cpu}:
            os.sched_setaffinity(0, others)


def _find_current_cpu():
    """The C library's sched_getcpu where there is one, else a function that never matches."""
    try:
        return ctypes.PyDLL(None).sched_getcpu
    except (AttributeError, OSError, TypeError):
        return object


class _OneBlasThread:
    """Context in which NumPy's OpenBLAS uses one thread; re-entrant and shared by threads, a no-op for other BLASes."""

    def __init__(self):
        self.depth, self.saved, self.lock = 0, 1, threading.Lock()
        self.get, self.set = _openblas()

    def __enter__(self):
        with self.lock:
            if self.depth == 0:
                self.saved = self.get()
            self.depth += 1
            if self.get() != 1:  # looked at each time: an interrupt may have left the depth too high
                self.set(1)

    def __exit__(self, *_):
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                self.set(self.saved)

    def after_fork(self):
        if self.depth:
            self.set(self.saved)
        self.depth, self.lock = 0, threading.Lock()


def _openblas():
    """OpenBLAS's (get, set) number of threads, under the names that NumPy's wheels and distributions give them."""
    library = ctypes.PyDLL(np._core._multiarray_umath.__file__)  # symbols of what it links are found through it
    for name in ("scipy_openblas_{}_num_threads64_", "openblas_{}_num_threads64_", "openblas_{}_num_threads"):
        try:
            return getattr(library, name.format("get")), getattr(library, name.format("set"))
        except AttributeError:
            continue
    return (lambda: 1), (lambda n: None)


def _after_fork():
    """A forked child has none of its parent's threads and makes its own."""
    global _state, _board
    _state, _board = _State(_state.threads), team.board()
    _here.busy = False
    _one_company._at_fork_reinit()
    one_blas_thread.after_fork()


_current_cpu = _find_current_cpu()
_events, _SPARE = np.zeros(64, np.int64), 32  # jobs put and slices ended so far; a place in another cache line
_missed = [0, 0]  # grains done one shortly after the other while workers slept, and when the last ones were
_board, _here = team.board(), _Here()
_state = _State(_default_threads())
one_blas_thread = _OneBlasThread()
_one_company = threading.Lock()  # two companies could each hold threads that the other waits for
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
