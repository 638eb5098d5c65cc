"""Graphs as text for terminals."""

import re
import time

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd.viz.text import LABEL, LEVELS


def columns(shown):
    """The lines of a text as lists of cells."""
    head, *lines = str(shown).split("\n")
    starts = [0, *(m.start() for m in re.finditer(r"(?<=  )\S", head))]
    return [[line[a:b].rstrip() for a, b in zip(starts, [*starts[1:], None])] for line in lines]


@pytest.fixture
def micro():
    a = cr.tensor(2.0, requires_grad=True)
    b = cr.tensor(-3.0, requires_grad=True)
    e = a * b
    d = e + 10
    return a, b, e, d


SMALL = """\
                   shape  value  gradient
d = add            ()     4      1
├─ e = multiply    ()     -6     1
│  ├─ a: input     ()     2      -3
│  └─ b: input     ()     -3     2
└─ 10              ()     10"""


def test_a_small_program_line_by_line(micro):
    a, b, e, d = micro
    lines = cr.viz.text(d, mode="both").split("\n")
    assert [line.split() for line in lines] == [line.split() for line in SMALL.split("\n")]
    assert {line.index("()") for line in lines[1:]} == {lines[0].index("shape")}


def test_a_gradient_that_is_not_there_yet_is_no_zero(micro):
    a, b, e, d = micro
    before = columns(cr.viz.text(d))
    assert [row[3] for row in before[:4]] == ["–"] * 4 and before[4][3] == ""
    assert cr.viz.text(d).endswith("\n(– : gradient not computed yet)")
    assert a.grad is None
    d.backward()
    after = {row[0].strip("│├└─ "): row[3] for row in columns(cr.viz.text(d)) if len(row) == 4}
    assert after["a: input"] == "-3" and after["b: input"] == "2"


def test_both_walks_without_touching_any_grad(micro):
    a, b, e, d = micro
    assert columns(cr.viz.text(d, mode="both"))[2][3] == "-3"
    assert a.grad is None and b.grad is None


def test_what_is_used_twice_is_printed_once():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    z = (y * y + (x.sin() * 2) * y).sum()
    labels = [row[0] for row in columns(cr.viz.text(z))]
    assert sum("exp" in label for label in labels) == 1
    assert [label.strip("│├└─ ") for label in labels if label.endswith("↑")] == ["y ↑", "x ↑", "y ↑"]


def test_nameless_values_that_are_used_twice_are_numbered():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    pair = [x.exp()]
    z = (pair[0] * pair[0]).sum()
    labels = [row[0].strip("│├└─ ") for row in columns(cr.viz.text(z))]
    assert "exp #1" in labels and "exp #1 ↑" in labels


def test_results_of_one_operation_share_its_inputs():
    x = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with cr.viz.record():
        u, v = x.split([1, 2])
        z = u.sum() + v.sum()
    labels = [row[0].strip("│├└─ ") for row in columns(cr.viz.text(z))]
    assert "u = split[0]" in labels and "v = split[1] (inputs ↑)" in labels
    assert labels.count("x: input") == 1


def test_modules_parameters_and_cuts_are_named():
    net = cr.nn.Sequential(cr.nn.Linear(2, 3), cr.nn.Tanh())
    with cr.viz.record():
        h = net(cr.ones(1, 2))
        mask = h.detach() > 0
        loss = (h * mask).sum()
    shown = str(cr.viz.text(loss))
    assert "tanh in Sequential.1" in shown and "0.weight: parameter" in shown
    assert "cut by detach" in shown and "mask = greater" in shown


def test_a_fused_operation_names_its_parts():
    net = cr.nn.Sequential(cr.nn.Conv2d(1, 2, 3), cr.nn.ReLU(), cr.nn.MaxPool2d(2))
    labels = str(cr.viz.text(net(cr.ones(1, 1, 6, 6)).sum()))
    assert "conv2d + relu + max_pool" in labels


def test_columns_are_chosen(micro):
    *_, d = micro
    shown = cr.viz.text(d, show=("saved", "cost", "lines"))
    head = str(shown).split("\n")[0].split("  ")
    assert [h.strip() for h in head if h.strip()] == ["shape", "kept for backward", "cost", "source"]
    rows = columns(shown)
    assert rows[1][2] == "x 4 B, y 4 B" and rows[1][3] == "1 FLOP, 12 B" and rows[1][4].endswith("e = a * b")


def test_one_column_is_named_alone(micro):
    assert cr.viz.text(micro[-1], show="values") == cr.viz.text(micro[-1], show=("values",))


def test_it_shows_itself_without_print(micro):
    *_, d = micro
    assert repr(cr.viz.text(d)) == str(cr.viz.text(d))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": "backward"}, "text: received mode='backward'; it shows 'forward' or 'both'"),
        ({"show": ("value",)}, "text: received show='value' among the columns; there are values, grads, cost, saved"),
    ],
)
def test_errors_say_what_there_is(micro, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cr.viz.text(micro[-1], **options)


def test_both_says_what_to_do_about_a_released_graph(micro):
    *_, d = micro
    d.backward()
    with pytest.raises(RuntimeError, match="released by an earlier backward pass"):
        cr.viz.text(d, mode="both")


def test_no_tensor():
    with pytest.raises(TypeError, match="received float; pass the tensor whose graph is wanted"):
        cr.viz.text(3.0)


@pytest.mark.parametrize("name", ["a\x1b[31mred", "two\nlines", "x" * 10_000, "名前", "e\u0301", "🙂"])
def test_names_stay_on_their_line(name):
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    shown = str(cr.viz.text((w * 2).sum(), names={name: w}))
    lines = shown.split("\n")
    assert len(lines) == 6 and "\x1b" not in shown and max(map(len, lines)) < 2 * LABEL + 40


def test_wide_characters_keep_the_columns_straight():
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    lines = str(cr.viz.text((w * 2).sum(), names={"名前": w})).split("\n")
    named = next(line for line in lines if "名前" in line)
    assert named.index("(2,)") == lines[0].index("shape") - 2  # two characters of two columns each


def test_deep_graphs_go_on_at_the_margin():
    v = cr.tensor(1.0, requires_grad=True)
    for _ in range(3000):
        v = v + 1
    begun = time.perf_counter()
    lines = str(cr.viz.text(v)).split("\n")
    assert time.perf_counter() - begun < 20
    assert max(map(len, lines)) < 3 * LEVELS + LABEL + 60
    assert sum("↓" in line for line in lines) == 3000 // LEVELS
    assert sum("= add" in line for line in lines) == 3000
    assert sum(": input" in line for line in lines) == 1


def test_values_are_those_of_the_engine():
    rng = np.random.default_rng(0)
    x = cr.tensor(rng.normal(size=(3, 4)), requires_grad=True)
    y = (x.tanh() ** 2).mean()
    row = next(row for row in columns(cr.viz.text(y, mode="both")) if "tanh" in row[0])
    expected = np.tanh(x.detach().numpy())
    for cell, array in ((row[2], expected), (row[3], expected / 6)):
        assert [float(text) for text in cell.split(" … ")] == pytest.approx([array.min(), array.max()], rel=1e-3)


def test_numbers_that_backward_does_not_keep_are_read_from_the_source():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    scale = cr.tensor([4.0, 5.0])
    y = ((3 - (x + 10)) - scale).sum()
    rows = {row[0].strip("│├└─ "): row[2] for row in columns(cr.viz.text(y)) if len(row) == 4}
    assert rows["add"] == "[11, 12]" and rows["10"] == "10" and rows["3"] == "3"
    assert "subtract" in rows and rows["scale"] == "?"  # a name says no number
