"""The frame of every page: self-contained, harmless whatever it is given, readable in every size and light."""

import json
import re

import numpy as np
import pytest

from chainrule.autograd.viz import shell
from chainrule.autograd.viz.snapshot import number

HOSTILE = [
    "</script><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "<!--<script>",
    "]]>&lt;\u2028\u2029\x00\x0b\ud83d",
    "🧠 ∇ ünï",
    "x" * 10_000,
]


@pytest.fixture
def opened(browser, tmp_path):
    """open(title, body, **options) -> a tab that shows the document."""

    def opening(title="a page", body="<p>text</p>", width=1280, dark=False, javascript=True, **options):
        path = shell.save(tmp_path / "page.html", shell.document(title, body, **options))
        return browser.open(path, width=width, dark=dark, javascript=javascript)

    return opening


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_only_text(opened, text):
    tab = opened(title=text, description=text, data={"name": text, text: 1})
    assert tab.locator("h1").text_content() == text.replace("\x00", "").replace("\ud83d", "?")
    assert tab.evaluate("page.data.name") == text.replace("\ud83d", "?")
    assert tab.locator("script").count() == 3  # the frame's own
    assert tab.locator("body img, body svg").count() == 0


def test_data_arrives_as_it_was(opened):
    data = {
        "numbers": [1.5, -2.0, 3, 1e300, 5e-324],
        "odd": [float("nan"), float("inf"), float("-inf")],
        "single": np.array([0.1, 1e-30, 16777217], np.float32),
        "flags": np.array([True, False]),
        "nested": {"a": [None, True, ["x"]]},
    }
    tab = opened(data=data)
    assert tab.evaluate("page.data.numbers") == data["numbers"]
    assert np.array_equal(tab.evaluate("page.data.odd.map(Number)"), data["odd"], equal_nan=True)
    assert (np.array(tab.evaluate("page.data.single"), np.float32) == data["single"]).all()
    assert tab.evaluate("page.data.flags") == [True, False]
    assert tab.evaluate("page.data.nested") == data["nested"]


def test_json_of_single_precision_is_short():
    assert shell.to_json(np.array([0.1, 0.2], np.float32)) == "[0.1,0.2]"


def test_numbers_are_written_as_in_python(opened):
    rng = np.random.default_rng(0)
    values = [float(v) for v in rng.standard_normal(300) * 10.0 ** rng.integers(-12, 12, 300)]
    values += [0.0, -0.0, 1.0, -1.0, 0.5, 9999.0, 9999.6, 0.0001, 0.00009999, 99995e-9, 1e4, float("inf"), 5e-324]
    tab = opened(data=values)
    assert tab.evaluate("page.data.map(page.number)") == [number(v) for v in values]


def test_an_inserted_script_does_not_run(opened, browser):
    tab = opened(body='<p id="p">safe</p><script>document.getElementById("p").textContent = "run"</script>')
    assert tab.locator("#p").text_content() == "safe"
    assert [c for c in browser.complaints if "Content Security Policy" in c]
    browser.complaints.clear()


def test_requests_are_forbidden(opened, browser):
    tab = opened()
    assert tab.evaluate("fetch('https://example.org').then(() => 'went out', () => 'refused')") == "refused"
    assert browser.complaints
    browser.complaints.clear()


def test_nothing_in_the_file_points_outside():
    text = shell.document("t", "<p>b</p>", description="d")
    own = ("http://www.w3.org/2000/svg", "http://www.w3.org/1998/Math/MathML")
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= set(own)
    assert not re.search(r"<(link|script|img)[^>]+(src|href)=\"(?!data:)", text)


def test_the_theme_follows_the_system_and_the_button(opened):
    tab = opened(dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = tab.evaluate(background)
    tab.get_by_role("button", name="Switch between light and dark").click()
    light = tab.evaluate(background)
    assert light == "rgb(255, 255, 255)" != dark
    tab.reload()
    assert tab.evaluate(background) == light  # remembered


@pytest.mark.parametrize("width", [360, 1280, 3840])
def test_nothing_is_wider_than_the_screen(opened, width):
    tab = opened(title="t" * 10_000, body=f"<pre>{'x' * 5000}</pre>", width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_text_grows_with_the_screen(opened):
    size = "parseFloat(getComputedStyle(document.documentElement).fontSize)"
    assert [opened(width=w).evaluate(size) for w in (360, 3840)] == [16, pytest.approx(24.44)]


def test_without_javascript_there_is_the_text_and_no_dead_button(opened):
    tab = opened(body="<p>text</p>", javascript=False)
    assert tab.locator("main").text_content().strip() == "text"
    assert not tab.locator("#theme").is_visible()


def test_a_large_page_warns(tmp_path):
    with pytest.warns(UserWarning, match=r"large.html has 5\.\d MB: browsers open pages over 5 MB slowly; show a part"):
        shell.save(tmp_path / "large.html", "x" * 5_300_000)


def test_saving_is_all_or_nothing(tmp_path):
    path = shell.save(tmp_path / "a.html", "first")
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError, match="taken', which is a folder; name a file in it, e.g. 'loss.html'"):
        shell.save(tmp_path / "taken", "never")
    shell.save(path, "second")
    assert path.read_text() == "second"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "taken"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch, error):
    path = shell.write(tmp_path / "new" / "a.html", b"first")

    def fail(*_):
        raise error

    monkeypatch.setattr(shell.os, "replace", fail)
    with pytest.raises(error):
        shell.write(path, b"second")
    assert [p.name for p in path.parent.iterdir()] == ["a.html"] and path.read_bytes() == b"first"


def test_json_has_no_markup():
    text = shell.to_json(HOSTILE)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == HOSTILE
