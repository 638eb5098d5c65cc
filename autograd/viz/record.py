"""`record`: keep what a block computes, so that every value, gradient and source line can be shown afterwards."""

from __future__ import annotations

import sys

from ..backward import reachable
from ..graph import sequence, user_frame, writes
from ..primitive import as_ndarray
from ..state import state
from ..tensor import Tensor
from ..watch import Watch, watching
from .program import Gift, Pulse, Step, Value, constant, read, recorded
from .snapshot import Snapshot
from .source import located


class Pass:
    """A backward pass: its `place`, the `outputs` it began at, whether it `failed`, and `at` which step."""

    def __init__(self, place, outputs):
        self.place, self.outputs, self.at, self.failed = place, outputs, None, False


class Recorder(Watch):
    """A watch that keeps the steps of a block, and of each backward pass the last."""

    def __init__(self, values=(), composed=False):
        self.composed = composed
        self.steps: list[Step] = []
        self._own: set[Step] = set()
        self.cuts: list[Value] = []  # what left the graph by detach, argmax …
        self.failed: tuple | None = None  # (primitive, inputs, arrays, params, place) of an operation that never ended
        self.passes: list[Pass] = []  # the backward passes
        self._by_array: dict = {}  # (id of an array, its version, whether as a leaf): (the array, Value)
        self._leaves = {id(value.leaf): value for value in values if value.leaf is not None}
        self._walking = None

    # ---- forward -----------------------------------------------------------------------------------------------------

    def begins(self, primitive, inputs, arrays, params):
        if self._walking is None:
            self.failed = (primitive, inputs, arrays, params, here())

    def made(self, primitive, node, arrays, out):
        if self._walking is not None:
            return
        _, inputs, _, params, place = self.failed
        self.failed = None
        inputs = _padded(inputs, len(arrays))
        edges = node.edges if node is not None else [_edge(x, a) for x, a in zip(inputs, arrays, strict=False)]
        given = tuple(self._value(*three) for three in zip(arrays, edges, inputs, strict=False))
        scope = state.get().scope if node is None else node.scope
        step = Step(next(sequence) if node is None else node.seq, primitive, params, given, scope, place, node)
        outs = out if isinstance(out, tuple) else (out,)
        step.results = tuple(self._result(step, i, as_ndarray(o)) for i, o in enumerate(outs))
        self.steps.append(step)
        self._own.add(step)
        if node is not None:
            recorded.add(node, step)

    def _result(self, step, i, array) -> Value:
        value = Value(array.shape, array.dtype, Snapshot(array), None, step, i, step.recorded).at(array)
        self._remember(array, value)
        return value

    def _remember(self, array, value, leaf=False) -> None:
        self._by_array[id(array), writes.version(array), leaf] = (array, value)

    def _value(self, array, edge, given) -> Value | None:
        """The value of an input: by its edge, else by its array's identity, else met for the first time."""
        if array is None:
            return None
        if edge is not None and not isinstance(edge, Tensor):
            node, i = edge if type(edge) is tuple else (edge, 0)
            made = self.step_of(node)
            if made is not None:
                return made.results[i]
        leaf = isinstance(edge, Tensor)  # what was detached of it is another value in the same array
        known = self._by_array.get((id(array), writes.version(array), leaf))
        if known is None:
            known = (array, self._new(array, edge, given))
            self._remember(*known, leaf)
        return known[1]

    def value(self, x) -> Value | None:
        """The value that a tensor or array is, met now if not before."""
        if isinstance(x, Tensor):
            return self._value(x.array, _edge(x, x.array), x)
        return self._value(x, None, x)

    def value_of(self, tensor) -> Value | None:
        """The value that `tensor` is, None if the recording has not met it."""
        node = tensor.grad_fn
        if node is not None and tensor._live:
            step = self.step_of(node)
            index = tensor._edge[1] if type(tensor._edge) is tuple else 0
            return step.results[index] if step is not None and step in self._own else None
        if id(tensor) in self._leaves:
            return self._leaves[id(tensor)]
        _, value = self._by_array.get((id(tensor.array), writes.version(tensor.array), False), (None, None))
        return value

    def _new(self, array, edge, given) -> Value:
        if isinstance(edge, Tensor):
            value = Value(array.shape, array.dtype, Snapshot(array), leaf=edge, live=True)
            self._leaves[id(edge)] = value
            return value
        value = constant(array)
        value.leaf = given if isinstance(given, Tensor) and given.is_leaf else None
        if edge is not None:  # made before the recording began
            value.live = True
        return value

    def left(self, tensor, how, out=None):
        if self._walking is not None:
            return
        origin = self._value(tensor.array, _edge(tensor, tensor.array), tensor)
        array = tensor.array if out is None or out is tensor.array else out
        value = Value(array.shape, array.dtype, Snapshot(array)).at(array)
        value.cut, value.cut_at, value.source = how, here(), origin
        if out is not None:
            self._remember(array, value)
        self.cuts.append(value)

    # ---- backward ----------------------------------------------------------------------------------------------------

    def walks(self, outputs, seeds, create_graph):
        if self._walking is not None:  # a pass within a pass, e.g. in a hook
            self._within += 1
            return
        self._walking = {}  # edge: what has arrived, as an array
        self._order = self._within = 0
        self._meet_earlier(outputs)
        self.passes.append(Pass(here(), [self.value_of(t) for t in outputs]))

    def _meet_earlier(self, outputs) -> None:
        """Take in the steps that were computed before the recording began."""
        if all(recorded.get(node) for node in reachable([t._edge for t in outputs if t.grad_fn is not None])):
            return
        for step in read(outputs)[0]:
            if step.node is not None and not recorded.get(step.node):
                recorded.add(step.node, step)
                self.steps.append(step)
                self._own.add(step)
                self._leaves.update((id(x.leaf), x) for x in step.inputs if x is not None and x.leaf is not None)
        self.steps.sort(key=lambda step: step.seq)

    def arrived(self, node, gradient):
        step = self.step_of(node)
        if step is not None and not self._leaves_to_others(step):
            self.passes[-1].at = step
            gradients = gradient if isinstance(gradient, tuple) else (gradient,)
            step.pulse = Pulse(self._order, tuple(Snapshot(_array(g)) for g in gradients))
            self._order += 1
            for value, snapshot in zip(step.results, step.pulse.arrived, strict=True):
                value.gradient = snapshot

    def gave(self, node, i, gradient, fitted):
        step = self.step_of(node)
        if step is None or self._leaves_to_others(step):
            return
        edge, fitted = node.edges[i], _array(fitted)
        before = self._walking.get(edge)
        total = self._walking[edge] = fitted if before is None else before + fitted
        shown = Snapshot(fitted)
        step.pulse.gifts.append(
            Gift(
                i,
                step.inputs[i],
                Snapshot(_array(gradient)),
                shown,
                None if before is None else Snapshot(before),
                shown if before is None else Snapshot(total),
            )
        )

    def walked(self, gradients):
        if self._within:
            self._within -= 1
            return
        self.passes[-1].failed = gradients is None
        for edge, gradient in (gradients or {}).items():
            value = self._leaves.get(id(edge)) if isinstance(edge, Tensor) else None
            if value is not None:
                value.gradient = Snapshot(_array(gradient))
        self._walking = None

    def step_of(self, node):
        """The node's step in this recording, else in the first that has it."""
        made = recorded.get(node)
        return next((step for step in made if step in self._own), made[0] if made else None)

    def _leaves_to_others(self, step) -> bool:
        """Whether the step is that of another recording, which is under way too."""
        others = (one for one in state.get().watch if isinstance(one, Recorder) and one is not self)
        return step not in self._own and any(step in one._own for one in others)


def _array(gradient):
    return as_ndarray(gradient.array if isinstance(gradient, Tensor) else gradient)


def _edge(x, array):
    """The edge of an input whose operation is not recorded, where it takes the very `array` of a live tensor."""
    return x._edge or x if isinstance(x, Tensor) and x._live and x.array is array else None


def _padded(inputs, n) -> tuple:
    return (*inputs, *(None,) * (n - len(inputs)))


def here():
    """The place in the user's program that is running."""
    frame = user_frame(sys._getframe(1))
    return located(frame.f_code, frame.f_lasti)


class record(watching):
    """Keep every value, gradient and source line of what is computed in the block, for pictures and explanations.

    Small arrays are kept whole, of larger ones figures. Also operations that no graph records are kept (those of
    constants, under `no_grad`, after `detach`), so that `why` can name them. Costs time in the block only, and memory
    as long as the recording lives; the last one lives until the next begins.

    fused: keep kernels for several operations (a whole LSTM, a convolution with its activation) as the one step that
    they are; without it they run as the single operations that they stand for.

    >>> with cr.viz.record() as recording:
    ...     w = cr.tensor(3.0, requires_grad=True)
    ...     (w * w).backward()
    >>> [step.name for step in recording.steps], recording.steps[0].pulse.gifts[0].fitted.scalar
    (['multiply'], 3.0)
    """

    last: Recorder | None = None  # what `why` asks where no other recording is named

    def __init__(self, fused: bool = False):
        super().__init__(Recorder(composed=not fused))

    def __enter__(self):
        record.last = self.watch
        return super().__enter__()

    def _again(self):
        return record(not self.watch.composed)
