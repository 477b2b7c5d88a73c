"""Queries as people see them: the photo beside the reference photos that each run found for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from obelisk.arrays import Booleans
from obelisk.data import Catalog
from obelisk.evaluation.comparison import Arm, Comparison
from obelisk.evaluation.metrics import NO_LANDMARK
from obelisk.evaluation.swatches import swatch
from obelisk.evaluation.thumbnails import Thumbnails
from obelisk.markup import Markup, element, join, text
from obelisk.wording import format_decimal

OF_EACH_KIND = 4


@dataclass(frozen=True, kw_only=True)
class QueryKind:
    """Queries with the same outcome: some of their row indices, and how many there are."""

    title: str
    rows: tuple[int, ...]
    count: int


def sample_queries(comparison: Comparison, *, of_each: int = OF_EACH_KIND, seed: int = 0) -> list[QueryKind]:
    """Return a random sample of queries of every kind, as row indices in the order of ids; leave out empty kinds."""
    known = comparison.first.outcomes.known
    right = np.array([arm.outcomes.right for arm in comparison.arms])
    several = len(comparison.arms) > 1
    members: dict[str, Booleans] = {
        "Right in some runs, wrong in others": known & np.any(right, axis=0) & ~np.all(right, axis=0),
        "Right in every run" if several else "Right": known & np.all(right, axis=0),
        "Wrong in every run" if several else "Wrong": known & ~np.any(right, axis=0),
        "No landmark of the gallery": ~known,
    }
    rng = np.random.default_rng(seed)
    kinds = []
    for title, chosen in members.items():
        rows = np.flatnonzero(chosen)
        drawn = np.sort(rng.choice(rows, size=min(of_each, len(rows)), replace=False))
        if len(drawn):
            kinds.append(QueryKind(title=title, rows=tuple(drawn.tolist()), count=len(rows)))
    return kinds


def draw_cards(comparison: Comparison, catalog: Catalog, thumbnails: Thumbnails, *, seed: int = 0) -> Markup:
    """Return the sampled queries, kind by kind."""
    drawer = CardDrawer(comparison, catalog, thumbnails)
    total = len(comparison.first.outcomes.known)
    note = (
        "A random sample of every kind. Beside each query stand the nearest reference photos, which vote unless a "
        "softmax layer answers, with cosine similarity s and L2 distance d = √(2 − 2s). A full frame with ✓ shows the "
        "landmark of the query, a broken frame with ✗ another one."
    )
    parts = [element("p", text(note), class_="note")]
    for kind in sample_queries(comparison, seed=seed):
        share = f"{kind.count:,} of {total:,} queries"
        parts.append(element("h3", text(kind.title), element("small", text(share))))
        parts.append(element("div", *(drawer.draw_card(row) for row in kind.rows), class_="cards"))
    return join(parts)


class CardDrawer:
    """Draws queries: what they show, and how every run answered."""

    def __init__(self, comparison: Comparison, catalog: Catalog, thumbnails: Thumbnails) -> None:
        self._comparison = comparison
        self._thumbnails = thumbnails
        self._names = catalog.landmark_names()
        references = catalog.references.select("image_id", "landmark_id").rows()
        self._landmark_of = dict(references)

    def draw_card(self, row: int) -> Markup:
        """Return one query with the answers of all runs."""
        predictions = self._comparison.first.run.predictions
        query = str(predictions.query_ids[row])
        true = [landmark for landmark in predictions.truths[row].tolist() if landmark in self._names]
        shows = ", ".join(self._name(landmark) for landmark in true) or "no landmark of the gallery"
        caption = element("figcaption", element("strong", text(shows)), element("small", text(query)))
        photo = self._thumbnails.show_query(query, f"query {query}: {shows}")
        answers = [self._draw_answer(number, arm, row) for number, arm in enumerate(self._comparison.arms)]
        return element("article", element("figure", photo, caption), element("div", *answers), class_="card")

    def _draw_answer(self, number: int, arm: Arm, row: int) -> Markup:
        predictions = arm.run.predictions
        answer = int(predictions.answers[row])
        named = text("no answer") if answer == NO_LANDMARK else text(self._name(answer))
        head = element(
            "p",
            swatch(number, arm.name),
            mark(right=bool(arm.outcomes.right[row])),
            element("strong", named),
            element("small", text(f"confidence {format_decimal(float(predictions.confidence[row]))}")),
        )
        neighbors = [
            self._draw_neighbor(str(photo), float(similarity), predictions.truths[row].tolist())
            for photo, similarity in zip(
                predictions.neighbors[row, : arm.run.k], predictions.similarities[row, : arm.run.k], strict=True
            )
            if photo
        ]
        return element("section", head, element("div", *neighbors, class_="strip"), class_="answer")

    def _draw_neighbor(self, photo: str, similarity: float, true: list[int]) -> Markup:
        """Return a reference photo in a frame that says, by color, line and mark, whether it is right."""
        landmark = self._landmark_of.get(photo, NO_LANDMARK)
        right = landmark in true and landmark != NO_LANDMARK
        name = self._name(landmark)
        distance = math.sqrt(max(0.0, 2.0 - 2.0 * similarity))
        caption = element(
            "figcaption",
            element("span", text(name), class_="name"),
            element("span", text(f"s {format_decimal(similarity, 3)}"), class_="number"),
            element("span", text(f"d {format_decimal(distance, 3)}"), class_="number"),
            *(element("span", text(line), class_="credit") for line in filter(None, [self._thumbnails.credit(photo)])),
        )
        picture = self._thumbnails.show_reference(photo, f"{'right' if right else 'wrong'} neighbor {photo}: {name}")
        framed = element("div", picture, mark(right=right), class_="frame")
        return element("figure", framed, caption, class_="right" if right else "wrong", title=f"{name} · {photo}")

    def _name(self, landmark: int) -> str:
        return self._names.get(landmark, f"landmark {landmark}" if landmark != NO_LANDMARK else "not in the catalog")


def mark(*, right: bool) -> Markup:
    """Return a ✓ or a ✗."""
    if right:
        return element("span", text("✓"), class_="mark good", title="right")
    return element("span", text("✗"), class_="mark bad", title="wrong")
