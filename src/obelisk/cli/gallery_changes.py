"""``obelisk gallery add``, ``remove``, ``rename``, ``merge``: each prints what it did once that is on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from obelisk.cli.console import SkippedFolders, count_of, note, result, warn
from obelisk.cli.photo_arguments import Exclude, NamedGallery, NullSeparated, Photos, expand_arguments
from obelisk.errors import ObeliskError, UsageError, near_names
from obelisk.positions import parse_position

if TYPE_CHECKING:
    from obelisk.arrays import Embeddings
    from obelisk.gallery import Addition, Gallery

LandmarkNames = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="Landmarks by name, or by id if several have the name.", show_default=False),
]


def add_command(
    place: NamedGallery,
    photos: Photos,
    landmark: Annotated[
        str,
        typer.Option("--landmark", metavar="NAME", help="What the photos show; a new name makes a new landmark."),
    ],
    landmark_id: Annotated[
        int | None,
        typer.Option(
            "--id",
            metavar="N",
            help="The landmark's id: to choose among landmarks of one name, or to set that of a new one.",
            show_default=False,
        ),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="LAT,LON",
            help="Where the landmark is, in degrees.",
            show_default="as it is, or where the photos' Exif says they were taken",
        ),
    ] = None,
    null: NullSeparated = False,
    exclude: Exclude = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per photo.")] = False,
) -> None:
    """Add photos of one landmark.

    Prints a line for each photo once it is on the disk. A photo whose bytes the gallery already has is reported, but
    not added again. Exits 1 if some photos could not be added.
    """
    from obelisk.gallery import Gallery, add_photos, target_landmark

    position = parse_position(at, option="--at") if at is not None else None
    skipped = SkippedFolders(exclude)
    paths = expand_arguments(photos, skipped, null=null)
    gallery = Gallery.open(place)
    chosen = target_landmark(gallery, landmark, landmark_id)
    remark = remark_new_name(gallery, landmark)
    total = failed = 0
    target = None
    for addition in add_photos(gallery, map(Path, paths), chosen, position=position):
        total += 1
        target = addition.photo.landmark_id if addition.photo and not addition.error else target
        if addition.new and remark:
            note(remark)
            remark = ""
        if addition.error:
            failed += 1
            warn(str(addition.error))
        if as_json:
            result(addition_to_json(addition, landmark))
        elif not addition.error and addition.photo:
            done = "added as" if addition.new else "is there already, as"
            result(f"{addition.path}: {done} `{addition.photo.id}` of `{landmark}` (id {addition.photo.landmark_id})")
    warn_of_twins(gallery, [pair for pair in recalibrate(gallery) if target in pair])
    if failed:
        warn(f"{failed} of {total} photos could not be added")
    skipped.report()
    if failed or skipped:
        raise typer.Exit(1)


def calibrate_command(
    place: NamedGallery,
    strangers: Annotated[
        Path | None,
        typer.Option(
            "--strangers", metavar="FOLDER", help="Photos of what is not in the gallery, such as look-alikes nearby."
        ),
    ] = None,
) -> None:
    """Calibrate a gallery again with its own reference photos.

    Every change of a gallery does this by itself. Photos of what is not in the gallery make it refuse the like.
    """
    from obelisk.gallery import Gallery
    from obelisk.recognition import Recognizer, calibrate_gallery
    from obelisk.recognition.self_calibration import find_mutual

    gallery = Gallery.open(place)
    rows, photos = embed_strangers(gallery, strangers) if strangers else (None, [])
    refined = calibrate_gallery(gallery, rows, again=True)
    if refined is None:
        calibrated = Recognizer.open(gallery).calibration is not None
        why = "it has a calibration.json of its own" if calibrated else "its model is not calibrated"
        raise UsageError(f"the gallery can't be calibrated: {why}", where=gallery.name)
    if refined.copies:
        warn(f"left out: {refined.copies} of {strangers}, copies of reference photos")
    for row in refined.named:
        warn(f"{photos[row]}: named with confidence all the same; does it show a landmark of the gallery?")
    warn_of_twins(gallery, find_mutual(refined.twins))
    result(f"{gallery.name}: landmarks are named from a confidence of {refined.calibration.threshold():.4f} on")


def warn_of_twins(gallery: Gallery, twins: Sequence[tuple[int, int]]) -> None:
    """Name the pairs of landmarks that look like one place."""
    from obelisk.gallery import landmark_names

    names = landmark_names(gallery) if twins else {}
    for one, other in twins:
        warn(f"`{names[one]}` and `{names[other]}` look like one place; `obelisk gallery merge` makes them one")


def embed_strangers(gallery: Gallery, folder: Path) -> tuple[Embeddings, list[Path]]:
    """Embed the photos in a folder; return the unit-norm rows (S, D) and their files, without the unusable ones."""
    import numpy as np

    from obelisk.arrays import l2_normalize
    from obelisk.embedding import Embedder
    from obelisk.gallery import refuse_directionless
    from obelisk.photos import find_photos

    embedder = Embedder(gallery.load_bundle())
    rows, photos = [], []
    for photo in refuse_directionless(embedder.embed(find_photos(folder), hashed=False)):
        if photo.embedding is None:
            warn(str(photo.error))
            continue
        rows.append(photo.embedding)
        photos.append(photo.path)
    if not rows:
        raise UsageError("no photo found", where=folder, fix="give a folder of photos")
    return l2_normalize(np.array(rows), dimensions=gallery.dimensions), photos


def warn_of_few_landmarks(landmarks: int) -> None:
    """Say that a gallery of few landmarks knows little of what it lacks; nothing for an empty one."""
    from obelisk.recognition.rivals import FEW_LANDMARKS

    if 0 < landmarks < FEW_LANDMARKS:
        note(
            f"{count_of(landmarks, 'landmark')}: whether a photo shows another place can only be judged roughly · "
            f"refusing rests on more with {FEW_LANDMARKS} landmarks of the kind"
        )


def recalibrate(gallery: Gallery) -> list[tuple[int, int]]:
    """Calibrate a gallery again after a change; return the pairs of landmarks that look like one place.

    The change stands if that fails: then the command says so.
    """
    from obelisk.recognition import calibrate_gallery
    from obelisk.recognition.self_calibration import find_mutual

    try:
        refined = calibrate_gallery(gallery)
    except (ObeliskError, OSError) as error:
        warn(f"the change was made, but the gallery keeps its former calibration: {error}")
        return []
    return find_mutual(refined.twins) if refined else []


def remark_new_name(gallery: Gallery, name: str) -> str:
    """Return a note on a name that no landmark has yet, in case it is a typo; empty for a known name."""
    from obelisk.gallery import landmark_names

    known = landmark_names(gallery).values()
    if name in known:
        return ""
    return " · ".join(filter(None, [f"`{name}` is a new landmark", near_names(name, known)]))


def addition_to_json(addition: Addition, landmark: str) -> str:
    """Return the outcome for a photo as one line of JSON."""
    photo = addition.photo
    fields = {
        "photo": str(addition.path),
        "id": photo.id if photo else None,
        "landmark": None if addition.error else landmark,
        "landmark_id": photo.landmark_id if photo and not addition.error else None,
        "new": addition.new,
        "error": str(addition.error) if addition.error else None,
    }
    return json.dumps(fields, ensure_ascii=False)


def remove_command(
    place: NamedGallery,
    landmarks: Annotated[
        list[str] | None,
        typer.Option(
            "--landmark",
            metavar="NAME",
            help="A landmark, with all its photos: its name, or its id if several have the name; may be repeated.",
            show_default=False,
        ),
    ] = None,
    photos: Annotated[
        list[str] | None,
        typer.Option(
            "--photo",
            metavar="ID",
            help="A photo, by its id as `add` and `recognize` print it; may be repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Remove landmarks or photos, all of them or none.

    A landmark goes with its last photo.
    """
    from obelisk.gallery import Gallery, find_landmark, landmark_counts, landmark_names

    if not landmarks and not photos:
        raise UsageError("nothing to remove was named", fix="give --landmark NAME or --photo ID")
    gallery = Gallery.open(place)
    before = landmark_counts(gallery)
    names = {landmark.id: landmark.name for landmark in before}
    chosen = [find_landmark(name, names, gallery.name) for name in landmarks or ()]
    gallery.remove(photos=photos or (), landmarks=chosen)
    for photo_id in photos or ():
        result(f"{gallery.name}: removed photo `{photo_id}`")
    left = landmark_names(gallery)
    for landmark, count in before.items():
        if landmark.id not in left:
            result(f"{gallery.name}: removed landmark `{landmark.name}` (id {landmark.id}, {count_of(count, 'photo')})")
    recalibrate(gallery)


def rename_command(
    place: NamedGallery,
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="The landmark: its name, or its id if several have the name."),
    ],
    into: Annotated[str, typer.Option("--into", metavar="NAME", help="Its new name.")],
) -> None:
    """Rename a landmark."""
    from obelisk.gallery import Gallery, find_landmark, landmark_names

    gallery = Gallery.open(place)
    names = landmark_names(gallery)
    landmark_id = find_landmark(name, names, gallery.name)
    gallery.rename(landmark_id, into)
    result(f"{gallery.name}: `{names[landmark_id]}` (id {landmark_id}) is called `{into}`")


def merge_command(
    place: NamedGallery,
    landmarks: LandmarkNames,
    into: Annotated[
        str,
        typer.Option(
            "--into",
            metavar="NAME",
            help="The landmark that gets all photos; a new name goes to the one with the smallest id.",
        ),
    ],
) -> None:
    """Merge several landmarks into one."""
    from obelisk.gallery import Gallery, find_landmark, landmark_names

    gallery = Gallery.open(place)
    names = landmark_names(gallery)
    merged = [find_landmark(name, names, gallery.name) for name in landmarks]
    known = into in names.values() or (into.isdigit() and int(into) in names)
    target = find_landmark(into, names, gallery.name) if known else min(merged)
    gallery.merge(merged, target, name=None if known else into)
    called = names[target] if known else into
    listed = ", ".join(f"`{names[landmark_id]}` (id {landmark_id})" for landmark_id in merged)
    result(f"{gallery.name}: {listed} merged into `{called}` (id {target})")
    recalibrate(gallery)
