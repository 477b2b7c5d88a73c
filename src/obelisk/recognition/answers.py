"""From a ranking to answers: names instead of numbers, a verdict, and what the gallery knows about a landmark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from obelisk.defaults import PROBABLE
from obelisk.gallery import ReferencePhoto, References
from obelisk.recognition.nearness import Nearness
from obelisk.recognition.ranking import Ranking
from obelisk.records import Candidate, Neighbor, Recognition, Verdict

COMMONS_FILE = re.compile(r"https?://upload\.wikimedia\.org/wikipedia/commons/(?:thumb/)?\w/\w\w/([^/?#]+)")
DIGITS = 12  # of a fingerprint


@dataclass(frozen=True, kw_only=True)
class AnswerRules:
    """What holds for all answers of a call: the name of the model, and the bounds of the verdicts.

    If nothing is calibrated, a confidence is not a probability, and no answer is called probable.
    """

    model: str
    threshold: float | None
    verified_threshold: float | None
    calibrated: bool

    def find_threshold(self, ranking: Ranking, query: int) -> float | None:
        """Return the threshold for the answer to one query of a ranking."""
        verified = ranking.verified is not None and ranking.verified[query]
        return self.verified_threshold if verified else self.threshold

    def decide(self, confidence: float, threshold: float | None) -> Verdict:
        """Return the verdict for a confidence."""
        if threshold is None or confidence >= threshold:
            return "sure"
        return "probable" if self.calibrated and confidence >= PROBABLE else "unknown"


def name_model(name: str, fingerprint: str) -> str:
    """Return a model's name and the beginning of its fingerprint, as answers carry them."""
    return f"{name}@{fingerprint[:DIGITS]}"


def compose_answers(
    photos: Sequence[str],
    ranking: Ranking,
    references: References,
    rules: AnswerRules,
    nearness: Nearness | None = None,
) -> list[Recognition]:
    """Return the answers for Q photos; with ``nearness``, also how far from their first candidates they were taken."""
    k = ranking.neighbors.shape[1]
    near = references.photos(ranking.neighbors.ravel())
    shown = references.labels.of(ranking.neighbors).tolist()
    answers = [
        compose_answer(photo, ranking, query, near[k * query : k * (query + 1)], shown[query], references, rules)
        for query, photo in enumerate(photos)
    ]
    if nearness is None:
        return answers
    facts = nearness.describe(ranking.candidates[:, 0])
    return [replace(answer, **said) for answer, said in zip(answers, facts, strict=True)]


def compose_answer(
    photo: str,
    ranking: Ranking,
    query: int,
    near: Sequence[ReferencePhoto],
    shown: Sequence[int],
    references: References,
    rules: AnswerRules,
) -> Recognition:
    """Return the answer for one query of a ranking; ``near`` are its k neighbors, ``shown`` their landmarks."""
    keys = ranking.candidates[query].tolist()
    landmarks = [references.landmarks[key] for key in keys]
    confidence = float(ranking.confidence[query])
    threshold = rules.find_threshold(ranking, query)
    verdict = rules.decide(confidence, threshold)
    first = landmarks[0]
    return Recognition(
        photo=photo,
        landmark=first.name if verdict == "sure" else None,
        landmark_id=first.id if verdict == "sure" else None,
        verdict=verdict,
        confidence=confidence,
        latitude=first.latitude,
        longitude=first.longitude,
        links=first.links,
        candidates=tuple(
            Candidate(
                landmark=landmark.name,
                landmark_id=landmark.id,
                score=score,
                latitude=landmark.latitude,
                longitude=landmark.longitude,
                gallery=references.gallery_of(key),
            )
            for key, landmark, score in zip(keys, landmarks, ranking.scores[query].tolist(), strict=True)
        ),
        neighbours=compose_neighbors(ranking.similarities[query].tolist(), near, shown, references),
        threshold=threshold,
        model=rules.model,
    )


def compose_neighbors(
    similarities: Sequence[float], near: Sequence[ReferencePhoto], shown: Sequence[int], references: References
) -> tuple[Neighbor, ...]:
    """Return the neighbors of one query."""
    return tuple(
        Neighbor(
            id=photo.id,
            landmark=references.landmarks[key].name,
            landmark_id=references.landmarks[key].id,
            similarity=similarity,
            source=find_page(photo),
            gallery=references.gallery_of(key),
            author=photo.author or None,
            licence=photo.licence or None,
        )
        for photo, key, similarity in zip(near, shown, similarities, strict=True)
    )


def find_page(photo: ReferencePhoto) -> str | None:
    """Return where people find a reference photo: the page or address it was published at, or its file; else None.

    A file of Wikimedia Commons has a page, with its author and license.
    """
    found = COMMONS_FILE.match(photo.source)
    if found:
        return f"https://commons.wikimedia.org/wiki/File:{found[1]}"
    return photo.source or (None if photo.file is None else str(photo.file))
