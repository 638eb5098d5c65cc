"""`document` and `save`: the frame that every page shares, one self-contained HTML file that works without a network.

The frame brings the colours (light and dark), the fonts, the theme's button, a live region for screen readers and a few
helpers for the page's script (assets/base.js). What a page knows travels as JSON that no name or text can break out of;
scripts run only if their hash stands in the page's own policy, which also forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).with_name("assets")
LARGE = 5_000_000  # bytes; `save` warns above

_THEME = """
const root = document.documentElement;
root.classList.replace("no-js", "js");
try { const theme = localStorage.getItem("chainrule-theme"); if (theme) root.dataset.theme = theme; } catch {}
"""


def document(title: str, body: str, *, css="", js="", data=None, description="", asset=None) -> str:
    """A self-contained HTML5 document: `body` (HTML) inside the shared frame.

    title and description are text; css and js come after the shared ones; `data` (lists, dicts, numbers, arrays) is
    what the script finds in `page.data`. `asset` reads an extra "name.css" and "name.js" from a folder: its path
    without an ending.

    >>> from chainrule.autograd.viz import shell
    >>> page = shell.document("</script>", "<p>hello</p>", data={"loss": float("nan")})
    >>> "</script></title>" in page, "&lt;/script&gt;</title>" in page, '{"loss":"NaN"}' in page
    (False, True, True)
    """
    if asset is not None:
        css = _text(Path(f"{asset}.css")) + css
        js = _text(Path(f"{asset}.js")) + js
    css = _text(ASSETS / "base.css") + css
    script = f'"use strict";\n{_text(ASSETS / "base.js")}\n{{\n{js}\n}}\n'
    policy = (
        f"default-src 'none'; script-src {_hash(_THEME)} {_hash(script)}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    told = f'<p class="lead">{html.escape(description)}</p>' if description else ""
    return f"""<!doctype html>
<html lang="en" class="no-js">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="chainrule">
<meta name="description" content="{html.escape(description or title)}">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>
{_unbroken(css, "style")}
</style>
<script>{_THEME}</script>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top"><div><h1>{html.escape(title)}</h1>{told}</div>
<button type="button" id="theme" class="needs-js" aria-label="Switch between light and dark">◐</button></header>
<main id="main">
{body}
</main>
<div id="announcer" class="for-readers" role="status" aria-live="polite"></div>
<script type="application/json" id="data">{to_json(data)}</script>
<script>{_unbroken(script, "script")}</script>
</body>
</html>
"""


def save(path, page: str) -> Path:
    """Write a page, the whole file or nothing, and return its path; a UserWarning where it is over 5 MB.

    >>> import tempfile
    >>> from chainrule.autograd.viz import shell
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shell.save(f"{folder}/page.html", shell.document("a page", "")).name
    'page.html'
    """
    content = page.encode("utf-8", "replace")
    if len(content) > LARGE:
        warnings.warn(
            f"{Path(path).name} has {len(content) / 1e6:.1f} MB: browsers open pages over {LARGE / 1e6:.0f} MB slowly; "
            "show a part of the program",
            stacklevel=3,
        )
    return write(path, content)


def write(path, content: bytes) -> Path:
    """Write a file as a whole or not at all, with the folders that it lies in, and return its path.

    Errors: IsADirectoryError for a folder.

    >>> import tempfile
    >>> from chainrule.autograd.viz import shell
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shell.write(f"{folder}/new/file.txt", b"text").read_bytes()
    b'text'
    """
    path = target(path)
    number, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with open(number, "wb") as file:
            file.write(content)
        Path(part).chmod(0o644)
        os.replace(part, path)
    except BaseException:  # a full disk, Ctrl-C: the file stays as it was, and nothing is left behind
        Path(part).unlink(missing_ok=True)
        raise
    return path


def target(path) -> Path:
    """The path of a file that is to be written, once it is sure that it can be: its folders are made.

    Errors: IsADirectoryError for a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"received {str(path)!r}, which is a folder; name a file in it, e.g. 'loss.html'")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def to_json(data) -> str:
    """`data` as JSON inside a script element: no character of it is markup, NaN and infinities are strings.

    Numbers of float32 arrays are written in the fewest digits that give the same float32.

    >>> from chainrule.autograd.viz import shell
    >>> shell.to_json([np.float32(0.1), float("-inf"), np.arange(3), "</script>"])
    '[0.1,"-Infinity",[0,1,2],"\\\\u003c/script\\\\u003e"]'
    """
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text


def _plain(data):
    """`data` in terms of JSON."""
    if data is None or isinstance(data, (str, bool, int)):
        return data
    if isinstance(data, np.ndarray):
        return _plain([*data] if data.ndim else data[()])
    if isinstance(data, dict):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(value) for value in data]
    if isinstance(data, np.bool_):
        return bool(data)
    if isinstance(data, np.integer):
        return int(data)
    value = float(str(data)) if isinstance(data, (np.float16, np.float32)) else float(data)
    if math.isfinite(value):
        return int(value) if value == int(value) and abs(value) < 1e15 and math.copysign(1, value) > 0 else value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _text(path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _hash(script) -> str:
    digest = hashlib.sha256(_unbroken(script, "script").encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _unbroken(text, element) -> str:
    """CSS or JavaScript whose strings cannot end the element that it stands in."""
    return text.replace(f"</{element}", f"<\\/{element}")
