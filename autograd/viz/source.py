"""Where in the user's program an operation stands: file, line, the very expression, and the name that it is given."""

from __future__ import annotations

import ast
import functools
import linecache
from typing import NamedTuple


class Place(NamedTuple):
    """A place in the user's program: `expression` is the operation's own source, `name` what it is assigned to."""

    file: str
    line: int
    function: str
    text: str  # the whole line
    expression: str
    name: str

    def __str__(self):
        return f"{self.file}:{self.line}, in {self.function}"


def place_of(node) -> Place:
    """The place of a recorded node."""
    return located(node.code, node.lasti)


@functools.lru_cache(maxsize=4096)
def located(code, lasti) -> Place:
    """The place of the instruction at offset `lasti` of `code`."""
    span = next((p for i, p in enumerate(code.co_positions()) if i == lasti // 2), (None,) * 4)
    line = span[0] or code.co_firstlineno
    text = linecache.getline(code.co_filename, line).strip()
    expression = _segment(code.co_filename, span)
    return Place(code.co_filename, line, code.co_name, text, expression or text, _target(code.co_filename, span))


def _segment(file, span) -> str:
    """The source between the positions (line, end line, column, end column), on one line."""
    line, end, start, stop = span
    if None in span:
        return ""
    lines = [linecache.getline(file, n).encode() for n in range(line, end + 1)]
    if not lines or not lines[0]:
        return ""
    lines[-1] = lines[-1][:stop]
    lines[0] = lines[0][start:]
    return " ".join(part.decode(errors="replace").strip() for part in lines)


@functools.lru_cache(maxsize=256)
def _targets(file, size) -> dict:
    """(line, end line, column, end column) of each expression that is assigned to a name -> that name."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return {}
    found = {}
    for statement in ast.walk(tree):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        value = getattr(statement, "value", None)
        if isinstance(value, ast.expr) and len(targets) == 1 and isinstance(targets[0], (ast.Name, ast.Attribute)):
            whole = statement if isinstance(statement, ast.AugAssign) else value
            found[whole.lineno, whole.end_lineno, whole.col_offset, whole.end_col_offset] = ast.unparse(targets[0])
    return found


def _target(file, span) -> str:
    return _targets(file, len(linecache.getlines(file))).get(span, "")


@functools.lru_cache(maxsize=4096)
def operand(place, i: int) -> str:
    """The source of operand i of a sum, product …, where that is a name or a number; '' if it is not.

    >>> from chainrule.autograd.viz.source import Place, operand
    >>> operand(Place("", 1, "f", "", "(a + b) - 2", ""), 1)
    '2'
    """
    try:
        tree = ast.parse(place.expression, mode="eval").body
    except (SyntaxError, ValueError):
        return ""
    if not isinstance(tree, ast.BinOp) or i > 1:
        return ""
    sides = [tree.left, tree.right]
    numbers = [isinstance(side, ast.Constant) and isinstance(side.value, (int, float)) for side in sides]
    chosen = sides[numbers.index(True)] if any(numbers) else sides[i]  # a number comes second where operands commute
    return ast.unparse(chosen) if isinstance(chosen, (ast.Constant, ast.Name, ast.Attribute)) else ""
