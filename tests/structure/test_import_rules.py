"""The import rules of the house, checked on every import statement of every module."""

import ast
import importlib
import inspect
import sys

import pytest
from structure.house import PACKAGES, modules

import chainrule as cr

# What each room may import from outside; the longest matching name counts.
OUTSIDE = {
    "chainrule": {"numpy", "click"},
    "chainrule.bench": {
        "numpy", "ml_dtypes", "tqdm", "matplotlib", "cupy", "torch", "jax", "autograd", "tinygrad", "chainer",
    },
    "chainrule.kernels": {"numpy", "numba", "llvmlite", "cupy"},
    "chainrule.kernels.cpu": {"numpy", "numba", "llvmlite"},
    "chainrule.kernels.cuda": {"numpy", "numba", "llvmlite", "cupy", "cuda"},
    "chainrule.autograd": {"numpy", "ml_dtypes"},
    "chainrule.autograd.viz": {"numpy", "graphviz", "pygraphviz"},
    "chainrule.nn": {"numpy", "tqdm", "safetensors"},
    "chainrule.nn.data": {"numpy", "sklearn"},
    "chainrule.nn.examples": {"numpy", "matplotlib", "sklearn"},
    "chainrule.nn.viz": {"numpy", "tqdm", "matplotlib"},
}  # fmt: skip
VIZ, EXAMPLES, NN_VIZ = "chainrule.autograd.viz", "chainrule.nn.examples", "chainrule.nn.viz"
LEAVES = (VIZ, EXAMPLES, NN_VIZ, "chainrule.autograd.checks")
DRAWING_DOOR = "chainrule.autograd.display"  # imports the pictures when one is asked for
PAGE_DOOR = "chainrule.nn.trainer"  # imports the training page when one is asked for
DOORS = ("for_array", "for_device", "device_of", "to_device", "is_array")
DEVICES = ("chainrule.kernels.cpu", "chainrule.kernels.cuda")
MODULES = dict(modules())


def within(name, room):
    return f"{name}.".startswith(f"{room}.")


def is_module(package, name):
    """Whether `from package import name` gives a module: a package may offer a function of its module's name."""
    if f"{package}.{name}" not in MODULES:
        return False
    if within(package, "chainrule.kernels.cuda") and cr.kernels.missing_for_cuda():
        return True  # not to be imported here; inside, modules take each other whole
    return inspect.ismodule(getattr(importlib.import_module(package), name, inspect))


def imports(importer, source):
    """Every import as (line, imported module, imported name or ""), relative ones made absolute."""
    package = importer if importer in PACKAGES else importer.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (node.lineno, inner, "") if is_module(base, alias.name) else (node.lineno, base, alias.name)


def broken_rule(importer, target, name=""):
    """The rule that this import breaks, or None."""
    room = max((room for room in OUTSIDE if within(importer, room)), key=len)
    top = target.partition(".")[0]
    if top != "chainrule":
        if (within(target, "numba.cuda") or (target, name) == ("numba", "cuda")) and room != "chainrule.kernels.cuda":
            return "1: numba.cuda is imported by kernels/cuda alone"
        known = top in OUTSIDE[room] or top in sys.stdlib_module_names
        return None if known else f"1: {room} imports {sorted(OUTSIDE[room])} and the standard library alone"
    floor = next((f for f in ("kernels", "autograd", "nn") if within(importer, f"chainrule.{f}")), "front door")
    if floor == "kernels":
        if not within(target, "chainrule.kernels"):
            return "1: kernels/ knows nothing above it"
        if any(within(importer, a) and within(target, b) for a in DEVICES for b in DEVICES if a != b):
            return "2: the devices never import each other"
    if floor == "autograd" and not within(target, "chainrule.autograd"):
        allowed = (target == "chainrule.kernels" and name in DOORS) or within(target, "chainrule.kernels.geometry")
        return None if allowed else f"3: autograd/ reaches devices by {', '.join(DOORS)} and geometry alone"
    if floor == "nn" and not within(target, "chainrule.nn"):
        drawing = any(within(importer, room) for room in (EXAMPLES, NN_VIZ)) and within(target, VIZ)
        public = (target == "chainrule.autograd" or drawing) and not name.startswith("_")
        return None if public else "4: nn/ imports the public names of autograd alone"
    leaf = next((leaf for leaf in LEAVES if within(target, leaf)), None)
    offering = importer == "chainrule.autograd"  # the floor's own list of public names
    if leaf == VIZ and (importer == DRAWING_DOOR or within(importer, NN_VIZ) or within(importer, EXAMPLES)):
        return None
    if (importer, leaf) == (PAGE_DOOR, NN_VIZ):
        return None
    if leaf and floor != "front door" and not offering and not within(importer, leaf):
        return "5: leaves are imported by nobody inside the engine"
    return None


@pytest.mark.parametrize("module", MODULES)
def test_imports_of(module):
    source = MODULES[module].read_text()
    found = [(line, broken_rule(module, target, name)) for line, target, name in imports(module, source)]
    assert [f"{MODULES[module]}:{line}: rule {rule}" for line, rule in found if rule] == []


@pytest.mark.parametrize(
    "importer, statement, rule",
    [
        ("chainrule.kernels.geometry", "import scipy", "1"),
        ("chainrule.kernels.cpu.erf", "from numba import cuda", "1"),
        ("chainrule.kernels.cpu.erf", "import numba.cuda", "1"),
        ("chainrule.kernels.cpu.erf", "def f():\n    import cupy", "1"),
        ("chainrule.kernels.cpu.erf", "from ...autograd import Tensor", "1"),
        ("chainrule.kernels", "from .. import nn", "1"),
        ("chainrule.kernels.cpu.erf", "from ..cuda.erf import f", "2"),
        ("chainrule.kernels.cuda.erf", "from .. import cpu", "2"),
        ("chainrule.autograd.tensor", "from ..kernels.cpu import erf", "3"),
        ("chainrule.autograd.ops", "from ...kernels import cpu", "3"),
        ("chainrule.autograd.tensor", "from ..nn import Module", "3"),
        ("chainrule.nn.linear", "from ..autograd.tensor import Tensor", "4"),
        ("chainrule.nn.linear", "from ..autograd import _hidden", "4"),
        ("chainrule.nn.linear", "from ..kernels import for_array", "4"),
        ("chainrule.nn.linear", "import chainrule", "4"),
        ("chainrule.nn.linear", "from ..autograd.viz import draw", "4"),
        ("chainrule.nn.linear", "from .examples import lenet5", "5"),
        ("chainrule.nn.linear", "from .viz.run import TrainingPage", "5"),
        ("chainrule.autograd.tensor", "from .viz import draw", "5"),
        ("chainrule.autograd.tensor", "from .checks import check_grads", "5"),
        ("chainrule.autograd.tensor", "import pandas", "1"),
        ("chainrule.cli", "import matplotlib.pyplot", "1"),
        ("chainrule.kernels.cpu.erf", "import math, numba\nfrom ..geometry import f\nfrom . import workers", None),
        ("chainrule.kernels.cuda.erf", "import cupy\nfrom numba import cuda", None),
        ("chainrule.autograd.ops.math", "from ...kernels import for_array\nfrom ..tensor import Tensor", None),
        ("chainrule.nn.linear", "from ..autograd import Tensor\nfrom .module import Module", None),
        ("chainrule.nn.init", "from .. import autograd", None),
        ("chainrule.nn.trainer", "from .viz.run import TrainingPage", None),
        ("chainrule.nn.examples.lenet5", "from ...autograd.viz import draw", None),
        ("chainrule.autograd", "from .checks import check_grads", None),
        ("chainrule.viz", "from .autograd.viz import *", None),
    ],
)
def test_the_rules_catch_a_planted_import(importer, statement, rule):
    rules = [broken_rule(importer, target, name) for _, target, name in imports(importer, statement)]
    assert [found.partition(":")[0] for found in rules if found] == ([rule] if rule else [])
