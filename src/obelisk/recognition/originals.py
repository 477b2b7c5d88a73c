"""The reference photos themselves, where their files are still at hand: a gallery holds embeddings only."""

from __future__ import annotations

from obelisk.errors import PhotoError
from obelisk.gallery import ReferencePhoto
from obelisk.photos import content_hash, read_bytes


def read_original(photo: ReferencePhoto | None) -> bytes | None:
    """Return the bytes of a reference photo; None if its file is gone or has become another one."""
    if photo is None or photo.file is None:
        return None
    try:
        data = read_bytes(photo.file)
    except PhotoError:
        return None
    return data if photo.content_hash in ("", content_hash(data)) else None
