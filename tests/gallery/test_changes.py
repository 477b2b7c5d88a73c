"""Adding photos one by one, removing, renaming, merging."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from obelisk.embedding import Bundle, Embedded
from obelisk.errors import GalleryError, UsageError
from obelisk.gallery import (
    Addition,
    Gallery,
    Landmark,
    add_photos,
    check_gallery,
    database,
    find_landmark,
    gather_facts,
    landmark_counts,
    landmark_names,
    target_landmark,
)
from obelisk.gallery.schema import FORMAT

D = 24


@pytest.fixture
def gallery(tmp_path: Path, bundle: Bundle) -> Gallery:
    """Dome (1) of 2 photos, Gate (2) of 1, a second Gate (5) of 1."""
    gallery = Gallery.create(tmp_path / "city", bundle)
    gate = Landmark(id=5, name="Gate", latitude=1.0, longitude=2.0)
    gallery.add(np.eye(D)[:4], ["Dome", "Dome", "Gate", gate], ["a", "b", "c", "d"])
    return gallery


def shown(gallery: Gallery) -> dict[str, tuple[str, ...]]:
    ids: dict[str, tuple[str, ...]] = {}
    for photo in gallery.photos:
        name = f"{landmark_names(gallery)[photo.landmark_id or 0]} {photo.landmark_id}"
        ids[name] = (*ids.get(name, ()), photo.id)
    return ids


def files_of(additions: list[Addition], *, new: bool) -> list[str]:
    return [addition.path.name for addition in additions if addition.photo and addition.new is new]


def test_photos_are_added_once_each(gallery: Gallery, places: Path, embedder: Any) -> None:
    shutil.copy(places / "Dome" / "1.png", places / "Dome" / "copy.png")
    (places / "Dome" / "text.jpg").write_text("a text")
    paths = sorted((places / "Dome").iterdir())
    first = list(add_photos(gallery, paths, "Dome", embedder=embedder))
    assert [addition.path for addition in first] == paths
    assert files_of(first, new=True) == ["0.png", "1.png", "2.png", "3.png"]
    assert files_of(first, new=False) == ["copy.png"]
    assert [addition.path.name for addition in first if addition.error] == ["text.jpg"]
    photo = first[0].photo
    assert photo is not None
    assert photo.id == f"0-{photo.content_hash[:8]}.png"
    assert photo.file == paths[0]
    assert first[4].photo == first[1].photo

    embedder.seen.clear()
    again = list(add_photos(gallery, paths, "Dome", embedder=embedder))
    assert files_of(again, new=True) == []
    assert [path.name for path in embedder.seen] == ["text.jpg"], "known photos are not embedded again"
    assert len(gallery) == 8
    assert check_gallery(gallery.path) == []


def test_a_photo_of_another_landmark_is_an_error_and_stays(gallery: Gallery, places: Path, embedder: Any) -> None:
    path = places / "Dome" / "0.png"
    list(add_photos(gallery, [path], "Dome", embedder=embedder))
    for landmark in ("Tower", 2, Landmark(id=9, name="Dome")):
        (refused,) = add_photos(gallery, [path], landmark, embedder=embedder)
        assert "of `Dome`" in str(refused.error)
    for landmark in ("Dome", 1, Landmark(id=1, name="Dome")):
        (addition,) = add_photos(gallery, [path], landmark, embedder=embedder)
        assert (addition.error, addition.new) == (None, False)
    assert set(landmark_names(gallery)) == {1, 2, 5}


def test_one_name_twice_makes_two_ids(
    gallery: Gallery, tmp_path: Path, embedder: Any, photograph: Callable[..., None]
) -> None:
    paths = [tmp_path / folder / "photo.png" for folder in "ab"]
    for seed, path in enumerate(paths):
        photograph(path, (10, 20, 30), seed)
    first, second = (addition.photo for addition in add_photos(gallery, paths, "Tower", embedder=embedder))
    assert first is not None
    assert second is not None
    assert first.id != second.id
    assert first.landmark_id == second.landmark_id == 6


def test_what_was_reported_is_safe_before_the_next_photo_is_read(
    gallery: Gallery, places: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obelisk.gallery.add.COMMIT_EVERY", 2)
    additions = add_photos(gallery, sorted((places / "Dome").iterdir()), "Dome", embedder=embedder)
    addition = next(additions).photo
    assert addition is not None
    assert addition.id in {photo.id for photo in Gallery.open(gallery.path).photos}
    assert len(embedder.seen) == 2


def test_a_photo_removed_by_another_in_the_meantime(gallery: Gallery, places: Path, embedder: Any) -> None:
    paths = sorted((places / "Dome").iterdir())[:2]
    (first,) = add_photos(gallery, paths[:1], "Dome", embedder=embedder)
    embed = embedder.embed

    def remove_first(sources: Any) -> Iterator[Embedded]:
        assert first.photo is not None
        Gallery.open(gallery.path).remove(photos=[first.photo.id])
        return embed(sources)

    embedder.embed = remove_first
    lost, added = add_photos(gallery, paths, "Dome", embedder=embedder)
    assert "was removed from the gallery just now" in str(lost.error)
    assert added.new


@pytest.mark.parametrize(
    ("name", "landmark_id", "chosen"),
    [
        pytest.param("Dome", None, "Dome", id="a known name"),
        pytest.param("Tower", None, "Tower", id="a new name"),
        pytest.param("Gate", 5, Landmark(id=5, name="Gate"), id="one of two of a name"),
        pytest.param("Gate", 7, Landmark(id=7, name="Gate"), id="a third of the name"),
        pytest.param("Tower", 7, Landmark(id=7, name="Tower"), id="a new name with an id"),
    ],
)
def test_a_landmark_is_chosen(gallery: Gallery, name: str, landmark_id: int | None, chosen: Landmark | str) -> None:
    assert target_landmark(gallery, name, landmark_id) == chosen


@pytest.mark.parametrize(
    ("name", "landmark_id", "text"),
    [
        pytest.param("Gate", None, r"2 landmarks are called `Gate` · ids \[2, 5\]", id="a name of two"),
        pytest.param("Dom", 1, "the id 1 is that of `Dome`, not `Dom`", id="the id of another"),
    ],
)
def test_a_landmark_is_not_guessed_at(gallery: Gallery, name: str, landmark_id: int | None, text: str) -> None:
    with pytest.raises(GalleryError, match=text):
        target_landmark(gallery, name, landmark_id)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x00", "\ud800"])
def test_a_name_nobody_could_read_is_refused(gallery: Gallery, name: str) -> None:
    with pytest.raises(GalleryError, match="cannot be a landmark's name"):
        gallery.rename(1, name)
    with pytest.raises(GalleryError, match="cannot be a landmark's name"):
        gallery.add(np.eye(D)[:1], [name], ["new"])


@pytest.mark.parametrize("landmark_id", [-1, 2**53, 2**70])
def test_an_id_others_could_not_hold_is_refused(gallery: Gallery, landmark_id: int) -> None:
    with pytest.raises(GalleryError, match="cannot be a landmark's id"):
        gallery.add(np.eye(D)[:1], [Landmark(id=landmark_id, name="Tower")], ["new"])


KNOWN = {1: "Dome", 2: "Gate", 5: "Gate", 7: "Arch", 9: "42", 42: "Mill"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        pytest.param("Dome", 1, id="a name"),
        pytest.param("1", 1, id="an id"),
        pytest.param("007", 7, id="an id with zeros"),
        pytest.param("42", 9, id="a name before an id"),
    ],
)
def test_people_name_landmarks(given: str, found: int) -> None:
    assert find_landmark(given, KNOWN, Path("my city")) == found


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param("Gate", r"2 landmarks are called `Gate` · ids \[2, 5\] · give the id", id="a name of two"),
        pytest.param("Domw", r"no landmark `Domw` · did you mean `Dome`\?", id="a mistyped name"),
        pytest.param("99", r"no landmark `99` · .*info 'my city' --landmarks", id="an unknown id"),
        pytest.param("²", "no landmark `²`", id="a digit that is no number"),
    ],
)
def test_people_misname_landmarks(given: str, text: str) -> None:
    with pytest.raises(GalleryError, match=text):
        find_landmark(given, KNOWN, Path("my city"))


DOME, GATE, OTHER = {"Dome 1": ("a", "b")}, {"Gate 2": ("c",)}, {"Gate 5": ("d",)}


@pytest.mark.parametrize(
    ("change", "after"),
    [
        pytest.param(lambda g: g.rename(1, "Arch"), {"Arch 1": ("a", "b")} | GATE | OTHER, id="rename"),
        pytest.param(lambda g: g.rename(1, "Dome"), DOME | GATE | OTHER, id="its own name"),
        pytest.param(lambda g: g.merge([5], 2), DOME | {"Gate 2": ("c", "d")}, id="two of one name"),
        pytest.param(lambda g: g.merge([1, 2, 5], 5), {"Gate 5": ("a", "b", "c", "d")}, id="into one of them"),
        pytest.param(lambda g: g.merge([5, 2], 2, name="Arch"), DOME | {"Arch 2": ("c", "d")}, id="named anew"),
        pytest.param(lambda g: g.remove(landmarks=[1], photos=["c"]), OTHER, id="photo and landmark"),
        pytest.param(lambda g: g.remove(photos=["a", "b", "a"]), GATE | OTHER, id="the last photos"),
    ],
)
def test_a_change_is_seen_at_once_and_by_others(
    gallery: Gallery, change: Callable[[Gallery], None], after: dict[str, tuple[str, ...]]
) -> None:
    assert len(gallery) == 4
    change(gallery)
    assert shown(gallery) == shown(Gallery.open(gallery.path)) == after
    assert {f"{landmark.name} {landmark.id}": n for landmark, n in landmark_counts(gallery).items()} == {
        name: len(ids) for name, ids in after.items()
    }
    assert check_gallery(gallery.path) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(lambda g: g.rename(9, "Arch"), "no landmark with the id 9 · {path}", id="rename the unknown"),
        pytest.param(lambda g: g.rename(1, "Gate"), "landmark with the id 2 is called `Gate` already", id="taken name"),
        pytest.param(lambda g: g.merge([1, 9], 2), "no landmark with the id 9", id="merge the unknown"),
        pytest.param(lambda g: g.merge([1], 9), "no landmark with the id 9", id="merge into the unknown"),
        pytest.param(
            lambda g: g.merge([1], 2, name="Gate"), "the id 5 is called `Gate` already", id="merged name taken"
        ),
        pytest.param(lambda g: g.remove(photos=["a", "zz"]), "no photo with the id `zz`", id="remove the unknown"),
    ],
)
def test_a_change_that_cannot_be_made_changes_nothing(
    gallery: Gallery, change: Callable[[Gallery], None], text: str
) -> None:
    before, facts = shown(gallery), gather_facts(gallery)
    with pytest.raises(UsageError) as caught:
        change(gallery)
    assert text.format(path=gallery.path) in str(caught.value)
    assert shown(Gallery.open(gallery.path)) == before
    assert gather_facts(gallery).revision == facts.revision


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda g: g.add(np.eye(D)[:3], ["Dome", 5, "Tower"], ["x", "y", "z"]), id="add"),
        pytest.param(
            lambda g: g.add(np.eye(D)[:2], [1, Landmark(id=9, name="A")], ["a", "b"], replace=True), id="replace"
        ),
        pytest.param(lambda g: g.remove(photos=["a"], landmarks=[5]), id="remove"),
        pytest.param(lambda g: g.rename(1, "Arch"), id="rename"),
        pytest.param(lambda g: g.merge([5], 2), id="merge"),
    ],
)
def test_no_change_reads_a_whole_table(
    gallery: Gallery, change: Callable[[Gallery], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a change costs does not grow with the gallery: no step of SQLite's plans is a scan."""
    statements: list[str] = []
    connect = database.connect

    def connect_listening(folder: Path, mode: str) -> sqlite3.Connection:
        connection = connect(folder, mode)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(database, "connect", connect_listening)
    change(gallery)
    kinds = {statement for statement in statements if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))}
    assert len(kinds) > 5
    with closing(sqlite3.connect(gallery.path / "gallery.sqlite")) as connection:
        plans = {s: [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {s}")] for s in kinds}
    about = "SELECT key, value FROM about"  # a handful of rows
    assert [s for s, plan in plans.items() if s != about and any(map(is_scan, plan))] == []


def is_scan(step: str) -> bool:
    return step.startswith("SCAN") and step != "SCAN CONSTANT ROW"


def test_facts_count_what_is_there(gallery: Gallery, bundle: Bundle) -> None:
    facts = gather_facts(gallery)
    assert (facts.landmarks, facts.places, facts.photos, facts.revision, facts.format) == (3, 1, 4, 1, FORMAT)
    assert facts.fingerprint == bundle.fingerprint
    assert facts.bytes > 1000
