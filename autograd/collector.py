"""When CPython's collector looks at all containers: while a graph grows, not before there are four times as many.

CPython looks for cycles among all living containers whenever a quarter has been added. A graph has none and is freed
by its counts, so of a graph of a million nodes these looks are a fifth of the time, in vain. CPython calls `put_off`
before and after each, and it lets some of them pass. Nothing else changes: `gc.collect()` looks at once, so does the
collector of a program whose other objects grow, and `gc.callbacks.remove(put_off)` ends it.
"""

from __future__ import annotations

import gc
import math

from .graph import Node

_SINCE = 100  # containers made between CPython's decision to look and our count; more, after the collector was off


class Postponement:
    """A callback of `gc` that lets a full look pass if CPython begins it on its own and what is new is mostly nodes.

    For that all objects are frozen before the look and thawed after it: lists are joined, whatever their length. A
    program that has frozen objects of its own is left alone.
    """

    def __init__(self):
        self.living, self.added = _containers(), 0  # at the last full look, and since then
        self.passing = False

    def __call__(self, phase: str, info: dict) -> None:
        if info["generation"] < 2:
            return
        if phase == "start":
            self.added += math.prod(least + 1 for least in gc.get_threshold())
            few = self.added < 3 * self.living
            self.passing = few and _automatic() and _mostly_nodes() and not gc.get_freeze_count()
            if self.passing:
                gc.freeze()
        elif self.passing:
            gc.unfreeze()
        else:
            self.living, self.added = _containers(), 0


def _containers() -> int:
    """How many containers live; 0 if the program has frozen some, which stay so."""
    if gc.get_freeze_count():
        return 0
    gc.freeze()
    count = gc.get_freeze_count()
    gc.unfreeze()
    return count


def _automatic() -> bool:
    """Whether the collector runs because of new objects, not because the program asked for it."""
    (young, _, old), (least, _, most) = gc.get_count(), gc.get_threshold()
    return gc.isenabled() and 0 < least < young <= least + _SINCE and old > most


def _mostly_nodes() -> bool:
    """Whether most of the youngest objects are nodes."""
    objects = gc.get_objects(0)
    return 2 * sum(isinstance(thing, Node) for thing in objects) > len(objects)


put_off = Postponement()
gc.callbacks.append(put_off)
