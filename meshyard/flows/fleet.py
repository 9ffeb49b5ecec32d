"""Workers, the catalog, and the service itself."""

from __future__ import annotations

from meshyard.effects import Flow, Once, Reply, Request, send
from meshyard.flows.requests import fetch, fetch_list, get, part
from meshyard.models import CatalogEntry, Document, Examined, Worker


def list_workers() -> Flow[list[Worker]]:
    """Every worker: what it owns, runs and last said."""
    return (yield from fetch_list(Worker, "/v1/workers"))


def drain(worker: str | Worker) -> Flow[Worker]:
    """Have a worker hand its jobs back and take no more."""
    name = worker.id if isinstance(worker, Worker) else worker
    return (yield from fetch(Worker, Request("POST", f"/v1/workers/{part(name)}/drain")))


def catalog_section(section: str) -> Flow[list[CatalogEntry]]:
    """Every legal `type` of a section (`models`, `optimizers`, `kernels`, …), with its arguments."""
    return (yield from fetch_list(CatalogEntry, f"/v1/catalog/{part(section)}"))


def job_schema() -> Flow[Document]:
    """JSON Schema of a job spec."""
    return (yield from send(get("/v1/schemas/job"))).json()


def examine() -> Flow[Examined]:
    """What the service says of itself to anybody who asks: its clock, its version, whether it can work."""
    alive = yield from send(get("/healthz"))
    schema = (yield from send(get("/openapi.json"))).json()
    # Once: a service that is not ready now is what is asked for, not a reason to ask again.
    answer: Reply = yield Once(get("/readyz"))
    version = schema.get("info", {}).get("version")
    return Examined(date=alive.headers.get("date"), version=version, ready=answer.status == 200)


def ready() -> Flow[bool]:
    """Whether the service reaches its database and its artifact store."""
    return (yield from send(get("/readyz"))).status == 200
