"""Makes the pictures of docs/playground.md again, with Playwright, Chromium and Matplotlib."""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from chainrule import nn, viz

HERE = Path(__file__).parent
RUNS = {
    "tanh": viz.Variant(hidden=(8, 8)),
    "ReLU": viz.Variant(hidden=(8, 8), activation=nn.ReLU),
    "four units": viz.Variant(hidden=(4,)),
    "tanh, L2": viz.Variant(hidden=(8, 8), l2=0.001),
}


def shoot(browser, page, out, height, keys=(), dark=False):
    """Take a picture of a page, 1280 wide, after keys were pressed."""
    theme = "dark" if dark else "light"
    tab = browser.new_page(viewport={"width": 1280, "height": height}, color_scheme=theme)
    tab.goto(page.as_uri())
    for key in keys:
        tab.keyboard.press(key)
    tab.wait_for_timeout(300)
    tab.screenshot(path=HERE / out)
    tab.close()


def main():
    """Write the pictures into the folder of this file."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        folder = Path(folder)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--hide-scrollbars"])
        several = viz.playground(RUNS, "spiral", out=folder / "several.html", verbose=False)
        shoot(browser, several, "playground.png", 1290, ["ArrowLeft"] * 17)
        one = viz.playground(data="circles", out=folder / "one.html", verbose=False)
        shoot(browser, one, "playground-backward.png", 800, ["b", *["ArrowLeft"] * 38], dark=True)
        paths = viz.optimizers(out=folder / "paths.html", verbose=False)
        shoot(browser, paths, "optimizers-page.png", 820, ["ArrowLeft"] * 60)
        browser.close()
    viz.optimizers(out=HERE / "optimizers.svg", verbose=False)


if __name__ == "__main__":
    main()
