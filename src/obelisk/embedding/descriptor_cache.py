"""A cache of network outputs, keyed by what they depend on, so that each is computed once.

A row depends on the photo's bytes (its content hash), on the network with its photo rule (the bundle's fingerprint;
each bundle has a database of its own) and on the view of the photo (the plain one, or a numbered augmented one).
Descriptors for training heads are stored as float16, always computed by ONNX Runtime. Embeddings for evaluation, which
must equal those of recognition, are stored as float32, in one database per runtime. Rows are returned as they are
stored, so a first and a second pass agree to the bit. What was stored survives a kill.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from obelisk.arrays import Embeddings
from obelisk.embedding.bundle import Bundle
from obelisk.embedding.runtime import Embedder
from obelisk.embedding.user_cache import cache_folder
from obelisk.errors import ObeliskError, PhotoError
from obelisk.photos import content_hash, detach_error, hash_photo, held_bytes, map_in_order, read_photo
from obelisk.records import Progress, no_progress

COMMIT_EVERY = 64
PLAIN = "plain"

View = Callable[[Image, str], Image]
"""Makes an augmented view of an upright photo; the second argument, the photo's content hash, seeds it."""


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """The rows (N, D), float32, of N photos; ``failed`` maps the index of a bad photo to its error.

    The row of a bad photo is zero: callers must drop and report it. ``computed`` counts the rows that were not cached.
    """

    rows: Embeddings
    failed: dict[int, PhotoError]
    computed: int


class DescriptorCache:
    """The cached outputs of one bundle.

    With an ``embedder`` of the bundle, rows are float32, exactly as it computes them. ``logits`` is the number C of
    outputs of the bundle's softmax layer, which then follow the embedding in each row, (D + C,); 0 leaves them out.
    """

    def __init__(
        self, bundle: Bundle, folder: Path | None = None, *, embedder: Embedder | None = None, logits: int = 0
    ) -> None:
        self.bundle = bundle
        self._embedder = embedder
        self._dtype = np.dtype(np.float32 if embedder else np.float16)
        self._logits = logits
        self._width = bundle.dimensions + logits
        name = f"{bundle.fingerprint}-{embedder.computes_with}-float32" if embedder else bundle.fingerprint
        self._path = (folder or cache_folder()) / "descriptors" / f"{name}.sqlite"

    def get(
        self,
        paths: Sequence[Path],
        *,
        view: View | None = None,
        view_name: str = PLAIN,
        what: str = "embedding photos",
        progress: Progress = no_progress,
    ) -> Descriptors:
        """Return the descriptors of the photos, computing those that are not cached.

        ``view_name`` must name everything that ``view`` depends on. ``progress`` is called with ``what`` and the rows
        done. Raises :class:`ObeliskError` if the cache cannot be used.
        """
        if self._logits:
            view_name += " with logits"
        rows = np.zeros((len(paths), self._width), np.float32)
        failed: dict[int, PhotoError] = {}
        missing: list[int] = []
        fresh: list[tuple[str, str, bytes]] = []
        with closing(self._connect()) as database:
            hashes = list(map_in_order(hash_or_error, paths))
            for index, digest in enumerate(hashes):
                if isinstance(digest, PhotoError):
                    failed[index] = digest
                elif (row := self._read(database, digest, view_name)) is not None:
                    rows[index] = row
                else:
                    missing.append(index)
            done = len(paths) - len(missing)
            for count, (index, found) in enumerate(self._compute(paths, missing, view), start=1):
                if isinstance(found, PhotoError):
                    failed[index] = found
                else:
                    rows[index] = found
                    fresh.append((str(hashes[index]), view_name, found.tobytes()))
                if len(fresh) == COMMIT_EVERY:
                    store_rows(database, fresh)
                progress(what, done + count, len(paths))
            store_rows(database, fresh)
        return Descriptors(rows=rows, failed=failed, computed=len(missing))

    def count_missing(self, paths: Sequence[Path], view_name: str = PLAIN) -> int:
        """Count the photos whose descriptors are not cached, leaving out those that can't be read."""
        with closing(self._connect()) as database:
            hashes = [digest for digest in map_in_order(hash_or_error, paths) if isinstance(digest, str)]
            return sum(self._read(database, digest, view_name) is None for digest in hashes)

    def _compute(
        self, paths: Sequence[Path], indices: Sequence[int], view: View | None
    ) -> Iterator[tuple[int, NDArray[np.floating] | PhotoError]]:
        if not indices:
            return
        # Stored descriptors must not depend on which runtimes are installed.
        embedder = self._embedder = self._embedder or Embedder(self.bundle, runtime="onnxruntime")
        side = max(member.size for member in self.bundle.members)

        def compute(index: int) -> tuple[int, NDArray[np.floating] | PhotoError]:
            try:
                with held_bytes(paths[index]) as data:
                    image = read_photo(data, min_side=side)
                    digest = content_hash(data) if view else ""
            except PhotoError as error:
                return index, type(error)(error.what, where=paths[index], fix=error.fix)
            if view:
                image = view(image, digest)
            row = np.concatenate(embedder.classify_image(image)) if self._logits else embedder.embed_image(image)
            return index, row.astype(self._dtype)

        yield from map_in_order(compute, indices)

    def _read(self, database: sqlite3.Connection, digest: str, view_name: str) -> NDArray[np.floating] | None:
        found = database.execute("SELECT row FROM rows WHERE photo = ? AND view = ?", (digest, view_name)).fetchone()
        if not found or len(found[0]) != self._width * self._dtype.itemsize:
            return None  # not there, or damaged
        return np.frombuffer(found[0], self._dtype)

    def _connect(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return self._open()
        except (OSError, sqlite3.Error) as error:
            raise ObeliskError(
                f"the descriptor cache cannot be used: {error}",
                where=self._path,
                fix="delete the file if it is damaged, or set OBELISK_CACHE to a folder that can be written",
            ) from error

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=60)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS rows (photo TEXT, view TEXT, row BLOB NOT NULL, PRIMARY KEY (photo, view))"
        )
        return database


def store_rows(database: sqlite3.Connection, rows: list[tuple[str, str, bytes]]) -> None:
    """Write rows in one short transaction, so that no other process waits for a computation, and clear the list."""
    with database:
        database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", rows)
    rows.clear()


def hash_or_error(path: Path) -> str | PhotoError:
    """Return a photo's content hash, or the error if it can't be read."""
    try:
        return hash_photo(path)
    except PhotoError as error:
        return detach_error(error)
