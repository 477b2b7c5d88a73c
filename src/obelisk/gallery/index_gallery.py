"""Choose the engine of a gallery, and bring its index up to date: ``obelisk gallery index``."""

from __future__ import annotations

from dataclasses import dataclass

from obelisk.gallery.ann.engines import choose_engine
from obelisk.gallery.ann.indexed import IndexedSearch
from obelisk.gallery.gallery import Gallery
from obelisk.gallery.push import measure_recall
from obelisk.records import Progress, no_progress


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """The engine of a gallery, and whether its searches ask it: small galleries are searched exactly.

    ``recall`` is the share of the 10 nearest photos that a search finds, measured with a sample if asked for.
    """

    gallery: str
    engine: str
    photos: int
    asked: bool
    recall: float | None = None


def index_gallery(
    gallery: Gallery, engine: str | None = None, *, recall: bool = False, progress: Progress = no_progress
) -> IndexReport:
    """Choose what proposes a gallery's candidates: ``own``, ``pgvector`` or ``milvus://HOST:PORT/COLLECTION``.

    None keeps the present engine. Its index is brought up to date. Raises :class:`GalleryError` for an engine that
    does not fit the gallery, and for a collection of somebody else.
    """
    chosen = choose_engine(gallery.truth, engine, gallery.dimensions, progress)
    references = gallery.references()
    return IndexReport(
        gallery=gallery.name,
        engine=chosen,
        photos=len(references),
        asked=isinstance(references.engine, IndexedSearch),
        recall=measure_recall(gallery) if recall and len(references) else None,
    )
