"""Two charts of a report, light and dark: rows under the roofline, and each kernel along its shapes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .clock import Times
from .report import Report, Row

_COLOURS = ("#2563eb", "#d9480f", "#0f8a5f", "#a21caf", "#b58900", "#64748b")
_ON_DARK = ("#7aa7ff", "#ff9a62", "#4fd1a5", "#e58cf0", "#e6c04c", "#a3b1c6")
_MARKS = "osD^vP"
_DENSE = 4.0  # FLOPs a byte above which GFLOP/s say more than GB/s
_NAMED = 12  # points that are named in the roofline, at most


class Theme(NamedTuple):
    """What a chart looks like."""

    suffix: str
    ground: str
    ink: str
    faint: str
    colours: tuple[str, ...]


THEMES = (
    Theme("", "#ffffff", "#1f2933", "#d5dbe3", _COLOURS),
    Theme("-dark", "#12171f", "#e3e9f1", "#36414f", _ON_DARK),
)




def plot(report: Report, path: str | Path) -> list[Path]:
    """Write NAME-roofline and NAME-sweep, and the same with -dark, for a path NAME.svg, .png or .pdf.

    Errors: ValueError where nothing was timed, ImportError without matplotlib.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("--plot needs matplotlib; pip install matplotlib, or leave it out") from error
    rows = [row for row in report.rows if row.hot]
    if not rows:
        raise ValueError("no row of the report was timed, so there is nothing to draw; see its notes")
    path, written = Path(path), []
    for theme in THEMES:
        for name, draw in (("roofline", roofline), ("sweep", sweep)):
            with matplotlib.rc_context(_style(theme)):
                figure = draw(report, rows, theme)
                written.append(path.with_name(f"{path.stem}-{name}{theme.suffix}{path.suffix}"))
                figure.savefig(written[-1], dpi=150)
    return written


def _style(theme: Theme) -> dict:
    inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    grounds = ("figure.facecolor", "axes.facecolor", "legend.facecolor")
    return {
        **dict.fromkeys(inks, theme.ink), **dict.fromkeys(grounds, theme.ground),
        "axes.edgecolor": theme.faint, "grid.color": theme.faint, "grid.linewidth": 0.6, "axes.grid": True,
        "axes.axisbelow": True, "axes.spines.top": False, "axes.spines.right": False, "legend.edgecolor": theme.faint,
        "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "svg.fonttype": "none",
    }  # fmt: skip


def _looks(rows: list[Row], theme: Theme) -> dict[str, dict]:
    """Colour and mark of each implementation, in the order in which they appear."""
    names = dict.fromkeys(row.implementation for row in rows)
    return {
        name: {"color": theme.colours[i % len(theme.colours)], "marker": _MARKS[i % len(_MARKS)]}
        for i, name in enumerate(names)
    }


def _figure(width: float, height: float, count: int = 1, columns: int = 1):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(-(-count // columns), columns, squeeze=False).flat)


def roofline(report: Report, rows: list[Row], theme: Theme):
    """FLOP/s over FLOPs a byte: the roof is what memory, the caches and the arithmetic allow."""
    figure, (axes,) = _figure(9, 5.5)
    rows, peaks, looks = [row for row in rows if row.flops and row.bytes], report.peaks, _looks(rows, theme)
    at = {id(row): row.flops / row.bytes for row in rows}
    slow, fast = peaks.bandwidth(max(peaks.copy)), max(map(peaks.bandwidth, peaks.copy))
    lowest, highest = min([*at.values(), peaks.rate / fast]) / 3, max([*at.values(), peaks.rate / slow]) * 3
    for speed, words in ((slow, "memory"), (fast, "caches")):
        ends = [lowest, peaks.rate / speed]
        axes.plot(ends, [end * speed for end in ends], color=theme.ink, lw=1)
        axes.annotate(
            f"{words}: {speed:.0f} GB/s", (lowest, lowest * speed), xytext=(14, -4), textcoords="offset points",
            fontsize=8,
        )  # fmt: skip
    for rate, words in ((max(peaks.matrix, peaks.after or 0), "matrix product"), (peaks.fma, "multiply-adds")):
        axes.plot([rate / fast, highest], [rate, rate], color=theme.ink, lw=1)
        axes.annotate(
            f"{words}: {rate:.0f} GFLOP/s", (highest, rate), xytext=(-4, 4), textcoords="offset points", ha="right",
            fontsize=8,
        )  # fmt: skip
    for name, look in looks.items():
        own = [row for row in rows if row.implementation == name]
        axes.plot([at[id(r)] for r in own], [r.gflops for r in own], ls="", ms=5, alpha=0.85, label=name, **look)
    named = {(row.kernel, row.shape): row for row in sorted(rows, key=lambda row: row.gflops)}  # the quickest of each
    for row in named.values() if len(named) <= _NAMED else ():
        axes.annotate(
            f"{row.shape}: {row.kernel}", (at[id(row)], row.gflops), xytext=(0, 6), textcoords="offset points",
            fontsize=7, alpha=0.8, ha="center",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="FLOPs a byte", ylabel="GFLOP/s", title=_title(report))
    axes.set_xlim(lowest, highest)
    axes.legend(loc="lower right")
    return figure


def _title(report: Report) -> str:
    facts = report.facts
    return f"{facts['machine']}, {facts['threads']} threads, {report.peaks.dtype}, {facts['date'][:10]}"


def sweep(report: Report, rows: list[Row], theme: Theme):
    """A panel for each kernel: lines along an axis that alone is varied, else marks beside the names of the shapes."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.kernel, []).append(row)
    tallest = max(len({row.shape for row in own}) for own in groups.values())
    columns = min(2, len(groups))
    height = max(2.6, 0.9 + 0.24 * tallest) * -(-len(groups) // columns)
    figure, panels = _figure(5.4 * columns + 1.5, height, len(groups), columns)
    looks = _looks(rows, theme)
    for axes, (kernel, own) in zip(panels, groups.items(), strict=False):
        axis, measure = varied(own), _measure(own)
        (_lines if axis else _marks)(axes, own, axis, measure, looks)
        axes.set_title(kernel)
    for axes in panels[len(groups) :]:
        axes.remove()
    handles = [axes.plot([], [], label=name, **look)[0] for axes in panels[:1] for name, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(looks))
    figure.suptitle(_title(report), fontsize=9)
    return figure


def varied(rows: list[Row]) -> str | None:
    """The axis that takes three or more values while the others stay, or None.

    >>> rows = [cr.bench.Row("k", "k", f"n={n}", {"n": n, "m": 2}, "a", "float32") for n in (1, 2, 3)]
    >>> from chainrule.bench.charts import varied
    >>> varied(rows), varied(rows[:2])
    ('n', None)
    """
    values = {name: {row.axes[name] for row in rows} for name in rows[0].axes}
    moving = [name for name, found in values.items() if len(found) > 1]
    return moving[0] if len(moving) == 1 and len(values[moving[0]]) > 2 else None


def _measure(rows: list[Row]) -> tuple[str, str]:
    """(the name of what is shown, the field of a row that a second is multiplied with)."""
    if not all(row.bytes for row in rows):
        return "calls a second", ""
    dense = sum(row.flops / row.bytes > _DENSE for row in rows) * 2 > len(rows)
    return ("GFLOP/s", "flops") if dense else ("GB/s", "bytes")


def _values(row: Row, field: str) -> tuple[float, float, float]:
    """(median, distances to the quartiles) of the measure."""
    amount = getattr(row, field) / 1e9 if field else 1.0
    times: Times = row.hot  # type: ignore[assignment]
    middle = amount / times.median
    return middle, middle - amount / times.high, amount / times.low - middle


def _lines(axes, rows, axis, measure, looks):
    for name, look in looks.items():
        own = sorted((row for row in rows if row.implementation == name), key=lambda row: row.axes[axis])
        values = [_values(row, measure[1]) for row in own]
        axes.errorbar(
            [row.axes[axis] for row in own], [v[0] for v in values], [[v[1] for v in values], [v[2] for v in values]],
            lw=1.2, ms=4, elinewidth=0.8, **look,
        )  # fmt: skip
    axes.set(xscale="log", xlabel=axis, ylabel=measure[0], ylim=(0, None))


def _marks(axes, rows, axis, measure, looks):
    shapes = list(dict.fromkeys(row.shape for row in rows))
    for name, look in looks.items():
        for row in (row for row in rows if row.implementation == name):
            middle, below, above = _values(row, measure[1])
            axes.errorbar(middle, shapes.index(row.shape), xerr=[[below], [above]], ms=4, elinewidth=0.8, ls="", **look)
    axes.set(xlabel=measure[0], yticks=range(len(shapes)), xlim=(0, None), ylim=(len(shapes) - 0.5, -0.5))
    axes.set_yticklabels(shapes)
