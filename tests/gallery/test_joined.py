"""Galleries joined for a call: searched as one, each landmark and photo still known by its own gallery."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from obelisk.arrays import Embeddings, l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError
from obelisk.gallery import ExactSearch, Gallery, JoinedGallery, Landmark, open_galleries
from obelisk.gallery.joined import IDS, JoinedSearch, Numbering
from obelisk.records import Neighbor

D = 12


def draw_rows(seed: int, count: int) -> Embeddings:
    return l2_normalize(np.random.default_rng(seed).normal(size=(count, D)), dimensions=D)


@pytest.fixture
def make_gallery(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Callable[..., Gallery]:
    def make(name: str, rows: Embeddings, model: bytes = b"none") -> Gallery:
        bundle = write_any_bundle(tmp_path / "models" / name, model, dimensions=D)
        gallery = Gallery.create(tmp_path / name, bundle)
        if len(rows):
            landmarks = [Landmark(id=7, name="Dome" if name == "one" else "Gate")] * len(rows)
            gallery.add(rows, landmarks, [f"photo {number}" for number in range(len(rows))])
        return gallery

    return make


@pytest.mark.parametrize("sizes", [(9, 5), (1, 20, 3), (0, 4), (6, 0, 6)], ids=str)
def test_a_join_is_searched_as_if_its_rows_stood_in_one_gallery(sizes: tuple[int, ...]) -> None:
    parts = [draw_rows(seed, size) for seed, size in enumerate(sizes)]
    parts[-1][-1:] = next(part for part in parts if len(part))[:1]  # equal rows keep the order of the galleries
    together = np.concatenate(parts)
    joined, plain = JoinedSearch([ExactSearch(part) for part in parts], Numbering(sizes)), ExactSearch(together)
    queries = np.concatenate([draw_rows(99, 5), together])
    for k in (1, 3, len(together)):
        for found, expected in zip(joined.nearest(queries, k), plain.nearest(queries, k), strict=True):
            np.testing.assert_array_equal(found, expected)
    asked = np.random.default_rng(0).integers(len(together), size=30)
    np.testing.assert_array_equal(joined.rows(asked), together[asked])
    with pytest.raises(GalleryError, match="only"):
        joined.nearest(queries, len(together) + 1)


def test_landmarks_of_one_id_stay_apart_and_photos_are_those_of_their_gallery(
    make_gallery: Callable[..., Gallery],
) -> None:
    one, two = make_gallery("one", draw_rows(1, 3)), make_gallery("two", draw_rows(2, 2))
    references = JoinedGallery([one, two]).references()
    assert references.landmark_ids.tolist() == [7, 7, 7, IDS + 7, IDS + 7]
    assert [(landmark.id, landmark.name) for landmark in references.landmarks.values()] == [(7, "Dome"), (7, "Gate")]
    assert [references.gallery_of(key) for key in references.landmarks] == [str(one.path), str(two.path)]
    assert references.photos([4, 0, 3]) == [two.photos[1], one.photos[0], two.photos[0]]
    assert references.photos([]) == []


def test_changes_of_a_gallery_are_seen_and_nothing_is_read_again_without_one(
    make_gallery: Callable[..., Gallery],
) -> None:
    one, two = make_gallery("one", draw_rows(1, 3)), make_gallery("two", draw_rows(2, 2))
    joined = JoinedGallery([one, two])
    before = joined.references()
    assert joined.references() is before
    Gallery.open(two.path).add(draw_rows(3, 1), ["Tower"], ["another process"])
    after = joined.references()
    assert (len(before), len(after)) == (5, 6)
    assert after.parts[0] is before.parts[0]


def test_a_neighbour_is_found_in_the_gallery_that_it_names(make_gallery: Callable[..., Gallery]) -> None:
    one, two = make_gallery("one", draw_rows(1, 3)), make_gallery("two", draw_rows(2, 2))
    joined = JoinedGallery([one, two])
    named = {"id": "photo 1", "landmark": "Gate", "landmark_id": 7, "similarity": 0.5}
    assert joined.find_neighbor(Neighbor(**named, gallery=two.name)) == two.photos[1]
    assert joined.find_neighbor(Neighbor(**named, gallery="gone")) is None


def test_galleries_of_different_models_are_refused_with_the_rebuild_command(
    make_gallery: Callable[..., Gallery],
) -> None:
    one, other = make_gallery("one", draw_rows(1, 3)), make_gallery("other", draw_rows(2, 2), b"another network")
    with pytest.raises(GalleryError, match="only galleries of one model can be joined") as refused:
        open_galleries([one.path, other.path])
    assert refused.value.fix == f"rebuild it: obelisk gallery build NEW-GALLERY --data DIR --model {one.path}"
    assert refused.value.where == str(other.path)


def test_a_gallery_that_is_named_twice_counts_once(
    make_gallery: Callable[..., Gallery], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make_gallery("one", draw_rows(1, 3))
    monkeypatch.chdir(one.path.parent)
    assert isinstance(open_galleries(["one", one.path, "./one"]), Gallery)
    assert open_galleries([]).name == "bundled"
