"""``obelisk embed``, and the gallery that is built of what it made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def work_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def dump(gallery: str) -> list[object]:
    with closing(sqlite3.connect(f"file:{gallery}/gallery.sqlite?mode=ro", uri=True)) as database:
        tables = ("landmarks", "photos", "embeddings")
        return [database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables]


def test_a_gallery_of_embedded_photos_is_that_of_the_photos(
    obelisk: Any, places: Path, run_folder: Path, other_bundle: Path
) -> None:
    (places / "Dome" / "3.jpg").write_bytes(b"no photo")
    code, out, err = obelisk("embed", places, "--out", "e", "--model", run_folder, "--shard", "1/2")
    assert (code, out) == (1, "e: 10 photos of shard 1/2 (10 new, 1 of them unusable)\n")
    assert "not a photo" in err
    assert "all parts are there: `obelisk gallery build GALLERY --embedded e`" in err
    code, out, _ = obelisk("embed", places, "--out", "e")  # the model is that of the folder
    assert (code, out) == (1, "e: 10 photos (0 new, 1 of them unusable)\n")
    built = obelisk("gallery", "build", "built", "--embedded", "e")
    assert "9 of 9 embeddings taken from e" in built[2]
    direct = obelisk("gallery", "build", "direct", "--data", places, "--model", run_folder)
    assert [line.partition(": ")[2] for line in (built[1], direct[1])] == 2 * [
        "9 photos of 3 landmarks (9 new, 1 unusable)\n"
    ]
    assert dump("built") == dump("direct")
    code, out, _ = obelisk("gallery", "build", "built", "--embedded", "e", "--data", places)
    assert out == "built: 9 photos of 3 landmarks (9 unchanged, 1 unusable)\n"
    code, _, err = obelisk("gallery", "build", "strange", "--embedded", "e", "--model", other_bundle)
    assert code == 2
    assert "the embeddings are of model `colors`" in err
    assert not Path("strange").exists()
    places.rename("elsewhere")
    code, _, err = obelisk("gallery", "build", "built", "--embedded", "e")
    assert code == 2
    assert "the photos are not where they were" in err
    assert "name their folder: --data DIR" in err
    code, out, _ = obelisk("gallery", "build", "built", "--embedded", "e", "--data", "elsewhere")
    assert out == "built: 9 photos of 3 landmarks (9 unchanged, 1 unusable)\n"


def test_what_cannot_be_embedded_is_told(obelisk: Any, places: Path, run_folder: Path) -> None:
    cases = {
        ("embed", places, "--out", "e", "--shard", "0/4"): "shards are counted from 1: give 1/4 to 4/4",
        ("embed", "nowhere", "--out", "e"): "no such folder",
        ("embed", places, "--out", places): "something other than embeddings",
        ("gallery", "build", "g"): "name a dataset: --data DIR",
        ("gallery", "build", "g", "--embedded", places): "no embeddings here",
    }
    for words, said in cases.items():
        code, out, err = obelisk(*words, "--model", run_folder)
        assert (code, out) == (2, ""), err
        assert said in err
