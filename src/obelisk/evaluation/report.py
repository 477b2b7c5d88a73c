"""The report of a comparison: one HTML file that needs nothing else.

No network, no script; photos and figures are inside. It follows the reader's light or dark screen, fits a
phone, and prints. The same comparison and photos give the same bytes.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from string import Template

from obelisk.data import Catalog
from obelisk.evaluation.cards import draw_cards
from obelisk.evaluation.charts import (
    all_charts,
    chart_confidence,
    chart_differences,
    chart_long_tail,
    chart_training,
    show_charts,
)
from obelisk.evaluation.comparison import DECIDING, Comparison, say_difference
from obelisk.evaluation.figures import write_figures
from obelisk.evaluation.swatches import swatch
from obelisk.evaluation.tables import tabulate_confusions, tabulate_differences, tabulate_metrics
from obelisk.evaluation.thumbnails import Thumbnails
from obelisk.files import replace_file
from obelisk.markup import Markup, element, join, page_head, text


def write_report(path: Path, comparison: Comparison, catalog: Catalog, *, seed: int = 0) -> Path:
    """Write the report of a comparison as one HTML file, whole or not at all; return its path.

    ``seed`` chooses the queries that are shown. Photos that cannot be read are shown as empty boxes.
    Raises MissingExtraError without matplotlib.
    """
    head = page_head("Obelisk: runs compared", read_own("report.css"))
    page = Template(read_own("report.html"))
    thumbnails = Thumbnails(catalog)
    sections = {
        "Metrics": tabulate_metrics(comparison),
        "Differences": draw_differences(comparison),
        "Long tail": show_charts(comparison, chart_long_tail(comparison, catalog)),
        "Confidence": show_charts(comparison, chart_confidence(comparison)),
        "Training": show_charts(comparison, chart_training(comparison)),
        "Confusions": tabulate_confusions(comparison, catalog, thumbnails),
        "Queries": draw_cards(comparison, catalog, thumbnails, seed=seed),
        "Runs": draw_runs(comparison),
    }
    filled = {title: body for title, body in sections.items() if body}
    written = head + page.substitute(
        facts=describe_data(comparison, catalog),
        headline=draw_headline(comparison),
        links=join(element("a", text(title), href=f"#{anchor(title)}") for title in filled),
        sections=join(
            element("section", element("h2", text(title)), body, id=anchor(title)) for title, body in filled.items()
        ),
    )
    return replace_file(path, lambda partial: partial.write_text(written, encoding="utf-8", newline="\n"))


def write_report_figures(folder: Path, comparison: Comparison, catalog: Catalog) -> list[Path]:
    """Write the figures of the report to a folder, as SVG and PDF; return their paths.

    Raises MissingExtraError without matplotlib.
    """
    return write_figures(folder, all_charts(comparison, catalog))


def read_own(name: str) -> str:
    """Return a file that lies beside this one."""
    return resources.files("obelisk.evaluation").joinpath(name).read_text(encoding="utf-8")


def anchor(title: str) -> str:
    """Return the id of a section."""
    return title.lower().replace(" ", "-")


def describe_data(comparison: Comparison, catalog: Catalog) -> Markup:
    """Describe in one line what was compared, and on which data."""
    metrics = comparison.first.metrics
    runs = f"{len(comparison.arms)} runs" if len(comparison.arms) > 1 else "1 run"
    parts = [
        runs,
        f"{metrics.landmarks:,} landmarks",
        f"{catalog.references.height:,} reference photos",
        f"{metrics.known_queries:,} queries with a landmark",
        f"{metrics.distractors:,} distractors",
    ]
    return join(map(text, parts), " · ")


def draw_headline(comparison: Comparison) -> Markup:
    """Return the answer in words: which run wins, over the second and over the first."""
    lines = [element("p", text(comparison.headline()), class_="headline")]
    best, *others = comparison.ranked()
    if others and comparison.first not in (best, others[0]):
        difference = best.minus(comparison.first)[DECIDING]
        words = say_difference(difference, f"the first run, {comparison.first.name}")
        doubt = "" if difference.excludes_zero else "; that may be chance"
        lines.append(element("p", text(f"It is {words}{doubt}.")))
    return join(lines)


def draw_differences(comparison: Comparison) -> Markup:
    """Return paired differences against the best run, and against the first where that is another."""
    if len(comparison.arms) == 1:
        return Markup("")
    note = (
        "Both runs are measured on the same queries and the same resamples, which makes these intervals narrower than "
        "those of the runs by themselves. A dot is filled, and a difference bold, where the interval excludes zero."
    )
    against = dict.fromkeys((comparison.best, comparison.first))
    tables = (tabulate_differences(comparison, arm) for arm in against)
    charts = show_charts(comparison, chart_differences(comparison), legend=False)
    return join([charts, element("p", text(note), class_="note"), *tables])


def draw_runs(comparison: Comparison) -> Markup:
    """Return what every run is, with its settings."""
    cards = []
    for number, arm in enumerate(comparison.arms):
        settings = [
            element("div", element("dt", text(name)), element("dd", text(value)))
            for name, value in arm.run.recipe.items()
        ]
        parts = [element("h3", swatch(number, arm.name)), element("p", text(arm.run.title))]
        cards.append(element("article", *parts, element("dl", *settings), class_="run"))
    return element("div", *cards, class_="charts")
