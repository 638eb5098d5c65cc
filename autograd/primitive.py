"""`Primitive`: an operation that the engine can differentiate, declared in one place.

    @primitive(elementwise=True, formula=r"x\\,y")
    def multiply(k, x, y):                       # k: the kernels of the arrays' device
        return k.multiply(x, y)

    @multiply.vjp("x", formula=r"\\bar o\\,y")
    def multiply_dx(g, y):                       # naming y keeps y alive for backward, if x needs a gradient
        return g * y

A rule's parameter names declare what is kept: an input by its name, the result as `out`, the forward's extra results as
`scratch`, an input's shape as `x_shape`. Rules are polymorphic: they run on raw arrays when the backward pass is not
itself recorded, and on tensors when it is.
"""

from __future__ import annotations

import inspect
import math
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ..kernels import device_of, for_array, for_device, is_array, to_device
from .graph import Node, foreign, root, sequence, user_frame
from .state import state
from .tensor import (
    Tensor,
    as_array,
    bool_,
    float16,
    float32,
    float64,
    form_of,
    get_default_dtype,
    int64,
    is_floating,
    is_number,
    result,
)

REGISTRY: dict[str, Primitive] = {}


class Rule(NamedTuple):
    """A derivative rule: for which inputs, by which function, from which kept values."""

    wrt: tuple[int, ...]  # positions of the inputs whose gradients it returns
    function: Callable
    wants: tuple[int, ...]  # i >= 0: kept[i]; i < 0: the shape of input ~i
    formula: str = ""
    adding: Any = None  # the rule that adds the gradient to what has arrived before
    kernel: Callable | None = None  # what does the same for arrays


@dataclass(slots=True, eq=False)
class Plan:
    """What one primitive does for one pattern of inputs that require gradients; made once, then looked up."""

    primitive: Primitive
    keep: tuple[bool, ...]  # of (inputs…, out, scratch, shapes)
    choose: itemgetter  # what is kept, from (inputs…, out, scratch, shapes, None)
    rules: tuple[Rule, ...]  # the composed rules
    raw: tuple[Rule, ...]  # those of a backward pass that is not recorded: the one-kernel twin, if there is one
    steps: tuple | None  # (input, function, slot, slot, adding) per raw rule where all are that simple; -1: the only
    nothing: tuple | None  # what is kept, if that is nothing
    only_edge: int | None  # where the only live input stands, of primitives with a short path
    only_kept: int | None  # and the only value kept: the node has them without tuples around them
    whole: bool  # neither: the node has all edges and values in tuples


class Cost(NamedTuple):
    """FLOPs and bytes of memory traffic that one application needs at least."""

    flops: float
    bytes: float


class Primitive:
    """A differentiable operation: its forward, its derivative rules, formulas and cost. Call it like a function.

    Tensors and raw arrays may be mixed; if no input is a Tensor, the raw result of the forward is returned.

    >>> cr.multiply, cr.multiply.formula, cr.multiply.inputs
    (<primitive multiply(x, y)>, 'x\\\\,y', ('x', 'y'))
    """

    rules: list[Rule]
    fused: Rule | None
    adding: list[Rule]
    precision = ""  # under autocast: "low", "full", or "" for the widest dtype among the inputs
    composed: Callable | None = None  # of a kernel for several operations: the same by single ones, for watches to see

    def __init__(
        self,
        forward,
        *,
        name,
        elementwise,
        outputs,
        view,
        floating,
        constant,
        scratch,
        formula,
        flops,
        promote,
        recorded,
    ):
        self.forward, self.elementwise, self.outputs = forward, elementwise, outputs
        self.key, self.name = forward.__name__, name or forward.__name__
        self.view, self.floating, self.scratch, self.promote = view, floating, scratch, promote
        self.formula, self.flops, self.recorded = formula, flops, recorded
        parameters = inspect.signature(forward).parameters.values()
        self.variadic = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self.inputs = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL))[1:]
        self.arity = 0 if self.variadic else len(self.inputs)
        self.constant = frozenset(self._position(name, "constant") for name in constant)
        self.rules = []
        self.fused = None
        self.adding = []
        self._plans: dict = {}
        self._quick: list = [None] * 4  # the short path's plans: by 1 for x alive plus 2 for y
        self._small = isinstance(self, (Unary, Binary))
        self.__name__ = self.__qualname__ = self.name
        self.__module__, self.__doc__, self.__wrapped__ = forward.__module__, forward.__doc__, forward
        signature = inspect.signature(forward)
        self.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
        REGISTRY[self.key] = self

    def __repr__(self):
        return f"<primitive {self.name}{self.__signature__}>"

    # ---- declaring ---------------------------------------------------------------------------------------------------

    def vjp(self, *wrt: str, formula: str = "", kernel: str = ""):
        """Declare the rule that turns the result's gradient `g` into the gradients of the inputs named.

        kernel: what computes the same of the same arrays on the CPU, where the backward pass is not recorded.
        """

        def register(rule):
            serving = getattr(for_device("cpu"), kernel) if kernel else None
            self.rules.append(self._rule(wrt, rule, 1, formula)._replace(kernel=serving))
            self.forget_plans()
            return rule

        return register

    def fused_vjp(self, *wrt: str):
        """Declare the one-kernel twin `rule(k, g, …)` of the composed rules, used when backward is not recorded.

        Like a rule, it returns one gradient for one input, a tuple for several. A keyword-only parameter `live` is told
        which of the inputs require gradients.
        """

        def register(rule):
            self.fused = self._rule(wrt, rule, 2, "")
            self.forget_plans()
            return rule

        return register

    def vjp_into(self, wrt: str):
        """Declare the twin `rule(k, g, into, …)` that adds the gradient of one input, which a rule of its own has.

        Used when backward is not recorded and `into` holds what has arrived before: then a part of a large input costs
        no more than the part, and no use of a weight an array of its size.
        """
        if self.variadic:
            raise TypeError(f"{self.name}.vjp_into: '{wrt}' is any number of inputs; declare a twin for one, or a rule")

        def register(rule):
            self.adding.append(self._rule((wrt,), rule, 3, ""))
            self.forget_plans()
            return rule

        return register

    def forget_plans(self) -> None:
        """Make plans anew at the next use: the rules have changed."""
        self._plans.clear()
        self._quick[:] = [None] * 4

    @property
    def differentiable(self) -> bool:
        """Whether it has a derivative rule for some input."""
        return bool(self.rules)

    def _rule(self, wrt, function, skip, formula) -> Rule:
        wants = _positional(function)[skip:]
        at = tuple(self._position(name, "vjp") for name in wrt)
        return Rule(at, function, tuple(self._slot(name, function) for name in wants), formula)

    def _position(self, name, where) -> int:
        if name not in self.inputs:
            raise TypeError(f"{self.name}.{where}: '{name}' is not an input; the inputs are {', '.join(self.inputs)}")
        return self.inputs.index(name)

    def _slot(self, name, rule) -> int:
        slots = {**{x: i for i, x in enumerate(self.inputs)}, "out": len(self.inputs), "scratch": len(self.inputs) + 1}
        slots.update({f"{x}_shape": ~i for i, x in enumerate(self.inputs)})
        if name not in slots:
            raise TypeError(
                f"{self.name}: the rule {rule.__name__} asks for '{name}'; a rule may ask for {', '.join(slots)}"
            )
        return slots[name]

    # ---- applying ----------------------------------------------------------------------------------------------------

    def __call__(self, *inputs, **params):
        """Apply it: the path of every operation that `short` does not take, long for the same reason."""
        for x in inputs:
            if type(x) is not ndarray:
                break
        else:
            return self._raw(inputs, params)
        now = state_get()
        watch = now.watch
        if now.low and self.precision:
            inputs = self._in_precision(inputs, now.low)
        arrays, live, edges, dtype, kind = [], [], [], None, None
        for x in inputs:
            if isinstance(x, Tensor):
                array = x.array
                if array.dtype is not dtype and len(arrays) not in self.constant:
                    if dtype is not None:
                        break
                    dtype = array.dtype
                if type(array) is not kind:
                    if kind is not None:
                        break
                    kind = type(array)
                arrays.append(array)
                live.append(x._live)
                edges.append((x._edge or x) if x._live else None)
            elif x is None:
                arrays.append(None)
                live.append(False)
                edges.append(None)
            else:
                break
        if len(arrays) < len(inputs) or (self.floating and dtype is not None and not is_floating(dtype)):
            if _arrays_and_numbers(inputs):
                return self._raw(self._as_arrays(inputs), params)
            arrays, live, edges = self._uniform(inputs)
        forward = self.forward
        if watch:
            if self.composed and any([one.composed for one in watch]):
                return self.composed(*inputs, **params)
            forward = np.errstate(all="ignore")(forward)  # what a watch says of the values says more
            for one in watch:
                one.begins(self, inputs, arrays, params)
        try:
            kernels = for_array(arrays[0])
            if arrays[0].dtype.kind == "V" and self.promote:
                forward = partial(_by_single, self, forward)
            out = forward(kernels, *arrays, **params)
        except (ValueError, TypeError, IndexError, MemoryError) as error:
            _complain(self.name, self.elementwise, error, arrays)
        scratch = node = None
        if self.scratch:
            out, scratch = out
        single = self.outputs == 1
        if not single:
            out = tuple([as_ndarray(o) for o in out])
        elif type(out) is not ndarray:
            out = as_ndarray(out)
        if now.record and True in live and self.recorded:
            if len(arrays) < self.arity:  # trailing optional inputs were left out
                for values, nothing in ((arrays, None), (live, False), (edges, None)):
                    values.extend([nothing] * (self.arity - len(values)))
            pattern = tuple(live)
            plan = self._plans.get(pattern) or self._plan(pattern)
            if self.view:
                scratch = weakref.ref(root(out if single else arrays[0]))
            shapes = tuple([None if a is None else a.shape for a in arrays]) if plan.keep[-1] else None
            node = Node()
            node.plan = plan
            node.source = tuple(edges) if plan.only_edge is None else edges[plan.only_edge]
            given = (tuple(arrays),) if self.variadic else arrays
            node.saved = plan.nothing or plan.choose((*given, out, scratch, shapes, None))
            node.params = params
            node.shape = out.shape if single else tuple([(o.shape, o.dtype) for o in out])
            node.scope = now.scope
            frame = user_frame(getframe(1))
            node.code = frame.f_code
            node.lasti = frame.f_lasti
            node.seq = next(sequence)
        for one in watch:
            one.made(self, node, arrays, out)
        if single:
            return result(out, node, node is not None)
        if node is None:
            return tuple([result(o) for o in out])
        return tuple([result(o, (node, i), is_floating(o.dtype)) for i, o in enumerate(out)])

    def _raw(self, arrays, params):
        """Arrays in, arrays out: what rules do when the backward pass is not recorded."""
        forward = self.forward
        try:
            kernels = for_array(arrays[0])
            if arrays[0].dtype.kind == "V" and self.promote:
                forward = partial(_by_single, self, forward)
            out = forward(kernels, *arrays, **params)
        except (ValueError, TypeError, IndexError, MemoryError) as error:
            _complain(self.name, self.elementwise, error, arrays)
        if self.scratch:
            out = out[0]
        return out if self.outputs != 1 or type(out) is ndarray else as_ndarray(out)

    def _as_arrays(self, inputs):
        """Arrays and Python numbers as arrays of their common dtype."""
        device = next((device_of(x) for x in inputs if is_array(x)), "cpu")
        arrays = [x if x is None else _on(device, x) for x in inputs]
        return _raw_promoted(self, inputs, arrays) if self.promote else arrays

    def _uniform(self, inputs):
        """The arrays, which of them require grad, and the edges, of inputs brought to one dtype by recorded casts."""
        device = _common_device(self, inputs)
        inputs = [x if x is None or isinstance(x, (Tensor, int, float)) else _constant(self, x) for x in inputs]
        inputs = self._promoted(inputs, device) if self.promote else inputs
        inputs = [x if x is None else _moved(x, device) for x in inputs]
        live = [x is not None and x._live for x in inputs]
        edges = [(x._edge or x) if on else None for x, on in zip(inputs, live, strict=True)]
        return [x if x is None else x.array for x in inputs], live, edges

    def _in_precision(self, inputs, low):
        """The inputs under autocast: floating tensors of its devices in 16 bits, or in float32; float64 as it is."""
        target = lambda x: low[x.device] if self.precision == "low" else float32
        moves = [isinstance(x, Tensor) and x.is_floating_point() and x.device in low for x in inputs]
        return [
            _cast(x, target(x), x.device) if move and x.dtype is not float64 and i not in self.constant else x
            for i, (x, move) in enumerate(zip(inputs, moves, strict=True))
        ]

    def _promoted(self, inputs, device):
        """The inputs in their common dtype."""
        movable = [i for i, x in enumerate(inputs) if x is not None and (self.variadic or i not in self.constant)]
        dtype = result_type(*[inputs[i] for i in movable])
        if self.floating and not is_floating(dtype):
            dtype = get_default_dtype()
        for i in movable:
            inputs[i] = _cast(inputs[i], dtype, device)
        return inputs

    def _implementation(self, array):
        """The forward bound to the kernels of `array`'s device, remembered by the array's type."""
        kernels = for_array(array)
        bound = getattr(kernels, self.name) if self._direct else partial(self.forward, kernels)
        self._implementations[type(array)] = bound
        return bound

    def _plan(self, live) -> Plan:
        ruled = self.constant.union(*[rule.wrt for rule in self.rules])
        for i, on in enumerate(live):
            if on and not self.variadic and i not in ruled:
                raise NotImplementedError(
                    f"{self.name}: input '{self.inputs[i]}' requires grad, but there is no rule for it; declare one "
                    f"with @{self.name}.vjp('{self.inputs[i]}'), or name it in constant=, or pass it detached"
                )
        on = (lambda rule: any(live)) if self.variadic else (lambda rule: any(live[i] for i in rule.wrt))
        rules = tuple([rule for rule in self.rules if on(rule)])
        adding = {rule.wrt: _bound(rule) for rule in self.adding if on(rule)}
        raw = tuple([r._replace(function=r.kernel or r.function, adding=adding.get(r.wrt)) for r in rules])
        if self.fused and on(self.fused):
            raw = (_bound(self.fused, live),)
        wants = {slot for rule in (*rules, *raw, *adding.values()) for slot in rule.wants}
        if self.view:
            wants.add(len(self.inputs) + 1)
        keep = tuple([i in wants for i in range(len(self.inputs) + 2)]) + (any(slot < 0 for slot in wants),)
        nothing = None if True in keep else (None,) * len(keep)
        only_edge = live.index(True) if self._small and live.count(True) == 1 else None
        only_kept = keep.index(True) if self._small and keep.count(True) == 1 else None
        slots = [i if kept else -1 for i, kept in enumerate(keep)] if only_kept is None else [only_kept]
        choose = itemgetter(*slots)
        steps = self._steps(raw, only_edge, only_kept)
        only = only_edge, only_kept
        plan = self._plans[live] = Plan(self, keep, choose, rules, raw, steps, nothing, *only, only == (None, None))
        return plan

    def _quick_plan(self, live: int) -> Plan:
        """The plan for the pattern of the bits of `live`, remembered for the short path."""
        plan = self._quick[live] = self._plan(tuple([bool(live >> i & 1) for i in range(self.arity)]))
        return plan

    def _steps(self, rules, only_edge, only_kept):
        if self.variadic or self.outputs != 1 or any(len(rule.wrt) > 1 for rule in rules):
            return None
        if self._small and any(rule.adding for rule in rules):
            return None
        if only_edge is not None and len(rules) > 1:  # the walk goes on to the only input as soon as it has a gradient
            return None
        every = [*rules, *[rule.adding for rule in rules if rule.adding]]
        if any(len(rule.wants) > 2 or min(rule.wants, default=0) < 0 for rule in every):
            return None
        at = lambda rule: rule.wrt[0] if only_edge is None else -1
        slots = lambda rule: [slot if only_kept is None else -1 for slot in rule.wants] + [None] * (2 - len(rule.wants))
        return tuple([(at(rule), rule.function, *slots(rule), rule.adding) for rule in rules])

    def cost(self, input_shapes, output_shapes, itemsize=4, **params) -> Cost:
        """FLOPs and least memory traffic in bytes for inputs and outputs of the shapes given.

        >>> cr.multiply.cost([(3, 4), (4,)], [(3, 4)])
        Cost(flops=12, bytes=112)
        """
        moved = itemsize * sum(math.prod(s) for s in (*input_shapes, *output_shapes) if s is not None)
        flops = self.flops
        if callable(flops):
            flops = flops(*input_shapes, out=output_shapes[0], **params)
        else:
            flops = flops * math.prod(output_shapes[0])
        return Cost(flops, 0 if self.view else moved)


class Unary(Primitive):
    """A primitive of one input and any metadata: the general path, and `short` for the common case."""

    def __init__(self, forward, *, direct=False, **options):
        super().__init__(forward, **options)
        self._direct = direct
        self._implementations = {}
        self.short = _short_one(self)

    def __call__(self, x, **params):
        return self.short(x, (None, params, 2)) if params else self.short(x)


class Binary(Primitive):
    """A primitive of two inputs without metadata: the general path, and `short` for the common case."""

    def __init__(self, forward, *, direct=False, **options):
        super().__init__(forward, **options)
        self._direct = direct
        self._implementations = {}
        self.short = _short_two(self)

    def __call__(self, x, y):
        return self.short(x, y)

    def general(self, x, y):
        """The path of every case that `short` leaves."""
        if is_number(x) and isinstance(y, Tensor) and not self.floating and result_type(x, y) is y.dtype:
            x = result(_on(y.device, x, y.dtype))
        return Primitive.__call__(self, x, y)


new, ndarray = object.__new__, np.ndarray
getframe = sys._getframe
state_get = state.get


# The two functions below are the path of nearly every small operation; their length is what saves the calls, arguments
# and look-ups that would cost as much as the arithmetic. What they do is what `Primitive.__call__` does.


def _short_one(self):
    """`self(x, **params)` for one tensor.

    After x it takes what computes NumPy's arrays (the forward on the CPU with the metadata, or what does the same;
    None: the forward is to be given them), the metadata, and how far up the first caller is that may be the user's.
    """
    bound, bind, plans = self._implementations.get, self._implementation, self._quick
    on_cpu = bind(np.empty(0))
    at_once = getattr(on_cpu, "ufunc", on_cpu)  # for arrays too small for threads
    forward, view, recorded = self.forward, self.view, self.recorded
    plain = self.elementwise and len(self.__signature__.parameters) == 1
    kinds = "f" if self.floating else "" if plain or view else "fiub"  # of dtypes that it computes in; "": in all
    alike = plain and self._direct  # then a floating result has its input's form
    known = common = None

    def short(x, how=(at_once, None, 1)):
        nonlocal known, common
        try:
            call, params, depth = how
        except (TypeError, ValueError):
            raise TypeError(f"{self.name} takes one tensor, and metadata by name; received {how!r} as well") from None
        if type(x) is not Tensor and not isinstance(x, Tensor):
            params = params or {}
            return self._raw((x,), params) if type(x) is ndarray else Primitive.__call__(self, x, **params)
        a = x.array
        form = x._form if alike else None
        now = state_get()
        if not now.plain or (kinds and a.dtype.kind not in kinds):
            return Primitive.__call__(self, x, **params or {})
        try:
            if form is not None and form.solid:
                out = call(a)
            else:
                kind = type(a)
                if kind is ndarray and call is not None:
                    out = (on_cpu if call is at_once else call)(a)
                elif params:
                    out = forward(for_array(a), a, **params)
                else:
                    out = (bound(kind) or bind(a))(a)
                if type(out) is not kind:
                    out = as_ndarray(out)
        except (ValueError, TypeError, IndexError, MemoryError) as error:
            if params:
                return Primitive.__call__(self, x, **params)  # the forward says why it cannot be
            _complain(self.name, self.elementwise, error, (a,))
        tensor = new(Tensor)
        tensor.array = out
        tensor._grad = None
        if now.record and x._live and recorded:
            plan = plans[1] or self._quick_plan(1)
            tensor._edge = node = Node()
            tensor._live = True
            node.plan = plan
            node.source = x._edge or x
            only = plan.only_kept
            if only is None:
                node.saved = plan.nothing or (
                    a if plan.keep[0] else None,
                    out if plan.keep[1] else None,
                    weakref.ref(root(out)) if view else None,
                    (a.shape,) if plan.keep[3] else None,
                )
            else:
                node.saved = out if only == 1 else a if only == 0 else weakref.ref(root(out)) if view else (a.shape,)
            node.params = params
            tensor._form = form
            shape = out.shape if form is None else form.shape
            if shape == common:
                shape = common  # one tuple for a run of equal shapes
            else:
                common = shape
            node.shape = shape
            node.scope = now.scope
            try:
                frame = getframe(depth)
            except ValueError:  # nobody is that far up: a thread begins here
                frame = getframe(0)
            code = frame.f_code
            if code is not known:
                if code.co_filename in foreign:
                    known = code
                else:
                    frame = user_frame(frame)
                    code = frame.f_code
            node.code = code
            node.lasti = frame.f_lasti
            node.seq = next(sequence)
        else:
            tensor._form = tensor._edge = None
            tensor._live = False
        return tensor

    return _named(short, self)


def _short_two(self):
    """`self(x, y)` for a tensor and another of the same dtype, or a Python number."""
    bound, bind, plans = self._implementations.get, self._implementation, self._quick
    on_cpu = bind(np.empty(0))
    at_once = getattr(on_cpu, "ufunc", on_cpu)  # for arrays too small for threads
    general, recorded, floating, elementwise = self.general, self.recorded, self.floating, self.elementwise
    alike = elementwise and self._direct  # then a floating result of two inputs of one form has that form
    depth = 1 if elementwise else 2  # of the first caller that may be the user's: an operator is `short` itself
    known, common = None, form_of(np.empty(0))

    def short(x, y):
        nonlocal known, common
        if type(x) is not Tensor and not isinstance(x, Tensor):
            return self._raw((x, y), {}) if type(x) is type(y) is ndarray else general(x, y)
        a = x.array
        form = x._form if alike else None
        now = state_get()
        if not now.plain or (floating and a.dtype.kind != "f"):
            return general(x, y)
        try:
            if form is not None and form.solid and type(y) is Tensor and y._form is form:
                b, live = y.array, y._live
                out = at_once(a, b)
            else:
                kind = type(a)
                if type(y) is Tensor or isinstance(y, Tensor):
                    b, live = y.array, y._live
                    if form is None or y._form is not form:
                        if b.dtype is not a.dtype:
                            return general(x, y)
                        form = None
                    out = (on_cpu if kind is ndarray else bound(kind) or bind(a))(a, b)
                elif elementwise and (type(y) is float or type(y) is int):
                    b, live = y, False
                    if form is not None and form.solid:
                        out = at_once(a, b)
                    else:
                        out = (on_cpu if kind is ndarray else bound(kind) or bind(a))(a, b)
                    if out.dtype is not a.dtype and out.dtype.kind != "b":
                        return general(x, y)
                else:
                    return general(x, y)
                if type(out) is not kind:
                    out = np.asarray(out)
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            other = y.array if isinstance(y, Tensor) else y
            if is_array(other) and type(other) is not type(a):
                return general(x, y)
            _complain(self.name, elementwise, error, (a, other))
        tensor = new(Tensor)
        tensor.array = out
        tensor._grad = None
        if recorded and now.record and (x._live or live):
            tensor._edge = node = Node()
            tensor._live = True
            if form is None:  # one form for a run of results that are alike
                form, shape = common, out.shape
                if form.shape != shape or form.dtype is not out.dtype or form.kind is not type(out):
                    form = common = form_of(out)
            tensor._form = form
            if not live:
                plan = plans[1] or self._quick_plan(1)
                node.source = x._edge or x
            elif x._live:
                plan = plans[3] or self._quick_plan(3)
                node.source = (x._edge or x, y._edge or y)
            else:
                plan = plans[2] or self._quick_plan(2)
                node.source = y._edge or y
            node.plan = plan
            only = plan.only_kept
            if only is None:
                node.saved = plan.nothing or (
                    a if plan.keep[0] else None,
                    b if plan.keep[1] else None,
                    out if plan.keep[2] else None,
                    None,
                    (a.shape, np.shape(b)) if plan.keep[4] else None,
                )
            else:
                node.saved = b if only == 1 else a if only == 0 else out if only == 2 else (a.shape, np.shape(b))
            node.params = None
            node.shape = form.shape
            node.scope = now.scope
            try:
                frame = getframe(depth)
            except ValueError:  # nobody is that far up: a thread begins here
                frame = getframe(0)
            code = frame.f_code
            if code is not known:
                if code.co_filename in foreign:
                    known = code
                else:
                    frame = user_frame(frame)
                    code = frame.f_code
            node.code = code
            node.lasti = frame.f_lasti
            node.seq = next(sequence)
        else:
            tensor._form = tensor._edge = None
            tensor._live = False
        return tensor

    return _named(short, self)


def _named(short, primitive):
    short.__name__ = short.__qualname__ = primitive.name
    short.__doc__, short.__signature__ = primitive.__doc__, primitive.__signature__
    return short


def primitive(
    function=None,
    *,
    name=None,
    elementwise=False,
    outputs=1,
    view=False,
    floating=False,
    constant=(),
    scratch=False,
    direct=False,
    promote=True,
    differentiable=True,
    formula="",
    flops=1,
):
    """Declare a primitive from its forward `f(k, *arrays, **metadata)`.

    name: what pictures and errors call it (the function's name). elementwise: the inputs broadcast, and the engine sums
    their gradients back to shape. outputs: how many results; None where inputs and metadata decide. view: the results
    look at the first input's memory. floating: integers are converted to floats first. constant: names of inputs that
    have no derivative and keep their dtype (indices, masks). scratch: the forward gives (result, scratch). direct: the
    forward is nothing but the kernel of the same name. promote: bring the inputs to their common dtype. differentiable:
    False for a result that is never recorded, and so needs no rule. formula: LaTeX of the result. flops: per element of
    the result, or a function of the input shapes and `out`.

    >>> from chainrule.autograd import primitive
    >>> @primitive(elementwise=True, formula=r"x^3")
    ... def cube(k, x):
    ...     return x * x * x
    >>> @cube.vjp("x", formula=r"3 x^2 \\\\bar o")
    ... def cube_dx(g, x):
    ...     return g * (3 * x * x)
    >>> x = cr.tensor(2.0, requires_grad=True)
    >>> cube(x).backward(); x.grad.item()
    12.0
    """
    options = dict(name=name, elementwise=elementwise, outputs=outputs, view=view, floating=floating, constant=constant)
    options.update(scratch=scratch, formula=formula, flops=flops, promote=promote, recorded=differentiable)

    def declare(forward):
        kinds = [p.kind for p in inspect.signature(forward).parameters.values()]
        positional = len(_positional(forward))
        metadata = inspect.Parameter.KEYWORD_ONLY in kinds
        plain = outputs == 1 and not scratch and not constant and inspect.Parameter.VAR_POSITIONAL not in kinds
        if plain and positional == 2:
            return Unary(forward, direct=direct, **options)
        if plain and positional == 3 and promote and not metadata and not forward.__defaults__:
            return Binary(forward, direct=direct, **options)
        return Primitive(forward, **options)

    return declare(function) if function else declare


def _bound(rule, live=()) -> Rule:
    """A rule for the kernels as a rule of the gradient, told which inputs are alive if it wants to know."""
    function = rule.function
    if "live" in inspect.signature(function).parameters:
        function = partial(function, live=live)

    def bound(g, *values, **params):
        try:
            if type(g) is tuple:
                return function(for_array(g[0]), g, *values, **params)
            if type(g) is not ndarray:
                g = as_ndarray(g)  # NumPy's arithmetic turns 0-d arrays into scalars
            return function(for_array(g), g, *values, **params)
        except MemoryError as error:
            _complain(rule.function.__name__, False, error, (*(g if type(g) is tuple else (g,)), *values))

    bound.__name__ = rule.function.__name__
    return rule._replace(function=bound)


def _positional(function) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def as_ndarray(value):
    """`value`, where NumPy made a scalar of a 0-d array, as an array again."""
    return np.asarray(value) if isinstance(value, (np.generic, int, float)) else value


# ---- dtypes ----------------------------------------------------------------------------------------------------------


def _by_single(self, forward, k, *arrays, **params):
    """A forward on bfloat16: on the CPU computed in float32 (views apart); float32 results are rounded back."""
    low = arrays[0].dtype
    if type(arrays[0]) is ndarray and not self.view:
        arrays = [x.astype(float32) if x is not None and x.dtype is low else x for x in arrays]
    out = forward(k, *arrays, **params)
    if self.scratch:
        return _rounded(out[0], low), out[1]
    return _rounded(out, low)


def _rounded(out, low):
    if isinstance(out, (tuple, list)):
        return tuple([_rounded(o, low) for o in out])
    return out.astype(low) if out.dtype == float32 else out


_CATEGORY = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2}


def promote_types(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype that holds both, by PyTorch's lattice: a float wins over any integer.

    >>> cr.promote_types(cr.int64, cr.float32)
    dtype('float32')
    """
    a, b = np.dtype(a), np.dtype(b)
    if "V" in (a.kind, b.kind) and float16 in (a, b):  # neither holds the other
        return float32
    difference = _CATEGORY[a.kind] - _CATEGORY[b.kind]
    return np.promote_types(a, b) if difference == 0 else a if difference > 0 else b


def result_type(*values) -> np.dtype:
    """The dtype of an operation on `values`, by PyTorch's rules.

    Tensors with dimensions decide; a 0-d tensor, and after it a Python number, only raises the category (bool, integer,
    float). Numbers are of the default dtype or int64.

    >>> cr.result_type(cr.ones(2, dtype=cr.float32), cr.tensor(1.0, dtype=cr.float64), 2.5)
    dtype('float32')
    """
    ranks: list[np.dtype | None] = [None, None, None]
    for value in values:
        if isinstance(value, Tensor):
            rank, dtype = 0 if value.array.ndim else 1, value.array.dtype
        elif is_array(value):
            rank, dtype = 0 if value.ndim else 1, value.dtype
        else:
            rank, dtype = (
                2,
                bool_ if isinstance(value, (bool, np.bool_)) else int64 if _integral(value) else get_default_dtype(),
            )
        known = ranks[rank]
        ranks[rank] = dtype if known is None else promote_types(known, dtype)
    decided: Any = None
    for known in ranks:
        if decided is None or (known is not None and _CATEGORY[known.kind] > _CATEGORY[decided.kind]):
            decided = known
    return decided


def _integral(value) -> bool:
    return isinstance(value, (int, np.integer))


def _common_device(self, inputs) -> str:
    """The one device of the tensors among the inputs; 0-d tensors on the CPU follow the others."""
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    if not any([x.device == "cuda" for x in tensors]):
        return "cpu"
    if any([x.ndim and x.device == "cpu" for x in tensors]):
        described = ", ".join(f"shape {x.shape} on {x.device}" for x in tensors)
        raise RuntimeError(
            f"{self.name}: received tensors on different devices: {described}; move them to one, by t.to('cuda')"
        )
    return "cuda"


def _moved(x, device) -> Tensor:
    if not isinstance(x, Tensor):
        return result(_on(device, x, as_array(x).dtype))
    if x.device == device:
        return x
    from .ops.convert import to

    return to(x, device=device)


def _on(device, x, dtype=None):
    """An array or number as an array on a device; a number is filled in there, which copies nothing from the CPU."""
    if device == "cpu":
        return for_device("cpu").asarray(x, dtype=dtype)
    if is_number(x):
        return for_device(device).full((), x, dtype or np.asarray(x).dtype)
    return to_device(x if is_array(x) else np.asarray(x), device)


def _cast(x, dtype, device):
    if not isinstance(x, Tensor):
        return result(_on(device, x, dtype))
    if x.array.dtype is dtype:
        return x
    from .ops.convert import to

    return to(x, dtype)


def _raw_promoted(self, inputs, arrays):
    """Python numbers among raw arrays take the dtype of the arrays with dimensions, else of the 0-d ones (NEP 50)."""
    known = [
        a.dtype if (is_array(x) or isinstance(x, np.generic)) and i not in self.constant else None
        for i, (x, a) in enumerate(zip(inputs, arrays, strict=True))
    ]
    dtypes = {t for t, a in zip(known, arrays, strict=True) if t is not None and a.ndim} or {
        t for t in known if t is not None
    }
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    return [
        a.astype(dtype) if dtype is not None and isinstance(x, (int, float)) and not isinstance(x, np.generic) else a
        for x, a in zip(inputs, arrays, strict=True)
    ]


def _arrays_and_numbers(inputs) -> bool:
    """Whether no input is a tensor and one is an array."""
    return not any([isinstance(x, Tensor) for x in inputs]) and any(
        [is_array(x) or isinstance(x, np.generic) for x in inputs]
    )


def _constant(self, x):
    """An array among tensors, copied while recording: the rule may keep it, and its owner may fill it anew."""
    if is_array(x) or isinstance(x, (np.generic, list, tuple)):
        array = as_array(x)
        return Tensor(array.copy() if array is x and state.get().record else array)
    raise TypeError(
        f"{self.name}: received {type(x).__name__} {x!r} as an input; an operation takes tensors, arrays, nested "
        "lists and numbers"
    )


# ---- errors ----------------------------------------------------------------------------------------------------------


def _complain(name, elementwise, error, arrays):
    """Raise the kernel's complaint with what was received and, for shapes that do not broadcast or fit, the fix."""
    text = str(error)
    if text.startswith(f"{name}:") or (isinstance(error, MemoryError) and error.__cause__):
        raise error
    received = ", ".join(described(a) for a in arrays if a is not None)
    if isinstance(error, MemoryError):
        held = for_array(next(a for a in arrays if is_array(a))).memory_held()
        raise MemoryError(
            f"{name}: received {received}; out of memory: {text or 'no more is given'}; {held}. Take a smaller batch, "
            "run what needs no gradient under cr.no_grad(), or keep less for backward by cr.checkpoint"
        ) from error
    if "broadcast" in text and elementwise:
        raise ValueError(
            f"{name}: {received} do not broadcast; aligned at the right, each pair of sizes must be equal or "
            "hold a 1; use reshape or unsqueeze to align them"
        ) from error
    raise type(error)(f"{name}: {text} (received {received})") from error


def described(a) -> str:
    """An operand in a message: its shape and dtype, or the number itself."""
    return f"shape {a.shape} of {a.dtype}" if is_array(a) else repr(a)
