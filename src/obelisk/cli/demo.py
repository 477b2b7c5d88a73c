"""``obelisk demo``: the whole path, on photos that are made for it or on a dataset of yours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, note, require_extra, result
from obelisk.cli.evaluate import describe_runs, predict_all, read_and_tell, show_comparison, tell_left_out
from obelisk.errors import DataError

if TYPE_CHECKING:
    from obelisk.data import Catalog
    from obelisk.gallery import Gallery
    from obelisk.records import Recognition
    from obelisk.training.run import Run

ARMS = ("baseline_softmax", "proposed_triplet")
SHOWN = 3


def demo(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="A dataset; left out, photos of made-up landmarks are rendered."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")] = Path("obelisk-demo"),
) -> None:
    """Show the whole path: data, baseline and proposed recognizer, comparison, recognition, report.

    Stages that are done already are not done again.
    """
    require_extra("train", module="torch", needed_for="the demo")
    from obelisk.config import load_recipe
    from obelisk.evaluation import compare_runs
    from obelisk.evaluation.report import write_report
    from obelisk.training.train import train_run

    with Meter() as meter:
        catalog = read_and_tell(data or render_photos(out / "photos", meter))
        known = catalog.select_known_queries().height
        note(
            f"{catalog.references.height} reference photos of {catalog.landmarks.height} landmarks,"
            f" {known} queries of them and {catalog.queries.height - known} of none"
        )
        if not known:
            raise DataError("no query shows a landmark", where=catalog.root, fix="give a dataset with test photos")
        runs = []
        for arm in ARMS:
            note(f"training {arm}")
            folder = out / "runs" / arm
            runs.append(train_run(load_recipe(arm), catalog, folder, resume=is_begun(folder), progress=meter))
    evaluated = predict_all(runs, catalog, catalog.root)
    comparison = compare_runs(describe_runs(evaluated), catalog)
    report = write_report(out / "report.html", comparison, catalog)
    show_comparison(comparison)
    recognise_some(runs[1], catalog, out)
    result(f"report: {report}")
    tell_left_out(evaluated)


def render_photos(folder: Path, meter: Meter) -> Path:
    """Render the dataset of made-up landmarks, unless it is there."""
    from obelisk.synthetic import generate_dataset

    return generate_dataset(folder, progress=meter)


def is_begun(folder: Path) -> bool:
    """Tell whether an earlier demo was stopped in the middle of this run."""
    return (folder / "recipe.toml").is_file() and not (folder / "run.json").is_file()


def recognise_some(run: Run, catalog: Catalog, out: Path) -> None:
    """Build a gallery with a run's model, name the landmarks in a few queries, and draw them with their neighbours."""
    from obelisk.gallery import build_gallery
    from obelisk.recognition import Recognizer
    from obelisk.recognition.explain import draw_recognitions

    gallery = build_gallery(out / "gallery", catalog, run.bundle).gallery
    known = catalog.select_known_queries()
    queries = known[:: max(1, known.height // SHOWN)][:SHOWN]
    names = catalog.landmark_names()
    answers = list(Recognizer.open(gallery).recognize(catalog.locate_photos(queries)))
    for answer in answers:
        result(f"{answer.photo}: {answer.landmark} (confidence {answer.confidence:.2f})")
    truths = [names.get(ids[0]) for ids in queries["landmark_ids"].to_list()]
    picture = out / "recognition.png"
    draw_recognitions(answers, truths, neighbour_photos(answers, gallery, catalog)).save(picture)
    result(f"picture: {picture}")


def neighbour_photos(answers: Sequence[Recognition], gallery: Gallery, catalog: Catalog) -> list[list[Path]]:
    """Return where the reference photos that each answer rests on lie."""
    paths = dict(catalog.references.select("image_id", "path").iter_rows())
    return [[catalog.root / paths[neighbour.id] for neighbour in answer.neighbours] for answer in answers]
