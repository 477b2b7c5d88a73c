"""A finished training run, read without torch: what evaluation needs of it.

::

    RUN/recipe.toml    the resolved recipe
    RUN/run.json       landmarks, best epochs, what was left out; written last: with it, the run is whole
    RUN/log.jsonl      one line per epoch
    RUN/model/         the bundle: photos → embeddings, and how these become answers

Training writes these files (see :mod:`obelisk.training.run`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from obelisk.config import Recipe, load_recorded_recipe
from obelisk.data import Catalog
from obelisk.embedding import Bundle, BundleClassifier, hash_or_error, read_layer
from obelisk.errors import ModelError
from obelisk.photos import map_in_order

FACTS = ("recipe", "data", "landmarks", "backbones", "best_epochs", "skipped")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run on disk."""

    folder: Path
    recipe: Recipe
    landmarks: tuple[int, ...]
    backbones: tuple[str, ...]
    best_epochs: tuple[int, ...]
    skipped: dict[str, str]

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Read a finished run; raises ModelError when there is none in the folder, or it is not whole."""
        facts = read_facts(folder)
        return cls(
            folder=folder,
            recipe=load_recorded_recipe(folder),
            landmarks=tuple(facts["landmarks"]),
            backbones=tuple(facts["backbones"]),
            best_epochs=tuple(facts["best_epochs"]),
            skipped=facts["skipped"],
        )

    @property
    def bundle(self) -> Bundle:
        """The exported model."""
        return Bundle.load(self.folder / "model")

    def read_as(self, recipe: Recipe) -> Run:
        """Return the run as another recipe reads it, which must differ in name and classifier only."""
        return replace(self, recipe=recipe)

    def find_classifier(self) -> BundleClassifier:
        """Return what decides for this run's embeddings: what its recipe says, as its bundle repeats it.

        Raises ModelError for a run that classifies by a softmax layer which its bundle lacks, as runs of earlier
        versions do.
        """
        section, bundle = self.recipe.classifier, self.bundle
        if section.kind == "softmax" and read_layer(bundle) is None:
            what = "the run's bundle lacks the softmax layer: an earlier version exported it"
            fix = f"obelisk export {self.folder} --out BUNDLE, then name BUNDLE in place of the run"
            raise ModelError(what, where=bundle.folder, fix=fix)
        return BundleClassifier(kind=section.kind, k=section.k, vote=section.vote)


def read_facts(folder: Path) -> dict[str, Any]:
    """Read ``run.json``; raises ModelError when it is missing or not whole."""
    path = folder / "run.json"
    if not path.is_file():
        raise ModelError("not a finished run: `run.json` is missing", where=folder, fix="obelisk train … --out RUN")
    try:
        facts: dict[str, Any] = json.loads(path.read_bytes())
        missing = [name for name in FACTS if name not in facts]
    except (ValueError, TypeError):
        missing = ["everything"]
    if missing:
        fix = "delete the folder and train again"
        raise ModelError(f"a damaged run: `{missing[0]}` cannot be read", where=path, fix=fix)
    return facts


def read_log(folder: Path) -> list[Mapping[str, float | None]]:
    """Read a run's log; of an ensemble, the mean of its necks for every epoch that all of them reached.

    Raises ModelError for a damaged one.
    """
    log = folder / "log.jsonl"
    epochs: dict[int, list[dict[str, float | None]]] = {}
    try:
        rows = [json.loads(line) for line in log.read_bytes().splitlines()] if log.is_file() else []
        members = {row["member"] for row in rows}
        for row in rows:
            epochs.setdefault(row["epoch"], []).append(row)
    except (ValueError, TypeError, KeyError):
        fix = "delete it: only the curves of a comparison are drawn from it"
        raise ModelError("a damaged log", where=log, fix=fix) from None
    return [
        {key: mean_or_none(row[key] for row in same) for key in same[0]}
        for same in epochs.values()
        if len(same) == len(members)
    ]


def mean_or_none(values: Iterable[float | None]) -> float | None:
    """Return the mean, None where a value is."""
    listed = list(values)
    known = [value for value in listed if value is not None]
    return sum(known) / len(known) if len(known) == len(listed) else None


def fingerprint_of_data(catalog: Catalog) -> str:
    """Return a hash of which photos show which landmarks, of their split, and of their contents."""
    digest = hashlib.blake2b(digest_size=8)
    for photos, columns in ((catalog.references, ["landmark_id", "split"]), (catalog.queries, ["landmark_ids"])):
        photos = photos.sort("image_id")
        contents = map_in_order(hash_or_error, catalog.locate_photos(photos))
        for row, content in zip(photos.select("image_id", *columns).iter_rows(), contents, strict=True):
            said = content if isinstance(content, str) else type(content).__name__
            digest.update(f"{row} {said}\n".encode())
    return digest.hexdigest()
