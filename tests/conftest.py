"""Fixtures that all tests share: a cache folder of their own, the real photos, a tiny dataset and a run on it."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from obelisk.config import Recipe
from obelisk.data import read_catalog
from obelisk.embedding import Bundle, write_bundle
from obelisk.evaluation.run_reader import Run
from obelisk.synthetic import generate_dataset
from obelisk.training.train import train_run


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing of the user's is read or written; one runtime computes, whatever is installed; no network is tried."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OBELISK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OBELISK_RUNTIME", "onnxruntime")
        # The process in which a network is first tried costs half a second; it has tests of its own.
        patch.setattr("obelisk.embedding.runtime.try_first", lambda bundle: None)
        yield


@pytest.fixture(scope="session")
def real_photos() -> Path:
    """The folder of gldv2-mini, real photos in GLDv2's layout: $OBELISK_REAL_PHOTOS, or shared/ beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "gldv2-mini"
    folder = Path(os.environ.get("OBELISK_REAL_PHOTOS") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real photos at {folder}: set OBELISK_REAL_PHOTOS to a folder in GLDv2's layout")
    return folder


WriteBundle = Callable[..., Bundle]


@pytest.fixture(scope="session")
def write_any_bundle() -> WriteBundle:
    """Write a bundle to a folder whose network need not run; a test names what matters to it."""

    def write(folder: Path, network: bytes = b"none", **named: Any) -> Bundle:
        about = {"card": "", "name": "none", "size": 8, "resize": "crop", "dimensions": 4}
        norm = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "licence": "MIT", "data": "none"}
        return write_bundle(folder, network=network, **about | norm | named)

    return write


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six made-up landmarks at 64 px, in GLDv2's layout."""
    return generate_dataset(
        tmp_path_factory.mktemp("photos") / "tiny", landmarks=6, references=60, queries=18, distractors=6, size=64
    )


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """A recipe that trains in a second: a backbone made for tests, with random weights."""
    return Recipe.model_validate(
        {
            "name": "tiny",
            "photos": {"size": 64},
            "backbone": {"names": ["test_efficientnet"], "weights": "random", "stages": 2},
            "views": {"count": 1},
            "neck": {"dimensions": 16, "dropout": 0.0},
            "training": {"epochs": 3, "batch_size": 16},
        }
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_dataset: Path, tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The recipe trained on the dataset."""
    return train_run(tiny_recipe, read_catalog(tiny_dataset), tmp_path_factory.mktemp("runs") / "tiny")
