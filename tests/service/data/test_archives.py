"""Downloads of a checkpoint that Orbax itself has written, read back with Orbax and safetensors alone."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import safetensors

from service.domain import archive, safetensors_export
from service.domain.errors import CheckpointCorrupt
from service.domain.verification import Stored
from service.storage.local import LocalStore
from tests.service.data import orbax_checkpoint

READ_WITH_ORBAX = """
import sys, jax, numpy as np
from orbax.checkpoint import v1 as ocp
from tests.service.data.orbax_checkpoint import arrays
jax.config.update("jax_enable_x64", True)
one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
shapes = ocp.checkpointables_metadata(sys.argv[1]).metadata["state"]
target = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=one), shapes)
state = ocp.load_checkpointables(sys.argv[1], {"state": target})["state"]
for section, found in arrays().items():
    for path, array in found.items():
        loaded = np.asarray(state[section][path])
        assert loaded.dtype == array.dtype and loaded.shape == array.shape, (section, path)
        assert loaded.tobytes() == array.tobytes(), (section, path)
print("restored")
"""
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path.cwd())}


def write_checkpoint(folder, kind, sections="state"):
    command = [sys.executable, orbax_checkpoint.__file__, str(folder), kind, sections]
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    root = folder / str(orbax_checkpoint.STEP)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module", params=["zarr2", "zarr3"])
def saved(request, tmp_path_factory):
    """The files of a checkpoint, by path."""
    return write_checkpoint(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def url(world, saved):
    job_id = world.new_job()
    world.commit(job_id, world.attempt(job_id), 200, saved)
    return f"/v1/jobs/{job_id}/checkpoints/200"


def stored(world, *paths):
    """Those of the files that are there."""
    folder = world.store.shared_folder() / "jobs"
    return [file for path in paths for file in folder.glob(f"*/*/checkpoints/200/{path}")]


def test_the_tar_restores_with_orbax_alone(world, url, tmp_path):
    reply = world.get(f"{url}/archive?format=tar")
    assert reply.status_code == 200
    assert int(reply.headers["content-length"]) == len(reply.content)
    with tarfile.open(fileobj=io.BytesIO(reply.content)) as tar:
        tar.extractall(tmp_path, filter="data")
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_ORBAX, str(tmp_path / "200")], check=False, capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.stdout == "restored\n", done.stderr


def test_the_tar_is_the_same_every_time_and_sorted(world, url, saved):
    first = world.get(f"{url}/archive")
    assert first.content == world.get(f"{url}/archive?format=tar").content
    with tarfile.open(fileobj=io.BytesIO(first.content)) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [f"200/{path}" for path in sorted(saved)]
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {(0, 0, 0, "", 0o644)}


def test_an_archive_is_not_sent_to_who_has_it(world, url):
    for form in ("tar", "safetensors"):
        etag = world.get(f"{url}/archive?format={form}").headers["etag"]
        assert not etag.startswith("W/")
        again = world.get(f"{url}/archive?format={form}", headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        head = world.head(f"{url}/archive?format={form}")
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)
        assert int(head.headers["content-length"]) > 0


def test_safetensors_holds_parameters_and_statistics(world, url, tmp_path):
    reply = world.get(f"{url}/archive?format=safetensors")
    assert reply.status_code == 200
    assert int(reply.headers["content-length"]) == len(reply.content)
    assert reply.content == world.get(f"{url}/archive?format=safetensors").content
    loaded = dict(safetensors.deserialize(reply.content))
    saved = orbax_checkpoint.arrays()
    expected = {**saved["params"], **saved["batch_stats"]}
    assert set(loaded) == set(expected)
    for path, array in expected.items():
        assert tuple(loaded[path]["shape"]) == array.shape
        assert loaded[path]["dtype"] == safetensors_export.CODE_OF[array.dtype.name]
        assert bytes(loaded[path]["data"]) == array.tobytes(), path
    (tmp_path / "model.safetensors").write_bytes(reply.content)
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "flax", "step": "200"}
        assert np.array_equal(file.get_tensor("head.kernel"), expected["head.kernel"])


def test_safetensors_lies_aligned_and_in_a_stable_order(world, url):
    content = world.get(f"{url}/archive?format=safetensors").content
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    entries = {name: entry for name, entry in json.loads(content[8 : 8 + length]).items() if name != "__metadata__"}
    offsets = [entry["data_offsets"] for entry in entries.values()]
    assert [start for start, _ in offsets] == [0, *(stop for _, stop in offsets[:-1])]
    sizes = {"F32": 4, "I32": 4, "F16": 2, "BF16": 2, "BOOL": 1}
    order = [(-sizes[entry["dtype"]], name) for name, entry in entries.items()]
    assert order == sorted(order)
    assert all(entry["data_offsets"][0] % sizes[entry["dtype"]] == 0 for entry in entries.values())


@pytest.mark.parametrize("form", ["tar", "safetensors"])
def test_a_flipped_byte_is_refused(world, url, form):
    [file] = stored(world, "state/params.head.kernel/0.0.0", "state/params.head.kernel/c/0/0/0")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    reply = world.get(f"{url}/archive?format={form}")
    assert (reply.status_code, reply.json()["code"]) == (409, "checkpoint_corrupt")


@pytest.mark.parametrize("damage", ["missing", "short"])
@pytest.mark.parametrize("form", ["tar", "safetensors"])
def test_a_file_that_is_gone_or_short_is_refused(world, url, form, damage):
    [file] = stored(world, "state/params.scale/0", "state/params.scale/c")
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1])
    reply = world.get(f"{url}/archive?format={form}")
    assert (reply.status_code, reply.json()["code"]) == (409, "checkpoint_corrupt")


def test_safetensors_does_not_mind_damage_elsewhere(world, url):
    [file] = stored(world, "state/counters.step/0", "state/counters.step/c")
    file.unlink()
    assert world.get(f"{url}/archive?format=safetensors").status_code == 200
    assert world.get(f"{url}/archive?format=tar").status_code == 409


def test_a_checkpoint_without_parameters_has_no_safetensors(world, tmp_path):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    world.commit(job_id, attempt_id, 200, write_checkpoint(tmp_path / "draws", "zarr3", "draws"))
    world.commit(job_id, attempt_id, 300, {"something": b"else"})
    for step in (200, 300):
        reply = world.get(f"/v1/jobs/{job_id}/checkpoints/{step}/archive?format=safetensors")
        assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
        assert world.get(f"/v1/jobs/{job_id}/checkpoints/{step}/archive?format=tar").status_code == 200


def test_a_tree_that_cannot_be_read_is_no_fault_of_ours(world, saved):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    leaf = {"key_metadata": [{"key": "params"}, {"key": "x"}]}
    trees = [b"", b"[]", b"{}", b'{"tree_metadata": 5}', b'{"tree_metadata": {"a": []}}', b"\xff"]
    for step, tree in enumerate(trees, start=1):
        world.commit(job_id, attempt_id, step, {"state/_METADATA": tree})
        assert world.get(f"/v1/jobs/{job_id}/checkpoints/{step}/archive?format=safetensors").status_code == 409
    described = json.dumps({"tree_metadata": {"x": leaf}}).encode()
    for step, array in enumerate([b"", b"{}", b'{"zarr_format": 2}', b"[" * 100_000], start=100):
        world.commit(job_id, attempt_id, step, {"state/_METADATA": described, "state/params.x/.zarray": array})
        assert world.get(f"/v1/jobs/{job_id}/checkpoints/{step}/archive?format=safetensors").status_code == 409


def test_an_archive_that_turns_out_damaged_breaks_off(tmp_path):
    """Too large to be read twice: the reader gets less than was promised, and never the end."""
    store = LocalStore(tmp_path)
    for name in ("a", "b"):
        store.append(name, 0, name.encode() * 1000)
        store.commit(name)
    files = [Stored(name, name, 1000, "0" * 64, CheckpointCorrupt) for name in ("a", "b")]
    received: list[bytes] = []
    with pytest.raises(CheckpointCorrupt):
        received.extend(archive.tar(store, 5, files))
    assert sum(map(len, received)) < archive.tar_bytes(5, files)
    assert not any(b"aaaa" in chunk for chunk in received)


def test_long_names_and_any_sizes_fit_in_the_tar(tmp_path):
    store = LocalStore(tmp_path)
    content = {"n" * 200 + "/" + "m" * 200: b"x" * 512, "é/ü": b"", "plain": b"y" * 10_239, "z": b"z" * 513}
    files = []
    for name, data in content.items():
        store.append(name, 0, data)
        store.commit(name)
        files.append(Stored(name, name, len(data), hashlib.sha256(data).hexdigest()))
    made = b"".join(archive.tar(store, 12, files))
    assert len(made) == archive.tar_bytes(12, files)
    with tarfile.open(fileobj=io.BytesIO(made)) as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == {
            f"12/{name}": data for name, data in content.items()
        }
    assert np.frombuffer(made[-1024:], np.uint8).sum() == 0


@pytest.mark.parametrize("query", ["format=zip", "format="])
def test_an_unknown_format_is_refused(world, query):
    job_id = world.new_job()
    world.commit(job_id, world.attempt(job_id), 1)
    assert world.get(f"/v1/jobs/{job_id}/checkpoints/1/archive?{query}").status_code == 422
