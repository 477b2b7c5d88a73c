import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from obelisk.recognition import Recognizer


def as_parts(photos: list[Path]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (photo.name, photo.read_bytes())) for photo in photos]


def test_answers_are_those_of_the_library(client: TestClient, built_gallery: Path, photos: list[Path]) -> None:
    answered = client.post("/v1/recognize", files=as_parts(photos)).json()["answers"]
    expected = [answer.to_dict() for answer in Recognizer.open(built_gallery).recognize(photos)]
    for answer, wanted, photo in zip(answered, expected, photos, strict=True):
        assert answer["photo"] == photo.name
        for neighbor in wanted["neighbours"]:  # paths of this machine stay here
            neighbor.update(source=None, gallery="places")
        for candidate in wanted["candidates"]:
            candidate["gallery"] = "places"
        assert {**answer, "photo": ""} == {**wanted, "photo": "", "links": list(wanted["links"])}


def test_raw_bytes_are_one_photo(client: TestClient, photos: list[Path]) -> None:
    by_part = client.post("/v1/recognize", files=as_parts(photos[:1])).json()["answers"][0]
    raw = client.post("/v1/recognize", content=photos[0].read_bytes(), headers={"Content-Type": "image/jpeg"})
    assert raw.json()["answers"] == [{**by_part, "photo": "photo"}]


def test_options(client: TestClient, photos: list[Path]) -> None:
    everything = client.post("/v1/recognize?top=2&threshold=0", files=as_parts(photos[:1])).json()["answers"][0]
    assert (len(everything["candidates"]), everything["verdict"]) == (2, "sure")
    nothing = client.post("/v1/recognize?threshold=1", files=as_parts(photos[:1])).json()["answers"][0]
    assert (nothing["landmark"], nothing["threshold"]) == (None, 1.0)


def test_explanation_has_boxes(client: TestClient, photos: list[Path]) -> None:
    answer = client.post("/v1/recognize?explain=true", files=as_parts(photos[:1])).json()["answers"][0]
    assert answer["regions"]["reference_id"] == answer["neighbours"][0]["id"]
    for region in answer["regions"]["regions"]:
        for left, top, right, bottom in (region["photo"], region["reference"]):
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1


def test_unreadable_photos_are_answered_by_their_error(client: TestClient, photos: list[Path]) -> None:
    parts = [("photos", ("../../<b>.jpg", b"no photo")), *as_parts(photos[:1]), ("photos", ("empty.png", b""))]
    first, second, third = client.post("/v1/recognize", files=parts).json()["answers"]
    assert first["photo"] == "../../<b>.jpg"
    assert first["candidates"] == []
    assert first["confidence"] == 0
    assert "not" in first["error"]
    assert second["error"] is None
    assert third["error"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("top=0", "top"),
        ("top=-3", "top"),
        ("top=999999999999999999999", "top"),
        ("threshold=2", "threshold"),
        ("threshold=nan", "threshold"),
        ("precision=1", "precision"),
        ("explain=perhaps", "explain"),
        ("tpo=3", "tpo"),  # a misspelt option
        ("near=91,0", "near"),
        ("near=here", "near"),
    ],
)
def test_wrong_options_are_refused(client: TestClient, photos: list[Path], query: str, named: str) -> None:
    refused = client.post(f"/v1/recognize?{query}", files=as_parts(photos[:1]))
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert named in refused.text


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "image/jpeg", 400),
        (b"text", "text/plain", 415),
        (b"text", "", 415),
        (b"", "multipart/form-data; boundary=x", 400),
        (b"nonsense", "multipart/form-data; boundary=x", 400),
        (b"nonsense", "multipart/form-data", 400),  # without a boundary
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            400,
        ),
    ],
)
def test_bodies_without_photos_are_refused(client: TestClient, content: bytes, kind: str, status: int) -> None:
    refused = client.post("/v1/recognize", content=content, headers={"Content-Type": kind} if kind else {})
    assert refused.status_code == status
    assert refused.json().keys() == {"type", "title", "status", "detail", "fix"}


def test_options_in_the_form_are_refused(client: TestClient, photos: list[Path]) -> None:
    refused = client.post("/v1/recognize", files=as_parts(photos[:1]), data={"top": "3"})
    assert refused.status_code == 422
    assert "query" in refused.json()["fix"]


def test_too_much_is_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch, photos: list[Path]) -> None:
    monkeypatch.setattr("obelisk.service.uploads.MOST_BYTES", 1000)
    large = client.post("/v1/recognize", content=b"x" * 2000, headers={"Content-Type": "image/jpeg"})
    assert large.status_code == 413
    assert large.json()["fix"]
    # A body that does not say how long it is.
    chunks = client.post("/v1/recognize", content=iter([b"x" * 600] * 2), headers={"Content-Type": "image/jpeg"})
    assert chunks.status_code == 413
    monkeypatch.setattr("obelisk.service.uploads.MOST_BYTES", 10**6)
    many = client.post("/v1/recognize", files=[("photos", (f"{n}.jpg", b"x")) for n in range(33)])
    assert many.status_code == 413
    monkeypatch.setattr("obelisk.service.uploads.MOST_BYTES_AT_ONCE", 10)
    full = client.post("/v1/recognize", files=as_parts(photos[:1]))
    assert (full.status_code, full.headers["retry-after"]) == (429, "1")


def test_schema_describes_every_key(client: TestClient, photos: list[Path]) -> None:
    document = client.get("/openapi.json").json()
    answers = document["paths"]["/v1/recognize"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    answer = client.post("/v1/recognize?explain=true", files=as_parts(photos[:1])).json()["answers"][0]
    described = answers["properties"]["answers"]["items"]["properties"]
    assert described.keys() == answer.keys()
    for key, where_known in (("candidates", set()), ("neighbours", {"author", "licence"})):
        assert described[key]["items"]["properties"].keys() == answer[key][0].keys() | where_known
    assert "/$defs/" not in json.dumps(document)
