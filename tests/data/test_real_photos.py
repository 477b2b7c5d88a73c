from __future__ import annotations

import polars as pl
import pytest
from PIL import Image, ImageOps

from obelisk.data import (
    check_dataset,
    compute_statistics,
    find_near_duplicates,
    landmark_buckets,
    read_catalog,
    split_references,
)


def test_real_dataset_is_read_whole(real_photos):
    catalog = read_catalog(real_photos)
    statistics = compute_statistics(catalog)
    assert (statistics.references, statistics.landmarks) == (3828, 228)
    assert (statistics.queries, statistics.queries_with_landmark, statistics.distractors) == (1689, 1053, 636)
    assert statistics.percentiles["p0"] == 3
    assert statistics.percentiles["p50"] == 8
    assert statistics.percentiles["p100"] == 254
    assert len(landmark_buckets(catalog.references)) == 228
    assert catalog.landmark_names()[8837] == "Mount Si"
    assert catalog.notes == ()


def test_real_dataset_has_no_fault(real_photos):
    assert list(check_dataset(real_photos)) == []


def test_copies_of_real_photos_are_found_and_distinct_photos_stay_apart(real_photos, tmp_path):
    landmark = 55962
    photos = read_catalog(real_photos).references.filter(pl.col("landmark_id") == landmark)
    originals = photos["image_id"].to_list()
    rows = []
    for number, (image_id, path) in enumerate(photos.select("image_id", "path").iter_rows()):
        with Image.open(real_photos / path) as image:
            image.save(tmp_path / f"{image_id}.png")
            rows.append(image_id)
            if number < 40:
                copy = ImageOps.mirror(image) if number % 2 else image.crop((8, 8, 224, 224))
                copy.save(tmp_path / f"{image_id}-copy.jpg", quality=60)
                rows.append(f"{image_id}-copy")
    endings = [".jpg" if name.endswith("-copy") else ".png" for name in rows]
    paths = [name + ending for name, ending in zip(rows, endings, strict=True)]
    frame = pl.DataFrame({"image_id": rows, "path": paths}).with_columns(landmark_id=pl.lit(landmark, dtype=pl.Int64))
    groups = find_near_duplicates(tmp_path, frame).groups
    found = sum(groups.get(f"{image_id}-copy") == groups.get(image_id, "-") for image_id in originals[:40])
    assert found >= 36
    # What is left are shots of one series at most: photos of this much-visited landmark are no copies of each other.
    kept_apart = {groups.get(image_id, image_id) for image_id in originals}
    assert len(kept_apart) >= 0.97 * len(originals)


def test_real_split_keeps_the_long_tail(real_photos):
    catalog = read_catalog(real_photos)
    split = split_references(catalog, validation_share=0.15, seed=0, groups={})
    validation = split.references.filter(split.references["split"] == "val")
    assert validation.height == pytest.approx(0.15 * 3828, rel=0.1)
    assert split.select_references("train")["landmark_id"].n_unique() == 228
