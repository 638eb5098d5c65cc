"""When CPython's collector looks for cycles: while a graph grows, not before much else than nodes has been added.

CPython looks at what is new whenever there are 700 containers more, and at all living ones whenever a quarter has been
added. A graph has no cycles and is freed by its counts, so of a graph of a million nodes these looks are a third of the
time, in vain. CPython calls `put_off` before and after each, and it lets some of them pass. Nothing else changes:
`gc.collect()` looks at once, so does the collector of a program whose other objects grow, and
`gc.callbacks.remove(put_off)` ends it.
"""

from __future__ import annotations

import gc
import sys

from .graph import Node

_FEW = 100_000  # containers of a small program: it is looked at as if it had so many
_IMMORTAL = 1000  # containers that CPython itself counts as frozen, from 3.12 on; a program freezes all it has
_SINCE = 100  # containers made between CPython's decision to look and our count; more, after the collector was off


class Postponement:
    """A callback of `gc` that lets a look pass if CPython begins it on its own and what is new is mostly nodes.

    For that all objects are frozen before the look and thawed after it: lists are joined, whatever their length. No
    look passes once three times as many containers as lived at the last whole one have been added. Nodes do not count:
    they are in no cycle, unless a leaf's gradient has a graph (`cyclic`). Looks at what is new pass for a while once
    most of what was made since the last look at the middle-aged still lives. A program that has frozen objects of its
    own is left alone.
    """

    def __init__(self):
        self.living, self.added = _containers(), 0.0  # at the last look at all that did not pass, and since then
        self.cyclic = False  # whether a leaf's gradient has had a graph: leaf -> gradient -> node -> leaf
        self.passing, self.left = False, 0  # whether this look passes; how many at new objects may still

    def __call__(self, phase: str, info: dict) -> None:
        if phase == "start":
            self._begin(info["generation"])
        elif self.passing:
            gc.unfreeze()
        elif info["generation"] == 2:
            self.living, self.added = _containers(), 0.0

    def _begin(self, generation: int) -> None:
        new, middle, old = gc.get_threshold()
        if generation == 1 and 2 * len(gc.get_objects(1)) > new * middle:
            self.left = middle * old
        may = (generation == 2 or self.left > 0) and _by_itself(generation)
        others = _others() if may else 1.0
        self.added += new if self.cyclic else others * new
        self.passing = others < 0.5 and self.added < 3 * max(self.living, _FEW)
        self.left = self.left - 1 if self.passing else 0
        if self.passing:
            gc.freeze()


def _containers() -> int:
    """How many containers live; 0 if the program has frozen some, which stay so."""
    if _frozen():
        return 0
    gc.freeze()
    count = gc.get_freeze_count()
    gc.unfreeze()
    return count


def _frozen() -> bool:
    """Whether the program has frozen its objects."""
    return gc.get_freeze_count() > _IMMORTAL


def _by_itself(generation: int) -> bool:
    """Whether the collector runs because of new objects, not because the program asked, and nothing is frozen."""
    counts, least = gc.get_count(), gc.get_threshold()
    automatic = 0 < least[0] < counts[0] <= least[0] + _SINCE and counts[generation] > least[generation]
    return automatic and gc.isenabled() and not _frozen()


def _others() -> float:
    """The share of the youngest objects that are no nodes, by one in eight of them."""
    some = gc.get_objects(0)[::8]
    return 1 - sum([type(thing) is Node for thing in some]) / max(1, len(some))


put_off = Postponement()
if sys.version_info < (3, 14):  # 3.14 looks at old objects in parts
    gc.callbacks.append(put_off)
