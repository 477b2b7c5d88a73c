"""Candidates from a Milvus collection, for 10⁸ references and more.

Milvus shows additions and removals late, and takes a key twice. It is therefore only asked for candidates, at its
weakest consistency: the gallery notes the last row that the collection is known to answer with, rows after it are
searched exactly, and rows that the gallery lacks are dropped.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from obelisk.arrays import Embeddings, Integers
from obelisk.errors import GalleryError, quote
from obelisk.gallery import schema
from obelisk.gallery.ann.candidates import EXACT_WITHOUT_ENGINE, MILVUS, TRIED_AGAIN, EngineError
from obelisk.gallery.lookup import count_photos_after, count_reference_photos, last_photo_row
from obelisk.gallery.truth import Truth
from obelisk.records import Progress

TOKEN = "OBELISK_MILVUS_TOKEN"
DESCRIPTION = "obelisk gallery "
PORT = 19530
SECONDS = 20.0  # for an answer while the collection is filled
SEARCH_SECONDS = 3.0  # for an answer that somebody waits for
LONGEST_BUILD = 86_400.0  # s, for Milvus to index and load what it was given
SETTLING = 60.0  # s, until Milvus answers with what it was given
ROWS_AT_ONCE = 4096
QUERIES_AT_ONCE = 32  # for each of which somebody waits
MOST_FOUND = 16_384  # rows that Milvus returns at once
OVERFETCH = 100
COMPARED = 16  # rows by which a collection is known to hold the photos of a gallery
CLOSE = 0.01  # between two values of one embedding
NAME = re.compile(r"[A-Za-z_]\w{0,254}", re.ASCII)
EVENTUALLY = "Eventually"
WITHOUT = "check that it runs; `obelisk gallery index GALLERY --engine own` does without it"
HNSW = {"M": 16, "efConstruction": 128}


@dataclass(frozen=True, kw_only=True)
class MilvusAddress:
    """Where a collection is; ``shown`` is its address without a password."""

    uri: str
    collection: str
    shown: str
    token: str = field(default="", repr=False)


def parse_milvus(text: str) -> MilvusAddress:
    """Parse ``milvus://[user:password@]host[:port]/collection[?tls=true]``.

    The user and password may be in the environment variable :data:`TOKEN` instead. Raises :class:`GalleryError`.
    """
    given = urlsplit(text)
    login, _, host = given.netloc.rpartition("@")
    collection, parameters = given.path.strip("/"), parse_qs(given.query)
    try:
        port = given.port or PORT
    except ValueError:
        port = 0
    if "@" in login or "@" in given.path + given.query or not host or not port or not given.hostname:
        what = "the address of Milvus can't be read, and isn't shown because it may hold a password"
        raise GalleryError(what, fix=f"write milvus://HOST:PORT/COLLECTION, and user:password into {TOKEN}")
    tls = parameters == {"tls": ["true"]}
    if not NAME.fullmatch(collection) or (parameters and not tls):
        what = f"`{collection}{'?' if given.query else ''}{given.query}` is no name of a collection"
        raise GalleryError(what, where=f"milvus://{host}", fix="write milvus://HOST:PORT/COLLECTION[?tls=true]")
    bracketed = f"[{given.hostname}]" if ":" in given.hostname else given.hostname
    return MilvusAddress(
        uri=f"http{'s' * tls}://{bracketed}:{port}",
        collection=collection,
        shown=f"{MILVUS}{bracketed}:{port}/{collection}{'?tls=true' * tls}",
        token=unquote(login) or os.environ.get(TOKEN, ""),
    )


class MilvusCandidates:
    """A collection that proposes candidates; see :class:`~obelisk.gallery.ann.candidates.Candidates`."""

    leaves_out = False

    def __init__(self, address: MilvusAddress, client: Any, *, last: int, count: int) -> None:
        self.address, self.client = address, client
        self.setting = f"{address.shown} {last}"
        self.last = last
        self._count = count
        self._silent_until = 0.0

    def __len__(self) -> int:
        return self._count

    def still_pays(self, covered: int, newer: int) -> bool:
        """Return whether what is searched beside the collection still fits into memory."""
        self._count = covered
        return newer <= EXACT_WITHOUT_ENGINE

    def candidates(self, queries: Embeddings, k: int, *, gone: Integers, widening: int = 1) -> list[Integers]:
        """Return the nearest rows by Milvus's index, and as many again; a silent server is left alone for a while."""
        count = min(widening * max(OVERFETCH, 2 * k), len(self))
        if count > MOST_FOUND:
            what = f"Milvus gives at most {MOST_FOUND:,} candidates"
            raise EngineError(what, where=self.address.shown, fix="ask for fewer neighbors")
        if not count:
            return [np.empty(0, dtype=np.int64)] * len(queries)
        if time.monotonic() < self._silent_until:
            raise EngineError("Milvus did not answer", where=self.address.shown, fix=WITHOUT)
        starts = range(0, len(queries), QUERIES_AT_ONCE)
        try:
            return [rows for start in starts for rows in self._search(queries[start : start + QUERIES_AT_ONCE], count)]
        except EngineError:
            self._silent_until = time.monotonic() + TRIED_AGAIN
            raise

    def _search(self, queries: Embeddings, count: int) -> list[Integers]:
        """Return the ``count`` nearest rows for each of a few queries."""
        with translating_milvus_errors(self.address):
            found = self.client.search(
                self.address.collection,
                queries.tolist(),
                limit=count,
                anns_field="embedding",
                search_params={"metric_type": "COSINE", "params": {"ef": max(count, OVERFETCH)}},
                consistency_level=EVENTUALLY,
                timeout=SEARCH_SECONDS,
            )
        return [np.array([hit["row"] if "row" in hit else hit["id"] for hit in hits], dtype=np.int64) for hits in found]

    def add(self, rows: Integers, embeddings: Embeddings) -> None:
        """Take in rows with their embeddings."""
        pairs = zip(rows.tolist(), embeddings.tolist(), strict=True)
        entries = [{"row": row, "embedding": embedding} for row, embedding in pairs]
        with translating_milvus_errors(self.address):
            self.client.insert(self.address.collection, entries, timeout=SECONDS)

    def remove(self, rows: Integers) -> None:
        """Remove rows."""
        with translating_milvus_errors(self.address):
            self.client.delete(self.address.collection, ids=rows.tolist(), timeout=SECONDS)

    def rows_between(self, first: int, last: int) -> Integers:
        """Return the rows from the first to the last that the collection answers with."""
        condition = f"row >= {first} and row <= {last}"
        return np.unique(np.array([entry["row"] for entry in self._query(condition, ["row"])], dtype=np.int64))

    def embeddings_of(self, rows: Integers) -> dict[int, Embeddings]:
        """Return row → embedding (D,) for those of the rows that the collection answers with."""
        found = self._query(f"row in {rows.tolist()}", ["row", "embedding"])
        return {entry["row"]: np.array(entry["embedding"], dtype=np.float32) for entry in found}

    def _query(self, condition: str, fields: list[str]) -> list[Any]:
        with translating_milvus_errors(self.address):
            return list(
                self.client.query(
                    self.address.collection,
                    filter=condition,
                    output_fields=fields,
                    limit=MOST_FOUND,
                    consistency_level=EVENTUALLY,
                    timeout=SECONDS,
                )
            )


def open_milvus(setting: str, truth: Truth, dimensions: int) -> MilvusCandidates:
    """Return the candidates of a gallery; raise :class:`GalleryError` for a collection that is not the gallery's."""
    shown, _, last = setting.partition(" ")
    address = parse_milvus(shown)
    fix = f"bring it up to date: obelisk gallery index {quote(truth.name)}"
    client = connect_to_milvus(address, SEARCH_SECONDS)
    if not find_collection(client, address, truth, dimensions, SEARCH_SECONDS):
        raise EngineError("Milvus has no such collection", where=address.shown, fix=fix)
    with truth.reading() as tables:
        newer = count_photos_after(tables, int(last))
        covered = count_reference_photos(tables) - newer
    engine = MilvusCandidates(address, client, last=int(last), count=covered)
    if not engine.still_pays(covered, newer):
        what = f"the collection is {newer:,} photos behind the gallery"
        raise EngineError(what, where=address.shown, fix=fix)
    refuse_other_photos(engine, truth, dimensions)
    return engine


def fill_milvus(text: str, truth: Truth, dimensions: int, progress: Progress) -> str:
    """Give a collection the photos that it lacks, and take away those that are gone; return the gallery's setting.

    The collection is made if there is none. What an interrupted call did is found, and not done again.
    """
    address = parse_milvus(text)
    client = connect_to_milvus(address)
    with truth.reading() as tables:
        total, last = count_reference_photos(tables), last_photo_row(tables)
    if not find_collection(client, address, truth, dimensions):
        make_collection(client, address, truth, dimensions)
    engine = MilvusCandidates(address, client, last=last, count=total)
    with translating_milvus_errors(address):
        client.load_collection(address.collection, timeout=LONGEST_BUILD)
    refuse_other_photos(engine, truth, dimensions)
    reader = truth.reader(dimensions)
    before, done = 0, 0
    wanted = np.empty(0, dtype=np.int64)
    for wanted in read_pages(truth, last):
        progress("filling the collection", done, total)
        there = engine.rows_between(before + 1, int(wanted[-1]))
        if len(gone := np.setdiff1d(there, wanted)):
            engine.remove(gone)
        if len(missing := np.setdiff1d(wanted, there)):
            engine.add(*reader.read(missing.tolist()))
        before, done = int(wanted[-1]), done + len(wanted)
    with translating_milvus_errors(address):
        client.flush(address.collection, timeout=LONGEST_BUILD)
    wait_until_seen(engine, truth, wanted)
    progress("filling the collection", total, total)
    return engine.setting


def read_pages(truth: Truth, last: int) -> Iterator[Integers]:
    """Yield the rows of a gallery up to the last, ascending, some thousand at a time and each time as it is then."""
    before = 0
    while before < last:
        with truth.reading() as tables:
            page = "SELECT row FROM photos WHERE row > ? AND row <= ? ORDER BY row LIMIT ?"
            rows = [row for (row,) in tables.execute(page, (before, last, ROWS_AT_ONCE))]
        if not rows:
            return
        yield np.array(rows, dtype=np.int64)
        before = rows[-1]


def wait_until_seen(engine: MilvusCandidates, truth: Truth, rows: Integers) -> None:
    """Wait until the collection answers with the rows that it was given last, as far as the gallery still has them."""
    until = time.monotonic() + SETTLING
    while len(rows):
        missing = np.setdiff1d(rows, engine.rows_between(int(rows[0]), int(rows[-1])))
        with truth.reading() as tables:
            if not any(tables.execute("SELECT 1 FROM photos WHERE row = ?", (row,)).fetchone() for row in missing):
                return
        if time.monotonic() > until:
            fix = "give the same command again"
            raise EngineError("Milvus does not show what it was given", where=engine.address.shown, fix=fix)
        time.sleep(0.2)


def refuse_other_photos(engine: MilvusCandidates, truth: Truth, dimensions: int) -> None:
    """Raise :class:`GalleryError` if the collection holds other photos under the numbers of the gallery's rows.

    Copies of a gallery have one identity, but numbers of their own.
    """
    with truth.reading() as tables:
        nearest = "SELECT row FROM photos WHERE row >= ? ORDER BY row LIMIT 1"
        spread = np.linspace(0, engine.last, COMPARED).astype(np.int64).tolist()
        found = [tables.execute(nearest, (row,)).fetchone() for row in spread]
    sample = np.unique(np.array([row for (row,) in filter(None, found) if row <= engine.last], dtype=np.int64))
    rows, embeddings = truth.reader(dimensions).read(sample.tolist())
    there = engine.embeddings_of(rows) if len(rows) else {}
    for row, embedding in zip(rows.tolist(), embeddings, strict=True):
        if row in there and not np.allclose(there[row], embedding, atol=CLOSE):
            what = "the collection holds the photos of a copy of this gallery, whose rows have other numbers"
            raise GalleryError(what, where=engine.address.shown, fix="name another collection")


def connect_to_milvus(address: MilvusAddress, seconds: float = SECONDS) -> Any:
    """Return a client; raise :class:`EngineError` if nobody answers in time."""
    with translating_milvus_errors(address):
        client = import_module("pymilvus").MilvusClient
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints what it raises as well
        return client(uri=address.uri, token=address.token, timeout=seconds)


def find_collection(
    client: Any, address: MilvusAddress, truth: Truth, dimensions: int, seconds: float = SECONDS
) -> bool:
    """Return whether there is the collection; raise :class:`GalleryError` if it is not the gallery's."""
    with translating_milvus_errors(address):
        if not client.has_collection(address.collection, timeout=seconds):
            return False
        found = client.describe_collection(address.collection, timeout=seconds)
    said = str(found.get("description", ""))
    vectors = [entry for entry in found["fields"] if entry["name"] == "embedding"]
    what = ""
    if not said.startswith(DESCRIPTION) or not vectors:
        what = "the collection is of another program, and stays as it is"
    elif int(vectors[0]["params"]["dim"]) != dimensions:
        what = f"the collection has {vectors[0]['params']['dim']} dimensions, the gallery {dimensions}"
    elif said != describe_owner(truth):
        what = "the collection is of another gallery, and stays as it is"
    if what:
        raise GalleryError(what, where=address.shown, fix="name another collection")
    return True


def make_collection(client: Any, address: MilvusAddress, truth: Truth, dimensions: int) -> None:
    """Make an empty collection for the embeddings of a gallery."""
    kinds = import_module("pymilvus").DataType
    with translating_milvus_errors(address):
        fields = client.create_schema(auto_id=False, enable_dynamic_field=False, description=describe_owner(truth))
        fields.add_field("row", kinds.INT64, is_primary=True)
        fields.add_field("embedding", kinds.FLOAT_VECTOR, dim=dimensions)
        index = client.prepare_index_params()
        index.add_index("embedding", index_type="HNSW", metric_type="COSINE", params=HNSW)
        client.create_collection(
            address.collection,
            schema=fields,
            index_params=index,
            consistency_level=EVENTUALLY,
            timeout=SECONDS,
        )


def describe_owner(truth: Truth) -> str:
    """Return what a collection's description says if it is the gallery's."""
    with truth.reading() as tables:
        return DESCRIPTION + schema.read_identity(tables)


@contextmanager
def translating_milvus_errors(address: MilvusAddress) -> Iterator[None]:
    """Turn the errors of Milvus's client into ours, in one line."""
    theirs = (import_module("pymilvus").MilvusException, import_module("grpc").RpcError, OSError, ValueError)
    try:
        yield
    except theirs as error:
        said = " ".join(str(getattr(error, "message", "") or error).split())[:300]
        for secret in (address.token, address.token.partition(":")[2]):
            said = said.replace(secret, "…") if secret else said
        if re.search(r"auth|permission|privilege", said, re.IGNORECASE):
            fix = f"put user:password into {TOKEN}"
            raise GalleryError(f"Milvus refuses the login: {said}", where=address.shown, fix=fix) from None
        what = "Milvus did not answer in time" if "DEADLINE_EXCEEDED" in said else f"Milvus can't go on: {said}"
        raise EngineError(what, where=address.shown, fix=WITHOUT) from None
