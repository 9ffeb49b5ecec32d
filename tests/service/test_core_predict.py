"""Jobs that predict: what they are given of the job whose draws they use, and that those stay."""

from __future__ import annotations

from typing import Any

from tests.service.core_driver import Api, assert_problem, sampling, training
from tests.service.test_core_extend import done

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
