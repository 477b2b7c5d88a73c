"""Walk folders for photos, by name and without opening a file, and count what is passed over."""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from obelisk.errors import UsageError
from obelisk.photos.reading import PHOTO_SUFFIXES

# Endings of pictures, of which some formats are read and the others are counted.
PICTURE_SUFFIX: Final = re.compile(
    r"\.(3fr|arw|avifs?|bmp|cr2|cr3|crw|dcr|dib|dng|erf|exr|fff|gif|hdr|hei[cf]s?|hif|ico|iiq|j2[ck]|jf?if|jfi|jpe?g?"
    r"|jp[2fmx]|jxl|jxr|kdc|mef|mos|mrw|nef|nrw|orf|p[bgnp]m|pcx|pef|png|ps[bd]|qoi|raf|raw|rw[2l]|sr[2fw]|svgz?|tga"
    r"|tiff?|wdp|webp|x3f|xcf)"
)
# Thumbnails, snapshots and bins of Synology, QNAP, Windows, Linux and macOS; compared in lower case.
MACHINE_FOLDERS: Final = re.compile(
    r"@eadir|@tmp|@syno\w*|#recycle|#snapshot|@recycle|@recently-snapshot|@__thumb|@transcode|\$recycle\.bin|recycler"
    r"|system volume information|found\.\d{3}|lost\+found|\.trash.*|\.@__thumb|__macosx"
)
OWN_PICTURE_SUFFIX: Final = ".explained"  # before that of the format
OWN_PICTURE: Final = re.compile(rf".*{re.escape(OWN_PICTURE_SUFFIX)}\.(jpg|png|webp)", re.DOTALL)
# Files that only a gallery, a run, and the output of `data clean` hold.
OWN_FOLDERS: Final = (
    frozenset({"gallery.sqlite"}),
    frozenset({"run.json", "recipe.toml"}),
    frozenset({"suspects.csv", "manifest.json"}),
)
NAMED_LINKS: Final = 5


@dataclass(frozen=True, kw_only=True)
class ExcludePattern:
    """A glob of ``--exclude``: of a name at any depth, or of a whole path if it contains a slash."""

    expression: re.Pattern[str]
    of_path: bool
    folders_only: bool

    def matches(self, path: str, *, folder: bool) -> bool:
        """Return whether the pattern excludes a path, which is relative to the walked folder."""
        if self.folders_only and not folder:
            return False
        subject = path if self.of_path else path.rpartition("/")[2]
        return self.expression.match(unicodedata.normalize("NFC", subject)) is not None


class PhotoFilter:
    """Decides which files and folders a walk takes, and counts those that it passes over.

    Passed over are hidden files and folders (not counted), folders that machines make (``@eaDir``, ``$RECYCLE.BIN`` …),
    Obelisk's own output, pictures of other formats, links to folders that are read under their own name, and what
    ``exclude`` names: globs, in which ``*`` stands for any text. A glob without a slash is compared with the name of
    every file and folder, one with a slash with the path from the walked folder; a slash at its end restricts it to
    folders.

    Raises UsageError for an empty glob.
    """

    def __init__(self, exclude: Iterable[str] = ()) -> None:
        self.exclude = tuple(exclude)
        self._patterns = [parse_pattern(glob) for glob in self.exclude]
        self.excluded = self.own_pictures = self.own_folders = 0
        self.other_formats: Counter[str] = Counter()
        self.machine_folders: Counter[str] = Counter()
        self.links: list[str] = []

    def excludes(self, path: str, *, folder: bool = False) -> bool:
        """Return whether a glob excludes a path; count it if so."""
        excluded = any(pattern.matches(path, folder=folder) for pattern in self._patterns)
        self.excluded += excluded
        return excluded

    def takes_folder(self, name: str, path: str) -> bool:
        """Return whether a folder is to be walked; count it if not."""
        if MACHINE_FOLDERS.fullmatch(name.lower()):
            self.machine_folders[name] += 1
            return False
        return not name.startswith(".") and not self.excludes(path, folder=True)

    def takes_file(self, name: str, path: str) -> bool:
        """Return whether a file is a photo by its name; count it if it is a picture that is passed over."""
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - millions of names pass through here
        if name.startswith(".") or not (suffix in PHOTO_SUFFIXES or PICTURE_SUFFIX.fullmatch(suffix)):
            return False
        if self.exclude and self.excludes(path):
            return False
        if OWN_PICTURE.fullmatch(name.lower()):
            self.own_pictures += 1
            return False
        if suffix not in PHOTO_SUFFIXES:
            self.other_formats[suffix[1:]] += 1
            return False
        return True

    def takes_contents(self, files: Iterable[str]) -> bool:
        """Return whether a folder with these files is not Obelisk's own output; count it if it is."""
        names = set(files)
        own = any(marks <= names for marks in OWN_FOLDERS)
        self.own_folders += own
        return not own

    @property
    def passed_over(self) -> int:
        """The number of files, folders and links that were passed over so far."""
        counts = (self.excluded, self.own_pictures, self.own_folders, len(self.links))
        return sum(counts) + self.other_formats.total() + self.machine_folders.total()

    def describe(self) -> str:
        """Return one sentence on what was passed over so far, or an empty string."""
        pictures, folders = self.other_formats.total(), self.machine_folders.total()
        shown = ", ".join(self.links[:NAMED_LINKS]) + (" …" if len(self.links) > NAMED_LINKS else "")
        parts = [
            (pictures, "picture of another format", "pictures of other formats", list_counts(self.other_formats)),
            (folders, "folder that machines make", "folders that machines make", list_counts(self.machine_folders)),
            (self.own_pictures, "of Obelisk's own pictures", "of Obelisk's own pictures", ""),
            (self.own_folders, "folder of Obelisk's own output", "folders of Obelisk's own output", ""),
            (self.excluded, "excluded", "excluded", ""),
            (len(self.links), "link to a folder that is read anyway", "links to folders that are read anyway", shown),
        ]
        told = [
            f"{count:,} {one if count == 1 else many}" + (f" ({details})" if details else "")
            for count, one, many, details in parts
            if count
        ]
        return f"passed over: {', '.join(told)}" if told else ""


def parse_pattern(glob: str) -> ExcludePattern:
    """Compile a glob of ``--exclude``. Raises UsageError for an empty one."""
    path = unicodedata.normalize("NFC", glob.replace(os.sep, "/"))
    inner = path.removeprefix("./").strip("/")
    if not inner:
        raise UsageError(f"`{glob}` names nothing", where="--exclude", fix="give a glob, such as '*_edited*' or 'raw/'")
    return ExcludePattern(
        expression=re.compile(fnmatch.translate(inner)),
        of_path="/" in inner or path.startswith(("/", "./")),
        folders_only=path.endswith("/"),
    )


def list_counts(counts: Counter[str]) -> str:
    """Return counts by name, as ``2 avif, 1 bmp``."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def raise_unlistable(error: OSError) -> None:
    """Raise UsageError for a folder that is missing or can't be listed."""
    raise UsageError(f"the folder cannot be searched: {error.strerror}", where=error.filename) from error


def advise_unlistable(error: OSError) -> str:
    """Return what helps against the error of a folder that can't be listed; "" if nothing is known to."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "change its permissions"
    return "move it up: its path is too long" if error.errno == errno.ENAMETOOLONG else ""


def find_photos(
    folder: Path | str, onerror: Callable[[OSError], None] = raise_unlistable, photo_filter: PhotoFilter | None = None
) -> list[Path]:
    """Find the photo files below a folder, at any depth, by their suffix; return their paths, sorted.

    ``photo_filter`` decides what is passed over, and counts it. If ``folder`` is a file, it is returned whatever its
    name. ``onerror`` is called for a folder that is missing or can't be listed; by default that raises UsageError.
    """
    folder = Path(folder)
    if folder.is_file():
        return [folder]
    walk = walk_photos(folder, onerror, photo_filter)
    return sorted((parent / name for parent, names in walk for name in names), key=str)


def walk_photos(
    folder: Path,
    onerror: Callable[[OSError], None],
    photo_filter: PhotoFilter | None = None,
    *,
    root: Path | None = None,
) -> Iterator[tuple[Path, list[str]]]:
    """Yield every folder from ``folder`` down, with the names of its photo files.

    Links to folders are followed after everything else, and each real folder is walked once: a link never takes the
    name of a folder that is there. ``onerror`` is called for a folder that can't be listed. ``root`` is the folder that
    paths are relative to, for the filter; by default ``folder``.
    """
    chosen = photo_filter or PhotoFilter()
    origin = root or folder
    walked: dict[str, str] = {}
    pending = deque([folder])
    while pending:
        start = pending.popleft()
        if (real := os.path.realpath(start)) in walked:
            chosen.links.append(f"{relative_path(start, origin)} → {walked[real] or 'the whole folder'}")
            continue
        for found, folders, files in os.walk(start, followlinks=True, onerror=onerror):
            parent = Path(found)
            prefix = relative_path(parent, origin)
            if (real := os.path.realpath(found)) in walked or (parent != folder and not chosen.takes_contents(files)):
                folders.clear()
                continue
            walked[real] = prefix
            within = f"{prefix}/" if prefix else ""
            kept = sorted(name for name in folders if chosen.takes_folder(name, within + name))
            links = [name for name in kept if is_link(parent / name)]
            pending.extend(parent / name for name in links)
            folders[:] = [name for name in kept if name not in links]
            yield parent, [name for name in files if chosen.takes_file(name, within + name)]


def relative_path(path: Path, root: Path) -> str:
    """Return a path relative to a folder, with forward slashes; empty for the folder itself."""
    relative = path.relative_to(root).as_posix()
    return "" if relative == "." else relative


def is_link(folder: Path) -> bool:
    """Return whether a folder is a link or, on Windows, a junction."""
    is_junction: Callable[[Path], bool] = getattr(os.path, "isjunction", lambda path: False)  # since Python 3.12
    return os.path.islink(folder) or is_junction(folder)  # noqa: PTH114 - Path.is_symlink raises where we may not look
