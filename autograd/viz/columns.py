"""`columns`: where a tall narrow picture goes on at the top of a new column, so that it fits a screen."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate

from .cells import WHOLE
from .program import Value
from .sketch import Arrow, Box, Sketch

ASPECT = 1.6  # width to height of what is aimed at
TALL = 450  # points of height from which on there may be a second column
OPERATION, MODULE = (110, 60), (250, 135)  # about how large a box is with its surroundings, in points


def columns(sketch: Sketch) -> list[Arrow]:
    """The arrows at which a new column begins: the only way from what is above to what is below.

    None where frames lie in frames, which would not fit in columns.
    """
    ranks = _ranks(sketch)
    last = max(ranks.values(), default=0)
    widths: list[int] = [0] * (last + 1)
    heights: list[int] = [0] * (last + 1)
    for box, rank in ranks.items():
        width, height = _size(box)
        widths[rank] += width
        heights[rank] = max(heights[rank], height)
    if sum(heights) < TALL or any(box.home.level > 1 for box in ranks):
        return []
    count = int((ASPECT * sum(heights) / max(widths)) ** 0.5) if max(widths) else 1
    bridges = _bridges(sketch, ranks, last)
    reached, found = list(accumulate(heights)), {}
    for goal in [reached[-1] * i / count for i in range(1, count) if bridges]:
        near = min(bridges, key=lambda rank: abs(reached[rank] - goal))
        if abs(reached[near] - goal) < reached[-1] / count / 2:
            found[near] = bridges[near]
    return [found[rank] for rank in sorted(found)]


def _size(box) -> tuple[int, int]:
    """About how large a box is, from the array that it shows."""
    if not isinstance(box.of, Value):
        return OPERATION if box.kind == "operation" else MODULE
    shape = box.of.shape or ()
    rows, columns = (1, 1, *shape)[-2:]
    if len(shape) > 2 or rows > WHOLE[0] or columns > WHOLE[1]:
        return 220, 95  # a heat strip
    return max(120, 55 * columns), 55 + 20 * rows * (1 + (box.of.gradient is not None))


def _ranks(sketch) -> dict[Box, int]:
    """How far down each box lies: below all that it comes from, sources just above their first use."""
    into: dict[Box, int] = dict.fromkeys(sketch.boxes.values(), 0)
    out: dict[Box, list[Box]] = {box: [] for box in into}
    for arrow in sketch.arrows:
        if arrow.kind != "loop":
            into[arrow.head] += 1
            out[arrow.tail].append(arrow.head)
    ready = sources = [box for box, count in into.items() if not count]
    ranks = dict.fromkeys(ready, 0)
    ready = list(sources)
    for box in ready:
        for head in out[box]:
            ranks[head] = max(ranks.get(head, 0), ranks[box] + 1)
            into[head] -= 1
            if not into[head]:
                ready.append(head)
    for box in sources:
        ranks[box] = max(min([ranks[head] for head in out[box]], default=1) - 1, 0)
    return ranks


def _bridges(sketch, ranks, last) -> dict[int, Arrow]:
    """Rank: the one arrow that leads from the boxes down to this rank to those below it.

    What comes from nothing and is used once goes where it is used.
    """
    crossing: list[list[Arrow]] = [[] for _ in range(last + 1)]
    made, uses = {arrow.head for arrow in sketch.arrows}, Counter(arrow.tail for arrow in sketch.arrows)
    for arrow in sketch.arrows:
        if arrow.tail not in made and uses[arrow.tail] == 1:
            continue
        low, high = sorted((ranks.get(arrow.tail, 0), ranks.get(arrow.head, 0)))
        for rank in range(low, high):
            crossing[rank].append(arrow)
    return {
        rank: arrows[0]
        for rank, arrows in enumerate(crossing)
        if len(arrows) == 1 and arrows[0].kind == "data" and arrows[0].tail.kind != "operation"
    }
