"""The model and the gallery that come with the package, made anew from the data: ``make bundled DATA=DIR OUT=OUT``.

::

    OUT/bundled                  the recipe, trained on all landmarks
    OUT/twin                     the same on a part of the landmarks and photos, to calibrate by
    OUT/model, OUT/twin_model    the bundles of both
    OUT/gallery                  what src/obelisk/bundled/gallery holds

Every step keeps what is there already. As background serve queries without a landmark whose id ends in an even digit,
and rendered photos; the queries with an odd one are left for reports.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from obelisk.config import load_recipe
from obelisk.data import Catalog, read_catalog
from obelisk.data.formats.subset_manifest import PHOTOS_VARIABLE, write_subset
from obelisk.data.subset import sample_subset
from obelisk.embedding import Bundle, DescriptorCache, Embedder, write_bundle
from obelisk.embedding.runtime_choice import VARIABLE
from obelisk.errors import UsageError
from obelisk.files import replace_file
from obelisk.gallery import build_gallery
from obelisk.recognition import BACKGROUND, CALIBRATION, Background, pack_background
from obelisk.recognition.background_photos import choose_background, embed_background
from obelisk.recognition.held_out_model import HeldOutPhotos, calibrate_new_landmarks, calibrate_trained_landmarks
from obelisk.training.export.export_run import export_run
from obelisk.training.train import train_run
from obelisk.training.validation import split_for_validation

RECIPE = "bundled"
TWIN_SHARE = 0.79  # of the landmarks that the twin is trained on
TWIN_SEED = 5
OTHER_SEED = 2  # of the rendered photos that ask the twin: not those of its background
CARD = Path(__file__).with_name("bundled_card.md")


def build_bundled(data: Path, out: Path) -> Path:
    """Train, calibrate and build what the package carries; return the gallery's folder."""
    catalog = read_catalog(data)
    os.environ[PHOTOS_VARIABLE] = str(data.resolve())  # the twin's photos are named by a manifest in OUT
    os.environ[VARIABLE] = "onnxruntime"  # what is shipped depends on no processor
    twin_catalog = sample_twin(catalog, out / "twin_photos")
    model = train_model(catalog, out, twin=False)
    twin = train_model(twin_catalog, out, twin=True)
    photos, queries = embed_for_twin(twin, catalog, twin_catalog)
    attachments = {
        BACKGROUND: pack_background(embed_background(Embedder(model), choose_background(catalog))),
        CALIBRATION: calibrate_new_landmarks(photos, queries).to_json().encode(),
    }
    attach(model, attachments)
    gallery = build_gallery(out / "gallery", catalog, Bundle.load(model.folder), keep_paths=False).gallery
    text = calibrate_trained_landmarks(photos).to_json()
    replace_file(gallery.path / CALIBRATION, lambda partial: partial.write_text(text))
    pack(gallery.path / "gallery.sqlite")
    return gallery.path


def pack(database: Path) -> None:
    """Lay the database out anew in large pages: of those of 4 KiB, an embedding of 2 KiB leaves a half empty."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA page_size = 32768")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")


def sample_twin(catalog: Catalog, folder: Path) -> Catalog:
    """Leave out whole landmarks, and photos of the others."""
    landmarks = round(TWIN_SHARE * catalog.landmarks.height)
    if not (folder / "manifest.json").is_file():
        write_subset(sample_subset(catalog, landmarks=landmarks, seed=TWIN_SEED), folder)
    return read_catalog(folder)


def train_model(catalog: Catalog, out: Path, *, twin: bool) -> Bundle:
    """Train the recipe, and export it."""
    folder = out / ("twin_model" if twin else "model")
    if (folder / "bundle.json").is_file():
        return Bundle.load(folder)
    place = out / ("twin" if twin else "bundled")
    resume = (place / "recipe.toml").is_file() and not (place / "run.json").is_file()
    recipe = load_recipe(RECIPE, ["data.refit=false", "name=twin"] if twin else [])
    run = train_run(recipe, catalog, place, resume=resume, progress=tell)
    photos = catalog.locate_photos(catalog.references)
    return export_run(run, folder, photos=photos, precision="int8").bundle


def tell(what: str, done: int, total: int) -> None:
    """Say on stderr that a stage is done."""
    if done == total:
        sys.stderr.write(f"{what}: {total}\n")


def embed_for_twin(twin: Bundle, catalog: Catalog, trained: Catalog) -> tuple[HeldOutPhotos, NDArray[np.bool_]]:
    """Embed all reference photos with the twin; return them, and those that are held back from every gallery.

    ``trained`` is what the twin was trained on.
    """
    embedder = Embedder(twin)
    whole = split_for_validation(load_recipe(RECIPE), catalog).references
    embeddings = DescriptorCache(twin).get(catalog.locate_photos(whole)).rows
    chosen = split_for_validation(load_recipe(RECIPE), trained).select_references("train")
    images, landmarks = whole["image_id"].to_numpy(), whole["landmark_id"].to_numpy()
    photos = HeldOutPhotos(
        embeddings=embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True),
        landmarks=landmarks,
        trained=np.isin(images, chosen["image_id"].to_numpy()),
        known=np.isin(landmarks, trained.landmarks["landmark_id"].to_numpy()),
        ordinary=embed_background(embedder, [], seed=OTHER_SEED),
        background=Background(embed_background(embedder, choose_background(catalog))),
    )
    return photos, (whole["split"] == "val").to_numpy()


def attach(bundle: Bundle, attachments: dict[str, bytes]) -> None:
    """Write a bundle of one network anew, with more attachments and its card."""
    (member,) = bundle.members
    manifest = bundle.manifest.model_dump(exclude={"format", "files", "fingerprint", "members"})
    network, card = bundle.read_network(member), CARD.read_text()
    own = {name: content for name in bundle.manifest.files if (content := bundle.read_attachment(name)) is not None}
    write_bundle(bundle.folder, network=network, card=card, attachments=own | attachments, **manifest)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise UsageError("two folders are needed", fix="python tools/bundled.py DATA OUT")
    build_bundled(Path(sys.argv[1]), Path(sys.argv[2]))
