"""The one tree of errors, shared by the service, the worker and the client.

    MeshyardError
    ├── SpecInvalid            the job's description is wrong; carries every fault with its JSON Pointer
    ├── JobError               a job ended badly; carries the code that the job's `error` shows
    │   ├── UserFault          the user's to mend: nan_loss, user_code_error, dataset_invalid, deadline_exceeded, …
    │   ├── InfraFault         nobody's fault in the job: child_killed, worker_lost, preempted, checkpoint_corrupt, …
    │   └── ServiceFault       ours
    └── AttemptSuperseded      a write came with a stale fence; the writer must stop

How a job ended is a value (`jobs.protocol.Finish`), not an exception; these are raised only inside the process that found the
fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

Fault = Literal["user", "infra", "service"]

FAULT_OF_CODE: dict[str, Fault] = {
    "nan_loss": "user",
    "would_oom": "user",
    "draws_too_large": "user",
    "oom": "user",
    "user_code_error": "user",
    "dataset_invalid": "user",
    "init_from_mismatch": "user",
    "program_invalid": "user",
    "compile_failed": "user",
    "deadline_exceeded": "user",
    "no_valid_start": "user",
    "no_latent_site": "user",
    "discrete_latent": "user",
    "no_discrete_latent": "user",
    "duplicate_site": "user",
    "unknown_site": "user",
    "all_divergent": "user",
    "improper_posterior": "user",
    "checkpoint_corrupt": "infra",
    "checkpoint_failed": "infra",
    "child_killed": "infra",
    "worker_lost": "infra",
    "preempted": "infra",
    "stalled": "infra",
    "storage_failed": "infra",
    "internal": "service",
}
"""Whose fault each code is: it decides which retry budget an attempt spends."""

BAD_MODEL: frozenset[str] = frozenset(
    {
        *("no_valid_start", "no_latent_site", "discrete_latent", "no_discrete_latent", "duplicate_site", "unknown_site"),
        *("all_divergent", "improper_posterior"),
    }
)
"""What is wrong with a model that is to be sampled."""

NEVER_RETRIED: frozenset[str] = BAD_MODEL | {
    *("oom", "would_oom", "draws_too_large", "deadline_exceeded", "dataset_invalid", "init_from_mismatch", "program_invalid"),
}
"""Codes that would come out the same if the job were run again as it stands."""


@dataclass(frozen=True)
class Issue:
    """One thing wrong with a document.

    Attributes:
        pointer: JSON Pointer (RFC 6901) to the value that is wrong; "" is the whole document.
        code: stable word for the kind of fault, e.g. "unknown_field", "out_of_range", "not_divisible".
        detail: a sentence that says what is wrong and what to do about it. Never repeats the input.
    """

    pointer: str
    code: str
    detail: str


class MeshyardError(Exception):
    """Root of every error this project raises on purpose."""


class SpecInvalid(MeshyardError):
    """A job description that cannot be accepted, with all that is wrong with it."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__("; ".join(f"{issue.pointer or '/'}: {issue.detail}" for issue in issues))
        self.issues = issues


class JobError(MeshyardError):
    """A job that cannot go on.

    Args:
        code: a key of `FAULT_OF_CODE`.
        message: what happened and what to do, for the job's owner.
        param: JSON Pointer into the spec where the cause lies, if one field is to blame.
        detail: what else is known of the cause: of user code `code`, `file`, `line` and `hint`.
    """

    fault: ClassVar[Fault] = "service"

    def __init__(self, code: str, message: str, param: str | None = None, detail: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.detail = detail


class UserFault(JobError):
    """The job itself is at fault."""

    fault: ClassVar[Fault] = "user"


class InfraFault(JobError):
    """Something around the job broke; trying again may help."""

    fault: ClassVar[Fault] = "infra"


class ServiceFault(JobError):
    """A defect of ours."""

    fault: ClassVar[Fault] = "service"


class AttemptSuperseded(MeshyardError):
    """The fence is stale: another attempt holds the job, or it has ended."""
