"""Model bundles: networks that never travel without their preprocessing.

A bundle is a folder::

    model.onnx     input ``photos`` (N, 3, H, W) float32 → output ``embedding`` (N, D) float32; where there is an
                   output ``features`` (N, D', H, W), it is the last feature map before pooling; where there is one
                   ``logits`` (N, C), it is that of a softmax layer over C landmarks
    bundle.json    how to prepare a photo, and where the weights come from
    card.md        the same for people
    …              attachments, such as a background and a calibration for recognition

A bundle of several networks (an ensemble whose photo rules differ) holds one file per member instead of
``model.onnx``. The fingerprint is a hash of the networks' bytes and of their photo rules: two bundles with the same
fingerprint compute the same embedding for the same photo. Galleries and caches are keyed by it, so attachments may
change without making them stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter

from obelisk.embedding.bundle_manifest import (
    CARD_FILE,
    FORMAT,
    MANIFEST_FILE,
    MODEL_FILE,
    BundleManifest,
    Member,
    begin_fingerprint,
    fingerprint_of,
)
from obelisk.embedding.strict_json import load_json, validate_json
from obelisk.errors import ModelError
from obelisk.files import growing_beside, move_folder, open_limited
from obelisk.photos import ModelInput, content_hash

FIX = "give a bundle, or a run folder with its `model` folder"
# Bytes; what is larger is not read.
LARGEST_JSON = 2**20
LARGEST_ATTACHMENT = 2**26
LARGEST_NETWORK = 2**31 - 1  # no serialized ONNX graph is larger


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle on disk, read and verified."""

    folder: Path
    manifest: BundleManifest

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """Read the bundle in a folder and verify its fingerprint.

        Raises ModelError if the folder or a file is missing, if the manifest can't be read or has a newer format, or if
        a network is not the one that the manifest was written for.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        bundle = cls(folder=folder, manifest=manifest)
        found = fingerprint_of({member.file: hash_network(folder / member.file) for member in bundle.members}, manifest)
        if found != manifest.fingerprint:
            raise ModelError(
                f"fingerprint {found} does not match the manifest's {manifest.fingerprint}",
                where=folder,
                fix="the network or its photo rule was changed: copy or export the bundle again",
            )
        return bundle

    @property
    def name(self) -> str:
        """What people call the model."""
        return self.manifest.name

    @property
    def fingerprint(self) -> str:
        """Hash of the networks and of their photo rules."""
        return self.manifest.fingerprint

    @property
    def dimensions(self) -> int:
        """D, the length of an embedding."""
        return self.manifest.dimensions

    @property
    def members(self) -> tuple[Member, ...]:
        """The networks, one or more."""
        return self.manifest.networks

    @property
    def input(self) -> ModelInput:
        """The rule that makes a photo the first network's input."""
        return self.members[0].input

    def read_network(self, member: Member) -> bytes:
        """Return a member's serialized ONNX graph."""
        return read_file(self.folder / member.file, LARGEST_NETWORK)

    def read_card(self) -> str:
        """Return the model card, or "" if the bundle has none."""
        path = self.folder / CARD_FILE
        return read_file(path, LARGEST_JSON).decode(errors="replace") if path.is_file() else ""

    def read_attachment(self, name: str, largest: int = LARGEST_ATTACHMENT) -> bytes | None:
        """Return an attachment's content, or None if the bundle has none of this name.

        Raises ModelError for one that is listed but missing, that was changed, or that has more than ``largest`` bytes.
        """
        expected = self.manifest.files.get(name)
        if expected is None:
            return None
        content = read_file(self.folder / name, largest)
        if content_hash(content) != expected:
            fix = "copy or export the bundle again"
            raise ModelError(f"the attachment `{name}` was changed", where=self.folder / name, fix=fix)
        return content

    def verify_attachments(self) -> None:
        """Check all attachments; raises ModelError for one that is missing or was changed."""
        for name in self.manifest.files:
            self.read_attachment(name)

    def save_to(self, folder: Path) -> Bundle:
        """Copy the bundle's files into a new folder and return the copy; raises ModelError for a damaged attachment."""
        self.verify_attachments()
        self.read_card()  # refuses one that is absurdly large
        folder.mkdir(parents=True)
        for name in (*(member.file for member in self.members), *self.manifest.files, MANIFEST_FILE, CARD_FILE):
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
        return Bundle(folder=folder, manifest=self.manifest)


def read_manifest(folder: Path) -> BundleManifest:
    """Read a bundle's manifest; raises ModelError."""
    where = folder / MANIFEST_FILE
    fields = load_json(read_file(where, LARGEST_JSON), where=where, what="manifest", fix=FIX)
    found = fields.get("format") if isinstance(fields, dict) else None
    if isinstance(found, int) and found > FORMAT:
        raise ModelError(f"bundle format {found} is newer than {FORMAT}", where=where, fix="upgrade obelisk")
    return validate_json(fields, TypeAdapter(BundleManifest), where=where, what="manifest", fix=FIX)


def read_file(path: Path, largest: int) -> bytes:
    """Return the content of one of a bundle's files; raises ModelError if it is missing or absurdly large."""
    with open_file(path, largest) as file:
        return file.read(largest)


def hash_network(path: Path) -> hashlib.blake2b:
    """Hash a network's file in parts, so that its size costs no memory; raises ModelError if it can't be read."""
    digest = begin_fingerprint()
    with open_file(path, LARGEST_NETWORK) as file:
        while part := file.read(2**20):
            if part.startswith(b"\0") and file.tell() == len(part):  # a file of nothing, which may be long
                what = "the network cannot be read: it is empty, or cut off"
                raise ModelError(what, where=path, fix="export or copy it again")
            digest.update(part)
    return digest


@contextlib.contextmanager
def open_file(path: Path, largest: int) -> Iterator[BinaryIO]:
    """Open one of a bundle's files; raises ModelError if it is missing, can't be read or is absurdly large."""
    if not path.is_file():
        raise ModelError(f"no model bundle: `{path.name}` is missing", where=path.parent, fix=FIX)
    try:
        with open_limited(path, largest) as file:
            yield file
    except OSError as error:
        raise ModelError(f"`{path.name}` cannot be read: {error.strerror}", where=path.parent, fix=FIX) from error


def write_bundle(
    folder: Path,
    *,
    network: bytes | Mapping[str, bytes],
    card: str,
    attachments: Mapping[str, bytes] | None = None,
    **manifest: object,
) -> Bundle:
    """Write a bundle, complete or not at all, and return it; a bundle that is in the folder is replaced.

    ``network`` is a serialized ONNX graph, or maps the file of each member to one. ``card`` is the text of the model
    card, and ``attachments`` maps file names to contents. ``manifest`` are the fields of :class:`BundleManifest`
    except the format, the attachments' hashes and the fingerprint, which are computed here.
    """
    networks = {MODEL_FILE: network} if isinstance(network, bytes) else network
    attached = dict(attachments or {})
    begun = {file: begin_fingerprint(content) for file, content in networks.items()}
    hashes = {name: content_hash(content) for name, content in sorted(attached.items())}
    draft = BundleManifest.model_validate({**manifest, "format": FORMAT, "files": hashes, "fingerprint": ""})
    final = draft.model_copy(update={"fingerprint": fingerprint_of(begun, draft)})
    place = folder.resolve()  # a link stays
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=growing_beside(place), prefix=f".{place.name}.") as made:
        new = Path(made) / "new"
        new.mkdir()
        for name, content in {**networks, **attached}.items():
            (new / name).write_bytes(content)
        (new / MANIFEST_FILE).write_text(final.to_json(), encoding="utf-8", newline="\n")
        (new / CARD_FILE).write_text(card, encoding="utf-8", newline="\n")
        replace_folder(place, new, final, aside=Path(made) / "old")
    return Bundle(folder=folder, manifest=final)


def attach(bundle: Bundle, attachments: Mapping[str, bytes], *, card: str | None = None) -> Bundle:
    """Rewrite a bundle with more attachments, or others of the same name; its fingerprint stays.

    ``card`` replaces the card's text. Raises ModelError for a damaged attachment.
    """
    kept = {name: bundle.read_attachment(name) for name in bundle.manifest.files}
    return write_bundle(
        bundle.folder,
        network={member.file: bundle.read_network(member) for member in bundle.members},
        card=bundle.read_card() if card is None else card,
        attachments={name: content for name, content in kept.items() if content is not None} | dict(attachments),
        **bundle.manifest.model_dump(exclude={"format", "files", "fingerprint"}),
    )


def replace_folder(folder: Path, new: Path, manifest: BundleManifest, *, aside: Path) -> None:
    """Move a complete new bundle to ``folder``; an older folder of that name is moved ``aside``.

    If another process writes the same bundle at the same time, its copy stays.
    """
    if holds_bundle(folder, manifest):
        return
    try:
        if folder.is_dir() and not os.path.ismount(folder):
            shutil.move(folder, aside)  # also one of a container's image, which can't be renamed
        move_folder(new, folder)
    except OSError:
        if not holds_bundle(folder, manifest):
            raise


def holds_bundle(folder: Path, manifest: BundleManifest) -> bool:
    """Return whether a folder holds a complete bundle with this manifest."""
    try:
        return Bundle.load(folder).manifest == manifest
    except (ModelError, OSError):
        return False
