"""The picture of a graph: its boxes, arrows and words, hostile names, and files."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import chainrule as cr
from chainrule import viz

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
]


def boxes(picture):
    """Box name -> label of a DOT text, by its own small parser."""
    return {
        m[1]: m[2] or m[3]
        for m in re.finditer(r'^\t(\w+) \[label=(?:"((?:[^"\\]|\\.)*)"|([\w.]+))', picture.source, re.M)
    }


def arrows(picture):
    return re.findall(r"^\t(\w+) -> (\w+)$", picture.source, re.M)


def test_boxes_and_arrows_of_a_small_graph():
    w, x = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor([3.0, 4.0], requires_grad=True)
    with cr.autograd.scope("net"), cr.autograd.scope("0"):
        h = w * x
    y = (h + h).sum()
    picture = viz.draw(y, names={"w": w})
    labels = boxes(picture)
    assert sorted(labels.values()) == sorted(["net.0\nmultiply\n2", "add\n2", "sum", "w\n2", "y\n2", "result"])
    of = {label: name for name, label in labels.items()}
    drawn = [(labels[a], labels[b]) for a, b in arrows(picture)]
    assert sorted(drawn) == sorted(
        [
            ("w\n2", "net.0\nmultiply\n2"),
            ("y\n2", "net.0\nmultiply\n2"),
            ("net.0\nmultiply\n2", "add\n2"),
            ("net.0\nmultiply\n2", "add\n2"),
            ("add\n2", "sum"),
            ("sum", "result"),
        ]
    )
    assert len(of) == 6
    kinds = {
        label: re.search(r'fillcolor="(#\w+)"', line)[1]
        for line in picture.source.split("\n\t")
        for label in labels.values()
        if f"{label}" in line and "fillcolor" in line
    }
    assert len(set(kinds.values())) == 3  # leaves, operations, results


def test_a_leaf_used_twice_has_one_box():
    x = cr.ones(2, requires_grad=True)
    assert list(boxes(viz.draw(x * x + x)).values()).count("x\n2") == 1


def test_several_outputs_constants_and_leaves():
    x = cr.ones(2, 3, requires_grad=True)
    picture = viz.draw([x * 2, x, cr.zeros(4)], names={"x": x})
    assert sorted(boxes(picture).values()) == sorted(
        ["multiply\n2 × 3", "x\n2 × 3", "x\n2 × 3", "2", "result\n2 × 3", "result\n4"]
    )
    values, order = cr.sort(cr.ones(3, requires_grad=True))
    assert "result\n3" in boxes(viz.draw([values, order])).values()


def test_kept_constants_are_drawn_and_leaves_take_the_operations_word():
    w = cr.ones(2, requires_grad=True)
    labels = list(boxes(viz.draw((w * cr.zeros(2, 2)) ** 1.5)).values())
    assert sorted(labels) == sorted(["multiply\n2 × 2", "power\n2 × 2", "x\n2", "y\n2 × 2", "1.5", "result\n2 × 2"])
    loss = cr.linear(cr.ones(3, 4), cr.ones(2, 4, requires_grad=True))
    assert {"weight\n2 × 4", "x\n3 × 4"} <= set(boxes(viz.draw(loss)).values())
    loss.sum().backward()
    assert "x\n3 × 4" not in boxes(viz.draw(loss)).values()  # released


def test_hostile_names_stay_text():
    w = cr.ones(2, requires_grad=True)
    for name in HOSTILE:
        with cr.autograd.scope(name):
            y = (w * 2).sum()
        for made in (viz.draw(y, names={name: w}), viz.draw(w, names={name: w})):
            assert "label=<" not in made.source
            for label in re.findall(r'label="((?:[^"\\]|\\.)*)"', made.source):
                assert not re.search(r'(?<!\\)"', label)
        assert len(arrows(viz.draw(y, names={name: w}))) == 4


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_svg(name, tmp_path):
    pytest.importorskip("pygraphviz")
    w = cr.ones((), requires_grad=True)
    path = viz.draw(w * 2, names={name: w}).save(tmp_path / "a.svg")
    root = ET.parse(path).getroot()  # well-formed
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "".join(name.split()) in "".join("".join(t for t in texts if t).split())


def test_files(tmp_path):
    y = (cr.ones(2, requires_grad=True) * 2).sum()
    picture = viz.draw(y)
    for name in ("a.dot", "a.gv"):
        path = picture.save(tmp_path / name)
        assert path == tmp_path / name and path.read_text(encoding="utf-8") == picture.source
    pytest.importorskip("pygraphviz")
    for name, start in [("a.svg", b"<?xml"), ("a.png", b"\x89PNG"), ("a.pdf", b"%PDF")]:
        assert picture.save(str(tmp_path / name)).read_bytes().startswith(start)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dot", "a.gv", "a.pdf", "a.png", "a.svg"]
    assert "<svg" in picture._repr_mimebundle_()["image/svg+xml"]


def test_refusals(tmp_path, monkeypatch):
    y = cr.ones(2, requires_grad=True) * 2
    with pytest.raises(
        ValueError, match=r"save: received the name 'a\.jpeg'; it must end in \.dot, \.svg, \.png or \.pdf"
    ):
        viz.draw(y).save(tmp_path / "a.jpeg")
    for wrong in (3.0, [y, np.ones(2)]):
        with pytest.raises(TypeError, match="draw: received (float|ndarray); pass the tensor whose graph is wanted"):
            viz.draw(wrong)
    picture = viz.draw(y)
    monkeypatch.setitem(__import__("sys").modules, "pygraphviz", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        RuntimeError, match=r"a SVG needs Graphviz's layout engine.*pip install 'chainrule\[viz\]' \(or save as \.dot\)"
    ):
        picture.save(tmp_path / "a.svg")
    assert not list(tmp_path.iterdir())
    assert picture._repr_mimebundle_() == {"text/plain": picture.source}
    monkeypatch.setitem(__import__("sys").modules, "graphviz", None)
    with pytest.raises(
        ImportError, match=r"drawing needs the graphviz package; install the extra: pip install 'chainrule\[viz\]'"
    ):
        viz.draw(y)
