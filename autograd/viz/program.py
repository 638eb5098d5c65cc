"""`Program`: what a computation did, as every picture, page and explanation reads it.

A program is a list of steps (applications of primitives) that turn values into values, inside a tree of module calls.
It is read off the graph that led to a result. A graph keeps no more than backward needs, so a value that nobody kept is
computed again where that is cheap; what ran under `record` (record.py) has every value, gradient and source line, and
the steps outside the graph besides.
"""

from __future__ import annotations

import itertools
import reprlib
import sys
import weakref
from collections.abc import Iterable

import numpy as np

from ...kernels import for_array, is_array
from ..backward import grad, reachable
from ..graph import Node, SideTable, recomputes, user_frame, writes
from ..tensor import Tensor, is_number
from ..watch import watching
from .snapshot import WHOLE, Snapshot, number
from .source import Place, operand, place_of

MANY = 50_000  # nodes from which on no value is computed again
OPERATORS = {"add", "subtract", "multiply", "divide", "matmul", "power"}  # whose operands the source line shows
HELD = 1_000  # entries up to which a list or dict is searched for tensors
numbers = itertools.count(1).__next__
recorded = SideTable()  # node: its Step, of what ran under `record`


class Value:
    """A tensor at one moment.

    `leaf` is the tensor itself where no operation of the graph made it; `maker` the step that made it, as its result
    number `index`. `data` is a Snapshot, None if it is unknown; so is `gradient`, until a backward pass has been seen.
    `cut` says by what its history was given up ("detach", "argmax" …), where (`cut_at`) and of what value (`source`).
    """

    __slots__ = (
        *("key", "leaf", "maker", "index", "shape", "dtype", "data", "gradient", "live", "given"),
        *("cut", "cut_at", "source", "home"),
    )

    def __init__(self, shape=None, dtype=None, data=None, leaf=None, maker=None, index=0, live=False, given=""):
        self.key = numbers()
        self.shape, self.dtype, self.data, self.leaf = shape, dtype, data, leaf
        self.maker, self.index, self.live, self.given = maker, index, live, given
        self.gradient = self.cut = self.cut_at = self.source = self.home = None

    def at(self, array) -> Value:
        """The same, knowing in which array it lies: a variable that holds this array gives it its name."""
        self.home = weakref.ref(array) if is_array(array) else None
        return self

    @property
    def role(self) -> str:
        """'parameter', 'input' (a leaf that is no parameter), 'constant' (needs no gradient) or 'computed'."""
        if self.maker is not None:
            return "computed"
        if not self.live:
            return "constant"
        return "parameter" if type(self.leaf).__name__ == "Parameter" else "input"

    def __repr__(self):
        return f"<value {self.key}: {self.role} {self.shape}>"


class Step:
    """One application of a primitive: `inputs` and `results` are Values, None for an optional input left out."""

    __slots__ = (
        *("key", "seq", "primitive", "params", "inputs", "results", "scope", "place", "recorded", "pulse"),
        *("_node", "__weakref__"),
    )

    def __init__(self, seq, primitive, params, inputs, scope, place, node=None):
        self.key = numbers()
        self.seq, self.primitive, self.params, self.inputs = seq, primitive, params or {}, inputs
        self.scope, self.place, self.recorded = scope, place, node is not None
        self.results: tuple = ()
        self.pulse: Pulse | None = None
        self._node = None if node is None else weakref.ref(node)

    @property
    def node(self):
        """The graph's node, None if nothing was recorded or it is gone."""
        return self._node() if self._node else None

    @property
    def released(self) -> bool:
        """Whether the node, or what it kept for backward, is gone for good."""
        return self.node is None or (self.node.kept is None and not recomputes.get(self.node))

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.primitive.name

    def input_name(self, i: int) -> str:
        """What the primitive calls its input i."""
        names = self.primitive.inputs
        return f"{names[0]}[{i}]" if self.primitive.variadic else names[i]

    @property
    def saved(self) -> list:
        """(label, array) of what the node keeps for backward; empty once it is released."""
        node = self.node
        if node is None or node.kept is None:
            return []
        labels = [*self.primitive.inputs, "out", "scratch"]
        found = []
        for label, kept in zip(labels, node.kept, strict=False):
            several = isinstance(kept, (tuple, list))
            for i, one in enumerate(kept if several else (kept,)):
                if is_array(one):
                    found.append((f"{label}[{i}]" if several else label, one))
        return found

    @property
    def cost(self):
        """(flops, bytes) of the forward; None where the shapes are unknown."""
        given = [x.shape if x else None for x in self.inputs]
        if any(x is not None and x.shape is None for x in self.inputs):
            return None
        itemsize = next((x.dtype.itemsize for x in self.results if x.dtype is not None), 4)
        return self.primitive.cost(given, [r.shape for r in self.results], itemsize, **self.params)

    def rule_for(self, i: int):
        """The composed derivative rule for input i: a `Rule` with its formula and function; None if there is none."""
        at = 0 if self.primitive.variadic else i
        return next((rule for rule in self.primitive.rules if at in rule.wrt), None)

    def __repr__(self):
        return f"<step {self.key}: {self.name}>"


class Pulse:
    """The backward pass through one step: what arrived at its results, and what it gave to its inputs, in order."""

    __slots__ = ("order", "arrived", "gifts")

    def __init__(self, order, arrived):
        self.order = order  # 0 for the first step that backward visited
        self.arrived: tuple = arrived  # Snapshots, one for each result
        self.gifts: list[Gift] = []


class Gift:
    """A gradient that a step gave to the value at its input `i`.

    `raw` is what the rule returned, `fitted` what is left of it after summing over broadcast axes, `before` what had
    arrived at the value by then (None: nothing), `total` the sum.
    """

    __slots__ = ("i", "value", "raw", "fitted", "before", "total")

    def __init__(self, i, value, raw, fitted, before, total):
        self.i, self.value, self.raw, self.fitted, self.before, self.total = i, value, raw, fitted, before, total

    @property
    def broadcast(self) -> bool:
        """Whether the gradient had to be summed over axes along which the input was broadcast."""
        return self.raw.shape != self.fitted.shape


class Call:
    """One call of a module (or scope): `steps` lie directly in it, `calls` within it, both in order of running."""

    __slots__ = ("name", "kind", "parent", "calls", "steps", "path", "depth")

    def __init__(self, name, parent):
        self.name, self.parent, self.kind = name, parent, ""
        self.calls: list[Call] = []
        self.steps: list[Step] = []
        self.depth = 0 if parent is None else parent.depth + 1
        self.path = name if parent is None or not parent.path else f"{parent.path}.{name}"

    def every_step(self) -> list[Step]:
        """The steps in it and in all calls within, oldest first."""
        found, waiting = [], [self]
        while waiting:
            call = waiting.pop()
            found += call.steps
            waiting += call.calls
        return sorted(found, key=lambda step: step.seq)

    def __repr__(self):
        return f"<call {self.path or '(program)'}: {len(self.steps)} steps, {len(self.calls)} calls>"


class Program:
    """The steps that led to `outputs` (tensors), oldest first, with their values, names and tree of calls.

    names: {name: tensor} or {name: module}; `frame` is that of the caller, whose variables, with those of its file and
    of its own callers, give names to what they hold, and whose modules to their parameters.

    >>> from chainrule.autograd.viz.program import Program
    >>> w = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> p = Program((w * w).sum())
    >>> [step.name for step in p.steps], p.name(p.steps[0].inputs[0])
    (['multiply', 'sum'], 'w')
    """

    def __init__(self, outputs, names=None, frame=None):
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        if not outputs:
            raise ValueError("received no tensors in the list; pass those whose graph is wanted, e.g. the loss")
        for one in outputs:
            if not isinstance(one, Tensor):
                raise TypeError(f"received {type(one).__name__}; pass the tensor whose graph is wanted, e.g. the loss")
        self._set(outputs, *read(outputs), names, frame or user_frame(sys._getframe(1)))

    @classmethod
    def of(cls, steps, names=None, frame=None) -> Program:
        """The program of `steps` that were recorded, whatever they led to."""
        program = cls.__new__(cls)
        program._set([], list(steps), [], names, frame or user_frame(sys._getframe(1)))
        return program

    def _set(self, outputs, steps, results, names, frame) -> None:
        if names and not (isinstance(names, dict) and all(isinstance(name, str) for name in names)):
            raise TypeError(f"received names={reprlib.repr(names)}; pass a dict: {{'a name': tensor or module}}")
        self.outputs, self.steps, self.results = outputs, steps, results
        self.values: list[Value] = []  # in order of making
        self.users: dict[Value, list[tuple[Step, int]]] = {}
        for value in self.results:
            self._meet(value)
        for step in self.steps:
            for i, value in enumerate(step.inputs):
                if value is not None:
                    self._meet(value)
                    self.users[value].append((step, i))
            for value in step.results:
                self._meet(value)
        self.values.sort(key=_moment)
        self.call_of: dict[Step, Call] = {}
        self.root = self._tree()
        self._names: dict[Value, str] = {}
        self._name_all(names or {}, frame)

    def _meet(self, value) -> None:
        if value not in self.users:
            self.users[value] = []
            self.values.append(value)

    def _tree(self) -> Call:
        root, calls = Call("", None), dict[int, Call]()
        for step in self.steps:
            self.call_of[step] = call = _call(step.scope, calls, root)
            call.steps.append(step)
        return root

    # ---- names -------------------------------------------------------------------------------------------------------

    def name(self, value: Value) -> str:
        """What the user calls it: a name passed, a parameter's path, a variable; '' if it has none."""
        return self._names.get(value, "")

    def _name_all(self, names, frame) -> None:
        leaves = {id(value.leaf): value for value in self.values if value.leaf is not None}
        tensors, kinds = _named(names, frame, leaves)
        for call in self._calls():
            call.kind = kinds.get(call.path, "")
        homes = {id(value.home()): value for value in self.values if value.home and value.home() is not None}
        made = {id(step.node): step for step in self.steps if step.node is not None}
        for tensor, name in tensors:
            if tensor._live and tensor._edge is not None:
                value = _result_of(made, tensor._edge)
            else:
                value = leaves.get(id(tensor)) or homes.get(id(tensor.array))
            if value is not None:
                self._names.setdefault(value, name)
        at: dict[Place, list[Step]] = {}
        for step in self.steps:
            if step.place.name:
                at.setdefault(step.place, []).append(step)
        assigned: dict[str, list[Value]] = {}
        for place, steps in at.items():
            each = _period([step.name for step in steps])
            assigned.setdefault(place.name, []).extend(step.results[0] for step in steps[each - 1 :: each])
        for name, values in assigned.items():
            values.sort(key=_moment)
            for i, value in enumerate(values):
                text = name if len(values) == 1 else f"{name} ({i + 1})"
                if len(values) > 1 and self._names.get(value) == name:
                    self._names[value] = text
                self._names.setdefault(value, text)
        for value in self.values:
            given = value.given or (value.cut_at.name if value.cut_at else "")
            if given:
                self._names.setdefault(value, given)
        self._name_by_source()
        self._taken = set(self._names.values())

    def _name_by_source(self) -> None:
        """Call leaves whose variable is gone what the source called them, as operands: `w` in `x @ w`."""
        found: dict[str, list[Value]] = {}
        for value in self.values:
            if value.maker is None and value not in self._names and (value.live or value.shape):
                uses = [operand(step.place, i) for step, i in self.users[value] if step.name in OPERATORS]
                name = next((use.removeprefix("self.") for use in uses if use), "")
                if name.isidentifier() and not name.startswith("_"):
                    found.setdefault(name, []).append(value)
        taken = set(self._names.values())
        for name, values in found.items():
            alone = len(values) == 1 and name not in taken
            self._names |= {value: name if alone else f"{name} ({i + 1})" for i, value in enumerate(values)}

    def _calls(self) -> Iterable[Call]:
        waiting = [self.root]
        while waiting:
            call = waiting.pop()
            yield call
            waiting += call.calls

    def label(self, value: Value) -> str:
        """The name, or for a nameless one what the step that made or uses it calls it."""
        if self.name(value):
            return self.name(value)
        if value.maker is not None:
            return value.maker.name
        users = self.users.get(value)
        if not users or users[0][0].primitive.elementwise:  # whose inputs are only called x and y
            return "constant" if value.role == "constant" else "value"
        letter = users[0][0].input_name(users[0][1])
        return "constant" if value.role == "constant" and letter in self._taken else letter

    def kind(self, value: Value) -> str:
        """What a value is to a reader: 'parameter' (a leaf that requires a gradient), 'data', 'result' ….

        The others are 'constant' (a number, a mask, a buffer) and 'value' (computed on the way).
        """
        if value.role in ("parameter", "input"):
            return "parameter"
        if value.role == "computed":
            return "result" if value in self.results else "value"
        return "data" if self._is_data(value) else "constant"

    def _is_data(self, value) -> bool:
        """Whether a constant is data: no number, nothing cut off, no buffer (whose name has a dot)."""
        name = self.name(value)
        if value.source is not None or "." in name or not (value.shape or name != value.given):
            return False
        uses = self.users.get(value, ())
        return bool(name) or not uses or not all(step.primitive.elementwise for step, _ in uses)

    # ---- backward ----------------------------------------------------------------------------------------------------

    @property
    def walked(self) -> bool:
        """Whether a backward pass through every recorded step of the program was seen."""
        return all(step.pulse is not None for step in self.steps if step.recorded)

    def walk(self, gradient=None) -> None:
        """See a backward pass: without changing any `.grad`, unless one was recorded.

        gradient: the cotangent of the one output, or a list of them; ones where it is left out.

        Errors: RuntimeError where an earlier backward pass released the graph's values and nothing was recorded.
        """
        from .record import Recorder

        if self.walked and gradient is None:
            return
        released = next((step for step in self.steps if step.recorded and step.released), None)
        if released is not None:
            raise RuntimeError(
                f"the graph's values were released by an earlier backward pass (first at {released.name}, "
                f"{released.place}), so backward cannot be shown; draw before backward(), call "
                "backward(retain_graph=True), or compute under `with cr.viz.record():`"
            )
        mine = [step for step in self.steps if step.node is not None and not recorded.get(step.node)]
        for step in mine:
            recorded.add(step.node, step)
        leaves = [value.leaf for value in self.values if value.leaf is not None and value.live and self.users[value]]
        live = [t for t in self.outputs if t.requires_grad and not t.is_leaf]
        seeds = [Tensor(for_array(t.array).ones_like(t.array)) for t in live] if gradient is None else gradient
        try:
            if live:
                with watching(Recorder(self.values), alone=True):
                    grad(live, leaves, seeds, retain_graph=True, allow_unused=True)
        finally:  # the next reader of the graph finds it as this one did
            for step in mine:
                recorded.remove(step.node, step)


def _period(names) -> int:
    """How many operations one line made each time that it ran, from the names of all that it made, in order."""
    n = len(names)
    return next(p for p in range(1, n + 1) if n % p == 0 and names == names[:p] * (n // p))


def _moment(value) -> tuple:
    return (value.maker.seq if value.maker else 0, value.index, value.key)


# ---- reading a graph -------------------------------------------------------------------------------------------------


def read(outputs) -> tuple[list[Step], list[Value]]:
    """The steps that led to `outputs`, oldest first, and the outputs' values."""
    known = {t._edge: t.array for t in outputs if t.grad_fn is not None}
    steps, leaves = _read(list(known), known)
    results = [_value_of(t, steps, leaves) for t in outputs]
    for value in leaves.values():
        if value.leaf._grad is not None and value.gradient is None:
            value.gradient = Snapshot(value.leaf._grad.array)
    return with_history(steps.values(), results), results


def steps_to(node) -> list[Step]:
    """The steps that led to a node of the graph, oldest first."""
    return with_history(_read([node], {})[0].values(), [])


def _read(edges, known) -> tuple[dict, dict]:
    """{node: Step} of what led to the edges, some with `known` arrays, and {id: Value} of the leaves."""
    steps: dict[Node, Step] = {}
    leaves: dict[int, Value] = {}
    arrays: dict[Value, object] = {}  # what is known of the values while steps are computed again
    nodes = reachable(edges)
    again = len(nodes) <= MANY
    for node in nodes:
        seen = recorded.get(node)
        step = steps[node] = seen[0] if seen else _step(node, steps, leaves, arrays)
        if not seen:
            _fill(step, node, known, arrays, again)
        for value in step.inputs:
            if value is not None and value.leaf is not None:
                leaves.setdefault(id(value.leaf), value)
    return steps, leaves


def with_history(steps, results) -> list[Step]:
    """The steps and those outside the graph that made their constants, oldest first."""
    found = dict.fromkeys(steps)
    waiting = [value for step in found for value in step.inputs] + list(results)
    while waiting:
        value = waiting.pop()
        while value is not None and value.source is not None:
            value = value.source
        step = value.maker if value is not None else None
        if step is not None and step not in found:
            found[step] = None
            waiting += step.inputs
    return sorted(found, key=lambda step: step.seq)


def _step(node, steps, leaves, arrays) -> Step:
    """The step of a node that was not recorded: inputs are found by its edges, constants by what it kept."""
    primitive = node.primitive
    kept = node.kept or ()
    needed = sum(p.default is p.empty for p in primitive.__signature__.parameters.values() if p.kind in (0, 1))
    needed = len(node.edges) if primitive.variadic else needed
    shapes = kept[-1] if kept and not primitive.variadic else None
    inputs = []
    for i, edge in enumerate(node.edges):
        if edge is None:
            slot = kept[0] if primitive.variadic and kept else kept
            array = slot[i] if slot and i < len(slot) else None
            there = i < needed or (shapes and shapes[i] is not None)
            array = literal(node, i) if array is None and there else array
            inputs.append(constant(array) if array is not None else unkept(node, i) if there else None)
            if array is not None:
                arrays[inputs[-1]] = array
        elif isinstance(edge, Tensor):
            inputs.append(leaf_value(edge, leaves))
            if writes.version(edge.array) < node.seq:
                arrays[inputs[-1]] = edge.array
        else:
            inputs.append(_result_of(steps, edge))
    dtype = next((x.dtype for x in inputs if x is not None and x.live), None)
    for value in inputs:
        if type(arrays.get(value)) in (int, float):  # a literal has the dtype of what it is added to
            arrays[value] = np.asarray(arrays[value], dtype)
    return Step(node.seq, primitive, node.params, tuple(inputs), node.scope, place_of(node), node)


def constant(array) -> Value:
    """The value of an array (or number) that needs no gradient."""
    data = Snapshot(array)
    given = number(data.scalar) if not data.shape else ""
    return Value(data.shape, data.dtype, data, given=given).at(array)


def unkept(node, i) -> Value:
    """The value of a constant that backward does not need: the source line may say its name."""
    return Value(given=operand(place_of(node), i))


def literal(node, i) -> float | int | None:
    """The number that the source line has as input i, if it has one."""
    text = operand(place_of(node), i)
    try:
        return float(text) if "." in text or "e" in text else int(text)
    except ValueError:
        return None


def leaf_value(tensor, leaves) -> Value:
    """The value of a leaf that requires grad, one for each leaf."""
    if id(tensor) not in leaves:
        leaves[id(tensor)] = Value(tensor.shape, tensor.dtype, Snapshot(tensor.array), leaf=tensor, live=True)
    return leaves[id(tensor)]


def _fill(step, node, known, arrays, again) -> None:
    """Give the step its results, with the arrays that the node kept, the user holds, or a cheap second run gives."""
    single = node.primitive.outputs == 1
    specs = [(node.shape, None)] if single else node.shape
    kept = node.kept[len(node.primitive.inputs)] if node.kept and not node.primitive.variadic else None
    given = (kept,) if single else kept if isinstance(kept, tuple) else (None,) * len(specs)
    outs = [known.get(node if single else (node, i), out) for i, out in enumerate(given)]
    if again and any(out is None for out in outs) and sum(int(np.prod(shape)) for shape, _ in specs) <= WHOLE:
        outs = _again(step, arrays) or outs
    dtype = next((x.dtype for x in step.inputs if x is not None and x.dtype is not None), None)
    for i, ((shape, own), out) in enumerate(zip(specs, outs, strict=True)):
        known_dtype, data = (own or dtype, None) if out is None else (out.dtype, Snapshot(out))
        step.results += (Value(shape, known_dtype, data, maker=step, index=i, live=True),)
    arrays.update((value, out) for value, out in zip(step.results, outs, strict=True) if out is not None)


def _again(step, arrays) -> list | None:
    """The results computed once more, where every input is known and running the primitive changes nothing."""
    given = [None if x is None else arrays.get(x, x) for x in step.inputs]
    if any(isinstance(x, Value) for x in given) or any(callable(p) for p in step.params.values()):
        return None
    try:
        with np.errstate(all="ignore"):
            out = step.primitive._raw(given, step.params)
    except (ValueError, TypeError, IndexError):  # e.g. a constant whose dtype was that of a number
        return None
    return [out] if step.primitive.outputs == 1 else list(out)


def _result_of(steps, edge):
    """The value at an edge that is a node or (node, result number); `steps` by node or by its id."""
    node, i = edge if type(edge) is tuple else (edge, 0)
    step = steps.get(node) or steps.get(id(node))
    return step.results[i] if step is not None else None


def _value_of(tensor, steps, leaves) -> Value:
    if tensor.grad_fn is not None:
        return _result_of(steps, tensor._edge)
    return leaf_value(tensor, leaves) if tensor.requires_grad else constant(tensor.array)


# ---- modules and names -----------------------------------------------------------------------------------------------


def _call(link, calls, root) -> Call:
    """The call of a linked scope; the link's identity tells two calls of one module apart."""
    chain = []
    while link is not None and id(link) not in calls:
        chain.append(link)
        link = link[0]
    call = root if link is None else calls[id(link)]
    for one in reversed(chain):
        parent, call = call, Call(one[1], call)
        parent.calls.append(call)
        calls[id(one)] = call
    return call


def known_as(tensor, frame) -> str:
    """What the user calls a tensor that is in no program; '' if it has no name."""
    return next((name for one, name in _named({}, frame, {id(tensor)})[0] if one is tensor), "")


def _named(names, frame, leaves) -> tuple[list, dict]:
    """[(tensor, name)], the best name first, of what was passed and what variables hold, and {module path: class name}.

    The name of a module's variable is put before its parameters' where several modules hold some of the `leaves`.
    """
    passed = [(thing, name) for name, thing in names.items() if isinstance(thing, Tensor)]
    variables, entries, modules = [], [], dict[int, tuple]()
    for name, thing in _variables(names, frame):
        if isinstance(thing, Tensor):
            variables.append((thing, name))
        elif hasattr(type(thing), "named_parameters"):
            modules.setdefault(id(thing), (name, thing))
        elif type(thing) in (list, tuple, dict) and len(thing) <= HELD:
            entries += _entries(name, thing)
    paths, kinds = [], {}
    owned = {key: [*m.named_parameters(), *m.named_buffers()] for key, (_, m) in modules.items()}
    several = sum(any(id(p) in leaves for _, p in held) for held in owned.values()) > 1
    for key, (name, module) in modules.items():
        prefix = f"{name}." if several else ""
        paths += [(p, prefix + path) for path, p in owned[key]]
        root = module._name or type(module).__name__
        for path, inner in module.named_modules():
            kinds[f"{root}.{path}" if path else root] = type(inner).__name__
    best = [*passed, *paths, *variables, *entries]
    return [(t, name) for t, name in best if not name.startswith(("_", "@")) and not is_number(t)], kinds


def _variables(names, frame) -> Iterable:
    """(name, thing): what was passed, then the variables of the frame, of its file, and of the user's callers."""
    yield from names.items()
    yield from _locals(frame)
    yield from list(frame.f_globals.items())
    while (frame := frame.f_back) is not None:
        if user_frame(frame) is frame:
            yield from _locals(frame)


def _locals(frame) -> list:
    """A frame's variables and, in a method, those of `self`."""
    own = getattr(frame.f_locals.get("self"), "__dict__", {})
    return [*frame.f_locals.items(), *own.items()]


def _entries(name, held) -> list:
    """The leaves in a list or dict: `params["W1"]` is called W1, `params[0]` so."""
    named = held.items() if type(held) is dict else ((f"{name}[{i}]", thing) for i, thing in enumerate(held))
    return [(t, key) for key, t in named if isinstance(t, Tensor) and t.is_leaf and type(key) is str]
