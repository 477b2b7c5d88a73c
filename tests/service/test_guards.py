from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.service.conftest import Client


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7", 200),
        ("evil.example", 421),  # DNS rebinding: a stranger's name that points here
        ("localhost.evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_hosts(client: TestClient, host: str, status: int) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"Origin": "http://localhost"}, 415),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:9"}, 403),  # another service of the same machine
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    ],
)
def test_pages_of_others_may_not_call(client: TestClient, headers: dict[str, str], status: int) -> None:
    refused = client.post("/v1/recognize", headers=headers)
    assert refused.status_code == status
    assert "access-control-allow-origin" not in refused.headers


def test_named_hosts_and_origins_may(make_client: Client, built_gallery: Path) -> None:
    client = make_client(built_gallery, hosts=("photos.example",), origins=("https://app.example",))
    asked = {"Host": "photos.example", "Origin": "https://app.example"}
    preflight = client.options("/v1/recognize", headers={**asked, "Access-Control-Request-Method": "POST"})
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    answer = client.get("/v1/gallery", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["vary"] == "Origin"


def test_every_answer_keeps_its_page_to_itself(client: TestClient) -> None:
    for path in ("/", "/page/app.js", "/v1/gallery", "/nothing"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
