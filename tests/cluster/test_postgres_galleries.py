"""A gallery in PostgreSQL is the same gallery as one in a folder, whatever is done to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psycopg
import pytest
from tests.cluster.conftest import DIMENSIONS, Server

from obelisk.embedding import Bundle
from obelisk.errors import GalleryError, GalleryLockedError
from obelisk.gallery import (
    Gallery,
    Landmark,
    ReferencePhoto,
    check_gallery,
    check_index,
    check_labels,
    gather_facts,
    landmark_counts,
    list_photos,
    open_galleries,
    open_truth,
)
from obelisk.recognition import Recognizer

Refused = Callable[[Callable[[], object]], str]


def draw(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, DIMENSIONS)).astype(np.float32)


def change_all(gallery: Gallery) -> None:
    gallery.add(draw(60), [f"Place {n // 4}" for n in range(60)], [f"photo {n}" for n in range(60)])
    moved = ReferencePhoto(id="photo 3", content_hash="c", path="a/b.jpg", folder="/photos", author="A", licence="MIT")
    gallery.add(draw(2, 1), [Landmark(id=90, name="Älg", latitude=1.5, links=("x",)), 2], [moved, "new"], replace=True)
    gallery.rename(3, "Three")
    gallery.merge([4, 5], 6, name="Six")
    gallery.remove(photos=["photo 30"], landmarks=[10])
    gallery.keep_calibration('{"a": 1}')


def test_every_change_gives_what_it_gives_in_a_folder(tmp_path: Path, url: str, bundle: Bundle) -> None:
    galleries = [Gallery.create(place, bundle) for place in (tmp_path / "city", url)]
    for gallery in galleries:
        change_all(gallery)
    folder, database = galleries
    again = Gallery.open(url)
    assert again.photos == folder.photos
    assert again.landmarks == folder.landmarks
    assert landmark_counts(again) == landmark_counts(folder)
    assert list(list_photos(again)) == list(list_photos(folder))
    for mine, theirs in zip(folder.search(draw(40, 2), 20), database.search(draw(40, 2), 20), strict=True):
        assert mine.tobytes() == theirs.tobytes(), "the same rows, and similarities bit for bit"
    assert again.own_calibration() == '{"a": 1}'
    assert again.load_bundle().manifest == bundle.manifest
    assert gather_facts(again).revision == gather_facts(folder).revision == 6
    assert [check_gallery(url), check_index(url), check_labels(url)] == [[], None, None]
    assert len(open_galleries([url, tmp_path / "city"]).references()) == 2 * len(folder)


def test_a_search_sees_a_change_by_somebody_else_at_once(url: str, bundle: Bundle) -> None:
    mine, theirs = Gallery.create(url, bundle), Gallery.open(url)
    for n in range(20):
        mine.add(draw(1, n), ["A"], [f"p{n}"])
        (ids,), (similarities,) = theirs.search(draw(1, n), 1)
        assert theirs.photo(ids[0]).id == f"p{n}"
        assert similarities[0] > 0.999
        if n % 2:
            mine.remove(photos=[f"p{n}"])
            assert theirs.find_photo(f"p{n}") is None
            assert theirs.photo(theirs.search(draw(1, n), 1)[0][0, 0]).id != f"p{n}"


def test_of_two_writers_that_commit_out_of_order_no_row_is_missed(url: str, bundle: Bundle) -> None:
    """Who begins first and commits last must not leave a row below those that a reader has seen."""
    gallery, reader = Gallery.create(url, bundle), Gallery.open(url)
    gallery.add(draw(3), ["A"] * 3, ["a", "b", "c"])
    reader.references()
    second = threading.Thread(target=lambda: Gallery.open(url).add(draw(1, 7), ["B"], ["late"]))
    with gallery.changing() as tables:
        tables.execute("INSERT INTO landmarks VALUES (?, ?, ?, ?, ?, ?)", (9, "C", None, None, "[]", "[]"))
        values = ("early", 9, "", "", "", None, "", "")
        tables.insert_references([values], draw(1, 8).astype(np.float16))
        second.start()
        second.join(timeout=0.5)
        assert second.is_alive(), "it waits for its turn"
        assert len(reader.references()) == 3
    second.join(timeout=60)
    assert [photo.id for photo in reader.photos] == ["a", "b", "c", "early", "late"]
    assert (np.diff(reader.references().ids) > 0).all()


def test_writers_beside_each_other_lose_nothing_and_leave_no_half_batch(url: str, bundle: Bundle) -> None:
    Gallery.create(url, bundle)
    writers, batches, size = 4, 6, 5

    def write(number: int) -> None:
        gallery = Gallery.open(url)
        for batch in range(batches):
            ids = [f"{number}.{batch}.{one}" for one in range(size)]
            gallery.add(draw(size, 100 * number + batch), [f"L{number}"] * size, ids)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    reader = Gallery.open(url)
    while any(thread.is_alive() for thread in threads):
        assert len(reader) % size == 0
        threads[0].join(timeout=0.01)
        threads = [thread for thread in threads if thread.is_alive()] or threads[:1]
    assert len(reader) == writers * batches * size
    assert check_gallery(url) == []


def test_a_photo_id_stands_once_and_a_refused_change_leaves_nothing(url: str, bundle: Bundle) -> None:
    gallery = Gallery.create(url, bundle)
    gallery.add(draw(2), ["A", "B"], ["a", "b"])
    with pytest.raises(GalleryError, match="has a photo with the id `a`"):
        gallery.add(draw(2, 1), ["C", "D"], ["new", "a"])
    with pytest.raises(GalleryError, match="NUL"):
        gallery.add(draw(2, 1), ["C", "D"], ["new", "\0"])
    assert [photo.id for photo in gallery.photos] == ["a", "b"]
    assert [landmark.name for landmark in gallery.landmarks] == ["A", "B"]


def test_a_lost_connection_is_replaced(server: Server, url: str, bundle: Bundle) -> None:
    gallery = Gallery.create(url, bundle)
    gallery.add(draw(2), ["A", "B"], ["a", "b"])
    server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'obelisk'")
    assert len(gallery) == 2

    def lose() -> None:
        with gallery.changing() as tables:
            tables.execute("UPDATE about SET value = 'x' WHERE key = 'model'")
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'obelisk'")
            tables.execute("SELECT 1")

    with pytest.raises(GalleryError, match=r"connection to the database was lost.*same command again") as caught:
        lose()
    assert caught.value.exit_code == 1
    assert Gallery.open(url).model == "none", "nothing half-done"


def test_a_recognizer_opens_an_address(url: str, bundle: Bundle) -> None:
    Gallery.create(url, bundle).add(draw(2), ["A", "B"], ["a", "b"])
    assert len(Recognizer.open(url, embedder=object()).gallery.references()) == 2  # type: ignore[arg-type]


def replaced(url: str, **parts: str) -> str:
    """Return the address with a user, a password or another database."""
    login = f"{parts.get('user', 'postgres')}:{parts.get('password', '')}"
    return url.replace("postgres:", f"{login}", 1).replace("/postgres?", f"/{parts.get('database', 'postgres')}?")


def test_what_is_wrong_with_a_database_is_said_in_one_line(
    server: Server, url: str, bundle: Bundle, refused: Refused
) -> None:
    def opened(address: str) -> str:
        return refused(lambda: Gallery.open(address))

    assert "no such gallery in the database" in opened(url)
    assert "no such gallery in the database" in opened(url.replace("/postgres?", "/none?"))
    assert "`postgresql://nobody@" not in (said := opened(url.replace("://postgres:", "://nobody:s3cret")))
    assert "refuses the login" in said
    assert "~/.pgpass" in said
    assert "can't be reached" in opened("postgresql://u:s3cret@127.0.0.1:1/x")
    assert "can't be reached" in opened("postgresql://u:s3cret@no-such-host.invalid/x")
    assert "can't be read" in opened("postgresql://u:s3cret/with@slash/x")
    Gallery.create(url, bundle)
    assert "there is a gallery already" in refused(lambda: Gallery.create(url, bundle))


def set_about(server: Server, url: str, key: str, value: str) -> None:
    server.execute(f"UPDATE {url.rpartition('=')[2]}.about SET value = '{value}' WHERE key = '{key}'")


def test_another_format_and_another_model_are_refused(
    server: Server, url: str, bundle: Bundle, refused: Refused
) -> None:
    gallery = Gallery.create(url, bundle)
    gallery.add(draw(1), ["A"], ["a"])
    set_about(server, url, "format", "99")
    assert "gallery format 99 is newer" in refused(lambda: Gallery.open(url))
    assert "gallery format 99 is newer" in refused(lambda: gallery.remove(photos=["a"]))
    set_about(server, url, "format", "4")
    set_about(server, url, "fingerprint", "0" * 32)
    assert "replaced by one of another model" in refused(lambda: gallery.add(draw(1), ["A"], ["b"]))


def test_a_read_only_database_still_answers(server: Server, url: str, bundle: Bundle, refused: Refused) -> None:
    Gallery.create(url, bundle).add(draw(2), ["A", "B"], ["a", "b"])
    schema, role = url.rpartition("=")[2], f"r{url[-8:]}"
    server.execute(f"CREATE ROLE {role} LOGIN")
    server.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
    reader = Gallery.open(url.replace("://postgres:", f"://{role}:"))
    assert len(reader) == 2
    assert not reader.truth.may_write()
    assert "does not allow this" in refused(lambda: reader.add(draw(1), ["A"], ["c"]))
    standby = Gallery.open(f"{url}&options=-cdefault_transaction_read_only%3Don")
    assert "read-only, or a standby" in refused(lambda: standby.add(draw(1), ["A"], ["c"]))
    assert len(reader) == 2


def test_a_gallery_that_is_locked_too_long_is_reported(
    url: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = Gallery.create(url, bundle)
    monkeypatch.setattr("obelisk.gallery.postgres.postgres_truth.LIMITS", "SET LOCAL lock_timeout = '50ms'")
    with gallery.changing(), pytest.raises(GalleryLockedError, match="kept the gallery locked") as caught:
        Gallery.open(url).add(draw(1), ["A"], ["a"])
    assert caught.value.exit_code == 1


def test_a_full_disk_of_the_server_is_the_machines_fault(url: str, bundle: Bundle, refused: Refused) -> None:
    gallery = Gallery.create(url, bundle)

    def fill() -> None:
        with gallery.changing():
            raise psycopg.errors.DiskFull('could not extend file "base/5/1": No space left on device')

    assert "run out of room: could not extend file" in refused(fill)


def test_the_repr_shows_no_password(url: str, bundle: Bundle) -> None:
    Gallery.create(url, bundle)
    gallery = Gallery.open(url.replace("://postgres:", "://postgres:s3cret"))
    assert "s3cret" not in f"{gallery!r} {gallery.name} {gallery.truth!r} {gather_facts(gallery)}"
    assert open_truth("postgres://u:s3cret@h:5433/d?schema=x").name == "postgresql://u@h:5433/d?schema=x"
