"""What each operation asks of a key. The only table of scopes; an operation that is not in it is for operators alone."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from service.db.transaction import Actor
from service.domain.callers import Caller
from service.domain.callers import Scope as Right
from service.http.problems import request_id_of


@dataclass(frozen=True)
class Need:
    """What a caller must have: one of these scopes, and with `everywhere` in all projects. None at all: everybody may.

    `audited`: what a person changes by it is noted.
    """

    rights: frozenset[Right] | None
    everywhere: bool = False
    audited: bool = False


OPEN = Need(None)
READ = Need(frozenset({Right.JOBS_READ}))
FIGURES = Need(frozenset({Right.JOBS_READ}), everywhere=True)
BYTES = Need(frozenset({Right.JOBS_READ, Right.WORKER}))
"""What workers read as users do: their data, their code, the checkpoint they go on from."""
WRITE = Need(frozenset({Right.JOBS_WRITE}), audited=True)
ASK = Need(frozenset({Right.JOBS_WRITE}))
CODE = Need(frozenset({Right.CODE_WRITE}), audited=True)
WORK = Need(frozenset({Right.WORKER}))
ADMIN = Need(frozenset({Right.ADMIN}), audited=True)
OPERATE = Need(frozenset({Right.ADMIN}), everywhere=True, audited=True)
UNKNOWN = OPERATE

NEEDS: dict[str, Need] = {
    **dict.fromkeys(("read_liveness", "read_readiness"), OPEN),
    **dict.fromkeys(
        (
            "list_jobs",
            "get_job",
            "list_events",
            "stream_job",
            "get_metrics",
            "get_logs",
            "list_attempts",
            "get_place",
            "get_program",
        ),
        READ,
    ),
    **dict.fromkeys(("list_checkpoints", "get_checkpoint", "list_files", "download_archive"), READ),
    **dict.fromkeys(("get_result", "list_artifacts"), READ),
    **dict.fromkeys(("list_datasets", "get_dataset", "list_code", "get_code", "list_workers"), READ),
    **dict.fromkeys(("get_catalog", "list_entries", "get_job_schema"), READ),
    **dict.fromkeys(("list_projects", "get_project", "list_usage"), READ),
    **dict.fromkeys(("download_dataset", "download_code", "download_file", "download_artifact", "get_worker"), BYTES),
    **dict.fromkeys(("submit_job", "patch_job", "delete_job", "retry_job", "clone_job", "extend_job"), WRITE),
    **dict.fromkeys(("cancel_job", "pause_job", "resume_job", "checkpoint_job", "profile_job"), WRITE),
    **dict.fromkeys(("patch_checkpoint", "upload_dataset"), WRITE),
    "validate_job": ASK,
    "upload_code": CODE,
    **dict.fromkeys(("register_worker", "claim_attempt", "drain_worker"), WORK),
    **dict.fromkeys(("renew_lease", "report_progress", "finish_attempt", "put_file", "head_file"), WORK),
    **dict.fromkeys(("renew_preflight", "finish_preflight"), WORK),
    **dict.fromkeys(("create_key", "list_keys", "get_key", "rotate_key", "revoke_key", "list_audit"), ADMIN),
    **dict.fromkeys(("add_webhook", "list_webhooks", "get_webhook", "update_webhook", "delete_webhook"), ADMIN),
    **dict.fromkeys(("rotate_webhook_secret", "send_webhook_test"), ADMIN),
    **dict.fromkeys(("list_webhook_deliveries", "redeliver_webhook_message"), ADMIN),
    **dict.fromkeys(("create_project", "patch_project", "delete_project"), OPERATE),
    "get_figures": FIGURES,
}
"""By the name of the operation."""


def need_of(operation: str) -> Need:
    """What an operation asks for."""
    return NEEDS.get(operation, UNKNOWN)


def caller_of(scope: Scope) -> Caller:
    """Who sends this request, as the gate has found out."""
    caller: Caller = scope["state"]["caller"]
    return caller


class GuardedRoute(APIRoute):
    """A route that lets pass who may. It asks before the body is read: who may not ask is not listened to."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one request that is for this path."""
        need = need_of(self.name)
        if need.rights is not None and scope["method"] in self.methods:
            caller_of(scope).require(need.rights, everywhere=need.everywhere)
        await super().handle(scope, receive, send)


def actor_of(request: Request) -> Actor | None:
    """The person who changes something by this request; None where a worker does."""
    operation: str = request.scope["route"].name
    if not need_of(operation).audited:
        return None
    caller = caller_of(request.scope)
    address = request.client.host if request.client is not None else None
    return Actor(caller.project, caller.key_id, operation, request.url.path, request_id_of(request), address)
