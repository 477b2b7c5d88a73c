"""A Milvus server proposes candidates for a gallery; the gallery decides, however late Milvus is.

Needs a server at OBELISK_MILVUS (milvus://HOST:PORT), and the extra ``milvus``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

from obelisk.arrays import l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError
from obelisk.gallery import Gallery, as_stored, check_index, index_gallery, nearest_rows
from obelisk.gallery.ann import candidates, indexed
from obelisk.gallery.ann.candidates import ExhaustiveCandidates
from obelisk.gallery.ann.milvus import SEARCH_SECONDS, MilvusCandidates, parse_milvus

pytestmark = [pytest.mark.stress, pytest.mark.filterwarnings("default")]

SERVER = os.environ.get("OBELISK_MILVUS", "")
D = 24
N = 2000


def draw(count: int, seed: int = 0) -> np.ndarray:
    return l2_normalize(np.random.default_rng(seed).normal(size=(count, D)), dimensions=D)


@pytest.fixture
def collection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a collection that is not there yet."""
    if not SERVER:
        pytest.skip("no Milvus to test with: name one, OBELISK_MILVUS=milvus://HOST:PORT")
    pymilvus = pytest.importorskip("pymilvus", reason="Milvus's client is missing: install the extra `milvus`")
    monkeypatch.setattr(indexed, "EXACT_UP_TO", 300)
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    url = f"{SERVER.rstrip('/')}/test_{uuid4().hex[:12]}"
    yield url
    address = parse_milvus(url)
    pymilvus.MilvusClient(uri=address.uri, token=address.token).drop_collection(address.collection)


@pytest.fixture
def city(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Gallery:
    gallery = Gallery.create(tmp_path / "city", write_any_bundle(tmp_path / "models" / "none", dimensions=D))
    gallery.add(draw(N), [f"Place {n // 10}" for n in range(N)], [f"photo {n}" for n in range(N)])
    return gallery


def engine_of(gallery: Gallery) -> Any:
    return gallery.references().engine.index  # type: ignore[attr-defined]


def test_what_milvus_proposes_is_measured_and_changes_are_seen_at_once(city: Gallery, collection: str) -> None:
    done = index_gallery(city, collection, recall=True)
    assert (done.engine, done.asked) == (parse_milvus(collection).shown, True)
    assert done.recall is not None
    assert done.recall >= 0.99
    assert isinstance(engine_of(city), MilvusCandidates)
    ids, similarities = city.search(draw(200, 2), 10)
    places, expected = nearest_rows(draw(200, 2), as_stored(draw(N)), 10)
    assert np.mean(ids[:, 0] == places[:, 0] + 1) >= 0.995
    np.testing.assert_array_equal(similarities[:, 0], expected[:, 0])
    reader = Gallery.open(city.path)
    for n in range(100):
        city.add(draw(1, 1000 + n), ["A"], [f"new {n}"])
        assert reader.photo(reader.search(draw(1, 1000 + n), 1)[0][0, 0]).id == f"new {n}"
        city.remove(photos=[f"photo {n}"])
        assert reader.photo(reader.search(draw(N)[n : n + 1], 1)[0][0, 0]).id != f"photo {n}"
    last = engine_of(reader).last
    index_gallery(city)
    assert engine_of(city).last == last + 100
    assert len(engine_of(city).rows_between(1, 50)) < 50, "what is gone was removed from the collection, too"
    assert check_index(city.path) is None


def test_rows_that_milvus_holds_twice_or_too_many_are_no_answers(city: Gallery, collection: str) -> None:
    index_gallery(city, collection)
    engine = engine_of(city)
    engine.add(np.arange(1, 200), draw(N)[:199])
    engine.add(np.arange(10**6, 10**6 + 200), draw(N)[:200])
    engine.client.flush(engine.address.collection)
    ids, similarities = city.search(draw(20, 2), 150)
    places, expected = nearest_rows(draw(20, 2), as_stored(draw(N)), 150)
    assert all(len(set(row)) == 150 for row in ids.tolist())
    assert (
        np.mean([len(set(a) & set(b)) / 150 for a, b in zip(ids.tolist(), (places + 1).tolist(), strict=True)]) > 0.95
    )
    np.testing.assert_array_equal(similarities[:, 0], expected[:, 0])


def test_a_collection_of_somebody_else_is_refused(
    city: Gallery, collection: str, tmp_path: Path, write_any_bundle: Callable[..., Bundle]
) -> None:
    def refused(gallery: Gallery) -> str:
        with pytest.raises(GalleryError) as caught:
            index_gallery(gallery, collection.replace("://", "://root:s3cret@"))
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    index_gallery(city, collection)
    other = Gallery.create(tmp_path / "other", city.load_bundle())
    assert "of another gallery" in refused(other)
    wide = Gallery.create(tmp_path / "wide", write_any_bundle(tmp_path / "models" / "wide", dimensions=2 * D))
    assert f"has {D} dimensions, the gallery {2 * D}" in refused(wide)


def test_without_its_collection_a_small_gallery_is_searched_exactly(
    city: Gallery, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_gallery(city, collection)
    engine = engine_of(city)
    engine.client.drop_collection(engine.address.collection)
    expected = nearest_rows(draw(9, 3), as_stored(draw(N)), 10)[1]
    np.testing.assert_array_equal(city.search(draw(9, 3), 10)[1], expected)
    again = Gallery.open(city.path)
    assert isinstance(engine_of(again), ExhaustiveCandidates)
    np.testing.assert_array_equal(again.search(draw(9, 3), 10)[1], expected)
    monkeypatch.setattr(candidates, "EXACT_WITHOUT_ENGINE", N - 1)
    with pytest.raises(GalleryError, match="no such collection, and 2,000 photos are too many"):
        Gallery.open(city.path).references()


def test_while_milvus_is_silent_only_the_first_search_waits_for_it(
    city: Gallery, collection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_gallery(city, collection)
    engine = engine_of(city)
    asked: list[object] = []

    class SilentClient:
        def search(self, *given: object, **named: object) -> None:
            asked.append(named["timeout"])
            raise OSError("nobody answers")

    monkeypatch.setattr(engine, "client", SilentClient())
    expected = nearest_rows(draw(9, 3), as_stored(draw(N)), 10)[1]
    for _ in range(3):
        np.testing.assert_array_equal(city.search(draw(9, 3), 10)[1], expected)
    assert asked == [SEARCH_SECONDS]
    assert SEARCH_SECONDS <= 3.0
