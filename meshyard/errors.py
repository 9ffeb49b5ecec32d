"""What the client raises: a branch of the one tree of `jobs.errors`.

MeshyardError
├── APIError                        a request got no good answer
│   ├── APIConnectionError          no answer at all: refused, reset, cut off
│   │   └── APITimeoutError         no answer in time
│   ├── APIResponseError            an answer that is not what the API promises
│   └── APIStatusError              a 4xx or 5xx, told apart by status
│       ├── BadRequestError             400 and every other 4xx without a class of its own
│       ├── AuthenticationError         401
│       ├── PermissionDeniedError       403
│       ├── NotFoundError               404
│       ├── ConflictError               409
│       ├── UnprocessableEntityError    422; `.errors` point into what was sent
│       ├── RateLimitError              429
│       └── ServerError                 5xx
├── JobFailed                       a job that was waited for did not succeed
├── WaitTimedOut                    it had not ended when the time was up
├── NoCheckpoint                    the job has none such
├── NoArtifact                      the job has none such
├── DownloadCorrupt                 bytes arrived twice with the wrong SHA-256
├── MissingExtra                    a part of Meshyard is not installed here
└── ConfigurationInvalid            the client cannot be set up from what it was given
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from jobs.errors import MeshyardError

if TYPE_CHECKING:
    from meshyard.models import Job, Problem, ProblemItem


class APIError(MeshyardError):
    """A request got no good answer.

    Attributes:
        request_id: the service's name for the request, None if it never answered.
        code: the problem's stable word, None without an answer.
        problem: the RFC 9457 problem the service sent, None if it sent none.
    """

    code: str | None = None
    problem: Problem | None = None

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id


class APIConnectionError(APIError):
    """The service could not be reached, or the connection broke before the answer was whole."""


class APITimeoutError(APIConnectionError):
    """The service did not answer in time."""


class APIResponseError(APIError):
    """The answer is not what the API promises: something else may be listening at that address."""


class APIStatusError(APIError):
    """The service refused the request, or failed."""

    def __init__(self, status_code: int, problem: Problem, *, request_id: str | None = None) -> None:
        super().__init__(problem.detail or problem.title or f"HTTP {status_code}", request_id=request_id or problem.request_id)
        self.status_code = status_code
        self.problem = problem
        self.code = problem.code

    @property
    def errors(self) -> list[ProblemItem]:
        """Every fault the service found in what was sent, each with its JSON Pointer."""
        return self.problem.errors if self.problem else []


class BadRequestError(APIStatusError):
    """400, or a 4xx that has no class of its own."""


class AuthenticationError(APIStatusError):
    """401: no key, or a wrong one."""


class PermissionDeniedError(APIStatusError):
    """403: the key may not do this."""


class NotFoundError(APIStatusError):
    """404: an id in the path is unknown."""


class ConflictError(APIStatusError):
    """409: what was named is not in a state for this; `current_status` says which it is in, for a job."""

    @property
    def current_status(self) -> str | None:
        """The job's status that stands against the request, where the service named it."""
        extra = self.problem.model_extra if self.problem else None
        value = (extra or {}).get("current_status")
        return value if isinstance(value, str) else None


class UnprocessableEntityError(APIStatusError):
    """422: what was sent is wrong; `errors` say where and why."""


class RateLimitError(APIStatusError):
    """429: too many requests."""


class ServerError(APIStatusError):
    """5xx: the service failed."""


CLASS_OF_STATUS: dict[int, type[APIStatusError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    422: UnprocessableEntityError,
    429: RateLimitError,
}


def error_class(status: int) -> type[APIStatusError]:
    """The class that stands for a status of 400 or more."""
    return CLASS_OF_STATUS.get(status) or (ServerError if status >= 500 else BadRequestError)


class JobFailed(MeshyardError):
    """A job ended as `failed` or `cancelled`.

    Attributes:
        job: the job as it ended.
        logs: its last log lines, as far as they could be read.
    """

    lines_shown: ClassVar[int] = 20

    def __init__(self, job: Job, logs: str = "") -> None:
        self.job = job
        self.logs = logs
        super().__init__("\n".join(part for part in (f"{job.id} {job.status}: {job.reason}", logs.rstrip()) if part))


class WaitTimedOut(MeshyardError, TimeoutError):
    """The job had not ended when the time was up. It goes on."""

    def __init__(self, job: Job, seconds: float) -> None:
        super().__init__(f"{job.id} is still {job.status} after {seconds:g} s")
        self.job = job


class DownloadCorrupt(MeshyardError):
    """A file arrived with a SHA-256 other than its manifest's, twice. Nothing was put in place."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: the bytes do not match the SHA-256 in the manifest")
        self.path = path


class NoCheckpoint(MeshyardError):
    """The job has no such checkpoint."""


class NoArtifact(MeshyardError):
    """The job has no such artifact."""


class MissingExtra(MeshyardError):
    """A part of Meshyard is not installed here; the text says how to install it.

    Args:
        missing: the module that was looked for.
        extra: what brings it.
    """

    def __init__(self, missing: str, extra: str) -> None:
        program = f"{Path(sys.executable).name} -m pip install"
        super().__init__(f"{missing} is not installed here: {program} 'meshyard[{extra}]'")


class ConfigurationInvalid(MeshyardError):
    """The client cannot be set up from what it was given."""
