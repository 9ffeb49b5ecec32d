"""What there is only so much of: room for bytes, and readers that stay."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from service.context import Context
from service.domain.errors import StorageFull, TooManyStreams

SECONDS_TO_COME_BACK = 30.0


def is_low(context: Context) -> bool:
    """Whether there is less room than the operator wants to stay free."""
    free = context.store.free_bytes()
    return free is not None and free < context.settings.min_free_bytes


def require_room(context: Context) -> None:
    """See that bytes can be taken in. What is being written already keeps the room that is left.

    Raises:
        StorageFull: there is less than the operator wants to stay free.
    """
    if is_low(context):
        raise StorageFull("There is too little room left where artifacts lie. Delete jobs or datasets, or try again later.")


def require_seat(context: Context) -> None:
    """See that one more reader may follow a job.

    Raises:
        TooManyStreams: there are as many as the operator allows.
    """
    if context.telemetry.readers >= context.settings.max_streams:
        raise TooManyStreams(
            "As many readers follow jobs as the operator allows; close one, or ask for pages.", SECONDS_TO_COME_BACK
        )


@contextmanager
def seated(context: Context) -> Generator[None]:
    """Count a reader for as long as it stays. On the event loop only."""
    context.telemetry.reader_came()
    try:
        yield
    finally:
        context.telemetry.reader_went()
