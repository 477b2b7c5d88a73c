"""How a model's outputs become answers: two attachments of its bundle.

``classifier.json`` holds the recipe's section ``classifier``: a vote of the k nearest reference photos, or a softmax
layer. ``layer.json`` lists the landmarks of that layer, in the order of the network's output ``logits``, with the names
that they had in the training data: ids alone do not identify landmarks, as those of folders are counted anew in every
dataset. A bundle without ``classifier.json`` answers by the neighbors' vote with the defaults of
:mod:`obelisk.defaults`.
"""

from __future__ import annotations

import unicodedata
from functools import cached_property
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter

from obelisk.arrays import Integers
from obelisk.defaults import VOTE, K
from obelisk.embedding.bundle import LARGEST_JSON, Bundle
from obelisk.embedding.strict_json import StrictModel, parse_json
from obelisk.errors import ModelError

CLASSIFIER, LAYER = "classifier.json", "layer.json"
FORMAT = 1
# bytes; a layer of GLDv2's 203,094 landmarks takes 13 MB
LARGEST = {CLASSIFIER: LARGEST_JSON, LAYER: 2**25}

LandmarkId = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Model = TypeVar("Model", bound=StrictModel)


class BundleClassifier(StrictModel):
    """What ``classifier.json`` holds."""

    format: int = Field(default=FORMAT, ge=1, le=FORMAT, description="version of this layout")
    kind: Literal["knn", "softmax"] = Field(default="knn", description="what decides: neighbors or the softmax layer")
    k: int = Field(default=K, ge=1, description="nearest reference photos that vote")
    vote: str = Field(default=VOTE, max_length=100, description="how they vote")

    def pack(self) -> bytes:
        """Return the attachment."""
        return (self.model_dump_json() + "\n").encode()


class LayerLandmarks(StrictModel):
    """What ``layer.json`` holds: the landmarks of a softmax layer, in the order of its C columns."""

    format: int = Field(default=FORMAT, ge=1, le=FORMAT, description="version of this layout")
    landmarks: tuple[LandmarkId, ...] = Field(
        min_length=1, fail_fast=True, description="landmark ids, in the order of the columns"
    )
    names: tuple[str, ...] | None = Field(
        default=None, fail_fast=True, description="their names; null if the run did not record them"
    )

    @cached_property
    def ids(self) -> Integers:
        """The landmark ids, (C,)."""
        return np.array(self.landmarks, dtype=np.int64)

    @cached_property
    def _names(self) -> dict[int, str | None]:
        names = [None] * len(self.landmarks) if self.names is None else map(normalize_name, self.names)
        return dict(zip(self.landmarks, names, strict=True))

    def knows(self, landmark_id: int, name: str) -> bool:
        """Return whether the layer has a landmark of this id and name; without recorded names, the id decides."""
        return landmark_id in self._names and self._names[landmark_id] in (None, normalize_name(name))

    def pack(self) -> bytes:
        """Return the attachment."""
        return (self.model_dump_json() + "\n").encode()


def normalize_name(name: str) -> str:
    """Return a name as names are compared, in Unicode NFC."""
    return unicodedata.normalize("NFC", name)


def read_classifier(bundle: Bundle) -> BundleClassifier | None:
    """Return the classifier of a bundle, or None if it has none; raises ModelError for a damaged one."""
    return read_attached(bundle, CLASSIFIER, BundleClassifier)


def read_layer(bundle: Bundle) -> LayerLandmarks | None:
    """Return the landmarks of a bundle's softmax layer, or None if it has none.

    Raises ModelError for a damaged list, a landmark listed twice, names that are fewer or more than the landmarks, and
    a bundle of several networks.
    """
    found = read_attached(bundle, LAYER, LayerLandmarks)
    if found is None:
        return None
    if len(set(found.landmarks)) < len(found.landmarks) or len(bundle.members) > 1:
        what, fix = "a softmax layer with a landmark twice, or of several networks", "copy or export the bundle again"
        raise ModelError(what, where=bundle.folder / LAYER, fix=fix)
    if found.names is not None and len(found.names) != len(found.landmarks):
        what = f"a softmax layer of {len(found.landmarks)} landmarks with {len(found.names)} names"
        raise ModelError(what, where=bundle.folder / LAYER, fix="copy or export the bundle again")
    return found


def read_attached(bundle: Bundle, name: str, model: type[Model]) -> Model | None:
    """Read a JSON attachment of a bundle; None if it has none; raises ModelError for a damaged or newer one."""
    content = bundle.read_attachment(name, LARGEST[name])
    if content is None:
        return None
    fix = "copy it again, or upgrade obelisk"
    return parse_json(content, TypeAdapter(model), where=bundle.folder / name, what=f"`{name}`", fix=fix)
