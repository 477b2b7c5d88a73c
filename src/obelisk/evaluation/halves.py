"""The halves protocol measures how well a model refuses what it doesn't know, on somebody's own places.

The landmarks are dealt at random into two halves, several times over. Each half becomes a gallery, as ``obelisk gallery
build`` makes it, and is asked three kinds of queries:

============  =================================  =====  ========================
kind          photos                             share  right answer
============  =================================  =====  ========================
``known``     of landmarks of this gallery       0.6    their landmark
``unknown``   of landmarks of the other half     0.2    none: it is another tower
``ordinary``  of no landmark at all              0.2    none
============  =================================  =====  ========================

The shares weigh the queries, however many there are of each kind, so that precision means the same on all places. A
landmark is named where the confidence reaches the threshold that the recognizer sets for the wanted precision. Figures
are means over the galleries; their 95 % intervals come from resampling the landmarks and the ordinary photos.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from obelisk.arrays import Booleans, Floats, Integers, join_columns
from obelisk.data import Catalog, find_near_duplicates
from obelisk.data.splits import split_references
from obelisk.defaults import DRAWS, PROBABLE
from obelisk.embedding import Bundle, CachedEmbedder
from obelisk.errors import DataError, UsageError
from obelisk.evaluation import figures
from obelisk.evaluation.intervals import RESAMPLES, Interval, percentile_interval
from obelisk.evaluation.metrics import auroc, mean, precision_at_coverage, reliability
from obelisk.evaluation.predict import open_recognizer
from obelisk.evaluation.protocol import plain, plain_interval
from obelisk.files import replace_file
from obelisk.gallery import ReferenceFiles, build_gallery
from obelisk.recognition import Recognizer, calibrate_gallery, find_classifier
from obelisk.recognition.rerank import KeypointCache
from obelisk.records import Progress, Recognition, no_progress
from obelisk.synthetic import render_distractor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("known", "unknown", "ordinary")
SHARES = (0.6, 0.2, 0.2)
WANTED = (0.80, 0.90, 0.95, 0.99)
FIGURES = ("precision", "recall", "unknown_named", "ordinary_named")
OF_PROBABLE = {"probable_right": "precision", "unknown_probable": "unknown_named"}
"""figure of the answers called probable → the figure that counts the same of those that name a landmark"""
RENDERED = 100  # ordinary photos, where none are given
RENDERED_SEED = 3  # neither that of the background nor that of the calibration
HELD_OUT_SHARE = 0.5  # of each landmark's photos, where no queries are given
KEPT_QUERIES = 2048  # whose keypoints are kept for the next gallery, at most 140 KiB each
FEWEST_LANDMARKS = 4  # so that each half has two


@dataclass(frozen=True, kw_only=True, eq=False)
class HalvesAnswers:
    """The first candidates of A queries, asked of G galleries.

    ==============  =======  ==========================================================================
    ``gallery``     (A,)     number of the gallery, from 0
    ``kind``        (A,)     row index in :data:`KINDS`
    ``unit``        (A,)     number of the landmark, or of the ordinary photo: what is resampled
    ``right``       (A,)     whether the first candidate is the query's landmark
    ``confidence``  (A,)     confidence in the first candidate, in [0, 1]
    ``thresholds``  (G, W)   confidence from which a landmark is named, for each of :data:`WANTED`
    ==============  =======  ==========================================================================
    """

    gallery: Integers
    kind: Integers
    unit: Integers
    right: Booleans
    confidence: Floats
    thresholds: Floats

    def weights(self) -> Floats:
        """Return the weight (A,) of each query: that of its kind, shared by the queries of its gallery; sum G."""
        group = self.gallery * len(KINDS) + self.kind
        counts = np.bincount(group, minlength=len(self.thresholds) * len(KINDS))
        present = (counts > 0).reshape(-1, len(KINDS)) * np.array(SHARES)
        shares = present / present.sum(axis=1, keepdims=True)
        return np.asarray(shares[self.gallery, self.kind] / counts[group])


@dataclass(frozen=True, kw_only=True)
class Halves:
    """The result of the halves protocol.

    ``reached`` has an entry for each wanted precision, with ``precision``, ``recall`` (right answers of known queries),
    ``unknown_named`` and ``ordinary_named`` (shares of these queries for which a landmark is named), and
    ``least_precision``, that of the worst gallery. Over all galleries together, ``probable_right`` is the share of
    right first candidates among the answers called probable, and ``unknown_probable`` the share of unknown queries
    called so. ``intervals`` (95 %) has the same keys, without ``least_precision``.

    ``top1`` is the share of known queries whose first candidate is right, named or not. ``auroc_unknown`` compares the
    confidence of right answers with that of unknown landmarks. ``calibrated`` says whether the model sets thresholds.
    """

    landmarks: int
    galleries: int
    queries: int
    ordinary: int
    top1: float
    auroc_unknown: float
    calibrated: bool
    reached: Mapping[float, Mapping[str, float]]
    intervals: Mapping[float, Mapping[str, Interval]]
    answers: HalvesAnswers

    def to_fields(self) -> dict[str, object]:
        """Return what :meth:`to_json` writes."""
        return {
            "protocol": "halves",
            "landmarks": self.landmarks,
            "galleries": self.galleries,
            "queries": self.queries,
            "ordinary": self.ordinary,
            "shares": dict(zip(KINDS, SHARES, strict=True)),
            "calibrated": self.calibrated,
            "top1": plain(self.top1),
            "auroc_unknown": plain(self.auroc_unknown),
            "wanted": {
                f"{wanted:.2f}": {
                    **{name: plain(value) for name, value in figures.items()},
                    "intervals": {name: plain_interval(found) for name, found in self.intervals[wanted].items()},
                }
                for wanted, figures in self.reached.items()
            },
        }

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk evaluate --protocol halves --json`` prints it."""
        return json.dumps(self.to_fields())


def evaluate_halves(
    bundle: Bundle,
    places: Catalog,
    *,
    queries: Catalog | None = None,
    ordinary: Sequence[Path] = (),
    draws: int = DRAWS,
    verify: bool = False,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Halves:
    """Run the halves protocol with a model on the landmarks of a catalog.

    The queries are the references of ``queries``, whose landmarks are matched by name; without it, the catalog's own
    queries of one landmark; without these, half of each landmark's photos, with near-duplicates on one side.
    ``ordinary`` are photos of no landmark; without any, :data:`RENDERED` photos are rendered. With ``verify``, geometry
    is verified as ``recognize --verify`` does.

    Raises :class:`~obelisk.errors.DataError` for fewer than four landmarks, or none with a query, and
    :class:`~obelisk.errors.UsageError` for less than one draw.
    """
    if draws < 1:
        raise UsageError(f"{draws} draws", where="--draws", fix="give at least 1")
    gallery_photos, asked = separate_queries(places, queries, seed=seed, progress=progress)
    landmarks = gallery_photos["landmark_id"].unique().sort().to_numpy()
    refuse_too_few_landmarks(places, landmarks, asked)
    embedder = CachedEmbedder(bundle, progress=progress)
    keypoints = KeypointCache(ReferenceFiles(), queries=KEPT_QUERIES)
    with tempfile.TemporaryDirectory(prefix="obelisk-") as temporary:
        folder = Path(temporary)
        ordinary = list(ordinary) or render_ordinary(folder)
        parts = []
        for number, half in enumerate(deal_halves(landmarks, draws=draws, seed=seed)):
            catalog = narrow(places, gallery_photos, half)
            gallery = build_gallery(folder / f"gallery {number}", catalog, bundle, embedder=embedder).gallery
            calibrate_gallery(gallery)
            recognizer = open_recognizer(gallery, find_classifier(bundle), embedder, progress)
            recognizer.keypoints = keypoints
            parts.append(ask_half(recognizer, asked, half, ordinary, number, verify=verify))
            progress("galleries asked", number + 1, 2 * draws)
    answers = join_columns(parts)
    reached, intervals = measure_halves(answers, seed=seed)
    right, unknown = (answers.kind == 0) & answers.right, answers.kind == 1
    return Halves(
        landmarks=len(landmarks),
        galleries=len(parts),
        queries=len(asked),
        ordinary=len(ordinary),
        top1=find_top1(answers),
        auroc_unknown=auroc(answers.confidence[right], answers.confidence[unknown]),
        calibrated=bool((answers.thresholds > 0).any()),
        reached=reached,
        intervals=intervals,
        answers=answers,
    )


def write_halves(folder: Path, name: str, halves: Halves) -> Path:
    """Write ``halves.json`` and the picture ``halves.svg`` into a folder; return the picture's path.

    The picture shows precision over coverage and the reliability diagram, of all galleries together. Raises
    :class:`~obelisk.errors.MissingExtraError` without matplotlib, after the JSON is written.
    """
    text = json.dumps(halves.to_fields(), indent=1) + "\n"
    replace_file(folder / "halves.json", lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))
    answers = halves.answers
    measured = answers.confidence, answers.right, answers.weights()

    def draw_coverage(axes: Axes) -> None:
        figures.plot_risk_coverage(axes, [precision_at_coverage(*measured)])
        axes.set_title(f"{name}: {halves.galleries} galleries of {halves.landmarks // 2} landmarks", loc="left")

    def draw_reliability(axes: Axes) -> None:
        figures.plot_reliability(axes, [reliability(*measured)])
        axes.set_title("reliability of the confidence", loc="left")

    svg = figures.draw_picture([draw_coverage, draw_reliability], size=(10.0, 4.0))
    return replace_file(folder / "halves.svg", lambda partial: partial.write_text(svg, encoding="utf-8", newline="\n"))


def separate_queries(
    places: Catalog, queries: Catalog | None, *, seed: int, progress: Progress
) -> tuple[pl.DataFrame, list[tuple[Path, int]]]:
    """Return the references for galleries, and the queries as pairs of a photo and its landmark's id."""
    if queries is not None:
        by_name = {name: landmark_id for landmark_id, name in places.landmark_names().items()}
        own = {theirs: by_name[name] for theirs, name in queries.landmark_names().items() if name in by_name}
        photos = queries.references.filter(pl.col("landmark_id").is_in(list(own)))
        shown = [own[landmark_id] for landmark_id in photos["landmark_id"].to_list()]
        return places.references, list(zip(queries.locate_photos(photos), shown, strict=True))
    known = places.queries.filter(pl.col("landmark_ids").list.len() == 1)
    if known.height:
        shown = known["landmark_ids"].list.first().to_list()
        return places.references, list(zip(places.locate_photos(known), shown, strict=True))
    return hold_out_queries(places, share=HELD_OUT_SHARE, seed=seed, progress=progress)


def hold_out_queries(
    places: Catalog, *, share: float, seed: int, progress: Progress
) -> tuple[pl.DataFrame, list[tuple[Path, int]]]:
    """Keep a share of each landmark's references for queries, with near-duplicates on one side.

    Returns the other references, and the queries as pairs of a photo and its landmark's id.
    """
    groups = find_near_duplicates(places.root, places.references, progress=progress).groups
    split = split_references(places, validation_share=share, seed=seed, groups=groups)
    asked = split.select_references("val")
    pairs = zip(split.locate_photos(asked), asked["landmark_id"].to_list(), strict=True)
    return split.select_references("train"), list(pairs)


def refuse_too_few_landmarks(places: Catalog, landmarks: Integers, asked: Sequence[tuple[Path, int]]) -> None:
    """Raise DataError for too few landmarks to deal, or if no query shows one of them."""
    if len(landmarks) < FEWEST_LANDMARKS:
        what = f"{len(landmarks)} landmarks to deal into two halves"
        raise DataError(what, where=places.root, fix=f"give photos of {FEWEST_LANDMARKS} landmarks or more")
    if not np.isin([landmark_id for _, landmark_id in asked], landmarks).any():
        what = "no query shows a landmark of the dataset"
        raise DataError(what, where=places.root, fix="name a folder of queries with --queries: one folder a landmark")


def deal_halves(landmarks: Integers, *, draws: int, seed: int) -> Iterator[Integers]:
    """Yield both halves of the landmarks (C,), ascending, for each draw."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        drawn = rng.permutation(landmarks)
        yield np.sort(drawn[: len(drawn) // 2])
        yield np.sort(drawn[len(drawn) // 2 :])


def narrow(places: Catalog, photos: pl.DataFrame, half: Integers) -> Catalog:
    """Return the catalog of one half: its landmarks, and those of the photos that show them."""
    inside = pl.col("landmark_id").is_in(half.tolist())
    return replace(
        places, references=photos.filter(inside), landmarks=places.landmarks.filter(inside), queries=places.queries[:0]
    )


def render_ordinary(folder: Path) -> list[Path]:
    """Render ordinary photos into a folder; return their paths."""
    paths = [folder / f"ordinary {number}.png" for number in range(RENDERED)]
    for number, path in enumerate(paths):
        render_distractor(RENDERED_SEED, number).save(path)
    return paths


def ask_half(
    recognizer: Recognizer,
    asked: Sequence[tuple[Path, int]],
    half: Integers,
    ordinary: Sequence[Path],
    number: int,
    *,
    verify: bool,
) -> HalvesAnswers:
    """Ask the gallery of one half all queries and the ordinary photos; photos that can't be read are left out."""
    shown = np.array([landmark_id for _, landmark_id in asked] + [-1 - photo for photo in range(len(ordinary))])
    kind = np.where(shown < 0, 2, np.where(np.isin(shown, half), 0, 1))
    photos = [*(path for path, _ in asked), *ordinary]
    answers: list[Recognition] = list(recognizer.recognize(photos, top=1, verify=verify))
    usable = np.array([answer.error is None for answer in answers])
    first = np.array([answer.candidates[0].landmark_id if answer.candidates else -1 for answer in answers])
    thresholds = [recognizer.threshold(wanted, verified=verify) or 0.0 for wanted in WANTED]
    return HalvesAnswers(
        gallery=np.full(int(usable.sum()), number),
        kind=kind[usable],
        unit=shown[usable],
        right=((first == shown) & (kind == 0))[usable],
        confidence=np.array([answer.confidence for answer in answers])[usable],
        thresholds=np.array([thresholds]),
    )


def measure_halves(
    answers: HalvesAnswers, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[dict[float, dict[str, float]], dict[float, dict[str, Interval]]]:
    """Return the figures for each wanted precision, and their intervals."""
    units, unit = np.unique(answers.unit, return_inverse=True)
    once, copies = np.ones((1, len(units))), draw_copies(units >= 0, resamples=resamples, seed=seed)
    reached, intervals = {}, {}
    for column, wanted in enumerate(WANTED):
        is_named = answers.confidence >= answers.thresholds[answers.gallery, column]
        named = sum_by_unit(answers, unit, is_named)
        probable = sum_by_unit(answers, unit, ~is_named & (answers.confidence >= PROBABLE))
        reached[wanted] = {name: float(value[0]) for name, value in find_figures(once, named, probable).items()}
        resampled = find_figures(copies, named, probable)
        intervals[wanted] = {name: percentile_interval(values) for name, values in resampled.items()}
        precisions = rate(once, named)["precision"]
        defined = precisions[~np.isnan(precisions)]
        reached[wanted]["least_precision"] = float(defined.min()) if len(defined) else float("nan")
    return reached, intervals


def find_figures(copies: Floats, named: Floats, probable: Floats) -> dict[str, Floats]:
    """Return each figure (R,) of resamples, given counts (S, G, U) of the queries named and those called probable."""
    by_gallery = rate(copies, named)
    pooled = rate(copies, probable.sum(axis=1, keepdims=True))  # a single gallery calls few probable
    means = {name: mean_defined(by_gallery[name]) for name in FIGURES}
    return means | {name: pooled[same][:, 0] for name, same in OF_PROBABLE.items()}


def find_top1(answers: HalvesAnswers) -> float:
    """Return the share of known queries whose first candidate is right, a mean over galleries that have any."""
    known = answers.kind == 0
    asked = np.bincount(answers.gallery[known], minlength=len(answers.thresholds))
    right = np.bincount(answers.gallery[known], weights=answers.right[known], minlength=len(answers.thresholds))
    return mean(right[asked > 0] / asked[asked > 0])


def draw_copies(is_landmark: Booleans, *, resamples: int, seed: int) -> Floats:
    """Return how often each unit (U,) is drawn in each of R resamples (R, U); landmarks and photos apart."""
    rng = np.random.default_rng(seed)
    copies = np.zeros((resamples, len(is_landmark)))
    for group in (np.flatnonzero(is_landmark), np.flatnonzero(~is_landmark)):
        if len(group):
            copies[:, group] = rng.multinomial(len(group), np.full(len(group), 1 / len(group)), size=resamples)
    return copies


def sum_by_unit(answers: HalvesAnswers, unit: Integers, named: Booleans) -> Floats:
    """Return counts (S, G, U) of queries: right and named, then named and asked for each of :data:`KINDS`."""
    G, U = len(answers.thresholds), int(unit.max()) + 1
    cell = answers.gallery * U + unit
    masks = [named & answers.right]
    for kind in range(len(KINDS)):
        masks += [named & (answers.kind == kind), answers.kind == kind]
    return np.stack([np.bincount(cell, weights=mask, minlength=G * U).reshape(G, U) for mask in masks])


def rate(copies: Floats, sums: Floats) -> dict[str, Floats]:
    """Return each figure (R, G) of resamples, given how often they draw each unit (R, U) and counts (S, G, U)."""
    right, *pairs = np.einsum("ru,sgu->srg", copies, sums)
    with np.errstate(invalid="ignore"):
        shares = [named / asked for named, asked in zip(pairs[::2], pairs[1::2], strict=True)]
        recall = right / pairs[1]
        weighed = sum(share * np.nan_to_num(found) for share, found in zip(SHARES, shares, strict=True))
        precision = SHARES[0] * np.nan_to_num(recall) / weighed
    return dict(zip(FIGURES, (precision, recall, shares[1], shares[2]), strict=True))


def mean_defined(values: Floats) -> Floats:
    """Return the mean (R,) over galleries of (R, G), leaving out those in which a figure is undefined."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(defined, values, 0.0).sum(axis=1) / defined.sum(axis=1))
