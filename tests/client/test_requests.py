"""What goes over the wire, what is sent again, and what comes of a refusal."""

from __future__ import annotations

import json

import httpx
import pytest

import meshyard
from meshyard import Client, Policy
from meshyard.effects import Once, Reply, Request, Send, Sleep
from meshyard.retries import persist
from tests.client.standin import Fault, new_job, problem

SPEC = {"kind": "train", "name": "lm"}
CLASSES = {
    400: meshyard.BadRequestError,
    401: meshyard.AuthenticationError,
    403: meshyard.PermissionDeniedError,
    404: meshyard.NotFoundError,
    409: meshyard.ConflictError,
    413: meshyard.BadRequestError,
    422: meshyard.UnprocessableEntityError,
    429: meshyard.RateLimitError,
    500: meshyard.ServerError,
    503: meshyard.ServerError,
}


def answering(status, **content):
    """A transport that gives the same answer to everything."""
    return httpx.MockTransport(lambda _request: httpx.Response(status, **content))


def is_submit(request):
    return request.method == "POST" and request.url.path == "/v1/jobs"


REFUSALS = [None, problem(500, "internal", "oops"), problem(503, "unavailable", "soon"), problem(429, "rate", "slow")]


@pytest.mark.parametrize("answer", REFUSALS)
def test_a_submit_that_fails_is_sent_again_with_the_same_key(world, client, answer):
    world.faults.append(Fault(is_submit, answer, times=2))
    job = client.jobs.submit(SPEC)
    keys = [headers["idempotency-key"] for headers in world.asked("POST", "/v1/jobs")]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert list(world.jobs) == [job.id]


def test_each_call_has_a_key_of_its_own_unless_one_is_given(world, client):
    first, second = client.jobs.submit(SPEC), client.jobs.submit(SPEC)
    third, fourth = (client.jobs.submit(SPEC, idempotency_key="mine") for _ in range(2))
    assert first.id != second.id
    assert third.id == fourth.id


def test_patience_has_an_end(world, client):
    world.faults.append(Fault(is_submit, None, times=99))
    with pytest.raises(meshyard.APIConnectionError):
        client.jobs.submit(SPEC)
    assert len(world.asked("POST", "/v1/jobs")) == 3


@pytest.mark.parametrize(("status", "kind"), CLASSES.items())
def test_each_status_has_its_class(status, kind):
    problem = {"title": "T", "detail": "D", "code": "c", "errors": [{"pointer": "/a", "code": "b", "detail": "d"}]}
    transport = answering(status, json=problem, headers={"X-Request-Id": "req_9", "Retry-After": "0"})
    with pytest.raises(meshyard.APIStatusError) as caught, Client("http://test", transport=transport) as client:
        client.jobs.get("job_1")
    error = caught.value
    assert type(error) is kind
    assert (error.status_code, error.request_id, error.code, str(error)) == (status, "req_9", "c", "D")
    assert [item.pointer for item in error.errors] == ["/a"]
    assert isinstance(error, meshyard.APIError)
    assert isinstance(error, meshyard.MeshyardError)


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
def test_a_refusal_is_not_sent_again(world, client, status):
    world.faults.append(Fault(is_submit, problem(status, "c", "no"), times=99))
    with pytest.raises(meshyard.APIStatusError):
        client.jobs.submit(SPEC)
    assert len(world.asked("POST", "/v1/jobs")) == 1


def pauses(*answers):
    """Drive the retries by hand; gives how long they would have slept, and the last answer."""
    flow, found = persist(Send(Request("GET", "/")), Policy(max_retries=len(answers) - 1, first_pause_seconds=1.0)), []
    effect, left = next(flow), list(answers)
    try:
        while True:
            if isinstance(effect, Once):
                effect = flow.send(left.pop(0))
            else:
                assert isinstance(effect, Sleep)
                found.append(effect.seconds)
                effect = flow.send(None)
    except StopIteration as end:
        return found, end.value


def test_pauses_double_with_jitter():
    found, answer = pauses(Reply(500, {}, b""), Reply(500, {}, b""), Reply(500, {}, b""), Reply(200, {}, b"ok"))
    assert answer.content == b"ok"
    for pause, longest in zip(found, (1, 2, 4), strict=True):
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize(("asked", "slept"), [("7", 7.0), ("0", 0.0), ("100000", 60.0)])
def test_the_service_says_how_long_to_wait(asked, slept):
    found, _ = pauses(Reply(429, {"retry-after": asked}, b""), Reply(200, {}, b""))
    assert found == [slept]


def test_a_delete_whose_answer_was_lost_has_done_its_work(world, client):
    job = world.add()
    world.end(job["id"], "succeeded")
    del world.jobs[job["id"]]
    world.faults.append(Fault(lambda request: request.method == "DELETE", None))
    client.jobs.delete(job["id"])
    with pytest.raises(meshyard.NotFoundError):
        client.jobs.delete(job["id"])


def test_the_key_goes_along(world, server):
    world.key = "secret"
    with pytest.raises(meshyard.AuthenticationError), Client(server) as client:
        client.workers.list()
    with Client(server, "secret") as client:
        assert client.workers.list()[0].id == "wrk_1"


def test_server_and_key_come_from_the_environment(world, server, monkeypatch):
    world.key = "secret"
    monkeypatch.setenv("MESHYARD_SERVER", server + "/")
    monkeypatch.setenv("MESHYARD_API_KEY", "secret")
    with Client() as client:
        assert client.server == server
        assert client.service.ready()


def test_nobody_there():
    with Client("http://127.0.0.1:1", max_retries=0) as client, pytest.raises(meshyard.APIConnectionError, match="cannot reach"):
        client.jobs.get("job_1")


@pytest.mark.parametrize("content", [b"<html>", b"[1]", b'{"data": 3}', b"\xff", b"[" * 100_000])
def test_an_answer_that_is_none_of_ours(content):
    transport = answering(200, content=content)
    with Client("http://test", transport=transport) as client:
        with pytest.raises(meshyard.APIResponseError):
            client.jobs.get("job_1")
        with pytest.raises(meshyard.APIResponseError):
            client.workers.list()


def test_a_problem_that_is_none_still_shows_its_text():
    transport = answering(404, content=b"<h1>nginx</h1>")
    with pytest.raises(meshyard.NotFoundError, match="nginx"), Client("http://test", transport=transport) as client:
        client.jobs.get("job_1")


def test_a_path_keeps_its_shape_whatever_the_id():
    seen = []

    def answer(request):
        seen.append(request.url.raw_path)
        return httpx.Response(200, json=new_job())

    with Client("http://test", transport=httpx.MockTransport(answer)) as client:
        client.jobs.get("../a/b?c#d")
    assert seen == [b"/v1/jobs/..%2Fa%2Fb%3Fc%23d"]


@pytest.mark.parametrize("form", ["mapping", "bytes", "path", "text"])
def test_a_spec_may_be_given_in_many_forms(world, client, tmp_path, form):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(SPEC))
    spec = {"mapping": SPEC, "bytes": path.read_bytes(), "path": path, "text": str(path)}[form]
    job = client.jobs.submit(spec)
    assert world.jobs[job.id]["spec"] == SPEC


def test_lists_turn_their_pages(world, client):
    ids = [world.add()["id"] for _ in range(250)]
    assert [job.id for job in client.jobs.list()] == ids[::-1]
    assert [job.id for job in client.jobs.list(limit=130)] == ids[::-1][:130]
    assert len(world.asked("GET", "/v1/jobs")) == 3 + 2


def test_a_list_is_fetched_as_far_as_it_is_read(world, client):
    for _ in range(250):
        world.add()
    jobs = client.jobs.list()
    next(jobs)
    jobs.close()
    assert len(world.asked("GET", "/v1/jobs")) == 1


def test_filters_are_written_as_the_contract_has_them():
    seen = []

    def answer(request):
        seen.append(str(request.url.params))
        return httpx.Response(200, json={"object": "list", "data": [], "has_more": False, "next": None})

    with Client("http://test", transport=httpx.MockTransport(answer)) as client:
        list(client.jobs.list(status="running", metadata={"team": "nlp"}, limit=5))
    assert seen == ["status=running&metadata%5Bteam%5D=nlp&limit=5"]


def test_a_job_is_steered(world, client):
    job = client.jobs.submit(SPEC)
    assert client.jobs.pause(job).status == "paused"
    assert client.jobs.resume(job.id).status == "queued"
    assert client.jobs.update(job, name="other", priority=3).name == "other"
    assert client.jobs.checkpoint(job).id == job.id
    assert client.jobs.cancel(job, checkpoint=False).status == "cancelled"
    with pytest.raises(meshyard.ConflictError) as caught:
        client.jobs.cancel(job)
    assert caught.value.current_status == "cancelled"
    assert client.jobs.retry(job).parent == meshyard.Parent(job=job.id, relation="retry")
    assert client.jobs.clone(job).parent == meshyard.Parent(job=job.id, relation="clone")
    assert client.jobs.extend(job, num_samples=10).parent == meshyard.Parent(job=job.id, relation="extend")
    client.jobs.delete(job)


def test_a_spec_can_be_checked(client):
    assert client.jobs.validate(SPEC).valid
    found = client.jobs.validate({**SPEC, "bogus": 1})
    assert not found.valid
    assert [item.pointer for item in found.errors] == ["/bogus"]


def test_wait_gives_the_job_that_succeeded(world, client):
    job = world.add()
    world.end(job["id"], "succeeded")
    assert client.jobs.wait(job["id"]).status == "succeeded"


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_wait_says_why_a_job_did_not(world, client, status):
    job = world.add()
    world.end(job["id"], status, error={"code": "nan_loss", "message": "The loss is not finite at step 7"})
    with pytest.raises(meshyard.JobFailed, match="not finite at step 7") as caught:
        client.jobs.wait(job["id"])
    assert caught.value.job.status == status
    assert caught.value.logs == world.logs
    assert str(caught.value).endswith("line two")


def test_wait_has_an_end(world, client):
    job = world.add()
    with pytest.raises(meshyard.WaitTimedOut) as caught:
        client.jobs.wait(job["id"], timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.job.id == job["id"]


@pytest.mark.parametrize("form", ["path", "bytes"])
def test_a_dataset_goes_out_whole(world, client, tmp_path, form):
    data, gone = bytes(range(256)) * 20_000, []
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    found = client.datasets.upload(path if form == "path" else data, name="t", on_bytes=gone.append)
    assert world.uploads == [data]
    assert found.format == ("csv" if form == "path" else "text")
    assert sum(gone) == (len(data) if form == "path" else 0)
    assert [item.id for item in client.datasets.list()] == ["ds_1"]


def test_an_upload_that_breaks_is_begun_again(world, client, tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes(b"words" * 1000)
    world.faults.append(Fault(lambda request: request.method == "POST", None))
    assert client.datasets.upload(path).bytes == 5000


def test_the_catalog(client):
    assert [entry.type for entry in client.catalog.section("optimizers")] == ["adamw"]
    assert client.workers.drain("wrk_1").status == "draining"
