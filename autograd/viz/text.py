"""`text`: a recorded graph as a tree of aligned lines, for terminals."""

from __future__ import annotations

import re
import unicodedata

from .program import Program, Step, Value
from .snapshot import number

LEVELS = 16  # how far the tree goes to the right before it goes on at the margin
LABEL = 40  # characters shown of a name


class Text(str):
    """A text that shows itself as it is, also without print."""

    def __repr__(self):
        return str(self)


def text(t, *, mode: str = "forward", show=("values", "grads"), names: dict | None = None) -> Text:
    """The graph that computed `t` (tensors) as a tree: each value above what it was made of.

    A value is named as the program names it, with the operation that made it, its module, shape, value and gradient.
    What is used several times is printed once and named with ↑ from then on; ↓ goes on further below. Of large arrays
    the range is shown.

    mode: "forward" shows the gradients that are known now, – where one is not computed yet; "both" goes backward first,
        without changing any `.grad`. show: columns among "values", "grads", "cost" (FLOPs, bytes), "saved" (bytes kept
        for backward) and "lines" (the source line). names: {name: tensor}, for what no variable names.

    Errors: ValueError for another mode or column, RuntimeError for "both" where backward has released the graph.

    >>> a = cr.tensor(2.0, requires_grad=True)
    >>> b = cr.tensor(-3.0, requires_grad=True)
    >>> e = a * b
    >>> d = e + a
    >>> cr.viz.text(d, mode="both")
                           shape  value  gradient
    d = add                ()     -4     1
    ├─ e = multiply        ()     -6     1
    │  ├─ a: input         ()     2      -2
    │  └─ b: input         ()     -3     2
    └─ a ↑
    """
    if mode not in ("forward", "both"):
        raise ValueError(f"text: received mode={mode!r}; it shows 'forward' or 'both'")
    show = (show,) if isinstance(show, str) else tuple(show)
    unknown = [column for column in show if column not in COLUMNS]
    if unknown:
        raise ValueError(f"text: received show={unknown[0]!r} among the columns; there are {', '.join(COLUMNS)}")
    program = t if isinstance(t, Program) else Program(t, names)
    if mode == "both":
        program.walk()
    columns = {"shape": _shape, **{COLUMNS[column][0]: COLUMNS[column][1] for column in show}}
    rows = [("", *columns)]
    for label, value in _Tree(program).rows():
        rows.append((label, *(cell(value) if value is not None else "" for cell in columns.values())))
    lines = _aligned(rows)
    if "grads" in show and any(row[1 + list(columns).index("gradient")] == UNKNOWN for row in rows):
        lines.append(f"({UNKNOWN} : gradient not computed yet)")
    return Text("\n".join(lines))


UNKNOWN = "–"


class _Tree:
    """Walks from the results to the leaves, each value once."""

    def __init__(self, program: Program):
        self.program = program
        self.tags: dict[Value, str] = {}  # of nameless values that are mentioned again
        self.seen: set[Value] = set()
        self.opened: set[Step] = set()
        self.waiting: list[tuple] = []  # (value, what stands before its line, before those of its inputs, its level)
        self.later: dict[Value, None] = {}  # whose trees go on at the margin

    def rows(self):
        """(the line's beginning, the value whose columns follow it or None)."""
        self._tag()
        self.later = dict.fromkeys(self.program.results)
        while self.later:
            value = next(iter(self.later))
            del self.later[value]
            self.waiting.append((value, "", "", 0))
            while self.waiting:
                yield self._row(*self.waiting.pop())

    def _tag(self):
        """Number the nameless values that are used more than once."""
        for value, users in self.program.users.items():
            if len(users) > 1 and value.maker is not None and not self.program.name(value):
                self.tags[value] = f" #{len(self.tags) + 1}"

    def _row(self, value, before, inner, level):
        again = value in self.seen
        made_above = value.maker is not None and value.maker in self.opened
        inputs = [] if again or made_above else _origins(value)
        if inputs and level == LEVELS:
            self.later[value] = None
            self.tags.setdefault(value, "" if self.program.name(value) else f" #{len(self.tags) + 1}")
            return f"{before}{self._short(value)} ↓", None
        self.seen.add(value)
        if again:
            return f"{before}{self._short(value)} ↑", None
        self.opened.add(value.maker)
        for i in reversed(range(len(inputs))):
            last = i == len(inputs) - 1
            step, more = ("└─ ", "   ") if last else ("├─ ", "│  ")
            self.waiting.append((inputs[i], inner + step, inner + more, level + 1))
        return f"{before}{self._label(value)}{' (inputs ↑)' if made_above else ''}", value

    def _short(self, value) -> str:
        return _clean(self.program.label(value)) + self.tags.get(value, "")

    def _label(self, value) -> str:
        name = _clean(self.program.name(value))
        step = value.maker
        if step is None:
            kind = "data" if self.program.kind(value) == "data" else value.role
            kind = f"cut by {value.cut}" if value.cut else kind
            return name if value.given and name == value.given else f"{name or self._short(value)}: {kind}"
        result = f"[{value.index}]" if len(step.results) > 1 else ""
        path = self.program.call_of[step].path if step in self.program.call_of else ""
        made = f"{_operation(step)}{result}" + self.tags.get(value, "") + (f" in {_clean(path)}" if path else "")
        return f"{name} = {made}" if name else made


def _operation(step) -> str:
    """The primitive's name; of one that does several operations at once, their names."""
    parts = [step.params.get("activation"), step.params.get("pool")]
    if not step.name.endswith(("_act", "_act_pool")):
        return step.name
    named = [part if isinstance(part, str) else f"{part[0]}_pool" for part in parts if part]
    return " + ".join([step.name.partition("_act")[0], *named])


def _origins(value) -> list[Value]:
    if value.maker is not None:
        return [x for x in value.maker.inputs if x is not None]
    return [value.source] if value.source is not None else []


# ---- columns ---------------------------------------------------------------------------------------------------------


def _shape(value) -> str:
    return "" if value.shape is None else str(tuple(value.shape))


def _data(value) -> str:
    return value.data.text if value.data is not None else "?"


def _gradient(value) -> str:
    if value.gradient is not None:
        return value.gradient.text
    return UNKNOWN if value.live else ""


def _cost(value) -> str:
    cost = value.maker.cost if value.maker is not None else None
    return f"{number(cost.flops)} FLOP, {_bytes(cost.bytes)}" if cost else ""


def _saved(value) -> str:
    kept = value.maker.saved if value.maker is not None else []
    return ", ".join(f"{label} {_bytes(array.nbytes)}" for label, array in kept)


def _line(value) -> str:
    place = value.maker.place if value.maker is not None else value.cut_at
    return _clean(f"line {place.line}: {place.text}") if place else ""


COLUMNS = {
    "values": ("value", _data),
    "grads": ("gradient", _gradient),
    "cost": ("cost", _cost),
    "saved": ("kept for backward", _saved),
    "lines": ("source", _line),
}


def _bytes(n) -> str:
    unit = next(unit for unit in ("B", "KiB", "MiB", "GiB") if n < 1024 or unit == "GiB" or (n := n / 1024) is None)
    return f"{number(n)} {unit}"


# ---- lines -----------------------------------------------------------------------------------------------------------


def _clean(name: str) -> str:
    """A name on one line: no control characters, not too long."""
    name = "".join(c if c.isprintable() else "�" for c in name)
    return name if len(name) <= LABEL else name[: LABEL - 1] + "…"


def _aligned(rows) -> list[str]:
    """The rows with each column as wide as its widest cell."""
    widths = [max(map(_width, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths))
        lines.append("  ".join(cells).rstrip())
    return lines


_NARROW = re.compile("[ -~│├└─↑↓–…]*")


def _width(cell: str) -> int:
    """The columns that a terminal gives the text."""
    if _NARROW.fullmatch(cell):
        return len(cell)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in cell)
