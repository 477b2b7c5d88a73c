"""Hand a gallery on: export it to one file, and import such a file as a gallery.

What is exported says nothing about the machine it comes from. The web addresses of photos stay; the paths of their
files do not, and the files themselves only come along if asked for.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from obelisk.bundled import locate_gallery
from obelisk.embedding import LARGEST_JSON, Bundle
from obelisk.errors import GalleryError, UsageError
from obelisk.files import growing_beside, is_occupied, move_folder, naming_full_disk
from obelisk.gallery import database, schema
from obelisk.gallery.address import is_address
from obelisk.gallery.archive import (
    ArchiveManifest,
    Source,
    extract_files,
    is_archive,
    open_archive,
    write_archive,
)
from obelisk.gallery.changes import write_landmarks
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.gallery_check import check_gallery
from obelisk.gallery.lookup import all_landmarks, select_photos
from obelisk.gallery.places import open_truth
from obelisk.gallery.push import CALIBRATION_FILE, push_gallery
from obelisk.gallery.reference_files import read_same_photo
from obelisk.gallery.schema import DATABASE, ReferencePhoto
from obelisk.gallery.sqlite_truth import MODEL
from obelisk.gallery.truth import Tables, Truth
from obelisk.photos import read_bytes
from obelisk.records import Progress, no_progress

PHOTOS = "photos"
# What a gallery that names files of the machine it is read on would have, but no exported one has.
FOREIGN_PATHS = (
    "SELECT EXISTS (SELECT 1 FROM photos WHERE (source != '' AND source NOT LIKE '%_://_%')"
    " OR (path != '' OR folder_id IS NOT NULL) AND (folder_id IS NOT 1"
    " OR path GLOB '*[^0-9a-z.]*' OR path GLOB '*..*' OR path = ''))"
    f" OR EXISTS (SELECT 1 FROM folders WHERE (id, path, beside) != (1, '{PHOTOS}', '{PHOTOS}'))"
)


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What was exported or imported; ``missing`` counts photos whose files were asked for, but are not at hand."""

    gallery: Gallery
    manifest: ArchiveManifest
    missing: int = 0


def export_gallery(
    gallery: Gallery, path: Path, *, photos: bool = False, note: str = "", progress: Progress = no_progress
) -> Handover:
    """Write a gallery to one file: its landmarks, embeddings, calibration and model; the photos only if asked for.

    The same gallery gives the same bytes. Raises :class:`UsageError` if ``path`` holds anything but an exported
    gallery, and :class:`GalleryError` or :class:`ModelError` for a damaged one.
    """
    if path.exists() and (path.is_dir() or not is_archive(path)):
        what = "this is a folder" if path.is_dir() else "this file is not an exported gallery, and stays"
        raise UsageError(what, where=path, fix="name a new file, such as mycity.tar")
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming_full_disk(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as made:
        folder = Path(made)
        bundle = gallery.load_bundle().save_to(folder / MODEL)
        with gallery.truth.reading() as connection, database.translating_errors(folder):
            files = copy_database(connection, folder, with_files=photos)
        names = [DATABASE, *sorted(f"{MODEL}/{file.name}" for file in (folder / MODEL).iterdir())]
        sources = [Source(name=name, open=partial(open_bytes, folder / name)) for name in names]
        if (own := gallery.truth.read_file(CALIBRATION_FILE, LARGEST_JSON)) is not None:
            (folder / CALIBRATION_FILE).write_bytes(own)
            sources.append(Source(name=CALIBRATION_FILE, open=partial(open_bytes, folder / CALIBRATION_FILE)))
        sources += [Source(name=f"{PHOTOS}/{name}", open=partial(open_photo, file)) for name, file in files.items()]
        manifest = describe_gallery(folder, bundle, note, sources)
        write_archive(path, manifest, sources, progress)
    return Handover(gallery=gallery, manifest=manifest, missing=manifest.photos - len(files) if photos else 0)


def describe_gallery(folder: Path, bundle: Bundle, note: str, sources: list[Source]) -> ArchiveManifest:
    """Return the manifest of a gallery's copy."""
    with database.reading(folder) as connection:
        count = "SELECT (SELECT count(*) FROM landmarks), (SELECT count(*) FROM photos)"
        landmarks, photos = connection.execute(count).fetchone()
    return ArchiveManifest(
        landmarks=landmarks,
        photos=photos,
        model=bundle.name,
        licence=bundle.manifest.licence,
        data=bundle.manifest.data,
        note=note,
        files=tuple(source.describe() for source in sources),
    )


def open_bytes(file: Path) -> BinaryIO:
    """Open a file."""
    return file.open("rb")


def open_photo(file: Path) -> BinaryIO:
    """Open a photo, which may lie inside of a tar."""
    return io.BytesIO(read_bytes(file))


def copy_database(origin: Tables, folder: Path, *, with_files: bool) -> dict[str, Path]:
    """Copy a gallery's tables to a new database, without paths of this machine; return name → file of the photos.

    Landmarks and photos keep their numbers; the copy is of the current format, and in the state of its origin.
    """
    files: dict[str, Path] = {}
    with closing(database.connect(folder, "mode=rwc")) as copy:
        copy.execute("PRAGMA journal_mode = WAL")
        copy.execute("BEGIN")
        schema.create_tables(copy)
        write_landmarks(copy, *all_landmarks(origin).values())
        copy.executemany("INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", list_rows(origin, files, with_files))
        if files:
            copy.execute("INSERT INTO folders VALUES (1, ?, ?)", (PHOTOS, PHOTOS))
        copy.executemany(
            "INSERT INTO embeddings VALUES (?, ?)", origin.stream("SELECT row, vector FROM embeddings ORDER BY row")
        )
        copy.executemany("INSERT INTO about VALUES (?, ?)", list_about(origin))
        if kept := schema.read_own_calibration(origin):
            copy.execute("INSERT INTO calibration VALUES (?, ?)", (kept[1], kept[0]))
        copy.execute("COMMIT")
    return files


def list_rows(origin: Tables, files: dict[str, Path], with_files: bool) -> Iterator[tuple[object, ...]]:
    """Yield the rows of ``photos``; note in ``files`` where those lie that come along."""
    for row, photo in select_photos(origin, "TRUE ORDER BY row", ()):
        source = photo.source if "://" in photo.source else ""
        name = ""
        if with_files and photo.file and read_same_photo(photo) is not None:
            name = f"{row:06}{safe_suffix(photo)}"
            files[name] = photo.file
        about_file = source, name, 1 if name else None, photo.author, photo.licence
        yield row, photo.id, photo.landmark_id, photo.content_hash, *about_file


def safe_suffix(photo: ReferencePhoto) -> str:
    """Return the suffix that a photo's file has in the copy."""
    suffix = photo.file.suffix.lower() if photo.file else ""
    return suffix if re.fullmatch(r"\.[a-z]{1,9}", suffix) else ".jpg"


def list_about(origin: Tables) -> list[tuple[str, str]]:
    """Return the entries of ``about``; an identity that an old format lacks is made of its photos."""
    entries = dict(origin.execute("SELECT key, value FROM about ORDER BY key").fetchall())
    digest = blake2b(digest_size=16)
    for line in origin.stream("SELECT row, id, landmark_id FROM photos ORDER BY row"):
        digest.update(repr(line).encode("utf-8", "surrogatepass"))
    for name in ("identity", "state"):
        entries.setdefault(name, digest.hexdigest())
    return sorted(entries.items())


def import_gallery(path: Path, place: Path | str, *, progress: Progress = no_progress) -> Handover:
    """Make a gallery of a file that :func:`export_gallery` wrote; it appears complete, checked whole, or not at all.

    Raises :class:`GalleryError` if there is anything at ``place`` but an empty folder, and for a file that is damaged,
    or holds what no exported gallery does.
    """
    if is_address(place):
        return import_to_database(path, open_truth(place), progress)
    place = locate_gallery(place)
    if is_occupied(place):
        raise GalleryError("this path already exists", where=place, fix="choose a new folder")
    with open_archive(path) as (manifest, archive):
        place.parent.mkdir(parents=True, exist_ok=True)
        with (
            naming_full_disk(place),
            tempfile.TemporaryDirectory(dir=growing_beside(place), prefix=f".{place.name}.") as made,
        ):
            folder = Path(made) / place.name
            folder.mkdir()
            extract_files(archive, manifest, path, folder, progress)
            refuse_unsound(folder, path)
            if (folder / PHOTOS).is_dir():
                with database.writing(folder) as connection:
                    connection.execute("UPDATE folders SET path = ?", (str(place.absolute() / PHOTOS),))
            move_folder(folder, place)
    return Handover(gallery=Gallery.open(place), manifest=manifest)


def import_to_database(path: Path, target: Truth, progress: Progress) -> Handover:
    """Make a gallery in a database of such a file; the photos whose files are in it come without them."""
    if target.exists():
        what, fix = "there is a gallery already", "name another schema: ?schema=NAME"
        raise GalleryError(what, where=target.name, fix=fix)
    with tempfile.TemporaryDirectory(prefix="obelisk.") as made:
        imported = import_gallery(path, Path(made) / "gallery", progress=progress)
        done = push_gallery(imported.gallery, target, recall=False, progress=progress)
    return Handover(gallery=done.gallery, manifest=imported.manifest)


def refuse_unsound(folder: Path, path: Path) -> None:
    """Raise :class:`GalleryError` for a gallery with a problem, or one that names files of this machine."""
    fix = "ask whoever exported it for another copy"
    try:
        problems = check_gallery(folder)
    except GalleryError as error:
        problems = [error.what]
    if problems:
        raise GalleryError(f"the gallery in the file is damaged: {problems[0]}", where=path, fix=fix)
    with database.reading(folder) as connection:
        if connection.execute(FOREIGN_PATHS).fetchone()[0]:
            raise GalleryError("the gallery in the file names files of this machine", where=path, fix=fix)
