"""A backup of a service that runs, restored elsewhere, is that service at one moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service import backup
from service.app import create_app
from service.settings import Settings
from tests.service.core_driver import Api, training
from tests.service.test_retention import commit, context_of, folder_of, probe, upload


@pytest.fixture
def furnished(api: Api):
    """A service with a dataset, a job and a checkpoint; the job still runs."""
    dataset = upload(api, b"words")
    api.submit(training())
    attempt = api.worker(probe_token=probe(api)).claim()
    commit(attempt, 5)
    attempt.report(logs="a line\n", series=[{"name": "train/loss", "steps": [1], "values": [2.0]}])
    return api, attempt, dataset


def elsewhere(tmp_path: Path) -> Settings:
    return Settings(database_url=f"sqlite:///{tmp_path / 'new' / 'db'}", artifact_root=tmp_path / "new" / "artifacts", port=0)


def test_what_is_restored_is_what_was_there(furnished, tmp_path, database_kind):
    api, attempt, dataset = furnished
    settings = context_of(api).settings
    if database_kind == "postgresql":
        with pytest.raises(backup.CannotBackUp, match="pg_dump"):
            backup.back_up(settings, tmp_path / "copy")
        return
    taken = backup.back_up(settings, tmp_path / "copy")
    assert (taken.files, taken.copied, taken.gone) == (2, 2, [])
    before = [api.get(path).json() for path in paths(attempt.job_id)]
    api.submit()  # after the moment of the backup
    again = backup.back_up(settings, tmp_path / "copy")
    assert (again.files, again.copied) == (2, 0)
    new = elsewhere(tmp_path)
    backup.restore(new, tmp_path / "copy")
    with Api(create_app(new)) as restored:
        assert [restored.get(path).json() for path in paths(attempt.job_id)] == before
        assert restored.get(f"/v1/jobs/{attempt.job_id}/checkpoints/5/files/state").content == b"step 5"
        assert restored.get(f"/v1/jobs/{attempt.job_id}/logs").text == "a line\n"
        assert restored.get(f"/v1/datasets/{dataset}/content").content == b"words" * 10
        assert len(restored.get("/v1/jobs").json()["data"]) == 2
        assert restored.submit()["status"] == "queued"


def paths(job_id: str) -> list[str]:
    return [f"/v1/jobs/{job_id}/{rest}" for rest in ("events", "metrics", "checkpoints", "attempts", "checkpoints/5/files")]


def test_a_file_that_goes_meanwhile_takes_its_row_with_it(furnished, tmp_path, database_kind):
    api, attempt, _ = furnished
    if database_kind == "postgresql":
        return
    (folder_of(attempt) / "checkpoints" / "5" / "state").unlink()
    taken = backup.back_up(context_of(api).settings, tmp_path / "copy")
    assert taken.gone == [f"checkpoint {attempt.job_id} 5"]
    assert json.loads((tmp_path / "copy" / "backup.json").read_text())["gone"] == taken.gone
    backup.restore(elsewhere(tmp_path), tmp_path / "copy")
    with Api(create_app(elsewhere(tmp_path))) as restored:
        assert restored.get(f"/v1/jobs/{attempt.job_id}/checkpoints").json()["data"] == []


def test_a_restore_replaces_nothing_and_takes_no_half_backup(furnished, tmp_path, database_kind):
    api, _, _ = furnished
    if database_kind == "postgresql":
        return
    settings, copy, new = context_of(api).settings, tmp_path / "copy", elsewhere(tmp_path)
    backup.back_up(settings, copy)
    with pytest.raises(backup.CannotBackUp, match="already"):
        backup.restore(settings, copy)
    new.artifact_root.mkdir(parents=True)
    (new.artifact_root / "mine").touch()
    with pytest.raises(backup.CannotBackUp, match="not empty"):
        backup.restore(new, copy)
    (new.artifact_root / "mine").unlink()
    next(path for path in (copy / "artifacts" / "datasets").iterdir()).unlink()
    with pytest.raises(backup.CannotBackUp, match="missing from the backup"):
        backup.restore(new, copy)
    assert not (tmp_path / "new" / "db").exists()
    (copy / "backup.json").unlink()
    with pytest.raises(backup.CannotBackUp, match="no whole backup"):
        backup.restore(new, copy)
