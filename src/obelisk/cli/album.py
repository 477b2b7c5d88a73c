"""``obelisk album``: one page with all photos of a folder, by landmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import obelisk
from obelisk.cli.console import Meter, SkippedFolders, count_of, note, note_remark, result, warn
from obelisk.cli.photo_arguments import (
    Exclude,
    Galleries,
    Near,
    NullSeparated,
    Photos,
    Precision,
    Threshold,
    expand_arguments,
    parse_near,
)
from obelisk.defaults import PRECISION
from obelisk.errors import UsageError, quote
from obelisk.records import Recognition

if TYPE_CHECKING:
    from obelisk.recognition import Recognizer


def album(
    photos: Photos,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The page to write, such as album.html.", readable=False)
    ],
    galleries: Galleries = None,
    threshold: Threshold = None,
    precision: Precision = PRECISION,
    near: Near = None,
    null: NullSeparated = False,
    exclude: Exclude = None,
) -> None:
    """Make one page of all photos, by landmark, with a map.

    The page holds everything it shows and needs no network; the photos themselves stay where they are, and the page
    links to them. After an interruption, the same command goes on where it stopped: until the page is
    finished, the answers so far are kept in FILE.partial.
    """
    from obelisk.gallery import open_galleries
    from obelisk.outputs import AlbumState, describe_contents, recognize_album, write_album
    from obelisk.recognition import Recognizer

    if out.is_dir():
        raise UsageError(
            "the page would replace a folder", where=out, fix=f"name a file: --out {quote(str(out / 'album.html'))}"
        )
    place = parse_near(near)
    skipped = SkippedFolders(exclude)
    paths = expand_arguments(photos, skipped, null=null)
    with Meter() as meter:
        recognizer = Recognizer.open(open_galleries(galleries or (), progress=meter))
        note_remark(recognizer)
        key = [threshold, precision, place, *describe_recognizer(recognizer)]
        with AlbumState(out.with_name(f"{out.name}.partial"), key) as state:
            if len(state):
                note(f"going on: {count_of(len(state), 'answer')} in {state.folder}")
            try:
                found = recognize_album(
                    recognizer,
                    paths,
                    state,
                    threshold=threshold,
                    precision=precision,
                    near=place,
                    progress=meter,
                    on_answer=warn_of_photo,
                )
                contents = write_album(out, name_album(photos), found, state)
            except BaseException:
                if len(state):
                    note(state.advice)
                raise
            state.remove()
    result(f"{out}: {describe_contents(contents)}")
    skipped.report()
    if contents.unreadable:
        warn(f"{len(contents.unreadable)} of {contents.photos} photos could not be used")
    if contents.unreadable or skipped:
        raise typer.Exit(1)


def describe_recognizer(recognizer: Recognizer) -> list[object]:
    """Return what the answers of a recognizer depend on besides photos and options."""
    from obelisk.gallery import JoinedGallery

    opened = recognizer.gallery
    galleries = opened.galleries if isinstance(opened, JoinedGallery) else [opened]
    references = opened.references()
    return [
        obelisk.__version__,
        opened.name,
        opened.fingerprint,
        references.revision,
        len(references),
        [gallery.read_state() for gallery in galleries],
        repr(recognizer.calibration),
    ]


def warn_of_photo(answer: Recognition) -> None:
    """Warn if a photo could not be read, or was cut off."""
    if answer.error:
        warn(answer.error)
    if answer.warning:
        warn(f"{answer.warning} · {answer.photo}")


def name_album(photos: list[str]) -> str:
    """Return the title of an album: the name of its folder, if there is just one."""
    name = Path(photos[0]).resolve().name if len(photos) == 1 and photos[0] != "-" else ""
    return name or "Photos by landmark"
