"""The picture of a program: boxes, arrows, frames, folding and words; files, engines and hostile names."""

import re
import sys
import time
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, viz
from chainrule.autograd.viz.program import Program

pytest.importorskip("graphviz")

HOSTILE = [
    "<b>bold</b>",
    '<script>alert("x")</script>',
    '"]; evil [label="',
    "back\\slash\\",
    "a\nb",
    "&amp;",
    "\\N",
    "<",
    "{}|",
    "🙂" * 3,
    "\x00\x1b\ud800",
    "long " * 2000,
]


def titles(picture, kind=None):
    """Of each box (of a kind): its title, as a reader sees it."""
    return [title_of(box) for box in picture.sketch.boxes.values() if kind in (None, box.kind)]


def title_of(box):
    label = label_of(box)
    return re.sub(r"<[^>]*>", "", re.search(r"<B>.*?</B>( × [\d,]+)?", label)[0])


def label_of(box):
    return LABELS[box]


LABELS: dict = {}  # box: its label, of the pictures of this test


@pytest.fixture(autouse=True)
def _forget():
    LABELS.clear()


def drawn(t, **options):
    """A picture whose labels are known by box, read from its DOT text."""
    picture = viz.draw(t, **{"names": sys._getframe(1).f_locals, **options})
    found = dict(re.findall(r"^\t(\w+) \[label=<([^\n]*)> class=", picture.source, re.M))
    LABELS.update({box: found[key] for key, box in picture.sketch.boxes.items()})
    return picture


def arrows(picture):
    return sorted((title_of(a.tail), title_of(a.head)) for a in picture.sketch.arrows)


def dot_arrows(picture):
    return re.findall(r"^\t(\w+) -> (\w+)", picture.source, re.M)


def words(label):
    return " ".join(re.sub(r"<[^>]*>", " ", label).split())


# ---- boxes and arrows ------------------------------------------------------------------------------------------------


def test_tensors_and_operations_are_distinct_boxes():
    w, x = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor([3.0, 4.0], requires_grad=True)
    h = w * x
    y = (h + h).sum()
    picture = drawn(y)
    assert sorted(titles(picture, "operation")) == ["add", "multiply", "sum"]
    assert sorted(titles(picture, "parameter")) == ["w", "x"]
    assert sorted(titles(picture, "value")) == ["add", "h"] and titles(picture, "result") == ["y"]
    assert arrows(picture) == sorted(
        [("w", "multiply"), ("x", "multiply"), ("multiply", "h"), ("h", "add"), ("h", "add"), ("add", "add")]
        + [("add", "sum"), ("sum", "y")]
    )
    assert len(dot_arrows(picture)) == 8


def test_a_leaf_used_twice_has_one_box_and_a_number_is_its_own_name():
    x = cr.ones(2, requires_grad=True)
    picture = drawn(x * x + 3)
    assert titles(picture, "parameter") == ["x"] and titles(picture, "constant") == ["3"]


def test_several_outputs_constants_and_leaves():
    x = cr.ones(2, 3, requires_grad=True)
    zero = cr.zeros(4)
    double = x * 2
    picture = drawn([double, x, zero])
    assert sorted(titles(picture)) == ["2", "double", "multiply", "x", "zero"]
    values, order = cr.sort(cr.ones(3, requires_grad=True))
    assert titles(drawn([values, order]), "result") == ["values"]


def test_a_value_box_holds_name_shape_dtype_value_and_gradient():
    w = cr.tensor([1.5, -2.0], requires_grad=True)
    loss = (w * w).sum()
    before = {title_of(box): words(label_of(box)) for box in drawn(loss).sketch.boxes.values()}
    assert before["w"] == "w 2 float32 = 1.5 -2 ∇ –" and before["loss"] == "loss float32 = 6.25 ∇ –"
    loss.backward()
    after = {title_of(box): words(label_of(box)) for box in drawn(loss).sketch.boxes.values()}
    assert after["w"] == "w 2 float32 = 1.5 -2 ∇ 3 -4"


def test_not_computed_yet_differs_from_zero():
    w = cr.tensor([1.0], requires_grad=True)
    loss = (w * 0).sum()
    mark = 'STYLE="dashed"'
    boxes = drawn(loss).sketch.boxes.values()
    assert all(mark in label_of(box) for box in boxes if box.kind in ("parameter", "result"))
    loss.backward()
    (box,) = [box for box in drawn(loss).sketch.boxes.values() if box.kind == "parameter"]
    assert mark not in label_of(box) and words(label_of(box)).endswith("∇ 0")


def test_a_box_tells_its_line_but_not_the_folder():
    w = cr.ones(2, requires_grad=True)
    source = drawn((w * 5).sum()).source
    assert "multiply\nw * 5\ntest_draw.py:" in source
    assert __file__ not in source


def test_larger_arrays_are_a_range_and_a_heat_strip():
    w = cr.tensor(np.linspace(-1, 3, 400, dtype="float32").reshape(20, 20), requires_grad=True)
    picture = drawn(w.sum())
    label = label_of(next(box for box in picture.sketch.boxes.values() if box.kind == "parameter"))
    assert "-1 … 3" in words(label)
    colours = re.findall(r'BGCOLOR="#(\w{6})" WIDTH="5"', label)
    assert len(colours) == 60  # three rows of twenty
    blue = [c for c in colours if int(c[4:], 16) > int(c[:2], 16)]
    red = [c for c in colours if int(c[4:], 16) < int(c[:2], 16)]
    assert 0 < len(blue) < len(red)  # a quarter is below zero


def test_edges_carry_shapes():
    x = cr.ones(4, 3)
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU())
    assert re.search(r'-> \w+ \[label=< 4 × 3>', drawn(net(x).sum(), depth=0).source)


def test_colours_by_kind():
    x, net = cr.ones(4, 3), nn.Linear(3, 1)
    y = net(x).sum() * 2
    kinds = {box.kind for box in drawn(y).sketch.boxes.values()}
    assert kinds == {"parameter", "input", "constant", "value", "operation", "result"}
    source = drawn(y).source
    for colour in ("#dbeafe", "#dcfce7", "#f1f5f9", "#fef9c3", "#ede9fe"):
        assert colour in source


# ---- modules, depth, expand ------------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return x + self.second(self.first(x).relu())


class Net(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.stem, self.body = nn.Linear(4, 4), nn.Sequential(*[Block() for _ in range(blocks)])

    def forward(self, x):
        return self.body(self.stem(x))


def frame_titles(picture):
    found = re.findall(r"subgraph cluster_\d+ \{\s*[^\n]*?label=<(.*)> labelloc", picture.source)
    return [words(label) for label in found]


def test_depth_opens_levels_of_modules():
    net, x = Net(1), cr.ones(2, 4)
    y = net(x).sum()
    assert titles(drawn(y, depth=0), "module") == ["Net"]
    assert titles(drawn(y, depth=1), "module") == ["stem", "body"]
    assert frame_titles(drawn(y, depth=1)) == ["Net"]
    assert titles(drawn(y, depth=2), "module") == ["0"]
    everything = drawn(y, depth=9)
    assert not titles(everything, "module")
    inner = ["0 Block", "first Linear", "second Linear"]
    assert frame_titles(everything) == ["Net", "stem Linear", "body Sequential", *inner]


def test_expand_decides_before_depth():
    net, x = Net(2), cr.ones(2, 4)
    y = net(x).sum()
    one = drawn(y, depth=1, fold=False, expand=lambda block: True if block.path == "Net.body.1" else None)
    assert titles(one, "module") == ["stem", "0", "first", "second"]
    closed = drawn(y, depth=9, expand=lambda block: False if block.kind == "Block" else None, fold=False)
    assert titles(closed, "module") == ["0", "1"]


def test_a_closed_module_tells_its_parameters_and_result():
    net, x = nn.Linear(3, 2), cr.ones(4, 3)
    picture = drawn(net(x).sum(), depth=0)
    (label,) = [label_of(box) for box in picture.sketch.boxes.values() if box.kind == "module"]
    assert words(label).startswith("Linear weight 2 × 3 bias 2 = ")
    big = Net(3)
    picture = drawn(big(cr.ones(2, 4)).sum(), depth=0)
    (label,) = [label_of(box) for box in picture.sketch.boxes.values() if box.kind == "module"]
    assert "140 parameters in 14 tensors" in words(label)  # 7 layers of 4·4 + 4


def test_the_automatic_depth_stays_readable():
    for blocks in (1, 2, 6, 40):
        net, x = Net(blocks), cr.ones(2, 4)
        assert len(drawn(net(x).sum()).sketch.boxes) <= 26
    assert not titles(drawn(nn.Linear(2, 2)(cr.ones(1, 2)).sum()), "module")


# ---- folding ---------------------------------------------------------------------------------------------------------


def test_repeated_blocks_fold():
    net, x = Net(12), cr.ones(2, 4)
    y = net(x).sum()
    folded = drawn(y, depth=2, fold=True)
    assert titles(folded, "module") == ["0 … 11 × 12"]
    loops = [a for a in folded.sketch.arrows if a.kind == "loop"]
    assert len(loops) == 1 and loops[0].count == 12 and "<B>× 12</B>" in folded.source
    assert titles(drawn(y, depth=2, fold=False), "module") == [str(i) for i in range(12)]
    opened = drawn(y, depth=3, fold=True)
    assert "0 … 11 × 12, the first is shown Block" in frame_titles(opened)
    assert sorted(titles(opened, "module")) == ["first", "second"]


def lstm(steps=5):
    cell, x = nn.LSTMCell(3, 4), cr.randn(steps, 2, 3)
    h, c = cr.zeros(2, 4), cr.zeros(2, 4)
    for t in range(steps):
        h, c = cell(x[t], (h, c))
    return (h**2).mean(), cell


def test_a_recurrent_net_rolled_and_unrolled():
    loss, cell = lstm()
    unrolled = viz.draw(loss, names={"cell": cell})
    assert [box.kind for box in unrolled.sketch.boxes.values()].count("module") == 5
    (row,) = re.findall(r"\{rank=same; (.*) \[style=invis", unrolled.source)
    assert len(row.split(" -> ")) == 5  # time runs to the right
    rolled = viz.draw(loss, names={"cell": cell}, fold=True, depth=0)
    (box,) = [box for box in rolled.sketch.boxes.values() if box.kind == "module"]
    assert box.count == 5
    loops = [a for a in rolled.sketch.arrows if a.kind == "loop"]
    assert len(loops) == 2 and all(a.tail is a.head is box and a.count == 5 for a in loops)  # h and c
    inputs = [box for box in rolled.sketch.boxes.values() if box.kind == "input"]
    assert sorted(box.count for box in inputs) == [1, 1, 5]  # h, c, and five times x


def test_a_loop_of_cells_recorded_gate_by_gate_rolls_too():
    with viz.record():
        loss, cell = lstm()
    rolled = viz.draw(loss, names={"cell": cell}, fold=True)
    assert any(a.kind == "loop" for a in rolled.sketch.arrows) and len(rolled.sketch.boxes) < 26
    assert len([b for b in viz.draw(loss, fold=False, depth=0).sketch.boxes.values() if b.kind == "module"]) == 5


def test_twins_are_paired_only_if_they_are_alike():
    a, b = cr.ones(2, requires_grad=True), cr.full((2,), 2.0, requires_grad=True)
    y = a
    for first, second in ((a, b), (b, a), (a, b), (b, a)):
        y = (y * first).tanh() + second
    picture = drawn(y.sum(), fold=True)
    assert sorted(titles(picture, "parameter")) == ["a", "b"]


def test_nested_repetitions():
    x = cr.ones(2, requires_grad=True)
    y = x
    for _ in range(4):
        for _ in range(3):
            y = y.tanh()
        y = y * 2.0
    picture = drawn(y.sum(), fold=True)
    assert titles(picture, "operation") == ["tanh × 3", "multiply", "sum"]
    assert sorted(a.count for a in picture.sketch.arrows if a.kind == "loop") == [3, 4]
    assert "× 4, the first is shown" in frame_titles(picture)


def test_shape_only_operations_can_be_hidden():
    x = cr.ones(2, 3, requires_grad=True)
    y = (x.reshape(6) * 2).reshape(3, 2).sum()
    assert titles(drawn(y), "operation").count("reshape") == 2
    hidden = drawn(y, views=False)
    assert sorted(titles(hidden, "operation")) == ["multiply", "sum"]
    assert ("multiply", "sum") in [(a, b) for a, b in arrows(hidden)] and ("x", "multiply") in arrows(hidden)
    vectors = cr.ones(3, requires_grad=True) @ cr.ones(3)  # reshapes both, multiplies, and reshapes the result
    assert titles(drawn(vectors), "operation") == ["matmul"] and titles(drawn(vectors), "result") == ["vectors"]
    assert titles(drawn(vectors, views=True), "operation").count("reshape") >= 2
    result = x.reshape(6)
    assert titles(drawn(result, views=False), "operation") == ["reshape"]  # the result itself stays


# ---- modes and what is shown -----------------------------------------------------------------------------------------


def test_backward_draws_gradients_and_leaves_none_behind():
    a, b = cr.tensor(2.0, requires_grad=True), cr.tensor(-3.0, requires_grad=True)
    y = a * b + 1
    backward = drawn(y, mode="backward")
    assert a.grad is None and b.grad is None
    labels = re.findall(r"dir=back.*?", backward.source)
    assert len(labels) == 5  # two into a and b, two round the product, one from the result; none to the constant
    assert "∇ -3" in backward.source and "∇ 2" in backward.source
    assert "dir=back" not in drawn(y).source
    both = drawn(y, mode="both")
    assert len(dot_arrows(both)) == 5 + 6


def test_saved_and_cost():
    x, w = cr.ones(4, 3), cr.ones(3, 2, requires_grad=True)
    y = (x @ w).sum()
    boxes = drawn(y, show=("saved", "cost")).sketch.boxes.values()
    label = {title_of(b): words(label_of(b)) for b in boxes if b.kind != "value"}
    assert "keeps x 4 × 3: 48 B" in label["matmul"] and "48 FLOP, moves 104 B" in label["matmul"]
    assert "keeps no arrays: 0 B" in label["sum"]
    assert "keeps 1 arrays: 48 B" in drawn(y, show=("saved",)).source  # the sum of all, below
    assert "=" not in label["w"] and "∇" not in label["w"]
    plain = {title_of(b): words(label_of(b)) for b in drawn(y, show=()).sketch.boxes.values() if b.kind != "value"}
    assert plain["matmul"] == "matmul" and plain["w"] == "w 3 × 2 float32"


def test_what_left_the_graph_is_drawn_dashed():
    with viz.record():
        w = cr.ones(2, requires_grad=True)
        y = (w * 2).detach() * w
    source = drawn(y.sum()).source
    assert re.search(r'label=" detach" style=dashed|style=dashed.*detach|detach.*style=dashed', source)


def test_a_failing_operation_is_red_and_the_note_stands_below():
    w = cr.ones(2, requires_grad=True)
    y = (w * 2).sum()
    program = Program(y)
    picture = viz.draw(program, failed=program.steps[0], note="the first NaN <here>")
    assert [box.failed for box in picture.sketch.boxes.values() if box.kind == "operation"] == [True, False]
    assert "#fee2e2" in picture.source and "the first NaN &lt;here&gt;" in picture.source
    assert [box.failed for box in viz.draw(y, failed=y.grad_fn).sketch.boxes.values() if box.kind == "operation"] == [
        False,
        True,
    ]


# ---- size ------------------------------------------------------------------------------------------------------------


def test_ten_thousand_nodes_without_modules():
    x = cr.ones(3, requires_grad=True)
    y = x
    for _ in range(5000):
        y = y * 1.0001
        y = y.tanh()
    loss = y.sum()
    began = time.perf_counter()
    picture = drawn(loss, depth=1)
    assert picture.source and time.perf_counter() - began < 5
    assert len(picture.sketch.boxes) <= 10 and any(a.count == 5000 for a in picture.sketch.arrows)


def test_ten_thousand_nodes_that_do_not_repeat():
    draws = np.random.default_rng(0).integers(0, 4, 10_000)
    y = cr.ones(3, requires_grad=True)
    for kind in draws:
        if kind == 0:
            y = y * 0.5
        elif kind == 1:
            y = y.tanh()
        elif kind == 2:
            y = y + 0.1
        else:
            y = y.sin()
    began = time.perf_counter()
    picture = drawn(y.sum(), depth=1)
    assert picture.source and time.perf_counter() - began < 5
    assert len(picture.sketch.boxes) <= 40
    steps = {step for box in picture.sketch.boxes.values() if box.kind == "lines" for step in box.of.steps}
    assert len(steps) >= 10_000


def test_ten_thousand_nodes_in_modules():
    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([Block() for _ in range(20)])

        def forward(self, x):
            for _ in range(120):
                for layer in self.layers:
                    x = layer(x)
            return x

    net, x = Deep(), cr.ones(1, 4)
    loss = net(x).sum()
    began = time.perf_counter()
    picture = drawn(loss, depth=1)
    svg_ready = picture.source
    assert svg_ready and time.perf_counter() - began < 5
    assert len(picture.sketch.program.steps) > 9_000 and len(picture.sketch.boxes) <= 26


# ---- hostile names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_text(name, tmp_path):
    pytest.importorskip("pygraphviz")
    w = cr.ones(2, requires_grad=True)
    with cr.autograd.scope(name), cr.autograd.scope("inner"):
        y = (w * 2).tanh().sum()
    for made in (
        viz.draw(y, names={name: w}),
        viz.draw(y, names={name: w}, depth=0),
        viz.draw(w, names={name: w}, note=name),
    ):
        root = ET.fromstring(made.svg)  # well-formed
        assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
        seen = "".join("".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text"))
        if len(name) < 40 and "\ud800" not in name:
            assert "".join(name.split()) in "".join(seen.split())
        assert len(made.svg) < 60_000  # a long name is cut
        assert not re.search(r'"[^"\n]*<script', made.mermaid) and len(made.mermaid) < 5_000


def test_a_plain_parser_reads_what_mermaid_is_given():
    w = cr.ones(2, requires_grad=True)
    text = viz.draw((w * 2).sum(), names={'"]; click x "javascript:alert(1)': w}).mermaid
    for line in text.splitlines()[1:]:
        assert re.fullmatch(
            r'\s*(\w+(\(\[|\[\[|\[)"[^"]*"(\]\)|\]\]|\]):::\w+|\w+ (-->|==>|-\.->)(\|"[^"]*"\|)? \w+'
            r'|classDef .*|subgraph \w+\["[^"]*"\]|end)',
            line,
        ), line


# ---- files and engines -----------------------------------------------------------------------------------------------


def test_files(tmp_path):
    y = (cr.ones(2, requires_grad=True) * 2).sum()
    picture = viz.draw(y)
    for name, text in (("a.dot", picture.source), ("a.gv", picture.source), ("a.mmd", picture.mermaid)):
        path = picture.save(tmp_path / name)
        assert path == tmp_path / name and path.read_text(encoding="utf-8") == text
    pytest.importorskip("pygraphviz")
    for name, start in [("a.svg", b"<?xml"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")]:
        assert picture.save(str(tmp_path / name)).read_bytes().startswith(start)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dot", "a.gv", "a.mmd", "a.pdf", "a.png", "a.svg"]


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    picture = viz.draw(cr.ones(2, requires_grad=True) * 2)
    path = picture.save(tmp_path / "new" / "folder" / "a.dot")
    assert path.exists()

    def interrupted(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        picture.save(tmp_path / "new" / "folder" / "b.dot")
    assert [p.name for p in path.parent.iterdir()] == ["a.dot"]


def test_a_program_whose_beginning_was_not_recorded():
    x = cr.ones(2, requires_grad=True)
    with viz.record():
        y = x * 2
    with viz.record() as recording:
        z = (y * 3).sum()
    picture = viz.draw(Program.of(recording.steps), mode="both")
    assert [b.of.name for b in picture.sketch.boxes.values() if b.kind == "operation"] == ["multiply", "sum"]
    assert picture.source and z.shape == ()


def test_refusals(tmp_path):
    y = cr.ones(2, requires_grad=True) * 2
    with pytest.raises(ValueError, match=r"save: received the name 'a\.jpeg'; it must end in \.svg, \.png"):
        viz.draw(y).save(tmp_path / "a.jpeg")
    for wrong in (3.0, [y, np.ones(2)]):
        with pytest.raises(TypeError, match="draw: received (float|ndarray); pass the tensor whose graph is wanted"):
            viz.draw(wrong)
    with pytest.raises(ValueError, match="draw: received mode 'sideways'; it must be forward, backward or both"):
        viz.draw(y, mode="sideways")
    with pytest.raises(ValueError, match="draw: received show 'money'; what can be shown is values, grads, saved"):
        viz.draw(y, show=("values", "money"))
    y.sum().backward()
    with pytest.raises(RuntimeError, match="released by an earlier backward pass"):
        viz.draw(y, mode="backward")
    assert not list(tmp_path.iterdir())


def test_without_an_engine_there_is_text_and_a_line_that_says_what_to_install(tmp_path, monkeypatch):
    picture = viz.draw(cr.ones(2, requires_grad=True) * 2)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"SVG pictures need Graphviz's layout engine.*'chainrule\[viz\]'"):
        picture.save(tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())
    shown = picture._repr_mimebundle_()
    assert shown.keys() == {"text/plain"}
    line, _, text = shown["text/plain"].partition("\n\n")
    assert "pip install 'chainrule[viz]'" in line and "\n" not in line
    assert text == f"{picture.source}\n{picture.mermaid}"
    assert picture.save(tmp_path / "a.mmd").read_text().startswith("flowchart TB")
    monkeypatch.setitem(sys.modules, "graphviz", None)
    with pytest.raises(ImportError, match=r"drawing needs the graphviz package.*pip install 'chainrule\[viz\]'"):
        assert viz.draw(cr.ones(2)).source
    shown = viz.draw(cr.ones(2))._repr_mimebundle_()["text/plain"]
    assert "needs the graphviz package" in shown and "flowchart TB" in shown


def test_a_dot_on_the_path_will_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    fake = tmp_path / "dot"
    fake.write_text("#!/bin/sh\ncat > /dev/null; echo '<svg>by dot</svg>'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    picture = viz.draw(cr.ones(2, requires_grad=True) * 2)
    assert picture.save(tmp_path / "a.svg").read_text() == "<svg>by dot</svg>\n"
    fake.write_text("#!/bin/sh\ncat > /dev/null; echo 'no such format' >&2; exit 3\n")
    with pytest.raises(RuntimeError, match="dot could not draw the picture as PNG"):
        picture.save(tmp_path / "a.png")


def test_pictures_import_neither_engine_until_one_is_drawn():
    import subprocess

    code = "import chainrule.viz, sys; print([m for m in ('graphviz', 'pygraphviz', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# ---- columns ---------------------------------------------------------------------------------------------------------


def test_a_tall_picture_goes_on_in_a_second_column():
    x = cr.ones(2, requires_grad=True)
    y = x
    for name in ("sin", "cos", "tanh", "exp", "sigmoid", "relu", "square", "sqrt", "log1p", "neg"):
        y = getattr(y, name)()
    small = (x * 2).sum()
    turns = [line for line in drawn(y.sum(), fold=False).source.splitlines() if re.match(r"\t\w+ -> .*headport", line)]
    assert 1 <= len(turns) <= 3 and all("constraint=false" in line for line in turns)
    assert "headport" not in drawn(small).source


# ---- modules and notebooks -------------------------------------------------------------------------------------------


def test_a_module_is_drawn_before_it_has_run():
    net = Net(3)
    picture = viz.draw(net)
    assert [box.title for box in picture.sketch.boxes] == ["stem", "first … second"]  # three equal blocks are one
    assert picture.source.count("0 … 2 × 3") == 1 and "first … second × 2" in picture.source
    assert "in_features=4, out_features=4, bias=True" in picture.source
    assert [box.title for box in viz.draw(net, depth=0).sketch.boxes] == ["Net"]
    assert "140 parameters in 14 tensors" in viz.draw(net, depth=0).source
    for line in picture.mermaid.splitlines()[1:]:
        assert re.fullmatch(r'\s*(subgraph \w+\["[^"]*"\]|end|\w+\[\["[^"]*"\]\]:::module|classDef .*)', line), line
    pytest.importorskip("pygraphviz")
    ET.fromstring(viz.draw(cr.nn.models.ResNet(50)).svg)


def test_tensors_modules_nodes_and_pictures_show_themselves_in_notebooks(monkeypatch):
    pytest.importorskip("pygraphviz")
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * 3).sum()
    main = sys.modules["__main__"]
    monkeypatch.setattr(main, "my_weight", w, raising=False)
    for thing in (w, loss, cr.zeros(3, 3), nn.Linear(2, 2), loss.grad_fn, nn.Parameter(cr.ones(2))):
        shown = thing._repr_mimebundle_()
        assert shown["text/plain"] == repr(thing)
        ET.fromstring(shown["image/svg+xml"])
    assert "my_weight" in loss._repr_mimebundle_()["image/svg+xml"]
    assert viz.draw(loss)._repr_mimebundle_()["image/svg+xml"].endswith("</svg>\n")
    monkeypatch.setitem(sys.modules, "graphviz", None)
    assert loss._repr_mimebundle_() == {"text/plain": repr(loss)}


def test_a_kernel_for_several_operations_names_them():
    net, x = nn.models.LeNet5(), cr.randn(1, 1, 32, 32)
    with cr.no_grad():
        net(x)  # compiles outside
    y = net(x).sum()
    everything = titles(drawn(y, depth=9), "operation")
    assert "conv2d + tanh + avg_pool2d" in everything or {"conv2d", "tanh", "avg_pool2d"} <= set(everything)
    with viz.record():
        y = net(x).sum()
    assert {"conv2d", "tanh", "avg_pool2d", "linear"} <= set(titles(drawn(y, depth=9), "operation"))


# ---- whatever is drawn -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.0, np.nan, np.inf, -np.inf], "float32"),
        np.full((50, 3), np.nan),
        np.zeros((0, 3), "float32"),
        np.zeros((1, 0, 2)),
        np.array([[True, False]]),
        np.arange(-3, 3),
        np.ones((2, 3, 4, 5, 6), "float16"),
        np.array(7),
        np.array([1e30, -1e-30, 0.0]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_every_kind_of_array_has_a_box(array):
    pytest.importorskip("pygraphviz")
    t = cr.tensor(array)
    picture = viz.draw(t, names={"t": t})
    label = words(re.search(r"label=<(.*)> class=(?:input|constant)", picture.source)[1])
    assert label.startswith("t ") and str(array.dtype) in label
    ET.fromstring(picture.svg)


def random_program(seed):
    draws = np.random.default_rng(seed)
    values = [cr.ones(2, requires_grad=True), cr.tensor([0.5, 2.0])]
    for _ in range(draws.integers(5, 60)):
        one, other = (values[i] for i in draws.integers(max(0, len(values) - 5), len(values), 2))
        kind = draws.integers(0, 6)
        with cr.autograd.scope(f"part{draws.integers(0, 3)}"):
            if kind < 2:
                values.append(one * other)
            elif kind == 2:
                values.append((one + other).tanh())
            elif kind == 3:
                values.append(one.reshape(2, 1).reshape(2) - other)
            elif kind == 4:
                values += list(cr.stack([one, other]).unbind(0))
            else:
                values.append(one * 0.5)
    return sum(v.sum() for v in values[-4:])


@pytest.mark.parametrize("seed", range(8))
def test_every_operation_is_in_the_picture_and_every_arrow_has_ends(seed):
    loss = random_program(seed)
    program = Program(loss)
    for depth, fold, views in [(0, True, True), (0, False, True), (1, True, False), (9, False, False), (None,) * 3]:
        sketch = viz.draw(program, depth=depth, fold=fold, views=views).sketch
        shown = set()
        for box in sketch.boxes.values():
            if box.kind == "operation":
                shown.add(box.of)
            elif box.kind in ("module", "lines"):
                shown.update(box.of.steps)
        for step in program.steps:
            assert sketch.twin(step) in shown or (views is not True and step.name == "reshape")
        assert all(a.tail in sketch.boxes.values() and a.head in sketch.boxes.values() for a in sketch.arrows)
        into = {a.head for a in sketch.arrows}
        assert all(box in into for box in sketch.boxes.values() if box.kind in ("operation", "module", "result"))
    if seed < 3:
        pytest.importorskip("pygraphviz")
        for mode in ("forward", "backward", "both"):
            ET.fromstring(viz.draw(loss, mode=mode, show=("values", "grads", "saved", "cost")).svg)


def test_thousands_of_inputs_and_results_are_gathered():
    x = cr.ones(2, requires_grad=True)
    many = cr.cat([x * float(i) for i in range(3000)]).sum()
    leaves = cr.stack([cr.ones(2, requires_grad=True) for _ in range(3000)]).sum()
    parts = sum(part.sum() for part in cr.ones(3000, 2, requires_grad=True).unbind(0))
    for loss in (many, leaves, parts):
        began = time.perf_counter()
        picture = viz.draw(loss)
        assert len(picture.sketch.boxes) < 30 and len(picture.sketch.arrows) < 60
        assert picture.source and time.perf_counter() - began < 5
    assert max(box.count for box in viz.draw(leaves).sketch.boxes.values()) == 3000


def test_a_value_from_outside_the_program_is_a_leaf():
    with viz.record():
        w, x = cr.tensor([0.2, 0.3, 0.5]), cr.randn(4, 3, requires_grad=True)
        loss = cr.cross_entropy(x * 1.0, cr.tensor([0, 1, 2, 1]), w)
    for mode in ("forward", "backward", "both"):
        assert "cross_entropy" in viz.draw(loss, mode=mode).source


def test_deeply_nested_scopes_need_no_recursion():
    from contextlib import ExitStack

    w = cr.ones(2, requires_grad=True)
    with ExitStack() as stack:
        for i in range(2000):
            stack.enter_context(cr.autograd.scope(f"s{i}"))
        y = (w * 2).tanh()
    assert len(viz.draw(y).sketch.boxes) <= 26 and viz.draw(y).source
    assert len(viz.draw(y, depth=1).sketch.boxes) == 3
