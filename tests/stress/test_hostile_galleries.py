"""Galleries beside which a strange log lies, and galleries that somebody prepared: many of each."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import shutil
import sqlite3
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import faiss
import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, ObeliskError
from obelisk.gallery import Gallery, check_gallery, check_index, database, first_look
from obelisk.gallery.ann import indexed
from obelisk.gallery.ann.index_file import CHECKSUM, INDEX, MAGIC

pytestmark = pytest.mark.stress

D = 64
WRITERS = 4
KILLS = 300
DATABASE, LOG = "gallery.sqlite", "gallery.sqlite-wal"
CPU_SECONDS = 5.0
MEMORY = 512 << 20  # bytes above those of an idle process
ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT"


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that have all modules at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["obelisk.gallery", "obelisk.gallery.ann.indexed", "faiss", "pytest"])
    return context


@pytest.fixture
def bundle(tmp_path: Path, write_any_bundle: Callable[..., Bundle]) -> Bundle:
    return write_any_bundle(tmp_path / "model", b"none", dimensions=D)


def add_until_killed(path: Path, writer: int, acknowledged: Path) -> None:
    """Open the gallery and add two photos, again and again; note them in a file once they are acknowledged."""
    with acknowledged.open("a") as notes:
        notes.write("started\n")
        notes.flush()
        for number in range(1_000_000):
            names = [f"{writer} {number} {half}" for half in "ab"]
            rows = np.random.default_rng([writer, number]).normal(size=(2, D))
            try:
                Gallery.open(path).add(rows, [f"place {writer % 5}"] * 2, names)
            except GalleryError:
                notes.write("refused\n")
            else:
                notes.write("".join(f"added {name}\n" for name in names))
            notes.flush()


def hold_open(path: Path, ready: Connection) -> None:
    """Keep the log from being removed, and fold it in now and then, as a reader that stays does."""
    with closing(sqlite3.connect(path / DATABASE, isolation_level=None)) as connection:
        connection.execute("SELECT count(*) FROM photos").fetchone()
        ready.send(True)
        while True:
            time.sleep(0.2)
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


class Killers:
    """Starts writers and kills them at random moments; counts the kills and what was acknowledged."""

    def __init__(self, processes: ForkServerContext, notes: Path) -> None:
        self.processes, self.notes = processes, notes
        self.kills = self.refusals = self.started = 0
        self.rng = random.Random(0)

    def run(self, path: Path, seconds: float) -> list[str]:
        """Let writers write to a gallery for up to so long, kill them all; return the photos they acknowledged."""
        outputs = [self.notes / str(self.started + number) for number in range(WRITERS)]
        writers = []
        for output in outputs:
            self.started += 1
            arguments = (path, self.started, output)
            writers.append(self.processes.Process(target=add_until_killed, args=arguments))
            writers[-1].start()
        for writer, output in zip(writers, outputs, strict=True):
            deadline = time.monotonic() + 60
            while not output.exists() and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(self.rng.uniform(0, seconds / WRITERS))
            writer.kill()
            writer.join(60)
            assert writer.exitcode == -9, "it ended by itself"
            self.kills += 1
        lines = [line for output in outputs for line in output.read_text().splitlines()]
        self.refusals += lines.count("refused")
        return [line.removeprefix("added ") for line in lines if line.startswith("added ")]

    def run_with_reader(self, path: Path, seconds: float) -> list[str]:
        """The same beside a reader that is killed last, so that the log stays."""
        ready, theirs = self.processes.Pipe()
        holder = self.processes.Process(target=hold_open, args=(path, theirs))
        holder.start()
        assert ready.poll(60)
        try:
            return self.run(path, seconds)
        finally:
            holder.kill()
            holder.join(60)


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(path.glob(f"{DATABASE}*"))}


def lay(path: Path, files: dict[str, bytes]) -> None:
    for file in path.glob(f"{DATABASE}*"):
        file.unlink()
    for name, data in files.items():
        (path / name).write_bytes(data)


def names_in(path: Path) -> set[str]:
    with database.reading(path) as connection:
        return {name for (name,) in connection.execute("SELECT id FROM photos")}


def foreign_logs(folder: Path, city: Path, bundle: Bundle) -> Iterator[bytes]:
    """Yield logs of another gallery, of a copy that went its own way, and of another program."""
    for number, path in enumerate((folder / "another", folder / "copy")):
        if number:
            shutil.copytree(city, path)
            gallery = Gallery.open(path)
        else:
            gallery = Gallery.create(path, bundle)
        with closing(sqlite3.connect(path / DATABASE)) as other:
            other.execute("SELECT count(*) FROM photos").fetchone()
            for count in range(20):
                gallery.add(np.random.default_rng(count).normal(size=(1, D)), ["Dome"], [f"strange {count}"])
            yield (path / LOG).read_bytes()
    with closing(sqlite3.connect(folder / "browser", isolation_level=None)) as other:
        other.executescript("PRAGMA journal_mode = WAL; CREATE TABLE cookies (name TEXT, value TEXT)")
        other.executemany("INSERT INTO cookies VALUES (?, ?)", [(str(n), "x" * 3000) for n in range(100)])
        yield Path(f"{folder / 'browser'}-wal").read_bytes()


def test_no_strange_log_costs_a_photo_in_300_kills(
    tmp_path: Path, bundle: Bundle, processes: ForkServerContext
) -> None:
    city = Gallery.create(tmp_path / "city", bundle).path
    Gallery.open(city).add(np.eye(D)[:1], ["Dome"], ["first"])
    foreign = list(foreign_logs(tmp_path, city, bundle))
    notes = tmp_path / "notes"
    notes.mkdir()
    killers = Killers(processes, notes)
    acknowledged = {"first"}
    backups: list[bytes] = []
    outcomes: Counter[str] = Counter()
    for cycle in range(1000):
        if killers.kills >= KILLS:
            break
        assert names_in(city) >= acknowledged, "an acknowledged photo was lost"  # and folds the log in
        assert check_gallery(city) == []
        backups.append((city / DATABASE).read_bytes())
        acknowledged |= set(killers.run_with_reader(city, 1.5))
        real = {name: data for name, data in files_of(city).items() if not name.endswith("-shm")}
        assert len(real[LOG]) > 5000, "the log was to stay"

        strange = [{**real, LOG: foreign[cycle % len(foreign)]}]
        if len(backups) > 1:
            strange.append({**real, DATABASE: killers.rng.choice(backups[:-1])})
        for files in strange:
            lay(city, files)
            assert killers.run(city, 0.6) == []
            assert files_of(city) == files, "a refusal changed a file"
            outcomes["foreign or stale"] += 1
        lay(city, real)

        outcomes[try_cut_log(tmp_path / "cut", city, real, killers)] += 1
    assert names_in(city) >= acknowledged
    print(
        f"{killers.kills} writers killed, {killers.refusals} refusals, {len(acknowledged)} photos acknowledged, 0 lost;"
        f" {dict(outcomes)}"
    )


def try_cut_log(place: Path, city: Path, real: dict[str, bytes], killers: Killers) -> str:
    """Cut the log of a copy anywhere: the copy is refused and stays as it is, or holds whole additions, and goes on."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(city, place)
    files = {**real, LOG: real[LOG][: killers.rng.randrange(len(real[LOG]))]}
    lay(place, files)
    added = killers.run(place, 0.6)
    if files_of(place) == files:
        assert added == []
        try:
            names_in(place)
        except GalleryError:
            assert files_of(place) == files
            return "cut and refused"
    assert names_in(place) >= set(added)
    counts = Counter(name.rsplit(" ", 1)[0] for name in names_in(place) - {"first"})
    assert set(counts.values()) <= {2}, "half an addition is there"
    assert check_gallery(place) == []
    return "cut and used up to there"


def replace_table(table: str, view: str) -> str:
    return f"DROP TABLE {table}; CREATE VIEW {table} AS {view}"


SCRIPTS = [
    f"CREATE TRIGGER t AFTER INSERT ON photos BEGIN {ENDLESS} max(n) FROM r; END",
    "CREATE TRIGGER t AFTER INSERT ON photos BEGIN DELETE FROM embeddings; END",
    "CREATE TRIGGER t AFTER UPDATE ON about BEGIN DELETE FROM photos; END",
    f"CREATE TRIGGER t INSTEAD OF INSERT ON v BEGIN {ENDLESS} max(n) FROM r; END",
    replace_table("landmarks", f"{ENDLESS} n id, 'x' name, 1 latitude, 1 longitude, '[]' links, '[]' origins FROM r"),
    replace_table("photos", "SELECT 1 row, hex(zeroblob(300000000)) id, 1 landmark_id, '' content_hash, '' source"),
    replace_table("embeddings", "SELECT 1 row, zeroblob(900000000) vector"),
    replace_table("about", f"{ENDLESS} n key, 'x' value FROM r"),
    "ALTER TABLE photos ADD COLUMN g AS (hex(zeroblob(50000000)))",
    "CREATE INDEX i ON photos (hex(zeroblob(50000)))",
    "CREATE VIRTUAL TABLE v USING fts5(text)",
    "CREATE VIRTUAL TABLE v USING rtree(id, a, b)",
    "CREATE TABLE notes (text)",
    "DROP INDEX photos_by_content",
    "DROP TABLE embeddings",
    "DELETE FROM about",
    "UPDATE about SET value = '65537' WHERE key = 'dimensions'",
    "UPDATE about SET value = '-1' WHERE key = 'dimensions'",
    "UPDATE about SET value = hex(zeroblob(1000000))",
    "UPDATE about SET value = zeroblob(9) WHERE key = 'fingerprint'",
    "UPDATE about SET value = '9' || hex(zeroblob(3000)) WHERE key = 'dimensions'",
    "UPDATE about SET value = '99999999999999999999999' WHERE key = 'revision'",
    "UPDATE photos SET id = x'ff00' || row",
    "UPDATE photos SET landmark_id = 'x'",
    "UPDATE photos SET landmark_id = 9e18",
    "UPDATE photos SET source = hex(zeroblob(50000))",
    "UPDATE photos SET source = zeroblob(100000000) WHERE row = 1",
    "UPDATE landmarks SET name = x'00'",
    "UPDATE landmarks SET name = hex(zeroblob(5000000))",
    "UPDATE landmarks SET name = CAST(x'ff' AS TEXT)",
    "UPDATE landmarks SET links = '[' || replace(hex(zeroblob(1000000)), '0', '[')",
    "UPDATE landmarks SET latitude = 9e999",
    "UPDATE embeddings SET vector = zeroblob(100000000) WHERE row = 1",
    "UPDATE embeddings SET vector = 1",
    "UPDATE embeddings SET vector = zeroblob(128)",
    "UPDATE sqlite_sequence SET seq = 9223372036854775807",
    "UPDATE sqlite_sequence SET seq = 'x'",
    "INSERT INTO photos (row, id, landmark_id, content_hash, source) VALUES (9223372036854775807, 'z', 1, '', '')",
    "UPDATE sqlite_schema SET rootpage = 2 WHERE name = 'photos'",
    "UPDATE sqlite_schema SET rootpage = 99999 WHERE name = 'photos_by_content'",
    "UPDATE sqlite_schema SET name = 'x' WHERE name = 'about'",
    "UPDATE sqlite_schema SET sql = NULL",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 1",
    "PRAGMA application_id = 0",
]


def use_gallery(path: Path, answer: Connection) -> None:
    """Do all that commands do with a gallery; send their outcomes, the most processor time, and memory above idle."""
    indexed.EXACT_UP_TO = 1000  # type: ignore[misc]
    first_look.SETTLED = 0.0  # type: ignore[misc]
    faiss.omp_set_num_threads(1)  # those that wait for work on a busy machine count as processor time
    before = resource.getrusage(resource.RUSAGE_SELF)
    longest = 0.0
    uses: dict[str, Callable[[], object]] = {
        "check": lambda: check_gallery(path),
        "index": lambda: check_index(path),
        "search": lambda: Gallery.open(path).search(np.eye(D)[:3], 2),
        "photos": lambda: Gallery.open(path).photos,
        "add": lambda: Gallery.open(path).add(np.eye(D)[:1], ["Dome"], ["new"]),
        "rename": lambda: Gallery.open(path).rename(1, "Arch"),
    }
    outcomes: dict[str, str] = {}
    for name, use in uses.items():
        begun = time.process_time()
        try:
            use()
            outcomes[name] = "fine"
        except ObeliskError as error:
            outcomes[name] = f"refused: {error}"[:120]
        except BaseException as error:
            outcomes[name] = f"strange: {error!r}"[:200]
        longest = max(longest, time.process_time() - begun)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss
    answer.send((outcomes, longest, grown << 10))


def judge(processes: ForkServerContext, path: Path) -> tuple[dict[str, str], float, int]:
    ours, theirs = processes.Pipe()
    process = processes.Process(target=use_gallery, args=(path, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(120), "it did not end"
        return ours.recv()
    finally:
        process.kill()
        process.join(60)


def prepare(path: Path, script: str, *, in_log: bool) -> None:
    """Run a script on a gallery's database; leave its pages in the log if asked to."""
    with closing(sqlite3.connect(path / DATABASE, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        try:
            connection.executescript(script)
        except sqlite3.DatabaseError as error:
            pytest.fail(f"{script}: {error}")
        files = {file.name: file.read_bytes() for file in path.glob(f"{DATABASE}*") if not file.name.endswith("-shm")}
    if in_log:
        lay(path, files)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flip, zero, repeat or cut some bytes, most of them near the start of a page."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 12)):
        start = rng.randrange(0, len(changed) - 64) & ~4095 | rng.choice([rng.randrange(120), rng.randrange(4096)])
        length = rng.choice([1, 2, 4, 64])
        fill = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])
        changed[start : start + length] = fill
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.1 else changed)


def forge_index(data: bytes, rng: random.Random) -> bytes:
    """Change a number of the header or some of the arrays, and sign the file again."""
    line, body = data[len(MAGIC) : -CHECKSUM].split(b"\n", 1)
    header = json.loads(line)
    if rng.random() < 0.7:
        name = rng.choice(list(header))
        header[name] = rng.choice(
            [0, 1, 2, 7, 64, 2**16, 2**31, 2**40, 2**63, -1, 0.5, 1e300, None, "x", header[name] * 2]
        )
        body = body + bytes(rng.choice([0, 4096]))
    else:
        changed = bytearray(body)
        for _ in range(50):
            start = rng.randrange(len(changed) - 8)
            changed[start : start + 8] = rng.choice([bytes(8), b"\xff" * 8, rng.randbytes(8)])
        body = bytes(changed)
    signed = MAGIC + json.dumps(header).encode() + b"\n" + body
    return signed + zlib.crc32(signed).to_bytes(CHECKSUM, "little")


def test_hostile_databases_and_indexes_end_in_clean_errors(
    tmp_path: Path, bundle: Bundle, processes: ForkServerContext
) -> None:
    rng = random.Random(0)
    sound = Gallery.create(tmp_path / "sound", bundle)
    sound.add(
        np.random.default_rng(0).normal(size=(300, D)),
        [f"place {n % 9}" for n in range(300)],
        list(map(str, range(300))),
    )
    large = Gallery.open(shutil.copytree(sound.path, tmp_path / "large"))
    count = 1500
    large.add(np.random.default_rng(1).normal(size=(count, D)), ["Dome"] * count, [f"more {n}" for n in range(count)])
    judge(processes, large.path)
    index = (large.path / INDEX).read_bytes()

    def cases() -> Iterator[tuple[str, Callable[[Path], object], Path]]:
        for script in SCRIPTS:
            for in_log in (False, True):
                setup = "CREATE VIEW v AS SELECT 1; " if " ON v " in script else ""
                yield script[:60], lambda path, s=setup + script, w=in_log: prepare(path, s, in_log=w), sound.path
        data = (sound.path / DATABASE).read_bytes()
        for number in range(60):
            yield f"mutant {number}", lambda path, d=mutate(data, rng): (path / DATABASE).write_bytes(d), sound.path
        for number in range(40):
            yield f"index {number}", lambda path, d=forge_index(index, rng): (path / INDEX).write_bytes(d), large.path
        yield "a sparse index", lambda path: os.truncate(path / INDEX, 1 << 36), large.path

    outcomes: Counter[str] = Counter()
    worst_seconds, worst_memory = (0.0, ""), (0, "")
    place = tmp_path / "case"
    for name, change, base in cases():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)
        change(place)
        found, seconds, memory = judge(processes, place)
        print(f"{name}: {seconds:.2f} s, {memory >> 20} MiB", flush=True)
        strange = {use: text for use, text in found.items() if text.startswith("strange")}
        assert not strange, (name, strange)
        outcomes.update(text.split(":")[0] for text in found.values())
        worst_seconds, worst_memory = max(worst_seconds, (seconds, name)), max(worst_memory, (memory, name))
        outcomes["cases"] += 1
    print(f"{dict(outcomes)}; at most {worst_seconds} of processor time, {worst_memory} bytes above idle")
    assert worst_seconds[0] <= CPU_SECONDS, worst_seconds
    assert worst_memory[0] <= MEMORY, worst_memory
