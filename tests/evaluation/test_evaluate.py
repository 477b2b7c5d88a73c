"""What a gallery's own landmarks and photos mean for an evaluation, and when kept predictions are made again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from obelisk.data import Catalog, read_catalog
from obelisk.errors import DataError, ModelError, UsageError
from obelisk.evaluation import (
    Run,
    Target,
    compare_targets,
    evaluate_model,
    evaluate_targets,
    open_target,
    remembered_data,
)
from obelisk.gallery import Gallery, build_gallery


@pytest.fixture(scope="module")
def catalog(tiny_dataset: Path) -> Catalog:
    return read_catalog(tiny_dataset)


@pytest.fixture
def gallery(tiny_run: Run, catalog: Catalog, tmp_path: Path) -> Gallery:
    return build_gallery(tmp_path / "gallery", catalog, tiny_run.bundle).gallery


def shift_ids(catalog: Catalog, by: int) -> Catalog:
    """The same photos and names, with other landmark ids, as folders get when others come before them."""
    return replace(
        catalog,
        references=catalog.references.with_columns(pl.col("landmark_id") + by),
        queries=catalog.queries.with_columns(pl.col("landmark_ids").list.eval(pl.element() + by)),
        landmarks=catalog.landmarks.with_columns(pl.col("landmark_id") + by),
    )


def test_landmarks_are_matched_by_name_where_ids_differ(gallery: Gallery, catalog: Catalog) -> None:
    evaluated = evaluate_model(gallery.path, catalog)
    assert "no query shows" not in str(evaluated.remark)
    metrics = evaluated.measure()
    assert metrics.known_queries == 18
    shifted = evaluate_model(gallery.path, shift_ids(catalog, 1_000_000)).measure()
    assert shifted.values["top1"] == metrics.values["top1"] > 0
    assert shifted.values["map100"] == metrics.values["map100"] > 0


@pytest.mark.parametrize("chosen", [0, -1])
def test_all_landmarks_that_were_merged_are_right(gallery: Gallery, catalog: Catalog, chosen: int) -> None:
    asked = sorted(set(catalog.queries["landmark_ids"].explode().drop_nulls().to_list()))
    whole = evaluate_model(gallery.path, catalog)
    before = whole.measure()
    gallery.merge(asked[:2], into=asked[:2][chosen])
    merged = evaluate_model(gallery.path, catalog)
    assert "do not have" not in str(merged.remark)
    found = merged.measure()
    assert found.known_queries == before.known_queries
    shows = merged.predictions.truths[:, 0]
    named = {one: asked[0] if one == asked[1] else one for one in asked}
    right = [
        named.get(answer) == named.get(truth) for answer, truth in zip(merged.predictions.answers, shows, strict=True)
    ]
    known = shows >= 0
    assert found.values["top1"] == pytest.approx(sum(np.array(right)[known]) / known.sum())
    assert found.values["top1"] >= before.values["top1"]
    assert found.values["map100"] > 0
    compared, *_ = compare_targets([open_target(gallery.path)], catalog)
    assert compared.arms[0].metrics.values["top1"] == found.values["top1"]


def test_queries_of_landmarks_that_a_gallery_lacks_are_no_known_ones(gallery: Gallery, catalog: Catalog) -> None:
    lacked = int(catalog.queries["landmark_ids"].explode().drop_nulls()[0])
    of_it = catalog.queries["landmark_ids"].list.contains(lacked).sum()
    gallery.remove(landmarks=[lacked])
    evaluated = evaluate_model(gallery.path, catalog)
    lacking = f"{of_it} of 18 queries show only landmarks that the gallery does not have, and can't be named right"
    assert str(evaluated.remark).startswith(lacking)
    metrics = evaluated.measure()
    assert (metrics.landmarks, metrics.known_queries) == (5, 18 - of_it)
    assert 0 <= metrics.values["auroc_unknown"] <= 1
    whole = build_gallery(gallery.path.with_name("whole"), catalog, gallery.load_bundle()).gallery
    with pytest.raises(DataError, match="know the landmarks of different queries"):
        compare_targets([open_target(whole.path), open_target(gallery.path)], catalog)


def test_queries_of_other_landmarks_than_the_references_are_told(tiny_run: Run, catalog: Catalog) -> None:
    foreign = catalog.queries.with_columns(pl.col("landmark_ids").list.eval(pl.element() + 1_000_000))
    evaluated = evaluate_model(tiny_run.bundle.folder, replace(catalog, queries=foreign))
    told = "no query shows a landmark of this gallery, so all count as distractors (by the ids in the dataset's tables)"
    assert str(evaluated.remark).startswith(told)


def test_a_landmark_that_the_dataset_lacks_is_a_wrong_answer(gallery: Gallery, catalog: Catalog) -> None:
    with gallery.changing() as connection:  # not `rename`, after which the dataset's landmarks are still found
        connection.execute("UPDATE landmarks SET name = 'another ' || name")
    evaluated = evaluate_model(gallery.path, catalog)
    metrics = evaluated.measure()
    assert (metrics.known_queries, metrics.distractors) == (0, 24)
    assert metrics.values["precision"] == 0.0
    assert str(evaluated.remark).startswith("no query shows a landmark of this gallery")


def test_predictions_are_made_again_when_the_gallery_changed(
    gallery: Gallery, catalog: Catalog, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = evaluate_model(gallery.path, catalog, out=out).predictions.made_by
    assert evaluate_model(gallery.path, catalog, out=out).predictions.made_by == first
    gallery.remove(photos=[gallery.photos[0].id])
    assert evaluate_model(gallery.path, catalog, out=out).predictions.made_by != first


def test_nothing_is_written_beside_a_bundle_or_a_gallery(
    gallery: Gallery, tiny_run: Run, catalog: Catalog, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(tiny_run.folder / "model", tmp_path / "bundle"))
    before = sorted(path for path in tmp_path.rglob("*") if path.suffix not in (".sqlite-wal", ".sqlite-shm"))
    for place in (bundle, gallery.path):
        evaluate_model(place, catalog).measure()
    assert sorted(path for path in tmp_path.rglob("*") if path.suffix not in (".sqlite-wal", ".sqlite-shm")) == before


def test_the_name_of_what_is_neither_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a finished run, a bundle or a gallery"):
        open_target(tmp_path)
    with pytest.raises(ModelError, match="no such file or folder"):
        open_target(tmp_path / "nothing")
    assert isinstance(open_target("bundled"), Target)


def test_the_dataset_that_was_named_is_remembered(tiny_run: Run, catalog: Catalog, tmp_path: Path) -> None:
    targets = [open_target(tiny_run.folder, tmp_path / name) for name in ("first", "second")]
    evaluate_targets(targets, catalog, data=tmp_path / "subset")
    assert remembered_data([target.folder for target in targets]) == tmp_path / "subset"
    evaluate_model(tiny_run.folder, catalog, out=tmp_path / "third")
    assert remembered_data([tmp_path / "third"]) == catalog.root.resolve()
    with pytest.raises(UsageError, match="evaluated on 2 datasets"):
        remembered_data([tmp_path / "first", tmp_path / "third"])


def test_a_landmark_that_is_no_longer_that_of_the_dataset_makes_predictions_anew(
    gallery: Gallery, catalog: Catalog, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = evaluate_model(gallery.path, catalog, out=out).measure()
    first = gallery.landmarks[0].id
    gallery.rename(first, "Another name")
    renamed = evaluate_model(gallery.path, catalog, out=out).measure()
    assert renamed.known_queries == before.known_queries, "a build would still find it, too"
    with gallery.changing() as connection:
        connection.execute("UPDATE landmarks SET origins = '[]' WHERE id = ?", (first,))
    after = evaluate_model(gallery.path, catalog, out=out).measure()
    assert after.known_queries < before.known_queries
