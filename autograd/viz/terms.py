"""`Expr`: a term in LaTeX that can be added and multiplied, and be put in the place of a formula's letter.

An expression knows how tightly it holds together, so that brackets stand where they are needed and nowhere else.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

from .math import atoms
from .snapshot import number

# How tightly an expression holds together, and so where it needs brackets.
TEXT, SUM, HADAMARD, APPLIED, PRODUCT, POWER, INDEXED, ATOM = range(8)


class Expr(NamedTuple):
    """A number times a term; `tex` is '' for the number alone. A `scalar` also stands for an array of equal entries."""

    factor: Fraction
    tex: str = ""
    level: int = ATOM
    scalar: bool = True

    def __str__(self):
        if not self.tex or self.factor == 1:
            return self.tex or _number(self.factor)
        size = "" if abs(self.factor) == 1 else _number(abs(self.factor)) + r"\,"
        return ("-" if self.factor < 0 else "") + size + within(self.tex, self.level, HADAMARD)

    def at(self, level: int) -> str:
        """Written with brackets, unless it holds together at least like `level`."""
        if self.tex:
            own = self.level if self.factor == 1 else SUM if self.factor < 0 else min(self.level, PRODUCT)
        else:
            own = SUM if self.factor < 0 else ATOM if self.factor.denominator == 1 else POWER
        return within(str(self), own, level)


ONE = Expr(Fraction(1))


def within(tex: str, own: int, level: int) -> str:
    """A term that holds together like `own`, in brackets if it must like `level`."""
    if own >= level:
        return tex
    left, right = ("[", "]") if "(" in tex else ("(", ")")
    return rf"\left{left}{tex}\right{right}" if r"\frac" in tex or r"\sum" in tex else f"{left}{tex}{right}"


def _number(value: Fraction) -> str:
    if value.denominator == 1 and abs(value) < 10**6:
        return str(value.numerator)
    if value.denominator < 100 and value.denominator % 5 and abs(value.numerator) < 100:
        return ("-" if value < 0 else "") + rf"\tfrac{{{abs(value.numerator)}}}{{{value.denominator}}}"
    return decimal(float(value))


def decimal(value) -> str:
    """A number in the usual short form, in LaTeX."""
    text = number(value)
    if text.lstrip("-") in ("inf", "nan"):
        return text.replace("inf", r"\infty").replace("nan", r"\mathrm{nan}")
    mantissa, e, exponent = text.partition("e")
    return rf"{mantissa} \cdot 10^{{{exponent}}}" if e else text


def constant_term(value) -> Expr:
    """The expression of a number."""
    if not math.isfinite(value):
        return Expr(Fraction(1), decimal(value))
    exact = Fraction(value).limit_denominator(10**6)
    return Expr(exact if math.isclose(exact, value, rel_tol=1e-7) else Fraction(value))


def level_of(tex: str) -> int:
    """How tightly what a formula says at its top level holds together."""
    units, depth, level = [], 0, ATOM
    for atom in atoms(tex):
        depth -= atom.kind == "close"
        if not depth and atom.kind != "space":
            units.append(atom)
        depth += atom.kind == "open"
    for atom, following in zip(units, [*units[1:], None]):
        if atom.kind in ("bin", "rel"):
            level = min(level, HADAMARD if atom.source in (r"\odot", "*", r"\cdot") else SUM)
        elif atom.source.startswith((r"\text", "?")):
            level = TEXT
        elif atom.source.startswith(r"\sum"):
            level = min(level, HADAMARD)
        elif atom.source == "/" or atom.kind == "op" and following is not None and following.kind != "open":
            level = min(level, APPLIED)
    if level < PRODUCT:
        return level
    ends = units[-1].source if units else ""
    if sum(atom.kind not in ("open", "close") for atom in units) + ends.startswith(")") > 1:
        return PRODUCT
    return POWER if "^" in ends or ends.startswith(r"\frac") else INDEXED if "_" in ends else ATOM


def negated(a: Expr) -> Expr:
    """The term with the other sign."""
    return a._replace(factor=-a.factor)


def add(a: Expr, b: Expr) -> Expr:
    """The sum."""
    if a.tex == b.tex:
        return a._replace(factor=a.factor + b.factor)
    right = f" - {negated(b).at(HADAMARD)}" if b.factor < 0 else f" + {b.at(SUM)}"
    return Expr(Fraction(1), a.at(SUM) + right, SUM, a.scalar and b.scalar)


def times(*parts: Expr) -> Expr:
    """The product in this order, entry by entry where arrays meet."""
    result = ONE
    for part in parts:
        factor = result.factor * part.factor
        if not result.tex or not part.tex:
            kept = part if part.tex else result
            result = kept._replace(factor=factor, scalar=result.scalar and part.scalar)
            continue
        plain = result.scalar or part.scalar
        left = within(result.tex, result.level, PRODUCT if plain else HADAMARD)
        right = within(part.tex, part.level, APPLIED if plain else HADAMARD)
        level = min(part.level, PRODUCT) if plain and part.level >= APPLIED else PRODUCT if plain else HADAMARD
        result = Expr(factor, left + (r"\," if plain else r" \odot ") + right, level, result.scalar and part.scalar)
    return result


def over(a: Expr, b: Expr) -> Expr:
    """The quotient."""
    if not b.factor:
        return Expr(ONE.factor, rf"\frac{{{a}}}{{0}}", POWER, a.scalar)
    if not b.tex:
        return a._replace(factor=a.factor / b.factor)
    return Expr(a.factor / b.factor, rf"\frac{{{a.tex or 1}}}{{{b.tex}}}", POWER, a.scalar and b.scalar)


def power(a: Expr, n: Fraction) -> Expr:
    """A power whose exponent is a number."""
    if n in (0, 1):
        return a if n else ONE
    whole = n.denominator == 1 and n > 0
    factor = a.factor**n.numerator if whole else Fraction(1)
    base = a._replace(factor=Fraction(1)) if whole else a
    exponent = str(n) if n in range(10) else f"{{{_number(n)}}}"
    return Expr(factor, f"{base.at(INDEXED)}^{exponent}", POWER, a.scalar) if a.tex else Expr(factor)


# ---- letters ---------------------------------------------------------------------------------------------------------

PIECE = re.compile(
    r"\\(?:text|operatorname|mathsf|mathrm|mathbin|mathrel)\s*(?:\{[^{}]*\}|\S)|\\(?:bar|hat)\s*[A-Za-z]|\\[A-Za-z]+|\\."
    r"|\d+(?:\.\d+)?|\s+|.",
    re.DOTALL,
)


TWICE = re.compile(r"\(([^()\s]+)\^\{\\mathsf T\}\)\^\{\\mathsf T\}")  # transposed and transposed back


def filled(formula: str, letters: dict[str, Expr]) -> Expr:
    """The formula with an expression in the place of each letter, in brackets where they are needed."""
    formula = re.sub(r"\\tfrac(\d)(\d|[A-Za-z]|\\[A-Za-z]+)", r"\\tfrac{\1}{\2}", formula)
    pieces = [p for p in PIECE.findall(formula.replace(r"\textstyle", "")) if p.strip()]
    found, scalar = [], True
    for i, piece in enumerate(pieces):
        name = r"\bar o" if re.fullmatch(r"\\bar\s*[oO]", piece) else piece
        mean = re.fullmatch(r"\\bar\s*([A-Za-z])", name)
        if name in letters:
            before = pieces[i - 1] if i else ""
            after = pieces[i + 1] if i + 1 < len(pieces) else ""
            tex = letters[name].at(max(_after(before), _before(after)))
            found.append(f"{{{tex}}}" if before in ("^", "_") and len(tex) > 1 else tex)
            scalar = scalar and letters[name].scalar
        elif mean and mean[1] in letters:
            found.append(rf"\overline{{{letters[mean[1]]}}}")
        else:
            found.append(piece)
    tex = TWICE.sub(r"\1", _joined(found))
    return Expr(Fraction(1), tex, level_of(tex), scalar)


_SPACED = ("+", "-", "=", "<", ">", "*", ":", r"\le", r"\ge", r"\ne", r"\odot", r"\cdot", r"\wedge", r"\vee", r"\oplus")


def _joined(pieces) -> str:
    """The pieces as one text, with spaces where people put them, and where a command would run into a letter."""
    text = ""
    for piece in pieces:
        if piece in _SPACED and text and text[-1] not in "([{,;|=<> ":
            piece = f" {piece} "
        elif re.search(r"[^\W_]$|[},;]$", text) and re.match(r"[^\W_]|\\(?![,;])", piece) or text[-1:] + piece == ",-":
            piece = f" {piece}"
        text += piece
    return text


_EDGES = {*"|+,;=<>?:", r"\le", r"\ge", r"\ne", r"\;"}
_OPENING = {"", *"([{^_", r"\lfloor", r"\lceil", r"\lVert"}
_CLOSING = {"", *")]}", r"\rfloor", r"\rceil", r"\rVert"}
_FUNCTION = re.compile(r"\\(operatorname.*|ln|log|exp|max|min|(arc)?(sin|cos|tan)h?)")


def _after(piece: str) -> int:
    """How tightly what stands after this piece must hold together."""
    if piece in _EDGES or piece in _OPENING:
        return SUM if piece in _EDGES else TEXT
    if _FUNCTION.fullmatch(piece):
        return INDEXED
    by_sign = {"-": HADAMARD, r"\sum": HADAMARD, r"\odot": HADAMARD, "*": POWER, "/": POWER, r"\prod": PRODUCT}
    return by_sign.get(piece, APPLIED)


def _before(piece: str) -> int:
    """How tightly what stands before this piece must hold together."""
    if piece in _EDGES or piece in _CLOSING or piece == "-":
        return TEXT if piece in _CLOSING else SUM
    return {"^": INDEXED, "'": INDEXED, "_": ATOM, "*": POWER, r"\odot": HADAMARD}.get(piece, PRODUCT)


def factored(formula: str, letters: dict[str, Expr]) -> Expr | None:
    """The formula as a product of expressions, None if it is no product; numbers in it are multiplied out."""
    sign, rest = (-1, formula[1:]) if formula.startswith("-") else (1, formula)
    pieces = [a for a in atoms(rest.replace(r"\textstyle", "")) if a.kind != "space"]
    if level_of(rest) < APPLIED or sum(a.source == r"\bar o" for a in pieces) != 1:
        return None
    slash = next((i for i, a in enumerate(pieces) if a.source == "/"), len(pieces))
    parts, run, depth = [Expr(Fraction(sign))], [], 0
    for i, atom in enumerate(pieces[:slash]):
        alone = not depth and not (i and pieces[i - 1].kind == "op")
        value = _literal(atom.source) or letters.get(atom.source) if alone else None
        depth += (atom.kind == "open") - (atom.kind == "close")
        if value is None:
            run.append(atom.source)
            continue
        parts += [*_group(run, letters), value]
        run = []
    parts += _group(run, letters)
    result = times(*parts)
    below = [a.source for a in pieces[slash + 1 :]]
    if not below:
        return result
    return over(result, letters[below[0]] if len(below) == 1 and below[0] in letters else _group(below, letters)[0])


def _group(sources, letters):
    """What stands between the factors as a factor, without the brackets around it."""
    text = _joined(sources)
    inner = re.fullmatch(r"\(([^()]*(?:\([^()]*\)[^()]*)*)\)", text)
    return [filled(inner[1] if inner else text, letters)] if text else []


def _literal(source: str) -> Expr | None:
    fraction = re.fullmatch(r"\\tfrac\{(\d+)\}\{(\d+)\}", source)
    if fraction:
        return Expr(Fraction(int(fraction[1]), int(fraction[2])))
    return Expr(Fraction(source)) if source.isdecimal() else None
