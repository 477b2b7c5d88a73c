"""What lies beside a database when it is opened: its own log is used, any other is refused, and no byte is changed."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, ObeliskError
from obelisk.gallery import Gallery, check_gallery, database, first_look, open_truth
from obelisk.gallery.columns import FORMAT
from obelisk.gallery.pages import parse_file_header, read_rows
from obelisk.gallery.write_ahead_log import read_commits

D = 24
WAL = "gallery.sqlite-wal"
GOLDEN = Path(__file__).parent / "golden"


class Killed:
    """A gallery whose writer never closes it; what a kill would leave can be copied at any moment."""

    def __init__(self, gallery: Gallery, opened: ExitStack) -> None:
        self.gallery = gallery
        self.other = opened.enter_context(
            closing(sqlite3.connect(gallery.path / "gallery.sqlite", isolation_level=None))
        )
        self.other.execute("SELECT * FROM about").fetchall()

    def add(self, count: int = 1) -> None:
        """Add so many photos in transactions of their own."""
        for _ in range(count):
            number = len(self.gallery)
            rows = np.random.default_rng(number).normal(size=(1, D))
            self.gallery.add(rows, [f"place {number % 3}"], [f"photo {number}"])

    def fold(self) -> None:
        """Fold the log in as far as it is, and leave it there."""
        self.other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def restart(self) -> None:
        """Fold the log in and begin a new one."""
        self.other.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def files(self, *, log: bool = True) -> dict[str, bytes]:
        """Return the files of the database as they are now."""
        names = ["gallery.sqlite", *([WAL] if log else [])]
        return {name: (self.gallery.path / name).read_bytes() for name in names}


@pytest.fixture(autouse=True)
def refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes to these galleries, so that there is nothing to wait for."""
    monkeypatch.setattr(first_look, "SETTLED", 0.0)


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def killed(tmp_path: Path, bundle: Bundle, opened: ExitStack) -> Killed:
    gallery = Gallery.create(tmp_path / "killed", bundle)
    gallery.add(np.eye(D)[:2], ["place 0", "place 1"], ["photo 0", "photo 1"])
    return Killed(gallery, opened)


@pytest.fixture
def lay(killed: Killed, tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Return a function that makes a gallery of a database and a log that were brought together."""

    def lay_files(files: dict[str, bytes]) -> Path:
        folder = tmp_path / "city"
        shutil.copytree(killed.gallery.path / "model", folder / "model")
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder

    return lay_files


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut(files: dict[str, bytes], keep: float | int) -> dict[str, bytes]:
    """Cut the log to a share of its bytes, or to so many bytes."""
    log = files[WAL]
    return {**files, WAL: log[: int(keep * len(log)) if isinstance(keep, float) else keep]}


def own_log(killed: Killed) -> tuple[dict[str, bytes], int]:
    killed.add(3)
    return killed.files(), 5


def folded_in_part(killed: Killed) -> tuple[dict[str, bytes], int]:
    killed.add(3)
    killed.fold()
    database_then = killed.files()["gallery.sqlite"]
    killed.add(2)
    return {**killed.files(), "gallery.sqlite": database_then}, 7


def torn_while_folded(killed: Killed) -> tuple[dict[str, bytes], int]:
    before = killed.files()["gallery.sqlite"]
    killed.add(40)
    killed.fold()
    files = killed.files()
    pages = 3 * 4096  # are of the end, the others of the beginning
    return {**files, "gallery.sqlite": files["gallery.sqlite"][:pages] + before[pages:]}, 42


def log_begun_anew(killed: Killed) -> tuple[dict[str, bytes], int]:
    killed.add(5)
    killed.restart()
    killed.add(2)
    return killed.files(), 9


def backup_of_where_the_log_begins(killed: Killed) -> tuple[dict[str, bytes], int]:
    backup = killed.files(log=False)
    killed.add(3)
    return {**killed.files(), **backup}, 5


def cut_log(killed: Killed) -> tuple[dict[str, bytes], int]:
    killed.add(1)
    length = len(killed.files()[WAL])
    killed.add(2)
    return cut(killed.files(), length + 100), 3


def log_without_a_whole_transaction(killed: Killed) -> tuple[dict[str, bytes], int]:
    killed.add(1)
    return cut(killed.files(), 32 + 4096 + 24 + 100), 2


def log_of_zeros(killed: Killed) -> tuple[dict[str, bytes], int]:
    return {**killed.files(log=False), WAL: bytes(50_000)}, 2


def changed_by_another_program(killed: Killed) -> tuple[dict[str, bytes], int]:
    killed.other.execute("UPDATE landmarks SET latitude = 1.5 WHERE id = 1")
    return killed.files(), 2


def vacuumed_by_another_program(killed: Killed) -> tuple[dict[str, bytes], int]:
    killed.add(3)
    killed.gallery.remove(photos=["photo 2"])
    killed.other.execute("VACUUM")
    return killed.files(), 4


def older_format(number: int) -> Callable[[Killed], tuple[dict[str, bytes], int]]:
    """The log of a writer that was killed in the first change to a gallery of an older format, or after two."""

    def made(killed: Killed) -> tuple[dict[str, bytes], int]:
        with ExitStack() as stack:
            path = killed.gallery.path / "golden"
            shutil.copytree(GOLDEN / f"format-{number}", path)
            old = Killed(Gallery.open(path), stack)
            for name in ("x", "y"):
                old.gallery.add(np.eye(8)[[6]], ["Dôme"], [name])
            return old.files(), 7

    made.__name__ = f"older_format_{number}"
    return made


def written_by_format_2(killed: Killed) -> tuple[dict[str, bytes], int]:
    """The log of a version that names no states: it counts revisions."""
    killed.other.execute("DELETE FROM about WHERE key IN ('state', 'state_before', 'identity')")
    killed.restart()
    backup = killed.files(log=False)
    for number in (3, 4):
        killed.other.execute("BEGIN")
        killed.other.execute("UPDATE about SET value = ? WHERE key = 'revision'", (str(number - 1),))
        killed.other.execute(
            "INSERT INTO photos (id, landmark_id, content_hash, source) VALUES (?, 1, '', '')", (number,)
        )
        killed.other.execute("INSERT INTO embeddings SELECT max(row), zeroblob(48) FROM photos")
        killed.other.execute("COMMIT")
    return {**killed.files(), **backup}, 4


OWN = [
    own_log,
    folded_in_part,
    torn_while_folded,
    log_begun_anew,
    backup_of_where_the_log_begins,
    cut_log,
    log_without_a_whole_transaction,
    log_of_zeros,
    changed_by_another_program,
    vacuumed_by_another_program,
    *map(older_format, range(1, FORMAT)),
    written_by_format_2,
]


@pytest.mark.parametrize("make", OWN, ids=lambda make: make.__name__)
def test_what_is_whole_in_a_log_of_its_own_is_there(
    killed: Killed, lay: Callable[[dict[str, bytes]], Path], make: Callable[[Killed], tuple[dict[str, bytes], int]]
) -> None:
    files, photos = make(killed)
    folder = lay(files)
    with database.reading(folder) as connection:
        assert connection.execute("SELECT count(*) FROM photos").fetchone() == (photos,)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert [path.name for path in folder.glob("gallery*")] == ["gallery.sqlite"], "the log was folded in"


def older_backup(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    backup = killed.files(log=False)
    killed.add(3)
    killed.restart()
    killed.add(2)
    return {**killed.files(), **backup}


def older_backup_of_the_same_size(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    backup = killed.files(log=False)
    killed.gallery.rename(1, "Dome")
    killed.restart()
    killed.gallery.rename(1, "Gate")
    return {**killed.files(), **backup}


def newer_backup(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    killed.add(3)
    log = {WAL: killed.files()[WAL]}
    killed.restart()
    killed.add(2)
    killed.restart()
    return {**killed.files(log=False), **log}


def cut_after_folding(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    killed.add(3)
    length = len(killed.files()[WAL])
    killed.add(20)
    killed.fold()
    return cut(killed.files(), length)


def log_of_a_copy_that_went_its_own_way(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    copy = Path(shutil.copytree(killed.gallery.path, killed.gallery.path.with_name("copy")))
    killed.add(2)
    with ExitStack() as stack:
        Gallery.open(copy).rename(2, "Arch")
        other = Killed(Gallery.open(copy), stack)
        other.add(2)
        return {**killed.files(log=False), WAL: other.files()[WAL]}


def log_of_another_gallery(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    with ExitStack() as stack:
        other = Killed(Gallery.create(killed.gallery.path.with_name("other"), bundle), stack)
        other.add(3)
        return {**killed.files(log=False), WAL: other.files()[WAL]}


def log_of_another_program(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    path = killed.gallery.path.with_name("browser.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript("PRAGMA journal_mode = WAL; CREATE TABLE cookies (name TEXT, value TEXT);")
        other.executemany("INSERT INTO cookies VALUES (?, ?)", [(f"n{number}", "x" * 500) for number in range(100)])
        return {**killed.files(log=False), WAL: Path(f"{path}-wal").read_bytes()}


def log_of_pages_of_another_size(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    path = killed.gallery.path.with_name("small.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript("PRAGMA page_size = 1024; PRAGMA journal_mode = WAL; CREATE TABLE a (b)")
        return {**killed.files(log=False), WAL: Path(f"{path}-wal").read_bytes()}


def log_with_a_damaged_header(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    killed.add(3)
    files = killed.files()
    return {**files, WAL: files[WAL][:20] + bytes([files[WAL][20] ^ 1]) + files[WAL][21:]}


def log_of_text(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    return {**killed.files(log=False), WAL: b"dear diary\n" * 1000}


def schema_in_the_log(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    killed.add(1)
    killed.other.execute("CREATE TRIGGER grow AFTER INSERT ON photos BEGIN DELETE FROM embeddings; END")
    return killed.files()


def format_of_the_log_is_newer(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    killed.add(1)
    killed.other.execute("PRAGMA user_version = 99")
    return killed.files()


def journal_of_another_program(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    return {**killed.files(log=False), "gallery.sqlite-journal": bytes.fromhex("d9d505f920a163d7") + bytes(4000)}


def shared_memory(killed: Killed, bundle: Bundle) -> dict[str, bytes]:
    return {
        **older_backup(killed, bundle),
        "gallery.sqlite-shm": (killed.gallery.path / "gallery.sqlite-shm").read_bytes(),
    }


REFUSED = {
    older_backup: "the log beside the database is of another database, or of another state of it",
    older_backup_of_the_same_size: "of another state",
    newer_backup: "of another state",
    cut_after_folding: "of another state",
    log_of_a_copy_that_went_its_own_way: "of another state",
    log_of_another_gallery: "of another database",
    log_of_another_program: "of another database",
    log_of_pages_of_another_size: "pages of 1024 bytes, the database 4096 .* put a backup back",
    log_with_a_damaged_header: "its header is damaged",
    log_of_text: "it has no header",
    schema_in_the_log: "it has the trigger `grow`",
    format_of_the_log_is_newer: "format 99 is newer",
    journal_of_another_program: "another program was interrupted",
    shared_memory: "of another state",
}


@pytest.mark.parametrize(("make", "text"), REFUSED.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_refused_log_changes_nothing(
    killed: Killed,
    bundle: Bundle,
    lay: Callable[[dict[str, bytes]], Path],
    make: Callable[[Killed, Bundle], dict[str, bytes]],
    text: str,
) -> None:
    about = database.read_about(killed.gallery.path)
    folder = lay(make(killed, bundle))
    before = contents(folder)
    gallery = Gallery(open_truth(folder), about)
    for use in (
        lambda: Gallery.open(folder),
        lambda: check_gallery(folder),
        lambda: gallery.add(np.eye(D)[:1], ["Arch"], ["new"]),
        gallery.references,
    ):
        with pytest.raises(GalleryError, match=text):
            use()
        assert contents(folder) == before


def without_a_model(folder: Path) -> None:
    shutil.rmtree(folder / "model")


def with_a_damaged_model(folder: Path) -> None:
    (folder / "model" / "model.onnx").write_bytes(b"?")


def without_a_database(folder: Path) -> None:
    (folder / "gallery.sqlite").unlink()


def of_text(folder: Path) -> None:
    (folder / "gallery.sqlite").write_bytes(b"dear diary\n" * 1000)


@pytest.mark.parametrize(
    "spoil", [without_a_model, with_a_damaged_model, without_a_database, of_text], ids=lambda spoil: spoil.__name__
)
def test_a_refused_gallery_keeps_its_log(
    killed: Killed, lay: Callable[[dict[str, bytes]], Path], spoil: Callable[[Path], None]
) -> None:
    folder = lay(own_log(killed)[0])
    spoil(folder)
    before = contents(folder)
    with pytest.raises(ObeliskError):
        Gallery.open(folder).load_bundle()
    assert contents(folder) == before


def test_a_half_built_gallery_is_refused_with_its_log(killed: Killed, lay: Callable[..., Path]) -> None:
    killed.other.execute("UPDATE about SET value = '0' WHERE key = 'complete'")
    folder = lay(killed.files())
    before = contents(folder)
    with pytest.raises(GalleryError, match="only half-built"):
        Gallery.open(folder)
    assert contents(folder) == before


def test_the_advice_about_a_strange_log_works(killed: Killed, bundle: Bundle, lay: Callable[..., Path]) -> None:
    folder = lay(older_backup(killed, bundle))
    with pytest.raises(GalleryError, match=r"move it away, `mv .*gallery.sqlite-wal .*gallery.sqlite-shm ELSEWHERE`"):
        Gallery.open(folder)
    (folder / WAL).rename(folder / "away")
    assert len(Gallery.open(folder)) == 2


def test_a_log_lies_beside_the_file_that_a_link_leads_to(
    killed: Killed, bundle: Bundle, lay: Callable[..., Path], tmp_path: Path
) -> None:
    folder = lay(older_backup(killed, bundle))
    (tmp_path / "store").mkdir()
    for name in ("gallery.sqlite", WAL):
        (folder / name).rename(tmp_path / "store" / name)
    (folder / "gallery.sqlite").symlink_to(tmp_path / "store" / "gallery.sqlite")
    with pytest.raises(GalleryError, match="of another state"):
        Gallery.open(folder)
    (tmp_path / "store" / WAL).unlink()
    assert len(Gallery.open(folder)) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_log_that_is_no_file_is_refused(killed: Killed, lay: Callable[..., Path]) -> None:
    folder = lay(killed.files(log=False))
    os.mkfifo(folder / WAL)
    with pytest.raises(GalleryError, match="no ordinary file"):
        Gallery.open(folder)


def test_pages_and_logs_are_read_as_sqlite_reads_them(killed: Killed) -> None:
    rng = random.Random(0)
    for _ in range(30):
        killed.other.execute(
            "INSERT OR REPLACE INTO about VALUES (?, ?)", (f"k{rng.randrange(9)}", "é" * rng.randrange(150))
        )
    log, file = killed.files()[WAL], killed.files()["gallery.sqlite"]
    header = parse_file_header(file[:100])
    assert header
    commits = read_commits(io.BytesIO(log), header.page_size)
    assert len(commits) == 30
    latest = {number: offset for commit in commits for number, offset in commit.items()}
    assert set(latest) == {
        number for (number,) in killed.other.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'about'")
    }

    def read(number: int) -> bytes:
        data, offset = (log, latest[number]) if number in latest else (file, (number - 1) * 4096)
        return data[offset : offset + 4096]

    for name, root in killed.other.execute(
        "SELECT name, rootpage FROM sqlite_schema WHERE name IN ('about', 'folders')"
    ):
        expected = killed.other.execute(f"SELECT * FROM {name}").fetchall()
        assert [tuple(row) for row in read_rows(read, root)] == expected
    schema = killed.other.execute("SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema").fetchall()
    assert [tuple(row) for row in read_rows(read, 1)] == schema
    for size in range(0, len(log), 1111):  # a log that was cut anywhere holds a prefix
        assert read_commits(io.BytesIO(log[:size] if size > 32 else b""), 4096) == [
            commit for commit in commits if max(commit.values()) + 4096 <= size
        ]


def test_damaged_pages_are_values_errors_only(killed: Killed) -> None:
    page = killed.files()["gallery.sqlite"][:4096]
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = np.frombuffer(page, np.uint8).copy()
        damaged[rng.integers(100, 400, size=4)] = rng.integers(0, 256, size=4)
        damaged[rng.integers(3000, 4096, size=8)] = rng.integers(0, 256, size=8)
        try:
            list(read_rows(lambda number, data=damaged.tobytes(): data, 1))
        except ValueError:
            continue


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_long_statement(killed: Killed, number: signal.Signals) -> None:
    class Stopped(BaseException):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stopped

    endless = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 2000000000) SELECT max(n) FROM r"
    before = signal.signal(number, stop)
    timer = threading.Timer(0.2, os.kill, [os.getpid(), number])
    timer.start()
    try:
        with pytest.raises(Stopped), database.reading(killed.gallery.path) as connection:
            connection.execute(endless).fetchone()
        with database.reading(killed.gallery.path) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        timer.cancel()
        signal.signal(number, before)


def test_a_log_that_is_folded_in_during_the_look_is_no_error(
    killed: Killed, lay: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay(killed.files(log=False))
    monkeypatch.setattr(first_look, "SETTLED", 0.05)
    look, left = first_look.holds_bytes, ["seen once"]
    monkeypatch.setattr(
        first_look, "holds_bytes", lambda path: bool(left.pop()) if left and path.name == WAL else look(path)
    )
    assert len(Gallery.open(folder)) == 2


@pytest.mark.parametrize("page", [0, -5, 1 << 62])
def test_a_root_page_that_no_file_has_is_damage(killed: Killed, lay: Callable[..., Path], page: int) -> None:
    folder = lay(killed.files(log=False))
    with closing(sqlite3.connect(folder / "gallery.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = 'about'", (page,))
    with pytest.raises(GalleryError):
        Gallery.open(folder)
