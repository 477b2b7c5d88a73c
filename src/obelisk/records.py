"""The records that cross rooms, and their JSON.

The answer for a photo is a :class:`Recognition`: ranked :class:`Candidate` landmarks, the :class:`Neighbor` reference
photos that they rest on, and a confidence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["sure", "probable", "unknown"]
"""What an answer claims:

============  ======================================================================================================
``sure``      it names the landmark: its confidence reaches the threshold, or there is no threshold to reach
``probable``  it names none, but the first candidate is more likely right than wrong
``unknown``   it names none: the photo seems to show no landmark of the gallery, or can't be read
============  ======================================================================================================

Without a threshold nothing is rejected: every answer is ``sure``, however low its confidence.
"""

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` during a long operation."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing; the default :data:`Progress`."""


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A reference photo near the query.

    ================  ===================================================================
    ``id``            the id of the reference photo in its gallery
    ``landmark``      the name of its landmark
    ``landmark_id``   the id of its landmark
    ``similarity``    cosine of the two embeddings, in [-1, 1]; higher is better
    ``distance``      L2 distance of the same unit-norm embeddings, in [0, 2]
    ``source``        the web page or address it was published at, or the path of its file; None if unknown
    ``gallery``       its gallery: ``bundled``, or the path of the folder
    ``author``        who made it, if its gallery knows
    ``licence``       under which terms it was published, if its gallery knows
    ================  ===================================================================

    Example::

        for neighbor in answer.neighbours:
            print(neighbor.id, neighbor.landmark, neighbor.similarity)
    """

    id: str
    landmark: str
    landmark_id: int
    similarity: float
    source: str | None = None
    gallery: str | None = None
    author: str | None = None
    licence: str | None = None

    @property
    def distance(self) -> float:
        """L2 distance of the two unit-norm embeddings, in [0, 2]: d = √(2 − 2·similarity)."""
        return math.sqrt(max(0.0, 2.0 - 2.0 * self.similarity))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, the distance among them; author and licence only where they are known."""
        credit = {"author": self.author, "licence": self.licence}
        return {
            "id": self.id,
            "landmark": self.landmark,
            "landmark_id": self.landmark_id,
            "similarity": self.similarity,
            "distance": self.distance,
            "source": self.source,
            "gallery": self.gallery,
            **{key: value for key, value in credit.items() if value is not None},
        }


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A landmark that the photo may show.

    ================  ==============================================================
    ``landmark``      its name
    ``landmark_id``   its id in the gallery
    ``score``         the score of the vote for it, in [0, 1]; higher is better
    ``latitude``      degrees, north positive; None if unknown
    ``longitude``     degrees, east positive; None if unknown
    ``gallery``       its gallery: ``bundled``, or the path of the folder
    ================  ==============================================================

    Example::

        for candidate in answer.candidates:
            print(candidate.landmark, candidate.score)
    """

    landmark: str
    landmark_id: int
    score: float
    latitude: float | None = None
    longitude: float | None = None
    gallery: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """The answer for one photo.

    ===================  ============================================================================================
    ``photo``            the path, as it was given; of a photo without one the name of its file, else ``photo 3``
    ``landmark``         the name of the landmark; None if the photo is rejected or could not be read
    ``landmark_id``      its id; None as above
    ``verdict``          ``sure``, ``probable`` or ``unknown`` (:data:`Verdict`); ``landmark`` is None unless ``sure``
    ``confidence``       confidence that the first candidate is right, in [0, 1]; given for rejected photos, too
    ``latitude``         of the first candidate, in degrees, north positive; None if unknown
    ``longitude``        of the first candidate, in degrees, east positive; None if unknown
    ``links``            web addresses about the first candidate
    ``candidates``       the ranked landmarks, best first; empty if the photo could not be read
    ``neighbours``       the nearest reference photos, nearest first
    ``threshold``        the confidence from which a landmark is named; None if nothing is rejected
    ``model``            the model: its name, ``@`` and the first twelve digits of its fingerprint
    ``distance_km``      kilometers between camera and first candidate, if that was evidence, else None
    ``position_helped``  whether that distance speaks for the first candidate; None as above
    ``warning``          what is missing of a photo that was answered although it was cut off, else None
    ``error``            why the photo could not be read, else None
    ===================  ============================================================================================

    With a calibrated model, the confidence is the probability that the first candidate is right; otherwise it is the
    score of the first candidate.

    Example::

        (answer,) = recognizer.recognize(["photo.jpg"])
        if answer.error:
            print("skipped:", answer.error)
        elif answer.verdict == "sure":
            print(answer.landmark, answer.confidence)
        elif answer.verdict == "probable":
            print("probably", answer.candidates[0].landmark)
        else:
            print("not a landmark I know; the best guess is", answer.candidates[0].landmark)
    """

    photo: str
    landmark: str | None
    landmark_id: int | None
    verdict: Verdict
    confidence: float
    latitude: float | None = None
    longitude: float | None = None
    links: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    neighbours: tuple[Neighbor, ...] = ()
    threshold: float | None = None
    model: str | None = None
    distance_km: float | None = None
    position_helped: bool | None = None
    warning: str | None = None
    error: str | None = None

    @property
    def is_calibrated(self) -> bool:
        """Whether the confidence is a probability, and not the score of the first candidate."""
        return not self.candidates or self.confidence != self.candidates[0].score

    @classmethod
    def failed(cls, photo: str, error: str, *, threshold: float | None = None, model: str | None = None) -> Recognition:
        """Return the answer for a photo that could not be read, for the reason ``error``."""
        return cls(
            photo=photo,
            landmark=None,
            landmark_id=None,
            verdict="unknown",
            confidence=0.0,
            threshold=threshold,
            model=model,
            error=error,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as plain dicts, lists, texts and numbers, with the keys of its JSON."""
        return {
            **vars(self),
            "links": list(self.links),
            "candidates": [dict(vars(candidate)) for candidate in self.candidates],
            "neighbours": [neighbor.to_dict() for neighbor in self.neighbours],
        }

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk recognize --json`` prints it."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def _repr_html_(self) -> str:
        from obelisk.answer_card import draw_answer

        return draw_answer(self)

    @classmethod
    def from_json(cls, line: str) -> Recognition:
        """Read back a line that :meth:`to_json` wrote, in this version or an earlier one.

        What earlier versions did not write is None or empty; their verdict is ``sure`` if they named a landmark, else
        ``unknown``. Raises KeyError or TypeError if other keys are missing, TypeError for unknown ones, and ValueError
        if the line isn't JSON.
        """
        fields: dict[str, Any] = json.loads(line)
        fields.setdefault("verdict", "unknown" if fields["landmark"] is None else "sure")
        neighbors = [{key: value for key, value in n.items() if key != "distance"} for n in fields.pop("neighbours")]
        return cls(
            links=tuple(fields.pop("links", ())),
            candidates=tuple(Candidate(**candidate) for candidate in fields.pop("candidates")),
            neighbours=tuple(Neighbor(**neighbor) for neighbor in neighbors),
            **fields,
        )
