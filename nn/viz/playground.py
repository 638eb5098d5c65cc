"""`playground`: small networks learn to tell points in the plane apart, on one page that is scrubbed."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...autograd.viz import shell
from ...autograd.viz.snapshot import number
from ..layers import Linear
from ..module import Module
from .data2d import Points, points
from .raster import BLUE, HEAT, RED, SHAPES, data_url, levels, ramp, strip
from .rehearsal import MOST_UNITS, Recording, Sight, Variant, labels, moments, prepare, rehearse
from .scrub import chart, document

MOMENTS = 60  # recorded of each run
MOST_POINTS = 300  # drawn; all are trained on
MAP_BYTES, DECISION_BYTES = 1_600_000, 500_000  # of all runs together, before compression
SOFT = ramp((120, 158, 240), (255, 255, 255), (240, 130, 130))  # under points in full colours
CLASSES = (BLUE, RED, (21, 128, 61), (109, 40, 217), (161, 98, 7), (14, 116, 144))

# Where things stand in a run's picture.
LEFT, UNIT, ACROSS, DOWN, TOP, BIG = 18, 50, 116, 72, 44, 208


def playground(
    net: Any = None,
    data: str | Sequence[Any] = "circles",
    *,
    steps: int = 400,
    n: int = 200,
    noise: float = 0.05,
    out: str | os.PathLike = "playground.html",
    title: str = "",
    verbose: bool = True,
) -> Path:
    """Train networks on points in the plane and write a page on which the recorded training is scrubbed.

    net: a module from points (N, 2) to logits (N, 1) or (N, C), a `viz.Variant`, or several of them, as a list or as
    {name: one}, to be seen side by side; without one, a small MLP. A module is copied and trained by Adam with rate
    0.03. data: "circles", "xor", "spiral", "moons" (n points, with noise), or (X, y) with X (N, 2) and a class for
    each. The page shows the loss, the decision map of every unit, the weights as lines (up to 10 units of a layer), and
    at each of up to 60 moments the values of the forward pass or the gradients of the backward pass; it needs no
    network. Returns its path.

    Raises ValueError for data that are no points with classes and for networks that are no chain of Linear layers,
    FloatingPointError where a loss is no longer finite. Source: after the page of Smilkov et al. 2017, "Direct-
    manipulation visualization of deep networks".

    >>> path = cr.viz.playground({"tanh": cr.viz.Variant(), "two units": cr.viz.Variant(hidden=(2,))}, "xor", steps=20)
    >>> path.name
    'playground.html'
    """
    if steps < 1:
        raise ValueError(f"playground received steps={steps}; a training needs at least one")
    plane, variants, out = points(data, n, noise), variants_of(net), shell.target(out)  # before the work
    prepared = {label: (variant, *prepare(variant, plane)) for label, variant in variants.items()}
    wanted, probes = moments(steps, MOMENTS), examples(plane)
    widths = {label: [min(width, MOST_UNITS) for width in found] for label, (_, _, found) in prepared.items()}
    frames = len(wanted) * 2 * sum(map(sum, widths.values()))
    sizes = (_side(MAP_BYTES / frames, 10, 28), _side(DECISION_BYTES / len(wanted) / len(variants), 24, 64))
    recordings = []
    with tqdm(total=steps * len(variants), disable=None if verbose else True) as bar:
        for label, (variant, module, _) in prepared.items():
            recordings.append(rehearse(Recording(label), variant, module, plane, wanted, sizes, probes, bar))
    runs = [Run(r, plane, widths[r.label], *prepared[r.label][1:]) for r in recordings]
    told = f"{len(runs)} recorded training{'s' * (len(runs) > 1)} of {steps} steps, forward and backward."
    page = document(
        "playground",
        title or f"Playground: {plane.title}",
        told,
        wanted,
        _data(runs, plane, probes),
        stage="stage single" if len(runs) == 1 else "stage",
        chart=_curves(runs, wanted),
        legend="".join(_mark(plane, c) for c in range(len(plane.names))),
        rows=_rows(runs),
        pictures=_pictures(runs),
    )
    return shell.save(out, page)


def variants_of(net: Any) -> dict[str, Variant]:
    """Return {name: variant} from what `playground` was given.

    >>> from chainrule.nn.viz.playground import variants_of
    >>> list(variants_of([cr.nn.Linear(2, 1), cr.viz.Variant()]))
    ['net Linear', 'net None']
    """
    given = dict(net) if isinstance(net, Mapping) else net
    several = given.values() if isinstance(given, dict) else given if isinstance(given, (list, tuple)) else [given]
    found = [one if isinstance(one, Variant) else Variant(net=one) for one in several]
    wrong = next((one.net for one in found if one.net is not None and not isinstance(one.net, Module)), None)
    if wrong is not None or not found:
        raise TypeError(
            f"playground received {'no network' if wrong is None else type(wrong).__name__}; pass a module, a "
            "viz.Variant, or several of them as a list or as {name: one}"
        )
    names = [str(name) for name in given] if isinstance(given, dict) else labels(found)
    return dict(zip(names, found, strict=True))


def examples(plane: Points, most: int = 4) -> list[int]:
    """Return a few points to follow one by one, of every class in turn.

    >>> from chainrule.nn.viz.data2d import points
    >>> from chainrule.nn.viz.playground import examples
    >>> examples(points("xor")), examples(points(([[0, 0], [0, 1], [1, 1]], [5, 5, 7])))
    ([0, 1, 2, 3], [0, 2, 1])
    """
    order = np.argsort([(plane.y[:i] == y).sum() for i, y in enumerate(plane.y)], kind="stable")
    return [int(i) for i in order[:most]]


def _side(area: float, least: int, most: int) -> int:
    return max(least, min(most, math.isqrt(int(area))))


class Run:
    """A recording as it is drawn: `widths` units of each column, numbered from left to right, from top to bottom."""

    def __init__(self, recording: Recording, plane: Points, widths: list[int], net: Module, whole: list[int]):
        self.recording, self.plane, self.widths, self.whole = recording, plane, widths, whole
        self.kinds = _kinds(net)
        self.starts = [sum(widths[:c]) for c in range(len(widths))]

    def units(self) -> list[dict[str, Any]]:
        """Name, column and place within it of every unit."""
        return [{"name": self._name(c, i), "column": c} for c, width in enumerate(self.widths) for i in range(width)]

    def _name(self, c: int, i: int) -> str:
        if c == 0:
            return f"x{'₁₂'[i]}" if self.whole[0] == 2 else f"input {i + 1}"
        if c < len(self.widths) - 1:
            return f"layer {c}, unit {i + 1}"
        return "output" if self.whole[-1] == 1 else f"output {self.plane.names[i]}"

    def edges(self) -> list[tuple[int, int]]:
        """(from, to) of every drawn weight, as numbers of units."""
        return [
            (self.starts[c] + j, self.starts[c + 1] + k)
            for c, (inputs, outputs) in enumerate(pairwise(self.widths))
            for k in range(outputs)
            for j in range(inputs)
        ]

    def flat(self, columns: Sequence[np.ndarray]) -> np.ndarray:
        """One number for each drawn unit from columns (1, n)."""
        return np.concatenate([column[0, :width] for column, width in zip(columns, self.widths)])

    def weights(self, matrices: Sequence[np.ndarray]) -> np.ndarray:
        """One number for each edge from a matrix (outputs, inputs) of each layer."""
        return np.concatenate([m[:o, :i].ravel() for m, (i, o) in zip(matrices, pairwise(self.widths))])

    def biases(self, vectors: Sequence[np.ndarray | None]) -> np.ndarray:
        """One number for each unit, NaN where it has no bias, from a vector of each layer."""
        own = [np.full(w, np.nan) if b is None else b[:w] for b, w in zip([None, *vectors], self.widths)]
        return np.concatenate(own).astype(np.float32)

    def view(self, sights: Sequence[Sight]) -> dict[str, Any]:
        """What one view of the page shows at each moment."""
        return {
            "loss": np.array([sight.objective for sight in sights], np.float32),
            "values": np.stack([self.flat(sight.columns) for sight in sights]),
            "pulls": np.stack([self.flat(sight.pulls) for sight in sights]),
            "weights": np.stack([self.weights(sight.weights) for sight in sights]),
            "biases": np.stack([self.biases(sight.biases) for sight in sights]),
        }

    def data(self) -> dict[str, Any]:
        """What the page's script knows of the run."""
        r = self.recording
        return {
            "label": r.label,
            "units": self.units(),
            "edges": self.edges(),
            "loss": np.array(r.losses, np.float32),
            "accuracy": np.round(r.accuracies, 4),
            "weights": np.stack([self.weights(m) for m in r.weights]),
            "biases": np.stack([self.biases(b) for b in r.biases]),
            "views": [self.view(r.sights), *(self.view(sights) for sights in zip(*r.probes))],
            "wrong": [np.rint(100 * wrong)[:MOST_POINTS].astype(int) for wrong in r.wrong],
            "side": r.maps[0][0].shape[-1],
            "fine": r.decisions[0].shape[-1],
        }


def _kinds(net: Module) -> list[str]:
    """What follows each Linear layer, in the order in which they were made: "Tanh", "ReLU, Dropout", ""."""
    found: list[list[str]] = []
    for module in net.modules():
        if isinstance(module, Linear):
            found.append([])
        elif found and not list(module.children()):
            found[-1].append(type(module).__name__)
    return [", ".join(names) for names in found]


def _data(runs: Sequence[Run], plane: Points, probes: Sequence[int]) -> dict[str, Any]:
    found = [run.data() for run in runs]
    views = range(1 + len(probes))
    return {
        "runs": found,
        "widest": _widest(run["weights"] for run in found),
        "steepest": [_widest(run["views"][v]["weights"] for run in found) for v in views],
        "examples": [None, *({"at": plane.x[i], "name": plane.names[plane.y[i]], "point": i} for i in probes)],
    }


def _widest(arrays: Iterable[np.ndarray]) -> float:
    """The size that is drawn at full width: nearly the largest, so that one of them does not thin out all others."""
    return float(np.percentile(np.abs(np.concatenate([a.ravel() for a in arrays])), 98)) or 1.0


# ---- the page without a script: the last step ------------------------------------------------------------------------


def _rows(runs: Sequence[Run]) -> str:
    return "".join(
        f'<tr class="r{i % 8}"><th scope="row"><span class="swatch"></span>{html.escape(run.recording.label)}</th>'
        f'<td class="number loss">{number(run.recording.losses[-1])}</td>'
        f'<td class="number accuracy">{run.recording.accuracies[-1]:.1%}</td></tr>'
        for i, run in enumerate(runs)
    )


def _pictures(runs: Sequence[Run]) -> str:
    widest = _widest(run.weights(m) for run in runs for m in run.recording.weights)
    names = [html.escape(run.recording.label) for run in runs]
    return "".join(
        f'<article class="run card r{i % 8}" aria-label="{name}"><h2><span class="swatch"></span>{name}</h2>'
        f'<div class="picture"><div class="wide" tabindex="0" role="region" aria-label="The units of {name}" '
        f'style="--across: {_across(run)}">{_network(run, widest)}</div>{_decision(run)}</div>'
        f'<div class="detail needs-js"></div></article>'
        for i, (run, name) in enumerate(zip(runs, names, strict=True))
    )


def _mark(plane: Points, c: int) -> str:
    mark = f'<svg viewBox="-7 -7 14 14" aria-hidden="true"><path class="point k{c}" d="{SHAPES[c]}"/></svg>'
    return f"<li>{mark} {html.escape(plane.names[c])}: {(plane.y == c).sum()} points</li>"


def _curves(runs: Sequence[Run], wanted: Sequence[int]) -> str:
    curves = [(f'class="curve r{i % 8}"', wanted, run.recording.losses) for i, run in enumerate(runs)]
    return chart(curves, "Loss of each run against the step")


def _network(run: Run, widest: float) -> str:
    """The columns of units with their maps, and the weights between them."""
    height = TOP + max(max(run.widths), 3) * DOWN
    middle = TOP + (height - TOP) / 2
    place = [
        (LEFT + c * ACROSS, middle + (i - count / 2) * DOWN + (DOWN - UNIT - 16) / 2)
        for c, count in enumerate(run.widths)
        for i in range(count)
    ]
    weights = run.weights(run.recording.weights[-1])
    links = "".join(
        f'<path class="link {"neg" if w < 0 else "pos"}" d="{_link(place[a], place[b])}" '
        f'stroke-width="{0.6 + 8 * min(1, abs(w) / widest):.2f}"/>'
        for (a, b), w in zip(run.edges(), weights)
    )
    heads = "".join(_heading(run, c) for c in range(len(run.widths)))
    units = "".join(_unit(run, u, *place[u]) for u in range(len(place)))
    return (
        f'<svg class="network" viewBox="0 0 {_across(run)} {height:.0f}" style="--tall: {height:.0f}" role="group" '
        f'aria-label="Units, their decision maps, and the weights between them">'
        f'<g class="links" aria-hidden="true">{links}</g>{heads}{units}</svg>'
    )


def _across(run: Run) -> int:
    return 2 * LEFT + (len(run.widths) - 1) * ACROSS + UNIT


def _link(a: tuple[float, float], b: tuple[float, float]) -> str:
    x1, y1, x2, y2 = a[0] + UNIT, a[1] + UNIT / 2, b[0], b[1] + UNIT / 2
    bend = (x2 - x1) / 2
    return f"M{x1:.0f} {y1:.1f}C{x1 + bend:.0f} {y1:.1f} {x2 - bend:.0f} {y2:.1f} {x2:.0f} {y2:.1f}"


def _heading(run: Run, c: int) -> str:
    last, whole, shown = len(run.widths) - 1, run.whole[c], run.widths[c]
    name = "inputs" if c == 0 else "output" if c == last else f"layer {c}"
    kind = "" if c == 0 else run.kinds[c - 1] if c <= len(run.kinds) else ""
    count = f"{shown} of {whole}" if shown < whole else f"{whole}"
    under = f"{count} {kind}" if c < last else kind or ("logit" if whole == 1 else "logits")
    x = LEFT + c * ACROSS + UNIT / 2
    return (
        f'<text class="heading" x="{x}" y="16">{name}</text>'
        f'<text class="under" x="{x}" y="31">{html.escape(under)}</text>'
    )


def _unit(run: Run, u: int, x: float, y: float) -> str:
    """A unit; its button is the frame, because the group is as tall as the strips of maps that it hides."""
    unit = run.units()[u]
    c, i = unit["column"], u - run.starts[unit["column"]]
    frames = {kind: np.stack([m[c][i] for m in getattr(run.recording, kind)]) for kind in ("maps", "pulls")}
    images = "".join(
        _image(kind, levels(found, _limit(run, kind, c)), x, y, UNIT) for kind, found in frames.items()
    )
    value = run.flat(run.recording.sights[-1].columns)[u]
    name = html.escape(unit["name"])
    return (
        f'<g class="unit"><rect class="back" x="{x}" y="{y:.1f}" width="{UNIT}" height="{UNIT}"/>{images}'
        f'<rect class="frame" tabindex="0" role="button" aria-pressed="false" aria-label="{name}" x="{x}" y="{y:.1f}" '
        f'width="{UNIT}" height="{UNIT}"><title>{name}</title></rect><text class="value" x="{x + UNIT / 2}" '
        f'y="{y + UNIT + 13:.1f}">{_shown(value)}</text></g>'
    )


def _shown(value: float) -> str:
    return number(float(f"{value:.3g}")).replace("-", "−")


def _limit(run: Run, kind: str, c: int) -> float:
    """The value that gets the full colour in a column: nearly the largest over the training, for units at least 1."""
    largest = float(np.percentile(np.abs(np.stack([m[c] for m in getattr(run.recording, kind)])), 98))
    return max(largest, 1.0) if c and kind == "maps" else largest


def _image(kind: str, frames: np.ndarray, x: float, y: float, size: float, palette: np.ndarray = HEAT) -> str:
    """Frames (M, G, G) as one strip, of which the last is seen; the inputs' maps never change and have one frame."""
    if (frames == frames[0]).all():
        frames = frames[:1]
    count, side = frames.shape[:2]
    return (
        f'<svg class="{kind}" data-frames="{count}" x="{x}" y="{y:.1f}" width="{size}" height="{size}" '
        f'viewBox="0 {(count - 1) * (side + 2) + 1} {side} {side}" preserveAspectRatio="none">'
        f'<image width="{side}" height="{count * (side + 2)}" href="{data_url(strip(frames), palette)}"/></svg>'
    )


def _decision(run: Run) -> str:
    """The large map of what the network decides, with the points."""
    plane, frames = run.plane, np.stack(run.recording.decisions)
    found, palette = decision_levels(frames, len(plane.names))
    (left, right), (bottom, top) = plane.limits
    marks = "".join(
        f'<path class="point k{c}" d="{SHAPES[c]}" transform="translate({BIG * (a - left) / (right - left):.1f} '
        f'{BIG * (top - b) / (top - bottom):.1f}) scale(.6)"/>'
        for (a, b), c in zip(plane.x[:MOST_POINTS], plane.y[:MOST_POINTS])
    )
    return (
        f'<svg class="decision" viewBox="-2 -42 {BIG + 4} {BIG + 44}" role="img" '
        f'aria-label="The decision map with the points">'
        f'<text class="heading" x="{BIG / 2}" y="-26">decision</text>'
        f'<text class="under" x="{BIG / 2}" y="-11">{len(plane.x)} points</text>'
        f'{_image("decided", found, 0, 0, BIG, palette)}'
        f'<rect class="frame" width="{BIG}" height="{BIG}"/>{marks}'
        f'<path class="ring" d="M-9 0a9 9 0 1 0 18 0a9 9 0 1 0-18 0z" hidden=""/></svg>'
    )


def decision_levels(frames: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return logits (M, C, H, W) as numbers (M, H, W) into a palette, and the palette.

    Two classes: from light blue (class 0 is certain) over white to light red (class 1 is certain). More: the likeliest
    class in its colour, the stronger the likelier it is.

    >>> from chainrule.nn.viz.playground import decision_levels
    >>> decision_levels(np.array([[[[-50.0, 0.0, 50.0]]]]), classes=2)[0].tolist()
    [[[1, 128, 255]]]
    """
    if classes == 2:
        logit = frames[:, 0] if frames.shape[1] == 1 else frames[:, 1] - frames[:, 0]
        return levels(np.tanh(logit / 2), 1.0), SOFT
    shades = 256 // classes
    e = np.exp(frames - frames.max(1, keepdims=True))
    sure = ((e.max(1) / e.sum(1)) - 1 / classes) / (1 - 1 / classes)
    found = frames.argmax(1) * shades + np.rint((shades - 1) * sure).astype(int)
    picked = np.linspace(20, 150, shades).astype(int)
    return found.astype(np.uint8), np.concatenate([ramp((255, 255, 255), CLASSES[c])[picked] for c in range(classes)])
