"""Galleries that somebody prepared: none runs a statement of its own, and what is not ours is refused or named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, ObeliskError
from obelisk.gallery import Gallery, check_gallery, first_look, gather_facts, landmark_counts

D = 24
ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT"


@pytest.fixture(autouse=True)
def refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes to these galleries, so that there is nothing to wait for."""
    monkeypatch.setattr(first_look, "SETTLED", 0.0)


@pytest.fixture
def folder(tmp_path: Path, bundle: Bundle) -> Path:
    gallery = Gallery.create(tmp_path / "city", bundle)
    gallery.add(np.eye(D)[:3], ["Dome", "Dome", "Gate"], ["a", "b", "c"])
    return gallery.path


def prepare(folder: Path, script: str) -> None:
    """Run a script on the database, in which the schema may be rewritten."""
    with closing(sqlite3.connect(folder / "gallery.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.executescript(script)


def replace_table(table: str, view: str) -> str:
    return f"DROP TABLE {table}; CREATE VIEW {table} AS {view}"


def rewrite(name: str, old: str, new: str) -> str:
    """Change the statement that SQLite keeps of a table."""
    old, new = old.replace("'", "''"), new.replace("'", "''")
    return f"UPDATE sqlite_schema SET sql = replace(sql, '{old}', '{new}') WHERE name = '{name}'"


FOREIGN = {
    "trigger that never ends": f"CREATE TRIGGER t AFTER INSERT ON photos BEGIN {ENDLESS} n FROM r; END",
    "trigger that deletes": "CREATE TRIGGER t AFTER INSERT ON photos BEGIN DELETE FROM embeddings; END",
    "trigger called as an index is": "CREATE TRIGGER photos_by_content2 AFTER DELETE ON photos BEGIN SELECT 1; END",
    "view for landmarks": replace_table("landmarks", f"{ENDLESS} n id, 'x' name, 1 latitude, 1 longitude FROM r"),
    "view for photos": replace_table("photos", "SELECT 1 row, hex(zeroblob(300000000)) id"),
    "view for embeddings": replace_table("embeddings", "SELECT 1 row, zeroblob(900000000) vector"),
    "view besides": "CREATE VIEW v AS SELECT * FROM photos",
    "generated column": "ALTER TABLE photos ADD COLUMN g AS (hex(zeroblob(50000000)))",
    "column more": "ALTER TABLE landmarks ADD COLUMN height REAL",
    "table besides": "CREATE TABLE notes (text)",
    "virtual table": "CREATE VIRTUAL TABLE v USING fts5(text)",
    "index of an expression": "CREATE INDEX i ON photos (hex(id))",
    "index of some rows": "CREATE INDEX i ON photos (id) WHERE length(id) > 3",
    "index that is unique": "CREATE UNIQUE INDEX i ON photos (id, landmark_id)",
    "index in another order": "CREATE INDEX i ON photos (id COLLATE NOCASE)",
    "no index": "DROP INDEX photos_by_landmark",
    "no table": "DROP TABLE calibration",
    "check of a table": rewrite("photos", "source TEXT NOT NULL", "source TEXT NOT NULL CHECK (length(source) < 9)"),
    "default of a column": rewrite("photos", "DEFAULT ''", "DEFAULT (hex(zeroblob(9)))"),
    "unique that replaces": rewrite("photos", "NOT NULL UNIQUE", "NOT NULL UNIQUE ON CONFLICT REPLACE"),
    "deletion that spreads": rewrite(
        "photos", "REFERENCES landmarks (id)", "REFERENCES landmarks (id) ON DELETE CASCADE"
    ),
    "names in another order": rewrite("landmarks", "name TEXT NOT NULL", "name TEXT NOT NULL COLLATE NOCASE"),
    "comment": rewrite("landmarks", "name TEXT", "name /* x */ TEXT"),
    "another statement behind": rewrite("embeddings", ")", "); DROP TABLE photos"),
    "many tables": "BEGIN;" + "".join(f"CREATE TABLE t{n} (a);" for n in range(300)) + "COMMIT",
    "long statement": f"CREATE TABLE t ({', '.join(f'column_{n}' for n in range(900))})",
}


@pytest.mark.parametrize("script", FOREIGN.values(), ids=FOREIGN)
def test_a_schema_that_is_not_ours_is_refused_untouched(folder: Path, script: str) -> None:
    gallery = Gallery.open(folder)
    prepare(folder, script)
    before = (folder / "gallery.sqlite").read_bytes()
    for use in (
        lambda: Gallery.open(folder),
        lambda: check_gallery(folder),
        gallery.references,
        lambda: gallery.add(np.eye(D)[:1], ["Dome"], ["new"]),
    ):
        with pytest.raises(GalleryError, match=r"not that of a gallery: it has|too many pages|does not fit"):
            use()
    assert (folder / "gallery.sqlite").read_bytes() == before
    assert [path.name for path in folder.glob("gallery*")] == ["gallery.sqlite"]


def test_plain_indexes_and_statistics_are_welcome(folder: Path) -> None:
    prepare(
        folder,
        "CREATE INDEX by_source ON photos (source, path); CREATE INDEX x.y ON embeddings (row)".replace("x.", ""),
    )
    prepare(folder, "ANALYZE")
    assert check_gallery(folder) == []
    Gallery.open(folder).add(np.eye(D)[:1], ["Dome"], ["new"])


VALUES = {
    "photos.id": ("UPDATE photos SET id = x'ff00' WHERE row = 2", "photos"),
    "photos.source": ("UPDATE photos SET source = zeroblob(70000)", "photos"),
    "photos.content_hash": ("UPDATE photos SET content_hash = hex(zeroblob(40000))", "photos"),
    "photos.landmark_id": ("UPDATE photos SET landmark_id = 'x' WHERE row = 1", "references"),
    "photos.path": ("UPDATE photos SET path = x'00'", "photos"),
    "photos.folder_id": ("UPDATE photos SET folder_id = 'x'", None),
    "landmarks.name": ("UPDATE landmarks SET name = x'446f6d65' WHERE id = 1", "references"),
    "landmarks.id": (
        "UPDATE landmarks SET id = -12 WHERE id = 1; UPDATE photos SET landmark_id = -12 WHERE landmark_id = 1",
        None,
    ),
    "landmarks.latitude": ("UPDATE landmarks SET latitude = 9e999, longitude = 1", None),
    "landmarks.longitude": ("UPDATE landmarks SET latitude = 1, longitude = '43,8791'", None),
    "landmarks.links": ("UPDATE landmarks SET links = zeroblob(9)", "references"),
    "links": ("UPDATE landmarks SET links = '{\"a\": 1}'", "references"),
    "origins": ("UPDATE landmarks SET origins = '[1, 2]'", "references"),
    "folders.path": ("INSERT INTO folders VALUES (1, x'00', '')", "photos"),
    "calibration.content": ("INSERT INTO calibration VALUES (1, x'00')", None),
    "calibration is no JSON": ("INSERT INTO calibration VALUES (1, '{')", None),
    "about.value": ("INSERT INTO about VALUES ('note', x'00')", None),
    "`revision`": ("UPDATE about SET value = 'x' WHERE key = 'revision'", None),
    "cannot be read": ("UPDATE landmarks SET name = CAST(x'ff' AS TEXT)", "references"),
    "too big": ("UPDATE landmarks SET name = hex(zeroblob(3000000))", "references"),
}


@pytest.mark.parametrize(("named", "case"), VALUES.items(), ids=VALUES)
def test_a_value_of_a_wrong_kind_is_named_and_never_ends_in_a_strange_error(
    folder: Path, named: str, case: tuple[str, str | None]
) -> None:
    script, refused = case
    prepare(folder, script)
    assert named in " ".join(check_gallery(folder))
    uses: dict[str, Callable[[Gallery], object]] = {
        "references": lambda gallery: [landmark.name for landmark in gallery.references().landmarks.values()],
        "photos": lambda gallery: [photo.id for photo in gallery.photos],
        "facts": gather_facts,
        "landmarks": lambda gallery: json.dumps([vars(one) for one in landmark_counts(gallery)], allow_nan=False),
        "add": lambda gallery: gallery.add(np.eye(D)[:1], ["Gate"], ["new"]),
    }
    failed = set()
    for name, use in uses.items():
        try:
            use(Gallery.open(folder))
        except ObeliskError:
            failed.add(name)
    assert refused in failed if refused else not failed - {"add"}


def test_used_up_search_ids_are_not_a_full_disk(folder: Path) -> None:
    prepare(folder, f"UPDATE sqlite_sequence SET seq = {2**63 - 1} WHERE name = 'photos'")
    with pytest.raises(GalleryError, match="used up its search ids"):
        Gallery.open(folder).add(np.eye(D)[:1], ["Dome"], ["new"])
    assert len(Gallery.open(folder)) == 3


def test_a_gallery_that_was_emptied_says_so(folder: Path) -> None:
    gallery = Gallery.open(folder)
    gallery.remove(photos=["a", "b", "c"])
    with pytest.raises(GalleryError, match="the gallery has no reference photos · add some"):
        gallery.search(np.eye(D)[:1], 1)


def test_a_path_that_is_no_gallery_is_told_from_a_damaged_one(folder: Path, places: Path) -> None:
    cases = {
        folder / "gallery.sqlite": f"something inside of one .* name the gallery's folder: {folder}",
        folder / "model": "something inside of one",
        places: f"if these are photos, build a gallery of them: `obelisk gallery build GALLERY --data {places}`",
        places / "Dome" / "0.png": "not a gallery, which is a folder, but a file",
    }
    for path, text in cases.items():
        with pytest.raises(GalleryError, match=text) as caught:
            Gallery.open(path)
        assert "move the folder away" not in str(caught.value)
