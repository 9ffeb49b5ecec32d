"""Bundles of user code: upload, list, describe, download."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from sqlalchemy.engine import Row

from jobs.spec.bundle.archive import DEFAULT_MODULE
from jobs.spec.strict import Name
from service.db.queries.contents import BUNDLES
from service.domain import code
from service.domain.incoming import Incoming
from service.domain.verification import Stored
from service.http.auth import Project, Whoever, reach
from service.http.paging import Limit, Listing, cut
from service.http.receiving import raw_body, receive
from service.http.serving import FILE_RESPONSES, send_file
from service.http.session import Reading, Shared, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["code"])

AfterCode = Annotated[str | None, Query(pattern=r"^code_[0-9a-f]{32}$", description="Id of the bundle that the page follows.")]
CodeId = Annotated[str, Path(pattern=r"^code_[0-9a-f]{32}$", description="Id of a bundle.")]
ModuleName = Annotated[
    str, Query(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$", description="What a single Python file is called when it is imported.")
]


class CodeList(Listing[code.Code]):
    """A page of bundles, newest first."""


@router.post(
    "/v1/code",
    status_code=201,
    responses={200: {"model": code.Code, "description": "The same bytes were there already."}},
    openapi_extra=raw_body("A zip or tar.gz of Python files, or one Python file."),
)
async def upload_code(
    request: Request,
    response: Response,
    context: Shared,
    project: Project,
    name: Annotated[Name | None, Query(description="What to call it.")] = None,
    module: ModuleName = DEFAULT_MODULE,
) -> code.Code:
    """Upload a bundle of Python files: the body is its bytes. It is read, never run, before it is kept. Off unless turned on."""
    code.check_enabled(context)

    def keep(incoming: Incoming) -> tuple[Row[Any], bool]:
        return code.keep(context, project, name, module, incoming)

    return code.shown(await receive(request, response, context, context.settings.max_code_bytes, keep))


@router.get("/v1/code")
def list_code(read: Reading, project: Project, limit: Limit = 20, after: AfterCode = None) -> CodeList:
    """List bundles, newest first."""
    page, rest = cut(BUNDLES.page(read.connection, project, after, limit + 1), limit, "id")
    return CodeList(data=[code.shown(row) for row in page], **rest)


@router.get("/v1/code/{code_id}")
def get_code(code_id: CodeId, read: Reading, project: Project) -> code.Code:
    """Describe a bundle: its files, what its modules define, and what in it may surprise."""
    return code.shown(code.get(read.connection, project, code_id))


@router.head("/v1/code/{code_id}/content", include_in_schema=False)
@router.get("/v1/code/{code_id}/content", response_class=Response, responses=FILE_RESPONSES)
def download_code(request: Request, code_id: CodeId, read: Reading, context: Shared, caller: Whoever) -> Response:
    """Download a bundle's bytes, or a range of them."""
    row = code.get(read.connection, reach(read, caller, code_id), code_id)
    return send_file(request, context.store, Stored(row.key, f"{row.id}.bundle", row.bytes, row.sha256))
