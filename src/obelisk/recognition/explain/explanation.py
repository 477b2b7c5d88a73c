"""The picture that explains an answer: the photos it rests on, and the regions that made them alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from obelisk.embedding import Embedder
from obelisk.gallery import Gallery
from obelisk.photos import ModelInput
from obelisk.recognition.explain.overlay import BADGE, draw_badge, lighten, outline
from obelisk.recognition.explain.regions import Region, Resemblance, compare_maps, show_own_weight
from obelisk.recognition.explain.shown_photos import FAINT, PAPER, frame, load, read_original, write_lines
from obelisk.recognition.explain.strip import (
    COLUMNS,
    GAP,
    WIDTH,
    Cell,
    describe_neighbour,
    draw_cells,
    name_landmark,
    stack,
)
from obelisk.records import Neighbor, Recognition

TITLE, HEADING, WORDS = 28, 19, 15
LEGEND = 130
PANEL = (WIDTH - GAP) // 2
MARGIN = 32
CAPTION = 200  # pixels for a heading, and for the most lines of a caption

MATCHES = "The lighter a place, the more it adds to the similarity. Regions with the same number match; they carry"
NO_MATCH = "The lighter a place, the more it adds to the similarity. No region of one photo matches one of the other."
ALONE = (
    "The reference photo is not at hand. The lighter a place, the more it weighs in what the model sees in the photo."
)


def explain_answer(answer: Recognition, gallery: Gallery, embedder: Embedder) -> Image.Image:
    """Draw what the answer for a photo rests on.

    First its strip: the photo and the reference photos nearest to it. Then, if the model gives feature maps, which
    regions of the photo matched which of the best reference; the photo alone, lit where its own descriptor comes
    from, if the reference's file is not at hand. Raises PhotoError when the photo cannot be read (any more).
    """
    photo = load(Path(answer.photo), PANEL)
    shown = answer.neighbours[: COLUMNS - 1]
    originals = [read_original(gallery.find_photo(neighbour.id)) for neighbour in shown]
    asked = Cell(photo=Path(answer.photo), name=Path(answer.photo).name, details=["the photo"])
    known = [describe_neighbour(*one) for one in zip(shown, originals, strict=True)]
    parts = [draw_title(answer), draw_cells([asked, *known])]
    query = embedder.features(Path(answer.photo))
    if query is None:
        return stack(parts, margin=MARGIN)
    rule = embedder.bundle.input
    best = best_neighbour(answer, shown)
    original = None if best is None else originals[best]
    reference = None if original is None else embedder.features(original)
    if best is None or original is None or reference is None:
        lit = lighten(photo, show_own_weight(query), rule)
        parts += [draw_panels("Where the model looks", [lit], []), draw_words(ALONE)]
    else:
        alike = compare_maps(query, reference)
        panels = draw_resemblance(photo, load(original, PANEL), alike, rule)
        captions = [[asked.name], describe_reference(shown[best])]
        parts += [draw_panels("What made them alike", panels, captions), draw_legend(alike.regions)]
    return stack(parts, margin=MARGIN)


def best_neighbour(answer: Recognition, shown: Sequence[Neighbor]) -> int | None:
    """Return the place of the nearest neighbour that shows the first candidate, else of the nearest; None of none."""
    first = answer.candidates[0].landmark_id if answer.candidates else None
    places = [place for place, neighbour in enumerate(shown) if neighbour.landmark_id == first]
    return places[0] if places else (0 if shown else None)


def draw_title(answer: Recognition) -> Image.Image:
    """Write the answer in large letters, and its confidence below; what a rejected photo resembles most."""
    picture = Image.new("RGB", (WIDTH, 90), PAPER)
    canvas = ImageDraw.Draw(picture)
    top = write_lines(canvas, (0, 0), name_landmark(answer.landmark, answer.landmark_id), TITLE, WIDTH)
    details = f"confidence {answer.confidence:.2f}"
    if answer.landmark is None and answer.candidates:
        first = answer.candidates[0]
        details += f", too little for {name_landmark(first.landmark, first.landmark_id)}"
    bottom = write_lines(canvas, (0, top), details, HEADING, WIDTH, colour=FAINT)
    return picture.crop((0, 0, WIDTH, round(bottom)))


def draw_resemblance(
    photo: Image.Image, original: Image.Image, alike: Resemblance, rule: ModelInput
) -> list[Image.Image]:
    """Draw both photos, lit by what each place adds, with the matched regions outlined and numbered."""
    query, reference = lighten(photo, alike.query, rule), lighten(original, alike.reference, rule)
    outline(query, [region.query for region in alike.regions], alike.query.shape, rule)
    outline(reference, [region.reference for region in alike.regions], alike.reference.shape, rule)
    return [query, reference]


def draw_panels(heading: str, panels: Sequence[Image.Image], captions: Sequence[Sequence[str]]) -> Image.Image:
    """Put large photos side by side, under a heading, with the lines of a caption each."""
    height = max(panel.height for panel in panels)
    picture = Image.new("RGB", (WIDTH, height + CAPTION), PAPER)
    canvas = ImageDraw.Draw(picture)
    top = round(write_lines(canvas, (0, 0), heading, HEADING, WIDTH)) + 8
    for column, panel in enumerate(panels):
        picture.paste(frame(panel, (PANEL, height)), (column * (PANEL + GAP), top))
    ends = [top + height]
    for column, caption in enumerate(captions):
        line = top + height + 10.0
        for text in caption:
            line = write_lines(canvas, (column * (PANEL + GAP), line), text, WORDS, PANEL, lines=3)
        ends.append(round(line))
    return picture.crop((0, 0, WIDTH, max(ends)))


def describe_reference(neighbour: Neighbor) -> list[str]:
    """Return the caption of a reference photo; its id, by which it can be removed, has a line of its own."""
    name = name_landmark(neighbour.landmark, neighbour.landmark_id)
    return [name, f"similarity {neighbour.similarity:.2f}", f"reference photo {neighbour.id}"]


def draw_legend(regions: Sequence[Region]) -> Image.Image:
    """Say how to read the two panels, and what each region is worth."""
    words = draw_words(MATCHES if regions else NO_MATCH)
    picture = Image.new("RGB", (WIDTH, words.height + (2 * BADGE + 8 if regions else 0)), PAPER)
    picture.paste(words, (0, 0))
    canvas = ImageDraw.Draw(picture)
    for number, region in enumerate(regions):
        left, middle = number * LEGEND, words.height + 4 + BADGE
        draw_badge(canvas, (left + BADGE, middle), number)
        write_lines(canvas, (left + 2 * BADGE + 6, middle - 11), f"{region.share:.0%} of it", WORDS, LEGEND)
    return picture


def draw_words(text: str) -> Image.Image:
    """Draw a paragraph."""
    picture = Image.new("RGB", (WIDTH, 80), PAPER)
    end = write_lines(ImageDraw.Draw(picture), (0, 0), text, WORDS, WIDTH, colour=FAINT, lines=3)
    return picture.crop((0, 0, WIDTH, round(end)))
