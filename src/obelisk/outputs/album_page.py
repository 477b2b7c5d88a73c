"""The page of an album: photos by landmark, a map, what is probable, unknown and unreadable; nothing outside it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from obelisk.files import replace_file
from obelisk.markup import Markup, element, is_web_address, join, page_head, text
from obelisk.outputs.album_photos import AlbumPhoto
from obelisk.outputs.album_state import AlbumState
from obelisk.outputs.world_map import MapPlace, draw_map
from obelisk.records import Candidate, Neighbor
from obelisk.wording import describe_confidence, describe_verdict, format_credit, format_position

REFERENCES = 12  # that a landmark lists


@dataclass(kw_only=True)
class AlbumLandmark:
    """A landmark of an album: what the gallery knows about it, its photos, and the reference photos they resemble."""

    candidate: Candidate
    links: tuple[str, ...]
    photos: list[AlbumPhoto] = field(default_factory=list)
    references: Counter[tuple[str, str | None, str]] = field(default_factory=Counter)  # (id, source, credit) → photos


@dataclass(kw_only=True)
class AlbumContents:
    """The photos of an album by what their answers say."""

    landmarks: list[AlbumLandmark]
    probable: list[AlbumPhoto]
    unknown: list[AlbumPhoto]
    unreadable: list[AlbumPhoto]

    @property
    def photos(self) -> int:
        """The number of photos."""
        named = sum(len(landmark.photos) for landmark in self.landmarks)
        return named + len(self.probable) + len(self.unknown) + len(self.unreadable)


def sort_photos(photos: Iterable[AlbumPhoto], state: AlbumState) -> AlbumContents:
    """Sort photos by landmark, the landmark with most photos first."""
    by_landmark: dict[tuple[str | None, int], AlbumLandmark] = {}
    contents = AlbumContents(landmarks=[], probable=[], unknown=[], unreadable=[])
    for photo in photos:
        if photo.error is not None:
            contents.unreadable.append(photo)
            continue
        answer, _ = state.read(photo.content, photo.path)
        if answer.verdict != "sure":
            (contents.probable if answer.verdict == "probable" else contents.unknown).append(photo)
            continue
        first = answer.candidates[0]
        landmark = by_landmark.setdefault(
            (first.gallery, first.landmark_id), AlbumLandmark(candidate=first, links=answer.links)
        )
        landmark.photos.append(photo)
        landmark.references.update(
            (near.id, near.source, format_credit(near.author, near.licence))
            for near in answer.neighbours
            if is_of(near, first) and near.id
        )
    contents.landmarks = sorted(by_landmark.values(), key=lambda one: (-len(one.photos), one.candidate.landmark))
    return contents


def is_of(neighbor: Neighbor, landmark: Candidate) -> bool:
    """Return whether a neighbor shows a landmark."""
    return (neighbor.gallery, neighbor.landmark_id) == (landmark.gallery, landmark.landmark_id)


def write_album(path: Path, title: str, photos: Iterable[AlbumPhoto], state: AlbumState) -> AlbumContents:
    """Write the page of an album, whole or not at all; return what it shows.

    Photos are read from ``state`` one at a time, so that memory does not grow with their number.
    """
    contents = sort_photos(photos, state)
    style = resources.files("obelisk.outputs").joinpath("album.css").read_text(encoding="utf-8")
    drawer = AlbumDrawer(path, state)

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.write(page_head(title, style))
            file.writelines(drawer.draw_body(title, contents))

    replace_file(path, write)
    return contents


class AlbumDrawer:
    """Draws the parts of an album's page, which will lie at ``path``."""

    def __init__(self, path: Path, state: AlbumState) -> None:
        self._folder = os.path.abspath(path.parent)  # noqa: PTH100 - links are kept as they are
        self._state = state

    def draw_body(self, title: str, contents: AlbumContents) -> Iterator[Markup]:
        """Yield the page after its head, piece by piece."""
        yield Markup("<body>\n<main>\n")
        yield draw_header(title, contents)
        yield Markup('<div class="landmarks">\n')
        for number, landmark in enumerate(contents.landmarks, start=1):
            yield from self._draw_landmark(number, landmark)
        yield Markup("</div>\n")
        yield from self._draw_others(
            "probably", "Probably", "More likely right than wrong, but not sure enough.", contents.probable
        )
        yield from self._draw_others("unknown", "No landmark I know", "", contents.unknown)
        if contents.unreadable:
            yield draw_unreadable(contents.unreadable)
        yield Markup("</main>\n</body>\n</html>\n")

    def _draw_landmark(self, number: int, landmark: AlbumLandmark) -> Iterator[Markup]:
        """Yield the section of a landmark."""
        count = element("small", text(count_photos(len(landmark.photos))))
        heading = element("h2", isolate(landmark.candidate.landmark), count, id=f"name-{number}")
        yield Markup(f'<section id="landmark-{number}" aria-labelledby="name-{number}">')
        yield join([heading, draw_facts(landmark)])
        yield from self._draw_photos(landmark.photos)
        yield join([draw_references(landmark), Markup("</section>\n")])

    def _draw_others(self, anchor: str, title: str, remark: str, photos: list[AlbumPhoto]) -> Iterator[Markup]:
        """Yield the section of photos that name no landmark; nothing if there are none."""
        if not photos:
            return
        count = element("small", text(count_photos(len(photos))))
        yield Markup(f'<section id="{anchor}" aria-labelledby="name-{anchor}">')
        yield element("h2", text(title), count, id=f"name-{anchor}")
        if remark:
            yield element("p", text(remark), class_="note")
        yield from self._draw_photos(photos)
        yield Markup("</section>\n")

    def _draw_photos(self, photos: Iterable[AlbumPhoto]) -> Iterator[Markup]:
        yield Markup('<ul class="photos">\n')
        for photo in photos:
            yield self._draw_photo(photo)
        yield Markup("</ul>\n")

    def _draw_photo(self, photo: AlbumPhoto) -> Markup:
        """Return a photo: its thumbnail, which leads to the photo itself, and what the answer says."""
        answer, thumbnail = self._state.read(photo.content, photo.path)
        name = os.path.basename(photo.path)  # noqa: PTH119 - of a path that may end in anything
        picture = element(
            "img",
            src=thumbnail.uri,
            alt=f"{describe_verdict(answer)}: {name}",
            width=str(thumbnail.width),
            height=str(thumbnail.height),
            loading="lazy",
            decoding="async",
        )
        caption = [element("span", isolate(name), class_="name", title=photo.path)]
        if answer.verdict != "unknown":
            caption.append(element("span", text(describe_confidence(answer)), class_="confidence"))
        if answer.verdict == "probable":
            caption.append(element("span", isolate(answer.candidates[0].landmark), class_="guess"))
        if answer.warning:
            caption.append(element("span", text("cut off"), class_="guess", title=answer.warning))
        link = element("a", picture, href=self._address(photo.path))
        return join([element("li", element("figure", link, element("figcaption", *caption))), Markup("\n")])

    def _address(self, photo: str) -> str:
        """Return where the page finds a photo: relative to itself, or absolute on another drive."""
        absolute = os.path.abspath(photo)  # noqa: PTH100
        try:
            relative = os.path.relpath(absolute, self._folder)
        except ValueError:
            return Path(absolute).as_uri()
        # With `./`, a name such as `javascript:x` is no scheme.
        return "./" + quote(os.fsencode(relative.replace(os.sep, "/")))


def draw_header(title: str, contents: AlbumContents) -> Markup:
    """Return the title, the numbers, the map and the list of landmarks."""
    places = [
        MapPlace(
            name=landmark.candidate.landmark,
            latitude=landmark.candidate.latitude,
            longitude=landmark.candidate.longitude,
            count=len(landmark.photos),
            link=f"#landmark-{number}",
        )
        for number, landmark in enumerate(contents.landmarks, start=1)
        if landmark.candidate.latitude is not None and landmark.candidate.longitude is not None
    ]
    parts = [element("h1", isolate(title)), element("p", text(describe_contents(contents)), class_="headline")]
    if places:
        parts.append(element("div", draw_map(places), class_="map"))
    if listed := list(list_sections(contents)):
        entries = (element("li", element("a", name, href=f"#{anchor}"), count) for anchor, name, count in listed)
        parts.append(element("nav", element("ul", *entries), aria_label="Landmarks"))
    return join([element("header", *parts), Markup("\n")])


def list_sections(contents: AlbumContents) -> Iterator[tuple[str, Markup, Markup]]:
    """Yield the anchor, the name and the number of photos of each section."""
    for number, landmark in enumerate(contents.landmarks, start=1):
        count = element("small", text(f"{len(landmark.photos):,}"))
        yield f"landmark-{number}", isolate(landmark.candidate.landmark), count
    others = {
        "probably": ("Probably", contents.probable),
        "unknown": ("No landmark I know", contents.unknown),
        "unreadable": ("Unreadable", contents.unreadable),
    }
    for anchor, (title, photos) in others.items():
        if photos:
            yield anchor, text(title), element("small", text(f"{len(photos):,}"))


def draw_facts(landmark: AlbumLandmark) -> Markup:
    """Return where a landmark is, and the links about it."""
    facts = []
    latitude, longitude = landmark.candidate.latitude, landmark.candidate.longitude
    if latitude is not None and longitude is not None:
        at = f"{latitude:.5f}", f"{longitude:.5f}"
        where = f"https://www.openstreetmap.org/?mlat={at[0]}&mlon={at[1]}#map=16/{at[0]}/{at[1]}"
        facts.append(element("a", text(format_position(latitude, longitude)), href=where))
    facts += [element("a", text(name_site(link)), href=link) for link in landmark.links if is_web_address(link)]
    return element("p", join(facts, " · "), class_="note") if facts else Markup("")


def draw_references(landmark: AlbumLandmark) -> Markup:
    """Return the reference photos that the photos of a landmark resemble most often."""
    if not landmark.references:
        return Markup("")
    entries = []
    for (photo, source, credit), _ in landmark.references.most_common(REFERENCES):
        name = name_reference(photo, source)
        linked = element("a", name, href=source) if source and is_web_address(source) else name
        entries.append(element("li", linked, *([text(" · "), element("small", isolate(credit))] if credit else [])))
    title = "Reference photos"
    return element("details", element("summary", text(title)), element("ul", *entries))


def draw_unreadable(photos: list[AlbumPhoto]) -> Markup:
    """Return the list of photos that could not be read, and why."""
    count = element("small", text(count_photos(len(photos))))
    heading = element("h2", text("Unreadable"), count, id="name-unreadable")
    entries = (element("li", isolate(photo.error or photo.path)) for photo in photos)
    listed = element("ul", *entries, class_="errors")
    return join([element("section", heading, listed, id="unreadable", aria_labelledby="name-unreadable"), Markup("\n")])


def describe_contents(contents: AlbumContents) -> str:
    """Return the numbers of an album in one sentence."""
    named = sum(len(landmark.photos) for landmark in contents.landmarks)
    count = len(contents.landmarks)
    parts = [f"{named:,} show {'one landmark' if count == 1 else f'{count:,} landmarks'}" if named else ""]
    parts += [f"{len(contents.probable):,} probably show one" if contents.probable else ""]
    parts += [f"{len(contents.unknown):,} show none I know" if contents.unknown else ""]
    parts += [f"{len(contents.unreadable):,} could not be read" if contents.unreadable else ""]
    return f"{count_photos(contents.photos)}: {', '.join(filter(None, parts)) or 'nothing to show'}."


def isolate(name: str) -> Markup:
    """Return somebody's name for something; its direction of writing ends with it."""
    return element("bdi", text(name))


def name_site(link: str) -> str:
    """Return what people call the site that a link leads to."""
    host = urlsplit(link).netloc
    if host == "commons.wikimedia.org":
        return "Wikimedia Commons"
    return "Wikipedia" if host.endswith(".wikipedia.org") else host


def name_reference(photo: str, source: str | None) -> Markup:
    """Return a reference photo by the name of its file where it was published, else by its id."""
    found = re.search(r"/File:([^?#]+)$", source or "")
    return isolate(unquote(found[1]).replace("_", " ") if found else photo)


def count_photos(count: int) -> str:
    """Return ``1 photo`` or ``3 photos``."""
    return f"{count:,} photo{'' if count == 1 else 's'}"
