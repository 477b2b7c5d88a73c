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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from obelisk.config import Recipe, load_recorded_recipe
from obelisk.data import Catalog
from obelisk.embedding import (
    Bundle,
    BundleClassifier,
    LandmarkId,
    hash_or_error,
    load_json,
    parse_json,
    read_layer,
    validate_json,
)
from obelisk.errors import ModelError
from obelisk.files import read_limited
from obelisk.photos import map_in_order

LARGEST = 2**26  # bytes of a file; one line of a log has 300
DAMAGED = "copy the run again, or train again"


class RunFacts(BaseModel):
    """What evaluation needs of ``run.json``, which says more."""

    model_config = ConfigDict(allow_inf_nan=False)

    recipe: str
    data: str
    landmarks: tuple[LandmarkId, ...] = Field(fail_fast=True)
    backbones: tuple[str, ...] = Field(fail_fast=True)
    best_epochs: tuple[int, ...] = Field(fail_fast=True)
    skipped: dict[str, str]
    names: tuple[str, ...] | None = None  # runs of earlier versions do not have them


class LogLine(BaseModel):
    """One line of ``log.jsonl``: of a head, counted from 1, after one epoch."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    member: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run on disk.

    ``names`` are those of the landmarks it was trained on; None if an earlier version trained it.
    """

    folder: Path
    recipe: Recipe
    landmarks: tuple[int, ...]
    backbones: tuple[str, ...]
    best_epochs: tuple[int, ...]
    skipped: dict[str, str]
    names: tuple[str, ...] | None = None

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
            names=None if facts.get("names") is None else tuple(facts["names"]),
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
    facts = load_json(read_limited(path, LARGEST), where=path, what="run", fix=DAMAGED)
    validate_json(facts, TypeAdapter(RunFacts), where=path, what="run", fix=DAMAGED)
    return cast("dict[str, Any]", facts)


def read_log(folder: Path) -> list[Mapping[str, float | None]]:
    """Read a run's log; of an ensemble, the mean of its necks for every epoch that all of them reached.

    Raises ModelError for a damaged one.
    """
    log = folder / "log.jsonl"
    if not log.is_file():
        return []
    fix = "delete it: only the curves of a comparison are drawn from it"
    lines = b"[" + b",".join(read_limited(log, LARGEST).splitlines()) + b"]"
    found = parse_json(lines, TypeAdapter(list[LogLine]), where=log, what="log", fix=fix)
    epochs: dict[int, list[dict[str, float | None]]] = {}
    for line in found:
        epochs.setdefault(line.epoch, []).append(line.model_dump())
    members = {line.member for line in found}
    return [
        {key: mean_or_none(row.get(key) for row in same) for key in same[0]}
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
