"""The stepper in a real Chromium: every feature is used as a reader uses it, and its numbers are the engine's."""

import inspect
import re
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule.autograd import primitive
from chainrule.autograd.primitive import REGISTRY
from chainrule.autograd.viz.numeric import Numeric
from chainrule.autograd.viz.page import in_numbers, rule_source
from chainrule.autograd.viz.program import Program
from chainrule.autograd.viz.snapshot import number

MINUS = str.maketrans("-", "−")


def micro(path):
    a = cr.tensor(2.0, requires_grad=True)
    b = cr.tensor(-3.0, requires_grad=True)
    c = cr.tensor(10.0, requires_grad=True)
    e = a * b
    d = e + c
    loss = d.tanh()
    return cr.viz.page(loss, path)


def mlp(path):
    cr.manual_seed(1)
    with cr.viz.record():
        x = cr.randn(4, 3)
        w1 = cr.randn(3, 5, requires_grad=True)
        b1 = cr.zeros(5, requires_grad=True)
        w2 = cr.randn(5, 2, requires_grad=True)
        b2 = cr.zeros(2, requires_grad=True)
        hidden = (x @ w1 + b1).tanh()
        logits = hidden @ w2 + b2
        loss = cr.cross_entropy(logits, cr.tensor([0, 1, 1, 0]))
    return cr.viz.page(loss, path)


def lenet(path):
    net = cr.nn.models.LeNet5()
    with cr.viz.record():
        loss = cr.cross_entropy(net(cr.randn(2, 1, 32, 32)), cr.tensor([1, 2]))
    return cr.viz.page(loss, path)


def lstm(path):
    cell = cr.nn.LSTMCell(3, 4)
    h = c = cr.zeros(2, 4)
    with cr.viz.record():
        for x in [cr.randn(2, 3) for _ in range(5)]:
            h, c = cell(x, (h, c))
        loss = (h * h).sum()
    return cr.viz.page(loss, path)


def resnet(path):
    net = cr.nn.models.ResNet(18, num_classes=10)
    with cr.viz.record():
        loss = cr.cross_entropy(net(cr.randn(2, 3, 64, 64)), cr.tensor([1, 2]))
    return cr.viz.page(loss, path, check=0)


def chain(path):
    x = cr.ones(3, requires_grad=True)
    y = x
    for _ in range(1000):
        y = y * 1.0001
    return cr.viz.page(y.sum(), path, check=0)


def kinds(path):
    """Paths that meet, a mask outside the graph, a kink, a parameter that is broadcast to a single column."""
    with cr.viz.record():
        x = cr.tensor([[1.0, 2.0], [3.0, 4.0]])
        w = cr.tensor([[0.5], [0.25]], requires_grad=True)
        bias = cr.tensor([0.0], requires_grad=True)
        at_zero = cr.tensor(0.0, requires_grad=True)
        y = x @ w + bias
        mask = (y > 1).float()
        z = (y * mask + y * y).sum() + at_zero.relu()
    return cr.viz.page(z, path)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """pages(make) -> the file that `make(path)` wrote, made once."""
    folder, made = tmp_path_factory.mktemp("pages"), {}
    return lambda make: made.get(make) or made.setdefault(make, make(folder / f"{make.__name__}.html"))


@pytest.fixture
def stepper(browser, pages):
    """stepper(make, …) -> a tab that shows the page."""
    return lambda make, **options: browser.open(pages(make), **options)


def settled(tab):
    """After the next frames, in which the page paints."""
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return tab


def at(tab):
    return int(tab.locator("#slider").input_value())


def go(tab, k):
    tab.locator("#slider").evaluate("(s, k) => { s.value = k; s.dispatchEvent(new Event('input')) }", k)
    return settled(tab)


def events(tab):
    return tab.evaluate("page.data.events")


def until(tab, condition, seconds=5):
    """Wait until a condition in JavaScript holds (the page's policy forbids Playwright's own way)."""
    for _ in range(seconds * 20):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def find_event(tab, kind, label=None, step=None):
    """The first event of a kind, of the value with this label, of an operation of this name."""
    data = tab.evaluate("page.data")
    for k, event in enumerate(data["events"]):
        value = label is None or data["values"][event.get("value", 0)]["label"] == label
        named = step is None or data["steps"][event["step"]]["name"] == step
        if event["kind"] == kind and value and named:
            return k
    raise AssertionError(f"no event {kind} {label} {step}")


def open_value(tab, name):
    search = tab.locator("#search")
    search.fill(name)
    search.press("Enter")
    return settled(tab)


def plain(text):
    return re.sub(r"\s+", "", text)


# ---- numbers ---------------------------------------------------------------------------------------------------------


def test_the_numbers_on_the_page_are_the_engines(browser, tmp_path):
    cr.manual_seed(3)
    x = cr.randn(4, 3, requires_grad=True)
    w = cr.randn(3, 2, requires_grad=True)
    bias = cr.randn(2, requires_grad=True)
    h = (x @ w + bias).tanh()
    y = h * x[:, :2]
    loss = (y * y).mean()
    tab = browser.open(cr.viz.page(loss, tmp_path / "page.html"))
    assert x.grad is None
    dh, dy = cr.autograd.grad(loss, [h, y], retain_graph=True)
    loss.backward()
    data = tab.evaluate("page.data")
    by_label = {value["label"]: value for value in data["values"]}
    expected = {"x": (x, x.grad), "w": (w, w.grad), "bias": (bias, bias.grad), "h": (h, dh), "y": (y, dy)}
    expected["loss"] = (loss, cr.ones(()))
    array = lambda i: np.array(data["arrays"][i]["whole"], np.float32).reshape(data["arrays"][i]["shape"])
    for label, (value, gradient) in expected.items():
        assert np.array_equal(array(by_label[label]["data"]), value.detach().numpy()), label
        assert np.array_equal(array(by_label[label]["gradient"]), gradient.numpy()), label
    parts = {}
    for event in data["events"]:
        if event["kind"] == "rule":
            same = [e for e in data["events"] if (e.get("step"), e.get("i")) == (event["step"], event["i"])]
            fitted = next((e["fitted"] for e in same if e["kind"] == "fit"), event["raw"])
            parts.setdefault(event["value"], []).append(array(fitted))
    at_x = data["values"].index(by_label["x"])
    assert len(parts[at_x]) == 2
    np.testing.assert_allclose(sum(parts[at_x]), x.grad.numpy(), rtol=1e-6)
    tab.keyboard.press("End")
    settled(tab)
    for label in ("loss", "bias"):
        texts = tab.locator(f"svg .node.v{data['values'].index(by_label[label])} text").all_text_contents()
        numbers = [number(v) for v in expected[label][1].numpy().ravel().tolist()]
        assert texts[-1] == "∇ " + (numbers[0] if len(numbers) == 1 else f"[{', '.join(numbers)}]").translate(MINUS)


def test_a_product_is_worked_out(stepper):
    tab = go(stepper(micro), 0)
    assert plain("2⋅(−3)=−6") in plain(tab.locator("#step").text_content())
    go(tab, find_event(tab, "rule", "a"))
    slope = 1 - np.tanh(4.0) ** 2
    line = f"{number(slope)}×(−3)={number(-3 * slope)}".translate(MINUS)
    assert plain(line) in plain(tab.locator("#step").text_content())


def test_a_function_is_worked_out_by_its_formula(stepper):
    tab = stepper(micro)
    go(tab, find_event(tab, "rule", "d"))
    text = plain(tab.locator("#step").text_content())
    assert "o¯(1−tanh2x)" in text
    assert f"1(1−tanh24)={number(1 - np.tanh(4.0) ** 2)}" in text


def test_the_chain_rule_is_written_in_names_never_in_python(browser, tmp_path):
    o = cr.tensor(2.0, requires_grad=True)
    y = (o - 1) ** 2
    tab = browser.open(cr.viz.page(y, tmp_path / "page.html"))
    for k in range(len(events(tab))):
        for formula in go(tab, k).locator("#step math").all_text_contents():
            assert "**" not in formula and "o - 1" not in formula
    go(tab, find_event(tab, "rule", "o"))
    assert "Here x is o, and o is o - 1." in tab.locator("#step").inner_text()
    tab = browser.open(micro(tmp_path / "micro.html"))
    go(tab, find_event(tab, "rule", "c"))
    assert "∂loss∂c=∂loss∂d·∂d∂c" in plain(tab.locator("#step").text_content())


def test_a_matrix_product_is_worked_out_for_an_entry(stepper):
    tab = stepper(kinds)
    go(tab, find_event(tab, "forward", step="matmul"))
    assert "1⋅0.5+2⋅0.25=1" in plain(tab.locator("#step").text_content())
    go(tab, find_event(tab, "rule", "w"))
    dy = 2 * np.array([1.0, 2.5]) + [0, 1]  # y y, and y times its mask
    line = f"1⋅{number(dy[0])}+3⋅{number(dy[1])}={number(dy[0] + 3 * dy[1])}"
    assert line in plain(tab.locator("#step").text_content())


@pytest.mark.parametrize(
    "formula, expected",
    [
        (r"\bar o\,y", r"0.5 \cdot 3"),
        (r"\bar o (1 - \tanh^2 x)", r"0.5 ( 1 - \tanh ^ 2 (-2) )"),
        (r"2x\,\bar o", r"2 \cdot (-2) \cdot 0.5"),
        (r"\bar o\,\sigma(x)", r"0.5 \cdot \sigma ( -2 )"),
        (r"\bar o\,e^x", r"0.5 \cdot e ^ {-2}"),
        (r"\operatorname{exp} x", r"\operatorname{exp} (-2)"),
    ],
)
def test_formulas_in_numbers(formula, expected):
    assert in_numbers(formula, {r"\bar o": "0.5", "x": "-2", "y": "3"}) == expected


def test_unbroadcasting_is_a_step_of_its_own(stepper):
    tab = stepper(kinds)
    k = find_event(tab, "fit", "bias")
    assert events(tab)[k - 1]["kind"] == "rule"
    text = go(tab, k).locator("#step").inner_text()
    assert "un-broadcasting" in text and "repeated to 2 × 1" in text
    assert "2+6=8" in plain(text)  # dy as above


def test_the_running_sum_where_paths_meet(stepper):
    tab = stepper(kinds)
    sums = [(k, e) for k, e in enumerate(events(tab)) if e["kind"] == "sum"]
    assert len(sums) == 2  # y is used three times
    arrays = tab.evaluate("page.data.arrays")
    for k, event in sums:
        before, part, total = (arrays[event[name]]["whole"] for name in ("before", "fitted", "total"))
        assert np.allclose(np.add(before, part), total)
        text = plain(go(tab, k).locator("#step").text_content())
        line = f"{number(before[1])}+{number(part[1])}={number(total[1])}"
        assert line in text and "pathsmeet" in text


# ---- formulas and code -----------------------------------------------------------------------------------------------


def test_each_step_has_its_formula_and_the_code_of_the_rule(stepper):
    tab = stepper(micro)
    go(tab, find_event(tab, "rule", "a"))
    step = tab.locator("#step")
    assert step.locator("math").count() > 3
    rule = cr.multiply.rules[0].function
    first = inspect.getsourcelines(rule)[1]
    assert f"chainrule/autograd/ops/elementwise.py, line {first}" in step.inner_text()
    assert inspect.getsource(rule).strip() == step.locator(".rule pre").inner_text().strip()


def test_of_a_lambda_the_page_shows_the_lambda(stepper):
    tab = stepper(micro)
    go(tab, find_event(tab, "rule", "d"))
    assert tab.locator(".rule pre").inner_text() == "lambda g, out: g * (1 - out * out)"


def test_every_rule_of_the_engine_has_source():
    for made in REGISTRY.values():
        for rule in made.rules:
            if made.__module__.startswith("chainrule."):
                file, line, code = rule_source(rule.function)
                assert file.startswith("chainrule/") and line > 0
                compile(code, file, "exec")
                assert code.startswith("lambda") or f"def {rule.function.__code__.co_name}(" in code


def test_the_users_line_with_the_expression_marked(stepper):
    tab = go(stepper(mlp), 1)
    assert tab.locator("#step .source mark").inner_text() == "x @ w1 + b1"
    assert tab.locator("#step .source .here").inner_text().strip().endswith("hidden = (x @ w1 + b1).tanh()")
    assert "test_page.py, line" in tab.locator("#step .source figcaption").inner_text()


# ---- finite differences ----------------------------------------------------------------------------------------------


def test_a_check_stands_beside_every_gradient(stepper):
    tab = stepper(mlp)
    values = [v for v in tab.evaluate("page.data.values") if "gradient" in v]
    assert len(values) > 8
    for value in values:
        for one in value["check"]:
            assert one["agree"] and one["numeric"] == pytest.approx(one["analytic"], rel=1e-3, abs=1e-6)
    open_value(tab, "b2")
    assert tab.locator("#node .check .agree").count() == 2


def test_at_a_kink_the_check_says_so(stepper):
    tab = open_value(stepper(kinds), "at_zero")
    assert "a kink" in tab.locator("#node .check").inner_text()


def test_a_wrong_rule_is_found_out(browser, tmp_path):
    @primitive(elementwise=True, formula=r"x^3")
    def cube_wrongly(k, x):
        return x * x * x

    @cube_wrongly.vjp("x", formula=r"2 x^2 \bar o")
    def cube_wrongly_dx(g, x):
        return g * (2 * x * x)

    x = cr.tensor([1.0, 2.0], requires_grad=True)
    y = cube_wrongly(x).sum()
    del REGISTRY["cube_wrongly"]
    tab = open_value(browser.open(cr.viz.page(y, tmp_path / "page.html")), "x")
    rows = tab.locator("#node .check .differ").all_inner_texts()
    assert len(rows) == 2 and "✗ differ" in rows[1] and "8" in rows[1] and "12" in rows[1]


def test_where_no_difference_is_possible_the_page_says_why():
    with cr.viz.record():
        x = cr.randn(200, 200, requires_grad=True)
        w = cr.tensor(2.0, requires_grad=True)
        loss = cr.dropout(x * w, 0.5, training=True).sum()
    program = Program(loss)
    program.walk()
    numeric = Numeric(program)
    said = {program.label(v): numeric.check(v) for v in program.values if v.live and v.gradient is not None}
    assert said["x"] == "Not possible: of the 40,000 elements of the gradient only figures were kept."
    assert numeric.checks(0) and set(numeric.checks(0).values()) == {
        "Not checked: the 0 s given to finite differences were spent before."
    }


def test_rounding_where_gradients_cancel_is_no_disagreement():
    x = cr.randn(16, 4, requires_grad=True)
    program = Program(cr.batch_norm(x, None, None, training=True).sum())
    program.walk()
    [one] = Numeric(program).check(next(v for v in program.values if v.role == "input"))
    assert one.agree


def test_differences_hold_what_the_graph_did_not_record():
    with cr.viz.record():
        x = cr.tensor(3.0, requires_grad=True)
        y = x * x.detach()
    program = Program(y)
    program.walk()
    leaf = next(v for v in program.values if v.role == "input")
    [one] = Numeric(program).check(leaf)
    assert one.numeric == pytest.approx(3, rel=1e-6) and one.agree


# ---- stepping --------------------------------------------------------------------------------------------------------


def test_slider_buttons_and_keys_step(stepper):
    tab = stepper(micro)
    last = len(events(tab)) - 1
    assert at(tab) == 0
    press = tab.keyboard.press
    for key, expected in [("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", last), ("ArrowRight", last)]:
        press(key)
        assert at(settled(tab)) == expected
    press("Home")
    assert at(settled(tab)) == 0
    click = lambda name: settled(tab) and tab.locator(f"[data-go={name}]").click() or at(settled(tab))
    assert [click(name) for name in ("next", "next", "back", "end", "start")] == [1, 2, 1, last, 0]
    turn = [e["kind"] for e in events(tab)].index("seed")
    assert click("turn") == turn
    go(tab, 3)
    assert "Forward" not in tab.locator("#step .phase").inner_text()
    assert f"step 4 of {last + 1}" in tab.locator("#position").inner_text()


def test_space_plays_and_pauses(stepper):
    tab = stepper(micro)
    tab.locator("#speed").select_option("80")
    tab.locator("h1").click()
    tab.keyboard.press("Space")
    until(tab, "Number(document.querySelector('#slider').value) >= 3")
    assert tab.locator("[data-go=play]").inner_text() == "⏸ Pause"
    tab.keyboard.press("Space")
    stopped = at(settled(tab))
    tab.wait_for_timeout(300)
    assert at(tab) == stopped
    tab.keyboard.press("Space")
    until(tab, "document.querySelector('[data-go=play]').textContent === '▶ Play'")
    assert at(tab) == len(events(tab)) - 1


def test_the_list_of_operations_steps(stepper):
    tab = stepper(micro)
    tab.locator("#steps button").nth(2).click()
    assert at(settled(tab)) == 2 and tab.locator("#steps [aria-current]").inner_text().split()[0] == "tanh"
    tab.keyboard.press("End")
    tab.locator("#steps button").nth(2).click()
    settled(tab)
    assert events(tab)[at(tab)]["kind"] == "rule"


def test_gradients_appear_when_they_arrive(stepper):
    tab = stepper(micro)
    values = {v["label"]: i for i, v in enumerate(tab.evaluate("page.data.values"))}
    mark = lambda label: tab.locator(f"svg .node.v{values[label]} text").last.text_content()
    classes = lambda label: tab.locator(f"svg .node.v{values[label]}").get_attribute("class")
    assert mark("a") == "∇ –" and "unborn" in classes("d")
    go(tab, find_event(tab, "rule", "d"))
    assert mark("d") == f"∇ {number(1 - np.tanh(4.0) ** 2)}" and mark("a") == "∇ –"
    assert "unborn" not in classes("d") and "goal" in classes("d")
    go(tab, len(events(tab)) - 1)
    assert "–" not in mark("a")


def test_the_next_meeting_of_paths(stepper):
    tab = stepper(kinds)
    kinds_of = [e["kind"] for e in events(tab)]
    sums = [k for k, kind in enumerate(kinds_of) if kind == "sum"]
    for expected in (*sums, sums[0]):
        tab.keyboard.press("m")
        assert at(settled(tab)) == expected
    open_value(tab, "y")
    tab.get_by_role("button", name="Go to where its paths meet").click()
    assert at(settled(tab)) == sums[0]


# ---- boxes -----------------------------------------------------------------------------------------------------------


def test_a_click_on_a_box_shows_all_about_it(stepper):
    tab = stepper(lenet)
    v = next(i for i, v in enumerate(tab.evaluate("page.data.values")) if v["label"] == "c1.weight")
    tab.locator(f"svg .node.v{v}").click()
    node = tab.locator("#node")
    assert node.get_by_text("not computed yet").is_visible()
    tab.keyboard.press("End")
    settled(tab)
    assert node.locator("canvas").count() == 2 and node.locator(".histogram").count() == 2
    facts = tab.evaluate(f"page.data.arrays[page.data.values[{v}].gradient]")
    said = node.locator(".statistics").last.inner_text()
    assert facts["size"] == 150
    assert all(number(facts[name]).translate(MINUS) in said for name in ("min", "max", "mean", "norm"))
    assert "6 × 1 × 5 × 5" in node.inner_text()
    assert node.locator(".source mark").inner_text() == "net(cr.randn(2, 1, 32, 32))"
    tab.keyboard.press("Escape")
    assert not node.is_visible()


def test_heat_maps_show_the_array(stepper):
    tab = stepper(lenet)
    drawn = tab.evaluate("""() => {
      const v = page.data.values.find(v => v.label === "c1.weight");
      return page.data.arrays[v.data].thumb ?? page.data.arrays[v.data].whole }""")
    open_value(tab, "c1.weight")
    pixels = tab.evaluate("""() => { const c = document.querySelector("#node canvas");
      return [c.width, c.height, [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]] }""")
    cells = np.array(pixels[2]).reshape(pixels[1], pixels[0], 4)
    weights = np.array(drawn, float).reshape(-1, 5)
    weights = weights if weights.shape == cells.shape[:2] else weights.T
    assert weights.shape == cells.shape[:2]
    assert ((cells[..., 0] >= cells[..., 2]) == (weights >= 0)).mean() > 0.98  # red above 0, blue below
    assert (cells[np.abs(weights) < 0.02 * np.abs(weights).max()][:, :3] > 200).all()  # nearly white at 0


def test_search_finds_values_modules_and_operations(stepper):
    tab = stepper(lenet)
    search = tab.locator("#search")
    tab.keyboard.press("/")
    assert search.evaluate("e => e === document.activeElement")
    search.fill("f6")
    options = tab.locator("#found [role=option]").all_inner_texts()
    assert any("f6.weight parameter" in o for o in options) and any("LeNet5.f6 Linear" in o for o in options)
    search.press("ArrowDown")
    chosen = tab.locator("#found [aria-selected=true]").get_attribute("id")
    assert chosen == search.get_attribute("aria-activedescendant") != "found-0"
    search.fill("cross_entropy")
    search.press("Enter")
    settled(tab)
    assert tab.locator("#node h2").inner_text().startswith("cross_entropy") and not tab.locator("#found").is_visible()
    search.fill("nothing like it")
    assert "Nothing has this name" in tab.locator("#found").inner_text()


def test_the_path_from_a_parameter_to_the_loss(stepper):
    tab = stepper(mlp)
    data = tab.evaluate("page.data")
    labels = [v["label"] for v in data["values"]]
    tab.locator("#paths").select_option(label="w2")
    settled(tab)
    on = [
        next(c for c in node.get_attribute("class").split() if re.fullmatch(r"[sv]\d+", c))
        for node in tab.locator("svg .node.on-path").all()
    ]
    names = {data["steps"][int(k[1:])]["name"] if k[0] == "s" else labels[int(k[1:])] for k in on}
    assert names == {"w2", "matmul", "hidden @ w2", "add", "logits", "cross_entropy", "loss"}
    assert tab.locator("svg .node.off-path").count() > 4
    tab.keyboard.press("Escape")
    settled(tab)
    assert tab.locator("svg .on-path, svg .off-path").count() == 0
    open_value(tab, "b1")
    tab.get_by_role("button", name="Path to loss").click()
    settled(tab)
    assert tab.locator("svg .node.on-path").count() > 7


def test_modules_open_and_close(stepper):
    tab = stepper(resnet)
    titles = tab.locator("#views option").all_inner_texts()
    assert {"Overview", "Modules to depth 2", "Every operation", "ResNet.layer1.0"} <= set(titles)
    tab.locator("#views").select_option(label="Overview")
    settled(tab)
    group = tab.locator("svg .node.group").first
    assert "ResNet" in group.text_content()
    group.click()
    tab.get_by_role("button", name="Look inside").click()
    settled(tab)
    assert tab.locator("#crumbs strong").inner_text() == "ResNet"
    inner = tab.locator("svg .node.group").first
    inner.click()
    inner.click()  # a second time opens
    settled(tab)
    assert tab.locator("#crumbs strong").inner_text() == "layer1"
    tab.locator("#crumbs button").first.click()
    settled(tab)
    assert tab.locator("#crumbs strong").inner_text() == "Whole program"


def test_follow_opens_the_module_of_the_step(stepper):
    tab = stepper(resnet)
    s = next(i for i, s in enumerate(tab.evaluate("page.data.steps")) if s["name"] == "add")
    go(tab, s)
    assert tab.locator("svg .active").get_attribute("class").split()[1] == "group"
    tab.locator("#follow").check()
    settled(tab)
    assert f"s{s}" in tab.locator("svg .active").get_attribute("class")


# ---- every reader ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [360, 700, 1280, 2560, 3840])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_fits_every_screen(stepper, width, dark):
    tab = stepper(mlp, width=width, height=max(740, width * 9 // 16), dark=dark)
    for k in (0, 12, len(events(tab)) - 1):
        go(tab, k)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("#slider", "#canvas svg", "#step h2"):
        assert tab.locator(selector).is_visible()
    size = tab.evaluate("parseFloat(getComputedStyle(document.querySelector('#step .sentence')).fontSize)")
    assert size >= 16
    box = tab.locator("svg .node.active").bounding_box()
    assert box is None or box["height"] >= 14


def test_a_phone_shows_graph_and_sentence_without_scrolling(stepper):
    tab = go(stepper(mlp, width=360, height=740), 12)
    bar = tab.locator("#controls").bounding_box()["y"]
    for selector in ("svg .node.active", "#step h2", "#step .sentence"):
        box = tab.locator(selector).bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= bar, selector


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_has_contrast(stepper, dark):
    """The least ratio of the WCAG for text is 4.5."""
    tab = stepper(mlp, dark=dark)
    ratios = tab.evaluate("""() => {
      const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
      const linear = c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
      const light = (color) => { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(c => linear(c / 255));
        return .2126 * r + .7152 * g + .0722 * b };
      const probe = document.body.appendChild(document.createElement("i"));
      const of = (name) => { probe.style.color = `var(--${name})`; return light(getComputedStyle(probe).color) };
      const roles = ["parameter", "input", "constant", "operation", "result", "gradient", "failing"];
      const pairs = [["accent-ink", "accent"], ...roles.map(n => [n, `${n}-fill`]),
        ...["ink", "quiet", "accent", "gradient", "good", "failing"].flatMap(n => [[n, "paper"], [n, "raised"]])];
      return pairs.map(([a, b]) => { const [x, y] = [of(a), of(b)].sort((p, q) => q - p);
        return [a, b, (x + .05) / (y + .05)] }) }""")
    assert len(ratios) == 20 and [pair for pair in ratios if pair[2] < 4.5] == []


def test_the_keyboard_alone_is_enough(stepper):
    tab = stepper(micro)
    seen = set()
    for _ in range(60):
        tab.keyboard.press("Tab")
        seen.add(tab.evaluate("""() => { const e = document.activeElement;
          return e.id || e.dataset.go || (e.matches(".node") ? "node" : e.closest("#steps") ? "steps" : "") }"""))
    assert {"theme", "slider", "play", "speed", "search", "paths", "steps", "views", "follow", "node"} <= seen
    tab.locator("svg .node[tabindex='0']").focus()
    first = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    tab.keyboard.press("ArrowDown")
    second = tab.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first != second and tab.locator("svg .node[tabindex='0']").count() == 1
    tab.keyboard.press("Enter")
    assert tab.locator("#node").is_visible()
    tab.keyboard.press("Escape")
    tab.keyboard.press("ArrowRight")
    assert at(settled(tab)) == 1


def test_a_screen_reader_has_names_for_everything(stepper):
    tab = go(stepper(mlp), 9)
    nameless = tab.evaluate("""() => {
      const named = e => e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim();
      return page.all("button, select, input, [role=button], [role=img], canvas, svg[role]")
        .filter(e => e.checkVisibility() && !named(e)).map(e => e.outerHTML.slice(0, 99)) }""")
    assert nameless == []
    assert "loss, result" in tab.evaluate("page.all('svg .node').map(n => n.getAttribute('aria-label'))")
    until(tab, "document.querySelector('#announcer').textContent.includes('step 10')")
    assert "passes" in tab.locator("#announcer").text_content()
    assert tab.locator("#slider").get_attribute("aria-valuetext").startswith("Backward · step 10 of")
    assert tab.locator("svg .node[aria-current=step]").count() == 1
    ids = tab.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_without_javascript_all_pictures_are_there(stepper, pages):
    tab = stepper(resnet, javascript=False)
    assert tab.locator("#canvas svg").is_visible()
    text, svgs = tab.locator("main").inner_text(), tab.locator("svg")
    assert svgs.count() == pages(resnet).read_text().count("<svg ") > 15
    assert all(svg.is_visible() for svg in svgs.all())
    assert "∇" in text and "loss" in text and tab.locator("math").count() > 10
    assert not tab.locator("#controls").is_visible() and tab.locator("#steps li").count() > 60


def test_on_paper_there_are_no_controls_and_all_steps(stepper):
    tab = stepper(mlp, dark=True)
    go(tab, 9)
    tab.emulate_media(media="print")
    assert not tab.locator("#controls").is_visible() and not tab.locator("#theme").is_visible()
    assert tab.locator("#step").is_visible() and tab.locator("#canvas svg").is_visible()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.locator("#steps").evaluate("s => s.scrollHeight <= s.clientHeight + 2")  # nothing is cut off
    assert len(tab.pdf()) > 10_000


# ---- what may go wrong -----------------------------------------------------------------------------------------------

HOSTILE = [
    "</script><script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "🧠 ünï",
    "<!--",
    "\\n\\L &amp; {{FIRST}} ]]>",
    "x" * 10_000,
]


def test_hostile_names_are_only_names(browser, tmp_path):
    leaves = [cr.tensor([float(i), 1.0], requires_grad=True) for i in range(len(HOSTILE))]
    total = leaves[0]
    for leaf in leaves[1:]:
        total = total * leaf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = cr.viz.page(total.sum(), tmp_path / "page.html", names=dict(zip(HOSTILE, leaves)), title=HOSTILE[0])
    tab = browser.open(path)
    labels = [v["label"] for v in tab.evaluate("page.data.values")]
    assert set(HOSTILE) <= set(labels)
    tab.keyboard.press("End")
    settled(tab)
    assert tab.evaluate("document.querySelectorAll('img, iframe, body script').length") == 2  # data and the page's own
    boxes = " ".join(tab.locator("svg .node").all_text_contents())
    assert "</script><script>" in boxes and "🧠 ünï" in boxes and "\\n\\L &amp; {{" in boxes
    for name in HOSTILE[:2]:
        tab.locator("#search").fill(name)
        tab.locator("#search").press("Enter")
        assert tab.locator("#node h2").inner_text() == name
    assert tab.evaluate("document.documentElement.scrollWidth") <= 1280


def test_hostile_module_names_and_formulas(browser, tmp_path):
    class Net(cr.nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("<b>&\"'", "a b\\n"):
                self.add_module(name, cr.nn.Sequential(cr.nn.Linear(2, 2), cr.nn.Tanh()))

        def forward(self, x):
            for _, child in self.named_children():
                x = child(x)
            return x.sum()

    net = Net()
    tab = browser.open(cr.viz.page(net(cr.ones(1, 2)), tmp_path / "page.html"))
    text = " ".join(tab.locator("#views option").all_inner_texts())
    assert "<b>&\"'" in text
    assert tab.locator("main b").count() == 0


def test_a_released_graph_is_refused(tmp_path):
    x = cr.ones(2, requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="released by an earlier backward pass"):
        cr.viz.page(loss, tmp_path / "page.html")
    with pytest.raises(TypeError, match="received float; pass the tensor"):
        cr.viz.page(1.0, tmp_path / "page.html")


def test_a_program_without_gradients_has_forward_steps_alone(browser, tmp_path):
    with cr.viz.record() as recording, cr.no_grad():
        (cr.ones(2) * 3).sum()
    tab = browser.open(cr.viz.page(Program.of(recording.steps), tmp_path / "page.html"))
    assert {e["kind"] for e in events(tab)} == {"forward"}
    tab.keyboard.press("End")
    assert "There is no backward pass" in settled(tab).locator("#step").inner_text()
    assert tab.locator("[data-go=turn]").is_disabled()


def test_a_leaf_alone_has_a_page(browser, tmp_path):
    tab = browser.open(cr.viz.page(cr.ones(2, requires_grad=True), tmp_path / "page.html"))
    assert "no operations" in settled(tab).locator("#step").inner_text()


def test_several_results_and_a_gradient_of_ones_own(browser, tmp_path):
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    tab = browser.open(cr.viz.page(y, tmp_path / "page.html", gradient=cr.tensor([1.0, 10.0])))
    value = next(v for v in tab.evaluate("page.data.values") if v["label"] == "x")
    assert tab.evaluate(f"page.data.arrays[{value['gradient']}].whole") == [2, 40]
    assert all(one["agree"] for one in value["check"])


def test_steps_that_began_with_what_came_before(browser, tmp_path):
    with cr.viz.record():
        y = cr.tensor([1.0, 2.0], requires_grad=True) * 2
    with cr.viz.record() as recording:
        (y * 3).sum().backward()
    steps = [step for step in recording.steps if step.name != "multiply" or step.place.expression == "y * 3"]
    tab = browser.open(cr.viz.page(Program.of(steps), tmp_path / "new" / "page.html"))
    assert [s["name"] for s in tab.evaluate("page.data.steps")] == ["multiply", "sum"]
    open_value(tab, "y")
    assert tab.locator("#node .source mark").inner_text() == "y * 3"


def test_a_folder_is_refused_before_the_work(tmp_path):
    with pytest.raises(IsADirectoryError, match="which is a folder; name a file in it"):
        cr.viz.page(None, tmp_path)


def test_roles_and_words_for_what_has_no_name(browser, tmp_path):
    with cr.viz.record():
        data = cr.randn(3, 4)
        weight = cr.randn(4, 2, requires_grad=True)
        one, two, three = (data @ weight).to(cr.float64).unbind()
        loss = (one * two * three).sum()
    tab = browser.open(cr.viz.page(loss, tmp_path / "page.html"))
    values = {v["label"]: v["role"] for v in tab.evaluate("page.data.values")}
    assert (values["data"], values["weight"], values["loss"]) == ("input", "parameter", "result")
    assert "data @ weight as float64" in values


def test_no_grad_is_touched(tmp_path):
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    cr.viz.page(loss, tmp_path / "page.html")
    assert x.grad is None
    loss.backward()
    assert x.grad.tolist() == [2, 4]


def test_a_step_that_stands_for_several_operations_names_them(browser, tmp_path):
    net = cr.nn.models.LeNet5()
    loss = net(cr.ones(1, 1, 32, 32)).sum()
    tab = browser.open(cr.viz.page(loss, tmp_path / "page.html"))
    said = settled(tab).locator("#step").inner_text()
    assert "One step for several operations: conv2d, then tanh, then avg pooling over 2." in said
    assert "under cr.viz.record() is shown in its single operations" in said


# ---- size and speed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [mlp, lenet, lstm, resnet])
def test_pages_open_within_a_second(stepper, make):
    tab = stepper(make)
    spent = []
    for _ in range(5):  # what else runs on the machine comes on top: the least counts
        spent.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        if spent[-1] < 1000:
            break
        tab.reload()
    settled(tab)
    assert tab.locator("#step h2").inner_text() and tab.locator("svg .node.active").count() == 1
    assert 0 < min(spent) < 1000


MEGABYTES = {micro: 0.15, mlp: 0.3, lenet: 0.5, lstm: 1.0, resnet: 1.5, chain: 5.0}


@pytest.mark.parametrize("make, most", MEGABYTES.items())
def test_file_sizes(pages, make, most):
    assert pages(make).stat().st_size < most * 1e6


def test_a_thousand_steps_go_by_at_sixty_frames_a_second(stepper):
    """The work that one step of the slider and of the list's scrolling asks of the page fits a frame of 16.7 ms."""
    tab = stepper(chain)
    assert len(events(tab)) > 2000 and tab.locator("#steps li").count() == 1001
    spent = tab.evaluate("""async () => {
      const slider = document.querySelector("#slider"), list = document.querySelector("#steps"), spent = [];
      for (let k = 0; k < 180; k++) {
        slider.value = 900 + k; slider.dispatchEvent(new Event("input"));
        spent.push(await new Promise(done => requestAnimationFrame((begin) => {  // after the page's own work
          list.scrollTop += 40;
          document.body.getBoundingClientRect();
          done(performance.now() - begin) })));
      }
      return spent }""")
    assert np.percentile(spent, 10) < 1000 / 60  # what other programs do on the machine comes on top


def test_a_result_that_cannot_be_run_again_does_not_keep_the_others_from_being_checked():
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    cr.manual_seed(0)
    dropped, tripled = cr.dropout(x * 1.0, 0.5).sum(), x * 3
    program = Program([dropped, tripled])
    program.walk([cr.tensor(1.0), cr.ones(2)])
    numeric = Numeric(program)
    numeric.missing[program.results[0]] = "not kept."
    numeric.known.pop(program.results[0], None)
    checks = numeric.check(program.results[1])
    assert [one.agree for one in checks] == [True, True] and numeric.check(program.steps[0].inputs[0]) == (
        "Not possible: not kept."
    )


def test_a_formula_has_no_term_for_an_input_that_was_left_out(browser, tmp_path):
    x, w, b = cr.ones(1, 2, 4, 4), cr.ones(3, 2, 3, 3, requires_grad=True), cr.ones(3)
    loss = cr.conv2d(x, w).sum() + cr.conv2d(x, w, b).sum()
    tab = browser.open(cr.viz.page(loss, tmp_path / "page.html"))
    formulas = [key for key in tab.evaluate("Object.keys(page.data.primitives)") if key.startswith("conv2d")]
    assert formulas == ["conv2d_pairs: w * x", "conv2d_pairs: w * x + b"]
