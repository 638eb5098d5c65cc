"""Peers in processes of their own: which are there, by which interpreter, and how to ask them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .files import GIVEN, GOT, load, save
from .machine import release
from .sides import PEERS
from .worker import Worker

if TYPE_CHECKING:
    from .runner import Field

#: peers that cannot live beside chainrule, and what names an interpreter that has them
ELSEWHERE = {"chainer": "CHAINRULE_CHAINER_PYTHON"}


class Remote:
    """A peer in a process of its own: RuntimeError says what fails there."""

    field: Field  # the one that it has taken up

    def __init__(self, name: str, threads: int):
        self.name = name
        self.kept = TemporaryDirectory(prefix="chainrule-bench-")
        self.folder = Path(self.kept.name)
        command = [*_interpreter(name), name, str(threads), self.kept.name]
        self.worker = Worker(command, threads)
        try:
            self.version = self.ask(do="hello")["version"]
        except RuntimeError as error:
            self.stop()
            raise RuntimeError(f"--compare {name}: {command[0]} said {error}") from None

    def ask(self, **message) -> dict:
        """The answer to a message."""
        answer = self.worker.ask(message)
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer

    def open(self, field: Field) -> None:
        """Take up a kernel of the suite at a shape."""
        save(self.folder / GIVEN, field.arrays)
        self.ask(do="open", **field.kernel.peers[self.name], axes=field.axes, sets=field.sets)
        self.field = field

    def prove(self, name: str) -> tuple[float, str]:
        """As `Field.prove`."""
        self.ask(do="prove")
        return self.field.judge(load(self.folder / GOT))

    def sample(self, name: str, cold: bool, count: int) -> float:
        """As `Field.sample`."""
        return self.ask(do="sample", cold=cold, count=count)["seconds"]

    def launch(self, name: str) -> None:
        """Peers run on the CPU."""
        return None

    def stop(self) -> None:
        """Let its process end."""
        self.worker.stop()
        self.kept.cleanup()


def _interpreter(name: str) -> list[str]:
    other = os.environ.get(ELSEWHERE.get(name, ""))
    if other:
        return [other, str(Path(__file__).with_name("alone.py"))]
    return [sys.executable, "-P", "-m", "chainrule.bench.peer"]


def installed(names: str | Sequence[str]) -> list[str]:
    """The peers asked for, each of which must be there: ValueError and ImportError say which is not.

    >>> from chainrule.bench.remote import installed
    >>> installed("numpy")
    ['numpy']
    """
    asked = names.split(",") if isinstance(names, str) else list(names)
    asked = [name.strip() for name in asked if name.strip()]
    for name in asked:
        if name not in PEERS:
            raise ValueError(f"--compare {name}: that is no peer; compare with {', '.join(PEERS)}")
        variable = ELSEWHERE.get(name, "")
        other = os.environ.get(variable)
        if other and not shutil.which(other):
            raise ImportError(f"--compare {name}: {variable}={other} is no program; name a Python that has {name}")
        if not other and not release(name):
            raise ImportError(f"--compare {name}: it is not installed; {_remedy(name, variable)}, or leave it out")
    return asked


def _remedy(name: str, variable: str) -> str:
    if not variable:
        return f"pip install {name}"
    return (
        f"it needs an older NumPy than chainrule, so name another Python that has it, as in "
        f"{variable}=.venv/{name}/bin/python (`make {name}` makes that one in a checkout)"
    )
