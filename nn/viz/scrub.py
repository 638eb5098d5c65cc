"""What the pages with a slider share: the bar with slider and buttons, and the curve of a loss with a cursor."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...autograd.viz import shell
from ...autograd.viz.snapshot import number

ASSETS = Path(__file__).parent / "assets"
WIDTH, HEIGHT, LEFT, RIGHT, ABOVE, BELOW = 560, 190, 58, 12, 10, 26  # of a chart, and its margins
DECADES = 6  # of a logarithmic scale; what lies lower runs along its edge


def document(name: str, title: str, told: str, steps: Sequence[int], data: dict[str, Any], **parts: str) -> str:
    """Return the page of the assets `name`.html, .css and .js, with the bar for scrubbing through the steps.

    parts: what stands in the HTML for {their names}; {last} is the last step.
    """
    read = lambda file: (ASSETS / file).read_text(encoding="utf-8")
    parts |= {"most": str(len(steps) - 1), "last": str(steps[-1])}
    body = re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], read("scrub.html") + read(f"{name}.html"))
    known = {"steps": list(steps), "chart": {"left": LEFT, "right": WIDTH - RIGHT}, **data}
    css, js = read(f"{name}.css"), read(f"{name}.js")
    return shell.document(title, body, css=css, js=js, data=known, description=told, asset=ASSETS / "scrub")


def chart(curves: Sequence[tuple[str, Sequence[int], Any]], label: str) -> str:
    """Return an SVG of curves (attributes, steps, values), logarithmic where positive values fall far.

    >>> from chainrule.nn.viz.scrub import chart
    >>> chart([('class="curve"', [0, 10], [1.0, 0.5])], "Loss").count('class="grid"')
    6
    """
    last = max(steps[-1] for _, steps, _ in curves)
    values = np.concatenate([values for *_, values in curves]).astype(float)
    low, high = float(values.min()), float(values.max())
    steep = low >= 0 and high > 20 * low
    if steep:
        low = max(low, high * 10.0**-DECADES)
    scale = (lambda v: math.log10(max(v, low))) if steep else float
    bottom, top = (scale(low), scale(high)) if steep else (min(low, 0.0), max(high, 0.0))
    x = lambda step: LEFT + (WIDTH - LEFT - RIGHT) * step / last
    y = lambda v: ABOVE + (HEIGHT - ABOVE - BELOW) * (top - scale(v)) / (top - bottom or 1)
    decades = [10.0**e for e in range(math.ceil(bottom), math.floor(top) + 1)] if steep else []
    parts = [
        f'<path class="grid" d="M{LEFT} {y(t):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{number(t).replace("-", "−")}</text>'
        for t in (decades or ticks(bottom, top).tolist())
    ]
    parts += [
        f'<text x="{x(t):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{t}</text>'
        for t in sorted({round(last * part / 4) for part in range(5)})
    ]
    for attributes, steps, curve in curves:
        line = "L".join(f"{x(step):.1f} {y(v):.1f}" for step, v in zip(steps, curve, strict=True))
        parts.append(f'<path {attributes} d="M{line}"/>')
    cursor = f'<path class="cursor" d="M0 {ABOVE}V{HEIGHT - BELOW}" transform="translate({x(last):.1f})"/>'
    label = f"{label}, logarithmic scale" if steep else label
    inside = "".join(parts) + cursor
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{inside}</svg>'


def ticks(low: float, high: float) -> np.ndarray:
    """Return round numbers within a range, some four to eight.

    >>> from chainrule.nn.viz.scrub import ticks
    >>> ticks(-10, 4).tolist(), ticks(0, 0.7).tolist()
    ([-10.0, -8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0], [0.0, 0.2, 0.4, 0.6])
    """
    rough = (high - low) / 3
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * max(f for f in (1, 2, 5) if f * power <= rough)
    return np.round(np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step, 10)
