from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.service.conftest import Client

from obelisk.gallery import Gallery
from obelisk.recognition import Recognizer, calibrate_gallery


def parts(*photos: Path) -> list[tuple[str, tuple[str, bytes]]]:
    return [("photos", (photo.name, photo.read_bytes())) for photo in photos]


def test_a_landmark_is_added_named_and_removed(changer: TestClient, own_gallery: Path, photos: list[Path]) -> None:
    form = {"name": "South Gate", "latitude": "1.5", "longitude": "-2.5"}
    made = changer.post("/v1/landmarks", data=form, files=parts(*photos[:2]))
    assert made.status_code == 201
    landmark = made.json()["landmark"]
    assert (landmark["name"], landmark["photos"], landmark["latitude"]) == ("South Gate", 2, 1.5)
    answer = changer.post("/v1/recognize?threshold=0", files=parts(photos[0])).json()["answers"][0]
    assert (answer["landmark"], answer["latitude"], answer["longitude"]) == ("South Gate", 1.5, -2.5)

    path = f"/v1/landmarks/{landmark['id']}"
    more = changer.post(f"{path}/photos", files=[*parts(photos[2]), ("photos", ("bad.jpg", b"bad"))]).json()
    assert [(one["new"], one["error"] is None) for one in more["photos"]] == [(True, True), (False, False)]
    assert more["landmark"]["photos"] == 3
    assert changer.patch(path, json={"name": "North Gate"}).json()["name"] == "North Gate"
    kept = changer.get(path).json()["reference_photos"]
    assert changer.delete(f"{path}/photos", params={"ids": kept[0]["id"]}).status_code == 204
    assert changer.get(path).json()["photos"] == 2
    assert changer.delete(path).status_code == 204
    assert changer.get(path).status_code == 404
    assert "North Gate" not in {one.name for one in Gallery.open(own_gallery).landmarks}


def test_an_empty_gallery_says_so(changer: TestClient, photos: list[Path]) -> None:
    for landmark in changer.get("/v1/landmarks").json()["landmarks"]:
        assert changer.delete(f"/v1/landmarks/{landmark['id']}").status_code == 204
    refused = changer.post("/v1/recognize", files=parts(photos[0]))
    assert (refused.status_code, refused.json()["detail"]) == (409, "the gallery has no reference photos")
    assert changer.post("/v1/landmarks", data={"name": "Gate"}, files=parts(photos[0])).status_code == 201


def test_landmarks_are_merged(changer: TestClient) -> None:
    first, second = changer.get("/v1/landmarks?limit=2").json()["landmarks"]
    merged = changer.post(f"/v1/landmarks/{first['id']}/merge", json={"ids": [second["id"]]}).json()
    assert merged["photos"] == first["photos"] + second["photos"]
    assert changer.get(f"/v1/landmarks/{second['id']}").status_code == 404


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Basic dTpw", "Bearer \xfc"])
def test_a_change_needs_the_token(make_client: Client, own_gallery: Path, given: str | None) -> None:
    client = make_client(own_gallery, allow_changes=True)
    headers = {"Authorization": given.encode("latin-1")} if given else {}
    for method, path in (("DELETE", "/v1/landmarks/1"), ("PATCH", "/v1/landmarks/1"), ("POST", "/v1/landmarks")):
        refused = client.request(method, path, headers=headers)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"


def test_a_service_that_allows_no_changes_has_none(client: TestClient) -> None:
    assert client.get("/v1/gallery").json()["changes"] is False
    assert client.delete("/v1/landmarks/1").status_code == 405
    assert not [path for path in client.get("/openapi.json").json()["paths"] if path.endswith("/merge")]


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"name": ""}, 422),
        ({}, 422),
        ({"name": "x" * 501}, 422),
        ({"name": "a\nb"}, 409),
        ({"name": "Gate", "latitude": "91", "longitude": "0"}, 422),
        ({"name": "Gate", "latitude": "1"}, 422),
        ({"name": "Gate", "nmae": "1"}, 422),
    ],
)
def test_wrong_forms_are_refused(changer: TestClient, photos: list[Path], form: dict[str, str], status: int) -> None:
    assert changer.post("/v1/landmarks", data=form, files=parts(photos[0])).status_code == status


def test_conflicts_are_told_without_paths(changer: TestClient, own_gallery: Path, photos: list[Path]) -> None:
    first, second = changer.get("/v1/landmarks?limit=2").json()["landmarks"]
    taken = changer.post("/v1/landmarks", data={"name": first["name"]}, files=parts(photos[0]))
    renamed = changer.patch(f"/v1/landmarks/{second['id']}", json={"name": first["name"]})
    for refused in (taken, renamed):
        assert refused.status_code == 409
        assert str(own_gallery) not in refused.text


def test_changes_by_others_are_seen(client: TestClient, changer: TestClient, own_gallery: Path) -> None:
    landmark = changer.get("/v1/landmarks?limit=1").json()["landmarks"][0]
    Gallery.open(own_gallery).rename(landmark["id"], "Renamed by somebody else")
    assert changer.get(f"/v1/landmarks/{landmark['id']}").json()["name"] == "Renamed by somebody else"


def test_a_calibration_by_others_is_seen(changer: TestClient, own_gallery: Path) -> None:
    before = changer.get("/v1/gallery").json()["threshold"]
    calibrate_gallery(Gallery.open(own_gallery))
    after = changer.get("/v1/gallery").json()["threshold"]
    assert after == Recognizer.open(own_gallery).threshold() != before
