"""``obelisk recognize``: name the landmarks in photos."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, SkippedFolders, count_of, note, result, warn
from obelisk.defaults import VOTE
from obelisk.errors import PhotoError, UsageError
from obelisk.records import Recognition

if TYPE_CHECKING:
    from obelisk.recognition import Recognizer


Photos = Annotated[
    list[str],
    typer.Argument(
        metavar="PHOTO|FOLDER|-",
        help="Photos, folders (searched at any depth, in sorted order), or - for paths from stdin, one a line.",
        show_default=False,
    ),
]


def recognize_command(
    photos: Photos,
    gallery: Annotated[
        Path | None,
        typer.Option(
            "--gallery",
            metavar="G",
            help="The gallery to recognise from.",
            show_default="the bundled one",
            readable=False,
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="M",
            help="The model you expect the gallery to be of.",
            show_default=False,
            readable=False,
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", help="Candidates to list.")] = 5,
    k: Annotated[int | None, typer.Option("--k", help="Nearest reference photos that vote.", show_default="3")] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Reject answers of less confidence, 0 to 1; 0 rejects nothing.",
            show_default="what --precision needs",
        ),
    ] = None,
    precision: Annotated[
        float, typer.Option("--precision", help="Share of the answers given that should be right; sets the threshold.")
    ] = 0.95,
    vote: Annotated[str, typer.Option("--vote", help="blended, weighted, majority or prototype.")] = "blended",
    expand: Annotated[
        str, typer.Option("--expand", help="What leans on its neighbours: none, query or references.")
    ] = "none",
    augment: Annotated[
        bool, typer.Option("--augment", help="Look at each photo mirrored and closer, too: three times the work.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Also compare the geometry with the nearest reference photos, if their files are at hand "
            "(extra `verify`; up to half a second a photo, about 1 point more right answers).",
        ),
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain",
            metavar="DIR",
            help="Draw a picture a photo into DIR: its neighbours, and the regions that match the best of them.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a photo.")] = False,
) -> None:
    """Name the landmark in each photo, with the candidates and the reference photos it rests on.

    Exits 0 also when photos are rejected, 1 if some could not be used.
    """
    from obelisk.bundled import bundled_gallery
    from obelisk.gallery import Gallery, load_model
    from obelisk.recognition import Recognizer

    gallery = gallery or bundled_gallery()
    skipped = SkippedFolders()
    paths = expand_arguments(photos, skipped)
    with Meter() as meter:  # a large gallery is indexed when it is first searched
        opened = Gallery.open(gallery, progress=meter)
        recognizer = Recognizer.open(opened, model=load_model(model) if model else None)
        bound = recognizer.threshold(precision, vote=vote) if threshold is None else threshold
        answers = recognizer.recognize(
            paths, top=top, k=k, threshold=bound, vote=vote, verify=verify, expand=expand, augment=augment
        )
    if recognizer.calibration and bound is None:
        warn(f"only `{VOTE}` is calibrated: `{vote}` rejects nothing unless you give --threshold")
    take_odd_names()
    draw = Explainer(recognizer, explain) if explain else None
    total = failed = 0
    for answer in answers:
        total += 1
        if answer.error:
            failed += 1
            warn(answer.error)
        elif draw:
            draw(answer)
        if as_json:
            result(answer.to_json())
        elif not answer.error:
            for line in describe_answer(answer, bound):
                result(line)
    if draw:
        draw.tell()
    if failed:
        warn(f"{failed} of {total} photos could not be used")
    skipped.tell()
    if failed or skipped or (draw and draw.failed):
        raise typer.Exit(1)


class Explainer:
    """Draws what each answer rests on into a folder."""

    def __init__(self, recognizer: Recognizer, folder: Path) -> None:
        from obelisk.recognition.explain import PictureFolder

        self._recognizer = recognizer
        self._folder = PictureFolder(folder)
        self.failed = 0

    def __call__(self, answer: Recognition) -> None:
        """Draw an answer; a photo that is gone by now is named."""
        try:
            picture = self._recognizer.explain(answer)
        except PhotoError as error:
            self.failed += 1
            warn(f"no picture: {error}")
        else:
            self._folder.save(answer.photo, picture)

    def tell(self) -> None:
        """Say where the pictures are."""
        note(f"{count_of(len(self._folder), 'picture')} in {self._folder.path}")


def expand_arguments(arguments: Sequence[str], skipped: SkippedFolders) -> Iterator[str]:
    """Return the paths that the arguments stand for; those of stdin are read when they are needed.

    ``skipped`` is told of folders without a photo, and of those that may not be searched. Raises :class:`UsageError`
    for a path that is not there, before anything is recognised.
    """
    missing = [argument for argument in arguments if argument != "-" and is_missing(argument)]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UsageError(f"no such photo or folder: `{missing[0]}`{more}", fix="check the path")
    found = [None if argument == "-" else list_argument(argument, skipped) for argument in arguments]
    if not skipped.locked and not any(paths is None or paths for paths in found):
        raise UsageError("no photo found", where=", ".join(arguments), fix="give photos, or folders that hold some")
    return (path for paths in found for path in (read_lines() if paths is None else paths))


def is_missing(path: str) -> bool:
    """Say whether there is nothing; of what may not be looked at, reading it will say why."""
    try:
        os.lstat(path)
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True
    return False


def list_argument(argument: str, skipped: SkippedFolders) -> list[str]:
    """Return a photo as it is, and the photos of a folder."""
    from obelisk.photos import find_photos

    if not os.path.isdir(argument):  # noqa: PTH112 - Path.is_dir raises where nothing may be looked at
        return [argument]
    locked = skipped.locked
    paths = [str(path) for path in find_photos(Path(argument), skipped)]
    if not paths and skipped.locked == locked:
        skipped.note_empty(argument)
    return paths


def read_lines() -> Iterator[str]:
    """Yield the lines of stdin that are not empty."""
    for line in sys.stdin:
        if path := line.rstrip("\r\n"):
            yield path


def describe_answer(answer: Recognition, threshold: float | None) -> list[str]:
    """Put an answer into a few lines for people."""
    verdict = answer.landmark or "not a landmark I know"
    bound = "" if answer.landmark else f", below the threshold {threshold:.4f}"
    lines = [f"{answer.photo}: {verdict} (confidence {answer.confidence:.4f}{bound})"]
    lines += [f"    {place}. {c.landmark}  score {c.score:.4f}" for place, c in enumerate(answer.candidates, start=1)]
    return lines + [
        f"    near {n.id}  {n.landmark}  similarity {n.similarity:.4f}  distance {n.distance:.4f}"
        for n in answer.neighbours
    ]


def take_odd_names() -> None:
    """Let file names through that are not UTF-8; in JSON they become escapes that read back as the same name."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
