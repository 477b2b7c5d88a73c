"""The records that cross rooms, and their JSON.

The answer for a photo is a :class:`Recognition`: ranked :class:`Candidate` landmarks, the :class:`Neighbor` reference
photos that they rest on, and a confidence.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
    ================  ===================================================================

    Example::

        for neighbor in answer.neighbours:
            print(neighbor.id, neighbor.landmark, neighbor.similarity)
    """

    id: str
    landmark: str
    landmark_id: int
    similarity: float

    @property
    def distance(self) -> float:
        """L2 distance of the two unit-norm embeddings, in [0, 2]: d = √(2 − 2·similarity)."""
        return math.sqrt(max(0.0, 2.0 - 2.0 * self.similarity))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A landmark that the photo may show.

    ================  ==============================================================
    ``landmark``      its name
    ``landmark_id``   its id in the gallery
    ``score``         the score of the vote for it, in [0, 1]; higher is better
    ================  ==============================================================

    Example::

        for candidate in answer.candidates:
            print(candidate.landmark, candidate.score)
    """

    landmark: str
    landmark_id: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """The answer for one photo.

    ================  ==========================================================================================
    ``photo``         the path, as it was given
    ``landmark``      the name of the landmark; None if the photo is rejected or could not be read
    ``landmark_id``   its id; None as above
    ``confidence``    confidence that the first candidate is right, in [0, 1]; given for rejected photos, too
    ``candidates``    the ranked landmarks, best first; empty if the photo could not be read
    ``neighbours``    the nearest reference photos, nearest first
    ``warning``       what is missing of a photo that was answered although it was cut off, else None
    ``error``         why the photo could not be read, else None
    ================  ==========================================================================================

    With a calibrated model, the confidence is the probability that the first candidate is right; otherwise it is the
    score of the first candidate.

    Example::

        (answer,) = recognizer.recognize(["photo.jpg"])
        if answer.error:
            print("skipped:", answer.error)
        elif answer.landmark is None:
            print("not a landmark I know; the best guess is", answer.candidates[0].landmark)
        else:
            print(answer.landmark, answer.confidence)
    """

    photo: str
    landmark: str | None
    landmark_id: int | None
    confidence: float
    candidates: tuple[Candidate, ...] = ()
    neighbours: tuple[Neighbor, ...] = ()
    warning: str | None = None
    error: str | None = None

    @classmethod
    def failed(cls, photo: str, error: str) -> Recognition:
        """Return the answer for a photo that could not be read, for the reason ``error``."""
        return cls(photo=photo, landmark=None, landmark_id=None, confidence=0.0, error=error)

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk recognize --json`` prints it."""
        fields = dataclasses.asdict(self)
        fields["neighbours"] = [
            {**dataclasses.asdict(neighbor), "distance": neighbor.distance} for neighbor in self.neighbours
        ]
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Recognition:
        """Read back a line that :meth:`to_json` wrote.

        Raises KeyError or TypeError if keys are missing, TypeError for unknown ones, and ValueError if the line isn't
        JSON.
        """
        fields: dict[str, Any] = json.loads(line)
        neighbors = [{key: value for key, value in n.items() if key != "distance"} for n in fields.pop("neighbours")]
        return cls(
            candidates=tuple(Candidate(**candidate) for candidate in fields.pop("candidates")),
            neighbours=tuple(Neighbor(**neighbor) for neighbor in neighbors),
            **fields,
        )
