"""Meshyard: submit training and sampling jobs, follow them, bring their results home.

    import meshyard

    with meshyard.Client() as client:
        job = client.jobs.submit("job.json")
        client.jobs.wait(job)
        model = meshyard.load(job, step="best", client=client)

`AsyncClient` offers the same to asyncio. Names are loaded when first used, so that `meshyard --help` waits for none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.errors import MeshyardError
    from meshyard.client import AsyncClient, Client
    from meshyard.errors import (
        APIConnectionError,
        APIError,
        APIResponseError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        ConfigurationInvalid,
        ConflictError,
        DownloadCorrupt,
        JobFailed,
        MissingExtra,
        NoArtifact,
        NoCheckpoint,
        NotFoundError,
        PermissionDeniedError,
        RateLimitError,
        ServerError,
        UnprocessableEntityError,
        WaitTimedOut,
    )
    from meshyard.models import (
        Attempt,
        AuditEntry,
        CatalogEntry,
        Checkpoint,
        Code,
        Dataset,
        Event,
        Fault,
        File,
        Job,
        Key,
        Metrics,
        Parent,
        Place,
        Problem,
        ProblemItem,
        Progress,
        Project,
        Result,
        Series,
        StatusReason,
        Usage,
        Validation,
        Webhook,
        WebhookDelivery,
        Worker,
    )
    from meshyard.retries import Policy
    from meshyard.trained import load

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AsyncClient",
    "Attempt",
    "AuditEntry",
    "AuthenticationError",
    "BadRequestError",
    "CatalogEntry",
    "Checkpoint",
    "Client",
    "Code",
    "ConfigurationInvalid",
    "ConflictError",
    "Dataset",
    "DownloadCorrupt",
    "Event",
    "Fault",
    "File",
    "Job",
    "JobFailed",
    "Key",
    "MeshyardError",
    "Metrics",
    "MissingExtra",
    "NoArtifact",
    "NoCheckpoint",
    "NotFoundError",
    "Parent",
    "PermissionDeniedError",
    "Place",
    "Policy",
    "Problem",
    "ProblemItem",
    "Progress",
    "Project",
    "RateLimitError",
    "Result",
    "Series",
    "ServerError",
    "StatusReason",
    "UnprocessableEntityError",
    "Usage",
    "Validation",
    "WaitTimedOut",
    "Webhook",
    "WebhookDelivery",
    "Worker",
    "load",
]

_HOMES = ("meshyard.errors", "meshyard.models", "meshyard.retries", "meshyard.client", "meshyard.trained")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in _HOMES:
            found = getattr(import_module(home), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module 'meshyard' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
