"""Kept feature maps: true to the network, bounded, shared by threads and processes, and done without if need be."""

from __future__ import annotations

import io
import sqlite3
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from obelisk.embedding import Bundle, Embedder, ReferenceCache, keeping_references
from obelisk.embedding.reference_cache import round_map

WriteBundle = Callable[..., Bundle]
RANDOM = np.random.default_rng(3).normal(size=(8, 5, 7)).astype(np.float32)


@pytest.fixture
def embedder(write: WriteBundle) -> Embedder:
    return Embedder(write())


def test_what_is_kept_is_found_by_other_processes_too(embedder: Embedder, tmp_path: Path) -> None:
    cache = ReferenceCache(embedder, tmp_path)
    assert cache.find_map("a") is None
    kept = cache.keep_map("a", RANDOM)
    for other in (cache, ReferenceCache(embedder, tmp_path)):
        assert np.array_equal(other.find_map("a"), kept)
    assert np.abs(kept / 127 * np.abs(RANDOM).max() - RANDOM).max() <= np.abs(RANDOM).max() / 254 + 1e-6
    assert ReferenceCache(embedder, tmp_path / "new").find_map("a") is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_nobody_else_sees_what_is_kept(embedder: Embedder, tmp_path: Path) -> None:
    ReferenceCache(embedder, tmp_path).keep_map("a", RANDOM)
    assert (tmp_path / "references").stat().st_mode & 0o777 == 0o700


def test_any_map_can_be_rounded() -> None:
    odd = np.array([[[np.nan, np.inf, -np.inf, 3e38, -3e38]]], np.float32)
    assert round_map(odd).tolist() == [[[0, 0, 0, 127, -127]]]
    assert not round_map(np.zeros((2, 3, 3), np.float32)).any()
    assert round_map(np.full((1, 1, 1), 1e-40, np.float32)).tolist() == [[[127]]]


def test_the_oldest_maps_make_room(embedder: Embedder, tmp_path: Path) -> None:
    largest = 2**19
    cache = ReferenceCache(embedder, tmp_path, largest=largest)
    rng = np.random.default_rng(0)
    for number in range(100):  # of some 10,000 bytes
        cache.keep_map(str(number), rng.normal(size=(100, 10, 10)).astype(np.float32))
    assert cache.find_map("0") is None
    assert cache.find_map("99") is not None
    (database,) = (tmp_path / "references").glob("*.sqlite")
    assert database.stat().st_size <= largest


def test_threads_share_a_cache(embedder: Embedder, tmp_path: Path) -> None:
    cache = ReferenceCache(embedder, tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cache.keep_map(str(number % 10), RANDOM * (1 + number % 10)), range(200)))
        found = list(pool.map(lambda number: cache.find_map(str(number)), range(10)))
    assert all(np.array_equal(one, round_map(RANDOM)) for one in found)


@pytest.mark.parametrize("content", [b"no database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_cache_is_made_anew(content: bytes, embedder: Embedder, tmp_path: Path) -> None:
    ReferenceCache(embedder, tmp_path).keep_map("a", RANDOM)
    (database,) = (tmp_path / "references").glob("*.sqlite")
    database.write_bytes(content)
    damaged = ReferenceCache(embedder, tmp_path)
    assert damaged.find_map("a") is None
    assert list((tmp_path / "references").iterdir()) == []
    assert damaged.keep_map("a", RANDOM).any()
    again = ReferenceCache(embedder, tmp_path)
    assert again.find_map("a") is None
    again.keep_map("a", RANDOM)
    assert ReferenceCache(embedder, tmp_path).find_map("a") is not None


def test_damaged_maps_count_as_missing(embedder: Embedder, tmp_path: Path) -> None:
    cache = ReferenceCache(embedder, tmp_path)
    for number, content in enumerate((b"", b"\0", zlib.compress(b"no array"), "text", 7)):
        cache.keep_map(str(number), RANDOM)
        with closing(sqlite3.connect(next((tmp_path / "references").glob("*.sqlite")))) as database, database:
            database.execute("UPDATE kept SET content = ? WHERE photo = ?", (content, str(number)))
        assert cache.find_map(str(number)) is None


def test_a_folder_that_cannot_be_used_is_done_without(embedder: Embedder, tmp_path: Path) -> None:
    (tmp_path / "references").write_text("in its place")
    cache = ReferenceCache(embedder, tmp_path)
    assert cache.find_map("a") is None
    assert np.array_equal(cache.keep_map("a", RANDOM), round_map(RANDOM))
    assert cache.find_map("a") is None


@pytest.mark.parametrize("maps", [True, False], ids=["with features", "without"])
def test_maps_are_kept_from_the_run_that_embeds(
    maps: bool, write: WriteBundle, mapped_network: bytes, photo: Path
) -> None:
    embedder = Embedder(write(network=mapped_network if maps else None))
    (plain,) = embedder.embed([photo])
    with keeping_references(embedder):
        kept, _ = embedder.embed([photo, photo.with_name("none.jpg")])
    assert np.array_equal(plain.embedding, kept.embedding)
    found, features = ReferenceCache(embedder).find_map(kept.content_hash), embedder.features(photo)
    assert (found is None) == (features is None) == (not maps)
    if features is not None:
        assert np.array_equal(found, round_map(features))


@pytest.mark.parametrize(
    ("size", "decoded", "kept"),
    [
        pytest.param((2000, 1500), (500, 375), (464, 348), id="a large one, decoded small"),
        pytest.param((2000, 1500), (250, 188), None, id="decoded too small for a picture"),
        pytest.param((2000, 200), (2000, 200), (464, 46), id="a wide one"),
        pytest.param((200, 150), (200, 150), None, id="a small file"),
    ],
)
def test_large_photos_are_kept_in_the_size_of_a_picture(
    size: tuple[int, int], decoded: tuple[int, int], kept: tuple[int, int] | None, embedder: Embedder, tmp_path: Path
) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    content = io.BytesIO()
    noise.save(content, "JPEG")
    cache = ReferenceCache(embedder, tmp_path)
    cache.keep_picture("a", noise.resize(decoded), content.getvalue())
    cache.keep_picture("", noise.resize(decoded), content.getvalue())
    found = cache.find_picture("a")
    assert kept == (found and Image.open(io.BytesIO(found)).size)
    assert cache.find_picture("") is None, "its hash is not known"
