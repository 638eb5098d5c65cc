"""The walk from results back to leaves: the whole of reverse-mode differentiation, on one page.

Nodes are visited newest first. Sequence numbers increase along every edge, so a node is visited only after all that
used its result: with `b = a + a; c = b + b`, `b` must have both of its contributions before it passes them on.
"""

from __future__ import annotations

from contextlib import nullcontext
from heapq import heappop, heappush
from operator import attrgetter
from sys import getrefcount

import numpy as np

from ..kernels import for_array, for_device
from .collector import put_off
from .graph import ALONE, Node, leaf_hooks, node_hooks, recomputes, root, writes
from .ops.convert import clone
from .ops.shape import sum_to
from .primitive import as_ndarray
from .state import State, state
from .tensor import Tensor, as_array, is_floating, is_writeable, result

_by_seq, _add = attrgetter("seq"), for_device("cpu").add


def backward(output, gradient=None, retain_graph=None, create_graph=False, inputs=None) -> None:
    """`Tensor.backward`, also for several outputs at once (lists of tensors and of gradients).

    >>> x = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> cr.autograd.backward([(x * x).sum(), x.sum()]); x.grad
    tensor([3., 5.])
    """
    outputs = _listed(output)
    seeds = _seeds("backward", outputs, gradient)
    wanted = None if inputs is None else [_wanted("backward", x) for x in _listed(inputs)]
    for i, edge in enumerate(wanted or ()):
        if not isinstance(edge, Tensor):
            raise RuntimeError(
                f"backward: input {i} is the result of an operation, and backward accumulates into leaves; "
                "use cr.autograd.grad for results"
            )
    gradients = _walk(outputs, seeds, wanted, _keep(retain_graph, create_graph), create_graph)
    if create_graph:
        put_off.cyclic = True
    given = _memory_of(seeds)
    for leaf in [edge for edge in gradients if isinstance(edge, Tensor)]:
        if leaf.array.dtype.kind == "V":
            _round(gradients, leaf, leaf)
        _accumulate(leaf, gradients, create_graph, given)


def grad(
    outputs,
    inputs,
    grad_outputs=None,
    retain_graph=None,
    create_graph=False,
    allow_unused=False,
    materialize_grads=False,
):
    """The gradients of `outputs` with respect to `inputs`, as new tensors; no `.grad` changes.

    For outputs y and cotangents v (1 for scalars), returns vᵀ ∂y/∂x for each input x, in order. With
    `create_graph=True` the result is itself differentiable.

    Errors: RuntimeError for an input that no output depends on (unless `allow_unused`, which gives None, or
    `materialize_grads`, which gives zeros).

    >>> x = cr.tensor(2.0, requires_grad=True)
    >>> dy, = cr.autograd.grad(x ** 3, [x], create_graph=True)
    >>> d2y, = cr.autograd.grad(dy, [x])
    >>> dy.item(), d2y.item()
    (12.0, 12.0)
    """
    outputs, targets = _listed(outputs), _listed(inputs)
    seeds = _seeds("grad", outputs, grad_outputs)
    edges = [_wanted("grad", x) for x in targets]
    gradients = _walk(outputs, seeds, edges, _keep(retain_graph, create_graph), create_graph)
    if not (allow_unused or materialize_grads):
        for i, (target, edge) in enumerate(zip(targets, edges, strict=True)):
            if edge not in gradients:
                raise RuntimeError(
                    f"grad: no output depends on input {i}, a tensor of shape {target.shape}; "
                    "pass allow_unused=True to get None for it, or materialize_grads=True for zeros"
                )
    given, made = _memory_of(seeds), []
    first = {}
    for edge, target in zip(edges, targets, strict=True):
        if edge in gradients:
            if target.array.dtype.kind == "V":
                _round(gradients, edge, target)
            made.append(_owned(gradients, edge, create_graph, given))
            first[edge] = made[-1]
        elif edge in first:
            made.append(clone(first[edge]))
        else:
            made.append(_zeros_like(target) if materialize_grads else None)
    return tuple(made)


def _round(gradients, edge, target) -> None:
    """Bring a gradient of bfloat16 back to it: NumPy's product of bfloat16 and a Python number is float32."""
    if gradients[edge].dtype != target.dtype:
        gradient = gradients[edge]
        rounded = gradient.to if isinstance(gradient, Tensor) else gradient.astype
        gradients[edge] = rounded(target.dtype)


def _zeros_like(tensor) -> Tensor:
    return result(for_array(tensor.array).zeros(tensor.shape, tensor.dtype))


# ---- what is asked ---------------------------------------------------------------------------------------------------


def _listed(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _keep(retain_graph, create_graph) -> bool:
    return create_graph if retain_graph is None else retain_graph


def _wanted(who, tensor):
    if not isinstance(tensor, Tensor) or not tensor._live:
        raise RuntimeError(
            f"{who}: an input {'of shape ' + str(tensor.shape) if isinstance(tensor, Tensor) else repr(tensor)} does "
            "not require grad, so nothing about it was recorded; create it with requires_grad=True"
        )
    return tensor._edge or tensor


def _seeds(who, outputs, gradients) -> list[Tensor]:
    gradients = [None] * len(outputs) if gradients is None else _listed(gradients)
    if len(gradients) != len(outputs):
        raise ValueError(f"{who}: received {len(outputs)} outputs and {len(gradients)} gradients; pass one for each")
    return [_seed(who, y, g) for y, g in zip(outputs, gradients, strict=True)]


def _seed(who, output, gradient) -> Tensor:
    if not isinstance(output, Tensor):
        raise TypeError(f"{who}: received {type(output).__name__} as an output; pass a Tensor")
    if not output._live:
        raise RuntimeError(
            f"{who}: the output of shape {output.shape} does not require grad: nothing was recorded on the way to it; "
            "set requires_grad=True on a leaf before computing, and look for no_grad() or detach()"
        )
    if gradient is None:
        if output.array.size != 1:
            raise RuntimeError(
                f"{who}: the output has shape {output.shape}; without a gradient argument it must have one element; "
                "reduce it, e.g. with .sum(), or pass gradient= of that shape"
            )
        one = for_array(output.array).empty(output.array.shape, output.array.dtype)
        one.fill(1)
        return result(one)
    gradient = gradient if isinstance(gradient, Tensor) else Tensor(as_array(gradient, None, output.device))
    if gradient.shape != output.shape:
        raise ValueError(
            f"{who}: the gradient has shape {gradient.shape} but the output has shape {output.shape}; they must be "
            "equal"
        )
    if gradient.device != output.device:
        raise ValueError(
            f"{who}: the gradient is on {gradient.device} but the output on {output.device}; move it, by "
            f"gradient.to('{output.device}')"
        )
    if gradient.dtype is output.dtype:
        return gradient
    if not is_floating(gradient.dtype):
        return result(gradient.array.astype(output.dtype))
    return gradient.to(output.dtype)


# ---- the walk --------------------------------------------------------------------------------------------------------


def _walk(outputs, seeds, wanted, keep, create_graph) -> dict:
    """Edge -> gradient (arrays; Tensors under create_graph) for every leaf reached, or for the `wanted` edges."""
    table: dict = {}
    ours: set = set()  # edges whose gradient we allocated, so that more may be added in place
    for output, seed in zip(outputs, seeds, strict=True):
        edge = output._edge or output
        _deposit(table, ours, edge, seed if create_graph else seed.array, create_graph)
    previous = state.get()
    state.set(State(create_graph, previous.watch, scope=previous.scope, entered=previous.entered))
    try:
        if wanted is None and not create_graph and not previous.watch:
            _walk_plainly(table, ours, keep)
            captured = table
        else:
            for watch in previous.watch:
                watch.walks(outputs, seeds, create_graph)
            with np.errstate(all="ignore") if previous.watch else nullcontext():
                captured = _walk_carefully(table, ours, keep, wanted, create_graph, previous.watch)
        if leaf_hooks:
            _hook_leaves(table, wanted, create_graph)
    except BaseException:
        for watch in previous.watch:
            watch.walked(None)
        raise
    finally:
        state.set(previous)
    if captured is not table:
        captured.update((edge, table[edge]) for edge in wanted if edge in table)
    for watch in previous.watch:
        watch.walked(captured)
    return captured


def _walk_plainly(table, ours, keep) -> None:
    """Every node that a gradient reaches, raw arrays, nothing to check: the path of `loss.backward()`.

    The nodes that wait, newest first, are a heap: never more than the graph is wide, however long it is. Along a chain,
    where nobody waits, a gradient goes straight on to the next node.
    """
    hooked = bool(node_hooks)
    waiting: list = []
    straight = None
    for edge in table:
        _wait(waiting, edge)
    while straight is not None or waiting:
        node = straight or heappop(waiting)[1]
        steps = node.plan.steps
        if straight is not None:  # and `g` is its gradient
            straight = None
        elif steps is None or hooked or node.params:
            g = _take(table, node)
            if g is not None:
                _visit(node, _hooked(node, g, False) if hooked else g, table, ours, waiting)
                if not keep:
                    node.saved = None
            continue
        else:
            g = table.pop(node, None)
            if g is None:
                continue
        if node.saved is None or node.seq < writes.last:
            _check_usable(node)
        kept, source = node.saved, node.source
        for at, rule, first, second, adding in steps:
            edge = source if at < 0 else source[at]
            if adding is not None and edge in table:
                adding.function(g, _own(table, ours, edge), *[kept[slot] for slot in adding.wants])
                continue
            if first is None:
                gradient = rule(g)
            elif first < 0:
                gradient = rule(g, kept)
            elif second is None:
                gradient = rule(g, kept[first])
            else:
                gradient = rule(g, kept[first], kept[second])
            if gradient.shape != (edge.shape if type(edge) is Node else _shape_at(edge)):
                gradient = _fitted(node, at, edge, gradient)
            if at < 0 and not waiting and type(edge) is Node and edge.plan.steps is not None and not edge.params:
                straight, g = edge, gradient
            elif edge in table:
                _deposit(table, ours, edge, gradient, False)
            else:
                table[edge] = gradient
                if type(edge) is Node:
                    heappush(waiting, (-edge.seq, edge))
                elif type(edge) is tuple:
                    _wait(waiting, edge)
        if not keep:
            node.saved = None


def _wait(waiting, edge) -> None:
    """Put the node of an edge on the heap, once per output that has a gradient; a leaf waits for nobody."""
    if type(edge) is Node:
        heappush(waiting, (-edge.seq, edge))
    elif type(edge) is tuple:
        heappush(waiting, (-edge[0].seq, edge[0]))


def _values(plan, kept, wants):
    if not plan.keep[-1]:  # no shapes
        return map(kept.__getitem__, wants)
    return [kept[slot] if slot >= 0 else _shape(plan, kept, slot) for slot in wants]


def _by_input(node, rule, got):
    """(position, gradient) for each input that a rule gives one for."""
    wrt = rule.wrt
    if node.plan.primitive.variadic:
        wrt = range(len(node.edges))
    elif len(wrt) == 1:
        return ((wrt[0], got),)
    if not isinstance(got, (tuple, list)) or len(got) != len(wrt):
        raise ValueError(
            f"{node.name}: the rule {rule.function.__name__} returned "
            f"{len(got) if isinstance(got, (tuple, list)) else 1} gradients for {len(wrt)} inputs; return one "
            "for each, None for no gradient"
        )
    return zip(wrt, got, strict=True)


def _walk_carefully(table, ours, keep, wanted, create_graph, watches) -> dict:
    """Only the nodes on the way to the `wanted` edges (None: all); recorded if `create_graph`, told to `watches`."""
    order = reachable(table)
    needed = None if wanted is None else _on_the_way(order, wanted)
    targets = set(wanted or ())
    captured = table if wanted is None else {}
    while order:
        node = order.pop()
        reached = [edge for edge in _edges_of(node) if edge in targets and edge in table] if targets else ()
        g = _take(table, node)
        if g is None or (needed is not None and node not in needed and not reached):
            continue
        g = _hooked(node, g, create_graph)
        for watch in watches:
            watch.arrived(node, g)
        for edge in reached:
            captured[edge] = g[edge[1]] if type(edge) is tuple else g
        if needed is None or node in needed:
            _visit(node, g, table, ours, None, needed, targets, create_graph, watches)
            if not keep:
                node.saved = None
    return captured


def _visit(node, g, table, ours, waiting, needed=None, targets=(), create_graph=False, watches=()) -> None:
    """Apply the node's rules to `g` and deposit what they return at those of its inputs that are needed (None: all).

    The nodes there that had no gradient before now wait, unless `waiting` is None.
    """
    if node.saved is None or node.seq < writes.last:
        _check_usable(node)
    plan, params = node.plan, node.params or {}
    edges, kept = (node.source, node.saved) if plan.whole else (node.edges, node.kept)
    for rule in plan.rules if create_graph else plan.raw:
        if needed is not None and not _useful(plan, rule, edges, needed, targets):
            continue
        wrt, function, wants, _, adding, _ = rule
        if adding is not None and not watches and edges[wrt[0]] in table:
            into = _own(table, ours, edges[wrt[0]])
            adding.function(g, into, *_values(plan, kept, adding.wants), **params)
            continue
        values = [_recalled(node, slot) for slot in wants] if create_graph else _values(plan, kept, wants)
        for i, raw in _by_input(node, rule, function(g, *values, **params)):
            edge = edges[i]
            if edge is None or raw is None:
                continue
            gradient = raw
            if gradient.shape != (edge.shape if type(edge) is Node else _shape_at(edge)):
                gradient = _fitted(node, i, edge, gradient)
            for watch in watches:
                watch.gave(node, i, raw, gradient)
            if edge in table:
                _deposit(table, ours, edge, gradient, create_graph)
            else:
                table[edge] = gradient
                if waiting is not None:
                    _wait(waiting, edge)


def _check_usable(node) -> None:
    """Compute what the node kept again under `checkpoint`; RuntimeError if it was released or written to."""
    if node.saved is None and recomputes:
        for again in recomputes.get(node):
            node.kept = again(node)
            recomputes.remove(node, again)
    if node.saved is None:
        raise RuntimeError(
            f"{node.name}: this part of the graph was already used by a backward pass, which released what it "
            "kept; pass retain_graph=True to the first pass to walk it again"
        )
    _check_unwritten(node)


def reachable(roots) -> list[Node]:
    """All nodes that the roots were computed from, oldest first."""
    stack = [edge if type(edge) is Node else edge[0] for edge in roots if not isinstance(edge, Tensor)]
    seen = set(stack)
    while stack:
        node = stack.pop()
        source = node.source
        for edge in source if node.plan.only_edge is None else (source,):
            kind = type(edge)
            if kind is Node:
                if edge not in seen:
                    seen.add(edge)
                    stack.append(edge)
            elif kind is tuple and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    return sorted(seen, key=_by_seq)


def _on_the_way(order, wanted) -> set:
    """The nodes between the roots and the wanted edges: `order` is oldest first."""
    edges, nodes = set(wanted), set()
    for node in order:
        for edge in node.edges:
            if edge is not None and (edge in edges or (edge[0] if type(edge) is tuple else edge) in nodes):
                nodes.add(node)
                break
    return nodes


def _edges_of(node) -> list:
    """The edges that lead to the node's results."""
    return [node] if node.plan.primitive.outputs == 1 else [(node, i) for i in range(len(node.shape))]


def _take(table, node):
    """The gradient of the node's result (a tuple for several outputs), removed from the table; None if none arrived."""
    if node.plan.primitive.outputs == 1:
        return as_ndarray(table.pop(node, None))
    gs = [as_ndarray(table.pop((node, i), None)) for i in range(len(node.shape))]
    like = next((g for g in gs if g is not None), None)
    if like is None:
        return None
    return tuple([_zeros(like, *spec) if g is None else g for g, spec in zip(gs, node.shape, strict=True)])


def _zeros(like, shape, dtype):
    if isinstance(like, Tensor):
        return result(for_array(like.array).zeros(shape, dtype))
    return for_array(like).zeros(shape, dtype)


def _useful(plan, rule, edges, needed, targets) -> bool:
    for i in range(len(edges)) if plan.primitive.variadic else rule.wrt:
        edge = edges[i]
        if edge is not None and (edge in targets or (edge[0] if type(edge) is tuple else edge) in needed):
            return True
    return False


def _shape(plan, kept, slot):
    return kept[-1] if plan.primitive.variadic else kept[-1][~slot]


def _recalled(node, slot):
    """A kept value as a tensor tied to its origin, so that the rule's own computation is recorded."""
    plan, kept = node.plan, node.kept
    if slot < 0:
        return _shape(plan, kept, slot)
    n = len(plan.primitive.inputs)
    if slot == n:
        if plan.primitive.outputs == 1:
            return result(kept[slot], node, True)
        return tuple([result(o, (node, i), True) for i, o in enumerate(kept[slot])])
    if slot > n:
        return kept[slot]
    if plan.primitive.variadic:
        return tuple([_tied(edge, value) for edge, value in zip(node.edges, kept[slot], strict=True)])
    return _tied(node.edges[slot], kept[slot])


def _tied(edge, value):
    if edge is None:
        return value
    return edge if isinstance(edge, Tensor) else result(value, edge, True)


def _fitted(node, i, edge, gradient):
    """The gradient in the shape of its input: of elementwise primitives, the sum over the axes that were broadcast."""
    primitive, shape = node.plan.primitive, edge.shape if type(edge) is Node else _shape_at(edge)
    if not primitive.elementwise:
        raise ValueError(
            f"{primitive.name}: the rule for '{primitive.inputs[min(i, len(primitive.inputs) - 1)]}' returned a "
            f"gradient of shape {gradient.shape}, but the input had shape {shape}; mend the rule"
        )
    return sum_to(gradient, shape=shape)


def _shape_at(edge):
    return edge[0].shape[edge[1]][0] if type(edge) is tuple else edge.array.shape


def _deposit(table, ours, edge, gradient, create_graph) -> None:
    """Add to what has arrived at `edge`: the first is borrowed, the second allocates, later ones add in place."""
    have = table.get(edge)
    if have is None:
        table[edge] = gradient
    elif edge in ours and not isinstance(have, (np.generic, Tensor)):
        have += gradient
    elif create_graph:
        table[edge] = have + gradient
    else:
        table[edge] = _add(have, gradient)
        ours.add(edge)


def _own(table, ours, edge) -> np.ndarray:
    """What has arrived at `edge`, as an array that may be added to in place."""
    have = table[edge]
    if edge not in ours or isinstance(have, np.generic):
        have = table[edge] = as_ndarray(have).copy()
        ours.add(edge)
    return have


def _check_unwritten(node) -> None:
    for value in node.kept[:-1]:
        for one in value if type(value) is tuple else (value,):
            line = writes.since(one, node.seq) if one is not None else None
            if line:
                raise RuntimeError(
                    f"{node.name}: a value that its derivative needs was changed in place after it was recorded. "
                    f"Recorded at: {node.line}. Changed at: {line}. Compute a new tensor there (x = x + y instead of "
                    "x += y), or change a clone()"
                )


# ---- hooks -----------------------------------------------------------------------------------------------------------


def _hooked(node, g, create_graph):
    if not node_hooks:
        return g
    for index, hook in node_hooks.get(node):
        if type(g) is tuple:
            g = tuple([_after(hook, one, create_graph) if i == index else one for i, one in enumerate(g)])
        else:
            g = _after(hook, g, create_graph)
    return g


def _hook_leaves(table, wanted, create_graph) -> None:
    for edge in [e for e in (table if wanted is None else set(wanted)) if isinstance(e, Tensor) and e in table]:
        for hook in leaf_hooks.get(edge):
            table[edge] = _after(hook, table[edge], create_graph)


def _after(hook, value, create_graph):
    given = value if create_graph else result(as_ndarray(value))
    told = hook(given)
    if told is None:
        return value
    if not isinstance(told, Tensor) or told.shape != given.shape:
        got = f"a tensor of shape {told.shape}" if isinstance(told, Tensor) else repr(told)
        raise ValueError(f"a gradient hook returned {got}; it must return None or a tensor of shape {given.shape}")
    return told if create_graph else told.array


# ---- leaves ----------------------------------------------------------------------------------------------------------


def _released(table, edge) -> np.ndarray:
    """The gradient at `edge`, taken from the table: copied unless nothing else refers to its memory.

    So no two gradients share memory, nor does one with a cotangent that the user passed or with a kept value.
    """
    array = as_ndarray(table.pop(edge))
    if is_writeable(array) and getrefcount(array) <= ALONE and (array.base is None or _is_base_alone(array)):
        return array
    return for_array(array).copy(array)


def _is_base_alone(array) -> bool:
    """Whether the array is all of the memory of another one, in a new shape, and nothing else refers to that one."""
    same = type(array.base) is type(array) and array.base.nbytes == array.nbytes and array.flags.c_contiguous
    return same and getrefcount(array.base) <= _ALONE_AS_BASE


def _alone_as_base() -> int:
    view = np.empty(1).reshape(1, 1)
    return getrefcount(view.base)


#: what `sys.getrefcount` says of an array that one view refers to
_ALONE_AS_BASE = _alone_as_base()


def _memory_of(seeds) -> set:
    """The owners of the memory of the cotangents."""
    return {id(root(seed.array)) for seed in seeds}


def _owned(gradients, edge, create_graph, given) -> Tensor:
    """The gradient at `edge` as a tensor with its own memory; `given` holds the owners that others have."""
    if not create_graph:
        return result(_released(gradients, edge))
    gradient = gradients.pop(edge)
    owner = root(gradient.array)
    if owner is gradient.array and is_writeable(owner) and id(owner) not in given:
        given.add(id(owner))
        return gradient
    return clone(gradient)


def _accumulate(leaf, gradients, create_graph, given) -> None:
    have = leaf._grad
    if have is None:
        leaf._grad = _owned(gradients, leaf, create_graph, given)
    elif create_graph or have._live or not is_writeable(have.array):
        gradient = gradients.pop(leaf)
        leaf._grad = have + (gradient if create_graph else result(as_ndarray(gradient)))
    else:
        have.array += gradients.pop(leaf)
        writes.note(have.array, recorded=False)
