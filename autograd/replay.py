"""A step recorded on the CPU: every tensor that is alive looks recorded for one call, and a program replays it.

What a program takes from outside it finds anew each time, by the tensor that held it: parameters, buffers and an
optimiser's state may be given other arrays between two calls. `Replay.arrays` says whether the program still holds.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Mapping
from types import MethodType
from typing import Any, NamedTuple

from .graph import leaf_hooks, writes
from .tensor import Tensor, result


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


def record(step, tensors, kernels):
    """Run step(stand-ins for `tensors`) once, noting what it does: (its result without history, a Replay or a reason).

    None, and nothing is run, while another thread records.
    """
    tape = kernels.Tape()
    with kernels.recorded_on(tape) as ours:
        if not ours:
            return None
        world = _World(tape, tensors, kernels)
        try:
            world.enter()
            writes.told, Tensor.grad = tape.note_writes, world.slopes
            template, results = world.results(step(world.given))
        finally:
            writes.told, Tensor.grad = None, world.slopes.plain
            world.restore()
    return world.finish(template, results)


class _Before(NamedTuple):
    """What a tensor was before the recording."""

    tensor: Tensor
    number: int
    slope: Tensor | None
    live: bool
    form: Any


class _Slopes:
    """`Tensor.grad` while a step is recorded: `seen` are the ids of tensors whose gradient it read or set.

    An optimiser does other work for a parameter that has none.
    """

    def __init__(self, ours):
        self.ours, self.plain, self.seen = ours, vars(Tensor)["grad"], set()

    def __get__(self, tensor, kind=None):
        if tensor is not None and self.ours():
            self.seen.add(id(tensor))
        return self.plain.__get__(tensor, kind)

    def __set__(self, tensor, value):
        if self.ours():
            self.seen.add(id(tensor))
        self.plain.__set__(tensor, value)


class _World:
    """All tensors that are alive, whose arrays are recorded ones until `restore`."""

    def __init__(self, tape, tensors, kernels):
        self.tape, self.tensors, self.kernels = tape, tensors, kernels
        stand_ins = {id(t): result(tape.array(t.array)) for t in tensors if not t._live}
        self.given = [stand_ins.get(id(t), t) for t in tensors]
        self.arguments = {t.array.number: i for i, t in enumerate(self.given) if not t._live}
        self.holders: dict[int, list] = {}  # number: the tensors that hold the array
        self.arrays: dict[int, object] = {}
        self.before: list[_Before] = []
        self.numbers: dict[int, int] = {}  # of the arrays of tensors, by the tensors' ids
        self.first = 0  # number of what the step makes
        self.kept: list[weakref.ref] = []
        self.slopes = _Slopes(lambda: kernels.current_tape() is tape)

    def enter(self):
        """Let all tensors look recorded. Nothing here keeps the recorded arrays: the engine counts who has them."""
        if gc.get_freeze_count():
            self.tape.breaks("gc.freeze() hides tensors that are alive; call gc.unfreeze() before the step is captured")
        numbers: dict = {}
        for tensor in _alive(Tensor):
            array = tensor.array
            if type(array) is self.kernels.Recorded:  # a stand-in
                continue
            if type(array) is not self.kernels.ndarray:
                self.tape.breaks(f"a tensor on {tensor.device!r} is alive, whose work it would not see; free it first")
                continue
            recorded = numbers.get(id(array))
            if recorded is None:
                recorded = numbers[id(array)] = self.tape.array(array)
                self.arrays[recorded.number] = array
            self.holders.setdefault(recorded.number, []).append(tensor)
            self.numbers[id(tensor)] = recorded.number
            self.before.append(_Before(tensor, recorded.number, tensor._grad, tensor._live, tensor._form))
            tensor.array, tensor._form = recorded, None
        self.first = len(self.tape.values)

    def results(self, out):
        """The step's result with empty tensors for its own, and the numbers and arrays of these."""
        found = []

        def taken(tensor):
            array = tensor.array
            if type(array) is not self.kernels.Recorded:
                self.tape.breaks("it returned a tensor that the recording has not seen made")
                found.append((None, array))
            else:
                found.append((array.number, array.value))
            return _NOTHING

        return each_tensor(out, taken), found

    def restore(self):
        """Give all tensors, new ones too, the arrays themselves."""
        recorded = self.kernels.Recorded
        for tensor, number, _, _, form in self.before:
            now = tensor.array
            if type(now) is recorded and now.number == number:
                tensor.array, tensor._form = self.arrays[number], form
            else:
                self.tape.breaks(
                    f"it gave a tensor of shape {tensor.shape} that was there before another array (t.data = …); write "
                    "in place, as t.copy_(…)"
                )
        for thing in _alive(Tensor, recorded):
            if type(thing) is recorded:
                if (thing.number or 0) >= self.first:
                    self.kept.append(weakref.ref(thing))
            elif type(thing.array) is recorded:
                self.numbers[id(thing)] = thing.array.number
                thing.array, thing._form = thing.array.value, None
                self.kept.append(weakref.ref(thing))

    def finish(self, template, results):
        """The result, and the replay or the reason why there is none."""
        out = _filled(template, [array for _, array in results])
        slopes = self._gradients()
        reason = self.tape.reason or self._leak({id(slope) for _, slope in slopes})
        if reason:
            return self.kernels.unrecorded(out), reason
        numbers = [number for number, _ in results]
        left = [(source, None if slope is None else self.numbers[id(slope)]) for source, slope in slopes]
        return out, Replay(self, template, numbers, left)

    def _gradients(self):
        """(tensor, its gradient now) for those whose gradient the step has changed for another."""
        changed = [(one.tensor, one.tensor._grad) for one in self.before if one.tensor._grad is not one.slope]
        if any(slope is not None and slope._live for _, slope in changed):
            self.tape.breaks("a gradient that it leaves has a history (create_graph=True)")
        if not all(slope is None or id(slope) in self.numbers for _, slope in changed):
            self.tape.breaks("it left a gradient that the recording has not seen made")
        return changed

    def _leak(self, slopes):
        """What is said of a tensor that the step made, or its array, if someone has it; replays would not change it."""
        left = [ref for ref in self.kept if id(ref()) not in slopes and ref() is not None]
        if left:
            gc.collect()
        for ref in left:
            tensor = ref()
            if tensor is not None and not any(tensor is given for given in self.given):
                return f"a tensor of shape {tensor.shape} that it made is kept by something else; return it instead"
        return ""


class Replay:
    """A program, and where the arrays are found that it takes from outside and leaves there."""

    def __init__(self, world, template, results, left):
        outputs = [*results, *[number for _, number in left if number is not None]]
        outside = {*world.arrays, *world.arguments}
        written = [n for n in world.tape.noted if n in outside]
        self.run, inputs = world.kernels.assemble(world.tape, outside, outputs, written)
        self.ndarray, self.written = world.kernels.ndarray, [inputs.index(n) for n in written]
        self.template, self.results = template, len(results)
        self.cleared = [weakref.ref(t) for t, number in left if number is None]
        self.leaves = [(i, weakref.ref(t)) for i, t in enumerate(world.tensors) if t._live]
        self.lock = threading.Lock()
        leaf_of = {id(one.slope): one.tensor for one in world.before if one.slope is not None}
        known: dict[int, int] = {}  # numbers of the tensors that are used, by their ids
        numbered = lambda t: known.setdefault(id(t), len(known))
        self.left = [numbered(t) for t, number in left if number is not None]
        self.sources: list = []  # (number of an argument or None, [(of a tensor, whether its gradient)], dtype, …)
        for n in inputs:
            kind, holders = world.tape.values[n], world.holders.get(n, ())
            places = [(numbered(leaf_of.get(id(t), t)), id(t) in leaf_of) for t in holders]
            self.sources.append((world.arguments.get(n), places, kind.dtype, kind.shape, kind.strides))
        self.gone: list = []  # dead references to what is held
        reads = [read() for read in world.tape.held]  # None of what the step made itself
        self.held = [self._held(read) for read in reads if read is not None]
        seen = {id(one.tensor) for one in world.before if one.live} & world.slopes.seen
        for key in seen.difference(known):
            known[key] = len(known)
        used = sorted((one for one in world.before if id(one.tensor) in known), key=lambda one: known[id(one.tensor)])
        self.tensors = [
            (weakref.ref(one.tensor), one.live, one.slope is not None, leaf_hooks.get(one.tensor)) for one in used
        ]

    def _held(self, read):
        """`read` without its object, the ids of what it gives, and references: replays keep no old modules alive."""
        values, kept = read(), []
        for value in values:
            try:
                kept.append(weakref.ref(value, self.gone.append))
            except TypeError:  # of a number or a list
                kept.append(value)
        owner = None
        if isinstance(read, MethodType):
            read, owner = read.__func__, weakref.ref(read.__self__, self.gone.append)
        return read, owner, list(map(id, values)), kept

    def taken(self, given) -> tuple[list, list] | None:
        """What the program takes from outside, and the tensors that it knows.

        None if it no longer fits: a tensor has gone, or is of another kind.
        """
        for i, ref in self.leaves:  # the step may know them from elsewhere too
            if given[i] is not ref():
                return None
        tensors, hooked = [], bool(leaf_hooks)
        for ref, live, had, hooks in self.tensors:
            t = ref()
            if t is None or t._live is not live or (live and (t._grad is None) is had):
                return None
            if (leaf_hooks.get(t) if hooked else ()) != hooks:
                return None
            tensors.append(t)
        if self.gone or (self.held and not self._holds()):
            return None
        found, ndarray = [], self.ndarray
        for argument, places, dtype, shape, strides in self.sources:
            array: Any = None if argument is None else given[argument].array
            for at, of_slope in places:
                holder = tensors[at]._grad if of_slope else tensors[at]
                if holder is None or (array is not None and holder.array is not array):
                    return None
                array = holder.array
            if type(array) is not ndarray or array.dtype is not dtype:
                return None
            if array.shape != shape or array.strides != strides:
                return None
            found.append(array)
        return found, tensors

    def _holds(self):
        """Whether what is held is still what it was."""
        for read, ref, ids, _ in self.held:
            owner = None if ref is None else ref()
            if owner is None and ref is not None:
                return False
            if list(map(id, read() if ref is None else read(owner))) != ids:
                return False
        return True

    def __call__(self, arrays, tensors):
        if self.written:
            writes.note(*[arrays[i] for i in self.written], recorded=False)
        made = self.run(arrays)
        for i, at in enumerate(self.left, self.results):
            tensors[at]._grad = result(made[i])
        for ref in self.cleared:
            tensor = ref()
            if tensor is not None:
                tensor._grad = None
        return _filled(self.template, made)


def _filled(template, arrays):
    """The template with tensors around the arrays."""
    if template is _NOTHING:
        return result(arrays[0])
    waiting = iter(arrays)
    return each_tensor(template, lambda _: result(next(waiting)))


def _alive(*kinds):
    """The objects of these kinds; a tensor that another thread is just making has no array yet."""
    found = [x for x in gc.get_objects() if issubclass(type(x), kinds)]
    return [x for x in found if not isinstance(x, Tensor) or hasattr(x, "array")]


_NOTHING = Tensor(0)
