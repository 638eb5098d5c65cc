"""Everything offered to users is explained, with an example, and every example runs."""

import doctest
import importlib
import inspect

import numpy as np
import pytest
from structure.house import modules, offered

import chainrule as cr

# Each line gives its reason.
WITHOUT_EXAMPLE: dict[str, str] = {}


def test_every_offered_name_has_a_docstring():
    assert [name for name, value in offered().items() if not inspect.getdoc(value)] == []


def test_every_offered_function_and_class_shows_an_example():
    missing = {name for name, value in offered().items() if ">>>" not in (inspect.getdoc(value) or "")}
    assert missing == set(WITHOUT_EXAMPLE)


def examples(module):
    """The docstrings with an example of a module, its functions, classes, primitives and methods: {name: text}."""
    found, waiting = {}, [(module.__name__, module)]
    while waiting:
        name, value = waiting.pop()
        text = inspect.getdoc(value)
        if text and ">>>" in text:
            found.setdefault(id(value), (name, text))
        if value is module or inspect.isclass(value):
            for key, inner in vars(value).items():
                inner = getattr(inner, "__func__", getattr(inner, "fget", inner))
                if getattr(inner, "__module__", None) == module.__name__ and callable(inner):
                    waiting.append((f"{name}.{key}", inner))
    return dict(found.values())


@pytest.mark.parametrize("name", [name for name, _ in modules() if not name.endswith("__main__")])
def test_examples_of(name, monkeypatch, tmp_path):
    if name.startswith("chainrule.kernels.cuda") and cr.kernels.missing_for_cuda():
        pytest.skip("needs a GPU and CuPy")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner, said = doctest.DocTestRunner(optionflags=flags, verbose=False), []
    for place, text in examples(module).items():
        cr.manual_seed(0)
        names = {"cr": cr, "np": np, "__name__": "__main__"}
        runner.run(doctest.DocTestParser().get_doctest(text, names, place, module.__file__, 0), out=said.append)
    assert runner.failures == 0, "".join(said)
