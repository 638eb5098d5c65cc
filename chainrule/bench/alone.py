"""Runs `peer` in an interpreter without chainrule: `python chainrule/bench/alone.py chainer 2`."""

from __future__ import annotations

import sys
from pathlib import Path
from runpy import run_module
from types import ModuleType

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if path != str(folder)]  # its names are not those of packages
    for name, place in (("chainrule", folder.parent), ("chainrule.bench", folder)):
        sys.modules[name] = package = ModuleType(name)
        package.__path__ = [str(place)]  # its modules are found, its __init__ is not run
    run_module("chainrule.bench.peer", run_name="__main__")
