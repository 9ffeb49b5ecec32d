"""How long somebody who follows a job puts up with a service that is away."""

from __future__ import annotations

from dataclasses import dataclass

from meshyard.effects import Flow, Sleep
from meshyard.errors import APIError

MOST_FAILURES = 10
LONGEST_PAUSE_SECONDS = 8.0


@dataclass
class Patience:
    """Bears failures in a row, with growing pauses: about a minute of them, a restart of the service with ease.

    Attributes:
        met: whether the service has answered at all. One that never did is reported at once.
        failures: since it last gave anything.
    """

    met: bool = False
    failures: int = 0

    def renew(self) -> None:
        """It has given something."""
        self.met, self.failures = True, 0

    def bear(self, error: APIError) -> None:
        """Take a failure. Raises it when it is one too many."""
        if not self.met or self.failures >= MOST_FAILURES:
            raise error

    def pause(self) -> Flow[None]:
        """Wait before the next try, longer each time."""
        yield Sleep(min(0.2 * 2**self.failures, LONGEST_PAUSE_SECONDS))
        self.failures += 1
