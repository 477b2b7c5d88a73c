"""How long an answer takes, stage by stage, and how many photos a second are answered.

The stages are watched from outside: an embedder that goes through a photo step by step, and a search that is
timed, take the places of a recognizer's own. Nothing of this is in the way when photos are recognised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from obelisk.embedding import Bundle, Embedded, Embedder
from obelisk.gallery import Gallery, References, SearchEngine, database
from obelisk.photos import prepare, read_bytes, read_photo
from obelisk.recognition.recognizer import Recognizer

Timed = TypeVar("Timed")

STAGES = ("read", "decode", "preprocess", "embed", "search", "vote")
WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Milliseconds: the median, and the time that 95 of 100 stay within."""

    p50: float
    p95: float


class Stopwatch:
    """Adds up the seconds that pass in each stage of one answer."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add what the block takes to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start


class WatchedEmbedder(Embedder):
    """An embedder that goes through one photo after another and times each step."""

    def __init__(self, bundle: Bundle, watch: Stopwatch) -> None:
        super().__init__(bundle)
        self._watch = watch

    def embed(self, sources: Iterable[Path], *, hashed: bool = False) -> Iterator[Embedded]:
        """Yield the photos as the plain embedder does; raises PhotoError for a bad one."""
        for path in sources:
            with self._watch.timing("read"):
                data = read_bytes(path)
            with self._watch.timing("decode"):
                image = read_photo(data, min_side=max(member.size for member in self.bundle.members))
            with self._watch.timing("preprocess"):
                pixels = [prepare(image, member.input) for member in self.bundle.members]
            with self._watch.timing("embed"):
                row = self.embed_pixels(*pixels)
            yield Embedded(path=path, content_hash="", embedding=row)


class WatchedSearch:
    """A search engine that is timed."""

    def __init__(self, engine: SearchEngine, watch: Stopwatch) -> None:
        self._engine = engine
        self._watch = watch
        self.rows = engine.rows
        self.dimensions = engine.dimensions

    def __len__(self) -> int:
        return len(self._engine)

    def nearest(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Search as the engine does."""
        with self._watch.timing("search"):
            return self._engine.nearest(queries, k)


class WatchedGallery(Gallery):
    """A gallery whose search is timed."""

    def __init__(self, path: Path, watch: Stopwatch) -> None:
        super().__init__(path, database.read_about(path))
        self._stopwatch = watch
        self._found: References | None = None

    def references(self) -> References:
        """Return the references, searched through the stopwatch; the same object until the gallery changes."""
        found = super().references()
        if found is not self._found:
            self._found, self._watched = found, replace(found, engine=WatchedSearch(found.engine, self._stopwatch))
        return self._watched


def time_stages(gallery: Path, photos: Sequence[Path], *, answers: int) -> dict[str, Spread]:
    """Answer the photos one by one, at least ``answers`` times in all, and return how long each stage takes.

    ``vote`` is all that is left of an answer: the votes, the confidence, and putting it into words.
    """
    watch = Stopwatch()
    watched = WatchedGallery(gallery, watch)
    recognizer = Recognizer(watched, WatchedEmbedder(watched.load_bundle(), watch))

    def answer(photo: Path) -> dict[str, float]:
        watch.seconds = dict.fromkeys(STAGES, 0.0)
        start = time.perf_counter()
        list(recognizer.recognize([photo]))
        watch.seconds["vote"] = time.perf_counter() - start - sum(watch.seconds.values())
        return watch.seconds

    rounds = repeat(answer, photos, answers)
    return {stage: spread([seconds[stage] for seconds in rounds]) for stage in STAGES}


def time_answers(answer: Callable[[Path], object], photos: Sequence[Path], *, answers: int) -> Spread:
    """Return how long one photo takes when it is the only one, answered at least ``answers`` times in all."""

    def timed(photo: Path) -> float:
        start = time.perf_counter()
        answer(photo)
        return time.perf_counter() - start

    return spread(repeat(timed, photos, answers))


def count_a_second(answer: Callable[[Sequence[Path]], object], photos: Sequence[Path], *, answers: int) -> float:
    """Return how many photos a second are answered when at least ``answers`` are given at once."""
    many = [*photos] * -(-answers // len(photos))
    start = time.perf_counter()
    answer(many)
    return len(many) / (time.perf_counter() - start)


def repeat(timed: Callable[[Path], Timed], photos: Sequence[Path], answers: int) -> list[Timed]:
    """Go through the photos as often as it takes for so many answers, after some that do not count."""
    for place in range(WARM_UP):
        timed(photos[place % len(photos)])
    return [timed(photo) for _ in range(-(-answers // len(photos))) for photo in photos]


def spread(seconds: Sequence[float]) -> Spread:
    """Return the spread of some times."""
    p50, p95 = np.percentile(np.asarray(seconds) * 1000, [50, 95]).tolist()
    return Spread(p50=p50, p95=p95)
