"""`draw`: a recorded graph as a picture, in DOT, SVG, PNG or PDF."""

from __future__ import annotations

import functools
import os
import shutil
from pathlib import Path

from ..backward import reachable
from ..tensor import Tensor

_STYLE = {
    "leaf": {"shape": "box", "style": "filled,rounded", "fillcolor": "#dbeafe", "color": "#1d4ed8"},
    "constant": {"shape": "box", "style": "filled,rounded", "fillcolor": "#f1f5f9", "color": "#94a3b8"},
    "operation": {"shape": "box", "style": "filled", "fillcolor": "#fef9c3", "color": "#a16207"},
    "result": {"shape": "box", "style": "filled,bold", "fillcolor": "#dcfce7", "color": "#15803d"},
}


class Picture:
    """A drawn graph: `source` is its DOT text; `save` writes it as .dot, .svg, .png or .pdf; notebooks show it.

    >>> picture = cr.viz.draw(cr.ones(2, requires_grad=True) * 3)
    >>> picture.source.startswith("digraph chainrule {")
    True
    """

    def __init__(self, graph):
        self._graph = graph

    @property
    def source(self) -> str:
        """The graph in the DOT language."""
        return self._graph.source

    def save(self, path) -> Path:
        """Write the picture in the format that the name's ending says, and return the path.

        Rendered by pygraphviz's own engine, else by a `dot` on PATH.

        Errors: ValueError for another ending, RuntimeError naming what to install where there is no engine.
        """
        path = Path(path)
        kind = path.suffix.lstrip(".").lower()
        if kind not in ("dot", "gv", "svg", "png", "pdf"):
            raise ValueError(f"save: received the name {path.name!r}; it must end in .dot, .svg, .png or .pdf")
        part = path.with_name(path.name + ".part")
        if kind in ("dot", "gv"):
            with part.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(self._graph)
        else:
            part.write_bytes(render(self.source, kind))
        os.replace(part, path)
        return path

    def _repr_mimebundle_(self, include=None, exclude=None):
        try:
            return {"image/svg+xml": render(self.source, "svg").decode()}
        except RuntimeError:
            return {"text/plain": self.source}


def render(source: str, kind: str) -> bytes:
    """DOT text as the bytes of an SVG, PNG or PDF."""
    try:
        import pygraphviz
    except ImportError:
        pygraphviz = None
    if pygraphviz is not None:
        return pygraphviz.AGraph(string=source).draw(format=kind, prog="dot")
    if shutil.which("dot"):
        return _graphviz().Source(source).pipe(format=kind)
    raise RuntimeError(
        f"a {kind.upper()} needs Graphviz's layout engine, and none was found; "
        "install the extra: pip install 'chainrule[viz]' (or save as .dot)"
    )


def _graphviz():
    try:
        import graphviz
    except ImportError:
        raise ImportError(
            "drawing needs the graphviz package; install the extra: pip install 'chainrule[viz]'"
        ) from None
    return graphviz


def draw(output, names: dict | None = None) -> Picture:
    """The graph that computed `output` (tensors): leaves blue, kept constants grey, operations yellow, results green.

    Edges point the way the data flowed; operations carry their module path, all boxes their shapes. `names` maps names
    to leaf tensors (e.g. `dict(model.named_parameters())`); others are called what the operation calls that input.
    Constants appear where backward needs their values.

    Errors: ImportError naming the extra where graphviz is missing; TypeError for what is no tensor.

    >>> w = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> "multiply" in cr.viz.draw((w * 3).sum(), names={"w": w}).source
    True
    """
    outputs = output if isinstance(output, (list, tuple)) else [output]
    for one in outputs:
        if not isinstance(one, Tensor):
            raise TypeError(f"draw: received {type(one).__name__}; pass the tensor whose graph is wanted")
    graph = _graphviz().Digraph("chainrule")
    graph.attr("graph", rankdir="TB", fontname="Helvetica", bgcolor="transparent")
    graph.attr("node", fontname="Helvetica", fontsize="11", margin="0.12,0.06")
    graph.attr("edge", color="#64748b")
    graph.body.extend(_lines(outputs, {id(tensor): name for name, tensor in (names or {}).items()}))
    return Picture(graph)


def _lines(outputs, labels):
    """The DOT statements of the graph's boxes and arrows, one for each line."""
    drawn = set()
    for node in reachable([t._edge for t in outputs if t.grad_fn is not None]):
        shape = node.shape if node.primitive.outputs == 1 else node.shape[0][0]
        title = f"{node.path}\n{node.name}" if node.path else node.name
        yield f"\tn{node.seq}{_box('operation', title, shape)}"
        for i, edge in enumerate(node.edges):
            if isinstance(edge, Tensor):
                key = f"t{id(edge)}"
                if key not in drawn:
                    drawn.add(key)
                    yield f"\t{key}{_box('leaf', labels.get(id(edge)) or _input_name(node, i), edge.shape)}"
            elif edge is not None:
                key = f"n{edge[0].seq if isinstance(edge, tuple) else edge.seq}"
            elif (constant := _constant(node, i)) is not None:
                key = f"c{node.seq}_{i}"
                yield f"\t{key}{_box('constant', *constant)}"
            else:
                continue
            yield f"\t{key} -> n{node.seq}\n"
    for i, one in enumerate(outputs):
        kind = "constant" if not one.requires_grad else "leaf" if one.is_leaf else "result"
        yield f"\tr{i}{_box(kind, labels.get(id(one), 'leaf' if kind == 'leaf' else 'result'), one.shape)}"
        if kind == "result":
            yield f"\tn{one.grad_fn.seq} -> r{i}\n"


def _input_name(node, i) -> str:
    """What the operation calls its input i, for a leaf that nobody named."""
    inputs = node.primitive.inputs
    return inputs[0] if node.primitive.variadic else inputs[i]


def _constant(node, i):
    """The title and shape of an input that needs no gradient, where the node kept it: a number, or an array."""
    value = node.kept[0 if node.primitive.variadic else i] if node.kept is not None else None
    value = value[i] if node.primitive.variadic and value is not None else value
    if value is None:
        return None
    shape = getattr(value, "shape", ())
    return (_input_name(node, i), shape) if shape else (f"{float(value):.4g}", ())


@functools.lru_cache(maxsize=1024)
def _box(kind: str, title: str, shape: tuple) -> str:
    """The attributes of a box, in which nothing of the title is markup: no angle brackets, backslashes or entities."""
    graphviz = _graphviz()
    text = graphviz.escape(title.replace("&", "&amp;"))
    label = f"{text}\n{' × '.join(map(str, shape))}" if shape else text
    return graphviz.quoting.attr_list(label, kwargs=_STYLE[kind]) + "\n"
