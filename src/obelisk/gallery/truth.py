"""Where the photos, landmarks and embeddings of a gallery are kept, behind one seam.

A :class:`Truth` is a folder with an SQLite file (:mod:`obelisk.gallery.sqlite_truth`) or a PostgreSQL database
(:mod:`obelisk.gallery.postgres`). Both have the same tables (:mod:`obelisk.gallery.columns`), so what reads and changes
them is written once, in :mod:`obelisk.gallery.lookup` and :mod:`obelisk.gallery.changes`. The rest of the house knows
no SQL.

Row numbers grow in the order of the commits: who has seen row n will never see a smaller new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from obelisk.arrays import Embeddings, Integers
from obelisk.embedding import Bundle

if TYPE_CHECKING:
    from obelisk.gallery.schema import About

State = tuple[Any, ...]
"""Changes with every change of a gallery; its first item changes when another gallery takes the place of this one."""


class FoundRows(Protocol):
    """What a statement found."""

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""


class Asked(Protocol):
    """What answers statements, in the SQL that SQLite and PostgreSQL share, with a ``?`` for each value."""

    @property
    def place(self) -> Path | str:
        """Where the gallery is, as errors name it."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> Iterable[Any]:
        """Return the rows that a statement finds."""


class Tables(Asked, Protocol):
    """The tables of a gallery in one transaction."""

    def execute(self, statement: str, values: Sequence[Any] = (), /) -> FoundRows:
        """Execute a statement."""

    @property
    def folder(self) -> Path | None:
        """The gallery's folder; None if it is in a database."""

    @property
    def format(self) -> int:
        """The format number that the gallery states."""

    def refuse_foreign(self) -> None:
        """Raise :class:`GalleryError` for tables of another program, and for a format that we can't read."""

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Execute a statement for each of the rows of values."""

    def stream(self, statement: str) -> Iterator[Any]:
        """Yield the rows that a statement finds; they may be more than fit into memory."""

    def insert_references(self, photos: Sequence[Sequence[object]], vectors: NDArray[np.float16]) -> list[int]:
        """Insert photos, given by the columns after ``row``, and their embeddings (N, D); return their rows."""

    def read_photo_rows(self, *, after: int | None) -> tuple[Integers, Integers]:
        """Return the rows (N,) above ``after``, or all, ascending, and their landmark ids (N,); -1 if one is none."""


class RowReader(Protocol):
    """Reads rows by their numbers, each time from the gallery as it is at that moment; threads may share it."""

    def asking(self) -> AbstractContextManager[Asked]:
        """Return what answers statements, each in a transaction of its own."""

    def read(self, rows: Sequence[int]) -> tuple[Integers, Embeddings]:
        """Return those of the rows that the gallery has, ascending, and their unit-norm embeddings (M, D)."""


class Truth(Protocol):
    """Where a gallery is kept. Threads may share it."""

    @property
    def name(self) -> str:
        """How the gallery is called: ``bundled``, its path, or its address without a password."""

    @property
    def folder(self) -> Path | None:
        """The gallery's folder; None if it is in a database."""

    def create(self, about: About, bundle: Bundle) -> None:
        """Make an empty gallery with a copy of its model, whole or not at all; raise GalleryError if there is one."""

    def exists(self) -> bool:
        """Return whether there is a gallery, finished or not, as far as a look without opening it tells."""

    def about(self) -> About:
        """Return what the gallery says about itself; raise :class:`GalleryError` if there is none."""

    def reading(self) -> AbstractContextManager[Tables]:
        """Begin a transaction that sees one moment."""

    def writing(self) -> AbstractContextManager[Tables]:
        """Begin a transaction that changes the gallery: when the block ends, all of it is on the disk, or none.

        An older format is migrated first. One such transaction runs at a time; the others wait. Raises
        :class:`GalleryError` if the gallery can't be changed, :class:`GalleryLockedError` after too long a wait.
        """

    def may_write(self) -> bool:
        """Return whether the gallery may be changed."""

    def state(self) -> State:
        """Return the state of the gallery; every search asks for it."""

    def shows_later_changes(self, state: State) -> bool:
        """Return whether a change made from now on is sure to show in :meth:`state`."""

    def reader(self, dimensions: int) -> RowReader:
        """Return a reader of rows, whose embeddings have D dimensions."""

    def load_bundle(self, about: About) -> Bundle:
        """Load the gallery's own copy of its model; raise :class:`ModelError` if it is damaged or missing."""

    def adopt_attachments(self, about: About, bundle: Bundle) -> None:
        """Bring the gallery's copy of its model up to date: calibration and background may have come later."""

    def read_file(self, name: str, largest: int) -> bytes | None:
        """Return a file that somebody put beside the tables, such as a calibration; None if there is none."""

    def write_file(self, name: str, content: bytes) -> None:
        """Put a file beside the tables, in place of one that is there."""

    def index_paths(self) -> list[Path]:
        """Return the paths where a search index may lie; a new one is written to the last."""

    def count_rows_at_most(self, dimensions: int) -> int:
        """Return the most rows that an index of the gallery can sensibly have."""

    def check_tables(self, dimensions: int) -> Iterable[str]:
        """Yield one sentence for each problem of the tables and of the embeddings in them."""

    def count_bytes(self) -> int:
        """Return how much room the gallery takes."""
