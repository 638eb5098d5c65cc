"""The recorded graph: nodes that point backwards only, and the log of writes in place.

A node never refers to the tensor that it made, so a graph is freed by reference counting as soon as its results are.
"""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any

from .display import mimebundle
from .state import scope_path

sequence = itertools.count(1)  # the order of making


class Node:
    """One recorded operation.

    `plan` says which primitive and rules; `edges` holds, per input, what the input came from: None (a constant), a leaf
    Tensor, a Node, or (Node, i) for output i of a primitive with several; `kept` the values that the rules need, None
    once released; `shape` the shape of the result, or one (shape, dtype) per output; `seq` the order of making; `code`
    and `lasti` the place in the user's program that made it, which `line` puts into words.

    `source` and `saved` are how edges and kept are stored: of a small operation its only edge and its only value (see
    `Plan`), bare, so that the garbage collector has one object per node to look at, not four.

    >>> y = cr.ones(3, requires_grad=True) * 2
    >>> y.grad_fn.name, y.grad_fn.shape
    ('multiply', (3,))
    """

    __slots__ = ("plan", "source", "saved", "params", "shape", "seq", "scope", "code", "lasti", "__weakref__")
    plan: Any
    source: Any
    saved: Any
    params: dict | None
    shape: tuple
    seq: int
    scope: tuple | None
    code: CodeType
    lasti: int

    @property
    def edges(self) -> tuple:
        """What each input came from."""
        return _placed(self.source, self.plan.only_edge, len(self.plan.primitive.inputs))

    @property
    def kept(self) -> tuple | None:
        """The values of (inputs…, result, scratch, shapes) that the rules need; None once released."""
        return None if self.saved is None else _placed(self.saved, self.plan.only_kept, len(self.plan.keep))

    @kept.setter
    def kept(self, values):
        only = self.plan.only_kept
        self.saved = values if only is None or values is None else values[only]

    @property
    def primitive(self):
        """The `Primitive` that was applied."""
        return self.plan.primitive

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return self.plan.primitive.name

    @property
    def path(self) -> str:
        """The module path under which it was recorded, '' outside any module."""
        return scope_path(self.scope)

    @property
    def line(self) -> str:
        """'file:line, in function' of the user's code that recorded it."""
        return place(self.code, self.lasti)

    @property
    def next_functions(self) -> tuple:
        """The nodes and leaf tensors that the inputs came from (None for constants)."""
        return tuple(edge[0] if type(edge) is tuple else edge for edge in self.edges)

    def __repr__(self):
        return f"<{self.name} #{self.seq}>"

    def _repr_mimebundle_(self, include=None, exclude=None):
        return mimebundle(self)


def _placed(value, at, n):
    """`value` at its place among n, the others None; at None, it is all of them."""
    return value if at is None else (None,) * at + (value,) + (None,) * (n - at - 1)


# ---- side tables: empty, and so free of charge, unless a feature is used ---------------------------------------------


class SideTable:
    """Lists of things about objects, by identity (a Tensor's == is elementwise), forgotten when the object dies."""

    def __init__(self):
        self._entries = {}

    def __bool__(self):
        return bool(self._entries)

    def add(self, key, item) -> None:
        """Append `item` to the list of `key`."""
        entry = self._entries.get(id(key))
        if entry is None:
            at, entries = id(key), self._entries
            forget = weakref.ref(key, lambda _: entries.pop(at, None))
            entry = self._entries[id(key)] = (forget, [])
        entry[1].append(item)

    def get(self, key) -> tuple:
        """The items of `key`, in the order of their adding."""
        entry = self._entries.get(id(key))
        return tuple(entry[1]) if entry else ()

    def remove(self, key, item) -> None:
        """Take `item` away, if it is there."""
        entry = self._entries.get(id(key))
        if entry and item in entry[1]:
            entry[1].remove(item)
            if not entry[1]:
                del self._entries[id(key)]


node_hooks = SideTable()  # node: (output index, hook) of hooks on results
leaf_hooks = SideTable()  # leaf tensor: hook
recomputes = SideTable()  # node: what refills its kept values, under checkpoint


# ---- lines of the user's program -------------------------------------------------------------------------------------

_PACKAGE = __name__.partition(".")[0]
_PROGRAMS = f"{_PACKAGE}.bench."  # modules that use the package as a program does
foreign: set[str] = set()  # names of files outside this package
_ours: set[str] = set()


def user_frame(frame):
    """`frame`, or the nearest of its callers that runs code from outside this package (the outermost if none does).

    A node keeps the frame's code and instruction, never the frame: that would keep its variables alive. The line number
    waits until someone asks; recording an operation pays 0.1 µs (6% of a chain of the smallest ones).
    """
    while (name := frame.f_code.co_filename) not in foreign:
        if name not in _ours:
            module = frame.f_globals.get("__name__", "")
            ours = module.partition(".")[0] == _PACKAGE and not module.startswith(_PROGRAMS)
            (_ours if ours else foreign).add(name)
        elif (caller := frame.f_back) is None:
            break
        else:
            frame = caller
    return frame


def place(code, lasti) -> str:
    """'file:line, in function' of the instruction at offset `lasti`."""
    line = next((line for start, stop, line in code.co_lines() if start <= lasti < stop), code.co_firstlineno)
    return f"{code.co_filename}:{line}, in {code.co_name}"


def user_line() -> str:
    """'file:line, in function' of the user's code that is running."""
    frame = user_frame(sys._getframe(1))
    return place(frame.f_code, frame.f_lasti)


# ---- writes in place -------------------------------------------------------------------------------------------------


class Writes:
    """Which memory was written to, when and where.

    The owner array of the memory is the key. `last` is the newest write of all: a node newer than it needs no look-up,
    so a training step, whose only writes are the optimiser's at its end, never pays.
    """

    def __init__(self) -> None:
        self.last = 0
        self.told: Callable[[tuple], None] | None = None  # who hears of the arrays: a step that is being captured
        self._log: dict[int, tuple] = {}

    def note(self, *arrays, recorded: bool) -> None:
        """`recorded`: the write itself became part of a graph."""
        frame = user_frame(sys._getframe(1))
        where, log, seq = (frame.f_code, frame.f_lasti), self._log, next(sequence)
        if self.told is not None:
            self.told(arrays)
        if seq > self.last:  # another thread may have noted a newer write meanwhile
            self.last = seq
        for array in arrays:
            owner = root(array)
            entry = log.get(id(owner))
            before, forget = (entry[1], entry[3]) if entry else (0, _forgetting(log, owner))
            log[id(owner)] = (seq, seq if recorded else before, where, forget)

    def version(self, array) -> int:
        """The sequence number of the newest write to `array`'s memory, 0 for none."""
        entry = self._log.get(id(root(array)))
        return entry[0] if entry else 0

    def since(self, value, seq: int) -> str | None:
        """The line of a write to the memory of `value` (an array, or a weak reference to an owner) after `seq`."""
        if type(value) is weakref.ref:
            entry = self._log.get(id(value()))
            return place(*entry[2]) if entry and entry[1] > seq else None
        entry = self._log.get(id(root(value))) if hasattr(value, "base") else None
        return place(*entry[2]) if entry and entry[0] > seq else None


def _forgetting(log, owner):
    """A weak reference that takes the owner's entry out of the log when the owner dies."""
    key = id(owner)
    return weakref.ref(owner, lambda _: log.pop(key, None))


writes = Writes()


def _alone() -> int:
    thing = object()
    return sys.getrefcount(thing)


#: what `sys.getrefcount` says of an object that one local variable refers to; it depends on the version of Python
ALONE = _alone()


def root(array):
    """The array that owns the memory which `array` looks at."""
    kind = type(array)
    while type(array.base) is kind:
        array = array.base
    return array
