"""`page`: the stepper, one offline HTML file that walks forward and backward through a recorded program.

Everything that the page shows is worked out here, from the Program: its steps and values with their arrays, the events
of the walk (an operation runs; a gradient arrives; a rule gives; broadcast axes are summed; paths meet), formulas as
MathML, the code of the rules, finite differences, and the layouts. The script (assets/page.js) only shows it.
"""

from __future__ import annotations

import ast
import base64
import functools
import html
import inspect
import linecache
import os
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..graph import user_frame
from ..primitive import as_ndarray
from . import shell
from .forms import present
from .latex import form_of
from .layout import CLASSES, Layouts, shown
from .math import mathml
from .numeric import Numeric
from .picture import render
from .program import Program
from .snapshot import Snapshot, number

BUDGET = 1_200_000  # numbers and bytes of arrays that a page holds, about
FEW = 8  # elements that need no statistics
WORKED = 64  # elements up to which local derivatives are worked out
TERMS = 6  # of a sum that is written out
DETAILED = 1500  # steps up to which formulas are written out in numbers
LAYOUTS = 3_000_000  # bytes of layouts; beyond, the modules that come last have none
CONTEXT = 2  # lines of the user's program before and after the one that is shown


def page(t, path, *, names: dict | None = None, gradient=None, title: str | None = None, check: float = 2.0) -> Path:
    """Write the stepper for `t` to an HTML file, and return its path.

    The page steps forward, then backward, through the program that computed `t`: formulas, local derivatives, the code
    of the rules, numbers, and finite differences beside them. It is one file that needs no network, and shows its
    pictures also where there is no JavaScript. No `.grad` changes.

    t: a tensor (a loss), several, or a `Program`. names: {name: tensor or module}, for what no variable names.
    gradient: the cotangent that backward starts from, if `t` is no single number; ones where it is left out. check:
    seconds that finite differences may take; 0 for none.

    What runs under `record` is shown with all its values, and in single operations.

    Errors: RuntimeError where an earlier backward pass has released the graph and nothing was recorded, or where no
    layout engine is installed; IsADirectoryError for a folder. A UserWarning for a page over 5 MB.

    >>> import tempfile
    >>> w = cr.tensor([1.0, 2.0], requires_grad=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cr.viz.page((w * w).sum(), f"{folder}/loss.html").name
    'loss.html'
    """
    path = shell.target(path)
    program = t if isinstance(t, Program) else Program(t, names, user_frame(sys._getframe(1)))
    program.walk(gradient)
    facts = Facts(program, check)
    what = title or f"Backpropagation through {_what(program)}"
    lead = f"{len(program.steps):,} operations forward, {facts.backward:,} visited backward."
    asset = shell.ASSETS / "page"
    return shell.save(path, shell.document(what, _body(facts), data=facts.data, description=lead, asset=asset))


def _what(program) -> str:
    names = [program.label(value) for value in program.results[:3]]
    return ", ".join(_cut(name, 60) for name in names) or "a program"


class Facts:
    """What a page knows of a program; `data` is what its script reads."""

    def __init__(self, program: Program, check: float):
        self.program = program
        self.number = {thing: i for things in (program.steps, program.values) for i, thing in enumerate(things)}
        self.layouts = Layouts(program, render)
        gifts = sum(len(step.pulse.gifts) for step in program.steps if step.pulse)
        self.arrays = Arrays(BUDGET // max(1, len(program.values) * 2 + gifts))
        self.rules, self.places, self.remarks = Table(), Table(), Table()
        self.primitives: dict[str, dict] = {}
        self.detailed = len(program.steps) <= DETAILED
        self.checks = Numeric(program).checks(check) if check > 0 else {}
        self.events = self._events()
        self.backward = sum(step.pulse is not None for step in program.steps)
        self.data = {
            "steps": [_filled(self._step(step)) for step in program.steps],
            "values": [_filled(self._value(value)) for value in program.values],
            "events": self.events,
            "groups": [self._group(group) for group in self.layouts.groups],
            "views": [{"title": v.title, "group": v.group.index, "depth": v.depth} for v in self.layouts.views],
            "first": self.layouts.first,
            "results": [self.number[value] for value in program.results],
            "arrays": self.arrays.items,
            "rules": self.rules.items,
            "places": self.places.items,
            "primitives": self.primitives,
            "remarks": self.remarks.items,
        }

    # ---- steps, values, groups ---------------------------------------------------------------------------------------

    def _step(self, step) -> dict:
        formula = present(step, step.primitive.formula)
        key = f"{step.primitive.key}: {formula}"
        if key not in self.primitives:
            about = (inspect.getdoc(step.primitive) or "").partition("\n\n")[0].replace("\n", " ")
            self.primitives[key] = {"formula": _formula(formula), "about": about}
        return {
            "name": step.name,
            "primitive": key,
            "group": self.layouts._of[step].index,
            "inputs": [None if x is None else self.number[x] for x in step.inputs],
            "called": [step.input_name(i) for i in range(len(step.inputs))],
            "results": [self.number[x] for x in step.results],
            "params": [[name, _setting(p)] for name, p in step.params.items() if _setting(p)] or None,
            "parts": _parts(step) or None,
            "several": step.primitive.composed is not None,
            "place": self.places.add(step.place, lambda: _place(step.place)),
            "recorded": step.recorded,
            "cost": list(step.cost) if step.cost else None,
            "worked": self.detailed and _worked(step),
        }

    def _value(self, value) -> dict:
        cut = value.cut and {"how": value.cut, "place": self.places.add(value.cut_at, lambda: _place(value.cut_at))}
        check = self.checks.get(value)
        return {
            "label": self.layouts.titles[value],
            "named": bool(self.program.name(value)),
            "role": CLASSES[self.program.kind(value)],
            "shape": value.shape,
            "dtype": str(value.dtype) if value.dtype is not None else None,
            "live": value.live,
            "data": self.arrays.add(value.data),
            "gradient": self.arrays.add(value.gradient),
            "maker": self.number.get(value.maker),
            "users": [[self.number[step], i] for step, i in self.program.users[value]],
            "cut": cut,
            "source": self.number.get(value.source),
            "check": [d._asdict() for d in check] if isinstance(check, list) else None,
            "unchecked": self.remarks.add(check, lambda: check) if isinstance(check, str) else None,
        }

    def _group(self, group) -> dict:
        first = group.steps[0] if group.steps else None
        return {
            "title": group.title,
            "kind": group.kind,
            "path": group.path,
            "parent": None if group.parent is None else group.parent.index,
            "alone": group.alone,
            "count": len(group.steps),
            "first": self.number.get(first),
        }

    # ---- the walk ----------------------------------------------------------------------------------------------------

    def _events(self) -> list[dict]:
        """Forward in order of running, then backward in order of the walk."""
        found: list[dict] = [{"kind": "forward", "step": self.number[step]} for step in self.program.steps]
        walked = sorted((s for s in self.program.steps if s.pulse), key=lambda step: step.pulse.order)
        if walked:
            for value in dict.fromkeys(self.program.results):
                if value.gradient is not None and value.maker is not None:
                    seed = value.maker.pulse.arrived[value.index] if value.maker.pulse else value.gradient
                    found.append({"kind": "seed", "value": self.number[value], "total": self.arrays.add(seed)})
        for step in walked:
            for gift in step.pulse.gifts:
                found += self._gift(step, gift)
        return found

    def _gift(self, step, gift) -> list[dict]:
        """The sub-steps of one gradient: what the rule gives, what is left after broadcasting, what it adds up to."""
        add, rule = self.arrays.add, step.rule_for(gift.i)
        about = {"step": self.number[step], "i": gift.i, "value": self.number[gift.value]}
        local = local_derivative(step, gift)
        given = {
            "kind": "rule",
            "rule": None if rule is None else self.rules.add(rule, lambda: _rule(step, rule)),
            "arrived": [add(one) for one in step.pulse.arrived],
            "local": None if local is None else add(Snapshot(local)),
            "raw": add(gift.raw),
            "worked": self.detailed and _worked_rule(step, gift, rule),
        }
        events = [about | _filled(given)]
        if gift.broadcast:
            events.append(about | {"kind": "fit", "raw": add(gift.raw), "fitted": add(gift.fitted)})
        if gift.before is not None:
            sums = {"before": add(gift.before), "fitted": add(gift.fitted)}
            events.append(about | {"kind": "sum"} | sums)
        events[-1]["total"] = add(gift.total)
        return events


def _filled(facts: dict) -> dict:
    """The facts without those that say nothing."""
    return {name: fact for name, fact in facts.items() if fact is not None and fact is not False and fact != ""}


class Table:
    """Things that are said once and referred to by number."""

    def __init__(self):
        self.items, self._at = [], {}

    def add(self, key, make):
        """The number of the thing, made if it is new."""
        if key not in self._at:
            self._at[key] = len(self.items)
            self.items.append(make())
        return self._at[key]


class Arrays(Table):
    """Snapshots for the page, equal ones once: few elements whole, of more a coarse picture."""

    def __init__(self, room: int):
        super().__init__()
        self.whole = 256 if room > 1500 else 64 if room > 400 else 16
        self.side = next((n for n in (32, 24, 16, 8) if n * n * 4 / 3 <= room), 0)

    def add(self, snapshot, make=None):
        """The number of a snapshot; None for None."""
        if snapshot is None:
            return None
        if snapshot.array is not None:
            key = (snapshot.shape, snapshot.dtype.str, snapshot.array.tobytes())
        else:
            key = (snapshot.shape, snapshot.min, snapshot.max, snapshot.mean, snapshot.norm)
        return super().add(key, lambda: self._facts(snapshot))

    def _facts(self, snapshot) -> dict:
        facts = {"shape": snapshot.shape, "dtype": str(snapshot.dtype), "text": shown(snapshot), "size": snapshot.size}
        array = snapshot.array
        if array is not None and array.size <= self.whole and array.dtype.kind in "fiub":
            facts["whole"] = array.ravel()
        if snapshot.size > FEW:
            facts |= {name: getattr(snapshot, name) for name in ("min", "max", "mean", "std", "norm", "zeros")}
            facts |= {"nans": snapshot.nans, "infs": snapshot.infs}
            counts, edges = snapshot.histogram
            facts["histogram"] = counts
            facts["range"] = [edges[0], edges[-1]] if edges else None
            if "whole" not in facts and self.side:
                facts["thumb"] = self._thumb(snapshot.thumb)
        return facts

    def _thumb(self, thumb) -> dict:
        """Rows, columns and cells in 8 bits: -127 … 127 are shares of `most`, -128 is NaN."""
        cells = np.asarray(thumb, np.float64)
        rows, columns = (min(n, self.side) for n in cells.shape)
        at = [np.linspace(0, n, m, endpoint=False).astype(int) for n, m in zip(cells.shape, (rows, columns))]
        cells = cells[np.ix_(*at)]
        finite = np.isfinite(cells)
        most = float(np.abs(cells[finite]).max(initial=0))
        shares = np.where(finite, np.round(127 * np.where(finite, cells, 0) / (most or 1)), -128).astype(np.int8)
        return {"rows": rows, "columns": columns, "most": most, "cells": base64.b64encode(shares.tobytes()).decode()}


# ---- derivatives and formulas ----------------------------------------------------------------------------------------


def local_derivative(step, gift) -> np.ndarray | None:
    """∂o/∂x of an elementwise step, entry by entry: what its rule gives for a gradient of ones.

    None where there are too many entries, where an array that the rule needs was not kept, or where what arrived times
    it is not what the rule gave.
    """
    rule, arrived = step.rule_for(gift.i), step.pulse.arrived[0].array
    if not step.primitive.elementwise or rule is None or arrived is None or arrived.size > WORKED:
        return None
    if gift.raw.array is None or arrived.dtype.kind != "f":
        return None
    known = {i: x.data.array for i, x in enumerate(step.inputs) if x is not None and x.data is not None}
    known[len(step.primitive.inputs)] = step.results[0].data.array if step.results[0].data is not None else None
    given = [known.get(slot) if slot >= 0 else step.inputs[~slot].shape for slot in rule.wants]
    if any(one is None for one in given):
        return None
    with np.errstate(all="ignore"):
        local = as_ndarray(rule.function(np.ones_like(arrived), *given, **step.params))
        right = local.shape == gift.raw.shape == arrived.shape
        right = right and np.allclose(local * arrived, gift.raw.array, 1e-4, 1e-12, equal_nan=True)
    return local if right else None


@functools.lru_cache(maxsize=4096)
def _formula(tex) -> str:
    return mathml(tex) if tex else ""


def _rule(step, rule) -> dict:
    """A rule for the page: its formula, its code, and where that stands."""
    file, line, code = rule_source(rule.function)
    tex = rule.formula
    return {"formula": _formula(tex), "name": rule.function.__name__, "code": code, "file": file, "line": line}


def rule_source(function) -> tuple[str, int, str]:
    """(file, line, source) of a derivative rule; of a lambda the lambda alone."""
    code = inspect.unwrap(function).__code__
    parts = Path(code.co_filename).parts
    packaged = next((i for i, p in enumerate(parts) if p in ("autograd", "nn", "kernels")), None)
    file = "chainrule/" + "/".join(parts[packaged:]) if _ours(function) and packaged is not None else parts[-1]
    try:
        lines, line = inspect.getsourcelines(code)
    except (OSError, TypeError):
        return file, code.co_firstlineno, ""
    whole = textwrap.dedent("".join(lines)).strip()
    return file, line, (_lambda(code) if code.co_name == "<lambda>" else "") or whole


def _ours(function) -> bool:
    return (getattr(function, "__module__", "") or "").partition(".")[0] == __name__.partition(".")[0]


def _lambda(code) -> str:
    """The source of a lambda: that on its first line in which its instructions lie."""
    text = "".join(linecache.getlines(code.co_filename))
    *_, (line, _, column, _) = (p for p in code.co_positions() if None not in p and p[::2] != p[1::2])
    for node in _lambdas(text):
        begins, ends = (node.body.lineno, node.body.col_offset), (node.body.end_lineno, node.body.end_col_offset)
        if node.lineno == code.co_firstlineno and begins <= (line, column) < ends:
            return ast.get_source_segment(text, node) or ""
    return ""


@functools.lru_cache(maxsize=16)
def _lambdas(text) -> list:
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Lambda)]


_TOKEN = re.compile(
    r"\\(?:text|operatorname|mathsf|mathrm)\s*\{[^{}]*\}|\\bar\s*[A-Za-z]|\\[A-Za-z]+|\\.|[0-9.]+|\s+|.", re.DOTALL
)


def in_numbers(formula: str, numbers: dict[str, str]) -> str:
    """A formula with numbers in the place of letters, products marked by dots.

    >>> from chainrule.autograd.viz.page import in_numbers
    >>> in_numbers(r"\\bar o\\,y", {r"\\bar o": "0.004", "y": "-3"})
    '0.004 \\\\cdot (-3)'
    """
    found: list[str] = []
    for token in _TOKEN.findall(formula):
        if token.isspace() or token == r"\textstyle":
            continue
        if token in numbers:
            value = numbers[token]
            powered = bool(found) and found[-1] in "^_"
            bare = powered or not value.startswith("-") and r"\cdot" not in value
            token = f"{{{value}}}" if powered else value if bare else f"({value})"
            applied = len(found) > 2 and found[-2] == "^" and found[-3].startswith("\\")  # the 2 of tanh² x
            if found and not applied and re.search(r"[0-9A-Za-z.)}]$", found[-1]) and not found[-1].startswith("\\"):
                found.append(r"\cdot")
        found.append(r"\cdot" if token == r"\," else token)
    text = " ".join(found)
    text = re.sub(r"\( \((-?[^()]*)\) \)", r"( \1 )", text)
    return re.sub(r"(?:\\cdot ?)+", r"\\cdot ", text).strip()


def _tex_number(value) -> str:
    text = number(value)
    mantissa, e, power = text.partition("e")
    text = rf"{mantissa} \cdot 10^{{{power}}}" if e else text
    return {"inf": r"\infty", "-inf": r"-\infty", "nan": r"\text{NaN}"}.get(text, text)


# Sums of products that give the first entry of a result, or of the gradient of input i, by primitive; None for ones.
_PRODUCTS: dict[str, Callable] = {
    "matmul_batched": lambda x, y: (x[0], y[:, 0]),
    "linear_rows": lambda x, weight, bias=None: (x[0], weight[0], None if bias is None else bias[0]),
    "sum_over": lambda x: (x.ravel(), None),
}
_PRODUCTS_BACK: dict[tuple, Callable] = {
    ("matmul_batched", 0): lambda g, x, y: (g[0], y[0]),
    ("matmul_batched", 1): lambda g, x, y: (x[:, 0], g[:, 0]),
    ("linear_rows", 0): lambda g, x, weight, bias=None: (g[0], weight[:, 0]),
    ("linear_rows", 1): lambda g, x, weight, bias=None: (g[:, 0], x[:, 0]),
    ("linear_rows", 2): lambda g, x, weight, bias=None: (g[:, 0], None),
}


def _worked(step) -> str:
    """The first entry of a small step's result in numbers, as MathML; '' where it is not worked out."""
    out, key = _array(step.results[0]), step.primitive.key
    if out is None or not out.size:
        return ""
    if key in _PRODUCTS:
        return _products(_PRODUCTS[key], [], step, out)
    form = form_of(step) if step.primitive.elementwise and out.size <= WORKED else None
    return _entry(step, form.formula, form.letters, {}, out) if form is not None else ""


def _worked_rule(step, gift, rule) -> str:
    arrived, raw, key = step.pulse.arrived[0].array, gift.raw.array, (step.primitive.key, gift.i)
    if arrived is None or raw is None or rule is None or not raw.size:
        return ""
    if key in _PRODUCTS_BACK:
        return _products(_PRODUCTS_BACK[key], [arrived], step, raw)
    form = form_of(step) if step.primitive.elementwise and raw.size <= WORKED and arrived.shape == raw.shape else None
    if form is None or _PLAIN.fullmatch(rule.formula):  # said by incoming × local
        return ""
    return _entry(step, rule.formula, form.letters, {r"\bar o": arrived}, raw)


_PLAIN = re.compile(r"-?\\bar o(?:\\,[a-z])?")


def _products(take, first, step, result) -> str:
    """`a b + a' b' + … = result` for the result's first entry, where the terms are few and give it."""
    given = [_array(x) for x in step.inputs if x is not None]
    if any(x is None or x.ndim > 2 for x in given) or any(x.ndim != 2 for x in given[:2]) and len(given) > 1:
        return ""
    a, b, *more = take(*first, *given)
    entry, added = result.reshape(-1)[0].item(), [x.item() for x in more if x is not None]
    total = float((a if b is None else a * b).sum()) + sum(added)
    if not 0 < len(a) <= TERMS or not np.isclose(total, entry, 1e-3, 1e-6):
        return ""
    pairs = [[x] if b is None else [x, y] for x, y in zip(a.tolist(), (a if b is None else b).tolist(), strict=True)]
    terms = [r" \cdot ".join(_factor(x, bool(i or k)) for k, x in enumerate(pair)) for i, pair in enumerate(pairs)]
    first, *others = [*terms, *[_factor(x, True) for x in added]]
    lines = [first, *[f"+ {term}" for term in others], f"= {_tex_number(entry)}"]
    return " ".join(map(mathml, lines))  # between formulas a line may break


def _factor(value, inner) -> str:
    text = _tex_number(value)
    return f"({text})" if inner and text.startswith("-") else text


def _entry(step, formula, letters, more, result) -> str:
    """`formula = result` with the numbers of the first entry."""
    numbers = {}
    known = {name: _array(step.inputs[i]) for name, i in letters.items() if i < len(step.inputs)} | more
    for name, array in known.items():
        if array is None or array.dtype.kind not in "fiub":
            return ""
        numbers[name] = _tex_number(np.broadcast_to(array, result.shape).reshape(-1)[0].item())
    if not formula or set(formula) & set("=?["):  # not what people multiply out
        return ""
    return mathml(f"{in_numbers(formula, numbers)} = {_tex_number(result.reshape(-1)[0].item())}")


def _array(value):
    return value.data.array if value is not None and value.data is not None else None


def _setting(param) -> str:
    """A parameter of an operation in a word; '' for what says nothing to a reader."""
    if param is None or callable(param) or isinstance(param, np.ndarray):
        return ""
    text = str(param) if not isinstance(param, float) else number(param)
    return text if len(text) <= 60 else text[:59] + "…"


def _parts(step) -> list[str]:
    """The operations that one kernel did in this step, e.g. a convolution, its activation and its pooling."""
    if "_act" not in step.name:
        return []
    pool = step.params.get("pool")
    pooling = [f"{pool[0]} pooling over {pool[1]}"] if pool else []
    return [step.name.partition("_")[0], step.params["activation"], *pooling]


# ---- the user's source -----------------------------------------------------------------------------------------------


def _place(place) -> dict:
    """Where an operation stands: the line with its neighbours, and which characters of it are the expression."""
    numbers = range(place.line - CONTEXT, place.line + CONTEXT + 1)
    lines = [linecache.getline(place.file, n).rstrip("\n") if n > 0 else "" for n in numbers]
    line = lines[CONTEXT] = lines[CONTEXT] or place.text
    at = line.find(place.expression) if place.expression else -1
    mark = [at, at + len(place.expression)] if at >= 0 else [len(line) - len(line.lstrip()), len(line)]
    return {
        "file": _file(place.file),
        "line": place.line,
        "function": place.function,
        "lines": [text[:400] for text in lines],
        "mark": mark,
        "expression": place.expression[:400],
    }


def _file(file) -> str:
    """A file's name as the page says it: relative to where one works, else the name alone."""
    try:
        inside = os.path.relpath(file)
    except ValueError:
        inside = ".."
    return os.path.basename(file) if inside.startswith("..") else inside


# ---- the document ----------------------------------------------------------------------------------------------------


def _body(facts) -> str:
    views, room = [], LAYOUTS
    for i, view in enumerate(facts.layouts.views):
        room -= len(view.svg)
        views.append(view.svg if i == facts.layouts.first or room > 0 else "")
    first = facts.layouts.first
    others = [
        f'<section data-view="{i}"><h2>{html.escape(view.title)}</h2>{svg}</section>'
        for i, (view, svg) in enumerate(zip(facts.layouts.views, views, strict=True))
        if svg and i != first
    ]
    steps = "\n".join(_listed(facts, i, step) for i, step in enumerate(facts.program.steps))
    body = (shell.ASSETS / "page.html").read_text(encoding="utf-8")
    blanks = {"FIRST": views[first], "OTHERS": "\n".join(others), "STEPS": steps, "FORMULAS": _formulas(facts)}
    return re.sub(r"\{\{(\w+)\}\}", lambda blank: blanks[blank[1]], body)


def _listed(facts, i, step) -> str:
    """A line of the list of steps."""
    made = step.results[0]
    name = facts.program.name(made)
    what = html.escape(_cut(name or step.place.expression, 80))
    value = html.escape(shown(made.data)) if made.data is not None else ""
    return (
        f'<li><button type="button" data-step="{i}"><span class="code">{html.escape(step.name)}</span> '
        f'<span class="what">{what}</span> <span class="number">{value}</span></button></li>'
    )


def _formulas(facts) -> str:
    """The formulas of the program's operations and rules, for readers without JavaScript."""
    rows = []
    for primitive in dict.fromkeys(step.primitive for step in facts.program.steps):
        rules = "".join(f"<td>{_formula(rule.formula)}</td>" for rule in primitive.rules)
        rows.append(f"<tr><th>{html.escape(primitive.name)}</th><td>{_formula(primitive.formula)}</td>{rules}</tr>")
    return f"<table>{''.join(rows)}</table>"


def _cut(text, longest) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
