"""The bias of a judge: a model trained on the same labels may have learned their errors."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from obelisk.bundled import is_bundled
from obelisk.config import load_recorded_recipe
from obelisk.data import Catalog
from obelisk.embedding import parse_json
from obelisk.files import read_limited
from obelisk.gallery import Gallery

LARGEST_FACTS = 2**26  # bytes


class TrainedOn(BaseModel):
    """What is needed of ``run.json``, which says more."""

    landmarks: list[int]


def count_learned_landmarks(model: Path, catalog: Catalog) -> int:
    """Return how many landmarks of a catalog a model was trained on: the bundled gallery's, a bundle or a run."""
    landmarks = catalog.landmark_names()
    if is_bundled(model):
        known = {(landmark.id, landmark.name) for landmark in Gallery.open(model).landmarks}
        return len(known & set(landmarks.items()))
    return len(landmarks.keys() & trained_landmarks(model))


def trained_landmarks(run: Path) -> set[int]:
    """Return the landmarks whose labels a run was trained on; empty for a bundle or an untrained run."""
    facts = run / "run.json"
    if not facts.is_file() or load_recorded_recipe(run).loss.kind == "none":
        return set()
    content = read_limited(facts, LARGEST_FACTS)
    return set(parse_json(content, TypeAdapter(TrainedOn), where=facts, what="run", fix="copy it again").landmarks)
