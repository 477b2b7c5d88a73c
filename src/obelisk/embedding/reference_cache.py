"""A cache of what pictures need of reference photos: their feature maps, and large photos in the size of a picture.

The embedding of a photo and its map come from one run, so what builds a gallery keeps the maps that it would otherwise
drop; so no picture has to run the network on a reference, or decode it from 12 megapixels. A map is kept in 8 bits and
compressed; most values of a map are 0, so that of the bundled model takes 10 kB. What is kept depends on the photo's
bytes, on the network with its photo rule, and on the runtime: each of these has a database of its own. All of it can be
computed again: a damaged database is deleted, one that can't be used is done without.
"""

from __future__ import annotations

import io
import sqlite3
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image, Resampling

from obelisk.embedding.runtime import Embedder
from obelisk.embedding.user_cache import cache_folder
from obelisk.npy import parse_npy
from obelisk.photos import is_full_size

# Bytes of a database: some 25,000 maps of the bundled model, or 5,000 photos. The oldest make room.
LARGEST = 256 * 2**20
LARGE_FILE = 100_000  # bytes: a smaller file is decoded as fast as what would be kept of it
PICTURE_SIDE = 464  # pixels: the longer side of a photo in a picture
SHARP = 320  # pixels of the shorter side to which a photo is decoded at least for a picture
PAGE = 4096  # bytes
BUSY_SECONDS = 1.0  # that other processes are waited for
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
TABLE = """CREATE TABLE IF NOT EXISTS kept (
    number INTEGER PRIMARY KEY, photo TEXT NOT NULL, kind TEXT NOT NULL, content BLOB NOT NULL, UNIQUE (photo, kind)
)"""
FIND = "SELECT content FROM kept WHERE photo = ? AND kind = ?"
KEEP = "INSERT OR IGNORE INTO kept (photo, kind, content) VALUES (?, ?, ?)"
MAKE_ROOM = "DELETE FROM kept WHERE number < (SELECT min(number) + (max(number) - min(number)) / 4 + 1 FROM kept)"

Result = TypeVar("Result")


class ReferenceCache:
    """What an embedder's runs gave for reference photos, by their content hashes. Threads may share it.

    Nothing is kept of a photo whose hash is not known, that is, empty.
    """

    def __init__(self, embedder: Embedder, folder: Path | None = None, *, largest: int = LARGEST) -> None:
        name = f"{embedder.bundle.fingerprint}-{embedder.computes_with}.sqlite"
        self._path = (folder or cache_folder()) / "references" / name
        self._pages = largest // PAGE
        self._database: sqlite3.Connection | None = None
        self._usable = True
        self._lock = Lock()

    def find_map(self, photo: str) -> NDArray[np.int8] | None:
        """Return the feature map (C, H, W) of a photo up to a factor, None if it is not kept."""
        packed = self._find(photo, "map")
        try:
            found = parse_npy(zlib.decompress(packed)) if packed else None
        except (zlib.error, ValueError):  # as if it had not been kept
            return None
        return found if found is not None and found.ndim == 3 and found.dtype == np.int8 else None

    def keep_map(self, photo: str, features: NDArray[np.floating]) -> NDArray[np.int8]:
        """Keep the feature map (C, H, W) of a photo; return what :meth:`find_map` returns from now on."""
        rounded = round_map(features)
        content = io.BytesIO()
        np.save(content, rounded)
        self._keep(photo, "map", zlib.compress(content.getbuffer(), 1))
        return rounded

    def find_picture(self, photo: str) -> bytes | None:
        """Return a photo as a JPEG in the size of a picture, None if it is not kept."""
        return self._find(photo, "picture")

    def keep_picture(self, photo: str, image: Image, data: bytes) -> None:
        """Keep a photo decoded from ``data``, if that is large and the photo not decoded too small for a picture."""
        if len(data) > LARGE_FILE and (min(image.size) >= SHARP or is_full_size(image, data)):
            content = io.BytesIO()
            fit_picture(image).save(content, "JPEG", quality=90)
            self._keep(photo, "picture", content.getvalue())

    def _find(self, photo: str, kind: str) -> bytes | None:
        row = self._use(lambda database: database.execute(FIND, (photo, kind)).fetchone())
        return row[0] if row and isinstance(row[0], bytes) else None

    def _keep(self, photo: str, kind: str, content: bytes) -> None:
        def insert(database: sqlite3.Connection) -> None:
            try:
                database.execute(KEEP, (photo, kind, content))
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                database.execute(MAKE_ROOM)
                database.execute(KEEP, (photo, kind, content))

        if photo:
            self._use(insert)

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
                    self._delete()
                return None

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(0o700, parents=True, exist_ok=True)  # the photos may be private
        database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        self._close = weakref.finalize(self, database.close)
        database.execute(f"PRAGMA page_size = {PAGE}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA max_page_count = {self._pages}")
        database.execute(TABLE)
        return database

    def _delete(self) -> None:
        """Delete the database with its log, which a new database would take for its own."""
        self._close()
        for suffix in ("", "-wal", "-shm"):
            with suppress(OSError):  # another process may have deleted it, or may be using it
                Path(f"{self._path}{suffix}").unlink()


def round_map(features: NDArray[np.floating]) -> NDArray[np.int8]:
    """Round a map to whole numbers of which the largest is 127; values that are not finite become 0."""
    finite = features if np.isfinite(features).all() else np.where(np.isfinite(features), features, 0)
    largest = float(max(finite.max(), -finite.min()))
    return np.rint(127 * (finite / largest) if largest else finite).astype(np.int8)


def fit_picture(photo: Image) -> Image:
    """Return a photo no larger than pictures show it."""
    scale = PICTURE_SIDE / max(photo.size)
    if scale >= 1:
        return photo
    width, height = (max(1, round(scale * side)) for side in photo.size)
    return photo.resize((width, height), Resampling.BILINEAR, reducing_gap=2.0)


@contextmanager
def keeping_references(embedder: Embedder) -> Iterator[None]:
    """Keep what pictures need of every photo that the embedder embeds and hashes meanwhile."""
    cache = ReferenceCache(embedder)

    def keep(path: Path, digest: str, data: bytes, image: Image, features: NDArray[np.float32] | None) -> None:
        if features is not None:
            cache.keep_map(digest, features)
        cache.keep_picture(digest, image, data)

    embedder.on_features = keep
    try:
        yield
    finally:
        embedder.on_features = None
