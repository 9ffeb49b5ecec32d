from __future__ import annotations

import pytest

from service.app import create_app
from service.db.queries import jobs
from service.domain import logs
from service.domain.lifecycle import Change
from tests.service.core_driver import wait_for
from tests.service.data.world import World


def patience(settings):
    """The service, which looks at its database only when it is woken: what comes quickly here came by a hint."""
    return World(create_app(settings.model_copy(update={"poll_seconds": 3600.0})))


@pytest.fixture
def patient(settings):
    with patience(settings) as running:
        yield running


def append(world, job_id, *texts):
    for text in texts:
        with world.write() as write:
            logs.append(Change(write, world.context), job_id, "att_" + "0" * 32, text)
    world.context.signals.wake(job_id)


def test_a_log_is_given_whole_and_in_order(world):
    job_id = world.new_job()
    other = world.new_job()
    append(world, job_id, *(f"line {i}\nhalf " for i in range(50)))
    append(world, other, "not mine")
    reply = world.get(f"/v1/jobs/{job_id}/logs")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text == "".join(f"line {i}\nhalf " for i in range(50))
    assert world.get(f"/v1/jobs/{world.new_job()}/logs").text == ""


def test_what_the_database_cannot_hold_is_replaced(world):
    job_id = world.new_job()
    append(world, job_id, "a\x00b\r\x1b[31mé\n")
    assert world.get(f"/v1/jobs/{job_id}/logs").text == "a\ufffdb\r\x1b[31mé\n"


def test_the_tail(world, subtests):
    job_id = world.new_job()
    whole = [f"progress {i}%\r{i}\n" for i in range(40)]
    text = "".join(whole)
    append(world, job_id, *(text[start : start + 17] for start in range(0, len(text), 17)))
    for lines in (0, 1, 2, 5, 39, 40, 41, 1000):
        with subtests.test(str(lines)):
            assert world.get(f"/v1/jobs/{job_id}/logs?tail={lines}").text == ("".join(whole[-lines:]) if lines else "")


def test_a_last_line_without_an_end_counts(world):
    job_id = world.new_job()
    append(world, job_id, "a\nb\n", "c")
    assert world.get(f"/v1/jobs/{job_id}/logs?tail=2").text == "b\nc"


def test_a_wrong_query_is_refused(world, subtests):
    job_id = world.new_job()
    for query in ("tail=-1", "tail=x", "follow=maybe", "tail=1000001"):
        with subtests.test(query):
            assert world.get(f"/v1/jobs/{job_id}/logs?{query}").status_code == 422


def test_an_unknown_job_has_no_log(world):
    for query in ("", "?follow=true", "?tail=3"):
        assert world.get("/v1/jobs/job_" + "0" * 32 + f"/logs{query}").status_code == 404


def test_following_an_ended_job_ends(world):
    job_id = world.new_job(status="succeeded")
    append(world, job_id, "all of it\n")
    assert world.get(f"/v1/jobs/{job_id}/logs?follow=true").text == "all of it\n"
    assert world.get(f"/v1/jobs/{job_id}/logs?follow=true&tail=0").text == ""


def test_following_gives_what_comes_until_the_job_has_ended(patient):
    job_id = patient.new_job()
    append(patient, job_id, "before\n")
    listening = patient.begin("GET", f"/v1/jobs/{job_id}/logs?follow=true")
    wait_for(lambda: listening.body == b"before\n")
    append(patient, job_id, "one\n", "two\n")
    wait_for(lambda: listening.body == b"before\none\ntwo\n")
    assert not listening.whole
    append(patient, job_id, "last words\n")
    patient.change_job(job_id, status="failed")
    assert listening.end().body == b"before\none\ntwo\nlast words\n"
    assert listening.whole


def test_following_from_the_tail(patient):
    job_id = patient.new_job()
    append(patient, job_id, "a\nb\nc\n")
    listening = patient.begin("GET", f"/v1/jobs/{job_id}/logs?follow=true&tail=1")
    wait_for(lambda: listening.body == b"c\n")
    append(patient, job_id, "d\n")
    patient.change_job(job_id, status="cancelled")
    assert listening.end().body == b"c\nd\n"


def test_following_without_a_hint_looks_again(world):
    """Another replica may have written: nobody here is woken."""
    job_id = world.new_job()
    listening = world.begin("GET", f"/v1/jobs/{job_id}/logs?follow=true")
    wait_for(lambda: listening.status == 200)
    with world.write() as write:
        logs.append(Change(write, world.context), job_id, "att_" + "0" * 32, "quietly\n")
    wait_for(lambda: listening.body == b"quietly\n")
    with world.write() as write:
        jobs.change(write.connection, job_id, {"status": "succeeded"})
    assert listening.end().whole


def test_many_followers_hold_neither_threads_nor_connections(patient):
    job_id = patient.new_job()
    listening = [patient.begin("GET", f"/v1/jobs/{job_id}/logs?follow=true") for _ in range(100)]
    append(patient, job_id, "a\n")
    wait_for(lambda: all(one.body == b"a\n" for one in listening))
    wait_for(lambda: patient.context.database.engine.pool.checkedout() == 0)
    assert patient.get(f"/v1/jobs/{job_id}/logs").text == "a\n"
    patient.change_job(job_id, status="succeeded")
    assert all(one.end().whole for one in listening)


def test_a_follower_that_goes_away_is_let_go(world):
    job_id = world.new_job()
    listening = world.begin("GET", f"/v1/jobs/{job_id}/logs?follow=true")
    wait_for(lambda: listening.status == 200)
    assert listening.leave().end().body == b""


def test_followers_are_let_go_when_the_service_stops(settings):
    with patience(settings) as running:
        job_id = running.new_job()
        listening = running.begin("GET", f"/v1/jobs/{job_id}/logs?follow=true")
        wait_for(lambda: listening.status == 200)
    assert listening.end().whole


def test_a_job_deleted_while_followed_ends_the_stream(world):
    job_id = world.new_job()
    listening = world.begin("GET", f"/v1/jobs/{job_id}/logs?follow=true")
    wait_for(lambda: listening.status == 200)
    with world.write() as write:
        jobs.remove(write.connection, job_id)
    assert listening.end().whole
