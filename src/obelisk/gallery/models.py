"""The model behind a gallery: loading it, and refusing embeddings that cannot be searched with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from obelisk.arrays import has_direction, row_norms
from obelisk.bundled import locate_gallery
from obelisk.embedding import Bundle, Embedded, attach
from obelisk.errors import PhotoError

RUN_BUNDLE = "model"


def load_model(folder: Path | str) -> Bundle:
    """Load the bundle in a folder, or in the ``model`` folder of a training run or gallery.

    The word ``bundled`` names the bundled one. Raises :class:`ModelError` if there is none, or if it is damaged.
    """
    folder = locate_gallery(folder)
    return Bundle.load(folder / RUN_BUNDLE if (folder / RUN_BUNDLE).is_dir() else folder)


def adopt_attachments(own: Bundle, bundle: Bundle) -> None:
    """Bring a gallery's own copy of a bundle up to date: calibration and background may have come later."""
    files = bundle.manifest.files
    if any(own.manifest.files.get(name) != digest for name, digest in files.items()):
        attached = {name: bundle.read_attachment(name) for name in files}
        attach(own, {name: content for name, content in attached.items() if content is not None})


def refuse_directionless(photos: Iterable[Embedded]) -> Iterator[Embedded]:
    """Yield the photos; one whose embedding is zero or not finite, and so resembles nothing, gets an error instead.

    So does one whose logits are not finite.
    """
    for photo in photos:
        if photo.embedding is not None and not has_direction(row_norms(photo.embedding[np.newaxis])).all():
            error = PhotoError("the model sees nothing in the photo: its embedding has no direction", where=photo.path)
            yield replace(photo, embedding=None, error=error)
        elif photo.logits is not None and not np.isfinite(photo.logits).all():
            error = PhotoError("the model's softmax layer gives no finite logits for the photo", where=photo.path)
            yield replace(photo, embedding=None, error=error)
        else:
            yield photo
