"""Server-sent events, read from chunks of bytes.

Source: WHATWG HTML Living Standard, section 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """One event of a stream. `id` is None where it had none."""

    event: str
    data: str
    id: str | None


class Parser:
    """Takes chunks as they come, gives the events that they complete."""

    def __init__(self) -> None:
        self._pending = b""
        self._event = ""
        self._id: str | None = None
        self._data: list[str] = []
        self.lines = 0
        """Whole lines seen so far, pings and all: whether whoever sends speaks this language."""

    def feed(self, chunk: bytes) -> list[Frame]:
        """The events that end in this chunk. Comments (pings) give none."""
        # A carriage return at the very end may be the first half of a line end: it waits for the next chunk.
        text = self._pending + chunk
        held = text[-1:] if text.endswith(b"\r") else b""
        lines = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._pending = lines.pop() + held
        self.lines += len(lines)
        frames = (self._line(line.decode(errors="replace")) for line in lines)
        return [frame for frame in frames if frame is not None]

    def _line(self, line: str) -> Frame | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            self._id = value
        return None

    def _dispatch(self) -> Frame | None:
        frame = Frame(self._event or "message", "\n".join(self._data), self._id) if self._data else None
        self._event, self._id, self._data = "", None, []
        return frame
