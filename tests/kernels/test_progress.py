"""What is said while loops are compiled: nothing for a second, then one line."""

import io
import sys
from types import SimpleNamespace

import pytest

from chainrule.kernels.cpu import progress
from chainrule.kernels.cpu.jit import has_numba


class Terminal(io.StringIO):
    def isatty(self):
        return True


def event(start, name="_loop", module="chainrule.kernels.cpu.some"):
    function = SimpleNamespace(__name__=name, __module__=module)
    return SimpleNamespace(is_start=start, data={"dispatcher": SimpleNamespace(py_func=function)})


def compiles(listener, *names):
    """Compile the functions, each as long as it takes until the line is out."""
    for name in names:
        listener.notify(event(True, name))
        listener.timer.join(10)
        listener.notify(event(False, name))


@pytest.fixture
def listener(monkeypatch):
    monkeypatch.setattr(progress, "_PATIENCE", 0.0)
    return progress.Compiling()


def test_a_file_gets_one_line(listener, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    compiles(listener, "_one", "_two")
    assert sys.stderr.getvalue() == "chainrule: compiling its loops, once on this machine\n"


def test_a_terminal_sees_each_and_is_left_clean(listener, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    compiles(listener, "_one", "_two")
    first, second, rest = sys.stderr.getvalue().split("\r\x1b[K")
    assert first.startswith("\rchainrule: compiling _one, loop 1 (0 s; once on this machine)")
    assert second.startswith("\rchainrule: compiling _two, loop 2 (") and rest == ""


def test_without_stderr(listener, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    compiles(listener, "_one")
    assert listener.told and not listener.depth


def test_short_work_is_silent(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    listener = progress.Compiling()
    for _ in range(3):
        listener.notify(event(True))
        listener.notify(event(False))
        listener.timer.join(10)
    assert sys.stderr.getvalue() == "" and listener.loops == 3 and 0 < listener.seconds < 1


def test_functions_within_count_with_their_loop_and_those_of_others_not(listener, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    listener.notify(event(True, module="__main__"))
    listener.notify(event(False, module="__main__"))
    assert not listener.loops
    listener.notify(event(True))
    listener.notify(event(True, module="numba.np"))
    listener.notify(event(False, module="numba.np"))
    assert listener.depth == 1
    listener.notify(event(False))
    assert listener.depth == 0 and listener.loops == 1


@pytest.mark.skipif(not has_numba(), reason="Numba is absent or CHAINRULE_NUMBA=0: nothing is compiled")
def test_numba_calls_it():
    from numba.core import event as events

    from chainrule.kernels.cpu.jit import numba

    numba()
    assert sum(isinstance(one, progress.Compiling) for one in events._registered["numba:compile"]) == 1
