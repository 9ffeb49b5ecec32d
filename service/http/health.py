"""Is it alive, and can it work? Neither question needs a key."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from service.db.queries import clock
from service.domain.errors import Unavailable
from service.http.session import Reading, Shared, TransactionRoute

router = APIRouter(route_class=TransactionRoute, tags=["health"])


class Health(BaseModel):
    """All is well; anything else is a problem."""

    status: Literal["ok"] = "ok"


@router.get("/healthz")
async def read_liveness() -> Health:
    """Whether the process answers."""
    return Health()


@router.get("/readyz")
def read_readiness(read: Reading, context: Shared) -> Health:
    """Whether the database and the artifact store can be reached."""
    clock.now(read.connection)
    try:
        context.store.check()
    except OSError:
        raise Unavailable("The artifact store cannot be reached.") from None
    return Health()
