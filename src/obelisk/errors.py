"""Everything Obelisk raises on purpose.

::

    ObeliskError                    something is wrong; the message says what, where, and what to do
    ├── UsageError                  the caller's mistake (the command line exits 2)
    │   ├── DataError               a dataset, catalog or manifest can't be used
    │   ├── RecipeError             a recipe has unknown keys or wrong values, or belongs to another run
    │   ├── ModelError              a bundle or run is missing or damaged, or doesn't fit
    │   ├── GalleryError            a gallery is missing, damaged, too new, or made with another model
    │   │   └── GalleryLockedError  other processes kept a gallery locked for too long (exit 1)
    │   └── MissingExtraError       an optional part is not installed
    ├── SidecarError                an XMP sidecar can't be used; it is left as it is (exit 1)
    ├── DownloadError               a file couldn't be fetched; the others still are (exit 1)
    └── PhotoError                  a photo can't be used; it is skipped (exit 1)
        ├── PhotoMissingError       no such file, a broken link, or no permission
        ├── PhotoFormatError        an empty file, not an image, or a format outside the whitelist
        ├── PhotoTruncatedError     the header is sound, but the pixels end early or are damaged
        └── PhotoTooLargeError      more pixels than the limit; refused from the header, before decoding

A message reads ``what (with the value) · where (path, row, key) · what to do``.
"""

from __future__ import annotations

import difflib
import json
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DISTRIBUTION = "obelisk-landmarks"


class ObeliskError(Exception):
    """Something is wrong: the base class of everything that Obelisk raises on purpose.

    ``what`` is a full clause with the offending value; ``where`` a path, row or key; ``fix`` the exact command, key or
    value that puts it right. Empty parts are left out of the message.

    Example::

        try:
            gallery = obelisk.Gallery.open("mycity")
        except obelisk.ObeliskError as error:
            print(f"{error.what}; try: {error.fix}")
    """

    exit_code = 1

    def __init__(self, what: str, *, where: object = "", fix: str = "") -> None:
        self.what = what
        self.where = str(where)
        self.fix = fix
        super().__init__(" · ".join(part for part in (what, self.where, fix) if part))


class UsageError(ObeliskError):
    """The caller's mistake: a missing path, an unknown key, a gallery made with another model.

    Example::

        try:
            recognizer = obelisk.Recognizer.open("mycity")
        except obelisk.UsageError as error:
            sys.exit(f"can't open the gallery: {error}")
    """

    exit_code = 2


class DataError(UsageError):
    """A dataset, catalog or manifest can't be used."""


class RecipeError(UsageError):
    """A recipe has unknown keys or wrong values, or a run folder belongs to another recipe."""


class ModelError(UsageError):
    """A bundle, run or backbone is missing or damaged, or doesn't fit."""


class GalleryError(UsageError):
    """A gallery is missing, damaged, of a newer format, or made with another model."""


class GalleryLockedError(GalleryError):
    """Other processes kept a gallery locked for too long: nobody's mistake; try again."""

    exit_code = 1


class GalleryChangedError(GalleryError):
    """A gallery was changed while it was searched, so that an answer from before would be wrong: search it again."""

    exit_code = 1


class MissingExtraError(UsageError):
    """An optional part of Obelisk is not installed."""

    def __init__(self, extra: str, *, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs the extra `{extra}`", fix=install_command(extra))


class SidecarError(ObeliskError):
    """An XMP sidecar is no XMP, or belongs to another photo. It is left as it is; the others are written."""


class DownloadError(ObeliskError):
    """A file couldn't be fetched. It is reported, and the download continues."""


class PhotoError(ObeliskError):
    """A photo can't be used. It is reported, counted and skipped.

    :meth:`obelisk.Recognizer.recognize` doesn't raise it: the answer for the photo carries it as text. Functions that
    read a single photo raise it.

    Example::

        from obelisk.photos import read_photo

        try:
            photo = read_photo("photo.jpg")
        except obelisk.PhotoError as error:
            print("skipped:", error)
    """


class PhotoMissingError(PhotoError):
    """There is no such file, the link is broken, it is a folder, or it may not be read."""


class PhotoFormatError(PhotoError):
    """The file is empty, is not an image, or has a format outside the whitelist."""


class PhotoTruncatedError(PhotoError):
    """The header is sound, but the pixels end early or are damaged."""


class PhotoTooLargeError(PhotoError):
    """The photo has more pixels than the limit; refused from the header, before anything is decoded."""


def near_names(name: str, known: Iterable[str]) -> str:
    """Return ``did you mean `x`?`` for the known name nearest to a mistyped one, or an empty string."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else ""


def install_command(extra: str) -> str:
    """Return the shell command that adds an extra to this installation.

    pip records where it installed a package from (PEP 610, ``direct_url.json``), unless that was a package index. A
    clone, an archive or a repository is therefore named again. If the folder or file is gone, the command names the
    packages of the extra instead.
    """
    words = ["install", *requirements_of(extra)]
    # A `pip` of another environment would install where this Python doesn't look.
    found = shutil.which("pip")
    beside = found is not None and Path(found).parent == Path(sys.executable).parent
    return " ".join(quote(word) for word in (["pip"] if beside else [sys.executable, "-m", "pip"]) + words)


def requirements_of(extra: str) -> list[str]:
    """Return the arguments with which ``pip install`` adds an extra to this installation."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    by_name = f"{DISTRIBUTION}[{extra}]"
    try:
        installed = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return [by_name]
    source: dict[str, Any] = json.loads(installed.read_text("direct_url.json") or "{}")
    url = source.get("url", "")
    if url.startswith("file:"):
        path = Path(url2pathname(urlsplit(url).path))
        if not path.exists():
            lines = (line.replace("'", '"').partition(";") for line in installed.requires or [])
            return [package.strip() for package, _, marker in lines if f'extra == "{extra}"' in marker]
        return ["--editable"] * bool(source.get("dir_info", {}).get("editable")) + [f"{path}[{extra}]"]
    if vcs := source.get("vcs_info"):
        return [f"{by_name} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"]
    return [f"{by_name} @ {url}" if url else by_name]


def quote(word: str) -> str:
    """Quote a word for the shell if necessary."""
    if sys.platform == "win32":
        return f'"{word}"' if set(word) & set(" []<>=;&^") else word
    return shlex.quote(word)
