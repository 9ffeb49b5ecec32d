"""Files from workers that do not share the artifact folder."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.concurrency import run_in_threadpool

from jobs.protocol import Uploaded
from service.domain import uploads
from service.http.access import GuardedRoute
from service.http.auth import Whoever
from service.http.openapi import CONFLICT
from service.http.paging import LARGEST, AttemptId
from service.http.pump import pump
from service.http.session import Shared

router = APIRouter(route_class=GuardedRoute, tags=["workers"])

RAW_BODY: dict[str, Any] = {
    "requestBody": {
        "description": "The file's bytes, or those that Content-Range names.",
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
FenceHeader = Annotated[int, Header(alias="X-Meshyard-Fence", ge=1, lt=LARGEST, description="The attempt's fence.")]
DigestHeader = Annotated[str, Header(alias="X-Content-SHA256", pattern=r"^[0-9a-f]{64}$", description="Of the whole file.")]
RangeHeader = Annotated[str | None, Header(description="`bytes first-last/total`, to go on where an upload stands.")]


@router.put("/v1/attempts/{attempt_id}/files/{path:path}", responses={409: CONFLICT}, openapi_extra=RAW_BODY)
async def put_file(
    request: Request,
    attempt_id: AttemptId,
    path: str,
    context: Shared,
    caller: Whoever,
    fence: FenceHeader,
    sha256: DigestHeader,
    content_range: RangeHeader = None,
) -> Uploaded:
    """Send a file, or a part of one. It is kept once it is whole and its SHA-256 is right; until then it can be gone on with."""
    sending = uploads.Sending(caller.bound_key, attempt_id, fence, path, sha256, uploads.part_of(content_range))
    transfer = await run_in_threadpool(uploads.begin, context, sending)
    if isinstance(transfer, Uploaded):
        return transfer
    await pump(request, transfer.take)
    return await run_in_threadpool(transfer.finish)


@router.head("/v1/attempts/{attempt_id}/files/{path:path}", response_class=Response)
def head_file(attempt_id: AttemptId, path: str, context: Shared, caller: Whoever) -> Response:
    """Ask how far an upload has come: `Upload-Offset` bytes, `Upload-Complete: ?1` once it is whole."""
    standing = uploads.standing(context, caller.bound_key, attempt_id, path)
    complete = "?1" if standing.complete else "?0"
    return Response(headers={"Upload-Offset": str(standing.bytes), "Upload-Complete": complete, "Cache-Control": "no-store"})
