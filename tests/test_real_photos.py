"""The whole path on real photos, where they lie beside the checkout: a dozen landmarks, one small backbone."""

from pathlib import Path

import polars as pl
import pytest

from obelisk.config import Recipe, load_recipe
from obelisk.data import find_near_duplicates, read_catalog, sample_subset, write_subset
from obelisk.data.catalog import Catalog
from obelisk.evaluation import evaluate_model, measure
from obelisk.evaluation.run_reader import Run
from obelisk.gallery import build_gallery
from obelisk.recognition import Recognizer
from obelisk.training.train import train_run


@pytest.fixture(scope="module")
def catalog(real_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A seeded subset of twelve landmarks."""
    subset = write_subset(
        sample_subset(read_catalog(real_photos), landmarks=12, seed=0), tmp_path_factory.mktemp("subset") / "dozen"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OBELISK_PHOTOS", str(real_photos))
        read = read_catalog(subset)
    return Catalog(
        root=read.root,
        references=read.references,
        # A few of the hundreds of distractors are enough here.
        queries=read.queries.filter((pl.col("usage") == "test") | (pl.col("image_id") < "2")),
        landmarks=read.landmarks,
    )


@pytest.fixture(scope="module")
def run(catalog: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """ArcFace on the frozen backbone, without augmented views."""
    recipe: Recipe = load_recipe("arcface", ["views.count=0", "training.epochs=10", "neck.dimensions=64"])
    return train_run(recipe, catalog, tmp_path_factory.mktemp("runs") / "arcface")


def test_landmarks_are_named_and_distractors_score_lower(run: Run, catalog: Catalog) -> None:
    metrics = measure(evaluate_model(run.folder, catalog).predictions, catalog, resamples=50)
    assert metrics.values["top1"] > 0.85
    assert metrics.values["auroc_distractors"] > 0.75
    low, high = metrics.intervals["top1"]
    assert low <= metrics.values["top1"] <= high


def test_recognition_from_a_gallery_agrees_with_the_evaluation(run: Run, catalog: Catalog, tmp_path: Path) -> None:
    gallery = build_gallery(tmp_path / "gallery", catalog, run.bundle).gallery
    answers = list(Recognizer.open(gallery).recognize(catalog.locate_photos(catalog.queries)))
    predictions = evaluate_model(run.folder, catalog).predictions
    assert predictions.query_ids.tolist() == [Path(answer.photo).stem for answer in answers]
    for query, answer in enumerate(answers):
        assert predictions.candidates[query].tolist() == [one.landmark_id for one in answer.candidates]
        assert predictions.scores[query].tolist() == [one.score for one in answer.candidates]


def test_no_near_duplicate_stands_on_both_sides_of_a_split(catalog: Catalog) -> None:
    queries = catalog.queries.filter(pl.col("landmark_ids").list.len() > 0).select(
        "image_id", "path", landmark_id=pl.col("landmark_ids").list.first(), split=pl.lit("test")
    )
    photos = pl.concat([catalog.references.select("image_id", "path", "landmark_id", "split"), queries])
    groups = find_near_duplicates(catalog.root, photos).groups
    split = dict(photos.select("image_id", "split").iter_rows())
    for image_id, group in groups.items():
        assert split[image_id] == split[group]
