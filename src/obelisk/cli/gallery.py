"""``obelisk gallery``: build, change, inspect and check a gallery."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.bundled import BUNDLED, locate_gallery
from obelisk.cli.console import Meter, SkippedFolders, WholeHelp, count_of, note, result, table, warn
from obelisk.cli.gallery_changes import (
    add_command,
    calibrate_command,
    merge_command,
    recalibrate,
    remove_command,
    rename_command,
    warn_of_few_landmarks,
    warn_of_twins,
)
from obelisk.cli.gallery_handover import export_command, import_command
from obelisk.cli.gallery_index import index_command
from obelisk.cli.gallery_push import pull_command, push_command
from obelisk.cli.landmarks import landmark_fields
from obelisk.cli.photo_arguments import Exclude, NamedGallery
from obelisk.errors import DataError, UsageError
from obelisk.wording import format_kilometers

if TYPE_CHECKING:
    from obelisk.embedding import Bundle
    from obelisk.embedding.shards import EmbeddedPhotos
    from obelisk.gallery import BuildReport, GalleryFacts

NAMED_PHOTOS = 5  # of those that are gone
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
    place: NamedGallery,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="A GLDv2 dataset (its train photos) or a folder per landmark.",
            show_default="that of --embedded",
            readable=False,
        ),
    ] = None,
    embedded: Annotated[
        Path | None,
        typer.Option(
            "--embedded",
            metavar="E",
            help="Take embeddings from a folder that `obelisk embed` filled.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="M",
            help="The model: a bundle, a run or `bundled`.",
            show_default="that of the gallery or of --embedded, or the bundled one",
            parser=locate_gallery,
        ),
    ] = None,
    no_paths: Annotated[
        bool, typer.Option("--no-paths", help="Do not record where the photos lie on this machine.")
    ] = False,
    exclude: Exclude = None,
    prune: Annotated[
        int,
        typer.Option(
            "--prune",
            count=True,
            help="Remove the photos that came from DIR and are gone from it; give it twice if they are more than half.",
            show_default=False,
        ),
    ] = 0,
) -> None:
    """Build a gallery from a dataset, or bring it up to date with one.

    New photos are added, photos that moved to another folder move to its landmark, and renamed folders rename their
    landmark. Photos that are gone from DIR stay unless you give --prune. An interrupted build continues where it
    stopped. Exits 1 if some photos could not be used; the gallery then holds the others.
    """
    from obelisk.data import read_catalog
    from obelisk.gallery import Gallery, build_gallery, gather_facts, load_model, open_truth
    from obelisk.recognition import find_layer_remark
    from obelisk.recognition.calibration import find_calibration

    truth = open_truth(place)
    built = truth.exists()
    bundle = truth.load_bundle(truth.about()) if built and not model else load_model(model or embedded or BUNDLED)
    embedder, data = open_embedded(embedded, bundle, data)
    skipped = SkippedFolders(exclude)
    catalog = read_catalog(data, onerror=skipped, photo_filter=skipped.photo_filter)
    for omission in catalog.notes:
        warn(omission)
    if prune and skipped:
        what = "some folders could not be searched, so nobody can say what is gone"
        raise UsageError(what, where=data, fix="change their permissions, or leave --prune out")
    with Meter() as meter:
        report = build_gallery(
            place,
            catalog,
            bundle,
            embedder=embedder,
            progress=meter,
            keep_paths=not no_paths,
            prune=prune > 0,
            prune_most=prune > 1,
        )
        Gallery.open(place, progress=meter).references()  # index a large gallery now rather than at the first search
    warn_of_twins(report.gallery, recalibrate(report.gallery))
    if find_calibration(report.gallery, bundle):
        warn_of_few_landmarks(len(report.gallery.landmarks))
    if remark := find_layer_remark(report.gallery, bundle):
        note(remark)
    if embedder:
        note(f"{embedder.taken} of {count_of(report.embedded, 'embedding')} taken from {embedded}")
    report_skipped(report)
    report_changes(report, data)
    report_positions(report)
    result(f"{report.gallery.name}: {count_contents(gather_facts(report.gallery))} ({count_kinds(report)})")
    skipped.report()
    if report.failed or skipped:
        raise typer.Exit(1)


def open_embedded(folder: Path | None, bundle: Bundle, data: Path | None) -> tuple[EmbeddedPhotos | None, Path]:
    """Open a folder of embeddings, if one is named, and say where the photos are."""
    if folder is None:
        if data is None:
            raise UsageError("no photos are named", fix="name a dataset: --data DIR")
        return None, data
    from obelisk.embedding.shards import EmbeddedPhotos, read_plan

    plan = read_plan(folder, data)
    if data is None and not plan.root.is_dir():
        raise DataError("the photos are not where they were", where=plan.root, fix="name their folder: --data DIR")
    return EmbeddedPhotos(plan, bundle), data or plan.root


def report_skipped(report: BuildReport) -> None:
    """Name the photos that could not be used, and the landmarks left without a photo."""
    for error in report.failed:
        warn(str(error))
    if report.failed:
        warn(f"{len(report.failed)} of {report.seen} photos could not be used")
    for landmark in report.without_photo[:NAMED_LANDMARKS]:
        warn(f"no usable photo of `{landmark.name}` (id {landmark.id}): it will never be recognized")
    if len(report.without_photo) > NAMED_LANDMARKS:
        warn(f"nor of {len(report.without_photo) - NAMED_LANDMARKS} more landmarks")


def report_changes(report: BuildReport, data: Path) -> None:
    """Name what was renamed, moved and removed, and what is gone."""
    name = report.gallery.name
    for folder in report.renamed:
        where = f"(id {folder.landmark.id}, {count_of(folder.photos, 'photo')})"
        if folder.landmark.name == folder.after:
            result(f"{name}: renamed landmark `{folder.before}` to `{folder.after}` {where}")
        else:
            result(f"{name}: `{folder.landmark.name}` follows its folder `{folder.before}` to `{folder.after}` {where}")
    for photo in report.moved:
        before, after = photo.landmarks
        place = f" to `{photo.after.id}`" if photo.after.id != photo.before.id else ""
        shows = f" from landmark `{before}` to `{after}`" if after != before else ""
        result(f"{name}: moved photo `{photo.before.id}`{place}{shows}")
    for gone in report.gone if report.pruned else ():
        result(f"{name}: removed photo `{gone.id}`")
    for landmark in report.emptied:
        result(f"{name}: removed landmark `{landmark.name}` (id {landmark.id}), which had no photo left")
    if report.gone and not report.pruned:
        named = ", ".join(f"`{gone.id}`" for gone in report.gone[:NAMED_PHOTOS])
        more = f" and {len(report.gone) - NAMED_PHOTOS} more" if len(report.gone) > NAMED_PHOTOS else ""
        are = "is" if len(report.gone) == 1 else "are"
        note(
            f"{count_of(len(report.gone), 'photo')} of {name} {are} gone from {data}: {named}{more} · "
            "`gallery build --prune` removes what is gone"
        )


def report_positions(report: BuildReport) -> None:
    """Say which positions of photos are of no use, and which photos may be of another place."""
    positions = report.positions
    if positions.faulty:
        note(f"the GPS position of {count_of(positions.faulty, 'photo')} can't be used; the first is {positions.fault}")
    for photo, kilometers in positions.strays[:NAMED_PHOTOS]:
        note(f"{photo}: taken {format_kilometers(kilometers)} from most photos of its landmark")
    if (more := len(positions.strays) - NAMED_PHOTOS) > 0:
        note(f"and {more} more photos, far from the others of their landmarks")


def count_kinds(report: BuildReport) -> str:
    """Return how many photos there were of each kind, such as ``2 new, 9 unchanged``."""
    kinds = {
        "new": report.new,
        "changed": report.changed,
        "moved": len(report.moved),
        "renamed": sum(folder.photos for folder in report.renamed),
        "unchanged": report.unchanged,
        "removed" if report.pruned else "gone": len(report.gone),
        "from elsewhere": report.elsewhere,
        "unusable": len(report.failed),
    }
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)


gallery_app.command("add")(add_command)
gallery_app.command("remove")(remove_command)
gallery_app.command("rename")(rename_command)
gallery_app.command("merge")(merge_command)
gallery_app.command("calibrate")(calibrate_command)
gallery_app.command("export")(export_command)
gallery_app.command("import")(import_command)
gallery_app.command("push")(push_command)
gallery_app.command("pull")(pull_command)
gallery_app.command("index")(index_command)


@gallery_app.command("info")
def info_command(
    place: NamedGallery,
    landmarks: Annotated[
        bool, typer.Option("--landmarks", help="List the landmarks by id; `obelisk landmarks` lists them by name.")
    ] = False,
    photos: Annotated[bool, typer.Option("--photos", help="List the photos: their ids, landmarks and files.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: one object, or one per row of a list.")] = False,
) -> None:
    """Show a gallery's model, its contents and its rejection threshold."""
    from obelisk.gallery import Gallery, gather_facts, landmark_counts, list_photos
    from obelisk.recognition.calibration import UNCALIBRATED, find_calibration

    if landmarks and photos:
        raise UsageError("`info` prints one list", fix="give either --landmarks or --photos")
    gallery = Gallery.open(place)
    if photos:
        print_rows(list_photos(gallery), ("id", "landmark", "landmark_id", "file"), as_json=as_json)
        return
    if landmarks:
        rows = (landmark_fields(landmark, count, gallery.name) for landmark, count in landmark_counts(gallery).items())
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
    if calibration is None:
        warn(UNCALIBRATED)
    else:
        warn_of_few_landmarks(len(gallery.landmarks))


def print_rows(rows: Iterable[Mapping[str, object]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print one JSON object per row, or the columns as a table."""
    if as_json:
        for row in rows:
            result(json.dumps(row, ensure_ascii=False))
    else:
        table(columns, [["" if row[column] is None else row[column] for column in columns] for row in rows])


@gallery_app.command("check")
def check_gallery_command(place: NamedGallery) -> None:
    """Check all that recognition reads; exit 1 if there is a problem.

    These are the tables, the embeddings, the model with its calibration, and the search index. Landmarks that look like
    one place, and the same photo under two landmarks, are named; that is no problem of the gallery.
    """
    from obelisk.gallery import (
        Gallery,
        check_gallery,
        check_index,
        check_labels,
        gather_facts,
        open_truth,
        rebuild_advice,
    )
    from obelisk.recognition import check_recognition
    from obelisk.recognition.self_calibration import find_twin_landmarks

    truth = open_truth(place)
    name = truth.name
    problems = check_gallery(place) or check_recognition(place)
    for problem in problems:
        result(f"{name}: {problem}")
    if problems:
        note(f"if nothing else helps, {rebuild_advice(truth.folder or name)}")
        raise typer.Exit(1)
    if remark := check_index(place):
        note(remark)
    if remark := check_labels(place):
        warn(remark)
    gallery = Gallery.open(place)
    references = gallery.references()
    warn_of_twins(gallery, find_twin_landmarks(gallery.load_bundle(), references, references.labels))
    facts = gather_facts(gallery)
    result(f"{name}: sound, {count_contents(facts)}")


def count_contents(facts: GalleryFacts) -> str:
    """Return ``3 photos of 1 landmark``."""
    return f"{count_of(facts.photos, 'photo')} of {count_of(facts.landmarks, 'landmark')}"
