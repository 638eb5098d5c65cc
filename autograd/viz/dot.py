"""`dot`: a sketch as a graph of the graphviz package, its boxes as HTML-like tables with coloured cells."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

from .cells import (
    COLORS,
    FAINT,
    FONT,
    GRADIENT,
    UNKNOWN,
    amount,
    cell,
    figures,
    font,
    row,
    shape_text,
    table,
    tag,
    text,
)
from .columns import columns
from .program import Step, Value
from .sketch import Block, Box, Sketch, within
from .snapshot import number

LOOP = "#0f766e"
PLAIN = 400  # boxes from which on they hold no figures
DULL = {"stride": 1, "dilation": 1, "groups": 1, "padding": 0, "ignore_index": -100, "label_smoothing": 0.0,
        "reduction": "mean", "levels": 0, "shape": None, "with_gradient": True, "dtype": None}
UNTOLD = {"activation", "draw", "batch_sizes", "report"}
FRAME = {"style": "rounded,filled", "color": "#cbd5e1", "fillcolor": "#f8fafc", "margin": "8", "labelloc": "t",
         "class": "frame"}
RESULTS = {"lstm_sequence": ("outputs", "h", "c"), "gru_sequence": ("outputs", "h"), "rnn_sequence": ("outputs", "h"),
           "lstm_graph": ("h", "c")}


# ---- boxes -----------------------------------------------------------------------------------------------------------


class Labels:
    """The labels of a sketch's boxes; `show` says what is in them, `mode` which way is drawn."""

    def __init__(self, sketch: Sketch, show, mode: str):
        self.sketch, self.program, self.mode = sketch, sketch.program, mode
        self.show = frozenset(() if len(sketch.boxes) > PLAIN else show)

    def of(self, box: Box) -> str:
        """The label of a box."""
        if box.kind == "operation":
            return self._operation(box)
        return self._module(box) if isinstance(box.of, Block) else self._value(box)

    def _value(self, box) -> str:
        value, (line, fill) = box.of, COLORS[box.kind]
        given = value.given and self.program.name(value) == value.given
        title = f"<B>{text(box.name)}</B>{_times(box)}"
        kind = " ".join(filter(None, [shape_text(value.shape), str(value.dtype) if value.dtype is not None else ""]))
        if given:  # a number, which is its own name
            return table([cell(font(title, 11, line))], border=1, bgcolor=fill, color=line)
        head = cell(f"{font(title, 11, line)} {font(text(kind), 8, FAINT)}", bgcolor=fill, align="left", colspan=2)
        return table([head, *self._state(value)], border=1, bgcolor="white", color=line)

    def _name(self, value) -> str:
        """What a value is called among the results of its step."""
        known = self.program.name(value) if value.maker is None else RESULTS.get(value.maker.name)
        if known and value.maker is not None:
            return known[value.index]
        return self.program.name(value) or (f"({value.index + 1})" if value.index else "=")

    def _state(self, value, whole=True, name="=") -> list[str]:
        """The rows with the value and the gradient."""
        rows = []
        if "values" in self.show and value.data is not None:
            rows.append(row(font(text(name, 16), 10, FAINT), figures(value.data, whole=whole)))
        if "grads" in self.show and value.live:
            known = value.gradient is not None
            rows.append(row(font("∇", 10, GRADIENT), figures(value.gradient, GRADIENT, whole)) if known else UNKNOWN)
        return rows

    def _operation(self, box) -> str:
        step, (line, fill) = box.of, COLORS["failed" if box.failed else "operation"]
        facts = self._facts([step], settings(step))
        rows = [cell(font(f"<B>{text(operation(step))}</B>{_times(box)}", 11, line))]
        rows += [cell(font(f"&#160;{text(words)}&#160;", 8, FAINT)) for words in facts]
        return table(rows, border=1, style="rounded", bgcolor=fill, color=line, cellpadding=3 if len(rows) == 1 else 1)

    def _facts(self, steps, *first) -> list[str]:
        """Settings, what is kept for backward, and the cost, as asked for."""
        facts = [words for words in first if words]
        if "saved" in self.show:
            kept = [pair for step in steps for pair in step.saved]
            total = amount(sum({id(array): array.nbytes for _, array in kept}.values()), "B")
            few = [f"keeps {label} {shape_text(a.shape) or 'number'}: {amount(a.nbytes, 'B')}" for label, a in kept]
            facts += few if 0 < len(few) <= 3 and len(steps) == 1 else [f"keeps {len(kept) or 'no'} arrays: {total}"]
        if "cost" in self.show:
            costs = [step.cost for step in steps if step.cost is not None]
            flops, moved = sum(cost.flops for cost in costs), sum(cost.bytes for cost in costs)
            facts.append(f"{amount(flops, 'FLOP')}, moves {amount(moved, 'B')}")
        return facts

    def _module(self, box) -> str:
        block, (line, fill) = box.of, COLORS["failed" if box.failed else "module"]
        head = font(f"<B>{text(block.name)}</B>{_times(box)}", 11, line)
        note = block.kind if block.what == "module" else block.path
        note = "" if note == block.title else note
        rows = [cell(f"{head} {font(text(note), 9, FAINT)}", bgcolor=fill, align="left", colspan=2)]
        given = dict.fromkeys(x for step in block.steps for x in step.inputs if x is not None)
        weights = [x for x in given if x.role == "parameter"]
        if 0 < len(weights) <= 2:
            for w in weights:
                name = self.program.label(w).rpartition(".")[2]
                rows.append(cell(f"{font(text(name), 9, '#1d4ed8')} {font(shape_text(w.shape), 8, FAINT)}",
                                  bgcolor="#dbeafe", align="left", colspan=2))
        elif weights:
            n = sum(math.prod(w.shape) for w in weights)
            words = f"{n:,} parameters in {len(weights)} tensors"
            rows.append(cell(font(words, 9, "#1d4ed8"), bgcolor="#dbeafe", align="left", colspan=2))
        few = operation(block.steps[0])
        words = block.title if block.what == "chunk" else f"{len(block.steps):,} operations"
        if len(block.steps) > 1 or few != block.steps[0].name:
            rows.append(cell(font(words if len(block.steps) > 1 else few, 8, FAINT), align="left", colspan=2))
        rows += [cell(font(text(w), 8, FAINT), align="left", colspan=2) for w in self._facts(block.steps)]
        for value in box.outlets[:3]:
            rows += self._state(value, False, "=" if len(box.outlets) == 1 else self._name(value))
        return table(rows, border=1, bgcolor="white", color=line)

    def legend(self, note: str = "") -> str:
        """What stands below the picture: what the colours mean, the sums, and the note."""
        kinds = {box.kind for box in self.sketch.boxes.values()}
        kinds |= {"parameter"} if any(value.role == "parameter" for value in self.program.values) else set()
        own = any(value.role == "input" for value in self.program.values)
        told = {"parameter": "requires gradient" if own else "parameter", "input": "data", "lines": "source lines"}
        cells = [
            cell(font(f"&#160;{told.get(kind, kind)}&#160;", 9, line), bgcolor=fill, border=1, color=line)
            for kind, (line, fill) in COLORS.items()
            if kind in kinds
        ]
        cells += [cell(font(f"&#160;{text(words, 80)}", 9, FAINT)) for words in self._sums()]
        rows = [cell(table(["".join(cells)], cellspacing=4), align="left")]
        if note:
            rows.append(cell(font(text(note, 200), 10, COLORS["failed"][0]), align="left"))
        return f"<{table(rows)}>"

    def _sums(self) -> Iterator[str]:
        values, steps = self.program.values, self.program.steps
        if self.mode == "forward" and "grads" in self.show and any(x.live and x.gradient is None for x in values):
            yield "∇ – gradient not computed yet"
        yield from self._facts(steps) if len(steps) > 1 else ()

    def frame(self, block: Block) -> str:
        """The title of an open block."""
        title = block.name
        count = block.parent.count if block.parent.single else block.count
        times = f" × {count:,}, the first is shown" if count > 1 else ""
        kind = block.kind if block.kind != title else ""
        words = f"{tag('B', text(title) + times)} {font(text(kind), 9, FAINT)}".strip()
        return f"<{font(words, 10, '#334155')}>"


def _times(box) -> str:
    return f" × {box.count:,}" if box.count > 1 else ""


def operation(step) -> str:
    """The name of an operation; of a kernel for several, their names: 'conv2d + tanh + avg_pool2d'."""
    activation, pool = step.params.get("activation"), step.params.get("pool")
    if not activation and not pool:
        return step.name
    first = step.name.partition("_")[0]
    return " + ".join(filter(None, [first, activation, pool and f"{pool[0]}_pool2d"]))


def settings(step) -> str:
    """What was set of an operation, where it is not the usual: 'stride 2, padding 1'."""
    found = []
    for key, value in step.params.items():
        parts = set(value) if isinstance(value, (tuple, list)) and all(isinstance(v, int) for v in value) else {value} \
            if isinstance(value, (int, float, str)) else set()
        if not parts or value is False or parts == {DULL.get(key)} or key in UNTOLD:
            continue
        shown = parts.pop() if len(parts) == 1 else value
        found.append(f"{key} {number(shown) if isinstance(shown, float) else shown}")
    return ", ".join(found[:3])


# ---- the graph -------------------------------------------------------------------------------------------------------


def dot(sketch: Sketch, show=("values", "grads"), mode: str = "forward", note: str = ""):
    """The sketch as a `graphviz.Digraph`, with a legend and a note below."""
    graphviz = graphviz_package()
    graph = graphviz.Digraph("chainrule")
    graph.attr("graph", rankdir="TB", fontname=FONT, bgcolor="white", ranksep="0.28", nodesep="0.22", labeljust="l")
    graph.attr("node", fontname=FONT, fontsize="11", shape="plain")
    graph.attr("edge", fontname=FONT, fontsize="8", color=FAINT, fontcolor=FAINT, arrowsize="0.6")
    labels = Labels(sketch, show, mode)
    graph.attr("graph", label=labels.legend(note), labelloc="b")
    rows: dict[Block, list[str]] = {}
    for boxes in sketch.unrolled:
        keys = " -> ".join(box.key for box in boxes)
        rows.setdefault(boxes[0].home, []).append(f"\t{{rank=same; {keys} [style=invis weight=20]}}\n")
    for event, thing in framed(sketch):
        if event == "open":
            key = thing.steps[0].key
            graph.body.append(f"\tsubgraph cluster_{key} {{\n")
            graph.attr(None, label=labels.frame(thing), id=f"c{key}", **FRAME)
        elif event == "close":
            graph.body += [*rows.pop(thing, []), "\t}\n"]
        else:
            words = {"tooltip": plain(graphviz, tip(sketch, thing)), "class": "failed" if thing.failed else thing.kind}
            graph.node(thing.key, label=f"<{labels.of(thing)}>", id=thing.key, **words)
    graph.body += [line for lines in rows.values() for line in lines]
    turns = [] if sketch.unrolled else columns(sketch)
    for arrow in sketch.arrows:
        for look in _looks(arrow, sketch, mode):
            look |= {"constraint": "false", "tailport": "e", "headport": "w"} if arrow in turns else {}
            graph.edge(arrow.tail.key, arrow.head.key, **look)
    if turns:  # the tops of the columns, from left to right
        graph.node("top", style="invis", label="", height="0", width="0", ordering="out")
        heads = [arrow.head for arrow in turns]
        for head in [next(iter(sketch.arrows)).tail, *heads]:
            graph.edge("top", head.key, style="invis", weight="0")
    return graph


def framed(sketch: Sketch) -> list[tuple]:
    """("open", block), ("box", box) and ("close", block), as they nest; no frame stands round one operation alone."""
    inside: dict[Block, list] = {}
    for box in sketch.boxes.values():
        inside.setdefault(box.home, []).append(box)
    found, waiting = [], [("open", sketch.root)]
    while waiting:
        event, block = waiting.pop()
        found.append((event, block))
        if event == "open":
            found += [("box", box) for box in inside.get(block, [])]
            waiting.append(("close", block))
            waiting += [("open", part) for part in reversed(block.parts)
                        if isinstance(part, Block) and (part in sketch.opened or part.what == "repeat")]
    return [one for one in found if one[0] == "box" or not _bare(one[1], inside, sketch)]


def _bare(block, inside, sketch) -> bool:
    """Whether a block gets no frame: the program, what is repeated alone, a module of one operation without weights."""
    alone = len(block.parts) == 1 and len(inside.get(block, [])) <= 2 and isinstance(block.parts[0], Step)
    return block is sketch.root or block.single or alone


def tip(sketch: Sketch, box: Box) -> str:
    """What is said where the mouse rests on a box: where it stands in the user's program."""
    if isinstance(box.of, Value):
        place = box.of.maker.place if box.of.maker else None
        title = f"{box.name}: {box.of.role} {box.of.shape}"
    else:
        place = box.of.place
        title = box.of.name if isinstance(box.of, Step) else box.of.path or box.of.title
    if not place:
        return title
    file = os.path.basename(place.file)  # a picture is passed on: where its maker keeps files stays private
    words = place.expression if isinstance(box.of, Step) else place.text
    return f"{title}\n{words}\n{file}:{place.line}, in {place.function}"


def plain(graphviz, words: str, limit: int = 300):
    """Words as an attribute in which nothing is markup."""
    words = "".join(c if c.isprintable() or c == "\n" else " " for c in words[:limit])
    return graphviz.escape(words.encode("utf-8", "replace").decode().replace("&", "&amp;"))


def _looks(arrow, sketch, mode) -> list[dict]:
    """The attributes of an arrow: forward, backward, or one of each."""
    if arrow.kind == "cut":
        return [{"style": "dashed", "label": f" {arrow.value.cut}", "class": "edge cut"}]
    shape = shape_text(arrow.value.shape)
    course = _course(arrow)
    inner = arrow.tail.kind == "operation" or arrow.head.of is arrow.value
    name = sketch.program.name(arrow.value) if isinstance(arrow.tail.of, Block) else ""
    words = "" if inner else " ".join(filter(None, [text(name, 20), shape]))
    words = f"{words} and {arrow.more:,} more" if arrow.more else words
    forward = course | {"label": f"< {words}>" if words else "", "class": f"edge {arrow.kind}"}
    if arrow.kind == "loop":
        label = f"<<B>× {arrow.count:,}</B><BR/>{words}>"
        forward |= {"label": label, "color": LOOP, "fontcolor": LOOP, "penwidth": "1.6"}
    if mode == "forward":
        return [forward]
    back = {"dir": "back", "color": GRADIENT, "fontcolor": GRADIENT, "class": "edge gradient", "penwidth": "1.4"}
    back |= {"label": f"< {_gift(arrow, shape)}>"}
    live = arrow.value.live
    if mode == "both":
        return [forward, course | back | {"constraint": "false"}] if live else [forward]
    unused = {"style": "dotted", "dir": "none", "color": "#94a3b8", "class": "edge data"}
    return [course | (back if live else unused)]


def _course(arrow) -> dict:
    """How an arrow takes part in the layout: data flow down straight, weights and numbers come from the side."""
    if arrow.kind == "loop":
        return {"constraint": "false"}
    if arrow.value.maker is None and arrow.value.role != "input" and arrow.tail.kind != "input":
        return {"weight": "3"} if arrow.tail.kind == "constant" else {}
    enters = arrow.head.kind == "operation" and not within(arrow.tail.home, arrow.head.home)
    return {"weight": "8", "minlen": "2"} if enters else {"weight": "8"}  # above the frame, not beside


def _gift(arrow, shape) -> str:
    """What the gradient along an arrow is, in a few words."""
    pulse = arrow.step.pulse if arrow.step is not None else None
    if pulse is None or arrow.i < 0:
        return ""
    gift = next((gift for gift in pulse.gifts if gift.i == arrow.i), None)
    if gift is None:
        return ""
    array = gift.fitted.array
    return f"∇ {text(gift.fitted.text)}" if array is not None and array.size <= 2 else f"∇ {shape}"


def graphviz_package():
    """The graphviz package, which writes the DOT."""
    try:
        import graphviz
    except ImportError:
        raise ImportError(
            "drawing needs the graphviz package; install the extra: pip install 'chainrule[viz]'"
        ) from None
    return graphviz
