"""Projects with their quotas, what they used by day, and what people changed in them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.db.transaction import Read
from service.domain.access.usage import days_between, device_seconds, measure, settle
from service.domain.instants import day_of
from tests.service.access_driver import House, house
from tests.service.core_driver import Api, assert_problem, sampling

DAY_US = 86_400 * 1_000_000


@pytest.fixture
def home(start) -> Iterator[House]:
    with house(start) as found:
        yield found


def test_the_default_project_is_always_there(api: Api):
    found = api.get("/v1/projects").json()["data"]
    assert [(one["id"], one["name"], one["weight"]) for one in found] == [("default", "default", 1.0)]
    assert_problem(api.delete("/v1/projects/default"), 409)


def test_a_project_is_made_changed_and_deleted(api: Api):
    made = api.post("/v1/projects", json={"name": "vision", "weight": 2, "quotas": {"max_devices": 8}}).json()
    assert (made["weight"], made["quotas"]["max_devices"], made["quotas"]["max_queued_jobs"]) == (2.0, 8, None)
    changed = api.patch(f"/v1/projects/{made['id']}", json={"quotas": {"max_running_jobs": 1}}).json()
    assert (changed["weight"], changed["quotas"]["max_devices"], changed["quotas"]["max_running_jobs"]) == (2.0, 8, 1)
    freed = api.patch(f"/v1/projects/{made['id']}", json={"quotas": {"max_devices": None}}).json()
    assert (freed["quotas"]["max_devices"], freed["quotas"]["max_running_jobs"]) == (None, 1)
    assert api.get(f"/v1/projects/{made['id']}").json() == freed
    assert api.delete(f"/v1/projects/{made['id']}").status_code == 204
    assert_problem(api.get(f"/v1/projects/{made['id']}"), 404)


def test_a_name_belongs_to_one_project(api: Api):
    one, other = (api.post("/v1/projects", json={"name": name}).json()["id"] for name in ("vision", "speech"))
    assert_problem(api.post("/v1/projects", json={"name": "vision"}), 409)
    assert_problem(api.patch(f"/v1/projects/{other}", json={"name": "vision"}), 409)
    assert api.patch(f"/v1/projects/{one}", json={"name": "vision"}).status_code == 200


def test_a_project_with_something_in_it_stays(home: House):
    project = home.project("vision")
    user = home.bearer("jobs:write", project=project)
    job = user.submit(sampling())["id"]
    detail = assert_problem(home.operator.delete(f"/v1/projects/{project}"), 409)["detail"]
    assert "jobs" in detail
    assert "keys" in detail
    user.post(f"/v1/jobs/{job}/cancel")
    user.delete(f"/v1/jobs/{job}")
    home.operator.delete(f"/v1/keys/{user.made['id']}")
    assert home.operator.delete(f"/v1/projects/{project}").status_code == 204


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": "x", "weight": 0}, "/weight"),
        ({"name": "x", "quotas": {"max_devices": -1}}, "/quotas/max_devices"),
        ({"name": "x", "quotas": {"max_gpus": 1}}, "/quotas/max_gpus"),
        ({"name": "x", "quotas": {"device_seconds_period": "week"}}, "/quotas/device_seconds_period"),
        ({"name": ""}, "/name"),
        ({}, "/name"),
    ],
    ids=["weightless", "negative", "unknown-quota", "unknown-period", "nameless", "empty"],
)
def test_what_no_project_can_be(api: Api, body, pointer: str):
    problem = assert_problem(api.post("/v1/projects", json=body), 422)
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_a_worker_of_one_project_takes_its_jobs_and_one_of_all_takes_everybodys(home: House):
    project = home.project("vision")
    mine = home.operator.submit(sampling())["id"]
    theirs = home.bearer("jobs:write", project=project).submit(sampling())["id"]
    bound = home.worker(home.bearer("worker", project=project))
    assert bound.claim().job_id == theirs
    assert bound.ask().status_code == 204
    assert home.worker(home.bearer("worker", all_projects=True)).claim().job_id == mine


def test_a_worker_of_all_projects_reads_everybodys_bytes_and_others_do_not(home: House):
    project = home.project("vision")
    user = home.bearer("jobs:write", project=project)
    dataset = user.request("POST", "/v1/datasets", params={"format": "text"}, content=b"abc" * 100).json()["id"]
    path = f"/v1/datasets/{dataset}/content"
    callers = {"of all": home.bearer("worker", all_projects=True), "its own": home.bearer("worker", project=project)}
    callers |= {"another's": home.bearer("worker"), "a reader of all": home.bearer("jobs:read", all_projects=True)}
    found = {who: caller.get(path).status_code for who, caller in callers.items()}
    assert found == {"of all": 200, "its own": 200, "another's": 404, "a reader of all": 404}


def test_a_user_sees_the_workers_that_serve_them_but_not_what_others_run(home: House):
    user = home.bearer("jobs:read", project=home.project("vision"))
    shared, other = home.worker(home.bearer("worker", all_projects=True)), home.worker(home.bearer("worker"))
    home.operator.submit(sampling())
    shared.claim()
    listed = user.get("/v1/workers").json()["data"]
    assert [(one["id"], one["all_projects"], one["running"]) for one in listed] == [(shared.id, True, [])]
    assert user.get(f"/v1/workers/{other.id}").status_code == 404
    assert len(home.operator.get(f"/v1/workers/{shared.id}").json()["running"]) == 1
    assert_problem(home.bearer("admin").post(f"/v1/workers/{shared.id}/drain"), 403)


def test_what_was_used_is_told_by_day(api: Api, context):
    done, failed, gone = (api.submit(sampling())["id"] for _ in range(3))
    worker = api.worker()
    attempt = worker.claim()
    assert attempt.job_id == done
    held = api.get("/v1/usage").json()["now"]
    assert (held["queued_jobs"], held["running_jobs"], held["devices"]) == (2, 1, attempt.given["devices"])
    attempt.finish("succeeded", step=100)
    worker.claim().fail("nan_loss")
    api.post(f"/v1/jobs/{gone}/cancel")
    api.request("POST", "/v1/datasets", params={"format": "text"}, content=b"x" * 321)
    before = api.get("/v1/usage").json()
    settle(context)
    measure(context)
    found = api.get("/v1/usage").json()
    assert found["data"][0] | {"stored_bytes": 321} == found["data"][0]
    assert before["data"][0] | {"stored_bytes": 321} == found["data"][0]
    (day,) = found["data"]
    counted = {name: day[name] for name in ("attempts", "jobs_submitted", "jobs_succeeded", "jobs_failed", "jobs_cancelled")}
    assert counted == {"attempts": 2, "jobs_submitted": 3, "jobs_succeeded": 1, "jobs_failed": 1, "jobs_cancelled": 1}
    assert day["device_seconds"] == pytest.approx(found["now"]["device_seconds"])
    assert found["now"]["device_seconds"] > 0
    api.delete(f"/v1/jobs/{failed}")
    assert api.get("/v1/usage").json()["data"] == [day]


def test_usage_comes_in_pages(api: Api):
    api.submit()
    today = api.get("/v1/usage").json()["data"][0]["day"]
    assert api.get("/v1/usage", params={"after": today}).json()["data"] == []
    assert api.get("/v1/usage", params={"since": "2999-01-01"}).json()["data"] == []
    assert_problem(api.get("/v1/usage", params={"since": "yesterday"}), 422)


def test_device_seconds_of_an_attempt_under_way_count(api: Api, context):
    api.submit()
    attempt = api.worker().claim()
    with Read(context.database) as read:
        assert device_seconds(read.connection, "default", "day") > 0
    attempt.finish("released")
    with Read(context.database) as read:
        assert device_seconds(read.connection, "default", "total") > 0


def test_a_span_is_parted_at_midnight():
    began = 20_000 * DAY_US - 1_500_000
    assert list(days_between(began, began + DAY_US + 2_000_000)) == [
        (day_of(began), 1.5),
        (day_of(20_000 * DAY_US), 86_400.0),
        (day_of(20_001 * DAY_US), 0.5),
    ]


def test_who_changed_what_is_written_down_with_the_change(home: House):
    user = home.bearer("jobs:write")
    job = user.submit(sampling())["id"]
    cancelled = user.post(f"/v1/jobs/{job}/cancel")
    assert_problem(user.post(f"/v1/jobs/{job}/pause"), 409)
    entries = home.operator.get("/v1/audit", params={"key_id": user.made["id"]}).json()["data"]
    told = [(one["action"], one["target"], one["project"]) for one in entries]
    assert told == [("cancel_job", f"/v1/jobs/{job}/cancel", "default"), ("submit_job", "/v1/jobs", "default")]
    assert entries[0]["request_id"] == cancelled.headers["x-request-id"]
    assert entries[1]["data"] == {"id": job}
    by = [event["data"].get("key_id") for event in home.operator.events(job)]
    assert by == [user.made["id"]] * len(by)
    assert home.operator.get("/v1/audit").json()["data"][-1]["action"] == "create_key"


def test_an_event_that_a_worker_causes_bears_no_key(home: House):
    home.operator.submit(sampling())
    attempt = home.worker(home.bearer("worker")).claim()
    attempt.finish("succeeded", step=100)
    by = {event["type"]: event["data"].get("key_id") for event in home.operator.events(attempt.job_id)}
    assert by["job.queued"] == "bootstrap"
    assert {by["attempt.started"], by["attempt.ended"], by["job.succeeded"]} == {None}


def test_the_same_idempotency_key_in_two_projects_is_two_keys(home: House):
    users = [home.bearer("jobs:write", project=home.project(name)) for name in ("one", "two")]
    jobs = [user.submit(sampling(), **{"Idempotency-Key": "k"})["id"] for user in (*users, *users)]
    assert jobs[:2] == jobs[2:]
    assert jobs[0] != jobs[1]
