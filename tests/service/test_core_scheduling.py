"""Who goes first, who may have how much, and what a job that waits is told."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from sqlalchemy import insert, text, update

from service.context import Context
from service.db.tables import jobs as job_rows
from service.db.tables import projects, usage, usage_entries
from service.db.transaction import Read, Write
from service.domain import preemption, submission
from service.domain.idempotency import ticket
from service.domain.instants import wire
from service.domain.job_object import describe_one
from service.domain.lifecycle import Change, locked
from tests.service.core_driver import Api, Worker, assert_problem, sampling, wait_for


def on(devices: int, **more: Any) -> dict[str, Any]:
    """A job on so many devices."""
    return sampling(num_chains=devices, mesh={"axes": {"chains": devices}}, **more)


def project(context: Context, name: str, **quotas: Any) -> str:
    with Write(context.database) as write:
        write.connection.execute(insert(projects).values(id=name, name=name, created_at=0, **quotas))
    return name


def limit(context: Context, name: str = "default", **quotas: Any) -> None:
    with Write(context.database) as write:
        assert write.connection.execute(update(projects).where(projects.c.id == name).values(**quotas)).rowcount == 1


def submit(context: Context, name: str, count: int = 1, **changes: Any) -> list[str]:
    """Submit jobs of a project, in one transaction."""
    document = sampling(**changes)
    with Write(context.database) as write:
        change = Change(write, context)
        asked = [ticket(name, "POST /v1/jobs", None, document) for _ in range(count)]
        return [submission.submit(change, name, document, each).body["id"] for each in asked]


def reason(context: Context, name: str, job_id: str) -> dict[str, Any]:
    with Write(context.database) as write:
        shown = describe_one(write.connection, context, locked(Change(write, context), name, job_id))
    assert shown.status_reason is not None
    return shown.status_reason.model_dump()


def project_of(context: Context, job_id: str) -> str:
    with Read(context.database) as read:
        return read.connection.execute(job_rows.select().where(job_rows.c.id == job_id)).one().project


# -- turns -------------------------------------------------------------------------------------------------------------------


def test_higher_priority_goes_first_and_equal_ones_in_the_order_they_came(api: Api):
    order = [api.submit(sampling(priority=priority))["id"] for priority in (0, 5, 0, 5, 9)]
    positions = [api.job(job)["queue_position"] for job in order]
    assert positions == [4, 2, 5, 3, 1]
    worker = api.worker()
    claimed = [worker.claim().job_id for _ in order]
    assert claimed == [order[index] for index in (4, 1, 3, 0, 2)]


def test_a_changed_priority_changes_the_place(api: Api):
    first, second = (api.submit()["id"] for _ in range(2))
    api.patch(f"/v1/jobs/{second}", json={"priority": 1})
    assert (api.job(first)["queue_position"], api.job(second)["queue_position"]) == (2, 1)
    api.patch(f"/v1/jobs/{second}", json={"priority": 0})
    assert (api.job(first)["queue_position"], api.job(second)["queue_position"]) == (1, 2)


def test_waiting_makes_up_for_priority(start):
    with start(priority_age_seconds=1e-6) as api:
        old = api.submit()["id"]
        api.submit(sampling(priority=100))
        assert api.worker().claim().job_id == old


def test_a_job_that_was_paused_has_lost_its_place(api: Api):
    first, second = (api.submit()["id"] for _ in range(2))
    api.post(f"/v1/jobs/{first}/pause")
    api.post(f"/v1/jobs/{first}/resume")
    assert (api.job(first)["queue_position"], api.job(second)["queue_position"]) == (2, 1)


def test_a_lost_job_keeps_its_place(api: Api):
    first, second = (api.submit()["id"] for _ in range(2))
    api.worker().claim().finish("released")
    assert (api.job(first)["queue_position"], api.job(second)["queue_position"]) == (1, 2)


# -- projects ----------------------------------------------------------------------------------------------------------------


def test_one_job_beside_a_flood_starts_within_one_jobs_length(api: Api, context: Context):
    flood, other = project(context, "flood"), project(context, "other")
    submit(context, flood, 500)
    running = [api.worker().claim() for _ in range(4)]
    [lone] = submit(context, other)
    running[0].finish()
    assert api.worker().claim().job_id == lone


def test_projects_share_by_weight(api: Api, context: Context):
    for name, weight in (("heavy", 3.0), ("light", 1.0)):
        submit(context, project(context, name, weight=weight), 12)
    held = Counter(project_of(context, api.worker().claim().job_id) for _ in range(12))
    assert held == {"heavy": 9, "light": 3}


def test_projects_take_turns_on_a_single_worker(api: Api, context: Context):
    for name in ("some", "more"):
        submit(context, project(context, name), 3)
    worker, order = api.worker(), []
    for _ in range(6):
        attempt = worker.claim()
        order.append(project_of(context, attempt.job_id))
        attempt.finish()
    assert order[0::2] in (["some"] * 3, ["more"] * 3)
    assert Counter(order[1::2]) == Counter(["more"] * 3 if order[0] == "some" else ["some"] * 3)


# -- quotas ------------------------------------------------------------------------------------------------------------------


def test_a_quota_of_running_jobs(api: Api, context: Context):
    limit(context, max_running_jobs=1)
    first = api.submit()["id"]
    second = api.submit()["id"]
    attempt = api.worker().claim()
    assert attempt.job_id == first
    worker = api.worker()
    assert worker.ask().status_code == 204
    shown = api.job(second)["status_reason"]
    assert shown["code"] == "WaitingForQuota"
    assert "quota is 1" in shown["message"]
    assert shown["hint"]
    attempt.finish()
    assert worker.claim().job_id == second


def test_a_quota_of_devices(api: Api, context: Context):
    limit(context, max_devices=4)
    too_large, fits, waits = (api.submit(on(devices))["id"] for devices in (8, 3, 2))
    small = api.submit(on(1))["id"]
    assert [api.worker().claim().job_id for _ in range(2)] == [fits, small]
    assert api.worker().ask().status_code == 204
    assert api.job(too_large)["status_reason"]["code"] == "ExceedsQuota"
    assert "may hold 4" in api.job(too_large)["status_reason"]["message"]
    assert api.job(waits)["status_reason"]["code"] == "WaitingForQuota"


@pytest.mark.parametrize("table", [usage, usage_entries], ids=["folded", "not yet folded"])
@pytest.mark.parametrize(("period", "day"), [("total", "2020-01-01"), ("month", "%Y-%m"), ("day", "%Y-%m-%d")])
def test_a_quota_of_device_seconds(api: Api, context: Context, table: Any, period: str, day: str):
    limit(context, max_device_seconds=100.0, device_seconds_period=period)
    job = api.submit()["id"]
    with Write(context.database) as write:
        change = Change(write, context)
        spent_on = day if day[0] != "%" else wire(change.now)[:10]
        write.connection.execute(insert(table).values(project="default", day=spent_on, what="device_seconds", amount=100.0))
        other = {"project": "default", "day": "1999-01-01", "what": "device_seconds", "amount": 1.0}
        write.connection.execute(insert(table).values(**other))
    worker = api.worker()
    assert worker.ask().status_code == 204
    assert api.job(job)["status_reason"]["code"] == "WaitingForQuota"
    limit(context, max_device_seconds=102.0)
    assert worker.claim().job_id == job


def test_a_quota_of_stored_bytes(api: Api, context: Context):
    limit(context, max_stored_bytes=1000)
    job = api.submit()["id"]
    with Write(context.database) as write:
        row = {"project": "default", "what": "stored_bytes"}
        write.connection.execute(insert(usage).values(day="2999-01-01", amount=5000.0, **row))
    worker = api.worker()
    assert worker.ask().status_code == 204
    shown = api.job(job)["status_reason"]
    assert (shown["code"], "Delete" in shown["hint"]) == ("WaitingForQuota", True)
    with Write(context.database) as write:
        write.connection.execute(insert(usage).values(day="2999-01-02", amount=500.0, **row))
    assert worker.claim().job_id == job


def test_a_quota_of_queued_jobs(api: Api, context: Context):
    limit(context, max_queued_jobs=2)
    first = api.submit()["id"]
    api.submit()
    refused = api.post("/v1/jobs", json=sampling())
    assert assert_problem(refused, 429)["code"] == "quota_exceeded"
    assert int(refused.headers["retry-after"]) > 0
    assert api.worker().claim().job_id == first
    api.submit()
    assert_problem(api.post(f"/v1/jobs/{first}/clone"), 429)


def test_another_projects_quota_is_its_own(api: Api, context: Context):
    blocked, free = project(context, "blocked", max_running_jobs=0), project(context, "free")
    [held] = submit(context, blocked)
    [job] = submit(context, free)
    worker = api.worker()
    assert worker.claim().job_id == job
    assert worker.ask().status_code == 204
    assert reason(context, blocked, held)["code"] == "WaitingForQuota"


# -- several jobs on one worker ----------------------------------------------------------------------------------------------


def shared(api: Api, slots: int = 4, devices: int = 8) -> Worker:
    return api.worker(slots=slots, device_count=devices)


@pytest.mark.parametrize("ending", ["succeeded", "released", "cancelled", "nan_loss", "child_killed", "superseded"])
def test_devices_of_a_worker_are_given_out_once_and_come_back_with_every_end(api: Api, context: Context, ending: str):
    jobs = [api.submit(on(4))["id"] for _ in range(4)]
    worker = shared(api)
    first, second = worker.claim(), worker.claim()
    assert [first.job_id, second.job_id] == jobs[:2]
    assert worker.ask().status_code == 204
    if ending == "cancelled":
        api.post(f"/v1/jobs/{first.job_id}/cancel")
    if ending == "superseded":
        with Write(context.database) as write:
            over = {"id": first.id}
            write.connection.execute(text("UPDATE leases SET expires_at = 0 WHERE attempt_id = :id"), over)
    elif ending in ("nan_loss", "child_killed"):
        first.fail(ending)
    else:
        first.finish(ending)
    worker.claim()
    assert worker.ask().status_code == 204


def test_a_worker_has_no_more_jobs_than_slots(api: Api):
    for _ in range(3):
        api.submit(on(1))
    worker = shared(api, slots=2)
    worker.claim()
    worker.claim()
    assert worker.ask().status_code == 204


def test_a_mesh_that_takes_what_there_is_leaves_something_for_the_others(api: Api):
    open_mesh = {"mesh": {"axes": {"chains": -1}}, "num_chains": 8}
    for _ in range(2):
        api.submit(sampling(**open_mesh))
    worker = shared(api, slots=2)
    assert [worker.claim().given["mesh_axes"] for _ in range(2)] == [{"chains": 4}, {"chains": 4}]


def test_a_large_job_is_not_starved_by_small_ones(start):
    with start(reserve_after_seconds=0) as api:
        worker = shared(api)
        small = [api.submit(on(2))["id"] for _ in range(4)]
        running = [worker.claim() for _ in range(3)]
        large = api.submit(on(6, priority=1))["id"]
        also = api.submit(on(1))["id"]
        filler = worker.claim()
        assert filler.job_id == small[3], "two devices are left over beside the large one: smaller ones go on there"
        shown = api.job(large)["status_reason"]
        assert (shown["code"], "kept for this job" in shown["message"]) == ("WaitingForCapacity", True)
        kept = {each["id"]: each["kept_for"] for each in api.get(f"/v1/jobs/{also}/queue").json()["workers"]}
        assert kept == {worker.id: "another job"}
        running[0].finish()
        assert worker.ask().status_code == 204, "what comes free now is kept"
        running[1].finish()
        assert worker.ask().status_code == 204
        running[2].finish()
        assert worker.claim().job_id == large
        filler.finish()
        assert worker.claim().job_id == also


def test_a_worker_is_not_kept_for_a_job_that_waits_no_more(start):
    with start(reserve_after_seconds=0) as api:
        worker = shared(api)
        api.submit(on(2))
        running = worker.claim()
        large, small = api.submit(on(8, priority=1))["id"], api.submit(on(4))["id"]
        assert worker.ask().status_code == 204
        api.post(f"/v1/jobs/{large}/cancel")
        assert worker.claim().job_id == small
        assert running.finish().status_code == 200


def test_small_jobs_pass_a_large_one_until_it_has_waited(api: Api):
    worker = shared(api)
    api.submit(on(2))
    worker.claim()
    api.submit(on(8, priority=1))
    small = api.submit(on(4))["id"]
    assert worker.claim().job_id == small


# -- preemption --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1, 4])
def test_a_job_of_higher_priority_takes_the_place_of_a_weaker_one(start, slots: int):
    with start(preemption="priority", preemption_cooldown_seconds=0) as api:
        worker = shared(api, slots=slots)
        weak = api.submit(on(8))["id"]
        attempt = worker.claim()
        strong = api.submit(on(8, priority=1))["id"]
        wait_for(lambda: attempt.beat(5).json()["command"] == "pause")
        assert attempt.beat(5).json()["save"] is True
        later = api.submit(on(8))["id"]
        assert attempt.finish("paused", 6).json() == {"status": "queued"}
        shown = api.job(weak)
        assert (shown["status"], shown["phase"]) == ("queued", "preempted")
        assert [event["data"] for event in api.events(weak) if event["type"] == "job.preempting"] == [{"for": strong}]
        assert [event["data"]["reason"] for event in api.events(weak) if event["type"] == "job.requeued"] == ["preempted"]
        assert [worker.claim().job_id for _ in range(1)] == [strong]
        assert api.job(later)["status"] == "queued"


@pytest.mark.parametrize(
    ("changes", "priority"),
    [({}, 1), ({"preemption": "priority", "preemption_cooldown_seconds": 3600}, 1), ({"preemption": "priority"}, 0)],
    ids=["not allowed", "just begun", "not stronger"],
)
def test_nobody_is_preempted_without_need(start, changes: dict, priority: int):
    with start(sweep_seconds=3600, **changes) as api:
        worker = api.worker()
        api.submit(on(8))
        attempt = worker.claim()
        api.submit(on(8, priority=priority))
        preemption.preempt_if_due(api.app.state.context)
        assert attempt.beat(5).json()["command"] == "continue"


def test_another_projects_jobs_are_never_preempted(start):
    with start(preemption="priority", preemption_cooldown_seconds=0, sweep_seconds=3600) as api:
        context = api.app.state.context
        api.submit(on(8))
        attempt = api.worker().claim()
        submit(context, project(context, "other"), priority=9, num_chains=8, mesh={"axes": {"chains": 8}})
        preemption.preempt_if_due(context)
        assert attempt.beat(5).json()["command"] == "continue"


# -- what is told ------------------------------------------------------------------------------------------------------------


def test_a_waiting_job_tells_who_is_ahead_and_who_could_take_it(api: Api):
    able, small = api.worker(), api.worker(device_count=1)
    first = api.submit(on(8, priority=2, name="the first"))["id"]
    job = api.submit(on(4, resources={"labels": {"rack": "7"}}))["id"]
    place = api.get(f"/v1/jobs/{job}/queue").json()
    assert (place["object"], place["job_id"], place["status"], place["queue_position"]) == ("queue_place", job, "queued", 2)
    assert [(each["id"], each["name"], each["priority"]) for each in place["ahead"]] == [(first, "the first", 2)]
    lacking = {each["id"]: each["lacks"] for each in place["workers"]}
    assert lacking == {able.id: ["label:rack=7"], small.id: ["4 devices", "label:rack=7"]}
    assert place["status_reason"]["code"] == "NoMatchingWorker"
    able.claim()
    place = api.get(f"/v1/jobs/{first}/queue").json()
    assert (place["status"], place["queue_position"], place["status_reason"], place["ahead"]) == ("running", None, None, [])
    assert {each["id"]: each["free_devices"] for each in place["workers"]} == {able.id: 0, small.id: 1}
    assert_problem(api.get(f"/v1/jobs/job_{'0' * 32}/queue"), 404)
