"""The training page as it is without JavaScript: how far it is, the loss as a picture, the figures of the epochs."""

from __future__ import annotations

import html
import math
from typing import Any

from ..figures import show


def body(data: dict[str, Any]) -> str:
    """The page's HTML: how far the training is, the loss as a picture, and the figures of the epochs."""
    return f"""<section class="card state {data["status"].replace(" ", "-")}" id="state">
<p><strong>{_state(data)}</strong> <span id="written"></span></p>
{_broke(data)}<div class="controls needs-js" id="reloading"></div>
</section>
<div class="needs-js" id="chooser"></div>
<div class="columns">
<section id="curves">
<h2>Loss</h2>
<figure id="loss">{loss_picture(data)}</figure>
<p class="quiet">{_losses_told(data)}</p>
<noscript><p>With JavaScript on, this page also shows gradient norms, update ratios, weights and feature maps.</p>
</noscript>
<div id="norms"></div>
<div id="weighing"></div>
</section>
<section id="looks"></section>
</div>
{_epochs(data)}"""


def _state(data: dict[str, Any]) -> str:
    done, planned = f"{data['done']:,}", f"{data['planned']:,}"
    return {
        "running": f"In training: step {done} of {planned}.",
        "finished": f"Finished after {done} steps.",
        "stopped early": f"Stopped early, after {done} of {planned} steps: the loss fell no further.",
        "interrupted": f"Interrupted after {done} of {planned} steps.",
        "broken": f"Broke after {done} of {planned} steps: the loss is no longer finite.",
        "failed": f"Ended by an error ({html.escape(data['message'])}) after {done} of {planned} steps.",
    }[data["status"]]


def _losses_told(data: dict[str, Any]) -> str:
    every, done = data["every"], data["done"]
    validation = any("val_loss" in epoch for epoch in data["epochs"])
    text = "Training loss of every step."
    if every > 1:
        text += f" Each point is the mean of {every} steps; the band reaches from the lowest to the highest."
    missing = sum(figures is None for figures in data["losses"])
    text += f" The first {missing * every:,} steps were not recorded." if missing else ""
    text += " Validation loss after each epoch, as dots." if validation else ""
    return text if done else "No step has been made yet."


def _broke(data: dict[str, Any]) -> str:
    broke = data["broke"]
    if broke is None:
        return ""
    odd = html.escape(", ".join(broke["weights"]))
    weights = (
        f"The weights of {odd} were no longer finite before this step: an earlier one broke them."
        if odd
        else "All weights were still finite before this step: its forward pass left the numbers."
    )
    return f"""<p>{html.escape(data["message"])}</p>
<p>{weights}</p>
<p>The step was repeated with the same random numbers and recorded; <code>viz.why(loss)</code> says:</p>
<pre>{html.escape(broke["why"])}</pre>
"""


def _epochs(data: dict[str, Any]) -> str:
    rows = data["epochs"]
    if not rows:
        return ""
    names = ["epoch", "step", *(n for n in rows[-1] if n not in ("epoch", "step", "lr", "seconds")), "lr"]
    title = lambda n: html.escape(_TITLES.get(n, n.replace("_", " ")))
    heads = "".join(f'<th class="number" scope="col">{title(n)}</th>' for n in names)
    cells = lambda row: "".join(f'<td class="number">{_cell(n, row[n]) if n in row else ""}</td>' for n in names)
    lines = "\n".join(f"<tr>{cells(row)}</tr>" for row in rows)
    return f"""<details id="epochs"><summary>Figures of every epoch</summary>
<div class="wide"><table><thead><tr>{heads}</tr></thead>
<tbody>
{lines}
</tbody></table></div></details>
"""


_TITLES = {"step": "after step", "lr": "learning rate"}


def _cell(name: str, value: float) -> str:
    return str(value) if name in ("epoch", "step") else f"{value:.3g}" if name == "lr" else show(name, value)


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 300, 64, 12, 12, 36


def loss_picture(data: dict[str, Any]) -> str:
    """The loss as SVG: band and mean of each stretch, the validation's dots, a line where it broke."""
    every, done = data["every"], max(data["done"], 1)
    middles = [(min(i * every + (every + 1) / 2, done), f) for i, f in enumerate(data["losses"]) if f is not None]
    dots = [(epoch["step"], epoch.get("val_loss", math.nan)) for epoch in data["epochs"]]
    dots = [(step, value) for step, value in dots if math.isfinite(value)]
    if not middles and not dots:
        return '<p class="quiet">No loss yet.</p>'
    values = [v for _, figures in middles for v in figures] + [v for _, v in dots]
    logarithmic = min(values) > 0 and max(values) > 20 * min(values)
    scale = math.log10 if logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    if high - low <= 1e-12 * abs(high):
        low, high = low - 0.5, high + 0.5
    last = data["planned"] if data["status"] == "running" else done
    x = lambda step: round(LEFT + (WIDTH - LEFT - RIGHT) * step / last, 1)
    y = lambda value: round(TOP + (HEIGHT - TOP - BOTTOM) * (high - scale(value)) / (high - low), 1)
    path = lambda points: " ".join(f"{x(step)},{y(value)}" for step, value in points)
    parts = [f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v)}" y2="{y(v)}"/>'
             f'<text x="{LEFT - 6}" y="{y(v) + 4}" text-anchor="end">{v:g}</text>'
             for v in _ticks(min(values), max(values), logarithmic)]  # fmt: skip
    parts += [f'<text x="{x(step)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{step:,.0f}</text>'
              for step in _ticks(0, last, False) if step == int(step)]  # fmt: skip
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">step</text>')
    if every > 1:
        band = [(step, high) for step, (_, _, high) in middles] + [(step, low) for step, (_, low, _) in middles[::-1]]
        parts.append(f'<polygon class="band" points="{path(band)}"/>')
    parts.append(f'<polyline class="training" points="{path((step, mean) for step, (mean, _, _) in middles)}"/>')
    parts.append(f'<polyline class="validation" points="{path(dots)}"/>')
    parts += [f'<circle class="validation" cx="{x(step)}" cy="{y(value)}" r="3"/>' for step, value in dots]
    if data["broke"] is not None:
        at = x(data["broke"]["step"])
        parts.append(f'<line class="broke" x1="{at}" x2="{at}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
    ends = [figures[0] for _, figures in (middles[:1] + middles[-1:])] or [dots[0][1], dots[-1][1]]
    said = f"The loss went from {ends[0]:.4g} to {ends[-1]:.4g} in {data['done']:,} steps."
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{said}">'
        f"<title>{said}</title>{''.join(parts)}</svg>"
    )


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Round numbers from low to high, about four.

    >>> from chainrule.nn.viz.run_body import _ticks
    >>> _ticks(0, 1125, False), _ticks(0.03, 4, True)
    ([0.0, 500.0, 1000.0], [0.03, 0.1, 0.3, 1.0, 3.0])
    """
    if logarithmic:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        digits = (1, 2, 5) if len(powers) < 4 else (1, 3) if len(powers) < 5 else (1,)
        found = [float(f"{digit}e{power}") for power in powers for digit in digits]
        found = [value for value in found if low <= value <= high]
        return found[:: max(1, len(found) // 5)]
    if not high > low:
        return [low]
    rough = (high - low) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    apart = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
    return [round(i * apart, 12) for i in range(math.ceil(low / apart), math.floor(high / apart) + 1)]
