"""Client and command line against the real service, with a worker that only pretends."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import meshyard
from jobs.spec import catalog
from meshyard import Client, Event, Metrics
from meshyard.cli import run
from meshyard.local import LocalStack
from tests.client.fake_worker import FakeWorker

SCHOOLS = {
    "kind": "mcmc",
    "name": "schools",
    "model": {"type": "eight_schools"},
    "data": {"builtin": "eight_schools"},
    "num_chains": 2,
}
TRAINING = {
    "kind": "train",
    "name": "spirals",
    "model": {"type": "mlp", "in_features": 2, "hidden": [8], "out_features": 3},
    "data": {"builtin": "spirals", "batch_size": 32},
    "loss": {"type": "softmax_cross_entropy_with_integer_labels"},
    "optimizer": {"type": "adamw", "learning_rate": 1e-3},
    "steps": 100,
    "checkpoint": {"every_steps": 10, "keep_latest": 5},
}
FILES = {"state/params/0": bytes(range(256)) * 9000, "meta/a b#c?.json": b"{}", "data/empty": b""}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with LocalStack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@pytest.fixture
def client(stack):
    with Client(stack.server) as client:
        yield client


@pytest.fixture
def worker(stack, client):
    worker = FakeWorker(stack.server, catalog.load().digest)
    yield worker
    worker.close()
    for job in client.jobs.list(status=["queued", "running"]):
        client.jobs.cancel(job)


@pytest.fixture
def command(stack, monkeypatch, capsys):
    monkeypatch.setenv("MESHYARD_SERVER", stack.server)

    def perform(*words):
        code = run([*words, "-o", "json"])
        return code, json.loads(capsys.readouterr().out)

    return perform


def train(worker, held=None, losses=(3.0, 1.0, 2.0)):
    """The life of a training job, without the training."""
    held = held or worker.claim()
    held.beat(0, "compiling")
    for index, loss in enumerate(losses, 1):
        held.metric("train/loss", 10 * index, loss)
        held.report(logs=f"step {10 * index} é\n")
        held.checkpoint(10 * index, {**FILES, "step": str(index).encode()}, **{"eval/loss": loss})
    held.metric("train/loss", 31, None)
    result = {"final": {"step": 100, "eval/loss": 2.0}, "best": {"step": 20, "eval/loss": 1.0}, "stopped_by": "steps"}
    held.finish("succeeded", 100, {"plots/loss.txt": b"down"}, result=result, seconds={"training": 1.5})
    return held


def test_a_job_from_submit_to_a_checkpoint_at_home(client, worker, tmp_path):
    job = client.jobs.submit(TRAINING, idempotency_key=f"key-{worker.id}")
    assert client.jobs.submit(TRAINING, idempotency_key=f"key-{worker.id}").id == job.id
    assert job.to_dict()["object"] == "job"
    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(train, worker)
        work.add_done_callback(lambda done: done.exception() and client.jobs.cancel(job))
        seen = list(client.jobs.watch(job))
    work.result()
    events = [item for item in seen if isinstance(item, Event)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events][:2] == ["job.queued", "attempt.started"]
    assert events[-1].type == "job.succeeded"
    assert [event.data["step"] for event in events if event.type == "checkpoint.committed"] == [10, 20, 30]
    points = [point for item in seen if isinstance(item, Metrics) for series in item.series for point in series.points()]
    assert [step for step, _ in points] == [10, 20, 30, 31]
    assert math.isnan(points[-1][1])

    done = client.jobs.wait(job, timeout=60)
    assert (done.status, done.attempt, done.progress.total) == ("succeeded", 1, 100)
    assert client.jobs.result(job).best == {"step": 20, "eval/loss": 1.0}
    assert client.jobs.logs(job) == "".join(client.jobs.follow_logs(job)) == "step 10 é\nstep 20 é\nstep 30 é\n"
    assert client.jobs.metrics(job, ["train/loss"], max_points=10).find("train/loss").total_points == 4
    (attempt,) = client.jobs.attempts(job)
    assert (attempt.number, attempt.ending, attempt.workers, attempt.seconds) == (1, "succeeded", [worker.id], {"training": 1.5})

    assert [checkpoint.step for checkpoint in client.checkpoints.list(job)] == [10, 20, 30]
    folder = client.checkpoints.download(job, "best", to=tmp_path)
    assert folder == tmp_path / "20"
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert client.checkpoints.pin(job, 10).pinned
    archive = client.checkpoints.download_archive(job, 30, to=tmp_path / "x.tar")
    assert archive.stat().st_size > len(FILES["state/params/0"])
    assert client.artifacts.download(job, "plots/loss.txt", to=tmp_path).read_bytes() == b"down"

    client.jobs.delete(job)
    with pytest.raises(meshyard.NotFoundError):
        client.jobs.get(job)


def test_a_download_that_breaks_is_gone_on_with(client, worker, tmp_path):
    job = client.jobs.submit(TRAINING)
    train(worker)
    came = []

    def die(count):
        came.append(count)
        if sum(came) > 1_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.checkpoints.download(job, to=tmp_path, on_bytes=die)
    before = sum(came)
    folder = client.checkpoints.download(job, to=tmp_path, on_bytes=came.append)
    assert (folder / "state/params/0").read_bytes() == FILES["state/params/0"]
    assert sum(came) == sum(map(len, FILES.values())) + len("3"), "no byte came twice"
    assert before < sum(came)


def test_a_job_that_is_steered(client, worker):
    job = client.jobs.submit(TRAINING)
    held = worker.claim()
    held.checkpoint(10, FILES)
    assert client.jobs.pause(job).status == "pausing"
    assert held.beat(12)["command"] == "pause"
    held.finish("paused", 12)
    assert client.jobs.resume(job).status == "queued"
    assert client.jobs.cancel(job).status == "cancelled"
    again = client.jobs.retry(job)
    assert again.parent == meshyard.Parent(job=job.id, relation="retry")
    with pytest.raises(meshyard.ConflictError, match=again.id):
        client.jobs.delete(job)
    assert client.jobs.cancel(again, checkpoint=False).status == "cancelled"
    assert client.jobs.clone(job).resolved_spec == job.resolved_spec
    assert client.jobs.update(job, name="other", metadata={"team": "nlp"}).metadata == {"team": "nlp"}


def test_a_failed_job(client, worker, command):
    job = client.jobs.submit(SCHOOLS)
    held = worker.claim()
    held.report(logs="about to fail\n")
    held.finish("failed", 3, error={"code": "nan_loss", "message": "The density is not finite", "param": "/model"})
    with pytest.raises(meshyard.JobFailed, match="not finite") as caught:
        client.jobs.wait(job)
    assert caught.value.logs == "about to fail\n"
    assert command("wait", job.id)[0] == 5
    code, found = command("watch", job.id, "--exit-status")
    assert (code, found["error"]["code"]) == (5, "nan_loss")
    assert command("watch", job.id)[0] == 0
    assert command("pause", job.id)[0] == 6
    assert command("result", job.id)[0] == 6


def test_every_fault_of_a_spec_has_its_place(client):
    with pytest.raises(meshyard.UnprocessableEntityError) as caught:
        client.jobs.submit({**SCHOOLS, "num_chains": 0, "bogus": 1, "kernel": {"type": "NUTZ"}})
    assert {"/num_chains", "/bogus", "/kernel/type"} <= {item.pointer for item in caught.value.errors}
    assert caught.value.request_id is not None
    found = client.jobs.validate({**SCHOOLS, "bogus": 1})
    assert [item.pointer for item in found.errors] == ["/bogus"]
    assert client.jobs.validate(SCHOOLS).valid


def test_datasets(client, tmp_path):
    data = b"a,b\n1,2\n3,4\n"
    source = tmp_path / "t.csv"
    source.write_bytes(data)
    found = client.datasets.upload(source)
    assert (found.format, found.rows, found.name) == ("csv", 2, "t.csv")
    assert client.datasets.upload(data, format="csv").id == found.id
    assert client.datasets.get(found.id).sha256 == found.sha256
    assert found.id in [item.id for item in client.datasets.list()]
    assert client.datasets.download(found, to=tmp_path / "home.csv").read_bytes() == data
    with pytest.raises(meshyard.UnprocessableEntityError):
        client.datasets.upload(b"PK not an archive", format="npz")


def test_workers_and_catalog(client, worker):
    (mine,) = [item for item in client.workers.list() if item.id == worker.id]
    assert (mine.status, mine.device_count, mine.running) == ("active", 8, [])
    assert client.workers.drain(mine).status == "draining"
    assert "adamw" in [entry.type for entry in client.catalog.section("optimizers")]
    assert client.catalog.job_schema()["$schema"]
    assert client.service.ready()


JOB_COMMANDS = ["get", "events", "attempts", "metrics", "logs", "checkpoints", "artifacts"]
SHOWING = [*(f"{name} @last" for name in JOB_COMMANDS), "ps -a", "datasets", "workers", "catalog kernels", "catalog kernels NUTS"]


@pytest.mark.parametrize("text", SHOWING)
def test_commands_show_it(client, command, text):
    client.jobs.submit(SCHOOLS)
    code, document = command(*text.split())
    assert code == 0
    assert document["object"]
    assert run(text.split()) == 0


def test_paging_and_filters(client):
    name = f"many-{client.jobs.submit(SCHOOLS).id}"
    ids = [client.jobs.submit({**SCHOOLS, "name": name, "metadata": {"n": str(number % 2)}}).id for number in range(25)]
    assert [job.id for job in client.jobs.list(name=name)] == ids[::-1]
    assert [job.id for job in client.jobs.list(name=name, limit=7)] == ids[::-1][:7]
    assert len(list(client.jobs.list(name=name, metadata={"n": "1"}, status=["queued", "running"]))) == 12
    for job in ids:
        client.jobs.cancel(job)
    assert not list(client.jobs.list(name=name, status="queued"))


def test_a_watch_outlives_the_service(tmp_path):
    with LocalStack(tmp_path) as stack, Client(stack.server) as client:
        port = int(stack.server.rsplit(":", 1)[-1])
        worker = FakeWorker(stack.server, catalog.load().digest)
        job = client.jobs.submit(TRAINING)
        held, seen, logs = worker.claim(), [], []
        watching = threading.Thread(target=lambda: seen.extend(client.jobs.watch(job)))
        reading = threading.Thread(target=lambda: logs.extend(client.jobs.follow_logs(job)))
        watching.start()
        reading.start()
        held.metric("train/loss", 1, 1.0)
        held.report(logs="before\n")
        stack.service.kill()
        stack.start_service(port)
        held.metric("train/loss", 2, 2.0)
        held.report(logs="after\n")
        train(worker, held)
        watching.join(90)
        reading.join(90)
    events = [item for item in seen if isinstance(item, Event)]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "job.succeeded"
    steps = [step for item in seen if isinstance(item, Metrics) for series in item.series for step in series.steps]
    assert steps == [1, 2, 10, 20, 30, 31]
    assert "".join(logs) == "before\nafter\nstep 10 é\nstep 20 é\nstep 30 é\n"


def test_a_key_is_asked_for(tmp_path, monkeypatch, capsys):
    with LocalStack(tmp_path, {"MESHYARD_API_KEY": "secret"}) as stack:
        monkeypatch.setenv("MESHYARD_SERVER", stack.server)
        monkeypatch.delenv("MESHYARD_API_KEY", raising=False)
        assert run(["ps", "-o", "json"]) == 4
        assert json.loads(capsys.readouterr().out)["status"] == 401
        assert run(["ps", "-o", "json", "--api-key", "wrong"]) == 4
        assert run(["ps", "-o", "id", "--api-key", "secret"]) == 0
        monkeypatch.setenv("MESHYARD_API_KEY", "secret")
        assert run(["ps", "-o", "id"]) == 0
        assert Client().service.ready()
