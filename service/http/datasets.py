"""Datasets: upload, list, describe, download."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from jobs.spec.dataset import Format
from jobs.spec.strict import Name
from service.context import Context
from service.db.queries import datasets as rows
from service.domain import datasets
from service.domain.verification import Stored
from service.http.auth import Project
from service.http.paging import Limit, Listing, cut
from service.http.pump import pump, refuse_announced
from service.http.serving import FILE_RESPONSES, send_file
from service.http.session import Reading, Shared, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["datasets"])

RAW_BODY: dict[str, Any] = {
    "requestBody": {
        "description": "The file's bytes.",
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
AfterDataset = Annotated[str | None, Query(pattern=r"^ds_[0-9a-f]{32}$", description="Id of the dataset that the page follows.")]


DatasetId = Annotated[str, Path(pattern=r"^ds_[0-9a-f]{32}$", description="Id of a dataset.")]


class DatasetList(Listing[datasets.Dataset]):
    """A page of datasets, newest first."""


@router.post(
    "/v1/datasets",
    status_code=201,
    responses={200: {"model": datasets.Dataset, "description": "The same bytes were there already, in this format."}},
    openapi_extra=RAW_BODY,
)
async def upload_dataset(
    request: Request,
    response: Response,
    context: Shared,
    project: Project,
    form: Annotated[Format, Query(alias="format", description="What the file is.")],
    name: Annotated[Name | None, Query(description="What to call it.")] = None,
) -> datasets.Dataset:
    """Upload a file: the body is its bytes. It is looked through before it is kept."""
    refuse_announced(request, context.settings.max_dataset_bytes)
    incoming = datasets.Incoming(context.store, context.settings.max_dataset_bytes)
    try:
        await pump(request, incoming.take)
        shown, is_new = await run_in_threadpool(_keep, context, project, name, form, incoming)
    finally:
        await run_in_threadpool(incoming.abandon)
    if not is_new:
        response.status_code = 200
    response.headers["Location"] = f"/v1/datasets/{shown.id}"
    return shown


def _keep(
    context: Context, project: str, name: str | None, form: Format, incoming: datasets.Incoming
) -> tuple[datasets.Dataset, bool]:
    row, is_new = datasets.keep(context, project, name, form, incoming)
    return datasets.shown(row), is_new


@router.get("/v1/datasets")
def list_datasets(read: Reading, project: Project, limit: Limit = 20, after: AfterDataset = None) -> DatasetList:
    """List datasets, newest first."""
    page, rest = cut(rows.page(read.connection, project, after, limit + 1), limit, "id")
    return DatasetList(data=[datasets.shown(row) for row in page], **rest)


@router.get("/v1/datasets/{dataset_id}")
def get_dataset(dataset_id: DatasetId, read: Reading, project: Project) -> datasets.Dataset:
    """Describe a dataset: its columns, their types and spans, its rows."""
    return datasets.shown(datasets.get(read.connection, project, dataset_id))


@router.head("/v1/datasets/{dataset_id}/content", include_in_schema=False)
@router.get("/v1/datasets/{dataset_id}/content", response_class=Response, responses=FILE_RESPONSES)
def download_dataset(request: Request, dataset_id: DatasetId, read: Reading, context: Shared, project: Project) -> Response:
    """Download a dataset's bytes, or a range of them."""
    row = datasets.get(read.connection, project, dataset_id)
    return send_file(request, context.store, Stored(row.key, f"{row.id}.{row.format}", row.bytes, row.sha256))
