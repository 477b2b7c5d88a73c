"""Evaluating what people use: a finished run, a bundle, or a gallery, on the queries of a dataset.

::

    catalog = read_catalog("gldv2")
    evaluated = evaluate_model("runs/arcface", catalog)     # or a bundle, a gallery, the word "bundled"
    print(evaluated.measure().values["top1"])

Every answer comes from the :class:`~obelisk.recognition.Recognizer` that ``obelisk recognize`` uses. A run or a bundle
answers from a gallery of the dataset's reference photos, as ``obelisk gallery build`` makes it; a gallery as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obelisk.bundled import bundled_gallery
from obelisk.data import Catalog
from obelisk.embedding import MANIFEST_FILE, Bundle, BundleClassifier, CachedEmbedder
from obelisk.errors import ModelError, UsageError
from obelisk.evaluation.comparison import Comparison, LogRow, RunResult, compare_runs
from obelisk.evaluation.predict import (
    CatalogGallery,
    build_for_evaluation,
    match_gallery,
    open_recognizer,
    predict_queries,
)
from obelisk.evaluation.predictions import Predictions, read_predictions, write_predictions
from obelisk.evaluation.protocol import Metrics, measure, write_metrics
from obelisk.evaluation.run_reader import Run, fingerprint_of_data, read_log
from obelisk.files import replace_file
from obelisk.gallery import Gallery
from obelisk.recognition import CALIBRATION, find_classifier
from obelisk.records import Progress, no_progress

BUNDLED = "bundled"
DATABASE = "gallery.sqlite"
ANSWERS = 2  # version of how answers come about: raised when the same model and data may get other ones


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What is evaluated: its name, its model with what decides, and its gallery.

    Without a ``gallery``, one of the catalog's reference photos is built. Predictions are kept in ``folder``, nowhere
    where it is None. ``title`` is one line for people, ``recipe`` and ``log`` are those of a run's training.
    """

    name: str
    bundle: Bundle
    classifier: BundleClassifier
    gallery: Gallery | None = None
    folder: Path | None = None
    title: str = ""
    recipe: Mapping[str, str] = field(default_factory=dict)
    log: Sequence[LogRow] = ()

    @classmethod
    def of_run(cls, run: Run, folder: Path | None = None) -> Target:
        """Return a run to be evaluated, with predictions in ``folder``, or else in the run's own folder."""
        return cls(
            name=run.recipe.name,
            title=run.recipe.title,
            bundle=run.bundle,
            classifier=run.find_classifier(),
            folder=folder or run.folder,
            recipe=run.recipe.summary(),
            log=read_log(run.folder),
        )

    def identify(self, computes_with: str) -> str:
        """Return a hash of all that answers depend on, except the dataset's photos.

        ``computes_with`` is that of an embedder: other runtimes give other digits.
        """
        said: dict[str, object] = {
            "answers": ANSWERS,
            "model": self.bundle.fingerprint,
            "runtime": computes_with,
            "attachments": dict(self.bundle.manifest.files),
            "classifier": self.classifier.model_dump(),
        }
        if self.gallery:
            own = self.gallery.path / CALIBRATION
            said["calibration"] = own.read_text(encoding="utf-8", errors="replace") if own.is_file() else None
            said["photos"] = [(photo.id, photo.landmark_id, photo.content_hash) for photo in self.gallery.photos]
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """A target with its predictions.

    ``threshold`` is the confidence below which its answers are rejected, None where none is. ``left_out`` says which
    photos could not be used, and why; ``remark`` what there is to know of the answers. ``judged`` is the catalog whose
    references are the gallery's.
    """

    target: Target
    predictions: Predictions
    threshold: float | None
    left_out: Sequence[str]
    remark: str | None
    judged: Catalog

    def measure(self) -> Metrics:
        """Measure the predictions, and write ``metrics.json`` beside them where they are kept."""
        metrics = measure(self.predictions, self.judged, threshold=self.threshold)
        if self.target.folder:
            write_metrics(self.target.folder / "metrics.json", metrics)
        return metrics


def open_target(place: Path | str, out: Path | None = None) -> Target:
    """Open a finished run, a bundle, a gallery, or the bundled one by the word ``bundled``, to be evaluated.

    Predictions are kept in ``out``; without it, those of a run in its folder and others nowhere. Raises ModelError
    for a folder that is none of these, and what opening one raises.
    """
    folder = bundled_gallery() if str(place) == BUNDLED else Path(place)
    if (folder / DATABASE).is_file():
        gallery = Gallery.open(folder)
        bundle = gallery.load_bundle()
        name = BUNDLED if str(place) == BUNDLED else folder.resolve().name
        return Target(name=name, bundle=bundle, classifier=find_classifier(bundle), gallery=gallery, folder=out)
    if (folder / MANIFEST_FILE).is_file():
        bundle = Bundle.load(folder)
        return Target(name=bundle.name, bundle=bundle, classifier=find_classifier(bundle), folder=out)
    if not (folder / "run.json").is_file():
        what = "not a finished run, and neither a bundle nor a gallery"
        raise ModelError(what, where=folder, fix="obelisk train … --out RUN, or name a bundle or a gallery")
    return Target.of_run(Run.open(folder), out)


def evaluate_model(
    place: Path | str, catalog: Catalog, *, out: Path | None = None, progress: Progress = no_progress
) -> Evaluated:
    """Answer the queries of a catalog by a run, a bundle or a gallery, unless its predictions are there already."""
    (evaluated,) = evaluate_targets([open_target(place, out)], catalog, progress=progress)
    return evaluated


def evaluate_targets(
    targets: Sequence[Target], catalog: Catalog, *, progress: Progress = no_progress
) -> list[Evaluated]:
    """Answer the queries of a catalog by several targets; the dataset's photos are hashed once for all of them."""
    contents = fingerprint_of_data(catalog)
    return [evaluate_target(target, catalog, contents, progress) for target in targets]


def evaluate_target(target: Target, catalog: Catalog, contents: str, progress: Progress) -> Evaluated:
    """Return a target's answers: from its folder if they are there, else given now, and kept there.

    ``contents`` is the fingerprint of the catalog's photos. The dataset is noted beside the predictions, for
    ``obelisk compare`` without --data.
    """
    embedder = CachedEmbedder(target.bundle, progress=progress)
    made_by = f"{target.identify(embedder.computes_with)} {contents}"
    if target.folder and (kept := read_kept(target, catalog, made_by)):
        return kept
    with open_gallery(target, catalog, embedder) as matched:
        recognizer = open_recognizer(matched.gallery, target.classifier, embedder, progress)
        predictions = predict_queries(recognizer, catalog, matched, made_by)
        paths = catalog.locate_photos(catalog.queries)
        bad = [photo.error for photo in recognizer.embedder.embed(paths) if photo.error]
        evaluated = Evaluated(
            target=target,
            predictions=predictions,
            threshold=recognizer.threshold(),
            left_out=[str(error) for error in (*matched.failed, *bad)],
            remark=recognizer.find_remark(),
            judged=matched.judged,
        )
    if target.folder:
        keep(target.folder, evaluated, catalog.root)
    return evaluated


@contextmanager
def open_gallery(target: Target, catalog: Catalog, embedder: CachedEmbedder) -> Iterator[CatalogGallery]:
    """Give the target's gallery; where it has none, one of the catalog's references, as long as it is needed."""
    if target.gallery:
        yield match_gallery(target.gallery, catalog)
        return
    with build_for_evaluation(catalog, embedder) as built:
        yield built


def keep(folder: Path, evaluated: Evaluated, data: Path) -> None:
    """Write predictions, and beside them what they came from and what else there is to know of them."""
    write_predictions(folder / "predictions.parquet", evaluated.predictions)
    noted = {
        "data": str(data.resolve()),
        "made_by": evaluated.predictions.made_by,
        "threshold": evaluated.threshold,
        "remark": evaluated.remark,
        "left_out": list(evaluated.left_out),
    }
    text = json.dumps(noted, indent=1) + "\n"
    replace_file(folder / "evaluated.json", lambda partial: partial.write_text(text))


def read_kept(target: Target, catalog: Catalog, made_by: str) -> Evaluated | None:
    """Return the answers that are in a target's folder, None unless they are there and of the same model and data."""
    if target.folder is None or (noted := read_note(target.folder)).get("made_by") != made_by:
        return None
    path = target.folder / "predictions.parquet"
    if not path.is_file() or (predictions := read_predictions(path)).made_by != made_by:
        return None
    return Evaluated(
        target=target,
        predictions=predictions,
        threshold=noted["threshold"],
        left_out=noted["left_out"],
        remark=noted["remark"],
        judged=match_gallery(target.gallery, catalog).judged if target.gallery else catalog,
    )


def read_note(folder: Path) -> dict[str, Any]:
    """Return what the last evaluation noted beside its predictions; nothing where that cannot be read."""
    try:
        noted = json.loads((folder / "evaluated.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def remembered_data(folders: Sequence[Path | None]) -> Path:
    """Return the dataset that the runs in some folders were evaluated on, as far as they were.

    Raises UsageError where that was none, or several.
    """
    notes = [read_note(folder) for folder in folders if folder]
    known = sorted({str(noted["data"]) for noted in notes if "data" in noted})
    if len(known) != 1:
        what = f"the runs were evaluated on {len(known)} datasets" if known else "none of the runs has been evaluated"
        raise UsageError(what, fix="name the dataset with --data DIR")
    return Path(known[0])


def compare_targets(
    targets: Sequence[Target], catalog: Catalog, *, progress: Progress = no_progress
) -> tuple[Comparison, list[Evaluated]]:
    """Evaluate targets on the queries of a catalog, and compare them; return also what each of them answered."""
    evaluated = evaluate_targets(targets, catalog, progress=progress)
    return compare_runs(describe_targets(evaluated), catalog), evaluated


def describe_targets(evaluated: Sequence[Evaluated]) -> list[RunResult]:
    """Put together what a comparison shows of each target, under its name, or its folder's if that is taken."""
    described: dict[str, RunResult] = {}
    for one in evaluated:
        target = one.target
        folder = target.gallery.path if target.gallery else target.folder or target.bundle.folder
        name = next(name for name in (target.name, folder.name, str(folder)) if name not in described)
        described[name] = RunResult(
            name=name,
            title=target.title,
            recipe=target.recipe,
            predictions=one.predictions,
            k=target.classifier.k,
            threshold=one.threshold,
            judged=one.judged,
            log=target.log,
        )
    return list(described.values())
