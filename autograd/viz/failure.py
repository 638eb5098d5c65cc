"""The graph so far, when an operation or a backward pass fails: the failing step in red, and what led to it."""

from __future__ import annotations

import re
from pathlib import Path
from traceback import walk_tb
from types import SimpleNamespace

from .. import backward
from ..anomaly import AnomalyError
from ..graph import sequence, user_frame
from ..primitive import REGISTRY, Primitive
from ..state import state
from ..tensor import Tensor
from .picture import draw
from .program import Program, Step, Value, with_history
from .record import Recorder
from .source import located

IDLE = 2000  # operations of no graph in a row, e.g. of an evaluation, after which a tape begins anew


class Tape(Recorder):
    """A recording that lasts until the graph has been used: a training or evaluation loop under it stays small."""

    idle = 0  # operations since the last one of a graph

    def begins(self, primitive, inputs, arrays, params):
        super().begins(primitive, inputs, arrays, params)
        if self._walking is None:
            self.scope = state.get().scope
            self.passes.clear()  # an error of an earlier one was caught

    def made(self, primitive, node, arrays, out):
        if self.idle >= IDLE:
            self._forget()
        super().made(primitive, node, arrays, out)
        self.idle = self.idle + 1 if node is None else 0

    def walks(self, outputs, seeds, create_graph):
        super().walks(outputs, seeds, create_graph)
        self.failed = None

    def walked(self, gradients):
        super().walked(gradients)
        if gradients is not None and self._walking is None:
            self._forget()

    def _forget(self):
        self.idle = 0
        for kept in (self.steps, self.cuts, self.passes, self._own, self._by_array, self._leaves):
            kept.clear()


def save_failure(tape: Tape, error: BaseException, path) -> str:
    """Draw what led to the operation that `error` came from; what was done, in words.

    Nothing is drawn where the error is not that of an operation; a picture that cannot be drawn is no second error.
    """
    try:
        step = _failing(tape, error)
        if step is None:
            return ""
        last = tape.passes[-1] if tape.passes else None
        outputs = [value for value in last.outputs if value] if last and last.failed else []
        *outer, inner = _users(error.__traceback__)
        names = {name: thing for frame in outer for name, thing in frame.f_locals.items()}
        program = Program.of(with_history([step], outputs), names, inner)
        saved = draw(program, failed=step, note=re.split("[;\\n]", str(error))[0]).save(Path(path))
    except Exception as problem:
        return f"the graph could not be drawn: {problem}"
    return f"the graph so far, with {step.name} in red: {saved}"


def _users(trace) -> list:
    """The frames of the user's program on the way to the error."""
    frames = [frame for frame, _ in walk_tb(trace)]
    return [frame for frame in frames if user_frame(frame) is frame] or frames[:1]


def _failing(tape, error) -> Step | None:
    through = {(f.f_globals.get("__name__"), f.f_code.co_name): f for f, _ in walk_tb(error.__traceback__)}
    if (backward.__module__, "_walk") in through:
        hooked = through.get((backward.__module__, "_hooked"))  # its gradient had not been told yet
        at = tape.passes[-1].at if tape.passes else None
        return at if hooked is None else tape.step_of(hooked.f_locals["node"])
    if tape.failed is not None and (Primitive.__module__, "__call__") in through:
        primitive, inputs, arrays, params, place = tape.failed
        given = [x if isinstance(x, Tensor) and x.array is a else a for x, a in zip(inputs, arrays, strict=False)]
        return _unfinished(tape, primitive, given, tape.scope, place, params)
    if isinstance(error, AnomalyError):
        return tape.steps[-1]
    return _refused(tape, error)


def _unfinished(tape, primitive, given, scope, place, params=None) -> Step:
    """The step that would have been, of tensors and arrays, with a result of which nothing is known."""
    step = Step(next(sequence), primitive, params, tuple(tape.value(x) for x in given), scope, place)
    step.results = (Value(maker=step),)
    return step


def _refused(tape, error) -> Step | None:
    """The step of an operation that refused its tensors before it began, read off the traceback."""
    place, found = None, None
    trace = error.__traceback__
    while trace is not None:
        frame, code = trace.tb_frame, trace.tb_frame.f_code
        if user_frame(frame) is frame:
            place, found = located(code, trace.tb_lasti), None
        elif not code.co_name.startswith("_"):
            arguments = [frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount]]
            given = [x for x in arguments if isinstance(x, Tensor)]
            layer = type(arguments[0]).__name__ if code.co_name == "forward" else ""
            found = (layer or code.co_name, given) if given else found
        trace = trace.tb_next
    if found is None or place is None:
        return None
    name, given = found
    known = [one for one in REGISTRY.values() if one.name == name and (one.variadic or len(one.inputs) >= len(given))]
    return _unfinished(tape, known[0] if known else _named(name, len(given)), given, state.get().scope, place)


def _named(name, n):
    """What the drawing asks of a primitive, for an operation that is none."""
    words = dict(name=name, inputs=tuple(f"input {i + 1}" for i in range(n)), rules=[], formula="")
    return SimpleNamespace(**words, variadic=False, elementwise=False, view=False)
