"""Where bytes come from and go to: verified before they are used, the same at both ends, whichever way they travel."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.worker.fake_child import checkpoint_content
from tests.worker.fake_service import Attempt, FakeService
from tests.worker.polling import until

TEXT = b"to be, or not to be " * 5000


def manifest(content: dict[str, bytes]) -> list[dict[str, Any]]:
    return [{"path": path, "bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} for path, body in content.items()]


def add_dataset(fake: FakeService, content: bytes = TEXT, name: str = "ds_1") -> dict[str, Any]:
    """A dataset, in the artifact folder and behind the service."""
    digest = hashlib.sha256(content).hexdigest()
    target = fake.root / "datasets" / digest
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    fake.contents[f"datasets/{name}/content"] = content
    return {"id": name, "format": "text", "sha256": digest, "bytes": len(content), "key": f"datasets/{digest}"}


def add_checkpoint(fake: FakeService, step: int = 200) -> dict[str, Any]:
    """A checkpoint of an earlier attempt with two outputs, in the artifact folder and behind the service."""
    prefix = f"jobs/job_0/att_0/checkpoints/{step}"
    files, outputs = checkpoint_content(step), {"draws/1.npz": b"one", "draws/2.npz": b"two"}
    for path, body in files.items():
        (fake.root / prefix / path).parent.mkdir(parents=True, exist_ok=True)
        (fake.root / prefix / path).write_bytes(body)
        fake.contents[f"jobs/job_0/checkpoints/{step}/files/{path}"] = body
    keys = {path: f"jobs/job_0/att_0/outputs/{path}" for path in outputs}
    for path, body in outputs.items():
        (fake.root / keys[path]).parent.mkdir(parents=True, exist_ok=True)
        (fake.root / keys[path]).write_bytes(body)
        fake.contents[f"jobs/job_0/artifacts/{path}"] = body
    described = {"files": manifest(files), "outputs": manifest(outputs), "keys": keys}
    return {"job_id": "job_0", "step": step, "what": "all", "prefix": prefix} | described


def finished(job: Attempt) -> Any:
    until(lambda: job.finish)
    assert job.finish is not None
    return job.finish


@pytest.fixture(params=["shared", "remote"])
def fake(request: pytest.FixtureRequest) -> FakeService:
    """A service of either kind."""
    return request.getfixturevalue("service" if request.param == "shared" else "remote")


READ = [["start"], ["digests"]]


def test_a_child_starts_from_verified_data_checkpoint_and_outputs(fake, agent):
    resume = add_checkpoint(fake)
    job = fake.submit(READ, dataset=add_dataset(fake), resume=resume)
    agent(fake)
    assert finished(job).ending == "succeeded"
    start, digests = (json.loads(line) for line in job.log.splitlines())
    assert digests["dataset"] == hashlib.sha256(TEXT).hexdigest()
    assert digests["resume"] == {file["path"]: file["sha256"] for file in resume["files"]}
    assert digests["outputs"] == {file["path"]: file["sha256"] for file in resume["outputs"]}
    assert start["assignment"]["resume"]["step"] == 200
    assert finished(job).step == 200


def test_a_file_that_is_read_beside_the_data_comes_verified_too(fake, agent):
    tokenizer = add_dataset(fake, b"{}", "ds_2")
    job = fake.submit(READ, dataset=add_dataset(fake), beside={"tokenizer": tokenizer})
    agent(fake)
    assert finished(job).ending == "succeeded"
    start, digests = (json.loads(line) for line in job.log.splitlines())
    assert digests == digests | {"dataset": hashlib.sha256(TEXT).hexdigest(), "tokenizer": tokenizer["sha256"]}
    assert Path(start["encoded"]).is_dir()


def test_a_damaged_file_beside_the_data_is_refused_where_the_job_names_it(fake, agent):
    tokenizer = add_dataset(fake, b"{}", "ds_2")
    (fake.root / tokenizer["key"]).write_bytes(b"[]")
    fake.contents["datasets/ds_2/content"] = b"[]"
    job = fake.submit([["print", "started"]], dataset=add_dataset(fake), beside={"tokenizer": tokenizer})
    agent(fake)
    error = finished(job).error
    assert (error.code, error.param) == ("dataset_invalid", "/data/tokenizer/dataset")
    assert "started" not in job.log


def test_what_a_child_writes_arrives_byte_for_byte(fake, agent):
    script = [["output", "draws/1.txt", "one"], ["checkpoint", 5], ["output", "draws/2.txt", "two"]]
    script += [["output", "posterior.nc", "p"], ["checkpoint", 6, ["draws/1.txt", "draws/2.txt"]]]
    job = fake.submit([*script, ["end", "succeeded", {"artifacts": ["posterior.nc"]}]])
    agent(fake)
    finish = finished(job)
    first, second = (committed for report in job.reports for committed in report.checkpoints)
    assert [file.path for file in first.fresh] == [file.path for file in first.outputs] == ["draws/1.txt"]
    assert [file.path for file in second.outputs] == ["draws/1.txt", "draws/2.txt"]
    assert [file.path for file in second.fresh] == ["draws/2.txt"]
    assert [file.path for file in finish.artifacts] == ["posterior.nc"]
    for committed in (first, second):
        for path, body in checkpoint_content(committed.step).items():
            name = f"checkpoints/{committed.step}/{path}"
            assert (fake.stored("att_1", name) if fake.shared else job.files[name]) == body
    assert (fake.stored("att_1", "outputs/posterior.nc") if fake.shared else job.files["outputs/posterior.nc"]) == b"p"


def test_outputs_of_earlier_attempts_are_named_and_not_sent_again(fake, agent):
    job = fake.submit(
        [["output", "draws/3.npz", "three"], ["checkpoint", 201, ["draws/1.npz", "draws/2.npz", "draws/3.npz"]]],
        resume=add_checkpoint(fake),
    )
    agent(fake)
    assert finished(job).ending == "succeeded"
    (committed,) = (committed for report in job.reports for committed in report.checkpoints)
    assert [file.path for file in committed.outputs] == ["draws/1.npz", "draws/2.npz", "draws/3.npz"]
    assert [file.path for file in committed.fresh] == ["draws/3.npz"]
    assert not any(path.endswith(("1.npz", "2.npz")) for path in job.files)


def test_an_output_that_is_written_anew_is_fresh_and_the_old_one_stays(fake, agent):
    job = fake.submit([["output", "draws/2.npz", "TWO"], ["checkpoint", 201, ["draws/2.npz"]]], resume=add_checkpoint(fake))
    agent(fake)
    assert finished(job).ending == "succeeded"
    (committed,) = (committed for report in job.reports for committed in report.checkpoints)
    assert [file.path for file in committed.fresh] == ["draws/2.npz"]
    assert (fake.root / "jobs/job_0/att_0/outputs/draws/2.npz").read_bytes() == b"two"


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("part", ["files", "outputs"])
def test_a_damaged_checkpoint_is_never_resumed_from(fake, agent, damage, part):
    resume = add_checkpoint(fake)
    name = "state/weights" if part == "files" else "draws/1.npz"
    path = fake.root / (f"{resume['prefix']}/{name}" if part == "files" else resume["keys"][name])
    address = f"jobs/job_0/checkpoints/200/files/{name}" if part == "files" else f"jobs/job_0/artifacts/{name}"
    body = bytearray(path.read_bytes())
    body[1] ^= 1
    if damage == "missing":
        path.unlink()
        del fake.contents[address]
    else:
        content = bytes(body) if damage == "flipped" else bytes(body[:-1])
        path.write_bytes(content)
        fake.contents[address] = content
    job = fake.submit([["print", "started"]], resume=resume)
    agent(fake)
    finish = finished(job)
    assert (finish.ending, finish.error.code, finish.corrupt_step) == ("failed", "checkpoint_corrupt", 200)
    assert job.log == ""


def test_a_damaged_dataset_is_refused(fake, agent):
    dataset = add_dataset(fake)
    damaged = TEXT[:-1] + b"?"
    (fake.root / dataset["key"]).write_bytes(damaged)
    fake.contents["datasets/ds_1/content"] = damaged
    job = fake.submit([["print", "started"]], dataset=dataset)
    agent(fake)
    finish = finished(job)
    assert (finish.ending, finish.error.code, finish.corrupt_step) == ("failed", "dataset_invalid", None)
    assert job.log == ""


def test_beats_go_on_while_bytes_are_fetched(remote, agent):
    dataset = add_dataset(remote)
    fault = remote.fail("/content", 1_000_000, 503)
    job = remote.submit(READ, dataset=dataset)
    agent(remote)
    until(lambda: len(job.beats) > 3)
    fault.times = 0
    assert finished(job).ending == "succeeded"


def test_a_download_that_breaks_goes_on_where_it_stood(remote, agent):
    remote.cut_downloads_at = 30_000
    job = remote.submit(READ, dataset=add_dataset(remote))
    agent(remote)
    assert finished(job).ending == "succeeded"
    assert remote.ranges == ["", "bytes=30000-"]


def test_an_upload_that_breaks_goes_on_where_it_stood(remote, agent):
    remote.cut_uploads_at = 300_000
    job = remote.submit([["checkpoint", 7]])
    agent(remote)
    assert finished(job).ending == "succeeded"
    assert remote.offsets_asked == ["checkpoints/7/state/weights"]
    assert job.files["checkpoints/7/state/weights"] == checkpoint_content(7)["state/weights"]


@pytest.mark.parametrize("after", [False, True])
def test_an_upload_whose_reply_is_lost_arrives_once(remote, agent, after):
    remote.fail("/files/", 5, 502, after=after)
    job = remote.submit([["checkpoint", 7], ["checkpoint", 8]])
    agent(remote)
    assert finished(job).ending == "succeeded"
    assert job.checkpoints == [7, 8]


def test_a_dataset_is_downloaded_once(remote, agent):
    dataset = add_dataset(remote)
    jobs = [remote.submit(READ, dataset=dataset) for _ in range(3)]
    agent(remote, MESHYARD_SLOTS="2")
    assert [finished(job).ending for job in jobs] == ["succeeded"] * 3
    assert len(remote.ranges) == 1


def test_local_copies_of_listed_checkpoints_are_deleted_when_a_later_one_is_listed(remote, agent):
    job = remote.submit([["checkpoint", 7], ["checkpoint", 8], ["print", "waiting"], ["obey"]])
    worker = agent(remote)
    until(lambda: job.checkpoints == [7, 8])
    folder = worker.work_dir / "0/scratch/att_1/own/checkpoints"
    until(lambda: [path.name for path in folder.iterdir()] == ["8"])


def test_a_folder_that_has_come_unmounted_condemns_no_checkpoint(service, agent):
    resume = add_checkpoint(service)
    (service.root / "jobs").rename(service.root / "elsewhere")
    job = service.submit([["print", "started"]], resume=resume)
    agent(service)
    finish = finished(job)
    assert (finish.error.code, finish.corrupt_step) == ("storage_failed", None)


def test_a_probe_elsewhere_is_found_below_the_workers_own_root(service, agent, tmp_path: Path):
    seen = tmp_path / "mounted-here"
    seen.symlink_to(service.root)
    job = service.submit([["start"]])
    agent(service, MESHYARD_ARTIFACT_ROOT=str(seen))
    assert finished(job).ending == "succeeded"
    assert json.loads(job.log)["directory"] == str(seen / "jobs/job_1/att_1")


def test_a_worker_with_another_artifact_folder_does_not_claim_to_share_it(service, agent, tmp_path: Path):
    (tmp_path / "other").mkdir()
    worker = agent(service, MESHYARD_ARTIFACT_ROOT=str(tmp_path / "other")).ready()
    assert "through the service" in worker.err


def test_paths_that_lead_out_of_the_folder_are_refused(fake, agent):
    message = {"type": "checkpoint", "step": 1, "metrics": {}, "outputs": ["../../../../probe"]}
    job = fake.submit([["spawn"], ["send", message], ["ignore"]])
    agent(fake)
    assert finished(job).error.code == "storage_failed"
