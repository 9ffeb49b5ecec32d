"""Jobs made longer: what is accepted, what becomes of it, and that what it reads stays."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.core_driver import Api, assert_problem, sampling, training
from tests.service.test_core_jobs import keep


def done(api: Api, document: dict[str, Any], step: int) -> str:
    """A job that has succeeded at a step, with a checkpoint there."""
    job = api.submit(document)["id"]
    worker = api.worker()
    worker.probe_token = worker.registered["probe"]["token"]
    attempt = worker.claim()
    keep(attempt, step)
    assert attempt.finish("succeeded", step, result={}).status_code == 200
    return job


def extend(api: Api, job: str, body: Any, **headers: str) -> Any:
    return api.post(f"/v1/jobs/{job}/extend", json=body, headers=headers)


def test_a_sampler_goes_on_from_its_last_checkpoint(api: Api):
    first = done(api, sampling(name="schools", thinning=2), 100)
    reply = extend(api, first, {"num_samples": 30})
    assert reply.status_code == 201
    job = reply.json()
    start = {"job": first, "step": 100, "what": "all", "include": None, "exclude": []}
    assert reply.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["parent"], job["status"], job["name"]) == ({"job": first, "relation": "extend"}, "queued", "schools")
    assert (job["resolved_spec"]["num_samples"], job["spec"]["num_samples"], job["progress"]["total"]) == (80, 80, 130)
    assert job["spec"]["init_from"] == job["resolved_spec"]["init_from"] == start
    same = api.job(first)["resolved_spec"] | {"num_samples": 80, "init_from": start}
    assert job["resolved_spec"] == same
    given = api.worker().claim().given
    assert (given["job_id"], given["resume"]["job_id"], given["resume"]["step"]) == (job["id"], first, 100)
    assert api.post("/v1/jobs", json=job["spec"]).status_code == 201


def test_training_goes_on_and_keeps_what_was_frozen(api: Api):
    first = done(api, training(), 10)
    job = extend(api, first, {"steps": 5}).json()
    assert (job["resolved_spec"]["steps"], job["progress"]["total"]) == (15, 15)
    assert job["resolved_spec"]["checkpoint"] == api.job(first)["resolved_spec"]["checkpoint"]
    assert api.worker().claim().given["resume"]["step"] == 10


def test_a_job_that_stopped_early_goes_on_without_the_rule_that_stopped_it(api: Api):
    whole = done(api, sampling(stop={"min_ess_bulk": 10}), 100)
    first = done(api, sampling(num_samples=500, stop={"min_ess_bulk": 10}), 250)
    job = extend(api, first, {"num_samples": 70}).json()
    assert (job["resolved_spec"]["num_samples"], job["progress"]["total"]) == (270, 320)
    assert job["resolved_spec"]["stop"]["min_ess_bulk"] is None
    assert extend(api, whole, {"num_samples": 70}).json()["resolved_spec"]["stop"]["min_ess_bulk"] == 10


def test_what_a_longer_job_reads_stays_while_it_lives(api: Api):
    first = done(api, sampling(), 100)
    job = extend(api, first, {"num_samples": 10}).json()["id"]
    assert_problem(api.delete(f"/v1/jobs/{first}"), 409)
    api.post(f"/v1/jobs/{job}/cancel")
    assert api.delete(f"/v1/jobs/{first}").status_code == 204


def test_the_same_key_makes_one_job(api: Api):
    first = done(api, sampling(), 100)
    one, same = (extend(api, first, {"num_samples": 10}, **{"Idempotency-Key": "a"}) for _ in range(2))
    assert (one.json(), same.headers["idempotent-replayed"]) == (same.json(), "true")
    document = assert_problem(extend(api, first, {"num_samples": 11}, **{"Idempotency-Key": "a"}), 422)
    assert document["code"] == "idempotency_key_reused"


def test_a_job_that_has_not_succeeded_cannot_be_made_longer(api: Api):
    job = api.submit()["id"]
    assert assert_problem(extend(api, job, {"num_samples": 10}), 409)["current_status"] == "queued"
    failing = api.worker().claim()
    failing.fail("nan_loss", 5)
    assert assert_problem(extend(api, job, {"num_samples": 10}), 409)["current_status"] == "failed"


def test_a_job_without_its_last_checkpoint_cannot_be_made_longer(api: Api):
    job = api.submit()["id"]
    api.worker().claim().finish("succeeded", 100, result={})
    assert "checkpoint" in assert_problem(extend(api, job, {"num_samples": 10}), 409)["detail"]


@pytest.mark.parametrize(
    ("kind", "body", "pointer", "code"),
    [
        ("mcmc", {}, "/num_samples", "missing"),
        ("mcmc", {"steps": 5}, "/steps", "conflict"),
        ("train", {"num_samples": 5}, "/num_samples", "conflict"),
        ("mcmc", {"num_samples": 3}, "/num_samples", "not_divisible"),
        ("mcmc", {"num_samples": 10**9}, "/num_samples", "out_of_range"),
        ("mcmc", {"num_samples": 0}, "/num_samples", "out_of_range"),
        ("mcmc", {"num_samples": True}, "/num_samples", "wrong_type"),
        ("mcmc", {"num_samples": 4, "more": 1}, "/more", "unknown_field"),
        ("mcmc", [], "", "wrong_type"),
    ],
    ids=str,
)
def test_a_wrong_body_is_refused_where_it_is_wrong(api: Api, kind: str, body: Any, pointer: str, code: str):
    document, step = (sampling(thinning=2), 100) if kind == "mcmc" else (training(), 10)
    document = assert_problem(extend(api, done(api, document, step), body), 422)
    assert (pointer, code) in [(error["pointer"], error["code"]) for error in document["errors"]]
