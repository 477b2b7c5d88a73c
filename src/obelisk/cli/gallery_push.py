"""``obelisk gallery push`` and ``pull``: a gallery between a folder and a database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import Meter, count_of, note, result
from obelisk.cli.photo_arguments import NamedGallery

if TYPE_CHECKING:
    from obelisk.gallery import PushReport

Url = Annotated[
    str,
    typer.Argument(metavar="URL", help="The database: postgresql://HOST/DATABASE, or a folder.", show_default=False),
]
Target = Annotated[
    str, typer.Argument(metavar="GALLERY", help="The folder to fill, or a database.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def push_command(place: NamedGallery, url: Url, as_json: AsJson = False) -> None:
    """Copy a gallery to a database, or bring its copy there up to date.

    Photos are known by their ids and content hashes: what is there already is only compared, so an interrupted push
    goes on when the same command is given again. Photos that only the database has stay. Exits 1 if the copy differs.
    """
    copy_between(place, url, recall=True, as_json=as_json)


def pull_command(url: Url, target: Target, as_json: AsJson = False) -> None:
    """Copy a gallery from a database to a folder; see push."""
    copy_between(url, target, recall=False, as_json=as_json)


def copy_between(origin: str, target: str, *, recall: bool, as_json: bool) -> None:
    """Copy a gallery, and report what there is now."""
    from obelisk.gallery import Gallery, open_truth, push_gallery

    with Meter() as meter:
        done = push_gallery(Gallery.open(origin), open_truth(target), recall=recall, progress=meter)
    if as_json:
        facts = {name: value for name, value in vars(done).items() if name not in ("gallery", "digests")}
        result(json.dumps({"gallery": done.gallery.name, **facts, "content": done.digests[1], "same": done.same}))
    else:
        result(f"{done.gallery.name}: {describe_copy(done)}")
    if not done.same:
        note("the copy differs from its origin: somebody changed it meanwhile · give the same command again")
        raise typer.Exit(1)


def describe_copy(done: PushReport) -> str:
    """Return what there is now, in one line."""
    kinds = {"new": done.new, "changed": done.changed, "unchanged": done.unchanged, "only there": done.more}
    contents = f"{count_of(done.photos, 'photo')} of {count_of(done.landmarks, 'landmark')}"
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    found = f"; recall@10 {done.recall:.3f}" if done.recall is not None else ""
    return f"{contents} ({counts}); content {done.digests[1]}{found}"
