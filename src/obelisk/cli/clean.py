"""``obelisk data clean``: find reference photos with doubtful labels, and write manifests without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.bundled import locate_gallery
from obelisk.cli.console import Meter, note, result, table, warn

if TYPE_CHECKING:
    from obelisk.cleaning import Cleaning

SHOWN = 20  # suspects in the printed table; suspects.csv has all of them


def clean_command(
    directory: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A GLDv2 dataset, a folder per landmark, or a subset.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="OUT", help="Folder for the manifests and suspects.", show_default=False)
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="M",
            help="The judge: a bundle or a run.",
            show_default="the bundled one",
            parser=locate_gallery,
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", help="A suspect fits another landmark better by more than this, in cosine.")
    ] = 0.2,
    keep_at_least: Annotated[int, typer.Option("--keep-at-least", help="Photos to keep of each landmark.")] = 3,
    folds: Annotated[int, typer.Option("--folds", help="Number of folds; a photo is judged by the other folds.")] = 5,
    neighbors: Annotated[int, typer.Option("--neighbours", help="Nearest photos that propose other landmarks.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the folds.")] = 0,
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="Draw this many of the worst suspects.")] = 40,
    clean: Annotated[
        bool, typer.Option("--clean", help="GLDv2 only: keep the training photos that train_clean.csv lists.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")] = False,
) -> None:
    """Find doubtful labels, and write manifests without them.

    Suspects are training photos that look like another landmark. OUT can be used like a subset; suspects.csv lists all
    suspects, worst first, and pictures/ shows them beside photos of either landmark. A model that was trained on the
    same labels has learned their errors, so choose another one as the judge. Unreadable photos are left out; if there
    are any, the command exits 1.
    """
    from obelisk.cleaning import CleaningRule, clean_labels, count_learned_landmarks, draw_issue_sheets, write_cleaning
    from obelisk.data import read_catalog, refuse_filled
    from obelisk.gallery import load_model

    refuse_filled(out)
    rule = CleaningRule(margin=margin, keep_at_least=keep_at_least, folds=folds, neighbors=neighbors, seed=seed)
    catalog = read_catalog(directory, clean=clean)
    for remark in catalog.notes:
        warn(remark)
    judge = locate_gallery(model)
    bundle = load_model(judge)
    if learned := count_learned_landmarks(judge, catalog):
        warn(
            f"the judge was trained on labels of {learned} of these landmarks and may have learned their errors; "
            "a frozen one is not biased: obelisk train arcface --set neck.kind=whitening --set loss.kind=none"
        )
    with Meter() as meter:
        cleaning = clean_labels(catalog, bundle, rule, progress=meter)
    for reason in cleaning.unreadable.values():
        warn(f"left out: {reason}")
    for remark in cleaning.subset.notes:
        warn(remark)
    written = write_cleaning(cleaning, out, draw=lambda folder: draw_issue_sheets(cleaning, folder, most=pictures))
    show_cleaning(cleaning, as_json=as_json)
    note(f"manifests, suspects and pictures: {written}")
    note_photos(written, catalog.root, out)
    if cleaning.unreadable:
        warn(f"{len(cleaning.unreadable)} photos could not be used")
        raise typer.Exit(1)


def show_cleaning(cleaning: Cleaning, *, as_json: bool) -> None:
    """Print the counts, and the worst suspects."""
    if as_json:
        result(json.dumps(cleaning.subset.to_fields(), ensure_ascii=False))
        return
    counts = ("judged", "not_judged", "suspects", "dropped", "unreadable")
    table(("photos", "count"), [(name.replace("_", " "), cleaning.facts[name]) for name in counts])
    if cleaning.suspects.height:
        result("")
        columns = ("image_id", "landmark", "named", "margin", "agreement", "dropped")
        table(columns, cleaning.suspects.head(SHOWN).select(columns).rows(), title="the worst suspects")


def note_photos(written: Path, photos: Path, out: Path) -> None:
    """Say how to find the photos again if the manifests are not inside the dataset's folder."""
    if not written.is_relative_to(photos.resolve()):
        note(f"the photos stay where they are: set OBELISK_PHOTOS={photos.resolve()} when you use {out}")
