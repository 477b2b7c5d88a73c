"""Model bundles: a network that never travels without its preprocessing.

A bundle is a folder of three files::

    model.onnx     input ``photos`` (N, 3, H, W) float32 → output ``embedding`` (N, D) float32
    bundle.json    what to do to a photo first, and what came of whom: the manifest below
    card.md        the same for people

The fingerprint is a hash of the network's bytes and of the photo rule: two bundles with one fingerprint
give the same embedding for the same photo. Galleries and caches are keyed by it.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from obelisk.errors import ModelError
from obelisk.photos import ModelInput

FORMAT = 1
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "bundle.json"
CARD_FILE = "card.md"


class BundleManifest(BaseModel):
    """What ``bundle.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=FORMAT, description="version of this layout")
    name: str = Field(description="what people call the model")
    size: int = Field(gt=0, description="side of the square model input, pixels")
    resize: Literal["squash", "crop"] = Field(description="how a photo becomes a square")
    mean: tuple[float, float, float] = Field(description="subtracted from each RGB channel in [0, 1]")
    std: tuple[float, float, float] = Field(description="divides each RGB channel afterwards")
    dimensions: int = Field(gt=0, description="D, the length of an embedding")
    normalised: bool = Field(default=True, description="whether embeddings have unit length")
    whitening: bool = Field(default=False, description="whether PCA whitening is part of the network")
    licence: str = Field(description="licence of the weights, as an SPDX expression where there is one")
    data: str = Field(description="what the weights were trained on")
    fingerprint: str = Field(description="hash of the network and of the photo rule")

    @property
    def input(self) -> ModelInput:
        """The rule that makes a photo the network's input."""
        return ModelInput(size=self.size, resize=self.resize, mean=self.mean, std=self.std)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle on disk, read and verified."""

    folder: Path
    manifest: BundleManifest

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """Read the bundle in a folder and verify its fingerprint.

        Raises ModelError when the folder or a file is missing, the manifest cannot be read, the format is
        newer than this version, or the network is not the one that the manifest was written for.
        """
        folder = Path(folder)
        fix = "give a bundle, or a run folder with its `model` folder"
        for name in (MODEL_FILE, MANIFEST_FILE):
            if not (folder / name).is_file():
                raise ModelError(f"no model bundle: `{name}` is missing", where=folder, fix=fix)
        where = folder / MANIFEST_FILE
        try:
            manifest = BundleManifest.model_validate_json(where.read_bytes())
        except ValidationError as error:
            problem = error.errors()[0]
            key = ".".join(str(part) for part in problem["loc"]) or "the whole file"
            raise ModelError(f"unreadable manifest: {key}: {problem['msg']}", where=where, fix=fix) from None
        if manifest.format > FORMAT:
            raise ModelError(
                f"bundle format {manifest.format} is newer than {FORMAT}", where=where, fix="upgrade obelisk"
            )
        found = fingerprint_of((folder / MODEL_FILE).read_bytes(), manifest.input)
        if found != manifest.fingerprint:
            raise ModelError(
                f"fingerprint {found} does not match the manifest's {manifest.fingerprint}",
                where=folder,
                fix="the network or its photo rule was changed: copy or export the bundle again",
            )
        return cls(folder=folder, manifest=manifest)

    @property
    def name(self) -> str:
        """What people call the model."""
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """Hash of the network and of the photo rule."""
        return self.manifest.fingerprint

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self.manifest.dimensions

    @property
    def input(self) -> ModelInput:
        """The rule that makes a photo the network's input."""
        return self.manifest.input

    def save_to(self, folder: Path) -> Bundle:
        """Copy the bundle's files into a new folder and return the copy."""
        folder.mkdir(parents=True)
        for name in (MODEL_FILE, MANIFEST_FILE, CARD_FILE):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        return Bundle(folder=folder, manifest=self.manifest)


def fingerprint_of(network: bytes, rule: ModelInput) -> str:
    """Return 32 hex digits that change when the network's bytes or its photo rule do."""
    digest = hashlib.blake2b(network, digest_size=16)
    digest.update(repr((rule.size, rule.resize, tuple(rule.mean), tuple(rule.std))).encode())
    return digest.hexdigest()


def write_bundle(folder: Path, *, network: bytes, card: str, **manifest: object) -> Bundle:
    """Write a bundle so that it appears whole or not at all, and return it.

    ``network`` is a serialised ONNX graph; ``manifest`` the fields of :class:`BundleManifest` except the
    fingerprint, which is computed here. A bundle already in the folder is replaced.
    """
    draft = BundleManifest.model_validate({**manifest, "fingerprint": ""})
    final = draft.model_copy(update={"fingerprint": fingerprint_of(network, draft.input)})
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as made:
        whole = Path(made) / folder.name
        whole.mkdir()
        (whole / MODEL_FILE).write_bytes(network)
        (whole / MANIFEST_FILE).write_text(final.model_dump_json(indent=2) + "\n")
        (whole / CARD_FILE).write_text(card)
        if is_bundle(folder, final.fingerprint):
            return Bundle(folder=folder, manifest=final)
        if folder.exists():
            shutil.rmtree(folder)
        try:
            whole.rename(folder)
        except OSError:
            # Another process may have written the same bundle in the meantime: then all is well.
            if not is_bundle(folder, final.fingerprint):
                raise
    return Bundle(folder=folder, manifest=final)


def is_bundle(folder: Path, fingerprint: str) -> bool:
    """Tell whether a folder holds a whole bundle of this fingerprint."""
    try:
        return Bundle.load(folder).fingerprint == fingerprint
    except (ModelError, OSError):
        return False
