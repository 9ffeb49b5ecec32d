"""When a request is sent again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from pydantic import ValidationError

from meshyard.effects import Flow, Once, Reply, Send, Sleep, Stream
from meshyard.errors import APIConnectionError, APIStatusError, error_class
from meshyard.models import Problem

RETRIED = frozenset({408, 429})
LONGEST_PAUSE_SECONDS = 60.0


@dataclass(frozen=True)
class Policy:
    """How stubborn a client is.

    Attributes:
        max_retries: further tries after the first.
        first_pause_seconds: pause before the first retry; it doubles each time, up to 8 s, less up to a half of jitter.
    """

    max_retries: int = 2
    first_pause_seconds: float = 0.5
    random: random.Random = field(default_factory=random.Random)

    def pause(self, tried: int, asked: float | None) -> float:
        """Seconds to wait after the `tried`-th try failed. `asked`: what the service wants."""
        if asked is not None:
            return min(max(asked, 0.0), LONGEST_PAUSE_SECONDS)
        longest = min(self.first_pause_seconds * 2 ** (tried - 1), 8.0)
        return longest * (1 - self.random.random() / 2)


def persist(effect: Send, policy: Policy) -> Flow[Reply | Stream]:
    """Carry out a `Send`: try, and try again where that is safe and may help.

    Every request of ours may be repeated: what is not idempotent by nature carries an Idempotency-Key.
    """
    tried = 0
    while True:
        tried += 1
        try:
            answer: Reply | Stream = yield Once(effect.request, effect.stream)
        except APIConnectionError:
            if tried > policy.max_retries:
                raise
            yield Sleep(policy.pause(tried, None))
            continue
        if answer.status < 400 or isinstance(answer, Stream):
            return answer
        if effect.request.method == "DELETE" and answer.status == 404 and tried > 1:
            return Reply(204, answer.headers, b"")  # the first try did it, only its answer was lost
        if tried > policy.max_retries or not _worth_retrying(answer.status):
            raise status_error(answer)
        yield Sleep(policy.pause(tried, _retry_after(answer)))


def _worth_retrying(status: int) -> bool:
    return status in RETRIED or status >= 500


def _retry_after(reply: Reply) -> float | None:
    # The other legal form, a date, is not used by the service; the usual pause stands in for it.
    try:
        return float(reply.headers.get("retry-after", ""))
    except ValueError:
        return None


def status_error(reply: Reply) -> APIStatusError:
    """The exception for an answer of 400 or more."""
    return error_class(reply.status)(reply.status, _problem(reply), request_id=reply.headers.get("x-request-id"))


def _problem(reply: Reply) -> Problem:
    try:
        return Problem.model_validate_json(reply.content)
    except ValidationError:
        # A proxy's page, say. The start of it is better than nothing.
        text = reply.content[:200].decode(errors="replace").strip()
        return Problem(title=f"HTTP {reply.status}", status=reply.status, detail=text)
