"""Tags in XMP sidecars: where a photo was taken, for photo managers.

Beside ``photo.jpg`` stands ``photo.jpg.xmp``, the name that darktable, digiKam, immich and PhotoPrism look for. The tag
is written three times, as each program reads another list first: ``dc:subject`` (the name), ``digiKam:TagsList``
(``Places/Name``) and ``lr:hierarchicalSubject`` (``Places|Name``). ``obelisk:added`` lists what was added, so that it
can be taken away again, and nothing else is. The photo itself is never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from obelisk.errors import SidecarError
from obelisk.files import read_limited, replace_file
from obelisk.outputs.xmp_document import LARGEST, XmpDocument
from obelisk.photos import read_position
from obelisk.positions import Position
from obelisk.records import Recognition

PLACES = "Places"
SUBJECT, TAGS, HIERARCHY = "dc:subject", "digiKam:TagsList", "lr:hierarchicalSubject"
KINDS = {SUBJECT: "Bag", TAGS: "Seq", HIERARCHY: "Bag"}
SEPARATORS = {TAGS: "/", HIERARCHY: "|"}
LATITUDE, LONGITUDE = "exif:GPSLatitude", "exif:GPSLongitude"
ADDED = "obelisk:added"
OWN_FILE = "file"  # the entry of the record that says: there was no sidecar before
OWNERS = ("crs:RawFileName", "xmpMM:DerivedFrom")  # where programs write which photo a sidecar belongs to
FILE_NAME = re.compile(r"([^/\\:]+)\.\w{2,5}")


@dataclass(frozen=True, kw_only=True)
class SidecarChange:
    """What a sidecar says by our doing, before and after; ``changed`` if it is another file now, or would be."""

    path: Path
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    changed: bool = False

    def __str__(self) -> str:
        removed = [f"-{show_entry(entry)}" for entry in self.before if entry not in self.after and is_told(entry)]
        added = [f"+{show_entry(entry)}" for entry in self.after if entry not in self.before and is_told(entry)]
        return f"{self.path}: {', '.join(removed + added) or 'as before'}"


def show_entry(entry: str) -> str:
    """Return what an entry of the record added."""
    return entry.partition("=")[2]


def is_told(entry: str) -> bool:
    """Return whether people read an entry of the record: the tag once, and the position."""
    return entry.startswith((f"{TAGS}=", "exif:"))


def tag_photo(answer: Recognition, *, position: bool = False, dry_run: bool = False) -> SidecarChange:
    """Bring the sidecar of a photo up to date with its answer: tagged if the verdict is ``sure``, else not.

    With ``position``, the landmark's position is added where neither the photo nor its sidecar has one. What was added
    earlier is taken away first. Raises SidecarError for a sidecar that can't be used, which is left as it is, and
    OSError if it can't be read or written.
    """
    place = None
    if position and answer.latitude is not None and answer.longitude is not None:
        place = Position(answer.latitude, answer.longitude)
    return change_sidecar(answer.photo, answer.landmark, place, dry_run=dry_run)


def untag_photo(photo: str, *, dry_run: bool = False) -> SidecarChange:
    """Take away what :func:`tag_photo` added; a sidecar that it made, and that holds nothing else, is deleted."""
    return change_sidecar(photo, None, None, dry_run=dry_run)


def change_sidecar(photo: str, landmark: str | None, place: Position | None, *, dry_run: bool) -> SidecarChange:
    """Replace what was added to a sidecar by the name of a landmark and a position; None adds nothing."""
    path = Path(f"{photo}.xmp")
    before: tuple[str, ...]
    try:
        document = XmpDocument(read_limited(path, LARGEST), path)
    except FileNotFoundError:
        if landmark is None:
            return SidecarChange(path=path)
        document, as_it_was, before = XmpDocument.new(path), b"", (OWN_FILE,)
    else:
        check_owner(document, Path(photo))
        as_it_was, before = document.to_bytes(), tuple(document.items(ADDED) or ())
        forget_entries(document, before)
    if landmark:
        if place and (document.value(LATITUDE) or read_position(Path(photo)).position):
            place = None
        entries = add_entries(document, landmark, place) + [entry for entry in before if entry == OWN_FILE]
        document.add_items(ADDED, entries, kind="Bag")
    content = document.to_bytes()
    after = tuple(document.items(ADDED) or ())
    if content != as_it_was and not dry_run:
        if OWN_FILE in before and document.is_empty:
            path.unlink()
        else:
            replace_file(path, lambda partial: partial.write_bytes(content))
    return SidecarChange(path=path, before=before if as_it_was else (), after=after, changed=content != as_it_was)


def check_owner(document: XmpDocument, photo: Path) -> None:
    """Raise SidecarError if a sidecar says that it belongs to another photo; versions of one photo share its stem."""
    for name in OWNERS:
        owner = document.value(name) or ""
        stem = FILE_NAME.fullmatch(owner)
        if stem and not re.match(rf"{re.escape(stem[1])}(?![^\W_])", photo.name, re.IGNORECASE):
            raise SidecarError(
                f"the sidecar belongs to another photo: its {name} is `{owner}`",
                where=document.path,
                fix="move it away; it was left as it is",
            )


def forget_entries(document: XmpDocument, entries: Iterable[str]) -> None:
    """Take the entries of the record out of a sidecar, and the record itself."""
    for entry in entries:
        name, _, text = entry.partition("=")
        if name in KINDS:
            document.remove_items(name, [text])
        elif name in (LATITUDE, LONGITUDE) and document.value(name) == text:
            document.remove_value(name)
    document.remove_value(ADDED)


def add_entries(document: XmpDocument, landmark: str, place: Position | None) -> list[str]:
    """Add a landmark's name and position to a sidecar, and return what was added, as entries of the record.

    Programs read one of the lists and leave the others alone. So a list that is new also gets the tags that another
    one has: none is hidden by ours.
    """
    present = {name: items for name in KINDS if (items := document.items(name)) is not None}
    known = next((split_tags(name, present[name]) for name in (TAGS, HIERARCHY, SUBJECT) if name in present), [])
    entries = []
    for name, kind in KINDS.items():
        items = join_tags(name, [*([] if name in present else known), (PLACES, landmark)])
        new = [item for item in dict.fromkeys(items) if item not in present.get(name, ())]
        document.add_items(name, new, kind=kind)
        entries += [f"{name}={item}" for item in new]
    if place:
        for name, degrees, letters in ((LATITUDE, place.latitude, "NS"), (LONGITUDE, place.longitude, "EW")):
            text = format_angle(degrees, letters)
            document.set_value(name, text)
            entries.append(f"{name}={text}")
    return entries


def split_tags(name: str, items: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the tags of a list, each from its outermost part to its own name."""
    return [tuple(item.split(SEPARATORS[name])) if name in SEPARATORS else (item,) for item in items]


def join_tags(name: str, tags: Iterable[tuple[str, ...]]) -> list[str]:
    """Return tags as a list has them; a separator inside a name becomes a hyphen."""
    if name not in SEPARATORS:
        return [XmpDocument.clean(tag[-1]) for tag in tags]
    separator = SEPARATORS[name]
    return [XmpDocument.clean(separator.join(part.replace(separator, "-") for part in tag)) for tag in tags]


def format_angle(degrees: float, letters: str) -> str:
    """Return an angle as XMP has it: degrees, and minutes with decimals.

    >>> format_angle(-122.3493, "EW")
    '122,20.95800W'
    """
    whole, minutes = divmod(round(abs(degrees) * 60, 5), 60)
    return f"{whole:.0f},{minutes:.5f}{letters[degrees < 0]}"
