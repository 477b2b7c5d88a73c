"""The figures of the report with their words, put together from a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from obelisk.arrays import Floats
from obelisk.data import MID_PHOTOS, TAIL_PHOTOS, Catalog, photos_per_landmark
from obelisk.evaluation import figures, metrics
from obelisk.evaluation.comparison import Arm, Comparison
from obelisk.evaluation.figures import Chart, draw_svg
from obelisk.evaluation.metrics import mean
from obelisk.evaluation.outcomes import BUCKETS
from obelisk.evaluation.swatches import swatch
from obelisk.evaluation.tables import METRICS
from obelisk.markup import Markup, element, join, text

DRAWN_DIFFERENCES = ("top1", "f1_macro", "gap")
# Smallest number of reference photos in each group of the accuracy figure.
COUNT_GROUPS = (1, 3, TAIL_PHOTOS + 1, 11, MID_PHOTOS + 1, 51, 101)


def show_charts(comparison: Comparison, charts: Sequence[Chart], *, legend: bool = True) -> Markup:
    """Return charts side by side, each with its title above and its explanation below; nothing if there are none."""
    drawn = [
        element(
            "figure",
            element("h3", text(chart.title)),
            draw_svg(chart),
            element("figcaption", text(chart.note)),
            class_="chart",
        )
        for chart in charts
    ]
    if not drawn:
        return Markup("")
    return join([*([draw_legend(comparison)] if legend else []), element("div", *drawn, class_="charts")])


def draw_legend(comparison: Comparison) -> Markup:
    """Return the colors of the runs."""
    return element("p", *(swatch(number, arm.name) for number, arm in enumerate(comparison.arms)), class_="legend")


def all_charts(comparison: Comparison, catalog: Catalog) -> list[Chart]:
    """Return every figure of the report."""
    return [
        *chart_differences(comparison),
        *chart_long_tail(comparison, catalog),
        *chart_confidence(comparison),
        *chart_training(comparison),
    ]


def chart_differences(comparison: Comparison) -> list[Chart]:
    """Return the paired differences of all runs against the best; nothing for a single run."""
    best = comparison.best
    names = [arm.name for arm in comparison.arms]
    differences = [None if arm is best else arm.minus(best) for arm in comparison.arms]
    charts = []
    for metric in DRAWN_DIFFERENCES if len(names) > 1 else ():
        lines = [None if of_arm is None else of_arm[metric] for of_arm in differences]
        charts.append(
            Chart(
                name=f"differences-{metric}",
                title=METRICS[metric][0],
                note=f"points above or below {best.name}",
                plot=partial(figures.plot_differences, names=names, differences=lines),
                size=(4.6, 0.9 + 0.42 * len(names)),
            )
        )
    return charts


def chart_long_tail(comparison: Comparison, catalog: Catalog) -> list[Chart]:
    """Return how photos are spread over landmarks, and what that does to every run."""
    counts = photos_per_landmark(catalog.references)
    limits = {"head": MID_PHOTOS + 1, "mid": TAIL_PHOTOS + 1, "tail": 1}
    values = [[arm.metrics.values[bucket] for bucket in BUCKETS] for arm in comparison.arms]
    intervals = [[arm.metrics.intervals[bucket] for bucket in BUCKETS] for arm in comparison.arms]
    charts = [
        Chart(
            name="tail",
            title="Photos per landmark",
            note=f"{len(counts):,} landmarks, log scale",
            plot=partial(figures.plot_long_tail, counts=counts, limits=limits),
        ),
        Chart(
            name="buckets",
            title="Top-1 by bucket",
            note="thin lines are 95 % intervals",
            plot=partial(figures.plot_bars, groups=BUCKETS, values=values, intervals=intervals),
        ),
    ]
    sizes, shares = group_by_count(comparison, catalog)
    if len(sizes):
        charts.append(
            Chart(
                name="by-count",
                title="Top-1 by number of photos",
                note="each point groups landmarks of similar counts",
                plot=partial(figures.plot_by_count, counts=sizes, shares=shares),
            )
        )
    return charts


def group_by_count(comparison: Comparison, catalog: Catalog) -> tuple[Floats, list[Floats]]:
    """Return mean photos (B,) of groups of landmarks and, for every run, top-1 of their queries (B,)."""
    photos = dict(catalog.references.group_by("landmark_id").len().rows())
    counts = np.array([photos.get(landmark, 0) for landmark in comparison.first.outcomes.landmarks.tolist()])
    group = np.searchsorted(COUNT_GROUPS, counts, side="right")
    members = [group == number for number in range(1, len(COUNT_GROUPS) + 1) if (group == number).any()]
    sizes = np.array([counts[chosen].mean() for chosen in members])
    return sizes, [np.array([mean(arm.outcomes.right[chosen]) for chosen in members]) for arm in comparison.arms]


def chart_confidence(comparison: Comparison) -> list[Chart]:
    """Return what the confidence of every run is worth: precision over coverage, and accuracy over confidence."""
    measured = [(arm.outcomes.confidence, arm.outcomes.right) for arm in comparison.arms]
    curves = [metrics.precision_at_coverage(*one) for one in measured]
    diagrams = [metrics.reliability(*one) for one in measured]
    return [
        Chart(
            name="risk-coverage",
            title="Precision over coverage",
            note="of the most confident answers; distractors are never right",
            plot=partial(figures.plot_risk_coverage, curves=curves),
        ),
        Chart(
            name="reliability",
            title="Reliability",
            note="on the line, a confidence is a probability; larger marks hold more queries",
            plot=partial(figures.plot_reliability, diagrams=diagrams),
        ),
    ]


def chart_training(comparison: Comparison) -> list[Chart]:
    """Return the curves of all runs that were trained; nothing when none was."""
    curves = [read_curve(arm, "val_top1") for arm in comparison.arms]
    charts = []
    if any(curves):
        plot = partial(figures.plot_validation, curves=curves)
        charts.append(Chart(name="validation", title="Validation top-1", note="the mark is the best epoch", plot=plot))
    for number, arm in enumerate(comparison.arms):
        train, val = read_curve(arm, "train_loss"), read_curve(arm, "val_loss")
        if train or val:
            charts.append(
                Chart(
                    name=f"loss-{number}",
                    title=f"Loss of {arm.name}",
                    note="training solid, validation dashed",
                    plot=partial(figures.plot_losses, train=train, val=val, arm=number),
                )
            )
    return charts


def read_curve(arm: Arm, name: str) -> list[tuple[float, float]]:
    """Return (epoch, value) of a run's log, without the epochs that lack the value."""
    rows = ((row.get("epoch"), row.get(name)) for row in arm.run.log)
    return [(epoch, value) for epoch, value in rows if epoch is not None and value is not None]
