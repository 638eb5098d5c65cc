"""The chain rule of small graphs in LaTeX."""

import pickle
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd.viz.latex import symbol
from chainrule.autograd.viz.math import mathml
from chainrule.autograd.viz.program import Program


def gradients(shown):
    """{what a gradient is of: its right sides} of the backward equations."""
    top = re.compile(r"\\frac\{\\partial [^}]*(?:\{[^}]*\})?[^}]*\}\{\\partial (.*?)\} = (.*)")
    found = (top.fullmatch(equation) for equation in shown.equations)
    return {match[1]: match[2].split(" = ") for match in found if match}


def compiles(tex):
    """Whether braces, fences and environments pair up and no command is unknown, as far as that shows without TeX."""
    depth = 0
    for token in re.findall(r"\\.|[{}]", tex):
        depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth >= 0
    assert depth == 0
    assert len(re.findall(r"\\left\W", tex)) == len(re.findall(r"\\right\W", tex))
    assert not re.search(r"\^(\{[^{}]*\}|\w)\^|_(\{[^{}]*\}|\w)_", tex)  # a double exponent or index
    assert tex.isascii()
    return True


@pytest.fixture
def lecture():
    """The two-layer tanh network of the lectures: E = ½Σ(Ŷ − Y)²."""
    cr.manual_seed(0)
    W_X = cr.randn(5, 3, dtype=cr.float64, requires_grad=True)
    W_Y = cr.randn(2, 5, dtype=cr.float64, requires_grad=True)
    X, Y = cr.randn(3, 7, dtype=cr.float64), cr.randn(2, 7, dtype=cr.float64)
    H = (W_X @ X).tanh()
    Y_hat = W_Y @ H
    E = ((Y_hat - Y) ** 2).sum() / 2
    names = {"W_X": W_X, "W_Y": W_Y, "X": X, "Y": Y, "H": H, "Y_hat": Y_hat, "E": E}
    return E, names


def test_the_two_layer_tanh_network_reads_as_in_the_lecture(lecture):
    E, names = lecture
    assert cr.viz.latex(E, names=names).equations == (
        r"H = \tanh(W_X X)",
        r"\hat{Y} = W_Y H",
        r"E = \tfrac{1}{2}\,\sum (\hat{Y} - Y)^2",
        r"\frac{\partial E}{\partial \hat{Y}} = \hat{Y} - Y",
        r"\frac{\partial E}{\partial W_Y} = \frac{\partial E}{\partial \hat{Y}}\, H^{\mathsf T}"
        r" = (\hat{Y} - Y)\, H^{\mathsf T}",
        r"\frac{\partial E}{\partial H} = W_Y^{\mathsf T} \frac{\partial E}{\partial \hat{Y}}",
        r"\frac{\partial E}{\partial W_X} = \left[\frac{\partial E}{\partial H} \odot (1 - H^2)\right]\, X^{\mathsf T}"
        r" = [W_Y^{\mathsf T}(\hat{Y} - Y) \odot (1 - H^2)]\, X^{\mathsf T}",
    )


def test_the_lecture_s_closed_forms_are_the_engine_s_gradients(lecture):
    E, names = lecture
    E.backward()
    W_X, W_Y, X, Y = (names[name].detach().numpy() for name in ("W_X", "W_Y", "X", "Y"))
    H = np.tanh(W_X @ X)
    delta = W_Y @ H - Y
    np.testing.assert_allclose(names["W_Y"].grad.numpy(), delta @ H.T)
    np.testing.assert_allclose(names["W_X"].grad.numpy(), (W_Y.T @ delta * (1 - H**2)) @ X.T)


def test_micrograd_s_example_with_numbers():
    a, b, c, f = (cr.tensor(v, requires_grad=True) for v in (2.0, -3.0, 10.0, -2.0))
    e = a * b
    d = e + c
    L = d * f
    shown = cr.viz.latex(L, values=True)
    assert shown.equations[:3] == (r"e = a\,b = -6", "d = e + c = 4", r"L = d\,f = -8")
    assert gradients(shown) == {
        "f": ["d", "4"],
        "d": ["f", "-2"],
        "c": [r"\frac{\partial L}{\partial d}", "f", "-2"],
        "e": [r"\frac{\partial L}{\partial d}", "-2"],
        "a": [r"\frac{\partial L}{\partial e}\,b", r"f\,b", "6"],
        "b": [r"\frac{\partial L}{\partial e}\,a", r"f\,a", "-4"],
    }


def scalar(function):
    x = cr.tensor(0.5, dtype=cr.float64, requires_grad=True)
    y = function(x)
    return cr.viz.latex(y, names={"x": x, "y": y})


@pytest.mark.parametrize(
    "function, forward, derivative",
    [
        (lambda x: x**3, "x^3", r"3\,x^2"),
        (lambda x: x**0.5, r"x^{\tfrac{1}{2}}", r"\tfrac{1}{2}\,x^{-\tfrac{1}{2}}"),
        (lambda x: x * x, "x^2", r"2\,x"),
        (lambda x: x + x, r"2\,x", "2"),
        (lambda x: 3 * (2 * x), r"6\,x", "6"),
        (lambda x: x / 4, r"\tfrac{1}{4}\,x", r"\tfrac{1}{4}"),
        (lambda x: 1 / x, r"\frac{1}{x}", r"-\frac{1}{x^2}"),
        (lambda x: -x.exp(), "-e^x", "-e^x"),
        (lambda x: (1 - x).log(), r"\ln(1 - x)", r"-\frac{1}{1 - x}"),
        (lambda x: (x * 2).sin(), r"\sin(2\,x)", r"2\,\cos(2\,x)"),
        (lambda x: x.sin() * x, r"(\sin x)\,x", r"\sin x + x\,\cos x"),
        (lambda x: cr.sigmoid(x), r"\sigma(x)", r"y\,(1 - y)"),
        (lambda x: x.tanh(), r"\tanh x", "1 - y^2"),
        (lambda x: cr.relu(x), r"\max(x, 0)", "[x > 0]"),
        (lambda x: cr.sqrt(x), r"\sqrt{x}", r"\frac{1}{2 y}"),
        (lambda x: (x - 1) * (x + 1), r"(x - 1)\,(x + 1)", "x - 1 + x + 1"),
        (lambda x: cr.nn.functional.softplus(x, beta=2), r"\tfrac{1}{2} \ln(1 + e^{2 x})", r"\sigma(2 x)"),
    ],
)
def test_derivatives_of_one_variable(function, forward, derivative):
    shown = scalar(function)
    assert shown.equations[0] == f"y = {forward}"
    assert gradients(shown)["x"][-1] == derivative
    assert compiles(str(shown))


def test_broadcasting_is_undone_by_sums():
    x = cr.ones(4, 3)
    b = cr.zeros(3, requires_grad=True)
    c = cr.tensor(2.0, requires_grad=True)
    z = (x + b) * c
    E = (z**2).sum()
    shown = gradients(cr.viz.latex(E))
    assert shown["b"][0].startswith(r"\sum_{\text{axis 0}} ")
    assert shown["c"][0] == r"\sum \frac{\partial E}{\partial z} \odot (x + b)"


def test_transposed_twice_is_not_transposed():
    Q, K = cr.randn(3, 2, requires_grad=True), cr.randn(4, 2, requires_grad=True)
    S = Q @ K.T
    shown = gradients(cr.viz.latex(S.square().sum()))
    assert any(side.endswith("K") for side in shown["Q"]) and not any("mathsf" in side for side in shown["Q"])


def test_paths_that_meet_are_added():
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    E = (w**2).sum() + (3 * w).sum()
    assert gradients(cr.viz.latex(E))["w"] == [r"3 + 2\,w"]


def test_cross_entropy_of_a_layer():
    layer = cr.nn.Linear(3, 2)
    x, t = cr.ones(4, 3), cr.tensor([0, 1, 1, 0])
    loss = cr.cross_entropy(layer(x), t)
    shown = cr.viz.latex(loss)
    assert shown.equations[:2] == (
        r"h_1 = x W^{\mathsf T} + b",
        r"\mathrm{loss} = -\tfrac{1}{4} \sum \ln \operatorname{softmax}(h_1)_t",
    )
    assert shown.equations[2].endswith(r"\tfrac{1}{4}\,[\operatorname{softmax}(h_1) - \operatorname{onehot}(t)]")


def test_a_result_that_is_no_number_has_bars_for_gradients():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    assert cr.viz.latex(y).equations == ("y = e^x", r"\overline{x} = \overline{y} \odot y")


def test_an_operation_that_no_formula_says_gives_a_jacobian():
    x = cr.tensor([1.0, 2.0, 3.0], requires_grad=True)
    u, v = x.split([1, 2])
    E = u.sum() + 2 * v.sum()
    shown = cr.viz.latex(E)
    assert r"u, v = \operatorname{split}(x)" in shown.equations
    du, dv = (rf"\left(\frac{{\partial {name}}}{{\partial x}}\right)^{{\mathsf T}}" for name in "uv")
    assert shown.equations[-1] == (
        r"\frac{\partial E}{\partial x} = "
        rf"{du} \frac{{\partial E}}{{\partial u}} + {dv} \frac{{\partial E}}{{\partial v}}"
    )


def test_the_numbers_are_the_engine_s():
    x = cr.tensor(0.3, dtype=cr.float64, requires_grad=True)
    y = cr.exp(x) * 2
    shown = cr.viz.latex(y, values=True)
    assert float(shown.equations[0].split(" = ")[-1]) == pytest.approx(2 * np.exp(0.3), rel=1e-3)
    assert float(shown.equations[-1].split(" = ")[-1]) == pytest.approx(2 * np.exp(0.3), rel=1e-3)
    assert x.grad is None


@pytest.mark.parametrize(
    "name, tex",
    [
        ("x", "x"),
        ("W_X", "W_X"),
        ("w12", "w_{12}"),
        ("W_hidden", r"W_{\mathrm{hidden}}"),
        ("y_hat", r"\hat{y}"),
        ("Yhat", r"\hat{Y}"),
        ("that", r"\mathrm{that}"),
        ("alpha", r"\alpha"),
        ("beta_1", r"\beta_1"),
        ("self.w", "w"),
        ("c1.weight", r"W_{\mathrm{c1}}"),
        ("0.bias", r"b_{\mathrm{0}}"),
        ("cell.weight_ih_l0", r"W_{\mathrm{cell.ih\_l0}}"),
        ("my_loss", r"\mathrm{my\_loss}"),
        ("h (3)", "h^{(3)}"),
        ("α", r"\mathrm{\alpha }"),
        ("名前", r"\mathrm{??}"),
        (r"\input{x}", r"\mathrm{?input\{x\}}"),
        ("50% #1 & $", r"\mathrm{50\%\ \#1\ \&\ \$}"),
        ("a~b^c", r"\mathrm{a?b?c}"),
    ],
)
def test_names_become_symbols(name, tex):
    assert symbol(name) == tex
    assert compiles(symbol(name))


def test_two_values_never_share_a_symbol():
    pair = {"W": cr.ones(2, requires_grad=True), "weight": cr.ones(2, requires_grad=True)}
    E = (pair["W"] * pair["weight"]).sum()
    assert cr.viz.latex(E, names=pair).equations[0] == r"E = \sum W \odot \mathrm{weight}"


def test_a_graph_that_is_not_small():
    v = cr.tensor(1.0, requires_grad=True)
    for _ in range(61):
        v = v.sin()
    with pytest.raises(ValueError, match="latex: received a graph of 61 operations; it writes out at most 60. Pass an"):
        cr.viz.latex(v)


def test_a_leaf_has_no_equations():
    with pytest.raises(ValueError, match="latex: received a tensor that no recorded operation computed; pass a result"):
        cr.viz.latex(cr.tensor(1.0, requires_grad=True))


def test_several_results_have_bars():
    x = cr.tensor(2.0, requires_grad=True)
    y, z = x**2, x.exp()
    assert cr.viz.latex([y, z]).equations[-1] == r"\overline{x} = \overline{z}\,z + 2\,\overline{y}\,x"


@pytest.mark.parametrize(
    "options, forward, rule",
    [
        ({}, r"-\tfrac{1}{3} \sum \ln p_t", r"\tfrac{1}{3}\,[p - \operatorname{onehot}(t)]"),
        ({"ignore_index": 1}, r"-\tfrac{1}{2} \sum \ln p_t", r"\tfrac{1}{2}\,[p - \operatorname{onehot}(t)]"),
        ({"reduction": "sum"}, r"-\sum \ln p_t", r"p - \operatorname{onehot}(t)"),
        ({"label_smoothing": 0.1}, r"\operatorname{cross\_entropy}(x, t)", None),
    ],
)
def test_cross_entropy_says_how_it_is_reduced(options, forward, rule):
    x, t = cr.ones(3, 2, requires_grad=True), cr.tensor([0, 1, 0])
    E = cr.cross_entropy(x, t, **options)
    shown = [e.replace(r"\operatorname{softmax}(x)", "p") for e in cr.viz.latex(E, names={"t": t}).equations]
    assert shown[0] == f"E = {forward}"
    jacobian = r"\left(\frac{\partial E}{\partial x}\right)^{\mathsf T} 1"
    assert shown[-1].split(" = ")[-1] == (rule or jacobian)


def test_a_primitive_of_the_user_s_is_written_as_far_as_it_is_said():
    @cr.primitive(elementwise=True, formula="x^3")
    def cube(k, x):
        return x * x * x

    @cube.vjp("x")
    def cube_dx(g, x):
        return 3 * g * x * x

    x = cr.tensor(2.0, requires_grad=True)
    y = cube(x)
    shown = cr.viz.latex(y).equations
    assert shown[0] == "y = x^3" and shown[1].endswith(r"\left(\frac{\partial y}{\partial x}\right)^{\mathsf T} 1")


def test_long_equations_take_a_row_for_each_side(lecture, monkeypatch):
    E, names = lecture
    monkeypatch.setattr(sys.modules["chainrule.autograd.viz.latex"], "ROW", 30)
    rows = str(cr.viz.latex(E, names=names)).split("\n")
    at = next(i for i, row in enumerate(rows) if r"{\partial W_X}" in row)
    assert rows[at].endswith(r"X^{\mathsf T} \\") and rows[at + 1].startswith(r"&= [W_Y^{\mathsf T}")


NET = cr.nn.Sequential(cr.nn.Linear(3, 4), cr.nn.ReLU(), cr.nn.Dropout(0.5), cr.nn.Linear(4, 1), cr.nn.Sigmoid())
F = cr.nn.functional
# Programs whose equations use brackets, fractions, sums, indices and exponents of all kinds, of x, w, b (positive).
KINDS = {
    "classify": lambda x, w, b: cr.cross_entropy(x @ w + b, cr.tensor([0, 1, 1, 0])),
    "softmax": lambda x, w, b: ((x @ w + b).softmax(1) ** 2).mean(),
    "logarithms": lambda x, w, b: cr.log_softmax(x / 3, 1).sum() - cr.logsumexp(x, 1).mean(),
    "norms": lambda x, w, b: (cr.layer_norm(x, (3,)) * x.norm()).sum(),
    "largest": lambda x, w, b: cr.maximum(x[0], x[1]).sum() / x.amax(),
    "where": lambda x, w, b: cr.where(x > 1, x.exp(), x.abs()).mean(0).sum(),
    "join": lambda x, w, b: cr.cat([x, x * 2]).reshape(2, 12).std(),
    "gelu": lambda x, w, b: (F.gelu(x) / (1 + cr.exp(-x))).var(),
    "convolve": lambda x, w, b: cr.conv2d(x[None, None], w[None, None], padding=1).clamp(0, 1).sum(),
    "recur": lambda x, w, b: cr.nn.GRU(3, 2)(x[:2].reshape(2, 1, 3).float())[0].sum(),
    "powers": lambda x, w, b: (x[0] @ x[1]) ** -1 + (w**b).cumsum(0).prod(0).sum(),
    "fused": lambda x, w, b: F.binary_cross_entropy(NET(x), cr.ones(4, 1)),
}


def made(kind):
    rng = np.random.default_rng(0)
    return KINDS[kind](*(cr.tensor(rng.uniform(0.5, 2, size=n), requires_grad=True) for n in ((4, 3), (3, 2), (2,))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recorded", [False, True])
def test_what_is_written_is_sound(kind, recorded):
    with cr.viz.record() if recorded else nullcontext():
        shown = cr.viz.latex(made(kind))
    assert compiles(str(shown)) and compiles(shown.document)
    for equation in shown.equations:
        assert "\\" not in re.sub('alttext="[^"]*"', "", mathml(equation))


@pytest.mark.parametrize("kind", KINDS)
def test_another_program_reads_it(kind):
    mathtext = pytest.importorskip("matplotlib.mathtext", reason="needs Matplotlib: pip install 'chainrule[examples]'")
    other = {"tfrac": "frac", "lVert": "|", "rVert": "|", "le": "leq", "ge": "geq", "ne": "neq"}
    parser = mathtext.MathTextParser("path")
    for equation in cr.viz.latex(made(kind)).equations:
        equation = equation.replace(r"\mathsf T", r"\mathrm{T}")
        parser.parse("$" + re.sub(r"\\([A-Za-z]+)", lambda m: "\\" + other.get(m[1], m[1]), equation) + "$")


def test_the_document_and_the_notebook(lecture):
    E, names = lecture
    shown = cr.viz.latex(E, names=names)
    assert shown.document.startswith("\\documentclass{article}\n\\usepackage{amsmath}\n\\begin{document}\n\\[\n")
    assert shown.document.endswith("\\]\n\\end{document}\n") and str(shown) in shown.document
    assert shown._repr_latex_() == f"$$\n{shown}\n$$" and repr(shown) == str(shown)
    assert shown.startswith("\\begin{aligned}\n") and shown.endswith("\n\\end{aligned}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("kind", KINDS)
def test_latex_compiles_it(kind, tmp_path):
    (tmp_path / "it.tex").write_text(cr.viz.latex(made(kind)).document)
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "it.tex"], cwd=tmp_path, check=True)


@pytest.mark.parametrize(
    ("function", "forward"),
    [
        (lambda x: x.clone(), "y = x"),
        (lambda x: (3 * x).squeeze(), "y = 3\\,x"),
        (lambda x: x[[1, 0]], "y = x[i]"),
        (lambda x: x[[0, 1], [0, 0]], "y = x[i, j]"),  # pairs, not the diagonal
        (lambda x: x[None, ..., 0:1], "y = x[\\cdot, \\dots, 0 : 1]"),
    ],
)
def test_a_result_that_is_its_input_or_a_part_of_it(function, forward):
    x = cr.ones(2, 1, requires_grad=True)
    assert cr.viz.latex(function(x)).equations[0] == forward


def test_steps_without_a_result_are_no_equations():
    with cr.viz.record() as recording:
        cr.ones(2) * 2
    with pytest.raises(ValueError, match="that no recorded operation computed"):
        cr.viz.latex(Program.of(recording.steps))


def test_equations_are_pickled_whole(lecture):
    made = cr.viz.latex(lecture[0], names=lecture[1])
    again = pickle.loads(pickle.dumps(made))
    assert again == made and again.equations == made.equations and again.document == made.document
