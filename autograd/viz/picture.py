"""`draw`: a program as a picture, in DOT, Mermaid, SVG, PNG or PDF."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from ..graph import Node, user_frame
from ..tensor import Tensor
from .dot import dot
from .mermaid import mermaid
from .outline import Outline
from .program import Program, steps_to
from .shell import write
from .sketch import Sketch, sketch

MODES = ("forward", "backward", "both")
SHOW = ("values", "grads", "saved", "cost")
RENDERED = ("svg", "png", "pdf")
INSTALL = "install the extra: pip install 'chainrule[viz]'"


class Picture:
    """What was drawn: `source` is its DOT text, `mermaid` its Mermaid text; `save` writes a file; notebooks show it.

    >>> picture = cr.viz.draw(cr.ones(2, requires_grad=True) * 3)
    >>> picture.source.startswith("digraph chainrule {")
    True
    """

    def __init__(self, sketch: Sketch | Outline, write):
        self.sketch, self._write = sketch, write

    @cached_property
    def source(self) -> str:
        """The picture in the DOT language."""
        return self._write()

    @cached_property
    def mermaid(self) -> str:
        """The picture in the Mermaid language."""
        return mermaid(self.sketch) if isinstance(self.sketch, Sketch) else self.sketch.mermaid()

    @cached_property
    def svg(self) -> str:
        """The picture as SVG, to stand by itself or inside a page."""
        return render(self.source, "svg").decode()

    def save(self, path) -> Path:
        """Write the picture in the format that the name's ending says, as a whole or not at all, and return the path.

        Rendered by pygraphviz's own engine, else by a `dot` on PATH; .dot and .mmd (Mermaid) need neither.

        Errors: ValueError for another ending, RuntimeError naming what to install where there is no engine.
        """
        path = Path(path)
        kind = path.suffix.lstrip(".").lower()
        if kind not in (*RENDERED, "dot", "gv", "mmd"):
            raise ValueError(f"save: received the name {path.name!r}; it must end in .svg, .png, .pdf, .dot or .mmd")
        text = self.mermaid if kind == "mmd" else self.source
        return write(path, render(text, kind) if kind in RENDERED else text.encode())

    def _repr_mimebundle_(self, include=None, exclude=None):
        try:
            return {"image/svg+xml": self.svg, "text/plain": repr(self)}
        except RuntimeError as missing:
            return {"text/plain": f"{missing}\n\n{self.source}\n{self.mermaid}"}
        except ImportError as missing:  # without graphviz there is no DOT either
            return {"text/plain": f"{missing}\n\n{self.mermaid}"}

    def __repr__(self):
        return f"<picture of {self.sketch.about}: {len(self.sketch.boxes)} boxes>"


def render(source: str, kind: str) -> bytes:
    """DOT text as the bytes of an SVG, PNG or PDF.

    Errors: RuntimeError naming what to install where there is no layout engine, or with what the engine said.
    """
    try:
        import pygraphviz
    except ImportError:
        pygraphviz = None
    if pygraphviz is not None:
        with _no_warnings():
            return pygraphviz.AGraph(string=source).draw(format=kind, prog="dot")
    if shutil.which("dot"):
        import graphviz

        try:
            return graphviz.Source(source).pipe(format=kind)
        except graphviz.CalledProcessError as error:
            raise RuntimeError(f"dot could not draw the picture as {kind.upper()}: {error}") from error
    raise RuntimeError(
        f"{kind.upper()} pictures need Graphviz's layout engine, and none was found; {INSTALL} "
        "(or save as .dot or .mmd, the same picture as DOT and Mermaid text)"
    )


@contextmanager
def _no_warnings():
    """Without what the engine's libraries write to the terminal about the fonts of this system."""
    try:
        before = os.dup(2)
    except OSError:  # no terminal
        yield
        return
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def draw(
    t,
    *,
    mode: str = "forward",
    depth: int | None = None,
    expand=None,
    show=("values", "grads"),
    fold: bool | None = None,
    views: bool | None = None,
    names: dict | None = None,
    failed=None,
    note: str = "",
) -> Picture:
    """What computed `t` (a tensor, several, a graph node, a `Program`) as a picture; of a module, its parts.

    Boxes with a coloured head are values: parameters blue, inputs green, constants grey, results violet; they hold
    name, shape, dtype, value and gradient (hollow where it is not computed yet). Round boxes are operations. A module
    is a frame, or a box if it is closed.

    mode: "forward" draws the way of the data; "backward" the way of the gradients, which are computed for the picture
    without changing any `.grad`; "both" both.
    depth: how many levels of modules are opened, 0 for none; as many as stay readable if left out. Without modules, the
    steps of one expression or source line are what is opened or closed.
    expand: `expand(block)` opens a block (True), closes it (False) or leaves it to `depth` (None); a block has `path`,
    `title`, `kind` (the class), `level` and `steps`.
    show: which of "values", "grads", "saved" (what each operation keeps for backward) and "cost" (FLOPs and bytes).
    fold: draw what repeats once, as "× 12", and recurrent nets rolled up with a loop; left out: where there is no room.
    views: draw operations that only change the shape (reshape, permute, expand): all of them, or none; left out: but
    for those that another operation makes for itself.
    names: {name: tensor} and {name: module} for what the caller's variables do not name.
    failed: a step or node to be drawn in red; note: a line below the picture.

    Errors: TypeError for what is no tensor, ValueError for a mode or a thing to show that does not exist, ImportError
    where the graphviz package is missing, RuntimeError where backward was asked for and the graph was released.

    >>> w = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> loss = (w * 3).sum()
    >>> cr.viz.draw(loss)
    <picture of 2 operations: 6 boxes>
    """
    if mode not in MODES:
        raise ValueError(f"draw: received mode {mode!r}; it must be {', '.join(MODES[:-1])} or {MODES[-1]}")
    show = (show,) if isinstance(show, str) else tuple(show)
    for one in show:
        if one not in SHOW:
            raise ValueError(f"draw: received show {one!r}; what can be shown is {', '.join(SHOW)}")
    if hasattr(t, "named_children") and not isinstance(t, type):
        outline = Outline(t, depth)
        return Picture(outline, outline.dot)
    for one in t if isinstance(t, (list, tuple)) else [t]:
        if not isinstance(one, (Tensor, Program, Node)):
            raise TypeError(f"draw: received {type(one).__name__}; pass the tensor whose graph is wanted, or a module")
    with _no_collection():
        program = _program(t, names, user_frame(sys._getframe(1)))
        if mode != "forward":
            program.walk()
        made = sketch(program, depth, expand, fold, views, failed)
    return Picture(made, lambda: dot(made, show, mode, note).source)


def _program(t, names, frame) -> Program:
    if isinstance(t, Node):
        return Program.of(steps_to(t), names, frame)
    return t if isinstance(t, Program) else Program(t, names, frame)


@contextmanager
def _no_collection():
    """Without garbage collections, which would look through a large program over and over while it grows."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
