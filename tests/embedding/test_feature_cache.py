"""Kept feature maps: true to the network, bounded, shared by threads and processes, and done without if need be."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle, Embedder, FeatureCache, keeping_maps
from obelisk.embedding.feature_cache import round_map

WriteBundle = Callable[..., Bundle]
RANDOM = np.random.default_rng(3).normal(size=(8, 5, 7)).astype(np.float32)


@pytest.fixture
def embedder(write: WriteBundle) -> Embedder:
    return Embedder(write())


def test_what_is_kept_is_found_by_other_processes_too(embedder: Embedder, tmp_path: Path) -> None:
    cache = FeatureCache(embedder, tmp_path)
    assert cache.find("a") is None
    kept = cache.keep("a", RANDOM)
    for other in (cache, FeatureCache(embedder, tmp_path)):
        assert np.array_equal(other.find("a"), kept)
    assert np.abs(kept / 127 * np.abs(RANDOM).max() - RANDOM).max() <= np.abs(RANDOM).max() / 254 + 1e-6
    assert FeatureCache(embedder, tmp_path / "new").find("a") is None


def test_any_map_can_be_rounded() -> None:
    odd = np.array([[[np.nan, np.inf, -np.inf, 3e38, -3e38]]], np.float32)
    assert round_map(odd).tolist() == [[[0, 0, 0, 127, -127]]]
    assert not round_map(np.zeros((2, 3, 3), np.float32)).any()
    assert round_map(np.full((1, 1, 1), 1e-40, np.float32)).tolist() == [[[127]]]


def test_the_oldest_maps_make_room(embedder: Embedder, tmp_path: Path) -> None:
    largest = 2**19
    cache = FeatureCache(embedder, tmp_path, largest=largest)
    rng = np.random.default_rng(0)
    for number in range(100):  # of some 10,000 bytes
        cache.keep(str(number), rng.normal(size=(100, 10, 10)).astype(np.float32))
    assert cache.find("0") is None
    assert cache.find("99") is not None
    (database,) = (tmp_path / "features").glob("*.sqlite")
    assert database.stat().st_size <= largest


def test_threads_share_a_cache(embedder: Embedder, tmp_path: Path) -> None:
    cache = FeatureCache(embedder, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cache.keep(str(number % 10), RANDOM * (1 + number % 10)), range(200)))
        found = list(pool.map(lambda number: cache.find(str(number)), range(10)))
    assert all(np.array_equal(one, round_map(RANDOM)) for one in found)


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_cache_is_made_anew(content: bytes, embedder: Embedder, tmp_path: Path) -> None:
    FeatureCache(embedder, tmp_path).keep("a", RANDOM)
    (database,) = (tmp_path / "features").glob("*.sqlite")
    database.write_bytes(content)
    damaged = FeatureCache(embedder, tmp_path)
    assert damaged.find("a") is None
    assert damaged.keep("a", RANDOM).any()
    again = FeatureCache(embedder, tmp_path)
    assert again.find("a") is None
    again.keep("a", RANDOM)
    assert FeatureCache(embedder, tmp_path).find("a") is not None


def test_damaged_maps_count_as_missing(embedder: Embedder, tmp_path: Path) -> None:
    cache = FeatureCache(embedder, tmp_path)
    for photo, column in (("a", "map = x'00'"), ("b", "height = 4"), ("c", "map = NULL"), ("d", "width = 'wide'")):
        cache.keep(photo, RANDOM)
        cache._use(lambda database, p=photo, c=column: database.execute(f"UPDATE maps SET {c} WHERE photo = ?", (p,)))  # type: ignore[misc]
        assert cache.find(photo) is None


def test_a_folder_that_cannot_be_used_is_done_without(embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "features").write_text("in its place")
    cache = FeatureCache(embedder, tmp_path)
    assert cache.find("a") is None
    assert np.array_equal(cache.keep("a", RANDOM), round_map(RANDOM))
    assert cache.find("a") is None


@pytest.mark.parametrize("maps", [True, False], ids=["with features", "without"])
def test_maps_are_kept_from_the_run_that_embeds(
    maps: bool, write: WriteBundle, mapped_network: bytes, photo: Path
) -> None:
    embedder = Embedder(write(network=mapped_network if maps else None))
    (plain,) = embedder.embed([photo])
    with keeping_maps(embedder):
        kept, _ = embedder.embed([photo, photo.with_name("none.jpg")])
    assert np.array_equal(plain.embedding, kept.embedding)
    found, features = FeatureCache(embedder).find(kept.content_hash), embedder.features(photo)
    assert (found is None) == (features is None) == (not maps)
    if features is not None:
        assert np.array_equal(found, round_map(features))
