"""Every error that the engine and its pictures can raise is quoted in a test beside this one or in tests/viz."""

import ast
import re
from pathlib import Path

import chainrule as cr

HERE = Path(__file__).parent
ENGINE = Path(cr.autograd.__file__).parent
SOURCES = sorted([*ENGINE.glob("*.py"), *ENGINE.glob("viz/*.py")])
LENGTH = 14  # of a quotation that cannot be there by chance


def literals(node):
    """The fixed parts of a string expression."""
    return [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def raised():
    """(where, fixed parts of the message) of every raise with a message."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                parts = literals(node.exc.args[0])
                if parts:
                    yield f"{path.name}:{node.lineno}", parts


def quotations():
    """All that those tests quote, regular expressions unescaped, as one text."""
    paths = [*HERE.glob("test_*.py"), *HERE.parent.glob("viz/test_*.py")]
    strings = [text for path in paths for text in literals(ast.parse(path.read_text(encoding="utf-8")))]
    return "\n".join(re.sub(r"\\(\W)", r"\1", stretch) for text in strings for stretch in text.split(".*"))


def is_quoted(parts, texts):
    longest = max(map(len, parts))
    length = min(LENGTH, longest)
    return any(part[i : i + length] in texts for part in parts for i in range(len(part) - length + 1))


def test_every_message_is_quoted_in_a_test():
    texts = quotations()
    assert not [where for where, parts in raised() if not is_quoted(parts, texts)]


def test_the_check_itself():
    assert len(list(raised())) > 70
    assert is_quoted(["a message ", " of which a later part is quoted"], "part is quoted.")
    assert not is_quoted(["a message that nobody wrote"], "another text altogether, of everybody")
