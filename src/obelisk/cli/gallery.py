"""``obelisk gallery``: build, change, inspect and check a gallery."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, SkippedFolders, WholeHelp, count_of, note, result, table, warn
from obelisk.cli.gallery_changes import (
    GalleryFolder,
    add_command,
    merge_command,
    remove_command,
    rename_command,
)
from obelisk.cli.photo_arguments import Exclude
from obelisk.errors import UsageError

if TYPE_CHECKING:
    from obelisk.gallery import BuildReport, GalleryFacts

NAMED_LANDMARKS = 10  # of those without a photo; a dataset may list thousands

gallery_app = typer.Typer(
    cls=WholeHelp,
    name="gallery",
    help="Build, change and inspect a gallery of reference photos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@gallery_app.command("build")
def build_command(
    path: GalleryFolder,
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A GLDv2 dataset (its train photos) or a folder per landmark.",
            readable=False,
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="M",
            help="The model: a bundle or a run.",
            show_default="that of the gallery, or the bundled one",
            readable=False,
        ),
    ] = None,
    no_paths: Annotated[
        bool, typer.Option("--no-paths", help="Do not record where the photos lie on this machine.")
    ] = False,
    exclude: Exclude = None,
) -> None:
    """Build a gallery from a dataset, or add what is new to it.

    An interrupted build continues where it stopped. An existing gallery keeps the photos that DIR does not have.
    Exits 1 if some photos could not be used; the gallery then holds the others.
    """
    from obelisk.bundled import bundled_gallery
    from obelisk.data import read_catalog
    from obelisk.gallery import Gallery, build_gallery, gather_facts, load_model
    from obelisk.recognition import find_layer_remark

    built = (path / "model").is_dir()
    bundle = load_model(model or (path if built else bundled_gallery()))
    skipped = SkippedFolders(exclude)
    catalog = read_catalog(data, onerror=skipped, photo_filter=skipped.photo_filter)
    for omission in catalog.notes:
        warn(omission)
    with Meter() as meter:
        report = build_gallery(path, catalog, bundle, progress=meter, keep_paths=not no_paths)
        Gallery.open(path, progress=meter).references()  # index a large gallery now rather than at the first search
    if remark := find_layer_remark(report.gallery, bundle):
        note(remark)
    report_skipped(report)
    report_differences(report, path, data)
    done = f"{report.embedded} embedded, {report.reused} reused, {report.unchanged} unchanged"
    facts = gather_facts(report.gallery)
    result(f"{path}: {count_contents(facts)} ({done})")
    skipped.report()
    if report.failed or skipped:
        raise typer.Exit(1)


def report_skipped(report: BuildReport) -> None:
    """Name the photos that could not be used, and the landmarks left without a photo."""
    for error in report.failed:
        warn(str(error))
    if report.failed:
        total = len(report.failed) + report.embedded + report.reused + report.unchanged
        warn(f"{len(report.failed)} of {total} photos could not be used")
    for landmark in report.without_photo[:NAMED_LANDMARKS]:
        warn(f"no usable photo of `{landmark.name}` (id {landmark.id}): it will never be recognized")
    if len(report.without_photo) > NAMED_LANDMARKS:
        warn(f"nor of {len(report.without_photo) - NAMED_LANDMARKS} more landmarks")


def report_differences(report: BuildReport, path: Path, data: Path) -> None:
    """Say where the gallery differed from the dataset."""
    if report.moved:
        note(f"{report.moved} photos had other landmarks in {path}; they now have those of {data}")
    if report.not_in_data:
        note(f"{report.not_in_data} photos of {path} are not in {data}; `obelisk gallery remove` removes them")


gallery_app.command("add")(add_command)
gallery_app.command("remove")(remove_command)
gallery_app.command("rename")(rename_command)
gallery_app.command("merge")(merge_command)


@gallery_app.command("info")
def info_command(
    path: GalleryFolder,
    landmarks: Annotated[bool, typer.Option("--landmarks", help="List the landmarks with their ids.")] = False,
    photos: Annotated[bool, typer.Option("--photos", help="List the photos: their ids, landmarks and files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: one object, or one per row of a list.")] = False,
) -> None:
    """Show a gallery's model, its contents and its rejection threshold."""
    from obelisk.gallery import Gallery, gather_facts, landmark_counts, list_photos
    from obelisk.recognition.calibration import find_calibration

    if landmarks and photos:
        raise UsageError("`info` prints one list", fix="give either --landmarks or --photos")
    gallery = Gallery.open(path)
    if photos:
        print_rows(list_photos(gallery), ("id", "landmark", "landmark_id", "file"), as_json=as_json)
        return
    if landmarks:
        rows = ({**asdict(landmark), "photos": count} for landmark, count in landmark_counts(gallery).items())
        print_rows(rows, ("id", "name", "latitude", "longitude", "photos"), as_json=as_json)
        return
    calibration = find_calibration(gallery, gallery.load_bundle())
    facts = {
        **asdict(gather_facts(gallery)),
        # Without a calibration, confidence is the score, and only --threshold rejects.
        "threshold": calibration.threshold() if calibration else None,
    }
    if as_json:
        result(json.dumps(facts, ensure_ascii=False))
    else:
        table(("", ""), [(fact, "none" if value is None else value) for fact, value in facts.items()])


def print_rows(rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print one JSON object per row, or the columns as a table."""
    if as_json:
        for row in rows:
            result(json.dumps(row, ensure_ascii=False))
    else:
        table(columns, [["" if row[column] is None else row[column] for column in columns] for row in rows])


@gallery_app.command("check")
def check_gallery_command(path: GalleryFolder) -> None:
    """Check all that recognition reads; exit 1 if there is a problem.

    These are the tables, the embeddings, the model with its calibration, and the search index.
    """
    from obelisk.gallery import Gallery, check_gallery, check_index, gather_facts, rebuild_advice
    from obelisk.recognition import check_recognition

    problems = check_gallery(path) or check_recognition(path)
    for problem in problems:
        result(f"{path}: {problem}")
    if problems:
        note(f"if nothing else helps, {rebuild_advice(path)}")
        raise typer.Exit(1)
    if remark := check_index(path):
        note(remark)
    facts = gather_facts(Gallery.open(path))
    result(f"{path}: sound, {count_contents(facts)}")


def count_contents(facts: GalleryFacts) -> str:
    """Return ``3 photos of 1 landmark``."""
    return f"{count_of(facts.photos, 'photo')} of {count_of(facts.landmarks, 'landmark')}"
