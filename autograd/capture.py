"""`capture`: a training step recorded once and replayed: as a CUDA graph, or as a list of the CPU's kernels."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from typing import Any

from ..kernels import for_array, for_device
from .replay import each_tensor, record
from .state import state
from .tensor import Tensor, get_default_device, get_default_dtype, result

_MOST = 32  # forms of one step: each keeps memory of its own
_BESIDE = 3  # replays of one form kept beside the newest: with and without gradients to add to, say
_ANEW = 24  # recordings of one form, until it is taken for one that never stays the same
_options = 0  # how often options that a recording holds were changed for others
_FIXED = "a tensor among its arguments is on the CPU, whose values a graph would not see change"


def forget_captured() -> None:
    """Have every captured step recorded anew: objects that its replays read, such as an optimiser's, are others now.

    >>> cr.autograd.forget_captured()
    """
    global _options
    _options += 1


def hold(read) -> None:
    """Within a step that is captured on the CPU: have it recorded anew when `read()` is a list of other objects.

    >>> options = {"rate": 0.5}
    >>> step = cr.capture(lambda x: (cr.autograd.hold(lambda: list(options.values())), x * options["rate"])[1])
    >>> _ = [step(cr.ones(2)) for _ in range(3)]
    >>> options["rate"] = 0.25; step(cr.ones(2))
    tensor([0.25, 0.25])
    """
    for_device("cpu").hold(read)


class capture:
    """Call a step as before, but from its third call with the same shapes on without the engine.

    The first call runs the ordinary step, which compiles kernels and makes the optimiser's state; the second records
    it, on a GPU as a CUDA graph, on the CPU as a list of kernels; later ones replay it with the tensors that they are
    given. Each call does the step's work exactly once. Recordings are kept apart by the shapes, dtypes and devices of
    tensors, by the other arguments, and by recording, autocast and the default dtype.

    A step is a function of tensors (and numbers, strings, None) that trains: forward, backward, optimiser. Results are
    tensors without history that the next call may overwrite; `clone()` what you keep. Inside, nothing may look at
    values (`item()`, `print`, a condition) and Python's own counting happens once: call schedules outside. Learning
    rates, step counts and random numbers do change from replay to replay, other numbers, lists and flags do not; on the
    CPU, changed options of modules and optimisers are noticed. What the step computes, it returns: a replay makes no
    other tensors, but leaves gradients as the step does. Where a step cannot be captured it runs as it is:
    `step.reason` says why, and a warning does once; while someone watches each operation (a recording, an anomaly
    check), which ends, `step.reason` alone does.

    >>> w = cr.ones(2, requires_grad=True)
    >>> @cr.capture
    ... def step(x):
    ...     loss = (w * x).sum()
    ...     loss.backward()
    ...     return loss
    >>> [step(cr.full((2,), float(i))).item() for i in range(4)], w.grad
    ([0.0, 2.0, 4.0, 6.0], tensor([6., 6.]))
    >>> step.reason
    ''
    """

    def __init__(self, step):
        functools.update_wrapper(self, step)
        self.step = step
        self.reason = ""
        self._known: dict[Any, Any] = {}
        self._times: defaultdict[Any, int] = defaultdict(int)
        self._options = _options
        self._told: set[str] = set()

    def __call__(self, *args, **kwargs):
        now, tensors = state.get(), []
        if self._options != _options:
            self._known.clear()
            self._times.clear()
            self._options = _options
        try:
            form = _form(args, kwargs, now, tensors)
        except TypeError as error:
            self.reason = str(error)
            self._warn(self.reason, 3)
            return self.step(*args, **kwargs)
        known = self._known.get(form)
        self.reason = self._unfit(tensors, now) if known is None else known if type(known) is str else ""
        if self.reason:
            if known is None and not now.watch:
                self._warn(self.reason, 3)
            return self.step(*args, **kwargs)
        on_cpu = type(known) is list or (known is None and all([t.device == "cpu" for t in tensors]))
        return (self._on_cpu if on_cpu else self._on_gpu)(known, form, args, kwargs, tensors)

    def _unfit(self, tensors, now):
        """Why a step with such arguments, which have not come before, is not recorded."""
        if len(self._known) == _MOST:
            return f"its arguments have come in {_MOST} forms already; pad or bucket them to fewer"
        devices = {t.device for t in tensors}
        if "cuda" in devices:
            return _FIXED if "cpu" in devices else ""
        return _unfit_on_cpu(tensors, now)

    # ---- on the CPU --------------------------------------------------------------------------------------------------

    def _on_cpu(self, known, form, args, kwargs, tensors):
        if for_device("cpu").current_tape() is not None:  # a captured step within another is a part of it
            return self.step(*args, **kwargs)
        if known is None:
            self._known[form] = []
            return each_tensor(self.step(*args, **kwargs), _without_history)
        for replay in known:
            taken = replay.taken(tensors)
            if taken is None:
                continue
            if not replay.lock.acquire(False):  # another thread is using its buffers
                return self.step(*args, **kwargs)
            try:
                return replay(*taken)
            finally:
                replay.lock.release()
        return self._recorded(known, form, args, kwargs, tensors)

    def _recorded(self, known, form, args, kwargs, tensors):
        def step(given):
            waiting = iter(given)
            own, named = each_tensor((args, kwargs), lambda _: next(waiting))
            return self.step(*own, **named)

        try:
            made = record(step, tensors, for_device("cpu"))
        except Exception as error:
            self._known[form] = f"{type(error).__name__} while it was captured: {error}"
            raise
        if made is None:
            return self.step(*args, **kwargs)
        out, replay = made
        self._times[form] += 1
        if self._times[form] == _ANEW:
            replay = (
                f"what it takes from outside has been replaced {_ANEW} times; pass it as arguments, which do not "
                "require gradients"
            )
        if isinstance(replay, str):
            self.reason = self._known[form] = replay
            self._warn(replay, 5)
        else:
            known[_BESIDE:] = []
            known.insert(0, replay)
        return out

    def _warn(self, reason, depth):
        """Say a reason the first time, of the caller that is so many frames above."""
        if reason not in self._told:
            self._told.add(reason)
            name = getattr(self.step, "__name__", "step")
            warnings.warn(f"{name} runs as it is: {reason}", stacklevel=depth)

    # ---- on a GPU ----------------------------------------------------------------------------------------------------

    def _on_gpu(self, known, form, args, kwargs, tensors):
        kernels = for_array(tensors[0].array)
        if known is None:
            known = self._known[form] = kernels.Graph()
            with known.memory():
                return each_tensor(self.step(*args, **kwargs), _without_history)
        if isinstance(known, kernels.Graph):
            known = self._known[form] = self._captured(known, args, kwargs, tensors)
        if isinstance(known, str):
            self.reason = known
            return self.step(*args, **kwargs)
        return known(tensors)

    def _captured(self, graph, args, kwargs, tensors):
        """A replay, or the reason why there is none."""
        with graph.memory():
            static = [_copy(t) for t in tensors]
        waiting = iter(static)
        args, kwargs = each_tensor((args, kwargs), lambda _: next(waiting))
        try:
            out = graph.capture(lambda: each_tensor(self.step(*args, **kwargs), _without_history))
        except Exception as error:
            reason = f"capture failed with {type(error).__name__}: {error}"
            name = getattr(self.step, "__name__", "step")
            warnings.warn(f"{name} runs without a CUDA graph: {reason}", stacklevel=4)
            return reason
        return _Replay(graph, static, out)


class _Replay:
    def __init__(self, graph, static, out):
        self.graph, self.static, self.out = graph, static, out

    def __call__(self, tensors):
        for into, given in zip(self.static, tensors, strict=True):
            if into.array is not given.array:
                into.array[...] = given.array
        self.graph.replay()
        return self.out


def _copy(t):
    made = result(t.array.copy())
    return made.requires_grad_() if t.requires_grad else made


def _unfit_on_cpu(tensors, now):
    """Why a step with these arguments cannot be recorded on the CPU now."""
    if now.watch:
        return "someone watches each operation (a recording, an anomaly check), which a replay would not tell"
    if not tensors and get_default_device() != "cpu":
        return "no tensor among its arguments says that it runs on the GPU; pass one"
    for t in tensors if now.record else ():
        if t._live and t._edge is not None:
            return "a tensor among its arguments has a history, through which backward would go on; pass x.detach()"
    return ""


def _form(args, kwargs, now, tensors):
    """What tells one recording from another; the tensors met are collected."""
    dtype = get_default_dtype()
    modes = dtype if now.plain else (dtype, now.watch, now.inference, *(now.low or {}).items())
    given = [_shape_of(v, tensors) for v in args] if args else ()
    named = _shape_of(kwargs, tensors) if kwargs else ()
    if len(tensors) > 1:  # some may be one
        numbers = {id(t): i for i, t in enumerate(tensors)}
        return tuple(given), named, now.record, modes, tuple([numbers[id(t)] for t in tensors])
    return tuple(given), named, now.record, modes, len(tensors) or get_default_device()


def _shape_of(value, tensors):
    if isinstance(value, Tensor):
        tensors.append(value)
        array = value.array
        return array.shape, array.strides, array.dtype, type(array), value._live, value._live and value._edge is None
    if isinstance(value, (list, tuple)):
        return type(value), *[_shape_of(v, tensors) for v in value]
    if isinstance(value, dict):
        return dict, *[(k, _shape_of(v, tensors)) for k, v in value.items()]
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (bool, int, float)):
        return type(value), repr(value)  # 1 == 1.0 == True, 0.0 == -0.0 and nan != nan
    raise TypeError(
        f"it received an argument of type {type(value).__name__}; graphs are told apart by tensors, numbers, strings, "
        "None, and lists, tuples and dicts of them; pass those alone, or call the step without capture"
    )


def _without_history(t):
    return result(t.array)

