"""Generated datasets: their layout, their numbers, and that they appear whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obelisk.data import read_catalog
from obelisk.errors import DataError
from obelisk.synthetic import generate_dataset
from obelisk.synthetic.dataset import DatasetPlan, count_references, expand_plan
from obelisk.synthetic.place_names import invent_names

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


def test_the_tables_are_the_same_on_every_machine(dataset: Path) -> None:
    tables = b"".join(path.read_bytes() for path in sorted((dataset / "metadata").iterdir()))
    assert hashlib.sha256(tables).hexdigest()[:16] == "ed644f507f0a1902"


def test_another_seed_gives_other_photos(dataset: Path, tmp_path: Path) -> None:
    other = generate_dataset(tmp_path / "other", **SMALL, seed=1)
    photos = {digest for name, digest in digests(dataset).items() if name.endswith(".jpg")}
    assert photos.isdisjoint(digests(other).values())


@pytest.mark.parametrize(("landmarks", "references"), [(1, 3), (1, 50), (40, 600), (40, 120), (7, 100), (2000, 20_000)])
def test_references_have_a_long_tail_and_add_up(landmarks: int, references: int) -> None:
    counts = count_references(
        DatasetPlan(landmarks=landmarks, references=references, queries=0, distractors=0, size=32, seed=4)
    )
    assert len(counts) == landmarks
    assert sum(counts) == references
    assert min(counts) >= 3
    if references >= 10 * landmarks and landmarks > 10:
        assert np.median(counts) < 0.7 * np.mean(counts)
        assert max(counts) > 3 * np.mean(counts)


def test_default_counts_are_those_of_the_demo() -> None:
    counts = count_references(DatasetPlan(landmarks=40, references=600, queries=0, distractors=0, size=224, seed=0))
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
    assert [row["name"] for row in rows(dataset / "metadata" / "landmarks.csv")] == catalog.landmarks["name"].to_list()


def test_no_photo_is_both_reference_and_query() -> None:
    plan = DatasetPlan(landmarks=40, references=600, queries=160, distractors=80, size=224, seed=0)
    photos = list(expand_plan(plan))
    assert len({photo.id for photo in photos}) == len(photos) == 840
    assert len({(photo.landmark, photo.index) for photo in photos}) == 840
    asked = Counter(photo.landmark for photo in photos if photo.query)
    assert asked[None] == 80
    assert set(asked) == {None, *range(40)}


def test_names_are_unique_even_among_thousands() -> None:
    names = invent_names(range(3000), ["Castle Fortress"] * 3000)
    assert len(set(names)) == 3000


def test_a_finished_dataset_is_not_made_again(dataset: Path) -> None:
    def refuse(what: str, done: int, total: int) -> None:
        raise AssertionError("rendered again")

    before = {path: path.stat().st_mtime_ns for path in dataset.rglob("*")}
    assert generate_dataset(dataset, **SMALL, progress=refuse) == dataset
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*")} == before


def test_a_stopped_generation_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_dataset(tmp_path / "places", **SMALL, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_photo(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    generate_dataset(tmp_path / "new" / "places", **SMALL, progress=lambda *report: seen.append(report))
    assert seen == [("rendering photos", done, 34) for done in range(1, 35)]


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


def test_a_dataset_of_an_older_version_is_not_mistaken_for_a_new_one(dataset: Path, tmp_path: Path) -> None:
    out = shutil.copytree(dataset, tmp_path / "places")
    record = out / "generated.json"
    record.write_text(record.read_text().replace('"format": 8', '"format": 7'))
    with pytest.raises(DataError, match="name a new folder"):
        generate_dataset(out, **SMALL)
