"""A gallery as one file: nothing is lost or betrayed on the way, and nothing but what was exported is imported."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obelisk.errors import GalleryError, UsageError
from obelisk.gallery import BuildReport, Gallery, Landmark, ReferenceFiles, export_gallery, import_gallery
from obelisk.gallery.archive import ArchiveManifest, Source, write_archive
from obelisk.records import no_progress

GOLDEN = Path(__file__).parent / "golden"
DAMAGED = r"damaged or was changed|not an exported gallery"
TAMPERING = (
    "UPDATE photos SET source = '/etc/passwd' WHERE row = 1",
    "UPDATE photos SET path = '/etc/passwd' WHERE row = 1",
    "INSERT INTO folders VALUES (1, '/etc', '')",
    "INSERT INTO folders VALUES (2, 'photos', 'photos')",
    "CREATE TRIGGER evil AFTER INSERT ON photos BEGIN DELETE FROM photos; END",
    "DELETE FROM embeddings WHERE row = 1",
    "UPDATE about SET value = 'another' WHERE key = 'fingerprint'",
)


@pytest.fixture
def city(build: Callable[..., BuildReport]) -> Gallery:
    """A gallery of nine photos on this disk and one without a file, with a calibration of its own."""
    gallery = build().gallery
    dome = next(landmark for landmark in gallery.landmarks if landmark.name == "Dome")
    links = ("https://commons.wikimedia.org/wiki/Category:Dome",)
    located = Landmark(id=dome.id, name="Dome", latitude=41.9, longitude=12.45, links=links)
    gallery.add(gallery.references().rows(np.array([0])), [located], ["no file"])
    gallery.keep_calibration('{"kept": "as it is"}')
    return gallery


@pytest.fixture
def archive(city: Gallery, tmp_path: Path) -> Path:
    export_gallery(city, tmp_path / "city.tar")
    return tmp_path / "city.tar"


def left_behind(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "mine" in path.name]


def test_what_is_imported_is_what_was_exported(city: Gallery, archive: Path, tmp_path: Path) -> None:
    found = import_gallery(archive, tmp_path / "new" / "mine").gallery
    assert found.landmarks == city.landmarks
    assert found.own_calibration() == city.own_calibration()
    assert found.load_bundle().fingerprint == city.fingerprint
    ours, theirs = city.references(), found.references()
    np.testing.assert_array_equal(theirs.ids, ours.ids)
    np.testing.assert_array_equal(theirs.rows(np.arange(len(theirs))), ours.rows(np.arange(len(ours))))
    assert [(one.id, one.content_hash) for one in found.photos] == [(one.id, one.content_hash) for one in city.photos]
    found.remove(landmarks=[found.landmarks[0].id])  # it can be changed as any other


def test_the_same_gallery_gives_the_same_bytes(city: Gallery, archive: Path, tmp_path: Path) -> None:
    export_gallery(city, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as opened:  # it is a tar that any tool reads
        assert opened.getnames()[:3] == ["manifest.json", "manifest.sha256", "gallery.sqlite"]
        assert {(entry.mtime, entry.uid, entry.uname) for entry in opened} == {(0, 0, "")}


def test_nothing_in_it_tells_where_the_photos_lay(archive: Path, tmp_path: Path) -> None:
    assert str(tmp_path).encode() not in archive.read_bytes()
    (tmp_path / "mine").mkdir()
    found = import_gallery(archive, tmp_path / "mine").gallery
    assert {photo.file for photo in found.photos} == {None}


def test_photos_come_along_if_asked_for_and_move_with_the_gallery(city: Gallery, tmp_path: Path) -> None:
    done = export_gallery(city, tmp_path / "all.tar", photos=True)
    assert (done.missing, str(tmp_path).encode() in (tmp_path / "all.tar").read_bytes()) == (1, False)
    import_gallery(tmp_path / "all.tar", tmp_path / "mine")
    (tmp_path / "mine").rename(tmp_path / "moved")
    files = ReferenceFiles()
    contents = [files.read(photo) for photo in Gallery.open(tmp_path / "moved").photos]
    assert contents == [files.read(photo) for photo in city.photos]
    assert sum(content is not None for content in contents) == 9


def test_a_web_address_stays_and_a_path_does_not(city: Gallery, tmp_path: Path) -> None:
    with city.changing() as connection:
        connection.execute("UPDATE photos SET source = 'https://example.org/a.jpg' WHERE row = 1")
        connection.execute("UPDATE photos SET source = '/home/ann/a.jpg', path = '', folder_id = NULL WHERE row = 2")
    export_gallery(city, tmp_path / "city.tar")
    sources = [photo.source for photo in import_gallery(tmp_path / "city.tar", tmp_path / "mine").gallery.photos]
    assert sources[:3] == ["https://example.org/a.jpg", "", ""]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_gallery_of_any_format_is_exported(tmp_path: Path, number: int) -> None:
    old = Path(shutil.copytree(GOLDEN / f"format-{number}", tmp_path / "old"))
    files = [tmp_path / name for name in ("one.tar", "two.tar")]
    for path in files:
        export_gallery(Gallery.open(old), path)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert import_gallery(files[0], tmp_path / "mine").gallery.landmarks == Gallery.open(old).landmarks


def test_a_byte_that_changed_anywhere_is_refused(archive: Path, tmp_path: Path) -> None:
    sound = archive.read_bytes()
    for place in np.linspace(0, len(sound) - 1, 16).astype(int).tolist():
        content = bytearray(sound)
        content[place] ^= 1
        archive.write_bytes(content)
        with pytest.raises(GalleryError, match=DAMAGED):
            import_gallery(archive, tmp_path / "mine")
    assert left_behind(tmp_path) == []


def test_a_file_that_was_cut_off_or_grew_is_refused(archive: Path, tmp_path: Path) -> None:
    sound = archive.read_bytes()
    for content in (b"", sound[:100], sound[:512], sound[:5000], sound[:-1], sound[:-512], sound + b"more"):
        archive.write_bytes(content)
        with pytest.raises(GalleryError, match=DAMAGED):
            import_gallery(archive, tmp_path / "mine")
    assert left_behind(tmp_path) == []


def test_what_is_no_export_is_refused(tmp_path: Path, city: Gallery) -> None:
    with tarfile.open(tmp_path / "other.tar", "w") as opened:
        opened.addfile(tarfile.TarInfo("manifest.json"), io.BytesIO())
    (tmp_path / "text.txt").write_text("no gallery")
    for path in (tmp_path / "other.tar", tmp_path / "text.txt", city.path, tmp_path / "gone"):
        with pytest.raises(GalleryError, match=r"no such file|not an exported gallery"):
            import_gallery(path, tmp_path / "mine")
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "model/../../outside", "photos/1.JPG", "model/.hidden", "C:x", "index/x"]
)
def test_a_file_that_no_gallery_has_is_refused(tmp_path: Path, name: str) -> None:
    content = b"hostile"
    listed = {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    about = {"landmarks": 0, "photos": 0, "model": "", "licence": "", "data": ""}
    manifest = json.dumps({**about, "files": [listed]}).encode()
    entries = {"manifest.json": manifest, "manifest.sha256": hashlib.sha256(manifest).hexdigest().encode()}
    with (tmp_path / "hostile.tar").open("wb") as file:
        for entry, text in (entries | {name: content}).items():
            info = tarfile.TarInfo(entry)
            info.size = len(text)
            file.write(info.tobuf(tarfile.GNU_FORMAT) + text + bytes(-len(text) % 512))
        file.write(bytes(1024))
    with pytest.raises(GalleryError, match="unreadable manifest"):
        import_gallery(tmp_path / "hostile.tar", tmp_path / "mine")
    assert left_behind(tmp_path) == []
    assert not (tmp_path / "outside").exists()


def rewrite(archive: Path, folder: Path, statement: str) -> Path:
    """Write an archive again as a stranger would who changed its database, and all hashes with it."""
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    manifest = ArchiveManifest.model_validate_json((folder / "manifest.json").read_text(encoding="utf-8"))
    with closing(sqlite3.connect(folder / "gallery.sqlite")) as connection, connection:
        connection.execute(statement)
    sources = [Source(name=one.name, open=lambda name=one.name: (folder / name).open("rb")) for one in manifest.files]
    changed = manifest.model_copy(update={"files": tuple(source.describe() for source in sources)})
    write_archive(folder / "changed.tar", changed, sources, no_progress)
    return folder / "changed.tar"


def test_a_gallery_that_was_tampered_with_is_refused(archive: Path, tmp_path: Path) -> None:
    for number, statement in enumerate(TAMPERING):
        changed = rewrite(archive, tmp_path / f"hostile {number}", statement)
        with pytest.raises(GalleryError, match="the gallery in the file"):
            import_gallery(changed, tmp_path / "mine")
    assert left_behind(tmp_path) == []


def test_an_interrupted_import_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_gallery(archive, tmp_path / "mine", progress=interrupt)
    assert left_behind(tmp_path) == []


def test_what_is_there_is_neither_imported_over_nor_exported_over(city: Gallery, archive: Path, tmp_path: Path) -> None:
    before = (city.path / "gallery.sqlite").read_bytes()
    for place in (city.path, "bundled"):
        with pytest.raises(GalleryError, match="already exists"):
            import_gallery(archive, place)
    assert (city.path / "gallery.sqlite").read_bytes() == before
    (tmp_path / "mine.jpg").write_bytes(b"a photo of mine")
    with pytest.raises(UsageError, match="not an exported gallery, and stays"):
        export_gallery(city, tmp_path / "mine.jpg")
    with pytest.raises(UsageError, match="a folder"):
        export_gallery(city, city.path)
    export_gallery(city, archive)  # an earlier export is replaced


def test_too_little_room_is_told_before(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage: Any = type("usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(GalleryError, match="no room"):
        import_gallery(archive, tmp_path / "mine")
