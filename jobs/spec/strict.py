"""The strictness every document from outside is read with."""

from __future__ import annotations

from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints


def without_nul(value: str) -> str:
    """The text, which must not contain NUL."""
    # PostgreSQL cannot hold NUL in text or JSON, and nothing a user writes needs it.
    if "\x00" in value:
        raise ValueError("must not contain the NUL character")
    return value


Text = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(without_nul)]
"""Any text a user may write."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(without_nul)]
"""A short, non-empty text: a name, a column, a label."""

Label = Annotated[str, StringConstraints(min_length=1, max_length=90), AfterValidator(without_nul)]
"""Key or value of a label: so short that `label:key=value` is a name too, which a worker can offer."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Json = Any
"""A JSON value that has already passed the body parser (finite numbers, no NUL, bounded depth)."""


class Document(BaseModel):
    """Base of every model read from outside: no unknown field, no silent conversion, no NaN; frozen once read."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True, validate_default=False)


def as_list(value: object) -> list[Any] | None:
    """The value as a JSON array; None where it is something else."""
    return cast("list[Any]", value) if isinstance(value, list) else None


def as_object(value: object) -> dict[str, Any] | None:
    """The value as a JSON object; None where it is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
