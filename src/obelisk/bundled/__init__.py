"""What comes with the package: a gallery of landmarks with its model, ready to use.

``gallery/`` beside this file is a gallery like any other, but it belongs to the installation: nothing writes to it or
leaves files in it, even if the file system would allow it.
"""

from __future__ import annotations

from pathlib import Path

from obelisk.errors import UsageError

GALLERY = Path(__file__).parent / "gallery"
BUNDLED = "bundled"
"""The word that names the bundled gallery wherever a gallery is named."""


def locate_gallery(gallery: Path | str | None) -> Path:
    """Return the folder that names a gallery: that of the bundled one for the word ``bundled`` and for None.

    A folder that is really called ``bundled`` is ``./bundled``, or a Path. Raises UsageError as
    :func:`bundled_gallery` does.
    """
    return bundled_gallery() if gallery in (None, BUNDLED) else Path(gallery or "")


def name_gallery(folder: Path) -> str:
    """Return how a gallery is called: ``bundled``, or its path."""
    return BUNDLED if is_bundled(folder) else str(folder)


def bundled_gallery() -> Path:
    """Return the folder of the bundled gallery; its subfolder ``model`` is the bundled model.

    Raises UsageError if the package was built without one.
    """
    if not (GALLERY / "gallery.sqlite").is_file():
        raise UsageError(
            "this installation of obelisk has no bundled gallery and no bundled model",
            where=GALLERY,
            fix="name your own (`recognize --gallery G`, `gallery build --model M`), or install a released package",
        )
    return GALLERY


def is_bundled(folder: Path) -> bool:
    """Return whether a folder is the bundled gallery, which is never written to."""
    return folder.resolve() == GALLERY.resolve()
