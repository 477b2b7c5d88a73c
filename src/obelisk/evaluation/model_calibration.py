"""Calibrating a model of one's own, so that it can refuse what it does not know.

A calibration must come from landmarks that the model's training did not see. :func:`plan_calibration` looks for them
among those of a dataset. If there are too few, a held-out model stands in: one that is trained by the same recipe on
some of the landmarks (:mod:`obelisk.experiments.held_out_run`), for which the others are unseen.
:func:`calibrate_model` makes the calibration and the background, and attaches both to the model's bundle.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from obelisk.arrays import Booleans, Integers, l2_normalize
from obelisk.data import Catalog
from obelisk.embedding import Bundle, BundleClassifier, CachedEmbedder, Embedder, attach
from obelisk.errors import DataError
from obelisk.evaluation.halves import hold_out_queries, separate_queries
from obelisk.evaluation.run_reader import Run
from obelisk.gallery import load_model, refuse_directionless
from obelisk.recognition import (
    BACKGROUND,
    CALIBRATION,
    Background,
    Calibration,
    find_classifier,
    pack_background,
    read_background,
)
from obelisk.recognition.background_photos import choose_background, embed_background
from obelisk.recognition.held_out_model import HeldOutPhotos, calibrate_new_landmarks
from obelisk.recognition.rerank import make_inlier_counter
from obelisk.records import Progress, no_progress

FEWEST_UNSEEN = 12  # landmarks; fewer say little about strangers
HELD_OUT_SHARE = 0.21  # of the landmarks, which a held-out model does not see
QUERY_SHARE = 0.3  # of each landmark's photos, where no queries are given
SHARPNESS = 0.95  # weights fitted to a few dozen landmarks are a little too steep for others
ORDINARY_SEED = 2  # of the rendered photos that play queries: not those of the background


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibrationPlan:
    """What a model is calibrated with.

    ``catalog`` holds the landmarks to use, which the model has not seen, or which ``trained_on`` keeps from a held-out
    model; ``trained_on`` is None where none is needed. ``run`` is the training run, None for a bundle, of which nobody
    knows what it has seen. ``landmarks`` counts those of the dataset, ``seen`` those that training saw.
    """

    bundle: Bundle
    catalog: Catalog
    landmarks: int
    run: Run | None = None
    seen: int = 0
    trained_on: Catalog | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class CalibratedModel:
    """A model's bundle, the calibration that it carries now, and the photos that could not be used."""

    bundle: Bundle
    calibration: Calibration
    left_out: Sequence[str] = ()


def plan_calibration(source: Path, catalog: Catalog) -> CalibrationPlan:
    """Find the landmarks to calibrate a run, a bundle or a gallery's model with.

    Landmarks that a run was trained on are told by their names, or by their ids if the run did not record names.

    Raises :class:`~obelisk.errors.DataError` if there are too few, also for a held-out model.
    """
    landmarks = np.unique(catalog.references["landmark_id"].to_numpy())
    if not (source / "run.json").is_file():
        if len(landmarks) < FEWEST_UNSEEN:
            raise too_few(catalog, f"{len(landmarks)} landmarks to calibrate with", FEWEST_UNSEEN)
        return CalibrationPlan(bundle=load_model(source), catalog=catalog, landmarks=len(landmarks))
    run = Run.open(source)
    unseen = np.setdiff1d(landmarks, find_seen(run, catalog))
    seen, trained_on = len(landmarks) - len(unseen), None
    if len(unseen) < FEWEST_UNSEEN:
        if run.recipe.ensemble.runs or len(landmarks) < 2 * FEWEST_UNSEEN:
            what = f"the run has not seen {len(unseen)} of {len(landmarks)} landmarks, too few to calibrate with"
            raise too_few(catalog, what, FEWEST_UNSEEN, "that it has not seen")
        unseen = draw_unseen(landmarks)
        trained_on = keep_landmarks(catalog, np.setdiff1d(landmarks, unseen))
    return CalibrationPlan(
        bundle=run.bundle,
        catalog=keep_landmarks(catalog, unseen),
        landmarks=len(landmarks),
        run=run,
        seen=seen,
        trained_on=trained_on,
    )


def too_few(catalog: Catalog, what: str, fewest: int, kind: str = "") -> DataError:
    """Return the error for a dataset of too few landmarks."""
    wanted = " ".join(filter(None, (f"give photos of {fewest} landmarks or more", kind)))
    return DataError(what, where=catalog.root, fix=wanted)


def find_seen(run: Run, catalog: Catalog) -> Integers:
    """Return the ids of the landmarks of a catalog that a run was trained on."""
    if run.names is None:
        return np.array(run.landmarks, dtype=np.int64)
    names = {unicodedata.normalize("NFC", name) for name in run.names}
    shown = catalog.landmark_names().items()
    return np.array([own for own, name in shown if unicodedata.normalize("NFC", name) in names], dtype=np.int64)


def draw_unseen(landmarks: Integers, seed: int = 0) -> Integers:
    """Return the landmarks that a held-out model is not trained on."""
    count = max(FEWEST_UNSEEN, round(HELD_OUT_SHARE * len(landmarks)))
    return np.random.default_rng(seed).choice(landmarks, count, replace=False)


def keep_landmarks(catalog: Catalog, landmarks: Integers) -> Catalog:
    """Return a catalog with the references of some landmarks only, and with all queries."""
    inside = pl.col("landmark_id").is_in(landmarks.tolist())
    return replace(catalog, references=catalog.references.filter(inside), landmarks=catalog.landmarks.filter(inside))


def calibrate_model(
    plan: CalibrationPlan,
    *,
    queries: Catalog | None = None,
    held_out: Bundle | None = None,
    progress: Progress = no_progress,
) -> CalibratedModel:
    """Calibrate a model and attach calibration and background to its bundle.

    ``queries`` holds photos to ask, of the same names; without it, QUERY_SHARE of each landmark's photos are. The
    queries of the dataset itself are left for evaluation. ``held_out`` is the model that stands in, where the plan
    needs one. A background of the bundle's own stays if the dataset has no distractors to make a better one.

    Raises :class:`~obelisk.errors.DataError` if no landmark has photos for both the gallery and the queries, and
    :class:`~obelisk.errors.UsageError` if the answers can't be calibrated, as those of an untrained model.
    """
    judged = held_out or plan.bundle
    distractors = choose_background(plan.catalog)
    backgrounds = {bundle.fingerprint: make_background(bundle, distractors) for bundle in (plan.bundle, judged)}
    asked = ask_with(plan.catalog, queries, progress)
    photos, is_query, left_out = embed_unseen(judged, *asked, backgrounds[judged.fingerprint], progress)
    found = find_classifier(plan.bundle)
    voting = found if found.kind == "knn" else BundleClassifier()  # which answers for landmarks that a layer lacks
    made = calibrate_new_landmarks(photos, is_query, voting, sharpness=SHARPNESS)
    calibration = made.model_copy(update={"model": plan.bundle.fingerprint})
    attachments = {
        BACKGROUND: pack_background(backgrounds[plan.bundle.fingerprint].rows),
        CALIBRATION: calibration.to_json().encode(),
    }
    return CalibratedModel(bundle=attach(plan.bundle, attachments), calibration=calibration, left_out=left_out)


def make_background(bundle: Bundle, distractors: Sequence[Path]) -> Background:
    """Return the background of a bundle: its own if there are no distractors, else distractors and rendered photos."""
    own = read_background(bundle)
    return own if own and not distractors else Background(embed_background(Embedder(bundle), distractors))


def ask_with(
    catalog: Catalog, queries: Catalog | None, progress: Progress
) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """Return the photos for galleries and those to ask, as pairs of a photo and its landmark's id."""
    if queries is not None:
        references, asked = separate_queries(catalog, queries, seed=0, progress=progress)
    else:
        references, asked = hold_out_queries(catalog, share=QUERY_SHARE, seed=0, progress=progress)
    if not asked:
        fix = "give two different photos or more of each landmark, or photos to ask with --queries"
        raise DataError("no photo is left to ask", where=catalog.root, fix=fix)
    return list(zip(catalog.locate_photos(references), references["landmark_id"].to_list(), strict=True)), asked


def embed_unseen(
    bundle: Bundle,
    references: list[tuple[Path, int]],
    asked: list[tuple[Path, int]],
    background: Background,
    progress: Progress,
) -> tuple[HeldOutPhotos, Booleans, list[str]]:
    """Embed photos of landmarks that a model has not seen; say which are to be asked, and why some can't be used."""
    embedder = CachedEmbedder(bundle, progress=progress)
    found = list(refuse_directionless(embedder.embed([path for path, _ in (*references, *asked)], hashed=False)))
    usable = np.flatnonzero([photo.embedding is not None for photo in found])
    rows = np.array([found[index].embedding for index in usable], dtype=np.float32)
    unseen = np.zeros(len(usable), dtype=bool)
    photos = HeldOutPhotos(
        embeddings=l2_normalize(rows.reshape(-1, bundle.dimensions), dimensions=bundle.dimensions),
        landmarks=np.array([landmark for _, landmark in (*references, *asked)])[usable],
        trained=unseen,
        known=unseen,
        ordinary=embed_background(Embedder(bundle), [], seed=ORDINARY_SEED),
        background=background,
        count_inliers=make_inlier_counter([found[index].path for index in usable]),
    )
    return photos, usable >= len(references), [str(photo.error) for photo in found if photo.error]
