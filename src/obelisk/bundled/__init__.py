"""What comes with the package: a gallery of landmarks together with its model, ready to recognise.

``gallery/`` beside this file is a gallery like any other, but it belongs to the installation: nothing may write to
it or leave files in it, not even where the file system would let it.
"""

from __future__ import annotations

from pathlib import Path

from obelisk.errors import UsageError

GALLERY = Path(__file__).parent / "gallery"


def bundled_gallery() -> Path:
    """Return the folder of the gallery that comes with the package; its model lies in ``model``.

    Raises UsageError where the package was built without one.
    """
    if not (GALLERY / "gallery.sqlite").is_file():
        raise UsageError(
            "this installation of obelisk carries no gallery and no model",
            where=GALLERY,
            fix="name your own (`recognize --gallery G`, `gallery build --model M`), or install a released package",
        )
    return GALLERY


def is_bundled(folder: Path) -> bool:
    """Say whether a folder is the gallery that comes with the package, which is never written to."""
    return folder.resolve() == GALLERY.resolve()
