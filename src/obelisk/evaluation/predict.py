"""The first stage of an evaluation: a recognizer answers the queries of a catalog, as it answers anyone's photos."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from obelisk.arrays import Embeddings, l2_normalize
from obelisk.data import Catalog
from obelisk.defaults import TOP
from obelisk.embedding import BundleClassifier, CachedEmbedder, read_layer
from obelisk.errors import PhotoError
from obelisk.evaluation.predictions import Predictions, collect_predictions
from obelisk.evaluation.retrieval import PLAIN, Retrieval
from obelisk.gallery import Gallery, build_gallery, refuse_directionless
from obelisk.gallery.build_gallery import landmarks_of
from obelisk.gallery.landmarks import match_landmarks
from obelisk.recognition import Recognizer, calibrate_gallery
from obelisk.records import Progress, no_progress

RETRIEVED = 100  # neighbors kept of each query, for mAP@100


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogGallery:
    """A gallery beside the catalog that it is evaluated with.

    ``landmark_ids`` maps the gallery's landmarks to the catalog's; one that the catalog lacks gets a negative id.
    ``merged`` maps those landmarks of the catalog that are one in the gallery to the one that stands for them.
    ``judged`` is the catalog whose references are the photos of the gallery. ``failed`` holds the errors of reference
    photos that could not be used.
    """

    gallery: Gallery
    landmark_ids: Mapping[int, int]
    judged: Catalog
    failed: tuple[PhotoError, ...] = ()
    merged: Mapping[int, int] = field(default_factory=dict)


@contextmanager
def build_for_evaluation(catalog: Catalog, embedder: CachedEmbedder) -> Iterator[CatalogGallery]:
    """Build a gallery of the catalog's references, as ``obelisk gallery build`` does, for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="obelisk-") as folder:
        report = build_gallery(Path(folder) / "gallery", catalog, embedder.bundle, embedder=embedder)
        gallery = report.gallery
        calibrate_gallery(gallery)
        own = {landmark.id: landmark.id for landmark in gallery.landmarks}
        yield CatalogGallery(gallery=gallery, landmark_ids=own, judged=catalog, failed=report.failed)


def match_gallery(gallery: Gallery, catalog: Catalog) -> CatalogGallery:
    """Say which landmarks of a gallery are which of a catalog: by id and name, or by name, as a build matches them."""
    names = {landmark.id: landmark for landmark in gallery.landmarks}
    kept = match_landmarks(landmarks_of(catalog), names)
    landmark_ids = {landmark.id: own for own, landmark in sorted(kept.items(), reverse=True) if landmark.id in names}
    merged = {own: landmark_ids[one.id] for own, one in kept.items() if landmark_ids.get(one.id, own) != own}
    landmark_ids = {landmark_id: landmark_ids.get(landmark_id, -2 - landmark_id) for landmark_id in names}
    photos = gallery.photos
    references = pl.DataFrame(
        {
            "image_id": [photo.id for photo in photos],
            "path": [""] * len(photos),
            "landmark_id": [landmark_ids[photo.landmark_id or 0] for photo in photos],
            "split": ["train"] * len(photos),
        },
        schema=catalog.references.schema,
    ).sort("image_id")
    judged = Catalog(root=catalog.root, references=references, queries=catalog.queries, landmarks=catalog.landmarks)
    return CatalogGallery(gallery=gallery, landmark_ids=landmark_ids, judged=judged, merged=merged)


def open_recognizer(
    gallery: Gallery, classifier: BundleClassifier, embedder: CachedEmbedder, progress: Progress = no_progress
) -> Recognizer:
    """Open the recognizer of a gallery, with an embedder that keeps what it computes.

    Where a softmax layer decides, an embedder that also gives its logits takes the place of ``embedder``.
    """
    layer = read_layer(embedder.bundle) if classifier.kind == "softmax" else None
    if layer is not None:
        embedder = CachedEmbedder(embedder.bundle, logits=len(layer.landmarks), progress=progress)
    return Recognizer.open(gallery, classifier=classifier, embedder=embedder)


def predict_queries(
    recognizer: Recognizer, catalog: Catalog, matched: CatalogGallery, made_by: str = "", how: Retrieval = PLAIN
) -> tuple[Predictions, list[str]]:
    """Answer the queries of a catalog with a recognizer, and add the 100 nearest reference photos of each.

    Candidates, scores and confidence are exactly those of :meth:`Recognizer.recognize` with the options that ``how``
    names; the 100 nearest photos are those of the plain embeddings. The second value holds the errors of the queries
    that could not be used.
    """
    paths = catalog.locate_photos(catalog.queries)
    answers = list(recognizer.recognize(paths, top=TOP, expand=how.expand, verify=how.verify))
    neighbors, similarities = retrieve_photos(recognizer, paths)
    predictions = collect_predictions(
        query_ids=catalog.queries["image_id"].to_list(),
        truths=catalog.queries["landmark_ids"].to_list(),
        candidates=[[matched.landmark_ids[one.landmark_id] for one in answer.candidates] for answer in answers],
        scores=[[one.score for one in answer.candidates] for answer in answers],
        confidence=[answer.confidence for answer in answers],
        neighbors=neighbors,
        similarities=similarities,
        made_by=made_by,
    )
    return predictions, [answer.error for answer in answers if answer.error]


def retrieve_photos(recognizer: Recognizer, paths: list[Path]) -> tuple[list[list[str]], list[list[float]]]:
    """Return the ids of the 100 reference photos nearest to each photo, with their similarities; none for a bad one."""
    references = recognizer.gallery.references()
    photos = list(refuse_directionless(recognizer.embedder.embed(paths, hashed=False)))
    usable = [index for index, photo in enumerate(photos) if photo.embedding is not None]
    rows = np.array([photos[index].embedding for index in usable], dtype=np.float32)
    dimensions = recognizer.gallery.dimensions
    queries: Embeddings = l2_normalize(rows.reshape(-1, dimensions), dimensions=dimensions)
    nearest, similarities = references.nearest(queries, min(RETRIEVED, len(references)))
    met = np.unique(nearest)
    names = np.array([photo.id for photo in references.photos(met)], dtype=np.str_)
    found: list[list[str]] = [[] for _ in paths]
    near: list[list[float]] = [[] for _ in paths]
    for index, indices, cosines in zip(usable, nearest, similarities, strict=True):
        found[index] = names[np.searchsorted(met, indices)].tolist()
        near[index] = cosines.tolist()
    return found, near
