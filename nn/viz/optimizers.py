"""`optimizers`: the paths of the optimisers on the contours of a loss, as a page that plays or as a picture."""

from __future__ import annotations

import html
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...autograd import Tensor, float64, tensor
from ...autograd.viz import shell
from ...autograd.viz.math import mathml
from ...autograd.viz.snapshot import number
from ..optim import SGD, Adadelta, Adagrad, Adam, Optimizer, RMSprop
from .raster import SHAPES, data_url, ramp
from .scrub import chart, document, ticks

PICTURES = (".svg", ".png", ".pdf")
WIDTH, HEIGHT, LEFT, BELOW = 360, 300, 34, 24  # of a panel's plane and its margins
LEVELS = 14
SHADES = ramp((129, 140, 248), (224, 231, 255), (255, 255, 255))  # low is dark

# Each makes an optimiser from parameters and a rate.
MAKERS: dict[str, Callable[[Any, float], Optimizer]] = {
    "SGD": lambda p, lr: SGD(p, lr=lr),
    "momentum": lambda p, lr: SGD(p, lr=lr, momentum=0.9),
    "Nesterov": lambda p, lr: SGD(p, lr=lr, momentum=0.9, nesterov=True),
    "Adagrad": lambda p, lr: Adagrad(p, lr=lr),
    "Adadelta": lambda p, lr: Adadelta(p, lr=lr, eps=1e-3),  # the usual 1e-6 takes hundreds of steps to set off
    "RMSprop": lambda p, lr: RMSprop(p, lr=lr, alpha=0.9),
    "Adam": lambda p, lr: Adam(p, lr=lr),
}
LESSON = """<p>On the <strong>bowl</strong>, plain SGD zigzags across the narrow side, momentum overshoots, and
Nesterov's corrects itself sooner. The adaptive methods (Adagrad, Adadelta, RMSprop, Adam) divide each coordinate's step
by the size of its gradients, and so go straight. At the <strong>saddle</strong> they leave first: the small gradient
that leads away is scaled up, where SGD and momentum wait until it has grown.</p>"""
COLOURS = ("#475569", "#1d4ed8", "#0891b2", "#15803d", "#a16207", "#dc2626", "#7e22ce")
IN_THE_DARK = ("#cbd5e1", "#93c5fd", "#67e8f9", "#86efac", "#fde047", "#fca5a5", "#d8b4fe")


@dataclass(frozen=True)
class Surface:
    """A loss of two parameters, drawn over `limits` (of x and of y), and where the optimisers begin.

    loss(x, y) takes tensors of any shape. formula: LaTeX, shown above it; minima: points to mark; rates: learning rates
    by name ("SGD", …), which replace the usual ones.

    >>> cr.viz.Surface("valley", lambda x, y: x**2 + 10 * y**2, start=(-1.5, 0.8), limits=((-2, 2), (-1, 1))).start
    (-1.5, 0.8)
    """

    name: str
    loss: Callable[[Tensor, Tensor], Tensor]
    start: tuple[float, float]
    limits: tuple[tuple[float, float], tuple[float, float]]
    formula: str = ""
    minima: Sequence[tuple[float, float]] = ()
    rates: Mapping[str, float] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """Return the learning rate of one of MAKERS here."""
        return self.rates.get(name, RATES[name])


RATES = dict(zip(MAKERS, (0.02, 0.01, 0.01, 0.3, 1.0, 0.05, 0.1)))
SURFACES = {
    "bowl": Surface(
        "an elongated bowl",
        lambda x, y: x * x / 20 + y * y,
        (-9.0, 2.0),
        ((-10.0, 4.0), (-2.6, 2.6)),
        r"\frac{x^2}{20} + y^2",
        [(0.0, 0.0)],
        dict(zip(MAKERS, (0.9, 0.1, 0.1, 1.0, 2.0, 0.2, 0.3))),
    ),
    "beale": Surface(
        "Beale's function",
        lambda x, y: (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2,
        (1.0, 1.5),
        ((-0.2, 4.2), (-1.5, 1.9)),
        r"\sum_{k=1}^{3} (c_k - x + xy^k)^2, \quad c = (1.5, 2.25, 2.625)",
        [(3.0, 0.5)],
        dict(zip(MAKERS, (0.01, 0.002, 0.002, 0.4, 1.0, 0.03, 0.08))),
    ),
    "saddle": Surface(
        "a saddle",
        lambda x, y: x * x - y * y + y**4 / 8,
        (1.5, 0.001),
        ((-1.6, 1.9), (-1.2, 2.7)),
        r"x^2 - y^2 + \frac{y^4}{8}",
        [(0.0, 2.0)],
        dict(zip(MAKERS, (0.05, 0.01, 0.01, 0.3, 1.0, 0.05, 0.06))),
    ),
}


def optimizers(
    surfaces: Sequence[str | Surface] = ("bowl", "beale", "saddle"),
    optimizers: Mapping[str, Callable[[Any], Optimizer]] | None = None,
    *,
    steps: int = 120,
    out: str | os.PathLike = "optimizers.html",
    verbose: bool = True,
) -> Path:
    """Draw how optimisers walk down a loss of two parameters, each from the same start.

    surfaces: "bowl", "beale", "saddle" or a `viz.Surface`. optimizers: {name: what makes one from parameters}; without
    it, SGD, momentum, Nesterov, Adagrad, Adadelta, RMSprop and Adam with a rate for each surface. out: .html is a page
    on which the steps play and are scrubbed, without a network; .svg, .png and .pdf are pictures by Matplotlib.
    Returns the path.

    Raises ValueError for an unknown surface or ending, ImportError for a picture without Matplotlib. Source: after the
    pictures of Radford 2014.

    >>> cr.viz.optimizers(["bowl"], steps=5).name
    'optimizers.html'
    """
    out = Path(out)
    if out.suffix not in (".html", *PICTURES):
        raise ValueError(f"optimizers received out={str(out)!r}; end it in .html for a page, or {', '.join(PICTURES)}")
    wanted = [one if isinstance(one, Surface) else _known(one) for one in surfaces]
    names = list(MAKERS) if optimizers is None else list(optimizers)
    if not wanted or not names or steps < 1:
        raise ValueError("optimizers received nothing to draw; it needs a surface, an optimiser and a step")
    out = shell.target(out)  # before the work
    with tqdm(total=len(wanted) * len(names), disable=None if verbose else True) as bar:
        panels = [Panel(surface, dict(_paths(surface, optimizers, steps, bar))) for surface in wanted]
    return _page(panels, steps, out) if out.suffix == ".html" else _picture(panels, out)


def _known(name: Any) -> Surface:
    if name not in SURFACES:
        raise ValueError(f"optimizers received the surface {name!r}; pass {', '.join(SURFACES)} or a viz.Surface")
    return SURFACES[name]


def _paths(surface: Surface, given: Any, steps: int, bar: tqdm) -> Iterator[tuple[str, np.ndarray]]:
    makers = given or {
        name: lambda p, maker=maker, name=name: maker(p, surface.rate(name)) for name, maker in MAKERS.items()
    }
    for name, maker in makers.items():
        bar.set_description(f"{surface.name}, {name}")
        yield name if given else f"{name}, η {surface.rate(name):g}", walk(surface, maker, steps)
        bar.update()


def walk(surface: Surface, maker: Callable[[Any], Optimizer], steps: int) -> np.ndarray:
    """Return the points of an optimiser's path and the loss at each: (at most steps + 1, 3); it ends where not finite.

    >>> from chainrule.nn.viz.optimizers import SURFACES, walk
    >>> walk(SURFACES["bowl"], lambda p: cr.optim.SGD(p, lr=0.5), steps=1).round(3).tolist()
    [[-9.0, 2.0, 8.05], [-8.55, 0.0, 3.655]]
    """
    at = tensor(surface.start, dtype=float64, requires_grad=True)
    optimizer, found = maker([at]), []
    with np.errstate(all="ignore"):
        for _ in range(steps + 1):
            loss = surface.loss(at[0], at[1])
            found.append([*at.tolist(), loss.item()])
            if not np.isfinite(found[-1]).all():
                found.pop()
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return np.array(found).reshape(-1, 3)


class Panel:
    """A surface and the paths on it: {name: (steps + 1, 3)}; `values` over the plane, row by row from the top."""

    def __init__(self, surface: Surface, paths: dict[str, np.ndarray], size: int = 97):
        self.surface, self.paths = surface, paths
        (left, right), (bottom, top) = surface.limits
        self.x, self.y = np.linspace(left, right, size), np.linspace(top, bottom, size)
        x, y = np.meshgrid(self.x, self.y)
        self.values = surface.loss(tensor(x), tensor(y)).cpu().numpy()
        self.levels = np.quantile(self.values, np.linspace(0.01, 0.96, LEVELS))

    def shades(self) -> np.ndarray:
        """How high the values lie among all, as numbers 0 … 255: each is as frequent as every other."""
        ranks = np.searchsorted(np.quantile(self.values, np.linspace(0, 1, 255)), self.values)
        return ranks.astype(np.uint8)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (…, 2) in the picture's units."""
        (left, right), (bottom, top) = self.surface.limits
        scaled = (points - (left, top)) / (right - left, bottom - top) * (WIDTH, HEIGHT)
        return np.clip(scaled, -9e3, 9e3)


def contour(x: np.ndarray, y: np.ndarray, values: np.ndarray, level: float) -> np.ndarray:
    """Return where values (H, W) over x (W,) and y (H,) cross a level, as segments (K, 2, 2) of two points each.

    Every cell of the grid is cut into two triangles, in which the values are taken to be linear.

    >>> from chainrule.nn.viz.optimizers import contour
    >>> contour(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([[0.0, 1.0], [0.0, 1.0]]), 0.25)[..., 0]
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    points = np.stack(np.meshgrid(x, y), -1)
    corner = lambda a: [a[:-1, :-1], a[:-1, 1:], a[1:, 1:], a[1:, :-1]]
    at, v = corner(points), corner(values)
    found = []
    for triangle in ((0, 1, 2), (0, 2, 3)):
        for k in range(3):  # the corner that lies alone on its side of the level
            a, b, c = (triangle[(k + i) % 3] for i in range(3))
            alone = ((v[a] > level) != (v[b] > level)) & ((v[a] > level) != (v[c] > level))
            ends = []
            for other in (b, c):
                share = (level - v[a][alone]) / (v[other][alone] - v[a][alone])
                ends.append(at[a][alone] + share[:, None] * (at[other][alone] - at[a][alone]))
            found.append(np.stack(ends, 1))
    return np.concatenate(found)


# ---- the page --------------------------------------------------------------------------------------------------------


def _page(panels: Sequence[Panel], steps: int, out: Path) -> Path:
    names = [name.partition(",")[0] for name in panels[0].paths]
    boxes = "".join(
        f'<label style="{_own(i)}"><input type="checkbox" checked value="{i}"> '
        f'<svg class="key" viewBox="-8 -8 16 16" aria-hidden="true"><path class="head" d="{SHAPES[i % 6]}"/></svg>'
        f"{html.escape(name)}</label>"
        for i, name in enumerate(names)
    )
    paths = [
        {"paths": [*panel.paths.values()], "pixels": [_rounded(panel, path) for path in panel.paths.values()]}
        for panel in panels
    ]
    told = "The same start, the same gradients by chainrule, different rules for the step."
    drawn = "".join(_panel(panel, n) for n, panel in enumerate(panels))
    lesson = LESSON if {"an elongated bowl", "a saddle"} <= {panel.surface.name for panel in panels} else ""
    parts = {"boxes": boxes, "panels": drawn, "lesson": lesson}
    page = document("optimizers", "Optimisers on a surface", told, range(steps + 1), {"panels": paths}, **parts)
    return shell.save(out, page)


def _own(i: int) -> str:
    """The colour of the i-th optimiser, as a style."""
    return f"--own: light-dark({COLOURS[i % 7]}, {IN_THE_DARK[i % 7]})"


def _rounded(panel: Panel, path: np.ndarray) -> np.ndarray:
    return np.round(panel.pixels(path[:, :2]), 1)


def _panel(panel: Panel, n: int) -> str:
    surface, paths = panel.surface, list(panel.paths.items())
    rows = "".join(
        f'<tr style="{_own(i)}"><th scope="row"><span class="swatch"></span>{html.escape(name)}</th>'
        + "".join(f'<td class="number">{number(value).replace("-", "−")}</td>' for value in path[-1])
        + "</tr>"
        for i, (name, path) in enumerate(paths)
    )
    heads = "".join(f'<th scope="col" class="number">{text}</th>' for text in ("x", "y", "loss"))
    formula = f'<p class="formula">{mathml(surface.formula)}</p>' if surface.formula else ""
    curves = [
        (f'class="curve" style="{_own(i)}"', range(len(path)), path[:, 2])
        for i, path in enumerate(panel.paths.values())
    ]
    return (
        f'<article class="card"><h2>{html.escape(surface.name)}</h2>{formula}{_svg(panel, n)}'
        f"<h3>Loss against step</h3>{chart(curves, 'Loss of each optimiser against the step')}"
        f'<div class="figures"><table><thead><tr><th scope="col">at the shown step</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></article>"
    )


def _svg(panel: Panel, n: int) -> str:
    lines = "".join(
        f'<path class="contour" d="{_segments(panel, contour(panel.x, panel.y, panel.values, level))}"/>'
        for level in panel.levels
    )
    minima = "".join(
        f'<path class="minimum" d="M-5-5 5 5M5-5-5 5" transform="translate({x:.1f} {y:.1f})"/>'
        for x, y in panel.pixels(np.array(panel.surface.minima).reshape(-1, 2))
    )
    walks = []
    for i, path in enumerate(panel.paths.values()):
        points = _rounded(panel, path).tolist()
        d = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        x, y = points[-1]
        walks.append(
            f'<g class="walk" style="{_own(i)}"><path class="under" d="{d}"/><path class="path" d="{d}"/>'
            f'<path class="head" d="{SHAPES[i % 6]}" transform="translate({x:g} {y:g})"/></g>'
        )
    names = ", ".join(name.partition(",")[0] for name in panel.paths)
    return (
        f'<svg class="plane" viewBox="-{LEFT} -6 {WIDTH + LEFT + 6} {HEIGHT + BELOW + 6}" role="img" '
        f'aria-label="{html.escape(f"Contours of {panel.surface.name} and the paths of {names}")}">'
        f'<clipPath id="plane{n}"><rect width="{WIDTH}" height="{HEIGHT}"/></clipPath>'
        f'<image width="{WIDTH}" height="{HEIGHT}" preserveAspectRatio="none" '
        f'href="{data_url(panel.shades(), SHADES)}"/>'
        f'<g class="sheet" clip-path="url(#plane{n})">{lines}{minima}{"".join(walks)}</g>'
        f'<rect class="frame" width="{WIDTH}" height="{HEIGHT}"/>{_ticks(panel)}</svg>'
    )


def _segments(panel: Panel, segments: np.ndarray) -> str:
    flat = np.round(panel.pixels(segments), 1).reshape(-1, 4).tolist()
    return "".join(f"M{a:g} {b:g}L{c:g} {d:g}" for a, b, c, d in flat)


def _ticks(panel: Panel) -> str:
    (left, right), (bottom, top) = panel.surface.limits
    texts = [(panel.pixels(np.array([t, top]))[0], HEIGHT + 16, t, "middle") for t in ticks(left, right)]
    texts += [(-6, panel.pixels(np.array([left, t]))[1] + 4, t, "end") for t in ticks(bottom, top)]
    return "".join(
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{number(float(t)).replace("-", "−")}</text>'
        for x, y, t, anchor in texts
    )


# ---- the picture -----------------------------------------------------------------------------------------------------


def _picture(panels: Sequence[Panel], out: Path) -> Path:
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            f"{out.name} is drawn by Matplotlib, which is not installed; install it with "
            "pip install 'chainrule[examples]', or end `out` in .html for a page"
        ) from error
    figure = Figure(figsize=(4.6 * len(panels), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, ListedColormap(SHADES / 255))
    with rc_context({"svg.hashsalt": "chainrule"}):  # equal runs write equal files
        drawn = io.BytesIO()
        dated = {"Date": None} if out.suffix == ".svg" else None
        figure.savefig(drawn, format=out.suffix[1:], dpi=160, metadata=dated)
    return shell.write(out, drawn.getvalue())


def _draw(axes: Any, panel: Panel, shades: Any) -> None:
    (left, right), (bottom, top) = panel.surface.limits
    axes.imshow(panel.shades(), extent=(left, right, bottom, top), aspect="auto", cmap=shades, interpolation="none")
    lines = {"colors": "#64748b", "linewidths": 0.5, "linestyles": "solid"}
    axes.contour(panel.x, panel.y, panel.values, np.unique(panel.levels), **lines)
    for i, (name, path) in enumerate(panel.paths.items()):
        axes.plot(path[:, 0], path[:, 1], color="white", linewidth=3.4)
        axes.plot(path[:, 0], path[:, 1], color=COLOURS[i % 7], linewidth=1.8, label=name)
        axes.plot(*path[-1, :2], "osD^vP"[i % 6], color=COLOURS[i % 7], markersize=7, markeredgecolor="white")
    for x, y in panel.surface.minima:
        axes.plot(x, y, "x", color="#0f172a", markersize=8)
    axes.plot(*panel.surface.start, "o", color="white", markersize=6, markeredgecolor="#0f172a")
    axes.set(xlim=(left, right), ylim=(bottom, top), title=panel.surface.name)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=2, frameon=False, fontsize=10)
