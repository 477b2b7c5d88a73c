"""Where ``--model`` points to."""

from __future__ import annotations

from pathlib import Path

from obelisk.embedding import Bundle

RUN_BUNDLE = "model"


def load_model(place: Path | str) -> Bundle:
    """Load the bundle in a folder, or the one that a training run exported into its ``model`` folder.

    Raises :class:`ModelError` when there is none, or a damaged one.
    """
    place = Path(place)
    return Bundle.load(place / RUN_BUNDLE if (place / RUN_BUNDLE).is_dir() else place)
