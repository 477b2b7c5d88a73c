"""The search index of large galleries: what it finds, how it follows changes, and what is made of a bad file.

The galleries here are small, and the size from which an index is used is smaller.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import faiss
import numpy as np
import pytest

from obelisk.arrays import l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import GalleryChangedError, GalleryError, UsageError
from obelisk.gallery import Gallery, as_stored, check_gallery, nearest_rows, schema
from obelisk.gallery.ann import build_index, index_file, indexed, ivfpq
from obelisk.gallery.ann.index_file import INDEX
from obelisk.records import no_progress

D = 24
N = 1200
LANDMARKS = 60


def scatter(seed: int, *, each: int, spread: float = 0.5) -> np.ndarray:
    """Make photos of made-up landmarks: unit rows (LANDMARKS · each, D) around one centre a landmark."""
    centres = np.random.default_rng(0).normal(size=(LANDMARKS, D))
    noise = np.random.default_rng(seed).normal(size=(LANDMARKS * each, D))
    return l2_normalize(np.repeat(centres, each, axis=0) + spread * noise, dimensions=D)


ROWS = scatter(1, each=N // LANDMARKS)
QUERIES = scatter(2, each=2)


def fill(gallery: Gallery, rows: np.ndarray, prefix: str = "photo") -> np.ndarray:
    names = [f"landmark {number % LANDMARKS}" for number in range(len(rows))]
    return gallery.add(rows, names, [f"{prefix} {number}" for number in range(len(rows))])


@pytest.fixture(autouse=True)
def large_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(indexed, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(ivfpq, "LONGEST_TAIL", 50)
    monkeypatch.setattr(ivfpq, "LISTS_AT_ONCE", 10)
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def gallery(tmp_path: Path, bundle: Bundle) -> Gallery:
    gallery = Gallery.create(tmp_path / "city", bundle)
    fill(gallery, ROWS)
    return gallery


class Watch:
    """Notes what took long."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __call__(self, what: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if what not in self.steps:
            self.steps.append(what)


def recall(found: np.ndarray, rows: np.ndarray, k: int) -> float:
    expected, _ = nearest_rows(QUERIES, as_stored(rows), k)
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(expected + 1, found, strict=True)]))


def test_nearly_all_neighbours_are_found_with_exact_similarities(gallery: Gallery) -> None:
    ids, similarities = gallery.search(QUERIES, 10)
    assert isinstance(gallery.references().engine, indexed.IndexedSearch)
    assert recall(ids, ROWS, 10) >= 0.99
    expected = np.einsum("qkd,qd->qk", as_stored(ROWS)[ids - 1], QUERIES, dtype=np.float64, casting="safe")
    np.testing.assert_array_equal(similarities, expected.astype(np.float32))
    assert (np.diff(similarities, axis=1) <= 0).all()


@pytest.mark.parametrize("k", [1, 200, N], ids=["one", "many", "all"])
def test_any_number_of_neighbours_is_given(gallery: Gallery, k: int) -> None:
    ids, _ = gallery.search(QUERIES[:9], k)
    assert ids.shape == (9, k)
    assert all(len(set(row)) == k for row in ids.tolist())
    with pytest.raises(GalleryError, match=f"only {N} reference photos"):
        gallery.search(QUERIES, N + 1)


def test_equal_rows_come_in_the_order_they_were_added(tmp_path: Path, bundle: Bundle) -> None:
    gallery = Gallery.create(tmp_path / "same", bundle)
    fill(gallery, np.vstack([ROWS, ROWS[:7], ROWS[:7]]))
    ids, _ = gallery.search(ROWS[:7], 3)
    assert ids.tolist() == [[1 + n, N + 1 + n, N + 8 + n] for n in range(7)]


def test_a_query_does_not_depend_on_the_others(gallery: Gallery) -> None:
    together = gallery.search(QUERIES, 10)
    for number in (0, 50, 119):
        alone = gallery.search(QUERIES[number : number + 1], 10)
        for one, all_of_them in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], all_of_them[number])


def test_embeddings_are_given_by_search_id(gallery: Gallery) -> None:
    references = gallery.references()
    places = np.array([5, 0, N - 1, 5])
    np.testing.assert_array_equal(references.rows(places + 1), as_stored(ROWS)[places])
    gallery.remove(photos=["photo 5"])
    with pytest.raises(GalleryChangedError, match="removed while it was used"):
        references.rows(places + 1)


@pytest.mark.parametrize("whose", ["the same", "another"])
def test_changes_are_seen_by_the_next_search_without_a_rebuild(gallery: Gallery, whose: str) -> None:
    gallery.references()
    made = (gallery.path / INDEX).read_bytes()
    writer = gallery if whose == "the same" else Gallery.open(gallery.path)
    new = fill(writer, QUERIES[:9], "new")
    ids, similarities = gallery.search(QUERIES[:9], 3)
    assert ids[:, 0].tolist() == new.tolist()
    assert (similarities[:, 0] > 0.999).all()
    assert gallery.photo(int(new[4])).id == "new 4"

    writer.remove(photos=["new 2", "photo 7"])
    ids, _ = gallery.search(np.vstack([QUERIES[2], ROWS[7]]), 3)
    assert new[2] not in ids[0]
    assert 8 not in ids[1]
    assert len(gallery) == len(gallery.references()) == N + 7
    writer.merge([2], 1)
    assert gallery.references().landmark_ids[1] == 1
    assert (gallery.path / INDEX).read_bytes() == made


def test_a_row_removed_behind_the_back_of_a_search_is_no_answer(gallery: Gallery) -> None:
    references = gallery.references()
    gallery.remove(photos=["photo 7"])
    rows, _ = references.nearest(ROWS[7:8], 30)
    assert 8 not in rows
    assert (rows > 0).all()
    with pytest.raises(GalleryError, match=f"fewer than {N} reference photos are left"):
        references.nearest(ROWS[7:8], N)
    with pytest.raises(GalleryChangedError, match="a reference photo was removed, or moved"):
        references.photo(8)


@pytest.mark.parametrize("late", [0, 15])
@pytest.mark.parametrize("landmarks", [1, 10])
def test_where_near_photos_are_gone_the_search_goes_beyond_them(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, landmarks: int, late: int
) -> None:
    monkeypatch.setattr(indexed, "EXACT_UP_TO", N // 4)
    gallery.references()
    each = N // LANDMARKS
    gallery.remove(photos=[f"photo {number}" for number in range(landmarks * each)])
    fill(gallery, scatter(9, each=1)[:late] if late else ROWS[:0], "late")
    assert isinstance(gallery.references().engine, indexed.IndexedSearch)
    kept = np.vstack([ROWS[landmarks * each :], scatter(9, each=1)[:late]])
    ids = np.concatenate([np.arange(landmarks * each, N), N + np.arange(late)]) + 1
    queries = QUERIES[: 2 * landmarks]
    expected, _ = nearest_rows(queries, as_stored(kept), 10)
    found, _ = gallery.search(queries, 10)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(ids[expected].tolist(), found.tolist(), strict=True)]
    assert np.mean(shared) >= 0.98


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_half_of_the_photos_may_be_gone(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, spread: float
) -> None:
    monkeypatch.setattr(indexed, "EXACT_UP_TO", N // 4)
    rows, queries = (scatter(seed, each=each, spread=spread) for seed, each in ((1, N // LANDMARKS), (2, 2)))
    gallery = Gallery.create(tmp_path / "city", bundle)
    fill(gallery, rows)
    gallery.references()
    gallery.remove(photos=[f"photo {number}" for number in range(0, N, 2)])
    assert isinstance(gallery.references().engine, indexed.IndexedSearch)
    for k in (1, 5, 10):
        expected, _ = nearest_rows(queries, as_stored(rows[1::2]), k)
        ids, _ = gallery.search(queries, k)
        shared = [len(set(a) & set(b)) / k for a, b in zip((2 * expected + 2).tolist(), ids.tolist(), strict=True)]
        assert np.mean(shared) >= 0.99


@pytest.mark.parametrize("queries", [1, 20, 21])
def test_few_queries_are_searched_in_the_calling_thread(
    gallery: Gallery, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = gallery.references().engine.index._lists
    real, used = lists.search, list[int]()
    monkeypatch.setattr(lists, "search", lambda *x, **y: (used.append(faiss.omp_get_max_threads()), real(*x, **y))[1])
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        gallery.search(QUERIES[:queries], 3)
        assert used == [1 if queries <= 20 else 3]
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_an_index_takes_in_what_was_added_and_is_learnt_anew_when_it_is_too_small(
    gallery: Gallery, bundle: Bundle
) -> None:
    gallery.references()
    watch = Watch()
    fill(gallery, scatter(3, each=1), "few")
    Gallery.open(gallery.path, progress=watch).references()
    assert watch.steps == ["indexing embeddings"]
    fill(gallery, scatter(4, each=10), "many")
    again = Gallery.open(gallery.path, progress=watch)
    rows = np.vstack([ROWS, scatter(3, each=1), scatter(4, each=10)])
    assert recall(again.search(QUERIES, 10)[0], rows, 10) >= 0.98
    assert "learning a search index" in watch.steps
    assert again.references().engine.index.last == len(rows)


def test_a_gallery_that_shrinks_is_searched_exactly_again(gallery: Gallery) -> None:
    gallery.references()
    gallery.remove(photos=[f"photo {number}" for number in range(300)])
    ids, similarities = gallery.search(QUERIES, 10)
    places, expected = nearest_rows(QUERIES, as_stored(ROWS[300:]), 10)
    np.testing.assert_array_equal(ids, places + 301)
    np.testing.assert_array_equal(similarities, expected)


def test_the_index_is_used_again_and_is_the_same_when_made_again(gallery: Gallery) -> None:
    gallery.references()
    made = (gallery.path / INDEX).read_bytes()
    watch = Watch()
    Gallery.open(gallery.path, progress=watch).references()
    assert watch.steps == []
    shutil.rmtree(gallery.path / "index")
    Gallery.open(gallery.path, progress=watch).references()
    assert watch.steps == ["learning a search index", "indexing embeddings"]
    assert (gallery.path / INDEX).read_bytes() == made


def test_an_index_on_the_disk_is_read_once(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.references()
    read = list[Path]()
    real = indexed.read_index
    monkeypatch.setattr(indexed, "read_index", lambda path, **limits: (read.append(path), real(path, **limits))[1])
    Gallery.open(gallery.path).references()
    assert read == [gallery.path / INDEX]


def test_the_index_of_another_gallery_is_not_used(gallery: Gallery, tmp_path: Path, bundle: Bundle) -> None:
    other = Gallery.create(tmp_path / "other", bundle)
    fill(other, scatter(7, each=N // LANDMARKS))
    other.references()
    expected = gallery.search(QUERIES, 10)
    shutil.copy(other.path / INDEX, gallery.path / INDEX)
    watch = Watch()
    found = Gallery.open(gallery.path, progress=watch).search(QUERIES, 10)
    assert watch.steps
    np.testing.assert_array_equal(found[0], expected[0])


def test_copies_that_went_different_ways_do_not_take_each_others_index(gallery: Gallery, tmp_path: Path) -> None:
    shutil.copytree(gallery.path, tmp_path / "copy")
    copy = Gallery.open(tmp_path / "copy")
    for one, seed in ((gallery, 8), (copy, 9)):
        fill(one, scatter(seed, each=1), "late")
        one.references()
    shutil.copy(copy.path / INDEX, gallery.path / INDEX)
    watch = Watch()
    ids, _ = Gallery.open(gallery.path, progress=watch).search(scatter(8, each=1), 1)
    assert ids[:, 0].tolist() == list(range(N + 1, N + LANDMARKS + 1))
    assert watch.steps


@pytest.mark.parametrize("laid", ["older", "newer", "cut"])
def test_with_an_index_of_another_time_the_answers_are_those_of_the_database(gallery: Gallery, laid: str) -> None:
    gallery.references()
    database, index = gallery.path / "gallery.sqlite", gallery.path / INDEX
    backup, older = database.read_bytes(), index.read_bytes()
    gallery.remove(photos=[f"photo {number}" for number in range(40)])
    late, other = scatter(8, each=1), scatter(9, each=1)
    fill(gallery, late, "late")
    gallery.references()
    if laid == "newer":  # a backup of the database alone was put back, and went another way
        database.write_bytes(backup)
        fill(gallery, other, "other")
        kept, rows = range(1, N + LANDMARKS + 1), np.vstack([ROWS, other])
    else:
        index.write_bytes(older if laid == "older" else index.read_bytes()[:-1000])
        kept, rows = range(41, N + LANDMARKS + 1), np.vstack([ROWS[40:], late])
    ids, similarities = Gallery.open(gallery.path).search(QUERIES, 10)
    assert recall(ids - kept[0] + 1, rows, 10) >= 0.98
    truth = as_stored(rows)[ids - kept[0]]
    np.testing.assert_allclose(similarities, np.einsum("qd,qkd->qk", QUERIES, truth), atol=1e-4)


@pytest.mark.parametrize("obstacle", ["a file named index", "a folder named search.index", "a lock that is no lock"])
def test_what_lies_in_the_way_is_worked_around(gallery: Gallery, obstacle: str) -> None:
    if obstacle == "a file named index":
        (gallery.path / "index").write_text("mine")
    elif obstacle == "a folder named search.index":
        (gallery.path / INDEX).mkdir(parents=True)
    else:
        (gallery.path / "index").mkdir()
        (gallery.path / "index" / "lock").write_bytes(b"no lock" * 5000)
    assert recall(Gallery.open(gallery.path).search(QUERIES, 10)[0], ROWS, 10) >= 0.99


def test_a_gallery_nobody_may_write_to_keeps_its_index_in_the_users_cache(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    before = sorted(gallery.path.rglob("*"))
    for steps in (["learning a search index", "indexing embeddings"], []):
        watch = Watch()
        read_only = Gallery.open(gallery.path, progress=watch)
        assert recall(read_only.search(QUERIES, 10)[0], ROWS, 10) >= 0.99
        assert watch.steps == steps
    assert sorted(gallery.path.rglob("*")) == before
    assert len(list((tmp_path / "cache").rglob("search.index"))) == 1


def test_a_gallery_nobody_may_write_to_uses_the_index_it_came_with(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery.references()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    watch = Watch()
    assert recall(Gallery.open(gallery.path, progress=watch).search(QUERIES, 10)[0], ROWS, 10) >= 0.99
    assert watch.steps == []
    assert not (tmp_path / "cache").exists()


def test_where_nothing_can_be_written_the_index_is_in_memory(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, found: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(indexed, "write_index", refuse)
    assert recall(gallery.search(QUERIES, 10)[0], ROWS, 10) >= 0.99
    assert not (gallery.path / INDEX).exists()


BUILD = """
import sys
from obelisk.gallery import Gallery
from obelisk.gallery.ann import indexed
indexed.EXACT_UP_TO = 1000
def watch(what, done, total):
    print(what, flush=True)
Gallery.open(sys.argv[1], progress=watch).references()
print("done", flush=True)
"""


def build_elsewhere(gallery: Gallery) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", BUILD, str(gallery.path)], stdout=subprocess.PIPE, text=True)


def test_of_two_processes_one_makes_the_index(gallery: Gallery) -> None:
    both = [build_elsewhere(gallery) for _ in range(2)]
    said = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [lines[-1] for lines in said] == ["done", "done"]
    assert sorted(len(lines) > 1 for lines in said) == [False, True]
    assert check_gallery(gallery.path) == []


def test_a_builder_that_was_killed_leaves_nothing_that_is_used(gallery: Gallery) -> None:
    process = build_elsewhere(gallery)
    assert process.stdout is not None
    process.stdout.readline()  # it has begun
    process.kill()
    process.communicate(timeout=120)
    (gallery.path / "index" / "search.index.abc.partial").write_bytes(b"half")
    assert not (gallery.path / INDEX).exists()
    assert recall(gallery.search(QUERIES, 10)[0], ROWS, 10) >= 0.99
    assert sorted(file.name for file in (gallery.path / "index").iterdir()) == ["lock", "search.index"]


def test_threads_search_while_others_add(gallery: Gallery) -> None:
    gallery.references()
    wrong: list[int] = []

    def add_and_search(number: int) -> None:
        row = scatter(100 + number, each=1)[number : number + 1]
        new = gallery.add(row, [f"landmark {number}"], [f"thread {number}"])
        if gallery.search(row, 1)[0][0, 0] != new[0]:
            wrong.append(number)

    threads = [threading.Thread(target=add_and_search, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
    assert len(gallery) == N + 16


@pytest.mark.parametrize("dimensions", [1, 3, 24, 509, 1100])
def test_any_number_of_dimensions_is_coded(dimensions: int) -> None:
    rows = l2_normalize(np.random.default_rng(0).normal(size=(400, dimensions)), dimensions=dimensions)
    ids = np.arange(1, 401)
    made = build_index.make_index(ids, dimensions, lambda wanted: (wanted, rows[wanted - 1]), no_progress)
    proposed = ivfpq.CandidateSearch(made).candidates(rows[:20], 5, gone=ids[:0], widening=400)
    assert [sorted(row.tolist()) for row in proposed] == [ids.tolist()] * 20
    width = made.centroids.shape[1]
    assert dimensions <= width < dimensions + 2 * build_index.values_per_code(dimensions)
    assert made.codes.shape == (400, len(made.codebooks) // 2)


def test_the_nearest_of_many_lists_are_found() -> None:
    centroids = l2_normalize(np.random.default_rng(0).normal(size=(600, 64)), dimensions=64)
    queries = l2_normalize(np.random.default_rng(1).normal(size=(200, 64)), dimensions=64)
    similarities, found = ivfpq.centroid_search(centroids).search(queries, 3)
    expected = np.argsort(-(queries @ centroids.T), axis=1)[:, :3]
    assert np.mean(found[:, 0] == expected[:, 0]) >= 0.99
    assert np.mean([len(set(a) & set(b)) / 3 for a, b in zip(expected, found, strict=True)]) >= 0.97
    np.testing.assert_allclose(similarities, np.take_along_axis(queries @ centroids.T, found, axis=1), atol=1e-6)


def test_every_list_is_packed_and_scanned(gallery: Gallery) -> None:
    gallery.references()
    made = index_file.read_index(gallery.path / INDEX, dimensions=D, most_rows=N)
    assert made is not None
    assert len(made.sizes) > 2 * ivfpq.LISTS_AT_ONCE
    _, rows = ivfpq.CandidateSearch(made).search_codes(QUERIES[:5], N, probes=len(made.sizes))
    assert [sorted(row) for row in rows.tolist()] == [list(range(1, N + 1))] * 5
    assert ivfpq.CandidateSearch(made)._lists.referenced_objects[0].ntotal == 0  # faiss keeps what it began with


def test_a_damaged_embedding_is_named(gallery: Gallery) -> None:
    gallery.references()
    with closing(sqlite3.connect(gallery.path / schema.DATABASE)) as connection, connection:
        connection.execute("UPDATE embeddings SET vector = x'0000' WHERE row = 8")
    with pytest.raises(UsageError, match=r"missing or of a wrong length .*`obelisk gallery check"):
        gallery.search(ROWS[7:8], 3)


def test_values_get_the_codes_of_the_nearest_numbers() -> None:
    M = 64
    codebooks = np.random.default_rng(7).normal(size=(M, 16)).astype(np.float32)
    codebooks[3] = 0.5  # a value that all photos share
    residuals = np.random.default_rng(8).normal(size=(1000, M)).astype(np.float32)
    quantizer = faiss.ProductQuantizer(M, M, 4)
    faiss.copy_array_to_vector(codebooks.ravel(), quantizer.centroids)
    packed = build_index.encode_values(residuals, codebooks)
    np.testing.assert_allclose(
        np.abs(quantizer.decode(packed) - residuals),
        np.abs(quantizer.decode(quantizer.compute_codes(residuals)) - residuals),
        atol=1e-6,
    )
