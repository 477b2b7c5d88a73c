"""The figures of the report, as SVG to put into a page, and as files.

In a page, colors are names of its style sheet, so that a figure follows the reader's light or dark screen.
The same data give the same bytes: no dates, no random ids.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from obelisk.arrays import Floats, Integers
from obelisk.errors import MissingExtraError
from obelisk.evaluation.intervals import Difference, Interval
from obelisk.evaluation.swatches import ARM_COLORS
from obelisk.files import replace_file
from obelisk.markup import Markup, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# matplotlib takes numbers for colors: these stand for the names that the page gives them.
INK, FAINT = "#010101", "#020202"
PLACEHOLDERS = tuple(f"#0a0a{number:02x}" for number in range(ARM_COLORS))
PICTURE_COLORS = ("#2563a8", "#d0710f", "#12805c", "#a8327d", "#6b5bb5", "#8a6d0b", "#0b7f91", "#8b4a3a")
PICTURE_INK, PICTURE_LINE = "#1b1f24", "#d5d9de"
STYLE = re.compile(r'(<[^<>]*?)\sstyle="([^"]*)"')
STYLES: Sequence[tuple[str, str]] = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "D"))

SETTINGS: dict[str, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "obelisk",
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
}


PICTURE_SETTINGS = SETTINGS | {
    "text.color": PICTURE_INK,
    "axes.edgecolor": PICTURE_LINE,
    "axes.labelcolor": PICTURE_INK,
    "grid.color": PICTURE_LINE,
    "xtick.color": PICTURE_INK,
    "ytick.color": PICTURE_INK,
    "pdf.fonttype": 42,
}
"""What a figure outside of a page has instead of placeholders."""
METADATA = {"svg": ("Date", "Creator", "Format", "Type"), "pdf": ("Creator", "Producer", "CreationDate")}


def arm_color(number: int) -> str:
    """Return the color of an arm, which the settings decide on."""
    return f"C{number % ARM_COLORS}"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure: what draws it, its size in inches, a title, and a note that explains it.

    ``name`` is that of its file, and the beginning of all ids in a page, which holds several figures.
    """

    name: str
    title: str
    note: str
    plot: Callable[[Axes], None]
    size: tuple[float, float] = (4.6, 3.0)


def draw_svg(chart: Chart) -> Markup:
    """Return a chart as SVG for a page; raises MissingExtraError without matplotlib."""
    return fit_into_page(render_svg([chart.plot], size=chart.size, transparent=True), chart)


def write_figures(folder: Path, charts: Iterable[Chart]) -> list[Path]:
    """Write every chart to a folder, as SVG and as PDF, dark on white; return the paths.

    Raises MissingExtraError without matplotlib.
    """
    written = []
    for chart in charts:
        svg = draw_picture([chart.plot], size=chart.size).encode()
        pdf = render([chart.plot], size=chart.size, kind="pdf", settings=PICTURE_SETTINGS, colors=PICTURE_COLORS)
        for suffix, content in ((".svg", svg), (".pdf", pdf)):
            path = folder / f"{chart.name}{suffix}"
            written.append(replace_file(path, partial(write_content, content=content)))
    return written


def write_content(path: Path, content: bytes) -> None:
    """Write a file."""
    path.write_bytes(content)


def render_svg(plots: Sequence[Callable[[Axes], None]], *, size: tuple[float, float], transparent: bool) -> str:
    """Return plots side by side as matplotlib writes them, with placeholders for colors."""
    return render(plots, size=size, kind="svg", transparent=transparent).decode()


def render(
    plots: Sequence[Callable[[Axes], None]],
    *,
    size: tuple[float, float],
    kind: str,
    settings: dict[str, object] = SETTINGS,
    colors: Sequence[str] = PLACEHOLDERS,
    transparent: bool = False,
) -> bytes:
    """Return plots side by side as a file of this kind, ``svg`` or ``pdf``."""
    try:
        import matplotlib
        from cycler import cycler
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("train", needed_for="the report") from None
    written = io.BytesIO()
    with matplotlib.rc_context(settings | {"axes.prop_cycle": cycler(color=colors)}), warnings.catch_warnings():
        # Names of runs may hold letters that the measuring font lacks; the reader's browser has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=size, layout="constrained")
        for plot, axes in zip(plots, figure.subplots(1, len(plots), squeeze=False)[0], strict=True):
            plot(axes)
        figure.savefig(written, format=kind, transparent=transparent, metadata=dict.fromkeys(METADATA[kind]))
    return written.getvalue()


def draw_picture(plots: Sequence[Callable[[Axes], None]], *, size: tuple[float, float]) -> str:
    """Return plots side by side as an SVG file of its own, dark on white.

    Raises MissingExtraError without matplotlib.
    """
    svg = render_svg(plots, size=size, transparent=False)
    svg = svg.replace(INK, PICTURE_INK).replace(FAINT, PICTURE_LINE)
    return re.sub(r"#0a0a([0-9a-f]{2})", lambda match: PICTURE_COLORS[int(match[1], 16) % len(PICTURE_COLORS)], svg)


def fit_into_page(svg: str, chart: Chart) -> Markup:
    """Name colors, fonts and ids as the page does, and let the page decide on the size.

    Pages allow no attribute called ``style``: what stands there becomes attributes of its own.
    """
    box, svg = re.split(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', svg, maxsplit=1)[1:]
    svg = re.sub(r"<metadata>.*?</metadata>|<style type.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = STYLE.sub(lambda found: found[1] + spell_out(found[2]), svg)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{chart.name}-", svg).replace("xlink:href", "href")
    title = text(f"{chart.title}: {chart.note}")
    own = f"{chart.name}-title"
    svg = f'<svg viewBox="{box}" role="img" aria-labelledby="{own}"><title id="{own}">{title}</title>{svg}'
    svg = svg.replace("'DejaVu Sans'", "system-ui, sans-serif")
    svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--line)")
    svg = re.sub(r"#0a0a([0-9a-f]{2})", lambda match: f"var(--arm-{int(match[1], 16)})", svg)
    return Markup(re.sub(r"\n\s*", "\n", svg).strip())


def spell_out(style: str) -> str:
    """Return the declarations of a style attribute as one attribute each."""
    declared = (declaration.partition(":") for declaration in style.split(";"))
    return "".join(f' {name.strip()}="{value.strip()}"' for name, _, value in declared if value)


def plot_losses(axes: Axes, train: Sequence[tuple[float, float]], val: Sequence[tuple[float, float]], arm: int) -> None:
    """Draw training loss (solid) and validation loss (dashed) over the epochs of one run."""
    for points, style in ((train, "-"), (val, "--")):
        axes.plot(*zip(*points, strict=True), style, color=arm_color(arm)) if points else None
    whole_epochs(axes)
    axes.set(xlabel="epoch", ylabel="loss")


def plot_validation(axes: Axes, curves: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Draw the validation top-1 (share of 1) over the epochs of every run, its best epoch marked."""
    for arm, points in enumerate(curves):
        if points:
            style, marker = STYLES[arm % len(STYLES)]
            epochs, top1 = zip(*points, strict=True)
            axes.plot(epochs, 100 * np.array(top1), style, color=arm_color(arm))
            best = int(np.argmax(top1))
            axes.plot(epochs[best], 100 * top1[best], marker, color=arm_color(arm), markersize=6)
    whole_epochs(axes)
    axes.set(xlabel="epoch", ylabel="top-1, %")


def whole_epochs(axes: Axes) -> None:
    """Label whole epochs only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))


def plot_long_tail(axes: Axes, counts: Integers, limits: Mapping[str, int]) -> None:
    """Draw photos per landmark (C,), most first; ``limits`` names a bucket and its smallest count."""
    ordered = np.sort(counts)[::-1]
    ranks = np.arange(1, len(ordered) + 1)
    axes.fill_between(ranks, 0.8, ordered, step="mid", color=arm_color(0), alpha=0.25, linewidth=0)
    axes.step(ranks, ordered, where="mid", color=arm_color(0))
    begin = 0
    for bucket, smallest in limits.items():
        end = int((ordered >= smallest).sum())
        if end > begin:
            axes.text((begin + end) / 2 + 0.5, 1.02, bucket, ha="center", transform=axes.get_xaxis_transform())
        if 0 < end < len(ordered):
            axes.axvline(end + 0.5, color=INK, linewidth=0.8, linestyle=":")
        begin = max(begin, end)
    axes.set(yscale="log", xlim=(0.5, len(ordered) + 0.5), ylim=(0.8, None))
    label_counts(axes, "y")
    axes.set(xlabel="landmark, most photos first", ylabel="reference photos")


def plot_by_count(axes: Axes, counts: Floats, shares: Sequence[Floats]) -> None:
    """Draw top-1 (share of 1) of every run over the number of reference photos, both (B,) for B groups."""
    for arm, share in enumerate(shares):
        style, marker = STYLES[arm % len(STYLES)]
        axes.plot(counts, 100 * share, style, marker=marker, color=arm_color(arm))
    axes.set(xscale="log")
    label_counts(axes, "x")
    axes.set(xlabel="reference photos of the landmark", ylabel="top-1, %")


def label_counts(axes: Axes, direction: str) -> None:
    """Label a log axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis = axes.yaxis if direction == "y" else axes.xaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def plot_bars(
    axes: Axes, groups: Sequence[str], values: Sequence[Sequence[float]], intervals: Sequence[Sequence[Interval]]
) -> None:
    """Draw bars of shares with their intervals: ``values[arm][group]``; an undefined one is left out."""
    width = 0.8 / len(values)
    for arm, shares in enumerate(values):
        for group, (share, (low, high)) in enumerate(zip(shares, intervals[arm], strict=True)):
            if np.isnan(share):
                continue
            middle = group - 0.4 + (arm + 0.5) * width
            axes.bar(middle, 100 * share, 0.9 * width, color=arm_color(arm))
            axes.plot([middle, middle], [100 * low, 100 * high], color=INK, linewidth=1.2)
    axes.set_xticks(range(len(groups)), groups)
    axes.grid(visible=False, axis="x")
    axes.set(ylabel="top-1, %", ylim=(0, 100))


def plot_differences(axes: Axes, names: Sequence[str], differences: Sequence[Difference | None]) -> None:
    """Draw differences in points with their intervals, one a line; None is the run they are taken against."""
    axes.axvline(0, color=INK, linewidth=1)
    for arm, difference in enumerate(differences):
        if difference is None:
            axes.plot(0, arm, "D", color=arm_color(arm), markersize=7)
            continue
        filled = arm_color(arm) if difference.excludes_zero else "none"
        axes.plot([100 * bound for bound in difference.interval], [arm, arm], color=arm_color(arm), linewidth=2.4)
        axes.plot(
            100 * difference.value, arm, "o", markersize=7, markeredgecolor=arm_color(arm), markerfacecolor=filled
        )
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="points")
    axes.grid(visible=False, axis="y")


def plot_risk_coverage(axes: Axes, curves: Sequence[tuple[Floats, Floats]]) -> None:
    """Draw precision over coverage (shares of 1) of every run: the fewer queries are answered, the more are right."""
    for arm, (coverage, precision) in enumerate(curves):
        axes.plot(100 * coverage, 100 * precision, STYLES[arm % len(STYLES)][0], color=arm_color(arm))
    axes.set(xlabel="queries answered, %", ylabel="answers that are right, %", xlim=(0, 100))


def plot_reliability(axes: Axes, diagrams: Sequence[tuple[Floats, Floats, Floats]]) -> None:
    """Draw accuracy over mean confidence (shares of 1) of each bin of every run; a larger mark holds more queries."""
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
    for arm, (confidence, accuracy, share) in enumerate(diagrams):
        style, marker = STYLES[arm % len(STYLES)]
        axes.plot(100 * confidence, 100 * accuracy, style, color=arm_color(arm), linewidth=1.2)
        # Marks on the border are drawn whole.
        points, sizes = (100 * confidence, 100 * accuracy), 12 + 200 * share
        axes.scatter(*points, s=sizes, marker=marker, color=arm_color(arm), clip_on=False, zorder=3)
    axes.set(xlabel="confidence, %", ylabel="first candidate right, %", xlim=(0, 100), ylim=(0, 100))
