"""A gallery as notebooks show it: its name, its counts, and the landmarks with most photos."""

from __future__ import annotations

from itertools import islice

from obelisk.gallery.gallery import Gallery
from obelisk.gallery.info import gather_facts, landmark_counts
from obelisk.gallery.landmarks import Landmark
from obelisk.markup import Markup, clip_name, element, html_table, text

ROWS = 10


def draw_gallery(gallery: Gallery) -> Markup:
    """Return a gallery as a heading and a table of the landmarks with most photos."""
    facts = gather_facts(gallery)
    most = sorted(landmark_counts(gallery).items(), key=lambda one: (-one[1], one[0].id))
    counts = f"{facts.landmarks:,} landmarks, {facts.photos:,} photos, model {clip_name(facts.model)}"
    heading = element("div", element("b", element("bdi", text(clip_name(gallery.name)))), text(f" · {counts}"))
    head = map(text, ("landmark", "photos", "latitude", "longitude"))
    table = html_table(head, (tabulate_landmark(landmark, count) for landmark, count in islice(most, ROWS)))
    left = element("div", text(f"and {len(most) - ROWS:,} more")) if len(most) > ROWS else Markup("")
    return element("div", heading, table, left) if most else element("div", heading)


def tabulate_landmark(landmark: Landmark, count: int) -> list[Markup]:
    """Return the row of a landmark."""
    position = ("" if degrees is None else f"{degrees:.4f}" for degrees in (landmark.latitude, landmark.longitude))
    return [element("bdi", text(clip_name(landmark.name))), text(f"{count:,}"), *map(text, position)]
