"""`sketch`: which boxes, arrows and frames a picture of a program has; how they look is said in dot.py and mermaid.py.

The program is cut into blocks: a module's call is one, and so are the steps of one expression, of one source line where
there are too many, and a repetition. An open block is drawn as a frame round its parts, a closed one as a box. Of a
repetition only the first copy is drawn: every other step and value has its twin there, and arrows go between twins.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from .program import Call, Program, Step, Value

READABLE = 26  # boxes up to which a picture is drawn in more detail, if no depth is asked for
AMPLE, SCANT = 36, 8  # and up to which, if it has fewer than the latter in less detail
MOST = 60  # parts that lie side by side in one block before they are gathered by source line, then by chunks
CHUNK = 24
LONGEST = 64  # parts of a pattern that is looked for in a repetition
MANY = 16  # boxes that stand alike, and arrows between two boxes, before one stands for all
FEW = 3  # nameless arrays that are drawn before a closed block
SHAPE_ONLY = frozenset({"reshape", "permute", "expand"})


class Block:
    """A part of a program that is drawn as one box or one frame.

    `what` is "module", "expression", "lines", "chunk", "repeat" or "program"; `parts` are Steps and Blocks in order of
    running; of a repetition they are those of the first copy, `others` holds the further copies.
    """

    __slots__ = ("what", "title", "kind", "path", "parts", "others", "parent", "level", "steps", "mark", "place")

    def __init__(self, what, title, parts, kind="", path="", others=()):
        self.what, self.title, self.kind, self.path = what, title, kind, path
        self.parts, self.others, self.parent, self.level = parts, others, None, 0
        self.steps: list[Step] = [s for copy in (parts, *others) for part in copy for s in steps_of(part)]
        self.place = self.steps[0].place if self.steps else None
        self.mark: int = 0

    @property
    def count(self) -> int:
        """How many times the parts are repeated."""
        return 1 + len(self.others)

    @property
    def name(self) -> str:
        """The title; of a repeated block those of the first and the last copy."""
        last = self.parent.others[-1][0].title if self.parent is not None and self.parent.single else self.title
        return self.title if last == self.title else f"{self.title} … {last}"

    @property
    def single(self) -> bool:
        """Whether it is a repetition of one part, whose box or frame says how often."""
        return self.what == "repeat" and len(self.parts) == 1

    def __repr__(self):
        return f"<{self.what} {self.title}: {len(self.parts)} parts>"


def steps_of(part) -> list[Step]:
    """The steps of a part, in order."""
    return [part] if isinstance(part, Step) else part.steps


def _first(part) -> int:
    return part.seq if isinstance(part, Step) else part.steps[0].seq


# ---- cutting the program into blocks ---------------------------------------------------------------------------------


class Cutter:
    """Cuts a program into blocks; equal parts have equal marks."""

    def __init__(self, program: Program, fold: bool):
        self.program, self.fold = program, fold
        self.aside: set[Step] = set()  # changes of shape that an operation makes for itself
        self._marks: dict[tuple, int] = {}
        self._ids = itertools.count(1).__next__

    def root(self) -> Block:
        """The whole program as a block, the calls within as blocks of their own."""
        made: dict[Call, Block] = {}
        for call in reversed(_calls(self.program.root)):
            parts = sorted([*call.steps, *[made[c] for c in call.calls if made[c].steps]], key=_first)
            parts = self._gathered(parts, call.parent is None)
            what = "module" if call.parent is not None else "program"
            made[call] = self._marked(Block(what, call.name, parts, call.kind, call.path))
        root = made[self.program.root]
        for block in blocks_of(root):
            for part in _all_parts(block):
                if isinstance(part, Block):
                    part.parent = block
                    part.level = block.level + (part.what != "repeat")
        return root

    def _gathered(self, parts, outermost) -> list:
        steps = [part for part in parts if isinstance(part, Step)]
        if outermost or len({step.place for step in steps}) > 1:
            parts = self._grouped(parts, "expression", lambda step: step.place)
        if not self.fold:
            return parts
        parts = self._folded(parts)
        if len(parts) > MOST:
            parts = self._folded(self._grouped(parts, "lines", lambda step: step.place[:3]))
        while len(parts) > MOST:
            parts = [self._chunk(parts[i : i + CHUNK]) for i in range(0, len(parts), CHUNK)]
        return parts

    def _grouped(self, parts, what, key) -> list:
        """Runs of two steps or more with the same key as blocks."""
        runs = itertools.groupby(parts, lambda part: key(part) if isinstance(part, Step) else part)
        found: list = []
        for run in [list(run) for _, run in runs]:
            whole = len(run) == len(parts)
            small = what == "expression" and self._is_small(run)
            inner = self._folded(run) if self.fold and not whole else run
            if len(inner) == 1 or whole or small:
                found += inner
            else:
                place = steps_of(run[0])[0].place
                title = place.expression if what == "expression" else place.text
                found.append(self._marked(Block(what, title, inner, path=f"line {place.line}")))
        return found

    def _is_small(self, run) -> bool:
        """Whether the steps of an expression are shown as they are: one or two operations, or a loop of one."""
        core = [part for part in run if isinstance(part, Block) or part.name not in SHAPE_ONLY]
        if len(core) == 1 < len(run):
            self.aside.update(part for part in run if part not in core)
        return len(core) <= 2 or len(set(map(self._mark_of, run))) == 1

    def _chunk(self, parts) -> Block:
        steps = [step for part in parts for step in steps_of(part)]
        often = Counter(step.name for step in steps).most_common(3)
        title = ", ".join(f"{n} {name}" for name, n in often)
        lines = sorted({step.place.line for step in (steps[0], steps[-1])})
        return self._marked(Block("chunk", title, parts, path="lines " + "–".join(map(str, lines))))

    def _marked(self, block) -> Block:
        name = block.kind or "".join("#" if c.isdigit() else c for c in block.title)
        name = block.what if block.what in ("expression", "lines", "chunk") else name
        block.mark = self._mark((name, block.count, *map(self._mark_of, block.parts), _wiring(block.steps)))
        return block

    def _mark_of(self, part) -> int:
        if isinstance(part, Block):
            return part.mark
        shapes = tuple([None if value is None else value.shape for value in (*part.inputs, *part.results)])
        return self._mark((part.name, shapes))

    def _mark(self, key) -> int:
        return self._marks.get(key) or self._marks.setdefault(key, self._ids())

    def _folded(self, parts) -> list:
        """The parts with every repetition as one block: shortest patterns first, patterns of patterns after."""
        period, marks = 1, self._marks_of(parts)
        while period <= min(LONGEST, len(parts) // 2):
            runs = _runs(parts, marks, period)
            if not runs:
                period += 1
                continue
            found, at = [], 0
            for start, count in runs:
                copies = [parts[start + k * period : start + (k + 1) * period] for k in range(count)]
                found += [*parts[at:start], self._marked(Block("repeat", "", copies[0], others=copies[1:]))]
                at = start + count * period
            parts, period = found + parts[at:], 1
            marks = self._marks_of(parts)
        return parts

    def _marks_of(self, parts):
        return np.array([self._mark_of(part) for part in parts])


def _runs(parts, marks, period) -> list[tuple[int, int]]:
    """(start, count) of the repetitions of a pattern of `period` parts."""
    same = np.concatenate([[False], marks[period:] == marks[:-period], [False]])
    edges = np.flatnonzero(same[1:] != same[:-1])
    found, end = [], 0
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        start = max(start, end)
        if stop - start < period:
            continue
        pattern = [part for part in parts[start : start + period] if isinstance(part, Block)]
        least = 2 if pattern else 3
        count = _alike(parts, start, period, (stop - start) // period + 1, not pattern)
        if count >= least and not (period == 1 and pattern and pattern[0].what == "repeat"):
            found.append((start, count))
            end = start + count * period
    return found


def _alike(parts, start, period, count, loop) -> int:
    """How many copies, from the first on, are wired like the first; in a loop, also of the same source lines."""

    def look(at):
        steps = [step for part in parts[at : at + period] for step in steps_of(part)]
        return _wiring(steps) if period > 1 else (), [step.place for step in steps] if loop else ()

    looks = map(look, range(start, start + count * period, period))
    first = next(looks)
    return 1 + sum(1 for _ in itertools.takewhile(lambda one: one == first, looks))


def _wiring(steps) -> tuple:
    """Which step of the list made each input (-1: none of them)."""
    at = {step: i for i, step in enumerate(steps)}
    return tuple([at.get(x.maker, -1) if x is not None else -1 for step in steps for x in step.inputs])


def _calls(root) -> list[Call]:
    """All calls, parents before children."""
    found = [root]
    for call in found:
        found += call.calls
    return found


def blocks_of(root) -> Iterator[Block]:
    """All blocks, parents before what is in them, the copies of repetitions too."""
    waiting = [root]
    while waiting:
        block = waiting.pop()
        yield block
        waiting += [part for part in _all_parts(block) if isinstance(part, Block)]


def _all_parts(block) -> Iterator:
    return itertools.chain(block.parts, *block.others)


# ---- what is drawn ---------------------------------------------------------------------------------------------------


class Box:
    """A box: of a step, a value or a closed block (`of`), `count` times over, within the open block `home`.

    `kind` is "operation", "module", "lines" (another block), or a value's "parameter", "input", "constant", "value" or
    "result"; `name` is what a value is called.
    """

    __slots__ = ("key", "kind", "of", "home", "count", "outlets", "failed", "name")

    def __init__(self, key, kind, of, home):
        self.key, self.kind, self.of, self.home, self.count = key, kind, of, home, 1
        self.outlets: list[Value] = []  # of a closed block: the values that leave it
        self.failed, self.name = False, ""


class Arrow:
    """An arrow from box to box along which `value` flows into `step`; `kind` is "data", "loop" or "cut"."""

    __slots__ = ("tail", "head", "value", "kind", "count", "step", "i", "more")

    def __init__(self, tail, head, value, kind, step=None, i=0):
        self.tail, self.head, self.value, self.kind, self.step, self.i = tail, head, value, kind, step, i
        self.count, self.more = 1, 0  # rounds of a loop; further arrows from the same box to the same


class Sketch:
    """Boxes, arrows and frames (open blocks) of a program: `boxes` by key, in order of running."""

    def __init__(self, program: Program, root: Block, opened: set, hidden: set | None = None, failed=None):
        self.program, self.root, self.opened = program, root, opened
        self.failed = None if failed is None else failed.seq
        self.boxes: dict[str, Box] = {}
        self.arrows: list[Arrow] = []
        self._outputs = set(program.results)
        self._unit: dict[Step, Step | Block] = {}
        self._home: dict[Step, Block] = {}
        self._met: dict[Block, list] = {}
        self._twin: dict = {}  # step or leaf value of a further copy: that of the first
        self._walk()
        self._hide(hidden or set())
        self._match_leaves()
        self._draw()

    @property
    def about(self) -> str:
        """What it shows, in words."""
        return f"{len(self.program.steps):,} operations"

    @property
    def size(self) -> int:
        """How much there is to take in: its boxes, or half its arrows."""
        return max(len(self.boxes), len(self.arrows) // 2)

    @property
    def unrolled(self) -> list[list[Box]]:
        """The boxes of each module that is drawn several times over, as a recurrent net along time."""
        calls: dict[tuple, list[Box]] = {}
        for box in self.boxes.values():
            if box.kind == "module" and box.of.what == "module":
                calls.setdefault((box.home, box.of.path), []).append(box)
        return [boxes for boxes in calls.values() if len(boxes) >= 3]

    # ---- where each step is drawn ----

    def _walk(self) -> None:
        waiting = [(self.root, self.root)]  # a block, and the one of the first copy that it stands for
        while waiting:
            block, shown = waiting.pop()
            for copy in (block.parts, *block.others):
                for part, first in zip(copy, shown.parts, strict=True):
                    self._twin.update(zip(steps_of(part), steps_of(first), strict=True) if part is not first else ())
                    if isinstance(part, Step):
                        self._unit[part], self._home[part] = part, shown
                    elif first in self.opened or first.what == "repeat":
                        waiting.append((part, first))
                    else:
                        self._unit.update(dict.fromkeys(part.steps, part))
                        self._home.update(dict.fromkeys(part.steps, shown))

    def twin(self, thing):
        """The step or leaf value of the first copy that stands for this one."""
        while thing in self._twin:
            thing = self._twin[thing]
        return thing

    def _match_leaves(self) -> None:
        mine = {x for s in self.program.steps if s not in self._twin for x in s.inputs if x is not None}
        for step in list(self._twin):
            for x, other in zip(self.twin(step).inputs, step.inputs, strict=True):
                if x is None or other is None or x is other or self.maker(x) or self.maker(other) or other in mine:
                    continue
                if (x.role, x.shape) == (other.role, other.shape) and other not in self._outputs:
                    self._twin[other] = x

    def shown(self, value: Value) -> Value:
        """The value that stands for this one, in the first copy."""
        maker = self.maker(value)
        return self.twin(value) if maker is None else self.twin(maker).results[value.index]

    def maker(self, value: Value) -> Step | None:
        """The step that made a value, None if it is none of the program's."""
        return value.maker if value.maker in self._unit else None

    def _hide(self, steps) -> None:
        """Leave these changes of shape out; the value before takes the name and shape of the one after."""
        self._hidden: set[Step] = set()
        self._face: dict[Value, Value] = {}
        for step in self.program.steps:
            if step in steps and isinstance(self._unit[step], Step):
                before, after = step.inputs[0], step.results[0]
                only = before not in self._outputs and len(self.program.users.get(before, ())) == 1
                if only and isinstance(self._unit.get(before.maker), Step):
                    self._face[before] = after
                if after not in self._outputs or before in self._face:
                    self._hidden.add(step)

    def seen(self, value: Value) -> Value:
        """The value itself, or where a change of shape is hidden, what it is a view of."""
        while value.maker in self._hidden:
            value = value.maker.inputs[0]
        return value

    # ---- boxes ----

    def _draw(self) -> None:
        for step in self.program.steps:
            unit = self._unit[step]
            if step in self._twin or step in self._hidden:
                continue
            if isinstance(unit, Step):
                box = self._box(f"s{step.key}", "operation", step, self._home[step])
                box.count = self._home[step].count if self._home[step].single else 1
                box.failed = step.seq == self.failed
                for value in step.results:
                    if self.program.users.get(value, ()) or value in self._outputs or len(step.results) == 1:
                        self._value_box(value)
                        self.arrows.append(Arrow(box, self._value_box(value), value, "data", step, -1))
            else:
                self._block_box(unit)
        seen: dict[tuple, Arrow] = {}
        for step in self.program.steps:
            if step not in self._hidden:
                for i, value in enumerate(step.inputs):
                    if value is not None:
                        self._arrow(step, i, value, seen)
        for value in map(self.seen, self.program.results):
            box = self._value_box(self.shown(value))
            if isinstance(self._unit.get(value.maker), Block):
                tail = self._block_box(self._unit[self.twin(value.maker)])
                self._leave(tail, self.shown(value))
                self.arrows.append(Arrow(tail, box, value, "data"))
        self._count_leaves()
        self._gather()

    def _gather(self) -> None:
        """Of very many boxes that stand alike, and of arrows from box to box, leave one for all."""
        tails: dict[Box, set] = {}
        heads: dict[Box, set] = {}
        for arrow in self.arrows:
            heads.setdefault(arrow.tail, set()).add(arrow.head)
            tails.setdefault(arrow.head, set()).add(arrow.tail)
        alike: dict[tuple, list[Box]] = {}
        for box in self.boxes.values():
            if isinstance(box.of, Value):
                ends = frozenset(tails.get(box, ())), frozenset(heads.get(box, ()))
                alike.setdefault((box.kind, box.home, box.of.shape, ends), []).append(box)
        gone = {box: boxes[0] for boxes in alike.values() if len(boxes) > MANY for box in boxes[1:]}
        for box, first in gone.items():
            first.count += box.count
            del self.boxes[box.key]
        between: dict[tuple, list[Arrow]] = {}
        for arrow in self.arrows:
            if arrow.tail not in gone and arrow.head not in gone:
                between.setdefault((arrow.tail, arrow.head, arrow.kind), []).append(arrow)
        for arrows in between.values():
            arrows[0].more = len(arrows) - 1 if len(arrows) > MANY else 0
        self.arrows = [arrow for arrows in between.values() for arrow in (arrows[:1] if arrows[0].more else arrows)]

    def _count_leaves(self) -> None:
        often = Counter(self.twin(value) for value in self.program.values if self.maker(value) is None)
        for box in self.boxes.values():
            if isinstance(box.of, Value) and self.maker(box.of) is None:
                box.count = often[box.of]

    def _box(self, key, kind, of, home) -> Box:
        if key not in self.boxes:
            self.boxes[key] = Box(key, kind, of, home)
        return self.boxes[key]

    def _block_box(self, block) -> Box:
        first = block.steps[0]
        box = self._box(f"b{first.key}", "module" if block.what == "module" else "lines", block, self._home[first])
        box.count = block.parent.count if block.parent.single else 1
        box.failed = any(step.seq == self.failed for step in block.steps)
        return box

    def _value_box(self, value) -> Box:
        key = f"v{value.key}"
        if key in self.boxes:
            return self.boxes[key]
        home, name = self._value_home(value), self.program.label(value)
        while value in self._face:
            value = self._face[value]
        box = self._box(key, self.kind(value), value, home)
        box.name = self.program.name(value) or name
        if value.source is not None:
            self._cut(box, value)
        return box

    def kind(self, value) -> str:
        """What a value is to the reader: see `Program.kind`; 'input' stands for data."""
        if value in self._outputs and value.maker is not None:
            return "result"
        kind = self.program.kind(value)
        return {"data": "input", "result": "value"}.get(kind, kind)

    def _value_home(self, value) -> Block:
        """The frame in which it lies: its maker's, or that of all its users."""
        if self.maker(value) is not None:
            home = self._home[value.maker]
            return home.parent if home.single else home
        if self.kind(value) == "input" and self.program.name(value):
            return self.root  # the data lie outside every frame
        homes = [self._home[self.twin(step)] for step, _ in self.program.users.get(value, ())]
        return common(homes) if homes else self.root

    def _cut(self, box, value) -> None:
        tail, _ = self._tail(self.seen(self.shown(value.source)))
        self.arrows.append(Arrow(tail, box, value, "cut"))

    # ---- arrows ----

    def _tail(self, value):
        """The box that a value comes from, and the unit (step or block) that made it."""
        unit = self._unit.get(value.maker)
        if isinstance(unit, Block):
            box = self._block_box(self._unit[self.twin(value.maker)])
            self._leave(box, self.shown(value))
            return box, unit
        return self._value_box(self.shown(value)), unit

    def _leave(self, box, value) -> None:
        if value not in box.outlets:
            box.outlets.append(value)

    def _arrow(self, step, i, value, seen) -> None:
        origin, unit = self.seen(value), self._unit[step]
        closed = isinstance(unit, Block)
        maker = self.maker(origin)
        if closed and not self._enters(origin, unit) if maker is None else self._unit[maker] is unit and closed:
            return
        first = self.twin(step)
        head = self._block_box(self._unit[first]) if closed else self.boxes[f"s{first.key}"]
        tail, _ = self._tail(origin)
        home = None if maker is None else self._home[maker]
        copied = home is not None and home.what == "repeat" and not within(self._home[first], home)
        key = (tail.key, head.key, self.shown(origin), -1 if closed or copied else i)
        loops = maker is not None and self.twin(maker).seq >= first.seq
        if key not in seen:
            arrow = seen[key] = Arrow(tail, head, self.shown(value), "loop" if loops else "data", first, i)
            self.arrows.append(arrow)
            if loops:
                arrow.count = self._repeats(self.twin(maker), first)

    def _repeats(self, maker, user) -> int:
        """How often the innermost repetition runs in which both steps of the first copy lie."""
        home = self._home[maker]
        while home.parent is not None and (home.what != "repeat" or not within(self._home[user], home)):
            home = home.parent
        return home.count

    def _enters(self, leaf, block) -> bool:
        """Whether a leaf gets a box though a closed block uses it: the data do; weights, masks and numbers do not.

        Of many arrays that nobody named, such as states of zeros, only those that are used first.
        """
        kind = self.kind(self.twin(leaf))
        if leaf.role == "input":
            return True
        if kind == "parameter" or not leaf.shape and not self.program.name(leaf):
            return False
        if leaf.source is not None or any(self._unit[user] is user for user, _ in self.program.users.get(leaf, ())):
            return True
        if kind != "input" or self.program.name(leaf):
            return kind == "input"
        strangers = self._strangers(block)
        return sum(map(len, strangers)) <= FEW or leaf in strangers[0]

    def _strangers(self, block) -> list:
        """The arrays that nobody named which a block uses, step by step."""
        if block not in self._met:
            met = [[x for x in dict.fromkeys(step.inputs) if x is not None and self.program.kind(x) == "data"
                    and not self.program.name(x)] for step in block.steps]
            self._met[block] = [found for found in met if found]
        return self._met[block]


def within(block, frame) -> bool:
    """Whether a block is `frame`, or lies in it."""
    while block is not None and block is not frame:
        block = block.parent
    return block is frame


def common(homes) -> Block:
    """The innermost block that holds all the homes."""
    chains = []
    for home in homes:
        chain = [home]
        while chain[-1].parent is not None:
            chain.append(chain[-1].parent)
        chains.append(chain[::-1])
    found = chains[0][0]
    for level in zip(*chains, strict=False):
        if any(block is not level[0] for block in level):
            break
        found = level[0]
    return found.parent if found.single else found


# ---- choosing what is open -------------------------------------------------------------------------------------------


def sketch(program: Program, depth: int | None = None, expand: Callable | None = None, fold: bool | None = None,
           views: bool | None = None, failed=None) -> Sketch:
    """The sketch of a program.

    depth: how many levels of modules are opened; None: as many as stay readable. expand: `expand(block)` opens a block
    (True), closes it (False) or leaves it to `depth` (None). fold: draw repetitions once; None: where it is needed.
    views: draw operations that only change the shape; None: but for those that another makes for itself. failed: a step
    or node to be drawn in red.
    """
    ample = None
    shaping = {step for step in program.steps if step.name in SHAPE_ONLY} if views is False else set()
    for root, aside, level, last in _choices(program, depth, fold):
        opened = _opened(root, level, expand)
        if last or _size(root, opened) <= AMPLE:
            made = Sketch(program, root, opened, aside if views is None else shaping, failed)
            if last or made.size <= READABLE:
                break
            ample = made if made.size <= AMPLE else ample
    return ample if ample and made.size < SCANT else made


def _choices(program, depth, fold) -> Iterator[tuple[Block, set, int, bool]]:
    """The program cut into blocks, what shows no more, how many levels are opened, whether it is the last choice."""
    large = len(program.steps) > 100 * READABLE
    for folded in (False, True) if fold is None and not large else (fold is None or fold,):
        cutter = Cutter(program, folded)
        root = cutter.root()
        deepest = max((block.level for block in blocks_of(root)), default=0)
        for level in range(deepest, -1, -1) if depth is None else (depth,):
            yield root, cutter.aside, level, level == (depth or 0) and (folded or fold is False)


def _size(root, opened) -> int:
    """About how many boxes there will be: two for each operation, one for each closed block."""
    size, waiting = 0, [root]
    while waiting:
        for part in waiting.pop().parts:
            inside = isinstance(part, Block) and (part in opened or part.what == "repeat")
            size += 0 if inside else 1 + isinstance(part, Step)
            waiting += [part] if inside else []
    return size


def _opened(root, depth, expand) -> set:
    """The blocks that are open; a chunk, which is there to keep a picture small, only if `expand` says so."""
    opened = {root}
    for block in blocks_of(root):
        if block.what == "repeat":
            continue
        said = expand(block) if expand and block is not root else None
        if block.level <= depth and block.what != "chunk" if said is None else said:
            around: Block | None = block
            while around is not None and around not in opened:
                opened.add(around)
                around = around.parent if said else None
    return opened
