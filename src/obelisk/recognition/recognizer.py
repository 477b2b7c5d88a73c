"""Photos in, answers out: the façade over embedder, gallery and votes."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import numpy as np
from PIL.Image import Image

from obelisk.arrays import Embeddings, l2_normalize
from obelisk.embedding import Bundle, Embedder
from obelisk.errors import ObeliskError
from obelisk.gallery import Gallery, ReferencePhoto, References, refuse_directionless
from obelisk.recognition.calibration import PRECISION, Calibration, check_threshold, find_calibration
from obelisk.recognition.classifier import NeighbourClassifier, Votes
from obelisk.recognition.rerank.background import Background, read_background
from obelisk.recognition.rerank.geometry import VERIFIED, Verifier
from obelisk.recognition.tta import embed_views
from obelisk.recognition.votes import DEFAULT_VOTE
from obelisk.records import Candidate, Neighbour, Recognition

NEIGHBOURS = 3
PHOTOS_AT_ONCE = 16  # searched together: a large gallery is then read from memory once for all of them


class Recognizer:
    """Names the landmarks of a gallery in photos.

    ::

        recognizer = Recognizer.open("mycity")
        for answer in recognizer.recognize(["photo.jpg"]):
            print(answer.landmark, answer.confidence)
    """

    def __init__(
        self,
        gallery: Gallery,
        embedder: Embedder,
        *,
        background: Background | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        self.gallery = gallery
        self.background = background
        self.calibration = calibration
        self._embedder = embedder
        self._prepared: tuple[References, tuple[object, ...], NeighbourClassifier] | None = None

    @classmethod
    def open(cls, gallery: Gallery | Path | str, *, model: Bundle | None = None) -> Recognizer:
        """Open a gallery with its own model.

        ``model`` may name the model that the caller expects: one that does not make the gallery's
        embeddings is a :class:`GalleryError`, which says how to rebuild.
        """
        opened = gallery if isinstance(gallery, Gallery) else Gallery.open(gallery)
        if model:
            opened.check_model(model)
        bundle = opened.load_bundle()
        background, calibration = read_background(bundle), find_calibration(opened, bundle)
        return cls(opened, Embedder(bundle), background=background, calibration=calibration)

    def recognize(
        self,
        paths: Iterable[Path | str],
        *,
        top: int = 5,
        k: int | None = None,
        vote: str = DEFAULT_VOTE,
        exponent: float | None = None,
        threshold: float | None = None,
        precision: float = PRECISION,
        verify: bool = False,
        expand: str = "none",
        augment: bool = False,
    ) -> Iterator[Recognition]:
        """Return an iterator of one answer a photo, in input order, each as soon as it is known.

        The k nearest reference photos vote (see :mod:`obelisk.recognition.votes`): three, or all of a smaller
        gallery, where ``k`` is not given. ``top`` landmarks are listed. An answer whose confidence is below
        ``threshold`` is rejected: it names no landmark. Without a threshold, it is the one that gives answers of this
        ``precision`` (see :meth:`threshold`); the default vote alone is calibrated, others reject nothing by
        themselves. A photo that cannot be used is answered by its error.
        ``verify`` adds what the geometry of the nearest reference photos says, where their files are at hand (see
        :mod:`obelisk.recognition.rerank.geometry`). ``expand`` lets the query or the references lean on their
        neighbours (see :mod:`obelisk.recognition.rerank.query_expansion`), ``augment`` adds views of the photo (see
        :mod:`obelisk.recognition.tta`). Unusable values raise :class:`UsageError` at once.
        """
        check_threshold(threshold)
        if threshold is None:
            threshold = self.threshold(precision, vote=vote)
        references = self.gallery.references()
        k = min(NEIGHBOURS, len(references)) if k is None else k
        classifier = self._prepare(references, vote=vote, exponent=exponent, expand=expand)
        classifier.check(k=k, top=top)
        listed = [paths] if isinstance(paths, str | Path) else paths
        verifier = Verifier(references) if verify else None

        def classify(queries: Embeddings, photos: Sequence[Path]) -> Votes:
            votes = classifier.classify(queries, k=k, top=max(top, VERIFIED) if verifier else top)
            if verifier:
                votes = verifier.verify(votes, queries, photos, top=top)
            if self.calibration and vote == DEFAULT_VOTE:
                confidence = self.calibration.confidence(votes.scores[:, 0], len(references))
                votes = replace(votes, confidence=confidence)
            return votes

        return self._answer(listed, references, classify, threshold, augment=augment)

    def _prepare(
        self, references: References, *, vote: str, exponent: float | None, expand: str
    ) -> NeighbourClassifier:
        """Return the classifier of these references, the last one again where it will do: it keeps what it computed."""
        options = (vote, exponent, expand)
        kept = self._prepared
        if kept and kept[0] is references and kept[1] == options:
            return kept[2]
        classifier = NeighbourClassifier(
            references,
            references.landmark_ids,
            vote=vote,
            exponent=exponent,
            background=self.background,
            expand=expand,
        )
        self._prepared = references, options, classifier
        return classifier

    def threshold(self, precision: float = PRECISION, *, vote: str = DEFAULT_VOTE) -> float | None:
        """Return the confidence that gives answers of this precision, a share of them that is right.

        None where neither the gallery nor its model was calibrated, or another vote was: then nothing is rejected.
        Raises UsageError for a precision outside (0, 1).
        """
        return self.calibration.threshold(precision) if self.calibration and vote == DEFAULT_VOTE else None

    def explain(self, answer: Recognition) -> Image:
        """Draw what an answer of this recognizer rests on.

        The photo is shown beside its nearest reference photos; where the model gives feature maps, also which regions
        of it matched which of the best reference. The photo must still lie where ``answer.photo`` says; what is
        known of references whose files are not at hand is drawn without them. Raises :class:`PhotoError`.
        """
        from obelisk.recognition.explain import explain_answer

        return explain_answer(answer, self.gallery, self._embedder)

    def _answer(
        self,
        paths: Iterable[Path | str],
        references: References,
        classify: Callable[[Embeddings, Sequence[Path]], Votes],
        threshold: float | None,
        *,
        augment: bool,
    ) -> Iterator[Recognition]:
        names: deque[str] = deque()

        def note_names() -> Iterator[Path]:
            """Keep the names as they were given, for the answers: a Path would tidy them."""
            for path in paths:
                names.append(os.fspath(path))
                yield Path(path)

        noted = note_names()
        embedded = embed_views(self._embedder, noted) if augment else self._embedder.embed(noted, hashed=False)
        stream = refuse_directionless(embedded)
        while batch := list(islice(stream, PHOTOS_AT_ONCE)):
            usable = [photo for photo in batch if photo.embedding is not None]
            rows = np.array([photo.embedding for photo in usable], dtype=np.float32).reshape(
                -1, self.gallery.dimensions
            )
            queries = l2_normalize(rows, dimensions=self.gallery.dimensions)
            votes = classify(queries, [photo.path for photo in usable])
            shown = references.photos(votes.neighbours.ravel())
            k = votes.neighbours.shape[1]
            query = count()
            for photo in batch:
                name = names.popleft()
                if photo.error:
                    yield Recognition.failed(name, str(photo.error))
                else:
                    place = next(query)
                    near = shown[k * place : k * (place + 1)]
                    yield compose_answer(name, votes, place, near, references, threshold)


def check_recognition(path: Path | str) -> list[str]:
    """Return what recognition refuses of a gallery whose tables and model are sound; an empty list if nothing."""
    try:
        Recognizer.open(path)
    except ObeliskError as error:
        return [str(error)]
    return []


def compose_answer(
    photo: str,
    votes: Votes,
    query: int,
    near: Sequence[ReferencePhoto],
    references: References,
    threshold: float | None,
) -> Recognition:
    """Put the votes for one query into words: names instead of numbers, and the rejection below a threshold.

    ``near`` are the reference photos of its neighbours.
    """
    landmarks = references.landmarks
    candidates = tuple(
        Candidate(landmark=landmarks[landmark_id].name, landmark_id=landmark_id, score=score)
        for landmark_id, score in zip(votes.candidates[query].tolist(), votes.scores[query].tolist(), strict=True)
    )
    neighbours = tuple(
        Neighbour(
            id=reference.id,
            landmark=landmarks[int(references.landmark_ids[place])].name,
            landmark_id=int(references.landmark_ids[place]),
            similarity=similarity,
        )
        for place, reference, similarity in zip(
            votes.neighbours[query], near, votes.similarities[query].tolist(), strict=True
        )
    )
    confidence = float(votes.confidence[query])
    rejected = threshold is not None and confidence < threshold
    return Recognition(
        photo=photo,
        landmark=None if rejected else candidates[0].landmark,
        landmark_id=None if rejected else candidates[0].landmark_id,
        confidence=confidence,
        candidates=candidates,
        neighbours=neighbours,
    )
