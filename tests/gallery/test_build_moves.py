"""What a second build makes of photos and folders that were moved, renamed, copied, changed or deleted meanwhile."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from obelisk.data import read_catalog
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError
from obelisk.gallery import (
    BuildReport,
    Gallery,
    ReferencePhoto,
    add_photos,
    build_gallery,
    check_gallery,
    database,
    export_gallery,
    gather_facts,
    import_gallery,
)
from obelisk.photos import content_hash

Build = Callable[..., BuildReport]


def shown(gallery: Gallery) -> dict[str, str]:
    names = {landmark.id: landmark.name for landmark in gallery.landmarks}
    return {photo.id: names[photo.landmark_id or 0] for photo in gallery.photos}


def told(report: BuildReport) -> list[tuple[str, str, str, str]]:
    return [(moved.before.id, moved.after.id, *moved.landmarks) for moved in report.moved]


def follows(gallery: Gallery, places: Path, **names: str) -> bool:
    """Return whether a gallery has each photo of the folders once, under the landmark of its folder, and no other."""
    photos = {path.relative_to(places).as_posix(): path for path in places.rglob("*.png")}
    landmarks = {photo: names.get(photo.split("/")[0], photo.split("/")[0]) for photo in photos}
    hashes = {photo.id: photo.content_hash for photo in gallery.photos}
    files = {photo.id: photo.file for photo in gallery.photos}
    return (
        shown(gallery) == landmarks
        and files == photos
        and hashes == {photo: content_hash(path.read_bytes()) for photo, path in photos.items()}
        and check_gallery(gallery.path) == []
    )


def test_authors_and_licences_come_from_the_data_and_stay(build: Build, places: Path, tmp_path: Path) -> None:
    def credited(gallery: Gallery) -> dict[str, tuple[str, str]]:
        return {photo.id: (photo.author, photo.licence) for photo in gallery.photos if photo.author or photo.licence}

    assert credited(build().gallery) == {}
    table = places / "attribution.csv"
    table.write_text("image_id,author,license\nDome/0.png,Ann,CC BY 4.0\nGate/1.png,,CC0\n", encoding="utf-8")
    known = {"Dome/0.png": ("Ann", "CC BY 4.0"), "Gate/1.png": ("", "CC0")}
    report = build()
    assert (report.embedded, credited(report.gallery)) == (0, known)
    table.unlink()
    (places / "Dome" / "0.png").rename(places / "Dome" / "new.png")
    known["Dome/new.png"] = known.pop("Dome/0.png")
    gallery = build().gallery
    assert credited(gallery) == known
    export_gallery(gallery, tmp_path / "city.tar")
    assert credited(import_gallery(tmp_path / "city.tar", tmp_path / "theirs").gallery) == known


def test_a_photo_that_moved_has_moved(build: Build, places: Path, embedder: Any) -> None:
    before = build().gallery
    rows = {photo.content_hash: row for row, photo in zip(before.references().ids, before.photos, strict=True)}
    (places / "Dome" / "0.png").rename(places / "Gate" / "new.png")
    (places / "Dome" / "1.png").rename(places / "Dome" / "one.png")
    embedder.seen.clear()
    report = build()
    assert embedder.seen == []
    assert told(report) == [
        ("Dome/1.png", "Dome/one.png", "Dome", "Dome"),
        ("Dome/0.png", "Gate/new.png", "Dome", "Gate"),
    ]
    assert (report.unchanged, report.new, report.gone, report.renamed) == (7, 0, (), ())
    assert follows(report.gallery, places)
    after = {
        photo.content_hash: row
        for row, photo in zip(report.gallery.references().ids, report.gallery.photos, strict=True)
    }
    assert after == rows, "the embeddings stay where they are"
    assert build().unchanged == 9


def test_two_photos_that_changed_places_and_one_that_took_the_place_of_another(build: Build, places: Path) -> None:
    build()
    first, second = places / "Dome" / "0.png", places / "Gate" / "0.png"
    first.rename(places / "aside")
    second.rename(first)
    (places / "aside").rename(second)
    (places / "Dome" / "1.png").rename(places / "Gate" / "1.png")
    report = build()
    assert sorted(told(report)) == [
        ("Dome/0.png", "Gate/0.png", "Dome", "Gate"),
        ("Dome/1.png", "Gate/1.png", "Dome", "Gate"),
        ("Gate/0.png", "Dome/0.png", "Gate", "Dome"),
    ]
    assert (report.new, report.changed, report.unchanged) == (0, 0, 5)
    assert follows(report.gallery, places)


def test_a_photo_that_moved_and_left_another_in_its_place(
    build: Build, places: Path, photograph: Callable[..., None]
) -> None:
    build()
    (places / "Dome" / "0.png").rename(places / "Gate" / "new.png")
    photograph(places / "Dome" / "0.png", (220, 40, 40), 90)
    (places / "Dome" / "1.png").write_bytes((places / "Dome" / "2.png").read_bytes())
    report = build()
    assert told(report) == [("Dome/0.png", "Gate/new.png", "Dome", "Gate")]
    assert (report.new, report.changed, report.embedded, report.reused, report.unchanged) == (1, 1, 1, 1, 7)
    assert follows(report.gallery, places)


def test_a_copy_is_a_photo_of_its_own(build: Build, places: Path) -> None:
    build()
    shutil.copy(places / "Dome" / "0.png", places / "Gate" / "copy.png")
    report = build()
    assert (report.new, report.reused, told(report)) == (1, 1, [])
    assert follows(report.gallery, places)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_renamed_folder_renames_the_landmark(
    build: Build, places: Path, photograph: Callable[..., None], interrupted: bool
) -> None:
    gallery = build().gallery
    add_id = gallery.add(gallery.references().rows([0]), [1], ["added"])
    (places / "Dome").rename(places / "Kuppel")
    photograph(places / "Kuppel" / "4.png", (220, 40, 40), 90)
    if interrupted:

        def interrupt(what: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build(progress=interrupt)
        assert {landmark.name for landmark in gallery.landmarks} == {"Kuppel", "Gate", "Tower"}
    report = build()
    if not interrupted:
        (folder,) = report.renamed
        assert (folder.before, folder.after, folder.photos, folder.landmark.id) == ("Dome", "Kuppel", 4, 1)
        assert told(report) == []
        assert report.seen == 10
    assert report.new == 1
    assert report.elsewhere == 1
    assert report.gallery.photo(add_id[0]).landmark_id == 1, "what was added goes along"
    report.gallery.remove(photos=["added"])
    assert follows(report.gallery, places)
    assert {landmark.name: landmark.id for landmark in report.gallery.landmarks} == {"Kuppel": 1, "Gate": 2, "Tower": 3}


def test_a_name_of_ones_own_survives_a_renamed_folder(build: Build, places: Path) -> None:
    build().gallery.rename(1, "My dome")
    assert build().unchanged == 9
    (places / "Dome").rename(places / "Kuppel")
    report = build()
    assert [(folder.landmark.name, folder.after) for folder in report.renamed] == [("My dome", "Kuppel")]
    assert follows(report.gallery, places, Kuppel="My dome")
    (places / "Kuppel").rename(places / "My dome")
    assert follows(build().gallery, places)
    (places / "My dome").rename(places / "Cupola")
    assert follows(build().gallery, places), "a name that is also the folder's goes with it"


def test_the_folders_of_a_merged_landmark_may_be_renamed(build: Build, places: Path) -> None:
    build().gallery.merge([2], 1, name="Ensemble")
    (places / "Gate").rename(places / "Tor")
    (places / "Dome").rename(places / "Kuppel")
    report = build()
    assert {(folder.before, folder.after) for folder in report.renamed} == {("Gate", "Tor"), ("Dome", "Kuppel")}
    assert follows(report.gallery, places, Tor="Ensemble", Kuppel="Ensemble")
    assert build().unchanged == 9


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"Dome/0": "A", "Dome/1": "A", "Dome/2": "B", "Dome/3": "B"}, id="into two folders"),
        pytest.param({"Dome/0": "A", "Dome/1": "A", "Dome/2": "A", "Dome/3": "A", "Gate/0": "A"}, id="with another's"),
        pytest.param({"Dome/0": "A", "Dome/1": "A"}, id="not all of them"),
        pytest.param({"Dome/0": "A", "Dome/1": "", "Dome/2": "", "Dome/3": ""}, id="the others were deleted"),
        pytest.param(
            {"Dome/0": "Gate", "Dome/1": "Gate", "Dome/2": "Gate", "Dome/3": "Gate"}, id="into a known folder"
        ),
    ],
)
def test_a_folder_is_renamed_only_if_all_of_it_went_to_one_new_folder(
    build: Build, places: Path, change: dict[str, str]
) -> None:
    build()
    for number, (photo, folder) in enumerate(change.items()):
        if folder:
            (places / folder).mkdir(exist_ok=True)
            (places / f"{photo}.png").rename(places / folder / f"moved {number}.png")
        else:
            (places / f"{photo}.png").unlink()
    report = build(prune=True)
    assert report.renamed == ()
    assert len(report.moved) == sum(map(bool, change.values()))
    assert follows(report.gallery, places)


def test_what_is_gone_stays_until_it_is_pruned(build: Build, places: Path) -> None:
    build()
    (places / "Dome" / "0.png").unlink()
    shutil.rmtree(places / "Tower")
    report = build()
    assert (report.unchanged, [photo.id for photo in report.gone]) == (6, ["Dome/0.png", "Tower/0.png", "Tower/1.png"])
    assert (len(report.gallery), report.pruned, report.emptied) == (9, False, ())
    pruned = build(prune=True)
    assert [photo.id for photo in pruned.gone] == ["Dome/0.png", "Tower/0.png", "Tower/1.png"]
    assert [landmark.name for landmark in pruned.emptied] == ["Tower"]
    assert follows(pruned.gallery, places)


def test_most_of_it_is_pruned_only_if_one_insists(
    build: Build, places: Path, photograph: Callable[..., None], embedder: Any
) -> None:
    build()
    for folder in ("Dome", "Tower"):
        shutil.rmtree(places / folder)
    photograph(places / "Arch" / "0.png", (120, 120, 20), 90)
    embedder.seen.clear()
    with pytest.raises(GalleryError, match=r"6 of the 9 photos .* are gone.*if a disk is not mounted.*--prune --prune"):
        build(prune=True)
    assert embedder.seen == []
    assert len(Gallery.open(build().gallery.path)) == 10
    report = build(prune=True, prune_most=True)
    assert len(report.gone) == 6
    assert follows(report.gallery, places)


def test_photos_from_elsewhere_are_never_pruned(
    build: Build, places: Path, tmp_path: Path, photograph: Callable[..., None], embedder: Any
) -> None:
    gallery = build().gallery
    photograph(tmp_path / "card" / "a.png", (220, 40, 40), 90)
    (added,) = add_photos(gallery, [tmp_path / "card" / "a.png"], "Dome", embedder=embedder)
    gallery.add(gallery.references().rows([0]), ["Dome"], [ReferencePhoto(id="mine")])
    photograph(tmp_path / "more" / "Arch" / "0.png", (120, 120, 20), 91)
    assert build(data=tmp_path / "more").elsewhere == 11
    shutil.rmtree(tmp_path / "card")
    (places / "Dome" / "0.png").unlink()
    report = build(prune=True)
    assert ([photo.id for photo in report.gone], report.elsewhere) == (["Dome/0.png"], 3)
    assert added.photo is not None
    assert {"mine", added.photo.id, "Arch/0.png"} < set(shown(report.gallery))


def test_a_photo_that_was_added_and_then_filed_is_one_photo(
    build: Build, places: Path, tmp_path: Path, photograph: Callable[..., None], embedder: Any
) -> None:
    gallery = build().gallery
    photograph(tmp_path / "card" / "a.png", (220, 40, 40), 90)
    list(add_photos(gallery, [tmp_path / "card" / "a.png"], "Gate", embedder=embedder))
    (tmp_path / "card" / "a.png").rename(places / "Dome" / "a.png")
    report = build()
    assert [moved.after.id for moved in report.moved] == ["Dome/a.png"]
    assert follows(report.gallery, places)


@pytest.mark.parametrize("along", [False, True], ids=["the photos alone", "with the gallery"])
def test_a_library_that_moved_is_found(build: Build, places: Path, tmp_path: Path, along: bool) -> None:
    build()
    moved = tmp_path / "elsewhere" / "places"
    moved.parent.mkdir()
    places.rename(moved)
    (moved / "Gate" / "0.png").unlink()
    if along:
        (tmp_path / "city").rename(tmp_path / "elsewhere" / "city")
        gallery = Gallery.open(tmp_path / "elsewhere" / "city")
        assert gallery.photos[0].file == moved / "Dome" / "0.png", "it lies beside the gallery as before"
        (tmp_path / "elsewhere" / "city").rename(tmp_path / "city")
    report = build(data=moved)
    assert (report.unchanged, [photo.id for photo in report.gone]) == (8, ["Gate/0.png"])
    assert report.gallery.photos[0].file == moved / "Dome" / "0.png"
    assert follows(build(data=moved, prune=True).gallery, moved)


def test_a_build_of_a_library_that_moved_with_its_gallery_notes_where_it_is(
    build: Build, places: Path, tmp_path: Path, bundle: Bundle, embedder: Any
) -> None:
    city = build().gallery.path
    library = tmp_path / "library"
    library.mkdir()
    for folder in (places, city):
        folder.rename(library / folder.name)
    report = build_gallery(library / "city", read_catalog(library / "places"), bundle, embedder=embedder)
    assert report.unchanged == 9
    (library / "city").rename(tmp_path / "far")
    assert Gallery.open(tmp_path / "far").photos[0].file == library / "places" / "Dome" / "0.png"
    revision = gather_facts(Gallery.open(tmp_path / "far")).revision
    for _ in range(2):  # the first notes the way from one to the other
        build_gallery(tmp_path / "far", read_catalog(library / "places"), bundle, embedder=embedder)
    assert gather_facts(Gallery.open(tmp_path / "far")).revision == revision + 1


def test_a_gallery_that_may_not_change_is_built_from_a_moved_library(
    build: Build, places: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build()
    places.rename(tmp_path / "elsewhere")
    monkeypatch.setattr(database, "is_bundled", lambda folder: True)
    assert build(data=tmp_path / "elsewhere").unchanged == 9


def test_without_paths_nothing_says_where_the_photos_lie(build: Build, places: Path) -> None:
    build()
    (places / "Dome" / "0.png").rename(places / "Gate" / "new.png")
    report = build(keep_paths=False)
    assert {(photo.source, photo.path, photo.folder) for photo in report.gallery.photos} == {("", "", "")}
    (places / "Gate" / "new.png").rename(places / "Dome" / "0.png")
    (places / "Tower" / "0.png").unlink()
    report = build(keep_paths=False, prune=True)
    assert told(report) == [("Gate/new.png", "Dome/0.png", "Gate", "Dome")]
    assert [photo.id for photo in report.gone] == ["Tower/0.png"]
    assert follows(build().gallery, places)


def test_a_corrected_label_of_google_landmarks_is_corrected(
    build: Build, tmp_path: Path, photograph: Callable[..., None], embedder: Any
) -> None:
    data = tmp_path / "gldv2"
    ids = [f"{number:016x}" for number in (1, 2, 3)]
    for number, photo in enumerate(ids):
        photograph(data / "train" / "0" / "0" / "0" / f"{photo}.png", (9, 9, 9), number)

    def label(*landmarks: int) -> None:
        rows = [f"{photo},,{landmark}" for photo, landmark in zip(ids, landmarks, strict=True)]
        (data / "train.csv").write_text("\n".join(["id,url,landmark_id", *rows]))

    label(7, 7, 8)
    build(data=data)
    embedder.seen.clear()
    label(7, 8, 8)
    report = build(data=data)
    assert told(report) == [(ids[1], ids[1], "landmark 7", "landmark 8")]
    assert embedder.seen == []
    label(7, 8, 9)
    assert shown(build(data=data).gallery) == dict(zip(ids, ("landmark 7", "landmark 8", "landmark 9"), strict=True))
