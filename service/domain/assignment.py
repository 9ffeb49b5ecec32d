"""What a worker is handed with a claim: the spec, where to start, and where its bytes are."""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Connection, Row

from jobs.protocol import Assignment, Code, Dataset, FileStorage, HttpStorage, Resume
from jobs.spec.data import datasets_beside
from jobs.spec.imports import bundles_of
from jobs.spec.mesh import divisor, resolve_axes
from service.context import Context
from service.db.queries.contents import BUNDLES, DATASETS


def first_step(point: Resume | None) -> int | None:
    """The step that an attempt continues from; None where it counts from the start."""
    return point.step if point is not None and point.what == "all" else None


def mesh_axes_of(spec: dict[str, Any], devices: int) -> dict[str, int]:
    """The mesh of an attempt that may use `devices` devices, an open axis resolved."""
    axes: dict[str, int] = spec["mesh"]["axes"]
    # With one device on the open axis the mesh always fits, and the claim saw to it that the worker has that many.
    return resolve_axes(axes, devices, divisor(spec)) or {name: max(size, 1) for name, size in axes.items()}


def dataset_of(connection: Connection, job: Row[Any]) -> Dataset | None:
    """The data that the job reads, if it is a dataset."""
    if job.dataset_id is None:
        return None
    return _dataset(connection, job.project, job.dataset_id)


def datasets_of(connection: Connection, job: Row[Any]) -> dict[str, Dataset]:
    """The files that the job reads beside its data, by what they are for."""
    found = {role: _dataset(connection, job.project, ident) for role, ident in datasets_beside(job.resolved_spec["data"]).items()}
    return {role: dataset for role, dataset in found.items() if dataset is not None}


def code_of(connection: Connection, job: Row[Any]) -> list[Code]:
    """The bundles that the job's model and loss come from."""
    found = [BUNDLES.get(connection, job.project, ident) for ident in bundles_of(job.resolved_spec)]
    return [Code(id=row.id, module=row.module, sha256=row.sha256, bytes=row.bytes, key=row.key) for row in found if row is not None]


def _dataset(connection: Connection, project: str, dataset_id: str) -> Dataset | None:
    row = DATASETS.get(connection, project, dataset_id)
    if row is None:
        return None
    return Dataset(id=row.id, format=row.format, sha256=row.sha256, bytes=row.bytes, key=row.key)


def storage_of(context: Context, probe_token: str | None) -> FileStorage | HttpStorage:
    """Where the worker's bytes are: in the artifact folder if it has shown that it can read it, else behind the service."""
    folder = context.store.shared_folder()
    if folder is None or context.probe is None or probe_token != context.probe.token:
        return HttpStorage()
    return FileStorage(root=str(folder.resolve()))


def assignment(
    context: Context, connection: Connection, job: Row[Any], attempt: dict[str, Any], point: Resume | None, storage: Any
) -> Assignment:
    """The claim's answer, of its parts."""
    devices = 1
    for size in attempt["mesh_axes"].values():
        devices *= size
    return Assignment(
        job_id=job.id,
        attempt_id=attempt["id"],
        number=attempt["number"],
        fence=attempt["fence"],
        lease_seconds=context.settings.lease_seconds,
        spec=job.resolved_spec,
        mesh_axes=attempt["mesh_axes"],
        devices=devices,
        prefix=f"jobs/{job.id}/{attempt['id']}",
        storage=storage,
        dataset=dataset_of(connection, job),
        beside=datasets_of(connection, job),
        code=code_of(connection, job),
        resume=point,
        stall_seconds=context.settings.stall_seconds,
    )
