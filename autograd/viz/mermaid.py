"""`mermaid`: a sketch as text of the Mermaid language, which many editors and sites draw without Graphviz."""

from __future__ import annotations

from .cells import COLORS, shape_text
from .dot import framed, operation, settings
from .program import Step, Value
from .sketch import Sketch

SHAPES = {"operation": ("([", "])"), "module": ("[[", "]]"), "lines": ("[[", "]]")}


def mermaid(sketch: Sketch) -> str:
    """The sketch as a Mermaid flow chart.

    >>> from chainrule.autograd.viz.mermaid import mermaid
    >>> print(cr.viz.draw(cr.ones(2, requires_grad=True) * 3).mermaid.splitlines()[0])
    flowchart TB
    """
    lines, depth = ["flowchart TB"], 1
    for event, thing in framed(sketch):
        if event == "close":
            depth -= 1
            lines.append("  " * depth + "end")
        elif event == "open":
            title = " × ".join(filter(None, [thing.name, str(thing.count) if thing.count > 1 else ""]))
            lines.append("  " * depth + f"subgraph c{thing.steps[0].key}[{quoted(title)}]")
            depth += 1
        else:
            left, right = SHAPES.get(thing.kind, ("[", "]"))
            kind = "failed" if thing.failed else thing.kind
            lines.append("  " * depth + f"{thing.key}{left}{quoted(_words(thing))}{right}:::{kind}")
    for arrow in sketch.arrows:
        lines.append(f"  {arrow.tail.key} {_link(arrow)} {arrow.head.key}")
    lines += [f"  classDef {kind} fill:{fill},stroke:{line},color:{line}" for kind, (line, fill) in COLORS.items()]
    return "\n".join(lines) + "\n"


def _link(arrow) -> str:
    shape = shape_text(arrow.value.shape)
    if arrow.kind == "cut":
        return f"-.->|{quoted(arrow.value.cut)}|"
    if arrow.kind == "loop":
        return f"==>|{quoted(f'× {arrow.count:,}')}|"
    return f"-->|{quoted(shape)}|" if shape else "-->"


def _words(box) -> str:
    times = f" × {box.count:,}" if box.count > 1 else ""
    if isinstance(box.of, Value):
        value = box.of
        data = value.data.text if value.data is not None else ""
        gradient = "" if not value.live else f"∇ {value.gradient.text}" if value.gradient is not None else "∇ –"
        words = [box.name + times, shape_text(value.shape), f"= {data}" if data else "", gradient]
    elif isinstance(box.of, Step):
        words = [operation(box.of) + times, settings(box.of)]
    else:
        words = [box.of.name + times, box.of.kind]
    return "\n".join(filter(None, words))


def quoted(words: str, limit: int = 160) -> str:
    """Words in quotes, in which nothing is markup: what could be is written as a character code."""
    plain = [c if c.isalnum() or c in " .,_×∇=–…-+():/" else f"#{ord(c)};" for c in words[:limit]]
    return '"' + "".join("<br>" if c == "#10;" else c for c in plain) + '"'
