"""The page of an album: what stands where, and names that cannot break it."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from PIL import Image

from obelisk.outputs import AlbumPhoto, AlbumState, Thumbnail, write_album
from obelisk.photos import data_uri
from obelisk.records import Candidate, Neighbor, Recognition, Verdict

HOSTILE = "<img src=x onerror=alert(1)> \"a\" 'b' & \u202egnp.exe\nnext \udcff مسجد"
TOWER = Candidate(landmark="Tower", landmark_id=1, score=0.9, latitude=48.8583, longitude=2.2945, gallery="g")
DOME = Candidate(landmark="Dome", landmark_id=2, score=0.8, gallery="g")
LINKS = ("https://commons.wikimedia.org/wiki/Category:Tower", "https://en.wikipedia.org/wiki/Tower")
ALLOWED = {
    *("html", "head", "title", "style", "body", "main", "header", "nav", "section", "div", "p", "h1", "h2", "ul", "li"),
    *(
        "a",
        "img",
        "figure",
        "figcaption",
        "span",
        "small",
        "bdi",
        "details",
        "summary",
        "svg",
        "path",
        "circle",
        "text",
    ),
}
PAGE_OF_FILE = "https://commons.wikimedia.org/wiki/File:Tower_at_night.jpg"


def answer(first: Candidate, verdict: Verdict = "sure", **more: Any) -> Recognition:
    near = Neighbor(
        id="n1",
        landmark=first.landmark,
        landmark_id=first.landmark_id,
        similarity=0.9,
        source=PAGE_OF_FILE,
        gallery="g",
        author=HOSTILE,
        licence="https://creativecommons.org/licenses/by-sa/4.0",
    )
    sure = verdict == "sure"
    fields: dict[str, Any] = {
        "photo": "",
        "landmark": first.landmark if sure else None,
        "landmark_id": first.landmark_id if sure else None,
        "verdict": verdict,
        "confidence": 0.9997,
        "candidates": (first, replace(DOME, landmark_id=9)),
        "neighbours": (near,),
    }
    return Recognition(**{**fields, **more})


@pytest.fixture
def picture() -> Thumbnail:
    written = io.BytesIO()
    Image.new("RGB", (30, 20), "teal").save(written, "JPEG")
    return Thumbnail(uri=data_uri(written.getvalue()), width=30, height=20)


MakePage = Callable[..., tuple[str, Any]]


@pytest.fixture
def make_page(tmp_path: Path, picture: Thumbnail, monkeypatch: pytest.MonkeyPatch) -> MakePage:
    monkeypatch.chdir(tmp_path)

    def make(answers: dict[str, Recognition], title: str = "Holiday", failed: tuple[str, ...] = ()) -> tuple[str, Any]:
        with AlbumState(tmp_path / "out" / "a.html.partial", "key") as state:
            photos = []
            for number, (path, said) in enumerate(answers.items()):
                state.keep(f"{number:032x}", said, picture)
                photos.append(AlbumPhoto(path=path, content=f"{number:032x}"))
            photos += [AlbumPhoto(path=path, content="", error=f"no such photo · {path}") for path in failed]
            contents = write_album(tmp_path / "out" / "a.html", title, photos, state)
            state.remove()
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.html"]
        return (tmp_path / "out" / "a.html").read_text(encoding="utf-8"), contents

    return make


def test_photos_stand_by_landmark_and_the_others_below(make_page: MakePage, parse: Any, tmp_path: Path) -> None:
    answers = {
        "in/d.jpg": answer(DOME),
        "in/t1.jpg": answer(TOWER, links=LINKS),
        "in/t2.jpg": answer(TOWER, links=LINKS, warning="the last rows are missing"),
        "in/p.jpg": answer(TOWER, "probable", confidence=0.6),
        "in/u.jpg": answer(TOWER, "unknown", confidence=0.1),
    }
    written, contents = make_page(answers, failed=("in/gone.jpg",))
    page = parse(written)
    assert [landmark.candidate.landmark for landmark in contents.landmarks] == ["Tower", "Dome"]
    summary = "6 photos: 3 show 2 landmarks, 1 probably show one, 1 show none I know, 1 could not be read."
    assert summary in page.text
    headings = [page.text.rindex(words) for words in ("Tower 2 photos", "Dome 1 photo", "Probably 1", "Unreadable 1")]
    assert headings == sorted(headings)
    assert "no such photo · in/gone.jpg" in page.text
    assert "t2.jpg >99 % cut off" in page.text
    assert "p.jpg 60 % Tower" in page.text
    assert page.attributes("alt")[:2] == ["Tower: t1.jpg", "Tower: t2.jpg"]
    outside = {link for link in page.attributes("href") if link.startswith("http")}
    assert outside >= {*LINKS, PAGE_OF_FILE}
    assert "Tower at night.jpg" in page.text
    assert "CC BY-SA 4.0" in page.text


def test_the_page_needs_nothing_else(make_page: MakePage, parse: Any) -> None:
    written, _ = make_page({"in/t1.jpg": answer(TOWER), "in/t2.jpg": answer(TOWER)})
    page = parse(written)
    (policy,) = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    style = re.search("<style>(.*?)</style>", written, re.DOTALL)
    assert style
    assert base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode() in policy
    assert not {"script", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert not page.attributes("style")
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.attributes("src"))
    assert all(attributes["loading"] == "lazy" for tag, attributes in page.tags if tag == "img")
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    anchors = {link[1:] for link in page.attributes("href") if link.startswith("#")}
    assert anchors | set(page.attributes("aria-labelledby")) <= set(ids)


def test_no_name_breaks_the_page(make_page: MakePage, parse: Any) -> None:
    tower = replace(TOWER, landmark=HOSTILE)
    links = ("javascript:alert(1)", "data:text/html,x", 'https://x.org/"><script>')
    near = Neighbor(id=HOSTILE, landmark="x", landmark_id=1, similarity=0.5, source="javascript:alert(2)", gallery="g")
    photo = f"in/{HOSTILE}.jpg"
    answers = {
        photo: answer(tower, links=links, neighbours=(near,), warning=HOSTILE),
        "javascript:x": answer(tower, "probable"),
        "in/u.jpg": answer(tower, "unknown"),
    }
    written, _ = make_page(answers, title=HOSTILE, failed=(HOSTILE,))
    page = parse(written)
    assert {tag for tag, _ in page.tags if tag not in {"meta", "link"}} <= ALLOWED
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    hrefs = page.attributes("href")
    assert all(link.startswith(("#", "./", "https://", "data:,")) for link in hrefs)
    assert "./../javascript%3Ax" in hrefs, "a name is no scheme"
    (own,) = {link for link in hrefs if link.startswith("./") and "onerror" in link}
    assert os.fsdecode(unquote_to_bytes(own)).endswith(photo)
    for letter in "\u202e\udcff":
        assert letter not in written.replace("\n", "")
    assert r"\u202egnp.exe\u000anext \udcff مسجد" in page.text
    assert page.text.count("onerror=alert(1)") >= 6


def test_an_album_without_positions_or_landmarks_has_no_map(make_page: MakePage, parse: Any) -> None:
    written, _ = make_page({"d.jpg": answer(DOME)})
    assert "svg" not in {tag for tag, _ in parse(written).tags}
    written, _ = make_page({}, failed=("gone.jpg",))
    assert "1 photo: 1 could not be read." in parse(written).text
