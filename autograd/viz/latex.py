"""`latex`: the chain rule of a small graph as equations, made of the formulas of its primitives and rules.

A formula is written in letters (`\\bar o\\,y`). Here they give way to the program's symbols, numbers are multiplied
out, products of arrays entry by entry become ⊙, and what nobody named is written out where it is used.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from fractions import Fraction

from .forms import BY_RESULT, BY_ROW, OF_RESULT, PARAMS, form_of, times_fewer
from .math import GREEK
from .program import Program, Value
from .terms import (
    ATOM,
    HADAMARD,
    INDEXED,
    ONE,
    POWER,
    PRODUCT,
    SUM,
    Expr,
    add,
    constant_term,
    decimal,
    factored,
    filled,
    level_of,
    negated,
    over,
    power,
    times,
    within,
)

MOST = 60  # steps of a graph that is small
LONG = 70  # signs of a gradient that is still written out to its end
BRIEF = 30  # signs of a nameless value that is still written out where it is used
ROW = 60  # signs in a line


def latex(t, *, values: bool = False, names: dict | None = None) -> Latex:
    """The computation of `t` and the chain rule backwards through it, as aligned equations in LaTeX.

    Each named value has a line forward and a line backward, in terms of the gradient of what it went into; the gradient
    of a leaf is written out to the end besides. Symbols are the program's names: `W_1`, `y_hat` and `alpha` become
    W₁, ŷ and α. The gradient of a result that is no single number is written with a bar. ⊙ multiplies entry by entry;
    sums over an axis undo broadcasting. What runs under `record` has the names and numbers also of its constants.

    values: end the lines of single numbers with them. names: {name: tensor}, for what no variable names.

    Errors: ValueError for a graph of more than 60 operations; with `values`, RuntimeError where backward has released
    the graph.

    >>> x = cr.tensor(3.0, requires_grad=True)
    >>> y = cr.sin(x) * x
    >>> print(cr.viz.latex(y))
    \\begin{aligned}
    y &= (\\sin x)\\,x \\\\[1ex]
    \\frac{\\partial y}{\\partial x} &= \\sin x + x\\,\\cos x
    \\end{aligned}
    """
    program = t if isinstance(t, Program) else Program(t, names)
    if len(program.steps) > MOST:
        raise ValueError(
            f"latex: received a graph of {len(program.steps):,} operations; it writes out at most {MOST}. Pass an "
            "intermediate tensor, or show the whole with viz.draw or viz.page"
        )
    if not program.steps or not program.results:
        raise ValueError("latex: received a tensor that no recorded operation computed; pass a result, e.g. the loss")
    if values:
        program.walk()
    return Latex.of(*_Writer(program, values).equations())


class Latex(str):
    """Equations in LaTeX, one below the other; notebooks show them set.

    `equations` has each for itself, `document` is the text of a file that LaTeX compiles.

    >>> w = cr.tensor(2.0, requires_grad=True)
    >>> E = w * w
    >>> cr.viz.latex(E).equations
    ('E = w^2', '\\\\frac{\\\\partial E}{\\\\partial w} = 2\\\\,w')
    """

    equations: tuple

    @classmethod
    def of(cls, forward, backward) -> Latex:
        """The text of equations, each given as (left side, right side, …)."""
        parts = (" \\\\\n".join(map(_rows, part)) for part in (forward, backward) if part)
        self = cls("\\begin{aligned}\n" + " \\\\[1ex]\n".join(parts) + "\n\\end{aligned}")
        self.equations = tuple(" = ".join(equation) for equation in (*forward, *backward))
        return self

    @property
    def document(self) -> str:
        """The equations as a whole document, for pdflatex and its like.

        >>> w = cr.tensor(2.0, requires_grad=True)
        >>> cr.viz.latex(w * w).document.splitlines()[:2]
        ['\\\\documentclass{article}', '\\\\usepackage{amsmath}']
        """
        head = "\\documentclass{article}\n\\usepackage{amsmath}\n\\begin{document}\n"
        return f"{head}\\[\n{self}\n\\]\n\\end{{document}}\n"

    def _repr_latex_(self):
        return f"$$\n{self}\n$$"

    def __repr__(self):
        return str(self)


def _rows(equation) -> str:
    """An equation in one row, or with a row for each right side where that is too long."""
    left, *right = equation
    return f"{left} &= " + (" = " if _signs("".join(equation)) < ROW else " \\\\\n&= ").join(right)


def _signs(tex: str) -> int:
    """About how many signs wide a formula is set."""
    return len(re.sub(r"\\[A-Za-z]+|[\\{}^_,\s]", "", tex))


# ---- symbols ---------------------------------------------------------------------------------------------------------

_LETTER_OF = {"weight": "W", "bias": "b"}


def symbol(name: str) -> str:
    """A name of the program as a symbol.

    >>> from chainrule.autograd.viz.latex import symbol
    >>> [symbol(name) for name in ("W_X", "y_hat", "alpha", "z1", "c1.weight", "loss", "x (2)")]
    ['W_X', '\\\\hat{y}', '\\\\alpha', 'z_1', 'W_{\\\\mathrm{c1}}', '\\\\mathrm{loss}', 'x^{(2)}']
    """
    name = name.removeprefix("self.")[:80]
    if again := re.fullmatch(r"(.+) \((\d+)\)", name):
        return rf"{symbol(again[1])}^{{({again[2]})}}"
    path, _, last = name.rpartition(".")
    kind, _, part = last.partition("_")
    if path and kind in _LETTER_OF:
        return rf"{_LETTER_OF[kind]}_{{{_upright(f'{path}.{part}' if part else path)}}}"
    if path:
        return _upright(name)
    if name in _LETTER_OF:
        return _LETTER_OF[name]
    if hat := re.fullmatch(r"(\w+)_hat|([xyzXYZ])hat", name):
        return rf"\hat{{{symbol(hat[1] or hat[2])}}}"
    if name in GREEK:
        return rf"\{name}"
    base, _, index = name.partition("_")
    if not index and (numbered := re.fullmatch(r"([A-Za-z]+)(\d+)", name)):
        base, index = numbered[1], numbered[2]
    if len(base) > 1 and base not in GREEK or not base or len(index) > 8 or "_" in index:
        return _upright(name)
    letter = rf"\{base}" if base in GREEK else base if base.isascii() and base.isalpha() else _upright(base)
    if not index:
        return letter
    return f"{letter}_{index}" if re.fullmatch("[A-Za-z0-9]", index) else f"{letter}_{{{_index(index)}}}"


def _index(text: str) -> str:
    return text if text.isascii() and text.isdecimal() else _upright(text)


def _upright(text: str) -> str:
    return rf"\mathrm{{{_word(text)}}}"


def _word(text: str) -> str:
    """The text with every character harmless to LaTeX, also to those of its kind that know only ASCII."""
    return "".join(map(_character, text))


def _character(c: str) -> str:
    if c.isascii() and (c.isalnum() or c in ".,:+-()[]!?'/*="):
        return c
    return rf"\{c}" if c in "#$%&_{}" else r"\ " if c == " " else rf"\{_SIGNS[c]} " if c in _SIGNS else "?"


_SIGNS = {sign: name for name, sign in GREEK.items()}


# ---- writing ---------------------------------------------------------------------------------------------------------


class _Writer:
    """Writes the lines of one program."""

    def __init__(self, program: Program, values: bool):
        self.program, self.values = program, values
        self.forms = {step: form_of(step) if len(_used(step, program)) == 1 else None for step in program.steps}
        self.symbols: dict[Value, str] = {}
        self.written: dict[Value, Expr] = {}  # what stands for a value where it is used
        self.top = program.results[0]
        self.bars = self.top.shape != () or len(program.results) > 1
        self.gifts: dict[Value, list] = {}  # (in terms of the symbols of gradients, written out or None)

    def equations(self):
        """(those of the forward, those of the backward), each as (left side, right side, …)."""
        return list(self._forward()), list(self._backward())

    # ---- forward

    def _forward(self):
        for step in self.program.steps:
            for value in step.inputs:
                if value is not None and value.maker is None and value not in self.written:
                    self.written[value] = self._leaf(value)
            expr = self._made(step)
            used = _used(step, self.program)
            if len(used) == 1 and not self._deserves_a_line(step, used[0], expr):
                self.written[used[0]] = expr
                continue
            for value in used:
                self.written[value] = self._symbol(value)
            left = ", ".join(str(self.written[value]) for value in used)
            yield (left, str(expr), *(self._number(used[0].data, used[0].shape) if len(used) == 1 else []))

    def _deserves_a_line(self, step, value, expr) -> bool:
        users = {user for user, _ in self.program.users[value]}
        call = self.program.call_of[step]
        leaves = call is not self.program.root and any(self.program.call_of[user] is not call for user in users)
        named = self.program.name(value) or value in self.program.results or leaves or len(users) > 1
        forms = [self.forms[user] for user in (step, *users)]
        unsaid = any(form is None or None in form.rules.values() for form in forms)
        if _is_same(step) and not self.program.name(value) and value not in self.program.results:
            return False
        return bool(named) or unsaid or step.primitive.key in OF_RESULT or _signs(str(expr)) > BRIEF

    def _leaf(self, value) -> Expr:
        known = value.data.scalar if value.data is not None else None
        name = self.program.name(value)
        if not value.live and known is not None and (not name or name == value.given):
            return constant_term(known)
        return self._symbol(value)

    def _symbol(self, value) -> Expr:
        """The value's symbol, one that no other value has."""
        name = self.program.name(value)
        label = self.program.label(value)
        if not name and value.maker is None and label.isidentifier() and len(label) > 2 and label not in _NO_NAMES:
            name = label
        tex = self.symbols[value] = next(t for t in self._candidates(value, name) if t not in self.symbols.values())
        return Expr(Fraction(1), tex, level_of(tex), value.shape == ())

    def _candidates(self, value, name):
        """Symbols for the value, the best first."""
        if name:
            yield from (symbol(name), _upright(name))
            yield from (rf"{symbol(name)}^{{({n})}}" for n in itertools.count(2))
        if value in self.program.results:
            yield "y" if self.bars else "L"
        letter = {"computed": "z", "input": "x", "parameter": "w", "constant": "c"}[value.role]
        if value.maker is not None and self.program.call_of[value.maker] is not self.program.root:
            letter = "h"
        yield from (f"{letter}_{n}" for n in itertools.count(1))

    def _made(self, step) -> Expr:
        """The step's result in terms of its inputs."""
        given = [self.written[x] for x in step.inputs if x is not None]
        key = step.primitive.key
        exponent = _exponent(step, given)
        if exponent:
            expr = power(given[0], exponent)
        elif key in _ARITHMETIC:
            expr = _ARITHMETIC[key](*given)
        elif _is_same(step):
            expr = given[0]
        elif key in ("sum_over", "mean_over"):
            inner = within(given[0].tex, given[0].level, HADAMARD) or "1"
            factor = given[0].factor / (times_fewer(step) if key == "mean_over" else 1)
            expr = Expr(factor, _sum(step) + inner, HADAMARD)
        elif key in _JOINED:
            expr = Expr(Fraction(1), f"[{_JOINED[key].join(map(str, given))}]")
        elif (form := self.forms[step]) is not None:
            expr = filled(form.formula, self._letters(step, form))
        else:
            arguments = ", ".join(map(str, given))
            expr = Expr(Fraction(1), rf"\operatorname{{{_word(step.name)}}}({arguments})", PRODUCT)
        return expr._replace(scalar=step.results[0].shape == ())

    def _letters(self, step, form) -> dict[str, Expr]:
        letters = {}
        for letter, i in form.letters.items():
            if i < len(step.inputs) and step.inputs[i] is not None:
                letters[letter] = self.written[step.inputs[i]]
        for letter, name in PARAMS.get(step.primitive.key, {}).items():
            value = step.params.get(name)
            unbounded = -math.inf if letter == "a" else math.inf
            letters[letter] = constant_term(unbounded if value is None else float(value))
        return letters

    # ---- backward

    def _backward(self):
        live = [value for value in self.program.results if value.live]
        if not live:
            return
        for value in live:
            if value not in self.written:
                self.written[value] = self._symbol(value)
            seed = Expr(Fraction(1), self._gradient(value), *_INDEXED_ARRAY) if self.bars else ONE
            self.gifts[value] = [(seed, seed)]
        first_user = {}
        for value, users in self.program.users.items():
            first_user[value] = next((user for user, _ in users if user.recorded), None)
        for step in reversed(self.program.steps):
            if not step.recorded:
                continue
            used = [value for value in _used(step, self.program) if value in self.gifts]
            for value in used:
                if value in self.symbols and value not in live:
                    yield self._line(value)
            if used:
                self._pass_on(step, used)
            for value in dict.fromkeys(step.inputs):
                if value in self.gifts and value.maker is None and first_user[value] is step:
                    yield self._line(value, whole=True)

    def _line(self, value, whole=False):
        local, closed = self._total(value)
        sides = [str(_ones(expr, value)) for expr in (local, closed if whole else None) if expr is not None]
        return (self._gradient(value), *dict.fromkeys((*sides, *self._number(value.gradient, value.shape))))

    def _total(self, value):
        """The sum of what the value was given: in terms of the symbols of gradients, and written out."""
        locals_, closeds = zip(*self.gifts[value])
        total = locals_[0]
        for gift in locals_[1:]:
            total = add(total, gift)
        if any(gift is None for gift in closeds):
            return total, None
        closed = closeds[0]
        for gift in closeds[1:]:
            closed = add(closed, gift)
        return total, closed if _signs(str(closed)) <= LONG else None

    def _gradient(self, value) -> str:
        tex = self.symbols[value]
        if self.bars:
            return rf"\overline{{{tex}}}"
        return rf"\frac{{\partial {self.symbols[self.top]}}}{{\partial {tex}}}"

    def _pass_on(self, step, used):
        """Give the step's inputs their parts of the gradients of its results."""
        bars = []
        for value in used:
            local, closed = self._total(value)
            if value in self.symbols and value is not self.top:
                local = Expr(Fraction(1), self._gradient(value), POWER, value.shape == ())
            bars.append((local, closed))
        for i, value in enumerate(step.inputs):
            if value is None or not value.live or step.rule_for(i) is None:
                continue
            if value in step.inputs[:i] and step.primitive.key == "multiply":  # a square, whose rule was for both
                continue
            rule = self.forms[step].rules.get(i) if self.forms[step] is not None else None
            if rule is None:
                gifts = (self._by_jacobian(used, bars, value), None)
            else:
                gifts = tuple(bar and self._gift(step, i, rule, bar) for bar in bars[0])
            self.gifts.setdefault(value, []).append(gifts)

    def _by_jacobian(self, used, bars, value) -> Expr:
        """What a step gives whose rule no formula says: the transposed Jacobian times the gradient."""
        terms = []
        for result, (local, _) in zip(used, bars):
            jacobian = rf"\left(\frac{{\partial {self.symbols[result]}}}{{\partial {self.written[value]}}}\right)"
            terms.append(rf"{jacobian}^{{\mathsf T}} {_ones(local, result).at(PRODUCT)}")
        return Expr(Fraction(1), " + ".join(terms), SUM if terms[1:] else PRODUCT, False)

    def _gift(self, step, i, rule, bar) -> Expr:
        """What the rule gives to input i for the gradient `bar` of the result."""
        result, key = _used(step, self.program)[0], step.primitive.key
        letters = self._letters(step, self.forms[step])
        if key in BY_RESULT or key in OF_RESULT:
            letters["y"] = self.written[result]
        exponent = _exponent(step, [self.written[x] for x in step.inputs if x is not None])
        if exponent:
            base = self.written[step.inputs[0]]
            gift = times(bar, Expr(exponent), power(base, exponent - 1))
        elif _is_same(step) or (bar.scalar and key in ("sum_over", "mean_over", "reshape_view")):
            gift = bar._replace(factor=bar.factor / (times_fewer(step) if key == "mean_over" else 1))
        else:
            if key in BY_RESULT and result in self.symbols:
                rule = BY_RESULT[key]
            gift = self._by_rule(step, rule, bar, letters, result)
        return _fitted(gift, step.inputs[i].shape, result.shape) if step.primitive.elementwise else gift

    def _by_rule(self, step, rule, bar, letters, result) -> Expr:
        by_row = not bar.tex and step.primitive.key in BY_ROW
        simple = step.primitive.elementwise or result.shape == () or by_row
        gift = factored(rule, {**letters, r"\bar o": bar}) if simple else None
        if gift is None:
            inner = bar._replace(factor=Fraction(1))
            inner = inner if simple else _ones(inner, result)
            gift = filled(rule, {**letters, r"\bar o": inner})
            gift = gift._replace(factor=bar.factor, scalar=False)
        return gift

    def _number(self, snapshot, shape) -> list[str]:
        known = snapshot.scalar if self.values and snapshot is not None and shape == () else None
        return [] if known is None else [decimal(known)]


_INDEXED_ARRAY = (INDEXED, False)
_NO_NAMES = ("constant", "value", "leaves", "gates")
_JOINED = {"concatenate": r";\;", "stack_along": r",\;"}
_ARITHMETIC: dict[str, Callable[..., Expr]] = {
    "add": add,
    "subtract": lambda a, b: add(a, negated(b)),
    "multiply": times,
    "divide": over,
    "negative": negated,
}


def _is_same(step) -> bool:
    """Whether the result is the input, but for its dtype, device or axes of size 1."""
    if step.primitive.key == "reshape_view":
        return [n for n in step.inputs[0].shape if n != 1] == [n for n in step.results[0].shape if n != 1]
    return step.primitive.key in ("clone", "cast", "transfer")


def _used(step, program) -> list[Value]:
    """The results of the step that something uses; its first where nothing does."""
    used = [value for value in step.results if program.users[value] or value in program.results]
    return used or [step.results[0]]


def _exponent(step, given) -> Fraction | None:
    """n of a step that raises its first input to the power of a number n."""
    key = step.primitive.key
    if key == "square" or key == "multiply" and step.inputs[0] is step.inputs[1]:
        return Fraction(2)
    return given[1].factor if key == "power" and not given[1].tex else None


def _sum(step) -> str:
    """The sign of a sum, with the axes that it runs over if it leaves some."""
    axes = step.params.get("dim")
    if step.results[0].shape == () or axes is None:
        return r"\sum "
    return rf"\sum_{{{_axes(axes if isinstance(axes, (tuple, list)) else (axes,))}}} "


def _axes(axes) -> str:
    word = "axis" if len(axes) == 1 else "axes"
    return rf"\text{{{word} {', '.join(map(str, axes))}}}"


def _fitted(gift: Expr, shape, made) -> Expr:
    """The gradient summed over the axes along which the input was broadcast."""
    if shape is None or shape == made:
        return gift
    if gift.scalar:
        return gift._replace(factor=gift.factor * math.prod(made) / max(1, math.prod(shape)))
    new = len(made) - len(shape)
    axes = [i for i in range(len(made)) if i < new or shape[i - new] != made[i]]
    sign = r"\sum " if shape == () else rf"\sum_{{{_axes(axes)}}} "
    return Expr(gift.factor, sign + within(gift.tex, gift.level, HADAMARD), HADAMARD, shape == ())


def _ones(expr: Expr, value) -> Expr:
    """A number as an array of it, where the value is an array."""
    if expr.tex or value.shape == ():
        return expr
    return Expr(expr.factor, r"\mathbf{1}", ATOM, False)
