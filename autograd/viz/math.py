"""`mathml`: a formula in LaTeX as MathML, which browsers show without a script.

The part of LaTeX that formulas of primitives and rules are written in, spaced as TeX spaces it. What is beyond it is
shown as it was written, so that a formula of the user's never breaks a page.
"""

from __future__ import annotations

import re
from html import escape
from typing import NamedTuple


class Atom(NamedTuple):
    """A piece of a formula: its class in TeX (ord, op, bin, rel, open, close, punct, space), source and MathML."""

    kind: str
    source: str
    xml: str
    limits: bool = False  # whether scripts go below and above it in a displayed formula


_THIN, _MEDIUM, _THICK = (f'<mspace width="{width}em"/>' for width in (0.167, 0.222, 0.278))
_SPACES = {",": _THIN, ":": _MEDIUM, ";": _THICK, "!": "", " ": '<mspace width="0.333em"/>'}
_SPACES |= {"quad": '<mspace width="1em"/>', "qquad": '<mspace width="2em"/>'}

GREEK = dict(
    zip(
        "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho varsigma sigma tau upsilon"
        " varphi chi psi omega".split(),
        "αβγδεζηθικλμνξπρςστυφχψω",
    )
)
GREEK |= {"epsilon": "ϵ", "phi": "ϕ", "vartheta": "ϑ", "ell": "ℓ", "partial": "∂"}
_UPRIGHT = dict(zip("Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split(), "ΓΔΘΛΞΠΣΥΦΨΩ"))
_UPRIGHT |= {"nabla": "∇", "infty": "∞", "#": "#", "%": "%", "$": "$", "&": "&", "_": "_"}
_FUNCTIONS = set(
    "arccos arcsin arctan cos cosh cot coth csc det dim exp ln log sec sin sinh tan tanh ker deg hom arg".split()
)
_LIMITED = {name: name for name in "max min sup inf lim gcd Pr".split()}
_BIG = {"sum": "∑", "prod": "∏", "int": "∫", "bigcup": "⋃", "bigcap": "⋂"}
_SIGNS = {
    "bin": dict(
        zip("pm mp times div cdot odot oplus otimes ast circ cap cup wedge vee setminus".split(), "±∓×÷⋅⊙⊕⊗∗∘∩∪∧∨∖")
    ),
    "rel": dict(
        zip(
            "ne neq le leq ge geq approx equiv sim simeq propto ll gg in ni subset mid to rightarrow leftarrow gets"
            " mapsto Rightarrow Leftarrow Leftrightarrow iff perp parallel".split(),
            "≠≠≤≤≥≥≈≡∼≃∝≪≫∈∋⊂∣→→←←↦⇒⇐⇔⇔⊥∥",
        )
    ),
    "open": {"lfloor": "⌊", "lceil": "⌈", "langle": "⟨", "lVert": "‖", "lvert": "|", "{": "{"},
    "close": {"rfloor": "⌋", "rceil": "⌉", "rangle": "⟩", "rVert": "‖", "rvert": "|", "}": "}"},
    "ord": {"dots": "…", "ldots": "…", "cdots": "⋯", "vdots": "⋮", "top": "⊤", "forall": "∀", "exists": "∃", "|": "‖"},
}
_CHARACTERS = {"+": ("bin", "+"), "-": ("bin", "−"), "*": ("bin", "∗"), "/": ("ord", "/"), "|": ("ord", "|")}
_CHARACTERS |= {c: ("rel", c) for c in "=<>:"} | {c: ("punct", c) for c in ",;"} | {c: ("ord", c) for c in "?!.'@&~"}
_CHARACTERS |= {c: ("open", c) for c in "(["} | {c: ("close", c) for c in ")]"}
_ACCENTS = {"bar": "¯", "hat": "^", "tilde": "~", "vec": "→", "dot": "˙", "ddot": "¨", "widehat": "^"}
_OVERLINE = "border-top: 0.06em solid; padding-top: 0.1em"  # few fonts have a bar that stretches
_FONTS = {"mathsf", "mathrm", "mathbf", "mathit", "boldsymbol", "mathbb", "mathcal", "operatorname"}
_CLASSES = {"mathbin": "bin", "mathrel": "rel", "mathop": "op", "mathord": "ord"}
_TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|.", re.DOTALL)


def mathml(latex: str, display: bool = False) -> str:
    """The formula `latex` as a <math> element, inline or (`display`) as a displayed formula.

    >>> from chainrule.autograd.viz.math import mathml
    >>> mathml("x^2")
    '<math alttext="x^2"><msup><mi>x</mi><mn>2</mn></msup></math>'
    """
    block = ' display="block"' if display else ""
    return f'<math alttext="{escape(latex)}"{block}>{_joined(atoms(latex))}</math>'


def atoms(latex: str) -> list[Atom]:
    """The formula's pieces at its top level, spaces among them.

    >>> from chainrule.autograd.viz.math import atoms
    >>> [(atom.kind, atom.source) for atom in atoms(r"-x_1 (a + b)")]  # doctest: +ELLIPSIS
    [('bin', '-'), ('ord', 'x_1'), ('open', '('), ('ord', 'a'), ('bin', '+'), ('ord', 'b'), ('close', ')')]
    """
    return _Reader(latex).row()


class _Reader:
    """Reads a formula from left to right."""

    def __init__(self, latex: str):
        self.latex = latex
        self.tokens = [(m.group(), m.start()) for m in _TOKEN.finditer(latex)]
        self.at = 0
        self.small = 0  # how many scripts deep

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def next(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def place(self) -> int:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else len(self.latex)

    def skip(self) -> None:
        while self.peek().isspace():
            self.at += 1

    def row(self, end: str = "") -> list[Atom]:
        """The pieces up to the token `end`, which is passed over."""
        found: list[Atom] = []
        self.skip()
        while (token := self.peek()) and token != end:
            start = self.place()
            if token in ("\\textstyle", "\\displaystyle"):
                self.next()
                rest = self.row(end)
                style = "true" if token == "\\displaystyle" else "false"
                xml = f'<mstyle displaystyle="{style}">{_joined(rest, self.small)}</mstyle>'
                return [*found, Atom(rest[0].kind if rest else "ord", self.latex[start : self.place()], xml)]
            found.append(self.scripted())
            self.skip()
        self.next()
        return found

    def scripted(self) -> Atom:
        """A piece with what hangs on it: primes, index, exponent."""
        start = self.place()
        base = self.piece(self.digits() or self.next())
        end = self.place()
        scripts: dict[str, list[str]] = {"_": [], "^": []}
        self.skip()
        while (token := self.peek()) in ("_", "^", "'"):
            self.next()
            scripts["^" if token == "'" else token].append(_sign("′") if token == "'" else self.script())
            end = self.place()
            self.skip()
        below, above = (f"<mrow>{''.join(xml)}</mrow>" if xml[1:] else "".join(xml) for xml in scripts.values())
        names = ("munder", "mover") if base.limits else ("msub", "msup")
        xml = base.xml
        if below and above:
            both = "munderover" if base.limits else "msubsup"
            xml = f"<{both}>{xml}{below}{above}</{both}>"
        elif below or above:
            name = names[0] if below else names[1]
            xml = f"<{name}>{xml}{below or above}</{name}>"
        return Atom(base.kind, self.latex[start:end].strip(), xml)

    def script(self) -> str:
        self.small += 1
        xml = self.argument()
        self.small -= 1
        return xml

    def digits(self) -> str:
        """A whole number with its decimals, '' if there is none here."""
        match = re.compile(r"\d+(\.\d+)?").match(self.latex, self.place())
        self.at += len(match.group()) if match else 0
        return match.group() if match else ""

    def argument(self) -> str:
        """The MathML of a group in braces, or of one character or command."""
        self.skip()
        return self.piece(self.next()).xml if self.peek() else "<mrow></mrow>"

    def fence(self) -> str:
        """A bracket as high as what it stands around; none for a dot."""
        self.skip()
        token = self.next()
        return self.piece(token).xml.replace('stretchy="false"', 'stretchy="true"') if token not in ("", ".") else ""

    def raw(self) -> str:
        """The text of a group in braces as it stands."""
        self.skip()
        if self.peek() != "{":
            return self.next()
        start, depth = self.place() + 1, 0
        while token := self.next():
            depth += (token == "{") - (token == "}")
            if not depth:
                return self.latex[start : self.tokens[self.at - 1][1]]
        return self.latex[start:]

    def piece(self, token: str) -> Atom:
        """What a character, number or command stands for, with its arguments."""
        if token == "{":
            return Atom("ord", token, f"<mrow>{_joined(self.row('}'), self.small)}</mrow>")
        if token[0] == "\\" and len(token) > 1:
            return self.command(token[1:])
        if token[0].isdigit():
            return Atom("ord", token, f"<mn>{token}</mn>")
        if token in _CHARACTERS:
            kind, sign = _CHARACTERS[token]
            return Atom(kind, token, _sign(sign))
        return Atom("ord", token, f"<mi>{token}</mi>" if token.isalpha() else f"<mtext>{escape(token)}</mtext>")

    def command(self, name: str) -> Atom:
        if name in _SPACES:
            return Atom("space", name, _SPACES[name])
        if name in GREEK:
            return Atom("ord", name, f"<mi>{GREEK[name]}</mi>")
        if name in _UPRIGHT:
            return Atom("ord", name, f'<mi mathvariant="normal">{escape(_UPRIGHT[name])}</mi>')
        if name in _FUNCTIONS:
            return Atom("op", name, f"<mi>{name}</mi>")
        if name in _LIMITED or name in _BIG:
            return Atom("op", name, _sign({**_LIMITED, **_BIG}[name], ' movablelimits="true"'), True)
        for kind, signs in _SIGNS.items():
            if name in signs:
                return Atom(kind, name, _sign(signs[name]))
        if name in ("frac", "tfrac", "dfrac"):
            xml = f"<mfrac>{self.argument()}{self.argument()}</mfrac>"
            style = {"frac": "", "tfrac": "false", "dfrac": "true"}[name]
            return Atom("ord", name, f'<mstyle displaystyle="{style}">{xml}</mstyle>' if style else xml)
        if name == "sqrt":
            return Atom("ord", name, f"<msqrt>{self.argument()}</msqrt>")
        if name in _ACCENTS:
            return Atom("ord", name, f"<mover>{self.argument()}{_sign(_ACCENTS[name])}</mover>")
        if name == "overline":
            return Atom("ord", name, f'<mrow style="{_OVERLINE}">{self.argument()}</mrow>')
        if name in ("text", "textbf", "textit", "mbox"):
            return Atom("ord", name, f"<mtext>{escape(self.raw()).replace(' ', '&#160;')}</mtext>")
        if name in _FONTS:
            kind = "op" if name == "operatorname" else "ord"
            bold = ' style="font-weight: bold"' if name in ("mathbf", "boldsymbol") else ""
            return Atom(kind, name, f'<mi mathvariant="normal"{bold}>{escape(_plain(self.raw()))}</mi>')
        if name in _CLASSES:
            return Atom(_CLASSES[name], name, self.argument())
        if name == "left":
            left, inside, right = self.fence(), _joined(self.row("\\right"), self.small), self.fence()
            return Atom("ord", name, f"<mrow>{left}{inside}{right}</mrow>")
        return Atom("ord", name, f"<mtext>\\{escape(name)}</mtext>")


def _plain(text: str) -> str:
    """The text of a name, in which TeX's special characters were escaped."""
    return re.sub(r"\\([^A-Za-z])", r"\1", text)


def _sign(sign: str, more: str = "") -> str:
    """An operator without spaces of its own: they are put by TeX's rules."""
    return f'<mo stretchy="false" lspace="0" rspace="0"{more}>{escape(sign)}</mo>'


def _joined(pieces: list[Atom], small: int = 0) -> str:
    """The pieces one after the other, with TeX's spaces between them; in scripts (`small`) few of them."""
    found, left = [], ""
    for piece in pieces:
        kind = piece.kind
        if kind == "bin" and left in ("", "bin", "rel", "open", "punct", "op"):
            kind = "ord"  # a sign
        found.append(_gap(left, kind, small) + piece.xml)
        left = "" if kind == "space" else kind
    return "".join(found)


def _gap(left: str, right: str, small: int) -> str:
    if not left or right in ("space", "punct") or left == "open" or right == "close":
        return ""
    if "op" in (left, right) and {left, right} <= {"op", "ord", "close"}:
        return _THIN
    if small:
        return ""
    if left == "punct":
        return _THIN
    if (left == "rel") != (right == "rel"):
        return _THICK
    return _MEDIUM if "bin" in (left, right) else ""
