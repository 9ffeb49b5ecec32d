"""Downloads survive broken connections and let no wrong byte through."""

from __future__ import annotations

import pytest

import meshyard
from tests.client.standin import FILES


@pytest.fixture
def job(world):
    job = world.add()
    world.checkpoints = [
        {"step": step, "metrics": {"eval/loss": loss}, "bytes": 1, "pinned": False}
        for step, loss in ((10, 2.0), (20, 1.0), (30, 3.0))
    ]
    return job["id"]


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("step", "name"), [("latest", "30"), ("best", "20"), (10, "10")])
def test_a_checkpoint_comes_home(client, job, tmp_path, step, name):
    folder = client.checkpoints.download(job, step, to=tmp_path)
    assert folder == tmp_path / name
    assert contents(folder) == FILES
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_best_follows_the_jobs_own_rule(world, client, job):
    world.jobs[job]["resolved_spec"] = {"checkpoint": {"keep_best": {"metric": "eval/loss", "mode": "max"}}}
    assert client.checkpoints.find(job, "best").step == 30
    world.jobs[job]["resolved_spec"] = {"checkpoint": {"keep_best": {"metric": "accuracy", "mode": "max"}}}
    with pytest.raises(meshyard.NoCheckpoint, match="accuracy"):
        client.checkpoints.find(job, "best")


def test_a_step_that_is_not_there(world, client, job):
    with pytest.raises(meshyard.NoCheckpoint, match="no checkpoint at step 15; there are 10, 20, 30"):
        client.checkpoints.download(job, 15)
    world.checkpoints.clear()
    with pytest.raises(meshyard.NoCheckpoint, match="no checkpoint yet"):
        client.checkpoints.download(job)


def test_a_broken_download_goes_on_where_it_broke(world, client, job, tmp_path):
    world.break_files_after = [500_000, 100_000]
    came = []
    folder = client.checkpoints.download(job, to=tmp_path, on_bytes=came.append)
    assert contents(folder) == FILES
    ranges = [headers.get("range") for headers in world.asked("GET", "/state/params")]
    assert ranges[0] is None
    assert len(ranges) == 3
    assert all(text.startswith("bytes=") and text != "bytes=0-" for text in ranges[1:])
    assert sum(came) == sum(map(len, FILES.values())), "no byte came twice"


def test_a_download_goes_on_in_another_process(world, client, job, tmp_path):
    came = 0

    def die_on_the_way(count):
        nonlocal came
        came += count
        if came > 300_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.checkpoints.download(job, to=tmp_path, on_bytes=die_on_the_way)
    assert not (tmp_path / "30").exists()
    have = (tmp_path / ".30.partial/state/params").stat().st_size
    assert have == came
    world.requests = []
    folder = client.checkpoints.download(job, to=tmp_path)
    assert contents(folder) == FILES
    assert [headers.get("range") for headers in world.asked("GET", "/state/params")] == [f"bytes={have}-"]


def test_a_flipped_byte_is_refused(world, client, job, tmp_path):
    world.flip = True
    with pytest.raises(meshyard.DownloadCorrupt, match="state/params"):
        client.checkpoints.download(job, to=tmp_path)
    assert not (tmp_path / "30").exists()
    assert len(world.asked("GET", "/state/params")) == 2, "wrong bytes are fetched once more"


def test_a_manifest_of_another_checkpoint_is_refused(world, client, job, tmp_path):
    world.checkpoints[-1]["manifest_sha256"] = "0" * 64
    with pytest.raises(meshyard.DownloadCorrupt, match="the manifest of step 30"):
        client.checkpoints.download(job, to=tmp_path)
    assert not world.asked("GET", "/state/params")


def test_a_byte_flipped_in_what_was_left_behind_is_mended(world, client, job, tmp_path):
    left = tmp_path / ".30.partial/state/params"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"\x01" + FILES["state/params"][1:400])
    (tmp_path / ".30.partial/stranger").write_bytes(b"of an older download")
    assert contents(client.checkpoints.download(job, to=tmp_path)) == FILES


def test_what_is_home_already_is_not_fetched_again(world, client, job, tmp_path):
    first = client.checkpoints.download(job, to=tmp_path)
    world.requests = []
    assert client.checkpoints.download(job, to=tmp_path) == first
    assert not world.asked("GET", "/state/params")


def test_what_stands_in_the_way_is_left_alone(client, job, tmp_path):
    (tmp_path / "30").mkdir()
    (tmp_path / "30/precious").write_text("mine")
    with pytest.raises(FileExistsError, match="move it away"):
        client.checkpoints.download(job, to=tmp_path)
    assert contents(tmp_path / "30") == {"precious": b"mine"}


@pytest.mark.parametrize("path", ["../outside", "/etc/outside", "a/../../outside", "a\\b"])
def test_a_path_that_leaves_the_folder_is_refused(world, client, job, tmp_path, path):
    world.files[path] = b"x"
    with pytest.raises(meshyard.APIResponseError, match="outside its folder"):
        client.checkpoints.download(job, to=tmp_path / "in")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("form", ["tar", "safetensors"])
def test_an_archive_comes_home(client, job, tmp_path, form, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = client.checkpoints.download_archive(job, "best", format=form)
    assert path.name == f"20.{form}"
    assert path.read_bytes() == f"an archive as {form}".encode()
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_an_artifact_comes_home(world, client, job, tmp_path):
    world.break_files_after = [1234]
    path = client.artifacts.download(job, "state/params", to=tmp_path)
    assert path == tmp_path / "params"
    assert path.read_bytes() == FILES["state/params"]
    with pytest.raises(meshyard.NoArtifact):
        client.artifacts.download(job, "nothing")


def test_a_dataset_comes_home(world, client, tmp_path):
    found = client.datasets.upload(b"some words")
    assert client.datasets.download(found, to=tmp_path).read_bytes() == b"some words"
    world.flip = True
    with pytest.raises(meshyard.DownloadCorrupt):
        client.datasets.download("ds_1", to=tmp_path / "again.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["words.txt"]


def test_a_checkpoint_is_pinned(client, job):
    assert client.checkpoints.pin(job, 20).pinned
    assert not client.checkpoints.pin(job, 20, pinned=False).pinned
