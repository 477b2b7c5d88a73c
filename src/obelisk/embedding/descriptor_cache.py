"""Descriptors are computed once: a cache of network outputs, keyed by what they depend on.

A row depends on the photo's bytes (content hash), on the network with its photo rule (the bundle's
fingerprint: one database a bundle) and on the view of the photo (the plain one, or a numbered augmented one).
Rows are returned as if read back, so that a first and a second pass agree to the bit. Descriptors that heads are
trained on are kept as float16, computed by one runtime whatever else is installed. Embeddings that stand for what
recognition computes are kept as float32, a database for each runtime that recognition may choose. What is cached
survives a kill, and the next pass computes only what is missing.
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

from obelisk.embedding.bundle import Bundle
from obelisk.embedding.runtime import Embedder
from obelisk.embedding.user_cache import cache_folder
from obelisk.errors import ObeliskError, PhotoError
from obelisk.photos import content_hash, map_in_order, read_bytes, read_photo

COMMIT_EVERY = 64
PLAIN = "plain"

View = Callable[[Image, str], Image]
"""Makes an augmented view of an upright photo; the second argument, its content hash, seeds the chance."""


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Rows (N, D) float32 for the photos asked for; ``failed`` maps the place of a bad photo to its error.

    The row of a bad photo is zero: callers drop those places, and name them.
    """

    rows: NDArray[np.float32]
    failed: dict[int, PhotoError]
    computed: int


class DescriptorCache:
    """The cached outputs of one bundle.

    With an ``embedder`` of the bundle, rows are float32 and exactly what it computes. ``logits`` is the number C of
    columns of the bundle's softmax layer that follow the embedding in each row, (D + C,); 0 leaves them out.
    """

    def __init__(
        self, bundle: Bundle, folder: Path | None = None, *, embedder: Embedder | None = None, logits: int = 0
    ) -> None:
        self.bundle = bundle
        self._embedder = embedder
        self._dtype = np.dtype(np.float32 if embedder else np.float16)
        self._logits = logits
        name = f"{bundle.fingerprint}-{embedder.computes_with}-float32" if embedder else bundle.fingerprint
        self._path = (folder or cache_folder()) / "descriptors" / f"{name}.sqlite"

    def get(
        self,
        paths: Sequence[Path],
        *,
        view: View | None = None,
        view_name: str = PLAIN,
        progress: Callable[[int], None] | None = None,
    ) -> Descriptors:
        """Return the descriptors of the photos, computing those that are not cached.

        ``view_name`` names everything that the view depends on; ``progress`` is told how many rows are there.
        """
        if self._logits:
            view_name += " with logits"
        rows = np.zeros((len(paths), self.bundle.dimensions + self._logits), np.float32)
        failed: dict[int, PhotoError] = {}
        missing: list[int] = []
        fresh: list[tuple[str, str, bytes]] = []
        with closing(self._connect()) as database:
            hashes = list(map_in_order(hash_or_error, paths))
            for place, digest in enumerate(hashes):
                if isinstance(digest, PhotoError):
                    failed[place] = digest
                elif (row := self._read(database, digest, view_name)) is not None:
                    rows[place] = row
                else:
                    missing.append(place)
            done = len(paths) - len(missing)
            for count, (place, found) in enumerate(self._compute(paths, missing, view), start=1):
                if isinstance(found, PhotoError):
                    failed[place] = found
                else:
                    rows[place] = found
                    fresh.append((str(hashes[place]), view_name, found.tobytes()))
                if len(fresh) == COMMIT_EVERY:
                    keep_rows(database, fresh)
                if progress:
                    progress(done + count)
            keep_rows(database, fresh)
        return Descriptors(rows=rows, failed=failed, computed=len(missing))

    def count_missing(self, paths: Sequence[Path], view_name: str = PLAIN) -> int:
        """Return how many of the photos would have to be described; those that cannot be read are not among them."""
        with closing(self._connect()) as database:
            hashes = [digest for digest in map_in_order(hash_or_error, paths) if isinstance(digest, str)]
            return sum(self._read(database, digest, view_name) is None for digest in hashes)

    def _compute(
        self, paths: Sequence[Path], places: Sequence[int], view: View | None
    ) -> Iterator[tuple[int, NDArray[np.floating] | PhotoError]]:
        if not places:
            return
        # Rows that are kept must not depend on what else is installed.
        embedder = self._embedder = self._embedder or Embedder(self.bundle, runtime="onnxruntime")
        side = max(member.size for member in self.bundle.members)

        def compute(place: int) -> tuple[int, NDArray[np.floating] | PhotoError]:
            try:
                data = read_bytes(paths[place])
                image = read_photo(data, min_side=side)
            except PhotoError as error:
                return place, type(error)(error.what, where=paths[place], fix=error.fix)
            if view:
                image = view(image, content_hash(data))
            row = np.concatenate(embedder.classify_image(image)) if self._logits else embedder.embed_image(image)
            return place, row.astype(self._dtype)

        yield from map_in_order(compute, places)

    def _read(self, database: sqlite3.Connection, digest: str, view_name: str) -> NDArray[np.floating] | None:
        found = database.execute("SELECT row FROM rows WHERE photo = ? AND view = ?", (digest, view_name)).fetchone()
        return np.frombuffer(found[0], self._dtype) if found else None

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


def keep_rows(database: sqlite3.Connection, rows: list[tuple[str, str, bytes]]) -> None:
    """Write rows and forget them, in one short transaction: nobody waits for what is still being computed."""
    with database:
        database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", rows)
    rows.clear()


def hash_or_error(path: Path) -> str | PhotoError:
    """Return a photo's content hash, or the error of reading it."""
    try:
        return content_hash(read_bytes(path))
    except PhotoError as error:
        return error
