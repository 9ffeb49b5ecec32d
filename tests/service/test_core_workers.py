"""Workers: what they are told of, which job they get, and how they wait for one."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from service.context import Context
from service.db.transaction import Write
from service.domain import sweeper
from tests import specs
from tests.service.core_driver import OFFERS, Api, assert_problem, sampling, training, wait_for
from tests.service.test_core_jobs import INSTANT, checkpointed

WORKER = {
    *("object", "id", "status", "platform", "device_kind", "device_count", "memory_bytes", "slots", "labels", "versions"),
    *("catalog_digest", "code", "registered_at", "seen_at", "running", "project", "all_projects"),
}


def test_a_worker_is_registered_and_shown(api: Api):
    worker = api.worker(labels={"gpu": "h200"}, slots=2)
    assert set(worker.registered) == {"id", "lease_seconds", "probe"}
    assert worker.registered["lease_seconds"] == 15
    shown = api.get(f"/v1/workers/{worker.id}").json()
    assert set(shown) == WORKER
    told = {key: shown[key] for key in ("object", "status", "platform", "device_count", "slots", "labels", "running")}
    assert told == {
        "object": "worker",
        "status": "active",
        "platform": "cpu",
        "device_count": 8,
        "slots": 2,
        "labels": {"gpu": "h200"},
        "running": [],
    }
    assert INSTANT.fullmatch(shown["seen_at"])


def test_every_registration_is_a_worker_of_its_own(api: Api):
    ids = [api.worker().id for _ in range(3)][::-1]
    page = api.get("/v1/workers?limit=2").json()
    assert [worker["id"] for worker in page["data"]] == ids[:2]
    rest = api.get("/v1/workers", params={"after": page["next"]}).json()
    assert [worker["id"] for worker in rest["data"]] == ids[2:]


def test_a_worker_shows_what_it_runs(api: Api):
    job = api.submit()["id"]
    worker = api.worker()
    attempt = worker.claim()
    attempt.beat(7, "sampling")
    running = api.get(f"/v1/workers/{worker.id}").json()["running"]
    assert [{**one, "beat_at": None} for one in running] == [
        {"job_id": job, "attempt_id": attempt.id, "devices": 1, "step": 7, "phase": "sampling", "beat_at": None}
    ]
    attempt.finish("succeeded", 100)
    assert api.get(f"/v1/workers/{worker.id}").json()["running"] == []
    shown = api.get(f"/v1/jobs/{job}/attempts").json()["data"][0]
    assert shown["workers"] == [worker.id]


def test_a_silent_worker_is_gone_and_in_the_end_forgotten(api: Api, context: Context):
    worker = api.worker()
    job = api.submit()["id"]
    with Write(context.database) as write:
        write.connection.exec_driver_sql("UPDATE workers SET seen_at = seen_at - 46000000")
    assert api.get(f"/v1/workers/{worker.id}").json()["status"] == "gone"
    assert api.job(job)["status_reason"]["code"] == "NoMatchingWorker"
    assert worker.ask().status_code == 200
    assert api.get(f"/v1/workers/{worker.id}").json()["status"] == "active"
    with Write(context.database) as write:
        write.connection.exec_driver_sql("UPDATE workers SET seen_at = seen_at - 90000000000")
    sweeper.tidy(context)
    assert api.get(f"/v1/workers/{worker.id}").status_code == 200  # it holds a lease
    api.post(f"/v1/jobs/{job}/cancel")
    with Write(context.database) as write:
        write.connection.exec_driver_sql("DELETE FROM leases")
    sweeper.tidy(context)
    assert_problem(api.get(f"/v1/workers/{worker.id}"), 404)


def test_a_claim_gives_everything_a_worker_needs(api: Api):
    job = api.submit(sampling(mesh={"axes": {"chains": 4}}))
    given = api.worker().claim().given
    prefix = f"jobs/{job['id']}/{given['attempt_id']}"
    assert given["request_id"].startswith("req_")
    assert {key: value for key, value in given.items() if key not in {"attempt_id", "request_id"}} == {
        "traceparent": None,
        "job_id": job["id"],
        "number": 1,
        "fence": 1,
        "lease_seconds": 15.0,
        "spec": job["resolved_spec"],
        "mesh_axes": {"chains": 4},
        "devices": 4,
        "prefix": prefix,
        "storage": {"type": "http"},
        "dataset": None,
        "beside": {},
        "code": [],
        "resume": None,
        "stall_seconds": 900.0,
    }
    shown = api.job(job["id"])
    assert (shown["status"], shown["phase"], shown["attempt"], shown["queue_position"]) == ("running", "assigned", 1, None)
    event = api.events(job["id"])[-1]
    assert (event["type"], event["data"]["attempt_id"], event["data"]["fence"]) == ("attempt.started", given["attempt_id"], 1)


def test_a_worker_that_read_the_probe_shares_the_folder(api: Api, context: Context):
    for _ in range(3):
        api.submit()
    worker = api.worker()
    probe = worker.registered["probe"]
    assert Path(probe["path"]).read_text() == probe["token"]
    assert worker.claim().given["storage"] == {"type": "http"}
    worker.probe_token = "0" * 64
    assert worker.claim().given["storage"] == {"type": "http"}
    worker.probe_token = probe["token"]
    root = str(context.settings.artifact_root.resolve())
    assert worker.claim().given["storage"] == {"type": "file", "root": root}


def test_the_probe_survives_a_restart(start):
    with start() as api:
        first = api.worker().registered["probe"]
    with start() as api:
        assert api.worker().registered["probe"] == first


def test_a_claim_names_the_dataset(api: Api):
    text = b"a few words to learn from. " * 100
    dataset = api.post("/v1/datasets?name=words&format=text", content=text).json()
    spec = {
        "kind": "train",
        "model": {"type": "transformer", "vocab_size": 256, "dim": 8, "n_layers": 1, "n_heads": 1, "context": 8},
        "data": {"dataset": dataset["id"], "batch_size": 2},
        "optimizer": {"type": "adamw", "learning_rate": 1e-3},
        "steps": 2,
    }
    api.submit(spec)
    given = api.worker().claim().given["dataset"]
    assert {**given, "key": None} == {
        "id": dataset["id"],
        "format": "text",
        "sha256": dataset["sha256"],
        "bytes": len(text),
        "key": None,
    }


def test_a_claim_names_the_tokenizer(api: Api, tmp_path: Path):
    text = "a few words to learn from. " * 100
    content = specs.write_tokenizer(tmp_path / "tokenizer.json", text).read_bytes()
    dataset = api.post("/v1/datasets?format=text", content=text.encode()).json()
    tokenizer = api.post("/v1/datasets?format=tokenizer", content=content).json()
    named = {"type": "tokenizers", "dataset": tokenizer["id"]}
    optimizer = {"type": "adamw", "learning_rate": 1e-3}
    data = {"dataset": dataset["id"], "eval_fraction": 0.1, "tokenizer": named}
    spec = specs.transformer(data=data, optimizer=optimizer)
    spec["model"]["vocab_size"] = tokenizer["tokenizer"]["vocab_size"]
    api.submit(spec)
    given = api.worker().claim().given
    assert given["dataset"]["id"] == dataset["id"]
    assert {**given["beside"]["tokenizer"], "key": None} == {
        "id": tokenizer["id"],
        "format": "tokenizer",
        "sha256": tokenizer["sha256"],
        "bytes": len(content),
        "key": None,
    }


def test_parameters_alone_are_taken_from_a_checkpoint(api: Api):
    source = checkpointed(api)
    job = api.submit(training(init_from={"job": source, "step": None, "what": "params"}))
    assert job["resolved_spec"]["init_from"] == {"job": source, "step": 4, "what": "params", "include": None, "exclude": []}
    given = api.worker().claim().given
    assert (given["resume"]["step"], given["resume"]["what"], given["resume"]["outputs"]) == (4, "params", [])
    assert [file["path"] for file in given["resume"]["files"]] == ["data"]
    assert api.job(job["id"])["progress"]["step"] == 0
    assert api.get(f"/v1/jobs/{job['id']}/attempts").json()["data"][0]["resumed_from"] is None


@pytest.mark.parametrize(
    ("devices", "axes"),
    [(1, {"data": 1}), (2, {"data": 2}), (3, {"data": 2}), (8, {"data": 4})],
)
def test_an_open_axis_takes_what_the_worker_has_and_the_batch_divides_by(api: Api, devices: int, axes: dict[str, int]):
    spec = training(mesh={"axes": {"data": -1}})
    api.submit(spec)
    given = api.worker(device_count=8).claim(devices=devices).given
    assert (given["mesh_axes"], given["devices"]) == (axes, axes["data"])


@pytest.mark.parametrize(
    ("spec", "lacking", "able", "said"),
    [
        ({"mesh": {"axes": {"chains": 4}}}, {"device_count": 2}, {"device_count": 4}, "the largest worker has 2"),
        ({"resources": {"platform": "gpu"}}, {"platform": "cpu"}, {"platform": "gpu"}, "platform gpu"),
        ({"resources": {"memory_gib": 32}}, {"memory_bytes": 2**34}, {"memory_bytes": 2**35}, "largest worker has 16.0 GiB"),
        ({"resources": {"kind": "NVIDIA H200"}}, {}, {"device_kind": "NVIDIA H200"}, "device:NVIDIA H200"),
        ({"resources": {"labels": {"zone": "a"}}}, {}, {"offers": [*OFFERS, "label:zone=a"]}, "label:zone=a"),
        ({}, {"offers": ["models/eight_schools"]}, {}, "kernels/NUTS"),
    ],
)
def test_a_job_goes_only_to_a_worker_that_can_run_it(api: Api, spec, lacking, able, said: str):
    job = api.submit(sampling(**spec))["id"]
    assert api.worker(**lacking).ask().status_code == 204
    reason = api.job(job)["status_reason"]
    assert reason["code"] == "NoMatchingWorker"
    assert said in reason["message"]
    assert reason["hint"]
    assert api.worker(**able).claim().job_id == job


def test_no_single_worker_having_it_all_is_told(api: Api):
    job = api.submit(sampling(resources={"labels": {"a": "1", "b": "2"}}))["id"]
    for label in ("label:a=1", "label:b=2"):
        assert api.worker(offers=[*OFFERS, label]).ask().status_code == 204
    reason = api.job(job)["status_reason"]
    assert reason["code"] == "NoMatchingWorker"
    assert "lacks label:" in reason["hint"]


def test_a_job_waits_for_free_devices(api: Api):
    spec = sampling(mesh={"axes": {"chains": 4}})
    jobs = [api.submit(spec)["id"] for _ in range(2)]
    worker = api.worker(device_count=4)
    worker.claim()
    reason = api.job(jobs[1])["status_reason"]
    assert reason["code"] == "WaitingForCapacity"
    assert "none has 4 free" in reason["message"]
    assert worker.ask(devices=1).status_code == 204


def test_devices_that_are_not_there_cannot_be_claimed(api: Api):
    api.submit(sampling(mesh={"axes": {"chains": 4}}))
    assert api.worker(device_count=2).ask(devices=100).status_code == 204


def test_a_smaller_job_behind_a_larger_one_is_not_held_up(api: Api):
    api.submit(sampling(mesh={"axes": {"chains": 4}}, priority=9))
    small = api.submit()["id"]
    assert api.worker(device_count=1).claim().job_id == small


def test_a_draining_worker_does_not_match(api: Api):
    worker = api.worker()
    api.post(f"/v1/workers/{worker.id}/drain")
    job = api.submit()["id"]
    assert api.job(job)["status_reason"]["code"] == "NoMatchingWorker"


def test_a_claim_without_waiting_comes_back_at_once(api: Api):
    assert api.worker().ask(wait_seconds=0).status_code == 204


def test_a_waiting_claim_is_woken_by_a_submit(start):
    """Polls are an hour apart here: only the wake-up can have done it."""
    with start(poll_seconds=3600.0) as api, ThreadPoolExecutor() as threads:
        worker = api.worker()
        waiting = threads.submit(worker.ask, 60)
        wait_for(lambda: api.app.state.context.signals.waiting("queue"))
        job = api.submit()["id"]
        assert waiting.result(30).json()["job_id"] == job


@pytest.mark.parametrize("how", ["resume", "requeue", "patch"])
def test_a_waiting_claim_is_woken_by_whatever_queues_a_job(start, how: str):
    with start(poll_seconds=3600.0) as api, ThreadPoolExecutor() as threads:
        job = api.submit()["id"]
        attempt = api.worker().claim()
        if how == "resume":
            api.post(f"/v1/jobs/{job}/pause")
            attempt.finish("paused", 1)
        waiting = threads.submit(api.worker().ask, 60)
        wait_for(lambda: api.app.state.context.signals.waiting("queue"))
        if how == "resume":
            api.post(f"/v1/jobs/{job}/resume")
        else:
            attempt.finish("released", 1)
        assert waiting.result(30).json()["job_id"] == job


def test_a_backoff_that_ends_is_noticed_while_waiting(api: Api):
    api.submit(sampling(retries={"max_failures": 1}))
    worker = api.worker()
    worker.claim().fail("user_code_error")
    assert worker.claim(wait_seconds=30).given["number"] == 2


def test_a_claim_that_waits_in_vain_comes_back_empty(api: Api):
    worker = api.worker()
    began = time.monotonic()
    assert worker.ask(wait_seconds=0.3).status_code == 204
    assert time.monotonic() - began >= 0.3


def test_those_who_wait_hold_neither_connection_nor_thread(start):
    with start(poll_seconds=3600.0, lease_seconds=3600.0) as api, ThreadPoolExecutor(50) as clients:
        context: Context = api.app.state.context
        workers = [api.worker() for _ in range(50)]
        waiting = [clients.submit(worker.ask, 60) for worker in workers]
        wait_for(lambda: context.signals.waiting("queue") == 50)
        wait_for(lambda: "Current Checked out connections: 0" in context.database.engine.pool.status())
        assert len([thread for thread in threading.enumerate() if "AnyIO" in thread.name]) <= 41
        assert api.get("/v1/jobs").status_code == 200
        for number in range(50):
            api.submit(sampling(seed=number))
        claimed = {future.result(60).json()["job_id"] for future in waiting}
        assert len(claimed) == 50


def test_a_claim_whose_worker_hung_up_takes_nothing(address: str, context: Context):
    with httpx.Client(base_url=address, timeout=30) as client:
        body = {
            "platform": "cpu",
            "device_kind": "cpu",
            "device_count": 1,
            "memory_bytes": 0,
            "catalog_digest": "0",
            "offers": OFFERS,
        }
        worker = client.post("/v1/workers", json=body).json()["id"]
        for _ in range(20):
            with pytest.raises(httpx.ReadTimeout):
                client.post(
                    f"/v1/workers/{worker}/claim", json={"devices": 1, "wait_seconds": 60}, timeout=httpx.Timeout(30, read=0.05)
                )
        wait_for(lambda: context.signals.waiting("queue") == 0)
        job = client.post("/v1/jobs", json=sampling()).json()["id"]
        assert client.get(f"/v1/jobs/{job}").json()["status"] == "queued"
        given = client.post(f"/v1/workers/{worker}/claim", json={"devices": 1, "wait_seconds": 0})
        assert given.json()["number"] == 1
