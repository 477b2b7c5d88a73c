"""The figures of the report with their words, put together from a comparison."""

from __future__ import annotations

from functools import partial

import numpy as np

from obelisk.arrays import Floats
from obelisk.data import MID_PHOTOS, TAIL_PHOTOS, Catalog, photos_per_landmark
from obelisk.evaluation import figures, metrics
from obelisk.evaluation.comparison import Arm, Comparison
from obelisk.evaluation.metrics import mean
from obelisk.evaluation.outcomes import BUCKETS
from obelisk.evaluation.swatches import swatch
from obelisk.evaluation.tables import METRICS
from obelisk.markup import Markup, element, join, text

DRAWN_DIFFERENCES = ("top1", "f1_macro", "gap")
# Smallest number of reference photos in each group of the accuracy figure.
COUNT_GROUPS = (1, 3, TAIL_PHOTOS + 1, 11, MID_PHOTOS + 1, 51, 101)


def show_figure(svg: Markup, title: str, note: str) -> Markup:
    """Return a figure with its title above and its explanation below."""
    return element("figure", element("h3", text(title)), svg, element("figcaption", text(note)), class_="chart")


def draw_legend(comparison: Comparison) -> Markup:
    """Return the colors of the runs."""
    return element("p", *(swatch(number, arm.name) for number, arm in enumerate(comparison.arms)), class_="legend")


def chart_differences(comparison: Comparison) -> Markup:
    """Return figures of the paired differences of all runs against the best."""
    best = comparison.best
    names = [arm.name for arm in comparison.arms]
    differences = [None if arm is best else arm.minus(best) for arm in comparison.arms]
    drawn = []
    for metric in DRAWN_DIFFERENCES:
        lines = [None if of_arm is None else of_arm[metric] for of_arm in differences]
        plot = partial(figures.plot_differences, names=names, differences=lines)
        svg = figures.draw_svg(f"differences-{metric}", plot, size=(4.6, 0.9 + 0.42 * len(names)))
        drawn.append(show_figure(svg, METRICS[metric][0], f"points above or below {best.name}"))
    return element("div", *drawn, class_="charts")


def chart_long_tail(comparison: Comparison, catalog: Catalog) -> Markup:
    """Return how photos are spread over landmarks, and what that does to every run."""
    counts = photos_per_landmark(catalog.references)
    limits = {"head": MID_PHOTOS + 1, "mid": TAIL_PHOTOS + 1, "tail": 1}
    tail = figures.draw_svg("tail", partial(figures.plot_long_tail, counts=counts, limits=limits))
    values = [[arm.metrics.values[bucket] for bucket in BUCKETS] for arm in comparison.arms]
    intervals = [[arm.metrics.intervals[bucket] for bucket in BUCKETS] for arm in comparison.arms]
    bars = figures.draw_svg("buckets", partial(figures.plot_bars, groups=BUCKETS, values=values, intervals=intervals))
    charts = [
        show_figure(tail, "Photos per landmark", f"{len(counts):,} landmarks, log scale"),
        show_figure(bars, "Top-1 by bucket", "thin lines are 95 % intervals"),
    ]
    sizes, shares = group_by_count(comparison, catalog)
    if len(sizes):
        lines = figures.draw_svg("by-count", partial(figures.plot_by_count, counts=sizes, shares=shares))
        charts.append(show_figure(lines, "Top-1 by number of photos", "each point groups landmarks of similar counts"))
    return join([draw_legend(comparison), element("div", *charts, class_="charts")])


def group_by_count(comparison: Comparison, catalog: Catalog) -> tuple[Floats, list[Floats]]:
    """Return mean photos (B,) of groups of landmarks and, for every run, top-1 of their queries (B,)."""
    photos = dict(catalog.references.group_by("landmark_id").len().rows())
    counts = np.array([photos.get(landmark, 0) for landmark in comparison.first.outcomes.landmarks.tolist()])
    group = np.searchsorted(COUNT_GROUPS, counts, side="right")
    members = [group == number for number in range(1, len(COUNT_GROUPS) + 1) if (group == number).any()]
    sizes = np.array([counts[chosen].mean() for chosen in members])
    return sizes, [np.array([mean(arm.outcomes.right[chosen]) for chosen in members]) for arm in comparison.arms]


def chart_confidence(comparison: Comparison) -> Markup:
    """Return what the confidence of every run is worth: precision over coverage, and accuracy over confidence."""
    measured = [(arm.outcomes.confidence, arm.outcomes.right) for arm in comparison.arms]
    curves = [metrics.precision_at_coverage(*one) for one in measured]
    diagrams = [metrics.reliability(*one) for one in measured]
    risk = figures.draw_svg("risk-coverage", partial(figures.plot_risk_coverage, curves=curves))
    bins = figures.draw_svg("reliability", partial(figures.plot_reliability, diagrams=diagrams))
    charts = [
        show_figure(risk, "Precision over coverage", "of the most confident answers; distractors are never right"),
        show_figure(bins, "Reliability", "on the line, a confidence is a probability; larger marks hold more queries"),
    ]
    return join([draw_legend(comparison), element("div", *charts, class_="charts")])


def chart_training(comparison: Comparison) -> Markup:
    """Return the curves of all runs that were trained; nothing when none was."""
    curves = [read_curve(arm, "val_top1") for arm in comparison.arms]
    charts = []
    if any(curves):
        svg = figures.draw_svg("validation", partial(figures.plot_validation, curves=curves))
        charts.append(show_figure(svg, "Validation top-1", "the mark is the best epoch"))
    for number, arm in enumerate(comparison.arms):
        train, val = read_curve(arm, "train_loss"), read_curve(arm, "val_loss")
        if train or val:
            plot = partial(figures.plot_losses, train=train, val=val, arm=number)
            svg = figures.draw_svg(f"loss-{number}", plot)
            charts.append(show_figure(svg, f"Loss of {arm.name}", "training solid, validation dashed"))
    return join([draw_legend(comparison), element("div", *charts, class_="charts")]) if charts else Markup("")


def read_curve(arm: Arm, name: str) -> list[tuple[float, float]]:
    """Return (epoch, value) of a run's log, without the epochs that lack the value."""
    rows = ((row.get("epoch"), row.get(name)) for row in arm.run.log)
    return [(epoch, value) for epoch, value in rows if epoch is not None and value is not None]
