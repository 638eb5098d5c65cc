"""Trading time for memory: values that backward needs are dropped after forward and computed again in backward."""

from __future__ import annotations

from ..kernels import for_device
from .backward import reachable
from .graph import place, recomputes, sequence, writes
from .random import default_generator
from .state import state
from .tensor import Tensor


def checkpoint(function, *args, **kwargs):
    """function(*args, **kwargs), keeping no intermediate values: backward runs the function again (Chen et al. 2016).

    Gradients, also of any order and of parameters that the function only refers to, are those of the plain call. The
    function must compute the same each time; draws from the default generator are repeated, those from a Generator of
    your own are not.

    Errors: RuntimeError in backward if the second run records other operations than the first, or if an argument or
    parameter was changed in place in between.

    >>> x = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> cr.checkpoint(lambda x: (x * x * x).sum(), x).backward(); x.grad
    tensor([ 3., 12.])
    """
    random = _Random()
    start = next(sequence)
    out = function(*args, **kwargs)
    nodes = _recorded(out, start)
    if nodes:
        again = _Again(function, args, kwargs, random, state.get(), nodes)
        for node in nodes:
            within = recomputes.get(node)  # of a checkpoint inside the function: this one does its work
            if node.kept is not None or within:
                node.kept = None
                for one in within:
                    recomputes.remove(node, one)
                recomputes.add(node, again)
    return out


def _recorded(out, start) -> list:
    """The nodes made since `start` on which `out` depends, in order of making."""
    tensors = [t for t in (out if isinstance(out, (tuple, list)) else (out,)) if isinstance(t, Tensor)]
    return [
        node for node in reachable([t._edge for t in tensors if t._edge is not None and t._live]) if node.seq > start
    ]


class _Random:
    """The state of the default generator when this was made, in each replay of a captured step anew."""

    def __init__(self):
        for_device("cpu").each_time(self._save)

    def _save(self):
        self.state = default_generator.get_state()

    def restore(self):
        """Let the generator draw again what it has drawn since."""
        for_device("cpu").each_time(lambda: default_generator.set_state(self.state))


class _Again:
    """How to refill what a checkpoint dropped."""

    def __init__(self, function, args, kwargs, random, state, nodes):
        self.function, self.args, self.kwargs, self.random, self.state = function, args, kwargs, random, state
        self.recorded = [(node.name, node.shape) for node in nodes]
        self.place = {node.seq: i for i, node in enumerate(nodes)}
        self.start, self.code, self.lasti = nodes[0].seq, nodes[0].code, nodes[0].lasti
        leaves = [edge for node in nodes for edge in node.edges if isinstance(edge, Tensor)]
        self.given = [x for x in (*args, *kwargs.values(), *leaves) if isinstance(x, Tensor)]
        self.kept = []

    def __call__(self, node):
        """Run the function again and give `node` what it kept; the others' values wait in `self.kept`."""
        at = self.place[node.seq]
        if not self.kept or self.kept[at] is None:
            self.kept = self._run()
        kept, self.kept[at] = self.kept[at], None
        return kept

    def _run(self) -> list:
        for x in self.given:
            changed = writes.since(x.array, self.start)
            if changed:
                raise RuntimeError(
                    f"checkpoint: an argument or parameter of shape {x.shape} was changed in place before backward "
                    f"could run the function again. Recorded at: {place(self.code, self.lasti)}. Changed at: "
                    f"{changed}. Call backward first, or change a clone()"
                )
        start, previous, random = next(sequence), state.get(), _Random()
        state.set(self.state)
        self.random.restore()
        try:
            nodes = _recorded(
                self.function(*map(_alias, self.args), **{k: _alias(v) for k, v in self.kwargs.items()}), start
            )
        finally:
            state.set(previous)
            random.restore()
        recorded = [(node.name, node.shape) for node in nodes]
        if recorded != self.recorded:
            raise RuntimeError(
                f"checkpoint: the second run recorded {len(recorded)} operations where the first recorded "
                f"{len(self.recorded)}, or others; the function must do the same each time (no state of its own, no "
                "data-dependent path that changed)"
            )
        return [node.kept if node.kept is not None else _inner(node) for node in nodes]


def _inner(node):
    """A node of a checkpoint within: refill it in turn."""
    return recomputes.get(node)[0](node)


def _alias(value):
    """A leaf on the same memory, so that the second run records nothing before itself."""
    return value.detach().requires_grad_() if isinstance(value, Tensor) and value._live else value
