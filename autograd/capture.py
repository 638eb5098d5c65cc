"""`capture`: a training step recorded once as a CUDA graph and replayed."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any

from ..kernels import for_array
from .state import state
from .tensor import Tensor, result

_MOST = 32  # graphs of one step: each keeps memory of its own


class capture:
    """Call a step as before, but from its third call with the same shapes on in one launch.

    The first call runs the ordinary step, which compiles kernels and makes the optimiser's state; the second captures
    it as a CUDA graph; later ones copy the tensors among the arguments into the graph's memory and replay it. Each call
    does the step's work exactly once. Graphs are kept apart by the shapes, dtypes and devices of tensors, by the other
    arguments, and by recording and autocast.

    A step is a function of tensors (and numbers, strings, None) that trains: forward, backward, optimiser. Results are
    tensors without history that the next call overwrites; `clone()` what you keep. Inside, nothing may wait for the GPU
    (`item()`, `print`, a condition on values) and Python's own counting happens once: call schedules outside. Learning
    rates, step counts and random numbers do change from replay to replay. Where a step cannot be captured, or runs on
    the CPU, it runs as it is: `step.reason` says why, and a warning does once.

    >>> w = cr.ones(2, requires_grad=True)
    >>> @cr.capture
    ... def step(x):
    ...     return (w * x).sum()
    >>> step(cr.ones(2)).item(), step.reason
    (2.0, 'its tensors are on the CPU, which has no graphs')
    """

    def __init__(self, step):
        functools.update_wrapper(self, step)
        self.step = step
        self.reason = ""
        self._known: dict[Any, Any] = {}

    def __call__(self, *args, **kwargs):
        tensors: list[Tensor] = []
        try:
            form = _form((args, kwargs), tensors)
        except TypeError as error:
            self.reason = str(error)
            return self.step(*args, **kwargs)
        if all([t.device == "cpu" for t in tensors]):
            self.reason = "its tensors are on the CPU, which has no graphs"
            return self.step(*args, **kwargs)
        if any([t.device == "cpu" for t in tensors]):
            self.reason = "a tensor among its arguments is on the CPU, whose values a graph would not see change"
            return self.step(*args, **kwargs)
        if form not in self._known and len(self._known) == _MOST:
            self.reason = f"its arguments have come in {_MOST} forms already; pad or bucket them to fewer"
            return self.step(*args, **kwargs)
        kernels = for_array(tensors[0].array)
        known = self._known.get(form)
        if known is None:
            known = self._known[form] = kernels.Graph()
            with known.memory():
                return each_tensor(self.step(*args, **kwargs), _without_history)
        if isinstance(known, kernels.Graph):
            known = self._known[form] = self._captured(known, form, args, kwargs, tensors)
        if isinstance(known, str):
            self.reason = known
            return self.step(*args, **kwargs)
        self.reason = ""
        return known(tensors)

    def _captured(self, graph, form, args, kwargs, tensors):
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
            warnings.warn(f"{name} runs without a CUDA graph: {reason}", stacklevel=3)
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


def _form(value, tensors):
    """What tells one captured graph from another; the tensors met are collected."""
    now = state.get()
    modes = (now.record, now.watch, now.inference, *(now.low or {}).items())
    return (_shape_of(value, tensors), modes)


def _shape_of(value, tensors):
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.shape, value.dtype, value.device, value.requires_grad
    if isinstance(value, (list, tuple)):
        return type(value), *[_shape_of(v, tensors) for v in value]
    if isinstance(value, dict):
        return dict, *[(k, _shape_of(v, tensors)) for k, v in value.items()]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"it received an argument of type {type(value).__name__}; graphs are told apart by tensors, numbers, strings, "
        "None, and lists, tuples and dicts of them"
    )


def _without_history(t):
    return result(t.array)


def each_tensor(value, function):
    """`value` with `function` applied to its tensors, in tuples, lists and dicts too.

    >>> cr.autograd.each_tensor({"x": cr.ones(2), "names": ["a"]}, lambda t: t.shape)
    {'x': (2,), 'names': ['a']}
    """
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: each_tensor(v, function) for key, v in value.items()}
    if isinstance(value, (tuple, list)):
        made = [each_tensor(v, function) for v in value]
        return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)
    return value
