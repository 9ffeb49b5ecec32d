"""Webhooks: what is told, to whom, signed how; and what becomes of what cannot be delivered."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
from contextlib import contextmanager

import httpx
import pytest

from service.context import Context
from service.db.engine import Database
from service.db.queries import clock, outbox
from service.db.transaction import Write
from service.domain import deliveries
from service.domain.deliveries import GROWTH, Outcome, Parcel
from service.domain.targets import Allowed, NotAllowed, check, judge
from service.http.courier import Courier
from tests.service.core_driver import Api, assert_problem, wait_for
from tests.service.receiver import Receiver, receiving

LOCAL = {"webhook_targets": "127.0.0.0/8", "webhook_backoff_seconds": 0.00001}


@pytest.fixture
def receiver():
    with receiving() as found:
        yield found


@pytest.fixture
def api(start):
    with start(**LOCAL) as client:
        yield client


def add(api: Api, receiver: Receiver, **more: object) -> dict:
    reply = api.post("/v1/webhooks", json={"url": receiver.url, **more})
    assert reply.status_code == 201, reply.text
    return reply.json()


def told(api: Api, webhook: dict) -> list[dict]:
    return api.get(f"/v1/webhooks/{webhook['id']}/deliveries", params={"limit": 100}).json()["data"]


def until(api: Api, webhook: dict, status: str, count: int = 1) -> list[dict]:
    return wait_for(lambda: found if len(found := [one for one in told(api, webhook) if one["status"] == status]) >= count else [])


def verified(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """The scheme's own words: HMAC-SHA-256 over `id.timestamp.body`, base64, after `v1,`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return expected in headers["webhook-signature"].split(" ")


def test_an_event_is_told_signed_with_the_secret_that_was_shown_once(api, receiver):
    webhook = add(api, receiver, events=["job.*"], name="ours")
    job = api.submit()
    (delivery,) = until(api, webhook, "delivered")
    (received,) = receiver.received
    assert received.path == "/hook?a=b"
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert verified(webhook["secret"], received.headers, received.body)
    assert not verified(webhook["secret"], received.headers, received.body + b" ")
    event = api.events(job["id"])[0]
    document = json.loads(received.body)
    assert document == {
        "id": event["id"],
        "type": "job.queued",
        "timestamp": event["created_at"],
        "data": {"job_id": job["id"], "project": "default", "seq": 1, "details": event["data"]},
    }
    assert received.headers["webhook-id"] == event["id"] == delivery["message_id"]
    assert delivery["payload"] == document
    assert delivery["attempts"] == 1
    shown = api.get(f"/v1/webhooks/{webhook['id']}").json()
    assert shown["secret"] is None
    assert shown["last_success_at"] is not None
    assert shown.keys() == webhook.keys()


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("*", ["job.queued", "job.cancelling", "job.cancelled"]),
        ("job.cancelled", ["job.cancelled"]),
        ("job.*", ["job.queued", "job.cancelling", "job.cancelled"]),
        ("checkpoint.*", []),
        ("job.cancel", []),
    ],
)
def test_only_what_passes_a_filter_is_told(api, receiver, pattern, heard):
    webhook = add(api, receiver, events=[pattern])
    last = add(api, receiver, events=["job.cancelled"])
    job = api.submit()
    api.post(f"/v1/jobs/{job['id']}/cancel")
    until(api, last, "delivered")
    assert [one["type"] for one in reversed(told(api, webhook))] == heard


def test_a_message_is_written_with_its_event_or_not_at_all(api, context, receiver):
    webhook = add(api, receiver)
    job = api.submit()
    until(api, webhook, "delivered")
    from service.db.queries import events

    def break_off() -> None:
        with context.database.write() as connection:
            events.append(connection, job["id"], "job.updated", {})
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        break_off()
    assert [one["type"] for one in told(api, webhook)] == ["job.queued"]
    assert api.told(job["id"]) == ["job.queued"]


def test_a_failed_try_is_repeated_under_the_same_id_with_a_signature_of_its_own(api, receiver):
    receiver.statuses = [500, 302, 404]
    receiver.headers = {"Location": "http://127.0.0.1:1/elsewhere"}
    webhook = add(api, receiver)
    api.submit()
    (delivery,) = until(api, webhook, "delivered")
    assert delivery["attempts"] == 4
    assert delivery["last_status"] == 204
    assert delivery["last_error"] is None
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 1
    assert all(verified(webhook["secret"], one.headers, one.body) for one in receiver.received)


def test_a_target_that_fails_for_a_day_is_told_nothing_more_and_the_others_hear_of_it(api, receiver):
    receiver.statuses = [500] * (len(GROWTH) + 1)
    failing = add(api, receiver, events=["job.queued"])
    watching = add(api, receiver, events=["webhook.disabled"])
    api.submit()
    (delivery,) = until(api, failing, "failed")
    assert delivery["attempts"] == len(GROWTH) + 1
    shown = api.get(f"/v1/webhooks/{failing['id']}").json()
    assert (shown["enabled"], shown["disabled_reason"]) == (False, "failing")
    (news,) = until(api, watching, "delivered")
    assert news["payload"]["data"] == {"project": "default", "webhook_id": failing["id"], "reason": "failing"}
    api.submit()
    assert len(told(api, failing)) == 1
    assert_problem(api.post(f"/v1/webhooks/{failing['id']}/test"), 409)
    enabled = api.patch(f"/v1/webhooks/{failing['id']}", json={"enabled": True}).json()
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    again = api.post(f"/v1/webhooks/{failing['id']}/deliveries/{delivery['id']}/redeliver")
    assert again.status_code == 202
    (delivery,) = until(api, failing, "delivered")
    assert delivery["attempts"] == 1
    assert delivery["message_id"] == again.json()["message_id"]


def test_one_message_that_fails_disables_nothing_while_others_arrive(api, context, receiver):
    webhook = add(api, receiver)
    api.submit()
    until(api, webhook, "delivered")
    parcel = taken_by_hand(context, api, webhook, attempt=len(GROWTH) + 1)
    assert deliveries.settle(context, parcel, Outcome(500, "no")) == "failed"
    assert api.get(f"/v1/webhooks/{webhook['id']}").json()["enabled"] is False
    # …while with a success after it was written the webhook stays.
    api.patch(f"/v1/webhooks/{webhook['id']}", json={"enabled": True})
    second = taken_by_hand(context, api, webhook, attempt=len(GROWTH) + 1)
    api.submit()
    until(api, webhook, "delivered", 2)
    assert deliveries.settle(context, second, Outcome(500, "no")) == "failed"
    assert api.get(f"/v1/webhooks/{webhook['id']}").json()["enabled"] is True


def taken_by_hand(context: Context, api: Api, webhook: dict, attempt: int) -> Parcel:
    """A message that somebody else is at, so that no courier takes it."""
    from service.db.tables import webhook_deliveries as table

    with context.database.write() as connection:
        message = outbox.Message(f"evt_{attempt:032x}", "job.queued", clock.now(connection), {})
        outbox.address(connection, [webhook["id"]], message)
        row = outbox.page(connection, webhook["id"], None, 1)[0]
        held = {"attempts": attempt, "next_at": row.next_at + 3_600_000_000}
        connection.execute(table.update().where(table.c.id == row.id).values(**held))
    return Parcel(row.id, webhook["id"], attempt, webhook["url"], {}, b"")


def test_gone_means_gone(api, receiver):
    receiver.statuses = [410]
    webhook = add(api, receiver)
    api.submit()
    (delivery,) = until(api, webhook, "failed")
    assert delivery["attempts"] == 1
    assert api.get(f"/v1/webhooks/{webhook['id']}").json()["disabled_reason"] == "gone"


def test_two_secrets_sign_until_the_overlap_ends(api, receiver):
    webhook = add(api, receiver, events=["webhook.test"])
    rotated = api.post(f"/v1/webhooks/{webhook['id']}/rotate").json()
    assert rotated["secret"] != webhook["secret"]
    assert rotated["previous_secret_until"] > rotated["updated_at"]
    api.post(f"/v1/webhooks/{webhook['id']}/test")
    until(api, webhook, "delivered")
    (received,) = receiver.received
    assert verified(webhook["secret"], received.headers, received.body)
    assert verified(rotated["secret"], received.headers, received.body)
    own = "whsec_" + base64.b64encode(b"k" * 32).decode()
    last = api.post(f"/v1/webhooks/{webhook['id']}/rotate", json={"secret": own, "overlap_seconds": 0}).json()
    assert (last["secret"], last["previous_secret_until"]) == (own, None)
    api.post(f"/v1/webhooks/{webhook['id']}/test")
    until(api, webhook, "delivered", 2)
    assert verified(own, receiver.received[-1].headers, receiver.received[-1].body)
    assert not verified(rotated["secret"], receiver.received[-1].headers, receiver.received[-1].body)


def test_a_hanging_target_holds_up_nobody_else(start, receiver):
    with receiving() as hanging, start(**LOCAL, webhook_timeout_seconds=3600) as api:
        hanging.holding = True
        add(api, hanging)
        webhook = add(api, receiver)
        for _ in range(40):
            api.submit()
        until(api, webhook, "delivered", 40)
        assert len(hanging.received) == deliveries.AT_ONCE_EACH
        hanging.released.set()


def test_no_more_messages_are_taken_than_asked_for_however_the_database_joins(api, context, receiver, database_kind):
    webhook = add(api, receiver, events=["webhook.test"])
    with Write(context.database) as write:
        if database_kind == "postgresql":
            for plan in ("hashjoin", "mergejoin", "material", "hashagg", "sort"):
                write.connection.exec_driver_sql(f"SET LOCAL enable_{plan} = off")
        for number in range(12):
            message = outbox.Message(f"evt_{number:032x}", "webhook.test", clock.now(write.connection) - 1, {})
            outbox.address(write.connection, [webhook["id"]], message)
        assert len(outbox.take(write.connection, webhook["id"], 4, 1_000_000)) == 4
        assert len(outbox.take(write.connection, webhook["id"], 3, 1_000_000)) == 3


def test_a_target_that_takes_too_long_is_given_up_and_tried_again(start, receiver):
    with start(**LOCAL, webhook_timeout_seconds=0.2) as api:
        receiver.holding = True
        webhook = add(api, receiver)
        api.submit()
        wait_for(lambda: told(api, webhook)[0]["last_error"])
        assert "too long" in told(api, webhook)[0]["last_error"]
        receiver.holding = False
        receiver.released.set()
        until(api, webhook, "delivered")


def test_several_replicas_deliver_a_message_once(context, settings, receiver, start):
    with start(**LOCAL) as first, start(**LOCAL) as second:
        webhook = add(first, receiver)
        for _ in range(30):
            second.submit()
        until(first, webhook, "delivered", 30)
    assert len(receiver.received) == 30
    assert len({one.headers["webhook-id"] for one in receiver.received}) == 30


def test_a_sender_that_died_is_followed_by_another_and_settles_nothing(start, receiver):
    with start(**LOCAL) as api:
        context: Context = api.app.state.context
        webhook = add(api, receiver)
        stale = taken_by_hand(context, api, webhook, attempt=1)
        expire_lease(context.database, stale.delivery_id)
        (delivery,) = until(api, webhook, "delivered")
        assert delivery["attempts"] == 2
        assert deliveries.settle(context, stale, Outcome(500, "late")) == "superseded"
        assert told(api, webhook)[0]["status"] == "delivered"


def expire_lease(database: Database, delivery_id: str) -> None:
    from service.db.tables import webhook_deliveries as table

    with database.write() as connection:
        connection.execute(table.update().where(table.c.id == delivery_id).values(next_at=0))


# Where messages must not go.

REFUSED = {
    "loopback": "http://127.0.0.1/",
    "loopback by name": "https://localhost/hook",
    "a name below localhost": "https://x.localhost./hook",
    "loopback, short": "http://127.1/",
    "loopback, hexadecimal": "http://0x7f000001/",
    "loopback, one number": "http://2130706433/",
    "loopback, octal": "http://0177.0.0.1/",
    "any": "http://0.0.0.0/",
    "loopback v6": "http://[::1]/",
    "loopback mapped": "http://[::ffff:127.0.0.1]/",
    "loopback compatible": "http://[::127.0.0.1]/",
    "loopback by NAT64": "http://[64:ff9b::7f00:1]/",
    "loopback by 6to4": "http://[2002:7f00:1::]/",
    "private": "https://10.1.2.3/",
    "private 172": "https://172.16.0.1/",
    "private 192": "https://192.168.0.1/",
    "carrier": "https://100.64.0.1/",
    "link-local, metadata": "http://169.254.169.254/latest/meta-data",
    "link-local v6": "http://[fe80::1]/",
    "unique local v6": "http://[fd00::1]/",
    "site local v6": "http://[fec0::1]/",
    "multicast": "http://224.0.0.1/",
    "documentation": "http://192.0.2.1/",
    "internal name": "http://metadata.google.internal/",
    "no scheme": "example.com/hook",
    "file": "file:///etc/passwd",
    "other scheme": "gopher://example.com/",
    "credentials": "https://user:secret@example.com/",
    "no host": "https:///hook",
    "bad port": "https://example.com:99999/",
    "port zero": "https://example.com:0/",
    "space": "https://example.com/a b",
    "control": "https://example.com/\r\nX: y",
    "backslash": "https://example.com\\@127.0.0.1/",
    "not ASCII": "https://exämple.com/",
    "too long": "https://example.com/" + "a" * 2048,
    "broken v6": "https://[::1/",
    "empty": "",
}


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED.keys())
def test_targets_that_are_refused(url):
    with pytest.raises(NotAllowed):
        check(url, Allowed.read(""))


def test_a_refused_target_is_pointed_at_and_nothing_is_kept(start):
    with start() as api:
        for url in REFUSED.values():
            problem = assert_problem(api.post("/v1/webhooks", json={"url": url}), 422)
            assert [(one["pointer"], one["code"]) for one in problem["errors"]] == [("/url", "target_not_allowed")]
        assert api.get("/v1/webhooks").json()["data"] == []


def test_targets_that_are_taken():
    nothing = Allowed.read("")
    for url in ("https://example.com/hook?x=1", "http://example.com:8080/", "https://93.184.215.14/", "https://[2606:4700::1111]/"):
        check(url, nothing)
    check("http://hooks.internal/", Allowed.read("hooks.internal, 10.0.0.0/8"))
    check("http://10.9.8.7/", Allowed.read("hooks.internal, 10.0.0.0/8"))
    with pytest.raises(NotAllowed):
        check("http://11.internal/", Allowed.read("hooks.internal, 10.0.0.0/8"))


def test_one_local_address_condemns_a_name():
    public, local = ipaddress.ip_address("93.184.215.14"), ipaddress.ip_address("127.0.0.1")
    assert judge("h", [public], Allowed.read("")) == public
    for addresses in ([public, local], [local, public], [local], []):
        with pytest.raises(NotAllowed):
            judge("h", addresses, Allowed.read(""))


@contextmanager
def courier_with(context: Context, answers: list[list[str]]):
    asked: list[str] = []

    async def resolving(host: str, port: int):
        asked.append(host)
        return [ipaddress.ip_address(one) for one in answers.pop(0)]

    yield Courier(context, resolving), asked


def sent(courier: Courier, url: str) -> Outcome:
    async def once() -> Outcome:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await courier.send(client, Parcel("whd_0", "whk_0", 1, url, {"webhook-id": "evt_0"}, b"{}"))

    return asyncio.run(once())


def test_the_connection_goes_to_the_address_that_was_judged_and_the_name_is_asked_once(start, receiver):
    with (
        start(webhook_targets="127.0.0.1/32") as api,
        courier_with(api.app.state.context, [["127.0.0.1"], ["127.0.0.2"], ["93.184.215.14", "127.0.0.2"]]) as (courier, asked),
    ):
        url = f"http://hook.example.test:{receiver.port}/x"
        assert sent(courier, url) == Outcome(204)
        assert asked == ["hook.example.test"]
        assert receiver.received[0].headers["host"] == f"hook.example.test:{receiver.port}"
        for _ in range(2):  # the name now leads elsewhere: not allowed, and nothing is sent
            outcome = sent(courier, url)
            assert outcome.status is None
            assert "not a public address" in (outcome.error or "")
        assert len(receiver.received) == 1


def test_what_the_operator_allows_no_longer_is_not_sent_to(start, receiver):
    with start(**LOCAL) as api:
        webhook = add(api, receiver, events=["webhook.test"])
    with start(webhook_backoff_seconds=0.001) as api:
        api.post(f"/v1/webhooks/{webhook['id']}/test")
        wait_for(lambda: told(api, webhook)[0]["last_error"])
        assert "not a public address" in told(api, webhook)[0]["last_error"]
    assert receiver.received == []


# The resource.


def test_a_webhook_is_read_listed_changed_and_deleted(api, receiver):
    first, second = add(api, receiver), add(api, receiver, events=["job.failed", "job.failed", "job.*"])
    assert first["events"] == ["*"]
    assert second["events"] == ["job.*", "job.failed"]
    page = api.get("/v1/webhooks", params={"limit": 1}).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([second["id"]], True)
    rest = api.get("/v1/webhooks", params={"after": page["next"]}).json()
    assert [one["id"] for one in rest["data"]] == [first["id"]]
    changed = api.patch(
        f"/v1/webhooks/{first['id']}",
        json={"url": "https://example.com/x", "events": ["job.failed"], "name": "n", "enabled": False},
    ).json()
    assert (changed["url"], changed["events"], changed["name"]) == ("https://example.com/x", ["job.failed"], "n")
    assert (changed["enabled"], changed["disabled_reason"]) == (False, "asked")
    assert api.patch(f"/v1/webhooks/{first['id']}", json={"name": None}).json()["name"] is None
    assert api.delete(f"/v1/webhooks/{first['id']}").status_code == 204
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("POST", "/rotate"),
        ("GET", "/deliveries"),
    ):
        body = {"json": {}} if method == "PATCH" else {}
        assert_problem(api.request(method, f"/v1/webhooks/{first['id']}{path}", **body), 404)
    missing = f"/v1/webhooks/{second['id']}/deliveries/whd_{'0' * 32}/redeliver"
    assert_problem(api.post(missing), 404)


WRONG = {
    "no url": ({}, "/url", "missing"),
    "unknown field": ({"url": "https://example.com/", "extra": 1}, "/extra", "unknown_field"),
    "no events": ({"url": "https://example.com/", "events": []}, "/events", "out_of_range"),
    "a star inside": ({"url": "https://example.com/", "events": ["job.*.x"]}, "/events/0", "wrong_format"),
    "a short secret": ({"url": "https://example.com/", "secret": "whsec_YWJj"}, "/secret", "invalid_value"),
    "no secret": ({"url": "https://example.com/", "secret": "abc"}, "/secret", "invalid_value"),
    "a number": ({"url": 7}, "/url", "wrong_type"),
}


def test_what_is_wrong_is_pointed_at(api):
    for case, (body, pointer, code) in WRONG.items():
        problem = assert_problem(api.post("/v1/webhooks", json=body), 422)
        assert (pointer, code) in [(one["pointer"], one["code"]) for one in problem["errors"]], case


def test_nulls_are_pointed_at(api, receiver):
    webhook = add(api, receiver)
    problem = assert_problem(api.patch(f"/v1/webhooks/{webhook['id']}", json={"url": None, "enabled": None}), 422)
    assert sorted(one["pointer"] for one in problem["errors"]) == ["/enabled", "/url"]


def test_a_project_has_so_many_webhooks_and_no_more(api, receiver):
    for _ in range(50):
        add(api, receiver)
    assert "50" in assert_problem(api.post("/v1/webhooks", json={"url": receiver.url}), 409)["detail"]
