"""Validation on a real worker: each level, what does not fit, and shapes beside a job that has every slot."""

from __future__ import annotations

import pytest

from meshyard import Client, JobFailed
from meshyard.local import Running
from tests import specs
from tests.end_to_end.following import until_step
from tests.end_to_end.jobs import on_text


def test_shapes_are_told_for_a_mesh_larger_than_the_worker(client: Client, worker: Running, dataset: str) -> None:
    document = on_text(specs.on_mesh(specs.transformer(), "fsdp_tp", data=8, model=2), dataset)
    found = client.jobs.validate(document, level="shapes")
    report = found.report
    assert (found.valid, report["level"], report["examined"]["virtual"]) == (True, "shapes", True)
    assert report["examined"]["devices"] == 16
    assert report["total_parameters"]["count"] > 0
    assert len(report["checklist"]) == 7
    assert report["compiled"] is None
    assert list(client.jobs.list()) == []


def test_a_sampler_is_compiled_on_the_worker(client: Client, worker: Running) -> None:
    report = client.jobs.validate(specs.on_mesh(specs.schools(), chains=2), level="compile").report
    assert report["verdict"]["code"] == "fits"
    assert report["compiled"]["temp_bytes"] > 0
    assert {site["name"] for site in report["sampling"]["sites"]} == {"mu", "tau", "theta"}


SMALL = {"resources": {"memory_gib": 1e-5}}


def test_what_does_not_fit_is_told_before_and_fails_before_its_first_step(client: Client, worker: Running) -> None:
    document = specs.spirals(**SMALL)
    found = client.jobs.validate(document, level="compile")
    assert not found.valid
    assert [error.code for error in found.errors] == ["would_oom"]
    assert found.report["verdict"]["limit"] == "resources.memory_gib"
    job = client.jobs.submit(document)
    with pytest.raises(JobFailed) as failed:
        client.jobs.wait(job)
    assert failed.value.job.error.code == "would_oom"
    assert failed.value.job.error.param == found.errors[0].pointer
    assert failed.value.job.progress.step == 0


def test_shapes_are_told_beside_a_job_that_has_every_slot(client: Client, worker: Running) -> None:
    endless = {"steps": 10_000_000, "eval_every": None, "checkpoint": {"every_steps": 10_000_000}}
    job = client.jobs.submit(specs.spirals(**endless)).id
    until_step(client, job, 1)
    assert client.jobs.validate(specs.schools(), level="shapes").report["sampling"]["fits"]
    assert client.jobs.get(job).status == "running"
    client.jobs.cancel(job, checkpoint=False)
