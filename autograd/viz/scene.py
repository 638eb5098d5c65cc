"""What `why` knows and says: a `Scene` around the tensor it is asked about, and the `Explanation` it gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from ..state import state
from .program import Program, Step, Value, known_as
from .record import Recorder, record
from .snapshot import number
from .source import Place

SHOWN = 12  # places on a path, rows of a table
MORE = "compute it under `with cr.viz.record():` (backward too), and why can name the line"
WORDS = {"nan": "NaN", "inf": "infinite"}


@dataclass
class Explanation:
    """What `why` found; as text it is the whole answer.

    `kind`: "none", "zero", "nan", "inf", "exploding", "vanishing" or "fine"; `cause`: the name of the fault, "" where
    it is not known; `told`: the sentence; `place`: file, line and expression (None if unknown), made by `step`; `path`:
    the names along the graph, from the tensor to the loss, the culprit marked; `norms`: (where, norm of the gradient)
    from the loss back; `fix`: what to do; `within`: the module's path.

    >>> w = cr.ones(2)
    >>> found = cr.viz.why(w)
    >>> found.kind, found.cause
    ('none', 'requires no gradient')
    """

    kind: str
    cause: str
    told: str
    fix: str = ""
    step: Step | None = None
    place: Place | None = None
    path: list[str] = field(default_factory=list)
    norms: list[tuple] = field(default_factory=list)
    within: str = ""

    def __str__(self):
        lines = [self.told]
        if self.place is not None:
            lines.append(f"  line   {self.place}" + (f", in module {self.within}" if self.within else ""))
            lines.append(f"         {self.place.expression}")
        if self.path:
            lines.append(f"  path   {in_line(self.path)}")
        if self.norms:
            rows = _shortened([(where, number(norm)) for where, norm in self.norms], ("…", ""))
            width = max(len(where) for where, _ in rows)
            lines.append("  norms  " + "\n         ".join(f"{where:<{width}}  {norm}".rstrip() for where, norm in rows))
        if self.fix:
            lines.append(f"  fix    {self.fix}")
        return "\n".join(lines)

    __repr__ = __str__


def _shortened(items, gap="…") -> list:
    half = SHOWN // 2
    return list(items) if len(items) <= SHOWN else [*items[:half], gap, *items[-half:]]


def in_line(path) -> str:
    """The path on a line: what comes three times or more is counted, and of a long one the middle is left out."""
    runs = [(word, len(list(run))) for word, run in groupby(path)]
    return " → ".join(_shortened([one for word, n in runs for one in ([f"{word} × {n}"] if n > 2 else [word] * n)]))


class Scene:
    """The program around a tensor: from a recording that knows it, else from the graph of the loss."""

    def __init__(self, t, loss, recording, frame):
        self.t = t
        recorders = list(_recordings(recording))
        self.recorder = next((r for r in recorders if _knows(r, t, loss)), None)
        if self.recorder is None and loss is None and t.grad_fn is None and recorders and recorders[0].passes:
            self.recorder = recorders[0]  # of which it is worth saying that it did not meet the tensor
        self.refused = ""  # what backward would say, where it cannot run
        root = loss if loss is not None else t if t.grad_fn is not None else None
        self.program = None
        if self.recorder is not None:
            self.program = Program.of(self.recorder.steps, frame=frame)
        elif root is not None:
            self.program = Program(root, frame=frame)
            try:
                self.program.walk()
            except RuntimeError as error:
                self.refused = str(error)
        self.value = self._value_of(t)
        named = self.program.name(self.value) if self.value is not None else ""
        self.cuts: dict[Value, list[Value]] = {}
        for cut in self.recorder.cuts if self.recorder else ():
            self.cuts.setdefault(cut.source, []).append(cut)
        self._after: dict[Value, set] = {}
        self.targets = self._targets(loss)
        self.before = self.history(self.targets)
        unnamed = "the loss" if self.is_loss else "the tensor"
        self.name = _variable(t, frame) or named or known_as(t, frame) or unnamed

    def _value_of(self, t) -> Value | None:
        if self.recorder is not None:
            return self.recorder.value_of(t)
        if self.program is None:
            return None
        if t is self.program.outputs[0]:
            return self.program.results[0]
        if t.grad_fn is None:
            return next((v for v in self.program.values if v.leaf is t), None)
        index = t._edge[1] if type(t._edge) is tuple else 0
        return next((s.results[index] for s in self.program.steps if s.node is t.grad_fn), None)

    def _targets(self, loss) -> list[Value]:
        """What counts as the loss: the one given, that of the last backward pass, or the last result."""
        if self.program is None:
            return []
        if self.recorder is None:
            return self.program.results
        given = self.recorder.value_of(loss) if loss is not None else None
        if given is not None:
            return [given]
        if self.recorder.passes:
            return [value for value in self.recorder.passes[-1].outputs if value is not None]
        return list(self.program.steps[-1].results[:1]) if self.program.steps else []

    def history(self, values) -> set:
        """The values that `values` were computed from, by whatever way, themselves included."""
        found, waiting = set(values), list(values)
        while waiting:
            value = waiting.pop()
            for one in (value.source, *(value.maker.inputs if value.maker else ())):
                if one is not None and one not in found:
                    found.add(one)
                    waiting.append(one)
        return found

    @property
    def is_loss(self) -> bool:
        """Whether the tensor is the loss: a computed one that nothing uses."""
        if self.t.is_leaf or self.value is None:
            return False
        if self.recorder is None:
            return self.t.numel() == 1 and self.value in self.targets
        return self.value in self.targets or (self.t.numel() == 1 and not self.program.users[self.value])

    @property
    def passed(self) -> bool:
        """Whether a backward pass was seen."""
        return any(step.pulse is not None for step in self.steps)

    @property
    def steps(self) -> list[Step]:
        """Everything that was computed."""
        return self.program.steps if self.program is not None else []

    def label(self, value) -> str:
        """What to call a value: its name, or that of what it is a view of or was cast from."""
        one, same = value, lambda step: step.primitive.view or step.name == "cast"
        while one.maker is not None and same(one.maker) and not self.program.name(one):
            one = one.maker.inputs[0]
        if self.program.name(one):
            return self.program.name(one)
        if one.maker is not None:
            return self.program.label(value)
        return f"{'a constant' if one.role == 'constant' else 'a leaf'} of shape {one.shape}"

    # ---- ways --------------------------------------------------------------------------------------------------------

    def flows(self, value) -> Iterable[tuple]:
        """(step, result) of each recorded use of a live value."""
        for step, _ in self.program.users.get(value, ()):
            if step.recorded and value.live:
                for one in step.results:
                    yield step, one

    def way(self, start=None) -> list[Step]:
        """The recorded steps from the tensor (or the value `start`) to the loss on the shortest way, [] for none."""
        parents: dict = {start or self.value: None}
        waiting = list(parents)
        for value in waiting:
            if value in self.targets:
                return self.back(value, parents)
            for step, one in self.flows(value):
                if one not in parents and one in self.before:
                    parents[one] = (value, step)
                    waiting.append(one)
        return []

    def back(self, value, parents) -> list:
        """The steps along `parents`, {value: (earlier value, step)}, that lead to the value."""
        found = []
        while parents[value] is not None:
            value, step = parents[value]
            found.append(step)
        return found[::-1]

    def after(self) -> set:
        """The values that were computed from the tensor by recorded steps, itself included."""
        if self.value not in self._after:
            reached = self._after[self.value] = {self.value}
            for step in self.steps:
                if step.recorded and any(x in reached and x.live for x in step.inputs if x is not None):
                    reached.update(step.results)
        return self._after[self.value]

    def between(self) -> list[Step]:
        """Every recorded step between the tensor and the loss, oldest first."""
        reached = self.after() & self.before
        return [s for s in self.steps if s.recorded and s is not self.value.maker and not reached.isdisjoint(s.results)]

    def longest(self) -> list[tuple]:
        """(value, step that used it) along the way to the loss with the most steps that a gradient came."""
        length: dict = {self.value: 0}
        parents: dict = {self.value: None}
        for step in self.between():
            for gift in step.pulse.gifts if step.pulse else ():
                if gift.value in length and gift.fitted.norm:
                    for one in step.results:
                        if length[gift.value] + 1 > length.get(one, 0) and one in self.before:
                            length[one], parents[one] = length[gift.value] + 1, (gift.value, step)
        found: list[tuple] = []
        value = next((target for target in self.targets if target in parents), self.value)
        while parents[value] is not None:
            found.append(parents[value])
            value = found[-1][0]
        return found[::-1]

    def names(self, steps, culprit=None, start=None) -> list[str]:
        """The path in words: the tensor, the steps, the loss."""
        words = [start or self.name]
        words += [
            f"{step.name} ✗" if step is culprit else step.name
            for step in steps
            if step is culprit or not step.primitive.view
        ]
        end = self.program.name(steps[-1].results[0]) if steps else ""
        return [*words, end] if end else words

    def explain(self, kind, cause, told, fix, step=None, path=(), place=None, norms=()) -> Explanation:
        """The explanation; its place is that of the step, unless `place` is given."""
        place = place or (step.place if step is not None else None)
        within = self.program.call_of[step].path if step is not None else ""
        return Explanation(kind, cause, told, fix, step, place, list(path), list(norms), within)


def _recordings(recording) -> Iterable[Recorder]:
    if recording is not None:
        yield recording
    yield from (watch for watch in reversed(state.get().watch) if isinstance(watch, Recorder))
    if record.last is not None:
        yield record.last


def _knows(recorder, t, loss) -> bool:
    return recorder.value_of(t) is not None or (loss is not None and recorder.value_of(loss) is not None)


def _variable(t, frame) -> str:
    return next((name for name, thing in frame.f_locals.items() if thing is t and not name.startswith("_")), "")


def is_bad(snapshot) -> bool:
    """Whether a snapshot (None for unknown) holds NaN or infinity."""
    return snapshot is not None and bool(snapshot.nans or snapshot.infs)


def kind_of(snapshot) -> str:
    """'nan' or 'inf'."""
    return "nan" if snapshot.nans else "inf"


def amount(snapshot) -> str:
    """In how many elements."""
    count = snapshot.nans or snapshot.infs
    return "" if snapshot.size == 1 else f" in {count} of {snapshot.size} elements"
