"""`Outline`: a module as it stands, before it has run: its parts, settings and weights, one inside the other."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any, NamedTuple

from .cells import COLORS, FAINT, FONT, cell, figures, font, row, shape_text, table, text
from .dot import FRAME, graphviz_package, plain
from .mermaid import quoted
from .snapshot import Snapshot

READABLE = 26  # boxes up to which deeper parts are shown
TALL = 6  # boxes in a column
DEEP = 12
LONG = 50  # characters of a module's settings


class Part(NamedTuple):
    """A module among the parts of another, `times` equal ones in a row; opened it has parts."""

    key: str
    title: str
    module: Any
    times: int
    parts: list


class Outline:
    """The parts of a module: frames for those that are opened, boxes for the others, in the order of registration.

    Equal neighbours are drawn once. depth: how many levels are opened; None: as many as stay readable.
    """

    def __init__(self, module, depth: int | None = None):
        levels = range(DEEP, 0, -1) if depth is None else (depth,)
        for level in levels:
            self.whole = _part("m", type(module).__name__, module, 1, level)
            self.boxes = _boxes(self.whole)
            if len(self.boxes) <= READABLE:
                break

    def dot(self) -> str:
        """The outline in the DOT language."""
        graphviz = graphviz_package()
        graph = graphviz.Digraph("chainrule")
        graph.attr("graph", rankdir="TB", fontname=FONT, bgcolor="white", ranksep="0.25", nodesep="0.3", labeljust="l")
        graph.attr("node", fontname=FONT, shape="plain")
        graph.attr("edge", color=FAINT, arrowsize="0.6")
        waiting: list[Part | None] = [self.whole]
        while waiting:
            part = waiting.pop()
            if part is None:
                graph.body.append("\t}\n")
            elif part.parts:
                graph.body.append(f"\tsubgraph cluster_{part.key} {{\n")
                graph.attr(None, label=f"<{_title(part)}>", id=part.key, **FRAME)
                waiting += [None, *reversed(part.parts)]
            else:
                graph.node(part.key, label=f"<{_box(part)}>", id=part.key, tooltip=plain(graphviz, repr(part.module)))
        height = 0
        for above, below in zip(self.boxes, self.boxes[1:], strict=False):
            height += 1
            if height < TALL or above.key.split("_")[1] == below.key.split("_")[1]:
                graph.edge(above.key, below.key, style="invis")
            else:  # the next column begins
                height = 0
        return graph.source

    def mermaid(self) -> str:
        """The outline in the Mermaid language."""
        lines = ["flowchart TB"]
        waiting: list[Part | None] = [self.whole]
        while waiting:
            part = waiting.pop()
            if part is None:
                lines.append("  end")
            elif part.parts:
                lines.append(f"  subgraph {part.key}[{quoted(_words(part))}]")
                waiting += [None, *reversed(part.parts)]
            else:
                lines.append(f"  {part.key}[[{quoted(_words(part))}]]:::module")
        line, fill = COLORS["module"]
        return "\n".join([*lines, f"  classDef module fill:{fill},stroke:{line},color:{line}"]) + "\n"

    @property
    def about(self) -> str:
        """What it shows, in words."""
        return f"the module {self.whole.title}"


def _part(key, title, module, count, depth) -> Part:
    found: list[Part] = []
    runs = groupby(module.named_children() if depth else (), key=lambda pair: repr(pair[1]))
    for run in [list(run) for _, run in runs]:
        first, last = run[0][0], run[-1][0]
        name = first if len(run) == 1 else f"{first} … {last}"
        found.append(_part(f"{key}_{len(found)}", name, run[0][1], len(run), depth - 1))
    return Part(key, title, module, count, found)


def _boxes(part) -> list[Part]:
    return [box for inner in part.parts for box in _boxes(inner)] if part.parts else [part]


def _words(part) -> str:
    kind = type(part.module).__name__
    return part.title + (f" {kind}" if kind != part.title else "") + (f" × {part.times}" if part.times > 1 else "")


def _title(part, size=10, color="#334155") -> str:
    kind, times = type(part.module).__name__, f" × {part.times}" if part.times > 1 else ""
    name = font(f"<B>{text(part.title)}{times}</B>", size, color)
    return name if kind == part.title else f"{name} {font(text(kind), 9, FAINT)}"


def _box(part) -> str:
    line, fill = COLORS["module"]
    rows = [cell(_title(part, 11, line), bgcolor=fill, align="left", colspan=2)]
    settings = part.module.extra_repr()
    if settings:
        shown = settings if len(settings) <= LONG else settings[:LONG].rpartition(",")[0] + " …"
        rows.append(cell(font(text(shown, LONG + 2), 8, FAINT), align="left", colspan=2))
    weights = list(part.module.named_parameters())
    if len(weights) <= 4:
        for name, weight in weights:
            words = f"{font(text(name), 9, '#1d4ed8')} {font(shape_text(weight.shape), 8, FAINT)}"
            rows.append(row(words, figures(Snapshot(weight.array), whole=False)))
    else:
        n = sum(math.prod(weight.shape) for _, weight in weights)
        words = f"{n:,} parameters in {len(weights)} tensors"
        rows.append(cell(font(words, 9, "#1d4ed8"), bgcolor="#dbeafe", align="left", colspan=2))
    return table(rows, border=1, bgcolor="white", color=line)
