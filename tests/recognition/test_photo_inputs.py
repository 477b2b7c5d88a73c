"""Recognizing what programs hold in their hands: bytes, files, images, arrays."""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from obelisk.bundled import bundled_gallery
from obelisk.data import read_catalog
from obelisk.embedding import Bundle
from obelisk.errors import PhotoError, UsageError
from obelisk.gallery import build_gallery
from obelisk.photos import GivenPhoto, take_photos
from obelisk.recognition import Recognizer


def paint(seed: int) -> Image.Image:
    """A photo with enough corners to be verified."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((320, 240), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    for seed, name in enumerate(["Dome", "Dome", "Gate", "Gate"]):
        (folder / name).mkdir(exist_ok=True)
        paint(seed).save(folder / name / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def recognizer(places: Path, tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    bundle = Bundle.load(bundled_gallery() / "model")
    built = build_gallery(tmp_path_factory.mktemp("city") / "city", read_catalog(places), bundle)
    return Recognizer.open(built.gallery)


def forms(path: Path) -> list[Any]:
    """One photo in every form that keeps its pixels."""
    data = path.read_bytes()
    lazy, loaded = (Image.open(io.BytesIO(data)) for _ in range(2))
    loaded.load()
    return [path, data, io.BytesIO(data), lazy, loaded, np.asarray(loaded)]


@pytest.mark.parametrize("options", [{}, {"augment": True}, {"verify": True}])
def test_the_answer_is_the_same_in_every_form(recognizer: Recognizer, places: Path, options: dict[str, bool]) -> None:
    path = places / "Dome" / "0.png"
    first, *others = recognizer.recognize(forms(path), **options)
    assert first.candidates[0].landmark == "Dome"
    assert [replace(other, photo=first.photo) for other in others] == [first] * 5


@pytest.mark.parametrize("alone", [True, False])
def test_embeddings_are_the_same_in_every_form(recognizer: Recognizer, places: Path, alone: bool) -> None:
    sources = forms(places / "Gate" / "2.png")
    found = [next(recognizer.embedder.embed(one)) for one in sources] if alone else recognizer.embedder.embed(sources)
    first, *others = found
    assert [np.array_equal(other.embedding, first.embedding) for other in others] == [True] * 5
    assert [bool(one.content_hash) for one in (first, *others)] == [True] * 4 + [False] * 2


def test_answers_name_photos_and_bad_ones_fail_alone(recognizer: Recognizer, places: Path) -> None:
    path = places / "Dome" / "0.png"
    answers = list(recognizer.recognize(iter([str(path), b"no photo", paint(1)])))
    assert [answer.photo for answer in answers] == [str(path), "photo 2", "photo 3"]
    assert [bool(answer.error) for answer in answers] == [False, True, False]
    assert answers[1].error.endswith("photo 2 · save it as JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF or HEIC")


def test_what_is_no_photo_stops_the_stream_after_the_answers_before_it(recognizer: Recognizer) -> None:
    answers = recognizer.recognize(one for one in [paint(0), paint(1), None, paint(2)])
    assert [next(answers).photo, next(answers).photo] == ["photo 1", "photo 2"]
    with pytest.raises(UsageError, match="photo 3"):
        next(answers)


@pytest.mark.parametrize("given", [None, 3, {"a": 1}])
def test_what_holds_no_photos_is_refused_before_the_first_answer(recognizer: Recognizer, given: Any) -> None:
    with pytest.raises(UsageError, match="photos are given as"):
        recognizer.recognize(given)
    with pytest.raises(UsageError, match="photos are given as"):
        recognizer.embedder.embed(given)


def test_photos_are_taken_while_answers_are_consumed(recognizer: Recognizer) -> None:
    taken = []

    def endless() -> Iterator[Image.Image]:
        while True:
            taken.append(1)
            yield paint(0)

    answers = recognizer.recognize(endless())
    assert not taken
    assert next(answers).photo == "photo 1"
    assert len(taken) < 1000


def test_photos_are_let_go_once_they_are_embedded(recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obelisk.photos.parallel.usable_cores", lambda: 2)
    taken: list[Any] = []
    alive = []

    def watch() -> Iterator[GivenPhoto]:
        for photo in take_photos(paint(number % 3) for number in range(60)):
            taken.append(weakref.ref(photo.source))
            alive.append(sum(one() is not None for one in taken))
            yield photo

    assert len(list(recognizer.recognize(watch()))) == 60
    assert max(alive) < 20  # in flight: 4 for each core, and a few on their way


def test_an_explanation_asks_for_a_photo_that_has_no_path(recognizer: Recognizer) -> None:
    (answer,) = recognizer.recognize(paint(0))
    with pytest.raises(PhotoError, match=r"give the photo again: `explain\(answer, photo\)`"):
        recognizer.explain(answer)
    assert recognizer.explain(answer, paint(0)).width > 1000


def test_a_recognizer_says_what_it_holds(recognizer: Recognizer) -> None:
    gallery = f"Gallery('{recognizer.gallery.path}', 2 landmarks, 4 photos, model {recognizer.gallery.model})"
    assert repr(recognizer) == f"Recognizer({gallery})"
    assert repr(recognizer.embedder) == f"Embedder('{recognizer.gallery.model}', 704 dimensions, onnxruntime)"
    joined = Recognizer.open([recognizer.gallery, "bundled"])
    assert repr(joined).startswith(f"Recognizer(JoinedGallery({gallery}, Gallery('bundled', 228 landmarks, ")
