"""Jobs that predict: what they are given of the job whose draws they use, and that those stay."""

from __future__ import annotations

from typing import Any

from tests.service.core_driver import Api, assert_problem, sampling, training
from tests.service.test_core_extend import done
from tests.service.test_core_jobs import written
from tests.service.test_retention import folder_of
from tests.specs import fitted

SMALL = {"bytes": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
DATA = {"inline": {"sigma": [15, 10, 16, 11, 9, 11, 10, 18]}}


def predict(job: str, **changes: Any) -> dict[str, Any]:
    return {"kind": "predict", "posterior": {"job": job}, "data": DATA, **changes}


def test_a_prediction_is_handed_the_draws_and_nothing_else(api: Api):
    source = done(api, sampling(name="schools"), 100)
    job = api.submit(predict(source))
    assert (job["kind"], job["progress"]["total"], job["progress"]["unit"]) == ("predict", 50, "draw")
    posterior = {"job": source, "step": 100, "thinning": 1, "args": ["sigma", "y"]}
    assert (job["resolved_spec"]["posterior"], job["resolved_spec"]["init_from"]) == (posterior, None)
    assert job["resolved_spec"]["model"] == api.job(source)["resolved_spec"]["model"]
    given = api.worker().claim().given
    assert given["job_id"] == job["id"]
    assert (given["resume"]["job_id"], given["resume"]["step"], given["resume"]["what"]) == (source, 100, "draws")
    assert given["resume"]["files"] == []
    assert all(file["path"].startswith("draws/") for file in given["resume"]["outputs"])


def test_a_job_that_is_not_there_or_has_no_draws_is_refused_at_its_pointer(api: Api):
    trained = done(api, training(), 10)
    fresh = api.submit(sampling())["id"]
    for job, code in (("job_0", "not_found"), (trained, "incompatible"), (fresh, "not_found")):
        problem = assert_problem(api.post("/v1/jobs", json=predict(job)), 422)
        assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [("/posterior/job", code)]


def test_a_guide_is_a_source_once_its_draws_lie_with_its_last_state(api: Api):
    document = fitted(metadata={})
    cut, whole = api.submit(document)["id"], api.submit(document)["id"]
    worker = api.worker()
    worker.probe_token = worker.registered["probe"]["token"]
    for job, outputs in ((cut, ["draws/000000000060.npz"]), (whole, ["draws/000000000300.npz"])):
        attempt = worker.claim()
        assert attempt.job_id == job
        told = [{"path": name, **SMALL} for name in outputs]
        checkpoint = written(attempt, 300, ["data"], {}) | {"outputs": told, "fresh": told}
        for name in outputs:
            path = folder_of(attempt) / "outputs" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(b"abc")
        assert attempt.report(checkpoints=[checkpoint]).status_code == 200
        assert attempt.finish("succeeded", 300, result={}).status_code == 200
    problem = assert_problem(api.post("/v1/jobs", json=predict(cut)), 422)
    assert [(error["pointer"], error["code"]) for error in problem["errors"]] == [("/posterior/job", "not_found")]
    job = api.submit(predict(whole))
    assert (job["resolved_spec"]["num_chains"], job["progress"]["total"]) == (1, 200)
    given = worker.claim().given
    assert [file["path"] for file in given["resume"]["outputs"]] == ["draws/000000000300.npz"]


def test_draws_stay_while_a_job_reads_them(api: Api):
    source = done(api, sampling(), 100)
    job = api.submit(predict(source))["id"]
    assert_problem(api.delete(f"/v1/jobs/{source}"), 409)
    api.post(f"/v1/jobs/{job}/cancel")
    assert api.delete(f"/v1/jobs/{source}").status_code == 204


def test_a_prediction_is_cloned_with_its_source_and_not_made_longer(api: Api):
    source = done(api, sampling(), 100)
    job = api.submit(predict(source))["id"]
    clone = api.post(f"/v1/jobs/{job}/clone").json()
    assert clone["resolved_spec"]["posterior"]["job"] == source
    api.post(f"/v1/jobs/{job}/cancel")
    assert_problem(api.delete(f"/v1/jobs/{source}"), 409)
    assert_problem(api.post(f"/v1/jobs/{job}/extend", json={"num_samples": 5}), 409)
