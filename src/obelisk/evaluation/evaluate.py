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
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from obelisk.bundled import locate_gallery, name_gallery
from obelisk.data import Catalog
from obelisk.embedding import LARGEST_JSON, MANIFEST_FILE, Bundle, BundleClassifier, CachedEmbedder, parse_json
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
from obelisk.evaluation.retrieval import PLAIN, Retrieval
from obelisk.evaluation.run_reader import Run, fingerprint_of_data, read_log
from obelisk.files import read_limited, replace_file
from obelisk.gallery import DATABASE, Gallery, is_address
from obelisk.recognition import CALIBRATION, find_classifier
from obelisk.records import Progress, no_progress

LARGEST_NOTE = 2**26  # bytes; a photo that was left out takes a line
ANSWERS = 3  # raised whenever the same model and data may get other answers


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What is evaluated: a model, its decision rule, and its gallery.

    Without a ``gallery``, one is built from the catalog's reference photos. Predictions are kept in ``folder``; None
    keeps them nowhere. A read-only ``folder`` is an error if it was ``asked_for``; otherwise predictions are read from
    there, but not written. ``title`` is one line for people; ``recipe`` and ``log`` are those of a training run.
    """

    name: str
    bundle: Bundle
    classifier: BundleClassifier
    gallery: Gallery | None = None
    folder: Path | None = None
    asked_for: bool = True
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
            asked_for=folder is not None,
            recipe=run.recipe.summary(),
            log=read_log(run.folder),
        )

    @property
    def kept_in(self) -> Path | None:
        """The folder to which predictions are written; None if they are not."""
        return self.folder if self.folder and (self.asked_for or os.access(self.folder, os.W_OK)) else None

    def identify(self, computes_with: str, matched: CatalogGallery | None) -> str:
        """Return a hash of all that answers depend on, except the dataset's photos.

        ``computes_with`` is that of an embedder, as other runtimes give other digits; ``matched`` is the target's own
        gallery beside the catalog.
        """
        said: dict[str, object] = {
            "answers": ANSWERS,
            "model": self.bundle.fingerprint,
            "runtime": computes_with,
            "attachments": dict(self.bundle.manifest.files),
            "classifier": self.classifier.model_dump(),
        }
        if matched:
            own = matched.gallery.truth.read_file(CALIBRATION, LARGEST_JSON)
            said["own calibration"] = matched.gallery.own_calibration()
            said["calibration"] = None if own is None else own.decode(errors="replace")
            said["photos"] = [(photo.id, photo.landmark_id, photo.content_hash) for photo in matched.gallery.photos]
            said["landmarks"] = sorted(matched.landmark_ids.items()), sorted(matched.merged.items())
        return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """A target with its predictions.

    ``threshold`` is the confidence below which its answers are rejected, None if none is. ``left_out`` says which
    photos could not be used, and why; ``remark`` says what else people should know about the answers. ``judged`` is the
    catalog whose references are the gallery's; ``merged`` are its landmarks that are one in the gallery, as
    :func:`~obelisk.evaluation.outcomes.judge` takes them.
    """

    target: Target
    predictions: Predictions
    threshold: float | None
    left_out: Sequence[str]
    remark: str | None
    judged: Catalog
    merged: Mapping[int, int]

    def measure(self) -> Metrics:
        """Measure the predictions, and write ``metrics.json`` beside them where they are kept."""
        metrics = measure(self.predictions, self.judged, threshold=self.threshold, merged=self.merged)
        if folder := self.target.kept_in:
            write_metrics(folder / "metrics.json", metrics)
        return metrics


def open_target(source: Path | str, out: Path | None = None) -> Target:
    """Open a finished run, a bundle, a gallery, or the bundled one by the word ``bundled``, to be evaluated.

    Predictions are kept in ``out``; without it, a run's are kept in its folder, unless that is read-only; others are
    not kept. Raises ModelError for a folder that is none of these, and whatever opening one of these raises.
    """
    folder = Path() if is_address(source) else locate_gallery(source)
    if is_address(source) or (folder / DATABASE).is_file():
        gallery = Gallery.open(source)
        bundle = gallery.load_bundle()
        name = Path(name_gallery(folder.resolve()) if gallery.folder else gallery.name).name
        return Target(name=name, bundle=bundle, classifier=find_classifier(bundle), gallery=gallery, folder=out)
    if (folder / MANIFEST_FILE).is_file():
        bundle = Bundle.load(folder)
        return Target(name=bundle.name, bundle=bundle, classifier=find_classifier(bundle), folder=out)
    if not (folder / "run.json").is_file():
        what = "not a finished run, a bundle or a gallery" if folder.exists() else "no such file or folder"
        raise ModelError(what, where=folder, fix="name a finished run, a bundle or a gallery, or `bundled`")
    return Target.of_run(Run.open(folder), out)


def evaluate_model(
    source: Path | str, catalog: Catalog, *, out: Path | None = None, progress: Progress = no_progress
) -> Evaluated:
    """Answer the queries of a catalog with a run, a bundle or a gallery, unless its predictions exist already.

    ``source`` and ``out`` are those of :func:`open_target`, which says what is raised.
    """
    (evaluated,) = evaluate_targets([open_target(source, out)], catalog, progress=progress)
    return evaluated


def evaluate_targets(
    targets: Sequence[Target],
    catalog: Catalog,
    *,
    data: Path | None = None,
    progress: Progress = no_progress,
    how: Retrieval = PLAIN,
) -> list[Evaluated]:
    """Answer the queries of a catalog with several targets; the dataset's photos are hashed once for all of them.

    ``data``, by default the catalog's root, is noted beside the predictions as the dataset's folder, for
    :func:`remembered_data`. ``how`` says whether queries or references are expanded, and geometry verified.
    """
    contents = fingerprint_of_data(catalog)
    return [evaluate_target(target, catalog, contents, data or catalog.root, progress, how) for target in targets]


def evaluate_target(
    target: Target,
    catalog: Catalog,
    contents: str,
    data: Path,
    progress: Progress = no_progress,
    how: Retrieval = PLAIN,
) -> Evaluated:
    """Return a target's answers: from its folder if they exist, else computed now and kept there.

    ``contents`` is the fingerprint of the catalog's photos, ``data`` the dataset's folder.
    """
    embedder = CachedEmbedder(target.bundle, progress=progress)
    own = match_gallery(target.gallery, catalog) if target.gallery else None
    made_by = f"{target.identify(embedder.computes_with, own)} {contents}"
    if how != PLAIN:
        made_by += f" {how.expand} {how.verify}"
    if kept := read_kept(target, own.judged if own else catalog, made_by, own.merged if own else {}):
        return kept
    with nullcontext(own) if own else build_for_evaluation(catalog, embedder) as matched:
        recognizer = open_recognizer(matched.gallery, target.classifier, embedder, progress)
        predictions, failed = predict_queries(recognizer, catalog, matched, made_by, how)
        mismatch = find_mismatch(catalog, matched, by_name=own is not None)
        evaluated = Evaluated(
            target=target,
            predictions=predictions,
            threshold=recognizer.threshold(),
            left_out=[*map(str, matched.failed), *failed],
            remark="; ".join(filter(None, (mismatch, recognizer.find_remark()))) or None,
            judged=matched.judged,
            merged=matched.merged,
        )
    if folder := target.kept_in:
        keep(folder, evaluated, data)
    return evaluated


def find_mismatch(catalog: Catalog, matched: CatalogGallery, *, by_name: bool) -> str | None:
    """Say how many queries show a landmark that the gallery does not have, if any do.

    If all do, there is hardly a metric that means anything. ``by_name`` says how landmarks are matched.
    """
    truths = catalog.select_known_queries()["landmark_ids"].to_list()
    known = {*matched.landmark_ids.values(), *matched.merged}
    unknown = sum(known.isdisjoint(truth) for truth in truths)
    if unknown == len(truths):
        how = "landmarks are matched by name" if by_name else "by the ids in the dataset's tables"
        return f"no query shows a landmark of this gallery, so all count as distractors ({how})"
    if unknown:
        what = f"{unknown} of {len(truths)} queries show only landmarks that the gallery does not have"
        return f"{what}, and can't be named right"
    return None


class Note(BaseModel):
    """What ``evaluated.json`` holds: what predictions were made from, and what else an evaluation found."""

    data: str | None = None
    made_by: str | None = None
    threshold: float | None = None
    remark: str | None = None
    left_out: tuple[str, ...] = ()


def keep(folder: Path, evaluated: Evaluated, data: Path) -> None:
    """Write predictions, and beside them what they were made from and the rest of the evaluation."""
    write_predictions(folder / "predictions.parquet", evaluated.predictions)
    noted = Note(
        data=str(data.resolve()),
        made_by=evaluated.predictions.made_by,
        threshold=evaluated.threshold,
        remark=evaluated.remark,
        left_out=tuple(evaluated.left_out),
    )
    text = json.dumps(noted.model_dump(), indent=1) + "\n"
    replace_file(folder / "evaluated.json", lambda partial: partial.write_text(text, encoding="utf-8", newline="\n"))


def read_kept(target: Target, judged: Catalog, made_by: str, merged: Mapping[int, int]) -> Evaluated | None:
    """Return the answers kept in a target's folder; None unless they were made by the same model from the same data."""
    if target.folder is None or (noted := read_note(target.folder)).made_by != made_by:
        return None
    path = target.folder / "predictions.parquet"
    if not path.is_file() or (predictions := read_predictions(path)).made_by != made_by:
        return None
    return Evaluated(
        target=target,
        predictions=predictions,
        threshold=noted.threshold,
        left_out=noted.left_out,
        remark=noted.remark,
        judged=judged,
        merged=merged,
    )


def read_note(folder: Path) -> Note:
    """Return what the last evaluation noted beside its predictions; nothing if that can't be read."""
    path = folder / "evaluated.json"
    try:
        return parse_json(read_limited(path, LARGEST_NOTE), TypeAdapter(Note), where=path, what="note", fix="")
    except (OSError, ModelError):
        return Note()


def remembered_data(folders: Sequence[Path | None]) -> Path:
    """Return the dataset that the runs in these folders were evaluated on; raise UsageError for none or several."""
    notes = [read_note(folder) for folder in folders if folder]
    known = sorted({noted.data for noted in notes if noted.data})
    if len(known) != 1:
        what = f"the runs were evaluated on {len(known)} datasets" if known else "none of the runs has been evaluated"
        raise UsageError(what, fix="name the dataset with --data DIR")
    return Path(known[0])


def compare_targets(
    targets: Sequence[Target], catalog: Catalog, *, data: Path | None = None, progress: Progress = no_progress
) -> tuple[Comparison, list[Evaluated]]:
    """Evaluate targets on the queries of a catalog and compare them; also return what each of them answered."""
    evaluated = evaluate_targets(targets, catalog, data=data, progress=progress)
    return compare_runs(describe_targets(evaluated), catalog), evaluated


def describe_targets(evaluated: Sequence[Evaluated]) -> list[RunResult]:
    """Return what a comparison shows of each target, named by its name, or by its folder if the name is taken."""
    results: dict[str, RunResult] = {}
    for one in evaluated:
        target = one.target
        place = target.gallery.name if target.gallery else str(target.folder or target.bundle.folder)
        name = next(name for name in (target.name, Path(place).name, place) if name not in results)
        results[name] = RunResult(
            name=name,
            title=target.title,
            recipe=target.recipe,
            predictions=one.predictions,
            k=target.classifier.k,
            threshold=one.threshold,
            judged=one.judged,
            merged=one.merged,
            log=target.log,
        )
    return list(results.values())
