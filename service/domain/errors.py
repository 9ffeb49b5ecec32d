"""What can go wrong in the domain, whatever carries the request. `http/problems.py` gives each its HTTP status."""

from __future__ import annotations

from jobs.errors import Issue, MeshyardError


class DomainError(MeshyardError):
    """Root of what the domain refuses. `code` is stable; `issues` point into the request's body."""

    code = "domain_error"

    def __init__(self, detail: str, issues: list[Issue] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.issues = issues or []


class NotFound(DomainError):
    """An id in the path is unknown, or not the caller's."""

    code = "not_found"


class Invalid(DomainError):
    """The request's content is wrong: body, query or header."""

    code = "invalid_request"


class DatasetInvalid(Invalid):
    """An uploaded file is not what its format says, or holds nothing."""

    code = "dataset_invalid"


class CodeInvalid(Invalid):
    """An upload is no bundle of sound Python files."""

    code = "code_invalid"


class CodeDisabled(DomainError):
    """The operator has not turned user code on."""

    code = "code_disabled"


class Conflict(DomainError):
    """The request is sound but what it names is not in a state for it."""

    code = "conflict"


class IllegalTransition(Conflict):
    """A job is not in a status from which it can do what was asked."""

    code = "illegal_transition"

    def __init__(self, detail: str, current_status: str) -> None:
        super().__init__(detail)
        self.current_status = current_status


class NotFinished(IllegalTransition):
    """What was asked for exists only once the job has ended."""

    code = "not_finished"


class Corrupt(Conflict):
    """Stored bytes are gone or differ from the SHA-256 that was noted when they came."""

    code = "content_corrupt"


class CheckpointCorrupt(Corrupt):
    """A checkpoint's bytes are gone or differ from its manifest."""

    code = "checkpoint_corrupt"


class Superseded(Conflict):
    """A worker's write came with a stale fence."""

    code = "attempt_superseded"


class NoWorker(Conflict):
    """No worker that could look at the spec is free."""

    code = "no_worker"


class PreflightFailed(Conflict):
    """Workers tried to look at the spec and could not; `code` is that of the last try's end."""

    def __init__(self, detail: str, code: str) -> None:
        super().__init__(detail)
        self.code = code


class TooLarge(DomainError):
    """A body or an upload is over its limit."""

    code = "too_large"


class StorageFull(DomainError):
    """There is too little room left where artifacts lie."""

    code = "insufficient_storage"


class UnsupportedMedia(DomainError):
    """A body of a type or an encoding that is not read here."""

    code = "unsupported_media_type"


class Unauthorized(DomainError):
    """No key, or a wrong one."""

    code = "unauthorized"


class Forbidden(DomainError):
    """The caller is known but may not do this."""

    code = "forbidden"


class TooMany(DomainError):
    """More than is allowed at once, or in this time."""

    code = "rate_limited"

    def __init__(self, detail: str, retry_after_seconds: float) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class TooManyStreams(TooMany):
    """As many readers follow jobs as the operator allows."""

    code = "too_many_streams"


class QuotaExceeded(TooMany):
    """The project's quota leaves no room for it."""

    code = "quota_exceeded"


class TooSlow(DomainError):
    """A body that does not come."""

    code = "request_timeout"


class Unavailable(DomainError):
    """The database or the artifact store cannot be reached just now."""

    code = "unavailable"
