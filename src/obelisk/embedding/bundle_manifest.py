"""``bundle.json``: the networks of a bundle, how a photo becomes their input, and where the weights come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from obelisk.embedding.strict_json import StrictModel
from obelisk.photos import ModelInput

FORMAT = 2
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "bundle.json"
CARD_FILE = "card.md"

Precision = Literal["fp32", "fp16", "int8"]


def check_file_name(name: str) -> str:
    """Raise ValueError for a name that could lead out of the bundle's folder, or is one of its own files."""
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", name) or name in (MANIFEST_FILE, CARD_FILE):
        raise ValueError(f"{name!r} cannot be the name of a file in a bundle")
    return name


FileName = Annotated[str, AfterValidator(check_file_name)]
Side = Annotated[int, Field(gt=0, le=4096)]
Length = Annotated[int, Field(gt=0, le=65_536)]
# Wide enough for any network, also one for values up to 255, and far from the limits of float32.
Mean = Annotated[float, Field(ge=-10, le=10)]
Deviation = Annotated[float, Field(ge=1e-4, le=1e4)]


class Member(StrictModel):
    """One network of a bundle, with its photo rule.

    The embeddings of several members are scaled by √(weight / sum of weights) and concatenated, so the cosine of two
    photos is the weighted mean of the members' cosines.
    """

    file: FileName = Field(description="the network, in the bundle's folder")
    size: Side = Field(description="side of the square model input, pixels")
    resize: Literal["squash", "crop"] = Field(description="how a photo becomes a square")
    mean: tuple[Mean, Mean, Mean] = Field(description="subtracted from each RGB channel in [0, 1]")
    std: tuple[Deviation, Deviation, Deviation] = Field(description="divides each RGB channel afterwards")
    dimensions: Length = Field(description="length of this member's part of the embedding")
    weight: float = Field(default=1.0, gt=0, description="the member's part in the cosine, relative to the others'")

    @property
    def input(self) -> ModelInput:
        """The rule that makes a photo the network's input."""
        return ModelInput(size=self.size, resize=self.resize, mean=self.mean, std=self.std)


class BundleManifest(StrictModel):
    """The content of ``bundle.json``: one network and its photo rule, or several networks as ``members``."""

    format: int = Field(default=FORMAT, ge=1, le=FORMAT, strict=True, description="version of this layout")
    name: str = Field(max_length=1000, description="what people call the model")
    size: Side | None = Field(default=None, description="side of the square model input, pixels")
    resize: Literal["squash", "crop"] | None = Field(default=None, description="how a photo becomes a square")
    mean: tuple[Mean, Mean, Mean] | None = Field(default=None, description="subtracted from each RGB channel in [0, 1]")
    std: tuple[Deviation, Deviation, Deviation] | None = Field(
        default=None, description="divides each RGB channel afterwards"
    )
    dimensions: Length = Field(description="D, the length of an embedding")
    normalised: bool = Field(default=True, description="whether embeddings have unit length")
    whitening: bool = Field(default=False, description="whether PCA whitening is part of the network")
    precision: Precision = Field(default="fp32", description="number format of the network's weights")
    licence: str = Field(
        max_length=10_000, description="licence of the weights, as an SPDX expression where there is one"
    )
    data: str = Field(max_length=10_000, description="what the weights were trained on")
    members: tuple[Member, ...] = Field(
        default=(), max_length=16, description="networks of an ensemble whose photo rules differ"
    )
    files: dict[FileName, str] = Field(
        default={}, max_length=100, description="attachments: file → hash of its content"
    )
    fingerprint: str = Field(description="hash of the networks and of their photo rules")

    @model_validator(mode="after")
    def parts_fit(self) -> BundleManifest:
        """Refuse photo rules given twice or not at all, file names used twice, and dimensions that don't add up."""
        rule = (self.size, self.resize, self.mean, self.std)
        if self.members and any(part is not None for part in rule):
            raise ValueError("a bundle with `members` has no photo rule of its own")
        if not self.members and any(part is None for part in rule):
            raise ValueError("`size`, `resize`, `mean` and `std` are needed, or `members`")
        names = [network.file for network in self.networks]
        if len({*names, *self.files}) < len(names) + len(self.files):
            raise ValueError("one file is named twice")
        if sum(network.dimensions for network in self.networks) != self.dimensions:
            raise ValueError("`dimensions` is not the sum of the members'")
        return self

    @property
    def networks(self) -> tuple[Member, ...]:
        """The bundle's networks: its members, or the only one."""
        if self.size is None or self.resize is None or self.mean is None or self.std is None:
            return self.members
        return (
            Member(
                file=MODEL_FILE,
                size=self.size,
                resize=self.resize,
                mean=self.mean,
                std=self.std,
                dimensions=self.dimensions,
            ),
        )

    def to_json(self) -> str:
        """Return the text of ``bundle.json``, without the parts that the bundle does not have."""
        absent = {name for name in ("members", "files") if not getattr(self, name)}
        return self.model_dump_json(indent=2, exclude_none=True, exclude=absent) + "\n"


def begin_fingerprint(content: bytes = b"") -> blake2b:
    """Return the hash of a network's bytes; more can be added."""
    return blake2b(content, digest_size=16)


def fingerprint_of(networks: Mapping[str, blake2b], manifest: BundleManifest) -> str:
    """Return 32 hex digits that change with a network's bytes, its photo rule or its weight.

    ``networks`` maps the files of the manifest's networks to :func:`begin_fingerprint` of their bytes.
    """
    digests = []
    for member in manifest.networks:
        digest = networks[member.file].copy()
        digest.update(repr((member.size, member.resize, tuple(member.mean), tuple(member.std))).encode())
        digests.append(digest.hexdigest())
    if not manifest.members:
        return digests[0]
    weighted = [(digest, member.weight) for digest, member in zip(digests, manifest.members, strict=True)]
    return begin_fingerprint(repr(weighted).encode()).hexdigest()
