"""What a command comes to, before anyone has decided how to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Answer:
    """A command's result, showable in three ways.

    Attributes:
        document: for `-o json`.
        ids: for `-o id`, one a line.
        show: makes what is shown to a person; None shows nothing.
        hint: a next step, for a person on a terminal.
        exit_code: what the process returns.
    """

    document: Any
    ids: list[str] = field(default_factory=list[str])
    show: Callable[[], RenderableType | str] | None = None
    hint: str | None = None
    exit_code: int = 0


class ExitCode:
    """What the numbers mean; as `gh` has them, with a few more."""

    ERROR = 1
    USAGE = 2
    CANCELLED = 3
    AUTHENTICATION = 4
    JOB_FAILED = 5
    CONFLICT = 6
    UNREACHABLE = 7
    INTERRUPTED = 130
