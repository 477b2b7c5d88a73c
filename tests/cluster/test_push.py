"""push and pull copy a gallery, go on where they were interrupted, and say whether the copy is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cluster.test_postgres_galleries import change_all, draw

from obelisk.cli.main import run_arguments
from obelisk.embedding import Bundle
from obelisk.gallery import Gallery, export_gallery, import_gallery, open_truth, push, push_gallery

Refused = Callable[[Callable[[], object]], str]


@pytest.fixture
def city(tmp_path: Path, bundle: Bundle) -> Gallery:
    gallery = Gallery.create(tmp_path / "city", bundle)
    change_all(gallery)
    return gallery


def test_a_gallery_goes_to_a_database_and_back_bit_for_bit(city: Gallery, url: str, tmp_path: Path) -> None:
    there = push_gallery(city, open_truth(url))
    assert (there.new, there.changed, there.unchanged, there.more, there.same) == (len(city), 0, 0, 0, True)
    assert there.recall == 1.0
    back = push_gallery(Gallery.open(url), open_truth(tmp_path / "back"), recall=False)
    assert back.digests == there.digests
    assert back.gallery.photos == Gallery.open(url).photos == city.photos
    assert back.gallery.landmarks == city.landmarks
    assert back.gallery.own_calibration() == city.own_calibration()
    assert back.gallery.search(draw(9, 5), 9)[1].tobytes() == city.search(draw(9, 5), 9)[1].tobytes()


def test_an_interrupted_push_goes_on_and_a_second_one_changes_nothing(
    city: Gallery, url: str, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(push, "BATCH", 7)

    def stop(what: str, done: int, total: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        push_gallery(city, open_truth(url), progress=stop)
    assert "only half-built" in refused(lambda: Gallery.open(url))
    done = push_gallery(city, open_truth(url))
    assert (done.new, done.unchanged, done.same) == (len(city) - 21, 21, True)
    before = done.gallery.read_state()
    assert push_gallery(city, open_truth(url)).unchanged == len(city)
    assert Gallery.open(url).read_state() == before, "nothing was written"


def test_a_later_push_brings_changes_and_leaves_what_others_added(city: Gallery, url: str) -> None:
    push_gallery(city, open_truth(url))
    Gallery.open(url).add(draw(1, 9), ["Elsewhere"], ["theirs"])
    city.rename(90, "Elk")
    city.merge([1], 2)
    done = push_gallery(city, open_truth(url))
    assert (done.new, done.more, done.same) == (0, 1, True)
    assert done.changed > 0
    names = {landmark.id: landmark.name for landmark in done.gallery.landmarks}
    assert names[90] == "Elk"
    assert 1 not in names
    assert done.gallery.find_photo("theirs") is not None


def test_what_is_no_copy_is_left_alone(
    city: Gallery, url: str, tmp_path: Path, bundle: Bundle, write_any_bundle: Callable[..., Bundle], refused: Refused
) -> None:
    Gallery.create(url, bundle).add(draw(1), ["A"], ["a"])
    assert "another gallery is there" in refused(lambda: push_gallery(city, open_truth(url)))
    other = Gallery.create(tmp_path / "other", write_any_bundle(tmp_path / "m", b"other", dimensions=24))
    assert "is of model `none`" in refused(lambda: push_gallery(other, open_truth(url)))
    assert [photo.id for photo in Gallery.open(url).photos] == ["a"]


def test_an_exported_gallery_is_imported_into_a_database(city: Gallery, url: str, tmp_path: Path) -> None:
    export_gallery(city, tmp_path / "city.tar")
    assert import_gallery(tmp_path / "city.tar", url).gallery.landmarks == city.landmarks
    export_gallery(Gallery.open(url), tmp_path / "again.tar")
    assert import_gallery(tmp_path / "again.tar", tmp_path / "again").gallery.photos == Gallery.open(url).photos


def test_commands_take_an_address_and_print_no_password(
    city: Gallery, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = url.replace("://postgres:", "://postgres:s3cret")
    printed = ""

    def run(*arguments: str, code: int = 0) -> str:
        nonlocal printed
        with pytest.raises(SystemExit) as ended:
            run_arguments(["gallery", *arguments])
        said = capsys.readouterr()
        printed += said.out + said.err
        assert (ended.value.code or 0) == code, said.err
        return said.out

    run("info", secret, code=2)
    facts = json.loads(run("push", str(city.path), secret, "--json").splitlines()[-1])
    assert (facts["new"], facts["same"], facts["recall"]) == (len(city), True, 1.0)
    assert facts["content"] in run("pull", secret, str(tmp_path / "pulled"))
    run("check", secret, code=1)  # the network is none
    run("info", secret, "--landmarks", "--json")
    run("rename", secret, "Three", "--into", "Drei")
    run("merge", secret, "Drei", "Six", "--into", "Six")
    run("remove", secret, "--photo", "photo 0")
    run("remove", secret, "--photo", "photo 0", code=2)
    run("rename", secret, "Nothing", "--into", "x", code=2)
    assert "s3cret" not in printed
    assert len(Gallery.open(url)) == len(city) - 1
