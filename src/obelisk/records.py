"""The records that cross rooms, and their JSON.

A query photo is answered by a :class:`Recognition`: ranked :class:`Candidate` landmarks, the
:class:`Neighbor` reference photos they rest on, and a confidence. Similarity is the cosine of unit
embeddings, higher is better; distance is the L2 distance of the same rows, ``d = √(2 − 2·s)``.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` while something long goes on."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing: the :data:`Progress` of callers who do not watch."""


@dataclass(frozen=True, kw_only=True)
class Neighbor:
    """A reference photo near the query, with its cosine similarity in [-1, 1]."""

    id: str
    landmark: str
    landmark_id: int
    similarity: float

    @property
    def distance(self) -> float:
        """L2 distance between the two unit embeddings, in [0, 2]."""
        return math.sqrt(max(0.0, 2.0 - 2.0 * self.similarity))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A landmark that the photo may show, with the score of the vote (higher is better)."""

    landmark: str
    landmark_id: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """The answer for one photo.

    ``landmark`` is None when the photo is rejected or could not be read; ``confidence``, in [0, 1],
    is that of the first candidate and is given all the same. ``candidates`` are ranked, best first.
    """

    photo: str
    landmark: str | None
    landmark_id: int | None
    confidence: float
    candidates: tuple[Candidate, ...] = ()
    neighbours: tuple[Neighbor, ...] = ()
    error: str | None = None

    @classmethod
    def failed(cls, photo: str, error: str) -> Recognition:
        """Return the answer for a photo that could not be used."""
        return cls(photo=photo, landmark=None, landmark_id=None, confidence=0.0, error=error)

    def to_json(self) -> str:
        """Return one line of JSON, as ``obelisk recognize --json`` prints it."""
        fields = dataclasses.asdict(self)
        fields["neighbours"] = [
            {**dataclasses.asdict(neighbour), "distance": neighbour.distance} for neighbour in self.neighbours
        ]
        return json.dumps(fields, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> Recognition:
        """Read back a line that :meth:`to_json` wrote."""
        fields: dict[str, Any] = json.loads(line)
        neighbours = [{key: value for key, value in n.items() if key != "distance"} for n in fields.pop("neighbours")]
        return cls(
            candidates=tuple(Candidate(**candidate) for candidate in fields.pop("candidates")),
            neighbours=tuple(Neighbor(**neighbour) for neighbour in neighbours),
            **fields,
        )
