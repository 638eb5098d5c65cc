"""Optimisers on a surface: the paths are those of their formulas, and page and pictures show them."""

import re
from functools import partial

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim, viz
from chainrule.autograd.viz.snapshot import number
from chainrule.nn.viz.optimizers import LEVELS, MAKERS, SURFACES, contour, walk
from chainrule.nn.viz.scrub import chart

STEPS = 30
NAMES = ["SGD", "momentum", "Nesterov", "Adagrad", "Adadelta", "RMSprop", "Adam"]


def formulas(lr):
    """One step of each optimiser, written again in NumPy: f(state, g, t) -> what is subtracted."""

    def momentum(s, g, t, nesterov=False):
        s["v"] = g if t == 1 else 0.9 * s["v"] + g
        return lr * (g + 0.9 * s["v"] if nesterov else s["v"])

    def adagrad(s, g, t):
        s["G"] = s.get("G", 0) + g * g
        return lr * g / (np.sqrt(s["G"]) + 1e-10)

    def adadelta(s, g, t):
        s["E"] = 0.9 * s.get("E", 0) + 0.1 * g * g
        move = np.sqrt(s.get("D", 0) + 1e-3) / np.sqrt(s["E"] + 1e-3) * g
        s["D"] = 0.9 * s.get("D", 0) + 0.1 * move * move
        return lr * move

    def rmsprop(s, g, t):
        s["E"] = 0.9 * s.get("E", 0) + 0.1 * g * g
        return lr * g / (np.sqrt(s["E"]) + 1e-8)

    def adam(s, g, t):
        s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
        s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
        return lr * s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)

    sgd = lambda s, g, t: lr * g
    return dict(zip(NAMES, (sgd, momentum, partial(momentum, nesterov=True), adagrad, adadelta, rmsprop, adam)))


def bowl_path(rule, steps):
    """The path on x²/20 + y² from (−9, 2), with the gradient by hand: (steps + 1, 3)."""
    at, state = np.array([-9.0, 2.0]), {}
    found = [[*at, at[0] ** 2 / 20 + at[1] ** 2]]
    for t in range(1, steps + 1):
        at = at - rule(state, at * (0.1, 2.0), t)
        found.append([*at, at[0] ** 2 / 20 + at[1] ** 2])
    return np.array(found)


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_those_of_the_formulas(name):
    surface = SURFACES["bowl"]
    lr = surface.rate(name)
    found = walk(surface, lambda p: MAKERS[name](p, lr), STEPS)
    np.testing.assert_allclose(found, bowl_path(formulas(lr)[name], STEPS), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "name, gradient",
    [
        ("bowl", lambda x, y: (x / 10, 2 * y)),
        ("saddle", lambda x, y: (2 * x, -2 * y + y**3 / 2)),
    ],
)
def test_the_marked_minima_are_minima_and_the_saddle_is_one(name, gradient):
    surface = SURFACES[name]
    for at in surface.minima:
        assert gradient(*at) == (0, 0)
        around = [surface.loss(cr.tensor(at[0] + dx), cr.tensor(at[1] + dy)).item() for dx, dy in ((0.1, 0), (0, 0.1))]
        assert min(around) > surface.loss(*map(cr.tensor, at)).item()
    beale = SURFACES["beale"]
    assert beale.loss(cr.tensor(3.0), cr.tensor(0.5)).item() == 0 and list(beale.minima) == [(3.0, 0.5)]
    assert SURFACES["saddle"].loss(cr.tensor(0.0), cr.tensor(0.1)).item() < 0


@pytest.mark.parametrize("name", SURFACES)
def test_every_optimiser_goes_down_and_at_the_saddle_the_adaptive_ones_leave_first(name):
    surface = SURFACES[name]
    paths = {n: walk(surface, lambda p, n=n: MAKERS[n](p, surface.rate(n)), 120) for n in NAMES}
    bottom = surface.loss(*map(cr.tensor, surface.minima[0])).item()
    assert all(path[-1, 2] - bottom < 0.05 * (path[0, 2] - bottom) for path in paths.values())
    if name == "saddle":
        left = {n: int(np.argmax(path[:, 1] > 0.3)) for n, path in paths.items()}
        assert max(left[n] for n in NAMES[3:]) < min(left[n] for n in NAMES[:3])


def test_contours_lie_where_the_loss_has_that_value():
    x = np.linspace(-2, 2, 81)
    values = np.add.outer(x**2, x**2)
    segments = contour(x, x, values, 1.0)
    np.testing.assert_allclose(np.hypot(*segments.reshape(-1, 2).T), 1, atol=2e-3)
    length = np.linalg.norm(segments[:, 0] - segments[:, 1], axis=1).sum()
    assert length == pytest.approx(2 * np.pi, rel=2e-3)
    assert len(contour(x, x, values, 99.0)) == 0


def test_a_path_ends_where_it_is_no_longer_finite():
    wild = walk(SURFACES["beale"], lambda p: optim.SGD(p, lr=10.0), 50)
    assert 1 < len(wild) < 51 and np.isfinite(wild).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"surfaces": ["bowls"]}, "the surface 'bowls'; pass bowl, beale, saddle or a viz.Surface"),
        ({"out": "paths.jpg"}, r"out='paths.jpg'; end it in .html for a page, or .svg, .png, .pdf"),
        ({"surfaces": []}, "nothing to draw"),
        ({"optimizers": {}}, "nothing to draw"),
        ({"steps": 0}, "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        viz.optimizers(verbose=False, **options)


def points_of(svg):
    """The points of the one curve of a chart."""
    line = re.search(r'class="curve" d="M([^"]*)"', svg)[1]
    return np.array([point.split() for point in line.split("L")], float)


def test_a_chart_is_logarithmic_where_the_loss_falls_far():
    linear = chart([('class="curve"', [0, 5, 10], [4.0, 2.0, 1.0])], "Loss")
    np.testing.assert_allclose(points_of(linear), [[58, 10], [303, 87], [548, 125.5]])  # 0 … 4 over 164 … 10
    assert "logarithmic" not in linear and re.findall(r'text-anchor="end">([^<]*)', linear) == ["0", "1", "2", "3", "4"]
    steep = chart([('class="curve"', [0, 5, 10], [100.0, 1.0, 0.01])], "Loss")
    np.testing.assert_allclose(points_of(steep)[:, 1], [10, 87, 164])
    assert 'aria-label="Loss, logarithmic scale"' in steep
    deep = chart([('class="curve"', [0, 10], [1.0, 0.0])], "Loss")  # of zero there is no logarithm
    assert points_of(deep)[1, 1] == 164 and re.findall(r'text-anchor="end">([^<]*)', deep)[0] == "1e−6"


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib", reason="needs Matplotlib: pip install 'chainrule[examples]'")
    make = partial(viz.optimizers, ["bowl", "saddle"], steps=5, verbose=False)
    text = make(out=tmp_path / "a.svg").read_text()
    assert "<svg" in text and text == make(out=tmp_path / "b.svg").read_text()
    assert make(out=tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert make(out=tmp_path / "a.pdf").read_bytes()[:5] == b"%PDF-"


def test_a_picture_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"a.png is drawn by Matplotlib.*chainrule\[examples\].*end `out` in .html"):
        viz.optimizers(["bowl"], steps=1, out=tmp_path / "a.png", verbose=False)
    assert viz.optimizers(["bowl"], steps=1, out=tmp_path / "new" / "a.html", verbose=False).exists()


# ---- the page --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return viz.optimizers(steps=STEPS, out=tmp_path_factory.mktemp("optimizers") / "page.html", verbose=False)


def until(tab, condition):
    """Wait until a condition holds in the page; Playwright's own wait needs eval, which the page's policy forbids."""
    for _ in range(150):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(20)
    raise AssertionError(condition)


def reads(tab, step):
    until(tab, f"document.getElementById('told').textContent === 'step {step} of {STEPS}'")


def test_the_numbers_at_a_step_are_the_formulas(browser, page):
    tab = browser.open(page)
    tab.locator("#moment").evaluate("s => { s.value = 7; s.dispatchEvent(new Event('input')); }")
    reads(tab, 7)
    rows = tab.locator("article").first.locator("tbody tr")
    assert rows.count() == len(NAMES)
    for row, name in zip(rows.all(), NAMES, strict=True):
        lr = SURFACES["bowl"].rate(name)
        assert row.locator("th").text_content() == f"{name}, η {lr:g}"
        expected = bowl_path(formulas(lr)[name], 7)[-1]
        assert row.locator("td").all_text_contents() == [number(v).replace("-", "−") for v in expected]


def test_paths_are_drawn_to_the_step_on_the_right_pixels(browser, page):
    tab = browser.open(page)
    tab.keyboard.press("Home")
    reads(tab, 0)
    tab.keyboard.press("ArrowRight")
    reads(tab, 1)
    walk = tab.locator("article").first.locator(".walk").first
    start, then = bowl_path(formulas(0.9)["SGD"], 1)[:, :2]
    place = lambda at: ((at[0] + 10) / 14 * 360, (2.6 - at[1]) / 5.2 * 300)
    numbers = [float(v) for v in walk.locator(".path").get_attribute("d").replace("M", " ").replace("L", " ").split()]
    assert numbers == pytest.approx([*place(start), *place(then)], abs=0.06)
    assert walk.locator(".head").get_attribute("transform") == f"translate({numbers[2]:g} {numbers[3]:g})"


def test_buttons_keys_and_playing(browser, page):
    tab = browser.open(page)
    reads(tab, STEPS)
    tab.get_by_label("First step").click()
    reads(tab, 0)
    tab.get_by_label("Step on").click()
    reads(tab, 1)
    tab.get_by_label("Step back").click()
    reads(tab, 0)
    tab.get_by_label("Last step").click()
    reads(tab, STEPS)
    tab.locator("#play").click()
    until(tab, "(step => 0 < step && step < 25)(Number(document.getElementById('moment').value))")
    until(tab, "document.getElementById('play').getAttribute('aria-pressed') === 'false'")
    reads(tab, STEPS)
    tab.locator("h1").click()
    tab.keyboard.press("ArrowLeft")
    reads(tab, STEPS - 1)
    until(tab, f"document.getElementById('announcer').textContent === 'Step {STEPS - 1} of {STEPS}. '")


def test_an_optimiser_is_hidden(browser, page):
    tab = browser.open(page)
    tab.get_by_role("checkbox", name="Adagrad").uncheck()
    assert tab.locator(".walk:visible").count() == 3 * 6 and tab.locator("tbody tr:visible").count() == 3 * 6
    assert not tab.get_by_text("Adagrad, η").first.is_visible()
    tab.get_by_role("checkbox", name="Adagrad").check()
    assert tab.locator(".walk:visible").count() == 3 * 7


@pytest.mark.parametrize("width, dark", [(360, True), (1280, False), (3840, True)])
def test_nothing_is_wider_than_the_window(browser, page, width, dark):
    tab = browser.open(page, width=width, dark=dark)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_without_javascript_the_whole_paths_are_there(browser, page):
    tab = browser.open(page, javascript=False)
    assert "Without JavaScript" in tab.locator(".without-js").inner_text() and not tab.locator("#moment").is_visible()
    assert tab.locator(".walk").count() == 21 and tab.locator(".contour").count() == 3 * LEVELS
    assert tab.locator(".path").first.get_attribute("d").count("L") == STEPS
    assert page.stat().st_size < 1_500_000


def test_a_surface_and_optimisers_of_the_user(browser, tmp_path):
    name = "<b>valley</b>"
    valley = viz.Surface(name, lambda x, y: (1 - x) ** 2 + 5 * (y - x * x) ** 2, (-1.0, 1.0), ((-2, 2), (-1, 3)))
    makers = {"</script>": partial(optim.AdamW, lr=0.05), "plain": partial(optim.SGD, lr=0.01)}
    out = viz.optimizers([valley], makers, steps=8, out=tmp_path / "p.html", verbose=False)
    tab = browser.open(out)
    assert tab.locator("article h2").inner_text() == name and tab.locator("article b").count() == 0
    assert tab.locator("tbody th").all_inner_texts() == list(makers)
    end = [number(v).replace("-", "−") for v in walk(valley, makers["plain"], 8)[-1]]
    assert tab.locator("tbody tr").nth(1).locator("td").all_text_contents() == end


@pytest.mark.parametrize("name", ["folder.svg", "folder.html"])
def test_a_folder_is_refused_before_the_work(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(IsADirectoryError, match="which is a folder; name a file in it"):
        cr.viz.optimizers(["bowl"], steps=3, out=tmp_path / name)


def test_a_picture_that_cannot_be_drawn_leaves_the_old_one(tmp_path, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    (tmp_path / "a.svg").write_text("old")

    def fails(self, file, **options):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(figure.Figure, "savefig", fails)
    with pytest.raises(OSError, match="no space left"):
        cr.viz.optimizers(["bowl"], steps=3, out=tmp_path / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"] and (tmp_path / "a.svg").read_text() == "old"
