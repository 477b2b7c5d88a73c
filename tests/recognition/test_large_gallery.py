"""A gallery that is searched by an index keeps nothing for each photo, and answers as one that is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from obelisk.arrays import Embeddings, Integers
from obelisk.embedding import Bundle, Embedded, attach
from obelisk.errors import GalleryChangedError
from obelisk.gallery import Gallery, JoinedGallery, Landmark, References
from obelisk.gallery.ann import indexed
from obelisk.gallery.ann.indexed import IndexedSearch
from obelisk.gallery.sqlite_tables import SqliteTables
from obelisk.recognition import BACKGROUND, Recognizer, pack_background
from obelisk.recognition.recognizer import MOST_CHANGES
from obelisk.records import Recognition

D, LANDMARKS, EACH = 16, 30, 20
N = LANDMARKS * EACH


def scatter(seed: int, count: int) -> Embeddings:
    """Return unit-norm rows (count, D); row n is near the direction of landmark n modulo LANDMARKS."""
    centers = np.random.default_rng(0).normal(size=(LANDMARKS, D))
    rows = centers[np.arange(count) % LANDMARKS] + np.random.default_rng(seed).normal(size=(count, D))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


QUERIES = scatter(2, 2 * LANDMARKS)
ASKED = [Path(f"{number}.jpg") for number in range(len(QUERIES))]


class NumberEmbedder:
    """Embeds a photo by the number that is its name."""

    def embed(self, sources: Iterable[Path], **options: bool) -> Iterator[Embedded]:
        for path in sources:
            yield Embedded(path=path, content_hash="", embedding=QUERIES[int(path.stem)])


@pytest.fixture
def bundle(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Bundle:
    bundle = write_any_bundle(tmp_path / "bundle", name="numbers", dimensions=D)
    return attach(bundle, {BACKGROUND: pack_background(scatter(3, 40))})


def make_gallery(path: Path, bundle: Bundle) -> Gallery:
    gallery = Gallery.create(path, bundle)
    landmarks = [Landmark(id=7 * (n % LANDMARKS), name=f"Place {n % LANDMARKS}") for n in range(N)]
    gallery.add(scatter(1, N), landmarks, [f"photo {n}" for n in range(N)])
    return gallery


@pytest.fixture
def large(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """A gallery that is searched by an index."""
    monkeypatch.setattr(indexed, "EXACT_UP_TO", N // 4)
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    gallery = make_gallery(tmp_path / "large", bundle)
    assert isinstance(gallery.references().engine, IndexedSearch)
    return gallery


def answer(gallery: Gallery | JoinedGallery, **options: object) -> list[Recognition]:
    return list(Recognizer(gallery, NumberEmbedder()).recognize(ASKED, **options))  # type: ignore[arg-type]


def answer_held(*galleries: Gallery, **options: object) -> list[Recognition]:
    """Answer from the same galleries, held in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexed, "EXACT_UP_TO", 10 * N)
        opened = [Gallery.open(gallery.name) for gallery in galleries]
        return answer(JoinedGallery(opened) if len(opened) > 1 else opened[0], **options)


CHANGES: dict[str, Callable[[Gallery], object]] = {
    "add": lambda gallery: gallery.add(scatter(4, 45), ["Place 2", "New", "New"] * 15, [f"new {n}" for n in range(45)]),
    "remove": lambda gallery: gallery.remove(photos=[f"photo {n}" for n in range(0, N, 3)]),
    "remove a landmark": lambda gallery: gallery.remove(landmarks=[7]),
    "merge": lambda gallery: gallery.merge([14], into=21),
    "rename": lambda gallery: gallery.rename(28, "Another name"),
}


@pytest.mark.parametrize(
    "options",
    [
        {"vote": "blended"},
        {"vote": "weighted"},
        {"vote": "majority"},
        {"vote": "prototype"},
        {"expand": "query"},
        {"expand": "references"},
        {"k": 1, "top": 1},
        {"k": 10, "top": 8},
    ],
    ids=str,
)
def test_answers_are_those_of_a_gallery_held_in_memory(large: Gallery, options: dict[str, object]) -> None:
    assert answer(large, **options) == answer_held(large, **options)


@pytest.mark.parametrize("change", CHANGES)
def test_they_are_after_a_change_too(large: Gallery, change: str) -> None:
    before = answer(large, vote="blended")
    CHANGES[change](Gallery.open(large.folder))
    after = answer(large, vote="blended")
    assert after == answer_held(large, vote="blended")
    assert after != before


def test_they_are_in_a_join_of_a_large_and_a_small_gallery(large: Gallery, bundle: Bundle, tmp_path: Path) -> None:
    small = Gallery.create(tmp_path / "small", bundle)
    small.add(scatter(5, 40), [f"Yard {n % 5}" for n in range(40)], [f"yard {n}" for n in range(40)])
    for galleries in ([large, small], [small, large]):
        assert answer(JoinedGallery(galleries)) == answer_held(*galleries)


def test_opening_and_answering_read_no_list_of_all_photos(large: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    read, shown = SqliteTables.read_photo_rows, answer(large)

    def read_the_last(tables: SqliteTables, *, after: int | None) -> tuple[Integers, Integers]:
        assert after is not None
        assert after >= N
        return read(tables, after=after)

    monkeypatch.setattr(SqliteTables, "read_photo_rows", read_the_last)
    opened = Gallery.open(large.folder)
    assert answer(opened) == shown
    CHANGES["add"](large)
    assert answer(opened) != shown
    CHANGES["rename"](large)
    answer(opened)


@pytest.mark.parametrize("change", ["remove", "merge", "rename"])
def test_a_change_in_the_middle_of_an_answer_is_seen_whole(
    large: Gallery, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest = References.nearest
    changes = [CHANGES[change]]

    def find_then_change(references: References, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        found = nearest(references, queries, k)
        if changes:
            changes.pop()(Gallery.open(large.folder))
        return found

    monkeypatch.setattr(References, "nearest", find_then_change)
    assert answer(large) == answer_held(large)


def test_a_gallery_that_changes_all_the_time_gives_up_in_the_end(
    large: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    nearest, names = References.nearest, [f"name {number}" for number in range(2 * MOST_CHANGES)]

    def find_then_change(references: References, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        large.rename(28, names.pop())
        return nearest(references, queries, k)

    monkeypatch.setattr(References, "nearest", find_then_change)
    with pytest.raises(GalleryChangedError, match=r"edited while it was searched .* try again"):
        answer(large)
