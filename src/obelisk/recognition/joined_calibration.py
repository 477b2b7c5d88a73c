"""The calibration of galleries that are joined for a call: that of their model, refined by the references of all."""

from __future__ import annotations

import contextlib
import json
from hashlib import blake2b
from pathlib import Path

from obelisk.embedding import LARGEST_JSON, Bundle, cache_folder
from obelisk.errors import ModelError
from obelisk.files import read_limited, replace_file
from obelisk.gallery import JoinedGallery
from obelisk.recognition.calibration import Calibration, find_model_calibration, read_calibration
from obelisk.recognition.rerank.background import read_background
from obelisk.recognition.self_calibration import refine

REFINEMENT = 1  # raised whenever the same galleries may get another calibration


def calibrate_joined(gallery: JoinedGallery, bundle: Bundle) -> Calibration | None:
    """Refine the calibration of a model with the references of joined galleries; None if the model has none.

    What the galleries know about themselves, be it from strangers, holds for each of them alone. The result is kept in
    the user's cache folder until one of the galleries changes: it takes about a second.
    """
    general = find_model_calibration(bundle)
    if general is None or not general.evidence:
        return general
    kept = locate_kept(gallery, bundle)
    if kept:
        with contextlib.suppress(OSError, ModelError):
            return read_calibration(read_limited(kept, LARGEST_JSON), kept)
    references = gallery.references()
    refined = refine(general, references, references.labels, read_background(bundle)).calibration
    if kept:
        with contextlib.suppress(OSError):
            replace_file(kept, lambda partial: partial.write_text(refined.to_json(), encoding="utf-8"))
    return refined


def locate_kept(gallery: JoinedGallery, bundle: Bundle) -> Path | None:
    """Return where the calibration of the galleries in their present state is kept; None if a state has no name."""
    states = [one.read_state() for one in gallery.galleries]
    if not all(states):
        return None
    made_of = [REFINEMENT, bundle.fingerprint, sorted(bundle.manifest.files.items()), states]
    name = blake2b(json.dumps(made_of).encode(), digest_size=16).hexdigest()
    return cache_folder() / "galleries" / f"{name}.json"
