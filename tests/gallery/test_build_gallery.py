"""From a folder per landmark to a gallery: all of it, only what is new, and never half of it."""

from __future__ import annotations

import errno
import importlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from obelisk.data import read_catalog
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, GalleryLockedError
from obelisk.gallery import BuildReport, Gallery, Landmark, add_photos, build_gallery, check_gallery, database
from obelisk.gallery.changes import write_landmarks
from obelisk.gallery.landmarks import match_landmarks


def shown(gallery: Gallery) -> dict[str, str]:
    names = {landmark.id: landmark.name for landmark in gallery.landmarks}
    return {photo.id: names[photo.landmark_id or 0] for photo in gallery.photos}


def test_builds_a_whole_gallery(build: Callable[..., BuildReport], places: Path, tmp_path: Path) -> None:
    report = build()
    assert (report.embedded, report.reused, report.unchanged, report.failed) == (9, 0, 0, ())
    gallery = Gallery.open(tmp_path / "city")
    assert shown(gallery) == {photo: photo.split("/")[0] for photo in shown(gallery)}
    assert len(gallery) == 9
    assert gallery.photos[0].source == str(places / "Dome" / "0.png")
    assert check_gallery(tmp_path / "city") == []
    assert [path.name for path in tmp_path.glob("city*")] == ["city"]


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("DELETE FROM embeddings WHERE row = 1", "missing or of a wrong length"),
        ("DELETE FROM landmarks WHERE id = 2", "photos without a landmark"),
        ("UPDATE about SET value = '23' WHERE key = 'dimensions'", "states 23 dimensions, its model gives 24"),
    ],
)
def test_a_damaged_gallery_is_not_built_upon(
    build: Callable[..., BuildReport], tmp_path: Path, embedder: Any, statement: str, text: str
) -> None:
    build()
    embedder.seen.clear()
    with closing(sqlite3.connect(tmp_path / "city" / "gallery.sqlite")) as connection, connection:
        connection.execute(statement)
    with pytest.raises(GalleryError, match=f"the gallery is damaged: .*{text}"):
        build()
    assert embedder.seen == []


def write_gldv2(places: Path, folder: Path, positions: dict[str, tuple[float, float]]) -> Path:
    """Make a Google Landmarks dataset of a folder per landmark."""
    photos, categories, details = [], [], []
    for number, place in enumerate(sorted(places.iterdir()), start=1):
        categories.append(f"{number},http://commons.wikimedia.org/wiki/Category:{place.name}")
        details.append(",".join(map(str, (number, place.name, *positions.get(place.name, ("", ""))))))
        for photo in sorted(place.iterdir()):
            photo_id = f"{len(photos):016x}"
            (folder / "train/0/0/0").mkdir(parents=True, exist_ok=True)
            shutil.copy(photo, folder / f"train/0/0/0/{photo_id}.png")
            photos.append(f"{photo_id},{number}")
    tables = {"train": photos, "train_label_to_category": categories, "landmarks": details}
    headers = ("id,landmark_id", "landmark_id,category", "landmark_id,name,latitude,longitude")
    for (name, lines), header in zip(tables.items(), headers, strict=True):
        (folder / f"{name}.csv").write_text("\n".join([header, *lines, ""]))
    return folder


def test_a_dataset_gives_landmarks_positions_and_links_that_the_gallery_lacks(
    build: Callable[..., BuildReport], places: Path, tmp_path: Path
) -> None:
    data = write_gldv2(places, tmp_path / "gldv2", {"Dome": (48.5, 2.25)})
    build(data=data)
    gallery = Gallery.open(tmp_path / "city")
    commons = "https://commons.wikimedia.org/wiki/Category:"
    dome, gate, tower = gallery.landmarks
    assert [one.links for one in gallery.landmarks] == [(commons + name,) for name in ("Dome", "Gate", "Tower")]
    assert [(one.latitude, one.longitude) for one in gallery.landmarks] == [(48.5, 2.25), (None, None), (None, None)]

    with gallery.changing() as connection:  # as if these were given by hand, and lost
        for landmark in (replace(dome, latitude=1.0, longitude=2.0), replace(gate, links=())):
            write_landmarks(connection, landmark)
    write_gldv2(places, data, {"Dome": (48.5, 2.25), "Tower": (-10.0, 20.0)})
    report = build(data=data)
    assert (report.unchanged, report.embedded) == (9, 0)
    dome, gate, tower = gallery.landmarks
    assert (dome.latitude, gate.links, tower.latitude, tower.longitude) == (1.0, (commons + "Gate",), -10.0, 20.0)
    before = (tmp_path / "city" / "gallery.sqlite").read_bytes()
    build(data=data)
    assert (tmp_path / "city" / "gallery.sqlite").read_bytes() == before


def test_again_embeds_only_what_is_new(
    build: Callable[..., BuildReport], places: Path, embedder: Any, photograph: Callable[..., None]
) -> None:
    build()
    embedder.seen.clear()
    photograph(places / "Arch" / "0.png", (120, 120, 20), 90)  # comes first: shifts the ids of the other folders
    shutil.copy(places / "Gate" / "0.png", places / "Gate" / "copy.png")
    photograph(places / "Tower" / "0.png", (40, 40, 230), 91)  # another photo under an old name
    report = build()
    assert embedder.seen == [places / "Arch" / "0.png", places / "Tower" / "0.png"]
    assert (report.embedded, report.reused, report.unchanged) == (2, 1, 8)
    assert shown(report.gallery) == {photo: photo.split("/")[0] for photo in shown(report.gallery)}
    assert len(report.gallery) == 11
    assert [landmark.name for landmark in report.gallery.landmarks] == ["Dome", "Gate", "Tower", "Arch"]


def test_bad_photos_are_skipped_and_named(
    build: Callable[..., BuildReport], places: Path, photograph: Callable[..., None]
) -> None:
    (places / "Dome" / "broken.jpg").write_text("a text")
    (places / "Ruin").mkdir()
    (places / "Ruin" / "empty.jpg").write_bytes(b"")
    report = build()
    assert (report.embedded, len(report.failed)) == (9, 2)
    assert {"broken.jpg", "empty.jpg"} == {Path(error.where).name for error in report.failed}
    assert [landmark.name for landmark in report.without_photo] == ["Ruin"]
    assert "Ruin" not in {landmark.name for landmark in report.gallery.landmarks}


def test_a_link_that_leads_back_to_itself_is_skipped_each_time(build: Callable[..., BuildReport], places: Path) -> None:
    (places / "Dome" / "loop.jpg").symlink_to("loop.jpg")
    for _ in range(2):
        report = build()
        assert ["leads back to itself" in str(error) for error in report.failed] == [True]
        assert len(report.gallery) == 9


def test_a_photo_in_which_the_model_sees_nothing_is_skipped(build: Callable[..., BuildReport], embedder: Any) -> None:
    embed = embedder.embed
    embedder.embed = lambda paths: (replace(e, embedding=e.embedding * (e.path.name != "1.png")) for e in embed(paths))
    report = build()
    assert (report.embedded, len(report.failed)) == (6, 3)
    assert "has no direction" in str(report.failed[0])


def test_a_build_cut_short_is_no_gallery_and_goes_on_where_it_stopped(
    build: Callable[..., BuildReport], tmp_path: Path, embedder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("obelisk.gallery.follow_plan"), "COMMIT_EVERY", 2)

    def stop_after_five(what: str, done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(progress=stop_after_five)
    with pytest.raises(GalleryError, match="no such gallery"):
        Gallery.open(tmp_path / "city")
    with pytest.raises(GalleryError, match="half-built"):
        Gallery.open(tmp_path / "city.partial")
    embedder.seen.clear()
    report = build()
    assert (report.embedded, report.unchanged) == (5, 4)
    assert len(Gallery.open(tmp_path / "city")) == 9
    assert [path.name for path in tmp_path.glob("city*")] == ["city"]


def test_what_another_model_left_unfinished_is_left_alone(
    build: Callable[..., BuildReport], tmp_path: Path, places: Path, make_bundle: Callable[[str], Bundle], embedder: Any
) -> None:
    with pytest.raises(KeyboardInterrupt):
        build(progress=interrupt)
    with pytest.raises(GalleryError, match=r"unfinished build with model `colors` .* finish it with `--model"):
        build_gallery(tmp_path / "city", read_catalog(places), make_bundle("shapes"), embedder=embedder)
    assert build().embedded == 9


def interrupt(what: str, done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_a_gallery_of_another_model_is_left_alone(
    build: Callable[..., BuildReport], tmp_path: Path, places: Path, make_bundle: Callable[[str], Bundle], embedder: Any
) -> None:
    build()
    with pytest.raises(GalleryError, match="built with model `colors`"):
        build_gallery(tmp_path / "city", read_catalog(places), make_bundle("shapes"), embedder=embedder)
    assert len(Gallery.open(tmp_path / "city")) == 9


def test_what_was_merged_or_renamed_in_the_gallery_stays_so(
    build: Callable[..., BuildReport], places: Path, embedder: Any, photograph: Callable[..., None]
) -> None:
    gallery = build().gallery
    gallery.merge([2], 1)
    gallery.rename(3, "Spire")
    photograph(places / "Arch" / "0.png", (120, 120, 20), 90)  # shifts the ids of the other folders
    photograph(places / "Gate" / "new.png", (40, 200, 40), 91)
    photograph(places / "Tower" / "new.png", (40, 40, 230), 92)
    report = build()
    assert (report.embedded, report.reused, report.unchanged) == (3, 0, 9)
    names = {"Dome": "Dome", "Gate": "Dome", "Tower": "Spire", "Arch": "Arch"}
    assert shown(report.gallery) == {photo: names[photo.split("/")[0]] for photo in shown(report.gallery)}
    report.gallery.rename(1, "Ensemble")
    assert build().unchanged == 12


def test_a_photo_that_was_added_from_its_file_is_known(
    build: Callable[..., BuildReport], places: Path, embedder: Any, photograph: Callable[..., None]
) -> None:
    gallery = build().gallery
    photograph(places / "Dome" / "new.png", (220, 40, 40), 77)
    (added,) = add_photos(gallery, [places / "Dome" / "new.png"], "Dome", embedder=embedder)
    report = build()
    assert (report.unchanged, report.embedded, report.reused) == (10, 0, 0)
    assert added.photo is not None
    kept = report.gallery.find_photo(added.photo.id)
    assert kept == replace(added.photo, path="Dome/new.png", folder=str(places)), "only where its file lies is new"
    assert build().gallery.find_photo(added.photo.id) == kept


def test_landmarks_that_others_make_meanwhile_are_not_taken_for_ours(
    build: Callable[..., BuildReport], tmp_path: Path, places: Path, photograph: Callable[..., None], monkeypatch: Any
) -> None:
    """Two sides choose the same free id for a new landmark: the build looks again before it writes."""
    monkeypatch.setattr(importlib.import_module("obelisk.gallery.follow_plan"), "COMMIT_EVERY", 2)
    build()
    for photo in range(4):
        photograph(places / "Arch" / f"{photo}.png", (120, 120, 20), photo)

    def add_between(what: str, done: int, total: int) -> None:
        if done in (0, 3):
            Gallery.open(tmp_path / "city").add(np.eye(24)[:1], [f"Mill {done}"], [f"mill {done}"])

    names = shown(build(progress=add_between).gallery)
    assert {names[f"Arch/{photo}.png"] for photo in range(4)} == {"Arch"}
    assert (names["mill 0"], names["mill 3"]) == ("Mill 0", "Mill 3")
    assert set(names.values()) == {"Arch", "Dome", "Gate", "Tower", "Mill 0", "Mill 3"}


def test_a_full_disk_names_the_gallery(build: Callable[..., BuildReport], tmp_path: Path, monkeypatch: Any) -> None:
    def run_out(source: Path, copy: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, copy)

    monkeypatch.setattr(shutil, "copyfile", run_out)
    with pytest.raises(OSError, match="No space left") as raised:
        build()
    assert raised.value.filename == str(tmp_path / "city")


def test_a_second_build_at_once_is_refused(build: Callable[..., BuildReport], tmp_path: Path, places: Path) -> None:
    def build_again(what: str, done: int, total: int) -> None:
        refused.append(done)
        with pytest.raises(GalleryLockedError, match="another build is working"):
            build()

    refused = list[int]()
    assert build(progress=build_again).embedded == 9
    (places / "Dome" / "0.png").write_bytes((places / "Gate" / "1.png").read_bytes() + b"changed")
    assert build(progress=build_again).embedded == 1
    assert refused == [*range(10), 0, 1]
    assert [path.name for path in sorted(tmp_path.rglob("*lock*"))] == []


def test_nothing_is_written_into_a_gallery_that_may_not_change(
    build: Callable[..., BuildReport], tmp_path: Path, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build()
    monkeypatch.setattr(database, "is_bundled", lambda folder: True)
    monkeypatch.setattr(importlib.import_module("obelisk.gallery.build_site"), "exclusive_lock", None)
    assert build().unchanged == 9
    (places / "Dome" / "0.png").write_bytes((places / "Gate" / "1.png").read_bytes() + b"changed")
    with pytest.raises(GalleryError, match="cannot be written to"):
        build()


def test_photos_of_a_google_landmarks_dataset_keep_their_addresses(
    tmp_path: Path, bundle: Bundle, embedder: Any, photograph: Callable[..., None]
) -> None:
    data = tmp_path / "gldv2"
    ids = [f"{number:016x}" for number in (1, 2, 3)]
    for number, photo in enumerate(ids):
        photograph(data / "train" / "0" / "0" / "0" / f"{photo}.png", (9, 9, 9), number)
    rows = [f"{ids[0]},https://x.org/a.jpg,7", f"{ids[1]},,7", f"{ids[2]},None,8"]
    (data / "train.csv").write_text("\n".join(["id,url,landmark_id", *rows]))
    build_gallery(tmp_path / "city", read_catalog(data), bundle, embedder=embedder)
    first, second, third = Gallery.open(tmp_path / "city").photos
    files = [str(data / "train" / "0" / "0" / "0" / f"{photo}.png") for photo in ids]
    assert (first.source, first.path) == ("https://x.org/a.jpg", f"train/0/0/0/{ids[0]}.png")
    assert [str(photo.file) for photo in (first, second, third)] == files
    assert (second.source, third.source) == (files[1], files[2])

    build_gallery(tmp_path / "portable", read_catalog(data), bundle, embedder=embedder, keep_paths=False)
    assert [(p.source, p.path) for p in Gallery.open(tmp_path / "portable").photos] == [
        ("https://x.org/a.jpg", ""),
        ("", ""),
        ("", ""),
    ]


def test_an_emptied_gallery_is_not_thrown_away(tmp_path: Path, bundle: Bundle, embedder: Any) -> None:
    Gallery.create(tmp_path / "city", bundle)
    (tmp_path / "ruins" / "Ruin").mkdir(parents=True)
    (tmp_path / "ruins" / "Ruin" / "a.jpg").write_text("a text")
    with pytest.raises(GalleryError, match="none of 1 reference photos can be used"):
        build_gallery(tmp_path / "city", read_catalog(tmp_path / "ruins"), bundle, embedder=embedder)
    assert len(Gallery.open(tmp_path / "city")) == 0


def test_no_usable_photo_makes_no_gallery(tmp_path: Path, bundle: Bundle, embedder: Any) -> None:
    (tmp_path / "ruins" / "Ruin").mkdir(parents=True)
    (tmp_path / "ruins" / "Ruin" / "a.jpg").write_text("a text")
    with pytest.raises(GalleryError, match="none of 1 reference photos can be used"):
        build_gallery(tmp_path / "city", read_catalog(tmp_path / "ruins"), bundle, embedder=embedder)
    assert list(tmp_path.glob("city*")) == []


def test_a_folder_of_other_things_is_left_alone(build: Callable[..., BuildReport], tmp_path: Path) -> None:
    (tmp_path / "city").mkdir()
    (tmp_path / "city" / "diary.txt").write_text("dear diary")
    with pytest.raises(GalleryError, match="not a gallery"):
        build()
    assert (tmp_path / "city" / "diary.txt").exists()


def test_a_gallery_on_a_disk_of_its_own_grows_on_that_disk(
    build: Callable[..., BuildReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container's volume: nothing is written beside it, and an interrupted build goes on."""
    volume = tmp_path / "city"
    (volume / "lost+found").mkdir(parents=True)
    monkeypatch.setattr(os.path, "ismount", volume.__eq__)
    beside = set(tmp_path.iterdir())
    with monkeypatch.context() as patched:
        site = importlib.import_module("obelisk.gallery.build_site")
        patched.setattr(site, "move_folder", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build()
    assert (volume / "city.partial" / "gallery.sqlite").is_file()
    assert (build().unchanged, build().unchanged) == (9, 9)
    assert {path.name for path in volume.iterdir()} == {"gallery.sqlite", "model", "lost+found"}
    assert set(tmp_path.iterdir()) == beside
    assert check_gallery(volume) == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_followed_to_where_the_gallery_shall_be(
    build: Callable[..., BuildReport], tmp_path: Path, exists: bool
) -> None:
    (tmp_path / "disk").mkdir()
    if exists:
        (tmp_path / "disk" / "real").mkdir()
    (tmp_path / "city").symlink_to(tmp_path / "disk" / "real")
    assert build().embedded == 9
    assert (tmp_path / "city").is_symlink()
    assert len(Gallery.open(tmp_path / "city")) == 9
    assert build().unchanged == 9
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real"]


def test_places_that_cannot_be_a_gallery_are_refused_before_anything_is_embedded(
    tmp_path: Path, places: Path, bundle: Bundle, embedder: Any
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("a text")
    build_gallery(tmp_path / "city", read_catalog(places), bundle, embedder=embedder)
    embedder.seen.clear()
    for place, text in {
        "loop": "leads back to itself",
        "file": "name a new folder",
        "city/gallery.sqlite": f"name its folder, {tmp_path / 'city'}$",
        "places": f"if these are your photos: `obelisk gallery build NEW --data {places}`",
    }.items():
        with pytest.raises(GalleryError, match=text):
            build_gallery(tmp_path / place, read_catalog(places), bundle, embedder=embedder)
    assert embedder.seen == []


def test_an_empty_folder_may_become_a_gallery(build: Callable[..., BuildReport], tmp_path: Path) -> None:
    (tmp_path / "city").mkdir()
    assert len(build().gallery) == 9


@pytest.mark.parametrize(
    ("brought", "known", "kept"),
    [
        pytest.param([(1, "A"), (2, "B")], {}, [1, 2], id="into an empty gallery"),
        pytest.param([(5, "X"), (9, "X")], {}, [5, 9], id="one name of two landmarks"),
        pytest.param([(5, "X"), (9, "X")], {5: "X"}, [5, 9], id="one of them is there"),
        pytest.param([(1, "A"), (2, "B"), (3, "C")], {1: "B", 2: "C"}, [3 + 1, 1, 2], id="a folder more, ids shifted"),
        pytest.param([(1, "Z")], {1: "A", 2: "B"}, [3], id="the id is another landmark's"),
        pytest.param([(7, "A")], {1: "A", 2: "A"}, [7], id="a name of two landmarks of the gallery"),
        pytest.param([(0, "A"), (1, "B")], {0: "B"}, [2, 0], id="id 0 is an id"),
    ],
)
def test_landmarks_are_matched(brought: list[tuple[int, str]], known: dict[int, str], kept: list[int]) -> None:
    landmarks = [Landmark(id=number, name=name) for number, name in brought]
    matched = match_landmarks(landmarks, {number: Landmark(id=number, name=name) for number, name in known.items()})
    assert [matched[number].id for number, _ in brought] == kept
    assert [matched[number].name for number, _ in brought] == [name for _, name in brought]


RENAMED = Landmark(id=1, name="My tower", origins=("place2",))


@pytest.mark.parametrize(
    ("brought", "known", "kept"),
    [
        pytest.param([(5, "place2")], [RENAMED], [(1, "My tower")], id="renamed in the gallery"),
        pytest.param([(5, "My tower")], [RENAMED], [(1, "My tower")], id="renamed there, then its folder"),
        pytest.param(
            [(5, "place2")],
            [RENAMED, Landmark(id=2, name="place2")],
            [(1, "My tower")],
            id="a name of one landmark, and the name of another in data",
        ),
        pytest.param(
            [(1, "B"), (2, "A")],
            [Landmark(id=1, name="B", origins=("A",)), Landmark(id=2, name="A", origins=("B",))],
            [(2, "A"), (1, "B")],
            id="two that were given each other's name",
        ),
        pytest.param(
            [(1, "Old"), (2, "North")],
            [Landmark(id=2, name="Gates", origins=("North", "Old"))],
            [(2, "Gates"), (2, "Gates")],
            id="merged in the gallery",
        ),
        pytest.param(
            [(5, "X"), (9, "X")],
            [Landmark(id=5, name="X", origins=("X", "X"))],
            [(5, "X"), (5, "X")],
            id="merged, of one name",
        ),
        pytest.param(
            [(0, "Cafe\u0301")], [Landmark(id=4, name="Caf\u00e9")], [(4, "Caf\u00e9")], id="composed and decomposed"
        ),
    ],
)
def test_landmarks_are_found_by_their_names_in_data(
    brought: list[tuple[int, str]], known: list[Landmark], kept: list[tuple[int, str]]
) -> None:
    landmarks = [Landmark(id=number, name=name) for number, name in brought]
    matched = match_landmarks(landmarks, {landmark.id: landmark for landmark in known})
    assert [(matched[number].id, matched[number].name) for number, _ in brought] == kept
