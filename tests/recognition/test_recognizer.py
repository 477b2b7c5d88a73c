"""The façade: photos to answers, in order, streaming, with the bad ones named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import obelisk
from obelisk.embedding import Bundle, Embedded
from obelisk.errors import GalleryError, PhotoMissingError, UsageError
from obelisk.gallery import Gallery, Landmark, ReferencePhoto
from obelisk.recognition import Calibration, Recognizer, recognize_embeddings
from obelisk.recognition.answers import AnswerRules

D = 16
LANDMARKS = [Landmark(id=5, name="Dome"), Landmark(id=9, name="Gate"), Landmark(id=12, name="Gate")]


def embed_name(name: str) -> np.ndarray:
    """Stand in for a photo: near the direction of its first letter, a little off by the rest of its name."""
    row = np.random.default_rng(ord(name[0])).normal(size=D)
    row += 0.2 * np.random.default_rng(list(name.encode())).normal(size=D)
    return (row / np.linalg.norm(row)).astype(np.float32)


class NameEmbedder:
    """Embeds a photo by its name; there is none whose name begins with x, and nothing to see on one with 0."""

    def __init__(self) -> None:
        self.asked_for = 0

    def embed(self, sources: Iterable[Path], **options: bool) -> Iterator[Embedded]:
        for path in sources:
            self.asked_for += 1
            error = PhotoMissingError("no such photo", where=path) if path.name.startswith("x") else None
            embedding = None if error else embed_name(path.name) * (path.name[0] != "0")
            yield Embedded(path=path, content_hash="", embedding=embedding, error=error)


@pytest.fixture
def gallery(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Gallery:
    gallery = Gallery.create(tmp_path / "city", write_any_bundle(tmp_path / "bundle", name="names", dimensions=D))
    names = [f"{letter}{number}" for letter in "dgh" for number in range(6)]
    landmarks = [landmark for landmark in LANDMARKS for _ in range(6)]
    gallery.add(np.stack([embed_name(name) for name in names]), landmarks, names)
    return gallery


@pytest.fixture
def recognizer(gallery: Gallery) -> Recognizer:
    return Recognizer(gallery, NameEmbedder())


def test_answers_come_in_input_order_with_the_bad_ones_named(recognizer: Recognizer) -> None:
    paths = ["./d.jpg", Path("g.jpg"), "x.jpg", "h//h.jpg"] * 9
    answers = list(recognizer.recognize(paths))
    assert [answer.photo for answer in answers] == ["./d.jpg", "g.jpg", "x.jpg", "h//h.jpg"] * 9
    assert [answer.landmark_id for answer in answers] == [5, 9, None, 12] * 9
    bad = answers[2]
    assert (bad.error, bad.candidates, bad.neighbours, bad.confidence) == ("no such photo · x.jpg", (), (), 0.0)


def test_a_photo_in_which_the_model_sees_nothing_fails_alone(recognizer: Recognizer) -> None:
    nothing, dome = recognizer.recognize(["0.jpg", "d.jpg"])
    assert nothing.error == "the model sees nothing in the photo: its embedding has no direction · 0.jpg"
    assert (nothing.confidence, nothing.candidates) == (0.0, ())
    assert dome.landmark == "Dome"


def test_confidence_is_calibrated_for_the_vote_that_it_was_measured_on(gallery: Gallery) -> None:
    strict = Calibration(slope=20.0, center=-2.0, growth=0.0, precisions=((0.1, 0.6), (0.9, 0.97)))
    recognizer = Recognizer(gallery, NameEmbedder(), calibration=strict)
    (blended,) = recognizer.recognize("d.jpg")
    (majority,) = recognizer.recognize("d.jpg", vote="majority")
    assert recognizer.threshold() is not None
    assert recognizer.threshold(vote="majority") is None
    assert blended.confidence != blended.candidates[0].score
    assert majority.confidence == majority.candidates[0].score
    assert majority.landmark == "Dome"


def test_an_answer_rests_on_its_neighbours(recognizer: Recognizer, gallery: Gallery) -> None:
    (answer,) = recognizer.recognize("d.jpg", k=4, top=2)
    assert (answer.landmark, answer.landmark_id, answer.error) == ("Dome", 5, None)
    assert answer.candidates[0].landmark_id == 5
    assert len(answer.candidates) == 2
    assert answer.confidence == answer.candidates[0].score > answer.candidates[1].score
    assert not answer.is_calibrated
    ids, similarities = gallery.search(embed_name("d.jpg")[None], 4)
    assert [neighbour.id for neighbour in answer.neighbours] == [gallery.photo(photo_id).id for photo_id in ids[0]]
    assert [neighbour.similarity for neighbour in answer.neighbours] == similarities[0].tolist()
    assert answer.neighbours[0].distance == pytest.approx((2 - 2 * float(similarities[0, 0])) ** 0.5)


@pytest.mark.parametrize("vote", ["weighted", "majority", "prototype"])
def test_agrees_with_the_call_on_arrays(recognizer: Recognizer, gallery: Gallery, vote: str) -> None:
    names = [f"{letter}{number}.jpg" for letter in "dghabc" for number in range(20)]
    references = gallery.references()
    rows = references.rows(np.arange(len(references)))
    ranking = recognize_embeddings(
        np.stack([embed_name(name) for name in names]), rows, references.landmark_ids, vote=vote
    )
    for number, answer in enumerate(recognizer.recognize(names, vote=vote)):
        assert [candidate.landmark_id for candidate in answer.candidates] == ranking.candidates[number].tolist()
        assert answer.confidence == pytest.approx(ranking.confidence[number], abs=1e-7)


def test_a_rejected_photo_keeps_confidence_and_candidates(recognizer: Recognizer) -> None:
    sure, unsure = recognizer.recognize(["d.jpg", "q.jpg"])
    assert sure.confidence > unsure.confidence
    threshold = (sure.confidence + unsure.confidence) / 2
    accepted, rejected = recognizer.recognize(["d.jpg", "q.jpg"], threshold=threshold)
    assert accepted == replace(sure, threshold=threshold)
    assert (rejected.landmark, rejected.landmark_id, rejected.verdict) == (None, None, "unknown")
    assert (rejected.confidence, rejected.candidates) == (unsure.confidence, unsure.candidates)
    (at_the_bound,) = recognizer.recognize(["d.jpg"], threshold=sure.confidence)
    assert at_the_bound.landmark == "Dome"


@pytest.fixture
def calibrated(gallery: Gallery) -> Recognizer:
    """Confident of photos that are near a landmark; ``q.jpg`` is near none."""
    return Recognizer(
        gallery, NameEmbedder(), calibration=Calibration(slope=20.0, center=-0.3, growth=0.0, precisions=((0.9, 0.97),))
    )


@pytest.mark.parametrize(
    ("confidence", "threshold", "verdict"),
    [
        pytest.param(0.9, 0.9, "sure", id="at the threshold"),
        pytest.param(0.9, 0.91, "probable", id="just below"),
        pytest.param(0.5, 0.91, "probable", id="as likely right as wrong"),
        pytest.param(0.49, 0.91, "unknown", id="more likely wrong"),
        pytest.param(0.45, 0.4, "sure", id="a threshold below one half"),
        pytest.param(0.35, 0.4, "unknown", id="below such a threshold"),
        pytest.param(0.0, 0.0, "sure", id="a threshold of 0 rejects nothing"),
        pytest.param(0.1, None, "sure", id="and so does none"),
    ],
)
def test_the_verdict_of_a_confidence(confidence: float, threshold: float | None, verdict: str) -> None:
    rules = AnswerRules(model="names", threshold=threshold, verified_threshold=None, calibrated=True)
    assert rules.decide(confidence, threshold) == verdict


def test_without_a_calibration_nothing_is_probable() -> None:
    rules = AnswerRules(model="names", threshold=0.9, verified_threshold=0.8, calibrated=False)
    assert [rules.decide(score, rules.threshold) for score in (0.95, 0.8, 0.3)] == ["sure", "unknown", "unknown"]


def test_three_verdicts_of_one_photo(calibrated: Recognizer) -> None:
    (plain,) = calibrated.recognize("d.jpg", threshold=0.0)
    assert 0.5 < plain.confidence < 1.0
    (sure,) = calibrated.recognize("d.jpg", threshold=plain.confidence)
    (probable,) = calibrated.recognize("d.jpg", threshold=1.0)
    (voted,) = calibrated.recognize("d.jpg", threshold=1.0, vote="weighted")
    assert (sure.verdict, sure.landmark, sure.threshold) == ("sure", "Dome", plain.confidence)
    assert (probable.verdict, probable.landmark, probable.landmark_id) == ("probable", None, None)
    assert probable.candidates == sure.candidates
    assert voted.verdict == "unknown", "the score of another vote is no probability"
    assert [answer.is_calibrated for answer in (sure, probable, voted)] == [True, True, False]
    (asked,) = calibrated.recognize("d.jpg")
    assert asked.threshold == 0.9


def test_a_photo_that_failed_is_unknown(calibrated: Recognizer) -> None:
    (failed,) = calibrated.recognize("x.jpg")
    assert (failed.verdict, failed.threshold) == ("unknown", 0.9)
    assert failed.model == next(calibrated.recognize("d.jpg")).model


def test_an_answer_carries_what_the_gallery_knows(recognizer: Recognizer, gallery: Gallery) -> None:
    links = ("https://commons.wikimedia.org/wiki/Category:Domes",)
    dome = Landmark(id=5, name="Dome", latitude=41.9, longitude=-12.45, links=links)
    sources = {
        "c": "https://upload.wikimedia.org/wikipedia/commons/7/70/The_Dome_%281%29.jpg",
        "t": "https://upload.wikimedia.org/wikipedia/commons/thumb/7/70/The_Dome.jpg/640px-The_Dome.jpg",
        "u": "https://example.org/7/70/dome.jpg",
        "p": "/photos/dome.jpg",
        "n": "",
    }
    rows = np.stack([embed_name("d.jpg")] * len(sources))
    gallery.add(rows, [dome] * len(sources), [ReferencePhoto(id=name, source=at) for name, at in sources.items()])
    answer, rejected = recognizer.recognize(["d.jpg", "x.jpg"], k=len(sources), top=2)
    assert (answer.latitude, answer.longitude, answer.links) == (41.9, -12.45, links)
    first, second = answer.candidates
    assert (first.latitude, first.longitude, first.gallery) == (41.9, -12.45, str(gallery.path))
    assert (second.latitude, second.longitude) == (None, None)
    assert {neighbor.id: neighbor.source for neighbor in answer.neighbours} == {
        "c": "https://commons.wikimedia.org/wiki/File:The_Dome_%281%29.jpg",
        "t": "https://commons.wikimedia.org/wiki/File:The_Dome.jpg",
        "u": "https://example.org/7/70/dome.jpg",
        "p": "/photos/dome.jpg",
        "n": None,
    }
    assert (rejected.latitude, rejected.longitude, rejected.links) == (None, None, ())


def test_photos_are_taken_as_answers_are(recognizer: Recognizer) -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "d.jpg"

    answers = recognizer.recognize(endless())
    assert next(answers).landmark == "Dome"
    assert recognizer.embedder.asked_for < 100


def test_the_next_call_sees_what_was_removed(recognizer: Recognizer, gallery: Gallery) -> None:
    gallery.remove(landmarks=[5])
    (answer,) = recognizer.recognize(["d.jpg"])
    assert answer.landmark_id != 5
    assert len(answer.candidates) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"k": 19}, "k = 19 neighbors, but only 18 reference photos"),
        ({"k": 0}, "k = 0"),
        ({"top": 0}, "top = 0"),
        ({"threshold": 1.5}, "threshold = 1.5"),
        ({"vote": "best"}, "unknown vote `best`"),
        ({"expand": "best"}, "unknown expansion `best`"),
    ],
)
def test_unusable_values_are_refused_before_the_first_photo(
    recognizer: Recognizer, options: dict[str, float], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        recognizer.recognize(["d.jpg"], **options)


def test_another_model_is_refused_before_it_is_loaded(
    gallery: Gallery, tmp_path: Path, write_any_bundle: Callable[..., Bundle]
) -> None:
    with pytest.raises(GalleryError, match="obelisk gallery build NEW-GALLERY"):
        Recognizer.open(gallery.path, model=write_any_bundle(tmp_path / "other", b"other", dimensions=D))


def test_a_missing_gallery_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="no such gallery"):
        obelisk.Recognizer.open(tmp_path / "nowhere")


def test_json_says_everything(recognizer: Recognizer) -> None:
    (answer,) = recognizer.recognize(["g.jpg"], top=1, k=1)
    said = json.loads(answer.to_json())
    assert said == {
        "photo": "g.jpg",
        "landmark": "Gate",
        "landmark_id": 9,
        "verdict": "sure",
        "confidence": answer.confidence,
        "latitude": None,
        "longitude": None,
        "links": [],
        "candidates": [
            {
                "landmark": "Gate",
                "landmark_id": 9,
                "score": answer.confidence,
                "latitude": None,
                "longitude": None,
                "gallery": str(recognizer.gallery.path),
            }
        ],
        "neighbours": [
            {
                "id": answer.neighbours[0].id,
                "landmark": "Gate",
                "landmark_id": 9,
                "similarity": answer.neighbours[0].similarity,
                "distance": answer.neighbours[0].distance,
                "source": None,
                "gallery": str(recognizer.gallery.path),
            }
        ],
        "threshold": None,
        "model": f"names@{recognizer.gallery.fingerprint[:12]}",
        "distance_km": None,
        "position_helped": None,
        "warning": None,
        "error": None,
    }
