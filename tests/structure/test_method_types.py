"""What type checkers and editors know of Tensor's methods (attached at run time) is what the methods are.

`.venv/bin/python tests/structure/test_method_types.py` writes `autograd/method_types.pyi` anew.
"""

import inspect
from pathlib import Path

from chainrule.autograd import methods

STUB = Path(__file__).parents[2] / "autograd" / "method_types.pyi"
SEVERAL = {"split", "chunk", "unbind", "max", "min", "sort", "topk", "nonzero"}  # one tensor or several, by arguments
PLAIN = {name: f"builtins.{name}" for name in ("int", "bool", "float", "str")}
BINARY = "add sub mul truediv floordiv mod pow matmul and or xor".split()
EQUALITY, ORDER = ("eq", "ne"), ("lt", "le", "gt", "ge")
NEW = "empty full ones zeros".split()


def declared(name, function):
    parameters, starred = [], False
    for p in list(inspect.signature(function).parameters.values())[1:]:
        kind = PLAIN.get(str(p.annotation), "Any")
        if p.kind is p.VAR_POSITIONAL:
            parameters.append(f"*{p.name}: Any")
            starred = True
        elif p.kind is p.VAR_KEYWORD:
            parameters.append(f"**{p.name}: Any")
        else:
            if p.kind is p.KEYWORD_ONLY and not starred:
                parameters.append("*")
                starred = True
            parameters.append(f"{p.name}: {kind}" + (" = ..." if p.default is not p.empty else ""))
    if {"dim", "keepdim"} & set(inspect.signature(function).parameters) and not any(p[:2] == "**" for p in parameters):
        parameters.append("**numpy_names: Any")
    parameters, returned = ["self", *parameters], "Any" if name in SEVERAL else "Tensor"
    line = f"    def {name}({', '.join(parameters)}) -> {returned}: ..."
    if len(line) > 120:
        line = "".join([f"    def {name}(\n", *[f"        {p},\n" for p in parameters], f"    ) -> {returned}: ..."])
    return line


def generated():
    lines = [
        '"""Tensor\'s methods, for type checkers. Written by tests/structure/test_method_types.py; do not edit."""',
        "",
        "import builtins",
        "from typing import Any",
        "",
        "from .tensor import Tensor",
        "",
        "class TensorMethods:",
    ]
    functions = {**methods.METHODS, **{alias: methods.METHODS[name] for alias, name in methods.ALIASES.items()}}
    lines += [declared(name, functions[name]) for name in sorted(functions)]
    lines += [f"    def {name}(self, *args: Any, **kwargs: Any) -> Tensor: ..." for name in sorted(methods._IN_PLACE)]
    lines += [f"    def new_{name}(self, *shape: Any, **options: Any) -> Tensor: ..." for name in NEW]
    lines.append("    def where(self, condition: Any, other: Any) -> Tensor: ...")
    lines += [f"    def __{f}{name}__(self, other: Any) -> Tensor: ..." for name in BINARY for f in ("", "r", "i")]
    lines += [f"    def __{name}__(self, other: Any) -> Tensor: ...  # type: ignore[override]" for name in EQUALITY]
    lines += [f"    def __{name}__(self, other: Any) -> Tensor: ..." for name in ORDER]
    lines += [f"    def __{name}__(self) -> Tensor: ..." for name in "neg pos abs invert".split()]
    lines.append("    def __getitem__(self, index: Any) -> Tensor: ...")
    lines.append("    def __setitem__(self, index: Any, value: Any) -> None: ...")
    lines += [f"    @property\n    def {name}(self) -> Tensor: ..." for name in ("T", "mT")]
    return "\n".join(lines) + "\n"


def test_the_stub_is_what_the_methods_are():
    assert STUB.read_text() == generated(), f"run: .venv/bin/python {Path(__file__).relative_to(STUB.parents[1])}"


if __name__ == "__main__":
    STUB.write_text(generated())
