"""`record`: keep what a block computes, so that every value, gradient and source line can be shown afterwards."""

from __future__ import annotations

import sys

from ..graph import next_seq, user_frame, writes
from ..primitive import as_ndarray
from ..state import state
from ..tensor import Tensor
from ..watch import Watch, watching
from .program import Gift, Pulse, Step, Value, constant, recorded
from .snapshot import Snapshot
from .source import located


class Recorder(Watch):
    """A watch that keeps the steps of a block, and of each backward pass the last."""

    def __init__(self, values=(), composed=False):
        self.composed = composed
        self.steps: list[Step] = []
        self.cuts: list[Value] = []  # what left the graph by detach, argmax …
        self.failed: tuple | None = None  # (primitive, arrays, place) of an operation that began and never ended
        self._by_array: dict = {}  # (id of an array, its version): (the array, Value)
        self._leaves = {id(value.leaf): value for value in values if value.leaf is not None}
        self._walking = None

    # ---- forward -----------------------------------------------------------------------------------------------------

    def begins(self, primitive, inputs, arrays):
        if self._walking is None:
            self.failed = (primitive, inputs, arrays, here())

    def made(self, primitive, node, arrays, out):
        if self._walking is not None:
            return
        _, inputs, _, place = self.failed
        self.failed = None
        edges = node.edges if node is not None else (None,) * len(arrays)
        given = tuple(self._value(*three) for three in zip(arrays, edges, _padded(inputs, len(arrays)), strict=False))
        scope = state.get().scope if node is None else node.scope
        step = Step(next_seq() if node is None else node.seq, primitive, None, given, scope, place, node)
        step.params = {} if node is None else node.params or {}
        outs = out if isinstance(out, tuple) else (out,)
        step.results = tuple(self._result(step, i, as_ndarray(o)) for i, o in enumerate(outs))
        self.steps.append(step)
        if node is not None:
            recorded.add(node, step)

    def _result(self, step, i, array) -> Value:
        value = Value(array.shape, array.dtype, Snapshot(array), None, step, i, step.recorded).at(array)
        self._remember(array, value)
        return value

    def _remember(self, array, value) -> None:
        self._by_array[id(array), writes.version(array)] = (array, value)

    def _value(self, array, edge, given) -> Value | None:
        """The value of an input: by its edge, else by its array's identity, else met for the first time."""
        if array is None:
            return None
        if edge is not None and not isinstance(edge, Tensor):
            node, i = edge if type(edge) is tuple else (edge, 0)
            made = recorded.get(node)
            if made:
                return made[0].results[i]
        known = self._by_array.get((id(array), writes.version(array)))
        if known is None:
            known = (array, self._new(array, edge, given))
            self._remember(*known)
        return known[1]

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
        origin = self._value(tensor.array, tensor._edge or (tensor if tensor._live else None), tensor)
        array = tensor.array if out is None or out is tensor.array else out
        value = Value(array.shape, array.dtype, Snapshot(array)).at(array)
        value.cut, value.cut_at, value.source = how, here(), origin
        if out is not None:
            self._remember(array, value)
        self.cuts.append(value)

    # ---- backward ----------------------------------------------------------------------------------------------------

    def walks(self, outputs, seeds, create_graph):
        self._walking = {}  # edge: what has arrived, as an array
        self._order = 0

    def arrived(self, node, gradient):
        step = self._step(node)
        if step is not None:
            gradients = gradient if isinstance(gradient, tuple) else (gradient,)
            step.pulse = Pulse(self._order, tuple(Snapshot(_array(g)) for g in gradients))
            self._order += 1
            for value, snapshot in zip(step.results, step.pulse.arrived, strict=True):
                value.gradient = snapshot

    def gave(self, node, i, gradient, fitted):
        step = self._step(node)
        if step is None:
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
        for edge, gradient in (gradients or {}).items():
            value = self._leaves.get(id(edge)) if isinstance(edge, Tensor) else None
            if value is not None:
                value.gradient = Snapshot(_array(gradient))
        self._walking = None

    def _step(self, node):
        made = recorded.get(node)
        return made[0] if made else None


def _array(gradient):
    return as_ndarray(gradient.array if isinstance(gradient, Tensor) else gradient)


def _padded(inputs, n) -> tuple:
    return (*inputs, *(None,) * (n - len(inputs)))


def here():
    """The place in the user's program that is running."""
    frame = user_frame(sys._getframe(1))
    return located(frame.f_code, frame.f_lasti)


class record(watching):
    """Keep every value, gradient and source line of what is computed in the block, for pictures and explanations.

    Small arrays are kept whole, of larger ones figures. Also operations that no graph records are kept (those of
    constants, under `no_grad`, after `detach`), so that `why` can name them. Costs time and memory in the block only.

    fused: keep kernels for several operations (a whole LSTM, a convolution with its activation) as the one step that
    they are; without it they run as the single operations that they stand for.

    >>> with cr.viz.record() as recording:
    ...     w = cr.tensor(3.0, requires_grad=True)
    ...     (w * w).backward()
    >>> [step.name for step in recording.steps], recording.steps[0].pulse.gifts[0].fitted.scalar
    (['multiply'], 3.0)
    """

    def __init__(self, fused: bool = False):
        super().__init__(Recorder(composed=not fused))

    def _again(self):
        return record(not self.watch.composed)
