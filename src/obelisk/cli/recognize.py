"""``obelisk recognize``: name the landmarks in photos."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from obelisk.bundled import BUNDLED, locate_gallery
from obelisk.cli.answer_output import Show, open_output
from obelisk.cli.console import Meter, SkippedFolders, count_of, note, note_remark, warn
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
from obelisk.cli.photo_tagger import PhotoTagger, make_tagger
from obelisk.defaults import PRECISION, TOP, VOTE, K
from obelisk.errors import PhotoError, UsageError, quote
from obelisk.records import Recognition

if TYPE_CHECKING:
    from obelisk.recognition import Recognizer


def recognize_command(
    photos: Photos,
    galleries: Galleries = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="M",
            help="Model that you expect the gallery to have been built with.",
            show_default=False,
            parser=locate_gallery,
        ),
    ] = None,
    top: Annotated[int, typer.Option("--top", help="Candidates to list.")] = TOP,
    k: Annotated[
        int | None,
        typer.Option("--k", help="Nearest reference photos that vote.", show_default=f"what the model says, or {K}"),
    ] = None,
    threshold: Threshold = None,
    precision: Precision = PRECISION,
    vote: Annotated[
        str | None,
        typer.Option(
            "--vote",
            help="How they vote: blended, weighted, majority or prototype.",
            show_default=f"what the model says, or {VOTE}",
        ),
    ] = None,
    expand: Annotated[
        str,
        typer.Option("--expand", help="Which embeddings to average with their neighbors: none, query or references."),
    ] = "none",
    augment: Annotated[
        bool,
        typer.Option(
            "--augment", help="Also embed each photo mirrored and cropped to its middle: three times the work."
        ),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Also compare the geometry with the nearest reference photos, if their files still exist: "
            "look-alikes are told apart better (extra `verify`; 0.03 to 0.2 seconds more per photo).",
        ),
    ] = False,
    near: Near = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            "--explain",
            metavar="DIR",
            help="Draw one picture per photo into DIR: its neighbors, and the regions that match the best of them.",
            show_default=False,
        ),
    ] = None,
    explain_format: Annotated[
        Literal["jpg", "webp", "png"], typer.Option("--explain-format", help="Format of these pictures.")
    ] = "jpg",
    null: NullSeparated = False,
    exclude: Exclude = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per photo.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV: a header, and a line per photo.")] = False,
    parquet: Annotated[
        Path | None,
        typer.Option("--parquet", metavar="FILE", help="Write a Parquet file, a row per photo.", show_default=False),
    ] = None,
    details: Annotated[
        bool,
        typer.Option("--details", help="Also print each photo's candidates, and the reference photos they rest on."),
    ] = False,
    summary: Annotated[bool, typer.Option("--summary", help="Print only how many photos show each landmark.")] = False,
    xmp: Annotated[
        bool,
        typer.Option("--xmp", help="Tag photos whose landmark is sure, for photo managers: in PHOTO.xmp beside each."),
    ] = False,
    position: Annotated[
        bool, typer.Option("--position", help="With --xmp: also the landmark's position, if the photo states none.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --xmp: list what would change, and write no sidecar.")
    ] = False,
    remove_tags: Annotated[
        bool, typer.Option("--remove-tags", help="With --xmp: recognize nothing, and remove what --xmp wrote.")
    ] = False,
) -> None:
    """Name the landmark in each photo, or say that it is unknown.

    A photo gets a line: the landmark, how sure the answer is, and where the landmark is. Below the threshold, the
    landmark is only probable or unknown. The last lines count the photos of each landmark.
    Exits 0 even if photos are rejected, 1 if some could not be used.
    """
    from obelisk.gallery import load_model, open_galleries
    from obelisk.recognition import Recognizer

    place = parse_near(near)
    tagger = make_tagger(xmp=xmp, position=position, dry_run=dry_run, remove_tags=remove_tags)
    skipped = SkippedFolders(exclude)
    paths = expand_arguments(photos, skipped, null=null)
    if tagger and remove_tags:
        tagger.remove(paths)
        report_and_exit(skipped, tagger)
    with Meter() as meter:  # a large gallery is indexed when it is first searched
        opened = open_galleries(galleries or (), progress=meter)
        recognizer = Recognizer.open(opened, model=load_model(model) if model else None)
        answers = recognizer.recognize(
            paths,
            top=top,
            k=k,
            threshold=threshold,
            precision=precision,
            vote=vote,
            verify=verify,
            expand=expand,
            augment=augment,
            near=place,
        )
        if threshold is None:
            threshold = recognizer.threshold(precision, vote=vote)
    if tagger and threshold is None:
        refuse_to_tag_all(recognizer, vote)
    note_remark(recognizer)
    if recognizer.calibration and threshold is None:
        decider = f"`{vote}`" if vote else "the classifier of the model"
        warn(
            f"only `{recognizer.calibration.vote}` is calibrated: {decider} rejects nothing unless you give --threshold"
        )
    pictures = Explainer(recognizer, explain, explain_format) if explain else None
    output = open_output(as_json=as_json, as_csv=as_csv, parquet=parquet, details=details, summary=summary)
    with output as show:
        failed = print_answers(tagger.follow(answers) if tagger else answers, show, pictures=pictures)
    warn_of_missing_files(recognizer)
    if recognizer.camera and recognizer.camera.faulty:
        count = count_of(recognizer.camera.faulty, "photo")
        note(f"the GPS position of {count} can't be used; the first is {recognizer.camera.fault}")
    report_and_exit(skipped, tagger, failed=bool(failed or (pictures and pictures.failed)))


def refuse_to_tag_all(recognizer: Recognizer, vote: str | None) -> NoReturn:
    """Raise UsageError: without a threshold no answer is rejected, so every photo would be tagged."""
    from obelisk.gallery import Gallery

    if recognizer.calibration:
        why = f"only `{recognizer.calibration.vote}` is calibrated"
        remedy = "leave out --vote" if vote else "use a gallery whose model has no softmax classifier"
    else:
        why = "the model is not calibrated"
        gallery = quote(recognizer.gallery.name) if isinstance(recognizer.gallery, Gallery) else "GALLERY"
        remedy = f"calibrate it with `obelisk calibrate {gallery} --data DIR`"
    raise UsageError(
        f"--xmp would tag every photo: {why}, so no answer is rejected", fix=f"{remedy}, or give --threshold"
    )


def report_and_exit(skipped: SkippedFolders, tagger: PhotoTagger | None, *, failed: bool = False) -> NoReturn:
    """Report what was passed over and what was tagged, and exit: 1 if anything failed."""
    if tagger:
        tagger.report()
    skipped.report()
    raise typer.Exit(int(failed or bool(skipped) or bool(tagger and tagger.failed)))


def warn_of_missing_files(recognizer: Recognizer) -> None:
    """Warn if files of reference photos that --verify or --explain asked for are not at hand."""
    files, gallery = recognizer.files, recognizer.gallery.name
    if files.at_hand == files.asked:
        return
    if gallery == BUNDLED:
        remedy = "the bundled gallery comes without its photos; build one of your own with `obelisk gallery build`"
    else:
        remedy = f"`obelisk gallery build {quote(gallery)} --data DIR` brings their paths up to date"
    warn(
        f"--verify and --explain need the files of the reference photos: "
        f"of {count_of(files.asked, 'photo')} asked for, {files.at_hand} are at hand · {remedy}"
    )


def print_answers(answers: Iterator[Recognition], show: Show, *, pictures: Explainer | None) -> int:
    """Show answers as they come, explain them if asked to, and return how many photos failed."""
    total = failed = cut_off = 0
    for answer in pictures.draw(answers) if pictures else answers:
        total += 1
        if answer.error:
            failed += 1
            warn(answer.error)
        if answer.warning:
            cut_off += 1
            warn(f"{answer.warning} · {answer.photo}")
        show(answer)
    if pictures:
        pictures.report()
    if cut_off:
        warn(f"{count_of(cut_off, 'photo')} of {total} had been cut off; the answers rest on what is left")
    if failed:
        warn(f"{failed} of {total} photos could not be used")
    return failed


class Explainer:
    """Draws what each answer rests on into a folder; ``failed`` counts the answers that could not be drawn."""

    def __init__(self, recognizer: Recognizer, folder: Path, kind: str) -> None:
        from obelisk.recognition.explain import PictureFolder

        recognizer.prepare_explanations()
        self._recognizer = recognizer
        self._folder = PictureFolder(folder, kind)
        self._drawn = self.failed = 0

    def draw(self, answers: Iterator[Recognition]) -> Iterator[Recognition]:
        """Yield the answers, each once its picture is there, drawn on all cores; warn if a photo is gone."""
        from obelisk.photos import map_in_order

        named = ((answer, None if answer.error else self._folder.reserve(answer.photo)) for answer in answers)
        for answer, problem in map_in_order(self._draw_one, named):
            if problem:
                self.failed += 1
                warn(f"no picture: {problem}")
            elif not answer.error:
                self._drawn += 1
            yield answer

    def _draw_one(self, named: tuple[Recognition, Path | None]) -> tuple[Recognition, PhotoError | None]:
        """Draw the picture of an answer to a path, if there is one; return the answer, and why there is no picture."""
        answer, path = named
        if path is not None:
            try:
                self._folder.write(path, self._recognizer.explain(answer))
            except PhotoError as error:
                return answer, error
        return answer, None

    def report(self) -> None:
        """Say where the pictures are."""
        note(f"{count_of(self._drawn, 'picture')} in {self._folder.path}")
