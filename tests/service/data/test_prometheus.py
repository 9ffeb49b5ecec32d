from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from starlette.middleware import Middleware

from service.app import create_app
from service.http.prometheus import Measured
from tests.service.data.world import World


def figures(world):
    reply = world.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [sample for family in text_string_to_metric_families(reply.text) for sample in family.samples]
    return {(sample.name, *sorted(sample.labels.values())): sample.value for sample in samples}


def test_the_state_of_the_service(world):
    job_id = world.new_job(kind="mcmc")
    world.new_job(status="queued", queued_at=0)
    world.commit(job_id, world.attempt(job_id), 10, {"a": b"12345"})
    world.worker()
    world.post("/v1/datasets?format=text", content=b"abc")
    found = figures(world)
    assert found[("meshyard_jobs", "mcmc", "running")] == 1
    assert found[("meshyard_jobs", "queued", "train")] == 1
    assert found[("meshyard_jobs", "failed", "train")] == 0
    assert found[("meshyard_queue_age_seconds",)] > 1e9
    assert found[("meshyard_workers", "active")] == 1
    assert found[("meshyard_workers", "draining")] == 0
    assert found[("meshyard_checkpoints_bytes",)] == 5
    assert found[("meshyard_datasets_bytes",)] == 3


def test_requests_are_counted_by_the_template_of_their_route(settings):
    app = create_app(settings)
    if Measured not in [one.cls for one in app.user_middleware]:
        app.user_middleware.append(Middleware(Measured))
    with World(app) as world:
        for _ in range(3):
            world.get("/v1/jobs/job_" + "0" * 32)
        world.get("/v1/jobs")
        world.get("/no/such/path")
        world.request("BREW", "/v1/jobs")
        found = figures(world)
    assert found[("meshyard_http_requests_total", "/v1/jobs/{job_id}", "404", "GET")] == 3
    assert found[("meshyard_http_requests_total", "/v1/jobs", "200", "GET")] == 1
    assert found[("meshyard_http_requests_total", "404", "GET", "unmatched")] == 1
    assert found[("meshyard_http_request_seconds_count", "/v1/jobs/{job_id}", "GET")] == 3
    assert not any("BREW" in key for key in found)


def test_two_apps_count_apart(settings):
    first, second = create_app(settings), create_app(settings)
    with World(first) as world:
        world.get("/v1/jobs")
    with World(second) as world:
        assert ("meshyard_http_requests_total", "/v1/jobs", "200", "GET") not in figures(world)
