"""`browser`: pages in a real headless Chromium that has no network, where a console error or a request is a failure."""

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

ARGS = """--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update
--disable-sync --hide-scrollbars""".split()


@pytest.fixture(scope="session")
def chromium():
    """One Chromium for all tests."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'chainrule[dev]'")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs a Chromium on PATH (Debian: apt install chromium)")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found, args=ARGS)
        yield running
        running.close()


class Browser:
    """Opens files; `complaints` are the errors and requests of all pages that it opened."""

    def __init__(self, chromium, stack):
        self.chromium, self.stack = chromium, stack
        self.complaints = []

    def open(self, path, width=1280, height=800, dark=False, javascript=True, **options):
        """A Playwright page showing the file at `path`."""
        context = self.chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
            offline=True,
            **options,
        )
        self.stack.callback(context.close)
        tab = context.new_page()
        address = Path(path).absolute().as_uri()
        tab.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", lambda request: self._asked(request.url, address))
        tab.goto(address)
        return tab

    def _asked(self, url, address):
        if url.partition("#")[0] != address and not url.startswith(("data:", "blob:")):
            self.complaints.append(f"request: {url}")


@pytest.fixture
def browser(chromium):
    """A `Browser`; at the end of the test its pages must have had no errors and no requests."""
    with ExitStack() as stack:
        one = Browser(chromium, stack)
        yield one
        assert one.complaints == []
