"""`detect_anomaly(draw=…)`: what led to an error, as a picture, with the failing operation in red."""

import inspect
import os
import re
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd.state import state
from chainrule.autograd.viz.failure import IDLE

pytest.importorskip("graphviz")


def red(path):
    """(name, expression, file:line) of every operation drawn as failing in a DOT file."""
    return re.findall(r'class=failed id=\w+ tooltip="([^\n]+)\n([^\n]*)\n([^",]+),', path.read_text())


def drawn(path):
    """The names of all operations in a DOT file, failing ones included."""
    return re.findall(r'class=(?:operation|failed) id=s\d+ tooltip="([^\n]+)\n', path.read_text())


def here(offset=0):
    frame = inspect.currentframe().f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno + offset}"


def test_a_nan_in_forward(tmp_path):
    x = cr.tensor([1.0, -3.0], requires_grad=True)
    with pytest.raises(cr.AnomalyError) as error, cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        hidden = x * 2
        unrelated = cr.ones(2) * 7
        cr.log(hidden + 1)
    assert red(tmp_path / "graph.dot") == [("log", "cr.log(hidden + 1)", here(-1))]
    assert drawn(tmp_path / "graph.dot") == ["multiply", "add", "log"] and unrelated.tolist() == [7, 7]
    assert error.value.__notes__ == [f"the graph so far, with log in red: {tmp_path / 'graph.dot'}"]
    assert "detect_anomaly: the result of log holds" in (tmp_path / "graph.dot").read_text()


def test_a_nan_in_backward_shows_the_gradients_so_far(tmp_path):
    x = cr.tensor([4.0, 0.0], requires_grad=True)
    with pytest.raises(cr.AnomalyError), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        root = cr.sqrt(x * 2)
        loss = (root * 3).sum()
        loss.backward()
    assert red(tmp_path / "graph.dot") == [("sqrt", "cr.sqrt(x * 2)", here(-3))]
    assert sorted(drawn(tmp_path / "graph.dot")) == ["multiply", "multiply", "sqrt", "sum"]
    assert x.grad is None


def test_a_graph_recorded_before_the_block(tmp_path):
    x = cr.tensor([4.0, 0.0], requires_grad=True)
    loss = (cr.sqrt(x) * 3).sum()
    with pytest.raises(cr.AnomalyError), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        loss.backward()
    assert red(tmp_path / "graph.dot") == [("sqrt", "cr.sqrt(x)", here(-3))]
    assert sorted(drawn(tmp_path / "graph.dot")) == ["multiply", "sqrt", "sum"]


def test_shapes_that_do_not_broadcast(tmp_path):
    with pytest.raises(ValueError, match="do not broadcast"), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        hidden = cr.ones(2, 3) * 2
        hidden + cr.ones(4)
    assert red(tmp_path / "graph.dot") == [("add", "hidden + cr.ones(4)", here(-1))]
    assert drawn(tmp_path / "graph.dot") == ["multiply", "add"]


def test_an_operation_that_refuses_its_tensors_before_it_begins(tmp_path):
    with pytest.raises(ValueError, match="matmul"), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        hidden = cr.ones(2, 3) * 2
        hidden @ cr.ones(4, 5)
    assert red(tmp_path / "graph.dot") == [("matmul", "hidden @ cr.ones(4, 5)", here(-1))]
    assert drawn(tmp_path / "graph.dot") == ["multiply", "matmul"]


def test_a_layer_that_refuses_its_input(tmp_path):
    net = cr.nn.Sequential(cr.nn.Linear(3, 4), cr.nn.ReLU(), cr.nn.Linear(5, 2))
    with pytest.raises(ValueError, match="in_features=5"), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        net(cr.ones(2, 3))
    assert red(tmp_path / "graph.dot") == [("Linear", "net(cr.ones(2, 3))", here(-1))]
    assert sorted(drawn(tmp_path / "graph.dot")) == ["Linear", "linear", "relu"]


def test_a_second_backward_pass(tmp_path):
    x = cr.tensor([4.0, 1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="already used"), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        square = x * x
        square.sum().backward()
        (square * 3).sum().backward()
    assert red(tmp_path / "graph.dot") == [("multiply", "x * x", here(-3))]


def test_an_error_of_a_hook(tmp_path):
    def hook(gradient):
        raise ZeroDivisionError("in the hook")

    x = cr.ones(2, requires_grad=True)
    with pytest.raises(ZeroDivisionError), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        doubled = x * 2
        doubled.register_hook(hook)
        (doubled + 1).sum().backward()
    assert sorted(drawn(tmp_path / "graph.dot")) == ["add", "multiply", "sum"]


def test_a_loss_that_refuses_its_targets(tmp_path):
    scores = cr.ones(2, 3, requires_grad=True)
    with pytest.raises((ValueError, IndexError)), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        cr.cross_entropy(scores * 2, cr.tensor([0, 7]))
    assert [name for name, *_ in red(tmp_path / "graph.dot")] == ["cross_entropy"]
    assert drawn(tmp_path / "graph.dot") == ["multiply", "cross_entropy"]


def test_names_are_those_of_the_frames_that_were_running(tmp_path):
    def forward(features):
        weights = cr.ones(3)
        return features + weights

    data = cr.ones(2, 4)
    with pytest.raises(ValueError), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        forward(data * 1)
    source = (tmp_path / "graph.dot").read_text()
    assert "<B>weights</B>" in source and "<B>data</B>" in source


def test_an_error_of_the_users_own_draws_nothing(tmp_path):
    with pytest.raises(KeyError) as error, cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        cr.ones(2) * 2
        raise KeyError("mine")
    assert not (tmp_path / "graph.dot").exists() and not hasattr(error.value, "__notes__")


def test_an_error_caught_before_is_not_the_one_that_is_drawn(tmp_path):
    x = cr.tensor([-1.0], requires_grad=True)
    with pytest.raises(cr.AnomalyError), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        with pytest.raises(ValueError):
            cr.ones(2) + cr.ones(3)
        with pytest.raises(RuntimeError):
            (double := x * 2).backward()
            double.backward()
        with pytest.raises(ValueError):
            cr.ones(2, 3) @ cr.ones(2)
        cr.sqrt(x)
    assert [name for name, *_ in red(tmp_path / "graph.dot")] == ["sqrt"]


def test_a_picture_that_cannot_be_drawn_hides_no_error(tmp_path):
    with pytest.raises(cr.AnomalyError) as error, cr.detect_anomaly(draw=tmp_path / "graph.bmp"):
        cr.log(cr.zeros(1))
    (note,) = error.value.__notes__
    assert note.startswith("the graph could not be drawn: ") and "graph.bmp" in note


def test_nothing_is_written_without_an_error(tmp_path):
    x = cr.ones(2, requires_grad=True)
    with cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        (x * 2).sum().backward()
    assert list(tmp_path.iterdir()) == [] and x.grad.tolist() == [2, 2]


def test_as_a_decorator(tmp_path):
    @cr.detect_anomaly(draw=tmp_path / "graph.dot")
    def f(x):
        return cr.log(x)

    with pytest.raises(cr.AnomalyError):
        f(cr.zeros(1))
    assert [name for name, *_ in red(tmp_path / "graph.dot")] == ["log"]
    with np.errstate(divide="ignore"):
        assert np.isinf(cr.log(cr.zeros(1)).item())


def test_a_training_loop_under_it_keeps_no_used_graph(tmp_path):
    w = cr.ones(2, requires_grad=True)
    kept = []
    with cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        for _ in range(3):
            hidden = w * 2
            kept.append(weakref.ref(hidden.array))
            hidden.sum().backward()
        assert kept[0]() is None and kept[1]() is None


def test_an_svg_is_drawn(tmp_path):
    pytest.importorskip("pygraphviz")
    with pytest.raises(cr.AnomalyError), cr.detect_anomaly(draw=tmp_path / "graph.svg"):
        cr.log(cr.zeros(1))
    assert "#b91c1c" in (tmp_path / "graph.svg").read_text()


def test_a_long_evaluation_keeps_no_more_than_its_last_operations(tmp_path):
    seen = []
    with pytest.raises(cr.AnomalyError), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        tape = state.get().watch[0]
        with cr.no_grad():
            x = cr.ones(2)
            for _ in range(2 * IDLE + 10):
                x = x * 1.0
                seen.append(len(tape.steps))
            cr.log(x - 2)
    assert max(seen) == IDLE
    assert "cr.log(x - 2)" in (tmp_path / "graph.dot").read_text()


def test_a_hook_that_raises_fails_at_its_own_operation(tmp_path):
    def raises(gradient):
        raise ZeroDivisionError

    x = cr.ones(2, requires_grad=True)
    with pytest.raises(ZeroDivisionError), cr.detect_anomaly(draw=tmp_path / "graph.dot"):
        y = x * 2
        y.register_hook(raises)
        (y + 1).sum().backward()
    assert [name for name, *_ in red(tmp_path / "graph.dot")] == ["multiply"]
