"""The tables of the report: metrics, differences, confusions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl

from obelisk.data import MID_PHOTOS, TAIL_PHOTOS, Catalog
from obelisk.evaluation.comparison import LOWER_IS_BETTER, Arm, Comparison, points_between
from obelisk.evaluation.intervals import Difference
from obelisk.evaluation.swatches import swatch
from obelisk.evaluation.thumbnails import Thumbnails
from obelisk.markup import Markup, element, html_table, join, text
from obelisk.wording import format_percent

CONFUSIONS = 12
METRICS = {
    "top1": ("Top-1", "first candidate right"),
    "top5": ("Top-5", "one of five candidates right"),
    "f1_macro": ("Macro F1", "every landmark counts alike"),
    "f1_weighted": ("Weighted F1", "every query counts alike"),
    "gap": ("GAP", "right answers before wrong ones, distractors included"),
    "auroc_distractors": ("AUROC", "confidence: landmarks against distractors"),
    "auroc_unknown": ("AUROC, unknown", "against landmarks that the gallery lacks"),
    "ece": ("Calibration error", "ECE, lower is better"),
    "head": ("Top-1, head", f"landmarks of more than {MID_PHOTOS} reference photos"),
    "mid": ("Top-1, mid", f"{TAIL_PHOTOS + 1} to {MID_PHOTOS} reference photos"),
    "tail": ("Top-1, tail", f"up to {TAIL_PHOTOS} reference photos"),
    "point_like": ("Top-1, point-like", "without parks, bays and districts"),
    "map100": ("mAP@100", "all photos of the landmark first"),
    "precision": ("Precision", "right answers / answers above the threshold"),
    "recall": ("Recall", "right answers above it / known queries"),
}


def tabulate_metrics(comparison: Comparison) -> Markup:
    """Return the table of all metrics with their intervals; the best value of a row is bold."""
    rows = []
    for name in comparison.first.metrics.values:
        values = [arm.metrics.values[name] for arm in comparison.arms]
        if np.isnan(values).all():
            continue
        best = np.nanmin(values) if name in LOWER_IS_BETTER else np.nanmax(values)
        cells = [
            show_value(arm, name, best=value == best and len(values) > 1)
            for arm, value in zip(comparison.arms, values, strict=True)
        ]
        rows.append([label(name), *cells])
    head = [text("in %"), *(swatch(number, arm.name) for number, arm in enumerate(comparison.arms))]
    note = (
        f"Below each value its 95 % interval, from {comparison.resamples:,} bootstrap resamples of landmarks with all "
        "their queries. The best value of a row is bold; whether it is more than chance stands under Differences."
    )
    return join([html_table(head, rows), element("p", text(note), class_="note")])


def tabulate_briefly(comparison: Comparison) -> Markup:
    """Return the headline and the metrics with their intervals, for a place without a style sheet."""
    rows = []
    for name in comparison.first.metrics.values:
        cells = []
        for arm in comparison.arms:
            value, (low, high) = arm.metrics.values[name], arm.metrics.intervals[name]
            cells.append("–" if np.isnan(value) else f"{format_percent(value)} ({describe_interval(low, high)})")
        if set(cells) != {"–"}:
            rows.append(map(text, (METRICS[name][0], *cells)))
    head = [text("in %, with 95 % intervals"), *(text(arm.name) for arm in comparison.arms)]
    return element("div", element("p", text(comparison.headline())), html_table(head, rows))


def describe_interval(low: float, high: float) -> str:
    """Return an interval of shares in percent."""
    return f"{format_percent(low)} to {format_percent(high)}"


def label(name: str) -> Markup:
    """Return the name of a metric and what it means."""
    title, meaning = METRICS[name]
    return join([text(title), element("small", text(meaning))])


def show_value(arm: Arm, name: str, *, best: bool) -> Markup:
    """Return a metric in percent, with its interval."""
    value = arm.metrics.values[name]
    if np.isnan(value):
        return text("–")
    low, high = arm.metrics.intervals[name]
    written = text(format_percent(value))
    interval = element("small", text(describe_interval(low, high)))
    return join([element("b", written) if best else written, interval])


def tabulate_differences(comparison: Comparison, against: Arm) -> Markup:
    """Return the paired differences of all other runs against one, metric by metric."""
    columns = [(number, arm) for number, arm in enumerate(comparison.arms) if arm is not against]
    differences = [arm.minus(against) for _, arm in columns]
    rows = [
        [label(name), *(show_difference(of_arm[name]) for of_arm in differences)]
        for name, value in against.metrics.values.items()
        if not np.isnan(value)
    ]
    which = "the best run" if against is comparison.best else "the first run"
    head = [text("points"), *(swatch(number, arm.name) for number, arm in columns)]
    return join([element("h3", text(f"Against {against.name}, {which}")), html_table(head, rows)])


def show_difference(difference: Difference) -> Markup:
    """Return a difference in points with its interval, bold where that excludes zero."""
    if np.isnan(difference.value):
        return text("–")
    written = text(f"{100 * difference.value:+.1f}".replace("-", "−"))
    interval = element("small", text(points_between(difference.interval)))
    return join([element("b", written) if difference.excludes_zero else written, interval])


def tabulate_confusions(comparison: Comparison, catalog: Catalog, thumbnails: Thumbnails) -> Markup:
    """Return the pairs of landmarks that are confused most over all runs, and how often in each."""
    counted = [
        {(pair.landmark_id, pair.named_id): pair.count for pair in arm.find_confusions()} for arm in comparison.arms
    ]
    total: Counter[tuple[int, int]] = Counter()
    for pairs in counted:
        total.update(pairs)
    most = sorted(total.items(), key=lambda item: (-item[1], item[0]))[:CONFUSIONS]
    if not most:
        return Markup("")
    queries = Counter(comparison.first.outcomes.landmarks.tolist())
    show = LandmarkDrawer(catalog, thumbnails)
    rows = [
        [
            element("span", show.draw(true), show.draw(named), class_="pair"),
            text(f"{queries[true]:,}"),
            *(text(pairs.get((true, named), "–")) for pairs in counted),
        ]
        for (true, named), _ in most
    ]
    head = [
        text("shows → named as"),
        text("queries"),
        *(swatch(number, arm.name) for number, arm in enumerate(comparison.arms)),
    ]
    note = (
        "One reference photo of each; the queries that show the first, and how many of them a run named as the second."
    )
    return join([element("p", text(note), class_="note"), html_table(head, rows)])


class LandmarkDrawer:
    """Draws a landmark as its first reference photo and its name."""

    def __init__(self, catalog: Catalog, thumbnails: Thumbnails) -> None:
        first = catalog.references.group_by("landmark_id").agg(pl.col("image_id").min())
        self._photos = dict(first.rows())
        self._names = catalog.landmark_names()
        self._thumbnails = thumbnails

    def draw(self, landmark: int) -> Markup:
        """Return the landmark of this id."""
        name = self._names.get(landmark, f"landmark {landmark}")
        return element("span", self._thumbnails.show_reference(self._photos.get(landmark, ""), name), text(name))
