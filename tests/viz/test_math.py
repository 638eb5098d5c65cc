"""Formulas in LaTeX as MathML."""

import re
import xml.dom.minidom
from html import escape

import pytest

from chainrule.autograd.primitive import REGISTRY
from chainrule.autograd.viz.math import atoms, mathml

FORMULAS = sorted({f for p in REGISTRY.values() for f in (p.formula, *(rule.formula for rule in p.rules))} - {""})


def plain(latex):
    """What is read off the MathML: its text, with spaces where it has some."""
    document = xml.dom.minidom.parseString(re.sub("<mspace[^>]*>", "<mo> </mo>", mathml(latex)))
    found, waiting = [], [document.documentElement]
    while waiting:
        node = waiting.pop()
        found.append(node.data if node.nodeType == node.TEXT_NODE else "")
        waiting += reversed(node.childNodes)
    return "".join(found)


def tree(latex):
    """The MathML without attributes and without what mathml puts around it."""
    return re.sub(r"<(\w+)[^>/]*>", r"<\1>", mathml(latex)).removeprefix("<math>").removesuffix("</math>")


def test_there_are_formulas():
    assert len(FORMULAS) > 200


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_formula_of_a_primitive_is_known(formula):
    shown = mathml(formula)
    xml.dom.minidom.parseString(shown)
    assert "\\" not in re.sub('alttext="[^"]*"', "", shown)


@pytest.mark.parametrize(
    "latex, expected",
    [
        ("x^2", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("x_i^2", "<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>"),
        ("x_{t-1}", "<msub><mi>x</mi><mrow><mi>t</mi><mo>−</mo><mn>1</mn></mrow></msub>"),
        ("2.5x", "<mn>2.5</mn><mi>x</mi>"),
        (r"\tfrac12", "<mstyle><mfrac><mn>1</mn><mn>2</mn></mfrac></mstyle>"),
        (r"\frac{a}{b}", "<mfrac><mrow><mi>a</mi></mrow><mrow><mi>b</mi></mrow></mfrac>"),
        (r"\bar o_1", "<msub><mover><mi>o</mi><mo>¯</mo></mover><mn>1</mn></msub>"),
        (r"W^{\mathsf T}", "<msup><mi>W</mi><mrow><mi>T</mi></mrow></msup>"),
        (r"\sqrt\pi", "<msqrt><mi>π</mi></msqrt>"),
        (r"\max_t x", '<munder><mo>max</mo><mi>t</mi></munder><mspace width="0.167em"/><mi>x</mi>'),
        (r"\overline{xy}", "<mrow><mrow><mi>x</mi><mi>y</mi></mrow></mrow>"),
        ("f'", "<msup><mi>f</mi><mo>′</mo></msup>"),
        (r"\left(x\right)", "<mrow><mo>(</mo><mi>x</mi><mo>)</mo></mrow>"),
        (r"\left.x\right|^2", "<msup><mrow><mi>x</mi><mo>|</mo></mrow><mn>2</mn></msup>"),
        (r"\textstyle\sum x", '<mstyle><mo>∑</mo><mspace width="0.167em"/><mi>x</mi></mstyle>'),
    ],
)
def test_structure(latex, expected):
    assert tree(latex) == expected


@pytest.mark.parametrize(
    "latex, expected",
    [
        ("a+b", "a + b"),
        ("a=-b", "a = −b"),
        ("(-a)", "(−a)"),
        ("f(a,-b)", "f(a, −b)"),
        ("a/b", "a/b"),
        (r"a\sin b", "a sin b"),
        (r"a\sin(b)", "a sin(b)"),
        (r"\ln\sin a", "ln sin a"),
        (r"\tanh^2 c_t", "tanh2 ct"),
        (r"a \mathrel{+}= b", "a += b"),
        (r"x_{j \le i}", "xj≤i"),
        (r"c\;?\;x : y", "c ? x : y"),
        (r"\operatorname{atan2}(x, y)", "atan2(x, y)"),
        (r"x \text{ at } i", "x\xa0at\xa0i"),
        (r"W_\mathrm{hidden\_1}", "Whidden_1"),
        ("|x| < \\infty", "|x| < ∞"),
    ],
)
def test_spaces_are_those_of_tex(latex, expected):
    assert plain(latex) == expected


def test_a_displayed_formula_puts_limits_below():
    shown = mathml(r"\sum_i x", display=True)
    assert ' display="block">' in shown and "<munder>" in shown and 'movablelimits="true"' in shown


@pytest.mark.parametrize(
    "latex, text",
    [
        (r"\unheard{x}", "\\unheardx"),
        ("a {b", "ab"),
        ("a } b", "a}b"),
        ("\\", "\\"),
        ("x_", "x"),
        (r"\frac a", "a"),
        (r"\left(x", "(x"),
        (r"x\right)", r"x\right)"),
        ("</script><b>", "< /script >< b >"),
        (r"\text{</math><script>alert(1)</script>}", "</math><script>alert(1)</script>"),
        ('x" onload="', 'x"onload = "'),
        ("", ""),
        ("é 🙂", "é🙂"),
    ],
)
def test_what_is_no_formula_is_shown_as_it_is_written(latex, text):
    assert plain(latex) == text


def test_atoms_name_their_class_and_source():
    assert [(a.kind, a.source) for a in atoms(r"-\bar o\,(x_1 + e^{y}) / \sqrt{x}")] == [
        *(("bin", "-"), ("ord", r"\bar o"), ("space", r"\,"), ("open", "("), ("ord", "x_1"), ("bin", "+")),
        *(("ord", "e^{y}"), ("close", ")"), ("ord", "/"), ("ord", r"\sqrt{x}")),
    ]


def test_a_browser_sets_the_formulas(browser, tmp_path):
    shown = "".join(f"<p title='{escape(f, quote=True)}'>{mathml(f)}</p>" for f in FORMULAS)
    (tmp_path / "formulas.html").write_text(f"<!doctype html><meta charset=utf-8>{shown}", encoding="utf-8")
    tab = browser.open(tmp_path / "formulas.html")
    assert tab.locator("math").count() == len(FORMULAS)
    assert tab.locator("math *").evaluate_all("all => all.every(one => one instanceof MathMLElement)")
    narrow = tab.locator("p").evaluate_all(
        "all => all.filter(p => p.firstChild.getBoundingClientRect().width < 5).map(p => p.title)"
    )
    assert narrow == []
