from __future__ import annotations

import hashlib
import math
import time
from datetime import datetime, timedelta

import pytest

from jobs.errors import Issue
from jobs.protocol import Committed
from service.db.queries import checkpoints as rows
from service.db.queries import jobs, uploads
from service.db.queries.uploads import Upload
from service.domain import checkpoints, retention
from service.domain.errors import Invalid, NotFound
from service.domain.retention import Kept, choose
from tests.service.data.world import described, held

BEST_ONE = {"metric": "eval/loss", "mode": "min", "count": 1}


def kept(*steps, **special):
    return [Kept(step, {}, pinned=False, expires_at=None) for step in steps]


def test_the_latest_stay():
    assert choose(kept(1, 2, 3, 4), {"keep_latest": 2}, now=0, needed=set()) == [1, 2]
    assert choose(kept(1, 2, 3, 4), {"keep_latest": None}, now=0, needed=set()) == []
    assert choose([], {"keep_latest": 2}, now=0, needed=set()) == []


def test_the_newest_stays_whatever_is_said():
    assert choose(kept(1, 2), {"keep_latest": 0}, now=0, needed=set()) == [1]
    assert choose([Kept(1, {}, pinned=False, expires_at=5)], {"keep_latest": 0}, now=10, needed=set()) == []


def test_the_best_stay_and_values_that_are_not_finite_are_never_best():
    losses = {1: 0.5, 2: 0.1, 3: math.nan, 4: None, 5: 0.1, 6: 0.9, 7: -math.inf, 8: 3.0}
    all_of_them = [Kept(step, {"eval/loss": loss}, pinned=False, expires_at=None) for step, loss in losses.items()]
    policy = {"keep_latest": 1, "keep_best": {"metric": "eval/loss", "mode": "min", "count": 2}}
    assert choose(all_of_them, policy, now=0, needed=set()) == [1, 3, 4, 6, 7]
    policy = {"keep_latest": 1, "keep_best": {"metric": "eval/loss", "mode": "max", "count": 2}}
    assert choose(all_of_them, policy, now=0, needed=set()) == [1, 2, 3, 4, 5, 7]


def test_pinned_unexpired_and_needed_stay():
    all_of_them = [
        Kept(1, {}, pinned=True, expires_at=None),
        Kept(2, {}, pinned=False, expires_at=11),
        Kept(3, {}, pinned=False, expires_at=9),
        Kept(4, {}, pinned=True, expires_at=9),
        *kept(5, 6, 7),
    ]
    assert choose(all_of_them, {"keep_latest": 1}, now=10, needed={5}) == [3, 6]
    assert choose(all_of_them, {"keep_latest": None}, now=10, needed={5}) == [3]


def test_multiples_of_keep_every_stay_for_good():
    assert choose(kept(0, 5, 10, 15, 20, 25, 30), {"keep_latest": 1, "keep_every": 10}, now=0, needed=set()) == [0, 5, 15, 25]


def test_what_has_lapsed_goes_although_the_policy_would_keep_it():
    all_of_them = [
        Kept(1, {}, pinned=True, expires_at=None, lapses_at=5),
        Kept(2, {}, pinned=False, expires_at=11, lapses_at=5),
        Kept(3, {}, pinned=False, expires_at=None, lapses_at=5),
        Kept(4, {}, pinned=False, expires_at=None, lapses_at=15),
        Kept(5, {}, pinned=False, expires_at=None, lapses_at=5),
        Kept(6, {}, pinned=False, expires_at=None, lapses_at=5),
    ]
    assert choose(all_of_them, {"keep_latest": None}, now=10, needed={5}) == [3]
    assert choose(all_of_them, {"keep_latest": 2}, now=10, needed=set()) == [3, 4, 5]


def test_a_committed_checkpoint_is_listed(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    files = {"state/b": b"bb", "state/a": b"a", "meta/x": b""}
    world.commit(job_id, attempt_id, 200, files, {"eval/loss": 1.5, "train/loss": None})
    [one] = world.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]
    lines = "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))
    assert {name: value for name, value in one.items() if name != "created_at"} == {
        "object": "checkpoint",
        "job_id": job_id,
        "step": 200,
        "metrics": {"eval/loss": 1.5, "train/loss": None},
        "bytes": 3,
        "files": 3,
        "manifest_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "pinned": False,
        "expires_at": None,
        "attempt_id": attempt_id,
    }
    assert one["created_at"].endswith("Z")
    told = {"step": 200, "bytes": 3, "metrics": {"eval/loss": 1.5, "train/loss": None}}
    assert world.history(job_id) == [("checkpoint.committed", told)]


def test_checkpoints_are_listed_by_step_in_pages(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    for step in (30, 0, 10, 20):
        world.commit(job_id, attempt_id, step)
    first = world.get(f"/v1/jobs/{job_id}/checkpoints?limit=3").json()
    assert ([one["step"] for one in first["data"]], first["has_more"], first["next"]) == ([0, 10, 20], True, "20")
    last = world.get(f"/v1/jobs/{job_id}/checkpoints?limit=3&after={first['next']}").json()
    assert ([one["step"] for one in last["data"]], last["has_more"], last["next"]) == ([30], False, None)
    from_zero = world.get(f"/v1/jobs/{job_id}/checkpoints?after=0").json()
    assert [one["step"] for one in from_zero["data"]] == [10, 20, 30]
    assert world.get(f"/v1/jobs/{job_id}/checkpoints/10").json() == first["data"][1]
    assert world.get(f"/v1/jobs/{job_id}/checkpoints/latest").json() == last["data"][0]
    assert world.get(f"/v1/jobs/{job_id}/checkpoints/11").status_code == 404


@pytest.mark.parametrize(
    "damage",
    ["missing", "short", "long", "folder", "climbing", "empty"],
)
def test_a_checkpoint_that_is_not_whole_is_not_listed(world, damage):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    world.put_file(f"jobs/{job_id}/{attempt_id}/checkpoints/5/state/a", b"content")
    world.put_file(f"jobs/{job_id}/{attempt_id}/checkpoints/5/state/b/c", b"content")
    files = {
        "missing": {"state/a": b"content", "state/x": b"content"},
        "short": {"state/a": b"contents"},
        "long": {"state/a": b"cont"},
        "folder": {"state/b": b""},
        "climbing": {"state/../state/a": b"content"},
        "empty": {},
    }
    with pytest.raises(Invalid) as caught:
        world.commit(job_id, attempt_id, 5, files[damage], write_files=False)
    assert caught.value.issues[0].pointer.startswith("/files")
    assert world.steps(job_id) == []
    assert world.history(job_id) == []


def test_a_file_named_twice_is_refused(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    world.put_file(f"jobs/{job_id}/{attempt_id}/checkpoints/5/state/a", b"content")
    told = Committed(step=5, files=[described("state/a", b"content")] * 2)
    with world.write() as write:
        job, attempt = held(write, job_id, attempt_id)
        with pytest.raises(Invalid):
            checkpoints.commit(write, world.context, job, attempt, told, True)
    assert world.steps(job_id) == []


def test_over_http_only_what_came_whole_counts(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id, storage="http")
    key = f"jobs/{job_id}/{attempt_id}/checkpoints/5/state/a"
    with pytest.raises(Invalid):
        world.commit(job_id, attempt_id, 5, {"state/a": b"content"})
    for upload in (Upload(7, "0" * 64), Upload(6, hashlib.sha256(b"content").hexdigest())):
        with world.write() as write:
            uploads.save(write.connection, key, attempt_id, upload)
        with pytest.raises(Invalid):
            world.commit(job_id, attempt_id, 5, {"state/a": b"content"})
    with world.write() as write:
        uploads.save(write.connection, key, attempt_id, Upload(7, hashlib.sha256(b"content").hexdigest()))
    world.commit(job_id, attempt_id, 5, {"state/a": b"content"})
    assert world.steps(job_id) == [5]


def test_retention_deletes_rows_with_an_event_and_files_after(world):
    job_id = world.new_job({"keep_latest": 2, "keep_best": BEST_ONE})
    attempt_id = world.attempt(job_id)
    for step, loss in ((10, 0.1), (20, 0.5), (30, 0.4), (40, 0.3)):
        world.commit(job_id, attempt_id, step, metrics={"eval/loss": loss})
    assert world.steps(job_id) == [10, 30, 40]
    assert [data["step"] for kind, data in world.history(job_id) if kind == "checkpoint.deleted"] == [20]
    sizes = {step: world.store.size(f"jobs/{job_id}/{attempt_id}/checkpoints/{step}/state/a") for step in (10, 20, 30, 40)}
    assert [step for step, size in sizes.items() if size is None] == [20]


def test_a_refused_report_deletes_nothing(world):
    job_id = world.new_job({"keep_latest": 1})
    attempt_id = world.attempt(job_id)
    world.commit(job_id, attempt_id, 10)

    def refused():
        with world.write() as write:
            assert checkpoints.forget_corrupt(write, world.context, job_id, 10)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        refused()
    assert world.steps(job_id) == [10]
    assert world.store.size(f"jobs/{job_id}/{attempt_id}/checkpoints/10/state/a") is not None


def test_what_a_live_job_starts_from_stays_until_it_has_ended(world):
    job_id = world.new_job({"keep_latest": 1})
    attempt_id = world.attempt(job_id)
    world.commit(job_id, attempt_id, 10)
    reader = world.new_job(source=(job_id, 10, "all"), status="queued")
    world.commit(job_id, attempt_id, 20)
    assert world.steps(job_id) == [10, 20]
    world.change_job(reader, status="succeeded")
    world.commit(job_id, attempt_id, 30)
    assert world.steps(job_id) == [30]


def test_a_step_saved_again_by_a_later_attempt_takes_the_place(world):
    job_id = world.new_job()
    first = world.attempt(job_id, 1)
    world.commit(job_id, first, 10, {"state/a": b"old", "state/b": b"old"})
    world.patch(f"/v1/jobs/{job_id}/checkpoints/10", json={"pinned": True})
    second = world.attempt(job_id, 2)
    world.commit(job_id, second, 10, {"state/a": b"newer"})
    [one] = world.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]
    assert (one["attempt_id"], one["files"], one["bytes"], one["pinned"]) == (second, 1, 5, True)
    assert world.store.size(f"jobs/{job_id}/{first}/checkpoints/10/state/a") is None
    assert world.get(f"/v1/jobs/{job_id}/checkpoints/10/files/state/a").content == b"newer"


def test_pin_and_expiry(world):
    job_id = world.new_job({"keep_latest": 1})
    attempt_id = world.attempt(job_id)
    world.commit(job_id, attempt_id, 10)
    path = f"/v1/jobs/{job_id}/checkpoints"
    assert world.patch(f"{path}/10", json={"pinned": True}).json()["pinned"] is True
    world.commit(job_id, attempt_id, 20)
    shown = world.patch(f"{path}/latest", json={"expires_at": "2999-01-31T12:00:00.123456+01:00"}).json()
    assert (shown["step"], shown["expires_at"], shown["pinned"]) == (20, "2999-01-31T11:00:00.123456Z", False)
    world.commit(job_id, attempt_id, 30)
    assert world.steps(job_id) == [10, 20, 30]
    assert world.patch(f"{path}/20", json={"expires_at": None}).json()["expires_at"] is None
    assert world.patch(f"{path}/10", json={}).json()["pinned"] is True
    world.commit(job_id, attempt_id, 40)
    assert world.steps(job_id) == [10, 40]


def test_the_sweep_deletes_what_has_expired_but_never_the_newest(world):
    job_id = world.new_job({"keep_latest": None})
    attempt_id = world.attempt(job_id)
    for step in (10, 20, 30):
        world.commit(job_id, attempt_id, step)
    for step in (10, 20, 30):
        body = {"expires_at": "1999-01-01T00:00:00Z", "pinned": step == 20}
        assert world.patch(f"/v1/jobs/{job_id}/checkpoints/{step}", json=body).status_code == 200
    with world.write() as write:
        assert retention.sweep(write, world.context) == 1
    assert world.steps(job_id) == [20, 30]
    with world.write() as write:
        assert retention.sweep(write, world.context) == 0


def sweep_when_lapsed(world, job_id, *steps):
    """A sweep as if the job's time to live of these checkpoints had gone by, at one with it: the service sweeps by itself, too."""
    with world.write() as write:
        by_the_job = 1_000_000 * (time.time() + 2 * 3600)
        for step in steps:
            lapses_at = rows.get(write.connection, job_id, step).lapses_at
            if lapses_at is not None and lapses_at < by_the_job:
                rows.change(write.connection, job_id, step, {"lapses_at": 1})
        return retention.sweep(write, world.context)


def sweep(world):
    with world.write() as write:
        return retention.sweep(write, world.context)


def test_checkpoints_lapse_by_the_job_s_time_to_live(world):
    job_id = world.new_job({"keep_latest": None, "keep_every": 20, "ttl_seconds": 3600.0})
    attempt_id = world.attempt(job_id)
    for step in (10, 20, 30, 40, 50):
        world.commit(job_id, attempt_id, step)
    listed = {one["step"]: one for one in world.get(f"/v1/jobs/{job_id}/checkpoints").json()["data"]}
    assert [step for step, one in listed.items() if one["expires_at"] is None] == [20, 40]
    lived = instant(listed[10]["expires_at"]) - instant(listed[10]["created_at"])
    assert abs(lived - timedelta(hours=1)) < timedelta(seconds=1)  # the clock is read twice
    assert sweep(world) == 0
    assert sweep_when_lapsed(world, job_id, 10, 50) == 1
    assert world.steps(job_id) == [20, 30, 40, 50]
    assert sweep(world) == 0


def test_a_pin_an_expiry_of_one_s_own_and_a_live_reader_outlast_the_time_to_live(world):
    job_id = world.new_job({"keep_latest": None, "ttl_seconds": 3600.0})
    attempt_id = world.attempt(job_id)
    for step in (10, 20, 30, 40, 50):
        world.commit(job_id, attempt_id, step)
    path = f"/v1/jobs/{job_id}/checkpoints"
    world.patch(f"{path}/10", json={"pinned": True})
    assert world.patch(f"{path}/20", json={"expires_at": None}).json()["expires_at"] is None
    assert world.patch(f"{path}/30", json={"expires_at": "2999-01-01T00:00:00Z"}).json()["expires_at"].startswith("2999")
    reader = world.new_job(source=(job_id, 40, "params"), status="queued")
    assert sweep_when_lapsed(world, job_id, 10, 20, 30, 40) == 0
    world.change_job(reader, status="failed")
    sweep(world)
    assert world.steps(job_id) == [10, 20, 30, 50]


def instant(text):
    return datetime.fromisoformat(text)


WRONG_PATCHES = [
    {"pinned": None},
    {"pinned": "yes"},
    {"pinned": 1},
    {"expires_at": 5},
    {"expires_at": "tomorrow"},
    {"expires_at": "2030-01-01"},
    {"expires_at": "2030-01-01T00:00:00"},
    {"expires_at": "2030-13-01T00:00:00Z"},
    {"expires_at": "9999-12-31T23:59:59Z"},
    {"expires_at": "0001-01-01T00:00:00+14:00"},
    {"step": 5},
    [],
]


def test_a_wrong_patch_is_refused(world, subtests):
    job_id = world.new_job()
    world.commit(job_id, world.attempt(job_id), 10)
    for body in WRONG_PATCHES:
        with subtests.test(str(body)):
            assert world.patch(f"/v1/jobs/{job_id}/checkpoints/10", json=body).status_code == 422


def test_a_step_that_is_not_there_is_not_found(world, subtests):
    job_id = world.new_job()
    world.commit(job_id, world.attempt(job_id), 10)
    for step in ["11", "-1", "+10", "1e1", "best", "x", "99999999999999999999", "9007199254740992", "1\u0660", "%00"]:
        with subtests.test(step):
            assert world.get(f"/v1/jobs/{job_id}/checkpoints/{step}/files").status_code == 404
            assert world.patch(f"/v1/jobs/{job_id}/checkpoints/{step}", json={"pinned": True}).status_code == 404


def test_latest_and_best_are_names(world):
    job_id = world.new_job({"keep_latest": None, "keep_best": {"metric": "acc", "mode": "max", "count": 1}})
    attempt_id = world.attempt(job_id)
    for step, accuracy in ((10, 0.9), (20, 0.95), (30, None)):
        world.commit(job_id, attempt_id, step, metrics={"acc": accuracy})
    path = f"/v1/jobs/{job_id}/checkpoints"
    assert world.get(f"{path}/latest/files/state/a").content == b"state of 30"
    assert world.get(f"{path}/best/files/state/a").content == b"state of 20"


def test_best_falls_back_to_the_evaluation_loss(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    for step, loss in ((10, 0.2), (20, 0.1), (30, 0.3)):
        world.commit(job_id, attempt_id, step, metrics={"eval/loss": loss})
    assert world.get(f"/v1/jobs/{job_id}/checkpoints/best/files/state/a").content == b"state of 20"


def test_jobs_unknown_or_ill_named_have_no_checkpoints(world):
    for job_id in ("job_" + "0" * 32, "job_x", "ds_" + "0" * 32):
        assert world.get(f"/v1/jobs/{job_id}/checkpoints").status_code == 404


def resume_point(world, job_id):
    with world.write() as write:
        job = jobs.lock(write.connection, "default", job_id)
        assert job is not None
        return checkpoints.resume_point(write.connection, job)


def test_a_job_goes_on_from_its_newest_checkpoint(world):
    job_id = world.new_job()
    assert resume_point(world, job_id) is None
    attempt_id = world.attempt(job_id)
    world.put_file(f"jobs/{job_id}/{attempt_id}/outputs/draws/1.npz", b"draws")
    draws = described("draws/1.npz", b"draws")
    world.commit(job_id, attempt_id, 10, outputs=[draws], fresh=[draws])
    world.commit(job_id, attempt_id, 20, outputs=[draws])
    point = resume_point(world, job_id)
    assert (point.job_id, point.step, point.what) == (job_id, 20, "all")
    assert point.prefix == f"jobs/{job_id}/{attempt_id}/checkpoints/20"
    assert point.files == [described("state/a", b"state of 20")]
    assert point.outputs == [draws]
    assert point.keys == {"draws/1.npz": f"jobs/{job_id}/{attempt_id}/outputs/draws/1.npz"}


def test_a_corrupt_checkpoint_gives_way_to_the_one_before(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    world.commit(job_id, attempt_id, 10)
    world.commit(job_id, attempt_id, 20)
    with world.write() as write:
        assert checkpoints.forget_corrupt(write, world.context, job_id, 20)
        assert not checkpoints.forget_corrupt(write, world.context, job_id, 20)
    assert resume_point(world, job_id).step == 10
    assert world.history(job_id)[-1] == ("checkpoint.corrupt", {"step": 20})
    assert world.store.size(f"jobs/{job_id}/{attempt_id}/checkpoints/20/state/a") is None


def test_a_job_may_start_from_another_s_checkpoint(world):
    source = world.new_job()
    attempt_id = world.attempt(source)
    world.put_file(f"jobs/{source}/{attempt_id}/outputs/draws/1.npz", b"draws")
    draws = described("draws/1.npz", b"draws")
    world.commit(source, attempt_id, 10, outputs=[draws], fresh=[draws])
    everything = resume_point(world, world.new_job(source=(source, 10, "all")))
    assert (everything.job_id, everything.step, everything.what, everything.outputs) == (source, 10, "all", [draws])
    params = resume_point(world, world.new_job(source=(source, 10, "params")))
    assert (params.what, params.outputs, params.keys) == ("params", [], {})
    with pytest.raises(NotFound):
        resume_point(world, world.new_job(source=(source, 11, "all")))


def test_outputs_of_the_source_become_the_job_s_own(world):
    source = world.new_job()
    attempt_id = world.attempt(source)
    world.put_file(f"jobs/{source}/{attempt_id}/outputs/draws/1.npz", b"draws")
    old = described("draws/1.npz", b"draws")
    world.commit(source, attempt_id, 10, outputs=[old], fresh=[old])
    job_id = world.new_job(source=(source, 10, "all"))
    mine = world.attempt(job_id)
    world.put_file(f"jobs/{job_id}/{mine}/outputs/draws/2.npz", b"more")
    new = described("draws/2.npz", b"more")
    world.commit(job_id, mine, 20, outputs=[old, new], fresh=[new])
    world.store.delete(f"jobs/{source}")
    listed = world.get(f"/v1/jobs/{job_id}/artifacts").json()["data"]
    assert [one["path"] for one in listed] == ["draws/1.npz", "draws/2.npz"]
    assert world.get(f"/v1/jobs/{job_id}/artifacts/draws/1.npz").content == b"draws"
    assert resume_point(world, job_id).keys["draws/1.npz"].startswith(f"jobs/{job_id}/")


def test_an_output_that_nobody_brought_is_refused(world):
    job_id = world.new_job()
    attempt_id = world.attempt(job_id)
    with pytest.raises(Invalid) as caught:
        world.commit(job_id, attempt_id, 10, outputs=[described("draws/1.npz", b"draws")])
    assert caught.value.issues == [Issue("/outputs", "file_missing", caught.value.issues[0].detail)]
    with pytest.raises(Invalid):
        world.commit(job_id, attempt_id, 10, fresh=[described("draws/1.npz", b"draws")])
    assert world.steps(job_id) == []
