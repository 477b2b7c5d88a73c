"""An answer as notebooks show it: the photo, what it shows, the candidates as bars, the reference photos beside it.

The markup holds everything it shows: no script, and no request leaves the page. Photos appear if they are
files that can be read.
"""

from __future__ import annotations

from pathlib import Path

from obelisk.errors import PhotoError
from obelisk.markup import Markup, clip_name, element, is_web_address, join, text
from obelisk.photos import data_uri, encode_thumbnail, read_query
from obelisk.records import Candidate, Neighbor, Recognition
from obelisk.wording import (
    describe_confidence,
    describe_verdict,
    format_credit,
    format_decimal,
    format_position,
    shorten_link,
)

PHOTO_SIDE, REFERENCE_SIDE = 240, 112  # pixels
PHOTO_BYTES, REFERENCE_BYTES = 40_000, 12_000
CANDIDATES, NEIGHBORS, LINKS = 5, 5, 3  # shown at most
TROUBLE = 480  # letters of an error or a warning
# Half transparent gray is legible in light and dark notebooks alike.
GRAY, BAR = "rgba(128,128,128,.25)", "rgba(180,110,40,.75)"


def draw_answer(answer: Recognition) -> Markup:
    """Return an answer as a card."""
    words = [draw_heading(answer), *list_facts(answer), *map(draw_bar, answer.candidates[:CANDIDATES])]
    photo = draw_photo(answer.photo, PHOTO_SIDE, PHOTO_BYTES)
    columns = [styled("div", "flex:none", photo)] if photo else []
    columns.append(styled("div", "flex:1 1 18em;min-width:0", *words))
    near = [draw_neighbor(neighbor) for neighbor in answer.neighbours[:NEIGHBORS]]
    return styled(
        "div",
        f"max-width:60em;padding:.75em;border:1px solid {GRAY};border-radius:6px;overflow-wrap:anywhere",
        styled("div", "display:flex;flex-wrap:wrap;gap:1em", *columns),
        *([styled("div", "display:flex;flex-wrap:wrap;gap:.75em;margin-top:.75em", *near)] if near else []),
    )


def draw_heading(answer: Recognition) -> Markup:
    """Return what the photo shows in words, and which photo it is."""
    if answer.error is not None:
        said = text("not answered")
    else:
        confidence = styled("span", "font-weight:normal;opacity:.7", text(f" · {describe_confidence(answer)}"))
        said = join([element("bdi", text(clip_name(describe_verdict(answer)))), confidence])
    name = styled("div", "opacity:.7", element("bdi", text(clip_name(answer.photo))))
    return join([styled("div", "font-size:1.2em;font-weight:bold", said), name])


def list_facts(answer: Recognition) -> list[Markup]:
    """Return the position, the links and what went wrong, as lines."""
    lines = [text(clip_name(trouble, TROUBLE)) for trouble in (answer.error, answer.warning) if trouble]
    facts = []
    if answer.verdict != "unknown":
        if answer.latitude is not None and answer.longitude is not None:
            facts.append(text(format_position(answer.latitude, answer.longitude)))
        links = filter(is_web_address, answer.links[:LINKS])
        facts += [draw_link(link, clip_name(shorten_link(link))) for link in links]
    return [element("div", line) for line in (*lines, *([join(facts, " · ")] if facts else []))]


def draw_bar(candidate: Candidate) -> Markup:
    """Return a candidate with a bar as long as its score."""
    share = min(1.0, max(0.0, candidate.score))
    bar = styled("div", f"width:{100 * share:.1f}%;height:100%;background:{BAR}")
    return styled(
        "div",
        "display:flex;gap:.5em;align-items:center;margin-top:.3em",
        styled("div", f"flex:none;width:6em;height:.6em;background:{GRAY}", bar),
        styled("div", "flex:none;width:3em;font-variant-numeric:tabular-nums", text(format_decimal(candidate.score))),
        styled("div", "flex:1;min-width:0", element("bdi", text(clip_name(candidate.landmark)))),
    )


def draw_neighbor(neighbor: Neighbor) -> Markup:
    """Return a reference photo: its picture if its file is at hand, else a link to where it was published."""
    source = neighbor.source or ""
    picture = None if is_web_address(source) else draw_photo(source, REFERENCE_SIDE, REFERENCE_BYTES)
    if picture is None:
        shown = draw_link(source, "reference photo") if is_web_address(source) else text("no picture at hand")
        picture = styled("div", f"padding:1em .25em;text-align:center;border:1px dashed {GRAY}", shown)
    lines = [f"similarity {format_decimal(neighbor.similarity)}", format_credit(neighbor.author, neighbor.licence)]
    return styled(
        "div",
        f"width:{REFERENCE_SIDE}px;font-size:.85em",
        picture,
        element("bdi", text(clip_name(neighbor.landmark))),
        *(styled("div", "opacity:.7", text(clip_name(line))) for line in lines if line),
    )


def draw_photo(path: str, side: int, largest: int) -> Markup | None:
    """Return the photo at a path as a small picture; None if there is none that can be read."""
    try:
        photo, _ = read_query(Path(path), min_side=side)
    except PhotoError:
        return None
    jpeg, (width, height) = encode_thumbnail(photo, width=side, height=side, largest=largest)
    return element("img", src=data_uri(jpeg), alt=clip_name(path), width=str(width), height=str(height))


def draw_link(address: str, shown: str) -> Markup:
    """Return a link that opens beside the notebook."""
    return element("a", text(shown), href=address, target="_blank", rel="noopener noreferrer")


def styled(tag: str, style: str, *children: Markup) -> Markup:
    """Return an element with a style of its own: notebooks have no sheet for it."""
    return element(tag, *children, style=style)
