"""The embedder: order, bad photos, feature maps, and rows that depend on nothing but the photo."""

from __future__ import annotations

import doctest
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from obelisk.embedding import Bundle, Embedder
from obelisk.errors import PhotoFormatError, PhotoMissingError
from obelisk.photos import content_hash, prepare, read_photo

WriteBundle = Callable[..., Bundle]


def test_photos_come_in_order_and_bad_ones_stop_nothing(write: WriteBundle, photo: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a photo")
    found = list(Embedder(write()).embed([photo, text, tmp_path / "none.jpg", photo]))
    assert [one.path for one in found] == [photo, text, tmp_path / "none.jpg", photo]
    assert [type(one.error) for one in found] == [type(None), PhotoFormatError, PhotoMissingError, type(None)]
    assert str(text) in str(found[1].error)
    assert [one.content_hash for one in found[:3]] == [
        content_hash(photo.read_bytes()),
        content_hash(b"not a photo"),
        "",
    ]
    assert found[0].embedding is not None
    assert found[3].embedding is not None
    assert np.array_equal(found[0].embedding, found[3].embedding)


def test_hashes_are_left_out_where_nobody_reads_them(write: WriteBundle, photo: Path) -> None:
    (one,) = Embedder(write()).embed([photo], hashed=False)
    assert one.content_hash == ""
    assert one.embedding is not None


def test_a_watcher_sees_the_pixels_of_every_photo_that_can_be_read(
    write: WriteBundle, photo: Path, tmp_path: Path
) -> None:
    embedder = Embedder(write())
    seen = []
    embedder.on_decoded = lambda path, data, image: seen.append((path, len(data), image.mode))
    for photos in ([photo], [photo], [photo, tmp_path / "none.jpg"]):  # alone, alone again, among others
        list(embedder.embed(photos))
    assert seen == [(photo, photo.stat().st_size, "RGB")] * 3


def test_every_way_to_a_row_gives_the_same(write: WriteBundle, photo: Path) -> None:
    embedder = Embedder(write())
    image = read_photo(photo)
    rows = [
        embedder.embed_one(photo).embedding,
        embedder.embed_bytes(photo.read_bytes()),
        embedder.embed_image(image),
        embedder.embed_pixels(prepare(image, embedder.bundle.input)),
    ]
    assert all(row is not None and np.array_equal(row, rows[1]) for row in rows)


def test_a_row_does_not_depend_on_its_neighbours(write: WriteBundle, tmp_path: Path, tiny_network: bytes) -> None:
    paths = []
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 256, (33, 47, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    embedder = Embedder(write("bundle", tiny_network))
    together = [one.embedding for one in embedder.embed(paths)]
    for path, row in zip(paths, together, strict=True):
        (alone,) = embedder.embed([path])  # from the second on, by networks that all cores share
        for other in (embedder.embed_one(path).embedding, alone.embedding):
            assert other is not None
            assert row is not None
            assert np.array_equal(other, row)


def test_feature_maps_where_the_network_gives_them(write: WriteBundle, photo: Path, mapped_network: bytes) -> None:
    assert Embedder(write("plain")).features(photo) is None
    embedder = Embedder(write("mapped", mapped_network))
    maps = embedder.features(photo)
    assert maps is not None
    pixels = prepare(read_photo(photo), embedder.bundle.input)
    assert np.allclose(maps, pixels.reshape(3, 4, 8, 4, 8).mean(axis=(2, 4)), atol=1e-6)
    assert np.array_equal(maps, embedder.features(photo.read_bytes()))
    assert np.array_equal(
        embedder.embed_bytes(photo.read_bytes()), Embedder(write("plain")).embed_bytes(photo.read_bytes())
    )


def test_the_example_runs() -> None:
    results = doctest.testmod(sys.modules["obelisk.embedding.runtime"])
    assert (results.failed, results.attempted > 0) == (0, True)
