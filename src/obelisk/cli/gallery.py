"""``obelisk gallery``: build a gallery, say what it holds, and look it over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import result, table, track, warn

if TYPE_CHECKING:
    from obelisk.embedding import Embedded
    from obelisk.gallery import BuildReport

NAMED_LANDMARKS = 10  # of those left without a photo; a dataset may list thousands

gallery_app = typer.Typer(
    name="gallery",
    help="Build and inspect the reference photos that recognition rests on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

GalleryFolder = Annotated[Path, typer.Argument(metavar="GALLERY", help="The gallery's folder.", show_default=False)]


@gallery_app.command("build")
def build_command(
    path: GalleryFolder,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="A GLDv2 dataset (its train photos) or a folder per landmark.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="M",
            help="The model: a bundle or a run.",
            show_default="that of the gallery, or the bundled one",
        ),
    ] = None,
) -> None:
    """Embed the reference photos of a dataset; into a gallery that is there, only those that are new.

    Exits 1 if some photos could not be used; the gallery then holds the others.
    """
    from obelisk.bundled import bundled_gallery
    from obelisk.data import read_catalog
    from obelisk.gallery import build_gallery, load_model

    built = (path / "model").is_dir()
    bundle = load_model(model or (path if built else bundled_gallery()))
    catalog = read_catalog(data)
    for omission in catalog.notes:
        warn(omission)
    report = build_gallery(path, catalog, bundle, watch=show_progress)
    tell_skipped(report)
    done = f"{report.embedded} embedded, {report.reused} reused, {report.unchanged} unchanged"
    result(f"{path}: {count_contents(len(report.gallery), len(report.gallery.landmarks))} ({done})")
    if report.failed:
        raise typer.Exit(1)


def show_progress(embedded: Iterator[Embedded], total: int) -> Iterator[Embedded]:
    """Draw a bar on stderr while photos are embedded."""
    return track(embedded, total=total, what="embedding")


def tell_skipped(report: BuildReport) -> None:
    """Name the photos that could not be used, and the landmarks that are left without any."""
    for error in report.failed:
        warn(str(error))
    if report.failed:
        total = len(report.failed) + report.embedded + report.reused + report.unchanged
        warn(f"{len(report.failed)} of {total} photos could not be used")
    for landmark in report.without_photo[:NAMED_LANDMARKS]:
        warn(f"no usable photo of `{landmark.name}` (id {landmark.id}): it will never be recognised")
    if len(report.without_photo) > NAMED_LANDMARKS:
        warn(f"nor of {len(report.without_photo) - NAMED_LANDMARKS} more landmarks")


@gallery_app.command("info")
def info_command(
    path: GalleryFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say which model a gallery belongs to and how much it holds."""
    from obelisk.gallery import Gallery

    gallery = Gallery.open(path)
    facts: dict[str, str | int] = {
        "gallery": str(path),
        "model": gallery.model,
        "fingerprint": gallery.fingerprint,
        "dimensions": gallery.dimensions,
        "landmarks": len(gallery.landmarks),
        "photos": len(gallery),
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
    }
    if as_json:
        result(json.dumps(facts, ensure_ascii=False))
    else:
        table(("", ""), list(facts.items()))


@gallery_app.command("check")
def check_command(path: GalleryFolder) -> None:
    """Check the database, the copy of the model and every embedding; exit 1 if something is wrong."""
    from obelisk.gallery import Gallery, check_gallery

    problems: Sequence[str] = check_gallery(path)
    for problem in problems:
        result(f"{path}: {problem}")
    if problems:
        raise typer.Exit(1)
    gallery = Gallery.open(path)
    result(f"{path}: sound, {count_contents(len(gallery), len(gallery.landmarks))}")


def count_contents(photos: int, landmarks: int) -> str:
    """Return ``3 photos of 1 landmark``."""
    return f"{photos} photo{'' if photos == 1 else 's'} of {landmarks} landmark{'' if landmarks == 1 else 's'}"
