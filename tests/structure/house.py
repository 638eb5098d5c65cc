"""What the house consists of: the packages that pyproject.toml lists, their modules, and the names offered to users."""

import importlib
import inspect
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
FOLDERS = PROJECT["tool"]["setuptools"]["package-dir"]
HEAVY = ("numba", "cupy", "matplotlib", "sklearn")

# Prints how many times as long as NumPy `import chainrule` took, and the heavy packages that it loaded.
TIME_IMPORT = (
    "import sys, time; clock = time.process_time; start = clock(); import numpy; numpys = clock() - start; "
    "start = clock(); import chainrule; own = clock() - start; "
    f"print(own / numpys, *[name for name in {HEAVY} if name in sys.modules])"
)


def printed(result):
    """What a command printed on both its streams, but for the line that a process writes once, when it compiles."""
    return result.output.replace("chainrule: compiling its loops, once on this machine\n", "")


# The modules whose names are offered to users; doors and rooms below them are reached through these.
FACE = (
    "chainrule",
    "chainrule.autograd",
    "chainrule.bench",
    "chainrule.data",
    "chainrule.nn",
    "chainrule.nn.functional",
    "chainrule.nn.init",
    "chainrule.nn.utils",
    "chainrule.nn.utils.rnn",
    "chainrule.optim",
    "chainrule.viz",
)


def folder(package):
    """The folder in the repository of an installed package: chainrule.autograd.ops is autograd/ops."""
    root = max((name for name in FOLDERS if f"{package}.".startswith(f"{name}.")), key=len)
    return ROOT.joinpath(FOLDERS[root], *package[len(root) :].strip(".").split("."))


def modules():
    """Every module as (installed name, file), packages under their own name."""
    for package in PACKAGES:
        for path in sorted(folder(package).glob("*.py")):
            yield (package if path.stem == "__init__" else f"{package}.{path.stem}"), path


def offered():
    """The functions and classes of the public face, each once, by the first name under which a user meets it."""
    found = {}
    for name in FACE:
        module = importlib.import_module(name)
        for attribute in getattr(module, "__all__", None) or [key for key in vars(module) if not key.startswith("_")]:
            value = getattr(module, attribute)
            ours = (getattr(value, "__module__", None) or "").startswith("chainrule")
            if callable(value) and ours and not inspect.ismodule(value):
                found.setdefault(id(value), (f"{name}.{attribute}", value))
    return dict(found.values())
