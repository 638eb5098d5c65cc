"""Makes the pictures of docs/training-page.md again: `python docs/pictures/training_page.py` (Playwright, Chromium)."""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.nn.examples import lenet5

HERE = Path(__file__).parent


def vanishing(out):
    """Train eight sigmoid layers, whose gradients vanish."""
    cr.manual_seed(0)
    x = cr.randn(256, 2)
    layers = [layer for i in range(8) for layer in (nn.Linear(16 if i else 2, 16), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(16, 1))
    loader = data.DataLoader(data.TensorDataset(x, x[:, :1] * x[:, 1:]), 32, shuffle=True)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    nn.Trainer(model, nn.MSELoss(), optimizer, viz=out, verbose=False).fit(loader, epochs=30)
    return out


def main():
    """Write the pictures into the folder of this file."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        folder = Path(folder)
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--hide-scrollbars"])
        lenet5.train(epochs=12, out=folder, viz=True, verbose=False)
        tab = browser.new_page(viewport={"width": 1280, "height": 1690})
        tab.goto((folder / "run.html").as_uri())
        tab.screenshot(path=HERE / "training-page.png")
        tab = browser.new_page(viewport={"width": 760, "height": 800}, color_scheme="dark", device_scale_factor=1.5)
        tab.goto(vanishing(folder / "vanishing.html").as_uri())
        tab.locator("#gradients").screenshot(path=HERE / "training-page-vanishing.png")
        browser.close()


if __name__ == "__main__":
    main()
