"""The picture that explains an answer: the photos it rests on, and the regions that make them alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from obelisk.gallery import Gallery, JoinedGallery
from obelisk.photos import GivenPhoto, ModelInput
from obelisk.recognition.explain.overlay import BADGE, draw_badge, light_up, outline_regions
from obelisk.recognition.explain.regions import Region, Resemblance, compare_maps, weigh_locations
from obelisk.recognition.explain.seen_photos import SeenPhotos
from obelisk.recognition.explain.shown_photos import FAINT, PAPER, WORDS, draw_lines, frame_photo, scale_photo
from obelisk.recognition.explain.strip import (
    COLUMNS,
    GUTTER,
    NAME,
    PANEL,
    WIDEST_CELL,
    WIDTH,
    StripCell,
    add_cells,
    describe_neighbor,
    name_answer,
    name_landmark,
    state_confidence,
)
from obelisk.records import Neighbor, Recognition
from obelisk.wording import format_decimal

TITLE, HEADING = 28, 19  # pixels: heights of letters
LEGEND = 130  # pixels: width of an entry
SMALL_PANEL = WIDEST_CELL * 3 // 2  # pixels: of photos that would only become blurred if they were enlarged further
LONE_PANEL = 440  # pixels: without a reference photo, the picture fits a screen
LEAST_ROOM = 200  # pixels: beside panels, for the legend
MARGIN = 32
TALLEST = 1700  # pixels: of a picture whose names take all the lines that they may

MATCHES = "The brighter an area, the more it adds to the similarity. Regions with the same number match; they add"
NO_MATCH = "The brighter an area, the more it adds to the similarity. No region of one photo matches one of the other."
ALONE = "The reference photo is not available. The brighter an area, the more it counts in what the model sees."


def explain_answer(
    answer: Recognition,
    photo: GivenPhoto,
    gallery: Gallery | JoinedGallery,
    rule: ModelInput,
    photos: SeenPhotos,
) -> Image.Image:
    """Draw what an answer rests on.

    First comes a strip: the photo and the reference photos nearest to it. If the model gives feature maps, the regions
    of the photo that match regions of the best reference follow; if the file of that reference is gone, the photo
    alone follows, lit up where its own descriptor comes from. ``rule`` is what the first network sees of a photo.

    Raises :class:`~obelisk.errors.PhotoError` if the photo can't be read any more.
    """
    query = photos.query(photo)
    shown = answer.neighbours[: COLUMNS - 1]
    best = best_neighbor(answer, shown)
    references = [
        photos.reference(photo, compared=index == best and query.features is not None)
        for index, photo in enumerate(gallery.find_neighbors(shown))
    ]
    asked = StripCell(photo=query.pixels, name=Path(answer.photo).name, details=["the photo"])
    pages = {(one.landmark_id, one.gallery): next(iter(answer.links), None) for one in answer.candidates[:1]}
    known = [
        describe_neighbor(
            neighbor, seen.pixels if seen else None, page=pages.get((neighbor.landmark_id, neighbor.gallery))
        )
        for neighbor, seen in zip(shown, references, strict=True)
    ]
    picture = Image.new("RGB", (WIDTH + 2 * MARGIN, TALLEST), PAPER)
    bottom = add_cells(picture, (MARGIN, add_title(picture, MARGIN, answer) + MARGIN), [asked, *known]) + MARGIN
    if query.features is None:
        return picture.crop((0, 0, picture.width, bottom))
    reference = None if best is None else references[best]
    if best is None or reference is None or reference.features is None:
        panels = [light_up(query.pixels, weigh_locations(query.features), rule)]
        panels = enlarge_photos(panels, LONE_PANEL)
        bottom = add_panels(picture, bottom, "Where the model looks", panels, [], ALONE)
    else:
        alike = compare_maps(query.features, reference.features)
        panels = draw_resemblance(query.pixels, reference.pixels, alike, rule)
        captions = [[asked.name], describe_reference(shown[best])]
        words = MATCHES if alike.regions else NO_MATCH
        bottom = add_panels(picture, bottom, "What makes them alike", panels, captions, words, alike.regions)
    return picture.crop((0, 0, picture.width, bottom + MARGIN))


def find_resemblance(
    answer: Recognition, photo: GivenPhoto, gallery: Gallery | JoinedGallery, photos: SeenPhotos
) -> tuple[Neighbor, Resemblance] | None:
    """Compare a photo with the nearest reference photo of its first candidate; None if there is nothing to compare.

    Raises :class:`~obelisk.errors.PhotoError` if the photo can't be read any more.
    """
    best = best_neighbor(answer, answer.neighbours)
    if answer.error or best is None:
        return None
    neighbor = answer.neighbours[best]
    reference = photos.reference(gallery.find_neighbor(neighbor), compared=True)
    if reference is None or reference.features is None:
        return None
    query = photos.query(photo)
    return None if query.features is None else (neighbor, compare_maps(query.features, reference.features))


def best_neighbor(answer: Recognition, shown: Sequence[Neighbor]) -> int | None:
    """Return the index of the nearest neighbor that shows the first candidate, else 0; None without neighbors."""
    first = {(one.landmark_id, one.gallery) for one in answer.candidates[:1]}
    indices = [index for index, neighbor in enumerate(shown) if (neighbor.landmark_id, neighbor.gallery) in first]
    return indices[0] if indices else (0 if shown else None)


def add_title(picture: Image.Image, top: int, answer: Recognition) -> int:
    """Draw the answer in large letters and its confidence below; of a rejected photo, also the first candidate.

    Returns where it ends, as all functions do that add a part.
    """
    canvas = ImageDraw.Draw(picture)
    line = draw_lines(canvas, (MARGIN, top), name_answer(answer), TITLE, WIDTH)
    details = state_confidence(answer)
    if answer.verdict == "unknown" and answer.candidates:
        first = answer.candidates[0]
        details += f", too little for {name_landmark(first.landmark, first.landmark_id)}"
    return round(draw_lines(canvas, (MARGIN, line), details, HEADING, WIDTH, color=FAINT))


def draw_resemblance(
    photo: Image.Image, original: Image.Image, alike: Resemblance, rule: ModelInput
) -> list[Image.Image]:
    """Draw both photos, lit up by what each area adds, with the matched regions outlined and numbered."""
    # Lit before they are enlarged: there is less to light.
    lit = [light_up(photo, alike.query, rule), light_up(original, alike.reference, rule)]
    query, reference = enlarge_photos(lit, PANEL)
    outline_regions(query, [region.query for region in alike.regions], alike.query.shape, rule)
    outline_regions(reference, [region.reference for region in alike.regions], alike.reference.shape, rule)
    return [query, reference]


def enlarge_photos(photos: Sequence[Image.Image], panel: int) -> list[Image.Image]:
    """Scale the longer side of photos to ``panel`` pixels; to :data:`SMALL_PANEL` if one of them is small."""
    small = min(max(photo.size) for photo in photos) <= WIDEST_CELL
    return [scale_photo(photo, SMALL_PANEL if small else panel) for photo in photos]


def add_panels(
    picture: Image.Image,
    top: int,
    heading: str,
    panels: Sequence[Image.Image],
    captions: Sequence[Sequence[str]],
    words: str,
    regions: Sequence[Region] = (),
) -> int:
    """Draw large photos side by side under a heading, each with its caption; the legend goes where there is room."""
    canvas = ImageDraw.Draw(picture)
    top = round(draw_lines(canvas, (MARGIN, top), heading, HEADING, WIDTH)) + 8
    width = max(max(panel.size) for panel in panels) if len(panels) > 1 else panels[0].width
    height = max(panel.height for panel in panels)
    lefts = [MARGIN + column * (width + GUTTER) for column in range(len(panels) + 1)]
    for left, panel in zip(lefts, panels, strict=False):
        frame_photo(picture, (left, top), panel, (width, height))
    bottom = top + height
    for left, (name, *details) in zip(lefts, captions, strict=False):
        line = draw_lines(canvas, (left, top + height + 10), name, NAME, width, lines=3)
        for text in details:
            line = draw_lines(canvas, (left, line), text, WORDS - 1, width, color=FAINT, lines=3)
        bottom = max(bottom, round(line))
    room = MARGIN + WIDTH - lefts[-1]
    if room < LEAST_ROOM:
        return add_legend(picture, (MARGIN, bottom + MARGIN), WIDTH, words, regions)
    return max(bottom, add_legend(picture, (lefts[-1], top), room, words, regions))


def describe_reference(neighbor: Neighbor) -> list[str]:
    """Return the lines of a reference photo's caption; its id, by which it can be removed, has its own."""
    name = name_landmark(neighbor.landmark, neighbor.landmark_id)
    return [name, f"similarity {format_decimal(neighbor.similarity)}", f"reference photo {neighbor.id}"]


def add_legend(picture: Image.Image, corner: tuple[int, int], width: int, words: str, regions: Sequence[Region]) -> int:
    """Draw how to read the panels, and the share of each region."""
    canvas = ImageDraw.Draw(picture)
    bottom = round(draw_lines(canvas, corner, words, WORDS, width, color=FAINT, lines=9)) + 4
    columns, tall = max(1, width // LEGEND), 2 * BADGE + 4
    for number, region in enumerate(regions):
        row, column = divmod(number, columns)
        left, middle = corner[0] + column * LEGEND, bottom + row * tall + BADGE
        draw_badge(canvas, (left + BADGE, middle), number)
        draw_lines(canvas, (left + 2 * BADGE + 6, middle - 11), f"{region.share:.0%} of it", WORDS, LEGEND)
    return bottom + -(-len(regions) // columns) * tall
