"""Each engine with a gallery that is large enough to ask it: what it finds, and that it sees every change.

``OBELISK_ENGINE_REFERENCES`` makes the gallery larger. Making pgvector's index with the server's
default memory takes ten minutes and more. Milvus takes part if ``OBELISK_MILVUS`` names a server, as
milvus://HOST:PORT.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from tests.cluster.conftest import Server, server
from tests.stress import test_search_at_scale as at_scale

from obelisk.arrays import l2_normalize
from obelisk.embedding import Bundle
from obelisk.gallery import Gallery, index_gallery
from obelisk.gallery.ann.candidates import ExhaustiveCandidates
from obelisk.gallery.exact import cosines

pytestmark = pytest.mark.stress

__all__ = ["server"]  # a fixture

REFERENCES = int(os.environ.get("OBELISK_ENGINE_REFERENCES", "250000"))
MILVUS = os.environ.get("OBELISK_MILVUS", "").rstrip("/")
ENGINES = ["own", "pgvector", *([f"{MILVUS}/test_{uuid4().hex[:12]}"] if MILVUS else [])]
CHANGES = 100


@pytest.fixture(autouse=True)
def as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("OBELISK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(at_scale, "REFERENCES", REFERENCES)
    monkeypatch.setattr(at_scale, "LANDMARKS", REFERENCES // 20)
    at_scale.centres.cache_clear()
    yield
    at_scale.centres.cache_clear()


def test_each_engine_finds_nearly_all_and_sees_every_change(
    server: Server, tmp_path: Path, write_any_bundle: Callable[..., Bundle]
) -> None:
    queries = at_scale.photograph(at_scale.draw_landmarks(at_scale.QUERIES, 3), 4)
    gallery = Gallery.create(server.schema(), write_any_bundle(tmp_path / "model", dimensions=at_scale.D))
    nearest = at_scale.fill(gallery, queries)
    for engine in ENGINES:
        start = time.perf_counter()
        assert index_gallery(gallery, engine).asked
        made = time.perf_counter() - start
        reader = Gallery.open(gallery.name)
        index = reader.references().engine.index  # type: ignore[attr-defined]
        assert not isinstance(index, ExhaustiveCandidates)
        found, similarities = reader.search(queries, at_scale.K)
        pairs = zip(found.tolist(), nearest.tolist(), strict=True)
        recall = np.mean([len(set(one) & set(other)) / at_scale.K for one, other in pairs])
        first = np.mean(found[:, 0] == nearest[:, 0])
        sys.stderr.write(f"{engine}: {recall=:.4f}, {first=:.4f}, made in {made:.0f} s\n")
        assert recall >= 0.99
        assert first >= 0.99
        stored = reader.references().rows(found[:, 0])
        measured = [cosines(query, row[None])[0] for query, row in zip(queries, stored, strict=True)]
        np.testing.assert_array_equal(similarities[:, 0], measured)
        for n, far in enumerate(l2_normalize(np.random.default_rng(8).normal(size=(CHANGES, at_scale.D)))):
            gallery.add(far[None], ["far"], [f"far {n}"])
            assert reader.photo(reader.search(far[None], 1)[0][0, 0]).id == f"far {n}"
            gallery.remove(photos=[f"far {n}"])
            assert reader.photo(reader.search(far[None], 1)[0][0, 0]).id != f"far {n}"
