"""Joined galleries: answers name their gallery, and the join is calibrated as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from obelisk.arrays import l2_normalize
from obelisk.embedding import Bundle, Embedded
from obelisk.gallery import Gallery, JoinedGallery, Landmark
from obelisk.recognition import CALIBRATION, Calibration, Recognizer, joined_calibration
from obelisk.recognition.self_calibration import refine

D, LANDMARKS, EACH = 24, 6, 5
GENERAL = Calibration(
    slope=8.0,
    center=-0.3,
    growth=0.02,
    margin=9.0,
    precisions=((0.2, 0.7), (0.8, 0.96)),
    evidence=((-1.0, 0.1, 0.5), (3.0, 0.95, 0.5)),
)


def draw_rows(seed: int, count: int) -> np.ndarray:
    """Photos of one landmark: near one direction."""
    rng = np.random.default_rng(seed)
    center = rng.normal(size=D)
    return l2_normalize(center + 0.4 * rng.normal(size=(count, D)), dimensions=D)


class RowEmbedder:
    """Embeds a photo called by a number: as the landmark of that seed looks."""

    def embed(self, sources: Iterable[Path], **options: bool) -> Iterator[Embedded]:
        for path in sources:
            yield Embedded(path=path, content_hash="", embedding=draw_rows(int(path.name), EACH + 1)[-1])


@pytest.fixture
def cities(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> list[Gallery]:
    """Two galleries of one calibrated model, whose landmarks have the same ids and the same first name."""
    bundle = write_any_bundle(tmp_path / "bundle", dimensions=D, attachments={CALIBRATION: GENERAL.to_json().encode()})
    galleries = []
    for number, city in enumerate(("rome", "paris")):
        gallery = Gallery.create(tmp_path / city, bundle)
        for landmark in range(LANDMARKS):
            seed = 100 * number + landmark
            name = "Gate" if landmark == 0 else f"{city} {landmark}"
            ids = [f"{landmark}-{photo}" for photo in range(EACH)]
            gallery.add(draw_rows(seed, EACH + 1)[:EACH], [Landmark(id=landmark, name=name)] * EACH, ids)
        galleries.append(gallery)
    return galleries


def test_answers_name_the_gallery_where_ids_and_names_collide(cities: list[Gallery]) -> None:
    recognizer = Recognizer.open([city.path for city in cities], embedder=RowEmbedder())
    for answer, city in zip(recognizer.recognize(["0", "100"], threshold=0), cities, strict=True):
        assert (answer.landmark, answer.landmark_id) == ("Gate", 0)
        assert answer.candidates[0].gallery == answer.neighbours[0].gallery == str(city.path)
        assert {candidate.gallery for candidate in answer.candidates} == {str(one.path) for one in cities}
        assert all(0 <= candidate.landmark_id < LANDMARKS for candidate in answer.candidates)
        assert city.find_neighbor(answer.neighbours[0]) is not None


def test_the_first_candidate_of_a_join_is_that_of_its_better_gallery(cities: list[Gallery]) -> None:
    photos = [str(100 * number + landmark) for number in range(2) for landmark in range(LANDMARKS)]
    joined, *alone = (Recognizer.open(one, embedder=RowEmbedder()) for one in (cities, *cities))
    by_city = [list(recognizer.recognize(photos, threshold=0)) for recognizer in alone]
    for answer, *singles in zip(joined.recognize(photos, threshold=0), *by_city, strict=True):
        best = max(singles, key=lambda single: single.candidates[0].score).candidates[0]
        assert answer.candidates[0] == best


def test_a_join_is_calibrated_with_the_references_of_all_and_that_is_kept(
    cities: list[Gallery], monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = JoinedGallery(cities)
    references = joined.references()
    expected = refine(GENERAL, references, references.landmark_ids, None).calibration
    asked = list[int]()
    monkeypatch.setattr(joined_calibration, "refine", lambda *given: (asked.append(len(given[1])), refine(*given))[1])
    for _ in range(2):
        assert Recognizer.open(cities, embedder=RowEmbedder()).calibration == expected
    assert asked == [2 * LANDMARKS * EACH]
    cities[1].remove(landmarks=[1])
    Recognizer.open(cities, embedder=RowEmbedder())
    assert asked == [2 * LANDMARKS * EACH, (2 * LANDMARKS - 1) * EACH]
    assert [city.own_calibration() for city in cities] == [None, None]


def test_joined_galleries_of_an_uncalibrated_model_have_no_threshold(
    tmp_path: Path, write_any_bundle: Callable[..., Bundle]
) -> None:
    bundle = write_any_bundle(tmp_path / "bundle", dimensions=D)
    galleries = [Gallery.create(tmp_path / name, bundle) for name in ("one", "two")]
    recognizer = Recognizer.open(galleries, embedder=RowEmbedder())
    assert (recognizer.calibration, recognizer.threshold()) == (None, None)
