"""``obelisk landmarks``: which landmarks a gallery knows."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.bundled import BUNDLED
from obelisk.cli.console import count_of, note, result, table
from obelisk.errors import near_names
from obelisk.wording import format_position

if TYPE_CHECKING:
    from obelisk.gallery import Landmark


def landmarks_command(
    search: Annotated[
        str,
        typer.Option(
            "--search",
            metavar="WORD",
            help="Only names that contain this; capitals and accents make no difference.",
            show_default=False,
        ),
    ] = "",
    galleries: Annotated[
        list[str] | None,
        typer.Option(
            "--gallery",
            metavar="G",
            help="Gallery to list; may be repeated.",
            show_default="the bundled one",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per landmark.")] = False,
) -> None:
    """List the landmarks that a gallery knows, by name.

    Each has its id and the number of its reference photos; where known, also its position and a link.
    """
    from obelisk.gallery import Gallery, landmark_counts, matches_name

    opened = [Gallery.open(path) for path in galleries or [BUNDLED]]
    known = [(gallery, *counted) for gallery in opened for counted in landmark_counts(gallery).items()]
    known.sort(key=lambda row: (row[1].name.casefold(), row[1].id))
    found = [row for row in known if matches_name(search, row[1].name)]
    if as_json:
        for gallery, landmark, photos in found:
            result(json.dumps(landmark_fields(landmark, photos, gallery.name), ensure_ascii=False))
    elif found:
        several = len(opened) > 1
        rows = [describe_landmark(landmark, photos) + [gallery.name] * several for gallery, landmark, photos in found]
        table(("landmark", "id", "photos", "position", "link", "gallery")[: len(rows[0])], rows)
    if not found:
        names = (row[1].name for row in known)
        note(" · ".join(filter(None, [f"no landmark is called `{search}`", near_names(search, names)])))
    elif search:
        note(f"{len(found)} of {count_of(len(known), 'landmark')}")


def describe_landmark(landmark: Landmark, photos: int) -> list[object]:
    """Return the cells of a landmark in the table."""
    latitude, longitude = landmark.latitude, landmark.longitude
    position = "" if latitude is None or longitude is None else format_position(latitude, longitude)
    return [landmark.name, landmark.id, photos, position, next(iter(landmark.links), "")]


def landmark_fields(landmark: Landmark, photos: int, gallery: str) -> dict[str, object]:
    """Return what JSON says of a landmark: the keys that an answer has for it, and those of the gallery's own."""
    own = asdict(landmark)
    names = {"landmark": own["name"], "landmark_id": own["id"]}
    return names | own | {"photos": photos, "gallery": gallery}
