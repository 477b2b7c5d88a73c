"""``obelisk gallery export`` and ``import``: a gallery as one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, count_of, note, result, warn
from obelisk.cli.photo_arguments import NamedGallery

if TYPE_CHECKING:
    from obelisk.gallery import Handover


def export_command(
    place: NamedGallery,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The file to write, such as mycity.tar.", readable=False)
    ],
    photos: Annotated[
        bool,
        typer.Option("--photos", help="Include the reference photos whose files are at hand, unchanged, Exif and all."),
    ] = False,
    remark: Annotated[
        str,
        typer.Option(
            "--note",
            metavar="TEXT",
            help="What people who import it should know: title, author, licence.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Write a gallery to one file, to hand it on.

    It holds landmarks, embeddings, calibration and model, and where on the web the photos come from. It holds neither
    the photos, unless you ask for them, nor any path of this machine. `gallery import` reads it.
    """
    from obelisk.gallery import Gallery, export_gallery

    with Meter() as meter:
        done = export_gallery(Gallery.open(place), file, photos=photos, note=remark, progress=meter)
    if done.missing:
        warn(f"{done.missing} of {count_of(done.manifest.photos, 'photo')} are not at hand, and do not come along")
    result(f"{file}: {describe_handover(done)}")


def import_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `gallery export` wrote.", readable=False)],
    place: Annotated[
        str,
        typer.Argument(
            metavar="GALLERY", help="The gallery's folder, which must not exist, or postgresql://HOST/DATABASE."
        ),
    ],
) -> None:
    """Make a gallery from a file that `gallery export` wrote.

    The whole file is checked, by its hashes and as a gallery, before the gallery appears.
    """
    from obelisk.gallery import import_gallery

    with Meter() as meter:
        done = import_gallery(file, place, progress=meter)
    if done.manifest.note:
        note(f"note: {done.manifest.note}")
    result(f"{done.gallery.name}: {describe_handover(done)}")


def describe_handover(done: Handover) -> str:
    """Return what was handed on, in one line."""
    manifest = done.manifest
    contents = f"{count_of(manifest.photos, 'photo')} of {count_of(manifest.landmarks, 'landmark')}"
    files = sum(file.name.startswith("photos/") for file in manifest.files)
    along = f", with the files of {files}" if files else ""
    return f"{contents}{along}; model `{manifest.model}` ({manifest.licence})"
