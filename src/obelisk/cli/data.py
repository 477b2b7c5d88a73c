"""``obelisk data``: check, count, clean, sample and download a dataset."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.bundled import locate_gallery
from obelisk.cli.clean import clean_command, note_photos
from obelisk.cli.console import Meter, SkippedFolders, WholeHelp, count_of, note, result, results, table, warn
from obelisk.cli.download import download_command
from obelisk.cli.photo_arguments import Exclude
from obelisk.errors import UsageError

if TYPE_CHECKING:
    from obelisk.data import Issue
    from obelisk.records import Progress

# A partial download can lack millions of photos; a table of all of them would bury the other issues.
SHOWN_OF_A_KIND = 100

data_app = typer.Typer(
    cls=WholeHelp,
    name="data",
    help="Check, count, clean, sample and download a dataset.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Dataset = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="A GLDv2 dataset, a folder per landmark, or a subset.",
        show_default=False,
        readable=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]
Clean = Annotated[
    bool, typer.Option("--clean", help="GLDv2 only: keep the training photos that train_clean.csv lists.")
]
FigureFile = Annotated[
    Path | None, typer.Option("--figure", metavar="FILE.png", help="Draw photos per landmark, log scale.")
]


@data_app.command("check")
def check_data_command(
    directory: Dataset,
    exclude: Exclude = None,
    look_alikes: Annotated[
        bool,
        typer.Option(
            "--look-alikes",
            help="Also name landmarks that look like one place. This embeds the photos, as building a gallery does.",
        ),
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="M",
            help="With --look-alikes: a bundle or a run that is calibrated.",
            show_default="the bundled one",
            parser=locate_gallery,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find missing, unreadable, duplicated and mislabelled photos.

    Exits 1 if there are any. Landmarks that look like one place may be two, so they are no fault.
    """
    from obelisk.data import find_issues, issues_to_json

    if model and not look_alikes:
        raise UsageError("--model is for look-alikes", fix="add --look-alikes")

    counts: Counter[str] = Counter()
    shown: dict[str, list[Issue]] = {}
    skipped = SkippedFolders(exclude)
    with Meter() as meter:
        found = find_issues(directory, progress=meter, photo_filter=skipped.photo_filter, remark=warn)
        alike = find_alike(directory, model, skipped.photo_filter.exclude, meter) if look_alikes else ()
        for issues in chain(found, alike):
            counts[issues[0].kind] += len(issues)
            if as_json:
                for lines in issues_to_json(issues):
                    results(lines)
                continue
            listed = shown.setdefault(issues[0].kind, [])
            listed += issues[: SHOWN_OF_A_KIND - len(listed)]
    for number, (kind, listed) in enumerate(shown.items()):
        if number:
            result("")
        show_issues(kind, listed, counts[kind])
    skipped.report()
    pairs = counts.pop("look-alike", 0)
    if pairs:
        note(f"{count_of(pairs, 'pair')} of landmarks may be one place each")
    if not counts:
        note(f"no fault found in {directory}")
        return
    faults = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    warn(f"faults found in {directory}: {faults}")
    raise typer.Exit(1)


def find_alike(
    directory: Path, model: Path | None, exclude: Sequence[str], progress: Progress
) -> Iterator[Sequence[Issue]]:
    """Yield the landmarks of a dataset that look like one place, once its photos are embedded."""
    from obelisk.cleaning import check_look_alikes
    from obelisk.data import read_catalog
    from obelisk.gallery import load_model
    from obelisk.photos import PhotoFilter

    catalog = read_catalog(directory, photo_filter=PhotoFilter(exclude))  # what is passed over has been counted before
    if found := check_look_alikes(catalog, load_model(locate_gallery(model)), progress=progress):
        yield found


def show_issues(kind: str, issues: Sequence[Issue], count: int) -> None:
    """Print the first issues of one kind as a table."""
    rows = [(issue.where, issue.what, issue.fix) for issue in issues]
    table(("where", "what", "what to do"), rows, title=f"{kind}: {count}")
    if count > len(issues):
        note(f"{count - len(issues)} more of these: --json prints all")


@data_app.command("stats")
def stats_command(
    directory: Dataset,
    as_json: AsJson = False,
    clean: Clean = False,
    listed: Annotated[
        bool, typer.Option("--listed", help="Count what the CSVs list, whether the photos are on disk or not.")
    ] = False,
    figure: FigureFile = None,
    exclude: Exclude = None,
) -> None:
    """Count landmarks and photos, and show how they are distributed.

    Prints the percentiles of photos per landmark, and the numbers of head, mid and tail landmarks.
    """
    from obelisk.data import compute_statistics, draw_long_tail, photos_per_landmark, read_catalog

    skipped = SkippedFolders(exclude)
    catalog = read_catalog(directory, clean=clean, present_only=not listed, photo_filter=skipped.photo_filter)
    for remark in catalog.notes:
        warn(remark)
    statistics = compute_statistics(catalog)
    if as_json:
        result(json.dumps(statistics.to_fields()))
    else:
        fields = statistics.to_fields()
        table(("", "count"), [(name.replace("_", " "), n) for name, n in fields.items() if isinstance(n, int)])
        show_distributions({"photos per landmark": statistics.percentiles})
        show_buckets(statistics.buckets)
    if figure is not None:
        drawn = draw_long_tail({f"{directory.resolve().name}": photos_per_landmark(catalog.references)}, figure)
        note(f"figure: {drawn}")
    skipped.report()


def show_distributions(percentiles: Mapping[str, Mapping[str, int]]) -> None:
    """Print percentiles, one row per distribution."""
    names = list(next(iter(percentiles.values())))
    result("")
    table(("", *names), [(label, *found.values()) for label, found in percentiles.items()])


def show_buckets(buckets: Mapping[str, int]) -> None:
    """Print the number of head, mid and tail landmarks."""
    from obelisk.data import MID_PHOTOS, TAIL_PHOTOS

    spans = {
        "head": f"more than {MID_PHOTOS}",
        "mid": f"{TAIL_PHOTOS + 1} to {MID_PHOTOS}",
        "tail": f"up to {TAIL_PHOTOS}",
    }
    result("")
    table(("bucket", "photos", "landmarks"), [(bucket, spans[bucket], count) for bucket, count in buckets.items()])


@data_app.command("subset")
def subset_command(
    directory: Dataset,
    landmarks: Annotated[int, typer.Option("--landmarks", help="How many landmarks to sample.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", metavar="OUT", help="Folder for the manifests.", show_default=False)],
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same subset everywhere.")] = 0,
    clean: Clean = False,
    as_json: AsJson = False,
    figure: FigureFile = None,
    exclude: Exclude = None,
) -> None:
    """Sample landmarks, and split their photos into three sets.

    Landmarks are sampled at random; the sets are train, val and test. OUT gets manifests only; the
    photos stay where they are.
    """
    from obelisk.data import (
        draw_long_tail,
        photos_per_landmark,
        read_catalog,
        refuse_occupied,
        sample_subset,
        write_subset,
    )

    refuse_occupied(out)
    skipped = SkippedFolders(exclude)
    catalog = read_catalog(directory, clean=clean, photo_filter=skipped.photo_filter)
    with Meter() as meter:
        subset = sample_subset(catalog, landmarks=landmarks, seed=seed, progress=meter)
    for remark in (*catalog.notes, *subset.notes):
        warn(remark)
    written = write_subset(subset, out)
    if as_json:
        result(json.dumps(subset.to_fields()))
    else:
        table(("split", "photos"), list(subset.count_splits().items()))
        show_distributions({"photos per landmark, source": subset.source_percentiles, "subset": subset.percentiles})
        result("")
        result(f"KS distance of the two distributions: {subset.ks_distance:.4f}")
    if figure is not None:
        members = subset.photos.drop_nulls("landmark_id")
        counts = {f"source ({catalog.landmarks.height} landmarks)": photos_per_landmark(catalog.references)}
        drawn = draw_long_tail(counts | {f"subset ({subset.landmarks.height})": photos_per_landmark(members)}, figure)
        note(f"figure: {drawn}")
    skipped.report()
    note(f"manifests: {written}")
    note_photos(written, catalog.root, out)


data_app.command("clean")(clean_command)
data_app.command("download")(download_command)
