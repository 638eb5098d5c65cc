"""Formulas of numbers, like those of `kernels.cell`, written out as statements: in CUDA C++, or in Python for Numba.

A formula is called once, on values that note what is done to them. What is computed twice is written once, what no
result needs is left out, and x + 0 is x: so a formula may be given 0 for what is not there.
"""

from typing import NamedTuple


class Language(NamedTuple):
    """How to write a whole number, the definition of a name, the setting of a result, and each function of {0}."""

    number: str
    define: str
    result: str
    functions: dict


#: In the type A. No result differs in kind from the CPU's: NaN stays NaN, and sigmoid(-inf) is 0.
CUDA = Language(
    "{}",
    "const A {} = {};",
    "{} = {};",
    {
        "sigmoid": "1 / (1 + exp(-{0}))",
        "tanh": "tanh({0})",
        "relu": "{0} < 0 ? 0 : {0}",
        "positive": "{0} > 0 ? 1 : 0",
    },
)

#: With `exp` and `tanh` of the module math. Numbers are float32, the least: a bare 1 would turn float32 into float64.
PYTHON = Language(
    "float32({})",
    "{} = {}",
    "{} = {}",
    {
        "sigmoid": "float32(1) / (float32(1) + exp(-{0}))",
        "tanh": "tanh({0})",
        "relu": "float32(0) if {0} < float32(0) else {0}",
        "positive": "float32(1) if {0} > float32(0) else float32(0)",
    },
)


class Formula:
    """What a formula does, step by step; it is also the mathematics, `m`, that the formula computes with."""

    def __init__(self):
        self._steps = {}  # (operation, operands) → the value; operands are values or whole numbers

    def input(self, name):
        """The value that is called `name` where the statements will stand."""
        return self._value("input", name)

    def written(self, results, language):
        """The statements that set the results, {name: value}; no result may be called like an input."""
        needed, names, lines = set(), {}, []
        for value in results.values():
            _collect(value, needed)
        for (operation, operands), value in self._steps.items():
            if operation == "input":
                names[value] = operands[0]
            elif value in needed:
                names[value] = f"t{len(lines)}"
                lines.append(language.define.format(names[value], _expression(operation, operands, names, language)))
        return lines + [language.result.format(name, names[value]) for name, value in results.items()]

    def sigmoid(self, x):
        return self._value("sigmoid", x)

    def tanh(self, x):
        return self._value("tanh", x)

    def relu(self, x):
        return self._value("relu", x)

    def positive(self, x):
        return self._value("positive", x)

    def _value(self, operation, *operands):
        return self._steps.setdefault((operation, operands), Value(self, operands))


class Value:
    """A number in a formula."""

    def __init__(self, formula, operands):
        self.formula, self.operands = formula, operands

    def __add__(self, other):
        return self if _is_zero(other) else self.formula._value("+", self, other)

    __radd__ = __add__

    def __sub__(self, other):
        return self if _is_zero(other) else self.formula._value("-", self, other)

    def __rsub__(self, other):
        return self.formula._value("-", other, self)

    def __mul__(self, other):
        return self.formula._value("*", self, other)

    __rmul__ = __mul__


def _is_zero(x):
    return isinstance(x, int) and x == 0


def _collect(value, into):
    """Put the value and all that it is computed from into the set."""
    if isinstance(value, Value) and value not in into:
        into.add(value)
        for operand in value.operands:
            _collect(operand, into)


def _expression(operation, operands, names, language):
    texts = [names[x] if isinstance(x, Value) else language.number.format(x) for x in operands]
    template = language.functions.get(operation, f"{{0}} {operation} {{1}}")
    return template.format(*texts)
