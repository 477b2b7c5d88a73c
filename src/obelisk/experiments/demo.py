"""The whole path in one call: data → baseline and proposed model → comparison → recognition → report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from obelisk.config import load_recipe
from obelisk.data import Catalog
from obelisk.errors import DataError
from obelisk.evaluation import Comparison, Evaluated, Run, Target, compare_targets, write_report
from obelisk.files import replace_file
from obelisk.gallery import build_gallery
from obelisk.recognition import Recognizer
from obelisk.recognition.explain import draw_recognitions
from obelisk.records import Progress, Recognition, no_progress
from obelisk.training.train import train_run

ARMS = ("baseline_softmax", "proposed_triplet")
SHOWN = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class DemoResult:
    """Two trained arms compared, some queries answered by the second, and the files that show both."""

    comparison: Comparison
    evaluated: Sequence[Evaluated]
    answers: Sequence[Recognition]
    report: Path
    picture: Path


def run_demo(catalog: Catalog, out: Path, *, progress: Progress = no_progress) -> DemoResult:
    """Train the two arms of the reference comparison on a catalog, compare them, and name landmarks in a few queries.

    Finished stages are skipped. Raises DataError for a catalog without a query of a landmark.
    """
    if not catalog.select_known_queries().height:
        raise DataError("no query shows a landmark", where=catalog.root, fix="give a dataset with test photos")
    runs = []
    for arm in ARMS:
        folder = out / "runs" / arm
        runs.append(train_run(load_recipe(arm), catalog, folder, resume=is_begun(folder), progress=progress))
    comparison, evaluated = compare_targets([Target.of_run(run) for run in runs], catalog, progress=progress)
    report = write_report(out / "report.html", comparison, catalog)
    answers, picture = recognize_some(runs[1], catalog, out)
    return DemoResult(comparison=comparison, evaluated=evaluated, answers=answers, report=report, picture=picture)


def is_begun(folder: Path) -> bool:
    """Return whether an earlier demo was stopped in the middle of this run."""
    return (folder / "recipe.toml").is_file() and not (folder / "run.json").is_file()


def recognize_some(run: Run, catalog: Catalog, out: Path) -> tuple[list[Recognition], Path]:
    """Build a gallery with a run's model, name the landmarks in a few queries, and draw them with their neighbors."""
    gallery = build_gallery(out / "gallery", catalog, run.bundle).gallery
    known = catalog.select_known_queries()
    queries = known[:: max(1, known.height // SHOWN)][:SHOWN]
    names = catalog.landmark_names()
    answers = list(Recognizer.open(gallery).recognize(catalog.locate_photos(queries)))
    truths = [names.get(ids[0]) for ids in queries["landmark_ids"].to_list()]
    picture = out / "recognition.png"
    drawn = draw_recognitions(answers, truths, neighbor_photos(answers, catalog))
    replace_file(picture, lambda partial: drawn.save(partial, "PNG"))
    return answers, picture


def neighbor_photos(answers: Sequence[Recognition], catalog: Catalog) -> list[list[Path]]:
    """Return where the reference photos that each answer rests on lie."""
    paths = dict(catalog.references.select("image_id", "path").iter_rows())
    return [[catalog.root / paths[neighbor.id] for neighbor in answer.neighbours] for answer in answers]
