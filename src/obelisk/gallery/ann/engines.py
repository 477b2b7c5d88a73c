"""Which engine proposes the candidates of a gallery: the reader's own index, pgvector, or Milvus.

The gallery says which one, in its table ``about``: nothing for our own index, ``pgvector``, or the address of a Milvus
collection with the last row that it covers.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from obelisk.errors import GalleryError, MissingExtraError, UsageError, quote
from obelisk.gallery import schema
from obelisk.gallery.ann.candidates import (
    MILVUS,
    OWN,
    PGVECTOR,
    Candidates,
    EngineError,
    ExhaustiveCandidates,
    refuse_too_large,
)
from obelisk.gallery.ann.indexed import open_index
from obelisk.gallery.lookup import count_reference_photos, last_photo_row
from obelisk.gallery.truth import Truth
from obelisk.records import Progress

if TYPE_CHECKING:
    from obelisk.gallery.postgres import PostgresTruth


def open_candidates(setting: str, truth: Truth, dimensions: int, progress: Progress) -> Candidates:
    """Return the engine of a gallery.

    While another engine is away, every photo is compared. Raises :class:`EngineError` if they are too many for that.
    """
    if setting == OWN:
        return open_index(truth, dimensions, progress)
    try:
        if setting == PGVECTOR:
            from obelisk.gallery.postgres import open_pgvector

            return open_pgvector(database_of(truth))
        from obelisk.gallery.ann.milvus import open_milvus

        refuse_without_client()
        return open_milvus(setting, truth, dimensions)
    except EngineError as error:
        with truth.reading() as tables:
            count, last = count_reference_photos(tables), last_photo_row(tables)
        refuse_too_large(error, count)
        return ExhaustiveCandidates(setting, truth, truth.reader(dimensions), last, count)


def choose_engine(truth: Truth, engine: str | None, dimensions: int, progress: Progress) -> str:
    """Make an engine the one of a gallery, and bring its index up to date; None means the present one.

    Returns the engine's name without a password. The index of :data:`OWN` is made by the next search.
    """
    with truth.reading() as tables:
        setting = schema.read_engine(tables)
    engine = engine or setting.partition(" ")[0]
    if engine == OWN:
        setting_now = OWN
    elif engine == PGVECTOR:
        from obelisk.gallery.postgres import make_pgvector

        make_pgvector(database_of(truth), dimensions, progress)
        setting_now = PGVECTOR
    elif engine.startswith(MILVUS):
        from obelisk.gallery.ann.milvus import fill_milvus

        refuse_without_client()
        setting_now = fill_milvus(engine, truth, dimensions, progress)
    else:
        raise UsageError(f"there is no engine `{engine}`", fix=f"name one: {OWN}, {PGVECTOR} or milvus://HOST/NAME")
    if setting_now != setting:
        with truth.writing() as tables:
            schema.write_engine(tables, setting_now)
    return setting_now.partition(" ")[0]


def describe_engine(setting: str, truth: Truth, dimensions: int) -> str | None:
    """Describe in one sentence what is wrong with the engine of a gallery that is not our own; None if it is sound."""
    try:
        if setting == PGVECTOR:
            from obelisk.gallery.postgres import open_pgvector

            open_pgvector(database_of(truth))
        else:
            from obelisk.gallery.ann.milvus import open_milvus

            refuse_without_client()
            open_milvus(setting, truth, dimensions)
    except GalleryError as error:
        return str(error)
    return None


def database_of(truth: Truth) -> PostgresTruth:
    """Return a truth that is a database; raise :class:`GalleryError` for a folder."""
    if truth.folder is not None:
        what = f"the engine `{PGVECTOR}` is a part of PostgreSQL, and this gallery is in a folder"
        fix = f"use `--engine {OWN}`, or copy it: obelisk gallery push {quote(truth.name)} postgresql://HOST/DATABASE"
        raise GalleryError(what, where=truth.name, fix=fix)
    from obelisk.gallery.postgres import PostgresTruth

    assert isinstance(truth, PostgresTruth)
    return truth


def refuse_without_client() -> None:
    """Raise :class:`MissingExtraError` if Milvus's client is not installed."""
    if importlib.util.find_spec("pymilvus") is None:
        raise MissingExtraError("milvus", needed_for="candidates from Milvus")
