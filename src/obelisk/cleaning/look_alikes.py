"""Landmarks of a dataset that look like one place: one place in two folders, or under two ids."""

from __future__ import annotations

from obelisk.cleaning.drop import embed_photos
from obelisk.data import Catalog, Issue
from obelisk.data.issues import make_issue
from obelisk.embedding import Bundle
from obelisk.errors import UsageError
from obelisk.gallery import ExactSearch
from obelisk.recognition.calibration import find_model_calibration
from obelisk.recognition.self_calibration import find_twin_landmarks
from obelisk.records import Progress, no_progress


def check_look_alikes(catalog: Catalog, bundle: Bundle, *, progress: Progress = no_progress) -> list[Issue]:
    """Return an issue for each pair of landmarks that look like one place, as ``obelisk gallery check`` finds them.

    Photos that can't be used are left out. Embeddings are cached. Raises :class:`~obelisk.errors.UsageError` for a
    model without a calibration, whose scores tell nothing of that.
    """
    if find_model_calibration(bundle) is None:
        what = "the model is not calibrated, so it can't tell which landmarks look like one place"
        raise UsageError(what, where=bundle.folder, fix="name another model, or calibrate it: `obelisk calibrate`")
    photos = catalog.references
    embeddings, failed = embed_photos(catalog, photos, bundle, progress)
    shown = photos.filter(~photos["image_id"].is_in(list(failed)))["landmark_id"].to_numpy()
    names = catalog.landmark_names()
    return [
        make_issue("look-alike", where=names[one], what=f"looks like one place with `{names[other]}`")
        for one, other in find_twin_landmarks(bundle, ExactSearch(embeddings), shown)
    ]
