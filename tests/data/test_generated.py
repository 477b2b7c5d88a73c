from __future__ import annotations

import csv
import hashlib
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from obelisk.data import read_catalog
from obelisk.errors import DataError
from obelisk.synthetic import generate_dataset, render_distractor, render_photo
from obelisk.synthetic.dataset import Plan, count_references, landmark_seed, list_photos, name_landmarks
from obelisk.synthetic.landmark import KINDS, make_landmark

SMALL = {"landmarks": 5, "references": 24, "queries": 6, "distractors": 4, "size": 48}


def digests(folder: Path) -> dict[str, str]:
    """Hash of every file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_dataset(tmp_path_factory.mktemp("generated") / "places", **SMALL)


def test_the_same_seed_gives_the_same_bytes(dataset: Path, tmp_path: Path) -> None:
    assert digests(generate_dataset(tmp_path / "again", **SMALL)) == digests(dataset)


def test_another_seed_gives_other_photos(dataset: Path, tmp_path: Path) -> None:
    other = generate_dataset(tmp_path / "other", **SMALL, seed=1)
    photos = {digest for name, digest in digests(dataset).items() if name.endswith(".jpg")}
    assert photos.isdisjoint(digests(other).values())


def test_a_photo_depends_on_nothing_but_its_numbers() -> None:
    before = render_photo(3, 5, 64)
    make_landmark.cache_clear()
    for seed in range(4):
        render_photo(seed, 0, 64)
        render_distractor(seed, 0, 64)
    assert np.array_equal(np.asarray(render_photo(3, 5, 64)), np.asarray(before))


@pytest.mark.parametrize("size", [16, 48, 100, 224, 321])
def test_photos_are_rgb_squares_of_the_wanted_size(size: int) -> None:
    for photo in (render_photo(1, 0, size), render_distractor(1, 0, size)):
        assert photo.mode == "RGB"
        assert photo.size == (size, size)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=list(KINDS))
def test_every_kind_renders_a_picture_with_something_in_it(kind: int) -> None:
    landmark = make_landmark(kind)
    assert landmark.kind == list(KINDS)[kind]
    assert 0.3 < landmark.mesh.height < 4
    for index in range(8):
        assert np.asarray(render_photo(kind, index, 64)).std() > 4


def test_a_landmark_stays_itself_while_its_photos_differ() -> None:
    photos = [np.asarray(render_photo(7, index, 64)).astype(int) for index in range(6)]
    for i in range(6):
        for j in range(i):
            assert np.abs(photos[i] - photos[j]).mean() > 3
    assert make_landmark(7) is make_landmark(7)


def test_landmarks_of_one_kind_differ() -> None:
    towers = [make_landmark(seed).mesh for seed in range(0, 40 * len(KINDS), len(KINDS))]
    shapes = {(len(mesh.points), round(mesh.height, 4), round(mesh.radius, 4)) for mesh in towers}
    assert len(shapes) == len(towers)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**40), index=st.integers(0, 10**6))
def test_any_numbers_render(seed: int, index: int) -> None:
    assert render_photo(seed, index, 32).size == (32, 32)
    assert render_distractor(seed % 10**6, index, 32).size == (32, 32)


@pytest.mark.parametrize(("landmarks", "references"), [(1, 3), (1, 50), (40, 600), (40, 120), (7, 100), (2000, 20_000)])
def test_references_have_a_long_tail_and_add_up(landmarks: int, references: int) -> None:
    counts = count_references(
        Plan(landmarks=landmarks, references=references, queries=0, distractors=0, size=32, seed=4)
    )
    assert len(counts) == landmarks
    assert sum(counts) == references
    assert min(counts) >= 3
    if references >= 10 * landmarks and landmarks > 10:
        assert np.median(counts) < 0.7 * np.mean(counts)
        assert max(counts) > 3 * np.mean(counts)


def test_default_counts_are_those_of_the_demo() -> None:
    counts = count_references(Plan(landmarks=40, references=600, queries=0, distractors=0, size=224, seed=0))
    assert (min(counts), max(counts)) == (5, 68)


def test_the_layout_is_that_of_gldv2(dataset: Path) -> None:
    references = rows(dataset / "metadata" / "train.csv")
    queries = rows(dataset / "metadata" / "recognition_solution_v2.1.csv")
    assert len(references) == 24
    assert len(queries) == 10
    assert sum(row["landmarks"] == "" for row in queries) == 4
    for folder, table in (("train", references), ("test", queries)):
        for row in table:
            name = row["id"]
            assert len(name) == 16
            assert int(name, 16) >= 0
            with Image.open(dataset / folder / name[0] / name[1] / name[2] / f"{name}.jpg") as photo:
                assert (photo.format, photo.size) == ("JPEG", (48, 48))
    clean = {row["landmark_id"]: row["images"].split() for row in rows(dataset / "metadata" / "train_clean.csv")}
    assert Counter(row["landmark_id"] for row in references) == {key: len(ids) for key, ids in clean.items()}
    places = rows(dataset / "metadata" / "landmarks.csv")
    assert {row["landmark_id"] for row in places} == set(clean)
    assert all(-90 <= float(row["latitude"]) <= 90 and -180 <= float(row["longitude"]) <= 180 for row in places)


def test_the_catalog_reads_it(dataset: Path) -> None:
    catalog = read_catalog(dataset)
    assert catalog.references.height == 24
    assert catalog.queries.height == 10
    assert catalog.landmarks.height == 5
    for path in [*catalog.references["path"], *catalog.queries["path"]]:
        assert (dataset / path).is_file()
    plan = Plan(landmarks=5, references=24, queries=6, distractors=4, size=48, seed=0)
    assert catalog.landmarks["name"].to_list() == name_landmarks(plan)


def test_no_photo_is_both_reference_and_query() -> None:
    plan = Plan(landmarks=40, references=600, queries=160, distractors=80, size=224, seed=0)
    photos = list(list_photos(plan))
    assert len({photo.id for photo in photos}) == len(photos) == 840
    assert len({(photo.landmark, photo.index) for photo in photos}) == 840
    asked = Counter(photo.landmark for photo in photos if photo.query)
    assert asked[None] == 80
    assert set(asked) == {None, *range(40)}


def test_names_are_unique_even_among_thousands() -> None:
    names = name_landmarks(Plan(landmarks=3000, references=9000, queries=0, distractors=0, size=32, seed=2))
    assert len(set(names)) == 3000


def test_a_finished_dataset_is_not_made_again(dataset: Path) -> None:
    def refuse(done: int, total: int) -> None:
        raise AssertionError("rendered again")

    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    assert generate_dataset(dataset, **SMALL, progress=refuse) == dataset
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_a_stopped_generation_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_dataset(tmp_path / "places", **SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_photo(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate_dataset(tmp_path / "new" / "places", **SMALL, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 34) for done in range(1, 35)]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "places").mkdir()
    assert (generate_dataset(tmp_path / "places", **SMALL) / "generated.json").is_file()


# What stands where the dataset should go.
@pytest.mark.parametrize("occupied", ["another dataset", "other files", "a file"])
def test_a_folder_in_use_is_not_touched(occupied: str, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "places"
    if occupied == "another dataset":
        shutil.copytree(dataset, out)
    elif occupied == "other files":
        out.mkdir()
        (out / "letter.txt").write_text("dear")
    else:
        out.write_text("dear")
    before = digests(tmp_path)
    with pytest.raises(DataError, match=r"holds something else · .*places"):
        generate_dataset(out, **{**SMALL, "landmarks": 6})
    assert digests(tmp_path) == before


UNUSABLE = [
    ({"landmarks": 0}, "0 landmarks"),
    ({"references": 14}, "14 reference photos for 5 landmarks"),
    ({"queries": -1}, "-1 queries"),
    ({"distractors": -1}, "-1 distractors"),
    ({"size": 8}, "8 pixels"),
]


@pytest.mark.parametrize(("change", "words"), UNUSABLE)
def test_numbers_that_make_no_dataset_are_refused(change: dict[str, int], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        generate_dataset(tmp_path / "places", **{**SMALL, **change})
    assert list(tmp_path.iterdir()) == []


def test_landmarks_can_be_told_apart_by_their_pixels() -> None:
    # Nearest neighbour on small colour pictures: far above chance (1 in 13), and far from perfect.
    plan = Plan(landmarks=13, references=130, queries=39, distractors=0, size=224, seed=0)
    chance = random.Random(0)
    views = {number: [thumbnail(landmark_seed(plan, number), index) for index in range(12)] for number in range(13)}
    gallery = [(number, view) for number, shown in views.items() for view in shown[:9]]
    asked = [(number, view) for number, shown in views.items() for view in shown[9:]]
    chance.shuffle(gallery)
    right = sum(
        min(gallery, key=lambda other: float(np.abs(other[1] - view).mean()))[0] == number for number, view in asked
    )
    assert 0.2 < right / len(asked) < 0.95


def thumbnail(seed: int, index: int) -> np.ndarray:
    """A tiny picture, its brightness and contrast taken out."""
    pixels = np.asarray(render_photo(seed, index, 96).resize((12, 12), Image.Resampling.BOX), dtype=float)
    return (pixels - pixels.mean()) / (pixels.std() + 1)


@pytest.mark.stress
def test_two_hundred_photos_a_second_on_one_core() -> None:
    for seed in range(20):
        render_photo(seed, 0)
    start = time.process_time()
    for seed in range(20):
        for index in range(1, 11):
            render_photo(seed, index)
    assert 200 / (time.process_time() - start) >= 200
