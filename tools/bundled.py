"""Make the bundled model and gallery again from the data: ``make bundled DATA=DIR OUT=OUT``.

::

    OUT/bundled           the run of the recipe, trained on all landmarks
    OUT/held_out          the run of the held-out model, trained on some landmarks and photos, for the calibration
    OUT/held_out_photos   the manifests of these landmarks and photos
    OUT/model             the bundle of the first run
    OUT/held_out_model    the bundle of the second run
    OUT/gallery           what src/obelisk/bundled/gallery holds

Every step skips what is already there. The background is made of the distractors whose id ends in an even digit and of
rendered photos; the other distractors are left for evaluation.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from bundled_landmarks import complete_landmarks, pack

from obelisk.arrays import Booleans, l2_normalize
from obelisk.config import load_recipe
from obelisk.data import Catalog, read_catalog
from obelisk.data.formats.subset_manifest import PHOTOS_VARIABLE, write_subset
from obelisk.data.subset import sample_subset
from obelisk.embedding import Bundle, DescriptorCache, Embedder, attach
from obelisk.embedding.runtime_choice import VARIABLE
from obelisk.errors import UsageError
from obelisk.files import replace_file
from obelisk.gallery import build_gallery
from obelisk.recognition import BACKGROUND, CALIBRATION, Background, pack_background
from obelisk.recognition.background_photos import choose_background, embed_background
from obelisk.recognition.held_out_model import HeldOutPhotos, calibrate_new_landmarks, calibrate_trained_landmarks
from obelisk.recognition.rerank import make_inlier_counter
from obelisk.training.export.export_run import export_run
from obelisk.training.loading.references import split_for_validation
from obelisk.training.train import train_run

RECIPE = "bundled"
KNOWN_SHARE = 0.79  # of the landmarks, which the held-out model is trained on
KNOWN_SEED = 5
# Times as steep as fitted: the model that ships has learned more landmarks than the held-out one, and separates its own
# better. Chosen on photos that neither was trained on and on twelve monuments (docs/lab_log.md).
NEW_SHARPNESS = 1.1
TRAINED_SHARPNESS = 1.3
OTHER_SEED = 2  # of the rendered photos that play queries: not those of the background
CARD = Path(__file__).with_name("bundled_card.md")


def build_bundled(data: Path, out: Path) -> Path:
    """Train, calibrate and build what the package carries; return the folder of the gallery."""
    catalog = read_catalog(data)
    os.environ[PHOTOS_VARIABLE] = str(data.resolve())  # where the manifests in OUT look for photos
    os.environ[VARIABLE] = "onnxruntime"  # so that what is shipped does not depend on the processor
    known = sample_known(catalog, out / "held_out_photos")
    model = train_model(catalog, out, held_out=False)
    held_out_model = train_model(known, out, held_out=True)
    photos, queries = embed_held_out(held_out_model, catalog, known)
    new, trained = (
        calibration.model_copy(update={"model": model.fingerprint}).to_json()
        for calibration in (
            calibrate_new_landmarks(photos, queries, sharpness=NEW_SHARPNESS),
            calibrate_trained_landmarks(photos, sharpness=TRAINED_SHARPNESS),
        )
    )
    background = embed_background(Embedder(model), choose_background(catalog))
    attachments = {BACKGROUND: pack_background(background), CALIBRATION: new.encode()}
    attach(model, attachments, card=CARD.read_text())
    gallery = build_gallery(out / "gallery", catalog, Bundle.load(model.folder), keep_paths=False).gallery
    replace_file(gallery.path / CALIBRATION, lambda partial: partial.write_text(trained))
    complete_landmarks(gallery)
    pack(gallery.path / "gallery.sqlite")
    return gallery.path


def sample_known(catalog: Catalog, folder: Path) -> Catalog:
    """Return the catalog of the landmarks that the held-out model is trained on."""
    landmarks = round(KNOWN_SHARE * catalog.landmarks.height)
    if not (folder / "manifest.json").is_file():
        write_subset(sample_subset(catalog, landmarks=landmarks, seed=KNOWN_SEED), folder)
    return read_catalog(folder)


def train_model(catalog: Catalog, out: Path, *, held_out: bool) -> Bundle:
    """Train the recipe and export the run; the held-out model leaves validation photos out of its training, too."""
    folder = out / ("held_out_model" if held_out else "model")
    if (folder / "bundle.json").is_file():
        return Bundle.load(folder)
    run_folder = out / ("held_out" if held_out else "bundled")
    resume = (run_folder / "recipe.toml").is_file() and not (run_folder / "run.json").is_file()
    recipe = load_recipe(RECIPE, ["data.refit=false", "name=held_out"] if held_out else [])
    run = train_run(recipe, catalog, run_folder, resume=resume, progress=report_stage)
    photos = catalog.locate_photos(catalog.references)
    return export_run(run, folder, photos=photos, precision="int8").bundle


def report_stage(what: str, done: int, total: int) -> None:
    """Report on stderr that a stage is done."""
    if done == total:
        sys.stderr.write(f"{what}: {total}\n")


def embed_held_out(model: Bundle, catalog: Catalog, known: Catalog) -> tuple[HeldOutPhotos, Booleans]:
    """Embed all N reference photos with the held-out model, which was trained on ``known``.

    Returns them, and a mask (N,) of those that are kept out of every gallery to play queries.
    """
    embedder = Embedder(model)
    whole = split_for_validation(load_recipe(RECIPE), catalog).references
    files = catalog.locate_photos(whole)
    embeddings = DescriptorCache(model).get(files).rows
    chosen = split_for_validation(load_recipe(RECIPE), known).select_references("train")
    images, landmarks = whole["image_id"].to_numpy(), whole["landmark_id"].to_numpy()
    photos = HeldOutPhotos(
        embeddings=l2_normalize(embeddings, dimensions=model.dimensions),
        landmarks=landmarks,
        trained=np.isin(images, chosen["image_id"].to_numpy()),
        known=np.isin(landmarks, known.landmarks["landmark_id"].to_numpy()),
        ordinary=embed_background(embedder, [], seed=OTHER_SEED),
        background=Background(embed_background(embedder, choose_background(catalog))),
        count_inliers=make_inlier_counter(files),
    )
    return photos, (whole["split"] == "val").to_numpy()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise UsageError("two folders are needed", fix="python tools/bundled.py DATA OUT")
    build_bundled(Path(sys.argv[1]), Path(sys.argv[2]))
