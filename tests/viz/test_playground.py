"""The playground: its data, what it records, and the page in Chromium, whose numbers are the engine's."""

import base64
import re
from functools import partial
from io import BytesIO

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, viz
from chainrule.autograd.viz.snapshot import number
from chainrule.nn.viz import data2d, raster, rehearsal

STEPS = 40


def array(t):
    return t.detach().numpy()


# ---- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", data2d.KINDS)
def test_named_data_are_two_balanced_classes(name):
    x, y, names, title = data2d.points(name, n=100)
    assert x.shape == (100, 2) and x.dtype == np.float32 and np.abs(x).max() < 1.5
    assert np.bincount(y).tolist() == [50, 50] and names == ["class 0", "class 1"] and title == name


def test_the_shapes_of_the_named_data():
    disc, ring = (data2d.points("circles", noise=0).x[i::2] for i in (1, 0))
    assert np.hypot(*disc.T).max() < 0.46 and np.hypot(*ring.T).min() > 0.69
    x, y, *_ = data2d.points("xor", noise=0)
    assert ((x[:, 0] * x[:, 1] < 0) == y).all()
    x, y, *_ = data2d.points("spiral", noise=0)
    turned = np.arctan2(x[:, 1], x[:, 0]) - 3 * np.pi * np.hypot(*x.T) - np.pi * y
    np.testing.assert_allclose(np.cos(turned), 1, atol=1e-4)
    x, y, *_ = data2d.points("moons", noise=0)
    centres = np.where(y[:, None] == 1, (0.31, 0.15), (-0.31, -0.15))
    np.testing.assert_allclose(np.hypot(*(x - centres).T), 0.62, rtol=1e-5)


@pytest.mark.parametrize(
    "data, message",
    [
        ("rings", "data='rings'; pass 'circles', 'xor', 'spiral', 'moons' or a pair"),
        (([[0.0, 1.0]],), "data of 1 parts"),
        (([[0.0, 1.0, 2.0]], [1]), r"X of shape \(1, 3\) and y of shape \(1,\)"),
        (([[0.0, np.nan], [1, 1]], [1, 0]), r"pass finite X of shape \(N, 2\)"),
        (([[0.0, 1.0], [2, 2]], [0.5, 1]), "y of float64 with fractions"),
        (([[0.0, 1.0], [2, 2]], [1, 1]), "y with 1 classes; it tells 2 to 6 apart"),
        (([[0.0, 1.0], [2, 2]], [None, 1]), "y of object; pass integers, truth values or strings"),
        (None, r"data of type NoneType; pass a name or a pair \(X, y\)"),
        ({"X": 1, "y": 2}, r"data of type dict; pass a name or a pair \(X, y\)"),
    ],
)
def test_data_that_are_no_points_with_classes(data, message):
    with pytest.raises(ValueError, match=message):
        viz.playground(data=data, verbose=False)


# ---- the recording ---------------------------------------------------------------------------------------------------


def test_a_png_is_read_by_others():
    image = pytest.importorskip("PIL.Image", reason="needs Pillow, which Matplotlib brings")
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    found = image.open(BytesIO(raster.png(indices, raster.HEAT)))
    assert found.size == (4, 3) and np.array_equal(np.asarray(found), indices)
    assert found.convert("RGB").getpixel((3, 2)) == tuple(raster.HEAT[11])


def test_a_sight_of_logistic_regression_is_its_closed_form(rng):
    net = nn.Linear(2, 1).to(cr.float64)
    x, y = rng.standard_normal((30, 2)), rng.integers(0, 2, 30)
    seen = rehearsal.see(net, x, lambda out, layers: rehearsal.data_loss(out, y))
    w, b = array(net.weight)[0], array(net.bias)[0]
    p = 1 / (1 + np.exp(-(x @ w + b)))
    np.testing.assert_allclose(seen.objective, -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    np.testing.assert_allclose(seen.columns[1][:, 0], x @ w + b)
    np.testing.assert_allclose(seen.pulls[1][:, 0], (p - y) / 30)
    np.testing.assert_allclose(seen.pulls[0], np.outer((p - y) / 30, w))
    np.testing.assert_allclose(seen.weights[0][0], (p - y) @ x / 30)
    np.testing.assert_allclose(seen.biases[0], [(p - y).mean()])


def trained(variant, steps, classes=2, points=None):
    """The variant's network after so many steps of a plain loop, in full batches."""
    points = points or data2d.points("xor")
    cr.manual_seed(variant.seed)
    net = variant.build(classes)
    optimizer = variant.optimizer(net.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(net, variant, points).backward()
        optimizer.step()
    return net


def loss_of(net, variant, points):
    loss = cr.binary_cross_entropy_with_logits(net(cr.tensor(points.x))[:, 0], cr.tensor(points.y).float())
    for layer in net:
        if isinstance(layer, nn.Linear):
            loss = loss + variant.l1 * layer.weight.abs().sum() + variant.l2 / 2 * (layer.weight**2).sum()
    return loss


@pytest.mark.parametrize("variant", [viz.Variant(), viz.Variant(hidden=(3,), activation=nn.ReLU, l1=0.01, l2=0.1)])
def test_what_is_recorded_is_what_a_plain_loop_trains(variant):
    points = data2d.points("xor")
    net, widths = rehearsal.prepare(variant, points)
    assert widths == [2, *variant.hidden, 1]
    recording = rehearsal.rehearse(rehearsal.Recording(""), variant, net, points, [0, 5, 20], (6, 8))
    for m, steps in enumerate((0, 5, 20)):
        other = trained(variant, steps)
        linear = [layer for layer in other if isinstance(layer, nn.Linear)]
        other.zero_grad()
        loss_of(other, variant, points).backward()
        for i, layer in enumerate(linear):
            np.testing.assert_allclose(recording.weights[m][i], array(layer.weight), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(recording.biases[m][i], array(layer.bias), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(recording.sights[m].weights[i], layer.weight.grad.numpy(), rtol=1e-3, atol=1e-6)
        plain = loss_of(other, viz.Variant(), points).item()
        assert recording.losses[m] == pytest.approx(plain, rel=1e-4)
        guessed = array(other(cr.tensor(points.x)))[:, 0] > 0
        assert recording.accuracies[m] == pytest.approx((guessed == points.y).mean())
    assert recording.losses[-1] < recording.losses[0]


def test_the_maps_are_the_units_over_the_plane():
    points, variant = data2d.points("circles"), viz.Variant(hidden=(3,))
    net, _ = rehearsal.prepare(variant, points)
    recording = rehearsal.rehearse(rehearsal.Recording(""), variant, net, points, [0], (5, 4))
    (left, right), (bottom, top) = points.limits
    assert left < points.x[:, 0].min() and top > points.x[:, 1].max()
    at = np.array([[left + (right - left) * 3.5 / 5, top + (bottom - top) * 0.5 / 5]])  # fourth column, first row
    hidden = np.tanh(at @ array(net[0].weight).T + array(net[0].bias))[0]
    np.testing.assert_allclose(recording.maps[0][1][:, 0, 3], hidden, rtol=1e-4)
    np.testing.assert_allclose(recording.maps[0][0][:, 0, 3], at[0], rtol=1e-4)
    w = array(net[2].weight)[0]
    np.testing.assert_allclose(recording.pulls[0][1][:, 0, 3], w, rtol=1e-4)  # ∂f/∂a = w
    np.testing.assert_allclose(recording.pulls[0][0][:, 0, 3], w * (1 - hidden**2) @ array(net[0].weight), rtol=1e-3)


def test_the_users_network_and_random_numbers_stay_as_they_are(tmp_path):
    net = nn.models.MLP([2, 3, 1], nn.Tanh)
    before, state = array(net[0].weight).copy(), cr.default_generator.get_state()
    viz.playground(net, steps=3, out=tmp_path / "new" / "a.html", verbose=False)
    assert np.array_equal(array(net[0].weight), before) and net[0].weight.grad is None and net.training
    assert cr.default_generator.get_state() == state


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(1, 3)

    def forward(self, x):
        return self.a(x.unsqueeze(2)).sum(1)[:, :1]


class Skips(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(5, 1)

    def forward(self, x):
        return self.b(cr.cat([self.a(x), x], 1))


@pytest.mark.parametrize(
    "net, error, message",
    [
        (nn.Sequential(nn.Tanh()), ValueError, "a Sequential that ran no nn.Linear"),
        (Skips(), ValueError, "a layer of 3 units is followed by one that takes 5"),
        (Steps(), ValueError, r"a layer sees inputs of shape \(200, 2, 1\)"),
        (nn.Linear(2, 4), ValueError, "returns 4 numbers for a point, but the points have 2 classes.*1 or 2"),
        ("tanh", TypeError, "received str; pass a module, a viz.Variant"),
        ([], TypeError, "received no network"),
    ],
)
def test_networks_that_cannot_be_drawn(net, error, message):
    with pytest.raises(error, match=message):
        viz.playground(net, verbose=False)


def test_no_steps():
    with pytest.raises(ValueError, match="steps=0; a training needs at least one"):
        viz.playground(steps=0)


@pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")
def test_a_loss_that_is_no_longer_finite():
    wild = viz.Variant(hidden=(4,), activation=nn.Identity, optimizer=partial(cr.optim.SGD, lr=1e30))
    with pytest.raises(FloatingPointError, match="the loss of 'the network' became .* by step .*smaller learning rate"):
        viz.playground(wild, steps=50, verbose=False)


def test_labels_say_in_what_runs_differ():
    sgd = partial(cr.optim.SGD, lr=0.5)
    found = rehearsal.labels([viz.Variant(), viz.Variant(optimizer=sgd, hidden=(8,)), viz.Variant()])
    usual = "hidden 4-2, optimizer Adam lr 0.03"
    assert found == [f"{usual} (1)", "hidden 8, optimizer SGD lr 0.5", f"{usual} (3)"]


class Twice(nn.Module):
    """One layer that runs twice, a frozen one, no bias, and inputs of its own making."""

    def __init__(self):
        super().__init__()
        self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 2, bias=False)
        self.out.requires_grad_(False)

    def forward(self, x):
        x = cr.cat([x, x * x], 1)
        return self.out(self.inner(self.inner(x).tanh()).tanh())


def test_layers_that_run_twice_are_frozen_or_have_no_bias(browser, tmp_path):
    net = Twice().double()
    out = viz.playground({"twice": net}, "circles", steps=4, out=tmp_path / "p.html", verbose=False)
    tab = browser.open(out)
    run = tab.evaluate("page.data.runs[0]")
    assert [unit["name"] for unit in run["units"]][:4] == ["input 1", "input 2", "input 3", "input 4"]
    weights = array(net.inner.weight).ravel()
    np.testing.assert_allclose(run["weights"][0], [*weights, *weights, *array(net.out.weight).ravel()], rtol=1e-6)
    assert run["weights"][-1][32:] == run["weights"][0][32:] and run["weights"][-1][:16] != run["weights"][0][:16]
    assert run["views"][0]["weights"][0][:16] == run["views"][0]["weights"][0][16:32]
    assert run["views"][0]["weights"][0][32:] == [0] * 8
    tab.locator(".unit .frame").last.click()
    assert list(table(tab)) == ["the unit itself", *(f"weight from layer 2, unit {i}" for i in (1, 2, 3, 4))]


def test_mini_batches_and_dropout_learn(tmp_path):
    variant = viz.Variant(hidden=(8,), dropout=0.2, batch_size=20)
    points = data2d.points("moons")
    net, _ = rehearsal.prepare(variant, points)
    assert [type(module).__name__ for module in net] == ["Linear", "Tanh", "Dropout", "Linear"]
    recording = rehearsal.rehearse(rehearsal.Recording(""), variant, net, points, [0, 150], (4, 4))
    assert recording.accuracies[-1] > 0.8 > recording.accuracies[0]


# ---- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of two runs on xor, made once."""
    out = tmp_path_factory.mktemp("playground") / "page.html"
    runs = {"tanh": viz.Variant(), "ReLU & L2": viz.Variant(hidden=(3,), activation=nn.ReLU, l2=0.1)}
    return viz.playground(runs, "xor", steps=STEPS, out=out, verbose=False)


def shown(value):
    return number(float(value)).replace("-", "−")


def until(tab, condition):
    """Wait until a condition holds in the page; Playwright's own wait needs eval, which the page's policy forbids."""
    for _ in range(150):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(20)
    raise AssertionError(condition)


def slide(tab, index):
    tab.locator("#moment").evaluate("(s, i) => { s.value = i; s.dispatchEvent(new Event('input')); }", index)


def at_step(tab, step):
    """Scrub to a step that was recorded."""
    index = tab.evaluate(f"page.data.steps.indexOf({step})")
    assert index >= 0
    slide(tab, index)
    until(tab, f"document.getElementById('told').textContent === 'step {step} of {STEPS}'")


def table(tab, run=0):
    """The numbers of the chosen unit: {row: [value, gradient]}."""
    detail = tab.locator(".run").nth(run).locator(".detail")
    detail.locator("caption").wait_for()
    rows = detail.locator("tbody tr")
    return {row.locator("th").text_content(): row.locator("td").all_text_contents() for row in rows.all()}


def test_the_numbers_on_the_page_are_the_engines(browser, page):
    tab = browser.open(page)
    step = next(s for s in tab.evaluate("page.data.steps") if s > 10)
    at_step(tab, step)
    tab.locator(".run").nth(1).locator(".unit .frame").nth(3).click()  # two inputs, then the layer's second unit
    points, variant = data2d.points("xor"), viz.Variant(hidden=(3,), activation=nn.ReLU, l2=0.1)
    net = trained(variant, step)
    net.zero_grad()
    hidden = net[1](net[0](cr.tensor(points.x)))
    hidden.retain_grad()
    out = net[2](hidden)
    loss = cr.binary_cross_entropy_with_logits(out[:, 0], cr.tensor(points.y).float())
    (loss + 0.05 * sum((net[i].weight ** 2).sum() for i in (0, 2))).backward()
    first, second = net[0], net[2]
    expected = {
        "the unit itself": (array(hidden)[:, 1].mean(), hidden.grad.numpy()[:, 1].sum()),
        "weight from x₁": (first.weight[1, 0].item(), first.weight.grad[1, 0].item()),
        "weight from x₂": (first.weight[1, 1].item(), first.weight.grad[1, 1].item()),
        "bias": (first.bias[1].item(), first.bias.grad[1].item()),
        "weight to output": (second.weight[0, 1].item(), second.weight.grad[0, 1].item()),
    }
    found = table(tab, 1)
    assert list(found) == list(expected)
    for name, numbers in expected.items():
        read = [float(text.replace("−", "-")) for text in found[name]]
        assert read == pytest.approx(numbers, rel=2e-3, abs=1e-6), name
    assert float(tab.locator(".figures .loss").nth(1).text_content()) == pytest.approx(loss.item(), rel=1e-3)


def test_every_number_of_the_data_is_shown_to_the_digit(browser, page):
    tab = browser.open(page)
    at_step(tab, STEPS)
    tab.locator(".unit .frame").nth(2).click()
    run = tab.evaluate("page.data.runs[0]")
    last = len(run["weights"]) - 1
    assert table(tab)["weight from x₁"] == [shown(run["weights"][last][0]), shown(run["views"][0]["weights"][last][0])]
    assert table(tab)["bias"] == [shown(run["biases"][last][2]), shown(run["views"][0]["biases"][last][2])]


def test_following_one_example(browser, page):
    tab = browser.open(page)
    at_step(tab, 0)
    tab.locator("#view").select_option("1")
    tab.locator(".unit .frame").nth(2).click()
    points, net = data2d.points("xor"), trained(viz.Variant(), 0)
    value = net[1](net[0](cr.tensor(points.x[:1])))
    value.retain_grad()
    out = net[4](net[3](net[2](value)))
    cr.binary_cross_entropy_with_logits(out[:, 0], cr.tensor([float(points.y[0])])).backward()
    read = [float(text.replace("−", "-")) for text in table(tab)["the unit itself"]]
    assert read == pytest.approx([array(value)[0, 0], value.grad.numpy()[0, 0]], rel=2e-3)
    assert tab.locator(".ring").nth(0).is_visible()
    tab.locator("#view").select_option("0")
    until(tab, "document.querySelector('.ring').hasAttribute('hidden')")


def test_forward_and_backward(browser, page):
    tab = browser.open(page)
    unit = tab.locator(".unit").nth(2)
    values = unit.locator(".value").text_content()
    assert unit.locator("svg.maps").is_visible() and not unit.locator("svg.pulls").is_visible()
    width = tab.locator(".link").first.get_attribute("stroke-width")
    tab.keyboard.press("b")
    until(tab, "document.querySelector('.run').classList.contains('backward')")
    assert unit.locator("svg.pulls").is_visible() and not unit.locator("svg.maps").is_visible()
    assert unit.locator(".value").text_content().startswith("∇ ")
    assert tab.locator(".link").first.get_attribute("stroke-width") != width
    assert tab.get_by_label("Backward: gradients").is_checked()
    tab.get_by_label("Forward: values").check()
    until(tab, "!document.querySelector('.run').classList.contains('backward')")
    assert unit.locator(".value").text_content() == values


def test_links_have_the_weights_sign_and_width(browser, page):
    tab = browser.open(page)
    at_step(tab, 0)
    weights = tab.evaluate("page.data.runs[0].weights[0]")
    widest = tab.evaluate("page.data.widest")
    links = tab.locator(".run").first.locator(".link").all()
    assert len(links) == 2 * 4 + 4 * 2 + 2 == len(weights)
    for link, w in zip(links, weights, strict=True):
        assert link.get_attribute("class").split() == ["link", "neg" if w < 0 else "pos"]
        assert float(link.get_attribute("stroke-width")) == pytest.approx(0.6 + 8 * min(1, abs(w) / widest), abs=1e-6)


def test_the_drawn_map_is_the_units_value(browser, page):
    image = pytest.importorskip("PIL.Image", reason="needs Pillow, which Matplotlib brings")
    tab = browser.open(page)
    step = tab.evaluate("page.data.steps[7]")
    at_step(tab, step)
    strip = tab.locator(".unit").nth(3).locator("svg.maps")
    href = strip.locator("image").get_attribute("href")
    x, y, width, height = map(int, strip.get_attribute("viewBox").split())
    pixels = np.asarray(image.open(BytesIO(base64.b64decode(href.partition(",")[2]))))[y : y + height, x : x + width]
    points, net = data2d.points("xor"), trained(viz.Variant(), step)
    values = array(net[1](net[0](cr.tensor(rehearsal.grid(points, width)))))[:, 1].reshape(height, width)
    assert np.abs((pixels.astype(float) - 128) / 127 - values).max() < 0.02  # tanh: full colour is 1
    clear = np.abs(values) > 0.01
    assert np.array_equal(np.sign(values[clear]), np.sign(pixels.astype(int) - 128)[clear])


def test_buttons_and_keys(browser, page):
    tab = browser.open(page)
    steps = tab.evaluate("page.data.steps")
    reads = lambda step: until(tab, f"document.getElementById('told').textContent === 'step {step} of {STEPS}'")
    reads(STEPS)
    tab.keyboard.press("Home")
    reads(0)
    tab.keyboard.press("ArrowRight")
    reads(steps[1])
    tab.get_by_label("Step on").click()
    reads(steps[2])
    tab.get_by_label("Step back").click()
    reads(steps[1])
    tab.locator("body").click(position={"x": 2, "y": 2})
    tab.keyboard.press("End")
    reads(STEPS)
    tab.get_by_label("First step").click()
    reads(0)
    tab.locator("#moment").focus()
    tab.keyboard.press("ArrowRight")
    reads(steps[1])
    tab.get_by_label("Last step").click()
    reads(STEPS)
    until(tab, "document.getElementById('announcer').textContent.startsWith('Step 40 of 40. tanh: loss ')")


def test_playing_runs_from_the_beginning_to_the_end(browser, page):
    tab = browser.open(page)
    tab.locator("body").click(position={"x": 2, "y": 2})
    tab.keyboard.press(" ")
    until(tab, "Number(document.getElementById('moment').value) in {1: 1, 2: 1, 3: 1, 4: 1}")
    assert tab.locator("#play").get_attribute("aria-pressed") == "true"
    tab.locator("#play").click()
    assert tab.locator("#play").get_attribute("aria-pressed") == "false"
    until(tab, f"document.getElementById('told').textContent !== 'step {STEPS} of {STEPS}'")
    stopped = tab.locator("#told").text_content()
    tab.wait_for_timeout(300)
    assert tab.locator("#told").text_content() == stopped
    slide(tab, len(tab.evaluate("page.data.steps")) - 3)
    tab.locator("#play").click()
    until(tab, "document.getElementById('play').getAttribute('aria-pressed') === 'false'")
    assert tab.locator("#told").text_content() == f"step {STEPS} of {STEPS}"


def test_a_unit_is_chosen_by_keyboard(browser, page):
    tab = browser.open(page)
    unit = tab.locator(".unit .frame").nth(4)
    unit.focus()
    tab.keyboard.press("Enter")
    until(tab, "document.querySelectorAll('.unit .frame')[4].getAttribute('aria-pressed') === 'true'")
    assert tab.locator(".link.own").count() == 2 + 2  # from two inputs, to two units
    assert tab.locator(".detail caption").text_content() == f"layer 1, unit 3 at step {STEPS}"
    assert re.fullmatch(r"layer 1, unit 3, value -?[\d.e-]+", unit.get_attribute("aria-label"))
    tab.keyboard.press("Escape")
    until(tab, "document.querySelectorAll('.link.own').length === 0")
    assert tab.locator(".detail").first.text_content() == "Choose a unit to read its numbers."


def test_the_loss_curve_is_clicked_and_its_cursor_follows(browser, page):
    tab = browser.open(page)
    box = tab.locator(".chart").bounding_box()
    chart = tab.evaluate("page.data.chart")
    at = chart["left"] + (chart["right"] - chart["left"]) / 2
    tab.mouse.click(box["x"] + box["width"] * at / 560, box["y"] + box["height"] / 2)
    half = min(tab.evaluate("page.data.steps"), key=lambda step: abs(step - STEPS / 2))
    until(tab, f"document.getElementById('told').textContent === 'step {half} of {STEPS}'")
    moved = float(re.search(r"[\d.]+", tab.locator(".cursor").get_attribute("transform"))[0])
    assert moved == pytest.approx(chart["left"] + (chart["right"] - chart["left"]) * half / STEPS)


def test_touch(browser, page):
    tab = browser.open(page, width=360, has_touch=True)
    tab.locator(".unit .frame").nth(2).tap()
    tab.locator(".detail caption").first.wait_for()
    tab.get_by_text("Backward: gradients").tap()
    until(tab, "document.querySelector('.run').classList.contains('backward')")


def test_points_grow_with_their_error(browser, page):
    tab = browser.open(page)
    tab.keyboard.press("b")
    at_step(tab, 0)
    points, net = data2d.points("xor"), trained(viz.Variant(), 0)
    p = 1 / (1 + np.exp(-array(net(cr.tensor(points.x)))[:, 0]))
    wrong = np.abs(p - points.y)
    marks = tab.locator(".run").first.locator(".decision .point")
    assert marks.count() == len(points.x)
    for i in (0, 1, 17):
        size = float(re.search(r"scale\(([\d.]+)\)", marks.nth(i).get_attribute("transform"))[1])
        assert size == pytest.approx(0.15 + 1.25 * wrong[i], abs=0.01)


@pytest.mark.parametrize("width, dark", [(360, False), (1280, True), (3840, False)])
def test_nothing_is_wider_than_the_window(browser, page, width, dark):
    tab = browser.open(page, width=width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator(".run").count() == 2
    tops = [run.bounding_box()["y"] for run in tab.locator(".run").all()]
    assert (tops[0] == tops[1]) == (width > 1000)  # side by side where there is room


def test_one_network_is_seen_whole_on_a_small_projector(browser, tmp_path):
    net = cr.nn.Sequential(cr.nn.Linear(2, 6), cr.nn.Tanh(), cr.nn.Linear(6, 1))
    path = cr.viz.playground(net, "moons", steps=2, verbose=False, out=tmp_path / "one.html")
    tab = browser.open(path, width=1280, height=720)
    for part in (".network", ".decision"):
        box = tab.locator(part).bounding_box()
        assert box["y"] + box["height"] <= 720 and box["height"] > 300


def test_without_javascript_the_last_step_is_there(browser, page):
    run = browser.open(page).evaluate("page.data.runs[0]")
    tab = browser.open(page, javascript=False)
    assert "Without JavaScript" in tab.locator(".without-js").inner_text()
    assert not tab.locator("#moment").is_visible()
    assert tab.locator(".figures .loss").first.inner_text() == number(run["loss"][-1])
    assert tab.locator(".unit .value").nth(2).text_content() == shown(f"{run['views'][0]['values'][-1][2]:.3g}")
    frames = int(tab.locator(".maps").nth(2).get_attribute("data-frames"))
    side = int(tab.locator(".maps").nth(2).get_attribute("viewBox").split()[2])
    assert tab.locator(".maps").nth(2).get_attribute("viewBox").split()[1] == str((frames - 1) * (side + 2) + 1)


def test_three_hostile_classes_and_wide_layers(browser, tmp_path, rng):
    names = np.array(["<img src=x onerror=alert(1)>", "</script>", "🧠 {rows}"])
    y = np.arange(90) % 3
    x = rng.standard_normal((90, 2)) * 0.2 + np.array([[0, 1], [1, 0], [-1, 0]])[y]
    net = nn.models.MLP([2, 16, 3], nn.Tanh)
    out = viz.playground({"</article><b>": net}, (x, names[y]), steps=30, out=tmp_path / "p.html", verbose=False)
    tab = browser.open(out)
    assert tab.locator(".run h2").inner_text() == "</article><b>"
    assert tab.locator(".unit").count() == 2 + 10 + 3
    assert "10 of 16 Tanh" in tab.locator(".network").text_content()
    assert tab.locator("img, .run b").count() == 0
    told = [text.strip() for text in tab.locator(".legend li").all_text_contents()]
    assert sorted(told) == sorted(f"{name}: 30 points" for name in names)
    assert tab.evaluate("page.data.runs[0].accuracy.at(-1)") > 0.9


def test_decisions_of_three_classes_take_the_likeliest_ones_colour():
    from chainrule.nn.viz.playground import decision_levels

    logits = np.array([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [0, 0, 0.1]]).T.reshape(1, 3, 2, 2)
    found, palette = decision_levels(logits, 3)
    colours = palette[found[0].reshape(-1)].astype(int)
    assert [int(c.argmax()) for c in colours[:3]] == [2, 0, 1]  # blue, red, green
    assert colours[3].min() > colours[2].min()  # hardly sure: nearly white


def test_the_file_stays_small(tmp_path):
    runs = [viz.Variant(hidden=(32, 32), seed=i) for i in range(4)]
    out = viz.playground(runs, "spiral", steps=60, out=tmp_path / "p.html", verbose=False)
    assert out.stat().st_size < 5_000_000


def test_one_point_is_no_training(tmp_path):
    with pytest.raises(ValueError, match="n=1; it needs a point of each class"):
        cr.viz.playground(n=1, out=tmp_path / "a.html")


def test_a_folder_is_refused_before_the_training(tmp_path):
    with pytest.raises(IsADirectoryError, match="which is a folder; name a file in it"):
        cr.viz.playground(out=tmp_path)
