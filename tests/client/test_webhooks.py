"""Checking a message that a webhook has brought."""

from __future__ import annotations

import json
import time

import pytest

from meshyard.webhooks import NotGenuine, unwrap
from service.domain.signing import headers, key_of, new_secret

BODY = b'{"id":"evt_1","type":"job.failed","data":{"job_id":"job_1"}}'
SECRET = new_secret()


def test_the_published_example_of_the_scheme():
    # standard-webhooks, spec: the example of its "Signing" libraries' test suites.
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    made = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, [secret])
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert unwrap(body, made, secret, now=1614265330) == {"test": 2432232314}


def test_what_the_service_signs_is_believed():
    signed = headers("evt_1", int(time.time()), BODY, [new_secret(), SECRET])
    for given in (signed, {name.title(): value for name, value in signed.items()}):
        assert unwrap(BODY, given, SECRET) == json.loads(BODY)
    assert unwrap(BODY.decode(), signed, [new_secret(), SECRET])["id"] == "evt_1"


@pytest.mark.parametrize("broken", ["body", "id", "timestamp", "signature", "secret", "version", "missing"])
def test_what_is_not_from_the_service_is_not(broken):
    now = int(time.time())
    signed, body, secret = headers("evt_1", now, BODY, [SECRET]), BODY, SECRET
    if broken == "body":
        body += b" "
    elif broken == "id":
        signed["webhook-id"] = "evt_2"
    elif broken == "timestamp":
        signed["webhook-timestamp"] = str(now + 1)
    elif broken == "signature":
        signed["webhook-signature"] = "v1,AAAA"
    elif broken == "secret":
        secret = new_secret()
    elif broken == "version":
        signed["webhook-signature"] = signed["webhook-signature"].replace("v1,", "v0,")
    else:
        del signed["webhook-id"]
    with pytest.raises(NotGenuine):
        unwrap(body, signed, secret)


@pytest.mark.parametrize("age", [-301, 301])
def test_an_old_message_and_one_from_the_future_are_not_believed(age):
    with pytest.raises(NotGenuine, match="old"):
        unwrap(BODY, headers("evt_1", 1_000_000, BODY, [SECRET]), SECRET, now=1_000_000 + age)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!!", "whsec_YWJj", "other_" + "A" * 32, "whsec_" + "A" * 128])
def test_what_is_no_secret(secret):
    with pytest.raises(ValueError, match=r"secret|whsec_"):
        key_of(secret)
