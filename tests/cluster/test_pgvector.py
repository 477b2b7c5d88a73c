"""pgvector's index proposes the photos of a large gallery in PostgreSQL; the gallery decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.cluster.conftest import DIMENSIONS, Server
from tests.cluster.test_postgres_galleries import draw

from obelisk.arrays import l2_normalize
from obelisk.cli.main import run_arguments
from obelisk.embedding import Bundle
from obelisk.gallery import Gallery, as_stored, check_index, index_gallery, nearest_rows
from obelisk.gallery.ann import candidates, indexed
from obelisk.gallery.ann.candidates import ExhaustiveCandidates
from obelisk.gallery.postgres import pgvector_candidates
from obelisk.gallery.postgres.pgvector_candidates import INDEX_NAME, PgvectorCandidates

Refused = Callable[[Callable[[], object]], str]
N = 1500


@pytest.fixture(autouse=True)
def large_from_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(indexed, "EXACT_UP_TO", 300)
    monkeypatch.setattr(pgvector_candidates, "NEWEST", 10)
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def city(url: str, bundle: Bundle) -> Gallery:
    gallery = Gallery.create(url, bundle)
    gallery.add(draw(N), [f"Place {n // 10}" for n in range(N)], [f"photo {n}" for n in range(N)])
    return gallery


def engine_of(gallery: Gallery) -> object:
    return gallery.references().engine.index  # type: ignore[attr-defined]


def exact(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    return nearest_rows(
        l2_normalize(queries, dimensions=DIMENSIONS), as_stored(l2_normalize(draw(N), dimensions=DIMENSIONS)), k
    )


def test_nearly_all_are_found_and_their_similarities_are_exact(city: Gallery) -> None:
    done = index_gallery(city, "pgvector", recall=True)
    assert (done.engine, done.asked, done.photos) == ("pgvector", True, N)
    assert done.recall is not None
    assert done.recall >= 0.99
    assert isinstance(engine_of(city), PgvectorCandidates)
    queries = draw(50, 3)
    ids, similarities = city.search(queries, 10)
    places, expected = exact(queries, 10)
    assert np.mean(ids[:, 0] == city.references().ids[places[:, 0]]) >= 0.995
    np.testing.assert_array_equal(similarities[:, 0], expected[:, 0])
    for k in (1, 700, N):
        assert all(len(set(row)) == k for row in city.search(queries[:2], k)[0].tolist())
    assert index_gallery(city).engine == "pgvector", "it stays the engine, and is not made again"


def test_a_search_sees_every_change_at_once(city: Gallery, url: str) -> None:
    index_gallery(city, "pgvector")
    reader = Gallery.open(url)
    for n in range(25):
        city.add(draw(1, 1000 + n), ["A"], [f"new {n}"])
        (ids,), (similarities,) = reader.search(draw(1, 1000 + n), 2)
        assert reader.photo(ids[0]).id == f"new {n}"
        assert similarities[0] > 0.999
        city.remove(photos=[f"new {n}"])
        assert reader.photo(reader.search(draw(1, 1000 + n), 1)[0][0, 0]).id != f"new {n}"
    assert len(reader.references().engine.tail) <= 10  # type: ignore[attr-defined]
    city.add(draw(21, 5), ["B"] * 21, [f"many {n}" for n in range(21)])
    assert len(reader.references().engine.tail) == 10, "more than twice as many: the index covers them"  # type: ignore[attr-defined]
    assert reader.photo(reader.search(draw(21, 5)[:1], 1)[0][0, 0]).id == "many 0"
    places = reader.references()
    city.remove(landmarks=[landmark.id for landmark in city.landmarks[:20]])
    assert places.nearest(l2_normalize(draw(2), dimensions=DIMENSIONS), 50)[0].min() >= 200


def test_photos_that_the_graph_does_not_lead_to_are_seen_once_added(
    city: Gallery, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_gallery(city, "pgvector")
    monkeypatch.setattr(
        PgvectorCandidates, "candidates", lambda _, queries, k, **given: [np.arange(1, 101)] * len(queries)
    )
    city.add(draw(3, 77), ["A"] * 3, ["far 0", "far 1", "far 2"])
    for reader in (city, Gallery.open(url)):
        assert [reader.photo(row).id for row in reader.search(draw(3, 77), 1)[0][:, 0]] == ["far 0", "far 1", "far 2"]


def test_without_its_index_photos_are_compared_one_by_one_if_they_are_few(
    city: Gallery, url: str, server: Server, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    index_gallery(city, "pgvector")
    server.execute(f"DROP INDEX {url.rpartition('=')[2]}.{INDEX_NAME}")
    reader = Gallery.open(url)
    assert isinstance(engine_of(reader), ExhaustiveCandidates)
    np.testing.assert_array_equal(reader.search(draw(9, 3), 10)[1], exact(draw(9, 3), 10)[1])
    assert "index --engine pgvector" in (check_index(url) or "").replace(f" {url}", "").replace(f" '{reader.name}'", "")
    monkeypatch.setattr(candidates, "EXACT_WITHOUT_ENGINE", N - 1)
    assert "1,500 photos are too many" in refused(lambda: Gallery.open(url).references())
    index_gallery(city, "pgvector")
    assert check_index(url) is None
    assert isinstance(engine_of(Gallery.open(url)), PgvectorCandidates)


def test_an_engine_that_does_not_fit_is_refused(
    city: Gallery, url: str, tmp_path: Path, bundle: Bundle, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Gallery.create(tmp_path / "city", bundle)
    assert "--engine own" in refused(lambda: index_gallery(folder, "pgvector"))

    def run(*arguments: str, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            run_arguments(["gallery", "index", *arguments])
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said.err
        return said.out + said.err

    assert "there is no engine `faiss`" in run(url, "--engine", "faiss", code=2)
    secret = url.replace("://postgres:", "://postgres:s3cret")
    assert "engine pgvector" in (said := run(secret, "--engine", "pgvector", "--recall"))
    assert "s3cret" not in said
    folder.add(draw(3), ["A"] * 3, ["a", "b", "c"])
    facts = json.loads(run(str(folder.path), "--json"))
    assert (facts["engine"], facts["photos"], facts["asked"], facts["recall"]) == ("own", 3, False, None)
