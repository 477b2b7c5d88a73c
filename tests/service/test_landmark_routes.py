import io
import shutil
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient
from tests.service.conftest import Client

from obelisk.errors import UsageError
from obelisk.service import ServiceSettings, create_app


def test_gallery(client: TestClient) -> None:
    facts = client.get("/v1/gallery").json()
    assert facts["landmarks"] == 6
    assert sum(facts["photos_per_landmark"]) == facts["photos"] == 60
    assert facts["photos_per_landmark"] == sorted(facts["photos_per_landmark"], reverse=True)
    assert 0 < facts["threshold"] < 1


def test_two_galleries_are_served_as_one(own_gallery: Path, built_gallery: Path, photos: list[Path]) -> None:
    app = create_app(ServiceSettings(galleries=(str(built_gallery), str(own_gallery))))
    with TestClient(app, base_url="http://localhost") as client:
        facts = client.get("/v1/gallery").json()
        assert [(one["name"], one["photos"]) for one in facts["galleries"]] == [("places", 60), ("own", 60)]
        assert facts["photos"] == 120
        first, second = client.get("/v1/landmarks?limit=2").json()["landmarks"]
        assert (first["id"], first["gallery"], second["gallery"]) == (second["id"], "own", "places")
        shown = client.get(f"/v1/landmarks/{first['id']}?gallery=own").json()
        assert shown["gallery"] == "own"
        assert client.get(f"/v1/landmarks/{first['id']}?gallery=other").status_code == 404
        answer = client.post("/v1/recognize", files={"photos": photos[0].read_bytes()}).json()["answers"][0]
        assert {one["gallery"] for one in answer["candidates"]} == {"places", "own"}


def test_two_galleries_of_one_name_are_refused(own_gallery: Path, tmp_path: Path) -> None:
    other = shutil.copytree(own_gallery, tmp_path / "other" / "own")
    with pytest.raises(UsageError, match="two galleries have one name"):
        create_app(ServiceSettings(galleries=(str(own_gallery), str(other))))


def test_landmarks_are_listed_some_at_a_time(client: TestClient) -> None:
    everything = client.get("/v1/landmarks").json()
    names = [one["name"] for one in everything["landmarks"]]
    assert (everything["total"], len(names), names) == (6, 6, sorted(names, key=str.casefold))
    page = client.get("/v1/landmarks?offset=2&limit=3").json()
    assert (page["total"], page["landmarks"]) == (6, everything["landmarks"][2:5])
    found = client.get("/v1/landmarks", params={"search": names[0].upper()}).json()
    assert names[0] in [one["name"] for one in found["landmarks"]]
    assert client.get("/v1/landmarks?search=nowhere").json() == {"total": 0, "landmarks": []}


def test_pictures_of_reference_photos(client: TestClient) -> None:
    landmark = client.get("/v1/landmarks?limit=1").json()["landmarks"][0]
    photo = client.get(f"/v1/landmarks/{landmark['id']}").json()["reference_photos"][0]
    picture = client.get(f"/v1/photos/{photo['id']}")
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).format == "JPEG"


@pytest.mark.parametrize(
    "path", ["/v1/photos/nothing", "/v1/photos/../../etc/passwd", "/v1/landmarks/7", "/page/../app.py"]
)
def test_what_is_not_there(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("query", ["offset=-1", "limit=0", "limit=1001", "offset=99999999999999999999", "page=2"])
def test_wrong_pages(client: TestClient, query: str) -> None:
    assert client.get(f"/v1/landmarks?{query}").status_code == 422


def test_a_gallery_that_goes_away_and_comes_back(make_client: Client, own_gallery: Path) -> None:
    client = make_client(own_gallery)
    assert client.get("/readyz").status_code == 200
    shutil.move(own_gallery, own_gallery.with_name("away"))
    gone = client.get("/readyz")
    assert gone.status_code == 503
    assert str(own_gallery) not in gone.text
    assert client.get("/healthz").status_code == 200
    shutil.move(own_gallery.with_name("away"), own_gallery)
    assert client.get("/readyz").status_code == 200


def test_metrics_count(client: TestClient, photos: list[Path]) -> None:
    client.post("/v1/recognize", files=[("photos", ("a.jpg", photos[0].read_bytes()))])
    text = client.get("/metrics").text
    assert 'obelisk_requests_total{method="POST",route="/v1/recognize",status="200"} 1.0' in text
    assert "obelisk_batch_photos_count 1.0" in text
    assert "obelisk_queue_photos 0.0" in text
    assert "a.jpg" not in text
