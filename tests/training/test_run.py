"""A run from photos to a bundle: its files, its repeatability, and the folders it refuses."""

import dataclasses
import json
import os
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from obelisk.config import Recipe, load_recipe
from obelisk.data import read_catalog
from obelisk.embedding import Bundle, DescriptorCache, Embedder, read_layer, write_bundle
from obelisk.errors import DataError, ModelError, RecipeError
from obelisk.evaluation.run_reader import Run
from obelisk.photos import prepare, read_photo
from obelisk.training.export.restore import load_layer, load_module
from obelisk.training.run import begin_folder
from obelisk.training.train import train_run

WHOLE = ["curves.png", "head.safetensors", "log.jsonl", "model", "recipe.toml", "refit.jsonl", "run.json"]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_holds_what_its_page_says(tiny_run: Run, tiny_recipe: Recipe) -> None:
    assert sorted(path.name for path in tiny_run.folder.iterdir() if path.name != "tensorboard") == WHOLE
    assert tiny_run.recipe == tiny_recipe
    assert len(tiny_run.landmarks) == 6
    epochs = [json.loads(line) for line in (tiny_run.folder / "log.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    assert all(epoch["val_top1"] is not None and epoch["val_loss"] is not None for epoch in epochs)
    refit = (tiny_run.folder / "refit.jsonl").read_text().splitlines()
    assert [len(refit)] == list(tiny_run.best_epochs)


def test_the_bundle_embeds_as_the_run_does(tiny_run: Run, tiny_dataset: Path) -> None:
    paths = sorted((tiny_dataset / "test").rglob("*.jpg"))
    photos = list(Embedder(tiny_run.bundle).embed(paths))
    assert [photo.path for photo in photos] == paths
    rows = np.stack([photo.embedding for photo in photos if photo.embedding is not None])
    rule = tiny_run.bundle.input
    pixels = np.stack([prepare(read_photo(path, min_side=rule.size), rule) for path in paths])
    with torch.inference_mode():
        by_torch = load_module(tiny_run)(torch.from_numpy(pixels)).numpy()
    assert (rows * by_torch).sum(axis=1).min() > 0.9999
    assert np.allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-5)


def test_one_seed_gives_equal_bytes_also_with_an_empty_cache(
    tiny_run: Run, tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    again = train_run(tiny_recipe, read_catalog(tiny_dataset), tmp_path / "again")
    assert files_of(again.folder) == files_of(tiny_run.folder)


def test_another_seed_gives_other_weights(
    tiny_run: Run, tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    other = train_run(tiny_recipe.model_copy(update={"seed": 1}), read_catalog(tiny_dataset), tmp_path / "other")
    assert files_of(other.folder)["head.safetensors"] != files_of(tiny_run.folder)["head.safetensors"]


def test_a_second_head_on_the_same_backbone_computes_no_descriptor(
    tiny_run: Run, tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Embedder, pixels: object) -> None:
        raise AssertionError("a descriptor was computed again")

    monkeypatch.setattr(Embedder, "embed_pixels", refuse)
    softmax = tiny_recipe.model_copy(
        update={
            "neck": tiny_recipe.neck.model_copy(update={"kind": "dense"}),
            "loss": tiny_recipe.loss.model_copy(update={"kind": "softmax"}),
            "classifier": tiny_recipe.classifier.model_copy(update={"kind": "softmax"}),
        }
    )
    run = train_run(softmax, read_catalog(tiny_dataset), tmp_path / "softmax")
    assert read_layer(run.bundle) is not None
    assert load_layer(run) is not None
    assert load_layer(tiny_run) is None
    as_softmax = tiny_run.read_as(tiny_run.recipe.model_copy(update={"classifier": softmax.classifier}))
    with pytest.raises(ModelError, match="no softmax layer"):
        load_layer(as_softmax)


def test_necks_side_by_side_average_the_cosines_of_their_members(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    both = tiny_recipe.model_copy(
        update={
            "backbone": tiny_recipe.backbone.model_copy(
                update={"names": ("test_efficientnet", "test_efficientnet_ln")}
            ),
            "neck": tiny_recipe.neck.model_copy(update={"per_backbone": True}),
        }
    )
    run = train_run(both, read_catalog(tiny_dataset), tmp_path / "both")
    photos = Embedder(run.bundle).embed(sorted((tiny_dataset / "test").rglob("*.jpg")))
    rows = np.stack([photo.embedding for photo in photos if photo.embedding is not None])
    assert rows.shape[1] == run.bundle.dimensions == 32
    first, second = rows[:, :16] * np.sqrt(2), rows[:, 16:] * np.sqrt(2)
    assert np.allclose(np.linalg.norm(first, axis=1), 1.0, atol=1e-5)
    assert np.allclose(rows @ rows.T, (first @ first.T + second @ second.T) / 2, atol=1e-5)


def test_a_photo_that_cannot_be_read_is_named_and_left_out(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    catalog = read_catalog(tiny_dataset)
    broken = tmp_path / "broken.jpg"
    broken.write_text("not a photo")
    references = catalog.references.with_columns(
        path=catalog.references["path"].scatter(3, str(broken))  # an absolute path stands for itself
    )
    run = train_run(tiny_recipe, dataclasses.replace(catalog, references=references), tmp_path / "run")
    (image_id, error), *others = run.skipped.items()
    assert image_id == references["image_id"][3]
    assert "broken.jpg" in error
    assert not others


def test_a_photo_that_was_repaired_makes_it_another_dataset(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(tiny_dataset, tmp_path / "data"))
    photo = next((data / "train").rglob("*.jpg"))
    whole = photo.read_bytes()
    photo.write_bytes(whole[:100])
    run = train_run(tiny_recipe, read_catalog(data), tmp_path / "run")
    assert list(run.skipped) == [photo.stem]
    photo.write_bytes(whole)
    with pytest.raises(RecipeError, match="another dataset, or of its photos as they were"):
        train_run(tiny_recipe, read_catalog(data), tmp_path / "run")


WRONG_KIND = (
    '{"recipe": "", "data": "", "landmarks": "all", "backbones": [], "best_epochs": [], "skipped": {}, "seconds": 1}'
)


@pytest.mark.parametrize("content", ["", "{", '{"recipe": "x"}', "[]", "[" * 100_000, WRONG_KIND])
def test_a_damaged_run_is_refused_in_one_line(tiny_run: Run, tmp_path: Path, content: str) -> None:
    run = Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    (run / "run.json").write_text(content)
    with pytest.raises(ModelError, match=r"unreadable run: .*run.json.*train again"):
        Run.open(run)


def test_a_run_of_other_backbone_weights_is_refused(tiny_run: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"backbones": ["0" * 32]}))
    with pytest.raises(ModelError, match="other backbone weights"):
        load_module(Run.open(run))


def test_a_recipe_that_does_not_fit_the_data_leaves_the_folder_free(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    wide = tiny_recipe.model_copy(
        update={
            "neck": tiny_recipe.neck.model_copy(update={"kind": "whitening", "dimensions": 500}),
            "loss": tiny_recipe.loss.model_copy(update={"kind": "none"}),
        }
    )
    with pytest.raises(RecipeError, match="descriptors determine 30 directions"):
        train_run(wide, read_catalog(tiny_dataset), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_that_nothing_can_be_learned_from_is_refused(
    tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    catalog = read_catalog(tiny_dataset)
    photos = catalog.references
    one = photos.filter(photos["landmark_id"] == photos["landmark_id"][0])
    with pytest.raises(DataError, match="photos of 1 landmark"):
        train_run(tiny_recipe, dataclasses.replace(catalog, references=one), tmp_path / "run")
    many = tiny_recipe.model_copy(update={"classifier": tiny_recipe.classifier.model_copy(update={"k": 100})})
    with pytest.raises(RecipeError, match=r"classifier.k = 100.*only 60 reference photos"):
        train_run(many, catalog, tmp_path / "run")
    same = photos.with_columns(path=pl.lit(photos["path"][0]))
    whitened = tiny_recipe.model_copy(update={"neck": tiny_recipe.neck.model_copy(update={"start": "whitening"})})
    with pytest.raises(DataError, match="look the same"):
        train_run(whitened, dataclasses.replace(catalog, references=same), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_may_write_one_bundle(tiny_run: Run, tmp_path: Path) -> None:
    manifest = tiny_run.bundle.manifest.model_dump(exclude={"fingerprint"})
    network = (tiny_run.folder / "model" / "model.onnx").read_bytes()

    def write(_: int) -> str:
        return write_bundle(tmp_path / "bundle", network=network, card="", **manifest).fingerprint

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(64))) == {tiny_run.bundle.fingerprint}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_finished_run_is_returned_as_it_is(tiny_run: Run, tiny_recipe: Recipe, tiny_dataset: Path) -> None:
    before = (tiny_run.folder / "run.json").stat().st_mtime_ns
    train_run(tiny_recipe, read_catalog(tiny_dataset), tiny_run.folder)
    assert (tiny_run.folder / "run.json").stat().st_mtime_ns == before


def test_folders_that_are_not_for_this_run_are_refused_and_left_alone(
    tiny_run: Run, tiny_recipe: Recipe, tiny_dataset: Path, tmp_path: Path
) -> None:
    catalog = read_catalog(tiny_dataset)
    other = tiny_recipe.model_copy(update={"seed": 7})
    before = files_of(tiny_run.folder)
    with pytest.raises(RecipeError, match=r"holds a run of another recipe.*choose another --out"):
        train_run(other, catalog, tiny_run.folder)
    assert files_of(tiny_run.folder) == before
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "recipe.toml").write_text(tiny_recipe.to_toml())
    with pytest.raises(RecipeError, match="add --resume"):
        train_run(tiny_recipe, catalog, unfinished)
    with pytest.raises(RecipeError, match="unfinished run of another recipe"):
        train_run(other, catalog, unfinished, resume=True)
    assert train_run(tiny_recipe, catalog, unfinished, resume=True).landmarks == tiny_run.landmarks
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(RecipeError, match="not empty, and holds no run"):
        train_run(tiny_recipe, catalog, foreign)
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    with pytest.raises(RecipeError, match="no run to resume"):
        train_run(tiny_recipe, catalog, tmp_path / "nothing", resume=True)
    with pytest.raises(ModelError, match="not a finished run"):
        Run.open(foreign)


def test_a_run_that_was_killed_leaves_a_whole_recipe_and_no_partial_file_for_long(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_folder(tiny_recipe, tmp_path)
    (tmp_path / ".finetuning.safetensors.4711").write_bytes(b"half a checkpoint")
    (tmp_path / ".notes").write_text("mine")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            begin_folder(tiny_recipe.model_copy(update={"seed": 7}), tmp_path)
    assert load_recipe(str(tmp_path / "recipe.toml")) == tiny_recipe
    begin_folder(tiny_recipe, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes", "recipe.toml"]


def test_the_cache_gives_the_same_rows_the_second_time_and_names_bad_photos(
    tiny_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    paths = [*sorted((tiny_dataset / "test").rglob("*.jpg"))[:5], tmp_path / "missing.jpg"]
    bundle = Bundle.load(tiny_run.folder / "model")
    cache = DescriptorCache(bundle, tmp_path)
    first, second = cache.get(paths), cache.get(paths)
    assert (first.computed, second.computed) == (5, 0)
    assert np.array_equal(first.rows, second.rows)
    assert list(first.failed) == list(second.failed) == [5]
    assert "missing.jpg" in str(first.failed[5])


def test_others_can_write_to_the_cache_while_rows_are_computed(
    tiny_run: Run, tiny_dataset: Path, tmp_path: Path
) -> None:
    cache = DescriptorCache(Bundle.load(tiny_run.folder / "model"), tmp_path)

    def write_beside(what: str, done: int, total: int) -> None:
        (path,) = tmp_path.rglob("*.sqlite")
        with closing(sqlite3.connect(path, timeout=0)) as other, other:
            other.execute("INSERT OR REPLACE INTO rows VALUES ('photo', 'view', x'00')")

    found = cache.get(sorted((tiny_dataset / "test").rglob("*.jpg"))[:5], progress=write_beside)
    assert found.computed == 5
