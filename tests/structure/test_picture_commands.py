"""`chainrule draw`, `page` and `why`."""

import subprocess
import sys

import pytest
from click.testing import CliRunner
from structure.house import printed

from chainrule import cli

PROGRAM = '''\
from functools import partial

import chainrule as cr

X = cr.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
Y = cr.tensor([[0.0], [1.0], [1.0], [0.0]])
cr.manual_seed(0)
net = cr.nn.Sequential(cr.nn.Linear(2, 4), cr.nn.ReLU(), cr.nn.Linear(4, 1))


def loss():
    gain = cr.tensor(2.0, requires_grad=True)
    lost = cr.tensor(2.0, requires_grad=True)
    Y_hat = gain * net(X)
    return ((Y_hat - Y) ** 2).mean()


def trained():
    E = loss()
    E.backward()
    return E


def outputs():
    return net(X)


def constant():
    return X.sum()


def of(size):
    return net(X[:size]).sum()


nameless = lambda: of(2)
part = partial(of, 3)


def of_default(size=2):
    return net(X[:size]).sum()


def number():
    return 3.0


def broken():
    return net(X.reshape(8))
'''


@pytest.fixture
def say(tmp_path, monkeypatch):
    """Run the command in a folder with program.py."""
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("program_program", "program_other", "neighbour_of_mine"):
        monkeypatch.setitem(sys.modules, name, None)  # so that they are forgotten afterwards
        del sys.modules[name]
    return lambda *arguments: CliRunner().invoke(cli.main, arguments)


def test_draw_writes_a_picture_that_has_the_program_s_names(say, tmp_path):
    result = say("draw", "program.py:loss", "-o", "loss.dot")
    assert (result.exit_code, printed(result)) == (0, "Wrote loss.dot.\n")
    dot = (tmp_path / "loss.dot").read_text()
    assert all(name in dot for name in ("gain", "Y_hat", "0.weight", "2.bias"))


def test_draw_makes_an_svg_of_the_function_s_name(say, tmp_path):
    pytest.importorskip("pygraphviz", reason="needs pygraphviz: pip install 'chainrule[viz]'")
    result = say("draw", "program.py:loss", "--mode", "both", "--depth", "1")
    assert (result.exit_code, printed(result)) == (0, "Wrote loss.svg.\n")
    assert "<svg" in (tmp_path / "loss.svg").read_text()


@pytest.mark.parametrize("function", ["trained", "outputs", "constant", "of_default", "nameless", "part"])
def test_draw_takes_any_tensor(say, function):
    assert say("draw", f"program.py:{function}", "-o", "a.dot").output == "Wrote a.dot.\n"


@pytest.mark.parametrize("function", ["nameless", "part"])
def test_what_has_no_name_is_called_program(say, function):
    pytest.importorskip("pygraphviz", reason="needs pygraphviz: pip install 'chainrule[viz]'")
    assert say("draw", f"program.py:{function}").output == "Wrote program.svg.\n"


def test_modes_differ(say, tmp_path):
    for mode in ("forward", "backward", "both"):
        assert say("draw", "program.py:loss", "-o", f"{mode}.dot", "--mode", mode).exit_code == 0
    assert len({(tmp_path / f"{mode}.dot").read_text() for mode in ("forward", "backward", "both")}) == 3


@pytest.mark.parametrize("function", ["loss", "trained", "outputs"])
def test_page_writes_one_file(say, tmp_path, function):
    pytest.importorskip("pygraphviz", reason="needs pygraphviz: pip install 'chainrule[viz]'")
    result = say("page", f"program.py:{function}")
    assert (result.exit_code, result.output) == (0, f"Wrote {function}.html.\n")
    html = (tmp_path / f"{function}.html").read_text()
    assert html.startswith("<!doctype html>") and "0.weight" in html


def test_why_tells_the_worst_and_each(say):
    assert "the gradients of its 5 leaves are finite" in say("why", "program.py:loss").output
    assert "the gradients of its 5 leaves are finite" in say("why", "program.py:trained").output
    for name in ("net.0.weight", "0.weight", "gain"):
        result = say("why", "program.py:loss", name)
        assert result.exit_code == 0 and f"{name.removeprefix('net.')}.grad is fine" in result.output
    assert "lost.grad is None" in say("why", "program.py:loss", "lost").output
    assert say("why", "program.py:constant").exit_code == 0


@pytest.mark.parametrize("command", ["draw", "page", "why"])
@pytest.mark.parametrize(
    "program, code, message",
    [
        ("program.py", 2, "'program.py' names no function; write FILE.py:FUNCTION, a function that returns the loss"),
        ("program.py:", 2, "'program.py:' names no function"),
        ("nowhere.py:loss", 2, "there is no file nowhere.py (looked in "),
        ("program.py:los", 2, "program.py has no function 'los'; it has loss"),
        ("program.py:X", 2, "program.py has no function 'X'; it has loss, trained, outputs, constant, of"),
        ("notes.txt:loss", 2, "notes.txt is no Python file: its name must end in .py"),
        ("program.py:of", 1, "Error: of() needs size, but it is called without arguments; give them defaults, or"),
        ("program.py:number", 1, "Error: number() returned float; let it return the tensor whose graph is wanted"),
    ],
)
def test_what_cannot_be_run_is_said(say, tmp_path, command, program, code, message):
    (tmp_path / "notes.txt").write_text("loss")
    result = say(command, program)
    assert (result.exit_code, "Traceback" in result.output) == (code, False), result.output
    assert message in result.output


def test_why_asks_a_number(say):
    result = say("why", "program.py:outputs")
    message = "outputs() returned a tensor of shape (4, 1), but gradients are those of a number; let it return a number"
    assert result.exit_code == 1 and message in result.output


def test_why_knows_no_such_tensor(say):
    result = say("why", "program.py:loss", "net.0.weigth")
    there = "there are net.0.weight, net.2.weight, net.0.bias\n"
    assert (result.exit_code, result.output) == (1, f"Error: there is no tensor 'net.0.weigth'; {there}")


def test_draw_says_what_it_can_write(say):
    result = say("draw", "program.py:loss", "-o", "loss.gif")
    assert result.exit_code == 1 and "Error: save: received the name 'loss.gif'" in result.output


def test_an_error_in_the_program_is_told_from_there_on(say, tmp_path):
    (tmp_path / "other.py").write_text("import chainrule as cr\n\nx = cr.ones(2) @ cr.ones(3)\n")
    for program, line in (("program.py:broken", "return net(X.reshape(8))"), ("other.py:loss", "x = cr.ones(2)")):
        result = say("draw", program)
        first, where, code, *rest = result.output.splitlines()
        assert result.exit_code == 1 and first == "Traceback (most recent call last):"
        assert program.partition(":")[0] in where and code.strip().startswith(line)
        assert any(one.startswith("ValueError") for one in rest)


def test_a_file_that_is_no_program_is_told_without_the_way_there(say, tmp_path):
    (tmp_path / "other.py").write_text("def f(:\n")
    result = say("why", "other.py:f")
    assert result.exit_code == 1 and result.output.lstrip().startswith("File ") and "SyntaxError" in result.output


def test_a_result_without_a_name_is_called_like_the_function(say, tmp_path):
    assert say("draw", "program.py:loss", "-o", "loss.mmd").exit_code == 0
    assert "loss" in (tmp_path / "loss.mmd").read_text()
    assert say("draw", "program.py:trained", "-o", "E.mmd").exit_code == 0
    assert "trained" not in (tmp_path / "E.mmd").read_text()  # there it is E


def test_why_calls_a_parameter_as_it_was_asked_for(say):
    for name in ("net.0.weight", "0.weight"):
        assert say("why", "program.py:loss", name).output.startswith(f"{name}.grad is fine")


def test_neighbours_can_be_imported_and_main_is_not_run(say, tmp_path):
    (tmp_path / "neighbour_of_mine.py").write_text("SCALE = 5.0\n")
    (tmp_path / "other.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\nimport chainrule as cr\n"
        "from neighbour_of_mine import SCALE\n\n\n@dataclass\nclass Settings:\n    scale: float = SCALE\n\n\n"
        "def loss():\n    w = cr.tensor(Settings().scale, requires_grad=True)\n    return w * w\n\n\n"
        "if __name__ == '__main__':\n    raise SystemExit('ran')\n"
    )
    assert "finite" in say("why", "other.py:loss").output


def test_as_a_user_runs_it(say, tmp_path):
    command = [sys.executable, "-m", "chainrule", "why", "program.py:loss", "lost"]
    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert text.startswith("lost.grad is None")
