"""Check that everything in a gallery is there, and that it fits together."""

from __future__ import annotations

from pathlib import Path

from obelisk.errors import GalleryError, ObeliskError, quote
from obelisk.gallery import schema
from obelisk.gallery.ann.candidates import OWN
from obelisk.gallery.ann.engines import describe_engine
from obelisk.gallery.ann.indexed import describe_index
from obelisk.gallery.lookup import all_landmark_names, select_photos
from obelisk.gallery.places import open_truth
from obelisk.gallery.schema import About
from obelisk.gallery.truth import Truth

NAMED_COPIES = 3  # of a photo that is under two landmarks


def check_gallery(path: Path | str) -> list[str]:
    """Check a gallery; return one sentence per problem, or an empty list.

    Raises :class:`GalleryError` if there is no gallery, or one of a newer format.
    """
    truth = open_truth(path)
    about = truth.about()
    problems = [] if about.complete else ["it is only half-built: run the same `gallery build` again"]
    problems += check_model_copy(truth, about)
    try:
        problems += truth.check_tables(about.dimensions)
    except GalleryError as error:
        problems.append(str(error))
    return problems


def check_index(path: Path | str) -> str | None:
    """Check a gallery's search index; return a sentence, or None if it is sound. The next search repairs our own."""
    truth = open_truth(path)
    with truth.reading() as connection:
        setting = schema.read_engine(connection)
        if setting == OWN:
            return describe_index(truth, connection)
    return describe_engine(setting, truth, truth.about().dimensions)


def check_model_copy(truth: Truth, about: About) -> list[str]:
    """Check that the gallery's copy of its bundle is sound, and the bundle that made the embeddings."""
    try:
        bundle = truth.load_bundle(about)
        bundle.verify_attachments()
    except ObeliskError as error:
        return [f"the copy of the model cannot be used: {error}"]
    if bundle.fingerprint != about.fingerprint:
        return [f"the copy of the model has fingerprint {bundle.fingerprint}, the embeddings {about.fingerprint}"]
    if bundle.dimensions != about.dimensions:
        return [f"the copy of the model gives {bundle.dimensions} dimensions, the gallery has {about.dimensions}"]
    return []


def check_labels(path: Path | str) -> str | None:
    """Look for photos whose bytes are under two landmarks; return a sentence, or None if there are none."""
    shared = (
        "SELECT content_hash FROM photos WHERE content_hash != '' GROUP BY content_hash"
        " HAVING min(landmark_id) != max(landmark_id) ORDER BY min(row)"
    )
    with open_truth(path).reading() as connection:
        found = connection.execute(shared).fetchall()
        if not found:
            return None
        photos = [photo for _, photo in select_photos(connection, "content_hash = ? ORDER BY row", found[0])]
        names = all_landmark_names(connection)
    where = " and ".join(f"`{photo.id}` of `{names[photo.landmark_id or 0]}`" for photo in photos[:NAMED_COPIES])
    count = f"{len(found)} photo{' is' if len(found) == 1 else 's are'}"
    fix = f"see which label is right, and `obelisk gallery remove {quote(str(path))} --photo ID` the other"
    return f"{count} in it under two landmarks with the same bytes: {where} · {fix}"
