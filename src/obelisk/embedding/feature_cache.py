"""A cache of the feature maps of reference photos, so that no picture has to run the network on them again.

The embedding of a photo and its map come from one run, so a gallery's build keeps the maps that it would otherwise
drop. A map is kept in 8 bits and compressed; most values of a map are 0, so that of the bundled model takes 10 kB. Maps
depend on the photo's bytes, on the network with its photo rule, and on the runtime: each of these has a database of its
own. All of it can be computed again: a damaged database is deleted, one that can't be used is done without.
"""

from __future__ import annotations

import sqlite3
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from obelisk.embedding.runtime import Embedder
from obelisk.embedding.user_cache import cache_folder

LARGEST = 256 * 2**20  # bytes of a database: some 26,000 maps of the bundled model; the oldest make room
PAGE = 4096  # bytes
BUSY_SECONDS = 1.0  # that other processes are waited for
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
TABLE = """CREATE TABLE IF NOT EXISTS maps (
    number INTEGER PRIMARY KEY, photo TEXT NOT NULL UNIQUE, channels INTEGER, height INTEGER, width INTEGER, map BLOB
)"""
FIND = "SELECT channels, height, width, map FROM maps WHERE photo = ?"
KEEP = "INSERT OR IGNORE INTO maps (photo, channels, height, width, map) VALUES (?, ?, ?, ?, ?)"
MAKE_ROOM = "DELETE FROM maps WHERE number < (SELECT min(number) + (max(number) - min(number)) / 4 + 1 FROM maps)"

Result = TypeVar("Result")


class FeatureCache:
    """The feature maps that an embedder computed, by the content hashes of their photos. Threads may share it."""

    def __init__(self, embedder: Embedder, folder: Path | None = None, *, largest: int = LARGEST) -> None:
        name = f"{embedder.bundle.fingerprint}-{embedder.computes_with}.sqlite"
        self._path = (folder or cache_folder()) / "features" / name
        self._pages = largest // PAGE
        self._database: sqlite3.Connection | None = None
        self._usable = True
        self._lock = Lock()

    def find(self, photo: str) -> NDArray[np.int8] | None:
        """Return the map (C, H, W) of a photo up to a factor, None if it is not kept."""
        row = self._use(lambda database: database.execute(FIND, (photo,)).fetchone())
        if row is None:
            return None
        *shape, packed = row
        try:
            return np.frombuffer(zlib.decompress(packed), np.int8).reshape(shape)
        except (zlib.error, TypeError, ValueError):  # as if it had not been kept
            return None

    def keep(self, photo: str, features: NDArray[np.floating]) -> NDArray[np.int8]:
        """Keep the map (C, H, W) of a photo; return what :meth:`find` returns from now on."""
        rounded = round_map(features)
        values = (photo, *rounded.shape, zlib.compress(rounded.tobytes(), 1))

        def insert(database: sqlite3.Connection) -> None:
            try:
                database.execute(KEEP, values)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                database.execute(MAKE_ROOM)
                database.execute(KEEP, values)

        self._use(insert)
        return rounded

    def _use(self, action: Callable[[sqlite3.Connection], Result]) -> Result | None:
        with self._lock:
            if not self._usable:
                return None
            try:
                if self._database is None:
                    self._database = self._open()
                return action(self._database)
            except (OSError, sqlite3.Error) as error:
                self._usable = False
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
                    self._path.unlink(missing_ok=True)
                return None

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        weakref.finalize(self, database.close)
        database.execute(f"PRAGMA page_size = {PAGE}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA max_page_count = {self._pages}")
        database.execute(TABLE)
        return database


def round_map(features: NDArray[np.floating]) -> NDArray[np.int8]:
    """Round a map to whole numbers of which the largest is 127; values that are not finite become 0."""
    finite = features if np.isfinite(features).all() else np.where(np.isfinite(features), features, 0)
    largest = float(max(finite.max(), -finite.min()))
    return np.rint(127 * (finite / largest) if largest else finite).astype(np.int8)


@contextmanager
def keeping_maps(embedder: Embedder) -> Iterator[None]:
    """Keep the feature map of every photo that the embedder embeds and hashes meanwhile."""
    cache = FeatureCache(embedder)

    def keep(path: Path, digest: str, data: bytes, image: Image, features: NDArray[np.float32] | None) -> None:
        if digest and features is not None:
            cache.keep(digest, features)

    embedder.on_features = keep
    try:
        yield
    finally:
        embedder.on_features = None
