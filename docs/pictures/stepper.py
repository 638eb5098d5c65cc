"""Makes the pictures of docs/stepper.md again, with Playwright and Chromium."""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import chainrule as cr

HERE = Path(__file__).parent


def neuron(folder):
    """The page of the neuron of docs/stepper.md."""
    x = cr.tensor([2.0, 0.5])
    w = cr.tensor([-3.0, 1.0], requires_grad=True)
    b = cr.tensor(6.5, requires_grad=True)
    with cr.viz.record():
        z = (w * x).sum() + b
        y = z.tanh()
        loss = (y - 0.5) ** 2 + 0.01 * (w * w).sum()
    return cr.viz.page(loss, folder / "neuron.html")


def resnet(folder):
    """The page of ResNet-18."""
    net = cr.nn.models.ResNet(18, num_classes=10)
    with cr.viz.record():
        loss = cr.cross_entropy(net(cr.randn(2, 3, 64, 64)), cr.tensor([1, 2]))
    return cr.viz.page(loss, folder / "resnet.html", check=0)


def main():
    """Write the pictures into the folder of this file."""
    cr.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox", "--hide-scrollbars"])
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.goto(neuron(Path(folder)).as_uri())
        search(tab, "z")
        tab.get_by_role("button", name="Go to its gradient").click()
        tab.keyboard.press("Escape")
        shoot(tab, "stepper.png")
        tab = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="dark")
        tab.goto(resnet(Path(folder)).as_uri())
        tab.locator("#follow").check()
        for _ in range(2):
            tab.keyboard.press("m")
        shoot(tab, "stepper-module.png")
        browser.close()


def search(tab, name):
    """Find a value by its name."""
    tab.locator("#search").fill(name)
    tab.locator("#search").press("Enter")


def shoot(tab, name):
    """Take a picture of the page as it is."""
    tab.wait_for_timeout(400)
    tab.screenshot(path=HERE / name)
    tab.close()


if __name__ == "__main__":
    main()
