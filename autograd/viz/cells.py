"""The parts of HTML-like labels: text in which nothing is markup, tables, and arrays as coloured cells."""

from __future__ import annotations

import html
import math

import numpy as np

from .snapshot import number

COLORS = {  # kind: (line and text, fill); the same on every page
    "parameter": ("#1d4ed8", "#dbeafe"),
    "input": ("#15803d", "#dcfce7"),
    "constant": ("#64748b", "#f1f5f9"),
    "value": ("#475569", "#f8fafc"),
    "operation": ("#a16207", "#fef9c3"),
    "module": ("#a16207", "#fffbeb"),
    "lines": ("#a16207", "#fffbeb"),
    "result": ("#6d28d9", "#ede9fe"),
    "failed": ("#b91c1c", "#fee2e2"),
}
GRADIENT, FAINT, INK = "#c2410c", "#64748b", "#0f172a"
FONT, FIGURES = "Arial,Liberation Sans,Helvetica,sans-serif", "Courier New,Liberation Mono,DejaVu Sans Mono,monospace"
LONG = 40  # characters of a name
WHOLE = (4, 6)  # rows and columns of an array that is shown whole
STRIP = (3, 20)  # rows and columns of the heat strip of a larger one


def text(words, limit: int = LONG) -> str:
    """Words as text of an HTML-like label: nothing in them is markup, and they end somewhere."""
    words = "".join(c if c.isprintable() else " " for c in str(words)).encode("utf-8", "replace").decode()
    if len(words) > limit:
        words = f"{words[: limit // 2]}…{words[-(limit // 2 - 1) :]}"
    return html.escape(words, quote=True).replace("\\", "\\\\")  # a backslash has a meaning even in such a label


def shape_text(shape) -> str:
    """A shape as people write it: '4 × 3'; '' for a number."""
    return " × ".join(map(str, shape or ()))


def amount(n: float, unit: str) -> str:
    """A count with a prefix: 1.2 M, 340 k.

    >>> from chainrule.autograd.viz.cells import amount
    >>> amount(61706, "B"), amount(12, "FLOP")
    ('61.7 kB', '12 FLOP')
    """
    for prefix, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g} {prefix}{unit}"
    return f"{n:.0f} {unit}"


def tag(name: str, content: str, **attributes) -> str:
    """An element of an HTML-like label, '' without content (Graphviz allows no empty ones but cells)."""
    given = "".join([f' {key.upper().replace("_", "-")}="{value}"' for key, value in attributes.items() if value])
    return f"<{name}{given}>{content}</{name}>" if content or name == "TD" else ""


def font(words: str, size=None, color=None, face=None) -> str:
    """Words in a size, colour and type."""
    return tag("FONT", words, point_size=size, color=color, face=face)


def cell(content: str, **attributes) -> str:
    """A cell of a row."""
    return tag("TD", content, **attributes)


def table(rows, **attributes) -> str:
    """A table of rows, each its cells one after the other."""
    plain = {"border": "0", "cellborder": "0", "cellspacing": "0", "cellpadding": "2"}
    return tag("TABLE", "".join([f"<TR>{cells}</TR>" for cells in rows]), **plain | attributes)


# ---- arrays ----------------------------------------------------------------------------------------------------------


def heat(value: float, most: float) -> str:
    """The colour of a number: blue below 0, white at 0, red above; violet if it is not finite."""
    if not math.isfinite(value):
        return "#a855f7"
    t = min(abs(value) / most, 1.0) ** 0.7 if most else 0.0
    end = (220, 38, 38) if value > 0 else (37, 99, 235)
    return "#" + "".join(f"{round(255 + (e - 255) * t * 0.85):02x}" for e in end)


def _most(array) -> float:
    finite = np.abs(array[np.isfinite(array)])
    return float(finite.max()) if finite.size else 0.0


def figures(snapshot, color: str = INK, whole: bool = True) -> str:
    """An array as a table: small ones whole, of larger ones the range and a heat strip."""
    array = snapshot.array
    if snapshot.scalar is not None:
        return font(text(snapshot.text), 11, color, FIGURES)
    if whole and array is not None and array.size > 0 and array.ndim <= 2:
        rows = np.atleast_2d(array)
        if rows.shape[0] <= WHOLE[0] and rows.shape[1] <= WHOLE[1]:
            return _grid(rows)
    words = font(text(snapshot.text), 10, color, FIGURES)
    return words if not snapshot.size else table([cell(words) + cell(_strip(snapshot.thumb))], cellpadding=1)


def _grid(rows) -> str:
    most = _most(rows.astype(np.float64))
    lines = [
        "".join(cell(font(text(number(v)), 9, INK, FIGURES), bgcolor=heat(float(v), most * 2)) for v in row)
        for row in rows.tolist()
    ]
    return table(lines, cellborder=1, cellspacing=0, color="#cbd5e1")


def _strip(thumb) -> str:
    cells = np.asarray(thumb, np.float64)
    if cells.shape[0] > cells.shape[1]:
        cells = cells.T
    cells = _reduced(_reduced(cells, STRIP[0], 0), STRIP[1], 1)
    most, high = _most(cells), max(4, 10 // cells.shape[0])
    size = {"width": 5, "height": high, "fixedsize": "true"}
    return table(["".join(cell("", bgcolor=heat(v, most), **size) for v in row) for row in cells.tolist()],
                  cellpadding="0", border=1, color="#cbd5e1")


def _reduced(cells, limit, axis):
    """At most `limit` rows or columns, each the mean of those that it stands for."""
    n = cells.shape[axis]
    if n <= limit:
        return cells
    starts = np.linspace(0, n, limit, endpoint=False).astype(int)
    sums = np.add.reduceat(cells, starts, axis)
    counts = np.diff(np.append(starts, n))
    return sums / (counts if axis else counts[:, None])


def row(name: str, content: str) -> str:
    """The cells of a row with a name."""
    return cell(name, align="left") + cell(content, align="left")


_dashed = table([cell(font("–", 9, FAINT))], border=1, style="dashed", color="#94a3b8", cellpadding="0")
UNKNOWN = row(font("∇", 10, FAINT), _dashed)  # a gradient that is not computed yet
