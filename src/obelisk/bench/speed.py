"""The latency of an answer, by stage, and the throughput of many.

The stages are timed from outside: a recognizer gets an embedder that takes photos one by one, step by step, and a
search engine with a timer around it. Recognition itself carries no timers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.embedding import Bundle, Embedded, Embedder, read_layer
from obelisk.gallery import Gallery, References, SearchEngine
from obelisk.photos import PhotosLike, prepare, read_bytes, read_photo, read_position, take_photos
from obelisk.recognition.recognizer import Recognizer

T = TypeVar("T")

STAGES = ("read", "decode", "preprocess", "embed", "search", "vote")
WARM_UP = 3


@dataclass(frozen=True, kw_only=True)
class LatencyPercentiles:
    """The median and the 95th percentile of a latency, in milliseconds."""

    p50: float
    p95: float


class StageTimer:
    """Adds up the seconds spent in each stage of one answer."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Set all stages to zero."""
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def timing(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start


class TimedEmbedder(Embedder):
    """An embedder that takes photos one by one and times each step."""

    def __init__(self, bundle: Bundle, timer: StageTimer) -> None:
        super().__init__(bundle, logits=read_layer(bundle) is not None)
        self._timer = timer

    def embed(
        self, sources: PhotosLike, *, hashed: bool = False, cut_off: bool = False, located: bool = False
    ) -> Iterator[Embedded]:
        """Yield the embeddings as the plain embedder does; raises PhotoError for a bad photo."""
        for photo in take_photos(sources):
            with self._timer.timing("read"):
                data = read_bytes(photo.path)
            with self._timer.timing("decode"):
                image = read_photo(data, min_side=max(member.size for member in self.bundle.members))
                stated = read_position(data) if located else None
            with self._timer.timing("preprocess"):
                pixels = [prepare(image, member.input) for member in self.bundle.members]
            with self._timer.timing("embed"):
                row, logits = self.classify_pixels(*pixels) if self.gives_logits else (self.embed_pixels(*pixels), None)
            yield Embedded(path=photo.path, content_hash="", embedding=row, logits=logits, stated=stated)


class TimedSearchEngine:
    """A search engine with a timer around it."""

    def __init__(self, engine: SearchEngine, timer: StageTimer) -> None:
        self._engine = engine
        self._timer = timer
        self.rows = engine.rows
        self.dimensions = engine.dimensions

    def __len__(self) -> int:
        return len(self._engine)

    def nearest(self, queries: Embeddings, k: int) -> tuple[Integers, Embeddings]:
        """Search as the engine does."""
        with self._timer.timing("search"):
            return self._engine.nearest(queries, k)


class TimedGallery(Gallery):
    """A gallery whose search is timed."""

    def __init__(self, gallery: Gallery, timer: StageTimer) -> None:
        super().__init__(gallery.truth, gallery.about)
        self._timer = timer
        self._plain: References | None = None

    def references(self) -> References:
        """Return the references with a timed search engine; the same object until the gallery changes."""
        plain = super().references()
        if plain is not self._plain:
            self._plain, self._timed = plain, replace(plain, engine=TimedSearchEngine(plain.engine, self._timer))
        return self._timed


def measure_stages(gallery: Path, photos: Sequence[Path], *, answers: int) -> dict[str, LatencyPercentiles]:
    """Answer photos one by one, at least ``answers`` times in all, and return the latency of each stage.

    ``vote`` is the rest of an answer: counting votes, computing the confidence, and composing the answer.
    """
    timer = StageTimer()
    timed = TimedGallery(Gallery.open(gallery), timer)
    recognizer = Recognizer.open(timed, embedder=TimedEmbedder(timed.load_bundle(), timer))

    def answer(photo: Path) -> dict[str, float]:
        timer.restart()
        start = time.perf_counter()
        list(recognizer.recognize([photo]))
        timer.seconds["vote"] = time.perf_counter() - start - sum(timer.seconds.values())
        return timer.seconds

    rounds = repeat_over(photos, answer, answers=answers)
    return {stage: percentiles([seconds[stage] for seconds in rounds]) for stage in STAGES}


def measure_latency(answer: Callable[[Path], object], photos: Sequence[Path], *, answers: int) -> LatencyPercentiles:
    """Answer photos one by one, at least ``answers`` times in all, and return the latency of an answer."""

    def timed(photo: Path) -> float:
        start = time.perf_counter()
        answer(photo)
        return time.perf_counter() - start

    return percentiles(repeat_over(photos, timed, answers=answers))


def measure_throughput(answer: Callable[[Sequence[Path]], object], photos: Sequence[Path], *, answers: int) -> float:
    """Answer at least ``answers`` photos in one call, and return the photos per second."""
    many = [*photos] * -(-answers // len(photos))
    start = time.perf_counter()
    answer(many)
    return len(many) / (time.perf_counter() - start)


def repeat_over(photos: Sequence[Path], measure_one: Callable[[Path], T], *, answers: int) -> list[T]:
    """Measure every photo equally often, at least ``answers`` times in all, after a few runs that don't count."""
    for i in range(WARM_UP):
        measure_one(photos[i % len(photos)])
    return [measure_one(photo) for _ in range(-(-answers // len(photos))) for photo in photos]


def percentiles(seconds: Sequence[float]) -> LatencyPercentiles:
    """Return the percentiles of some times."""
    p50, p95 = np.percentile(np.asarray(seconds) * 1000, [50, 95]).tolist()
    return LatencyPercentiles(p50=p50, p95=p95)
