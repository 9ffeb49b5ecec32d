"""How much, how often, how slowly, under which name: what goes beyond is refused with what to do."""

from __future__ import annotations

import pytest

from service.http.auth import matches
from service.http.throttle import Buckets
from tests.service.access_driver import OPERATOR, bearer, house
from tests.service.core_driver import assert_problem


class Clock:
    """Seconds that go on when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_what_it_holds_and_then_what_drips_in():
    clock = Clock()
    buckets = Buckets(2.0, 3.0, clock)
    for _ in range(3):
        assert buckets.wait_seconds("a") == 0
        buckets.take("a")
    assert buckets.wait_seconds("a") == pytest.approx(0.5)
    assert buckets.wait_seconds("b") == 0
    clock.now += 0.5
    assert buckets.wait_seconds("a") == 0
    clock.now += 1000
    for _ in range(3):
        buckets.take("a")
    assert buckets.wait_seconds("a") > 0


def test_buckets_of_many_names_do_not_pile_up():
    clock = Clock()
    buckets = Buckets(1.0, 2.0, clock)
    for number in range(30_000):
        buckets.take(f"address {number}")
        clock.now += 0.001
    assert len(buckets._buckets) <= 10_000


def test_a_rate_of_zero_sets_no_bound():
    buckets = Buckets(0.0, 1.0, Clock())
    for _ in range(10):
        buckets.take("a")
    assert buckets.wait_seconds("a") == 0


def test_a_key_that_asks_too_much_waits_and_another_does_not(start):
    with house(start, requests_per_second=0.001, requests_at_once=5) as home:
        user, other = home.bearer("jobs:read"), home.bearer("jobs:read")
        replies = [user.get("/v1/jobs") for _ in range(6)]
        assert [reply.status_code for reply in replies] == [200] * 5 + [429]
        assert assert_problem(replies[-1], 429)["code"] == "rate_limited"
        assert int(replies[-1].headers["retry-after"]) > 100
        assert other.get("/v1/jobs").status_code == 200
        assert user.get("/healthz").status_code == 200


def test_an_address_that_guesses_is_shut_out_but_not_who_was_in_before(start):
    with house(start, failures_per_minute=0.001, key_cache_seconds=0) as home:
        known, fresh = home.bearer("jobs:read"), home.bearer("jobs:read")
        assert known.get("/v1/jobs").status_code == 200
        statuses = [home.api.get("/v1/jobs", headers=bearer(f"guess {number}")).status_code for number in range(101)]
        assert statuses == [401] * 100 + [429]
        reply = fresh.get("/v1/jobs")
        assert_problem(reply, 429)
        assert int(reply.headers["retry-after"]) > 1
        assert known.get("/v1/jobs").status_code == 200
        assert home.operator.get("/v1/jobs").status_code == 200


def test_without_an_operators_key_nobody_waits(start):
    with start(requests_per_second=0.001, requests_at_once=1) as api:
        assert {api.get("/v1/jobs").status_code for _ in range(5)} == {200}


NAMES = ["meshyard.example.org", "*.lab.example.org"]


@pytest.mark.parametrize("host", ["meshyard.example.org", "MESHYARD.example.org.", "a.lab.example.org", "a.b.lab.example.org"])
def test_names_that_are_answered_to(host: str):
    assert matches(host, NAMES)


@pytest.mark.parametrize("host", ["", "example.org", "lab.example.org", "xlab.example.org", "meshyard.example.org.evil", "a"])
def test_names_that_are_not(host: str):
    assert not matches(host, NAMES)


def test_with_a_list_of_names_the_service_answers_to_these_alone(start):
    with start(api_key=OPERATOR, allowed_hosts="meshyard.example.org, *.lab.example.org") as api:
        for host, status in (
            ("meshyard.example.org:8642", 200),
            ("x.lab.example.org", 200),
            ("evil.example", 403),
            ("127.0.0.1", 200),
        ):
            reply = api.get("/v1/jobs", headers={**bearer(OPERATOR), "Host": host})
            assert reply.status_code == status, host
        assert "MESHYARD_ALLOWED_HOSTS" in assert_problem(api.get("/healthz", headers={"Host": "evil.example"}), 403)["detail"]
