"""Who may ask: with a key its bearer, without one this machine only."""

from __future__ import annotations

import pytest

from service.http.auth import is_loopback
from tests.service.core_driver import Api, assert_problem, sampling

KEY = "a-key-of-some-length-é"
BEARER = {"Authorization": f"Bearer {KEY}".encode()}


def test_without_the_key_nothing_behind_it_is_told(start):
    with start(api_key=KEY) as api:
        for method, path in (
            ("GET", "/v1/jobs"),
            ("POST", "/v1/jobs"),
            ("GET", "/v1/no/such/route"),
            ("PUT", "/v1/jobs"),
            ("GET", f"/v1/jobs/job_{'0' * 32}"),
            ("POST", "/v1/workers"),
            ("GET", "/metrics"),
        ):
            reply = api.request(method, path, content=b"{" * 100)
            assert_problem(reply, 401)
            assert reply.headers["www-authenticate"] == "Bearer"


WRONG = [b"", b"Bearer", b"Bearer ", b"Bearer wrong", b"Bearer \xff\xfe", KEY.encode(), f"Basic {KEY}".encode()]
WRONG += [f"Bearer {key}".encode() for key in (f"{KEY}x", KEY[:-1], KEY.upper())]


@pytest.mark.parametrize("given", WRONG)
def test_a_wrong_key_is_refused(start, given: bytes):
    with start(api_key=KEY) as api:
        assert_problem(api.get("/v1/jobs", headers={"Authorization": given}), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_key_opens(start, scheme: str):
    with start(api_key=KEY) as api:
        headers = {"Authorization": f"{scheme} {KEY}".encode()}
        assert api.post("/v1/jobs", json=sampling(), headers=headers).status_code == 201
        assert api.get("/metrics", headers=headers).status_code == 200


def test_health_and_the_schema_need_no_key(start):
    with start(api_key=KEY) as api:
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert api.get(path).status_code == 200


def test_with_a_key_any_host_name_will_do(start):
    with start(api_key=KEY) as api:
        assert api.get("/v1/jobs", headers={**BEARER, "Host": "meshyard.example.org"}).status_code == 200


LOCAL = ["127.0.0.1", "127.0.0.1:8642", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8642", "127.8.8.8", "a.localhost"]
FOREIGN = ["meshyard.example.org", "10.0.0.1", "0.0.0.0", "localhost.example.org", "127.0.0.1.example.org"]
FOREIGN += ["", "[::1", "[::2]", "x@127.0.0.1.example.org"]


@pytest.mark.parametrize("host", LOCAL)
def test_without_a_key_loopback_names_are_answered(api: Api, host: str):
    assert api.get("/v1/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_without_a_key_no_other_name_is(api: Api, host: str):
    for path in ("/v1/jobs", "/healthz", "/openapi.json"):
        assert_problem(api.get(path, headers={"Host": host}), 403)


@pytest.mark.parametrize(("origin", "status"), [("https://evil.example", 403), ("null", 403), ("http://localhost:3000", 202)])
def test_without_a_key_pages_of_other_origins_are_refused(api: Api, origin: str, status: int):
    job = api.submit()["id"]
    reply = api.post(f"/v1/jobs/{job}/cancel", headers={"Origin": origin})
    assert reply.status_code == status


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_what_loopback_is(host: str):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org", ""])
def test_what_loopback_is_not(host: str):
    assert not is_loopback(host)
