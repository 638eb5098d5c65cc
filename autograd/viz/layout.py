"""`Layouts`: where the boxes of a stepper's page stand, for each module and for each depth, as SVG.

Every box and arrow says by its class what it is (`s3` step 3, `v7` value 7, `g2` group 2, numbered as in the page's
data), so that the page's style and script find it. Text stands in plain lines: name and shape, value, gradient.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property

from .program import Call, Step

MOST = 60  # parts that one group shows before they are gathered in runs
RUN = 30
READABLE = 32  # operations and closed groups up to which a view may be the one to begin with
WIDE = 800  # points, likewise
LARGEST = 250  # beyond, no view of the whole program is made at that depth
LONGEST = 44  # characters of a line
BRIEF = 24  # characters of an expression that may stand for a name


class Group:
    """A module's call, or a run of steps: `items` are Steps and Groups in order of running."""

    __slots__ = ("index", "title", "kind", "path", "parent", "depth", "items", "steps")

    def __init__(self, title, kind, path, items):
        self.title, self.kind, self.path, self.items = title, kind, path, items
        self.index, self.parent, self.depth = 0, None, 0
        self.steps: list[Step] = [s for item in items for s in ([item] if isinstance(item, Step) else item.steps)]

    @property
    def alone(self) -> bool:
        """Whether one step is all that is in it: it is drawn as this step."""
        return len(self.steps) == 1 and self.parent is not None


class View:
    """One layout: `group` is what is shown, with all that lies deeper than `depth` closed; `svg` the picture."""

    def __init__(self, group, depth, title, svg, boxes):
        self.group, self.depth, self.title, self.svg, self.boxes = group, depth, title, svg, boxes
        self.width = float(re.search(r'viewBox="\S+ \S+ (\S+) ', svg)[1])


class Layouts:
    """The `groups` of a program and its `views`; `first` is the number of the view to begin with."""

    def __init__(self, program, render):
        self.program, self._render = program, render
        self.groups = _groups(program)
        self.number = {thing: i for things in (program.steps, program.values) for i, thing in enumerate(things)}
        self.titles = self._titles()
        self.views = self._by_depth()
        self.first = max((i for i, v in enumerate(self.views) if v.boxes <= READABLE and v.width <= WIDE), default=0)
        for group in self.groups[1:]:
            if not group.alone:
                self.views.append(self._view(group, group.depth, group.path or group.title))

    def _titles(self) -> dict:
        """What each value is called: its name, else the module or expression that gave it alone, else its maker's."""
        places = Counter(step.place for step in self.program.steps)
        titles: dict = {}
        for value in self.program.values:
            step, title = value.maker, self.program.label(value)
            if step in self._of and not self.program.name(value):
                group = self._of[step]
                if step.name == "cast" and step.inputs[0] in titles:
                    title = f"{titles[step.inputs[0]]} as {value.dtype}"
                elif group.alone and group.title:
                    title = f"{group.title}(…)"
                elif places[step.place] == 1 and 0 < len(step.place.expression) <= BRIEF:
                    title = step.place.expression
            titles[value] = title
        return titles

    def _by_depth(self) -> list[View]:
        root, deepest = self.groups[0], max(group.depth for group in self.groups)
        found: list[View] = []
        for depth in range(deepest + 1):
            units = _units(root, depth)
            boxes = len(dict.fromkeys(units.values()))
            if depth and (boxes > LARGEST or boxes == found[-1].boxes):
                continue
            every = all(isinstance(unit, Step) for unit in units.values())
            title = "Every operation" if every else f"Modules to depth {depth + 1}" if depth else "Overview"
            found.append(self._view(root, depth, title))
        return found

    def _view(self, group, depth, title) -> View:
        units = _units(group, depth)
        source = "\n".join(["digraph {", *_HEAD, *self._lines(group, units), "}"])
        svg = _clean(self._render(source, "svg").decode())
        return View(group, depth, title, svg, len(dict.fromkeys(units.values())))

    # ---- the DOT of a view -------------------------------------------------------------------------------------------

    def _lines(self, group, units):
        """The statements of the boxes, the frames of the open groups round them, and the arrows."""
        boxes, arrows = {}, {}
        for step, unit in units.items():
            boxes.setdefault(unit, None)
            for value in step.inputs:
                if value is not None and self._drawn(value, units):
                    boxes.setdefault(value, None)
                    if units.get(value.maker) is not unit:
                        arrows[value, unit] = None
            for value in step.results:
                if self._drawn(value, units):
                    boxes.setdefault(value, None)
                    arrows[unit, value] = None
        inside: dict = {}
        for box in boxes:
            inside.setdefault(self._home(box, units), []).append(box)
        yield from self._framed(group, inside, units)
        for tail, head in arrows:
            yield f'{self._key(tail)} -> {self._key(head)} [class="{self._key(tail)} {self._key(head)}"]'

    def _drawn(self, value, units) -> bool:
        """Whether a value is seen from outside of the closed groups."""
        users = {units[step] for step, _ in self.program.users[value] if step in units}
        unit = units.get(value.maker)
        if isinstance(unit, Step):
            return True
        if unit is None:  # it comes from outside of this view; a closed group keeps its own parameters to itself
            inner = len(users) == 1 and isinstance(next(iter(users)), Group)
            return not (inner and value.maker is None and value.role in ("parameter", "constant"))
        leaves = any(step not in units for step, _ in self.program.users[value])
        return leaves or value in self.program.results or bool(users - {unit})

    def _home(self, box, units):
        """The open group that a box lies in: where a value is made, a leaf where it is first used."""
        if isinstance(box, Group):
            return box.parent
        step = box if isinstance(box, Step) else box.maker
        if step not in units:
            if box.role != "parameter":
                return None
            step = next(step for step, _ in self.program.users[box] if step in units)
        unit = units[step]
        home = self._of[step] if isinstance(unit, Step) else unit.parent
        while home.alone:
            home = home.parent
        return home

    @cached_property
    def _of(self) -> dict:
        """step -> the group that holds it directly."""
        return {item: group for group in self.groups for item in group.items if isinstance(item, Step)}

    def _framed(self, root, inside, units):
        waiting = [("open", root)]
        while waiting:
            event, group = waiting.pop()
            if event == "close":
                yield "}"
                continue
            if group is not root:
                yield f'subgraph cluster_{group.index} {{ class="frame g{group.index}"; label={_quoted(_title(group))}'
                waiting.append(("close", group))
            for box in inside.get(group, []):
                yield self._box(box, units)
            if group is root:
                yield from (self._box(box, units) for box in inside.get(None, []))
            parts = [item for item in group.items if isinstance(item, Group) and not item.alone]
            waiting += [("open", part) for part in reversed(parts) if units[part.steps[0]] is not part]

    def _key(self, thing) -> str:
        if isinstance(thing, Group):
            return f"g{thing.index}"
        return f"{'s' if isinstance(thing, Step) else 'v'}{self.number[thing]}"

    def _box(self, thing, units) -> str:
        key = self._key(thing)
        if isinstance(thing, Group):
            lines, what = [_title(thing), f"{len(thing.steps)} operations ▸"], "group"
        elif isinstance(thing, Step):
            call = self._of[thing]
            lines, what = [thing.name, *([call.title] if call.alone and call.title else [])], "step"
        else:
            lines, what = self._value_lines(thing), f"value {CLASSES[self.program.kind(thing)]}"
            what += " outside" if thing.maker is not None and thing.maker not in units else ""
        label = _quoted(*lines)
        return f'{key} [class="{what} {key}" label={label} style={"rounded" if what == "step" else "solid"}]'

    def _value_lines(self, value) -> list[str]:
        shape = "×".join(map(str, value.shape)) if value.shape else ""
        name = self.titles[value]
        if value.given and value.given == name:
            return [name]
        lines = [f"{_short(name, 24)}  {shape}".strip(), shown(value.data) if value.data is not None else "…"]
        if value.live:
            lines.append(f"∇ {shown(value.gradient)}" if value.gradient is not None else "∇ –")
        return lines


def shown(snapshot) -> str:
    """The short line of a snapshot with true minus signs."""
    return snapshot.text.replace("-", "−")


#: the class of a value in the page's style sheet, by its kind
CLASSES = {"parameter": "parameter", "data": "input", "constant": "constant", "value": "computed", "result": "result"}


# ---- groups ----------------------------------------------------------------------------------------------------------


def _groups(program) -> list[Group]:
    """The program's tree of calls as groups, the whole program first; long lists of parts are gathered in runs."""
    numbers = {step: i for i, step in enumerate(program.steps)}
    calls = [program.root]
    for call in calls:
        calls += call.calls
    made: dict[Call, Group] = {}
    for call in reversed(calls):
        items = sorted([*call.steps, *[made[c] for c in call.calls if made[c].steps]], key=_moment)
        while len(items) > MOST:
            items = [_run(numbers, items[i : i + RUN]) for i in range(0, len(items), RUN)]
        made[call] = Group(call.name, call.kind, call.path, items)
    found = [made[program.root]]
    for i, group in enumerate(found):
        group.index = i
        for item in group.items:
            if isinstance(item, Group):
                item.parent, item.depth = group, group.depth + 1
                found.append(item)
    return found


def _moment(item) -> int:
    return item.seq if isinstance(item, Step) else item.steps[0].seq


def _run(numbers, items) -> Group:
    steps = [s for item in items for s in ([item] if isinstance(item, Step) else item.steps)]
    lines = sorted({steps[0].place.line, steps[-1].place.line})
    where = f"lines {lines[0]}–{lines[-1]}" if len(lines) > 1 else f"line {lines[0]}"
    return Group(f"steps {numbers[steps[0]] + 1}–{numbers[steps[-1]] + 1}", where, "", items)


def _units(group, depth) -> dict:
    """Every step of the group -> the box that it is in: itself, or the closed group deeper than `depth`."""
    units, waiting = {}, [group]
    while waiting:
        one = waiting.pop()
        for item in one.items:
            if isinstance(item, Step):
                units[item] = item
            elif item.depth > depth and not item.alone:
                units.update(dict.fromkeys(item.steps, item))
            else:
                waiting.append(item)
    return {step: units[step] for step in group.steps}


# ---- text and SVG ----------------------------------------------------------------------------------------------------

_HEAD = (
    'graph [rankdir=TB ranksep=0.28 nodesep=0.2 bgcolor=none fontname="Helvetica" fontsize=11 labeljust=l margin=0]',
    'node [shape=box fontname="Helvetica" fontsize=12 margin="0.12,0.06" height=0.3]',
    "edge [arrowsize=0.6]",
)


def _title(group) -> str:
    return f"{group.title}: {group.kind}" if group.kind and group.kind != group.title else group.title or group.kind


def _short(text, longest=LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _quoted(*lines) -> str:
    """Lines as a quoted label in which nothing is markup: no escapes, entities or line breaks of their own."""
    plain = ["".join(c if c.isprintable() else " " for c in _short(line)) for line in lines]
    plain = [line.encode("utf-8", "replace").decode() for line in plain]
    return '"' + "\\n".join(p.replace("&", "&amp;").replace("\\", "\\\\").replace('"', "&quot;") for p in plain) + '"'


_NOISE = re.compile(
    r"<!--.*?-->\n?|<title>.*?</title>\n?|<a [^>]*>|</a>"
    r'| (?:id|xml:space|font-family|font-size|xmlns:xlink|text-anchor|fill|stroke)="[^"]*"',
    re.S,
)
_LONG = re.compile(r"(\d\.\d)\d+(?=[^<>]*>)")  # within a tag


def _clean(svg) -> str:
    """Graphviz's SVG as a part of a page, whose style says the colours: no prologue, titles, ids, long fractions."""
    return _LONG.sub(r"\1", _NOISE.sub("", svg[svg.index("<svg") :]).strip())
