"""Engines only propose: whatever they say, the gallery decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from obelisk.arrays import Embeddings, Integers, l2_normalize
from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, MissingExtraError
from obelisk.gallery import Gallery, as_stored, index_gallery, nearest_rows
from obelisk.gallery.ann import candidates, engines
from obelisk.gallery.ann.candidates import EngineError
from obelisk.gallery.ann.indexed import IndexedSearch
from obelisk.gallery.ann.milvus import TOKEN, parse_milvus

D = 24
N = 400
ROWS = l2_normalize(np.random.default_rng(0).normal(size=(N, D)), dimensions=D)
QUERIES = l2_normalize(np.random.default_rng(1).normal(size=(5, D)), dimensions=D)


class Liar:
    """Proposes each row twice, rows of others, and rows that are gone; away while ``down``."""

    setting = "liar"
    last = 300
    leaves_out = False
    down = False

    def __len__(self) -> int:
        return 300

    def still_pays(self, covered: int, newer: int) -> bool:
        return True

    def candidates(self, queries: Embeddings, k: int, *, gone: Integers, widening: int = 1) -> list[Integers]:
        if self.down:
            raise EngineError("it is away", fix="wait")
        rows = nearest_rows(queries, as_stored(ROWS[:300]), min(300, 2 * widening * k))[0] + 1
        return [np.concatenate([row, row, [-1, 0, 350, 10**6, 2**62]]) for row in rows]


@pytest.fixture
def gallery(tmp_path: Path, bundle: Bundle) -> Gallery:
    gallery = Gallery.create(tmp_path / "city", bundle)
    gallery.add(ROWS, ["A"] * N, [f"photo {n}" for n in range(N)])
    return gallery


def search_beside(gallery: Gallery, engine: Liar) -> IndexedSearch:
    newer = np.arange(301, N + 1)
    return IndexedSearch(gallery.truth, engine, newer, as_stored(ROWS[300:]), count=N, last=N)


def test_no_row_is_an_answer_that_is_gone_or_unknown_and_none_twice(gallery: Gallery) -> None:
    engine = Liar()
    search = search_beside(gallery, engine)
    rows, similarities = search.nearest(QUERIES, 20)
    np.testing.assert_array_equal((rows - 1, similarities), nearest_rows(QUERIES, as_stored(ROWS), 20))
    gone = [n - 1 for n in search.nearest(QUERIES, 40)[0][0, :30] if n <= engine.last]
    gallery.remove(photos=[f"photo {n}" for n in gone])
    assert not set(gone) & set(search.nearest(QUERIES[:1], 20)[0][0] - 1)


def test_while_an_engine_is_away_photos_are_compared_one_by_one_unless_they_are_too_many(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Liar()
    search = search_beside(gallery, engine)
    engine.down = True
    for k in (1, 20, N):
        np.testing.assert_array_equal(search.nearest(QUERIES, k)[1], nearest_rows(QUERIES, as_stored(ROWS), k)[1])
    monkeypatch.setattr(candidates, "EXACT_WITHOUT_ENGINE", N - 1)
    with pytest.raises(EngineError, match="it is away, and 400 photos are too many to be searched without it · wait"):
        search.nearest(QUERIES, 1)


@pytest.mark.parametrize(
    ("given", "uri", "shown", "token"),
    [
        ("milvus://h/c", "http://h:19530", "milvus://h:19530/c", "from:outside"),
        ("milvus://u:p%40s@h:1/c", "http://h:1", "milvus://h:1/c", "u:p@s"),
        ("milvus://[::1]:7/c?tls=true", "https://[::1]:7", "milvus://[::1]:7/c?tls=true", "from:outside"),
    ],
)
def test_an_address_of_milvus_is_shown_without_its_password(
    given: str, uri: str, shown: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "from:outside")
    address = parse_milvus(given)
    assert (address.uri, address.shown, address.token, address.collection) == (uri, shown, token, "c")
    assert "p@s" not in repr(address)
    assert parse_milvus(shown).uri == uri


@pytest.mark.parametrize("bad", ["milvus://h", "milvus://u:s3cret@x@h/c", "milvus://h:x/c", "milvus://h/c?s3cret@"])
def test_an_address_that_can_not_be_read_is_not_shown(bad: str) -> None:
    with pytest.raises(GalleryError) as caught:
        parse_milvus(bad)
    assert "s3cret" not in str(caught.value)


def test_milvus_needs_its_extra(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="candidates from Milvus needs the extra `milvus`"):
        index_gallery(gallery, "milvus://h/c")
