"""The run loop in this process, with a program that a test is in charge of."""

from __future__ import annotations


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
