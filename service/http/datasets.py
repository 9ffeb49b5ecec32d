"""Datasets: upload, list, describe, download."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy.engine import Row

from jobs.spec.dataset import Format
from jobs.spec.strict import Name
from service.db.queries.contents import DATASETS
from service.domain import datasets
from service.domain.incoming import Incoming
from service.domain.verification import Stored
from service.http.auth import Project, Whoever, reach
from service.http.paging import Limit, Listing, cut
from service.http.receiving import raw_body, receive
from service.http.serving import FILE_RESPONSES, send_file
from service.http.session import Reading, Shared, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["datasets"])

AfterDataset = Annotated[str | None, Query(pattern=r"^ds_[0-9a-f]{32}$", description="Id of the dataset that the page follows.")]


DatasetId = Annotated[str, Path(pattern=r"^ds_[0-9a-f]{32}$", description="Id of a dataset.")]


class DatasetList(Listing[datasets.Dataset]):
    """A page of datasets, newest first."""


@router.post(
    "/v1/datasets",
    status_code=201,
    responses={200: {"model": datasets.Dataset, "description": "The same bytes were there already, in this format."}},
    openapi_extra=raw_body("The file's bytes."),
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

    def keep(incoming: Incoming) -> tuple[Row[Any], bool]:
        return datasets.keep(context, project, name, form, incoming)

    return datasets.shown(await receive(request, response, context, context.settings.max_dataset_bytes, keep))


@router.get("/v1/datasets")
def list_datasets(read: Reading, project: Project, limit: Limit = 20, after: AfterDataset = None) -> DatasetList:
    """List datasets, newest first."""
    page, rest = cut(DATASETS.page(read.connection, project, after, limit + 1), limit, "id")
    return DatasetList(data=[datasets.shown(row) for row in page], **rest)


@router.get("/v1/datasets/{dataset_id}")
def get_dataset(dataset_id: DatasetId, read: Reading, project: Project) -> datasets.Dataset:
    """Describe a dataset: its columns, their types and spans, its rows."""
    return datasets.shown(datasets.get(read.connection, project, dataset_id))


@router.head("/v1/datasets/{dataset_id}/content", include_in_schema=False)
@router.get("/v1/datasets/{dataset_id}/content", response_class=Response, responses=FILE_RESPONSES)
def download_dataset(request: Request, dataset_id: DatasetId, read: Reading, context: Shared, caller: Whoever) -> Response:
    """Download a dataset's bytes, or a range of them."""
    row = datasets.get(read.connection, reach(read, caller, dataset_id), dataset_id)
    return send_file(request, context.store, Stored(row.key, f"{row.id}.{row.format}", row.bytes, row.sha256))
